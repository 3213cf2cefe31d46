//! Objects of landing buckets, as events tell of them: read by their generation, and landed once.
//!
//! A small object goes the way of messages, and shares their commits. A larger one is a commit of its own, in the bounded
//! memory of a load. Both have the id of their generation, so it does not matter how often, by how many events and in which
//! form Google tells of it. What landed is put away as `after` says: after the commit and before the acknowledgement, so that
//! an object that could not be put away this time comes again, is found in the ledger, and is put away then.

use std::borrow::Cow;
use std::convert::Infallible;
use std::io::{self, Cursor};
use std::sync::Arc;

use bytes::Bytes;
use iceberg::TableIdent;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::{Duration, Instant, sleep, timeout_at};

use super::{Ack, Delivery, Envelope, Held, Limits, ObjectEvent, Receipt};
use crate::batch::{Shared, Writers, keep_whole};
use crate::config::{After, Config, Location, TableConfig, generation_in, landed_name};
use crate::decode::{Compression, Reason, RejectKind, unpack};
use crate::error::{Error, ErrorKind, Result};
use crate::load::{Incoming, Loaded, landed_before, load_object};
use crate::publish::Publication;
use crate::route::{Route, Router};
use crate::storage::{Disposal, Disposed, Generation, Generations};
use crate::telemetry;

/// Up to here an object is a payload among others, in bytes as it is stored.
const SMALL: u64 = 1 << 20;

/// What a small object may unpack to, in bytes; what unpacks to more is loaded.
const SMALL_UNPACKED: usize = 8 << 20;

/// From the stop to the moment when a load is let go; what is left is for the answer.
const GRACE: Duration = Duration::from_secs(6);

/// Lands the objects of the configuration's buckets.
#[derive(Debug)]
pub struct Objects {
    config: Arc<Config>,
    shared: Arc<Shared>,
    writers: Arc<Writers>,
    generations: Generations,
    disposal: Disposal,
    /// One load at a time: what it takes is more than what is set aside for it.
    load: Semaphore,
    stop: watch::Sender<bool>,
    told: telemetry::Seldom,
}

/// What becomes of an object's delivery.
enum Next<'a> {
    /// It is acknowledged.
    Done(Receipt),
    /// All of it is where it belongs; it is put away, then acknowledged. Where no CPU comes after that, once BigQuery shows
    /// it.
    Landed(Receipt, After, Option<Publication>),
    /// It is kept as a letter.
    Letter(Reason),
    /// Its bytes go to the table's writer, who answers it.
    Write(TableIdent, Cow<'a, TableConfig>, Bytes),
}

impl Objects {
    /// Reads from the buckets of a configuration.
    pub fn new(config: Arc<Config>, shared: Arc<Shared>, writers: Arc<Writers>) -> Self {
        Self {
            config,
            shared,
            writers,
            generations: Generations::default(),
            disposal: Disposal::default(),
            load: Semaphore::new(1),
            stop: watch::Sender::new(false),
            told: telemetry::Seldom::default(),
        }
    }

    /// Lets a load that is under way go on for a while, and waits for its end.
    pub async fn close(&self) {
        self.stop.send_replace(true);
        // Never closed, so never an error.
        let _ended = self.load.acquire().await;
    }

    /// Lands an object, and answers its delivery, which has no payload yet.
    pub async fn land(&self, object: ObjectEvent, mut delivery: Delivery) {
        let until = delivery.deadline;
        let taking = self.take(&object, &delivery.envelope, &mut delivery.held, until);
        let taken = timeout_at(until, taking)
            .await
            .unwrap_or_else(|_elapsed| Err(too_late()));
        match taken {
            Ok(Next::Done(receipt)) => delivery.ack.ack(receipt),
            Ok(Next::Landed(receipt, after, publication)) => {
                // Its bytes are where they belong; the request's slot is held on.
                delivery.held.shrink_to(0);
                if let Some(publication) = publication {
                    // It has yet to be put away.
                    publication.visible_soon(half_of(until)).await;
                }
                self.settle(&object, after, delivery.ack, receipt, until).await;
            }
            Ok(Next::Letter(reason)) => keep_whole(&self.shared, delivery, &reason).await,
            Ok(Next::Write(ident, table, payload)) => {
                let delivery = Delivery { payload, ..delivery };
                self.write(&object, (ident, &table), delivery).await;
            }
            Err(error) => self.refuse(&object, delivery.ack, error),
        }
    }

    /// Hands a small object to its table's writer; where it is put away, waits for the commit and does so.
    async fn write(
        &self,
        object: &ObjectEvent,
        (ident, table): (TableIdent, &TableConfig),
        mut delivery: Delivery,
    ) {
        if table.after == After::Keep {
            self.writers.accept(ident, table, delivery);
            return;
        }
        // The slot stays here until the sender is answered, the bytes go with the rows.
        let bytes = delivery.held.bytes();
        let held = delivery.held.split(bytes);
        let _slot = std::mem::replace(&mut delivery.held, held);
        let (until, (ack, answer)) = (delivery.deadline, Ack::new());
        let sender = std::mem::replace(&mut delivery.ack, ack);
        self.writers.accept(ident, table, delivery);
        match answer.outcome().await {
            Ok(receipt) => self.settle(object, table.after, sender, receipt, until).await,
            Err(error) => sender.nack(error),
        }
    }

    /// Puts an object away that landed, and acknowledges it. One that may not be put away stays, and is acknowledged too.
    async fn settle(&self, object: &ObjectEvent, after: After, ack: Ack, receipt: Receipt, until: Instant) {
        if after == After::Keep {
            return ack.ack(receipt);
        }
        let put_away = self.put_away(object, after, until).await;
        let (bucket, name, generation) = (&object.bucket, &object.name, object.generation);
        let Err(error) = put_away else {
            count("put_away");
            tracing::debug!(
                bucket,
                object = name,
                generation,
                after = after.name(),
                "An object is put away."
            );
            return ack.ack(receipt);
        };
        let stays = error.kind() == ErrorKind::Rejected;
        let (outcome, message) = match stays {
            true => (
                "stays",
                "An object landed and stays where it is, since it may not be put away.",
            ),
            false => (
                "refused",
                "An object landed and is not put away yet; its event comes again.",
            ),
        };
        count(outcome);
        if let Some(count) = self.told.tell(message) {
            tracing::warn!(
                bucket,
                object = name,
                generation,
                error = error.report(),
                count,
                "{message}"
            );
        }
        match stays {
            true => ack.ack(receipt),
            false => ack.nack(error),
        }
    }

    async fn put_away(&self, object: &ObjectEvent, after: After, until: Instant) -> Result<()> {
        let disposed = Disposed {
            bucket: &object.bucket,
            name: &object.name,
            generation: object.generation,
        };
        let random = &self.shared.random;
        match after {
            After::Keep => Ok(()),
            After::Move => {
                let to = landed_name(&object.name, object.generation);
                self.disposal.rename(disposed, &to, random, until).await
            }
            After::Delete => self.disposal.delete(disposed, random, until).await,
        }
    }

    /// Reads the object, and loads it where it is large.
    async fn take(
        &self,
        object: &ObjectEvent,
        envelope: &Envelope,
        held: &mut Held,
        until: Instant,
    ) -> Result<Next<'_>> {
        if object.name.ends_with('/') && object.size == Some(0) {
            // What consoles make to show a folder.
            count("marker");
            return Ok(Next::Done(Receipt::default()));
        }
        // A message among others spends no more of their batch's time than a body may.
        let half = half_of(until);
        let is_copy = timeout_at(half, self.is_copy(object)).await;
        let is_copy = is_copy.map_err(|_elapsed| too_late())??;
        if is_copy == Some(true) {
            count("copy");
            return Ok(Next::Done(Receipt::default()));
        }
        let (ident, table) = match self.route(&object.bucket, &object.name) {
            Ok(to) => to,
            // Perhaps it was a copy, which no table has to take.
            Err(_nowhere) if is_copy.is_none() => {
                self.tell_gone(envelope);
                return Ok(Next::Done(Receipt::default()));
            }
            Err(reason) => {
                count("letter");
                return Ok(Next::Letter(reason));
            }
        };
        // Room before work: a bucket that is full of large objects is not asked for each of them in vain.
        let mut room = match object.size {
            Some(size) if size > SMALL => Some(self.room(held)?),
            _ => None,
        };
        let opening = self
            .generations
            .open(&object.bucket, &object.name, object.generation, half);
        let opened = timeout_at(half, opening).await.map_err(|_elapsed| too_late())?;
        let Some(opened) = opened? else {
            return self.gone((&ident, &table), envelope, until).await;
        };
        let read = if room.is_none() && opened.size() <= SMALL {
            let reading = read_small(opened, held, &self.shared.limits);
            timeout_at(half, reading).await.map_err(|_elapsed| too_late())??
        } else {
            Read::Large(Box::new(opened.into_read(until)))
        };
        match read {
            Read::Nothing if object.name.ends_with('/') => {
                count("marker");
                Ok(Next::Done(Receipt::default()))
            }
            Read::Nothing => {
                // No record, and nothing to remember.
                count("empty");
                Ok(Next::Landed(Receipt::default(), table.after, None))
            }
            Read::Payload(payload) => {
                count("read");
                Ok(Next::Write(ident, table, payload))
            }
            Read::Large(bytes) => {
                let _room = match room.take() {
                    Some(room) => room,
                    None => self.room(held)?,
                };
                self.load(&ident, &table, (envelope, bytes), until).await
            }
        }
    }

    /// Takes what a load needs: half of what may be held, so that messages keep the other half.
    fn room(&self, held: &mut Held) -> Result<SemaphorePermit<'_>> {
        let permit = self.load.try_acquire().map_err(|_taken| {
            Error::new(
                ErrorKind::Full,
                "Another large object is being loaded; deliver this one again later.",
            )
        })?;
        held.grow(self.shared.limits.max_column_bytes().saturating_sub(held.bytes()))?;
        Ok(permit)
    }

    /// Whether it is what was made of an object when that was moved; `None` when it is not there any more.
    async fn is_copy(&self, object: &ObjectEvent) -> Result<Option<bool>> {
        let Some(of) = generation_in(&object.name) else {
            return Ok(Some(false));
        };
        let asking = self
            .generations
            .is_copy(&object.bucket, &object.name, object.generation, of);
        asking.await
    }

    fn route(&self, bucket: &str, name: &str) -> Result<(TableIdent, Cow<'_, TableConfig>), Reason> {
        let nowhere = |message: String| Reason {
            kind: RejectKind::NoRoute,
            message,
            path: None,
        };
        let location: Location = format!("gs://{bucket}")
            .parse()
            .map_err(|_not_a_bucket| nowhere("the event's bucket has a name that none has".to_owned()))?;
        if location.bucket() != bucket {
            return Err(nowhere("the event's bucket has a name that none has".to_owned()));
        }
        match Router::new(&self.config).route_file(&location, name) {
            Route::Table(ident, table) => Ok((ident, table)),
            // An object goes to one table: its conditions are none on records.
            Route::ByRecord(_) => Err(nowhere("objects are not divided over tables".to_owned())),
            Route::Nowhere(why) => Err(nowhere(why)),
        }
    }

    /// Loads an object as one commit.
    async fn load(
        &self,
        ident: &TableIdent,
        table: &TableConfig,
        (envelope, bytes): (&Envelope, Box<dyn io::Read + Send>),
        until: Instant,
    ) -> Result<Next<'_>> {
        let incoming = Incoming {
            id: envelope.id.clone(),
            name: envelope.source.clone(),
            created: envelope.published_at,
            bytes,
        };
        let loading = load_object(&self.shared, ident, table, incoming, until);
        let mut stop = self.stop.subscribe();
        let time_is_over = async {
            drop(stop.wait_for(|stop| *stop).await);
            sleep(GRACE).await;
        };
        let loaded = tokio::select! {
            biased;
            loaded = loading => loaded,
            () = time_is_over => Err(Error::new(
                ErrorKind::ShuttingDown,
                "The process is stopping; deliver the object again.",
            )),
        };
        match loaded {
            Ok(loaded) => {
                count("loaded");
                self.tell(ident, envelope, &loaded);
                let publication = self.shared.publishers.waiting(ident);
                Ok(Next::Landed(Receipt::from(&loaded), table.after, publication))
            }
            Err(error) if error.kind() == ErrorKind::Rejected && error.names("file") => {
                count("letter");
                tracing::warn!(
                    table.ident = %ident,
                    object = envelope.source,
                    error = error.report(),
                    "An object cannot be loaded; it stays where it is, and a dead letter tells of it."
                );
                Ok(Next::Letter(Reason {
                    kind: RejectKind::Unloadable,
                    message: error.message().to_owned(),
                    path: None,
                }))
            }
            Err(error) => Err(error),
        }
    }

    fn tell(&self, ident: &TableIdent, envelope: &Envelope, loaded: &Loaded) {
        let outcome = if loaded.duplicate { "duplicate" } else { "landed" };
        telemetry::count_deliveries(outcome, 1);
        if loaded.snapshot_id.is_some() {
            let age = self.shared.clock.now() - envelope.published_at;
            let age = age.to_std().unwrap_or_default().as_secs_f64();
            metrics::histogram!(telemetry::FRESHNESS, "table" => ident.to_string()).record(age);
        }
        tracing::info!(
            table.ident = %ident,
            object = envelope.source,
            rows = loaded.row_count,
            dead_letters = loaded.dead_letter_count,
            duplicate = loaded.duplicate,
            "An object is loaded."
        );
    }

    /// What becomes of an event of a generation that is not there any more. It may have landed, and then the process may have
    /// ended before the letters of its rejected records counted.
    async fn gone(
        &self,
        (ident, table): (&TableIdent, &TableConfig),
        envelope: &Envelope,
        until: Instant,
    ) -> Result<Next<'_>> {
        let named = (&envelope.id, envelope.source.as_str());
        if let Some(loaded) = landed_before(&self.shared, ident, table, named, until).await? {
            count("landed_before");
            return Ok(Next::Done(Receipt::from(&loaded)));
        }
        self.tell_gone(envelope);
        Ok(Next::Done(Receipt::default()))
    }

    fn tell_gone(&self, envelope: &Envelope) {
        count("gone");
        if let Some(count) = self.told.tell("gone") {
            tracing::warn!(
                object = envelope.source,
                generation = envelope.id.name(),
                count,
                "A generation of an object is not there any more; its event is acknowledged, and nothing of it lands."
            );
        }
    }

    fn refuse(&self, object: &ObjectEvent, ack: Ack, error: Error) {
        count("refused");
        // What looks like a copy that was put away may be nobody's.
        if generation_in(&object.name).is_none()
            && let Ok((ident, _table)) = self.route(&object.bucket, &object.name)
        {
            telemetry::table_not_loaded(&ident.to_string(), error.kind());
        }
        telemetry::count_deliveries("nacked", 1);
        if let Some(count) = self.told.tell(error.kind().name()) {
            tracing::warn!(
                bucket = object.bucket,
                object = object.name,
                generation = object.generation,
                error = error.report(),
                count,
                "An object cannot be landed now; its event comes again."
            );
        }
        ack.nack(error);
    }
}

/// The moment when half of the time until then is over.
fn half_of(until: Instant) -> Instant {
    until - until.saturating_duration_since(Instant::now()) / 2
}

fn too_late() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "The object was not read and committed in time; its event comes again. If that goes on, raise the subscription's \
         deadline and server.ack_deadline, to 600s at most, or write smaller objects.",
    )
}

/// What was read of an object.
enum Read {
    Nothing,
    /// All of it, unpacked.
    Payload(Bytes),
    /// What a load reads.
    Large(Box<dyn io::Read + Send>),
}

/// Reads an object that is small as it is stored.
async fn read_small(opened: Generation, held: &mut Held, limits: &Limits) -> Result<Read> {
    held.grow(usize::try_from(opened.size()).unwrap_or(usize::MAX))?;
    let stored = opened.bytes().await?;
    if stored.is_empty() {
        return Ok(Read::Nothing);
    }
    let Some(compression) = Compression::of(&stored) else {
        return Ok(Read::Payload(stored));
    };
    let before = held.bytes();
    let most = SMALL_UNPACKED.min(limits.max_unpacked_bytes());
    held.grow(most)?;
    let unpacking = tokio::task::spawn_blocking(move || {
        let plain = unpack(compression, &stored, most, &mut |_bytes| Ok::<(), Infallible>(()));
        (stored, plain)
    });
    let (stored, plain) = unpacking.await.map_err(|error| {
        Error::new(ErrorKind::Unavailable, "The unpacking stopped; deliver it again.").with_source(error)
    })?;
    let grown = plain.as_ref().map_or(0, Bytes::len);
    held.shrink_to(before.saturating_add(grown));
    Ok(match plain {
        Ok(plain) if plain.is_empty() => Read::Nothing,
        Ok(plain) => Read::Payload(plain),
        // A load says what is wrong with it, or has the room for it.
        Err(_) => Read::Large(Box::new(Cursor::new(stored))),
    })
}

/// Counts what became of an event of an object.
pub(super) fn count(outcome: &'static str) {
    metrics::counter!(telemetry::OBJECT_EVENTS, "outcome" => outcome).increment(1);
}
