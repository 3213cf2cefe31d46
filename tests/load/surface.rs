//! What a person types and sees: patterns, files that may not be read, the bar on a terminal.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;

use super::{TABLE, command, lines, load, run, write};
use crate::support::lake::Lake;
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        patterns_name_files_and_each_is_loaded_once,
        unreadable_files_are_named_and_the_others_load,
        terminal_shows_a_bar,
    ]
}

async fn patterns_name_files_and_each_is_loaded_once() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLE)?;
    for (name, ids) in [("a1.json", 0..10), ("a2.json", 10..20), ("b.json", 20..30)] {
        write(&lake, name, lines(ids))?;
    }
    let path = |name: &str| lake.path().join(name);
    let loaded = load(
        &config,
        &[&path("a?.json"), &path("a1.json"), &path("[b-c].json")],
    )?;
    assert_eq!(loaded.code, Some(0), "{loaded:?}");
    assert!(
        loaded.err.contains("a1.json: named before; it is loaded once."),
        "{loaded:?}"
    );
    assert_eq!(lake.ids("t.rows", "id")?, ((0..30).collect(), 30));
    let none = load(&config, &[&path("none*.json"), &path("b.json")])?;
    assert_eq!(none.code, Some(1), "{none:?}");
    assert!(
        none.err
            .contains("No file has this name or matches it as a pattern")
            && none.err.contains("none*.json"),
        "{none:?}"
    );
    assert!(
        none.out
            .contains("b.json: its name and bytes are in the table already"),
        "{none:?}"
    );
    Ok(())
}

/// Root reads everything, so it runs without that right.
async fn unreadable_files_are_named_and_the_others_load() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLE)?;
    let folder = lake.path().join("in");
    fs::create_dir(&folder)?;
    for (name, ids, mode) in [("a", 0..10, 0o000), ("b", 10..20, 0o600), ("c", 20..30, 0o200)] {
        let file = folder.join(format!("{name}.json"));
        fs::write(&file, lines(ids))?;
        fs::set_permissions(&file, Permissions::from_mode(mode))?;
    }
    let closed = lake.path().join("closed");
    fs::create_dir(&closed)?;
    fs::set_permissions(&closed, Permissions::from_mode(0o000))?;
    let ours = command(&config, &[&folder, &closed]);
    let is_root = String::from_utf8(Command::new("id").arg("-u").output()?.stdout)?.trim() == "0";
    let mut command = Command::new(if is_root { "setpriv" } else { "env" });
    if is_root {
        command.arg("--bounding-set=-dac_override,-dac_read_search");
    }
    command
        .arg(ours.get_program())
        .args(ours.get_args())
        .stdin(Stdio::null());
    let loaded = run(command)?;
    fs::set_permissions(&closed, Permissions::from_mode(0o700))?;
    assert_eq!(loaded.code, Some(1), "{loaded:?}");
    assert!(loaded.out.contains("b.json: 10 rows"), "{loaded:?}");
    for name in ["a.json", "c.json", "closed"] {
        let told = loaded.err.lines().find(|line| line.contains(name));
        assert!(
            told.is_some_and(|line| line.contains("Permission denied")),
            "{loaded:?}"
        );
    }
    assert_eq!(lake.ids("t.rows", "id")?, ((10..20).collect(), 10));
    Ok(())
}

async fn terminal_shows_a_bar() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLE)?;
    let file = write(&lake, "rows.json", lines(0..200_000))?;
    let small = write(&lake, "small.json", lines(0..10))?;
    let shown = |more: &[&str]| {
        let mut ours = command(&config, &[&small, &file]);
        ours.args(more);
        let words = std::iter::once(ours.get_program()).chain(ours.get_args());
        let line: Vec<_> = words
            .map(|word| format!("'{}'", word.to_string_lossy()))
            .collect();
        let mut terminal = Command::new("script");
        terminal.args(["--quiet", "--return", "--command", &line.join(" "), "/dev/null"]);
        terminal
            .env("TERM", "xterm")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        run(terminal)
    };
    let told = shown(&[])?;
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(told.out.contains("rows.json: 200000 rows"), "{told:?}");
    for part in ["[2/2] ", " rows/s ETA ", "MiB/s", "\u{1b}["] {
        assert!(told.out.contains(part), "{part:?} in {told:?}");
    }
    let quiet = shown(&["--quiet"])?;
    assert!(
        !quiet.out.contains("ETA") && !quiet.out.contains('\u{1b}'),
        "{quiet:?}"
    );
    // To a file or a pipe it is plain.
    let piped = load(&config, &[&small])?;
    assert!(
        !piped.err.contains('\u{1b}') && !piped.err.contains("ETA"),
        "{piped:?}"
    );
    Ok(())
}
