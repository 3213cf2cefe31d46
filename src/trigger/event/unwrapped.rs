//! A push whose body is the message's data: its metadata are headers, and so are its attributes.
//!
//! Contract: `PushConfig.NoWrapper` with `writeMetadata` of the Pub/Sub v1 API. Attributes stand among the headers that
//! every request has; those are left out, and HTTP made their names lower-case.

use axum::http::{HeaderMap, HeaderName};
use bytes::Bytes;
use chrono::DateTime;

use super::not_an_event;
use crate::error::Result;
use crate::trigger::push::{MAX_ATTRIBUTES, Push};

pub(super) const MESSAGE_ID: &str = "x-goog-pubsub-message-id";
const SUBSCRIPTION: &str = "x-goog-pubsub-subscription-name";
const PUBLISH_TIME: &str = "x-goog-pubsub-publish-time";

/// Headers of the request and of what it passes on its way, among them secrets: never attributes.
const OF_THE_REQUEST: [&str; 22] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "from",
    "host",
    "proxy-authorization",
    "te",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "user-agent",
    "via",
];
const OF_THE_WAY: [&str; 5] = [
    "x-forwarded-",
    "x-cloud-trace-",
    "x-goog-",
    "x-google-",
    "x-serverless-",
];

/// What stands in the names of headers that hold secrets, which proxies add.
const OF_SECRETS: [&str; 7] = ["auth", "token", "jwt", "assertion", "secret", "cookie", "api-key"];

/// Reads a push without its wrapper.
///
/// # Errors
/// [`crate::error::ErrorKind::NotAnEvent`] when the headers do not tell the message's id, publish time and subscription, or
/// there are more attributes than Pub/Sub takes.
pub(super) fn read(headers: &HeaderMap, body: Bytes) -> Result<Push> {
    // One that comes twice is one too many: a publisher's own may stand beside Google's.
    let text = |name: &str| {
        let mut values = headers.get_all(name).iter();
        let value = values.next().filter(|_| values.next().is_none());
        value.and_then(|value| value.to_str().ok())
    };
    let (Some(message_id), Some(publish_time), Some(subscription)) =
        (text(MESSAGE_ID), text(PUBLISH_TIME), text(SUBSCRIPTION))
    else {
        return Err(not_an_event(
            "The push is unwrapped and has not each of x-goog-pubsub-message-id, -publish-time and -subscription-name once.",
        ));
    };
    if message_id.is_empty() {
        return Err(not_an_event("The push's x-goog-pubsub-message-id is empty."));
    }
    let publish_time = DateTime::parse_from_rfc3339(publish_time).map_err(|error| {
        not_an_event("The push's x-goog-pubsub-publish-time is not an RFC 3339 time.").with_source(error)
    })?;
    let attributes = || headers.iter().filter(|(name, _)| is_attribute(name));
    if attributes().count() > MAX_ATTRIBUTES {
        return Err(not_an_event("The push has more attributes than Pub/Sub takes.")
            .with("max_attributes", MAX_ATTRIBUTES));
    }
    Ok(Push {
        subscription: subscription.to_owned(),
        message_id: message_id.to_owned(),
        publish_time: publish_time.to_utc(),
        attributes: attributes()
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.as_str().to_owned(), value)
            })
            .collect(),
        data: Ok(body),
    })
}

fn is_attribute(name: &HeaderName) -> bool {
    let name = name.as_str();
    !OF_THE_REQUEST.contains(&name)
        && !OF_THE_WAY.iter().any(|start| name.starts_with(start))
        && !OF_SECRETS.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    const METADATA: [(&str, &str); 3] = [
        ("x-goog-pubsub-message-id", "7"),
        ("x-goog-pubsub-publish-time", "2026-01-02T03:04:05.678Z"),
        ("x-goog-pubsub-subscription-name", "projects/p/subscriptions/s"),
    ];

    #[test]
    fn attributes_are_what_no_request_has_by_itself() {
        let mut lines = METADATA.to_vec();
        lines.extend([
            ("authorization", "Bearer secret"),
            ("x-goog-pubsub-ordering-key", "k"),
            ("x-forwarded-for", "10.0.0.1"),
            ("content-type", "application/json"),
            ("cf-access-jwt-assertion", "secret"),
            ("x-api-key", "secret"),
            ("kind", "order"),
            ("x-tenant", "acme"),
        ]);
        let push = read(&headers(&lines), Bytes::from_static(b"{}")).unwrap();
        let attributes: Vec<_> = push
            .attributes
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(attributes, [("kind", "order"), ("x-tenant", "acme")]);
        assert_eq!(
            (push.message_id.as_str(), push.data),
            ("7", Ok(Bytes::from_static(b"{}")))
        );
        assert_eq!(push.subscription, "projects/p/subscriptions/s");
        assert_eq!(push.publish_time.timestamp_subsec_millis(), 678);
    }

    #[test]
    fn push_without_its_metadata_is_no_event() {
        for missing in METADATA {
            let lines: Vec<_> = METADATA.into_iter().filter(|line| *line != missing).collect();
            assert!(read(&headers(&lines), Bytes::new()).is_err(), "{missing:?}");
            let mut twice = headers(&METADATA);
            twice.append(missing.0, missing.1.parse().unwrap());
            assert!(read(&twice, Bytes::new()).is_err(), "{missing:?}");
        }
    }
}
