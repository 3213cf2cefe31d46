//! Maintenance: what keeps a table small and proves that it is whole, beside the data path.
//!
//! [`maintain`] lets old snapshots go and sweeps files that nothing names (protocol §5), [`verify`] proves and changes
//! nothing, [`settle_letters`] deals with dead letters that wait for a commit, [`show`], [`forget`] and [`repair`] are
//! for the table's ledger. Every change is a commit through the engine, so all of it may run while deliveries land, and
//! any number of times at once.
//!
//! The invariant of the sweep: a file is deleted only if it is ours by its name, was written three days before the
//! newest snapshot by the store's own clock, and is named by nothing that anybody may still read. Metadata of the
//! `storage` catalog goes after a day, but never the newest, and waiting dead letters that no commit names after three.

mod forget;
mod letters;
mod maintain;
mod names;
mod reach;
mod repair;
mod show;
mod sweep;
mod tables;
mod verify;
mod versions;
mod walk;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

pub use self::forget::{Forgotten, forget};
pub use self::letters::{Settled, settle_letters, tell_unsettled};
pub use self::maintain::{Fenced, Upkeep, fence, maintain};
pub use self::names::Kind;
pub use self::repair::{Repair, Repaired, repair};
pub use self::show::{LedgerPage, SpacePage, show};
pub use self::tables::tables;
pub use self::verify::{Cost, Verdict, verify};

/// How long a commit of ours may lose to others before the next run is left to do it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Files and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Total {
    /// Files.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
}

impl Total {
    fn add(&mut self, bytes: u64) {
        self.files = self.files.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// Totals by kind of file.
pub type Totals = BTreeMap<Kind, Total>;

/// All kinds together.
pub fn sum(totals: &Totals) -> Total {
    totals.values().fold(Total::default(), |sum, total| Total {
        files: sum.files.saturating_add(total.files),
        bytes: sum.bytes.saturating_add(total.bytes),
    })
}

/// Index times as a person reads them; none for the ends of time.
fn time_of(seconds: i64) -> Option<String> {
    let time: DateTime<Utc> = DateTime::from_timestamp(seconds, 0)?;
    Some(time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
}
