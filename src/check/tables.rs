//! The configured tables, as far as they are there: only read.

use futures::{StreamExt, stream};
use iceberg::TableIdent;
use iceberg::table::Table;

use super::remedy::Place;
use super::report::{Found, Gathered, Line};
use super::{bounded, line};
use crate::batch::opening::{TableSettings, fits};
use crate::commit::Engine;
use crate::config::{Config, TableConfig};
use crate::error::{ErrorKind, Result};

/// Tables that are loaded at the same time.
const AT_ONCE: usize = 8;

/// Loads each of `tables`, and holds it against its configuration. Without a catalog its own probe says why.
pub(super) async fn probe(config: &Config, engine: Option<&Engine>) -> Gathered {
    let Some(engine) = engine else {
        return Gathered::default();
    };
    let probes = config.tables.iter().map(|(ident, settings)| {
        line("table", ident, async move {
            match bounded(look(engine, ident, settings)).await {
                Ok(told) => Found::passed(told),
                Err(error) if error.kind() == ErrorKind::TableMismatch => Found::failed(
                    error.report(),
                    "Change the configuration, or alter the table with an engine.",
                ),
                Err(error) if error.names("warehouse") => Found::failed(
                    error.report(),
                    "Write the folder that the catalog keeps its tables under as `warehouse`.",
                ),
                Err(error) => Found::refused(&Place::Catalog(&config.catalog, &config.warehouse), &error),
            }
        })
    });
    let lines: Vec<Line> = stream::iter(probes).buffered(AT_ONCE).collect().await;
    Gathered {
        lines,
        ..Gathered::default()
    }
}

/// # Errors
/// Those of loading the table, of its ledger and its store, and [`ErrorKind::TableMismatch`].
async fn look(engine: &Engine, ident: &TableIdent, settings: &TableConfig) -> Result<String> {
    let Some(table) = engine.catalog().find_table(ident).await? else {
        return Ok("not there yet; its first rows make it".to_owned());
    };
    fits(ident, &TableSettings::from(settings), &table)?;
    let files = engine.files(&table)?;
    let told = told(&table);
    engine.head(table).await?;
    Ok(format!("{told}, in {}", files.root()))
}

fn told(table: &Table) -> String {
    let Some(snapshot) = table.metadata().current_snapshot() else {
        return "there, without a commit".to_owned();
    };
    let rows = snapshot.summary().additional_properties.get("total-records");
    let rows = rows.map_or("an unknown number of", String::as_str);
    let at = snapshot.timestamp();
    let at = at.map_or_else(
        |_unreadable| "at an unknown time".to_owned(),
        |at| at.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
    );
    format!("{rows} rows, last commit {at}")
}
