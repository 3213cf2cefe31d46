//! Batch: group commit over faulty stores, with paused time and fixed seeds.

mod division;
mod faults;
mod letters;
mod opening;
mod pace;
mod race;
mod schedule;
mod width;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use landfast::batch::{Shared, Writers};
use landfast::catalog::{Catalog, StorageCatalog};
use landfast::clock::Clock;
use landfast::commit::Engine;
use landfast::config::{BatchConfig, SchemaConfig, TableConfig, TableDefaults};
use landfast::dead_letter::DeadLetters;
use landfast::error::{Error, ErrorKind};
use landfast::ledger::Ledger;
use landfast::random::Random;
use landfast::storage::Store;
use landfast::telemetry::{Trace, UnknownFields};
use landfast::trigger::{Ack, Delivery, DeliveryId, Envelope, Limits, Receipt};
use libtest_mimic::Trial;
use object_store::memory::InMemory;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::support::clock::TestClock;
use crate::support::faults::{Faults, Op};
use crate::support::tables::{ids_now, order_schema, orders};
use crate::support::{TestResult, wait_for};

pub fn tests() -> Vec<Trial> {
    [
        pace::tests(),
        race::tests(),
        division::tests(),
        faults::tests(),
        letters::tests(),
        opening::tests(),
        schedule::tests(),
        width::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

const SLOTS: usize = 20;
const ACK_DEADLINE: Duration = Duration::from_secs(50);
const INTERVAL: Duration = Duration::from_secs(2);

/// One process's writers over stores that may fail.
struct House {
    faults: Faults,
    warehouse: Store,
    letters: Store,
    letter_faults: Faults,
    catalog: Arc<dyn Catalog>,
    limits: Arc<Limits>,
    shared: Arc<Shared>,
    writers: Arc<Writers>,
    config: TableConfig,
    started: Instant,
}

/// A delivery under way: its outcome, and when it came.
struct Sent(JoinHandle<(Result<Receipt, Error>, Instant)>);

impl Sent {
    fn is_answered(&self) -> bool {
        self.0.is_finished()
    }

    async fn outcome(self) -> TestResult<(Result<Receipt, Error>, Instant)> {
        Ok(self.0.await?)
    }

    /// Acknowledged, and when.
    async fn acked(self) -> TestResult<(Receipt, Instant)> {
        let (outcome, at) = self.outcome().await?;
        Ok((outcome?, at))
    }

    /// Refused, and why.
    async fn nacked(self) -> TestResult<Error> {
        match self.outcome().await?.0 {
            Ok(receipt) => Err(format!("It was acknowledged: {receipt:?}").into()),
            Err(error) => Ok(error),
        }
    }
}

/// `shop.orders` with its schema declared.
fn declared() -> TableConfig {
    TableConfig {
        schema: SchemaConfig::Declared(order_schema().into()),
        batch: BatchConfig {
            commit_interval: INTERVAL,
            ..BatchConfig::default()
        },
        ..TableDefaults::default().to_table()
    }
}

/// `shop.orders` with its schema inferred.
fn inferred() -> TableConfig {
    TableConfig {
        schema: SchemaConfig::Inferred,
        ..declared()
    }
}

impl House {
    fn new(config: TableConfig) -> Self {
        let faults = Faults::default();
        let warehouse = faults.store("memory:///w", InMemory::new());
        let letter_faults = Faults::default();
        let letters = letter_faults.store("memory:///d", InMemory::new());
        let clock = TestClock::at(Utc::now());
        Self::over(config, 1, clock, (faults, warehouse), (letter_faults, letters))
    }

    fn over(
        config: TableConfig,
        seed: u64,
        clock: Arc<TestClock>,
        (faults, warehouse): (Faults, Store),
        (letter_faults, letters): (Faults, Store),
    ) -> Self {
        let clock: Arc<dyn Clock> = clock;
        let random = Arc::new(Random::seeded(seed));
        let catalog: Arc<dyn Catalog> = Arc::new(StorageCatalog::new(warehouse.clone(), clock.clone()));
        let limits = Limits::new(1 << 20, SLOTS);
        let shared = Arc::new(Shared {
            engine: Engine::new(
                catalog.clone(),
                Ledger::new(warehouse.clone()),
                clock.clone(),
                random.clone(),
            ),
            dead_letters: DeadLetters::new(letters.clone()),
            limits: limits.clone(),
            clock,
            random,
            unknown_fields: UnknownFields::default(),
            publishers: landfast::publish::Publishers::default(),
        });
        Self {
            faults,
            warehouse,
            letters,
            letter_faults,
            catalog,
            limits,
            writers: Writers::new(shared.clone()),
            shared,
            config,
            started: Instant::now(),
        }
    }

    /// A message of a subscription, and the handle that hears its answer.
    fn delivery(&self, message: &str, payload: &str, patience: Duration) -> TestResult<(Delivery, Sent)> {
        let mut held = self.limits.admit()?;
        held.grow(payload.len())?;
        let (ack, answer) = Ack::new();
        let published_at = DateTime::UNIX_EPOCH;
        let delivery = Delivery {
            envelope: Envelope {
                id: DeliveryId::message("projects/p/subscriptions/s", message, published_at),
                source: "projects/p/subscriptions/s".to_owned(),
                published_at,
                received_at: published_at,
                fingerprint: None,
                division: None,
                attributes: BTreeMap::new(),
            },
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            ack,
            held,
            deadline: Instant::now() + patience,
            trace: Trace::default(),
            is_replay: false,
            part_of: None,
        };
        let sent = tokio::spawn(async move { (answer.outcome().await, Instant::now()) });
        Ok((delivery, Sent(sent)))
    }

    /// Sends a payload as the message of this name.
    fn send_payload(&self, message: &str, payload: &str) -> TestResult<Sent> {
        let (delivery, sent) = self.delivery(message, payload, ACK_DEADLINE)?;
        self.writers.accept(orders(), &self.config, delivery);
        Ok(sent)
    }

    /// Sends one row; the message is named like it.
    fn send(&self, id: i64) -> TestResult<Sent> {
        self.send_payload(&id.to_string(), &row(id))
    }

    async fn ids(&self) -> TestResult<Vec<i64>> {
        ids_now(self.catalog.as_ref(), &orders()).await
    }

    /// Rows that each snapshot added, oldest first.
    async fn commits(&self) -> TestResult<Vec<u64>> {
        let table = self.catalog.load_table(&orders()).await?;
        let mut added: Vec<(i64, u64)> = Vec::new();
        for snapshot in table.metadata().snapshots() {
            let rows = snapshot.summary().additional_properties["added-records"].parse()?;
            added.push((snapshot.sequence_number(), rows));
        }
        added.sort_unstable();
        Ok(added.into_iter().map(|(_, rows)| rows).collect())
    }

    /// The reasons of every dead letter that counts, by kind.
    async fn letter_kinds(&self) -> TestResult<Vec<String>> {
        let mut kinds = Vec::new();
        for key in self.letters.keys("confirmed").await? {
            let bytes = self.letters.get(&key).await?.unwrap_or_default();
            for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let letter: serde_json::Value = serde_json::from_slice(line)?;
                kinds.push(letter["reason"]["kind"].as_str().unwrap_or_default().to_owned());
            }
        }
        kinds.sort();
        Ok(kinds)
    }

    /// Ends the process: everything is answered, nothing is held, and nothing was ever deleted.
    async fn close(&self) -> TestResult {
        self.writers.close().await;
        wait_for(
            "the held bytes and requests",
            Duration::from_secs(1),
            async || {
                let held = (self.limits.held_bytes(), self.limits.held_requests());
                (held == (0, 0)).then_some(())
            },
        )
        .await?;
        assert_eq!(self.faults.calls(Op::Delete, ""), 0);
        Ok(())
    }
}

fn row(id: i64) -> String {
    format!("{{\"id\":{id},\"name\":\"n{id}\"}}")
}

/// Lets everything run that needs no time to pass.
async fn idle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

fn unavailable(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
}
