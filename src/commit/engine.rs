//! The engine: loads heads, and attempts a change set until it is in the table.

use std::sync::Arc;

use iceberg::TableIdent;
use iceberg::spec::ManifestFile;
use iceberg::table::Table;
use tokio::time::Instant;

use super::head::Head;
use super::{Backoff, ChangeSet, append, manifests};
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::error::{Action, Error, ErrorKind, Result};
use crate::ledger::{Known, Ledger, LedgerState};
use crate::random::Random;

/// Commits change sets to the tables of one catalog.
#[derive(Debug, Clone)]
pub struct Engine {
    catalog: Arc<dyn Catalog>,
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    random: Arc<Random>,
}

/// What became of a change set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// It is in the table by this snapshot.
    Now(i64),
    /// Every delivery of it was in the table already, by an earlier attempt or another process; nothing was added.
    Before,
}

impl Engine {
    /// Makes the engine. Ledgers are kept in the ledger's store, whatever the tables' locations.
    pub fn new(
        catalog: Arc<dyn Catalog>,
        ledger: Ledger,
        clock: Arc<dyn Clock>,
        random: Arc<Random>,
    ) -> Self {
        Self {
            catalog,
            ledger,
            clock,
            random,
        }
    }

    /// The catalog that commits go to.
    pub fn catalog(&self) -> &Arc<dyn Catalog> {
        &self.catalog
    }

    /// The ledgers of the tables.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    pub(crate) fn random(&self) -> &Arc<Random> {
        &self.random
    }

    /// Takes a load of the table as the head of the next commits (protocol, step 4).
    ///
    /// # Errors
    /// Those of [`Ledger::open`].
    pub async fn head(&self, table: Table) -> Result<Head> {
        let ledger = self.ledger.open(&table).await?;
        Head::try_new(table, ledger)
    }

    /// Takes a load of the table as the head although its ledger cannot be opened: the one commit on it must bring a
    /// ledger of its own, as `landfast ledger repair` does.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] when the table's branches cannot be read.
    pub fn head_without_ledger(&self, table: Table) -> Result<Head> {
        let ledger = LedgerState::none(table.metadata().uuid());
        Head::try_new(table, ledger)
    }

    /// Asks the head's ledger for the deliveries of a change set (steps 5 and 6); the answers are in their order.
    ///
    /// A file that the sweep removed since the head was loaded is looked for once more on a fresh load.
    ///
    /// # Errors
    /// Those of [`Ledger::check`].
    pub async fn check(&self, head: &mut Head, changes: &ChangeSet) -> Result<Vec<Known>> {
        let entries = changes.deliveries();
        match self.ledger.check(&head.ledger, &entries).await {
            Err(error) if error.kind() == ErrorKind::Rejected && self.reload(head, changes).await? => {
                self.ledger.check(&head.ledger, &entries).await
            }
            answer => answer,
        }
    }

    /// Loads the table again after an attempt that did not say *Committed* (step 8 back to step 4), and checks that the
    /// change set may still be committed. Says whether the fence moved.
    ///
    /// Where it did not, an earlier attempt may yet land, and excludes the next one, which has the same fence. Where it
    /// did, earlier attempts are decided, and the ledger of this load knows how.
    ///
    /// # Errors
    /// Those of [`Catalog::load_table`] and [`Ledger::open`], and [`ErrorKind::TableMismatch`] when the change set no
    /// longer fits.
    pub async fn reload(&self, head: &mut Head, changes: &ChangeSet) -> Result<bool> {
        let table = self.catalog.load_table(head.table.identifier()).await?;
        if table.metadata_location() == head.table.metadata_location() {
            return Ok(false);
        }
        if !changes.groups().is_empty() {
            append::validate(&head.table, &table)?;
        }
        let beside = std::mem::take(&mut head.beside);
        *head = self.head(table).await?;
        head.beside = beside;
        Ok(true)
    }

    /// Waits, and reloads until the load succeeds or the deadline is too near for another attempt.
    ///
    /// # Errors
    /// Those of [`Engine::reload`] but [`ErrorKind::Unavailable`], which is tried again; [`too_late`] with `error`, the
    /// reason of the last failure, as its cause.
    pub async fn reload_within(
        &self,
        head: &mut Head,
        changes: &ChangeSet,
        backoff: &mut Backoff,
        deadline: Instant,
        mut error: Error,
    ) -> Result<bool> {
        loop {
            let wait = backoff.next(&self.random);
            if Instant::now() + wait >= deadline {
                // Step 10: stop, and delete nothing. Whoever does this work next is safe either way.
                return Err(too_late(head.table.identifier())
                    .with("attempts", backoff.attempts())
                    .with_source(error));
            }
            tokio::time::sleep(wait).await;
            match self.reload(head, changes).await {
                Ok(moved) => return Ok(moved),
                Err(failed) if failed.kind() == ErrorKind::Unavailable => error = failed,
                Err(failed) => return Err(failed),
            }
        }
    }

    /// Attempts until the change set is in the table, something says that it never can be, or the deadline is over.
    ///
    /// Groups whose deliveries are all in the table already are left out. For groups of one delivery, or of none.
    ///
    /// # Errors
    /// Those of [`Engine::check`], [`Engine::attempt`] and [`Engine::reload_within`].
    pub async fn commit(
        &self,
        head: &mut Head,
        changes: &mut ChangeSet,
        deadline: Instant,
    ) -> Result<Committed> {
        let mut backoff = Backoff::default();
        loop {
            let known = self.check(head, changes).await?;
            if known.contains(&Known::TooOld) {
                let message =
                    "A delivery is older than the table's ledger remembers: it cannot be proven new.";
                return Err(Error::new(ErrorKind::Rejected, message).with("table", head.table.identifier()));
            }
            changes.drop_landed(&known);
            if changes.is_empty() {
                return Ok(Committed::Before);
            }
            let error = match self.attempt(head, changes).await {
                Ok(snapshot_id) => return Ok(Committed::Now(snapshot_id)),
                Err(error) if error.kind().action() == Action::Retry => error,
                Err(error) => return Err(error),
            };
            self.reload_within(head, changes, &mut backoff, deadline, error)
                .await?;
        }
    }

    /// The manifests of the head's current snapshot: remembered from the last commit, else read.
    pub(super) async fn manifests(&self, head: &mut Head) -> Result<Vec<ManifestFile>> {
        if let Some(manifests) = &head.manifests {
            return Ok(manifests.clone());
        }
        let manifests = match head.table.metadata().current_snapshot() {
            None => Vec::new(),
            Some(snapshot) => manifests::read_list(&head.table, snapshot).await?,
        };
        head.manifests = Some(manifests.clone());
        Ok(manifests)
    }
}

/// The error of a commit that ran out of time.
pub fn too_late(table: &TableIdent) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "The commit did not get through before its deadline; deliver it again.",
    )
    .with("table", table)
}
