//! One letter: where it goes, under which identity, and what became of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iceberg::TableIdent;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, sleep};

use super::Selection;
use crate::batch::opening::{TableSettings, decoder};
use crate::batch::{Shared, Writers, accept_by_record, has_other_content};
use crate::config::{Config, TableConfig};
use crate::dead_letter::{DeadLetter, LetterName, REASON};
use crate::decode::{Decoder, RejectKind};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{Entry, Kept, Known};
use crate::route::{ByRecord, Route, Router};
use crate::telemetry::Trace;
use crate::trigger::{Ack, Answer, Delivery, DeliveryId, Envelope, Held, Receipt};

/// How long a letter may take to its commit.
const PATIENCE: Duration = Duration::from_secs(300);

/// What became of a letter.
#[derive(Debug)]
pub(super) enum Fate {
    /// Its rows are committed; what else was in it are new letters.
    Landed { rows: u64, rejected: u64 },
    /// It was in the table already.
    There,
    /// It is no row yet, of this kind.
    Rejected(String),
    /// Nothing can tell whether it is in the table.
    TooOld,
    /// Not this time.
    Failed(Error),
}

/// Sends letters to their tables' writers.
pub(super) struct Sender<'a> {
    config: &'a Config,
    shared: &'a Shared,
    writers: &'a Arc<Writers>,
    selection: &'a Selection,
    /// Letters on their way: fewer than the requests that may be held.
    slots: Semaphore,
    /// In a dry run, the tables as they are now.
    tried: Mutex<HashMap<TableIdent, Option<Trial>>>,
}

/// A table that letters are tried on.
struct Trial {
    head: crate::commit::Head,
    decoder: Decoder,
}

impl<'a> Sender<'a> {
    pub(super) fn new(
        config: &'a Config,
        shared: &'a Shared,
        writers: &'a Arc<Writers>,
        selection: &'a Selection,
    ) -> Self {
        // At 80 % of the slots the writers would flush ever smaller batches.
        let slots = config.server.max_in_flight_requests.saturating_mul(3) / 4;
        Self {
            config,
            shared,
            writers,
            selection,
            slots: Semaphore::new(slots.clamp(1, Semaphore::MAX_PERMITS)),
            tried: Mutex::default(),
        }
    }

    /// Sends a letter, and waits for what becomes of it: for which table, and how. No fate if the selection is for another
    /// table.
    pub(super) async fn send(&self, name: &LetterName, letter: &DeadLetter<'_>) -> (String, Option<Fate>) {
        let unrouted = || name.table().to_owned();
        let (ident, settings) = match self.route(letter) {
            Ok(Route::Table(ident, settings)) => (ident, settings),
            Ok(_) if self.selection.table.is_some() => return (unrouted(), None),
            Ok(Route::ByRecord(rules)) => {
                let fate = self.by_record(name, letter, &rules).await;
                return (unrouted(), Some(fate.unwrap_or_else(Fate::Failed)));
            }
            Ok(Route::Nowhere(_)) => {
                return (unrouted(), Some(Fate::Rejected(letter.reason.kind.to_string())));
            }
            Err(error) => return (unrouted(), Some(Fate::Failed(error))),
        };
        if self.selection.table.as_ref().is_some_and(|table| *table != ident) {
            return (unrouted(), None);
        }
        let fate = self.fate(name, letter, &ident, &settings).await;
        (ident.to_string(), Some(fate.unwrap_or_else(Fate::Failed)))
    }

    /// Where a letter goes: to the table it was for, or where its delivery would go now.
    fn route(&self, letter: &DeadLetter<'_>) -> Result<Route<'a>> {
        let router = Router::new(self.config);
        if let Some(table) = letter.table.as_deref() {
            let ident = router.named(table)?;
            let settings = router.settings(&ident);
            return Ok(Route::Table(ident, settings));
        }
        // Not even its bytes are known; those of an object that landed nowhere are still in its bucket.
        let is_elsewhere = letter.identity.is_object() && letter.is_without_bytes();
        if is_elsewhere || letter.reason.kind == RejectKind::BadBase64.name() {
            return Ok(Route::Nowhere(String::new()));
        }
        Ok(router.route(&self.envelope(letter, letter.identity.clone().into_owned())))
    }

    /// The tables of its records, where these tell them.
    async fn by_record(
        &self,
        name: &LetterName,
        letter: &DeadLetter<'_>,
        rules: &ByRecord<'_>,
    ) -> Result<Fate> {
        let raw = raw_of(letter)?;
        if self.selection.dry_run {
            return Ok(Fate::Landed { rows: 0, rejected: 0 });
        }
        let _slot = self.slots.acquire().await;
        let (delivery, answer) = self.delivery(letter, &raw, identity(name, letter)).await?;
        // Of a redivided delivery tables do have parts, whatever they remember.
        let is_redivided = letter.reason.kind == RejectKind::Redivided.name();
        let may_trust = self.selection.too_old && letter.position.is_none() && !is_redivided;
        let on_trust = may_trust.then(|| on_trust(name));
        accept_by_record(self.shared, self.writers, rules, delivery, on_trust).await;
        outcome(answer).await
    }

    async fn fate(
        &self,
        name: &LetterName,
        letter: &DeadLetter<'_>,
        ident: &TableIdent,
        settings: &TableConfig,
    ) -> Result<Fate> {
        let raw = raw_of(letter)?;
        let id = identity(name, letter);
        let fate = self.deliver(letter, &raw, id, ident, settings).await?;
        match fate {
            Fate::TooOld if self.selection.too_old && letter.position.is_none() => {
                self.deliver(letter, &raw, on_trust(name), ident, settings).await
            }
            fate => Ok(fate),
        }
    }

    async fn deliver(
        &self,
        letter: &DeadLetter<'_>,
        raw: &Bytes,
        id: DeliveryId,
        ident: &TableIdent,
        settings: &TableConfig,
    ) -> Result<Fate> {
        if self.selection.dry_run {
            let envelope = self.envelope(letter, id);
            return self.attempt(&envelope, raw, ident, settings).await;
        }
        let _slot = self.slots.acquire().await;
        let (delivery, answer) = self.delivery(letter, raw, id).await?;
        // What comes while one batch commits is the next: nothing is gained by waiting.
        let mut settings = settings.clone();
        settings.batch.commit_interval = Duration::ZERO;
        self.writers.accept(ident.clone(), &settings, delivery);
        outcome(answer).await
    }

    async fn delivery(
        &self,
        letter: &DeadLetter<'_>,
        raw: &Bytes,
        id: DeliveryId,
    ) -> Result<(Delivery, Answer)> {
        let (ack, answer) = Ack::new();
        let delivery = Delivery {
            envelope: self.envelope(letter, id),
            payload: raw.clone(),
            ack,
            held: self.hold(raw.len()).await?,
            deadline: Instant::now() + PATIENCE,
            trace: Trace::default(),
            is_replay: true,
            part_of: None,
        };
        Ok((delivery, answer))
    }

    /// Takes room for a payload, and waits for it while others hold theirs.
    async fn hold(&self, bytes: usize) -> Result<Held> {
        let limits = &self.shared.limits;
        loop {
            let mut held = limits.admit()?;
            match held.grow(bytes) {
                Ok(()) => return Ok(held),
                Err(error) if limits.held_requests() <= 1 => return Err(error),
                Err(_) => drop(held),
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn envelope(&self, letter: &DeadLetter<'_>, id: DeliveryId) -> Envelope {
        // A record goes its own way, and so does what lands on its sender's word: only the delivery itself has these.
        let is_itself = id == *letter.identity;
        Envelope {
            division: letter.division().filter(|_| is_itself),
            id,
            source: letter.source.to_string(),
            published_at: letter.published_at,
            received_at: self.shared.clock.now(),
            fingerprint: letter.fingerprint().filter(|_| is_itself),
            attributes: letter.attributes.clone().into_owned(),
        }
    }

    // --- without changing anything ------------------------------------------------------------------------------

    /// Says what would become of a letter, as far as that can be known without a commit.
    async fn attempt(
        &self,
        envelope: &Envelope,
        raw: &Bytes,
        ident: &TableIdent,
        settings: &TableConfig,
    ) -> Result<Fate> {
        let mut tried = self.tried.lock().await;
        if !tried.contains_key(ident) {
            let trial = self.trial(ident, settings).await?;
            tried.insert(ident.clone(), trial);
        }
        let Some(Some(trial)) = tried.get_mut(ident) else {
            // There is no table yet: the first records make it.
            return Ok(Fate::Landed { rows: 0, rejected: 0 });
        };
        let entry = Entry::from(&envelope.id);
        let ledger = self.shared.engine.ledger();
        let known = ledger
            .check(trial.head.ledger(), std::slice::from_ref(&entry))
            .await?;
        match known.first() {
            Some(Known::Landed(value)) if has_other_content(&Kept::decode(value), envelope.content()) => {
                return Ok(Fate::Rejected(RejectKind::OtherContent.name().to_owned()));
            }
            Some(Known::Landed(_)) => return Ok(Fate::There),
            Some(Known::TooOld) => return Ok(Fate::TooOld),
            _ => {}
        }
        let limits = &self.shared.limits;
        let plain = match crate::decode::decompress(raw.clone(), limits.max_unpacked_bytes()) {
            Ok(plain) => plain,
            Err(reason) => return Ok(Fate::Rejected(reason.kind.name().to_owned())),
        };
        let mut rejected = Vec::new();
        let most = limits.max_column_bytes();
        let rows = trial.decoder.decode(envelope, &plain, most, &mut rejected);
        let _counted = trial.decoder.finish()?;
        Ok(match rejected.first() {
            Some(first) if rows == 0 => Fate::Rejected(first.reason.kind.name().to_owned()),
            _ => Fate::Landed {
                rows: rows as u64,
                rejected: rejected.len() as u64,
            },
        })
    }

    async fn trial(&self, ident: &TableIdent, settings: &TableConfig) -> Result<Option<Trial>> {
        let engine = &self.shared.engine;
        let Some(table) = engine.catalog().find_table(ident).await? else {
            return Ok(None);
        };
        let decoder = decoder(&TableSettings::from(settings), table.current_schema_ref())?;
        let head = engine.head(table).await?;
        Ok(Some(Trial { head, decoder }))
    }
}

/// A record is known by where it is kept; a whole delivery keeps its name.
fn identity(name: &LetterName, letter: &DeadLetter<'_>) -> DeliveryId {
    match letter.position {
        Some(position) => DeliveryId::letter(name.path(), &position.to_string()),
        None => letter.identity.clone().into_owned(),
    }
}

/// What a whole delivery is known by that lands on the caller's word.
fn on_trust(name: &LetterName) -> DeliveryId {
    DeliveryId::letter(name.path(), "whole")
}

fn raw_of(letter: &DeadLetter<'_>) -> Result<Bytes> {
    letter.raw().ok_or_else(|| {
        let message = "The letter's `raw` is not base64; it stays as it is.";
        Error::new(ErrorKind::Rejected, message)
    })
}

async fn outcome(answer: Answer) -> Result<Fate> {
    match answer.outcome().await {
        Ok(Receipt { duplicate: true, .. }) => Ok(Fate::There),
        Ok(receipt) => Ok(Fate::Landed {
            rows: receipt.row_count,
            rejected: receipt.dead_letter_count,
        }),
        Err(error) => fate_of(error),
    }
}

/// A refusal that is the letter's own, or a failure.
fn fate_of(error: Error) -> Result<Fate> {
    match error.context(REASON) {
        Some(kind) if kind == RejectKind::TooOldToProve.name() => Ok(Fate::TooOld),
        Some(kind) if error.kind() == ErrorKind::Rejected => Ok(Fate::Rejected(kind.to_owned())),
        _ => Err(error),
    }
}
