//! Overwrites against everybody else: what is tolerated, what is refused, and answers that were lost.

use iceberg::TableUpdate;
use iceberg::spec::Transform;
use landfast::clock::Moment;
use landfast::commit::{Alteration, ChangeSet, Committed, Group, Head, Part};
use landfast::config::PartitionBy;
use landfast::error::{Error, ErrorKind};
use libtest_mimic::Trial;
use tokio::time::Duration;

use super::world::{World, named, patience};
use crate::support::faults::{Fault, Gate, Op};
use crate::support::tables::files_of;
use crate::support::{TestResult, paused_trials};

pub fn tests() -> Vec<Trial> {
    paused_trials![
        what_came_into_the_part_since_is_not_replaced_unseen,
        what_left_the_part_since_is_refused,
        changes_outside_the_part_are_tolerated,
        overwrites_of_one_part_exclude_each_other,
        overwrites_of_other_partitions_both_land,
        other_partition_spec_since_is_refused,
        merged_manifests_since_are_tolerated,
        manifests_are_rewritten_once_over_all_attempts,
        lost_answer_of_an_overwrite_is_found_landed,
        lost_answer_without_deliveries_is_found_after_expiry,
        refused_overwrite_lands_once,
        late_overwrite_and_its_retry_exclude_each_other,
        lost_overwrite_is_not_reported_done,
        overwrite_of_which_a_part_landed_is_refused,
        delivery_that_another_landed_makes_the_overwrite_done,
    ]
}

async fn commit(world: &World, head: &mut Head, changes: &mut ChangeSet) -> Result<Committed, Error> {
    world.engine.commit(head, changes, patience()).await
}

async fn is_refused(world: &World, head: &mut Head, changes: &mut ChangeSet, why: &str) {
    let error = commit(world, head, changes).await.expect_err(why);
    assert_eq!(error.kind(), ErrorKind::Rejected, "{}", error.report());
    assert!(error.message().contains(why), "{}", error.report());
}

/// Overwrites as another process would.
async fn overwrite_elsewhere(world: &World, part: Part, ids: &[i64]) -> TestResult {
    let mut head = world.fresh_head().await?;
    let mut changes = world.overwrite(&mut head, part, ids).await?;
    world.engine.attempt(&mut head, &mut changes).await?;
    Ok(())
}

/// The same by rows that come in a delivery of their own.
async fn replace_elsewhere(world: &World, part: Part, ids: &[i64]) -> TestResult {
    let mut head = world.fresh_head().await?;
    let mut changes = world.replace(&mut head, part, ids).await?;
    world.engine.attempt(&mut head, &mut changes).await?;
    Ok(())
}

async fn what_came_into_the_part_since_is_not_replaced_unseen() -> TestResult {
    for whole in [true, false] {
        let (world, mut head) = World::partitioned().await?;
        let part = if whole { Part::table() } else { named(&head, &[1])? };
        let mut changes = world.replace(&mut head, part, &[1]).await?;
        // Another instance's append of other deliveries.
        let mut other = world.fresh_head().await?;
        let files = files_of(other.table(), &[1], &world.random).await?;
        let mut append = world.no_changes();
        append.add(Group::durable(files, Vec::new()));
        world.engine.attempt(&mut other, &mut append).await?;
        is_refused(&world, &mut head, &mut changes, "files came into").await;
        assert_eq!(world.ids().await?, [1]);
        assert!(!world.have_landed(&[1]).await?);
        world.is_whole().await?;
    }
    Ok(())
}

async fn what_left_the_part_since_is_refused() -> TestResult {
    let (world, _) = World::partitioned().await?;
    world.commit_elsewhere(&[1, 2]).await?;
    let mut head = world.fresh_head().await?;
    let mut changes = world.overwrite(&mut head, Part::table(), &[3]).await?;
    let part = named(&head, &[1])?;
    overwrite_elsewhere(&world, part, &[]).await?;
    is_refused(&world, &mut head, &mut changes, "files left").await;
    assert_eq!(world.ids().await?, [2]);
    Ok(())
}

async fn changes_outside_the_part_are_tolerated() -> TestResult {
    let (world, _) = World::partitioned().await?;
    world.commit_elsewhere(&[1, 2]).await?;
    let mut head = world.fresh_head().await?;
    let part = named(&head, &[1])?;
    let mut changes = world.replace(&mut head, part, &[1, 1]).await?;
    world.commit_elsewhere(&[3]).await?;
    let part = named(&head, &[2])?;
    overwrite_elsewhere(&world, part, &[]).await?;
    let done = commit(&world, &mut head, &mut changes).await?;
    assert!(matches!(done, Committed::Now(_)));
    assert_eq!(world.ids().await?, [1, 1, 3]);
    world.is_whole().await
}

async fn overwrites_of_one_part_exclude_each_other() -> TestResult {
    for whole in [true, false] {
        let (world, _) = World::partitioned().await?;
        world.commit_elsewhere(&[1]).await?;
        let mut head = world.fresh_head().await?;
        let part = if whole { Part::table() } else { named(&head, &[1])? };
        let mut changes = world.replace(&mut head, part.clone(), &[1, 1]).await?;
        let mut other = world.fresh_head().await?;
        let mut others = world
            .engine
            .overwrite(&mut other, part, Moment::now(world.clock.as_ref()))
            .await?;
        world.engine.attempt(&mut other, &mut others).await?;
        is_refused(&world, &mut head, &mut changes, "files left").await;
        assert!(world.ids().await?.is_empty());
    }
    Ok(())
}

async fn overwrites_of_other_partitions_both_land() -> TestResult {
    let (world, _) = World::partitioned().await?;
    world.commit_elsewhere(&[1, 2, 3]).await?;
    let mut head = world.fresh_head().await?;
    let part = named(&head, &[1])?;
    let mut changes = world.replace(&mut head, part, &[1, 1]).await?;
    let part = named(&head, &[2])?;
    replace_elsewhere(&world, part, &[2, 2, 2]).await?;
    commit(&world, &mut head, &mut changes).await?;
    assert_eq!(world.ids().await?, [1, 1, 2, 2, 2, 3]);
    world.is_whole().await
}

async fn other_partition_spec_since_is_refused() -> TestResult {
    let (world, mut head) = World::new().await?;
    let mut changes = world.overwrite(&mut head, Part::table(), &[1]).await?;
    let by_id = Alteration::PartitionBy(vec![PartitionBy {
        transform: Transform::Identity,
        column: "id".to_owned(),
    }]);
    world
        .engine
        .alter(&mut world.fresh_head().await?, &[by_id], patience())
        .await?;
    let error = commit(&world, &mut head, &mut changes)
        .await
        .expect_err("another spec");
    assert_eq!(error.kind(), ErrorKind::TableMismatch);
    Ok(())
}

async fn merged_manifests_since_are_tolerated() -> TestResult {
    let (world, _) = World::new().await?;
    world
        .set_elsewhere("commit.manifest.min-count-to-merge", "3")
        .await?;
    let mut other = world.fresh_head().await?;
    for id in [1, 2, 3] {
        let mut changes = world.changes(&other, &[id]).await?;
        world.engine.attempt(&mut other, &mut changes).await?;
    }
    let mut head = world.fresh_head().await?;
    let mut changes = world.overwrite(&mut head, Part::table(), &[4]).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = Moment::now(world.clock.as_ref());
    let mut upkeep = ChangeSet::upkeep(world.random.uuid(), begun);
    world.engine.attempt(&mut other, &mut upkeep).await?;
    assert_eq!(world.count("-m1.avro").await?, 1, "The merge took part.");
    commit(&world, &mut head, &mut changes).await?;
    assert_eq!(world.ids().await?, [4]);
    world.is_whole().await
}

async fn manifests_are_rewritten_once_over_all_attempts() -> TestResult {
    const CONFLICTS: usize = 4;
    let (world, _) = World::partitioned().await?;
    world.commit_elsewhere(&[1, 2]).await?;
    let mut head = world.fresh_head().await?;
    let part = named(&head, &[1])?;
    let mut changes = world.replace(&mut head, part, &[1]).await?;
    for conflict in 0..CONFLICTS {
        world.commit_elsewhere(&[i64::try_from(conflict)? + 10]).await?;
        world.fails(&mut head, &mut changes, ErrorKind::Conflict).await;
        world.engine.reload(&mut head, &changes).await?;
    }
    world.engine.attempt(&mut head, &mut changes).await?;
    // One a foreign commit, that of the new file, and the one that took the first one's place.
    assert_eq!(world.faults.calls(Op::Put, "-m0.avro"), 1 + CONFLICTS + 2);
    assert_eq!(world.ids().await?, [1, 2, 10, 11, 12, 13]);
    world.is_whole().await
}

async fn lost_answer_of_an_overwrite_is_found_landed() -> TestResult {
    for (op, path, buried) in [
        (Op::Put, "v3.metadata.json", false),
        (Op::CommitTable, "", false),
        (Op::CommitTable, "", true),
    ] {
        let (world, _) = World::new().await?;
        world.commit_elsewhere(&[1]).await?;
        let mut head = world.fresh_head().await?;
        let mut changes = world.overwrite(&mut head, Part::table(), &[2]).await?;
        world.faults.once(op, path, Fault::FailAfter);
        world
            .fails(&mut head, &mut changes, ErrorKind::OutcomeUnknown)
            .await;
        if buried {
            world.commit_elsewhere(&[3]).await?;
        }
        world.engine.reload(&mut head, &changes).await?;
        let landed = head.snapshot_of(changes.commit_id()).map(Committed::Now);
        assert_eq!(Some(commit(&world, &mut head, &mut changes).await?), landed);
        let expected = if buried { vec![2, 3] } else { vec![2] };
        assert_eq!(world.ids().await?, expected);
        world.is_whole().await?;
    }
    Ok(())
}

async fn lost_answer_without_deliveries_is_found_after_expiry() -> TestResult {
    let (world, _) = World::new().await?;
    world.commit_elsewhere(&[1]).await?;
    let mut head = world.fresh_head().await?;
    let mut changes = world.overwrite(&mut head, Part::table(), &[]).await?;
    world.faults.once(Op::CommitTable, "", Fault::FailAfter);
    world
        .fails(&mut head, &mut changes, ErrorKind::OutcomeUnknown)
        .await;
    let landed = world.fresh_head().await?.table().metadata().current_snapshot_id();
    world.commit_elsewhere(&[2]).await?;
    let snapshot_ids = vec![landed.ok_or("no snapshot")?];
    world
        .update_elsewhere(vec![TableUpdate::RemoveSnapshots { snapshot_ids }])
        .await?;
    world.engine.reload(&mut head, &changes).await?;
    // No snapshot tells of it any more; the ledger does, and what came since is not replaced.
    assert_eq!(head.snapshot_of(changes.commit_id()), None);
    assert_eq!(commit(&world, &mut head, &mut changes).await?, Committed::Before);
    assert_eq!(world.ids().await?, [2]);
    Ok(())
}

async fn refused_overwrite_lands_once() -> TestResult {
    for ids in [vec![], vec![2]] {
        let (world, _) = World::new().await?;
        world.commit_elsewhere(&[1]).await?;
        let mut head = world.fresh_head().await?;
        let mut changes = world.overwrite(&mut head, Part::table(), &ids).await?;
        world.faults.once(Op::CommitTable, "", Fault::Refuse);
        let done = commit(&world, &mut head, &mut changes).await?;
        assert!(matches!(done, Committed::Now(_)));
        assert_eq!(world.ids().await?, ids);
        assert_eq!(head.table().metadata().snapshots().count(), 2);
        world.is_whole().await?;
    }
    Ok(())
}

async fn late_overwrite_and_its_retry_exclude_each_other() -> TestResult {
    for late_first in [false, true] {
        for ids in [vec![], vec![2]] {
            let (world, _) = World::new().await?;
            world.commit_elsewhere(&[1]).await?;
            let mut head = world.fresh_head().await?;
            let mut changes = world.overwrite(&mut head, Part::table(), &ids).await?;
            let gate = Gate::new();
            world
                .faults
                .once(Op::Put, "v3.metadata.json", Fault::Late(gate.clone()));
            world
                .fails(&mut head, &mut changes, ErrorKind::OutcomeUnknown)
                .await;
            assert!(!world.engine.reload(&mut head, &changes).await?);
            if late_first {
                gate.release_and_settle().await;
                world.fails(&mut head, &mut changes, ErrorKind::Conflict).await;
                world.engine.reload(&mut head, &changes).await?;
                let landed = head.snapshot_of(changes.commit_id()).map(Committed::Now);
                assert_eq!(Some(commit(&world, &mut head, &mut changes).await?), landed);
            } else {
                world.engine.attempt(&mut head, &mut changes).await?;
                gate.release_and_settle().await;
            }
            assert_eq!(world.ids().await?, ids, "late first: {late_first}");
            let table = world.fresh_head().await?;
            assert_eq!(table.table().metadata().snapshots().count(), 2);
            world.is_whole().await?;
        }
    }
    Ok(())
}

async fn lost_overwrite_is_not_reported_done() -> TestResult {
    for ids in [vec![], vec![2]] {
        let (world, _) = World::new().await?;
        world.commit_elsewhere(&[1]).await?;
        let mut head = world.fresh_head().await?;
        let mut changes = world.overwrite(&mut head, Part::table(), &ids).await?;
        let gate = Gate::new();
        world
            .faults
            .once(Op::Put, "v3.metadata.json", Fault::Late(gate.clone()));
        world
            .fails(&mut head, &mut changes, ErrorKind::OutcomeUnknown)
            .await;
        world.commit_elsewhere(&[3]).await?;
        world.engine.reload(&mut head, &changes).await?;
        is_refused(&world, &mut head, &mut changes, "files came into").await;
        gate.release_and_settle().await;
        assert_eq!(world.ids().await?, [1, 3]);
        assert!(!world.have_landed(&[2]).await?);
    }
    Ok(())
}

async fn overwrite_of_which_a_part_landed_is_refused() -> TestResult {
    let (world, _) = World::new().await?;
    world.commit_elsewhere(&[1]).await?;
    let mut head = world.fresh_head().await?;
    let mut changes = world.overwrite(&mut head, Part::table(), &[1, 2]).await?;
    is_refused(&world, &mut head, &mut changes, "an overwrite lands whole").await;
    assert_eq!(world.ids().await?, [1]);
    Ok(())
}

async fn delivery_that_another_landed_makes_the_overwrite_done() -> TestResult {
    let (world, mut head) = World::new().await?;
    let mut changes = world.overwrite(&mut head, Part::table(), &[1, 2]).await?;
    // A copy of the delivery in another process.
    overwrite_elsewhere(&world, Part::table(), &[1, 2]).await?;
    assert_eq!(commit(&world, &mut head, &mut changes).await?, Committed::Before);
    assert_eq!(world.ids().await?, [1, 2]);
    Ok(())
}
