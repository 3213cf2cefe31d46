//! Parquet encoding by a table's properties.

use arrow_array::RecordBatch;
use bytes::Bytes;
use iceberg::spec::{DataContentType, DataFile, DataFileBuilder, DataFileFormat, Struct, TableMetadata};
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::metrics::FileMetrics;
use crate::error::{Error, ErrorKind, Result};

const CODEC: &str = "write.parquet.compression-codec";
const LEVEL: &str = "write.parquet.compression-level";

/// As fast as decoding JSON and no larger than zstd(3) on event data (docs/performance.md).
const DEFAULT_ZSTD_LEVEL: i32 = 1;

/// A Parquet file in memory, and what a manifest says of it.
#[derive(Debug)]
pub struct EncodedFile {
    /// The whole file.
    pub bytes: Bytes,
    /// Its entry: path, size, counts and bounds.
    pub data_file: DataFile,
}

/// Encodes rows of the table's current schema as one Parquet file that will lie at `location`.
///
/// Runs on the calling thread for as long as it takes; call it off the async threads.
///
/// # Errors
/// [`ErrorKind::Rejected`] when the rows are not of the table's schema or a Parquet property is not usable.
pub fn encode(table: &TableMetadata, location: &str, rows: &[RecordBatch]) -> Result<EncodedFile> {
    let schema = super::arrow_schema(table.current_schema())?;
    let failed = |error: parquet::errors::ParquetError| {
        Error::new(ErrorKind::Rejected, "The rows cannot be encoded as Parquet.")
            .with("location", location)
            .with_source(error)
    };
    let properties = WriterProperties::builder()
        .set_compression(compression(|key| {
            table.properties().get(key).map(String::as_str)
        })?)
        .set_created_by(concat!("landfast version ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, schema, Some(properties)).map_err(failed)?;
    for batch in rows {
        writer.write(batch).map_err(failed)?;
    }
    let footer = writer.close().map_err(failed)?;
    let bytes = Bytes::from(file);
    let metrics = FileMetrics::of(table.current_schema(), &footer, rows);
    let data_file = DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(location.to_owned())
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::empty())
        .partition_spec_id(table.default_partition_spec_id())
        .record_count(metrics.record_count)
        .file_size_in_bytes(bytes.len() as u64)
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
    Ok(EncodedFile { bytes, data_file })
}

/// Checks the Parquet properties of a table before the first row comes.
///
/// # Errors
/// [`ErrorKind::Config`] with the property, and what it takes.
pub fn check_properties<'a>(property: impl Fn(&str) -> Option<&'a str>) -> Result<()> {
    compression(property)
        .map(drop)
        .map_err(|error| Error::new(ErrorKind::Config, error.message().to_owned()))
}

/// The codec and level that Java's table properties name; zstd(1) without them.
fn compression<'a>(property: impl Fn(&str) -> Option<&'a str>) -> Result<Compression> {
    let codec = property(CODEC).unwrap_or("zstd").to_ascii_lowercase();
    let level = property(LEVEL)
        .map(str::parse::<i32>)
        .transpose()
        .map_err(|error| {
            Error::new(ErrorKind::Rejected, format!("`{LEVEL}` takes a whole number.")).with_source(error)
        })?;
    let beyond = |error: parquet::errors::ParquetError| {
        Error::new(
            ErrorKind::Rejected,
            format!("`{LEVEL}` is not a level of {codec}."),
        )
        .with_source(error)
    };
    let unsigned = |default: u32| level.map_or(default, |level| u32::try_from(level).unwrap_or(u32::MAX));
    Ok(match codec.as_str() {
        "zstd" => {
            let level = level.unwrap_or(DEFAULT_ZSTD_LEVEL);
            Compression::ZSTD(ZstdLevel::try_new(level).map_err(beyond)?)
        }
        "gzip" => Compression::GZIP(GzipLevel::try_new(unsigned(6)).map_err(beyond)?),
        "brotli" => Compression::BROTLI(BrotliLevel::try_new(unsigned(1)).map_err(beyond)?),
        "snappy" => Compression::SNAPPY,
        "lz4" => Compression::LZ4_RAW,
        "none" | "uncompressed" => Compression::UNCOMPRESSED,
        _ => {
            return Err(Error::new(
                ErrorKind::Rejected,
                format!("`{CODEC}` is one of zstd, snappy, gzip, lz4, brotli, none; found {codec}."),
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codec_and_level_come_from_the_properties() {
        let given = |codec: &'static str, level: Option<&'static str>| {
            compression(move |key| match key {
                CODEC => Some(codec),
                _ => level,
            })
        };
        assert_eq!(
            compression(|_| None).unwrap(),
            Compression::ZSTD(ZstdLevel::try_new(1).unwrap())
        );
        assert_eq!(given("SNAPPY", None).unwrap(), Compression::SNAPPY);
        assert_eq!(
            given("gzip", Some("9")).unwrap(),
            Compression::GZIP(GzipLevel::try_new(9).unwrap())
        );
        assert!(given("zstd", Some("99")).is_err());
        assert!(given("gzip", Some("-3")).is_err());
        assert!(given("zip", None).is_err());
    }
}
