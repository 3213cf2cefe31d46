//! `landfast maintain`: old snapshots let go, and files that nothing names any more deleted.

use std::process::ExitCode;

use clap::Args;
use landfast::app::Parts;
use landfast::error::Result;
use landfast::maintenance::{Settled, Totals, Upkeep, maintain, settle_letters, sum};
use serde_json::{Value, json};

use crate::output::{ConfigArgs, FAILED, OutputFormat, block_on_code, chosen_tables, failed, tell};

/// Arguments of `maintain`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example, once a day:\n  landfast maintain --config landfast.yaml\n\n\
    Runs beside `serve`. Deletes only files of landfast's own naming that nothing kept names: data, manifests and ledger \
    files that were written three days before the table's newest snapshot, metadata of a `storage` table after 24 hours \
    (never the newest ten), and waiting dead letters that no commit names. RUST_LOG=landfast=debug names every file.\n\n\
    Exit status: 0 done, 1 some table or file could not be, 2 wrong usage or configuration."
)]
pub struct MaintainArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// One table, as `namespace.table`. Default: every table of `tables`, and of the namespaces that `routes` name.
    #[arg(long)]
    table: Option<String>,
    /// Say what would go and how many bytes it has; change nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Maintains table by table, and goes on after a table that fails.
pub fn run(args: &MaintainArgs, output: OutputFormat) -> ExitCode {
    block_on_code(run_all(args, output))
}

async fn run_all(args: &MaintainArgs, output: OutputFormat) -> Result<u8> {
    let config = args.config.load_existing()?;
    let parts = Parts::from_config(&config).await?;
    let letters = parts.dead_letters.clone();
    let engine = parts.engine();
    let mut results = Vec::new();
    let mut code = 0;
    for (ident, loaded) in chosen_tables(&config, engine.catalog().as_ref(), args.table.as_deref()).await? {
        let upkeep = async {
            loaded?;
            let upkeep = maintain(&engine, &ident, args.dry_run).await?;
            let settled = settle_letters(&engine, &letters, &ident, args.dry_run).await?;
            Ok((upkeep, settled))
        };
        match upkeep.await {
            Ok((upkeep, settled)) => {
                if upkeep.failed > 0 {
                    code = FAILED;
                }
                if output == OutputFormat::Text {
                    tell(&text(&upkeep, &settled))?;
                }
                let mut result = json!(upkeep);
                if let Some(fields) = result.as_object_mut() {
                    fields.insert("dead_letters".to_owned(), json!(settled));
                }
                results.push(result);
            }
            Err(error) => {
                code = FAILED;
                let _code = failed(&error);
                results.push(json!({"table": ident.to_string(), "error": error.report()}));
            }
        }
    }
    engine.catalog().settle().await;
    if output == OutputFormat::Json {
        tell(&Value::Array(results).to_string())?;
    }
    Ok(code)
}

fn text(upkeep: &Upkeep, settled: &Settled) -> String {
    let would = if upkeep.dry_run { "would be " } else { "" };
    let mut lines = vec![format!("{}:", upkeep.table)];
    if upkeep.forbidden {
        lines.push("  gc.enabled is false: nothing is deleted".to_owned());
    }
    lines.push(format!(
        "  {} snapshots {would}let go, {} left",
        upkeep.expired_snapshots, upkeep.kept_snapshots
    ));
    lines.extend(totals(&upkeep.deleted, &format!("{would}deleted")));
    if upkeep.failed > 0 {
        lines.push(format!(
            "  {} files could not be deleted; the next run finds them again",
            upkeep.failed
        ));
    }
    if *settled != Settled::default() {
        lines.push(format!(
            "  {} waiting dead letters {would}confirmed, {} {would}deleted, {} left",
            settled.confirmed, settled.deleted, settled.waiting
        ));
    }
    lines.join("\n")
}

/// A line for each kind, and one for all.
pub fn totals(totals: &Totals, what: &str) -> Vec<String> {
    let mut lines: Vec<String> = totals
        .iter()
        .map(|(kind, total)| format!("  {} {} {what}, {} bytes", total.files, kind.name(), total.bytes))
        .collect();
    let all = sum(totals);
    lines.push(format!(
        "  {} files {what}, {} bytes in all",
        all.files, all.bytes
    ));
    lines
}
