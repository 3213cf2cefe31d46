//! `landfast ledger forget`: deliveries may land again, on purpose (protocol §7).

use iceberg::TableIdent;
use serde::Serialize;
use tokio::time::Instant;

use super::PATIENCE;
use crate::clock::Moment;
use crate::commit::{Backoff, ChangeSet, Engine, too_late};
use crate::error::{Action, Result};
use crate::ledger::Forgetting;

/// The summary's word for it.
const WHY: &str = "forget";

/// What was forgotten, or would be.
#[derive(Debug, Serialize)]
pub struct Forgotten {
    /// The table.
    pub table: String,
    /// Deliveries that may land again.
    pub forgotten: u64,
    /// Deliveries that are still remembered.
    pub remembered: u64,
    /// The snapshot that made it so; none when nothing was changed.
    pub snapshot_id: Option<String>,
}

/// Takes deliveries out of a table's ledger, by a commit of no rows; with `dry_run` only counts them.
///
/// The rows that they brought stay. A message whose publish time lies under the ledger's floor is too old to land again.
/// Computed anew for every attempt, so that nothing that lands meanwhile is lost.
///
/// # Errors
/// Those of [`Ledger::without`](crate::ledger::Ledger::without) and of the commit.
pub async fn forget(
    engine: &Engine,
    ident: &TableIdent,
    deliveries: &Forgetting,
    dry_run: bool,
) -> Result<Forgotten> {
    let deadline = Instant::now() + PATIENCE;
    let mut backoff = Backoff::default();
    loop {
        let mut head = engine.head(engine.catalog().load_table(ident).await?).await?;
        let begun = Moment::now(engine.clock());
        let random = engine.random();
        let (ledger, forgotten) = engine.ledger().without(head.ledger(), deliveries, random).await?;
        let mut result = Forgotten {
            table: ident.to_string(),
            forgotten,
            remembered: ledger.entry_count(),
            snapshot_id: None,
        };
        if dry_run || forgotten == 0 {
            return Ok(result);
        }
        let mut changes = ChangeSet::rewriting_ledger(random.uuid(), begun, WHY, ledger);
        let error = match engine.attempt(&mut head, &mut changes).await {
            Ok(snapshot_id) => {
                result.snapshot_id = Some(snapshot_id.to_string());
                return Ok(result);
            }
            Err(error) if error.kind().action() == Action::Retry => error,
            Err(error) => return Err(error),
        };
        let wait = backoff.next(random);
        if Instant::now() + wait >= deadline {
            return Err(too_late(ident).with_source(error));
        }
        tokio::time::sleep(wait).await;
    }
}
