//! Spans to a collector, by OpenTelemetry's protocol over HTTP.
//!
//! Whoever ends a span puts it into a bounded queue and goes on; where that is full the span is dropped and counted. One
//! task sends them in batches, and a batch that the collector does not take is dropped, too: nothing waits for it, and
//! nothing is kept for it. The SDK's own batching would count no drops, and needs a thread that blocks; its exporter reads
//! the environment by itself.

use std::sync::OnceLock;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use opentelemetry::trace::{Link, SpanKind, TraceContextExt, TraceId, TracerProvider};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    Sampler, SamplingDecision, SamplingResult, SdkTracerProvider, ShouldSample, Span as SdkSpan, SpanData,
    SpanProcessor,
};
use prost::Message;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Body, redirect, retry};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::span::{MAX_LINKS, TRACER};
use super::{DROPPED_SPANS, Seldom};
use crate::config::{Sampling, TraceExport};
use crate::error::{Error, ErrorKind, Result};

/// Spans that wait to be sent.
const QUEUE: usize = 4096;
/// Spans of one post at most.
const BATCH: usize = 512;
/// How long a span waits for others at most. Short, since Cloud Run may take the CPU away after a request.
const GATHER: Duration = Duration::from_secs(1);
/// How long the end of the process waits for the collector at most.
const FLUSH: Duration = Duration::from_secs(2);

/// An answer says in a few bytes what was refused.
const MAX_ANSWER_BYTES: usize = 64 << 10;

static SENDER: OnceLock<mpsc::Sender<Work>> = OnceLock::new();

enum Work {
    Span(Box<SpanData>),
    /// Drops the handle when all that came before is sent.
    Flush(oneshot::Sender<()>),
}

/// Starts sending spans. Nothing is sent before there are some. Call it within the runtime, once.
///
/// # Errors
/// [`ErrorKind::Unavailable`] when no client of HTTP can be made.
pub fn start_traces(export: &TraceExport) -> Result<()> {
    let (sender, queue) = mpsc::channel(QUEUE);
    let resource = resource(export);
    let collector = Collector::new(export, &resource)?;
    let provider = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(Choice(sampler(export.sampling)))
        .with_max_links_per_span(u32::try_from(MAX_LINKS).unwrap_or(u32::MAX))
        .with_span_processor(Queue(sender.clone()))
        .build();
    let scope = InstrumentationScope::builder("landfast")
        .with_version(env!("CARGO_PKG_VERSION"))
        .build();
    // A second start (tests) keeps the first one's.
    if SENDER.set(sender).is_ok() && TRACER.set(provider.tracer_with_scope(scope)).is_ok() {
        tokio::spawn(collector.run(queue));
    }
    Ok(())
}

/// Sends what waits, until then or for two seconds at most.
pub async fn flush_traces(until: Instant) {
    let Some(sender) = SENDER.get() else {
        return;
    };
    let flushing = async {
        let (done, all_sent) = oneshot::channel();
        if sender.send(Work::Flush(done)).await.is_ok() {
            let _dropped_when_done = all_sent.await;
        }
    };
    let until = until.min(Instant::now() + FLUSH);
    if timeout_at(until, flushing).await.is_err() {
        tracing::warn!("The collector did not take the last spans in time; they are lost.");
    }
}

fn resource(export: &TraceExport) -> Resource {
    let attributes = export.resource.iter().cloned();
    let attributes = attributes.map(|(name, value)| KeyValue::new(name, value));
    Resource::builder_empty().with_attributes(attributes).build()
}

fn sampler(sampling: Sampling) -> Sampler {
    let root = Sampler::TraceIdRatioBased(sampling.ratio);
    match sampling.parent_based {
        true => Sampler::ParentBased(Box::new(root)),
        false => root,
    }
}

/// The configured choice of what is kept. What has no parent but links is done for others, and made only where one of
/// them is kept: chance decides no second time.
#[derive(Debug, Clone)]
struct Choice(Sampler);

impl ShouldSample for Choice {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let has_parent = parent.is_some_and(|parent| parent.span().span_context().is_valid());
        if has_parent || links.is_empty() {
            return self
                .0
                .should_sample(parent, trace_id, name, kind, attributes, links);
        }
        SamplingResult {
            decision: SamplingDecision::RecordAndSample,
            attributes: Vec::new(),
            trace_state: Default::default(),
        }
    }
}

/// Takes ended spans, without waiting.
#[derive(Debug)]
struct Queue(mpsc::Sender<Work>);

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut SdkSpan, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.0.try_send(Work::Span(Box::new(span))).is_err() {
            count_dropped("queue_full", 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Where spans are sent.
struct Collector {
    http: reqwest::Client,
    export: TraceExport,
    resource: ResourceAttributesWithSchema,
    told: Seldom,
}

impl Collector {
    fn new(export: &TraceExport, resource: &Resource) -> Result<Self> {
        let mut http = reqwest::Client::builder();
        if export.endpoint.scheme() == "http" {
            // A collector beside this process, and nobody between.
            http = http.no_proxy();
        }
        let http = http
            .user_agent(concat!("landfast/", env!("CARGO_PKG_VERSION")))
            .timeout(export.timeout)
            // The headers are for one server.
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .build()
            .map_err(|error| {
                let message = "The client for the collector of traces cannot be made.";
                Error::new(ErrorKind::Unavailable, message).with_source(error)
            })?;
        Ok(Self {
            http,
            export: export.clone(),
            resource: resource.into(),
            told: Seldom::default(),
        })
    }

    /// Sends until nobody makes spans any more, which is the end of the process.
    async fn run(self, mut queue: mpsc::Receiver<Work>) {
        while let Some(first) = queue.recv().await {
            let (spans, flushed) = gather(first, &mut queue).await;
            if !spans.is_empty() {
                self.send(spans).await;
            }
            drop(flushed);
        }
    }

    /// Sends a batch once. What is not taken is dropped.
    async fn send(&self, spans: Vec<SpanData>) {
        let count = spans.len() as u64;
        let request = ExportTraceServiceRequest {
            resource_spans: group_spans_by_resource_and_scope(spans, &self.resource),
        };
        let (reason, dropped, error) = match self.post(request.encode_to_vec()).await {
            Ok(0) => return,
            Ok(refused) => ("refused", refused.min(count), "it refused them".to_owned()),
            Err(error) => ("not_sent", count, error),
        };
        count_dropped(reason, dropped);
        if let Some(times) = self.told.tell(reason) {
            tracing::warn!(
                spans = dropped,
                error,
                count = times,
                "The collector of traces did not take spans; they are lost."
            );
        }
    }

    /// Posts a batch; gives how many of its spans were refused.
    async fn post(&self, body: Vec<u8>) -> Result<u64, String> {
        // An address may hold a password.
        let failed = |error: reqwest::Error| reasons(&error.without_url());
        let response = self
            .http
            .post(self.export.endpoint.clone())
            .headers(self.export.headers.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))
            .body(body)
            .send()
            .await
            .map_err(failed)?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("it answered {}", status.as_u16()));
        }
        // What is no such answer, or is none in time, says of no span that it was refused.
        let answer = Limited::new(Body::from(response), MAX_ANSWER_BYTES)
            .collect()
            .await;
        let answer = answer.map(|answer| answer.to_bytes()).unwrap_or_default();
        let answer = ExportTraceServiceResponse::decode(answer).unwrap_or_default();
        let refused = answer.partial_success.map_or(0, |part| part.rejected_spans);
        Ok(u64::try_from(refused).unwrap_or_default())
    }
}

/// Takes what comes within a moment, up to a batch, or up to a flush.
async fn gather(
    first: Work,
    queue: &mut mpsc::Receiver<Work>,
) -> (Vec<SpanData>, Option<oneshot::Sender<()>>) {
    let due = Instant::now() + GATHER;
    let (mut spans, mut next) = (Vec::new(), Some(first));
    while let Some(work) = next {
        match work {
            Work::Span(span) => spans.push(*span),
            Work::Flush(done) => return (spans, Some(done)),
        }
        if spans.len() >= BATCH {
            break;
        }
        next = timeout_at(due, queue.recv()).await.ok().flatten();
    }
    (spans, None)
}

/// An error and its causes.
fn reasons(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

fn count_dropped(reason: &'static str, spans: u64) {
    metrics::counter!(DROPPED_SPANS, "reason" => reason).increment(spans);
}
