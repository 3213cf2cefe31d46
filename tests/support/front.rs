//! A front before an object store's server that goes wrong on demand. Requests pass as they are signed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::{Method, Request, Response};
use percent_encoding::percent_decode_str;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::TestResult;
use super::http::{Answer, Broken, serve};

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Mishap {
    /// Answered with this status and body, and not sent on.
    Answer(u16, &'static str),
    /// Sent on; then answered with this status.
    AnswerAfter(u16),
    /// Sent on; then the connection is closed.
    ResetAfter,
}

struct Rule {
    method: Method,
    part: String,
    mishap: Mishap,
    times: usize,
}

struct Inner {
    upstream: String,
    http: reqwest::Client,
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<(Method, String)>>,
    bearers: Mutex<Vec<(String, String)>>,
    last_headers: Mutex<HeaderMap>,
}

/// A front on a port of its own, until it is dropped.
pub struct Front {
    address: SocketAddr,
    inner: Arc<Inner>,
    serving: AbortHandle,
}

impl Front {
    /// Starts before a server.
    pub async fn before(upstream: &str) -> TestResult<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let inner = Arc::new(Inner {
            upstream: upstream.to_owned(),
            http: reqwest::Client::builder().no_proxy().no_gzip().build()?,
            rules: Mutex::default(),
            seen: Mutex::default(),
            bearers: Mutex::default(),
            last_headers: Mutex::default(),
        });
        let serving = tokio::spawn(serve(listener, inner.clone(), Inner::answer)).abort_handle();
        Ok(Self {
            address,
            inner,
            serving,
        })
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next requests of this method whose path and query hold `part` meet the mishap, so many times.
    pub fn next(&self, method: Method, part: &str, mishap: Mishap, times: usize) {
        held(&self.inner.rules).push(Rule {
            method,
            part: part.to_owned(),
            mishap,
            times,
        });
    }

    /// How many requests of this method came whose path and query hold `part`.
    pub fn count(&self, method: &Method, part: &str) -> usize {
        let seen = held(&self.inner.seen);
        let of = |seen: &&(Method, String)| seen.0 == *method && seen.1.contains(part);
        seen.iter().filter(of).count()
    }

    /// The tokens of the requests whose path and query hold `part`, in the order in which they first came.
    pub fn bearers(&self, part: &str) -> Vec<String> {
        let mut bearers: Vec<String> = Vec::new();
        for (_, token) in held(&self.inner.bearers)
            .iter()
            .filter(|(path, _)| path.contains(part))
        {
            if !bearers.contains(token) {
                bearers.push(token.clone());
            }
        }
        bearers
    }

    /// How many requests with a token came so far.
    pub fn requests(&self) -> usize {
        held(&self.inner.bearers).len()
    }

    /// The tokens of those after so many.
    pub fn bearers_after(&self, requests: usize) -> Vec<String> {
        let bearers = held(&self.inner.bearers);
        let after = bearers.iter().skip(requests);
        after.map(|(_, token)| token.clone()).collect()
    }

    /// Every request that came: its method, and its path and query.
    pub fn seen(&self) -> Vec<(Method, String)> {
        held(&self.inner.seen).clone()
    }

    /// The headers of the last request.
    pub fn last_headers(&self) -> HeaderMap {
        held(&self.inner.last_headers).clone()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer, Broken> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_gone| Broken)?.to_bytes();
        let path = head
            .uri
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default();
        // Clients differ in what they encode.
        let plain = percent_decode_str(&path).decode_utf8_lossy().into_owned();
        let mishap = self.draw(&head.method, &plain);
        let bearer = head
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let bearer = bearer.unwrap_or_default().trim_start_matches("Bearer ");
        held(&self.bearers).push((plain.clone(), bearer.to_owned()));
        held(&self.seen).push((head.method.clone(), plain));
        *held(&self.last_headers) = head.headers.clone();
        if let Some(Mishap::Answer(status, body)) = mishap {
            return response(status, Bytes::from_static(body.as_bytes()));
        }
        // The signature covers the host that the client knows, so its header stays.
        let sent = self
            .http
            .request(head.method, format!("{}{path}", self.upstream))
            .headers(head.headers)
            .body(body);
        let answer = sent.send().await.map_err(|_gone| Broken)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await.map_err(|_gone| Broken)?;
        match mishap {
            Some(Mishap::AnswerAfter(status)) => response(status, Bytes::new()),
            Some(Mishap::ResetAfter) => Err(Broken),
            _ => {
                let mut answer = response(status.as_u16(), body)?;
                *answer.headers_mut() = headers;
                Ok(answer)
            }
        }
    }

    fn draw(&self, method: &Method, path: &str) -> Option<Mishap> {
        let mut rules = held(&self.rules);
        let rule = rules
            .iter_mut()
            .find(|rule| rule.times > 0 && rule.method == *method && path.contains(&rule.part))?;
        rule.times -= 1;
        Some(rule.mishap.clone())
    }
}

fn response(status: u16, body: Bytes) -> Result<Answer, Broken> {
    let built = Response::builder().status(status).body(Full::new(body));
    built.map_err(|_wrong| Broken)
}
