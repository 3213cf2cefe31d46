//! The subscriptions that the configuration names: whether a table remembers longer than they can deliver, and what else of
//! their settings the service minds. They are asked about, and nothing is pulled.

use std::fmt::Write;

use futures::future::join_all;
use google_cloud_pubsub::client::SubscriptionAdmin;
use google_cloud_pubsub::model::Subscription;
use google_cloud_pubsub::model::push_config::Wrapper;
use tokio::time::{Duration, timeout};

use super::remedy::turned_off;
use super::report::{Found, Gathered, Line, too_slow};
use super::{PubSub, bounded, line};
use crate::config::{Config, duration_text as text};
use crate::route::Router;
use crate::trigger::{named_subscriptions, subscription_admin, subscriptions};

const WHAT: &str = "subscription";

/// Google's client asks again for minutes where nobody answers.
const QUESTION: Duration = Duration::from_secs(20);

/// What a table remembers more than the subscription keeps, since their clocks are not one.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Pub/Sub's, where a subscription does not say it.
const DEFAULT_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
const DEFAULT_ACK_DEADLINE: Duration = Duration::from_secs(10);

/// Asks about each of them, where their project is known.
pub(super) async fn probe(config: &Config, pubsub: &PubSub) -> Gathered {
    if named_subscriptions(config).is_empty() {
        return Gathered::default();
    }
    let names = match subscriptions(config, &[], pubsub.project.as_deref()) {
        Ok(names) => names,
        Err(error) => {
            let found = Found::skipped(error.report(), "Say --project, or write the full names.");
            return line(WHAT, "all", async { found }).await.into();
        }
    };
    let client = bounded(subscription_admin(pubsub.emulator.as_deref())).await;
    let probes = names.iter().map(|name| {
        let client = &client;
        line(WHAT, name, async move {
            match client {
                Ok(client) => question(config, client, name).await,
                Err(error) => Found::warned(error.report(), "Give the process credentials."),
            }
        })
    });
    let lines: Vec<Line> = join_all(probes).await;
    Gathered {
        lines,
        ..Gathered::default()
    }
}

async fn question(config: &Config, client: &SubscriptionAdmin, name: &str) -> Found {
    let asked = client.get_subscription().set_subscription(name).send();
    let error = match timeout(QUESTION, asked).await {
        Ok(Ok(subscription)) => return judge(config, name, &subscription),
        Ok(Err(error)) => error,
        Err(_elapsed) => {
            return Found::failed(
                too_slow(QUESTION).report(),
                "See that Pub/Sub is reached from here.",
            );
        }
    };
    if let Some(remedy) = turned_off(&error.to_string()) {
        // Perhaps of who runs the check alone: what is pushed wants it in the subscription's project.
        return Found::warned(
            "Pub/Sub's API is turned off, so its retention is not compared",
            remedy,
        );
    }
    // What is no answer of Pub/Sub's own has a status of HTTP alone.
    let code = error.status().map(|status| status.code.name());
    match (code, error.http_status_code()) {
        (Some("NOT_FOUND"), _) => Found::failed(
            "there is no such subscription",
            "Make it, or name another one in the configuration.",
        ),
        // The service works without: it does not ask.
        (Some("PERMISSION_DENIED" | "UNAUTHENTICATED"), _) | (None, Some(401 | 403)) => Found::warned(
            "its settings may not be seen, so its retention is not compared",
            format!(
                "Give who runs the check roles/pubsub.viewer on {name} (pubsub.subscriptions.get); the service does not \
                 need it."
            ),
        ),
        _ => Found::failed(error.to_string(), "See that Pub/Sub is reached from here."),
    }
}

fn judge(config: &Config, name: &str, subscription: &Subscription) -> Found {
    let kept = retention(subscription);
    let router = Router::new(config);
    let short = router
        .takers(name)
        .filter(|(_, remembered)| kept + DAY > *remembered)
        .min_by_key(|(_, remembered)| *remembered);
    if let Some((table, remembered)) = short {
        return Found::failed(
            format!(
                "it or its topic keeps messages for {}, and {table} remembers them for {}: one that comes late is a dead \
                 letter",
                text(kept),
                text(remembered)
            ),
            format!(
                "Set ledger.retention of {table} to {} at least, or the retention of the subscription and its topic to {} \
                 at most.",
                text(kept + DAY),
                text(remembered.saturating_sub(DAY))
            ),
        );
    }
    if let Some((told, remedy)) = never_delivers(subscription) {
        return Found::failed(told, remedy);
    }
    let concerns = concerns(config, subscription);
    if concerns.is_empty() {
        return Found::passed(format!("keeps messages for {}", text(kept)));
    }
    let (told, remedies): (Vec<String>, Vec<&str>) = concerns.into_iter().unzip();
    Found::warned(told.join("; "), remedies.join(" "))
}

/// What the service can never take.
fn never_delivers(subscription: &Subscription) -> Option<(&'static str, &'static str)> {
    if subscription.detached {
        return Some((
            "it is detached from its topic, and gets no message any more",
            "Make it anew.",
        ));
    }
    let push = subscription.push_config.as_ref()?;
    match &push.wrapper {
        Some(Wrapper::NoWrapper(wrapper)) if !wrapper.write_metadata => Some((
            "its pushes are unwrapped and without metadata, so that no message can be told from another: they are answered 400",
            "Turn on its \"write metadata\", or payload unwrapping off.",
        )),
        _ => None,
    }
}

/// What works, and may not be meant so.
fn concerns(config: &Config, subscription: &Subscription) -> Vec<(String, &'static str)> {
    let mut concerns = Vec::new();
    let seconds = u64::try_from(subscription.ack_deadline_seconds).unwrap_or_default();
    let deadline = match seconds {
        0 => DEFAULT_ACK_DEADLINE,
        seconds => Duration::from_secs(seconds),
    };
    if deadline != config.server.ack_deadline {
        let told = format!(
            "its acknowledgement deadline is {}, and server.ack_deadline is {}",
            text(deadline),
            text(config.server.ack_deadline)
        );
        concerns.push((told, "Set both to the same."));
    }
    if let Some(policy) = &subscription.dead_letter_policy {
        let mut told = format!(
            "after {} attempts it forwards messages",
            policy.max_delivery_attempts
        );
        let _infallible = write!(told, " to {}, where they have new ids", policy.dead_letter_topic);
        concerns.push((
            told,
            "Leave the policy out, or its attempts many: what is forwarded and comes back lands as new.",
        ));
    }
    let expires = match &subscription.expiration_policy {
        Some(policy) => policy.ttl.map(duration),
        None => Some(Duration::from_secs(31 * 24 * 3600)),
    };
    if let Some(after) = expires {
        let told = format!("it is deleted when nobody asks it for {}", text(after));
        concerns.push((told, "Let it never expire."));
    }
    concerns
}

/// How long after its publication a message can be delivered: also by a seek.
fn retention(subscription: &Subscription) -> Duration {
    let own = subscription.message_retention_duration.map(duration);
    let topic = subscription.topic_message_retention_duration.map(duration);
    let own = own.filter(|own| !own.is_zero()).unwrap_or(DEFAULT_RETENTION);
    own.max(topic.unwrap_or_default())
}

/// One that is none counts as for ever, so that nothing passes by it.
fn duration(given: impl TryInto<Duration>) -> Duration {
    given.try_into().unwrap_or(Duration::MAX / 4)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::Outcome;
    use super::*;

    const NAME: &str = "projects/p/subscriptions/rows";

    fn config() -> Config {
        let text = "
warehouse: file:///lake/warehouse
catalog: { type: storage }
dead_letters: file:///lake/dead-letters
tables:
  t.rows: { from: [{ subscription: rows }] }
  t.some: { from: [{ attributes: { kind: some } }], ledger: { retention: 20d } }
routes:
  - { subscription: rows, table: 't.{subscription}' }
";
        Config::parse("landfast.yaml", text, &|_name| None).unwrap()
    }

    /// One that nothing is wrong with, but for what Pub/Sub says of it besides.
    fn told(more: Value) -> Subscription {
        let mut told = json!({
            "ackDeadlineSeconds": 60, "messageRetentionDuration": "604800s", "expirationPolicy": {},
        });
        for (member, value) in more.as_object().unwrap() {
            told[member] = value.clone();
        }
        serde_json::from_value(told).unwrap()
    }

    #[test]
    fn settings_are_judged_by_what_they_do_to_messages() {
        use Outcome::{Failed, Passed, Warned};
        let unwrapped =
            |metadata: bool| json!({ "pushConfig": { "noWrapper": { "writeMetadata": metadata } } });
        for (more, outcome, said) in [
            (json!({}), Passed, "keeps messages for 7d"),
            (
                json!({ "topicMessageRetentionDuration": "2678400s" }),
                Failed,
                "keeps messages for 31d, and t.rows remembers them for 8d",
            ),
            (json!({ "detached": true }), Failed, "detached"),
            (unwrapped(false), Failed, "answered 400"),
            (unwrapped(true), Passed, "7d"),
            (json!({ "ackDeadlineSeconds": 0 }), Warned, "deadline is 10s"),
            (
                json!({ "expirationPolicy": null }),
                Warned,
                "nobody asks it for 31d",
            ),
        ] {
            let found = judge(&config(), NAME, &told(more));
            let line = Line::new(WHAT, NAME.to_owned(), found, Duration::ZERO);
            assert_eq!(line.outcome, outcome, "{said}: {line:?}");
            assert!(line.told.contains(said), "{said}: {line:?}");
        }
    }
}
