//! Others at our tables: engines that write between our commits, and catalogs, tables and ledgers that go wrong under us.

mod catalogs;
mod engines;
mod ledgers;
mod properties;
mod start;
mod storage;
mod tables;
mod world;

use std::fs;
use std::path::Path;

use libtest_mimic::Trial;

use crate::support::lake::files;
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    [
        trials![page_of_troubles_says_what_is_said_and_tested],
        engines::tests(),
        start::tests(),
        catalogs::tests(),
        tables::tests(),
        properties::tests(),
        ledgers::tests(),
        storage::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Every message of the page is one of ours or quoted in a test, and every line names a test that there is.
async fn page_of_troubles_says_what_is_said_and_tested() -> TestResult {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |folder: &str| -> TestResult<String> {
        let sources = files(&root.join(folder))?.into_iter();
        let sources = sources.filter(|file| file.extension().is_some_and(|end| end == "rs"));
        Ok(sources.map(fs::read_to_string).collect::<Result<String, _>>()?)
    };
    let (ours, tests) = (read("src")? + &read("functions")?, read("tests/foreign")?);
    let page = fs::read_to_string(root.join("docs/troubles.md"))?;
    let quoted =
        |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let mut lines = 0;
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
        let (Some(first), Some(last)) = (cells.first(), cells.last()) else {
            continue;
        };
        let named = quoted(last);
        if named.is_empty() {
            continue;
        }
        lines += 1;
        for test in named {
            assert!(
                tests.contains(&format!("async fn {test}(")),
                "no test {test}: {line}"
            );
        }
        for said in quoted(first).iter().filter(|_| cells.len() == 4) {
            let known = ours.contains(said.as_str()) || tests.contains(said.as_str());
            assert!(known, "nobody says `{said}`");
        }
    }
    assert!(lines > 25, "{lines} lines were understood");
    Ok(())
}
