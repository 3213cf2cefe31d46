//! The server of BigQuery's API behind a front that keeps every request and goes wrong on demand.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use uuid::Uuid;

use super::http::{Answer, Broken, serve};
use super::{Component, TestResult, needs, readers};

/// The project of everything in it.
pub const PROJECT: &str = "p-test";

/// What happens to a request.
#[derive(Debug, Clone, Copy)]
pub enum Mishap {
    /// Not sent on; refused with this status and reason, as Google words it.
    Refuse(u16, &'static str),
    /// Not sent on; never answered.
    Hang,
    /// Not sent on; the connection is closed.
    Cut,
    /// Sent on; then the connection is closed.
    CutAfter,
    /// Sent on once [`BigQueryFront::release`] is called.
    Hold,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Sent {
    pub at: Instant,
    pub method: Method,
    /// From `/bigquery` on, without the query.
    pub path: String,
    pub query: String,
    /// `null` when there is none.
    pub body: Value,
    pub if_match: Option<String>,
    pub authorization: Option<String>,
    /// What it was answered; 0 for nothing.
    pub status: u16,
}

impl Sent {
    /// Whether it would change something.
    pub fn is_change(&self) -> bool {
        self.method != Method::GET
    }

    /// The metadata that it names.
    pub fn uri(&self) -> &str {
        let source = &self.body["externalDataConfiguration"];
        source["sourceUris"][0].as_str().unwrap_or_default()
    }
}

struct Rule {
    method: Option<Method>,
    mishap: Mishap,
    times: usize,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    sent: Vec<Sent>,
}

struct Inner {
    server: String,
    http: reqwest::Client,
    state: Mutex<State>,
    released: Notify,
}

/// A front on a port of its own with a dataset's name of its own, until it is dropped.
pub struct BigQueryFront {
    address: SocketAddr,
    dataset: String,
    inner: Arc<Inner>,
    serving: AbortHandle,
}

impl BigQueryFront {
    /// Starts one before the server of the test run. Ends the test as ignored where there is none.
    pub async fn start() -> TestResult<Self> {
        let server = needs(Component::BigQuery)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let inner = Arc::new(Inner {
            server,
            http: reqwest::Client::builder().no_proxy().no_gzip().build()?,
            state: Mutex::default(),
            released: Notify::new(),
        });
        let serving = tokio::spawn(serve(listener, inner.clone(), Inner::answer)).abort_handle();
        Ok(Self {
            address,
            dataset: format!("d{}", Uuid::new_v4().simple()),
            inner,
            serving,
        })
    }

    /// What `BIGQUERY_EMULATOR_HOST` is set to.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The name of a dataset that nobody else uses; it is not made yet.
    pub fn dataset(&self) -> &str {
        &self.dataset
    }

    /// The next requests of this method, or of any, meet the mishap, so many times.
    pub fn next(&self, method: impl Into<Option<Method>>, mishap: Mishap, times: usize) {
        self.inner.state().rules.push(Rule {
            method: method.into(),
            mishap,
            times,
        });
    }

    /// All goes well from now on.
    pub fn heal(&self) {
        self.inner.state().rules.clear();
    }

    /// Sends on what is held.
    pub fn release(&self) {
        self.inner.released.notify_waiters();
    }

    /// Every request so far, in the order of their arrival.
    pub fn requests(&self) -> Vec<Sent> {
        self.inner.state().sent.clone()
    }

    /// Holds every request that came against Google's discovery document.
    pub fn documented(&self) -> TestResult {
        let sent = |sent: &Sent| readers::Sent {
            method: sent.method.to_string(),
            path: match sent.query.is_empty() {
                true => sent.path.clone(),
                false => format!("{}?{}", sent.path, sent.query),
            },
            body: (!sent.body.is_null()).then(|| sent.body.clone()),
        };
        let sent: Vec<readers::Sent> = self.requests().iter().map(sent).collect();
        assert!(!sent.is_empty(), "nothing was sent");
        let problems = readers::undocumented("bigquery.v2", &sent)?;
        assert!(problems.is_empty(), "{problems:?}");
        Ok(())
    }

    /// Those that would change something.
    pub fn changes(&self) -> Vec<Sent> {
        let sent = self.requests().into_iter();
        sent.filter(Sent::is_change).collect()
    }

    /// The external table of this name as the server has it, asked beside the front; `null` when there is none.
    pub async fn table(&self, name: &str) -> TestResult<Value> {
        let answer = self.inner.http.get(self.url(name)).send().await?;
        let found = answer.status().is_success();
        let table = answer.json().await?;
        Ok(if found { table } else { Value::Null })
    }

    /// The metadata that the external table reads; empty when there is none.
    pub async fn uri(&self, name: &str) -> TestResult<String> {
        let table = self.table(name).await?;
        let uri = &table["externalDataConfiguration"]["sourceUris"][0];
        Ok(uri.as_str().unwrap_or_default().to_owned())
    }

    /// Makes an external table and its dataset as somebody else would, beside the front.
    pub async fn make(&self, name: &str, uri: &str) -> TestResult {
        let dataset = json!({ "projectId": PROJECT, "datasetId": self.dataset });
        let body = json!({ "datasetReference": dataset });
        let url = format!("{}/bigquery/v2/projects/{PROJECT}/datasets", self.inner.server);
        // It may be there.
        self.inner.http.post(&url).json(&body).send().await?;
        let body = json!({
            "tableReference": { "projectId": PROJECT, "datasetId": self.dataset, "tableId": name },
            "externalDataConfiguration": { "sourceFormat": "ICEBERG", "sourceUris": [uri] },
        });
        let url = format!("{url}/{}/tables", self.dataset);
        let answer = self.inner.http.post(&url).json(&body).send().await?;
        answer.error_for_status()?;
        Ok(())
    }

    /// Changes the external table as a person would, beside the front.
    pub async fn set(&self, name: &str, change: Value) -> TestResult {
        let answer = self.inner.http.patch(self.url(name)).json(&change).send().await?;
        answer.error_for_status()?;
        Ok(())
    }

    fn url(&self, name: &str) -> String {
        let (server, dataset) = (&self.inner.server, &self.dataset);
        format!("{server}/bigquery/v2/projects/{PROJECT}/datasets/{dataset}/tables/{name}")
    }
}

impl Drop for BigQueryFront {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer, Broken> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_gone| Broken)?.to_bytes();
        let header = |name: &str| Some(head.headers.get(name)?.to_str().ok()?.to_owned());
        let sent = Sent {
            at: Instant::now(),
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
            if_match: header("if-match"),
            authorization: header("authorization"),
            status: 0,
        };
        let (place, mishap) = self.keep(sent);
        let answered = match mishap {
            Some(Mishap::Refuse(status, reason)) => refusal(status, reason),
            Some(Mishap::Hang) => {
                tokio::time::sleep(Duration::from_secs(600)).await;
                Err(Broken)
            }
            Some(Mishap::Cut) => Err(Broken),
            Some(Mishap::CutAfter) => {
                self.pass(&head, body).await?;
                Err(Broken)
            }
            Some(Mishap::Hold) => {
                self.released.notified().await;
                self.pass(&head, body).await
            }
            None => self.pass(&head, body).await,
        };
        if let Ok(answer) = &answered {
            self.state().sent[place].status = answer.status().as_u16();
        }
        answered
    }

    fn keep(&self, sent: Sent) -> (usize, Option<Mishap>) {
        let mut state = self.state();
        let method = sent.method.clone();
        state.sent.push(sent);
        let place = state.sent.len() - 1;
        let rule = state
            .rules
            .iter_mut()
            .find(|rule| rule.times > 0 && rule.method.as_ref().is_none_or(|of| *of == method));
        let mishap = rule.map(|rule| {
            rule.times -= 1;
            rule.mishap
        });
        (place, mishap)
    }

    async fn pass(&self, head: &http::request::Parts, body: Bytes) -> Result<Answer, Broken> {
        let path = head
            .uri
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default();
        let mut headers = head.headers.clone();
        headers.remove("host");
        let sent = self
            .http
            .request(head.method.clone(), format!("{}{path}", self.server));
        let answer = sent
            .headers(headers)
            .body(body)
            .send()
            .await
            .map_err(|_gone| Broken)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await.map_err(|_gone| Broken)?;
        let mut answer = Response::new(Full::new(body));
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        Ok(answer)
    }
}

fn refusal(status: u16, reason: &str) -> Result<Answer, Broken> {
    let error = json!({ "error": { "code": status, "message": format!("Told to be {reason}."),
        "errors": [{ "reason": reason, "domain": "global", "message": "Told to." }] } });
    let built = Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(error.to_string())));
    built.map_err(|_wrong| Broken)
}
