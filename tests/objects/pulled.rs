//! Notifications that are pulled: from Google's emulator of Pub/Sub to objects of the server of Cloud Storage.

use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::json;

use super::bucket::Put;
use super::site::{Site, large, outcome, rows};
use crate::support::pubsub::PubSub;
use crate::support::server::Server;
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![objects_land_once_by_notifications_that_are_pulled]
}

async fn objects_land_once_by_notifications_that_are_pulled() -> TestResult {
    let (site, pubsub) = (Site::new().await?, PubSub::new()?);
    pubsub.queue("landing").await?;
    let (text, count) = large(0);
    let large = site.landing.put("orders/large.json", text).await?;
    let small = site.landing.put("orders/small.json", rows(5000..5003)).await?;
    let messages = |put: &Put, event| put.event(event, "").body()["message"].clone();
    let told = [&large, &small, &small, &large].map(|put| messages(put, "OBJECT_FINALIZE"));
    let deleted = messages(&small, "OBJECT_DELETE");
    let published = told.into_iter().chain([deleted]);
    let published =
        published.map(|message| json!({ "data": message["data"], "attributes": message["attributes"] }));
    pubsub.send("landing", published.collect()).await?;
    let mut command = pubsub.command(&site.config());
    command
        .args(["--subscription", "landing"])
        .env("STORAGE_EMULATOR_HOST", &site.endpoint);
    let mut worker = Server::start(command).await?;
    for (expected, count) in [("loaded", 2), ("read", 2), ("deleted", 1)] {
        wait_for(
            &format!("{count} {expected}"),
            Duration::from_secs(300),
            async || (outcome(&worker, expected).await.ok()? >= count).then_some(()),
        )
        .await?;
    }
    worker.terminate()?;
    assert!(worker.exited().await?.success());
    let (ids, row_count) = site.ids()?;
    assert_eq!((ids.len(), row_count), (count as usize + 3, count as usize + 3));
    assert!(site.lake.dead_letters()?.is_empty());
    Ok(())
}
