//! CloudEvents, as Eventarc sends them: of a bucket's objects, and of a topic's messages.
//!
//! Contract: CloudEvents 1.0 over HTTP, binary and structured; `google.cloud.storage.object.v1.*` with StorageObjectData,
//! `google.cloud.pubsub.topic.v1.messagePublished` with MessagePublishedData
//! ([types](https://cloud.google.com/eventarc/docs/event-types)).

use std::borrow::Cow;

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Event, Told, not_an_event};
use crate::error::{Error, ErrorKind, Result};
use crate::trigger::push::Push;

pub(super) const TYPE: &str = "ce-type";
pub(super) const STRUCTURED: &str = "application/cloudevents+json";

/// The type of an object's event, before what became of it.
const OBJECT: &str = "google.cloud.storage.object.v1.";
const MESSAGE: &str = "google.cloud.pubsub.topic.v1.messagePublished";

/// Reads an event whose attributes are headers and whose data is the body.
pub(super) fn binary(headers: &HeaderMap, body: &[u8]) -> Result<Event> {
    let kind = headers.get(TYPE).and_then(|value| value.to_str().ok());
    read(kind.unwrap_or_default(), body)
}

/// An event in one JSON document.
#[derive(Deserialize)]
struct Document<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    data_base64: Option<Cow<'a, str>>,
}

/// Reads an event that is one JSON document.
pub(super) fn structured(body: &[u8]) -> Result<Event> {
    let document: Document<'_> = serde_json::from_slice(body)
        .map_err(|error| not_an_event("The body is not the JSON of a CloudEvent.").with_source(error))?;
    let kind = document.kind.as_deref().unwrap_or_default();
    match (document.data, document.data_base64) {
        (Some(data), _) => read(kind, data.get().as_bytes()),
        (None, Some(data)) => {
            let data = BASE64.decode(data.as_bytes()).map_err(|_not_base64| {
                not_an_event("The event's `data_base64` is not padded standard base64.")
            })?;
            read(kind, &data)
        }
        (None, None) => Err(not_an_event("The event has no data.")),
    }
}

fn read(kind: &str, data: &[u8]) -> Result<Event> {
    if kind == MESSAGE {
        return Push::parse(data).map(Event::Message);
    }
    let told = match kind.strip_prefix(OBJECT) {
        Some(became) => Told::by_cloud_event(became, data)?,
        None => None,
    };
    told.map(Event::Object).ok_or_else(|| {
        Error::new(
            ErrorKind::NotAnEvent,
            "The event is neither of an object (google.cloud.storage.object.v1.finalized and its like) nor of a message \
             (google.cloud.pubsub.topic.v1.messagePublished); let the trigger send one of these.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: &str = r#"{"bucket":"landing","name":"a b.json","generation":"17","timeCreated":"2026-01-02T03:04:05.678Z","size":"3"}"#;

    fn headers(kind: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(TYPE, kind.parse().unwrap());
        headers
    }

    fn document(kind: &str, rest: &str) -> String {
        format!(r#"{{"specversion":"1.0","id":"1","source":"//storage","type":"{kind}",{rest}}}"#)
    }

    #[test]
    fn object_is_the_same_in_each_form() {
        let kind = format!("{OBJECT}finalized");
        let expected = binary(&headers(&kind), DATA.as_bytes()).unwrap();
        let Event::Object(Told::Finalized(object)) = &expected else {
            panic!("{expected:?}");
        };
        assert_eq!(
            (object.name.as_str(), object.generation, object.size),
            ("a b.json", 17, Some(3))
        );
        let data = format!(r#""data":{DATA}"#);
        assert_eq!(structured(document(&kind, &data).as_bytes()).unwrap(), expected);
        let data = format!(r#""data_base64":"{}""#, BASE64.encode(DATA));
        assert_eq!(structured(document(&kind, &data).as_bytes()).unwrap(), expected);
    }

    #[test]
    fn message_comes_out_of_its_event() {
        let body = r#"{"subscription":"projects/p/subscriptions/eventarc-1","message":{"messageId":"7","publishTime":"2026-01-02T03:04:05Z","data":"e30="}}"#;
        let expected = Event::Message(Push::parse(body.as_bytes()).unwrap());
        assert_eq!(binary(&headers(MESSAGE), body.as_bytes()).unwrap(), expected);
        let whole = document(MESSAGE, &format!(r#""data":{body}"#));
        assert_eq!(structured(whole.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn other_events_of_objects_are_told_apart_and_all_else_is_refused() {
        for (became, other) in [
            ("deleted", "deleted"),
            ("archived", "archived"),
            ("metadataUpdated", "metadata_updated"),
        ] {
            let event = binary(&headers(&format!("{OBJECT}{became}")), DATA.as_bytes()).unwrap();
            assert_eq!(event, Event::Object(Told::Other(other)));
        }
        for (kind, data) in [
            (format!("{OBJECT}renamed"), DATA),
            ("google.cloud.audit.log.v1.written".to_owned(), DATA),
            (format!("{OBJECT}finalized"), "[]"),
            (format!("{OBJECT}finalized"), r#"{"bucket":"b","name":"n"}"#),
            (
                format!("{OBJECT}finalized"),
                r#"{"bucket":"b","name":"n","generation":"x"}"#,
            ),
            (MESSAGE.to_owned(), "{}"),
        ] {
            let error = binary(&headers(&kind), data.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotAnEvent, "{kind} {data}");
        }
        for body in ["", "[]", "{}", r#"{"type":"x","data_base64":"?"}"#] {
            assert!(structured(body.as_bytes()).is_err(), "{body}");
        }
    }
}
