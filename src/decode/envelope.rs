//! The decoder of tables that keep deliveries as they came: one row each, with its envelope.

use std::sync::Arc;

use arrow_array::RecordBatch;
use bytes::Bytes;
use iceberg::spec::{MapType, NestedField, PrimitiveType, Schema, SchemaRef, Type};

use super::Strings;
use super::column::{Column, Leaf, Map, Values};
use super::json::Rows;
use super::reject::{Misfit, Reason, RejectKind, RejectedRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::trigger::Envelope;

/// What a column takes of a delivery. [`Part::Null`] is for optional columns that the table got later.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Id,
    Source,
    PublishedAt,
    IngestedAt,
    Attributes,
    Payload,
    Null,
}

/// The columns of [`EnvelopeDecoder::schema`].
const PARTS: [(&str, Part); 6] = [
    ("id", Part::Id),
    ("source", Part::Source),
    ("published_at", Part::PublishedAt),
    ("ingested_at", Part::IngestedAt),
    ("attributes", Part::Attributes),
    ("payload", Part::Payload),
];

/// One table's decoder of deliveries as they came: no payload is ever wrong.
pub struct EnvelopeDecoder {
    rows: Rows,
    /// For each column what it takes.
    parts: Vec<Part>,
}

impl EnvelopeDecoder {
    /// The schema of such a table, as asked of a catalog: it assigns field ids of its own.
    ///
    /// # Errors
    /// None that is known: the schema is fixed.
    pub fn schema() -> Result<Schema> {
        let text = || Type::Primitive(PrimitiveType::String);
        let instant = || Type::Primitive(PrimitiveType::Timestamptz);
        let attributes = MapType {
            key_field: Arc::new(NestedField::map_key_element(7, text())),
            value_field: Arc::new(NestedField::map_value_element(8, text(), true)),
        };
        let fields = [
            NestedField::required(1, "id", text()),
            NestedField::required(2, "source", text()),
            NestedField::required(3, "published_at", instant()),
            NestedField::required(4, "ingested_at", instant()),
            NestedField::optional(5, "attributes", Type::Map(attributes)),
            NestedField::optional(6, "payload", Type::Primitive(PrimitiveType::Binary)),
        ];
        Schema::builder()
            .with_fields(fields.map(Arc::new))
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::TableMismatch, "The envelope schema cannot be built.")
                    .with_source(error)
            })
    }

    /// Makes a decoder for a table with the columns of [`EnvelopeDecoder::schema`]; others must be optional.
    ///
    /// # Errors
    /// [`ErrorKind::TableMismatch`] if a column is missing, has another type, or is required and not of the envelope.
    pub fn try_new(schema: SchemaRef) -> Result<Self> {
        let ours = Self::schema()?;
        for (name, _) in PARTS {
            let found = schema.as_struct().field_by_name(name);
            let expected = ours.as_struct().field_by_name(name);
            let same = match (found, expected) {
                (Some(found), Some(expected)) => is_same_type(&found.field_type, &expected.field_type),
                _ => false,
            };
            if !same {
                return Err(mismatch(
                    "The table lacks a column of the envelope schema, or has it with another type.",
                    name,
                ));
            }
        }
        let part = |field: &NestedField| match PARTS.iter().find(|(name, _)| *name == field.name) {
            Some((_, part)) => Ok(*part),
            None if field.required => Err(mismatch(
                "The table requires a column that is not of the envelope schema.",
                &field.name,
            )),
            None => Ok(Part::Null),
        };
        let parts: Result<Vec<Part>> = schema
            .as_struct()
            .fields()
            .iter()
            .map(|field| part(field))
            .collect();
        Ok(Self {
            rows: Rows::try_new(&schema, Strings::Strict)?,
            parts: parts?,
        })
    }

    /// Appends the row of a delivery, and returns 1.
    ///
    /// Returns 0 and pushes the payload to `rejected` if a column cannot address one more value in this batch.
    pub fn decode(
        &mut self,
        envelope: &Envelope,
        payload: &Bytes,
        rejected: &mut Vec<RejectedRecord>,
    ) -> usize {
        let before = self.row_count();
        let mut outcome = Ok(());
        for (field, part) in self.rows.root.fields.iter_mut().zip(&self.parts) {
            outcome = outcome.and_then(|()| append(&mut field.column, *part, envelope, payload));
        }
        match outcome {
            Ok(()) => {
                self.rows.root.end_struct();
                1
            }
            Err(misfit) => {
                self.rows.root.truncate(before);
                rejected.push(RejectedRecord {
                    position: 0,
                    reason: Reason::new(misfit.kind, misfit.message),
                    raw: payload.clone(),
                });
                0
            }
        }
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
        self.rows.finish()
    }
}

fn mismatch(message: &str, field: &str) -> Error {
    Error::new(ErrorKind::TableMismatch, message).with("field", field)
}

/// Compares types but for field ids.
fn is_same_type(found: &Type, expected: &Type) -> bool {
    match (found, expected) {
        (Type::Map(found), Type::Map(expected)) => {
            found.key_field.field_type == expected.key_field.field_type
                && found.value_field.field_type == expected.value_field.field_type
        }
        _ => found == expected,
    }
}

/// Appends a part of a delivery to its column.
fn append(column: &mut Column, part: Part, envelope: &Envelope, payload: &Bytes) -> Result<(), Misfit> {
    match (part, column) {
        (Part::Null, column) => {
            column.append_null();
            Ok(())
        }
        (Part::Id, Column::Leaf(leaf)) => push_text(leaf, envelope.id.name()),
        (Part::Source, Column::Leaf(leaf)) => push_text(leaf, &envelope.source),
        (Part::PublishedAt, Column::Leaf(leaf)) => {
            push_instant(leaf, envelope.published_at.timestamp_micros())
        }
        (Part::IngestedAt, Column::Leaf(leaf)) => push_instant(leaf, envelope.received_at.timestamp_micros()),
        (Part::Payload, Column::Leaf(leaf)) => leaf.append_with(|values, _| match values {
            Values::Binary(blobs) => blobs.push(payload),
            _ => Err(other_type()),
        }),
        (Part::Attributes, Column::Map(map)) => push_attributes(map, envelope),
        _ => Err(other_type()),
    }
}

fn push_text(leaf: &mut Leaf, text: &str) -> Result<(), Misfit> {
    leaf.append_with(|values, _| match values {
        Values::Text { texts, .. } => texts.push(text),
        _ => Err(other_type()),
    })
}

fn push_instant(leaf: &mut Leaf, micros: i64) -> Result<(), Misfit> {
    leaf.append_with(|values, _| match values {
        Values::Timestamp { instants, .. } => {
            instants.push(micros);
            Ok(())
        }
        _ => Err(other_type()),
    })
}

fn push_attributes(map: &mut Map, envelope: &Envelope) -> Result<(), Misfit> {
    for (key, value) in &envelope.attributes {
        push_text(&mut map.keys, key)?;
        match &mut map.values {
            Column::Leaf(leaf) => push_text(leaf, value)?,
            _ => return Err(other_type()),
        }
    }
    map.end_map()
}

/// `try_new` compared the types: this is not reached.
#[cold]
fn other_type() -> Misfit {
    Misfit::new(
        RejectKind::WrongType,
        "the column has another type than the envelope schema",
    )
}
