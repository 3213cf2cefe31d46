//! A table without a snapshot, where only a moved snapshot fences: that fence can come back (protocol §4).

use std::sync::Arc;

use chrono::Utc;
use iceberg::TableUpdate;
use iceberg::spec::MAIN_BRANCH;
use landfast::catalog::Catalog;
use landfast::clock::Moment;
use landfast::commit::{COMMIT_ID, ChangeSet, Engine, Head};
use landfast::error::{Error, ErrorKind};
use landfast::ledger::{Forgetting, Ledger, POINTER, SUMMARY_HEAD};
use landfast::maintenance::{Repair, forget, repair, verify};
use landfast::random::Random;
use libtest_mimic::Trial;
use object_store::memory::InMemory;

use super::world::{World, entries};
use crate::simulation::rest::RestCatalog;
use crate::support::clock::TestClock;
use crate::support::faults::{Fault, FaultCatalog, Faults, Op};
use crate::support::tables::{create, orders, summary};
use crate::support::{TestResult, paused_trials};

pub fn tests() -> Vec<Trial> {
    paused_trials![
        empty_commit_brings_neither_pointer_nor_head,
        null_fence_that_comes_back_takes_no_pointer_back,
        late_ledger_takes_no_pointer_back,
        forget_and_repair_make_a_fence_first,
        fence_that_is_replaced_at_once_takes_no_data,
        table_that_is_another_behind_the_fence_takes_no_data,
    ]
}

/// A world over a catalog with the rules of REST servers.
pub(super) async fn world() -> TestResult<World> {
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

/// Attempts a change set on a table without a snapshot; `meanwhile` happens between the empty commit and the load.
async fn attempt_while<W>(world: &World, meanwhile: W) -> TestResult<(Head, ChangeSet, Error)>
where
    W: AsyncFnOnce() -> TestResult,
{
    let mut head = world.fresh_head().await?;
    let mut changes = world.changes(&head, &[2]).await?;
    let gate = world.faults.hold(Op::LoadTable, "");
    let deed = async {
        gate.reached().await;
        world.faults.clear();
        meanwhile().await?;
        gate.release();
        TestResult::Ok(())
    };
    let (attempted, done) = tokio::join!(world.engine.attempt(&mut head, &mut changes), deed);
    done?;
    let error = attempted.err().ok_or("It committed.")?;
    Ok((head, changes, error))
}

async fn fence_that_is_replaced_at_once_takes_no_data() -> TestResult {
    let world = world().await?;
    let (mut head, mut changes, error) =
        attempt_while(&world, async || replace_and_expire(&world).await).await?;
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(world.ids().await?, Vec::<i64>::new());
    world.reload(&mut head, &changes).await?;
    world.engine.attempt(&mut head, &mut changes).await?;
    assert_eq!(world.ids().await?, [2]);
    has_a_fence(&world).await
}

async fn table_that_is_another_behind_the_fence_takes_no_data() -> TestResult {
    let world = world().await?;
    let recreate = async || {
        world.catalog.drop_table(&orders()).await?;
        create(world.catalog.as_ref(), &orders()).await?;
        world.commit_elsewhere(&[1]).await
    };
    let (_, _, error) = attempt_while(&world, recreate).await?;
    assert_eq!(error.kind(), ErrorKind::TableMismatch);
    assert_eq!(world.ids().await?, [1]);
    Ok(())
}

async fn late_ledger_takes_no_pointer_back() -> TestResult {
    let world = world().await?;
    world.commit_elsewhere(&[1]).await?;
    replace_and_expire(&world).await?;
    let mut late = world.fresh_head().await?;
    let ledger = late.ledger().head().clone();
    let begun = Moment::now(world.clock.as_ref());
    let mut changes = ChangeSet::rewriting_ledger(world.random.uuid(), begun, "forget", ledger);
    world.commit_elsewhere(&[2]).await?;
    replace_and_expire(&world).await?;
    world.fails(&mut late, &mut changes, ErrorKind::Conflict).await;
    assert!(world.have_landed(&[1, 2]).await?);
    Ok(())
}

async fn forget_and_repair_make_a_fence_first() -> TestResult {
    let world = world().await?;
    world.commit_elsewhere(&[1, 2]).await?;
    replace_and_expire(&world).await?;
    let one = Forgetting {
        since: None,
        ids: entries(&[1]).iter().map(|entry| entry.id).collect(),
    };
    let done = forget(&world.engine, &orders(), &one, false).await?;
    assert_eq!((done.forgotten, done.remembered), (1, 1));
    assert!(world.have_landed(&[2]).await? && !world.have_landed(&[1]).await?);
    has_a_fence(&world).await?;

    world.commit_elsewhere(&[3]).await?;
    replace_and_expire(&world).await?;
    let table = world.catalog.load_table(&orders()).await?;
    let uuid = table.metadata().uuid();
    let nowhere = format!("memory:///w/_landfast/ledger/{uuid}/head-000000000009-{uuid}.json");
    world.set_elsewhere(POINTER, nowhere).await?;
    let done = repair(&world.engine, &orders(), true).await?;
    assert_eq!(done.result, Repair::Done);
    assert!(world.have_landed(&[2, 3]).await? && !world.have_landed(&[1]).await?);
    has_a_fence(&world).await
}

/// Asserts that the table's newest commit is the second since it had none.
async fn has_a_fence(world: &World) -> TestResult {
    let table = world.catalog.load_table(&orders()).await?;
    let current = table.metadata().current_snapshot().ok_or("no snapshot")?;
    let parent = current
        .parent_snapshot_id()
        .ok_or("the first commit moved the pointer")?;
    let parent = table.metadata().snapshot_by_id(parent).ok_or("no parent")?;
    assert_eq!(parent.parent_snapshot_id(), None);
    assert!(!parent.summary().additional_properties.contains_key(SUMMARY_HEAD));
    Ok(())
}
