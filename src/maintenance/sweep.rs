//! The sweep: files of ours that nothing names and no attempt can name any more (protocol §5, rule 3).

use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use iceberg::table::Table;

use super::names::{Kind, Names};
use super::reach::reachable;
use super::{Totals, versions};
use crate::catalog::{VERSION_HINT, version_of};
use crate::commit::{Engine, Head};
use crate::error::Result;
use crate::ledger::{folder, is_mark};
use crate::storage::{Object, Store};

/// `grace` of the protocol. An attempt that can still land began after the newest snapshot's list was written, less the
/// day that a change set lives and an hour for what it takes to send it. Three days are more than twice that, and what
/// Spark's `remove_orphan_files` leaves.
pub(super) const GRACE: TimeDelta = TimeDelta::days(3);

/// Files that are deleted at the same time.
const DELETES_AT_ONCE: usize = 16;

/// The table's files: where they are listed. The table and its ledger may lie in two stores.
#[derive(Debug)]
pub(super) struct Folders {
    files: Store,
    table: String,
    ledgers: Store,
    ledger: String,
}

impl Folders {
    /// # Errors
    /// [`ErrorKind::Rejected`](crate::error::ErrorKind::Rejected) for a table outside its store.
    pub(super) fn of(engine: &Engine, table: &Table) -> Result<Self> {
        let (metadata, files) = (table.metadata(), engine.files(table)?);
        let folder_of_table = files.key(metadata.location().trim_end_matches('/'))?.to_owned();
        Ok(Self {
            files,
            table: folder_of_table,
            ledgers: engine.ledger().store().clone(),
            ledger: folder(metadata.uuid()),
        })
    }

    /// The store of the table.
    pub(super) fn files(&self) -> &Store {
        &self.files
    }

    /// The store that an object of this kind is in. Half-written files are left on disks alone, where a table is in the
    /// warehouse, as its ledger is.
    pub(super) fn store_of(&self, kind: Kind) -> &Store {
        match kind {
            Kind::LedgerHead | Kind::LedgerSegment | Kind::Staging => &self.ledgers,
            _ => &self.files,
        }
    }

    /// What an object is: by its path below the folder that it was listed in.
    fn kind(&self, folder: &str, key: &str) -> Kind {
        let below = |folder: &str| key.strip_prefix(folder)?.strip_prefix('/');
        let known = if folder == self.ledger {
            below(&self.ledger).map(Kind::in_ledger)
        } else {
            below(&self.table).map(Kind::in_table)
        };
        known.unwrap_or(Kind::Other)
    }

    /// Calls `each` with every object in them, half-written ones too.
    pub(super) async fn list(&self, mut each: impl FnMut(Kind, Object)) -> Result<()> {
        for (store, folder) in [
            (&self.files, format!("{}/data", self.table)),
            (&self.files, format!("{}/metadata", self.table)),
            (&self.ledgers, self.ledger.clone()),
        ] {
            let mut objects = store.objects(&folder)?;
            while let Some(object) = objects.try_next().await? {
                each(self.kind(&folder, &object.key), object);
            }
            for object in store.staging_files(&folder).await? {
                each(self.kind(&folder, &object.key), object);
            }
        }
        Ok(())
    }
}

/// What is to be deleted, with the moment that proves it.
#[derive(Debug)]
pub(super) struct Plan {
    folders: Folders,
    moment: DateTime<Utc>,
    files: Vec<(Kind, Object)>,
    /// Oldest first.
    states: Vec<Object>,
}

/// What became of a plan.
#[derive(Debug, Default)]
pub(super) struct Swept {
    pub(super) deleted: Totals,
    pub(super) failed: u64,
}

/// When the newest snapshot was made, by the store's clock: before its commit, and so before any attempt that stands on it
/// was loaded. Attempts that stand on less are dead. Where the ledger is in another store, that one's clock may differ: by
/// less than the two days that [`GRACE`] has to spare.
pub(super) async fn moment(head: &Head, store: &Store) -> Result<Option<DateTime<Utc>>> {
    match head.table().metadata().current_snapshot() {
        None => Ok(None),
        Some(snapshot) => {
            let list = store.stat(store.key(snapshot.manifest_list())?).await?;
            Ok(list.map(|list| list.modified))
        }
    }
}

impl Plan {
    /// What may go once `moment` is proven, when the snapshots `without` are let go. Lists the table's and its ledger's
    /// folder, and reads every manifest.
    ///
    /// # Errors
    /// Anything that cannot be read or listed, and a folder that another table shares.
    pub(super) async fn of(
        engine: &Engine,
        head: &Head,
        without: &[i64],
        moment: DateTime<Utc>,
    ) -> Result<Self> {
        let table = head.table();
        let names = reachable(table, engine.ledger(), head.ledger(), without).await?;
        let folders = Folders::of(engine, table)?;
        let numbered = versions::are_numbered(table);
        let cutoff = moment - GRACE;
        let (mut files, mut states, mut unnamed) = (Vec::new(), Vec::new(), Vec::new());
        let sort = |kind, object: Object| {
            if numbered && kind == Kind::Metadata {
                if version_of(object.name()).is_some() {
                    states.push(object);
                }
                return;
            }
            if names.contain(&object.key) {
                return;
            }
            if object.name().ends_with(".metadata.json") {
                unnamed.push(object.clone());
            }
            // Numbered states in the folder of a table whose states are not are none of its catalog's.
            let foreign = kind == Kind::Other || version_of(object.name()).is_some();
            if !foreign && object.modified < cutoff {
                files.push((kind, object));
            }
        };
        folders.list(sort).await?;
        versions::refuse_shared_folder(table, folders.files(), &unnamed).await?;
        Ok(Self {
            folders,
            moment,
            files,
            states: versions::superseded(states, &names, moment),
        })
    }

    /// Nothing.
    ///
    /// # Errors
    /// Those of [`Folders::of`].
    pub(super) fn none(engine: &Engine, head: &Head, moment: DateTime<Utc>) -> Result<Self> {
        Ok(Self {
            folders: Folders::of(engine, head.table())?,
            moment,
            files: Vec::new(),
            states: Vec::new(),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.states.is_empty()
    }

    /// The same for an earlier moment: if it is as much, the later moment need not be proven.
    pub(super) fn holds_at(&self, moment: DateTime<Utc>) -> bool {
        let states_go = |state: &Object| state.modified < moment - versions::MIN_AGE;
        self.files
            .iter()
            .all(|(_, object)| object.modified < moment - GRACE)
            && self.states.iter().all(states_go)
    }

    /// What would go.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::new();
        let states = self.states.iter().map(|state| (Kind::Metadata, state));
        for (kind, object) in self
            .files
            .iter()
            .map(|(kind, object)| (*kind, object))
            .chain(states)
        {
            totals.entry(kind).or_default().add(object.byte_count);
        }
        totals
    }

    /// Tells each file that would go.
    pub(super) fn tell(&self) {
        let states = self.states.iter().map(|state| (Kind::Metadata, state));
        for (kind, object) in self
            .files
            .iter()
            .map(|(kind, object)| (*kind, object))
            .chain(states)
        {
            let location = self.folders.store_of(kind).url(&object.key);
            tracing::debug!(location, kind = kind.name(), "Would go.");
        }
    }

    /// Deletes. What cannot be deleted is told and counted; the next sweep finds it again.
    pub(super) async fn carry_out(&self) -> Swept {
        let mut swept = Swept::default();
        let mut deletions = stream::iter(&self.files)
            .map(|(kind, object)| async move { (*kind, object, self.delete(*kind, object).await) })
            .buffer_unordered(DELETES_AT_ONCE);
        while let Some((kind, object, deleted)) = deletions.next().await {
            swept.count(kind, object, deleted);
        }
        // Oldest first, and none after one that would not go: names are freed in the order in which they were taken.
        for some in self.states.chunks(DELETES_AT_ONCE) {
            let deletions = some.iter().map(|state| self.delete(Kind::Metadata, state));
            let deleted = futures::future::join_all(deletions).await;
            for (state, deleted) in some.iter().zip(deleted) {
                swept.count(Kind::Metadata, state, deleted);
            }
            if swept.failed > 0 {
                break;
            }
        }
        swept
    }

    /// Says whether it was there; `None` when it could not be deleted.
    async fn delete(&self, kind: Kind, object: &Object) -> Option<bool> {
        let store = self.folders.store_of(kind);
        let deleted = match kind {
            Kind::Staging => store.delete_staging_file(&object.key).await,
            _ => store.delete(&object.key).await,
        };
        let location = store.url(&object.key);
        match deleted {
            Ok(was_there) => {
                // The proof: ours by its name, written before the moment less the grace, named by nothing.
                tracing::debug!(
                    location,
                    kind = kind.name(),
                    modified = %object.modified,
                    snapshot_made = %self.moment,
                    "Deleted: nothing names it, and whatever could is older than the newest snapshot."
                );
                Some(was_there)
            }
            Err(error) => {
                tracing::warn!(
                    location,
                    error = error.report(),
                    "A file could not be deleted; the next sweep finds it again."
                );
                None
            }
        }
    }
}

impl Swept {
    fn count(&mut self, kind: Kind, object: &Object, deleted: Option<bool>) {
        match deleted {
            Some(true) => self.deleted.entry(kind).or_default().add(object.byte_count),
            // Another sweep was first.
            Some(false) => {}
            None => self.failed += 1,
        }
    }
}

/// Files that nothing names, of any age and any kind, ours or not. Older states of a table whose states are numbered are its
/// history; the hint to the newest one and the mark of the ledger's first head are nobody's orphans.
pub(super) async fn orphans(folders: &Folders, names: &Names) -> Result<Totals> {
    let mut totals = Totals::new();
    let is_history = |name: &str| name == VERSION_HINT || version_of(name).is_some() || is_mark(name);
    folders
        .list(|kind, object| {
            if !names.contain(&object.key) && !is_history(object.name()) {
                totals.entry(kind).or_default().add(object.byte_count);
            }
        })
        .await?;
    Ok(totals)
}
