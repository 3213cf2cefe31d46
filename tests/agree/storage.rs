//! Spark on the `storage` warehouse of a server, as a Hadoop catalog: the name of the metadata and the hint are its own.

use std::collections::BTreeMap;
use std::path::Path;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::support::lake::Lake;
use crate::support::push::Push;
use crate::support::readers::{Column, Matches, Reader, sort_by};
use crate::support::server::Server;
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        spark_reads_a_warehouse_that_is_served,
        every_reader_finds_partitions_of_hard_values,
        spark_finds_partitions_of_hard_values,
    ]
}

const COLUMNS: &str = r#"
      - { name: id, type: long, required: true }
      - { name: kind, type: string }
      - { name: day, type: date }
      - { name: at, type: timestamptz }
      - { name: total, type: "decimal(12,2)" }
"#;

const KINDS: [Option<&str>; 6] = [
    Some("a/b=c%20 é"),
    Some(""),
    Some("null"),
    Some("日本 'quoted' \"☃\"+&?#"),
    Some("a%2Fb%3Dc"),
    None,
];
const TIMES: [(Option<&str>, Option<&str>); 4] = [
    (Some("1969-12-31T23:59:59.999999Z"), Some("1969-12-31")),
    (Some("1960-02-29T00:00:00Z"), Some("0001-01-01")),
    (None, None),
    (Some("2026-11-21T12:00:00Z"), Some("9999-12-31")),
];

/// A row of each kind at each time.
fn rows() -> Vec<Value> {
    let of = KINDS
        .iter()
        .flat_map(|kind| TIMES.iter().map(move |times| (kind, times)));
    of.enumerate()
        .map(|(id, (kind, (at, day)))| {
            let total = format!("{}.25", id as i64 - 10);
            json!({ "id": id, "kind": kind, "at": at, "day": day, "total": total })
        })
        .collect()
}

/// A lake with both tables, two commits each: all rows, then the first alone under another id.
async fn served() -> TestResult<(Lake, Server)> {
    let lake = Lake::new()?;
    let plain = format!("  t.plain:\n    from: [{{ subscription: plain }}]\n    schema: {COLUMNS}");
    let by = "partition_by: [kind, \"day(at)\", day]";
    let parts = format!("  t.parts:\n    from: [{{ subscription: parts }}]\n    {by}\n    schema: {COLUMNS}");
    let paced = "defaults: { batch: { commit_interval: 0s } }";
    let server = Server::serve(&lake.config("", &format!("{paced}\ntables:\n{plain}{parts}"))?).await?;
    let pusher = server.pusher();
    let lines: String = rows().iter().map(|row| format!("{row}\n")).collect();
    let mut again = rows()[0].clone();
    again["id"] = 24.into();
    for subscription in ["plain", "parts"] {
        assert_eq!(pusher.push(&Push::new(subscription, 1, &lines)).await, 204);
        assert_eq!(pusher.push(&Push::json(subscription, 2, &again)).await, 204);
    }
    assert_eq!(lake.dead_letters()?, Vec::<Value>::new());
    Ok((lake, server))
}

async fn spark_reads_a_warehouse_that_is_served() -> TestResult {
    let spark = Reader::spark()?;
    let (lake, _server) = served().await?;
    for (table, files, partitions) in [("t.plain", 2, 1), ("t.parts", 25, 24)] {
        let place = lake.table(table);
        assert_eq!(spark.count(&place)?, 25, "{table}");
        assert_eq!(spark.columns(&place)?, columns(), "{table}");
        assert_eq!(spark.sums(&place, &["id", "total"])?, ["300", "26.75"], "{table}");
        assert_eq!(spark.inspect(&place, "files")?.len(), files, "{table}");
        let found = spark.inspect(&place, "partitions")?;
        assert_eq!(found.len(), partitions, "{table}");
        assert_eq!(sum(&found, "record_count"), 25, "{table}");
        assert_eq!(sum(&found, "file_count"), files as u64, "{table}");
        let mut snapshots = spark.inspect(&place, "snapshots")?;
        sort_by(&mut snapshots, "committed_at");
        let totals: Vec<_> = snapshots
            .iter()
            .map(|snapshot| {
                (
                    snapshot["operation"].as_str(),
                    snapshot["summary"]["total-records"].as_str(),
                )
            })
            .collect();
        assert_eq!(
            totals,
            [(Some("append"), Some("24")), (Some("append"), Some("25"))],
            "{table}"
        );
        assert_eq!(snapshots[1]["parent_id"], snapshots[0]["snapshot_id"], "{table}");
    }
    spark_sees_the_partitions_that_pyiceberg_sees(&lake.table("t.parts"), &lake.metadata("t.parts")?)
}

fn sum(rows: &[Value], field: &str) -> u64 {
    rows.iter().filter_map(|row| row[field].as_u64()).sum()
}

/// Rows per partition, keyed by the kind and the day of the month, which tell all partitions here apart.
fn spark_sees_the_partitions_that_pyiceberg_sees(folder: &Path, metadata: &Path) -> TestResult {
    let mut by_spark = BTreeMap::new();
    for row in Reader::spark()?.inspect(folder, "partitions")? {
        let partition = &row["partition"];
        let key = json!([partition["kind"], partition["at_day"], partition["day"]]);
        by_spark.insert(key.to_string(), row["record_count"].clone());
    }
    let mut expected = BTreeMap::new();
    for row in rows() {
        let at = row["at"].as_str().map(|at| &at[..10]);
        let count = if row["id"] == 0 { 2 } else { 1 };
        expected.insert(json!([row["kind"], at, row["day"]]).to_string(), json!(count));
    }
    assert_eq!(by_spark, expected);
    let counts = Reader::pyiceberg()?.partition_counts(metadata)?;
    assert_eq!(counts.rows, counts.files);
    assert_eq!((counts.files.len(), counts.files.values().sum::<u64>()), (24, 25));
    Ok(())
}

async fn every_reader_finds_partitions_of_hard_values() -> TestResult {
    let (lake, _server) = served().await?;
    let place = lake.metadata("t.parts")?;
    finds_partitions(Reader::pyiceberg()?, &place, 0)?;
    finds_partitions(Reader::duckdb()?, &place, 0)?;
    finds_partitions(Reader::polars()?, &place, 0)?;
    // ClickHouse opens the files of a whole day on whose first moment a filter ends.
    finds_partitions(Reader::chdb()?, &place, 7)
}

async fn spark_finds_partitions_of_hard_values() -> TestResult {
    let spark = Reader::spark()?;
    let (lake, _server) = served().await?;
    finds_partitions(spark, &lake.metadata("t.parts")?, 0)
}

/// At most `more` files than those with matching rows, which are one a row, are opened by day.
fn finds_partitions(reader: &Reader, place: &Path, more: u64) -> TestResult {
    assert_eq!(reader.count(place)?, 25, "{reader:?}");
    assert_eq!(reader.columns(place)?, columns(), "{reader:?}");
    assert_eq!(
        reader.sums(place, &["id", "total"])?,
        ["300", "26.75"],
        "{reader:?}"
    );
    for kind in KINDS.into_iter().flatten() {
        let rows = if Some(kind) == KINDS[0] { 5 } else { 4 };
        let expected = Matches {
            rows,
            planned_files: Some(rows),
        };
        let found = reader.count_where(place, "kind", "=", kind)?;
        assert_eq!(found, expected, "{reader:?} {kind}");
    }
    for (column, op, literal, rows) in [
        ("day", "=", "0001-01-01", 6),
        ("day", "<=", "1969-12-31", 13),
        ("at", "<", "1970-01-01T00:00:00+00:00", 13),
        ("at", "<", "1969-12-31T00:00:00+00:00", 6),
        ("at", ">=", "1970-01-01T00:00:00+00:00", 6),
    ] {
        let found = reader.count_where(place, column, op, literal)?;
        assert_eq!(found.rows, rows, "{reader:?} {column} {op} {literal}");
        let planned = found.planned_files.ok_or("it says what it opens")?;
        assert!(
            (rows..=rows + more).contains(&planned),
            "{reader:?} {column} {op} {literal}: {planned}"
        );
    }
    Ok(())
}

fn columns() -> BTreeMap<String, Column> {
    let column = |values, min: &str, max: &str| Column {
        values,
        nulls: 25 - values,
        min: json!(min),
        max: json!(max),
    };
    BTreeMap::from([
        (
            "id".to_owned(),
            Column {
                values: 25,
                nulls: 0,
                min: json!(0),
                max: json!(24),
            },
        ),
        ("kind".to_owned(), column(21, "", "日本 'quoted' \"☃\"+&?#")),
        ("day".to_owned(), column(19, "0001-01-01", "9999-12-31")),
        (
            "at".to_owned(),
            column(19, "1960-02-29T00:00:00.000000Z", "2026-11-21T12:00:00.000000Z"),
        ),
        ("total".to_owned(), column(25, "-10.25", "13.25")),
    ])
}
