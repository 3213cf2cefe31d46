//! What a commit changes, kept over all attempts to commit it.

use iceberg::spec::{DataFile, ManifestFile};
use uuid::Uuid;

use crate::clock::Moment;
use crate::error::Result;
use crate::ledger::{Entry, Known, LedgerHead};
use crate::write::PendingFiles;

/// Data files and the deliveries whose rows they hold: what is written, and if need be left out, together.
#[derive(Debug)]
pub struct Group {
    deliveries: Vec<Entry>,
    files: Vec<DataFile>,
    /// Files of this group that are still on their way to the store.
    pending: Option<PendingFiles>,
    /// The manifest of the files, written once and reused: its entries inherit sequence number and snapshot id.
    pub(super) manifest: Option<ManifestFile>,
}

impl Group {
    /// Files that are durable already.
    pub fn durable(files: Vec<DataFile>, deliveries: Vec<Entry>) -> Self {
        Self {
            deliveries,
            files,
            pending: None,
            manifest: None,
        }
    }

    /// Files on their way; an attempt waits for them before it is sent.
    pub fn pending(pending: PendingFiles, deliveries: Vec<Entry>) -> Self {
        Self {
            deliveries,
            files: pending.files().to_vec(),
            pending: Some(pending),
            manifest: None,
        }
    }

    /// The deliveries whose rows the files hold.
    pub fn deliveries(&self) -> &[Entry] {
        &self.deliveries
    }

    pub(super) fn files(&self) -> &[DataFile] {
        &self.files
    }

    /// Waits until the files are durable (protocol, step 3).
    pub(super) async fn settle(&mut self) -> Result<()> {
        match self.pending.take() {
            Some(pending) => pending.durable().await.map(drop),
            None => Ok(()),
        }
    }
}

/// What a change set does to the table, and with it which concurrent changes it tolerates. Overwrite and row delta will
/// stand here too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Adds files. Tolerates any concurrent change that leaves the table's identity, its partition spec and the columns
    /// of the files in place; see [`validate_append`](super::validate_append).
    Append,
    /// Adds a snapshot of the same rows, which moves the fence, and lets go every snapshot whose time is over. Reads
    /// nothing, so it tolerates everything.
    Upkeep {
        /// What the ledger is to hold instead of what the head's ledger holds, and why. Holds for one head only: attempt
        /// it on that head, and compute it anew after a conflict.
        ledger: Option<(&'static str, Box<LedgerHead>)>,
    },
}

/// One atomic change of a table, kept over all attempts to commit it.
#[derive(Debug)]
pub struct ChangeSet {
    kind: Kind,
    commit_id: Uuid,
    begun: Moment,
    retention: std::time::Duration,
    groups: Vec<Group>,
}

impl ChangeSet {
    /// Makes an empty append. `begun` is when its first file was begun: a change set older than a day is given up.
    pub fn append(commit_id: Uuid, begun: Moment) -> Self {
        Self {
            kind: Kind::Append,
            commit_id,
            begun,
            retention: crate::ledger::DEFAULT_RETENTION,
            groups: Vec::new(),
        }
    }

    /// Makes a change set without rows: an empty snapshot that moves the fence and lets old snapshots go.
    pub fn upkeep(commit_id: Uuid, begun: Moment) -> Self {
        Self {
            kind: Kind::Upkeep { ledger: None },
            ..Self::append(commit_id, begun)
        }
    }

    /// Makes upkeep after which the ledger holds what `ledger` says, whatever it held; `why` goes into the snapshot's
    /// summary. For one attempt, on the head that `ledger` was computed from.
    pub fn rewriting_ledger(commit_id: Uuid, begun: Moment, why: &'static str, ledger: LedgerHead) -> Self {
        let ledger = Some((why, Box::new(ledger)));
        Self {
            kind: Kind::Upkeep { ledger },
            // Whoever mends a ledger knows nothing of how long the table's writers want it: nothing is forgotten for age.
            retention: std::time::Duration::MAX,
            ..Self::append(commit_id, begun)
        }
    }

    /// Sets how long the table's ledger remembers messages.
    #[must_use]
    pub fn with_retention(mut self, retention: std::time::Duration) -> Self {
        self.retention = retention;
        self
    }

    /// Adds data files with the deliveries whose rows they hold. A delivery's rows for the table are all in one group
    /// (protocol, step 2).
    pub fn add(&mut self, group: Group) {
        self.groups.push(group);
    }

    /// Replaces a group whose files must be written again without some deliveries; `None` leaves it out.
    pub fn replace(&mut self, place: usize, group: Option<Group>) {
        if place < self.groups.len() {
            self.groups.splice(place..=place, group);
        }
    }

    /// Leaves out the groups of which every delivery is in the table already.
    ///
    /// `known` is the ledger's answer for [`ChangeSet::deliveries`], in order. Groups without deliveries stay.
    pub fn drop_landed(&mut self, known: &[Known]) {
        let mut known = known.iter();
        self.groups.retain(|group| {
            let mut answers = known.by_ref().take(group.deliveries.len()).peekable();
            let landed = answers.peek().is_some() && answers.all(|known| matches!(known, Known::Landed(_)));
            !landed
        });
    }

    /// Whether there is nothing to commit.
    pub(super) fn is_empty(&self) -> bool {
        self.kind == Kind::Append && self.groups.is_empty()
    }

    pub(super) fn is_upkeep(&self) -> bool {
        self.kind != Kind::Append
    }

    /// What the ledger is to hold instead, and why.
    pub(super) fn ledger(&self) -> Option<(&'static str, &LedgerHead)> {
        match &self.kind {
            Kind::Upkeep {
                ledger: Some((why, head)),
            } => Some((why, head)),
            _ => None,
        }
    }

    /// The id in the snapshot's summary.
    pub fn commit_id(&self) -> Uuid {
        self.commit_id
    }

    pub(super) fn begun(&self) -> Moment {
        self.begun
    }

    pub(super) fn retention(&self) -> std::time::Duration {
        self.retention
    }

    /// Its groups.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    pub(super) fn groups_mut(&mut self) -> &mut [Group] {
        &mut self.groups
    }

    /// The deliveries whose rows the change set carries, group by group.
    pub fn deliveries(&self) -> Vec<Entry> {
        self.groups
            .iter()
            .flat_map(|group| group.deliveries.iter().cloned())
            .collect()
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &DataFile> {
        self.groups.iter().flat_map(|group| &group.files)
    }

    /// Data files.
    pub fn file_count(&self) -> u64 {
        self.files().count() as u64
    }

    /// Rows in the data files.
    pub fn row_count(&self) -> u64 {
        self.files().map(DataFile::record_count).sum()
    }

    /// Bytes of the data files.
    pub fn byte_count(&self) -> u64 {
        self.files().map(DataFile::file_size_in_bytes).sum()
    }
}
