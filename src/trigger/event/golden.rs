//! Requests as Google documents them, kept as files with their sources.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use serde_json::Value;

use super::*;

fn read(file: &str) -> Event {
    let file: Value = serde_json::from_str(file).unwrap();
    let headers = file["headers"].as_object().unwrap();
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| {
            let value = HeaderValue::from_str(value.as_str().unwrap()).unwrap();
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), value)
        })
        .collect();
    let body = Bytes::from(file["body"].to_string());
    Form::of(&headers).unwrap().read(&headers, body).unwrap()
}

fn message(file: &str) -> Push {
    match read(file) {
        Event::Message(push) => push,
        Event::Object(told) => panic!("{told:?}"),
    }
}

#[test]
fn documented_messages_are_read() {
    for (file, subscription, attribute, data) in [
        (
            include_str!("../../../tests/golden/events/push-wrapped.json"),
            "projects/myproject/subscriptions/mysubscription",
            ("key", "value"),
            "Hello Cloud Pub/Sub! Here is my message!",
        ),
        (
            include_str!("../../../tests/golden/events/push-unwrapped.json"),
            "projects/myproject/subscriptions/mysubscription",
            ("key", "value"),
            "{\"status\":\"Hello there\"}",
        ),
        (
            include_str!("../../../tests/golden/events/eventarc-pubsub-binary.json"),
            "projects/my-project/subscriptions/my-sub",
            ("attr1", "attr1-value"),
            "hello world",
        ),
    ] {
        let push = message(file);
        assert_eq!(
            (push.subscription.as_str(), push.message_id.as_str()),
            (subscription, "2070443601311540")
        );
        assert_eq!(push.publish_time.to_rfc3339(), "2021-02-26T19:13:55.749+00:00");
        let (name, value) = attribute;
        assert_eq!(push.attributes, [(name.to_owned(), value.to_owned())].into());
        assert_eq!(push.data, Ok(Bytes::from(data)));
    }
}

#[test]
fn documented_events_of_an_object_name_one_generation() {
    let by_eventarc = [
        include_str!("../../../tests/golden/events/eventarc-storage-binary.json"),
        include_str!("../../../tests/golden/events/eventarc-storage-structured.json"),
    ];
    let by_notification = [
        include_str!("../../../tests/golden/events/notification-json-api-v1.json"),
        include_str!("../../../tests/golden/events/notification-overwrite.json"),
        include_str!("../../../tests/golden/events/notification-none.json"),
    ];
    let told = by_eventarc.map(|file| match read(file) {
        Event::Object(told) => told,
        Event::Message(push) => panic!("{push:?}"),
    });
    let notified = by_notification.map(|file| Told::by_message(&message(file)).unwrap().unwrap());
    for (place, told) in told.into_iter().chain(notified).enumerate() {
        let Told::Finalized(object) = told else {
            panic!("{told:?}");
        };
        assert_eq!(
            (object.bucket.as_str(), object.name.as_str(), object.generation),
            ("sample-bucket", "folder/Test.cs", 1_587_627_537_231_057)
        );
        // The format `NONE` tells neither.
        let known = place < 4;
        assert_eq!(object.size, known.then_some(352));
        assert_eq!(object.created.is_some(), known);
    }
}
