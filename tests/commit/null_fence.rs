//! A table without a snapshot, where only a moved snapshot fences: that fence can come back (protocol §4).

use std::sync::Arc;

use chrono::Utc;
use iceberg::TableUpdate;
use iceberg::spec::MAIN_BRANCH;
use landfast::catalog::Catalog;
use landfast::commit::{COMMIT_ID, Engine};
use landfast::error::ErrorKind;
use landfast::ledger::{Ledger, POINTER, SUMMARY_HEAD};
use landfast::maintenance::verify;
use landfast::random::Random;
use libtest_mimic::Trial;
use object_store::memory::InMemory;

use super::world::World;
use crate::simulation::rest::RestCatalog;
use crate::support::clock::TestClock;
use crate::support::faults::{Fault, FaultCatalog, Faults, Op};
use crate::support::tables::{create, orders, summary};
use crate::support::{TestResult, paused_trials};

pub fn tests() -> Vec<Trial> {
    paused_trials![
        empty_commit_brings_neither_pointer_nor_head,
        null_fence_that_comes_back_takes_no_pointer_back,
    ]
}

/// A world over a catalog with the rules of REST servers.
async fn world() -> TestResult<World> {
    let faults = Faults::default();
    let store = faults.store("memory:///w", InMemory::new());
    let inner = Arc::new(RestCatalog::new(store.clone()));
    let catalog: Arc<dyn Catalog> = Arc::new(FaultCatalog::new(inner, &faults));
    let clock = TestClock::at(Utc::now());
    let random = Arc::new(Random::seeded(1));
    let ledger = Ledger::new(store.clone());
    let engine = Engine::new(catalog.clone(), ledger, clock.clone(), random.clone());
    create(catalog.as_ref(), &orders()).await?;
    Ok(World {
        faults,
        store,
        catalog,
        clock,
        random,
        engine,
    })
}

/// `CREATE OR REPLACE TABLE`: no current snapshot, the properties as they were.
async fn replace(world: &World) -> TestResult {
    world
        .update_elsewhere(vec![TableUpdate::RemoveSnapshotRef {
            ref_name: MAIN_BRANCH.to_owned(),
        }])
        .await
}

/// The same, and what was there expires at once.
async fn replace_and_expire(world: &World) -> TestResult {
    let table = world.catalog.load_table(&orders()).await?;
    let snapshots = table.metadata().snapshots();
    let snapshot_ids = snapshots.map(|snapshot| snapshot.snapshot_id()).collect();
    replace(world).await?;
    world
        .update_elsewhere(vec![TableUpdate::RemoveSnapshots { snapshot_ids }])
        .await
}

async fn empty_commit_brings_neither_pointer_nor_head() -> TestResult {
    let world = world().await?;
    world.commit_elsewhere(&[1]).await?;
    replace(&world).await?;
    let mut head = world.fresh_head().await?;
    let pointer = head.table().metadata().properties().get(POINTER).cloned();
    assert!(pointer.is_some());
    let mut changes = world.changes(&head, &[2]).await?;
    // The empty snapshot is there, and the process that sent it is not told.
    world.faults.once(Op::CommitTable, "", Fault::FailAfter);
    world
        .fails(&mut head, &mut changes, ErrorKind::OutcomeUnknown)
        .await;
    let table = world.catalog.load_table(&orders()).await?;
    assert!(summary(&table, COMMIT_ID).is_some());
    assert_eq!(summary(&table, SUMMARY_HEAD), None);
    assert_eq!(table.metadata().properties().get(POINTER), pointer.as_ref());
    // What it stands for is understood, by the ledger, by the proof and by the next commit.
    assert!(world.have_landed(&[1]).await? && !world.have_landed(&[2]).await?);
    let verdict = verify(&world.engine, &orders()).await?;
    assert_eq!(verdict.findings, Vec::<String>::new());
    world.reload(&mut head, &changes).await?;
    world.engine.attempt(&mut head, &mut changes).await?;
    assert!(world.have_landed(&[1, 2]).await?);
    assert_eq!(world.ids().await?, [2]);
    Ok(())
}

async fn null_fence_that_comes_back_takes_no_pointer_back() -> TestResult {
    let world = world().await?;
    world.commit_elsewhere(&[1]).await?;
    replace_and_expire(&world).await?;
    let mut late = world.fresh_head().await?;
    let mut changes = world.changes(&late, &[3]).await?;
    // Another process lands a delivery, and the table is replaced once more: the requirements hold again.
    world.commit_elsewhere(&[2]).await?;
    replace_and_expire(&world).await?;
    world.engine.attempt(&mut late, &mut changes).await?;
    assert!(world.have_landed(&[1, 2, 3]).await?);
    assert_eq!(world.ids().await?, [3]);
    Ok(())
}
