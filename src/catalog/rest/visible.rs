//! Whether the metadata that a server returns holds the changes that it says it made.

use iceberg::TableUpdate;
use iceberg::spec::TableMetadata;

/// Whether the update shows in the metadata right after it. What cannot be told apart from its absence counts as shown.
pub(super) fn shows(update: &TableUpdate, metadata: &TableMetadata) -> bool {
    let ref_at = |name: &str| {
        metadata
            .snapshot_for_ref(name)
            .map(|snapshot| snapshot.snapshot_id())
    };
    match update {
        TableUpdate::AddSnapshot { snapshot } => metadata.snapshot_by_id(snapshot.snapshot_id()).is_some(),
        TableUpdate::SetSnapshotRef { ref_name, reference } => {
            ref_at(ref_name) == Some(reference.snapshot_id)
        }
        TableUpdate::RemoveSnapshotRef { ref_name } => ref_at(ref_name).is_none(),
        TableUpdate::RemoveSnapshots { snapshot_ids } => {
            (snapshot_ids.iter()).all(|id| metadata.snapshot_by_id(*id).is_none())
        }
        TableUpdate::SetProperties { updates } => updates
            .iter()
            .all(|(key, value)| metadata.properties().get(key) == Some(value)),
        TableUpdate::RemoveProperties { removals } => removals
            .iter()
            .all(|key| !metadata.properties().contains_key(key)),
        TableUpdate::AddSchema { schema } => metadata
            .schemas_iter()
            .any(|other| other.as_struct() == schema.as_struct()),
        TableUpdate::SetCurrentSchema { schema_id } => {
            *schema_id < 0 || metadata.current_schema_id() == *schema_id
        }
        TableUpdate::SetDefaultSpec { spec_id } => {
            *spec_id < 0 || metadata.default_partition_spec_id() == *spec_id
        }
        TableUpdate::SetLocation { location } => {
            metadata.location().trim_end_matches('/') == location.trim_end_matches('/')
        }
        TableUpdate::AssignUuid { uuid } => metadata.uuid() == *uuid,
        _ => true,
    }
}
