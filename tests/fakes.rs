//! Tests of the fakes: a fault that does not happen, or happens to something else, proves nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta};
use landfast::catalog::{Catalog, MemoryCatalog, Outcome, TableCommit};
use landfast::clock::{Clock, Moment};
use landfast::storage::{Creation, Store};
use libtest_mimic::Trial;
use object_store::memory::InMemory;
use tokio::time::Instant;

use crate::support::clock::TestClock;
use crate::support::faults::{Fault, FaultCatalog, Faults, Gate, Op};
use crate::support::tables::{create, orders};
use crate::support::{TestResult, paused_trials};

pub fn tests() -> Vec<Trial> {
    paused_trials![
        refused_put_applies_nothing,
        put_that_fails_after_is_applied,
        repeated_create_says_exists,
        held_put_waits_for_its_release,
        held_put_of_a_caller_that_went_away_lands,
        late_put_lands_after_its_error,
        delayed_get_takes_its_time,
        refused_list_and_delete_are_errors,
        rules_watch_their_operation_and_path_only,
        catalog_loses_the_answer_of_a_commit,
        clock_moves_only_when_told,
    ]
}

fn world() -> (Faults, Store) {
    let faults = Faults::default();
    let store = faults.store("memory:///w", InMemory::new());
    (faults, store)
}

const ONE: Bytes = Bytes::from_static(b"1");

async fn refused_put_applies_nothing() -> TestResult {
    let (faults, store) = world();
    faults.once(Op::Put, "a", Fault::Refuse);
    assert!(store.put("a", ONE).await.is_err());
    assert_eq!(store.get("a").await?, None);
    store.put("a", ONE).await?;
    assert_eq!(
        (faults.calls(Op::Put, "a"), store.get("a").await?),
        (2, Some(ONE))
    );
    Ok(())
}

async fn put_that_fails_after_is_applied() -> TestResult {
    let (faults, store) = world();
    faults.once(Op::Put, "a", Fault::FailAfter);
    assert!(store.create("a", ONE).await.is_err());
    assert_eq!(store.create("a", ONE).await?, Creation::Exists);
    Ok(())
}

async fn repeated_create_says_exists() -> TestResult {
    let (faults, store) = world();
    faults.once(Op::Put, "a", Fault::Repeat);
    assert_eq!(store.create("a", ONE).await?, Creation::Exists);
    assert_eq!(store.get("a").await?, Some(ONE));
    Ok(())
}

async fn held_put_waits_for_its_release() -> TestResult {
    let (faults, store) = world();
    let gate = faults.hold(Op::Put, "a");
    let put = tokio::spawn({
        let store = store.clone();
        async move { store.create("a", ONE).await }
    });
    gate.reached().await;
    assert_eq!(store.get("a").await?, None);
    gate.release_and_settle().await;
    assert_eq!(put.await??, Creation::Created);
    Ok(())
}

async fn held_put_of_a_caller_that_went_away_lands() -> TestResult {
    let (faults, store) = world();
    let gate = faults.hold(Op::Put, "a");
    let impatient = tokio::time::timeout(Duration::from_secs(1), store.put("a", ONE)).await;
    assert!(impatient.is_err());
    gate.release_and_settle().await;
    assert_eq!(store.get("a").await?, Some(ONE));
    Ok(())
}

async fn late_put_lands_after_its_error() -> TestResult {
    let (faults, store) = world();
    let gate = Gate::new();
    faults.once(Op::Put, "a", Fault::Late(gate.clone()));
    assert!(store.create("a", ONE).await.is_err());
    assert_eq!(store.get("a").await?, None);
    gate.release_and_settle().await;
    assert_eq!(store.get("a").await?, Some(ONE));
    Ok(())
}

async fn delayed_get_takes_its_time() -> TestResult {
    let (faults, store) = world();
    store.put("a", ONE).await?;
    faults.once(Op::Get, "a", Fault::Delay(Duration::from_secs(3)));
    let start = Instant::now();
    assert_eq!(store.get("a").await?, Some(ONE));
    assert_eq!(start.elapsed().as_secs(), 3);
    Ok(())
}

async fn refused_list_and_delete_are_errors() -> TestResult {
    let (faults, store) = world();
    store.put("f/a", ONE).await?;
    faults.once(Op::List, "f", Fault::Refuse);
    faults.once(Op::Delete, "f/a", Fault::Refuse);
    assert!(store.keys("f").await.is_err());
    assert_eq!(store.keys("f").await?, ["f/a"]);
    let io = store.file_io();
    assert!(io.delete("memory:///w/f/a").await.is_err());
    io.delete("memory:///w/f/a").await?;
    assert!(store.keys("f").await?.is_empty());
    Ok(())
}

async fn rules_watch_their_operation_and_path_only() -> TestResult {
    let (faults, store) = world();
    faults.always(Op::Put, "f/*.parquet", Fault::Refuse);
    store.put("f/a.avro", ONE).await?;
    store.put("g/a.parquet", ONE).await?;
    assert!(store.put("f/a.parquet", ONE).await.is_err());
    assert_eq!(store.get("f/a.parquet").await?, None);
    faults.clear();
    store.put("f/a.parquet", ONE).await?;
    Ok(())
}

async fn catalog_loses_the_answer_of_a_commit() -> TestResult {
    let (faults, store) = world();
    let catalog = FaultCatalog::new(Arc::new(MemoryCatalog::new(store)), &faults);
    let base = create(&catalog, &orders()).await?;
    let nothing = || TableCommit {
        requirements: Vec::new(),
        updates: Vec::new(),
    };
    for (fault, moves) in [(Fault::Refuse, false), (Fault::FailAfter, true)] {
        faults.once(Op::CommitTable, "shop.orders", fault);
        let outcome = catalog.commit_table(&base, nothing()).await;
        assert!(matches!(outcome, Outcome::OutcomeUnknown(_)), "{outcome:?}");
        let now = catalog.load_table(&orders()).await?;
        assert_eq!(now.metadata_location() != base.metadata_location(), moves);
    }
    faults.once(Op::LoadTable, "shop.orders", Fault::Refuse);
    assert!(catalog.load_table(&orders()).await.is_err());
    faults.once(Op::DropTable, "shop.orders", Fault::FailAfter);
    assert!(catalog.drop_table(&orders()).await.is_err());
    faults.once(Op::CreateTable, "shop.orders", Fault::Repeat);
    assert!(create(&catalog, &orders()).await.is_err());
    assert!(catalog.load_table(&orders()).await.is_ok());
    Ok(())
}

async fn clock_moves_only_when_told() -> TestResult {
    let clock = TestClock::at(DateTime::UNIX_EPOCH);
    let moment = Moment::now(clock.as_ref());
    assert_eq!(moment.elapsed(clock.as_ref()), Duration::ZERO);
    clock.advance(TimeDelta::minutes(5));
    assert_eq!(moment.elapsed(clock.as_ref()), Duration::from_secs(300));
    clock.advance(TimeDelta::minutes(-10));
    assert_eq!(clock.now(), DateTime::UNIX_EPOCH - TimeDelta::minutes(5));
    Ok(())
}
