//! The writers of a process: one per table, made on its first delivery.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use iceberg::TableIdent;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::committer::Committer;
use super::division::Ledgers;
use super::gauge::Gauge;
use super::opening::TableSettings;
use super::shared::Shared;
use super::writer::Writer;
use crate::config::TableConfig;
use crate::error::{Error, ErrorKind};
use crate::trigger::Delivery;

/// Tables that one process feeds at the most; each costs two tasks and its cached metadata.
const MAX_TABLES: usize = 1000;

struct Handle {
    deliveries: mpsc::UnboundedSender<Delivery>,
    gauge: Arc<Gauge>,
    tasks: [JoinHandle<()>; 2],
}

/// The writers of a process. Deliveries go in; their ack handles are used once their rows are committed.
pub struct Writers {
    shared: Arc<Shared>,
    ledgers: Ledgers,
    /// `None` once closed.
    tables: Mutex<Option<HashMap<TableIdent, Handle>>>,
}

impl Writers {
    /// Makes the writers; none runs yet.
    pub fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            ledgers: Ledgers::new(shared.clone()),
            shared,
            tables: Mutex::new(Some(HashMap::new())),
        })
    }

    /// What their tables have of deliveries that are to be divided.
    pub(super) fn ledgers(&self) -> &Ledgers {
        &self.ledgers
    }

    fn tables(&self) -> MutexGuard<'_, Option<HashMap<TableIdent, Handle>>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a delivery to its table's writer. Returns at once; the ack handle tells what became of it.
    ///
    /// Deliveries that wait are bounded by the limits that each of them holds a share of.
    pub fn accept(&self, ident: TableIdent, config: &TableConfig, delivery: Delivery) {
        let mut tables = self.tables();
        let Some(tables) = tables.as_mut() else {
            return delivery.ack.nack(shutting_down());
        };
        // A pair that ended badly is replaced by the next delivery.
        let running = tables.get(&ident).filter(|handle| !handle.deliveries.is_closed());
        if let Some(handle) = running {
            return send(&handle.deliveries, delivery);
        }
        if tables.len() >= MAX_TABLES && !tables.contains_key(&ident) {
            return delivery.ack.nack(
                Error::new(
                    ErrorKind::Unavailable,
                    "This process feeds as many tables as it can; add an instance.",
                )
                .with("table", &ident)
                .with("tables", MAX_TABLES),
            );
        }
        let handle = self.start(ident.clone(), config);
        send(&handle.deliveries, delivery);
        tables.insert(ident, handle);
    }

    fn start(&self, ident: TableIdent, config: &TableConfig) -> Handle {
        let (deliveries, incoming) = mpsc::unbounded_channel();
        let (wants, wanted) = mpsc::unbounded_channel();
        let gauge = Arc::new(Gauge::default());
        let settings = Arc::new(TableSettings::from(config));
        let writer = Writer::new(
            ident.clone(),
            settings,
            self.shared.clone(),
            gauge.clone(),
            incoming,
            wanted,
        );
        let committer = Committer::new(ident, config.ledger.retention, self.shared.clone(), wants);
        let tasks = [tokio::spawn(writer.run()), tokio::spawn(committer.run())];
        Handle {
            deliveries,
            gauge,
            tasks,
        }
    }

    /// Flushes the fullest table whenever held requests cross 80 % of the slots, for as long as it is polled.
    pub async fn relieve_pressure(&self) {
        loop {
            self.shared.limits.pressure().await;
            let tables = self.tables();
            let fullest = tables
                .iter()
                .flatten()
                .max_by_key(|(_, table)| table.gauge.waiting());
            if let Some((_, table)) = fullest {
                table.gauge.flush.notify_one();
            }
        }
    }

    /// Takes no more, flushes and commits what came, answers it, and returns when every writer has ended.
    pub async fn close(&self) {
        let tables = self.tables().take().unwrap_or_default();
        let mut tasks = Vec::new();
        for (_, handle) in tables {
            // Dropping the sender is what tells the writer to finish.
            tasks.extend(handle.tasks);
        }
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "A writer ended badly; its deliveries come again.");
            }
        }
    }
}

impl std::fmt::Debug for Writers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.tables().as_ref().map_or(0, HashMap::len);
        f.debug_struct("Writers")
            .field("tables", &count)
            .finish_non_exhaustive()
    }
}

fn send(deliveries: &mpsc::UnboundedSender<Delivery>, delivery: Delivery) {
    if let Err(unsent) = deliveries.send(delivery) {
        unsent.0.ack.nack(Error::new(
            ErrorKind::Unavailable,
            "The table's writer has ended; deliver it again.",
        ));
    }
}

fn shutting_down() -> Error {
    Error::new(
        ErrorKind::ShuttingDown,
        "The process is stopping; deliver it again.",
    )
}
