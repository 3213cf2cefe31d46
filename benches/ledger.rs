//! The ledger's prices: a fresh delivery's check, ten million ids retained, a day-old redelivery.
//!
//! `cargo bench --bench ledger -- [MILLIONS]`. The ledger is built by the engine: commits of 100,000 deliveries each, spread
//! over eight days by publish time, on a local disk. Then, each in a process of its own so that its memory is its own:
//!
//! - a writer's checks: batches of 100 fresh deliveries against the head that the last commit left;
//! - redeliveries of about a day ago, one at a time, with nothing remembered (a new ledger) and with what was just read;
//! - memory: redeliveries of every age at random, until nothing new would be read, then the resident bytes.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement stops at the first surprise"
)]

mod table;

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use iceberg::{NamespaceIdent, TableIdent};
use landfast::catalog::StorageCatalog;
use landfast::clock::{Clock, Moment};
use landfast::commit::{ChangeSet, Engine, Group, Head};
use landfast::ledger::{Known, Ledger};
use landfast::random::Random;
use landfast::storage::Store;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const DAY: i64 = 24 * 3600;
const RETAINED_DAYS: i64 = 8;
const PER_COMMIT: i64 = 100_000;
/// The newest message was published then.
const NEWEST: i64 = 1_760_000_000;

#[derive(Debug)]
struct SteppedClock(std::sync::Mutex<DateTime<Utc>>);

impl Clock for SteppedClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().expect("not poisoned")
    }
}

/// When message `id` of so many was published: evenly over the days that are retained.
fn published_at(id: i64, count: i64) -> i64 {
    NEWEST - RETAINED_DAYS * DAY + 1 + id * (RETAINED_DAYS * DAY - 1) / count
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [part, folder, count] = arguments.as_slice() {
        let count = count.parse().expect("a count");
        return match part.as_str() {
            "fresh" => fresh(folder, count).await,
            "old" => old(folder, count).await,
            _ => memory(folder, count).await,
        };
    }
    let millions: i64 = arguments
        .iter()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(10);
    let count = millions * 1_000_000;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().display().to_string();
    build(&path, count).await;
    for part in ["fresh", "old", "memory"] {
        let this = std::env::current_exe().expect("a path");
        let ended = Command::new(this)
            .args([part, &path, &count.to_string()])
            .status();
        assert!(ended.expect("a process").success());
    }
}

/// An engine on the folder, at this time.
fn engine(folder: &str, now: i64) -> (Engine, Arc<SteppedClock>) {
    let store = Store::open(&format!("file://{folder}")).expect("a store");
    let now = DateTime::from_timestamp(now, 0).expect("a time");
    let clock = Arc::new(SteppedClock(std::sync::Mutex::new(now)));
    let catalog = Arc::new(StorageCatalog::new(store.clone(), clock.clone()));
    let engine = Engine::new(
        catalog,
        Ledger::new(store),
        clock.clone(),
        Arc::new(Random::from_os()),
    );
    (engine, clock)
}

async fn head(engine: &Engine) -> Head {
    let ident = TableIdent::from_strs(["bench", "ledger"]).expect("a name");
    let table = engine.catalog().load_table(&ident).await.expect("the table");
    engine.head(table).await.expect("a head")
}

/// Commits `count` deliveries in the order of their publish times.
async fn build(folder: &str, count: i64) {
    let begun = Instant::now();
    let (engine, clock) = engine(folder, NEWEST - RETAINED_DAYS * DAY);
    let random = Arc::new(Random::from_os());
    let namespace = NamespaceIdent::new("bench".to_owned());
    table::create(engine.catalog().as_ref(), &namespace, "ledger").await;
    let mut head = head(&engine).await;
    for first in (0..count).step_by(usize::try_from(PER_COMMIT).expect("fits")) {
        let ids: Vec<i64> = (first..(first + PER_COMMIT).min(count)).collect();
        let newest = published_at(ids[ids.len() - 1], count);
        *clock.0.lock().expect("not poisoned") =
            DateTime::from_timestamp(newest, 0).expect("a time") + TimeDelta::seconds(1);
        let deliveries = table::deliveries(&ids, |id| published_at(id, count));
        // One row stands for all of them: the rows are not what is measured.
        let files = table::files(&head, &ids[..1], &random).await;
        let mut changes = ChangeSet::append(random.uuid(), Moment::now(clock.as_ref()));
        changes.add(Group::pending(files, deliveries));
        // The clock has gone on by two hours, and a head that old is trusted no more.
        engine.reload(&mut head, &changes).await.expect("a load");
        engine.attempt(&mut head, &mut changes).await.expect("a commit");
        // Lets the merges beside the commits come to their end, as a real pace would.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let ledger = head.ledger().head();
    assert_eq!(ledger.entry_count(), u64::try_from(count).expect("a count"));
    let bytes: u64 = ledger.segments.iter().map(|segment| segment.byte_count).sum();
    println!(
        "{count} ids: {} segments, {:.1} MB, {:.1} bytes an id, head {} inline; built in {:.0} s",
        ledger.segments.len(),
        bytes as f64 / 1e6,
        bytes as f64 / count as f64,
        ledger.entries.len(),
        begun.elapsed().as_secs_f64()
    );
}

/// Checks of fresh deliveries, by a writer that commits.
async fn fresh(folder: &str, count: i64) {
    let (engine, _clock) = engine(folder, NEWEST);
    let random = Arc::new(Random::from_os());
    let mut head = head(&engine).await;
    let mut per_delivery = Vec::new();
    let mut next = count;
    for round in 0..300 {
        // Published within the last minute, as what is pushed is.
        let ids: Vec<i64> = (next..next + 100).collect();
        next += 100;
        let entries = table::deliveries(&ids, |id| NEWEST - id % 60);
        let begun = Instant::now();
        let known = engine
            .ledger()
            .check(head.ledger(), &entries)
            .await
            .expect("answers");
        per_delivery.push(begun.elapsed().as_secs_f64() * 1e6 / 100.0);
        assert!(known.iter().all(|known| *known == Known::New));
        if round % 3 == 0 {
            let files = table::files(&head, &ids[..1], &random).await;
            let mut changes = ChangeSet::append(random.uuid(), Moment::now(engine_clock().as_ref()));
            changes.add(Group::pending(files, entries));
            engine.attempt(&mut head, &mut changes).await.expect("a commit");
        }
    }
    println!(
        "fresh deliveries, 100 a check, 300 checks between 100 commits: median {:.3} us a delivery, 99th percentile {:.3}",
        percentile(&mut per_delivery, 0.5),
        percentile(&mut per_delivery, 0.99)
    );
}

/// A clock for change sets, whose age is not what is measured.
fn engine_clock() -> Arc<dyn Clock> {
    Arc::new(SteppedClock(std::sync::Mutex::new(
        DateTime::from_timestamp(NEWEST, 0).expect("a time"),
    )))
}

/// Redeliveries of about a day ago, one at a time.
async fn old(folder: &str, count: i64) {
    let day_ago = count - count / RETAINED_DAYS;
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for round in 0..50 {
        let ids = [day_ago + round * 37];
        let entries = table::deliveries(&ids, |id| published_at(id, count));
        let (engine, _clock) = engine(folder, NEWEST);
        let head = head(&engine).await;
        for milliseconds in [&mut cold, &mut warm] {
            let begun = Instant::now();
            let known = engine
                .ledger()
                .check(head.ledger(), &entries)
                .await
                .expect("an answer");
            milliseconds.push(begun.elapsed().as_secs_f64() * 1e3);
            assert!(matches!(known[0], Known::Landed(_)));
        }
    }
    let last = |values: &mut Vec<f64>| percentile(values, 1.0);
    println!(
        "a day-old redelivery: nothing read yet, median {:.2} ms, worst of 50 {:.2}; again, median {:.4} ms, worst {:.4}",
        percentile(&mut cold, 0.5),
        last(&mut cold),
        percentile(&mut warm, 0.5),
        last(&mut warm)
    );
}

/// Redeliveries of every age, until the caches are as full as they get.
async fn memory(folder: &str, count: i64) {
    let (engine, _clock) = engine(folder, NEWEST);
    let head = head(&engine).await;
    let before = resident("VmRSS");
    // A step that is prime to the count walks over all ages in no order.
    let (step, mut id) = (999_983_i64, 0);
    for _ in 0..2000 {
        let ids: Vec<i64> = (0..10)
            .map(|_| {
                id = (id + step) % count;
                id
            })
            .collect();
        let entries = table::deliveries(&ids, |id| published_at(id, count));
        let known = engine
            .ledger()
            .check(head.ledger(), &entries)
            .await
            .expect("answers");
        assert!(known.iter().all(|known| matches!(known, Known::Landed(_))));
    }
    println!(
        "20,000 redeliveries of every age: resident {:.0} MB at the start, {:.0} MB at the end, {:.0} MB at most",
        before,
        resident("VmRSS"),
        resident("VmHWM")
    );
}

/// A line of the process's status, in MB.
fn resident(line: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let found = status
        .lines()
        .find_map(|other| other.strip_prefix(line))
        .expect("a line");
    let kibibytes: f64 = found
        .trim_start_matches(':')
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number");
    kibibytes * 1024.0 / 1e6
}

fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len() - 1;
    values[((last as f64) * share).round() as usize]
}
