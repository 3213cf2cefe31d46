//! BigLake as Google documents it, before the reference server of the REST catalog and the Cloud Storage server.
//!
//! The server judges commits; what the front adds is what Google has and the server has not: its address and prefix, tokens of
//! a metadata server that end, the project that is charged, catalogs that vend tokens, namespaces of one level, the bound of a
//! metadata file, and no method that Google does not list. Tables lie in the bucket: the server keeps a copy on the disk.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Method, Request, Response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::TestResult;
use super::bucket::Bucket;
use super::http::{Answer, Broken, serve};

const BASE: &str = "/iceberg/v1/restcatalog/";
const PREFIX: &str = "v1/projects/1234/catalogs/lake";
const TOKEN: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
/// The largest metadata file.
const MOST: usize = 1_000_000;

/// Where the front stands, and what is behind it.
pub struct Behind<'a> {
    /// The catalog's server, or what stands before that.
    pub catalog: &'a str,
    /// The folder of that server's tables, a `file:///` location.
    pub folder: &'a str,
    /// Where tables lie for everybody else, and the storage server's address.
    pub bucket: &'a Bucket,
    pub storage: &'a str,
    /// Where tables' configurations say that the bucket is reached; Google says nothing.
    pub endpoint: Option<String>,
}

/// A request that got through.
#[derive(Debug, Clone)]
pub struct Seen {
    pub id: String,
    pub path: String,
    pub headers: HeaderMap,
}

struct Inner {
    catalog: String,
    folder: String,
    location: String,
    storage: String,
    endpoint: Option<String>,
    http: reqwest::Client,
    methods: Vec<Value>,
    /// The life of tokens.
    life: Duration,
    given: AtomicUsize,
    tokens: Mutex<Vec<(String, Instant)>>,
    /// The clock of vended tokens, and how many were vended; the newest is `vended-N`.
    now: Mutex<Option<DateTime<Utc>>>,
    vended: AtomicUsize,
    refused: Mutex<Vec<(u16, String)>>,
    seen: Mutex<Vec<Seen>>,
}

/// A front on a port of its own, until it is dropped.
pub struct BigLake {
    address: SocketAddr,
    inner: Arc<Inner>,
    serving: AbortHandle,
}

impl BigLake {
    /// Starts one whose metadata server gives tokens that last so long.
    pub async fn before(behind: Behind<'_>, life: Duration) -> TestResult<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let methods: Value = serde_json::from_str(include_str!("../golden/biglake/methods.json"))?;
        let folder = behind.folder.trim_start_matches("file:").trim_start_matches('/');
        let inner = Arc::new(Inner {
            catalog: behind.catalog.to_owned(),
            folder: format!("/{folder}"),
            location: behind.bucket.location("lake"),
            storage: behind.storage.to_owned(),
            endpoint: behind.endpoint,
            http: reqwest::Client::builder().no_proxy().build()?,
            methods: methods["methods"].as_array().cloned().unwrap_or_default(),
            life,
            given: AtomicUsize::new(0),
            tokens: Mutex::default(),
            now: Mutex::default(),
            vended: AtomicUsize::new(0),
            refused: Mutex::default(),
            seen: Mutex::default(),
        });
        let serving = tokio::spawn(serve(listener, inner.clone(), Inner::answer)).abort_handle();
        Ok(Self {
            address,
            inner,
            serving,
        })
    }

    /// Its address, as the key `uri` of the catalog.
    pub fn url(&self) -> String {
        format!("http://{}{}", self.address, BASE.trim_end_matches('/'))
    }

    /// The metadata server's host.
    pub fn metadata_host(&self) -> String {
        self.address.to_string()
    }

    /// A token that is good for long, as nobody asked for it.
    pub fn token(&self) -> String {
        self.inner.give(Duration::from_secs(3600))
    }

    /// How many tokens the metadata server gave.
    pub fn tokens_given(&self) -> usize {
        self.inner.given.load(Ordering::Relaxed)
    }

    /// From now on vended tokens last an hour of this clock.
    pub fn vend_from(&self, now: DateTime<Utc>) {
        *held(&self.inner.now) = Some(now);
    }

    /// A text of the server's as everybody else knows its places.
    pub fn outside(&self, text: &str) -> String {
        self.inner.outside(text)
    }

    /// What got through.
    pub fn seen(&self) -> Vec<Seen> {
        held(&self.inner.seen).clone()
    }

    /// What was refused by the front itself: status and reason.
    pub fn refused(&self) -> Vec<(u16, String)> {
        held(&self.inner.refused).clone()
    }
}

impl Drop for BigLake {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn give(&self, life: Duration) -> String {
        let mut tokens = held(&self.tokens);
        let token = format!("ya29.s3cret-{}", tokens.len());
        tokens.push((token.clone(), Instant::now() + life));
        token
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer, Broken> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_gone| Broken)?.to_bytes();
        let path = head.uri.path_and_query().map_or("", |path| path.as_str());
        if head.uri.path() == TOKEN {
            if header(&head.headers, "metadata-flavor") != "Google" {
                return Ok(answer(403, json!({})));
            }
            self.given.fetch_add(1, Ordering::Relaxed);
            // Good for a little longer than it says: what is on its way at its end still comes.
            let token = self.give(self.life + Duration::from_secs(3));
            let seconds = self.life.as_secs();
            return Ok(answer(
                200,
                json!({ "access_token": token, "expires_in": seconds, "token_type": "Bearer" }),
            ));
        }
        let judged = self.judge(&head.method, path, &head.headers, &body).await;
        let (id, inside) = match judged {
            Ok(judged) => judged,
            Err((status, reason)) => {
                held(&self.refused).push((status, reason.clone()));
                return Ok(answer(
                    status,
                    json!({ "error": { "code": status, "message": reason, "status": "REFUSED" } }),
                ));
            }
        };
        held(&self.seen).push(Seen {
            id: id.clone(),
            path: path.to_owned(),
            headers: head.headers.clone(),
        });
        if id == "getIcebergCatalogConfig" {
            // No `defaults`.
            let prefix = PREFIX.trim_start_matches("v1/");
            return Ok(answer(200, json!({ "overrides": { "prefix": prefix } })));
        }
        self.pass(&id, head.method, &inside, body).await
    }

    /// The method's name and the path behind the address, or why Google refuses it.
    async fn judge(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<(String, String), (u16, String)> {
        let refuse = |status, reason: &str| Err((status, reason.to_owned()));
        let Some(inside) = path.strip_prefix(BASE) else {
            return refuse(404, "The requested URL was not found on this server.");
        };
        let (place, query) = inside.split_once('?').unwrap_or((inside, ""));
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let Some(listed) = self.methods.iter().find(|listed| {
            listed["method"] == method.as_str() && matches(listed["path"].as_str().unwrap_or_default(), place)
        }) else {
            return refuse(404, "There is no such method.");
        };
        let known =
            |names: &Value, name: &str| names.as_array().is_some_and(|all| all.contains(&name.into()));
        let mut parameters = url::form_urlencoded::parse(query.as_bytes());
        let fields = body
            .as_object()
            .map(|body| body.keys().cloned().collect::<Vec<_>>());
        let stray = parameters.any(|(name, _)| !known(&listed["query"], &name))
            || fields
                .unwrap_or_default()
                .iter()
                .any(|name| !known(&listed["body"], name));
        if stray {
            return refuse(400, "A parameter or a field is not the method's.");
        }
        let bearer = header(headers, "authorization");
        let is_good =
            |(token, end): &(String, Instant)| bearer == format!("Bearer {token}") && Instant::now() < *end;
        if !held(&self.tokens).iter().any(is_good) {
            return refuse(401, "Request had invalid authentication credentials.");
        }
        if header(headers, "x-goog-user-project") != "p-test" {
            return refuse(403, "No project is charged.");
        }
        if header(headers, "x-iceberg-access-delegation") != "vended-credentials" {
            return refuse(400, "The catalog vends credentials; ask for them.");
        }
        let id = listed["id"].as_str().unwrap_or_default().to_owned();
        if id == "getIcebergCatalogConfig" {
            let mut warehouses = url::form_urlencoded::parse(query.as_bytes());
            let known = warehouses.any(|(_, value)| value == "bl://projects/p-test/catalogs/lake");
            return match known {
                true => Ok((id, String::new())),
                false => refuse(404, "There is no such catalog."),
            };
        }
        if !place.starts_with(&format!("{PREFIX}/")) {
            return refuse(404, "There is no such catalog.");
        }
        if place.contains("%1F")
            || query.contains("parent=")
            || body["namespace"].as_array().is_some_and(|l| l.len() > 1)
        {
            return refuse(400, "Namespaces have a single level.");
        }
        if id == "tables.updateIcebergTable" {
            self.measure(inside, &body).await?;
        }
        Ok((id, inside.to_owned()))
    }

    /// Refuses a commit that would make the metadata larger than 1 MB, by the server's own metadata.
    async fn measure(&self, inside: &str, commit: &Value) -> Result<(), (u16, String)> {
        let broken = |_| (500, "The table cannot be measured.".to_owned());
        let now = self
            .http
            .get(format!("{}/{inside}", self.catalog))
            .send()
            .await
            .map_err(broken)?;
        let now: Value = now.json().await.map_err(broken)?;
        let mut size = self.outside(&now["metadata"].to_string()).len();
        for update in commit["updates"].as_array().into_iter().flatten() {
            match update["action"].as_str() {
                Some("add-snapshot") => size += update["snapshot"].to_string().len(),
                Some("remove-snapshots") => {
                    let gone = update["snapshot-ids"].as_array().cloned().unwrap_or_default();
                    let snapshots = now["metadata"]["snapshots"].as_array();
                    for snapshot in snapshots.into_iter().flatten() {
                        if gone.contains(&snapshot["snapshot-id"]) {
                            size = size.saturating_sub(snapshot.to_string().len());
                        }
                    }
                }
                _ => size += update.to_string().len(),
            }
        }
        match size > MOST {
            true => Err((400, format!("The metadata has {size} bytes, more than 1 MB."))),
            false => Ok(()),
        }
    }

    async fn pass(&self, id: &str, method: Method, inside: &str, body: Bytes) -> Result<Answer, Broken> {
        let folder = format!("file://{}", self.folder);
        let text = String::from_utf8_lossy(&body).replace(&self.location, &folder);
        let mut sent = self.http.request(method, format!("{}/{inside}", self.catalog));
        if !text.is_empty() {
            sent = sent.header("content-type", "application/json").body(text);
        }
        let answered = sent.send().await.map_err(|_gone| Broken)?;
        let status = answered.status().as_u16();
        let told = self.outside(&answered.text().await.map_err(|_gone| Broken)?);
        let Ok(mut told) = serde_json::from_str::<Value>(&told) else {
            return Ok(plain(status, told));
        };
        if status == 200 && matches!(id, "tables.create" | "tables.updateIcebergTable") {
            self.publish(&told).await.ok_or(Broken)?;
        }
        if status == 200
            && matches!(
                id,
                "tables.create" | "tables.get" | "tables.loadIcebergTableCredentials"
            )
        {
            told["storage-credentials"] = self.vend();
            if let Some(endpoint) = &self.endpoint {
                told["config"] = json!({ "gcs.service.host": endpoint });
            }
        }
        Ok(answer(status, told))
    }

    /// Puts the metadata into the bucket, as everybody else finds it there.
    async fn publish(&self, table: &Value) -> Option<()> {
        let location = table["metadata-location"].as_str()?;
        let (bucket, name) = location.strip_prefix("gs://")?.split_once('/')?;
        let name = utf8_percent_encode(name, NON_ALPHANUMERIC);
        let url = format!(
            "{}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}",
            self.storage
        );
        let put = self
            .http
            .post(url)
            .body(table["metadata"].to_string())
            .send()
            .await;
        put.ok()?.error_for_status().ok().map(drop)
    }

    fn vend(&self) -> Value {
        let number = self.vended.fetch_add(1, Ordering::Relaxed) + 1;
        let now = held(&self.now).unwrap_or_else(Utc::now);
        let end = (now + TimeDelta::hours(1)).timestamp_millis().to_string();
        let config =
            json!({ "gcs.oauth2.token": format!("vended-{number}"), "gcs.oauth2.token-expires-at": end });
        json!([{ "prefix": format!("{}/", self.location), "config": config }])
    }

    /// A text of the server's as everybody else knows its places.
    fn outside(&self, text: &str) -> String {
        let whole = text.replace(&format!("file://{}", self.folder), &self.location);
        whole.replace(&format!("file:{}", self.folder), &self.location)
    }
}

/// Whether a path is of a template in which `*` stands for one part of it.
fn matches(template: &str, place: &str) -> bool {
    let (mut template, mut place) = (template.split('/'), place.split('/'));
    loop {
        match (template.next(), place.next()) {
            (None, None) => return true,
            (Some("*"), Some(part)) if !part.is_empty() => {}
            (Some(expected), Some(part)) if expected == part => {}
            _ => return false,
        }
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn answer(status: u16, body: Value) -> Answer {
    plain(status, body.to_string())
}

fn plain(status: u16, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status.try_into().unwrap_or_default();
    answer
}
