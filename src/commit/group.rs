//! Groups: data files and the deliveries whose rows they hold.

use iceberg::spec::{DataFile, ManifestFile};

use crate::error::Result;
use crate::ledger::Entry;
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
