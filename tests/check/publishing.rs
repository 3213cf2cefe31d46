//! Where rows and letters are told of: external tables of BigQuery, and the topic of the dead letters.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use iceberg::{NamespaceIdent, TableIdent};
use landfast::catalog::StorageCatalog;
use landfast::clock::SystemClock;
use landfast::random::Random;
use libtest_mimic::Trial;
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use super::{Checked, check};
use crate::support::bigquery::{BigQueryFront, Mishap, PROJECT};
use crate::support::bucket::{Bucket, Cloud};
use crate::support::lake::Lake;
use crate::support::pubsub::PubSub;
use crate::support::tables::create;
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        external_table_is_made_moved_and_removed,
        what_is_missing_for_an_external_table_is_named,
        external_table_that_an_earlier_check_left_is_removed,
        topic_gets_a_message_that_is_no_letter,
        topic_that_is_not_there_is_named,
    ]
}

/// A configuration with two published tables in one dataset.
struct Site {
    bucket: Bucket,
    front: BigQueryFront,
    folder: TempDir,
}

impl Site {
    async fn new() -> TestResult<Self> {
        let site = Self {
            bucket: Bucket::of(Cloud::Gcs).await?,
            front: BigQueryFront::start().await?,
            folder: tempfile::tempdir()?,
        };
        let table = "{ schema: [{ name: id, type: long }], publish: { bigquery: {} } }";
        let text = format!(
            "warehouse: {}\ncatalog: {{ type: storage }}\ndead_letters: {}\nserver: {{ push_auth: off }}\n\
             defaults: {{ publish: {{ bigquery: {{ dataset: {}, connection: us.lake }} }} }}\ntables:\n  t.rows: {table}\n  \
             t.others: {table}\n",
            site.bucket.location("warehouse"),
            site.bucket.location("dead-letters"),
            site.front.dataset(),
        );
        fs::write(site.config(), text)?;
        Ok(site)
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("landfast.yaml")
    }

    async fn check(&self) -> TestResult<Checked> {
        let mut variables = self.bucket.environment();
        variables.push(("BIGQUERY_EMULATOR_HOST", self.front.host()));
        variables.push(("GOOGLE_CLOUD_PROJECT", PROJECT.to_owned()));
        check(&self.config(), &[], &variables).await
    }
}

async fn external_table_is_made_moved_and_removed() -> TestResult {
    let site = Site::new().await?;
    let checked = site.check().await?;
    checked.passed();
    let (_, told, _) = checked.line("external table")?;
    assert!(told.contains("moved it to a newer snapshot"), "{told}");
    let changes = site.front.changes();
    // The dataset is not there at first.
    let methods: Vec<&Method> = changes.iter().map(|sent| &sent.method).collect();
    let post = &Method::POST;
    assert_eq!(methods, [post, post, post, &Method::PATCH, &Method::DELETE]);
    let [_, _, made, moved, removed] = changes.as_slice() else {
        return Err(format!("{changes:?}").into());
    };
    let name = made.body["tableReference"]["tableId"]
        .as_str()
        .unwrap_or_default();
    assert!(name.starts_with("probe_"), "{name}");
    assert!(made.uri().contains("/landfast_check/") && moved.uri().contains("/landfast_check/"));
    assert_ne!(made.uri(), moved.uri());
    assert!(moved.if_match.is_some());
    assert!(
        removed.path.ends_with(&format!("/tables/{name}")),
        "{}",
        removed.path
    );
    for table in [name, "rows", "others"] {
        assert!(site.front.table(table).await?.is_null(), "{table}");
    }
    let keys = site.bucket.store("warehouse")?.keys("").await?;
    assert_eq!(keys, [""; 0]);
    site.front.documented()
}

async fn what_is_missing_for_an_external_table_is_named() -> TestResult {
    let site = Site::new().await?;
    for (method, permission) in [
        (Method::GET, "bigquery.tables.get on the dataset"),
        (Method::POST, "bigquery.tables.create on the dataset"),
        (
            Method::PATCH,
            "bigquery.tables.update and bigquery.tables.get on the dataset",
        ),
        (Method::DELETE, "bigquery.tables.delete on the dataset"),
    ] {
        site.front
            .next(method.clone(), Mishap::Refuse(403, "accessDenied"), 1000);
        let checked = site.check().await?;
        site.front.heal();
        assert_eq!(checked.failed(), ["external table"], "{method}");
        let (_, _, remedy) = checked.line("external table")?;
        assert!(remedy.contains(permission), "{remedy}");
        assert!(
            remedy.contains("roles/bigquery.dataEditor on p-test."),
            "{remedy}"
        );
        let is_left = checked
            .left()
            .iter()
            .any(|left| left.starts_with("the external table p-test."));
        assert_eq!(is_left, method == Method::DELETE, "{:?}", checked.left());
    }
    // Google says so of a connection that is not there, or whose account may not read the bucket.
    site.front
        .next(Method::POST, Mishap::Refuse(400, "invalid"), 1000);
    let checked = site.check().await?;
    assert_eq!(checked.failed(), ["external table"]);
    let (_, _, remedy) = checked.line("external table")?;
    assert!(
        remedy.contains("Is there the connection projects/p-test/locations/us/connections/lake"),
        "{remedy}"
    );
    Ok(())
}

async fn external_table_that_an_earlier_check_left_is_removed() -> TestResult {
    let site = Site::new().await?;
    site.check().await?.passed();
    let id = Random::from_os().timed_uuid(Utc::now() - TimeDelta::hours(3));
    let name = format!("probe_{}", id.simple());
    let warehouse = site.bucket.store("warehouse")?;
    let catalog = StorageCatalog::new(warehouse.clone(), Arc::new(SystemClock));
    let namespace = NamespaceIdent::new("landfast_check".to_owned());
    let table = create(&catalog, &TableIdent::new(namespace, name.clone())).await?;
    let uri = table.metadata_location().unwrap_or_default();
    site.front.make(&name, uri).await?;
    let checked = site.check().await?;
    checked.passed();
    let (_, told, _) = checked.line("earlier checks")?;
    assert!(told.contains("removed what 1 checks left"), "{told}");
    assert!(site.front.table(&name).await?.is_null());
    assert_eq!(warehouse.keys("").await?, [""; 0]);
    Ok(())
}

/// A configuration whose letters go to this topic, and which takes a subscription of it.
fn to_topic(lake: &Lake, pubsub: &PubSub, topic: &str) -> TestResult<PathBuf> {
    let (dir, topic, back) = (
        lake.path().display(),
        pubsub.full_topic(topic),
        pubsub.full("back"),
    );
    lake.write_config(&format!(
        "warehouse: \"file://{dir}/warehouse\"\ncatalog: {{ type: storage }}\ndead_letters: {{ topic: {topic} }}\nserver: {{ \
         listen: \"127.0.0.1:0\", push_auth: off }}\ntables: {{ t.rows: {{ from: [{{ subscription: {back} }}], schema: [{{ \
         name: id, type: long, required: true }}] }} }}\n"
    ))
}

async fn topic_gets_a_message_that_is_no_letter() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    pubsub.topic("letters").await?;
    let settings =
        json!({ "ackDeadlineSeconds": 60, "expirationPolicy": {}, "messageRetentionDuration": "604800s" });
    pubsub.subscribe("back", "letters", settings.clone()).await?;
    pubsub.subscribe("seen", "letters", settings).await?;
    let config = to_topic(&lake, &pubsub, "letters")?;
    let emulator = [("PUBSUB_EMULATOR_HOST", pubsub.host().to_owned())];
    let checked = check(&config, &[], &emulator).await?;
    checked.passed();
    assert_eq!(checked.line("dead-letter topic")?.0, "passed");
    let waiting = pubsub.waiting("seen").await?;
    let [message] = waiting.as_slice() else {
        return Err(format!("{waiting:?}").into());
    };
    assert!(message.data.is_empty() && message.attributes["landfast.check"].starts_with("probe_"));

    // What takes the letters back passes it over: it is no row, and no letter of a letter.
    let mut worker = pubsub.worker(&config).await?;
    pubsub
        .send("letters", vec![json!({ "data": "eyJpZCI6N30=" })])
        .await?;
    wait_for("the row", Duration::from_secs(60), async || {
        lake.metadata("t.rows").ok()
    })
    .await?;
    worker.terminate()?;
    assert!(worker.exited().await?.success());
    assert_eq!(lake.ids("t.rows", "id")?.1, 1);
    assert_eq!(pubsub.waiting("back").await?.len(), 0);
    assert_eq!(pubsub.waiting("seen").await?.len(), 2);
    Ok(())
}

async fn topic_that_is_not_there_is_named() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    let config = to_topic(&lake, &pubsub, "none")?;
    let emulator = [("PUBSUB_EMULATOR_HOST", pubsub.host().to_owned())];
    let checked = check(&config, &[], &emulator).await?;
    assert!(checked.failed().contains(&"dead-letter topic"));
    let (_, _, remedy) = checked.line("dead-letter topic")?;
    assert_eq!(
        remedy,
        format!(
            "Make the topic {}, or name another at `dead_letters.topic`.",
            pubsub.full_topic("none")
        )
    );
    Ok(())
}
