//! A table's write properties: Java's names, Java's defaults unless a comment says why not.

use iceberg::spec::Schema;
use parquet::arrow::ArrowSchemaConverter;
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::metrics_mode::{DEFAULT_COLUMNS, MetricsMode, MetricsModes};
use crate::error::{Error, ErrorKind, Result};

const CODEC: &str = "write.parquet.compression-codec";
const LEVEL: &str = "write.parquet.compression-level";
const ROW_GROUP_BYTES: &str = "write.parquet.row-group-size-bytes";
const PAGE_BYTES: &str = "write.parquet.page-size-bytes";
const PAGE_ROWS: &str = "write.parquet.page-row-limit";
const DICTIONARY_BYTES: &str = "write.parquet.dict-size-bytes";
const BLOOM_COLUMN: &str = "write.parquet.bloom-filter-enabled.column.";
const BLOOM_BYTES: &str = "write.parquet.bloom-filter-max-bytes";
const TARGET_BYTES: &str = "write.target-file-size-bytes";
const METRICS_DEFAULT: &str = "write.metadata.metrics.default";
const METRICS_COLUMN: &str = "write.metadata.metrics.column.";
const METRICS_COLUMNS: &str = "write.metadata.metrics.max-inferred-column-defaults";

/// As fast as decoding JSON and no larger than zstd(3) on event data (docs/performance.md). Java: 3.
const DEFAULT_ZSTD_LEVEL: i32 = 1;
/// A row group is held in memory until it is whole, and once more on its way to the store. Java: 128 MiB, which leaves no
/// room in a 512 MiB instance (docs/decisions/0005).
pub(crate) const DEFAULT_ROW_GROUP_BYTES: usize = 16 << 20;
pub(crate) const DEFAULT_PAGE_BYTES: usize = 1 << 20;
pub(crate) const DEFAULT_PAGE_ROWS: usize = 20_000;
pub(crate) const DEFAULT_DICTIONARY_BYTES: usize = 2 << 20;
pub(crate) const DEFAULT_BLOOM_BYTES: usize = 1 << 20;
pub(crate) const DEFAULT_TARGET_BYTES: u64 = 512 << 20;
/// Footer statistics hold this many bytes of a text: enough for 16 characters of any script.
const STATISTICS_BYTES: usize = 64;
/// Java's false-positive rate.
const BLOOM_FPP: f64 = 0.01;

/// A table property whose value is not usable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertyProblem {
    /// The property's name.
    pub property: String,
    /// What it takes: a clause, without the value that was found.
    pub reason: String,
}

/// How the data files of one table are written.
#[derive(Debug, Clone)]
pub(super) struct WriteSettings {
    compression: Compression,
    page_bytes: usize,
    /// A page has at most this many rows.
    pub(super) page_rows: usize,
    /// A column's dictionary is given up at this size.
    pub(super) dictionary_bytes: usize,
    bloom_columns: Vec<String>,
    bloom_bytes: usize,
    metrics_default: Option<MetricsMode>,
    metrics_columns: Vec<(String, MetricsMode)>,
    metrics_column_count: usize,
    /// A row group ends when it holds this much, encoded.
    pub(super) row_group_bytes: usize,
    /// A file ends when it is this large.
    pub(super) target_bytes: u64,
}

/// Finds the table properties that the writer cannot follow; properties that are not its own pass.
pub fn property_problems<'a>(
    properties: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Vec<PropertyProblem> {
    read(properties).1
}

/// Checks the write properties of a table before the first row comes.
///
/// # Errors
/// [`ErrorKind::Config`] with the first property that is wrong, and what it takes.
pub fn check_properties<'a>(properties: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<()> {
    WriteSettings::try_new(properties).map(drop)
}

impl WriteSettings {
    pub(super) fn try_new<'a>(properties: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        match read(properties) {
            (settings, problems) if problems.is_empty() => Ok(settings),
            (_, problems) => {
                let text: Vec<String> = problems
                    .iter()
                    .map(|problem| format!("`{}` {}", problem.property, problem.reason))
                    .collect();
                Err(Error::new(
                    ErrorKind::Config,
                    format!(
                        "The table's write properties are not usable: {}.",
                        text.join("; ")
                    ),
                ))
            }
        }
    }

    /// The metrics mode of every column.
    pub(super) fn metrics(&self, schema: &Schema) -> MetricsModes {
        MetricsModes::new(
            schema,
            self.metrics_default,
            self.metrics_column_count,
            &self.metrics_columns,
        )
    }

    /// What the Parquet writer is told.
    pub(super) fn parquet(&self, schema: &Schema, arrow: &arrow_schema::Schema) -> Result<WriterProperties> {
        let longest = self.metrics(schema).longest_bound();
        let truncate = longest.map(|characters| STATISTICS_BYTES.max(characters.saturating_mul(4)));
        let mut builder = WriterProperties::builder()
            .set_compression(self.compression)
            .set_created_by(concat!("landfast version ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_data_page_size_limit(self.page_bytes)
            .set_data_page_row_count_limit(self.page_rows)
            .set_dictionary_page_size_limit(self.dictionary_bytes)
            .set_statistics_truncate_length(truncate)
            .set_max_row_group_row_count(None);
        let ids: Vec<i32> = self
            .bloom_columns
            .iter()
            .filter_map(|name| schema.field_id_by_name(name))
            .collect();
        if !ids.is_empty() {
            let parquet = ArrowSchemaConverter::new().convert(arrow).map_err(|error| {
                Error::new(ErrorKind::Rejected, "The table's schema has no Parquet form.").with_source(error)
            })?;
            for column in parquet.columns() {
                let info = column.self_type().get_basic_info();
                if info.has_id() && ids.contains(&info.id()) {
                    builder = builder
                        .set_column_bloom_filter_enabled(column.path().clone(), true)
                        .set_column_bloom_filter_fpp(column.path().clone(), BLOOM_FPP)
                        .set_column_bloom_filter_ndv(column.path().clone(), self.bloom_values());
                }
            }
        }
        Ok(builder.build())
    }

    /// How many distinct values fit a filter of the largest size. The writer folds a sparse filter down.
    fn bloom_values(&self) -> u64 {
        // Filters are powers of two; a value takes 9.7 bits at this rate, so 0.8 of the bytes stays in the size.
        let bytes = 1u64 << self.bloom_bytes.max(32).ilog2();
        bytes / 5 * 4
    }
}

fn read<'a>(
    properties: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> (WriteSettings, Vec<PropertyProblem>) {
    let mut settings = WriteSettings {
        compression: Compression::UNCOMPRESSED,
        page_bytes: DEFAULT_PAGE_BYTES,
        page_rows: DEFAULT_PAGE_ROWS,
        dictionary_bytes: DEFAULT_DICTIONARY_BYTES,
        bloom_columns: Vec::new(),
        bloom_bytes: DEFAULT_BLOOM_BYTES,
        metrics_default: None,
        metrics_columns: Vec::new(),
        metrics_column_count: DEFAULT_COLUMNS,
        row_group_bytes: DEFAULT_ROW_GROUP_BYTES,
        target_bytes: DEFAULT_TARGET_BYTES,
    };
    let mut problems = Vec::new();
    let (mut codec, mut level) = (None, None);
    for (name, value) in properties {
        let problem = match name {
            CODEC => {
                codec = Some(value);
                Ok(())
            }
            LEVEL => {
                level = Some(value);
                Ok(())
            }
            ROW_GROUP_BYTES => bytes(value, &mut settings.row_group_bytes),
            PAGE_BYTES => bytes(value, &mut settings.page_bytes),
            PAGE_ROWS => bytes(value, &mut settings.page_rows),
            DICTIONARY_BYTES => bytes(value, &mut settings.dictionary_bytes),
            BLOOM_BYTES => bytes(value, &mut settings.bloom_bytes),
            TARGET_BYTES => bytes(value, &mut settings.target_bytes),
            METRICS_COLUMNS => count(value, &mut settings.metrics_column_count),
            METRICS_DEFAULT => MetricsMode::parse(value).map(|mode| settings.metrics_default = Some(mode)),
            _ => {
                if let Some(column) = name.strip_prefix(METRICS_COLUMN) {
                    MetricsMode::parse(value)
                        .map(|mode| settings.metrics_columns.push((column.to_owned(), mode)))
                } else if let Some(column) = name.strip_prefix(BLOOM_COLUMN) {
                    boolean(value).map(|on| settings.bloom_columns.extend(on.then(|| column.to_owned())))
                } else {
                    Ok(())
                }
            }
        };
        problems.extend(problem.err().map(|reason| PropertyProblem {
            property: name.to_owned(),
            reason,
        }));
    }
    match compression(codec, level) {
        Ok(compression) => settings.compression = compression,
        Err(problem) => problems.push(problem),
    }
    (settings, problems)
}

fn bytes<N: TryFrom<u64>>(value: &str, into: &mut N) -> Result<(), String> {
    match value.trim().parse::<u64>() {
        Ok(number) if number > 0 => match N::try_from(number) {
            Ok(number) => {
                *into = number;
                Ok(())
            }
            Err(_) => Err("takes a smaller number".to_owned()),
        },
        _ => Err("takes a whole number of at least 1, without a unit".to_owned()),
    }
}

fn count(value: &str, into: &mut usize) -> Result<(), String> {
    *into = value
        .trim()
        .parse()
        .map_err(|_| "takes a whole number".to_owned())?;
    Ok(())
}

fn boolean(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("takes `true` or `false`".to_owned()),
    }
}

/// The codec and level that the properties name; zstd(1) without them.
fn compression(codec: Option<&str>, level: Option<&str>) -> Result<Compression, PropertyProblem> {
    let wrong = |property: &str, reason: String| PropertyProblem {
        property: property.to_owned(),
        reason,
    };
    let name = codec.unwrap_or("zstd").to_ascii_lowercase();
    let level: Option<i32> = match level {
        None => None,
        Some(text) => match text.trim().parse() {
            Ok(level) => Some(level),
            Err(_) => return Err(wrong(LEVEL, "takes a whole number".to_owned())),
        },
    };
    let unsigned = |default: u32| level.map_or(default, |level| u32::try_from(level).unwrap_or(u32::MAX));
    let beyond = |levels: &str| wrong(LEVEL, format!("takes {levels} for the codec `{name}`"));
    Ok(match name.as_str() {
        "zstd" => Compression::ZSTD(
            ZstdLevel::try_new(level.unwrap_or(DEFAULT_ZSTD_LEVEL)).map_err(|_| beyond("1 to 22"))?,
        ),
        "gzip" => Compression::GZIP(GzipLevel::try_new(unsigned(6)).map_err(|_| beyond("0 to 9"))?),
        "brotli" => Compression::BROTLI(BrotliLevel::try_new(unsigned(1)).map_err(|_| beyond("0 to 11"))?),
        "snappy" => Compression::SNAPPY,
        "lz4" => Compression::LZ4_RAW,
        "none" | "uncompressed" => Compression::UNCOMPRESSED,
        _ => {
            return Err(wrong(
                CODEC,
                "takes zstd, snappy, gzip, lz4, brotli or none".to_owned(),
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codec_and_level_come_from_the_properties() {
        assert_eq!(
            compression(None, None),
            Ok(Compression::ZSTD(ZstdLevel::try_new(1).unwrap()))
        );
        assert_eq!(compression(Some("SNAPPY"), None), Ok(Compression::SNAPPY));
        assert_eq!(
            compression(Some("gzip"), Some("9")),
            Ok(Compression::GZIP(GzipLevel::try_new(9).unwrap()))
        );
        assert!(compression(Some("zstd"), Some("99")).is_err());
        assert!(compression(Some("gzip"), Some("-3")).is_err());
        assert!(compression(Some("zip"), None).is_err());
    }

    #[test]
    fn a_wrong_value_names_its_property_and_what_it_takes() {
        let problems = property_problems([
            ("write.parquet.compression-codec", "zip"),
            ("write.parquet.row-group-size-bytes", "128MiB"),
            ("write.parquet.page-row-limit", "0"),
            ("write.parquet.bloom-filter-enabled.column.id", "yes"),
            ("write.metadata.metrics.default", "truncate(0)"),
            ("write.metadata.metrics.column.id", "some"),
            ("write.metadata.metrics.max-inferred-column-defaults", "-1"),
            ("write.delete.mode", "anything"),
        ]);
        let names: Vec<&str> = problems.iter().map(|problem| problem.property.as_str()).collect();
        assert_eq!(
            names,
            [
                ROW_GROUP_BYTES,
                PAGE_ROWS,
                "write.parquet.bloom-filter-enabled.column.id",
                METRICS_DEFAULT,
                "write.metadata.metrics.column.id",
                METRICS_COLUMNS,
                CODEC,
            ]
        );
        assert!(
            problems
                .iter()
                .all(|problem| problem.reason.starts_with("takes "))
        );
        let error = check_properties([("write.target-file-size-bytes", "big")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(
            error
                .message()
                .contains("`write.target-file-size-bytes` takes a whole number")
        );
    }
}
