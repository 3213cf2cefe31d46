//! How long to wait before the next attempt.

use std::time::Duration;

use crate::random::Random;

/// A losing writer that is slowed down further only loses more.
const CAP: Duration = Duration::from_millis(500);
const FIRST: Duration = Duration::from_millis(20);
/// Gentler than doubling: among few committers a loser is not soon at the cap, where the winner would have the table for
/// itself ([decision 0007](../../docs/decisions/0007-losers-wait-half-as-long-again.md)).
const GROWTH: f64 = 1.5;

/// Exponential back-off with full jitter, from 20 ms, half as long again each time, capped at 0.5 s.
#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The wait before the next attempt.
    pub fn next(&mut self, random: &Random) -> Duration {
        // Past the cap after eight; the bound keeps the power finite.
        let growth = GROWTH.powf(f64::from(self.attempts.min(32)));
        self.attempts = self.attempts.saturating_add(1);
        random.jitter(FIRST.mul_f64(growth).min(CAP))
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
    fn waits_grow_and_never_pass_the_cap() {
        let (mut backoff, random) = (Backoff::default(), Random::seeded(1));
        let waits: Vec<Duration> = (0..1000).map(|_| backoff.next(&random)).collect();
        assert!(waits.iter().all(|wait| *wait <= CAP));
        assert!(waits.iter().take(3).all(|wait| *wait <= FIRST.mul_f64(2.25)));
        assert!(waits.iter().any(|wait| *wait > CAP.mul_f64(0.9)));
        assert_eq!(backoff.attempts(), 1000);
    }
}
