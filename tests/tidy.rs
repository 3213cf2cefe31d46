//! The rules of the house that no lint knows, read from the repository's files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;

use crate::support::{TestResult, trials};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const MAX_LINES: usize = 500;
const SKIPPED: [&str; 5] = [".git", ".tools", "target", "landfast-data", "__pycache__"];

pub fn tests() -> Vec<Trial> {
    trials![
        rust_files_are_short,
        ignored_tests_say_why,
        lint_exceptions_are_expected_and_reasoned,
        architecture_names_every_folder,
        architecture_names_tests_that_exist,
        metrics_are_documented,
        alerts_are_in_the_runbook,
        pages_are_linked,
        links_lead_somewhere,
        no_machine_paths,
        planted_bugs_fit_the_code,
    ]
}

/// A patch that fits no more would be found by nothing: the simulation would run on the product as it is.
async fn planted_bugs_fit_the_code() -> TestResult {
    let patches: Vec<PathBuf> = fs::read_dir(Path::new(ROOT).join("tests/simulation/mutants"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<TestResult<_>>()?;
    let patches = patches
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "patch"));
    let mut unfit = Vec::new();
    let mut count = 0;
    for patch in patches {
        count += 1;
        let checked = Command::new("git")
            .args(["apply", "--check"])
            .arg(&patch)
            .current_dir(ROOT)
            .output()?;
        if !checked.status.success() {
            unfit.push(String::from_utf8_lossy(&checked.stderr).into_owned());
        }
    }
    assert!(count > 0, "there are none");
    none(unfit)
}

async fn rust_files_are_short() -> TestResult {
    let files = files(".rs")?
        .into_iter()
        .filter(|file| !file.path.ends_with("/tests.rs"));
    none(
        files
            .filter(|file| file.text.lines().count() > MAX_LINES)
            .map(|file| file.path),
    )
}

async fn ignored_tests_say_why() -> TestResult {
    none(
        attributes("ignore")?
            .into_iter()
            .filter(|found| !found.contains('"')),
    )
}

async fn lint_exceptions_are_expected_and_reasoned() -> TestResult {
    let unreasoned = attributes("expect")?
        .into_iter()
        .filter(|found| !found.contains("reason ="));
    none(attributes("allow")?.into_iter().chain(unreasoned))
}

async fn architecture_names_every_folder() -> TestResult {
    let page = fs::read_to_string(Path::new(ROOT).join("ARCHITECTURE.md"))?;
    let files = files("")?;
    let folders = files
        .iter()
        .filter_map(|file| Some(file.path.strip_prefix("src/")?.split_once('/')?.0));
    let unnamed: BTreeSet<_> = folders
        .filter(|folder| !page.contains(&format!("src/{folder}")))
        .collect();
    none(unnamed)
}

async fn architecture_names_tests_that_exist() -> TestResult {
    let page = fs::read_to_string(Path::new(ROOT).join("ARCHITECTURE.md"))?;
    let sources: String = files(".rs")?.iter().map(|file| file.text.as_str()).collect();
    // The last cell of the rows of the table of invariants, whose first cell is a number.
    let rows = page
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .filter(|line| line.starts_with(|first: char| first.is_ascii_digit()));
    let tests = rows.flat_map(|row| {
        let last = row
            .trim_end_matches([' ', '|'])
            .rsplit('|')
            .next()
            .unwrap_or_default();
        last.split('`').skip(1).step_by(2)
    });
    none(tests.filter(|test| !sources.contains(&format!("fn {test}("))))
}

async fn metrics_are_documented() -> TestResult {
    let files = files("")?;
    let of = |wanted: fn(&str) -> bool| files.iter().filter(move |file| wanted(&file.path));
    let names: Vec<_> = of(|path| path.starts_with("src/telemetry"))
        .flat_map(|file| file.text.split('"').skip(1).step_by(2))
        .filter(|text| text.starts_with("iceberg_") || text.starts_with("landfast_"))
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
        .collect();
    assert!(!names.is_empty(), "src/telemetry names metrics");
    let pages = of(|path| path == "README.md" || path.starts_with("docs/"));
    let pages: String = pages.map(|page| page.text.as_str()).collect();
    none(names.into_iter().filter(|name| !pages.contains(name)))
}

/// A section for each alert of Terraform's and of docs/metrics.md, and none without an alert.
async fn alerts_are_in_the_runbook() -> TestResult {
    let read = |path: &str| fs::read_to_string(Path::new(ROOT).join(path));
    let runbook = read("docs/runbook.md")?;
    let sections: BTreeSet<&str> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    // Those that can be left out are all of them.
    let listed = read("terraform/modules/monitoring/variables.tf")?;
    let (_, listed) = listed
        .split_once("variable \"disabled_alerts\"")
        .and_then(|(_, rest)| rest.split_once("contains(["))
        .ok_or("a list")?;
    let listed = listed.split("], one)").next().unwrap_or_default();
    let mut alerts: BTreeSet<&str> = listed.split('"').skip(1).step_by(2).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    let metrics = read("docs/metrics.md")?;
    let linked = metrics.split("(runbook.md#").skip(1);
    alerts.extend(linked.filter_map(|rest| rest.split(')').next()));
    alerts.insert("First of all");
    none(sections.symmetric_difference(&alerts).copied())
}

/// A page that no other page links to is read by nobody.
async fn pages_are_linked() -> TestResult {
    let pages: Vec<File> = files(".md")?;
    let index = pages
        .iter()
        .find(|page| page.path == "docs/README.md")
        .ok_or("an index")?;
    let in_docs = pages.iter().filter_map(|page| page.path.strip_prefix("docs/"));
    let unlisted = in_docs
        .filter(|name| !name.contains('/') && *name != "README.md")
        .filter(|name| !index.text.contains(&format!("]({name})")));
    none(unlisted)
}

/// Links of the pages to files and to headings of pages.
async fn links_lead_somewhere() -> TestResult {
    let mut dead = Vec::new();
    for page in files(".md")? {
        let folder = Path::new(ROOT).join(&page.path);
        let folder = folder.parent().ok_or("a folder")?;
        for link in page.text.split("](").skip(1) {
            let link = link.split(')').next().unwrap_or_default();
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            if link.contains("://")
                || link.contains([' ', '('])
                || link.is_empty()
                || link.starts_with("NNNN")
            {
                continue;
            }
            let target = match path {
                "" => Path::new(ROOT).join(&page.path),
                _ => folder.join(path),
            };
            let has_heading = |text: String| {
                text.lines()
                    .any(|line| anchor_of(line).as_deref() == Some(anchor))
            };
            if !target.exists() || !anchor.is_empty() && !has_heading(fs::read_to_string(&target)?) {
                dead.push(format!("{}: {link}", page.path));
            }
        }
    }
    none(dead)
}

/// What GitHub makes of a heading.
fn anchor_of(line: &str) -> Option<String> {
    let text = line.trim_start_matches('#');
    let text = (text.len() < line.len()).then_some(text)?.trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|letter| letter.is_alphanumeric() || "-_ ".contains(*letter));
    Some(
        kept.map(|letter| if letter == ' ' { '-' } else { letter })
            .collect(),
    )
}

async fn no_machine_paths() -> TestResult {
    // In two parts, so that this file holds none.
    let needles = ["ho|me", "ro|ot", "Us|ers", "wo|rk"].map(|name| format!("/{}/", name.replace('|', "")));
    let inside = |before: char| before.is_alphanumeric() || "._-}$".contains(before);
    let names = |line: &str, needle: &String| {
        line.match_indices(needle)
            .any(|(at, _)| !line[..at].ends_with(inside))
    };
    let mut found = Vec::new();
    for file in files("")? {
        for (number, line) in file.text.lines().enumerate() {
            if line.contains(ROOT) || needles.iter().any(|needle| names(line, needle)) {
                found.push(format!("{}:{}", file.path, number + 1));
            }
        }
    }
    none(found)
}

struct File {
    path: String,
    text: String,
}

/// Attributes of this name, each with its place.
fn attributes(name: &str) -> TestResult<Vec<String>> {
    let starts = ["#[", "#!["].map(|open| format!("{open}{name}"));
    let mut found = Vec::new();
    for file in files(".rs")? {
        let lines: Vec<_> = file.text.lines().map(str::trim).collect();
        for (at, line) in lines.iter().enumerate() {
            if starts.iter().any(|start| line.starts_with(start)) {
                let attribute = lines[at..].split_inclusive(|line| line.ends_with(']')).next();
                found.push(format!(
                    "{}:{}: {}",
                    file.path,
                    at + 1,
                    attribute.unwrap_or_default().concat()
                ));
            }
        }
    }
    Ok(found)
}

fn none(offences: impl IntoIterator<Item = impl Into<String>>) -> TestResult {
    let offences: Vec<String> = offences.into_iter().map(Into::into).collect();
    assert!(offences.is_empty(), "{}", offences.join("\n"));
    Ok(())
}

/// Every text file whose name ends so, and that is not built, installed or ignored.
fn files(end: &str) -> TestResult<Vec<File>> {
    let mut folders = vec![PathBuf::new()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(Path::new(ROOT).join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if SKIPPED.iter().any(|skipped| path.ends_with(skipped)) {
                continue;
            } else if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(end)
                && let Ok(text) = fs::read_to_string(entry.path())
            {
                let path = path.to_string_lossy().into_owned();
                files.push(File { path, text });
            }
        }
    }
    Ok(files)
}
