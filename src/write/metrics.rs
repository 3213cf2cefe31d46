//! Column metrics of a Parquet file, as the manifest carries them: sizes, counts, and bounds that prune.
//!
//! Counts and bounds follow the Iceberg specification (Manifests, `data_file` fields 108 to 138) and Java's defaults:
//! metrics mode `truncate(16)`, no bounds below lists and maps.

use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Field};
use iceberg::spec::{Datum, PrimitiveType, Schema};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::data_type::AsBytes;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::statistics::Statistics;

/// Bounds of strings and binaries keep this many characters or bytes.
const TRUNCATE: usize = 16;

/// What a manifest entry says of one file.
#[derive(Debug, Default)]
pub(super) struct FileMetrics {
    pub(super) record_count: u64,
    pub(super) column_sizes: HashMap<i32, u64>,
    pub(super) value_counts: HashMap<i32, u64>,
    pub(super) null_value_counts: HashMap<i32, u64>,
    pub(super) nan_value_counts: HashMap<i32, u64>,
    pub(super) lower_bounds: HashMap<i32, Datum>,
    pub(super) upper_bounds: HashMap<i32, Datum>,
    pub(super) split_offsets: Vec<i64>,
}

/// Least and greatest value of a column over the row groups seen so far.
#[derive(Debug, Clone)]
enum Range {
    /// No row group held a value.
    Empty,
    /// Both ends are known to bound every value.
    Known(Value, Value),
    /// A row group holds values and does not say which: the file has no bounds for the column.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum Value {
    Boolean(bool),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    Decimal(i128),
    Bytes(Vec<u8>),
}

impl FileMetrics {
    /// Reads the metrics of a file from its footer, and counts NaNs in the rows that went in.
    pub(super) fn of(schema: &Schema, footer: &ParquetMetaData, rows: &[RecordBatch]) -> Self {
        let mut metrics = Self {
            record_count: footer.file_metadata().num_rows().unsigned_abs(),
            ..Self::default()
        };
        let mut ranges: HashMap<i32, Range> = HashMap::new();
        for group in footer.row_groups() {
            let first = group.columns().first();
            let offset = first.map(|column| {
                column
                    .dictionary_page_offset()
                    .unwrap_or_else(|| column.data_page_offset())
            });
            metrics.split_offsets.extend(offset);
            for column in group.columns() {
                metrics.add_column(schema, column, &mut ranges);
            }
        }
        for (id, range) in ranges {
            if let (Range::Known(least, greatest), Some(kind)) = (range, primitive(schema, id)) {
                metrics
                    .lower_bounds
                    .extend(lower_bound(least, &kind).map(|datum| (id, datum)));
                metrics
                    .upper_bounds
                    .extend(upper_bound(greatest, &kind).map(|datum| (id, datum)));
            }
        }
        for batch in rows {
            for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
                count_nans(field, column.as_ref(), &mut metrics.nan_value_counts);
            }
        }
        metrics
    }

    fn add_column(
        &mut self,
        schema: &Schema,
        column: &ColumnChunkMetaData,
        ranges: &mut HashMap<i32, Range>,
    ) {
        let info = column.column_descr().self_type().get_basic_info();
        if !info.has_id() {
            return;
        }
        let id = info.id();
        let values = column.num_values().unsigned_abs();
        *self.column_sizes.entry(id).or_default() += column.compressed_size().unsigned_abs();
        *self.value_counts.entry(id).or_default() += values;
        let nulls = column.statistics().and_then(Statistics::null_count_opt);
        *self.null_value_counts.entry(id).or_default() += nulls.unwrap_or(0);
        // A bound of a list's elements bounds no row, so engines must not prune by it.
        if column.column_descr().max_rep_level() > 0 {
            return;
        }
        let Some(kind) = primitive(schema, id) else { return };
        let found = match column
            .statistics()
            .and_then(|statistics| range(statistics, &kind))
        {
            Some((least, greatest)) => Range::Known(least, greatest),
            None if nulls == Some(values) => Range::Empty,
            None => Range::Unknown,
        };
        let merged = match (ranges.remove(&id).unwrap_or(Range::Empty), found) {
            (Range::Empty, range) | (range, Range::Empty) => range,
            (Range::Known(a, b), Range::Known(c, d)) => {
                Range::Known(if c < a { c } else { a }, if d > b { d } else { b })
            }
            (Range::Unknown, _) | (_, Range::Unknown) => Range::Unknown,
        };
        ranges.insert(id, merged);
    }
}

fn primitive(schema: &Schema, id: i32) -> Option<PrimitiveType> {
    schema.field_by_id(id)?.field_type.as_primitive_type().cloned()
}

/// Least and greatest value of a row group. Truncated (inexact) ends are kept: the writer cuts the lower end down and
/// rounds the upper end up, so they still bound every value.
fn range(statistics: &Statistics, kind: &PrimitiveType) -> Option<(Value, Value)> {
    let bytes = |value: &[u8]| match kind {
        PrimitiveType::Decimal { .. } => decimal(value),
        _ => Some(Value::Bytes(value.to_vec())),
    };
    let is_decimal = matches!(kind, PrimitiveType::Decimal { .. });
    Some(match statistics {
        Statistics::Boolean(s) => (Value::Boolean(*s.min_opt()?), Value::Boolean(*s.max_opt()?)),
        Statistics::Int32(s) if is_decimal => (
            Value::Decimal((*s.min_opt()?).into()),
            Value::Decimal((*s.max_opt()?).into()),
        ),
        Statistics::Int64(s) if is_decimal => (
            Value::Decimal((*s.min_opt()?).into()),
            Value::Decimal((*s.max_opt()?).into()),
        ),
        Statistics::Int32(s) => (Value::Int(*s.min_opt()?), Value::Int(*s.max_opt()?)),
        Statistics::Int64(s) => (Value::Long(*s.min_opt()?), Value::Long(*s.max_opt()?)),
        Statistics::Float(s) => (Value::Float(*s.min_opt()?), Value::Float(*s.max_opt()?)),
        Statistics::Double(s) => (Value::Double(*s.min_opt()?), Value::Double(*s.max_opt()?)),
        Statistics::ByteArray(s) => (bytes(s.min_opt()?.as_bytes())?, bytes(s.max_opt()?.as_bytes())?),
        Statistics::FixedLenByteArray(s) => {
            (bytes(s.min_opt()?.as_bytes())?, bytes(s.max_opt()?.as_bytes())?)
        }
        Statistics::Int96(_) => return None,
    })
}

/// A two's-complement big-endian integer of at most 16 bytes.
fn decimal(bytes: &[u8]) -> Option<Value> {
    let first = *bytes.first()?;
    if bytes.len() > 16 {
        return None;
    }
    let sign = if first & 0x80 == 0 { 0i128 } else { -1 };
    Some(Value::Decimal(
        bytes
            .iter()
            .fold(sign, |value, byte| (value << 8) | i128::from(*byte)),
    ))
}

fn lower_bound(value: Value, kind: &PrimitiveType) -> Option<Datum> {
    let cut = match value {
        Value::Bytes(bytes) => match kind {
            PrimitiveType::String => {
                let text = String::from_utf8(bytes).ok()?;
                Value::Bytes(text.chars().take(TRUNCATE).collect::<String>().into_bytes())
            }
            PrimitiveType::Binary => Value::Bytes(bytes.into_iter().take(TRUNCATE).collect()),
            _ => Value::Bytes(bytes),
        },
        other => other,
    };
    datum(cut, kind)
}

/// Rounds a truncated upper end up, so that it is not below any value; `None` when nothing is above it.
fn upper_bound(value: Value, kind: &PrimitiveType) -> Option<Datum> {
    let cut = match value {
        Value::Bytes(bytes) => match kind {
            PrimitiveType::String => {
                let text = String::from_utf8(bytes).ok()?;
                if text.chars().nth(TRUNCATE).is_none() {
                    Value::Bytes(text.into_bytes())
                } else {
                    Value::Bytes(next_text(text.chars().take(TRUNCATE).collect())?.into_bytes())
                }
            }
            PrimitiveType::Binary if bytes.len() > TRUNCATE => {
                Value::Bytes(next_bytes(bytes.into_iter().take(TRUNCATE).collect())?)
            }
            _ => Value::Bytes(bytes),
        },
        other => other,
    };
    datum(cut, kind)
}

/// The least text of at most this length that is above every text with this prefix.
fn next_text(mut prefix: Vec<char>) -> Option<String> {
    while let Some(last) = prefix.pop() {
        let above = match last {
            '\u{D7FF}' => Some('\u{E000}'),
            _ => char::from_u32(u32::from(last).saturating_add(1)),
        };
        if let Some(above) = above {
            prefix.push(above);
            return Some(prefix.into_iter().collect());
        }
    }
    None
}

fn next_bytes(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = prefix.pop() {
        if let Some(above) = last.checked_add(1) {
            prefix.push(above);
            return Some(prefix);
        }
    }
    None
}

/// Builds a bound through its single-value serialisation (specification, appendix D).
fn datum(value: Value, kind: &PrimitiveType) -> Option<Datum> {
    let bytes = match value {
        Value::Boolean(value) => vec![u8::from(value)],
        Value::Int(value) => value.to_le_bytes().to_vec(),
        Value::Long(value) => value.to_le_bytes().to_vec(),
        Value::Float(value) => value.to_le_bytes().to_vec(),
        Value::Double(value) => value.to_le_bytes().to_vec(),
        Value::Decimal(value) => value.to_be_bytes().to_vec(),
        Value::Bytes(bytes) => bytes,
    };
    Datum::try_from_bytes(&bytes, kind.clone()).ok()
}

fn count_nans(field: &Field, column: &dyn Array, counts: &mut HashMap<i32, u64>) {
    let nans = match field.data_type() {
        DataType::Float32 => column
            .as_primitive::<Float32Type>()
            .iter()
            .flatten()
            .filter(|value| value.is_nan())
            .count(),
        DataType::Float64 => column
            .as_primitive::<Float64Type>()
            .iter()
            .flatten()
            .filter(|value| value.is_nan())
            .count(),
        DataType::Struct(fields) => {
            for (field, column) in fields.iter().zip(column.as_struct().columns()) {
                count_nans(field, column.as_ref(), counts);
            }
            return;
        }
        _ => return,
    };
    let id = field
        .metadata()
        .get(PARQUET_FIELD_ID_META_KEY)
        .and_then(|id| id.parse().ok());
    if let Some(id) = id {
        *counts.entry(id).or_default() += nans as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upper(text: &str) -> Option<Datum> {
        upper_bound(Value::Bytes(text.as_bytes().to_vec()), &PrimitiveType::String)
    }

    #[test]
    fn long_upper_bounds_are_rounded_up() {
        assert_eq!(upper("short"), Some(Datum::string("short")));
        assert_eq!(
            upper(&"a".repeat(17)),
            Some(Datum::string(format!("{}b", "a".repeat(15))))
        );
        let hard = format!("a{}", "\u{10FFFF}".repeat(20));
        assert_eq!(upper(&hard), Some(Datum::string("b")));
        assert_eq!(upper(&"\u{10FFFF}".repeat(20)), None);
        let below_surrogates = "\u{D7FF}".repeat(17);
        assert_eq!(
            upper(&below_surrogates),
            Some(Datum::string(format!("{}\u{E000}", "\u{D7FF}".repeat(15))))
        );
    }

    #[test]
    fn long_lower_bounds_are_cut() {
        let cut = lower_bound(Value::Bytes("é".repeat(20).into_bytes()), &PrimitiveType::String);
        assert_eq!(cut, Some(Datum::string("é".repeat(16))));
    }

    #[test]
    fn decimals_keep_their_sign() {
        assert_eq!(decimal(&[0xff, 0x00]), Some(Value::Decimal(-256)));
        assert_eq!(decimal(&[0x00, 0xff]), Some(Value::Decimal(255)));
        assert_eq!(decimal(&[]), None);
    }
}
