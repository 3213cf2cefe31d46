//! What a commit costs after a thousand others: metadata, its log, and the files beside it are bounded.

use chrono::TimeDelta;
use landfast::maintenance::verify;
use libtest_mimic::Trial;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{is_proven, upkeep};
use crate::commit::world::World;
use crate::support::tables::orders;
use crate::support::{TestResult, paused_trials};

/// The largest metadata file: some 240 snapshots of a kilobyte each.
const MAX_METADATA_BYTES: usize = 1 << 20;
/// Java's `write.metadata.previous-versions-max`.
const MAX_LOG: usize = 100;

pub fn tests() -> Vec<Trial> {
    paused_trials![
        metadata_stays_bounded_over_a_thousand_commits,
        metadata_log_is_as_long_as_the_table_says,
        verify_tells_what_a_commit_costs,
    ]
}

/// Of a metadata file, as the specification has it.
#[derive(Deserialize)]
struct MetadataFile {
    #[serde(rename = "metadata-log", default)]
    log: Vec<IgnoredAny>,
}

/// The newest metadata file: its bytes, and the length of its log.
async fn metadata_file(world: &World) -> TestResult<(usize, usize)> {
    let location = world.state().await?.ok_or("no metadata file")?;
    read_metadata(world, &location).await
}

async fn read_metadata(world: &World, location: &str) -> TestResult<(usize, usize)> {
    let bytes = world.store.get(world.store.key(location)?).await?;
    let bytes = bytes.ok_or("no such object")?;
    let file: MetadataFile = serde_json::from_slice(&bytes)?;
    Ok((bytes.len(), file.log.len()))
}

async fn metadata_stays_bounded_over_a_thousand_commits() -> TestResult {
    let (world, mut head) = World::aging().await?;
    let mut most = 0;
    for commit in 0..1000i64 {
        world.clock.advance(TimeDelta::minutes(9));
        let mut changes = world.changes(&head, &[commit]).await?;
        world.engine.attempt(&mut head, &mut changes).await?;
        let location = head.table().metadata_location().ok_or("no metadata file")?;
        let (bytes, log) = read_metadata(&world, location).await?;
        assert!(bytes < MAX_METADATA_BYTES, "{bytes} bytes at commit {commit}");
        assert!(log <= MAX_LOG, "{log} older states at commit {commit}");
        assert!(
            commit < 100 || log == MAX_LOG,
            "{log} older states at commit {commit}"
        );
        if commit % 160 == 159 {
            // Once a day.
            upkeep(&world).await?;
            head = world.fresh_head().await?;
            let keys = world.store.keys("shop/orders/metadata").await?;
            let states = keys.iter().filter(|key| key.ends_with(".metadata.json"));
            most = most.max(states.count());
        }
    }
    // A day's commits, and those of the day before the run.
    assert!(most <= 330, "{most} states");
    let snapshots = head.table().metadata().snapshots().count();
    assert!(snapshots <= 240, "{snapshots} snapshots");
    // Three days' heads and lists, of some 480 commits, and those of the kept snapshots.
    for folder in ["_landfast", "shop/orders/metadata"] {
        let keys = world.store.keys(folder).await?;
        let named = keys
            .iter()
            .filter(|key| key.contains("/head-") || key.contains("/snap-"));
        let count = named.count();
        assert!(count <= 900, "{count} in {folder}");
    }
    assert_eq!(world.ids().await?.len(), 1000);
    assert!(world.have_landed(&(0..1000).collect::<Vec<_>>()).await?);
    is_proven(&world).await
}

async fn metadata_log_is_as_long_as_the_table_says() -> TestResult {
    let (world, _head) = World::aging().await?;
    world
        .set_elsewhere("write.metadata.previous-versions-max", "5")
        .await?;
    let mut head = world.fresh_head().await?;
    for commit in 0..20i64 {
        let mut changes = world.changes(&head, &[commit]).await?;
        world.engine.attempt(&mut head, &mut changes).await?;
    }
    assert_eq!(metadata_file(&world).await?.1, 5);
    // What was set comes from the table, however it was loaded.
    world.commit_elsewhere(&[20]).await?;
    assert_eq!(metadata_file(&world).await?.1, 5);
    assert_eq!(head.table().metadata().metadata_log().len(), 5);
    is_proven(&world).await
}

async fn verify_tells_what_a_commit_costs() -> TestResult {
    let (world, _head) = World::aging().await?;
    let empty = verify(&world.engine, &orders()).await?.cost;
    let (bytes, log) = metadata_file(&world).await?;
    assert_eq!(empty.metadata_bytes, Some(u64::try_from(bytes)?));
    assert_eq!(
        (empty.metadata_log, empty.listed_manifests, empty.ledger_segments),
        (u64::try_from(log)?, 0, 0)
    );
    world.commit_elsewhere(&(0..1200).collect::<Vec<_>>()).await?;
    for commit in 2000..2010 {
        world.commit_elsewhere(&[commit]).await?;
    }
    let verdict = verify(&world.engine, &orders()).await?;
    let (bytes, log) = metadata_file(&world).await?;
    assert_eq!(verdict.cost.metadata_bytes, Some(u64::try_from(bytes)?));
    assert_eq!((verdict.cost.metadata_log, log), (11, 11));
    // The manifest of each commit, and what did not fit into the ledger's head.
    assert_eq!(
        (verdict.cost.listed_manifests, verdict.cost.ledger_segments),
        (11, 1)
    );
    Ok(())
}
