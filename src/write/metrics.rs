//! Column metrics of a Parquet file, as the manifest carries them: sizes, counts, and bounds that prune.
//!
//! Counts and bounds follow the Iceberg specification (Manifests, `data_file` fields 108 to 138) and, in what they leave
//! out, Java: below lists and maps there are sizes alone, of a column of mode `none` there is nothing. Two things differ
//! from Java: zeros (Parquet's statistics make a least 0 a -0 and a greatest -0 a 0, which bound the same values), and the
//! counts of floats in structs (Java does not count the rows whose struct is null; ours are what other types have).

use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Field};
use iceberg::spec::{Datum, PrimitiveType, Schema};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::statistics::Statistics;

use super::bounds::{Value, lower_bound, range, upper_bound};
use super::metrics_mode::{MetricsMode, MetricsModes};

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

impl FileMetrics {
    /// Reads the metrics of a file from its footer; `nans` are those of the rows that went in.
    pub(super) fn of(
        schema: &Schema,
        modes: &MetricsModes,
        footer: &ParquetMetaData,
        mut nans: HashMap<i32, u64>,
    ) -> Self {
        nans.retain(|id, _| modes.of(*id) != MetricsMode::None);
        let mut metrics = Self {
            record_count: footer.file_metadata().num_rows().unsigned_abs(),
            nan_value_counts: nans,
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
                metrics.add_column(schema, modes, column, &mut ranges);
            }
        }
        for (id, range) in ranges {
            let length = match modes.of(id) {
                MetricsMode::Truncate(length) => length,
                _ => usize::MAX,
            };
            if let (Range::Known(least, greatest), Some(kind)) = (range, primitive(schema, id)) {
                let ends = (
                    lower_bound(least, &kind, length),
                    upper_bound(greatest, &kind, length),
                );
                metrics.lower_bounds.extend(ends.0.map(|datum| (id, datum)));
                metrics.upper_bounds.extend(ends.1.map(|datum| (id, datum)));
            }
        }
        metrics
    }

    fn add_column(
        &mut self,
        schema: &Schema,
        modes: &MetricsModes,
        column: &ColumnChunkMetaData,
        ranges: &mut HashMap<i32, Range>,
    ) {
        let info = column.column_descr().self_type().get_basic_info();
        if !info.has_id() {
            return;
        }
        let id = info.id();
        let mode = modes.of(id);
        if mode == MetricsMode::None {
            return;
        }
        *self.column_sizes.entry(id).or_default() += column.compressed_size().unsigned_abs();
        // Values of a list are not rows: engines must not prune by their number or ends.
        if column.column_descr().max_rep_level() > 0 {
            return;
        }
        let values = column.num_values().unsigned_abs();
        *self.value_counts.entry(id).or_default() += values;
        let nulls = column.statistics().and_then(Statistics::null_count_opt);
        *self.null_value_counts.entry(id).or_default() += nulls.unwrap_or(0);
        if !mode.has_bounds() {
            return;
        }
        let Some(kind) = primitive(schema, id) else { return };
        let found = match column
            .statistics()
            .and_then(|statistics| range(statistics, &kind))
        {
            Some((least, greatest)) => Range::Known(least, greatest),
            None if nulls == Some(values) => Range::Empty,
            // Only NaNs, which bounds leave out.
            None if matches!(kind, PrimitiveType::Float | PrimitiveType::Double) && nulls.is_some() => {
                Range::Empty
            }
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

/// Counts the NaNs of a batch.
pub(super) fn count_batch_nans(batch: &RecordBatch, counts: &mut HashMap<i32, u64>) {
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        count_nans(field, column.as_ref(), counts);
    }
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
