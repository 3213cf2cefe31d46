//! A segment: many entries of one space as a Parquet file, sorted by index time and id.
//!
//! Anything that reads Parquet reads it. A row group is the unit of a look-up: the footer tells which of them hold a
//! second, so an old redelivery reads a footer and one or two row groups, not the file.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, FixedSizeBinaryBuilder, Int64Builder};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bytes::{Buf, Bytes};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::{Compression, Encoding};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnPath;
use sha2::{Digest, Sha256};

use super::entry::{Entry, Space};
use crate::error::{Error, ErrorKind, Result};

/// Entries of a row group: half a megabyte of ids, the price of one old redelivery.
const ROW_GROUP: usize = 32 << 10;

/// What is read of a file's end at once; the footer of the largest segment is smaller.
pub(super) const TAIL_BYTES: u64 = 128 << 10;

/// The key in the footer under which each row group has its ends and a hash of its entries: `OLDEST NEWEST HASH`, with
/// commas between. Ids are random bytes, so nothing else would show that one of them was changed on disk.
const SUMS: &str = "landfast.sums";

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("index_time", DataType::Int64, false),
        Field::new("id", DataType::FixedSizeBinary(16), false),
        Field::new("value", DataType::Binary, true),
    ]))
}

fn properties() -> WriterProperties {
    let time = ColumnPath::from("index_time");
    WriterProperties::builder()
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .set_dictionary_enabled(false)
        // Hashes do not compress, and times are small as differences.
        .set_compression(Compression::UNCOMPRESSED)
        .set_column_encoding(time.clone(), Encoding::DELTA_BINARY_PACKED)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_column_statistics_enabled(time, EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .build()
}

fn failed(error: impl Into<ParquetError>) -> Error {
    Error::new(ErrorKind::Rejected, "A segment of the ledger cannot be encoded.").with_source(error.into())
}

/// Encodes entries as they come; they must be sorted.
pub(super) struct SegmentWriter {
    writer: ArrowWriter<Vec<u8>>,
    waiting: Vec<Entry>,
    sums: Vec<String>,
}

impl SegmentWriter {
    pub(super) fn try_new() -> Result<Self> {
        let writer = ArrowWriter::try_new(Vec::new(), schema(), Some(properties())).map_err(failed)?;
        Ok(Self {
            writer,
            waiting: Vec::new(),
            sums: Vec::new(),
        })
    }

    pub(super) fn push(&mut self, entry: Entry) -> Result<()> {
        self.waiting.push(entry);
        if self.waiting.len() >= ROW_GROUP {
            self.write()?;
        }
        Ok(())
    }

    /// What is encoded so far, to be sent on.
    pub(super) fn take(&mut self) -> Bytes {
        std::mem::take(self.writer.inner_mut()).into()
    }

    /// The rest of the file.
    pub(super) fn finish(mut self) -> Result<Bytes> {
        self.write()?;
        let sums = KeyValue::new(SUMS.to_owned(), self.sums.join(","));
        self.writer.append_key_value_metadata(sums);
        self.writer.into_inner().map(Bytes::from).map_err(failed)
    }

    /// Writes what waits as one row group.
    fn write(&mut self) -> Result<()> {
        self.sums.extend(sum(&self.waiting));
        let mut times = Int64Builder::with_capacity(self.waiting.len());
        let mut ids = FixedSizeBinaryBuilder::with_capacity(self.waiting.len(), 16);
        let mut values = BinaryBuilder::new();
        for entry in self.waiting.drain(..) {
            times.append_value(entry.index_time);
            ids.append_value(entry.id.to_be_bytes()).map_err(failed)?;
            values.append_option(Some(entry.value).filter(|value| !value.is_empty()));
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(times.finish()),
            Arc::new(ids.finish()),
            Arc::new(values.finish()),
        ];
        let rows = RecordBatch::try_new(schema(), columns).map_err(failed)?;
        self.writer.write(&rows).map_err(failed)
    }
}

/// What the footer says of a row group of these entries, which are sorted; none of no entries.
fn sum(entries: &[Entry]) -> Option<String> {
    let (first, last) = (entries.first()?, entries.last()?);
    let mut hash = Sha256::new();
    for entry in entries {
        hash.update(entry.index_time.to_be_bytes());
        hash.update(entry.id.to_be_bytes());
        hash.update((entry.value.len() as u64).to_be_bytes());
        hash.update(&entry.value);
    }
    let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("{} {} {hash}", first.index_time, last.index_time))
}

/// Where the row groups of a segment are, and which times they hold.
#[derive(Debug)]
pub(super) struct SegmentIndex {
    metadata: ArrowReaderMetadata,
    /// Per row group its oldest and newest index time and its bytes in the file.
    groups: Vec<Group>,
}

#[derive(Debug, Clone)]
struct Group {
    times: (i64, i64),
    bytes: std::ops::Range<u64>,
    /// Absent in segments of before there were any.
    sum: Option<String>,
}

impl SegmentIndex {
    /// Reads the footer out of the end of a file of `size` bytes.
    pub(super) fn parse(tail: Bytes, size: u64) -> Result<Self, ParquetError> {
        let start = size.saturating_sub(tail.len() as u64);
        let window = Window {
            start,
            bytes: tail,
            size,
        };
        let footer = ParquetMetaDataReader::new().parse_and_finish(&window)?;
        let groups = groups(&footer)?;
        let metadata = ArrowReaderMetadata::try_new(Arc::new(footer), ArrowReaderOptions::default())?;
        Ok(Self { metadata, groups })
    }

    pub(super) fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// The row groups that may hold entries from `from` to `to`.
    pub(super) fn groups_of(&self, from: i64, to: i64) -> impl Iterator<Item = usize> + '_ {
        self.groups
            .iter()
            .enumerate()
            .filter(move |(_, group)| group.times.0 <= to && from <= group.times.1)
            .map(|(number, _)| number)
    }

    /// Where a row group lies in the file.
    pub(super) fn bytes_of(&self, group: usize) -> Option<std::ops::Range<u64>> {
        self.groups.get(group).map(|group| group.bytes.clone())
    }

    /// Decodes a row group out of its bytes.
    pub(super) fn decode(
        &self,
        space: Space,
        group: usize,
        bytes: Bytes,
    ) -> Result<Vec<Entry>, ParquetError> {
        let start = self.bytes_of(group).unwrap_or_default().start;
        let window = Window {
            start,
            bytes,
            size: u64::MAX,
        };
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(window, self.metadata.clone())
            .with_row_groups(vec![group])
            .with_batch_size(ROW_GROUP)
            .build()?;
        let mut entries = Vec::new();
        for rows in reader {
            append(&mut entries, space, &rows?)?;
        }
        let said = self.groups.get(group).and_then(|group| group.sum.as_deref());
        if said.is_some() && said != sum(&entries).as_deref() {
            return Err(changed());
        }
        Ok(entries)
    }

    pub(super) fn memory(&self) -> usize {
        self.metadata.metadata().memory_size() + self.groups.len() * size_of::<Group>()
    }
}

fn changed() -> ParquetError {
    ParquetError::General("it is not what was written: its checksum is another".to_owned())
}

/// The sums of the row groups, if the footer has them.
fn sums(footer: &ParquetMetaData) -> Result<Option<Vec<&str>>, ParquetError> {
    let said = footer.file_metadata().key_value_metadata().into_iter().flatten();
    let said = said
        .filter(|said| said.key == SUMS)
        .find_map(|said| said.value.as_deref());
    let sums: Option<Vec<&str>> = said.map(|sums| sums.split(',').filter(|sum| !sum.is_empty()).collect());
    match sums {
        Some(sums) if sums.len() != footer.num_row_groups() => Err(changed()),
        sums => Ok(sums),
    }
}

fn groups(footer: &ParquetMetaData) -> Result<Vec<Group>, ParquetError> {
    let no_times = || ParquetError::General("a row group has no times".to_owned());
    let sums = sums(footer)?;
    footer
        .row_groups()
        .iter()
        .enumerate()
        .map(|(number, group)| {
            let times = match group.columns().first().and_then(|column| column.statistics()) {
                Some(Statistics::Int64(times)) => times.min_opt().copied().zip(times.max_opt().copied()),
                _ => None,
            };
            let ranges = || group.columns().iter().map(|column| column.byte_range());
            let start = ranges().map(|(start, _)| start).min().unwrap_or_default();
            let end = ranges().map(|(start, length)| start.saturating_add(length)).max();
            let times = times.ok_or_else(no_times)?;
            let sum = sums.as_ref().and_then(|sums| sums.get(number)).copied();
            // The times choose the row groups that are read at all.
            if sum.is_some_and(|sum| !sum.starts_with(&format!("{} {} ", times.0, times.1))) {
                return Err(changed());
            }
            Ok(Group {
                times,
                bytes: start..end.unwrap_or_default(),
                sum: sum.map(str::to_owned),
            })
        })
        .collect()
}

fn append(entries: &mut Vec<Entry>, space: Space, rows: &RecordBatch) -> Result<(), ParquetError> {
    let wrong = || ParquetError::General("the columns are not a segment's".to_owned());
    let [times, ids, values] = rows.columns() else {
        return Err(wrong());
    };
    let times = times.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
    let ids = ids.as_fixed_size_binary_opt().ok_or_else(wrong)?;
    let values = values.as_binary_opt::<i32>().ok_or_else(wrong)?;
    entries.reserve(rows.num_rows());
    for (row, (time, id)) in times.values().iter().zip(ids.iter()).enumerate() {
        let id = id.and_then(|id| id.try_into().ok()).ok_or_else(wrong)?;
        let value = match values.is_null(row) {
            true => Bytes::new(),
            false => Bytes::copy_from_slice(values.value(row)),
        };
        entries.push(Entry {
            space,
            index_time: *time,
            id: u128::from_be_bytes(id),
            value,
        });
    }
    Ok(())
}

/// A piece of a file that stands for the whole of it.
struct Window {
    start: u64,
    bytes: Bytes,
    size: u64,
}

impl Length for Window {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Window {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let end = self.start.saturating_add(self.bytes.len() as u64);
        let length = usize::try_from(end.saturating_sub(start)).unwrap_or_default();
        Ok(self.get_bytes(start, length)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let outside = || ParquetError::EOF("the file ends before its row group".to_owned());
        let from = start
            .checked_sub(self.start)
            .and_then(|from| usize::try_from(from).ok());
        let from = from.ok_or_else(outside)?;
        let to = from.checked_add(length).filter(|to| *to <= self.bytes.len());
        Ok(self.bytes.slice(from..to.ok_or_else(outside)?))
    }
}
