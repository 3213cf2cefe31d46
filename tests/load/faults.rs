//! Loads that go wrong: the file, the disk, the process. Nothing of the file is visible then, or all of it.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Trial;
use rand::Rng;
use serde_json::json;
use tokio::time::sleep;

use super::doomed::Doomed;
use super::{TABLE, command, count, gzip, lines, load, run, snapshots, write};
use crate::support::lake::{Lake, files};
use crate::support::mount::{Mount, fill};
use crate::support::seed::seeded;
use crate::support::{TestResult, trials, wait_for};

const PATIENCE: Duration = Duration::from_secs(60);

pub fn tests() -> Vec<Trial> {
    trials![
        files_that_cannot_be_loaded_commit_nothing,
        endless_file_fails_fast_in_little_memory,
        too_many_rejects_commit_nothing,
        pipe_that_stays_open_does_not_hold_up_a_failure,
        unwritable_dead_letters_commit_nothing,
        full_disk_commits_nothing,
        killed_loads_land_all_or_nothing,
        two_loads_of_one_file_at_once_land_it_once,
        killed_first_loads_land_once,
    ]
}

async fn files_that_cannot_be_loaded_commit_nothing() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLE)?;
    let content = lines(0..2000);
    let zipped = gzip(content.as_bytes())?;
    let packed = zstd::encode_all(content.as_bytes(), 1)?;
    for (name, bytes) in [
        ("cut.gz", &zipped[..zipped.len() - 5]),
        ("cut.zst", &packed[..packed.len() / 2]),
        ("junk.gz", &[&zipped[..], b"junk"].concat()[..]),
    ] {
        let file = write(&lake, name, bytes)?;
        let refused = load(&config, &[&file])?;
        assert_eq!(refused.code, Some(1), "{name}");
        assert!(
            refused.err.contains("cannot be read to its end") && refused.err.contains(name),
            "{refused:?}"
        );
    }
    Ok(())
}

async fn endless_file_fails_fast_in_little_memory() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLE)?;
    let path = lake.path().join("endless");
    File::create(&path)?.set_len(2 << 40)?;
    // Half a gibibyte of data is no more than the 64 MiB of a record, read and copied as it grows.
    let mut limited = Command::new("sh");
    limited
        .args([
            "-c",
            "ulimit -d 524288; exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_landfast"),
        ])
        .args(["load", "--table", "t.rows", "--config"])
        .arg(&config)
        .arg(&path);
    let started = std::time::Instant::now();
    let refused = run(limited)?;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.err.contains("A record is larger than 64 MiB"),
        "{refused:?}"
    );
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(count(&lake)?, 0);
    Ok(())
}

async fn too_many_rejects_commit_nothing() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLE)?;
    let file = write(
        &lake,
        "wrong.json",
        format!("{}{}", lines(0..10), "{}\n".repeat(100_001)),
    )?;
    let refused = load(&config, &[&file])?;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.err.contains("Too many of the file's records") && refused.err.contains("100001"),
        "{refused:?}"
    );
    assert_eq!((count(&lake)?, lake.dead_letters()?.len()), (0, 0));
    Ok(())
}

/// A thread that reads it cannot be stopped.
async fn pipe_that_stays_open_does_not_hold_up_a_failure() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLE)?;
    for options in [&[][..], &["--atomic"]] {
        let mut command = command(&config, &[std::path::Path::new("-")]);
        let mut child = command.args(options).stdin(Stdio::piped()).spawn()?;
        let mut pipe = child.stdin.take().ok_or("no pipe")?;
        // Whoever closed its end says so.
        let _closed = pipe.write_all("{}\n".repeat(6 << 20).as_bytes());
        let ended = wait_for("the load to end", PATIENCE, async || {
            child.try_wait().ok().flatten()
        })
        .await;
        if ended.is_err() {
            child.kill()?;
        }
        assert_eq!(ended?.code(), Some(1));
        let err = String::from_utf8(child.wait_with_output()?.stderr)?;
        assert!(err.contains("Too many of the file's records"), "{err}");
        drop(pipe);
    }
    Ok(())
}

async fn unwritable_dead_letters_commit_nothing() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLE)?;
    let file = write(
        &lake,
        "poison.json",
        format!("{}{{\"id\":\"poison\"}}\n", lines(0..10)),
    )?;
    fs::create_dir_all(lake.path().join("dead-letters"))?;
    fs::create_dir_all(lake.path().join("dead-letters/pending"))?;
    let letters = lake.path().join("dead-letters/pending/t.rows");
    fs::write(&letters, "a file where a folder should be")?;
    let refused = load(&config, &[&file])?;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(!refused.err.contains("poison\""), "{refused:?}");
    assert_eq!(count(&lake)?, 0);
    fs::remove_file(&letters)?;
    assert_eq!(load(&config, &[&file])?.code, Some(3));
    assert_eq!((count(&lake)?, lake.dead_letters()?.len()), (10, 1));
    Ok(())
}

async fn full_disk_commits_nothing() -> TestResult {
    let lake = Lake::new()?;
    let mount = Mount::new(lake.path().join("warehouse"), "2m")?;
    let config = lake.config("", TABLE)?;
    let one = write(&lake, "one.json", lines(0..1))?;
    assert_eq!(load(&config, &[&one])?.code, Some(0));
    let filler = fill(mount.path())?;
    let noise = |id: i64| {
        let pad: String = (0..8).map(|_| uuid::Uuid::new_v4().to_string()).collect();
        json!({"id": id, "s": pad}).to_string() + "\n"
    };
    let file = write(&lake, "noise.json", (1..2000).map(noise).collect::<String>())?;
    let refused = load(&config, &[&file])?;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("No space left"), "{refused:?}");
    assert_eq!(count(&lake)?, 1);
    fs::remove_file(filler)?;
    assert_eq!(load(&config, &[&file])?.code, Some(0));
    assert_eq!(lake.ids("t.rows", "id")?, ((0..2000).collect(), 2000));
    let parts = files(mount.path())?
        .into_iter()
        .filter(|file| file.to_string_lossy().contains('#'));
    assert_eq!(parts.count(), 0);
    Ok(())
}

async fn killed_loads_land_all_or_nothing() -> TestResult {
    const ROWS: u64 = 20_000;
    let lake = Lake::new()?;
    let config = lake.config("", TABLE)?;
    let file = write(&lake, "rows.json", lines(0..ROWS as i64))?;
    let started = std::time::Instant::now();
    assert_eq!(load(&config, &[&file])?.code, Some(0));
    let whole = started.elapsed();
    let (mut landed, mut cut, mut random) = (ROWS, 0, seeded());
    let adding = || {
        let mut command = command(&config, &[&file]);
        command.arg("--again");
        command
    };
    for round in 0..12 {
        let doomed = Doomed::start(&lake, adding())?;
        // Anywhere, near the end, where the commit is, and once it writes.
        match round % 3 {
            0 => sleep(whole.mul_f64(random.random_range(0.0..1.1))).await,
            1 => sleep(whole.mul_f64(random.random_range(0.7..1.1))).await,
            _ => doomed.writes().await?,
        }
        cut += usize::from(doomed.kill()?);
        let found = count(&lake)?;
        assert!(
            found == landed || found == landed + ROWS,
            "{found} rows after {landed}"
        );
        landed = found;
    }
    assert!(cut > 0, "no load was killed while it wrote");
    assert!(adding().status()?.success());
    landed += ROWS;
    // Without the word it is there already, however the loads before it ended.
    assert_eq!(load(&config, &[&file])?.code, Some(0));
    let (ids, rows) = lake.ids("t.rows", "id")?;
    assert_eq!((ids.len() as u64, rows as u64), (ROWS, landed));
    Ok(())
}

async fn killed_first_loads_land_once() -> TestResult {
    const ROWS: u64 = 20_000;
    let mut random = seeded();
    for round in 0..6 {
        let lake = Lake::new()?;
        let config = lake.config("", TABLE)?;
        let file = write(&lake, "rows.json", lines(0..ROWS as i64))?;
        for _ in 0..3 {
            let mut child = command(&config, &[&file]).spawn()?;
            sleep(Duration::from_millis(random.random_range(50..400))).await;
            child.kill()?;
            child.wait()?;
        }
        assert_eq!(load(&config, &[&file])?.code, Some(0), "round {round}");
        assert_eq!(
            lake.ids("t.rows", "id")?,
            ((0..ROWS as i64).collect(), ROWS as usize)
        );
    }
    Ok(())
}

async fn two_loads_of_one_file_at_once_land_it_once() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLE)?;
    let file = write(&lake, "rows.json", lines(0..5000))?;
    let first = command(&config, &[&file]).spawn()?;
    let second = command(&config, &[&file]).spawn()?;
    let mut told = String::new();
    for child in [first, second] {
        let output = child.wait_with_output()?;
        told.push_str(&String::from_utf8_lossy(&output.stdout));
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert!(
        told.contains("5000 rows") && told.contains("in the table already"),
        "{told}"
    );
    assert_eq!(lake.ids("t.rows", "id")?, ((0..5000).collect(), 5000));
    assert_eq!(snapshots(&lake)?.len(), 1);
    Ok(())
}
