//! The state of a table that commits are computed on.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use iceberg::spec::{MAIN_BRANCH, ManifestFile, SnapshotReference, SnapshotRetention, TableMetadata};
use iceberg::table::Table;
use serde::Deserialize;
use tokio::time::Instant;
use uuid::Uuid;

use super::beside::Beside;
use super::retention;
use super::turn::Turn;
use super::{COMMIT_ID, WRITER};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::LedgerState;

/// Who committed so long before the newest snapshot may still be there.
const NEAR_MS: i64 = 5_000;

/// A load of the table, the ledger of that load, and the manifests of its current snapshot once someone needed them.
///
/// A head may be stale: for a commit its fence makes that harmless; where there is none to be made, [`Engine::known`]
/// loads anew.
///
/// [`Engine::known`]: super::Engine::known
#[derive(Debug)]
pub struct Head {
    pub(super) table: Table,
    pub(super) ledger: LedgerState,
    pub(super) refs: Refs,
    pub(super) manifests: Option<Vec<ManifestFile>>,
    pub(super) beside: Beside,
    pub(super) turn: Turn,
    /// The table was like this at that moment, or later; not known of a load that was made elsewhere.
    pub(super) as_of: Option<Instant>,
    /// The catalog refused to let snapshots go: until then no commit of rows asks it to.
    pub(super) hoards_until: Option<Instant>,
}

impl Head {
    /// Fence, pointer and ledger come from this one load (protocol, step 4).
    pub(super) fn try_new(table: Table, ledger: LedgerState) -> Result<Self> {
        Ok(Self {
            refs: Refs::of(table.metadata())?,
            table,
            ledger,
            manifests: None,
            beside: Beside::default(),
            turn: Turn::default(),
            as_of: None,
            hoards_until: None,
        })
    }

    /// Whether the table may have changed since then.
    pub(super) fn is_older(&self, than: Instant) -> bool {
        self.as_of.is_none_or(|as_of| as_of < than)
    }

    /// The table as it was loaded.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The snapshot that a commit made, as long as the table remembers it. For telling, not for deciding: the ledger
    /// decides.
    pub fn snapshot_of(&self, commit_id: Uuid) -> Option<i64> {
        let id = commit_id.to_string();
        let mut snapshots = self.table.metadata().snapshots();
        let found =
            snapshots.find(|snapshot| snapshot.summary().additional_properties.get(COMMIT_ID) == Some(&id));
        found.map(|snapshot| snapshot.snapshot_id())
    }

    /// The snapshots whose time is over: upkeep on this head lets them go.
    pub fn expired(&self, now: DateTime<Utc>) -> Vec<i64> {
        retention::all_expired(self.table.metadata(), &self.refs, now)
    }

    /// How many committers of ours share the table, this one included, as the snapshots of its last seconds say. Others'
    /// engines count as one.
    pub(super) fn company(&self, own: Uuid) -> u32 {
        let own = own.to_string();
        let metadata = self.table.metadata();
        let newest = metadata
            .current_snapshot()
            .map_or(0, |newest| newest.timestamp_ms());
        let lately = metadata
            .snapshots()
            .filter(|snapshot| snapshot.timestamp_ms() > newest - NEAR_MS);
        let writers = lately.map(|snapshot| {
            let writer = snapshot.summary().additional_properties.get(WRITER);
            writer.map_or("", String::as_str)
        });
        let others: BTreeSet<&str> = writers.filter(|writer| *writer != own).collect();
        u32::try_from(others.len()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// The ledger of that load.
    pub fn ledger(&self) -> &LedgerState {
        &self.ledger
    }
}

/// Branches and tags. The crate keeps them to itself, so they are read from the metadata's own JSON.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Refs {
    #[serde(default)]
    refs: BTreeMap<String, SnapshotReference>,
    /// How large that JSON is.
    #[serde(skip)]
    pub(super) metadata_bytes: usize,
}

impl Refs {
    pub(super) fn of(metadata: &TableMetadata) -> Result<Self> {
        let read = serde_json::to_vec(metadata).and_then(|json| {
            let refs: Self = serde_json::from_slice(&json)?;
            Ok(Self {
                metadata_bytes: json.len(),
                ..refs
            })
        });
        read.map_err(|error| {
            Error::new(
                ErrorKind::Rejected,
                "The table's branches and tags cannot be read.",
            )
            .with_source(error)
        })
    }

    /// How long the main branch keeps its snapshots, as someone has set it: our commits leave that as it is.
    pub(super) fn main_retention(&self) -> SnapshotRetention {
        match self.refs.get(MAIN_BRANCH) {
            Some(main) => main.retention.clone(),
            None => SnapshotRetention::branch(None, None, None),
        }
    }

    /// The snapshots that branches and tags but the main branch point to.
    pub(super) fn others(&self) -> impl Iterator<Item = &SnapshotReference> {
        self.refs
            .iter()
            .filter(|(name, _)| *name != MAIN_BRANCH)
            .map(|(_, reference)| reference)
    }
}
