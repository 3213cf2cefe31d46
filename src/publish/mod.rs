//! Publish: an external table of BigQuery follows each published table's metadata pointer.
//!
//! It comes after the acknowledgement and holds nobody up: a commit only leaves a note (`Publishers::committed`), and one
//! task per table and process follows. However many commits there were, it moves the pointer once, to the newest.
//!
//! **The pointer never goes backwards**, whatever processes and people move it. A step reads the external table first
//! (its etag E, its URI U), *then* loads the table from the catalog (location L), and patches to L only if the etag is
//! still E. Whoever set U had loaded the catalog before that, so L is not older than U. Whoever moves the pointer between
//! our read and our patch makes E another, the patch is refused (412), and the step begins anew. A patch whose answer never
//! came is no different: it can still land only where the etag is E, and then nobody has moved the pointer since. The
//! catalog must answer a load with a state no older than any that it answered before; all of them do.
//!
//! An external table that reads another table's metadata is left alone, unless a person hands it over (`claim.rs`).
//!
//! A table is changed at most five times in ten seconds, creation included, whoever does it: this process keeps 2.5 s
//! between its own changes, and leaves an external table alone that anybody changed less than 2.5 s ago.

mod claim;
mod client;
mod columns;
mod dataset;
mod failure;
mod follower;
mod pointer;
mod probe;
mod publishers;
mod reconcile;
mod waiting;

#[cfg(test)]
mod tests;

pub use follower::PublishStatus;
pub use pointer::NO_TABLE;
pub use probe::Probe;
pub use publishers::{Publication, Publishers};
pub use reconcile::{Reconciled, reconcile};
pub use waiting::Note;
