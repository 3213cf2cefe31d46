//! The work between hand-over and answers: what one commit will land, and who waits for it.

use arrow_array::RecordBatch;
use chrono::{DateTime, Utc};
use iceberg::table::Table;
use tokio::time::{Duration, Instant};

use super::part::{Batch, Part};
use super::shared::Shared;
use crate::clock::Moment;
use crate::commit::{ChangeSet, Group};
use crate::error::Error;
use crate::ledger::Entry;
use crate::telemetry::{COMMIT, Span};
use crate::write::PendingFiles;

/// An attempt of the flight whose outcome never came back: what is in the table may be its work.
#[derive(Debug, Clone, Copy)]
pub(super) struct EarlierAttempt {
    /// Its snapshot, as long as the table remembers it.
    pub(super) snapshot_id: Option<i64>,
}

/// One batch of the flight: its rows are kept until the commit, since some may have to be left out.
pub(super) struct Staged {
    pub(super) table: Table,
    pub(super) records: RecordBatch,
    pub(super) parts: Vec<Part>,
}

impl Staged {
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.parts.iter().map(Part::entry).collect()
    }
}

/// A change set and the batches that its groups were made of, in the same order.
pub(super) struct Flight {
    pub(super) changes: ChangeSet,
    pub(super) staged: Vec<Staged>,
    pub(super) deadline: Instant,
    pub(super) started: Instant,
    /// Whether an attempt's outcome never came back: what is found in the table then may be ours.
    pub(super) may_have_landed: bool,
    /// Why the last attempt did not get through.
    pub(super) failed: Option<Error>,
    /// From the hand-over to the commit. What is logged of the flight is in its trace.
    pub(super) span: Span,
}

impl Flight {
    pub(super) fn new(shared: &Shared, retention: Duration, batch: &Batch) -> Self {
        let now = Instant::now();
        Self {
            changes: ChangeSet::append(shared.random.uuid(), Moment::now(shared.clock.as_ref()))
                .with_retention(retention),
            staged: Vec::new(),
            deadline: batch.deadline().unwrap_or(now),
            started: now,
            may_have_landed: false,
            failed: None,
            span: Span::of_many(COMMIT, batch.parts.iter().map(|part| part.trace)),
        }
    }

    /// Takes a batch along, with its data files.
    pub(super) fn add(&mut self, table: Table, records: RecordBatch, parts: Vec<Part>, files: PendingFiles) {
        let staged = Staged {
            table,
            records,
            parts,
        };
        self.changes.add(Group::pending(files, staged.entries()));
        self.staged.push(staged);
    }

    /// A batch that comes along may have less time, and is part of what the flight is for.
    pub(super) fn hurry(&mut self, batch: &Batch) {
        self.deadline = batch.deadline().map_or(self.deadline, |at| at.min(self.deadline));
        for part in &batch.parts {
            self.span.link(part.trace);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.staged.is_empty()
    }

    /// Says what landed.
    pub(super) fn tell_landed(&mut self, table: &str, snapshot_id: i64) {
        if !self.span.is_recorded() {
            return;
        }
        let (changes, deliveries) = (&self.changes, self.delivery_count());
        let numbers = [
            ("rows", changes.row_count()),
            ("files", changes.file_count()),
            ("bytes", changes.byte_count()),
            ("deliveries", deliveries as u64),
        ];
        let id = changes.commit_id().to_string();
        for (name, number) in numbers {
            self.span.set(name, i64::try_from(number).unwrap_or(i64::MAX));
        }
        self.span.set("commit.id", id);
        self.span.set("snapshot.id", snapshot_id.to_string());
        self.span.set("table.ident", table.to_owned());
    }

    pub(super) fn delivery_count(&self) -> usize {
        self.staged.iter().map(|staged| staged.parts.len()).sum()
    }

    /// When the last of its deliveries came.
    pub(super) fn since(&self) -> Option<Instant> {
        let parts = self.staged.iter().flat_map(|staged| &staged.parts);
        parts.map(|part| part.since).max()
    }

    /// When the oldest of its deliveries was published.
    pub(super) fn oldest_published(&self) -> Option<DateTime<Utc>> {
        let parts = self.staged.iter().flat_map(|staged| &staged.parts);
        parts.map(|part| part.envelope.published_at).min()
    }

    pub(super) fn parts_mut(&mut self) -> impl Iterator<Item = &mut Part> {
        self.staged.iter_mut().flat_map(|staged| &mut staged.parts)
    }

    pub(super) fn into_parts(self) -> impl Iterator<Item = Part> {
        self.staged.into_iter().flat_map(|staged| staged.parts)
    }
}
