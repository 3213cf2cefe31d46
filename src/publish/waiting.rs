//! Commits that BigQuery does not show yet, as far as this process knows.
//!
//! A commit is let go of when a step that began after it ends with the pointer at the newest metadata, or when its own
//! metadata is seen to be what the pointer reads, or to be older than that. Nothing else proves that it is visible, so a
//! commit may be held for longer than it waits, and never for less.

use std::collections::{HashSet, VecDeque};

use chrono::{DateTime, Utc};
use iceberg::spec::TableMetadata;
use iceberg::table::Table;
use tokio::time::Instant;
use uuid::Uuid;

use crate::telemetry::{PUBLISH, Span, Trace};

/// Commits that are told apart; those before them are one. More states than this are in no usual log of metadata.
const TOLD_APART: usize = 128;

/// One state of a table. The uuid tells it from a state of a table before it that had the same file names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Version {
    table: Uuid,
    metadata: String,
}

/// What is told of a commit, or of a state of the table that rows were found in.
#[derive(Debug, Clone, Default)]
pub struct Note {
    /// The state; none where nobody knows it.
    version: Option<Version>,
    /// When the oldest of its messages was published.
    oldest: Option<DateTime<Utc>>,
    /// The commit's.
    trace: Trace,
}

impl Note {
    /// Of the state that a table is in, in the trace that the running task works for. `oldest` is when the oldest of the
    /// messages was published that landed with it.
    pub fn of(table: Option<&Table>, oldest: Option<DateTime<Utc>>) -> Self {
        let version = |table: &Table| {
            Some(Version {
                table: table.metadata().uuid(),
                metadata: table.metadata_location()?.to_owned(),
            })
        };
        Self {
            version: table.and_then(version),
            oldest,
            trace: Trace::current(),
        }
    }

    fn is_in(&self, shown: &Shown) -> bool {
        self.version
            .as_ref()
            .is_some_and(|version| shown.contains(version))
    }
}

/// States that are at most as new as what BigQuery reads: it shows all that they hold.
pub(super) type Shown = HashSet<Version>;

/// Says which states BigQuery shows where it reads the metadata `uri`, by the table's own log of them: those up to that
/// one, and none if that is not among them.
pub(super) fn shown(table: &Table, uri: &str) -> Shown {
    let metadata: &TableMetadata = table.metadata();
    let logged = metadata
        .metadata_log()
        .iter()
        .map(|entry| entry.metadata_file.as_str());
    let states: Vec<&str> = logged.chain(table.metadata_location()).collect();
    let reached = states
        .iter()
        .rposition(|state| *state == uri)
        .map_or(0, |place| place + 1);
    let states = states.into_iter().take(reached);
    states
        .map(|state| Version {
            table: metadata.uuid(),
            metadata: state.to_owned(),
        })
        .collect()
}

/// A commit that waits.
#[derive(Debug)]
struct Waiter {
    number: u64,
    /// When it landed.
    since: Instant,
    note: Note,
}

/// The commits that wait, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Commits so far.
    noted: u64,
    waiters: VecDeque<Waiter>,
    shown: Shown,
}

impl Waiting {
    /// Takes a commit in, and gives its number; `Err` is the oldest of its messages where BigQuery is known to show it.
    pub(super) fn add(&mut self, note: Note) -> Result<u64, Option<DateTime<Utc>>> {
        if note.is_in(&self.shown) {
            return Err(note.oldest);
        }
        self.noted += 1;
        let number = self.noted;
        let since = Instant::now();
        self.waiters.push_back(Waiter { number, since, note });
        if self.waiters.len() > TOLD_APART
            && let Some(first) = self.waiters.pop_front()
            && let Some(second) = self.waiters.front_mut()
        {
            second.since = first.since;
            second.note.version = None;
            second.note.oldest = [second.note.oldest, first.note.oldest]
                .into_iter()
                .flatten()
                .min();
        }
        Ok(number)
    }

    /// The number of the newest commit.
    pub(super) fn noted(&self) -> u64 {
        self.noted
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Since when the oldest waits.
    pub(super) fn since(&self) -> Option<Instant> {
        self.waiters.front().map(|first| first.since)
    }

    /// Starts the span of a step: a part of the newest commit that is kept, linked to the others.
    pub(super) fn span(&self) -> Span {
        let newest_first = self.waiters.iter().rev().map(|waiter| waiter.note.trace);
        let mut kept = newest_first.filter(|trace| trace.is_sampled());
        let mut span = Span::part(PUBLISH, kept.next().unwrap_or_default());
        kept.for_each(|trace| span.link(trace));
        span
    }

    /// Takes up what BigQuery shows. What it showed before it shows still.
    pub(super) fn show(&mut self, shown: Shown) {
        if !shown.is_empty() {
            self.shown = shown;
        }
    }

    /// The last commit of those that are known to be visible, and all before it with it.
    pub(super) fn visible(&self) -> Option<u64> {
        let visible = self
            .waiters
            .iter()
            .take_while(|waiter| waiter.note.is_in(&self.shown));
        visible.last().map(|waiter| waiter.number)
    }

    /// Lets go of the commits up to this one. Gives when the oldest of their messages was published.
    pub(super) fn settle(&mut self, number: u64) -> Option<DateTime<Utc>> {
        let settled = self.waiters.iter().take_while(|waiter| waiter.number <= number);
        let count = settled.count();
        let settled = self.waiters.drain(..count);
        settled.filter_map(|waiter| waiter.note.oldest).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(name: &str) -> Version {
        Version {
            table: Uuid::nil(),
            metadata: name.to_owned(),
        }
    }

    fn note(name: &str) -> Note {
        Note {
            version: Some(version(name)),
            ..Note::default()
        }
    }

    #[test]
    fn commits_are_visible_up_to_the_first_that_is_not_proven() {
        let mut waiting = Waiting::default();
        for name in ["v2", "v3", "v5"] {
            waiting.add(note(name)).unwrap();
        }
        waiting.add(Note::default()).unwrap();
        waiting.add(note("v6")).unwrap();
        assert_eq!(waiting.visible(), None);
        waiting.show(["v1", "v2", "v3"].map(version).into());
        assert_eq!(waiting.visible(), Some(2));
        waiting.show(["v1", "v2", "v3", "v4", "v5", "v6"].map(version).into());
        assert_eq!(waiting.visible(), Some(3), "nobody knows what the fourth was");
        waiting.settle(3);
        assert_eq!(waiting.visible(), None);
        assert_eq!(waiting.add(note("v4")), Err(None), "a state found that is shown");
        let another = Version {
            table: Uuid::max(),
            ..version("v4")
        };
        let of_another = Note {
            version: Some(another),
            ..Note::default()
        };
        assert_eq!(waiting.add(of_another), Ok(6), "a table that was made anew");
        waiting.settle(6);
        assert!(waiting.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn many_commits_take_bounded_memory_and_wait_since_the_first() {
        let mut waiting = Waiting::default();
        let first = Instant::now();
        let published = DateTime::UNIX_EPOCH;
        waiting
            .add(Note {
                oldest: Some(published),
                ..note("v0")
            })
            .unwrap();
        for number in 1..1_000 {
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
            waiting.add(note(&format!("v{number}"))).unwrap();
        }
        assert_eq!(waiting.waiters.len(), TOLD_APART);
        assert_eq!(waiting.since(), Some(first));
        waiting.show((0..1_000).map(|number| version(&format!("v{number}"))).collect());
        assert_eq!(
            waiting.visible(),
            None,
            "the first of them are one, and not told apart"
        );
        assert_eq!(waiting.settle(1_000), Some(published));
        assert!(waiting.is_empty());
    }
}
