//! `landfast ledger`: what a table remembers of its deliveries.

use std::collections::HashSet;
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use landfast::app::Parts;
use landfast::commit::Engine;
use landfast::config::table_ident;
use landfast::error::{Error, ErrorKind, Result};
use landfast::ledger::Forgetting;
use landfast::maintenance::{LedgerPage, Repair, Repaired, forget, repair, show};
use landfast::trigger::DeliveryId;
use serde_json::json;

use crate::output::{ConfigArgs, FAILED, OutputFormat, block_on_code, tell};

/// What to do with a table's ledger.
#[derive(Debug, Clone, Subcommand)]
pub enum LedgerCommand {
    /// Shows what a table remembers.
    #[command(after_help = "Example:\n  landfast ledger show --table shop.orders\n\n\
        Exit status: 0 shown, 1 there is no such table or its ledger cannot be read, 2 wrong usage or configuration.")]
    Show(Which),
    /// Forgets deliveries, so that they land again when they are delivered again. Their rows stay.
    #[command(
        after_help = "Examples:\n  landfast ledger forget --table shop.orders --since 2026-11-21T09:00:00Z --yes\n  \
        landfast ledger forget --table shop.orders --delivery projects/p/subscriptions/orders-push/1234567890 --yes\n\n\
        Without --yes it says how many it would forget, and changes nothing. Exit status: 0 forgotten, or there is nothing \
        to forget, 1 --yes is missing or it failed, 2 wrong usage or configuration."
    )]
    Forget {
        #[command(flatten)]
        which: Which,
        /// Forget messages that were published at this time (RFC 3339) or later. Files and requests want --delivery.
        #[arg(long, value_name = "TIME", required_unless_present = "delivery")]
        since: Option<DateTime<Utc>>,
        /// Forget these deliveries: as logs and dead letters show them (`source/message-id`, `file/hash`),
        /// requests as `idempotency-key/KEY`, or 32 hex digits.
        #[arg(long, value_name = "ID", num_args = 1..)]
        delivery: Vec<String>,
        /// Do it.
        #[arg(long)]
        yes: bool,
    },
    /// Mends a ledger that is gone or damaged with the newest that is left.
    #[command(after_help = "Example:\n  landfast ledger repair --table shop.orders\n\n\
        Repairs at once what can be repaired without loss; else it says what would be lost, and wants --yes. Exit status: 0 \
        whole, 1 --yes is missing or it failed, 2 wrong usage or configuration.")]
    Repair {
        #[command(flatten)]
        which: Which,
        /// Do it although something is lost.
        #[arg(long)]
        yes: bool,
    },
}

/// Which table.
#[derive(Debug, Clone, Args)]
pub struct Which {
    #[command(flatten)]
    config: ConfigArgs,
    /// The table, as `namespace.table`.
    #[arg(long)]
    table: String,
}

impl Which {
    async fn open(&self) -> Result<(Engine, iceberg::TableIdent)> {
        let config = self.config.load_existing()?;
        let ident = table_ident(&self.table)?;
        Ok((Parts::from_config(&config).await?.engine(), ident))
    }
}

/// Runs the command.
pub fn run(command: &LedgerCommand, output: OutputFormat) -> ExitCode {
    block_on_code(async {
        match command {
            LedgerCommand::Show(which) => run_show(which, output).await,
            LedgerCommand::Forget {
                which,
                since,
                delivery,
                yes,
            } => run_forget(which, *since, delivery, *yes, output).await,
            LedgerCommand::Repair { which, yes } => run_repair(which, *yes, output).await,
        }
    })
}

async fn run_show(which: &Which, output: OutputFormat) -> Result<u8> {
    let (engine, ident) = which.open().await?;
    let page = show(&engine, &ident).await?;
    tell(&match output {
        OutputFormat::Json => json!(page).to_string(),
        OutputFormat::Text => text(&page),
    })?;
    Ok(0)
}

async fn run_forget(
    which: &Which,
    since: Option<DateTime<Utc>>,
    delivery: &[String],
    yes: bool,
    output: OutputFormat,
) -> Result<u8> {
    let deliveries = Forgetting {
        since: since.map(|since| since.timestamp()),
        ids: ids(delivery)?,
    };
    let (engine, ident) = which.open().await?;
    let forgotten = forget(&engine, &ident, &deliveries, !yes).await?;
    engine.catalog().settle().await;
    let done = match (yes, forgotten.forgotten) {
        (_, 0) => "nothing to forget",
        (true, _) => "forgotten; they land again when they are delivered again",
        (false, _) => "would be forgotten; nothing was changed, --yes does it",
    };
    tell(&match output {
        OutputFormat::Json => json!(forgotten).to_string(),
        OutputFormat::Text => format!(
            "{}: {} deliveries {done}; {} remembered",
            forgotten.table, forgotten.forgotten, forgotten.remembered
        ),
    })?;
    Ok(if yes || forgotten.forgotten == 0 {
        0
    } else {
        FAILED
    })
}

async fn run_repair(which: &Which, yes: bool, output: OutputFormat) -> Result<u8> {
    let (engine, ident) = which.open().await?;
    let repaired = repair(&engine, &ident, yes).await?;
    engine.catalog().settle().await;
    tell(&match output {
        OutputFormat::Json => json!(repaired).to_string(),
        OutputFormat::Text => repair_text(&repaired),
    })?;
    Ok(match repaired.result {
        Repair::NeedsConsent => FAILED,
        Repair::Done | Repair::NotNeeded => 0,
    })
}

/// Hashes, or what logs show.
fn ids(shown: &[String]) -> Result<HashSet<u128>> {
    let mut ids = HashSet::new();
    for text in shown {
        let is_hash = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u128::from_str_radix(text, 16) {
            Ok(id) if is_hash => {
                ids.insert(id);
            }
            _ if text.contains('/') => ids.extend(DeliveryId::hashes_of(text)),
            _ => {
                let message = "A delivery is `source/message-id`, `file/hash`, `idempotency-key/KEY`, or the 32 hex \
                               digits of its hash.";
                return Err(Error::new(ErrorKind::Config, message).with("delivery", text));
            }
        }
    }
    Ok(ids)
}

fn text(page: &LedgerPage) -> String {
    let none = || "none".to_owned();
    let mut lines = vec![
        format!("table      {}", page.table),
        format!("pointer    {}", page.pointer.clone().unwrap_or_else(none)),
        format!("sequence   {}", page.sequence),
        format!("format     {}", page.format_version),
        format!(
            "entries    {}, {} of them inline",
            page.entries, page.inline_entries
        ),
    ];
    for (space, of_space) in &page.spaces {
        lines.push(format!(
            "  {space:9}{} in {} segments of {} bytes",
            of_space.entries, of_space.segments, of_space.bytes
        ));
    }
    lines.push(format!("floor      {}", page.floor.clone().unwrap_or_else(none)));
    lines.push(format!("newest     {}", page.newest.clone().unwrap_or_else(none)));
    lines.push(format!(
        "segments   {} of {} bytes",
        page.segments, page.segment_bytes
    ));
    lines.join("\n")
}

fn repair_text(repaired: &Repaired) -> String {
    let result = match repaired.result {
        Repair::NotNeeded => "whole; nothing was changed",
        Repair::Done => "repaired",
        Repair::NeedsConsent => "can be repaired with a loss; nothing was changed, --yes does it",
    };
    let mut lines = vec![format!("{}: {result}", repaired.table)];
    if let Some(head) = &repaired.head {
        lines.push(format!("  head: {head}, {} deliveries", repaired.entries));
    }
    lines.extend(repaired.lost.iter().map(|lost| format!("  LOST: {lost}")));
    lines.join("\n")
}
