//! Sources: the scope in which message ids count, and the subscriptions that share it.

use super::key::{Key, Keys, List, Others, Shape, Text};
use super::reader::Field;

/// What a subscription's name may hold beside letters and digits: what Pub/Sub allows, and the `:` of domain-scoped
/// projects.
pub(super) const PART: &str = "_.~+%:-";

/// Of an attribute, by Pub/Sub.
const MAX_NAME_BYTES: usize = 256;

/// The name of a subscription.
pub(super) const SUBSCRIPTION: Text = Text {
    accepted: "a subscription as `orders-push` or `projects/P/subscriptions/orders-push`",
    pattern: Some(|| format!("^(?:projects/[A-Za-z0-9{PART}]+/subscriptions/)?[A-Za-z0-9{PART}]+$")),
    any_scalar: true,
};

pub(super) const SUBSCRIPTIONS: Key = Key::required(
    "subscriptions",
    Shape::List(&List {
        accepted: "a list of subscriptions such as `[orders-push, orders-pull]`",
        item: Shape::Text(&SUBSCRIPTION),
    }),
    "short or full names, all of one topic; each in one source at most",
);

pub(super) const DEDUPE_ATTRIBUTE: Key = Key::optional(
    "dedupe_attribute",
    Shape::Text(&Text {
        accepted: "the name of an attribute, such as `event_id`",
        pattern: Some(|| "^.+$".to_owned()),
        any_scalar: false,
    }),
    "the message id",
    "the attribute by whose value the publisher names an event: of two messages with one value, one lands \
     ([more](events.md#the-same-event-twice))",
);

pub(super) const SOURCES: Keys = Keys {
    title: "sources",
    accepted: EXAMPLE,
    others: Some(Others {
        pattern: Some(|| "^[A-Za-z0-9_-]*$".to_owned()),
        shape: Shape::Map(&SOURCE),
    }),
    ..Keys::NONE
};

const SOURCE: Keys = Keys {
    title: "source",
    accepted: EXAMPLE,
    keys: &[&[SUBSCRIPTIONS, DEDUPE_ATTRIBUTE]],
    ..Keys::NONE
};

const EXAMPLE: &str = "a mapping such as `orders: {subscriptions: [orders-push, orders-pull]}`";

/// The subscriptions of one topic whose messages count once, however they came. Key `sources.NAME`.
///
/// Keep the name when a subscription is built anew: it is part of every message's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceConfig {
    /// Key `subscriptions`, required: short or full names; each belongs to one source at most.
    pub subscriptions: Vec<String>,
    /// Key `dedupe_attribute`, default none: the attribute whose value names an event, whatever the message's id.
    pub dedupe_attribute: Option<String>,
}

/// Reads the key `sources`.
pub(super) fn read(field: &Field<'_>) -> std::collections::BTreeMap<String, SourceConfig> {
    let mut sources = std::collections::BTreeMap::new();
    let mut taken: Vec<(String, String)> = Vec::new();
    for (name, field) in field.entries().unwrap_or_default() {
        if !name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        {
            field.key_problem("a source's name is of letters, digits, `_` and `-`");
        }
        let Some(mut keys) = field.mapping() else {
            continue;
        };
        let items = keys.key(&SUBSCRIPTIONS).and_then(|field| field.items());
        let dedupe_attribute = keys
            .key(&DEDUPE_ATTRIBUTE)
            .and_then(|field| read_attribute(&field));
        keys.finish();
        let mut subscriptions = Vec::new();
        for item in items.unwrap_or_default() {
            let Some(subscription) = read_subscription(&item) else {
                continue;
            };
            if let Some((_, first)) = taken.iter().find(|(other, _)| is_same(other, &subscription)) {
                item.problem(format!(
                    "the subscription stands already in `{first}`; its messages can count in one source only"
                ));
            } else {
                taken.push((subscription.clone(), item.path().to_owned()));
                subscriptions.push(subscription);
            }
        }
        let source = SourceConfig {
            subscriptions,
            dedupe_attribute,
        };
        sources.insert(name.to_owned(), source);
    }
    sources
}

fn read_attribute(field: &Field<'_>) -> Option<String> {
    field.parse(|text| match text.len() {
        0 => Err("the name is empty".to_owned()),
        1..=MAX_NAME_BYTES => Ok(text.to_owned()),
        _ => Err(format!(
            "Pub/Sub has no attribute with a name of more than {MAX_NAME_BYTES} bytes"
        )),
    })
}

/// Reads a subscription's short or full name.
pub(super) fn read_subscription(field: &Field<'_>) -> Option<String> {
    field.parse(|text| {
        let parts: Vec<&str> = text.split('/').collect();
        let shaped = match parts.as_slice() {
            [short] => is_part(short),
            ["projects", project, "subscriptions", short] => is_part(project) && is_part(short),
            _ => false,
        };
        if shaped {
            Ok(text.to_owned())
        } else {
            Err(format!("`{text}` is not the name of a subscription"))
        }
    })
}

pub(super) fn is_part(part: &str) -> bool {
    !part.is_empty()
        && part
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || PART.contains(c))
}

/// Whether one event could come from both: a short name stands for that subscription of any project.
fn is_same(left: &str, right: &str) -> bool {
    let short = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
    left == right || (left.contains('/') != right.contains('/') && short(left) == short(right))
}
