//! A warehouse on `gs://` whose table is published.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::bigquery::{BigQueryFront, PROJECT};
use crate::support::bucket::{Bucket, Cloud};
use crate::support::push::Push;
use crate::support::readers::Reader;
use crate::support::server::{Server, landfast};
use crate::support::{TestResult, wait_for};

/// Within this the pointer is where it should be, whatever went wrong a moment ago.
pub const SOON: Duration = Duration::from_secs(45);

pub struct Site {
    pub bucket: Bucket,
    pub front: BigQueryFront,
    folder: TempDir,
}

impl Site {
    /// One whose table commits as fast as it can.
    pub async fn new() -> TestResult<Self> {
        let site = Self {
            bucket: Bucket::of(Cloud::Gcs).await?,
            front: BigQueryFront::start().await?,
            folder: tempfile::tempdir()?,
        };
        site.configure("", "")?;
        Ok(site)
    }

    /// Writes the configuration with further keys of `server` and of `publish.bigquery`.
    pub fn configure(&self, server: &str, bigquery: &str) -> TestResult {
        let text = format!(
            "warehouse: {}\ncatalog: {{ type: storage }}\ndead_letters: {}\nserver: {{ listen: \"127.0.0.1:0\", \
             push_auth: off, {server} }}\ntables:\n  shop.orders:\n    from: [{{ subscription: orders }}]\n    \
             batch: {{ commit_interval: 0s }}\n    schema: [{{ name: id, type: long }}, {{ name: name, type: string }}]\n    \
             publish: {{ bigquery: {{ dataset: {}, connection: us.lake, {bigquery} }} }}\n",
            self.bucket.location("warehouse"),
            self.bucket.location("dead-letters"),
            self.front.dataset(),
        );
        fs::write(self.config(), text)?;
        Ok(())
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("landfast.yaml")
    }

    /// The binary with these words and the configuration.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = landfast(words);
        command
            .arg("--config")
            .arg(self.config())
            .envs(self.bucket.environment())
            .env("BIGQUERY_EMULATOR_HOST", self.front.host())
            .env("GOOGLE_CLOUD_PROJECT", PROJECT);
        command
    }

    pub async fn serve(&self) -> TestResult<Server> {
        Server::start(self.command(&["serve"])).await
    }

    /// Runs a command to its end.
    pub fn run(&self, words: &[&str]) -> TestResult<Output> {
        Ok(tokio::task::block_in_place(|| self.command(words).output())?)
    }

    /// The newest metadata in the bucket.
    pub async fn newest(&self) -> TestResult<String> {
        let told = self.bucket.metadata("shop.orders").await?.display().to_string();
        let (location, _) = told.split_once('?').ok_or("an endpoint")?;
        Ok(location.to_owned())
    }

    /// The metadata that BigQuery reads.
    pub async fn uri(&self) -> TestResult<String> {
        self.front.uri("orders").await
    }

    /// Waits until BigQuery reads the newest metadata; gives it.
    pub async fn caught_up(&self) -> TestResult<String> {
        wait_for("the pointer to be at the newest metadata", SOON, async || {
            let (newest, uri) = (self.newest().await.ok()?, self.uri().await.ok()?);
            (newest == uri).then_some(uri)
        })
        .await
    }

    /// The ids in the table as BigQuery would read it, by PyIceberg.
    pub async fn visible(&self) -> TestResult<BTreeSet<i64>> {
        let rows = Reader::pyiceberg()?.rows(self.bucket.told(&self.uri().await?))?;
        Ok(rows.iter().filter_map(|row| row["id"].as_i64()).collect())
    }
}

pub fn message(id: i64) -> Push {
    Push::json("orders", id, &json!({ "id": id, "name": format!("row {id}") }))
}

/// The number of a `storage` catalog's metadata.
pub fn version(uri: &str) -> u64 {
    let name = uri.rsplit('/').next().unwrap_or_default();
    let number = name.trim_start_matches('v').trim_end_matches(".metadata.json");
    number.parse().unwrap_or_default()
}

/// A column as BigQuery shows it, with a description and a policy tag.
pub fn tagged(name: &str, kind: &str) -> Value {
    json!({ "name": name, "type": kind, "mode": "NULLABLE", "description": format!("The {name}"),
            "policyTags": { "names": ["projects/p-test/locations/us/taxonomies/1/policyTags/2"] } })
}
