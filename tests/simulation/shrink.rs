//! Shortens a failing schedule: what can be left out is left out, as long as it fails.

use libtest_mimic::Trial;

use super::plan::{Action, Deed, Kind, Plan};
use crate::support::{TestResult, trials};

/// Schedules that are tried at most.
const MAX_TRIALS: usize = 400;

pub fn tests() -> Vec<Trial> {
    trials![
        failing_schedule_is_cut_to_the_steps_that_matter,
        shortening_comes_to_an_end,
    ]
}

/// The shortest plan found that fails as the given one does, and how many were tried.
pub fn shrink(plan: &Plan, fails: impl Fn(&Plan) -> bool) -> (Plan, usize) {
    let mut best = plan.clone();
    let mut trials = 0;
    let mut try_it = |best: &mut Plan, shorter: Plan| {
        trials += 1;
        let better = trials <= MAX_TRIALS && fails(&shorter);
        if better {
            *best = shorter;
        }
        better
    };
    for simpler in simpler(&best) {
        try_it(&mut best, simpler);
    }
    let mut size = best.actions.len().div_ceil(2);
    loop {
        let mut at = 0;
        let mut any = false;
        while at < best.actions.len() {
            let mut shorter = best.clone();
            let end = (at + size).min(shorter.actions.len());
            shorter.actions.drain(at..end);
            if try_it(&mut best, shorter) {
                any = true;
            } else {
                at += size;
            }
        }
        match size {
            1 if !any => break,
            1 => {}
            _ => size = size.div_ceil(2),
        }
    }
    (best, trials)
}

/// The same with one circumstance less, each on its own: a later one may undo an earlier one that helped.
fn simpler(plan: &Plan) -> Vec<Plan> {
    let mut plans = Vec::new();
    let mut without = |change: &dyn Fn(&mut Plan)| {
        let mut one = plan.clone();
        change(&mut one);
        plans.push(one);
    };
    without(&|plan| plan.busy_upkeep = false);
    without(&|plan| plan.preloads.fill(0));
    without(&|plan| plan.skews.fill(0));
    without(&|plan| plan.fault = 0.0);
    without(&|plan| {
        plan.busy_upkeep = false;
        plan.preloads.fill(0);
        plan.skews.fill(0);
    });
    without(&|plan| {
        plan.busy_upkeep = false;
        plan.preloads.fill(0);
        plan.skews.fill(0);
        plan.fault = 0.0;
    });
    plans
}

/// A schedule that is drawn, with these steps among its own.
fn planted(steps: [Action; 2]) -> Plan {
    let mut plan = Plan::draw(7, Kind::Storage);
    let [first, second] = steps;
    let count = plan.actions.len();
    plan.actions.insert(count * 2 / 3, second);
    plan.actions.insert(count / 3, first);
    plan.skews.fill(60);
    plan.preloads.fill(999);
    (plan.fault, plan.busy_upkeep) = (0.25, true);
    plan
}

/// Where a schedule does this for the first time.
fn first(plan: &Plan, does: impl Fn(&Action) -> bool) -> Option<usize> {
    plan.actions.iter().position(does)
}

async fn failing_schedule_is_cut_to_the_steps_that_matter() -> TestResult {
    const LONG: u64 = 1234;
    let waits = |action: &Action| matches!(action, Action::Wait { ms: LONG });
    let drops = |action: &Action| {
        matches!(
            action,
            Action::Foreign {
                table: 77,
                deed: Deed::Drop
            }
        )
    };
    let plan = planted([
        Action::Wait { ms: LONG },
        Action::Foreign {
            table: 77,
            deed: Deed::Drop,
        },
    ]);
    assert!(plan.actions.len() > 10, "{plan:#?}");
    // The one step, and somewhere behind it the other.
    let in_order = |plan: &Plan| first(plan, waits).is_some_and(|at| first(plan, drops) > Some(at));
    assert!(in_order(&plan));
    let (short, trials) = shrink(&plan, in_order);
    assert!(trials <= MAX_TRIALS, "{trials}");
    assert_eq!((short.actions.len(), in_order(&short)), (2, true), "{short:#?}");
    // No circumstance mattered.
    assert_eq!((short.fault, short.busy_upkeep), (0.0, false));
    assert!(short.skews.iter().all(|skew| *skew == 0) && short.preloads.iter().all(|full| *full == 0));
    // What it is drawn from stays: the parcels are those of the seed.
    assert_eq!((short.seed, short.parcels.len()), (plan.seed, plan.parcels.len()));
    // Faults matter here, and stay, though the rest goes.
    let (short, _) = shrink(&plan, |plan| plan.fault > 0.0 && in_order(plan));
    assert_eq!(
        (short.actions.len(), short.fault, short.busy_upkeep),
        (2, 0.25, false)
    );
    Ok(())
}

async fn shortening_comes_to_an_end() -> TestResult {
    let mut plan = Plan::draw(7, Kind::Storage);
    plan.actions = (0..2000).map(|ms| Action::Wait { ms }).collect();
    let count = |plan: &Plan| plan.actions.len();
    // Every other step matters: there is more to try than is tried.
    let odd = |plan: &Plan| {
        let odd = |action: &&Action| matches!(action, Action::Wait { ms } if ms % 2 == 1);
        plan.actions.iter().filter(odd).count() == 1000
    };
    let tried = std::cell::Cell::new(0);
    let (short, _) = shrink(&plan, |plan| {
        tried.set(tried.get() + 1);
        odd(plan)
    });
    assert!(tried.get() <= MAX_TRIALS && odd(&short), "{}", tried.get());
    // All steps go where none matters.
    assert_eq!(count(&shrink(&plan, |_| true).0), 0);
    // One that does not fail when it is tried again is left as it is.
    assert_eq!(count(&shrink(&plan, |_| false).0), 2000);
    Ok(())
}
