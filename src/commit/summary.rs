//! The snapshot summary, with the fields and the arithmetic of Java's `SnapshotSummary`.

use std::collections::{HashMap, HashSet};

use iceberg::spec::{DataFile, Operation, Summary};
use iceberg::table::Table;
use uuid::Uuid;

use super::overwrite::Removed;
use super::{COMMIT_ID, ChangeSet, DELIVERY_COUNT, LEDGER_REWRITTEN, WRITER};
use crate::ledger::{SUMMARY_HEAD, SUMMARY_SEQUENCE};
use crate::telemetry::TableState;

/// `(total, added, removed)` of summary fields: a total is the parent's, and what was added, less what was removed.
const TOTALS: [(&str, Option<&str>, &str); 6] = [
    ("total-records", Some("added-records"), "deleted-records"),
    ("total-files-size", Some("added-files-size"), "removed-files-size"),
    ("total-data-files", Some("added-data-files"), "deleted-data-files"),
    ("total-delete-files", None, "removed-delete-files"),
    ("total-position-deletes", None, "removed-position-deletes"),
    ("total-equality-deletes", None, "removed-equality-deletes"),
];

/// Summarises an overwrite, or an append, of no rows for upkeep, on top of its parent snapshot's summary; `ledger` is the
/// head's location and number.
pub(super) fn of(
    changes: &ChangeSet,
    removed: &Removed,
    writer: Uuid,
    parent: Option<&Summary>,
    ledger: Option<(&str, u64)>,
) -> Summary {
    let mut fields: HashMap<String, String> = HashMap::new();
    let mut set = |key: &str, value: u64| fields.insert(key.to_owned(), value.to_string());
    set("added-data-files", changes.file_count());
    set("added-records", changes.row_count());
    set("added-files-size", changes.byte_count());
    set("changed-partition-count", changed_partitions(changes, removed));
    set(DELIVERY_COUNT, changes.deliveries().len() as u64);
    for (key, value) in removed.fields() {
        if value > 0 {
            set(key, value);
        }
    }
    if let Some((location, sequence)) = ledger {
        set(SUMMARY_SEQUENCE, sequence);
        fields.insert(SUMMARY_HEAD.to_owned(), location.to_owned());
    }
    set_totals(&mut fields, parent);
    if let Some((why, _)) = changes.ledger() {
        fields.insert(LEDGER_REWRITTEN.to_owned(), why.to_owned());
    }
    fields.insert(COMMIT_ID.to_owned(), changes.commit_id().to_string());
    fields.insert(WRITER.to_owned(), writer.to_string());
    fields.insert("engine-name".to_owned(), "landfast".to_owned());
    fields.insert("engine-version".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    Summary {
        operation: match changes.overwritten() {
            Some(_) => Operation::Overwrite,
            None => Operation::Append,
        },
        additional_properties: fields,
    }
}

/// What is told of a table's state.
pub fn state_of(table: &Table) -> TableState {
    TableState {
        uuid: table.metadata().uuid(),
        sequence_number: table.metadata().last_sequence_number(),
        total_rows: total_records(table),
    }
}

/// The rows of a table, as its current snapshot's summary says; none where it does not say.
pub fn total_records(table: &Table) -> Option<u64> {
    let Some(snapshot) = table.metadata().current_snapshot() else {
        return Some(0);
    };
    let fields = &snapshot.summary().additional_properties;
    fields.get("total-records")?.parse().ok()
}

/// A table without partitions is one partition, as Java counts.
fn changed_partitions(changes: &ChangeSet, removed: &Removed) -> u64 {
    let added = changes.files().map(DataFile::partition);
    let all: HashSet<_> = added.chain(&removed.partitions).collect();
    all.len() as u64
}

/// A parent that does not know its total leaves the child without one, rather than with a wrong one.
fn set_totals(fields: &mut HashMap<String, String>, parent: Option<&Summary>) {
    let number = |fields: &HashMap<String, String>, key: &str| fields.get(key)?.parse::<u64>().ok();
    for (total, added, removed) in TOTALS {
        let base = match parent {
            None => Some(0),
            Some(parent) => number(&parent.additional_properties, total),
        };
        let added = added.and_then(|key| number(fields, key)).unwrap_or(0);
        let removed = number(fields, removed).unwrap_or(0);
        if let Some(sum) = base.and_then(|base| base.saturating_add(added).checked_sub(removed)) {
            fields.insert(total.to_owned(), sum.to_string());
        }
    }
}
