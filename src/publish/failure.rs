//! What BigQuery's refusals mean.

use reqwest::StatusCode;
use serde::Deserialize;

use crate::config::BigQueryConfig;
use crate::error::{Error, ErrorKind};

/// What of an answer is told.
const MAX_MESSAGE_CHARS: usize = 500;

/// What a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    Read,
    Create,
    Move,
    Remove,
    Dataset,
}

impl Doing {
    /// What the account must be allowed to.
    fn permissions(self) -> &'static str {
        match self {
            Self::Read => "bigquery.tables.get on the dataset",
            Self::Create => {
                "bigquery.tables.create on the dataset and bigquery.connections.delegate on the connection"
            }
            Self::Move => {
                "bigquery.tables.update and bigquery.tables.get on the dataset and bigquery.connections.delegate on the \
                 connection"
            }
            Self::Remove => "bigquery.tables.delete on the dataset",
            Self::Dataset => "bigquery.datasets.create on the project, or make the dataset",
        }
    }
}

#[derive(Debug, Deserialize)]
struct Body {
    error: Explanation,
}

#[derive(Debug, Default, Deserialize)]
struct Explanation {
    #[serde(default)]
    message: String,
    #[serde(default)]
    errors: Vec<Reason>,
}

#[derive(Debug, Deserialize)]
struct Reason {
    #[serde(default)]
    reason: String,
}

/// The error of an answer that is a refusal.
///
/// Its kind says what comes of it: [`ErrorKind::Conflict`] another was first, begin anew; [`ErrorKind::Full`] too many
/// requests; [`ErrorKind::Unavailable`] not this time; the others stay until somebody does something.
pub(super) fn refusal(to: &BigQueryConfig, doing: Doing, status: StatusCode, body: &[u8]) -> Error {
    let body: Option<Body> = serde_json::from_slice(body).ok();
    let explanation = body.map(|body| body.error).unwrap_or_default();
    let reason = explanation.errors.first().map(|first| first.reason.clone());
    refused(
        to,
        doing,
        status,
        &reason.unwrap_or_default(),
        &explanation.message,
    )
}

/// The same of what was understood already.
pub(super) fn refused(
    to: &BigQueryConfig,
    doing: Doing,
    status: StatusCode,
    reason: &str,
    message: &str,
) -> Error {
    let (kind, said) = meaning(doing, status, reason);
    let mut error = Error::new(kind, said)
        .with("external_table", to)
        .with("status", status.as_u16());
    if matches!(kind, ErrorKind::Forbidden | ErrorKind::Rejected) {
        error = error.with("needs", doing.permissions());
    }
    if !reason.is_empty() {
        error = error.with("reason", reason);
    }
    if message.is_empty() {
        return error;
    }
    let message: String = message.chars().take(MAX_MESSAGE_CHARS).collect();
    error.with_source(message)
}

fn meaning(doing: Doing, status: StatusCode, reason: &str) -> (ErrorKind, &'static str) {
    match status.as_u16() {
        409 | 412 => (
            ErrorKind::Conflict,
            "Another process changed the external table first.",
        ),
        404 if doing == Doing::Move => (ErrorKind::Conflict, "The external table was removed meanwhile."),
        429 => (ErrorKind::Full, "BigQuery takes no more changes for now."),
        403 if matches!(reason, "rateLimitExceeded" | "quotaExceeded") => {
            (ErrorKind::Full, "BigQuery takes no more changes for now.")
        }
        403 => (
            ErrorKind::Forbidden,
            "BigQuery does not let this account do it; grant it what it needs.",
        ),
        401 => (
            ErrorKind::Unauthenticated,
            "BigQuery does not accept the token of this account, nor a fresh one.",
        ),
        408 | 500..=599 => (ErrorKind::Unavailable, "BigQuery did not do it this time."),
        _ => (ErrorKind::Rejected, "BigQuery refuses the request."),
    }
}

/// The error of a request that had no whole answer.
pub(super) fn unanswered(to: &BigQueryConfig, error: reqwest::Error) -> Error {
    // The address says nothing that the external table does not.
    Error::new(ErrorKind::Unavailable, "BigQuery did not answer.")
        .with("external_table", to)
        .with_source(error.without_url())
}
