//! The ledgers of a warehouse: reads their files, and keeps what fresh deliveries are looked up in.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use moka::future::Cache;
use uuid::Uuid;

use super::damaged;
use super::entry::{Entry, Space};
use super::head::{LedgerHead, SegmentRef};
use super::segment::{SegmentIndex, TAIL_BYTES};
use super::state::LedgerState;
use crate::error::{Error, Result};
use crate::storage::Store;

/// Ids of decoded row groups that are kept, in bytes: ten minutes of 5,000 messages a second.
const GROUPS_BYTES: u64 = 64 << 20;
/// Footers that are kept, in bytes.
const INDEXES_BYTES: u64 = 16 << 20;
/// Row groups that are read at the same time.
const READS_AT_ONCE: usize = 8;
/// Tables whose mark is remembered.
const MARKED: u64 = 10_000;

/// The ledgers of all tables of a warehouse, and what this process remembers of them. Clones share it.
#[derive(Debug, Clone)]
pub struct Ledger {
    store: Store,
    indexes: Cache<String, Arc<SegmentIndex>>,
    groups: Cache<(String, usize), Arc<Ids>>,
    /// Tables whose first head this process has marked.
    marked: Cache<Uuid, ()>,
}

/// The ids of a row group, sorted, and the values of those that have one.
#[derive(Debug)]
pub(super) struct Ids {
    ids: Vec<u128>,
    values: HashMap<u128, Bytes>,
}

impl Ids {
    fn new(entries: Vec<Entry>) -> Self {
        let mut ids: Vec<u128> = entries.iter().map(|entry| entry.id).collect();
        ids.sort_unstable();
        let valued = entries.into_iter().filter(|entry| !entry.value.is_empty());
        Self {
            ids,
            values: valued.map(|entry| (entry.id, entry.value)).collect(),
        }
    }

    fn find(&self, id: u128) -> Option<Bytes> {
        self.ids.binary_search(&id).ok()?;
        Some(self.values.get(&id).cloned().unwrap_or_default())
    }

    fn memory(&self) -> usize {
        let values = self.values.values().map(|value| value.len() + 64).sum::<usize>();
        self.ids.len() * size_of::<u128>() + values
    }
}

impl Ledger {
    /// The ledgers of a warehouse. Nothing is read yet.
    pub fn new(store: Store) -> Self {
        let weight = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        Self {
            store,
            indexes: Cache::builder()
                .max_capacity(INDEXES_BYTES)
                .weigher(move |_, index: &Arc<SegmentIndex>| weight(index.memory()))
                .build(),
            groups: Cache::builder()
                .max_capacity(GROUPS_BYTES)
                .weigher(move |_, ids: &Arc<Ids>| weight(ids.memory()))
                .build(),
            marked: Cache::new(MARKED),
        }
    }

    /// Where the ledgers are kept.
    pub fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn marked(&self) -> &Cache<Uuid, ()> {
        &self.marked
    }

    /// Looks the entries up that are not inline, and answers with the values of those that are in a segment.
    pub(super) async fn find(&self, state: &LedgerState, entries: &[&Entry]) -> Result<HashMap<u128, Bytes>> {
        let mut wanted = Vec::new();
        for segment in &state.head().segments {
            let mut sought: HashMap<usize, Vec<u128>> = HashMap::new();
            let mut index = None;
            for entry in entries.iter().filter(|entry| may_hold(segment, entry)) {
                let index = match &index {
                    Some(index) => index,
                    None => index.insert(self.index(state, segment).await?),
                };
                for group in index.groups_of(entry.index_time - 1, entry.index_time + 1) {
                    sought.entry(group).or_default().push(entry.id);
                }
            }
            wanted.extend(
                sought
                    .into_iter()
                    .map(|(group, ids)| (segment.clone(), group, ids)),
            );
        }
        let found: Vec<Vec<(u128, Bytes)>> = stream::iter(wanted)
            .map(|(segment, group, sought)| async move {
                let ids = self.group(state, &segment, group).await?;
                let found = sought.into_iter().filter_map(|id| Some((id, ids.find(id)?)));
                Ok::<_, Error>(found.collect())
            })
            .buffer_unordered(READS_AT_ONCE)
            .try_collect()
            .await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// The footer of a segment.
    pub(super) async fn index(&self, state: &LedgerState, segment: &SegmentRef) -> Result<Arc<SegmentIndex>> {
        let key = state.key(&segment.name);
        let reading = async {
            let size = segment.byte_count;
            let range = size.saturating_sub(TAIL_BYTES)..size;
            let tail = self.read(segment, &key, range).await?;
            let index = SegmentIndex::parse(tail, size);
            index
                .map(Arc::new)
                .map_err(|error| self.damaged_segment(&key).with_source(error))
        };
        let read = self.indexes.try_get_with_by_ref(&segment.name, reading).await;
        read.map_err(|error: Arc<Error>| error.as_ref().clone())
    }

    /// Reads a part of a segment. One that is gone or was cut short is damaged, not out of reach.
    async fn read(&self, segment: &SegmentRef, key: &str, range: Range<u64>) -> Result<Bytes> {
        let wanted = range.end.saturating_sub(range.start);
        match self.store.get_range(key, range).await {
            Ok(Some(bytes)) if bytes.len() as u64 == wanted => Ok(bytes),
            Ok(_) => Err(self.damaged_segment(key)),
            Err(error) => match self.store.stat(key).await {
                Ok(Some(object)) if object.byte_count == segment.byte_count => Err(error),
                Ok(_) => Err(self.damaged_segment(key).with_source(error)),
                Err(_) => Err(error),
            },
        }
    }

    async fn group(&self, state: &LedgerState, segment: &SegmentRef, group: usize) -> Result<Arc<Ids>> {
        let reading = async {
            let entries = self.entries(state, segment, group).await?;
            Ok(Arc::new(Ids::new(entries)))
        };
        let read = self
            .groups
            .try_get_with((segment.name.clone(), group), reading)
            .await;
        read.map_err(|error: Arc<Error>| error.as_ref().clone())
    }

    /// Reads the entries of one row group.
    pub(super) async fn entries(
        &self,
        state: &LedgerState,
        segment: &SegmentRef,
        group: usize,
    ) -> Result<Vec<Entry>> {
        let key = state.key(&segment.name);
        let index = self.index(state, segment).await?;
        let range = index.bytes_of(group).unwrap_or_default();
        let bytes = self.read(segment, &key, range).await?;
        let decoded = index.decode(segment.space, group, bytes);
        decoded.map_err(|error| self.damaged_segment(&key).with_source(error))
    }

    /// Keeps what was just written, so that the next batch need not read it back.
    pub(super) async fn keep(&self, name: &str, space: Space, file: Bytes) -> Result<()> {
        let unreadable = |error| self.damaged_segment(name).with_source(error);
        let index = SegmentIndex::parse(file.clone(), file.len() as u64).map_err(unreadable)?;
        for group in 0..index.group_count() {
            let range = index.bytes_of(group).unwrap_or_default();
            let (start, end) = (usize::try_from(range.start), usize::try_from(range.end));
            let (Ok(start), Ok(end)) = (start, end) else {
                continue;
            };
            let entries = index
                .decode(space, group, file.slice(start..end))
                .map_err(unreadable)?;
            self.groups
                .insert((name.to_owned(), group), Arc::new(Ids::new(entries)))
                .await;
        }
        self.indexes.insert(name.to_owned(), Arc::new(index)).await;
        Ok(())
    }

    /// Reads the row groups of a new segment that fresh deliveries will be looked up in.
    pub(super) async fn warm(&self, state: &LedgerState, segment: &SegmentRef, since: i64) -> Result<()> {
        let index = self.index(state, segment).await?;
        for group in index.groups_of(since, i64::MAX) {
            self.group(state, segment, group).await?;
        }
        Ok(())
    }

    /// Reads a head by its location.
    pub(super) async fn head(&self, location: &str) -> Result<LedgerHead> {
        let key = self.store.key(location)?;
        match self.store.get(key).await? {
            Some(bytes) => LedgerHead::parse(&bytes, location),
            None => Err(damaged("The head", location)),
        }
    }

    fn damaged_segment(&self, key: &str) -> Error {
        damaged("A segment", &self.store.url(key))
    }
}

/// Whether a segment may hold an entry: index times are equal but for the second that they were floored in.
fn may_hold(segment: &SegmentRef, entry: &Entry) -> bool {
    segment.space == entry.space
        && segment.min_time - 1 <= entry.index_time
        && entry.index_time <= segment.max_time + 1
}
