//! The ledger of a table: whole, no delivery twice, and as much in it as the commits say.

use std::collections::{BTreeMap, HashSet};

use iceberg::spec::SnapshotRef;
use iceberg::table::Table;

use super::Verdict;
use crate::commit::{DELIVERY_COUNT, LEDGER_REWRITTEN};
use crate::error::{ErrorKind, Result};
use crate::ledger::{
    Audit, Found, Ledger, LedgerHead, LedgerState, POINTER, SUMMARY_HEAD, SUMMARY_SEQUENCE, folder,
};
use crate::maintenance::names::Names;
use crate::maintenance::time_of;

/// Checks the ledger of a table.
pub(super) async fn check(
    table: &Table,
    ledger: &Ledger,
    names: &mut Names,
    verdict: &mut Verdict,
) -> Result<()> {
    let own = own_snapshots(table);
    check_pointer(table, &own, verdict);
    let heads = read_heads(table, ledger, &own, names, verdict).await?;
    check_counts(&own, &heads, verdict);
    let state = match ledger.open(table).await {
        Ok(state) => state,
        Err(error) if error.kind() == ErrorKind::Rejected => {
            verdict.wrong(format!("The ledger cannot be used: {}", error.report()));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if let Some(location) = state.location() {
        names.insert(location);
        let pointer = table.metadata().properties().get(POINTER);
        if own.is_empty() && pointer.is_none_or(|pointer| pointer != location) {
            verdict.wrong(format!(
                "The pointer to the ledger's head is gone: it was {location}, as the mark of the only commit says."
            ));
        }
    }
    for segment in &state.head().segments {
        names.insert(&segment.name);
    }
    judge(&ledger.audit(&state).await?, &state, verdict);
    Ok(())
}

/// The kept snapshots of ours, whose summaries name a head of this table, by that head's number.
fn own_snapshots(table: &Table) -> Vec<(u64, &str, &SnapshotRef)> {
    let own = format!("/{}/", folder(table.metadata().uuid()));
    let mut snapshots: Vec<_> = table
        .metadata()
        .snapshots()
        .filter_map(|snapshot| {
            let summary = &snapshot.summary().additional_properties;
            let head = summary.get(SUMMARY_HEAD).filter(|head| head.contains(&own))?;
            let sequence = summary.get(SUMMARY_SEQUENCE)?.parse().ok()?;
            Some((sequence, head.as_str(), snapshot))
        })
        .collect();
    snapshots.sort_by_key(|(sequence, _, snapshot)| (*sequence, snapshot.sequence_number()));
    snapshots
}

fn check_pointer(table: &Table, own: &[(u64, &str, &SnapshotRef)], verdict: &mut Verdict) {
    let pointer = table.metadata().properties().get(POINTER).map(String::as_str);
    match (pointer, own.last()) {
        (Some(pointer), Some((_, newest, _))) if pointer != *newest => verdict.wrong(format!(
            "The pointer to the ledger's head is not the newest snapshot's of ours: {pointer} instead of {newest}."
        )),
        (None, Some((_, newest, _))) => {
            verdict.wrong(format!("The pointer to the ledger's head is gone: it was {newest}."));
        }
        (Some(_), None) => verdict
            .unseen("No kept snapshot is of ours, so nothing says whether the ledger's pointer is the newest."),
        _ => {}
    }
}

/// The heads that the snapshots name, by their number.
async fn read_heads(
    table: &Table,
    ledger: &Ledger,
    own: &[(u64, &str, &SnapshotRef)],
    names: &mut Names,
    verdict: &mut Verdict,
) -> Result<BTreeMap<u64, LedgerHead>> {
    let mut heads = BTreeMap::new();
    let mut looked = HashSet::new();
    for (sequence, location, snapshot) in own {
        names.insert(location);
        if !looked.insert(*location) {
            continue;
        }
        let of = format!("of snapshot {}", snapshot.snapshot_id());
        match ledger.find_head(table.metadata().uuid(), location).await? {
            Found::Whole(head) => {
                for segment in &head.segments {
                    names.insert(&segment.name);
                }
                heads.insert(*sequence, *head);
            }
            Found::Missing => verdict.wrong(format!("The ledger's head {of} is missing: {location}.")),
            Found::Damaged(error) | Found::Newer(error) => {
                verdict.wrong(format!(
                    "The ledger's head {of} cannot be read: {}",
                    error.report()
                ));
            }
        }
    }
    Ok(heads)
}

/// Holds what each head has gained over the one before against what its commit says that it landed.
fn check_counts(own: &[(u64, &str, &SnapshotRef)], heads: &BTreeMap<u64, LedgerHead>, verdict: &mut Verdict) {
    for (sequence, _, snapshot) in own {
        let summary = &snapshot.summary().additional_properties;
        let before = sequence.checked_sub(1).and_then(|before| heads.get(&before));
        let (Some(before), Some(after)) = (before, heads.get(sequence)) else {
            continue;
        };
        // An empty snapshot names the head of the one before, and brought nothing.
        let brought_it = summary
            .get(crate::commit::COMMIT_ID)
            .is_some_and(|id| *id == after.commit_id.to_string());
        if !brought_it || summary.contains_key(LEDGER_REWRITTEN) {
            continue;
        }
        let landed = summary
            .get(DELIVERY_COUNT)
            .and_then(|count| count.parse::<u64>().ok());
        let Some(landed) = landed else { continue };
        let (had, has) = (before.entry_count(), after.entry_count());
        let gained = i128::from(has) - i128::from(had);
        let landed = i128::from(landed);
        if gained > landed || (gained < landed && nothing_dropped(before, after)) {
            verdict.wrong(format!(
                "Snapshot {} landed {landed} deliveries, but the ledger went from {had} to {has}.",
                snapshot.snapshot_id()
            ));
        }
    }
}

/// Whether nothing became too old in between: then the counts must be equal. Merging drops what was too old already.
fn nothing_dropped(before: &LedgerHead, after: &LedgerHead) -> bool {
    let names: HashSet<&str> = after
        .segments
        .iter()
        .map(|segment| segment.name.as_str())
        .collect();
    before.floor == after.floor
        && before
            .segments
            .iter()
            .all(|segment| names.contains(segment.name.as_str()))
}

fn judge(audit: &Audit, state: &LedgerState, verdict: &mut Verdict) {
    verdict.deliveries = state.head().entry_count();
    verdict.cost.ledger_segments = state.head().segments.len() as u64;
    for (segment, error) in &audit.damaged {
        verdict.wrong(format!(
            "A segment of the ledger with {} deliveries cannot be read: {}",
            segment.entry_count,
            error.report()
        ));
    }
    for (name, said, found) in &audit.miscounted {
        verdict.wrong(format!(
            "The ledger's segment {name} holds {found} deliveries instead of {said}."
        ));
    }
    if audit.twice_count > 0 {
        let ids: Vec<String> = audit.twice.iter().map(|id| format!("{id:032x}")).collect();
        verdict.wrong(format!(
            "The ledger holds {} deliveries twice, so their rows may be there twice: {}.",
            audit.twice_count,
            ids.join(", ")
        ));
    }
    if let Some(floor) = time_of(state.head().floor) {
        verdict.unseen(format!(
            "Deliveries published before {floor} are forgotten: whether they landed twice cannot be told any more."
        ));
    }
}
