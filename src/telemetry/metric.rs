//! What `/metrics` tells: each metric is described once, here. From it come the constants, the page's HELP lines, and the
//! tables of docs/metrics.md.

/// How a metric moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, from the process's start.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
}

/// A metric as it is documented.
#[derive(Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// What it counts or measures in.
    pub unit: &'static str,
    /// Its labels, each of [`LABELS`].
    pub labels: &'static [&'static str],
    /// What it means, in Markdown as docs/metrics.md has it.
    pub meaning: &'static str,
}

impl Metric {
    /// What its HELP line says.
    pub fn help(&self) -> String {
        format!("{} ({})", plain(self.meaning), self.unit)
    }
}

/// Field names per table that get a metric of their own; the rest are counted as `*`.
pub(super) const MAX_FIELD_LABELS: usize = 100;

/// What bounds the values of each label, in Markdown: no sender can make a label's values without end.
pub static LABELS: &[(&str, &str)] = &[
    (
        "table",
        "the tables that the process feeds: those of `tables`, and those that `routes` make. A process feeds 1,000 from messages \
        and rows; the delivery of another table is refused and comes again. Files and large objects go beside that: as many \
        tables as the routes' `allow` and the folders' names come to. `unrouted` or `none` where there is no table",
    ),
    (
        "field",
        "100 names a table, in the order in which they come; the rest are `*`",
    ),
    ("version", "one a process, as `landfast version` tells it"),
    ("commit", "one a process"),
    ("service", "one a process, from Cloud Run"),
    ("revision", "one a process, from Cloud Run"),
    ("source", "the configuration's `sources`"),
    ("subscription", "the subscriptions that the process pulls"),
    ("status", "HTTP statuses that are tried again, and `no_answer`"),
    ("outcome", "the words that the metric's meaning has"),
    (
        "reason",
        "words of landfast's own: those of the metric's meaning, kinds of [dead letters](dead-letters.md#kinds-of-letters), or kinds of errors",
    ),
    ("kind", "the words that the metric's meaning has"),
    ("what", "the words that the metric's meaning has"),
];

macro_rules! described {
    ($($constant:ident = $name:literal, $kind:ident, $unit:literal, [$($label:literal),*], $meaning:literal;)+) => {
        $(
            #[doc = $meaning]
            pub const $constant: &str = $name;
        )+

        /// Every metric, in the order of docs/metrics.md.
        pub static METRICS: &[Metric] = &[$(
            Metric { name: $name, kind: Kind::$kind, unit: $unit, labels: &[$($label),*], meaning: $meaning },
        )+];
    };
}

described! {
    BUILD_INFO = "landfast_build_info", Gauge, "1", ["version", "commit", "service", "revision"],
        "1: what runs. Without a commit where the build did not know it ([image](image.md#which-one-runs)); service and revision as in \
        the [logs](logs.md#cloud-loggings-lines)";
    RECORDS_WRITTEN = "iceberg_records_written_total", Counter, "rows", ["table"],
        "rows in committed snapshots";
    BATCHES_COMMITTED = "iceberg_batches_committed_total", Counter, "commits", ["table"],
        "commits that landed";
    BYTES_WRITTEN = "iceberg_bytes_written_total", Counter, "bytes", ["table"],
        "bytes of data files in committed snapshots";
    COMMIT_DURATION = "iceberg_commit_duration_seconds", Histogram, "seconds", ["table"],
        "from the batch's hand-over to its commit, all attempts";
    RECORDS_PER_BATCH = "iceberg_records_per_batch", Histogram, "rows", ["table"],
        "rows of one commit";
    DELIVERIES = "landfast_deliveries_total", Counter, "deliveries", ["outcome"],
        "deliveries (a push, a pulled message, or a request with rows; one for several tables counts in each) that \
        `landed`, were a `duplicate`, became a `dead_letter`, were `nacked`, or were the message of a \
        [`check`](check.md)";
    REFUSALS = "landfast_refused_requests_total", Counter, "requests", ["reason"],
        "requests refused before a delivery was taken in: `full` (429), `not_an_event` (400), `too_large` (413), \
        `unsupported_format` (415), `shutting_down` (503); `unavailable` (503); `unauthenticated` (401) and `forbidden` \
        (403) by `push_auth` or `api_auth`, or on loopback by `Host` and `Origin`; for rows sent directly also \
        `table_name`, `empty_payload`, `compression`, `idempotency_key` (400), `not_found` (404)";
    UNCONFIRMED_ACKS = "landfast_unconfirmed_acks_total", Counter, "messages", ["subscription"],
        "acknowledgements that a pulled subscription with exactly-once delivery did not confirm; their messages may come \
        again, and land no second time";
    DEAD_LETTERS = "landfast_dead_letters_total", Counter, "letters", ["table", "reason"],
        "dead letters that count (are under `confirmed/`, or were published); a redelivery that finds its letter adds \
        nothing, one that publishes it again adds one";
    DEAD_LETTERS_CUT = "landfast_dead_letters_cut_total", Counter, "letters", ["what"],
        "dead letters that [do not fit into a message](dead-letters.md#a-topic): `attributes` were cut or left out; the \
        `data` are in an object instead";
    FORWARDED = "landfast_forwarded_messages_total", Counter, "messages", [],
        "messages that a dead-letter policy of Pub/Sub has forwarded";
    NO_DEDUPE_ATTRIBUTE = "landfast_no_dedupe_attribute_total", Counter, "messages", ["source"],
        "messages without the `dedupe_attribute` of their source; they are known by their message ids";
    DUPLICATES = "landfast_duplicates_total", Counter, "deliveries", ["table", "reason"],
        "copies of deliveries that were dropped: the first had `landed`, or was still `in_flight`";
    COMMIT_RETRIES = "landfast_commit_retries_total", Counter, "attempts", ["table", "kind"],
        "attempts that met a `conflict` or an `outcome_unknown`";
    SNAPSHOTS_PRESSED = "landfast_snapshots_pressed_out_total", Counter, "snapshots", ["table"],
        "snapshots that a commit let go before their time, because the table's metadata neared the largest that the \
        catalog takes ([BigLake](biglake.md#limits): 1 MB)";
    BATCHES_ABANDONED = "landfast_batches_abandoned_total", Counter, "batches", ["table", "reason"],
        "batches given up; their deliveries come again";
    UNKNOWN_FIELDS = "landfast_unknown_fields_total", Counter, "values", ["table", "field"],
        "fields of the input that the table has no column for; 100 names a table, the rest under `*`";
    STORE_FAILURES = "landfast_store_failures_total", Counter, "requests", ["status"],
        "requests that a bucket's server did not do this time: `429`, `500`, `503` …, or `no_answer`. They are sent again \
        for 10 s";
    LAST_COMMIT = "landfast_last_commit_timestamp_seconds", Gauge, "Unix seconds", ["table"],
        "when the last commit landed";
    FRESHNESS = "landfast_freshness_seconds", Histogram, "seconds", ["table"],
        "from publish time to committed, per delivery that landed rows: a message's publish time, an object's creation, \
        the arrival of rows sent directly. Copies and what is a dead letter alone do not count";
    PUBLISHES = "landfast_publishes_total", Counter, "steps", ["table", "outcome"],
        "steps of [publishing](bigquery.md): `moved`, `created`, `current` (nothing to do), `young` (another changed it a \
        moment ago), `no_table`; and what is tried again: `columns_refused` (then without them), `conflict`, \
        `rate_limited`, `unavailable`, `refused`";
    PUBLISH_DURATION = "landfast_publish_duration_seconds", Histogram, "seconds", ["table"],
        "one step of publishing";
    UNPUBLISHED = "landfast_unpublished_seconds", Gauge, "seconds", ["table"],
        "how long the oldest commit waits that BigQuery does not show; 0 when none waits. Told every second, also while \
        BigQuery is away";
    VISIBLE = "landfast_visible_seconds", Histogram, "seconds", ["table"],
        "from publish time, or an object's creation, to visible in BigQuery, of the oldest delivery of each publish; \
        files have no publish time";
    OBJECT_EVENTS = "landfast_object_events_total", Counter, "events", ["outcome"],
        "events of objects in landing buckets: `read` (small, counted as a delivery besides), `loaded` (a commit of its \
        own), `letter` (kept as a dead letter as a whole), `refused` (answered 503 or 429; it comes again), and what is \
        acknowledged without landing: `gone` (that generation is not there any more), `empty`, `marker` (an empty object \
        that ends with `/`), `deleted`, `archived`, `metadata_updated`, `copy` (what `after: move` made), \
        `landed_before` (gone, and in the table); besides, of what landed: `put_away` as `after` says, or `stays` where \
        that is not allowed";
    LANDED_FILES = "landfast_landed_files_total", Counter, "files", ["table"],
        "files of landing folders that landed";
    LANDED_BYTES = "landfast_landed_bytes_total", Counter, "bytes", ["table"],
        "bytes of those files, as they are stored";
    REFUSED_FILES = "landfast_refused_files_total", Counter, "files", ["table", "reason"],
        "files moved to the dead letters: `no_route`, or `rejected` for what is in them";
    FILE_RETRIES = "landfast_file_retries_total", Counter, "attempts", ["reason"],
        "attempts on a file that come again: it is `unreadable`, `changed` meanwhile, cannot be moved (`move`), the \
        process is `shutting_down`, or the error's kind, such as `unavailable` or `table_mismatch`";
    WAITING_FILES = "landfast_waiting_files", Gauge, "files", [],
        "files in the landing folders after the last look, those that cannot land now included";
    DROPPED_SPANS = "landfast_dropped_spans_total", Counter, "spans", ["reason"],
        "spans that were not sent to the [collector](logs.md#traces): the queue was full (`queue_full`), it gave no good \
        answer (`not_sent`), or said that it refused them (`refused`)";
    HELD_BYTES = "landfast_held_bytes", Gauge, "bytes", [],
        "bytes held between request and answer, or message and acknowledgement";
    HELD_REQUESTS = "landfast_held_requests", Gauge, "requests", [],
        "requests held between request and answer, or messages";
}

/// Gives the recorder each metric's meaning, for its HELP line.
pub(super) fn describe() {
    for metric in METRICS {
        let help = metric.help();
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, help),
            Kind::Histogram => metrics::describe_histogram!(metric.name, help),
        }
    }
}

/// The text without its Markdown: links by their words.
fn plain(markdown: &str) -> String {
    let mut text = String::new();
    let mut rest = markdown;
    while let Some((before, link)) = rest.split_once("](") {
        text.push_str(before);
        rest = link.split_once(')').map_or("", |(_address, after)| after);
    }
    text.push_str(rest);
    text.replace(['`', '['], "")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::config::process_env;

    /// When this variable is set, the page is written anew instead of compared.
    const RENEW: &str = "LANDFAST_RENEW_DOCS";

    #[test]
    fn tables_of_the_metrics_page_are_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
        let found = std::fs::read_to_string(&path).unwrap();
        let metrics = METRICS.iter().map(|metric| {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let kind = format!("{:?}", metric.kind).to_lowercase();
            let labels = labels.join(", ");
            let Metric {
                name, unit, meaning, ..
            } = metric;
            format!("| `{name}` | {kind} | {unit} | {labels} | {meaning} |\n").replace("|  |", "| |")
        });
        let wanted = with_rows(
            &found,
            "metrics",
            "| name | kind | unit | labels | meaning |",
            metrics.collect::<String>().as_str(),
        );
        let labels = LABELS
            .iter()
            .map(|(label, bound)| format!("| `{label}` | {bound} |\n"));
        let wanted = with_rows(
            &wanted,
            "labels",
            "| label | its values |",
            labels.collect::<String>().as_str(),
        );
        if process_env(RENEW).is_some() {
            std::fs::write(&path, wanted).unwrap();
        } else {
            assert!(found == wanted, "docs/metrics.md is stale; `just docs` renews it");
        }
    }

    /// The page with the rows between `<!-- NAME -->` and `<!-- end -->` made anew.
    fn with_rows(page: &str, name: &str, head: &str, rows: &str) -> String {
        let (before, rest) = page.split_once(&format!("<!-- {name} -->")).unwrap();
        let (_, after) = rest.split_once("<!-- end -->").unwrap();
        let rule = "| --- ".repeat(head.matches('|').count() - 1);
        format!("{before}<!-- {name} -->\n\n{head}\n{rule}|\n{rows}\n<!-- end -->{after}")
    }

    #[test]
    fn labels_are_bounded_and_used() {
        let used: BTreeSet<&str> = METRICS.iter().flat_map(|metric| metric.labels).copied().collect();
        let bounded: BTreeSet<&str> = LABELS.iter().map(|(label, _)| *label).collect();
        assert_eq!(used, bounded);
    }

    #[test]
    fn names_say_kind_and_unit() {
        for metric in METRICS {
            let name = metric.name;
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            if let Some(unit) = ["seconds", "bytes"].iter().find(|unit| name.contains(*unit)) {
                assert!(metric.unit.ends_with(unit), "{name}: {}", metric.unit);
            }
        }
        let names: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
    }

    #[test]
    fn help_is_plain_text() {
        assert_eq!(
            plain("steps of [publishing](bigquery.md): `moved`, and [that](a#b)."),
            "steps of publishing: moved, and that."
        );
        assert_eq!(plain("rows"), "rows");
    }
}
