//! When a batch is committed, and what travels together.

use std::time::Duration;

use iceberg::TableUpdate;
use landfast::catalog::{Outcome, TableCommit};
use landfast::config::BatchConfig;
use landfast::error::ErrorKind;
use libtest_mimic::Trial;

use super::{ACK_DEADLINE, House, INTERVAL, SLOTS, declared, idle, inferred, row, unavailable};
use crate::support::faults::Op;
use crate::support::tables::orders;
use crate::support::{TestResult, paused_trials};

pub fn tests() -> Vec<Trial> {
    paused_trials![
        first_delivery_commits_at_once_and_later_ones_wait_for_the_interval,
        zero_interval_commits_without_waiting,
        full_batch_by_rows_does_not_wait,
        full_batch_by_bytes_does_not_wait,
        pressure_flushes_the_fullest_table,
        pressure_decides_a_schema_early,
        close_flushes_and_answers_everything,
        close_during_a_commit_answers_what_waits_behind_it,
        delivery_after_close_is_refused,
        next_batch_fills_while_one_commits,
        retry_takes_along_what_arrived_meanwhile,
        dropped_answer_does_no_harm,
        delivery_that_has_no_time_left_is_refused_alone,
        no_commit_begins_that_would_end_too_late,
    ]
}

async fn first_delivery_commits_at_once_and_later_ones_wait_for_the_interval() -> TestResult {
    let house = House::new(declared());
    let (receipt, at) = house.send(1)?.acked().await?;
    assert_eq!((receipt.row_count, at), (1, house.started));
    assert!(receipt.snapshot_id.is_some());
    let waiting = [house.send(2)?, house.send(3)?];
    tokio::time::sleep(INTERVAL / 2).await;
    assert!(!waiting[0].is_answered());
    for sent in waiting {
        let (_, at) = sent.acked().await?;
        assert_eq!((at - house.started).as_millis(), INTERVAL.as_millis());
    }
    assert_eq!(house.commits().await?, [1, 2]);
    // After a pause longer than the interval nothing is left to wait for.
    tokio::time::sleep(INTERVAL * 3).await;
    let sent_at = tokio::time::Instant::now();
    let (_, at) = house.send(4)?.acked().await?;
    assert_eq!(at, sent_at);
    house.close().await
}

async fn zero_interval_commits_without_waiting() -> TestResult {
    let mut config = declared();
    config.batch.commit_interval = Duration::ZERO;
    let house = House::new(config);
    for id in 0..3 {
        let (_, at) = house.send(id)?.acked().await?;
        assert_eq!(at, house.started);
    }
    house.close().await
}

async fn full_batch_by_rows_does_not_wait() -> TestResult {
    let mut config = declared();
    config.batch.max_rows = 3;
    full_batch_does_not_wait(config.batch).await
}

async fn full_batch_by_bytes_does_not_wait() -> TestResult {
    let mut config = declared();
    config.batch.max_bytes = 1;
    full_batch_does_not_wait(config.batch).await
}

async fn full_batch_does_not_wait(batch: BatchConfig) -> TestResult {
    let house = House::new(landfast::config::TableConfig { batch, ..declared() });
    house.send(0)?.acked().await?;
    let sent = [house.send(1)?, house.send(2)?, house.send(3)?];
    for sent in sent {
        let (_, at) = sent.acked().await?;
        assert_eq!(at, house.started);
    }
    assert_eq!(house.ids().await?, [0, 1, 2, 3]);
    house.close().await
}

async fn pressure_flushes_the_fullest_table() -> TestResult {
    let house = House::new(declared());
    let writers = house.writers.clone();
    let relief = tokio::spawn(async move { writers.relieve_pressure().await });
    let other = iceberg::TableIdent::from_strs(["shop", "items"])?;
    let send_other = |id: i64| -> TestResult<super::Sent> {
        let (delivery, sent) = house.delivery(&format!("other {id}"), &row(id), ACK_DEADLINE)?;
        house.writers.accept(other.clone(), &house.config, delivery);
        Ok(sent)
    };
    house.send(0)?.acked().await?;
    send_other(0)?.acked().await?;

    let mark = SLOTS * 4 / 5;
    let few: Vec<_> = (1..4).map(send_other).collect::<TestResult<_>>()?;
    let first_id = 4;
    let below: Vec<_> = (first_id..i64::try_from(mark)?)
        .map(|id| house.send(id))
        .collect::<TestResult<_>>()?;
    idle().await;
    assert!(below.iter().chain(&few).all(|sent| !sent.is_answered()));
    // The delivery that crosses the mark.
    let crossing = house.send(100)?;
    for sent in below {
        let (_, at) = sent.acked().await?;
        assert!(at - house.started < INTERVAL / 2);
    }
    assert!(few.iter().all(|sent| !sent.is_answered()));
    for sent in few.into_iter().chain([crossing]) {
        sent.acked().await?;
    }
    relief.abort();
    house.close().await
}

async fn pressure_decides_a_schema_early() -> TestResult {
    let house = House::new(inferred());
    let writers = house.writers.clone();
    let relief = tokio::spawn(async move { writers.relieve_pressure().await });
    let mark = i64::try_from(SLOTS * 4 / 5)?;
    let below: Vec<_> = (1..mark).map(|id| house.send(id)).collect::<TestResult<_>>()?;
    idle().await;
    assert!(below.iter().all(|sent| !sent.is_answered()));
    let crossing = house.send(mark)?;
    for sent in below {
        let (_, at) = sent.acked().await?;
        assert!((at - house.started).as_millis() < 500, "{:?}", at - house.started);
    }
    crossing.acked().await?;
    relief.abort();
    house.close().await
}

async fn close_flushes_and_answers_everything() -> TestResult {
    for config in [declared(), inferred()] {
        let house = House::new(config);
        house.send(0)?.acked().await?;
        let sent: Vec<_> = (1..10).map(|id| house.send(id)).collect::<TestResult<_>>()?;
        let closing = tokio::time::Instant::now();
        house.close().await?;
        assert!(closing.elapsed().as_millis() < 100);
        for sent in sent {
            sent.acked().await?;
        }
        assert_eq!(house.ids().await?, (0..10).collect::<Vec<_>>());
    }
    // What waits for its schema does not wait any longer either.
    let house = House::new(inferred());
    let sent = house.send(1)?;
    house.close().await?;
    let (_, at) = sent.acked().await?;
    assert!((at - house.started).as_millis() < 100);
    Ok(())
}

async fn close_during_a_commit_answers_what_waits_behind_it() -> TestResult {
    let house = House::new(declared());
    let gate = house.faults.hold(Op::Put, "v2.metadata.json");
    let first = house.send(1)?;
    gate.reached().await;
    let second = house.send(2)?;
    idle().await;
    let writers = house.writers.clone();
    let closing = tokio::spawn(async move { writers.close().await });
    idle().await;
    assert!(!closing.is_finished());
    gate.release();
    closing.await?;
    first.acked().await?;
    second.acked().await?;
    assert_eq!(house.ids().await?, [1, 2]);
    house.close().await
}

async fn delivery_after_close_is_refused() -> TestResult {
    let house = House::new(declared());
    house.close().await?;
    let error = house.send(1)?.nacked().await?;
    assert_eq!(error.kind(), ErrorKind::ShuttingDown);
    house.close().await
}

async fn next_batch_fills_while_one_commits() -> TestResult {
    let house = House::new(declared());
    let gate = house.faults.hold(Op::Put, "v2.metadata.json");
    let first = house.send(1)?;
    gate.reached().await;
    let rest: Vec<_> = (2..8).map(|id| house.send(id)).collect::<TestResult<_>>()?;
    tokio::time::sleep(INTERVAL * 2).await;
    assert!(rest.iter().all(|sent| !sent.is_answered()));
    gate.release();
    let (_, first_at) = first.acked().await?;
    for sent in rest {
        // The interval was over long before.
        let (_, at) = sent.acked().await?;
        assert_eq!(at, first_at);
    }
    assert_eq!(house.commits().await?, [1, 6]);
    house.close().await
}

async fn retry_takes_along_what_arrived_meanwhile() -> TestResult {
    let house = House::new(declared());
    house.send(0)?.acked().await?;
    tokio::time::sleep(INTERVAL).await;
    let gate = house.faults.hold(Op::Put, "v3.metadata.json");
    let first = house.send(1)?;
    gate.reached().await;
    // Another process wins the race while this one is held, and more arrives.
    let base = house.catalog.load_table(&orders()).await?;
    let commit = TableCommit {
        requirements: Vec::new(),
        updates: vec![TableUpdate::SetProperties {
            updates: [("a".to_owned(), "b".to_owned())].into(),
        }],
    };
    let outcome = house.catalog.commit_table(&base, commit).await;
    assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    let second = house.send(2)?;
    idle().await;
    gate.release();
    let (first, second) = (first.acked().await?.0, second.acked().await?.0);
    assert_eq!(first.snapshot_id, second.snapshot_id);
    assert_eq!(house.commits().await?, [1, 2]);
    assert_eq!(house.ids().await?, [0, 1, 2]);
    house.close().await
}

async fn dropped_answer_does_no_harm() -> TestResult {
    let house = House::new(declared());
    house.send(0)?.acked().await?;
    let gone = house.send(1)?;
    let stays = house.send(2)?;
    gone.0.abort();
    stays.acked().await?;
    assert_eq!(house.ids().await?, [0, 1, 2]);
    house.close().await
}

async fn delivery_that_has_no_time_left_is_refused_alone() -> TestResult {
    let house = House::new(declared());
    house.send(0)?.acked().await?;
    let neighbour = house.send(1)?;
    let mut late = Vec::new();
    // Too late when it comes, and when its batch is due two seconds after the last.
    for (id, patience) in [(2, 500), (3, 2_500)] {
        let patience = Duration::from_millis(patience);
        let (delivery, sent) = house.delivery(&id.to_string(), &row(id), patience)?;
        house.writers.accept(orders(), &house.config, delivery);
        late.push(sent);
    }
    for sent in late {
        let error = sent.nacked().await?;
        unavailable(&error);
        assert!(
            error.report().contains("too little of its time"),
            "{}",
            error.report()
        );
    }
    neighbour.acked().await?;
    assert_eq!(house.ids().await?, [0, 1]);
    let again = [house.send(2)?, house.send(3)?];
    for sent in again {
        sent.acked().await?;
    }
    assert_eq!(house.ids().await?, [0, 1, 2, 3]);
    house.close().await
}

async fn no_commit_begins_that_would_end_too_late() -> TestResult {
    let house = House::new(declared());
    let gate = house.faults.hold(Op::Put, "v2.metadata.json");
    let first = house.send(0)?;
    gate.reached().await;
    tokio::time::sleep(INTERVAL * 2).await;
    gate.release();
    first.acked().await?;
    let send = |id: i64, seconds: u64| -> TestResult<_> {
        let (delivery, sent) = house.delivery(&id.to_string(), &row(id), Duration::from_secs(seconds))?;
        house.writers.accept(orders(), &house.config, delivery);
        Ok(sent)
    };
    // The last took four seconds.
    let error = send(1, 4)?.nacked().await?;
    assert!(
        error.report().contains("too little of its time"),
        "{}",
        error.report()
    );
    assert_eq!(house.commits().await?, [1]);
    // Refused once, it is not for good.
    send(2, 4)?.acked().await?;
    send(3, 4)?.acked().await?;
    assert_eq!(house.ids().await?, [0, 2, 3]);
    house.close().await
}
