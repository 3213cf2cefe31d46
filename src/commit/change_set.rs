//! What a commit changes, kept over all attempts to commit it.

use iceberg::spec::DataFile;
use iceberg::table::Table;
use uuid::Uuid;

use super::alter::{self, Alteration, Altered};
use super::append;
use super::group::Group;
use super::overwrite::{self, Overwrite};
use super::riding::Riding;
use crate::clock::Moment;
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{Entry, Known, LedgerHead};

/// What a change set does to the table's rows, and with it which concurrent changes it tolerates: each says so in its
/// module. A row delta (rows replaced by key) and a rewrite (the same rows in other files) will be kinds here.
#[derive(Debug)]
pub(super) enum Kind {
    /// Adds files; see [`append`].
    Append,
    /// Replaces a part of the table; see [`overwrite`].
    Overwrite(Box<Overwrite>),
    /// Adds a snapshot of the same rows, which moves the fence, and lets go every snapshot whose time is over. Reads
    /// nothing, so it tolerates everything.
    Upkeep {
        /// What the ledger is to hold instead of what the head's ledger holds, and why. Holds for one head only: attempt
        /// it on that head, and compute it anew after a conflict.
        ledger: Option<(&'static str, Box<LedgerHead>)>,
    },
}

/// One atomic change of a table, kept over all attempts to commit it.
#[derive(Debug)]
pub struct ChangeSet {
    kind: Kind,
    commit_id: Uuid,
    begun: Moment,
    retention: std::time::Duration,
    groups: Vec<Group>,
    riding: Option<Riding>,
}

impl ChangeSet {
    /// Makes an empty append. `begun` is when its first file was begun: a change set older than a day is given up.
    pub fn append(commit_id: Uuid, begun: Moment) -> Self {
        Self {
            kind: Kind::Append,
            commit_id,
            begun,
            retention: crate::ledger::DEFAULT_RETENTION,
            groups: Vec::new(),
            riding: None,
        }
    }

    /// Makes an overwrite without new files yet; [`Engine::overwrite`](super::Engine::overwrite) looks at its base.
    pub(super) fn overwrite(commit_id: Uuid, begun: Moment, overwrite: Overwrite) -> Self {
        Self {
            kind: Kind::Overwrite(Box::new(overwrite)),
            retention: std::time::Duration::MAX,
            ..Self::append(commit_id, begun)
        }
    }

    /// Makes a change set without rows: an empty snapshot that moves the fence and lets old snapshots go.
    pub fn upkeep(commit_id: Uuid, begun: Moment) -> Self {
        Self {
            kind: Kind::Upkeep { ledger: None },
            // Whoever does upkeep knows nothing of how long the table's writers want their ledger: nothing is forgotten.
            retention: std::time::Duration::MAX,
            ..Self::append(commit_id, begun)
        }
    }

    /// Makes upkeep after which the ledger holds what `ledger` says, whatever it held; `why` goes into the snapshot's
    /// summary. For one attempt, on the head that `ledger` was computed from.
    pub fn rewriting_ledger(commit_id: Uuid, begun: Moment, why: &'static str, ledger: LedgerHead) -> Self {
        let ledger = Some((why, Box::new(ledger)));
        Self {
            kind: Kind::Upkeep { ledger },
            ..Self::upkeep(commit_id, begun)
        }
    }

    /// Sets how long the table's ledger remembers messages.
    #[must_use]
    pub fn with_retention(mut self, retention: std::time::Duration) -> Self {
        self.retention = retention;
        self
    }

    /// Alters the table in the same commit. The files of the change set are written for `written`, the table as
    /// [`Engine::altered`](super::Engine::altered) gives it. Without rows to land nothing is altered.
    #[must_use]
    pub fn altering(mut self, alterations: Vec<Alteration>, written: &Table) -> Self {
        self.riding = Some(Riding::new(alterations, written));
        self
    }

    /// The table that the change set's files are for, on this load.
    ///
    /// # Errors
    /// [`ErrorKind::TableMismatch`] when the alterations that ride on it do not fit.
    pub(super) fn altered(&self, table: &Table) -> Result<Altered> {
        match &self.riding {
            Some(riding) => riding.on(table),
            None => Ok(alter::unaltered(table)),
        }
    }

    /// Checks that the change set, which fitted the table as it was, fits it as it is now. An overwrite looks at the
    /// part that it replaces when it is attempted.
    ///
    /// # Errors
    /// [`ErrorKind::TableMismatch`].
    pub(super) fn validate(&self, before: &Table, now: &Table) -> Result<()> {
        match &self.kind {
            Kind::Append if self.groups.is_empty() => Ok(()),
            Kind::Append | Kind::Overwrite(_) => append::validate(before, now),
            Kind::Upkeep { .. } => Ok(()),
        }
    }

    /// Adds data files with the deliveries whose rows they hold. A delivery's rows for the table are all in one group
    /// (protocol, step 2).
    pub fn add(&mut self, group: Group) {
        self.groups.push(group);
    }

    /// Replaces a group whose files must be written again without some deliveries; `None` leaves it out.
    pub fn replace(&mut self, place: usize, group: Option<Group>) {
        if place < self.groups.len() {
            self.groups.splice(place..=place, group);
        }
    }

    /// Leaves out the groups of which every delivery is in the table already.
    ///
    /// `known` is the ledger's answer for [`ChangeSet::deliveries`], in order. Groups without deliveries stay.
    pub fn drop_landed(&mut self, known: &[Known]) {
        let mut known = known.iter();
        self.groups.retain(|group| {
            let mut answers = known.by_ref().take(group.deliveries().len()).peekable();
            let landed = answers.peek().is_some() && answers.all(|known| matches!(known, Known::Landed(_)));
            !landed
        });
    }

    /// Leaves out what the ledger says has landed, and says whether nothing is left to commit.
    ///
    /// An overwrite lands whole, so all of its deliveries are there or none.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] for an overwrite of which another commit landed a part.
    pub(super) fn is_settled_by(&mut self, known: &[Known]) -> Result<bool> {
        let landed = known
            .iter()
            .filter(|known| matches!(known, Known::Landed(_)))
            .count();
        match self.kind {
            Kind::Append => {
                self.drop_landed(known);
                Ok(self.groups.is_empty())
            }
            Kind::Overwrite(_) if 0 < landed && landed < known.len() => {
                let message = "Some deliveries of the overwrite are in the table already, and an overwrite lands whole; \
                               begin it anew with the others.";
                Err(Error::new(ErrorKind::Rejected, message))
            }
            Kind::Overwrite(_) => Ok(landed > 0),
            Kind::Upkeep { .. } => Ok(false),
        }
    }

    pub(super) fn is_upkeep(&self) -> bool {
        matches!(self.kind, Kind::Upkeep { .. })
    }

    /// Whether rows or deliveries come with it.
    pub(super) fn lands_something(&self) -> bool {
        !self.groups.is_empty() || self.overwritten().is_some()
    }

    pub(super) fn overwritten(&self) -> Option<&Overwrite> {
        match &self.kind {
            Kind::Overwrite(overwrite) => Some(overwrite),
            _ => None,
        }
    }

    /// The groups, to be settled, and what is replaced.
    pub(super) fn parts_mut(&mut self) -> (&mut [Group], Option<&Overwrite>) {
        let overwrite = match &self.kind {
            Kind::Overwrite(overwrite) => Some(overwrite.as_ref()),
            _ => None,
        };
        (&mut self.groups, overwrite)
    }

    pub(super) fn overwritten_mut(&mut self) -> Option<&mut Overwrite> {
        match &mut self.kind {
            Kind::Overwrite(overwrite) => Some(overwrite),
            _ => None,
        }
    }

    /// What the ledger is to hold instead, and why.
    pub(super) fn ledger(&self) -> Option<(&'static str, &LedgerHead)> {
        match &self.kind {
            Kind::Upkeep {
                ledger: Some((why, head)),
            } => Some((why, head)),
            _ => None,
        }
    }

    /// The id in the snapshot's summary.
    pub fn commit_id(&self) -> Uuid {
        self.commit_id
    }

    pub(super) fn begun(&self) -> Moment {
        self.begun
    }

    pub(super) fn retention(&self) -> std::time::Duration {
        self.retention
    }

    /// Its groups.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    pub(super) fn groups_mut(&mut self) -> &mut [Group] {
        &mut self.groups
    }

    /// The deliveries whose rows the change set carries, group by group. An overwrite that carries none is one itself.
    pub fn deliveries(&self) -> Vec<Entry> {
        let groups = self.groups.iter();
        let entries: Vec<Entry> = groups
            .flat_map(|group| group.deliveries().iter().cloned())
            .collect();
        match (&self.kind, entries.is_empty()) {
            (Kind::Overwrite(_), true) => vec![overwrite::entry_of(self.commit_id)],
            _ => entries,
        }
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &DataFile> {
        self.groups.iter().flat_map(|group| group.files())
    }

    /// Data files.
    pub fn file_count(&self) -> u64 {
        self.files().count() as u64
    }

    /// Rows in the data files.
    pub fn row_count(&self) -> u64 {
        self.files().map(DataFile::record_count).sum()
    }

    /// Bytes of the data files.
    pub fn byte_count(&self) -> u64 {
        self.files().map(DataFile::file_size_in_bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn upkeep_forgets_nothing_for_its_age() {
        let upkeep = ChangeSet::upkeep(Uuid::nil(), Moment::now(&SystemClock));
        assert_eq!(upkeep.retention(), std::time::Duration::MAX);
    }
}
