//! A collector of traces: it takes OpenTelemetry's protocol over HTTP, or does not.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::http::{Answer, Broken, serve};
use crate::support::{TestResult, wait_for};

const WAIT: Duration = Duration::from_secs(20);

/// What a collector does with a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Takes it.
    Takes,
    /// Answers 503.
    Refuses,
    /// Takes none of its spans, and says so.
    Rejects,
    /// Never answers.
    Hangs,
}

/// A span as it came, its ids in hexadecimal digits.
#[derive(Debug, Clone)]
pub struct Span {
    pub name: String,
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub links: Vec<(String, String)>,
    pub nanos: std::ops::Range<u64>,
    pub failed: bool,
    pub attributes: BTreeMap<String, String>,
}

/// What came to it.
#[derive(Debug)]
struct Inner {
    manner: Manner,
    posts: Mutex<Vec<(BTreeMap<String, String>, ExportTraceServiceRequest)>>,
}

/// A running collector; it ends when it is dropped.
#[derive(Debug)]
pub struct Collector {
    inner: Arc<Inner>,
    address: String,
    task: JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Collector {
    pub async fn start(manner: Manner) -> TestResult<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        let inner = Arc::new(Inner {
            manner,
            posts: Mutex::default(),
        });
        Ok(Self {
            task: tokio::spawn(serve(listener, inner.clone(), answer)),
            inner,
            address,
        })
    }

    /// Its address, as `OTEL_EXPORTER_OTLP_ENDPOINT` has it.
    pub fn url(&self) -> &str {
        &self.address
    }

    /// Headers and bodies of the posts so far.
    pub fn posts(&self) -> Vec<(BTreeMap<String, String>, ExportTraceServiceRequest)> {
        let posts = self.inner.posts.lock().unwrap_or_else(PoisonError::into_inner);
        posts.clone()
    }

    /// Every span so far, in the order in which they ended.
    pub fn spans(&self) -> Vec<Span> {
        let posts = self.posts();
        let resources = posts.into_iter().flat_map(|(_, post)| post.resource_spans);
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).map(Span::from).collect()
    }

    /// Waits for so many spans of a name; gives them.
    pub async fn named(&self, name: &str, count: usize) -> TestResult<Vec<Span>> {
        wait_for(&format!("{count} spans {name}"), WAIT, async || {
            let mut spans = self.spans();
            spans.retain(|span| span.name == name);
            (spans.len() >= count).then_some(spans)
        })
        .await
    }
}

impl From<v1::Span> for Span {
    fn from(span: v1::Span) -> Self {
        Self {
            name: span.name,
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            links: span
                .links
                .iter()
                .map(|link| (hex(&link.trace_id), hex(&link.span_id)))
                .collect(),
            nanos: span.start_time_unix_nano..span.end_time_unix_nano,
            failed: span.status.is_some_and(|status| status.code == 2),
            attributes: texts(span.attributes),
        }
    }
}

/// Attributes as texts.
pub fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: any_value::Value| match value {
        any_value::Value::StringValue(text) => text,
        any_value::Value::IntValue(number) => number.to_string(),
        any_value::Value::BoolValue(is) => is.to_string(),
        other => format!("{other:?}"),
    };
    let values = attributes.into_iter();
    values
        .filter_map(|pair| Some((pair.key, text(pair.value?.value?))))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn answer(inner: Arc<Inner>, request: Request<Incoming>) -> Result<Answer, Broken> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_gone| Broken)?.to_bytes();
    let answer = |status: u16, body: Vec<u8>| {
        let mut answer = Response::new(Full::new(Bytes::from(body)));
        *answer.status_mut() = status.try_into().map_err(|_no_status| Broken)?;
        Ok(answer)
    };
    let (Ok(post), "/v1/traces") = (ExportTraceServiceRequest::decode(body), head.uri.path()) else {
        return answer(400, Vec::new());
    };
    let spans = post.resource_spans.iter().flat_map(|spans| &spans.scope_spans);
    let count: usize = spans.map(|scope| scope.spans.len()).sum();
    let headers = head.headers.iter();
    let headers = headers.map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.to_string(), value)
    });
    let posts = (headers.collect(), post);
    inner
        .posts
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(posts);
    match inner.manner {
        Manner::Takes => answer(200, Vec::new()),
        Manner::Refuses => answer(503, b"not now".to_vec()),
        Manner::Hangs => match std::future::pending::<Infallible>().await {},
        Manner::Rejects => {
            let partial_success = Some(ExportTracePartialSuccess {
                rejected_spans: count as i64,
                error_message: "too many".to_owned(),
            });
            let body = ExportTraceServiceResponse { partial_success };
            answer(200, body.encode_to_vec())
        }
    }
}
