//! Requests that only read: sent again within a bound; and what is read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use iceberg::spec::{FormatVersion, Transform, UnboundPartitionSpec};
use iceberg::{NamespaceIdent, TableCreation, TableIdent};
use landfast::catalog::{Catalog, Patience, credential_for};
use landfast::error::ErrorKind;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{World, Writer};
use crate::support::clock::TestClock;
use crate::support::http::Connection;
use crate::support::proxy::{Call, Trouble};
use crate::support::tables::{create, order_creation, orders};
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        passing_failures_of_a_load_are_tried_again,
        what_does_not_pass_is_not_tried_again,
        failures_that_go_on_end_within_the_bound,
        long_retry_after_is_not_waited_for,
        lists_are_read_page_by_page,
        missing_namespaces_and_parents_are_made,
        name_that_is_taken_is_told_in_the_servers_words,
        tables_are_made_as_they_are_described,
        names_of_all_kinds_come_back,
        large_and_compressed_metadata_is_read,
        table_without_a_config_is_loaded,
        table_out_of_reach_is_named_with_the_way_out,
        vended_credentials_are_kept_and_renewed_before_their_end,
        requests_share_a_few_connections,
    ]
}

async fn passing_failures_of_a_load_are_tried_again() -> TestResult {
    let world = World::new().await?;
    let catalog = world.catalog().await?;
    create(&catalog, &orders()).await?;
    for trouble in [
        Trouble::Answer(503),
        Trouble::Page(502),
        Trouble::Answer(500),
        Trouble::Reset,
        Trouble::ResetAfter,
    ] {
        let asked = world.proxy.seen(Call::Load).len();
        world.proxy.once(Call::Load, trouble.clone());
        world.proxy.once(Call::Load, trouble);
        catalog.load_table(&orders()).await?;
        assert_eq!(world.proxy.seen(Call::Load).len(), asked + 3);
    }
    let start = Instant::now();
    world.proxy.once(Call::Load, Trouble::RetryAfter(429, 1));
    catalog.load_table(&orders()).await?;
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    Ok(())
}

async fn what_does_not_pass_is_not_tried_again() -> TestResult {
    let world = World::new().await?;
    let catalog = world.catalog().await?;
    for (status, kind) in [
        (400, ErrorKind::Rejected),
        (403, ErrorKind::Rejected),
        (501, ErrorKind::Rejected),
        (404, ErrorKind::NotFound),
    ] {
        let asked = world.proxy.seen(Call::Load).len();
        world.proxy.once(Call::Load, Trouble::Answer(status));
        let error = catalog.load_table(&orders()).await.expect_err("it is refused");
        assert_eq!(error.kind(), kind, "{status}");
        assert_eq!(world.proxy.seen(Call::Load).len(), asked + 1);
    }
    // What changes something is left to whoever asked for it.
    catalog.create_namespace(orders().namespace()).await?;
    world.proxy.once(Call::CreateTable, Trouble::AnswerAfter(504));
    let creation = order_creation("orders");
    let error = catalog
        .create_table(orders().namespace(), creation)
        .await
        .expect_err("unheard");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(world.proxy.seen(Call::CreateTable).len(), 1);
    catalog.load_table(&orders()).await?;
    Ok(())
}

async fn failures_that_go_on_end_within_the_bound() -> TestResult {
    let world = World::new().await?;
    let patience = Patience {
        attempts: 3,
        ..Patience::default()
    };
    let catalog = world.open(&world.config(), patience).await?;
    world.proxy.always(Call::Load, Trouble::Answer(503));
    let error = catalog.load_table(&orders()).await.expect_err("it goes on");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let report = error.report();
    assert!(
        report.contains("shop.orders") && report.contains("status: 503"),
        "{report}"
    );
    assert_eq!(world.proxy.seen(Call::Load).len(), 3);
    Ok(())
}

async fn long_retry_after_is_not_waited_for() -> TestResult {
    let world = World::new().await?;
    let catalog = world.catalog().await?;
    world.proxy.always(Call::Load, Trouble::RetryAfter(503, 3600));
    let error = catalog
        .load_table(&orders())
        .await
        .expect_err("it asks for an hour");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(world.proxy.seen(Call::Load).len(), 1);
    Ok(())
}

async fn lists_are_read_page_by_page() -> TestResult {
    let world = World::new().await?;
    let catalog = world.catalog().await?;
    let namespace = orders().namespace().clone();
    let idents: Vec<TableIdent> = (0..5)
        .map(|n| TableIdent::new(namespace.clone(), format!("t{n}")))
        .collect();
    for ident in &idents {
        create(&catalog, ident).await?;
    }
    for (size, calls) in [(2, 3), (5, 1), (1, 5)] {
        world.proxy.page(size);
        let asked = world.proxy.seen(Call::List).len();
        assert_eq!(catalog.list_tables(&namespace).await?, idents);
        assert_eq!(world.proxy.seen(Call::List).len(), asked + calls);
    }
    Ok(())
}

async fn missing_namespaces_and_parents_are_made() -> TestResult {
    let world = World::new().await?;
    let catalog = world.catalog().await?;
    let nested = NamespaceIdent::from_strs(["a", "b", "c"])?;
    // A server that wants the parents first says that there is none.
    world.proxy.once(Call::Namespace, Trouble::Answer(404));
    world.proxy.once(Call::Namespace, Trouble::Answer(404));
    catalog.create_namespace(&nested).await?;
    let made = world.proxy.seen(Call::Namespace).len();
    assert_eq!(made, 5, "looked for, refused, and made level by level");
    catalog.create_namespace(&nested).await?;
    assert_eq!(world.proxy.seen(Call::Namespace).len(), made + 1, "it is there");
    // Made by another meanwhile.
    world.proxy.once(Call::Namespace, Trouble::Answer(404));
    catalog.create_namespace(&nested).await?;
    Ok(())
}

async fn tables_are_made_as_they_are_described() -> TestResult {
    let world = World::new().await?;
    let catalog = world.catalog().await?;
    catalog.create_namespace(orders().namespace()).await?;
    let spec = UnboundPartitionSpec::builder().add_partition_field(1, "id_bucket", Transform::Bucket(4))?;
    let creation = TableCreation {
        partition_spec: Some(spec.build()),
        properties: [("owner".to_owned(), "lake".to_owned())].into(),
        ..order_creation("orders")
    };
    let table = catalog.create_table(orders().namespace(), creation).await?;
    let metadata = table.metadata();
    assert_eq!(metadata.format_version(), FormatVersion::V2);
    assert_eq!(metadata.properties()["owner"], "lake");
    let fields = metadata.default_partition_spec().fields();
    assert_eq!((fields.len(), fields[0].name.as_str()), (1, "id_bucket"));
    let bare = TableCreation {
        partition_spec: Some(UnboundPartitionSpec::default()),
        ..order_creation("bare")
    };
    let table = catalog.create_table(orders().namespace(), bare).await?;
    assert!(table.metadata().default_partition_spec().is_unpartitioned());
    Ok(())
}

async fn names_of_all_kinds_come_back() -> TestResult {
    let world = World::new().await?;
    let catalog = world.catalog().await?;
    for levels in [
        ["shop", "commandes d'été"],
        ["a+b & c", "o=r,d;e:r@s"],
        ["shop", "ünïcödé-☃"],
    ] {
        let ident = TableIdent::from_strs(levels)?;
        let created = create(&catalog, &ident).await?;
        let loaded = catalog.load_table(&ident).await?;
        assert_eq!(loaded.metadata().uuid(), created.metadata().uuid());
        assert!(catalog.list_tables(ident.namespace()).await?.contains(&ident));
        catalog.drop_table(&ident).await?;
        let gone = catalog.load_table(&ident).await.expect_err("it was dropped");
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    }
    Ok(())
}

async fn large_and_compressed_metadata_is_read() -> TestResult {
    let world = World::new().await?;
    let catalog = world.catalog().await?;
    create(&catalog, &orders()).await?;
    world.proxy.once(Call::Load, Trouble::Gzip);
    catalog.load_table(&orders()).await?;
    assert!(
        world.proxy.seen(Call::Load)[0]
            .headers
            .contains_key("accept-encoding")
    );
    let text = "x".repeat(24 << 20);
    world.proxy.once(
        Call::Load,
        Trouble::alter(move |answer| answer["metadata"]["properties"]["long"] = text.as_str().into()),
    );
    let table = catalog.load_table(&orders()).await?;
    assert_eq!(table.metadata().properties()["long"].len(), 24 << 20);
    Ok(())
}

async fn table_out_of_reach_is_named_with_the_way_out() -> TestResult {
    let world = World::new().await?;
    let catalog = world.catalog().await?;
    create(&catalog, &orders()).await?;
    for (location, way_out) in [
        ("abfss://lake@acme/shop/orders", "it stores on s3://"),
        ("file:///elsewhere/orders", "as `warehouse`"),
    ] {
        world.proxy.once(
            Call::Load,
            Trouble::alter(move |answer| answer["metadata"]["location"] = location.into()),
        );
        let error = catalog.load_table(&orders()).await.expect_err("it is elsewhere");
        assert_eq!(error.kind(), ErrorKind::Rejected);
        let report = error.report();
        for named in [location, way_out, "shop.orders"] {
            assert!(report.contains(named), "{report}");
        }
    }
    Ok(())
}

fn vended(token: &str, expires_at_ms: i64) -> Value {
    let config =
        json!({ "gcs.oauth2.token": token, "gcs.oauth2.token-expires-at": expires_at_ms.to_string() });
    json!([
        { "prefix": "gs://lake/", "config": { "gcs.oauth2.token": "wide" } },
        { "prefix": "gs://lake/shop/", "config": config },
    ])
}

fn tokens(credentials: &[landfast::catalog::StorageCredential]) -> BTreeMap<&str, &str> {
    let token = |location| {
        Some((
            location,
            credential_for(credentials, location)?.config["gcs.oauth2.token"].as_str(),
        ))
    };
    ["gs://lake/shop/x", "gs://lake/y", "s3://lake/z"]
        .into_iter()
        .filter_map(token)
        .collect()
}

async fn name_that_is_taken_is_told_in_the_servers_words() -> TestResult {
    let world = World::new().await?;
    let catalog = world.catalog().await?;
    create(&catalog, &orders()).await?;
    let again = catalog
        .create_table(orders().namespace(), order_creation(orders().name()))
        .await;
    let error = again.expect_err("there is one");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let report = error.report();
    for told in ["status: 409", "AlreadyExistsException"] {
        assert!(report.contains(told), "{report}");
    }
    Ok(())
}

/// Java takes a null there.
async fn table_without_a_config_is_loaded() -> TestResult {
    let world = World::new().await?;
    let catalog = world.catalog().await?;
    create(&catalog, &orders()).await?;
    world.proxy.once(
        Call::Load,
        Trouble::alter(|answer| answer["config"] = Value::Null),
    );
    catalog.load_table(&orders()).await?;
    let missing = |answer: &mut Value| drop(answer.as_object_mut().map(|answer| answer.remove("config")));
    world.proxy.once(Call::Load, Trouble::alter(missing));
    catalog.load_table(&orders()).await?;
    Ok(())
}

async fn vended_credentials_are_kept_and_renewed_before_their_end() -> TestResult {
    for has_endpoint in [false, true] {
        let world = World::new().await?;
        let start = Utc::now();
        let clock = TestClock::at(start);
        if has_endpoint {
            let endpoint = "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/credentials";
            let advertise = move |config: &mut Value| config["endpoints"] = json!([endpoint]);
            world.proxy.once(Call::Config, Trouble::alter(advertise));
        }
        let catalog = world
            .open_at(&world.config(), Patience::default(), clock.clone())
            .await?;
        create(&catalog, &orders()).await?;
        assert!(catalog.storage_credentials(&orders()).await?.is_empty());
        let in_ms = |minutes| (start + TimeDelta::minutes(minutes)).timestamp_millis();
        let first = vended("s3cret-1", in_ms(60));
        let give = move |answer: &mut Value| answer["storage-credentials"] = first.clone();
        world.proxy.once(Call::Load, Trouble::alter(give));
        catalog.load_table(&orders()).await?;

        let loads = world.proxy.seen(Call::Load).len();
        let held = catalog.storage_credentials(&orders()).await?;
        assert_eq!(
            tokens(&held),
            [("gs://lake/shop/x", "s3cret-1"), ("gs://lake/y", "wide")].into()
        );
        assert!(!format!("{catalog:?}{held:?}").contains("s3cret"));
        assert_eq!(world.proxy.seen(Call::Load).len(), loads, "they are kept");

        clock.advance(TimeDelta::minutes(56));
        let second = vended("s3cret-2", in_ms(120));
        if has_endpoint {
            world.proxy.once(
                Call::Credentials,
                Trouble::Json(json!({ "storage-credentials": second })),
            );
        } else {
            let give = move |answer: &mut Value| answer["storage-credentials"] = second.clone();
            world.proxy.once(Call::Load, Trouble::alter(give));
        }
        let held = catalog.storage_credentials(&orders()).await?;
        assert_eq!(tokens(&held)["gs://lake/shop/x"], "s3cret-2");
        let asked = (
            world.proxy.seen(Call::Load).len() - loads,
            world.proxy.seen(Call::Credentials).len(),
        );
        assert_eq!(asked, if has_endpoint { (0, 1) } else { (1, 0) });

        // While they last, a server that fails takes nothing away.
        clock.advance(TimeDelta::minutes(61));
        let call = if has_endpoint {
            Call::Credentials
        } else {
            Call::Load
        };
        world.proxy.always(call, Trouble::Answer(403));
        assert_eq!(catalog.storage_credentials(&orders()).await?, held);
        clock.advance(TimeDelta::minutes(5));
        let error = catalog
            .storage_credentials(&orders())
            .await
            .expect_err("they are over");
        assert_eq!(error.kind(), ErrorKind::Rejected);
    }
    Ok(())
}

async fn requests_share_a_few_connections() -> TestResult {
    const AT_ONCE: usize = 8;
    let (world, ident) = (World::new().await?, orders());
    let mut writer = Writer::new(Arc::new(world.catalog().await?)).await?;
    for id in 0..20 {
        writer.append(id).await?;
    }
    let used = |calls: &[Call]| -> (usize, BTreeSet<Connection>) {
        let seen: Vec<_> = calls.iter().flat_map(|call| world.proxy.seen(*call)).collect();
        (seen.len(), seen.iter().filter_map(|one| one.connection).collect())
    };
    // One after the other: the next may come before the last one's connection is free again.
    let (requests, connections) = used(&[Call::Config, Call::Namespace, Call::CreateTable, Call::Commit]);
    assert!(requests > 20 && !connections.is_empty());
    assert!(connections.len() <= 3, "{} for {requests}", connections.len());
    for _round in 0..10 {
        let loads = (0..AT_ONCE).map(|_| writer.catalog.load_table(&ident));
        futures::future::try_join_all(loads).await?;
    }
    let (requests, connections) = used(&[Call::Load, Call::Commit]);
    assert!(requests >= 100, "{requests}");
    assert!(
        connections.len() <= 2 * AT_ONCE,
        "{} for {requests}",
        connections.len()
    );
    Ok(())
}
