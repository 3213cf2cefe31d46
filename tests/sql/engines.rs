//! One table written in turn by landfast, PyIceberg and Spark through one database.

use std::sync::Arc;

use landfast::catalog::{Catalog, Outcome};
use landfast::error::ErrorKind;
use libtest_mimic::Trial;

use super::{World, append, on_both, set_property};
use crate::support::readers::SqlEngine;
use crate::support::tables::{create, ids_now, orders};
use crate::support::{Component, TestResult, needs};

const TABLE: &str = "shop.orders";

pub fn tests() -> Vec<Trial> {
    on_both![
        pyiceberg_writes_our_table_in_turn,
        pyiceberg_made_table_is_written_in_turn,
        spark_writes_in_turn,
    ]
}

async fn pyiceberg_writes_our_table_in_turn(world: &World) -> TestResult {
    needs(Component::Python)?;
    let catalog = Arc::new(world.catalog().await?);
    create(catalog.as_ref(), &orders()).await?;
    in_turn(world, &catalog, &[SqlEngine::PyIceberg]).await
}

async fn pyiceberg_made_table_is_written_in_turn(world: &World) -> TestResult {
    needs(Component::Python)?;
    // PyIceberg makes the database's tables, too.
    SqlEngine::PyIceberg.create(&world.described(), TABLE)?;
    let catalog = Arc::new(world.catalog().await?);
    in_turn(world, &catalog, &[SqlEngine::PyIceberg]).await
}

async fn spark_writes_in_turn(world: &World) -> TestResult {
    needs(Component::Spark)?;
    needs(Component::Python)?;
    // Java makes the database's tables: of version 0, as it does by default.
    SqlEngine::Spark.create(&world.described(), TABLE)?;
    let catalog = Arc::new(world.catalog().await?);
    in_turn(world, &catalog, &[SqlEngine::Spark, SqlEngine::PyIceberg]).await?;

    let table = catalog.load_table(&orders()).await?;
    assert!(table.metadata().location().starts_with("file:/"));
    catalog.drop_table(&orders()).await?;
    assert!(SqlEngine::Spark.tables(&world.described(), "shop")?.is_empty());
    Ok(())
}

/// Each appends one row a turn; each sees every row; a commit from before another's turn is refused.
async fn in_turn(
    world: &World,
    catalog: &Arc<landfast::catalog::SqlCatalog>,
    engines: &[SqlEngine],
) -> TestResult {
    let described = world.described();
    let mut expected = Vec::new();
    for turn in 0..2 {
        let stale = catalog.load_table(&orders()).await?;
        for engine in engines {
            let id = i64::try_from(expected.len())?;
            engine.append(&described, TABLE, &[id])?;
            expected.push(id);
            let outcome = catalog.commit_table(&stale, set_property("turn", "stale")).await;
            assert!(matches!(outcome, Outcome::Conflict(_)), "{outcome:?}");
            let id = i64::try_from(expected.len())?;
            append(catalog, &[id]).await?;
            expected.push(id);
        }
        for engine in engines {
            assert_eq!(
                engine.ids(&described, TABLE)?,
                expected,
                "{engine:?}, turn {turn}"
            );
            assert_eq!(engine.tables(&described, "shop")?, ["orders"]);
        }
        assert_eq!(ids_now(catalog.as_ref(), &orders()).await?, expected);
    }
    let taken = create(catalog.as_ref(), &orders()).await.expect_err("it exists");
    assert!(format!("{taken:?}").contains("exists already"), "{taken:?}");
    let none = orders().namespace().clone();
    let none = iceberg::TableIdent::new(none, "none".to_owned());
    let missing = catalog.load_table(&none).await.expect_err("there is none");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    Ok(())
}
