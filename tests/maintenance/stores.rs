//! A table in one store, its ledger in another.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use iceberg::table::Table;
use iceberg::{NamespaceIdent, TableCreation, TableIdent};
use landfast::catalog::{Catalog, Outcome, StorageCatalog, TableCommit};
use landfast::clock::Clock;
use landfast::commit::{Engine, Group};
use landfast::dead_letter::DeadLetters;
use landfast::decode::{Reason, RejectKind, RejectedRecord};
use landfast::error::Result;
use landfast::ledger::{DEFAULT_RETENTION, Entry, Kept, Ledger};
use landfast::maintenance::{Kind, maintain, settle_letters, verify};
use landfast::random::Random;
use landfast::storage::Store;
use landfast::trigger::{DeliveryId, Envelope};
use libtest_mimic::Trial;

use super::sweep::abandon;
use super::{is_proven, upkeep};
use crate::commit::world::World;
use crate::support::aged::AgedStore;
use crate::support::clock::TestClock;
use crate::support::faults::{FaultCatalog, Faults};
use crate::support::tables::{create, files_of, ids_now, orders};
use crate::support::{TestResult, paused_trials};

pub fn tests() -> Vec<Trial> {
    paused_trials![
        table_and_ledger_of_two_stores_are_swept_and_proven,
        letters_are_settled_by_the_store_of_their_table,
        snapshot_of_a_clock_that_was_ahead_proves_no_letter_old,
    ]
}

/// A catalog whose tables are in a store of their own.
#[derive(Debug)]
struct Elsewhere {
    inner: Arc<dyn Catalog>,
    store: Store,
}

#[async_trait]
impl Catalog for Elsewhere {
    async fn create_namespace(&self, namespace: &NamespaceIdent) -> Result<()> {
        self.inner.create_namespace(namespace).await
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        self.inner.list_tables(namespace).await
    }

    async fn create_table(&self, namespace: &NamespaceIdent, creation: TableCreation) -> Result<Table> {
        self.inner.create_table(namespace, creation).await
    }

    async fn load_table(&self, table: &TableIdent) -> Result<Table> {
        self.inner.load_table(table).await
    }

    async fn drop_table(&self, table: &TableIdent) -> Result<()> {
        self.inner.drop_table(table).await
    }

    async fn commit_table(&self, base: &Table, commit: TableCommit) -> Outcome {
        self.inner.commit_table(base, commit).await
    }

    fn store_of(&self, _table: &Table) -> Result<Option<Store>> {
        Ok(Some(self.store.clone()))
    }
}

/// A world whose ledgers are in the other store.
async fn apart() -> TestResult<(World, Store)> {
    let (clock, faults) = (TestClock::at(Utc::now()), Faults::default());
    let store = Store::new("memory:///tables", Arc::new(AgedStore::new(clock.clone())));
    let ledgers = Store::new("memory:///ledgers", Arc::new(AgedStore::new(clock.clone())));
    let storage = Arc::new(StorageCatalog::new(store.clone(), clock.clone()));
    let catalog: Arc<dyn Catalog> = Arc::new(Elsewhere {
        inner: Arc::new(FaultCatalog::new(storage, &faults)),
        store: store.clone(),
    });
    let random = Arc::new(Random::seeded(1));
    let ledger = Ledger::new(ledgers.clone());
    let engine = Engine::new(catalog.clone(), ledger, clock.clone(), random.clone());
    create(catalog.as_ref(), &orders()).await?;
    let world = World {
        faults,
        store,
        catalog,
        clock,
        random,
        engine,
    };
    Ok((world, ledgers))
}

/// Keeps a letter of a delivery, to wait for its commit.
async fn wait(world: &World, letters: &DeadLetters, message: &str) -> TestResult<Entry> {
    let published_at = world.clock.now();
    let envelope = Envelope {
        id: DeliveryId::message("s", message, published_at),
        source: "s".to_owned(),
        published_at,
        received_at: published_at,
        fingerprint: None,
        division: None,
        attributes: BTreeMap::new(),
    };
    let record = RejectedRecord {
        position: 0,
        reason: Reason {
            kind: RejectKind::Syntax,
            message: "no JSON".to_owned(),
            path: None,
        },
        raw: Bytes::from_static(b"{"),
    };
    let id = world.random.timed_uuid(published_at);
    letters
        .write_pending(&envelope, "shop.orders", id, &[record])
        .await?;
    let kept = Kept {
        letters: Some(id),
        ..Kept::default()
    };
    Ok(Entry {
        value: kept.encode(),
        ..Entry::from(&envelope.id)
    })
}

async fn letters_are_settled_by_the_store_of_their_table() -> TestResult {
    let (world, _ledgers) = apart().await?;
    let kept = Store::new("memory:///letters", Arc::new(AgedStore::new(world.clock.clone())));
    let letters = DeadLetters::new(kept.clone());
    let settle = async |dry_run| {
        let settled = settle_letters(&world.engine, &letters, &orders(), DEFAULT_RETENTION, dry_run).await?;
        TestResult::Ok((settled.confirmed, settled.deleted, settled.waiting))
    };
    let named = wait(&world, &letters, "named").await?;
    wait(&world, &letters, "refused").await?;
    let mut head = world.fresh_head().await?;
    let mut changes = world.no_changes();
    let files = files_of(head.table(), &[1], &world.random).await?;
    changes.add(Group::durable(files, vec![named]));
    world.engine.attempt(&mut head, &mut changes).await?;
    assert_eq!(settle(true).await?, (1, 0, 1));
    assert_eq!(settle(false).await?, (1, 0, 1));
    // A snapshot four days after it, in the table's store, proves that nobody commits it any more.
    world.clock.advance(TimeDelta::days(4));
    world.commit_elsewhere(&[2]).await?;
    assert_eq!(settle(false).await?, (0, 1, 0));
    // Where none came, an empty one is made.
    wait(&world, &letters, "late").await?;
    world.clock.advance(TimeDelta::days(4));
    assert_eq!(settle(false).await?, (0, 1, 0));
    assert_eq!(
        (
            kept.keys("confirmed").await?.len(),
            kept.keys("pending").await?.len()
        ),
        (1, 0)
    );
    assert_eq!(ids_now(world.catalog.as_ref(), &orders()).await?, [1, 2]);
    Ok(())
}

async fn snapshot_of_a_clock_that_was_ahead_proves_no_letter_old() -> TestResult {
    let (world, _ledgers) = apart().await?;
    let kept = Store::new("memory:///letters", Arc::new(AgedStore::new(world.clock.clone())));
    let letters = DeadLetters::new(kept.clone());
    world.clock.advance(TimeDelta::days(5));
    world.commit_elsewhere(&[1]).await?;
    world.clock.advance(TimeDelta::days(-5));
    wait(&world, &letters, "on its way").await?;
    let settled = settle_letters(&world.engine, &letters, &orders(), DEFAULT_RETENTION, false).await?;
    assert_eq!((settled.confirmed, settled.deleted, settled.waiting), (0, 0, 1));
    assert_eq!(kept.keys("pending").await?.len(), 1);
    Ok(())
}

async fn table_and_ledger_of_two_stores_are_swept_and_proven() -> TestResult {
    let (world, ledgers) = apart().await?;
    world.commit_elsewhere(&[1]).await?;
    let before = (world.store.keys("shop").await?, ledgers.keys("").await?);
    assert!(before.1.iter().all(|key| key.starts_with("_landfast/ledger/")));
    abandon(&world, &[2]).await?;
    let verdict = verify(&world.engine, &orders()).await?;
    assert_eq!(
        verdict.orphans.keys().copied().collect::<Vec<_>>(),
        [
            Kind::DataFile,
            Kind::Manifest,
            Kind::ManifestList,
            Kind::LedgerHead
        ]
    );
    world.clock.advance(TimeDelta::days(3) + TimeDelta::hours(1));
    let planned = maintain(&world.engine, &orders(), true).await?.deleted;
    assert_eq!(upkeep(&world).await?.deleted, planned);
    assert_eq!(planned.values().map(|total| total.files).sum::<u64>(), 4);
    // What was named is there, in both.
    let after = (world.store.keys("shop").await?, ledgers.keys("").await?);
    assert!(before.0.iter().all(|key| after.0.contains(key)));
    assert!(before.1.iter().all(|key| after.1.contains(key)));
    is_proven(&world).await?;
    assert!(verify(&world.engine, &orders()).await?.orphans.is_empty());
    assert_eq!(ids_now(world.catalog.as_ref(), &orders()).await?, [1]);
    Ok(())
}
