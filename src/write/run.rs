//! Rows of many partitions, put aside in memory: sorted by partition, compressed, read back in that order.
//!
//! A Parquet encoder costs some 100 KiB whatever it holds, so rows of thousands of partitions cannot each wait in one.
//! Nor as Arrow: they would fill the memory five times as fast.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use arrow_select::interleave::interleave_record_batch;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::error::{Error, ErrorKind, Result};

/// Rows gathered or read at once.
const STEP: usize = 2048;
/// A reader holds a page of each column, so pages are small.
const PAGE_BYTES: usize = 64 << 10;

/// A row's partition, its batch, and where it is in that.
pub(super) type PartitionedRow = (u32, u32, u32);

/// Rows in the order of their partitions, compressed.
#[derive(Debug)]
pub(super) struct Run {
    file: Bytes,
    /// Each partition in the run, ascending, and its row count.
    partitions: Vec<(u32, usize)>,
}

impl Run {
    /// Puts rows aside; `order` is sorted by partition.
    pub(super) fn try_new(schema: SchemaRef, rows: &[RecordBatch], order: &[PartitionedRow]) -> Result<Self> {
        let partitions = order
            .chunk_by(|left, right| left.0 == right.0)
            .filter_map(|of_one| Some((of_one.first()?.0, of_one.len())))
            .collect();
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_statistics_enabled(EnabledStatistics::None)
            .set_offset_index_disabled(true)
            .set_dictionary_page_size_limit(PAGE_BYTES)
            .set_data_page_size_limit(PAGE_BYTES)
            .set_data_page_row_count_limit(STEP)
            .set_write_batch_size(STEP)
            .set_max_row_group_row_count(None)
            .build();
        let mut file = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut file, schema, Some(properties)).map_err(failed)?;
        for some in order.chunks(STEP) {
            writer.write(&gather(rows, some)?).map_err(failed)?;
        }
        writer.close().map_err(failed)?;
        file.shrink_to_fit();
        Ok(Self {
            file: file.into(),
            partitions,
        })
    }

    pub(super) fn memory(&self) -> usize {
        let entry = size_of::<(u32, usize)>();
        self.file
            .len()
            .saturating_add(self.partitions.len().saturating_mul(entry))
    }

    /// Begins to read the rows back.
    pub(super) fn read(self) -> Result<RunReader> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(self.file)
            .and_then(|builder| builder.with_batch_size(STEP).build())
            .map_err(failed)?;
        let mut partitions = self.partitions;
        partitions.reverse();
        Ok(RunReader {
            reader,
            partitions,
            rest: None,
        })
    }
}

/// A run being read, one partition after the other.
pub(super) struct RunReader {
    reader: ParquetRecordBatchReader,
    /// The partitions that are left, the next one last.
    partitions: Vec<(u32, usize)>,
    rest: Option<RecordBatch>,
}

impl RunReader {
    /// The next partition that the run has rows of.
    pub(super) fn partition(&self) -> Option<u32> {
        self.partitions.last().map(|(partition, _)| *partition)
    }

    /// Hands the rows of the next partition to `each`, a few at a time.
    pub(super) fn read_partition(&mut self, mut each: impl FnMut(&RecordBatch) -> Result<()>) -> Result<()> {
        let Some((_, mut wanted)) = self.partitions.pop() else {
            return Ok(());
        };
        while wanted > 0 {
            let rows = match self.rest.take() {
                Some(rows) => rows,
                None => match self.reader.next() {
                    Some(read) => read.map_err(|error| failed(error.into()))?,
                    None => return Err(Error::new(ErrorKind::Rejected, "Rows put aside are missing.")),
                },
            };
            let length = wanted.min(rows.num_rows());
            each(&rows.slice(0, length))?;
            wanted = wanted.saturating_sub(length);
            let left = rows.num_rows().saturating_sub(length);
            self.rest = (left > 0).then(|| rows.slice(length, left));
        }
        Ok(())
    }
}

/// The rows of some batches in a given order; a slice where they stand together.
pub(super) fn gather(rows: &[RecordBatch], order: &[PartitionedRow]) -> Result<RecordBatch> {
    let neighbours = order.windows(2).all(
        |pair| matches!(pair, [left, right] if left.1 == right.1 && left.2.checked_add(1) == Some(right.2)),
    );
    if let (true, Some((_, batch, first))) = (neighbours, order.first())
        && let Some(batch) = rows.get(index(*batch))
    {
        return Ok(batch.slice(index(*first), order.len()));
    }
    let rows: Vec<&RecordBatch> = rows.iter().collect();
    let places: Vec<(usize, usize)> = order
        .iter()
        .map(|(_, batch, row)| (index(*batch), index(*row)))
        .collect();
    interleave_record_batch(&rows, &places).map_err(|error| failed(error.into()))
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn failed(error: parquet::errors::ParquetError) -> Error {
    Error::new(
        ErrorKind::Rejected,
        "The rows cannot be put in the order of their partitions.",
    )
    .with_source(error)
}
