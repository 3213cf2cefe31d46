//! Simulation: many processes of the real engine over one lake, with every fault at once, and an oracle beside them.
//!
//! A schedule is drawn from a seed and does the same each time. One that breaks a rule is shortened and printed.
//! `LANDFAST_SIM_SECONDS` says how long to go on, `LANDFAST_SIM_SEED` where to begin, `LANDFAST_SIM_COUNT` how many
//! schedules at the most, `LANDFAST_SIM_KIND` on which catalog alone, `LANDFAST_SIM_SHRINK=no` that a failure is not
//! shortened; `just soak MINUTES` sets the first.

mod clock;
mod foreign;
mod lake;
mod oracle;
mod others;
mod parcel;
mod plan;
mod process;
pub mod rest;
mod runtime;
mod shrink;
mod sql;
mod told;
mod walk;
mod world;

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use self::plan::{Kind, Plan};
use self::process::Wire;
use self::shrink::shrink;
use self::sql::Sqlite;
use self::told::Told;
use self::world::World;
use crate::support::{Stop, TestResult, trials};

/// Real seconds that the schedules take together, unless the environment says otherwise: `tests/run` takes a minute.
const SECONDS: u64 = 5;
const FIRST_SEED: u64 = 1;

pub fn tests() -> Vec<Trial> {
    let mut trials = trials![every_schedule_lands_every_delivery_once, one_seed_is_one_schedule];
    trials.extend(shrink::tests());
    trials
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests/run and `just soak` speak to the tests through the environment"
)]
fn setting(name: &str) -> Option<String> {
    std::env::var(format!("LANDFAST_SIM_{name}")).ok()
}

fn number(name: &str) -> TestResult<Option<u64>> {
    Ok(setting(name).map(|text| text.parse()).transpose()?)
}

/// A plan, what came of it, and its trace.
fn outcome(plan: &Plan, sqlite: &Sqlite, keep_log: bool) -> (Result<Told, String>, u64, Vec<String>) {
    let trace = Mutex::new((0, Vec::new()));
    let schedule = async {
        let wire = Wire::new(keep_log);
        let year = Duration::from_secs(365 * 86_400);
        let run = async { World::new(plan.clone(), sqlite, wire.clone())?.run().await };
        let told = tokio::time::timeout(year, run).await;
        *trace.lock().unwrap_or_else(PoisonError::into_inner) = (wire.trace(), wire.log());
        told.unwrap_or_else(|_elapsed| Err("It waits for what never comes.".into()))
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| runtime::run(schedule)));
    let told = match outcome {
        Ok(Ok(Ok(told))) => Ok(told),
        Ok(Ok(Err(Stop::Failed(text) | Stop::Ignored(text)))) => Err(text),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("It panicked.".to_owned()),
    };
    let (trace, log) = trace.into_inner().unwrap_or_else(PoisonError::into_inner);
    (told, trace, log)
}

/// The rule that a failure names, which must stay the same while the schedule is shortened.
fn rule(text: &str) -> &str {
    text.split([':', ' ']).next().unwrap_or_default()
}

async fn every_schedule_lands_every_delivery_once() -> TestResult {
    away_from_the_runtime(run_schedules)
}

/// A schedule has a runtime of its own, and a thread has one at a time.
fn away_from_the_runtime(work: impl FnOnce() -> TestResult + Send) -> TestResult {
    thread::scope(|scope| {
        let ended = scope.spawn(work).join();
        ended.unwrap_or_else(|_| Err("It panicked.".into()))
    })
}

fn run_schedules() -> TestResult {
    let seconds = number("SECONDS")?.unwrap_or(SECONDS);
    let first = number("SEED")?.unwrap_or(FIRST_SEED);
    let count = number("COUNT")?.unwrap_or(u64::MAX);
    let only = setting("KIND");
    let kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| {
            only.as_ref()
                .is_none_or(|only| format!("{kind:?}").eq_ignore_ascii_case(only))
        })
        .collect();
    let next = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let failure: Mutex<Option<(Plan, String)>> = Mutex::default();
    let told: Mutex<BTreeMap<Kind, Told>> = Mutex::default();
    let started = Instant::now();
    let worker = || -> TestResult {
        let sqlite = Sqlite::new()?;
        while started.elapsed() < Duration::from_secs(seconds) && !failed.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                break;
            }
            let kind = kinds[usize::try_from(number)? % kinds.len()];
            let plan = Plan::draw(first + number, kind);
            match outcome(&plan, &sqlite, false).0 {
                Ok(one) => told
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .entry(kind)
                    .or_default()
                    .add(&one),
                Err(text) => {
                    failed.store(true, Ordering::Relaxed);
                    let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                    failure.get_or_insert((plan, text));
                }
            }
        }
        Ok(())
    };
    let threads = thread::available_parallelism()?.get();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| Err("A worker panicked.".into())))
    })?;
    let mut out = std::io::stderr();
    for (kind, told) in told.into_inner().unwrap_or_else(PoisonError::into_inner) {
        writeln!(out, "{kind:?} {told:?}")?;
    }
    writeln!(
        out,
        "Seeds from {first}, {:.1} s",
        started.elapsed().as_secs_f64()
    )?;
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((plan, text)) if setting("SHRINK").as_deref() == Some("no") => {
            Err(format!("Seed {} on {:?}: {text}", plan.seed, plan.kind).into())
        }
        Some((plan, text)) => Err(shortest(&plan, &text)?.into()),
        None => Ok(()),
    }
}

/// The story of a failure, as short as it can be made.
fn shortest(plan: &Plan, text: &str) -> TestResult<String> {
    let sqlite = Sqlite::new()?;
    let fails = |plan: &Plan| match outcome(plan, &sqlite, false).0 {
        Ok(_) => false,
        Err(other) => rule(&other) == rule(text),
    };
    let (short, trials) = shrink(plan, fails);
    let (told, _, log) = outcome(&short, &sqlite, true);
    let text_now = told
        .err()
        .unwrap_or_else(|| "It does not fail each time.".to_owned());
    let tail = log.len().saturating_sub(150);
    Ok(format!(
        "Seed {} on {:?}: {text}\nShortest of {trials} tried: {text_now}\n{short:#?}\nThe last of what happened:\n{}",
        plan.seed,
        plan.kind,
        log[tail..].join("\n")
    ))
}

async fn one_seed_is_one_schedule() -> TestResult {
    away_from_the_runtime(|| {
        let sqlite = Sqlite::new()?;
        for seed in 1..=2 {
            for kind in Kind::ALL {
                let plan = Plan::draw(seed, kind);
                let (_, trace, log) = outcome(&plan, &sqlite, true);
                let (_, again, other) = outcome(&plan, &sqlite, true);
                if trace != again {
                    let differs = log.iter().zip(&other).find(|(one, other)| one != other);
                    return Err(format!("Seed {seed} on {kind:?}: {differs:?}").into());
                }
            }
        }
        Ok(())
    })
}
