//! What an attempt sends: the requirements and updates of its one conditional write.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use iceberg::spec::{MAIN_BRANCH, Snapshot, SnapshotReference, TableMetadata};
use iceberg::{TableRequirement, TableUpdate};
use uuid::Uuid;

use super::attempt::Attempt;
use super::head::Head;
use super::{ChangeSet, summary};
use crate::catalog::TableCommit;
use crate::ledger::POINTER;

/// The commit of an attempt on its head: what is altered, then the snapshot, the ledger's pointer, and the snapshots
/// that it lets go.
pub(super) fn of(
    head: &Head,
    changes: &ChangeSet,
    attempt: &Attempt,
    let_go: &[i64],
    writer: Uuid,
    now: DateTime<Utc>,
) -> TableCommit {
    // The pointer moves only with a snapshot of ours, and every snapshot of ours names the head that it came with.
    let ledger = match &attempt.ledger {
        Some(next) => Some((next.location(), next.sequence())),
        // A null fence can come back, and a late copy with it: the pointer stays as it is then (protocol §4).
        None if head.table.metadata().current_snapshot_id().is_none() => None,
        None => head
            .ledger
            .location()
            .map(|location| (location, head.ledger.head().sequence)),
    };
    let mut updates = attempt.after.updates.clone();
    updates.extend(new_snapshot(head, changes, attempt, now, writer, ledger));
    if let Some((location, _)) = ledger {
        updates.push(TableUpdate::SetProperties {
            updates: HashMap::from([(POINTER.to_owned(), location.to_owned())]),
        });
    }
    // One in each update: many servers refuse the commit otherwise, as Java does before 1.9 (apache/iceberg#12670).
    updates.extend(let_go.iter().map(|id| TableUpdate::RemoveSnapshots {
        snapshot_ids: vec![*id],
    }));
    updates.extend(removed_statistics(head.table.metadata(), let_go));
    TableCommit {
        requirements: joined(requirements(head), &attempt.after.requirements),
        updates,
    }
}

/// The requirements of both, each once.
fn joined(mut requirements: Vec<TableRequirement>, more: &[TableRequirement]) -> Vec<TableRequirement> {
    for requirement in more {
        if !requirements.contains(requirement) {
            requirements.push(requirement.clone());
        }
    }
    requirements
}

fn new_snapshot(
    head: &Head,
    changes: &ChangeSet,
    attempt: &Attempt,
    now: DateTime<Utc>,
    writer: Uuid,
    ledger: Option<(&str, u64)>,
) -> [TableUpdate; 2] {
    let metadata = head.table.metadata();
    let parent = metadata.current_snapshot();
    let summary = parent.map(|parent| parent.summary());
    let snapshot = Snapshot::builder()
        .with_snapshot_id(attempt.snapshot_id)
        .with_parent_snapshot_id(parent.map(|parent| parent.snapshot_id()))
        .with_sequence_number(attempt.sequence_number)
        // A slow clock must not block commits.
        .with_timestamp_ms(now.timestamp_millis().max(metadata.last_updated_ms()))
        .with_manifest_list(attempt.list.clone())
        .with_summary(summary::of(changes, &attempt.removed, writer, summary, ledger))
        .with_schema_id(attempt.after.table.metadata().current_schema_id())
        .build();
    let reference = SnapshotReference::new(attempt.snapshot_id, head.refs.main_retention());
    [
        TableUpdate::AddSnapshot { snapshot },
        TableUpdate::SetSnapshotRef {
            ref_name: MAIN_BRANCH.to_owned(),
            reference,
        },
    ]
}

/// Statistics go with their snapshots: the crate and some servers keep entries of snapshots that are gone.
fn removed_statistics(metadata: &TableMetadata, let_go: &[i64]) -> Vec<TableUpdate> {
    let of_files = let_go
        .iter()
        .filter(|id| metadata.statistics_for_snapshot(**id).is_some())
        .map(|id| TableUpdate::RemoveStatistics { snapshot_id: *id });
    let of_partitions = let_go
        .iter()
        .filter(|id| metadata.partition_statistics_for_snapshot(**id).is_some())
        .map(|id| TableUpdate::RemovePartitionStatistics { snapshot_id: *id });
    of_files.chain(of_partitions).collect()
}

/// What must still hold for the snapshot to be the child of the head's.
fn requirements(head: &Head) -> Vec<TableRequirement> {
    let metadata = head.table.metadata();
    vec![
        TableRequirement::UuidMatch {
            uuid: metadata.uuid(),
        },
        TableRequirement::RefSnapshotIdMatch {
            r#ref: MAIN_BRANCH.to_owned(),
            snapshot_id: metadata.current_snapshot_id(),
        },
        TableRequirement::CurrentSchemaIdMatch {
            current_schema_id: metadata.current_schema_id(),
        },
        TableRequirement::DefaultSpecIdMatch {
            default_spec_id: metadata.default_partition_spec_id(),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_that_an_alteration_repeats_are_sent_once() {
        let schema = |current_schema_id| TableRequirement::CurrentSchemaIdMatch { current_schema_id };
        let spec = TableRequirement::DefaultSpecIdMatch { default_spec_id: 0 };
        let of_alteration = [spec.clone(), schema(1), schema(2)];
        let all = joined(vec![schema(1), spec.clone()], &of_alteration);
        assert_eq!(all, [schema(1), spec, schema(2)]);
    }
}
