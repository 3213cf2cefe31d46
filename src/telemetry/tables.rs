//! What happened to each table: counted for Prometheus, and kept in short for the status page.
//!
//! Each fact is told here once, and goes to both. What is kept is bounded, and holds no payload: names of tables, numbers,
//! times, and kinds of errors and of dead letters.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    BATCHES_ABANDONED, BATCHES_COMMITTED, BYTES_WRITTEN, COMMIT_DURATION, COMMIT_RETRIES, DEAD_LETTERS,
    DUPLICATES, LAST_COMMIT, RECORDS_PER_BATCH, RECORDS_WRITTEN, REFUSED_FILES,
};
use crate::error::ErrorKind;

/// Tables that are kept, as many as a process feeds; what happens to others is in the sums alone.
const MAX_TABLES: usize = 1000;

/// The newest commits of a table that are kept.
pub const MAX_COMMITS: usize = 60;

/// Reasons of dead letters that are told apart; there are fewer, but those of letters of other versions are read back.
const MAX_REASONS: usize = 32;

/// A state of a table: who tells of one later need not have met it later.
#[derive(Debug, Clone, Copy)]
pub struct TableState {
    /// Which table: another may have been made under its name, and counts its commits anew.
    pub uuid: Uuid,
    /// The last sequence number of its commits.
    pub sequence_number: i64,
    /// Its rows; none where its summary does not say.
    pub total_rows: Option<u64>,
}

impl TableState {
    fn is_after(&self, other: &Self) -> bool {
        self.uuid == other.uuid && self.sequence_number > other.sequence_number
    }
}

/// A commit that landed, of whatever it came by.
#[derive(Debug, Clone, Copy, Default)]
pub struct Landed {
    /// When.
    pub at: DateTime<Utc>,
    /// Rows that it added.
    pub row_count: u64,
    /// Bytes of its data files.
    pub byte_count: u64,
    /// From the hand-over, all attempts.
    pub elapsed: Duration,
    /// How old its oldest row was, since it was published; none where nobody knows.
    pub age: Option<Duration>,
    /// The snapshot that it made.
    pub snapshot_id: i64,
    /// The table as it was then, where that is known.
    pub state: Option<TableState>,
}

impl Landed {
    fn is_after(&self, other: &Self) -> bool {
        let states = self.state.zip(other.state);
        states.is_some_and(|(state, other)| state.is_after(&other))
    }
}

/// How long a failure may go without being repeated before it has passed: what failed comes again within ten minutes, the
/// longest pause of Pub/Sub, or was taken back, or has landed by another process.
const REPEATED_WITHIN: Duration = Duration::from_secs(15 * 60);

/// Why the last batch, file or object for a table did not land, or the table could not be opened.
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    /// The kind of the error.
    pub kind: ErrorKind,
    /// When.
    pub at: Instant,
    /// Whether the table was not even open.
    is_of_opening: bool,
    /// Whether something shows that it has passed.
    has_passed: bool,
}

impl Failure {
    /// Whether nothing shows that it has passed, and it is not long ago.
    pub fn lasts(&self, now: Instant) -> bool {
        !self.has_passed && now.saturating_duration_since(self.at) < REPEATED_WITHIN
    }
}

/// Dead letters, by reason.
#[derive(Debug, Default)]
pub struct Letters {
    /// All of them.
    pub count: u64,
    reasons: BTreeMap<String, (u64, Instant)>,
}

impl Letters {
    fn count(&mut self, reason: &str) {
        self.count += 1;
        let is_known = self.reasons.contains_key(reason) || self.reasons.len() < MAX_REASONS;
        let reason = if is_known { reason } else { "other" };
        let (count, last) = self
            .reasons
            .entry(reason.to_owned())
            .or_insert_with(|| (0, Instant::now()));
        *count += 1;
        *last = Instant::now();
    }

    /// The reasons of the latest letters, the latest first: each with its count, and when it was last met.
    pub fn latest(&self, most: usize) -> Vec<(&str, u64, Instant)> {
        let reasons = self.reasons.iter();
        let mut reasons: Vec<_> = reasons
            .map(|(reason, (count, last))| (reason.as_str(), *count, *last))
            .collect();
        reasons.sort_by_key(|(_, _, last)| std::cmp::Reverse(*last));
        reasons.truncate(most);
        reasons
    }
}

/// Sums, of one table or of all.
#[derive(Debug, Default)]
pub struct Sums {
    /// Commits that landed.
    pub commit_count: u64,
    /// Rows that they added.
    pub row_count: u64,
    /// Bytes of their data files.
    pub byte_count: u64,
    /// Attempts that another commit was before.
    pub conflict_count: u64,
    /// Attempts whose outcome never came back.
    pub unknown_outcome_count: u64,
    /// Copies of deliveries that were dropped.
    pub duplicate_count: u64,
    /// Batches given up.
    pub abandoned_count: u64,
    /// Dead letters that count.
    pub letters: Letters,
}

/// What happened to one table.
#[derive(Debug, Default)]
pub struct Table {
    /// Its sums.
    pub sums: Sums,
    /// Whether this process has had it open: letters may be all there is of a table.
    pub was_open: bool,
    /// The newest state that was met.
    state: Option<TableState>,
    /// Its newest commits, the oldest first.
    pub commits: VecDeque<Landed>,
    /// The last failure.
    pub failure: Option<Failure>,
}

impl Table {
    /// The rows of the newest state that was met; none where its summary does not say.
    pub fn total_rows(&self) -> Option<u64> {
        self.state?.total_rows
    }

    fn met(&mut self, state: TableState) {
        self.was_open = true;
        if !self.state.is_some_and(|known| known.is_after(&state)) {
            self.state = Some(state);
        }
    }
}

/// What happened to all of them, since the process started.
#[derive(Debug, Default)]
pub struct Tables {
    tables: BTreeMap<String, Table>,
    /// Over all tables, those that are not kept too.
    pub sums: Sums,
    /// Dead letters that no table wants.
    pub unrouted: Letters,
    /// Whether there are tables that are not kept.
    pub are_cut: bool,
}

impl Tables {
    /// What happened to a table; nothing where nothing did.
    pub fn of(&self, table: &str) -> Option<&Table> {
        self.tables.get(table)
    }

    /// All that are kept, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Table)> {
        self.tables.iter().map(|(name, table)| (name.as_str(), table))
    }

    /// Does the same to the sums of all tables and to those of one.
    fn add(&mut self, table: &str, add: impl Fn(&mut Sums)) {
        add(&mut self.sums);
        if let Some(table) = self.table(table) {
            add(&mut table.sums);
        }
    }

    fn table(&mut self, name: &str) -> Option<&mut Table> {
        if !self.tables.contains_key(name) {
            if self.tables.len() >= MAX_TABLES {
                self.are_cut = true;
                return None;
            }
            self.tables.insert(name.to_owned(), Table::default());
        }
        self.tables.get_mut(name)
    }

    fn landed(&mut self, table: &str, landed: Landed) {
        self.add(table, |sums| {
            sums.commit_count += 1;
            sums.row_count += landed.row_count;
            sums.byte_count += landed.byte_count;
        });
        let Some(table) = self.table(table) else { return };
        let newest_first = table.commits.iter().rev();
        let later = newest_first.take_while(|commit| commit.is_after(&landed)).count();
        table.commits.insert(table.commits.len() - later, landed);
        if table.commits.len() > MAX_COMMITS {
            table.commits.pop_front();
        }
        table.was_open = true;
        if let Some(state) = landed.state {
            table.met(state);
        }
        if let Some(failure) = &mut table.failure {
            failure.has_passed = true;
        }
    }

    /// Copies of what has landed, perhaps by a commit whose answer was lost, show that a failure has passed.
    fn duplicates(&mut self, table: &str, copies: u64, have_landed: bool) {
        self.add(table, |sums| sums.duplicate_count += copies);
        let failure = self.table(table).and_then(|table| table.failure.as_mut());
        if let Some(failure) = failure.filter(|_| have_landed && copies > 0) {
            failure.has_passed = true;
        }
    }

    fn opened(&mut self, table: &str, state: TableState) {
        let Some(table) = self.table(table) else { return };
        table.met(state);
        if let Some(failure) = table.failure.as_mut().filter(|failure| failure.is_of_opening) {
            failure.has_passed = true;
        }
    }

    fn failed(&mut self, table: &str, kind: ErrorKind, is_of_opening: bool) {
        let Some(table) = self.table(table) else { return };
        table.failure = Some(Failure {
            kind,
            at: Instant::now(),
            is_of_opening,
            has_passed: false,
        });
    }

    fn letter(&mut self, table: Option<&str>, reason: &str) {
        self.sums.letters.count(reason);
        let letters = match table {
            None => Some(&mut self.unrouted),
            Some(table) => self.table(table).map(|table| &mut table.sums.letters),
        };
        if let Some(letters) = letters {
            letters.count(reason);
        }
    }
}

/// The process's own, as its metrics are.
static TABLES: LazyLock<Mutex<Tables>> = LazyLock::new(Mutex::default);

fn tables() -> MutexGuard<'static, Tables> {
    TABLES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks at what happened. Whatever counts something meanwhile waits for it.
pub fn read_tables<T>(look: impl FnOnce(&Tables) -> T) -> T {
    look(&tables())
}

/// Counts a commit that landed.
pub fn count_commit(table: &str, landed: Landed) {
    let name = table.to_owned();
    metrics::counter!(RECORDS_WRITTEN, "table" => name.clone()).increment(landed.row_count);
    metrics::counter!(BATCHES_COMMITTED, "table" => name.clone()).increment(1);
    metrics::counter!(BYTES_WRITTEN, "table" => name.clone()).increment(landed.byte_count);
    metrics::histogram!(COMMIT_DURATION, "table" => name.clone()).record(landed.elapsed.as_secs_f64());
    metrics::histogram!(RECORDS_PER_BATCH, "table" => name.clone()).record(landed.row_count as f64);
    metrics::gauge!(LAST_COMMIT, "table" => name).set(landed.at.timestamp() as f64);
    tables().landed(table, landed);
}

/// Counts copies of deliveries that are dropped. `reason` is what became of the first.
pub fn count_duplicates(table: &str, reason: &'static str, copies: u64) {
    let labels = [("table", table.to_owned()), ("reason", reason.to_owned())];
    metrics::counter!(DUPLICATES, &labels).increment(copies);
    tables().duplicates(table, copies, reason == "landed");
}

/// Counts an attempt that did not commit, and is made again.
pub fn count_retry(table: &str, kind: ErrorKind) {
    let labels = [("table", table.to_owned()), ("kind", kind.name().to_owned())];
    metrics::counter!(COMMIT_RETRIES, &labels).increment(1);
    tables().add(table, |sums| match kind {
        ErrorKind::Conflict => sums.conflict_count += 1,
        _ => sums.unknown_outcome_count += 1,
    });
}

/// Counts a batch that is given up.
pub fn count_abandoned(table: &str, kind: ErrorKind) {
    let labels = [("table", table.to_owned()), ("reason", kind.name().to_owned())];
    metrics::counter!(BATCHES_ABANDONED, &labels).increment(1);
    let mut tables = tables();
    tables.add(table, |sums| sums.abandoned_count += 1);
    tables.failed(table, kind, false);
}

/// Counts a dead letter. `table` is none where no table wanted it.
pub fn count_letter(table: Option<&str>, reason: &str) {
    let name = table.unwrap_or("none");
    let labels = [("table", name.to_owned()), ("reason", reason.to_owned())];
    metrics::counter!(DEAD_LETTERS, &labels).increment(1);
    tables().letter(table, reason);
}

/// Counts a file of a folder that is moved to the dead letters. `table` is none where no table wanted it.
pub fn count_refused_file(table: Option<&str>, reason: &'static str) {
    let name = table.unwrap_or("none").to_owned();
    tables().letter(table, "refused_file");
    metrics::counter!(REFUSED_FILES, "table" => name, "reason" => reason).increment(1);
}

/// Takes note that a file or an object did not land in a table now. What the process has no room or no time for says nothing
/// of the table.
pub fn table_not_loaded(table: &str, kind: ErrorKind) {
    if !matches!(kind, ErrorKind::Full | ErrorKind::ShuttingDown) {
        tables().failed(table, kind, false);
    }
}

/// Takes note that a table is open, and in which state.
pub fn table_opened(table: &str, state: TableState) {
    tables().opened(table, state);
}

/// Takes note that a table cannot be opened.
pub fn table_not_opened(table: &str, kind: ErrorKind) {
    tables().failed(table, kind, true);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state that has as many rows as commits.
    fn state(table: u128, sequence_number: u32) -> TableState {
        TableState {
            uuid: Uuid::from_u128(table),
            sequence_number: sequence_number.into(),
            total_rows: Some(sequence_number.into()),
        }
    }

    #[test]
    fn rows_are_those_of_the_newest_state_whichever_is_told_last() {
        let mut tables = Tables::default();
        let land = |tables: &mut Tables, table: u128, number: u32| {
            let landed = Landed {
                snapshot_id: number.into(),
                state: Some(state(table, number)),
                ..Landed::default()
            };
            tables.landed("t", landed);
        };
        let told = |tables: &Tables| {
            let table = tables.of("t").unwrap();
            let commits: Vec<i64> = table.commits.iter().map(|commit| commit.snapshot_id).collect();
            (table.total_rows(), commits)
        };
        tables.opened("t", state(1, 1));
        for number in [2, 5, 3, 4] {
            land(&mut tables, 1, number);
        }
        assert_eq!(told(&tables), (Some(5), vec![2, 3, 4, 5]));
        tables.opened("t", state(1, 3));
        tables.landed("t", Landed::default());
        assert_eq!(
            told(&tables).0,
            Some(5),
            "an older state was met, and one that nobody knows"
        );
        // Dropped, and made anew under its name.
        tables.opened("t", state(2, 0));
        assert_eq!(told(&tables).0, Some(0));
        for number in [2, 1] {
            land(&mut tables, 2, number);
        }
        assert_eq!(told(&tables), (Some(2), vec![2, 3, 4, 5, 0, 1, 2]));
        // One that is older than all that are kept.
        for number in 3..=MAX_COMMITS as u32 + 2 {
            land(&mut tables, 2, number);
        }
        let before = told(&tables);
        land(&mut tables, 2, 1);
        assert_eq!(told(&tables), before);
        assert_eq!(before.1.len(), MAX_COMMITS);
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_sums_are_whole() {
        let mut tables = Tables::default();
        for number in 0..MAX_TABLES + 10 {
            let landed = Landed {
                row_count: 2,
                ..Landed::default()
            };
            tables.landed(&format!("t.{number}"), landed);
            tables.letter(Some("t.1"), &format!("reason {number}"));
        }
        assert_eq!(tables.iter().count(), MAX_TABLES);
        assert!(tables.are_cut && tables.of("t.1000").is_none());
        assert_eq!(tables.sums.row_count, 2 * (MAX_TABLES as u64 + 10));
        let letters = &tables.of("t.1").unwrap().sums.letters;
        assert_eq!(letters.count, MAX_TABLES as u64 + 10);
        assert_eq!(letters.reasons.len(), MAX_REASONS + 1);
        assert_eq!(letters.latest(1).first().unwrap().0, "other");
        for snapshot_id in 0..100 {
            let landed = Landed {
                snapshot_id,
                ..Landed::default()
            };
            tables.landed("t.1", landed);
        }
        let commits = &tables.of("t.1").unwrap().commits;
        assert_eq!(
            (commits.len(), commits.back().unwrap().snapshot_id),
            (MAX_COMMITS, 99)
        );
    }

    #[test]
    fn failures_last_until_something_shows_otherwise() {
        let mut tables = Tables::default();
        let failure = |tables: &Tables| tables.of("t").unwrap().failure.unwrap();
        let lasts = |tables: &Tables| failure(tables).lasts(Instant::now());
        tables.failed("t", ErrorKind::TableMismatch, true);
        assert!(lasts(&tables));
        let (met, minute) = (failure(&tables), Duration::from_secs(60));
        assert!(met.lasts(met.at + 10 * minute) && !met.lasts(met.at + 15 * minute));
        tables.opened("t", state(1, 7));
        assert!(!lasts(&tables));
        tables.failed("t", ErrorKind::Unavailable, false);
        tables.opened("t", state(1, 7));
        assert!(lasts(&tables), "it is opened anew for each batch that fails");
        tables.landed("t", Landed::default());
        assert!(!lasts(&tables));
        tables.failed("t", ErrorKind::OutcomeUnknown, false);
        tables.duplicates("t", 1, false);
        tables.duplicates("t", 0, true);
        assert!(lasts(&tables));
        tables.duplicates("t", 1, true);
        assert!(!lasts(&tables), "the commit whose answer was lost has landed");
    }

    #[test]
    fn latest_reasons_are_those_met_last() {
        let mut letters = Letters::default();
        for reason in ["a", "b", "c", "a"] {
            letters.count(reason);
            std::thread::sleep(Duration::from_millis(2));
        }
        let latest: Vec<_> = letters
            .latest(2)
            .into_iter()
            .map(|(reason, count, _)| (reason, count))
            .collect();
        assert_eq!(latest, [("a", 2), ("c", 1)]);
        assert_eq!(letters.count, 4);
    }
}
