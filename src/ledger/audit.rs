//! Reading a whole ledger: for proof, for repair, and for the sweep, which must know what is still named.

use std::collections::{BTreeMap, HashSet};

use uuid::Uuid;

use super::cache::Ledger;
use super::entry::{Entry, Space};
use super::head::{self, LedgerHead, SegmentRef};
use super::merge::Merged;
use super::state::{LedgerState, sequence_of};
use super::{FORMAT_VERSION, folder};
use crate::error::{Error, ErrorKind, Result};

/// Ids that are named when they are there twice; of the rest only the number is told.
const NAMED: usize = 10;

/// What became of looking for a head.
#[derive(Debug)]
pub enum Found {
    /// It is there, and this table's.
    Whole(Box<LedgerHead>),
    /// There is no such file.
    Missing,
    /// The file is no head of this table.
    Damaged(Error),
    /// A newer version of landfast wrote it: this one must not decide anything.
    Newer(Error),
}

/// What a whole ledger holds, and what is wrong with it.
#[derive(Debug, Default)]
pub struct Audit {
    /// Entries that were read, by space.
    pub counts: BTreeMap<Space, u64>,
    /// How many ids are there more than once.
    pub twice_count: u64,
    /// The first of them.
    pub twice: Vec<u128>,
    /// Segments that cannot be read, and why.
    pub damaged: Vec<(SegmentRef, Error)>,
    /// Segments that hold another number of entries than the head says: name, said, found.
    pub miscounted: Vec<(String, u64, u64)>,
}

impl Ledger {
    /// Looks for a head by its location.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the store cannot say.
    pub async fn find_head(&self, table: Uuid, location: &str) -> Result<Found> {
        let Some(bytes) = self.store().get(self.store().key(location)?).await? else {
            return Ok(Found::Missing);
        };
        Ok(match LedgerHead::parse(&bytes, location) {
            Ok(head) if head.table_uuid != table || Some(head.sequence) != sequence_of(location) => {
                Found::Damaged(super::damaged("The head", location))
            }
            Ok(head) => Found::Whole(Box::new(head)),
            Err(error) if head::version_of(&bytes).is_some_and(|version| version > FORMAT_VERSION) => {
                Found::Newer(error)
            }
            Err(error) => Found::Damaged(error),
        })
    }

    /// The locations of all heads in a table's folder and their numbers, the highest first, committed or not.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub async fn heads(&self, table: Uuid) -> Result<Vec<(u64, String)>> {
        let folder = folder(table);
        let names = self.store().names_after(&folder, "head-").await?;
        let mut heads: Vec<(u64, String)> = names
            .iter()
            .filter_map(|name| Some((sequence_of(name)?, self.store().url(&format!("{folder}/{name}")))))
            .collect();
        heads.sort_by(|left, right| right.cmp(left));
        Ok(heads)
    }

    /// Takes a head that was found by other means than a load of its table.
    pub fn state(&self, location: String, head: LedgerHead) -> LedgerState {
        LedgerState::new(head.table_uuid, Some(location), head)
    }

    /// Reads every entry and looks for ids that are there twice, segments that cannot be read, and wrong counts.
    ///
    /// Reads the whole ledger; holds a row group of each segment that overlaps in time with the others being read.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`]. Damage is an answer, not an error.
    pub async fn audit(&self, state: &LedgerState) -> Result<Audit> {
        let mut audit = Audit::default();
        for space in Space::ALL {
            let of_space = |segment: &&SegmentRef| segment.space == space;
            let segments: Vec<SegmentRef> = state.head().segments.iter().filter(of_space).cloned().collect();
            match self.audit_space(state, space, &segments, &mut audit).await {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Rejected => {
                    self.name_damaged(state, &segments, &mut audit).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(audit)
    }

    async fn audit_space(
        &self,
        state: &LedgerState,
        space: Space,
        segments: &[SegmentRef],
        audit: &mut Audit,
    ) -> Result<()> {
        let mut seen = Seen::new(space);
        let inline = state.head().entries.iter().filter(|entry| entry.space == space);
        let mut inline_ids = HashSet::new();
        let mut count = 0;
        for entry in inline {
            count += 1;
            if !inline_ids.insert(entry.id) {
                audit.twice(entry.id);
            }
        }
        let mut counts = vec![0u64; segments.len()];
        let mut merged = Merged::new(self, state, segments);
        while let Some((entry, place)) = merged.next().await? {
            if let Some(count) = counts.get_mut(place) {
                *count += 1;
            }
            if seen.again(&entry) || inline_ids.contains(&entry.id) {
                audit.twice(entry.id);
            }
        }
        for (segment, found) in segments.iter().zip(&counts) {
            if segment.entry_count != *found {
                let miscounted = (segment.name.clone(), segment.entry_count, *found);
                audit.miscounted.push(miscounted);
            }
        }
        count += counts.iter().sum::<u64>();
        if count > 0 {
            audit.counts.insert(space, count);
        }
        Ok(())
    }

    async fn name_damaged(
        &self,
        state: &LedgerState,
        segments: &[SegmentRef],
        audit: &mut Audit,
    ) -> Result<()> {
        for segment in segments {
            match self.read_through(state, segment).await {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Rejected => {
                    audit.damaged.push((segment.clone(), error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn read_through(&self, state: &LedgerState, segment: &SegmentRef) -> Result<()> {
        let index = self.index(state, segment).await?;
        for group in 0..index.group_count() {
            self.entries(state, segment, group).await?;
        }
        Ok(())
    }
}

impl Audit {
    fn twice(&mut self, id: u128) {
        self.twice_count += 1;
        if self.twice.len() < NAMED {
            self.twice.push(id);
        }
    }
}

/// The entries before this one that may be the same delivery. They come sorted by index time and id.
struct Seen {
    space: Space,
    last: Option<Entry>,
    /// Ids of a message's second and of the one before: a push says milliseconds and a pull nanoseconds.
    second: (i64, HashSet<u128>),
    before: HashSet<u128>,
}

impl Seen {
    fn new(space: Space) -> Self {
        Self {
            space,
            last: None,
            second: (i64::MIN, HashSet::new()),
            before: HashSet::new(),
        }
    }

    fn again(&mut self, entry: &Entry) -> bool {
        if self.space != Space::Message {
            let again = self.last.as_ref().is_some_and(|last| last.id == entry.id);
            self.last = Some(entry.clone());
            return again;
        }
        if entry.index_time != self.second.0 {
            let ids = std::mem::take(&mut self.second.1);
            let follows = self.second.0 == entry.index_time - 1;
            self.before = if follows { ids } else { HashSet::new() };
            self.second.0 = entry.index_time;
        }
        !self.second.1.insert(entry.id) || self.before.contains(&entry.id)
    }
}
