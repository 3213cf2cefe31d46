//! Letters that a person sends back by a subscription of their topic: a row once it fits, and never a letter of a letter.

use std::time::Duration;

use libtest_mimic::Trial;
use tokio::time::sleep;

use super::{LONG, config, letters, names, serve};
use crate::support::lake::Lake;
use crate::support::pubsub::PubSub;
use crate::support::push::Push;
use crate::support::server::Server;
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        letters_come_back_by_a_subscription_and_land_once,
        letter_that_is_no_row_yet_makes_no_letter,
    ]
}

/// Takes the letters of one table back, each by the name that it has for good.
fn back(table: &str) -> String {
    format!(
        "sources: {{ back: {{ subscriptions: [back], dedupe_attribute: landfast.letter }} }}\n\
         tables: {{ {table}: {{ from: [{{ subscription: rows }}, {{ subscription: back, attributes: {{ landfast.table: t.rows }} }}], \
         schema: [{{ name: id, type: string }}] }} }}"
    )
}

const ROWS: &str =
    "tables: { t.rows: { from: [{ subscription: rows }], schema: [{ name: id, type: long }] } }";

async fn worker(pubsub: &PubSub, file: &std::path::Path) -> TestResult<Server> {
    let mut command = pubsub.command(file);
    command.args(["--subscription", "back"]);
    Server::start(command).await
}

async fn letters_come_back_by_a_subscription_and_land_once() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    pubsub.queue("letters").await?;
    pubsub.subscribe("back", "letters", serde_json::json!({})).await?;
    let server = serve(pubsub.host(), &config(&lake, &pubsub, "", ROWS)?).await?;
    let bad = Push::new("rows", 1, "{\"id\":1}\n{\"id\":\"two\"}\n{\"id\":\"three\"}");
    assert_eq!(server.pusher().push(&bad).await, 204);
    let sent = letters(&pubsub, 2).await?;
    drop(server);
    // Once more, as a process would that died after it published.
    let again = sent.iter().map(|letter| {
        let data = super::base64(&String::from_utf8_lossy(&letter.data));
        serde_json::json!({ "data": data, "attributes": letter.attributes })
    });
    pubsub.send("letters", again.collect()).await?;
    // To a table in which they fit.
    let worker = worker(&pubsub, &config(&lake, &pubsub, "", &back("t.mended"))?).await?;
    wait_for("all four", LONG, async || {
        let landed = worker.metric("landfast_deliveries_total").await.ok()?;
        (landed >= 4.0).then_some(())
    })
    .await?;
    let rows = lake.rows("t.mended", "id")?;
    let ids: Vec<_> = rows.iter().filter_map(|row| row["id"].as_str()).collect();
    assert_eq!(ids, ["three", "two"]);
    // Ours, which tell of no policy.
    worker.metric_is("landfast_forwarded_messages_total", 0.0).await?;
    Ok(())
}

async fn letter_that_is_no_row_yet_makes_no_letter() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    pubsub.queue("letters").await?;
    pubsub.subscribe("back", "letters", serde_json::json!({})).await?;
    let both = "tables: { t.rows: { from: [{ subscription: rows }, { subscription: back, attributes: { landfast.table: t.rows } }], \
                schema: [{ name: id, type: long }] } }";
    let file = config(&lake, &pubsub, "", both)?;
    let server = serve(pubsub.host(), &file).await?;
    let pushes = [
        Push::new("rows", 1, "{\"id\":\"two\"}"),
        Push::new("nobody", 2, "x"),
    ];
    assert_eq!(server.pusher().push_all(&pushes, 2).await, [204; 2]);
    let worker = worker(&pubsub, &file).await?;
    // Both are refused, given back after five seconds, and refused again.
    wait_for("both to be refused again", LONG, async || {
        sleep(Duration::from_millis(100)).await;
        (worker.metric("landfast_deliveries_total").await.ok()? >= 4.0).then_some(())
    })
    .await?;
    let letters = letters(&pubsub, 2).await?;
    assert_eq!((letters.len(), names(&letters).len()), (2, 2));
    worker.metric_is("landfast_dead_letters_total", 0.0).await?;
    Ok(())
}
