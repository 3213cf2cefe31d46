//! The HTTP trigger: pushes in, an answer once their commit is durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::BodyExt;
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::problem::Problem;
use super::{Ack, Answer, Delivery, DeliveryId, Envelope, Held, Limits, Push};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::telemetry;

/// A body from here on is parsed on a thread of its own: some hundred microseconds of JSON and base64.
const PARSE_ASIDE_BYTES: usize = 256 << 10;

/// A body of a refused request up to here has come with its head, and is thrown away; the connection lives on.
const DRAINED_BYTES: usize = 8 << 10;

/// What takes deliveries in. It answers through their ack handles.
pub trait Intake: Send + Sync {
    /// The scope in which a subscription's message ids are unique.
    fn source_of(&self, subscription: &str) -> String;

    /// Takes a delivery; returns at once.
    fn accept(&self, delivery: Delivery);

    /// Takes a delivery whose payload never came to light; `raw` is what stood in its place. Returns at once.
    fn accept_undecodable(&self, delivery: Delivery, raw: Bytes);
}

/// Who may see the calls that are not pushes.
#[derive(Debug, Clone)]
pub enum Access {
    /// Anyone: the server listens on a loopback address only.
    Open,
    /// Nobody: no token is configured.
    Refused,
    /// Whoever sends this bearer token.
    Bearer(SecretString),
}

/// What the handlers share.
pub struct Server {
    /// Takes deliveries in.
    pub intake: Arc<dyn Intake>,
    /// Held bytes and requests.
    pub limits: Arc<Limits>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// Who may see the metrics.
    pub access: Access,
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
    /// The subscription's acknowledgement deadline.
    pub ack_deadline: Duration,
    /// Keeps the log of refusals short.
    pub refusals: telemetry::Seldom,
    /// Set when the process stops: pushes are refused, readiness fails.
    pub draining: AtomicBool,
}

/// The routes of `INTERFACE`'s HTTP table that this version has.
pub fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/", post(push))
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(ready))
        .route("/metrics", get(render_metrics))
        .method_not_allowed_fallback(no_such_method)
        .fallback(no_such_path)
        .with_state(server)
}

async fn no_such_path() -> Response {
    let error = Error::new(ErrorKind::NotFound, "There is no such path; pushes go to POST /.");
    // The one place where a missing thing is the caller's mistake, not a table's absence.
    Problem(error).with_status(404)
}

async fn no_such_method() -> Response {
    let error = Error::new(
        ErrorKind::NotFound,
        "This path does not take this method; pushes go to POST /.",
    );
    Problem(error).with_status(405)
}

async fn ready(State(server): State<Arc<Server>>) -> Response {
    if server.draining.load(Ordering::Acquire) {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    "ready\n".into_response()
}

async fn render_metrics(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    if let Err(error) = server.access.check(&headers) {
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
    let long = declared_length(request.headers()).is_none_or(|length| length > DRAINED_BYTES);
    let error = match server.take_push(request).await {
        Ok(()) => return StatusCode::NO_CONTENT.into_response(),
        Err(error) => error,
    };
    let unread = matches!(
        error.kind(),
        ErrorKind::Full | ErrorKind::TooLarge | ErrorKind::UnsupportedFormat | ErrorKind::ShuttingDown
    );
    let mut response = Problem(error).into_response();
    if unread && long {
        // The connection ends with what was not read: say so, or the next request on it gets no answer.
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn declared_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl Server {
    /// Takes a push and waits until its delivery is committed or dead-lettered.
    async fn take_push(&self, request: Request) -> Result<()> {
        let arrived = Instant::now();
        let (delivery, answer, undecodable) = match self.read_delivery(request, arrived).await {
            Ok(read) => read,
            Err(error) => {
                metrics::counter!(telemetry::REFUSALS, "reason" => error.kind().name()).increment(1);
                if let Some(count) = self.refusals.tell(error.kind().name()) {
                    tracing::warn!(
                        error = error.report(),
                        count,
                        "A request was refused. Its sender sends it again."
                    );
                }
                return Err(error);
            }
        };
        match undecodable {
            None => self.intake.accept(delivery),
            Some(raw) => self.intake.accept_undecodable(delivery, raw),
        }
        // A handle that is dropped or forgotten must not outlive the sender's patience.
        let patience = arrived + self.ack_deadline.mul_f64(0.95);
        match tokio::time::timeout_at(patience, answer.outcome()).await {
            Ok(outcome) => outcome.map(drop),
            Err(_elapsed) => Err(Error::new(
                ErrorKind::Unavailable,
                "The commit did not get through before the ack deadline; deliver it again.",
            )),
        }
    }

    /// Reads the request within the limits. Nothing is read past them.
    async fn read_delivery(
        &self,
        request: Request,
        arrived: Instant,
    ) -> Result<(Delivery, Answer, Option<Bytes>)> {
        if self.draining.load(Ordering::Acquire) {
            return Err(Error::new(
                ErrorKind::ShuttingDown,
                "The process is stopping; deliver it again.",
            ));
        }
        let mut held = self.limits.admit()?;
        let (parts, body) = request.into_parts();
        check_media_type(&parts.headers)?;
        let reading = self.read_body(&parts.headers, body, &mut held);
        let body = tokio::time::timeout(self.ack_deadline, reading)
            .await
            .map_err(|_elapsed| {
                Error::new(
                    ErrorKind::Unavailable,
                    "The body did not arrive before the ack deadline.",
                )
            })??;
        let push = parse(body).await?;
        let (payload, undecodable) = match push.data {
            Ok(payload) => (payload, None),
            Err(raw) => (Bytes::new(), Some(raw)),
        };
        let attributes: usize = push
            .attributes
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        held.shrink_to(payload.len() + undecodable.as_ref().map_or(0, Bytes::len) + attributes);
        let source = self.intake.source_of(&push.subscription);
        let envelope = Envelope {
            id: DeliveryId::message(source, push.message_id, push.publish_time),
            source: push.subscription,
            published_at: push.publish_time,
            received_at: self.clock.now(),
            attributes: push.attributes,
        };
        let (ack, answer) = Ack::new();
        let deadline = arrived + self.ack_deadline.saturating_sub(self.margin());
        let delivery = Delivery {
            envelope,
            payload,
            ack,
            held,
            deadline,
        };
        Ok((delivery, answer, undecodable))
    }

    /// What is left of the ack deadline for the answer's way back: 10 s, or half of a short one.
    fn margin(&self) -> Duration {
        Duration::from_secs(10).min(self.ack_deadline / 2)
    }

    async fn read_body(&self, headers: &HeaderMap, mut body: Body, held: &mut Held) -> Result<Bytes> {
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

/// Parses the body; a large one off the async threads, where it would hold up other requests.
async fn parse(body: Bytes) -> Result<Push> {
    if body.len() < PARSE_ASIDE_BYTES {
        return Push::parse(&body);
    }
    tokio::task::spawn_blocking(move || Push::parse(&body))
        .await
        .unwrap_or_else(|error| {
            Err(
                Error::new(ErrorKind::Unavailable, "The parser stopped; deliver it again.")
                    .with_source(error),
            )
        })
}

/// A push is JSON. A sender that names no type is believed.
fn check_media_type(headers: &HeaderMap) -> Result<()> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let text = value.to_str().unwrap_or_default();
    let media_type = text
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if media_type == "application/json" || media_type.ends_with("+json") {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::UnsupportedFormat,
        "A Pub/Sub push has the content type application/json.",
    ))
}

impl Access {
    fn check(&self, headers: &HeaderMap) -> Result<()> {
        match self {
            Self::Open => Ok(()),
            Self::Refused => Err(Error::new(
                ErrorKind::Forbidden,
                "Set server.api_auth to use this call on an address that is not loopback.",
            )),
            Self::Bearer(token) => {
                let sent = headers
                    .get(AUTHORIZATION)
                    .and_then(|value| value.to_str().ok())
                    .and_then(|value| value.strip_prefix("Bearer "));
                // Digests, so that the time of the comparison tells nothing of the token.
                let digest = |text: &str| Sha256::digest(text.as_bytes());
                match sent {
                    Some(sent) if digest(sent) == digest(token.expose_secret()) => Ok(()),
                    _ => Err(Error::new(
                        ErrorKind::Unauthenticated,
                        "The call needs the bearer token of api_auth.",
                    )),
                }
            }
        }
    }
}
