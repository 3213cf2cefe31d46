//! Rows sent directly through the real binary: what the answer says of them is what independent readers find.

mod answers;
mod keys;
mod refusals;

use std::collections::BTreeSet;

use futures::future::join_all;
use libtest_mimic::Trial;
use reqwest::Response;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::refusals::connect;
use crate::support::lake::Lake;
use crate::support::push::Push;
use crate::support::readers::{Reader, sort_by};
use crate::support::server::Server;
use crate::support::{TestResult, gzip, trials};

pub fn tests() -> Vec<Trial> {
    let landing = trials![
        rows_of_every_shape_land_as_the_answer_says,
        poison_is_counted_in_the_answer_and_lettered,
        rows_and_pushes_of_one_table_share_commits,
        envelope_table_keeps_the_body_as_one_row,
        rows_reach_the_tables_that_routes_make,
        abandoned_requests_hold_nothing,
    ];
    [landing, keys::tests(), refusals::tests(), answers::tests()]
        .into_iter()
        .flatten()
        .collect()
}

const TABLE: &str = "tables: { t.rows: { from: [{ subscription: rows }], schema: [{ name: id, type: long, required: true \
                     }, { name: name, type: string }] } }";

const JSON: &str = "application/json";

/// Sends rows to a table as curl does, with one header more if its name is not empty.
async fn send(
    server: &Server,
    table: &str,
    content_type: &str,
    (header, value): (&str, &str),
    body: impl Into<reqwest::Body>,
) -> TestResult<Response> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{}/v1/tables/{table}/records", server.url());
    let request = client.post(url).header("content-type", content_type).body(body);
    let request = if header.is_empty() {
        request
    } else {
        request.header(header, value)
    };
    Ok(request.send().await?)
}

/// Sends JSON that is taken; gives the answer.
async fn sent(server: &Server, table: &str, body: impl Into<reqwest::Body>) -> TestResult<Value> {
    landed(send(server, table, JSON, ("", ""), body).await?).await
}

/// The answer of rows that were taken.
async fn landed(answer: Response) -> TestResult<Value> {
    let (status, kind) = (answer.status().as_u16(), answer.headers()["content-type"].clone());
    let text = answer.text().await?;
    assert_eq!(
        (status, kind.as_bytes()),
        (200, &b"application/json"[..]),
        "{text}"
    );
    Ok(serde_json::from_str(&text)?)
}

/// The ids of the table's snapshots, oldest first, as PyIceberg reads them.
fn snapshots(lake: &Lake, table: &str) -> TestResult<Vec<String>> {
    let described = Reader::pyiceberg()?.describe(lake.metadata(table)?)?;
    let mut snapshots = described["snapshots"].as_array().ok_or("snapshots")?.clone();
    sort_by(&mut snapshots, "sequence-number");
    Ok(snapshots
        .iter()
        .map(|snapshot| snapshot["snapshot-id"].to_string())
        .collect())
}

async fn rows_of_every_shape_land_as_the_answer_says() -> TestResult {
    let lake = Lake::new()?;
    let config = TABLE.replace("schema", "batch: { commit_interval: 0s }, schema");
    let server = Server::serve(&lake.config("", &config)?).await?;
    let lines: String = (100..10_100)
        .map(|id| format!("{{\"id\":{id},\"name\":\"n{id}\"}}\n"))
        .collect();
    let json = |text: &str| text.as_bytes().to_vec();
    let mut total = 0;
    for (kind, encoding, body, rows) in [
        (JSON, "", json("{\"id\":1}"), 1),
        (
            "application/json; charset=utf-8",
            "",
            json("[{\"id\":2},{\"id\":3}]"),
            2,
        ),
        (
            "application/vnd.acme.order+json",
            "identity",
            json("{\"id\":4}{\"id\":5}"),
            2,
        ),
        ("application/x-ndjson", "", json(&lines), 10_000),
        ("application/jsonl", "gzip", gzip(b"{\"id\":6}\n{\"id\":7}\n")?, 2),
        (JSON, "zstd", zstd::encode_all(&b"[{\"id\":8}]"[..], 1)?, 1),
        // Compressed and not said to be: told by its first bytes, as in a push.
        ("application/ndjson", "", gzip(b"{\"id\":9}")?, 1),
    ] {
        let coding = if encoding.is_empty() {
            ("", "")
        } else {
            ("content-encoding", encoding)
        };
        let answer = landed(send(&server, "t.rows", kind, coding, body).await?).await?;
        total += rows;
        let newest = snapshots(&lake, "t.rows")?.pop();
        assert_eq!(
            answer,
            json!({"rows": rows, "dead_letters": 0, "snapshot_id": newest}),
            "{kind} {encoding}"
        );
        assert_eq!(Reader::pyiceberg()?.count(lake.metadata("t.rows")?)?, total);
    }
    let ids: BTreeSet<i64> = (1..10).chain(100..10_100).collect();
    assert_eq!(lake.ids("t.rows", "id")?, (ids, 10_009));
    // An array of nothing is taken, and makes no snapshot.
    let nothing = json!({"rows": 0, "dead_letters": 0, "snapshot_id": null});
    assert_eq!(sent(&server, "t.rows", "[]").await?, nothing);
    assert_eq!(snapshots(&lake, "t.rows")?.len(), 7);
    server
        .metric_is("iceberg_records_written_total", 10_009.0)
        .await?;
    server.metric_is("landfast_freshness_seconds_count", 7.0).await?;
    assert_eq!(lake.dead_letters()?, Vec::<Value>::new());
    Ok(())
}

async fn poison_is_counted_in_the_answer_and_lettered() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::serve(&lake.config("", TABLE)?).await?;
    let body = "{\"id\":1}\n{\"id\":\"hush-hush\"}\nno json\n{\"name\":\"x\"}\n{\"id\":2}\n";
    let answer = send(&server, "t.rows", "application/x-ndjson", ("", ""), body).await?;
    let answer = landed(answer).await?;
    assert_eq!((&answer["rows"], &answer["dead_letters"]), (&json!(2), &json!(3)));
    assert_eq!(lake.ids("t.rows", "id")?, ([1, 2].into(), 2));
    let letters = lake.dead_letters()?;
    let kinds: Vec<_> = letters.iter().map(|letter| &letter["reason"]["kind"]).collect();
    assert_eq!(kinds, ["wrong_type", "syntax", "missing_required"]);
    for (letter, position) in letters.iter().zip(1..) {
        let id = letter["delivery_id"].as_str().ok_or("a delivery id")?;
        assert!(id.starts_with("http/") && id.len() == "http/".len() + 36, "{id}");
        assert_eq!(letter["id"], format!("{id}/{position}"));
        assert_eq!(
            (&letter["source"], &letter["table"], &letter["attributes"]),
            (&json!("http"), &json!("t.rows"), &json!({}))
        );
    }
    // Nothing fits: said so, with the same status, as all of it is kept.
    let none = json!({"rows": 0, "dead_letters": 1, "snapshot_id": null});
    assert_eq!(sent(&server, "t.rows", "{\"id\":null}").await?, none);
    // Without a key a request that is sent again is another one: its letters too.
    assert_eq!(sent(&server, "t.rows", "{\"id\":null}").await?, none);
    assert_eq!(lake.dead_letters()?.len(), 5);
    server.metric_is("landfast_dead_letters_total", 5.0).await?;
    assert_eq!(lake.rows("t.rows", "id")?.len(), 2);
    assert!(!server.log().contains("hush-hush"));
    Ok(())
}

async fn rows_and_pushes_of_one_table_share_commits() -> TestResult {
    let lake = Lake::new()?;
    let config = TABLE.replace("schema", "batch: { commit_interval: 3s }, schema");
    let server = Server::serve(&lake.config("", &config)?).await?;
    // The first commits at once; what follows waits for company.
    let first = sent(&server, "t.rows", "{\"id\":0}").await?;
    let pushes: Vec<_> = (1..=30)
        .map(|id| Push::json("rows", id, &json!({"id": id})))
        .collect();
    let rows = (31..=60).map(|id| sent(&server, "t.rows", format!("{{\"id\":{id}}}")));
    let pusher = server.pusher();
    let (statuses, answers) = tokio::join!(pusher.push_all(&pushes, 30), join_all(rows));
    assert_eq!(statuses, [204; 30]);
    let snapshots = snapshots(&lake, "t.rows")?;
    assert_eq!(snapshots.len(), 2, "{snapshots:?}");
    assert_eq!(first["snapshot_id"], snapshots[0]);
    for answer in answers {
        let expected = json!({"rows": 1, "dead_letters": 0, "snapshot_id": snapshots[1]});
        assert_eq!(answer?, expected);
    }
    assert_eq!(lake.ids("t.rows", "id")?, ((0..=60).collect(), 61));
    server.metric_is("landfast_deliveries_total", 61.0).await?;
    Ok(())
}

async fn envelope_table_keeps_the_body_as_one_row() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::serve(&lake.config("", "tables: { t.raw: { schema: envelope } }")?).await?;
    let body = b"[{\"id\":1},\n {\"id\":2}, no json";
    let answer = send(&server, "t.raw", JSON, ("content-encoding", "gzip"), gzip(body)?).await?;
    assert_eq!(landed(answer).await?["rows"], 1);
    let row = &lake.rows("t.raw", "id")?[0];
    let id = row["id"].as_str().ok_or("an id")?;
    assert_eq!(uuid::Uuid::parse_str(id)?.get_version_num(), 4);
    // As it was before it was compressed for the way.
    use base64::Engine;
    let payload = base64::engine::general_purpose::STANDARD.encode(body);
    assert_eq!(
        (&row["source"], &row["attributes"], &row["payload"]),
        (&json!("http"), &json!([]), &json!(payload))
    );
    assert_eq!(row["published_at"], row["ingested_at"]);
    Ok(())
}

async fn rows_reach_the_tables_that_routes_make() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::dev(lake.path()).await?;
    // Percent-encoded or not, it is the same table; a push's is, too.
    assert_eq!(sent(&server, "landfast.orders", "{\"id\":1}").await?["rows"], 1);
    assert_eq!(
        sent(&server, "%6Candfast%2Eord%65rs", "{\"id\":2}").await?["rows"],
        1
    );
    assert_eq!(
        server.pusher().push(&Push::new("orders", 1, "{\"id\":3}")).await,
        204
    );
    assert_eq!(lake.ids("landfast.orders", "id")?, ([1, 2, 3].into(), 3));
    Ok(())
}

async fn abandoned_requests_hold_nothing() -> TestResult {
    let lake = Lake::new()?;
    let config = TABLE.replace("schema", "batch: { commit_interval: 12s }, schema");
    let server = Server::serve(&lake.config("", &config)?).await?;
    sent(&server, "t.rows", "{\"id\":0}").await?;
    let head = |length: usize| {
        format!(
            "POST /v1/tables/t.rows/records HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: \
             {length}\r\n\r\n"
        )
    };
    // Gone in the middle of the body: nothing of it is taken.
    let mut broken = connect(&server).await?;
    broken
        .write_all(format!("{}{{\"id\":1}}", head(100)).as_bytes())
        .await?;
    server.metric_is("landfast_held_requests", 1.0).await?;
    drop(broken);
    server.metric_is("landfast_held_requests", 0.0).await?;
    // Gone after it: the rows are a delivery by then, and land.
    let mut gone = connect(&server).await?;
    gone.write_all(format!("{}{{\"id\":2}}", head(8)).as_bytes())
        .await?;
    server.metric_is("landfast_held_requests", 1.0).await?;
    drop(gone);
    server.metric_is("iceberg_records_written_total", 2.0).await?;
    server.metric_is("landfast_held_requests", 0.0).await?;
    server.metric_is("landfast_held_bytes", 0.0).await?;
    assert_eq!(lake.ids("t.rows", "id")?, ([0, 2].into(), 2));
    Ok(())
}
