//! Putting a pointer right from outside the data path, and waiting for it.

use std::sync::Arc;

use iceberg::TableIdent;
use serde::Serialize;
use tokio::time::{Duration, Instant};

use super::pointer::{Look, NO_TABLE, look};
use super::publishers::Publishers;
use super::waiting::Note;
use crate::clock::Clock;
use crate::commit::Engine;
use crate::config::BigQueryConfig;
use crate::error::Result;

/// How long it is tried.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of a pointer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reconciled {
    /// The external table, as `project.dataset.table`.
    pub external_table: String,
    /// `current`, `moved`, `created` or `no_table`; of a dry run `current`, `would_move`, `would_create` or `no_table`.
    pub outcome: &'static str,
}

/// Makes the external table read the newest metadata of its table, or with `dry_run` says whether it does.
///
/// `Ok` means that it reads metadata which is not older than the table was when this began. A failure that may pass is tried
/// again for a minute.
///
/// # Errors
/// Those of BigQuery and of the catalog: nobody knows what it reads then.
pub async fn reconcile(
    (engine, clock): (&Engine, &Arc<dyn Clock>),
    to: &BigQueryConfig,
    ident: &TableIdent,
    dry_run: bool,
) -> Result<Reconciled> {
    let reconciled = |outcome| Reconciled {
        external_table: to.to_string(),
        outcome,
    };
    let catalog = engine.catalog().clone();
    if dry_run {
        let looked = look(to, catalog.as_ref(), ident, clock.clone()).await?;
        return Ok(reconciled(match looked {
            Look::NoTable => NO_TABLE,
            Look::Current => "current",
            Look::Missing => "would_create",
            Look::Behind => "would_move",
        }));
    }
    let (clock, random) = (clock.clone(), engine.random().clone());
    let publishers = Publishers::new([(ident.clone(), to.clone())], catalog, clock, random);
    publishers.committed(ident, Note::default());
    match publishers.close(Instant::now() + PATIENCE).await.remove(ident) {
        Some(error) => Err(error),
        None => Ok(reconciled(publishers.outcome(ident).unwrap_or("current"))),
    }
}
