//! `load --atomic`: the files of one command are one commit, all of them or none.

use std::fs;
use std::path::Path;

use libtest_mimic::Trial;
use rand::Rng;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::doomed::Doomed;
use super::{Run, TABLE, command, count, gzip, lines, run, snapshots, write};
use crate::support::lake::Lake;
use crate::support::seed::seeded;
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        files_of_one_command_are_one_snapshot,
        one_bad_file_keeps_all_out,
        killed_together_lands_all_or_nothing,
    ]
}

fn atomic(config: &Path, files: &[&Path]) -> TestResult<Run> {
    let mut command = command(config, files);
    command.args(["--atomic", "--output", "json"]);
    run(command)
}

async fn files_of_one_command_are_one_snapshot() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLE)?;
    let folder = lake.path().join("in");
    fs::create_dir_all(lake.path().join("copy"))?;
    fs::create_dir_all(&folder)?;
    for file in 0..300 {
        let rows = lines(file * 10..file * 10 + 10);
        fs::write(folder.join(format!("{file:03}.json")), rows + "oops\n")?;
    }
    let empty = write(&lake, "empty.json", "\n")?;
    // The same delivery: the same name and bytes.
    let copy = lake.path().join("copy/007.json");
    fs::copy(folder.join("007.json"), &copy)?;
    let loaded = atomic(&config, &[&empty, &folder, &copy, &empty])?;
    assert_eq!(loaded.code, Some(3), "{loaded:?}");
    assert!(loaded.err.contains("empty.json: named before"), "{loaded:?}");
    let told: Vec<Value> = serde_json::from_str(&loaded.out)?;
    assert_eq!(told.len(), 302);
    let snapshots = snapshots(&lake)?;
    assert_eq!(snapshots.len(), 1);
    let id = json!(snapshots[0]["snapshot_id"].to_string());
    for told in &told[1..301] {
        assert_eq!(
            (&told["rows"], &told["dead_letters"], &told["snapshot_id"]),
            (&json!(10), &json!(1), &id)
        );
    }
    assert_eq!(
        (&told[0]["rows"], &told[0]["snapshot_id"]),
        (&json!(0), &Value::Null)
    );
    assert_eq!(
        told[301]["same_as"],
        folder.join("007.json").display().to_string()
    );
    assert_eq!(lake.ids("t.rows", "id")?, ((0..3000).collect(), 3000));
    assert_eq!(lake.dead_letters()?.len(), 300);
    Ok(())
}

async fn one_bad_file_keeps_all_out() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLE)?;
    let good = write(&lake, "good.json", lines(0..10) + "oops\n")?;
    let later = write(&lake, "later.json", lines(10..20))?;
    let missing = lake.path().join("missing.json");
    let other = lake.path().join("other-*.json");
    // What is not there is told before anything is read or made.
    for bad in [&missing, &other] {
        let refused = atomic(&config, &[&good, bad, &later])?;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        let told: Value = serde_json::from_str(&refused.out)?;
        let error = |place: usize| told[place]["error"].as_str().unwrap_or_default().to_owned();
        let name = bad.file_name().ok_or("a name")?.to_string_lossy().into_owned();
        assert!(
            error(1).contains(&name) && refused.err.contains(&name),
            "{refused:?}"
        );
        assert!(
            error(0).contains("loaded together") && error(2) == error(0),
            "{told}"
        );
        assert!(lake.metadata("t.rows").is_err());
    }
    // What cannot be read to its end is told when it is.
    let zipped = gzip(lines(0..2000))?;
    let cut = write(&lake, "cut.gz", &zipped[..zipped.len() - 5])?;
    let refused = atomic(&config, &[&good, &cut, &later])?;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.err.contains("cut.gz") && refused.err.contains("2 files were left out"),
        "{refused:?}"
    );
    // Together they are too many.
    let wrong = |name| write(&lake, name, "{\"id\":\"x\"}\n".repeat(60_000));
    let refused = atomic(&config, &[&wrong("wrong-1.json")?, &wrong("wrong-2.json")?])?;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.err.contains("Too many") && refused.err.contains("120000"),
        "{refused:?}"
    );
    assert_eq!((count(&lake)?, lake.dead_letters()?.len()), (0, 0));
    assert_eq!(atomic(&config, &[&good, &later])?.code, Some(3));
    assert_eq!((count(&lake)?, snapshots(&lake)?.len()), (20, 1));
    Ok(())
}

async fn killed_together_lands_all_or_nothing() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLE)?;
    let (one, two) = (
        write(&lake, "one.json", lines(0..10_000))?,
        write(&lake, "two.json", lines(10_000..20_000))?,
    );
    let started = std::time::Instant::now();
    assert_eq!(atomic(&config, &[&one, &two])?.code, Some(0));
    let whole = started.elapsed();
    let (mut landed, mut cut, mut random) = (20_000, 0, seeded());
    for round in 0..8 {
        let mut command = command(&config, &[&one, &two]);
        command.arg("--atomic").arg("--again");
        let doomed = Doomed::start(&lake, command)?;
        match round % 2 {
            0 => sleep(whole.mul_f64(random.random_range(0.4..1.1))).await,
            _ => doomed.writes().await?,
        }
        cut += usize::from(doomed.kill()?);
        let found = count(&lake)?;
        assert!(
            [landed, landed + 20_000].contains(&found),
            "{found} after {landed}"
        );
        landed = found;
    }
    assert!(cut > 0, "no load was killed while it wrote");
    Ok(())
}
