//! Traces: what a sender names is in the log lines of its request and, where a collector is configured, in the spans of its
//! delivery and of the commit that it shares.

pub(crate) mod collector;
mod faults;
mod logs;
mod publish;

use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::json;

use self::collector::{Collector, Manner, Span, texts};
use crate::support::lake::Lake;
use crate::support::pubsub::PubSub;
use crate::support::push::Push;
use crate::support::server::{Server, landfast};
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    let spans = trials![
        push_is_a_span_of_the_trace_that_it_came_in,
        commit_of_many_is_linked_to_those_that_are_kept,
        publisher_names_the_trace_where_nobody_else_does,
        pulled_message_is_a_span_of_its_publishers_trace,
        commit_of_a_file_is_a_trace_of_its_own,
        sampler_decides_where_no_sender_did,
    ];
    [spans, faults::tests(), logs::tests(), publish::tests()]
        .into_iter()
        .flatten()
        .collect()
}

const TABLE: &str =
    "tables: { t.rows: { from: [{ subscription: rows }], schema: [{ name: id, type: long }] } }";

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";
const OTHER_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const OTHER_SPAN: &str = "00f067aa0ba902b7";

fn traceparent(trace: &str, span: &str, flags: &str) -> String {
    format!("00-{trace}-{span}-{flags}")
}

/// `landfast serve` that sends its traces to a collector, or wherever `url` says.
fn traced(config: &Path, url: &str) -> Command {
    let mut command = landfast(["serve", "--config"]);
    command.arg(config).env("OTEL_EXPORTER_OTLP_ENDPOINT", url);
    command
}

/// Posts to the server with headers; gives the status.
async fn send(server: &Server, path: &str, headers: &[(&str, &str)], body: String) -> TestResult<u16> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let request = client.post(format!("{}{path}", server.url())).body(body);
    let request = headers
        .iter()
        .fold(request, |request, (name, value)| request.header(*name, *value));
    Ok(request.send().await?.status().as_u16())
}

pub(crate) async fn push(server: &Server, traceparent: &str, push: &Push) -> TestResult<u16> {
    let headers = [("content-type", "application/json"), ("traceparent", traceparent)];
    send(server, "/", &headers, push.body().to_string()).await
}

/// The only one.
pub(crate) fn only(mut spans: Vec<Span>) -> Span {
    assert_eq!(spans.len(), 1, "{spans:?}");
    spans.remove(0)
}

fn contains(outer: &Span, inner: &Span) -> bool {
    outer.nanos.start <= inner.nanos.start && inner.nanos.end <= outer.nanos.end
}

async fn push_is_a_span_of_the_trace_that_it_came_in() -> TestResult {
    let (lake, collector) = (Lake::new()?, Collector::start(Manner::Takes).await?);
    let mut command = traced(&lake.config("", TABLE)?, &format!("{}/", collector.url()));
    command
        .env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cret")
        .env("OTEL_SERVICE_NAME", "ingest")
        .env("K_REVISION", "ingest-00001-x");
    let mut server = Server::start(command).await?;
    let message = Push::new("rows", "m-1", "{\"id\":77001}\n{\"id\":77002}").attribute(
        "googclient_traceparent",
        &traceparent(OTHER_TRACE, OTHER_SPAN, "01"),
    );
    assert_eq!(
        push(&server, &traceparent(TRACE, SPAN, "01"), &message).await?,
        204
    );
    // What was not sent yet is when it stops.
    server.terminate()?;
    assert!(server.exited().await?.success());
    let trigger = only(collector.named("trigger", 1).await?);
    let decode = only(collector.named("decode", 1).await?);
    let commit = only(collector.named("commit", 1).await?);
    assert_eq!((trigger.trace.as_str(), trigger.parent.as_str()), (TRACE, SPAN));
    assert_eq!(trigger.links, [(OTHER_TRACE.to_owned(), OTHER_SPAN.to_owned())]);
    for part in [&decode, &commit] {
        assert_eq!((part.trace.as_str(), &part.parent), (TRACE, &trigger.id));
        assert!(part.links.is_empty());
        assert!(contains(&trigger, part), "{trigger:?} {part:?}");
    }
    assert!(decode.nanos.end <= commit.nanos.start);
    for (name, value) in [
        ("delivery.id", "m-1"),
        ("delivery.source", "projects/p-test/subscriptions/rows"),
        ("rows", "2"),
        ("dead_letters", "0"),
        ("duplicate", "false"),
    ] {
        assert_eq!(trigger.attributes[name], value, "{name}");
    }
    for (name, value) in [("rows", "2"), ("deliveries", "1"), ("table.ident", "t.rows")] {
        assert_eq!(commit.attributes[name], value, "{name}");
    }
    assert_eq!(
        trigger.attributes["snapshot.id"],
        commit.attributes["snapshot.id"]
    );
    let (headers, post) = collector.posts().remove(0);
    assert_eq!(headers["authorization"], "Bearer s3cret");
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let resource = post.resource_spans[0].resource.clone().ok_or("a resource")?;
    let resource = texts(resource.attributes);
    assert_eq!(resource["service.name"], "ingest");
    assert_eq!(resource["faas.version"], "ingest-00001-x");
    let all = format!("{:?}{}", collector.posts(), server.log());
    assert!(
        !all.contains("77001") && !server.log().contains("s3cret"),
        "{all}"
    );
    Ok(())
}

async fn commit_of_many_is_linked_to_those_that_are_kept() -> TestResult {
    let (lake, collector) = (Lake::new()?, Collector::start(Manner::Takes).await?);
    let table = TABLE.replace("schema", "batch: { commit_interval: 3s }, schema");
    let server = Server::start(traced(&lake.config("", &table)?, collector.url())).await?;
    // The first is committed at once, the others together after that.
    assert_eq!(
        server.pusher().push(&Push::new("rows", 0, "{\"id\":0}")).await,
        204
    );
    let pushes: Vec<_> = (1..=4)
        .map(|id| Push::json("rows", id, &json!({"id": id})))
        .collect();
    let parents: Vec<_> = (1..=4)
        .map(|id| traceparent(&format!("{id:032x}"), SPAN, if id == 4 { "00" } else { "01" }))
        .collect();
    let sent = pushes.iter().zip(&parents);
    let sent = sent.map(|(message, parent)| push(&server, parent, message));
    for status in futures::future::join_all(sent).await {
        assert_eq!(status?, 204);
    }
    let mut triggers = collector.named("trigger", 4).await?;
    let mut commits = collector.named("commit", 2).await?;
    commits.retain(|commit| commit.attributes["deliveries"] == "4");
    let commit = only(commits);
    triggers.retain(|trigger| trigger.parent == SPAN);
    let mut kept: Vec<_> = triggers
        .into_iter()
        .map(|trigger| (trigger.trace, trigger.id))
        .collect();
    kept.sort();
    assert_eq!(kept.len(), 3, "{kept:?}");
    let mut links = commit.links.clone();
    links.sort();
    assert_eq!(links, kept);
    assert_eq!(commit.parent, "");
    assert!(!kept.iter().any(|(trace, _)| *trace == commit.trace));
    // The one that is not kept leaves nothing.
    let unkept = format!("{:032x}", 4);
    assert!(!collector.spans().iter().any(|span| span.trace == unkept));
    Ok(())
}

async fn publisher_names_the_trace_where_nobody_else_does() -> TestResult {
    let (lake, collector) = (Lake::new()?, Collector::start(Manner::Takes).await?);
    let server = Server::start(traced(&lake.config("", TABLE)?, collector.url())).await?;
    let named = traceparent(OTHER_TRACE, OTHER_SPAN, "01");
    let message = Push::new("rows", 1, "{\"id\":1}").attribute("googclient_traceparent", &named);
    assert_eq!(server.pusher().push(&message).await, 204);
    let trigger = only(collector.named("trigger", 1).await?);
    assert_eq!(
        (trigger.trace.as_str(), trigger.parent.as_str()),
        (OTHER_TRACE, OTHER_SPAN)
    );
    assert!(trigger.links.is_empty());
    // Rows sent directly: by Google's header, a letter among them; and one that is no delivery at all.
    let context = format!("{TRACE}/74;o=1");
    let headers = [("x-cloud-trace-context", context.as_str())];
    let path = "/v1/tables/t.rows/records";
    assert_eq!(
        send(&server, path, &headers, "{\"id\":2}\n{\"id\":\"x\"}".to_owned()).await?,
        200
    );
    assert_eq!(send(&server, path, &headers, String::new()).await?, 400);
    let trigger = collector.named("trigger", 2).await?.remove(1);
    assert_eq!(trigger.trace, TRACE);
    assert_eq!(trigger.parent, "000000000000004a");
    assert_eq!(trigger.attributes["delivery.source"], "http");
    assert_eq!(trigger.attributes["dead_letters"], "1");
    Ok(())
}

async fn pulled_message_is_a_span_of_its_publishers_trace() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    let collector = Collector::start(Manner::Takes).await?;
    pubsub.queue("rows").await?;
    let mut command = landfast(["pull", "--config"]);
    command
        .arg(lake.config("ack_deadline: 10s", TABLE)?)
        .args(["--subscription", &pubsub.full("rows")])
        .env("PUBSUB_EMULATOR_HOST", pubsub.host())
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url());
    let worker = Server::start(command).await?;
    let message = json!({
        "data": "eyJpZCI6MX0=",
        "attributes": { "googclient_traceparent": traceparent(OTHER_TRACE, OTHER_SPAN, "01") },
    });
    let ids = pubsub.send("rows", vec![message]).await?;
    let trigger = only(collector.named("trigger", 1).await?);
    assert_eq!(
        (trigger.trace.as_str(), trigger.parent.as_str()),
        (OTHER_TRACE, OTHER_SPAN)
    );
    assert_eq!(Some(&trigger.attributes["delivery.id"]), ids.first());
    let commit = only(collector.named("commit", 1).await?);
    assert_eq!((commit.trace.as_str(), commit.parent), (OTHER_TRACE, trigger.id));
    drop(worker);
    Ok(())
}

async fn commit_of_a_file_is_a_trace_of_its_own() -> TestResult {
    let (lake, collector) = (Lake::new()?, Collector::start(Manner::Takes).await?);
    let landing = lake.path().join("in");
    std::fs::create_dir(&landing)?;
    let from = format!("from: [{{ bucket: \"file://{}\" }}]", landing.display());
    let table = TABLE.replace("from: [{ subscription: rows }]", &from);
    let _server = Server::start(traced(&lake.config("", &table)?, collector.url())).await?;
    std::fs::write(landing.join("a.ndjson"), "{\"id\":1}\n")?;
    let commit = only(collector.named("commit", 1).await?);
    assert_eq!((commit.parent.as_str(), commit.links.len()), ("", 0));
    assert!(collector.spans().iter().all(|span| span.name != "trigger"));
    Ok(())
}

async fn sampler_decides_where_no_sender_did() -> TestResult {
    let (lake, collector) = (Lake::new()?, Collector::start(Manner::Takes).await?);
    let mut command = traced(&lake.config("", TABLE)?, collector.url());
    command.env("OTEL_TRACES_SAMPLER", "parentbased_always_off");
    let server = Server::start(command).await?;
    assert_eq!(
        server.pusher().push(&Push::new("rows", 1, "{\"id\":1}")).await,
        204
    );
    let message = Push::new("rows", 2, "{\"id\":2}");
    assert_eq!(
        push(&server, &traceparent(TRACE, SPAN, "01"), &message).await?,
        204
    );
    only(collector.named("commit", 1).await?);
    assert!(collector.spans().iter().all(|span| span.trace == TRACE));
    Ok(())
}
