//! What senders heard, and what schedules add up to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use landfast::error::Error;
use landfast::trigger::Receipt;

use super::parcel::ident;
use super::process::Wire;

/// What schedules add up to.
#[derive(Debug, Default, Clone, Copy)]
pub struct Told {
    pub schedules: u64,
    pub sends: u64,
    pub acks: u64,
    pub refusals: u64,
    pub kills: u64,
    pub deeds: u64,
    pub repairs: u64,
    pub operations: u64,
    pub faults: u64,
    pub checks: u64,
}

impl Told {
    pub fn add(&mut self, other: &Self) {
        self.schedules += other.schedules;
        self.sends += other.sends;
        self.acks += other.acks;
        self.refusals += other.refusals;
        self.kills += other.kills;
        self.deeds += other.deeds;
        self.repairs += other.repairs;
        self.operations += other.operations;
        self.faults += other.faults;
        self.checks += other.checks;
    }
}

/// What became of the parcels, by parcel and table.
#[derive(Debug, Default)]
pub struct Fates {
    pub acked: BTreeSet<(usize, usize)>,
    pub rolled_back: BTreeSet<(usize, usize)>,
    /// How often each may have landed anew. An answer to what was sent before says nothing of what holds after.
    eras: BTreeMap<(usize, usize), u64>,
    pub refusals: Vec<String>,
    pub told: Told,
}

impl Fates {
    pub fn era(&self, one: (usize, usize)) -> u64 {
        self.eras.get(&one).copied().unwrap_or_default()
    }

    /// Someone saw to it that it lands again when it is delivered again.
    pub fn begin_anew(&mut self, one: (usize, usize)) {
        self.acked.remove(&one);
        self.rolled_back.remove(&one);
        *self.eras.entry(one).or_default() += 1;
    }
}

/// Notes an answer to what was sent in an era.
pub fn hear(
    fates: &Mutex<Fates>,
    wire: &Wire,
    (parcel, table): (usize, usize),
    era: u64,
    outcome: Result<Receipt, Error>,
) {
    let mut fates = fates.lock().unwrap_or_else(PoisonError::into_inner);
    match outcome {
        Ok(_) => {
            fates.told.acks += 1;
            if fates.era((parcel, table)) == era {
                fates.acked.insert((parcel, table));
            }
            wire.happened(&format!("ack {parcel} {table}"));
        }
        Err(error) => {
            fates.told.refusals += 1;
            fates
                .refusals
                .push(format!("{}: {}", ident(table), error.report()));
            wire.happened(&format!("nack {parcel} {table}"));
        }
    }
}
