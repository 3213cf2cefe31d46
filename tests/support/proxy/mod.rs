//! A proxy before the real REST catalog: it gives each test a corner of its own, asks who is there, and goes wrong on
//! demand.
//!
//! Namespaces of a test lie under a root of its own on the one server, unseen by it. What the server holds is told by
//! [`Proxy::truth`], which no trouble touches.

mod corner;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER,
};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::faults::Gate;
use super::http::{Answer, Broken, Connection, serve};
use super::{TestResult, gzip};

/// What a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Config,
    Token,
    Namespace,
    List,
    CreateTable,
    Load,
    Commit,
    Drop,
    Credentials,
}

/// What happens to a request.
#[derive(Clone)]
pub enum Trouble {
    /// Answered with this status and an error in the catalog's form, which quotes the token; not sent on.
    Answer(u16),
    /// As `Answer`, but with a proxy's page.
    Page(u16),
    /// As `Answer`, with this many seconds of `Retry-After`.
    RetryAfter(u16, u64),
    /// Answered with this body, and not sent on.
    Json(Value),
    /// The connection is closed, and nothing was sent on.
    Reset,
    /// Sent on; then answered with this status.
    AnswerAfter(u16),
    /// Sent on; then the connection is closed.
    ResetAfter,
    /// Sent on, and never answered.
    StallAfter,
    /// Never answered; sent on when the gate opens, also when nobody waits any more.
    Late(Gate),
    /// Waits at the gate, and is sent on and answered.
    Hold(Gate),
    /// Sent on twice; the answer is the second's.
    Repeat,
    /// Answered with this status if the request's body is so; else sent on.
    Refuse(u16, fn(&Value) -> bool),
    /// The answer is changed.
    Alter(Arc<dyn Fn(&mut Value) + Send + Sync>),
    /// The answer is compressed if the client takes it so.
    Gzip,
}

impl Trouble {
    /// Changes the answer.
    pub fn alter(change: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        Self::Alter(Arc::new(change))
    }
}

/// Whom the proxy lets through.
#[derive(Debug, Clone)]
pub enum Identity {
    Anyone,
    /// Whoever has this token.
    Bearer(&'static str),
    /// Whoever has a token that was given for this id and secret, and was not revoked. Tokens last so many seconds.
    OAuth2 {
        id: Option<&'static str>,
        secret: &'static str,
        expires_in: Option<u64>,
    },
    /// Whoever has this token, which is given to whoever asks as Google's metadata server is asked.
    Google(&'static str),
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub call: Call,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// What it came by.
    pub connection: Option<Connection>,
}

struct Rule {
    call: Call,
    trouble: Trouble,
    once: bool,
}

struct State {
    rules: Vec<Rule>,
    identity: Identity,
    /// Those given that are still good, and how many were given.
    tokens: Vec<String>,
    tokens_given: usize,
    page_size: Option<usize>,
    seen: Vec<Seen>,
}

struct Inner {
    upstream: String,
    http: reqwest::Client,
    root: String,
    state: Mutex<State>,
}

/// A proxy on a port of its own, until it is dropped.
pub struct Proxy {
    address: SocketAddr,
    inner: Arc<Inner>,
    serving: AbortHandle,
}

impl Proxy {
    /// Starts before a server.
    pub async fn before(upstream: &str) -> TestResult<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = State {
            rules: Vec::new(),
            identity: Identity::Anyone,
            tokens: Vec::new(),
            tokens_given: 0,
            page_size: None,
            seen: Vec::new(),
        };
        let inner = Arc::new(Inner {
            upstream: upstream.to_owned(),
            http: reqwest::Client::builder().no_proxy().build()?,
            root: format!("t{}", Uuid::new_v4().simple()),
            state: Mutex::new(state),
        });
        let serving = tokio::spawn(serve(listener, inner.clone(), Inner::answer)).abort_handle();
        let proxy = Self {
            address,
            inner,
            serving,
        };
        let root = json!({ "namespace": [proxy.inner.root] });
        let made = proxy
            .inner
            .http
            .post(format!("{upstream}/v1/namespaces"))
            .json(&root);
        made.send().await?.error_for_status()?;
        Ok(proxy)
    }

    /// Its address, as a catalog's `uri`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next request of this kind meets the trouble.
    pub fn once(&self, call: Call, trouble: Trouble) {
        self.add(call, trouble, true);
    }

    /// Every request of this kind meets the trouble, until [`Proxy::clear`].
    pub fn always(&self, call: Call, trouble: Trouble) {
        self.add(call, trouble, false);
    }

    /// Ends every trouble.
    pub fn clear(&self) {
        self.inner.state().rules.clear();
    }

    /// From now on only these are let through.
    pub fn ask(&self, identity: Identity) {
        self.inner.state().identity = identity;
    }

    /// No token given so far is good any more.
    pub fn revoke(&self) {
        self.inner.state().tokens.clear();
    }

    /// How many tokens were given.
    pub fn tokens_given(&self) -> usize {
        self.inner.state().tokens_given
    }

    /// Lists come in pages of this many.
    pub fn page(&self, size: usize) {
        self.inner.state().page_size = Some(size);
    }

    /// The requests of this kind so far, in order.
    pub fn seen(&self, call: Call) -> Vec<Seen> {
        let state = self.inner.state();
        state
            .seen
            .iter()
            .filter(|seen| seen.call == call)
            .cloned()
            .collect()
    }

    /// Ends it with all its connections.
    pub fn close(&self) {
        self.serving.abort();
    }

    /// What the server itself holds of a table in a namespace of one level.
    pub async fn truth(&self, namespace: &str, table: &str) -> TestResult<Option<Value>> {
        let response = self.inner.http.get(self.direct(namespace, table)).send().await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(response.error_for_status()?.json().await?))
    }

    /// Changes a table behind everybody's back.
    pub async fn commit(&self, namespace: &str, table: &str, updates: Value) -> TestResult {
        let body = json!({ "requirements": [], "updates": updates });
        let response = self
            .inner
            .http
            .post(self.direct(namespace, table))
            .json(&body)
            .send();
        response.await?.error_for_status()?;
        Ok(())
    }

    fn direct(&self, namespace: &str, table: &str) -> String {
        let Inner { upstream, root, .. } = self.inner.as_ref();
        format!("{upstream}/v1/namespaces/{root}%1F{namespace}/tables/{table}")
    }

    fn add(&self, call: Call, trouble: Trouble, once: bool) {
        self.inner.state().rules.push(Rule { call, trouble, once });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer, Broken> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_gone| Broken)?.to_bytes();
        let path = head
            .uri
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default();
        let call = corner::call_of(&head.method, head.uri.path());
        self.state().seen.push(Seen {
            call,
            path: path.clone(),
            headers: head.headers.clone(),
            body: body.clone(),
            connection: head.extensions.get().copied(),
        });
        let token = header(&head.headers, AUTHORIZATION.as_str());
        let trouble = self.draw(call);
        match &trouble {
            Some(Trouble::Answer(status)) => return Ok(refusal(*status, &token)),
            Some(Trouble::Page(status)) => return Ok(response(*status, "<html>not here</html>")),
            Some(Trouble::Json(value)) => return Ok(response(200, value.to_string())),
            Some(Trouble::RetryAfter(status, seconds)) => {
                let mut answer = refusal(*status, &token);
                answer.headers_mut().insert(RETRY_AFTER, (*seconds).into());
                return Ok(answer);
            }
            Some(Trouble::Refuse(status, is_so))
                if is_so(&serde_json::from_slice(&body).unwrap_or_default()) =>
            {
                return Ok(refusal(*status, &token));
            }
            Some(Trouble::Reset) => return Err(Broken),
            Some(Trouble::Hold(gate)) => gate.pass().await,
            _ => {}
        }
        if call == Call::Token {
            return Ok(self.give_token(&path, &body));
        }
        if !self.lets_through(&token) {
            return Ok(refusal(401, &token));
        }
        let forward = {
            let (inner, method, path) = (self.clone(), head.method.clone(), path.clone());
            move || {
                let (inner, method) = (inner.clone(), method.clone());
                let (path, body) = (path.clone(), body.clone());
                async move { inner.forward(call, method, &path, body).await }
            }
        };
        let head = (path.as_str(), token.as_str(), &head.headers);
        self.troubled(call, trouble, head, forward).await
    }

    async fn troubled<Sent>(
        &self,
        call: Call,
        trouble: Option<Trouble>,
        head: (&str, &str, &HeaderMap),
        forward: impl Fn() -> Sent + Send + 'static,
    ) -> Result<Answer, Broken>
    where
        Sent: Future<Output = (u16, Bytes)> + Send + 'static,
    {
        let (path, token, headers) = head;
        if let Some(Trouble::Late(gate)) = trouble {
            tokio::spawn(async move {
                gate.pass().await;
                forward().await;
                gate.passed();
            });
            return std::future::pending().await;
        }
        let (status, mut body) = forward().await;
        match trouble {
            Some(Trouble::AnswerAfter(status)) => return Ok(refusal(status, token)),
            Some(Trouble::ResetAfter) => return Err(Broken),
            Some(Trouble::StallAfter) => return std::future::pending().await,
            Some(Trouble::Hold(gate)) => gate.passed(),
            Some(Trouble::Repeat) => {
                let (status, body) = forward().await;
                return Ok(response(status, body));
            }
            Some(Trouble::Alter(change)) => {
                let mut value: Value = serde_json::from_slice(&body).unwrap_or_default();
                change(&mut value);
                body = value.to_string().into();
            }
            Some(Trouble::Gzip) if header(headers, ACCEPT_ENCODING.as_str()).contains("gzip") => {
                let mut answer = response(status, gzip(&body).map_err(|_| Broken)?);
                answer
                    .headers_mut()
                    .insert(CONTENT_ENCODING, "gzip".parse().expect("a value"));
                return Ok(answer);
            }
            _ => {}
        }
        if call == Call::List && status == 200 {
            let page_size = self.state().page_size;
            body = page_size.map_or(body.clone(), |size| corner::page(path, size, &body));
        }
        Ok(response(status, body))
    }

    fn draw(&self, call: Call) -> Option<Trouble> {
        let mut state = self.state();
        let found = state.rules.iter().position(|rule| rule.call == call)?;
        if state.rules[found].once {
            Some(state.rules.remove(found).trouble)
        } else {
            Some(state.rules[found].trouble.clone())
        }
    }

    fn lets_through(&self, token: &str) -> bool {
        let state = self.state();
        match state.identity {
            Identity::Anyone => true,
            Identity::Bearer(expected) | Identity::Google(expected) => token == format!("Bearer {expected}"),
            Identity::OAuth2 { .. } => state.tokens.iter().any(|good| token == format!("Bearer {good}")),
        }
    }

    fn give_token(&self, path: &str, form: &[u8]) -> Answer {
        let mut state = self.state();
        if let Identity::Google(token) = state.identity
            && path.starts_with("/computeMetadata/v1/instance/service-accounts/default/token")
        {
            state.tokens_given += 1;
            let answer = json!({ "access_token": token, "token_type": "Bearer", "expires_in": 3600 });
            return response(200, answer.to_string());
        }
        let Identity::OAuth2 {
            id,
            secret,
            expires_in,
        } = state.identity
        else {
            return response(404, "");
        };
        let form: Vec<(String, String)> = url::form_urlencoded::parse(form).into_owned().collect();
        let value = |name: &str| {
            form.iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.as_str())
        };
        if value("grant_type") != Some("client_credentials")
            || value("client_id") != id
            || value("client_secret") != Some(secret)
        {
            let said = json!({ "error": "invalid_client", "error_description": format!("not {secret}") });
            return response(401, said.to_string());
        }
        state.tokens_given += 1;
        let token = format!("t0ken-{}-{}", state.tokens_given, Uuid::new_v4());
        state.tokens.push(token.clone());
        let answer = json!({ "access_token": token, "token_type": "bearer", "expires_in": expires_in });
        response(200, answer.to_string())
    }

    /// Sends a request on to the test's corner of the server.
    async fn forward(&self, call: Call, method: Method, path: &str, body: Bytes) -> (u16, Bytes) {
        let url = format!("{}{}", self.upstream, corner::inside(&self.root, path));
        let mut sent = self.http.request(method, url);
        if !body.is_empty() {
            sent = sent
                .header(CONTENT_TYPE, "application/json")
                .body(corner::rooted(&self.root, call, body));
        }
        let answered = async {
            let response = sent.send().await?;
            let status = response.status().as_u16();
            Ok::<_, reqwest::Error>((status, response.bytes().await?))
        };
        match answered.await {
            Ok((status, body)) => (status, corner::unrooted(&self.root, call, &body)),
            Err(error) => (599, error.to_string().into()),
        }
    }
}

fn header(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

fn refusal(status: u16, token: &str) -> Answer {
    let message = format!("Not so, {token}");
    let body = json!({ "error": { "message": message, "type": "TroubleException", "code": status } });
    let mut answer = response(status, body.to_string());
    if (300..400).contains(&status) {
        answer
            .headers_mut()
            .insert(LOCATION, "http://127.0.0.1:1/elsewhere".parse().expect("a value"));
    }
    answer
}

fn response(status: u16, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
    answer
}
