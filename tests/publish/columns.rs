//! Descriptions and policy tags that people set, and columns that change.
//!
//! The server forgets what people set when a patch says `schema: null`, which nobody says that BigQuery does not.

use hyper::Method;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::site::{SOON, Site, message, tagged};
use crate::support::bigquery::Sent;
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        columns_that_are_the_same_are_not_touched,
        what_people_set_survives_a_change_of_columns,
        columns_that_bigquery_does_not_take_cost_no_tag_and_no_row,
        columns_that_nobody_set_anything_on_are_read_anew,
        labels_and_descriptions_of_the_configuration_are_put_right,
    ]
}

/// Makes the external table, has a person change it, and lands another row. Gives the move and the table after it.
async fn moved_after(site: &Site, change: Value) -> TestResult<(Sent, Value)> {
    let server = site.serve().await?;
    assert_eq!(server.pusher().push(&message(0)).await, 204);
    site.caught_up().await?;
    site.front.set("orders", change).await?;
    assert_eq!(server.pusher().push(&message(1)).await, 204);
    site.caught_up().await?;
    assert_eq!(site.visible().await?, (0..2).collect());
    // What the server has done is told a moment later.
    let sent = wait_for("the move", SOON, async || {
        let mut moves: Vec<Sent> = site.front.changes();
        moves.retain(|sent| sent.method == Method::PATCH && sent.status == 200);
        moves.pop().filter(|_| moves.is_empty())
    })
    .await?;
    assert!(sent.if_match.is_some());
    Ok((sent, site.front.table("orders").await?))
}

async fn columns_that_are_the_same_are_not_touched() -> TestResult {
    let site = Site::new().await?;
    let set = json!([tagged("id", "INTEGER"), tagged("name", "STRING")]);
    let (sent, table) = moved_after(&site, json!({ "schema": { "fields": set } })).await?;
    assert_eq!((sent.query.as_str(), sent.body.get("schema")), ("", None));
    assert_eq!(table["schema"]["fields"], set);
    site.front.documented()
}

async fn what_people_set_survives_a_change_of_columns() -> TestResult {
    let site = Site::new().await?;
    let before = json!([tagged("id", "INTEGER")]);
    let (sent, table) = moved_after(&site, json!({ "schema": { "fields": before } })).await?;
    assert_eq!(sent.query, "");
    let after = json!([tagged("id", "INTEGER"), { "name": "name", "type": "STRING", "mode": "NULLABLE" }]);
    assert_eq!(sent.body["schema"]["fields"], after);
    assert_eq!(table["schema"]["fields"], after);
    site.front.documented()
}

async fn columns_that_bigquery_does_not_take_cost_no_tag_and_no_row() -> TestResult {
    let site = Site::new().await?;
    // The server removes no column.
    let set = json!([tagged("id", "INTEGER"), tagged("gone", "STRING")]);
    let (sent, table) = moved_after(&site, json!({ "schema": { "fields": set } })).await?;
    assert_eq!((sent.query.as_str(), sent.body.get("schema")), ("", None));
    assert_eq!(table["schema"]["fields"], set);
    let refused: Vec<Sent> = site
        .front
        .changes()
        .into_iter()
        .filter(|sent| sent.status == 400)
        .collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].body["schema"]["fields"][0], tagged("id", "INTEGER"));
    site.front.documented()
}

async fn columns_that_nobody_set_anything_on_are_read_anew() -> TestResult {
    let site = Site::new().await?;
    let before = json!([{ "name": "id", "type": "INTEGER" }]);
    let (sent, _) = moved_after(&site, json!({ "schema": { "fields": before } })).await?;
    assert_eq!(sent.query, "autodetect_schema=true");
    assert_eq!(sent.body.get("schema"), Some(&Value::Null));
    site.front.documented()
}

async fn labels_and_descriptions_of_the_configuration_are_put_right() -> TestResult {
    let site = Site::new().await?;
    site.configure("", "description: Landed, labels: { team: shop }")?;
    let change = json!({ "description": "Something else", "labels": { "team": "sales", "cost": "7" } });
    let (_, table) = moved_after(&site, change).await?;
    assert_eq!(table["description"], "Landed");
    assert_eq!(table["labels"]["team"], "shop");
    site.front.documented()
}
