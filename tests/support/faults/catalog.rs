//! The catalog that obeys [`Faults`].

use std::sync::Arc;

use async_trait::async_trait;
use iceberg::table::Table;
use iceberg::{NamespaceIdent, TableCreation, TableIdent};
use landfast::catalog::{Catalog, Outcome, TableCommit};
use landfast::error::{Error, ErrorKind, Result};

use super::{Faults, Op};

/// A catalog that obeys [`Faults`].
#[derive(Debug)]
pub struct FaultCatalog {
    inner: Arc<dyn Catalog>,
    faults: Faults,
}

impl FaultCatalog {
    /// Wraps a catalog.
    pub fn new(inner: Arc<dyn Catalog>, faults: &Faults) -> Self {
        Self {
            inner,
            faults: faults.clone(),
        }
    }
}

fn lost_by(kind: ErrorKind) -> Error {
    Error::new(kind, "The answer is lost.")
}

#[async_trait]
impl Catalog for FaultCatalog {
    async fn create_namespace(&self, namespace: &NamespaceIdent) -> Result<()> {
        self.inner.create_namespace(namespace).await
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        self.inner.list_tables(namespace).await
    }

    async fn create_table(&self, namespace: &NamespaceIdent, creation: TableCreation) -> Result<Table> {
        let name = TableIdent::new(namespace.clone(), creation.name.clone()).to_string();
        let create = || {
            let (inner, namespace, creation) = (self.inner.clone(), namespace.clone(), again(&creation));
            async move { inner.create_table(&namespace, creation).await }
        };
        let created = self.faults.run(Op::CreateTable, &name, create).await;
        created.unwrap_or_else(|| Err(lost_by(ErrorKind::Unavailable)))
    }

    async fn load_table(&self, table: &TableIdent) -> Result<Table> {
        let load = || {
            let (inner, table) = (self.inner.clone(), table.clone());
            async move { inner.load_table(&table).await }
        };
        let loaded = self.faults.run(Op::LoadTable, &table.to_string(), load).await;
        loaded.unwrap_or_else(|| Err(lost_by(ErrorKind::Unavailable)))
    }

    async fn drop_table(&self, table: &TableIdent) -> Result<()> {
        let drop = || {
            let (inner, table) = (self.inner.clone(), table.clone());
            async move { inner.drop_table(&table).await }
        };
        let dropped = self.faults.run(Op::DropTable, &table.to_string(), drop).await;
        dropped.unwrap_or_else(|| Err(lost_by(ErrorKind::Unavailable)))
    }

    async fn commit_table(&self, base: &Table, commit: TableCommit) -> Outcome {
        let send = || {
            let (inner, base, commit) = (self.inner.clone(), base.clone(), commit.clone());
            async move { inner.commit_table(&base, commit).await }
        };
        let name = base.identifier().to_string();
        let outcome = self.faults.run(Op::CommitTable, &name, send).await;
        outcome.unwrap_or_else(|| Outcome::OutcomeUnknown(lost_by(ErrorKind::OutcomeUnknown)))
    }

    fn fences_by_snapshot(&self) -> bool {
        self.inner.fences_by_snapshot()
    }

    async fn settle(&self) {
        self.inner.settle().await;
    }
}

/// `TableCreation` has no `Clone`.
fn again(creation: &TableCreation) -> TableCreation {
    TableCreation {
        name: creation.name.clone(),
        location: creation.location.clone(),
        schema: creation.schema.clone(),
        partition_spec: creation.partition_spec.clone(),
        sort_order: creation.sort_order.clone(),
        properties: creation.properties.clone(),
        format_version: creation.format_version,
    }
}
