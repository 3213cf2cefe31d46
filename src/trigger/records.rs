//! Rows sent directly: `POST /v1/tables/{namespace.table}/records`.
//!
//! A request is one delivery of the table that it names, and goes the way of a push from there on. Its caller is no
//! queue: it is told what became of each record, and to come again only where that can help.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use iceberg::TableIdent;
use serde::Serialize;
use tokio::time::Instant;

use super::delivery::fingerprint;
use super::http::{closing, is_json, is_long, media_type};
use super::problem::document;
use super::{Answer, DeliveryId, Envelope, Held, Receipt, Server};
use crate::decode::{Compression, NotUnpacked, RejectKind, unpack};
use crate::error::{Error, ErrorKind, Result};
use crate::telemetry::{Trace, within};

/// The source of rows that were sent directly: what stands in dead letters and envelopes.
const SOURCE: &str = "http";

const MEDIA_TYPES: &str = "This version takes rows as JSON: application/json, a type that ends in +json, \
                           application/x-ndjson, application/ndjson or application/jsonl. Say so in content-type.";

const CODINGS: &str = "This version takes the content encodings gzip and zstd, one of them or none.";

const KEY_HEADER: &str = "idempotency-key";
const MAX_KEY_CHARS: usize = 255;

/// Whose keys they are: the one bearer token's.
const KEY_SCOPE: &str = "idempotency-key";

/// What became of the records, once they are durable.
#[derive(Debug, Serialize)]
struct Landed {
    /// Rows in a committed snapshot.
    rows: u64,
    /// Records in the dead-letter sink, each with its reason.
    dead_letters: u64,
    /// The snapshot that added the rows, `null` when there are none. Text: it is beyond what JSON's readers hold exactly.
    snapshot_id: Option<String>,
    /// Whether an earlier request with the same key brought them, and this answer is its.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

impl From<Receipt> for Landed {
    fn from(receipt: Receipt) -> Self {
        Self {
            rows: receipt.row_count,
            dead_letters: receipt.dead_letter_count,
            snapshot_id: receipt.snapshot_id.map(|id| id.to_string()),
            duplicate: receipt.duplicate,
        }
    }
}

impl IntoResponse for Landed {
    fn into_response(self) -> Response {
        // Numbers and text always serialise.
        let mut body = serde_json::to_vec(&self).unwrap_or_default();
        body.push(b'\n');
        ([(CONTENT_TYPE, "application/json")], body).into_response()
    }
}

/// Why a request is answered with a problem.
#[derive(Debug)]
struct Refusal {
    status: u16,
    kind: &'static str,
    detail: String,
    /// The same with its causes, for the log.
    report: String,
}

impl Refusal {
    /// A refusal that is about the request alone.
    fn new(status: u16, kind: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            status,
            kind,
            report: detail.clone(),
            detail,
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self {
            status: error.kind().api_status(),
            kind: error.kind().name(),
            detail: error.to_string(),
            report: error.report(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = document(self.status, self.kind, &self.detail);
        if self.status == 415 {
            let headers = response.headers_mut();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd"));
        }
        response
    }
}

/// Takes rows, and answers once they are committed and what does not fit is dead-lettered.
pub(super) async fn post_records(
    State(server): State<Arc<Server>>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let arrived = Instant::now();
    let long = is_long(request.headers());
    let trace = Trace::of_request(request.headers());
    let answer = match within(trace, server.take_rows(path, request, arrived)).await {
        Ok(answer) => answer,
        Err(refusal) => {
            trace.scope(|| server.refused("records", refusal.kind, &refusal.report));
            let response = refusal.into_response();
            return if long { closing(response) } else { response };
        }
    };
    match server.outcome(answer, arrived).await {
        Some(Ok(receipt)) => Landed::from(receipt).into_response(),
        Some(Err(error)) => Refusal::from(error).into_response(),
        None => Refusal::from(Error::new(
            ErrorKind::Unavailable,
            "The commit did not get through before server.ack_deadline. The rows may yet land; sent again \
             without an Idempotency-Key, they would land again.",
        ))
        .into_response(),
    }
}

impl Server {
    /// Makes a request a delivery. Whatever can be told from its head is, before a slot is taken or the body is read.
    async fn take_rows(
        &self,
        path: Result<Path<String>, PathRejection>,
        request: Request,
        arrived: Instant,
    ) -> Result<Answer, Refusal> {
        let now = self.clock.now();
        let (parts, body) = request.into_parts();
        self.access.check(&parts.uri, &parts.headers)?;
        let table = self.named(path)?;
        let key = idempotency_key(&parts.headers)?;
        check_rows_type(&parts.headers)?;
        let compression = compression(&parts.headers)?;
        let mut held = self.admit()?;
        let body = self.read_body(&parts.headers, body, &mut held).await?;
        if body.is_empty() {
            let detail = "The body is empty; send at least one record, or [] for none.";
            return Err(Refusal::new(400, RejectKind::EmptyPayload.name(), detail));
        }
        let (payload, held) = match compression {
            None => (body, held),
            Some(compression) => unpacked(compression, body, held, self.limits.max_unpacked_bytes()).await?,
        };
        let envelope = Envelope {
            fingerprint: key.as_ref().map(|_| fingerprint(&payload)),
            division: None,
            id: match key {
                Some(key) => DeliveryId::keyed(KEY_SCOPE, key),
                None => DeliveryId::request(SOURCE, self.random.uuid(), now),
            },
            source: SOURCE.to_owned(),
            published_at: now,
            received_at: now,
            attributes: BTreeMap::new(),
        };
        let (delivery, answer) = self.delivery(envelope, payload, held, arrived);
        self.intake.accept_rows(table, delivery);
        Ok(answer)
    }

    fn named(&self, path: Result<Path<String>, PathRejection>) -> Result<TableIdent, Refusal> {
        let bad_name = |detail: String| Refusal::new(400, "table_name", detail);
        let Path(name) = path.map_err(|_rejection| {
            bad_name("The table's name in the path is not percent-encoded UTF-8.".to_owned())
        })?;
        self.intake
            .named_table(&name)
            .map_err(|error| match error.kind() {
                // Unlike a table that is gone when rows are on their way to it, this is the caller's to mend.
                ErrorKind::NotFound => Refusal::new(404, error.kind().name(), error.to_string()),
                _ => bad_name(error.to_string()),
            })
    }
}

/// The caller's key, with which a request that is sent again lands once.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get(KEY_HEADER) else {
        return Ok(None);
    };
    let is_one = headers.get_all(KEY_HEADER).iter().count() == 1;
    // The draft of the header has it as a quoted text; callers send it bare as well.
    let key = value.to_str().unwrap_or_default().trim().trim_matches('"');
    let is_key =
        (1..=MAX_KEY_CHARS).contains(&key.len()) && key.chars().all(|letter| letter.is_ascii_graphic());
    if is_one && is_key {
        return Ok(Some(key.to_owned()));
    }
    let detail = format!("An Idempotency-Key is one text of 1 to {MAX_KEY_CHARS} visible ASCII characters.");
    Err(Refusal::new(400, "idempotency_key", detail))
}

/// Rows are JSON in this version. A caller that names no type is believed, as a push is.
fn check_rows_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let is_taken = media_type(headers).is_none_or(|name| {
        let is_lines = matches!(
            name.as_str(),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl"
        );
        is_lines || is_json(&name)
    });
    if is_taken {
        return Ok(());
    }
    Err(Error::new(ErrorKind::UnsupportedFormat, MEDIA_TYPES).into())
}

/// What the body is compressed with, by its headers.
fn compression(headers: &HeaderMap) -> Result<Option<Compression>, Refusal> {
    let values = headers.get_all(CONTENT_ENCODING).iter();
    // A value that is not text is no coding that we know.
    let mut codings = values
        .flat_map(|value| value.to_str().unwrap_or("?").split(','))
        .map(|coding| coding.trim().to_ascii_lowercase())
        .filter(|coding| !coding.is_empty() && coding != "identity");
    let (first, second) = (codings.next(), codings.next());
    match (first.as_deref(), second) {
        (None, _) => Ok(None),
        (Some("gzip" | "x-gzip"), None) => Ok(Some(Compression::Gzip)),
        (Some("zstd"), None) => Ok(Some(Compression::Zstd)),
        _ => Err(Error::new(ErrorKind::UnsupportedFormat, CODINGS).into()),
    }
}

/// Unpacks a body off the async threads, within the limits and within what a payload may unpack to.
async fn unpacked(
    compression: Compression,
    body: Bytes,
    mut held: Held,
    max_bytes: usize,
) -> Result<(Bytes, Held), Refusal> {
    let unpacking = tokio::task::spawn_blocking(move || {
        let plain = unpack(compression, &body, max_bytes, &mut |bytes| held.grow(bytes));
        (plain, held)
    });
    let Ok((plain, mut held)) = unpacking.await else {
        return Err(Error::new(
            ErrorKind::Unavailable,
            "The body was not unpacked; send it again.",
        )
        .into());
    };
    match plain {
        Ok(plain) => {
            held.shrink_to(plain.len());
            Ok((plain, held))
        }
        Err(NotUnpacked::NoRoom(error)) => Err(error.into()),
        Err(NotUnpacked::Rejected(reason)) if reason.kind == RejectKind::TooLarge => {
            Err(Error::new(ErrorKind::TooLarge, reason.message).into())
        }
        Err(NotUnpacked::Rejected(reason)) => Err(Refusal::new(400, reason.kind.name(), reason.message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables remember these. If one changes, a request that is sent again after the upgrade lands twice, or is refused as
    /// another one. The fingerprint is of Python: `sha256(payload).hexdigest()[:32]`.
    #[test]
    fn what_is_remembered_of_a_request_is_the_same_in_every_version() {
        assert_eq!((SOURCE, KEY_SCOPE), ("http", "idempotency-key"));
        assert_eq!(
            fingerprint(br#"{"id":1}"#),
            0x037c_9214_eef7_4cc3_887f_3a4f_085b_4e17
        );
    }

    fn headers(name: &'static str, values: &[&'static str]) -> HeaderMap {
        let values = values.iter().map(|value| HeaderValue::from_static(value));
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn one_known_coding_or_none_is_taken() {
        for (values, expected) in [
            (&[][..], Ok(None)),
            (&[""], Ok(None)),
            (&["identity"], Ok(None)),
            (&["gzip"], Ok(Some(Compression::Gzip))),
            (&["X-GZIP , identity"], Ok(Some(Compression::Gzip))),
            (&["identity", "zstd"], Ok(Some(Compression::Zstd))),
            (&["gzip, gzip"], Err(415)),
            (&["gzip", "zstd"], Err(415)),
            (&["br"], Err(415)),
            (&["deflate"], Err(415)),
        ] {
            let found = compression(&headers("content-encoding", values));
            assert_eq!(found.map_err(|refusal| refusal.status), expected, "{values:?}");
        }
    }

    #[test]
    fn json_in_every_name_is_taken() {
        let status = |values: &[&'static str]| {
            check_rows_type(&headers("content-type", values)).map_err(|refusal| refusal.status)
        };
        assert_eq!(status(&[]), Ok(()));
        for taken in [
            "application/json",
            "APPLICATION/JSON; charset=utf-8",
            "application/x-ndjson",
            "application/ndjson;x",
            "application/jsonl",
            "application/vnd.acme.order+json",
        ] {
            assert_eq!(status(&[taken]), Ok(()), "{taken}");
        }
        for refused in [
            "",
            "text/csv",
            "text/plain",
            "application/json-seq",
            "application/x-www-form-urlencoded",
            "application/vnd.apache.arrow.stream",
            "application/vnd.apache.parquet",
        ] {
            assert_eq!(status(&[refused]), Err(415), "{refused}");
        }
    }
}
