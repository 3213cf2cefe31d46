//! Work beside the commits: merged manifests and ledger segments are prepared while no commit waits, and swapped in by
//! the next one that finds all their inputs.

use std::time::Duration;

use iceberg::spec::ManifestFile;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use super::attempt::MAX_LIFE;
use super::engine::Engine;
use super::head::Head;
use super::merge::{self, ManifestMerge};
use crate::clock::{Clock, Moment};
use crate::error::Result;
use crate::ledger::Merge;

const MANIFESTS: &str = "manifests";
const SEGMENTS: &str = "ledger's segments";

/// How long a commit waits for a merge that is overdue. It must be well below the shortest deadline of a commit: what runs
/// out of that is dropped with the merge, and the next attempt would begin with the same merge, for ever. And it must be
/// enough where a process lives for one commit, and nothing is beside it: a hundred small manifests are read and written in
/// less than a second where a request takes 100 ms.
const PATIENCE: Duration = Duration::from_secs(3);

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
                Some(ended) => merged_by(ended, what),
                None => {
                    *self = Self::Running(tasks);
                    None
                }
            },
            Self::Ready(merged) => Some(merged),
            Self::Idle => None,
        }
    }

    /// Waits until it has ended. Cancelled, it goes on.
    async fn ended(&mut self, what: &'static str) {
        if let Self::Running(tasks) = self
            && let Some(ended) = tasks.join_next().await
        {
            *self = merged_by(ended, what).map_or(Self::Idle, Self::Ready);
        }
    }

    /// Starts the work on a task that ends with its owner.
    fn start(&mut self, work: impl Future<Output = Result<Option<T>>> + Send + 'static) {
        let mut tasks = JoinSet::new();
        tasks.spawn(work);
        *self = Self::Running(tasks);
    }
}

/// What a task has merged, if anything.
fn merged_by<T>(ended: Result<Result<Option<T>>, JoinError>, what: &'static str) -> Option<T> {
    match ended {
        Ok(Ok(merged)) => merged,
        Ok(Err(error)) => {
            let error = error.report();
            tracing::warn!(error, "The {what} were not merged; a later commit tries again.");
            None
        }
        Err(error) => {
            tracing::warn!(%error, "The merge of the {what} stopped; a later commit tries again.");
            None
        }
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
            manifests: self.manifests.take(MANIFESTS),
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

    /// Starts what is long overdue before the commit, where nothing is under way beside it, and waits a moment for it:
    /// processes that live for one commit leave it to the next. What takes longer goes on beside this commit, for a later
    /// one.
    ///
    /// # Errors
    /// Those of reading the manifest list. A merge that fails is told, and left to a later commit.
    pub(super) async fn catch_up(engine: &Engine, head: &mut Head) -> Result<()> {
        let listed = engine.manifests(head).await?;
        let manifests =
            merge::merge_is_overdue(&head.table, &listed) && Self::start_manifests(engine, head, &listed);
        let ledger = head.ledger.merge_is_overdue() && Self::start_ledger(engine, head);
        let beside = &mut head.beside;
        let ended = async {
            if manifests {
                beside.manifests.ended(MANIFESTS).await;
            }
            if ledger {
                beside.ledger.ended(SEGMENTS).await;
            }
        };
        if (manifests || ledger) && timeout(PATIENCE, ended).await.is_err() {
            tracing::debug!("A merge that is overdue takes long; the commit goes on without it.");
        }
        Ok(())
    }

    /// Starts what has become due on the head, unless it is under way.
    pub(super) fn start(engine: &Engine, head: &mut Head) {
        let beside = &mut head.beside;
        if let (Work::Idle, Work::Idle) = (&beside.manifests, &beside.ledger) {
            beside.begun = None;
        }
        if let Some(listed) = head.manifests.take() {
            Self::start_manifests(engine, head, &listed);
            head.manifests = Some(listed);
        }
        Self::start_ledger(engine, head);
    }

    /// Says whether it did.
    fn start_manifests(engine: &Engine, head: &mut Head, listed: &[ManifestFile]) -> bool {
        let Work::Idle = head.beside.manifests else {
            return false;
        };
        let Some(inputs) = merge::plan_merge(&head.table, listed) else {
            return false;
        };
        let (table, random) = (head.table.clone(), engine.random().clone());
        let merging = async move { merge::merge(&table, &inputs, &random).await.map(Some) };
        head.beside.begin(engine.clock());
        head.beside.manifests.start(merging);
        true
    }

    /// Says whether it did.
    fn start_ledger(engine: &Engine, head: &mut Head) -> bool {
        let Work::Idle = head.beside.ledger else {
            return false;
        };
        if !head.ledger.wants_merge() {
            return false;
        }
        let (ledger, state) = (engine.ledger().clone(), head.ledger.clone());
        let random = engine.random().clone();
        let merging = async move { ledger.merge(&state, &random).await };
        head.beside.begin(engine.clock());
        head.beside.ledger.start(merging);
        true
    }
}
