//! Forgetting deliveries on purpose, so that they land again.

use std::collections::HashSet;

use super::cache::Ledger;
use super::entry::{Entry, Space};
use super::head::{LedgerHead, SegmentRef};
use super::state::LedgerState;
use crate::error::Result;
use crate::random::Random;

/// Which deliveries to forget: `--since` and `--delivery`.
#[derive(Debug, Clone, Default)]
pub struct Forgetting {
    /// Messages that were published then, in seconds since the Unix epoch, or later. What has no publish time stays:
    /// the index time of files, replayed records and keyed requests is made of their hash.
    pub since: Option<i64>,
    /// Those of these ids.
    pub ids: HashSet<u128>,
}

impl Forgetting {
    fn matches(&self, entry: &Entry) -> bool {
        self.is_since(entry.space, entry.index_time) || self.ids.contains(&entry.id)
    }

    /// Ids say nothing of when they are from.
    fn may_match(&self, segment: &SegmentRef) -> bool {
        !self.ids.is_empty() || self.is_since(segment.space, segment.max_time)
    }

    fn is_since(&self, space: Space, time: i64) -> bool {
        space == Space::Message && self.since.is_some_and(|since| time >= since)
    }
}

impl Ledger {
    /// The head without these deliveries, and how many they are. Segments that hold some are written anew.
    ///
    /// Reads the segments that may hold them: all of them for ids. Nothing is forgotten before the head is committed, on
    /// the very head that it was computed from.
    ///
    /// # Errors
    /// Those of reading and writing segments.
    pub async fn without(
        &self,
        state: &LedgerState,
        forgetting: &Forgetting,
        random: &Random,
    ) -> Result<(LedgerHead, u64)> {
        let mut head = state.head().clone();
        let before = head.entry_count();
        head.entries.retain(|entry| !forgetting.matches(entry));
        let mut segments = Vec::with_capacity(head.segments.len());
        for segment in std::mem::take(&mut head.segments) {
            if forgetting.may_match(&segment) && self.holds_any(state, &segment, forgetting).await? {
                let chosen = std::slice::from_ref(&segment);
                let keep = |entry: &Entry| !forgetting.matches(entry);
                segments.extend(self.write_merged(state, chosen, random, keep).await?);
            } else {
                segments.push(segment);
            }
        }
        head.segments = segments;
        let forgotten = before.saturating_sub(head.entry_count());
        Ok((head, forgotten))
    }

    async fn holds_any(
        &self,
        state: &LedgerState,
        segment: &SegmentRef,
        forgetting: &Forgetting,
    ) -> Result<bool> {
        let index = self.index(state, segment).await?;
        for group in 0..index.group_count() {
            let entries = self.entries(state, segment, group).await?;
            if entries.iter().any(|entry| forgetting.matches(entry)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
