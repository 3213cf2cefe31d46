//! One attempt: change set and head in, one conditional commit out.

use std::sync::Arc;

use iceberg::spec::{
    MAIN_BRANCH, ManifestFile, ManifestListWriter, ManifestWriterBuilder, Snapshot, SnapshotReference,
    SnapshotRetention, UNASSIGNED_SEQUENCE_NUMBER,
};
use iceberg::table::Table;
use iceberg::{TableIdent, TableRequirement, TableUpdate};
use tokio::time::Instant;

use super::{Backoff, COMMIT_ID, ChangeSet, Head, append, summary};
use crate::catalog::{Catalog, Outcome, TableCommit};
use crate::clock::Clock;
use crate::error::{Action, Error, ErrorKind, Result};
use crate::random::Random;

/// Commits change sets to the tables of one catalog.
#[derive(Debug, Clone)]
pub struct Engine {
    catalog: Arc<dyn Catalog>,
    clock: Arc<dyn Clock>,
    random: Arc<Random>,
}

/// What a load after an attempt that did not say *Committed* shows.
#[derive(Debug)]
pub enum Reloaded {
    /// An earlier attempt did land, as this snapshot.
    Landed(i64),
    /// The fence moved without us: earlier attempts are decided, none of them landed or ever will.
    Moved,
    /// The fence did not move: an earlier attempt may yet land, and excludes the next one, which has the same fence.
    Unmoved,
}

impl Engine {
    /// Makes the engine.
    pub fn new(catalog: Arc<dyn Catalog>, clock: Arc<dyn Clock>, random: Arc<Random>) -> Self {
        Self {
            catalog,
            clock,
            random,
        }
    }

    /// The catalog that commits go to.
    pub fn catalog(&self) -> &Arc<dyn Catalog> {
        &self.catalog
    }

    /// Sends the change set once, as one commit on top of `head`, and returns the new snapshot's id.
    ///
    /// On `Ok` every file of the change set is in the table, durably and exactly once by this attempt, and `head` is
    /// the table after it. Data files must be durable before the call.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] and [`ErrorKind::OutcomeUnknown`]: [`Engine::reload`], then attempt again.
    /// [`ErrorKind::Rejected`]: never again. [`ErrorKind::Unavailable`]: a file of the attempt could not be written,
    /// nothing was sent.
    pub async fn attempt(&self, head: &mut Head, changes: &mut ChangeSet) -> Result<i64> {
        self.write_manifest(&head.table, changes).await?;
        let existing = self.manifests(head).await?;
        let snapshot_id = self
            .random
            .snapshot_id(|id| head.table.metadata().snapshot_by_id(id).is_some());
        let sequence_number = head.table.metadata().next_sequence_number();
        // Newest first, as Java lists them.
        let manifests: Vec<ManifestFile> = changes
            .manifests
            .iter()
            .map(|manifest| inherit(manifest, snapshot_id, sequence_number))
            .chain(existing)
            .collect();
        let list = self
            .write_list(&head.table, snapshot_id, sequence_number, &manifests)
            .await?;
        let commit = self.table_commit(&head.table, changes, snapshot_id, sequence_number, list);
        match self.catalog.commit_table(&head.table, commit).await {
            Outcome::Committed(table) => {
                *head = Head {
                    table: *table,
                    manifests: Some(manifests),
                };
                Ok(snapshot_id)
            }
            Outcome::Conflict(error) | Outcome::OutcomeUnknown(error) | Outcome::Rejected(error) => {
                Err(error)
            }
        }
    }

    /// Loads the table again after an attempt that did not say *Committed* (step 8 back to step 4), and checks that the
    /// change set may still be committed.
    ///
    /// Until the ledger decides, a snapshot that carries the commit id proves that an attempt landed; its absence
    /// proves nothing once snapshots expire, and then a row may land twice.
    ///
    /// # Errors
    /// Those of [`Catalog::load_table`], and [`ErrorKind::TableMismatch`] when the change set no longer fits.
    pub async fn reload(&self, head: &mut Head, changes: &ChangeSet) -> Result<Reloaded> {
        let table = self.catalog.load_table(head.table.identifier()).await?;
        let commit_id = changes.commit_id.to_string();
        let landed = table
            .metadata()
            .snapshots()
            .find(|snapshot| snapshot.summary().additional_properties.get(COMMIT_ID) == Some(&commit_id))
            .map(|snapshot| snapshot.snapshot_id());
        let moved = table.metadata_location() != head.table.metadata_location();
        if landed.is_none() {
            append::validate(&head.table, &table)?;
        }
        if moved {
            *head = Head::new(table);
        }
        Ok(match landed {
            Some(snapshot_id) => Reloaded::Landed(snapshot_id),
            None if moved => Reloaded::Moved,
            None => Reloaded::Unmoved,
        })
    }

    /// Waits, and reloads until the load succeeds or the deadline is too near for another attempt.
    ///
    /// # Errors
    /// Those of [`Engine::reload`] but [`ErrorKind::Unavailable`], which is tried again; [`too_late`] with `error`, the
    /// reason of the last failure, as its cause.
    pub async fn reload_within(
        &self,
        head: &mut Head,
        changes: &ChangeSet,
        backoff: &mut Backoff,
        deadline: Instant,
        mut error: Error,
    ) -> Result<Reloaded> {
        loop {
            let wait = backoff.next(&self.random);
            if Instant::now() + wait >= deadline {
                // Step 10: stop, and delete nothing. Whoever does this work next is safe either way.
                return Err(too_late(head.table.identifier())
                    .with("attempts", backoff.attempts())
                    .with_source(error));
            }
            tokio::time::sleep(wait).await;
            match self.reload(head, changes).await {
                Ok(reloaded) => return Ok(reloaded),
                Err(failed) if failed.kind() == ErrorKind::Unavailable => error = failed,
                Err(failed) => return Err(failed),
            }
        }
    }

    /// Attempts until the change set is in the table, something says that it never can be, or the deadline is over.
    ///
    /// # Errors
    /// Those of [`Engine::attempt`] and [`Engine::reload_within`].
    pub async fn commit(&self, head: &mut Head, changes: &mut ChangeSet, deadline: Instant) -> Result<i64> {
        let mut backoff = Backoff::default();
        loop {
            let error = match self.attempt(head, changes).await {
                Ok(snapshot_id) => return Ok(snapshot_id),
                Err(error) if error.kind().action() == Action::Retry => error,
                Err(error) => return Err(error),
            };
            let reloading = self.reload_within(head, changes, &mut backoff, deadline, error);
            if let Reloaded::Landed(snapshot_id) = reloading.await? {
                return Ok(snapshot_id);
            }
        }
    }

    /// Writes a manifest of the data files that none lists yet.
    async fn write_manifest(&self, table: &Table, changes: &mut ChangeSet) -> Result<()> {
        let unlisted = changes.data_files.get(changes.listed..).unwrap_or_default();
        if unlisted.is_empty() {
            return Ok(());
        }
        let metadata = table.metadata();
        let location = format!("{}/metadata/{}-m0.avro", metadata.location(), self.random.uuid());
        let written = async {
            let output = table.file_io().new_output(&location)?;
            let spec = metadata.default_partition_spec().as_ref().clone();
            let mut writer =
                ManifestWriterBuilder::new(output, None, metadata.current_schema().clone(), spec)
                    .build_v2_data();
            for file in unlisted {
                writer.add_file(file.clone(), UNASSIGNED_SEQUENCE_NUMBER)?;
            }
            writer.write_manifest_file().await
        };
        let manifest = written
            .await
            .map_err(|error| unavailable("The manifest", &location, error))?;
        changes.manifests.push(manifest);
        changes.listed = changes.data_files.len();
        Ok(())
    }

    /// The manifests of the head's current snapshot: remembered from the last commit, else read.
    async fn manifests(&self, head: &mut Head) -> Result<Vec<ManifestFile>> {
        if let Some(manifests) = &head.manifests {
            return Ok(manifests.clone());
        }
        let manifests = match head.table.metadata().current_snapshot() {
            None => Vec::new(),
            Some(snapshot) => head
                .table
                .manifest_list_reader(snapshot)
                .load()
                .await
                .map_err(|error| unavailable("The manifest list", snapshot.manifest_list(), error))?
                .entries()
                .to_vec(),
        };
        head.manifests = Some(manifests.clone());
        Ok(manifests)
    }

    /// Writes the manifest list of this attempt under a name that no attempt had.
    async fn write_list(
        &self,
        table: &Table,
        snapshot_id: i64,
        sequence_number: i64,
        manifests: &[ManifestFile],
    ) -> Result<String> {
        let metadata = table.metadata();
        let name = format!("snap-{snapshot_id}-1-{}.avro", self.random.uuid());
        let location = format!("{}/metadata/{name}", metadata.location());
        let written = async {
            let output = table.file_io().new_output(&location)?.writer().await?;
            let parent = metadata.current_snapshot_id();
            let mut list = ManifestListWriter::v2(output, snapshot_id, parent, sequence_number);
            list.add_manifests(manifests.iter().cloned())?;
            list.close().await
        };
        written
            .await
            .map_err(|error| unavailable("The manifest list", &location, error))?;
        Ok(location)
    }

    fn table_commit(
        &self,
        table: &Table,
        changes: &ChangeSet,
        snapshot_id: i64,
        sequence_number: i64,
        manifest_list: String,
    ) -> TableCommit {
        let metadata = table.metadata();
        let parent = metadata.current_snapshot();
        let snapshot = Snapshot::builder()
            .with_snapshot_id(snapshot_id)
            .with_parent_snapshot_id(parent.map(|parent| parent.snapshot_id()))
            .with_sequence_number(sequence_number)
            // A slow clock must not block commits.
            .with_timestamp_ms(
                self.clock
                    .now()
                    .timestamp_millis()
                    .max(metadata.last_updated_ms()),
            )
            .with_manifest_list(manifest_list)
            .with_summary(summary::append(changes, parent.map(|parent| parent.summary())))
            .with_schema_id(metadata.current_schema_id())
            .build();
        let reference = SnapshotReference::new(snapshot_id, SnapshotRetention::branch(None, None, None));
        TableCommit {
            requirements: vec![
                TableRequirement::UuidMatch {
                    uuid: metadata.uuid(),
                },
                TableRequirement::RefSnapshotIdMatch {
                    r#ref: MAIN_BRANCH.to_owned(),
                    snapshot_id: metadata.current_snapshot_id(),
                },
                TableRequirement::CurrentSchemaIdMatch {
                    current_schema_id: metadata.current_schema_id(),
                },
                TableRequirement::DefaultSpecIdMatch {
                    default_spec_id: metadata.default_partition_spec_id(),
                },
            ],
            updates: vec![
                TableUpdate::AddSnapshot { snapshot },
                TableUpdate::SetSnapshotRef {
                    ref_name: MAIN_BRANCH.to_owned(),
                    reference,
                },
            ],
        }
    }
}

/// A new manifest as this attempt's snapshot lists it: the file itself does not name the snapshot.
fn inherit(manifest: &ManifestFile, snapshot_id: i64, sequence_number: i64) -> ManifestFile {
    ManifestFile {
        added_snapshot_id: snapshot_id,
        sequence_number,
        min_sequence_number: sequence_number,
        ..manifest.clone()
    }
}

/// The error of a commit that ran out of time.
pub fn too_late(table: &TableIdent) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "The commit did not get through before its deadline; deliver it again.",
    )
    .with("table", table)
}

fn unavailable(what: &str, location: &str, error: iceberg::Error) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        format!("{what} cannot be read or written."),
    )
    .with("location", location)
    .with_source(error)
}
