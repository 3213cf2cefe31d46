//! `verify`: every planted damage is found, and nothing else.

use std::collections::HashMap;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta};
use iceberg::TableUpdate;
use iceberg::spec::{Operation, Snapshot, SnapshotReference, SnapshotRetention, Summary};
use landfast::clock::{Clock, Moment};
use landfast::commit::{ChangeSet, Group};
use landfast::ledger::{Entry, POINTER};
use landfast::maintenance::{Kind, Verdict, verify};
use landfast::trigger::DeliveryId;
use libtest_mimic::Trial;

use crate::commit::world::{World, entries};
use crate::support::faults::{Fault, Op};
use crate::support::tables::{files_of, orders};
use crate::support::{TestResult, paused_trials};

pub fn tests() -> Vec<Trial> {
    paused_trials![
        whole_table_has_no_findings,
        missing_and_short_data_files_are_named,
        missing_manifest_and_list_are_named,
        lost_segment_and_head_are_named,
        file_that_was_added_twice_is_named,
        pointer_of_somebody_else_is_named,
        delivery_that_is_there_twice_is_named,
        delivery_that_no_ledger_knows_is_counted,
        orphans_are_counted_and_are_no_findings,
        what_upkeep_deletes_meanwhile_is_no_finding,
        what_cannot_be_seen_is_said,
    ]
}

/// A table of a few commits, with a segment in its ledger.
async fn world() -> TestResult<World> {
    let (world, _head) = World::aging().await?;
    world.commit_elsewhere(&[1, 2]).await?;
    world.commit_elsewhere(&(10..1200).collect::<Vec<_>>()).await?;
    world.commit_elsewhere(&[3]).await?;
    Ok(world)
}

async fn verdict(world: &World) -> TestResult<Verdict> {
    // A ledger that remembers nothing: what was read before is no proof.
    let engine = landfast::commit::Engine::new(
        world.catalog.clone(),
        landfast::ledger::Ledger::new(world.store.clone()),
        world.clock.clone(),
        world.random.clone(),
    );
    Ok(verify(&engine, &orders()).await?)
}

/// Asserts that there is one finding at least, and that each names this.
async fn finds(world: &World, word: &str, names: &str) -> TestResult {
    let found = verdict(world).await?.findings;
    assert!(!found.is_empty(), "nothing was found");
    let about = |finding: &&String| finding.contains(word) && finding.contains(names);
    assert!(
        found.iter().any(|finding| about(&finding)),
        "{word} {names}: {found:#?}"
    );
    Ok(())
}

async fn find_key(world: &World, folder: &str, part: &str) -> TestResult<String> {
    let keys = world.store.keys(folder).await?;
    let found = keys.into_iter().rfind(|key| key.contains(part));
    found.ok_or_else(|| format!("no {part}").into())
}

async fn whole_table_has_no_findings() -> TestResult {
    let world = world().await?;
    let verdict = verdict(&world).await?;
    assert_eq!(verdict.findings, Vec::<String>::new());
    assert_eq!(
        (verdict.snapshots, verdict.manifests, verdict.data_files),
        (3, 3, 3)
    );
    assert_eq!(verdict.deliveries, 1193);
    assert!(verdict.orphans.is_empty(), "{:?}", verdict.orphans);
    assert_eq!(verdict.unseen, Vec::<String>::new());
    Ok(())
}

async fn missing_and_short_data_files_are_named() -> TestResult {
    let world = world().await?;
    let keys = world.store.keys("shop/orders/data").await?;
    world.store.delete(&keys[0]).await?;
    finds(&world, "is missing", &keys[0]).await?;
    world.store.put(&keys[1], Bytes::from_static(b"PAR1")).await?;
    finds(&world, "has 4 bytes", &keys[1]).await?;
    assert_eq!(verdict(&world).await?.findings.len(), 2);
    Ok(())
}

async fn missing_manifest_and_list_are_named() -> TestResult {
    let world = world().await?;
    let manifest = find_key(&world, "shop", "-m0.avro").await?;
    let list = find_key(&world, "shop", "/snap-").await?;
    world.store.delete(&manifest).await?;
    finds(&world, "manifest is missing", &manifest).await?;
    world.store.put(&list, Bytes::from_static(b"Obj")).await?;
    finds(&world, "cannot be read", &list).await
}

async fn lost_segment_and_head_are_named() -> TestResult {
    let world = world().await?;
    let segment = find_key(&world, "_landfast", "segment-").await?;
    world.store.delete(&segment).await?;
    finds(&world, "segment of the ledger", &segment).await?;
    let head = find_key(&world, "_landfast", "/head-").await?;
    world.store.delete(&head).await?;
    finds(&world, "head of snapshot", &head).await?;
    finds(&world, "cannot be used", &head).await
}

async fn file_that_was_added_twice_is_named() -> TestResult {
    let world = world().await?;
    let mut head = world.fresh_head().await?;
    let files = files_of(head.table(), &[5000], &world.random).await?;
    let path = files[0].file_path().to_owned();
    for id in [5000, 5001] {
        let mut changes = ChangeSet::append(world.random.uuid(), Moment::now(world.clock.as_ref()));
        changes.add(Group::durable(files.clone(), entries(&[id])));
        world.engine.attempt(&mut head, &mut changes).await?;
    }
    finds(&world, "lists", &path).await?;
    finds(&world, "Two snapshots", &path).await
}

async fn pointer_of_somebody_else_is_named() -> TestResult {
    let world = world().await?;
    let first = find_key(&world, "_landfast", "/head-000000000001").await?;
    let set = |value: String| TableUpdate::SetProperties {
        updates: [(POINTER.to_owned(), value)].into(),
    };
    world.update_elsewhere(vec![set(world.store.url(&first))]).await?;
    finds(&world, "not the newest snapshot's", &first).await?;
    let removals = vec![POINTER.to_owned()];
    world
        .update_elsewhere(vec![TableUpdate::RemoveProperties { removals }])
        .await?;
    finds(&world, "is gone", "head-000000000003").await?;
    // The next commit of ours puts it right.
    world.commit_elsewhere(&[4]).await?;
    assert!(verdict(&world).await?.findings.is_empty());
    Ok(())
}

async fn delivery_that_is_there_twice_is_named() -> TestResult {
    let world = world().await?;
    let mut head = world.fresh_head().await?;
    let mut ledger = head.ledger().head().clone();
    // One that is inline, and one that is in the segment.
    ledger.entries.extend(entries(&[100]));
    let mut inline = ledger.entries[0].clone();
    inline.index_time += 1;
    let id = inline.id;
    ledger.entries.push(inline);
    let begun = Moment::now(world.clock.as_ref());
    let mut changes = ChangeSet::rewriting_ledger(world.random.uuid(), begun, "test", ledger);
    world.engine.attempt(&mut head, &mut changes).await?;
    finds(&world, "2 deliveries twice", &format!("{id:032x}")).await?;
    finds(&world, "2 deliveries twice", &format!("{:032x}", 100)).await
}

async fn delivery_that_no_ledger_knows_is_counted() -> TestResult {
    let world = world().await?;
    // A commit whose summary says more deliveries than its head gained: one was there before.
    let mut head = world.fresh_head().await?;
    let mut changes = world.changes(&head, &[3, 4]).await?;
    world.engine.attempt(&mut head, &mut changes).await?;
    finds(&world, "landed 2 deliveries", "from 1193 to 1194").await
}

async fn orphans_are_counted_and_are_no_findings() -> TestResult {
    let world = world().await?;
    let mut head = world.fresh_head().await?;
    let mut changes = world.changes(&head, &[7]).await?;
    world.faults.once(Op::CommitTable, "", Fault::Refuse);
    world
        .engine
        .attempt(&mut head, &mut changes)
        .await
        .expect_err("a fault");
    world
        .store
        .put("shop/orders/data/x", Bytes::from_static(b"12345"))
        .await?;
    let verdict = verdict(&world).await?;
    assert_eq!(verdict.findings, Vec::<String>::new());
    for kind in [
        Kind::DataFile,
        Kind::Manifest,
        Kind::ManifestList,
        Kind::LedgerHead,
    ] {
        assert_eq!(verdict.orphans[&kind].files, 1, "{kind:?}");
    }
    assert_eq!(verdict.orphans[&Kind::Other].bytes, 5);
    Ok(())
}

async fn what_upkeep_deletes_meanwhile_is_no_finding() -> TestResult {
    for is_damaged in [false, true] {
        let world = world().await?;
        let table = world.catalog.load_table(&orders()).await?;
        let oldest = table
            .metadata()
            .snapshots()
            .min_by_key(|one| one.sequence_number());
        let oldest = oldest.ok_or("none")?;
        let data = find_key(&world, "shop/orders/data", "parquet").await?;
        let gate = world.faults.hold(Op::Get, "/snap-");
        let upkeep = async {
            gate.reached().await;
            let snapshot_ids = vec![oldest.snapshot_id()];
            world
                .update_elsewhere(vec![TableUpdate::RemoveSnapshots { snapshot_ids }])
                .await?;
            world
                .store
                .delete(world.store.key(oldest.manifest_list())?)
                .await?;
            if is_damaged {
                world.store.delete(&data).await?;
            }
            gate.release();
            TestResult::Ok(())
        };
        let (found, done) = tokio::join!(verdict(&world), upkeep);
        done?;
        let findings = found?.findings;
        assert_eq!(findings.len(), usize::from(is_damaged), "{findings:#?}");
    }
    Ok(())
}

/// Takes the marks of ours from the current snapshot, as if another engine had made it, and puts it on main.
async fn append_elsewhere(world: &World) -> TestResult {
    let head = world.fresh_head().await?;
    let current = head.table().metadata().current_snapshot().ok_or("none")?;
    let snapshot_id = current.snapshot_id() + 1;
    let foreign = Snapshot::builder()
        .with_snapshot_id(snapshot_id)
        .with_parent_snapshot_id(Some(current.snapshot_id()))
        .with_sequence_number(current.sequence_number() + 1)
        .with_timestamp_ms(world.clock.now().timestamp_millis())
        .with_manifest_list(current.manifest_list())
        .with_summary(Summary {
            operation: Operation::Append,
            additional_properties: HashMap::new(),
        })
        .with_schema_id(0)
        .build();
    let retention = SnapshotRetention::branch(None, None, None);
    world
        .update_elsewhere(vec![
            TableUpdate::AddSnapshot { snapshot: foreign },
            TableUpdate::SetSnapshotRef {
                ref_name: "main".to_owned(),
                reference: SnapshotReference::new(snapshot_id, retention),
            },
        ])
        .await
}

async fn what_cannot_be_seen_is_said() -> TestResult {
    let world = world().await?;
    let unseen = async || TestResult::Ok(verdict(&world).await?.unseen);
    assert_eq!(unseen().await?, Vec::<String>::new());
    append_elsewhere(&world).await?;
    let said =
        "1 snapshots are of other engines: whether their rows are there twice only their writers know.";
    assert_eq!(unseen().await?, [said]);
    let mut expected = vec![said.to_owned()];
    // Another engine lets go what is not the newest, ours too.
    let head = world.fresh_head().await?;
    let current = head.table().metadata().current_snapshot_id();
    let ids = head.table().metadata().snapshots().map(|one| one.snapshot_id());
    let snapshot_ids = ids.filter(|id| Some(*id) != current).collect();
    world
        .update_elsewhere(vec![TableUpdate::RemoveSnapshots { snapshot_ids }])
        .await?;
    expected.insert(
        0,
        "Snapshots before number 4 are let go: what they held is judged by what is left of it.".to_owned(),
    );
    expected.insert(
        0,
        "No kept snapshot is of ours, so nothing says whether the ledger's pointer is the newest.".to_owned(),
    );
    assert_eq!(unseen().await?, expected);
    // Messages that came eight days and an hour apart: the ledger has forgotten what was before.
    let mut head = world.fresh_head().await?;
    let since = DateTime::from_timestamp(1_767_225_600, 0).ok_or("a time")?;
    for hours in [0, 8 * 24 + 1] {
        let published_at = since + TimeDelta::hours(hours);
        let id = DeliveryId::message("projects/p/subscriptions/s", hours.to_string(), published_at);
        let files = files_of(head.table(), &[9000 + hours], &world.random).await?;
        let mut changes = world.no_changes();
        changes.add(Group::durable(files, vec![Entry::from(&id)]));
        world.engine.attempt(&mut head, &mut changes).await?;
    }
    expected.remove(0);
    expected.insert(
        0,
        "Deliveries published before 2026-01-01T01:00:00Z are forgotten: whether they landed twice cannot be told any more."
            .to_owned(),
    );
    assert_eq!(unseen().await?, expected);
    Ok(())
}
