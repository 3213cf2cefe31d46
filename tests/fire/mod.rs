//! Real processes, really killed: `kill -9` at random moments, under a sender that sends all that was not acknowledged
//! again, shuffled and doubled.
//!
//! Each scenario runs one table pair under some processes until so many kills were survived, then counts with independent
//! readers. `LANDFAST_TEST_KILLS` says how many kills a scenario takes, `LANDFAST_TEST_SEED` repeats its draws;
//! `just fire KILLS` does the first.

mod committers;
mod fleet;
mod ground;
mod kill;
mod processes;
mod scenario;
mod sender;
mod verdict;

use libtest_mimic::Trial;

use crate::support::seed::given;

pub fn tests() -> Vec<Trial> {
    [
        committers::tests(),
        kill::tests(),
        processes::tests(),
        scenario::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// How many kills a scenario takes: a few, unless `LANDFAST_TEST_KILLS` says more.
fn kills(usual: u64) -> u64 {
    given("LANDFAST_TEST_KILLS").unwrap_or(usual)
}
