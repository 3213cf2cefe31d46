//! Answers that are lost, connections that break, databases that refuse.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use landfast::catalog::{Catalog, Outcome};
use landfast::error::ErrorKind;
use libtest_mimic::Trial;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::{Backend, World, committed, open, set_property};
use crate::support::tables::{create, orders};
use crate::support::{Component, Stop, TestResult, needs, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        lost_answer_of_a_commit_that_landed_is_unknown,
        connection_lost_before_the_commit_arrives_is_unknown,
        silent_database_is_unknown_and_its_connection_is_not_used_again,
        terminated_session_is_unknown_and_changes_nothing,
        file_that_was_moved_is_missed_by_new_connections,
        missing_permission_is_rejected,
        database_that_is_not_there_is_named_without_its_password,
        sessions_are_encrypted_and_verified_when_asked,
    ]
}

/// What becomes of the statement that moves a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Loss {
    Nothing,
    /// It arrives; its answer is lost with the connection.
    Answer,
    /// The connection breaks before it arrives.
    Statement,
    /// It arrives; nothing more is ever heard.
    Silence,
}

/// Stands between landfast and PostgreSQL.
struct Proxy {
    uri: String,
    loss: Arc<AtomicU8>,
}

impl Proxy {
    async fn before(uri: &str) -> TestResult<Self> {
        let server = uri.split('@').nth(1).and_then(|rest| rest.split('/').next());
        let server = server.expect("the URI has a host").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        // What is encrypted cannot be recognised.
        let uri = uri.replace(&server, &listener.local_addr()?.to_string()) + "?sslmode=disable";
        let loss = Arc::new(AtomicU8::new(Loss::Nothing as u8));
        let shared = loss.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, loss) = (server.clone(), shared.clone());
                // A connection that breaks is what the test is about.
                tokio::spawn(async move { relay(client, &server, &loss).await.ok() });
            }
        });
        Ok(Self { uri, loss })
    }

    fn lose(&self, loss: Loss) {
        self.loss.store(loss as u8, Ordering::SeqCst);
    }
}

async fn relay(client: TcpStream, server: &str, loss: &AtomicU8) -> std::io::Result<()> {
    const MOVES_A_ROW: &[u8] = b".metadata.json";
    let is = |wanted: Loss| loss.load(Ordering::SeqCst) == wanted as u8;
    let hit = AtomicBool::new(false);
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = TcpStream::connect(server).await?.into_split();
    let requests = async {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = from_client.read(&mut buffer).await?;
            let moves = buffer[..read]
                .windows(MOVES_A_ROW.len())
                .any(|part| part == MOVES_A_ROW);
            if read == 0 || (moves && is(Loss::Statement)) {
                return std::io::Result::Ok(());
            }
            hit.fetch_or(moves && !is(Loss::Nothing), Ordering::SeqCst);
            to_server.write_all(&buffer[..read]).await?;
        }
    };
    let answers = async {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = from_server.read(&mut buffer).await?;
            let lost = hit.load(Ordering::SeqCst);
            if read == 0 || (lost && is(Loss::Answer)) {
                return std::io::Result::Ok(());
            }
            if !lost {
                to_client.write_all(&buffer[..read]).await?;
            }
        }
    };
    tokio::select! {
        ended = requests => ended,
        ended = answers => ended,
    }
}

/// A table behind a proxy; the connections are made.
async fn behind_proxy(
    world: &World,
) -> TestResult<(Proxy, landfast::catalog::SqlCatalog, iceberg::table::Table)> {
    let proxy = Proxy::before(&world.uri).await?;
    let catalog = open(&proxy.uri, &world.warehouse()).await?;
    let base = create(&catalog, &orders()).await?;
    Ok((proxy, catalog, base))
}

async fn lost_answer_of_a_commit_that_landed_is_unknown() -> TestResult {
    let world = World::new(Backend::Postgres).await?;
    let (proxy, catalog, base) = behind_proxy(&world).await?;
    proxy.lose(Loss::Answer);
    let outcome = catalog.commit_table(&base, set_property("a", "1")).await;
    assert!(matches!(outcome, Outcome::OutcomeUnknown(_)), "{outcome:?}");
    proxy.lose(Loss::Nothing);
    let now = catalog.load_table(&orders()).await?;
    assert_eq!(now.metadata().properties()["a"], "1");
    // The same fence again: the first attempt is seen, not doubled.
    let again = catalog.commit_table(&base, set_property("a", "2")).await;
    assert!(matches!(again, Outcome::Conflict(_)), "{again:?}");
    Ok(())
}

async fn connection_lost_before_the_commit_arrives_is_unknown() -> TestResult {
    let world = World::new(Backend::Postgres).await?;
    let (proxy, catalog, base) = behind_proxy(&world).await?;
    proxy.lose(Loss::Statement);
    let outcome = catalog.commit_table(&base, set_property("a", "1")).await;
    assert!(matches!(outcome, Outcome::OutcomeUnknown(_)), "{outcome:?}");
    proxy.lose(Loss::Nothing);
    let now = catalog.load_table(&orders()).await?;
    assert_eq!(now.metadata_location(), base.metadata_location());
    committed(catalog.commit_table(&now, set_property("a", "2")).await)?;
    Ok(())
}

async fn silent_database_is_unknown_and_its_connection_is_not_used_again() -> TestResult {
    let world = World::new(Backend::Postgres).await?;
    let (proxy, catalog, base) = behind_proxy(&world).await?;
    proxy.lose(Loss::Silence);
    let start = Instant::now();
    let outcome = catalog.commit_table(&base, set_property("a", "1")).await;
    let Outcome::OutcomeUnknown(error) = outcome else {
        return Err(format!("{outcome:?}").into());
    };
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert!(start.elapsed() < Duration::from_secs(13), "{:?}", start.elapsed());
    proxy.lose(Loss::Nothing);
    let now = catalog.load_table(&orders()).await?;
    assert_eq!(now.metadata().properties()["a"], "1", "it landed, unheard");
    committed(catalog.commit_table(&now, set_property("a", "2")).await)?;
    Ok(())
}

async fn terminated_session_is_unknown_and_changes_nothing() -> TestResult {
    let world = World::new(Backend::Postgres).await?;
    let catalog = world.catalog().await?;
    let base = create(&catalog, &orders()).await?;
    let (mut holder, mut killer) = (world.side().await?, world.side().await?);
    holder
        .execute("BEGIN; SELECT 1 FROM iceberg_tables FOR UPDATE")
        .await?;
    let terminate = wait_for(
        "the commit to wait for the row",
        Duration::from_secs(60),
        async || {
            let waiting = "SELECT CAST(pg_terminate_backend(pid) AS TEXT) FROM pg_stat_activity \
                       WHERE datname = current_database() AND application_name = 'landfast' \
                       AND wait_event_type = 'Lock'";
            killer
                .rows(waiting)
                .await
                .ok()
                .filter(|killed| !killed.is_empty())
        },
    );
    let (outcome, terminated) = tokio::join!(catalog.commit_table(&base, set_property("a", "1")), terminate);
    terminated?;
    assert!(matches!(outcome, Outcome::OutcomeUnknown(_)), "{outcome:?}");
    holder.execute("ROLLBACK").await?;
    let now = catalog.load_table(&orders()).await?;
    assert_eq!(now.metadata_location(), base.metadata_location());
    committed(catalog.commit_table(&now, set_property("a", "2")).await)?;
    Ok(())
}

async fn file_that_was_moved_is_missed_by_new_connections() -> TestResult {
    let world = World::new(Backend::Sqlite).await?;
    let catalog = world.catalog().await?;
    create(&catalog, &orders()).await?;
    let file = world.folder.path().join("catalog.db");
    let moved = world.folder.path().join("moved.db");
    std::fs::rename(&file, &moved)?;
    // More at a time than there are connections, until another one is made.
    let namespace = orders().namespace().clone();
    let missed = wait_for("a new connection", Duration::from_secs(20), async || {
        let lists = (0..8).map(|_| catalog.list_tables(&namespace));
        let lists = futures::future::join_all(lists).await;
        let missed = lists.iter().filter_map(|list| list.as_ref().err());
        let missed: Vec<_> = missed.map(|error| (error.kind(), error.report())).collect();
        (!missed.is_empty()).then_some(missed)
    })
    .await?;
    for (kind, report) in missed {
        assert_eq!(kind, ErrorKind::Unavailable, "{report}");
        assert!(report.contains("unable to open database file"), "{report}");
    }
    assert!(!file.exists(), "an empty file took its place");
    std::fs::rename(&moved, &file)?;
    let lists = (0..8).map(|_| catalog.list_tables(&namespace));
    for list in futures::future::join_all(lists).await {
        assert_eq!(list?, [orders()]);
    }
    Ok(())
}

async fn missing_permission_is_rejected() -> TestResult {
    let world = World::new(Backend::Postgres).await?;
    create(&world.catalog().await?, &orders()).await?;
    let mut side = world.side().await?;
    let role = format!("r{}", uuid::Uuid::new_v4().simple());
    // The role's own setting must not make commits less than durable either: the catalog would not open.
    side.execute(&format!(
        "CREATE ROLE {role} LOGIN; ALTER ROLE {role} SET synchronous_commit = off; \
         GRANT SELECT ON iceberg_tables, iceberg_namespace_properties TO {role}"
    ))
    .await?;
    let reader = open(
        &world.uri.replace("postgres@", &format!("{role}@")),
        &world.warehouse(),
    )
    .await?;
    let base = reader.load_table(&orders()).await?;
    let outcome = reader.commit_table(&base, set_property("a", "1")).await;
    let Outcome::Rejected(error) = outcome else {
        return Err(format!("{outcome:?}").into());
    };
    assert!(error.report().contains("permission denied"), "{}", error.report());
    for error in [
        reader.create_namespace(orders().namespace()).await.err(),
        reader.drop_table(&orders()).await.err(),
    ] {
        assert_eq!(error.expect("it is not allowed").kind(), ErrorKind::Rejected);
    }
    Ok(())
}

async fn database_that_is_not_there_is_named_without_its_password() -> TestResult {
    let folder = tempfile::tempdir()?;
    let warehouse = format!("file://{}", folder.path().display());
    let start = Instant::now();
    let error = open("postgresql://u:s3cret@127.0.0.1:1/db?password=s3cret", &warehouse).await;
    let Err(Stop::Failed(report)) = error.map(drop) else {
        return Err("a catalog was opened without a database".into());
    };
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert!(
        report.contains("postgresql://u:***@127.0.0.1:1/db?password=***"),
        "{report}"
    );
    assert!(!report.contains("s3cret"), "{report}");

    let error = open("sqlite:///none/catalog.db", &warehouse).await;
    let Err(Stop::Failed(report)) = error.map(drop) else {
        return Err("a catalog was opened without a folder".into());
    };
    assert!(report.contains("sqlite:///none/catalog.db"), "{report}");
    Ok(())
}

async fn sessions_are_encrypted_and_verified_when_asked() -> TestResult {
    needs(Component::Postgres)?;
    let world = World::new(Backend::Postgres).await?;
    let mut side = world.side().await?;
    let shown = side
        .rows("SELECT current_setting('ssl'), current_setting('data_directory')")
        .await?;
    let shown: Vec<String> = shown.into_iter().flatten().flatten().collect();
    if shown[0] != "on" {
        return Err(Stop::Ignored(
            "PostgreSQL: its certificate takes openssl".to_owned(),
        ));
    }
    let encrypted = "SELECT CAST(count(*) AS TEXT) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE datname = current_database() AND application_name = 'landfast' AND ssl";
    let root = format!("{}/server.crt", shown[1]);
    for parameters in [
        "sslmode=require".to_owned(),
        format!("sslmode=verify-full&sslrootcert={root}"),
    ] {
        let catalog = open(&format!("{}?{parameters}", world.uri), &world.warehouse()).await?;
        create(&catalog, &orders()).await?;
        assert_ne!(
            side.rows(encrypted).await?,
            [[Some("0".to_owned())]],
            "{parameters}"
        );
        catalog.drop_table(&orders()).await?;
    }
    // No certificate authority of the machine knows this server.
    let distrusted = open(&format!("{}?sslmode=verify-full", world.uri), &world.warehouse()).await;
    assert!(distrusted.is_err());
    Ok(())
}
