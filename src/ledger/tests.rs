use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use super::*;
use crate::random::Random;
use crate::storage::Store;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn message(id: u128, index_time: i64) -> Entry {
    Entry {
        space: Space::Message,
        index_time,
        id,
        value: Bytes::new(),
    }
}

struct Table {
    ledger: Ledger,
    state: LedgerState,
    random: Random,
    now: DateTime<Utc>,
    retention: Duration,
}

impl Table {
    fn new() -> Self {
        let uuid = Uuid::from_u128(7);
        Self {
            ledger: Ledger::new(Store::open("memory:///w").unwrap()),
            state: LedgerState::new(uuid, None, LedgerHead::empty(uuid)),
            random: Random::seeded(1),
            now: now(),
            retention: DEFAULT_RETENTION,
        }
    }

    async fn commit(&mut self, entries: &[Entry]) {
        self.commit_with(entries, None).await;
    }

    async fn commit_with(&mut self, entries: &[Entry], merge: Option<&Merge>) -> bool {
        let addition = Addition {
            commit_id: self.random.uuid(),
            instead: None,
            entries,
            now: self.now,
            retention: self.retention,
            merge,
        };
        let next = self.ledger.next(&self.state, &addition, &self.random).unwrap();
        let merged = next.merged;
        self.ledger.put(&next).await.unwrap();
        self.state = self.ledger.adopt(next).await.unwrap();
        merged
    }

    /// As another process sees it: nothing in memory.
    async fn reopened(&self) -> Self {
        let ledger = Ledger::new(self.ledger.store().clone());
        let location = self.state.location().unwrap().to_owned();
        let head = ledger.head(&location).await.unwrap();
        Self {
            state: LedgerState::new(head.table_uuid, Some(location), head),
            ledger,
            random: Random::seeded(2),
            ..*self
        }
    }

    async fn check(&self, entry: Entry) -> Known {
        self.ledger.check(&self.state, &[entry]).await.unwrap().remove(0)
    }
}

#[tokio::test]
async fn what_was_added_is_found_and_nothing_else() {
    let mut table = Table::new();
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let start = now().timestamp();
    let mut sent = Vec::new();
    for second in 0..60 {
        let entries: Vec<Entry> = (0..random.random_range(1..3000))
            .map(|_| message(random.random(), start + second - random.random_range(0..5)))
            .collect();
        let merge = table.ledger.merge(&table.state, &table.random).await.unwrap();
        table.commit_with(&entries, merge.as_ref()).await;
        sent.extend(entries);
    }
    assert_eq!(table.state.head().entry_count(), sent.len() as u64);
    assert!(
        table.state.head().segments.len() < 20,
        "{}",
        table.state.head().segments.len()
    );
    for table in [&table, &table.reopened().await] {
        let known = table.ledger.check(&table.state, &sent).await.unwrap();
        assert!(known.iter().all(|known| *known == Known::Landed(Bytes::new())));
        // A push says milliseconds and a pull nanoseconds: the second may differ by one.
        let off = sent
            .iter()
            .map(|entry| message(entry.id, entry.index_time + random.random_range(-1..=1)));
        let known = table
            .ledger
            .check(&table.state, &off.collect::<Vec<_>>())
            .await
            .unwrap();
        assert!(known.iter().all(|known| *known == Known::Landed(Bytes::new())));
        let others: Vec<Entry> = sent
            .iter()
            .map(|entry| message(entry.id ^ 1, entry.index_time))
            .collect();
        let known = table.ledger.check(&table.state, &others).await.unwrap();
        assert!(known.iter().all(|known| *known == Known::New));
    }
}

#[tokio::test]
async fn values_come_back_from_head_and_segment() {
    let mut table = Table::new();
    let valued = Entry {
        space: Space::Request,
        index_time: 0,
        id: 5,
        value: Bytes::from_static(b"answer"),
    };
    table.commit(std::slice::from_ref(&valued)).await;
    let landed = Known::Landed(Bytes::from_static(b"answer"));
    assert_eq!(table.reopened().await.check(valued.clone()).await, landed);
    let many: Vec<Entry> = (10..1500).map(|id| Entry { id, ..valued.clone() }).collect();
    table.commit(&many).await;
    assert_eq!(table.state.head().segments.len(), 1);
    assert_eq!(table.check(valued.clone()).await, landed);
    assert_eq!(table.reopened().await.check(valued).await, landed);
}

#[tokio::test]
async fn floor_follows_the_newest_message_and_never_falls() {
    let mut table = Table::new();
    table.retention = DAY;
    let start = now().timestamp();
    table.commit(&[message(1, start)]).await;
    assert_eq!(table.check(message(2, start - 86_400)).await, Known::New);
    assert_eq!(table.check(message(2, start - 86_401)).await, Known::TooOld);
    // Files and objects are kept for ever.
    let kept = Entry {
        space: Space::Kept,
        ..message(3, 0)
    };
    table.commit(std::slice::from_ref(&kept)).await;
    // A sender whose clock is a year ahead moves the floor by an hour at the most.
    table.commit(&[message(4, start + 365 * 86_400)]).await;
    assert_eq!(table.state.head().floor, start + 3600 - 86_400);
    table.now -= TimeDelta::days(300);
    table.commit(&[message(5, start)]).await;
    assert_eq!(table.state.head().floor, start + 3600 - 86_400);
    // What is forgotten cannot be proven new.
    table.now = now() + TimeDelta::days(3);
    table.commit(&[message(6, start + 3 * 86_400)]).await;
    assert_eq!(table.check(message(1, start)).await, Known::TooOld);
    assert_eq!(table.check(kept).await, Known::Landed(Bytes::new()));
}

fn requests(from: u128) -> Vec<Entry> {
    let request = |id| Entry {
        space: Space::Request,
        ..message(id, 0)
    };
    (from..from + 1001).map(request).collect()
}

/// As another process sees it whose clock is off by this.
async fn elsewhere(table: &Table, off: TimeDelta) -> Table {
    let mut other = table.reopened().await;
    other.now = now() + off;
    other.random = Random::seeded(100 + table.state.head().sequence);
    other
}

#[tokio::test(start_paused = true)]
async fn no_clock_makes_requests_forgotten_early() {
    let landed = Known::Landed(Bytes::new());
    for off in [TimeDelta::days(40), TimeDelta::days(-40)] {
        let mut table = Table::new();
        table.retention = DAY;
        table.commit(&requests(0)).await;
        // The one with the wrong clock fills segments of its own, one after the other; then both go on in turn.
        let mut wrong = elsewhere(&table, off).await;
        for number in 1..4 {
            wrong.commit(&requests(number * 10_000)).await;
        }
        for number in [4, 6] {
            table = elsewhere(&wrong, TimeDelta::zero()).await;
            table.commit(&requests(number * 10_000)).await;
            wrong = elsewhere(&table, off).await;
            wrong.commit(&requests((number + 1) * 10_000)).await;
        }
        assert_eq!(wrong.state.head().segments.len(), 8);
        for number in 0..8 {
            let [request, ..] = &requests(number * 10_000)[..] else {
                panic!("no request")
            };
            assert_eq!(wrong.check(request.clone()).await, landed, "{off} {number}");
        }
        // A merge that was made meanwhile is as young as the youngest of them.
        let merge = wrong.ledger.merge(&wrong.state, &wrong.random).await.unwrap();
        assert!(wrong.commit_with(&[], merge.as_ref()).await);
        tokio::time::advance(DAY - Duration::from_secs(1)).await;
        wrong.commit(&[]).await;
        assert_eq!(wrong.state.head().segments.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_are_forgotten_once_the_retention_was_measured() {
    let mut table = Table::new();
    table.retention = DAY;
    table.commit(&requests(0)).await;
    let [request, ..] = &requests(0)[..] else {
        panic!("no request")
    };
    // By short commits, and by processes that take over from each other, their clocks apart.
    for commit in 0..100 {
        tokio::time::advance(DAY / 100).await;
        assert_ne!(table.check(request.clone()).await, Known::New, "{commit}");
        table.commit(&[]).await;
        table = elsewhere(&table, TimeDelta::days(commit % 7)).await;
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_ne!(table.check(request.clone()).await, Known::New);
    table.commit(&[]).await;
    assert_eq!(table.check(request.clone()).await, Known::New);
}

#[tokio::test(start_paused = true)]
async fn stamps_of_before_the_ledger_had_a_time_count_from_now() {
    let mut table = Table::new();
    table.retention = DAY;
    table.commit(&requests(0)).await;
    let mut head = table.state.head().clone();
    head.time = None;
    head.segments[0].committed_at -= 40 * 86_400;
    let location = table.state.location().map(str::to_owned);
    table.state = LedgerState::new(head.table_uuid, location, head);
    table.commit(&[]).await;
    assert_eq!(table.state.head().segments.len(), 1);
    tokio::time::advance(DAY + Duration::from_secs(1)).await;
    table.commit(&[]).await;
    assert_eq!(table.state.head().segments.len(), 0);
}

#[tokio::test]
async fn old_segments_are_dropped_whole() {
    let mut table = Table::new();
    table.retention = DAY;
    let start = now().timestamp();
    for day in 0..5 {
        table.now = now() + TimeDelta::days(day);
        let time = start + day * 86_400;
        let entries: Vec<Entry> = (0..1001)
            .map(|id| message(u128::from(id as u64) + (day as u128) * 10_000, time))
            .collect();
        table.commit(&entries).await;
    }
    let kept: Vec<i64> = table
        .state
        .head()
        .segments
        .iter()
        .map(|segment| segment.max_time)
        .collect();
    assert_eq!(kept, [start + 3 * 86_400, start + 4 * 86_400]);
}

#[tokio::test]
async fn merge_whose_inputs_are_gone_is_not_taken() {
    let mut table = Table::new();
    let start = now().timestamp();
    for commit in 0..8 {
        let entries: Vec<Entry> = (0..1500).map(|id| message(commit * 10_000 + id, start)).collect();
        table.commit(&entries).await;
    }
    let merge = table
        .ledger
        .merge(&table.state, &table.random)
        .await
        .unwrap()
        .unwrap();
    let mut other = table.reopened().await;
    assert!(other.commit_with(&[message(999_999, start)], Some(&merge)).await);
    assert_eq!(other.state.head().segments.len(), 1);
    assert_eq!(other.state.head().entry_count(), 12_001);
    // The same merge again, on a head that has it already.
    assert!(!other.commit_with(&[], Some(&merge)).await);
    assert_eq!(other.state.head().entry_count(), 12_001);
    assert_eq!(
        other.check(message(70_001, start)).await,
        Known::Landed(Bytes::new())
    );
}

#[tokio::test]
async fn missing_and_damaged_files_are_never_an_empty_ledger() {
    let mut table = Table::new();
    let start = now().timestamp();
    let entries: Vec<Entry> = (0..1500).map(|id| message(id, start)).collect();
    table.commit(&entries).await;
    let segment = table.state.head().segments[0].clone();
    let store = table.ledger.store().clone();
    let key = table.state.key(&segment.name);
    let file = store.get(&key).await.unwrap().unwrap();
    for damage in [
        Bytes::from_static(b"PAR1"),
        file.slice(..100),
        Bytes::from(vec![0; file.len()]),
    ] {
        store.put(&key, damage).await.unwrap();
        let other = table.reopened().await;
        let error = other
            .ledger
            .check(&other.state, &[message(1, start)])
            .await
            .unwrap_err();
        assert!(error.report().contains(&segment.name), "{error:?}");
    }
    let head = table.state.location().unwrap().to_owned();
    let head_key = store.key(&head).unwrap().to_owned();
    let bytes = store.get(&head_key).await.unwrap().unwrap();
    let newer = String::from_utf8(bytes.to_vec())
        .unwrap()
        .replace("\"format-version\":1", "\"format-version\":2");
    for (damage, word) in [
        (Bytes::from_static(b"{}"), "damaged"),
        (bytes.slice(..40), "damaged"),
        (Bytes::from(newer), "newer version"),
    ] {
        store.put(&head_key, damage).await.unwrap();
        let error = Ledger::new(store.clone()).head(&head).await.unwrap_err();
        assert!(
            error.report().contains(word) && error.report().contains(&head),
            "{error:?}"
        );
    }
}
