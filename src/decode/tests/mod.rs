//! Tests of the whole module: what lands, what is rejected and why.

mod envelope;
mod inference;
mod properties;
mod shapes;
mod values;

use std::sync::Arc;

use arrow_array::{Array, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use iceberg::spec::{NestedField, Schema, SchemaRef, Type};
use serde_json::Value;

use super::{JsonDecoder, RejectedRecord, Strings};

/// Makes a schema of (name, type); a `!` at the name's end makes the field required.
fn table(fields: &[(&str, Value)]) -> SchemaRef {
    let fields = fields.iter().enumerate().map(|(place, (name, kind))| {
        let kind: Type = serde_json::from_value(kind.clone()).unwrap();
        let id = 1 + place as i32;
        Arc::new(match name.strip_suffix('!') {
            Some(name) => NestedField::required(id, name, kind),
            None => NestedField::optional(id, name, kind),
        })
    });
    Arc::new(Schema::builder().with_fields(fields).build().unwrap())
}

/// Decodes one payload from scratch.
fn decode(schema: &SchemaRef, strings: Strings, payload: &[u8]) -> (RecordBatch, Vec<RejectedRecord>) {
    let mut decoder = JsonDecoder::try_new(schema.clone(), strings).unwrap();
    let mut rejected = Vec::new();
    let payload = Bytes::copy_from_slice(payload);
    let row_count = decoder.decode(&payload, &mut rejected);
    let batch = decoder.finish().unwrap();
    assert_eq!(batch.num_rows(), row_count);
    assert_eq!(decoder.row_count(), 0);
    (batch, rejected)
}

/// The values of a column as texts.
fn texts(batch: &RecordBatch, column: usize) -> Vec<String> {
    let options = FormatOptions::default().with_null("null");
    let array = batch.column(column);
    let formatter = ArrayFormatter::try_new(array, &options).unwrap();
    (0..array.len())
        .map(|row| formatter.value(row).to_string())
        .collect()
}
