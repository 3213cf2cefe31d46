//! Metadata files: which states of a table may go (protocol §4).

use std::borrow::Cow;
use std::io::Read;

use chrono::{DateTime, TimeDelta, Utc};
use flate2::read::GzDecoder;
use futures::{StreamExt, TryStreamExt, stream};
use iceberg::table::Table;

use super::names::Names;
use crate::catalog::version_of;
use crate::decode::Compression;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{Object, Store};

/// `D` of the protocol: a name `vN` is a fence, and must not be free again while a commit may still be on its way to it.
/// The catalog trusts its fence for ten minutes.
pub(super) const MIN_AGE: TimeDelta = TimeDelta::hours(24);
/// Newest states that stay whatever their age.
const NEWEST: usize = 10;

/// A state's first bytes name its table.
const BEGINNING: u64 = 1024;
const READS_AT_ONCE: usize = 16;

/// The states of a table of the `storage` catalog that may go, oldest first: older than [`MIN_AGE`] at `moment`, none of
/// the newest ten, and none after one that has to stay, so that the names that are left have no gaps.
pub(super) fn superseded(mut states: Vec<Object>, needed: &Names, moment: DateTime<Utc>) -> Vec<Object> {
    states.sort_by_key(|state| version_of(state.name()));
    states.truncate(states.len().saturating_sub(NEWEST));
    let stays = |state: &Object| state.modified >= moment - MIN_AGE || needed.contain(&state.key);
    let end = states.iter().position(stays).unwrap_or(states.len());
    states.truncate(end);
    states
}

/// Whether the table's states are named `vN`.
pub(super) fn are_numbered(table: &Table) -> bool {
    table.metadata_location().and_then(version_of).is_some()
}

/// Refuses a folder in which another table keeps its states: its files have names like ours, and are not named here. A
/// renamed table keeps its folder, and the next of that name gets the same.
///
/// # Errors
/// [`ErrorKind::Rejected`] naming a state that is not this table's.
pub(super) async fn refuse_shared_folder(table: &Table, store: &Store, states: &[Object]) -> Result<()> {
    let uuid = table.metadata().uuid().to_string();
    let stranger = stream::iter(states)
        .map(|state| (state, &uuid))
        .map(|(state, uuid)| async move {
            let end = state.byte_count.min(BEGINNING);
            let beginning = match end {
                0 => None,
                _ => store.get_range(&state.key, 0..end).await?,
            };
            let text = beginning.map(|bytes| String::from_utf8_lossy(&unpacked(&bytes)).contains(uuid));
            // Gone meanwhile, or empty: nobody's.
            Ok::<_, Error>((!text.unwrap_or(true)).then_some(state))
        })
        .buffer_unordered(READS_AT_ONCE)
        .try_filter_map(|stranger| async move { Ok(stranger) });
    let mut stranger = Box::pin(stranger);
    match stranger.try_next().await? {
        None => Ok(()),
        Some(state) => Err(Error::new(
            ErrorKind::Rejected,
            "Another table has, or had, its metadata in this table's folder, so whose the files are cannot be told; \
             nothing is swept. If that table was dropped, move its metadata files away.",
        )
        .with("table", table.identifier())
        .with("location", store.url(&state.key))),
    }
}

/// The beginning of a state, which another writer may have compressed.
fn unpacked(beginning: &[u8]) -> Cow<'_, [u8]> {
    if Compression::of(beginning) != Some(Compression::Gzip) {
        return Cow::Borrowed(beginning);
    }
    let mut plain = Vec::new();
    // It ends in the middle: what comes before that is there all the same.
    let _cut_short = GzDecoder::new(beginning).read_to_end(&mut plain);
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(version: u64, hours: i64, moment: DateTime<Utc>) -> Object {
        Object {
            key: format!("t/metadata/v{version}.metadata.json"),
            byte_count: 1,
            modified: moment - TimeDelta::hours(hours),
        }
    }

    #[test]
    fn oldest_states_go_and_no_gap_is_left() {
        let moment = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let kept = |states: &[Object], needed: &Names| -> Vec<Option<u64>> {
            superseded(states.to_vec(), needed, moment)
                .iter()
                .map(|state| version_of(state.name()))
                .collect()
        };
        // One every hour, newest first.
        let states: Vec<Object> = (1..=50)
            .rev()
            .map(|version| state(version, 50 - version as i64, moment))
            .collect();
        let all: Vec<Option<u64>> = (1..=25).map(Some).collect();
        assert_eq!(kept(&states, &Names::default()), all);
        let mut needed = Names::default();
        needed.insert("file:/w/t/metadata/v20.metadata.json");
        assert_eq!(kept(&states, &needed), all[..19]);
        // All of them old: ten stay.
        let old: Vec<Object> = (1..=12).map(|version| state(version, 100, moment)).collect();
        assert_eq!(kept(&old, &Names::default()), [Some(1), Some(2)]);
        assert_eq!(kept(&old[..9], &Names::default()), []);
    }
}
