//! Log lines of requests, as Cloud Logging reads them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{OTHER_SPAN, OTHER_TRACE, SPAN, TABLE, TRACE, push, send, traceparent};
use crate::support::http::{Answer, Broken, serve as serve_http};
use crate::support::lake::Lake;
use crate::support::push::Push;
use crate::support::server::{Server, landfast};
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        lines_of_a_request_carry_its_trace,
        errors_of_a_delivery_are_reported_with_its_trace,
        project_is_asked_for_once_a_line_needs_it,
        malformed_headers_are_ignored_and_not_repeated,
        nothing_is_told_of_a_message_that_lands,
    ]
}

const TRACE_FIELD: &str = "logging.googleapis.com/trace";
const SPAN_FIELD: &str = "logging.googleapis.com/spanId";
const SAMPLED: &str = "logging.googleapis.com/trace_sampled";
const LABELS: &str = "logging.googleapis.com/labels";

/// A server as Cloud Run starts it, its project set.
async fn serve(lake: &Lake, tables: &str) -> TestResult<Server> {
    let mut command = landfast(["serve", "--config"]);
    command
        .arg(lake.config("", tables)?)
        .env("GOOGLE_CLOUD_PROJECT", "acme")
        .env("K_SERVICE", "ingest")
        .env("K_REVISION", "ingest-00007-abc");
    Server::start(command).await
}

/// The lines so far with this message, after waiting for one.
async fn lines(server: &Server, message: &str) -> TestResult<Vec<Value>> {
    server.logged(&[message]).await?;
    let log = server.log();
    let lines = log.lines().map(serde_json::from_str::<Value>);
    let mut lines = lines.collect::<Result<Vec<_>, _>>()?;
    lines.retain(|line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains(message))
    });
    Ok(lines)
}

fn trace_of(line: &Value) -> (Option<&str>, Option<&str>, Option<bool>) {
    (
        line[TRACE_FIELD].as_str(),
        line[SPAN_FIELD].as_str(),
        line[SAMPLED].as_bool(),
    )
}

async fn lines_of_a_request_carry_its_trace() -> TestResult {
    let lake = Lake::new()?;
    let server = serve(&lake, TABLE).await?;
    // A refusal of each call, told once each.
    let parent = traceparent(TRACE, SPAN, "01");
    let context = format!("{OTHER_TRACE}/74;o=0");
    let by_w3c = [
        ("traceparent", parent.as_str()),
        ("x-cloud-trace-context", &context),
    ];
    assert_eq!(send(&server, "/", &by_w3c, "{}".to_owned()).await?, 400);
    let by_google = [("x-cloud-trace-context", context.as_str())];
    let path = "/v1/tables/t.rows/records";
    assert_eq!(send(&server, path, &by_google, String::new()).await?, 400);
    server.logged(&["\"push\"", "\"records\""]).await?;
    let refused = lines(&server, "A request was refused.").await?;
    let [of_push, of_records] = refused.as_slice() else {
        return Err(format!("two lines: {refused:?}").into());
    };
    let trace = format!("projects/acme/traces/{TRACE}");
    assert_eq!(trace_of(of_push), (Some(trace.as_str()), Some(SPAN), Some(true)));
    assert_eq!(of_push["severity"], "WARNING");
    let trace = format!("projects/acme/traces/{OTHER_TRACE}");
    let expected = (Some(trace.as_str()), Some("000000000000004a"), Some(false));
    assert_eq!(trace_of(of_records), expected);
    for line in &refused {
        let mut keys: Vec<_> = line.as_object().ok_or("an object")?.keys().collect();
        keys.sort();
        assert_eq!(
            keys,
            [
                "call",
                "count",
                "error",
                LABELS,
                "logging.googleapis.com/sourceLocation",
                SPAN_FIELD,
                TRACE_FIELD,
                SAMPLED,
                "message",
                "severity",
                "target",
                "time",
            ]
        );
    }
    // What belongs to no request has the labels, and no trace.
    let serving = lines(&server, "Serving.").await?.remove(0);
    assert_eq!(trace_of(&serving), (None, None, None));
    let labels = json!({"service": "ingest", "revision": "ingest-00007-abc"});
    assert!(
        [&serving, of_push, of_records]
            .iter()
            .all(|line| line[LABELS] == labels)
    );
    Ok(())
}

async fn errors_of_a_delivery_are_reported_with_its_trace() -> TestResult {
    let lake = Lake::new()?;
    let server = serve(&lake, TABLE).await?;
    // A letter that cannot be written, of a message whose publisher alone named a trace.
    let letters = lake.path().join("dead-letters");
    std::fs::rename(&letters, lake.path().join("away"))?;
    std::fs::write(&letters, "no folder")?;
    let named = traceparent(OTHER_TRACE, OTHER_SPAN, "01");
    let message = Push::new("nowhere", 2, "{}").attribute("googclient_traceparent", &named);
    assert_eq!(server.pusher().push(&message).await, 503);
    // And a rejected record of a table, by a request with a header.
    let message = Push::new("rows", 3, "{\"id\":\"x\"}");
    assert_eq!(
        push(&server, &traceparent(TRACE, SPAN, "01"), &message).await?,
        503
    );
    let unkept = lines(&server, "A dead letter could not be kept").await?;
    let of = |trace: &str| format!("projects/acme/traces/{trace}");
    let (by_attribute, by_header) = (of(OTHER_TRACE), of(TRACE));
    assert_eq!(unkept.len(), 2, "{unkept:?}");
    assert_eq!(
        trace_of(&unkept[0]),
        (Some(by_attribute.as_str()), Some(OTHER_SPAN), Some(true))
    );
    assert_eq!(trace_of(&unkept[1]).0, Some(by_header.as_str()));
    for line in &unkept {
        assert_eq!(line["severity"], "ERROR");
        assert_eq!(
            line["@type"],
            "type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent"
        );
        let context = json!({"service": "ingest", "version": "ingest-00007-abc"});
        assert_eq!(line["serviceContext"], context);
    }
    Ok(())
}

/// A metadata server that counts its calls.
async fn metadata_server() -> TestResult<(String, Arc<AtomicUsize>)> {
    async fn answer(calls: Arc<AtomicUsize>, request: Request<Incoming>) -> Result<Answer, Broken> {
        let known = request.uri().path() == "/computeMetadata/v1/project/project-id"
            && request
                .headers()
                .get("metadata-flavor")
                .is_some_and(|flavor| flavor == "Google");
        assert!(known, "{request:?}");
        calls.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(Full::new("acme-by-machine".into())))
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let host = listener.local_addr()?.to_string();
    let calls = Arc::<AtomicUsize>::default();
    tokio::spawn(serve_http(listener, calls.clone(), answer));
    Ok((host, calls))
}

async fn project_is_asked_for_once_a_line_needs_it() -> TestResult {
    let lake = Lake::new()?;
    let (host, calls) = metadata_server().await?;
    let mut command = landfast(["serve", "--config"]);
    command
        .arg(lake.config("", TABLE)?)
        .env_remove("GOOGLE_CLOUD_PROJECT")
        .env("GCE_METADATA_HOST", host)
        .env("K_SERVICE", "ingest");
    let server = Server::start(command).await?;
    let parent = traceparent(TRACE, SPAN, "01");
    let message = |id: i64| Push::json("rows", id, &json!({"id": id}));
    server.logged(&["listening on"]).await?;
    assert_eq!(calls.load(Ordering::SeqCst), 0, "no call at the start");
    let named = format!("projects/acme-by-machine/traces/{TRACE}");
    for id in 0.. {
        assert_eq!(push(&server, &parent, &message(id)).await?, 204);
        let told = lines(&server, "Committed.").await?;
        if told.iter().any(|line| line[TRACE_FIELD] == named) {
            break;
        }
        assert!(id < 50, "{told:?}");
    }
    // The first line that had one to name.
    let created = lines(&server, "Created the table.").await?;
    assert_eq!(created[0][TRACE_FIELD], TRACE, "the id alone until the answer");
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    Ok(())
}

async fn malformed_headers_are_ignored_and_not_repeated() -> TestResult {
    let lake = Lake::new()?;
    let server = serve(&lake, TABLE).await?;
    for (name, value) in [
        ("traceparent", "00-MARKED-b7ad6b7169203331-01"),
        ("traceparent", "\",\"severity\":\"MARKED"),
        ("x-cloud-trace-context", "MARKED/1;o=1"),
        (
            "x-cloud-trace-context",
            "0af7651916cd43dd8448eb211c80319c/MARKED;o=1",
        ),
    ] {
        let headers = [(name, value)];
        assert_eq!(send(&server, "/", &headers, "{}".to_owned()).await?, 400);
    }
    let marked = Push::new("rows", 1, "{\"id\":1}").attribute("googclient_traceparent", "00-MARKED");
    assert_eq!(server.pusher().push(&marked).await, 204);
    let refused = lines(&server, "A request was refused.").await?;
    assert_eq!(trace_of(&refused[0]), (None, None, None));
    server.logged(&["Committed."]).await?;
    assert!(!server.log().contains("MARKED"), "{}", server.log());
    Ok(())
}

async fn nothing_is_told_of_a_message_that_lands() -> TestResult {
    let lake = Lake::new()?;
    let table = TABLE.replace("schema", "batch: { commit_interval: 1s }, schema");
    let mut server = serve(&lake, &table).await?;
    let pushes: Vec<_> = (0..200)
        .map(|id| Push::json("rows", id, &json!({"id": id})))
        .collect();
    let before = server.log().lines().count();
    assert!(
        server
            .pusher()
            .push_all(&pushes, 100)
            .await
            .iter()
            .all(|status| *status == 204)
    );
    server.terminate()?;
    assert!(server.exited().await?.success());
    let commits = lines(&server, "Committed.").await?;
    let others = server.log().lines().count() - before - commits.len();
    // That the table was created, and the stop's two.
    assert!(others <= 3, "{}", server.log());
    let deliveries: u64 = commits
        .iter()
        .filter_map(|line| line["deliveries"].as_u64())
        .sum();
    assert_eq!(deliveries, 200);
    Ok(())
}
