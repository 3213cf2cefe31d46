//! Two processes on one folder: both land their pushes, whoever makes the tables.

use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::support::lake::Lake;
use crate::support::push::Push;
use crate::support::server::Server;
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        two_processes_write_one_folder,
        two_processes_make_one_declared_table,
        one_of_two_processes_is_killed_and_the_other_goes_on,
    ]
}

/// Both make the tables at the same time, and commit to them at the same time.
async fn feed_both(first: &Server, second: &Server, subscription: &str) -> TestResult {
    let pushes = |offset: i64| -> Vec<_> {
        (offset..offset + 200)
            .map(|id| Push::json(subscription, id, &json!({"id": id, "name": "x"})))
            .collect()
    };
    let (one, two) = (pushes(0), pushes(200));
    let (pusher, other) = (first.pusher(), second.pusher());
    let (statuses, others) = tokio::join!(pusher.push_all(&one, 16), other.push_all(&two, 16));
    assert!(
        statuses.iter().chain(&others).all(|status| *status == 204),
        "{statuses:?} {others:?}"
    );
    Ok(())
}

async fn two_processes_write_one_folder() -> TestResult {
    let lake = Lake::new()?;
    let (first, second) = (Server::dev(lake.path()).await?, Server::dev(lake.path()).await?);
    for subscription in ["a", "b", "c"] {
        feed_both(&first, &second, subscription).await?;
        let (ids, rows) = lake.ids(&format!("landfast.{subscription}"), "id")?;
        assert_eq!((ids, rows), ((0..400).collect(), 400));
    }
    assert_eq!(lake.dead_letters()?, Vec::<Value>::new());
    let retried = first.metric("landfast_commit_retries_total").await?
        + second.metric("landfast_commit_retries_total").await?;
    assert!(retried > 0.0, "the two never met");
    Ok(())
}

async fn two_processes_make_one_declared_table() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config(
        "",
        "defaults: { batch: { commit_interval: 0s } }\ntables: { t.rows: { from: [{ subscription: rows }], schema: [{ name: \
         id, type: long, required: true }, { name: name, type: string }] } }",
    )?;
    let (first, second) = (Server::serve(&config).await?, Server::serve(&config).await?);
    feed_both(&first, &second, "rows").await?;
    let (ids, rows) = lake.ids("t.rows", "id")?;
    assert_eq!((ids, rows), ((0..400).collect(), 400));
    Ok(())
}

async fn one_of_two_processes_is_killed_and_the_other_goes_on() -> TestResult {
    let lake = Lake::new()?;
    let (mut first, second) = (Server::dev(lake.path()).await?, Server::dev(lake.path()).await?);
    let pushes: Vec<_> = (0..700)
        .map(|id| Push::json("rows", id, &json!({"id": id, "name": "x"})))
        .collect();
    let (pusher, other) = (first.pusher(), second.pusher());
    let kill = async {
        wait_for("both to commit", Duration::from_secs(60), async || {
            let committed = async |server: &Server| server.metric("iceberg_records_written_total").await.ok();
            (committed(&first).await? > 20.0 && committed(&second).await? > 20.0).then_some(())
        })
        .await?;
        first.kill()
    };
    let (left, right) = pushes.split_at(550);
    let (statuses, others, killed) = tokio::join!(pusher.push_all(left, 4), other.push_all(right, 4), kill);
    killed?;
    assert_eq!(others, vec![204; 150]);
    let lost: Vec<_> = left
        .iter()
        .zip(&statuses)
        .filter(|(_, status)| **status != 204)
        .collect();
    assert!(!lost.is_empty(), "the kill came too late");
    let again: Vec<Push> = lost.iter().map(|(push, _)| (*push).clone()).collect();
    assert_eq!(other.push_all(&again, 16).await, vec![204; again.len()]);
    // Every row is there once, those whose answer the kill cut off too.
    assert_eq!(lake.ids("landfast.rows", "id")?, ((0..700).collect(), 700));
    Ok(())
}
