//! One published table: what waits to be visible, and the task that makes it so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use iceberg::TableIdent;
use tokio::sync::{Notify, OnceCell, watch};
use tokio::time::{Instant, sleep_until};

use super::client::BigQuery;
use super::pointer::{Memory, NO_TABLE, PACE, Step, step};
use super::waiting::{Note, Waiting};
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::config::BigQueryConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::random::Random;
use crate::telemetry::{self, Seldom, Span, within};

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

#[derive(Debug, Default)]
struct State {
    waiting: Waiting,
    /// Why they are not visible yet.
    failed: Option<Error>,
    /// What the last step came to that settled commits.
    last: Option<&'static str>,
    runs: bool,
}

/// Where a published table stands.
#[derive(Debug, Clone)]
pub struct PublishStatus {
    /// The external table.
    pub to: String,
    /// For how long the oldest commit waits that BigQuery does not show; none when none waits.
    pub behind: Option<Duration>,
    /// Whether there was a commit to publish at all.
    pub was_noted: bool,
    /// What the last step came to that settled commits, such as `moved`, or [`NO_TABLE`].
    pub last: Option<&'static str>,
    /// Why the last step failed, while commits wait.
    pub failed: Option<ErrorKind>,
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
    /// Whether the process is stopping, so that there is little time left.
    hurries: bool,
    memory: Memory,
}

impl Pace {
    /// The wait after a failure is cut short once, and those after it begin anew.
    fn hurry(&mut self) {
        (self.hurries, self.failures) = (true, 0);
        self.next = self.next_change;
    }
}

/// Lets go of whoever waits for a follower that has ended, however it did.
struct Released<'a>(&'a watch::Sender<u64>);

impl Drop for Released<'_> {
    fn drop(&mut self) {
        self.0.send_replace(u64::MAX);
    }
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

    /// Takes note of a commit; gives its number, and whether the task has to be started. Nothing when BigQuery shows it.
    pub(super) fn note(&self, note: Note) -> Option<(u64, bool)> {
        let mut state = self.state();
        let number = match state.waiting.add(note) {
            Ok(number) => number,
            Err(oldest) => {
                self.tell_visible(oldest);
                return None;
            }
        };
        self.bell.notify_one();
        Some((number, !std::mem::replace(&mut state.runs, true)))
    }

    /// The number of the newest commit, if any waits.
    pub(super) fn newest(&self) -> Option<u64> {
        let state = self.state();
        (!state.waiting.is_empty()).then(|| state.waiting.noted())
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
        if state.waiting.is_empty() {
            return None;
        }
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

    /// Where the external table stands, as far as this process knows.
    pub(super) fn status(&self) -> PublishStatus {
        let state = self.state();
        PublishStatus {
            to: self.to.to_string(),
            behind: state.waiting.since().map(|since| since.elapsed()),
            was_noted: state.waiting.noted() > 0,
            last: state.last,
            failed: state.failed.as_ref().map(Error::kind),
        }
    }

    /// Tells how long the oldest commit waits.
    pub(super) fn tell_staleness(&self) {
        let since = self.state().waiting.since();
        let seconds = since.map_or(0.0, |since| since.elapsed().as_secs_f64());
        metrics::gauge!(telemetry::UNPUBLISHED, "table" => self.ident.to_string()).set(seconds);
    }

    /// Follows until it is told to close and nothing waits, or nothing more can be done.
    pub(super) async fn run(&self) {
        let _released = Released(&self.settled);
        let mut pace = Pace {
            next: Instant::now(),
            next_change: Instant::now(),
            failures: 0,
            hurries: false,
            memory: Memory::default(),
        };
        let mut closing = self.closing.subscribe();
        if self.to.is_emulated {
            let (ident, endpoint) = (&self.ident, &self.to.endpoint);
            tracing::warn!(table.ident = %ident, endpoint, "BIGQUERY_EMULATOR_HOST is set: it stands in for BigQuery.");
        }
        loop {
            let is_closing = *closing.borrow();
            if self.state().waiting.is_empty() {
                if is_closing {
                    return;
                }
                self.bell.notified().await;
                continue;
            }
            if is_closing && !pace.hurries {
                pace.hurry();
            }
            tokio::select! {
                () = sleep_until(pace.next) => {}
                _closing = closing.wait_for(|closing| *closing), if !is_closing => continue,
            }
            let ended = self.follow(&mut pace).await;
            if *closing.borrow() && ended.is_err_and(|kind| !passes(kind)) {
                return;
            }
        }
    }

    /// One step, and when the next may be. `Err` says why it failed.
    async fn follow(&self, pace: &mut Pace) -> Result<(), ErrorKind> {
        let (number, span) = {
            let state = self.state();
            (state.waiting.noted(), state.waiting.span())
        };
        let (trace, begun) = (span.trace(), Instant::now());
        let outcome = within(trace, self.step(&mut pace.memory)).await;
        self.tell_step(&outcome, span, begun.elapsed());
        let shown = std::mem::take(&mut pace.memory.shown);
        self.state().waiting.show(shown);
        let random = &self.ground.random;
        match outcome {
            Ok(Step::Young(wait)) => {
                self.settle_shown();
                pace.next = Instant::now() + wait + random.jitter(APART);
                Ok(())
            }
            Ok(Step::ColumnsRefused) => {
                self.settle_shown();
                pace.next_change = Instant::now() + PACE;
                pace.next = pace.next_change;
                Ok(())
            }
            Ok(step) => {
                self.settle(number, Some(step.name()));
                pace.failures = 0;
                if matches!(step, Step::Moved | Step::Created) {
                    pace.next_change = Instant::now() + PACE;
                }
                // Where another process does all the moves, BigQuery is not asked at every commit; nor at every copy of
                // a delivery that is found in the table.
                pace.next = pace.next_change.max(Instant::now() + LOST_WAIT);
                Ok(())
            }
            Err(error) => {
                let kind = error.kind();
                trace.scope(|| self.tell_failure(&error));
                self.state().failed = Some(error);
                self.settle_shown();
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

    /// Lets go of the commits that BigQuery is seen to show though this process did not move it there.
    fn settle_shown(&self) {
        let visible = self.state().waiting.visible();
        match visible {
            Some(number) => self.settle(number, None),
            None => self.tell_staleness(),
        }
    }

    /// The commits up to this one are visible, or need not be. `outcome` is that of a step which knows it of all.
    fn settle(&self, number: u64, outcome: Option<&'static str>) {
        let oldest = {
            let mut state = self.state();
            let oldest = state.waiting.settle(number);
            if state.waiting.is_empty() || outcome.is_some() {
                state.failed = None;
            }
            // A commit that is seen to be visible is of a table that is there.
            state.last = outcome.or(state.last.filter(|last| *last != NO_TABLE));
            oldest
        };
        self.settled.send_replace(number);
        self.tell_staleness();
        self.tell_visible(oldest);
    }

    fn tell_visible(&self, oldest: Option<DateTime<Utc>>) {
        if let Some(oldest) = oldest {
            let waited = (self.ground.clock.now() - oldest).to_std().unwrap_or_default();
            metrics::histogram!(telemetry::VISIBLE, "table" => self.ident.to_string())
                .record(waited.as_secs_f64());
        }
    }

    /// Counts a step, and ends its span.
    fn tell_step(&self, outcome: &Result<Step>, mut span: Span, elapsed: Duration) {
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
        metrics::histogram!(telemetry::PUBLISH_DURATION, "table" => table.clone())
            .record(elapsed.as_secs_f64());
        if span.is_recorded() {
            span.set("table.ident", table);
            span.set("external_table", self.to.to_string());
            span.set("outcome", name);
        }
        if let Err(error) = outcome {
            span.failed(error.kind());
        }
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
