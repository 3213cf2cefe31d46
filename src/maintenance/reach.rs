//! Everything that somebody may still read: what the sweep leaves alone.

use std::collections::{HashMap, HashSet};

use futures::{StreamExt, TryStreamExt, stream};
use iceberg::spec::{ManifestEntryRef, ManifestFile, SnapshotRef};
use iceberg::table::Table;

use super::names::Names;
use super::walk;
use crate::error::{Error, Result};
use crate::ledger::{Found, Ledger, LedgerState, SUMMARY_HEAD, folder};

/// Every branch's pointer begins like this.
const POINTERS: &str = "landfast.ledger.";
/// Heads that are read at the same time.
const HEADS_AT_ONCE: usize = 8;

/// The names of all files that the table needs without the snapshots `without`: metadata and its log, statistics, and for
/// every kept snapshot its list, its manifests and their files; of the ledger the head in use, the heads that kept
/// snapshots name, and the segments of all of them.
///
/// # Errors
/// Any file on the way that cannot be read: then nothing is known, and nothing may be deleted.
pub(super) async fn reachable(
    table: &Table,
    ledger: &Ledger,
    state: &LedgerState,
    without: &[i64],
) -> Result<Names> {
    let mut names = Names::default();
    metadata(table, &mut names);
    let kept = kept(table, without);
    let ids: HashSet<i64> = kept.iter().map(|snapshot| snapshot.snapshot_id()).collect();
    let mut manifests: HashMap<String, ManifestFile> = HashMap::new();
    let mut lists = walk::lists(table, kept.clone());
    while let Some((snapshot, listed)) = lists.next().await {
        names.insert(snapshot.manifest_list());
        for manifest in listed? {
            names.insert(&manifest.manifest_path);
            manifests.insert(manifest.manifest_path.clone(), manifest);
        }
    }
    let mut contents = walk::contents(table, manifests.into_values());
    while let Some((_, manifest)) = contents.next().await {
        for entry in manifest?.entries() {
            if is_needed(entry, &ids) {
                names.insert(entry.file_path());
            }
        }
    }
    heads(table, ledger, state, &kept, &mut names).await?;
    Ok(names)
}

/// A table's snapshots but these.
pub(super) fn kept(table: &Table, without: &[i64]) -> Vec<SnapshotRef> {
    let without: HashSet<&i64> = without.iter().collect();
    let snapshots = table.metadata().snapshots();
    let kept = snapshots.filter(|snapshot| !without.contains(&snapshot.snapshot_id()));
    kept.cloned().collect()
}

/// Whether an entry holds its file: a file that was removed is held as long as the snapshot that removed it, which tells
/// what changed, as in Java.
pub(super) fn is_needed(entry: &ManifestEntryRef, kept: &HashSet<i64>) -> bool {
    entry.is_alive() || entry.snapshot_id().is_none_or(|id| kept.contains(&id))
}

/// What the metadata names itself.
pub(super) fn metadata(table: &Table, names: &mut Names) {
    let metadata = table.metadata();
    table
        .metadata_location()
        .into_iter()
        .for_each(|location| names.insert(location));
    for entry in metadata.metadata_log() {
        names.insert(&entry.metadata_file);
    }
    for statistics in metadata.statistics_iter() {
        names.insert(&statistics.statistics_path);
    }
    for statistics in metadata.partition_statistics_iter() {
        names.insert(&statistics.statistics_path);
    }
}

/// The heads that pointers and snapshots name.
pub(super) fn named_heads<'t>(table: &'t Table, kept: &'t [SnapshotRef]) -> HashSet<&'t str> {
    let properties = table.metadata().properties().iter();
    let pointers = properties.filter(|(key, _)| key.starts_with(POINTERS));
    let summaries = kept
        .iter()
        .filter_map(|snapshot| snapshot.summary().additional_properties.get(SUMMARY_HEAD));
    let own = format!("/{}/", folder(table.metadata().uuid()));
    pointers
        .map(|(_, location)| location)
        .chain(summaries)
        .map(String::as_str)
        // Another table's came with copied properties.
        .filter(|location| location.contains(&own))
        .collect()
}

async fn heads(
    table: &Table,
    ledger: &Ledger,
    state: &LedgerState,
    kept: &[SnapshotRef],
    names: &mut Names,
) -> Result<()> {
    state
        .location()
        .into_iter()
        .for_each(|location| names.insert(location));
    state
        .head()
        .segments
        .iter()
        .for_each(|segment| names.insert(&segment.name));
    let uuid = table.metadata().uuid();
    let mut found = stream::iter(named_heads(table, kept))
        .map(|location| async move { Ok::<_, Error>((location, ledger.find_head(uuid, location).await?)) })
        .buffer_unordered(HEADS_AT_ONCE);
    while let Some((location, found)) = found.try_next().await? {
        names.insert(location);
        match found {
            Found::Whole(head) => head
                .segments
                .iter()
                .for_each(|segment| names.insert(&segment.name)),
            // It is not the one in use: that was opened. Its segments are of no use without it.
            Found::Missing | Found::Damaged(_) => tracing::warn!(
                location,
                "An older head of the ledger that a snapshot names cannot be read."
            ),
            Found::Newer(error) => return Err(error),
        }
    }
    Ok(())
}
