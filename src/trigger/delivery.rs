//! A delivery: one thing to be acknowledged, its identity, and what is known of it.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use uuid::Uuid;

use super::answer::Ack;
use super::limits::Held;
use crate::ledger::{Entry, Space};
use crate::telemetry::Trace;

/// The identity of a delivery, equal for every redelivery of it whatever its transport.
///
/// `index_time` is a pure function of the thing delivered (a message's publish time floored to the second),
/// never of this event's arrival: the ledger looks ids up by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeliveryId {
    space: Space,
    scope: String,
    name: String,
    index_time: i64,
}

impl DeliveryId {
    /// The id of a Pub/Sub message: the source's configured name (default: the full subscription name) and
    /// the `messageId`, which is unique per topic and stable over redelivery.
    pub fn message(
        source: impl Into<String>,
        message_id: impl Into<String>,
        publish_time: DateTime<Utc>,
    ) -> Self {
        Self {
            space: Space::Message,
            scope: source.into(),
            name: message_id.into(),
            index_time: publish_time.trunc_subsecs(0).timestamp(),
        }
    }

    /// The id of an object of a Cloud Storage bucket: bucket, name and generation. What writes the object anew makes a new
    /// generation, so another delivery; how many events tell of one, and under which message ids, does not matter.
    ///
    /// Its index time is made of the generation, which has been the microsecond of the object's creation so far. Google
    /// [promises](https://cloud.google.com/storage/docs/metadata#generation-number) no such meaning, and none is needed:
    /// whatever the numbers are, they keep objects that came together together in the ledger.
    pub fn object(bucket: &str, name: &str, generation: i64) -> Self {
        Self {
            space: Space::Kept,
            // A bucket's name has no slash.
            scope: format!("gs://{bucket}/{name}"),
            name: generation.to_string(),
            index_time: generation.div_euclid(1_000_000),
        }
    }

    /// The id of a loaded file: its name without folders, and the SHA-256 of its bytes as they are stored. The same
    /// file loaded from another folder is the same delivery.
    pub fn file(name: impl Into<String>, content: &[u8; 32]) -> Self {
        let hash: String = content.iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            space: Space::Kept,
            scope: name.into(),
            name: hash,
            index_time: 0,
        }
        .spread()
    }

    /// The id of a file that is loaded once more on purpose.
    pub fn file_again(name: impl Into<String>, content: &[u8; 32], load: Uuid) -> Self {
        let file = Self::file(name, content);
        Self {
            name: format!("{}#{load}", file.name),
            ..file
        }
        .spread()
    }

    /// The id of a record that is replayed: the object of dead letters that it is in, and its place there.
    pub fn letter(object: impl Into<String>, place: &str) -> Self {
        Self {
            space: Space::Kept,
            scope: object.into(),
            name: place.to_owned(),
            index_time: 0,
        }
        .spread()
    }

    /// The id of rows that were sent directly, without a key: random, so a request that is sent again is another
    /// delivery, and lands again.
    pub fn request(source: impl Into<String>, id: Uuid, received_at: DateTime<Utc>) -> Self {
        Self {
            space: Space::Request,
            scope: source.into(),
            name: id.to_string(),
            // Made with the id, so as much a function of it as a publish time is.
            index_time: received_at.trunc_subsecs(0).timestamp(),
        }
    }

    /// The id of rows that were sent directly with an `Idempotency-Key`: whose key it is, and the key.
    pub fn keyed(principal: impl Into<String>, key: impl Into<String>) -> Self {
        Self {
            space: Space::Request,
            scope: principal.into(),
            name: key.into(),
            index_time: 0,
        }
        .spread()
    }

    /// The id of a message whose publisher names it in an attribute: the source's configured name, the attribute's, and its
    /// value. Copies of it may have other message ids and publish times.
    ///
    /// Forgotten as a request with a key is. A source's name has no `#`, so no key's scope is equal.
    pub fn by_attribute(source: &str, attribute: &str, value: impl Into<String>) -> Self {
        Self {
            space: Space::Request,
            scope: format!("{source}#{attribute}"),
            name: value.into(),
            index_time: 0,
        }
        .spread()
    }

    /// Gives an id that has no time one made of its hash: ids lie apart in the ledger then, and looking one up reads a
    /// small part of a segment.
    fn spread(self) -> Self {
        let index_time = (self.hash() >> 97).try_into().unwrap_or_default();
        Self { index_time, ..self }
    }

    /// Whether it is that of an object, by [`DeliveryId::object`].
    pub fn is_object(&self) -> bool {
        self.space == Space::Kept && self.scope.starts_with("gs://")
    }

    /// Whether it is that of an event that its publisher names, by [`DeliveryId::by_attribute`]: copies of it may tell other
    /// times, and other contents.
    pub fn is_by_attribute(&self) -> bool {
        self.space == Space::Request && self.scope.contains('#')
    }

    /// Where the name is unique: a source's name.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// The name within the scope: a message id.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Seconds since the Unix epoch, a pure function of the id.
    pub fn index_time(&self) -> i64 {
        self.index_time
    }

    /// The hashes that a delivery shown as `scope/name` may have: one a space and slash, since what is shown does not
    /// tell which is meant. None without a slash.
    pub fn hashes_of(shown: &str) -> Vec<u128> {
        let of = |(place, slash): (usize, &str)| {
            let (scope, rest) = shown.split_at(place);
            let name = rest.strip_prefix(slash).unwrap_or_default();
            Space::ALL.map(|space| {
                let id = Self {
                    space,
                    scope: scope.to_owned(),
                    name: name.to_owned(),
                    index_time: 0,
                };
                id.hash()
            })
        };
        shown.match_indices('/').flat_map(of).collect()
    }

    /// The first 128 bits of SHA-256 over the length-prefixed (space, scope, name).
    ///
    /// Clients choose some names, so a collision must be infeasible, not merely unlikely.
    pub fn hash(&self) -> u128 {
        let mut hasher = Sha256::new();
        for part in [self.space.letter(), &self.scope, &self.name] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        let digest: [u8; 32] = hasher.finalize().into();
        let (head, _) = digest.split_at(16);
        head.iter().fold(0, |hash, byte| (hash << 8) | u128::from(*byte))
    }
}

impl From<&DeliveryId> for Entry {
    fn from(id: &DeliveryId) -> Self {
        Self {
            space: id.space,
            index_time: id.index_time,
            id: id.hash(),
            value: Bytes::new(),
        }
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.scope, self.name)
    }
}

/// What is known of a delivery besides its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The delivery's identity.
    pub id: DeliveryId,
    /// What woke us, as its sender names it: a full subscription name; `http` for rows sent directly.
    pub source: String,
    /// When the sender published it.
    pub published_at: DateTime<Utc>,
    /// When this process received it.
    pub received_at: DateTime<Utc>,
    /// A digest of the payload, where the id promises nothing about it: a caller may use one key for two requests, a
    /// publisher one name for two events.
    pub fingerprint: Option<u128>,
    /// A digest of which record goes to which table, where it is a part of a delivery; none where it is all of it.
    pub division: Option<u64>,
    /// The sender's attributes.
    pub attributes: BTreeMap<String, String>,
}

impl Envelope {
    /// An attribute, also where HTTP has made its name lower-case.
    pub(crate) fn attribute(&self, name: &str) -> Option<&String> {
        attribute(&self.attributes, name)
    }

    /// Of a request with a key: what another body under the key is told by.
    pub(crate) fn request_fingerprint(&self) -> Option<u128> {
        self.fingerprint.filter(|_| !self.id.is_by_attribute())
    }

    /// Of an event that its publisher names: what another payload under the name is told by.
    pub(crate) fn content(&self) -> Option<u64> {
        let digest = self.fingerprint.filter(|_| self.id.is_by_attribute())?;
        u64::try_from(digest >> 64).ok()
    }

    /// What every dead letter of one of its records repeats of the delivery, as JSON.
    pub(crate) fn letter_bytes(&self) -> usize {
        let id = json_bytes(&self.id.scope) + json_bytes(&self.id.name);
        let attributes = self.attributes.iter();
        // Each with its quotes, colon and comma.
        let attributes = attributes.map(|(name, value)| json_bytes(name) + json_bytes(value) + 6);
        // The id names the letter and the delivery, and is there as the ledger knows it.
        json_bytes(&self.source) + id * 3 + attributes.sum::<usize>()
    }
}

/// An attribute by its name, also where HTTP has made that lower-case.
pub(super) fn attribute<'a>(attributes: &'a BTreeMap<String, String>, name: &str) -> Option<&'a String> {
    let lower = || attributes.get(&name.to_ascii_lowercase());
    attributes.get(name).or_else(lower)
}

/// 128 bits of a payload's SHA-256.
pub(super) fn fingerprint(payload: &[u8]) -> u128 {
    let digest: [u8; 32] = Sha256::digest(payload).into();
    digest
        .iter()
        .take(16)
        .fold(0, |hash, byte| (hash << 8) | u128::from(*byte))
}

/// What a text takes in JSON at the most, without its quotes.
fn json_bytes(text: &str) -> usize {
    let escaped = text.bytes().map(|byte| match byte {
        b'"' | b'\\' => 2,
        0..b' ' => 6,
        _ => 1,
    });
    escaped.sum()
}

/// One thing to be acknowledged: envelope, payload, ack handle, and what bounds it.
#[derive(Debug)]
pub struct Delivery {
    /// Identity and attributes.
    pub envelope: Envelope,
    /// The bytes as the sender published them, perhaps compressed.
    pub payload: Bytes,
    /// Acknowledges the delivery; dropping it is a nack.
    pub ack: Ack,
    /// Its share of the process's limits, given back when the delivery is done with.
    pub held: Held,
    /// When work on it stops: the sender's ack deadline less a margin.
    pub deadline: Instant,
    /// The trace that work on it belongs to, if there is one.
    pub trace: Trace,
    /// Whether it is a dead letter on its way back. If nothing of it becomes a row it is refused, and makes no new letter.
    pub is_replay: bool,
    /// What it is a part of; none where it is all of it.
    pub part_of: Option<PartOf>,
}

/// What a part knows of the payload that was divided.
#[derive(Debug)]
pub struct PartOf {
    /// Where the part's records were in it.
    pub positions: Vec<u64>,
    /// What the part's columns and rejected records may take: its share of what the payload's may, in bytes.
    pub max_bytes: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_different_spaces_never_meet() {
        let id = Uuid::nil();
        let request = DeliveryId::request("http", id, DateTime::UNIX_EPOCH);
        let message = DeliveryId::message("http", id.to_string(), DateTime::UNIX_EPOCH);
        assert_eq!(request.to_string(), message.to_string());
        assert_ne!(request, message);
        assert_ne!(request.hash(), message.hash());
    }

    /// Whatever names them: a publisher's event, a message, a request's key.
    #[test]
    fn names_of_events_meet_no_others() {
        let event = DeliveryId::by_attribute("orders", "event_id", "7");
        let others = [
            DeliveryId::by_attribute("orders", "id", "7"),
            DeliveryId::by_attribute("refunds", "event_id", "7"),
            DeliveryId::message("orders", "7", DateTime::UNIX_EPOCH),
            DeliveryId::message("orders#event_id", "7", DateTime::UNIX_EPOCH),
            DeliveryId::keyed("orders", "7"),
            DeliveryId::keyed("idempotency-key", "7"),
        ];
        assert!(others.iter().all(|other| other.hash() != event.hash()));
    }

    #[test]
    fn hash_keeps_scope_and_name_apart() {
        let at = DateTime::UNIX_EPOCH;
        let left = DeliveryId::message("ab", "c", at);
        let right = DeliveryId::message("a", "bc", at);
        assert_ne!(left.hash(), right.hash());
    }

    /// Tables remember these numbers. If one of them changes, whatever comes again after the upgrade lands twice.
    ///
    /// They were computed in Python from docs/exactly-once.md §2 and decision 0006, not by this code: for the parts space,
    /// scope and name `sha256(b"".join(len(part).to_bytes(8, "big") + part)).hexdigest()[:32]`, each part in UTF-8, and,
    /// where an id has no time, the first 31 bits of that.
    #[test]
    fn ids_are_the_same_in_every_version() {
        let at: DateTime<Utc> = "2026-01-02T03:04:05.987654321Z".parse().unwrap();
        let uuid = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        let content: [u8; 32] = Sha256::digest(b"id\n1\n").into();
        let object = "shop.orders/2026-01-02/019b7ca6-2923-7707-8707-070707070707.00000000000000000000000000000abc.ndjson";
        let (message, file) = ("projects/p/subscriptions/orders", "größe.csv");
        for (id, space, hash, index_time) in [
            (
                DeliveryId::message(message, "1234567890", at),
                Space::Message,
                0xf897_4180_7a46_3a22_b159_73c4_9047_b3e2,
                1_767_323_045,
            ),
            (
                DeliveryId::object("landing", "orders/größe 1.csv", 1_767_323_045_987_654),
                Space::Kept,
                0x5e2d_0ba7_eedf_2584_9ef4_4375_3555_e96d,
                1_767_323_045,
            ),
            (
                DeliveryId::file(file, &content),
                Space::Kept,
                0x4719_2086_8fac_991c_1ab6_9681_13b1_42b7,
                596_414_531,
            ),
            (
                DeliveryId::file_again(file, &content, uuid),
                Space::Kept,
                0x17b9_c209_b0ad_ed9d_ce37_aa4b_db61_aeab,
                199_024_900,
            ),
            (
                DeliveryId::letter(object, "0"),
                Space::Kept,
                0xd5ac_e9bd_cfe5_6595_cad8_5917_5963_a805,
                1_792_439_518,
            ),
            (
                DeliveryId::letter(object, "whole"),
                Space::Kept,
                0x9263_45dc_30b0_9780_520b_36f1_e4ea_9a88,
                1_227_989_742,
            ),
            (
                DeliveryId::request("http", uuid, at),
                Space::Request,
                0xadef_b84c_f12b_557c_257c_4966_b01d_06f4,
                1_767_323_045,
            ),
            (
                DeliveryId::keyed("idempotency-key", "order-77"),
                Space::Request,
                0xf7c5_3ea9_cdb2_9502_26b3_49a9_38f0_f79d,
                2_078_449_492,
            ),
            (
                DeliveryId::by_attribute("orders", "event_id", "größe/7"),
                Space::Request,
                0xe8c2_436a_8866_ad4e_e3b6_0206_6fee_a05c,
                1_952_522_677,
            ),
        ] {
            let expected = Entry {
                space,
                index_time,
                id: hash,
                value: Bytes::new(),
            };
            assert_eq!(Entry::from(&id), expected, "{id}: {:032x}", id.hash());
            assert!(DeliveryId::hashes_of(&id.to_string()).contains(&hash), "{id}");
        }
    }

    /// Letters carry ids in these words, and wait for years.
    #[test]
    fn ids_in_letters_are_the_same_in_every_version() {
        let of = |space, scope: &str, name: &str, index_time| DeliveryId {
            space,
            scope: scope.to_owned(),
            name: name.to_owned(),
            index_time,
        };
        for (id, text) in [
            (
                of(Space::Message, "orders", "1", 1_767_323_045),
                r#"{"space":"M","scope":"orders","name":"1","index_time":1767323045}"#,
            ),
            (
                of(Space::Kept, "orders.csv", "7cde", 5),
                r#"{"space":"K","scope":"orders.csv","name":"7cde","index_time":5}"#,
            ),
            (
                of(Space::Request, "idempotency-key", "k", -1),
                r#"{"space":"H","scope":"idempotency-key","name":"k","index_time":-1}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&id).unwrap(), text);
            assert_eq!(serde_json::from_str::<DeliveryId>(text).unwrap(), id);
        }
    }
}
