//! The `biglake` catalog: the REST catalog at Google, and what Google refuses there, told before it is asked.
//!
//! BigLake has namespaces of a single level, tables from format version 2 on, and
//! [no metadata of more than 1 MB](https://cloud.google.com/biglake/docs/blms-rest-catalog). What a commit would make of the
//! metadata is computed before it is sent, since a table that is past the limit takes no commit at all.

use async_trait::async_trait;
use iceberg::spec::{FormatVersion, TableMetadata};
use iceberg::table::Table;
use iceberg::{NamespaceIdent, TableCreation, TableIdent};

use super::{Catalog, Outcome, RestCatalog, TableCommit, apply, creation_metadata};
use crate::config::{check_ident, check_namespace};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Store;

/// The largest metadata file: 1 MB, in decimal, as nobody says which.
const MAX_METADATA_BYTES: usize = 1_000_000;

/// Kept free of it: the server writes its own entries (logs, properties) with each commit.
const MARGIN_BYTES: usize = 10_000;

/// Where a table lies that has no place yet; it is measured only.
const NOWHERE: &str = "gs://bucket/namespace/table/0123456789abcdef0123456789abcdef";

/// Tables named by BigLake.
#[derive(Debug)]
pub struct BigLakeCatalog {
    rest: RestCatalog,
}

impl BigLakeCatalog {
    /// What [`crate::config::BigLakeConfig::as_rest`] describes, opened, with Google's limits before it.
    pub fn new(rest: RestCatalog) -> Self {
        Self { rest }
    }
}

#[async_trait]
impl Catalog for BigLakeCatalog {
    async fn create_namespace(&self, namespace: &NamespaceIdent) -> Result<()> {
        check_namespace(namespace.as_ref()).map_err(|reason| refused(reason).with("namespace", namespace))?;
        self.rest.create_namespace(namespace).await
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        self.rest.list_tables(namespace).await
    }

    async fn create_table(&self, namespace: &NamespaceIdent, creation: TableCreation) -> Result<Table> {
        let ident = TableIdent::new(namespace.clone(), creation.name.clone());
        check_creation(&ident, &creation).map_err(|error| error.with("table", &ident))?;
        self.rest.create_table(namespace, creation).await
    }

    async fn load_table(&self, table: &TableIdent) -> Result<Table> {
        check_ident(table).map_err(|reason| refused(reason).with("table", table))?;
        self.rest.load_table(table).await
    }

    async fn drop_table(&self, table: &TableIdent) -> Result<()> {
        self.rest.drop_table(table).await
    }

    async fn commit_table(&self, base: &Table, commit: TableCommit) -> Outcome {
        // Requirements are the server's to judge, by the table as it is then.
        let updates = TableCommit {
            requirements: Vec::new(),
            updates: commit.updates.clone(),
        };
        let after = match apply(base, updates) {
            Ok(after) => after,
            Err(outcome) => return outcome,
        };
        match check_size(&after) {
            Ok(()) => self.rest.commit_table(base, commit).await,
            Err(error) => Outcome::Rejected(error.with("table", base.identifier())),
        }
    }

    fn fences_by_snapshot(&self) -> bool {
        self.rest.fences_by_snapshot()
    }

    fn max_metadata_bytes(&self) -> Option<usize> {
        Some(MAX_METADATA_BYTES)
    }

    fn store_of(&self, table: &Table) -> Result<Option<Store>> {
        self.rest.store_of(table)
    }

    async fn settle(&self) {
        self.rest.settle().await;
    }
}

fn check_creation(ident: &TableIdent, creation: &TableCreation) -> Result<()> {
    check_ident(ident).map_err(refused)?;
    if creation.format_version == FormatVersion::V1 {
        let message = "BigLake has no tables of format version 1; make one of version 2.";
        return Err(Error::new(ErrorKind::Rejected, message));
    }
    let made = TableCreation {
        name: creation.name.clone(),
        location: Some(NOWHERE.to_owned()),
        schema: creation.schema.clone(),
        partition_spec: creation.partition_spec.clone(),
        sort_order: creation.sort_order.clone(),
        properties: creation.properties.clone(),
        format_version: creation.format_version,
    };
    check_size(&creation_metadata(made, ident)?)
}

/// Checks that the metadata is not too large for BigLake.
fn check_size(metadata: &TableMetadata) -> Result<()> {
    let bytes = serde_json::to_vec(metadata).map(|json| json.len());
    let bytes = bytes.map_err(|error| {
        Error::new(
            ErrorKind::Rejected,
            "The table's metadata cannot be written as JSON.",
        )
        .with_source(error)
    })?;
    if bytes <= MAX_METADATA_BYTES - MARGIN_BYTES {
        return Ok(());
    }
    let message = "BigLake takes no metadata of more than 1 MB, and the commit would pass that. Nothing was sent. Drop \
                   branches and tags that keep snapshots (and `gc.enabled=false`, if it is set), large table properties, or \
                   old schemas (Spark: CALL system.expire_snapshots(..., clean_expired_metadata => true)); or move the \
                   table to another catalog.";
    Err(Error::new(ErrorKind::Rejected, message)
        .with("bytes", bytes)
        .with("snapshots", metadata.snapshots().len())
        .with("schemas", metadata.schemas_iter().count()))
}

/// An error of a rule, which is a clause.
fn refused(reason: String) -> Error {
    Error::new(
        ErrorKind::Rejected,
        format!("BigLake does not take the name: {reason}."),
    )
}
