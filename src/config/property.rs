//! Table properties: those that the writer follows are described, others are kept for other engines.

use std::collections::BTreeMap;

use super::key::{Forms, Key, Keys, Others, Shape, Text, Words};
use super::quantity::any_case;
use super::reader::Field;
use crate::write::{self, property_problems};

pub(super) const PROPERTIES: Key = Key::optional(
    "properties",
    Shape::Map(&PROPERTY_KEYS),
    "none",
    "Iceberg table properties; set when the table is created; `landfast.*` and `format-version` other than 2 are \
     refused",
);

const PROPERTY_KEYS: Keys = Keys {
    title: "properties",
    accepted: "properties with their values, such as `{write.parquet.compression-codec: zstd}`",
    keys: &[&KNOWN],
    others: Some(Others {
        pattern: Some(|| format!(r"^(?!landfast\.|(?:{})$)", RESERVED_PROPERTIES.join("|"))),
        shape: Shape::Text(&Text {
            accepted: "the property's value as plain text",
            pattern: None,
            any_scalar: true,
        }),
    }),
    ..Keys::NONE
};

/// The properties that the writer follows. The reader takes their values as text, and the writer says what is wrong.
const KNOWN: [Key; 12] = [
    Key::defaulted(
        "write.parquet.compression-codec",
        Shape::Either(&Forms {
            accepted: "a codec",
            forms: &[Shape::Word(&CODECS), Shape::Text(&CODEC)],
        }),
        || "zstd".to_owned(),
        "`zstd`, `snappy`, `gzip`, `lz4`, `brotli` (Spark reads it only with a codec of its own installed) or `none`",
    ),
    Key::optional(
        "write.parquet.compression-level",
        Shape::Text(&WHOLE_NUMBER),
        "zstd 1 (Java: 3), gzip 6, brotli 1",
        "zstd 1 to 22, gzip 0 to 9, brotli 0 to 11; the others have none",
    ),
    Key::defaulted(
        "write.parquet.row-group-size-bytes",
        Shape::Count,
        || write::DEFAULT_ROW_GROUP_BYTES.to_string(),
        "a row group ends at this size, encoded; it is held in memory until then. Java: 134217728",
    ),
    Key::defaulted(
        "write.parquet.page-size-bytes",
        Shape::Count,
        || write::DEFAULT_PAGE_BYTES.to_string(),
        "a page ends at this size",
    ),
    Key::defaulted(
        "write.parquet.page-row-limit",
        Shape::Count,
        || write::DEFAULT_PAGE_ROWS.to_string(),
        "a page ends at this many rows",
    ),
    Key::defaulted(
        "write.parquet.dict-size-bytes",
        Shape::Count,
        || write::DEFAULT_DICTIONARY_BYTES.to_string(),
        "a column's dictionary is given up at this size; the partitions of one load share it, each with at least 64 KiB",
    ),
    Key::defaulted(
        "write.parquet.bloom-filter-enabled.column.COLUMN",
        Shape::Boolean,
        || false.to_string(),
        "a Bloom filter, 1 % false positives, as small as its values allow",
    ),
    Key::defaulted(
        "write.parquet.bloom-filter-max-bytes",
        Shape::Count,
        || write::DEFAULT_BLOOM_BYTES.to_string(),
        "the largest such filter, per column and row group",
    ),
    Key::defaulted(
        "write.target-file-size-bytes",
        Shape::Count,
        || write::DEFAULT_TARGET_BYTES.to_string(),
        "a file ends at this size, give or take 8,192 rows",
    ),
    Key::optional(
        "write.metadata.metrics.default",
        METRICS,
        "`truncate(16)` for the first columns",
        "what a manifest keeps of a column: `none` (not even its size), `counts`, `truncate(N)` (bounds of N characters or \
         bytes) or `full`; below lists and maps sizes alone",
    ),
    Key::optional(
        "write.metadata.metrics.column.COLUMN",
        METRICS,
        "the default",
        "the same for one column; nested ones with dots, such as `buyer.sku`",
    ),
    Key::defaulted(
        "write.metadata.metrics.max-inferred-column-defaults",
        Shape::Text(&WHOLE_NUMBER),
        || write::DEFAULT_COLUMNS.to_string(),
        "without a default of its own, a table has metrics for this many columns in the schema's order, those of a struct \
         after those beside it; the others have none, as by `none`",
    ),
];

const CODECS: Words = Words {
    words: &[
        ("zstd", ""),
        ("snappy", ""),
        ("gzip", ""),
        ("lz4", ""),
        ("brotli", ""),
        ("none", ""),
    ],
    later: &[],
};
const CODEC: Text = Text {
    accepted: "a codec",
    pattern: Some(|| {
        let names = CODECS.words.iter().map(|(word, _)| *word);
        format!("^(?:{})$", any_case(names.chain(["uncompressed"])))
    }),
    any_scalar: false,
};

const METRICS: Shape = Shape::Either(&Forms {
    accepted: "a metrics mode",
    forms: &[Shape::Word(&METRICS_MODES), Shape::Text(&METRICS_MODE)],
});
const METRICS_MODES: Words = Words {
    words: &[("none", ""), ("counts", ""), ("truncate(16)", ""), ("full", "")],
    later: &[],
};
const METRICS_MODE: Text = Text {
    accepted: "a metrics mode",
    pattern: Some(|| {
        let truncate = any_case(["truncate"]);
        format!(
            r"^\s*(?:{}|{truncate}\(\s*0*[1-9][0-9]*\s*\))\s*$",
            any_case(["none", "counts", "full"])
        )
    }),
    any_scalar: false,
};

const WHOLE_NUMBER: Text = Text {
    accepted: "a whole number",
    pattern: Some(|| "^[0-9]+$".to_owned()),
    any_scalar: true,
};

/// Properties that the metadata itself holds, so a table cannot be given them.
const RESERVED_PROPERTIES: [&str; 8] = [
    "uuid",
    "snapshot-count",
    "current-snapshot-id",
    "current-snapshot-summary",
    "current-snapshot-timestamp-ms",
    "current-schema",
    "default-partition-spec",
    "default-sort-order",
];

/// Reads the key `properties`, onto what `properties` holds already.
pub(super) fn read_properties(field: &Field<'_>, properties: &mut BTreeMap<String, String>) {
    let whole = field;
    let inherited = property_problems(pairs(properties));
    let entries = field.entries().unwrap_or_default();
    for (name, field) in &entries {
        let name = *name;
        let Some(value) = field.text() else {
            continue;
        };
        if name.starts_with("landfast.") {
            field
                .key_problem("properties that begin with `landfast.` are kept by landfast itself; remove it");
        } else if RESERVED_PROPERTIES.contains(&name) {
            field.key_problem("this property is part of every table's metadata and cannot be set; remove it");
        } else if name == "format-version" {
            // Said, not set: the metadata holds it, and `2` is what landfast writes.
            if value != "2" {
                field.problem("landfast writes table format version 2; write `2`, or remove the property");
            }
        } else {
            properties.insert(name.to_owned(), value);
        }
    }
    for problem in property_problems(pairs(properties)) {
        let written = entries.iter().find(|(name, _)| *name == problem.property);
        match written {
            Some((_, field)) => field.problem(problem.reason),
            // One of `defaults` that does not go with one of the table's own.
            None if !inherited.contains(&problem) => {
                whole.problem(format!("`{}` {}", problem.property, problem.reason));
            }
            None => {}
        }
    }
}

fn pairs(properties: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    properties
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
}

#[cfg(test)]
mod tests {
    use super::super::key::Absent;
    use super::*;

    #[test]
    fn every_described_property_is_one_that_the_writer_follows() {
        for key in &KNOWN {
            let name = key.name.replace("COLUMN", "id");
            let problems = property_problems([(name.as_str(), "neither this")]);
            assert_eq!(problems.len(), 1, "{name}");
            assert_eq!(problems[0].property, name);
            if let Absent::Default(default) = key.absent {
                assert_eq!(property_problems([(name.as_str(), default().as_str())]), []);
            }
        }
    }
}
