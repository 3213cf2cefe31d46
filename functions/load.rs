//! `landfast load`: files become commits.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use landfast::app::{App, Parts};
use landfast::config::{TableConfig, table_ident};
use landfast::error::{Error, ErrorKind, Result};
use landfast::load::{Input, Loaded, Progress, load};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::output::{ConfigArgs, DEAD_LETTERED, FAILED, OutputFormat, block_on_code, failed, say, tell};

/// Arguments of `load`.
#[derive(Debug, Args)]
pub struct LoadArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The table, as `namespace.table`; made from `defaults` if the configuration does not name it.
    #[arg(long)]
    table: String,
    /// Files, folders (every file in them, not deeper), or `-` for standard input. One file is one commit.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Loads every file, one commit each, and goes on after a file that fails.
pub fn run(args: &LoadArgs, output: OutputFormat, quiet: bool) -> ExitCode {
    block_on_code(run_all(args, output, quiet))
}

async fn run_all(args: &LoadArgs, output: OutputFormat, quiet: bool) -> Result<u8> {
    let config = Arc::new(args.config.load()?);
    let ident = table_ident(&args.table)?;
    let inputs = inputs(&args.files)?;
    let table = config
        .tables
        .get(&ident)
        .cloned()
        .unwrap_or_else(|| config.defaults.to_table());
    let app = App::new(config.clone(), Parts::from_config(&config).await?);
    let mut results = Vec::new();
    let mut code = 0;
    for input in &inputs {
        let started = Instant::now();
        match one(&app, &ident, &table, input, quiet || output == OutputFormat::Json).await {
            Ok(loaded) => {
                if loaded.dead_letter_count > 0 && code == 0 {
                    code = DEAD_LETTERED;
                }
                report(&mut results, output, input, &loaded, started.elapsed())?;
            }
            Err(error) => {
                code = FAILED;
                let _code = failed(&error);
                results.push(json!({"file": input.name(), "error": error.report()}));
            }
        }
    }
    app.catalog().settle().await;
    if output == OutputFormat::Json {
        tell(&Value::Array(results).to_string())?;
    }
    Ok(code)
}

async fn one(
    app: &App,
    ident: &iceberg::TableIdent,
    table: &TableConfig,
    input: &Input,
    quiet: bool,
) -> Result<Loaded> {
    let progress = Arc::new(Progress::default());
    let shown = Shown::start(input, progress.clone(), quiet)?;
    let loaded = load(app.shared(), ident, table, input, progress).await;
    shown.end();
    loaded
}

fn report(
    results: &mut Vec<Value>,
    output: OutputFormat,
    input: &Input,
    loaded: &Loaded,
    took: Duration,
) -> Result<()> {
    let seconds = took.as_secs_f64();
    results.push(json!({
        "file": input.name(),
        "id": loaded.id.to_string(),
        "rows": loaded.row_count,
        "dead_letters": loaded.dead_letter_count,
        "data_files": loaded.file_count,
        "bytes": loaded.byte_count,
        "snapshot_id": loaded.snapshot_id.map(|id| id.to_string()),
        "seconds": seconds,
    }));
    if output == OutputFormat::Text {
        let letters = match loaded.dead_letter_count {
            0 => String::new(),
            count => format!(", {count} dead-lettered"),
        };
        return tell(&format!(
            "{}: {} rows{letters}, {} data files of {:.1} MB, {seconds:.1} s, {:.0} rows/s",
            input.name(),
            loaded.row_count,
            loaded.file_count,
            loaded.byte_count as f64 / 1e6,
            loaded.row_count as f64 / seconds.max(1e-9)
        ));
    }
    Ok(())
}

/// The files that the arguments name, in order; a folder stands for the files directly in it, by name.
fn inputs(files: &[PathBuf]) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for file in files {
        if file.as_os_str() == "-" {
            inputs.push(Input::Stdin);
        } else if file.is_dir() {
            inputs.extend(folder(file)?.into_iter().map(Input::File));
        } else {
            inputs.push(Input::File(file.clone()));
        }
    }
    Ok(inputs)
}

fn folder(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let unreadable = |error: std::io::Error| {
        Error::new(ErrorKind::Unavailable, "The folder cannot be read.")
            .with("folder", folder.display())
            .with_source(error)
    };
    let mut files = BTreeSet::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        // Of a link, what it leads to.
        if !hidden && entry.path().is_file() {
            files.insert(entry.path());
        }
    }
    Ok(files)
}

/// Progress for a person: a bar on a terminal, a line now and then elsewhere.
struct Shown {
    bar: Option<ProgressBar>,
    ticker: tokio::task::JoinHandle<()>,
}

impl Shown {
    fn start(input: &Input, progress: Arc<Progress>, quiet: bool) -> Result<Self> {
        let length = input.len()?;
        let terminal = std::io::stderr().is_terminal() && !quiet;
        let bar = terminal.then(|| bar(input, length));
        let name = input.name();
        let watched = bar.clone();
        let started = Instant::now();
        let ticker = tokio::spawn(async move {
            let mut every = tokio::time::interval(Duration::from_millis(if terminal { 100 } else { 5000 }));
            every.tick().await;
            loop {
                every.tick().await;
                let rows = progress.rows() as f64 / started.elapsed().as_secs_f64().max(1e-9);
                if let Some(bar) = &watched {
                    bar.set_position(progress.bytes());
                    bar.set_message(format!("{rows:.0} rows/s"));
                } else if !quiet {
                    let megabytes = progress.bytes() as f64 / 1e6;
                    say(&format!(
                        "{name}: {megabytes:.0} MB read, {} rows, {rows:.0} rows/s",
                        progress.rows()
                    ));
                }
            }
        });
        Ok(Self { bar, ticker })
    }

    fn end(self) {
        self.ticker.abort();
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(input: &Input, length: Option<u64>) -> ProgressBar {
    let template = "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {msg} ETA {eta}";
    let bar = match length {
        Some(length) => ProgressBar::new(length),
        None => ProgressBar::new_spinner(),
    };
    if length.is_some()
        && let Ok(style) = ProgressStyle::with_template(template)
    {
        bar.set_style(style);
    }
    bar.with_prefix(input.name())
}
