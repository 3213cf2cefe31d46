//! `landfast replay`: dead letters back through the pipeline, once.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use clap::Args;
use landfast::app::{App, Parts};
use landfast::config::{parse_duration, table_ident};
use landfast::error::Result;
use landfast::replay::{Progress, Replayed, Selection, Tally, replay};
use serde_json::{Value, json};

use crate::output::{ConfigArgs, DEAD_LETTERED, FAILED, OutputFormat, block_on_code, failed, publish, tell};
use crate::progress::Replaying;

/// Arguments of `replay`.
#[derive(Debug, Args)]
#[command(after_help = "Examples, once the table or the configuration is mended:\n  \
    landfast replay --config landfast.yaml --dry-run\n  \
    landfast replay --config landfast.yaml --table shop.orders --since 2h\n\n\
    A record lands once, however often and by however many processes it is replayed. Letters whose records are all in the \
    table move from `confirmed` to `replayed`; the others stay. Exit status: 0 all of it landed, 3 some is no row yet, 1 \
    some could not be sent, 2 wrong usage or configuration.")]
pub struct ReplayArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only letters of this table, as `namespace.table`, and deliveries that no table wanted and this one would now.
    #[arg(long)]
    table: Option<String>,
    /// Only letters that were written this long ago or later, such as `2h` or `8d`, by the store's clock.
    #[arg(long, value_parser = parse_duration)]
    since: Option<Duration>,
    /// Say what would land now and what is no row yet; change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Land deliveries that are too old to prove new as well: look first that the table does not have them.
    #[arg(long)]
    too_old: bool,
}

/// Replays every letter that is chosen, and goes on after one that fails.
pub fn run(args: &ReplayArgs, output: OutputFormat, quiet: bool) -> ExitCode {
    block_on_code(run_all(args, output, quiet))
}

async fn run_all(args: &ReplayArgs, output: OutputFormat, quiet: bool) -> Result<u8> {
    let config = Arc::new(args.config.load_existing()?);
    let table = args.table.as_deref().map(table_ident).transpose()?;
    let now = Utc::now();
    let selection = Selection {
        table,
        since: args
            .since
            .and_then(|since| now.checked_sub_signed(chrono::TimeDelta::from_std(since).ok()?)),
        dry_run: args.dry_run,
        too_old: args.too_old,
    };
    if let Some(topic) = &config.dead_letter_topic {
        tracing::warn!(
            topic,
            "Dead letters go to a topic, where replay does not find them: it takes those that were too large for a message. For \
             the others make a subscription of the topic, and let `serve` or `pull` take it."
        );
    }
    let app = App::new(config.clone(), Parts::from_config(&config).await?);
    let progress = Arc::new(Progress::default());
    let shown = Replaying::start(progress.clone(), quiet || output == OutputFormat::Json);
    let replayed = replay(config, app.shared().clone(), &selection, &progress).await;
    drop(shown);
    let replayed = replayed?;
    app.catalog().settle().await;
    publish(&app).await;
    for error in &replayed.errors {
        let _code = failed(error);
    }
    match output {
        OutputFormat::Json => tell(&page(&replayed, args.dry_run).to_string())?,
        OutputFormat::Text => tell(&text(&replayed, args.dry_run))?,
    }
    let sum = replayed.sum();
    Ok(match (sum.failed, sum.rejected + sum.too_old) {
        (0, 0) => 0,
        (0, _) => DEAD_LETTERED,
        _ => FAILED,
    })
}

fn page(replayed: &Replayed, dry_run: bool) -> Value {
    let tables: Vec<Value> = replayed
        .tables
        .iter()
        .map(|(table, tally)| {
            let mut page = json!(tally);
            if let Some(fields) = page.as_object_mut() {
                fields.insert("table".to_owned(), json!(table));
                fields.insert("dry_run".to_owned(), json!(dry_run));
            }
            page
        })
        .collect();
    Value::Array(tables)
}

fn text(replayed: &Replayed, dry_run: bool) -> String {
    if replayed.tables.is_empty() {
        return "no dead letters to replay".to_owned();
    }
    let lines = replayed.tables.iter();
    lines
        .map(|(table, tally)| line(table, tally, dry_run))
        .collect::<Vec<_>>()
        .join("\n")
}

fn line(table: &str, tally: &Tally, dry_run: bool) -> String {
    let landed = if dry_run { "would land" } else { "landed" };
    let mut parts = vec![format!(
        "{} letters {landed} as {} rows",
        tally.landed, tally.rows
    )];
    if tally.already_there > 0 {
        parts.push(format!("{} were in the table already", tally.already_there));
    }
    if tally.rejected > 0 {
        let reasons: Vec<String> = tally
            .reasons
            .iter()
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        let reasons = match reasons.is_empty() {
            true => String::new(),
            false => format!(" ({})", reasons.join(", ")),
        };
        parts.push(format!("{} are no rows yet{reasons}", tally.rejected));
    }
    if tally.too_old > 0 {
        parts.push(format!(
            "{} are too old to prove new (--too-old lands them; look first that the table does not have them)",
            tally.too_old
        ));
    }
    if tally.failed > 0 {
        parts.push(format!("{} failed; run it again", tally.failed));
    }
    format!("{table}: {}", parts.join(", "))
}
