//! The first commit of a table: remembered when pointer and snapshots are gone, and never taken for one that was not made.

use std::collections::HashMap;

use bytes::Bytes;
use chrono::TimeDelta;
use iceberg::TableUpdate;
use iceberg::spec::{Operation, Snapshot, SnapshotReference, SnapshotRetention, Summary};
use landfast::commit::{ChangeSet, Committed, Head};
use landfast::error::ErrorKind;
use landfast::ledger::{Known, POINTER, SUMMARY_HEAD};
use landfast::maintenance::{Repair, maintain, repair, show, verify};
use libtest_mimic::Trial;

use super::world::{World, patience};
use crate::support::faults::{Fault, Op};
use crate::support::tables::{create, orders, summary};
use crate::support::{TestResult, paused_trials};

pub fn tests() -> Vec<Trial> {
    paused_trials![
        only_commit_is_remembered_after_expiry_and_a_lost_pointer,
        load_from_before_the_first_heads_is_no_damage,
        lost_first_head_is_no_ledger,
        first_commit_that_nobody_was_told_of_is_marked_before_it_is_answered_for,
        first_commit_without_a_mark_is_not_answered_for,
        mark_stays_through_upkeep_and_is_no_orphan,
        mark_of_a_dropped_table_says_nothing_of_the_next,
        mark_without_its_head_stops_the_table,
        two_marks_stop_the_table,
        later_head_is_not_outdone_by_the_mark,
        load_from_before_the_first_commit_raises_no_alarm,
    ]
}

/// Another engine appends nothing, lets go of every snapshot of ours and resets the properties.
async fn lose(world: &World) -> TestResult {
    let table = world.catalog.load_table(&orders()).await?;
    let metadata = table.metadata();
    let current = metadata.current_snapshot().ok_or("no snapshot")?;
    let ours = metadata.snapshots().map(|snapshot| snapshot.snapshot_id());
    let number = metadata.next_sequence_number();
    let snapshot = Snapshot::builder()
        .with_snapshot_id(number)
        .with_parent_snapshot_id(Some(current.snapshot_id()))
        .with_sequence_number(number)
        .with_timestamp_ms(metadata.last_updated_ms())
        .with_manifest_list(current.manifest_list().to_owned())
        .with_summary(Summary {
            operation: Operation::Append,
            additional_properties: HashMap::new(),
        })
        .with_schema_id(metadata.current_schema_id())
        .build();
    let reference = SnapshotReference::new(number, SnapshotRetention::branch(None, None, None));
    world
        .update_elsewhere(vec![
            TableUpdate::AddSnapshot { snapshot },
            TableUpdate::SetSnapshotRef {
                ref_name: "main".to_owned(),
                reference,
            },
            TableUpdate::RemoveSnapshots {
                snapshot_ids: ours.collect(),
            },
            TableUpdate::RemoveProperties {
                removals: vec![POINTER.to_owned()],
            },
        ])
        .await
}

/// The only commit, whose head is the answer.
async fn commit(world: &World, head: &mut Head, ids: &[i64]) -> TestResult<String> {
    let mut changes = world.changes(head, ids).await?;
    world.engine.attempt(head, &mut changes).await?;
    Ok(head.ledger().location().ok_or("no head")?.to_owned())
}

async fn marks(world: &World) -> TestResult<Vec<String>> {
    let mut keys = world.store.keys("_landfast").await?;
    keys.retain(|key| key.contains("/landed-head-000000000001-"));
    Ok(keys)
}

async fn is_refused(world: &World) -> TestResult {
    let table = world.catalog.load_table(&orders()).await?;
    let error = world.engine.head(table).await.expect_err("a lost ledger");
    assert_eq!(error.kind(), ErrorKind::Rejected);
    let report = error.report();
    assert!(report.contains("landfast ledger repair"), "{report}");
    Ok(())
}

async fn only_commit_is_remembered_after_expiry_and_a_lost_pointer() -> TestResult {
    let (world, mut head) = World::new().await?;
    let location = commit(&world, &mut head, &[1, 2]).await?;
    lose(&world).await?;
    assert!(world.have_landed(&[1, 2]).await?);
    assert!(!world.have_landed(&[3]).await?);
    // It is whole as it is.
    let page = show(&world.engine, &orders()).await?;
    assert_eq!((page.pointer, page.entries), (Some(location), 2));
    let verdict = verify(&world.engine, &orders()).await?;
    assert_eq!(verdict.findings.len(), 1, "{:?}", verdict.findings);
    assert!(verdict.findings[0].contains("The pointer to the ledger's head is gone"));
    let repaired = repair(&world.engine, &orders(), false).await?;
    assert_eq!(repaired.result, Repair::NotNeeded);
    // The next commit puts the pointer right.
    world.commit_elsewhere(&[3]).await?;
    let table = world.catalog.load_table(&orders()).await?;
    let pointer = table.metadata().properties().get(POINTER).cloned();
    assert!(
        pointer
            .as_ref()
            .is_some_and(|head| head.contains("head-000000000002"))
    );
    assert_eq!(pointer, summary(&table, SUMMARY_HEAD));
    assert!(world.have_landed(&[1, 2, 3]).await?);
    assert_eq!(world.ids().await?, [1, 2, 3]);
    let verdict = verify(&world.engine, &orders()).await?;
    assert_eq!(verdict.findings, Vec::<String>::new());
    world.is_whole().await
}

/// The load is from before two commits of others, whose heads nothing in it names.
async fn load_from_before_the_first_heads_is_no_damage() -> TestResult {
    let (world, _) = World::new().await?;
    let old = world.catalog.load_table(&orders()).await?;
    world.commit_elsewhere(&[1]).await?;
    world.commit_elsewhere(&[2]).await?;
    let head = world.engine.head(old).await?;
    assert_eq!(head.ledger().head().sequence, 2);
    assert!(head.table().metadata().current_snapshot_id().is_some());
    Ok(())
}

async fn lost_first_head_is_no_ledger() -> TestResult {
    let (world, mut head) = World::new().await?;
    let mut changes = world.changes(&head, &[1]).await?;
    for heads in 1..=2 {
        world.faults.once(Op::CommitTable, "", Fault::Refuse);
        world
            .fails(&mut head, &mut changes, ErrorKind::OutcomeUnknown)
            .await;
        assert_eq!(world.store.keys("_landfast").await?.len(), heads);
    }
    let mut head = world.fresh_head().await?;
    assert_eq!(head.ledger().location(), None);
    world.engine.attempt(&mut head, &mut changes).await?;
    assert_eq!(world.ids().await?, [1]);
    // Of the three first heads only the committed one is marked.
    let location = head.ledger().location().ok_or("no head")?.to_owned();
    lose(&world).await?;
    assert_eq!(
        world.fresh_head().await?.ledger().location(),
        Some(location.as_str())
    );
    Ok(())
}

async fn first_commit_that_nobody_was_told_of_is_marked_before_it_is_answered_for() -> TestResult {
    let (world, mut head) = World::new().await?;
    let mut changes = world.changes(&head, &[1]).await?;
    world.faults.once(Op::CommitTable, "", Fault::FailAfter);
    world
        .fails(&mut head, &mut changes, ErrorKind::OutcomeUnknown)
        .await;
    assert!(marks(&world).await?.is_empty());
    // A process that starts has other deliveries, and need not know of the first; nor does one that cannot mark it.
    assert!(!world.have_landed(&[2]).await?);
    world.faults.once(Op::Put, "/landed-head-", Fault::Refuse);
    let error = world.have_landed(&[1]).await.expect_err("no mark");
    assert!(format!("{error:?}").contains("cannot be created"), "{error:?}");
    assert!(marks(&world).await?.is_empty());
    assert!(world.have_landed(&[1]).await?);
    assert_eq!(marks(&world).await?.len(), 1);
    // Once is enough.
    let puts = world.faults.calls(Op::Put, "/landed-head-");
    assert!(world.have_landed(&[1]).await?);
    assert_eq!(world.faults.calls(Op::Put, "/landed-head-"), puts);
    lose(&world).await?;
    assert!(world.have_landed(&[1]).await?);
    Ok(())
}

async fn first_commit_without_a_mark_is_not_answered_for() -> TestResult {
    for fault in [Fault::Refuse, Fault::FailAfter] {
        let (world, mut head) = World::new().await?;
        let mut changes = world.changes(&head, &[1]).await?;
        world.faults.once(Op::Put, "/landed-head-", fault);
        world
            .fails(&mut head, &mut changes, ErrorKind::OutcomeUnknown)
            .await;
        // As after any unknown outcome: load, ask, and only then answer.
        let committed = world.engine.commit(&mut head, &mut changes, patience()).await?;
        assert_eq!(
            Some(committed),
            head.snapshot_of(changes.commit_id()).map(Committed::Now)
        );
        assert_eq!(world.ids().await?, [1]);
        lose(&world).await?;
        assert!(world.have_landed(&[1]).await?);
    }
    Ok(())
}

async fn mark_stays_through_upkeep_and_is_no_orphan() -> TestResult {
    let (world, mut head) = World::aging().await?;
    commit(&world, &mut head, &[1]).await?;
    let verdict = verify(&world.engine, &orders()).await?;
    assert_eq!(verdict.findings, Vec::<String>::new());
    assert!(verdict.orphans.is_empty(), "{:?}", verdict.orphans);
    // Files that nothing names, so that there is something to sweep.
    let mut changes: ChangeSet = world.changes(&head, &[2]).await?;
    world.faults.once(Op::CommitTable, "", Fault::Refuse);
    world
        .fails(&mut head, &mut changes, ErrorKind::OutcomeUnknown)
        .await;
    world.clock.advance(TimeDelta::days(30));
    assert!(!maintain(&world.engine, &orders(), false).await?.is_idle());
    assert_eq!(marks(&world).await?.len(), 1);
    lose(&world).await?;
    assert!(world.have_landed(&[1]).await?);
    // Nor does upkeep of a table that is known by the mark alone take its head.
    world.clock.advance(TimeDelta::days(30));
    maintain(&world.engine, &orders(), false).await?;
    assert!(world.have_landed(&[1]).await?);
    Ok(())
}

async fn mark_of_a_dropped_table_says_nothing_of_the_next() -> TestResult {
    let (world, mut head) = World::new().await?;
    commit(&world, &mut head, &[1]).await?;
    world.catalog.drop_table(&orders()).await?;
    create(world.catalog.as_ref(), &orders()).await?;
    let mut head = world.fresh_head().await?;
    assert_eq!(head.ledger().location(), None);
    // Nor does it make a head count that was never committed.
    let mut changes = world.changes(&head, &[1]).await?;
    world.faults.once(Op::CommitTable, "", Fault::Refuse);
    world
        .fails(&mut head, &mut changes, ErrorKind::OutcomeUnknown)
        .await;
    assert!(!world.have_landed(&[1]).await?);
    world.commit_elsewhere(&[1]).await?;
    assert_eq!(world.ids().await?, [1]);
    assert_eq!(marks(&world).await?.len(), 2);
    lose(&world).await?;
    assert!(world.have_landed(&[1]).await?);
    Ok(())
}

async fn mark_without_its_head_stops_the_table() -> TestResult {
    let (world, mut head) = World::new().await?;
    let location = commit(&world, &mut head, &[1]).await?;
    lose(&world).await?;
    world.store.delete(world.store.key(&location)?).await?;
    is_refused(&world).await
}

async fn two_marks_stop_the_table() -> TestResult {
    let (world, mut head) = World::new().await?;
    commit(&world, &mut head, &[1]).await?;
    let mark = marks(&world).await?.remove(0);
    let (folder, _) = mark.split_once("/landed-").ok_or("no mark")?;
    let id = world.random.uuid();
    let other = format!("{folder}/landed-head-000000000001-{id}.json");
    world.store.put(&other, Bytes::new()).await?;
    assert!(world.have_landed(&[1]).await?);
    lose(&world).await?;
    is_refused(&world).await
}

async fn later_head_is_not_outdone_by_the_mark() -> TestResult {
    let (world, mut head) = World::new().await?;
    commit(&world, &mut head, &[1]).await?;
    commit(&world, &mut head, &[2]).await?;
    lose(&world).await?;
    is_refused(&world).await
}

async fn load_from_before_the_first_commit_raises_no_alarm() -> TestResult {
    let (world, mut head) = World::new().await?;
    let before = world.catalog.load_table(&orders()).await?;
    commit(&world, &mut head, &[1]).await?;
    let mut stale = world.engine.head(before).await?;
    let mut changes = world.changes(&stale, &[1]).await?;
    changes.add(world.group(&stale, &[2]).await?);
    let known = world.engine.check(&mut stale, &changes).await?;
    assert_eq!(known, [Known::Landed(Bytes::new()), Known::New]);
    // What it says is true, and the fence is as stale as the load: the other one lands on a newer.
    world.engine.commit(&mut stale, &mut changes, patience()).await?;
    assert_eq!(world.ids().await?, [1, 2]);
    assert!(world.have_landed(&[1, 2]).await?);
    Ok(())
}
