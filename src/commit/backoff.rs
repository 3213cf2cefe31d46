//! How long to wait before the next attempt.

use std::time::Duration;

use crate::random::Random;

const CAP: Duration = Duration::from_millis(500);
const FIRST: Duration = Duration::from_millis(20);

/// Exponential back-off with full jitter, from 20 ms, capped at 0.5 s: after failures. Lost races are no failures, and
/// wait as `turn.rs` says.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
    lost: u32,
}

impl Backoff {
    /// The wait before the next attempt.
    pub fn next(&mut self, random: &Random) -> Duration {
        let ceiling = FIRST.saturating_mul(2u32.saturating_pow(self.failures)).min(CAP);
        self.failures = self.failures.saturating_add(1);
        random.jitter(ceiling)
    }

    /// A race was lost: how many so far.
    pub(super) fn lose(&mut self) -> u32 {
        self.lost = self.lost.saturating_add(1);
        self.lost
    }

    /// How many waits there were.
    pub fn attempts(&self) -> u32 {
        self.failures.saturating_add(self.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_never_pass_the_cap() {
        let (mut backoff, random) = (Backoff::default(), Random::seeded(1));
        let waits: Vec<Duration> = (0..100).map(|_| backoff.next(&random)).collect();
        assert!(waits.iter().all(|wait| *wait <= CAP));
        assert!(waits.iter().any(|wait| *wait > CAP / 2));
        assert!(waits[0] <= FIRST);
        assert_eq!(backoff.attempts(), 100);
    }
}
