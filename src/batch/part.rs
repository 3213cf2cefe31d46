//! What a batch is made of.

use std::ops::Range;

use arrow_array::RecordBatch;
use bytes::Bytes;
use iceberg::table::Table;
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use crate::decode::RejectedRecord;
use crate::error::{Error, ErrorKind};
use crate::ledger::{Entry, Kept, KeptAnswer};
use crate::telemetry::Trace;
use crate::trigger::{Ack, Envelope, Held, Receipt};

/// One delivery's part of a batch: where its rows are, what was rejected, and how to answer.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) envelope: Envelope,
    /// The delivery's rows in the batch. A delivery is never split over two commits (protocol, step 2).
    pub(super) rows: Range<usize>,
    pub(super) rejected: Vec<RejectedRecord>,
    /// The name under which the rejected records wait for the commit, once they do.
    pub(super) letters: Option<Uuid>,
    /// As it came, for a dead letter of the whole.
    pub(super) payload: Bytes,
    pub(super) ack: Ack,
    /// Copies of this delivery that came while it was on its way: they share its outcome (protocol, step 1).
    pub(super) copies: Vec<(Ack, Held)>,
    pub(super) deadline: Instant,
    /// It had come by then: what the table has of it is asked of a state from after that.
    pub(super) since: Instant,
    /// The delivery's trace, if there is one.
    pub(super) trace: Trace,
    pub(super) held: Held,
    pub(super) is_replay: bool,
}

impl Part {
    /// Acknowledges: its rows are in a committed snapshot, its rejected records in the dead-letter sink.
    pub(super) fn ack(self, snapshot_id: Option<i64>) {
        let receipt = self.receipt(snapshot_id);
        self.ack_with(receipt);
    }

    fn receipt(&self, snapshot_id: Option<i64>) -> Receipt {
        Receipt {
            row_count: self.rows.len() as u64,
            dead_letter_count: self.rejected.len() as u64,
            snapshot_id: snapshot_id.filter(|_| !self.rows.is_empty()),
            duplicate: false,
        }
    }

    /// The delivery as the ledger will know it.
    pub(super) fn entry(&self) -> Entry {
        let kept = Kept {
            answer: self.envelope.request_fingerprint().map(|fingerprint| KeptAnswer {
                fingerprint,
                row_count: self.rows.len() as u64,
                dead_letter_count: self.rejected.len() as u64,
                snapshot_id: None,
            }),
            letters: self.letters,
            division: self.envelope.division,
            content: self.envelope.content(),
        };
        Entry {
            value: kept.encode(),
            ..Entry::from(&self.envelope.id)
        }
    }

    /// Acknowledges a delivery whose rows are in the table by an earlier copy, as that one was; refuses one that has only
    /// the key in common with it.
    pub(super) fn ack_copy(self, kept: &Kept) {
        match (self.envelope.request_fingerprint(), kept.answer) {
            (Some(fingerprint), Some(first)) if fingerprint == first.fingerprint => {
                self.ack_with(Receipt {
                    row_count: first.row_count,
                    dead_letter_count: first.dead_letter_count,
                    snapshot_id: first.snapshot_id.filter(|_| first.row_count > 0),
                    duplicate: true,
                });
            }
            (Some(_), Some(_)) => self.nack(&other_payload()),
            _ => {
                let receipt = self.receipt(None);
                self.ack_with(Receipt {
                    duplicate: true,
                    ..receipt
                });
            }
        }
    }

    /// Acknowledges the delivery and its copies.
    pub(super) fn ack_with(self, receipt: Receipt) {
        for (ack, _held) in self.copies {
            ack.ack(Receipt {
                duplicate: true,
                ..receipt
            });
        }
        self.ack.ack(receipt);
    }

    /// Refuses the delivery and its copies.
    pub(super) fn nack(self, error: &Error) {
        for (ack, _held) in self.copies {
            ack.nack(error.clone());
        }
        self.ack.nack(error.clone());
    }

    /// Takes a copy's ack handles: it is answered as this one is. One that has only the key or the name in common is
    /// refused. Says whether it was taken.
    pub(super) fn join(&mut self, copy: Self) -> bool {
        let refusal = match &copy.envelope {
            other if other.content() != self.envelope.content() => other_content(),
            other if other.fingerprint != self.envelope.fingerprint => other_payload(),
            other if other.division != self.envelope.division => divided_otherwise(),
            _ => {
                self.since = self.since.max(copy.since);
                self.copies.push((copy.ack, copy.held));
                self.copies.extend(copy.copies);
                return true;
            }
        };
        copy.nack(&refusal);
        false
    }
}

fn other_payload() -> Error {
    Error::new(
        ErrorKind::AlreadyExists,
        "The Idempotency-Key was used with another body; give every request a key of its own.",
    )
}

/// The error of an event under whose name another payload is on its way. When it comes again it is a letter.
pub(super) fn other_content() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "Another payload has the delivery's dedupe_attribute, and is on its way to the table or there; deliver it again.",
    )
}

/// The error of a part whose table has another part of the delivery. When it comes again it is a letter.
pub(super) fn divided_otherwise() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "The table has a part of the delivery by other rules, which another process landed meanwhile; deliver it again.",
    )
}

/// Refuses every part for one reason: each is delivered again.
pub(super) fn nack_all(parts: impl IntoIterator<Item = Part>, error: &Error) {
    parts.into_iter().for_each(|part| part.nack(error));
}

/// Rows of one table, and the deliveries they came in.
#[derive(Debug)]
pub(super) struct Batch {
    /// The table as it was when the rows were decoded; absent while nothing about it is known.
    pub(super) table: Option<Table>,
    pub(super) records: Option<RecordBatch>,
    pub(super) parts: Vec<Part>,
}

/// The rows of some parts, in order, as slices of the rows that were decoded with others.
pub(super) fn rows_of(records: &RecordBatch, parts: &[Part]) -> Vec<RecordBatch> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for rows in parts
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

impl Batch {
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
