//! Any schedule of deliveries, faults and lost races: what was acknowledged is in the table, and nothing is twice.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::Utc;
use iceberg::TableUpdate;
use landfast::catalog::{Catalog, StorageCatalog, TableCommit};
use landfast::clock::SystemClock;
use landfast::storage::Store;
use libtest_mimic::Trial;
use object_store::memory::InMemory;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::runtime::Builder;

use super::{ACK_DEADLINE, House, declared, inferred, row};
use crate::support::clock::TestClock;
use crate::support::faults::{Fault, Faults, Gate, Op};
use crate::support::tables::{ids, orders, referenced_files};
use crate::support::{Stop, TestResult, test};

/// Real time that the schedules take together.
const BUDGET: Duration = Duration::from_secs(8);
const FIRST_SEED: u64 = 1;
const DELIVERIES: i64 = 24;
/// Chance that an operation meets a fault, that the metadata write does, and that a refused delivery never comes again.
const FAULTY: f64 = 0.1;
const FAULTY_COMMIT: f64 = 0.5;
const GIVEN_UP: f64 = 0.15;

pub fn tests() -> Vec<Trial> {
    vec![test(
        concat!(
            module_path!(),
            "::acknowledged_rows_are_in_the_table_after_any_schedule"
        ),
        acknowledged_rows_are_in_the_table_after_any_schedule,
    )]
}

async fn acknowledged_rows_are_in_the_table_after_any_schedule() -> TestResult {
    // Each schedule has a runtime of its own, whose clock is paused, away from this one.
    let ran = tokio::task::spawn_blocking(|| {
        let started = std::time::Instant::now();
        let (mut seed, mut told) = (FIRST_SEED, Told::default());
        while started.elapsed() < BUDGET {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .start_paused(true)
                .build()?;
            let outcome = runtime.block_on(async {
                let forever = Duration::from_secs(24 * 3600);
                let run = tokio::time::timeout(forever, Schedule::new(seed).run()).await;
                run.unwrap_or_else(|_elapsed| Err("It waits for what never comes.".into()))
            });
            match outcome {
                Ok(one) => told.add(&one),
                Err(Stop::Failed(text)) => return Err(format!("Seed {seed}: {text}").into()),
                Err(ignored) => return Err(ignored),
            }
            seed += 1;
        }
        writeln!(
            std::io::stderr(),
            "seeds {FIRST_SEED} to {}: {} deliveries, {} acknowledged, {} refusals, {} faults",
            seed - 1,
            told.deliveries,
            told.acked,
            told.refusals,
            told.faults
        )?;
        TestResult::Ok(())
    });
    ran.await?
}

/// What schedules add up to.
#[derive(Debug, Default)]
struct Told {
    deliveries: u64,
    acked: u64,
    refusals: u64,
    faults: u64,
}

impl Told {
    fn add(&mut self, other: &Self) {
        self.deliveries += other.deliveries;
        self.acked += other.acked;
        self.refusals += other.refusals;
        self.faults += other.faults;
    }
}

/// What became of one delivery.
#[derive(Debug, Default, Clone, Copy)]
struct Fate {
    attempts: u64,
    acked: bool,
}

struct Schedule {
    random: StdRng,
    houses: [House; 2],
    /// Another process, whose store never fails.
    foreign: StorageCatalog,
    faults: Faults,
    drawn: Arc<Mutex<(u64, Vec<Gate>)>>,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let objects = Arc::new(InMemory::new());
        let faults = Faults::default();
        let warehouse = faults.store("memory:///w", objects.clone());
        let letters = Faults::default();
        let letter_store = letters.store("memory:///d", InMemory::new());
        let config = if random.random_bool(0.5) {
            declared()
        } else {
            inferred()
        };
        let houses = [1, 2].map(|process| {
            House::over(
                config.clone(),
                seed * 10 + process,
                TestClock::at(Utc::now()),
                (faults.clone(), warehouse.clone()),
                (letters.clone(), letter_store.clone()),
            )
        });
        let foreign = StorageCatalog::new(Store::new("memory:///w", objects), Arc::new(SystemClock));
        let drawn = Arc::new(Mutex::new((0, Vec::new())));
        let (draw, mut chance) = (drawn.clone(), StdRng::seed_from_u64(seed ^ 0xfa17));
        faults.choose(move |op, path| {
            let faulty = if path.contains("/metadata/v") {
                FAULTY_COMMIT
            } else {
                FAULTY
            };
            if !chance.random_bool(faulty) {
                return None;
            }
            if op != Op::Put {
                return chance.random_bool(0.3).then_some(Fault::Refuse);
            }
            let mut drawn = draw.lock().unwrap_or_else(PoisonError::into_inner);
            drawn.0 += 1;
            Some(match chance.random_range(0..6) {
                0 => Fault::Refuse,
                1 => Fault::FailAfter,
                2 => Fault::Repeat,
                3 => Fault::Delay(Duration::from_millis(chance.random_range(1..5_000))),
                // Some hang beyond every deadline.
                4 => Fault::Delay(Duration::from_secs(chance.random_range(40..80))),
                _ => {
                    let gate = Gate::new();
                    drawn.1.push(gate.clone());
                    Fault::Late(gate)
                }
            })
        });
        Self {
            random,
            houses,
            foreign,
            faults,
            drawn,
        }
    }

    async fn run(mut self) -> TestResult<Told> {
        let mut fates: BTreeMap<i64, Fate> = (0..DELIVERIES).map(|id| (id, Fate::default())).collect();
        let mut told = Told {
            deliveries: fates.len() as u64,
            ..Told::default()
        };
        let mut due: Vec<i64> = fates.keys().copied().collect();
        for round in 0.. {
            // The last rounds are calm, so that the schedule ends.
            if round == 6 {
                self.faults.clear();
            }
            if due.is_empty() {
                break;
            }
            if round > 9 {
                return Err(format!("{due:?} are refused though nothing fails.").into());
            }
            due = self.round(&due, &mut fates, &mut told).await?;
        }
        self.faults.clear();
        for house in &self.houses {
            house.close().await?;
        }
        told.faults = self.drawn.lock().unwrap_or_else(PoisonError::into_inner).0;
        // What was under way for all this time lands now, if it still can.
        self.release(1.0);
        tokio::time::sleep(Duration::from_secs(120)).await;
        self.check(&fates).await?;
        Ok(told)
    }

    /// Sends these deliveries at random times to random processes; gives those that come again.
    async fn round(
        &mut self,
        due: &[i64],
        fates: &mut BTreeMap<i64, Fate>,
        told: &mut Told,
    ) -> TestResult<Vec<i64>> {
        let mut again = Vec::new();
        for wave in due.chunks(8) {
            let mut sent = Vec::new();
            for id in wave {
                let house = &self.houses[self.random.random_range(0..2)];
                let patience = Duration::from_secs(self.random.random_range(1..ACK_DEADLINE.as_secs()));
                let (delivery, answer) = house.delivery(&id.to_string(), &row(*id), patience)?;
                house.writers.accept(orders(), &house.config, delivery);
                fates.entry(*id).or_default().attempts += 1;
                sent.push((*id, answer));
                tokio::time::sleep(Duration::from_millis(self.random.random_range(0..800))).await;
                if self.random.random_bool(0.3) {
                    self.lose_a_race().await;
                }
                self.release(0.2);
            }
            for (id, answer) in sent {
                match answer.outcome().await?.0 {
                    Ok(receipt) => {
                        assert_eq!((receipt.row_count, receipt.dead_letter_count), (1, 0));
                        fates.entry(id).or_default().acked = true;
                        told.acked += 1;
                    }
                    Err(_refusal) => {
                        told.refusals += 1;
                        if !self.random.random_bool(GIVEN_UP) {
                            again.push(id);
                        }
                    }
                }
            }
        }
        Ok(again)
    }

    /// Another process commits something first. It may lose the race itself.
    async fn lose_a_race(&self) {
        if let Ok(base) = self.foreign.load_table(&orders()).await {
            let commit = TableCommit {
                requirements: Vec::new(),
                updates: vec![TableUpdate::SetProperties {
                    updates: [("foreign".to_owned(), "yes".to_owned())].into(),
                }],
            };
            let _won_or_lost = self.foreign.commit_table(&base, commit).await;
        }
    }

    /// Opens each gate with this chance.
    fn release(&mut self, chance: f64) {
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        drawn.1.retain(|gate| {
            let opens = self.random.random_bool(chance);
            if opens {
                gate.release();
            }
            !opens
        });
    }

    async fn check(&self, fates: &BTreeMap<i64, Fate>) -> TestResult {
        let table = match self.foreign.load_table(&orders()).await {
            Ok(table) => table,
            Err(error) if fates.values().all(|fate| !fate.acked) => {
                assert_eq!(error.kind(), landfast::error::ErrorKind::NotFound);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let house = &self.houses[0];
        let present: BTreeSet<String> = house.warehouse.keys("").await?.into_iter().collect();
        for file in referenced_files(&table).await? {
            let key = house.warehouse.key(&file)?;
            assert!(present.contains(key), "The snapshot needs {key}, which is gone.");
        }
        let mut counts: BTreeMap<i64, u64> = BTreeMap::new();
        for id in ids(&table).await? {
            *counts.entry(id).or_default() += 1;
        }
        for (id, fate) in fates {
            let rows = counts.remove(id).unwrap_or(0);
            assert!(
                rows >= u64::from(fate.acked),
                "Row {id} was acknowledged and is lost."
            );
            assert!(rows <= 1, "Row {id} is there {rows} times after {fate:?}.");
        }
        assert!(counts.is_empty(), "Rows that were never sent: {counts:?}");
        assert!(
            house.letters.keys("").await?.is_empty(),
            "Good records were dead-lettered."
        );
        Ok(())
    }
}
