//! BigQuery goes wrong: rows land all the same, and the pointer catches up.

use std::time::Duration;

use hyper::Method;
use libtest_mimic::Trial;
use serde_json::json;
use tokio::time::Instant;

use super::commands::behind;
use super::moves;
use super::site::{SOON, Site, message, version};
use crate::support::bigquery::Mishap;
use crate::support::front::{self as store, Front};
use crate::support::server::Server;
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        pointer_catches_up_after_refusals,
        pointer_catches_up_after_broken_connections,
        pointer_catches_up_after_a_request_that_hangs,
        table_that_another_made_first_is_followed,
        staleness_rises_while_bigquery_is_away_and_falls_after,
        missing_permission_is_named_and_costs_no_row,
        table_of_another_kind_is_left_alone,
        table_of_another_table_is_left_alone_until_it_is_handed_over,
        redelivery_after_a_kill_moves_the_pointer,
        commit_whose_answer_was_lost_is_visible,
    ]
}

/// A push must not wait for BigQuery: one with `cpu_idle` would for 5 s, where a request hangs.
const AT_ONCE: Duration = Duration::from_millis(4500);

async fn lands_at_once(server: &Server, id: i64) -> TestResult {
    let begun = Instant::now();
    assert_eq!(server.pusher().push(&message(id)).await, 204);
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    Ok(())
}

async fn catches_up_after(mishaps: &[(Method, Mishap, usize)]) -> TestResult {
    let site = Site::new().await?;
    let server = site.serve().await?;
    lands_at_once(&server, 0).await?;
    site.caught_up().await?;
    for (id, (method, mishap, times)) in (1..).zip(mishaps) {
        site.front.next(method.clone(), *mishap, *times);
        lands_at_once(&server, id).await?;
        site.caught_up().await?;
        site.front.heal();
    }
    let moves = moves(&site.front.changes());
    assert!(moves.is_sorted(), "{moves:?}");
    let count = i64::try_from(mishaps.len())?;
    assert_eq!(site.visible().await?, (0..=count).collect());
    Ok(())
}

async fn pointer_catches_up_after_refusals() -> TestResult {
    catches_up_after(&[
        (Method::PATCH, Mishap::Refuse(403, "rateLimitExceeded"), 2),
        (Method::GET, Mishap::Refuse(403, "quotaExceeded"), 1),
        (Method::PATCH, Mishap::Refuse(412, "conditionNotMet"), 2),
        (Method::PATCH, Mishap::Refuse(401, "authError"), 1),
        (Method::GET, Mishap::Refuse(401, "authError"), 1),
        (Method::PATCH, Mishap::Refuse(503, "backendError"), 2),
        (Method::GET, Mishap::Refuse(502, "backendError"), 1),
        (Method::PATCH, Mishap::Refuse(404, "notFound"), 1),
    ])
    .await
}

async fn pointer_catches_up_after_broken_connections() -> TestResult {
    catches_up_after(&[
        (Method::GET, Mishap::Cut, 2),
        (Method::PATCH, Mishap::Cut, 1),
        (Method::PATCH, Mishap::CutAfter, 1),
    ])
    .await
}

async fn pointer_catches_up_after_a_request_that_hangs() -> TestResult {
    catches_up_after(&[(Method::PATCH, Mishap::Hang, 1)]).await
}

async fn table_that_another_made_first_is_followed() -> TestResult {
    let site = Site::new().await?;
    let first = site.serve().await?;
    lands_at_once(&first, 0).await?;
    site.caught_up().await?;
    // The second process looked before the first made it.
    let second = site.serve().await?;
    site.front.next(Method::GET, Mishap::Refuse(404, "notFound"), 1);
    lands_at_once(&second, 1).await?;
    site.caught_up().await?;
    // What the server has done is told a moment later.
    wait_for("a creation that was too late, and a move", SOON, async || {
        let changes = site.front.changes();
        let statuses = changes.iter().map(|sent| sent.status);
        statuses.eq([404, 200, 200, 409, 200]).then_some(())
    })
    .await?;
    assert_eq!(site.visible().await?, (0..2).collect());
    Ok(())
}

async fn staleness_rises_while_bigquery_is_away_and_falls_after() -> TestResult {
    let site = Site::new().await?;
    let server = site.serve().await?;
    let staleness = async || server.metric("landfast_unpublished_seconds").await.ok();
    site.front.next(None, Mishap::Refuse(503, "backendError"), 1_000);
    lands_at_once(&server, 0).await?;
    for least in [1.0, 3.0, 5.0] {
        wait_for("the staleness to rise", SOON, async || {
            staleness().await.filter(|seconds| *seconds >= least)
        })
        .await?;
    }
    lands_at_once(&server, 1).await?;
    site.front.heal();
    site.caught_up().await?;
    wait_for("the staleness to fall", SOON, async || {
        staleness().await.filter(|seconds| *seconds == 0.0)
    })
    .await?;
    // The oldest message waited that long.
    assert!(server.metric("landfast_visible_seconds_sum").await? >= 5.0);
    let refused = "landfast_publishes_total{table=\"shop.orders\",outcome=\"unavailable\"}";
    assert!(server.metric(refused).await? >= 2.0);
    assert_eq!(site.visible().await?, (0..2).collect());
    Ok(())
}

async fn missing_permission_is_named_and_costs_no_row() -> TestResult {
    let site = Site::new().await?;
    let mut server = site.serve().await?;
    site.front
        .next(Method::POST, Mishap::Refuse(403, "accessDenied"), 1_000);
    for id in 0..5 {
        lands_at_once(&server, id).await?;
    }
    let needs = "bigquery.tables.create on the dataset and bigquery.connections.delegate on the connection";
    server.logged(&[needs, "accessDenied"]).await?;
    assert_eq!(server.log().matches(needs).count(), 1, "told once a minute");
    assert_eq!(site.front.changes().len(), 1, "and not asked for again at once");
    server.terminate()?;
    assert!(server.exited().await?.success());
    Ok(())
}

async fn table_of_another_kind_is_left_alone() -> TestResult {
    let site = Site::new().await?;
    let server = site.serve().await?;
    lands_at_once(&server, 0).await?;
    site.caught_up().await?;
    let csv = serde_json::json!({ "externalDataConfiguration": { "sourceFormat": "CSV", "sourceUris": ["gs://b/c.csv"] } });
    site.front.set("orders", csv).await?;
    lands_at_once(&server, 1).await?;
    server
        .logged(&["no external table of Iceberg has the name"])
        .await?;
    assert_eq!(site.uri().await?, "gs://b/c.csv");
    Ok(())
}

async fn table_of_another_table_is_left_alone_until_it_is_handed_over() -> TestResult {
    let site = Site::new().await?;
    let server = site.serve().await?;
    lands_at_once(&server, 0).await?;
    site.caught_up().await?;
    let theirs = "gs://lake/shop/clicks/metadata/v7.metadata.json";
    let source = json!({ "sourceFormat": "ICEBERG", "sourceUris": [theirs] });
    let change =
        json!({ "externalDataConfiguration": source, "description": "Theirs", "labels": { "team": "web" } });
    site.front.set("orders", change).await?;
    lands_at_once(&server, 1).await?;
    server.logged(&["reads the metadata of another table"]).await?;
    let refused = site.run(&["maintain", "--dry-run"])?;
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(site.uri().await?, theirs);
    let label = json!({ "labels": { "team": "web", "landfast_adopt": "yes" } });
    site.front.set("orders", label).await?;
    assert!(site.run(&["maintain"])?.status.success());
    assert_eq!(site.uri().await?, site.newest().await?);
    let table = site.front.table("orders").await?;
    assert_eq!(
        (&table["labels"], &table["description"]),
        (&json!({ "team": "web" }), &json!("Theirs"))
    );
    site.front.documented()
}

async fn redelivery_after_a_kill_moves_the_pointer() -> TestResult {
    let site = Site::new().await?;
    behind(&site).await?;
    let server = site.serve().await?;
    lands_at_once(&server, 1).await?;
    site.caught_up().await?;
    // Nobody is asked for what is known to be visible; the move's own answer may still be on its way.
    let asked = site.front.requests().len();
    let copies = vec![message(1); 100];
    let answers = server.pusher().push_all(&copies, 1).await;
    assert!(answers.iter().all(|status| *status == 204), "{answers:?}");
    assert!(site.front.requests().len() <= asked + 1);
    assert_eq!(site.visible().await?, (0..2).collect());
    Ok(())
}

async fn commit_whose_answer_was_lost_is_visible() -> TestResult {
    let mut site = Site::new().await?;
    let store = Front::before(site.bucket.endpoint()).await?;
    site.bucket = site.bucket.through(&store.url());
    let server = site.serve().await?;
    lands_at_once(&server, 0).await?;
    let next = version(&site.caught_up().await?) + 1;
    store.next(
        Method::PUT,
        &format!("v{next}.metadata.json"),
        store::Mishap::AnswerAfter(400),
        1,
    );
    lands_at_once(&server, 1).await?;
    let retries = "landfast_commit_retries_total{table=\"shop.orders\",kind=\"outcome_unknown\"}";
    server.metric_is(retries, 1.0).await?;
    site.caught_up().await?;
    assert_eq!(site.visible().await?, (0..2).collect());
    Ok(())
}
