//! What becomes of deliveries: landed, dropped as a copy, dead-lettered, or delivered again; answered, counted, told.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::{StreamExt, stream};
use iceberg::TableIdent;

use super::commit_log::CommitLog;
use super::flight::{EarlierAttempt, Flight};
use super::part::Part;
use super::writers::Shared;
use crate::decode::{Reason, RejectKind};
use crate::error::{Error, Result};
use crate::ledger::Known;
use crate::telemetry;
use crate::trigger::Receipt;

/// Dead letters of one batch that are written at the same time.
const DEAD_LETTERS_AT_ONCE: usize = 16;

/// Answers the deliveries of one table.
pub(super) struct Answers {
    ident: TableIdent,
    table_name: String,
    shared: Arc<Shared>,
}

impl Answers {
    pub(super) fn new(ident: TableIdent, shared: Arc<Shared>) -> Self {
        Self {
            table_name: ident.to_string(),
            ident,
            shared,
        }
    }

    /// Joins copies of one delivery, in the batch and with those on their way (step 1).
    pub(super) fn join_copies(&self, parts: Vec<Part>, flight: &mut Flight) -> Vec<Part> {
        let mut flying: HashMap<u128, &mut Part> = flight
            .parts_mut()
            .map(|part| (part.envelope.id.hash(), part))
            .collect();
        let mut kept: Vec<Part> = Vec::with_capacity(parts.len());
        let mut places: HashMap<u128, usize> = HashMap::new();
        for part in parts {
            let id = part.envelope.id.hash();
            let place = places.get(&id).copied();
            let first = match place.and_then(|place| kept.get_mut(place)) {
                Some(first) => first,
                None => match flying.get_mut(&id) {
                    Some(first) => first,
                    None => {
                        places.insert(id, kept.len());
                        kept.push(part);
                        continue;
                    }
                },
            };
            first.join(part);
            self.duplicate("in_flight");
            outcome("duplicate", 1);
        }
        kept
    }

    /// Answers the parts whose rows are in the table (step 5), and dead-letters those that are too old to prove new
    /// (step 6). Gives the rest.
    pub(super) async fn drop_known(
        &self,
        parts: Vec<Part>,
        known: &[Known],
        earlier: Option<EarlierAttempt>,
    ) -> Vec<Part> {
        let mut new = Vec::with_capacity(parts.len());
        for (part, known) in parts.into_iter().zip(known) {
            match (known, earlier) {
                (Known::New, _) => new.push(part),
                (Known::Landed(_), Some(attempt)) => {
                    outcome("landed", 1);
                    part.ack(attempt.snapshot_id);
                }
                (Known::Landed(value), None) => {
                    self.duplicate("landed");
                    outcome("duplicate", 1);
                    part.ack_copy(value);
                }
                (Known::TooOld, _) => self.too_old(part).await,
            }
        }
        new
    }

    async fn too_old(&self, part: Part) {
        let reason = Reason {
            kind: RejectKind::TooOldToProve,
            message:
                "the delivery is older than the table's ledger remembers, so it may be in the table already"
                    .to_owned(),
            path: None,
        };
        let letters = &self.shared.dead_letters;
        let table = Some(self.table_name.as_str());
        match letters
            .write_delivery(&part.envelope, table, &reason, &part.payload)
            .await
        {
            Ok(()) => {
                outcome("dead_letter", 1);
                part.ack_with(Receipt {
                    dead_letter_count: 1,
                    ..Receipt::default()
                });
            }
            Err(error) => {
                self.tell_abandoned(&error, 1);
                part.nack(&error);
            }
        }
    }

    /// Keeps the rejected records. Parts whose letters cannot be kept are delivered again; gives the others.
    pub(super) async fn write_dead_letters(&self, parts: Vec<Part>) -> Vec<Part> {
        // In order, so that the rows of neighbours stay one slice.
        let mut results = stream::iter(parts)
            .map(|part| async move {
                let written: Result<()> = match part.rejected.is_empty() {
                    true => Ok(()),
                    false => {
                        let letters = &self.shared.dead_letters;
                        letters
                            .write_records(&part.envelope, &self.table_name, &part.rejected)
                            .await
                    }
                };
                (part, written)
            })
            .buffered(DEAD_LETTERS_AT_ONCE);
        let mut kept = Vec::new();
        while let Some((part, written)) = results.next().await {
            match written {
                Ok(()) => kept.push(part),
                Err(error) => {
                    self.tell_abandoned(&error, 1);
                    part.nack(&error);
                }
            }
        }
        kept
    }

    /// Acknowledges parts that have no rows, once their letters are kept.
    pub(super) fn dead_lettered(&self, parts: Vec<Part>) {
        for part in parts {
            outcome("dead_letter", 1);
            part.ack(None);
        }
    }

    /// Acknowledges what one commit landed.
    pub(super) fn landed(&self, flight: Flight, snapshot_id: i64, log: &mut CommitLog) {
        let table = self.table_name.clone();
        let rows = flight.changes.row_count();
        let now = self.shared.clock.now();
        let seconds = flight.started.elapsed().as_secs_f64();
        metrics::counter!(telemetry::RECORDS_WRITTEN, "table" => table.clone()).increment(rows);
        metrics::counter!(telemetry::BATCHES_COMMITTED, "table" => table.clone()).increment(1);
        metrics::counter!(telemetry::BYTES_WRITTEN, "table" => table.clone())
            .increment(flight.changes.byte_count());
        metrics::histogram!(telemetry::COMMIT_DURATION, "table" => table.clone()).record(seconds);
        metrics::histogram!(telemetry::RECORDS_PER_BATCH, "table" => table.clone()).record(rows as f64);
        metrics::gauge!(telemetry::LAST_COMMIT, "table" => table.clone()).set(now.timestamp() as f64);
        let freshness = metrics::histogram!(telemetry::FRESHNESS, "table" => table);
        let deliveries = flight.delivery_count();
        outcome("landed", deliveries as u64);
        log.committed(&flight.changes, snapshot_id, deliveries, seconds);
        // Commit before ack: a crash here redelivers what is already in the table, and the ledger drops it.
        for part in flight.into_parts() {
            freshness.record(seconds_between(part.envelope.published_at, now));
            part.ack(Some(snapshot_id));
        }
    }

    pub(super) fn tell_abandoned(&self, error: &Error, deliveries: usize) {
        let labels = [
            ("table", self.table_name.clone()),
            ("reason", error.kind().name().to_owned()),
        ];
        metrics::counter!(telemetry::BATCHES_ABANDONED, &labels).increment(1);
        outcome("nacked", deliveries as u64);
        tracing::error!(
            table.ident = %self.ident,
            deliveries,
            error = error.report(),
            "A batch was given up; its deliveries come again."
        );
    }

    pub(super) fn tell_retry(&self, error: &Error) {
        let labels = [
            ("table", self.table_name.clone()),
            ("kind", error.kind().name().to_owned()),
        ];
        metrics::counter!(telemetry::COMMIT_RETRIES, &labels).increment(1);
        tracing::debug!(
            table.ident = %self.ident,
            error = error.report(),
            "The commit is attempted again."
        );
    }

    fn duplicate(&self, reason: &'static str) {
        let labels = [("table", self.table_name.clone()), ("reason", reason.to_owned())];
        metrics::counter!(telemetry::DUPLICATES, &labels).increment(1);
    }
}

pub(super) fn outcome(outcome: &'static str, deliveries: u64) {
    metrics::counter!(telemetry::DELIVERIES, "outcome" => outcome).increment(deliveries);
}

fn seconds_between(from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    (to - from).to_std().unwrap_or(Duration::ZERO).as_secs_f64()
}
