//! Which trace a request belongs to, as its sender says, and which one the running work is part of.
//!
//! A trace travels with the work: a request's task has it, its delivery takes it along, and every line that is logged
//! within is marked with it. A header that is not well formed counts as none, and is never repeated anywhere.

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// The header of the [W3C](https://www.w3.org/TR/trace-context/#traceparent-header).
const TRACEPARENT: &str = "traceparent";
/// Google's own, from before that.
const CLOUD_TRACE: &str = "x-cloud-trace-context";
/// The attribute in which Pub/Sub's clients put a publisher's `traceparent`, when their OpenTelemetry tracing is on.
const MESSAGE_TRACEPARENT: &str = "googclient_traceparent";

tokio::task_local! {
    static CURRENT: Trace;
}

/// A trace, the span of it that work belongs to, and whether the trace is kept. The default is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    id: TraceId,
    span: SpanId,
    sampled: bool,
    /// Whether the span is another process's.
    remote: bool,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            id: TraceId::INVALID,
            span: SpanId::INVALID,
            sampled: false,
            remote: false,
        }
    }
}

impl Trace {
    /// The trace that a request's headers name; `traceparent` before `X-Cloud-Trace-Context`.
    pub fn of_request(headers: &HeaderMap) -> Self {
        let named = only(headers, TRACEPARENT).and_then(Self::from_traceparent);
        let named = named.or_else(|| only(headers, CLOUD_TRACE).and_then(Self::from_cloud_trace));
        named.unwrap_or_default()
    }

    /// The trace that a message's publisher named in its attributes.
    pub fn of_message(attributes: &BTreeMap<String, String>) -> Self {
        let named = attributes.get(MESSAGE_TRACEPARENT);
        named
            .and_then(|text| Self::from_traceparent(text))
            .unwrap_or_default()
    }

    /// The trace that the running task works for.
    pub fn current() -> Self {
        CURRENT.try_with(|trace| *trace).unwrap_or_default()
    }

    /// Whether there is one.
    pub fn is_some(self) -> bool {
        self.id != TraceId::INVALID
    }

    /// Whether its spans are kept, as far as is known.
    pub fn is_sampled(self) -> bool {
        self.sampled
    }

    /// Its id; 32 hexadecimal digits when shown.
    pub(super) fn id(self) -> TraceId {
        self.id
    }

    /// The span, unless the sender named none; 16 hexadecimal digits when shown.
    pub(super) fn span(self) -> Option<SpanId> {
        (self.span != SpanId::INVALID).then_some(self.span)
    }

    /// The same trace, of which nothing is kept here.
    pub(super) fn unsampled(self) -> Self {
        Self {
            sampled: false,
            ..self
        }
    }

    /// Does something as a part of the trace.
    pub fn scope<T>(self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self, work)
    }

    fn from_traceparent(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = hex(parts.next()?, 2)?;
        let (id, span) = (hex(parts.next()?, 32)?, hex(parts.next()?, 16)?);
        let flags = hex(parts.next()?, 2)?;
        // A later version may add parts; 255 is none.
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return None;
        }
        let span = u64::try_from(span).ok().filter(|span| *span != 0)?;
        Self::new(id, span, flags)
    }

    /// `TRACE/SPAN;o=OPTIONS`, the span in decimal digits; span and options may be missing.
    fn from_cloud_trace(text: &str) -> Option<Self> {
        let (ids, options) = text.split_once(';').unwrap_or((text, "o=0"));
        let (id, span) = ids.split_once('/').unwrap_or((ids, "0"));
        let options = decimal(options.strip_prefix("o=")?)?;
        Self::new(hex(&id.to_ascii_lowercase(), 32)?, decimal(span)?, options.into())
    }

    fn new(id: u128, span: u64, flags: u128) -> Option<Self> {
        let trace = Self {
            id: TraceId::from(id),
            span: SpanId::from(span),
            sampled: flags & 1 == 1,
            remote: true,
        };
        trace.is_some().then_some(trace)
    }
}

impl From<&SpanContext> for Trace {
    fn from(context: &SpanContext) -> Self {
        Self {
            id: context.trace_id(),
            span: context.span_id(),
            sampled: context.is_sampled(),
            remote: context.is_remote(),
        }
    }
}

impl From<Trace> for SpanContext {
    fn from(trace: Trace) -> Self {
        let flags = TraceFlags::NOT_SAMPLED.with_sampled(trace.sampled);
        Self::new(trace.id, trace.span, flags, trace.remote, TraceState::NONE)
    }
}

/// Works as a part of a trace. What is spawned meanwhile is not: it takes the trace along itself.
pub async fn within<T>(trace: Trace, work: impl Future<Output = T>) -> T {
    CURRENT.scope(trace, work).await
}

/// The text of a header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then(|| value.trim())
}

/// A number of exactly so many hexadecimal digits, in small letters as the W3C has them.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_number = text.len() == digits && text.bytes().all(is_hex);
    is_number.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

/// A number of decimal digits alone: `parse` would take a sign.
fn decimal(text: &str) -> Option<u64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use opentelemetry::propagation::TextMapPropagator;
    use opentelemetry::trace::TraceContextExt;
    use opentelemetry_sdk::propagation::TraceContextPropagator;

    use super::*;

    const ID: &str = "0af7651916cd43dd8448eb211c80319c";

    fn of(headers: &[(&'static str, &str)]) -> Trace {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Trace::of_request(&map)
    }

    fn shown(trace: Trace) -> String {
        let span = trace.span().map(|span| span.to_string());
        format!("{} {span:?} {}", trace.id(), trace.is_sampled())
    }

    #[test]
    fn each_form_of_header_is_taken() {
        let parent = format!("00-{ID}-b7ad6b7169203331-01");
        let known = format!("{ID} Some(\"b7ad6b7169203331\") true");
        assert_eq!(shown(of(&[("traceparent", &parent)])), known);
        for (text, expected) in [
            (
                format!("{ID}/74;o=1"),
                format!("{ID} Some(\"000000000000004a\") true"),
            ),
            (
                format!("{ID}/74;o=0"),
                format!("{ID} Some(\"000000000000004a\") false"),
            ),
            (
                format!("{ID}/74"),
                format!("{ID} Some(\"000000000000004a\") false"),
            ),
            (
                format!("{}/74;o=3", ID.to_uppercase()),
                format!("{ID} Some(\"000000000000004a\") true"),
            ),
            (
                format!("{ID}/18446744073709551615;o=1"),
                format!("{ID} Some(\"ffffffffffffffff\") true"),
            ),
            (format!("{ID}/0;o=1"), format!("{ID} None true")),
            (format!("{ID};o=1"), format!("{ID} None true")),
            (ID.to_owned(), format!("{ID} None false")),
        ] {
            assert_eq!(shown(of(&[("x-cloud-trace-context", &text)])), expected, "{text}");
        }
        let other = "11111111111111111111111111111111/1;o=0";
        let both = [("x-cloud-trace-context", other), ("traceparent", parent.as_str())];
        assert_eq!(shown(of(&both)), known, "traceparent wins");
        let wrong = [("traceparent", "00-x"), ("x-cloud-trace-context", other)];
        assert!(of(&wrong).is_some(), "a wrong one does not win");
        let attributes = BTreeMap::from([("googclient_traceparent".to_owned(), parent)]);
        assert_eq!(shown(Trace::of_message(&attributes)), known);
    }

    #[test]
    fn malformed_headers_are_none() {
        let parent = format!("00-{ID}-b7ad6b7169203331-01");
        assert!(!of(&[("traceparent", &parent), ("traceparent", &parent)]).is_some());
        for text in [
            "",
            "/",
            ";",
            &format!("{ID}/"),
            &format!("{ID}/x;o=1"),
            &format!("{ID}/+7;o=1"),
            &format!("{ID}/18446744073709551616;o=1"),
            &format!("{ID}/7;o="),
            &format!("{ID}/7;1"),
            &format!("{ID}/7;o=1;o=1"),
            &format!("{}/7;o=1", &ID[1..]),
            &format!("{}g/7;o=1", &ID[1..]),
            "00000000000000000000000000000000/7;o=1",
            "größe/7;o=1",
        ] {
            assert_eq!(of(&[("x-cloud-trace-context", text)]), Trace::default(), "{text}");
        }
        assert_eq!(Trace::of_message(&BTreeMap::new()), Trace::default());
    }

    /// OpenTelemetry's own reader is asked about every form.
    #[test]
    fn traceparent_is_read_as_opentelemetry_reads_it() {
        let span = "b7ad6b7169203331";
        for text in [
            format!("00-{ID}-{span}-01"),
            format!("00-{ID}-{span}-00"),
            format!("00-{ID}-{span}-03"),
            format!("cc-{ID}-{span}-01"),
            format!("cc-{ID}-{span}-01-what-ever"),
            format!("00-{ID}-{span}-01-more"),
            format!("ff-{ID}-{span}-01"),
            format!("00-{}-{span}-01", ID.to_uppercase()),
            format!("00-{ID}-{}-01", span.to_uppercase()),
            format!("00-{}-{span}-01", "0".repeat(32)),
            format!("00-{ID}-{}-01", "0".repeat(16)),
            format!("00-{ID}-{span}"),
            format!("00_{ID}_{span}_01"),
            format!("00-{ID}-{span}-zz"),
            String::new(),
        ] {
            let carrier = std::collections::HashMap::from([("traceparent".to_owned(), text.clone())]);
            let theirs = TraceContextPropagator::new().extract(&carrier);
            let theirs = Trace::from(theirs.span().span_context());
            assert_eq!(of(&[("traceparent", &text)]), theirs, "{text}");
        }
        // Theirs is lax with the number of digits, which the W3C's form fixes.
        for text in [
            format!("00-{ID}-{span}-1"),
            format!("0-{ID}-{span}-01"),
            format!("00-{}-{span}-01", &ID[1..]),
            format!("00-{ID}-{}-01", &span[1..]),
            format!("00-{ID}0-{span}-01"),
            format!("00-{ID}-0{span}-01"),
        ] {
            assert_eq!(of(&[("traceparent", &text)]), Trace::default(), "{text}");
        }
    }
}
