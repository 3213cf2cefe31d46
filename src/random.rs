//! Randomness, as an argument: names, snapshot ids and jitter all come from here, so a test can fix the seed.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

/// One seeded source of randomness, shared by everything in a process.
#[derive(Debug)]
pub struct Random(Mutex<StdRng>);

impl Random {
    /// Seeds from the operating system.
    pub fn from_os() -> Self {
        Self(Mutex::new(StdRng::from_os_rng()))
    }

    /// Seeds from a number, which makes every draw repeatable.
    pub fn seeded(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A random UUID, for names that must never repeat.
    pub fn uuid(&self) -> Uuid {
        let bytes = self.draw(|rng| rng.random::<[u8; 16]>());
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// A UUID of version 7: random, and sorted by a time.
    pub fn timed_uuid(&self, at: DateTime<Utc>) -> Uuid {
        let bytes = self.draw(|rng| rng.random::<[u8; 10]>());
        let millis = at.timestamp_millis().try_into().unwrap_or_default();
        uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid()
    }

    /// A positive snapshot id that is not taken.
    pub fn snapshot_id(&self, taken: impl Fn(i64) -> bool) -> i64 {
        loop {
            let id = self.draw(|rng| rng.random_range(1..i64::MAX));
            if !taken(id) {
                return id;
            }
        }
    }

    /// A duration between zero and `cap`, uniformly (full jitter).
    pub fn jitter(&self, cap: Duration) -> Duration {
        cap.mul_f64(self.draw(|rng| rng.random::<f64>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence() {
        let (left, right) = (Random::seeded(7), Random::seeded(7));
        assert_eq!(left.uuid(), right.uuid());
        assert_eq!(left.snapshot_id(|_| false), right.snapshot_id(|_| false));
    }

    #[test]
    fn jitter_is_spread_up_to_its_cap() {
        let (random, cap) = (Random::seeded(7), Duration::from_secs(1));
        let waits: Vec<Duration> = (0..100).map(|_| random.jitter(cap)).collect();
        assert!(waits.iter().all(|wait| *wait <= cap));
        assert!(waits.iter().any(|wait| *wait > cap / 2) && waits.iter().any(|wait| *wait < cap / 2));
    }
}
