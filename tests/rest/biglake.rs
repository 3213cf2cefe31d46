//! The `biglake` catalog, before a server that is as Google documents it.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use iceberg::spec::FormatVersion;
use iceberg::{NamespaceIdent, TableCreation, TableIdent};
use landfast::catalog::{BigLakeCatalog, Catalog, Patience, RestCatalog};
use landfast::clock::{Clock, SystemClock};
use landfast::config::{BigLakeConfig, RestAuth};
use landfast::error::ErrorKind;
use landfast::random::Random;
use libtest_mimic::Trial;
use serde_json::json;

use super::site::Site;
use super::{World, Writer};
use crate::support::biglake::{Behind, BigLake};
use crate::support::bucket::Bucket;
use crate::support::clock::TestClock;
use crate::support::front::Front;
use crate::support::gcs::GcsFront;
use crate::support::push::Push;
use crate::support::tables::{create, ids, order_schema, orders};
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        rows_land_once_by_tokens_that_end,
        vended_token_is_renewed_before_its_hour_ends,
        what_google_refuses_is_told_before_it_is_asked,
        table_that_nears_a_megabyte_keeps_fewer_snapshots,
        commit_that_would_pass_a_megabyte_is_not_sent,
        snapshots_that_are_pressed_out_are_told_and_counted,
    ]
}

const WAREHOUSE: &str = "bl://projects/p-test/catalogs/lake";

/// BigLake, the bucket of its tables, and what stands before that.
struct Lake {
    biglake: BigLake,
    bucket: Bucket,
    storage: Front,
    world: World,
}

impl Lake {
    /// One whose metadata server gives tokens that last so long. `reached` says that tables tell how their bucket is reached,
    /// for a test in whose own process no variable says it.
    async fn new(life: u64, reached: bool) -> TestResult<Self> {
        let world = World::new().await?;
        let front = GcsFront::start().await?;
        let server = front.server().to_owned();
        let bucket = Bucket::gcs(front);
        let storage = Front::before(bucket.endpoint()).await?;
        let behind = Behind {
            catalog: &world.proxy.url(),
            folder: &world.warehouse,
            bucket: &bucket,
            storage: &server,
            endpoint: reached.then(|| storage.url()),
        };
        Ok(Self {
            biglake: BigLake::before(behind, Duration::from_secs(life)).await?,
            bucket,
            storage,
            world,
        })
    }

    /// A catalog of this process, by a token that is at hand.
    async fn catalog(&self, clock: Arc<dyn Clock>) -> TestResult<Arc<BigLakeCatalog>> {
        let config = BigLakeConfig {
            warehouse: WAREHOUSE.to_owned(),
            user_project: "p-test".to_owned(),
            uri: self.biglake.url(),
        };
        let mut rest = config.as_rest();
        rest.auth = RestAuth::Bearer {
            token: self.biglake.token().as_str().into(),
        };
        rest.headers
            .insert("x-goog-user-project".to_owned(), "p-test".into());
        let store = self.bucket.store("warehouse")?;
        let random = Arc::new(Random::from_os());
        let rest = RestCatalog::open(&rest, store, clock, random, Patience::default()).await?;
        Ok(Arc::new(BigLakeCatalog::new(rest)))
    }

    async fn writer(&self) -> TestResult<Writer> {
        let catalog = self.catalog(Arc::new(SystemClock)).await?;
        Writer::beside(catalog, self.bucket.store("warehouse")?).await
    }

    /// The binary, which only the environment tells who it is.
    fn site(&self) -> TestResult<Site> {
        let environment = vec![
            ("GCE_METADATA_HOST", self.biglake.metadata_host()),
            ("GOOGLE_BASE_URL", self.storage.url()),
            ("GOOGLE_APPLICATION_CREDENTIALS", String::new()),
            ("HOME", "/nowhere".to_owned()),
        ];
        Site::new(environment, |folder| {
            let config = folder.path().join("landfast.yaml");
            let text = format!(
                "warehouse: {}\ncatalog: {{ type: biglake, warehouse: \"{WAREHOUSE}\", uri: \"{}\" }}\n\
                 dead_letters: file://{}/dead-letters\nserver: {{ listen: 127.0.0.1:0, push_auth: off }}\ntables:\n  \
                 shop.orders:\n    from: [{{ subscription: orders }}]\n    batch: {{ commit_interval: 0s }}\n    schema:\n      \
                 - {{ name: id, type: long, required: true }}\n      - {{ name: name, type: string }}\n",
                self.bucket.location("warehouse"),
                self.biglake.url(),
                folder.path().display()
            );
            fs::write(&config, text)?;
            Ok(config.display().to_string())
        })
    }

    /// Makes `shop.orders` with a property of so many bytes.
    async fn create_large(&self, bytes: usize) -> TestResult {
        let catalog = self.catalog(Arc::new(SystemClock)).await?;
        create(catalog.as_ref(), &orders()).await?;
        self.grow(bytes).await
    }

    async fn grow(&self, bytes: usize) -> TestResult {
        let updates = json!([{ "action": "set-properties", "updates": { "large": "x".repeat(bytes) } }]);
        self.world.proxy.commit("shop", "orders", updates).await
    }

    fn commits(&self) -> usize {
        let seen = self.biglake.seen();
        seen.iter()
            .filter(|seen| seen.id == "tables.updateIcebergTable")
            .count()
    }

    async fn snapshots(&self) -> TestResult<usize> {
        let truth = self.world.truth().await?;
        Ok(truth["metadata"]["snapshots"].as_array().map_or(0, Vec::len))
    }
}

async fn rows_land_once_by_tokens_that_end() -> TestResult {
    let lake = Lake::new(5, false).await?;
    let site = lake.site()?;
    let log = site.lands_once().await?;
    // What BigQuery would read, read past everything of ours.
    let location = lake.world.truth().await?["metadata-location"].to_string();
    let location = lake.biglake.outside(location.trim_matches('"'));
    assert_eq!(
        site.ids(lake.bucket.told(&location))?,
        (0..20).collect::<Vec<_>>()
    );
    assert_eq!(lake.biglake.refused(), []);
    let seen = lake.biglake.seen();
    let methods: BTreeSet<&str> = seen.iter().map(|seen| seen.id.as_str()).collect();
    let expected = [
        "getIcebergCatalogConfig",
        "namespaces.create",
        "namespaces.get",
        "tables.create",
        "tables.get",
        "tables.list",
        "tables.updateIcebergTable",
    ];
    assert!(methods.is_subset(&expected.into()), "{methods:?}");
    let base = "/iceberg/v1/restcatalog/v1";
    let warehouse = "bl%3A%2F%2Fprojects%2Fp-test%2Fcatalogs%2Flake";
    assert_eq!(seen[0].path, format!("{base}/config?warehouse={warehouse}"));
    let table = format!("{base}/projects/1234/catalogs/lake/namespaces/shop/tables/orders");
    assert!(seen.iter().any(|seen| seen.path == table));
    for header in [
        "authorization",
        "x-goog-user-project",
        "x-iceberg-access-delegation",
        "user-agent",
    ] {
        assert!(
            seen.iter().all(|seen| seen.headers.contains_key(header)),
            "{header}"
        );
    }
    let is_vended = |token: &String| token.starts_with("vended-");
    let files = lake.storage.bearers("/data/");
    assert!(!files.is_empty() && files.iter().all(is_vended), "{files:?}");
    let ledgers = lake.storage.bearers("_landfast/");
    assert!(
        !ledgers.is_empty() && !ledgers.iter().any(is_vended),
        "{ledgers:?}"
    );
    assert!(lake.biglake.tokens_given() > 4, "{}", lake.biglake.tokens_given());
    assert!(
        !log.contains("s3cret") && !log.contains("vended-"),
        "a token is in the log"
    );
    Ok(())
}

async fn vended_token_is_renewed_before_its_hour_ends() -> TestResult {
    let lake = Lake::new(3600, true).await?;
    let clock = TestClock::at(Utc::now());
    lake.biglake.vend_from(clock.now());
    let catalog = lake.catalog(clock.clone()).await?;
    create(catalog.as_ref(), &orders()).await?;
    let mut writer = Writer::beside(catalog, lake.bucket.store("warehouse")?).await?;
    // The first commit loads the table, and each load vends another.
    writer.append(1).await?;
    writer.append(2).await?;
    let first = lake.storage.bearers("/data/");
    clock.advance(TimeDelta::minutes(54));
    writer.append(3).await?;
    assert_eq!(lake.storage.bearers("/data/"), first, "it lasts");
    clock.advance(TimeDelta::minutes(2));
    lake.biglake.vend_from(clock.now());
    writer.append(4).await?;
    let later = lake.storage.bearers("/data/");
    assert_eq!(later.len(), first.len() + 1, "{later:?}");
    assert_eq!(ids(writer.head.table()).await?, [1, 2, 3, 4]);
    assert_eq!(lake.biglake.refused(), []);
    Ok(())
}

async fn what_google_refuses_is_told_before_it_is_asked() -> TestResult {
    let lake = Lake::new(3600, true).await?;
    let catalog = lake.catalog(Arc::new(SystemClock)).await?;
    catalog.create_namespace(orders().namespace()).await?;
    let asked = lake.biglake.seen().len();
    let nested = NamespaceIdent::from_strs(["a", "b"])?;
    let creation = |name: &str, version, properties: &[(&str, String)]| {
        TableCreation::builder()
            .name(name.to_owned())
            .schema(order_schema())
            .format_version(version)
            .properties(
                properties
                    .iter()
                    .map(|(key, value)| ((*key).to_owned(), value.clone())),
            )
            .build()
    };
    let large = [("large", "x".repeat(1_000_000))];
    let shop = orders().namespace().clone();
    let refused = [
        (catalog.create_namespace(&nested).await, "single levels only"),
        (
            catalog
                .create_table(&nested, creation("t", FormatVersion::V2, &[]))
                .await
                .map(drop),
            "write `a_b.t`",
        ),
        (
            catalog
                .load_table(&TableIdent::from_strs(["my-shop", "t"])?)
                .await
                .map(drop),
            "no name of a dataset",
        ),
        (
            catalog
                .create_table(&shop, creation("t", FormatVersion::V1, &[]))
                .await
                .map(drop),
            "make one of version 2",
        ),
        (
            catalog
                .create_table(&shop, creation("t", FormatVersion::V2, &large))
                .await
                .map(drop),
            "no metadata of more than 1 MB",
        ),
    ];
    for (outcome, told) in refused {
        let error = outcome.expect_err(told);
        assert_eq!(error.kind(), ErrorKind::Rejected);
        assert!(error.report().contains(told), "{}", error.report());
    }
    assert_eq!(lake.biglake.seen().len(), asked);
    assert_eq!(lake.biglake.refused(), []);
    Ok(())
}

async fn table_that_nears_a_megabyte_keeps_fewer_snapshots() -> TestResult {
    let lake = Lake::new(3600, true).await?;
    lake.create_large(740_000).await?;
    let mut writer = lake.writer().await?;
    let mut most = 0;
    for id in 0..40 {
        writer.append(id).await?;
        most = most.max(lake.snapshots().await?);
    }
    // The ten newest, and up to four that are not worth a look yet; before that, what fits into three quarters.
    assert!(
        (10..=15).contains(&lake.snapshots().await?),
        "{}",
        lake.snapshots().await?
    );
    assert!(most < 30, "{most}");
    assert_eq!(ids(writer.head.table()).await?, (0..40).collect::<Vec<_>>());
    assert_eq!(lake.biglake.refused(), []);
    Ok(())
}

async fn commit_that_would_pass_a_megabyte_is_not_sent() -> TestResult {
    let lake = Lake::new(3600, true).await?;
    lake.create_large(988_000).await?;
    let mut writer = lake.writer().await?;
    let mut changes = writer.row(1).await?;
    let error = writer.attempt(&mut changes).await.expect_err("it is too large");
    assert_eq!(error.kind(), ErrorKind::Rejected);
    let report = error.report();
    for told in [
        "no metadata of more than 1 MB",
        "Nothing was sent",
        "shop.orders",
        "snapshots: ",
    ] {
        assert!(report.contains(told), "{report}");
    }
    assert_eq!(lake.commits(), 0);
    // What made it large is gone: the same rows land.
    lake.grow(1).await?;
    let mut writer = lake.writer().await?;
    writer.append(1).await?;
    assert_eq!(ids(writer.head.table()).await?, [1]);
    assert_eq!(lake.biglake.refused(), []);
    Ok(())
}

async fn snapshots_that_are_pressed_out_are_told_and_counted() -> TestResult {
    let lake = Lake::new(3600, true).await?;
    lake.create_large(745_000).await?;
    let site = lake.site()?;
    let server = site.serve().await?;
    for id in 0..25 {
        let push = Push::json("orders", id, &json!({ "id": id, "name": "n" }));
        assert_eq!(server.pusher().push(&push).await, 204);
    }
    let name = "landfast_snapshots_pressed_out_total{table=\"shop.orders\"}";
    assert!(
        server.metric(name).await? >= 5.0,
        "{}",
        server.metric(name).await?
    );
    server
        .logged(&["nears the largest that the catalog takes", "shop.orders"])
        .await?;
    assert_eq!(lake.biglake.refused(), []);
    Ok(())
}
