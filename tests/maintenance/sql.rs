//! The sweep of tables whose states a database names.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use iceberg::TableIdent;
use landfast::catalog::{Catalog, SqlCatalog};
use landfast::clock::Moment;
use landfast::commit::{ChangeSet, Engine, Group};
use landfast::error::ErrorKind;
use landfast::ledger::Ledger;
use landfast::maintenance::{Kind, maintain, verify};
use landfast::random::Random;
use landfast::storage::Store;
use libtest_mimic::Trial;
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use tempfile::TempDir;

use crate::commit::world::entries;
use crate::support::aged::AgedStore;
use crate::support::clock::TestClock;
use crate::support::tables::{create, files_of, ids_now, orders};
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        states_that_no_log_names_go,
        folder_that_another_table_uses_is_refused,
    ]
}

struct World {
    _folder: TempDir,
    uri: String,
    clock: Arc<TestClock>,
    random: Arc<Random>,
    store: Store,
    catalog: Arc<dyn Catalog>,
    engine: Engine,
}

impl World {
    async fn new() -> TestResult<Self> {
        let folder = tempfile::tempdir()?;
        let clock = TestClock::at(Utc::now());
        let store = Store::new("memory:///w", Arc::new(AgedStore::new(clock.clone())));
        let random = Arc::new(Random::from_os());
        let uri = format!("sqlite://{}/catalog.db", folder.path().display());
        let parsed = uri.parse()?;
        let opened = SqlCatalog::open(&parsed, "landfast", store.clone(), random.clone());
        let catalog: Arc<dyn Catalog> = Arc::new(opened.await?);
        let ledger = Ledger::new(store.clone());
        let engine = Engine::new(catalog.clone(), ledger, clock.clone(), random.clone());
        create(catalog.as_ref(), &orders()).await?;
        Ok(Self {
            _folder: folder,
            uri,
            clock,
            random,
            store,
            catalog,
            engine,
        })
    }

    async fn commit(&self, ident: &TableIdent, ids: &[i64]) -> TestResult {
        let mut head = self.engine.head(self.catalog.load_table(ident).await?).await?;
        let files = files_of(head.table(), ids, &self.random).await?;
        let mut changes = ChangeSet::append(self.random.uuid(), Moment::now(self.clock.as_ref()));
        changes.add(Group::durable(files, entries(ids)));
        self.engine.attempt(&mut head, &mut changes).await?;
        Ok(())
    }

    async fn states(&self) -> TestResult<usize> {
        let keys = self.store.keys("shop/orders/metadata").await?;
        Ok(keys.iter().filter(|key| key.ends_with(".metadata.json")).count())
    }
}

async fn states_that_no_log_names_go() -> TestResult {
    let world = World::new().await?;
    for id in 0..130 {
        world.commit(&orders(), &[id]).await?;
    }
    // A state that was written and never named: its update was lost.
    let ours = world.random.uuid();
    let uuid = world.catalog.load_table(&orders()).await?.metadata().uuid();
    let lost = format!("shop/orders/metadata/00200-{ours}.metadata.json");
    let text = format!("{{\"format-version\":2,\"table-uuid\":\"{uuid}\"}}");
    world.store.put(&lost, Bytes::from(text.clone())).await?;
    // One that another writer compressed, of which the beginning is read.
    let compressed = "shop/orders/metadata/00201-other.gz.metadata.json";
    let long = format!("{text}{}", uuid.to_string().repeat(1000));
    let noise: String = (0..20_000).map(|_| world.random.uuid().to_string()).collect();
    world
        .store
        .put(compressed, gzip(&format!("{long}{noise}"))?)
        .await?;
    assert_eq!(world.states().await?, 133);
    world.clock.advance(TimeDelta::days(4));
    let done = maintain(&world.engine, &orders(), false).await?;
    assert!(done.snapshot_id.is_some());
    // The log holds a hundred, and the newest is in none.
    assert_eq!(world.states().await?, 102);
    assert_eq!(done.deleted[&Kind::Metadata].files, 32);
    assert_eq!(world.store.get(&lost).await?, None);
    assert_eq!(ids_now(world.catalog.as_ref(), &orders()).await?.len(), 130);
    assert!(verify(&world.engine, &orders()).await?.findings.is_empty());
    world.commit(&orders(), &[500]).await
}

fn gzip(text: &str) -> TestResult<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes())?;
    Ok(encoder.finish()?.into())
}

async fn folder_that_another_table_uses_is_refused() -> TestResult {
    let world = World::new().await?;
    world.commit(&orders(), &[1]).await?;
    // Renamed as other engines do; the next table of the name has the same folder.
    let mut database = SqliteConnection::connect(&world.uri).await?;
    sqlx::query("UPDATE iceberg_tables SET table_name = 'old' WHERE table_name = 'orders'")
        .execute(&mut database)
        .await?;
    create(world.catalog.as_ref(), &orders()).await?;
    world.commit(&orders(), &[2]).await?;
    world.clock.advance(TimeDelta::days(30));
    world.commit(&orders(), &[3]).await?;
    let before = world.store.keys("shop").await?;
    let old = TableIdent::from_strs(["shop", "old"])?;
    for ident in [orders(), old.clone()] {
        let error = maintain(&world.engine, &ident, false).await.expect_err("shared");
        assert_eq!(error.kind(), ErrorKind::Rejected);
        assert!(error.report().contains("Another table"), "{}", error.report());
    }
    assert_eq!(world.store.keys("shop").await?, before);
    assert_eq!(ids_now(world.catalog.as_ref(), &old).await?, [1]);
    Ok(())
}
