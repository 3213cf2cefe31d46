//! One schedule under way: processes over one lake, senders that deliver again, others who interfere, and the oracle.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use landfast::clock::Clock;
use landfast::ledger::{Entry, Ledger};
use landfast::storage::Store;
use landfast::telemetry::Trace;
use landfast::trigger::{Ack, Delivery, Envelope};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tokio::time::{Instant, sleep, timeout};

use super::clock::SimClock;
use super::foreign::Foreign;
use super::lake::Lake;
use super::oracle::{Expectation, Oracle};
use super::parcel::{config, envelope, ident, payload, row_ids};
use super::plan::{Action, Plan};
use super::process::{Process, Wire};
use super::sql::Sqlite;
use super::told::{Fates, Told, hear};
use crate::support::TestResult;

/// Rounds of redelivery without faults after which everything must have been answered.
const CALM_ROUNDS: usize = 6;
const PATIENCE: Duration = Duration::from_secs(50);

/// What a schedule works on.
pub struct World {
    pub(super) plan: Plan,
    pub(super) lake: Arc<Lake>,
    pub(super) wire: Arc<Wire>,
    pub(super) letters: Arc<dyn ObjectStore>,
    pub(super) processes: Vec<Process>,
    pub(super) foreign: Foreign,
    pub(super) fates: Arc<Mutex<Fates>>,
    pub(super) oracle: Oracle,
    pub(super) started: Instant,
    pub(super) incarnations: u64,
    /// When each file was first seen, in seconds of the schedule.
    pub(super) ages: BTreeMap<String, u64>,
    pub(super) is_calm: bool,
    /// What each table had come to at the last check: states, and acknowledgements.
    pub(super) checked: BTreeMap<usize, (usize, usize)>,
}

impl World {
    pub fn new(plan: Plan, sqlite: &Sqlite, wire: Arc<Wire>) -> TestResult<Self> {
        let lake = Lake::new(plan.kind, plan.seed, sqlite)?;
        let mut world = Self {
            foreign: Foreign::new(lake.clone(), plan.seed),
            lake,
            wire,
            letters: Arc::new(InMemory::new()),
            processes: Vec::new(),
            fates: Arc::default(),
            oracle: Oracle::default(),
            started: Instant::now(),
            incarnations: 0,
            ages: BTreeMap::new(),
            is_calm: false,
            checked: BTreeMap::new(),
            plan,
        };
        for number in 0..world.plan.skews.len() {
            let clock = SimClock::new(world.started, world.plan.skews[number]);
            let process = world.start(number, clock);
            world.processes.push(process);
        }
        Ok(world)
    }

    fn start(&mut self, number: usize, clock: Arc<SimClock>) -> Process {
        self.incarnations += 1;
        let seed = self.plan.seed.wrapping_mul(1000).wrapping_add(self.incarnations);
        let process = Process::start(
            &self.lake,
            &self.letters,
            &self.wire,
            clock,
            (number, seed, self.plan.fault),
        );
        if self.is_calm {
            process.calm();
        }
        process
    }

    pub(super) fn fates(&self) -> MutexGuard<'_, Fates> {
        self.fates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn letter_store(&self) -> Store {
        Store::new("memory:///d", self.letters.clone())
    }

    /// Runs the schedule to its end and to rest.
    pub async fn run(mut self) -> TestResult<Told> {
        self.preload().await?;
        for action in self.plan.actions.clone() {
            self.wire.happened(&format!("{action:?}"));
            self.act(&action).await?;
            self.check(false).await?;
        }
        self.come_to_rest().await?;
        let mut told = self.fates().told;
        (told.operations, told.faults) = self.wire.counts();
        told.schedules = 1;
        Ok(told)
    }

    async fn act(&mut self, action: &Action) -> TestResult {
        match *action {
            Action::Send {
                process,
                parcel,
                patience_seconds,
                copies,
                deaf,
            } => {
                for _ in 0..copies {
                    self.send(process, parcel, Duration::from_secs(patience_seconds), deaf);
                }
                sleep(Duration::from_millis(1)).await;
            }
            Action::Wait { ms } => sleep(Duration::from_millis(ms)).await,
            Action::Days { days } => {
                self.note_ages().await?;
                sleep(Duration::from_secs(days * 86_400)).await;
            }
            Action::Kill {
                process,
                operations,
                applied,
            } => {
                self.processes[process].kill_after(operations, applied);
                self.fates().told.kills += 1;
            }
            Action::Pause { process, ms } => {
                self.processes[process].pause();
                sleep(Duration::from_millis(ms)).await;
                self.processes[process].resume();
            }
            Action::Jump { process, seconds } => self.processes[process].clock.jump(seconds),
            Action::Strays { every } => {
                self.wire.land_strays(every);
                sleep(Duration::from_millis(1)).await;
            }
            Action::Foreign { table, deed } => self.interfere(table, deed).await?,
        }
        Ok(())
    }

    // --- senders ------------------------------------------------------------------------------------------------

    /// Hands a parcel to a process, which is started again if it had ended.
    fn send(&mut self, number: usize, parcel: usize, patience: Duration, deaf: bool) {
        if !(self.processes[number].lives())() {
            let clock = self.processes[number].clock.clone();
            self.processes[number] = self.start(number, clock);
        }
        let process = &self.processes[number];
        self.fates().told.sends += 1;
        for table in self.plan.parcels[parcel].tables.clone() {
            let payload = payload(parcel, &self.plan.parcels[parcel]);
            let Ok(mut held) = process.limits.admit() else {
                continue;
            };
            if held.grow(payload.len()).is_err() {
                continue;
            }
            let (ack, answer) = Ack::new();
            let delivery = Delivery {
                envelope: Envelope {
                    received_at: process.clock.now(),
                    ..envelope(parcel, &self.plan.parcels[parcel])
                },
                payload,
                ack,
                held,
                deadline: Instant::now() + patience,
                trace: Trace::default(),
                is_replay: false,
                part_of: None,
            };
            process
                .writers
                .accept(ident(table), &config(&self.plan), delivery);
            if deaf {
                continue;
            }
            let (lives, fates, wire) = (process.lives(), self.fates.clone(), self.wire.clone());
            let era = self.fates().era((parcel, table));
            tokio::spawn(async move {
                let outcome = answer.outcome().await;
                if lives() {
                    hear(&fates, &wire, (parcel, table), era, outcome);
                }
            });
        }
    }

    /// What each parcel must come to in a table.
    fn expectations(&self, table: usize) -> Vec<Expectation> {
        let fates = self.fates();
        let parcels = self.plan.parcels.iter().enumerate();
        parcels
            .filter(|(_, parcel)| parcel.tables.contains(&table))
            .map(|(number, parcel)| {
                let id = envelope(number, parcel).id;
                Expectation {
                    entry: Entry::from(&id),
                    delivery_id: id.to_string(),
                    rows: row_ids(number, parcel).collect(),
                    rejected: parcel.rejected,
                    is_acked: fates.acked.contains(&(number, table)),
                    is_rolled_back: fates.rolled_back.contains(&(number, table)),
                    era: fates.era((number, table)),
                }
            })
            .collect()
    }

    // --- the end ------------------------------------------------------------------------------------------------

    async fn check(&mut self, at_rest: bool) -> TestResult {
        let letters = self.letter_store();
        for number in 0..self.plan.preloads.len() {
            let expected = self.expectations(number);
            let acked = expected.iter().filter(|one| one.is_acked).count();
            let moved = (self.lake.states(&ident(number)).await?.len(), acked);
            if !at_rest && self.checked.insert(number, moved) == Some(moved) {
                continue;
            }
            self.fates().told.checks += 1;
            let (oracle, ident) = (&mut self.oracle, ident(number));
            match at_rest {
                true => {
                    oracle
                        .check_at_rest(&self.lake, &ident, &expected, &letters)
                        .await?
                }
                false => oracle.check(&self.lake, &ident, &expected, &letters).await?,
            }
        }
        Ok(())
    }

    /// Ends the faults, delivers what was not acknowledged, lets every stray land, delivers everything once more.
    async fn come_to_rest(&mut self) -> TestResult {
        self.wire.happened("calm");
        self.is_calm = true;
        for process in &self.processes {
            process.calm();
        }
        self.deliver_the_rest().await?;
        self.check(true).await?;
        self.wire.land_strays(1);
        sleep(Duration::from_secs(300)).await;
        self.oracle.forget_files();
        self.check(true).await?;
        self.fates().acked.clear();
        self.deliver_the_rest().await?;
        self.oracle.forget_files();
        self.check(true).await?;
        for process in &self.processes {
            let closing = timeout(Duration::from_secs(600), process.writers.close());
            closing.await.map_err(|_elapsed| "A process does not end.")?;
        }
        self.oracle.forget_files();
        self.check(true).await
    }

    async fn deliver_the_rest(&mut self) -> TestResult {
        for round in 0..CALM_ROUNDS {
            let mut due: BTreeSet<usize> = BTreeSet::new();
            for (number, parcel) in self.plan.parcels.iter().enumerate() {
                let missing = |table: &usize| !self.fates().acked.contains(&(number, *table));
                if parcel.tables.iter().any(missing) {
                    due.insert(number);
                }
            }
            if due.is_empty() {
                return self.repair_if_lost().await;
            }
            self.repair_if_asked().await?;
            self.fates().refusals.clear();
            for parcel in due {
                let process = (parcel + round) % self.processes.len();
                self.send(process, parcel, PATIENCE, false);
            }
            sleep(Duration::from_secs(120)).await;
            self.check(false).await?;
        }
        let refusals = self.fates().refusals.clone();
        Err(format!("I4: deliveries are refused though nothing fails: {refusals:?}").into())
    }

    /// A ledger that was lost after the last delivery is refused by nobody but the oracle: an operator repairs it.
    async fn repair_if_lost(&mut self) -> TestResult {
        let ledger = Ledger::new(self.lake.store.clone());
        for number in 0..self.plan.preloads.len() {
            let Some(table) = self.lake.table(&ident(number)).await? else {
                continue;
            };
            let opened = ledger.open(&table).await;
            if opened.is_err_and(|error| error.report().contains("landfast ledger repair")) {
                self.foreign.repair(&ident(number)).await?;
                self.fates().told.repairs += 1;
            }
        }
        Ok(())
    }

    /// An operator does what the refusals say.
    async fn repair_if_asked(&mut self) -> TestResult {
        for number in 0..self.plan.preloads.len() {
            let name = ident(number).to_string();
            let asked =
                |refusal: &String| refusal.starts_with(&name) && refusal.contains("landfast ledger repair");
            let is_asked = self.fates().refusals.iter().any(asked);
            // It may have been dropped since.
            if is_asked && self.lake.table(&ident(number)).await?.is_some() {
                self.foreign.repair(&ident(number)).await?;
                self.fates().told.repairs += 1;
            }
        }
        Ok(())
    }
}
