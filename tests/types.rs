//! Every type of format version 2 through the real binary, as independent readers see it: values, counts and bounds.

use libtest_mimic::Trial;
use serde_json::{Map, Value, json};

use crate::support::lake::Lake;
use crate::support::push::Push;
use crate::support::readers::{Reader, sort_by};
use crate::support::server::Server;
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        every_primitive_type_reads_back_at_its_extremes,
        counts_and_bounds_in_the_manifest_are_those_of_the_rows,
        files_of_all_nulls_and_all_nans_have_counts_and_no_bounds,
        values_past_the_extremes_are_dead_letters_and_round_nothing,
        nested_types_read_back_with_nulls_inside,
        struct_fields_have_counts_and_bounds_and_elements_have_neither,
        long_strings_prune_files_and_lose_no_row,
        long_equal_prefixes_and_the_last_characters_lose_no_row,
        snapshot_summaries_are_what_java_writes,
    ]
}

const PRIMITIVES: &str = r#"
tables:
  t.types:
    from: [{ subscription: types }]
    schema:
      - { name: id, type: long, required: true }
      - { name: flag, type: boolean }
      - { name: i, type: int }
      - { name: l, type: long }
      - { name: f, type: float }
      - { name: d, type: double }
      - { name: wide, type: "decimal(38,10)" }
      - { name: mid, type: "decimal(18,3)" }
      - { name: small, type: "decimal(4,2)" }
      - { name: day, type: date }
      - { name: clock, type: time }
      - { name: at, type: timestamp }
      - { name: at_zone, type: timestamptz }
      - { name: text, type: string }
      - { name: key, type: uuid }
      - { name: four, type: "fixed[4]" }
      - { name: bytes, type: binary }
"#;

/// The rows, written as the readers write them, so that what is sent is what must come back.
fn extremes() -> Vec<Value> {
    let mut rows = vec![
        json!({
            "id": i64::MIN, "flag": false, "i": i32::MIN, "l": i64::MIN, "f": f32::MIN, "d": f64::MIN,
            "wide": "-9999999999999999999999999999.9999999999", "mid": "-999999999999999.999", "small": "-99.99",
            "day": "0001-01-01", "clock": "00:00:00.000000", "at": "0001-01-01T00:00:00.000000",
            "at_zone": "0001-01-01T00:00:00.000000Z", "text": "", "key": "00000000-0000-0000-0000-000000000000",
            "four": "AAAAAA==", "bytes": "",
        }),
        json!({
            "id": i64::MAX, "flag": true, "i": i32::MAX, "l": i64::MAX, "f": f32::MAX, "d": f64::MAX,
            "wide": "9999999999999999999999999999.9999999999", "mid": "999999999999999.999", "small": "99.99",
            "day": "9999-12-31", "clock": "23:59:59.999999", "at": "9999-12-31T23:59:59.999999",
            "at_zone": "9999-12-31T23:59:59.999999Z", "text": "x".repeat(10_000),
            "key": "ffffffff-ffff-ffff-ffff-ffffffffffff", "four": "/////w==", "bytes": "//8AAQID/w==",
        }),
        json!({
            "id": 1, "flag": true, "i": 0, "l": -1, "f": f32::from_bits(1), "d": 5e-324,
            "wide": "0.0000000001", "mid": "-0.001", "small": "0.00", "day": "1969-12-31",
            "clock": "12:34:56.000001", "at": "1969-12-31T23:59:59.999999", "at_zone": "2026-11-21T01:02:03.000004Z",
            "text": "naïve \"☃\" \u{0} \u{10FFFF} 日本語 🧊", "key": "00112233-4455-6677-8899-aabbccddeeff",
            "four": "AAH+/w==", "bytes": "gA==",
        }),
    ];
    for (id, special) in [(2, "NaN"), (3, "Infinity"), (4, "-Infinity")] {
        let mut row = nulls(id);
        row["f"] = special.into();
        row["d"] = special.into();
        rows.push(row);
    }
    rows.push(nulls(5));
    rows
}

fn nulls(id: i64) -> Value {
    let mut row = Map::new();
    for name in [
        "flag", "i", "l", "f", "d", "wide", "mid", "small", "day", "clock", "at", "at_zone", "text", "key",
        "four", "bytes",
    ] {
        row.insert(name.to_owned(), Value::Null);
    }
    row.insert("id".to_owned(), id.into());
    row.into()
}

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// A served table with one message in it for each of `messages`, each committed before the next is sent.
async fn landed(rest: &str, subscription: &str, messages: &[String]) -> TestResult<(Lake, Server)> {
    let lake = Lake::new()?;
    let rest = format!("defaults: {{ batch: {{ commit_interval: 0s }} }}\n{rest}");
    let server = Server::serve(&lake.config("", &rest)?).await?;
    let pusher = server.pusher();
    for (id, message) in messages.iter().enumerate() {
        assert_eq!(pusher.push(&Push::new(subscription, id, message)).await, 204);
    }
    Ok((lake, server))
}

async fn every_primitive_type_reads_back_at_its_extremes() -> TestResult {
    let mut expected = extremes();
    // One message each, so that every value is also alone with its bounds, and the absent is as good as the null.
    let mut messages: Vec<String> = expected.iter().map(Value::to_string).collect();
    messages.push(r#"{"id":6}"#.to_owned());
    expected.push(nulls(6));
    let (lake, server) = landed(PRIMITIVES, "types", &messages).await?;
    sort_by(&mut expected, "id");
    assert_eq!(lake.rows("t.types", "id")?, expected);
    assert_eq!(lake.dead_letters()?, Vec::<Value>::new());

    let metadata = lake.metadata("t.types")?;
    for (column, op, literal, rows) in [
        ("i", "=", json!(i32::MIN), 1),
        ("l", ">=", json!(i64::MAX), 1),
        ("d", ">", json!(0.0), 4),
        ("wide", "<", json!("0.0000000000"), 1),
        ("small", "=", json!("99.99"), 1),
        ("day", ">", json!("9999-12-30"), 1),
        ("at", "<=", json!("1969-12-31T23:59:59.999999"), 2),
        ("at_zone", ">", json!("9999-12-31T23:59:59.999998+00:00"), 1),
        ("text", "=", json!(""), 1),
        ("flag", "=", json!(true), 2),
    ] {
        let found = Reader::duckdb()?.count_where(&metadata, column, op, literal.clone())?;
        // PyIceberg filters NaN out of comparisons, DuckDB takes it for the largest number.
        assert_eq!(found.rows, rows, "{column} {op} {literal}");
        let found = Reader::pyiceberg()?.count_where(&metadata, column, op, literal.clone())?;
        let nan = u64::from(column == "d");
        assert_eq!(found.rows, rows - nan, "PyIceberg: {column} {op} {literal}");
    }
    server.metric_is("iceberg_records_written_total", 8.0).await?;
    Ok(())
}

async fn counts_and_bounds_in_the_manifest_are_those_of_the_rows() -> TestResult {
    let rows = extremes();
    let (lake, _server) = landed(PRIMITIVES, "types", &[lines(&rows)]).await?;
    let metadata = lake.metadata("t.types")?;
    let files = Reader::pyiceberg()?.files(&metadata)?;
    let [file] = files.as_slice() else {
        return Err(format!("one message made {} files", files.len()).into());
    };
    assert_eq!(file["record_count"], 7);
    let columns = Reader::pyiceberg()?.columns(&metadata)?;
    for (name, column) in &columns {
        assert_eq!(file["value_counts"][name], 7, "{name}");
        assert_eq!(file["null_value_counts"][name], column.nulls, "{name}");
        assert!(file["column_sizes"][name].as_u64() > Some(0), "{name}");
        if matches!(name.as_str(), "f" | "d" | "text") {
            continue;
        }
        assert_eq!(file["lower_bounds"][name], column.min, "{name}");
        assert_eq!(file["upper_bounds"][name], column.max, "{name}");
    }
    for name in ["f", "d"] {
        assert_eq!(file["nan_value_counts"][name], 1);
        // A NaN is no bound.
        assert_eq!(file["lower_bounds"][name], "-Infinity");
        assert_eq!(file["upper_bounds"][name], "Infinity");
    }
    assert_eq!(file["nan_value_counts"].as_object().map(Map::len), Some(2));
    assert_eq!(file["lower_bounds"]["text"], "");
    assert_eq!(file["upper_bounds"]["text"], format!("{}y", "x".repeat(15)));
    assert_eq!(file["content"], "data");
    assert_eq!(file["file_format"], "parquet");
    assert_eq!(file["partition"], json!([]));
    assert_eq!(
        (&file["sequence_number"], &file["file_sequence_number"]),
        (&json!(1), &json!(1))
    );
    let path = file["file_path"]
        .as_str()
        .unwrap_or_default()
        .trim_start_matches("file://");
    assert_eq!(file["file_size_in_bytes"], std::fs::metadata(path)?.len());
    Ok(())
}

async fn files_of_all_nulls_and_all_nans_have_counts_and_no_bounds() -> TestResult {
    let mut nan = nulls(2);
    nan["f"] = "NaN".into();
    nan["d"] = "NaN".into();
    let (lake, _server) = landed(PRIMITIVES, "types", &[nulls(1).to_string(), nan.to_string()]).await?;
    let files = Reader::pyiceberg()?.files(lake.metadata("t.types")?)?;
    assert_eq!(files.len(), 2);
    for file in &files {
        for bounds in ["lower_bounds", "upper_bounds"] {
            let named: Vec<_> = file[bounds].as_object().into_iter().flatten().collect();
            assert_eq!(named.len(), 1, "{bounds}: {named:?}");
        }
        assert_eq!(file["null_value_counts"]["text"], 1);
        assert_eq!(file["value_counts"]["text"], 1);
    }
    assert_eq!(lake.rows("t.types", "id")?, [nulls(1), nan]);
    let metadata = lake.metadata("t.types")?;
    for op in ["<", "="] {
        assert_eq!(Reader::pyiceberg()?.count_where(&metadata, "d", op, 1.0)?.rows, 0);
    }
    Ok(())
}

async fn values_past_the_extremes_are_dead_letters_and_round_nothing() -> TestResult {
    let bad = [
        r#"{"id":9223372036854775808}"#,
        r#"{"id":1,"i":2147483648}"#,
        r#"{"id":1,"i":1.5}"#,
        r#"{"id":1,"f":3.5e38}"#,
        r#"{"id":1,"d":1e309}"#,
        r#"{"id":1,"small":"100.00"}"#,
        r#"{"id":1,"small":0.001}"#,
        r#"{"id":1,"wide":"10000000000000000000000000000"}"#,
        r#"{"id":1,"day":"0000-12-31"}"#,
        r#"{"id":1,"day":"10000-01-01"}"#,
        r#"{"id":1,"day":"2026-02-29"}"#,
        r#"{"id":1,"clock":"24:00:00"}"#,
        r#"{"id":1,"at":"2026-01-01T00:00:00Z"}"#,
        r#"{"id":1,"at_zone":"2026-01-01T00:00:00"}"#,
        r#"{"id":1,"at_zone":"9999-12-31T23:59:59-01:00"}"#,
        r#"{"id":1,"key":"00112233-4455-6677-8899-aabbccddeef"}"#,
        r#"{"id":1,"four":"AAH+"}"#,
        r#"{"id":1,"bytes":"not base64!"}"#,
        r#"{"id":1,"text":7}"#,
        r#"{"id":1,"flag":"true"}"#,
        r#"{"id":1,"d":"nan"}"#,
        r#"{"id":null}"#,
        r#"{"l":1}"#,
        r#"{"id":1,"id":2}"#,
        r#"{"id":1,"text":"\ud800"}"#,
    ];
    let (lake, _server) = landed(PRIMITIVES, "types", &[bad.join("\n") + "\n{\"id\":7,\"i\":1e3}"]).await?;
    let letters = lake.dead_letters()?;
    assert_eq!(letters.len(), bad.len());
    for (place, letter) in letters.iter().enumerate() {
        assert!(
            letter["reason"]["path"]
                .as_str()
                .is_some_and(|path| path.starts_with("$.")),
            "{letter}"
        );
        assert!(
            letter["position"].as_u64() < Some(bad.len() as u64),
            "{place}: {letter}"
        );
    }
    let rows = lake.rows("t.types", "id")?;
    assert_eq!(
        (rows.len(), &rows[0]["id"], &rows[0]["i"]),
        (1, &json!(7), &json!(1000))
    );
    Ok(())
}

const NESTED: &str = r#"
tables:
  t.nested:
    from: [{ subscription: nested }]
    schema:
      - { name: id, type: long, required: true }
      - { name: buyer, type: "struct<n: int, name: string, home: struct<city: string>>" }
      - { name: lines, type: "list<struct<sku: string required, n: int>>" }
      - { name: by_name, type: "map<string, int>" }
      - { name: by_number, type: "map<int, string>" }
      - { name: grid, type: "list<list<long>>" }
      - { name: places, type: "map<string, struct<x: double, tags: list<string>>>" }
"#;

async fn nested_types_read_back_with_nulls_inside() -> TestResult {
    let sent = [
        r#"{"id":1,"buyer":{"n":7,"name":"Åse","home":{"city":"Tromsø"}},"lines":[{"sku":"a","n":1},{"sku":"b"},null],
            "by_name":{"x":1,"y":null,"":2},"by_number":{"-2147483648":"least","7":null},"grid":[[1,2],[],null,[null]],
            "places":{"here":{"x":1.5,"tags":["a",null]},"there":null}}"#,
        r#"{"id":2,"buyer":{"n":null,"home":null},"lines":[],"by_name":{},"by_number":{},"grid":[],"places":{}}"#,
        r#"{"id":3,"buyer":null,"by_name":null}"#,
    ];
    let home = json!({"city": "Tromsø"});
    let mut expected = vec![
        json!({
            "id": 1, "buyer": {"n": 7, "name": "Åse", "home": home},
            "lines": [{"sku": "a", "n": 1}, {"sku": "b", "n": null}, null],
            "by_name": [["x", 1], ["y", null], ["", 2]], "by_number": [[i32::MIN, "least"], [7, null]],
            "grid": [[1, 2], [], null, [null]],
            "places": [["here", {"x": 1.5, "tags": ["a", null]}], ["there", null]],
        }),
        json!({
            "id": 2, "buyer": {"n": null, "name": null, "home": null}, "lines": [], "by_name": [], "by_number": [],
            "grid": [], "places": [],
        }),
        json!({
            "id": 3, "buyer": null, "lines": null, "by_name": null, "by_number": null, "grid": null, "places": null,
        }),
    ];
    let (lake, _server) = landed(NESTED, "nested", &sent.map(str::to_owned)).await?;
    let metadata = lake.metadata("t.nested")?;
    let [pyiceberg, duckdb] = Reader::all()?;
    let mut rows = duckdb.rows(&metadata)?;
    sort_by(&mut rows, "id");
    assert_eq!(rows, expected);
    // PyIceberg reads null lists and maps of structs as empty ones.
    expected[2]["lines"] = json!([]);
    expected[2]["places"] = json!([]);
    let mut rows = pyiceberg.rows(&metadata)?;
    sort_by(&mut rows, "id");
    assert_eq!(rows, expected);
    assert_eq!(lake.dead_letters()?, Vec::<Value>::new());
    for reader in [pyiceberg, duckdb] {
        assert_eq!(reader.count_where(&metadata, "buyer.n", "=", 7)?.rows, 1);
        assert_eq!(
            reader
                .count_where(&metadata, "buyer.home.city", "=", "Tromsø")?
                .rows,
            1
        );
    }
    Ok(())
}

async fn struct_fields_have_counts_and_bounds_and_elements_have_neither() -> TestResult {
    let row = json!({"id": 1, "buyer": {"n": 7, "home": {"city": "b"}}, "lines": [{"sku": "a"}, {"sku": "b", "n": 2}]});
    let other = json!({"id": 2, "buyer": {"n": 9, "home": null}, "grid": [[1], [2, 3]]});
    let (lake, _server) = landed(NESTED, "nested", &[lines(&[row, other])]).await?;
    let files = Reader::pyiceberg()?.files(lake.metadata("t.nested")?)?;
    let file = &files[0];
    assert_eq!(
        (&file["lower_bounds"]["buyer.n"], &file["upper_bounds"]["buyer.n"]),
        (&json!(7), &json!(9))
    );
    assert_eq!(file["lower_bounds"]["buyer.home.city"], "b");
    assert_eq!(file["null_value_counts"]["buyer.home.city"], 1);
    for metric in [
        "lower_bounds",
        "upper_bounds",
        "value_counts",
        "null_value_counts",
    ] {
        for (name, _) in file[metric].as_object().into_iter().flatten() {
            assert!(
                !name.contains("element") && !name.contains("value"),
                "{metric} below a list: {name}"
            );
        }
    }
    assert!(file["column_sizes"]["lines.element.sku"].as_u64() > Some(0));
    Ok(())
}

const STRINGS: &str = r#"
tables:
  t.strings:
    from: [{ subscription: strings }]
    schema: [{ name: id, type: long, required: true }, { name: text, type: string }]
"#;

fn texts(first: i64, texts: &[String]) -> String {
    let row = |(text, id): (&String, i64)| json!({"id": id, "text": text});
    lines(&texts.iter().zip(first..).map(row).collect::<Vec<_>>())
}

async fn long_strings_prune_files_and_lose_no_row() -> TestResult {
    let tail = "-".repeat(100);
    let early: Vec<_> = (0..50).map(|n| format!("alpha-{n:03}{tail}")).collect();
    let late: Vec<_> = (0..50).map(|n| format!("omega-{n:03}{tail}☃")).collect();
    let (lake, _server) = landed(STRINGS, "strings", &[texts(0, &early), texts(50, &late)]).await?;
    let metadata = lake.metadata("t.strings")?;
    for (op, literal, rows, planned) in [
        ("=", early[49].clone(), 1, 1),
        ("=", late[0].clone(), 1, 1),
        (">=", late[10].clone(), 40, 1),
        ("<", early[10].clone(), 10, 1),
        ("<", "alpha".to_owned(), 0, 0),
        (">", "omeha".to_owned(), 0, 0),
        ("=", format!("middle{tail}"), 0, 0),
        (">", early[49].clone(), 50, 2),
    ] {
        let found = Reader::pyiceberg()?.count_where(&metadata, "text", op, literal.clone())?;
        assert_eq!(found.rows, rows, "{op} {literal}");
        assert!(found.planned_files <= Some(planned), "{op} {literal}: {found:?}");
        assert_eq!(
            Reader::duckdb()?
                .count_where(&metadata, "text", op, literal)?
                .rows,
            rows
        );
    }
    assert_eq!(lake.rows("t.strings", "id")?.len(), 100);
    Ok(())
}

async fn long_equal_prefixes_and_the_last_characters_lose_no_row() -> TestResult {
    let same = "p".repeat(80);
    let last = "\u{10FFFF}".repeat(40);
    let edge = format!("{}\u{D7FF}{}", "q".repeat(15), "\u{10FFFF}".repeat(30));
    let wide = "é".repeat(40);
    let all = [
        format!("{same}a"),
        format!("{same}b"),
        last,
        edge,
        wide,
        "\u{7f}".repeat(70),
        String::new(),
    ];
    let messages: Vec<_> = all
        .iter()
        .zip(0..)
        .map(|(text, id)| texts(id, std::slice::from_ref(text)))
        .collect();
    let (lake, _server) = landed(STRINGS, "strings", &messages).await?;
    let metadata = lake.metadata("t.strings")?;
    for reader in Reader::all()? {
        for text in &all {
            assert_eq!(
                reader.count_where(&metadata, "text", "=", text.as_str())?.rows,
                1,
                "{reader:?} {text}"
            );
            let below = all.iter().filter(|other| *other < text).count() as u64;
            assert_eq!(
                reader.count_where(&metadata, "text", "<", text.as_str())?.rows,
                below,
                "{text}"
            );
        }
    }
    Ok(())
}

async fn snapshot_summaries_are_what_java_writes() -> TestResult {
    let texts_of = |n: usize| vec!["x".to_owned(); n];
    let messages = [texts(0, &texts_of(3)), texts(3, &texts_of(4))];
    let (lake, _server) = landed(STRINGS, "strings", &messages).await?;
    let metadata = lake.metadata("t.strings")?;
    let described = Reader::pyiceberg()?.describe(&metadata)?;
    let files = Reader::pyiceberg()?.files(&metadata)?;
    let mut snapshots = described["snapshots"].as_array().ok_or("snapshots")?.clone();
    sort_by(&mut snapshots, "sequence-number");
    assert_eq!((snapshots.len(), &described["format-version"]), (2, &json!(2)));
    let mut total_size = 0;
    for (place, (added, total)) in [(3, 3), (4, 7)].into_iter().enumerate() {
        let snapshot = &snapshots[place];
        let summary = &snapshot["summary"];
        let size: u64 = files
            .iter()
            .filter(|file| file["snapshot_id"] == snapshot["snapshot-id"])
            .filter_map(|file| file["file_size_in_bytes"].as_u64())
            .sum();
        total_size += size;
        let expected = [
            ("operation", "append".to_owned()),
            ("added-data-files", "1".to_owned()),
            ("added-records", added.to_string()),
            ("added-files-size", size.to_string()),
            ("changed-partition-count", "1".to_owned()),
            ("total-records", total.to_string()),
            ("total-files-size", total_size.to_string()),
            ("total-data-files", (place + 1).to_string()),
            ("total-delete-files", "0".to_owned()),
            ("total-position-deletes", "0".to_owned()),
            ("total-equality-deletes", "0".to_owned()),
        ];
        for (key, value) in expected {
            assert_eq!(summary[key], value, "{key} of snapshot {place}");
        }
        assert_eq!(snapshot["sequence-number"], place + 1);
        assert_eq!(snapshot["schema-id"], described["current-schema-id"]);
        assert_eq!(
            Reader::duckdb()?
                .rows_at(&metadata, snapshot["snapshot-id"].as_i64().unwrap_or(0))?
                .len(),
            total
        );
    }
    assert_eq!(snapshots[1]["parent-snapshot-id"], snapshots[0]["snapshot-id"]);
    assert_eq!(
        described["refs"]["main"]["snapshot-id"],
        snapshots[1]["snapshot-id"]
    );
    Ok(())
}
