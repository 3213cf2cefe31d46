//! What the page tells of BigQuery.

use std::sync::Arc;

use hyper::Method;
use iceberg::TableIdent;
use landfast::catalog::{Catalog, StorageCatalog};
use landfast::clock::SystemClock;
use libtest_mimic::Trial;
use serde_json::json;

use super::{get, table, told};
use crate::publish::site::{SOON, Site, message};
use crate::support::bigquery::Mishap;
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        page_tells_whether_bigquery_shows_the_newest_commit,
        table_that_is_gone_is_not_told_to_be_current,
    ]
}

async fn page_tells_whether_bigquery_shows_the_newest_commit() -> TestResult {
    let site = Site::new().await?;
    let server = site.serve().await?;
    let publish =
        async || -> TestResult<_> { Ok(table(&told(&server).await?, "shop.orders")["publish"].clone()) };
    assert_eq!(publish().await?["state"], "waiting");
    let (_, _, html) = get(&server, "/").await?;
    assert!(html.contains("no commit yet"), "{html}");
    assert_eq!(server.pusher().push(&message(1)).await, 204);
    site.caught_up().await?;
    let current = async |last: &str| {
        wait_for("the page to tell that it is current", SOON, async || {
            let told = publish().await.ok()?;
            (told["state"] == "current").then_some(told)
        })
        .await
        .inspect(|told| assert_eq!(told["last"], last, "{told}"))
    };
    let told_now = current("created").await?;
    let external = format!("p-test.{}.orders", site.front.dataset());
    assert_eq!(
        (&told_now["external_table"], &told_now["failed"]),
        (&json!(external), &json!(null))
    );

    site.front
        .next(Method::PATCH, Mishap::Refuse(403, "accessDenied"), 100);
    assert_eq!(server.pusher().push(&message(2)).await, 204);
    let refused = wait_for("the page to tell of the refusal", SOON, async || {
        let told = publish().await.ok()?;
        (!told["failed"].is_null()).then_some(told)
    })
    .await?;
    assert_eq!(
        (&refused["state"], &refused["failed"]),
        (&json!("behind"), &json!("forbidden"))
    );
    assert!(
        refused["behind_seconds"]
            .as_f64()
            .is_some_and(|behind| behind > 0.0),
        "{refused}"
    );
    // A minute has not passed: the table itself is as it was.
    let all = told(&server).await?;
    assert_eq!(
        (&table(&all, "shop.orders")["state"], &all["totals"]["behind"]),
        (&json!("open"), &json!(0))
    );
    let (_, _, html) = get(&server, "/").await?;
    assert!(
        html.contains("behind ") && html.contains("<small>forbidden</small>"),
        "{html}"
    );
    Ok(())
}

async fn table_that_is_gone_is_not_told_to_be_current() -> TestResult {
    let site = Site::new().await?;
    let server = site.serve().await?;
    let publish =
        async || -> TestResult<_> { Ok(table(&told(&server).await?, "shop.orders")["publish"].clone()) };
    site.front
        .next(Method::POST, Mishap::Refuse(503, "backendError"), 1_000);
    assert_eq!(server.pusher().push(&message(1)).await, 204);
    wait_for("the page to tell that BigQuery is away", SOON, async || {
        (publish().await.ok()?["failed"] == "unavailable").then_some(())
    })
    .await?;
    let catalog = StorageCatalog::new(site.bucket.store("warehouse")?, Arc::new(SystemClock));
    let ident = TableIdent::from_strs(["shop", "orders"])?;
    catalog.drop_table(&ident).await?;
    let gone = wait_for("the page to tell that nothing waits", SOON, async || {
        let told = publish().await.ok()?;
        (told["state"] != "behind").then_some(told)
    })
    .await?;
    assert_eq!(
        (&gone["state"], &gone["last"], &gone["failed"]),
        (&json!("no_table"), &json!("no_table"), &json!(null))
    );
    let (_, _, html) = get(&server, "/").await?;
    assert!(
        html.contains("no such table in the catalog</span><small>no_table</small>"),
        "{html}"
    );
    // It is made anew for the deliveries after that, and shown.
    site.front.heal();
    wait_for("the table to take rows again", SOON, async || {
        (server.pusher().push(&message(2)).await == 204).then_some(())
    })
    .await?;
    wait_for("the page to tell that it is current", SOON, async || {
        (publish().await.ok()?["state"] == "current").then_some(())
    })
    .await
}
