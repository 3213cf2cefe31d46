//! Telemetry: logs for people and for Cloud Logging, metrics for Prometheus, traces for OpenTelemetry.
//!
//! No payload, row value, token or header is ever logged (invariant 7). All of it is the process's, as its metrics are: what
//! tells something needs no handle.

mod logs;
mod metric;
mod otlp;
mod project;
mod span;
mod tables;
mod trace;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

pub use self::logs::{LogFormat, start_logs};
use self::metric::MAX_FIELD_LABELS;
pub use self::metric::{
    BATCHES_ABANDONED, BATCHES_COMMITTED, BUILD_INFO, BYTES_WRITTEN, COMMIT_DURATION, COMMIT_RETRIES,
    DEAD_LETTERS, DEAD_LETTERS_CUT, DELIVERIES, DROPPED_SPANS, DUPLICATES, FILE_RETRIES, FORWARDED,
    FRESHNESS, HELD_BYTES, HELD_REQUESTS, Kind, LABELS, LANDED_BYTES, LANDED_FILES, LAST_COMMIT, METRICS,
    Metric, NO_DEDUPE_ATTRIBUTE, OBJECT_EVENTS, PUBLISH_DURATION, PUBLISHES, RECORDS_PER_BATCH,
    RECORDS_WRITTEN, REFUSALS, REFUSED_FILES, SNAPSHOTS_PRESSED, STORE_FAILURES, UNCONFIRMED_ACKS,
    UNKNOWN_FIELDS, UNPUBLISHED, VISIBLE, WAITING_FILES,
};
pub use self::otlp::{flush_traces, start_traces};
pub use self::span::{COMMIT, DECODE, PUBLISH, Span, TRIGGER};
pub use self::tables::{
    Failure, Landed, Letters, MAX_COMMITS, Sums, Table, TableState, Tables, count_abandoned, count_commit,
    count_duplicates, count_letter, count_refused_file, count_retry, read_tables, table_not_loaded,
    table_not_opened, table_opened,
};
pub use self::trace::{Trace, within};
use crate::config::Platform;
use crate::error::{Error, ErrorKind, Result};
use crate::version;

const TELL_INTERVAL: Duration = Duration::from_secs(60);
const MAX_TOLD: usize = 10_000;

/// Buckets of durations, in seconds.
const SECONDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];
/// Buckets of row counts.
const ROWS: [f64; 11] = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5];

/// Lets a repeated message through at most once a minute per key, and tells how many it held back.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<HashMap<String, (Instant, u64)>>);

impl Seldom {
    /// How often this happened since it was last told, this time included; `None` while it is too soon to tell again.
    pub fn tell(&self, key: &str) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some((last, count)) = told.get_mut(key) {
            *count = count.saturating_add(1);
            if now.duration_since(*last) < TELL_INTERVAL {
                return None;
            }
            *last = now;
            return Some(std::mem::take(count));
        }
        // Keys are made of configured names and our own words; the bound is for names that come from outside.
        if told.len() < MAX_TOLD {
            told.insert(key.to_owned(), (now, 0));
        }
        Some(1)
    }
}

/// A text that a sender chose, as a log line shows it: no longer than a name is, and without control characters.
pub fn shown(text: &str) -> String {
    const MOST_CHARS: usize = 256;
    let mut letters = text.chars();
    let mut shown = String::new();
    for letter in letters.by_ref().take(MOST_CHARS) {
        match letter.is_control() {
            true => shown.extend(letter.escape_default()),
            false => shown.push(letter),
        }
    }
    if letters.next().is_some() {
        shown.push('…');
    }
    shown
}

/// Counts the fields of the input that tables have no column for.
#[derive(Debug, Default)]
pub struct UnknownFields(Mutex<HashMap<String, BTreeSet<String>>>);

impl UnknownFields {
    /// Counts a table's by their names, the first 100 of the table; as `*` those after, since names come from outside.
    pub fn count(&self, table: &str, fields: BTreeMap<String, u64>) {
        for (field, count) in fields {
            let field = label_value(&self.label(table, field));
            let labels = [("table", table.to_owned()), ("field", field)];
            metrics::counter!(UNKNOWN_FIELDS, &labels).increment(count);
        }
    }

    fn label(&self, table: &str, field: String) -> String {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = tables.entry(table.to_owned()).or_default();
        if labels.len() >= MAX_FIELD_LABELS && !labels.contains(&field) {
            return "*".to_owned();
        }
        labels.insert(field.clone());
        field
    }
}

/// The value of a label that is not of our own words, as the exporter (metrics-exporter-prometheus 0.18) has to be given it: it takes two backslashes for one
/// that is escaped, and one before a quote for none, so that other names would be the same on the page.
fn label_value(text: &str) -> String {
    text.replace('\\', "\\\\")
}

/// Counts deliveries that were answered, by what became of them.
pub fn count_deliveries(outcome: &'static str, count: u64) {
    metrics::counter!(DELIVERIES, "outcome" => outcome).increment(count);
}

/// Installs the process's metrics recorder, and tells it what runs; the handle renders Prometheus text.
///
/// # Errors
/// [`ErrorKind::Config`] when another recorder is installed.
pub fn start_metrics(platform: &Platform) -> Result<PrometheusHandle> {
    let failed = |error: metrics_exporter_prometheus::BuildError| {
        Error::new(ErrorKind::Config, "The metrics recorder cannot be installed.").with_source(error)
    };
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(RECORDS_PER_BATCH.to_owned()), &ROWS)
        .map_err(failed)?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .map_err(failed)?
        .upkeep_timeout(Duration::from_secs(5))
        .install_recorder()
        .map_err(failed)?;
    metric::describe();
    let known = |value: Option<&str>| label_value(value.unwrap_or_default());
    let labels = [
        ("version", version::VERSION.to_owned()),
        ("commit", known(version::COMMIT)),
        ("service", known(platform.service.as_deref())),
        ("revision", known(platform.revision.as_deref())),
    ];
    metrics::gauge!(BUILD_INFO, &labels).set(1.0);
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_other_names_are_other_labels() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let fields = ["\\", "\\\\", "\\\"", "\"", "\n", "\\n", "\\\n"];
        let counted = (1..).zip(fields).map(|(count, field)| (field.to_owned(), count));
        metrics::with_local_recorder(&recorder, || {
            UnknownFields::default().count("t", counted.collect())
        });
        let page = recorder.handle().render();
        for (count, field) in (1..).zip(fields) {
            let escaped = field
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let line = format!("{UNKNOWN_FIELDS}{{table=\"t\",field=\"{escaped}\"}} {count}\n");
            assert!(page.contains(&line), "{line}: {page}");
        }
    }

    #[test]
    fn what_a_sender_chose_is_shown_on_one_line_and_in_short() {
        assert_eq!(shown("orders/größe 7"), "orders/größe 7");
        assert_eq!(shown("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
        let long = shown(&"ä".repeat(10_000));
        assert_eq!((long.chars().count(), long.ends_with('…')), (257, true));
    }
}
