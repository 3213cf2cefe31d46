//! The overwrite: every row of a part of the table goes, and new files come, in one snapshot.
//!
//! It replaces what it saw at its base, the load that it was begun on. Tolerated: whatever happens outside the part, and
//! manifests that others rewrote, as long as the part holds the very files that were there at the base. Refused: a data
//! or delete file that came into the part or left it since, by whom ever, compactions and other instances of ours
//! included; and what an append does not tolerate of schema and spec (`append.rs`). Every attempt holds its own head
//! against the base before it is sent, so a rebase never replaces rows that nobody looked at.
//!
//! A data file lies in the part, or outside, by its partition values, of whatever spec. Where those cannot say, nothing
//! is done: as Java's `OverwriteFiles` does. Delete files of the part go with its data; those that may be for other rows
//! as well stay, and reach no new row, since they are older.
//!
//! Whether an overwrite landed is the ledger's to say, as for an append. One without deliveries is remembered by its
//! commit id, as if it were one.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use futures::future::try_join_all;
use iceberg::spec::{DataContentType, DataFile, ManifestEntryRef, ManifestFile, Struct};
use iceberg::table::Table;
use uuid::Uuid;

use super::manifests::{self, Encoded};
use super::part::{Part, Share};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{Entry, Space};
use crate::random::Random;

/// Manifests that are read at one time.
const READ_AT_ONCE: usize = 8;

/// What is replaced, and what is known of it, kept over all attempts.
#[derive(Debug)]
pub(super) struct Overwrite {
    part: Part,
    /// The files of the part at the base.
    base: HashSet<String>,
    /// What was found in each manifest, by its path: manifests never change.
    looked: HashMap<String, Looked>,
}

/// What a manifest holds of the part.
#[derive(Debug)]
struct Looked {
    /// The live files that are in the part, or that may delete rows of it.
    files: Vec<String>,
    successor: Option<Successor>,
}

/// The manifest that takes another's place: the files of the part are deleted in it, all others as they were.
#[derive(Debug)]
struct Successor {
    manifest: ManifestFile,
    removed: Removed,
    /// Its file, until it is durable.
    pending: Option<Encoded>,
}

/// What an overwrite takes away, for the snapshot's summary.
#[derive(Debug, Default, Clone)]
pub(super) struct Removed {
    data_files: u64,
    records: u64,
    bytes: u64,
    position_delete_files: u64,
    position_deletes: u64,
    equality_delete_files: u64,
    equality_deletes: u64,
    pub(super) partitions: HashSet<Struct>,
}

impl Overwrite {
    /// Looks at the part in the manifests of the base. Reads every one of them.
    pub(super) async fn of(
        part: Part,
        table: &Table,
        manifests: &[ManifestFile],
        random: &Random,
    ) -> Result<Self> {
        let mut overwrite = Self {
            part,
            base: HashSet::new(),
            looked: HashMap::new(),
        };
        overwrite.look(table, manifests, random).await?;
        overwrite.base = overwrite.files_in(manifests).map(str::to_owned).collect();
        Ok(overwrite)
    }

    /// Looks at the manifests that it does not know, and holds the part against the base.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] when the part is no longer what it was at the base.
    pub(super) async fn validate(
        &mut self,
        table: &Table,
        manifests: &[ManifestFile],
        random: &Random,
    ) -> Result<()> {
        self.look(table, manifests, random).await?;
        let now: HashSet<&str> = self.files_in(manifests).collect();
        let what = match now.iter().find(|file| !self.base.contains(**file)) {
            Some(_) => "files came into",
            None if now.len() < self.base.len() => "files left",
            None => return Ok(()),
        };
        Err(Error::new(
            ErrorKind::Rejected,
            format!("Since the overwrite was begun, {what} the part that it replaces; begin it anew."),
        )
        .with("table", table.identifier()))
    }

    /// Checks that a new file lies in the part, so that what is added is what the next overwrite of the part replaces.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`].
    pub(super) fn check_new(&self, table: &Table, files: &[DataFile]) -> Result<()> {
        let spec = table.metadata().default_partition_spec();
        let outside = |file: &&DataFile| self.part.share(spec, file.partition()) != Share::All;
        match files.iter().find(outside) {
            None => Ok(()),
            Some(file) => Err(Error::new(
                ErrorKind::Rejected,
                "A new file of the overwrite is not in the part that it replaces; widen the part, or append it.",
            )
            .with("table", table.identifier())
            .with("file", file.file_path())),
        }
    }

    /// Puts the successors in the places of the manifests that they follow, and says what is removed with it.
    pub(super) fn apply(&self, manifests: &mut [ManifestFile]) -> Removed {
        let mut removed = Removed::default();
        for manifest in manifests {
            if let Some(successor) = self.successor(manifest) {
                removed.add(&successor.removed);
                *manifest = successor.manifest.clone();
            }
        }
        removed
    }

    /// The successors' files that are not durable yet.
    pub(super) fn pending(&self, manifests: &[ManifestFile]) -> impl Iterator<Item = &Encoded> {
        let successors = manifests.iter().filter_map(|manifest| self.successor(manifest));
        successors.filter_map(|successor| successor.pending.as_ref())
    }

    /// The successors of these manifests are durable now, and later attempts list them as they are.
    pub(super) fn settled(&mut self, manifests: &[ManifestFile]) {
        for manifest in manifests {
            let looked = self.looked.get_mut(&manifest.manifest_path);
            if let Some(successor) = looked.and_then(|looked| looked.successor.as_mut()) {
                successor.pending = None;
            }
        }
    }

    fn successor(&self, manifest: &ManifestFile) -> Option<&Successor> {
        self.looked.get(&manifest.manifest_path)?.successor.as_ref()
    }

    fn files_in(&self, manifests: &[ManifestFile]) -> impl Iterator<Item = &str> {
        let looked = manifests
            .iter()
            .filter_map(|manifest| self.looked.get(&manifest.manifest_path));
        looked.flat_map(|looked| looked.files.iter().map(String::as_str))
    }

    async fn look(&mut self, table: &Table, manifests: &[ManifestFile], random: &Random) -> Result<()> {
        let unknown: Vec<&ManifestFile> = manifests
            .iter()
            .filter(|manifest| !self.looked.contains_key(&manifest.manifest_path))
            .collect();
        for some in unknown.chunks(READ_AT_ONCE) {
            let looks = some
                .iter()
                .map(|manifest| look_at(&self.part, table, manifest, random));
            let paths = some.iter().map(|manifest| manifest.manifest_path.clone());
            self.looked.extend(paths.zip(try_join_all(looks).await?));
        }
        Ok(())
    }
}

/// The entry by which the ledger knows an overwrite that brings no deliveries.
pub(super) fn entry_of(commit_id: Uuid) -> Entry {
    Entry {
        space: Space::Request,
        index_time: 0,
        id: commit_id.as_u128(),
        value: Bytes::new(),
    }
}

async fn look_at(part: &Part, table: &Table, manifest: &ManifestFile, random: &Random) -> Result<Looked> {
    let read = manifests::read(table, manifest).await?;
    let spec = read.metadata().partition_spec();
    let (mut files, mut kept, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for entry in read.entries().iter().filter(|entry| entry.is_alive()) {
        let file = entry.data_file();
        let share = part.share(spec, file.partition());
        if share == Share::Unknown && file.content_type() == DataContentType::Data {
            return Err(Error::new(
                ErrorKind::Rejected,
                "A data file of an older partition spec may hold rows of the replaced part and others. Write the older \
                 files again with the table's spec (Spark: `CALL system.rewrite_data_files`), or replace the whole table.",
            )
            .with("table", table.identifier())
            .with("file", file.file_path()));
        }
        if share != Share::None {
            files.push(file.file_path().to_owned());
        }
        match share {
            Share::All => gone.push(entry.clone()),
            Share::Unknown | Share::None => kept.push(entry.clone()),
        }
    }
    let successor = if gone.is_empty() {
        None
    } else {
        let encoded = manifests::encode_successor(table, manifest, read.metadata(), &kept, &gone, random);
        let (successor, file) = encoded.await?;
        Some(Successor {
            manifest: successor,
            removed: Removed::of(&gone),
            pending: Some(file),
        })
    };
    Ok(Looked { files, successor })
}

impl Removed {
    fn of(gone: &[ManifestEntryRef]) -> Self {
        let mut removed = Self::default();
        for file in gone.iter().map(|entry| entry.data_file()) {
            let (files, rows) = match file.content_type() {
                DataContentType::Data => (&mut removed.data_files, &mut removed.records),
                DataContentType::PositionDeletes => {
                    (&mut removed.position_delete_files, &mut removed.position_deletes)
                }
                DataContentType::EqualityDeletes => {
                    (&mut removed.equality_delete_files, &mut removed.equality_deletes)
                }
            };
            *files = files.saturating_add(1);
            *rows = rows.saturating_add(file.record_count());
            removed.bytes = removed.bytes.saturating_add(file.file_size_in_bytes());
            removed.partitions.insert(file.partition().clone());
        }
        removed
    }

    fn add(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.data_files, other.data_files),
            (&mut self.records, other.records),
            (&mut self.bytes, other.bytes),
            (&mut self.position_delete_files, other.position_delete_files),
            (&mut self.position_deletes, other.position_deletes),
            (&mut self.equality_delete_files, other.equality_delete_files),
            (&mut self.equality_deletes, other.equality_deletes),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.partitions.extend(other.partitions.iter().cloned());
    }

    /// As Java names them.
    pub(super) fn fields(&self) -> [(&'static str, u64); 8] {
        let delete_files = self
            .position_delete_files
            .saturating_add(self.equality_delete_files);
        [
            ("deleted-data-files", self.data_files),
            ("deleted-records", self.records),
            ("removed-files-size", self.bytes),
            ("removed-delete-files", delete_files),
            ("removed-position-delete-files", self.position_delete_files),
            ("removed-position-deletes", self.position_deletes),
            ("removed-equality-delete-files", self.equality_delete_files),
            ("removed-equality-deletes", self.equality_deletes),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables remember it: if it changes, an overwrite whose outcome is unknown over the upgrade is done twice.
    #[test]
    fn entry_is_the_same_in_every_version() {
        let id = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;
        let expected = Entry {
            space: Space::Request,
            index_time: 0,
            id,
            value: Bytes::new(),
        };
        assert_eq!(entry_of(Uuid::from_u128(id)), expected);
    }
}
