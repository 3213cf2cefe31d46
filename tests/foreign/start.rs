//! What `serve` says when it cannot start: one sentence that names the thing, and no secret.

use std::fs;

use libtest_mimic::Trial;
use sqlx::Executor;

use super::world::{Kind, Shop, World};
use crate::support::postgres::{Postgres, connect};
use crate::support::proxy::{Call, Identity, Trouble};
use crate::support::server::run;
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        database_that_is_gone_or_does_not_let_us_in,
        file_that_is_no_database,
        server_that_is_gone_or_does_not_let_us_in,
        warehouse_that_is_not_where_the_tables_are,
    ]
}

/// Starts it; it must end with the status and say all of the words, in one line.
async fn ends(world: &World, warehouse: &str, catalog: &str, status: i32, words: &[&str]) -> TestResult {
    let config = world.config_of(warehouse, catalog)?.display().to_string();
    let ended = tokio::task::spawn_blocking(move || run(["serve", "--config", &config])).await?;
    let (code, _, stderr) = ended?;
    assert_eq!(code, Some(status), "{catalog}: {stderr}");
    let said: Vec<&str> = stderr
        .lines()
        .filter(|line| !line.contains("push_auth is off"))
        .collect();
    let [line] = said.as_slice() else {
        return Err(format!("more than a sentence: {stderr}").into());
    };
    for word in words {
        assert!(line.contains(word), "`{word}` is not in: {line}");
    }
    assert!(!line.contains("s3cret"), "{line}");
    Ok(())
}

async fn database_that_is_gone_or_does_not_let_us_in() -> TestResult {
    let world = World::new(Kind::Sqlite).await?;
    let (server, uri) = Postgres::start()?;
    let mut admin = connect(&uri).await?;
    admin
        .execute("CREATE ROLE lander LOGIN PASSWORD 's3cret'")
        .await?;
    admin
        .execute(
            "COPY (SELECT 'host all postgres 127.0.0.1/32 trust' UNION ALL \
             SELECT 'host all all 127.0.0.1/32 scram-sha-256') TO PROGRAM 'cat > \"$PGDATA\"/pg_hba.conf'",
        )
        .await?;
    admin.execute("SELECT pg_reload_conf()").await?;
    let at = uri.split('@').nth(1).ok_or("an address")?;
    let catalog = |user: &str, at: &str| format!("{{ type: sql, uri: \"postgresql://{user}@{at}\" }}");
    let ends = async |catalog: &str, words: &[&str]| ends(&world, &world.warehouse, catalog, 1, words).await;

    let words = ["password authentication failed", "lander", "catalog.uri", at];
    ends(&catalog("lander:wrong-s3cret", at), &words).await?;
    ends(
        &catalog("postgres", &at.replace("/postgres", "/none")),
        &["\"none\" does not exist", "catalog.uri"],
    )
    .await?;
    ends(&catalog("lander:s3cret", at), &["permission denied", "iceberg"]).await?;
    drop(admin);
    drop(server);
    ends(
        &catalog("lander:s3cret", at),
        &["gave no connection", at, "catalog.uri"],
    )
    .await
}

async fn file_that_is_no_database() -> TestResult {
    let world = World::new(Kind::Sqlite).await?;
    let folder = world.folder.path();
    fs::write(
        folder.join("text.db"),
        "this is no database, but it is long enough to be taken for one".repeat(20),
    )?;
    fs::create_dir(folder.join("folder.db"))?;
    for (file, word) in [
        ("text.db", "file is not a database"),
        ("folder.db", "unable to open database file"),
        ("none/catalog.db", "unable to open database file"),
    ] {
        let path = folder.join(file).display().to_string();
        let catalog = format!("{{ type: sql, uri: \"sqlite://{path}\" }}");
        ends(&world, &world.warehouse, &catalog, 1, &[word, &path]).await?;
    }
    Ok(())
}

async fn server_that_is_gone_or_does_not_let_us_in() -> TestResult {
    let world = World::new(Kind::Rest).await?;
    let proxy = world.proxy.as_ref().ok_or("a proxy")?;
    let catalog = |more: &str| format!("{{ type: rest, uri: \"{}\"{more} }}", proxy.url());
    let ends = async |catalog: &str, words: &[&str]| ends(&world, &world.warehouse, catalog, 1, words).await;

    proxy.ask(Identity::Bearer("right-s3cret"));
    let wrong = catalog(", auth: { type: bearer, token: wrong-s3cret }");
    ends(&wrong, &["status: 401", "catalog.auth", &proxy.url()]).await?;
    proxy.ask(Identity::Anyone);
    proxy.once(Call::Config, Trouble::Answer(404));
    let words = [
        "status: 404",
        "catalog.warehouse: none",
        "server: Not so",
        &proxy.url(),
    ];
    ends(&catalog(", warehouse: none"), &words).await?;
    proxy.close();
    ends(&catalog(""), &["gives no configuration", &proxy.url()]).await
}

async fn warehouse_that_is_not_where_the_tables_are() -> TestResult {
    for kind in [Kind::Sqlite, Kind::Rest] {
        let world = World::new(kind).await?;
        let mut shop = Shop::open(&world).await?;
        shop.land(1).await?;
        drop(shop);
        let elsewhere = format!("file://{}/elsewhere", world.folder.path().display());
        let words = ["outside `warehouse`", "shop.orders", &world.warehouse, &elsewhere];
        ends(&world, &elsewhere, &world.catalog, 2, &words).await?;
    }
    Ok(())
}
