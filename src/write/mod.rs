//! Write: record batches become data files that no one sees yet.
//!
//! Encoding ([`TableWriter`]) runs off the async threads; files are durable before they are returned. A file that was
//! written and never committed is an orphan, harmless until the sweep removes it.

mod bounds;
mod encoder;
mod fan_out;
mod files;
mod metrics;
mod metrics_mode;
mod parquet;
mod partition;
mod plan;
mod properties;
mod run;
mod uploads;
mod writer;

use std::sync::Arc;

use arrow_array::RecordBatch;
use iceberg::table::Table;

use crate::error::{Error, ErrorKind, Result};
use crate::random::Random;

pub(crate) use self::metrics_mode::DEFAULT_COLUMNS;
pub use self::partition::{refusal as partition_refusal, spec_refusal};
pub(crate) use self::properties::{
    DEFAULT_BLOOM_BYTES, DEFAULT_DICTIONARY_BYTES, DEFAULT_PAGE_BYTES, DEFAULT_PAGE_ROWS,
    DEFAULT_ROW_GROUP_BYTES, DEFAULT_TARGET_BYTES,
};
pub use self::properties::{PropertyProblem, check_properties, property_problems};
pub use self::writer::{PendingFiles, TableWriter};

/// Bounds on what a [`TableWriter`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteOptions {
    /// What the rows and files of a partitioned table may hold, in bytes. A table without partitions holds a row group
    /// and a part.
    pub memory_bytes: usize,
    /// Files of a partitioned table that are open at one time.
    pub max_open_files: usize,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            memory_bytes: 128 << 20,
            max_open_files: 64,
        }
    }
}

/// Writes a batch as data files off the async threads: one file, or one for each partition in it.
///
/// On `Ok` the files are encoded, and on their way: wait for [`PendingFiles::durable`]. A dropped future may leave
/// orphans. Holds the batch and its files: for a stream of batches use [`TableWriter`].
///
/// # Errors
/// Those of [`TableWriter::try_new`] and [`TableWriter::write`].
pub async fn write_data_files(
    table: &Table,
    rows: Vec<RecordBatch>,
    random: &Arc<Random>,
) -> Result<PendingFiles> {
    TableWriter::try_new(table, random, WriteOptions::default())?
        .write_all(rows)
        .await
}

/// The Arrow schema of a table's rows; each field carries its Iceberg id as `PARQUET:field_id`.
///
/// # Errors
/// [`ErrorKind::Rejected`] for a type that Arrow has no place for.
pub fn arrow_schema(schema: &iceberg::spec::Schema) -> Result<arrow_schema::SchemaRef> {
    iceberg::arrow::schema_to_arrow_schema(schema)
        .map(Arc::new)
        .map_err(|error| {
            Error::new(
                ErrorKind::Rejected,
                "The table's schema has a type that cannot be written.",
            )
            .with_source(error)
        })
}
