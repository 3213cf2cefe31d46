//! Cloud Storage's XML API, which landfast speaks, before a server of its JSON API, which holds the objects.
//!
//! The server's preconditions, generations, listings and times pass as they are. What the front adds is what Google has
//! and the server has not: parts of at least 5 MiB, and one write a second to a name, the others refused with 429.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, ETAG, HeaderMap};
use hyper::{Method, Request, Response};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::http::{Answer, Broken, serve};
use super::{Component, TestResult, needs};

/// How often a name takes a write.
const PACE: Duration = Duration::from_secs(1);
/// Every part but the last has this size.
const MIN_PART_BYTES: usize = 5 << 20;
/// Google's pages have 1,000.
const PAGE: &str = "100";

#[derive(Default)]
struct State {
    uploads: HashMap<String, BTreeMap<usize, Bytes>>,
    written: HashMap<String, Instant>,
    slowed: usize,
    away: bool,
    held: Option<Held>,
}

/// A write that is never answered.
struct Held {
    part: &'static str,
    is_done: bool,
    reached: Arc<Notify>,
}

struct Inner {
    server: String,
    http: reqwest::Client,
    state: Mutex<State>,
}

/// A front on a port of its own, until it is dropped.
pub struct GcsFront {
    address: SocketAddr,
    inner: Arc<Inner>,
    serving: AbortHandle,
}

impl GcsFront {
    /// Starts one before the server of the test run, with the bucket `lake`. Ends the test as ignored where there is none.
    pub async fn start() -> TestResult<Self> {
        let server = needs(Component::Gcs)?;
        let http = reqwest::Client::builder().no_proxy().no_gzip().build()?;
        // It may be there already.
        let bucket = http.post(format!("{server}/storage/v1/b?project=p-test"));
        bucket.json(&json!({ "name": "lake" })).send().await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let inner = Arc::new(Inner {
            server,
            http,
            state: Mutex::default(),
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

    /// The address of the server behind it.
    pub fn server(&self) -> &str {
        &self.inner.server
    }

    /// How many writes came too soon after another of the same name.
    pub fn slowed(&self) -> usize {
        self.inner.state().slowed
    }

    /// How many uploads in parts are neither completed nor given up.
    pub fn open_uploads(&self) -> usize {
        self.inner.state().uploads.len()
    }

    /// From now on every connection is closed, or none.
    pub fn away(&self, away: bool) {
        self.inner.state().away = away;
    }

    /// The next write of an object with this in its name is never answered, done as it is or not. What is given tells when it
    /// came.
    pub fn hold(&self, part: &'static str, is_done: bool) -> Arc<Notify> {
        let reached = Arc::new(Notify::new());
        self.inner.state().held = Some(Held {
            part,
            is_done,
            reached: reached.clone(),
        });
        reached
    }
}

impl std::fmt::Debug for GcsFront {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("GcsFront").field(&self.address).finish()
    }
}

impl Drop for GcsFront {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer, Broken> {
        if self.state().away {
            return Err(Broken);
        }
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_gone| Broken)?.to_bytes();
        let query = head.uri.query().unwrap_or_default();
        let query: HashMap<String, String> = url::form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect();
        let path = head.uri.path().trim_start_matches('/');
        if path.starts_with("storage/v1/") {
            // The JSON API, as it is.
            let sent = self
                .http
                .request(head.method, format!("{}{}", self.server, head.uri));
            return pass(sent.headers(head.headers).body(body)).await;
        }
        let (bucket, object) = path.split_once('/').unwrap_or((path, ""));
        let object = percent_decode_str(object).decode_utf8_lossy().into_owned();
        let at = format!("{}/storage/v1/b/{bucket}/o/{}", self.server, quoted(&object));
        match (head.method.clone(), query.get("uploadId")) {
            (Method::GET, _) if object.is_empty() => self.list(bucket, &query).await,
            (Method::GET | Method::HEAD, _) => {
                let read = self.http.request(head.method, format!("{at}?alt=media"));
                pass(read.headers(kept(&head.headers))).await
            }
            (Method::PUT, Some(id)) => Ok(self.part(id, &query, body)),
            (Method::PUT, None) => {
                let fence = head.headers.get("x-goog-if-generation-match");
                let fence = fence.and_then(|value| value.to_str().ok());
                let held = self.state().held.take_if(|held| object.contains(held.part));
                if held.as_ref().is_none_or(|held| held.is_done) {
                    let written = self.write(bucket, &object, fence, body).await;
                    if held.is_none() {
                        return written;
                    }
                }
                if let Some(held) = held {
                    held.reached.notify_one();
                }
                std::future::pending().await
            }
            (Method::POST, Some(id)) => self.complete(bucket, &object, id).await,
            (Method::POST, None) => Ok(self.begin()),
            (Method::DELETE, Some(id)) => {
                self.state().uploads.remove(id);
                Ok(answer(204, String::new()))
            }
            (Method::DELETE, None) => pass(self.http.delete(at)).await,
            _ => Ok(answer(405, String::new())),
        }
    }

    async fn write(
        &self,
        bucket: &str,
        object: &str,
        fence: Option<&str>,
        body: Bytes,
    ) -> Result<Answer, Broken> {
        {
            let mut state = self.state();
            let last = state.written.get(object);
            if last.is_some_and(|last| last.elapsed() < PACE) {
                state.slowed += 1;
                return Ok(refusal(
                    429,
                    "SlowDown",
                    "The rate of writes to the object is too high.",
                ));
            }
        }
        let fence = fence.map_or(String::new(), |fence| format!("&ifGenerationMatch={fence}"));
        let url = format!(
            "{}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={}{fence}",
            self.server,
            quoted(object)
        );
        let sent = self.http.post(url).body(body).send().await;
        let sent = sent.map_err(|_gone| Broken)?;
        let status = sent.status().as_u16();
        let text = sent.bytes().await.map_err(|_gone| Broken)?;
        if status != 200 {
            return Ok(refusal(status, "Refused", &String::from_utf8_lossy(&text)));
        }
        self.state().written.insert(object.to_owned(), Instant::now());
        let written: Value = serde_json::from_slice(&text).map_err(|_wrong| Broken)?;
        let mut answer = answer(200, String::new());
        let headers = answer.headers_mut();
        for (name, member) in [("etag", "etag"), ("x-goog-generation", "generation")] {
            let value = written[member].as_str().unwrap_or_default();
            headers.insert(name, value.parse().map_err(|_wrong| Broken)?);
        }
        Ok(answer)
    }

    async fn list(&self, bucket: &str, query: &HashMap<String, String>) -> Result<Answer, Broken> {
        let after = query.get("start-after").map_or("", String::as_str);
        let mut listing = vec![("maxResults", PAGE), ("startOffset", after)];
        for (theirs, ours) in [
            ("prefix", "prefix"),
            ("delimiter", "delimiter"),
            ("pageToken", "continuation-token"),
        ] {
            listing.extend(query.get(ours).map(|value| (theirs, value.as_str())));
        }
        let asked = self
            .http
            .get(format!("{}/storage/v1/b/{bucket}/o", self.server))
            .query(&listing);
        let page = asked.send().await.map_err(|_gone| Broken)?;
        if !page.status().is_success() {
            return Ok(refusal(page.status().as_u16(), "NoSuchBucket", "There is none."));
        }
        let page: Value = page.json().await.map_err(|_wrong| Broken)?;
        let list = |name: &str| page[name].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| escaped(value.as_str().unwrap_or_default());
        let mut xml = String::from("<?xml version=\"1.0\"?><ListBucketResult>");
        // Theirs begins at the offset, ours behind it.
        for item in list("items")
            .iter()
            .filter(|item| item["name"].as_str() != Some(after))
        {
            xml += &format!(
                "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
                text(&item["name"]),
                text(&item["updated"]),
                text(&item["etag"]),
                text(&item["size"]),
            );
        }
        for prefix in list("prefixes") {
            xml += &format!(
                "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>",
                text(&prefix)
            );
        }
        if page["nextPageToken"].is_string() {
            let token = text(&page["nextPageToken"]);
            xml += &format!("<NextContinuationToken>{token}</NextContinuationToken>");
        }
        Ok(answer(200, xml + "</ListBucketResult>"))
    }

    fn begin(&self) -> Answer {
        let id = Uuid::new_v4().to_string();
        let answered = format!(
            "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        );
        self.state().uploads.insert(id, BTreeMap::new());
        answer(200, answered)
    }

    fn part(&self, id: &str, query: &HashMap<String, String>, body: Bytes) -> Answer {
        let number = query.get("partNumber").and_then(|number| number.parse().ok());
        let mut state = self.state();
        let (Some(number), Some(parts)) = (number, state.uploads.get_mut(id)) else {
            return refusal(404, "NoSuchUpload", "There is no such upload.");
        };
        parts.insert(number, body);
        let mut answer = answer(200, String::new());
        answer.headers_mut().insert(ETAG, number.into());
        answer
    }

    async fn complete(&self, bucket: &str, object: &str, id: &str) -> Result<Answer, Broken> {
        let Some(parts) = self.state().uploads.get(id).cloned() else {
            return Ok(refusal(404, "NoSuchUpload", "There is no such upload."));
        };
        let parts: Vec<Bytes> = parts.into_values().collect();
        let whole = parts.split_last().map_or(&[][..], |(_, whole)| whole);
        if whole.iter().any(|part| part.len() < MIN_PART_BYTES) {
            return Ok(refusal(400, "EntityTooSmall", "A part is smaller than 5 MiB."));
        }
        let written = self.write(bucket, object, None, parts.concat().into()).await?;
        if !written.status().is_success() {
            return Ok(written);
        }
        self.state().uploads.remove(id);
        let etag = written.headers().get(ETAG).and_then(|etag| etag.to_str().ok());
        let mut answer = answer(
            200,
            format!(
                "<CompleteMultipartUploadResult><ETag>{}</ETag></CompleteMultipartUploadResult>",
                escaped(etag.unwrap_or_default())
            ),
        );
        let generation = written.headers()["x-goog-generation"].clone();
        answer.headers_mut().insert("x-goog-generation", generation);
        Ok(answer)
    }
}

/// Sends a request on, and its answer back.
async fn pass(request: RequestBuilder) -> Result<Answer, Broken> {
    let answered = request.send().await.map_err(|_gone| Broken)?;
    let (status, headers) = (answered.status(), answered.headers().clone());
    let body = answered.bytes().await.map_err(|_gone| Broken)?;
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    Ok(answer)
}

/// What of a reader's request concerns the object.
fn kept(headers: &HeaderMap) -> HeaderMap {
    let kept = headers.iter().filter(|(name, _)| *name == "range");
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn answer(status: u16, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body.clone())));
    *answer.status_mut() = status.try_into().unwrap_or_default();
    answer.headers_mut().insert(CONTENT_LENGTH, body.len().into());
    answer
}

fn refusal(status: u16, code: &str, message: &str) -> Answer {
    let message = escaped(message);
    answer(
        status,
        format!("<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"),
    )
}

fn quoted(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
