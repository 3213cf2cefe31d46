//! Recent commits as a small chart: a bar for each, as high as it has rows.

use std::fmt::Write;
use std::time::Duration;

use super::status::Commit;
use super::text::{Html, duration, number};
use crate::telemetry::MAX_COMMITS;

const HEIGHT: u64 = 28;
const BAR: usize = 2;
const STEP: usize = 3;

/// Draws commits, the newest at the right edge.
pub(super) fn draw(commits: &[Commit], html: &mut Html) {
    let most = commits.iter().map(|commit| commit.rows).max().unwrap_or_default();
    let width = MAX_COMMITS * STEP;
    let told = told(commits, most);
    html.markup("<svg class=\"chart\" role=\"img\" viewBox=\"0 0 ")
        .text(width)
        .markup(" ")
        .text(HEIGHT)
        .markup("\" preserveAspectRatio=\"none\"><title>")
        .text(&told)
        .markup("</title><path d=\"")
        .text(bars(commits, most, width))
        .markup("\"/></svg>");
}

fn bars(commits: &[Commit], most: u64, width: usize) -> String {
    let first = width.saturating_sub(commits.len().saturating_mul(STEP));
    let mut path = String::new();
    for (place, commit) in commits.iter().enumerate() {
        let x = first + place * STEP;
        // One without rows (its records are all dead letters) is a commit all the same.
        let height = (u128::from(commit.rows) * u128::from(HEIGHT) / u128::from(most.max(1))).max(1);
        // A string takes whatever is written to it.
        let _written = write!(path, "M{x} {HEIGHT}v-{height}h{BAR}v{height}z");
    }
    path
}

fn told(commits: &[Commit], most: u64) -> String {
    let least = commits.iter().map(|commit| commit.rows).min().unwrap_or_default();
    let (first, last) = (commits.first(), commits.last());
    let took = first.zip(last).map(|(first, last)| last.at - first.at);
    let took = took.and_then(|took| took.to_std().ok()).unwrap_or(Duration::ZERO);
    match commits.len() {
        1 => format!("1 commit of {} rows", number(most)),
        count => format!(
            "{count} commits in {}, of {} to {} rows",
            duration(took),
            number(least),
            number(most)
        ),
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn commit(second: u64, rows: u64) -> Commit {
        Commit {
            at: DateTime::UNIX_EPOCH + Duration::from_secs(second),
            rows,
            bytes: 0,
            seconds: 0.0,
            freshness_seconds: None,
            snapshot_id: "1".to_owned(),
        }
    }

    #[test]
    fn bars_end_at_the_right_and_the_largest_fills_the_height() {
        let commits = [commit(0, 0), commit(2, u64::MAX), commit(30, u64::MAX / 2)];
        assert_eq!(
            bars(&commits, u64::MAX, 180),
            "M171 28v-1h2v1zM174 28v-28h2v28zM177 28v-13h2v13z"
        );
        assert_eq!(told(&commits[..1], 0), "1 commit of 0 rows");
        let commits = [commit(0, 1), commit(30, 1_000)];
        assert_eq!(told(&commits, 1_000), "2 commits in 30 s, of 1 to 1,000 rows");
    }
}
