//! What a worker holds at one time, while more is waiting than it may.

use std::pin::pin;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::json;

use super::{ROWS, all, counted, ids, stopped};
use crate::support::lake::Lake;
use crate::support::pubsub::PubSub;
use crate::support::server::Server;
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        held_messages_stay_within_their_number,
        held_messages_stay_within_their_bytes,
        message_larger_than_the_limit_blocks_no_other,
    ]
}

/// The most that a gauge shows until `done`.
async fn peak(worker: &Server, gauge: &str, done: impl Future<Output = TestResult>) -> TestResult<f64> {
    let (mut done, mut most) = (pin!(done), 0_f64);
    loop {
        tokio::select! {
            done = &mut done => return done.map(|()| most),
            () = tokio::time::sleep(Duration::from_millis(3)) => most = most.max(worker.metric(gauge).await?),
        }
    }
}

async fn held_messages_stay_within_their_number() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    for queue in ["rows", "more"] {
        pubsub.queue(queue).await?;
        let first = if queue == "rows" { 0 } else { 600 };
        pubsub.publish(queue, ids(first..first + 600)).await?;
    }
    let rest = "tables: { t.rows: { from: [{ subscription: rows }, { subscription: more }], schema: [{ name: id, type: long }] } }";
    let file = lake.config("max_in_flight_requests: 20", rest)?;
    let worker = pubsub.worker(&file).await?;
    let most = peak(
        &worker,
        "landfast_held_requests",
        counted(&worker, "landed", 1_200.0),
    )
    .await?;
    assert!(0.0 < most && most <= 20.0, "{most} held");
    stopped(worker).await?;
    assert_eq!(lake.ids("t.rows", "id")?, (all(0..1_200), 1_200));
    Ok(())
}

const TEXTS: &str = "tables: { t.rows: { from: [{ subscription: rows }], schema: [{ name: id, type: long }, { name: text, type: \
                     string }] } }";

async fn held_messages_stay_within_their_bytes() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    pubsub.queue("rows").await?;
    let text = "x".repeat(100_000);
    for id in 0..60 {
        let message = json!({ "id": id, "text": text }).to_string();
        pubsub.publish("rows", [message]).await?;
    }
    let file = lake.config("max_in_flight_bytes: 1MiB, max_body_bytes: 1MiB", TEXTS)?;
    let worker = pubsub.worker(&file).await?;
    let most = peak(&worker, "landfast_held_bytes", counted(&worker, "landed", 60.0)).await?;
    assert!(0.0 < most && most <= f64::from(1 << 20), "{most} bytes held");
    stopped(worker).await?;
    assert_eq!(lake.ids("t.rows", "id")?, (all(0..60), 60));
    Ok(())
}

async fn message_larger_than_the_limit_blocks_no_other() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    pubsub.queue("rows").await?;
    pubsub.publish("rows", ids(0..50)).await?;
    let large = json!({ "id": 50, "text": "x".repeat(200_000) }).to_string();
    pubsub.publish("rows", [large]).await?;
    pubsub.publish("rows", ids(51..100)).await?;
    let file = lake.config("max_in_flight_bytes: 128KiB, max_body_bytes: 64KiB", ROWS)?;
    let worker = pubsub.worker(&file).await?;
    counted(&worker, "landed", 99.0).await?;
    counted(&worker, "dead_letter", 1.0).await?;
    stopped(worker).await?;
    let expected = all(0..100).into_iter().filter(|id| *id != 50).collect();
    assert_eq!(lake.ids("t.rows", "id")?, (expected, 99));
    assert_eq!(lake.dead_letters()?.len(), 1);
    Ok(())
}
