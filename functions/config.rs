//! `landfast config`: says whether a configuration is valid, what it comes to, and what it may hold.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use landfast::config::{Config, Problem, Problems, process_env};
use serde_json::{Value, json};

use crate::output::{OutputFormat, complain};

/// Exit status of a configuration that breaks a rule.
const INVALID: u8 = 2;
/// Exit status when the answer could not be written.
const FAILED: u8 = 1;

/// What to do with a configuration file.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Checks a configuration and names every mistake with its line.
    #[command(
        after_help = "Example:\n  landfast config validate --config landfast.yaml\n\n\
        Exit status: 0 right, 1 the answer could not be written, 2 it breaks a rule, or wrong usage."
    )]
    Validate {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = "landfast.yaml")]
        config: PathBuf,
    },
    /// Prints a configuration with variables expanded and every default filled in; secrets show as ***.
    #[command(
        after_help = "Example:\n  landfast config print --config landfast.yaml --output json\n\n\
        Exit status: 0 printed, 1 the answer could not be written, 2 it breaks a rule, or wrong usage."
    )]
    Print {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = "landfast.yaml")]
        config: PathBuf,
    },
    /// Prints the JSON Schema of configurations, by which an editor completes and checks them.
    Schema,
}

/// Runs the command. The exit status is 0, 2 for a configuration that breaks a rule, or 1 when stdout is gone.
pub fn run(command: ConfigCommand, output: OutputFormat) -> ExitCode {
    let written = match command {
        ConfigCommand::Validate { config } => validate(&config, output),
        ConfigCommand::Print { config } => print(&config, output),
        ConfigCommand::Schema => schema(),
    };
    written.unwrap_or(ExitCode::from(FAILED))
}

/// Checks the file: one line when it is valid, one line per mistake when it is not.
///
/// # Errors
/// When the answer cannot be written.
pub fn validate(path: &Path, output: OutputFormat) -> io::Result<ExitCode> {
    let config = match Config::check_file(path, &process_env) {
        Ok(config) => config,
        Err(problems) => return refuse(&problems, output),
    };
    let (table_count, route_count) = (config.tables.len(), config.routes.len());
    let mut stdout = io::stdout().lock();
    match output {
        OutputFormat::Text => writeln!(
            stdout,
            "{} is valid; tables: {table_count}, routes: {route_count}{}",
            path.display(),
            match config.server.push_auth {
                Some(_) => "",
                None => "; `serve` will want `server.push_auth` as well",
            }
        )?,
        OutputFormat::Json => writeln!(
            stdout,
            "{}",
            json!({ "valid": true, "tables": table_count, "routes": route_count })
        )?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the effective configuration, as YAML or JSON with the same keys.
///
/// # Errors
/// When the answer cannot be written.
pub fn print(path: &Path, output: OutputFormat) -> io::Result<ExitCode> {
    let config = match Config::check_file(path, &process_env) {
        Ok(config) => config,
        Err(problems) => return refuse(&problems, output),
    };
    let mut stdout = io::stdout().lock();
    match output {
        OutputFormat::Text => stdout.write_all(config.to_yaml().as_bytes())?,
        OutputFormat::Json => writeln!(stdout, "{}", config.to_json())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the JSON Schema.
///
/// # Errors
/// When the answer cannot be written.
pub fn schema() -> io::Result<ExitCode> {
    writeln!(io::stdout().lock(), "{:#}", Config::json_schema())?;
    Ok(ExitCode::SUCCESS)
}

/// Text goes to stderr, so that stdout holds a configuration or nothing; JSON is the result and goes to stdout.
fn refuse(problems: &Problems, output: OutputFormat) -> io::Result<ExitCode> {
    match output {
        OutputFormat::Text => complain(&problems.to_string()),
        OutputFormat::Json => {
            let errors: Vec<Value> = problems.iter().map(problem_json).collect();
            writeln!(
                io::stdout().lock(),
                "{}",
                json!({ "valid": false, "errors": errors })
            )?;
        }
    }
    Ok(ExitCode::from(INVALID))
}

fn problem_json(problem: &Problem) -> Value {
    json!({
        "file": problem.file,
        "line": problem.position.map(|position| position.line),
        "column": problem.position.map(|position| position.column),
        "key": problem.key,
        "message": problem.message,
    })
}
