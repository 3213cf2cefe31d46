//! A schedule: what there is, and what happens to it, all drawn from one seed.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

pub const HOUR: i64 = 3600;
pub const DAY: i64 = 24 * HOUR;

/// What names the tables' newest metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Storage,
    Rest,
    Sqlite,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Storage, Self::Rest, Self::Sqlite];
}

/// One thing to be delivered.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// The tables that it has rows for.
    pub tables: Vec<usize>,
    pub rows: i64,
    pub rejected: usize,
    /// A message, which is forgotten some day; else a file.
    pub is_message: bool,
    /// When it was published, in seconds before the schedule began.
    pub age: i64,
}

/// What another engine, or an operator, does to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Adds a snapshot without our pointer.
    Append,
    /// Replaces all data files by one, rows kept.
    Compact,
    /// Lets all snapshots go but the current one.
    Expire,
    /// Makes the parent of the current snapshot the current one.
    Rollback,
    /// `CREATE OR REPLACE TABLE`: no current snapshot, the properties and with them our pointer as they were.
    Replace,
    /// Sets a property that is not ours.
    Property,
    /// Removes our pointer.
    Unset,
    /// Copies the properties of another table.
    Copied,
    /// Deletes unreferenced files of the table's folder that are older than three days.
    Clean,
    /// Lets the deliveries land again whose rows a rollback took: `landfast ledger forget`.
    Forget,
    /// Drops the table; the next delivery makes it anew.
    Drop,
}

/// One step of a schedule.
#[derive(Debug, Clone)]
pub enum Action {
    /// Hands a parcel to a process, as often as `copies` says; a deaf sender never hears the answer.
    Send {
        process: usize,
        parcel: usize,
        patience_seconds: u64,
        copies: usize,
        deaf: bool,
    },
    /// Time passes.
    Wait { ms: u64 },
    /// Much time passes.
    Days { days: u64 },
    /// The process ends after so many more operations, the last of them applied or not, and another one starts.
    Kill {
        process: usize,
        operations: u32,
        applied: bool,
    },
    /// The process stands still.
    Pause { process: usize, ms: u64 },
    /// Its clock jumps.
    Jump { process: usize, seconds: i64 },
    /// Every so-manieth request that was under way lands.
    Strays { every: usize },
    /// Someone else works on a table.
    Foreign { table: usize, deed: Deed },
}

/// A schedule.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub kind: Kind,
    /// How far each process's clock is off, in seconds.
    pub skews: Vec<i64>,
    /// Deliveries that each table's ledger holds at the start.
    pub preloads: Vec<usize>,
    pub parcels: Vec<Parcel>,
    /// Chance that an operation meets a fault.
    pub fault: f64,
    /// Whether manifests are merged and snapshots expired at every turn.
    pub busy_upkeep: bool,
    pub actions: Vec<Action>,
}

impl Plan {
    pub fn draw(seed: u64, kind: Kind) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let processes = random.random_range(2..=4);
        let tables = random.random_range(1..=2);
        let skewed = random.random_bool(0.5);
        let skews = (0..processes).map(|_| match skewed {
            true => random.random_range(-DAY..=DAY),
            false => 0,
        });
        let skews: Vec<i64> = skews.collect();
        let preloads = (0..tables).map(|_| match random.random_range(0..10) {
            0..=5 => 0,
            6..=8 => 997,
            _ => 1001 * 8,
        });
        let preloads: Vec<usize> = preloads.collect();
        let old = random.random_bool(0.25);
        let count = random.random_range(4..=14);
        let parcels: Vec<Parcel> = (0..count)
            .map(|_| Parcel::draw(&mut random, tables, old))
            .collect();
        let mut plan = Self {
            seed,
            kind,
            skews,
            preloads,
            parcels,
            fault: *[0.0, 0.03, 0.1, 0.25].choose(&mut random).unwrap_or(&0.0),
            busy_upkeep: random.random_bool(0.4),
            actions: Vec::new(),
        };
        plan.draw_actions(&mut random);
        plan
    }

    fn draw_actions(&mut self, random: &mut StdRng) {
        let deeds = deeds(random);
        let (kills, long) = (random.random_bool(0.6), random.random_bool(0.3));
        let count = random.random_range(8..=50);
        let mut fresh = 0;
        for _ in 0..count {
            let process = random.random_range(0..self.skews.len());
            let table = random.random_range(0..self.preloads.len());
            let action = match random.random_range(0..100) {
                0..45 => {
                    // Mostly the next one, else any earlier one again, acknowledged or not.
                    let is_next = fresh < self.parcels.len() && random.random_bool(0.6);
                    let parcel = if is_next {
                        fresh
                    } else {
                        random.random_range(0..=fresh)
                    };
                    fresh += usize::from(is_next);
                    Action::Send {
                        process,
                        parcel: parcel.min(self.parcels.len() - 1),
                        patience_seconds: random.random_range(1..50),
                        copies: if random.random_bool(0.15) { 2 } else { 1 },
                        deaf: random.random_bool(0.15),
                    }
                }
                45..65 => Action::Wait {
                    ms: *[1, 20, 100, 600, 2_500, 20_000, 90_000]
                        .choose(random)
                        .unwrap_or(&1),
                },
                65..67 if long => {
                    // Files that nothing needs are old then.
                    self.actions.push(Action::Days {
                        days: random.random_range(1..=5),
                    });
                    Action::Foreign {
                        table,
                        deed: Deed::Clean,
                    }
                }
                67..75 if kills => Action::Kill {
                    process,
                    operations: random.random_range(0..25),
                    applied: random.random_bool(0.5),
                },
                75..78 => Action::Pause {
                    process,
                    ms: *[50, 3_000, 60_000].choose(random).unwrap_or(&50),
                },
                78..80 => Action::Jump {
                    process,
                    seconds: random.random_range(-DAY..=DAY),
                },
                80..86 => Action::Strays {
                    every: random.random_range(1..=3),
                },
                86..100 if !deeds.is_empty() => Action::Foreign {
                    table,
                    deed: *deeds.choose(random).unwrap_or(&Deed::Property),
                },
                _ => Action::Wait { ms: 200 },
            };
            self.actions.push(action);
        }
    }
}

/// What others do in one schedule. A rollback and a lost pointer together take the ledger back, which is an operator's
/// to repair; apart, each must be survived. Deeds that undo what was acknowledged come with all others.
fn deeds(random: &mut StdRng) -> Vec<Deed> {
    let mut deeds = vec![
        Deed::Append,
        Deed::Compact,
        Deed::Expire,
        Deed::Property,
        Deed::Clean,
    ];
    match random.random_range(0..3) {
        0 => deeds.extend([Deed::Rollback, Deed::Replace, Deed::Forget]),
        1 => deeds.extend([Deed::Unset, Deed::Copied]),
        _ => {}
    }
    if random.random_bool(0.2) {
        deeds.push(Deed::Drop);
    }
    let some = random.random_range(0.0..1.0);
    deeds.retain(|_| random.random_bool(some));
    deeds
}

impl Parcel {
    fn draw(random: &mut StdRng, tables: usize, old: bool) -> Self {
        let both = tables == 2 && random.random_bool(0.4);
        let rejected = usize::from(random.random_bool(0.1));
        Self {
            tables: match both {
                true => vec![0, 1],
                false => vec![random.random_range(0..tables)],
            },
            rows: random.random_range(if rejected > 0 { 0 } else { 1 }..=3),
            rejected,
            is_message: random.random_bool(0.85),
            age: match old {
                true => random.random_range(0..12 * DAY),
                false => random.random_range(0..2 * HOUR),
            },
        }
    }
}
