//! Spans: what one delivery, and one commit of many deliveries, took.
//!
//! Without a collector nothing is made: a span is then the trace that the sender named, and costs no more.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::{SdkTracer, Span as SdkSpan};

use super::trace::Trace;
use crate::error::ErrorKind;

/// A delivery, from its arrival to its answer.
pub const TRIGGER: &str = "trigger";
/// A delivery's bytes to columns; child of its [`TRIGGER`].
pub const DECODE: &str = "decode";
/// A batch, from its hand-over to its commit; linked to the [`TRIGGER`]s of its deliveries. That of a single one is its child.
pub const COMMIT: &str = "commit";
/// One step that takes committed snapshots to their readers; child of the newest [`COMMIT`], linked to the others.
pub const PUBLISH: &str = "publish";

/// Deliveries that a commit is linked to; those beyond are in its number of deliveries alone.
pub(super) const MAX_LINKS: usize = 128;

/// Makes the spans, where they are sent somewhere.
pub(super) static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// A piece of work in a trace. It ends when it is dropped.
#[derive(Debug, Default)]
pub struct Span {
    trace: Trace,
    /// None where nothing is sent, or this is not sampled.
    recorded: Option<Box<SdkSpan>>,
}

impl Span {
    /// Starts a part of some work; a trace of its own where that is in none.
    pub fn start(name: &'static str, parent: Trace) -> Self {
        Self::build(SpanBuilder::from_name(name), parent)
    }

    /// Starts a part of a delivery; nothing where its trace is not kept.
    pub fn part(name: &'static str, delivery: Trace) -> Self {
        match delivery.is_sampled() {
            true => Self::start(name, delivery),
            false => Self::unrecorded(delivery),
        }
    }

    /// Starts what a delivery took, `elapsed` ago. `parent` is the trace of what brought it, `message` the one that its
    /// publisher named: its parent where it was brought by none, else linked.
    pub fn of_delivery(parent: Trace, message: Trace, elapsed: Duration) -> Self {
        let (parent, link) = match parent.is_some() {
            true => (parent, message),
            false => (message, Trace::default()),
        };
        let mut span = match TRACER.get() {
            None => return Self::unrecorded(parent),
            Some(_) => {
                let started = SystemTime::now().checked_sub(elapsed);
                let builder = SpanBuilder::from_name(TRIGGER).with_kind(SpanKind::Consumer);
                Self::build(
                    builder.with_start_time(started.unwrap_or_else(SystemTime::now)),
                    parent,
                )
            }
        };
        if link != parent {
            span.link(link);
        }
        span
    }

    /// Starts what is done for many deliveries at once. It is kept where one of them is.
    pub fn of_many(name: &'static str, deliveries: impl Iterator<Item = Trace>) -> Self {
        let mut deliveries = deliveries.filter(|trace| trace.is_some()).peekable();
        let first = deliveries.peek().copied().unwrap_or_default();
        if TRACER.get().is_none() || !first.is_some() {
            return Self::start(name, first);
        }
        let sampled: Vec<Trace> = deliveries
            .filter(|trace| trace.is_sampled())
            .take(MAX_LINKS)
            .collect();
        match sampled.as_slice() {
            [] => Self::unrecorded(first),
            [only] => Self::start(name, *only),
            many => {
                let links = many.iter().map(|trace| Link::with_context((*trace).into()));
                let builder = SpanBuilder::from_name(name).with_links(links.collect());
                Self::build(builder, Trace::default())
            }
        }
    }

    /// The trace that it is in, with itself as the span where it is kept.
    pub fn trace(&self) -> Trace {
        self.trace
    }

    /// Links it to another trace, if there is one that is kept.
    pub fn link(&mut self, to: Trace) {
        if let Some(span) = self.recorded.as_mut().filter(|_| to.is_sampled()) {
            span.add_link(to.into(), Vec::new());
        }
    }

    /// Says something of it; never of a payload.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.recorded {
            span.set_attribute(KeyValue::new(name, value));
        }
    }

    /// Whether anything that is said of it is kept: what is dear to say need not be said otherwise.
    pub fn is_recorded(&self) -> bool {
        self.recorded.is_some()
    }

    /// It failed; the kind of the error is kept, its text is the log's.
    pub fn failed(&mut self, kind: ErrorKind) {
        let kind = kind.name();
        self.set("error.type", kind);
        if let Some(span) = &mut self.recorded {
            span.set_status(Status::error(kind));
        }
    }

    fn unrecorded(trace: Trace) -> Self {
        Self {
            trace,
            recorded: None,
        }
    }

    fn build(builder: SpanBuilder, parent: Trace) -> Self {
        let Some(tracer) = TRACER.get() else {
            return Self::unrecorded(parent);
        };
        let context = match parent.is_some() {
            true => Context::new().with_remote_span_context(SpanContext::from(parent)),
            false => Context::new(),
        };
        let span = tracer.build_with_context(builder, &context);
        let own = Trace::from(span.span_context());
        match (span.is_recording(), parent.is_some()) {
            (true, _) => Self {
                trace: own,
                recorded: Some(Box::new(span)),
            },
            // Nobody will find a span that is not kept, so its lines are its parent's.
            (false, true) => Self::unrecorded(parent.unsampled()),
            (false, false) => Self::unrecorded(own),
        }
    }
}
