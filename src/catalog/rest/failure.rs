//! What an answer, or none, says of what a request did.

use std::time::Duration;

use reqwest::StatusCode;

use super::wire::Explanation;
use crate::error::{Error, ErrorKind};

/// Answered for a token that is no longer good, as Iceberg's specification has it.
const AUTHENTICATION_TIMEOUT: u16 = 419;

/// Why a request gave no good answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// There was no token to send it with, or no address to send it to: it was not sent.
    NotReady(Error),
    /// There was no connection to send it on: it was not sent.
    NotSent(Error),
    /// It was sent, or a part of it, and no whole answer came.
    Lost(Error),
    /// The server, or something before it, answered that it is not so.
    Refused(Refusal),
}

/// An answer that is not a success.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// The catalog's own words; none where something else spoke.
    pub(super) explanation: Option<Explanation>,
    /// Whether the answer had no body at all.
    pub(super) is_empty: bool,
    /// How long the server asks to be left alone.
    pub(super) retry_after: Option<Duration>,
    /// Why there was no other token to send it with, where another one may help.
    pub(super) no_token: Option<Error>,
}

/// What a failed commit proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This request did not apply now: the requirements do not hold.
    Conflict,
    /// There is no such table.
    Gone,
    /// Not applied: the server finds the changes wrong, or its table is not the one that they were made for.
    Invalid,
    /// Not applied, and it will not be.
    Rejected,
    /// Nothing.
    Unknown,
}

impl Failure {
    /// Judges a commit's failure. What is not listed is unknown, so that an answer that somebody invents later is never
    /// taken for a proof.
    pub(super) fn verdict(&self) -> Verdict {
        let refusal = match self {
            Self::NotReady(error) if error.kind() != ErrorKind::Unavailable => return Verdict::Rejected,
            Self::NotReady(_) | Self::NotSent(_) | Self::Lost(_) => return Verdict::Unknown,
            Self::Refused(refusal) => refusal,
        };
        // It may go well with a token that is had in a moment.
        if refusal.may_have_a_token() {
            return Verdict::Unknown;
        }
        match refusal.status.as_u16() {
            409 => Verdict::Conflict,
            404 if refusal.is_not_found() => Verdict::Gone,
            400 | 422 => Verdict::Invalid,
            // 408 may come of a proxy whose server was slow; 425 and 429 say to try again.
            408 | 425 | 429 => Verdict::Unknown,
            // A redirect is not followed, so nothing was done.
            300..=499 => Verdict::Rejected,
            _ => Verdict::Unknown,
        }
    }

    /// Whether the same request may go better in a moment.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::NotReady(error) | Self::NotSent(error) | Self::Lost(error) => {
                error.kind() == ErrorKind::Unavailable
            }
            Self::Refused(refusal) => refusal.is_passing(),
        }
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }

    /// Whether the catalog says that what was asked for does not exist.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.is_not_found())
    }

    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == StatusCode::CONFLICT)
    }

    /// The error that a caller sees. A failure that may pass is a reason to try again.
    pub(super) fn into_error(self, message: &str) -> Error {
        let kind = if self.is_passing() {
            ErrorKind::Unavailable
        } else {
            ErrorKind::Rejected
        };
        match self {
            Self::NotReady(cause) | Self::NotSent(cause) | Self::Lost(cause) => {
                Error::new(kind, message).with_source(cause)
            }
            Self::Refused(refusal) => refusal.described(Error::new(kind, message)),
        }
    }
}

impl Refusal {
    /// Whether no other token was had this time, and one may be later.
    pub(super) fn may_have_a_token(&self) -> bool {
        let error = self.no_token.as_ref();
        error.is_some_and(|error| error.kind() == ErrorKind::Unavailable)
    }

    /// Whether another token may help.
    pub(super) fn is_about_identity(&self) -> bool {
        matches!(self.status.as_u16(), 401 | 403 | AUTHENTICATION_TIMEOUT)
    }

    /// As Java's client has it, a 404 with an empty body counts; a page that is not the catalog's says nothing of it.
    fn is_not_found(&self) -> bool {
        self.status == StatusCode::NOT_FOUND && (self.explanation.is_some() || self.is_empty)
    }

    fn is_passing(&self) -> bool {
        match self.status.as_u16() {
            _ if self.may_have_a_token() => true,
            408 | 425 | 429 => true,
            // Not implemented, not supported: it stays so.
            501 | 505 => false,
            status => status >= 500,
        }
    }

    /// Adds what the server said to an error.
    pub(super) fn described(self, error: Error) -> Error {
        let mut error = error.with("status", self.status.as_u16());
        let way_out = match self.status.as_u16() {
            300..=399 => {
                Some("the server redirects; write the address that it redirects to as `catalog.uri`")
            }
            401 | 403 | AUTHENTICATION_TIMEOUT => Some("see `catalog.auth`"),
            404 if !self.is_empty && self.explanation.is_none() => {
                Some("what answers is no catalog; see `catalog.uri` and `catalog.prefix`")
            }
            _ => None,
        };
        if let Some(way_out) = way_out {
            error = error.with("hint", way_out);
        }
        let Explanation { kind, message } = self.explanation.unwrap_or_default();
        if let Some(kind) = kind {
            error = error.with("error", kind);
        }
        if let Some(message) = message {
            error = error.with("server", message);
        }
        match self.no_token {
            Some(cause) => error.with_source(cause),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, explained: bool) -> Failure {
        Failure::Refused(Refusal {
            status: StatusCode::from_u16(status).unwrap(),
            explanation: explained.then(Explanation::default),
            is_empty: false,
            retry_after: None,
            no_token: None,
        })
    }

    #[test]
    fn only_listed_answers_prove_anything() {
        for (status, verdict) in [
            (409, Verdict::Conflict),
            (404, Verdict::Gone),
            (400, Verdict::Invalid),
            (422, Verdict::Invalid),
            (401, Verdict::Rejected),
            (403, Verdict::Rejected),
            (419, Verdict::Rejected),
            (405, Verdict::Rejected),
            (413, Verdict::Rejected),
            (307, Verdict::Rejected),
            (408, Verdict::Unknown),
            (429, Verdict::Unknown),
            (500, Verdict::Unknown),
            (502, Verdict::Unknown),
            (503, Verdict::Unknown),
            (504, Verdict::Unknown),
            (599, Verdict::Unknown),
            (999, Verdict::Unknown),
        ] {
            assert_eq!(refused(status, true).verdict(), verdict, "{status}");
        }
        assert_eq!(refused(404, false).verdict(), Verdict::Rejected, "a proxy's page");
    }

    #[test]
    fn silence_proves_nothing() {
        let error = |kind| Error::new(kind, "x");
        for failure in [
            Failure::NotSent(error(ErrorKind::Unavailable)),
            Failure::Lost(error(ErrorKind::Unavailable)),
            Failure::NotReady(error(ErrorKind::Unavailable)),
        ] {
            assert_eq!(failure.verdict(), Verdict::Unknown);
            assert!(failure.is_passing());
        }
        let refused = Failure::NotReady(error(ErrorKind::Rejected));
        assert_eq!(refused.verdict(), Verdict::Rejected);
    }
}
