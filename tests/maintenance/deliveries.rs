//! `ledger show`, `forget` and `repair`: what a table remembers, and what it takes again.

use bytes::Bytes;
use chrono::DateTime;
use iceberg::TableUpdate;
use iceberg::spec::{SnapshotReference, SnapshotRetention};
use landfast::commit::Group;
use landfast::error::ErrorKind;
use landfast::ledger::{Entry, Forgetting, Known, POINTER, SUMMARY_HEAD};
use landfast::maintenance::{Repair, forget, repair, show};
use landfast::trigger::DeliveryId;
use libtest_mimic::Trial;

use super::is_proven;
use crate::commit::world::{World, entries};
use crate::support::faults::{Fault, Op};
use crate::support::tables::{files_of, orders, summary};
use crate::support::{TestResult, paused_trials};

pub fn tests() -> Vec<Trial> {
    paused_trials![
        ledger_is_shown,
        forgotten_deliveries_land_again_and_others_do_not,
        only_messages_are_forgotten_by_their_time,
        forgetting_gives_way_to_a_commit,
        whole_ledger_is_left_alone,
        lost_pointer_is_found_again,
        damaged_head_is_replaced_by_the_one_before,
        damaged_segment_is_left_out,
        head_that_nobody_committed_wants_consent,
        head_of_an_old_tag_is_no_silent_successor,
        newer_format_is_refused,
    ]
}

async fn world() -> TestResult<World> {
    let (world, _head) = World::aging().await?;
    world.commit_elsewhere(&(10..1200).collect::<Vec<_>>()).await?;
    world.commit_elsewhere(&[1]).await?;
    world.commit_elsewhere(&[2]).await?;
    Ok(world)
}

/// The same store seen by a process that starts.
fn restarted(world: &World) -> landfast::commit::Engine {
    landfast::commit::Engine::new(
        world.catalog.clone(),
        landfast::ledger::Ledger::new(world.store.clone()),
        world.clock.clone(),
        world.random.clone(),
    )
}

fn these(ids: &[i64]) -> Forgetting {
    Forgetting {
        since: None,
        ids: entries(ids).iter().map(|entry| entry.id).collect(),
    }
}

async fn head_key(world: &World) -> TestResult<String> {
    let head = world.fresh_head().await?;
    let location = head.ledger().location().ok_or("no head")?;
    Ok(world.store.key(location)?.to_owned())
}

async fn ledger_is_shown() -> TestResult {
    let world = world().await?;
    let page = show(&world.engine, &orders()).await?;
    assert_eq!((page.sequence, page.format_version), (3, 1));
    assert_eq!((page.entries, page.inline_entries, page.segments), (1192, 2, 1));
    assert_eq!(page.spaces["kept"].entries, 1192);
    assert_eq!((page.spaces["messages"].entries, page.floor), (0, None));
    assert!(page.segment_bytes > 0);
    assert!(
        page.pointer
            .is_some_and(|pointer| pointer.contains("head-000000000003"))
    );
    Ok(())
}

async fn forgotten_deliveries_land_again_and_others_do_not() -> TestResult {
    let world = world().await?;
    // One inline, one in the segment, one that nobody knows.
    let deliveries = these(&[2, 100, 99_999]);
    let planned = forget(&world.engine, &orders(), &deliveries, true).await?;
    assert_eq!((planned.forgotten, planned.snapshot_id), (2, None));
    assert!(world.have_landed(&[2, 100]).await?);
    let done = forget(&world.engine, &orders(), &deliveries, false).await?;
    assert_eq!((done.forgotten, done.remembered), (2, 1190));
    assert!(done.snapshot_id.is_some());
    assert!(!world.have_landed(&[2]).await? && !world.have_landed(&[100]).await?);
    assert!(world.have_landed(&[1, 99, 101]).await?);
    is_proven(&world).await?;
    world.commit_elsewhere(&[2]).await?;
    assert!(world.have_landed(&[2]).await?);
    assert_eq!(world.ids().await?.iter().filter(|id| **id == 2).count(), 2);
    is_proven(&world).await
}

/// Lands a row that came by these deliveries, and gives the entries by which the ledger knows them.
async fn land(world: &World, ids: Vec<DeliveryId>) -> TestResult<Vec<Entry>> {
    let entries: Vec<Entry> = ids.iter().map(Entry::from).collect();
    let mut head = world.fresh_head().await?;
    let mut changes = world.no_changes();
    let files = files_of(head.table(), &[0], &world.random).await?;
    changes.add(Group::durable(files, entries.clone()));
    world.engine.attempt(&mut head, &mut changes).await?;
    Ok(entries)
}

async fn landed(world: &World, entries: &[Entry]) -> TestResult<usize> {
    let head = world.fresh_head().await?;
    let known = world.engine.ledger().check(head.ledger(), entries).await?;
    Ok(known
        .iter()
        .filter(|known| matches!(known, Known::Landed(_)))
        .count())
}

/// What has no publish time is spread over the ledger by its hash, which a moment must not cut in two.
async fn only_messages_are_forgotten_by_their_time() -> TestResult {
    let (world, _head) = World::aging().await?;
    let since = 1_000_000_000;
    let message = |id: i64| {
        let published_at = DateTime::from_timestamp(since - 50 + id, 0).unwrap_or_default();
        DeliveryId::message("orders", id.to_string(), published_at)
    };
    let timeless = |id: u8| {
        let file = DeliveryId::file(format!("{id}.json"), &[id; 32]);
        let again = DeliveryId::file_again("a.json", &[id; 32], world.random.uuid());
        let letter = DeliveryId::letter("confirmed/letters.ndjson", &id.to_string());
        [file, again, letter, DeliveryId::keyed("me", id.to_string())]
    };
    // In segments, and in the head.
    let many = |id: i32| DeliveryId::file(id.to_string(), &[0; 32]);
    let mut kept = land(&world, (0..1100).map(many).collect()).await?;
    kept.extend(land(&world, (0..100).flat_map(timeless).collect()).await?);
    let messages = land(&world, (0..100).map(message).collect()).await?;
    let head = world.fresh_head().await?;
    assert!(!head.ledger().head().segments.is_empty());
    let later = kept.iter().filter(|entry| entry.index_time >= since).count();
    assert!((500..1000).contains(&later), "{later} of {}", kept.len());
    let deliveries = Forgetting {
        since: Some(since),
        ids: [].into(),
    };
    let done = forget(&world.engine, &orders(), &deliveries, false).await?;
    assert_eq!((done.forgotten, done.remembered), (50, 1550));
    assert_eq!(landed(&world, &kept).await?, 1500);
    assert_eq!(landed(&world, &messages[..50]).await?, 50);
    assert_eq!(landed(&world, &messages[50..]).await?, 0);
    // By its name a file goes, too.
    let deliveries = Forgetting {
        since: None,
        ids: [kept[0].id, kept[1400].id].into(),
    };
    let done = forget(&world.engine, &orders(), &deliveries, false).await?;
    assert_eq!((done.forgotten, landed(&world, &kept).await?), (2, 1498));
    is_proven(&world).await
}

async fn forgetting_gives_way_to_a_commit() -> TestResult {
    let world = world().await?;
    let gate = world.faults.hold(Op::CommitTable, "");
    let deliveries = these(&[1, 100]);
    let ident = orders();
    let forgetting = forget(&world.engine, &ident, &deliveries, false);
    let meanwhile = async {
        gate.reached().await;
        world.commit_elsewhere(&[5]).await?;
        gate.release();
        TestResult::Ok(())
    };
    let (done, committed) = tokio::join!(forgetting, meanwhile);
    committed?;
    assert_eq!(done?.forgotten, 2);
    assert!(world.have_landed(&[2, 5]).await? && !world.have_landed(&[1]).await?);
    is_proven(&world).await
}

async fn whole_ledger_is_left_alone() -> TestResult {
    let world = world().await?;
    let before = world.state().await?;
    for consent in [false, true] {
        let result = repair(&world.engine, &orders(), consent).await?;
        assert_eq!((result.result, result.entries), (Repair::NotNeeded, 1192));
    }
    let now = world.state().await?;
    assert_eq!(now, before);
    Ok(())
}

async fn lost_pointer_is_found_again() -> TestResult {
    let world = world().await?;
    // The pointer leads to a file that is not there, above every number.
    let uuid = world.fresh_head().await?.table().metadata().uuid();
    let nowhere = format!("memory:///w/_landfast/ledger/{uuid}/head-000000000009-{uuid}.json");
    world.set_elsewhere(POINTER, nowhere).await?;
    assert!(world.fresh_head().await.is_err());
    // Whether there ever was such a head nobody can tell.
    let asked = repair(&world.engine, &orders(), false).await?;
    assert_eq!(asked.result, Repair::NeedsConsent);
    assert_eq!(asked.lost.len(), 1, "{:?}", asked.lost);
    assert!(asked.lost[0].contains("This is head 3, and the last that was committed seems to be 9"));
    let done = repair(&world.engine, &orders(), true).await?;
    assert_eq!(done.result, Repair::Done);
    assert!(world.have_landed(&[1, 2, 100]).await?);
    let table = world.catalog.load_table(&orders()).await?;
    let pointer = table.metadata().properties().get(POINTER).cloned();
    assert_eq!(summary(&table, SUMMARY_HEAD), pointer);
    assert!(!world.have_landed(&[7]).await?);
    world.commit_elsewhere(&[7]).await?;
    is_proven(&world).await
}

async fn damaged_head_is_replaced_by_the_one_before() -> TestResult {
    let world = world().await?;
    let key = head_key(&world).await?;
    world.store.put(&key, Bytes::from_static(b"{")).await?;
    let asked = repair(&world.engine, &orders(), false).await?;
    assert_eq!(asked.result, Repair::NeedsConsent);
    assert!(
        asked.lost[0].contains("1 kept snapshots with 1 deliveries"),
        "{:?}",
        asked.lost
    );
    assert!(world.fresh_head().await.is_err());
    let done = repair(&world.engine, &orders(), true).await?;
    assert_eq!(
        (done.result, done.sequence, done.entries),
        (Repair::Done, 2, 1191)
    );
    assert!(world.have_landed(&[1, 100]).await? && !world.have_landed(&[2]).await?);
    // Its number is above the damaged one's.
    assert_eq!(world.fresh_head().await?.ledger().head().sequence, 4);
    world.commit_elsewhere(&[8]).await?;
    assert!(world.have_landed(&[1, 8]).await?);
    Ok(())
}

async fn damaged_segment_is_left_out() -> TestResult {
    let world = world().await?;
    let keys = world.store.keys("_landfast").await?;
    let segment = keys.iter().find(|key| key.contains("segment-")).ok_or("none")?;
    let file = world.store.get(segment).await?.ok_or("none")?;
    world.store.put(segment, file.slice(..file.len() / 2)).await?;
    let engine = restarted(&world);
    let asked = repair(&engine, &orders(), false).await?;
    assert_eq!(asked.result, Repair::NeedsConsent);
    assert!(asked.lost[0].contains("with 1190 deliveries"), "{:?}", asked.lost);
    let done = repair(&engine, &orders(), true).await?;
    assert_eq!(done.result, Repair::Done);
    assert!(world.have_landed(&[1, 2]).await? && !world.have_landed(&[100]).await?);
    assert_eq!(repair(&engine, &orders(), false).await?.result, Repair::NotNeeded);
    Ok(())
}

async fn head_that_nobody_committed_wants_consent() -> TestResult {
    let world = world().await?;
    let mut head = world.fresh_head().await?;
    let mut changes = world.changes(&head, &[3]).await?;
    world.faults.once(Op::CommitTable, "", Fault::Refuse);
    world
        .fails(&mut head, &mut changes, ErrorKind::OutcomeUnknown)
        .await;
    let snapshots = head.table().metadata().snapshots();
    let snapshot_ids = snapshots.map(|snapshot| snapshot.snapshot_id()).collect();
    world
        .update_elsewhere(vec![
            TableUpdate::RemoveSnapshotRef {
                ref_name: "main".to_owned(),
            },
            TableUpdate::RemoveSnapshots { snapshot_ids },
            TableUpdate::RemoveProperties {
                removals: vec![POINTER.to_owned()],
            },
        ])
        .await?;
    let asked = repair(&world.engine, &orders(), false).await?;
    assert_eq!(asked.result, Repair::NeedsConsent);
    assert!(asked.lost[0].contains("may never have been committed"));
    let done = repair(&world.engine, &orders(), true).await?;
    assert_eq!((done.result, done.entries), (Repair::Done, 1193));
    assert!(world.have_landed(&[1, 2, 100]).await?);
    Ok(())
}

/// Another engine let go of every snapshot of ours but the first, which has a tag.
async fn head_of_an_old_tag_is_no_silent_successor() -> TestResult {
    let world = world().await?;
    let table = world.catalog.load_table(&orders()).await?;
    let snapshots = table.metadata().snapshots();
    let (first, later): (Vec<_>, Vec<_>) = snapshots.map(|snapshot| snapshot.snapshot_id()).partition(|id| {
        table
            .metadata()
            .snapshot_by_id(*id)
            .and_then(|one| one.parent_snapshot_id())
            .is_none()
    });
    let retention = SnapshotRetention::Tag { max_ref_age_ms: None };
    world
        .update_elsewhere(vec![
            TableUpdate::SetSnapshotRef {
                ref_name: "audit".to_owned(),
                reference: SnapshotReference::new(first[0], retention),
            },
            TableUpdate::RemoveSnapshotRef {
                ref_name: "main".to_owned(),
            },
            TableUpdate::RemoveSnapshots { snapshot_ids: later },
        ])
        .await?;
    assert!(world.have_landed(&[1, 2, 100]).await?);
    // The segment goes: the head in use is still the best.
    let keys = world.store.keys("_landfast").await?;
    let segment = keys.iter().find(|key| key.contains("segment-")).ok_or("none")?;
    let file = world.store.get(segment).await?.ok_or("none")?;
    assert!(world.store.delete(segment).await?);
    let asked = repair(&restarted(&world), &orders(), false).await?;
    assert_eq!(
        (asked.result, asked.sequence, asked.entries),
        (Repair::NeedsConsent, 3, 2)
    );
    // The head goes: the tag's is two commits behind.
    world.store.put(segment, file).await?;
    assert!(world.store.delete(&head_key(&world).await?).await?);
    let asked = repair(&restarted(&world), &orders(), false).await?;
    assert_eq!((asked.result, asked.sequence), (Repair::NeedsConsent, 1));
    assert!(
        asked.lost[0].contains("the last that was committed seems to be 3"),
        "{:?}",
        asked.lost
    );
    Ok(())
}

async fn newer_format_is_refused() -> TestResult {
    let world = world().await?;
    let key = head_key(&world).await?;
    let bytes = world.store.get(&key).await?.ok_or("none")?;
    let text = String::from_utf8(bytes.to_vec())?;
    let newer = text.replace("\"format-version\":1", "\"format-version\":2");
    world.store.put(&key, Bytes::from(newer)).await?;
    let error = repair(&world.engine, &orders(), true).await.expect_err("newer");
    assert!(error.report().contains("newer version"), "{}", error.report());
    Ok(())
}
