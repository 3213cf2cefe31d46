//! Dead letters: what could not become a row, kept with its reason and its raw bytes (invariant 3).
//!
//! The rejected records of one delivery for one table are one object of NDJSON lines, and are bound to the commit of the
//! rows beside them (protocol §6). They wait under `pending/`; the ledger's entry of the delivery names the object; once
//! that entry is committed the object goes to `confirmed/`, and only then is the delivery acknowledged. An attempt that
//! is refused leaves what waits under `pending/`, where it never counts. A delivery that comes again, and is found in the
//! ledger, confirms what the entry names: how it would be decoded today does not matter.
//!
//! Each attempt has an object of its own. One that found and used the object of an earlier attempt could lose it to
//! upkeep, which judges what waits by its age.
//!
//! Where letters go to a topic they wait in the same way, under the warehouse, and are published where they would have
//! gone to `confirmed/`: at least once, each time under the same name. What does not wait any more was published. Which of
//! the two an object is for its name tells, so that neither is taken for the other once `dead_letters` is changed.
//!
//! A delivery that is rejected whole, before any table's ledger could know it, needs no commit: its letter goes straight
//! to `confirmed/`, under a name that is a pure function of the delivery and its payload.

#[cfg(test)]
mod golden;
mod letter;
mod message;
mod name;
mod topic;
mod waiting;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use uuid::Uuid;

pub use self::letter::{DeadLetter, LetterReason, lines, parse};
pub use self::message::LETTER;
pub(crate) use self::message::{SOURCE_COUNT, SOURCE_SUBSCRIPTION};
pub use self::name::{LetterName, Place};
pub use self::topic::Topic;

use crate::decode::{Reason, RejectedRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{Creation, Store};
use crate::telemetry;
use crate::trigger::Envelope;

/// Under the warehouse: where letters wait that are to be published, and what is too large for a message stays.
pub(crate) const PUBLISHED_FROM: &str = "_landfast/dead-letters";

/// Where dead letters go.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    store: Store,
    /// Where they are published; none where the store keeps them.
    topic: Option<Topic>,
    /// Where they waited when they were published, if the store is another place.
    published: Option<Store>,
    /// The location that they were kept in before they were published.
    before: Option<Store>,
    /// Keeps the log of letters short.
    told: Arc<telemetry::Seldom>,
}

impl DeadLetters {
    /// Whether letters are published, rather than kept in a store.
    pub fn are_published(&self) -> bool {
        self.topic.is_some()
    }

    /// Keeps dead letters in a store.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            topic: None,
            published: None,
            before: None,
            told: Arc::default(),
        }
    }

    /// The same, but that the store keeps them only until they are published, and those that no message can hold.
    pub fn published_to(self, topic: Topic) -> Self {
        Self {
            topic: Some(topic),
            ..self
        }
    }

    /// The same in a location of this warehouse, in which those may wait that were to be published before. Nothing changes for
    /// letters that still are.
    pub fn in_warehouse(self, warehouse: &Store) -> Self {
        let published = self.topic.is_none().then(|| warehouse.below(PUBLISHED_FROM));
        Self { published, ..self }
    }

    /// The same after a location: what waits there counts as soon as its delivery comes again, and what counts there does.
    pub fn after_location(self, before: Store) -> Self {
        Self {
            before: Some(before),
            ..self
        }
    }

    /// The name under which letters are to wait, made of a fresh one. It tells those that are published, so that no others
    /// are taken for such when they are missed.
    pub fn waiting_id(&self, fresh: Uuid) -> Uuid {
        match self.topic {
            Some(_) => name::to_be_published(fresh),
            None => fresh,
        }
    }

    /// The objects themselves.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Writes the rejected records of one delivery for one table, to wait for the commit whose entry is to carry `id`.
    /// Durable on `Ok`. They count only once [`DeadLetters::confirm`] has been called.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Unavailable`]: the delivery must not be acknowledged.
    pub async fn write_pending(
        &self,
        delivery: &Envelope,
        table: &str,
        id: Uuid,
        records: &[RejectedRecord],
    ) -> Result<()> {
        let letters = records
            .iter()
            .map(|record| DeadLetter::of_record(delivery, Some(table), record));
        let name = LetterName::new(table, id, delivery.id.hash());
        self.store.put(&name.key(Place::Pending), lines(letters)).await
    }

    /// Puts letters where they count, and counts those that were not there.
    async fn let_count(&self, name: &LetterName, letters: &Bytes) -> Result<()> {
        match &self.topic {
            Some(topic) => self.publish(topic, name, letters).await?,
            None => {
                let key = name.key(Place::Confirmed);
                if self.store.create(&key, letters.clone()).await? != Creation::Created {
                    return Ok(());
                }
            }
        }
        for letter in parse(letters) {
            self.count(
                letter.table.as_deref(),
                &letter.reason.kind,
                &letter.reason.message,
            );
        }
        Ok(())
    }

    /// Publishes letters. One that is too large for a message is kept under `confirmed/`, and a message says where.
    ///
    /// Messages are made as many at a time as the topic takes, so that those of many small letters are never there all at once. If
    /// it does not take one, all are published again, from the first, once the delivery comes again.
    async fn publish(&self, topic: &Topic, name: &LetterName, letters: &Bytes) -> Result<()> {
        let unreadable = || {
            let message = "A waiting dead letter cannot be read, so it is not published: look at the object.";
            let location = self.store.url(&name.key(Place::Pending));
            Error::new(ErrorKind::Unavailable, message).with("location", location)
        };
        let lines: Vec<&[u8]> = letters.split_inclusive(|byte| *byte == b'\n').collect();
        // Before any is published: what is damaged would have the others published with each copy of the delivery.
        let (mut large, mut large_count) = (Vec::new(), 0);
        for line in &lines {
            let letter = read(line).ok_or_else(unreadable)?;
            if !message::fits(letter.byte_count()) {
                large.extend_from_slice(line);
                large_count += 1;
            }
        }
        if !large.is_empty() {
            // Kept before it is told of: the message leads there.
            let key = name.key(Place::Confirmed);
            self.store.create(&key, large.into()).await?;
        }
        let (location, mut cut) = (self.store.url(&name.key(Place::Confirmed)), 0);
        for lines in lines.chunks(topic::AT_ONCE) {
            let mut messages = Vec::with_capacity(lines.len());
            for line in lines {
                let letter = read(line).ok_or_else(unreadable)?;
                let place = letter.position.map(|position| position.to_string());
                let id = format!("{}/{}", name.path(), place.as_deref().unwrap_or("whole"));
                let at = (!message::fits(letter.byte_count())).then_some(location.as_str());
                let (message, left_out) = message::message(&letter, &id, at).ok_or_else(unreadable)?;
                cut += u64::from(left_out > 0);
                messages.push(message);
            }
            topic.publish(messages).await?;
        }
        self.count_cut("attributes", cut);
        self.count_cut("data", large_count);
        Ok(())
    }

    /// Counts messages that do not hold all of their letter, and tells of it once a minute.
    fn count_cut(&self, what: &'static str, messages: u64) {
        if messages == 0 {
            return;
        }
        metrics::counter!(telemetry::DEAD_LETTERS_CUT, "what" => what).increment(messages);
        if let Some(count) = self.told.tell(what) {
            let detail = match what {
                "data" => "Their bytes are in the object that `landfast.location` names.",
                _ => "`landfast.cut` says how many attributes were cut or left out.",
            };
            tracing::warn!(
                what,
                count,
                detail,
                "Dead letters do not fit into messages of Pub/Sub."
            );
        }
    }

    /// Tells once a minute of deliveries that are refused since their letters cannot be kept.
    pub(crate) fn tell_refused(&self, error: &Error, table: &str, delivery: &crate::trigger::DeliveryId) {
        if let Some(count) = self.told.tell(&format!("refused {table}")) {
            tracing::error!(
                table.ident = table,
                message.id = telemetry::shown(&delivery.to_string()),
                error = error.report(),
                count,
                "A dead letter could not be kept; its delivery comes again."
            );
        }
    }

    /// Moves letters whose records are in the table to where nobody looks for work. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Unavailable`]: they are replayed once more, and found in the table.
    pub async fn set_aside(&self, name: &LetterName, letters: Bytes) -> Result<()> {
        let aside = name.key(Place::Replayed);
        let _there = self.store.create(&aside, letters).await?;
        self.store.delete(&name.key(Place::Confirmed)).await.map(drop)
    }

    /// Writes a delivery that cannot become rows at all. Durable on `Ok`; repeating it writes nothing new, or publishes it anew
    /// under the same name.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Unavailable`]: the delivery must not be acknowledged.
    pub async fn write_delivery(
        &self,
        delivery: &Envelope,
        table: Option<&str>,
        reason: &Reason,
        payload: &Bytes,
    ) -> Result<()> {
        let letter = DeadLetter::of_delivery(delivery, table, reason, payload);
        let id = content_id(delivery, std::iter::once(payload.as_ref()));
        let name = LetterName::new(table.unwrap_or(name::UNROUTED), id, delivery.id.hash());
        self.let_count(&name, &lines(std::iter::once(letter))).await
    }

    /// Writes records of a delivery that no table wants, once the others are in their tables. As
    /// [`DeadLetters::write_delivery`].
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Unavailable`]: the delivery must not be acknowledged.
    pub async fn write_unwanted(&self, delivery: &Envelope, records: &[RejectedRecord]) -> Result<()> {
        let letters = records
            .iter()
            .map(|record| DeadLetter::of_record(delivery, None, record));
        let positions: Vec<[u8; 8]> = records
            .iter()
            .map(|record| record.position.to_be_bytes())
            .collect();
        let content = positions.iter().zip(records);
        let content = content.flat_map(|(position, record)| [position.as_slice(), record.raw.as_ref()]);
        let name = LetterName::new(name::UNROUTED, content_id(delivery, content), delivery.id.hash());
        self.let_count(&name, &lines(letters)).await
    }

    /// Counts a letter, and tells of the first and then once a minute: they are acknowledged, so nobody else will.
    fn count(&self, table: Option<&str>, kind: &str, message: &str) {
        telemetry::count_letter(table, kind);
        let table = table.unwrap_or("none");
        if let Some(count) = self.told.tell(&format!("{table} {kind}")) {
            tracing::warn!(
                table.ident = table,
                reason = kind,
                detail = message,
                count,
                location = self.topic.as_ref().map_or(self.store.root(), Topic::name),
                "Records are dead-lettered."
            );
        }
    }
}

/// Whether a message is that of a check, which says nothing but that it was here: no data, and no attribute but its own and
/// those that Pub/Sub adds. It has no record that could be lost.
pub fn is_of_check(attributes: &BTreeMap<String, String>, payload: &[u8]) -> bool {
    let is_its_own = |(name, value): (&String, &String)| match name.as_str() {
        message::CHECK => value
            .strip_prefix("probe_")
            .is_some_and(|id| Uuid::try_parse(id).is_ok()),
        name => name.starts_with("goog") || name.starts_with("CloudPubSub"),
    };
    payload.is_empty() && attributes.contains_key(message::CHECK) && attributes.iter().all(is_its_own)
}

/// A line of letters that is whole.
fn read(line: &[u8]) -> Option<DeadLetter<'_>> {
    let letter: DeadLetter<'_> = serde_json::from_slice(line).ok()?;
    letter.raw().is_some().then_some(letter)
}

/// What [`still_rejected`] names: the kind of the reason.
pub const REASON: &str = "reason";

/// The error of a letter that was sent back and is not a row yet: [`ErrorKind::Rejected`] that names a [`REASON`].
pub fn still_rejected(reason: &Reason) -> Error {
    Error::new(ErrorKind::Rejected, reason.message.clone()).with(REASON, reason.kind.name())
}

/// An id that is the same for the same bytes of the same delivery. Its time is the publish time; none for an event that its
/// publisher names, whose copies tell several.
fn content_id<'a>(delivery: &Envelope, content: impl Iterator<Item = &'a [u8]>) -> Uuid {
    let mut hasher = Sha256::new();
    content.for_each(|bytes| hasher.update(bytes));
    let digest: [u8; 32] = hasher.finalize().into();
    let mut random = [0; 10];
    random.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    let millis = match delivery.id.is_by_attribute() {
        true => 0,
        false => delivery.published_at.timestamp_millis(),
    };
    uuid::Builder::from_unix_timestamp_millis(millis.try_into().unwrap_or_default(), &random).into_uuid()
}
