//! Objects of Cloud Storage that are done with: deleted, or moved within their bucket, and never a newer one of their name.
//!
//! By the JSON API ([delete](https://cloud.google.com/storage/docs/json_api/v1/objects/delete),
//! [rewrite](https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite)): Google's client has these calls by gRPC
//! alone, which no server but Google's speaks, so nothing could be tried. A move is a copy and then the deletion; stopped
//! between them it is done again, since the copy's name is a function of the generation. Nothing is deleted before the copy
//! is known to be there. A copy has a mark in its metadata, since its name alone does not tell it from what people put there.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use object_store::gcp::GoogleConfigKey;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Method, Response, StatusCode, redirect, retry};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};

use super::generation::settings;
use super::lookup::MARK;
use crate::config::process_env;
use crate::error::{Error, ErrorKind, Result};
use crate::google::Google;
use crate::random::Random;

const GOOGLE: &str = "https://storage.googleapis.com";

/// A connection, a request with its answer, a piece of a copy, and a token.
const CONNECT: Duration = Duration::from_secs(5);
const REQUEST: Duration = Duration::from_secs(30);
const PIECE: Duration = Duration::from_secs(120);
const TOKEN: Duration = Duration::from_secs(10);

/// Between two tries of a request at most, the first and the later ones.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// What one request copies where the bytes themselves have to move, between storage classes.
const PIECE_BYTES: u64 = 256 << 20;

/// What a copy takes over from its object.
const TAKEN_OVER: [&str; 8] = [
    "cacheControl",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "contentType",
    "customTime",
    "metadata",
    "storageClass",
];

/// Objects that are put away at once.
const AT_ONCE: usize = 32;

/// Puts objects away. Its client is made with the first; nothing is asked of Google before.
#[derive(Debug)]
pub struct Disposal {
    client: OnceCell<Client>,
    room: Semaphore,
}

impl Default for Disposal {
    fn default() -> Self {
        Self {
            client: OnceCell::new(),
            room: Semaphore::new(AT_ONCE),
        }
    }
}

/// An object that is to be put away: which generation of a name, in which bucket.
#[derive(Debug, Clone, Copy)]
pub struct Disposed<'a> {
    /// The bucket's name.
    pub bucket: &'a str,
    /// The object's name.
    pub name: &'a str,
    /// Which of the objects of that name.
    pub generation: i64,
}

#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    /// None where an emulator takes anybody.
    google: Option<Google>,
}

/// The answer to a copy. A large object between storage classes is copied piece by piece, and the token leads on.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rewrite {
    done: bool,
    rewrite_token: Option<String>,
}

/// What makes two objects the same, and one our copy.
#[derive(Debug, Deserialize)]
struct Content {
    size: String,
    crc32c: String,
    /// Left out where there is none.
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// What a request came to, as far as it lasts.
enum Answer {
    Done(Response),
    /// 404.
    Gone,
    /// 412: a precondition does not hold.
    Unmet,
}

/// One object's requests, and how the last one failed.
struct Tries<'a> {
    object: Disposed<'a>,
    random: &'a Random,
    failure: Mutex<Option<Error>>,
}

impl<'a> Tries<'a> {
    fn new(object: Disposed<'a>, random: &'a Random) -> Self {
        let failure = Mutex::default();
        Self {
            object,
            random,
            failure,
        }
    }

    fn failed(&self, failure: Error) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }

    fn too_late(&self) -> Error {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        match failure {
            Some(failure) => not_now(self.object).with_source(failure),
            None => not_now(self.object).with("cause", "Cloud Storage did not answer in time"),
        }
    }
}

type Parameters<'a> = [(&'a str, String)];

/// The resource of an object, as JSON.
pub(super) type Resource = Map<String, Value>;

impl Disposal {
    /// Deletes the object if its name still has that generation. One that is gone, or written anew since, is no error.
    /// What may pass is tried again until then.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] where it may not be deleted; [`ErrorKind::Unavailable`] when that did not work in time.
    pub async fn delete(&self, object: Disposed<'_>, random: &Random, until: Instant) -> Result<()> {
        let tries = Tries::new(object, random);
        let work = async {
            let (client, _room) = (self.client(object).await?, self.room.acquire().await);
            client.delete(&tries).await
        };
        timeout_at(until, work)
            .await
            .unwrap_or_else(|_elapsed| Err(tries.too_late()))
    }

    /// Moves the object to a name in its bucket that is for this generation alone, if its name still has that generation.
    /// As [`Disposal::delete`] besides.
    ///
    /// # Errors
    /// As [`Disposal::delete`].
    pub async fn rename(
        &self,
        object: Disposed<'_>,
        to: &str,
        random: &Random,
        until: Instant,
    ) -> Result<()> {
        let tries = Tries::new(object, random);
        let work = async {
            let (client, _room) = (self.client(object).await?, self.room.acquire().await);
            match client.copy(&tries, to).await? {
                true => client.delete(&tries).await,
                // It is gone: nobody has to delete it.
                false => Ok(()),
            }
        };
        timeout_at(until, work)
            .await
            .unwrap_or_else(|_elapsed| Err(tries.too_late()))
    }

    async fn client(&self, object: Disposed<'_>) -> Result<&Client> {
        let made = self.client.get_or_try_init(async || Client::new()).await;
        // Who we are may be mended, and then the object can go.
        made.map_err(|error| not_now(object).with_source(error))
    }
}

impl Client {
    pub(super) fn new() -> Result<Self> {
        let settings = settings()?;
        let is_open = settings.contains_key(&GoogleConfigKey::BearerToken);
        let base = settings
            .get(&GoogleConfigKey::BaseUrl)
            .map_or(GOOGLE, String::as_str);
        let mut http = reqwest::Client::builder();
        if is_open {
            http = http.no_proxy();
        }
        let http = http
            .user_agent(concat!("landfast/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .timeout(REQUEST)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .build()
            .map_err(|error| {
                let message = "The client for objects of Cloud Storage cannot be made.";
                Error::new(ErrorKind::Unavailable, message).with_source(error)
            })?;
        Ok(Self {
            http,
            base: base.trim_end_matches('/').to_owned(),
            google: (!is_open)
                .then(|| Google::from_env(&process_env, None, TOKEN))
                .transpose()?,
        })
    }

    async fn delete(&self, tries: &Tries<'_>) -> Result<()> {
        let object = tries.object;
        let precondition = [("ifGenerationMatch", object.generation.to_string())];
        let path = path_of(object.bucket, object.name);
        // 404, 412: it is gone, or another generation by now.
        self.send(tries, (Method::DELETE, &path), &precondition, None)
            .await?;
        Ok(())
    }

    /// Copies the object; whether the copy is there. Else the object is not.
    async fn copy(&self, tries: &Tries<'_>, to: &str) -> Result<bool> {
        let object = tries.object;
        let (from, to) = (path_of(object.bucket, object.name), path_of(object.bucket, to));
        let Some(copy) = self.describe_copy(tries, &from).await? else {
            return Ok(false);
        };
        let path = format!("{from}/rewriteTo{to}");
        let mut parameters = vec![
            ("sourceGeneration", object.generation.to_string()),
            ("ifGenerationMatch", "0".to_owned()),
            ("maxBytesRewrittenPerCall", PIECE_BYTES.to_string()),
        ];
        loop {
            let sent = self.send(tries, (Method::POST, &path), &parameters, Some(&copy));
            let answer = match sent.await? {
                Answer::Done(answer) => answer,
                Answer::Gone => return Ok(false),
                // An earlier try made it, or a rule of the organisation forbids it, which has the same status.
                Answer::Unmet => return self.is_copied(tries, &from, &to).await,
            };
            let rewrite: Rewrite = answer
                .json()
                .await
                .map_err(|error| not_now(object).with_source(error))?;
            if rewrite.done {
                return Ok(true);
            }
            let token = rewrite.rewrite_token.ok_or_else(|| not_now(object))?;
            parameters.retain(|(name, _)| *name != "rewriteToken");
            parameters.push(("rewriteToken", token));
        }
    }

    /// The resource of the copy: what people set on the object, and the mark by which we know the copy. Where a rewrite has a
    /// resource, nothing of the object's own is taken over. None where the object is gone.
    async fn describe_copy(&self, tries: &Tries<'_>, from: &str) -> Result<Option<Resource>> {
        let generation = tries.object.generation.to_string();
        let parameters = [
            ("generation", generation.clone()),
            ("fields", TAKEN_OVER.join(",")),
        ];
        let Some(mut resource) = self.find::<Resource>(tries, from, &parameters).await? else {
            return Ok(None);
        };
        resource.retain(|member, _| TAKEN_OVER.contains(&member.as_str()));
        match resource.get_mut("metadata") {
            Some(Value::Object(metadata)) => drop(metadata.insert(MARK.to_owned(), generation.into())),
            _ => drop(resource.insert("metadata".to_owned(), json!({ MARK: generation }))),
        }
        Ok(Some(resource))
    }

    /// Whether what is under the copy's name is our copy of the object.
    async fn is_copied(&self, tries: &Tries<'_>, from: &str, to: &str) -> Result<bool> {
        let generation = [("generation", tries.object.generation.to_string())];
        let Some(object) = self.find::<Content>(tries, from, &generation).await? else {
            return Ok(false);
        };
        let [(_, generation)] = generation;
        match self.find::<Content>(tries, to, &[]).await? {
            Some(copy)
                if (&copy.size, &copy.crc32c) == (&object.size, &object.crc32c)
                    && copy.metadata.get(MARK) == Some(&generation) =>
            {
                Ok(true)
            }
            _ => Err(refused(tries.object, StatusCode::PRECONDITION_FAILED)),
        }
    }

    async fn find<T: DeserializeOwned>(
        &self,
        tries: &Tries<'_>,
        path: &str,
        parameters: &Parameters<'_>,
    ) -> Result<Option<T>> {
        match self.send(tries, (Method::GET, path), parameters, None).await? {
            Answer::Done(answer) => {
                let content = answer.json().await;
                content
                    .map(Some)
                    .map_err(|error| not_now(tries.object).with_source(error.without_url()))
            }
            Answer::Gone | Answer::Unmet => Ok(None),
        }
    }

    /// Sends a request until it is answered with what lasts.
    async fn send(
        &self,
        tries: &Tries<'_>,
        (method, path): (Method, &str),
        parameters: &Parameters<'_>,
        body: Option<&Resource>,
    ) -> Result<Answer> {
        let mut pause = FIRST_PAUSE;
        loop {
            let failure = match self.send_once(method.clone(), path, parameters, body).await {
                Ok(answer) => match answer.status() {
                    status if status.is_success() => return Ok(Answer::Done(answer)),
                    StatusCode::NOT_FOUND => return Ok(Answer::Gone),
                    StatusCode::PRECONDITION_FAILED => return Ok(Answer::Unmet),
                    status if !may_pass(status) => return Err(refused(tries.object, status)),
                    status => not_now(tries.object).with("status", status.as_u16()),
                },
                Err(error) => error,
            };
            tries.failed(failure);
            sleep(tries.random.jitter(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// # Errors
    /// [`ErrorKind::Unavailable`] when there was no answer, or no token; [`ErrorKind::Rejected`] when Google gives none.
    pub(super) async fn send_once(
        &self,
        method: Method,
        path: &str,
        parameters: &Parameters<'_>,
        body: Option<&Resource>,
    ) -> Result<Response> {
        let method_timeout = (method == Method::POST).then_some(PIECE);
        let request = self
            .http
            .request(method, format!("{}/storage/v1{path}", self.base));
        let request = match body {
            Some(body) => request.json(body),
            // Google asks for the length of what has no body, too.
            None => request.header(CONTENT_LENGTH, 0),
        };
        let request = match method_timeout {
            Some(timeout) => request.timeout(timeout),
            None => request,
        };
        let request = match &self.google {
            Some(google) => request.headers(google.headers().await?),
            None => request,
        };
        request.query(parameters).send().await.map_err(|error| {
            Error::new(ErrorKind::Unavailable, "Cloud Storage did not answer.")
                .with_source(error.without_url())
        })
    }
}

pub(super) fn path_of(bucket: &str, name: &str) -> String {
    let name = utf8_percent_encode(name, NON_ALPHANUMERIC);
    format!("/b/{bucket}/o/{name}")
}

/// Whether the same request may do later. A 401 is a token that ended on the way.
fn may_pass(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::UNAUTHORIZED | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
        )
}

fn refused(object: Disposed<'_>, status: StatusCode) -> Error {
    let message = match status {
        StatusCode::FORBIDDEN => {
            "The object may not be put away as `after` says: give the service's account roles/storage.objectUser on the \
             bucket, and mind its retention and holds."
        }
        _ => "The object cannot be put away as `after` says.",
    };
    Error::new(ErrorKind::Rejected, message)
        .with("object", format_args!("gs://{}/{}", object.bucket, object.name))
        .with("status", status.as_u16())
}

fn not_now(object: Disposed<'_>) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "The object was not put away as `after` says.",
    )
    .with("object", format_args!("gs://{}/{}", object.bucket, object.name))
}
