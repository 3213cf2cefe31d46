//! Commit: data files become a snapshot, atomically, or not at all.
//!
//! One engine for every kind of change, over the `iceberg` crate's manifest and metadata writers but not its
//! transactions, which rebase silently and cannot tell an unknown outcome from a failure. A change set is turned into
//! requirements and updates against one load of the table, and sent as one conditional commit (invariant 6).
//!
//! The step numbers in comments are those of the exactly-once protocol: load (4), check (5), life (7), send (7),
//! anything but *Committed* goes back to the load (8). Nothing is ever deleted on a failed attempt.

mod alter;
mod append;
mod attempt;
mod backoff;
mod beside;
mod change_set;
mod columns;
mod engine;
mod format;
mod group;
mod head;
mod manifests;
mod merge;
mod nested;
mod overwrite;
mod part;
mod retention;
mod riding;
mod summary;
mod table_commit;
mod turn;
mod witness;

#[cfg(test)]
mod tests;

pub use alter::Alteration;
pub use append::validate as validate_append;
pub use backoff::Backoff;
pub use change_set::ChangeSet;
pub use engine::{Committed, Engine, too_late};
pub use format::check as check_format;
pub use group::Group;
pub use head::Head;
pub use part::Part;
pub(crate) use retention::{AT_MOST_AT_UPKEEP, is_gc_off};
pub use summary::{state_of, total_records};

/// Summary property: the process that made the snapshot, by a number that it drew. Says how many share the table.
pub const WRITER: &str = "landfast.writer";
/// Summary property: the change set that made the snapshot.
pub const COMMIT_ID: &str = "landfast.commit-id";
/// Summary property: how many deliveries the commit added to the ledger.
pub const DELIVERY_COUNT: &str = "landfast.delivery-count";
/// Summary property: why the ledger holds other than its parent and this commit's deliveries, `forget` or `repair`.
pub const LEDGER_REWRITTEN: &str = "landfast.ledger-rewritten";
