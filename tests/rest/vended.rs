//! Tables in buckets: read and written by the credentials that the server vends with them, and by nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::{join_all, try_join_all};
use iceberg::TableCreation;
use landfast::catalog::{Catalog, Patience, RestCatalog};
use landfast::random::Random;
use libtest_mimic::Trial;
use serde_json::{Map, Value, json};

use super::serve::configuration;
use super::site::Site;
use super::{World, Writer};
use crate::support::accounts::Account;
use crate::support::bucket::Bucket;
use crate::support::clock::TestClock;
use crate::support::proxy::{Call, Trouble};
use crate::support::push::Push;
use crate::support::tables::{files_of, order_schema, orders};
use crate::support::{TestResult, trials};

const ASKED: &str = "headers: { X-Iceberg-Access-Delegation: vended-credentials }";

pub fn tests() -> Vec<Trial> {
    trials![
        rows_land_where_only_vended_credentials_reach,
        bucket_beside_the_warehouse_is_reached_by_our_own_credentials,
        vended_credentials_are_renewed_by_one_request_before_their_end,
        renewed_credentials_are_of_the_store_that_was_loaded,
        server_that_stops_vending_is_told,
        credential_of_the_longest_prefix_is_used,
    ]
}

/// Makes `shop.orders` at a location that only the server reaches for certain.
async fn create_at(catalog: &RestCatalog, location: &str) -> TestResult {
    let namespace = orders().namespace().clone();
    catalog.create_namespace(&namespace).await?;
    let creation = TableCreation::builder()
        .name(orders().name().to_owned())
        .schema(order_schema())
        .location(location.to_owned())
        .build();
    catalog.create_table(&namespace, creation).await?;
    Ok(())
}

/// The table's metadata, as the server has it.
async fn metadata_of(world: &World) -> TestResult<String> {
    let truth = world.truth().await?;
    let location = truth["metadata-location"].as_str();
    Ok(location.ok_or("no location")?.to_owned())
}

/// From now on the server vends these with every load of a table.
fn vend(world: &World, credentials: Value) {
    world.proxy.clear();
    let give = move |answer: &mut Value| answer["storage-credentials"] = credentials.clone();
    world.proxy.always(Call::Load, Trouble::alter(give));
}

async fn rows_land_where_only_vended_credentials_reach() -> TestResult {
    let (own, other) = (Account::new()?, Account::new()?);
    let mut world = World::new().await?;
    world.warehouse = own.location("warehouse");
    create_at(&world.catalog().await?, &other.location("orders")).await?;
    let environment = own.environment().map(|(name, value)| (name, value.to_owned()));
    let site = Site::new(environment.to_vec(), |folder| {
        configuration(&world, folder, ASKED)
    })?;
    let push = Push::json("orders", 0, &json!({ "id": 0 }));
    let server = site.serve().await?;
    assert_eq!(server.pusher().push(&push).await, 503);
    server.logged(&["AccessDenied"]).await?;
    drop(server);

    vend(&world, json!([other.credential(&other.location(""))]));
    let log = site.lands_once().await?;
    let told = other.told(&metadata_of(&world).await?);
    assert_eq!(site.ids(&told)?, (0..20).collect::<Vec<_>>());
    let loads = world.proxy.seen(Call::Load);
    let asked = &loads[loads.len() - 1].headers["x-iceberg-access-delegation"];
    assert_eq!(asked, "vended-credentials");
    for account in [&own, &other] {
        assert!(!log.contains(account.secret()), "a secret is in the log");
    }
    Ok(())
}

async fn bucket_beside_the_warehouse_is_reached_by_our_own_credentials() -> TestResult {
    let bucket = Bucket::s3()?;
    let world = World::new().await?;
    create_at(&world.catalog().await?, &bucket.location("elsewhere/orders")).await?;
    let site = Site::new(bucket.environment(), |folder| configuration(&world, folder, ""))?;
    site.lands_once().await?;
    let told = bucket.told(&metadata_of(&world).await?);
    assert_eq!(site.ids(told)?, (0..20).collect::<Vec<_>>());
    Ok(())
}

/// A world with `shop.orders` in an account's bucket, vended for an hour of a clock that stands still.
async fn vended_for_an_hour() -> TestResult<(World, Account, Arc<TestClock>, RestCatalog)> {
    let account = Account::new()?;
    let world = World::new().await?;
    let clock = TestClock::at(Utc::now());
    let catalog = world
        .open_at(&world.config(), Patience::default(), clock.clone())
        .await?;
    create_at(&catalog, &account.location("orders")).await?;
    vend_until(&world, &account, &clock, 60);
    Ok((world, account, clock, catalog))
}

fn vend_until(world: &World, account: &Account, clock: &TestClock, minutes: i64) {
    use landfast::clock::Clock;
    let end = clock.now() + TimeDelta::minutes(minutes);
    let mut credential = account.credential(&account.location("orders"));
    credential["config"]["s3.session-token-expires-at-ms"] = end.timestamp_millis().to_string().into();
    vend(world, json!([credential]));
}

async fn vended_credentials_are_renewed_by_one_request_before_their_end() -> TestResult {
    let (world, mut account, clock, catalog) = vended_for_an_hour().await?;
    let random = Arc::new(Random::from_os());
    // Opened once; its store asks for whatever is good at the time.
    let table = catalog.load_table(&orders()).await?;
    files_of(&table, &[1], &random).await?;
    let loads = world.proxy.seen(Call::Load).len();
    clock.advance(TimeDelta::minutes(54));
    files_of(&table, &[2], &random).await?;
    assert_eq!(world.proxy.seen(Call::Load).len(), loads, "they are fresh");

    account.change_secret()?;
    vend_until(&world, &account, &clock, 60);
    clock.advance(TimeDelta::minutes(2));
    let mut written = files_of(&table, &[3], &random).await?;
    assert_eq!(world.proxy.seen(Call::Load).len(), loads + 1);
    let ids: Vec<[i64; 1]> = (4..12).map(|id| [id]).collect();
    let others = try_join_all(ids.iter().map(|id| files_of(&table, id, &random)));
    written.extend(others.await?.concat());
    assert_eq!(written.len(), 9);
    assert_eq!(world.proxy.seen(Call::Load).len(), loads + 1);

    // Over at once, and asked for by many: one request, too.
    account.change_secret()?;
    clock.advance(TimeDelta::minutes(61));
    vend_until(&world, &account, &clock, 60);
    try_join_all(ids.iter().map(|id| files_of(&table, id, &random))).await?;
    assert_eq!(world.proxy.seen(Call::Load).len(), loads + 2);
    assert!(!format!("{catalog:?}{table:?}").contains("s3cret"));
    Ok(())
}

/// As Polaris has it: a load says where the store is beside the credentials, and the credentials' own address does not.
async fn renewed_credentials_are_of_the_store_that_was_loaded() -> TestResult {
    let account = Account::new()?;
    let world = World::new().await?;
    let clock = TestClock::at(Utc::now());
    let endpoint = "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/credentials";
    let more = move |config: &mut Value| config["endpoints"] = json!([endpoint]);
    world.proxy.once(Call::Config, Trouble::alter(more));
    let catalog = world
        .open_at(&world.config(), Patience::default(), clock.clone())
        .await?;
    create_at(&catalog, &account.location("orders")).await?;
    let (credential, config) = split(account.credential(&account.location("")), Utc::now());
    let alone = json!({ "storage-credentials": [credential] });
    let give = move |answer: &mut Value| {
        answer["storage-credentials"] = json!([credential]);
        answer["config"] = config.clone();
    };
    world.proxy.always(Call::Load, Trouble::alter(give));
    world.proxy.always(Call::Credentials, Trouble::Json(alone));
    let mut writer = Writer::of_existing(Arc::new(catalog)).await?;
    writer.append(1).await?;
    assert_eq!(world.proxy.seen(Call::Credentials).len(), 0);
    clock.advance(TimeDelta::minutes(56));
    for id in 2..5 {
        writer.append(id).await?;
    }
    assert!(!world.proxy.seen(Call::Credentials).is_empty());
    assert_eq!(world.ids().await?, [1, 2, 3, 4]);
    Ok(())
}

/// A credential for an hour without what says where the store is, and that.
fn split(mut credential: Value, now: DateTime<Utc>) -> (Value, Value) {
    let keys = credential["config"].as_object().cloned().unwrap_or_default();
    let (mut own, way): (Map<_, _>, Map<_, _>) =
        (keys.into_iter()).partition(|(key, _)| key.contains("access-key"));
    let end = now + TimeDelta::hours(1);
    let end = end.timestamp_millis().to_string();
    own.insert("s3.session-token-expires-at-ms".to_owned(), end.into());
    credential["config"] = own.into();
    (credential, way.into())
}

async fn server_that_stops_vending_is_told() -> TestResult {
    let (world, account, clock, catalog) = vended_for_an_hour().await?;
    let catalog = Arc::new(catalog);
    let mut writer = Writer::of_existing(catalog.clone()).await?;
    writer.append(1).await?;
    world.proxy.clear();
    // What it gave lasts to its end.
    clock.advance(TimeDelta::minutes(58));
    let mut writer = Writer::of_existing(catalog.clone()).await?;
    writer.append(2).await?;
    clock.advance(TimeDelta::minutes(3));
    let random = Arc::new(Random::from_os());
    let loads = world.proxy.seen(Call::Load).len();
    let (old, new) = (writer.head.table().clone(), catalog.load_table(&orders()).await?);
    let tries = [&old, &new, &old, &new].map(|table| files_of(table, &[3], &random));
    for refused in join_all(tries).await {
        let crate::support::Stop::Failed(report) = refused.expect_err("they are over") else {
            return Err("it is no failure".into());
        };
        for told in ["vends no storage credentials", "shop.orders"] {
            assert!(report.contains(told), "{report}");
        }
        assert!(!report.contains(account.secret()), "{report}");
    }
    // The load itself, and one for all that asked at the same time; or a few, if they did not meet.
    let asked = world.proxy.seen(Call::Load).len() - loads;
    assert!((2..=5).contains(&asked), "{asked}");
    vend_until(&world, &account, &clock, 60);
    let mut writer = Writer::of_existing(catalog).await?;
    writer.append(3).await?;
    Ok(())
}

async fn credential_of_the_longest_prefix_is_used() -> TestResult {
    let (account, stranger) = (Account::new()?, Account::new()?);
    let world = World::new().await?;
    let catalog = Arc::new(world.catalog().await?);
    create_at(&catalog, &account.location("shop/orders")).await?;
    vend(
        &world,
        json!([
            stranger.credential("s3://"),
            stranger.credential(&account.location("")),
            account.credential(&account.location("shop/")),
            stranger.credential(&account.location("shop/orders-of-others/")),
        ]),
    );
    let mut writer = Writer::of_existing(catalog.clone()).await?;
    writer.append(7).await?;
    let held = catalog.storage_credentials(&orders()).await?;
    let prefixes: BTreeSet<&str> = held.iter().map(|credential| credential.prefix.as_str()).collect();
    assert_eq!(prefixes.len(), 4);
    // A table's `config` does where there are no `storage-credentials`.
    world.proxy.clear();
    let config = account.credential("")["config"].clone();
    let give = move |answer: &mut Value| answer["config"] = config.clone();
    world.proxy.always(Call::Load, Trouble::alter(give));
    let mut writer = Writer::of_existing(Arc::new(world.catalog().await?)).await?;
    writer.append(8).await?;
    let ids = crate::support::tables::ids(writer.head.table()).await?;
    assert_eq!(ids, [7, 8]);
    Ok(())
}
