//! The `storage` catalog: no server, the warehouse itself names the newest metadata.
//!
//! A table's state number N is the object `metadata/vN.metadata.json`. Committing state N+1 is creating that name if
//! it is free, so the name is the fence: two commits computed from state N exclude each other (protocol §4). The newest
//! state is found by listing, or by asking for the names after one that was the newest a moment ago; never by
//! `version-hint.text`, which is written for other engines only.
//!
//! The layout is that of Hadoop tables, readable by Spark, DuckDB and PyIceberg; landfast must be the only writer,
//! since a Hadoop commit renames over names that exist.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::try_join_all;
use iceberg::spec::TableMetadata;
use iceberg::table::Table;
use iceberg::{NamespaceIdent, TableCreation, TableIdent};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    Catalog, Outcome, TableCommit, already_exists, apply, creation_metadata, foreign_base, lost_race,
    moved_while_dropped, not_found, open_table,
};
use crate::clock::{Clock, Moment};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{Creation, Store};

/// How many names a process asks for at a time, each time further on, before it lists the folder.
const LOOK_AHEAD: [u64; 3] = [4, 16, 64];

/// `F` of the protocol: a create that succeeded this long after its base was last seen to be the newest proves nothing,
/// since the name may have been freed by the clean-up of old metadata in between.
const FENCE_TRUST: Duration = Duration::from_secs(600);

/// Where other engines look for the newest state's number.
pub(crate) const VERSION_HINT: &str = "version-hint.text";

/// An object name takes one write a second on Google Cloud Storage; the hint is no more urgent than this.
const HINT_INTERVAL: Duration = Duration::from_secs(2);

/// What stands under a version's name after the table was dropped. The name is used up, so that a commit computed
/// before the drop still meets a conflict; a table made later takes the next number.
#[derive(Debug, Serialize, Deserialize)]
struct Tombstone {
    #[serde(rename = "landfast-dropped")]
    dropped: bool,
}

/// What a version's name holds.
enum Version {
    Table(Box<TableMetadata>),
    Dropped,
}

/// Tables whose metadata is named `vN.metadata.json` in the warehouse.
#[derive(Debug, Clone)]
pub struct StorageCatalog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    warehouse: Store,
    clock: Arc<dyn Clock>,
    /// When each table's base version was last seen to be the newest.
    seen: Mutex<HashMap<TableIdent, (u64, Moment)>>,
    hints: Mutex<HashMap<TableIdent, Hint>>,
}

#[derive(Debug)]
struct Hint {
    next_write: Instant,
    scheduled: bool,
    /// Held from the listing to the write, so that a slow hint never overwrites a newer one.
    writing: Arc<tokio::sync::Mutex<()>>,
}

impl StorageCatalog {
    /// Makes the catalog of a warehouse. Nothing is read or written yet.
    pub fn new(warehouse: Store, clock: Arc<dyn Clock>) -> Self {
        let shared = Shared {
            warehouse,
            clock,
            seen: Mutex::default(),
            hints: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    fn folder(ident: &TableIdent) -> String {
        format!("{}/{}", ident.namespace().as_ref().join("/"), ident.name())
    }

    fn version_key(ident: &TableIdent, version: u64) -> String {
        format!("{}/metadata/v{version}.metadata.json", Self::folder(ident))
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<TableIdent, (u64, Moment)>> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers when a version was the newest. A load that was overtaken by another load or a commit of this process
    /// has nothing to tell: versions only go up.
    fn note_newest(&self, ident: &TableIdent, version: u64, moment: Moment) {
        let mut seen = self.seen();
        if seen.get(ident).is_none_or(|(newest, _)| *newest <= version) {
            seen.insert(ident.clone(), (version, moment));
        }
    }

    /// Reads the newest version, and what it holds. The moment is from before the look: the newest *then*.
    async fn newest(&self, ident: &TableIdent) -> Result<Option<(u64, Version)>> {
        let moment = Moment::now(self.shared.clock.as_ref());
        let Some((version, bytes)) = self.newest_file(ident).await? else {
            return Ok(None);
        };
        self.note_newest(ident, version, moment);
        if bytes.len() < 100 && serde_json::from_slice::<Tombstone>(&bytes).is_ok() {
            return Ok(Some((version, Version::Dropped)));
        }
        let metadata = serde_json::from_slice(&bytes).map_err(|error| {
            Error::new(
                ErrorKind::Rejected,
                "The newest metadata file is not a table's: it is damaged. Bring it back from a backup.",
            )
            .with(
                "location",
                self.shared.warehouse.url(&Self::version_key(ident, version)),
            )
            .with("table", ident)
            .with_source(error)
        })?;
        Ok(Some((version, Version::Table(metadata))))
    }

    async fn newest_file(&self, ident: &TableIdent) -> Result<Option<(u64, Bytes)>> {
        if let Some(found) = self.file_ahead(ident).await? {
            return Ok(Some(found));
        }
        let Some(version) = newest_version(&self.shared.warehouse, ident).await? else {
            return Ok(None);
        };
        let bytes = self.get(ident, version).await?.ok_or_else(|| {
            Error::new(
                ErrorKind::Unavailable,
                "The newest metadata file vanished while it was read.",
            )
            .with("table", ident)
        })?;
        Ok(Some((version, bytes)))
    }

    /// Looks for names after the version that was the newest a moment ago: a folder of a day's commits takes long to list.
    /// Names have no gaps, and none that was free less than [`FENCE_TRUST`] ago can have been used and freed again, so a
    /// free name ends the search. `None` when that is not enough to know.
    async fn file_ahead(&self, ident: &TableIdent) -> Result<Option<(u64, Bytes)>> {
        let seen = self.seen().get(ident).copied();
        let recent = seen.filter(|(_, moment)| moment.elapsed(self.shared.clock.as_ref()) < FENCE_TRUST);
        let Some((mut newest, _)) = recent else {
            return Ok(None);
        };
        for width in LOOK_AHEAD {
            let keys = (1..=width).map(|step| Self::version_key(ident, newest.saturating_add(step)));
            let stats = keys.map(|key| async move { self.shared.warehouse.stat(&key).await });
            let used = try_join_all(stats).await?;
            let free = (0..).zip(&used).find(|(_, used)| used.is_none());
            newest = newest.saturating_add(free.map_or(width, |(step, _)| step));
            if free.is_some() {
                return Ok(self.get(ident, newest).await?.map(|bytes| (newest, bytes)));
            }
        }
        Ok(None)
    }

    async fn get(&self, ident: &TableIdent, version: u64) -> Result<Option<Bytes>> {
        self.shared
            .warehouse
            .get(&Self::version_key(ident, version))
            .await
    }

    fn table(&self, ident: &TableIdent, version: u64, metadata: TableMetadata) -> Result<Table> {
        let location = self.shared.warehouse.url(&Self::version_key(ident, version));
        open_table(&self.shared.warehouse, ident, metadata, location)
    }

    /// Creates the name of a version; `Exists` is a lost race, or an earlier copy of this very request.
    async fn create(&self, ident: &TableIdent, version: u64, content: &impl Serialize) -> Result<Creation> {
        let bytes = serde_json::to_vec(content).map_err(|error| {
            Error::new(
                ErrorKind::Rejected,
                "The table's metadata cannot be written as JSON.",
            )
            .with("table", ident)
            .with_source(error)
        })?;
        let key = Self::version_key(ident, version);
        self.shared.warehouse.create(&key, Bytes::from(bytes)).await
    }

    /// Writes the hint now, or has it written once its interval is over; never waits for it.
    fn hint(&self, ident: &TableIdent) {
        let wait_until = {
            let mut hints = self.shared.hints();
            let now = Instant::now();
            let hint = hints.entry(ident.clone()).or_insert(Hint {
                next_write: now,
                scheduled: false,
                writing: Arc::default(),
            });
            if hint.scheduled {
                return;
            }
            hint.scheduled = true;
            hint.next_write
        };
        let (shared, ident) = (self.shared.clone(), ident.clone());
        tokio::spawn(async move {
            tokio::time::sleep_until(wait_until).await;
            // What was settled meanwhile is written, and the table may be gone.
            let is_owed = shared.hints().get(&ident).is_some_and(|hint| hint.scheduled);
            if is_owed {
                shared.write_hint(&ident).await;
            }
        });
    }
}

impl Shared {
    fn hints(&self) -> MutexGuard<'_, HashMap<TableIdent, Hint>> {
        self.hints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the newest version's number for engines that look for it. Listed afresh, since another process may have
    /// committed; a failure is told and left to the next commit: nothing of ours depends on the hint.
    async fn write_hint(&self, ident: &TableIdent) {
        let Some(writing) = self.hints().get(ident).map(|hint| hint.writing.clone()) else {
            return;
        };
        let _one_at_a_time = writing.lock().await;
        if let Some(hint) = self.hints().get_mut(ident) {
            hint.next_write = Instant::now() + HINT_INTERVAL;
            hint.scheduled = false;
        }
        let key = format!("{}/metadata/{VERSION_HINT}", StorageCatalog::folder(ident));
        let written = async {
            match newest_version(&self.warehouse, ident).await? {
                Some(version) => self.warehouse.put(&key, Bytes::from(version.to_string())).await,
                None => Ok(()),
            }
        };
        if let Err(error) = written.await {
            tracing::warn!(table.ident = %ident, error = error.report(), "The version hint was not written.");
        }
    }
}

#[async_trait]
impl Catalog for StorageCatalog {
    /// Namespaces are folders; they come with their first table.
    async fn create_namespace(&self, _namespace: &NamespaceIdent) -> Result<()> {
        Ok(())
    }

    /// Reads the newest metadata of every folder of the namespace.
    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        let mut tables = Vec::new();
        for name in self
            .shared
            .warehouse
            .folders(&namespace.as_ref().join("/"))
            .await?
        {
            let ident = TableIdent::new(namespace.clone(), name);
            match self.newest(&ident).await {
                Ok(Some((_, Version::Table(_)))) => tables.push(ident),
                Ok(_) => {}
                // It is a table all the same; loading it tells what is wrong.
                Err(error) if error.kind() == ErrorKind::Rejected => tables.push(ident),
                Err(error) => return Err(error),
            }
        }
        Ok(tables)
    }

    async fn create_table(&self, namespace: &NamespaceIdent, mut creation: TableCreation) -> Result<Table> {
        let ident = TableIdent::new(namespace.clone(), creation.name.clone());
        if creation.location.is_some() {
            return Err(Error::new(
                ErrorKind::Rejected,
                "A storage catalog's tables live in its warehouse; leave the location out.",
            )
            .with("table", ident));
        }
        creation.location = Some(self.shared.warehouse.url(&Self::folder(&ident)));
        let metadata = creation_metadata(creation, &ident)?;
        let moment = Moment::now(self.shared.clock.as_ref());
        let version = match self.newest(&ident).await? {
            None => 1,
            Some((version, Version::Dropped)) => version.saturating_add(1),
            Some((_, Version::Table(_))) => return Err(already_exists(&ident)),
        };
        match self.create(&ident, version, &metadata).await? {
            Creation::Created => {
                self.note_newest(&ident, version, moment);
                self.hint(&ident);
                self.table(&ident, version, metadata)
            }
            Creation::Exists => Err(already_exists(&ident)),
        }
    }

    async fn load_table(&self, ident: &TableIdent) -> Result<Table> {
        match self.newest(ident).await? {
            Some((version, Version::Table(metadata))) => self.table(ident, version, *metadata),
            Some((_, Version::Dropped)) | None => Err(not_found(ident)),
        }
    }

    async fn drop_table(&self, ident: &TableIdent) -> Result<()> {
        let version = match self.newest(ident).await? {
            Some((version, Version::Table(_))) => version.saturating_add(1),
            Some((_, Version::Dropped)) | None => return Err(not_found(ident)),
        };
        match self.create(ident, version, &Tombstone { dropped: true }).await? {
            Creation::Created => Ok(()),
            Creation::Exists => Err(moved_while_dropped(ident)),
        }
    }

    async fn commit_table(&self, base: &Table, commit: TableCommit) -> Outcome {
        let ident = base.identifier();
        let Some(version) = base.metadata_location().and_then(version_of) else {
            return foreign_base(ident);
        };
        let metadata = match apply(base, commit) {
            Ok(metadata) => metadata,
            Err(outcome) => return outcome,
        };
        let next = version.saturating_add(1);
        // Before the create: once the name exists, another load of this process may note the new version.
        let base_seen = match self.fence(ident, version).await {
            Ok(Some(moment)) => moment,
            Ok(None) => return lost_race(ident),
            Err(error) => {
                let message = "Whether the table is as it was loaded could not be seen; nothing was sent.";
                let error = Error::new(ErrorKind::OutcomeUnknown, message).with_source(error);
                return Outcome::OutcomeUnknown(error.with("table", ident));
            }
        };
        let sent = Moment::now(self.shared.clock.as_ref());
        let created = self.create(ident, next, &metadata).await;
        if !matches!(created, Ok(Creation::Exists)) {
            // An unknown outcome may have moved the table as well.
            self.hint(ident);
        }
        match created {
            Ok(Creation::Created) if base_seen.elapsed(self.shared.clock.as_ref()) < FENCE_TRUST => {
                self.created(ident, next, sent, metadata)
            }
            Ok(Creation::Created) => Outcome::OutcomeUnknown(
                Error::new(
                    ErrorKind::OutcomeUnknown,
                    "The commit took too long to trust its fence; it is looked up.",
                )
                .with("table", ident),
            ),
            Ok(Creation::Exists) => lost_race(ident),
            // Before the first byte or after the last: a store's error does not tell.
            Err(error) if error.kind() == ErrorKind::Rejected => Outcome::Rejected(error),
            Err(error) => Outcome::OutcomeUnknown(
                Error::new(
                    ErrorKind::OutcomeUnknown,
                    "The metadata write did not say what became of it.",
                )
                .with("table", ident)
                .with_source(error),
            ),
        }
    }

    async fn settle(&self) {
        // A hint that is being written is owed too: the process may end before it is.
        let owed: Vec<TableIdent> = {
            let hints = self.shared.hints();
            let owed = hints
                .iter()
                .filter(|(_, hint)| hint.scheduled || hint.writing.try_lock().is_err());
            owed.map(|(ident, _)| ident.clone()).collect()
        };
        futures::future::join_all(owed.iter().map(|ident| self.shared.write_hint(ident))).await;
    }
}

impl StorageCatalog {
    /// When the base of a commit was last known to be the newest version; looked at again where that is so long ago that
    /// a create might not prove anything any more (protocol §4, `storage`, *Committed*). `None` when there is a newer one.
    async fn fence(&self, ident: &TableIdent, base: u64) -> Result<Option<Moment>> {
        let clock = self.shared.clock.as_ref();
        let seen = self.seen().get(ident).copied();
        if let Some((newest, moment)) = seen
            && newest >= base
            && moment.elapsed(clock) < FENCE_TRUST / 2
        {
            if newest == base {
                return Ok(Some(moment));
            }
            // Not where somebody took the folder back to what it was.
            let key = Self::version_key(ident, newest);
            if self.shared.warehouse.stat(&key).await?.is_some() {
                return Ok(None);
            }
        }
        let moment = Moment::now(clock);
        let newest = newest_version(&self.shared.warehouse, ident).await?;
        self.note_newest(ident, newest.unwrap_or_default(), moment);
        Ok(Some(moment).filter(|_| newest == Some(base)))
    }

    /// The table after a create that proves its commit. `sent` is when its name was free yet: the newest version *then*.
    fn created(&self, ident: &TableIdent, version: u64, sent: Moment, metadata: TableMetadata) -> Outcome {
        self.note_newest(ident, version, sent);
        match self.table(ident, version, metadata) {
            Ok(table) => Outcome::Committed(Box::new(table)),
            Err(error) => Outcome::OutcomeUnknown(error),
        }
    }
}

async fn newest_version(warehouse: &Store, ident: &TableIdent) -> Result<Option<u64>> {
    let folder = format!("{}/metadata", StorageCatalog::folder(ident));
    // Names of manifests and lists sort before `v`, so an object store skips them.
    let names = warehouse.names_after(&folder, "v").await?;
    Ok(names.iter().filter_map(|name| version_of(name)).max())
}

/// The number in `…/vN.metadata.json`, the name of a table's state.
pub(crate) fn version_of(location: &str) -> Option<u64> {
    let name = location.rsplit('/').next()?;
    let digits = name.strip_prefix('v')?.strip_suffix(".metadata.json")?;
    // `v+7` and `v07` are numbers too, but no names of ours.
    digits
        .parse()
        .ok()
        .filter(|version: &u64| version.to_string() == digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_version_names_are_versions() {
        assert_eq!(version_of("file:///w/a/metadata/v12.metadata.json"), Some(12));
        for other in [
            VERSION_HINT,
            "v.metadata.json",
            "v1.metadata.json.tmp",
            "12-x.metadata.json",
            "v+7.metadata.json",
            "v07.metadata.json",
        ] {
            assert_eq!(version_of(other), None);
        }
    }
}
