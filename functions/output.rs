//! What every command shares: output formats, logs, exit codes, signals.

use std::io::Write;
use std::process::ExitCode;

use clap::ValueEnum;
use landfast::config::process_env;
use landfast::error::{Error, ErrorKind, Result};
use landfast::telemetry::{self, LogFormat};

/// Failed.
pub const FAILED: u8 = 1;
/// Wrong usage or configuration.
pub const USAGE: u8 = 2;

/// Done, but some records were dead-lettered.
pub const DEAD_LETTERED: u8 = 3;

/// How a command's result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For a person.
    Text,
    /// For a script: one JSON document.
    Json,
}

/// Starts logging. `RUST_LOG` overrides what is logged.
pub fn start_logs(format: Option<LogFormat>, quiet: bool) -> Result<()> {
    let format = format.unwrap_or(if on_cloud_run() {
        LogFormat::Stackdriver
    } else {
        LogFormat::Text
    });
    let default = if quiet { "warn" } else { "info" };
    telemetry::start_logs(
        format,
        &process_env("RUST_LOG").unwrap_or_else(|| default.to_owned()),
    )
}

/// Whether Cloud Run started this process.
pub fn on_cloud_run() -> bool {
    process_env("K_SERVICE").is_some()
}

/// Tells why a command failed, and gives its exit code: 2 for configuration, else 1.
pub fn failed(error: &Error) -> ExitCode {
    say(&format!("landfast: {}", error.report()));
    ExitCode::from(if error.kind() == ErrorKind::Config {
        USAGE
    } else {
        FAILED
    })
}

/// Writes a line for a person to standard error.
pub fn say(line: &str) {
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
    match runtime.and_then(|runtime| runtime.block_on(work)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => failed(&error),
    }
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
