//! The lander: looks at the folders, loads what is complete, and moves it away.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use iceberg::TableIdent;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep};

use super::folder::{Claim, Claiming, Folder, Found};
use super::place::{Leaving, Refusal, move_landed, move_refused};
use super::reports::Reports;
use super::watched::{Watched, Work};
use crate::batch::Shared;
use crate::config::{Config, TableConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::load::{Input, Loaded, Progress, load_found};
use crate::route::{Route, Router};
use crate::telemetry;
use crate::trigger::DeliveryId;

/// Between two looks. A file that two looks find unchanged is complete: a second is longer than a busy writer pauses
/// and than the steps of most file systems' times, and short for a person who waits.
///
/// Looking works on every mount; network mounts and mounted buckets tell nobody of changes. The price: a file that was
/// renamed in cannot be told from one that was written there, and waits for the second look as well.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Lands the files of the configuration's folders.
#[derive(Debug)]
pub struct Landing {
    lander: Lander,
    folders: Vec<(Arc<Folder>, Watched)>,
}

/// What every file needs.
#[derive(Debug)]
struct Lander {
    config: Arc<Config>,
    shared: Arc<Shared>,
    /// From the stop to the moment when a load that is not done is let go.
    grace: Duration,
    stop: watch::Receiver<bool>,
    reports: Reports,
}

/// What became of a step of a file's work.
enum Step {
    /// Done with; the file is not there any more.
    Gone,
    /// Done; this comes next.
    Next(Work),
    /// Failed; the same again, later.
    Again,
    /// Another process's, or let go: nothing changed.
    Left,
    /// It is another file than the one that was found.
    Changed,
}

impl Landing {
    /// Makes the folders that are missing, and checks that they can be read.
    ///
    /// It stops when `stop` says so; a load that is not done `grace` later is let go, and nothing of it is visible unless
    /// its commit was on its way.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] naming the folder.
    pub fn open(
        config: Arc<Config>,
        shared: Arc<Shared>,
        grace: Duration,
        stop: watch::Receiver<bool>,
    ) -> Result<Self> {
        let mut folders = Vec::new();
        for location in config.landing_folders() {
            let folder = Folder::open(location, &config.dead_letters)?;
            folders.push((Arc::new(folder), Watched::default()));
        }
        Ok(Self {
            lander: Lander {
                config,
                shared,
                grace,
                stop,
                reports: Reports::default(),
            },
            folders,
        })
    }

    /// Lands files until it is told to stop. Dropping it leaves nothing half done, only perhaps a file that is committed
    /// and not moved.
    pub async fn run(mut self) {
        let mut stop = self.lander.stop.clone();
        while !self.folders.is_empty() && !self.lander.is_stopping() {
            let mut waiting = 0;
            for (folder, watched) in &mut self.folders {
                self.lander.pass(folder, watched).await;
                waiting += watched.len();
            }
            metrics::gauge!(telemetry::WAITING_FILES).set(waiting as f64);
            tokio::select! {
                _stopping_or_gone = stop.wait_for(|stop| *stop) => return,
                () = sleep(LOOK_INTERVAL) => {}
            }
        }
    }
}

impl Lander {
    fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Looks once, and works on what is due.
    async fn pass(&self, folder: &Arc<Folder>, watched: &mut Watched) {
        let (looked, begin) = (folder.clone(), watched.begin().to_owned());
        match blocking(move || looked.look(&begin)).await {
            Ok(look) => {
                self.reports.left_alone(&look);
                if look.end.is_some() {
                    self.reports.crowded(folder.location.path());
                }
                watched.update(look.files, Instant::now());
                watched.turn(look.end, Instant::now());
            }
            Err(error) => {
                let place = folder.location.path();
                self.reports.failed(
                    "look",
                    place,
                    &error.to_string(),
                    "A landing folder cannot be read.",
                );
                return;
            }
        }
        // A table whose store or catalog does not work now is asked once a look: each file of it would wait in vain.
        let mut down = BTreeSet::new();
        for name in watched.due(Instant::now()) {
            if self.is_stopping() {
                return;
            }
            self.work(folder, watched, &name, &mut down).await;
        }
    }

    /// Works on one file as far as it goes.
    async fn work(
        &self,
        folder: &Arc<Folder>,
        watched: &mut Watched,
        name: &Path,
        down: &mut BTreeSet<TableIdent>,
    ) {
        while let Some(watch) = watched.get_mut(name) {
            let found = Found {
                name: name.to_path_buf(),
                stamp: watch.stamp(),
            };
            let step = match &watch.work {
                Work::Load => self.load(folder, &found, down).await,
                Work::MoveLanded { landed_as, .. } => {
                    self.move_landed(folder, &found, landed_as.clone()).await
                }
                Work::MoveRefused(refusal) => self.move_refused(folder, &found, refusal.clone()).await,
            };
            match step {
                Step::Next(work) => {
                    watch.begin(work);
                    continue;
                }
                Step::Again => watch.put_off(Instant::now(), &self.shared.random),
                Step::Left => {}
                Step::Gone | Step::Changed => watched.forget(name),
            }
            return;
        }
    }

    /// Routes, claims and loads a file.
    async fn load(&self, folder: &Arc<Folder>, found: &Found, down: &mut BTreeSet<TableIdent>) -> Step {
        let name = found.name.to_string_lossy().into_owned();
        let path = folder.path(&found.name);
        let (ident, table) = match Router::new(&self.config).route_file(&folder.location, &name) {
            Route::Table(ident, table) => (ident, table),
            // A file goes to one table: its conditions are none on records.
            Route::ByRecord(_) => return Step::Left,
            Route::Nowhere(message) => {
                return Step::Next(Work::MoveRefused(Refusal {
                    kind: "no_route",
                    message,
                    table: None,
                }));
            }
        };
        if down.contains(&ident) {
            return Step::Left;
        }
        let claim = match self.claim(folder, found).await {
            Ok(claim) => claim,
            Err(step) => {
                if matches!(step, Step::Again) {
                    telemetry::table_not_loaded(&ident.to_string(), ErrorKind::Unavailable);
                }
                return step;
            }
        };
        let started = Instant::now();
        let Some(loaded) = self.load_within(&ident, &table, (&path, found)).await else {
            self.reports.let_go(&path);
            return Step::Left;
        };
        match loaded {
            Ok(loaded) => {
                let took = started.elapsed();
                self.reports.landed(&ident, &path, found, &loaded, took);
                Step::Next(Work::MoveLanded {
                    _claim: claim,
                    landed_as: loaded.id,
                })
            }
            Err(error) => {
                let step = self.failed(folder, found, &ident, &error).await;
                if matches!(step, Step::Again) {
                    down.insert(ident);
                }
                step
            }
        }
    }

    /// Takes a file for this process. `Err` is what happens when that cannot be.
    async fn claim(&self, folder: &Arc<Folder>, found: &Found) -> Result<Claim, Step> {
        let (looked, claimed) = (folder.clone(), found.clone());
        match blocking(move || Ok(looked.claim(&claimed))).await {
            Ok(Claiming::Claimed(claim)) => Ok(claim),
            Ok(Claiming::Busy) => Err(Step::Left),
            Ok(Claiming::Changed) => Err(Step::Changed),
            Ok(Claiming::Unreadable(error)) | Err(error) => {
                let sentence = "A file cannot be read; it stays, and is tried again.";
                let path = folder.path(&found.name);
                self.reports
                    .retry("unreadable", &path, &error.to_string(), sentence);
                Err(Step::Again)
            }
        }
    }

    /// Decides what becomes of a file that did not load.
    async fn failed(&self, folder: &Arc<Folder>, found: &Found, ident: &TableIdent, error: &Error) -> Step {
        let path = folder.path(&found.name);
        let (checked, same) = (folder.clone(), found.clone());
        let unchanged = blocking(move || checked.is_unchanged(&same)).await;
        if !matches!(unchanged, Ok(true)) {
            let sentence =
                "A file changed while it was loaded; nothing of it is committed, and it is taken again.";
            self.reports.retry("changed", &path, error.message(), sentence);
            return Step::Changed;
        }
        if is_of_the_file(error) {
            return Step::Next(Work::MoveRefused(Refusal {
                kind: error.kind().name(),
                message: error.report(),
                table: Some(ident.to_string()),
            }));
        }
        telemetry::table_not_loaded(&ident.to_string(), error.kind());
        let sentence = "A file cannot be loaded now; it stays, and is tried again.";
        self.reports
            .retry(error.kind().name(), &path, &error.report(), sentence);
        Step::Again
    }

    /// `None` when it was let go.
    async fn load_within(
        &self,
        ident: &TableIdent,
        table: &TableConfig,
        (path, found): (&Path, &Found),
    ) -> Option<Result<Loaded>> {
        let input = Input::File(path.to_path_buf());
        // Between the claim and the opening it may have been written anew.
        let file = (&input, Some(found.stamp));
        let mut stop = self.stop.clone();
        let time_is_over = async {
            drop(stop.wait_for(|stop| *stop).await);
            sleep(self.grace).await;
        };
        tokio::select! {
            biased;
            loaded = load_found(&self.shared, ident, table, file, false, Arc::new(Progress::default())) => Some(loaded),
            () = time_is_over => None,
        }
    }

    /// Moves a file that landed.
    async fn move_landed(&self, folder: &Arc<Folder>, found: &Found, landed_as: DeliveryId) -> Step {
        let (from, to) = (folder.path(&found.name), folder.landed(&found.name));
        let (checked, found, now) = (folder.clone(), found.clone(), self.shared.clock.now());
        let moving = from.clone();
        // Commit before move: after a crash between the two the file is read again, and the table's ledger knows it by
        // its name and content. The other order would lose it.
        let moved = blocking(move || {
            let leaving = Leaving {
                path: &moving,
                stamp: found.stamp,
                landed_as: Some(&landed_as),
                rename: |from, to| std::fs::rename(from, to),
            };
            match checked.is_unchanged(&found)? {
                true => move_landed(&leaving, &to, now),
                false => Ok(None),
            }
        });
        match moved.await {
            Ok(Some(_)) => Step::Gone,
            Ok(None) => {
                let sentence =
                    "A file changed after it had landed; what is there now is taken as another file.";
                self.reports.retry(
                    "changed",
                    &from,
                    "it was written to after it was complete",
                    sentence,
                );
                Step::Changed
            }
            Err(error) if is_gone(&error, &from) => Step::Gone,
            Err(error) => {
                let sentence = "A file landed and cannot be moved. This process will not load it again, and tries to move it.";
                self.reports.retry("move", &from, &error.to_string(), sentence);
                Step::Again
            }
        }
    }

    /// Moves a file that is refused, with the reason beside it.
    async fn move_refused(&self, folder: &Arc<Folder>, found: &Found, refusal: Refusal) -> Step {
        let (from, to) = (folder.path(&found.name), folder.refused(&found.name));
        let (checked, found, now) = (folder.clone(), found.clone(), self.shared.clock.now());
        let (moving, reason) = (from.clone(), refusal.clone());
        let moved = blocking(move || {
            let leaving = Leaving {
                path: &moving,
                stamp: found.stamp,
                landed_as: None,
                rename: |from, to| std::fs::rename(from, to),
            };
            match checked.is_unchanged(&found)? {
                true => move_refused(&leaving, &to, &reason, now),
                false => Ok(None),
            }
        });
        match moved.await {
            Ok(Some(to)) => {
                self.reports.refused(&from, &to, &refusal);
                Step::Gone
            }
            Ok(None) => Step::Changed,
            Err(error) if is_gone(&error, &from) => Step::Gone,
            Err(error) => {
                let sentence = "A file is refused and cannot be moved to the dead letters; it stays, and is tried again.";
                self.reports.retry("move", &from, &error.to_string(), sentence);
                Step::Again
            }
        }
    }
}

/// Whether a load failed for what is in the file, so that no repetition can help: it is rejected, it names the file,
/// and no failure of the system stands behind it.
fn is_of_the_file(error: &Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let system = inner.downcast_ref::<io::Error>();
        if system.is_some_and(|error| error.raw_os_error().is_some()) {
            return false;
        }
        cause = inner.source();
    }
    error.kind() == ErrorKind::Rejected && error.names("file")
}

/// Whether something failed because the file is not there any more, and not, say, the folder that it goes to.
fn is_gone(error: &io::Error, file: &Path) -> bool {
    error.kind() == io::ErrorKind::NotFound && matches!(file.try_exists(), Ok(false))
}

/// Does what may wait for a disk off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
}
