//! A push's token: where it stands, what it is signed with, and what it must say.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use chrono::{DateTime, Utc};
use jsonwebtoken::errors::ErrorKind as Fault;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

use crate::config::SignedPushes;
use crate::error::{Error, ErrorKind, Result};

/// Google's are of about a thousand.
const MAX_BYTES: usize = 8 << 10;

/// How far the clocks of Google and of this machine may be apart.
const LEEWAY_SECONDS: i64 = 30;

const ISSUERS: [&str; 2] = ["https://accounts.google.com", "accounts.google.com"];

/// What Cloud Run puts in the place of a signature that its IAM has checked.
const REMOVED: &str = ".SIGNATURE_REMOVED_BY_GOOGLE";

/// A token of which nothing is proven yet.
pub(super) struct Token<'a> {
    text: &'a str,
    key_id: String,
}

/// What a token with the right signature says.
#[derive(Deserialize)]
pub(super) struct Claims {
    iss: String,
    aud: String,
    /// In seconds since the Unix epoch.
    exp: i64,
    iat: i64,
    email: Option<String>,
    #[serde(default)]
    email_verified: bool,
}

impl<'a> Token<'a> {
    /// Finds the token of a request.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthenticated`] when there is none, or one that Google signs no push with.
    pub(super) fn of(headers: &'a HeaderMap) -> Result<Self> {
        let mut sent = headers.get_all(AUTHORIZATION).iter();
        let value = match (sent.next(), sent.next()) {
            (Some(value), None) => value,
            (Some(_), Some(_)) => return Err(unproven("The push has more than one Authorization header.")),
            (None, _) => {
                return Err(unproven(
                    "The push is not signed: give its subscription authentication, with one of the service accounts and \
                     the audience of server.push_auth.",
                ));
            }
        };
        let text = value.to_str().ok().and_then(|value| value.split_once(' '));
        let text = match text {
            Some((scheme, text)) if scheme.eq_ignore_ascii_case("bearer") => text.trim(),
            _ => return Err(unproven("The push's Authorization header holds no bearer token.")),
        };
        if text.len() > MAX_BYTES {
            return Err(unproven("The push's token is longer than any of Google's."));
        }
        if text.ends_with(REMOVED) {
            return Err(unproven(
                "Cloud Run's IAM has let the push in and taken the signature off its token, so nobody else can check it: \
                 write `push_auth: off`, or let Cloud Run admit everyone and leave the check to landfast.",
            ));
        }
        // The cause would quote the token.
        let header = decode_header(text).ok();
        let header = header.filter(|header| header.alg == Algorithm::RS256);
        let key_id = header.and_then(|header| header.kid).ok_or_else(|| {
            unproven("The push's token is not one that Google signs: RS256, with the id of a key.")
        })?;
        Ok(Self { text, key_id })
    }

    /// The id of the key that it says it is signed with.
    pub(super) fn key_id(&self) -> &str {
        &self.key_id
    }

    /// What it says, once the signature is found to be right.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthenticated`] when it is not, or when the token says something else than Google's do.
    pub(super) fn claims(&self, key: &DecodingKey) -> Result<Claims> {
        let mut signature_alone = Validation::new(Algorithm::RS256);
        signature_alone.validate_aud = false;
        // The crate would ask the system for the time.
        signature_alone.validate_exp = false;
        signature_alone.required_spec_claims.clear();
        match decode(self.text, key, &signature_alone) {
            Ok(token) => Ok(token.claims),
            Err(error) => Err(match error.kind() {
                Fault::Json(_) | Fault::Utf8(_) => {
                    unproven("The push's token does not say what an identity token of Google's says.")
                }
                _ => unproven("The signature of the push's token is wrong."),
            }),
        }
    }
}

impl Claims {
    /// Whether it is good now, for this server, and of one who may push.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthenticated`] when it proves nothing, [`ErrorKind::Forbidden`] when it proves somebody else.
    pub(super) fn check(&self, expected: &SignedPushes, now: DateTime<Utc>) -> Result<()> {
        let now = now.timestamp();
        if !ISSUERS.contains(&self.iss.as_str()) {
            return Err(unproven(
                "The push's token was not issued by accounts.google.com.",
            ));
        }
        if self.exp.saturating_add(LEEWAY_SECONDS) <= now {
            return Err(unproven("The push's token has expired."));
        }
        if self.iat.saturating_sub(LEEWAY_SECONDS) > now {
            return Err(unproven(
                "The push's token was issued in the future: is the clock of this machine slow?",
            ));
        }
        let Some(account) = self.email.as_ref().filter(|_| self.email_verified) else {
            return Err(unproven(
                "The push's token names no e-mail address that Google has verified.",
            ));
        };
        if self.aud != expected.audience {
            let message =
                "The push's token is for another audience: give the subscription that of server.push_auth.";
            return Err(Error::new(ErrorKind::Forbidden, message));
        }
        if !expected.service_accounts.contains(account) {
            let message =
                "The push is signed for an account that server.push_auth.service_accounts does not list.";
            return Err(Error::new(ErrorKind::Forbidden, message).with("account", account));
        }
        Ok(())
    }
}

/// A refusal of one who has not proven anything.
pub(super) fn unproven(message: &str) -> Error {
    Error::new(ErrorKind::Unauthenticated, message)
}
