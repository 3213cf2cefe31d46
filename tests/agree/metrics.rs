//! What manifests say of data files: as PyIceberg and Java decode it, and beside what Java writes of the same rows.

use std::path::Path;

use libtest_mimic::Trial;
use serde_json::{Map, Value, json};

use crate::support::lake::Lake;
use crate::support::push::Push;
use crate::support::readers::Reader;
use crate::support::server::Server;
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        java_decodes_what_pyiceberg_decodes,
        java_writes_the_same_metrics_of_the_same_rows,
    ]
}

const COLUMNS: &str = r#"
      - { name: id, type: long, required: true }
      - { name: flag, type: boolean }
      - { name: buyer, type: "struct<name: string, score: double, home: struct<zip: int>>" }
      - { name: lines, type: "list<struct<sku: string, price: double>>" }
      - { name: tags, type: "map<string, float>" }
      - { name: i, type: int }
      - { name: f, type: float }
      - { name: d, type: double }
      - { name: wide, type: "decimal(38,10)" }
      - { name: mid, type: "decimal(18,3)" }
      - { name: small, type: "decimal(4,2)" }
      - { name: day, type: date }
      - { name: at, type: timestamp }
      - { name: at_zone, type: timestamptz }
      - { name: text, type: string }
      - { name: key, type: uuid }
      - { name: four, type: "fixed[4]" }
      - { name: long_fixed, type: "fixed[20]" }
      - { name: bytes, type: binary }
      - { name: gone, type: string }
"#;

/// What must be the same of a file of ours and of Java's with the same rows.
const SAME: [&str; 15] = [
    "content",
    "file_format",
    "spec_id",
    "partition",
    "partition_path",
    "record_count",
    "value_counts",
    "null_value_counts",
    "nan_value_counts",
    "lower_bytes",
    "upper_bytes",
    "lower_bounds",
    "upper_bounds",
    "split_offsets",
    "sort_order_id",
];

/// Tables of these columns, and what else is configured of each.
const TABLES: [(&str, &str); 8] = [
    ("types", ""),
    (
        "partitioned",
        r#"partition_by: [text, "day(at_zone)", small, bytes, flag]"#,
    ),
    ("full", "properties: { write.metadata.metrics.default: full }"),
    (
        "counts",
        "properties: { write.metadata.metrics.default: counts, write.metadata.metrics.column.text: truncate(3) }",
    ),
    (
        "none",
        "properties: { write.metadata.metrics.default: none, write.metadata.metrics.column.id: counts, \
         write.metadata.metrics.column.buyer.score: full, write.metadata.metrics.column.lines.element.sku: full }",
    ),
    (
        "short",
        "properties: { write.metadata.metrics.default: truncate(1) }",
    ),
    (
        "few",
        "properties: { write.metadata.metrics.max-inferred-column-defaults: \"10\" }",
    ),
    (
        "more",
        "properties: { write.metadata.metrics.max-inferred-column-defaults: \"20\" }",
    ),
];

fn rows() -> Vec<Value> {
    vec![
        json!({
            "id": i64::MIN, "flag": false, "i": i32::MIN, "f": f32::MIN, "d": f64::MIN,
            "wide": "-9999999999999999999999999999.9999999999", "mid": "-999999999999999.999", "small": "-99.99",
            "day": "0001-01-01", "at": "0001-01-01T00:00:00", "at_zone": "1969-12-31T23:59:59.999999Z", "text": "",
            "key": "00112233-4455-6677-8899-aabbccddeeff", "four": "AAAAAA==",
            "long_fixed": "AAAAAAAAAAAAAAAAAAAAAAAAAAA=", "bytes": "",
            "buyer": { "name": "a name of more than sixteen", "score": -0.0, "home": { "zip": 7 } },
            "lines": [{ "sku": "x", "price": 1.5 }, null, { "sku": null, "price": "NaN" }], "tags": { "k": 1.5, "n": null },
        }),
        json!({
            "id": i64::MAX, "flag": true, "i": i32::MAX, "f": f32::MAX, "d": f64::MAX,
            "wide": "9999999999999999999999999999.9999999999", "mid": "999999999999999.999", "small": "99.99",
            "day": "9999-12-31", "at": "9999-12-31T23:59:59.999999", "at_zone": "2026-11-21T01:02:03.000004Z",
            "text": "日本語日本語日本語日本語日本語日本語", "key": "ffffffff-ffff-ffff-ffff-ffffffffffff", "four": "/////w==",
            "long_fixed": "//////////////////////////8=", "bytes": "//8AAQID/wABAgMEBQYHCAkKCwwN",
            "buyer": { "name": "\u{10FFFF}", "score": 2.5, "home": null }, "lines": [], "tags": {},
        }),
        json!({ "id": 1, "wide": "-0.0000000129", "mid": "0.128", "small": "-1.28", "text": "plain", "bytes": "gA==", "d": "NaN" }),
        json!({ "id": 2, "wide": "0.0000000128", "mid": "-0.129", "small": "1.27", "text": "~~~~~~~~~~~~~~~~~", "f": 0.0, "d": 0.0 }),
    ]
}

/// A lake with each table in it, of one commit.
async fn served() -> TestResult<(Lake, Server)> {
    let lake = Lake::new()?;
    let tables: String = TABLES
        .iter()
        .map(|(name, more)| {
            format!("  t.{name}:\n    from: [{{ subscription: {name} }}]\n    {more}\n    schema: {COLUMNS}")
        })
        .collect();
    let server = Server::serve(&lake.config("", &format!("tables:\n{tables}"))?).await?;
    let lines: String = rows().iter().map(|row| format!("{row}\n")).collect();
    for (name, _) in TABLES {
        assert_eq!(server.pusher().push(&Push::new(name, 1, &lines)).await, 204);
    }
    assert_eq!(lake.dead_letters()?, Vec::<Value>::new());
    Ok((lake, server))
}

async fn java_decodes_what_pyiceberg_decodes() -> TestResult {
    let (spark, pyiceberg) = (Reader::spark()?, Reader::pyiceberg()?);
    let (lake, _server) = served().await?;
    for (name, _) in TABLES {
        let place = lake.metadata(&format!("t.{name}"))?;
        let by_java = sorted(spark.files(&place)?);
        let by_pyiceberg = sorted(pyiceberg.files(&place)?);
        assert_eq!(by_java.len(), by_pyiceberg.len(), "{name}");
        for (java, python) in by_java.iter().zip(&by_pyiceberg) {
            for (field, said) in java.as_object().into_iter().flatten() {
                if field != "partition_path" {
                    assert_eq!(said, &python[field], "{name}: {field}");
                }
            }
            folder_is_javas(java);
        }
    }
    Ok(())
}

fn sorted(mut files: Vec<Value>) -> Vec<Value> {
    files.sort_by_key(|file| (file["partition"].to_string(), file["file_path"].to_string()));
    files
}

/// The folder is the one that Java names for the partition, and the file is as long as its entry says.
fn folder_is_javas(file: &Value) {
    let path = file["file_path"]
        .as_str()
        .expect("a path")
        .trim_start_matches("file://");
    let folder = Path::new(path).parent().and_then(Path::to_str).expect("a folder");
    let partition = file["partition_path"].as_str().expect("a folder");
    let ends = if partition.is_empty() { "/data" } else { partition };
    assert!(folder.ends_with(ends), "{folder} {ends}");
    let length = std::fs::metadata(path).expect("the file is there").len();
    assert_eq!(file["file_size_in_bytes"], length);
}

async fn java_writes_the_same_metrics_of_the_same_rows() -> TestResult {
    let spark = Reader::spark()?;
    let (lake, _server) = served().await?;
    let mut differences = Vec::new();
    for (name, _) in TABLES {
        let place = lake.metadata(&format!("t.{name}"))?;
        let ours = sorted(spark.files(&place)?);
        let javas = sorted(spark.written_by_java(&place)?);
        assert_eq!(ours.len(), javas.len(), "{name}");
        for (ours, javas) in ours.iter().zip(&javas) {
            for field in SAME {
                compare(name, field, &[], (&ours[field], &javas[field]), &mut differences);
            }
            // Another encoder makes other sizes, of the same columns.
            let columns = |file: &Value| -> Vec<String> {
                let sizes = file["column_sizes"].as_object();
                sizes.into_iter().flat_map(Map::keys).cloned().collect()
            };
            assert_eq!(columns(ours), columns(javas), "{name}");
        }
    }
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
    Ok(())
}

/// Adds what differs to `differences`, unless it is known why.
fn compare(
    table: &str,
    field: &str,
    column: &[&str],
    (ours, javas): (&Value, &Value),
    differences: &mut Vec<String>,
) {
    if let (Some(a), Some(b)) = (ours.as_object(), javas.as_object()) {
        for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
            compare(
                table,
                field,
                &[key.as_str()],
                (&ours[key], &javas[key]),
                differences,
            );
        }
    } else if ours != javas && !is_explained(field, column, ours, javas) {
        differences.push(format!("{table} {field} {column:?}: we say {ours}, Java {javas}"));
    }
}

/// What differs and is right.
fn is_explained(field: &str, column: &[&str], ours: &Value, javas: &Value) -> bool {
    // 0 and -0, of floats and doubles.
    let zeros = ["00000000", "00000080", "0000000000000000", "0000000000000080"];
    let is_zero = |value: &Value| value.as_str().is_some_and(|bytes| zeros.contains(&bytes));
    match field {
        // A file that names no sort order is of order 0: unsorted.
        "sort_order_id" => ours.is_null() && *javas == 0,
        // Java's writer counts floats itself, and passes over those of a null struct: its counts are not those of rows.
        "value_counts" | "null_value_counts" => column == ["buyer.score"],
        // Parquet's statistics make a least 0 a -0 and a greatest -0 a 0; Java's writer keeps the ends of floats itself.
        "lower_bytes" | "upper_bytes" => is_zero(ours) && is_zero(javas),
        _ => false,
    }
}
