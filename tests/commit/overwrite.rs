//! Overwrites: what goes, what stays, what manifests and summaries say of it, and what other engines read.

use std::collections::BTreeSet;

use iceberg::spec::{Literal, ManifestStatus, Transform};
use iceberg::table::Table;
use landfast::commit::{Alteration, Committed, DELIVERY_COUNT, Group, Part};
use landfast::config::PartitionBy;
use landfast::error::ErrorKind;
use landfast::random::Random;
use landfast::storage::Store;
use libtest_mimic::Trial;
use serde_json::json;
use tokio::time::Duration;

use super::world::{World, named, patience};
use crate::support::faults::Faults;
use crate::support::readers::{Reader, sort_by};
use crate::support::tables::{files_of, orders, summary};
use crate::support::{Stop, TestResult, paused_trials, trials};

pub fn tests() -> Vec<Trial> {
    let mut tests = paused_trials![
        whole_table_is_replaced_in_one_snapshot,
        manifests_say_which_snapshot_deleted_what,
        partitions_are_replaced_and_others_stay,
        overwrite_without_rows_empties,
        overwrite_of_an_empty_table_lands,
        file_of_an_older_spec_that_only_partly_matches_is_refused,
        new_file_outside_the_part_is_refused,
        filter_that_names_nothing_of_the_spec_is_refused,
        manifests_stay_few_over_many_overwrites,
        overwrites_between_merges_lose_nothing,
    ];
    tests.extend(trials![independent_readers_agree_on_what_was_replaced]);
    tests
}

async fn commit_of(world: &World, ids: &[i64]) -> TestResult<i64> {
    let mut head = world.fresh_head().await?;
    let mut changes = world.changes(&head, ids).await?;
    Ok(world.engine.attempt(&mut head, &mut changes).await?)
}

fn expect_summary(table: &Table, expected: &[(&str, u64)]) {
    for (field, value) in expected {
        assert_eq!(summary(table, field), Some(value.to_string()), "{field}");
    }
}

async fn whole_table_is_replaced_in_one_snapshot() -> TestResult {
    let (world, _) = World::new().await?;
    commit_of(&world, &[1, 2]).await?;
    commit_of(&world, &[3]).await?;
    let mut head = world.fresh_head().await?;
    let removed: u64 = summary(head.table(), "total-files-size").ok_or("none")?.parse()?;
    let mut changes = world.overwrite(&mut head, Part::table(), &[7, 8]).await?;
    let bytes = changes.byte_count();
    world.engine.attempt(&mut head, &mut changes).await?;
    assert_eq!(world.ids().await?, [7, 8]);
    let table = world.catalog.load_table(&orders()).await?;
    let snapshot = table.metadata().current_snapshot().ok_or("no snapshot")?;
    assert_eq!(snapshot.summary().operation.as_str(), "overwrite");
    assert_eq!(table.metadata().snapshots().count(), 3);
    expect_summary(
        &table,
        &[
            ("added-data-files", 1),
            ("added-records", 2),
            ("added-files-size", bytes),
            ("deleted-data-files", 2),
            ("deleted-records", 3),
            ("removed-files-size", removed),
            ("changed-partition-count", 1),
            ("total-records", 2),
            ("total-data-files", 1),
            ("total-files-size", bytes),
            ("total-delete-files", 0),
            (DELIVERY_COUNT, 2),
        ],
    );
    assert_eq!(summary(&table, "removed-delete-files"), None);
    // What was replaced had landed, and stays known.
    assert!(world.have_landed(&[1, 2, 3, 7, 8]).await?);
    world.is_whole().await
}

async fn manifests_say_which_snapshot_deleted_what() -> TestResult {
    let (world, _) = World::partitioned().await?;
    let first = commit_of(&world, &[1, 2]).await?;
    let mut head = world.fresh_head().await?;
    let part = named(&head, &[1])?;
    let mut changes = world.overwrite(&mut head, part, &[]).await?;
    let overwrite = world.engine.attempt(&mut head, &mut changes).await?;
    let snapshot = head.table().metadata().current_snapshot().ok_or("no snapshot")?;
    let list = head.table().manifest_list_reader(snapshot).load().await?;
    let [manifest] = list.entries() else {
        return Err(format!("{} manifests", list.entries().len()).into());
    };
    assert_eq!(manifest.added_snapshot_id, overwrite);
    assert_eq!(
        (manifest.deleted_files_count, manifest.existing_files_count),
        (Some(1), Some(1))
    );
    assert_eq!((manifest.sequence_number, manifest.min_sequence_number), (2, 1));
    let read = manifest.load_manifest(head.table().file_io()).await?;
    for entry in read.entries() {
        let expected = match entry.status() {
            ManifestStatus::Deleted => overwrite,
            _ => first,
        };
        assert_eq!(entry.snapshot_id(), Some(expected));
        assert_eq!(
            (entry.sequence_number(), entry.file_sequence_number),
            (Some(1), Some(1))
        );
    }
    // The rest goes, too: its manifest holds deletions only, and the next snapshot has no use for it.
    let part = named(&head, &[2])?;
    let mut changes = world.overwrite(&mut head, part, &[]).await?;
    world.engine.attempt(&mut head, &mut changes).await?;
    commit_of(&world, &[3]).await?;
    let table = world.catalog.load_table(&orders()).await?;
    let snapshot = table.metadata().current_snapshot().ok_or("no snapshot")?;
    assert_eq!(
        table.manifest_list_reader(snapshot).load().await?.entries().len(),
        1
    );
    assert_eq!(world.ids().await?, [3]);
    world.is_whole().await
}

async fn partitions_are_replaced_and_others_stay() -> TestResult {
    let (world, _) = World::partitioned().await?;
    commit_of(&world, &[1, 2, 3]).await?;
    commit_of(&world, &[2, 4]).await?;
    let mut head = world.fresh_head().await?;
    assert_eq!(world.ids().await?, [1, 2, 2, 3, 4]);
    let part = named(&head, &[2, 3])?;
    let mut changes = world.replace(&mut head, part, &[3, 3, 2]).await?;
    world.engine.attempt(&mut head, &mut changes).await?;
    assert_eq!(world.ids().await?, [1, 2, 3, 3, 4]);
    expect_summary(
        head.table(),
        &[
            ("added-data-files", 2),
            ("added-records", 3),
            ("deleted-data-files", 3),
            ("deleted-records", 3),
            ("changed-partition-count", 2),
            ("total-records", 5),
            ("total-data-files", 4),
        ],
    );
    world.is_whole().await
}

async fn overwrite_without_rows_empties() -> TestResult {
    let (world, _) = World::new().await?;
    commit_of(&world, &[1, 2]).await?;
    let mut head = world.fresh_head().await?;
    let mut changes = world.overwrite(&mut head, Part::table(), &[]).await?;
    let done = world.engine.commit(&mut head, &mut changes, patience()).await?;
    assert!(matches!(done, Committed::Now(_)));
    assert!(world.ids().await?.is_empty());
    expect_summary(
        head.table(),
        &[
            ("total-records", 0),
            ("total-data-files", 0),
            ("total-files-size", 0),
        ],
    );
    // It is remembered as a delivery, once.
    let mut fresh = world.fresh_head().await?;
    let landed = fresh.snapshot_of(changes.commit_id()).map(Committed::Now);
    let again = world.engine.commit(&mut fresh, &mut changes, patience()).await?;
    assert_eq!(Some(again), landed);
    commit_of(&world, &[3]).await?;
    assert_eq!(world.ids().await?, [3]);
    world.is_whole().await
}

async fn overwrite_of_an_empty_table_lands() -> TestResult {
    let (world, mut head) = World::new().await?;
    let mut changes = world.overwrite(&mut head, Part::table(), &[1]).await?;
    world.engine.attempt(&mut head, &mut changes).await?;
    assert_eq!(world.ids().await?, [1]);
    expect_summary(head.table(), &[("total-records", 1), ("added-records", 1)]);
    assert_eq!(summary(head.table(), "deleted-records"), None);
    Ok(())
}

async fn file_of_an_older_spec_that_only_partly_matches_is_refused() -> TestResult {
    let (world, mut head) = World::new().await?;
    commit_of(&world, &[1, 2]).await?;
    let by_name = Alteration::PartitionBy(vec![PartitionBy {
        transform: Transform::Identity,
        column: "name".to_owned(),
    }]);
    world.engine.alter(&mut head, &[by_name], patience()).await?;
    let part = named(&head, &[1])?;
    let error = world.overwrite(&mut head, part, &[]).await.expect_err("partly");
    let Stop::Failed(text) = error else {
        return Err("ignored".into());
    };
    assert!(text.contains("rewrite_data_files"), "{text}");
    // The whole table takes them with it.
    let mut changes = world.replace(&mut head, Part::table(), &[3]).await?;
    world.engine.attempt(&mut head, &mut changes).await?;
    assert_eq!(world.ids().await?, [3]);
    let part = named(&head, &[3])?;
    let mut changes = world.replace(&mut head, part, &[3, 3]).await?;
    world.engine.attempt(&mut head, &mut changes).await?;
    assert_eq!(world.ids().await?, [3, 3]);
    world.is_whole().await
}

async fn new_file_outside_the_part_is_refused() -> TestResult {
    let (world, mut head) = World::partitioned().await?;
    let part = named(&head, &[1])?;
    let mut changes = world.overwrite(&mut head, part, &[1, 2]).await?;
    world.fails(&mut head, &mut changes, ErrorKind::Rejected).await;
    assert!(world.ids().await?.is_empty());
    Ok(())
}

async fn filter_that_names_nothing_of_the_spec_is_refused() -> TestResult {
    let (_, head) = World::partitioned().await?;
    let number = Some(Literal::long(1));
    for filter in [
        vec![],
        vec![vec![]],
        vec![vec![("id", number.clone())]],
        vec![vec![("name", number)]],
    ] {
        let error = Part::partitions(head.table(), &filter).expect_err("nothing of the spec");
        assert_eq!(error.kind(), ErrorKind::Rejected);
    }
    Ok(())
}

async fn manifests_stay_few_over_many_overwrites() -> TestResult {
    let (world, _) = World::partitioned().await?;
    commit_of(&world, &[1, 2, 3, 4]).await?;
    let mut head = world.fresh_head().await?;
    for turn in 0..60 {
        let part = if turn % 10 == 0 {
            Part::table()
        } else {
            named(&head, &[1])?
        };
        let ids: &[i64] = if turn % 10 == 0 { &[1, 2, 3, 4] } else { &[1] };
        let mut changes = world.replace(&mut head, part, ids).await?;
        world.engine.attempt(&mut head, &mut changes).await?;
        let snapshot = head.table().metadata().current_snapshot().ok_or("no snapshot")?;
        let list = head.table().manifest_list_reader(snapshot).load().await?;
        // New files, what was rewritten, and what only tells of this snapshot's deletions.
        assert!(list.entries().len() <= 4, "{} manifests", list.entries().len());
        assert_eq!(world.ids().await?, [1, 2, 3, 4]);
    }
    world.is_whole().await
}

async fn overwrites_between_merges_lose_nothing() -> TestResult {
    let seed = rand::random();
    replace_at_random(&Random::seeded(seed))
        .await
        .map_err(|stop| format!("seed {seed}: {stop:?}").into())
}

async fn replace_at_random(random: &Random) -> TestResult {
    let (world, mut head) = World::partitioned().await?;
    let small = Alteration::SetProperty("commit.manifest.min-count-to-merge".to_owned(), "3".to_owned());
    world.engine.alter(&mut head, &[small], patience()).await?;
    let mut expected = BTreeSet::new();
    for _ in 0..80 {
        let id = i64::from(random.uuid().as_bytes()[0] % 12);
        let part = named(&head, &[id])?;
        let mut changes = world.overwrite(&mut head, part, &[]).await?;
        if random.uuid().as_bytes()[0].is_multiple_of(3) {
            expected.remove(&id);
        } else {
            expected.insert(id);
            let files = files_of(head.table(), &[id], &world.random).await?;
            changes.add(Group::durable(files, Vec::new()));
        }
        world.engine.attempt(&mut head, &mut changes).await?;
        // Lets what runs beside the commits come to its end.
        tokio::time::sleep(Duration::from_secs(1)).await;
        if world.ids().await? != expected.iter().copied().collect::<Vec<_>>() {
            return Err("other rows than expected".into());
        }
    }
    let snapshot = head.table().metadata().current_snapshot().ok_or("no snapshot")?;
    let list = head.table().manifest_list_reader(snapshot).load().await?;
    assert!(list.entries().len() <= 24, "{} manifests", list.entries().len());
    world.is_whole().await
}

async fn independent_readers_agree_on_what_was_replaced() -> TestResult {
    let folder = tempfile::tempdir()?;
    let store = Store::open(&format!("file://{}", folder.path().display()))?;
    let (world, mut head) = World::over(Faults::default(), store).await?;
    let by_name = Alteration::PartitionBy(vec![PartitionBy {
        transform: Transform::Identity,
        column: "name".to_owned(),
    }]);
    commit_of(&world, &[9]).await?;
    world.engine.alter(&mut head, &[by_name], patience()).await?;
    let mut before = None;
    for (part, ids) in [
        (None, vec![1, 2, 3]),
        (Some(vec![2]), vec![2, 2]),
        (Some(vec![3, 4]), vec![4]),
    ] {
        let part = match part {
            None => Part::table(),
            Some(part) => named(&head, &part)?,
        };
        let mut changes = world.replace(&mut head, part, &ids).await?;
        before = head.table().metadata().current_snapshot_id();
        world.engine.attempt(&mut head, &mut changes).await?;
    }
    world.catalog.settle().await;
    let table = world.catalog.load_table(&orders()).await?;
    let metadata = table.metadata_location().ok_or("not loaded")?.to_owned();
    let rows_of = |ids: &[i64]| -> Vec<_> {
        ids.iter()
            .map(|id| json!({ "id": id, "name": format!("n{id}") }))
            .collect()
    };
    for reader in Reader::all()? {
        let mut rows = reader.rows(&metadata)?;
        sort_by(&mut rows, "id");
        assert_eq!(rows, rows_of(&[1, 2, 2, 4]));
        assert_eq!(reader.count_where(&metadata, "name", "=", "n2")?.rows, 2);
        assert_eq!(reader.count_where(&metadata, "name", "=", "n3")?.rows, 0);
        // What was replaced is read in the snapshot before, from files that the newest no longer has.
        let mut rows = reader.rows_at(&metadata, before.ok_or("no snapshot")?)?;
        sort_by(&mut rows, "id");
        assert_eq!(rows, rows_of(&[1, 2, 2, 3]));
    }
    let live = Reader::pyiceberg()?.files(&metadata)?;
    assert_eq!(live.len(), 3);
    if let Ok(spark) = Reader::spark() {
        assert_eq!(spark.count(&metadata)?, 4);
        assert_eq!(spark.count_where(&metadata, "name", "=", "n3")?.rows, 0);
        assert_eq!(spark.files(&metadata)?.len(), 3);
    }
    Ok(())
}
