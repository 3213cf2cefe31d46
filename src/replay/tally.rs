//! What became of the letters, by table.

use std::collections::BTreeMap;

use serde::Serialize;

use super::letters::Fate;
use crate::dead_letter::DeadLetter;
use crate::error::Error;

/// Failures that are kept word by word.
const MAX_ERRORS: usize = 20;

/// A table's letters.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Letters whose records are rows now; in a dry run, would be.
    pub landed: u64,
    /// Rows that came of them.
    pub rows: u64,
    /// Letters whose records were in the table already.
    pub already_there: u64,
    /// Letters that are no row yet, and stay; and records that are new letters.
    pub rejected: u64,
    /// Deliveries that are older than the table's ledger remembers, and stay.
    pub too_old: u64,
    /// Letters that could not be sent this time, and stay.
    pub failed: u64,
    /// Why the rejected ones are.
    pub reasons: BTreeMap<String, u64>,
}

/// What a replay came to.
#[derive(Debug, Default)]
pub struct Replayed {
    /// By table, `unrouted` for what none wants.
    pub tables: BTreeMap<String, Tally>,
    /// The first failures.
    pub errors: Vec<Error>,
}

impl Replayed {
    pub(super) fn fail(&mut self, table: &str, error: &Error) {
        self.tables.entry(table.to_owned()).or_default().failed += 1;
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(error.clone());
        }
    }

    pub(super) fn take(&mut self, table: &str, letter: &DeadLetter<'_>, fate: Fate) {
        let tally = self.tables.entry(table.to_owned()).or_default();
        match fate {
            Fate::Landed { rows, rejected } => {
                tally.landed += 1;
                tally.rows += rows;
                tally.rejected += rejected;
            }
            Fate::There => tally.already_there += 1,
            Fate::Rejected(kind) => {
                tally.rejected += 1;
                *tally.reasons.entry(kind).or_default() += 1;
            }
            Fate::TooOld => tally.too_old += 1,
            Fate::Failed(error) => self.fail(table, &error.with("letter", &letter.id)),
        }
    }

    /// All tables together.
    pub fn sum(&self) -> Tally {
        let mut sum = Tally::default();
        for tally in self.tables.values() {
            sum.landed += tally.landed;
            sum.rows += tally.rows;
            sum.already_there += tally.already_there;
            sum.rejected += tally.rejected;
            sum.too_old += tally.too_old;
            sum.failed += tally.failed;
        }
        sum
    }
}
