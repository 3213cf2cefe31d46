//! Catalog: where a table's current metadata is named, and the one conditional write that moves it.
//!
//! The trait stands beside its backends; one conformance suite (`tests/catalog/`) runs on all of them.
//! Keeps invariant 6: a commit carries requirements against the state it was computed from.

mod biglake;
mod memory;
mod rest;
mod sql;
mod storage;

use std::fmt::Debug;

use async_trait::async_trait;
use iceberg::spec::{TableMetadata, TableMetadataRef};
use iceberg::table::Table;
use iceberg::{NamespaceIdent, Runtime, TableCreation, TableIdent, TableRequirement, TableUpdate};

pub use biglake::BigLakeCatalog;
pub use memory::MemoryCatalog;
pub use rest::{Patience, RestCatalog, StorageCredential, credential_for};
pub use sql::SqlCatalog;
pub use storage::StorageCatalog;
pub(crate) use storage::{VERSION_HINT, version_of};

use crate::error::{Error, ErrorKind, Result};
use crate::storage::Store;

/// One atomic change of a table's metadata: what must still hold, and what to change.
#[derive(Debug, Clone)]
pub struct TableCommit {
    /// What the table must still be for the updates to apply.
    pub requirements: Vec<TableRequirement>,
    /// The changes, applied together or not at all.
    pub updates: Vec<TableUpdate>,
}

/// What became of a commit. Only [`Outcome::Committed`] says that the table moved.
#[derive(Debug)]
pub enum Outcome {
    /// The commit is durable, and this is the table after it.
    Committed(Box<Table>),
    /// This request did not apply now; never that no copy of it applied. Load again, check again.
    Conflict(Error),
    /// Nobody knows whether the commit applied. Load again, check again.
    OutcomeUnknown(Error),
    /// The commit can never apply as it is. Stop, and surface it.
    Rejected(Error),
}

impl Outcome {
    /// The table after a commit that applied, or an error whose kind says what the variant says, so that whoever decides
    /// by kind decides rightly. An error of another kind becomes the cause: a table that cannot be opened after its
    /// commit is [`ErrorKind::OutcomeUnknown`], and never [`ErrorKind::Unavailable`], which means that nothing was sent.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`], [`ErrorKind::OutcomeUnknown`]; of a rejected commit [`ErrorKind::NotFound`],
    /// [`ErrorKind::TableMismatch`] and [`ErrorKind::Rejected`].
    pub fn into_result(self) -> Result<Table> {
        let (error, kinds, message): (_, &[ErrorKind], _) = match self {
            Self::Committed(table) => return Ok(*table),
            Self::Conflict(error) => (
                error,
                &[ErrorKind::Conflict],
                "The commit did not apply to the table as it is now.",
            ),
            Self::OutcomeUnknown(error) => (
                error,
                &[ErrorKind::OutcomeUnknown],
                "It is not known whether the commit applied.",
            ),
            Self::Rejected(error) => (
                error,
                &[ErrorKind::Rejected, ErrorKind::NotFound, ErrorKind::TableMismatch],
                "The commit can never apply as it is.",
            ),
        };
        match kinds.first() {
            Some(kind) if !kinds.contains(&error.kind()) => {
                Err(Error::new(*kind, message).with_source(error))
            }
            _ => Err(error),
        }
    }
}

/// A place that names the current metadata of tables.
///
/// Every method may be called from any number of processes at once.
#[async_trait]
pub trait Catalog: Debug + Send + Sync {
    /// Makes a namespace if it is absent; repeating it changes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] for a name that the catalog cannot hold, or where we may not make it;
    /// [`ErrorKind::Conflict`] and [`ErrorKind::Unavailable`]: make it again.
    async fn create_namespace(&self, namespace: &NamespaceIdent) -> Result<()>;

    /// Forgets a namespace without tables. One that has some, or is not there, stays as it is. Only `check` asks for that,
    /// of its own.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] where we may not, [`ErrorKind::Unavailable`]: ask again.
    async fn drop_namespace(&self, _namespace: &NamespaceIdent) -> Result<()> {
        Ok(())
    }

    /// Lists the tables directly in a namespace, in order of name; none where there is no such namespace.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] for a name that the catalog cannot hold, [`ErrorKind::Unavailable`]: ask again.
    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>>;

    /// Makes a table. Field ids are assigned anew: read them back from the result.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] when the name is taken: load it.
    async fn create_table(&self, namespace: &NamespaceIdent, creation: TableCreation) -> Result<Table>;

    /// Loads the newest metadata of a table. Strongly consistent: a commit that was answered is seen.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such table.
    async fn load_table(&self, table: &TableIdent) -> Result<Table>;

    /// Loads a table as [`Catalog::load_table`] does; `None` when there is no such table.
    ///
    /// # Errors
    /// The others of [`Catalog::load_table`].
    async fn find_table(&self, table: &TableIdent) -> Result<Option<Table>> {
        match self.load_table(table).await {
            Ok(table) => Ok(Some(table)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Forgets a table; its files stay until they are swept.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such table, [`ErrorKind::Conflict`] when it moved meanwhile.
    async fn drop_table(&self, table: &TableIdent) -> Result<()>;

    /// Applies a commit to the table exactly as `base` was loaded: all of it or nothing, and durable when
    /// [`Outcome::Committed`], which is also seen by every load from then on.
    ///
    /// `base` is the fence: of the commits computed from one load at most one applies, whichever process sent it and
    /// however often it is sent (but see [`Catalog::fences_by_snapshot`]). A backend never takes a commit to a newer state
    /// by itself: to try again is for whoever loads the table again.
    ///
    /// - [`Outcome::Committed`]: this is the table after it. Said only on proof, never because nothing contradicts it.
    /// - [`Outcome::Conflict`]: this request did not apply now. It does not say that no earlier copy of it did, as one that a
    ///   proxy repeats; the ledger of the next load does.
    /// - [`Outcome::OutcomeUnknown`]: it may have applied, may apply later, or was never sent. Whatever proves nothing is
    ///   this, also an error that nobody has met yet. Files of the commit must stay.
    /// - [`Outcome::Rejected`]: it did not apply and never can as it is, so that to send it again is of no use.
    ///
    /// A dropped future leaves what [`Outcome::OutcomeUnknown`] leaves. [`Outcome::into_result`] gives the error by whose
    /// kind a caller decides.
    async fn commit_table(&self, base: &Table, commit: TableCommit) -> Outcome;

    /// Whether only a moved snapshot fences: the backend applies a commit to its newest metadata while the requirements
    /// hold, so that two commits from one load exclude each other only where both move the ref that they require.
    ///
    /// A load whose metadata location moved does not decide earlier attempts then; one whose snapshot moved does. And no
    /// data is committed where there is no snapshot yet: that fence can come back, so an empty snapshot goes first
    /// (protocol §4, null fence).
    fn fences_by_snapshot(&self) -> bool {
        false
    }

    /// The largest metadata that the backend takes, as JSON. Commits let go of more snapshots where a table nears it, and one
    /// that would pass it is refused before it is sent.
    fn max_metadata_bytes(&self) -> Option<usize> {
        None
    }

    /// The store of a table's files, where it need not be the warehouse.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] for a table that is in no store of ours.
    fn store_of(&self, _table: &Table) -> Result<Option<Store>> {
        Ok(None)
    }

    /// Writes now what was put off for other readers. Called when the process stops; nothing depends on it.
    async fn settle(&self) {}
}

/// Checks the requirements against the base and applies the updates to it.
fn apply(base: &Table, commit: TableCommit) -> Result<TableMetadata, Outcome> {
    for requirement in &commit.requirements {
        if let Err(error) = requirement.check(Some(base.metadata())) {
            return Err(Outcome::Conflict(
                Error::new(
                    ErrorKind::Conflict,
                    "The table is no longer what the commit was computed from.",
                )
                .with("table", base.identifier())
                .with_source(error),
            ));
        }
    }
    let invalid = |error: iceberg::Error| {
        Outcome::Rejected(
            Error::new(ErrorKind::Rejected, "The changes do not fit the table.")
                .with("table", base.identifier())
                .with_source(error),
        )
    };
    let location = base.metadata_location().map(str::to_owned);
    let mut builder = base.metadata().clone().into_builder(location);
    for update in commit.updates {
        builder = update.apply(builder).map_err(invalid)?;
    }
    Ok(builder.build().map_err(invalid)?.metadata)
}

/// Builds the crate's table over a store; its scans run on the current runtime.
fn open_table(
    warehouse: &Store,
    ident: &TableIdent,
    metadata: impl Into<TableMetadataRef>,
    location: String,
) -> Result<Table> {
    let built = Runtime::try_current().and_then(|runtime| {
        Table::builder()
            .identifier(ident.clone())
            .metadata(metadata)
            .metadata_location(location)
            .file_io(warehouse.file_io())
            // Manifests are read once, by the engine, which keeps what it needs of them.
            .disable_cache()
            .runtime(runtime)
            .build()
    });
    built.map_err(|error| {
        Error::new(ErrorKind::Unavailable, "The table cannot be opened.")
            .with("table", ident)
            .with_source(error)
    })
}

/// The base names no state of the catalog that is asked to commit on it.
fn foreign_base(table: &TableIdent) -> Outcome {
    let message = "The base of the commit was not loaded from this catalog.";
    Outcome::Rejected(Error::new(ErrorKind::Rejected, message).with("table", table))
}

fn lost_race(table: &TableIdent) -> Outcome {
    let message = "Another commit moved the table first.";
    Outcome::Conflict(Error::new(ErrorKind::Conflict, message).with("table", table))
}

fn moved_while_dropped(table: &TableIdent) -> Error {
    let message = "The table moved while it was being dropped; drop it again.";
    Error::new(ErrorKind::Conflict, message).with("table", table)
}

fn not_found(table: &TableIdent) -> Error {
    Error::new(ErrorKind::NotFound, "There is no such table.").with("table", table)
}

fn already_exists(table: &TableIdent) -> Error {
    Error::new(ErrorKind::AlreadyExists, "A table of this name exists already.").with("table", table)
}

fn creation_metadata(creation: TableCreation, table: &TableIdent) -> Result<TableMetadata> {
    iceberg::spec::TableMetadataBuilder::from_table_creation(creation)
        .and_then(|builder| builder.build())
        .map(|built| built.metadata)
        .map_err(|error| {
            Error::new(
                ErrorKind::Rejected,
                "The table cannot be made as it is described.",
            )
            .with("table", table)
            .with_source(error)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_told_by_an_error_of_its_kind() {
        use ErrorKind::{Conflict, NotFound, OutcomeUnknown, Rejected, TableMismatch, Unavailable};
        type Variant = fn(Error) -> Outcome;
        let cases: [(Variant, ErrorKind, ErrorKind); 10] = [
            (Outcome::Conflict, Conflict, Conflict),
            (Outcome::Conflict, Unavailable, Conflict),
            (Outcome::OutcomeUnknown, OutcomeUnknown, OutcomeUnknown),
            (Outcome::OutcomeUnknown, Unavailable, OutcomeUnknown),
            (Outcome::OutcomeUnknown, Rejected, OutcomeUnknown),
            (Outcome::Rejected, Rejected, Rejected),
            (Outcome::Rejected, NotFound, NotFound),
            (Outcome::Rejected, TableMismatch, TableMismatch),
            (Outcome::Rejected, Unavailable, Rejected),
            (Outcome::Rejected, OutcomeUnknown, Rejected),
        ];
        for (variant, kind, told) in cases {
            let outcome =
                variant(Error::new(kind, "The table cannot be opened.").with("table", "shop.orders"));
            let error = outcome.into_result().err();
            assert_eq!(error.as_ref().map(Error::kind), Some(told), "{kind:?}");
            let report = error.map(|error| error.report()).unwrap_or_default();
            assert!(
                report.ends_with("The table cannot be opened. (table: shop.orders)"),
                "{report}"
            );
        }
    }
}
