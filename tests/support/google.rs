//! Google's endpoints that give tokens: the metadata server, a user's login, impersonation, and federation.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::TestResult;
use super::http::{Answer, Broken, serve};

/// How the metadata server takes a request.
#[derive(Debug, Clone, Copy)]
pub enum Mood {
    /// It gives the token `machine-s3cret`, which lasts so many seconds.
    Gives(u64),
    /// It gives one of this name that lasts so many seconds.
    Named(&'static str, u64),
    /// It gives `machine-s3cret` after this long.
    Slow(Duration),
    /// It answers with this status.
    Answers(u16),
    /// It closes the connection.
    Closes,
    /// It never answers.
    Silent,
}

struct Inner {
    /// The next moods; the last one stays.
    moods: Mutex<Vec<Mood>>,
    asked: AtomicUsize,
    /// Whether logins are good.
    trusts: bool,
}

/// All of them on one port, until it is dropped.
pub struct Google {
    host: String,
    inner: Arc<Inner>,
    serving: AbortHandle,
}

impl Google {
    /// Starts them; the metadata server has these moods in turn, and the last for good.
    pub async fn start(moods: &[Mood]) -> TestResult<Self> {
        Self::new(moods, true).await
    }

    /// Starts them so that nobody gets a token for what a file says, and the answers quote it.
    pub async fn distrustful() -> TestResult<Self> {
        Self::new(&[Mood::Answers(404)], false).await
    }

    async fn new(moods: &[Mood], trusts: bool) -> TestResult<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let host = listener.local_addr()?.to_string();
        let inner = Arc::new(Inner {
            moods: Mutex::new(moods.to_vec()),
            asked: AtomicUsize::new(0),
            trusts,
        });
        let serving = tokio::spawn(serve(listener, inner.clone(), Inner::answer)).abort_handle();
        Ok(Self { host, inner, serving })
    }

    /// The metadata server's host and port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// How often the metadata server was asked for a token.
    pub fn asked(&self) -> usize {
        self.inner.asked.load(Ordering::Relaxed)
    }

    /// A user's login, as `gcloud auth application-default login` leaves it; its token is `user-s3cret`.
    pub fn login(&self) -> Value {
        json!({
            "type": "authorized_user", "client_id": "c", "client_secret": "client-s3cret",
            "refresh_token": "refresh-s3cret", "token_uri": format!("http://{}/token", self.host),
        })
    }

    /// An account that the login impersonates; its token is `impersonated-s3cret`.
    pub fn impersonated(&self) -> Value {
        json!({
            "type": "impersonated_service_account", "source_credentials": self.login(),
            "service_account_impersonation_url": self.impersonation(),
        })
    }

    /// A federated identity whose own token is in a file; its token is `federated-s3cret`.
    pub fn federated(&self, subject: &str) -> Value {
        json!({
            "type": "external_account", "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/o",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": format!("http://{}/sts", self.host),
            "credential_source": { "file": subject },
        })
    }

    fn impersonation(&self) -> String {
        format!(
            "http://{}/v1/projects/-/serviceAccounts/lake@p-test.iam.gserviceaccount.com:generateAccessToken",
            self.host
        )
    }
}

impl Drop for Google {
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
        let bearer = head
            .headers
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        let text = String::from_utf8_lossy(&body).into_owned();
        let form: HashMap<String, String> = url::form_urlencoded::parse(&body).into_owned().collect();
        let said = |name: &str| form.get(name).map_or("", String::as_str);
        let token = |token: &str| {
            let issued = "urn:ietf:params:oauth:token-type:access_token";
            json!({ "access_token": token, "expires_in": 3600, "token_type": "Bearer", "issued_token_type": issued })
        };
        let path = head.uri.path();
        if path.starts_with("/computeMetadata/") {
            return self.metadata(path).await;
        }
        if !self.trusts {
            let quoted =
                json!({ "error": "invalid_grant", "error_description": "It was revoked.", "said": text });
            return Ok(answer(400, &quoted));
        }
        match path {
            "/token" if text.contains("refresh-s3cret") => Ok(answer(200, &token("user-s3cret"))),
            "/sts" if said("subject_token") == "subject-s3cret" => {
                Ok(answer(200, &token("federated-s3cret")))
            }
            path if path.ends_with(":generateAccessToken") && bearer == Some("Bearer user-s3cret") => {
                let given =
                    json!({ "accessToken": "impersonated-s3cret", "expireTime": "2100-01-01T00:00:00Z" });
                Ok(answer(200, &given))
            }
            _ => Ok(answer(400, &json!({ "error": "invalid_request" }))),
        }
    }

    async fn metadata(&self, path: &str) -> Result<Answer, Broken> {
        if !path.ends_with("/default/token") {
            return Ok(answer(404, &json!({})));
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mood = {
            let mut moods = held(&self.moods);
            match moods.len() {
                1 => moods[0],
                _ => moods.remove(0),
            }
        };
        let token = |name: &str, seconds: u64| {
            let token = json!({ "access_token": name, "expires_in": seconds, "token_type": "Bearer" });
            Ok(answer(200, &token))
        };
        match mood {
            Mood::Gives(seconds) => token("machine-s3cret", seconds),
            Mood::Named(name, seconds) => token(name, seconds),
            Mood::Slow(wait) => {
                sleep(wait).await;
                token("machine-s3cret", 3600)
            }
            Mood::Answers(status) => Ok(answer(status, &json!({ "error": "s3cret" }))),
            Mood::Closes => Err(Broken),
            Mood::Silent => std::future::pending().await,
        }
    }
}

fn answer(status: u16, body: &Value) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body.to_string())));
    *answer.status_mut() = status.try_into().unwrap_or_default();
    answer
}
