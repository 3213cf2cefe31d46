//! What tests stand on: how one is run and ignored, a pusher, the real server, independent readers.
//!
//! A module lists its tests with [`trials!`]; each is an `async fn() -> TestResult` and may use `?` on any error.

pub mod accounts;
pub mod aged;
pub mod biglake;
pub mod bigquery;
pub mod browser;
pub mod bucket;
pub mod clock;
pub mod faults;
pub mod front;
pub mod gcs;
pub mod google;
pub mod http;
pub mod lake;
pub mod mount;
pub mod postgres;
pub mod proxy;
pub mod pubsub;
pub mod push;
pub mod readers;
pub mod seed;
pub mod server;
pub mod signing;
pub mod subscription;
pub mod tables;

use std::any::Any;
use std::cell::RefCell;
use std::error::Error;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use libtest_mimic::{Completion, Failed, Trial};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep};

/// The outcome of a test, or of a step in it.
pub type TestResult<T = ()> = Result<T, Stop>;

/// Why a test stops before its end. Any error becomes `Failed`, with its causes.
#[derive(Debug)]
pub enum Stop {
    Failed(String),
    Ignored(String),
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Stop {
    fn from(error: E) -> Self {
        let error = error.into();
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        Self::Failed(text)
    }
}

/// Something outside this package that a test needs.
#[derive(Debug, Clone, Copy)]
pub enum Component {
    /// A Python with PyIceberg, DuckDB, polars, ClickHouse (chdb) and the judges of `readers/requirements.txt`.
    Python,
    /// A PostgreSQL server; the URI of its database `postgres`.
    Postgres,
    /// Apache's reference server for the REST catalog; its address and its warehouse, with a space between.
    Rest,
    /// A server of Cloud Storage's JSON API; its address.
    Gcs,
    /// A server of BigQuery's API with the project `p-test`; its address.
    BigQuery,
    /// Google's emulator of Pub/Sub; its host and port.
    PubSub,
    /// Nessie on the S3 server; its address and its warehouse, with a space between.
    Nessie,
    /// An S3 server with the bucket `lake`: its address, and the folder of its program, with a space between.
    S3,
    /// A project of Google Cloud; its id. The run's own script gives none.
    Live,
    /// A headless Chromium: the folder of what drives it, and its program, with a space between.
    Browser,
    /// A Python with Spark, and beside it the jars of Iceberg and of database drivers.
    Spark,
}

/// Where `component` is, as `tests/run` says in the environment; else ends the test as ignored, with the reason.
pub fn needs(component: Component) -> TestResult<String> {
    let (name, variable) = match component {
        Component::Python => ("Python readers", "LANDFAST_TEST_PYTHON"),
        Component::Postgres => ("PostgreSQL", "LANDFAST_TEST_POSTGRES"),
        Component::Rest => ("REST catalog", "LANDFAST_TEST_REST"),
        Component::Gcs => ("Cloud Storage server", "LANDFAST_TEST_GCS"),
        Component::BigQuery => ("BigQuery server", "LANDFAST_TEST_BIGQUERY"),
        Component::PubSub => ("Pub/Sub emulator", "LANDFAST_TEST_PUBSUB"),
        Component::Live => ("Google Cloud", "LANDFAST_TEST_LIVE"),
        Component::Nessie => ("Nessie", "LANDFAST_TEST_NESSIE"),
        Component::S3 => ("S3 server", "LANDFAST_TEST_S3"),
        Component::Browser => ("browser", "LANDFAST_TEST_BROWSER"),
        Component::Spark => ("Spark", "LANDFAST_TEST_SPARK"),
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "tests/run speaks to the tests through the environment"
    )]
    let read = |variable: &str| std::env::var(variable).ok().filter(|value| !value.is_empty());
    read(variable).ok_or_else(|| {
        let otherwise = match component {
            Component::Live => format!("name a project in {variable}"),
            _ => "run tests/run".to_owned(),
        };
        let reason = read(&format!("{variable}_ABSENT")).unwrap_or(otherwise);
        Stop::Ignored(format!("{name}: {reason}"))
    })
}

/// Lists async functions as tests on a multi-thread runtime of their own, named by module and function.
macro_rules! trials {
    ($($body:ident),* $(,)?) => {
        vec![$($crate::support::test(concat!(module_path!(), "::", stringify!($body)), $body)),*]
    };
}
pub(crate) use trials;

/// As [`trials!`], each as a [`paused_test`].
macro_rules! paused_trials {
    ($($body:ident),* $(,)?) => {
        vec![$($crate::support::paused_test(concat!(module_path!(), "::", stringify!($body)), $body)),*]
    };
}
pub(crate) use paused_trials;

/// A test on a fresh multi-thread runtime.
pub fn test<F, Fut>(name: &str, body: F) -> Trial
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = TestResult>,
{
    trial(name, body, || {
        Builder::new_multi_thread().worker_threads(2).enable_all().build()
    })
}

/// A test on a single-threaded runtime whose clock is paused: for what is all in memory. One that waits for what never
/// comes fails after a day of that clock, which is at once.
pub fn paused_test<F, Fut>(name: &str, body: F) -> Trial
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = TestResult>,
{
    let body = || async {
        let day = Duration::from_secs(24 * 3600);
        let ended = tokio::time::timeout(day, body()).await;
        ended.unwrap_or_else(|_elapsed| Err("It waits for what never comes.".into()))
    };
    trial(name, body, || {
        Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
    })
}

/// Polls until `probe` gives something; fails with `what` when `within` has passed.
pub async fn wait_for<T>(
    what: &str,
    within: Duration,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> TestResult<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = probe().await {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(format!("Waited {within:?} for {what}.").into());
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// A gzip file of one member.
pub fn gzip(plain: impl AsRef<[u8]>) -> TestResult<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain.as_ref())?;
    Ok(encoder.finish()?)
}

thread_local! {
    static NOTES: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps `text` to be printed if the running test fails, such as a server's log.
pub fn note(text: &str) {
    NOTES.with_borrow_mut(|notes| {
        notes.push('\n');
        notes.push_str(text);
    });
}

fn trial<F, Fut>(
    name: &str,
    body: F,
    runtime: impl FnOnce() -> std::io::Result<Runtime> + Send + 'static,
) -> Trial
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = TestResult>,
{
    let name = name.trim_start_matches(concat!(env!("CARGO_CRATE_NAME"), "::"));
    Trial::ignorable_test(name, move || {
        NOTES.take();
        // The body runs on this thread, so what it drops while it fails can still add a note.
        let outcome = catch_unwind(AssertUnwindSafe(|| runtime()?.block_on(body())))
            .unwrap_or_else(|panic| Err(Stop::Failed(format!("Panicked: {}", panic_text(&*panic)))));
        match outcome {
            Ok(()) => Ok(Completion::Completed),
            Err(Stop::Ignored(reason)) => Ok(Completion::ignored_with(reason)),
            Err(Stop::Failed(text)) => Err(Failed::from(text + &NOTES.take())),
        }
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}
