//! The committer: one batch at a time becomes data files, a commit, and answers.

use std::sync::Arc;

use iceberg::TableIdent;
use iceberg::table::Table;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, timeout_at};

use super::answers::Answers;
use super::commit_log::CommitLog;
use super::flight::{EarlierAttempt, Flight};
use super::part::{Batch, Part, Want, nack_all, rows_of};
use super::shared::Shared;
use crate::commit::{self, Backoff, Group, Head, validate_append};
use crate::error::{Action, Error, ErrorKind, Result};
use crate::ledger::{Entry, Known};
use crate::telemetry::within;
use crate::write::write_data_files;

/// Commits the batches of one table.
pub(super) struct Committer {
    ident: TableIdent,
    /// How long the table's ledger remembers messages.
    retention: Duration,
    shared: Arc<Shared>,
    answers: Answers,
    wants: mpsc::UnboundedSender<Want>,
    /// The newest state of the table that this process knows; for a commit a stale one costs a conflict, nothing else.
    head: Option<Head>,
    reopen: bool,
    log: CommitLog,
}

impl Committer {
    pub(super) fn new(
        ident: TableIdent,
        retention: Duration,
        shared: Arc<Shared>,
        wants: mpsc::UnboundedSender<Want>,
    ) -> Self {
        Self {
            answers: Answers::new(ident.clone(), shared.clone()),
            log: CommitLog::new(ident.clone()),
            ident,
            retention,
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
        let flight = Flight::new(&self.shared, self.retention, &batch);
        within(flight.span.trace(), self.fly(flight, batch)).await;
    }

    async fn fly(&mut self, mut flight: Flight, batch: Batch) {
        // Step 10, also where a store does not answer: stop, and delete nothing. What was sent may yet land; the next
        // holder of these deliveries is safe either way. Parts that are let go in the middle are nacks.
        let deadline = flight.deadline;
        let deliveries = batch.parts.len();
        if timeout_at(deadline, self.stage(batch, &mut flight))
            .await
            .is_err()
        {
            flight.span.failed(ErrorKind::Unavailable);
            self.answers.tell_abandoned(&self.silent(), deliveries);
            return;
        }
        if flight.is_empty() {
            return;
        }
        let landing = timeout_at(deadline, self.land(&mut flight)).await;
        let too_late = |_elapsed| match flight.failed.take() {
            Some(reason) => Err(commit::too_late(&self.ident).with_source(reason)),
            None => Err(self.silent()),
        };
        match landing.unwrap_or_else(too_late) {
            Ok(Some(snapshot_id)) => {
                let table = self.head.as_ref().map(Head::table);
                self.answers
                    .landed(flight, snapshot_id, table, &mut self.log)
                    .await;
            }
            // All of it was in the table already, and is answered.
            Ok(None) => {}
            Err(error) => self.abandon(flight, &self.come_again(error)),
        }
    }

    /// Makes a batch ready to be committed: repeats out, dead letters kept, data files on their way (steps 1 to 6).
    ///
    /// What needs no commit is answered here; parts whose dead letters cannot be kept leave the batch.
    async fn stage(&mut self, mut batch: Batch, flight: &mut Flight) {
        let parts = self.answers.join_copies(std::mem::take(&mut batch.parts), flight);
        let (Some(table), Some(records)) = (batch.table, batch.records) else {
            // Rejected deliveries only, from before there was a table.
            return self.answers.dead_letter(parts).await;
        };
        let known = match self.adopt(&table, flight.is_empty()).await {
            Ok(()) => self.known(&parts, &table, flight).await,
            Err(error) => Err(error),
        };
        let parts = match known {
            Ok(known) => {
                let found = (self.head.as_ref().map(Head::table), None);
                self.answers.drop_known(parts, &known, found).await
            }
            Err(error) => return self.refuse(parts, &self.come_again(error), flight),
        };
        let parts = self.answers.drop_empty(parts);
        let parts = self.answers.write_letters(parts).await;
        if parts.is_empty() {
            return;
        }
        match write_data_files(&table, rows_of(&records, &parts), &self.shared.random).await {
            Ok(files) => flight.add(table, records, parts, files),
            Err(error) => self.refuse(parts, &error, flight),
        }
    }

    /// The deadline passed while something did not answer, and nothing had failed before.
    fn silent(&self) -> Error {
        commit::too_late(&self.ident).with("cause", "the catalog or the storage did not answer in time")
    }

    /// A table that changed under its rows is opened anew for the next ones, and only then known to fit or not: whoever
    /// sends these again may well land them.
    fn come_again(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::TableMismatch {
            return error;
        }
        let message = "The table changed while the rows were on their way; send them again.";
        Error::new(ErrorKind::Unavailable, message)
            .with("table", &self.ident)
            .with_source(error)
    }

    /// Gives up parts that could not be made ready. What waits in the flight goes on.
    fn refuse(&mut self, parts: Vec<Part>, error: &Error, flight: &Flight) {
        if flight.is_empty() {
            self.head = None;
        }
        self.reopen = true;
        self.answers.tell_abandoned(error, parts.len());
        nack_all(parts, error);
    }

    /// Takes up the writer's load of the table when it is newer than the head; checks that its rows fit the head, and
    /// that the head fits the files that already wait in the flight. An empty flight binds to nothing: if load and head
    /// do not fit, the load is right, or its staleness costs a conflict.
    async fn adopt(&mut self, table: &Table, empty: bool) -> Result<()> {
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
        let head = self.shared.engine.head(table.clone()).await?;
        validate_append(table, head.table())?;
        self.head = Some(head);
        Ok(())
    }

    /// Asks the head's ledger for the parts (step 5).
    async fn known(&mut self, parts: &[Part], table: &Table, flight: &Flight) -> Result<Vec<Known>> {
        let head = self.head.as_mut().ok_or_else(not_loaded)?;
        let entries: Vec<Entry> = parts.iter().map(|part| Entry::from(&part.envelope.id)).collect();
        let since = parts.iter().map(|part| part.since).max();
        let engine = &self.shared.engine;
        let known = engine.known(head, &flight.changes, &entries, since).await?;
        validate_append(table, head.table())?;
        Ok(known)
    }

    /// Attempts until the flight is in the table, something says it never can be, or the deadline is over. `None` when
    /// it turned out to be in the table already.
    async fn land(&mut self, flight: &mut Flight) -> Result<Option<i64>> {
        let mut backoff = Backoff::default();
        let head = self.head.as_mut().ok_or_else(not_loaded)?;
        // Where the process stops the writer has gone, and nothing comes after this flight.
        if !self.wants.is_closed() {
            let engine = &self.shared.engine;
            engine.stand_back(head, &flight.changes, flight.deadline).await?;
        }
        loop {
            let head = self.head.as_mut().ok_or_else(not_loaded)?;
            // Steps 5 and 6, for all of the flight and right before each attempt: a batch that came along may have brought
            // a newer load of the table, in whose ledger an earlier attempt is found.
            let (entries, since) = (flight.changes.deliveries(), flight.since());
            let engine = &self.shared.engine;
            let known = engine.known(head, &flight.changes, &entries, since).await?;
            self.drop_landed(flight, &known).await?;
            if flight.is_empty() {
                return Ok(None);
            }
            let head = self.head.as_mut().ok_or_else(not_loaded)?;
            let error = match self.shared.engine.attempt(head, &mut flight.changes).await {
                Ok(snapshot_id) => return Ok(Some(snapshot_id)),
                Err(error) => error,
            };
            if error.kind().action() != Action::Retry {
                return Err(error);
            }
            flight.may_have_landed |= error.kind() == ErrorKind::OutcomeUnknown;
            flight.failed = Some(error.clone());
            // Step 8: back to the load, whatever the outcome was called.
            let reloading =
                self.shared
                    .engine
                    .reload_within(head, &flight.changes, &mut backoff, flight.deadline, error);
            reloading.await?;
            if let Ok(Some(more)) = self.next_batch(true).await {
                flight.hurry(&more);
                self.stage(more, flight).await;
            }
        }
    }

    /// Leaves out what an earlier attempt or another process landed: such a group's files are written again without it.
    async fn drop_landed(&mut self, flight: &mut Flight, known: &[Known]) -> Result<()> {
        if known.iter().all(|known| *known == Known::New) {
            return Ok(());
        }
        let earlier = flight.may_have_landed.then(|| EarlierAttempt {
            snapshot_id: self
                .head
                .as_ref()
                .and_then(|head| head.snapshot_of(flight.changes.commit_id())),
        });
        let mut known = known.iter().cloned();
        let mut place = 0;
        while let Some(staged) = flight.staged.get_mut(place) {
            let answers: Vec<Known> = known.by_ref().take(staged.parts.len()).collect();
            if answers.iter().all(|known| *known == Known::New) {
                place += 1;
                continue;
            }
            let parts = std::mem::take(&mut staged.parts);
            let found = (self.head.as_ref().map(Head::table), earlier);
            staged.parts = self.answers.drop_known(parts, &answers, found).await;
            if staged.parts.is_empty() {
                flight.staged.remove(place);
                flight.changes.replace(place, None);
                continue;
            }
            let rows = rows_of(&staged.records, &staged.parts);
            let files = write_data_files(&staged.table, rows, &self.shared.random).await?;
            flight
                .changes
                .replace(place, Some(Group::pending(files, staged.entries())));
            place += 1;
        }
        Ok(())
    }

    fn abandon(&mut self, mut flight: Flight, error: &Error) {
        flight.span.failed(error.kind());
        // What the writer knows of the table may be what is wrong.
        self.head = None;
        self.reopen = true;
        self.answers.tell_abandoned(error, flight.delivery_count());
        nack_all(flight.into_parts(), error);
    }
}

fn not_loaded() -> Error {
    Error::new(ErrorKind::Unavailable, "The table was not loaded.")
}
