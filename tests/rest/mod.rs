//! What the REST catalog adds: answers that prove something of a commit or nothing, tokens, and other engines.

mod biglake;
mod engines;
mod identity;
pub mod nessie;
mod outcomes;
mod reading;
mod refs;
mod serve;
mod site;
mod snapshots;
mod terms;
pub mod tls;
mod vended;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use landfast::catalog::{Catalog, Patience, RestCatalog};
use landfast::clock::{Clock, Moment, SystemClock};
use landfast::commit::{ChangeSet, Engine, Group, Head};
use landfast::config::{RestAuth, RestCatalogConfig};
use landfast::error::Result;
use landfast::ledger::{Entry, Known, Ledger, Space};
use landfast::random::Random;
use landfast::storage::Store;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::support::proxy::{Call, Proxy};
use crate::support::tables::{create, files_of, ids_now, orders};
use crate::support::{Component, TestResult, needs};

pub fn tests() -> Vec<Trial> {
    [
        outcomes::tests(),
        identity::tests(),
        reading::tests(),
        refs::tests(),
        snapshots::tests(),
        terms::tests(),
        biglake::tests(),
        engines::tests(),
        serve::tests(),
        tls::tests(),
        vended::tests(),
        nessie::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The reference server's address and warehouse.
fn place() -> TestResult<(String, String)> {
    let place = needs(Component::Rest)?;
    let (uri, warehouse) = place.split_once(' ').ok_or("an address and a warehouse")?;
    Ok((uri.to_owned(), warehouse.to_owned()))
}

/// A corner of the reference server, behind a proxy.
pub struct World {
    pub proxy: Proxy,
    pub warehouse: String,
}

impl World {
    /// Makes an empty one. Ends the test as ignored where there is no server.
    pub async fn new() -> TestResult<Self> {
        let (uri, warehouse) = place()?;
        Ok(Self {
            proxy: Proxy::before(&uri).await?,
            warehouse,
        })
    }

    /// A configuration without anything that can be left out.
    pub fn config(&self) -> RestCatalogConfig {
        RestCatalogConfig {
            uri: self.proxy.url(),
            warehouse: None,
            prefix: None,
            auth: RestAuth::None,
            headers: BTreeMap::new(),
        }
    }

    /// A catalog with connections of its own.
    pub async fn catalog(&self) -> TestResult<RestCatalog> {
        Ok(self.open(&self.config(), Patience::default()).await?)
    }

    /// A catalog that gives up after a moment.
    async fn hasty(&self) -> TestResult<Arc<RestCatalog>> {
        let patience = Patience {
            request: Duration::from_secs(6),
            ..Patience::default()
        };
        Ok(Arc::new(self.open(&self.config(), patience).await?))
    }

    async fn open(&self, config: &RestCatalogConfig, patience: Patience) -> Result<RestCatalog> {
        self.open_at(config, patience, Arc::new(SystemClock)).await
    }

    async fn open_at(
        &self,
        config: &RestCatalogConfig,
        patience: Patience,
        clock: Arc<dyn Clock>,
    ) -> Result<RestCatalog> {
        let store = Store::open(&self.warehouse)?;
        RestCatalog::open(config, store, clock, Arc::new(Random::from_os()), patience).await
    }

    /// `shop.orders` as the server has it, asked past everything of ours.
    async fn truth(&self) -> TestResult<Value> {
        let table = self.proxy.truth("shop", "orders").await?;
        table.ok_or_else(|| "the server has no such table".into())
    }

    /// The ids of all rows, by a catalog that nothing troubled before.
    async fn ids(&self) -> TestResult<Vec<i64>> {
        ids_now(&self.catalog().await?, &orders()).await
    }

    /// The catalog as other engines are told of it.
    fn described(&self) -> Value {
        json!({ "type": "rest", "uri": self.proxy.url(), "name": "rest" })
    }
}

/// Appends one row at a time to `shop.orders` as the writer does, and says what became of each attempt.
struct Writer {
    catalog: Arc<dyn Catalog>,
    engine: Engine,
    head: Head,
    random: Arc<Random>,
}

impl Writer {
    /// A writer of a table that it makes.
    async fn new(catalog: Arc<dyn Catalog>) -> TestResult<Self> {
        create(catalog.as_ref(), &orders()).await?;
        Self::of_existing(catalog).await
    }

    async fn of_existing(catalog: Arc<dyn Catalog>) -> TestResult<Self> {
        Self::beside(catalog, Store::open(&place()?.1)?).await
    }

    /// A writer whose ledgers are in this store.
    async fn beside(catalog: Arc<dyn Catalog>, ledgers: Store) -> TestResult<Self> {
        let random = Arc::new(Random::from_os());
        let ledger = Ledger::new(ledgers);
        let engine = Engine::new(catalog.clone(), ledger, Arc::new(SystemClock), random.clone());
        let head = engine.head(catalog.load_table(&orders()).await?).await?;
        Ok(Self {
            engine,
            catalog,
            head,
            random,
        })
    }

    /// A change set of one row from one delivery, its file written.
    async fn row(&self, id: i64) -> TestResult<ChangeSet> {
        let mut changes = ChangeSet::append(self.random.uuid(), Moment::now(&SystemClock));
        let files = files_of(self.head.table(), &[id], &self.random).await?;
        let delivery = Entry {
            space: Space::Kept,
            index_time: 0,
            id: u128::from(id.unsigned_abs()),
            value: Bytes::new(),
        };
        changes.add(Group::durable(files, vec![delivery]));
        Ok(changes)
    }

    /// One attempt.
    async fn attempt(&mut self, changes: &mut ChangeSet) -> Result<i64> {
        self.engine.attempt(&mut self.head, changes).await
    }

    /// Loads again, and says whether the fence moved and the delivery is in the table.
    async fn reload(&mut self, changes: &ChangeSet) -> Result<(bool, bool)> {
        let moved = self.engine.reload(&mut self.head, changes).await?;
        let known = self.engine.check(&mut self.head, changes).await?;
        Ok((moved, known.iter().all(|known| matches!(known, Known::Landed(_)))))
    }

    /// Appends a row where nothing is in the way.
    async fn append(&mut self, id: i64) -> TestResult {
        let mut changes = self.row(id).await?;
        self.attempt(&mut changes).await?;
        Ok(())
    }
}

/// How many commits reached the proxy.
fn commits(world: &World) -> usize {
    world.proxy.seen(Call::Commit).len()
}
