//! What the storage catalog adds: version files, the hint for other readers, and its fence.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use iceberg::TableUpdate;
use iceberg::table::Table;
use landfast::catalog::{Catalog, Outcome, StorageCatalog, TableCommit};
use landfast::error::ErrorKind;
use landfast::storage::Store;
use libtest_mimic::Trial;
use object_store::memory::InMemory;
use tokio::time::Instant;

use crate::support::clock::TestClock;
use crate::support::faults::{Fault, Faults, Op};
use crate::support::tables::{create, orders};
use crate::support::{TestResult, paused_trials, wait_for};

const HINT: &str = "shop/orders/metadata/version-hint.text";

pub fn tests() -> Vec<Trial> {
    paused_trials![
        states_are_numbered_files,
        hint_is_written_at_most_every_two_seconds_and_ends_up_newest,
        hint_names_the_newest_after_settle,
        hint_that_is_slow_never_overwrites_a_newer_one,
        hint_names_a_commit_whose_answer_was_lost,
        hint_that_cannot_be_written_does_no_harm,
        foreign_files_do_no_harm,
        garbage_under_a_version_is_named,
        commit_is_not_trusted_ten_minutes_after_its_base_was_newest,
        lost_answer_of_the_metadata_write_is_unknown,
        repeated_metadata_write_is_a_conflict,
    ]
}

struct World {
    faults: Faults,
    store: Store,
    clock: Arc<TestClock>,
    catalog: StorageCatalog,
}

impl World {
    fn new() -> Self {
        let faults = Faults::default();
        let store = faults.store("memory:///w", InMemory::new());
        let clock = TestClock::at(Utc::now());
        let catalog = StorageCatalog::new(store.clone(), clock.clone());
        Self {
            faults,
            store,
            clock,
            catalog,
        }
    }

    async fn commit(&self, base: &Table) -> TestResult<Table> {
        match self.catalog.commit_table(base, touch()).await {
            Outcome::Committed(table) => Ok(*table),
            outcome => Err(format!("{outcome:?}").into()),
        }
    }

    async fn hinted(&self) -> TestResult<Option<String>> {
        let bytes = self.store.get(HINT).await?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
}

fn touch() -> TableCommit {
    TableCommit {
        requirements: Vec::new(),
        updates: vec![TableUpdate::SetProperties {
            updates: [("touched".to_owned(), "yes".to_owned())].into(),
        }],
    }
}

async fn states_are_numbered_files() -> TestResult {
    let world = World::new();
    let mut table = create(&world.catalog, &orders()).await?;
    for _ in 0..9 {
        table = world.commit(&table).await?;
    }
    assert_eq!(
        table.metadata_location(),
        Some("memory:///w/shop/orders/metadata/v10.metadata.json")
    );
    let loaded = world.catalog.load_table(&orders()).await?;
    assert_eq!(loaded.metadata_location(), table.metadata_location());
    Ok(())
}

async fn hint_is_written_at_most_every_two_seconds_and_ends_up_newest() -> TestResult {
    let world = World::new();
    let mut table = create(&world.catalog, &orders()).await?;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        table = world.commit(&table).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let writes = world.faults.calls(Op::Put, "version-hint.text");
    assert!((5..=6).contains(&writes), "{writes} writes in 10 s");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.hinted().await?.as_deref(), Some("101"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.faults.calls(Op::Put, "version-hint.text") <= writes + 1);
    Ok(())
}

async fn hint_names_the_newest_after_settle() -> TestResult {
    let world = World::new();
    let mut table = create(&world.catalog, &orders()).await?;
    for _ in 0..5 {
        table = world.commit(&table).await?;
    }
    world.catalog.settle().await;
    assert_eq!(world.hinted().await?.as_deref(), Some("6"));
    // Nothing of it comes back to whoever removes the table then.
    world.store.delete(HINT).await?;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.hinted().await?, None);
    Ok(())
}

async fn hint_that_is_slow_never_overwrites_a_newer_one() -> TestResult {
    let world = World::new();
    let gate = world.faults.hold(Op::Put, "version-hint.text");
    let table = create(&world.catalog, &orders()).await?;
    gate.reached().await;
    world.commit(&table).await?;
    let settling = tokio::spawn({
        let catalog = world.catalog.clone();
        async move { catalog.settle().await }
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    gate.release_and_settle().await;
    settling.await?;
    assert_eq!(world.hinted().await?.as_deref(), Some("2"));
    Ok(())
}

async fn hint_names_a_commit_whose_answer_was_lost() -> TestResult {
    let world = World::new();
    let table = create(&world.catalog, &orders()).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(world.hinted().await?.as_deref(), Some("1"));
    world.faults.once(Op::Put, "v2.metadata.json", Fault::FailAfter);
    let outcome = world.catalog.commit_table(&table, touch()).await;
    assert!(matches!(outcome, Outcome::OutcomeUnknown(_)), "{outcome:?}");
    wait_for("the hint of v2", Duration::from_secs(5), async || {
        world.hinted().await.ok().flatten().filter(|hint| hint == "2")
    })
    .await?;
    Ok(())
}

async fn hint_that_cannot_be_written_does_no_harm() -> TestResult {
    let world = World::new();
    world.faults.once(Op::Put, "version-hint.text", Fault::Refuse);
    let table = create(&world.catalog, &orders()).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(world.hinted().await?, None);
    world.commit(&table).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(world.hinted().await?.as_deref(), Some("2"));
    Ok(())
}

async fn foreign_files_do_no_harm() -> TestResult {
    let world = World::new();
    let table = create(&world.catalog, &orders()).await?;
    for name in [
        "version-hint.text",
        "00000-3f0f.metadata.json",
        "v9.metadata.json.tmp",
        "v9.gz.metadata.json",
        "v09.metadata.json",
        "v+9.metadata.json",
        "v99999999999999999999.metadata.json",
        "vx.metadata.json",
        "zz/v9.metadata.json",
        "v9.metadata.json/part",
        "snap-1-1-a.avro",
    ] {
        let foreign = Bytes::from_static(b"9");
        let key = format!("shop/orders/metadata/{name}");
        world.store.put(&key, foreign).await?;
        let loaded = world.catalog.load_table(&orders()).await;
        let loaded = loaded.map_err(|error| format!("{name}: {}", error.report()))?;
        assert_eq!(loaded.metadata_location(), table.metadata_location(), "{name}");
    }
    world.commit(&table).await?;
    world.catalog.settle().await;
    assert_eq!(world.hinted().await?.as_deref(), Some("2"));
    Ok(())
}

async fn garbage_under_a_version_is_named() -> TestResult {
    let world = World::new();
    create(&world.catalog, &orders()).await?;
    for garbage in ["", "{}", "not json", "{\"format-version\": 9}"] {
        let key = "shop/orders/metadata/v2.metadata.json";
        world
            .store
            .put(key, Bytes::from_static(garbage.as_bytes()))
            .await?;
        let error = world.catalog.load_table(&orders()).await.expect_err("garbage");
        assert_eq!(error.kind(), ErrorKind::Rejected, "{garbage}");
        let place = "memory:///w/shop/orders/metadata/v2.metadata.json";
        assert!(error.report().contains(place), "{}", error.report());
    }
    Ok(())
}

async fn commit_is_not_trusted_ten_minutes_after_its_base_was_newest() -> TestResult {
    // A base that is old is looked at before it is sent, so that what has landed is not looked up as if it were lost.
    for minutes in [-60, 4, 9, 11, 60 * 24] {
        let world = World::new();
        let base = create(&world.catalog, &orders()).await?;
        // The hint of the creation is written by then.
        tokio::time::sleep(Duration::from_secs(3)).await;
        world.clock.advance(TimeDelta::minutes(minutes));
        let lists = world.faults.calls(Op::List, "metadata");
        world.commit(&base).await?;
        let lists = world.faults.calls(Op::List, "metadata") - lists;
        assert_eq!(lists > 0, minutes >= 5, "{minutes} min: {lists}");
    }
    // One that is the newest no more is never sent: its next name may have been used, and freed.
    let world = World::new();
    let base = create(&world.catalog, &orders()).await?;
    let other = StorageCatalog::new(world.store.clone(), world.clock.clone());
    for _ in 0..2 {
        let newest = other.load_table(&orders()).await?;
        assert!(matches!(
            other.commit_table(&newest, touch()).await,
            Outcome::Committed(_)
        ));
    }
    world
        .store
        .delete("shop/orders/metadata/v2.metadata.json")
        .await?;
    world.clock.advance(TimeDelta::minutes(11));
    let outcome = world.catalog.commit_table(&base, touch()).await;
    assert!(matches!(outcome, Outcome::Conflict(_)), "{outcome:?}");
    // Whoever cannot look sends nothing.
    let world = World::new();
    let base = create(&world.catalog, &orders()).await?;
    world.clock.advance(TimeDelta::minutes(11));
    world.faults.once(Op::List, "metadata", Fault::Refuse);
    let outcome = world.catalog.commit_table(&base, touch()).await;
    assert!(matches!(outcome, Outcome::OutcomeUnknown(_)), "{outcome:?}");
    world.commit(&world.catalog.load_table(&orders()).await?).await?;

    // The create itself may be what takes so long.
    let world = World::new();
    let base = create(&world.catalog, &orders()).await?;
    let gate = world.faults.hold(Op::Put, "v2.metadata.json");
    let commit = world.catalog.commit_table(&base, touch());
    let slowly = async {
        gate.reached().await;
        world.clock.advance(TimeDelta::minutes(11));
        gate.release();
    };
    let (outcome, ()) = tokio::join!(commit, slowly);
    assert!(matches!(outcome, Outcome::OutcomeUnknown(_)), "{outcome:?}");
    Ok(())
}

async fn lost_answer_of_the_metadata_write_is_unknown() -> TestResult {
    for (fault, lands) in [(Fault::Refuse, false), (Fault::FailAfter, true)] {
        let world = World::new();
        let base = create(&world.catalog, &orders()).await?;
        world.faults.once(Op::Put, "v2.metadata.json", fault);
        let outcome = world.catalog.commit_table(&base, touch()).await;
        assert!(matches!(outcome, Outcome::OutcomeUnknown(_)), "{outcome:?}");
        let now = world.catalog.load_table(&orders()).await?;
        assert_eq!(now.metadata().properties().contains_key("touched"), lands);
    }
    Ok(())
}

async fn repeated_metadata_write_is_a_conflict() -> TestResult {
    let world = World::new();
    let base = create(&world.catalog, &orders()).await?;
    world.faults.once(Op::Put, "v2.metadata.json", Fault::Repeat);
    let outcome = world.catalog.commit_table(&base, touch()).await;
    assert!(matches!(outcome, Outcome::Conflict(_)), "{outcome:?}");
    let now = world.catalog.load_table(&orders()).await?;
    assert!(now.metadata().properties().contains_key("touched"));
    Ok(())
}
