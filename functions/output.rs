//! What every command shares: output formats, logs, exit codes, signals.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use clap::{Args, ValueEnum};
use iceberg::TableIdent;
use landfast::app::App;
use landfast::catalog::Catalog;
use landfast::config::{Config, Platform, TraceExport, process_env, table_ident};
use landfast::error::{Error, ErrorKind, Result};
use landfast::maintenance::tables;
use landfast::telemetry::{self, LogFormat};
use tokio::time::Instant;

/// Failed.
pub const FAILED: u8 = 1;
/// Wrong usage or configuration.
pub const USAGE: u8 = 2;

/// Done, but some records were dead-lettered.
pub const DEAD_LETTERED: u8 = 3;
/// Verified, and something is wrong.
pub const FOUND: u8 = 3;

/// How a command's result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For a person.
    Text,
    /// For a script: one JSON document.
    Json,
}

/// Who reads standard error: decided once, when logging starts.
#[derive(Debug, Clone, Copy)]
struct Reader {
    /// Every line must be a log line.
    is_machine: bool,
    quiet: bool,
}

static READER: OnceLock<Reader> = OnceLock::new();

fn reader() -> Reader {
    READER.get().copied().unwrap_or(Reader {
        is_machine: false,
        quiet: false,
    })
}

/// Which tables a command works with: those of a configuration, or those of `dev`.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "landfast.yaml")]
    config: PathBuf,
    /// The folder of `landfast dev`, instead of a configuration.
    #[arg(long, conflicts_with = "config")]
    dir: Option<PathBuf>,
}

impl ConfigArgs {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with every broken rule, or with the way out where there is no file.
    pub fn load(&self) -> Result<Config> {
        if let Some(dir) = &self.dir {
            return Config::dev(dir, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        }
        if !self.config.exists() {
            let message = "There is no configuration file; name one with --config, or the folder of `landfast dev` with --dir.";
            return Err(Error::new(ErrorKind::Config, message).with("file", self.config.display()));
        }
        Config::load(&self.config, &process_env)
    }

    /// The same for a command that only reads: it makes no folder.
    ///
    /// # Errors
    /// As [`ConfigArgs::load`]; also when there is no such folder.
    pub fn load_existing(&self) -> Result<Config> {
        match &self.dir {
            Some(dir) if !dir.join("warehouse").is_dir() => {
                let message =
                    "There is no warehouse in the folder; name the folder of `landfast dev` with --dir.";
                Err(Error::new(ErrorKind::Config, message).with("folder", dir.display()))
            }
            _ => self.load(),
        }
    }
}

/// Starts logging. `RUST_LOG` overrides what is logged.
pub fn start_logs(format: Option<LogFormat>, quiet: bool) -> Result<()> {
    let platform = platform();
    let format = format.unwrap_or(if platform.is_cloud_run() {
        LogFormat::Stackdriver
    } else {
        LogFormat::Text
    });
    let is_machine = format != LogFormat::Text;
    READER.get_or_init(|| Reader { is_machine, quiet });
    if is_machine {
        // What a panic says may hold a value of the payload, so only its place is told.
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string);
            tracing::error!(place, "A thread panicked.");
        }));
    }
    // The clients of buckets log every attempt; a metric counts them.
    let default = if quiet { "warn" } else { "info,object_store=warn" };
    let Some(filter) = process_env("RUST_LOG") else {
        return telemetry::start_logs(format, default, &platform);
    };
    telemetry::start_logs(format, &filter, &platform).inspect_err(|_wrong_filter| {
        // So that this is told as a log line, too.
        let _started = telemetry::start_logs(format, default, &platform);
    })
}

/// Starts sending traces, where the environment names a collector. Call it within the runtime.
///
/// # Errors
/// [`ErrorKind::Config`] naming a variable that has no meaning.
pub fn start_traces() -> Result<()> {
    let Some(export) = TraceExport::from_env(&process_env)? else {
        return Ok(());
    };
    telemetry::start_traces(&export)?;
    let collector = export.endpoint.host_str();
    tracing::info!(collector, "Traces are sent to a collector.");
    Ok(())
}

/// Where this process runs.
pub fn platform() -> Platform {
    Platform::from_env(&process_env)
}

/// Tells why a command failed, and gives its exit code: 2 for configuration, else 1.
pub fn failed(error: &Error) -> ExitCode {
    complain(&format!("landfast: {}", error.report()));
    ExitCode::from(if error.kind() == ErrorKind::Config {
        USAGE
    } else {
        FAILED
    })
}

/// Writes what went wrong to standard error, quiet or not.
pub fn complain(text: &str) {
    if reader().is_machine {
        return tracing::error!("{text}");
    }
    write_line(text);
}

/// Tells where the server listens.
pub fn listening(address: SocketAddr) {
    if reader().is_machine {
        return tracing::info!("listening on http://{address}");
    }
    say(&format!("listening on http://{address}"));
}

/// Writes a line for a person to standard error, unless the command is quiet or no person reads there.
pub fn say(line: &str) {
    if is_for_people() {
        write_line(line);
    }
}

/// Whether standard error takes more than log lines.
pub fn is_for_people() -> bool {
    let reader = reader();
    !reader.is_machine && !reader.quiet
}

fn write_line(line: &str) {
    let _closed = writeln!(std::io::stderr().lock(), "{line}");
}

/// Writes a result to standard output.
///
/// # Errors
/// [`ErrorKind::Unavailable`] when standard output takes no more.
pub fn tell(result: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{result}")
        .and_then(|()| stdout.flush())
        .map_err(|error| {
            Error::new(
                ErrorKind::Unavailable,
                "The result cannot be written to standard output.",
            )
            .with_source(error)
        })
}

/// How long a command waits for BigQuery once its rows are committed.
const PUBLISH: Duration = Duration::from_secs(30);

/// Makes visible in BigQuery what a command committed. Where that fails the rows are committed all the same: it is a warning.
pub async fn publish(app: &App) {
    let _told = app.publish(Instant::now() + PUBLISH).await;
}

/// The tables that a command of upkeep is for: the one that is named, else all of the configuration.
///
/// # Errors
/// [`ErrorKind::Config`] when the name is no table's; those of the catalog.
pub async fn chosen_tables(
    config: &Config,
    catalog: &dyn Catalog,
    named: Option<&str>,
) -> Result<Vec<(TableIdent, Result<()>)>> {
    match named {
        Some(name) => Ok(vec![(table_ident(name)?, Ok(()))]),
        None => tables(config, catalog).await,
    }
}

/// Runs a command's future on the process's runtime.
pub fn block_on(work: impl Future<Output = Result<()>>) -> ExitCode {
    block_on_code(async { work.await.map(|()| 0) })
}

/// The same for a command that succeeds in more than one way.
pub fn block_on_code(work: impl Future<Output = Result<u8>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(ErrorKind::Unavailable, "The runtime cannot start.").with_source(error));
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let code = match runtime.block_on(work) {
        Ok(code) => ExitCode::from(code),
        Err(error) => failed(&error),
    };
    // Dropping it would wait for every thread: also for one that reads a pipe which nobody closes, or a mount that hangs.
    runtime.shutdown_background();
    code
}

/// Resolves on SIGTERM or Ctrl-C.
pub async fn shutdown_signal() {
    let interrupt = async {
        // Without a handler there is nothing to wait for; SIGTERM still works.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}
