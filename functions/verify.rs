//! `landfast verify`: no delivery twice, no file twice, none missing.

use std::process::ExitCode;

use clap::Args;
use landfast::app::Parts;
use landfast::error::Result;
use landfast::maintenance::{Cost, Verdict, verify};
use serde_json::{Value, json};

use crate::maintain::totals;
use crate::output::{ConfigArgs, FAILED, FOUND, OutputFormat, block_on_code, chosen_tables, failed, tell};

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  landfast verify --config landfast.yaml --table shop.orders\n\n\
    Reads every manifest and the whole ledger, and asks for every data file. Says what it could not see, and what the \
    next commit costs, which stays the same over a table's life. Exit status: 0 whole, 3 something is wrong, \
    1 it could not be found out, 2 wrong usage or configuration."
)]
pub struct VerifyArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// One table, as `namespace.table`. Default: every table of `tables`, and of the namespaces that `routes` name.
    #[arg(long)]
    table: Option<String>,
}

/// Verifies table by table, and goes on after a table that fails.
pub fn run(args: &VerifyArgs, output: OutputFormat) -> ExitCode {
    block_on_code(run_all(args, output))
}

async fn run_all(args: &VerifyArgs, output: OutputFormat) -> Result<u8> {
    let config = args.config.load_existing()?;
    let engine = Parts::from_config(&config).await?.engine();
    let mut results = Vec::new();
    let mut code = 0;
    for (ident, loaded) in chosen_tables(&config, engine.catalog().as_ref(), args.table.as_deref()).await? {
        let verifying = async {
            loaded?;
            verify(&engine, &ident).await
        };
        match verifying.await {
            Ok(verdict) => {
                if !verdict.findings.is_empty() && code == 0 {
                    code = FOUND;
                }
                if output == OutputFormat::Text {
                    tell(&text(&verdict))?;
                }
                results.push(json!(verdict));
            }
            Err(error) => {
                code = FAILED;
                let _code = failed(&error);
                results.push(json!({"table": ident.to_string(), "error": error.report()}));
            }
        }
    }
    if output == OutputFormat::Json {
        tell(&Value::Array(results).to_string())?;
    }
    Ok(code)
}

fn text(verdict: &Verdict) -> String {
    let found = match verdict.findings.len() {
        0 => "whole".to_owned(),
        count => format!("{count} findings"),
    };
    let mut lines = vec![format!("{}: {found}", verdict.table)];
    lines.extend(
        verdict
            .findings
            .iter()
            .map(|finding| format!("  WRONG: {finding}")),
    );
    lines.push(format!(
        "  {} snapshots, {} manifests, {} data files, {} deliveries in the ledger",
        verdict.snapshots, verdict.manifests, verdict.data_files, verdict.deliveries
    ));
    lines.push(format!("  {}", cost(&verdict.cost)));
    lines.extend(totals(&verdict.orphans, "named by nothing"));
    lines.extend(
        verdict
            .unseen
            .iter()
            .map(|unseen| format!("  not seen: {unseen}")),
    );
    lines.join("\n")
}

fn cost(cost: &Cost) -> String {
    let bytes = match cost.metadata_bytes {
        Some(bytes) => format!("{bytes} bytes of metadata"),
        None => "metadata of unknown size".to_owned(),
    };
    format!(
        "a commit costs: {bytes} with {} older states in its log, a list of {} manifests, a ledger of {} segments",
        cost.metadata_log, cost.listed_manifests, cost.ledger_segments
    )
}
