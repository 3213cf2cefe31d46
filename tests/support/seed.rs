//! Draws that can be repeated.

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::note;

/// The number that an environment variable gives.
pub fn given(variable: &str) -> Option<u64> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a person lengthens or repeats a run through the environment"
    )]
    let value = std::env::var(variable).ok();
    value.and_then(|value| value.parse().ok())
}

/// The seed of `LANDFAST_TEST_SEED`, to repeat a run; else a new one. A test that fails tells it.
pub fn seed() -> u64 {
    let seed = given("LANDFAST_TEST_SEED").unwrap_or_else(rand::random);
    note(&format!("LANDFAST_TEST_SEED={seed}"));
    seed
}

/// A source of draws from [`seed`].
pub fn seeded() -> StdRng {
    StdRng::seed_from_u64(seed())
}
