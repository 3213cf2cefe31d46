//! The log of a table's commits: one line each, and at most one a second where they come faster.

use std::pin::pin;

use iceberg::TableIdent;
use tokio::time::{Duration, Instant, sleep_until};

use crate::commit::ChangeSet;

/// The least time between two lines of a table.
const INTERVAL: Duration = Duration::from_secs(1);

/// What a table's commits come to since the last line.
#[derive(Debug, Default)]
struct Totals {
    commits: u64,
    deliveries: usize,
    rows: u64,
    files: u64,
    bytes: u64,
    /// From hand-over to commit, all of them.
    seconds: f64,
}

/// Tells of the commits of one table. Each is in one line, alone or with those that came close behind one another.
#[derive(Debug)]
pub(super) struct CommitLog {
    ident: TableIdent,
    told_at: Option<Instant>,
    untold: Totals,
    snapshot_id: i64,
}

impl CommitLog {
    pub(super) fn new(ident: TableIdent) -> Self {
        Self {
            ident,
            told_at: None,
            untold: Totals::default(),
            snapshot_id: 0,
        }
    }

    /// Takes note of a commit, and tells of it now unless the last line is too fresh.
    pub(super) fn committed(
        &mut self,
        changes: &ChangeSet,
        snapshot_id: i64,
        deliveries: usize,
        seconds: f64,
    ) {
        tracing::debug!(
            table.ident = %self.ident,
            commit.id = %changes.commit_id(),
            snapshot.id = snapshot_id,
            rows = changes.row_count(),
            deliveries,
            "One commit."
        );
        self.untold.commits += 1;
        self.untold.deliveries += deliveries;
        self.untold.rows += changes.row_count();
        self.untold.files += changes.file_count();
        self.untold.bytes += changes.byte_count();
        self.untold.seconds += seconds;
        self.snapshot_id = snapshot_id;
        if self.due_at().is_some_and(|due| due <= Instant::now()) {
            self.tell();
        }
    }

    /// Does other work, and tells meanwhile what has waited long enough. The work is never let go.
    pub(super) async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if let Some(due) = self.due_at() {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = sleep_until(due) => self.tell(),
            }
        }
        work.await
    }

    /// Tells what is not told yet.
    pub(super) fn tell(&mut self) {
        if self.untold.commits == 0 {
            return;
        }
        let told = std::mem::take(&mut self.untold);
        self.told_at = Some(Instant::now());
        tracing::info!(
            table.ident = %self.ident,
            commits = told.commits,
            deliveries = told.deliveries,
            rows = told.rows,
            files = told.files,
            bytes = told.bytes,
            seconds = told.seconds,
            snapshot.id = self.snapshot_id,
            "Committed."
        );
    }

    /// When the next line may come; `None` when there is nothing to tell.
    fn due_at(&self) -> Option<Instant> {
        let due = self.told_at.map_or_else(Instant::now, |at| at + INTERVAL);
        (self.untold.commits > 0).then_some(due)
    }
}
