//! The oracle: what must hold after every step, and what must hold at rest. The names are those of the protocol's §9.

use std::collections::{BTreeMap, BTreeSet};

use iceberg::TableIdent;
use iceberg::spec::TableMetadata;
use landfast::commit::COMMIT_ID;
use landfast::dead_letter::Place;
use landfast::ledger::{Entry, Known, Ledger, POINTER, SUMMARY_HEAD};
use serde_json::Value;
use uuid::Uuid;

use super::foreign::FOREIGN_ROWS;
use super::lake::{Lake, State};
use super::walk::Walk;
use crate::support::TestResult;

/// What one parcel must come to in one table.
#[derive(Debug, Clone)]
pub struct Expectation {
    pub entry: Entry,
    /// As dead letters name it.
    pub delivery_id: String,
    pub rows: Vec<i64>,
    pub rejected: usize,
    pub is_acked: bool,
    /// An operator took its rows away.
    pub is_rolled_back: bool,
    /// How often it may have landed anew, in this table or in one that has its name now.
    pub era: u64,
}

/// What is kept per table between checks.
#[derive(Debug, Default)]
struct Seen {
    states: usize,
    sequence: u64,
    floor: i64,
}

/// Checks a lake.
#[derive(Debug, Default)]
pub struct Oracle {
    walk: Walk,
    seen: BTreeMap<Uuid, Seen>,
}

/// A whole delivery that could not be proven new, and how often each record was rejected, by delivery and table. Only
/// letters that count.
type Letters = BTreeMap<(String, String), (u64, BTreeMap<u64, u64>)>;

impl Oracle {
    /// Reads everything again from here on.
    pub fn forget_files(&mut self) {
        self.walk = Walk::default();
    }

    /// The rows of the current state.
    pub async fn rows(&mut self, lake: &Lake, metadata: &TableMetadata) -> TestResult<Vec<i64>> {
        match metadata.current_snapshot() {
            Some(snapshot) => Ok(self.walk.contents(&lake.store, snapshot).await?.rows.clone()),
            None => Ok(Vec::new()),
        }
    }

    /// Every file that a kept snapshot of the newest state needs.
    pub async fn needed(&mut self, lake: &Lake, metadata: &TableMetadata) -> TestResult<BTreeSet<String>> {
        let mut needed = BTreeSet::new();
        for snapshot in metadata.snapshots() {
            let contents = self.walk.contents(&lake.store, snapshot).await?;
            needed.extend(contents.files.iter().cloned());
        }
        Ok(needed)
    }

    /// What holds at any moment. `letters` are read only if something acknowledged has no rows.
    pub async fn check(
        &mut self,
        lake: &Lake,
        ident: &TableIdent,
        parcels: &[Expectation],
        letters: &landfast::storage::Store,
    ) -> TestResult {
        let states = lake.states(ident).await?;
        let Some(newest) = states.last() else {
            let acked = parcels
                .iter()
                .any(|parcel| parcel.is_acked && !parcel.rows.is_empty());
            return held(!acked, || {
                "I1: rows were acknowledged, and there is no table.".to_owned()
            });
        };
        self.moved_as_it_may(lake, ident, &states).await?;
        let store = &lake.store;
        let present: BTreeSet<String> = store.keys("").await?.into_iter().collect();
        let mut needed = self.needed(lake, &newest.metadata).await?;
        if let Some(head) = newest.metadata.properties().get(POINTER)
            && head.contains(&newest.metadata.uuid().to_string())
        {
            needed.extend(ledger_files(&self.head(lake, head).await?, head));
        }
        for file in &needed {
            held(present.contains(store.key(file)?), || {
                format!("I3: {file} is needed and gone.")
            })?;
        }
        for snapshot in newest.metadata.snapshots() {
            no_row_twice(&self.walk.contents(store, snapshot).await?.rows)?;
        }
        let uuid = newest.metadata.uuid();
        for (_, id) in lake.committed().iter().filter(|(table, _)| *table == uuid) {
            let was_current = |state: &State| state.metadata.current_snapshot_id() == Some(*id);
            held(states.iter().any(was_current), || {
                format!("I9: snapshot {id} of {ident} was called committed and is off the lineage.")
            })?;
        }
        let rows: BTreeSet<i64> = self.rows(lake, &newest.metadata).await?.into_iter().collect();
        self.acked_is_kept(ident, parcels, &rows, letters).await
    }

    /// I1: what was acknowledged is in the current snapshot, or among the confirmed dead letters.
    async fn acked_is_kept(
        &self,
        ident: &TableIdent,
        parcels: &[Expectation],
        rows: &BTreeSet<i64>,
        letters: &landfast::storage::Store,
    ) -> TestResult {
        let mut kept: Option<Letters> = None;
        for parcel in parcels.iter().filter(|parcel| parcel.is_acked) {
            let landed = parcel.rows.iter().filter(|row| rows.contains(row)).count();
            let whole = landed == parcel.rows.len() || parcel.is_rolled_back;
            if whole && parcel.rejected == 0 {
                continue;
            }
            let kept = match &mut kept {
                Some(kept) => kept,
                None => {
                    let read = read_letters(letters).await?;
                    no_letter_twice(&read, ident, parcels)?;
                    kept.insert(read)
                }
            };
            let key = (parcel.delivery_id.clone(), ident.to_string());
            let (too_old, rejected) = kept.get(&key).cloned().unwrap_or_default();
            held(
                too_old > 0 || (whole && rejected.len() == parcel.rejected),
                || {
                    format!(
                        "I1: {} is acknowledged in {ident}, where {landed} of {} rows and {} of {} dead letters are.",
                        parcel.delivery_id,
                        parcel.rows.len(),
                        rejected.len(),
                        parcel.rejected
                    )
                },
            )?;
        }
        Ok(())
    }

    /// I5 and I7 for every state since the last check.
    async fn moved_as_it_may(&mut self, lake: &Lake, ident: &TableIdent, states: &[State]) -> TestResult {
        let Some(uuid) = states.last().map(|state| state.metadata.uuid()) else {
            return Ok(());
        };
        let from = self.seen.entry(uuid).or_default().states;
        let pointer_of = |state: &State| state.metadata.properties().get(POINTER).cloned();
        for (at, state) in states.iter().enumerate().skip(from) {
            let before = at.checked_sub(1).and_then(|at| states.get(at));
            let pointer = pointer_of(state);
            if state.is_foreign || pointer == before.and_then(pointer_of) {
                continue;
            }
            let snapshot = state.metadata.current_snapshot();
            let is_new = before.is_none_or(|before| {
                snapshot.is_some_and(|new| before.metadata.snapshot_by_id(new.snapshot_id()).is_none())
            });
            let summary = snapshot.map(|snapshot| &snapshot.summary().additional_properties);
            let is_ours = summary.is_some_and(|summary| {
                summary.contains_key(COMMIT_ID) && summary.get(SUMMARY_HEAD) == pointer.as_ref()
            });
            held(is_new && is_ours, || {
                format!("I5: the pointer of {ident} moved in state {at} without a snapshot of ours.")
            })?;
            let head = self.head(lake, &pointer.unwrap_or_default()).await?;
            let (sequence, floor) = (head["sequence"].as_u64(), head["floor"].as_i64());
            let seen = self.seen.entry(uuid).or_default();
            let (sequence, floor) = (sequence.unwrap_or_default(), floor.unwrap_or(i64::MIN));
            let first = seen.sequence == 0;
            held(first || (sequence > seen.sequence && floor >= seen.floor), || {
                format!("I7: sequence or floor fell in state {at} of {ident}: {sequence}, {floor}.")
            })?;
            (seen.sequence, seen.floor) = (sequence, floor);
        }
        self.seen.entry(uuid).or_default().states = states.len();
        Ok(())
    }

    async fn head(&self, lake: &Lake, location: &str) -> TestResult<Value> {
        let bytes = lake.store.get(lake.store.key(location)?).await?;
        let bytes = bytes.ok_or_else(|| format!("I3: the head {location} is gone."))?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// I4 and I6, when nothing is under way: all is landed once or held, and the ledger says what the data says.
    pub async fn check_at_rest(
        &mut self,
        lake: &Lake,
        ident: &TableIdent,
        parcels: &[Expectation],
        letters: &landfast::storage::Store,
    ) -> TestResult {
        self.check(lake, ident, parcels, letters).await?;
        let Some(table) = lake.table(ident).await? else {
            return Ok(());
        };
        let rows = self.rows(lake, table.metadata()).await?;
        let strangers =
            |row: &&i64| **row < FOREIGN_ROWS && !parcels.iter().any(|one| one.rows.contains(row));
        let stranger = rows.iter().find(strangers);
        held(stranger.is_none(), || format!("Row {stranger:?} was never sent."))?;
        let rows: BTreeSet<i64> = rows.into_iter().collect();
        let ledger = Ledger::new(lake.store.clone());
        let state = ledger.open(&table).await?;
        let floor = state.head().floor;
        for parcel in parcels.iter().filter(|parcel| !parcel.rows.is_empty()) {
            held(parcel.is_acked, || {
                format!("I4: {} is neither landed nor held.", parcel.delivery_id)
            })?;
            let known = ledger.check(&state, std::slice::from_ref(&parcel.entry)).await?;
            let landed = parcel.rows.iter().filter(|row| rows.contains(row)).count();
            let agrees = match known.first() {
                Some(Known::Landed(_)) => landed == parcel.rows.len() || parcel.is_rolled_back,
                Some(Known::TooOld) => parcel.entry.index_time < floor,
                _ => landed == 0,
            };
            held(agrees, || {
                let id = &parcel.delivery_id;
                format!("I6: the ledger of {ident} says {known:?} of {id}, of which {landed} rows are there.")
            })?;
        }
        Ok(())
    }
}

fn held(holds: bool, else_say: impl FnOnce() -> String) -> TestResult {
    if holds { Ok(()) } else { Err(else_say().into()) }
}

fn no_row_twice(rows: &[i64]) -> TestResult {
    let mut seen = BTreeSet::new();
    match rows.iter().find(|row| !seen.insert(**row)) {
        Some(row) => Err(format!("I2: row {row} is there twice.").into()),
        None => Ok(()),
    }
}

fn no_letter_twice(letters: &Letters, ident: &TableIdent, parcels: &[Expectation]) -> TestResult {
    for parcel in parcels {
        let key = (parcel.delivery_id.clone(), ident.to_string());
        let rejected = letters.get(&key).map(|(_, rejected)| rejected);
        let twice = rejected
            .into_iter()
            .flatten()
            .find(|(_, count)| **count > 1 + parcel.era);
        held(twice.is_none(), || {
            format!("I2: a letter of {} is there twice.", parcel.delivery_id)
        })?;
    }
    Ok(())
}

fn ledger_files(head: &Value, location: &str) -> Vec<String> {
    let folder = location.rsplit_once('/').map_or("", |(folder, _)| folder);
    let segments = head["segments"].as_array().into_iter().flatten();
    let names = segments.filter_map(|segment| segment["name"].as_str());
    names
        .map(|name| format!("{folder}/{name}"))
        .chain([location.to_owned()])
        .collect()
}

async fn read_letters(store: &landfast::storage::Store) -> TestResult<Letters> {
    let mut letters = Letters::new();
    for key in store.keys(Place::Confirmed.folder()).await? {
        let bytes = store.get(&key).await?.unwrap_or_default();
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let letter: Value = serde_json::from_slice(line)?;
            let text = |key: &str| letter[key].as_str().unwrap_or_default().to_owned();
            let found = letters.entry((text("delivery_id"), text("table"))).or_default();
            match letter["position"].as_u64() {
                Some(position) => *found.1.entry(position).or_default() += 1,
                None => found.0 += 1,
            }
        }
    }
    Ok(letters)
}
