//! The snapshot summary, with the fields and the arithmetic of Java's `SnapshotSummary`.

use std::collections::{HashMap, HashSet};

use iceberg::spec::{DataFile, Operation, Summary};

use super::{COMMIT_ID, ChangeSet, DELIVERY_COUNT, LEDGER_REWRITTEN};
use crate::ledger::{SUMMARY_HEAD, SUMMARY_SEQUENCE};

/// `(total, added)` pairs of summary fields: a total is the parent's total plus what was added.
const TOTALS: [(&str, Option<&str>); 6] = [
    ("total-records", Some("added-records")),
    ("total-files-size", Some("added-files-size")),
    ("total-data-files", Some("added-data-files")),
    ("total-delete-files", None),
    ("total-position-deletes", None),
    ("total-equality-deletes", None),
];

/// Summarises an append, of no rows for upkeep, on top of its parent snapshot's summary; `ledger` is the head's location and number.
pub(super) fn append(changes: &ChangeSet, parent: Option<&Summary>, ledger: Option<(&str, u64)>) -> Summary {
    let mut fields: HashMap<String, String> = HashMap::new();
    let mut set = |key: &str, value: u64| fields.insert(key.to_owned(), value.to_string());
    set("added-data-files", changes.file_count());
    set("added-records", changes.row_count());
    set("added-files-size", changes.byte_count());
    // A table without partitions is one partition, as Java counts.
    let partitions: HashSet<_> = changes.files().map(DataFile::partition).collect();
    set("changed-partition-count", partitions.len() as u64);
    set(
        DELIVERY_COUNT,
        changes
            .groups()
            .iter()
            .map(|group| group.deliveries().len() as u64)
            .sum(),
    );
    if let Some((location, sequence)) = ledger {
        set(SUMMARY_SEQUENCE, sequence);
        fields.insert(SUMMARY_HEAD.to_owned(), location.to_owned());
    }
    for (total, added) in TOTALS {
        // A parent that does not know its total leaves the child without one, rather than with a wrong one.
        let base = match parent {
            None => Some(0),
            Some(parent) => parent
                .additional_properties
                .get(total)
                .and_then(|value| value.parse::<u64>().ok()),
        };
        let added = added
            .and_then(|key| fields.get(key))
            .and_then(|value| value.parse::<u64>().ok());
        if let Some(base) = base {
            fields.insert(
                total.to_owned(),
                base.saturating_add(added.unwrap_or(0)).to_string(),
            );
        }
    }
    if let Some((why, _)) = changes.ledger() {
        fields.insert(LEDGER_REWRITTEN.to_owned(), why.to_owned());
    }
    fields.insert(COMMIT_ID.to_owned(), changes.commit_id().to_string());
    fields.insert("engine-name".to_owned(), "landfast".to_owned());
    fields.insert("engine-version".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    Summary {
        operation: Operation::Append,
        additional_properties: fields,
    }
}
