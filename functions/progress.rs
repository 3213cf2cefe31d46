//! Progress for a person: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use landfast::load::{Input, Progress};
use landfast::replay;
use tokio::time::Instant;

use crate::output::say;

/// Shows how far one file is, until dropped.
pub struct Shown {
    bar: Option<ProgressBar>,
    ticker: tokio::task::JoinHandle<()>,
}

impl Shown {
    /// Begins. `place` is which file of how many it is.
    pub fn start(input: &Input, place: (usize, usize), progress: Arc<Progress>, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal() && !quiet;
        let name = match place {
            (_, 0 | 1) => input.name(),
            (number, count) => format!("[{number}/{count}] {}", input.name()),
        };
        let bar = terminal.then(|| bar(input, name.clone()));
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
        Self { bar, ticker }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.ticker.abort();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Shows how far a replay is, until dropped.
pub struct Replaying {
    bar: Option<ProgressBar>,
    ticker: tokio::task::JoinHandle<()>,
}

impl Replaying {
    /// Begins.
    pub fn start(progress: Arc<replay::Progress>, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal() && !quiet;
        let bar = terminal.then(|| ProgressBar::new(0));
        let template = "dead letters {wide_bar} {pos}/{len} objects {msg} ETA {eta}";
        if let (Some(bar), Ok(style)) = (&bar, ProgressStyle::with_template(template)) {
            bar.set_style(style);
        }
        let watched = bar.clone();
        let ticker = tokio::spawn(async move {
            let mut every = tokio::time::interval(Duration::from_millis(if terminal { 100 } else { 5000 }));
            every.tick().await;
            loop {
                every.tick().await;
                let (done, total, landed) = (progress.done(), progress.total(), progress.landed());
                if let Some(bar) = &watched {
                    bar.set_length(total);
                    bar.set_position(done);
                    bar.set_message(format!("{landed} landed"));
                } else if !quiet {
                    say(&format!(
                        "dead letters: {done} of {total} objects, {landed} landed"
                    ));
                }
            }
        });
        Self { bar, ticker }
    }
}

impl Drop for Replaying {
    fn drop(&mut self) {
        self.ticker.abort();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(input: &Input, name: String) -> ProgressBar {
    // A file that cannot be looked at has no length; loading it says why.
    let length = input.len().ok().flatten();
    let (bar, template) = match length {
        Some(length) => (
            ProgressBar::new(length),
            "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {msg} ETA {eta}",
        ),
        None => (
            ProgressBar::new_spinner(),
            "{prefix} {spinner} {bytes} {bytes_per_sec} {msg}",
        ),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.with_prefix(name)
}
