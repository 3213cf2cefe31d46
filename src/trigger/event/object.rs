//! An object of a Cloud Storage bucket, as an event tells of it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::{Told, not_an_event};
use crate::error::Result;
use crate::trigger::Push;

/// The attributes of a notification.
const BUCKET: &str = "bucketId";
const OBJECT: &str = "objectId";
const GENERATION: &str = "objectGeneration";
const EVENT: &str = "eventType";
const FORMAT: &str = "payloadFormat";

/// A generation of an object, there when the event was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectEvent {
    /// The bucket's name.
    pub bucket: String,
    /// The object's name.
    pub name: String,
    /// Which of the objects of that name.
    pub generation: i64,
    /// Its `timeCreated`, if the event tells.
    pub created: Option<DateTime<Utc>>,
    /// Bytes, if the event tells.
    pub size: Option<u64>,
    /// Of a notification: its attributes. Of other events those that a notification of the same would have.
    pub attributes: BTreeMap<String, String>,
}

/// The fields of an object's resource that matter here. Numbers are texts in it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    bucket: Option<String>,
    name: Option<String>,
    generation: Option<String>,
    time_created: Option<String>,
    size: Option<String>,
}

impl Resource {
    fn created(&self) -> Option<DateTime<Utc>> {
        let created = DateTime::parse_from_rfc3339(self.time_created.as_deref()?);
        created.ok().map(|created| created.to_utc())
    }

    fn size(&self) -> Option<u64> {
        self.size.as_deref()?.parse().ok()
    }
}

impl Told {
    /// What a message tells of an object; none where it is no notification.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::NotAnEvent`] for a notification whose generation is no number.
    pub fn by_message(push: &Push) -> Option<Result<Self>> {
        let attribute = |name| attribute(push, name);
        let (bucket, name) = (attribute(BUCKET)?, attribute(OBJECT)?);
        let (generation, _format) = (attribute(GENERATION)?, attribute(FORMAT)?);
        let told = match attribute(EVENT)? {
            "OBJECT_FINALIZE" => notified(push, bucket, name, generation).map(Self::Finalized),
            "OBJECT_DELETE" => Ok(Self::Other("deleted")),
            "OBJECT_ARCHIVE" => Ok(Self::Other("archived")),
            "OBJECT_METADATA_UPDATE" => Ok(Self::Other("metadata_updated")),
            _ => return None,
        };
        Some(told)
    }

    /// The bucket that a notification is of.
    pub fn bucket_of(push: &Push) -> Option<&str> {
        attribute(push, BUCKET)
    }

    /// What a CloudEvent of a bucket tells: the last part of its type, and its data.
    pub(super) fn by_cloud_event(kind: &str, data: &[u8]) -> Result<Option<Self>> {
        let told = match kind {
            "finalized" => Self::Finalized(read(data)?),
            "deleted" => Self::Other("deleted"),
            "archived" => Self::Other("archived"),
            "metadataUpdated" => Self::Other("metadata_updated"),
            _ => return Ok(None),
        };
        Ok(Some(told))
    }
}

/// An attribute by its name, as it is written or, where it was a header, in small letters.
fn attribute<'a>(push: &'a Push, name: &str) -> Option<&'a str> {
    push.attribute(name).map(String::as_str)
}

/// The object that a notification is of.
///
/// Attributes that came as headers are not all that they were: HTTP takes spaces off their ends, and has no common way to
/// write what is not ASCII. So the resource names the object there, where there is one.
fn notified(push: &Push, bucket: &str, name: &str, generation: &str) -> Result<ObjectEvent> {
    // Absent where the format is `NONE`; what cannot be read tells nothing, and is asked for.
    let resource = push.data.as_ref().ok();
    let resource: Resource = resource
        .and_then(|data| serde_json::from_slice(data).ok())
        .unwrap_or_default();
    let (created, size) = (resource.created(), resource.size());
    let is_of_it =
        resource.bucket.as_deref() == Some(bucket) && resource.generation.as_deref() == Some(generation);
    let name = match resource.name {
        _ if push.attributes.contains_key(OBJECT) => name.to_owned(),
        Some(name) if is_of_it => name,
        _ if is_plain(name) => name.to_owned(),
        _ => {
            return Err(not_an_event(
                "The notification came as headers, and its object's name is not plain ASCII, which a header need not keep. \
                 Let the bucket's notifications have the payload format JSON_API_V1, or turn payload unwrapping off.",
            ));
        }
    };
    Ok(ObjectEvent {
        bucket: bucket.to_owned(),
        name,
        generation: parse_generation(generation)?,
        created,
        size,
        attributes: push.attributes.clone(),
    })
}

/// Whether a header keeps it.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| matches!(byte, b' '..=b'~')) && name == name.trim_matches(' ')
}

fn read(data: &[u8]) -> Result<ObjectEvent> {
    let resource: Resource = serde_json::from_slice(data)
        .map_err(|error| not_an_event("The event's data is not the JSON of an object.").with_source(error))?;
    let (created, size) = (resource.created(), resource.size());
    let (Some(bucket), Some(name), Some(generation)) = (resource.bucket, resource.name, resource.generation)
    else {
        return Err(not_an_event(
            "The event's data has no `bucket`, `name` and `generation`.",
        ));
    };
    let attributes = [
        (BUCKET, bucket.clone()),
        (OBJECT, name.clone()),
        (GENERATION, generation.clone()),
        (EVENT, "OBJECT_FINALIZE".to_owned()),
    ];
    Ok(ObjectEvent {
        generation: parse_generation(&generation)?,
        bucket,
        name,
        created,
        size,
        attributes: attributes
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    })
}

/// Zero would be the newest one, whichever that is.
fn parse_generation(text: &str) -> Result<i64> {
    let generation = text.parse().ok().filter(|generation| *generation > 0);
    generation.ok_or_else(|| not_an_event("The object's generation is not a number above zero."))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn notification(event: &str, data: &str) -> Push {
        let attributes = [
            ("bucketId", "landing"),
            ("objectId", "orders/1.json"),
            ("objectGeneration", "1700000000123456"),
            ("eventType", event),
            ("payloadFormat", "JSON_API_V1"),
        ];
        Push {
            subscription: "projects/p/subscriptions/s".to_owned(),
            message_id: "1".to_owned(),
            publish_time: DateTime::UNIX_EPOCH,
            attributes: attributes
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            data: Ok(Bytes::from(data.to_owned())),
        }
    }

    fn finalized(push: &Push) -> ObjectEvent {
        match Told::by_message(push).unwrap().unwrap() {
            Told::Finalized(object) => object,
            Told::Other(other) => panic!("{other}"),
        }
    }

    #[test]
    fn notification_names_a_generation() {
        let told = finalized(&notification(
            "OBJECT_FINALIZE",
            r#"{"kind":"storage#object","timeCreated":"2026-01-02T03:04:05.678Z","size":"7"}"#,
        ));
        assert_eq!(
            (told.bucket.as_str(), told.name.as_str()),
            ("landing", "orders/1.json")
        );
        assert_eq!(told.generation, 1_700_000_000_123_456);
        assert_eq!(
            told.created.unwrap().to_rfc3339(),
            "2026-01-02T03:04:05.678+00:00"
        );
        assert_eq!(told.size, Some(7));
        // The format `NONE` has no data.
        for data in ["", "no"] {
            let told = finalized(&notification("OBJECT_FINALIZE", data));
            assert_eq!((told.created, told.size), (None, None));
        }
    }

    #[test]
    fn notification_without_its_wrapper_has_its_attributes_in_small_letters() {
        let mut push = notification("OBJECT_FINALIZE", "{}");
        let expected = finalized(&push);
        let attributes = std::mem::take(&mut push.attributes).into_iter();
        push.attributes = attributes
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
            .collect();
        let told = finalized(&push);
        assert_eq!((told.name, told.generation), (expected.name, expected.generation));
        assert_eq!(Told::bucket_of(&push), Some("landing"));
    }

    #[test]
    fn name_that_was_a_header_is_taken_from_the_resource() {
        let unwrapped = |name: &str, data: &str| {
            let mut push = notification("OBJECT_FINALIZE", data);
            let attributes = std::mem::take(&mut push.attributes).into_iter();
            push.attributes = attributes
                .map(|(name, value)| (name.to_ascii_lowercase(), value))
                .collect();
            push.attributes.insert("objectid".to_owned(), name.to_owned());
            push
        };
        // As the header has it, and as it is.
        for (header, name) in [
            ("orders/1", "orders/1 "),
            ("gr\u{fffd}\u{fffd}", "gr\u{df}"),
            ("a", "a"),
        ] {
            let of = |bucket: &str| {
                let generation = "1700000000123456";
                serde_json::json!({ "bucket": bucket, "name": name, "generation": generation }).to_string()
            };
            assert_eq!(finalized(&unwrapped(header, &of("landing"))).name, name);
            // Of another object it tells nothing.
            let told = Told::by_message(&unwrapped(header, &of("other"))).unwrap();
            assert_eq!(told.is_ok(), header.is_ascii(), "{header}");
            // In the message itself it is as it was.
            let mut wrapped = notification("OBJECT_FINALIZE", "");
            wrapped.attributes.insert("objectId".to_owned(), name.to_owned());
            assert_eq!(finalized(&wrapped).name, name);
        }
        for (header, is_kept) in [
            ("orders/a b+c%20.json", true),
            ("orders/a\tb", false),
            ("orders/gr\u{f6}\u{df}e", false),
            (" a", false),
            ("a ", false),
        ] {
            let told = Told::by_message(&unwrapped(header, "")).unwrap();
            assert_eq!(told.is_ok(), is_kept, "{header}");
        }
    }

    #[test]
    fn other_events_of_an_object_are_told_apart() {
        for (event, other) in [
            ("OBJECT_DELETE", "deleted"),
            ("OBJECT_ARCHIVE", "archived"),
            ("OBJECT_METADATA_UPDATE", "metadata_updated"),
        ] {
            let told = Told::by_message(&notification(event, "{}")).unwrap().unwrap();
            assert_eq!(told, Told::Other(other));
        }
        assert!(Told::by_message(&notification("PAID", "{}")).is_none());
    }

    #[test]
    fn message_with_some_of_the_attributes_is_no_notification() {
        for missing in [
            "bucketId",
            "objectId",
            "objectGeneration",
            "eventType",
            "payloadFormat",
        ] {
            let mut push = notification("OBJECT_FINALIZE", "{}");
            push.attributes.remove(missing);
            assert!(Told::by_message(&push).is_none(), "{missing}");
        }
        for generation in ["seven", "0", "-1", ""] {
            let mut push = notification("OBJECT_FINALIZE", "{}");
            push.attributes
                .insert("objectGeneration".to_owned(), generation.to_owned());
            assert!(Told::by_message(&push).unwrap().is_err(), "{generation}");
        }
    }
}
