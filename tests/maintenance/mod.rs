//! Maintenance: what goes, what stays whatever happens, and what `verify` finds.

mod commands;
mod deliveries;
mod flat;
mod schedule;
mod sql;
mod stores;
mod sweep;
mod verdicts;

use std::collections::BTreeMap;

use futures::TryStreamExt;
use landfast::maintenance::{Upkeep, maintain, verify};
use libtest_mimic::Trial;

use crate::commit::world::World;
use crate::support::TestResult;
use crate::support::tables::orders;

pub fn tests() -> Vec<Trial> {
    [
        sweep::tests(),
        flat::tests(),
        schedule::tests(),
        verdicts::tests(),
        deliveries::tests(),
        sql::tests(),
        stores::tests(),
        commands::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Every object of the store with its size and time.
async fn listing(world: &World) -> TestResult<BTreeMap<String, String>> {
    let mut objects = BTreeMap::new();
    for folder in ["shop", "_landfast"] {
        let listed: Vec<_> = world.store.objects(folder)?.try_collect().await?;
        for object in listed {
            let text = format!("{} {}", object.byte_count, object.modified);
            objects.insert(object.key, text);
        }
    }
    Ok(objects)
}

async fn upkeep(world: &World) -> TestResult<Upkeep> {
    Ok(maintain(&world.engine, &orders(), false).await?)
}

/// Asserts that `verify` finds nothing.
async fn is_proven(world: &World) -> TestResult {
    let verdict = verify(&world.engine, &orders()).await?;
    assert_eq!(verdict.findings, Vec::<String>::new());
    Ok(())
}
