//! Which landfast this is: what its build knew of where it comes from.

use std::sync::LazyLock;

use chrono::{DateTime, SecondsFormat};

/// The version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that it is built from; `None` where the build did not know it.
pub const COMMIT: Option<&str> = option_env!("LANDFAST_BUILD_COMMIT");

/// What it is built for, such as `x86_64-unknown-linux-gnu`.
pub const TARGET: &str = env!("LANDFAST_BUILD_TARGET");

/// What stands for a part that the build did not know.
pub const UNKNOWN: &str = "unknown";

/// Digits of a commit that are enough to know it by.
const SHORT: usize = 12;

static LINE: LazyLock<String> = LazyLock::new(|| {
    let commit = COMMIT.map_or(UNKNOWN, |commit| commit.get(..SHORT).unwrap_or(commit));
    let date = date();
    let day = date
        .as_deref()
        .map_or(UNKNOWN, |date| date.get(..10).unwrap_or(date));
    format!("{VERSION} (commit {commit}, {day})")
});

/// The build's date, RFC 3339: when the commit was made, or what the build was told. It is no clock's, so that the
/// same sources give the same program.
pub fn date() -> Option<String> {
    let seconds = option_env!("LANDFAST_BUILD_EPOCH")?.parse().ok()?;
    let date = DateTime::from_timestamp(seconds, 0)?;
    Some(date.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// Version, commit and day in one line.
pub fn line() -> &'static str {
    &LINE
}
