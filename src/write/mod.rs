//! Write: record batches become data files that no one sees yet.
//!
//! A file that was written and never committed is an orphan, harmless until the sweep removes it.

mod metrics;
mod parquet;

use std::sync::Arc;

use arrow_array::RecordBatch;
use iceberg::spec::DataFile;
use iceberg::table::Table;

use crate::error::{Error, ErrorKind, Result};
use crate::random::Random;

pub use self::parquet::{EncodedFile, check_properties, encode};

/// Encodes the rows as one Parquet file off the async threads, and puts it under a fresh name.
///
/// On `Ok` the file is durable. A dropped future may leave an orphan.
///
/// # Errors
/// [`ErrorKind::Unavailable`] when the store does not take the file, [`ErrorKind::Rejected`] when the rows do not fit
/// the table's schema or its Parquet properties are not usable.
pub async fn write_data_file(table: &Table, rows: Vec<RecordBatch>, random: &Random) -> Result<DataFile> {
    let location = format!("{}/data/{}.parquet", table.metadata().location(), random.uuid());
    let metadata = table.metadata_ref();
    let name = location.clone();
    let encoded = tokio::task::spawn_blocking(move || encode(&metadata, &name, &rows))
        .await
        .map_err(|error| Error::new(ErrorKind::Unavailable, "The encoder stopped.").with_source(error))??;
    let put = async { table.file_io().new_output(&location)?.write(encoded.bytes).await };
    put.await.map_err(|error| {
        Error::new(ErrorKind::Unavailable, "The data file cannot be written.")
            .with("location", &location)
            .with_source(error)
    })?;
    Ok(encoded.data_file)
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
