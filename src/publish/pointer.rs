//! One step: look where the pointer is, and move it. Why it never goes backwards is said in `super`.

use std::time::Duration;

use iceberg::TableIdent;
use iceberg::table::Table;
use serde_json::Value;

use super::client::{BigQuery, External};
use super::columns::{Columns, columns};
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::config::BigQueryConfig;
use crate::error::{Error, ErrorKind, Result};

/// The least time between two changes of an external table: BigQuery takes five in ten seconds.
pub(super) const PACE: Duration = Duration::from_millis(2500);

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// The external table reads the newest metadata already.
    Current,
    Moved,
    Created,
    /// Somebody changed it a moment ago: come again then.
    Young(Duration),
    /// It does not take the columns: come again, and leave them.
    ColumnsRefused,
    /// There is no table to follow.
    NoTable,
}

impl Step {
    /// The outcome's name in metrics and results.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Moved => "moved",
            Self::Created => "created",
            Self::Young(_) => "young",
            Self::ColumnsRefused => "columns_refused",
            Self::NoTable => "no_table",
        }
    }
}

/// Where a published table's pointer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Look {
    /// There is no table to follow.
    NoTable,
    /// There is no external table; it would be made.
    Missing,
    /// It reads the newest metadata.
    Current,
    /// It reads other metadata.
    Behind,
}

/// Looks, and changes nothing.
///
/// # Errors
/// Those of BigQuery and of the catalog.
pub(super) async fn look(
    to: &BigQueryConfig,
    catalog: &dyn Catalog,
    ident: &TableIdent,
    clock: std::sync::Arc<dyn Clock>,
) -> Result<Look> {
    let found = BigQuery::new(clock)?.find(to).await?;
    let Some(table) = catalog.find_table(ident).await? else {
        return Ok(Look::NoTable);
    };
    let newest = location(ident, &table)?;
    Ok(match found {
        None => Look::Missing,
        Some(found) if found.uri == newest => Look::Current,
        Some(_) => Look::Behind,
    })
}

/// What a follower remembers from one step to the next.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The etag of its last move, of whose time it knows better than a header that tells seconds.
    own: String,
    /// Columns that BigQuery did not take.
    refused: Option<Vec<Value>>,
}

/// Moves the pointer to the newest metadata, or makes the external table.
///
/// # Errors
/// [`ErrorKind::Conflict`] when another was first: begin anew. Else those of BigQuery and of the catalog.
pub(super) async fn step(
    bigquery: &BigQuery,
    to: &BigQueryConfig,
    catalog: &dyn Catalog,
    ident: &TableIdent,
    memory: &mut Memory,
) -> Result<Step> {
    // In this order, which is what keeps the pointer from going backwards.
    let found = bigquery.find(to).await?;
    let Some(table) = catalog.find_table(ident).await? else {
        return Ok(Step::NoTable);
    };
    let newest = location(ident, &table)?;
    match found {
        None => {
            memory.own = bigquery.create(to, newest).await?;
            tracing::info!(table.ident = %ident, external_table = %to, metadata = newest, "Made the external table.");
            Ok(Step::Created)
        }
        Some(found) if found.uri == newest => Ok(Step::Current),
        Some(found) if found.age < PACE && found.etag != memory.own => {
            Ok(Step::Young(PACE.saturating_sub(found.age)))
        }
        Some(found) => {
            let columns = match columns(&found.columns, table.metadata().current_schema()) {
                Columns::Are(fields) if memory.refused.as_ref() == Some(&fields) => Columns::Keep,
                columns => columns,
            };
            tell_columns(ident, to, &found, &columns);
            match (bigquery.patch(to, &found, newest, &columns).await, columns) {
                (Ok(etag), _) => {
                    memory.own = etag;
                    tracing::debug!(table.ident = %ident, external_table = %to, metadata = newest, "Moved the pointer.");
                    Ok(Step::Moved)
                }
                (Err(error), Columns::Are(fields)) if error.kind() == ErrorKind::Rejected => {
                    tell_refused_columns(ident, to, &error);
                    memory.refused = Some(fields);
                    Ok(Step::ColumnsRefused)
                }
                (Err(error), _) => Err(error),
            }
        }
    }
}

/// The metadata that BigQuery is to read.
fn location<'t>(ident: &TableIdent, table: &'t Table) -> Result<&'t str> {
    let location = table.metadata_location().unwrap_or_default();
    if location.starts_with("gs://") {
        return Ok(location);
    }
    let message = "The catalog keeps the table outside `gs://`, where BigQuery does not read; remove `publish` from it.";
    Err(Error::new(ErrorKind::Rejected, message)
        .with("table", ident)
        .with("metadata", location))
}

fn tell_columns(ident: &TableIdent, to: &BigQueryConfig, found: &External, columns: &Columns) {
    let change = match columns {
        Columns::Keep => return,
        Columns::Detect if found.columns.is_empty() => return,
        Columns::Detect => "BigQuery reads them from the metadata",
        Columns::Are(_) => "they are sent, with the descriptions and policy tags that people set",
    };
    tracing::info!(table.ident = %ident, external_table = %to, change, "The columns of the external table change.");
}

/// Rows that are visible under the old columns are better than none, and what people set on these is not for us to remove.
fn tell_refused_columns(ident: &TableIdent, to: &BigQueryConfig, error: &Error) {
    tracing::warn!(
        table.ident = %ident,
        external_table = %to,
        error = error.report(),
        "BigQuery does not take the table's columns with what people set on them: it shows new rows under the old columns. Set \
         the columns there by hand."
    );
}
