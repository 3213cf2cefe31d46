//! The files of a table: all there, none twice.

use std::collections::{HashMap, HashSet};

use futures::{StreamExt, stream};
use iceberg::spec::{Manifest, ManifestFile, ManifestStatus};
use iceberg::table::Table;
use sha2::{Digest, Sha256};

use super::Verdict;
use crate::error::Result;
use crate::maintenance::names::Names;
use crate::maintenance::{reach, walk};
use crate::storage::Store;

/// Data files that are asked for at the same time.
const ASKED_AT_ONCE: usize = 32;

/// What was seen so far. A file is remembered by a hash that cannot collide: 16 bytes each.
struct Seen<'v> {
    verdict: &'v mut Verdict,
    names: &'v mut Names,
    kept: HashSet<i64>,
    /// Manifests of the current snapshot.
    current: HashSet<String>,
    /// Files that the current snapshot lists.
    listed: HashSet<u128>,
    /// Files, and the snapshot that added each.
    added: HashMap<u128, i64>,
    /// Files that were asked for.
    asked: HashSet<u128>,
}

/// Checks every file that a kept snapshot names.
pub(super) async fn check(
    table: &Table,
    store: &Store,
    names: &mut Names,
    verdict: &mut Verdict,
) -> Result<()> {
    let kept = reach::kept(table, &[]);
    let mut seen = Seen {
        verdict,
        names,
        kept: kept.iter().map(|snapshot| snapshot.snapshot_id()).collect(),
        current: HashSet::new(),
        listed: HashSet::new(),
        added: HashMap::new(),
        asked: HashSet::new(),
    };
    seen.ask_metadata(table, store).await?;
    let mut manifests: HashMap<String, ManifestFile> = HashMap::new();
    let current = table.metadata().current_snapshot_id();
    let mut lists = walk::lists(table, kept);
    while let Some((snapshot, listed)) = lists.next().await {
        seen.names.insert(snapshot.manifest_list());
        let what = format!("The manifest list of snapshot {}", snapshot.snapshot_id());
        let Some(listed) = seen
            .readable(store, &what, snapshot.manifest_list(), listed)
            .await?
        else {
            continue;
        };
        for manifest in listed {
            let path = manifest.manifest_path.clone();
            let is_current = Some(snapshot.snapshot_id()) == current;
            seen.verdict.cost.listed_manifests += u64::from(is_current);
            if is_current && !seen.current.insert(path.clone()) {
                let twice = format!("The current snapshot lists the manifest {path} twice.");
                seen.verdict.wrong(twice);
            }
            seen.names.insert(&path);
            manifests.insert(path, manifest);
        }
    }
    let mut contents = walk::contents(table, manifests.into_values());
    while let Some((file, manifest)) = contents.next().await {
        let path = file.manifest_path.clone();
        if let Some(manifest) = seen.readable(store, "A manifest", &path, manifest).await? {
            seen.verdict.manifests += 1;
            seen.take_in(&path, &manifest);
            seen.ask(store, &manifest).await?;
        }
    }
    Ok(())
}

impl Seen<'_> {
    /// What was read; else a finding that says whether the file is missing or cannot be read.
    async fn readable<T>(
        &mut self,
        store: &Store,
        what: &str,
        location: &str,
        read: Result<T>,
    ) -> Result<Option<T>> {
        let error = match read {
            Ok(read) => return Ok(Some(read)),
            Err(error) => error,
        };
        let stat = match store.key(location) {
            Ok(key) => store.stat(key).await?,
            Err(_outside) => {
                self.outside(location);
                return Ok(None);
            }
        };
        self.verdict.wrong(match stat {
            None => format!("{what} is missing: {location}."),
            Some(_) => format!("{what} cannot be read: {}", error.report()),
        });
        Ok(None)
    }

    /// Asks for the size of the metadata file, which was read already.
    async fn ask_metadata(&mut self, table: &Table, store: &Store) -> Result<()> {
        let Some(location) = table.metadata_location() else {
            return Ok(());
        };
        match store.key(location) {
            Ok(key) => {
                let stat = store.stat(key).await?;
                self.verdict.cost.metadata_bytes = stat.map(|object| object.byte_count);
            }
            Err(_outside) => self.outside(location),
        }
        Ok(())
    }

    fn outside(&mut self, location: &str) {
        self.verdict.unseen(format!(
            "{location} lies outside the table's store and was not asked for."
        ));
    }

    /// Looks for files that are there twice.
    fn take_in(&mut self, path: &str, manifest: &Manifest) {
        let is_current = self.current.contains(path);
        for entry in manifest.entries() {
            let file = entry.file_path();
            if reach::is_needed(entry, &self.kept) {
                self.names.insert(file);
            }
            if !entry.is_alive() {
                continue;
            }
            let hash = hash(file);
            if is_current && !self.listed.insert(hash) {
                let twice = format!("The current snapshot lists {file} twice: its rows are there twice.");
                self.verdict.wrong(twice);
            }
            let Some(snapshot) = entry
                .snapshot_id()
                .filter(|_| entry.status() == ManifestStatus::Added)
            else {
                continue;
            };
            match self.added.insert(hash, snapshot) {
                Some(other) if other != snapshot => self
                    .verdict
                    .wrong(format!("Two snapshots, {other} and {snapshot}, added {file}.")),
                _ => {}
            }
        }
    }

    /// Asks the store for the files that were not asked for yet.
    async fn ask(&mut self, store: &Store, manifest: &Manifest) -> Result<()> {
        let mut files = Vec::new();
        for entry in manifest.entries() {
            let needed = reach::is_needed(entry, &self.kept);
            if needed && self.asked.insert(hash(entry.file_path())) {
                files.push((entry.file_path().to_owned(), entry.file_size_in_bytes()));
            }
        }
        let mut answers = stream::iter(files)
            .map(|(file, size)| async move {
                let found = match store.key(&file) {
                    Ok(key) => Ok(store.stat(key).await),
                    Err(outside) => Err(outside),
                };
                (file, size, found)
            })
            .buffer_unordered(ASKED_AT_ONCE);
        while let Some((file, size, found)) = answers.next().await {
            match found {
                Err(_outside) => self.outside(&file),
                Ok(found) => match found? {
                    None => self.verdict.wrong(format!("A data file is missing: {file}.")),
                    Some(object) if object.byte_count != size => self.verdict.wrong(format!(
                        "A data file has {} bytes, but its manifest says {size}: {file}.",
                        object.byte_count
                    )),
                    Some(_) => self.verdict.data_files += 1,
                },
            }
        }
        Ok(())
    }
}

fn hash(file: &str) -> u128 {
    let digest: [u8; 32] = Sha256::digest(file.as_bytes()).into();
    let (head, _) = digest.split_at(16);
    head.iter().fold(0, |hash, byte| (hash << 8) | u128::from(*byte))
}
