//! Errors as HTTP answers: problem documents (RFC 9457) with the status that the error's kind decides.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::error::{Action, Error};

/// An error on its way to the caller.
pub(super) struct Problem(pub(super) Error);

#[derive(Serialize)]
struct Document<'a> {
    title: &'static str,
    status: u16,
    detail: &'a str,
    /// The kind, for scripts.
    kind: &'static str,
}

impl Problem {
    /// The answer with a status of its own, where the kind's is not meant.
    pub(super) fn with_status(&self, status: u16) -> Response {
        document(status, self.0.kind().name(), &self.0.to_string())
    }
}

/// A problem document; with `Retry-After` where coming again can help.
pub(super) fn document(status: u16, kind: &'static str, detail: &str) -> Response {
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let document = Document {
        title: code.canonical_reason().unwrap_or("Error"),
        status,
        detail,
        kind,
    };
    let body = serde_json::to_vec(&document).unwrap_or_default();
    let mut response = (code, body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    match status {
        401 => drop(headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
        429 | 503 => drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("1"))),
        _ => {}
    }
    response
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.with_status(match self.0.kind().action() {
            Action::Refuse(status) | Action::Nack(status) => status,
            // Neither reaches a caller: the one is retried before, the other stops the start.
            Action::Retry | Action::Stop => 503,
        })
    }
}
