//! One step: look where the pointer is, and move it. Why it never goes backwards is said in `super`.

use std::time::Duration;

use iceberg::TableIdent;
use iceberg::spec::SchemaId;
use iceberg::table::Table;
use serde_json::Value;
use tokio::time::Instant;

use super::claim;
use super::client::{BigQuery, External};
use super::columns::{Columns, columns};
use super::waiting::{Shown, shown};
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::config::BigQueryConfig;
use crate::error::{Error, ErrorKind, Result};

/// The least time between two changes of an external table: BigQuery takes five in ten seconds.
pub(super) const PACE: Duration = Duration::from_millis(2500);

/// Columns that were refused are tried again after this: somebody may have made them fit.
const COLUMNS_AGAIN: Duration = Duration::from_secs(3600);

/// The outcome where there is no table to follow, in metrics, results and on the status page.
pub const NO_TABLE: &str = "no_table";

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
            Self::NoTable => NO_TABLE,
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
        Some(found) => {
            claim::check(to, &found, &table)?;
            Look::Behind
        }
    })
}

/// What a follower remembers from one step to the next.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The states of the table that BigQuery shows, as far as the last step saw.
    pub(super) shown: Shown,
    /// The etag of its last move, of whose time it knows better than a header that tells seconds.
    own: String,
    refused: Option<Refused>,
    /// The schema whose change of columns was told.
    told: Option<SchemaId>,
}

/// Columns that BigQuery did not take.
#[derive(Debug)]
struct Refused {
    fields: Vec<Value>,
    error: Error,
    at: Instant,
    /// Whether a move without them was taken: until then it may have been for another reason.
    is_proven: bool,
}

/// Moves the pointer to the newest metadata, or makes the external table.
///
/// # Errors
/// [`ErrorKind::Conflict`] when another was first: begin anew. [`ErrorKind::TableMismatch`] when the external table is
/// another's. Else those of BigQuery and of the catalog.
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
    let step = match found {
        None => {
            memory.own = bigquery.create(to, newest).await?;
            tracing::info!(table.ident = %ident, external_table = %to, metadata = newest, "Made the external table.");
            Step::Created
        }
        Some(found) => {
            // What this process moved last, and nobody since, is its own wherever the table lies by now.
            if found.etag != memory.own {
                claim::check(to, &found, &table)?;
            }
            memory.shown = shown(&table, &found.uri);
            if found.uri == newest {
                return Ok(Step::Current);
            }
            if found.age < PACE && found.etag != memory.own {
                return Ok(Step::Young(PACE.saturating_sub(found.age)));
            }
            move_to(bigquery, to, &table, &found, memory).await?
        }
    };
    if step != Step::ColumnsRefused {
        memory.shown = shown(&table, newest);
    }
    Ok(step)
}

/// Moves the pointer of an external table as it was found.
async fn move_to(
    bigquery: &BigQuery,
    to: &BigQueryConfig,
    table: &Table,
    found: &External,
    memory: &mut Memory,
) -> Result<Step> {
    let (ident, metadata) = (table.identifier(), table.metadata());
    let newest = location(ident, table)?;
    let wanted = columns(&found.columns, metadata.current_schema());
    let is_refused = |refused: &&mut Refused| {
        matches!(&wanted, Columns::Are(fields) if *fields == refused.fields)
            && refused.at.elapsed() < COLUMNS_AGAIN
    };
    let refused = memory.refused.as_mut().filter(is_refused);
    let columns = match refused {
        Some(_) => Columns::Keep,
        None => wanted.clone(),
    };
    if columns != Columns::Keep
        && memory.told.replace(metadata.current_schema_id()) != Some(metadata.current_schema_id())
    {
        tell_columns(ident, to, found, &columns);
    }
    match (
        bigquery.patch(to, found, newest, &columns).await,
        refused,
        columns,
    ) {
        (Ok(etag), refused, _) => {
            if let Some(refused) = refused.filter(|refused| !refused.is_proven) {
                tell_refused_columns(ident, to, &refused.error);
                refused.is_proven = true;
            }
            memory.own = etag;
            tracing::debug!(table.ident = %ident, external_table = %to, metadata = newest, "Moved the pointer.");
            Ok(Step::Moved)
        }
        (Err(error), None, Columns::Are(fields)) if error.kind() == ErrorKind::Rejected => {
            memory.refused = Some(Refused {
                fields,
                error,
                at: Instant::now(),
                is_proven: false,
            });
            Ok(Step::ColumnsRefused)
        }
        (Err(error), Some(_), _) if error.kind() == ErrorKind::Rejected => {
            // It was not for the columns.
            memory.refused = None;
            Err(error)
        }
        (Err(error), ..) => Err(error),
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
