//! One attempt: change set and head in, one conditional commit out.

use std::time::Duration;

use futures::future::try_join_all;
use iceberg::spec::{ManifestFile, TableMetadata};
use iceberg::table::Table;
use tokio::time::Instant;

use super::alter::Altered;
use super::beside::{Beside, Ready};
use super::engine::Engine;
use super::head::{Head, Refs};
use super::manifests::{self, Encoded};
use super::overwrite::Removed;
use super::{ChangeSet, retention, table_commit};
use crate::catalog::Outcome;
use crate::clock::Moment;
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{Addition, Known, NextHead};

/// `max_batch_life` of the protocol: files older than this may be gone, since the sweep's grace is three days.
pub(super) const MAX_LIFE: Duration = Duration::from_secs(24 * 3600);

/// How long a catalog that refused to let snapshots go is not asked again.
const HOARDING: Duration = Duration::from_secs(3600);

/// How long it is not asked after it failed with them: some servers answer 500 to what they refuse.
const DOUBT: Duration = Duration::from_secs(60);

/// An attempt ready to be sent.
pub(super) struct Attempt {
    pub(super) snapshot_id: i64,
    pub(super) sequence_number: i64,
    /// The table that its files are for: the head's, with what the change set alters.
    pub(super) after: Altered,
    /// What it takes out of the table.
    pub(super) removed: Removed,
    /// The manifests of its snapshot, newest first, as Java lists them.
    manifests: Vec<ManifestFile>,
    /// Manifests that were encoded for it, and the groups that they are of.
    new: Vec<(usize, ManifestFile)>,
    /// Files that must be durable before it is sent.
    files: Vec<Encoded>,
    pub(super) list: String,
    pub(super) ledger: Option<NextHead>,
}

/// Snapshots that a commit lets go.
#[derive(Default)]
struct LetGo {
    ids: Vec<i64>,
    /// Those of them that would have stayed, had the metadata room.
    pressed: Vec<i64>,
}

impl Engine {
    /// Sends the change set once, as one commit on top of `head`, and returns the new snapshot's id.
    ///
    /// On `Ok` every file of the change set is in the table, durably and exactly once by this attempt, its deliveries
    /// are in the table's ledger, and `head` is the table after it. The ledger of this head must have been asked for the
    /// deliveries (protocol, step 5).
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] and [`ErrorKind::OutcomeUnknown`]: [`Engine::reload`], check, then attempt again.
    /// [`ErrorKind::Rejected`], [`ErrorKind::TableMismatch`]: never again as it is. [`ErrorKind::Unavailable`]: a file
    /// of the attempt could not be written, nothing was sent.
    pub async fn attempt(&self, head: &mut Head, changes: &mut ChangeSet) -> Result<i64> {
        let is_null = head.table.metadata().current_snapshot_id().is_none();
        let needs_fence = changes.lands_something() || changes.ledger().is_some();
        if is_null && needs_fence && self.catalog().fences_by_snapshot() {
            self.replace_null_fence(head, changes).await?;
        }
        self.send(head, changes).await
    }

    /// Commits an empty snapshot, since no snapshot is a fence that can come back (protocol §4, null fence), and loads the
    /// table again.
    ///
    /// # Errors
    /// Those of an attempt; [`ErrorKind::Conflict`] when a delivery of the change set is in that load's ledger, and for a
    /// ledger that takes the table's place, which must be made anew of the table as it is then.
    async fn replace_null_fence(&self, head: &mut Head, changes: &ChangeSet) -> Result<()> {
        let nothing = ChangeSet::append(self.random().uuid(), Moment::now(self.clock()));
        let mut nothing = nothing.with_retention(Duration::MAX);
        self.send(head, &mut nothing).await?;
        if changes.ledger().is_some() {
            let message = "The table had no snapshot; it has an empty one now.";
            return Err(Error::new(ErrorKind::Conflict, message).with("table", head.table.identifier()));
        }
        let table = self.catalog().load_table(head.table.identifier()).await?;
        self.move_to(head, table, changes).await?;
        if head.table.metadata().current_snapshot_id().is_none() {
            let message = "The table was replaced meanwhile, and has no snapshot again.";
            return Err(Error::new(ErrorKind::Conflict, message).with("table", head.table.identifier()));
        }
        let known = self.check(head, changes).await?;
        if known.iter().all(|known| *known == Known::New) {
            return Ok(());
        }
        let message = "Another process landed some of the deliveries first.";
        Err(Error::new(ErrorKind::Conflict, message).with("table", head.table.identifier()))
    }

    async fn send(&self, head: &mut Head, changes: &mut ChangeSet) -> Result<i64> {
        let begun = Instant::now();
        let mut ready = Ready::default();
        // A null fence can come back, and a late copy of what was committed there with it: no merge rides on it.
        if head.table.metadata().current_snapshot_id().is_some() {
            Beside::catch_up(self, head).await?;
            ready = head.beside.ready(self.clock());
        }
        let prepared = async {
            let attempt = self.prepare(head, changes, &mut ready).await?;
            // Last, so that hardly anybody makes a branch or a tag between that look and the commit.
            Ok((attempt, self.to_let_go(head, changes).await?))
        };
        let (attempt, LetGo { ids, pressed }) = match prepared.await {
            Ok(prepared) => prepared,
            Err(error) => {
                head.beside.give_back(ready, self.clock());
                return Err(error);
            }
        };
        let Attempt { snapshot_id, .. } = attempt;
        // Step 7: everything is durable; send.
        let sent = Instant::now();
        match self.submit(head, changes, &attempt, &ids).await.into_result() {
            Ok(table) => {
                // Before anything of the head moves: an error here leads to a load that finds the commit.
                if let Some(next) = attempt.ledger {
                    head.ledger = self.ledger().adopt(next).await.map_err(landed_unmarked)?;
                }
                retention::tell_pressed(&table, &pressed);
                head.table = table;
                head.as_of = Some(sent);
                head.turn.met(head.company(self.writer()));
                head.turn.ended(begun, true);
                if self.catalog().fences_by_snapshot()
                    && let Ok(refs) = Refs::of(head.table.metadata())
                {
                    head.refs = refs;
                }
                let manifests = attempt.manifests.into_iter();
                head.manifests = Some(manifests.filter(manifests::is_live).collect());
                Beside::start(self, head);
                Ok(snapshot_id)
            }
            Err(error) => {
                head.turn.ended(begun, false);
                head.beside.give_back(ready, self.clock());
                Err(error)
            }
        }
    }

    /// Sends the commit. Rows never wait for housekeeping: what is refused with snapshots to let go is sent once more
    /// without them, on the same fence, so that one of both lands at most; and for a while nothing is asked to go.
    async fn submit(
        &self,
        head: &mut Head,
        changes: &ChangeSet,
        attempt: &Attempt,
        let_go: &[i64],
    ) -> Outcome {
        let now = self.clock().now();
        let commit = |let_go| table_commit::of(head, changes, attempt, let_go, self.writer(), now);
        let is_optional = !let_go.is_empty() && !changes.is_upkeep();
        let refusal = match self.catalog().commit_table(&head.table, commit(let_go)).await {
            Outcome::Rejected(error) if is_optional && error.kind() == ErrorKind::Rejected => error,
            Outcome::OutcomeUnknown(error) if is_optional => {
                // It may have been that which the catalog could not do: the next attempt goes without.
                head.hoards_until = Some(Instant::now() + DOUBT);
                return Outcome::OutcomeUnknown(error);
            }
            outcome => return outcome,
        };
        let outcome = self.catalog().commit_table(&head.table, commit(&[])).await;
        // If this is refused too, the snapshots were not the reason.
        if matches!(outcome, Outcome::Committed(_)) {
            head.hoards_until = Some(Instant::now() + HOARDING);
            tracing::warn!(
                table.ident = %head.table.identifier(),
                error = refusal.report(),
                "The catalog refuses to let old snapshots go; the rows are committed without that, and the table's metadata \
                 grows. It is asked again in an hour."
            );
        }
        outcome
    }

    /// The snapshots that the commit lets go.
    ///
    /// Where only a moved snapshot fences, others may have made a branch or a tag for one of them since the load, and no
    /// requirement says that they have not: so the refs are looked at once more. What is tagged between that look and
    /// the commit, some milliseconds, is let go all the same.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when the table has moved.
    async fn to_let_go(&self, head: &mut Head, changes: &ChangeSet) -> Result<LetGo> {
        let now = self.clock().now();
        let is_refused = head.hoards_until.is_some_and(|until| Instant::now() < until);
        if is_refused && !changes.is_upkeep() {
            return Ok(LetGo::default());
        }
        let over = |metadata: &TableMetadata, refs: &Refs| {
            let (over, at_most) = match changes.is_upkeep() {
                true => (
                    retention::all_expired(metadata, refs, now),
                    retention::AT_MOST_AT_UPKEEP,
                ),
                false => (
                    retention::expired(metadata, refs, now, self.writer()),
                    retention::AT_MOST,
                ),
            };
            let mut ids = retention::oldest(over, metadata, at_most);
            let mut pressed = match self.catalog().max_metadata_bytes() {
                Some(most) => retention::pressed(metadata, refs, now, self.writer(), most),
                None => Vec::new(),
            };
            pressed.retain(|id| !ids.contains(id));
            ids.extend(&pressed);
            LetGo { ids, pressed }
        };
        let let_go = over(head.table.metadata(), &head.refs);
        if let_go.ids.is_empty() || !self.catalog().fences_by_snapshot() {
            return Ok(let_go);
        }
        let Ok(fresh) = self.catalog().load_table(head.table.identifier()).await else {
            // Another time.
            return Ok(LetGo::default());
        };
        let (known, fresh) = (head.table.metadata(), fresh.metadata());
        if (known.uuid(), known.current_snapshot_id()) != (fresh.uuid(), fresh.current_snapshot_id()) {
            let message = "Another commit moved the table first.";
            return Err(Error::new(ErrorKind::Conflict, message).with("table", head.table.identifier()));
        }
        head.refs = Refs::of(fresh)?;
        Ok(over(head.table.metadata(), &head.refs))
    }

    /// Computes the attempt's files on the head, and makes them and the data durable, all at the same time.
    async fn prepare(&self, head: &mut Head, changes: &mut ChangeSet, ready: &mut Ready) -> Result<Attempt> {
        if changes.begun().elapsed(self.clock()) > MAX_LIFE {
            let message = "The change set is older than a day, and its files may be gone; begin anew.";
            return Err(Error::new(ErrorKind::Rejected, message).with("table", head.table.identifier()));
        }
        let after = changes.altered(&head.table)?;
        let existing = self.manifests(head).await?;
        if let Some(overwrite) = changes.overwritten_mut() {
            overwrite.validate(&head.table, &existing, self.random()).await?;
        }
        let mut attempt = self.encode(head, changes, after, existing.clone(), ready).await?;
        self.make_durable(&head.table, changes, &attempt, &existing)
            .await?;
        // Durable now, so later attempts list them as they are.
        for (place, manifest) in std::mem::take(&mut attempt.new) {
            if let Some(group) = changes.groups_mut().get_mut(place) {
                group.manifest = Some(manifest);
            }
        }
        if let Some(overwrite) = changes.overwritten_mut() {
            overwrite.settled(&existing);
        }
        Ok(attempt)
    }

    /// Puts everything that the attempt needs and that is not durable yet, at the same time.
    async fn make_durable(
        &self,
        table: &Table,
        changes: &mut ChangeSet,
        attempt: &Attempt,
        existing: &[ManifestFile],
    ) -> Result<()> {
        let (groups, overwrite) = changes.parts_mut();
        let successors = overwrite
            .into_iter()
            .flat_map(|overwrite| overwrite.pending(existing));
        let own = attempt.files.iter().chain(successors);
        let own = try_join_all(own.map(|file| file.put(table)));
        let data = try_join_all(groups.iter_mut().map(|group| group.settle()));
        let ledger = async {
            match &attempt.ledger {
                Some(next) => self.ledger().put(next).await,
                None => Ok(()),
            }
        };
        tokio::try_join!(own, data, ledger).map(drop)
    }

    async fn encode(
        &self,
        head: &Head,
        changes: &ChangeSet,
        after: Altered,
        mut existing: Vec<ManifestFile>,
        ready: &mut Ready,
    ) -> Result<Attempt> {
        let metadata = head.table.metadata();
        let snapshot_id = self
            .random()
            .snapshot_id(|id| metadata.snapshot_by_id(id).is_some());
        let sequence_number = metadata.next_sequence_number();
        let (mut files, mut new) = (Vec::new(), Vec::new());
        for (place, group) in changes.groups().iter().enumerate() {
            if let Some(overwrite) = changes.overwritten() {
                overwrite.check_new(&after.table, group.files())?;
            }
            if group.manifest.is_none() && !group.files().is_empty() {
                let (manifest, file) =
                    manifests::encode_manifest(&after.table, group.files(), self.random()).await?;
                new.push((place, manifest));
                files.push(file);
            }
        }
        let removed = match changes.overwritten() {
            Some(overwrite) => overwrite.apply(&mut existing),
            None => Removed::default(),
        };
        // An overwrite has looked at the manifests that a merge would take away; a later commit merges what is left.
        if let Some(merge) = &ready.manifests
            && (changes.overwritten().is_some() || !merge.apply(&mut existing))
        {
            ready.manifests = None;
        }
        let reused = changes.groups().iter().filter_map(|group| group.manifest.clone());
        let manifests: Vec<ManifestFile> = new
            .iter()
            .map(|(_, manifest)| manifest.clone())
            .chain(reused)
            .chain(existing)
            .map(|manifest| manifests::inherit(manifest, snapshot_id, sequence_number))
            .collect();
        let list = manifests::encode_list(
            &head.table,
            snapshot_id,
            sequence_number,
            &manifests,
            self.random(),
        )
        .await?;
        let location = list.location.clone();
        files.push(list);
        Ok(Attempt {
            snapshot_id,
            sequence_number,
            after,
            removed,
            manifests,
            new,
            files,
            list: location,
            ledger: self.next_ledger(head, changes, snapshot_id, ready)?,
        })
    }

    /// The ledger after the commit; none when it stays as it is.
    fn next_ledger(
        &self,
        head: &Head,
        changes: &ChangeSet,
        snapshot_id: i64,
        ready: &mut Ready,
    ) -> Result<Option<NextHead>> {
        let mut entries = changes.deliveries();
        entries.iter_mut().for_each(|entry| entry.complete(snapshot_id));
        let instead = changes.ledger().map(|(_, ledger)| ledger);
        if entries.is_empty() && ready.ledger.is_none() && instead.is_none() {
            return Ok(None);
        }
        let addition = Addition {
            instead,
            commit_id: changes.commit_id(),
            entries: &entries,
            now: self.clock().now(),
            retention: changes.retention(),
            merge: ready.ledger.as_ref(),
        };
        let next = self.ledger().next(&head.ledger, &addition, self.random())?;
        if !next.merged {
            ready.ledger = None;
        }
        Ok(Some(next))
    }
}

/// It is in the table, but not yet known for good to be: as if no answer had come.
fn landed_unmarked(error: Error) -> Error {
    let message =
        "The commit landed, and what must be known before it is answered for could not be written or read.";
    Error::new(ErrorKind::OutcomeUnknown, message).with_source(error)
}
