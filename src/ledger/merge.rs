//! Merging segments beside the commits: eight of a size become one, so that there are few whatever the table's age.
//!
//! The result rides on a later commit, and only if all its inputs are still in the head that the commit stands on
//! (protocol §8). Files that were merged stay until the sweep.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::cache::Ledger;
use super::entry::{Entry, Space};
use super::head::{LedgerHead, SegmentRef};
use super::segment::SegmentWriter;
use super::state::LedgerState;
use crate::error::Result;
use crate::random::Random;

/// Segments of one size that become one.
const FAN_IN: usize = 8;
/// Entries of a segment that is not merged any more: some 70 MB.
const MAX_ENTRIES: u64 = 4_000_000;
/// Entries of the smallest size.
const SMALLEST: u64 = 1000;
/// Index times of this many seconds before the newest are fresh.
const FRESH_SECONDS: i64 = 600;

/// Segments that were merged, and what became of them.
#[derive(Debug, Clone)]
pub struct Merge {
    inputs: Vec<String>,
    /// None when every entry was too old to be kept.
    output: Option<SegmentRef>,
}

impl Merge {
    /// Swaps the inputs for the output; leaves all as it is unless every input is there.
    pub(super) fn apply(&self, segments: &mut Vec<SegmentRef>) -> bool {
        let is_input = |segment: &SegmentRef| self.inputs.contains(&segment.name);
        if segments.iter().filter(|segment| is_input(segment)).count() != self.inputs.len() {
            return false;
        }
        let place = segments.iter().position(is_input).unwrap_or_default();
        segments.retain(|segment| !is_input(segment));
        if let Some(output) = &self.output {
            segments.insert(place.min(segments.len()), output.clone());
        }
        true
    }
}

/// The segments that should become one, if any: the oldest of the smallest size that has enough.
pub(super) fn plan(head: &LedgerHead) -> Option<Vec<SegmentRef>> {
    for space in Space::ALL {
        for size in 0..u32::BITS {
            let mut room = MAX_ENTRIES;
            let chosen: Vec<SegmentRef> = head
                .segments
                .iter()
                .filter(|segment| segment.space == space && size_of_segment(segment) == size)
                .filter(|segment| {
                    let fits = segment.entry_count <= room;
                    room = room.saturating_sub(if fits { segment.entry_count } else { 0 });
                    fits
                })
                .take(FAN_IN)
                .cloned()
                .collect();
            if chosen.len() == FAN_IN {
                return Some(chosen);
            }
        }
    }
    None
}

/// Sizes are powers of the fan-in.
fn size_of_segment(segment: &SegmentRef) -> u32 {
    let mut size = 0;
    let mut entries = segment.entry_count / SMALLEST;
    while entries >= FAN_IN as u64 {
        entries /= FAN_IN as u64;
        size += 1;
    }
    size
}

/// One input, read row group by row group.
struct Input<'a> {
    segment: &'a SegmentRef,
    next_group: usize,
    entries: VecDeque<Entry>,
}

impl Ledger {
    /// Merges segments if there are enough to merge; `None` when there are not. Holds a row group of each.
    ///
    /// # Errors
    /// Those of reading and writing the segments. Nothing depends on it: the next commit goes without.
    pub async fn merge(&self, state: &LedgerState, random: &Random) -> Result<Option<Merge>> {
        let Some(chosen) = plan(state.head()) else {
            return Ok(None);
        };
        let floor = state.head().floor;
        let keep = |entry: &Entry| entry.space != Space::Message || entry.index_time >= floor;
        let output = self.write_merged(state, &chosen, random, keep).await?;
        if let Some(output) = &output {
            let fresh = state.head().newest.saturating_sub(FRESH_SECONDS);
            self.warm(state, output, fresh).await?;
        }
        Ok(Some(Merge {
            inputs: chosen.into_iter().map(|segment| segment.name).collect(),
            output,
        }))
    }

    /// Writes the entries of segments that are kept as one segment; `None` when none is.
    pub(super) async fn write_merged(
        &self,
        state: &LedgerState,
        chosen: &[SegmentRef],
        random: &Random,
        keep: impl Fn(&Entry) -> bool,
    ) -> Result<Option<SegmentRef>> {
        let Some(first) = chosen.first() else {
            return Ok(None);
        };
        let mut output = SegmentRef {
            name: format!("segment-{}.parquet", random.uuid()),
            entry_count: 0,
            byte_count: 0,
            min_time: i64::MAX,
            max_time: i64::MIN,
            committed_at: chosen
                .iter()
                .map(|segment| segment.committed_at)
                .max()
                .unwrap_or_default(),
            ..first.clone()
        };
        let mut upload = self.store().upload(&state.key(&output.name))?;
        let mut writer = SegmentWriter::try_new()?;
        let mut merged = Merged::try_new(self, state, chosen).await?;
        while let Some((entry, _)) = merged.next().await? {
            if !keep(&entry) {
                continue;
            }
            output.entry_count += 1;
            output.min_time = output.min_time.min(entry.index_time);
            output.max_time = output.max_time.max(entry.index_time);
            writer.push(entry)?;
            let encoded = writer.take();
            output.byte_count += encoded.len() as u64;
            upload.write(encoded).await?;
        }
        let rest = writer.finish()?;
        output.byte_count += rest.len() as u64;
        if output.entry_count == 0 {
            return Ok(None);
        }
        upload.write(rest).await?;
        upload.finish().await?;
        Ok(Some(output))
    }
}

/// The entries of several segments in one order.
pub(super) struct Merged<'a> {
    ledger: &'a Ledger,
    state: &'a LedgerState,
    inputs: Vec<Input<'a>>,
    heap: BinaryHeap<Reverse<(Entry, usize)>>,
}

impl<'a> Merged<'a> {
    pub(super) async fn try_new(
        ledger: &'a Ledger,
        state: &'a LedgerState,
        chosen: &'a [SegmentRef],
    ) -> Result<Self> {
        let inputs = chosen.iter().map(|segment| Input {
            segment,
            next_group: 0,
            entries: VecDeque::new(),
        });
        let mut merged = Self {
            ledger,
            state,
            inputs: inputs.collect(),
            heap: BinaryHeap::new(),
        };
        for place in 0..merged.inputs.len() {
            merged.advance(place).await?;
        }
        Ok(merged)
    }

    /// The next entry, and the place of its segment.
    pub(super) async fn next(&mut self) -> Result<Option<(Entry, usize)>> {
        let Some(Reverse((entry, place))) = self.heap.pop() else {
            return Ok(None);
        };
        self.advance(place).await?;
        Ok(Some((entry, place)))
    }

    /// Puts the next entry of an input on the heap.
    async fn advance(&mut self, place: usize) -> Result<()> {
        let Some(input) = self.inputs.get_mut(place) else {
            return Ok(());
        };
        while input.entries.is_empty() {
            let index = self.ledger.index(self.state, input.segment).await?;
            if input.next_group >= index.group_count() {
                return Ok(());
            }
            let entries = self
                .ledger
                .entries(self.state, input.segment, input.next_group)
                .await?;
            input.entries = entries.into();
            input.next_group += 1;
        }
        if let Some(entry) = input.entries.pop_front() {
            self.heap.push(Reverse((entry, place)));
        }
        Ok(())
    }
}
