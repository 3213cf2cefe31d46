//! Telemetry: logs for people and for Cloud Logging, metrics for Prometheus, traces for OpenTelemetry.
//!
//! No payload, row value, token or header is ever logged (invariant 7). All of it is the process's, as its metrics are: what
//! tells something needs no handle.

mod logs;
mod otlp;
mod project;
mod span;
mod trace;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

pub use self::logs::{LogFormat, start_logs};
pub use self::otlp::{flush_traces, start_traces};
pub use self::span::{COMMIT, DECODE, PUBLISH, Span, TRIGGER};
pub use self::trace::{Trace, within};
use crate::config::Platform;
use crate::error::{Error, ErrorKind, Result};
use crate::version;

/// 1, of the process that runs. Gauge; labels `version`, `commit`; on Cloud Run `service` and `revision`, elsewhere empty.
pub const BUILD_INFO: &str = "landfast_build_info";
/// Rows in committed snapshots. Counter; label `table`.
pub const RECORDS_WRITTEN: &str = "iceberg_records_written_total";
/// Commits that landed. Counter; label `table`.
pub const BATCHES_COMMITTED: &str = "iceberg_batches_committed_total";
/// Bytes of data files in committed snapshots. Counter; label `table`.
pub const BYTES_WRITTEN: &str = "iceberg_bytes_written_total";
/// From the batch's hand-over to its commit, all attempts, in seconds. Histogram; label `table`.
pub const COMMIT_DURATION: &str = "iceberg_commit_duration_seconds";
/// Rows of one commit. Histogram; label `table`.
pub const RECORDS_PER_BATCH: &str = "iceberg_records_per_batch";
/// Deliveries by outcome: `landed`, `duplicate`, `dead_letter`, `nacked`. Counter; label `outcome`.
pub const DELIVERIES: &str = "landfast_deliveries_total";
/// Requests refused before a delivery was taken in. Counter; label `reason`, such as `full` or `not_an_event`.
pub const REFUSALS: &str = "landfast_refused_requests_total";
/// Acknowledgements that a subscription with exactly-once delivery did not confirm: their messages may come again.
/// Counter; label `subscription`.
pub const UNCONFIRMED_ACKS: &str = "landfast_unconfirmed_acks_total";
/// Dead letters written. Counter; labels `table`, `reason`.
pub const DEAD_LETTERS: &str = "landfast_dead_letters_total";
/// Messages of dead letters that do not hold all of their letter. Counter; label `what`: `attributes`, `data`.
pub const DEAD_LETTERS_CUT: &str = "landfast_dead_letters_cut_total";
/// Messages that a policy of Pub/Sub has forwarded as dead letters. Counter.
pub const FORWARDED: &str = "landfast_forwarded_messages_total";
/// Messages without the attribute that their source tells repetitions by. Counter; label `source`.
pub const NO_DEDUPE_ATTRIBUTE: &str = "landfast_no_dedupe_attribute_total";
/// Copies of deliveries that were dropped: the first had `landed`, or was still `in_flight`. Counter; labels `table`,
/// `reason`.
pub const DUPLICATES: &str = "landfast_duplicates_total";
/// Attempts that did not commit. Counter; labels `table`, `kind` (`conflict`, `outcome_unknown`).
pub const COMMIT_RETRIES: &str = "landfast_commit_retries_total";
/// Snapshots let go before their time, as the metadata neared the largest that the catalog takes. Counter; label `table`.
pub const SNAPSHOTS_PRESSED: &str = "landfast_snapshots_pressed_out_total";
/// Batches given up: their deliveries come again. Counter; labels `table`, `reason`.
pub const BATCHES_ABANDONED: &str = "landfast_batches_abandoned_total";
/// Fields of the input that the table has no column for. Counter; labels `table`, `field` (at most 100, the rest `*`).
pub const UNKNOWN_FIELDS: &str = "landfast_unknown_fields_total";
/// Requests that a bucket's server did not do this time; they are sent again for 10 s. Counter; label `status`.
pub const STORE_FAILURES: &str = "landfast_store_failures_total";
/// When the last commit landed, in seconds since the Unix epoch. Gauge; label `table`.
pub const LAST_COMMIT: &str = "landfast_last_commit_timestamp_seconds";
/// From publish time to committed, per delivery, in seconds. Histogram; label `table`.
pub const FRESHNESS: &str = "landfast_freshness_seconds";
/// Steps of publishing, by outcome: `moved`, `created`, `current` (nothing to do), `young` (another moved it a moment ago),
/// `no_table`; `columns_refused`, `conflict`, `rate_limited`, `unavailable`, `refused` (all tried again). Counter; labels `table`, `outcome`.
pub const PUBLISHES: &str = "landfast_publishes_total";
/// One step of publishing, in seconds. Histogram; label `table`.
pub const PUBLISH_DURATION: &str = "landfast_publish_duration_seconds";
/// How long the oldest commit waits that BigQuery does not show, in seconds; 0 when none waits. Gauge; label `table`.
pub const UNPUBLISHED: &str = "landfast_unpublished_seconds";
/// From publish time to visible in BigQuery, of the oldest message of each publish, in seconds. Histogram; label `table`.
pub const VISIBLE: &str = "landfast_visible_seconds";
/// Files that landed from a landing folder. Counter; label `table`.
pub const LANDED_FILES: &str = "landfast_landed_files_total";
/// Bytes of those files, as they are stored. Counter; label `table`.
pub const LANDED_BYTES: &str = "landfast_landed_bytes_total";
/// Events of objects in landing buckets, by what became of them: `read` (its delivery is counted besides), `loaded`,
/// `letter`, `refused` (it comes again), and what needs no landing: `gone`, `empty`, `marker`, `deleted`, `archived`,
/// `metadata_updated`, `copy` of what was moved, `landed_before`; besides, of what landed, `put_away` or `stays`. Counter; label `outcome`.
pub const OBJECT_EVENTS: &str = "landfast_object_events_total";
/// Files of a landing folder that were moved to the dead letters. Counter; labels `table`, `reason`.
pub const REFUSED_FILES: &str = "landfast_refused_files_total";
/// Files of a landing folder that have to be taken or moved again. Counter; label `reason`, such as `unavailable`.
pub const FILE_RETRIES: &str = "landfast_file_retries_total";
/// Files in the landing folders at the last look. Gauge.
pub const WAITING_FILES: &str = "landfast_waiting_files";
/// Spans that were to be sent and were not: the queue was full (`queue_full`), the collector gave no good answer
/// (`not_sent`), or took only others (`refused`). Counter; label `reason`.
pub const DROPPED_SPANS: &str = "landfast_dropped_spans_total";
/// Bytes held between request and answer. Gauge.
pub const HELD_BYTES: &str = "landfast_held_bytes";
/// Requests held between request and answer. Gauge.
pub const HELD_REQUESTS: &str = "landfast_held_requests";

const TELL_INTERVAL: Duration = Duration::from_secs(60);
const MAX_TOLD: usize = 10_000;

/// Field names per table that get a metric of their own; the rest are counted as `*`.
const MAX_FIELD_LABELS: usize = 100;

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

/// Counts a commit that landed, of whatever it came by. `elapsed` is from the hand-over, all attempts.
pub fn count_commit(table: &str, rows: u64, bytes: u64, elapsed: Duration, at: DateTime<Utc>) {
    let table = table.to_owned();
    metrics::counter!(RECORDS_WRITTEN, "table" => table.clone()).increment(rows);
    metrics::counter!(BATCHES_COMMITTED, "table" => table.clone()).increment(1);
    metrics::counter!(BYTES_WRITTEN, "table" => table.clone()).increment(bytes);
    metrics::histogram!(COMMIT_DURATION, "table" => table.clone()).record(elapsed.as_secs_f64());
    metrics::histogram!(RECORDS_PER_BATCH, "table" => table.clone()).record(rows as f64);
    metrics::gauge!(LAST_COMMIT, "table" => table).set(at.timestamp() as f64);
}

/// Counts the fields of the input that tables have no column for.
#[derive(Debug, Default)]
pub struct UnknownFields(Mutex<HashMap<String, BTreeSet<String>>>);

impl UnknownFields {
    /// Counts a table's by their names, the first 100 of the table; as `*` those after, since names come from outside.
    pub fn count(&self, table: &str, fields: BTreeMap<String, u64>) {
        for (field, count) in fields {
            let labels = [("table", table.to_owned()), ("field", self.label(table, field))];
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
    let known = |value: Option<&str>| value.unwrap_or_default().to_owned();
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
    fn what_a_sender_chose_is_shown_on_one_line_and_in_short() {
        assert_eq!(shown("orders/größe 7"), "orders/größe 7");
        assert_eq!(shown("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
        let long = shown(&"ä".repeat(10_000));
        assert_eq!((long.chars().count(), long.ends_with('…')), (257, true));
    }
}
