//! Tells the crate which commit it is built from, and when that commit was made.
//!
//! The environment says it (`LANDFAST_COMMIT`, `LANDFAST_COMMIT_EPOCH` or `SOURCE_DATE_EPOCH`), else git does, but for release builds alone: every
//! other would be made anew after each commit. What nobody says is left out. The clock is not asked, so that the same
//! sources give the same program.

#![expect(
    clippy::disallowed_methods,
    reason = "Cargo tells a build script in the environment what it builds"
)]

use std::path::Path;
use std::process::Command;

fn main() {
    let told_commit = variable("LANDFAST_COMMIT");
    let told_epoch = variable("LANDFAST_COMMIT_EPOCH").or_else(|| variable("SOURCE_DATE_EPOCH"));
    let asks_git = variable("PROFILE").as_deref() == Some("release") && told_commit.is_none() && is_ours();
    let (mut commit, mut epoch) = (told_commit, told_epoch);
    if asks_git {
        watch_head();
        commit = git(&["rev-parse", "HEAD"]).map(|commit| commit + changed());
        epoch = epoch.or_else(|| git(&["log", "-1", "--format=%ct"]));
    }
    for (name, value) in [
        ("LANDFAST_BUILD_COMMIT", commit),
        ("LANDFAST_BUILD_EPOCH", epoch),
        ("LANDFAST_BUILD_TARGET", variable("TARGET")),
    ] {
        if let Some(value) = value {
            println!("cargo::rustc-env={name}={value}");
        }
    }
    // Whatever else changes, this need not run again.
    println!("cargo::rerun-if-changed=build.rs");
    for name in ["LANDFAST_COMMIT", "LANDFAST_COMMIT_EPOCH", "SOURCE_DATE_EPOCH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
}

/// A variable that is empty counts as not set, as an argument of a Dockerfile without a value is.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether this folder is the top of a repository: sources may be unpacked within another's.
fn is_ours() -> bool {
    git(&["rev-parse", "--is-inside-work-tree"]).is_some() && git(&["rev-parse", "--show-prefix"]).is_none()
}

/// What a commit is followed by where files differ from it.
fn changed() -> &'static str {
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(_) => "-dirty",
        None => "",
    }
}

/// Has the script run again when another commit is checked out or made. Git notes each of these in one file, its reflog;
/// where it keeps none, in `HEAD`, or in the file of its branch, which may only come to be with the next commit.
fn watch_head() {
    let there = |name: &str| {
        let path = git(&["rev-parse", "--git-path", name]);
        path.filter(|path| Path::new(path).exists())
    };
    let reflog = there("logs/HEAD").or_else(|| there("refs/heads"));
    for path in reflog.into_iter().chain(there("HEAD")) {
        println!("cargo::rerun-if-changed={path}");
    }
}

/// What git answers, unless it cannot or has nothing to say.
fn git(arguments: &[&str]) -> Option<String> {
    let answer = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(answer.stdout).ok()?;
    let text = text.trim();
    (answer.status.success() && !text.is_empty()).then(|| text.to_owned())
}
