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

/// The number that an environment variable gives.
fn given(variable: &str) -> Option<u64> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a person lengthens or repeats a run through the environment"
    )]
    let value = std::env::var(variable).ok();
    value.and_then(|value| value.parse().ok())
}

/// The seed of `LANDFAST_TEST_SEED`, to repeat a run; else a new one.
fn seed() -> u64 {
    given("LANDFAST_TEST_SEED").unwrap_or_else(rand::random)
}

/// How many kills a scenario takes: a few, unless `LANDFAST_TEST_KILLS` says more.
fn kills(usual: u64) -> u64 {
    given("LANDFAST_TEST_KILLS").unwrap_or(usual)
}
