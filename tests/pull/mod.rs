//! `landfast pull`: the real binary before Google's emulator of Pub/Sub. What is published is in the table, once.

mod faults;
mod limits;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::lake::Lake;
use crate::support::pubsub::{Message, PubSub};
use crate::support::push::Push;
use crate::support::server::{Server, run};
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    let tests = trials![
        messages_land_once,
        messages_of_several_subscriptions_go_to_their_tables,
        acknowledged_messages_do_not_come_again,
        message_is_leased_until_its_commit,
        poison_is_a_letter,
        copies_by_push_and_by_pull_land_once,
        worker_takes_nothing_over_http,
        worker_is_not_asked_who_may_push,
        wrong_usage_says_what_is_missing,
    ];
    [tests, faults::tests(), limits::tests()]
        .into_iter()
        .flatten()
        .collect()
}

const LONG: Duration = Duration::from_secs(180);

const ROWS: &str = "tables: { t.rows: { from: [{ subscription: rows }], schema: [{ name: id, type: long, required: true }] } }";

/// The short deadline lets what a killed worker had come again soon.
const SERVER: &str = "ack_deadline: 10s";

/// A little longer than a lease by that deadline.
const LEASE: Duration = Duration::from_secs(12);

fn config(lake: &Lake) -> TestResult<PathBuf> {
    lake.config(SERVER, ROWS)
}

fn ids(range: std::ops::Range<i64>) -> impl Iterator<Item = String> {
    range.map(|id| json!({ "id": id }).to_string())
}

/// Waits until deliveries of an outcome have reached a number.
async fn counted(worker: &Server, outcome: &str, count: f64) -> TestResult {
    let line = format!("landfast_deliveries_total{{outcome=\"{outcome}\"}} ");
    wait_for(
        &format!("{count} deliveries that are {outcome}"),
        LONG,
        async || {
            let (_, text) = worker.pusher().get("/metrics").await.ok()?;
            let value = text.lines().find_map(|text| text.strip_prefix(&line))?;
            (value.parse::<f64>().ok()? >= count).then_some(())
        },
    )
    .await
}

/// Stops a worker, which must leave nothing unanswered.
async fn stopped(mut worker: Server) -> TestResult {
    worker.terminate()?;
    assert!(worker.exited().await?.success());
    Ok(())
}

async fn messages_land_once() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    pubsub.queue("rows").await?;
    pubsub.publish("rows", ids(0..1_500)).await?;
    let worker = pubsub.worker(&config(&lake)?).await?;
    worker.logged(&["Pulling.", &pubsub.full("rows")]).await?;
    pubsub.publish("rows", ids(1_500..3_000)).await?;
    counted(&worker, "landed", 3_000.0).await?;
    worker
        .metric_is("landfast_freshness_seconds_count", 3_000.0)
        .await?;
    stopped(worker).await?;
    assert_eq!(lake.ids("t.rows", "id")?, ((0..3_000).collect(), 3_000));
    assert_eq!(lake.dead_letters()?, Vec::<Value>::new());
    Ok(())
}

async fn messages_of_several_subscriptions_go_to_their_tables() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    for queue in ["rows", "cdc", "raw"] {
        pubsub.queue(queue).await?;
    }
    let rest = format!(
        "tables:\n  t.rows: {{ from: [{{ subscription: rows }}], schema: [{{ name: id, type: long }}] }}\n  t.raw: {{ from: [{{ \
         subscription: \"{}\" }}], schema: envelope }}\nroutes:\n  - {{ subscription: cdc, table: \
         'cdc.{{attributes.table}}' }}\n",
        pubsub.full("raw")
    );
    let worker = pubsub.worker(&lake.config(SERVER, &rest)?).await?;
    pubsub.publish("rows", ids(0..50)).await?;
    let changes = (0..60).map(|id| {
        let table = if id % 2 == 0 { "even" } else { "odd" };
        json!({ "data": base64(&json!({ "id": id }).to_string()), "attributes": { "table": table } })
    });
    pubsub.send("cdc", changes.collect()).await?;
    let raw = json!({ "data": base64("as it is"), "attributes": { "kind": "note" } });
    let id = pubsub.send("raw", vec![raw]).await?.remove(0);
    counted(&worker, "landed", 111.0).await?;
    stopped(worker).await?;
    assert_eq!(lake.ids("t.rows", "id")?, ((0..50).collect(), 50));
    assert_eq!(lake.ids("cdc.even", "id")?.0, (0..60).step_by(2).collect());
    assert_eq!(lake.ids("cdc.odd", "id")?.0, (1..60).step_by(2).collect());
    let rows = lake.rows("t.raw", "id")?;
    let [row] = rows.as_slice() else {
        return Err(format!("one row: {rows:?}").into());
    };
    assert_eq!(row["id"], json!(id));
    assert_eq!(row["source"], json!(pubsub.full("raw")));
    assert_eq!(row["payload"], json!(base64("as it is")));
    Ok(())
}

/// A message whose lease runs out, on a machine with much else to do, comes again by right: then it proves nothing, and is
/// done anew.
async fn acknowledged_messages_do_not_come_again() -> TestResult {
    for _ in 0..5 {
        if acknowledged_in_time_they_stay_away().await? {
            return Ok(());
        }
    }
    Err("leases ran out each time".into())
}

/// Other workers get what comes again: that nothing of the acknowledged does proves something only beside what was given back,
/// which does. The emulator gives it to the dead worker's stream, too, for a lease's time each, so there are several. Says
/// whether no lease ran out before the acknowledgement.
async fn acknowledged_in_time_they_stay_away() -> TestResult<bool> {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    for queue in ["rows", "poison", "refused"] {
        pubsub.queue(queue).await?;
    }
    pubsub.topic("confirmed").await?;
    let confirmed = json!({ "enableExactlyOnceDelivery": true });
    pubsub.subscribe("confirmed", "confirmed", confirmed).await?;
    let table = |name: &str| {
        format!("t.{name}: {{ from: [{{ subscription: {name} }}], schema: [{{ name: id, type: long }}] }}")
    };
    let tables = ["rows", "poison", "refused", "confirmed"].map(table).join(", ");
    let file = lake.config(SERVER, &format!("tables: {{ {tables} }}"))?;
    // Nothing can be written under a file, by whatever user.
    let refused = lake.table("t.refused");
    fs::create_dir_all(refused.parent().ok_or("a folder")?)?;
    fs::write(&refused, "in the way")?;
    for queue in ["rows", "refused", "confirmed"] {
        pubsub.publish(queue, ids(0..50)).await?;
    }
    pubsub
        .publish("poison", (0..50).map(|_| "no JSON".to_owned()))
        .await?;
    let worker = pubsub.worker(&file).await?;
    counted(&worker, "landed", 100.0).await?;
    counted(&worker, "dead_letter", 50.0).await?;
    counted(&worker, "nacked", 50.0).await?;
    let late = worker.metric("landfast_unconfirmed_acks_total").await?
        + worker.metric("landfast_duplicates_total").await?;
    stopped(worker).await?;
    if late > 0.0 {
        return Ok(false);
    }
    let stop = Instant::now();
    fs::remove_file(&refused)?;
    let others = [
        pubsub.worker(&file).await?,
        pubsub.worker(&file).await?,
        pubsub.worker(&file).await?,
    ];
    let total = async |name: &str| {
        let mut total = 0.0;
        for other in &others {
            total += other.metric(name).await?;
        }
        TestResult::Ok(total)
    };
    wait_for("the refused ones to come again", LONG, async || {
        sleep(Duration::from_millis(200)).await;
        let landed = total("iceberg_records_written_total").await.ok()?;
        (landed >= 1.0 && stop.elapsed() > 3 * LEASE).then_some(())
    })
    .await?;
    for table in ["rows", "poison", "confirmed"] {
        let again = format!("landfast_duplicates_total{{table=\"t.{table}\",reason=\"landed\"}}");
        assert_eq!(total(&again).await?, 0.0, "{again}");
    }
    for other in others {
        stopped(other).await?;
    }
    for (table, rows) in [("t.rows", 50), ("t.confirmed", 50)] {
        assert_eq!(lake.ids(table, "id")?, (all(0..50), rows));
    }
    assert_eq!(lake.dead_letters()?.len(), 50);
    Ok(true)
}

/// The second message waits for its commit for longer than its subscription's own deadline.
async fn message_is_leased_until_its_commit() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    pubsub.topic("rows").await?;
    pubsub
        .subscribe("rows", "rows", json!({ "ackDeadlineSeconds": 10 }))
        .await?;
    let rest = ROWS.replace("] } }", "], batch: { commit_interval: 20s } } }");
    let worker = pubsub.worker(&lake.config("ack_deadline: 60s", &rest)?).await?;
    pubsub.publish("rows", ids(0..1)).await?;
    counted(&worker, "landed", 1.0).await?;
    let begun = Instant::now();
    pubsub.publish("rows", ids(1..2)).await?;
    counted(&worker, "landed", 2.0).await?;
    assert!(begun.elapsed() > LEASE, "{:?}", begun.elapsed());
    let (_, metrics) = worker.pusher().get("/metrics").await?;
    assert!(
        !metrics.contains("outcome=\"duplicate\""),
        "it came again: {metrics}"
    );
    stopped(worker).await?;
    assert_eq!(pubsub.waiting("rows").await?.len(), 0);
    assert_eq!(lake.ids("t.rows", "id")?, (all(0..2), 2));
    Ok(())
}

async fn poison_is_a_letter() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    pubsub.queue("rows").await?;
    let poison = [
        "no JSON at all".to_owned(),
        json!({ "id": "seven" }).to_string(),
        "\u{1f}\u{8b}\u{0}broken gzip".to_owned(),
    ];
    pubsub.publish("rows", poison).await?;
    pubsub.publish("rows", ids(0..20)).await?;
    // A message of attributes alone.
    pubsub
        .send("rows", vec![json!({ "attributes": { "kind": "empty" } })])
        .await?;
    let worker = pubsub.worker(&config(&lake)?).await?;
    counted(&worker, "landed", 20.0).await?;
    counted(&worker, "dead_letter", 4.0).await?;
    stopped(worker).await?;
    assert_eq!(lake.ids("t.rows", "id")?, ((0..20).collect(), 20));
    assert_eq!(lake.dead_letters()?.len(), 4);
    Ok(())
}

async fn copies_by_push_and_by_pull_land_once() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    pubsub.topic("rows").await?;
    for subscription in ["rows", "peek"] {
        pubsub.subscribe(subscription, "rows", json!({})).await?;
    }
    let both = "sources: { rows: { subscriptions: [rows, rows-push] } }\ntables: { t.rows: { from: [{ subscription: rows }, { \
                subscription: rows-push }], schema: [{ name: id, type: long }] } }";
    let file = lake.config("", both)?;
    pubsub.publish("rows", ids(0..100)).await?;
    let published = wait_for("the messages", LONG, async || {
        let messages = pubsub.waiting("peek").await.ok()?;
        (messages.len() == 100).then_some(messages)
    })
    .await?;
    let server = Server::serve(&file).await?;
    let push = |message: &Message| {
        // A push tells the time to the millisecond.
        let at = chrono::SubsecRound::trunc_subsecs(message.published_at, 3);
        Push::new("rows-push", &message.id, &message.data).published_at(at)
    };
    let pushes: Vec<_> = published.iter().map(push).collect();
    let pusher = server.pusher();
    assert_eq!(pusher.push_all(&pushes[..60], 60).await, [204; 60]);
    let mut command = pubsub.command(&file);
    command.args(["--subscription", "rows"]);
    let worker = Server::start(command).await?;
    counted(&worker, "duplicate", 60.0).await?;
    counted(&worker, "landed", 40.0).await?;
    assert_eq!(pusher.push_all(&pushes, 100).await, [204; 100]);
    stopped(worker).await?;
    assert_eq!(lake.ids("t.rows", "id")?, ((0..100).collect(), 100));
    Ok(())
}

async fn worker_takes_nothing_over_http() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    pubsub.queue("rows").await?;
    let worker = pubsub.worker(&config(&lake)?).await?;
    let pusher = worker.pusher();
    assert_eq!(pusher.get("/health/live").await?.0, 200);
    assert_eq!(
        pusher.push(&Push::json("rows", 1, &json!({ "id": 1 }))).await,
        404
    );
    let rows = pusher.post("/v1/tables/t.rows/records", "application/json", "{\"id\":1}");
    assert_eq!(rows.await?.status(), 404);
    stopped(worker).await
}

async fn worker_is_not_asked_who_may_push() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    pubsub.queue("rows").await?;
    let dir = lake.path().display();
    let config = lake.write_config(&format!(
        "warehouse: \"file://{dir}/warehouse\"\ncatalog: {{ type: storage }}\ndead_letters: \"file://{dir}/dead-letters\"\n\
         server: {{ listen: \"127.0.0.1:0\" }}\n{ROWS}"
    ))?;
    let worker = pubsub.worker(&config).await?;
    pubsub.publish("rows", ids(0..10)).await?;
    counted(&worker, "landed", 10.0).await?;
    stopped(worker).await?;
    assert_eq!(lake.ids("t.rows", "id")?, ((0..10).collect(), 10));
    Ok(())
}

async fn wrong_usage_says_what_is_missing() -> TestResult {
    let lake = Lake::new()?;
    let file = config(&lake)?;
    let file = text(&file)?;
    let (code, _, err) = run(["pull", "--config", file])?;
    assert_eq!(code, Some(2));
    assert!(err.contains("--project") && err.contains("rows"), "{err}");
    let chosen = [
        "pull",
        "--config",
        file,
        "--project",
        "p",
        "--subscription",
        "others",
    ];
    let (code, _, err) = run(chosen)?;
    assert_eq!(code, Some(2));
    assert!(err.contains("projects/p/subscriptions/others"), "{err}");
    let missing = lake.path().join("missing.yaml");
    assert_eq!(run(["pull", "--config", text(&missing)?])?.0, Some(2));
    Ok(())
}

fn text(path: &Path) -> TestResult<&str> {
    path.to_str().ok_or_else(|| "a path that is no text".into())
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// The numbers of a range.
fn all(range: std::ops::Range<i64>) -> BTreeSet<i64> {
    range.collect()
}
