//! A table is dropped, made anew or changed under a running server: what does not fit stops that table, by name, and no
//! other.

use libtest_mimic::Trial;
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;

use super::world::{Kind, Shop, TABLE, World};
use crate::support::readers::SqlEngine::PyIceberg;
use crate::support::{Component, TestResult, needs, test, trials};

pub fn tests() -> Vec<Trial> {
    let mut trials = trials![view_has_the_tables_name];
    for kind in [Kind::Postgres, Kind::Rest] {
        trials.extend([
            test(
                &format!("{}::dropped_table_is_made_anew::{kind:?}", module_path!()),
                move || dropped_table_is_made_anew(kind),
            ),
            test(
                &format!(
                    "{}::table_of_another_schema_takes_the_name::{kind:?}",
                    module_path!()
                ),
                move || table_of_another_schema_takes_the_name(kind),
            ),
            test(
                &format!("{}::column_becomes_required::{kind:?}", module_path!()),
                move || column_becomes_required(kind),
            ),
        ]);
    }
    trials
}

async fn dropped_table_is_made_anew(kind: Kind) -> TestResult {
    needs(Component::Python)?;
    let world = World::new(kind).await?;
    let mut shop = Shop::open(&world).await?;
    shop.land(3).await?;
    PyIceberg.drop(&world.described, TABLE)?;
    shop.is_refused(&["There is no such table", TABLE]).await?;
    // Its rows went with it, and so did its memory of them: what is sent again lands again.
    shop.dropped();
    shop.recovers().await?;

    // Another of the same schema, by somebody else.
    PyIceberg.drop(&world.described, TABLE)?;
    PyIceberg.create(&world.described, TABLE)?;
    shop.is_refused(&["another table has its name", "send them again"])
        .await?;
    shop.dropped();
    shop.recovers().await
}

async fn table_of_another_schema_takes_the_name(kind: Kind) -> TestResult {
    needs(Component::Python)?;
    let world = World::new(kind).await?;
    let mut shop = Shop::open(&world).await?;
    shop.land(3).await?;
    PyIceberg.drop(&world.described, TABLE)?;
    PyIceberg.create_other(&world.described, TABLE)?;
    shop.is_refused(&["another table has its name", TABLE]).await?;
    // From now on it is known not to fit.
    let words = [
        "column `id` is long in the configuration and string in the table",
        "Change `schema`",
        TABLE,
    ];
    shop.is_refused(&words).await?;
    let (status, text) = shop.row(1).await?;
    assert_eq!(status, 500, "{text}");
    assert!(
        text.contains("table_mismatch") && text.contains("column `id`"),
        "{text}"
    );

    // As it says: the table is changed.
    PyIceberg.drop(&world.described, TABLE)?;
    PyIceberg.create(&world.described, TABLE)?;
    shop.dropped();
    shop.recovers().await
}

async fn column_becomes_required(kind: Kind) -> TestResult {
    needs(Component::Python)?;
    let world = World::new(kind).await?;
    let mut shop = Shop::open(&world).await?;
    shop.land(3).await?;
    PyIceberg.change_column(&world.described, TABLE, "name", true)?;
    // Rows sent directly: their sender is told to come again, since the table may fit then.
    let (status, text) = shop.row(100).await?;
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("send them again"), "{text}");
    let words = [
        "a column became required",
        "`name` is optional in the configuration and required in the table",
    ];
    shop.is_refused(&words).await?;
    let (status, text) = shop.row(100).await?;
    assert_eq!(status, 500, "{text}");
    PyIceberg.change_column(&world.described, TABLE, "name", false)?;
    shop.recovers().await?;
    let (status, text) = shop.row(100).await?;
    assert_eq!(status, 200, "{text}");
    shop.ids.insert(100);
    assert_eq!(world.ids(TABLE)?, shop.expected());
    Ok(())
}

async fn view_has_the_tables_name() -> TestResult {
    needs(Component::Python)?;
    let world = World::new(Kind::Sqlite).await?;
    let mut shop = Shop::open(&world).await?;
    let uri = format!("sqlite://{}/catalog.db", world.folder.path().display());
    let mut database = SqliteConnection::connect(&uri).await?;
    // As Java's catalog writes down a view.
    let view =
        "INSERT INTO iceberg_tables VALUES ('landfast', 'shop', 'orders', 'file:///view.json', NULL, 'VIEW')";
    sqlx::query(view).execute(&mut database).await?;
    let words = ["no table, a view perhaps, has the table's name", TABLE];
    shop.is_refused(&words).await?;
    let (status, text) = shop.row(1).await?;
    assert_eq!(status, 500, "{text}");
    let renamed = "UPDATE iceberg_tables SET table_name = 'of_orders' WHERE iceberg_type = 'VIEW'";
    sqlx::query(renamed).execute(&mut database).await?;
    shop.recovers().await
}
