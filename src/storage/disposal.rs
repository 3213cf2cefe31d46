//! Objects of Cloud Storage that are done with: deleted, or moved within their bucket, and never a newer one of their name.
//!
//! By the JSON API ([delete](https://cloud.google.com/storage/docs/json_api/v1/objects/delete),
//! [rewrite](https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite)): Google's client has these calls by gRPC
//! alone, which no server but Google's speaks, so nothing could be tried. A move is a copy and then the deletion; stopped
//! between them it is done again, since the copy's name is a function of the generation.

use std::time::Duration;

use object_store::gcp::GoogleConfigKey;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Method, Response, StatusCode, redirect, retry};
use serde::Deserialize;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep, timeout_at};

use super::generation::settings;
use crate::error::{Error, ErrorKind, Result};
use crate::google::Google;
use crate::random::Random;

const GOOGLE: &str = "https://storage.googleapis.com";

/// A connection, a request with its answer, and a token.
const CONNECT: Duration = Duration::from_secs(5);
const REQUEST: Duration = Duration::from_secs(30);
const TOKEN: Duration = Duration::from_secs(10);

/// Between two tries of a request at most, the first and the later ones.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// Puts objects away. Its client is made with the first; nothing is asked of Google before.
#[derive(Debug, Default)]
pub struct Disposal {
    client: OnceCell<Client>,
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
struct Client {
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

type Parameters<'a> = [(&'a str, String)];

impl Disposal {
    /// Deletes the object if its name still has that generation. One that is gone, or written anew since, is no error.
    /// What may pass is tried again until then.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] where it may not be deleted; [`ErrorKind::Unavailable`] when that did not work in time.
    pub async fn delete(&self, object: Disposed<'_>, random: &Random, until: Instant) -> Result<()> {
        let work = async {
            let client = self.client().await?;
            client.delete(object, random).await
        };
        timeout_at(until, work)
            .await
            .unwrap_or_else(|_elapsed| Err(too_late(object)))
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
        let work = async {
            let client = self.client().await?;
            client.copy(object, to, random).await?;
            client.delete(object, random).await
        };
        timeout_at(until, work)
            .await
            .unwrap_or_else(|_elapsed| Err(too_late(object)))
    }

    async fn client(&self) -> Result<&Client> {
        self.client.get_or_try_init(async || Client::new()).await
    }
}

impl Client {
    fn new() -> Result<Self> {
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
            google: (!is_open).then(|| Google::new(None, TOKEN)).transpose()?,
        })
    }

    async fn delete(&self, object: Disposed<'_>, random: &Random) -> Result<()> {
        let precondition = [("ifGenerationMatch", object.generation.to_string())];
        let path = path_of(object.bucket, object.name);
        self.send(object, (Method::DELETE, &path), &precondition, random)
            .await?;
        Ok(())
    }

    async fn copy(&self, object: Disposed<'_>, to: &str, random: &Random) -> Result<()> {
        let (from, to) = (path_of(object.bucket, object.name), path_of(object.bucket, to));
        let path = format!("{from}/rewriteTo{to}");
        let mut parameters = vec![
            ("sourceGeneration", object.generation.to_string()),
            // What is there was copied by an earlier try.
            ("ifGenerationMatch", "0".to_owned()),
        ];
        while let Some(answer) = self
            .send(object, (Method::POST, &path), &parameters, random)
            .await?
        {
            let rewrite: Rewrite = answer
                .json()
                .await
                .map_err(|error| not_now(object).with_source(error))?;
            let Some(token) = rewrite.rewrite_token.filter(|_| !rewrite.done) else {
                break;
            };
            parameters.retain(|(name, _)| *name != "rewriteToken");
            parameters.push(("rewriteToken", token));
        }
        Ok(())
    }

    /// Sends a request until it is done. `None` where the object is gone, or the precondition does not hold: nothing is
    /// left to do.
    async fn send(
        &self,
        object: Disposed<'_>,
        (method, path): (Method, &str),
        parameters: &Parameters<'_>,
        random: &Random,
    ) -> Result<Option<Response>> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.send_once(method.clone(), path, parameters).await {
                Ok(answer) if answer.status().is_success() => return Ok(Some(answer)),
                Ok(answer) if is_settled(answer.status()) => return Ok(None),
                Ok(answer) if !may_pass(answer.status()) => return Err(refused(object, answer.status())),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Rejected => return Err(error),
                Err(_) => {}
            }
            sleep(random.jitter(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn send_once(&self, method: Method, path: &str, parameters: &Parameters<'_>) -> Result<Response> {
        let request = self
            .http
            .request(method, format!("{}/storage/v1{path}", self.base));
        // Google asks for the length of what has no body, too.
        let request = request.header(CONTENT_LENGTH, 0);
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

fn path_of(bucket: &str, name: &str) -> String {
    let name = utf8_percent_encode(name, NON_ALPHANUMERIC);
    format!("/b/{bucket}/o/{name}")
}

/// Gone, or another generation by now.
fn is_settled(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::PRECONDITION_FAILED)
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

fn too_late(object: Disposed<'_>) -> Error {
    not_now(object).with("cause", "it took too long")
}
