//! `landfast replay`: dead letters go back through the pipeline, and each of their records lands once.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use chrono::{TimeDelta, Utc};
use libtest_mimic::Trial;
use rand::Rng;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::lake::{Lake, files};
use crate::support::push::Push;
use crate::support::seed::seeded;
use crate::support::server::{Server, landfast, run};
use crate::support::{TestResult, trials};

/// Takes strings as `s` and nothing else.
const STRICT: &str = "tables:\n  t.rows: { from: [{ subscription: rows }], batch: { commit_interval: 0s }, \
    schema: [{ name: id, type: long, required: true }, { name: s, type: string }] }\n  \
    t.other: { from: [{ subscription: other }], schema: [{ name: id, type: long, required: true }] }\n";
/// The same tables, the first of which takes any value as `s`, and a third for what nobody wanted.
const MENDED: &str = "tables:\n  t.rows: { from: [{ subscription: rows }] }\n  \
    t.other: { from: [{ subscription: other }], schema: [{ name: id, type: long, required: true }] }\n  \
    t.late: { from: [{ subscription: nowhere }], schema: [{ name: id, type: long }] }\n";

pub fn tests() -> Vec<Trial> {
    trials![
        letters_land_once_after_the_table_is_mended,
        chosen_letters_go_and_the_others_stay,
        deliveries_that_nobody_wanted_land_under_their_own_names,
        deliveries_too_old_to_prove_land_on_request_only,
        killed_replays_and_two_at_once_land_every_record_once,
    ]
}

/// What `replay` came to: exit code, its tables, and what it complained of.
fn replay(config: &Path, arguments: &[&str]) -> TestResult<(Option<i32>, Vec<Value>, String)> {
    let config = config.display().to_string();
    let fixed = ["replay", "--output", "json", "--config", &config];
    let (code, out, err) = run(fixed.iter().chain(arguments))?;
    let tables: Value = serde_json::from_str(&out).map_err(|error| format!("{error}: {out}{err}"))?;
    Ok((code, tables.as_array().cloned().unwrap_or_default(), err))
}

/// Letters of a table that landed, were there already, and were rejected again.
fn counts(tables: &[Value], table: &str) -> [u64; 3] {
    let found = tables.iter().find(|found| found["table"] == table);
    ["landed", "already_there", "rejected"]
        .map(|key| found.and_then(|found| found[key].as_u64()).unwrap_or_default())
}

/// Pushes to a server that runs for no longer.
async fn push_all(config: &Path, pushes: &[Push]) -> TestResult {
    let mut server = Server::serve(config).await?;
    let statuses = server.pusher().push_all(pushes, 20).await;
    assert_eq!(statuses, vec![204; pushes.len()]);
    server.terminate()?;
    assert!(server.exited().await?.success());
    Ok(())
}

/// A record that is a row once the table takes any value.
fn doubtful(id: i64) -> String {
    format!("{{\"id\":{id},\"s\":{id}}}\n")
}

fn objects(lake: &Lake, place: &str) -> TestResult<Vec<PathBuf>> {
    files(&lake.path().join("dead-letters").join(place))
}

async fn letters_land_once_after_the_table_is_mended() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", STRICT)?;
    let mixed = format!("{{\"id\":1,\"s\":\"a\"}}\n{}{{\"id\":\n", doubtful(2));
    let pushes = [
        Push::new("rows", 1, mixed),
        Push::new("rows", 2, doubtful(3)),
        Push::new("rows", 3, "["),
    ];
    push_all(&config, &pushes).await?;
    let file = lake.path().join("more.ndjson");
    fs::write(&file, format!("{}{{\"id\":5,\"s\":\"e\"}}\n", doubtful(4)))?;
    let loading = [
        "load",
        "--table",
        "t.rows",
        "--config",
        &config.display().to_string(),
    ]
    .map(str::to_owned);
    let loaded = run(loading.iter().chain([&file.display().to_string()]))?;
    assert_eq!(loaded.0, Some(3), "{loaded:?}");
    assert_eq!(lake.ids("t.rows", "id")?, ([1, 5].into(), 2));
    assert_eq!(lake.dead_letters()?.len(), 5);

    // Nothing is mended yet.
    let (code, tables, _) = replay(&config, &[])?;
    assert_eq!((code, counts(&tables, "t.rows")), (Some(3), [0, 0, 5]));
    assert_eq!(tables[0]["reasons"]["wrong_type"], 3);
    assert_eq!(lake.letters_in("confirmed")?.len(), 5, "each is kept once");
    assert_eq!(lake.letters_in("pending")?, Vec::<Value>::new());

    let config = lake.config("", MENDED)?;
    let (code, tables, _) = replay(&config, &["--dry-run"])?;
    assert_eq!((code, counts(&tables, "t.rows")), (Some(3), [3, 0, 2]));
    assert_eq!(lake.ids("t.rows", "id")?.1, 2, "a dry run");
    let (code, tables, err) = replay(&config, &[])?;
    assert_eq!((code, counts(&tables, "t.rows")), (Some(3), [3, 0, 2]), "{err}");
    let all: BTreeSet<i64> = (1..=5).collect();
    assert_eq!(lake.ids("t.rows", "id")?, (all.clone(), 5));
    // What had a good and a broken record stays whole; what was all good is set aside.
    assert_eq!(objects(&lake, "confirmed")?.len(), 2);
    assert_eq!(lake.letters_in("replayed")?.len(), 2);
    let (code, tables, _) = replay(&config, &[])?;
    assert_eq!((code, counts(&tables, "t.rows")), (Some(3), [0, 1, 2]));
    assert_eq!(lake.ids("t.rows", "id")?, (all, 5));
    // Copies of the first deliveries change nothing either.
    push_all(&config, &pushes).await?;
    assert_eq!(lake.ids("t.rows", "id")?.1, 5);
    assert_eq!(lake.letters_in("confirmed")?.len(), 3);
    Ok(())
}

async fn chosen_letters_go_and_the_others_stay() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", STRICT)?;
    let pushes = [
        Push::new("rows", 1, doubtful(1)),
        Push::new("rows", 2, doubtful(2)),
        Push::new("other", 3, "{\"id\":\"x\"}"),
        Push::new("nowhere", 4, "{\"id\":4}"),
    ];
    push_all(&config, &pushes).await?;
    let config = lake.config("", MENDED)?;
    let mine = objects(&lake, "confirmed/t.rows")?;
    let old = SystemTime::now() - Duration::from_secs(3 * 3600);
    File::options().append(true).open(&mine[0])?.set_modified(old)?;

    let (code, tables, _) = replay(&config, &["--table", "t.rows", "--since", "2h"])?;
    assert_eq!((code, counts(&tables, "t.rows")), (Some(0), [1, 0, 0]));
    assert_eq!((tables.len(), objects(&lake, "confirmed")?.len()), (1, 3));
    // What nobody wanted is for the third table now, and for none but it.
    let (code, tables, _) = replay(&config, &["--table", "t.late"])?;
    assert_eq!((code, counts(&tables, "t.late")), (Some(0), [1, 0, 0]));
    // An object that cannot be read stays, and is told; the others go on.
    fs::write(&mine[0], "{\"id\":")?;
    let (code, tables, err) = replay(&config, &[])?;
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains(&mine[0].display().to_string()), "{err}");
    assert_eq!(counts(&tables, "t.other"), [0, 0, 1]);
    assert!(mine[0].exists());
    let config = config.display().to_string();
    let (code, out, err) = run(["replay", "--config", &config, "--table", "t.other"])?;
    assert_eq!(code, Some(3), "{err}");
    assert!(
        out.contains("t.other: 0 letters landed as 0 rows, 1 are no rows yet (wrong_type 1)"),
        "{out}"
    );
    for wrong in [["--since", "2"], ["--table", "a b"]] {
        let (code, _, err) = run(["replay", "--config", &config].iter().chain(&wrong))?;
        assert_eq!(code, Some(2), "{err}");
    }
    assert_eq!(lake.ids("t.rows", "id")?.1, 1);
    Ok(())
}

async fn deliveries_that_nobody_wanted_land_under_their_own_names() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", STRICT)?;
    let push = Push::new("nowhere", 1, "{\"id\":1}\n{\"id\":2}\n{\"id\":\"x\"}");
    push_all(&config, std::slice::from_ref(&push)).await?;
    let (code, tables, _) = replay(&config, &[])?;
    assert_eq!((code, counts(&tables, "unrouted")), (Some(3), [0, 0, 1]));
    let config = lake.config("", MENDED)?;
    let (code, tables, _) = replay(&config, &[])?;
    // What of it does not fit is a letter now, of the delivery itself.
    assert_eq!((code, counts(&tables, "t.late")), (Some(3), [1, 0, 1]));
    push_all(&config, &[push]).await?;
    assert_eq!(lake.ids("t.late", "id")?, ([1, 2].into(), 2));
    let letters = lake.dead_letters()?;
    assert_eq!((letters.len(), &letters[0]["position"]), (1, &json!(2)));
    assert_eq!(
        letters[0]["delivery_id"],
        "projects/p-test/subscriptions/nowhere/1"
    );
    Ok(())
}

async fn deliveries_too_old_to_prove_land_on_request_only() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", MENDED)?;
    let old = Utc::now() - TimeDelta::days(9);
    push_all(&config, &[Push::new("other", 1, "{\"id\":1}")]).await?;
    let late = Push::new("other", 2, "{\"id\":2}").published_at(old);
    push_all(&config, &[late]).await?;
    let (code, tables, _) = replay(&config, &[])?;
    assert_eq!((code, &tables[0]["too_old"]), (Some(3), &json!(1)));
    assert_eq!(lake.dead_letters()?.len(), 1);
    for expected in [[1, 0, 0], [0, 0, 0]] {
        let (code, tables, _) = replay(&config, &["--too-old"])?;
        assert_eq!((code, counts(&tables, "t.other")), (Some(0), expected));
    }
    // Put back by hand, it is known.
    let aside = objects(&lake, "replayed")?.remove(0);
    let back = aside.display().to_string().replace("/replayed/", "/confirmed/");
    fs::rename(&aside, back)?;
    let (code, tables, _) = replay(&config, &["--too-old"])?;
    assert_eq!((code, counts(&tables, "t.other")), (Some(0), [0, 1, 0]));
    assert_eq!(lake.ids("t.other", "id")?, ([1, 2].into(), 2));
    Ok(())
}

async fn killed_replays_and_two_at_once_land_every_record_once() -> TestResult {
    const FILES: i64 = 4;
    const RECORDS: i64 = 1500;
    let lake = Lake::new()?;
    let config = lake.config("", STRICT)?;
    let pushes: Vec<Push> = (0..60).map(|id| Push::new("rows", id, doubtful(id))).collect();
    push_all(&config, &pushes).await?;
    let strict = config.display().to_string();
    for file in 1..=FILES {
        let path = lake.path().join(format!("{file}.ndjson"));
        let first = file * 10_000;
        fs::write(&path, (first..first + RECORDS).map(doubtful).collect::<String>())?;
        let path = path.display().to_string();
        let loaded = run(["load", "--table", "t.rows", "--config", &strict, &path])?;
        assert_eq!(loaded.0, Some(3), "{loaded:?}");
    }
    let config = lake.config("", MENDED)?;
    let start = || {
        let mut command = landfast(["replay", "--config"]);
        command
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    };
    let mut random = seeded();
    for _ in 0..6 {
        let mut child = start()?;
        sleep(Duration::from_millis(random.random_range(50..700))).await;
        child.kill()?;
        child.wait()?;
    }
    let (mut one, mut other) = (start()?, start()?);
    assert!(one.wait()?.success() && other.wait()?.success());
    let (code, tables, _) = replay(&config, &[])?;
    assert_eq!((code, tables), (Some(0), Vec::new()));
    let files = (1..=FILES).flat_map(|file| file * 10_000..file * 10_000 + RECORDS);
    let all: BTreeSet<i64> = (0..60).chain(files).collect();
    let count = all.len();
    assert_eq!(lake.ids("t.rows", "id")?, (all, count));
    assert_eq!(lake.letters_in("replayed")?.len(), count);
    Ok(())
}
