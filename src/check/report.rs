//! What a check found: a line for each probe, how long writes took, and what could not be removed.

use serde::Serialize;
use tokio::time::Duration;

use super::ceiling;
use super::remedy::Place;
use crate::config::ServerConfig;
use crate::error::{Error, ErrorKind};

/// How a probe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did what the service does.
    Passed,
    /// It is no failure of the service, and somebody should look at it.
    Warned,
    /// The service will fail at this.
    Failed,
    /// It could not be tried.
    Skipped,
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What was probed, such as `warehouse`.
    pub what: &'static str,
    /// Which one.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub duration_ms: u64,
    /// What was done or seen.
    pub told: String,
    /// What to do about it: the permission or role that is missing, where it is that.
    pub remedy: Option<String>,
}

/// How long writes of one kind took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timing {
    /// `put` or `commit`.
    pub of: &'static str,
    /// How many were timed.
    pub count: usize,
    /// Their median.
    pub median_ms: f64,
    /// The slowest.
    pub slowest_ms: f64,
}

/// What one table takes from one process, as far as its commits decide.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ceiling {
    /// Messages that were each their own delivery.
    pub messages_per_second: u64,
    /// How that comes about.
    pub formula: String,
}

/// All of a check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Whether nothing failed, and nothing is left.
    pub passed: bool,
    /// The probes.
    pub checks: Vec<Line>,
    /// The times of writes, as far as they could be made.
    pub timings: Vec<Timing>,
    /// Where commits were timed.
    pub ceiling: Option<Ceiling>,
    /// What the check made, or may have made, and could not remove: locations, and the name of its table.
    pub left: Vec<String>,
}

/// What a probe found.
#[derive(Debug)]
pub(super) struct Found {
    outcome: Outcome,
    told: String,
    remedy: Option<String>,
}

/// What probes give.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) lines: Vec<Line>,
    pub(super) timings: Vec<Timing>,
    pub(super) left: Vec<String>,
}

impl Report {
    pub(super) fn new(gathered: Gathered, server: &ServerConfig) -> Self {
        let failed = gathered.lines.iter().any(|line| line.outcome == Outcome::Failed);
        Self {
            passed: !failed && gathered.left.is_empty(),
            ceiling: ceiling::of(&gathered.timings, server),
            checks: gathered.lines,
            timings: gathered.timings,
            left: gathered.left,
        }
    }
}

impl Line {
    pub(super) fn new(what: &'static str, name: String, found: Found, took: Duration) -> Self {
        Self {
            what,
            name,
            outcome: found.outcome,
            duration_ms: took.as_millis().try_into().unwrap_or(u64::MAX),
            told: found.told,
            remedy: found.remedy,
        }
    }
}

impl Found {
    pub(super) fn passed(told: impl Into<String>) -> Self {
        Self::new(Outcome::Passed, told, None)
    }

    pub(super) fn warned(told: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Outcome::Warned, told, Some(remedy.into()))
    }

    pub(super) fn failed(told: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Outcome::Failed, told, Some(remedy.into()))
    }

    pub(super) fn skipped(told: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Outcome::Skipped, told, Some(remedy.into()))
    }

    /// A failure, and what the error wants in that place.
    pub(super) fn refused(place: &Place<'_>, error: &Error) -> Self {
        Self::failed(error.report(), place.remedy(error))
    }

    pub(super) fn has_passed(&self) -> bool {
        self.outcome == Outcome::Passed
    }

    fn new(outcome: Outcome, told: impl Into<String>, remedy: Option<String>) -> Self {
        Self {
            outcome,
            told: told.into(),
            remedy,
        }
    }
}

impl Gathered {
    pub(super) fn extend(&mut self, other: Self) {
        self.lines.extend(other.lines);
        self.timings.extend(other.timings);
        self.left.extend(other.left);
    }

    /// Adds the times of one kind of write, if there are any.
    pub(super) fn time(&mut self, of: &'static str, times: Vec<Duration>) {
        self.timings.extend(ceiling::timing(of, times));
    }
}

impl From<Line> for Gathered {
    fn from(line: Line) -> Self {
        Self {
            lines: vec![line],
            ..Self::default()
        }
    }
}

pub(super) fn too_slow(limit: Duration) -> Error {
    Error::new(ErrorKind::Unavailable, "It did not end in its time.").with("seconds", limit.as_secs())
}
