//! Messages that a dead-letter policy of Pub/Sub has forwarded: what it says of them, told.
//!
//! A forwarded message is a new one, with an id and a publish time of its own, and names neither of the first one's. If that
//! one landed after all, as when its acknowledgement was late, nothing that Pub/Sub says tells the two apart from two events.

use super::http::Server;
use super::push::Push;
use crate::dead_letter::{LETTER, SOURCE_COUNT, SOURCE_SUBSCRIPTION};
use crate::telemetry;

/// Whether a policy has forwarded a message. Letters of landfast's own have the same attributes, and one more.
pub(crate) fn is_forwarded(push: &Push) -> bool {
    push.attribute(SOURCE_SUBSCRIPTION).is_some() && push.attribute(LETTER).is_none()
}

/// Counts a message that was forwarded, and tells of it once a minute.
pub(super) fn tell(server: &Server, push: &Push) {
    if !is_forwarded(push) {
        return;
    }
    let subscription = telemetry::shown(&push.subscription);
    metrics::counter!(telemetry::FORWARDED).increment(1);
    if let Some(count) = server.refusals.tell(&format!("forwarded {subscription}")) {
        let said = |name: &str| push.attribute(name).map(|text| telemetry::shown(text));
        tracing::warn!(
            subscription,
            forwarded.from = said(SOURCE_SUBSCRIPTION),
            forwarded.deliveries = said(SOURCE_COUNT),
            message.id = telemetry::shown(&push.message_id),
            count,
            "A dead-letter policy has forwarded messages. They have new ids: one whose first copy landed after all lands a \
             second time, unless the source names a dedupe_attribute."
        );
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use chrono::DateTime;

    use super::*;

    #[test]
    fn forwarded_are_those_that_a_policy_marked_and_no_letters_of_ours() {
        let lower = SOURCE_SUBSCRIPTION.to_ascii_lowercase();
        for (names, expected) in [
            (&["kind"][..], false),
            (&[SOURCE_SUBSCRIPTION], true),
            // As headers bring it.
            (&[lower.as_str()], true),
            (&[SOURCE_SUBSCRIPTION, LETTER], false),
        ] {
            let push = Push {
                subscription: "projects/p/subscriptions/s".to_owned(),
                message_id: "1".to_owned(),
                publish_time: DateTime::UNIX_EPOCH,
                attributes: names
                    .iter()
                    .map(|name| ((*name).to_owned(), "x".to_owned()))
                    .collect(),
                data: Ok(Bytes::new()),
            };
            assert_eq!(is_forwarded(&push), expected, "{names:?}");
        }
    }
}
