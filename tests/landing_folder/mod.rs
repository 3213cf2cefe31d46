//! Files put into a landing folder: they become commits, one each, and are moved; or stay, or are refused with a reason.

mod faults;
mod processes;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::support::lake::{Lake, files};
use crate::support::mount::Mount;
use crate::support::push::Push;
use crate::support::readers::Reader;
use crate::support::server::{Server, run};
use crate::support::{TestResult, gzip, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    let mut tests = trials![
        files_of_every_shape_land_and_are_moved,
        poison_records_become_letters_and_the_rest_lands,
        commits_of_files_are_counted_like_those_of_messages,
        files_that_cannot_become_rows_are_refused_with_the_reason,
        files_are_routed_by_name_as_configured,
        files_of_one_name_land_and_are_kept,
        files_move_to_another_file_system,
        folder_that_cannot_be_watched_stops_the_start,
    ];
    tests.extend(faults::tests());
    tests.extend(processes::tests());
    tests
}

const PATIENCE: Duration = Duration::from_secs(60);

fn lines(ids: std::ops::Range<i64>) -> String {
    ids.map(|id| format!("{{\"id\":{id},\"name\":\"n{id}\"}}\n"))
        .collect()
}

/// Writes a file under a name that is left alone, and renames it, as a careful writer does.
fn put(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> TestResult<PathBuf> {
    let path = folder.join(name);
    let parent = path.parent().ok_or("a folder")?;
    fs::create_dir_all(parent)?;
    let unfinished = parent.join(".being-written");
    fs::write(&unfinished, content)?;
    fs::rename(unfinished, &path)?;
    Ok(path)
}

/// The names of the files under a folder, relative to it.
fn names(folder: &Path) -> TestResult<Vec<String>> {
    let name = |path: PathBuf| Some(path.strip_prefix(folder).ok()?.display().to_string());
    Ok(files(folder)?.into_iter().filter_map(name).collect())
}

/// Waits until nothing is left in the landing folder.
async fn emptied(lake: &Lake) -> TestResult {
    let landing = lake.path().join("landing");
    wait_for("the landing folder to be empty", PATIENCE, async || {
        // A file may be moved between two steps of the listing.
        files(&landing).ok()?.is_empty().then_some(())
    })
    .await
}

/// The reasons beside the refused files, by the files' names.
fn reasons(lake: &Lake) -> TestResult<Vec<(String, Value)>> {
    let refused = lake.path().join("dead-letters/files");
    let mut reasons = Vec::new();
    for name in names(&refused)? {
        if let Some(file) = name.strip_suffix(".reason.json") {
            assert!(refused.join(file).is_file(), "{name} explains no file");
            let reason = serde_json::from_str(&fs::read_to_string(refused.join(&name))?)?;
            reasons.push((file.to_owned(), reason));
        }
    }
    Ok(reasons)
}

async fn files_of_every_shape_land_and_are_moved() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::dev(lake.path()).await?;
    let landing = lake.path().join("landing");
    server.logged(&[&landing.display().to_string()]).await?;
    let array = format!("[{}]", lines(10..20).trim_end().replace('\n', ","));
    let contents: [(&str, Vec<u8>); 6] = [
        ("orders/plain.ndjson", lines(0..10).into_bytes()),
        ("orders/array.json", array.into_bytes()),
        ("orders/2026/11/deep.json.gz", gzip(lines(20..30))?),
        ("orders/packed", zstd::encode_all(lines(30..40).as_bytes(), 1)?),
        ("My Orders/é.json", lines(0..5).into_bytes()),
        ("orders/blank.json", b" \n".to_vec()),
    ];
    for (name, content) in &contents {
        put(&landing, name, content)?;
    }
    // Not for us, or not yet.
    for name in ["orders/x.tmp", "orders/y.part", "orders/.z"] {
        put(&landing, name, lines(90..99))?;
    }
    wait_for("the files to land", PATIENCE, async || {
        (names(&landing).ok()?.len() == 3).then_some(())
    })
    .await?;
    assert_eq!(lake.ids("landfast.orders", "id")?, ((0..40).collect(), 40));
    assert_eq!(
        Reader::pyiceberg()?.count(lake.metadata("landfast.My_Orders")?)?,
        5
    );
    // One commit each; the blank one has none.
    let snapshots = Reader::pyiceberg()?.inspect(lake.metadata("landfast.orders")?, "snapshots")?;
    assert_eq!(snapshots.len(), 4);
    let mut expected: Vec<_> = contents.iter().map(|(name, _)| *name).collect();
    expected.sort_unstable();
    assert_eq!(names(&lake.path().join("landed"))?, expected);
    for (name, content) in &contents {
        assert_eq!(
            fs::read(lake.path().join("landed").join(name))?,
            *content,
            "{name}"
        );
    }
    let bytes: usize = contents.iter().map(|(_, content)| content.len()).sum();
    server.metric_is("landfast_landed_files_total", 6.0).await?;
    server
        .metric_is("landfast_landed_bytes_total", bytes as f64)
        .await?;
    assert_eq!(lake.dead_letters()?, Vec::<Value>::new());
    // What was not complete is, and a push goes to the same table.
    fs::rename(landing.join("orders/y.part"), landing.join("orders/y.json"))?;
    let push = Push::json("orders", 1, &json!({"id": 40, "name": "n40"}));
    assert_eq!(server.pusher().push(&push).await, 204);
    wait_for("the renamed file to land", PATIENCE, async || {
        (names(&landing).ok()?.len() == 2).then_some(())
    })
    .await?;
    let expected = (0..41).chain(90..99).collect();
    assert_eq!(lake.ids("landfast.orders", "id")?, (expected, 50));
    wait_for("the gauge to tell", PATIENCE, async || {
        (server.metric("landfast_waiting_files").await.ok()? == 0.0).then_some(())
    })
    .await
}

async fn poison_records_become_letters_and_the_rest_lands() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::dev(lake.path()).await?;
    let landing = lake.path().join("landing");
    put(&landing, "rows/first.json", lines(20..21))?;
    emptied(&lake).await?;
    let poison = format!(
        "{}{{\"id\":\"poison\"}}\nnot json\n{}",
        lines(0..10),
        lines(10..20)
    );
    put(&landing, "rows/mixed.json", &poison)?;
    emptied(&lake).await?;
    assert_eq!(lake.ids("landfast.rows", "id")?, ((0..21).collect(), 21));
    let letters = lake.dead_letters()?;
    let positions: Vec<_> = letters.iter().map(|letter| &letter["position"]).collect();
    assert_eq!(positions, [10, 11]);
    assert!(letters.iter().all(|letter| letter["table"] == "landfast.rows"));
    assert_eq!(
        names(&lake.path().join("landed"))?,
        ["rows/first.json", "rows/mixed.json"]
    );
    assert_eq!(reasons(&lake)?, []);
    assert!(!server.log().contains("poison\""), "a payload is in the log");
    Ok(())
}

async fn commits_of_files_are_counted_like_those_of_messages() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::dev(lake.path()).await?;
    let landing = lake.path().join("landing");
    put(&landing, "rows/first.json", lines(0..10))?;
    emptied(&lake).await?;
    put(
        &landing,
        "rows/wider.json",
        "{\"id\":10,\"more\":1}\n{\"id\":11,\"more\":2}\n",
    )?;
    emptied(&lake).await?;
    let written: u64 = files(&lake.path().join("warehouse/landfast/rows/data"))?
        .iter()
        .map(|file| Ok(fs::metadata(file)?.len()))
        .sum::<TestResult<u64>>()?;
    for (name, expected) in [
        ("iceberg_batches_committed_total", 2.0),
        ("iceberg_records_written_total", 12.0),
        ("iceberg_bytes_written_total", written as f64),
        ("iceberg_commit_duration_seconds_count", 2.0),
        ("iceberg_records_per_batch_count", 2.0),
        ("iceberg_records_per_batch_sum", 12.0),
        ("landfast_unknown_fields_total", 2.0),
    ] {
        server.metric_is(name, expected).await?;
    }
    let last = server.metric("landfast_last_commit_timestamp_seconds").await?;
    assert!(
        (chrono::Utc::now().timestamp() as f64 - last).abs() < 60.0,
        "{last}"
    );
    Ok(())
}

async fn files_that_cannot_become_rows_are_refused_with_the_reason() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::dev(lake.path()).await?;
    let landing = lake.path().join("landing");
    let zipped = gzip(lines(0..2000))?;
    put(&landing, "good/a.json", lines(0..10))?;
    put(&landing, "good/cut.json.gz", &zipped[..zipped.len() - 5])?;
    put(
        &landing,
        "good/wrong.json",
        "{\"id\":\"secret\"}\n".repeat(100_001),
    )?;
    put(&landing, "nulls/a.json", "{\"secret\":null}\n")?;
    put(&landing, "astray.json", lines(0..10))?;
    emptied(&lake).await?;
    assert_eq!(lake.ids("landfast.good", "id")?, ((0..10).collect(), 10));
    let found = reasons(&lake)?;
    let told: Vec<_> = found
        .iter()
        .map(|(name, reason)| {
            let kind = reason["reason"]["kind"].as_str().unwrap_or_default();
            (name.as_str(), kind, reason["table"].as_str())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("astray.json", "no_route", None),
            ("good/cut.json.gz", "rejected", Some("landfast.good")),
            ("good/wrong.json", "rejected", Some("landfast.good")),
            ("nulls/a.json", "rejected", Some("landfast.nulls")),
        ]
    );
    for ((name, reason), word) in found.iter().zip([
        "the file is in none",
        "cannot be read to its end",
        "Too many of the file's records",
        "no field of the file's first records",
    ]) {
        let message = reason["reason"]["message"].as_str().ok_or("a message")?;
        assert!(message.contains(word), "{message}");
        assert_eq!(reason["file"], landing.join(name).display().to_string());
        assert!(reason["refused_at"].as_str() > Some("2020"));
        assert!(!reason.to_string().contains("secret"), "{reason}");
    }
    // The bytes are those that came.
    let refused = lake.path().join("dead-letters/files/good/cut.json.gz");
    assert_eq!(fs::read(refused)?, &zipped[..zipped.len() - 5]);
    server.metric_is("landfast_refused_files_total", 4.0).await?;
    server.logged(&["A file is refused."]).await?;
    assert!(!server.log().contains("secret"), "a payload is in the log");
    Ok(())
}

async fn files_are_routed_by_name_as_configured() -> TestResult {
    let lake = Lake::new()?;
    let landing = lake.path().join("landing");
    let bucket = landing.display();
    let rest = format!(
        r#"
tables:
  shop.big: {{ from: [{{ bucket: "file://{bucket}", objects: "orders/big-*" }}] }}
  shop.orders: {{ from: [{{ subscription: o }}, {{ bucket: "file://{bucket}", objects: "orders/**" }}] }}
routes: [{{ bucket: "file://{bucket}", objects: "**/*.json", table: "other.{{folder}}", allow: ["other.c*"] }}]
"#
    );
    let server = Server::serve(&lake.config("", &rest)?).await?;
    for (place, name) in (0..).zip([
        "orders/big-1.json",
        "orders/x/big-1.json",
        "orders/1.csv",
        "clicks/2026/1.json",
        "clicks/2026/1.csv",
        "users/1.json",
        "1.json",
    ]) {
        put(&landing, name, lines(place..place + 1))?;
    }
    let push = Push::json("o", 1, &json!({"id": 9, "name": "n9"}));
    assert_eq!(server.pusher().push(&push).await, 204);
    emptied(&lake).await?;
    assert_eq!(lake.ids("shop.big", "id")?, ([0].into(), 1));
    assert_eq!(lake.ids("shop.orders", "id")?, ([1, 2, 9].into(), 3));
    assert_eq!(lake.ids("other.clicks", "id")?, ([3].into(), 1));
    let reasons = reasons(&lake)?;
    let refused: Vec<_> = reasons.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(refused, ["1.json", "clicks/2026/1.csv", "users/1.json"]);
    assert!(
        reasons
            .iter()
            .all(|(_, reason)| reason["reason"]["kind"] == "no_route")
    );
    Ok(())
}

async fn files_of_one_name_land_and_are_kept() -> TestResult {
    let lake = Lake::new()?;
    let _server = Server::dev(lake.path()).await?;
    for round in 0..3 {
        put(
            &lake.path().join("landing"),
            "rows/export.json",
            lines(round..round + 1),
        )?;
        emptied(&lake).await?;
    }
    assert_eq!(lake.ids("landfast.rows", "id")?, ((0..3).collect(), 3));
    let landed = lake.path().join("landed");
    let kept = names(&landed)?;
    assert!(
        kept.len() == 3 && kept.contains(&"rows/export.json".to_owned()),
        "{kept:?}"
    );
    let mut contents = Vec::new();
    for name in kept {
        assert!(
            name.starts_with("rows/export") && name.ends_with(".json"),
            "{name}"
        );
        contents.push(fs::read_to_string(landed.join(name))?);
    }
    contents.sort();
    assert_eq!(contents, [lines(0..1), lines(1..2), lines(2..3)]);
    Ok(())
}

async fn files_move_to_another_file_system() -> TestResult {
    let lake = Lake::new()?;
    let _landed = Mount::new(lake.path().join("landed"), "1m")?;
    let _letters = Mount::new(lake.path().join("dead-letters"), "1m")?;
    let _server = Server::dev(lake.path()).await?;
    put(&lake.path().join("landing"), "rows/a.json", lines(0..100))?;
    put(&lake.path().join("landing"), "astray.json", "x")?;
    emptied(&lake).await?;
    assert_eq!(lake.ids("landfast.rows", "id")?, ((0..100).collect(), 100));
    assert_eq!(names(&lake.path().join("landed"))?, ["rows/a.json"]);
    assert_eq!(
        fs::read_to_string(lake.path().join("landed/rows/a.json"))?,
        lines(0..100)
    );
    assert_eq!(
        names(&lake.path().join("dead-letters"))?,
        ["files/astray.json", "files/astray.json.reason.json"]
    );
    Ok(())
}

async fn folder_that_cannot_be_watched_stops_the_start() -> TestResult {
    for wrong in ["landing", "landed"] {
        let lake = Lake::new()?;
        let folder = lake.path().join(wrong);
        fs::write(&folder, "a file where a folder should be")?;
        let dir = lake.path().display().to_string();
        let (code, _, err) = run(["dev", "--listen", "127.0.0.1:0", "--dir", dir.as_str()])?;
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains(&folder.display().to_string()), "{err}");
        assert!(!err.contains("listening on"), "{err}");
    }
    Ok(())
}
