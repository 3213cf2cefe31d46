//! What keeps a commit as cheap as the first: files put at once, manifests merged, snapshots let go.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use iceberg::TableUpdate;
use iceberg::spec::{PartitionStatisticsFile, SnapshotReference, SnapshotRetention, StatisticsFile};
use libtest_mimic::Trial;
use tokio::time::{Duration, Instant};

use super::null_fence;
use super::world::World;
use crate::support::faults::{Fault, Op};
use crate::support::tables::orders;
use crate::support::{TestResult, paused_trials};

pub fn tests() -> Vec<Trial> {
    paused_trials![
        commit_takes_two_round_trips_of_puts,
        manifests_are_merged_and_every_row_stays,
        javas_properties_say_which_manifests_are_merged,
        processes_that_live_for_one_commit_merge_too,
        merge_that_waited_for_days_is_not_used,
        snapshot_that_is_tagged_during_an_upload_stays,
        merge_under_way_is_waited_for_by_no_commit,
        merge_that_is_overdue_holds_up_no_commit_for_long,
        overdue_merge_of_a_slow_store_is_done_by_one_commit,
        snapshots_are_let_go_and_tags_stay,
        statistics_go_with_their_snapshots,
        retention_of_the_main_branch_is_left_as_it_is,
    ]
}

async fn commit_takes_two_round_trips_of_puts() -> TestResult {
    let (world, mut head) = World::new().await?;
    world
        .faults
        .always(Op::Put, "", Fault::Delay(Duration::from_millis(80)));
    // Once in a table's life, before the first commit is answered for, its head is marked.
    for (id, least) in [(1, 240), (2, 160), (3, 160)] {
        let begun = Instant::now();
        let mut changes = world.pending_changes(&head, &[id]).await?;
        world.engine.attempt(&mut head, &mut changes).await?;
        let took = begun.elapsed().as_millis();
        assert!((least..least + 80).contains(&took), "{took} ms");
    }
    Ok(())
}

async fn manifests_are_merged_and_every_row_stays() -> TestResult {
    let (world, _head) = World::new().await?;
    world
        .set_elsewhere("commit.manifest.min-count-to-merge", "10")
        .await?;
    let mut head = world.fresh_head().await?;
    let ids: Vec<i64> = (1..=150).collect();
    let mut most = 0;
    for id in &ids {
        let mut changes = world.changes(&head, &[*id]).await?;
        world.engine.attempt(&mut head, &mut changes).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let snapshot = head.table().metadata().current_snapshot().ok_or("no snapshot")?;
        let list = head.table().manifest_list_reader(snapshot).load().await?;
        most = most.max(list.entries().len());
    }
    // Ten small ones, nine of ten, one of a hundred; one more while a merge is under way.
    assert!(most <= 22, "{most} manifests");
    assert_eq!(world.ids().await?, ids);
    let table = world.catalog.load_table(&orders()).await?;
    let snapshot = table.metadata().current_snapshot().ok_or("no snapshot")?;
    let mut sequences = BTreeSet::new();
    for manifest in table.manifest_list_reader(snapshot).load().await?.entries() {
        let loaded = manifest.load_manifest(table.file_io()).await?;
        for entry in loaded.entries() {
            sequences.insert(entry.sequence_number().ok_or("no sequence number")?);
            assert_eq!(entry.file_sequence_number, entry.sequence_number());
        }
    }
    // Each file has kept the number of the commit that brought it.
    assert_eq!(sequences.len(), ids.len());
    world.is_whole().await
}

/// The manifests after so many commits, each as the files that it names, of a table with these properties.
async fn merged_under(properties: &[(&str, &str)], commits: i64) -> TestResult<(Vec<u32>, World)> {
    let (world, _head) = World::new().await?;
    for (property, value) in properties {
        world.set_elsewhere(property, *value).await?;
    }
    let mut head = world.fresh_head().await?;
    for id in 0..commits {
        let mut changes = world.changes(&head, &[id]).await?;
        world.engine.attempt(&mut head, &mut changes).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let snapshot = head.table().metadata().current_snapshot().ok_or("no snapshot")?;
    let list = head.table().manifest_list_reader(snapshot).load().await?;
    let files = list.entries().iter().map(|manifest| {
        let counts = [manifest.added_files_count, manifest.existing_files_count];
        counts.into_iter().flatten().sum()
    });
    let mut files: Vec<u32> = files.collect();
    files.sort_unstable();
    assert_eq!(files.iter().sum::<u32>(), u32::try_from(commits)?);
    Ok((files, world))
}

async fn javas_properties_say_which_manifests_are_merged() -> TestResult {
    let least = ("commit.manifest.min-count-to-merge", "4");
    // What the fourth commit found is merged beside it, and the fifth takes it.
    assert_eq!(merged_under(&[least], 4).await?.0, [1; 4]);
    assert_eq!(merged_under(&[least], 5).await?.0, [1, 4]);
    assert_eq!(merged_under(&[], 5).await?.0, [1; 5]);
    let off = ("commit.manifest-merge.enabled", "false");
    let (files, world) = merged_under(&[least, off], 30).await?;
    assert_eq!(files, [1; 30]);
    assert_eq!(world.count("-m1.avro").await?, 0, "not even beside the commits");
    // Larger ones stay as they are: ten of four files each become one only below the target size.
    let most = async |target: &str| {
        let target = ("commit.manifest.target-size-bytes", target);
        let (files, _) = merged_under(&[least, target], 50).await?;
        TestResult::Ok(files.last().copied().unwrap_or_default())
    };
    assert_eq!(most("1").await?, 1);
    assert_eq!(most("8388608").await?, 40);
    let (_, world) = merged_under(&[least], 5).await?;
    let merged = world.store.keys("shop").await?;
    let merged = merged
        .iter()
        .find(|key| key.ends_with("-m1.avro"))
        .ok_or("none")?;
    let bytes = world.store.stat(merged).await?.ok_or("no object")?.byte_count;
    // Larger by a few names than this is every merged one, and none of a single file.
    assert_eq!(most(&(bytes - 100).to_string()).await?, 4);
    Ok(())
}

async fn snapshots_are_let_go_and_tags_stay() -> TestResult {
    let (world, mut head) = World::new().await?;
    let mut changes = world.changes(&head, &[0]).await?;
    let tagged = world.engine.attempt(&mut head, &mut changes).await?;
    let reference = SnapshotReference::new(tagged, SnapshotRetention::Tag { max_ref_age_ms: None });
    world
        .update_elsewhere(vec![TableUpdate::SetSnapshotRef {
            ref_name: "first".to_owned(),
            reference,
        }])
        .await?;
    head = world.fresh_head().await?;
    for id in 1..=300 {
        // Less than the time for which a fence is trusted.
        world.clock.advance(TimeDelta::minutes(9));
        let mut changes = world.changes(&head, &[id]).await?;
        world.engine.attempt(&mut head, &mut changes).await?;
    }
    let metadata = head.table().metadata();
    // Newest 100, one an hour of the 30 hours before, at most 20 to come, and the tag's.
    let kept = metadata.snapshots().count();
    assert!((120..=160).contains(&kept), "{kept} snapshots");
    assert!(metadata.snapshot_by_id(tagged).is_some());
    assert_eq!(world.ids().await?.len(), 301);
    Ok(())
}

async fn statistics_go_with_their_snapshots() -> TestResult {
    let (world, mut head) = World::new().await?;
    let mut changes = world.changes(&head, &[0]).await?;
    let first = world.engine.attempt(&mut head, &mut changes).await?;
    let mut changes = world.changes(&head, &[1]).await?;
    world.engine.attempt(&mut head, &mut changes).await?;
    let path = |snapshot_id: i64| format!("memory:///w/shop/orders/metadata/{snapshot_id}.stats");
    let statistics = |snapshot_id: i64| TableUpdate::SetStatistics {
        statistics: StatisticsFile {
            snapshot_id,
            statistics_path: path(snapshot_id),
            file_size_in_bytes: 1,
            file_footer_size_in_bytes: 1,
            key_metadata: None,
            blob_metadata: Vec::new(),
        },
    };
    let of_partitions = TableUpdate::SetPartitionStatistics {
        partition_statistics: PartitionStatisticsFile {
            snapshot_id: first,
            statistics_path: path(first),
            file_size_in_bytes: 1,
        },
    };
    world
        .update_elsewhere(vec![statistics(first), of_partitions])
        .await?;
    head = world.fresh_head().await?;
    let mut newest = 0;
    for id in 2..=130 {
        let mut changes = world.changes(&head, &[id]).await?;
        newest = world.engine.attempt(&mut head, &mut changes).await?;
        if id == 100 {
            world.update_elsewhere(vec![statistics(newest)]).await?;
            head = world.fresh_head().await?;
        }
    }
    let metadata = head.table().metadata();
    assert!(metadata.snapshot_by_id(first).is_none() && metadata.snapshot_by_id(newest).is_some());
    assert!(metadata.statistics_for_snapshot(first).is_none());
    assert!(metadata.partition_statistics_for_snapshot(first).is_none());
    // Of the hundredth, which is kept.
    assert_eq!(metadata.statistics_iter().count(), 1);
    Ok(())
}

async fn retention_of_the_main_branch_is_left_as_it_is() -> TestResult {
    let (world, mut head) = World::new().await?;
    let mut changes = world.changes(&head, &[1]).await?;
    let snapshot_id = world.engine.attempt(&mut head, &mut changes).await?;
    let retention = SnapshotRetention::branch(Some(7), Some(86_400_000), None);
    world
        .update_elsewhere(vec![TableUpdate::SetSnapshotRef {
            ref_name: "main".to_owned(),
            reference: SnapshotReference::new(snapshot_id, retention),
        }])
        .await?;
    let mut head = world.fresh_head().await?;
    for id in [2, 3] {
        let mut changes = world.changes(&head, &[id]).await?;
        world.engine.attempt(&mut head, &mut changes).await?;
    }
    let json = serde_json::to_value(head.table().metadata())?;
    assert_eq!(json["refs"]["main"]["min-snapshots-to-keep"], 7);
    assert_eq!(json["refs"]["main"]["max-snapshot-age-ms"], 86_400_000);
    Ok(())
}

async fn processes_that_live_for_one_commit_merge_too() -> TestResult {
    let (world, _head) = World::new().await?;
    world
        .set_elsewhere("commit.manifest.min-count-to-merge", "10")
        .await?;
    let ids: Vec<i64> = (1..=60).collect();
    for id in &ids {
        world.commit_elsewhere(&[*id]).await?;
    }
    let table = world.catalog.load_table(&orders()).await?;
    let snapshot = table.metadata().current_snapshot().ok_or("no snapshot")?;
    let list = table.manifest_list_reader(snapshot).load().await?;
    assert!(list.entries().len() <= 30, "{}", list.entries().len());
    assert_eq!(world.ids().await?, ids);
    world.is_whole().await
}

async fn merge_that_waited_for_days_is_not_used() -> TestResult {
    let (world, _head) = World::new().await?;
    world
        .set_elsewhere("commit.manifest.min-count-to-merge", "2")
        .await?;
    let mut head = world.fresh_head().await?;
    for id in [1, 2] {
        let mut changes = world.changes(&head, &[id]).await?;
        world.engine.attempt(&mut head, &mut changes).await?;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.count("-m1.avro").await?, 1, "A merge is ready.");
    // Nothing needs the merged manifest yet, so a cleaner of orphans takes it after its usual three days.
    world.clock.advance(TimeDelta::days(4));
    for key in world.store.keys("shop/orders").await? {
        if key.ends_with("-m1.avro") {
            let io = world.store.file_io();
            io.delete(world.store.url(&key)).await?;
        }
    }
    let mut changes = world.changes(&head, &[3]).await?;
    // The fence is as old, so the commit is looked up.
    let patience = Instant::now() + Duration::from_secs(60);
    world.engine.commit(&mut head, &mut changes, patience).await?;
    assert_eq!(world.ids().await?, [1, 2, 3]);
    Ok(())
}

/// Where only a moved snapshot fences, no requirement says that nobody made a tag meanwhile.
async fn snapshot_that_is_tagged_during_an_upload_stays() -> TestResult {
    let world = null_fence::world().await?;
    for id in 0..25 {
        world.clock.advance(TimeDelta::seconds(1));
        world.commit_elsewhere(&[id]).await?;
    }
    for property in ["min-snapshots-to-keep", "max-snapshot-age-ms"] {
        world
            .set_elsewhere(&format!("history.expire.{property}"), "1")
            .await?;
    }
    let mut head = world.fresh_head().await?;
    let mut due: Vec<_> = head.table().metadata().snapshots().cloned().collect();
    due.sort_by_key(|snapshot| snapshot.sequence_number());
    let (tagged, neighbour) = (due[3].snapshot_id(), due[4].snapshot_id());
    world.clock.advance(TimeDelta::seconds(1));
    let mut changes = world.changes(&head, &[100]).await?;
    let gate = world.faults.hold(Op::Put, "/snap-");
    let tagging = async {
        gate.reached().await;
        let reference = SnapshotReference::new(tagged, SnapshotRetention::Tag { max_ref_age_ms: None });
        let ref_name = "audit".to_owned();
        world
            .update_elsewhere(vec![TableUpdate::SetSnapshotRef { ref_name, reference }])
            .await?;
        gate.release();
        TestResult::Ok(())
    };
    let (attempted, done) = tokio::join!(world.engine.attempt(&mut head, &mut changes), tagging);
    done?;
    attempted?;
    let table = world.catalog.load_table(&orders()).await?;
    let is_there = |id: i64| table.metadata().snapshot_by_id(id).is_some();
    assert!(is_there(tagged) && !is_there(neighbour));
    Ok(())
}

async fn merge_under_way_is_waited_for_by_no_commit() -> TestResult {
    let (world, _head) = World::new().await?;
    world
        .set_elsewhere("commit.manifest.min-count-to-merge", "2")
        .await?;
    let mut head = world.fresh_head().await?;
    let hour = Duration::from_secs(3600);
    world.faults.always(Op::Put, "-m1.avro", Fault::Delay(hour));
    let begun = Instant::now();
    let ids: Vec<i64> = (1..=12).collect();
    for id in &ids {
        let mut changes = world.changes(&head, &[*id]).await?;
        world.engine.attempt(&mut head, &mut changes).await?;
        tokio::task::yield_now().await;
    }
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    assert_eq!(world.ids().await?, ids);
    Ok(())
}

/// A table that nobody merged for, with a hundred manifests to merge three times over.
async fn overdue() -> TestResult<(World, Vec<i64>)> {
    let (world, _head) = World::new().await?;
    let ids: Vec<i64> = (1..=300).collect();
    world
        .set_elsewhere("commit.manifest-merge.enabled", "false")
        .await?;
    let mut head = world.fresh_head().await?;
    for id in &ids {
        let mut changes = world.changes(&head, &[*id]).await?;
        world.engine.attempt(&mut head, &mut changes).await?;
    }
    world
        .set_elsewhere("commit.manifest-merge.enabled", "true")
        .await?;
    Ok((world, ids))
}

async fn merge_that_is_overdue_holds_up_no_commit_for_long() -> TestResult {
    let (world, mut ids) = overdue().await?;
    let slow = Fault::Delay(Duration::from_secs(5));
    world.faults.always(Op::Get, "-m0.avro", slow);
    let mut head = world.fresh_head().await?;
    let begun = Instant::now();
    // The shortest deadline of a delivery; and another that begins anew, as after a deadline that was missed.
    let patience = Duration::from_secs(10);
    for id in [1000, 1001] {
        let mut changes = world.changes(&head, &[id]).await?;
        let committing = world.engine.attempt(&mut head, &mut changes);
        tokio::time::timeout(patience, committing).await??;
        ids.push(id);
        if id == 1000 {
            assert!(begun.elapsed() < patience / 2, "{:?}", begun.elapsed());
            head = world.fresh_head().await?;
        }
    }
    // What was begun goes on beside the commits, and rides on one of them.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut changes = world.changes(&head, &[1002]).await?;
    world.engine.attempt(&mut head, &mut changes).await?;
    ids.push(1002);
    let snapshot = head.table().metadata().current_snapshot().ok_or("no snapshot")?;
    let list = head.table().manifest_list_reader(snapshot).load().await?;
    assert_eq!(list.entries().len(), 303 - 100 + 1);
    assert_eq!(world.ids().await?, ids);
    world.is_whole().await
}

async fn overdue_merge_of_a_slow_store_is_done_by_one_commit() -> TestResult {
    let (world, mut ids) = overdue().await?;
    for op in [Op::Get, Op::Put] {
        let slow = Fault::Delay(Duration::from_millis(150));
        world.faults.always(op, "metadata/", slow);
    }
    let begun = Instant::now();
    world.commit_elsewhere(&[1000]).await?;
    ids.push(1000);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let head = world.fresh_head().await?;
    let snapshot = head.table().metadata().current_snapshot().ok_or("no snapshot")?;
    let list = head.table().manifest_list_reader(snapshot).load().await?;
    assert_eq!(list.entries().len(), 301 - 100 + 1);
    assert_eq!(world.ids().await?, ids);
    world.is_whole().await
}
