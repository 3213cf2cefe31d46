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

/// What a file costs before its first row, roughly: encoders and their buffers.
const FILE_OVERHEAD: usize = 64 << 10;

/// A file that is being encoded.
///
/// Memory: the row group that is not whole, and less than one part.
pub(super) struct ParquetFile {
    writer: ArrowWriter<Parts>,
    location: String,
    partition: Struct,
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
            nans: HashMap::new(),
        })
    }

    pub(super) fn location(&self) -> &str {
        &self.location
    }

    /// Encodes rows; a row group that reached its size is closed. Slices decide how sharply that is kept.
    pub(super) fn write(&mut self, plan: &Plan, rows: &RecordBatch) -> Result<()> {
        count_batch_nans(rows, &mut self.nans);
        self.writer
            .write(rows)
            .map_err(|error| failed(&self.location, error))?;
        if self.writer.in_progress_size() >= plan.settings.row_group_bytes {
            self.close_row_group()?;
        }
        Ok(())
    }

    /// Closes the row group early, so that its memory becomes parts.
    pub(super) fn close_row_group(&mut self) -> Result<()> {
        self.writer.flush().map_err(|error| failed(&self.location, error))
    }

    /// The size of the file so far, with what is not encoded yet as an estimate.
    pub(super) fn size(&self) -> u64 {
        self.writer
            .bytes_written()
            .saturating_add(self.writer.in_progress_size()) as u64
    }

    /// Memory of the row group in progress.
    pub(super) fn row_group_memory(&self) -> usize {
        self.writer.memory_size()
    }

    /// All memory that this file holds, roughly.
    pub(super) fn memory(&self) -> usize {
        FILE_OVERHEAD
            .saturating_add(self.writer.memory_size())
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
