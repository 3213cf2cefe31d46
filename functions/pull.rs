//! `landfast pull`: the streaming pull worker.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use landfast::app::{self, App, Parts, Work};
use landfast::config::{Config, process_env};
use landfast::error::Result;
use landfast::google::{EMULATOR, PROJECT};
use landfast::telemetry;
use landfast::trigger::{Pulls, subscriptions};
use landfast::version;

use crate::output::{block_on, failed, listening, platform, shutdown_signal, start_traces};

/// Arguments of `pull`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    landfast pull --config landfast.yaml --project acme\n  \
    landfast pull --config landfast.yaml --subscription projects/acme/subscriptions/orders-pull\n\n\
    Without --subscription it pulls every subscription that the configuration names in a table's `from`, in a route or \
    under `sources`. A message is acknowledged once its rows are committed. GET /, /health/live, /health/ready and \
    /metrics are on server.listen. PUBSUB_EMULATOR_HOST=HOST:PORT pulls from an emulator.\n\n\
    Exit status: 0 stopped with everything answered, 1 it could not start, may not pull a subscription or left something \
    unanswered, 2 wrong usage or configuration.")]
pub struct PullArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "landfast.yaml")]
    config: PathBuf,
    /// Pull this subscription, by its short or full name, and no other but those that are named so; may be repeated.
    #[arg(long, value_name = "NAME")]
    subscription: Vec<String>,
    /// The project of subscriptions with short names. Default: GOOGLE_CLOUD_PROJECT.
    #[arg(long)]
    project: Option<String>,
}

/// The project of the environment.
pub fn project() -> Option<String> {
    process_env(PROJECT).filter(|value| !value.is_empty())
}

/// The emulator of the environment.
pub fn emulator() -> Option<String> {
    process_env(EMULATOR).filter(|value| !value.is_empty())
}

/// Pulls until SIGTERM or Ctrl-C, or until a subscription cannot be pulled.
pub fn run(args: &PullArgs) -> ExitCode {
    let project = args.project.clone().or_else(project);
    let chosen = Config::load(&args.config, &process_env).and_then(|config| {
        let names = subscriptions(&config, &args.subscription, project.as_deref())?;
        Ok((Arc::new(config), names))
    });
    match chosen {
        Ok((config, names)) => block_on(pull(config, names, emulator())),
        Err(error) => failed(&error),
    }
}

async fn pull(config: Arc<Config>, names: Vec<String>, emulator: Option<String>) -> Result<()> {
    let metrics = telemetry::start_metrics(&platform())?;
    start_traces()?;
    let pulls = Pulls::connect(emulator.as_deref(), names.clone()).await?;
    let app = App::new(config.clone(), Parts::from_config(&config).await?);
    app.check_warehouse().await?;
    let listener = app::bind(config.server.listen).await?;
    tracing::info!(
        version = version::VERSION,
        commit = version::COMMIT,
        warehouse = %config.warehouse,
        tables = config.tables.len(),
        routes = config.routes.len(),
        subscriptions = names.join(" "),
        emulator,
        "Pulling."
    );
    if let Ok(address) = listener.local_addr() {
        listening(address);
    }
    let mut failure = pulls.failure();
    let refused = failure.clone();
    let shutdown = async move {
        tokio::select! {
            () = shutdown_signal() => {}
            _refused = failure.wait_for(Option::is_some) => {}
        }
    };
    let stopped = app::run(app, listener, Work::Pull(pulls), metrics, shutdown).await;
    let refused = refused.borrow().clone();
    refused.map_or(stopped, Err)
}
