//! How long a table remembers its deliveries, as its configuration says, through the real server.

use chrono::{TimeDelta, Utc};
use libtest_mimic::Trial;
use serde_json::json;

use crate::support::lake::Lake;
use crate::support::push::Push;
use crate::support::server::Server;
use crate::support::{TestResult, trials};

const TABLES: &str = "tables:\n\
    \x20 t.short: { from: [{ subscription: short }], schema: [{ name: id, type: long }], ledger: { retention: 1d } }\n\
    \x20 t.usual: { from: [{ subscription: usual }], schema: [{ name: id, type: long }] }\n";

pub fn tests() -> Vec<Trial> {
    trials![
        message_older_than_the_configured_retention_is_a_letter,
        retention_of_defaults_holds_for_every_table,
    ]
}

/// Sends the newest message of a table, one of 23 hours before it, and one of two days before it.
async fn send(server: &Server, subscription: &str) {
    let newest = Utc::now();
    for (id, hours) in [(1, 0), (2, 23), (3, 48)] {
        let push = Push::json(subscription, id, &json!({ "id": id }));
        let push = push.published_at(newest - TimeDelta::hours(hours));
        assert_eq!(server.pusher().push(&push).await, 204);
    }
}

/// The one dead letter: its message, its reason and its table.
fn letter(lake: &Lake) -> TestResult<(String, String, String)> {
    let letters = lake.dead_letters()?;
    assert_eq!(letters.len(), 1, "{letters:?}");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let letter = &letters[0];
    Ok((
        text(&letter["delivery_id"]),
        text(&letter["reason"]["kind"]),
        text(&letter["table"]),
    ))
}

async fn message_older_than_the_configured_retention_is_a_letter() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::serve(&lake.config("", TABLES)?).await?;
    for subscription in ["short", "usual"] {
        send(&server, subscription).await;
    }
    assert_eq!(lake.ids("t.short", "id")?, ([1, 2].into(), 2));
    assert_eq!(lake.ids("t.usual", "id")?, ([1, 2, 3].into(), 3));
    let expected = [
        "projects/p-test/subscriptions/short/3",
        "too_old_to_prove",
        "t.short",
    ];
    assert_eq!(letter(&lake)?, expected.map(str::to_owned).into());
    Ok(())
}

async fn retention_of_defaults_holds_for_every_table() -> TestResult {
    let lake = Lake::new()?;
    let rest = "defaults: { ledger: { retention: 36h } }\n\
        tables: { t.rows: { from: [{ subscription: rows }], schema: [{ name: id, type: long }] } }";
    let server = Server::serve(&lake.config("", rest)?).await?;
    send(&server, "rows").await;
    assert_eq!(lake.ids("t.rows", "id")?, ([1, 2].into(), 2));
    assert_eq!(letter(&lake)?.1, "too_old_to_prove");
    Ok(())
}
