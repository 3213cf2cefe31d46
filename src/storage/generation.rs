//! Objects of Cloud Storage by their generation, read to their end with Google's own client.
//!
//! The client pins the generation, goes on where a connection broke, and checks the CRC32C of the whole
//! ([media download](https://cloud.google.com/storage/docs/json_api/v1/objects/get)). Bytes come as they are stored:
//! nothing is unpacked on the way, [since it asks for gzip](https://cloud.google.com/storage/docs/transcoding). Where an
//! object is stored with that encoding and the answer does not say so, the client checks nothing, so we do.

use std::collections::HashMap;
use std::io::{self, Read};
use std::time::Duration;

use bytes::{Buf, Bytes};
use crc32c::crc32c_append;
use google_cloud_auth::credentials::anonymous;
use google_cloud_gax::exponential_backoff::ExponentialBackoffBuilder;
use google_cloud_gax::retry_policy::RetryPolicyExt;
use google_cloud_storage::client::Storage;
use google_cloud_storage::read_object::ReadObjectResponse;
use google_cloud_storage::retry_policy::RetryableErrors;
use object_store::gcp::GoogleConfigKey;
use tokio::sync::{OnceCell, mpsc};
use tokio::time::{Instant, timeout_at};

use super::Properties;
use super::cloud::{Refusal, gcs_settings};
use super::lookup::Lookup;
use crate::config::process_env;
use crate::error::{Error, ErrorKind, Result};
use crate::google::{self, Google};

/// How long a token is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two tries of a request at most, the first and the later ones.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// Pieces of an object that are read ahead of whoever reads them: some megabytes at most.
const AHEAD: usize = 8;

/// Reads generations of objects. The client is made with the first; nothing is asked of Google before.
#[derive(Debug, Default)]
pub struct Generations {
    client: OnceCell<Storage>,
    lookup: Lookup,
}

/// A generation of an object, opened.
#[derive(Debug)]
pub struct Generation {
    url: String,
    response: ReadObjectResponse,
    /// Bytes so far.
    read: u64,
    /// Of those, and what it has to be in the end, where the client may not check it.
    sum: Option<(u32, u32)>,
}

impl Generations {
    /// Opens one; `None` when it is not there any more, which a listing of its bucket proves. What may pass is tried again
    /// until then.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] naming the object, also where it may not be read: a role that is missing can be given. The
    /// same for an answer of another generation, or one that cannot be checked.
    pub async fn open(
        &self,
        bucket: &str,
        name: &str,
        generation: i64,
        until: Instant,
    ) -> Result<Option<Generation>> {
        let client = self.client.get_or_try_init(client).await?;
        let url = format!("gs://{bucket}/{name}");
        // Less than all of it: that a bucket is busy says more than that the time is over.
        let patience = until.saturating_duration_since(Instant::now()).mul_f64(0.9);
        let read = client
            .read_object(format!("projects/_/buckets/{bucket}"), name)
            .set_generation(generation)
            .with_retry_policy(RetryableErrors.with_time_limit(patience))
            .send();
        match read.await {
            Ok(response) => {
                let object = response.object();
                let crc32c = object.checksums.as_ref().and_then(|sums| sums.crc32c);
                let Some(crc32c) = crc32c.filter(|_| object.generation == generation) else {
                    let message = "What answers for Cloud Storage does not say that it is this generation, or not its \
                                   CRC32C; nothing of it lands.";
                    return Err(Error::new(ErrorKind::Unavailable, message).with("object", url));
                };
                let is_unchecked = object.content_encoding == "gzip";
                Ok(Some(Generation {
                    url,
                    response,
                    read: 0,
                    sum: is_unchecked.then_some((0, crc32c)),
                }))
            }
            Err(error) if error.http_status_code() == Some(404) => {
                self.lookup.prove_gone((bucket, name, generation)).await?;
                Ok(None)
            }
            Err(error) => Err(unreadable(&url, error.http_status_code()).with_source(error)),
        }
    }

    /// Whether an object is our copy of the generation that its name tells; `None` when it is not there any more.
    ///
    /// # Errors
    /// As [`Generations::open`].
    pub async fn is_copy(&self, bucket: &str, name: &str, generation: i64, of: &str) -> Result<Option<bool>> {
        self.lookup.is_copy((bucket, name, generation), of).await
    }
}

impl Generation {
    /// Its size in bytes, as it is stored and as the answer has it. Zero proves nothing: it stands for a size unsaid, too.
    pub fn size(&self) -> u64 {
        u64::try_from(self.response.object().size).unwrap_or_default()
    }

    /// All of it.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] naming the object, also when it is not what it said.
    pub async fn bytes(mut self) -> Result<Bytes> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.size()).unwrap_or_default());
        while let Some(piece) = self.next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.into())
    }

    /// Its next piece. At the end, which is `None`, it was all of what is stored.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let next = self.response.next().await.transpose();
        let piece =
            next.map_err(|error| unreadable(&self.url, error.http_status_code()).with_source(error))?;
        let length = piece.as_ref().map_or(0, Bytes::len);
        self.read = self.read.saturating_add(length as u64);
        if let (Some((sum, _)), Some(piece)) = (&mut self.sum, &piece) {
            *sum = crc32c_append(*sum, piece);
        }
        let is_as_told = match &piece {
            Some(_) => self.read <= self.size(),
            None => {
                let is_sum = |(sum, told): &(u32, u32)| sum == told;
                self.read == self.size() && self.sum.as_ref().is_none_or(is_sum)
            }
        };
        match is_as_told {
            true => Ok(piece),
            false => {
                let message = "The bytes of the object are not those that the answer tells of, as where something on the \
                               way unpacks them; nothing of it lands.";
                Err(Error::new(ErrorKind::Unavailable, message).with("object", &self.url))
            }
        }
    }

    /// Reads it from a thread that may wait, until then at most. A failure is an [`io::Error`] around one of ours; to stop
    /// reading is to drop it.
    pub fn into_read(self, until: Instant) -> impl Read + Send + 'static {
        let (sender, pieces) = mpsc::channel(AHEAD);
        tokio::spawn(pump(self, sender, until));
        Pumped {
            pieces,
            piece: Bytes::new(),
            ended: false,
        }
    }
}

/// Sends the pieces, and `None` at the end. A thread that waits for them must not wait for a server that is silent.
async fn pump(mut object: Generation, sender: mpsc::Sender<Result<Option<Bytes>>>, until: Instant) {
    loop {
        let next = tokio::select! {
            next = timeout_at(until, object.next()) => next,
            () = sender.closed() => return,
        };
        let piece = match next {
            Ok(next) => next,
            Err(_elapsed) => {
                let message = "The object was not read to its end in time.";
                Err(Error::new(ErrorKind::Unavailable, message).with("object", &object.url))
            }
        };
        let is_last = !matches!(piece, Ok(Some(_)));
        if sender.send(piece).await.is_err() || is_last {
            return;
        }
    }
}

struct Pumped {
    pieces: mpsc::Receiver<Result<Option<Bytes>>>,
    piece: Bytes,
    ended: bool,
}

impl Read for Pumped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Ok(Some(piece))) => self.piece = piece,
                Some(Ok(None)) => self.ended = true,
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => {
                    let message = "The reading of the object was stopped; deliver it again.";
                    return Err(io::Error::other(Error::new(ErrorKind::Unavailable, message)));
                }
            }
        }
        let count = self.piece.len().min(buffer.len());
        let (filled, _) = buffer.split_at_mut(count);
        self.piece.copy_to_slice(filled);
        Ok(count)
    }
}

/// Another server than Google's, and who we are, as for the other stores; a token there is that of an emulator, which asks
/// for none.
pub(super) fn settings() -> Result<HashMap<GoogleConfigKey, String>> {
    gcs_settings(&Properties::new(), &process_env).map_err(|refusal| match refusal {
        Refusal::Rule(rule) => Error::new(ErrorKind::Config, rule),
        Refusal::Identity(error) => error,
        Refusal::Client(source) => {
            Error::new(ErrorKind::Config, "The settings of Cloud Storage cannot be used.").with_source(source)
        }
    })
}

async fn client() -> Result<Storage> {
    google::prepare_client()?;
    let settings = settings()?;
    let credentials = match settings.contains_key(&GoogleConfigKey::BearerToken) {
        true => anonymous::Builder::new().build(),
        false => Google::from_env(&process_env, None, PATIENCE)?.into_credentials(),
    };
    let backoff = ExponentialBackoffBuilder::new()
        .with_initial_delay(FIRST_PAUSE)
        .with_maximum_delay(LONGEST_PAUSE);
    let mut builder = Storage::builder()
        .with_credentials(credentials)
        .with_backoff_policy(backoff.clamp());
    if let Some(address) = settings.get(&GoogleConfigKey::BaseUrl) {
        builder = builder.with_endpoint(address);
    }
    builder.build().await.map_err(|error| {
        let message = "Google's client of Cloud Storage cannot be made.";
        Error::new(ErrorKind::Unavailable, message).with_source(error)
    })
}

pub(super) fn unreadable(url: &str, status: Option<u16>) -> Error {
    let message = match status {
        Some(401 | 403) => {
            "The object may not be read: give the service's account roles/storage.objectViewer on the bucket."
        }
        _ => "The object cannot be read now.",
    };
    Error::new(ErrorKind::Unavailable, message).with("object", url)
}
