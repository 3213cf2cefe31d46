//! What a load of a table says of its ledger, and what the next commit makes of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use iceberg::spec::SnapshotRef;
use iceberg::table::Table;
use tokio::time::Instant;
use uuid::Uuid;

use super::cache::Ledger;
use super::entry::{Entry, Space};
use super::head::{LedgerHead, SegmentRef};
use super::merge::{self, Merge};
use super::segment::SegmentWriter;
use super::{POINTER, SUMMARY_HEAD, damaged, folder};
use crate::error::{Error, ErrorKind, Result};
use crate::random::Random;

/// Entries that a head holds itself; beyond it they go to a segment.
const INLINE_ENTRIES: usize = 1000;

/// Segments that wait for a merge, from which on a commit merges some itself.
const OVERDUE_SEGMENTS: usize = 64;

/// How far the newest index time may be ahead of this machine's clock and still move the floor: one message from a
/// sender with a wrong clock must not make every other one too old. A slow clock here only keeps more.
const AHEAD: Duration = Duration::from_secs(3600);

/// What the ledger says of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It is not in the table.
    New,
    /// Its rows are in the table; the value is what was kept with its id.
    Landed(Bytes),
    /// It is not found, and older than what the ledger still remembers: it cannot be proven new.
    TooOld,
}

/// The ledger of a table as one load of the table found it. Clones are cheap.
#[derive(Debug, Clone)]
pub struct LedgerState {
    folder: String,
    /// Absent before the first commit.
    location: Option<String>,
    head: Arc<LedgerHead>,
    /// When this process took the head up, which was not before it was made.
    since: Instant,
    inline: Arc<HashMap<u128, Bytes>>,
}

/// What a commit adds to the ledger.
#[derive(Debug, Clone, Copy)]
pub struct Addition<'a> {
    /// The commit's id.
    pub commit_id: Uuid,
    /// What the ledger holds before it, if not what the state holds: `forget` and `repair`.
    pub instead: Option<&'a LedgerHead>,
    /// The deliveries that it lands.
    pub entries: &'a [Entry],
    /// When, by this machine's clock.
    pub now: DateTime<Utc>,
    /// How long messages and requests are remembered at least.
    pub retention: Duration,
    /// Segments merged beside the commits, taken if its inputs are all still there.
    pub merge: Option<&'a Merge>,
}

/// The next head, not yet written.
#[derive(Debug)]
pub struct NextHead {
    state: LedgerState,
    /// Files to be made durable before the commit is sent: key and content.
    files: Vec<(String, Bytes)>,
    segments: Vec<(SegmentRef, Bytes)>,
    /// Whether the merge was taken.
    pub merged: bool,
}

impl LedgerState {
    pub(super) fn new(table: Uuid, location: Option<String>, head: LedgerHead) -> Self {
        let entries = head.entries.iter();
        let inline = entries.map(|entry| (entry.id, entry.value.clone())).collect();
        Self {
            folder: folder(table),
            location,
            head: Arc::new(head),
            since: Instant::now(),
            inline: Arc::new(inline),
        }
    }

    /// A ledger of nothing yet.
    pub(crate) fn none(table: Uuid) -> Self {
        Self::new(table, None, LedgerHead::empty(table))
    }

    /// The head.
    pub fn head(&self) -> &LedgerHead {
        &self.head
    }

    /// Where the head is; none before the first commit.
    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// Whether there are segments to merge.
    pub fn wants_merge(&self) -> bool {
        merge::plan(&self.head).is_some()
    }

    /// Whether so many segments wait for a merge that those beside the commits never come to their end.
    pub fn merge_is_overdue(&self) -> bool {
        let waiting = self
            .head
            .segments
            .iter()
            .filter(|segment| merge::is_mergeable(segment));
        waiting.count() > OVERDUE_SEGMENTS && self.wants_merge()
    }

    pub(super) fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }
}

impl Ledger {
    /// Finds the ledger of a table as it was loaded.
    ///
    /// The pointer is believed as far as the snapshots agree: a head of another table is foreign (its properties were
    /// copied), and a pointer that is gone or older than the nearest snapshot of ours is put right from that snapshot
    /// (protocol §7); without such a snapshot from the mark of the first head, if there is no later one.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] when the ledger is missing, damaged or of a newer
    /// version: no row may land. [`ErrorKind::Unavailable`] when it cannot be read.
    pub async fn open(&self, table: &Table) -> Result<LedgerState> {
        let opened = self.find_state(table).await;
        opened.map_err(|error| error.with("table", table.identifier()))
    }

    async fn find_state(&self, table: &Table) -> Result<LedgerState> {
        let metadata = table.metadata();
        let uuid = metadata.uuid();
        let pointer = metadata.properties().get(POINTER).map(String::as_str);
        if let Some(location) = pointer.filter(|location| self.is_elsewhere(uuid, location)) {
            return Err(elsewhere(location));
        }
        let pointer = pointer.filter(|location| self.is_own(uuid, location));
        let snapshot = self.nearest_own(table);
        let location = match (pointer, snapshot) {
            (Some(pointer), Some((_, newest))) if sequence_of(pointer) < Some(newest) => {
                self.mended(table, "is older than its snapshot's", snapshot)
            }
            // A head of the same number that another attempt wrote, and that was never committed.
            (Some(pointer), Some((own, newest)))
                if sequence_of(pointer) == Some(newest) && pointer != own =>
            {
                self.mended(table, "is not its snapshot's", snapshot)
            }
            (Some(pointer), None) => {
                self.refuse_later_heads(uuid, pointer).await?;
                Some(pointer.to_owned())
            }
            (Some(pointer), _) => Some(pointer.to_owned()),
            (None, Some(_)) => self.mended(table, "is gone, or leads to no head of the table's", snapshot),
            (None, None) => {
                let mut heads = metadata.snapshots().filter_map(head_of);
                if let Some(location) = heads.find(|location| self.is_elsewhere(uuid, location)) {
                    return Err(elsewhere(location));
                }
                self.marked_head(table).await?
            }
        };
        let Some(location) = location else {
            return Ok(LedgerState::none(uuid));
        };
        let head = self.head(&location).await?;
        if head.table_uuid != uuid || Some(head.sequence) != sequence_of(&location) {
            return Err(damaged("The head", &location));
        }
        Ok(LedgerState::new(uuid, Some(location), head))
    }

    fn mended(&self, table: &Table, what: &str, snapshot: Option<(&str, u64)>) -> Option<String> {
        tracing::warn!(
            table.ident = %table.identifier(),
            "The ledger's pointer {what}; the nearest snapshot's is used, and the next commit puts it right."
        );
        snapshot.map(|(location, _)| location.to_owned())
    }

    /// Whether a location is that of a head of this table.
    fn is_own(&self, table: Uuid, location: &str) -> bool {
        let key = self.store().key(location).ok();
        let name = key.and_then(|key| key.strip_prefix(&folder(table)));
        name.is_some_and(|name| name.starts_with('/')) && sequence_of(location).is_some()
    }

    /// Whether a location is that of a head of this table in another warehouse than ours: one that `warehouse` was set to
    /// before. It is no copied property, and what it knows is not known here.
    fn is_elsewhere(&self, table: Uuid, location: &str) -> bool {
        let is_head = location.contains(&format!("/{}/", folder(table))) && sequence_of(location).is_some();
        is_head && !self.is_own(table, location)
    }

    /// The head of the nearest snapshot of ours in the current snapshot's ancestry, and its number.
    fn nearest_own<'t>(&self, table: &'t Table) -> Option<(&'t str, u64)> {
        let metadata = table.metadata();
        let mut snapshot = metadata.current_snapshot();
        // No further than there are snapshots: a broken writer's parents may go in a circle.
        for _ in metadata.snapshots() {
            let found = snapshot?;
            if let Some(location) = head_of(found).filter(|location| self.is_own(metadata.uuid(), location)) {
                return Some((location, sequence_of(location)?));
            }
            snapshot = found
                .parent_snapshot_id()
                .and_then(|id| metadata.snapshot_by_id(id));
        }
        None
    }

    /// Where no snapshot of ours is left, only the files tell whether the pointer is the newest. The head after it may be
    /// there without ever having been committed; one after that stands on one that was.
    async fn refuse_later_heads(&self, table: Uuid, pointer: &str) -> Result<()> {
        let folder = folder(table);
        let next = sequence_of(pointer).map(|sequence| sequence.saturating_add(1));
        let after = format!("head-{:012}", next.unwrap_or_default());
        let names = self.store().names_after(&folder, &after).await?;
        match names.iter().find(|name| sequence_of(name) > next) {
            None => Ok(()),
            Some(name) => {
                let newer = self.store().url(&format!("{folder}/{name}"));
                Err(damaged("The pointer to the newest head", pointer).with("newer", newer))
            }
        }
    }

    /// Looks deliveries up (protocol, step 5; step 6 for those that are too old). The answers are in the entries' order.
    ///
    /// Fresh ids are found in memory; an old one reads a footer and a row group or two. What has landed by the table's first
    /// commit is not said before that commit is marked.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub async fn check(&self, state: &LedgerState, entries: &[Entry]) -> Result<Vec<Known>> {
        let known = self.look_up(state, entries).await?;
        if known.iter().any(|known| matches!(known, Known::Landed(_))) {
            self.mark(state).await?;
        }
        Ok(known)
    }

    /// As [`Ledger::check`], for whoever only looks: no delivery is to be answered for because of it. Writes nothing.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub async fn look_up(&self, state: &LedgerState, entries: &[Entry]) -> Result<Vec<Known>> {
        let rest: Vec<&Entry> = entries
            .iter()
            .filter(|entry| !state.inline.contains_key(&entry.id))
            .collect();
        let found = match rest.is_empty() || state.head.segments.is_empty() {
            true => HashMap::new(),
            false => self.find(state, &rest).await?,
        };
        let known = |entry: &Entry| match state.inline.get(&entry.id).or_else(|| found.get(&entry.id)) {
            Some(value) => Known::Landed(value.clone()),
            None if entry.space == Space::Message && entry.index_time < state.head.floor => Known::TooOld,
            None => Known::New,
        };
        Ok(entries.iter().map(known).collect())
    }

    /// Computes the head after a commit, under names that nothing had. Writes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] when it cannot be encoded.
    pub fn next(&self, state: &LedgerState, addition: &Addition<'_>, random: &Random) -> Result<NextHead> {
        let mut head = addition.instead.unwrap_or(&state.head).clone();
        head.sequence = head.sequence.saturating_add(1);
        head.parent = state.location.clone();
        head.commit_id = addition.commit_id;
        head.entries.extend_from_slice(addition.entries);
        head.entries.sort_unstable();
        head.entries.dedup();
        let merged = addition.merge.is_some_and(|merge| merge.apply(&mut head));
        let time = pass_time(&mut head, state.since.elapsed(), addition.now);
        forget(&mut head, addition, time);
        let mut segments = Vec::new();
        while head.entries.len() > INLINE_ENTRIES {
            let (segment, file) = spill(&mut head.entries, time, random)?;
            head.segments.push(segment.clone());
            segments.push((segment, file));
        }
        let name = format!("head-{:012}-{}.json", head.sequence, random.uuid());
        let mut files: Vec<(String, Bytes)> = segments
            .iter()
            .map(|(segment, file)| (state.key(&segment.name), file.clone()))
            .collect();
        files.push((state.key(&name), head.to_bytes()?));
        let location = self.store().url(&state.key(&name));
        Ok(NextHead {
            state: LedgerState::new(head.table_uuid, Some(location), head),
            files,
            segments,
            merged,
        })
    }

    /// Makes the files of the next head durable.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub async fn put(&self, next: &NextHead) -> Result<()> {
        let puts = next
            .files
            .iter()
            .map(|(key, bytes)| self.store().put(key, bytes.clone()));
        futures::future::try_join_all(puts).await.map(drop)
    }

    /// Takes the next head as the table's state, once its commit is, and marks it if it is the first.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] when what was written cannot be read,
    /// [`ErrorKind::Unavailable`] when it cannot be marked. It is committed all
    /// the same.
    pub async fn adopt(&self, next: NextHead) -> Result<LedgerState> {
        self.mark(&next.state).await?;
        for (segment, file) in next.segments {
            self.keep(&segment.name, segment.space, file).await?;
        }
        Ok(next.state)
    }
}

impl NextHead {
    /// Where the head will be: the pointer's new value.
    pub fn location(&self) -> &str {
        self.state.location.as_deref().unwrap_or_default()
    }

    /// Its number.
    pub fn sequence(&self) -> u64 {
        self.state.head.sequence
    }
}

/// The head that came with a snapshot of ours.
fn head_of(snapshot: &SnapshotRef) -> Option<&str> {
    let location = snapshot.summary().additional_properties.get(SUMMARY_HEAD);
    location.map(String::as_str)
}

/// Fail closed: an empty ledger in the new place would land again whatever is delivered again.
fn elsewhere(location: &str) -> Error {
    let message = "The table's ledger is in another warehouse than the configured one. Set `warehouse` back to where it \
                   was: a ledger does not move.";
    Error::new(ErrorKind::Rejected, message).with("location", location)
}

/// The number in a head's name.
pub(crate) fn sequence_of(location: &str) -> Option<u64> {
    let name = location.rsplit('/').next()?.strip_prefix("head-")?;
    name.split('-').next()?.parse().ok()
}

/// Moves the ledger's own time on by what its committer measured, and returns it in seconds. No clock has a say in it: one
/// that is days ahead would have requests forgotten that are minutes old, and so would the stamp of one that is behind.
///
/// Where it begins, nothing tells by which clocks earlier segments are stamped: they are taken to be of this moment.
fn pass_time(head: &mut LedgerHead, measured: Duration, now: DateTime<Utc>) -> i64 {
    const SECOND_MS: i64 = 1000;
    let measured = i64::try_from(measured.as_millis()).unwrap_or_default();
    let time = match head.time {
        Some(time) => time.saturating_add(measured),
        None => now.timestamp_millis(),
    };
    let seconds = time.div_euclid(SECOND_MS);
    if head.time.is_none() {
        for segment in &mut head.segments {
            segment.committed_at = seconds;
        }
    }
    head.time = Some(time);
    seconds
}

/// Moves the floor, and drops what lies under it: whole segments, by index time, never by a local clock alone. Requests
/// have no time but that of their commit, and go by the ledger's own.
fn forget(head: &mut LedgerHead, addition: &Addition<'_>, time: i64) {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let now = addition.now.timestamp();
    let retention = seconds(addition.retention);
    let times = addition
        .entries
        .iter()
        .filter(|entry| entry.space == Space::Message);
    head.newest = times.map(|entry| entry.index_time).fold(head.newest, i64::max);
    let reached = head.newest.min(now.saturating_add(seconds(AHEAD)));
    head.floor = head.floor.max(reached.saturating_sub(retention));
    let floor = head.floor;
    head.entries
        .retain(|entry| entry.space != Space::Message || entry.index_time >= floor);
    head.segments.retain(|segment| match segment.space {
        Space::Message => segment.max_time >= floor,
        Space::Request => segment.committed_at >= time.saturating_sub(retention),
        Space::Kept => true,
    });
}

/// Moves the entries of the space that has most of them into a segment.
fn spill(entries: &mut Vec<Entry>, time: i64, random: &Random) -> Result<(SegmentRef, Bytes)> {
    let count = |space| entries.iter().filter(|entry| entry.space == space).count();
    let space = Space::ALL
        .into_iter()
        .max_by_key(|space| count(*space))
        .unwrap_or(Space::Message);
    let (spilled, kept) = std::mem::take(entries)
        .into_iter()
        .partition(|entry: &Entry| entry.space == space);
    *entries = kept;
    let spilled: Vec<Entry> = spilled;
    let times = || spilled.iter().map(|entry| entry.index_time);
    let mut segment = SegmentRef {
        space,
        name: format!("segment-{}.parquet", random.uuid()),
        entry_count: spilled.len() as u64,
        byte_count: 0,
        min_time: times().min().unwrap_or_default(),
        max_time: times().max().unwrap_or_default(),
        committed_at: time,
    };
    let mut writer = SegmentWriter::try_new()?;
    for entry in spilled {
        writer.push(entry)?;
    }
    let file = writer.finish()?;
    segment.byte_count = file.len() as u64;
    Ok((segment, file))
}
