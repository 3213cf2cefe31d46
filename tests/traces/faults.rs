//! Collectors that do not work: no request waits for them, and what is lost is counted.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::json;

use super::collector::{Collector, Manner};
use super::{TABLE, traced};
use crate::support::lake::Lake;
use crate::support::push::Push;
use crate::support::server::{Server, landfast};
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        collector_that_hangs_slows_no_request_and_no_stop,
        collector_that_takes_nothing_is_told_of_and_counted,
        delivery_that_fails_is_a_span_that_failed,
        variable_without_a_meaning_stops_the_start,
    ]
}

const FAST: &str = "tables: { t.rows: { from: [{ subscription: rows }], schema: [{ name: id, type: long }], batch: { \
                    commit_interval: 0s } } }";

fn pushes(ids: std::ops::Range<i64>) -> Vec<Push> {
    ids.map(|id| Push::json("rows", id, &json!({"id": id}))).collect()
}

async fn dropped(server: &Server, reason: &str) -> TestResult<f64> {
    let (_, metrics) = server.pusher().get("/metrics").await?;
    let start = format!("landfast_dropped_spans_total{{reason=\"{reason}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&start));
    Ok(value.unwrap_or("0").parse()?)
}

async fn collector_that_hangs_slows_no_request_and_no_stop() -> TestResult {
    let (lake, collector) = (Lake::new()?, Collector::start(Manner::Hangs).await?);
    let mut command = traced(&lake.config("", FAST)?, collector.url());
    // Longer than the test: nothing ends but by itself.
    command.env("OTEL_EXPORTER_OTLP_TIMEOUT", "600000");
    let mut server = Server::start(command).await?;
    assert_eq!(server.pusher().push_all(&pushes(0..1), 1).await, [204]);
    wait_for("a post that hangs", Duration::from_secs(20), async || {
        (!collector.posts().is_empty()).then_some(())
    })
    .await?;
    // More spans than may wait: those beyond are dropped, and every push is answered.
    let statuses = server.pusher().push_all(&pushes(1..3_000), 200).await;
    assert!(statuses.iter().all(|status| *status == 204));
    let full = dropped(&server, "queue_full").await?;
    assert!(full > 0.0, "{full}");
    assert_eq!(collector.posts().len(), 1);
    let stopped = Instant::now();
    server.terminate()?;
    assert!(server.exited().await?.success());
    assert!(
        stopped.elapsed() < Duration::from_secs(6),
        "{:?}",
        stopped.elapsed()
    );
    server
        .logged(&["did not take the last spans in time", "Stopped; everything"])
        .await?;
    assert_eq!(lake.ids("t.rows", "id")?, ((0..3_000).collect(), 3_000));
    Ok(())
}

async fn collector_that_takes_nothing_is_told_of_and_counted() -> TestResult {
    for (manner, reason, told) in [
        (Manner::Refuses, "not_sent", "it answered 503"),
        (Manner::Rejects, "refused", "it refused them"),
    ] {
        let (lake, collector) = (Lake::new()?, Collector::start(manner).await?);
        let address = collector.url().replace("http://", "http://user:s3cret@");
        let mut command = traced(&lake.config("", TABLE)?, &address);
        command.env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=s3cret");
        let server = Server::start(command).await?;
        assert_eq!(server.pusher().push_all(&pushes(0..1), 1).await, [204]);
        server
            .logged(&["The collector of traces did not take spans", told])
            .await?;
        // One push: itself, its decoding, its commit.
        wait_for("three to be counted", Duration::from_secs(60), async || {
            (dropped(&server, reason).await.ok()? == 3.0).then_some(())
        })
        .await?;
        assert!(!server.log().contains("s3cret"), "{}", server.log());
    }
    // One that is not there.
    let lake = Lake::new()?;
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let address = format!("http://user:s3cret@{free}");
    let server = Server::start(traced(&lake.config("", TABLE)?, &address)).await?;
    assert_eq!(server.pusher().push_all(&pushes(0..1), 1).await, [204]);
    let told = "The collector of traces did not take spans";
    server.logged(&[told, "onnection refused"]).await?;
    assert!(!server.log().contains("s3cret"), "{}", server.log());
    Ok(())
}

async fn delivery_that_fails_is_a_span_that_failed() -> TestResult {
    let (lake, collector) = (Lake::new()?, Collector::start(Manner::Takes).await?);
    let server = Server::start(traced(&lake.config("", TABLE)?, collector.url())).await?;
    assert_eq!(server.pusher().push_all(&pushes(0..1), 1).await, [204]);
    // Nothing can be written any more.
    std::fs::rename(lake.path().join("warehouse"), lake.path().join("away"))?;
    std::fs::write(lake.path().join("warehouse"), "no folder")?;
    assert_eq!(server.pusher().push_all(&pushes(1..2), 1).await, [503]);
    let triggers = collector.named("trigger", 2).await?;
    let commits = collector.named("commit", 2).await?;
    for spans in [&triggers, &commits] {
        let failed: Vec<bool> = spans.iter().map(|span| span.failed).collect();
        assert_eq!(failed, [false, true], "{spans:?}");
        assert_eq!(spans[1].attributes["error.type"], "unavailable");
    }
    Ok(())
}

async fn variable_without_a_meaning_stops_the_start() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLE)?;
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
    ] {
        let mut command = landfast(["serve", "--config"]);
        command
            .arg(&config)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
            .env(name, value);
        let output = command.output()?;
        let told = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(name) && !told.contains("listening"), "{told}");
    }
    Ok(())
}
