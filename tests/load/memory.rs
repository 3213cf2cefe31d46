//! What a load takes of memory is bounded, whatever the file.

use std::fs;
use std::process::Command;
use std::time::Duration;

use libtest_mimic::Trial;
use tokio::time::sleep;

use super::{command, count, write};
use crate::support::lake::Lake;
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        tiny_records_of_a_wide_table_take_little_memory,
        tiny_records_that_do_not_fit_take_little_memory
    ]
}

/// As columns at once they would take 30,000 × 3,000 × 8 bytes: 720 MB.
async fn tiny_records_of_a_wide_table_take_little_memory() -> TestResult {
    const ROWS: usize = 30_000;
    let lake = Lake::new()?;
    let columns: Vec<_> = (0..3000)
        .map(|place| format!("{{ name: c{place}, type: long }}"))
        .collect();
    let table = format!("tables: {{ t.rows: {{ schema: [{}] }} }}", columns.join(", "));
    let config = lake.config("", &table)?;
    let file = write(&lake, "empty.json", "{}\n".repeat(ROWS))?;
    let (code, err, peak) = watched(command(&config, &[&file])).await?;
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(count(&lake)?, ROWS as u64);
    assert!((10_000..400_000).contains(&peak), "{peak} KiB");
    Ok(())
}

/// As rejected records at once they would take 8,000,000 × 250 bytes: 2 GB, before one was counted.
async fn tiny_records_that_do_not_fit_take_little_memory() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", super::TABLE)?;
    for (name, content) in [
        ("lines.json", "{}\n".repeat(8_000_000)),
        ("array.json", format!("[0{}]", ",0".repeat(8_000_000))),
    ] {
        let file = write(&lake, name, content)?;
        let (code, err, peak) = watched(command(&config, &[&file])).await?;
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains("Too many of the file's records"), "{err}");
        assert!((10_000..300_000).contains(&peak), "{name}: {peak} KiB");
    }
    assert_eq!(count(&lake)?, 0);
    Ok(())
}

/// Runs a command; its exit code, what it said, and the most memory it had in KiB.
async fn watched(mut command: Command) -> TestResult<(Option<i32>, String, u64)> {
    let mut child = command.spawn()?;
    let (status, mut peak) = (format!("/proc/{}/status", child.id()), 0);
    while child.try_wait()?.is_none() {
        peak = peak.max(peak_kib(&fs::read_to_string(&status).unwrap_or_default()));
        sleep(Duration::from_millis(20)).await;
    }
    let output = child.wait_with_output()?;
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.code(), err, peak))
}

/// The most that a process had; none once it has ended.
fn peak_kib(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}
