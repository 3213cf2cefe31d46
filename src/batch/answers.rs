//! What becomes of deliveries: landed, dropped as a copy, dead-lettered, or delivered again; answered, counted, told.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use iceberg::TableIdent;
use iceberg::table::Table;
use tokio::time::timeout_at;
use uuid::Uuid;

use super::commit_log::CommitLog;
use super::division::{has_other_content, other_content, redivided};
use super::flight::{EarlierAttempt, Flight};
use super::part::{self, Part, divided_otherwise};
use super::shared::Shared;
use super::whole::write_whole;
use crate::commit::state_of;
use crate::dead_letter::{LetterName, still_rejected};
use crate::decode::{Reason, RejectKind};
use crate::error::{Error, Result};
use crate::ledger::{Kept, Known};
use crate::publish::{Note, Publication};
use crate::telemetry::{self, Landed, within};

/// Dead letters of one batch that are written at the same time.
const DEAD_LETTERS_AT_ONCE: usize = 16;

/// Answers the deliveries of one table.
#[derive(Clone)]
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
            match first.join(part) {
                true => {
                    telemetry::count_duplicates(&self.table_name, "in_flight", 1);
                    telemetry::count_deliveries("duplicate", 1);
                }
                false => telemetry::count_deliveries("nacked", 1),
            }
        }
        kept
    }

    /// Answers the parts whose rows are in the table (step 5), and dead-letters those that are too old to prove new
    /// (step 6). Gives the rest.
    ///
    /// What the ledger has of a part decides about its rejected records too, whatever this attempt made of them. `table` is
    /// the state that they were found in.
    pub(super) async fn drop_known(
        &self,
        parts: Vec<Part>,
        known: &[Known],
        (table, earlier): (Option<&Table>, Option<EarlierAttempt>),
    ) -> Vec<Part> {
        let mut new = Vec::with_capacity(parts.len());
        let mut found = Vec::new();
        for (part, known) in parts.into_iter().zip(known) {
            match known {
                Known::New => new.push(part),
                Known::Landed(value) => found.push((part, Kept::decode(value))),
                Known::TooOld => self.too_old(part).await,
            }
        }
        if found.is_empty() {
            return new;
        }
        // Nobody may have told of that commit yet: its answer was lost, or whoever sent it was killed.
        let published = found.iter().map(|(part, _)| part.envelope.published_at);
        let oldest = published.min().filter(|_| earlier.is_some());
        let mut publication = self
            .shared
            .publishers
            .committed(&self.ident, Note::of(table, oldest));
        let last = found.len() - 1;
        for (place, (part, kept)) in found.into_iter().enumerate() {
            let publication = publication.take_if(|_| place == last);
            self.answer_landed(part, kept, earlier, publication).await;
        }
        new
    }

    /// Letters that have yet to be published are waited for beside the batch: a topic that hangs must not stop a table.
    async fn answer_landed(
        &self,
        part: Part,
        kept: Kept,
        earlier: Option<EarlierAttempt>,
        publication: Option<Publication>,
    ) {
        if kept.letters.is_none() || !self.shared.dead_letters.are_published() {
            return self.was_there(part, kept, earlier, publication).await;
        }
        let (answers, deadline) = (self.clone(), part.deadline);
        tokio::spawn(async move {
            // What is let go is delivered again.
            let _elapsed = timeout_at(deadline, answers.was_there(part, kept, earlier, publication)).await;
        });
    }

    async fn was_there(
        &self,
        part: Part,
        kept: Kept,
        earlier: Option<EarlierAttempt>,
        publication: Option<Publication>,
    ) {
        if kept.division != part.envelope.division {
            return self.divided_otherwise(part).await;
        }
        if has_other_content(&kept, part.envelope.content()) {
            return self.other_content(part).await;
        }
        if let Err(error) = self.confirm(&part, kept.letters).await {
            return self.unkept(part, &error);
        }
        // A key may have been used with another body by another process: what landed is not this part then.
        let earlier = earlier.filter(|_| match (part.envelope.request_fingerprint(), kept.answer) {
            (Some(fingerprint), landed) => landed.is_some_and(|landed| landed.fingerprint == fingerprint),
            (None, _) => true,
        });
        match earlier {
            Some(attempt) => {
                if attempt.snapshot_id.is_some() {
                    self.tell_freshness(std::slice::from_ref(&part));
                }
                telemetry::count_deliveries("landed", 1);
                once_visible(publication, part, move |part| part.ack(attempt.snapshot_id));
            }
            None => {
                telemetry::count_duplicates(&self.table_name, "landed", 1);
                telemetry::count_deliveries("duplicate", 1);
                once_visible(publication, part, move |part| part.ack_copy(&kept));
            }
        }
    }

    /// Never takes one part of a delivery for another. Of a whole one nothing lands, so it is a letter at once; a part has
    /// neighbours that may land, so it comes again, and is found before they are handed over.
    async fn divided_otherwise(&self, part: Part) {
        let reason = redivided(std::slice::from_ref(&self.table_name));
        if part.is_replay {
            return self.leave(part, &reason);
        }
        if part.envelope.division.is_none() {
            return self.dead_letter_whole(part, None, &reason).await;
        }
        let error = divided_otherwise().with("table", &self.ident);
        part.trace.scope(|| self.tell_refused(&error));
        part.nack(&error);
    }

    /// Keeps what came under a name that the table has with another payload: the name says that it is the same event, the
    /// bytes say that it is not, and only a person can tell. Whole deliveries and parts as above.
    async fn other_content(&self, part: Part) {
        let reason = other_content(std::slice::from_ref(&self.table_name));
        if part.is_replay {
            return self.leave(part, &reason);
        }
        if part.envelope.division.is_none() {
            return self
                .dead_letter_whole(part, Some(&self.table_name), &reason)
                .await;
        }
        let error = part::other_content().with("table", &self.ident);
        part.trace.scope(|| self.tell_refused(&error));
        part.nack(&error);
    }

    async fn too_old(&self, part: Part) {
        let reason = Reason {
            kind: RejectKind::TooOldToProve,
            message:
                "the delivery is older than the table's ledger remembers, so it may be in the table already"
                    .to_owned(),
            path: None,
        };
        match part.is_replay {
            true => self.leave(part, &reason),
            false => {
                self.dead_letter_whole(part, Some(&self.table_name), &reason)
                    .await
            }
        }
    }

    /// Dead-letters parts of which nothing can be in any table, for there is none: as whole deliveries, without a commit.
    pub(super) async fn dead_letter(&self, parts: Vec<Part>) {
        for mut part in parts {
            match part.rejected.pop() {
                Some(whole) if part.is_replay => self.leave(part, &whole.reason),
                Some(whole) => {
                    self.dead_letter_whole(part, Some(&self.table_name), &whole.reason)
                        .await;
                }
                None => part.ack(None),
            }
        }
    }

    async fn dead_letter_whole(&self, part: Part, table: Option<&str>, reason: &Reason) {
        let writing = write_whole(&self.shared, &part.envelope, table, reason, &part.payload);
        match within(part.trace, writing).await {
            Ok(receipt) => part.ack_with(receipt),
            Err(error) => part.nack(&error),
        }
    }

    /// Refuses a dead letter that came back and is no row yet: it stays the letter that it is.
    fn leave(&self, part: Part, reason: &Reason) {
        telemetry::count_deliveries("nacked", 1);
        part.nack(&still_rejected(reason));
    }

    /// Answers parts that need no commit: those without a record, and replays without a row. Gives the rest.
    pub(super) fn drop_empty(&self, parts: Vec<Part>) -> Vec<Part> {
        let mut rest = Vec::with_capacity(parts.len());
        for part in parts {
            match part.rejected.first().map(|first| first.reason.clone()) {
                _ if !part.rows.is_empty() => rest.push(part),
                Some(reason) if part.is_replay => self.leave(part, &reason),
                Some(_) => rest.push(part),
                None => {
                    telemetry::count_deliveries("landed", 1);
                    part.ack(None);
                }
            }
        }
        rest
    }

    /// Keeps the rejected records where they wait for the commit. Parts whose letters cannot be kept are delivered again;
    /// gives the others.
    pub(super) async fn write_letters(&self, parts: Vec<Part>) -> Vec<Part> {
        // In order, so that the rows of neighbours stay one slice.
        let mut results = stream::iter(parts)
            .map(|mut part| async move {
                if part.rejected.is_empty() {
                    return (part, Ok(()));
                }
                let letters = &self.shared.dead_letters;
                let id = letters.waiting_id(self.shared.random.timed_uuid(self.shared.clock.now()));
                part.letters = Some(id);
                let written = letters
                    .write_pending(&part.envelope, &self.table_name, id, &part.rejected)
                    .await;
                (part, written)
            })
            .buffered(DEAD_LETTERS_AT_ONCE);
        let mut kept = Vec::new();
        while let Some((part, written)) = results.next().await {
            match written {
                Ok(()) => kept.push(part),
                Err(error) => self.unkept(part, &error),
            }
        }
        kept
    }

    /// Makes the letters count that the ledger names for a part.
    async fn confirm(&self, part: &Part, letters: Option<Uuid>) -> Result<()> {
        let Some(id) = letters else {
            return Ok(());
        };
        let name = LetterName::new(&self.table_name, id, part.envelope.id.hash());
        self.shared.dead_letters.confirm(&name).await
    }

    /// Refuses a part whose letters are not kept, or do not count yet: its redelivery finds it in the table then, and
    /// confirms them.
    fn unkept(&self, part: Part, error: &Error) {
        telemetry::count_deliveries("nacked", 1);
        let letters = &self.shared.dead_letters;
        part.trace
            .scope(|| letters.tell_refused(error, &self.table_name, &part.envelope.id));
        part.nack(error);
    }

    /// Acknowledges what one commit landed, the parts with rejected records once those count. `table` is as the commit made
    /// it.
    pub(super) async fn landed(
        &self,
        flight: Flight,
        snapshot_id: i64,
        table: Option<&Table>,
        log: &mut CommitLog,
    ) {
        let deadline = flight.deadline;
        let note = Note::of(table, flight.oldest_published());
        // Commit before ack: a crash here redelivers what is already in the table, and the ledger drops it.
        let parts = self.tell_landed(flight, snapshot_id, table, log);
        let (with_letters, mut without): (Vec<Part>, Vec<Part>) =
            parts.into_iter().partition(|part| part.letters.is_some());
        let mut publication = self.shared.publishers.committed(&self.ident, note);
        let last = without.pop();
        for part in without {
            self.ack(part, snapshot_id, None);
        }
        if let Some(last) = last {
            self.ack(last, snapshot_id, publication.take());
        }
        let answers = self.clone();
        let confirming = async move {
            let confirming = answers.confirm_all(with_letters, snapshot_id, publication);
            // A store that does not answer: what is let go is delivered again.
            let _elapsed = timeout_at(deadline, confirming).await;
        };
        match self.shared.dead_letters.are_published() {
            true => drop(tokio::spawn(confirming)),
            false => confirming.await,
        }
    }

    /// Makes the letters of these parts count, and acknowledges each then.
    async fn confirm_all(&self, parts: Vec<Part>, snapshot_id: i64, mut publication: Option<Publication>) {
        let mut left = parts.len();
        let mut confirmed = stream::iter(parts)
            .map(|part| async move {
                let confirmed = self.confirm(&part, part.letters).await;
                (part, confirmed)
            })
            .buffered(DEAD_LETTERS_AT_ONCE);
        while let Some((part, confirmed)) = confirmed.next().await {
            left -= 1;
            match confirmed {
                Ok(()) => self.ack(part, snapshot_id, publication.take_if(|_| left == 0)),
                Err(error) => self.unkept(part, &error),
            }
        }
    }

    fn ack(&self, part: Part, snapshot_id: i64, publication: Option<Publication>) {
        self.count_ack(&part);
        once_visible(publication, part, move |part| part.ack(Some(snapshot_id)));
    }

    fn count_ack(&self, part: &Part) {
        if part.rows.is_empty() {
            telemetry::count_deliveries("dead_letter", 1);
        } else {
            telemetry::count_deliveries("landed", 1);
        }
    }

    fn tell_landed(
        &self,
        mut flight: Flight,
        snapshot_id: i64,
        table: Option<&Table>,
        log: &mut CommitLog,
    ) -> Vec<Part> {
        let (changes, elapsed) = (&flight.changes, flight.started.elapsed());
        let landed = Landed {
            at: self.shared.clock.now(),
            row_count: changes.row_count(),
            byte_count: changes.byte_count(),
            elapsed,
            age: None,
            snapshot_id,
            state: table.map(state_of),
        };
        log.committed(
            changes,
            snapshot_id,
            flight.delivery_count(),
            elapsed.as_secs_f64(),
        );
        flight.tell_landed(&self.table_name, snapshot_id);
        let parts: Vec<Part> = flight.into_parts().collect();
        let age = self.tell_freshness(&parts);
        telemetry::count_commit(&self.table_name, Landed { age, ..landed });
        parts
    }

    /// Counts how old rows are that a commit has just landed, whatever becomes of their deliveries' dead letters. Gives the
    /// age of the oldest.
    fn tell_freshness(&self, parts: &[Part]) -> Option<Duration> {
        let freshness = metrics::histogram!(telemetry::FRESHNESS, "table" => self.table_name.clone());
        let now = self.shared.clock.now();
        let with_rows = parts.iter().filter(|part| !part.rows.is_empty());
        let ages = with_rows.map(|part| (now - part.envelope.published_at).to_std().unwrap_or_default());
        ages.inspect(|age| freshness.record(age.as_secs_f64())).max()
    }

    pub(super) fn tell_abandoned(&self, error: &Error, deliveries: usize) {
        telemetry::count_abandoned(&self.table_name, error.kind());
        telemetry::count_deliveries("nacked", deliveries as u64);
        tracing::error!(
            table.ident = %self.ident,
            deliveries,
            error = error.report(),
            "A batch was given up; its deliveries come again."
        );
    }

    /// One delivery is refused; its batch goes on.
    fn tell_refused(&self, error: &Error) {
        telemetry::count_deliveries("nacked", 1);
        tracing::error!(
            table.ident = %self.ident,
            error = error.report(),
            "A delivery was refused; it comes again."
        );
    }
}

/// Answers a delivery whose rows are committed; where no CPU comes after the last answer, once the publish is done. It is
/// acknowledged whatever comes of that.
fn once_visible(publication: Option<Publication>, part: Part, answer: impl FnOnce(Part) + Send + 'static) {
    let Some(publication) = publication else {
        return answer(part);
    };
    tokio::spawn(async move {
        publication.visible_soon(part.deadline).await;
        answer(part);
    });
}
