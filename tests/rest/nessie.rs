//! Nessie: a server whose own rules would lose rows, and the fence that it has instead.

use std::sync::Arc;

use hyper::Method;
use iceberg::table::Table;
use landfast::catalog::{Catalog, Patience, RestCatalog};
use landfast::clock::SystemClock;
use landfast::config::{RestAuth, RestCatalogConfig};
use landfast::error::ErrorKind;
use landfast::random::Random;
use landfast::storage::Store;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Writer;
use super::serve::configuration_of;
use super::site::Site;
use crate::support::bucket::Bucket;
use crate::support::front::{Front, Mishap};
use crate::support::tables::{create, ids_now, orders, summary};
use crate::support::{Component, TestResult, needs, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        stale_writer_of_an_empty_table_is_refused_by_nessie_too,
        nessie_alone_lets_a_stale_commit_take_the_place_of_another,
        commit_whose_answer_is_lost_is_found_on_nessie,
        other_tables_of_the_branch_are_no_conflict,
        killed_server_lands_every_row_once_on_nessie,
    ]
}

/// A branch of Nessie that nobody else writes.
pub struct Branch {
    server: String,
    warehouse: String,
    name: String,
    bucket: Bucket,
}

impl Branch {
    /// Makes one. Ends the test as ignored where there is no Nessie.
    pub async fn new() -> TestResult<Self> {
        let place = needs(Component::Nessie)?;
        let (server, warehouse) = place.split_once(' ').ok_or("an address and a warehouse")?;
        let name = format!("t{}", Uuid::new_v4().simple());
        let branch = Self {
            server: server.to_owned(),
            warehouse: warehouse.to_owned(),
            bucket: Bucket::s3()?,
            name,
        };
        let (http, trees) = (reqwest::Client::new(), format!("{server}/api/v2/trees"));
        let main: Value = http.get(format!("{trees}/main")).send().await?.json().await?;
        let made = http.post(format!("{trees}?name={}&type=BRANCH", branch.name));
        made.json(&main["reference"]).send().await?.error_for_status()?;
        Ok(branch)
    }

    /// A catalog with connections of its own.
    pub async fn catalog(&self) -> TestResult<RestCatalog> {
        self.catalog_at(&self.server).await
    }

    async fn catalog_at(&self, server: &str) -> TestResult<RestCatalog> {
        let config = RestCatalogConfig {
            uri: format!("{server}/iceberg"),
            warehouse: None,
            prefix: Some(format!("{}|lake", self.name)),
            auth: RestAuth::None,
            headers: Default::default(),
        };
        let (store, random) = (self.store()?, Arc::new(Random::from_os()));
        Ok(RestCatalog::open(&config, store, Arc::new(SystemClock), random, Patience::default()).await?)
    }

    fn store(&self) -> TestResult<Store> {
        Ok(Store::open_with(&self.warehouse, &self.bucket.properties())?)
    }

    async fn writer(&self) -> TestResult<Writer> {
        Writer::beside(Arc::new(self.catalog().await?), self.store()?).await
    }

    /// `shop.orders`, at the address that any client has it by.
    fn orders(&self) -> String {
        format!(
            "{}/iceberg/v1/{}%7Clake/namespaces/shop/tables/orders",
            self.server, self.name
        )
    }
}

/// Whether Nessie names the table.
pub fn is_of_nessie(table: &Table) -> bool {
    table.metadata().properties().contains_key("nessie.commit.id")
}

/// Asserts that two loads show one state. Nessie names it differently in the answer to a commit; what it holds is the same.
pub fn assert_same_state(one: &Table, other: &Table) {
    if is_of_nessie(one) {
        assert_eq!(one.metadata(), other.metadata());
    } else {
        assert_eq!(one.metadata_location(), other.metadata_location());
    }
}

async fn stale_writer_of_an_empty_table_is_refused_by_nessie_too() -> TestResult {
    let branch = Branch::new().await?;
    create(&branch.catalog().await?, &orders()).await?;
    // Both have seen a table without a snapshot, which Nessie does not check.
    let (mut one, mut other) = (branch.writer().await?, branch.writer().await?);
    one.append(1).await?;
    let mut changes = other.row(2).await?;
    for _ in 0..2 {
        let error = other.attempt(&mut changes).await.expect_err("it is stale");
        assert_eq!(error.kind(), ErrorKind::Conflict, "{}", error.report());
    }
    assert_eq!(other.reload(&changes).await?, (true, false));
    other.attempt(&mut changes).await?;
    one.reload(&changes).await?;
    one.append(3).await?;
    assert_eq!(ids_now(&branch.catalog().await?, &orders()).await?, [1, 2, 3]);
    // Nessie keeps the newest snapshot only, and forbids others to delete files: its history is its own.
    let table = branch.catalog().await?.load_table(&orders()).await?;
    assert_eq!(summary(&table, "total-records").as_deref(), Some("3"));
    assert_eq!(table.metadata().snapshots().count(), 1);
    assert_eq!(table.metadata().last_sequence_number(), 3);
    assert_eq!(table.metadata().properties()["gc.enabled"], "false");
    Ok(())
}

/// Why a commit names the state that it is for. Should a later Nessie check this, the test says so.
async fn nessie_alone_lets_a_stale_commit_take_the_place_of_another() -> TestResult {
    let branch = Branch::new().await?;
    create(&branch.catalog().await?, &orders()).await?;
    branch.writer().await?.append(1).await?;
    let (http, url) = (reqwest::Client::new(), branch.orders());
    let now: Value = http.get(&url).send().await?.json().await?;
    let metadata = &now["metadata"];
    let mut snapshot = metadata["snapshots"][0].clone();
    snapshot["snapshot-id"] = 7.into();
    let commit = |at: &Value| {
        json!({
            "requirements": [
                { "type": "assert-table-uuid", "uuid": metadata["table-uuid"] },
                { "type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": at },
            ],
            "updates": [
                { "action": "add-snapshot", "snapshot": snapshot },
                { "action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": 7 },
            ],
        })
    };
    let send = async |url: &str, at: &Value| -> TestResult<u16> {
        let sent = http.post(url).json(&commit(at)).send().await?;
        Ok(sent.status().as_u16())
    };
    // On the state before: refused where it is named.
    let state = metadata["properties"]["nessie.commit.id"]
        .as_str()
        .ok_or("a commit")?;
    let named = url.replace("%7C", &format!("%40{state}%7C"));
    assert_eq!(send(&url, &json!(3)).await?, 409, "another snapshot is required");
    // No snapshot required, and a sequence number that is used up: taken, and the row is gone from the table.
    assert_eq!(send(&url, &Value::Null).await?, 200);
    assert_eq!(send(&named, &Value::Null).await?, 409);
    assert_eq!(
        send(&url, &json!(7)).await?,
        200,
        "the sequence number is used up"
    );
    Ok(())
}

async fn commit_whose_answer_is_lost_is_found_on_nessie() -> TestResult {
    let branch = Branch::new().await?;
    let front = Front::before(&branch.server).await?;
    let catalog = Arc::new(branch.catalog_at(&front.url()).await?);
    create(catalog.as_ref(), &orders()).await?;
    let mut writer = Writer::beside(catalog, branch.store()?).await?;
    writer.append(1).await?;
    for (id, mishap, landed) in [
        (2, Mishap::AnswerAfter(503), true),
        (3, Mishap::ResetAfter, true),
        (4, Mishap::Answer(503, ""), false),
    ] {
        front.next(Method::POST, "/tables/orders", mishap, 1);
        let mut changes = writer.row(id).await?;
        let error = writer.attempt(&mut changes).await.expect_err("nothing came back");
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{}", error.report());
        let (_, known) = writer.reload(&changes).await?;
        assert_eq!(known, landed, "{id}");
        if !known {
            writer.attempt(&mut changes).await?;
        }
    }
    assert!(front.count(&Method::POST, "@") >= 5, "each names its state");
    assert_eq!(ids_now(&branch.catalog().await?, &orders()).await?, [1, 2, 3, 4]);
    Ok(())
}

async fn other_tables_of_the_branch_are_no_conflict() -> TestResult {
    let branch = Branch::new().await?;
    let catalog = branch.catalog().await?;
    create(&catalog, &orders()).await?;
    let mut writer = branch.writer().await?;
    for id in 1..4 {
        let name = iceberg::TableIdent::from_strs(["shop", &format!("other{id}")])?;
        create(&catalog, &name).await?;
        writer.append(id).await?;
    }
    assert_eq!(ids_now(&catalog, &orders()).await?, [1, 2, 3]);
    Ok(())
}

async fn killed_server_lands_every_row_once_on_nessie() -> TestResult {
    let branch = Branch::new().await?;
    let prefix = format!("prefix: \"{}%7Clake\"", branch.name);
    let uri = format!("{}/iceberg", branch.server);
    let site = Site::new(branch.bucket.environment(), |folder| {
        configuration_of(&uri, &branch.warehouse, folder, &prefix)
    })?;
    let printed = site.lands_once().await?;
    assert!(!printed.contains("testtest"), "a secret is in the log");
    let table = branch.catalog().await?.load_table(&orders()).await?;
    let location = table.metadata_location().ok_or("no location")?;
    assert_eq!(
        site.ids(branch.bucket.told(location))?,
        (0..20).collect::<Vec<_>>()
    );
    Ok(())
}
