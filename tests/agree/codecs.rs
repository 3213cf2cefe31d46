//! Every reader on every codec: counts, sums, nulls, ends, and filters that must open no file they need not.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use iceberg::spec::Transform;
use landfast::write::write_data_files;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::support::readers::{Column, Reader};
use crate::support::{Stop, TestResult, test};
use crate::write::{Lab, rows};

const CODECS: [&str; 6] = ["none", "snappy", "gzip", "lz4", "zstd", "brotli"];
const ROWS: i64 = 1000;
const DAY: i64 = 86_400_000_000;

type Open = fn() -> TestResult<&'static Reader>;

/// The readers; whether they open no file but those whose values or bounds may hold what a filter asks for. ClickHouse
/// opens some whose bounds are only near it.
const READERS: [(&str, Open, bool); 5] = [
    ("pyiceberg", Reader::pyiceberg, true),
    ("duckdb", Reader::duckdb, true),
    ("polars", Reader::polars, true),
    ("chdb", Reader::chdb, false),
    ("spark", Reader::spark, true),
];

/// A reader, a codec that it lacks, and what it says then.
const LACKING: [(&str, &str, &str); 1] = [("spark", "brotli", "BrotliCodec")];

pub fn tests() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, open, exact) in READERS {
        trials.push(test(
            &format!("agree::codecs::{name}_reads_every_codec_it_has"),
            move || every_codec(name, open, exact),
        ));
    }
    for (name, codec, complaint) in LACKING {
        let (_, open, _) = READERS
            .into_iter()
            .find(|reader| reader.0 == name)
            .expect("it is a reader");
        trials.push(test(&format!("agree::codecs::{name}_reads_{codec}"), move || {
            lacks(name, open, codec, complaint)
        }));
    }
    trials
}

async fn every_codec(name: &'static str, open: Open, exact: bool) -> TestResult {
    let reader = open()?;
    let lab = Lab::new()?;
    for codec in CODECS {
        if LACKING
            .iter()
            .any(|(reader, lacked, _)| (*reader, *lacked) == (name, codec))
        {
            continue;
        }
        let place = table_of(&lab, codec).await?;
        assert_eq!(reader.count(&place)?, 1000, "{codec}");
        assert_eq!(reader.columns(&place)?, columns(), "{codec}");
        assert_eq!(
            reader.sums(&place, &["id", "total"])?,
            ["499500", "1235.00"],
            "{codec}"
        );
        // The codec is nothing to a bound: all filters once, and of the other codecs the first two.
        let filter_count = if codec == "zstd" { usize::MAX } else { 2 };
        for (column, op, literal, rows, files) in filters().into_iter().take(filter_count) {
            let found = reader.count_where(&place, column, op, literal.clone())?;
            assert_eq!(found.rows, rows, "{codec}: {column} {op} {literal}");
            let most = if exact { files } else { 2 };
            let planned = found.planned_files.ok_or("it says what it opens")?;
            assert!(
                (files..=most).contains(&planned),
                "{codec}: {column} {op} {literal}: {planned} files"
            );
        }
    }
    Ok(())
}

/// Ignored as long as the reader says that it lacks the codec; when it no longer does, `LACKING` is out of date.
async fn lacks(name: &str, open: Open, codec: &str, complaint: &str) -> TestResult {
    let reader = open()?;
    let lab = Lab::new()?;
    let place = table_of(&lab, codec).await?;
    match reader.columns(&place) {
        Err(Stop::Failed(text)) if text.contains(complaint) => Err(Stop::Ignored(format!(
            "{name} has no {codec}: {complaint} is not there"
        ))),
        Err(stop) => Err(stop),
        Ok(_) => Err(format!("{name} reads {codec} now.").into()),
    }
}

/// A table of three partitions, each with a range of its own in every column.
async fn table_of(lab: &Lab, codec: &str) -> TestResult<PathBuf> {
    let columns = [
        ("id", "long"),
        ("kind", "string"),
        ("total", "decimal(12,2)"),
        ("ratio", "double"),
        ("day", "date"),
        ("at", "timestamptz"),
        ("flag", "boolean"),
        ("note", "string"),
        ("gone", "string"),
    ];
    let properties = [("write.parquet.compression-codec", codec)];
    let by = [("kind", Transform::Identity)];
    let table = lab.table(codec, &columns, &by, &properties).await?;
    let ids = 0..ROWS;
    let totals = Decimal128Array::from_iter_values(ids.clone().map(|id| i128::from(id - 376)));
    let at = TimestampMicrosecondArray::from_iter_values(ids.clone().map(|id| (id - 400) * DAY));
    let notes = ids
        .clone()
        .map(|id| (id % 3 > 0).then(|| format!("a note on {id}, and again: {id}")));
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ids.clone())),
        Arc::new(StringArray::from_iter_values(ids.clone().map(kind))),
        Arc::new(totals.with_precision_and_scale(12, 2)?),
        Arc::new(Float64Array::from_iter_values(
            ids.clone().map(|id| id as f64 / 8.0),
        )),
        Arc::new(Date32Array::from_iter_values(
            ids.clone().map(|id| id as i32 - 400),
        )),
        Arc::new(at.with_timezone("+00:00")),
        Arc::new(BooleanArray::from_iter(ids.clone().map(|id| Some(id >= 400)))),
        Arc::new(StringArray::from_iter(notes)),
        Arc::new(StringArray::new_null(ROWS as usize)),
    ];
    let files = write_data_files(&table, vec![rows(&table, arrays)?], &lab.random)
        .await?
        .durable()
        .await?;
    assert_eq!(files.len(), 3);
    lab.commit(&table, files).await
}

fn kind(id: i64) -> &'static str {
    match id {
        ..400 => "a/b=c%20 é",
        400..800 => "k",
        _ => "",
    }
}

fn columns() -> BTreeMap<String, Column> {
    let full = |min: Value, max: Value| Column {
        values: 1000,
        nulls: 0,
        min,
        max,
    };
    let columns = [
        ("id", full(json!(0), json!(999))),
        ("kind", full(json!(""), json!("k"))),
        ("total", full(json!("-3.76"), json!("6.23"))),
        ("ratio", full(json!(0.0), json!(124.875))),
        ("day", full(json!("1968-11-27"), json!("1971-08-23"))),
        (
            "at",
            full(
                json!("1968-11-27T00:00:00.000000Z"),
                json!("1971-08-23T00:00:00.000000Z"),
            ),
        ),
        ("flag", full(json!(false), json!(true))),
        (
            "note",
            Column {
                values: 666,
                nulls: 334,
                min: json!("a note on 1, and again: 1"),
                max: json!("a note on 998, and again: 998"),
            },
        ),
        (
            "gone",
            Column {
                values: 0,
                nulls: 1000,
                min: Value::Null,
                max: Value::Null,
            },
        ),
    ];
    columns
        .into_iter()
        .map(|(name, column)| (name.to_owned(), column))
        .collect()
}

/// Column, comparison, literal; the rows that match; the files whose values or bounds say that they may hold one.
fn filters() -> [(&'static str, &'static str, Value, u64, u64); 12] {
    [
        ("kind", "=", json!("a/b=c%20 é"), 400, 1),
        ("id", "<", json!(400), 400, 1),
        ("kind", "=", json!(""), 200, 1),
        ("kind", "=", json!("none"), 0, 0),
        ("kind", ">", json!("b"), 400, 1),
        ("id", ">=", json!(799), 201, 2),
        ("id", ">", json!(999), 0, 0),
        ("total", "<=", json!("0.23"), 400, 1),
        ("day", "<", json!("1970-01-01"), 400, 1),
        ("day", ">=", json!("1970-01-02"), 599, 2),
        ("at", "<", json!("1970-01-01T00:00:00+00:00"), 400, 1),
        ("at", ">=", json!("1971-02-05T00:00:00+00:00"), 200, 1),
    ]
}
