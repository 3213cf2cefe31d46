//! Merging segments beside the commits: eight of a size become one, so that there are few whatever the table's age.
//!
//! The result rides on a later commit, and only if all its inputs are still in the head that the commit stands on
//! (protocol §8). Files that were merged stay until the sweep.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use super::cache::Ledger;
use super::entry::{Entry, Space};
use super::head::{LedgerHead, SegmentRef};
use super::segment::SegmentWriter;
use super::state::LedgerState;
use crate::error::Result;
use crate::random::Random;

/// Segments of one size that become one.
const FAN_IN: usize = 8;
/// Entries of the largest segment: some 70 MB. One that is more than half as large is not merged any more.
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
    /// Messages below it were too old to be kept. A repair may have taken the head's own back since.
    floor: i64,
}

impl Merge {
    /// Swaps the inputs for the output; leaves all as it is unless every input is there.
    pub(super) fn apply(&self, head: &mut LedgerHead) -> bool {
        let segments = &mut head.segments;
        let is_input = |segment: &SegmentRef| self.inputs.contains(&segment.name);
        if segments.iter().filter(|segment| is_input(segment)).count() != self.inputs.len() {
            return false;
        }
        let place = segments.iter().position(is_input).unwrap_or_default();
        // A commit since may have stamped the inputs anew.
        let newest = segments.iter().filter(|segment| is_input(segment));
        let newest = newest.map(|segment| segment.committed_at).max();
        segments.retain(|segment| !is_input(segment));
        if let Some(mut output) = self.output.clone() {
            output.committed_at = newest.unwrap_or(output.committed_at);
            segments.insert(place.min(segments.len()), output);
        }
        head.floor = head.floor.max(self.floor);
        true
    }
}

/// The segments that should become one, if any: the oldest of the smallest size that has enough. Enough are eight, or as
/// many as fit into one.
pub(super) fn plan(head: &LedgerHead) -> Option<Vec<SegmentRef>> {
    let mut kinds: BTreeMap<(Space, u32), Vec<&SegmentRef>> = BTreeMap::new();
    for segment in head.segments.iter().filter(|segment| is_mergeable(segment)) {
        let kind = (segment.space, size_of_segment(segment));
        kinds.entry(kind).or_default().push(segment);
    }
    kinds.into_values().find_map(|of_kind| {
        let mut room = MAX_ENTRIES;
        let fitting = of_kind.iter().take(FAN_IN).take_while(|segment| {
            let left = room.checked_sub(segment.entry_count);
            room = left.unwrap_or_default();
            left.is_some()
        });
        let chosen: Vec<SegmentRef> = fitting.copied().cloned().collect();
        let is_full = chosen.len() < of_kind.len();
        (chosen.len() == FAN_IN || is_full).then_some(chosen)
    })
}

/// Whether a segment may still be merged: two of a kind fit into one.
pub(super) fn is_mergeable(segment: &SegmentRef) -> bool {
    segment.entry_count <= MAX_ENTRIES / 2
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
    /// Merges segments if there are enough to merge; `None` when there are not. Holds a row group of each that overlap.
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
            floor,
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
        let mut merged = Merged::new(self, state, chosen);
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

/// The entries of several segments of one space in one order. Holds a row group of each segment whose time has come and is
/// not over.
pub(super) struct Merged<'a> {
    ledger: &'a Ledger,
    state: &'a LedgerState,
    inputs: Vec<Input<'a>>,
    /// Places of the inputs whose time has not come, the last one first.
    ahead: Vec<usize>,
    heap: BinaryHeap<Reverse<(Entry, usize)>>,
}

impl<'a> Merged<'a> {
    pub(super) fn new(ledger: &'a Ledger, state: &'a LedgerState, chosen: &'a [SegmentRef]) -> Self {
        let inputs = chosen.iter().map(|segment| Input {
            segment,
            next_group: 0,
            entries: VecDeque::new(),
        });
        let mut ahead: Vec<(i64, usize)> = (0..)
            .zip(chosen)
            .map(|(place, segment)| (segment.min_time, place))
            .collect();
        ahead.sort_unstable_by(|left, right| right.cmp(left));
        Self {
            ledger,
            state,
            inputs: inputs.collect(),
            ahead: ahead.into_iter().map(|(_, place)| place).collect(),
            heap: BinaryHeap::new(),
        }
    }

    /// The next entry, and the place of its segment.
    ///
    /// # Errors
    /// Those of reading segments.
    pub(super) async fn next(&mut self) -> Result<Option<(Entry, usize)>> {
        while let Some(place) = self.due() {
            self.ahead.pop();
            self.advance(place).await?;
        }
        let Some(Reverse((entry, place))) = self.heap.pop() else {
            return Ok(None);
        };
        self.advance(place).await?;
        Ok(Some((entry, place)))
    }

    /// The next input, if it may hold an entry that comes before all that are known.
    fn due(&self) -> Option<usize> {
        let place = *self.ahead.last()?;
        let begins = self.inputs.get(place)?.segment.min_time;
        let first = self.heap.peek();
        first
            .is_none_or(|Reverse((entry, _))| begins <= entry.index_time)
            .then_some(place)
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

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn segment(number: u64, entry_count: u64) -> SegmentRef {
        let time = i64::try_from(number).unwrap() * 10;
        SegmentRef {
            space: Space::Message,
            name: format!("segment-{}.parquet", Uuid::from_u128(number.into())),
            entry_count,
            byte_count: entry_count * 17,
            min_time: time,
            max_time: time + 9,
            committed_at: time,
        }
    }

    #[test]
    fn merge_brings_the_floor_that_it_was_made_for() {
        // A repair took the head back to one with a lower floor meanwhile, which still has the inputs.
        let mut head = LedgerHead::empty(Uuid::from_u128(7));
        head.segments = vec![segment(1, 10), segment(2, 10)];
        head.floor = 5;
        let merge = Merge {
            inputs: head.segments.iter().map(|one| one.name.clone()).collect(),
            output: None,
            floor: 100,
        };
        assert!(merge.apply(&mut head));
        assert_eq!(
            head.floor, 100,
            "what was dropped for its age is too old, not new"
        );
    }

    #[test]
    fn segments_stay_few_at_a_thousand_messages_a_second_for_eight_days() {
        let mut head = LedgerHead::empty(Uuid::from_u128(7));
        let (mut written, mut most) = (0, 0);
        for number in 0..8 * 8_640 {
            head.segments.push(segment(number, 10_000));
            while let Some(chosen) = plan(&head) {
                let entry_count = chosen.iter().map(|segment| segment.entry_count).sum();
                assert!(chosen.len() > 1 && entry_count <= MAX_ENTRIES);
                written += entry_count;
                let first = chosen.first().unwrap();
                let merge = Merge {
                    inputs: chosen.iter().map(|segment| segment.name.clone()).collect(),
                    output: Some(SegmentRef {
                        entry_count,
                        ..first.clone()
                    }),
                    floor: i64::MIN,
                };
                assert!(merge.apply(&mut head));
            }
            most = most.max(head.segments.len());
        }
        assert!(most <= 260, "{most} segments");
        let bytes = serde_json::to_vec(&head.segments).unwrap().len();
        assert!(bytes < 64 << 10, "{bytes} bytes of a head");
        let again = written / (8 * 8_640 * 10_000);
        assert!(again <= 3, "an entry is written again {again} times");
    }
}
