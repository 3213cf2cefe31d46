//! The real binary on a bucket: pushes, kills, an outage, and what maintenance and independent readers find.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use landfast::catalog::{Catalog, SqlCatalog};
use landfast::random::Random;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::support::bucket::{Bucket, Cloud, S3Server};
use crate::support::gcs::GcsFront;
use crate::support::lake::files;
use crate::support::push::{NO_ANSWER, Push};
use crate::support::readers::Reader;
use crate::support::server::{Server, landfast};
use crate::support::tables::orders;
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        killed_server_lands_every_row_once_on_s3,
        killed_server_lands_every_row_once_on_gcs,
        s3_that_is_away_refuses_until_it_is_back,
        gcs_that_is_away_refuses_until_it_is_back,
        orphans_of_a_bucket_are_swept,
        sql_catalog_keeps_its_tables_in_either_bucket,
    ]
}

const ROWS: &str = "tables: { shop.orders: { from: [{ subscription: orders }], batch: { commit_interval: 100ms }, \
                    schema: [{ name: id, type: long, required: true }, { name: name, type: string }] } }\n";

/// A configuration whose warehouse and dead letters are in a bucket.
pub struct Site {
    bucket: Bucket,
    folder: TempDir,
}

impl Site {
    /// Writes it, with these further keys of `server`.
    pub fn new(bucket: Bucket, server: &str) -> TestResult<Self> {
        Self::with_catalog(bucket, |_folder| "type: storage".to_owned(), server)
    }

    fn with_catalog(bucket: Bucket, catalog: impl Fn(&Path) -> String, server: &str) -> TestResult<Self> {
        let folder = tempfile::tempdir()?;
        let catalog = catalog(folder.path());
        let site = Self { bucket, folder };
        let text = format!(
            "warehouse: {}\ncatalog: {{ {catalog} }}\ndead_letters: {}\nserver: {{ listen: \"127.0.0.1:0\", \
             push_auth: off, {server} }}\n{ROWS}",
            site.bucket.location("warehouse"),
            site.bucket.location("dead-letters"),
        );
        fs::write(site.config(), text)?;
        Ok(site)
    }

    /// Its bucket.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// The folder of the configuration.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("landfast.yaml")
    }

    /// The binary with these words and the configuration.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = landfast(words);
        command
            .arg("--config")
            .arg(self.config())
            .envs(self.bucket.environment());
        command
    }

    /// Starts the server.
    pub async fn serve(&self) -> TestResult<Server> {
        Server::start(self.command(&["serve"])).await
    }

    /// Runs a command to its end, which is to succeed. Gives what it printed.
    pub fn done(&self, words: &[&str]) -> TestResult<String> {
        let output = tokio::task::block_in_place(|| self.command(words).output())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{words:?}: {out}{err}");
        Ok(out)
    }

    /// The ids in the table, and the number of rows, by PyIceberg; on S3 by DuckDB alike, which signs otherwise for Google.
    pub async fn ids(&self) -> TestResult<(BTreeSet<i64>, usize)> {
        let metadata = self.bucket.metadata("shop.orders").await?;
        let ids =
            |rows: &[Value]| -> BTreeSet<i64> { rows.iter().filter_map(|row| row["id"].as_i64()).collect() };
        let rows = Reader::pyiceberg()?.rows(&metadata)?;
        if self.bucket.cloud() == Cloud::S3 {
            let others = Reader::duckdb()?.rows(&metadata)?;
            assert_eq!((ids(&rows), rows.len()), (ids(&others), others.len()));
        }
        Ok((ids(&rows), rows.len()))
    }

    /// The message of every dead letter, in order.
    pub async fn letters(&self) -> TestResult<Vec<String>> {
        let store = self.bucket.store("dead-letters")?;
        let mut letters = Vec::new();
        for key in store.keys("confirmed").await? {
            let text = store.get(&key).await?.unwrap_or_default();
            for line in std::str::from_utf8(&text)?.lines() {
                let letter: Value = serde_json::from_str(line)?;
                letters.push(letter["id"].as_str().unwrap_or_default().to_owned());
            }
        }
        letters.sort();
        Ok(letters)
    }
}

/// Whether its message is no JSON.
pub fn is_poison(id: i64) -> bool {
    id % 10 == 9
}

/// The message of an id.
pub fn message(id: i64) -> Push {
    if is_poison(id) {
        Push::new("orders", id, format!("{{\"id\":{id}"))
    } else {
        Push::json("orders", id, &json!({ "id": id, "name": format!("row {id}") }))
    }
}

async fn killed_server_lands_every_row_once_on_s3() -> TestResult {
    killed_server_lands_every_row_once(Bucket::s3()?).await
}

async fn killed_server_lands_every_row_once_on_gcs() -> TestResult {
    killed_server_lands_every_row_once(Bucket::of(Cloud::Gcs).await?).await
}

async fn killed_server_lands_every_row_once(bucket: Bucket) -> TestResult {
    let site = Site::new(bucket, "")?;
    let mut unanswered: BTreeSet<i64> = (0..600).collect();
    let mut cut_off = 0;
    for life in [1_500, 300, 700, 450, 900] {
        let mut server = site.serve().await?;
        let pushes: Vec<Push> = unanswered.iter().map(|id| message(*id)).collect();
        let pusher = server.pusher();
        let (statuses, killed) = tokio::join!(pusher.push_all(&pushes, 8), async {
            sleep(Duration::from_millis(life)).await;
            server.kill()
        });
        killed?;
        assert!(
            statuses
                .iter()
                .all(|status| [204, 503, NO_ANSWER].contains(status)),
            "{statuses:?}"
        );
        cut_off += usize::from(statuses.contains(&NO_ANSWER));
        let sent: Vec<i64> = unanswered.iter().copied().collect();
        for (id, _) in sent.iter().zip(&statuses).filter(|(_, status)| **status == 204) {
            unanswered.remove(id);
        }
    }
    assert!(cut_off > 0, "no kill came before the last answer");
    let mut server = site.serve().await?;
    // All of them come again: what was answered as well, as Pub/Sub may do.
    let pushes: Vec<Push> = (0..600).map(message).collect();
    let statuses = server.pusher().push_all(&pushes, 60).await;
    assert_eq!(statuses, vec![204; 600]);
    server.terminate()?;
    assert!(server.exited().await?.success());

    let good: BTreeSet<i64> = (0..600).filter(|id| !is_poison(*id)).collect();
    assert_eq!(site.ids().await?, (good, 540));
    let letters = site.letters().await?;
    assert_eq!(letters.len(), 60);
    assert_eq!(letters.iter().collect::<BTreeSet<_>>().len(), 60);
    let proof = site.done(&["verify"])?;
    assert!(proof.contains("shop.orders: whole"), "{proof}");
    site.done(&["maintain"])?;
    assert_eq!(site.ids().await?.1, 540);
    if site.bucket.cloud() == Cloud::S3 {
        // Through the hint, as an engine finds the table.
        let table = site.bucket.told(&site.bucket.location("warehouse/shop/orders"));
        assert_eq!(Reader::duckdb()?.count(table)?, 540);
    }
    Ok(())
}

async fn s3_that_is_away_refuses_until_it_is_back() -> TestResult {
    let server = S3Server::start()?;
    let bucket = Bucket::s3_at(server.endpoint());
    store_that_is_away(bucket, || server.kill(), || server.restart().map(drop)).await
}

async fn gcs_that_is_away_refuses_until_it_is_back() -> TestResult {
    let front = Arc::new(GcsFront::start().await?);
    let away = |away| {
        front.away(away);
        Ok(())
    };
    store_that_is_away(Bucket::gcs(front.clone()), || away(true), || away(false)).await
}

async fn store_that_is_away(
    bucket: Bucket,
    go: impl Fn() -> TestResult,
    come_back: impl Fn() -> TestResult,
) -> TestResult {
    let site = Site::new(bucket, "ack_deadline: 12s")?;
    let landfast = site.serve().await?;
    let pusher = landfast.pusher();
    assert_eq!(pusher.push(&message(0)).await, 204);
    go()?;
    let pushes: Vec<Push> = (1..30).map(message).collect();
    let statuses = pusher.push_all(&pushes, 30).await;
    assert_eq!(statuses, vec![503; 29]);
    assert_eq!(pusher.get("/health/ready").await?.0, 200);
    assert!(landfast.metric("landfast_store_failures_total").await? > 0.0);
    come_back()?;
    // The first after it may find that the commits before took too long for the time that it has.
    wait_for("all to land", Duration::from_secs(60), async || {
        (pusher.push_all(&pushes, 30).await == vec![204; 29]).then_some(())
    })
    .await?;
    let good: BTreeSet<i64> = (0..30).filter(|id| !is_poison(*id)).collect();
    assert_eq!(site.ids().await?, (good, 27));
    assert_eq!(site.letters().await?.len(), 3);
    let log = landfast.log();
    assert!(!log.contains("testtest"), "a secret is in the log");
    Ok(())
}

async fn orphans_of_a_bucket_are_swept() -> TestResult {
    let server = S3Server::start()?;
    let site = Site::new(Bucket::s3_at(server.endpoint()), "")?;
    let mut landfast = site.serve().await?;
    for id in 0..5 {
        assert_eq!(landfast.pusher().push(&message(id)).await, 204);
    }
    landfast.terminate()?;
    assert!(landfast.exited().await?.success());
    let store = site.bucket.store("warehouse")?;
    // The same name as a data file of ours, that nothing names; and one that is not ours.
    let orphan = "shop/orders/data/5f0c54a4-8a9f-4e1c-9d3a-0f2f6f0c1a77.parquet";
    let foreign = "shop/orders/data/notes.txt";
    store.put(orphan, "orphan".into()).await?;
    store.put(foreign, "notes".into()).await?;
    // The store's clock is the age of the server's files.
    let then = SystemTime::now() - Duration::from_secs(10 * 24 * 3600);
    for file in files(&server.bucket_folder())? {
        File::options().append(true).open(file)?.set_modified(then)?;
    }
    let planned: Value = serde_json::from_str(&site.done(&["maintain", "--dry-run", "--output", "json"])?)?;
    assert_eq!(
        planned[0]["deleted"]["data_file"],
        json!({ "files": 1, "bytes": 6 })
    );
    assert!(store.stat(orphan).await?.is_some());
    site.done(&["maintain"])?;
    assert_eq!(store.stat(orphan).await?, None);
    assert!(store.stat(foreign).await?.is_some());
    assert_eq!(site.ids().await?, ((0..5).collect(), 5));
    site.done(&["verify"])?;
    Ok(())
}

async fn sql_catalog_keeps_its_tables_in_either_bucket() -> TestResult {
    for cloud in [Cloud::S3, Cloud::Gcs] {
        let bucket = Bucket::of(cloud).await?;
        let uri = |folder: &Path| format!("sqlite://{}/catalog.db", folder.display());
        let catalog = |folder: &Path| format!("type: sql, uri: \"{}\"", uri(folder));
        let site = Site::with_catalog(bucket.clone(), catalog, "")?;
        let mut landfast = site.serve().await?;
        let pushes: Vec<Push> = (0..20).map(message).collect();
        assert_eq!(landfast.pusher().push_all(&pushes, 5).await, vec![204; 20]);
        landfast.terminate()?;
        assert!(landfast.exited().await?.success());
        let (store, random) = (bucket.store("warehouse")?, Arc::new(Random::from_os()));
        let uri = uri(site.folder()).parse()?;
        let catalog = SqlCatalog::open(&uri, "landfast", store, random).await?;
        let table = catalog.load_table(&orders()).await?;
        let metadata = table.metadata_location().ok_or("a table has metadata")?;
        assert_eq!(Reader::pyiceberg()?.count(bucket.told(metadata))?, 18);
        assert_eq!(site.letters().await?.len(), 2);
        site.done(&["verify"])?;
    }
    Ok(())
}
