//! A process under test: real writers and committers over stores and a catalog that fail, and that can be cut off.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use landfast::batch::{Shared, Writers};
use landfast::clock::Clock;
use landfast::commit::Engine;
use landfast::dead_letter::DeadLetters;
use landfast::ledger::Ledger;
use landfast::random::Random;
use landfast::telemetry::UnknownFields;
use landfast::trigger::Limits;
use object_store::ObjectStore;
use tokio::time::Instant;

use super::clock::SimClock;
use super::lake::Lake;
use crate::support::faults::{Fault, Faults, Gate, Op};

const BYTES: usize = 1 << 20;
const SLOTS: usize = 64;

/// What every process's requests add to: a hash of all that happened in its order, and requests still under way.
#[derive(Debug, Default)]
pub struct Wire {
    inner: Mutex<Traffic>,
}

#[derive(Debug, Default)]
struct Traffic {
    trace: u64,
    operations: u64,
    faults: u64,
    strays: Vec<Gate>,
    started: Option<Instant>,
    log: Option<Vec<String>>,
}

impl Wire {
    pub fn new(keep_log: bool) -> Arc<Self> {
        let wire = Self::default();
        wire.traffic().started = Some(Instant::now());
        wire.traffic().log = keep_log.then(Vec::new);
        Arc::new(wire)
    }

    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds something that happened to the trace.
    pub fn happened(&self, what: &str) {
        let mut traffic = self.traffic();
        let at = traffic.started.map(|started| started.elapsed().as_millis());
        let mut hasher = DefaultHasher::new();
        (traffic.trace, at, what).hash(&mut hasher);
        traffic.trace = hasher.finish();
        if let Some(log) = &mut traffic.log {
            log.push(format!("{:>9} {what}", at.unwrap_or_default()));
        }
    }

    /// Equal for two runs only if they did the same in the same order at the same times.
    pub fn trace(&self) -> u64 {
        self.traffic().trace
    }

    /// What happened, if it was kept.
    pub fn log(&self) -> Vec<String> {
        self.traffic().log.clone().unwrap_or_default()
    }

    /// Operations, and how many of them met a fault.
    pub fn counts(&self) -> (u64, u64) {
        let traffic = self.traffic();
        (traffic.operations, traffic.faults)
    }

    /// Lets every so-manieth request that is under way land.
    pub fn land_strays(&self, every: usize) {
        let mut place = 0;
        self.traffic().strays.retain(|gate| {
            place += 1;
            let lands = place % every.max(1) == 0;
            if lands {
                gate.release();
            }
            !lands
        });
    }
}

/// How a process's requests are met.
#[derive(Debug)]
struct Line {
    number: usize,
    seed: u64,
    fault: f64,
    wire: Arc<Wire>,
    inner: Mutex<LineState>,
}

#[derive(Debug, Default)]
struct LineState {
    is_calm: bool,
    is_dead: bool,
    dies: Option<(u32, bool)>,
    pause: Option<Gate>,
    seen: BTreeMap<String, u64>,
}

impl Line {
    fn state(&self) -> MutexGuard<'_, LineState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn meet(&self, op: Op, path: &str) -> Option<Fault> {
        let what = format!("p{} {op:?} {}", self.number, without_uuids(path));
        let fault = self.choose(op, &what);
        self.wire.traffic().operations += 1;
        let kind = fault.as_ref().map_or("", name);
        self.wire.happened(&format!("{what} {kind}"));
        fault
    }

    fn choose(&self, op: Op, what: &str) -> Option<Fault> {
        let mut state = self.state();
        if state.is_dead {
            return Some(Fault::Hold(Gate::new()));
        }
        if let Some((left, applied)) = state.dies {
            state.dies = left.checked_sub(1).map(|left| (left, applied));
            if left == 0 {
                state.is_dead = true;
                // Sent and applied, or never sent: nobody is left to hear the answer.
                return Some(if applied {
                    Fault::FailAfter
                } else {
                    Fault::Hold(Gate::new())
                });
            }
        }
        if let Some(gate) = &state.pause {
            return Some(Fault::Hold(gate.clone()));
        }
        if state.is_calm || self.fault == 0.0 {
            return None;
        }
        let count = state.seen.entry(what.to_owned()).or_default();
        *count += 1;
        let count = *count;
        drop(state);
        // Drawn from what the request is, not from when it comes: a schedule that is shortened keeps its faults.
        let draw = |salt: u64| {
            let mut hasher = DefaultHasher::new();
            (self.seed, what, count, salt).hash(&mut hasher);
            hasher.finish()
        };
        let is_commit = op == Op::CommitTable || (op == Op::Put && what.contains("/metadata/v"));
        let chance = if is_commit { self.fault.sqrt() } else { self.fault };
        if (draw(1) % 10_000) as f64 >= chance * 10_000.0 {
            return None;
        }
        self.wire.traffic().faults += 1;
        Some(self.fault_of(op, draw))
    }

    fn fault_of(&self, op: Op, draw: impl Fn(u64) -> u64) -> Fault {
        let short = Duration::from_millis(1 + draw(3) % 4_000);
        let long = Duration::from_secs(40 + draw(4) % 40);
        let reads = matches!(op, Op::Get | Op::List | Op::LoadTable);
        match draw(2) % 8 {
            0 | 1 => Fault::Refuse,
            2 => Fault::Delay(short),
            3 => Fault::Delay(long),
            _ if reads => Fault::Refuse,
            4 => Fault::FailAfter,
            5 => Fault::Repeat,
            _ => {
                let gate = Gate::new();
                self.wire.traffic().strays.push(gate.clone());
                Fault::Late(gate)
            }
        }
    }
}

fn name(fault: &Fault) -> &'static str {
    match fault {
        Fault::Refuse => "refused",
        Fault::FailAfter => "applied, answer lost",
        Fault::Repeat => "repeated",
        Fault::Hold(_) => "held",
        Fault::Late(_) => "answer lost, lands later",
        Fault::Delay(_) => "delayed",
    }
}

/// Two runs have other random table ids, which the `iceberg` crate draws: names are compared without them.
fn without_uuids(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for part in path.split_inclusive(['/', '_']) {
        let bytes = part.as_bytes();
        let starts = bytes.windows(36).position(|window| {
            [8, 13, 18, 23].iter().all(|at| window[*at] == b'-')
                && window.iter().filter(|byte| byte.is_ascii_hexdigit()).count() == 32
        });
        match starts {
            Some(at) => {
                text.push_str(&part[..at]);
                text.push('*');
                text.push_str(&part[at + 36..]);
            }
            None => text.push_str(part),
        }
    }
    text
}

/// One incarnation of a process.
pub struct Process {
    pub clock: Arc<SimClock>,
    pub limits: Arc<Limits>,
    pub writers: Arc<Writers>,
    line: Arc<Line>,
}

impl Process {
    /// Starts one on the lake.
    pub fn start(
        lake: &Arc<Lake>,
        letters: &Arc<dyn ObjectStore>,
        wire: &Arc<Wire>,
        clock: Arc<SimClock>,
        (number, seed, fault): (usize, u64, f64),
    ) -> Self {
        let line = Arc::new(Line {
            number,
            seed,
            fault,
            wire: wire.clone(),
            inner: Mutex::default(),
        });
        let faults = Faults::default();
        let met = line.clone();
        faults.choose(move |op, path| met.meet(op, path));
        let shared_clock: Arc<dyn Clock> = clock.clone();
        let (catalog, store) = lake.seen_through(&faults, &shared_clock);
        let random = Arc::new(Random::seeded(seed));
        let limits = Limits::new(BYTES, SLOTS);
        let writers = Writers::new(Arc::new(Shared {
            engine: Engine::new(catalog, Ledger::new(store), shared_clock.clone(), random.clone()),
            dead_letters: DeadLetters::new(faults.store("memory:///d", letters.clone())),
            limits: limits.clone(),
            clock: shared_clock,
            random,
            unknown_fields: UnknownFields::default(),
            publishers: landfast::publish::Publishers::default(),
        }));
        Self {
            clock,
            limits,
            writers,
            line,
        }
    }

    /// Ends it after so many more operations.
    pub fn kill_after(&self, operations: u32, applied: bool) {
        self.line.state().dies = Some((operations, applied));
    }

    /// Whether it still lives: what a dead one answers, nobody hears.
    pub fn lives(&self) -> impl Fn() -> bool + Send + 'static {
        let line = self.line.clone();
        move || !line.state().is_dead
    }

    /// Stops it until the gate opens.
    pub fn pause(&self) -> Gate {
        let gate = Gate::new();
        self.line.state().pause = Some(gate.clone());
        gate
    }

    pub fn resume(&self) {
        if let Some(gate) = self.line.state().pause.take() {
            gate.release();
        }
    }

    /// No more faults.
    pub fn calm(&self) {
        self.resume();
        let mut state = self.line.state();
        state.is_calm = true;
        state.dies = None;
    }
}
