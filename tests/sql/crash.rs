//! PostgreSQL killed in the middle of commits: what was answered is there, and nothing is half there.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use landfast::catalog::{Catalog, Outcome, SqlCatalog};
use libtest_mimic::Trial;
use tokio::time::sleep;

use super::{open, set_property};
use crate::support::postgres::Postgres;
use crate::support::tables::{create, orders};
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![commits_that_were_answered_survive_a_killed_database]
}

/// What committers were told.
#[derive(Debug, Default)]
struct Told {
    committed: BTreeSet<String>,
    unknown: BTreeSet<String>,
    rejected: Vec<String>,
}

async fn commits_that_were_answered_survive_a_killed_database() -> TestResult {
    const ROUNDS: usize = 3;
    let (server, uri) = Postgres::start()?;
    let folder = tempfile::tempdir()?;
    let warehouse = format!("file://{}", folder.path().display());
    let pools = [
        Arc::new(open(&uri, &warehouse).await?),
        Arc::new(open(&uri, &warehouse).await?),
    ];
    create(pools[0].as_ref(), &orders()).await?;
    let mut told = Told::default();
    for round in 0..ROUNDS {
        let stop = Arc::new(AtomicBool::new(false));
        let committers: Vec<_> = (0..4)
            .map(|committer| {
                let name = format!("{round}.{committer}");
                tokio::spawn(commit_until(pools[committer % 2].clone(), name, stop.clone()))
            })
            .collect();
        sleep(Duration::from_millis(600 + 170 * u64::try_from(round)?)).await;
        server.kill()?;
        server.restart()?;
        // They go on, through the recovery and after it.
        stop.store(true, Ordering::SeqCst);
        for committer in committers {
            let ended = committer.await?;
            assert!(ended.rejected.is_empty(), "{:?}", ended.rejected);
            told.committed.extend(ended.committed);
            told.unknown.extend(ended.unknown);
        }
        let table = wait_for("the database to recover", Duration::from_secs(20), async || {
            pools[round % 2].load_table(&orders()).await.ok()
        })
        .await?;
        let there: BTreeSet<_> = table.metadata().properties().keys().cloned().collect();
        let lost: Vec<_> = told.committed.difference(&there).collect();
        assert!(lost.is_empty(), "answered and lost: {lost:?}");
        let known: BTreeSet<_> = told.committed.union(&told.unknown).cloned().collect();
        let unasked: Vec<_> = there.difference(&known).collect();
        assert!(unasked.is_empty(), "neither committed nor unknown: {unasked:?}");
    }
    writeln!(
        std::io::stderr(),
        "{ROUNDS} kills of PostgreSQL: {} commits answered, {} unknown, none lost",
        told.committed.len(),
        told.unknown.len()
    )?;
    assert!(told.committed.len() > ROUNDS, "{told:?}");
    Ok(())
}

/// Commits one property after another, whatever becomes of each.
async fn commit_until(catalog: Arc<SqlCatalog>, name: String, stop: Arc<AtomicBool>) -> Told {
    let mut told = Told::default();
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        let Ok(base) = catalog.load_table(&orders()).await else {
            continue;
        };
        number += 1;
        let key = format!("{name}.{number}");
        match catalog.commit_table(&base, set_property(&key, "1")).await {
            Outcome::Committed(_) => told.committed.insert(key),
            Outcome::OutcomeUnknown(_) => told.unknown.insert(key),
            Outcome::Conflict(_) => false,
            Outcome::Rejected(error) => {
                told.rejected.push(error.report());
                break;
            }
        };
    }
    told
}
