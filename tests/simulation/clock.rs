//! A process's wall clock: the paused clock of the runtime, and how far this one is off.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use landfast::clock::Clock;
use tokio::time::Instant;

/// Later than any real run of the tests: what the `iceberg` crate dates by the machine's clock is then always older.
pub const EPOCH: i64 = 2_000_000_000;

/// Goes on with the runtime's time, and may be wrong.
#[derive(Debug)]
pub struct SimClock {
    started: Instant,
    off_seconds: AtomicI64,
}

impl SimClock {
    /// A clock that is off by this much.
    pub fn new(started: Instant, off_seconds: i64) -> Arc<Self> {
        Arc::new(Self {
            started,
            off_seconds: AtomicI64::new(off_seconds),
        })
    }

    /// Turns it forward, or back.
    pub fn jump(&self, seconds: i64) {
        self.off_seconds.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> DateTime<Utc> {
        let epoch = DateTime::from_timestamp(EPOCH, 0).unwrap_or_default();
        let off = TimeDelta::seconds(self.off_seconds.load(Ordering::Relaxed));
        let elapsed = TimeDelta::from_std(self.started.elapsed()).unwrap_or_default();
        epoch + off + elapsed
    }
}
