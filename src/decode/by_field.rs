//! Which records of a payload have which value in a field: a light look, before any table decodes them.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Deserializer;
use serde_json::value::RawValue;

use super::Room;
use super::framing::{Broken, Parsed, Records, walk};
use super::reject::{Reason, RejectKind, RejectedRecord};
use super::sniff::value_end;

/// The place of a record in a list that grows.
const PLACE_BYTES: usize = 2 * size_of::<u64>();

/// A condition on a record: a field at its top, and its value as text.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub(crate) field: String,
    pub(crate) equals: String,
    /// Which piece a record goes to that meets it.
    pub(crate) piece: usize,
}

/// Some records of a payload, as an array.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    records: BytesMut,
    /// Where each of them was in the payload.
    pub(crate) positions: Vec<u64>,
}

impl Piece {
    fn push(&mut self, record: &str, position: u64) {
        self.records
            .put_u8(if self.positions.is_empty() { b'[' } else { b',' });
        self.records.put_slice(record.as_bytes());
        self.positions.push(position);
    }

    /// The payload that it is.
    pub(crate) fn payload(&mut self) -> Bytes {
        self.records.put_u8(b']');
        self.records.split().freeze()
    }
}

/// A payload taken apart.
#[derive(Debug)]
pub(crate) struct Split {
    pub(crate) pieces: Vec<Piece>,
    /// What is no record, and what meets no condition.
    pub(crate) lost: Vec<RejectedRecord>,
    /// What it takes besides the records' bytes: their places, and what is lost with its letters.
    pub(crate) cost: usize,
}

/// Takes a payload apart: each record goes to the piece of the first condition that it meets, else to the piece `rest`.
///
/// # Errors
/// The reason of a payload that would cost more than `room` gives: two bytes, `0,`, are a letter.
pub(crate) fn split(
    payload: &Bytes,
    conditions: &[Condition],
    pieces: usize,
    rest: Result<usize, String>,
    room: Room,
) -> Result<Split, Reason> {
    let mut splitting = Splitting {
        payload,
        conditions,
        rest,
        seen: 0,
        room,
        split: Split {
            pieces: (0..pieces).map(|_| Piece::default()).collect(),
            lost: Vec::new(),
            cost: 0,
        },
    };
    walk(payload, &mut splitting);
    if splitting.is_full() {
        let message = format!(
            "the payload's records take more than {} bytes when they are taken apart for their tables",
            room.max_bytes
        );
        return Err(Reason::new(RejectKind::TooLarge, message));
    }
    Ok(splitting.split)
}

struct Splitting<'a> {
    payload: &'a Bytes,
    conditions: &'a [Condition],
    rest: Result<usize, String>,
    /// Records so far.
    seen: u64,
    room: Room,
    split: Split,
}

impl Records for Splitting<'_> {
    fn record(&mut self, text: &str) -> Result<Parsed, Broken> {
        let end = value_end(text.as_bytes()).unwrap_or(text.len());
        let record = text.get(..end).unwrap_or_default();
        let mut source = Deserializer::from_str(record);
        let met = First(self.conditions)
            .deserialize(&mut source)
            .and_then(|met| source.end().map(|()| met));
        let met = met.map_err(|error| Broken { error, path: None })?;
        let piece = match (met, &self.rest) {
            (Some(piece), _) => piece,
            (None, Ok(piece)) => *piece,
            (None, Err(why)) => {
                let misfit = Some(Reason::new(RejectKind::NoRoute, why.clone()));
                return Ok(Parsed { end, misfit });
            }
        };
        if let Some(piece) = self.split.pieces.get_mut(piece) {
            piece.push(record, self.seen);
            self.split.cost = self.split.cost.saturating_add(PLACE_BYTES);
        }
        self.seen += 1;
        Ok(Parsed { end, misfit: None })
    }

    fn lost(&mut self, position: u64, span: Range<usize>, reason: Reason) {
        self.seen = position + 1;
        let record = RejectedRecord {
            position,
            reason,
            raw: self.payload.slice(span),
        };
        let cost = record.cost().saturating_add(self.room.letter_bytes);
        self.split.cost = self.split.cost.saturating_add(cost);
        self.split.lost.push(record);
    }

    fn is_full(&self) -> bool {
        self.split.cost > self.room.max_bytes
    }
}

/// Finds the first condition that an object meets.
struct First<'a>(&'a [Condition]);

impl<'de> DeserializeSeed<'de> for First<'_> {
    type Value = Option<usize>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for First<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut met: Option<usize> = None;
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            let wanted = |condition: &&Condition| condition.field == name;
            if !self.0.iter().any(|condition| wanted(&condition)) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let raw = map.next_value::<&'de RawValue>()?.get();
            let text = text_of(raw).map_err(A::Error::custom)?;
            let place = self
                .0
                .iter()
                .position(|condition| wanted(&condition) && text.as_deref() == Some(&condition.equals));
            met = met.into_iter().chain(place).min();
        }
        Ok(met
            .and_then(|place| self.0.get(place))
            .map(|condition| condition.piece))
    }
}

/// A value as a condition compares it: a string's content, a number or boolean as it is written.
fn text_of(raw: &str) -> serde_json::Result<Option<Cow<'_, str>>> {
    Ok(match raw.as_bytes().first() {
        Some(b'"') => Some(Cow::Owned(serde_json::from_str(raw)?)),
        Some(b'{' | b'[' | b'n') | None => None,
        _ => Some(Cow::Borrowed(raw)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(field: &str, equals: &str, piece: usize) -> Condition {
        Condition {
            field: field.to_owned(),
            equals: equals.to_owned(),
            piece,
        }
    }

    type Pieces = Vec<(String, Vec<u64>)>;
    type Lost = Vec<(u64, String)>;

    fn pieces(payload: &str, rest: Result<usize, String>) -> (Pieces, Lost) {
        let conditions = [
            condition("kind", "order", 0),
            condition("kind", "user", 1),
            condition("n", "5", 1),
            condition("on", "true", 0),
        ];
        let payload = Bytes::from(payload.to_owned());
        let mut split = split(&payload, &conditions, 3, rest, Room::UNBOUNDED).unwrap();
        let pieces = split.pieces.iter_mut().map(|piece| {
            let payload = String::from_utf8(piece.payload().to_vec()).unwrap();
            (payload, piece.positions.clone())
        });
        let pieces = pieces.collect();
        let lost = split.lost.iter();
        let lost = lost.map(|lost| (lost.position, lost.reason.kind.name().to_owned()));
        (pieces, lost.collect())
    }

    #[test]
    fn records_go_to_the_first_condition_that_they_meet() {
        let payload = "{\"kind\":\"order\",\"a\":{\"kind\":\"user\"}}\n{\"kind\":\"us\\u0065r\"}\n{\"n\":5}\n\
                       {\"n\":\"5\",\"on\":true}\n{\"kind\":null}\n{\"n\":5,\"kind\":\"order\"}";
        let (found, lost) = pieces(payload, Ok(2));
        assert_eq!(found[0].1, [0, 5]);
        assert_eq!(found[1].1, [1, 2, 3]);
        assert_eq!(found[2], ("[{\"kind\":null}]".to_owned(), vec![4]));
        assert_eq!(lost, []);
    }

    #[test]
    fn what_is_no_record_or_nobodys_is_lost_with_its_place() {
        let payload = "[{\"kind\":\"order\",\n\"x\":1}, 7, {\"x\":1}, {\"kind\":\"user\"}";
        let (found, lost) = pieces(payload, Err("nobody".to_owned()));
        assert_eq!(found[0], ("[{\"kind\":\"order\",\n\"x\":1}]".to_owned(), vec![0]));
        assert_eq!(found[1].1, [3]);
        let kinds = ["not_an_object", "no_route", "truncated"].map(str::to_owned);
        assert_eq!(
            lost.iter().map(|(_, kind)| kind.clone()).collect::<Vec<_>>(),
            kinds
        );
        assert_eq!(lost.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!(pieces(" ", Ok(2)).1, [(0, "empty_payload".to_owned())]);
    }

    #[test]
    fn payload_of_many_records_is_taken_apart_within_bounds() {
        let room = Room {
            max_bytes: 1 << 20,
            letter_bytes: 100,
        };
        // Lost, nobody's, and somebody's: a few bytes each.
        for (record, fit) in [("0 ", 1000), ("{}\n", 1000), ("{\"n\":5}\n", 60_000)] {
            let cut = |count: usize| {
                let payload = Bytes::from(record.repeat(count));
                let conditions = [condition("n", "5", 0)];
                split(&payload, &conditions, 1, Err("nobody".to_owned()), room)
            };
            let whole = cut(fit).unwrap();
            assert_eq!(whole.lost.len() + whole.pieces[0].positions.len(), fit);
            assert!(whole.cost <= room.max_bytes);
            let reason = cut(2_000_000).unwrap_err();
            assert_eq!(reason.kind, RejectKind::TooLarge);
        }
    }
}
