//! Old snapshots on servers that let them go in their own way, or not at all: rows land whatever they say to that.

use std::sync::Arc;

use landfast::maintenance::maintain;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::{World, Writer, commits};
use crate::support::proxy::{Call, Seen, Trouble};
use crate::support::tables::{create, orders};
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        snapshots_go_one_in_each_update,
        rows_land_where_snapshots_may_not_go,
        rows_land_where_a_server_fails_on_snapshots,
        many_snapshots_go_with_more_than_one_commit,
    ]
}

/// The ids of each update that lets snapshots go.
fn let_go(request: &Value) -> Vec<usize> {
    let updates = request["updates"].as_array().into_iter().flatten();
    let removals = updates.filter(|update| update["action"] == "remove-snapshots");
    removals
        .map(|update| update["snapshot-ids"].as_array().map_or(0, Vec::len))
        .collect()
}

fn let_go_by(seen: &Seen) -> TestResult<Vec<usize>> {
    Ok(let_go(&serde_json::from_slice(&seen.body)?))
}

/// Sets how many snapshots the table keeps, whatever their age.
async fn keep(world: &World, count: usize) -> TestResult {
    let kept = json!({
        "history.expire.min-snapshots-to-keep": count.to_string(),
        "history.expire.max-snapshot-age-ms": "1",
    });
    let set = json!([{ "action": "set-properties", "updates": kept }]);
    world.proxy.commit("shop", "orders", set).await
}

/// A writer of a table with so many rows, each a commit of its own, that keeps one snapshot from now on.
async fn with_rows(world: &World, count: i64) -> TestResult<Writer> {
    let catalog = Arc::new(world.catalog().await?);
    create(catalog.as_ref(), &orders()).await?;
    keep(world, 1000).await?;
    let mut writer = Writer::of_existing(catalog.clone()).await?;
    for id in 0..count {
        writer.append(id).await?;
    }
    keep(world, 1).await?;
    Writer::of_existing(catalog).await
}

async fn snapshots_of(world: &World) -> TestResult<usize> {
    let truth = world.truth().await?;
    Ok(truth["metadata"]["snapshots"].as_array().map_or(0, Vec::len))
}

/// As Java's parser before 1.9 has it.
async fn snapshots_go_one_in_each_update() -> TestResult {
    let world = World::new().await?;
    let mut writer = with_rows(&world, 30).await?;
    let refuses = Trouble::Refuse(400, |request| let_go(request).iter().any(|ids| *ids != 1));
    world.proxy.always(Call::Commit, refuses);
    let before = commits(&world);
    writer.append(30).await?;
    assert_eq!(commits(&world), before + 1);
    let sent = world.proxy.seen(Call::Commit);
    assert!(let_go_by(&sent[before])?.len() >= 20);
    assert!(snapshots_of(&world).await? <= 3);
    assert_eq!(world.ids().await?, (0..=30).collect::<Vec<_>>());
    Ok(())
}

/// Some servers answer 500 to an update that they cannot read.
async fn rows_land_where_a_server_fails_on_snapshots() -> TestResult {
    let world = World::new().await?;
    let mut writer = with_rows(&world, 30).await?;
    let fails = Trouble::Refuse(500, |request| !let_go(request).is_empty());
    world.proxy.always(Call::Commit, fails);
    for id in 30..33 {
        let mut changes = writer.row(id).await?;
        let patience = Instant::now() + Duration::from_secs(60);
        writer
            .engine
            .commit(&mut writer.head, &mut changes, patience)
            .await?;
    }
    assert_eq!(world.ids().await?, (0..33).collect::<Vec<_>>());
    Ok(())
}

async fn rows_land_where_snapshots_may_not_go() -> TestResult {
    let world = World::new().await?;
    let mut writer = with_rows(&world, 30).await?;
    let refuses = Trouble::Refuse(400, |request| !let_go(request).is_empty());
    world.proxy.always(Call::Commit, refuses);
    let before = commits(&world);
    for id in 30..33 {
        writer.append(id).await?;
    }
    // One was sent once more, and the next did not ask again.
    let asked: Vec<bool> = (world.proxy.seen(Call::Commit).iter().skip(before))
        .map(|seen| let_go_by(seen).map(|ids| !ids.is_empty()))
        .collect::<TestResult<_>>()?;
    assert_eq!(asked, [true, false, false, false]);
    assert_eq!(world.ids().await?, (0..33).collect::<Vec<_>>());
    assert!(snapshots_of(&world).await? > 30);
    // What the rows do not need is asked for all the same by whoever wants just that.
    let error = maintain(&writer.engine, &orders(), false).await;
    let report = error.expect_err("the server refuses it").report();
    assert!(report.contains("status: 400"), "{report}");
    world.proxy.clear();
    maintain(&writer.engine, &orders(), false).await?;
    assert!(snapshots_of(&world).await? <= 2);
    Ok(())
}

async fn many_snapshots_go_with_more_than_one_commit() -> TestResult {
    let world = World::new().await?;
    let mut writer = with_rows(&world, 150).await?;
    let before = commits(&world);
    writer.append(150).await?;
    writer.append(151).await?;
    let sent = world.proxy.seen(Call::Commit);
    assert_eq!(let_go_by(&sent[before])?.len(), 100);
    assert!(let_go_by(&sent[before + 1])?.len() >= 50);
    assert_eq!(world.ids().await?, (0..152).collect::<Vec<_>>());
    Ok(())
}
