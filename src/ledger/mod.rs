//! Ledger: which deliveries a table already holds.
//!
//! Every commit of ours adds its delivery ids to the table's ledger in the same atomic commit as the rows (protocol §2).
//! The ledger is a chain of immutable *heads*, one per commit, that name immutable *segments*; one table property points
//! to the newest head and moves only together with a snapshot of ours. A redelivery is found by its id, whenever it
//! comes and whatever became of the snapshots since (invariant 2).
//!
//! Files lie in the warehouse's `_landfast/ledger/<table uuid>/`, outside every table's folder, where no engine's
//! orphan cleaner looks. A head that is missing or damaged stops the table, a segment the deliveries that have to be
//! looked for in it; neither ever counts as empty.

mod audit;
mod cache;
mod entry;
mod forget;
mod head;
mod kept;
mod mark;
mod merge;
mod segment;
mod state;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

use std::time::Duration;

use uuid::Uuid;

pub use self::audit::{Audit, Found};
pub use self::cache::Ledger;
pub use self::entry::{Entry, Space};
pub use self::forget::Forgetting;
pub use self::head::{LedgerHead, SegmentRef};
pub use self::kept::{Kept, KeptAnswer};
pub use self::mark::is_mark;
pub use self::merge::Merge;
pub(crate) use self::state::sequence_of;
pub use self::state::{Addition, Known, LedgerState, NextHead};

use crate::error::{Error, ErrorKind};

/// Table property that points to the newest head of branch `main`'s ledger.
pub const POINTER: &str = "landfast.ledger.main";
/// Summary property: the head that came with the snapshot.
pub const SUMMARY_HEAD: &str = "landfast.ledger";
/// Summary property: the number of that head.
pub const SUMMARY_SEQUENCE: &str = "landfast.ledger-seq";

/// How long a message id is remembered, unless the table says otherwise: Pub/Sub's longest usual retention of 7 days,
/// and a day.
pub const DEFAULT_RETENTION: Duration = Duration::from_secs(8 * 24 * 3600);

/// The newest version of the files' format that this version of landfast reads, and the one that it writes.
const FORMAT_VERSION: u32 = 1;

/// The folder of a table's ledger, under the warehouse.
pub fn folder(table: Uuid) -> String {
    format!("_landfast/ledger/{table}")
}

/// Fail closed (protocol §7): without its memory a table takes no rows.
fn damaged(what: &str, location: &str) -> Error {
    Error::new(
        ErrorKind::Rejected,
        format!(
            "{what} of the table's ledger is missing or damaged. What cannot be known without it is not committed until \
             it is mended: `landfast ledger repair --table` and its name."
        ),
    )
    .with("location", location)
}
