//! Decode: payload bytes to rows, and to rejected records with their reasons.
//!
//! Second on the path. Bad bytes become rejected records, never a panic and never a guess: a record that does not fit its
//! table is rejected alone, with its position, its reason and its bytes, and its neighbours land (invariant 3).
//! Reasons name types and fields, never values.
//!
#![doc = include_str!("../../docs/json.md")]

mod by_field;
mod column;
mod datetime;
mod decompress;
mod envelope;
mod framing;
mod inference;
mod json;
mod notes;
mod number;
mod record;
mod reject;
mod sniff;
mod text_check;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use bytes::Bytes;

pub(crate) use by_field::{Condition, Split, split};
pub use decompress::{Compression, NotUnpacked, decompress, unpack};
pub use envelope::EnvelopeDecoder;
pub(crate) use framing::{BYTE_ORDER_MARK, Part, PartEnd, is_space};
pub use inference::{Inference, SAMPLE_RECORDS};
pub use json::JsonDecoder;
pub use reject::{Reason, RejectKind, RejectedRecord};
pub(crate) use sniff::Framing;

use crate::error::Result;
use crate::trigger::Envelope;

/// What the string columns of a table take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strings {
    /// Strings only.
    Strict,
    /// Any value: strings as they are, all else as its JSON text. For tables with an inferred schema.
    AnyValueAsText,
}

/// What may become of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// What its columns and its rejected records may take together.
    pub max_bytes: usize,
    /// What every rejected record's letter repeats of the delivery.
    pub letter_bytes: usize,
}

impl Room {
    /// No bound.
    pub const UNBOUNDED: Self = Self {
        max_bytes: usize::MAX,
        letter_bytes: 0,
    };
}

/// Where a decoder's rows stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    row_count: usize,
    /// What the columns take at most: the text of the records, and the width of every value, null or not.
    pub(crate) column_bytes: usize,
}

/// One table's decoder: what [`JsonDecoder`] and [`EnvelopeDecoder`] have in common.
pub enum Decoder {
    /// Rows are the records of JSON payloads.
    Json(Box<JsonDecoder>),
    /// Rows are the deliveries as they came.
    Envelope(Box<EnvelopeDecoder>),
}

impl Decoder {
    /// Appends the rows of one delivery and returns how many landed; the other records are pushed to `rejected`.
    /// A payload whose columns and rejected records take more than `max_bytes` is rejected whole:
    /// [`JsonDecoder::decode_within`].
    pub fn decode(
        &mut self,
        envelope: &Envelope,
        payload: &Bytes,
        max_bytes: usize,
        rejected: &mut Vec<RejectedRecord>,
    ) -> usize {
        match self {
            Self::Json(decoder) => {
                let room = Room {
                    max_bytes,
                    letter_bytes: envelope.letter_bytes(),
                };
                decoder.decode_within(payload, room, rejected)
            }
            Self::Envelope(decoder) => decoder.decode(envelope, payload, rejected),
        }
    }

    /// How many rows wait.
    pub fn row_count(&self) -> usize {
        match self {
            Self::Json(decoder) => decoder.row_count(),
            Self::Envelope(decoder) => decoder.row_count(),
        }
    }

    /// Roughly the memory that the waiting rows take. Costs a step per column.
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Json(decoder) => decoder.held_bytes(),
            Self::Envelope(decoder) => decoder.held_bytes(),
        }
    }

    /// Where the rows stand, to cut back to. Rows of raw envelopes take what came, and are never cut back.
    pub(crate) fn mark(&self) -> Mark {
        match self {
            Self::Json(decoder) => decoder.mark(),
            Self::Envelope(_) => Mark::default(),
        }
    }

    /// Forgets the rows since a mark.
    pub(crate) fn cut_back(&mut self, mark: Mark) {
        if let Self::Json(decoder) = self {
            decoder.cut_back(mark);
        }
    }

    /// Takes the waiting rows as one batch.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::TableMismatch`] if the columns do not make a batch; the rows are gone then.
    pub fn finish(&mut self) -> Result<RecordBatch> {
        match self {
            Self::Json(decoder) => decoder.finish(),
            Self::Envelope(decoder) => decoder.finish(),
        }
    }

    /// Takes the dotted names of fields that no column took, with how often each was seen.
    pub fn take_unknown_fields(&mut self) -> BTreeMap<String, u64> {
        match self {
            Self::Json(decoder) => decoder.take_unknown_fields(),
            Self::Envelope(_) => BTreeMap::new(),
        }
    }
}
