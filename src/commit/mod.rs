//! Commit: data files become a snapshot, atomically, or not at all.
//!
//! One engine for every kind of change, over the `iceberg` crate's manifest and metadata writers but not its
//! transactions, which rebase silently and cannot tell an unknown outcome from a failure. A change set is turned into
//! requirements and updates against one load of the table, and sent as one conditional commit (invariant 6).
//!
//! The step numbers in comments are those of the exactly-once protocol: load (4), check (5), life (7), send (7),
//! anything but *Committed* goes back to the load (8). Nothing is ever deleted on a failed attempt.

mod append;
mod backoff;
mod engine;
mod summary;

use iceberg::spec::{DataFile, ManifestFile};
use iceberg::table::Table;
use uuid::Uuid;

pub use append::validate as validate_append;
pub use backoff::Backoff;
pub use engine::{Engine, Reloaded, too_late};

use crate::trigger::DeliveryId;

/// Summary property: the change set that made the snapshot.
pub const COMMIT_ID: &str = "landfast.commit-id";
/// Summary property: how many deliveries the snapshot holds rows of.
pub const DELIVERY_COUNT: &str = "landfast.delivery-count";

/// A delivery whose rows a change set carries, as the table's ledger will know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeliveryEntry {
    /// 128 bits of the delivery id's hash.
    pub id: u128,
    /// Seconds since the Unix epoch, a pure function of the id.
    pub index_time: i64,
}

impl From<&DeliveryId> for DeliveryEntry {
    fn from(id: &DeliveryId) -> Self {
        Self {
            id: id.hash(),
            index_time: id.index_time(),
        }
    }
}

/// One atomic change of a table, kept over all attempts to commit it.
///
/// Kind: append. Tolerates any concurrent change that leaves the table's identity, its partition spec and the columns
/// of the files in place; see [`validate_append`].
#[derive(Debug)]
pub struct ChangeSet {
    commit_id: Uuid,
    data_files: Vec<DataFile>,
    /// How many of the data files the manifests below already list.
    listed: usize,
    /// Manifests of the new files, written once and reused: entries inherit sequence number and snapshot id.
    manifests: Vec<ManifestFile>,
    deliveries: Vec<DeliveryEntry>,
}

impl ChangeSet {
    /// Makes an empty append.
    pub fn append(commit_id: Uuid) -> Self {
        Self {
            commit_id,
            data_files: Vec::new(),
            listed: 0,
            manifests: Vec::new(),
            deliveries: Vec::new(),
        }
    }

    /// Adds durable data files and the deliveries whose rows they hold.
    ///
    /// Only between attempts whose outcome is known: an attempt that may yet land must not be smaller than what its
    /// commit id stands for.
    pub fn add(
        &mut self,
        files: impl IntoIterator<Item = DataFile>,
        deliveries: impl IntoIterator<Item = DeliveryEntry>,
    ) {
        self.data_files.extend(files);
        self.deliveries.extend(deliveries);
    }

    /// The id in the snapshot's summary.
    pub fn commit_id(&self) -> Uuid {
        self.commit_id
    }

    /// The deliveries whose rows the change set carries.
    pub fn deliveries(&self) -> &[DeliveryEntry] {
        &self.deliveries
    }

    /// Rows in the data files.
    pub fn row_count(&self) -> u64 {
        self.data_files.iter().map(DataFile::record_count).sum()
    }

    /// How many data files there are.
    pub fn file_count(&self) -> usize {
        self.data_files.len()
    }

    /// Bytes of the data files.
    pub fn byte_count(&self) -> u64 {
        self.data_files.iter().map(DataFile::file_size_in_bytes).sum()
    }
}

/// A load of the table, and the manifests of its current snapshot once someone needed them.
///
/// A head may be stale: the commit's fence makes that harmless.
#[derive(Debug, Clone)]
pub struct Head {
    table: Table,
    manifests: Option<Vec<ManifestFile>>,
}

impl Head {
    /// Makes a head of a loaded table.
    pub fn new(table: Table) -> Self {
        Self {
            table,
            manifests: None,
        }
    }

    /// The table as it was loaded.
    pub fn table(&self) -> &Table {
        &self.table
    }
}
