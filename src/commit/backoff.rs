//! How long to wait before the next attempt.

use std::time::Duration;

use crate::random::Random;

/// A losing writer that is slowed down further only loses more (cap from simulation, docs/performance.md).
const CAP: Duration = Duration::from_millis(500);
const FIRST: Duration = Duration::from_millis(20);

/// Exponential back-off with full jitter, from 20 ms, capped at 0.5 s.
#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The wait before the next attempt.
    pub fn next(&mut self, random: &Random) -> Duration {
        let ceiling = FIRST.saturating_mul(2u32.saturating_pow(self.attempts)).min(CAP);
        self.attempts = self.attempts.saturating_add(1);
        random.jitter(ceiling)
    }

    /// How many waits were asked for.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_never_pass_the_cap() {
        let (mut backoff, random) = (Backoff::default(), Random::seeded(1));
        assert!((0..100).all(|_| backoff.next(&random) <= CAP));
        assert_eq!(backoff.attempts(), 100);
    }
}
