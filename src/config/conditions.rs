//! What a delivery must be for a table or a route to take it: an item of `from`, and of `routes`.

use std::collections::BTreeMap;

use super::field::{EQUALS, FIELD, FieldMatch, read_field_match};
use super::files::{BUCKET, FileMatch, OBJECTS, read_files};
use super::key::{Key, Keys, Others, Shape, Text};
use super::mapping::Mapping;
use super::reader::Field;
use super::source::{SUBSCRIPTION, read_subscription};

pub(super) const SUBSCRIPTION_KEY: Key = Key::optional(
    "subscription",
    Shape::Text(&SUBSCRIPTION),
    "any",
    "short or full name",
);
pub(super) const ATTRIBUTES: Key = Key::optional(
    "attributes",
    Shape::Map(&ATTRIBUTE_VALUES),
    "any",
    "attributes with their exact values",
);

/// The conditions on a message or a file, of a table's `from` and of a route.
pub(super) const CONDITIONS: &[Key] = &[SUBSCRIPTION_KEY, ATTRIBUTES, BUCKET, OBJECTS];

pub(super) const MATCH: Keys = Keys {
    title: "match",
    accepted: "a mapping such as `{subscription: orders-push, attributes: {kind: order}}` or \
               `{bucket: \"file:///srv/landing\", objects: \"orders/**\"}`",
    keys: &[CONDITIONS, &[FIELD, EQUALS]],
    never_empty: true,
    ..Keys::NONE
};

const ATTRIBUTE_VALUES: Keys = Keys {
    title: "attributes",
    accepted: "attributes with their values, such as `{kind: order}`",
    others: Some(Others {
        pattern: None,
        shape: Shape::Text(&Text {
            accepted: "the attribute's value as plain text",
            pattern: None,
            any_scalar: true,
        }),
    }),
    never_empty: true,
    ..Keys::NONE
};

/// Conditions on a delivery, at least one; all must hold. An item of the key `from`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeliveryMatch {
    /// Key `subscription`, default any: a short or full name.
    pub subscription: Option<String>,
    /// Key `attributes`, default any: attributes that the message must have, with exactly these values.
    pub attributes: BTreeMap<String, String>,
    /// Keys `bucket` and `objects`, default none: conditions on a file. With them it takes files only, without them
    /// messages only.
    pub files: Option<FileMatch>,
    /// Keys `field` and `equals`, default none: a condition on each record of a message.
    pub record: Option<FieldMatch>,
}

pub(super) fn read_match(field: &Field<'_>) -> Option<DeliveryMatch> {
    let mut keys = field.mapping()?;
    let conditions = read_conditions(&mut keys);
    let record = read_field_match(&mut keys);
    keys.finish();
    let conditions = conditions.zip(record.ok());
    let conditions = conditions.map(|(conditions, record)| DeliveryMatch { record, ..conditions });
    if conditions
        .as_ref()
        .is_some_and(|conditions| *conditions == DeliveryMatch::default())
    {
        field.problem(format!(
            "no condition is given; write {}, or attributes, or both, or a `bucket`",
            SUBSCRIPTION.accepted
        ));
        return None;
    }
    conditions
}

/// Reads the conditions on a delivery but for those on its records; nothing when one of them is wrong.
pub(super) fn read_conditions(keys: &mut Mapping<'_>) -> Option<DeliveryMatch> {
    let subscription = keys.key(&SUBSCRIPTION_KEY).map(|field| read_subscription(&field));
    let attributes = keys.key(&ATTRIBUTES).map(|field| read_attributes(&field));
    let files = read_files(keys);
    Some(DeliveryMatch {
        subscription: match subscription {
            Some(read) => Some(read?),
            None => None,
        },
        attributes: attributes.unwrap_or(Some(BTreeMap::new()))?,
        files: files.ok()?,
        record: None,
    })
}

fn read_attributes(field: &Field<'_>) -> Option<BTreeMap<String, String>> {
    let entries = field.entries()?;
    if entries.is_empty() {
        field.problem(format!(
            "no attribute is given; write {}, or remove the key",
            ATTRIBUTE_VALUES.accepted
        ));
        return None;
    }
    entries
        .into_iter()
        .map(|(name, field)| Some((name.to_owned(), field.text()?)))
        .collect()
}
