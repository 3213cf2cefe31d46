//! Dead letters: what could not become a row, kept with its reason and its raw bytes (invariant 3).
//!
//! The rejected records of one delivery are one object of NDJSON lines under a name that is a pure function of the
//! delivery, the table and which of its bytes were rejected, created only if absent: a redelivery finds it and doubles
//! nothing. One that rejects other records than before, since the table or its configuration changed, gets a name of
//! its own: what is rejected is never hidden by a letter of something else.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::decode::{Reason, RejectedRecord};
use crate::error::Result;
use crate::storage::{Creation, Store};
use crate::telemetry;
use crate::trigger::Envelope;

/// Where dead letters go.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    store: Store,
    /// Keeps the log of letters short.
    told: Arc<telemetry::Seldom>,
}

/// One line: a record, or a whole delivery, that could not become a row.
#[derive(Debug, Serialize)]
struct DeadLetter<'a> {
    /// Delivery id and position; the delivery id alone when the whole delivery is meant.
    id: String,
    reason: LetterReason<'a>,
    table: Option<&'a str>,
    source: &'a str,
    delivery_id: String,
    /// The record's number in the payload, from 0; absent when the whole delivery is meant.
    position: Option<u64>,
    published_at: String,
    attributes: &'a std::collections::BTreeMap<String, String>,
    /// The record's bytes as they came, in standard base64.
    raw: String,
    landfast_version: &'static str,
}

#[derive(Debug, Serialize)]
struct LetterReason<'a> {
    kind: &'static str,
    message: &'a str,
    path: Option<&'a str>,
}

impl DeadLetters {
    /// Keeps dead letters in a store.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            told: Arc::default(),
        }
    }

    /// Writes the rejected records of one delivery for one table. Durable on `Ok`; repeating it writes nothing new.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Unavailable`]: the delivery must not be acknowledged.
    pub async fn write_records(
        &self,
        delivery: &Envelope,
        table: &str,
        records: &[RejectedRecord],
    ) -> Result<()> {
        let letters = records.iter().map(|record| {
            letter(
                delivery,
                Some(table),
                Some(record.position),
                &record.reason,
                &record.raw,
            )
        });
        let spans = records.iter().map(|record| (record.position, record.raw.len()));
        let key = key(delivery, Some(table), spans);
        if self.create(&key, letters).await? == Creation::Created {
            records
                .iter()
                .for_each(|record| self.count(table, &record.reason));
        }
        Ok(())
    }

    /// Writes a delivery that cannot become rows at all. Durable on `Ok`; repeating it writes nothing new.
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
        let whole = letter(delivery, table, None, reason, payload);
        let key = key(delivery, table, std::iter::once((0, payload.len())));
        if self.create(&key, std::iter::once(whole)).await? == Creation::Created {
            self.count(table.unwrap_or("none"), reason);
        }
        Ok(())
    }

    /// Counts a letter, and tells of the first and then once a minute: they are acknowledged, so nobody else will.
    fn count(&self, table: &str, reason: &Reason) {
        let labels = [
            ("table", table.to_owned()),
            ("reason", reason.kind.name().to_owned()),
        ];
        metrics::counter!(telemetry::DEAD_LETTERS, &labels).increment(1);
        let kind = reason.kind.name();
        if let Some(count) = self.told.tell(&format!("{table} {kind}")) {
            tracing::warn!(
                table.ident = table,
                reason = kind,
                detail = reason.message,
                count,
                location = self.store.root(),
                "Records are dead-lettered."
            );
        }
    }

    async fn create<'a>(&self, key: &str, letters: impl Iterator<Item = DeadLetter<'a>>) -> Result<Creation> {
        let mut lines = Vec::new();
        for letter in letters {
            // Strings, numbers and maps of strings always serialise.
            if let Ok(line) = serde_json::to_vec(&letter) {
                lines.extend_from_slice(&line);
                lines.push(b'\n');
            }
        }
        self.store.create(key, Bytes::from(lines)).await
    }
}

/// `<table>/<publish date>/<128-bit hash of the delivery id>-<64-bit hash of what was rejected>.ndjson`.
///
/// A record is known by its position and length: its bytes, the rules of a version and its words may not matter.
fn key(delivery: &Envelope, table: Option<&str>, rejected: impl Iterator<Item = (u64, usize)>) -> String {
    let folder = table.unwrap_or("unrouted");
    let date = delivery.published_at.format("%Y-%m-%d");
    let mut hasher = Sha256::new();
    for (position, length) in rejected {
        hasher.update(position.to_be_bytes());
        hasher.update((length as u64).to_be_bytes());
    }
    let digest: [u8; 32] = hasher.finalize().into();
    let which = digest
        .iter()
        .take(8)
        .fold(0u64, |hash, byte| (hash << 8) | u64::from(*byte));
    format!("{folder}/{date}/{:032x}-{which:016x}.ndjson", delivery.id.hash())
}

fn letter<'a>(
    delivery: &'a Envelope,
    table: Option<&'a str>,
    position: Option<u64>,
    reason: &'a Reason,
    raw: &Bytes,
) -> DeadLetter<'a> {
    let delivery_id = delivery.id.to_string();
    DeadLetter {
        id: position.map_or_else(
            || delivery_id.clone(),
            |position| format!("{delivery_id}/{position}"),
        ),
        reason: LetterReason {
            kind: reason.kind.name(),
            message: &reason.message,
            path: reason.path.as_deref(),
        },
        table,
        source: &delivery.source,
        delivery_id,
        position,
        published_at: delivery
            .published_at
            .to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true),
        attributes: &delivery.attributes,
        raw: BASE64.encode(raw),
        landfast_version: env!("CARGO_PKG_VERSION"),
    }
}
