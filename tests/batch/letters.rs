//! Rejected records are bound to the commit: whatever fails between their steps, and however the delivery is decoded when
//! it comes again, each is a row or a letter, once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use landfast::clock::Clock;
use landfast::commit::Engine;
use landfast::dead_letter::DeadLetters;
use landfast::decode::{Reason, RejectKind, RejectedRecord};
use landfast::ledger::{DEFAULT_RETENTION, Ledger};
use landfast::maintenance::{Settled, settle_letters};
use landfast::random::Random;
use landfast::trigger::{DeliveryId, Envelope};
use libtest_mimic::Trial;

use super::{ACK_DEADLINE, House, declared, inferred, row, unavailable};
use crate::support::aged::AgedStore;
use crate::support::clock::TestClock;
use crate::support::faults::{Fault, Faults, Op};
use crate::support::tables::orders;
use crate::support::{TestResult, paused_trials};

/// Row 1, and a record that is a row only where a string column takes any value.
const MIXED: &str = "{\"id\":1,\"name\":\"n1\"}\n{\"id\":2,\"name\":5}";
/// No row, or one.
const DOUBTFUL: &str = "{\"id\":2,\"name\":5}";

pub fn tests() -> Vec<Trial> {
    paused_trials![
        schema_that_changes_between_attempts_neither_loses_nor_doubles_a_record,
        crash_between_any_two_steps_neither_loses_nor_doubles_a_record,
        letters_alone_are_remembered,
        copy_that_tells_another_second_finds_the_letters,
        settled_letters_are_those_that_the_ledger_names,
        settling_moves_the_fence_of_a_table_that_stands_still,
        settling_reads_a_line_of_a_letter,
        letters_whose_delivery_is_forgotten_are_never_deleted,
    ]
}

/// Two processes over one lake. The first is strict about strings; the second decodes what the first rejects.
struct Pair {
    clock: Arc<TestClock>,
    warehouse: AgedStore,
    letters: AgedStore,
    first: House,
    second: House,
}

impl Pair {
    fn new() -> Self {
        let clock = TestClock::at(Utc::now());
        let (warehouse, letters) = (AgedStore::new(clock.clone()), AgedStore::new(clock.clone()));
        let house = |config, seed| {
            let (faults, letter_faults) = (Faults::default(), Faults::default());
            let stores = (
                faults.store("memory:///w", warehouse.clone()),
                letter_faults.store("memory:///d", letters.clone()),
            );
            let (seen, kept) = ((faults, stores.0), (letter_faults, stores.1));
            House::over(config, seed, clock.clone(), seen, kept)
        };
        Self {
            first: house(declared(), 1),
            second: house(inferred(), 2),
            clock,
            warehouse,
            letters,
        }
    }

    /// Where the doubtful record is: in the table, and among the letters that count.
    async fn fate(&self) -> TestResult<(usize, usize)> {
        let rows = self.second.ids().await?;
        let letters = self.second.letter_kinds().await?;
        Ok((rows.iter().filter(|id| **id == 2).count(), letters.len()))
    }

    fn engine(&self) -> Engine {
        let store = Faults::default().store("memory:///w", self.warehouse.clone());
        let clock: Arc<dyn Clock> = self.clock.clone();
        let random = Arc::new(Random::seeded(9));
        Engine::new(self.second.catalog.clone(), Ledger::new(store), clock, random)
    }

    fn kept_letters(&self) -> DeadLetters {
        DeadLetters::new(Faults::default().store("memory:///d", self.letters.clone()))
    }

    async fn settled(&self, dry_run: bool) -> TestResult<Settled> {
        let (engine, letters) = (self.engine(), self.kept_letters());
        Ok(settle_letters(&engine, &letters, &orders(), DEFAULT_RETENTION, dry_run).await?)
    }

    async fn settle(&self, dry_run: bool) -> TestResult<(u64, u64, u64)> {
        let settled = self.settled(dry_run).await?;
        assert_eq!(settled.forgotten, 0);
        Ok((settled.confirmed, settled.deleted, settled.waiting))
    }

    /// Lands a row that was published so many days after the epoch, when all others here are.
    async fn land_after(&self, days: i64) -> TestResult {
        let (mut delivery, sent) = self.first.delivery("after", &row(days), ACK_DEADLINE)?;
        let envelope = &mut delivery.envelope;
        envelope.published_at += TimeDelta::days(days);
        envelope.id = DeliveryId::message("s", format!("after {days}"), envelope.published_at);
        self.first.writers.accept(orders(), &self.first.config, delivery);
        sent.acked().await?;
        Ok(())
    }

    /// Keeps a letter of a request with a key, of which no commit is made.
    async fn wait_for_request(&self, key: &str) -> TestResult {
        let (delivery, _sent) = self.first.delivery(key, DOUBTFUL, ACK_DEADLINE)?;
        let envelope = Envelope {
            id: DeliveryId::keyed("idempotency-key", key),
            ..delivery.envelope.clone()
        };
        let record = RejectedRecord {
            position: 0,
            reason: Reason {
                kind: RejectKind::WrongType,
                message: "not a string".to_owned(),
                path: None,
            },
            raw: Bytes::from_static(DOUBTFUL.as_bytes()),
        };
        let id = Random::seeded(5).timed_uuid(self.clock.now());
        let letters = self.kept_letters();
        Ok(letters
            .write_pending(&envelope, "shop.orders", id, &[record])
            .await?)
    }

    /// Confirmed, and still waiting.
    async fn objects(&self) -> TestResult<(usize, usize)> {
        let letters = &self.second.letters;
        Ok((
            letters.keys("confirmed").await?.len(),
            letters.keys("pending").await?.len(),
        ))
    }
}

/// A step, and whether a delivery that gets no further is in the table.
struct Step {
    of_letters: bool,
    op: Op,
    pattern: &'static str,
    after_commit: bool,
}

const fn step(of_letters: bool, op: Op, pattern: &'static str, after_commit: bool) -> Step {
    Step {
        of_letters,
        op,
        pattern,
        after_commit,
    }
}

const STEPS: [Step; 8] = [
    step(true, Op::Put, "pending", false),
    step(false, Op::Put, "-m0.avro", false),
    step(false, Op::Put, "/snap-", false),
    step(false, Op::Put, "/head-", false),
    step(false, Op::Put, "v3.metadata.json", false),
    step(true, Op::Get, "pending", true),
    step(true, Op::Put, "confirmed", true),
    step(true, Op::Delete, "pending", true),
];

impl Step {
    fn faults<'a>(&self, house: &'a House) -> &'a Faults {
        match self.of_letters {
            true => &house.letter_faults,
            false => &house.faults,
        }
    }
}

async fn schema_that_changes_between_attempts_neither_loses_nor_doubles_a_record() -> TestResult {
    for payload in [MIXED, DOUBTFUL] {
        for step in &STEPS {
            for fault in [Fault::Refuse, Fault::FailAfter] {
                if payload == DOUBTFUL && step.pattern == "-m0.avro" {
                    continue;
                }
                let pair = Pair::new();
                pair.first.send(0)?.acked().await?;
                // For ever, so that no attempt of the first process gets by.
                step.faults(&pair.first)
                    .always(step.op, step.pattern, fault.clone());
                let (first, _) = pair.first.send_payload("doubtful", payload)?.outcome().await?;
                let tried = format!("{payload} {:?} {} {fault:?} {first:?}", step.op, step.pattern);
                // A metadata file that is there is the commit, whatever was answered.
                let landed = step.after_commit
                    || (matches!(fault, Fault::FailAfter) && step.pattern.starts_with("v3"));
                let expected = if landed { (0, 1) } else { (1, 0) };
                if first.is_ok() {
                    assert_eq!(pair.fate().await?, expected, "{tried}");
                }
                pair.second.send_payload("doubtful", payload)?.acked().await?;
                assert_eq!(pair.fate().await?, expected, "{tried}");
                step.faults(&pair.first).clear();
                for house in [&pair.first, &pair.second] {
                    house.send_payload("doubtful", payload)?.acked().await?;
                    assert_eq!(pair.fate().await?, expected, "{tried}");
                }
            }
        }
    }
    Ok(())
}

async fn crash_between_any_two_steps_neither_loses_nor_doubles_a_record() -> TestResult {
    for payload in [MIXED, DOUBTFUL] {
        for step in &STEPS {
            if payload == DOUBTFUL && step.pattern == "-m0.avro" {
                continue;
            }
            let pair = Pair::new();
            pair.first.send(0)?.acked().await?;
            let gate = step.faults(&pair.first).hold(step.op, step.pattern);
            let _nobody_hears = pair.first.send_payload("doubtful", payload)?;
            gate.reached().await;
            let tried = format!("{payload} {:?} {}", step.op, step.pattern);
            let expected = if step.after_commit { (0, 1) } else { (1, 0) };
            pair.second.send_payload("doubtful", payload)?.acked().await?;
            assert_eq!(pair.fate().await?, expected, "{tried}");
            // What was under way comes to its end after all.
            gate.release_and_settle().await;
            tokio::time::sleep(Duration::from_secs(120)).await;
            assert_eq!(pair.fate().await?, expected, "{tried}, released");
            pair.second.send_payload("doubtful", payload)?.acked().await?;
            assert_eq!(pair.fate().await?, expected, "{tried}, again");
        }
    }
    Ok(())
}

async fn letters_alone_are_remembered() -> TestResult {
    let pair = Pair::new();
    let (receipt, _) = pair.first.send_payload("doubtful", DOUBTFUL)?.acked().await?;
    assert_eq!(
        (receipt.row_count, receipt.dead_letter_count, receipt.snapshot_id),
        (0, 1, None)
    );
    let (again, _) = pair.second.send_payload("doubtful", DOUBTFUL)?.acked().await?;
    assert!(again.duplicate);
    assert_eq!(pair.fate().await?, (0, 1));
    // A payload without a record needs neither letter nor commit.
    let before = pair.first.commits().await?;
    pair.first.send_payload("empty", "[]")?.acked().await?;
    assert_eq!(pair.first.commits().await?, before);
    Ok(())
}

/// Push tells milliseconds and pull nanoseconds, so what they are floored to may differ.
async fn copy_that_tells_another_second_finds_the_letters() -> TestResult {
    let pair = Pair::new();
    pair.first.letter_faults.once(Op::Get, "pending", Fault::Refuse);
    unavailable(&pair.first.send_payload("doubtful", MIXED)?.nacked().await?);
    let (mut delivery, sent) = pair.second.delivery("doubtful", MIXED, ACK_DEADLINE)?;
    let envelope = &mut delivery.envelope;
    envelope.published_at += TimeDelta::seconds(1);
    envelope.id = DeliveryId::message("projects/p/subscriptions/s", "doubtful", envelope.published_at);
    pair.second
        .writers
        .accept(orders(), &pair.second.config, delivery);
    sent.acked().await?;
    assert_eq!(pair.fate().await?, (0, 1));
    Ok(())
}

async fn settled_letters_are_those_that_the_ledger_names() -> TestResult {
    let pair = Pair::new();
    pair.first.send(0)?.acked().await?;
    assert_eq!(pair.settle(false).await?, (0, 0, 0));
    // Committed, and nobody comes back to confirm it.
    pair.first.letter_faults.once(Op::Get, "pending", Fault::Refuse);
    unavailable(&pair.first.send_payload("committed", MIXED)?.nacked().await?);
    // Refused, and nobody comes back either.
    pair.first
        .faults
        .always(Op::Put, "v3.metadata.json", Fault::Refuse);
    pair.first
        .faults
        .always(Op::Put, "v4.metadata.json", Fault::Refuse);
    unavailable(&pair.first.send_payload("refused", DOUBTFUL)?.nacked().await?);
    pair.first.faults.clear();
    assert_eq!(pair.objects().await?, (0, 2));
    assert_eq!(pair.settle(true).await?, (1, 0, 1));
    assert_eq!(pair.objects().await?, (0, 2), "a dry run");
    assert_eq!(pair.settle(false).await?, (1, 0, 1));
    assert_eq!(pair.objects().await?, (1, 1));
    // Three days before a snapshot: whoever could commit it is gone.
    pair.clock.advance(TimeDelta::days(4));
    pair.first.send_payload("later", &row(7))?.acked().await?;
    assert_eq!(pair.settle(false).await?, (0, 1, 0));
    assert_eq!(pair.objects().await?, (1, 0));
    // The refused one comes at last, and is decoded as it is today.
    pair.second.send_payload("refused", DOUBTFUL)?.acked().await?;
    assert_eq!(pair.fate().await?, (1, 1));
    Ok(())
}

/// The place of the letters took none for longer than the ledger remembers: it does not name them any more, and they count.
async fn letters_whose_delivery_is_forgotten_are_never_deleted() -> TestResult {
    let pair = Pair::new();
    pair.first.send(0)?.acked().await?;
    // Committed, and one that was refused; nobody comes back for either.
    pair.first.letter_faults.once(Op::Get, "pending", Fault::Refuse);
    unavailable(&pair.first.send_payload("committed", MIXED)?.nacked().await?);
    for metadata in ["v3.metadata.json", "v4.metadata.json"] {
        pair.first.faults.always(Op::Put, metadata, Fault::Refuse);
    }
    unavailable(&pair.first.send_payload("refused", DOUBTFUL)?.nacked().await?);
    pair.first.faults.clear();
    pair.wait_for_request("early").await?;
    assert_eq!(pair.objects().await?, (0, 3));
    // The next message is nine days younger.
    pair.clock.advance(TimeDelta::days(5));
    pair.wait_for_request("late").await?;
    pair.clock.advance(TimeDelta::days(4));
    pair.land_after(9).await?;
    // A kept snapshot's head names the first. Of the second and of the early request nothing tells any more; the late one would
    // be remembered.
    let expected = Settled {
        confirmed: 1,
        deleted: 1,
        waiting: 0,
        forgotten: 2,
    };
    assert_eq!(pair.settled(true).await?, expected);
    assert_eq!(pair.settled(false).await?, expected);
    assert_eq!(pair.objects().await?, (1, 2));
    let commits = pair.second.commits().await?.len();
    let left = Settled {
        forgotten: 2,
        ..Settled::default()
    };
    assert_eq!(pair.settled(false).await?, left);
    assert_eq!(pair.objects().await?, (1, 2));
    assert_eq!(pair.second.commits().await?.len(), commits, "nothing to prove");
    Ok(())
}

/// What is looked up of an object is in each of its lines.
async fn settling_reads_a_line_of_a_letter() -> TestResult {
    let pair = Pair::new();
    let many = vec![DOUBTFUL; 500].join("\n");
    let long = format!("{{\"id\":2,\"name\":[\"{}\"]}}", "x".repeat(80_000));
    for (message, payload) in [("many", &many), ("long", &long)] {
        pair.first.letter_faults.once(Op::Get, "pending", Fault::Refuse);
        unavailable(&pair.first.send_payload(message, payload)?.nacked().await?);
    }
    let before = pair.letters.bytes_read();
    assert_eq!(pair.settle(true).await?, (2, 0, 0));
    let read = pair.letters.bytes_read() - before;
    // A glance at both, and the line that is longer than a glance: with all of the many it would be twice as much.
    assert!((200_000..300_000).contains(&read), "{read} bytes");
    assert_eq!(pair.settle(false).await?, (2, 0, 0));
    assert_eq!(pair.objects().await?, (2, 0));
    Ok(())
}

async fn settling_moves_the_fence_of_a_table_that_stands_still() -> TestResult {
    let pair = Pair::new();
    pair.first.send(0)?.acked().await?;
    let gate = pair.first.faults.hold(Op::Put, "v3.metadata.json");
    let _nobody_hears = pair.first.send_payload("paused", MIXED)?;
    gate.reached().await;
    pair.clock.advance(TimeDelta::days(4));
    let before = pair.second.commits().await?.len();
    assert_eq!(pair.settle(true).await?, (0, 1, 0));
    assert_eq!(pair.second.commits().await?.len(), before);
    assert_eq!(pair.settle(false).await?, (0, 1, 0));
    assert_eq!(pair.second.commits().await?.len(), before + 1);
    // The commit that was under way is too late.
    gate.release_and_settle().await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(pair.second.ids().await?, [0]);
    assert_eq!(pair.objects().await?, (0, 0));
    Ok(())
}
