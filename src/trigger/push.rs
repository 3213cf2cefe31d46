//! Pub/Sub push bodies, wrapped form.
//!
//! Contract: `PubsubMessage` and the push request of the Pub/Sub v1 API. Google sends ids and times in camelCase and in
//! snake_case at once; either alone is taken. `data` and `attributes` may be absent; `data` is padded standard base64.
//! A publisher sets at most 100 attributes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::delivery::attribute;
use crate::error::{Error, ErrorKind, Result};

/// More attributes than a message has: Pub/Sub takes 100 from its publisher and adds a few, as where it forwards dead
/// letters. In memory a small one takes many times the bytes that were counted for it.
pub(super) const MAX_ATTRIBUTES: usize = 128;

/// A message that was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// Full subscription name.
    pub subscription: String,
    /// Unique per topic, stable over redelivery.
    pub message_id: String,
    /// When the topic took the message.
    pub publish_time: DateTime<Utc>,
    /// The publisher's attributes.
    pub attributes: BTreeMap<String, String>,
    /// The message's bytes, or what stood in `data` if that was not base64.
    pub data: Result<Bytes, Bytes>,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    message: Option<Message<'a>>,
    #[serde(borrow)]
    subscription: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    data: Option<Cow<'a, str>>,
    attributes: Option<Attributes>,
    #[serde(borrow, rename = "messageId")]
    message_id: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "message_id")]
    message_id_snake: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "publishTime")]
    publish_time: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "publish_time")]
    publish_time_snake: Option<Cow<'a, str>>,
}

/// A message's attributes; `None` where there are more than [`MAX_ATTRIBUTES`], of which the rest was not kept.
struct Attributes(Option<BTreeMap<String, String>>);

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Bounded)
    }
}

struct Bounded;

impl<'de> Visitor<'de> for Bounded {
    type Value = Attributes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of attributes")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Attributes, A::Error> {
        let mut attributes = BTreeMap::new();
        for _ in 0..MAX_ATTRIBUTES {
            match entries.next_entry::<String, String>()? {
                Some((name, value)) => attributes.insert(name, value),
                None => return Ok(Attributes(Some(attributes))),
            };
        }
        let mut more = false;
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            more = true;
        }
        Ok(Attributes((!more).then_some(attributes)))
    }
}

impl Push {
    /// An attribute of the message, also where HTTP has made its name lower-case.
    pub(crate) fn attribute(&self, name: &str) -> Option<&String> {
        attribute(&self.attributes, name)
    }

    /// Reads a request body.
    ///
    /// # Errors
    /// [`ErrorKind::NotAnEvent`] when the body is not a wrapped push with its message id, publish time and subscription:
    /// without them a redelivery could not be told from a new message. Also when it has more attributes than Pub/Sub sends.
    pub fn parse(body: &[u8]) -> Result<Self> {
        if body.is_empty() {
            return Err(not_an_event("The body is empty; a Pub/Sub push has a JSON body."));
        }
        let body: Body<'_> = serde_json::from_slice(body).map_err(|error| {
            not_an_event("The body is not the JSON of a Pub/Sub push.")
                .with("line", error.line())
                .with("column", error.column())
        })?;
        let (Some(message), Some(subscription)) = (body.message, body.subscription) else {
            return Err(not_an_event(
                "The body has no `message` and `subscription`: it is not a wrapped Pub/Sub push. A subscription with \
                 payload unwrapping has no message id to tell repetitions by: let it write metadata, or turn unwrapping off.",
            ));
        };
        let message_id = message
            .message_id
            .or(message.message_id_snake)
            .filter(|id| !id.is_empty());
        let publish_time = message.publish_time.or(message.publish_time_snake);
        let (Some(message_id), Some(publish_time)) = (message_id, publish_time) else {
            return Err(not_an_event("The message has no `messageId` and `publishTime`."));
        };
        let publish_time = DateTime::parse_from_rfc3339(&publish_time).map_err(|error| {
            not_an_event("The message's `publishTime` is not an RFC 3339 time.").with_source(error)
        })?;
        let attributes = message
            .attributes
            .unwrap_or(Attributes(Some(BTreeMap::new())))
            .0
            .ok_or_else(|| {
                not_an_event("The message has more attributes than Pub/Sub takes.")
                    .with("max_attributes", MAX_ATTRIBUTES)
            })?;
        let data = message.data.unwrap_or_default();
        Ok(Self {
            subscription: subscription.into_owned(),
            message_id: message_id.into_owned(),
            publish_time: publish_time.to_utc(),
            attributes,
            data: match BASE64.decode(data.as_bytes()) {
                Ok(bytes) => Ok(Bytes::from(bytes)),
                Err(_not_base64) => Err(Bytes::from(data.into_owned())),
            },
        })
    }
}

fn not_an_event(message: &str) -> Error {
    Error::new(ErrorKind::NotAnEvent, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(message: &str) -> Result<Push> {
        Push::parse(
            format!(r#"{{"subscription":"projects/p/subscriptions/s","message":{message}}}"#).as_bytes(),
        )
    }

    #[test]
    fn both_spellings_together_or_alone_are_taken() {
        let both = r#"{"messageId":"1","message_id":"1","publishTime":"2026-01-02T03:04:05.678Z","publish_time":"2026-01-02T03:04:05.678Z","data":"e30="}"#;
        let camel = r#"{"messageId":"1","publishTime":"2026-01-02T03:04:05.678Z","data":"e30="}"#;
        let snake = r#"{"message_id":"1","publish_time":"2026-01-02T03:04:05.678Z","data":"e30="}"#;
        let expected = parse(both).unwrap();
        assert_eq!(expected.data, Ok(Bytes::from_static(b"{}")));
        assert_eq!(parse(camel).unwrap(), expected);
        assert_eq!(parse(snake).unwrap(), expected);
    }

    #[test]
    fn absent_data_and_attributes_are_empty() {
        let push = parse(r#"{"messageId":"1","publishTime":"2026-01-02T03:04:05Z"}"#).unwrap();
        assert_eq!((push.data, push.attributes.len()), (Ok(Bytes::new()), 0));
    }

    #[test]
    fn more_attributes_than_a_message_has_are_refused() {
        let of = |count: usize, name: fn(usize) -> String| {
            let attributes: Vec<String> = (0..count).map(|n| format!("\"{}\":\"v\"", name(n))).collect();
            let attributes = attributes.join(",");
            parse(&format!(
                r#"{{"attributes":{{{attributes}}},"messageId":"1","publishTime":"2026-01-02T03:04:05Z"}}"#
            ))
        };
        let push = of(MAX_ATTRIBUTES, |n| n.to_string()).unwrap();
        assert_eq!(push.attributes.len(), MAX_ATTRIBUTES);
        // Each counts, however often its name came.
        for name in [|n: usize| n.to_string(), |_| "same".to_owned()] {
            let error = of(MAX_ATTRIBUTES + 1, name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotAnEvent);
            assert!(error.to_string().contains("max_attributes: 128"), "{error}");
        }
        let none = parse(r#"{"messageId":"1","publishTime":"2026-01-02T03:04:05Z","attributes":null}"#);
        assert_eq!(none.unwrap().attributes, BTreeMap::new());
    }

    #[test]
    fn bad_base64_is_kept_as_it_came() {
        let push = parse(r#"{"messageId":"1","publishTime":"2026-01-02T03:04:05Z","data":"e30"}"#).unwrap();
        assert_eq!(push.data, Err(Bytes::from_static(b"e30")));
    }

    #[test]
    fn a_message_without_identity_is_not_an_event() {
        for message in [
            r#"{"messageId":"1"}"#,
            r#"{"publishTime":"2026-01-02T03:04:05Z"}"#,
            r#"{"messageId":"","publishTime":"2026-01-02T03:04:05Z"}"#,
            r#"{"messageId":"1","publishTime":"yesterday"}"#,
            "7",
        ] {
            assert_eq!(
                parse(message).unwrap_err().kind(),
                ErrorKind::NotAnEvent,
                "{message}"
            );
        }
        for body in ["", "[]", "{}", "null", "{\"message\":{}}", "no"] {
            assert_eq!(
                Push::parse(body.as_bytes()).unwrap_err().kind(),
                ErrorKind::NotAnEvent,
                "{body}"
            );
        }
    }
}
