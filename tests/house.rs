//! Tests of the test house itself: a judge that errs, or a client that is not what it stands for, proves nothing.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use chrono::DateTime;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::support::push::{NO_ANSWER, Push, Pusher};
use crate::support::readers::{Reader, Sample, sort_by};
use crate::support::server::Server;
use crate::support::{Stop, TestResult, paused_test, trials};

pub fn tests() -> Vec<Trial> {
    let mut tests = trials![
        readers_agree_on_a_table_that_pyiceberg_wrote,
        readers_find_what_a_filter_matches,
        readers_tell_the_metadata_of_a_table,
        readers_name_the_table_that_is_not_there,
        pyiceberg_reads_a_null_list_of_structs_as_empty,
        push_has_the_shape_that_pubsub_sends,
        pushes_are_open_at_the_same_time,
        unanswered_push_has_no_status,
        server_is_killed_and_terminated,
        server_that_exits_early_is_a_failure,
    ];
    tests.push(paused_test(
        "house::paused_clock_jumps_over_waits",
        paused_clock_jumps_over_waits,
    ));
    tests
}

async fn readers_agree_on_a_table_that_pyiceberg_wrote() -> TestResult {
    let [pyiceberg, duckdb] = Reader::all()?;
    let folder = tempfile::tempdir()?;
    let sample = Sample::write(folder.path())?;

    let mut rows = pyiceberg.rows(&sample.metadata)?;
    sort_by(&mut rows, "id");
    let [plain, _, full] = rows.as_slice() else {
        return Err("three rows were written".into());
    };
    assert_eq!(plain["id"], 1);
    assert_eq!(plain["single"], "Infinity");
    assert_eq!(plain["real"], "NaN");
    assert_eq!(full["id"], i64::MAX);
    assert_eq!(full["total"], "9999999999.99");
    assert_eq!(full["wide"], "1234567890123456789012345678.0123456789");
    assert_eq!(full["clock"], "23:59:59.999999");
    assert_eq!(full["at"], "1969-12-31T23:59:59.999999");
    assert_eq!(full["at_zone"], "2026-11-21T01:02:03.000004Z");
    assert_eq!(full["key"], "00112233-4455-6677-8899-aabbccddeeff");
    assert_eq!(full["four"], "AAH+/w==");
    assert_eq!(full["lines"], json!([{ "sku": "b", "n": null }, null]));
    assert_eq!(full["tags"], json!([["x", 1], ["y", null]]));

    for location in [&sample.metadata, &sample.folder] {
        let mut others = duckdb.rows(location)?;
        sort_by(&mut others, "id");
        assert_eq!(others, rows);
        assert_eq!((duckdb.count(location)?, pyiceberg.count(location)?), (3, 3));
    }
    assert_eq!(
        duckdb.columns(&sample.metadata)?,
        pyiceberg.columns(&sample.metadata)?
    );
    for (reader, blind) in [
        (Reader::polars()?, &["key"][..]),
        (Reader::chdb()?, &["clock", "real", "buyer", "lines", "tags"]),
    ] {
        let mut found = reader.columns(&sample.metadata)?;
        let mut expected = pyiceberg.columns(&sample.metadata)?;
        for column in blind {
            found.remove(*column);
            expected.remove(*column);
        }
        assert_eq!(found, expected, "{reader:?}");
        assert_eq!(reader.count(&sample.metadata)?, 3);
    }
    Ok(())
}

async fn readers_find_what_a_filter_matches() -> TestResult {
    let folder = tempfile::tempdir()?;
    let readers = [
        Reader::pyiceberg()?,
        Reader::duckdb()?,
        Reader::polars()?,
        Reader::chdb()?,
    ];
    let sample = Sample::write(folder.path())?;
    let cases: [(&str, &str, Value, u64); 7] = [
        ("id", ">=", json!(2), 2),
        ("kind", "=", json!("naïve 'quoted' ☃"), 1),
        ("flag", "=", json!(true), 1),
        ("total", "<=", json!("9999999999.99"), 1),
        ("day", "!=", json!("2026-03-01"), 1),
        ("at_zone", ">", json!("2026-11-21T01:02:03.000003+00:00"), 1),
        ("buyer.n", "<=", json!(1), 1),
    ];
    for (column, op, literal, expected) in cases {
        for reader in readers {
            let matches = reader.count_where(&sample.metadata, column, op, literal.clone())?;
            assert_eq!(matches.rows, expected, "{column} {op} {literal}: {reader:?}");
            assert!(matches.planned_files.is_none_or(|files| files >= expected));
        }
    }
    let key = Reader::duckdb()?.count_where(
        &sample.metadata,
        "key",
        "=",
        "00112233-4455-6677-8899-aabbccddeeff",
    )?;
    assert_eq!(key.rows, 1);
    let pruned = Reader::pyiceberg()?.count_where(&sample.folder, "kind", "=", "b")?;
    assert_eq!((pruned.rows, pruned.planned_files), (1, Some(1)));
    Ok(())
}

async fn readers_tell_the_metadata_of_a_table() -> TestResult {
    let [pyiceberg, duckdb] = Reader::all()?;
    let folder = tempfile::tempdir()?;
    let sample = Sample::write(folder.path())?;

    let described = pyiceberg.describe(&sample.metadata)?;
    assert_eq!(described["format-version"], 2);
    assert_eq!(described["snapshots"][2]["summary"]["operation"], "append");
    let first = described["snapshots"][0]["snapshot-id"]
        .as_i64()
        .ok_or("the first snapshot's id")?;
    for reader in [pyiceberg, duckdb] {
        assert_eq!(reader.rows_at(&sample.metadata, first)?.len(), 1);
    }
    let files = pyiceberg.files(&sample.metadata)?;
    assert_eq!(files.len(), 3);
    let full = files
        .iter()
        .find(|file| file["lower_bounds"]["id"] == i64::MAX)
        .ok_or("the first row's file")?;
    assert_eq!(full["partition"], json!(["naïve 'quoted' ☃"]));
    assert_eq!(
        (&full["record_count"], &full["sequence_number"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(
        (
            &full["value_counts"]["lines.element.sku"],
            &full["null_value_counts"]["kind"]
        ),
        (&json!(2), &json!(0))
    );
    for (column, bound) in [
        ("at", "1969-12-31T23:59:59.999999"),
        ("total", "9999999999.99"),
        ("day", "2026-02-28"),
    ] {
        assert_eq!(
            (&full["lower_bounds"][column], &full["upper_bounds"][column]),
            (&json!(bound), &json!(bound))
        );
    }
    assert_eq!(pyiceberg.inspect(&sample.metadata, "manifests")?.len(), 3);
    Ok(())
}

async fn readers_name_the_table_that_is_not_there() -> TestResult {
    for reader in [
        Reader::pyiceberg()?,
        Reader::duckdb()?,
        Reader::polars()?,
        Reader::chdb()?,
    ] {
        let Err(Stop::Failed(text)) = reader.count("/nowhere/metadata/v1.metadata.json") else {
            return Err("a missing table was read".into());
        };
        assert!(text.contains("/nowhere/"), "{text}");
    }
    Ok(())
}

/// A known fault of the judge. When this fails, PyIceberg is right about null lists, and its doc in `readers.rs` is not.
async fn pyiceberg_reads_a_null_list_of_structs_as_empty() -> TestResult {
    let [pyiceberg, duckdb] = Reader::all()?;
    let folder = tempfile::tempdir()?;
    let sample = Sample::write_null_lists(folder.path())?;
    assert_eq!(
        duckdb.rows(&sample.metadata)?,
        [json!({ "ints": null, "lines": null, "by_name": null })]
    );
    assert_eq!(
        pyiceberg.rows(&sample.metadata)?,
        [json!({ "ints": null, "lines": [], "by_name": [] })]
    );
    Ok(())
}

async fn push_has_the_shape_that_pubsub_sends() -> TestResult {
    let at = DateTime::from_timestamp_millis(1_795_231_323_004).ok_or("a time")?;
    let bare = Push::new("orders", 7, "").published_at(at).without_data();
    assert_eq!(
        bare.body(),
        json!({
            "message": {
                "messageId": "7", "message_id": "7",
                "publishTime": "2026-11-21T03:22:03.004Z", "publish_time": "2026-11-21T03:22:03.004Z",
            },
            "subscription": "projects/p-test/subscriptions/orders",
        })
    );
    let full = Push::json("projects/p/subscriptions/s", "8", &json!({ "id": 1 }))
        .attribute("kind", "order")
        .ordering_key("k")
        .delivery_attempt(2)
        .body();
    assert_eq!(full["subscription"], "projects/p/subscriptions/s");
    assert_eq!(full["message"]["data"], "eyJpZCI6MX0=");
    assert_eq!(full["message"]["attributes"], json!({ "kind": "order" }));
    assert_eq!(full["message"]["orderingKey"], "k");
    assert_eq!(full["deliveryAttempt"], 2);
    Ok(())
}

async fn pushes_are_open_at_the_same_time() -> TestResult {
    // Answers nobody before eight are there.
    async fn meet(State(barrier): State<Arc<tokio::sync::Barrier>>, body: String) -> StatusCode {
        let odd = body.contains(r#""messageId":"5""#);
        barrier.wait().await;
        if odd {
            StatusCode::TOO_MANY_REQUESTS
        } else {
            StatusCode::NO_CONTENT
        }
    }
    let app = Router::new()
        .route("/", post(meet))
        .with_state(Arc::new(tokio::sync::Barrier::new(8)));
    let pusher = Pusher::new(&listen(app).await?);
    let pushes: Vec<_> = (0..16).map(|id| Push::new("orders", id, "{}")).collect();
    let statuses = pusher.push_all(&pushes, 8).await;
    let expected: Vec<u16> = (0..16).map(|id| if id == 5 { 429 } else { 204 }).collect();
    assert_eq!(statuses, expected);
    Ok(())
}

async fn unanswered_push_has_no_status() -> TestResult {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    assert_eq!(
        Pusher::new(&format!("http://{nobody}"))
            .push(&Push::new("orders", 1, "{}"))
            .await,
        NO_ANSWER
    );
    Ok(())
}

async fn server_is_killed_and_terminated() -> TestResult {
    // The child only prints the address; this listener is ready at the third question.
    async fn ready(State(asked): State<Arc<AtomicUsize>>) -> StatusCode {
        let early = asked.fetch_add(1, Ordering::Relaxed) < 2;
        if early {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::OK
        }
    }
    let metrics = "# TYPE rows_total counter\nrows_total{table=\"a\"} 3\nrows_total{table=\"b\"} 4\nrows_total_x 5\nrows 6\n";
    let app = Router::new()
        .route("/health/ready", get(ready))
        .route("/metrics", get(move || async move { metrics }))
        .with_state(Arc::new(AtomicUsize::new(0)));
    let url = listen(app).await?;
    let start = || {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!(
            "echo '{{\"message\":\"listening on {url}\"}}' >&2; exec sleep 60"
        ));
        Server::start(command)
    };

    let mut server = start().await?;
    assert_eq!(server.url(), url);
    assert!(server.log().contains("listening on"));
    assert_eq!(
        (server.metric("rows_total").await?, server.metric("rows").await?),
        (7.0, 6.0)
    );
    server.terminate()?;
    assert!(!server.exited().await?.success());

    let mut server = start().await?;
    assert_eq!(server.pusher().get("/health/ready").await?.0, 200);
    server.kill()?;
    assert!(server.exited().await?.code().is_none());
    Ok(())
}

async fn server_that_exits_early_is_a_failure() -> TestResult {
    let mut command = Command::new("sh");
    command.args(["-c", "echo broken >&2; exit 3"]);
    let Err(Stop::Failed(text)) = Server::start(command).await else {
        return Err("a server that exited was taken for a running one".into());
    };
    assert!(text.contains("did not listen: exit status: 3"), "{text}");
    Ok(())
}

async fn paused_clock_jumps_over_waits() -> TestResult {
    let start = std::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert!(start.elapsed() < Duration::from_secs(60));
    Ok(())
}

/// Serves `app` until the test's runtime ends; gives its address.
async fn listen(app: Router) -> TestResult<String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(axum::serve(listener, app).into_future());
    Ok(url)
}
