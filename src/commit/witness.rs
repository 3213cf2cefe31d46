//! What a table says of the time, where a committer's clock may be wrong.

use iceberg::spec::{SnapshotRef, TableMetadata};
use uuid::Uuid;

use super::WRITER;

/// How far a committer's clock is believed beyond the table's newest snapshot.
const AHEAD_MS: i64 = 3600 * 1000;

/// A committer's time, as far as the table's newest snapshot bears it out.
pub(super) fn bounded(metadata: &TableMetadata, now: i64) -> i64 {
    let newest = metadata.snapshots().map(|snapshot| snapshot.timestamp_ms()).max();
    newest.map_or(now, |newest| now.min(newest.saturating_add(AHEAD_MS)))
}

/// The newest time that anybody but one writer wrote into the table. The writer's own commits do not bear out its clock.
pub(super) struct Witness {
    writer: String,
    newest: i64,
}

impl Witness {
    pub(super) fn of(metadata: &TableMetadata, writer: Uuid) -> Self {
        let writer = writer.to_string();
        let others = metadata.snapshots().filter(|snapshot| !is_by(snapshot, &writer));
        let newest = others.map(|snapshot| snapshot.timestamp_ms()).max();
        Self {
            newest: newest.unwrap_or(i64::MIN),
            writer,
        }
    }

    /// The time by which a snapshot is so old: the writer's for its own, which are of the same clock.
    pub(super) fn now_for(&self, snapshot: &SnapshotRef, now: i64) -> i64 {
        match is_by(snapshot, &self.writer) {
            true => now,
            false => now.min(self.newest),
        }
    }
}

fn is_by(snapshot: &SnapshotRef, writer: &str) -> bool {
    let by = snapshot.summary().additional_properties.get(WRITER);
    by.is_some_and(|by| by == writer)
}
