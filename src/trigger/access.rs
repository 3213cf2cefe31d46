//! Who may use the calls that are not pushes.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};

/// Who may see the calls that are not pushes.
#[derive(Debug, Clone)]
pub enum Access {
    /// Anyone: the server listens on a loopback address only.
    Open,
    /// Nobody: no token is configured.
    Refused,
    /// Whoever sends this bearer token.
    Bearer(SecretString),
}

impl Access {
    /// Whether the caller may use the calls that are not pushes.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthenticated`] without the token, [`ErrorKind::Forbidden`] where there is none to send.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<()> {
        self.check_sent(bearer(headers))
    }

    /// Whether the caller may look. A browser, which cannot send a bearer token by itself, sends it as a password (RFC 7617),
    /// under any name. It does so with every request that any page has it make here, so a password opens nothing that
    /// writes.
    ///
    /// # Errors
    /// As [`Access::check`].
    pub(super) fn check_viewer(&self, headers: &HeaderMap) -> Result<()> {
        let password = password(headers);
        self.check_sent(bearer(headers).or(password.as_deref()))
    }

    fn check_sent(&self, sent: Option<&str>) -> Result<()> {
        match self {
            Self::Open => Ok(()),
            Self::Refused => Err(Error::new(
                ErrorKind::Forbidden,
                "Set server.api_auth to use this call on an address that is not loopback.",
            )),
            Self::Bearer(token) => {
                // Digests, so that the time of the comparison tells nothing of the token.
                let digest = |text: &str| Sha256::digest(text.as_bytes());
                match sent {
                    Some(sent) if digest(sent) == digest(token.expose_secret()) => Ok(()),
                    _ => Err(Error::new(
                        ErrorKind::Unauthenticated,
                        "The call needs the bearer token of api_auth.",
                    )),
                }
            }
        }
    }
}

fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    authorization(headers)?.strip_prefix("Bearer ")
}

fn password(headers: &HeaderMap) -> Option<String> {
    let (scheme, encoded) = authorization(headers)?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = BASE64.decode(encoded.trim()).ok()?;
    let pair = String::from_utf8(decoded).ok()?;
    let (_name, password) = pair.split_once(':')?;
    Some(password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(authorization: &str) -> HeaderMap {
        let value = authorization.parse().unwrap();
        HeaderMap::from_iter([(AUTHORIZATION, value)])
    }

    #[test]
    fn password_looks_and_does_not_write() {
        let access = Access::Bearer("to:ken".into());
        let basic = |pair: &str| headers(&format!("Basic {}", BASE64.encode(pair)));
        for named in ["anyone:to:ken", ":to:ken"] {
            assert!(access.check_viewer(&basic(named)).is_ok(), "{named}");
            let refused = access.check(&basic(named)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unauthenticated);
        }
        assert!(access.check_viewer(&headers("bAsIc YTp0bzprZW4=")).is_ok());
        assert!(access.check_viewer(&headers("Bearer to:ken")).is_ok());
        let wrong = ["a:", "a:to", "a:to:ken ", "to:ken", "a:a:to:ken", ""].map(basic);
        let others = [
            "Basic",
            "Basic !",
            "Basic YTp0bzprZW4",
            "Bearer YTp0bzprZW4=",
            "Digest YTp0bzprZW4=",
        ];
        for headers in wrong
            .into_iter()
            .chain(others.map(headers))
            .chain([HeaderMap::new()])
        {
            let refused = access.check_viewer(&headers).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unauthenticated, "{headers:?}");
        }
        let refused = Access::Refused.check_viewer(&headers("Bearer x")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Forbidden);
        assert!(Access::Open.check_viewer(&HeaderMap::new()).is_ok());
    }
}
