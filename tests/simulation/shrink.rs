//! Shortens a failing schedule: what can be left out is left out, as long as it fails.

use super::plan::Plan;

/// Schedules that are tried at most.
const MAX_TRIALS: usize = 400;

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
