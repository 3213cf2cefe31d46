//! The commit engine: attempts, reloads, and what is in the table after every kind of answer.

mod alter;
mod first;
mod ledger;
mod null_fence;
mod others;
mod overwrite;
mod overwrite_races;
mod reads;
mod rest;
mod upkeep;
pub mod world;

use chrono::TimeDelta;
use iceberg::TableUpdate;
use iceberg::spec::PrimitiveType;
use landfast::catalog::{Outcome, TableCommit};
use landfast::commit::{COMMIT_ID, Committed, DELIVERY_COUNT, Group};
use landfast::error::ErrorKind;
use landfast::storage::Store;
use libtest_mimic::Trial;
use serde_json::json;
use tokio::time::{Duration, Instant};

use self::world::World;
use crate::support::faults::{Fault, Faults, Gate, Op};
use crate::support::readers::{Reader, sort_by};
use crate::support::tables::{column, create, files_of, order_schema, orders, schema, summary};
use crate::support::{TestResult, paused_trials, trials};

pub fn tests() -> Vec<Trial> {
    let tests = [
        attempts(),
        ledger::tests(),
        first::tests(),
        null_fence::tests(),
        upkeep::tests(),
        reads::tests(),
        overwrite::tests(),
        overwrite_races::tests(),
        alter::tests(),
        others::tests(),
        rest::tests(),
    ];
    tests.into_iter().flatten().collect()
}

fn attempts() -> Vec<Trial> {
    let mut tests = paused_trials![
        attempt_commits_and_moves_the_head,
        summaries_and_totals_are_what_java_writes,
        total_that_the_parent_does_not_know_stays_unknown,
        lost_race_lands_on_the_second_attempt_and_deletes_nothing,
        manifests_are_written_once_over_all_attempts,
        lost_answer_of_an_applied_commit_is_found_landed,
        commit_whose_answer_was_lost_is_told_as_its_own,
        repeated_commit_is_found_landed,
        refused_commit_is_found_unmoved_and_lands_once,
        late_commit_and_its_retry_exclude_each_other,
        late_commit_after_the_fence_moved_never_lands,
        file_that_cannot_be_written_sends_nothing,
        optional_column_added_meanwhile_is_tolerated,
        required_column_added_meanwhile_is_a_mismatch,
        another_table_under_the_name_is_a_mismatch,
        slow_clock_does_not_block_commits,
    ];
    tests.extend(trials![independent_readers_agree_on_what_was_committed]);
    tests
}

async fn attempt_commits_and_moves_the_head() -> TestResult {
    let (world, mut head) = World::new().await?;
    let before = head.table().metadata_location().map(str::to_owned);
    let mut changes = world.changes(&head, &[1, 2]).await?;
    let snapshot_id = world.engine.attempt(&mut head, &mut changes).await?;
    let table = world.catalog.load_table(&orders()).await?;
    assert_eq!(table.metadata().current_snapshot_id(), Some(snapshot_id));
    assert_eq!(head.table().metadata_location(), table.metadata_location());
    assert_ne!(head.table().metadata_location(), before.as_deref());
    assert_eq!(world.ids().await?, [1, 2]);
    world.is_whole().await
}

async fn summaries_and_totals_are_what_java_writes() -> TestResult {
    let (world, mut head) = World::new().await?;
    let (mut rows, mut bytes) = (0, 0);
    for commit in 1..=3u64 {
        let ids: Vec<i64> = (0..i64::try_from(commit)?).collect();
        let mut changes = world.changes(&head, &ids).await?;
        world.engine.attempt(&mut head, &mut changes).await?;
        rows += commit;
        bytes += changes.byte_count();
        let table = world.catalog.load_table(&orders()).await?;
        for (field, expected) in [
            ("added-data-files", 1),
            ("added-records", commit),
            ("added-files-size", changes.byte_count()),
            ("changed-partition-count", 1),
            ("total-records", rows),
            ("total-data-files", commit),
            ("total-files-size", bytes),
            ("total-delete-files", 0),
            ("total-position-deletes", 0),
            ("total-equality-deletes", 0),
            (DELIVERY_COUNT, commit),
        ] {
            assert_eq!(summary(&table, field), Some(expected.to_string()), "{field}");
        }
        assert_eq!(summary(&table, COMMIT_ID), Some(changes.commit_id().to_string()));
        let snapshot = table.metadata().current_snapshot().expect("it was committed");
        assert_eq!(snapshot.summary().operation.as_str(), "append");
        assert_eq!(snapshot.sequence_number(), i64::try_from(commit)?);
        let manifests = table.manifest_list_reader(snapshot).load().await?;
        assert_eq!(manifests.entries().len() as u64, commit);
    }
    Ok(())
}

async fn total_that_the_parent_does_not_know_stays_unknown() -> TestResult {
    let (world, mut head) = World::new().await?;
    let mut changes = world.changes(&head, &[1]).await?;
    world.engine.attempt(&mut head, &mut changes).await?;
    // Another engine's snapshot, whose summary has no totals.
    let base = world.catalog.load_table(&orders()).await?;
    let parent = base.metadata().current_snapshot().expect("one").as_ref();
    let mut bare = serde_json::to_value(TableUpdate::AddSnapshot {
        snapshot: parent.clone(),
    })?;
    bare["snapshot"]["snapshot-id"] = json!(7);
    bare["snapshot"]["parent-snapshot-id"] = json!(parent.snapshot_id());
    bare["snapshot"]["sequence-number"] = json!(2);
    bare["snapshot"]["summary"] = json!({ "operation": "append" });
    let point: TableUpdate = serde_json::from_value(
        json!({ "action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": 7 }),
    )?;
    let commit = TableCommit {
        requirements: Vec::new(),
        updates: vec![serde_json::from_value(bare)?, point],
    };
    let outcome = world.catalog.commit_table(&base, commit).await;
    let Outcome::Committed(table) = outcome else {
        return Err(format!("{outcome:?}").into());
    };
    let mut head = world.engine.head(*table).await?;
    let mut changes = world.changes(&head, &[2]).await?;
    world.engine.attempt(&mut head, &mut changes).await?;
    assert_eq!(summary(head.table(), "added-records").as_deref(), Some("1"));
    assert_eq!(summary(head.table(), "total-records"), None);
    Ok(())
}

async fn lost_race_lands_on_the_second_attempt_and_deletes_nothing() -> TestResult {
    let (world, mut head) = World::new().await?;
    let mut changes = world.changes(&head, &[1]).await?;
    world.commit_elsewhere(&[2]).await?;
    world.fails(&mut head, &mut changes, ErrorKind::Conflict).await;
    assert_eq!(world.reload(&mut head, &changes).await?, (true, false));
    world.engine.attempt(&mut head, &mut changes).await?;
    assert_eq!(world.ids().await?, [1, 2]);
    assert_eq!(summary(head.table(), "total-records").as_deref(), Some("2"));
    // The lost attempt's list stays too: only the sweep deletes.
    assert_eq!(world.count("/snap-").await?, 3);
    world.is_whole().await
}

async fn manifests_are_written_once_over_all_attempts() -> TestResult {
    const CONFLICTS: usize = 5;
    let (world, mut head) = World::new().await?;
    let mut changes = world.changes(&head, &[100]).await?;
    for conflict in 0..CONFLICTS {
        world.commit_elsewhere(&[i64::try_from(conflict)?]).await?;
        world.fails(&mut head, &mut changes, ErrorKind::Conflict).await;
        world.engine.reload(&mut head, &changes).await?;
    }
    // What arrived meanwhile gets a manifest of its own, beside the one that is there.
    let more = files_of(head.table(), &[101], &world.random).await?;
    changes.add(Group::durable(more, Vec::new()));
    world.engine.attempt(&mut head, &mut changes).await?;
    assert_eq!(world.count("-m0.avro").await?, CONFLICTS + 2);
    assert_eq!(world.faults.calls(Op::Put, "-m0.avro"), CONFLICTS + 2);
    // A list a commit, and one a lost attempt: no name twice.
    assert_eq!(world.count("/snap-").await?, 2 * CONFLICTS + 1);
    assert_eq!(world.faults.calls(Op::Put, "/snap-"), 2 * CONFLICTS + 1);
    assert_eq!(world.ids().await?, [0, 1, 2, 3, 4, 100, 101]);
    world.is_whole().await
}

async fn lost_answer_of_an_applied_commit_is_found_landed() -> TestResult {
    // Once where the store loses the answer, once where the catalog does; and once with a commit behind it.
    for (op, path, buried) in [
        (Op::Put, "v2.metadata.json", false),
        (Op::CommitTable, "", false),
        (Op::CommitTable, "", true),
    ] {
        let (world, mut head) = World::new().await?;
        let mut changes = world.changes(&head, &[1]).await?;
        world.faults.once(op, path, Fault::FailAfter);
        world
            .fails(&mut head, &mut changes, ErrorKind::OutcomeUnknown)
            .await;
        if buried {
            world.commit_elsewhere(&[2]).await?;
        }
        assert_eq!(world.reload(&mut head, &changes).await?, (true, true));
        let expected = if buried { vec![1, 2] } else { vec![1] };
        assert_eq!(world.ids().await?, expected);
        // The head is good for the next change set.
        let mut next = world.changes(&head, &[3]).await?;
        world.engine.attempt(&mut head, &mut next).await?;
        world.is_whole().await?;
    }
    Ok(())
}

/// Else whoever loads a file is told that it was there before, and loads it once more.
async fn commit_whose_answer_was_lost_is_told_as_its_own() -> TestResult {
    let (world, mut head) = World::new().await?;
    let patience = Instant::now() + Duration::from_secs(60);
    let mut changes = world.changes(&head, &[1, 2]).await?;
    world.faults.once(Op::CommitTable, "", Fault::FailAfter);
    let committed = world.engine.commit(&mut head, &mut changes, patience).await?;
    let snapshot_id = head.table().metadata().current_snapshot_id();
    assert_eq!(Some(committed), snapshot_id.map(Committed::Now));
    assert_eq!(changes.row_count(), 2, "what it landed can be counted");
    // What another process landed is not.
    let mut changes = world.changes(&head, &[3]).await?;
    world.commit_elsewhere(&[3]).await?;
    let committed = world.engine.commit(&mut head, &mut changes, patience).await?;
    assert_eq!(committed, Committed::Before);
    assert_eq!(world.ids().await?, [1, 2, 3]);
    Ok(())
}

async fn repeated_commit_is_found_landed() -> TestResult {
    let (world, mut head) = World::new().await?;
    let mut changes = world.changes(&head, &[1]).await?;
    world.faults.once(Op::Put, "v2.metadata.json", Fault::Repeat);
    world.fails(&mut head, &mut changes, ErrorKind::Conflict).await;
    assert_eq!(world.reload(&mut head, &changes).await?, (true, true));
    assert_eq!(world.ids().await?, [1]);
    Ok(())
}

async fn refused_commit_is_found_unmoved_and_lands_once() -> TestResult {
    for (op, path) in [(Op::Put, "v2.metadata.json"), (Op::CommitTable, "")] {
        let (world, mut head) = World::new().await?;
        let mut changes = world.changes(&head, &[1]).await?;
        world.faults.once(op, path, Fault::Refuse);
        world
            .fails(&mut head, &mut changes, ErrorKind::OutcomeUnknown)
            .await;
        assert_eq!(world.reload(&mut head, &changes).await?, (false, false));
        world.engine.attempt(&mut head, &mut changes).await?;
        assert_eq!(world.ids().await?, [1]);
        world.is_whole().await?;
    }
    Ok(())
}

async fn late_commit_and_its_retry_exclude_each_other() -> TestResult {
    for late_first in [false, true] {
        let (world, mut head) = World::new().await?;
        let mut changes = world.changes(&head, &[1]).await?;
        let gate = Gate::new();
        world
            .faults
            .once(Op::Put, "v2.metadata.json", Fault::Late(gate.clone()));
        world
            .fails(&mut head, &mut changes, ErrorKind::OutcomeUnknown)
            .await;
        assert_eq!(world.reload(&mut head, &changes).await?, (false, false));
        if late_first {
            gate.release_and_settle().await;
            world.fails(&mut head, &mut changes, ErrorKind::Conflict).await;
            assert_eq!(world.reload(&mut head, &changes).await?, (true, true));
        } else {
            world.engine.attempt(&mut head, &mut changes).await?;
            gate.release_and_settle().await;
        }
        assert_eq!(world.ids().await?, [1], "late first: {late_first}");
        assert_eq!(head.table().metadata().snapshots().count(), 1);
        world.is_whole().await?;
    }
    Ok(())
}

async fn late_commit_after_the_fence_moved_never_lands() -> TestResult {
    let (world, mut head) = World::new().await?;
    let mut changes = world.changes(&head, &[1]).await?;
    let gate = Gate::new();
    world
        .faults
        .once(Op::Put, "v2.metadata.json", Fault::Late(gate.clone()));
    world
        .fails(&mut head, &mut changes, ErrorKind::OutcomeUnknown)
        .await;
    world.commit_elsewhere(&[2]).await?;
    assert_eq!(world.reload(&mut head, &changes).await?, (true, false));
    gate.release_and_settle().await;
    world.engine.attempt(&mut head, &mut changes).await?;
    assert_eq!(world.ids().await?, [1, 2]);
    world.is_whole().await
}

async fn file_that_cannot_be_written_sends_nothing() -> TestResult {
    for path in ["-m0.avro", "/snap-"] {
        for fault in [Fault::Refuse, Fault::FailAfter] {
            let (world, mut head) = World::new().await?;
            let mut changes = world.changes(&head, &[1]).await?;
            world.faults.once(Op::Put, path, fault);
            world.fails(&mut head, &mut changes, ErrorKind::Unavailable).await;
            assert_eq!(world.faults.calls(Op::CommitTable, ""), 0);
            world.engine.attempt(&mut head, &mut changes).await?;
            assert_eq!(world.ids().await?, [1]);
            world.is_whole().await?;
        }
    }
    Ok(())
}

async fn optional_column_added_meanwhile_is_tolerated() -> TestResult {
    let (world, mut head) = World::new().await?;
    let mut changes = world.changes(&head, &[1]).await?;
    let columns = order_schema().as_struct().fields().to_vec();
    let added = column(3, "note", PrimitiveType::String, false);
    world
        .change_schema_elsewhere(schema(columns.into_iter().chain([added])))
        .await?;
    world.fails(&mut head, &mut changes, ErrorKind::Conflict).await;
    assert_eq!(world.reload(&mut head, &changes).await?, (true, false));
    world.engine.attempt(&mut head, &mut changes).await?;
    assert_eq!(world.ids().await?, [1]);
    let snapshot = head.table().metadata().current_snapshot().expect("one");
    assert_eq!(
        snapshot.schema_id(),
        Some(head.table().metadata().current_schema_id())
    );
    Ok(())
}

async fn required_column_added_meanwhile_is_a_mismatch() -> TestResult {
    let (world, mut head) = World::new().await?;
    let mut changes = world.changes(&head, &[1]).await?;
    let columns = order_schema().as_struct().fields().to_vec();
    let added = column(3, "note", PrimitiveType::String, true);
    world
        .change_schema_elsewhere(schema(columns.into_iter().chain([added])))
        .await?;
    world.fails(&mut head, &mut changes, ErrorKind::Conflict).await;
    let error = world
        .engine
        .reload(&mut head, &changes)
        .await
        .expect_err("a required column");
    assert_eq!(error.kind(), ErrorKind::TableMismatch);
    assert!(world.ids().await?.is_empty());
    Ok(())
}

async fn another_table_under_the_name_is_a_mismatch() -> TestResult {
    let (world, mut head) = World::new().await?;
    let mut changes = world.changes(&head, &[1]).await?;
    world.catalog.drop_table(&orders()).await?;
    world.fails(&mut head, &mut changes, ErrorKind::Conflict).await;
    let error = world.engine.reload(&mut head, &changes).await.expect_err("gone");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    create(world.catalog.as_ref(), &orders()).await?;
    world.fails(&mut head, &mut changes, ErrorKind::Conflict).await;
    let error = world
        .engine
        .reload(&mut head, &changes)
        .await
        .expect_err("another table");
    assert_eq!(error.kind(), ErrorKind::TableMismatch);
    assert!(world.ids().await?.is_empty());
    Ok(())
}

async fn slow_clock_does_not_block_commits() -> TestResult {
    let (world, mut head) = World::new().await?;
    let mut last = head.table().metadata().last_updated_ms();
    for (id, turn) in [(1, -60), (2, 0), (3, 120), (4, -120)] {
        world.clock.advance(TimeDelta::minutes(turn));
        // The load is as old as the clock says, so that only the snapshot's time is in question.
        head = world
            .engine
            .head(world.catalog.load_table(&orders()).await?)
            .await?;
        let mut changes = world.changes(&head, &[id]).await?;
        world.engine.attempt(&mut head, &mut changes).await?;
        let snapshot = head.table().metadata().current_snapshot().expect("one");
        assert!(snapshot.timestamp_ms() >= last);
        last = snapshot.timestamp_ms();
    }
    assert_eq!(world.ids().await?, [1, 2, 3, 4]);
    Ok(())
}

async fn independent_readers_agree_on_what_was_committed() -> TestResult {
    let folder = tempfile::tempdir()?;
    let store = Store::open(&format!("file://{}", folder.path().display()))?;
    let (world, mut head) = World::over(Faults::default(), store).await?;
    for ids in [vec![1, 2], vec![3], vec![i64::MIN, i64::MAX]] {
        let mut changes = world.changes(&head, &ids).await?;
        world.engine.attempt(&mut head, &mut changes).await?;
    }
    world.commit_elsewhere(&[4]).await?;
    let expected = [i64::MIN, 1, 2, 3, 4, i64::MAX];
    assert_eq!(world.ids().await?, expected);
    world.catalog.settle().await;
    let table = world.catalog.load_table(&orders()).await?;
    let metadata = table.metadata_location().expect("it was loaded").to_owned();
    for reader in Reader::all()? {
        let mut rows = reader.rows(&metadata)?;
        sort_by(&mut rows, "id");
        let wanted = expected.map(|id| json!({ "id": id, "name": format!("n{id}") }));
        assert_eq!(rows, wanted);
        assert_eq!(reader.count_where(&metadata, "id", ">=", 3)?.rows, 3);
        // The hint leads a reader of the folder to the same.
        assert_eq!(reader.count(folder.path().join("shop/orders"))?, 6);
    }
    Ok(())
}
