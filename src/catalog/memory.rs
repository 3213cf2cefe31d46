//! The `memory` catalog: tables of this process, for tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use iceberg::spec::TableMetadataRef;
use iceberg::table::Table;
use iceberg::{NamespaceIdent, TableCreation, TableIdent};
use uuid::Uuid;

use super::{
    Catalog, Outcome, TableCommit, already_exists, apply, creation_metadata, lost_race, not_found, open_table,
};
use crate::error::Result;
use crate::storage::Store;

#[derive(Debug, Clone)]
struct Entry {
    metadata: TableMetadataRef,
    location: String,
}

/// Tables named in this process's memory; their files are in the [`Store`].
#[derive(Debug)]
pub struct MemoryCatalog {
    warehouse: Store,
    tables: Mutex<BTreeMap<TableIdent, Entry>>,
}

impl MemoryCatalog {
    /// Makes an empty catalog whose tables live under the warehouse.
    pub fn new(warehouse: Store) -> Self {
        Self {
            warehouse,
            tables: Mutex::new(BTreeMap::new()),
        }
    }

    fn tables(&self) -> MutexGuard<'_, BTreeMap<TableIdent, Entry>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn table(&self, ident: &TableIdent, entry: &Entry) -> Result<Table> {
        open_table(
            &self.warehouse,
            ident,
            entry.metadata.clone(),
            entry.location.clone(),
        )
    }

    /// The location names a state, and no state twice: it is this catalog's fence.
    fn new_location(table_location: &str) -> String {
        format!("{table_location}/metadata/{}.metadata.json", Uuid::new_v4())
    }
}

#[async_trait]
impl Catalog for MemoryCatalog {
    async fn create_namespace(&self, _namespace: &NamespaceIdent) -> Result<()> {
        Ok(())
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        let tables = self.tables();
        Ok(tables
            .keys()
            .filter(|ident| ident.namespace() == namespace)
            .cloned()
            .collect())
    }

    async fn create_table(&self, namespace: &NamespaceIdent, mut creation: TableCreation) -> Result<Table> {
        let ident = TableIdent::new(namespace.clone(), creation.name.clone());
        let folder = format!("{}/{}", namespace.as_ref().join("/"), creation.name);
        let location = creation
            .location
            .get_or_insert_with(|| self.warehouse.url(&folder))
            .clone();
        let entry = Entry {
            metadata: creation_metadata(creation, &ident)?.into(),
            location: Self::new_location(&location),
        };
        let table = self.table(&ident, &entry)?;
        let mut tables = self.tables();
        if tables.contains_key(&ident) {
            return Err(already_exists(&ident));
        }
        tables.insert(ident, entry);
        Ok(table)
    }

    async fn load_table(&self, ident: &TableIdent) -> Result<Table> {
        let entry = self
            .tables()
            .get(ident)
            .cloned()
            .ok_or_else(|| not_found(ident))?;
        self.table(ident, &entry)
    }

    async fn drop_table(&self, ident: &TableIdent) -> Result<()> {
        self.tables()
            .remove(ident)
            .map(drop)
            .ok_or_else(|| not_found(ident))
    }

    async fn commit_table(&self, base: &Table, commit: TableCommit) -> Outcome {
        let ident = base.identifier();
        let metadata = match apply(base, commit) {
            Ok(metadata) => metadata,
            Err(outcome) => return outcome,
        };
        let entry = Entry {
            location: Self::new_location(metadata.location()),
            metadata: metadata.into(),
        };
        let table = match self.table(ident, &entry) {
            Ok(table) => table,
            // Not applied, but no reason that it never will.
            Err(error) => return Outcome::OutcomeUnknown(error),
        };
        let mut tables = self.tables();
        match tables.get_mut(ident) {
            Some(current) if Some(current.location.as_str()) == base.metadata_location() => {
                *current = entry;
                Outcome::Committed(Box::new(table))
            }
            Some(_) => lost_race(ident),
            None => Outcome::Rejected(not_found(ident)),
        }
    }
}
