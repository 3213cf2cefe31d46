//! Tables whose metadata location is a row of a database.

use std::io::Read;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use iceberg::spec::TableMetadata;
use iceberg::table::Table;
use iceberg::{NamespaceIdent, TableCreation, TableIdent};

use super::super::{
    Catalog, Outcome, TableCommit, already_exists, apply, creation_metadata, foreign_base, lost_race,
    moved_while_dropped, not_found, open_table,
};
use super::database::Database;
use super::failure::{Failure, Verdict};
use super::layout::{self, DELETE_NAMESPACE, INSERT_NAMESPACE, Statements};
use crate::config::DatabaseUri;
use crate::decode::Compression;
use crate::error::{Error, ErrorKind, Result};
use crate::random::Random;
use crate::storage::Store;

/// Tables named by a PostgreSQL or SQLite database, which other engines may write too.
///
/// ```no_run
/// # use std::sync::Arc;
/// use landfast::catalog::{Catalog, SqlCatalog};
/// use landfast::random::Random;
/// use landfast::storage::Store;
///
/// # async fn example() -> landfast::error::Result<()> {
/// let warehouse = Store::open("file:///lake/warehouse")?;
/// let uri = "sqlite:///lake/catalog.db".parse()?;
/// let catalog = SqlCatalog::open(&uri, "landfast", warehouse, Arc::new(Random::from_os())).await?;
/// let tables = catalog.list_tables(&iceberg::NamespaceIdent::new("shop".to_owned())).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SqlCatalog {
    database: Database,
    statements: Statements,
    name: String,
    warehouse: Store,
    random: Arc<Random>,
}

impl SqlCatalog {
    /// Connects to the database, and makes the catalog's tables where there are none.
    ///
    /// `name` is the catalog's in the database's rows: engines see each other's tables under the same name only.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the database does not answer, [`ErrorKind::Rejected`] when it does not let us,
    /// [`ErrorKind::Config`] when it would answer before a commit is durable.
    pub async fn open(
        uri: &DatabaseUri,
        name: impl Into<String>,
        warehouse: Store,
        random: Arc<Random>,
    ) -> Result<Self> {
        let database = Database::new(uri)?;
        let statements = layout::prepare(&database)
            .await
            .map_err(|error| error.with("database", uri).with("hint", "see `catalog.uri`"))?;
        Ok(Self {
            database,
            statements,
            name: name.into(),
            warehouse,
            random,
        })
    }

    /// Reads the metadata location of a table from its row.
    async fn location(&self, ident: &TableIdent) -> Result<Option<String>> {
        let namespace = namespace_text(ident.namespace())?;
        let rows = self
            .database
            .fetch(&self.statements.load, &[&self.name, &namespace, ident.name()])
            .await
            .map_err(|failure| {
                failure
                    .into_error("The table cannot be looked up in the catalog.")
                    .with("table", ident)
            })?;
        match rows.into_iter().next() {
            None => Ok(None),
            Some(row) => row.into_iter().next().flatten().map(Some).ok_or_else(|| {
                Error::new(ErrorKind::Rejected, "The table's row names no metadata file.")
                    .with("table", ident)
            }),
        }
    }

    async fn read_metadata(&self, ident: &TableIdent, location: &str) -> Result<TableMetadata> {
        let key = self
            .warehouse
            .key(location)
            .map_err(|error| error.with("table", ident))?;
        // The row may have moved on, and a cleaner deleted the file, since it was read: another look may succeed.
        let bytes = self.warehouse.get(key).await?.ok_or_else(|| {
            Error::new(
                ErrorKind::Unavailable,
                "The table's metadata file is missing. Bring it back from a backup.",
            )
            .with("table", ident)
            .with("location", location)
        })?;
        parse_metadata(&bytes).map_err(|error| {
            Error::new(
                ErrorKind::Rejected,
                "The table's metadata file cannot be understood: it is damaged. Bring it back from a backup.",
            )
            .with("table", ident)
            .with("location", location)
            .with_source(error)
        })
    }

    /// Writes metadata under a name that no state had; durable on `Ok`. Gives its location.
    async fn write_metadata(
        &self,
        ident: &TableIdent,
        number: u64,
        metadata: &TableMetadata,
    ) -> Result<String> {
        let table = metadata.location().trim_end_matches('/');
        let location = format!(
            "{table}/metadata/{number:05}-{}.metadata.json",
            self.random.uuid()
        );
        let key = self
            .warehouse
            .key(&location)
            .map_err(|error| error.with("table", ident))?;
        let bytes = serde_json::to_vec(metadata).map_err(|error| {
            Error::new(
                ErrorKind::Rejected,
                "The table's metadata cannot be written as JSON.",
            )
            .with("table", ident)
            .with_source(error)
        })?;
        self.warehouse.put(key, Bytes::from(bytes)).await?;
        Ok(location)
    }

    /// Moves the row from one metadata file to the next; the one step that commits.
    async fn swap(&self, ident: &TableIdent, old: &str, new: &str) -> Result<(), Outcome> {
        let namespace = namespace_text(ident.namespace()).map_err(Outcome::Rejected)?;
        let values = [&self.name, &namespace, ident.name(), old, new];
        let failure = match self.database.execute(&self.statements.commit, &values).await {
            Ok(1) => return Ok(()),
            Ok(_none) => {
                return Err(lost_race(ident));
            }
            Err(failure) => failure,
        };
        let verdict = failure.verdict();
        let (kind, message) = match (verdict, &failure) {
            (Verdict::Conflict, _) => (
                ErrorKind::Conflict,
                "Another transaction was in the way of the commit.",
            ),
            (Verdict::Rejected | Verdict::Duplicate, _) => {
                (ErrorKind::Rejected, "The database refuses the commit.")
            }
            // Not sent, so not committed; but to load again and try again is what it takes, as for the unknown.
            (Verdict::Unknown, Failure::NotSent(_)) => (
                ErrorKind::OutcomeUnknown,
                "The database gave no connection for the commit.",
            ),
            (Verdict::Unknown, _) => (
                ErrorKind::OutcomeUnknown,
                "The database did not say what became of the commit.",
            ),
        };
        let error = Error::new(kind, message)
            .with("table", ident)
            .with_source(failure.into_error("The statement failed."));
        Err(match kind {
            ErrorKind::Conflict => Outcome::Conflict(error),
            ErrorKind::Rejected => Outcome::Rejected(error),
            _ => Outcome::OutcomeUnknown(error),
        })
    }
}

#[async_trait]
impl Catalog for SqlCatalog {
    /// Sets Java's marker of a namespace; a namespace that has it already, or gets it meanwhile, stays as it is.
    async fn create_namespace(&self, namespace: &NamespaceIdent) -> Result<()> {
        let text = namespace_text(namespace)?;
        let inserted = self
            .database
            .execute(INSERT_NAMESPACE, &[&self.name, &text])
            .await;
        inserted.map(drop).map_err(|failure| {
            failure
                .into_error("The namespace cannot be made.")
                .with("namespace", text)
        })
    }

    async fn drop_namespace(&self, namespace: &NamespaceIdent) -> Result<()> {
        let text = namespace_text(namespace)?;
        let values = [self.name.as_str(), &text];
        let deleted = self.database.execute(DELETE_NAMESPACE, &values).await;
        deleted.map(drop).map_err(|failure| {
            failure
                .into_error("The namespace cannot be dropped.")
                .with("namespace", text)
        })
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        let text = namespace_text(namespace)?;
        let rows = self
            .database
            .fetch(&self.statements.list, &[&self.name, &text])
            .await
            .map_err(|failure| {
                failure
                    .into_error("The tables cannot be listed.")
                    .with("namespace", text)
            })?;
        let mut names: Vec<String> = rows.into_iter().flatten().flatten().collect();
        // Databases order by their own collations.
        names.sort();
        Ok(names
            .into_iter()
            .map(|name| TableIdent::new(namespace.clone(), name))
            .collect())
    }

    /// The metadata file is durable before the row names it. A race that is lost leaves the file behind.
    async fn create_table(&self, namespace: &NamespaceIdent, mut creation: TableCreation) -> Result<Table> {
        let ident = TableIdent::new(namespace.clone(), creation.name.clone());
        let namespace = namespace_text(namespace)?;
        if self.location(&ident).await?.is_some() {
            return Err(already_exists(&ident));
        }
        if creation.location.is_none() {
            let folder = format!("{}/{}", ident.namespace().as_ref().join("/"), ident.name());
            creation.location = Some(self.warehouse.url(&folder));
        }
        let metadata = creation_metadata(creation, &ident)?;
        let location = self.write_metadata(&ident, 0, &metadata).await?;
        let values = [&self.name, &namespace, ident.name(), &location];
        match self.database.execute(&self.statements.insert, &values).await {
            Ok(_one) => open_table(&self.warehouse, &ident, metadata, location),
            Err(failure) if failure.verdict() == Verdict::Duplicate => {
                Err(already_exists(&ident).with_source(failure.into_error("The database has a row of it.")))
            }
            Err(failure) => Err(failure
                .into_error("The table cannot be made.")
                .with("table", ident)),
        }
    }

    async fn load_table(&self, ident: &TableIdent) -> Result<Table> {
        let location = self.location(ident).await?.ok_or_else(|| not_found(ident))?;
        let metadata = self.read_metadata(ident, &location).await?;
        open_table(&self.warehouse, ident, metadata, location)
    }

    async fn drop_table(&self, ident: &TableIdent) -> Result<()> {
        let location = self.location(ident).await?.ok_or_else(|| not_found(ident))?;
        let namespace = namespace_text(ident.namespace())?;
        let values = [&self.name, &namespace, ident.name(), &location];
        match self.database.execute(&self.statements.delete, &values).await {
            Ok(1) => Ok(()),
            Ok(_none) => Err(moved_while_dropped(ident)),
            Err(failure) => Err(failure
                .into_error("The table cannot be dropped.")
                .with("table", ident)),
        }
    }

    async fn commit_table(&self, base: &Table, commit: TableCommit) -> Outcome {
        let ident = base.identifier();
        let Some(old) = base.metadata_location() else {
            return foreign_base(ident);
        };
        let metadata = match apply(base, commit) {
            Ok(metadata) => metadata,
            Err(outcome) => return outcome,
        };
        let new = match self
            .write_metadata(
                ident,
                number_of(old).map_or(0, |number| number.saturating_add(1)),
                &metadata,
            )
            .await
        {
            Ok(location) => location,
            Err(error) if error.kind() == ErrorKind::Rejected => return Outcome::Rejected(error),
            Err(error) => {
                return Outcome::OutcomeUnknown(
                    Error::new(
                        ErrorKind::OutcomeUnknown,
                        "The metadata file was not written; nothing was sent.",
                    )
                    .with("table", ident)
                    .with_source(error),
                );
            }
        };
        // The file is durable before the row names it: whoever reads the row must find it.
        if let Err(outcome) = self.swap(ident, old, &new).await {
            return outcome;
        }
        match open_table(&self.warehouse, ident, metadata, new) {
            Ok(table) => Outcome::Committed(Box::new(table)),
            Err(error) => Outcome::OutcomeUnknown(error),
        }
    }
}

/// A namespace as the rows have it: its levels, separated by dots.
fn namespace_text(namespace: &NamespaceIdent) -> Result<String> {
    let levels: &[String] = namespace.as_ref();
    if levels.iter().any(|level| level.is_empty() || level.contains('.')) {
        return Err(Error::new(
            ErrorKind::Rejected,
            "A namespace's level is empty or has a dot, which a row cannot tell from two.",
        )
        .with("namespace", levels.join(".")));
    }
    Ok(levels.join("."))
}

/// Parses a metadata file, compressed or not: some writers say so in the middle of its name, some at the end.
fn parse_metadata(bytes: &[u8]) -> std::io::Result<TableMetadata> {
    if Compression::of(bytes) != Some(Compression::Gzip) {
        return Ok(serde_json::from_slice(bytes)?);
    }
    let mut plain = Vec::new();
    MultiGzDecoder::new(bytes).read_to_end(&mut plain)?;
    Ok(serde_json::from_slice(&plain)?)
}

/// The number in `…/<number>-<uuid>.metadata.json`.
fn number_of(location: &str) -> Option<u64> {
    let (_, name) = location.rsplit_once('/')?;
    name.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_from_what_other_writers_left() {
        for (location, number) in [
            ("file:/w/t/metadata/00012-0c5d.metadata.json", Some(12)),
            ("file:/w/t/metadata/100000-0c5d.gz.metadata.json", Some(100_000)),
            ("file:/w/t/metadata/v7.metadata.json", None),
            ("file:/w/t/metadata/x-1.metadata.json", None),
            ("", None),
        ] {
            assert_eq!(number_of(location), number, "{location}");
        }
    }

    #[test]
    fn levels_that_rows_cannot_tell_apart_are_refused() {
        let text = |levels: &[&str]| namespace_text(&NamespaceIdent::from_strs(levels).unwrap());
        assert_eq!(text(&["shop", "eu"]).unwrap(), "shop.eu");
        assert_eq!(text(&["shop.eu"]).unwrap_err().kind(), ErrorKind::Rejected);
        assert_eq!(text(&["shop", ""]).unwrap_err().kind(), ErrorKind::Rejected);
    }
}
