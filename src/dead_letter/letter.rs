//! One line: a record, or a whole delivery, that could not become a row.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::decode::{Reason, RejectedRecord};
use crate::trigger::{DeliveryId, Envelope};

/// A letter as it is written, and read back to be replayed.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeadLetter<'a> {
    /// Delivery id and position; the delivery id alone when the whole delivery is meant.
    pub id: String,
    /// Why.
    pub reason: LetterReason<'a>,
    /// The table it was for, if any wanted it.
    pub table: Option<Cow<'a, str>>,
    /// What woke us, as its sender names it.
    pub source: Cow<'a, str>,
    /// As people name the delivery.
    pub delivery_id: String,
    /// As the ledger knows it.
    pub identity: Cow<'a, DeliveryId>,
    /// The record's number in the payload, from 0; absent when the whole delivery is meant.
    pub position: Option<u64>,
    /// Of a whole request with an `Idempotency-Key`, or a whole message with its `dedupe_attribute`: the payload's fingerprint, by
    /// which another one with its key or name is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    /// Of a part of a delivery that several tables have: a digest of which record went to which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    division: Option<String>,
    /// When the sender published it.
    pub published_at: DateTime<Utc>,
    /// The sender's attributes.
    pub attributes: Cow<'a, BTreeMap<String, String>>,
    /// The record's bytes as they came, in standard base64.
    raw: String,
    landfast_version: Cow<'a, str>,
}

/// Why a record is not a row, in a letter.
#[derive(Debug, Serialize, Deserialize)]
pub struct LetterReason<'a> {
    /// The stable name of the kind.
    pub kind: Cow<'a, str>,
    /// A sentence without values.
    pub message: Cow<'a, str>,
    /// Where in the record.
    pub path: Option<Cow<'a, str>>,
}

impl<'a> From<&'a Reason> for LetterReason<'a> {
    fn from(reason: &'a Reason) -> Self {
        Self {
            kind: reason.kind.name().into(),
            message: reason.message.as_str().into(),
            path: reason.path.as_deref().map(Cow::from),
        }
    }
}

impl<'a> DeadLetter<'a> {
    pub(super) fn of_record(
        delivery: &'a Envelope,
        table: Option<&'a str>,
        record: &'a RejectedRecord,
    ) -> Self {
        let letter = Self::of_delivery(delivery, table, &record.reason, &record.raw);
        Self {
            id: format!("{}/{}", delivery.id, record.position),
            position: Some(record.position),
            // These are the delivery's, which a record is not.
            fingerprint: None,
            division: None,
            ..letter
        }
    }

    pub(super) fn of_delivery(
        delivery: &'a Envelope,
        table: Option<&'a str>,
        reason: &'a Reason,
        payload: &Bytes,
    ) -> Self {
        let delivery_id = delivery.id.to_string();
        Self {
            id: delivery_id.clone(),
            reason: LetterReason::from(reason),
            table: table.map(Cow::from),
            source: delivery.source.as_str().into(),
            delivery_id,
            identity: Cow::Borrowed(&delivery.id),
            position: None,
            fingerprint: delivery
                .fingerprint
                .map(|fingerprint| format!("{fingerprint:032x}")),
            division: delivery.division.map(|division| format!("{division:016x}")),
            published_at: delivery.published_at,
            attributes: Cow::Borrowed(&delivery.attributes),
            raw: BASE64.encode(payload),
            landfast_version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    /// Whether it only tells of its delivery, and holds nothing of it.
    pub fn is_without_bytes(&self) -> bool {
        self.raw.is_empty()
    }

    /// Of a whole delivery with a key or a publisher's name: the fingerprint that its table's ledger is to keep.
    pub fn fingerprint(&self) -> Option<u128> {
        let fingerprint = self.fingerprint.as_deref()?;
        u128::from_str_radix(fingerprint, 16).ok()
    }

    /// Of a part of a delivery: the division that its table's ledger is to keep.
    pub fn division(&self) -> Option<u64> {
        let division = self.division.as_deref()?;
        u64::from_str_radix(division, 16).ok()
    }

    /// How many bytes the record has.
    pub fn byte_count(&self) -> usize {
        let padding = self.raw.bytes().rev().take_while(|byte| *byte == b'=').count();
        (self.raw.len() / 4 * 3).saturating_sub(padding)
    }

    /// The record's bytes; none if they are damaged.
    pub fn raw(&self) -> Option<Bytes> {
        BASE64.decode(&self.raw).ok().map(Bytes::from)
    }
}

/// Letters as lines.
pub fn lines<'a>(letters: impl Iterator<Item = DeadLetter<'a>>) -> Bytes {
    let mut lines = Vec::new();
    for letter in letters {
        // Strings, numbers and maps of strings always serialise.
        if let Ok(line) = serde_json::to_vec(&letter) {
            lines.extend_from_slice(&line);
            lines.push(b'\n');
        }
    }
    lines.into()
}

/// The lines that are letters, in their order.
pub fn parse(bytes: &[u8]) -> impl Iterator<Item = DeadLetter<'static>> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
}

#[cfg(test)]
mod tests {
    use crate::decode::RejectKind;

    use super::*;

    #[test]
    fn line_takes_no_more_than_is_reckoned_with() {
        let hard = "\u{1}\"\\ä".repeat(50);
        for text in ["", "x", &hard] {
            let published_at = DateTime::UNIX_EPOCH;
            let envelope = Envelope {
                id: DeliveryId::message(text, text, published_at),
                source: text.to_owned(),
                published_at,
                received_at: published_at,
                fingerprint: None,
                division: None,
                attributes: (0..100)
                    .map(|place| (format!("{place}{text}"), text.to_owned()))
                    .collect(),
            };
            let record = RejectedRecord {
                position: u64::MAX,
                reason: Reason {
                    kind: RejectKind::MissingRequired,
                    message: "x".repeat(100),
                    path: Some("$".repeat(256)),
                },
                raw: Bytes::from(vec![0; 100]),
            };
            let table = "namespace.of.some.levels.and_a_table";
            let letters = std::iter::repeat_with(|| DeadLetter::of_record(&envelope, Some(table), &record));
            let written = lines(letters.take(10)).len();
            let reckoned = 10 * (record.cost() + envelope.letter_bytes());
            assert!(
                (reckoned / 2..reckoned).contains(&written),
                "{written} of {reckoned}"
            );
        }
    }
}
