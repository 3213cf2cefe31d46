//! Kills, stops, broken streams and commits that fail: nothing is lost, nothing is there twice.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

use super::{LONG, ROWS, SERVER, all, config, counted, ids, stopped};
use crate::support::lake::Lake;
use crate::support::pubsub::PubSub;
use crate::support::server::Server;
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        killed_workers_land_every_message_once,
        stopped_worker_lands_what_it_holds,
        failed_commits_acknowledge_nothing,
        broken_stream_is_opened_again,
        missing_subscription_ends_the_worker,
        subscription_that_pushes_is_not_pulled,
        subscription_that_goes_away_ends_the_worker_in_order,
    ]
}

async fn killed_workers_land_every_message_once() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    pubsub.queue("rows").await?;
    pubsub.publish("rows", ids(0..2_000)).await?;
    // Many commits, so that a kill may come between any two steps of one; few messages held, since those of a killed
    // worker come again when their leases end.
    let server = format!("{SERVER}, max_in_flight_requests: 50");
    let rest = format!("defaults: {{ batch: {{ commit_interval: 0s }} }}\n{ROWS}");
    let file = lake.config(&server, &rest)?;
    for _ in 0..3 {
        let mut worker = pubsub.worker(&file).await?;
        counted(&worker, "landed", 30.0).await?;
        worker.kill()?;
    }
    // What a killed worker had comes again when its lease ends. The emulator gives it to any stream, at random, and to those
    // of the dead too: several that live are through sooner.
    let fleet = [
        pubsub.worker(&file).await?,
        pubsub.worker(&file).await?,
        pubsub.worker(&file).await?,
    ];
    wait_for("every message to land", LONG, async || {
        sleep(Duration::from_millis(200)).await;
        (total(&lake).ok()? >= 2_000).then_some(())
    })
    .await?;
    for worker in fleet {
        stopped(worker).await?;
    }
    assert_eq!(lake.ids("t.rows", "id")?, (all(0..2_000), 2_000));
    Ok(())
}

/// The rows of the current snapshot, as its summary has them.
fn total(lake: &Lake) -> TestResult<u64> {
    let metadata: Value = serde_json::from_slice(&fs::read(lake.metadata("t.rows")?)?)?;
    let snapshots = metadata["snapshots"].as_array().ok_or("snapshots")?;
    let mut snapshots = snapshots.iter();
    let current = snapshots.find(|snapshot| snapshot["snapshot-id"] == metadata["current-snapshot-id"]);
    let total = current.and_then(|snapshot| snapshot["summary"]["total-records"].as_str());
    Ok(total.ok_or("a total")?.parse()?)
}

async fn stopped_worker_lands_what_it_holds() -> TestResult {
    for exactly_once in [false, true] {
        let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
        pubsub.topic("rows").await?;
        let more = json!({ "enableExactlyOnceDelivery": exactly_once });
        pubsub.subscribe("rows", "rows", more).await?;
        let rest = format!("defaults: {{ batch: {{ commit_interval: 100s }} }}\n{ROWS}");
        let mut worker = pubsub.worker(&lake.config("ack_deadline: 600s", &rest)?).await?;
        // The first commit is made at once, the next one long after.
        pubsub.publish("rows", ids(0..1)).await?;
        counted(&worker, "landed", 1.0).await?;
        pubsub.publish("rows", ids(1..300)).await?;
        worker.metric_is("landfast_held_requests", 299.0).await?;
        let told = Instant::now();
        worker.terminate()?;
        assert!(worker.exited().await?.success());
        assert!(told.elapsed() < Duration::from_secs(8), "{:?}", told.elapsed());
        worker.logged(&["everything taken in is answered"]).await?;
        assert!(!worker.log().contains("was not confirmed"), "{}", worker.log());
        assert_eq!(lake.ids("t.rows", "id")?, (all(0..300), 300));
    }
    Ok(())
}

async fn failed_commits_acknowledge_nothing() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    pubsub.queue("rows").await?;
    // A file where the table's folder should be: nothing can be written, by whatever user.
    let table = lake.table("t.rows");
    fs::create_dir_all(table.parent().ok_or("a folder")?)?;
    fs::write(&table, "in the way")?;
    let file = config(&lake)?;
    let worker = pubsub.worker(&file).await?;
    pubsub.publish("rows", ids(0..200)).await?;
    counted(&worker, "nacked", 200.0).await?;
    // What is refused holds no room while it waits to be given back, or the next ones would wait for it.
    let refused = Instant::now();
    worker.metric_is("landfast_held_requests", 0.0).await?;
    assert!(
        refused.elapsed() < Duration::from_secs(4),
        "{:?}",
        refused.elapsed()
    );
    fs::remove_file(&table)?;
    // Had one been acknowledged, it would be missing.
    counted(&worker, "landed", 200.0).await?;
    stopped(worker).await?;
    assert_eq!(lake.ids("t.rows", "id")?, (all(0..200), 200));
    Ok(())
}

/// A way to the emulator that can be cut.
struct Way {
    address: String,
    cut: watch::Sender<u64>,
}

impl Way {
    async fn to(host: &str) -> TestResult<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (cut, host) = (watch::Sender::new(0), Arc::<str>::from(host));
        let cuts = cut.clone();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (mut cut, host) = (cuts.subscribe(), host.clone());
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(&*host).await else {
                        return;
                    };
                    tokio::select! {
                        _cut = cut.changed() => {}
                        _ended = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    }
                });
            }
        });
        Ok(Self { address, cut })
    }

    fn cut(&self) {
        self.cut.send_modify(|count| *count += 1);
    }
}

async fn broken_stream_is_opened_again() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    pubsub.queue("rows").await?;
    let way = Way::to(pubsub.host()).await?;
    let worker = Server::start(pubsub.command_at(&way.address, &config(&lake)?)).await?;
    pubsub.publish("rows", ids(0..100)).await?;
    counted(&worker, "landed", 100.0).await?;
    way.cut();
    pubsub.publish("rows", ids(100..200)).await?;
    // The emulator goes on with the broken stream, too, for a lease's time each: one of two, at random.
    counted(&worker, "landed", 200.0).await?;
    stopped(worker).await?;
    assert_eq!(lake.ids("t.rows", "id")?, (all(0..200), 200));
    Ok(())
}

async fn missing_subscription_ends_the_worker() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    let output = pubsub.command(&config(&lake)?).output()?;
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{err}");
    let named = err.contains("There is no such subscription") && err.contains(&pubsub.full("rows"));
    assert!(named, "{err}");
    Ok(())
}

async fn subscription_that_pushes_is_not_pulled() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    pubsub.topic("rows").await?;
    let push = json!({ "pushConfig": { "pushEndpoint": "http://127.0.0.1:9/" } });
    pubsub.subscribe("rows", "rows", push).await?;
    let output = pubsub.command(&config(&lake)?).output()?;
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{err}");
    let named =
        err.contains("Pub/Sub refuses to stream this subscription") && err.contains(&pubsub.full("rows"));
    assert!(named, "{err}");
    Ok(())
}

async fn subscription_that_goes_away_ends_the_worker_in_order() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    for queue in ["rows", "more"] {
        pubsub.queue(queue).await?;
    }
    let rest = "tables: { t.rows: { from: [{ subscription: rows }, { subscription: more }], schema: [{ name: id, type: long }], \
                batch: { commit_interval: 30s } } }";
    let way = Way::to(pubsub.host()).await?;
    let mut worker = Server::start(pubsub.command_at(&way.address, &lake.config("", rest)?)).await?;
    pubsub.publish("rows", ids(0..1)).await?;
    counted(&worker, "landed", 1.0).await?;
    pubsub.publish("rows", ids(1..50)).await?;
    worker.metric_is("landfast_held_requests", 49.0).await?;
    pubsub.delete("more").await?;
    // The emulator tells an open stream of it late; a new one at once.
    way.cut();
    // The other subscription's messages land before it exits.
    let exit = wait_for("the worker to end", LONG, async || worker.exited().await.ok()).await?;
    assert_eq!(exit.code(), Some(1));
    worker
        .logged(&["There is no such subscription", &pubsub.full("more")])
        .await?;
    assert_eq!(lake.ids("t.rows", "id")?, (all(0..50), 50));
    Ok(())
}
