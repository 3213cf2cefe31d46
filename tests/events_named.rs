//! `dedupe_attribute`: of two messages whose publisher gave them one name, one lands, whatever their ids; and messages that a
//! dead-letter policy has forwarded are told.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use libtest_mimic::Trial;
use rand::Rng;
use rand::seq::SliceRandom;
use serde_json::json;

use crate::support::lake::Lake;
use crate::support::pubsub::PubSub;
use crate::support::push::Push;
use crate::support::seed::seeded;
use crate::support::server::{Server, run};
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        one_event_under_several_message_ids_lands_once,
        shuffled_copies_at_two_servers_land_once,
        pulled_copies_land_once,
        messages_without_their_attribute_are_known_by_their_ids,
        other_contents_under_a_name_are_letters,
        record_that_no_rule_took_is_one_letter_of_all_copies,
        forwarded_messages_are_told,
    ]
}

const RULES: &str = "sources: { orders: { subscriptions: [rows, dead], dedupe_attribute: event_id } }\ntables: { t.rows: { from: \
    [{ subscription: rows }, { subscription: dead }], schema: [{ name: id, type: long }], batch: { commit_interval: 0s } } }";

/// A message of an event.
fn named(message: impl ToString, event: i64) -> Push {
    Push::json("rows", message, &json!({ "id": event })).attribute("event_id", &event.to_string())
}

async fn one_event_under_several_message_ids_lands_once() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", RULES)?;
    let hours = |hours| Utc::now() - TimeDelta::hours(hours);
    for attempt in 0..2 {
        let server = Server::serve(&config).await?;
        // Of other times and another subscription, as a policy forwards it.
        let forwarded =
            Push::json("dead", format!("c{attempt}"), &json!({ "id": 1 })).attribute("event_id", "1");
        for push in [
            named(format!("a{attempt}"), 1).published_at(hours(150)),
            named(format!("b{attempt}"), 1).published_at(hours(0)),
            forwarded.published_at(hours(1)),
            named(format!("e{attempt}"), 2),
        ] {
            assert_eq!(server.pusher().push(&push).await, 204);
        }
        // A record that does not fit is a letter once, too.
        for message in 0..2 {
            let bad = Push::new("rows", format!("f{attempt}{message}"), "{\"id\":\"x\"}")
                .attribute("event_id", "bad");
            assert_eq!(server.pusher().push(&bad).await, 204);
        }
    }
    assert_eq!(lake.ids("t.rows", "id")?, ([1, 2].into(), 2));
    assert_eq!(lake.dead_letters()?.len(), 1);
    Ok(())
}

/// The name says that it is the same event, the bytes say that it is not: nothing of it lands, and nothing is lost.
async fn other_contents_under_a_name_are_letters() -> TestResult {
    let lake = Lake::new()?;
    let by_record = "sources: { orders: { subscriptions: [rows, split], dedupe_attribute: event_id } }\ntables:\n  \
        t.odd: { from: [{ subscription: split, field: kind, equals: odd }], schema: [{ name: id, type: long }] }\n  \
        t.rows: { from: [{ subscription: rows }, { subscription: split, field: kind, equals: even }], schema: [{ name: id, type: long }], \
        batch: { commit_interval: 0s } }\n";
    let config = lake.config("", by_record)?;
    let of = |subscription: &str, message: &str, event: &str, data: &str| {
        Push::new(subscription, message, data).attribute("event_id", event)
    };
    let both = |id: i64| {
        format!(
            "{{\"kind\":\"odd\",\"id\":{id}}}\n{{\"kind\":\"even\",\"id\":{}}}",
            id + 1
        )
    };
    let (first, other) = (both(11), both(21));
    let hours = |hours| Utc::now() - TimeDelta::hours(hours);
    let alone = [
        of("rows", "a", "1", "{\"id\":1}"),
        of("rows", "b", "1", "{\"id\":2}"),
        // The same at another time, under another id.
        of("rows", "c", "1", "{\"id\":2}").published_at(hours(30)),
        of("split", "d", "2", &first),
    ];
    let divided = [
        of("split", "e", "2", &other),
        of("split", "f", "2", &other).published_at(hours(20)),
    ];
    // The second process asks both tables before it divides anything.
    for pushes in [&alone[..], &divided] {
        let server = Server::serve(&config).await?;
        for push in pushes {
            assert_eq!(server.pusher().push(push).await, 204);
        }
        server
            .logged(&["Records are dead-lettered.", "other_content"])
            .await?;
    }
    assert_eq!(lake.ids("t.rows", "id")?, ([1, 12].into(), 2));
    assert_eq!(lake.ids("t.odd", "id")?, ([11].into(), 1));
    let letters = lake.dead_letters()?;
    let raw = |letter: &serde_json::Value| letter["raw"].as_str().map(str::to_owned);
    assert!(
        letters
            .iter()
            .all(|letter| letter["reason"]["kind"] == "other_content")
    );
    let kept: BTreeSet<_> = letters.iter().filter_map(raw).collect();
    assert_eq!(kept, [base64("{\"id\":2}"), base64(&other)].into());
    assert_eq!(letters.len(), 2, "one each, however often they come: {letters:?}");
    // Under the name it stays; once that is forgotten it is another event.
    let file = config.display().to_string();
    assert_eq!(run(["replay", "--config", &file])?.0, Some(3));
    let forget = [
        "ledger",
        "forget",
        "--table",
        "t.rows",
        "--delivery",
        "orders#event_id/1",
        "--yes",
        "--config",
        &file,
    ];
    assert_eq!(run(forget)?.0, Some(0));
    assert_eq!(
        run(["replay", "--table", "t.rows", "--config", &file])?.0,
        Some(0)
    );
    assert_eq!(lake.ids("t.rows", "id")?, ([1, 2, 12].into(), 3));
    Ok(())
}

async fn record_that_no_rule_took_is_one_letter_of_all_copies() -> TestResult {
    let lake = Lake::new()?;
    let rules = "sources: { orders: { subscriptions: [rows], dedupe_attribute: event_id } }\ntables: { t.rows: { from: \
                 [{ subscription: rows, field: kind, equals: even }], schema: [{ name: id, type: long }], batch: { commit_interval: 0s } } }";
    let server = Server::serve(&lake.config("", rules)?).await?;
    for hours in 0..3 {
        let data = "{\"kind\":\"even\",\"id\":2}\n{\"kind\":\"odd\",\"id\":3}";
        let push = Push::new("rows", hours, data).attribute("event_id", "1");
        let push = push.published_at(Utc::now() - TimeDelta::hours(hours));
        assert_eq!(server.pusher().push(&push).await, 204);
    }
    let letters = lake.dead_letters()?;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0]["position"], 1);
    Ok(())
}

async fn shuffled_copies_at_two_servers_land_once() -> TestResult {
    let mut rng = seeded();
    let lake = Lake::new()?;
    let config = lake.config("", RULES)?;
    let servers = [Server::serve(&config).await?, Server::serve(&config).await?];
    let mut pushes: Vec<Push> = (0..400_i64)
        .map(|message| {
            let at = Utc::now() - TimeDelta::seconds(rng.random_range(0..500_000));
            named(message, message % 80).published_at(at)
        })
        .collect();
    pushes.shuffle(&mut rng);
    let mut open = pushes;
    // As Pub/Sub does, until each is acknowledged: two servers conflict now and then.
    for _ in 0..20 {
        let (left, right) = open.split_at(open.len() / 2);
        let (first, second) = (servers[0].pusher(), servers[1].pusher());
        let (first, second) = tokio::join!(first.push_all(left, 50), second.push_all(right, 50));
        let statuses = first.into_iter().chain(second);
        open = open
            .iter()
            .zip(statuses)
            .filter(|(_, status)| *status != 204)
            .map(|(push, _)| push.clone())
            .collect();
    }
    assert!(open.is_empty(), "{} are open", open.len());
    assert_eq!(lake.ids("t.rows", "id")?, ((0..80).collect(), 80));
    Ok(())
}

async fn pulled_copies_land_once() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    for queue in ["rows", "dead"] {
        pubsub.queue(queue).await?;
    }
    let messages = |events: std::ops::Range<i64>| {
        events.map(|event| {
            let data = base64(&json!({ "id": event }).to_string());
            json!({ "data": data, "attributes": { "event_id": event.to_string() } })
        })
    };
    pubsub.send("rows", messages(0..60).collect()).await?;
    pubsub.send("rows", messages(30..60).collect()).await?;
    pubsub.send("dead", messages(0..40).collect()).await?;
    let file = lake.config("", RULES)?;
    let worker = pubsub.worker(&file).await?;
    wait_for("all of them", Duration::from_secs(300), async || {
        (worker.metric("landfast_deliveries_total").await.ok()? >= 130.0).then_some(())
    })
    .await?;
    // The same events by push.
    let server = Server::serve(&file).await?;
    let pushes: Vec<Push> = (0..60)
        .map(|event| named(format!("push-{event}"), event))
        .collect();
    assert_eq!(server.pusher().push_all(&pushes, 30).await, [204; 60]);
    assert_eq!(lake.ids("t.rows", "id")?, ((0..60).collect(), 60));
    Ok(())
}

async fn messages_without_their_attribute_are_known_by_their_ids() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::serve(&lake.config("", RULES)?).await?;
    let plain = |message: i64| Push::json("rows", message, &json!({ "id": message }));
    let push = |subscription: &str, id: i64| Push::json(subscription, 7, &json!({ "id": id }));
    let at = Utc::now();
    let pushes = [
        plain(1),
        plain(1),
        plain(2).attribute("event_id", ""),
        // A message id is that of its source's topic, and a forwarded one's of another.
        push("rows", 3).published_at(at),
        push("dead", 4)
            .published_at(at)
            .attribute("CloudPubSubDeadLetterSourceSubscription", "rows"),
    ];
    for copy in &pushes {
        assert_eq!(server.pusher().push(copy).await, 204);
    }
    // An event's name is no message's id.
    assert_eq!(server.pusher().push(&named(8, 1)).await, 204);
    let rows = lake.rows("t.rows", "id")?;
    let ids: Vec<i64> = rows.iter().filter_map(|row| row["id"].as_i64()).collect();
    assert_eq!(ids, [1, 1, 2, 3, 4]);
    server
        .metric_is("landfast_no_dedupe_attribute_total", 5.0)
        .await?;
    server.logged(&["lack the dedupe_attribute", "event_id"]).await?;
    Ok(())
}

async fn forwarded_messages_are_told() -> TestResult {
    let lake = Lake::new()?;
    let rules = "tables: { t.rows: { from: [{ subscription: dead, attributes: { CloudPubSubDeadLetterSourceSubscription: rows } }], \
                 schema: [{ name: id, type: long }] } }";
    let server = Server::serve(&lake.config("", rules)?).await?;
    let forwarded = |id: i64, from: &str| {
        Push::json("dead", id, &json!({ "id": id }))
            .attribute("CloudPubSubDeadLetterSourceDeliveryCount", "5")
            .attribute("CloudPubSubDeadLetterSourceSubscription", from)
            .attribute("CloudPubSubDeadLetterSourceSubscriptionProject", "p-test")
            .attribute(
                "CloudPubSubDeadLetterSourceTopicPublishTime",
                "2026-11-01T02:03:04.567+00:00",
            )
    };
    for push in [forwarded(1, "rows"), forwarded(2, "rows"), forwarded(3, "others")] {
        assert_eq!(server.pusher().push(&push).await, 204);
    }
    server.metric_is("landfast_forwarded_messages_total", 3.0).await?;
    server
        .logged(&["has forwarded messages", "dedupe_attribute", "rows"])
        .await?;
    assert_eq!(server.log().matches("has forwarded messages").count(), 1);
    // Each by the subscription that it was first for.
    assert_eq!(lake.ids("t.rows", "id")?, (BTreeSet::from([1, 2]), 2));
    assert_eq!(lake.dead_letters()?.len(), 1);
    Ok(())
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
