//! `landfast check`: does once what the service will do, and says what is missing.

use std::process::ExitCode;

use clap::Args;
use landfast::check::{Line, Outcome, PubSub, Report, check};
use landfast::error::Result;
use serde_json::json;

use crate::output::{ConfigArgs, FAILED, OutputFormat, block_on_code, tell};
use crate::pull::{emulator, project};

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  landfast check --config landfast.yaml --project acme\n\n\
    Writes, commits, reads and drops a table of its own, landfast_check.probe_ID, and objects under landfast-check/ of the \
    warehouse and the dead letters; nothing that is configured is written to, and nothing is put into a landing bucket. \
    Times 20 writes of each kind. Exit status: 0 all of it passed, 1 something failed or could not be removed, 2 wrong usage \
    or configuration."
)]
pub struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The project of subscriptions with short names. Default: GOOGLE_CLOUD_PROJECT.
    #[arg(long)]
    project: Option<String>,
}

/// Probes everything, and tells what came of it.
pub fn run(args: &CheckArgs, output: OutputFormat) -> ExitCode {
    block_on_code(run_all(args, output))
}

async fn run_all(args: &CheckArgs, output: OutputFormat) -> Result<u8> {
    let config = args.config.load()?;
    let pubsub = PubSub {
        project: args.project.clone().or_else(project),
        emulator: emulator(),
    };
    let report = check(&config, &pubsub).await;
    match output {
        OutputFormat::Text => tell(&text(&report))?,
        OutputFormat::Json => tell(&json!(report).to_string())?,
    }
    Ok(if report.passed { 0 } else { FAILED })
}

fn text(report: &Report) -> String {
    let named = |line: &Line| format!("{} {}", line.what, line.name);
    let width = report.checks.iter().map(|line| named(line).chars().count()).max();
    let width = width.unwrap_or_default();
    let mut lines = Vec::new();
    for line in &report.checks {
        lines.push(format!(
            "{:width$}  {:7}  {:>6} ms  {}",
            named(line),
            word(line.outcome),
            line.duration_ms,
            line.told
        ));
        let remedies = line.remedy.iter();
        lines.extend(remedies.map(|remedy| format!("{:width$}  -> {remedy}", "")));
    }
    for timing in &report.timings {
        lines.push(format!(
            "a {} takes {} ms (median of {}; the slowest {} ms)",
            timing.of, timing.median_ms, timing.count, timing.slowest_ms
        ));
    }
    if let Some(ceiling) = &report.ceiling {
        lines.push(format!(
            "one table takes at most {} messages/s from one process: {}",
            ceiling.messages_per_second, ceiling.formula
        ));
    }
    lines.extend(report.left.iter().map(|left| format!("may be left: {left}")));
    lines.push(verdict(report));
    lines.join("\n")
}

fn verdict(report: &Report) -> String {
    let count = |outcome| {
        report
            .checks
            .iter()
            .filter(|line| line.outcome == outcome)
            .count()
    };
    format!(
        "{} passed, {} warned, {} failed, {} skipped",
        count(Outcome::Passed),
        count(Outcome::Warned),
        count(Outcome::Failed),
        count(Outcome::Skipped)
    )
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Warned => "WARNED",
        Outcome::Failed => "FAILED",
        Outcome::Skipped => "skipped",
    }
}
