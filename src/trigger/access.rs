//! Who may use the calls that are not pushes.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};
use crate::telemetry::shown;

/// Who may see the calls that are not pushes.
#[derive(Debug, Clone)]
pub enum Access {
    /// Anyone, whatever name they know the server by.
    Open,
    /// Anyone who calls the server by a name that only this machine has: it listens on a loopback address only. A page from
    /// elsewhere can have a browser ask here by the page's own name, once that name resolves to a loopback address
    /// (DNS rebinding), and read the answer.
    Loopback,
    /// Nobody: no token is configured.
    Refused,
    /// Whoever sends this bearer token.
    Bearer(SecretString),
}

/// What the forms of a push have in their heads that are not wrapped.
const OF_PUSHES: [&str; 3] = ["x-goog-pubsub-message-id", "ce-id", "ce-type"];

impl Access {
    /// Whether the caller may use the calls that are not pushes.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthenticated`] without the token, [`ErrorKind::Forbidden`] where there is none to send and where
    /// the server is called by another's name.
    pub(super) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<()> {
        self.check_sent(bearer(headers), uri, headers)
    }

    /// Whether the caller may look. A browser, which cannot send a bearer token by itself, sends it as a password (RFC 7617),
    /// under any name. It does so with every request that any page has it make here, so a password opens nothing that
    /// writes.
    ///
    /// # Errors
    /// As [`Access::check`].
    pub(super) fn check_viewer(&self, uri: &Uri, headers: &HeaderMap) -> Result<()> {
        let password = password(headers);
        self.check_sent(bearer(headers).or(password.as_deref()), uri, headers)
    }

    fn check_sent(&self, sent: Option<&str>, uri: &Uri, headers: &HeaderMap) -> Result<()> {
        match self {
            Self::Open => Ok(()),
            Self::Loopback => check_origin(headers).and_then(|()| check_host(uri, headers)),
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

/// Whether a request calls the server by a name of this machine alone. HTTP/2 has the name in the address, HTTP/1.1 in
/// `Host`, or in both; HTTP/1.0 may have none, and is refused then.
fn check_host(uri: &Uri, headers: &HeaderMap) -> Result<()> {
    let sent = headers.get_all(HOST).iter();
    let sent = sent.map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    let hosts: Vec<String> = sent.chain(uri.authority().map(ToString::to_string)).collect();
    let is_own =
        |host: &String| Authority::try_from(host.as_str()).is_ok_and(|host| is_loopback(host.host()));
    if !hosts.is_empty() && hosts.iter().all(is_own) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Forbidden,
        "Without server.api_auth this call is answered only by the Host localhost, a name that ends in .localhost, an address \
         of 127.0.0.0/8, or [::1]: any other may be a web page's own name that was made to lead here. Call the server by one \
         of these, or set server.api_auth.",
    )
    .with("host", shown(&hosts.join(", "))))
}

/// Whether a push may be taken of whoever reaches a loopback address. A page from elsewhere can have a browser send here,
/// without being let read the answer; the browser says from where.
///
/// # Errors
/// [`ErrorKind::Forbidden`] for a page from elsewhere.
pub(super) fn check_page(headers: &HeaderMap) -> Result<()> {
    // A page may send these to its own server only, unless another says that it may, which nobody does here. In a push
    // that has them `origin` may be an attribute of the message.
    if !OF_PUSHES.iter().any(|name| headers.contains_key(*name)) {
        return check_origin(headers);
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let is_own_server = |origin: &str| {
        origin
            .split_once("://")
            .is_some_and(|(_, name)| Some(name) == host)
    };
    match headers.get(ORIGIN).and_then(|origin| origin.to_str().ok()) {
        Some(origin) if is_own_server(origin) => check_origin(headers),
        _ => Ok(()),
    }
}

/// Whether a browser, if one sends this, does so for a page of this machine.
fn check_origin(headers: &HeaderMap) -> Result<()> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let other = origins.find(|origin| {
        let page = Uri::try_from(origin.as_bytes()).ok();
        let host = page.as_ref().and_then(Uri::host);
        !host.is_some_and(is_loopback)
    });
    match other {
        None => Ok(()),
        Some(origin) => Err(Error::new(
            ErrorKind::Forbidden,
            "On a loopback address nothing is taken of a page from elsewhere that a browser sends; send it otherwise.",
        )
        .with("origin", shown(&String::from_utf8_lossy(origin.as_bytes())))),
    }
}

/// Whether a name is one that no DNS server says the address of, or is the address.
fn is_loopback(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse().is_ok_and(|host: Ipv4Addr| host.is_loopback())
        || v6.is_some_and(|host| host.parse().is_ok_and(|host: Ipv6Addr| host.is_loopback()))
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

    /// What the server is called, by `Host` and in the address.
    fn check_called(access: &Access, hosts: &[&str], uri: &str) -> Result<()> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().unwrap());
        }
        let uri: Uri = uri.parse().unwrap();
        let looked = access.check_viewer(&uri, &headers);
        assert_eq!(looked.is_ok(), access.check(&uri, &headers).is_ok());
        looked
    }

    #[test]
    fn loopback_is_called_by_its_own_names() {
        const OWN: &[&str] = &[
            "localhost",
            "LocalHost:8080",
            "lake.localhost:8080",
            "127.0.0.1",
            "127.0.0.1:8080",
            "127.255.0.9:1",
            "[::1]",
            "[::1]:8080",
            "[0:0:0:0:0:0:0:1]:8080",
        ];
        const OTHERS: &[&str] = &[
            "",
            ":8080",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "evillocalhost",
            "127.0.0.1.evil.example",
            "127.1",
            "0.0.0.0:8080",
            "10.0.0.1",
            "[::]",
            "[::2]:8080",
            "::1",
            "host.docker.internal",
            "localhost, evil.example",
            "localhost@evil.example",
            "localhost evil.example",
            "localhost/evil.example",
        ];
        for host in OWN {
            let called = |hosts: &[&str], uri: &str| check_called(&Access::Loopback, hosts, uri).is_ok();
            assert!(called(&[host], "/"), "{host}");
            assert!(called(&[], &format!("http://{host}/")), "{host}");
            assert!(called(&[host], &format!("http://{host}/")), "{host}");
            assert!(!called(&[host, "evil.example"], "/"), "{host}");
            assert!(!called(&[host], "http://evil.example/"), "{host}");
            assert!(!called(&["evil.example"], &format!("http://{host}/")), "{host}");
        }
        for host in OTHERS {
            let refused = check_called(&Access::Loopback, &[host], "/").unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Forbidden, "{host}");
            assert!(check_called(&Access::Open, &[host], "/").is_ok(), "{host}");
        }
        let without = check_called(&Access::Loopback, &[], "/").unwrap_err();
        let text = without.to_string();
        assert!(
            text.contains("Host") && text.contains("server.api_auth"),
            "{text}"
        );
    }

    #[test]
    fn page_from_elsewhere_sends_nothing() {
        let sent = |access: &Access, origin: &str| {
            let mut headers = headers("none");
            headers.append(HOST, "localhost".parse().unwrap());
            headers.append(ORIGIN, origin.parse().unwrap());
            access.check(&Uri::from_static("/"), &headers).is_ok()
        };
        let pushed = |origin: &str, host: &str, more: &[&'static str]| {
            let mut headers = headers("none");
            headers.append(HOST, host.parse().unwrap());
            headers.append(ORIGIN, origin.parse().unwrap());
            for name in more {
                headers.append(*name, "1".parse().unwrap());
            }
            check_page(&headers).is_ok()
        };
        for own in [
            "http://localhost",
            "http://localhost:8080",
            "https://127.0.0.1:1",
            "http://[::1]:8080",
        ] {
            assert!(sent(&Access::Loopback, own), "{own}");
            assert!(pushed(own, "localhost:8080", &[]), "{own}");
        }
        for other in [
            "https://evil.example",
            "http://localhost.evil.example",
            "null",
            "",
        ] {
            assert!(!sent(&Access::Loopback, other), "{other}");
            assert!(sent(&Access::Open, other), "{other}");
            assert!(!pushed(other, "localhost:8080", &[]), "{other}");
            // An attribute of a message that comes unwrapped.
            assert!(
                pushed(other, "localhost:8080", &["x-goog-pubsub-message-id"]),
                "{other}"
            );
            assert!(pushed(other, "localhost:8080", &["ce-id", "ce-type"]), "{other}");
        }
        // Its own name was made to lead here.
        let rebound = "http://evil.example:8080";
        assert!(!pushed(
            rebound,
            "evil.example:8080",
            &["x-goog-pubsub-message-id"]
        ));
        assert!(pushed("http://localhost:8080", "localhost:8080", &["ce-id"]));
    }

    #[test]
    fn password_looks_and_does_not_write() {
        let (access, uri) = (Access::Bearer("to:ken".into()), Uri::from_static("/"));
        let basic = |pair: &str| headers(&format!("Basic {}", BASE64.encode(pair)));
        for named in ["anyone:to:ken", ":to:ken"] {
            assert!(access.check_viewer(&uri, &basic(named)).is_ok(), "{named}");
            let refused = access.check(&uri, &basic(named)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unauthenticated);
        }
        assert!(access.check_viewer(&uri, &headers("bAsIc YTp0bzprZW4=")).is_ok());
        assert!(access.check_viewer(&uri, &headers("Bearer to:ken")).is_ok());
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
            let refused = access.check_viewer(&uri, &headers).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unauthenticated, "{headers:?}");
        }
        let refused = Access::Refused
            .check_viewer(&uri, &headers("Bearer x"))
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Forbidden);
        assert!(Access::Open.check_viewer(&uri, &HeaderMap::new()).is_ok());
    }
}
