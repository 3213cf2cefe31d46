//! A server with a landing bucket, and what is put into it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use super::bucket::Landing;
use crate::support::TestResult;
use crate::support::lake::Lake;
use crate::support::server::{Server, landfast};

/// A warehouse in a folder, and a landing bucket.
pub struct Site {
    pub lake: Lake,
    pub landing: Landing,
    /// Where the server is told that Cloud Storage is.
    pub endpoint: String,
}

impl Site {
    pub async fn new() -> TestResult<Self> {
        let (lake, landing) = (Lake::new()?, Landing::new().await?);
        let endpoint = landing.server().to_owned();
        let site = Self {
            lake,
            landing,
            endpoint,
        };
        site.configure("60s")?;
        Ok(site)
    }

    pub fn configure(&self, ack_deadline: &str) -> TestResult {
        self.configure_tables(ack_deadline, "")
    }

    /// With more keys of the table of orders.
    pub fn configure_tables(&self, ack_deadline: &str, keys: &str) -> TestResult {
        let tables = format!(
            "tables:\n  shop.orders: {{ from: [{{ bucket: {}, objects: \"orders/**\" }}, {{ subscription: orders }}], \
             {keys}batch: {{ commit_interval: 0s }}, schema: [{{ name: id, type: long, required: true }}] }}\n  \
             shop.told: {{ from: [{{ subscription: landing-events }}], schema: [{{ name: bucket, type: string }}] }}\n",
            self.landing.name
        );
        let config = self
            .lake
            .config(&format!("ack_deadline: {ack_deadline}"), &tables)?;
        assert!(config.exists());
        Ok(())
    }

    pub async fn serve(&self) -> TestResult<Server> {
        let mut command = landfast(["serve", "--config"]);
        command
            .arg(self.config())
            .env("STORAGE_EMULATOR_HOST", &self.endpoint);
        Server::start(command).await
    }

    pub fn config(&self) -> PathBuf {
        self.lake.path().join("landfast.yaml")
    }

    pub fn ids(&self) -> TestResult<(BTreeSet<i64>, usize)> {
        self.lake.ids("shop.orders", "id")
    }

    /// What the status page tells of the table of orders.
    pub async fn told(&self, server: &Server) -> TestResult<Value> {
        let (_, text) = server.pusher().get("/v1/tables/shop.orders").await?;
        Ok(serde_json::from_str::<Value>(&text)?["table"].take())
    }
}

pub fn rows(ids: std::ops::Range<i64>) -> String {
    ids.map(|id| format!("{{\"id\":{id}}}\n")).collect()
}

/// Rows that are larger than what shares a commit, and how many.
pub fn large(first: i64) -> (String, i64) {
    let filler = "x".repeat(1000);
    let row = |id| format!("{{\"id\":{id},\"filler\":\"{filler}\"}}\n");
    ((first..first + 3000).map(row).collect(), 3000)
}

pub async fn outcome(server: &Server, outcome: &str) -> TestResult<u64> {
    let (_, metrics) = server.pusher().get("/metrics").await?;
    let start = format!("landfast_object_events_total{{outcome=\"{outcome}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&start));
    Ok(value.unwrap_or("0").parse()?)
}
