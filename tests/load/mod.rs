//! `landfast load`: a file is one commit, all of it or none, whatever its shape and whatever happens meanwhile.

mod doomed;
mod faults;
mod memory;
mod surface;
mod together;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::support::lake::Lake;
use crate::support::readers::Reader;
use crate::support::server::landfast;
use crate::support::{TestResult, gzip, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    let mut tests = trials![
        every_shape_and_compression_loads_in_the_order_of_the_file,
        standard_input_loads_and_progress_is_told,
        folder_and_files_are_one_snapshot_each,
        rows_keep_their_order_over_data_files,
        poison_lines_become_dead_letters,
        exit_codes_tell_what_happened,
        tables_are_made_and_kept_as_configured,
    ];
    tests.extend(faults::tests());
    tests.extend(memory::tests());
    tests.extend(surface::tests());
    tests.extend(together::tests());
    tests
}

const TABLE: &str =
    "tables: { t.rows: { schema: [{ name: id, type: long, required: true }, { name: s, type: string }] } }";

/// What a run of `load` came to.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

fn command(config: &Path, files: &[&Path]) -> Command {
    let mut command = landfast(["load", "--table", "t.rows", "--config"]);
    command
        .arg(config)
        .args(files)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(mut command: Command) -> TestResult<Run> {
    let output = command.output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Run {
        code: output.status.code(),
        out: text(&output.stdout),
        err: text(&output.stderr),
    })
}

fn load(config: &Path, files: &[&Path]) -> TestResult<Run> {
    run(command(config, files))
}

fn write(lake: &Lake, name: &str, content: impl AsRef<[u8]>) -> TestResult<PathBuf> {
    let path = lake.path().join(name);
    fs::write(&path, content)?;
    Ok(path)
}

fn lines(ids: impl Iterator<Item = i64>) -> String {
    ids.map(|id| format!("{{\"id\":{id},\"s\":\"row {id}\"}}\n"))
        .collect()
}

fn snapshots(lake: &Lake) -> TestResult<Vec<Value>> {
    Reader::pyiceberg()?.inspect(lake.metadata("t.rows")?, "snapshots")
}

fn count(lake: &Lake) -> TestResult<u64> {
    match lake.metadata("t.rows") {
        Ok(metadata) => Reader::pyiceberg()?.count(metadata),
        Err(_none) => Ok(0),
    }
}

async fn every_shape_and_compression_loads_in_the_order_of_the_file() -> TestResult {
    let ids: Vec<i64> = (0..500).map(|n| n * 7919 % 500).collect();
    let ndjson = lines(ids.iter().copied());
    let array = format!("[{}]", ndjson.trim_end().replace('\n', ",\n"));
    let pretty = ndjson.replace(",\"s\"", ",\n  \"s\"");
    let members = [
        gzip(&ndjson.as_bytes()[..3000])?,
        gzip(&ndjson.as_bytes()[3000..])?,
    ]
    .concat();
    let forms = [
        ("rows.ndjson", ndjson.clone().into_bytes()),
        ("rows.json", array.into_bytes()),
        ("pretty.json", pretty.clone().into_bytes()),
        ("rows.ndjson.gz", members),
        ("rows.ndjson.zst", zstd::encode_all(ndjson.as_bytes(), 1)?),
        // The bytes tell, not the name.
        ("rows", gzip(pretty.as_bytes())?),
        (
            "mark.csv",
            format!("\u{feff}\r\n{}", ndjson.replace('\n', "\r\n\r\n")).into_bytes(),
        ),
    ];
    for (name, content) in forms {
        let lake = Lake::new()?;
        let config = lake.config("", TABLE)?;
        let file = write(&lake, name, content)?;
        let loaded = load(&config, &[&file])?;
        assert_eq!(loaded.code, Some(0), "{name}: {loaded:?}");
        assert!(
            loaded.out.contains(": 500 rows, 1 data files"),
            "{name}: {loaded:?}"
        );
        let metadata = lake.metadata("t.rows")?;
        let rows = Reader::pyiceberg()?.rows(&metadata)?;
        let found: Vec<_> = rows.iter().filter_map(|row| row["id"].as_i64()).collect();
        assert_eq!(found, ids, "{name}");
        let rows = lake.rows("t.rows", "id")?;
        assert_eq!(rows[499], json!({"id": 499, "s": "row 499"}), "{name}");
        assert_eq!(
            (snapshots(&lake)?.len(), lake.dead_letters()?.len()),
            (1, 0),
            "{name}"
        );
    }
    Ok(())
}

async fn standard_input_loads_and_progress_is_told() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLE)?;
    let log = write(&lake, "log", "")?;
    let told = || fs::read_to_string(&log);
    let mut command = command(&config, &[Path::new("-")]);
    command.stdin(Stdio::piped()).stderr(File::create(&log)?);
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().ok_or("stdin")?;
    stdin.write_all(lines(0..100).as_bytes())?;
    wait_for("its progress", Duration::from_secs(60), async || {
        told().ok()?.contains("-: 0 MB read, 0 rows").then_some(())
    })
    .await?;
    stdin.write_all(lines(100..200).as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let (out, err) = (String::from_utf8(output.stdout)?, told()?);
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert!(out.starts_with("-: 200 rows, "), "{out}");
    assert!(!err.contains('\u{1b}') && !err.contains('\r'), "{err}");
    assert_eq!(lake.ids("t.rows", "id")?, ((0..200).collect(), 200));
    // A pipe by its name has no length to watch.
    let mut child = self::command(&config, &[Path::new("/dev/stdin")])
        .stdin(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().ok_or("stdin")?;
    stdin.write_all(lines(200..300).as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(lake.ids("t.rows", "id")?, ((0..300).collect(), 300));
    Ok(())
}

async fn folder_and_files_are_one_snapshot_each() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLE)?;
    let folder = lake.path().join("in");
    fs::create_dir_all(folder.join("deeper"))?;
    fs::write(folder.join("b.json"), lines(10..20))?;
    fs::write(folder.join("a.json"), lines(0..10))?;
    fs::write(folder.join(".hidden"), lines(90..99))?;
    fs::write(folder.join("deeper/c.json"), lines(90..99))?;
    let linked = write(&lake, "linked", lines(20..30))?;
    std::os::unix::fs::symlink(linked, folder.join("c.json"))?;
    let more = write(&lake, "more.json", lines(30..40))?;
    let empty = write(&lake, "empty.json", " \n")?;
    let mut as_json = command(&config, &[&folder, &more, &empty]);
    as_json.args(["--output", "json"]);
    let loaded = run(as_json)?;
    assert_eq!(loaded.code, Some(0), "{loaded:?}");
    let told: Vec<Value> = serde_json::from_str(&loaded.out)?;
    let name = |told: &Value| {
        told["file"]
            .as_str()
            .and_then(|file| file.rsplit('/').next().map(str::to_owned))
    };
    let names: Vec<_> = told.iter().filter_map(name).collect();
    assert_eq!(names, ["a.json", "b.json", "c.json", "more.json", "empty.json"]);
    let mut snapshots = snapshots(&lake)?;
    snapshots.sort_by_key(|snapshot| snapshot["committed_at"].to_string());
    assert_eq!(snapshots.len(), 4);
    for (told, snapshot) in told.iter().zip(&snapshots) {
        assert_eq!(told["snapshot_id"], snapshot["snapshot_id"].to_string());
        assert_eq!(
            (&told["rows"], &told["dead_letters"], &told["data_files"]),
            (&json!(10), &json!(0), &json!(1))
        );
        assert!(
            told["bytes"].as_u64() > Some(100) && told["seconds"].is_number() && told["id"].is_string(),
            "{told}"
        );
    }
    assert_eq!(
        (&told[4]["rows"], &told[4]["snapshot_id"]),
        (&json!(0), &Value::Null)
    );
    assert_eq!(lake.ids("t.rows", "id")?, ((0..40).collect(), 40));
    // The table remembers its files, by name and bytes.
    let again = load(&config, &[&more])?;
    assert_eq!(again.code, Some(0));
    assert!(again.out.contains("in the table already"), "{again:?}");
    assert_eq!(lake.ids("t.rows", "id")?, ((0..40).collect(), 40));
    let mut on_purpose = command(&config, &[&more]);
    on_purpose.arg("--again");
    assert_eq!(run(on_purpose)?.code, Some(0));
    assert_eq!(lake.ids("t.rows", "id")?, ((0..40).collect(), 50));
    Ok(())
}

/// A wide table makes many bytes of columns from few of a file.
async fn rows_keep_their_order_over_data_files() -> TestResult {
    let lake = Lake::new()?;
    let table = "tables: { t.rows: { schema: [{ name: id, type: long }, { name: noise, type: string }], properties: { \
                 write.target-file-size-bytes: 200000, write.parquet.row-group-size-bytes: 100000 } } }";
    let config = lake.config("", table)?;
    let noise = |id: u64| {
        format!(
            "{:032x}",
            u128::from(id).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
        )
    };
    let content: String = (0..70_000)
        .map(|id| format!("{{\"id\":{id},\"noise\":\"{}\"}}\n", noise(id)))
        .collect();
    let file = write(&lake, "noise.json", content)?;
    let loaded = load(&config, &[&file])?;
    assert_eq!(loaded.code, Some(0), "{loaded:?}");
    let metadata = lake.metadata("t.rows")?;
    let mut next = 0;
    let files = Reader::pyiceberg()?.files(&metadata)?;
    for file in &files {
        assert_eq!(file["lower_bounds"]["id"], next, "{}", file["lower_bounds"]["id"]);
        next += file["record_count"].as_i64().ok_or("a count")?;
        assert_eq!(file["upper_bounds"]["id"], next - 1);
    }
    assert_eq!((next, files.len() > 1), (70_000, true), "{} files", files.len());
    assert_eq!(snapshots(&lake)?.len(), 1);
    assert_eq!(
        Reader::duckdb()?.count_where(&metadata, "id", ">=", 69_990)?.rows,
        10
    );
    Ok(())
}

async fn poison_lines_become_dead_letters() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLE)?;
    let poison = ["{\"id\":", "\"text\"", "{\"id\":\"x\"}", "\u{1}", "{\"id\":1}}"];
    // The first line too, and over more than one chunk.
    let pad = " ".repeat(400);
    let line = |n: usize| match n % 1000 {
        0 => poison[n / 1000 % 4].to_owned(),
        _ => format!("{{\"id\":{n}}}{pad}"),
    };
    let content: Vec<_> = (0..12_000).map(line).collect();
    let file = write(&lake, "poison.json", content.join("\n"))?;
    let loaded = load(&config, &[&file])?;
    assert_eq!(loaded.code, Some(3), "{loaded:?}");
    assert!(loaded.out.contains("11988 rows, 12 dead-lettered"), "{loaded:?}");
    assert_eq!(count(&lake)?, 11_988);
    let letters = lake.dead_letters()?;
    let mut positions = BTreeSet::new();
    for letter in &letters {
        let position = letter["position"].as_u64().ok_or("a position")? as usize;
        positions.insert(position);
        let raw = STANDARD.decode(letter["raw"].as_str().ok_or("raw")?)?;
        assert_eq!(String::from_utf8(raw)?, line(position));
        assert_eq!(
            (&letter["table"], &letter["source"]),
            (&json!("t.rows"), &json!(file.display().to_string()))
        );
    }
    assert_eq!(positions, (0..12).map(|n| n * 1000).collect());
    // Again: it is there already, letters and all.
    let again = load(&config, &[&file])?;
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(again.out.contains("in the table already"), "{again:?}");
    assert_eq!(lake.dead_letters()?, letters);

    // A document that breaks: what is before the break lands, the rest is one letter.
    let broken = write(&lake, "broken.json", "[{\"id\":-1},{\"id\":oops},{\"id\":-2}]\n")?;
    assert_eq!(load(&config, &[&broken])?.code, Some(3));
    assert_eq!(count(&lake)?, 11_988 + 1);
    assert_eq!(lake.dead_letters()?.len(), 13);
    Ok(())
}

async fn exit_codes_tell_what_happened() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLE)?;
    let good = write(&lake, "good.json", lines(0..3))?;
    let missing = lake.path().join("missing.json");
    // The others are loaded all the same.
    let mixed = load(&config, &[&missing, &good])?;
    assert_eq!(mixed.code, Some(1), "{mixed:?}");
    assert!(
        mixed.err.contains("missing.json") && mixed.out.contains("3 rows"),
        "{mixed:?}"
    );
    assert_eq!(count(&lake)?, 3);
    let mut command = command(&config, &[&missing, &good]);
    command.args(["--output", "json"]);
    let told: Value = serde_json::from_str(&run(command)?.out)?;
    assert!(
        told[0]["error"]
            .as_str()
            .is_some_and(|error| error.contains("missing.json")),
        "{told}"
    );
    assert_eq!(
        (&told[1]["rows"], &told[1]["duplicate"]),
        (&json!(0), &json!(true))
    );
    for usage in [
        vec!["load", "--table", "t.rows"],
        vec!["load", "x.json"],
        vec![
            "load",
            "--table",
            "t.rows",
            "--config",
            "not-there.yaml",
            "x.json",
        ],
    ] {
        assert_eq!(run(landfast(&usage))?.code, Some(2), "{usage:?}");
    }
    let mut wrong = landfast(["load", "--table", "nothing", "--config"]);
    wrong.arg(&config).arg(&good);
    assert_eq!(run(wrong)?.code, Some(2));
    Ok(())
}

async fn tables_are_made_and_kept_as_configured() -> TestResult {
    // Not in the configuration: made of the defaults, its schema inferred.
    let lake = Lake::new()?;
    let config = lake.config("", "tables: { t.other: {} }")?;
    let nothing = write(&lake, "nothing.json", "{\"a\":null}\n{}\n")?;
    let refused = load(&config, &[&nothing])?;
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("declare its schema"), "{refused:?}");
    assert!(lake.metadata("t.rows").is_err());
    let first = write(
        &lake,
        "first.json",
        "{\"id\":1,\"x\":1.5,\"at\":\"2026-01-02T03:04:05Z\"}\n{\"id\":2,\"n\":[1]}\n",
    )?;
    assert_eq!(load(&config, &[&first])?.code, Some(0));
    assert_eq!(
        lake.rows("t.rows", "id")?[0],
        json!({"id": 1, "x": 1.5, "at": "2026-01-02T03:04:05.000000Z", "n": null})
    );
    // Its schema is decided then.
    let second = write(
        &lake,
        "second.json",
        "{\"id\":3,\"extra\":1}\n{\"id\":\"four\"}\n{\"id\":5,\"extra\":1}\n",
    )?;
    let loaded = load(&config, &[&second])?;
    assert_eq!(loaded.code, Some(3));
    assert!(
        loaded.err.contains("A field of the file has no column") && loaded.err.contains("extra"),
        "{loaded:?}"
    );
    assert_eq!(lake.ids("t.rows", "id")?, ([1, 2, 3, 5].into(), 4));
    assert_eq!(lake.dead_letters()?[0]["position"], 1);
    // And another declared one is a mismatch.
    let declared = lake.config("", TABLE)?;
    let mismatch = load(&declared, &[&first])?;
    assert_eq!(mismatch.code, Some(1));
    assert!(mismatch.err.contains("is not the configured one"), "{mismatch:?}");

    let lake = Lake::new()?;
    let config = lake.config("", "tables: { t.rows: { schema: envelope } }")?;
    let refused = load(&config, &[&first])?;
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("raw envelopes"), "{refused:?}");
    assert!(lake.metadata("t.rows").is_err());
    Ok(())
}
