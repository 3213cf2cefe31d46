//! Google's public keys: asked for when they are needed, remembered for as long as Google says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use jsonwebtoken::DecodingKey;
use reqwest::header::{AGE, CACHE_CONTROL, HeaderMap};
use reqwest::{Body, redirect, retry};
use serde::Deserialize;

use super::token::unproven;
use crate::clock::{Clock, Moment};
use crate::error::{Error, ErrorKind, Result};
use crate::telemetry::Seldom;

/// From the end of one request for keys to the next, whatever comes: a forged key id is a reason to ask, too.
const PAUSE: Duration = Duration::from_secs(5);

/// How long keys are good whatever Google says, at least and at most, and where it says nothing.
const LEAST_AGE: Duration = Duration::from_secs(60);
const MOST_AGE: Duration = Duration::from_secs(24 * 3600);
const AGE_UNSAID: Duration = Duration::from_secs(3600);

/// How much longer they are while Google gives no others.
const GRACE: Duration = Duration::from_secs(6 * 3600);

/// A connection, and the whole request: the pushes that wait for it have a deadline.
const CONNECT: Duration = Duration::from_secs(3);
const REQUEST: Duration = Duration::from_secs(5);

/// Google's answer is of some thousand.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// The keys that tokens may be signed with.
#[derive(Debug)]
pub(super) struct Keys {
    http: reqwest::Client,
    url: String,
    clock: Arc<dyn Clock>,
    known: Mutex<Arc<Known>>,
    /// Held by the one request that is under way.
    asking: tokio::sync::Mutex<()>,
    told: Seldom,
}

/// What is known of them. It is replaced, never changed.
#[derive(Debug, Default)]
struct Known {
    /// By their ids.
    keys: Arc<HashMap<String, DecodingKey>>,
    /// When they came, and how long they are good.
    came: Option<(Moment, Duration)>,
    /// When Google was asked last, and why it gave none.
    asked: Option<Moment>,
    failure: Option<Error>,
}

#[derive(Deserialize)]
struct Published {
    keys: Vec<PublishedKey>,
}

/// A JSON Web Key (RFC 7517), as far as it matters.
#[derive(Deserialize)]
struct PublishedKey {
    kid: Option<String>,
    kty: Option<String>,
    alg: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl Keys {
    /// Keys that are published at an address. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when no client of HTTP can be made, or the system trusts nobody.
    pub(super) fn new(url: &str, clock: Arc<dyn Clock>) -> Result<Self> {
        if url.starts_with("https:") && rustls_native_certs::load_native_certs().certs.is_empty() {
            // As in an image of the binary alone: found out at the start, not by each push.
            let message = "The system has no certificate authorities, and without them Google's keys for signed pushes \
                           cannot be had: install ca-certificates, or set SSL_CERT_FILE.";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        let mut http = reqwest::Client::builder();
        if !url.starts_with("https:") {
            // An emulator on this machine, and nobody between.
            http = http.no_proxy();
        }
        let http = http
            .user_agent(concat!("landfast/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .timeout(REQUEST)
            // Whom to trust is not for an answer to say.
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .build()
            .map_err(|error| {
                let message = "The client for Google's keys cannot be made.";
                Error::new(ErrorKind::Unavailable, message).with_source(error)
            })?;
        Ok(Self {
            http,
            url: url.to_owned(),
            clock,
            known: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            told: Seldom::default(),
        })
    }

    /// The key of an id. Asks Google where it is not known or not good any more, but for all who wait at once, and not
    /// again within [`PAUSE`].
    ///
    /// # Errors
    /// [`ErrorKind::Unauthenticated`] when Google has no such key, [`ErrorKind::Unavailable`] naming `keys` when Google
    /// does not say which it has.
    pub(super) async fn find(self: &Arc<Self>, id: &str) -> Result<DecodingKey> {
        let mut known = self.known();
        if !(known.is_good(Duration::ZERO, &*self.clock) && known.keys.contains_key(id)) {
            known = self.ask(known).await;
        }
        if known.is_good(GRACE, &*self.clock) {
            match (known.keys.get(id), &known.failure) {
                (Some(key), _) => return Ok(key.clone()),
                (None, None) => return Err(unproven("The push's token is signed with no key of Google's.")),
                // It may be signed with the one that could not be had.
                (None, Some(_)) => {}
            }
        }
        let message = "It cannot be told who pushes, since Google's keys cannot be had; deliver it again.";
        let error = Error::new(ErrorKind::Unavailable, message).with("keys", &self.url);
        Err(match &known.failure {
            Some(failure) => error.with_source(failure.clone()),
            None => error,
        })
    }

    fn known(&self) -> Arc<Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is known once Google was asked, or was just now.
    async fn ask(self: &Arc<Self>, known: Arc<Known>) -> Arc<Known> {
        if known.was_asked_just_now(&*self.clock) {
            return known;
        }
        let keys = self.clone();
        // A task of its own: a caller that goes away breaks nothing off that others wait for.
        let asking = tokio::spawn(async move { keys.renew().await });
        asking.await.unwrap_or(known)
    }

    async fn renew(&self) -> Arc<Known> {
        let _alone = self.asking.lock().await;
        let known = self.known();
        if known.was_asked_just_now(&*self.clock) {
            return known;
        }
        let fetched = self.fetch().await;
        let now = Moment::now(&*self.clock);
        let renewed = Arc::new(match fetched {
            Ok((keys, age)) => Known {
                keys: Arc::new(keys),
                came: Some((now, age)),
                asked: Some(now),
                failure: None,
            },
            Err(failure) => {
                self.tell(&failure);
                Known {
                    keys: known.keys.clone(),
                    came: known.came,
                    asked: Some(now),
                    failure: Some(failure),
                }
            }
        });
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = renewed.clone();
        renewed
    }

    fn tell(&self, failure: &Error) {
        if let Some(count) = self.told.tell("keys") {
            let (keys, error) = (&self.url, failure.report());
            tracing::warn!(keys, error, count, "Google gives no keys for signed pushes.");
        }
    }

    /// The keys that are published now, and how long they are good.
    pub(super) async fn fetch(&self) -> Result<(HashMap<String, DecodingKey>, Duration)> {
        let failed = |message: &str| Error::new(ErrorKind::Unavailable, message);
        let response = self.http.get(&self.url).send().await;
        let response = response.map_err(|error| failed("There is no answer.").with_source(error))?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(failed("The answer is not one.").with("status", response.status().as_u16()));
        }
        let age = age(response.headers());
        let body = Limited::new(Body::from(response), MAX_ANSWER_BYTES)
            .collect()
            .await;
        let body =
            body.map_err(|error| failed("The answer breaks off, or is too long.").with_source(error))?;
        let keys = parse(&body.to_bytes()).ok_or_else(|| failed("The answer holds no keys."))?;
        Ok((keys, age))
    }
}

impl Known {
    /// Whether they are good, or were so long ago at most.
    fn is_good(&self, grace: Duration, clock: &dyn Clock) -> bool {
        self.came
            .is_some_and(|(came, age)| came.elapsed(clock) <= age + grace)
    }

    fn was_asked_just_now(&self, clock: &dyn Clock) -> bool {
        self.asked.is_some_and(|asked| asked.elapsed(clock) < PAUSE)
    }
}

/// The keys that can have signed a token, if there are any: an answer without takes none away.
fn parse(answer: &Bytes) -> Option<HashMap<String, DecodingKey>> {
    let published: Published = serde_json::from_slice(answer).ok()?;
    let keys: HashMap<_, _> = published
        .keys
        .into_iter()
        .filter_map(PublishedKey::read)
        .collect();
    (!keys.is_empty()).then_some(keys)
}

impl PublishedKey {
    fn read(self) -> Option<(String, DecodingKey)> {
        let is_rsa = self.kty.as_deref() == Some("RSA");
        if !is_rsa || self.alg.is_some_and(|alg| alg != "RS256") {
            return None;
        }
        let key = DecodingKey::from_rsa_components(&self.n?, &self.e?).ok()?;
        Some((self.kid?, key))
    }
}

/// How long an answer is good: its `max-age` less the time that it lay in caches, within bounds.
fn age(headers: &HeaderMap) -> Duration {
    let directives = headers.get_all(CACHE_CONTROL).iter();
    let mut directives = directives
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let max_age = directives.find_map(|directive| {
        let (name, seconds) = directive.split_once('=')?;
        let is_max_age = name.trim().eq_ignore_ascii_case("max-age");
        seconds.trim().parse::<u64>().ok().filter(|_| is_max_age)
    });
    let spent = headers.get(AGE).and_then(|value| value.to_str().ok());
    let spent = spent.and_then(|seconds| seconds.trim().parse::<u64>().ok());
    let left = max_age.map(|seconds| seconds.saturating_sub(spent.unwrap_or(0)));
    left.map_or(AGE_UNSAID, Duration::from_secs)
        .clamp(LEAST_AGE, MOST_AGE)
}
