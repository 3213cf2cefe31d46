//! The cost of a commit over a table's life: 100 rows and 100 deliveries each, on `storage` and SQLite, on a local disk.
//!
//! `cargo bench --bench commits -- [COMMITS]` prints, about commit 20, 200 and the last, the medians of 20 commits: wall
//! and CPU milliseconds, size of the metadata file, snapshots, manifests, files in the ledger's head. The clock goes on by
//! two seconds a commit, so that snapshots age as they would.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement stops at the first surprise"
)]

mod table;

use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use iceberg::NamespaceIdent;
use landfast::catalog::{Catalog, SqlCatalog, StorageCatalog};
use landfast::clock::{Clock, Moment};
use landfast::commit::{ChangeSet, Engine, Group, Head};
use landfast::ledger::Ledger;
use landfast::random::Random;
use landfast::storage::Store;

const ROWS: i64 = 100;

#[derive(Debug)]
struct SteppedClock(std::sync::Mutex<DateTime<Utc>>);

impl Clock for SteppedClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().expect("not poisoned")
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let commits: i64 = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(2000);
    println!(
        "{:8} {:>9} {:>8} {:>8} {:>9} {:>9} {:>9} {:>8}",
        "catalog", "commits", "wall ms", "cpu ms", "metadata", "snapshots", "manifests", "segments"
    );
    for name in ["storage", "sqlite"] {
        run(name, commits).await;
    }
}

async fn run(name: &str, commits: i64) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&format!("file://{}", folder.path().display())).expect("a store");
    let clock = Arc::new(SteppedClock(std::sync::Mutex::new(Utc::now())));
    let random = Arc::new(Random::seeded(7));
    let catalog: Arc<dyn Catalog> = match name {
        "storage" => Arc::new(StorageCatalog::new(store.clone(), clock.clone())),
        _ => {
            let uri = format!("sqlite://{}/catalog.db", folder.path().display())
                .parse()
                .expect("a uri");
            let opened = SqlCatalog::open(&uri, "landfast", store.clone(), random.clone()).await;
            Arc::new(opened.expect("a catalog"))
        }
    };
    let engine = Engine::new(catalog.clone(), Ledger::new(store), clock.clone(), random.clone());
    let namespace = NamespaceIdent::new("bench".to_owned());
    let made = table::create(catalog.as_ref(), &namespace, "commits").await;
    let mut head = engine.head(made).await.expect("a head");
    let marks = [20, 200, commits];
    let (mut walls, mut cpus) = (Vec::new(), Vec::new());
    for commit in 1..=commits {
        *clock.0.lock().expect("not poisoned") += TimeDelta::seconds(2);
        let (begun, before) = (Instant::now(), cpu_seconds());
        commit_one(&engine, &mut head, &clock, &random, commit).await;
        let near = |mark: &i64| {
            (mark - 10..mark + 10).contains(&commit) || (*mark == commits && commit > commits - 20)
        };
        if marks.iter().any(near) {
            walls.push(begun.elapsed().as_secs_f64() * 1000.0);
            cpus.push((cpu_seconds() - before) * 1000.0);
        }
        if walls.len() == 20 {
            tell(name, commit, &head, &mut walls, &mut cpus).await;
        }
    }
}

async fn commit_one(
    engine: &Engine,
    head: &mut Head,
    clock: &Arc<SteppedClock>,
    random: &Arc<Random>,
    commit: i64,
) {
    let ids: Vec<i64> = (commit * ROWS..(commit + 1) * ROWS).collect();
    let entries = table::deliveries(&ids, |_| clock.now().timestamp());
    let known = engine
        .ledger()
        .check(head.ledger(), &entries)
        .await
        .expect("answers");
    assert_eq!(known.len(), entries.len());
    let files = table::files(head, &ids, random).await;
    let mut changes = ChangeSet::append(random.uuid(), Moment::now(clock.as_ref()));
    changes.add(Group::pending(files, entries));
    engine.attempt(head, &mut changes).await.expect("a commit");
}

async fn tell(name: &str, commit: i64, head: &Head, walls: &mut Vec<f64>, cpus: &mut Vec<f64>) {
    let metadata = head.table().metadata();
    let snapshot = metadata.current_snapshot().expect("a snapshot");
    let list = head
        .table()
        .manifest_list_reader(snapshot)
        .load()
        .await
        .expect("a list");
    println!(
        "{name:8} {commit:>9} {:>8.2} {:>8.2} {:>9} {:>9} {:>9} {:>8}",
        median(walls),
        median(cpus),
        serde_json::to_vec(metadata).map_or(0, |json| json.len()),
        metadata.snapshots().len(),
        list.entries().len(),
        head.ledger().head().segments.len(),
    );
    walls.clear();
    cpus.clear();
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// CPU time of this process's threads, in seconds: the scheduler counts nanoseconds where the clock ticks are 10 ms.
fn cpu_seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let nanoseconds = tasks.filter_map(|task| {
        let stat = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse::<f64>().ok()
    });
    nanoseconds.sum::<f64>() / 1e9
}
