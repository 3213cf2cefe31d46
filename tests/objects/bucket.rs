//! A landing bucket on a server of Cloud Storage's JSON API, what tells of its objects, and connections to it that break.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use uuid::Uuid;

use crate::support::push::Push;
use crate::support::{Component, TestResult, needs};

/// A bucket of its own.
pub struct Landing {
    server: String,
    http: reqwest::Client,
    pub name: String,
}

/// A generation of an object, as the server tells of it.
#[derive(Debug, Clone)]
pub struct Put(Value);

impl Landing {
    /// Makes one. Ends the test as ignored where there is no server.
    pub async fn new() -> TestResult<Self> {
        let server = needs(Component::Gcs)?;
        let http = reqwest::Client::builder().no_proxy().no_gzip().build()?;
        let name = format!("landing-{}", Uuid::new_v4().simple());
        let made = http.post(format!("{server}/storage/v1/b?project=p-test"));
        made.json(&json!({ "name": name }))
            .send()
            .await?
            .error_for_status()?;
        Ok(Self { server, http, name })
    }

    /// The server's address.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Puts an object; the generation that it is now.
    pub async fn put(&self, name: &str, bytes: impl Into<Vec<u8>>) -> TestResult<Put> {
        let url = format!(
            "{}/upload/storage/v1/b/{}/o?uploadType=media&name={}",
            self.server,
            self.name,
            utf8_percent_encode(name, NON_ALPHANUMERIC)
        );
        let put = self
            .http
            .post(url)
            .header(CONTENT_TYPE, "application/octet-stream");
        let put = put.body(bytes.into()).send().await?.error_for_status()?;
        Ok(Put(put.json().await?))
    }

    /// As [`Landing::put`], with more members of its resource.
    pub async fn put_as(&self, name: &str, resource: &Value, bytes: impl AsRef<[u8]>) -> TestResult<Put> {
        let mut resource = resource.clone();
        resource["name"] = name.into();
        // The server takes the type from the part.
        let kind = resource["contentType"]
            .as_str()
            .unwrap_or("application/octet-stream");
        let mut body = format!(
            "--part\r\ncontent-type: application/json\r\n\r\n{resource}\r\n--part\r\ncontent-type: {kind}\r\n\r\n"
        )
        .into_bytes();
        body.extend(bytes.as_ref());
        body.extend(b"\r\n--part--\r\n");
        let url = format!(
            "{}/upload/storage/v1/b/{}/o?uploadType=multipart",
            self.server, self.name
        );
        let put = self
            .http
            .post(url)
            .header(CONTENT_TYPE, "multipart/related; boundary=part");
        let put = put.body(body).send().await?.error_for_status()?;
        Ok(Put(put.json().await?))
    }

    /// What is under the name now.
    pub async fn copy_of(&self, name: &str) -> TestResult<Put> {
        let answer = self.http.get(self.url(name)).send().await?;
        Ok(Put(answer.error_for_status()?.json().await?))
    }

    /// The bytes that are under the name now.
    pub async fn bytes(&self, name: &str) -> TestResult<Vec<u8>> {
        let answer = self
            .http
            .get(format!("{}?alt=media", self.url(name)))
            .send()
            .await?;
        Ok(answer.error_for_status()?.bytes().await?.into())
    }

    fn url(&self, name: &str) -> String {
        let name = utf8_percent_encode(name, NON_ALPHANUMERIC);
        format!("{}/storage/v1/b/{}/o/{name}", self.server, self.name)
    }

    /// The generation that is under the name now.
    pub async fn generation(&self, name: &str) -> TestResult<Option<String>> {
        let answer = self.http.get(self.url(name)).send().await?;
        if answer.status() == 404 {
            return Ok(None);
        }
        let resource: Value = answer.error_for_status()?.json().await?;
        Ok(resource["generation"].as_str().map(str::to_owned))
    }
}

impl Put {
    pub fn name(&self) -> &str {
        self.text("name")
    }

    pub fn generation(&self) -> &str {
        self.text("generation")
    }

    /// A member of its resource.
    pub fn member(&self, name: &str) -> &Value {
        &self.0[name]
    }

    fn text(&self, member: &str) -> &str {
        self.0[member].as_str().unwrap_or_default()
    }

    /// Its notification, `OBJECT_FINALIZE` in the format `JSON_API_V1`, as a message with this id.
    pub fn notification(&self, message_id: &str) -> Push {
        self.event("OBJECT_FINALIZE", message_id)
    }

    /// As [`Put::notification`], of another event.
    pub fn event(&self, event: &str, message_id: &str) -> Push {
        Push::new("landing-events", message_id, self.0.to_string())
            .attribute(
                "notificationConfig",
                "projects/_/buckets/landing/notificationConfigs/1",
            )
            .attribute("eventType", event)
            .attribute("payloadFormat", "JSON_API_V1")
            .attribute("bucketId", self.text("bucket"))
            .attribute("objectId", self.text("name"))
            .attribute("objectGeneration", self.text("generation"))
            .attribute("eventTime", self.text("timeCreated"))
    }

    /// What Eventarc sends as the data of an event.
    pub fn data(&self) -> Value {
        let mut data = json!({});
        for member in ["bucket", "name", "generation", "timeCreated", "size"] {
            data[member] = self.0[member].clone();
        }
        data
    }
}

/// What happens to a connection.
#[derive(Debug, Clone, Copy)]
pub enum Trouble {
    /// It breaks after so many bytes of answers.
    Cut(usize),
    /// This byte of its answers is another.
    Flip(usize),
    /// Every request on it gets this answer.
    Answer(&'static str),
    /// After so many bytes of answers there comes nothing more, and it stays open.
    Hang(usize),
    /// Its first request does not say that it takes gzip, so what is stored with that encoding is unpacked for it.
    Unpacked,
    /// What answers say in the first place they say in the second: headers, under other names.
    Rename(&'static str, &'static str),
}

pub const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
pub const BUSY: &str = "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
pub const AWAY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
pub const FORBIDDEN: &str = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// A front on a port of its own, whose next connections have these troubles, until it is dropped.
pub struct Front {
    address: SocketAddr,
    troubles: Arc<Mutex<VecDeque<Trouble>>>,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
    serving: AbortHandle,
}

impl Front {
    pub async fn start(server: &str) -> TestResult<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let troubles: Arc<Mutex<VecDeque<Trouble>>> = Arc::default();
        let connections: Arc<Mutex<Vec<AbortHandle>>> = Arc::default();
        let (server, next) = (server.trim_start_matches("http://").to_owned(), troubles.clone());
        let open = connections.clone();
        let serving = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let trouble = held(&next).pop_front();
                let server = server.clone();
                let connection = tokio::spawn(async move {
                    // A connection that ends is part of the test.
                    let _ended = pass(client, &server, trouble).await;
                });
                held(&open).push(connection.abort_handle());
            }
        });
        Ok(Self {
            address,
            troubles,
            connections,
            serving: serving.abort_handle(),
        })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next connection has this trouble. Those that are open are closed, or the next request would go by one of them.
    pub fn next(&self, trouble: Trouble) {
        held(&self.connections).drain(..).for_each(|open| open.abort());
        held(&self.troubles).push_back(trouble);
    }

    /// The troubles that no connection had yet are over.
    pub fn clear(&self) {
        held(&self.troubles).clear();
    }

    /// Troubles that no connection had yet.
    pub fn left(&self) -> usize {
        held(&self.troubles).len()
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

async fn pass(mut client: TcpStream, server: &str, trouble: Option<Trouble>) -> std::io::Result<()> {
    if let Some(Trouble::Answer(answer)) = trouble {
        let mut request = [0; 4096];
        let _read = client.read(&mut request).await?;
        return client.write_all(answer.as_bytes()).await;
    }
    let mut server = TcpStream::connect(server).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let answers = async {
        let (mut buffer, mut passed) = ([0; 16 << 10], 0);
        loop {
            let mut count = from_server.read(&mut buffer).await?;
            if count == 0 {
                return Ok(());
            }
            let mut is_over = false;
            match trouble {
                Some(Trouble::Cut(at)) if passed + count >= at => {
                    (count, is_over) = (at - passed, true);
                }
                Some(Trouble::Hang(at)) if passed + count >= at => {
                    to_client.write_all(&buffer[..at - passed]).await?;
                    return std::future::pending().await;
                }
                Some(Trouble::Rename(from, to)) => {
                    rename(&mut buffer[..count], from, to);
                }
                Some(Trouble::Flip(at)) if (passed..passed + count).contains(&at) => {
                    buffer[at - passed] ^= 1;
                }
                _ => {}
            }
            to_client.write_all(&buffer[..count]).await?;
            passed += count;
            if is_over {
                return Ok(());
            }
        }
    };
    let requests = async {
        if let Some(Trouble::Unpacked) = trouble {
            let mut request = [0; 16 << 10];
            let count = from_client.read(&mut request).await?;
            rename(&mut request[..count], "accept-encoding", "x-some-encoding");
            to_server.write_all(&request[..count]).await?;
        }
        tokio::io::copy(&mut from_client, &mut to_server).await
    };
    tokio::select! {
        ended = answers => ended,
        ended = requests => ended.map(drop),
    }
}

fn rename(bytes: &mut [u8], from: &str, to: &str) {
    let found = bytes
        .windows(from.len())
        .position(|window| window.eq_ignore_ascii_case(from.as_bytes()));
    if let Some(at) = found {
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
    }
}
