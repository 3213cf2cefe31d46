//! Check: does once, with things of its own, what the service will do, and says what is missing where that is refused.
//!
//! Nothing that is configured is written to: rows go into a table of the check's own, objects under a name of its own
//! (`own.rs`), and nothing is ever put into a landing bucket, where it would be an event. Each probe is bounded in time,
//! fails alone, and removes what it made, also when it failed.

mod ceiling;
mod commit;
mod external;
mod folders;
mod landing;
mod leftovers;
mod objects;
mod own;
mod push_keys;
mod remedy;
mod report;
mod subscriptions;
mod tables;
mod topic;

use futures::future::{LocalBoxFuture, join_all};
use tokio::time::{Duration, Instant, timeout};

use self::own::Own;
use self::remedy::Place;
pub use self::report::{Ceiling, Line, Outcome, Report, Timing};
use self::report::{Found, Gathered};
use crate::app::Parts;
use crate::commit::Engine;
use crate::config::Config;
use crate::dead_letter::DeadLetters;
use crate::error::Result;
use crate::storage::Store;

/// One probe, and then the removal of what it made, may take so long.
const PROBE: Duration = Duration::from_secs(60);
const REMOVAL: Duration = Duration::from_secs(30);

/// How the subscriptions are found.
#[derive(Debug, Clone, Default)]
pub struct PubSub {
    /// The project of those with short names.
    pub project: Option<String>,
    /// The host and port of an emulator.
    pub emulator: Option<String>,
}

/// Probes everything that a configuration names, and times writes. What fails is in the report, never an error.
pub async fn check(config: &Config, pubsub: &PubSub) -> Report {
    let own = Own::now();
    let missing = folders::missing(config);
    let opened = bounded(engine(config)).await;
    let mut gathered = Gathered::default();
    for probed in join_all(probes(config, pubsub, &own, opened.as_ref().ok())).await {
        gathered.extend(probed);
    }
    // Alone, since they are timed.
    let (puts, left) = objects::time(&config.warehouse, &own).await;
    gathered.time("put", puts);
    gathered.left.extend(left);
    let commits = match &opened {
        Ok(engine) => commit::probe(config, engine, &own).await,
        Err(error) => {
            let place = Place::Catalog(&config.catalog, &config.warehouse);
            let found = Found::refused(&place, error);
            commit::not_probed(&config.catalog, found)
        }
    };
    gathered.extend(commits);
    gathered.extend(leftovers::remove(config, opened.as_ref().ok(), &own).await);
    folders::remove_empty(missing);
    Report::new(gathered, &config.server)
}

/// The probes that may run beside each other, in the order of the report. A further one is a line here.
fn probes<'a>(
    config: &'a Config,
    pubsub: &'a PubSub,
    own: &'a Own,
    engine: Option<&'a Engine>,
) -> Vec<LocalBoxFuture<'a, Gathered>> {
    vec![
        Box::pin(objects::warehouse(&config.warehouse, own)),
        Box::pin(objects::dead_letters(&config.dead_letters, own)),
        Box::pin(topic::probe(config, own)),
        Box::pin(tables::probe(config, engine)),
        Box::pin(landing::probe(config, own)),
        Box::pin(push_keys::probe(&config.server)),
        Box::pin(subscriptions::probe(config, pubsub)),
    ]
}

async fn engine(config: &Config) -> Result<Engine> {
    // A check writes no letters by it, and where they cannot be kept is another probe's to say.
    let nowhere = Store::open("memory:///check")?;
    let parts = Parts::with_dead_letters(config, DeadLetters::new(nowhere)).await?;
    Ok(parts.engine())
}

/// Waits for a step of a probe no longer than [`PROBE`].
async fn bounded<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(PROBE, work)
        .await
        .unwrap_or_else(|_elapsed| Err(report::too_slow(PROBE)))
}

/// Probes, and says how long it took.
async fn line(what: &'static str, name: impl ToString, probe: impl Future<Output = Found>) -> Line {
    let started = Instant::now();
    let found = probe.await;
    Line::new(what, name.to_string(), found, started.elapsed())
}
