//! Requests and answers: headers, tokens, time limits, bounds, and which requests are sent again.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, redirect, retry};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use super::auth::{Auth, Grant};
use super::failure::{Failure, Refusal};
use super::wire::Explanation;
use crate::clock::Clock;
use crate::config::RestCatalogConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::random::Random;

/// The largest answer that is read: a table's metadata grows to tens of megabytes.
const MAX_ANSWER_BYTES: usize = 128 << 20;
const MAX_REFUSAL_BYTES: usize = 64 << 10;

/// Load balancers close what was idle for a minute.
const IDLE: Duration = Duration::from_secs(45);

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How long the client waits, and how often it asks again.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For a request, its whole answer included.
    pub request: Duration,
    /// How often a request that may be repeated is sent at most.
    pub attempts: u32,
    /// The longest wait before the second attempt, doubled for each after it.
    pub first_wait: Duration,
    /// No attempt begins later than this after the first.
    pub retry_within: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            request: Duration::from_secs(30),
            attempts: 5,
            first_wait: Duration::from_millis(200),
            retry_within: Duration::from_secs(15),
        }
    }
}

/// A request to the catalog.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) body: Option<Bytes>,
    /// Stays the same however often this request is sent.
    pub(super) idempotency_key: Option<String>,
}

impl Request {
    pub(super) fn new(method: Method, url: String) -> Self {
        Self {
            method,
            url,
            body: None,
            idempotency_key: None,
        }
    }

    /// A request with a JSON body.
    pub(super) fn post(url: String, body: &impl serde::Serialize) -> Result<Self> {
        let body = serde_json::to_vec(body).map_err(|error| {
            Error::new(ErrorKind::Rejected, "The request cannot be written as JSON.").with_source(error)
        })?;
        Ok(Self {
            body: Some(body.into()),
            ..Self::new(Method::POST, url)
        })
    }
}

/// A client of one server.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    auth: Auth,
    /// What the configuration adds to every request.
    headers: HeaderMap,
    random: Arc<Random>,
    patience: Patience,
}

impl Client {
    pub(super) fn new(
        config: &RestCatalogConfig,
        patience: Patience,
        clock: Arc<dyn Clock>,
        random: Arc<Random>,
    ) -> Result<Self> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("landfast/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(patience.connect)
            .timeout(patience.request)
            .pool_idle_timeout(IDLE)
            // A commit that was redirected is one that somebody else received, and a token is for one server.
            .redirect(redirect::Policy::none())
            // What is sent again is decided here.
            .retry(retry::never())
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::Unavailable, "The catalog's client cannot be made.").with_source(error)
            })?;
        Ok(Self {
            auth: Auth::new(config, &http, patience.request, clock)?,
            headers: configured_headers(config)?,
            http,
            random,
            patience,
        })
    }

    /// Reads something; asked again a few times when the failure may pass.
    pub(super) async fn get(&self, url: String) -> Result<Bytes, Failure> {
        let request = Request::new(Method::GET, url);
        let start = Instant::now();
        let mut attempt = 1;
        loop {
            let failure = match self.send(&request).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let doubled = 2_u32.saturating_pow(attempt - 1);
            let wait = self
                .random
                .jitter(self.patience.first_wait.saturating_mul(doubled));
            let wait = wait.max(failure.retry_after().unwrap_or_default());
            let too_late = start.elapsed().saturating_add(wait) > self.patience.retry_within;
            if !failure.is_passing() || attempt >= self.patience.attempts || too_late {
                return Err(failure);
            }
            tracing::debug!(failure = ?failure, "The catalog is asked again.");
            sleep(wait).await;
            attempt = attempt.saturating_add(1);
        }
    }

    /// Sends a request once, and once more where another token may be what it takes.
    pub(super) async fn send(&self, request: &Request) -> Result<Bytes, Failure> {
        let grant = self.auth.grant().await.map_err(Failure::NotReady)?;
        let mut refusal = match self.transmit(request, &grant).await {
            Err(Failure::Refused(refusal)) if refusal.is_about_identity() => refusal,
            ended => return ended,
        };
        let forbidden = refusal.status == StatusCode::FORBIDDEN;
        match self.auth.renew(&grant, forbidden).await {
            Ok(Some(grant)) => return self.transmit(request, &grant).await,
            Ok(None) => {}
            Err(error) => refusal.no_token = Some(error),
        }
        Err(Failure::Refused(refusal))
    }

    async fn transmit(&self, request: &Request, grant: &Grant) -> Result<Bytes, Failure> {
        let mut builder = self
            .http
            .request(request.method.clone(), &request.url)
            .header(ACCEPT, "application/json")
            .headers(self.headers.clone())
            .headers(grant.headers.clone());
        if let Some(body) = &request.body {
            builder = builder
                .header(CONTENT_TYPE, "application/json")
                .body(body.clone());
        }
        if let Some(key) = &request.idempotency_key {
            builder = builder.header(IDEMPOTENCY_KEY, key);
        }
        let response = builder.send().await.map_err(unsent)?;
        if response.status().is_success() {
            return read_bounded(response, MAX_ANSWER_BYTES)
                .await
                .map_err(Failure::Lost);
        }
        Err(self.refusal(response, grant).await)
    }

    async fn refusal(&self, response: Response, grant: &Grant) -> Failure {
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(seconds);
        // The status alone counts; a body that breaks off, or is long, explains nothing.
        let body = read_bounded(response, MAX_REFUSAL_BYTES).await;
        let configured = self.headers.values().filter_map(|value| value.to_str().ok());
        let granted = grant.secrets.iter().map(|secret| secret.expose());
        let secrets: Vec<&str> = configured.chain(granted).collect();
        Failure::Refused(Refusal {
            status,
            explanation: body
                .as_ref()
                .ok()
                .and_then(|body| Explanation::parse(body, &secrets)),
            is_empty: body.is_ok_and(|body| body.is_empty()),
            retry_after,
            no_token: None,
        })
    }
}

fn configured_headers(config: &RestCatalogConfig) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        let invalid = |_not_shown| {
            Error::new(ErrorKind::Config, "A configured header cannot be sent.").with("header", name)
        };
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid(()))?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| invalid(()))?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

/// What a failure before the answer's head means.
fn unsent(error: reqwest::Error) -> Failure {
    let lost = |kind, message| Error::new(kind, message);
    if error.is_builder() {
        let message = "The catalog's address cannot be used.";
        Failure::NotReady(lost(ErrorKind::Rejected, message).with_source(error))
    } else if error.is_connect() {
        let message = "The catalog's server gives no connection.";
        Failure::NotSent(lost(ErrorKind::Unavailable, message).with_source(error))
    } else {
        let message = "The catalog's server did not answer.";
        Failure::Lost(lost(ErrorKind::Unavailable, message).with_source(error))
    }
}

/// Reads a body of at most `limit` bytes, decompressed.
///
/// # Errors
/// [`ErrorKind::Unavailable`] when it breaks off, [`ErrorKind::Rejected`] when it is longer.
pub(super) async fn read_bounded(mut response: Response, limit: usize) -> Result<Bytes> {
    let mut body = BytesMut::new();
    loop {
        let chunk = response.chunk().await.map_err(|error| {
            Error::new(ErrorKind::Unavailable, "The server's answer broke off.").with_source(error)
        })?;
        let Some(chunk) = chunk else {
            return Ok(body.freeze());
        };
        if body.len().saturating_add(chunk.len()) > limit {
            let message = "The server's answer is longer than landfast reads.";
            return Err(Error::new(ErrorKind::Rejected, message).with("limit_bytes", limit));
        }
        body.extend_from_slice(&chunk);
    }
}

/// Reads an answer as JSON.
///
/// # Errors
/// [`ErrorKind::Rejected`] when it is something else.
pub(super) fn parse<T: DeserializeOwned>(answer: &[u8], message: &str) -> Result<T> {
    serde_json::from_slice(answer).map_err(|error| {
        // The parser quotes what it stumbled over, and credentials travel in these answers: its category is enough.
        let place = format!(
            "{:?} error at line {} column {}",
            error.classify(),
            error.line(),
            error.column()
        );
        Error::new(ErrorKind::Rejected, message).with("cause", place)
    })
}

/// The seconds of `Retry-After`. Its other form, a date, is a clock's opinion, and none of ours.
fn seconds(value: &HeaderValue) -> Option<Duration> {
    value.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}
