//! What a batch is made of.

use std::ops::Range;

use arrow_array::RecordBatch;
use iceberg::table::Table;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::decode::RejectedRecord;
use crate::error::Error;
use crate::trigger::{Ack, Envelope, Held, Receipt};

/// One delivery's part of a batch: where its rows are, what was rejected, and how to answer.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) envelope: Envelope,
    /// The delivery's rows in the batch. A delivery is never split over two commits (protocol, step 2).
    pub(super) rows: Range<usize>,
    pub(super) rejected: Vec<RejectedRecord>,
    pub(super) ack: Ack,
    pub(super) deadline: Instant,
    pub(super) _held: Held,
}

impl Part {
    /// Acknowledges: its rows are in a committed snapshot, its rejected records in the dead-letter sink.
    pub(super) fn ack(self, snapshot_id: Option<i64>) {
        self.ack.ack(Receipt {
            row_count: self.rows.len() as u64,
            dead_letter_count: self.rejected.len() as u64,
            snapshot_id: snapshot_id.filter(|_| !self.rows.is_empty()),
        });
    }
}

/// Refuses every part for one reason: each is delivered again.
pub(super) fn nack_all(parts: impl IntoIterator<Item = Part>, error: &Error) {
    for part in parts {
        part.ack.nack(error.clone());
    }
}

/// Rows of one table, and the deliveries they came in.
#[derive(Debug)]
pub(super) struct Batch {
    /// The table as it was when the rows were decoded; absent while nothing about it is known.
    pub(super) table: Option<Table>,
    pub(super) records: Option<RecordBatch>,
    pub(super) parts: Vec<Part>,
}

impl Batch {
    /// The rows of the parts that are still in the batch, as slices of the decoded rows.
    pub(super) fn kept_rows(&self) -> Vec<RecordBatch> {
        let Some(records) = &self.records else {
            return Vec::new();
        };
        let mut runs: Vec<Range<usize>> = Vec::new();
        for rows in self
            .parts
            .iter()
            .map(|part| part.rows.clone())
            .filter(|rows| !rows.is_empty())
        {
            match runs.last_mut() {
                Some(run) if run.end == rows.start => run.end = rows.end,
                _ => runs.push(rows),
            }
        }
        runs.into_iter()
            .map(|run| records.slice(run.start, run.len()))
            .collect()
    }

    /// The earliest moment at which work on one of the parts must stop.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.parts.iter().map(|part| part.deadline).min()
    }
}

/// The committer's request for a batch.
#[derive(Debug)]
pub(super) struct Want {
    /// Do not wait until a batch is due: hand over what is there, or nothing.
    pub(super) now: bool,
    /// The table changed under the writer: open it again once the batch is handed over.
    pub(super) reopen: bool,
    pub(super) reply: oneshot::Sender<Option<Batch>>,
}
