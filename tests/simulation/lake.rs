//! The truth: objects that never fail, the catalog behind every fault layer, and every state that a table went through.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use iceberg::spec::{TableMetadata, TableMetadataRef};
use iceberg::table::Table;
use iceberg::{NamespaceIdent, Runtime, TableCreation, TableIdent};
use landfast::catalog::{Catalog, Outcome, SqlCatalog, StorageCatalog, TableCommit};
use landfast::clock::Clock;
use landfast::error::{Error, ErrorKind, Result};
use landfast::random::Random;
use landfast::storage::{Creation, Store};
use object_store::memory::InMemory;
use serde_json::Value;
use uuid::Uuid;

use super::plan::Kind;
use super::rest::RestCatalog;
use super::sql::Sqlite;
use crate::support::TestResult;
use crate::support::faults::{FaultCatalog, Faults};

pub const ROOT: &str = "memory:///w";

/// One state of a table.
#[derive(Debug, Clone)]
pub struct State {
    pub metadata: TableMetadataRef,
    /// Whether someone else made it.
    pub is_foreign: bool,
}

/// The backend that names the newest metadata.
#[derive(Debug)]
enum Truth {
    Storage,
    Rest(Arc<RestCatalog>),
    Sqlite(Sqlite, Arc<SqlCatalog>),
}

/// Objects, catalog and history.
#[derive(Debug)]
pub struct Lake {
    objects: Arc<InMemory>,
    /// The objects without faults.
    pub store: Store,
    truth: Truth,
    /// By name, also those of tables that are gone: `None` is a drop. On `storage` the place is the number in the name.
    states: Mutex<BTreeMap<TableIdent, Vec<Option<State>>>>,
    /// What processes were told is committed: table and snapshot.
    committed: Mutex<Vec<(Uuid, i64)>>,
}

impl Lake {
    pub fn new(kind: Kind, seed: u64, sqlite: &Sqlite) -> TestResult<Arc<Self>> {
        let objects = Arc::new(InMemory::new());
        let store = Store::new(ROOT, objects.clone());
        let truth = match kind {
            Kind::Storage => Truth::Storage,
            Kind::Rest => Truth::Rest(Arc::new(RestCatalog::new(store.clone()))),
            Kind::Sqlite => {
                let database = sqlite.fresh()?;
                let catalog = database.open(store.clone(), Random::seeded(seed))?;
                Truth::Sqlite(database, Arc::new(catalog))
            }
        };
        Ok(Arc::new(Self {
            objects,
            store,
            truth,
            states: Mutex::default(),
            committed: Mutex::default(),
        }))
    }

    /// The catalog and the objects as a process with these faults sees them.
    pub fn seen_through(
        self: &Arc<Self>,
        faults: &Faults,
        clock: &Arc<dyn Clock>,
    ) -> (Arc<dyn Catalog>, Store) {
        let store = faults.store(ROOT, self.objects.clone());
        let inner: Arc<dyn Catalog> = match &self.truth {
            Truth::Storage => Arc::new(StorageCatalog::new(store.clone(), clock.clone())),
            Truth::Rest(catalog) => catalog.clone(),
            Truth::Sqlite(..) => Arc::new(Blocking(self.clone())),
        };
        let view = View {
            inner,
            lake: self.clone(),
            store: store.clone(),
        };
        (Arc::new(FaultCatalog::new(Arc::new(view), faults)), store)
    }

    /// The catalog of someone whose requests never fail.
    pub fn clean(self: &Arc<Self>, clock: &Arc<dyn Clock>) -> Arc<dyn Catalog> {
        self.seen_through(&Faults::default(), clock).0
    }

    fn states_mut(&self) -> MutexGuard<'_, BTreeMap<TableIdent, Vec<Option<State>>>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every state so far of the table that has the name now, oldest first; none while there is no table.
    pub async fn states(&self, ident: &TableIdent) -> TestResult<Vec<State>> {
        let known = self.known(ident);
        let mut new = Vec::new();
        match &self.truth {
            Truth::Storage => {
                while let Some(bytes) = self.store.get(&version_key(ident, known + new.len() + 1)).await? {
                    let is_tombstone = serde_json::from_slice::<Value>(&bytes)?["landfast-dropped"] == true;
                    new.push(match is_tombstone {
                        true => None,
                        false => Some(serde_json::from_slice::<TableMetadata>(&bytes)?),
                    });
                }
            }
            Truth::Rest(catalog) => new = catalog.states_after(ident, known),
            Truth::Sqlite(..) => {}
        }
        let mut all = self.states_mut();
        let states = all.entry(ident.clone()).or_default();
        states.extend(new.into_iter().map(|metadata| {
            metadata.map(|metadata| State {
                metadata: Arc::new(metadata),
                is_foreign: false,
            })
        }));
        let dropped = states.iter().rposition(Option::is_none);
        let first = dropped.map_or(0, |at| at + 1);
        Ok(states[first..].iter().flatten().cloned().collect())
    }

    /// States and drops of a name that have been seen.
    fn known(&self, ident: &TableIdent) -> usize {
        self.states_mut().get(ident).map_or(0, Vec::len)
    }

    /// Notes what the database names now: called after every statement, so that no state is missed.
    fn note(&self, ident: &TableIdent, metadata: Option<TableMetadataRef>) {
        let state = metadata.map(|metadata| State {
            metadata,
            is_foreign: false,
        });
        self.states_mut().entry(ident.clone()).or_default().push(state);
    }

    pub fn committed(&self) -> Vec<(Uuid, i64)> {
        self.committed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The newest state as a table whose files never fail.
    pub async fn table(&self, ident: &TableIdent) -> TestResult<Option<Table>> {
        let states = self.states(ident).await?;
        let Some(newest) = states.last() else {
            return Ok(None);
        };
        let location = format!("{}/metadata/none", newest.metadata.location());
        Ok(Some(open(&self.store, ident, newest.metadata.clone(), location)?))
    }

    /// Changes the newest metadata as another engine does, in a commit of its own. Says `false`, and does nothing, when
    /// the current snapshot is no longer the `base` that the change was computed from.
    pub async fn edit(
        &self,
        ident: &TableIdent,
        base: Option<&TableMetadata>,
        edit: impl FnOnce(&mut Value),
    ) -> TestResult<bool> {
        let states = self.states(ident).await?;
        let newest = states.last().ok_or("There is no table to edit.")?;
        let fence =
            |metadata: &TableMetadata| (metadata.current_snapshot_id(), metadata.last_sequence_number());
        if base.is_some_and(|base| fence(base) != fence(&newest.metadata)) {
            return Ok(false);
        }
        let mut json = serde_json::to_value(newest.metadata.as_ref())?;
        edit(&mut json);
        let metadata: TableMetadata = serde_json::from_value(json)?;
        match &self.truth {
            Truth::Storage => {
                let key = version_key(ident, self.known(ident) + 1);
                let created = self
                    .store
                    .create(&key, serde_json::to_vec(&metadata)?.into())
                    .await?;
                assert_eq!(created, Creation::Created);
            }
            Truth::Rest(catalog) => catalog.push(ident, metadata.clone()),
            Truth::Sqlite(database, _) => {
                let number = self.known(ident);
                let location = format!(
                    "{}/metadata/{number:05}-foreign.metadata.json",
                    metadata.location()
                );
                let bytes = Bytes::from(serde_json::to_vec(&metadata)?);
                self.store.put(self.store.key(&location)?, bytes).await?;
                database.point(ident, location)?;
            }
        }
        self.states_mut()
            .entry(ident.clone())
            .or_default()
            .push(Some(State {
                metadata: Arc::new(metadata),
                is_foreign: true,
            }));
        Ok(true)
    }
}

fn version_key(ident: &TableIdent, number: usize) -> String {
    let folder = ident.namespace().join("/");
    format!("{folder}/{}/metadata/v{number}.metadata.json", ident.name())
}

/// A table over a store.
pub fn open(
    store: &Store,
    ident: &TableIdent,
    metadata: impl Into<TableMetadataRef>,
    location: String,
) -> Result<Table> {
    let built = Runtime::try_current().and_then(|runtime| {
        Table::builder()
            .identifier(ident.clone())
            .metadata(metadata)
            .metadata_location(location)
            .file_io(store.file_io())
            .disable_cache()
            .runtime(runtime)
            .build()
    });
    built
        .map_err(|error| Error::new(ErrorKind::Unavailable, "The table cannot be opened.").with_source(error))
}

/// What a process sees of the catalog: tables over its own store, and a note of what it is told.
#[derive(Debug)]
struct View {
    inner: Arc<dyn Catalog>,
    lake: Arc<Lake>,
    store: Store,
}

impl View {
    fn own(&self, table: &Table) -> Result<Table> {
        let location = table.metadata_location().unwrap_or_default().to_owned();
        open(&self.store, table.identifier(), table.metadata_ref(), location)
    }
}

#[async_trait]
impl Catalog for View {
    fn fences_by_snapshot(&self) -> bool {
        self.inner.fences_by_snapshot()
    }

    async fn create_namespace(&self, namespace: &NamespaceIdent) -> Result<()> {
        self.inner.create_namespace(namespace).await
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        self.inner.list_tables(namespace).await
    }

    async fn create_table(&self, namespace: &NamespaceIdent, creation: TableCreation) -> Result<Table> {
        self.own(&self.inner.create_table(namespace, creation).await?)
    }

    async fn load_table(&self, table: &TableIdent) -> Result<Table> {
        self.own(&self.inner.load_table(table).await?)
    }

    async fn drop_table(&self, table: &TableIdent) -> Result<()> {
        self.inner.drop_table(table).await
    }

    async fn commit_table(&self, base: &Table, commit: TableCommit) -> Outcome {
        match self.inner.commit_table(base, commit).await {
            Outcome::Committed(table) => {
                if let Some(id) = table.metadata().current_snapshot_id() {
                    let mut committed = self.lake.committed.lock().unwrap_or_else(PoisonError::into_inner);
                    committed.push((table.metadata().uuid(), id));
                }
                match self.own(&table) {
                    Ok(table) => Outcome::Committed(Box::new(table)),
                    Err(error) => Outcome::OutcomeUnknown(error),
                }
            }
            other => other,
        }
    }

    async fn settle(&self) {
        self.inner.settle().await;
    }
}

/// The SQL catalog on its own threads. The caller's thread stands still meanwhile, so the paused clock does too.
#[derive(Debug)]
struct Blocking(Arc<Lake>);

impl Blocking {
    fn call<T, Work>(&self, call: impl FnOnce(Arc<SqlCatalog>) -> Work) -> T
    where
        T: Send + 'static,
        Work: Future<Output = T> + Send + 'static,
    {
        let Truth::Sqlite(database, catalog) = &self.0.truth else {
            unreachable!("made for SQLite only");
        };
        database.wait(call(catalog.clone()))
    }
}

#[async_trait]
impl Catalog for Blocking {
    async fn create_namespace(&self, namespace: &NamespaceIdent) -> Result<()> {
        let namespace = namespace.clone();
        self.call(|catalog| async move { catalog.create_namespace(&namespace).await })
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        let namespace = namespace.clone();
        self.call(|catalog| async move { catalog.list_tables(&namespace).await })
    }

    async fn create_table(&self, namespace: &NamespaceIdent, creation: TableCreation) -> Result<Table> {
        let namespace = namespace.clone();
        let created = self.call(|catalog| async move { catalog.create_table(&namespace, creation).await });
        if let Ok(table) = &created {
            self.0.note(table.identifier(), Some(table.metadata_ref()));
        }
        created
    }

    async fn load_table(&self, table: &TableIdent) -> Result<Table> {
        let table = table.clone();
        self.call(|catalog| async move { catalog.load_table(&table).await })
    }

    async fn drop_table(&self, table: &TableIdent) -> Result<()> {
        let ident = table.clone();
        let dropped = self.call(|catalog| async move { catalog.drop_table(&ident).await });
        if dropped.is_ok() {
            self.0.note(table, None);
        }
        dropped
    }

    async fn commit_table(&self, base: &Table, commit: TableCommit) -> Outcome {
        let base = base.clone();
        let outcome = self.call(|catalog| async move { catalog.commit_table(&base, commit).await });
        if let Outcome::Committed(table) = &outcome {
            self.0.note(table.identifier(), Some(table.metadata_ref()));
        }
        outcome
    }
}
