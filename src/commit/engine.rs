//! The engine: loads heads, and attempts a change set until it is in the table.

use std::sync::Arc;

use iceberg::TableIdent;
use iceberg::spec::ManifestFile;
use iceberg::table::Table;
use tokio::time::Instant;
use uuid::Uuid;

use super::head::Head;
use super::overwrite::Overwrite;
use super::{Alteration, Backoff, ChangeSet, Part, alter, format, manifests};
use crate::catalog::{Catalog, TableCommit};
use crate::clock::{Clock, Moment};
use crate::error::{Action, Error, ErrorKind, Result};
use crate::ledger::{Entry, Known, Ledger, LedgerState};
use crate::random::Random;
use crate::storage::Store;
use crate::telemetry;

/// Commits change sets to the tables of one catalog.
#[derive(Debug, Clone)]
pub struct Engine {
    catalog: Arc<dyn Catalog>,
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    random: Arc<Random>,
    writer: Uuid,
}

/// What became of a change set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// It is in the table by this snapshot, of this attempt or of one whose answer was lost.
    Now(i64),
    /// Every delivery of it was in the table already, by another process, or by an attempt whose snapshot the table has
    /// let go since; nothing was added.
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
            writer: random.uuid(),
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

    /// The store of a table's files, which need not be the one of the ledgers.
    ///
    /// # Errors
    /// Those of [`Catalog::store_of`].
    pub fn files(&self, table: &Table) -> Result<Store> {
        let store = self.catalog.store_of(table)?;
        Ok(store.unwrap_or_else(|| self.ledger.store().clone()))
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    pub(super) fn writer(&self) -> Uuid {
        self.writer
    }

    pub(crate) fn random(&self) -> &Arc<Random> {
        &self.random
    }

    /// Takes a load of the table as the head of the next commits (protocol, step 4), or a newer one.
    ///
    /// A load from before the ledger's last heads cannot tell them from heads that nothing names. So a ledger counts as
    /// lost only by a load that is still the newest: see that what was made for `table` fits [`Head::table`].
    ///
    /// # Errors
    /// Those of [`Ledger::open`], and [`ErrorKind::TableMismatch`] for a format version that is not written.
    pub async fn head(&self, mut table: Table) -> Result<Head> {
        loop {
            format::check(&table)?;
            let error = match self.ledger.open(&table).await {
                Err(error) if error.kind() == ErrorKind::Rejected => error,
                ledger => return Head::try_new(table, ledger?),
            };
            let fresh = self.catalog.load_table(table.identifier()).await?;
            if fresh.metadata_location() == table.metadata_location() {
                return Err(error);
            }
            table = fresh;
        }
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
    /// # Errors
    /// Those of [`Engine::known`].
    pub async fn check(&self, head: &mut Head, changes: &ChangeSet) -> Result<Vec<Known>> {
        self.known(head, changes, &changes.deliveries(), None).await
    }

    /// Asks the head's ledger for deliveries, of which some may be answered for without a commit, beside a change set that
    /// waits for one.
    ///
    /// No fence proves such an answer. So that a delivery is there, or too old, is said only of the table as it was after
    /// `since`, when the last of them came: it may have been dropped, or told to forget, by another process. A file that
    /// the sweep removed since the head was loaded is looked for on a fresh load, too.
    ///
    /// # Errors
    /// Those of [`Ledger::check`] and [`Engine::reload`].
    pub async fn known(
        &self,
        head: &mut Head,
        changes: &ChangeSet,
        entries: &[Entry],
        since: Option<Instant>,
    ) -> Result<Vec<Known>> {
        let answer = self.ledger.check(&head.ledger, entries).await;
        let is_settled = match &answer {
            Ok(known) => {
                since.is_none_or(|since| !head.is_older(since))
                    || known.iter().all(|known| *known == Known::New)
            }
            Err(error) => error.kind() != ErrorKind::Rejected,
        };
        if is_settled || !self.reload(head, changes).await? {
            return answer;
        }
        self.ledger.check(&head.ledger, entries).await
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
        let asked = Instant::now();
        let table = self.catalog.load_table(head.table.identifier()).await?;
        if table.metadata_location() == head.table.metadata_location() {
            head.as_of = Some(asked);
            return Ok(false);
        }
        self.move_to(head, table, changes).await?;
        head.as_of = Some(asked);
        head.turn.met(head.company(self.writer));
        Ok(true)
    }

    /// Stands back after a run of commits, so that others come to theirs, and takes up what they made of the table: before
    /// the first attempt of a change set, and before its deliveries are checked. Not within a run, and not where the
    /// deadline is near.
    ///
    /// # Errors
    /// [`ErrorKind::TableMismatch`] when the change set no longer fits. Any other failure to load leaves the head as it is;
    /// an attempt on a stale one is a conflict.
    pub async fn stand_back(&self, head: &mut Head, changes: &ChangeSet, deadline: Instant) -> Result<()> {
        let Some(turn) = head.turn.stands_back(&self.random, deadline) else {
            return Ok(());
        };
        tokio::time::sleep_until(turn).await;
        head.turn.stood_back();
        match self.reload(head, changes).await {
            Err(error) if error.kind() == ErrorKind::TableMismatch => Err(error),
            _ => Ok(()),
        }
    }

    /// Waits, and reloads until the load succeeds or the deadline is too near for another attempt. Whether the fence moved
    /// does not matter: every attempt asks the ledger anew.
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
    ) -> Result<()> {
        let table = head.table.identifier().to_string();
        telemetry::count_retry(&table, error.kind());
        tracing::debug!(
            table.ident = %table,
            error = error.report(),
            "The commit is attempted again."
        );
        loop {
            let wait = match error.kind() {
                ErrorKind::Conflict => head.turn.next(backoff.lose(), &self.random),
                _ => backoff.next(&self.random),
            };
            if Instant::now() + wait >= deadline {
                // Step 10: stop, and delete nothing. Whoever does this work next is safe either way.
                return Err(too_late(head.table.identifier())
                    .with("attempts", backoff.attempts())
                    .with_source(error));
            }
            tokio::time::sleep(wait).await;
            match self.reload(head, changes).await {
                Ok(_moved) => return Ok(()),
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
        self.stand_back(head, changes, deadline).await?;
        loop {
            let known = self.check(head, changes).await?;
            if known.contains(&Known::TooOld) {
                let message =
                    "A delivery is older than the table's ledger remembers: it cannot be proven new.";
                return Err(Error::new(ErrorKind::Rejected, message).with("table", head.table.identifier()));
            }
            let is_there = |known: &Known| matches!(known, Known::Landed(_));
            if !known.is_empty()
                && known.iter().all(is_there)
                && let Some(snapshot_id) = head.snapshot_of(changes.commit_id())
            {
                return Ok(Committed::Now(snapshot_id));
            }
            if changes.is_settled_by(&known)? {
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

    /// Begins an overwrite of a part of the table as the head has it; see [`Part`]. Add the new files to it, if any.
    ///
    /// `begun` is when the first of them was begun. Reads every manifest of the head's snapshot.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] when a data file is partly in the part, [`ErrorKind::Unavailable`].
    pub async fn overwrite(&self, head: &mut Head, part: Part, begun: Moment) -> Result<ChangeSet> {
        let manifests = self.manifests(head).await?;
        let overwrite = Overwrite::of(part, &head.table, &manifests, &self.random).await?;
        Ok(ChangeSet::overwrite(self.random.uuid(), begun, overwrite))
    }

    /// The head's table as it will be with the alterations: what files are written for that land with them, by
    /// [`ChangeSet::altering`].
    ///
    /// # Errors
    /// [`ErrorKind::TableMismatch`] when the table leaves no room for them, [`ErrorKind::Rejected`] for a property that
    /// is the ledger's.
    pub fn altered(&self, head: &Head, alterations: &[Alteration]) -> Result<Table> {
        alter::altered(&head.table, alterations).map(|altered| altered.table)
    }

    /// Alters the table, with no snapshot, until it is as the alterations say. Says whether this call did it: not when
    /// it was so, or when another, or an attempt whose answer was lost, came first.
    ///
    /// # Errors
    /// Those of [`Engine::altered`], of a commit and of [`Engine::reload_within`].
    pub async fn alter(
        &self,
        head: &mut Head,
        alterations: &[Alteration],
        deadline: Instant,
    ) -> Result<bool> {
        let nothing = ChangeSet::append(self.random.uuid(), Moment::now(self.clock()));
        let uuid = head.table.metadata().uuid();
        let mut backoff = Backoff::default();
        loop {
            let altered = alter::altered(&head.table, alterations)?;
            if altered.updates.is_empty() {
                return Ok(false);
            }
            let commit = TableCommit {
                requirements: altered.requirements,
                updates: altered.updates,
            };
            let outcome = self.catalog.commit_table(&head.table, commit).await;
            let error = match outcome.into_result() {
                Ok(table) => {
                    // A server may have put it on a newer state than the head's.
                    self.move_to(head, table, &nothing).await?;
                    return Ok(true);
                }
                Err(error) if error.kind().action() == Action::Retry => error,
                Err(error) => return Err(error),
            };
            self.reload_within(head, &nothing, &mut backoff, deadline, error)
                .await?;
            if head.table.metadata().uuid() != uuid {
                let message = "The table cannot be altered: another table has its name.";
                return Err(
                    Error::new(ErrorKind::TableMismatch, message).with("table", head.table.identifier())
                );
            }
        }
    }

    /// Makes another load of the table the head, if the change set may be committed on it; what is under way beside the
    /// commits goes on.
    pub(super) async fn move_to(&self, head: &mut Head, table: Table, changes: &ChangeSet) -> Result<()> {
        changes.validate(&head.table, &table)?;
        let fresh = self.head(table).await?;
        changes.validate(&head.table, &fresh.table)?;
        // Nothing is awaited from here on, so that what is under way is never lost with an error.
        let (beside, turn) = (std::mem::take(&mut head.beside), head.turn);
        *head = Head {
            beside,
            turn,
            hoards_until: head.hoards_until,
            ..fresh
        };
        Ok(())
    }

    /// The manifests of the head's current snapshot that name files: remembered from the last commit, else read.
    pub(super) async fn manifests(&self, head: &mut Head) -> Result<Vec<ManifestFile>> {
        if let Some(manifests) = &head.manifests {
            return Ok(manifests.clone());
        }
        let manifests = match head.table.metadata().current_snapshot() {
            None => Vec::new(),
            Some(snapshot) => manifests::read_list(&head.table, snapshot).await?,
        };
        let manifests: Vec<ManifestFile> = manifests.into_iter().filter(manifests::is_live).collect();
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
