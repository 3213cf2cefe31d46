//! A catalog with the rules of REST servers: requirements are checked against the newest metadata, and the updates are
//! applied to it, whatever the commit was computed from (protocol §4).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use iceberg::spec::{TableMetadata, TableMetadataBuilder};
use iceberg::table::Table;
use iceberg::{NamespaceIdent, TableCreation, TableIdent};
use landfast::catalog::{Catalog, Outcome, TableCommit};
use landfast::error::{Error, ErrorKind, Result};
use landfast::storage::Store;

use super::lake::open;

/// Tables and the states they went through, newest last; `None` is a drop.
#[derive(Debug)]
pub struct RestCatalog {
    store: Store,
    tables: Mutex<BTreeMap<TableIdent, Vec<Option<TableMetadata>>>>,
}

impl RestCatalog {
    pub fn new(store: Store) -> Self {
        Self {
            store,
            tables: Mutex::default(),
        }
    }

    fn tables(&self) -> MutexGuard<'_, BTreeMap<TableIdent, Vec<Option<TableMetadata>>>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The states and drops of a name after the first so many.
    pub fn states_after(&self, ident: &TableIdent, known: usize) -> Vec<Option<TableMetadata>> {
        let tables = self.tables();
        tables
            .get(ident)
            .into_iter()
            .flatten()
            .skip(known)
            .cloned()
            .collect()
    }

    /// Adds a state, as an administrator would.
    pub fn push(&self, ident: &TableIdent, metadata: TableMetadata) {
        self.tables()
            .entry(ident.clone())
            .or_default()
            .push(Some(metadata));
    }

    fn table(&self, ident: &TableIdent, states: &[Option<TableMetadata>]) -> Result<Table> {
        let metadata = states.last().cloned().flatten().ok_or_else(|| not_found(ident))?;
        let location = location(&metadata, states.len());
        open(&self.store, ident, metadata, location)
    }
}

fn location(metadata: &TableMetadata, number: usize) -> String {
    format!("{}/metadata/{number:05}.metadata.json", metadata.location())
}

fn not_found(ident: &TableIdent) -> Error {
    Error::new(ErrorKind::NotFound, "There is no such table.").with("table", ident)
}

#[async_trait]
impl Catalog for RestCatalog {
    async fn create_namespace(&self, _namespace: &NamespaceIdent) -> Result<()> {
        Ok(())
    }

    async fn list_tables(&self, _namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        let tables = self.tables();
        let there = tables
            .iter()
            .filter(|(_, states)| matches!(states.last(), Some(Some(_))));
        Ok(there.map(|(ident, _)| ident.clone()).collect())
    }

    async fn create_table(&self, namespace: &NamespaceIdent, mut creation: TableCreation) -> Result<Table> {
        let ident = TableIdent::new(namespace.clone(), creation.name.clone());
        creation.location = Some(
            self.store
                .url(&format!("{}/{}", namespace.join("/"), creation.name)),
        );
        let built = TableMetadataBuilder::from_table_creation(creation).and_then(TableMetadataBuilder::build);
        let metadata = built
            .map_err(|error| Error::new(ErrorKind::Rejected, "The table cannot be made.").with_source(error))?
            .metadata;
        let mut tables = self.tables();
        let states = tables.entry(ident.clone()).or_default();
        if let Some(Some(_)) = states.last() {
            return Err(Error::new(ErrorKind::AlreadyExists, "The table exists."));
        }
        states.push(Some(metadata));
        self.table(&ident, states)
    }

    async fn load_table(&self, ident: &TableIdent) -> Result<Table> {
        let tables = self.tables();
        self.table(ident, tables.get(ident).map(Vec::as_slice).unwrap_or_default())
    }

    async fn drop_table(&self, ident: &TableIdent) -> Result<()> {
        match self.tables().get_mut(ident) {
            Some(states) if matches!(states.last(), Some(Some(_))) => {
                states.push(None);
                Ok(())
            }
            _ => Err(not_found(ident)),
        }
    }

    async fn commit_table(&self, base: &Table, commit: TableCommit) -> Outcome {
        let ident = base.identifier();
        let mut tables = self.tables();
        let states = tables.entry(ident.clone()).or_default();
        let Some(newest) = states.last().cloned().flatten() else {
            return Outcome::Rejected(not_found(ident));
        };
        let newest_location = location(&newest, states.len());
        let conflict = |error| {
            let message = "The server's table is no longer what the commit requires.";
            Outcome::Conflict(Error::new(ErrorKind::Conflict, message).with_source(error))
        };
        for requirement in &commit.requirements {
            if let Err(error) = requirement.check(Some(&newest)) {
                return conflict(error);
            }
        }
        let mut builder = Ok(newest.into_builder(Some(newest_location.clone())));
        for update in commit.updates {
            builder = builder.and_then(|builder| update.apply(builder));
        }
        match builder.and_then(TableMetadataBuilder::build) {
            Ok(built) => states.push(Some(built.metadata)),
            // A 400 of a table that moved is a conflict: a stale sequence number.
            Err(error) if base.metadata_location() != Some(&newest_location) => return conflict(error),
            Err(error) => {
                let message = "The server refuses the updates.";
                return Outcome::Rejected(Error::new(ErrorKind::Rejected, message).with_source(error));
            }
        }
        match self.table(ident, states) {
            Ok(table) => Outcome::Committed(Box::new(table)),
            Err(error) => Outcome::OutcomeUnknown(error),
        }
    }

    fn fences_by_snapshot(&self) -> bool {
        true
    }
}
