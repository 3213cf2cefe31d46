//! What a fault costs: the deliveries it hits are refused or retried, their neighbours land.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use iceberg::TableIdent;
use landfast::clock::Moment;
use landfast::commit::{ChangeSet, Engine, Group};
use landfast::error::Action;
use landfast::ledger::{Entry, Forgetting, Ledger};
use landfast::maintenance::forget;
use landfast::random::Random;
use landfast::trigger::DeliveryId;
use libtest_mimic::Trial;

use super::{ACK_DEADLINE, House, INTERVAL, declared, idle, row, unavailable};
use crate::support::clock::TestClock;
use crate::support::faults::{Fault, Gate, Op};
use crate::support::tables::{create, files_of, orders};
use crate::support::{TestResult, paused_trials};

pub fn tests() -> Vec<Trial> {
    paused_trials![
        commits_survive_every_answer_of_the_metadata_write,
        metadata_that_is_never_written_is_a_nack_at_the_deadline,
        metadata_write_that_hangs_is_a_nack_at_the_deadline,
        data_file_that_hangs_is_a_nack_at_the_deadline,
        unwritable_warehouse_is_a_nack,
        failed_dead_letter_costs_its_own_delivery_only,
        rejected_records_are_kept_once_over_redelivery,
        poison_stops_nothing,
        recreated_table_is_taken_up,
        recreated_table_is_taken_up_after_a_failed_file,
        recreated_table_takes_what_the_old_one_had,
        what_another_process_forgot_lands_again,
        head_whose_segments_were_swept_is_loaded_afresh,
    ]
}

async fn commits_survive_every_answer_of_the_metadata_write() -> TestResult {
    for fault in [
        Fault::Refuse,
        Fault::FailAfter,
        Fault::Repeat,
        Fault::Late(Gate::new()),
        Fault::Delay(Duration::from_secs(20)),
    ] {
        let house = House::new(declared());
        house.faults.once(Op::Put, "v2.metadata.json", fault.clone());
        let (first, second) = (house.send(1)?, house.send(2)?);
        first.acked().await?;
        second.acked().await?;
        if let Fault::Late(gate) = fault {
            gate.release_and_settle().await;
        }
        assert_eq!(house.ids().await?, [1, 2]);
        house.close().await?;
    }
    Ok(())
}

async fn metadata_that_is_never_written_is_a_nack_at_the_deadline() -> TestResult {
    let house = House::new(declared());
    house.faults.always(Op::Put, "v2.metadata.json", Fault::Refuse);
    let (outcome, at) = house.send(1)?.outcome().await?;
    unavailable(&outcome.expect_err("never written"));
    let waited = at - house.started;
    assert!(
        (ACK_DEADLINE - Duration::from_secs(1)..=ACK_DEADLINE).contains(&waited),
        "{waited:?}"
    );
    assert!(house.warehouse.keys("shop/orders/data").await?.len() == 1);
    // The redelivery lands, on its own.
    house.faults.clear();
    house.send(1)?.acked().await?;
    assert_eq!(house.ids().await?, [1]);
    house.close().await
}

async fn metadata_write_that_hangs_is_a_nack_at_the_deadline() -> TestResult {
    let house = House::new(declared());
    let gate = house.faults.hold(Op::Put, "v2.metadata.json");
    hangs(&house, &gate).await
}

async fn data_file_that_hangs_is_a_nack_at_the_deadline() -> TestResult {
    let house = House::new(declared());
    let gate = house.faults.hold(Op::Put, ".parquet");
    hangs(&house, &gate).await
}

async fn hangs(house: &House, gate: &Gate) -> TestResult {
    let sent = house.send(1)?;
    gate.reached().await;
    let (outcome, at) = tokio::time::timeout(ACK_DEADLINE * 2, sent.outcome()).await??;
    unavailable(&outcome.expect_err("it hangs"));
    assert!(at - house.started <= ACK_DEADLINE + Duration::from_millis(1));
    let redelivered = house.send(1)?;
    redelivered.acked().await?;
    gate.release();
    idle().await;
    assert_eq!(house.ids().await?, [1]);
    house.close().await
}

async fn unwritable_warehouse_is_a_nack() -> TestResult {
    let house = House::new(declared());
    house.faults.always(Op::Put, "", Fault::Refuse);
    let sent: Vec<_> = (1..5).map(|id| house.send(id)).collect::<TestResult<_>>()?;
    for sent in sent {
        let error = sent.nacked().await?;
        unavailable(&error);
        assert_eq!(error.kind().action(), Action::Nack(503));
    }
    idle().await;
    assert_eq!((house.limits.held_bytes(), house.limits.held_requests()), (0, 0));
    // Whichever file it is that cannot be written, the deliveries land once it can be.
    for (id, path) in [
        (1, "v1.metadata.json"),
        (2, ".parquet"),
        (3, "-m0.avro"),
        (4, "/snap-"),
    ] {
        house.faults.clear();
        house.faults.always(Op::Put, path, Fault::Refuse);
        tokio::time::sleep(INTERVAL).await;
        unavailable(&house.send(id)?.nacked().await?);
        house.faults.clear();
        tokio::time::sleep(INTERVAL).await;
        house.send(id)?.acked().await?;
    }
    assert_eq!(house.ids().await?, [1, 2, 3, 4]);
    house.close().await
}

async fn failed_dead_letter_costs_its_own_delivery_only() -> TestResult {
    let house = House::new(declared());
    house.send(0)?.acked().await?;
    house.letter_faults.always(Op::Put, "", Fault::Refuse);
    let mixed = format!("{}\n{{\"id\":\"x\"}}", row(2));
    let sent = [
        house.send(1)?,
        house.send_payload("mixed", &mixed)?,
        house.send(3)?,
        house.send_payload("poison", "]")?,
        house.send(4)?,
    ];
    let [first, mixed_sent, third, poison, fourth] = sent;
    for good in [first, third, fourth] {
        good.acked().await?;
    }
    unavailable(&mixed_sent.nacked().await?);
    unavailable(&poison.nacked().await?);
    assert_eq!(house.ids().await?, [0, 1, 3, 4]);

    house.letter_faults.clear();
    let (receipt, _) = house.send_payload("mixed", &mixed)?.acked().await?;
    assert_eq!((receipt.row_count, receipt.dead_letter_count), (1, 1));
    assert_eq!(house.ids().await?, [0, 1, 2, 3, 4]);
    house.close().await
}

async fn rejected_records_are_kept_once_over_redelivery() -> TestResult {
    let house = House::new(declared());
    let mixed = format!("{}\n{{\"id\":\"x\"}}", row(1));
    // The letter is written, its answer is lost; then the commit is not written at all; then all is well.
    house.letter_faults.once(Op::Put, "", Fault::FailAfter);
    unavailable(&house.send_payload("mixed", &mixed)?.nacked().await?);
    house.faults.always(Op::Put, "v2.metadata.json", Fault::Refuse);
    unavailable(&house.send_payload("mixed", &mixed)?.nacked().await?);
    house.faults.clear();
    house.send_payload("mixed", &mixed)?.acked().await?;
    assert_eq!(house.ids().await?, [1]);
    assert_eq!(house.letter_kinds().await?.len(), 1);
    // What the refused attempts wrote waits, and does not count.
    assert_eq!(house.letters.keys("confirmed").await?.len(), 1);
    assert_eq!(house.letters.keys("pending").await?.len(), 2);
    house.close().await
}

/// A process that was idle for days knows a head whose segments were merged and swept since.
async fn head_whose_segments_were_swept_is_loaded_afresh() -> TestResult {
    let house = House::new(declared());
    create(house.catalog.as_ref(), &orders()).await?;
    let clock = TestClock::at(Utc::now());
    let random = Arc::new(Random::seeded(7));
    let ledger = Ledger::new(house.warehouse.clone());
    let elsewhere = Engine::new(house.catalog.clone(), ledger, clock.clone(), random.clone());
    let late = DateTime::from_timestamp(100_000, 0).unwrap_or_default();
    let id = |message: &str| DeliveryId::message("projects/p/subscriptions/s", message, late);
    let entries: Vec<Entry> = (0..1100)
        .map(|number| Entry::from(&id(&number.to_string())))
        .collect();
    let mut head = elsewhere.head(house.catalog.load_table(&orders()).await?).await?;
    let mut changes = ChangeSet::append(random.uuid(), Moment::now(clock.as_ref()));
    let files = files_of(head.table(), &[1], &random).await?;
    changes.add(Group::durable(files, entries.clone()));
    elsewhere.attempt(&mut head, &mut changes).await?;
    // The first process takes the segment up, and has no reason to read it: its message is of another day.
    house.send(2000)?.acked().await?;
    let segments = house.warehouse.keys("_landfast").await?;
    let segments: Vec<_> = segments.iter().filter(|key| key.contains("segment-")).collect();
    assert_eq!(segments.len(), 1);
    let one = Forgetting {
        since: None,
        ids: [entries[0].id].into(),
    };
    forget(&elsewhere, &orders(), &one, false).await?;
    assert!(house.warehouse.delete(segments[0]).await?);
    for (message, ids) in [("1", vec![1, 2000]), ("fresh", vec![1, 4, 2000])] {
        let (mut delivery, sent) = house.delivery(message, &row(4), ACK_DEADLINE)?;
        delivery.envelope.id = id(message);
        house.writers.accept(orders(), &house.config, delivery);
        let (receipt, _) = sent.acked().await?;
        assert_eq!(receipt.duplicate, message == "1");
        assert_eq!(house.ids().await?, ids);
    }
    house.writers.close().await;
    Ok(())
}

async fn poison_stops_nothing() -> TestResult {
    let house = House::new(declared());
    house.send(0)?.acked().await?;
    let poison = [
        "]",
        "",
        "{\"id\":",
        "{\"id\":null}",
        "7",
        "{\"id\":1e99}",
        "\u{0}",
    ];
    let mut sent = Vec::new();
    for (place, payload) in poison.iter().enumerate() {
        sent.push(house.send_payload(&format!("poison {place}"), payload)?);
        sent.push(house.send(i64::try_from(place)? + 1)?);
    }
    for sent in sent {
        sent.acked().await?;
    }
    assert_eq!(house.ids().await?, (0..=7).collect::<Vec<_>>());
    let letters = house.letters.keys("").await?;
    assert!(letters.len() >= poison.len() - 1, "{letters:?}");
    house.close().await
}

/// Sends until it lands; what is on its way when the table changes may be refused.
async fn lands_within(house: &House, id: i64, attempts: usize) -> TestResult {
    let mut last = None;
    for _ in 0..attempts {
        tokio::time::sleep(INTERVAL).await;
        match house.send(id)?.outcome().await?.0 {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
    }
    Err(format!("It never landed: {last:?}").into())
}

async fn recreated_table_is_taken_up() -> TestResult {
    recreated_table_takes(2).await
}

/// Nothing but redeliveries comes, so no commit finds out that the table is another.
async fn recreated_table_takes_what_the_old_one_had() -> TestResult {
    recreated_table_takes(1).await
}

async fn recreated_table_takes(id: i64) -> TestResult {
    let house = House::new(declared());
    house.send(1)?.acked().await?;
    recreate(&house, &orders()).await?;
    // One delivery finds out.
    lands_within(&house, id, 2).await?;
    assert_eq!(house.ids().await?, [id]);
    house.close().await
}

async fn recreated_table_is_taken_up_after_a_failed_file() -> TestResult {
    let house = House::new(declared());
    house.send(1)?.acked().await?;
    house.faults.once(Op::Put, ".parquet", Fault::Refuse);
    tokio::time::sleep(INTERVAL).await;
    unavailable(&house.send(2)?.nacked().await?);
    recreate(&house, &orders()).await?;
    lands_within(&house, 2, 2).await?;
    assert_eq!(house.ids().await?, [2]);
    house.close().await
}

async fn what_another_process_forgot_lands_again() -> TestResult {
    let house = House::new(declared());
    let (first, second) = (house.send(1)?, house.send(2)?);
    first.acked().await?;
    second.acked().await?;
    assert!(house.send(1)?.acked().await?.0.duplicate);
    let id = house.delivery("1", &row(1), ACK_DEADLINE)?.0.envelope.id.clone();
    let ledger = Ledger::new(house.warehouse.clone());
    let (clock, random) = (TestClock::at(Utc::now()), Arc::new(Random::seeded(7)));
    let elsewhere = Engine::new(house.catalog.clone(), ledger, clock, random);
    let one = Forgetting {
        since: None,
        ids: [Entry::from(&id).id].into(),
    };
    assert_eq!(forget(&elsewhere, &orders(), &one, false).await?.forgotten, 1);
    assert!(house.send(2)?.acked().await?.0.duplicate);
    assert!(!house.send(1)?.acked().await?.0.duplicate);
    assert_eq!(house.ids().await?, [1, 1, 2]);
    house.close().await
}

async fn recreate(house: &House, ident: &TableIdent) -> TestResult {
    house.catalog.drop_table(ident).await?;
    create(house.catalog.as_ref(), ident).await?;
    Ok(())
}
