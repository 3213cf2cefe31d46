//! A table, an engine over a store and a catalog that can fail, and other processes' commits.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use chrono::Utc;
use iceberg::spec::{Literal, Schema, Transform};
use iceberg::{TableRequirement, TableUpdate};
use landfast::catalog::{Catalog, Outcome, SqlCatalog, StorageCatalog, TableCommit};
use landfast::clock::Moment;
use landfast::commit::{Alteration, ChangeSet, Engine, Group, Head, Part};
use landfast::config::PartitionBy;
use landfast::error::ErrorKind;
use landfast::ledger::{Entry, Known, Ledger, Space};
use landfast::random::Random;
use landfast::storage::Store;
use object_store::memory::InMemory;
use tokio::time::{Duration, Instant};

use crate::support::TestResult;
use crate::support::aged::AgedStore;
use crate::support::clock::TestClock;
use crate::support::faults::{FaultCatalog, Faults, Op};
use crate::support::tables::{create, files_of, ids_now, orders, pending_files_of, referenced_files};

pub struct World {
    pub faults: Faults,
    pub store: Store,
    pub catalog: Arc<dyn Catalog>,
    pub clock: Arc<TestClock>,
    pub random: Arc<Random>,
    pub engine: Engine,
}

impl World {
    pub async fn new() -> TestResult<(Self, Head)> {
        let faults = Faults::default();
        let store = faults.store("memory:///w", InMemory::new());
        Self::over(faults, store).await
    }

    pub async fn over(faults: Faults, store: Store) -> TestResult<(Self, Head)> {
        Self::at(TestClock::at(Utc::now()), faults, store).await
    }

    /// A table that was made just now, by a clock that a test turns. Files are as old as the clock says.
    pub async fn aging() -> TestResult<(Self, Head)> {
        let clock = TestClock::at(Utc::now());
        let faults = Faults::default();
        let store = faults.store("memory:///w", AgedStore::new(clock.clone()));
        Self::at(clock, faults, store).await
    }

    async fn at(clock: Arc<TestClock>, faults: Faults, store: Store) -> TestResult<(Self, Head)> {
        let storage = Arc::new(StorageCatalog::new(store.clone(), clock.clone()));
        Self::with(clock, faults, store, storage).await
    }

    /// The same, named by a SQLite database in this folder: needs a clock that runs.
    pub async fn on_sqlite(folder: &Path) -> TestResult<(Self, Head)> {
        let clock = TestClock::at(Utc::now());
        let faults = Faults::default();
        let store = faults.store("memory:///w", InMemory::new());
        let uri = format!("sqlite://{}/catalog.db", folder.display()).parse()?;
        let random = Arc::new(Random::seeded(2));
        let sqlite = SqlCatalog::open(&uri, "landfast", store.clone(), random).await?;
        Self::with(clock, faults, store, Arc::new(sqlite)).await
    }

    async fn with(
        clock: Arc<TestClock>,
        faults: Faults,
        store: Store,
        named_by: Arc<dyn Catalog>,
    ) -> TestResult<(Self, Head)> {
        let catalog: Arc<dyn Catalog> = Arc::new(FaultCatalog::new(named_by, &faults));
        let random = Arc::new(Random::seeded(1));
        let engine = Engine::new(
            catalog.clone(),
            Ledger::new(store.clone()),
            clock.clone(),
            random.clone(),
        );
        let head = engine.head(create(catalog.as_ref(), &orders()).await?).await?;
        let world = Self {
            faults,
            store,
            catalog,
            clock,
            random,
            engine,
        };
        Ok((world, head))
    }

    /// A change set of one file with these ids, from as many deliveries.
    pub async fn changes(&self, head: &Head, ids: &[i64]) -> TestResult<ChangeSet> {
        let mut changes = self.no_changes();
        changes.add(self.group(head, ids).await?);
        Ok(changes)
    }

    /// The same, while the file is on its way.
    pub async fn pending_changes(&self, head: &Head, ids: &[i64]) -> TestResult<ChangeSet> {
        let mut changes = self.no_changes();
        let files = pending_files_of(head.table(), ids, &self.random).await?;
        changes.add(Group::pending(files, entries(ids)));
        Ok(changes)
    }

    pub fn no_changes(&self) -> ChangeSet {
        ChangeSet::append(self.random.uuid(), Moment::now(self.clock.as_ref()))
    }

    /// An overwrite of a part by a file with these ids, from as many deliveries.
    pub async fn overwrite(&self, head: &mut Head, part: Part, ids: &[i64]) -> TestResult<ChangeSet> {
        let begun = Moment::now(self.clock.as_ref());
        let mut changes = self.engine.overwrite(head, part, begun).await?;
        if !ids.is_empty() {
            changes.add(self.group(head, ids).await?);
        }
        Ok(changes)
    }

    /// The same by rows that come in a delivery of their own.
    pub async fn replace(&self, head: &mut Head, part: Part, ids: &[i64]) -> TestResult<ChangeSet> {
        let mut changes = self.overwrite(head, part, &[]).await?;
        let files = files_of(head.table(), ids, &self.random).await?;
        let mut delivery = entries(&[0]);
        delivery[0].id = self.random.uuid().as_u128();
        changes.add(Group::durable(files, delivery));
        Ok(changes)
    }

    /// Makes the table one that is partitioned by `name`: a partition for each id.
    pub async fn partitioned() -> TestResult<(Self, Head)> {
        let (world, mut head) = Self::new().await?;
        let by_name = Alteration::PartitionBy(vec![PartitionBy {
            transform: Transform::Identity,
            column: "name".to_owned(),
        }]);
        world.engine.alter(&mut head, &[by_name], patience()).await?;
        Ok((world, head))
    }

    /// A file with these ids, from as many deliveries.
    pub async fn group(&self, head: &Head, ids: &[i64]) -> TestResult<Group> {
        let files = files_of(head.table(), ids, &self.random).await?;
        Ok(Group::durable(files, entries(ids)))
    }

    /// Loads again, and says whether the fence moved and the change set's deliveries are in the table.
    pub async fn reload(&self, head: &mut Head, changes: &ChangeSet) -> TestResult<(bool, bool)> {
        let moved = self.engine.reload(head, changes).await?;
        let known = self.engine.check(head, changes).await?;
        Ok((moved, known.iter().all(|known| matches!(known, Known::Landed(_)))))
    }

    /// Commits these ids as another process would.
    pub async fn commit_elsewhere(&self, ids: &[i64]) -> TestResult {
        let mut head = self
            .engine
            .head(self.catalog.load_table(&orders()).await?)
            .await?;
        let mut changes = self.changes(&head, ids).await?;
        self.engine.attempt(&mut head, &mut changes).await?;
        Ok(())
    }

    pub async fn change_schema_elsewhere(&self, schema: Schema) -> TestResult {
        self.update_elsewhere(vec![
            TableUpdate::AddSchema { schema },
            TableUpdate::SetCurrentSchema { schema_id: -1 },
        ])
        .await
    }

    /// Attempts, and expects this kind of failure.
    pub async fn fails(&self, head: &mut Head, changes: &mut ChangeSet, kind: ErrorKind) {
        let error = self.engine.attempt(head, changes).await.expect_err("a fault");
        assert_eq!(error.kind(), kind, "{}", error.report());
    }

    pub async fn ids(&self) -> TestResult<Vec<i64>> {
        ids_now(self.catalog.as_ref(), &orders()).await
    }

    pub async fn count(&self, pattern: &str) -> TestResult<usize> {
        let keys = self.store.keys("shop/orders").await?;
        Ok(keys.iter().filter(|key| key.contains(pattern)).count())
    }

    /// The current state needs no file that is not there, and nothing was ever deleted.
    pub async fn is_whole(&self) -> TestResult {
        let table = self.catalog.load_table(&orders()).await?;
        for file in referenced_files(&table).await? {
            assert!(self.store.get(self.store.key(&file)?).await?.is_some(), "{file}");
        }
        assert_eq!(self.faults.calls(Op::Delete, ""), 0);
        Ok(())
    }

    /// Commits these updates as another engine would.
    pub async fn update_elsewhere(&self, updates: Vec<TableUpdate>) -> TestResult {
        let base = self.catalog.load_table(&orders()).await?;
        let commit = TableCommit {
            requirements: Vec::<TableRequirement>::new(),
            updates,
        };
        match self.catalog.commit_table(&base, commit).await {
            Outcome::Committed(_) => Ok(()),
            outcome => Err(format!("{outcome:?}").into()),
        }
    }

    /// Sets a property of the table as another engine would.
    pub async fn set_elsewhere(&self, property: &str, value: impl Into<String>) -> TestResult {
        let updates = [(property.to_owned(), value.into())].into();
        self.update_elsewhere(vec![TableUpdate::SetProperties { updates }])
            .await
    }

    /// The table as a process that starts now loads it.
    pub async fn fresh_head(&self) -> TestResult<Head> {
        Ok(self
            .engine
            .head(self.catalog.load_table(&orders()).await?)
            .await?)
    }

    /// Where the newest state of the table is: equal as long as nobody commits.
    pub async fn state(&self) -> TestResult<Option<String>> {
        Ok(self
            .fresh_head()
            .await?
            .table()
            .metadata_location()
            .map(str::to_owned))
    }

    /// Whether a fresh load says that the ids have landed.
    pub async fn have_landed(&self, ids: &[i64]) -> TestResult<bool> {
        let mut head = self.fresh_head().await?;
        let changes = self.changes(&head, ids).await?;
        let known = self.engine.check(&mut head, &changes).await?;
        Ok(known.iter().all(|known| matches!(known, Known::Landed(_))))
    }
}

/// The partitions of rows with these ids in a table that is partitioned by `name`.
pub fn named(head: &Head, ids: &[i64]) -> TestResult<Part> {
    let of = |id: &i64| vec![("name", Some(Literal::string(format!("n{id}"))))];
    let partitions: Vec<_> = ids.iter().map(of).collect();
    Ok(Part::partitions(head.table(), &partitions)?)
}

/// A deadline of a minute.
pub fn patience() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

pub fn entries(ids: &[i64]) -> Vec<Entry> {
    let entries = ids.iter().map(|id| Entry {
        space: Space::Kept,
        index_time: 0,
        id: u128::from(id.unsigned_abs()),
        value: Bytes::new(),
    });
    entries.collect()
}
