//! The commands: what they print, their exit status, and what other engines read after them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, TimeDelta, Utc};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::support::lake::{Lake, files};
use crate::support::push::Push;
use crate::support::server::{Server, landfast, run};
use crate::support::{TestResult, trials};

const TABLES: &str = "tables: { shop.orders: { from: [{ subscription: orders }], batch: { commit_interval: 0s }, \
    schema: [{ name: id, type: long }] } }\n\
    routes: [{ subscription: cdc, table: \"cdc.{attributes.table}\" }, { table: \"{subscription}.rest\" }]\n";

pub fn tests() -> Vec<Trial> {
    trials![
        maintained_table_is_read_by_other_engines,
        table_that_cannot_be_loaded_costs_the_others_nothing,
        what_a_kill_left_half_written_goes,
        every_deletion_is_logged_with_its_proof,
        verify_exits_3_and_names_what_is_wrong,
        ledger_commands_ask_before_they_change,
    ]
}

/// Lands some orders, and a routed table, through the server.
async fn land(lake: &Lake) -> TestResult<String> {
    let config = lake.config("", TABLES)?;
    let mut server = Server::serve(&config).await?;
    for id in 0..30 {
        let push = Push::json("orders", id, &json!({ "id": id }));
        assert_eq!(server.pusher().push(&push).await, 204);
    }
    let routed = Push::json("cdc", 100, &json!({ "id": 1 })).attribute("table", "users");
    assert_eq!(server.pusher().push(&routed).await, 204);
    server.terminate()?;
    assert!(server.exited().await?.success());
    Ok(config.display().to_string())
}

/// Makes everything as old as this.
fn age(folder: &Path, days: u64) -> TestResult {
    let then = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
    for file in files(folder)? {
        File::options().append(true).open(file)?.set_modified(then)?;
    }
    Ok(())
}

async fn maintained_table_is_read_by_other_engines() -> TestResult {
    let lake = Lake::new()?;
    let config = land(&lake).await?;
    let warehouse = lake.path().join("warehouse");
    // The same name as a data file of ours, that nothing names.
    let orphan = lake
        .table("shop.orders")
        .join("data/5f0c54a4-8a9f-4e1c-9d3a-0f2f6f0c1a77.parquet");
    fs::write(&orphan, "orphan")?;
    age(&warehouse, 10)?;
    let before = lake.rows("shop.orders", "id")?;
    let (code, out, err) = run(["maintain", "--config", &config, "--dry-run", "--output", "json"])?;
    assert_eq!(code, Some(0), "{err}");
    let planned: Value = serde_json::from_str(&out)?;
    assert_eq!(planned[0]["table"], "cdc.users");
    assert_eq!(planned[1]["table"], "shop.orders");
    assert_eq!(
        planned[1]["deleted"]["data_file"],
        json!({ "files": 1, "bytes": 6 })
    );
    assert!(err.contains("name them with --table"), "{err}");
    assert!(orphan.exists());
    let (code, out, err) = run(["maintain", "--config", &config, "--table", "shop.orders"])?;
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("1 data files deleted, 6 bytes"), "{out}");
    assert!(!orphan.exists());
    assert_eq!(lake.rows("shop.orders", "id")?, before);
    let (code, out, err) = run(["verify", "--config", &config])?;
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("shop.orders: whole"), "{out}");
    assert!(out.contains("30 deliveries in the ledger"), "{out}");
    let metadata = fs::metadata(lake.metadata("shop.orders")?)?.len();
    let cost =
        format!("a commit costs: {metadata} bytes of metadata with 31 older states in its log, a list of ");
    assert!(
        out.contains(&cost) && out.contains("a ledger of 0 segments"),
        "{out}"
    );
    let (code, _, err) = run(["maintain", "--config", &config, "--table", "shop.none"])?;
    assert_eq!(code, Some(1));
    assert!(err.contains("There is no such table"), "{err}");
    Ok(())
}

async fn table_that_cannot_be_loaded_costs_the_others_nothing() -> TestResult {
    // One that a route names, and one of `tables`.
    for (broken, whole) in [("cdc.users", "shop.orders"), ("shop.orders", "cdc.users")] {
        let lake = Lake::new()?;
        let config = land(&lake).await?;
        let states = files(&lake.table(broken).join("metadata"))?;
        let states = states
            .iter()
            .filter(|file| file.to_string_lossy().ends_with(".metadata.json"));
        for state in states {
            fs::write(state, "{")?;
        }
        let orphan = lake
            .table(whole)
            .join("data/5f0c54a4-8a9f-4e1c-9d3a-0f2f6f0c1a77.parquet");
        fs::write(&orphan, "orphan")?;
        age(&lake.path().join("warehouse"), 10)?;
        let (code, out, err) = run(["maintain", "--config", &config])?;
        assert_eq!(code, Some(1), "{err}");
        assert!(out.contains("1 data files deleted, 6 bytes"), "{out}{err}");
        assert!(err.contains(broken) && !out.contains(broken), "{out}{err}");
        assert!(!orphan.exists());
        let (code, out, err) = run(["verify", "--config", &config, "--output", "json"])?;
        assert_eq!(code, Some(1), "{err}");
        let verdicts: Value = serde_json::from_str(&out)?;
        let of = |table: &str| {
            let mut all = verdicts.as_array().into_iter().flatten();
            all.find(|verdict| verdict["table"] == table).cloned()
        };
        assert_eq!(of(whole).ok_or("no verdict")?["findings"], json!([]));
        assert!(of(broken).ok_or("no error")?["error"].is_string());
    }
    Ok(())
}

async fn what_a_kill_left_half_written_goes() -> TestResult {
    let lake = Lake::new()?;
    let config = land(&lake).await?;
    let table = lake.table("shop.orders");
    let id = "5f0c54a4-8a9f-4e1c-9d3a-0f2f6f0c1a77";
    let old = [
        table.join(format!("data/{id}.parquet#1")),
        table.join("metadata/v9.metadata.json#2"),
    ];
    for file in &old {
        fs::write(file, "half")?;
    }
    fs::write(table.join("data/notes.txt#1"), "not ours")?;
    age(&lake.path().join("warehouse"), 10)?;
    let young = table.join(format!("data/{id}.parquet#3"));
    fs::write(&young, "half")?;
    let (code, out, err) = run(["maintain", "--config", &config, "--table", "shop.orders"])?;
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("2 half-written files deleted, 8 bytes"), "{out}");
    assert!(old.iter().all(|file| !file.exists()));
    assert!(young.exists() && table.join("data/notes.txt#1").exists());
    Ok(())
}

/// A table of which every kind of file may go: an hour's snapshots but two, and all older states but some.
const SHORT_LIVED: &str = "tables: { shop.orders: { from: [{ subscription: orders }], batch: { commit_interval: 0s }, \
    schema: [{ name: id, type: long }], properties: { history.expire.min-snapshots-to-keep: \"2\", \
    write.metadata.previous-versions-max: \"3\" } } }\n";

/// What a run of `maintain` says that it deleted, by file, and the proof of each.
fn told(stderr: &str) -> TestResult<BTreeMap<String, Value>> {
    let mut told = BTreeMap::new();
    for line in stderr.lines() {
        let line: Value = serde_json::from_str(line)?;
        let text = |name: &str| line["fields"][name].as_str().unwrap_or_default().to_owned();
        if text("message").starts_with("Deleted") {
            let file = text("location").trim_start_matches("file://").to_owned();
            assert!(told.insert(file, line["fields"].clone()).is_none(), "{line}");
        }
    }
    Ok(told)
}

async fn every_deletion_is_logged_with_its_proof() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", SHORT_LIVED)?;
    let mut server = Server::serve(&config).await?;
    for id in 0..40 {
        let push = Push::json("orders", id, &json!({ "id": id }));
        assert_eq!(server.pusher().push(&push).await, 204);
    }
    let poison = Push::json("orders", 100, &json!({ "id": "x" }));
    assert_eq!(server.pusher().push(&poison).await, 204);
    server.terminate()?;
    assert!(server.exited().await?.success());
    let id = "5f0c54a4-8a9f-4e1c-9d3a-0f2f6f0c1a77";
    for file in [format!("{id}.parquet"), format!("{id}.parquet#1")] {
        fs::write(lake.table("shop.orders").join("data").join(file), "orphan")?;
    }
    // A letter of an attempt that no commit names, as one that died leaves it.
    let confirmed = files(&lake.path().join("dead-letters/confirmed"))?;
    let name = confirmed[0].display().to_string();
    let (folder, file) = name.rsplit_once('/').ok_or("a folder")?;
    let waiting = folder.replace("/confirmed/", "/pending/");
    fs::create_dir_all(&waiting)?;
    let other = if file.split_once('.').is_some_and(|(id, _)| id.ends_with('0')) {
        '1'
    } else {
        '0'
    };
    let (of_attempt, of_delivery) = file.split_once('.').ok_or("two ids")?;
    let of_attempt = format!("{}{other}", &of_attempt[..of_attempt.len() - 1]);
    fs::copy(&confirmed[0], format!("{waiting}/{of_attempt}.{of_delivery}"))?;
    age(lake.path(), 10)?;

    let before: BTreeSet<_> = files(lake.path())?.into_iter().collect();
    let mut command = landfast([
        "--log",
        "json",
        "maintain",
        "--config",
        &config.display().to_string(),
    ]);
    let done = command.env("RUST_LOG", "landfast=debug").output()?;
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(0), "{stderr}");
    let after: BTreeSet<_> = files(lake.path())?.into_iter().collect();
    let gone: BTreeSet<String> = before
        .difference(&after)
        .map(|file| file.display().to_string())
        .collect();
    let told = told(&stderr)?;
    assert_eq!(told.keys().cloned().collect::<BTreeSet<_>>(), gone);
    let mut kinds = BTreeSet::new();
    for (file, proof) in &told {
        let time = |name: &str| -> TestResult<DateTime<Utc>> {
            Ok(proof[name].as_str().ok_or(name.to_owned())?.parse()?)
        };
        let reason = proof["message"].as_str().unwrap_or_default();
        if file.contains("/dead-letters/") {
            assert_eq!(reason, "Deleted: no commit names the letter, or can any more.");
            assert!(Utc::now() - time("since")? > TimeDelta::days(9), "{proof}");
            kinds.insert("letter".to_owned());
            continue;
        }
        assert!(
            reason.starts_with("Deleted: nothing names it, and whatever could is older"),
            "{proof}"
        );
        assert!(
            time("snapshot_made")? - time("modified")? > TimeDelta::days(3),
            "{proof}"
        );
        kinds.insert(proof["kind"].as_str().unwrap_or_default().to_owned());
    }
    let expected = [
        "data files",
        "half-written files",
        "ledger heads",
        "letter",
        "manifest lists",
        "metadata files",
    ];
    assert_eq!(kinds, expected.map(str::to_owned).into());
    let (code, out, err) = run(["verify", "--config", &config.display().to_string()])?;
    assert_eq!(code, Some(0), "{out}{err}");
    Ok(())
}

async fn verify_exits_3_and_names_what_is_wrong() -> TestResult {
    let lake = Lake::new()?;
    let config = land(&lake).await?;
    let data = files(&lake.table("shop.orders").join("data"))?;
    let gone = data.first().ok_or("no data file")?;
    fs::remove_file(gone)?;
    let (code, out, _) = run(["verify", "--config", &config, "--table", "shop.orders"])?;
    assert_eq!(code, Some(3));
    let line = out
        .lines()
        .find(|line| line.contains("WRONG"))
        .ok_or("no finding")?;
    assert!(line.contains(&gone.display().to_string()), "{line}");
    let (code, out, _) = run(["verify", "--config", &config, "--output", "json"])?;
    assert_eq!(code, Some(3));
    let verdicts: Value = serde_json::from_str(&out)?;
    assert_eq!(verdicts[0]["findings"], json!([]));
    assert_eq!(verdicts[1]["findings"].as_array().map(Vec::len), Some(1));
    Ok(())
}

async fn ledger_commands_ask_before_they_change() -> TestResult {
    let lake = Lake::new()?;
    let config = land(&lake).await?;
    let ledger = |command: &str, rest: &[&str]| {
        let mut arguments = vec!["ledger", command, "--config", &config, "--table", "shop.orders"];
        arguments.extend(rest);
        run(arguments)
    };
    let (code, out, err) = ledger("show", &["--output", "json"])?;
    assert_eq!(code, Some(0), "{err}");
    let page: Value = serde_json::from_str(&out)?;
    assert_eq!(page["spaces"]["messages"]["entries"], 30);
    assert!(page["floor"].is_string());
    let (code, out, _) = ledger("show", &[])?;
    assert!(
        code == Some(0) && out.contains("messages 30 in 0 segments"),
        "{out}"
    );

    let id = "projects/p-test/subscriptions/orders/7";
    let (code, out, _) = ledger("forget", &["--delivery", id])?;
    assert_eq!(code, Some(1));
    assert!(out.contains("1 deliveries would be forgotten"), "{out}");
    let (code, out, err) = ledger("forget", &["--delivery", id, "--yes"])?;
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("29 remembered"), "{out}");
    let (code, _, err) = ledger("forget", &["--delivery", "x", "--yes"])?;
    assert!(code == Some(2) && err.contains("32 hex digits"), "{err}");
    // It lands again, and the others do not.
    let mut server = Server::serve(Path::new(&config)).await?;
    for id in [7, 8] {
        let push = Push::json("orders", id, &json!({ "id": id }));
        assert_eq!(server.pusher().push(&push).await, 204);
    }
    server.terminate()?;
    server.exited().await?;
    let rows = lake.rows("shop.orders", "id")?;
    let count = |id: i64| rows.iter().filter(|row| row["id"] == id).count();
    assert_eq!((count(7), count(8), rows.len()), (2, 1, 31));

    let (code, out, _) = ledger("repair", &[])?;
    assert!(
        code == Some(0) && out.contains("whole; nothing was changed"),
        "{out}"
    );
    let heads = files(&lake.path().join("warehouse/_landfast"))?;
    let page: Value = serde_json::from_str(&ledger("show", &["--output", "json"])?.1)?;
    let pointer = page["pointer"].as_str().ok_or("no pointer")?;
    let head = heads
        .iter()
        .find(|head| pointer.ends_with(&head.display().to_string()));
    fs::write(head.ok_or("no head")?, "{}")?;
    let (code, out, _) = ledger("repair", &[])?;
    assert!(code == Some(1) && out.contains("LOST: 1 kept snapshots"), "{out}");
    let (code, out, err) = ledger("repair", &["--yes"])?;
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("repaired"), "{out}");
    let (code, out, _) = ledger("show", &[])?;
    assert!(code == Some(0) && out.contains("messages 29 in 0"), "{out}");
    Ok(())
}
