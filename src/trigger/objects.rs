//! Objects of landing buckets, as events tell of them: read by their generation, and landed once.
//!
//! A small object goes the way of messages, and shares their commits. A larger one is a commit of its own, in the bounded
//! memory of a load. Both have the id of their generation, so it does not matter how often, by how many events and in which
//! form Google tells of it. Nothing is changed in the bucket.

use std::borrow::Cow;
use std::io::{Cursor, Read};
use std::sync::Arc;

use bytes::Bytes;
use iceberg::TableIdent;
use tokio::time::timeout_at;

use super::{Ack, Delivery, Envelope, Held, ObjectEvent, Receipt};
use crate::batch::{Shared, Writers, keep_whole};
use crate::config::{Config, Location, TableConfig};
use crate::decode::{Compression, NotUnpacked, Reason, RejectKind, unpack};
use crate::error::{Error, ErrorKind, Result};
use crate::load::{Incoming, Loaded, load_object};
use crate::route::{Route, Router};
use crate::storage::{Generation, Generations};
use crate::telemetry;

/// Up to here an object is a payload among others, in bytes as it is stored.
const SMALL: u64 = 1 << 20;

/// What a small object may unpack to, in bytes; what unpacks to more is loaded.
const SMALL_UNPACKED: usize = 8 << 20;

/// Lands the objects of the configuration's buckets.
#[derive(Debug)]
pub struct Objects {
    config: Arc<Config>,
    shared: Arc<Shared>,
    writers: Arc<Writers>,
    generations: Generations,
}

/// What becomes of an object's delivery.
enum Next<'a> {
    /// It is acknowledged.
    Done(Receipt),
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
        }
    }

    /// Lands an object, and answers its delivery, which has no payload yet.
    pub async fn land(&self, object: ObjectEvent, mut delivery: Delivery) {
        let until = delivery.deadline;
        let taken = timeout_at(
            until,
            self.take(&object, &delivery.envelope, &mut delivery.held, until),
        )
        .await;
        let taken = taken.unwrap_or_else(|_elapsed| {
            Err(Error::new(
                ErrorKind::Unavailable,
                "The object was not landed before the ack deadline; it is delivered again. If that goes on, raise the \
                 subscription's deadline and server.ack_deadline (600s at most), or load it: `landfast load`.",
            ))
        });
        match taken {
            Ok(Next::Done(receipt)) => delivery.ack.ack(receipt),
            Ok(Next::Letter(reason)) => keep_whole(&self.shared, delivery, &reason).await,
            Ok(Next::Write(ident, table, payload)) => {
                self.writers
                    .accept(ident, &table, Delivery { payload, ..delivery });
            }
            Err(error) => self.refuse(&object, delivery.ack, error),
        }
    }

    /// Reads the object, and loads it where it is large.
    async fn take(
        &self,
        object: &ObjectEvent,
        envelope: &Envelope,
        held: &mut Held,
        until: tokio::time::Instant,
    ) -> Result<Next<'_>> {
        if object.name.ends_with('/') && object.size == Some(0) {
            // What consoles make to show a folder.
            count("marker");
            return Ok(Next::Done(Receipt::default()));
        }
        let (ident, table) = match self.route(object) {
            Ok(to) => to,
            Err(reason) => return Ok(Next::Letter(reason)),
        };
        let generations = &self.generations;
        let opened = generations.open(&object.bucket, &object.name, object.generation);
        let Some(opened) = opened.await? else {
            count("gone");
            return Ok(Next::Done(Receipt::default()));
        };
        if opened.is_empty() {
            // No record, and nothing to remember.
            count("empty");
            return Ok(Next::Done(Receipt::default()));
        }
        let small = match opened.len() <= SMALL {
            true => read_small(opened, held).await?,
            false => Small::No(Box::new(opened.into_read())),
        };
        match small {
            Small::Plain(payload) => {
                count("read");
                Ok(Next::Write(ident, table, payload))
            }
            Small::No(bytes) => {
                // Of what may be held, as much as the columns of one payload: two loads at a time.
                held.grow(self.shared.limits.max_column_bytes().saturating_sub(held.bytes()))?;
                self.load(&ident, &table, (envelope, bytes), until).await
            }
        }
    }

    fn route(&self, object: &ObjectEvent) -> Result<(TableIdent, Cow<'_, TableConfig>), Reason> {
        let nowhere = |message: String| Reason {
            kind: RejectKind::NoRoute,
            message,
            path: None,
        };
        let bucket: Location = format!("gs://{}", object.bucket)
            .parse()
            .map_err(|_not_a_bucket| nowhere("the event's bucket has a name that none has".to_owned()))?;
        match Router::new(&self.config).route_file(&bucket, &object.name) {
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
        (envelope, bytes): (&Envelope, Box<dyn Read + Send>),
        until: tokio::time::Instant,
    ) -> Result<Next<'_>> {
        let incoming = Incoming {
            id: envelope.id.clone(),
            name: envelope.source.clone(),
            bytes,
        };
        match load_object(&self.shared, ident, table, incoming, until).await {
            Ok(loaded) => {
                count("loaded");
                self.tell(ident, envelope, &loaded);
                Ok(Next::Done(receipt(&loaded)))
            }
            Err(error) if error.kind() == ErrorKind::Rejected && error.names("file") => {
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
        metrics::counter!(telemetry::DELIVERIES, "outcome" => outcome).increment(1);
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

    fn refuse(&self, object: &ObjectEvent, ack: Ack, error: Error) {
        count("refused");
        metrics::counter!(telemetry::DELIVERIES, "outcome" => "nacked").increment(1);
        tracing::warn!(
            bucket = object.bucket,
            object = object.name,
            generation = object.generation,
            error = error.report(),
            "An object cannot be landed now; its event comes again."
        );
        ack.nack(error);
    }
}

/// A small object's bytes, unpacked, or what is loaded instead.
enum Small {
    Plain(Bytes),
    No(Box<dyn Read + Send>),
}

async fn read_small(opened: Generation, held: &mut Held) -> Result<Small> {
    held.grow(usize::try_from(opened.len()).unwrap_or(usize::MAX))?;
    let stored = opened.bytes().await?;
    let Some(compression) = Compression::of(&stored) else {
        return Ok(Small::Plain(stored));
    };
    held.grow(SMALL_UNPACKED)?;
    let before = held.bytes().saturating_sub(SMALL_UNPACKED);
    let unpacking = tokio::task::spawn_blocking(move || {
        let always = &mut |_bytes| Ok::<(), Error>(());
        let plain = unpack(compression, &stored, SMALL_UNPACKED, always);
        (stored, plain)
    });
    let (stored, plain) = unpacking.await.map_err(|error| {
        Error::new(ErrorKind::Unavailable, "The unpacking stopped; deliver it again.").with_source(error)
    })?;
    let grown = plain.as_ref().map_or(0, Bytes::len);
    held.shrink_to(before.saturating_add(grown));
    Ok(match plain {
        Ok(plain) => Small::Plain(plain),
        // A load says what is wrong with it, or has the room for it.
        Err(NotUnpacked::Rejected(_) | NotUnpacked::NoRoom(_)) => Small::No(Box::new(Cursor::new(stored))),
    })
}

fn receipt(loaded: &Loaded) -> Receipt {
    Receipt {
        row_count: loaded.row_count,
        dead_letter_count: loaded.dead_letter_count,
        snapshot_id: loaded.snapshot_id,
        duplicate: loaded.duplicate,
    }
}

/// Counts what became of an event of an object.
pub(super) fn count(outcome: &'static str) {
    metrics::counter!(telemetry::OBJECT_EVENTS, "outcome" => outcome).increment(1);
}
