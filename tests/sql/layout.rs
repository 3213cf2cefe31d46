//! Rows and files as Java and PyIceberg have them.

use std::sync::Arc;

use iceberg::{NamespaceIdent, TableIdent};
use landfast::catalog::{Catalog, Outcome};
use landfast::error::ErrorKind;
use libtest_mimic::Trial;

use super::{World, append, committed, on_both, set_property};
use crate::support::tables::{create, ids_now, order_creation, orders};
use crate::support::{TestResult, gzip};

const ROW: &str = "SELECT catalog_name, table_namespace, table_name, metadata_location, \
                   previous_metadata_location, iceberg_type FROM iceberg_tables";

pub fn tests() -> Vec<Trial> {
    on_both![
        rows_and_files_are_as_java_makes_them,
        namespace_is_marked_once_however_often_it_is_made,
        catalogs_of_other_names_are_not_seen,
        database_of_version_0_stays_one_and_is_written,
        tables_are_made_once_by_many_that_open_at_once,
        views_are_no_tables,
        locations_of_other_engines_are_loaded_and_go_on,
        compressed_metadata_is_read,
        location_outside_the_warehouse_is_named,
        missing_or_broken_metadata_is_named,
        name_that_a_row_cannot_hold_is_rejected,
    ]
}

async fn rows_and_files_are_as_java_makes_them(world: &World) -> TestResult {
    let catalog = world.catalog().await?;
    let namespace = NamespaceIdent::from_strs(["shop", "eu"])?;
    let ident = TableIdent::new(namespace.clone(), "orders".to_owned());
    let made = create(&catalog, &ident).await?;
    let first = made.metadata_location().expect("it has one").to_owned();
    let second = committed(catalog.commit_table(&made, set_property("a", "1")).await)?;
    let second = second.metadata_location().expect("it has one").to_owned();

    let folder = format!("{}/shop/eu/orders/metadata", world.store()?.root());
    for (location, number) in [(&first, "00000-"), (&second, "00001-")] {
        let name = location.strip_prefix(&format!("{folder}/{number}"));
        let uuid = name.and_then(|name| name.strip_suffix(".metadata.json"));
        assert!(uuid.is_some_and(|uuid| uuid.len() == 36), "{location}");
    }
    let row = ["landfast", "shop.eu", "orders", &second, &first, "TABLE"].map(|text| Some(text.to_owned()));
    assert_eq!(world.side().await?.rows(ROW).await?, [row]);
    let log = catalog.load_table(&ident).await?;
    let log: Vec<_> = log
        .metadata()
        .metadata_log()
        .iter()
        .map(|entry| entry.metadata_file.clone())
        .collect();
    assert_eq!(log, [first]);
    Ok(())
}

async fn namespace_is_marked_once_however_often_it_is_made(world: &World) -> TestResult {
    let (one, other) = (world.catalog().await?, world.catalog().await?);
    let namespace = NamespaceIdent::from_strs(["shop", "eu"])?;
    let race = (0..8).map(|runner| {
        let catalog = if runner % 2 == 0 { &one } else { &other };
        catalog.create_namespace(&namespace)
    });
    futures::future::try_join_all(race).await?;
    let rows =
        "SELECT catalog_name, namespace, property_key, property_value FROM iceberg_namespace_properties";
    let marker = ["landfast", "shop.eu", "exists", "true"].map(|text| Some(text.to_owned()));
    assert_eq!(world.side().await?.rows(rows).await?, [marker]);
    Ok(())
}

async fn catalogs_of_other_names_are_not_seen(world: &World) -> TestResult {
    let catalog = world.catalog().await?;
    create(&catalog, &orders()).await?;
    let rename = "UPDATE iceberg_tables SET catalog_name = 'other'";
    assert_eq!(world.side().await?.execute(rename).await?, 1);
    assert!(catalog.list_tables(orders().namespace()).await?.is_empty());
    assert_eq!(
        catalog.load_table(&orders()).await.expect_err("not ours").kind(),
        ErrorKind::NotFound
    );
    Ok(())
}

async fn database_of_version_0_stays_one_and_is_written(world: &World) -> TestResult {
    let mut side = world.side().await?;
    // As Java makes them by default.
    side.execute(
        "CREATE TABLE iceberg_tables (catalog_name VARCHAR(255) NOT NULL, table_namespace VARCHAR(255) NOT NULL, \
         table_name VARCHAR(255) NOT NULL, metadata_location VARCHAR(1000), \
         previous_metadata_location VARCHAR(1000), PRIMARY KEY (catalog_name, table_namespace, table_name)); \
         CREATE TABLE iceberg_namespace_properties (catalog_name VARCHAR(255) NOT NULL, \
         namespace VARCHAR(255) NOT NULL, property_key VARCHAR(255), property_value VARCHAR(1000), \
         PRIMARY KEY (catalog_name, namespace, property_key))",
    )
    .await?;
    let catalog = Arc::new(world.catalog().await?);
    let base = create(catalog.as_ref(), &orders()).await?;
    append(&catalog, &[1, 2]).await?;
    append(&catalog, &[3]).await?;
    let stale = catalog.commit_table(&base, set_property("a", "stale")).await;
    assert!(matches!(stale, Outcome::Conflict(_)), "{stale:?}");
    assert_eq!(ids_now(catalog.as_ref(), &orders()).await?, [1, 2, 3]);
    assert_eq!(catalog.list_tables(orders().namespace()).await?, [orders()]);
    catalog.drop_table(&orders()).await?;
    assert!(side.rows(ROW).await.is_err(), "the column was added");
    Ok(())
}

async fn tables_are_made_once_by_many_that_open_at_once(world: &World) -> TestResult {
    let opened = futures::future::join_all((0..6).map(|_| world.catalog())).await;
    for catalog in opened {
        assert!(catalog?.list_tables(orders().namespace()).await?.is_empty());
    }
    Ok(())
}

async fn views_are_no_tables(world: &World) -> TestResult {
    let catalog = world.catalog().await?;
    let table = create(&catalog, &orders()).await?;
    let mut side = world.side().await?;
    side.execute("UPDATE iceberg_tables SET iceberg_type = 'VIEW'")
        .await?;
    assert!(catalog.list_tables(orders().namespace()).await?.is_empty());
    for error in [
        catalog.load_table(&orders()).await.err(),
        catalog.drop_table(&orders()).await.err(),
    ] {
        assert_eq!(error.expect("it is a view").kind(), ErrorKind::NotFound);
    }
    let made = catalog
        .create_table(orders().namespace(), order_creation(orders().name()))
        .await;
    let report = made.expect_err("the name is taken").report();
    assert!(report.contains("has a row of it"), "{report}");
    let outcome = catalog.commit_table(&table, set_property("a", "1")).await;
    assert!(matches!(outcome, Outcome::Conflict(_)), "{outcome:?}");
    // Rows from before Java had types are tables'.
    side.execute("UPDATE iceberg_tables SET iceberg_type = NULL")
        .await?;
    committed(catalog.commit_table(&table, set_property("a", "1")).await)?;
    assert_eq!(catalog.list_tables(orders().namespace()).await?, [orders()]);
    Ok(())
}

async fn locations_of_other_engines_are_loaded_and_go_on(world: &World) -> TestResult {
    let catalog = Arc::new(world.catalog().await?);
    let table = create(catalog.as_ref(), &orders()).await?;
    let written = table.metadata_location().expect("it has one").to_owned();
    let key = world.store()?.key(&written)?.to_owned();
    let bytes = world.store()?.get(&key).await?.expect("it was written");
    // Java writes `file:/x`, in the row and in the file.
    let text = String::from_utf8(bytes.to_vec())?.replace("file:///", "file:/");
    let java = "shop/orders/metadata/00041-0f3e5a9c-7f8e-4a43-9d5a-5cb2a3a9c001.metadata.json";
    world.store()?.put(java, text.into()).await?;
    let location = world.store()?.url(java).replace("file:///", "file:/");
    let mut side = world.side().await?;
    let moved = format!("UPDATE iceberg_tables SET metadata_location = '{location}'");
    side.execute(&moved).await?;

    append(&catalog, &[7]).await?;
    append(&catalog, &[8]).await?;
    assert_eq!(ids_now(catalog.as_ref(), &orders()).await?, [7, 8]);
    let row = side
        .rows("SELECT metadata_location, previous_metadata_location FROM iceberg_tables")
        .await?;
    let names: Vec<_> = row.into_iter().flatten().flatten().collect();
    assert!(names[0].contains("/metadata/00043-"), "{names:?}");
    assert!(names[1].contains("/metadata/00042-"), "{names:?}");
    Ok(())
}

async fn compressed_metadata_is_read(world: &World) -> TestResult {
    let catalog = Arc::new(world.catalog().await?);
    let table = create(catalog.as_ref(), &orders()).await?;
    let store = world.store()?;
    let key = store
        .key(table.metadata_location().expect("it has one"))?
        .to_owned();
    let plain = store.get(&key).await?.expect("it was written");
    for name in ["00001-a.gz.metadata.json", "00001-a.metadata.json.gz"] {
        let key = format!("shop/orders/metadata/{name}");
        store.put(&key, gzip(&plain)?.into()).await?;
        let moved = format!(
            "UPDATE iceberg_tables SET metadata_location = '{}'",
            store.url(&key)
        );
        world.side().await?.execute(&moved).await?;
        let loaded = catalog.load_table(&orders()).await?;
        assert_eq!(loaded.metadata(), table.metadata());
        let next = committed(catalog.commit_table(&loaded, set_property("a", name)).await)?;
        assert!(
            next.metadata_location()
                .is_some_and(|location| location.contains("/00002-"))
        );
    }
    Ok(())
}

async fn location_outside_the_warehouse_is_named(world: &World) -> TestResult {
    let catalog = world.catalog().await?;
    let mut creation = order_creation("elsewhere");
    creation.location = Some("file:///elsewhere/t".to_owned());
    let error = catalog
        .create_table(orders().namespace(), creation)
        .await
        .expect_err("it lies outside");
    assert_eq!(error.kind(), ErrorKind::Rejected);

    create(&catalog, &orders()).await?;
    let moved = "UPDATE iceberg_tables SET metadata_location = 's3://lake/t/metadata/00001-a.metadata.json'";
    world.side().await?.execute(moved).await?;
    let error = catalog.load_table(&orders()).await.expect_err("it lies outside");
    assert_eq!(error.kind(), ErrorKind::Rejected);
    let report = error.report();
    for named in [
        "s3://lake/t/",
        &world.warehouse(),
        "shop.orders",
        "outside the warehouse",
    ] {
        assert!(report.contains(named), "{report}");
    }
    Ok(())
}

async fn missing_or_broken_metadata_is_named(world: &World) -> TestResult {
    let catalog = world.catalog().await?;
    create(&catalog, &orders()).await?;
    let store = world.store()?;
    for (name, content, kind) in [
        ("00001-none.metadata.json", None, ErrorKind::Unavailable),
        ("00001-empty.metadata.json", Some(""), ErrorKind::Rejected),
        ("00001-text.metadata.json", Some("<html>"), ErrorKind::Rejected),
        (
            "00001-gzip.gz.metadata.json",
            Some("\x1f\u{8b}"),
            ErrorKind::Rejected,
        ),
    ] {
        let key = format!("shop/orders/metadata/{name}");
        if let Some(content) = content {
            store.put(&key, content.as_bytes().to_vec().into()).await?;
        }
        let moved = format!(
            "UPDATE iceberg_tables SET metadata_location = '{}'",
            store.url(&key)
        );
        world.side().await?.execute(&moved).await?;
        let error = catalog.load_table(&orders()).await.expect_err("it is broken");
        assert_eq!(error.kind(), kind, "{name}");
        assert!(error.report().contains(name), "{}", error.report());
    }
    world
        .side()
        .await?
        .execute("UPDATE iceberg_tables SET metadata_location = NULL")
        .await?;
    let error = catalog.load_table(&orders()).await.expect_err("it names none");
    assert_eq!(error.kind(), ErrorKind::Rejected);
    Ok(())
}

async fn name_that_a_row_cannot_hold_is_rejected(world: &World) -> TestResult {
    let catalog = world.catalog().await?;
    let dotted = NamespaceIdent::new("shop.eu".to_owned());
    assert_eq!(
        catalog.create_namespace(&dotted).await.expect_err("a dot").kind(),
        ErrorKind::Rejected
    );
    // Nothing of a name is SQL.
    let hostile = TableIdent::from_strs(["shop", "o'; DROP TABLE iceberg_tables; --"])?;
    create(&catalog, &hostile).await?;
    assert_eq!(catalog.list_tables(hostile.namespace()).await?, [hostile]);
    if world.uri.starts_with("postgresql:") {
        // SQLite does not keep to the lengths of its columns.
        let long = NamespaceIdent::new("n".repeat(256));
        let error = catalog.create_namespace(&long).await.expect_err("too long");
        assert_eq!(error.kind(), ErrorKind::Rejected);
    }
    Ok(())
}
