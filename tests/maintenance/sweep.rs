//! The sweep: what it deletes, and what it leaves alone.

use std::collections::BTreeSet;

use bytes::Bytes;
use chrono::TimeDelta;
use iceberg::TableUpdate;
use iceberg::spec::{SnapshotReference, SnapshotRetention};
use landfast::error::ErrorKind;
use landfast::ledger::{LedgerHead, POINTER};
use landfast::maintenance::{Kind, fence, maintain, sum};
use libtest_mimic::Trial;
use tokio::time::Duration;

use super::{is_proven, listing, upkeep};
use crate::commit::world::World;
use crate::support::faults::{Fault, Gate, Op};
use crate::support::tables::{create, orders};
use crate::support::{TestResult, paused_trials};

const ID: &str = "5f0c54a4-8a9f-4e1c-9d3a-0f2f6f0c1a77";

pub fn tests() -> Vec<Trial> {
    paused_trials![
        abandoned_files_go_after_three_days_and_others_stay,
        dry_run_says_what_goes_and_changes_nothing,
        files_that_are_not_ours_stay,
        quiet_table_gets_no_commit,
        late_commit_after_the_sweep_never_lands,
        merge_that_waited_longer_than_files_live_is_dropped,
        snapshots_go_and_tags_and_their_files_stay,
        forbidden_collection_deletes_nothing,
        file_that_cannot_be_deleted_is_told_and_goes_next_time,
        damaged_ledger_stops_the_sweep,
        missing_manifest_stops_the_sweep,
        sweeps_and_commits_at_once_harm_nothing,
        sweep_that_dies_anywhere_leaves_a_whole_table,
        table_without_snapshots_is_swept,
    ]
}

/// Commits let go what is over a hundred themselves; this leaves some to upkeep.
async fn keep_few_snapshots(world: &World) -> TestResult {
    world
        .set_elsewhere("history.expire.min-snapshots-to-keep", "10")
        .await
}

/// Leaves the files of a commit that nobody ever heard of.
pub(super) async fn abandon(world: &World, ids: &[i64]) -> TestResult {
    let mut head = world.fresh_head().await?;
    let mut changes = world.changes(&head, ids).await?;
    world.faults.once(Op::CommitTable, "", Fault::Refuse);
    world
        .fails(&mut head, &mut changes, ErrorKind::OutcomeUnknown)
        .await;
    Ok(())
}

async fn abandoned_files_go_after_three_days_and_others_stay() -> TestResult {
    let (world, _head) = World::aging().await?;
    world.commit_elsewhere(&[1]).await?;
    let before: BTreeSet<String> = listing(&world).await?.into_keys().collect();
    abandon(&world, &[2]).await?;
    let after: BTreeSet<String> = listing(&world).await?.into_keys().collect();
    let abandoned: BTreeSet<&String> = after.difference(&before).collect();
    // Data file, manifest, manifest list, head.
    assert_eq!(abandoned.len(), 4);
    world.clock.advance(TimeDelta::days(3) - TimeDelta::hours(1));
    assert!(upkeep(&world).await?.is_idle());
    world.clock.advance(TimeDelta::hours(2));
    // Younger ones, by the same accident.
    abandon(&world, &[3]).await?;
    // Between the fence and the sweep readers of older metadata can be moved, and where they cannot nothing goes.
    let fenced = fence(&world.engine, &orders(), false).await?;
    assert!(fenced.has_moved() && sum(&fenced.leave().deleted).files == 0);
    let left: BTreeSet<String> = listing(&world).await?.into_keys().collect();
    assert!(abandoned.iter().all(|key| left.contains(*key)));
    let done = upkeep(&world).await?;
    let kinds: Vec<Kind> = done.deleted.keys().copied().collect();
    assert_eq!(
        kinds,
        [
            Kind::DataFile,
            Kind::Manifest,
            Kind::ManifestList,
            Kind::LedgerHead
        ]
    );
    assert_eq!(sum(&done.deleted).files, 4);
    let left: BTreeSet<String> = listing(&world).await?.into_keys().collect();
    assert!(before.is_subset(&left));
    assert!(abandoned.iter().all(|key| !left.contains(*key)));
    assert_eq!(world.ids().await?, [1]);
    assert!(world.have_landed(&[1]).await? && !world.have_landed(&[2]).await?);
    is_proven(&world).await
}

async fn dry_run_says_what_goes_and_changes_nothing() -> TestResult {
    let (world, _head) = World::aging().await?;
    for id in 0..60 {
        world.commit_elsewhere(&[id]).await?;
        abandon(&world, &[1000 + id]).await?;
    }
    keep_few_snapshots(&world).await?;
    world.clock.advance(TimeDelta::days(4));
    let before = listing(&world).await?;
    let version = world.state().await?;
    let planned = maintain(&world.engine, &orders(), true).await?;
    assert_eq!(listing(&world).await?, before);
    let now = world.state().await?;
    assert_eq!(now, version);
    assert!(planned.expired_snapshots > 0 && planned.snapshot_id.is_none());
    let done = upkeep(&world).await?;
    assert_eq!(done.deleted, planned.deleted);
    assert_eq!(done.expired_snapshots, planned.expired_snapshots);
    assert!(done.snapshot_id.is_some());
    assert_eq!(world.ids().await?.len(), 60);
    is_proven(&world).await
}

async fn files_that_are_not_ours_stay() -> TestResult {
    let (world, _head) = World::aging().await?;
    world.commit_elsewhere(&[1]).await?;
    let uuid = world.fresh_head().await?.table().metadata().uuid();
    let keys = [
        format!("shop/orders/data/00000-0-{ID}.parquet"),
        format!("shop/orders/data/sub/{ID}.parquet"),
        // A table `data` in the namespace `shop.orders`.
        format!("shop/orders/data/data/{ID}.parquet"),
        format!("shop/orders/data/metadata/{ID}-m0.avro"),
        format!("shop/orders/{ID}.parquet"),
        format!("shop/orders/metadata/{ID}.stats"),
        "shop/orders/metadata/version-hint.text".to_owned(),
        format!("_landfast/ledger/{uuid}/notes.txt"),
        format!("_landfast/ledger/{ID}/head-000000000001-{ID}.json"),
        format!("shop/other/data/{ID}.parquet"),
    ];
    for key in &keys {
        world.store.put(key, Bytes::from_static(b"x")).await?;
    }
    let ours = format!("shop/orders/data/day=2026-01-01/{ID}.parquet");
    world.store.put(&ours, Bytes::from_static(b"x")).await?;
    world.clock.advance(TimeDelta::days(30));
    let done = upkeep(&world).await?;
    assert_eq!(sum(&done.deleted).files, 1);
    for key in &keys {
        assert!(world.store.get(key).await?.is_some(), "{key}");
    }
    assert_eq!(world.store.get(&ours).await?, None);
    Ok(())
}

async fn quiet_table_gets_no_commit() -> TestResult {
    let (world, _head) = World::aging().await?;
    world.commit_elsewhere(&[1]).await?;
    let before = listing(&world).await?;
    for _week in 0..5 {
        world.clock.advance(TimeDelta::days(7));
        assert!(upkeep(&world).await?.is_idle());
    }
    assert_eq!(listing(&world).await?, before);
    // What was abandoned long before the newest snapshot goes without a commit of ours.
    abandon(&world, &[2]).await?;
    world.clock.advance(TimeDelta::days(4));
    world.commit_elsewhere(&[3]).await?;
    let version = world.state().await?;
    let done = upkeep(&world).await?;
    assert_eq!((sum(&done.deleted).files, done.snapshot_id), (4, None));
    let now = world.state().await?;
    assert_eq!(now, version);
    Ok(())
}

async fn late_commit_after_the_sweep_never_lands() -> TestResult {
    let (world, _head) = World::aging().await?;
    world.commit_elsewhere(&[1]).await?;
    let mut head = world.fresh_head().await?;
    let mut changes = world.changes(&head, &[2]).await?;
    let gate = Gate::new();
    world.faults.once(Op::CommitTable, "", Fault::Late(gate.clone()));
    world
        .fails(&mut head, &mut changes, ErrorKind::OutcomeUnknown)
        .await;
    world.clock.advance(TimeDelta::days(5));
    let done = upkeep(&world).await?;
    assert_eq!(sum(&done.deleted).files, 4);
    assert!(done.snapshot_id.is_some());
    gate.release_and_settle().await;
    assert_eq!(world.ids().await?, [1]);
    // Nor may its writer try again with files that are gone.
    let (moved, landed) = world.reload(&mut head, &changes).await?;
    assert!(moved && !landed);
    world.fails(&mut head, &mut changes, ErrorKind::Rejected).await;
    assert_eq!(world.ids().await?, [1]);
    is_proven(&world).await
}

async fn merge_that_waited_longer_than_files_live_is_dropped() -> TestResult {
    let (world, _head) = World::aging().await?;
    world
        .set_elsewhere("commit.manifest.min-count-to-merge", "5")
        .await?;
    let mut head = world.fresh_head().await?;
    for commit in 0..8i64 {
        let ids: Vec<i64> = (commit * 1500..commit * 1500 + 1500).collect();
        let mut changes = world.changes(&head, &ids).await?;
        world.engine.attempt(&mut head, &mut changes).await?;
        // The merges of manifests and segments that the last commit started come to their end.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let merged = |keys: Vec<String>| keys.into_iter().filter(|key| key.contains("-m1.avro")).count();
    assert!(merged(world.store.keys("shop").await?) >= 1);
    world.clock.advance(TimeDelta::days(5));
    let done = upkeep(&world).await?;
    assert!(
        done.deleted.contains_key(&Kind::LedgerSegment),
        "{:?}",
        done.deleted
    );
    // The process that was idle all the while.
    let mut changes = world.changes(&head, &[99_999]).await?;
    let patience = tokio::time::Instant::now() + Duration::from_secs(60);
    world.engine.commit(&mut head, &mut changes, patience).await?;
    assert_eq!(world.ids().await?.len(), 12_001);
    is_proven(&world).await
}

async fn snapshots_go_and_tags_and_their_files_stay() -> TestResult {
    let (world, _head) = World::aging().await?;
    world.commit_elsewhere(&[0]).await?;
    let tagged = world
        .fresh_head()
        .await?
        .table()
        .metadata()
        .current_snapshot_id()
        .ok_or("no snapshot")?;
    let reference = SnapshotReference::new(tagged, SnapshotRetention::Tag { max_ref_age_ms: None });
    world
        .update_elsewhere(vec![TableUpdate::SetSnapshotRef {
            ref_name: "first".to_owned(),
            reference,
        }])
        .await?;
    for id in 1..=60 {
        world.commit_elsewhere(&[id]).await?;
    }
    keep_few_snapshots(&world).await?;
    world.clock.advance(TimeDelta::days(40));
    let done = upkeep(&world).await?;
    assert_eq!((done.expired_snapshots, done.kept_snapshots), (50, 12));
    // Lists and heads of snapshots that went, and old states; every data file is still the table's.
    assert!(!done.deleted.contains_key(&Kind::DataFile));
    assert_eq!(done.deleted[&Kind::ManifestList].files, 50);
    let head = world.fresh_head().await?;
    assert!(head.table().metadata().snapshot_by_id(tagged).is_some());
    assert_eq!(world.ids().await?.len(), 61);
    assert!(upkeep(&world).await?.is_idle());
    is_proven(&world).await
}

async fn forbidden_collection_deletes_nothing() -> TestResult {
    let (world, _head) = World::aging().await?;
    for id in 0..120 {
        world.commit_elsewhere(&[id]).await?;
    }
    abandon(&world, &[1000]).await?;
    world.set_elsewhere("gc.enabled", "false").await?;
    world.clock.advance(TimeDelta::days(40));
    let before = listing(&world).await?;
    let done = upkeep(&world).await?;
    assert!(done.forbidden && done.is_idle());
    assert_eq!(listing(&world).await?, before);
    Ok(())
}

async fn file_that_cannot_be_deleted_is_told_and_goes_next_time() -> TestResult {
    let (world, _head) = World::aging().await?;
    world.commit_elsewhere(&[1]).await?;
    abandon(&world, &[2]).await?;
    world.clock.advance(TimeDelta::days(4));
    world.faults.once(Op::Delete, "/data/", Fault::Refuse);
    let done = upkeep(&world).await?;
    assert_eq!((sum(&done.deleted).files, done.failed), (3, 1));
    let done = upkeep(&world).await?;
    // The fence moved at the first run: no commit is needed now.
    assert_eq!(
        (sum(&done.deleted).files, done.failed, done.snapshot_id),
        (1, 0, None)
    );
    is_proven(&world).await
}

async fn damaged_ledger_stops_the_sweep() -> TestResult {
    let (world, _head) = World::aging().await?;
    world.commit_elsewhere(&[1]).await?;
    abandon(&world, &[2]).await?;
    world.clock.advance(TimeDelta::days(4));
    let head = world.fresh_head().await?;
    let location = head.ledger().location().ok_or("no head")?.to_owned();
    world
        .store
        .put(world.store.key(&location)?, Bytes::from_static(b"{}"))
        .await?;
    let before = listing(&world).await?;
    let error = maintain(&world.engine, &orders(), false)
        .await
        .expect_err("damage");
    assert_eq!(error.kind(), ErrorKind::Rejected);
    assert_eq!(listing(&world).await?, before);
    Ok(())
}

async fn missing_manifest_stops_the_sweep() -> TestResult {
    let (world, _head) = World::aging().await?;
    world.commit_elsewhere(&[1]).await?;
    abandon(&world, &[2]).await?;
    world.clock.advance(TimeDelta::days(4));
    let head = world.fresh_head().await?;
    let snapshot = head.table().metadata().current_snapshot().ok_or("none")?;
    let list = head.table().manifest_list_reader(snapshot).load().await?;
    let manifest = list.entries()[0].manifest_path.clone();
    world.store.delete(world.store.key(&manifest)?).await?;
    let before = listing(&world).await?;
    let error = maintain(&world.engine, &orders(), false)
        .await
        .expect_err("damage");
    assert!(error.report().contains(&manifest), "{}", error.report());
    assert_eq!(listing(&world).await?, before);
    Ok(())
}

async fn sweeps_and_commits_at_once_harm_nothing() -> TestResult {
    let (world, _head) = World::aging().await?;
    for id in 0..130 {
        world.commit_elsewhere(&[id]).await?;
    }
    abandon(&world, &[1000]).await?;
    world.clock.advance(TimeDelta::days(4));
    // Every operation gives way to the others.
    world
        .faults
        .choose(|_, _| Some(Fault::Delay(Duration::from_millis(3))));
    let commits = async {
        let patience = tokio::time::Instant::now() + Duration::from_secs(600);
        for id in 200..220 {
            let mut head = world.fresh_head().await?;
            let mut changes = world.changes(&head, &[id]).await?;
            world.engine.commit(&mut head, &mut changes, patience).await?;
        }
        TestResult::Ok(())
    };
    let (committed, one, other) = tokio::join!(commits, upkeep(&world), upkeep(&world));
    committed?;
    let deleted = sum(&one?.deleted).files + sum(&other?.deleted).files;
    assert!(deleted > 0);
    world.faults.clear();
    assert_eq!(world.ids().await?.len(), 150);
    is_proven(&world).await
}

async fn sweep_that_dies_anywhere_leaves_a_whole_table() -> TestResult {
    let mut died = 0;
    for survives in (0..).step_by(19) {
        let (world, _head) = World::aging().await?;
        for id in 0..35 {
            world.commit_elsewhere(&[id]).await?;
        }
        keep_few_snapshots(&world).await?;
        for id in 100..103 {
            abandon(&world, &[id]).await?;
        }
        let ids: Vec<i64> = (0..35).collect();
        world.clock.advance(TimeDelta::days(40));
        let mut left = survives;
        world.faults.choose(move |_, _| match left {
            0 => Some(Fault::Refuse),
            _ => {
                left -= 1;
                None
            }
        });
        let outcome = maintain(&world.engine, &orders(), false).await;
        world.faults.clear();
        assert_eq!(world.ids().await?, ids);
        assert!(world.have_landed(&ids).await?);
        is_proven(&world).await?;
        match outcome {
            Ok(done) if done.failed == 0 => {
                assert!(died > 10, "{died}");
                return Ok(());
            }
            _ => died += 1,
        }
        // The next run does the rest.
        let done = upkeep(&world).await?;
        assert_eq!(done.failed, 0);
        assert!(upkeep(&world).await?.is_idle());
        is_proven(&world).await?;
    }
    Ok(())
}

async fn table_without_snapshots_is_swept() -> TestResult {
    let (world, _head) = World::aging().await?;
    abandon(&world, &[1]).await?;
    world.clock.advance(TimeDelta::days(4));
    let done = upkeep(&world).await?;
    assert_eq!(sum(&done.deleted).files, 4);
    let head = world.fresh_head().await?;
    assert_eq!(head.ledger().location(), None);
    assert_eq!(head.table().metadata().properties().get(POINTER), None);
    world.commit_elsewhere(&[1]).await?;
    assert_eq!(world.ids().await?, [1]);
    // A table that was dropped and made again has the same folder.
    world.catalog.drop_table(&orders()).await?;
    create(world.catalog.as_ref(), &orders()).await?;
    world.commit_elsewhere(&[2]).await?;
    world.clock.advance(TimeDelta::days(4));
    upkeep(&world).await?;
    let keys = world.store.keys("shop/orders/data").await?;
    assert_eq!(keys.len(), 1);
    assert_eq!(world.ids().await?, [2]);
    let ledger: &LedgerHead = &world.fresh_head().await?.ledger().head().clone();
    assert_eq!(ledger.entry_count(), 1);
    is_proven(&world).await
}
