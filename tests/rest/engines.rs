//! One table written in turn by landfast, PyIceberg and Spark through one server.

use std::sync::Arc;

use landfast::catalog::Catalog;
use landfast::error::ErrorKind;
use libtest_mimic::Trial;

use super::{World, Writer};
use crate::support::readers::SqlEngine;
use crate::support::tables::{create, orders};
use crate::support::{Component, TestResult, needs, trials};

const TABLE: &str = "shop.orders";

pub fn tests() -> Vec<Trial> {
    trials![
        pyiceberg_writes_our_table_in_turn,
        pyiceberg_made_table_is_written_in_turn,
        spark_writes_in_turn,
    ]
}

async fn pyiceberg_writes_our_table_in_turn() -> TestResult {
    needs(Component::Python)?;
    let world = World::new().await?;
    create(&world.catalog().await?, &orders()).await?;
    in_turn(&world, SqlEngine::PyIceberg).await
}

async fn pyiceberg_made_table_is_written_in_turn() -> TestResult {
    needs(Component::Python)?;
    let world = World::new().await?;
    SqlEngine::PyIceberg.create(&world.described(), TABLE)?;
    in_turn(&world, SqlEngine::PyIceberg).await
}

async fn spark_writes_in_turn() -> TestResult {
    needs(Component::Spark)?;
    let world = World::new().await?;
    SqlEngine::Spark.create(&world.described(), TABLE)?;
    in_turn(&world, SqlEngine::Spark).await?;
    world.catalog().await?.drop_table(&orders()).await?;
    assert!(SqlEngine::Spark.tables(&world.described(), "shop")?.is_empty());
    Ok(())
}

/// Each appends one row a turn; each sees every row; a commit from before the other's turn is refused.
async fn in_turn(world: &World, engine: SqlEngine) -> TestResult {
    let catalog = Arc::new(world.catalog().await?);
    let described = world.described();
    let mut expected = Vec::new();
    for turn in 0..2 {
        let mut writer = Writer::of_existing(catalog.clone()).await?;
        let id = i64::try_from(expected.len())?;
        engine.append(&described, TABLE, &[id])?;
        expected.push(id);
        let id = i64::try_from(expected.len())?;
        let mut changes = writer.row(id).await?;
        let error = writer.attempt(&mut changes).await.expect_err("it is stale");
        assert_eq!(error.kind(), ErrorKind::Conflict, "{}", error.report());
        writer.reload(&changes).await?;
        writer.attempt(&mut changes).await?;
        expected.push(id);
        assert_eq!(
            engine.ids(&described, TABLE)?,
            expected,
            "{engine:?}, turn {turn}"
        );
        assert_eq!(engine.tables(&described, "shop")?, ["orders"]);
        assert_eq!(world.ids().await?, expected);
    }
    Ok(())
}
