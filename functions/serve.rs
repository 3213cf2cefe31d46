//! `landfast serve`: the HTTP handler that Cloud Run runs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use landfast::app::{self, App, Parts, Work};
use landfast::config::{Config, PushAuth, Scheme, process_env};
use landfast::error::Result;
use landfast::telemetry;
use landfast::version;

use crate::output::{block_on, failed, listening, platform, shutdown_signal, start_traces};

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The configuration file.
    #[arg(long, default_value = "landfast.yaml")]
    config: PathBuf,
}

/// Serves until SIGTERM or Ctrl-C.
pub fn run(args: &ServeArgs) -> ExitCode {
    let config = Config::load(&args.config, &process_env).and_then(|config| {
        config.server.require_push_auth()?;
        Ok(Arc::new(config))
    });
    match config {
        Ok(config) => block_on(serve(config)),
        Err(error) => failed(&error),
    }
}

async fn serve(config: Arc<Config>) -> Result<()> {
    let platform = platform();
    let metrics = telemetry::start_metrics(&platform)?;
    start_traces()?;
    tell_who_may_push(config.server.require_push_auth()?);
    if platform.is_cloud_run() && config.warehouse.scheme() == Scheme::File {
        tracing::warn!(
            "The warehouse is a folder: on Cloud Run it is this instance's memory unless a volume is mounted there."
        );
    }
    let app = App::new(config.clone(), Parts::from_config(&config).await?);
    app.check_warehouse().await?;
    let files = app.landing()?;
    let listener = app::bind(config.server.listen).await?;
    tracing::info!(
        version = version::VERSION,
        commit = version::COMMIT,
        warehouse = %config.warehouse,
        tables = config.tables.len(),
        routes = config.routes.len(),
        landing_folders = config.landing_folders().len(),
        "Serving."
    );
    if let Ok(address) = listener.local_addr() {
        listening(address);
    }
    app::run(app, listener, Work::Serve(files), metrics, shutdown_signal()).await
}

fn tell_who_may_push(auth: &PushAuth) {
    match auth {
        PushAuth::Off => tracing::warn!("push_auth is off: whoever reaches this address may push."),
        PushAuth::Signed(signed) => {
            let (audience, service_accounts) = (&signed.audience, signed.service_accounts.join(", "));
            tracing::info!(
                audience,
                service_accounts,
                "push_auth is on: a push has to be signed for one of the service accounts."
            );
            if signed.is_emulated() {
                tracing::warn!(
                    keys = signed.keys_url,
                    "PUSH_KEYS_EMULATOR_HOST is set: an emulator signs pushes in Google's place."
                );
            }
        }
    }
}
