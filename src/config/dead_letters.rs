//! Where dead letters go: a location, or a topic of Pub/Sub.

use super::key::{Forms, Key, Keys, Shape, Text};
use super::location::{LOCATION, Location};
use super::reader::Field;
use super::source::{PART, is_part};
use crate::dead_letter::PUBLISHED_FROM;

const PLACE: Text = Text {
    accepted: ACCEPTED,
    pattern: LOCATION.pattern,
    any_scalar: false,
};

const ACCEPTED: &str =
    "a location beside the warehouse, such as `file:///var/lib/landfast/dead-letters`, or `{topic: NAME}`";

pub(super) const DEAD_LETTERS: Key = Key::required(
    "dead_letters",
    Shape::Either(&Forms {
        accepted: ACCEPTED,
        forms: &[Shape::Text(&PLACE), Shape::Map(&KEYS)],
    }),
    "where records are kept that could not become rows: a location apart from the warehouse, or a topic of Pub/Sub",
);

const KEYS: Keys = Keys {
    title: "dead_letters",
    accepted: ACCEPTED,
    keys: &[&[TOPIC, BEFORE]],
    later: &[&["table"]],
    ..Keys::NONE
};

pub(super) const TOPIC: Key = Key::required(
    "topic",
    Shape::Text(&Text {
        accepted: "a topic as `dead-letters` or `projects/P/topics/dead-letters`",
        pattern: Some(|| format!("^(?:projects/[A-Za-z0-9{PART}]+/topics/)?[A-Za-z0-9{PART}]+$")),
        any_scalar: true,
    }),
    "publishes each letter to this topic, once its commit is made; a short name is one of the environment's \
     `GOOGLE_CLOUD_PROJECT`. [What is in the message](dead-letters.md#a-topic)",
);

pub(super) const BEFORE: Key = Key::optional(
    "before",
    Shape::Text(&LOCATION),
    "none",
    "the location that dead letters were kept in before they went to the topic: letters that still wait there are published, \
     and copies of deliveries whose letters are there are acknowledged",
);

/// What stands at `dead_letters`.
pub(super) enum Place {
    Location(Location),
    Topic(String, Option<Location>),
}

/// Where dead letters go.
pub(super) struct Places {
    /// Where they are written.
    pub(super) written: Location,
    /// The topic that they are published to.
    pub(super) topic: Option<String>,
    /// Where they were kept before.
    pub(super) before: Option<Location>,
}

impl Place {
    pub(super) fn read(field: &Field<'_>) -> Option<Self> {
        if !field.is_mapping() || field.is_empty_mapping() {
            return field.location_apart("the dead letters").map(Self::Location);
        }
        let mut keys = field.mapping()?;
        let topic = keys.key(&TOPIC).and_then(|field| field.parse(parse_topic));
        let before = keys
            .key(&BEFORE)
            .and_then(|field| field.location_apart("the dead letters of before"));
        keys.finish();
        topic.map(|topic| Self::Topic(topic, before))
    }

    /// The places where letters are with this warehouse.
    pub(super) fn beside(self, warehouse: &Location) -> Places {
        match self {
            Self::Location(location) => Places {
                written: location,
                topic: None,
                before: None,
            },
            Self::Topic(topic, before) => Places {
                written: warehouse.child(PUBLISHED_FROM),
                topic: Some(topic),
                before,
            },
        }
    }
}

fn parse_topic(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let shaped = match parts.as_slice() {
        [short] => is_part(short),
        ["projects", project, "topics", short] => is_part(project) && is_part(short),
        _ => false,
    };
    match shaped {
        true => Ok(text.to_owned()),
        false => Err(format!("`{text}` is not the name of a topic")),
    }
}
