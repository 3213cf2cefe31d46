//! The `rest` catalog: a server that speaks Iceberg's REST protocol names the newest metadata of each table.
//!
//! A client of our own on the wire types of `iceberg-catalog-rest`, whose client folds every answer that is not a
//! success into one error. Here each answer is judged by what it proves of a commit (protocol §4, column `rest`). The
//! server applies updates to *its* newest metadata while the requirements hold: table uuid, the ref's snapshot id and,
//! checked by the server, the sequence number are the fence.

mod auth;
mod catalog;
mod client;
mod commit;
mod credentials;
mod failure;
mod oauth2;
mod stores;
mod terms;
mod vending;
mod visible;
mod wire;

pub use catalog::RestCatalog;
pub use client::Patience;
pub use credentials::{StorageCredential, credential_for};
