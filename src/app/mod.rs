//! The application: the only place that chooses backends, and the order in which things start and stop.

mod intake;
mod parts;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use iceberg::TableIdent;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use self::parts::Parts;

use crate::batch::{Shared, Writers, accept_by_record, keep_whole};
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::commit::Engine;
use crate::config::{CatalogConfig, Config, Platform, ServerConfig, process_env};
use crate::dead_letter::LETTER;
use crate::decode::Reason;
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::Ledger;
use crate::publish::Publishers;
use crate::route::{Route, Router};
use crate::telemetry::{self, UnknownFields, flush_traces, within};
use crate::trigger::{
    Access, Connections, Delivery, Landing, Limits, Objects, Page, Pulls, Pushers, Server, probes, router,
};

/// From the signal to the exit. Cloud Run kills after 10 s.
const SHUTDOWN: Duration = Duration::from_secs(9);

/// From the signal to the moment when a file that is being loaded is let go; what is left is for the pushes' hints.
const FILE_GRACE: Duration = Duration::from_secs(6);

/// From the signal to the moment when what BigQuery does not show yet is left to the next process.
const PUBLISH: Duration = Duration::from_secs(8);

/// Tables that are looked at before the start, and how long that may take.
const LOOKED_AT: usize = 8;
const LOOK: Duration = Duration::from_secs(5);

/// The landing folders, opened, and what stops them.
#[derive(Debug)]
pub struct Files {
    landing: Landing,
    stop: watch::Sender<bool>,
}

/// What a process takes in.
#[derive(Debug)]
pub enum Work {
    /// Pushes and rows over HTTP, and the files of landing folders.
    Serve(Files),
    /// Messages of subscriptions. Over HTTP there are only health, metrics and the status page.
    Pull(Pulls),
}

/// Callers of a process that pulls: probes and whoever reads its metrics.
const PROBES: usize = 16;

/// The work beside the listener's: what stops it, and its task.
struct Beside {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Work {
    /// How many callers the listener is for.
    fn callers(&self, max_requests: usize) -> usize {
        match self {
            Self::Serve(_) => max_requests,
            Self::Pull(_) => PROBES,
        }
    }

    /// Who may push. To a process that pulls nobody can, and it is not asked who may.
    fn pushers(&self, config: &ServerConfig, clock: Arc<dyn Clock>) -> Result<Pushers> {
        match self {
            Self::Serve(_) => Pushers::from_config(config.require_push_auth()?, clock),
            Self::Pull(_) => Ok(Pushers::Anyone),
        }
    }

    /// Starts what works beside the listener; gives it with the listener's routes.
    fn start(self, server: &Arc<Server>) -> (axum::Router, Beside) {
        match self {
            Self::Serve(files) => {
                let (stop, task) = (files.stop, tokio::spawn(files.landing.run()));
                (router(server.clone()), Beside { stop, task })
            }
            Self::Pull(pulls) => {
                let (stop, stopped) = watch::channel(false);
                let task = tokio::spawn(pulls.run(server.clone(), stopped));
                (probes(server.clone()), Beside { stop, task })
            }
        }
    }
}

/// A running pipeline: deliveries in, commits out.
#[derive(Debug)]
pub struct App {
    config: Arc<Config>,
    shared: Arc<Shared>,
    writers: Arc<Writers>,
    objects: Arc<Objects>,
    memory: Option<u64>,
    /// Keeps the log of messages without their attribute short.
    told: telemetry::Seldom,
}

impl App {
    /// Puts the stages together.
    pub fn new(config: Arc<Config>, parts: Parts) -> Arc<Self> {
        let server = &config.server;
        let max_bytes = usize::try_from(server.held_bytes(parts.memory)).unwrap_or(usize::MAX);
        let publishers = Publishers::from_config(
            &config,
            parts.catalog.clone(),
            parts.clock.clone(),
            parts.random.clone(),
        );
        let shared = Arc::new(Shared {
            publishers,
            engine: Engine::new(
                parts.catalog,
                Ledger::new(parts.ledgers),
                parts.clock.clone(),
                parts.random.clone(),
            ),
            dead_letters: parts.dead_letters,
            limits: Limits::new(max_bytes, server.max_in_flight_requests),
            clock: parts.clock,
            random: parts.random,
            unknown_fields: UnknownFields::default(),
        });
        let writers = Writers::new(shared.clone());
        let objects = Objects::new(config.clone(), shared.clone(), writers.clone());
        Arc::new(Self {
            config,
            shared,
            writers,
            objects: Arc::new(objects),
            memory: parts.memory,
            told: telemetry::Seldom::default(),
        })
    }

    /// Opens the landing folders, makes them where they are missing. They are watched once [`run`] has them.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] naming a folder that cannot be made or read.
    pub fn landing(&self) -> Result<Files> {
        let (stop, stopped) = watch::channel(false);
        let landing = Landing::open(self.config.clone(), self.shared.clone(), FILE_GRACE, stopped)?;
        Ok(Files { landing, stop })
    }

    /// What the stages share, for work that does not come through the trigger.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The catalog, to read back what landed.
    pub fn catalog(&self) -> &Arc<dyn Catalog> {
        self.shared.engine.catalog()
    }

    /// Looks whether the catalog keeps the configured tables, as far as they are there, under the warehouse.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it keeps all of them elsewhere. Whatever is wrong with some of them stops those alone,
    /// once there are rows for them.
    pub async fn check_warehouse(&self) -> Result<()> {
        if matches!(
            self.config.catalog,
            CatalogConfig::Storage | CatalogConfig::Memory
        ) {
            // Their tables lie where the warehouse is, whatever it is.
            return Ok(());
        }
        let loads = self.config.tables.keys().take(LOOKED_AT);
        let loads = loads.map(|table| tokio::time::timeout(LOOK, self.catalog().load_table(table)));
        let mut outside = None;
        for load in futures::future::join_all(loads).await {
            match load {
                Ok(Err(error)) if error.kind() == ErrorKind::NotFound => {}
                Ok(Err(error)) if error.names("warehouse") => outside = Some(error),
                _ => return Ok(()),
            }
        }
        let message = "The catalog keeps the configured tables outside `warehouse`: write the folder that it keeps them \
                       under as `warehouse`.";
        match outside {
            Some(error) => Err(Error::new(ErrorKind::Config, message).with_source(error)),
            None => Ok(()),
        }
    }

    /// Makes visible in BigQuery what is committed, until then at the latest. Gives the tables whose newest commits are
    /// not, and why. Nothing is followed after that.
    pub async fn publish(&self, until: Instant) -> BTreeMap<TableIdent, Error> {
        let failed = self.shared.publishers.close(until).await;
        for (ident, error) in &failed {
            tracing::warn!(
                table.ident = %ident,
                error = error.report(),
                "BigQuery does not show the newest commits; the next commit or `landfast maintain` moves the external table."
            );
        }
        failed
    }

    /// Takes a delivery apart, off the request, and hands its parts to their tables.
    fn accept_by_record(&self, delivery: Delivery) {
        let (config, shared, writers) = (self.config.clone(), self.shared.clone(), self.writers.clone());
        tokio::spawn(within(delivery.trace, async move {
            if let Route::ByRecord(rules) = Router::new(&config).route(&delivery.envelope.clone()) {
                accept_by_record(&shared, &writers, &rules, delivery, None).await;
            }
        }));
    }

    /// Marks a letter that a person sends back by a subscription of the letters' topic: of it no letter is made, or it would
    /// come again for ever.
    fn marked(&self, delivery: Delivery) -> Delivery {
        let comes_back = delivery.envelope.attributes.contains_key(LETTER);
        Delivery {
            is_replay: delivery.is_replay || (comes_back && self.config.dead_letter_topic.is_some()),
            ..delivery
        }
    }

    /// Tells what may be held, and warns where the memory is too little for it.
    fn tell_bounds(&self) {
        let server = &self.config.server;
        let (held, memory) = (server.held_bytes(self.memory), self.memory);
        tracing::info!(
            max_in_flight_bytes = held,
            max_unpacked_bytes = self.shared.limits.max_unpacked_bytes(),
            max_column_bytes = self.shared.limits.max_column_bytes(),
            memory_limit = memory,
            "What is held between request and answer is bounded."
        );
        if server.outgrows(memory) {
            tracing::warn!(
                max_in_flight_bytes = held,
                memory_limit = memory,
                "What may be held (server.max_in_flight_bytes, or max_body_bytes where that key is not set) is more than a \
                 quarter of the memory's limit, so the process may be killed once as much is held: lower it, or give the \
                 container more memory."
            );
        }
    }

    /// Counts a message without the attribute that its source wants, and tells of it once a minute.
    fn tell_no_attribute(&self, source: &str, attribute: &str) {
        metrics::counter!(telemetry::NO_DEDUPE_ATTRIBUTE, "source" => source.to_owned()).increment(1);
        if let Some(count) = self.told.tell(source) {
            tracing::warn!(
                source,
                attribute,
                count,
                "Messages lack the dedupe_attribute of their source; they are known by their message ids."
            );
        }
    }

    /// Dead-letters a whole delivery, then acknowledges it.
    fn dead_letter(&self, delivery: Delivery, reason: Reason) {
        let shared = self.shared.clone();
        let trace = delivery.trace;
        tokio::spawn(within(trace, async move {
            keep_whole(&shared, delivery, &reason).await;
        }));
    }
}

/// Binds the server's address.
///
/// # Errors
/// [`ErrorKind::Unavailable`] naming the address, such as when another process has it.
pub async fn bind(listen: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(listen).await.map_err(|error| {
        Error::new(
            ErrorKind::Unavailable,
            "The address cannot be listened on; is another process using it? Choose another with --listen or server.listen.",
        )
        .with("listen", listen)
        .with_source(error)
    })
}

/// Serves or pulls until `shutdown` resolves, then stops in order: intake, flush, commit, answers; inside 10 s.
///
/// # Errors
/// [`ErrorKind::Unavailable`] when the listener fails, or when something was still unanswered at the end of the time;
/// [`ErrorKind::Config`] when it is not said who may push.
pub async fn run(
    app: Arc<App>,
    listener: TcpListener,
    work: Work,
    metrics: PrometheusHandle,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    app.tell_bounds();
    let config = &app.config.server;
    let address = listener.local_addr().map_err(listener_failed)?;
    let access = match &config.api_auth {
        Some(auth) => Access::Bearer(auth.bearer.clone()),
        None if address.ip().is_loopback() => Access::Loopback,
        None => Access::Refused,
    };
    let page = Page::from_config(
        &app.config,
        app.shared.clone(),
        &access,
        Platform::from_env(&process_env),
    );
    let server = Arc::new(Server {
        intake: app.clone(),
        limits: app.shared.limits.clone(),
        clock: app.shared.clock.clone(),
        random: app.shared.random.clone(),
        metrics: metrics.clone(),
        pushers: work
            .pushers(config, app.shared.clock.clone())?
            .listening_on(address.ip()),
        access,
        page,
        max_body_bytes: usize::try_from(config.max_body_bytes).unwrap_or(usize::MAX),
        ack_deadline: config.ack_deadline,
        refusals: telemetry::Seldom::default(),
        draining: AtomicBool::new(false),
    });
    let (stop, stopped) = watch::channel(false);
    let callers = work.callers(config.max_in_flight_requests);
    let connections = Connections::of(callers);
    if connections.most < callers {
        tracing::warn!(
            connections = connections.most,
            max_in_flight_requests = config.max_in_flight_requests,
            "The process may open too few files for as many connections as requests may wait; raise its limit (ulimit -n)."
        );
    }
    let (routes, mut beside) = work.start(&server);
    let mut serving = tokio::spawn(connections.serve(listener, routes, stopped));
    let upkeep = tokio::spawn(keep_up(app.clone(), metrics));
    tokio::select! {
        () = shutdown => {}
        ended = &mut serving => {
            upkeep.abort();
            beside.task.abort();
            return match ended {
                Ok(()) => Ok(()),
                Err(error) => Err(Error::new(ErrorKind::Unavailable, "The server stopped.").with_source(error)),
            };
        }
    }
    server.draining.store(true, Ordering::Release);
    tracing::info!("Stopping: no new work, the rest is committed and answered.");
    let (until, publish_until) = (Instant::now() + SHUTDOWN, Instant::now() + PUBLISH);
    let finished = tokio::time::timeout_at(until, async {
        // New connections are taken until then, and told 503: a refused one tells a sender nothing.
        let _beside_gone = beside.stop.send(true);
        let taken = async {
            app.writers.close().await;
            // Before the landing folders are done: a move of theirs may hang.
            app.catalog().settle().await;
        };
        let (ended, (), ()) = tokio::join!(&mut beside.task, taken, app.objects.close());
        if let Err(error) = ended {
            tracing::error!(%error, "The task beside the listener ended badly; its files or messages are taken at the next start.");
        }
        app.catalog().settle().await;
        let _told = app.publish(publish_until).await;
        let _server_gone = stop.send(true);
        let _ended = serving.await;
    })
    .await;
    upkeep.abort();
    beside.task.abort();
    flush_traces(until).await;
    // A client that never finishes its request keeps its connection to the end, but no delivery waits for it.
    if finished.is_ok() || app.shared.limits.held_requests() == 0 {
        tracing::info!("Stopped; everything taken in is answered.");
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unavailable,
        "Some deliveries were not answered in time; they come again.",
    ))
}

fn listener_failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "The listener failed.").with_source(error)
}

/// What runs beside the requests: relief when slots run out, and the metrics recorder's housekeeping.
async fn keep_up(app: Arc<App>, metrics: PrometheusHandle) {
    let mut every = tokio::time::interval(Duration::from_secs(5));
    let housekeeping = async {
        loop {
            every.tick().await;
            metrics.run_upkeep();
        }
    };
    tokio::join!(
        app.writers.relieve_pressure(),
        app.shared.publishers.watch(),
        housekeeping
    );
}
