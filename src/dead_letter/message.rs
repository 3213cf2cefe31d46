//! A letter as a message of Pub/Sub: its bytes as they came, and in attributes what a line says of it.
//!
//! A message that would not be taken is worth nothing, so a letter is fitted to [the limits][limits]: attributes are cut or
//! left out, its bytes never are.
//!
//! [limits]: https://cloud.google.com/pubsub/quotas#resource_limits

use std::collections::BTreeMap;

use chrono::SecondsFormat;
use google_cloud_pubsub::model::Message;

use super::letter::DeadLetter;

/// What the names of our own attributes begin with.
const OWN: &str = "landfast.";

/// What names a letter, the same each time that it is published.
pub const LETTER: &str = "landfast.letter";

/// What names the check whose message this is. It has no data, so it is no letter and holds no record.
pub(super) const CHECK: &str = "landfast.check";

/// What a policy of Pub/Sub that forwards dead letters says of them.
pub(crate) const SOURCE_SUBSCRIPTION: &str = "CloudPubSubDeadLetterSourceSubscription";
pub(crate) const SOURCE_COUNT: &str = "CloudPubSubDeadLetterSourceDeliveryCount";
const SOURCE_PROJECT: &str = "CloudPubSubDeadLetterSourceSubscriptionProject";
const SOURCE_TIME: &str = "CloudPubSubDeadLetterSourceTopicPublishTime";

/// Of the 10 MB of a request, without what attributes and framing may take.
const MAX_DATA_BYTES: usize = 9_800_000;
const MAX_ATTRIBUTES: usize = 100;
const MAX_NAME_BYTES: usize = 256;
const MAX_VALUE_BYTES: usize = 1024;

/// Names that begin so are Google's own, and refused of others.
const RESERVED: &str = "goog";

/// Whether a letter's bytes go into a message.
pub(super) fn fits(bytes: usize) -> bool {
    bytes <= MAX_DATA_BYTES
}

/// Attributes that fit, and how many had to be cut or left out.
#[derive(Default)]
struct Attributes {
    fitted: BTreeMap<String, String>,
    cut: usize,
}

impl Attributes {
    /// Sets an attribute that is not there yet, as far as it fits.
    fn add(&mut self, name: &str, value: &str) {
        let is_name = (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.starts_with(RESERVED);
        // One is left for the number of those that were cut.
        let has_room = self.fitted.len() < MAX_ATTRIBUTES - 1;
        if !is_name || !has_room || self.fitted.contains_key(name) {
            self.cut += 1;
            return;
        }
        let end = value.floor_char_boundary(MAX_VALUE_BYTES);
        let (kept, rest) = value.split_at(end);
        self.cut += usize::from(!rest.is_empty());
        self.fitted.insert(name.to_owned(), kept.to_owned());
    }
}

/// Makes the message of a letter. `id` is what names it for good; `location` is where its bytes are if they are too many.
/// Gives also how many attributes were cut or left out.
///
/// `None` if the letter's bytes are damaged.
pub(super) fn message(letter: &DeadLetter<'_>, id: &str, location: Option<&str>) -> Option<(Message, usize)> {
    let data = letter.raw()?;
    let mut attributes = Attributes::default();
    let position = letter.position.map(|position| position.to_string());
    let published_at = letter.published_at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    let own = [
        (LETTER, Some(id)),
        ("landfast.id", Some(letter.id.as_str())),
        ("landfast.reason.kind", Some(&*letter.reason.kind)),
        ("landfast.reason.message", Some(&*letter.reason.message)),
        ("landfast.reason.path", letter.reason.path.as_deref()),
        ("landfast.table", letter.table.as_deref()),
        ("landfast.source", Some(&*letter.source)),
        ("landfast.delivery_id", Some(letter.delivery_id.as_str())),
        ("landfast.position", position.as_deref()),
        ("landfast.published_at", Some(published_at.as_str())),
        ("landfast.version", Some(env!("CARGO_PKG_VERSION"))),
        ("landfast.location", location),
    ];
    for (name, value) in own {
        if let Some(value) = value {
            attributes.add(name, value);
        }
    }
    // What a policy said before is nearer to the message's origin.
    // As headers its name came in small letters.
    let mut names = letter.attributes.keys();
    if !names.any(|name| name.eq_ignore_ascii_case(SOURCE_SUBSCRIPTION)) {
        add_source(&mut attributes, letter, &published_at);
    }
    // A sender does not speak for us.
    let others = letter
        .attributes
        .iter()
        .filter(|(name, _)| !name.starts_with(OWN));
    for (name, value) in others {
        attributes.add(name, value);
    }
    let Attributes { mut fitted, cut } = attributes;
    if cut > 0 {
        fitted.insert("landfast.cut".to_owned(), cut.to_string());
    }
    let message = Message::new().set_attributes(fitted);
    let message = match location {
        Some(_) => message,
        None => message.set_data(data),
    };
    Some((message, cut))
}

/// Says in Google's names where a message came from. A bad record is bad at its first delivery, so one is counted.
fn add_source(attributes: &mut Attributes, letter: &DeadLetter<'_>, published_at: &str) {
    let mut parts = letter.source.split('/');
    if let (Some("projects"), Some(project), Some("subscriptions"), Some(subscription), None) = (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ) {
        attributes.add(SOURCE_COUNT, "1");
        attributes.add(SOURCE_SUBSCRIPTION, subscription);
        attributes.add(SOURCE_PROJECT, project);
        attributes.add(SOURCE_TIME, published_at);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bytes::Bytes;
    use chrono::DateTime;

    use super::*;
    use crate::decode::{Reason, RejectKind, RejectedRecord};
    use crate::trigger::{DeliveryId, Envelope};

    fn envelope(source: &str, attributes: BTreeMap<String, String>) -> Envelope {
        let published_at = "2026-01-02T03:04:05.678Z".parse().unwrap();
        Envelope {
            id: DeliveryId::message("orders", "1234567890", published_at),
            source: source.to_owned(),
            published_at,
            received_at: DateTime::UNIX_EPOCH,
            fingerprint: None,
            division: None,
            attributes,
        }
    }

    fn made(envelope: &Envelope, message_text: &str, location: Option<&str>) -> (Message, usize) {
        let record = RejectedRecord {
            position: 3,
            reason: Reason {
                kind: RejectKind::WrongType,
                message: message_text.to_owned(),
                path: Some("$.n".to_owned()),
            },
            raw: Bytes::from_static(b"{\"n\":\"\xff\"}"),
        };
        let letter = DeadLetter::of_record(envelope, Some("shop.orders"), &record);
        message(&letter, "shop.orders/d/f/3", location).unwrap()
    }

    fn of(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    /// Others read these names: a change of them is a break.
    #[test]
    fn message_says_all_that_a_line_says() {
        let sent = envelope("projects/p/subscriptions/orders-push", of(&[("kind", "order")]));
        let (message, cut) = made(&sent, "A long is expected.", None);
        let expected = of(&[
            ("landfast.letter", "shop.orders/d/f/3"),
            ("landfast.id", "orders/1234567890/3"),
            ("landfast.reason.kind", "wrong_type"),
            ("landfast.reason.message", "A long is expected."),
            ("landfast.reason.path", "$.n"),
            ("landfast.table", "shop.orders"),
            ("landfast.source", "projects/p/subscriptions/orders-push"),
            ("landfast.delivery_id", "orders/1234567890"),
            ("landfast.position", "3"),
            ("landfast.published_at", "2026-01-02T03:04:05.678Z"),
            ("landfast.version", env!("CARGO_PKG_VERSION")),
            ("CloudPubSubDeadLetterSourceDeliveryCount", "1"),
            ("CloudPubSubDeadLetterSourceSubscription", "orders-push"),
            ("CloudPubSubDeadLetterSourceSubscriptionProject", "p"),
            (
                "CloudPubSubDeadLetterSourceTopicPublishTime",
                "2026-01-02T03:04:05.678Z",
            ),
            ("kind", "order"),
        ]);
        assert_eq!(
            message.attributes,
            expected.into_iter().collect::<HashMap<_, _>>()
        );
        assert_eq!((message.data, cut), (Bytes::from_static(b"{\"n\":\"\xff\"}"), 0));
    }

    #[test]
    fn what_came_in_no_message_has_none_of_googles_names() {
        let (message, _) = made(&envelope("http", BTreeMap::new()), "m", Some("gs://l/w/x"));
        assert!(
            message
                .attributes
                .keys()
                .all(|name| name.starts_with("landfast."))
        );
        assert_eq!(message.attributes["landfast.location"], "gs://l/w/x");
        assert!(message.data.is_empty());
    }

    #[test]
    fn forwarded_message_keeps_what_its_policy_said() {
        let said = of(&[(SOURCE_SUBSCRIPTION, "first"), (SOURCE_COUNT, "5")]);
        let (message, cut) = made(&envelope("projects/p/subscriptions/second", said), "m", None);
        assert_eq!(message.attributes[SOURCE_SUBSCRIPTION], "first");
        assert_eq!(message.attributes[SOURCE_COUNT], "5");
        assert!(message.attributes["landfast.source"].ends_with("/second"));
        assert!(!message.attributes.contains_key(SOURCE_PROJECT));
        assert_eq!(cut, 0);
        let as_header = of(&[(&SOURCE_SUBSCRIPTION.to_ascii_lowercase(), "first")]);
        let (message, _) = made(&envelope("projects/p/subscriptions/second", as_header), "m", None);
        assert!(!message.attributes.contains_key(SOURCE_SUBSCRIPTION));
    }

    #[test]
    fn attributes_are_cut_to_what_a_topic_takes() {
        let long_name = "n".repeat(MAX_NAME_BYTES + 1);
        let mut sent = of(&[
            ("", "no name"),
            (&long_name, "x"),
            ("googclient_schemaencoding", "JSON"),
            (LETTER, "another's"),
        ]);
        sent.extend((0..120).map(|place| (format!("z{place:03}"), "v".to_owned())));
        let text = "ä".repeat(MAX_VALUE_BYTES);
        let (message, cut) = made(&envelope("http", sent), &text, None);
        assert_eq!(message.attributes.len(), MAX_ATTRIBUTES);
        assert_eq!(message.attributes["landfast.reason.message"], "ä".repeat(512));
        assert_eq!(message.attributes[LETTER], "shop.orders/d/f/3");
        // Eleven of ours, the number, and the first of the sender's; one is cut, three are no names, one is ours to say, the rest has no room.
        assert!(message.attributes.contains_key("z087") && !message.attributes.contains_key("z088"));
        assert_eq!((cut, &*message.attributes["landfast.cut"]), (1 + 3 + 32, "36"));
        let fits = |(name, value): (&String, &String)| {
            (1..=MAX_NAME_BYTES).contains(&name.len()) && value.len() <= MAX_VALUE_BYTES
        };
        assert!(message.attributes.iter().all(fits));
        let most = MAX_ATTRIBUTES * (MAX_NAME_BYTES + MAX_VALUE_BYTES + 16);
        assert!(MAX_DATA_BYTES + most < 10_000_000);
    }
}
