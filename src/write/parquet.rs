//! One Parquet file as it is encoded: rows in, parts of the file out, its manifest entry at the end.

use std::collections::HashMap;
use std::io::Write;

use arrow_array::RecordBatch;
use bytes::Bytes;
use iceberg::spec::{DataContentType, DataFile, DataFileBuilder, DataFileFormat, Struct};
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::metrics::{FileMetrics, count_batch_nans};
use super::plan::Plan;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::PART_BYTES;

/// What a column costs before its first row, roughly: an encoder and its buffers.
const COLUMN_OVERHEAD: usize = 8 << 10;
/// What a page that waits for its row group costs besides its bytes, which may be none: its header's buffer above all.
const PAGE_OVERHEAD: usize = 1536;
/// A row group ends when its pages cost this much besides their bytes: thousands of columns of nulls have no other size.
const MAX_PAGE_OVERHEAD: usize = 16 << 20;
/// A file ends with this many column chunks: what the footer says of each waits in memory for the file's end.
const MAX_CHUNKS: usize = 40_000;

/// A file that is being encoded.
///
/// Memory: the row group that is not whole, and less than one part.
pub(super) struct ParquetFile {
    writer: ArrowWriter<Parts>,
    location: String,
    partition: Struct,
    column_overhead: usize,
    /// Of the row group in progress.
    page_overhead: usize,
    nans: HashMap<i32, u64>,
}

impl ParquetFile {
    pub(super) fn try_new(
        plan: &Plan,
        properties: WriterProperties,
        location: String,
        partition: Struct,
    ) -> Result<Self> {
        let writer = ArrowWriter::try_new(Parts::default(), plan.arrow_schema.clone(), Some(properties));
        Ok(Self {
            writer: writer.map_err(|error| failed(&location, error))?,
            location,
            partition,
            column_overhead: plan.column_count.saturating_mul(COLUMN_OVERHEAD),
            page_overhead: 0,
            nans: HashMap::new(),
        })
    }

    pub(super) fn location(&self) -> &str {
        &self.location
    }

    /// Encodes rows; a row group that reached its size, or as many pages as fit in memory, is closed. Slices decide how
    /// sharply that is kept.
    pub(super) fn write(&mut self, plan: &Plan, rows: &RecordBatch) -> Result<()> {
        count_batch_nans(rows, &mut self.nans);
        self.writer
            .write(rows)
            .map_err(|error| failed(&self.location, error))?;
        self.page_overhead = self.writer.in_progress_rows() / plan.settings.page_rows.max(1)
            * plan.column_count.saturating_mul(PAGE_OVERHEAD);
        if self.writer.in_progress_size() >= plan.settings.row_group_bytes
            || self.page_overhead >= MAX_PAGE_OVERHEAD
        {
            self.close_row_group()?;
        }
        Ok(())
    }

    /// Closes the row group early, so that its memory becomes parts.
    pub(super) fn close_row_group(&mut self) -> Result<()> {
        self.page_overhead = 0;
        self.writer.flush().map_err(|error| failed(&self.location, error))
    }

    /// Whether it has as much as a file should, in bytes or in column chunks.
    pub(super) fn is_full(&self, plan: &Plan) -> bool {
        let chunks = self.writer.flushed_row_groups().len() * plan.column_count;
        self.size() >= plan.settings.target_bytes || chunks >= MAX_CHUNKS
    }

    /// The size of the file so far, with what is not encoded yet as an estimate.
    fn size(&self) -> u64 {
        self.writer
            .bytes_written()
            .saturating_add(self.writer.in_progress_size()) as u64
    }

    /// Memory of the row group in progress.
    pub(super) fn row_group_memory(&self) -> usize {
        self.writer.memory_size().saturating_add(self.page_overhead)
    }

    /// All memory that this file holds, roughly.
    pub(super) fn memory(&self) -> usize {
        self.column_overhead
            .saturating_add(self.row_group_memory())
            .saturating_add(self.writer.inner().last.len())
    }

    /// The whole parts that are there, each of [`PART_BYTES`].
    pub(super) fn take_parts(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.writer.inner_mut().whole)
    }

    /// Ends the file: parts not taken yet, the rest of it, and its manifest entry.
    pub(super) fn finish(mut self, plan: &Plan) -> Result<(Vec<Bytes>, Bytes, DataFile)> {
        let footer = self
            .writer
            .finish()
            .map_err(|error| failed(&self.location, error))?;
        let size = self.writer.bytes_written() as u64;
        let parts = std::mem::take(self.writer.inner_mut());
        let metrics = FileMetrics::of(&plan.schema, &plan.metrics, &footer, self.nans);
        let data_file = DataFileBuilder::default()
            .content(DataContentType::Data)
            .file_path(self.location)
            .file_format(DataFileFormat::Parquet)
            .partition(self.partition)
            .partition_spec_id(plan.spec_id)
            .record_count(metrics.record_count)
            .file_size_in_bytes(size)
            .column_sizes(metrics.column_sizes)
            .value_counts(metrics.value_counts)
            .null_value_counts(metrics.null_value_counts)
            .nan_value_counts(metrics.nan_value_counts)
            .lower_bounds(metrics.lower_bounds)
            .upper_bounds(metrics.upper_bounds)
            .split_offsets(Some(metrics.split_offsets))
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::Rejected, "The data file cannot be described.").with_source(error)
            })?;
        Ok((parts.whole, parts.last.into(), data_file))
    }
}

fn failed(location: &str, error: ParquetError) -> Error {
    Error::new(ErrorKind::Rejected, "The rows cannot be encoded as Parquet.")
        .with("location", location)
        .with_source(error)
}

/// The bytes of a file, cut into parts as they come: nothing is moved when more follow.
#[derive(Debug, Default)]
struct Parts {
    whole: Vec<Bytes>,
    last: Vec<u8>,
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let room = PART_BYTES.saturating_sub(self.last.len());
        let (taken, _) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
        self.last.extend_from_slice(taken);
        if self.last.len() >= PART_BYTES {
            self.whole.push(std::mem::take(&mut self.last).into());
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
