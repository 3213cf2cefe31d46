//! One table's upkeep: old snapshots let go, then the sweep.

use chrono::{DateTime, Utc};
use iceberg::TableIdent;
use serde::Serialize;
use tokio::time::Instant;

use super::sweep::{self, Plan, Swept};
use super::{PATIENCE, Totals, sum};
use crate::clock::Moment;
use crate::commit::{AT_MOST_AT_UPKEEP, ChangeSet, Committed, Engine, Head, is_gc_off};
use crate::error::{Error, ErrorKind, Result};

/// What upkeep did to a table, or would do.
#[derive(Debug, Serialize)]
pub struct Upkeep {
    /// The table.
    pub table: String,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Whether `gc.enabled=false` forbids to delete anything.
    pub forbidden: bool,
    /// Snapshots that were let go.
    pub expired_snapshots: u64,
    /// Snapshots that are left.
    pub kept_snapshots: u64,
    /// The empty snapshot that moved the fence, if that was needed.
    pub snapshot_id: Option<String>,
    /// What was deleted, by kind.
    pub deleted: Totals,
    /// Files that could not be deleted.
    pub failed: u64,
}

impl Upkeep {
    /// Whether nothing was done, or would be: no snapshot let go, no file deleted, and none that could not be.
    pub fn is_idle(&self) -> bool {
        self.expired_snapshots == 0 && sum(&self.deleted).files == 0 && self.failed == 0
    }
}

/// A table whose old snapshots are let go, and in which nothing is deleted yet.
#[derive(Debug)]
pub struct Fenced {
    upkeep: Upkeep,
    /// None where nothing is to be deleted.
    plan: Option<Plan>,
}

impl Fenced {
    /// Whether the table was committed to.
    pub fn has_moved(&self) -> bool {
        self.upkeep.snapshot_id.is_some()
    }

    /// Deletes what nothing names any more.
    pub async fn sweep(self) -> Upkeep {
        let mut upkeep = self.upkeep;
        if let Some(plan) = self.plan {
            let Swept { deleted, failed } = plan.carry_out().await;
            (upkeep.deleted, upkeep.failed) = (deleted, failed);
        }
        upkeep
    }

    /// Deletes nothing: what was to go is found again by the next run.
    pub fn leave(self) -> Upkeep {
        Upkeep {
            deleted: Totals::default(),
            ..self.upkeep
        }
    }
}

/// Lets go of snapshots whose time is over, and deletes what nothing names any more: [`fence`], then [`Fenced::sweep`].
///
/// # Errors
/// Those of [`fence`].
pub async fn maintain(engine: &Engine, ident: &TableIdent, dry_run: bool) -> Result<Upkeep> {
    Ok(fence(engine, ident, dry_run).await?.sweep().await)
}

/// Lets go of snapshots whose time is over, and finds what nothing names any more. Readers of older metadata can be moved to
/// the newest before that goes.
///
/// Nothing is to be deleted that a kept snapshot, the ledger or an attempt under way can need (protocol §5). Stopped at any
/// point, it leaves a whole table, and the next run does the rest. A table that nobody wrote to, and in which nothing is to
/// be done, gets no commit. With `dry_run` nothing is written at all.
///
/// # Errors
/// [`ErrorKind::NotFound`] when there is no such table. [`ErrorKind::Rejected`] for a damaged ledger, a table in no
/// store of ours, and a folder that another table shares: nothing was deleted. [`ErrorKind::Unavailable`]: run it again.
pub async fn fence(engine: &Engine, ident: &TableIdent, dry_run: bool) -> Result<Fenced> {
    let mut head = load(engine, ident).await?;
    let now = engine.clock().now();
    let expired = head.expired(now);
    let forbidden = is_forbidden(&head);
    let planned = match forbidden {
        true => Plan::none(engine, &head, now)?,
        false => Plan::of(engine, &head, &expired, now).await?,
    };
    let mut upkeep = Upkeep {
        table: ident.to_string(),
        dry_run,
        forbidden,
        expired_snapshots: expired.len() as u64,
        kept_snapshots: (head.table().metadata().snapshots().len() - expired.len()) as u64,
        snapshot_id: None,
        deleted: planned.totals(),
        failed: 0,
    };
    if dry_run {
        planned.tell();
        return Ok(Fenced { upkeep, plan: None });
    }
    if expired.is_empty() && planned.is_empty() {
        return Ok(Fenced { upkeep, plan: None });
    }
    let moment = sweep::moment(&head, &engine.files(head.table())?).await?;
    let plan = match moment {
        // What is there to go was dead before the newest snapshot: the fence has moved by itself.
        Some(moment) if expired.is_empty() && planned.holds_at(moment) => planned,
        _ => {
            // One commit lets go of so many at most, so that no server is at it for long.
            for _ in 0..expired.len().div_ceil(AT_MOST_AT_UPKEEP).max(1) {
                upkeep.snapshot_id = Some(move_fence(engine, &mut head).await?.to_string());
            }
            head = load(engine, ident).await?;
            upkeep.kept_snapshots = head.table().metadata().snapshots().len() as u64;
            after_fence(engine, &head, now).await?
        }
    };
    let plan = Some(plan);
    Ok(Fenced { upkeep, plan })
}

pub(super) async fn load(engine: &Engine, ident: &TableIdent) -> Result<Head> {
    engine.head(engine.catalog().load_table(ident).await?).await
}

/// As for Java's actions: other tables may share the files.
fn is_forbidden(head: &Head) -> bool {
    is_gc_off(head.table().metadata())
}

/// An empty snapshot: every attempt that was loaded before it is dead. It lets old snapshots go in the same commit.
pub(super) async fn move_fence(engine: &Engine, head: &mut Head) -> Result<i64> {
    let mut changes = ChangeSet::upkeep(engine.random().uuid(), Moment::now(engine.clock()));
    let committed = engine
        .commit(head, &mut changes, Instant::now() + PATIENCE)
        .await?;
    match committed {
        Committed::Now(snapshot_id) => Ok(snapshot_id),
        Committed::Before => Err(Error::new(
            ErrorKind::Unavailable,
            "The empty snapshot was not committed.",
        )),
    }
}

async fn after_fence(engine: &Engine, head: &Head, now: DateTime<Utc>) -> Result<Plan> {
    match sweep::moment(head, &engine.files(head.table())?).await? {
        Some(moment) if !is_forbidden(head) => Plan::of(engine, head, &[], moment).await,
        // Rolled back to nothing, or forbidden, since.
        _ => Plan::none(engine, head, now),
    }
}
