//! One published table: what waits to be visible, and the task that makes it so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use iceberg::TableIdent;
use tokio::sync::{Notify, OnceCell, watch};
use tokio::time::{Instant, sleep_until};

use super::client::BigQuery;
use super::pointer::{Memory, PACE, Step, step};
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::config::BigQueryConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::random::Random;
use crate::telemetry::{self, Seldom};

/// The waits after failures that may pass, with full jitter.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The wait after a refusal that lasts until somebody does something.
const REFUSED_WAIT: Duration = Duration::from_secs(60);

/// A lost race is begun anew within this.
const LOST_WAIT: Duration = Duration::from_secs(1);

/// A jitter over this keeps processes apart that wait for the same moment.
const APART: Duration = Duration::from_millis(250);

/// What all followers of a process share.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) catalog: Arc<dyn Catalog>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<Random>,
    pub(super) bigquery: OnceCell<BigQuery>,
    pub(super) told: Seldom,
}

/// Commits that BigQuery does not show yet.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    /// When the first of them landed.
    since: Instant,
    /// When the oldest of their messages was published.
    oldest: Option<DateTime<Utc>>,
}

impl Waiting {
    fn and(self, other: Option<Self>) -> Self {
        let Some(other) = other else { return self };
        Self {
            since: self.since.min(other.since),
            oldest: [self.oldest, other.oldest].into_iter().flatten().min(),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// Commits so far.
    noted: u64,
    /// Those after the step that is under way began.
    waiting: Option<Waiting>,
    /// Those of the step that is under way.
    working: Option<Waiting>,
    /// Why they are not visible yet.
    failed: Option<Error>,
    /// What the last step came to.
    last: Option<&'static str>,
    runs: bool,
}

/// Follows one table.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) ident: TableIdent,
    pub(super) to: BigQueryConfig,
    ground: Arc<Ground>,
    state: Mutex<State>,
    bell: Notify,
    closing: watch::Sender<bool>,
    /// The number of commits that are visible, or were told not to be.
    settled: watch::Sender<u64>,
}

/// When a follower may go on, and how often it failed.
struct Pace {
    next: Instant,
    /// Before it there is no change, whatever hurry there is.
    next_change: Instant,
    failures: u32,
    memory: Memory,
}

impl Follower {
    pub(super) fn new(ident: TableIdent, to: BigQueryConfig, ground: Arc<Ground>) -> Self {
        Self {
            ident,
            to,
            ground,
            state: Mutex::default(),
            bell: Notify::new(),
            closing: watch::Sender::new(false),
            settled: watch::Sender::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a commit; gives its number. Whether the task has to be started is the second.
    pub(super) fn note(&self, oldest: Option<DateTime<Utc>>) -> (u64, bool) {
        let mut state = self.state();
        let now = Waiting {
            since: Instant::now(),
            oldest,
        };
        state.waiting = Some(now.and(state.waiting));
        state.noted += 1;
        self.bell.notify_one();
        (state.noted, !std::mem::replace(&mut state.runs, true))
    }

    /// Waits until a commit is visible.
    pub(super) async fn visible(&self, number: u64) {
        let mut settled = self.settled.subscribe();
        // The sender is ours, so there is no error.
        let _settled = settled.wait_for(|settled| *settled >= number).await;
    }

    /// Tells the task to end once nothing waits.
    pub(super) fn close(&self) {
        self.closing.send_replace(true);
        self.bell.notify_one();
    }

    /// Why commits are not visible yet; nothing when none waits.
    pub(super) fn unpublished(&self) -> Option<Error> {
        let state = self.state();
        state.waiting.or(state.working)?;
        let too_late = || {
            Error::new(
                ErrorKind::Unavailable,
                "There was no time left to move the external table.",
            )
            .with("external_table", &self.to)
        };
        Some(state.failed.clone().unwrap_or_else(too_late))
    }

    /// What the last step came to.
    pub(super) fn last(&self) -> Option<&'static str> {
        self.state().last
    }

    /// Tells how long the oldest commit waits.
    pub(super) fn tell_staleness(&self) {
        let state = self.state();
        let oldest = [state.waiting, state.working]
            .into_iter()
            .flatten()
            .map(|waiting| waiting.since);
        let seconds = oldest.min().map_or(0.0, |since| since.elapsed().as_secs_f64());
        metrics::gauge!(telemetry::UNPUBLISHED, "table" => self.ident.to_string()).set(seconds);
    }

    /// Follows until it is told to close and nothing waits, or nothing more can be done.
    pub(super) async fn run(&self) {
        let mut pace = Pace {
            next: Instant::now(),
            next_change: Instant::now(),
            failures: 0,
            memory: Memory::default(),
        };
        let mut closing = self.closing.subscribe();
        if self.to.is_emulated {
            let (ident, endpoint) = (&self.ident, &self.to.endpoint);
            tracing::warn!(table.ident = %ident, endpoint, "BIGQUERY_EMULATOR_HOST is set: it stands in for BigQuery.");
        }
        loop {
            if self.state().waiting.is_none() {
                if *closing.borrow() {
                    return;
                }
                self.bell.notified().await;
                continue;
            }
            tokio::select! {
                () = sleep_until(pace.next) => {}
                // The wait after a failure is cut short once.
                _closing = closing.wait_for(|closing| *closing), if !*closing.borrow() => {
                    pace.next = pace.next_change;
                    continue;
                }
            }
            let ended = self.follow(&mut pace).await;
            if *closing.borrow() && ended.is_err_and(|kind| !passes(kind)) {
                return;
            }
        }
    }

    /// One step, and when the next may be. `Err` says why it failed.
    async fn follow(&self, pace: &mut Pace) -> Result<(), ErrorKind> {
        let (number, took) = {
            let mut state = self.state();
            state.working = state.waiting.take();
            (state.noted, state.working)
        };
        let begun = Instant::now();
        let outcome = self.step(&mut pace.memory).await;
        self.count(&outcome, begun.elapsed());
        let random = &self.ground.random;
        match outcome {
            Ok(Step::Young(wait)) => {
                self.put_back(None);
                pace.next = Instant::now() + wait + random.jitter(APART);
                Ok(())
            }
            Ok(Step::ColumnsRefused) => {
                self.put_back(None);
                pace.next_change = Instant::now() + PACE;
                pace.next = pace.next_change;
                Ok(())
            }
            Ok(step) => {
                self.settle(number, took, step.name());
                pace.failures = 0;
                if matches!(step, Step::Moved | Step::Created) {
                    pace.next_change = Instant::now() + PACE;
                }
                // Where another process does all the moves, BigQuery is not asked at every commit.
                pace.next = pace.next_change.max(Instant::now() + LOST_WAIT);
                Ok(())
            }
            Err(error) => {
                let kind = error.kind();
                self.tell_failure(&error);
                self.put_back(Some(error));
                // It may have been done all the same.
                pace.next_change = Instant::now() + PACE;
                pace.next = pace
                    .next_change
                    .max(Instant::now() + self.wait_after(kind, &mut pace.failures));
                Err(kind)
            }
        }
    }

    async fn step(&self, memory: &mut Memory) -> Result<Step> {
        let ground = &self.ground;
        let make = async || BigQuery::new(ground.clock.clone());
        let bigquery = ground.bigquery.get_or_try_init(make).await?;
        step(bigquery, &self.to, ground.catalog.as_ref(), &self.ident, memory).await
    }

    fn wait_after(&self, kind: ErrorKind, failures: &mut u32) -> Duration {
        let random = &self.ground.random;
        if kind == ErrorKind::Conflict {
            return random.jitter(LOST_WAIT);
        }
        if !passes(kind) {
            return REFUSED_WAIT / 2 + random.jitter(REFUSED_WAIT / 2);
        }
        let ceiling = FIRST_WAIT
            .saturating_mul(2_u32.saturating_pow(*failures))
            .min(LONGEST_WAIT);
        *failures = failures.saturating_add(1);
        random.jitter(ceiling)
    }

    fn put_back(&self, failed: Option<Error>) {
        let mut state = self.state();
        state.waiting = state
            .working
            .take()
            .map(|working| working.and(state.waiting))
            .or(state.waiting);
        state.failed = failed.or(state.failed.take());
        drop(state);
        self.tell_staleness();
    }

    fn settle(&self, number: u64, took: Option<Waiting>, outcome: &'static str) {
        {
            let mut state = self.state();
            (state.working, state.failed, state.last) = (None, None, Some(outcome));
        }
        self.settled.send_replace(number);
        self.tell_staleness();
        if let Some(oldest) = took.and_then(|took| took.oldest) {
            let waited = (self.ground.clock.now() - oldest).to_std().unwrap_or_default();
            metrics::histogram!(telemetry::VISIBLE, "table" => self.ident.to_string())
                .record(waited.as_secs_f64());
        }
    }

    fn count(&self, outcome: &Result<Step>, elapsed: Duration) {
        let name = match outcome {
            Ok(step) => step.name(),
            Err(error) => match error.kind() {
                ErrorKind::Conflict => "conflict",
                ErrorKind::Full => "rate_limited",
                kind if passes(kind) => "unavailable",
                _ => "refused",
            },
        };
        let table = self.ident.to_string();
        let labels = [("table", table.clone()), ("outcome", name.to_owned())];
        metrics::counter!(telemetry::PUBLISHES, &labels).increment(1);
        metrics::histogram!(telemetry::PUBLISH_DURATION, "table" => table).record(elapsed.as_secs_f64());
    }

    fn tell_failure(&self, error: &Error) {
        let (ident, kind) = (&self.ident, error.kind());
        if kind == ErrorKind::Conflict {
            tracing::debug!(table.ident = %ident, error = error.report(), "The pointer is looked at again.");
            return;
        }
        let Some(times) = self.ground.told.tell(&format!("{ident} {}", kind.name())) else {
            return;
        };
        let error = error.report();
        tracing::warn!(
            table.ident = %ident, external_table = %self.to, times, error,
            "BigQuery does not show the newest commits; what is committed is safe, and it is tried again."
        );
    }
}

/// Whether a failure may pass by itself soon.
fn passes(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Conflict | ErrorKind::Full | ErrorKind::Unavailable | ErrorKind::OutcomeUnknown
    )
}
