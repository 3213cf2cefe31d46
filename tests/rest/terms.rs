//! What `/v1/config` says and what follows from it on the wire.

use std::collections::BTreeSet;
use std::sync::Arc;

use landfast::catalog::{Catalog, Patience};
use landfast::config::RestCatalogConfig;
use landfast::error::ErrorKind;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{World, Writer};
use crate::support::proxy::{Call, Trouble};
use crate::support::tables::{create, orders};
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        corners_do_not_see_each_other,
        configuration_of_any_shape_will_do,
        prefix_is_used_as_it_is,
        warehouse_and_headers_are_sent,
        idempotency_keys_are_sent_where_they_are_taken,
        what_is_no_catalog_is_named,
    ]
}

/// Of the house: one server stands for as many as there are tests.
async fn corners_do_not_see_each_other() -> TestResult {
    let (one, other) = (World::new().await?, World::new().await?);
    let (catalog, catalog_of_other) = (one.catalog().await?, other.catalog().await?);
    let made = create(&catalog, &orders()).await?;
    assert_eq!(
        one.truth().await?["metadata-location"].as_str(),
        made.metadata_location()
    );
    let error = catalog_of_other
        .load_table(&orders())
        .await
        .expect_err("it is elsewhere");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(other.proxy.truth("shop", "orders").await?, None);
    let made_by_other = create(&catalog_of_other, &orders()).await?;
    assert_ne!(made_by_other.metadata().uuid(), made.metadata().uuid());
    assert_eq!(catalog.list_tables(orders().namespace()).await?, [orders()]);
    Ok(())
}

async fn configuration_of_any_shape_will_do() -> TestResult {
    let world = World::new().await?;
    for (number, config) in [
        json!({}),
        json!({ "overrides": {} }),
        json!({ "defaults": { "clients": "4" }, "overrides": null, "endpoints": ["GET /v1/{prefix}/namespaces"] }),
    ]
    .into_iter()
    .enumerate()
    {
        world.proxy.once(Call::Config, Trouble::Json(config));
        let catalog = world.catalog().await?;
        let ident = iceberg::TableIdent::from_strs(["shop", &format!("t{number}")])?;
        create(&catalog, &ident).await?;
        catalog.load_table(&ident).await?;
    }
    Ok(())
}

async fn prefix_is_used_as_it_is() -> TestResult {
    let world = World::new().await?;
    let with = |prefix: &str| json!({ "overrides": { "prefix": prefix } });
    for (configured, answered, expected) in [
        (None, json!({}), "/v1/namespaces"),
        (Some("ours"), json!({}), "/v1/ours/namespaces"),
        (
            Some("ours"),
            with("projects/1/catalogs/c"),
            "/v1/projects/1/catalogs/c/namespaces",
        ),
        (None, with("main%7Clake"), "/v1/main%7Clake/namespaces"),
    ] {
        world.proxy.once(Call::Config, Trouble::Json(answered));
        let config = RestCatalogConfig {
            prefix: configured.map(str::to_owned),
            ..world.config()
        };
        let catalog = world.open(&config, Patience::default()).await?;
        catalog.create_namespace(orders().namespace()).await?;
        let asked = world.proxy.seen(Call::Namespace);
        let path = &asked.last().ok_or("it was looked for")?.path;
        assert!(path.starts_with(expected), "{path}");
        assert!(catalog.list_tables(orders().namespace()).await?.is_empty());
    }
    Ok(())
}

async fn warehouse_and_headers_are_sent() -> TestResult {
    let world = World::new().await?;
    let config = RestCatalogConfig {
        warehouse: Some("bl://projects/p/catalogs/c d".to_owned()),
        headers: [(
            "X-Iceberg-Access-Delegation".to_owned(),
            "vended-credentials".into(),
        )]
        .into(),
        ..world.config()
    };
    let catalog = world.open(&config, Patience::default()).await?;
    create(&catalog, &orders()).await?;
    let asked = &world.proxy.seen(Call::Config)[0];
    assert_eq!(
        asked.path,
        "/v1/config?warehouse=bl%3A%2F%2Fprojects%2Fp%2Fcatalogs%2Fc%20d"
    );
    for call in [Call::Config, Call::CreateTable] {
        let headers = &world.proxy.seen(call)[0].headers;
        assert_eq!(headers["x-iceberg-access-delegation"], "vended-credentials");
        assert!(headers["user-agent"].to_str()?.starts_with("landfast/"));
        assert!(!headers.contains_key("authorization"));
    }
    Ok(())
}

async fn idempotency_keys_are_sent_where_they_are_taken() -> TestResult {
    let world = World::new().await?;
    let mut writer = Writer::new(Arc::new(world.catalog().await?)).await?;
    writer.append(0).await?;
    assert!(
        !world.proxy.seen(Call::Commit)[0]
            .headers
            .contains_key("idempotency-key")
    );

    let places: [fn(&mut Value); 2] = [
        |config| config["idempotency-key-lifetime"] = "PT30M".into(),
        |config| config["overrides"]["idempotency-key-lifetime"] = "PT30M".into(),
    ];
    for place in places {
        world.proxy.once(Call::Config, Trouble::alter(place));
        let mut writer = Writer::of_existing(Arc::new(world.catalog().await?)).await?;
        let before = world.proxy.seen(Call::Commit).len();
        let mut changes = writer.row(1).await?;
        world.proxy.once(Call::Commit, Trouble::Answer(503));
        writer.attempt(&mut changes).await.expect_err("it is troubled");
        writer.attempt(&mut changes).await?;
        let sent = world.proxy.seen(Call::Commit).split_off(before);
        let mut keys = BTreeSet::new();
        for commit in &sent {
            let key: Uuid = commit.headers["idempotency-key"].to_str()?.parse()?;
            assert_eq!(key.get_version_num(), 7);
            keys.insert(key);
        }
        // Another attempt is another request: its snapshot is another.
        assert_eq!((sent.len(), keys.len()), (2, 2));
    }
    Ok(())
}

async fn what_is_no_catalog_is_named() -> TestResult {
    let world = World::new().await?;
    for trouble in [Trouble::Page(200), Trouble::Page(404), Trouble::Json(json!([1]))] {
        world.proxy.once(Call::Config, trouble);
        let error = world
            .open(&world.config(), Patience::default())
            .await
            .expect_err("it is none");
        assert_eq!(error.kind(), ErrorKind::Rejected);
        let report = error.report();
        assert!(
            report.contains(&world.proxy.url()) && report.contains("catalog.uri"),
            "{report}"
        );
    }
    let nobody = RestCatalogConfig {
        uri: "http://127.0.0.1:1".to_owned(),
        ..world.config()
    };
    let patience = Patience {
        attempts: 2,
        ..Patience::default()
    };
    let error = world.open(&nobody, patience).await.expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error.report().contains("http://127.0.0.1:1"),
        "{}",
        error.report()
    );
    Ok(())
}
