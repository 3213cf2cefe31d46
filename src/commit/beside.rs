//! Work beside the commits: merged manifests and ledger segments are prepared while no commit waits, and swapped in by
//! the next one that finds all their inputs.

use tokio::task::JoinSet;

use super::attempt::MAX_LIFE;
use super::engine::Engine;
use super::head::Head;
use super::merge::{self, ManifestMerge};
use crate::clock::{Clock, Moment};
use crate::error::{Error, Result};
use crate::ledger::Merge;

const SEGMENTS: &str = "ledger's segments";

/// A merge on its way, or ready.
#[derive(Debug, Default)]
enum Work<T> {
    #[default]
    Idle,
    Running(JoinSet<Result<Option<T>>>),
    Ready(T),
}

impl<T: Send + 'static> Work<T> {
    /// What is ready; never waits.
    fn take(&mut self, what: &'static str) -> Option<T> {
        match std::mem::take(self) {
            Self::Running(mut tasks) => match tasks.try_join_next() {
                Some(Ok(Ok(merged))) => merged,
                Some(Ok(Err(error))) => {
                    tell_failed(what, &error);
                    None
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "The merge of the {what} stopped; a later commit tries again.");
                    None
                }
                None => {
                    *self = Self::Running(tasks);
                    None
                }
            },
            Self::Ready(merged) => Some(merged),
            Self::Idle => None,
        }
    }

    /// Starts the work on a task that ends with its owner.
    fn start(&mut self, work: impl Future<Output = Result<Option<T>>> + Send + 'static) {
        let mut tasks = JoinSet::new();
        tasks.spawn(work);
        *self = Self::Running(tasks);
    }
}

/// What is being prepared for a table.
#[derive(Debug, Default)]
pub(super) struct Beside {
    manifests: Work<ManifestMerge>,
    ledger: Work<Merge>,
    /// When the oldest of it was begun. Past its life its files may be gone, as any file that no commit names.
    begun: Option<Moment>,
}

/// What an attempt may take along.
#[derive(Debug, Default)]
pub(super) struct Ready {
    pub(super) manifests: Option<ManifestMerge>,
    pub(super) ledger: Option<Merge>,
}

impl Beside {
    /// Takes what is ready, and drops what is too old to be sure that the sweep has left it.
    pub(super) fn ready(&mut self, clock: &dyn Clock) -> Ready {
        if self.begun.is_some_and(|begun| begun.elapsed(clock) > MAX_LIFE) {
            *self = Self::default();
        }
        Ready {
            manifests: self.manifests.take("manifests"),
            ledger: self.ledger.take(SEGMENTS),
        }
    }

    fn begin(&mut self, clock: &dyn Clock) {
        self.begun.get_or_insert_with(|| Moment::now(clock));
    }

    /// Gives back what an attempt that did not commit had taken along.
    pub(super) fn give_back(&mut self, ready: Ready, clock: &dyn Clock) {
        if ready.manifests.is_some() || ready.ledger.is_some() {
            self.begin(clock);
        }
        if let (Work::Idle, Some(merge)) = (&self.manifests, ready.manifests) {
            self.manifests = Work::Ready(merge);
        }
        if let (Work::Idle, Some(merge)) = (&self.ledger, ready.ledger) {
            self.ledger = Work::Ready(merge);
        }
    }

    /// Does what is long overdue before the commit, where nothing is under way beside it: processes that live for one
    /// commit leave it to the next.
    ///
    /// # Errors
    /// Those of reading the manifest list. A merge that fails is told, and left to a later commit.
    pub(super) async fn catch_up(engine: &Engine, head: &mut Head) -> Result<()> {
        let manifests = engine.manifests(head).await?;
        if let Work::Idle = head.beside.manifests
            && merge::merge_is_overdue(&head.table, &manifests)
            && let Some(inputs) = merge::plan_merge(&head.table, &manifests)
        {
            match merge::merge(&head.table, &inputs, engine.random()).await {
                Ok(merge) => {
                    head.beside.begin(engine.clock());
                    head.beside.manifests = Work::Ready(merge);
                }
                Err(error) => tell_failed("manifests", &error),
            }
        }
        if let Work::Idle = head.beside.ledger
            && head.ledger.merge_is_overdue()
        {
            match engine.ledger().merge(&head.ledger, engine.random()).await {
                Ok(merge) => {
                    head.beside.begin(engine.clock());
                    head.beside.ledger = merge.map_or(Work::Idle, Work::Ready);
                }
                Err(error) => tell_failed(SEGMENTS, &error),
            }
        }
        Ok(())
    }

    /// Starts what has become due on the head, unless it is under way.
    pub(super) fn start(engine: &Engine, head: &mut Head) {
        let beside = &mut head.beside;
        if let (Work::Idle, Work::Idle) = (&beside.manifests, &beside.ledger) {
            beside.begun = None;
        }
        if let Work::Idle = head.beside.manifests
            && let Some(listed) = &head.manifests
            && let Some(inputs) = merge::plan_merge(&head.table, listed)
        {
            let (table, random) = (head.table.clone(), engine.random().clone());
            let merging = async move { merge::merge(&table, &inputs, &random).await.map(Some) };
            head.beside.begin(engine.clock());
            head.beside.manifests.start(merging);
        }
        if let Work::Idle = head.beside.ledger
            && head.ledger.wants_merge()
        {
            let (ledger, state) = (engine.ledger().clone(), head.ledger.clone());
            let random = engine.random().clone();
            let merging = async move { ledger.merge(&state, &random).await };
            head.beside.begin(engine.clock());
            head.beside.ledger.start(merging);
        }
    }
}

fn tell_failed(what: &str, error: &Error) {
    tracing::warn!(
        error = error.report(),
        "The {what} were not merged; a later commit tries again."
    );
}
