//! A front before the server of Cloud Storage that has the preconditions which that has not: of deletions and copies.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::CONTENT_LENGTH;
use hyper::{Request, Response};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::support::TestResult;
use crate::support::http::{Answer, Broken, serve};
use crate::support::readers::Sent;

/// What happens to a deletion or copy instead.
#[derive(Debug, Clone)]
pub enum Instead {
    /// This status.
    Answer(u16),
    /// No answer, and nothing done.
    Silence,
    /// It is done, and the connection is closed.
    DoneUnsaid,
    /// A copy is begun: this token leads on.
    Begun(&'static str),
    /// Before it is done the object of that name is written anew.
    After { name: &'static str, bytes: String },
}

struct Inner {
    server: String,
    http: reqwest::Client,
    instead: Mutex<VecDeque<Instead>>,
    seen: Mutex<Vec<Sent>>,
}

/// A front on a port of its own, until it is dropped.
pub struct Keeper {
    address: SocketAddr,
    inner: Arc<Inner>,
    serving: AbortHandle,
}

impl Keeper {
    pub async fn before(server: &str) -> TestResult<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let inner = Arc::new(Inner {
            server: server.to_owned(),
            http: reqwest::Client::builder().no_proxy().no_gzip().build()?,
            instead: Mutex::default(),
            seen: Mutex::default(),
        });
        let serving = tokio::spawn(serve(listener, inner.clone(), Inner::answer)).abort_handle();
        Ok(Self {
            address,
            inner,
            serving,
        })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next deletion or copy meets this.
    pub fn next(&self, instead: Instead) {
        held(&self.inner.instead).push_back(instead);
    }

    /// The deletions and copies that came.
    pub fn changes(&self) -> Vec<Sent> {
        let seen = held(&self.inner.seen);
        seen.iter().filter(|sent| is_change(sent)).cloned().collect()
    }

    /// All requests that came.
    pub fn seen(&self) -> Vec<Sent> {
        held(&self.inner.seen).clone()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn is_change(sent: &Sent) -> bool {
    sent.method == "DELETE" || sent.path.contains("/rewriteTo/")
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer, Broken> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_gone| Broken)?.to_bytes();
        let path = head.uri.to_string();
        let sent = Sent {
            method: head.method.to_string(),
            path: path.clone(),
            body: serde_json::from_slice(&body).ok(),
        };
        let is_change = is_change(&sent);
        held(&self.seen).push(sent);
        let mut instead = None;
        if is_change {
            instead = held(&self.instead).pop_front();
            match &instead {
                Some(Instead::Answer(status)) => return response(*status, Bytes::new()),
                Some(Instead::Begun(token)) => {
                    let answer = json!({ "done": false, "rewriteToken": token });
                    return response(200, answer.to_string().into());
                }
                Some(Instead::Silence) => std::future::pending().await,
                Some(Instead::After { name, bytes }) => self.put(&path, name, bytes).await?,
                _ => {}
            }
            if !head.headers.contains_key(CONTENT_LENGTH) {
                return response(411, Bytes::new());
            }
            if let Some(status) = self.refusal(&path).await? {
                return response(status, Bytes::new());
            }
        }
        let sent = self.http.request(head.method, format!("{}{path}", self.server));
        let sent = sent.headers(head.headers).body(body).send().await;
        let answer = sent.map_err(|_gone| Broken)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let bytes = answer.bytes().await.map_err(|_gone| Broken)?;
        if matches!(instead, Some(Instead::DoneUnsaid)) {
            return Err(Broken);
        }
        let mut answer = response(status.as_u16(), bytes)?;
        *answer.headers_mut() = headers;
        Ok(answer)
    }

    /// What Google answers where a precondition does not hold.
    async fn refusal(&self, path: &str) -> Result<Option<u16>, Broken> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let parameters: HashMap<String, String> = url::form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect();
        let wanted = |name: &str| parameters.get(name).cloned();
        let Some((from, to)) = path.split_once("/rewriteTo") else {
            let matches = self.generation(path).await? == wanted("ifGenerationMatch");
            return Ok((!matches).then_some(412));
        };
        if self.generation(from).await? != wanted("sourceGeneration") {
            return Ok(Some(404));
        }
        let is_free = self.generation(&format!("/storage/v1{to}")).await?.is_none();
        Ok((wanted("ifGenerationMatch").as_deref() == Some("0") && !is_free).then_some(412))
    }

    async fn generation(&self, path: &str) -> Result<Option<String>, Broken> {
        let answer = self.http.get(format!("{}{path}", self.server)).send().await;
        let answer = answer.map_err(|_gone| Broken)?;
        if answer.status() == 404 {
            return Ok(None);
        }
        let resource: Value = answer.json().await.map_err(|_gone| Broken)?;
        Ok(resource["generation"].as_str().map(str::to_owned))
    }

    async fn put(&self, path: &str, name: &str, bytes: &str) -> Result<(), Broken> {
        let plain = percent_decode_str(path).decode_utf8_lossy().into_owned();
        let bucket = plain.split('/').nth(4).unwrap_or_default();
        let url = format!(
            "{}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}",
            self.server
        );
        let put = self.http.post(url).body(bytes.to_owned()).send().await;
        put.and_then(reqwest::Response::error_for_status)
            .map_err(|_gone| Broken)?;
        Ok(())
    }
}

fn response(status: u16, body: Bytes) -> Result<Answer, Broken> {
    let built = Response::builder().status(status).body(Full::new(body));
    built.map_err(|_wrong| Broken)
}
