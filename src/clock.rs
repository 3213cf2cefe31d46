//! The time, as an argument: nothing below the entry points asks the system for it.

use std::fmt::Debug;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

/// Tells the wall-clock time. Durations come from [`Moment`], never from two wall clocks.
pub trait Clock: Debug + Send + Sync {
    /// The wall-clock time now.
    fn now(&self) -> DateTime<Utc>;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// A point in time of this process, on both of its clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    wall: DateTime<Utc>,
    monotonic: Instant,
}

impl Moment {
    /// This moment.
    pub fn now(clock: &dyn Clock) -> Self {
        Self {
            wall: clock.now(),
            monotonic: Instant::now(),
        }
    }

    /// How long ago it was: the larger of the two clocks' answers, since a suspended machine stops the monotonic
    /// one and an adjusted machine turns the other back (protocol, assumption E3).
    pub fn elapsed(&self, clock: &dyn Clock) -> Duration {
        let wall = (clock.now() - self.wall).to_std().unwrap_or_default();
        wall.max(self.monotonic.elapsed())
    }
}
