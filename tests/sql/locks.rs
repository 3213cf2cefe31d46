//! Commits while others hold locks.

use std::time::Duration;

use landfast::catalog::{Catalog, Outcome};
use landfast::error::ErrorKind;
use libtest_mimic::Trial;
use tokio::time::{Instant, sleep};

use super::{Backend, Side, World, committed, on_both, set_property};
use crate::support::tables::{create, orders};
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    let mut tests = on_both![
        commit_waits_for_a_lock_that_is_given_back,
        commit_meets_a_conflict_after_a_lock_that_moved_the_table,
        lock_that_is_kept_ends_the_commit_in_time,
    ];
    tests.extend(trials![
        reader_of_sqlite_is_waited_for,
        serializable_isolation_conflicts,
    ]);
    tests
}

impl Side {
    /// Begins a transaction that keeps every other writer of the row waiting.
    async fn lock(&mut self) -> TestResult {
        match self {
            Self::Sqlite(_) => self.execute("BEGIN IMMEDIATE").await?,
            Self::Postgres(_) => {
                self.execute("BEGIN; SELECT 1 FROM iceberg_tables FOR UPDATE")
                    .await?
            }
        };
        Ok(())
    }
}

async fn commit_waits_for_a_lock_that_is_given_back(world: &World) -> TestResult {
    let catalog = world.catalog().await?;
    let base = create(&catalog, &orders()).await?;
    let mut side = world.side().await?;
    side.lock().await?;
    let commit = async {
        let start = Instant::now();
        let outcome = catalog.commit_table(&base, set_property("a", "1")).await;
        (outcome, start.elapsed())
    };
    let release = async {
        sleep(Duration::from_millis(700)).await;
        side.execute("ROLLBACK").await
    };
    let ((outcome, waited), released) = tokio::join!(commit, release);
    released?;
    committed(outcome)?;
    assert!(waited >= Duration::from_millis(700), "{waited:?}");
    Ok(())
}

async fn commit_meets_a_conflict_after_a_lock_that_moved_the_table(world: &World) -> TestResult {
    let catalog = world.catalog().await?;
    let base = create(&catalog, &orders()).await?;
    let moved = format!("{}x", base.metadata_location().expect("it has one"));
    let mut side = world.side().await?;
    side.lock().await?;
    side.execute(&format!(
        "UPDATE iceberg_tables SET metadata_location = '{moved}'"
    ))
    .await?;
    let release = async {
        sleep(Duration::from_millis(300)).await;
        side.execute("COMMIT").await
    };
    let (outcome, released) = tokio::join!(catalog.commit_table(&base, set_property("a", "1")), release);
    released?;
    assert!(matches!(outcome, Outcome::Conflict(_)), "{outcome:?}");
    let row = side.rows("SELECT metadata_location FROM iceberg_tables").await?;
    assert_eq!(row, [[Some(moved)]]);
    Ok(())
}

async fn lock_that_is_kept_ends_the_commit_in_time(world: &World) -> TestResult {
    let catalog = world.catalog().await?;
    let base = create(&catalog, &orders()).await?;
    let mut side = world.side().await?;
    side.lock().await?;
    let start = Instant::now();
    let outcome = catalog.commit_table(&base, set_property("a", "1")).await;
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
    match (&outcome, &side) {
        // SQLite says that it was busy, PostgreSQL that it gave the statement up.
        (Outcome::Conflict(_), Side::Sqlite(_)) | (Outcome::OutcomeUnknown(_), Side::Postgres(_)) => {}
        _ => return Err(format!("{outcome:?}").into()),
    }
    side.execute("ROLLBACK").await?;
    let now = catalog.load_table(&orders()).await?;
    assert_eq!(now.metadata_location(), base.metadata_location());
    committed(catalog.commit_table(&now, set_property("a", "2")).await)?;
    Ok(())
}

async fn reader_of_sqlite_is_waited_for() -> TestResult {
    let world = World::new(Backend::Sqlite).await?;
    let catalog = world.catalog().await?;
    let base = create(&catalog, &orders()).await?;
    let mut side = world.side().await?;
    // With a rollback journal, a reader in a transaction keeps a writer from committing.
    side.execute("BEGIN").await?;
    side.rows("SELECT table_name FROM iceberg_tables").await?;
    let outcome = catalog.commit_table(&base, set_property("a", "1")).await;
    let Outcome::Conflict(error) = outcome else {
        return Err(format!("{outcome:?}").into());
    };
    assert_eq!(error.kind(), ErrorKind::Conflict);
    side.execute("ROLLBACK").await?;
    let now = catalog.load_table(&orders()).await?;
    assert_eq!(
        now.metadata_location(),
        base.metadata_location(),
        "the busy commit was undone"
    );
    committed(catalog.commit_table(&now, set_property("a", "2")).await)?;
    Ok(())
}

/// PostgreSQL refuses one of two updates with 40001 where a role or database asks for it.
async fn serializable_isolation_conflicts() -> TestResult {
    let world = World::new(Backend::Postgres).await?;
    let database = world.uri.rsplit_once('/').expect("it has a path").1;
    let strict = format!("ALTER DATABASE {database} SET default_transaction_isolation = 'serializable'");
    world.side().await?.execute(&strict).await?;
    let catalog = world.catalog().await?;
    let base = create(&catalog, &orders()).await?;
    let mut side = world.side().await?;
    side.lock().await?;
    side.execute("UPDATE iceberg_tables SET previous_metadata_location = 'x'")
        .await?;
    let mut watcher = world.side().await?;
    let release = async {
        wait_for("the commit to wait for the row", Duration::from_secs(60), async || {
            let waiting = "SELECT CAST(pid AS TEXT) FROM pg_stat_activity WHERE datname = current_database() \
                           AND application_name = 'landfast' AND wait_event_type = 'Lock'";
            let waiting = watcher.rows(waiting).await.ok()?;
            (!waiting.is_empty()).then_some(())
        })
        .await?;
        side.execute("COMMIT").await
    };
    let (outcome, released) = tokio::join!(catalog.commit_table(&base, set_property("a", "1")), release);
    released?;
    let Outcome::Conflict(error) = outcome else {
        return Err(format!("{outcome:?}").into());
    };
    assert!(
        error.report().contains("could not serialize"),
        "{}",
        error.report()
    );
    Ok(())
}
