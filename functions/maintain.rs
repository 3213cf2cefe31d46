//! `landfast maintain`: old snapshots let go, and files that nothing names any more deleted.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use iceberg::TableIdent;
use landfast::app::Parts;
use landfast::clock::Clock;
use landfast::commit::Engine;
use landfast::config::BigQueryConfig;
use landfast::dead_letter::DeadLetters;
use landfast::error::{Error, Result};
use landfast::maintenance::{Settled, Totals, Upkeep, fence, settle_letters, sum, tell_unsettled};
use landfast::publish::{Reconciled, reconcile};
use landfast::route::Router;
use serde_json::{Value, json};

use crate::output::{ConfigArgs, FAILED, OutputFormat, block_on_code, chosen_tables, failed, tell};

const UNTOUCHED: &str = "The table is left as it is: its external table in BigQuery can be neither read nor moved, so nobody \
                         knows which files it still reads.";
const UNSWEPT: &str = "Old snapshots were let go, and nothing was deleted: the external table in BigQuery cannot be moved to \
                       what is left. The next run deletes.";
const UNSETTLED: &str = "Waiting dead letters were not all settled, since they cannot all be looked at; the next run settles \
                         them.";

/// Arguments of `maintain`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example, once a day:\n  landfast maintain --config landfast.yaml\n\n\
    Runs beside `serve`. Deletes only files of landfast's own naming that nothing kept names: data, manifests and ledger \
    files that were written three days before the table's newest snapshot, metadata of a `storage` table after 24 hours \
    (never the newest ten), and waiting dead letters that no commit names. A published table's external table in BigQuery is \
    moved to the newest commit first; where it can be neither read nor moved, the table is left as it is. RUST_LOG=landfast=debug names every file.\n\n\
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
    let clock = parts.clock.clone();
    let engine = parts.engine();
    let mut report = Report {
        output,
        results: Vec::new(),
        code: 0,
    };
    let (mut told, mut idents) = (Ok(()), Vec::new());
    for (ident, loaded) in chosen_tables(&config, engine.catalog().as_ref(), args.table.as_deref()).await? {
        idents.push(ident.clone());
        let table = config.tables.get(&ident);
        let publish = table.and_then(|table| table.publish.as_deref());
        let done = match loaded {
            Ok(()) => {
                let retention = Router::new(&config).settings(&ident).ledger.retention;
                one(
                    (&engine, &clock, &letters),
                    publish,
                    (&ident, retention),
                    args.dry_run,
                )
                .await
            }
            Err(error) => Err(error),
        };
        // A closed pipe stops no upkeep.
        told = told.and(report.take(&ident, done));
    }
    if args.table.is_none()
        && let Err(error) = tell_unsettled(&letters, &idents).await
    {
        report.failed(&error);
    }
    engine.catalog().settle().await;
    told?;
    report.end()
}

/// What was done to a table.
struct Done {
    upkeep: Upkeep,
    settled: Settled,
    pointer: Option<Reconciled>,
    /// Why nothing was deleted after all, or letters still wait.
    undone: Option<Error>,
}

async fn one(
    (engine, clock, letters): (&Engine, &Arc<dyn Clock>, &DeadLetters),
    publish: Option<&BigQueryConfig>,
    (ident, retention): (&TableIdent, Duration),
    dry_run: bool,
) -> Result<Done> {
    // Files that BigQuery may read are not deleted: where nobody knows what it reads, nothing is.
    let pointer = reconciled((engine, clock), publish, ident, dry_run)
        .await
        .map_err(|error| because(error, ident, UNTOUCHED))?;
    let fenced = fence(engine, ident, dry_run).await?;
    let moved = match fenced.has_moved() {
        true => reconciled((engine, clock), publish, ident, dry_run).await,
        false => Ok(None),
    };
    let (upkeep, unswept) = match moved {
        Ok(_) => (fenced.sweep().await, None),
        Err(error) => (fenced.leave(), Some(because(error, ident, UNSWEPT))),
    };
    let (settled, unsettled) = match settle_letters(engine, letters, ident, retention, dry_run).await {
        Ok(settled) => (settled, None),
        Err(error) => (Settled::default(), Some(because(error, ident, UNSETTLED))),
    };
    Ok(Done {
        upkeep,
        settled,
        pointer,
        undone: unswept.or(unsettled),
    })
}

/// What became of the tables so far, and the exit code.
struct Report {
    output: OutputFormat,
    results: Vec<Value>,
    code: u8,
}

impl Report {
    fn take(&mut self, ident: &TableIdent, done: Result<Done>) -> Result<()> {
        let done = match done {
            Ok(done) => done,
            Err(error) => {
                self.failed(&error);
                self.results
                    .push(json!({"table": ident.to_string(), "error": error.report()}));
                return Ok(());
            }
        };
        if done.upkeep.failed > 0 {
            self.code = FAILED;
        }
        let mut result = json!(done.upkeep);
        if let Some(fields) = result.as_object_mut() {
            fields.insert("dead_letters".to_owned(), json!(done.settled));
            let pointer = done.pointer.as_ref();
            fields.extend(pointer.map(|pointer| ("publish".to_owned(), json!(pointer))));
            let undone = done.undone.as_ref();
            fields.extend(undone.map(|error| ("error".to_owned(), json!(error.report()))));
        }
        self.results.push(result);
        if let Some(error) = &done.undone {
            self.failed(error);
        }
        match self.output {
            OutputFormat::Json => Ok(()),
            OutputFormat::Text => tell(&text(&done.upkeep, &done.settled, done.pointer.as_ref())),
        }
    }

    fn failed(&mut self, error: &Error) {
        self.code = FAILED;
        let _code = failed(error);
    }

    fn end(self) -> Result<u8> {
        if self.output == OutputFormat::Json {
            tell(&Value::Array(self.results).to_string())?;
        }
        Ok(self.code)
    }
}

/// Makes BigQuery's external table read the newest metadata, where there is one.
async fn reconciled(
    engine: (&Engine, &Arc<dyn Clock>),
    publish: Option<&BigQueryConfig>,
    ident: &TableIdent,
    dry_run: bool,
) -> Result<Option<Reconciled>> {
    match publish {
        Some(to) => reconcile(engine, to, ident, dry_run).await.map(Some),
        None => Ok(None),
    }
}

fn because(error: Error, ident: &TableIdent, message: &str) -> Error {
    Error::new(error.kind(), message)
        .with("table", ident)
        .with_source(error)
}

fn text(upkeep: &Upkeep, settled: &Settled, pointer: Option<&Reconciled>) -> String {
    let would = if upkeep.dry_run { "would be " } else { "" };
    let mut lines = vec![format!("{}:", upkeep.table)];
    if let Some(pointer) = pointer {
        let outcome = pointer.outcome.replace('_', " ");
        lines.push(format!("  external table {}: {outcome}", pointer.external_table));
    }
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
            "  {} waiting dead letters {would}confirmed, {} {would}deleted, {} left, {} left to be judged by hand",
            settled.confirmed, settled.deleted, settled.waiting, settled.forgotten
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
