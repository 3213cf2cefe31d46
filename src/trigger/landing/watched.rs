//! What is known of a folder's files between looks: which are complete, what is to be done, and when again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tokio::time::{Duration, Instant};

use super::folder::{Claim, Found};
use super::place::Refusal;
use crate::load::Stamp;
use crate::random::Random;
use crate::trigger::DeliveryId;

/// How long a file without a byte is left alone: many writers make the file first and fill it later.
const EMPTY_PATIENCE: Duration = Duration::from_secs(60);

/// The waits before a file is tried again: doubled from the first to the last, with jitter.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(60);

/// Files of a folder that landed and cannot be moved: with so many, no more are loaded, as a restart would read all of
/// them again.
const MAX_UNMOVED: usize = 100;

/// What is to be done with a file.
#[derive(Debug)]
pub(super) enum Work {
    Load,
    /// It is committed: only the move is missing, and no other process may load it.
    MoveLanded {
        _claim: Claim,
        landed_as: DeliveryId,
    },
    MoveRefused(Refusal),
}

/// One file.
#[derive(Debug)]
pub(super) struct Watch {
    stamp: Stamp,
    seen: Instant,
    /// Whether two looks found the same file.
    complete: bool,
    failures: u32,
    not_before: Instant,
    pub(super) work: Work,
}

/// How long the same of very many files are looked at before others have their turn: longer than a file waits at most.
const TURN: Duration = Duration::from_secs(90);

/// The files of a folder, by name.
#[derive(Debug, Default)]
pub(super) struct Watched {
    files: BTreeMap<PathBuf, Watch>,
    /// After which name looks begin; nothing is before all.
    begin: PathBuf,
    /// Since when and for how many looks they did, while there are more files than a look takes note of.
    turn: Option<(Instant, u32)>,
}

impl Watched {
    /// After which name the next look begins.
    pub(super) fn begin(&self) -> &Path {
        &self.begin
    }

    /// Lets others have their turn, where a look ended before the last file: stuck ones would hide them for ever. Two looks
    /// are the least, since no file is complete before.
    pub(super) fn turn(&mut self, end: Option<PathBuf>, now: Instant) {
        let Some(end) = end else {
            self.turn = None;
            return self.begin.clear();
        };
        let (since, looks) = self.turn.unwrap_or((now, 0));
        self.turn = Some((since, looks.saturating_add(1)));
        if looks >= 1 && now.duration_since(since) >= TURN {
            self.begin = end;
            self.turn = None;
        }
    }

    /// Takes in what a look found. A file is complete when the look before found the same.
    pub(super) fn update(&mut self, files: Vec<Found>, now: Instant) {
        let mut before = std::mem::take(&mut self.files);
        self.files = files
            .into_iter()
            .map(|found| {
                let watch = match before.remove(&found.name) {
                    Some(watch) if watch.stamp == found.stamp => Watch {
                        complete: true,
                        ..watch
                    },
                    // What is to be moved finds out itself that it changed, and says so.
                    Some(watch) if !matches!(watch.work, Work::Load) => watch,
                    _ => Watch::new(found.stamp, now),
                };
                (found.name, watch)
            })
            .collect();
        // What landed must not be loaded again because one look could not see it.
        before.retain(|_, watch| matches!(watch.work, Work::MoveLanded { .. }));
        self.files.append(&mut before);
    }

    /// The files that something is to be done with now, by name.
    pub(super) fn due(&self, now: Instant) -> Vec<PathBuf> {
        let unmoved = self
            .files
            .values()
            .filter(|watch| matches!(watch.work, Work::MoveLanded { .. }));
        let full = unmoved.count() >= MAX_UNMOVED;
        let due = self.files.iter().filter(|(_, watch)| {
            let loads = matches!(watch.work, Work::Load);
            watch.is_due(now) && !(full && loads)
        });
        due.map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn get_mut(&mut self, name: &Path) -> Option<&mut Watch> {
        self.files.get_mut(name)
    }

    /// Knows nothing of the file any more; if it is still there, the next look is its first.
    pub(super) fn forget(&mut self, name: &Path) {
        self.files.remove(name);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }
}

impl Watch {
    fn new(stamp: Stamp, now: Instant) -> Self {
        Self {
            stamp,
            seen: now,
            complete: false,
            failures: 0,
            not_before: now,
            work: Work::Load,
        }
    }

    pub(super) fn stamp(&self) -> Stamp {
        self.stamp
    }

    fn is_due(&self, now: Instant) -> bool {
        let filled = self.stamp.len() > 0 || now.duration_since(self.seen) >= EMPTY_PATIENCE;
        self.complete && filled && now >= self.not_before
    }

    /// Sets what is to be done next, at once.
    pub(super) fn begin(&mut self, work: Work) {
        self.work = work;
        self.failures = 0;
    }

    /// Leaves what is to be done for later, longer after every failure.
    pub(super) fn put_off(&mut self, now: Instant, random: &Random) {
        let wait = FIRST_WAIT
            .saturating_mul(2u32.saturating_pow(self.failures))
            .min(LAST_WAIT);
        self.failures = self.failures.saturating_add(1);
        // At least half of it, so that a failure is never tried again at once.
        self.not_before = now + wait / 2 + random.jitter(wait / 2);
    }
}
