//! The committer: one batch at a time becomes data files, a commit, and answers.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::{StreamExt, stream};
use iceberg::TableIdent;
use iceberg::table::Table;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::commit_log::CommitLog;
use super::part::{Batch, Part, Want, nack_all};
use super::writers::Shared;
use crate::commit::{self, Backoff, ChangeSet, DeliveryEntry, Head, Reloaded, validate_append};
use crate::error::{Action, Error, ErrorKind, Result};
use crate::telemetry;
use crate::write::write_data_files;

/// Dead letters of one batch that are written at the same time.
const DEAD_LETTERS_AT_ONCE: usize = 16;

/// Commits the batches of one table.
pub(super) struct Committer {
    ident: TableIdent,
    table_name: String,
    shared: Arc<Shared>,
    wants: mpsc::UnboundedSender<Want>,
    /// The newest state of the table that this process knows; a stale one costs a conflict, nothing else.
    head: Option<Head>,
    reopen: bool,
    log: CommitLog,
}

/// The work between hand-over and answers.
struct Flight {
    changes: ChangeSet,
    parts: Vec<Part>,
    deadline: Instant,
    started: Instant,
}

impl Committer {
    pub(super) fn new(ident: TableIdent, shared: Arc<Shared>, wants: mpsc::UnboundedSender<Want>) -> Self {
        let table_name = ident.to_string();
        Self {
            log: CommitLog::new(ident.clone()),
            ident,
            table_name,
            shared,
            wants,
            head: None,
            reopen: false,
        }
    }

    /// Commits batches until the writer has gone.
    pub(super) async fn run(mut self) {
        while let Ok(Some(batch)) = self.next_batch(false).await {
            self.commit(batch).await;
        }
        self.log.tell();
    }

    /// Asks the writer for a batch. `Err` when it has gone; `Ok(None)` when it has nothing now, or nothing any more.
    async fn next_batch(&mut self, now: bool) -> Result<Option<Batch>, oneshot::error::RecvError> {
        let (reply, answer) = oneshot::channel();
        let want = Want {
            now,
            reopen: std::mem::take(&mut self.reopen),
            reply,
        };
        if self.wants.send(want).is_err() {
            return Ok(None);
        }
        self.log.beside(answer).await
    }

    async fn commit(&mut self, batch: Batch) {
        let now = Instant::now();
        let mut flight = Flight {
            changes: ChangeSet::append(self.shared.random.uuid()),
            parts: Vec::new(),
            deadline: batch.deadline().unwrap_or(now),
            started: now,
        };
        // Step 10, also where a store does not answer: stop, and delete nothing. What was sent may yet land; the next
        // holder of these deliveries is safe either way. Parts that are let go in the middle are nacks.
        let deadline = flight.deadline;
        let deliveries = batch.parts.len();
        if timeout_at(deadline, self.stage(batch, &mut flight))
            .await
            .is_err()
        {
            self.log_abandoned(&self.too_late(), deliveries);
            return;
        }
        if flight.parts.is_empty() {
            return;
        }
        let landing = timeout_at(deadline, self.land(&mut flight)).await;
        match landing.unwrap_or_else(|_elapsed| Err(self.too_late())) {
            Ok(snapshot_id) => self.landed(flight, snapshot_id),
            Err(error) => self.abandon(flight, &error),
        }
    }

    fn too_late(&self) -> Error {
        commit::too_late(&self.ident)
    }

    /// Makes a batch durable, short of committing it: dead letters first, then the data files (protocol, step 3).
    /// Parts that have no rows are answered here; parts whose dead letters cannot be kept leave the batch.
    async fn stage(&mut self, mut batch: Batch, flight: &mut Flight) {
        self.write_dead_letters(&mut batch).await;
        let rows = batch.kept_rows();
        let table = batch.table.take();
        let (with_rows, without): (Vec<Part>, Vec<Part>) =
            batch.parts.into_iter().partition(|part| !part.rows.is_empty());
        for part in without {
            outcome("dead_letter", 1);
            part.ack(None);
        }
        let Some(table) = table.filter(|_| !rows.is_empty()) else {
            let lost = Error::new(ErrorKind::Unavailable, "The rows were decoded for no table.");
            return nack_all(with_rows, &lost);
        };
        let written = match self.adopt(&table, flight.parts.is_empty()) {
            Ok(()) => write_data_files(&table, rows, &self.shared.random).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(files) => {
                flight.changes.add(
                    files,
                    with_rows
                        .iter()
                        .map(|part| DeliveryEntry::from(&part.envelope.id)),
                );
                flight.parts.extend(with_rows);
            }
            Err(error) => {
                self.reopen = true;
                self.log_abandoned(&error, with_rows.len());
                nack_all(with_rows, &error);
            }
        }
    }

    /// Takes up the writer's load of the table when it is newer than the head; checks that its rows fit the head, and
    /// that the head fits the files that already wait in the flight. An empty flight binds to nothing: if load and head
    /// do not fit, the load is right, or its staleness costs a conflict.
    fn adopt(&mut self, table: &Table, empty: bool) -> Result<()> {
        let updated = |table: &Table| table.metadata().last_updated_ms();
        let checked = match &self.head {
            Some(head) if updated(head.table()) >= updated(table) => {
                match validate_append(table, head.table()) {
                    Ok(()) => return Ok(()),
                    Err(error) => Err(error),
                }
            }
            Some(head) => validate_append(head.table(), table),
            None => Ok(()),
        };
        if !empty {
            checked?;
        }
        self.head = Some(Head::new(table.clone()));
        Ok(())
    }

    async fn write_dead_letters(&self, batch: &mut Batch) {
        let parts = std::mem::take(&mut batch.parts);
        // In order, so that the rows of neighbours stay one slice.
        let mut results = stream::iter(parts)
            .map(|part| async move {
                if part.rejected.is_empty() {
                    return (part, Ok(()));
                }
                let letters = &self.shared.dead_letters;
                let written = letters
                    .write_records(&part.envelope, &self.table_name, &part.rejected)
                    .await;
                (part, written)
            })
            .buffered(DEAD_LETTERS_AT_ONCE);
        while let Some((part, written)) = results.next().await {
            match written {
                Ok(()) => batch.parts.push(part),
                Err(error) => {
                    self.log_abandoned(&error, 1);
                    part.ack.nack(error);
                }
            }
        }
    }

    /// Attempts until the change set is in the table, something says it never can be, or the deadline is over.
    async fn land(&mut self, flight: &mut Flight) -> Result<i64> {
        let mut backoff = Backoff::default();
        loop {
            let Some(head) = self.head.as_mut() else {
                return Err(Error::new(ErrorKind::Unavailable, "The table was not loaded."));
            };
            let error = match self.shared.engine.attempt(head, &mut flight.changes).await {
                Ok(snapshot_id) => return Ok(snapshot_id),
                Err(error) => error,
            };
            if error.kind().action() != Action::Retry {
                return Err(error);
            }
            count_retry(&self.table_name, &error);
            // Step 8: back to the load, whatever the outcome was called.
            let reloading =
                self.shared
                    .engine
                    .reload_within(head, &flight.changes, &mut backoff, flight.deadline, error);
            match reloading.await? {
                Reloaded::Landed(snapshot_id) => return Ok(snapshot_id),
                // Earlier attempts are decided: what arrived meanwhile may come along.
                Reloaded::Moved => {
                    if let Ok(Some(more)) = self.next_batch(true).await {
                        flight.deadline = more
                            .deadline()
                            .map_or(flight.deadline, |at| at.min(flight.deadline));
                        self.stage(more, flight).await;
                    }
                }
                Reloaded::Unmoved => {}
            }
        }
    }

    fn landed(&mut self, flight: Flight, snapshot_id: i64) {
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
        outcome("landed", flight.parts.len() as u64);
        self.log
            .committed(&flight.changes, snapshot_id, flight.parts.len(), seconds);
        // Commit before ack: a crash here redelivers what is already in the table.
        for part in flight.parts {
            freshness.record(seconds_between(part.envelope.published_at, now));
            part.ack(Some(snapshot_id));
        }
    }

    fn abandon(&mut self, flight: Flight, error: &Error) {
        // What the writer knows of the table may be what is wrong.
        self.head = None;
        self.reopen = true;
        self.log_abandoned(error, flight.parts.len());
        nack_all(flight.parts, error);
    }

    fn log_abandoned(&self, error: &Error, deliveries: usize) {
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
}

fn count_retry(table: &str, error: &Error) {
    let labels = [
        ("table", table.to_owned()),
        ("kind", error.kind().name().to_owned()),
    ];
    metrics::counter!(telemetry::COMMIT_RETRIES, &labels).increment(1);
    tracing::debug!(
        table.ident = table,
        error = error.report(),
        "The commit is attempted again."
    );
}

pub(super) fn outcome(outcome: &'static str, deliveries: u64) {
    metrics::counter!(telemetry::DELIVERIES, "outcome" => outcome).increment(deliveries);
}

fn seconds_between(from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    (to - from).to_std().unwrap_or(Duration::ZERO).as_secs_f64()
}
