//! The commands: what they print, their exit status, and what other engines read after them.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::support::lake::{Lake, files};
use crate::support::push::Push;
use crate::support::server::{Server, run};
use crate::support::{TestResult, trials};

const TABLES: &str = "tables: { shop.orders: { from: [{ subscription: orders }], batch: { commit_interval: 0s }, \
    schema: [{ name: id, type: long }] } }\n\
    routes: [{ subscription: cdc, table: \"cdc.{attributes.table}\" }, { table: \"{subscription}.rest\" }]\n";

pub fn tests() -> Vec<Trial> {
    trials![
        maintained_table_is_read_by_other_engines,
        table_that_cannot_be_loaded_costs_the_others_nothing,
        what_a_kill_left_half_written_goes,
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
