//! `/metrics` as the parser of Prometheus's own client reads it: what it tells is what was done, and all of it is described.

use std::collections::BTreeMap;
use std::fs;

use chrono::Utc;
use landfast::telemetry::{Kind, METRICS};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::support::lake::{Lake, files};
use crate::support::push::Push;
use crate::support::readers::{Family, metric_families};
use crate::support::server::{Server, landfast};
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![prometheus_reads_what_was_done]
}

const TABLES: &str = "defaults: { batch: { commit_interval: 0s }, schema_evolution: ignore }\ntables:\n  t.rows: { from: [{ \
                      subscription: rows }], schema: [{ name: id, type: long }] }\n  t.other-1: { from: [{ subscription: \
                      other }], schema: [{ name: id, type: long }] }\n  t.never: { from: [{ subscription: never }] }\n";

/// Names that senders may choose; how often each came is its place, from 1.
const FIELDS: [&str; 12] = [
    "",
    "größe 尺寸 \u{2028}",
    "say \"hi\"",
    "\"",
    "\\",
    "\\\\",
    "\\\"",
    "\\n",
    "\n",
    "two\r\nlines\n",
    "a=\"b\"} 7\nlandfast_duplicates_total{table=\"t\"",
    "# TYPE x counter",
];
const REVISION: &str = "r\\\"\n\\\\1\"}";

type Labels = BTreeMap<String, String>;

/// A series by its name and labels.
fn series(name: &str, labels: &[(&str, &str)]) -> (String, Labels) {
    let labels = labels
        .iter()
        .map(|(label, value)| ((*label).to_owned(), (*value).to_owned()));
    (name.to_owned(), labels.collect())
}

/// Rows of these ids, as lines.
fn rows(ids: std::ops::Range<i64>) -> String {
    ids.map(|id| format!("{{\"id\":{id}}}\n")).collect()
}

async fn prometheus_reads_what_was_done() -> TestResult {
    let lake = Lake::new()?;
    let mut command = landfast(["serve", "--config"]);
    command.arg(lake.config("", TABLES)?).env("K_REVISION", REVISION);
    let server = Server::start(command).await?;
    let began = Utc::now().timestamp();
    let named: String = (1..)
        .zip(FIELDS)
        .flat_map(|(times, field)| (0..times).map(move |id| format!("{}\n", json!({ "id": id, field: 1 }))))
        .collect();
    let named_rows = FIELDS.len() * (FIELDS.len() + 1) / 2;
    let pushes = [
        Push::new("rows", 1, rows(0..2)),
        Push::new("rows", 1, rows(0..2)),
        Push::new("rows", 2, rows(2..3) + "{\"id\":\"x\"}"),
        Push::new("rows", 3, "{\"id\":\"x\"}\n{\"id\":\"y\"}"),
        Push::new("rows", 4, named),
        Push::new("other", 5, rows(0..4)),
        Push::new("other", 6, rows(4..8)),
        Push::new("other", 6, rows(4..8)),
        Push::new("other", 6, rows(4..8)),
        Push::new("nowhere", 7, "{}"),
    ];
    assert_eq!(server.pusher().push_all(&pushes, 1).await, [204; 10]);
    let refused = server.pusher().post("/", "application/json", "{").await?;
    assert_eq!(refused.status(), 400);
    server.metric_is("landfast_held_requests", 0.0).await?;

    let answer = reqwest::Client::builder()
        .no_proxy()
        .build()?
        .get(format!("{}/metrics", server.url()));
    let answer = answer.send().await?;
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4");
    let families = metric_families(&answer.text().await?)?;
    are_described(&families)?;

    let mut wanted = counted(&lake)?;
    for (times, field) in (1..).zip(FIELDS) {
        let labels = [("table", "t.rows"), ("field", field)];
        wanted.insert(series("landfast_unknown_fields_total", &labels), f64::from(times));
    }
    assert_eq!(values(&families, "counter"), wanted);

    let mut gauges = values(&families, "gauge");
    for table in ["t.rows", "t.other-1"] {
        let last = gauges.remove(&series(
            "landfast_last_commit_timestamp_seconds",
            &[("table", table)],
        ));
        let last = last.ok_or("the last commit")? as i64;
        assert!((began - 1..=Utc::now().timestamp()).contains(&last), "{last}");
    }
    let (name, version) = ("landfast_build_info", env!("CARGO_PKG_VERSION"));
    let info = gauges
        .keys()
        .find(|(found, _)| found == name)
        .ok_or(name)?
        .1
        .clone();
    assert_eq!(
        (
            info["version"].as_str(),
            info["revision"].as_str(),
            info["service"].as_str()
        ),
        (version, REVISION, "")
    );
    let wanted = [
        ((name.to_owned(), info), 1.0),
        (series("landfast_held_bytes", &[]), 0.0),
        (series("landfast_held_requests", &[]), 0.0),
    ];
    assert_eq!(gauges, wanted.into());

    // Of each commit, by hand.
    let named_rows = named_rows as f64;
    for (table, batches) in [
        ("t.rows", &[2.0, 1.0, 0.0, named_rows][..]),
        ("t.other-1", &[4.0, 4.0]),
    ] {
        let per_batch = histogram(&families, "iceberg_records_per_batch", table);
        let ends = [
            1.0,
            3.0,
            10.0,
            30.0,
            100.0,
            300.0,
            1e3,
            3e3,
            1e4,
            3e4,
            1e5,
            f64::INFINITY,
        ];
        let counted = ends.map(|end| (end, batches.iter().filter(|rows| **rows <= end).count() as f64));
        assert_eq!(per_batch.buckets, counted, "{table}");
        assert_eq!(per_batch.sum, batches.iter().sum::<f64>(), "{table}");
        let duration = histogram(&families, "iceberg_commit_duration_seconds", table);
        assert_eq!(
            duration.buckets.last(),
            Some(&(f64::INFINITY, batches.len() as f64))
        );
        assert!((0.0..60.0).contains(&duration.sum), "{}", duration.sum);
        let with_rows = batches.iter().filter(|rows| **rows > 0.0).count() as f64;
        let freshness = histogram(&families, "landfast_freshness_seconds", table);
        assert_eq!(freshness.buckets.last(), Some(&(f64::INFINITY, with_rows)));
    }
    let histograms = families.values().filter(|family| family.kind == "histogram");
    assert_eq!(histograms.count(), 3);
    Ok(())
}

/// What the counters must say, but for unknown fields.
fn counted(lake: &Lake) -> TestResult<BTreeMap<(String, Labels), f64>> {
    let mut wanted = BTreeMap::new();
    let named_rows = (FIELDS.len() * (FIELDS.len() + 1) / 2) as f64;
    for (table, commits, rows) in [("t.rows", 4.0, 3.0 + named_rows), ("t.other-1", 2.0, 8.0)] {
        let mut bytes = 0;
        for file in files(&lake.table(table).join("data"))? {
            bytes += fs::metadata(file)?.len();
        }
        for (name, value) in [
            ("iceberg_records_written_total", rows),
            ("iceberg_batches_committed_total", commits),
            ("iceberg_bytes_written_total", bytes as f64),
        ] {
            wanted.insert(series(name, &[("table", table)]), value);
        }
    }
    let by_table =
        |name, table, (label, word), value| (series(name, &[("table", table), (label, word)]), value);
    let by_word = |name, (label, word), value| (series(name, &[(label, word)]), value);
    let (landed, duplicate) = (("outcome", "landed"), ("outcome", "duplicate"));
    wanted.extend([
        by_word("landfast_deliveries_total", landed, 5.0),
        by_word("landfast_deliveries_total", duplicate, 3.0),
        by_word("landfast_deliveries_total", ("outcome", "dead_letter"), 2.0),
        by_word("landfast_refused_requests_total", ("reason", "not_an_event"), 1.0),
        by_table("landfast_duplicates_total", "t.rows", ("reason", "landed"), 1.0),
        by_table(
            "landfast_duplicates_total",
            "t.other-1",
            ("reason", "landed"),
            2.0,
        ),
        by_table(
            "landfast_dead_letters_total",
            "t.rows",
            ("reason", "wrong_type"),
            3.0,
        ),
        by_table("landfast_dead_letters_total", "none", ("reason", "no_route"), 1.0),
    ]);
    let letters: Vec<Value> = lake.dead_letters()?;
    assert_eq!(letters.len(), 4);
    Ok(wanted)
}

/// Every family has the kind, the meaning and the labels that its metric is documented with.
fn are_described(families: &BTreeMap<String, Family>) -> TestResult {
    for (name, family) in families {
        let metric = METRICS.iter().find(|metric| metric.name == name);
        let metric = metric.ok_or_else(|| format!("{name} is not described"))?;
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        assert_eq!(
            (family.kind.as_str(), &family.help),
            (kind, &metric.help()),
            "{name}"
        );
        for (sample, labels, _) in &family.samples {
            let mut names: Vec<&str> = metric.labels.to_vec();
            if sample.ends_with("_bucket") {
                names.push("le");
            }
            names.sort_unstable();
            assert_eq!(labels.keys().collect::<Vec<_>>(), names, "{sample}");
        }
    }
    Ok(())
}

/// All series of one kind.
fn values(families: &BTreeMap<String, Family>, kind: &str) -> BTreeMap<(String, Labels), f64> {
    let families = families.values().filter(|family| family.kind == kind);
    let samples = families.flat_map(|family| &family.samples);
    samples
        .map(|(name, labels, value)| ((name.clone(), labels.clone()), *value))
        .collect()
}

struct Histogram {
    /// Ends and counts.
    buckets: Vec<(f64, f64)>,
    sum: f64,
}

/// The histogram of one table; empty where there is none.
fn histogram(families: &BTreeMap<String, Family>, name: &str, table: &str) -> Histogram {
    let samples = families.get(name).into_iter().flat_map(|family| &family.samples);
    let samples: Vec<_> = samples
        .filter(|(_, labels, _)| labels["table"] == table)
        .collect();
    let bucket = |labels: &Labels, value: f64| Some((labels.get("le")?.parse().ok()?, value));
    let sums = samples.iter().filter(|(name, ..)| name.ends_with("_sum"));
    Histogram {
        buckets: samples
            .iter()
            .filter_map(|(_, labels, value)| bucket(labels, *value))
            .collect(),
        sum: sums.map(|(.., value)| value).sum(),
    }
}
