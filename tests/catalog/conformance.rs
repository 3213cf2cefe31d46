//! The conformance suite: what every catalog promises, run on each of them.

use std::any::Any;
use std::sync::Arc;

use futures::future::{join_all, try_join_all};
use iceberg::table::Table;
use iceberg::{NamespaceIdent, TableIdent, TableRequirement, TableUpdate};
use landfast::catalog::{Catalog, MemoryCatalog, Outcome, SqlCatalog, StorageCatalog, TableCommit};
use landfast::clock::Moment;
use landfast::clock::SystemClock;
use landfast::commit::{ChangeSet, Engine, Group};
use landfast::error::{Action, ErrorKind};
use landfast::ledger::Ledger;
use landfast::random::Random;
use landfast::storage::Store;
use libtest_mimic::Trial;
use tempfile::TempDir;

use crate::rest::World;
use crate::rest::nessie::{Branch, assert_same_state, is_of_nessie};
use crate::support::bucket::{Bucket, Cloud};
use crate::support::postgres::fresh_database;
use crate::support::tables::{create, create_or_find, files_of, ids_now, order_creation, orders, summary};
use crate::support::{TestResult, test};

/// Two handles on the same tables, as two processes have them where the backend can be shared.
struct Catalogs {
    one: Arc<dyn Catalog>,
    other: Arc<dyn Catalog>,
    /// What they lie in.
    _kept: Box<dyn Any>,
}

#[derive(Debug, Clone, Copy)]
enum Backend {
    Memory,
    StorageInMemory,
    StorageOnDisk,
    StorageOnS3,
    StorageOnGcs,
    Sqlite,
    SqliteOnS3,
    SqliteOnGcs,
    Postgres,
    Rest,
    Nessie,
}

impl Backend {
    const ALL: [Self; 11] = [
        Self::Memory,
        Self::StorageInMemory,
        Self::StorageOnDisk,
        Self::StorageOnS3,
        Self::StorageOnGcs,
        Self::Sqlite,
        Self::SqliteOnS3,
        Self::SqliteOnGcs,
        Self::Postgres,
        Self::Rest,
        Self::Nessie,
    ];

    async fn open(self) -> TestResult<Catalogs> {
        let storage = |store: &Store| -> Arc<dyn Catalog> {
            Arc::new(StorageCatalog::new(store.clone(), Arc::new(SystemClock)))
        };
        Ok(match self {
            Self::Memory => {
                let catalog = Arc::new(MemoryCatalog::new(Store::open("memory:///w")?));
                Catalogs {
                    one: catalog.clone(),
                    other: catalog,
                    _kept: Box::new(()),
                }
            }
            Self::StorageInMemory => {
                let store = Store::open("memory:///w")?;
                Catalogs {
                    one: storage(&store),
                    other: storage(&store),
                    _kept: Box::new(()),
                }
            }
            Self::StorageOnDisk => {
                let folder = tempfile::tempdir()?;
                let location = format!("file://{}", folder.path().display());
                Catalogs {
                    one: storage(&Store::open(&location)?),
                    other: storage(&Store::open(&location)?),
                    _kept: Box::new(folder),
                }
            }
            Self::StorageOnS3 | Self::StorageOnGcs => {
                let bucket = Bucket::of(self.cloud()).await?;
                Catalogs {
                    one: storage(&bucket.store("warehouse")?),
                    other: storage(&bucket.store("warehouse")?),
                    _kept: Box::new(bucket),
                }
            }
            Self::Sqlite => {
                let folder = tempfile::tempdir()?;
                let uri = sqlite(&folder);
                Self::sql(folder, &uri, None).await?
            }
            Self::SqliteOnS3 | Self::SqliteOnGcs => {
                let folder = tempfile::tempdir()?;
                let uri = sqlite(&folder);
                Self::sql(folder, &uri, Some(Bucket::of(self.cloud()).await?)).await?
            }
            Self::Postgres => Self::sql(tempfile::tempdir()?, &fresh_database().await?, None).await?,
            Self::Rest => {
                let world = World::new().await?;
                Catalogs {
                    one: Arc::new(world.catalog().await?),
                    other: Arc::new(world.catalog().await?),
                    _kept: Box::new(world),
                }
            }
            Self::Nessie => {
                let branch = Branch::new().await?;
                Catalogs {
                    one: Arc::new(branch.catalog().await?),
                    other: Arc::new(branch.catalog().await?),
                    _kept: Box::new(branch),
                }
            }
        })
    }

    fn cloud(self) -> Cloud {
        match self {
            Self::StorageOnGcs | Self::SqliteOnGcs => Cloud::Gcs,
            _ => Cloud::S3,
        }
    }

    async fn sql(folder: TempDir, uri: &str, bucket: Option<Bucket>) -> TestResult<Catalogs> {
        let location = format!("file://{}/warehouse", folder.path().display());
        let open = async |seed| {
            let random = Arc::new(Random::seeded(seed));
            let store = match &bucket {
                Some(bucket) => bucket.store("warehouse")?,
                None => Store::open(&location)?,
            };
            let catalog = SqlCatalog::open(&uri.parse()?, "landfast", store, random).await?;
            let catalog: Arc<dyn Catalog> = Arc::new(catalog);
            TestResult::Ok(catalog)
        };
        let (one, other) = tokio::join!(open(1), open(2));
        Ok(Catalogs {
            one: one?,
            other: other?,
            _kept: Box::new((folder, bucket)),
        })
    }
}

fn sqlite(folder: &TempDir) -> String {
    format!("sqlite://{}/catalog.db", folder.path().display())
}

/// Every case on every backend.
macro_rules! conformance {
    ($($case:ident),* $(,)?) => {{
        let mut trials = Vec::new();
        for backend in Backend::ALL {
            $(trials.push(test(
                &format!("{}::{}::{backend:?}", module_path!(), stringify!($case)),
                move || async move { $case(&backend.open().await?).await },
            ));)*
        }
        trials
    }};
}

pub fn tests() -> Vec<Trial> {
    conformance![
        created_table_is_loaded_by_every_handle,
        list_names_the_tables_of_a_namespace_only,
        missing_table_is_not_found,
        second_creation_finds_the_first,
        creation_race_has_one_winner,
        dropped_table_is_gone_and_its_name_is_free,
        commit_from_before_a_drop_is_refused,
        stale_commit_is_a_conflict_without_effect,
        stale_property_is_a_conflict_where_every_commit_fences,
        unmet_requirement_is_a_conflict_without_effect,
        changes_that_do_not_fit_are_rejected,
        commits_are_seen_by_the_other_handle,
        concurrent_committers_lose_nothing,
    ]
}

fn set_property(base: &Table, key: &str, value: &str) -> TableCommit {
    TableCommit {
        requirements: vec![TableRequirement::UuidMatch {
            uuid: base.metadata().uuid(),
        }],
        updates: vec![TableUpdate::SetProperties {
            updates: [(key.to_owned(), value.to_owned())].into(),
        }],
    }
}

async fn created_table_is_loaded_by_every_handle(catalogs: &Catalogs) -> TestResult {
    let created = create(catalogs.one.as_ref(), &orders()).await?;
    for catalog in [&catalogs.one, &catalogs.other] {
        let loaded = catalog.load_table(&orders()).await?;
        assert_eq!(loaded.metadata().uuid(), created.metadata().uuid());
        assert_eq!(loaded.metadata_location(), created.metadata_location());
        assert_eq!(loaded.metadata(), created.metadata());
        assert_eq!(loaded.identifier(), &orders());
    }
    Ok(())
}

async fn list_names_the_tables_of_a_namespace_only(catalogs: &Catalogs) -> TestResult {
    let catalog = catalogs.one.as_ref();
    let names = [
        "shop.orders",
        "shop.items",
        "shop.eu.orders",
        "shop.eu.north.orders",
        "shopping.carts",
    ];
    for name in names {
        create(catalog, &TableIdent::from_strs(name.split('.'))?).await?;
    }
    for (namespace, expected) in [
        ("shop", vec!["shop.items", "shop.orders"]),
        ("shop.eu", vec!["shop.eu.orders"]),
        ("shop.eu.north", vec!["shop.eu.north.orders"]),
        ("none", vec![]),
    ] {
        let namespace = NamespaceIdent::from_strs(namespace.split('.'))?;
        let listed: Vec<String> = catalog
            .list_tables(&namespace)
            .await?
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(listed, expected);
    }
    Ok(())
}

async fn missing_table_is_not_found(catalogs: &Catalogs) -> TestResult {
    let catalog = catalogs.one.as_ref();
    let load = catalog.load_table(&orders()).await.expect_err("there is none");
    let drop = catalog.drop_table(&orders()).await.expect_err("there is none");
    assert_eq!(
        (load.kind(), drop.kind()),
        (ErrorKind::NotFound, ErrorKind::NotFound)
    );
    assert!(load.report().contains("shop.orders"), "{}", load.report());
    Ok(())
}

async fn second_creation_finds_the_first(catalogs: &Catalogs) -> TestResult {
    let first = create(catalogs.one.as_ref(), &orders()).await?;
    for catalog in [&catalogs.one, &catalogs.other] {
        let second = catalog
            .create_table(orders().namespace(), order_creation("orders"))
            .await;
        assert_eq!(second.expect_err("it exists").kind(), ErrorKind::AlreadyExists);
    }
    let loaded = catalogs.one.load_table(&orders()).await?;
    assert_eq!(loaded.metadata().uuid(), first.metadata().uuid());
    Ok(())
}

async fn creation_race_has_one_winner(catalogs: &Catalogs) -> TestResult {
    catalogs.one.create_namespace(orders().namespace()).await?;
    let race = (0..8).map(|runner| {
        let catalog = if runner % 2 == 0 {
            &catalogs.one
        } else {
            &catalogs.other
        };
        create_or_find(catalog.as_ref(), orders())
    });
    let ends = try_join_all(race).await?;
    assert_eq!(ends.iter().filter(|(won, _)| *won).count(), 1);
    let uuid = |table: &Table| table.metadata().uuid();
    assert!(ends.iter().all(|(_, table)| uuid(table) == uuid(&ends[0].1)));
    Ok(())
}

async fn dropped_table_is_gone_and_its_name_is_free(catalogs: &Catalogs) -> TestResult {
    let catalog = catalogs.one.as_ref();
    for _ in 0..2 {
        let table = create(catalog, &orders()).await?;
        catalogs.other.drop_table(&orders()).await?;
        let gone = catalog.load_table(&orders()).await.expect_err("it was dropped");
        assert_eq!(gone.kind(), ErrorKind::NotFound);
        assert!(catalog.list_tables(orders().namespace()).await?.is_empty());
        let again = create(catalog, &orders()).await?;
        assert_ne!(again.metadata().uuid(), table.metadata().uuid());
        catalog.drop_table(&orders()).await?;
    }
    Ok(())
}

async fn commit_from_before_a_drop_is_refused(catalogs: &Catalogs) -> TestResult {
    let catalog = catalogs.one.as_ref();
    let old = create(catalog, &orders()).await?;
    catalogs.other.drop_table(&orders()).await?;
    let refused = |outcome: Outcome| !matches!(outcome, Outcome::Committed(_) | Outcome::OutcomeUnknown(_));
    assert!(refused(
        catalog.commit_table(&old, set_property(&old, "a", "1")).await
    ));
    assert!(catalog.load_table(&orders()).await.is_err());

    let new = create(catalog, &orders()).await?;
    assert!(refused(
        catalog.commit_table(&old, set_property(&old, "a", "1")).await
    ));
    let now = catalog.load_table(&orders()).await?;
    assert_eq!(now.metadata_location(), new.metadata_location());
    Ok(())
}

async fn stale_commit_is_a_conflict_without_effect(catalogs: &Catalogs) -> TestResult {
    let base = create(catalogs.one.as_ref(), &orders()).await?;
    let base_of_other = catalogs.other.load_table(&orders()).await?;
    // With a snapshot, as that is what moves every backend's fence.
    let random = Arc::new(Random::seeded(1));
    let ledger = Ledger::new(Store::open("memory:///ledgers")?);
    let engine = Engine::new(
        catalogs.one.clone(),
        ledger,
        Arc::new(SystemClock),
        random.clone(),
    );
    let mut head = engine.head(base.clone()).await?;
    let mut changes = ChangeSet::append(random.uuid(), Moment::now(&SystemClock));
    let files = files_of(&base, &[1], &random).await?;
    changes.add(Group::durable(files, Vec::new()));
    engine.attempt(&mut head, &mut changes).await?;
    for catalog in [&catalogs.one, &catalogs.other] {
        let stale = catalog
            .commit_table(&base_of_other, set_property(&base, "a", "stale"))
            .await;
        assert!(matches!(stale, Outcome::Conflict(_)), "{stale:?}");
    }
    let now = catalogs.one.load_table(&orders()).await?;
    assert_same_state(&now, head.table());
    assert!(!now.metadata().properties().contains_key("a"));
    Ok(())
}

/// Without a snapshot, too, where the backend promises it.
async fn stale_property_is_a_conflict_where_every_commit_fences(catalogs: &Catalogs) -> TestResult {
    let base = create(catalogs.one.as_ref(), &orders()).await?;
    let base_of_other = catalogs.other.load_table(&orders()).await?;
    let first = catalogs
        .one
        .commit_table(&base, set_property(&base, "a", "first"))
        .await;
    assert!(matches!(first, Outcome::Committed(_)), "{first:?}");
    for catalog in [&catalogs.one, &catalogs.other] {
        let stale = catalog
            .commit_table(&base_of_other, set_property(&base, "b", "stale"))
            .await;
        let fences = !catalog.fences_by_snapshot();
        assert_eq!(matches!(stale, Outcome::Conflict(_)), fences, "{stale:?}");
        assert_eq!(matches!(stale, Outcome::Committed(_)), !fences, "{stale:?}");
    }
    let now = catalogs.one.load_table(&orders()).await?;
    assert_eq!(now.metadata().properties()["a"], "first");
    Ok(())
}

async fn unmet_requirement_is_a_conflict_without_effect(catalogs: &Catalogs) -> TestResult {
    let catalog = catalogs.one.as_ref();
    let base = create(catalog, &orders()).await?;
    let metadata = base.metadata();
    for requirement in [
        TableRequirement::UuidMatch {
            uuid: Random::seeded(1).uuid(),
        },
        TableRequirement::RefSnapshotIdMatch {
            r#ref: "main".to_owned(),
            snapshot_id: Some(7),
        },
        TableRequirement::CurrentSchemaIdMatch {
            current_schema_id: metadata.current_schema_id() + 1,
        },
        TableRequirement::DefaultSpecIdMatch {
            default_spec_id: metadata.default_partition_spec_id() + 1,
        },
    ] {
        let commit = TableCommit {
            requirements: vec![requirement],
            ..set_property(&base, "a", "1")
        };
        let outcome = catalog.commit_table(&base, commit).await;
        assert!(matches!(outcome, Outcome::Conflict(_)), "{outcome:?}");
    }
    let now = catalog.load_table(&orders()).await?;
    assert_eq!(now.metadata_location(), base.metadata_location());
    Ok(())
}

async fn changes_that_do_not_fit_are_rejected(catalogs: &Catalogs) -> TestResult {
    let catalog = catalogs.one.as_ref();
    let base = create(catalog, &orders()).await?;
    let commit = TableCommit {
        requirements: Vec::new(),
        updates: vec![TableUpdate::SetCurrentSchema { schema_id: 99 }],
    };
    let outcome = catalog.commit_table(&base, commit).await;
    assert!(matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
    let now = catalog.load_table(&orders()).await?;
    assert_eq!(now.metadata_location(), base.metadata_location());
    Ok(())
}

async fn commits_are_seen_by_the_other_handle(catalogs: &Catalogs) -> TestResult {
    create(catalogs.one.as_ref(), &orders()).await?;
    for turn in 0..6 {
        let (catalog, other) = if turn % 2 == 0 {
            (&catalogs.one, &catalogs.other)
        } else {
            (&catalogs.other, &catalogs.one)
        };
        let base = catalog.load_table(&orders()).await?;
        let value = turn.to_string();
        let outcome = catalog
            .commit_table(&base, set_property(&base, "turn", &value))
            .await;
        let Outcome::Committed(committed) = outcome else {
            return Err(format!("{outcome:?}").into());
        };
        let seen = other.load_table(&orders()).await?;
        assert_eq!(seen.metadata().properties()["turn"], value);
        assert_same_state(&seen, &committed);
    }
    Ok(())
}

async fn concurrent_committers_lose_nothing(catalogs: &Catalogs) -> TestResult {
    const COMMITTERS: u64 = 8;
    const COMMITS: u64 = 4;
    create(catalogs.one.as_ref(), &orders()).await?;
    let commit_all = |committer: u64| {
        let catalog = if committer.is_multiple_of(2) {
            catalogs.one.clone()
        } else {
            catalogs.other.clone()
        };
        tokio::spawn(async move {
            let random = Arc::new(Random::seeded(committer));
            let ledger = Ledger::new(Store::open("memory:///ledgers")?);
            let engine = Engine::new(catalog.clone(), ledger, Arc::new(SystemClock), random.clone());
            let mut head = engine.head(catalog.load_table(&orders()).await?).await?;
            for commit in 0..COMMITS {
                let id = i64::try_from(committer * COMMITS + commit)?;
                let mut changes = ChangeSet::append(random.uuid(), Moment::now(&SystemClock));
                let files = files_of(head.table(), &[id], &random).await?;
                changes.add(Group::durable(files, Vec::new()));
                while let Err(error) = engine.attempt(&mut head, &mut changes).await {
                    // Nothing fails here, so that nothing may be unknown either.
                    assert_eq!(error.kind(), ErrorKind::Conflict, "{}", error.report());
                    assert_eq!(error.kind().action(), Action::Retry);
                    engine.reload(&mut head, &changes).await?;
                }
            }
            TestResult::Ok(())
        })
    };
    for ended in join_all((0..COMMITTERS).map(commit_all)).await {
        ended??;
    }
    let total = COMMITTERS * COMMITS;
    let table = catalogs.one.load_table(&orders()).await?;
    assert_eq!(summary(&table, "total-records"), Some(total.to_string()));
    // Where a table without a snapshot is no fence, an empty one goes first.
    let empty = u64::from(catalogs.one.fences_by_snapshot());
    // Nessie has the others in its own history.
    let kept = if is_of_nessie(&table) { 1 } else { total + empty };
    assert_eq!(table.metadata().snapshots().count() as u64, kept);
    let expected: Vec<i64> = (0..i64::try_from(total)?).collect();
    assert_eq!(ids_now(catalogs.other.as_ref(), &orders()).await?, expected);
    Ok(())
}
