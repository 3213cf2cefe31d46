//! The tables of a JDBC catalog, and the statements on them.
//!
//! Version 1 of the layout has a column `iceberg_type`, which tells tables from views; databases that Java made by
//! default have version 0, without it. Both are used as they are found, and never migrated.

use super::database::Database;
use super::failure::Failure;
use crate::error::{Error, ErrorKind, Result};

const CREATE_TABLES: &str = "CREATE TABLE IF NOT EXISTS iceberg_tables (\
     catalog_name VARCHAR(255) NOT NULL, \
     table_namespace VARCHAR(255) NOT NULL, \
     table_name VARCHAR(255) NOT NULL, \
     metadata_location VARCHAR(1000), \
     previous_metadata_location VARCHAR(1000), \
     iceberg_type VARCHAR(5), \
     PRIMARY KEY (catalog_name, table_namespace, table_name))";

const CREATE_NAMESPACES: &str = "CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (\
     catalog_name VARCHAR(255) NOT NULL, \
     namespace VARCHAR(255) NOT NULL, \
     property_key VARCHAR(255) NOT NULL, \
     property_value VARCHAR(1000), \
     PRIMARY KEY (catalog_name, namespace, property_key))";

const TYPE_COLUMN: &str = "iceberg_type";

const OF_TABLE: &str = "catalog_name = $1 AND table_namespace = $2 AND table_name = $3";

/// As in Java, a row without a type is a table's.
const IS_TABLE: &str = "AND (iceberg_type = 'TABLE' OR iceberg_type IS NULL)";

/// The statements for the layout that a database has. Values are bound in the order given.
#[derive(Debug, Clone)]
pub(super) struct Statements {
    /// Values: catalog, namespace, table. Gives the metadata location.
    pub(super) load: String,
    /// Values: catalog, namespace. Gives the tables' names, in order.
    pub(super) list: String,
    /// Values: catalog, namespace, table, metadata location.
    pub(super) insert: String,
    /// Values: catalog, namespace, table, old and new metadata location.
    pub(super) commit: String,
    /// Values: catalog, namespace, table, metadata location.
    pub(super) delete: String,
}

/// Java's marker of a namespace without properties. Values: catalog, namespace.
pub(super) const INSERT_NAMESPACE: &str = "INSERT INTO iceberg_namespace_properties \
     (catalog_name, namespace, property_key, property_value) VALUES ($1, $2, 'exists', 'true') \
     ON CONFLICT DO NOTHING";

/// Leaves one that has tables. Values: catalog, namespace.
pub(super) const DELETE_NAMESPACE: &str = "DELETE FROM iceberg_namespace_properties \
     WHERE catalog_name = $1 AND namespace = $2 AND NOT EXISTS \
     (SELECT 1 FROM iceberg_tables WHERE catalog_name = $1 AND table_namespace = $2)";

impl Statements {
    fn new(has_type: bool) -> Self {
        let is_table = if has_type { IS_TABLE } else { "" };
        let (type_column, type_value) = if has_type {
            (", iceberg_type", ", 'TABLE'")
        } else {
            ("", "")
        };
        Self {
            load: format!("SELECT metadata_location FROM iceberg_tables WHERE {OF_TABLE} {is_table}"),
            list: format!(
                "SELECT table_name FROM iceberg_tables WHERE catalog_name = $1 AND table_namespace = $2 {is_table} \
                 ORDER BY table_name"
            ),
            insert: format!(
                "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location, \
                 previous_metadata_location{type_column}) VALUES ($1, $2, $3, $4, NULL{type_value})"
            ),
            commit: format!(
                "UPDATE iceberg_tables SET metadata_location = $5, previous_metadata_location = $4 \
                 WHERE {OF_TABLE} AND metadata_location = $4 {is_table}"
            ),
            delete: format!(
                "DELETE FROM iceberg_tables WHERE {OF_TABLE} AND metadata_location = $4 {is_table}"
            ),
        }
    }
}

/// Makes SQLite's file and the catalog's tables where they are missing, finds out their version, and checks that
/// commits are durable.
///
/// # Errors
/// [`ErrorKind::Config`] when the database answers before a commit is durable; [`ErrorKind::Unavailable`] when it gives
/// no connection; [`ErrorKind::Rejected`] when the tables are missing and may not be made.
pub(super) async fn prepare(database: &Database) -> Result<Statements> {
    database.make_file().await.map_err(no_answer)?;
    check_durability(database).await?;
    let mut columns = Vec::new();
    for (table, create) in [
        ("iceberg_namespace_properties", CREATE_NAMESPACES),
        ("iceberg_tables", CREATE_TABLES),
    ] {
        columns = columns_of(database, table).await?;
        if columns.is_empty() {
            // Tables are looked for first, since a user who may not make them may still use them.
            let created = database.execute(create, &[]).await;
            columns = columns_of(database, table).await?;
            // Of two processes that make a table at once, PostgreSQL fails one; what counts is that it is there.
            if let Err(failure) = created
                && columns.is_empty()
            {
                return Err(failure
                    .into_error("The catalog's tables cannot be made.")
                    .with("table", table));
            }
        }
    }
    Ok(Statements::new(
        columns.iter().any(|column| column == TYPE_COLUMN),
    ))
}

async fn check_durability(database: &Database) -> Result<()> {
    if let Database::Sqlite(_) = database {
        return Ok(());
    }
    let settings = "SELECT current_setting('synchronous_commit'), current_setting('fsync')";
    let rows = database.fetch(settings, &[]).await.map_err(no_answer)?;
    let settings: Vec<&str> = rows.iter().flatten().flatten().map(String::as_str).collect();
    match settings.as_slice() {
        ["off", _] => Err(Error::new(
            ErrorKind::Config,
            "PostgreSQL would answer before a commit is durable: something between here and the server drops the \
             setting synchronous_commit=on. Connect directly, or through a pooler that keeps a session's settings.",
        )),
        [_, "off"] => {
            tracing::warn!("PostgreSQL runs with fsync=off: a power failure there may lose commits.");
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The names of a table's columns; none when there is no such table.
async fn columns_of(database: &Database, table: &str) -> Result<Vec<String>> {
    let sql = match database {
        Database::Postgres(_) => {
            "SELECT CAST(attname AS TEXT) FROM pg_attribute \
             WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped"
        }
        Database::Sqlite(_) => "SELECT name FROM pragma_table_info($1)",
    };
    let rows = database.fetch(sql, &[table]).await.map_err(no_answer)?;
    Ok(rows.into_iter().flatten().flatten().collect())
}

fn no_answer(failure: Failure) -> Error {
    failure.into_error("The catalog's database cannot be used.")
}
