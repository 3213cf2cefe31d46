//! A process that lands a delivery while another is about to try again: the load that the next attempt stands on knows.

use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use landfast::error::ErrorKind;
use landfast::trigger::DeliveryId;
use libtest_mimic::Trial;
use object_store::memory::InMemory;

use super::{ACK_DEADLINE, House, declared, idle, row, unavailable};
use crate::support::clock::TestClock;
use crate::support::faults::{Fault, Faults, Gate, Op};
use crate::support::tables::orders;
use crate::support::{TestResult, paused_trials};

pub fn tests() -> Vec<Trial> {
    paused_trials![
        delivery_that_lands_elsewhere_between_reload_and_retry_lands_once,
        request_of_a_flight_that_was_given_up_takes_no_batch,
        key_that_another_lands_with_another_body_is_refused_after_an_unknown_outcome,
    ]
}

/// Two processes over one warehouse.
fn two_processes() -> (House, House) {
    let objects = Arc::new(InMemory::new());
    let process = |seed: u64, ahead: i64| {
        let (faults, letters) = (Faults::default(), Faults::default());
        let warehouse = faults.store("memory:///w", objects.clone());
        let kept = letters.store("memory:///d", InMemory::new());
        let clock = TestClock::at(Utc::now() + TimeDelta::seconds(ahead));
        House::over(declared(), seed, clock, (faults, warehouse), (letters, kept))
    };
    (process(1, 0), process(2, 5))
}

async fn delivery_that_lands_elsewhere_between_reload_and_retry_lands_once() -> TestResult {
    let (house, other) = two_processes();
    house.send(0)?.acked().await?;

    // A commit that is given up makes the committer ask for a fresh load; row 1 waits already, decoded for the old one,
    // so the writer opens the table anew only after it has handed row 1 over.
    let stuck = house.faults.hold(Op::Put, "v3.metadata.json");
    let (hopeless, given_up) = house.delivery("hopeless", &row(9), Duration::from_secs(20))?;
    house.writers.accept(orders(), &house.config, hopeless);
    stuck.reached().await;
    let first = house.send(1)?;
    let late = Gate::new();
    let lost = Fault::Late(late.clone());
    house.faults.once(Op::Put, "v3.metadata.json", lost);
    unavailable(&given_up.nacked().await?);

    // Row 1's attempt gets no answer, and its reload has seen that version 3 is free: it is about to read version 2.
    late.reached().await;
    let reload = house.faults.hold(Op::Get, "v2.metadata.json");
    reload.reached().await;
    other.send(1)?.acked().await?;
    // Row 2 opens the table, finds version 3, and joins row 1's retry with it.
    let second = house.send(2)?;
    idle().await;
    reload.release();
    first.acked().await?;
    second.acked().await?;
    assert_eq!(house.ids().await?, [0, 1, 2]);

    // What was on its way comes at last, and finds its name taken.
    stuck.release_and_settle().await;
    late.release_and_settle().await;
    assert_eq!(house.ids().await?, [0, 1, 2]);
    let (again, landed) = house.delivery("hopeless", &row(9), ACK_DEADLINE)?;
    house.writers.accept(orders(), &house.config, again);
    landed.acked().await?;
    assert_eq!(house.ids().await?, [0, 1, 2, 9]);
    house.close().await?;
    other.close().await
}

async fn request_of_a_flight_that_was_given_up_takes_no_batch() -> TestResult {
    let (house, other) = two_processes();
    house.send(0)?.acked().await?;

    // As above: row 1 waits already, so the writer opens the table anew once it has handed row 1 over.
    let stuck = house.faults.hold(Op::Put, "v3.metadata.json");
    let (hopeless, given_up) = house.delivery("hopeless", &row(9), Duration::from_secs(5))?;
    house.writers.accept(orders(), &house.config, hopeless);
    stuck.reached().await;
    let (first, landed) = house.delivery("1", &row(1), Duration::from_secs(15))?;
    house.writers.accept(orders(), &house.config, first);
    house.faults.once(Op::Put, "v3.metadata.json", Fault::Refuse);
    let reload = house.faults.hold(Op::Get, "v2.metadata.json");
    unavailable(&given_up.nacked().await?);
    reload.reached().await;

    // While the writer opens the table for row 2, row 1's flight asks whether there is more, and is given up.
    let opening = house.faults.hold(Op::Get, "v2.metadata.json");
    let second = house.send(2)?;
    opening.reached().await;
    reload.release();
    unavailable(&landed.nacked().await?);
    opening.release();
    second.acked().await?;
    assert_eq!(house.ids().await?, [0, 2]);
    stuck.release_and_settle().await;
    house.close().await?;
    other.close().await
}

async fn key_that_another_lands_with_another_body_is_refused_after_an_unknown_outcome() -> TestResult {
    let (house, other) = two_processes();
    house.send(0)?.acked().await?;
    let send = |house: &House, id: i64| -> TestResult<_> {
        let (mut delivery, sent) = house.delivery("k", &row(id), ACK_DEADLINE)?;
        delivery.envelope.id = DeliveryId::keyed("nobody", "k");
        delivery.envelope.fingerprint = Some(id.unsigned_abs().into());
        house.writers.accept(orders(), &house.config, delivery);
        Ok(sent)
    };
    let late = Gate::new();
    let lost = Fault::Late(late.clone());
    house.faults.once(Op::Put, "v3.metadata.json", lost);
    let refused = send(&house, 1)?;
    late.reached().await;
    let reload = house.faults.hold(Op::Get, "v2.metadata.json");
    reload.reached().await;
    send(&other, 2)?.acked().await?;
    reload.release();
    let error = refused.nacked().await?;
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{}", error.report());
    late.release_and_settle().await;
    assert_eq!(house.ids().await?, [0, 2]);
    house.close().await?;
    other.close().await
}
