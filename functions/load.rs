//! `landfast load`: files become commits.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use iceberg::TableIdent;
use landfast::app::{App, Parts};
use landfast::config::{TableConfig, table_ident};
use landfast::error::{Error, Result};
use landfast::load::{Input, Loaded, NotLoaded, Progress, load, load_together, named};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::output::{
    ConfigArgs, DEAD_LETTERED, FAILED, OutputFormat, block_on_code, failed, publish, say, tell,
};
use crate::progress::Shown;

/// Why a file was not loaded that has nothing wrong with it.
const LEFT_OUT: &str = "Another file cannot be loaded, and they were to be loaded together.";

/// Arguments of `load`.
#[derive(Debug, Args)]
pub struct LoadArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The table, as `namespace.table`; made from `defaults` if the configuration does not name it.
    #[arg(long)]
    table: String,
    /// One commit for all files: all of them are loaded, or none.
    #[arg(long)]
    atomic: bool,
    /// Load files that are in the table already once more.
    #[arg(long)]
    again: bool,
    /// Files, folders (every file in them, not deeper), patterns, or `-` for standard input. One file is one commit.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Loads every file, one commit each, and goes on after a file that fails; or all of them together.
pub fn run(args: &LoadArgs, output: OutputFormat, quiet: bool) -> ExitCode {
    block_on_code(run_all(args, output, quiet))
}

async fn run_all(args: &LoadArgs, output: OutputFormat, quiet: bool) -> Result<u8> {
    let config = Arc::new(args.config.load()?);
    let ident = table_ident(&args.table)?;
    let named = named(&args.files);
    for name in &named.repeated {
        say(&format!("{name}: named before; it is loaded once."));
    }
    let table = config
        .tables
        .get(&ident)
        .cloned()
        .unwrap_or_else(|| config.defaults.to_table());
    let app = App::new(config.clone(), Parts::from_config(&config).await?);
    let command = Command {
        app: &app,
        ident: &ident,
        table: &table,
        again: args.again,
        quiet: quiet || output == OutputFormat::Json,
    };
    let mut report = Report {
        output,
        results: Vec::new(),
        code: 0,
    };
    let loaded = match args.atomic {
        true => command.together(named.inputs, &mut report).await,
        false => command.one_by_one(named.inputs, &mut report).await,
    };
    // Also where nobody reads the results: what was committed until then is.
    app.catalog().settle().await;
    publish(&app).await;
    loaded?;
    report.end()
}

/// What is loaded where.
struct Command<'a> {
    app: &'a App,
    ident: &'a TableIdent,
    table: &'a TableConfig,
    again: bool,
    quiet: bool,
}

impl Command<'_> {
    async fn one_by_one(
        &self,
        inputs: Vec<Result<Input, (String, Error)>>,
        report: &mut Report,
    ) -> Result<()> {
        let count = inputs.len();
        for (input, number) in inputs.into_iter().zip(1..) {
            let input = match input {
                Ok(input) => input,
                Err((name, error)) => {
                    report.failed(&name, &error);
                    continue;
                }
            };
            let started = Instant::now();
            let progress = Arc::new(Progress::default());
            let shown = Shown::start(&input, (number, count), progress.clone(), self.quiet);
            let loaded = load(
                self.app.shared(),
                self.ident,
                self.table,
                &input,
                self.again,
                progress,
            )
            .await;
            drop(shown);
            match loaded {
                Ok(loaded) => report.loaded(&input.name(), &loaded, started)?,
                Err(error) => report.failed(&input.name(), &error),
            }
        }
        Ok(())
    }

    async fn together(&self, inputs: Vec<Result<Input, (String, Error)>>, report: &mut Report) -> Result<()> {
        let names: Vec<String> = inputs
            .iter()
            .map(|input| match input {
                Ok(input) => input.name(),
                Err((name, _)) => name.clone(),
            })
            .collect();
        let unnamed: Vec<(usize, Error)> = inputs
            .iter()
            .enumerate()
            .filter_map(|(place, input)| Some((place, input.as_ref().err()?.1.clone())))
            .collect();
        if !unnamed.is_empty() {
            report.none_loaded(&names, unnamed);
            return Ok(());
        }
        let inputs: Vec<Input> = inputs.into_iter().filter_map(Result::ok).collect();
        let started = Instant::now();
        let mut shown = None;
        let begin = |place: usize| {
            let progress = Arc::new(Progress::default());
            // The one before it first.
            drop(shown.take());
            shown = inputs
                .get(place)
                .map(|input| Shown::start(input, (place + 1, inputs.len()), progress.clone(), self.quiet));
            progress
        };
        let together = load_together(
            self.app.shared(),
            self.ident,
            self.table,
            &inputs,
            self.again,
            begin,
        )
        .await;
        drop(shown);
        match together {
            Ok(loaded) => {
                for (name, loaded) in names.iter().zip(&loaded) {
                    report.loaded(name, loaded, started)?;
                }
            }
            Err(NotLoaded::Files(errors)) => report.none_loaded(&names, errors),
            Err(NotLoaded::Commit(error)) => return Err(error),
        }
        Ok(())
    }
}

/// What became of the files so far, and the exit code.
struct Report {
    output: OutputFormat,
    results: Vec<Value>,
    code: u8,
}

impl Report {
    /// A file is in the table. Of files loaded together, the time is that of all.
    fn loaded(&mut self, name: &str, loaded: &Loaded, started: Instant) -> Result<()> {
        let seconds = started.elapsed().as_secs_f64();
        if loaded.dead_letter_count > 0 && self.code == 0 {
            self.code = DEAD_LETTERED;
        }
        self.results.push(json!({
            "file": name,
            "id": loaded.id.to_string(),
            "rows": loaded.row_count,
            "dead_letters": loaded.dead_letter_count,
            "data_files": loaded.file_count,
            "bytes": loaded.byte_count,
            "snapshot_id": loaded.snapshot_id.map(|id| id.to_string()),
            "same_as": loaded.same_as,
            "duplicate": loaded.duplicate,
            "seconds": seconds,
        }));
        if self.output == OutputFormat::Json {
            return Ok(());
        }
        if let Some(other) = &loaded.same_as {
            return tell(&format!(
                "{name}: the same name and bytes as {other}, loaded once"
            ));
        }
        if loaded.duplicate {
            return tell(&format!(
                "{name}: its name and bytes are in the table already; nothing was added (--again adds them once more)"
            ));
        }
        let letters = match loaded.dead_letter_count {
            0 => String::new(),
            count => format!(", {count} dead-lettered"),
        };
        tell(&format!(
            "{name}: {} rows{letters}, {} data files of {:.1} MB, {seconds:.1} s, {:.0} rows/s",
            loaded.row_count,
            loaded.file_count,
            loaded.byte_count as f64 / 1e6,
            loaded.row_count as f64 / seconds.max(1e-9)
        ))
    }

    fn failed(&mut self, name: &str, error: &Error) {
        self.code = FAILED;
        let _code = failed(error);
        self.results.push(json!({"file": name, "error": error.report()}));
    }

    /// Files of one commit that is not made.
    fn none_loaded(&mut self, names: &[String], errors: Vec<(usize, Error)>) {
        let mut errors = errors.into_iter().peekable();
        let mut left_out = 0;
        for (place, name) in names.iter().enumerate() {
            match errors.next_if(|(failed, _)| *failed == place) {
                Some((_, error)) => self.failed(name, &error),
                None => {
                    left_out += 1;
                    self.results.push(json!({"file": name, "error": LEFT_OUT}));
                }
            }
        }
        if left_out > 0 {
            say(&format!("landfast: {left_out} files were left out. {LEFT_OUT}"));
        }
    }

    fn end(self) -> Result<u8> {
        if self.output == OutputFormat::Json {
            tell(&Value::Array(self.results).to_string())?;
        }
        Ok(self.code)
    }
}
