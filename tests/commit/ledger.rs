//! The ledger under a table: found again whatever became of pointer, snapshots and files, and never taken for empty.

use std::sync::Arc;

use bytes::Bytes;
use chrono::Utc;
use iceberg::TableUpdate;
use landfast::commit::{ChangeSet, Committed};
use landfast::error::ErrorKind;
use landfast::ledger::{Ledger, POINTER, SUMMARY_HEAD, SUMMARY_SEQUENCE};
use landfast::storage::Store;
use libtest_mimic::Trial;
use object_store::memory::InMemory;
use tokio::time::Duration;

use super::world::{World, entries, patience};
use crate::support::aged::AgedStore;
use crate::support::clock::TestClock;
use crate::support::faults::{Fault, Faults, Op};
use crate::support::tables::{create, orders, summary};
use crate::support::{TestResult, paused_trials};

pub fn tests() -> Vec<Trial> {
    paused_trials![
        pointer_moves_with_every_snapshot_of_ours,
        change_set_that_landed_before_adds_nothing,
        group_that_landed_is_left_out_and_the_other_lands,
        delivery_is_known_after_its_snapshot_expired,
        pointer_that_is_gone_or_old_is_put_right,
        pointer_copied_from_another_table_is_foreign,
        ledger_of_another_warehouse_stops_the_table,
        lost_ledger_stops_the_table,
        dropped_and_recreated_table_has_a_ledger_of_its_own,
        many_deliveries_are_found_by_a_process_that_starts,
        segment_that_cannot_be_read_is_measured_not_fetched,
    ]
}

/// Whether it was cut short decides between damage and a bad moment.
async fn segment_that_cannot_be_read_is_measured_not_fetched() -> TestResult {
    let (faults, aged) = (Faults::default(), AgedStore::new(TestClock::at(Utc::now())));
    let store = faults.store("memory:///w", aged.clone());
    let (world, _head) = World::over(faults, store).await?;
    world.commit_elsewhere(&(0..1100).collect::<Vec<_>>()).await?;
    let keys = world.store.keys("_landfast").await?;
    let segment = keys.iter().find(|key| key.contains("segment-")).ok_or("none")?;
    let file = world.store.get(segment).await?.ok_or("none")?;
    let head = world.fresh_head().await?;
    for (bytes, kind) in [
        (file.clone(), ErrorKind::Unavailable),
        (file.slice(..file.len() / 2), ErrorKind::Rejected),
    ] {
        world.store.put(segment, bytes).await?;
        // A process that starts remembers nothing of it.
        let ledger = Ledger::new(world.store.clone());
        world.faults.once(Op::Get, "segment-", Fault::Refuse);
        let before = aged.bytes_read();
        let error = ledger
            .check(head.ledger(), &entries(&[1]))
            .await
            .expect_err("a fault");
        assert_eq!(error.kind(), kind, "{}", error.report());
        assert_eq!(aged.bytes_read(), before);
    }
    Ok(())
}

async fn pointer_moves_with_every_snapshot_of_ours() -> TestResult {
    let (world, mut head) = World::new().await?;
    for commit in 1..=3u64 {
        let mut changes = world.changes(&head, &[i64::try_from(commit)?]).await?;
        world.engine.attempt(&mut head, &mut changes).await?;
        let table = world.catalog.load_table(&orders()).await?;
        let pointer = table.metadata().properties().get(POINTER).cloned();
        assert!(pointer.is_some());
        assert_eq!(summary(&table, SUMMARY_HEAD), pointer);
        assert_eq!(summary(&table, SUMMARY_SEQUENCE), Some(commit.to_string()));
        let uuid = table.metadata().uuid();
        assert!(
            pointer
                .is_some_and(|pointer| pointer.starts_with(&format!("memory:///w/_landfast/ledger/{uuid}/")))
        );
    }
    world.is_whole().await
}

async fn change_set_that_landed_before_adds_nothing() -> TestResult {
    let (world, mut head) = World::new().await?;
    world.commit_elsewhere(&[1, 2]).await?;
    // The head is from before; the conflict brings the load that knows.
    let mut changes = world.changes(&head, &[1, 2]).await?;
    let committed = world.engine.commit(&mut head, &mut changes, patience()).await?;
    assert_eq!(committed, Committed::Before);
    assert_eq!(world.ids().await?, [1, 2]);
    Ok(())
}

async fn group_that_landed_is_left_out_and_the_other_lands() -> TestResult {
    let (world, mut head) = World::new().await?;
    world.commit_elsewhere(&[1]).await?;
    let mut changes: ChangeSet = world.changes(&head, &[1]).await?;
    changes.add(world.group(&head, &[2]).await?);
    let committed = world.engine.commit(&mut head, &mut changes, patience()).await?;
    assert!(matches!(committed, Committed::Now(_)));
    assert_eq!(world.ids().await?, [1, 2]);
    assert!(world.have_landed(&[1, 2]).await?);
    world.is_whole().await
}

async fn delivery_is_known_after_its_snapshot_expired() -> TestResult {
    let (world, mut head) = World::new().await?;
    let mut changes = world.changes(&head, &[1]).await?;
    let first = world.engine.attempt(&mut head, &mut changes).await?;
    world.commit_elsewhere(&[2]).await?;
    world
        .update_elsewhere(vec![TableUpdate::RemoveSnapshots {
            snapshot_ids: vec![first],
        }])
        .await?;
    assert!(world.have_landed(&[1]).await?);
    assert!(!world.have_landed(&[3]).await?);
    Ok(())
}

async fn pointer_that_is_gone_or_old_is_put_right() -> TestResult {
    let (world, mut head) = World::new().await?;
    let mut pointers = Vec::new();
    for id in [1, 2] {
        let mut changes = world.changes(&head, &[id]).await?;
        world.engine.attempt(&mut head, &mut changes).await?;
        pointers.push(head.table().metadata().properties()[POINTER].clone());
    }
    let removals = vec![POINTER.to_owned()];
    let to_first = [(POINTER.to_owned(), pointers[0].clone())].into();
    for damage in [
        TableUpdate::RemoveProperties { removals },
        TableUpdate::SetProperties { updates: to_first },
    ] {
        world.update_elsewhere(vec![damage]).await?;
        assert!(world.have_landed(&[1, 2]).await?);
        let newest = world.fresh_head().await?;
        assert_eq!(newest.ledger().location(), Some(pointers[1].as_str()));
    }
    // The next commit puts the property right.
    world.commit_elsewhere(&[3]).await?;
    let table = world.catalog.load_table(&orders()).await?;
    assert_eq!(
        table.metadata().properties().get(POINTER).cloned(),
        summary(&table, SUMMARY_HEAD)
    );
    assert!(world.have_landed(&[1, 2, 3]).await?);
    Ok(())
}

async fn pointer_copied_from_another_table_is_foreign() -> TestResult {
    let (world, mut head) = World::new().await?;
    let mut changes = world.changes(&head, &[1]).await?;
    world.engine.attempt(&mut head, &mut changes).await?;
    let pointer = head.table().metadata().properties()[POINTER].clone();
    let ident = iceberg::TableIdent::from_strs(["shop", "copy"])?;
    let base = create(world.catalog.as_ref(), &ident).await?;
    let updates = vec![TableUpdate::SetProperties {
        updates: [(POINTER.to_owned(), pointer)].into(),
    }];
    let commit = landfast::catalog::TableCommit {
        requirements: Vec::new(),
        updates,
    };
    let landfast::catalog::Outcome::Committed(copy) = world.catalog.commit_table(&base, commit).await else {
        return Err("not committed".into());
    };
    let copy = world.engine.head(*copy).await?;
    assert_eq!(copy.ledger().location(), None);
    assert_eq!(copy.ledger().head().entry_count(), 0);
    Ok(())
}

/// `warehouse` was set to another place, where tables of a REST or SQL catalog stay where they are.
async fn ledger_of_another_warehouse_stops_the_table() -> TestResult {
    let (world, _head) = World::new().await?;
    world.commit_elsewhere(&[1]).await?;
    let moved = Store::new("memory:///elsewhere", Arc::new(InMemory::new()));
    for removes_pointer in [false, true] {
        if removes_pointer {
            let removals = vec![POINTER.to_owned()];
            world
                .update_elsewhere(vec![TableUpdate::RemoveProperties { removals }])
                .await?;
        }
        let table = world.catalog.load_table(&orders()).await?;
        let error = Ledger::new(moved.clone()).open(&table).await.expect_err("none");
        assert_eq!(error.kind(), ErrorKind::Rejected);
        assert!(
            error.report().contains("Set `warehouse` back"),
            "{}",
            error.report()
        );
        assert!(world.have_landed(&[1]).await?);
    }
    Ok(())
}

async fn lost_ledger_stops_the_table() -> TestResult {
    let (world, mut head) = World::new().await?;
    for id in [1, 2] {
        let mut changes = world.changes(&head, &[id]).await?;
        world.engine.attempt(&mut head, &mut changes).await?;
    }
    let location = head.ledger().location().ok_or("no head")?.to_owned();
    let key = world.store.key(&location)?;
    let bytes = world.store.get(key).await?.ok_or("no file")?;
    for damage in [
        Bytes::new(),
        bytes.slice(..bytes.len() / 2),
        Bytes::from_static(b"{}"),
    ] {
        world.store.put(key, damage).await?;
        let error = world
            .engine
            .head(world.catalog.load_table(&orders()).await?)
            .await
            .expect_err("damage");
        assert_eq!(error.kind(), ErrorKind::Rejected);
        assert!(error.report().contains(&location), "{}", error.report());
        assert!(
            error.report().contains("landfast ledger repair"),
            "{}",
            error.report()
        );
    }
    world.store.put(key, bytes).await?;
    // No pointer, no snapshot of ours, and files that say there was a ledger.
    let snapshots = head
        .table()
        .metadata()
        .snapshots()
        .map(|snapshot| snapshot.snapshot_id());
    world
        .update_elsewhere(vec![
            TableUpdate::RemoveSnapshotRef {
                ref_name: "main".to_owned(),
            },
            TableUpdate::RemoveSnapshots {
                snapshot_ids: snapshots.collect(),
            },
            TableUpdate::RemoveProperties {
                removals: vec![POINTER.to_owned()],
            },
        ])
        .await?;
    let error = world
        .engine
        .head(world.catalog.load_table(&orders()).await?)
        .await
        .expect_err("damage");
    assert!(
        error.report().contains("landfast ledger repair"),
        "{}",
        error.report()
    );
    Ok(())
}

async fn dropped_and_recreated_table_has_a_ledger_of_its_own() -> TestResult {
    let (world, _head) = World::new().await?;
    world.commit_elsewhere(&[1]).await?;
    assert!(world.have_landed(&[1]).await?);
    world.catalog.drop_table(&orders()).await?;
    create(world.catalog.as_ref(), &orders()).await?;
    assert!(!world.have_landed(&[1]).await?);
    world.commit_elsewhere(&[1]).await?;
    assert_eq!(world.ids().await?, [1]);
    Ok(())
}

async fn many_deliveries_are_found_by_a_process_that_starts() -> TestResult {
    let (world, mut head) = World::new().await?;
    let ids: Vec<i64> = (1..=6000).collect();
    for some in ids.chunks(600) {
        let mut changes = world.changes(&head, some).await?;
        world.engine.attempt(&mut head, &mut changes).await?;
        // Lets what runs beside the commits come to its end.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let ledger = head.ledger().head();
    assert_eq!(ledger.entry_count(), 6000);
    assert!(ledger.segments.len() <= 8, "{} segments", ledger.segments.len());
    assert!(world.have_landed(&ids).await?);
    assert!(!world.have_landed(&[6001]).await?);
    Ok(())
}
