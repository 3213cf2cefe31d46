//! Partitioned tables: what is written is what PyIceberg computes, and what every reader finds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Int32Array, Int64Array,
    LargeBinaryArray, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use iceberg::spec::Transform;
use landfast::write::{TableWriter, WriteOptions, write_data_files};
use libtest_mimic::Trial;
use serde_json::Value;

use super::{Lab, rows};
use crate::support::readers::{Matches, Reader};
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        identity_of_every_type_is_what_readers_say,
        days_are_what_readers_say_also_before_1970,
        folders_are_named_as_java_names_them,
        a_thousand_partitions_make_a_thousand_files,
        idle_files_end_when_too_many_are_open,
        the_summary_counts_the_partitions,
    ]
}

/// Three rows of each value, of nine values, in turn; the last value is null.
fn thrice<T: Clone>(values: [T; 4]) -> Vec<Option<T>> {
    let values = values.into_iter().map(Some).chain([None]);
    values.cycle().take(15).collect()
}

const MICROS: [i64; 4] = [-1, 0, 1_700_000_000_123_456, -62_135_596_800_000_000];

fn identities() -> TestResult<Vec<(&'static str, ArrayRef)>> {
    let fixed = |values: Vec<Option<Vec<u8>>>, size| {
        FixedSizeBinaryArray::try_from_sparse_iter_with_size(values.into_iter(), size)
    };
    let blobs = [vec![], vec![0], vec![255, 0, 1], b"text".to_vec()];
    let texts = ["", "plain", "a/b c=d%25&é☃\"'", "null"];
    Ok(vec![
        (
            "boolean",
            Arc::new(BooleanArray::from(thrice([true, false, true, false]))),
        ),
        (
            "int",
            Arc::new(Int32Array::from(thrice([i32::MIN, -1, 0, i32::MAX]))),
        ),
        (
            "long",
            Arc::new(Int64Array::from(thrice([i64::MIN, -1, 0, i64::MAX]))),
        ),
        (
            "date",
            Arc::new(Date32Array::from(thrice([-719_162, -1, 0, 20_000]))),
        ),
        (
            "time",
            Arc::new(Time64MicrosecondArray::from(thrice([
                0,
                1,
                86_399_999_999,
                3_600_000_000,
            ]))),
        ),
        (
            "timestamp",
            Arc::new(TimestampMicrosecondArray::from(thrice(MICROS))),
        ),
        (
            "timestamptz",
            Arc::new(TimestampMicrosecondArray::from(thrice(MICROS)).with_timezone("+00:00")),
        ),
        ("string", Arc::new(StringArray::from(thrice(texts)))),
        (
            "decimal(9,2)",
            Arc::new(
                Decimal128Array::from(thrice([-1, 0, 1250, 999_999_999])).with_precision_and_scale(9, 2)?,
            ),
        ),
        (
            "decimal(38,10)",
            Arc::new(
                Decimal128Array::from(thrice([-1, 0, 10i128.pow(37), -(10i128.pow(37))]))
                    .with_precision_and_scale(38, 10)?,
            ),
        ),
        (
            "fixed[3]",
            Arc::new(fixed(
                thrice([[0u8; 3], [255; 3], [1, 2, 3], [9; 3]].map(|bytes| bytes.to_vec())),
                3,
            )?),
        ),
        ("binary", Arc::new(LargeBinaryArray::from_iter(thrice(blobs)))),
    ])
}

async fn identity_of_every_type_is_what_readers_say() -> TestResult {
    let lab = Lab::new()?;
    let [pyiceberg, duckdb] = Reader::all()?;
    for (place, (kind, values)) in identities()?.into_iter().enumerate() {
        let columns = [("key", kind), ("id", "long")];
        let by = [("key", Transform::Identity)];
        let table = lab.table(&format!("i{place}"), &columns, &by, &[]).await?;
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..15));
        let files = write_data_files(&table, vec![rows(&table, vec![values, ids])?], &lab.random)
            .await?
            .durable()
            .await?;
        let distinct = if kind == "boolean" { 3 } else { 5 };
        assert_eq!(files.len(), distinct, "{kind}");
        let place = lab.commit(&table, files).await?;
        let counts = pyiceberg.partition_counts(&place)?;
        assert_eq!(counts.rows, counts.files, "{kind}");
        assert_eq!(counts.files.len(), distinct, "{kind}");
        let tally = |reader: &Reader| -> TestResult<BTreeMap<String, u64>> {
            let mut tally = BTreeMap::new();
            for row in reader.rows(&place)? {
                *tally.entry(row["key"].to_string()).or_default() += 1;
            }
            Ok(tally)
        };
        let found = tally(duckdb)?;
        assert_eq!(tally(pyiceberg)?, found, "{kind}");
        assert_eq!(found.values().sum::<u64>(), 15, "{kind}");
        prunes(pyiceberg, duckdb, &place, kind, &found)?;
    }
    Ok(())
}

/// A filter on the value opens that partition's file alone.
fn prunes(
    pyiceberg: &Reader,
    duckdb: &Reader,
    place: &std::path::Path,
    kind: &str,
    found: &BTreeMap<String, u64>,
) -> TestResult {
    // PyIceberg has no literals of these.
    if ["binary", "fixed[3]", "boolean"].contains(&kind) {
        return Ok(());
    }
    for (value, count) in found.iter().filter(|(value, _)| *value != "null") {
        // PyIceberg wants the zone as an offset.
        let value: Value = serde_json::from_str(&value.replace("Z\"", "+00:00\""))?;
        let matches = pyiceberg.count_where(place, "key", "=", value.clone())?;
        let expected = Matches {
            rows: *count,
            planned_files: Some(1),
        };
        assert_eq!(matches, expected, "{kind} {value}");
        assert_eq!(
            duckdb.count_where(place, "key", "=", value.clone())?.rows,
            *count,
            "{kind} {value}"
        );
    }
    Ok(())
}

async fn days_are_what_readers_say_also_before_1970() -> TestResult {
    let lab = Lab::new()?;
    let day = 86_400_000_000;
    let micros = vec![
        Some(-day - 1),
        Some(-day),
        Some(-1),
        Some(0),
        Some(day - 1),
        Some(day),
        None,
        Some(1_700_000_000_000_000),
        Some(-62_135_596_800_000_000),
    ];
    let at = TimestampMicrosecondArray::from(micros);
    let dates = Date32Array::from(vec![
        Some(-2),
        Some(-1),
        Some(-1),
        Some(0),
        Some(0),
        Some(1),
        None,
        Some(19_675),
        Some(-719_162),
    ]);
    let cases: [(&str, ArrayRef); 3] = [
        ("timestamp", Arc::new(at.clone())),
        ("timestamptz", Arc::new(at.with_timezone("+00:00"))),
        ("date", Arc::new(dates)),
    ];
    let [pyiceberg, duckdb] = Reader::all()?;
    for (kind, values) in cases {
        let table = lab
            .table(kind, &[("at", kind)], &[("at", Transform::Day)], &[])
            .await?;
        let files = write_data_files(&table, vec![rows(&table, vec![values])?], &lab.random)
            .await?
            .durable()
            .await?;
        assert_eq!(files.len(), 7, "{kind}");
        let place = lab.commit(&table, files).await?;
        let counts = pyiceberg.partition_counts(&place)?;
        assert_eq!(counts.rows, counts.files, "{kind}");
        let (early, late) = match kind {
            "timestamptz" => ("1969-12-31T00:00:00+00:00", "1970-01-01T00:00:00+00:00"),
            "timestamp" => ("1969-12-31T00:00:00", "1970-01-01T00:00:00"),
            _ => ("1969-12-31", "1970-01-01"),
        };
        for (op, literal, rows) in [(">=", late, 4), ("<", late, 4), ("<", early, 2), (">=", early, 6)] {
            assert_eq!(
                duckdb.count_where(&place, "at", op, literal)?.rows,
                rows,
                "{kind} {op} {literal}"
            );
            let matches = pyiceberg.count_where(&place, "at", op, literal)?;
            assert_eq!(matches.rows, rows, "{kind} {op} {literal}");
            assert!(
                matches.planned_files < Some(7),
                "{kind} {op} {literal}: {matches:?}"
            );
        }
        assert_eq!(duckdb.columns(&place)?, pyiceberg.columns(&place)?);
    }
    Ok(())
}

async fn folders_are_named_as_java_names_them() -> TestResult {
    let lab = Lab::new()?;
    let by = [("kind", Transform::Identity), ("at", Transform::Day)];
    let table = lab
        .table("named", &[("kind", "string"), ("at", "timestamptz")], &by, &[])
        .await?;
    let kinds: ArrayRef = Arc::new(StringArray::from(vec![Some("a b/c"), None]));
    let at = TimestampMicrosecondArray::from(vec![Some(1_795_219_200_000_000), None]).with_timezone("+00:00");
    let files = write_data_files(
        &table,
        vec![rows(&table, vec![kinds, Arc::new(at)])?],
        &lab.random,
    )
    .await?
    .durable()
    .await?;
    let folders: BTreeSet<&str> = files
        .iter()
        .filter_map(|file| file.file_path().rsplit_once('/')?.0.split_once("/data/"))
        .map(|(_, folder)| folder)
        .collect();
    assert_eq!(
        folders,
        BTreeSet::from(["kind=a+b%2Fc/at_day=2026-11-21", "kind=null/at_day=null"])
    );
    let place = lab.commit(&table, files).await?;
    for reader in Reader::all()? {
        assert_eq!(reader.count(&place)?, 2);
        assert_eq!(reader.count_where(&place, "kind", "=", "a b/c")?.rows, 1);
    }
    Ok(())
}

async fn a_thousand_partitions_make_a_thousand_files() -> TestResult {
    let lab = Lab::new()?;
    let columns = [("key", "int"), ("id", "long"), ("note", "string")];
    let table = lab
        .table("many", &columns, &[("key", Transform::Identity)], &[])
        .await?;
    // Small enough that stages are put aside, large enough that none is ended early.
    let options = WriteOptions {
        memory_bytes: 4 << 20,
        max_open_files: 4,
    };
    let mut writer = TableWriter::try_new(&table, &lab.random, options)?;
    for from in (0..50_000i64).step_by(5_000) {
        let ids = from..from + 5_000;
        let keys = Int32Array::from_iter_values(ids.clone().map(|id| (id * 7919 % 1000) as i32));
        let notes = StringArray::from_iter_values(ids.clone().map(|id| format!("note {id}")));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(keys),
            Arc::new(Int64Array::from_iter_values(ids)),
            Arc::new(notes),
        ];
        writer.write(rows(&table, columns)?).await?;
    }
    let files = writer.finish().await?;
    assert_eq!(files.len(), 1000);
    assert!(files.iter().all(|file| file.record_count() == 50));
    let in_order = &lab.read(&files[17]).await?[0];
    let ids = arrow_array::cast::as_primitive_array::<arrow_array::types::Int64Type>(in_order.column(1));
    assert!(ids.values().is_sorted());
    let place = lab.commit(&table, files).await?;
    let [pyiceberg, duckdb] = Reader::all()?;
    assert_eq!(
        (pyiceberg.count(&place)?, duckdb.count(&place)?),
        (50_000, 50_000)
    );
    assert_eq!(duckdb.count_where(&place, "key", "=", 500)?.rows, 50);
    let matches = pyiceberg.count_where(&place, "key", "=", 500)?;
    assert_eq!(
        matches,
        Matches {
            rows: 50,
            planned_files: Some(1)
        }
    );
    Ok(())
}

async fn idle_files_end_when_too_many_are_open() -> TestResult {
    let lab = Lab::new()?;
    let columns = [("key", "int"), ("id", "long")];
    let table = lab
        .table("idle", &columns, &[("key", Transform::Identity)], &[])
        .await?;
    let options = WriteOptions {
        memory_bytes: 1 << 20,
        max_open_files: 2,
    };
    let mut writer = TableWriter::try_new(&table, &lab.random, options)?;
    // One partition after the other, then the first again: its file was ended long ago.
    for key in [0, 1, 2, 3, 4, 5, 0] {
        let keys: ArrayRef = Arc::new(Int32Array::from_value(key, 20_000));
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..20_000));
        writer.write(rows(&table, vec![keys, ids])?).await?;
    }
    let files = writer.finish().await?;
    assert_eq!(files.len(), 7);
    let place = lab.commit(&table, files).await?;
    assert_eq!(Reader::duckdb()?.count_where(&place, "key", "=", 0)?.rows, 40_000);
    Ok(())
}

async fn the_summary_counts_the_partitions() -> TestResult {
    let lab = Lab::new()?;
    let table = lab
        .table("counted", &[("key", "int")], &[("key", Transform::Identity)], &[])
        .await?;
    let keys: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3, 1]));
    let files = write_data_files(&table, vec![rows(&table, vec![keys])?], &lab.random)
        .await?
        .durable()
        .await?;
    let place = lab.commit(&table, files).await?;
    let pyiceberg = Reader::pyiceberg()?;
    let summary = &pyiceberg.describe(&place)?["snapshots"][0]["summary"];
    assert_eq!(summary["changed-partition-count"], "3");
    assert_eq!(summary["added-data-files"], "3");
    let manifest = &pyiceberg.inspect(&place, "manifests")?[0]["partition_summaries"][0];
    assert_eq!(
        (&manifest["lower_bound"], &manifest["upper_bound"]),
        (&"1".into(), &"3".into())
    );
    Ok(())
}
