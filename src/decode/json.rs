//! The decoder of JSON payloads into the rows of one table.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{ArrowError, SchemaRef as ArrowSchemaRef};
use bytes::Bytes;
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::spec::SchemaRef;

use super::column::Struct;
use super::framing::{Broken, Parsed, Part, PartEnd, Records, walk, walk_part};
use super::notes::{Fit, Notes};
use super::record::read_record;
use super::reject::{Reason, RejectKind, RejectedRecord};
use super::{Mark, Room, Strings};
use crate::error::{Error, ErrorKind, Result};

/// The columns of a table's next batch.
pub(super) struct Rows {
    arrow: ArrowSchemaRef,
    pub(super) root: Struct,
}

impl Rows {
    /// Makes the empty columns of a table.
    pub(super) fn try_new(schema: &SchemaRef, strings: Strings) -> Result<Self> {
        let arrow = schema_to_arrow_schema(schema).map_err(|error| {
            Error::new(ErrorKind::TableMismatch, "The table's schema has no Arrow form.").with_source(error)
        })?;
        Ok(Self {
            arrow: Arc::new(arrow),
            root: Struct::try_new(schema.as_struct(), "", strings)?,
        })
    }

    /// Takes the rows as a batch of the table's Arrow schema and leaves none.
    pub(super) fn finish(&mut self) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.root.len()));
        let columns = self.root.finish_fields(self.arrow.fields());
        self.root.reset();
        columns
            .and_then(|columns| RecordBatch::try_new_with_options(self.arrow.clone(), columns, &options))
            .map_err(|error: ArrowError| {
                Error::new(
                    ErrorKind::TableMismatch,
                    "The rows do not make a batch of the table.",
                )
                .with_source(error)
            })
    }
}

/// One table's decoder of JSON: feed it many payloads, take one batch.
///
/// Takes one object, an array of objects, objects one after the other, and NDJSON. Which values a column takes is the
/// table of [`crate::decode`]. A record that does not fit is rejected alone; the columns are as if it had never come.
pub struct JsonDecoder {
    rows: Rows,
    notes: Notes,
    /// Of the waiting rows; see [`Mark`].
    column_bytes: usize,
}

impl JsonDecoder {
    /// Makes a decoder for a table's schema.
    ///
    /// # Errors
    /// [`ErrorKind::TableMismatch`] if a type of the schema has no JSON form: a map whose keys are not scalars.
    pub fn try_new(schema: SchemaRef, strings: Strings) -> Result<Self> {
        Ok(Self {
            rows: Rows::try_new(&schema, strings)?,
            notes: Notes::default(),
            column_bytes: 0,
        })
    }

    /// Appends the rows of one payload and returns how many landed; the other records are pushed to `rejected`.
    ///
    /// Every record is either a row or rejected. A payload without any is one rejected record, but for an empty array.
    pub fn decode(&mut self, payload: &Bytes, rejected: &mut Vec<RejectedRecord>) -> usize {
        self.decode_within(payload, Room::UNBOUNDED, rejected)
    }

    /// As [`JsonDecoder::decode`], but a payload whose columns and rejected records would take more than `room` gives is
    /// one rejected record.
    ///
    /// The width of a row is the table's: three bytes of payload, `{}`, are a value in each of its columns. Two bytes,
    /// `0,`, are a letter.
    pub fn decode_within(
        &mut self,
        payload: &Bytes,
        room: Room,
        rejected: &mut Vec<RejectedRecord>,
    ) -> usize {
        let (before, rejected_before) = (self.mark(), rejected.len());
        let mut decoding = Decoding {
            limit: before.column_bytes.saturating_add(room.max_bytes),
            letter_bytes: room.letter_bytes,
            decoder: self,
            payload,
            rejected,
            reject_bytes: 0,
        };
        walk(payload, &mut decoding);
        if decoding.is_full() {
            self.cut_back(before);
            rejected.truncate(rejected_before);
            rejected.shrink_to_fit();
            let message = format!(
                "the payload takes more than {} bytes in the table's columns and as rejected records",
                room.max_bytes
            );
            rejected.push(RejectedRecord {
                position: 0,
                reason: Reason::new(RejectKind::TooLarge, message),
                raw: payload.clone(),
            });
        }
        self.row_count() - before.row_count
    }

    /// Where the rows stand, to cut back to.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            row_count: self.row_count(),
            column_bytes: self.column_bytes,
        }
    }

    /// Forgets the rows since a mark.
    pub(crate) fn cut_back(&mut self, mark: Mark) {
        self.rows.root.truncate(mark.row_count);
        self.column_bytes = mark.column_bytes;
    }

    /// Appends the rows of a part of a payload; the other records are pushed to `rejected`, with positions from the
    /// part's start. Parts of one payload may go to different decoders, in any order.
    ///
    /// Stops when the columns and the rejected records take `max_bytes`: take both, and go on with the rest of the part.
    /// At [`PartEnd::Lost`] no record can be told apart any more: the last rejected record goes on to the end of the
    /// payload, and what later parts give is to be thrown away.
    ///
    /// Parts give the rows and rejected records of the whole payload, but for two things. A payload with nothing but
    /// whitespace has no part, and no rejected record. And where the syntax breaks and a byte that is not UTF-8 follows
    /// in a later part, the kind is that of the break, not `NotUtf8`.
    pub(crate) fn decode_part(
        &mut self,
        bytes: &Bytes,
        part: Part,
        max_bytes: usize,
        rejected: &mut Vec<RejectedRecord>,
    ) -> PartEnd {
        let mut decoding = Decoding {
            decoder: self,
            payload: bytes,
            rejected,
            reject_bytes: 0,
            letter_bytes: 0,
            limit: max_bytes,
        };
        walk_part(bytes, part, &mut decoding)
    }

    /// How many rows wait.
    pub fn row_count(&self) -> usize {
        self.rows.root.len()
    }

    /// Roughly the memory that the waiting rows take. Costs a step per column.
    pub fn held_bytes(&self) -> usize {
        self.rows.root.held_bytes()
    }

    /// Takes the waiting rows as one batch, with the field ids in the metadata of its schema.
    ///
    /// # Errors
    /// [`ErrorKind::TableMismatch`] if the columns do not make a batch; the rows are gone then.
    pub fn finish(&mut self) -> Result<RecordBatch> {
        self.column_bytes = 0;
        self.rows.finish()
    }

    /// Takes the dotted names of fields that no column took, with how often each was seen.
    ///
    /// At most 100 names are told apart; the others count under `*`.
    pub fn take_unknown_fields(&mut self) -> BTreeMap<String, u64> {
        self.notes.take_unknown()
    }
}

/// One payload on its way into a decoder.
struct Decoding<'a> {
    decoder: &'a mut JsonDecoder,
    payload: &'a Bytes,
    rejected: &'a mut Vec<RejectedRecord>,
    /// What those of this walk take, with their letters.
    reject_bytes: usize,
    letter_bytes: usize,
    /// No more records once the columns and the rejected records take this much.
    limit: usize,
}

impl Records for Decoding<'_> {
    fn record(&mut self, text: &str) -> Result<Parsed, Broken> {
        let JsonDecoder {
            rows,
            notes,
            column_bytes,
        } = &mut *self.decoder;
        let before = rows.root.len();
        match read_record(&mut rows.root, notes, text) {
            Ok((Fit::Fits, end)) => {
                *column_bytes = column_bytes
                    .saturating_add(end)
                    .saturating_add(notes.value_bytes());
                Ok(Parsed { end, misfit: None })
            }
            Ok((Fit::Not, end)) => {
                rows.root.truncate(before);
                Ok(Parsed {
                    end,
                    misfit: Some(notes.take_reason()),
                })
            }
            Err(error) => {
                rows.root.truncate(before);
                Err(Broken {
                    error,
                    path: notes.take_path(),
                })
            }
        }
    }

    fn lost(&mut self, position: u64, span: Range<usize>, reason: Reason) {
        let record = RejectedRecord {
            position,
            reason,
            raw: self.payload.slice(span),
        };
        let cost = record.cost().saturating_add(self.letter_bytes);
        self.reject_bytes = self.reject_bytes.saturating_add(cost);
        self.rejected.push(record);
    }

    fn is_full(&self) -> bool {
        self.decoder.column_bytes.saturating_add(self.reject_bytes) > self.limit
    }
}
