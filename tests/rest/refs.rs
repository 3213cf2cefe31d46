//! Branches and tags, which no requirement of a commit names.

use std::sync::Arc;

use iceberg::TableUpdate;
use iceberg::spec::{SnapshotReference, SnapshotRetention};
use landfast::catalog::{Catalog, Outcome, TableCommit};
use libtest_mimic::Trial;

use super::{World, Writer};
use crate::support::tables::orders;
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![snapshot_that_was_tagged_meanwhile_is_kept]
}

async fn snapshot_that_was_tagged_meanwhile_is_kept() -> TestResult {
    let world = World::new().await?;
    let mut writer = Writer::new(Arc::new(world.catalog().await?)).await?;
    let other = world.catalog().await?;
    let keep_one = [
        ("history.expire.min-snapshots-to-keep", "1"),
        ("history.expire.max-snapshot-age-ms", "1"),
    ];
    let updates = keep_one.map(|(key, value)| (key.to_owned(), value.to_owned()));
    update(
        &other,
        TableUpdate::SetProperties {
            updates: updates.into(),
        },
    )
    .await?;
    let empty = writer.row(0).await?;
    writer.reload(&empty).await?;
    let snapshots = |writer: &Writer| -> Vec<i64> {
        let metadata = writer.head.table().metadata();
        let mut snapshots: Vec<_> = metadata.snapshots().collect();
        snapshots.sort_by_key(|snapshot| snapshot.sequence_number());
        snapshots.iter().map(|snapshot| snapshot.snapshot_id()).collect()
    };
    let mut id = 0;
    let mut before = Vec::new();
    // Until the next commit lets twenty go.
    while before.len() < 21 {
        id += 1;
        writer.append(id).await?;
        before = snapshots(&writer);
    }
    let tagged = before[3];
    let reference = SnapshotReference::new(tagged, SnapshotRetention::Tag { max_ref_age_ms: None });
    let ref_name = "audit".to_owned();
    update(&other, TableUpdate::SetSnapshotRef { ref_name, reference }).await?;
    for _ in 0..22 {
        id += 1;
        writer.append(id).await?;
    }
    let table = other.load_table(&orders()).await?;
    let metadata = table.metadata();
    assert!(metadata.snapshots().len() < 40, "none were let go");
    assert!(
        metadata.snapshot_by_id(before[2]).is_none(),
        "its neighbour stays"
    );
    assert!(
        metadata.snapshot_by_id(tagged).is_some(),
        "the tag's snapshot is gone"
    );
    assert_eq!(
        metadata
            .snapshot_for_ref("audit")
            .map(|snapshot| snapshot.snapshot_id()),
        Some(tagged)
    );
    Ok(())
}

/// Another client changes the table.
async fn update(catalog: &dyn Catalog, update: TableUpdate) -> TestResult {
    let base = catalog.load_table(&orders()).await?;
    let commit = TableCommit {
        requirements: Vec::new(),
        updates: vec![update],
    };
    match catalog.commit_table(&base, commit).await {
        Outcome::Committed(_) => Ok(()),
        outcome => Err(format!("{outcome:?}").into()),
    }
}
