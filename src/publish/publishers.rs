//! The followers of a process: one per published table, started by its first commit.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use iceberg::TableIdent;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, interval, timeout_at};

use super::follower::{Follower, Ground, PublishStatus};
use super::waiting::Note;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::config::{BigQueryConfig, Config};
use crate::error::Error;
use crate::random::Random;
use crate::telemetry::Seldom;

/// How often the staleness is told.
const TELL: Duration = Duration::from_secs(1);

/// How long an answer waits for its commit to be visible. It is acknowledged whatever came of that.
const HOLD: Duration = Duration::from_secs(5);

/// Who is told of commits. Nothing is sent before the first one of a published table.
#[derive(Debug, Default)]
pub struct Publishers {
    followers: HashMap<TableIdent, Arc<Follower>>,
    /// Whether an answer is to wait for a publication, since no CPU comes after it.
    pub(super) holds_requests: bool,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// A commit that is on its way to be visible.
#[derive(Debug)]
pub struct Publication {
    follower: Arc<Follower>,
    number: u64,
}

impl Publication {
    /// Waits until BigQuery shows the commit, or a later one, or nobody follows any more; not longer than an answer may wait
    /// for it, and not after `until`.
    pub async fn visible_soon(&self, until: Instant) {
        let until = until.min(Instant::now() + HOLD);
        let _elapsed = timeout_at(until, self.follower.visible(self.number)).await;
    }
}

impl Publishers {
    /// Those of a configuration's tables.
    pub fn from_config(
        config: &Config,
        catalog: Arc<dyn Catalog>,
        clock: Arc<dyn Clock>,
        random: Arc<Random>,
    ) -> Self {
        let tables = config.tables.iter();
        let published = tables.filter_map(|(ident, table)| Some((ident.clone(), *table.publish.clone()?)));
        Self {
            holds_requests: config.server.cpu_idle,
            ..Self::new(published, catalog, clock, random)
        }
    }

    /// Those of some tables.
    pub fn new(
        published: impl IntoIterator<Item = (TableIdent, BigQueryConfig)>,
        catalog: Arc<dyn Catalog>,
        clock: Arc<dyn Clock>,
        random: Arc<Random>,
    ) -> Self {
        let ground = Arc::new(Ground {
            catalog,
            clock,
            random,
            bigquery: OnceCell::new(),
            told: Seldom::default(),
        });
        let follower = |(ident, to): (TableIdent, BigQueryConfig)| {
            let follower = Follower::new(ident.clone(), to, ground.clone());
            (ident, Arc::new(follower))
        };
        Self {
            followers: published.into_iter().map(follower).collect(),
            holds_requests: false,
            tasks: Mutex::default(),
        }
    }

    /// Takes note of a commit, or of a state of the table that rows were found in: whoever committed these may have been
    /// killed before it told BigQuery. Returns at once. Gives what an answer is to wait for, where no CPU comes after it.
    ///
    /// However often the same rows are found, BigQuery is asked once: it is known then to show that state. Where others
    /// move the table all the while, it is asked once a second.
    pub fn committed(&self, ident: &TableIdent, note: Note) -> Option<Publication> {
        let follower = self.followers.get(ident)?;
        let (number, is_first) = follower.note(note)?;
        if is_first {
            let follower = follower.clone();
            let task = tokio::spawn(async move { follower.run().await });
            self.tasks
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(task);
        }
        self.publication(follower, number)
    }

    /// What an answer is to wait for of the commits so far, where no CPU comes after it.
    pub fn waiting(&self, ident: &TableIdent) -> Option<Publication> {
        let follower = self.followers.get(ident)?;
        self.publication(follower, follower.newest()?)
    }

    fn publication(&self, follower: &Arc<Follower>, number: u64) -> Option<Publication> {
        self.holds_requests.then(|| Publication {
            follower: follower.clone(),
            number,
        })
    }

    /// Tells how long commits wait, for as long as it is polled: also while a request hangs.
    pub async fn watch(&self) {
        let mut every = interval(TELL);
        loop {
            every.tick().await;
            for follower in self.followers.values() {
                follower.tell_staleness();
            }
        }
    }

    /// Makes visible what waits, until then at the latest. Gives the tables whose newest commits are not, and why.
    pub async fn close(&self, until: Instant) -> BTreeMap<TableIdent, Error> {
        for follower in self.followers.values() {
            follower.close();
        }
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for mut task in tasks {
            if timeout_at(until, &mut task).await.is_err() {
                // What was sent may yet be done; whoever comes next finds that out.
                task.abort();
            }
        }
        let followers = self.followers.iter();
        followers
            .filter_map(|(ident, follower)| Some((ident.clone(), follower.unpublished()?)))
            .collect()
    }

    /// Where a table's external table stands; none where the table is not published.
    pub fn status(&self, ident: &TableIdent) -> Option<PublishStatus> {
        Some(self.followers.get(ident)?.status())
    }

    /// What became of a table's last publish, such as `moved`.
    pub fn outcome(&self, ident: &TableIdent) -> Option<&'static str> {
        self.followers.get(ident)?.last()
    }
}
