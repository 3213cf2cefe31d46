//! The HTTP trigger: pushes in, an answer once their commit is durable; and what the calls share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use chrono::DateTime;
use http_body_util::BodyExt;
use iceberg::TableIdent;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::time::Instant;

use super::delivery::fingerprint;
use super::event::{Event, Form, Told};
use super::problem::Problem;
use super::{
    Access, Ack, Answer, Delivery, DeliveryId, Envelope, Held, Limits, ObjectEvent, Page, Push, Pushers,
    Receipt, forwarded, objects, page, records,
};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::random::Random;
use crate::telemetry::{self, Span, Trace, within};

/// A body from here on is parsed on a thread of its own: some hundred microseconds of JSON and base64.
const PARSE_ASIDE_BYTES: usize = 256 << 10;

/// A body of a refused request up to here has come with its head, and is thrown away; the connection lives on.
const DRAINED_BYTES: usize = 8 << 10;

/// Where to send what, for those who sent it elsewhere.
const PATHS: &str = "pushes go to POST /, rows to POST /v1/tables/{namespace.table}/records";

/// What takes deliveries in. It answers through their ack handles.
pub trait Intake: Send + Sync {
    /// Who a message is: equal for all copies of it.
    fn identify(&self, push: &Push) -> DeliveryId;

    /// Takes a delivery; returns at once.
    fn accept(&self, delivery: Delivery);

    /// Takes a delivery whose payload never came to light; `raw` is what stood in its place. Returns at once.
    fn accept_undecodable(&self, delivery: Delivery, raw: Bytes);

    /// Whether objects of the bucket are wanted, so that a message that tells of one stands for it.
    fn has_bucket(&self, bucket: &str) -> bool;

    /// Takes the delivery of an object, whose payload is still in its bucket; returns at once.
    fn accept_object(&self, object: ObjectEvent, delivery: Delivery);

    /// The table that a caller names for its rows.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the name is none, [`ErrorKind::NotFound`] when the configuration has no such table.
    fn named_table(&self, name: &str) -> Result<TableIdent>;

    /// Takes rows for a table that [`Intake::named_table`] gave. Returns at once.
    fn accept_rows(&self, table: TableIdent, delivery: Delivery);
}

/// What the handlers share.
pub struct Server {
    /// Takes deliveries in.
    pub intake: Arc<dyn Intake>,
    /// Held bytes and requests.
    pub limits: Arc<Limits>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Names requests that bring no name.
    pub random: Arc<Random>,
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// Who may push.
    pub pushers: Pushers,
    /// Who may send rows and see the metrics.
    pub access: Access,
    /// The status page, where there is one.
    pub page: Option<Page>,
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
    /// The subscription's acknowledgement deadline.
    pub ack_deadline: Duration,
    /// Keeps the log of refusals short.
    pub refusals: telemetry::Seldom,
    /// Set when the process stops: pushes are refused, readiness fails.
    pub draining: AtomicBool,
}

/// The routes of the server: pushes, rows sent directly, health, metrics and the status page.
pub fn router(server: Arc<Server>) -> Router {
    probed(&server)
        .route("/", post(push))
        .route("/v1/tables/{table}/records", post(records::post_records))
        .method_not_allowed_fallback(no_such_method)
        .fallback(no_such_path)
        .with_state(server)
}

/// The routes of a process that takes nothing over HTTP: health, metrics and the status page.
pub fn probes(server: Arc<Server>) -> Router {
    probed(&server)
        .method_not_allowed_fallback(nothing_to_send_here)
        .fallback(nothing_to_send_here)
        .with_state(server)
}

fn probed(server: &Server) -> Router<Arc<Server>> {
    page::routes(server.page.is_some())
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(ready))
        .route("/metrics", get(render_metrics))
}

async fn nothing_to_send_here() -> Response {
    let message = "This process pulls: it answers GET /, /v1/tables, /health/live, /health/ready and /metrics, and takes \
                   nothing. Pushes and rows go to `landfast serve`.";
    Problem(Error::new(ErrorKind::NotFound, message)).with_status(404)
}

async fn no_such_path() -> Response {
    let error = Error::new(ErrorKind::NotFound, format!("There is no such path; {PATHS}."));
    // The one place where a missing thing is the caller's mistake, not a table's absence.
    Problem(error).with_status(404)
}

async fn no_such_method() -> Response {
    let error = Error::new(
        ErrorKind::NotFound,
        format!("This path does not take this method; {PATHS}."),
    );
    Problem(error).with_status(405)
}

async fn ready(State(server): State<Arc<Server>>) -> Response {
    if server.draining.load(Ordering::Acquire) {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    "ready\n".into_response()
}

async fn render_metrics(State(server): State<Arc<Server>>, uri: Uri, headers: HeaderMap) -> Response {
    if let Err(error) = server.access.check(&uri, &headers) {
        return Problem(error).into_response();
    }
    metrics::gauge!(telemetry::HELD_BYTES).set(server.limits.held_bytes() as f64);
    metrics::gauge!(telemetry::HELD_REQUESTS).set(server.limits.held_requests() as f64);
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4")],
        server.metrics.render(),
    )
        .into_response()
}

async fn push(State(server): State<Arc<Server>>, request: Request) -> Response {
    let long = is_long(request.headers());
    let trace = Trace::of_request(request.headers());
    let error = match within(trace, server.take_push(request)).await {
        Ok(()) => return StatusCode::NO_CONTENT.into_response(),
        Err(error) => error,
    };
    let unread = matches!(
        error.kind(),
        ErrorKind::Unauthenticated
            | ErrorKind::Forbidden
            | ErrorKind::Full
            | ErrorKind::TooLarge
            | ErrorKind::UnsupportedFormat
            | ErrorKind::ShuttingDown
    ) || error.names("keys");
    let response = Problem(error).into_response();
    if unread && long {
        closing(response)
    } else {
        response
    }
}

/// Whether the body is too long to have come with the head, or may be.
pub(super) fn is_long(headers: &HeaderMap) -> bool {
    declared_length(headers).is_none_or(|length| length > DRAINED_BYTES)
}

/// The answer to a request whose body was not read: the connection ends with it, and says so, or the next request on it
/// would get no answer.
pub(super) fn closing(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn declared_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl Server {
    /// Takes a push and waits until its delivery is committed or dead-lettered.
    async fn take_push(&self, request: Request) -> Result<()> {
        let arrived = Instant::now();
        let answer = match self.take_event(request, arrived).await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Ok(()),
            Err(error) => {
                self.refused("push", error.kind().name(), &error.report());
                return Err(error);
            }
        };
        match self.outcome(answer, arrived).await {
            Some(outcome) => outcome.map(drop),
            None => Err(Error::new(
                ErrorKind::Unavailable,
                "The commit did not get through before the ack deadline; deliver it again.",
            )),
        }
    }

    /// Counts a request that did not become a delivery, and tells of it now and then. A push comes again by itself.
    pub(super) fn refused(&self, call: &'static str, reason: &'static str, report: &str) {
        metrics::counter!(telemetry::REFUSALS, "reason" => reason).increment(1);
        if let Some(count) = self.refusals.tell(&format!("{call} {reason}")) {
            tracing::warn!(call, error = report, count, "A request was refused.");
        }
    }

    /// Waits for what becomes of a delivery; `None` when the sender's patience ends before. A handle that is dropped or
    /// forgotten must not outlive it.
    pub(super) async fn outcome(&self, answer: Answer, arrived: Instant) -> Option<Result<Receipt>> {
        answer.outcome_until(arrived + self.patience()).await
    }

    /// How long a request is worked on: its answer must be back before the sender's ack deadline.
    fn patience(&self) -> Duration {
        self.ack_deadline.mul_f64(0.95)
    }

    /// From a request's arrival to the moment when work on it stops: a margin before the ack deadline, for the answer's way
    /// back: 10 s, or half of a short deadline.
    fn working_time(&self) -> Duration {
        let margin = Duration::from_secs(10).min(self.ack_deadline / 2);
        self.ack_deadline.saturating_sub(margin)
    }

    /// Takes a request slot.
    ///
    /// # Errors
    /// [`ErrorKind::ShuttingDown`] and [`ErrorKind::Full`], before anything of the body is read.
    pub(super) fn admit(&self) -> Result<Held> {
        if self.draining.load(Ordering::Acquire) {
            return Err(Error::new(
                ErrorKind::ShuttingDown,
                "The process is stopping; deliver it again.",
            ));
        }
        self.limits.admit()
    }

    /// Reads the request within the limits, and hands on what it brings. Nothing is read past them. `None` where it tells of
    /// nothing that could land.
    async fn take_event(&self, request: Request, arrived: Instant) -> Result<Option<Answer>> {
        // Before a slot is taken: who may not push takes none from who may.
        self.pushers.check(request.headers()).await?;
        let mut held = self.admit()?;
        let (parts, body) = request.into_parts();
        let form = Form::of(&parts.headers)?;
        let body = self.read_body(&parts.headers, body, &mut held).await?;
        match parse(form, parts.headers, body).await? {
            Event::Object(told) => Ok(self.take_told(told, held, arrived)),
            Event::Message(push) => self.take_message(push, held, arrived),
        }
    }

    /// Hands on a message, or what it tells of an object of a bucket that objects are taken from.
    ///
    /// # Errors
    /// [`ErrorKind::NotAnEvent`] for a notification that names no generation.
    pub(super) fn take_message(&self, push: Push, held: Held, arrived: Instant) -> Result<Option<Answer>> {
        if Told::bucket_of(&push).is_some_and(|bucket| self.intake.has_bucket(bucket))
            && let Some(told) = Told::by_message(&push)
        {
            return Ok(self.take_told(told?, held, arrived));
        }
        Ok(Some(self.take_payload(push, held, arrived)))
    }

    fn take_told(&self, told: Told, mut held: Held, arrived: Instant) -> Option<Answer> {
        let object = match told {
            Told::Finalized(object) => object,
            Told::Other(other) => {
                objects::count(other);
                return None;
            }
        };
        held.shrink_to(bytes_of(&object.attributes));
        let id = DeliveryId::object(&object.bucket, &object.name, object.generation);
        // A letter of it is the same whenever it is told of.
        let numbered = || DateTime::from_timestamp(id.index_time(), 0).unwrap_or_default();
        let envelope = Envelope {
            published_at: object.created.unwrap_or_else(numbered),
            id,
            source: format!("gs://{}/{}", object.bucket, object.name),
            received_at: self.clock.now(),
            fingerprint: None,
            division: None,
            attributes: object.attributes.clone(),
        };
        let (delivery, answer) = self.delivery(envelope, Bytes::new(), held, arrived);
        self.intake.accept_object(object, delivery);
        Some(answer)
    }

    fn take_payload(&self, push: Push, mut held: Held, arrived: Instant) -> Answer {
        forwarded::tell(self, &push);
        let id = self.intake.identify(&push);
        let (payload, undecodable) = match push.data {
            Ok(payload) => (payload, None),
            Err(raw) => (Bytes::new(), Some(raw)),
        };
        let attributes = bytes_of(&push.attributes);
        held.shrink_to(payload.len() + undecodable.as_ref().map_or(0, Bytes::len) + attributes);
        let envelope = Envelope {
            fingerprint: id.is_by_attribute().then(|| fingerprint(&payload)),
            id,
            source: push.subscription,
            published_at: push.publish_time,
            received_at: self.clock.now(),
            division: None,
            attributes: push.attributes,
        };
        let (delivery, answer) = self.delivery(envelope, payload, held, arrived);
        match undecodable {
            None => self.intake.accept(delivery),
            Some(raw) => self.intake.accept_undecodable(delivery, raw),
        }
        answer
    }

    /// Makes a delivery that must be through in the request's working time.
    pub(super) fn delivery(
        &self,
        envelope: Envelope,
        payload: Bytes,
        held: Held,
        arrived: Instant,
    ) -> (Delivery, Answer) {
        let (ack, answer) = Ack::new();
        let span = span_of(&envelope, arrived);
        let delivery = Delivery {
            envelope,
            payload,
            ack,
            held,
            deadline: arrived + self.working_time(),
            trace: span.trace(),
            is_replay: false,
            part_of: None,
        };
        (delivery, answer.with_span(span))
    }

    /// Reads a body within the limits, and within half of the working time: a delivery shares its batch's commit with
    /// others, whose time must not be over because this one's is.
    pub(super) async fn read_body(&self, headers: &HeaderMap, body: Body, held: &mut Held) -> Result<Bytes> {
        let reading = self.read_frames(headers, body, held);
        tokio::time::timeout(self.working_time() / 2, reading)
            .await
            .unwrap_or_else(|_elapsed| {
                Err(Error::new(
                    ErrorKind::Unavailable,
                    "The body took more than half of the time that server.ack_deadline leaves; the other half is for the \
                     commit. Send it again, faster or in smaller parts.",
                ))
            })
    }

    async fn read_frames(&self, headers: &HeaderMap, mut body: Body, held: &mut Held) -> Result<Bytes> {
        let length = declared_length(headers).unwrap_or(0);
        if length > self.max_body_bytes {
            return Err(self.too_large());
        }
        held.grow(length)?;
        let mut bytes = Vec::with_capacity(length);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Error::new(ErrorKind::NotAnEvent, "The body broke off.").with_source(error)
            })?;
            let Ok(data) = frame.into_data() else { continue };
            let total = bytes.len().saturating_add(data.len());
            if total > self.max_body_bytes {
                return Err(self.too_large());
            }
            held.grow(total.saturating_sub(held.bytes()))?;
            bytes.extend_from_slice(&data);
        }
        Ok(Bytes::from(bytes))
    }

    fn too_large(&self) -> Error {
        Error::new(ErrorKind::TooLarge, "The body is larger than max_body_bytes.")
            .with("max_body_bytes", self.max_body_bytes)
    }
}

/// The span of a delivery, in the trace of the request that brought it, or else of its message's publisher.
fn span_of(envelope: &Envelope, arrived: Instant) -> Span {
    let message = Trace::of_message(&envelope.attributes);
    let mut span = Span::of_delivery(Trace::current(), message, arrived.elapsed());
    if span.is_recorded() {
        span.set("delivery.source", envelope.source.clone());
        span.set("delivery.id", envelope.id.name().to_owned());
    }
    span
}

fn bytes_of(attributes: &BTreeMap<String, String>) -> usize {
    attributes
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum()
}

/// Parses the body; a large one off the async threads, where it would hold up other requests.
async fn parse(form: Form, headers: HeaderMap, body: Bytes) -> Result<Event> {
    if body.len() < PARSE_ASIDE_BYTES {
        return form.read(&headers, body);
    }
    tokio::task::spawn_blocking(move || form.read(&headers, body))
        .await
        .unwrap_or_else(|error| {
            Err(
                Error::new(ErrorKind::Unavailable, "The parser stopped; deliver it again.")
                    .with_source(error),
            )
        })
}

/// The content type in small letters, without its parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().unwrap_or_default();
    let name = text.split(';').next().unwrap_or_default();
    Some(name.trim().to_ascii_lowercase())
}

pub(super) fn is_json(media_type: &str) -> bool {
    media_type == "application/json" || media_type.ends_with("+json")
}
