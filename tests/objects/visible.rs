//! How long a large object takes to be visible in BigQuery.

use std::time::Duration;

use libtest_mimic::Trial;

use super::bucket::Landing;
use super::site::large;
use super::{FINALIZED, binary};
use crate::support::bigquery::{BigQueryFront, PROJECT};
use crate::support::bucket::{Bucket, Cloud};
use crate::support::lake::Lake;
use crate::support::server::{Server, landfast};
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![large_object_is_visible_since_its_creation]
}

async fn large_object_is_visible_since_its_creation() -> TestResult {
    let (landing, bucket) = (Landing::new().await?, Bucket::of(Cloud::Gcs).await?);
    let (lake, front) = (Lake::new()?, BigQueryFront::start().await?);
    let config = lake.write_config(&format!(
        "warehouse: {}\ncatalog: {{ type: storage }}\ndead_letters: {}\nserver: {{ listen: \"127.0.0.1:0\", push_auth: off }}\n\
         tables:\n  shop.orders:\n    from: [{{ bucket: {}, objects: \"**\" }}]\n    schema: [{{ name: id, type: long }}]\n    \
         publish: {{ bigquery: {{ dataset: {}, connection: us.lake }} }}\n",
        bucket.location("warehouse"),
        bucket.location("dead-letters"),
        landing.name,
        front.dataset(),
    ))?;
    let mut command = landfast(["serve", "--config"]);
    command
        .arg(config)
        .envs(bucket.environment())
        .env("BIGQUERY_EMULATOR_HOST", front.host())
        .env("GOOGLE_CLOUD_PROJECT", PROJECT);
    let server = Server::start(command).await?;
    let mut data = landing.put("large.json", large(0).0).await?.data();
    data["timeCreated"] = (chrono::Utc::now() - chrono::TimeDelta::hours(1))
        .to_rfc3339()
        .into();
    assert_eq!(binary(&server, FINALIZED, &data).await?, 204);
    let age = wait_for("it to be visible", Duration::from_secs(45), async || {
        let count = server.metric("landfast_visible_seconds_count").await.ok()?;
        let sum = server.metric("landfast_visible_seconds_sum").await.ok()?;
        (count > 0.0).then_some(sum)
    })
    .await?;
    assert!((3600.0..3700.0).contains(&age), "{age}");
    Ok(())
}
