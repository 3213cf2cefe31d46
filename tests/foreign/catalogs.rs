//! The catalog goes away, or lets nobody in, under a running server: time is lost, and no row.

use std::fs;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::{Value, json};
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;

use super::world::{Kind, Shop, TABLE, World};
use crate::support::postgres::Postgres;
use crate::support::proxy::{Call, Trouble};
use crate::support::server::Server;
use crate::support::{Component, TestResult, needs, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        killed_database,
        database_file_that_is_moved_away,
        database_file_that_another_process_locks,
        server_that_fails_or_lets_nobody_in,
        server_that_lets_no_snapshot_go,
    ]
}

/// A new delivery is refused while the catalog is away, in time, and the log names the table and the words.
async fn is_away(shop: &mut Shop<'_>, words: &[&str]) -> TestResult {
    let (id, push) = shop.next();
    let begun = std::time::Instant::now();
    assert_eq!(shop.server.pusher().push(&push).await, 503, "delivery {id}");
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "later than its deadline"
    );
    shop.server.logged(&[TABLE]).await?;
    shop.server.logged(words).await?;
    assert!(!shop.server.log().contains("s3cret"));
    Ok(())
}

async fn killed_database() -> TestResult {
    needs(Component::Python)?;
    let (database, uri) = Postgres::start()?;
    let world = World::on(Kind::Postgres, &uri)?;
    let mut shop = Shop::open(&world).await?;
    shop.land(3).await?;
    database.kill()?;
    is_away(&mut shop, &["A batch was given up", "The database"]).await?;
    database.restart()?;
    shop.recovers().await?;
    shop.others_land().await
}

async fn database_file_that_is_moved_away() -> TestResult {
    needs(Component::Python)?;
    let world = World::new(Kind::Sqlite).await?;
    let mut shop = Shop::open(&world).await?;
    shop.land(3).await?;
    let file = world.folder.path().join("catalog.db");
    let moved = world.folder.path().join("moved.db");
    fs::rename(&file, &moved)?;
    // The open file is still there to write to, and nobody would ever see it.
    is_away(&mut shop, &["attempt to write a readonly database"]).await?;
    fs::rename(&moved, &file)?;
    shop.recovers().await
}

async fn database_file_that_another_process_locks() -> TestResult {
    needs(Component::Python)?;
    let world = World::new(Kind::Sqlite).await?;
    let mut shop = Shop::open(&world).await?;
    shop.land(3).await?;
    let uri = format!("sqlite://{}/catalog.db", world.folder.path().display());
    let mut other = SqliteConnection::connect(&uri).await?;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await?;
    is_away(&mut shop, &["did not get through before its deadline"]).await?;
    sqlx::query("ROLLBACK").execute(&mut other).await?;
    shop.recovers().await?;
    // A reader that never ends, as Java's catalog leaves one behind, lets nobody commit either.
    sqlx::query("BEGIN").execute(&mut other).await?;
    sqlx::query("SELECT * FROM iceberg_tables")
        .fetch_all(&mut other)
        .await?;
    is_away(&mut shop, &["database is locked"]).await?;
    sqlx::query("ROLLBACK").execute(&mut other).await?;
    shop.recovers().await
}

async fn server_that_fails_or_lets_nobody_in() -> TestResult {
    needs(Component::Python)?;
    let world = World::new(Kind::Rest).await?;
    let proxy = world.proxy.as_ref().ok_or("a proxy")?;
    let mut shop = Shop::open(&world).await?;
    shop.land(3).await?;
    for (trouble, word) in [
        (Trouble::Answer(503), "status: 503"),
        (Trouble::Answer(401), "see `catalog.auth`"),
        (Trouble::Answer(403), "status: 403"),
    ] {
        for call in [Call::Commit, Call::Load] {
            proxy.always(call, trouble.clone());
        }
        is_away(&mut shop, &[word]).await?;
        proxy.clear();
        shop.recovers().await?;
    }
    // It is there again after a restart with all that it should know.
    shop.server = Server::serve(&world.config()?).await?;
    shop.send_again().await
}

async fn server_that_lets_no_snapshot_go() -> TestResult {
    needs(Component::Python)?;
    let world = World::new(Kind::Rest).await?;
    let proxy = world.proxy.as_ref().ok_or("a proxy")?;
    let mut shop = Shop::open(&world).await?;
    shop.land(1).await?;
    let kept =
        json!({ "history.expire.min-snapshots-to-keep": "1", "history.expire.max-snapshot-age-ms": "1" });
    let set = json!([{ "action": "set-properties", "updates": kept }]);
    proxy.commit("shop", "orders", set).await?;
    let lets_go = |request: &Value| {
        let mut updates = request["updates"].as_array().into_iter().flatten();
        updates.any(|update| update["action"] == "remove-snapshots")
    };
    proxy.always(Call::Commit, Trouble::Refuse(400, lets_go));
    shop.land(30).await?;
    let said = "refuses to let old snapshots go";
    shop.server.logged(&[said, TABLE]).await?;
    assert_eq!(shop.server.log().matches(said).count(), 1);
    proxy.clear();
    shop.recovers().await
}
