//! The backends: chosen here and nowhere else.

use std::sync::Arc;

use crate::catalog::{
    BigLakeCatalog, Catalog, MemoryCatalog, Patience, RestCatalog, SqlCatalog, StorageCatalog,
};
use crate::clock::{Clock, SystemClock};
use crate::commit::Engine;
use crate::config::{CatalogConfig, Config, memory_limit, process_env};
use crate::dead_letter::{DeadLetters, Topic};
use crate::error::Result;
use crate::ledger::Ledger;
use crate::random::Random;
use crate::storage::Store;

/// What an application stands on. Tests put fault layers and fixed seeds in here.
#[derive(Debug)]
pub struct Parts {
    /// Names the tables.
    pub catalog: Arc<dyn Catalog>,
    /// Keeps the tables' ledgers: the warehouse, whatever the tables' locations.
    pub ledgers: Store,
    /// Keeps dead letters.
    pub dead_letters: DeadLetters,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Names and jitter.
    pub random: Arc<Random>,
    /// The limit of the process's memory, in bytes; where none of the configuration's is, what may be held depends on it.
    pub memory: Option<u64>,
}

impl Parts {
    /// Chooses the backends that a configuration names.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Unavailable`] when a location or the catalog's database or server cannot be opened.
    pub async fn from_config(config: &Config) -> Result<Self> {
        let mut dead_letters = DeadLetters::new(Store::open(&config.dead_letters.to_string())?);
        if let Some(topic) = &config.dead_letter_topic {
            dead_letters = dead_letters.published_to(Topic::connect(topic, &process_env).await?);
        }
        if let Some(before) = &config.dead_letters_before {
            dead_letters = dead_letters.after_location(Store::open(&before.to_string())?);
        }
        Self::with_dead_letters(config, dead_letters).await
    }

    /// The same with dead letters that are open already, whatever the configuration says of them.
    ///
    /// # Errors
    /// As [`Parts::from_config`].
    pub async fn with_dead_letters(config: &Config, dead_letters: DeadLetters) -> Result<Self> {
        let warehouse = Store::open(&config.warehouse.to_string())?.anchored()?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let random = Arc::new(Random::from_os());
        let ledgers = warehouse.clone();
        let dead_letters = dead_letters.in_warehouse(&ledgers);
        let catalog: Arc<dyn Catalog> = match &config.catalog {
            CatalogConfig::Storage => Arc::new(StorageCatalog::new(warehouse, clock.clone())),
            CatalogConfig::Sql(sql) => {
                Arc::new(SqlCatalog::open(&sql.uri, &sql.name, warehouse, random.clone()).await?)
            }
            CatalogConfig::Rest(rest) => {
                let patience = Patience::default();
                Arc::new(RestCatalog::open(rest, warehouse, clock.clone(), random.clone(), patience).await?)
            }
            CatalogConfig::BigLake(lake) => {
                let patience = Patience::default();
                let rest = lake.as_rest();
                let rest =
                    RestCatalog::open(&rest, warehouse, clock.clone(), random.clone(), patience).await?;
                Arc::new(BigLakeCatalog::new(rest))
            }
            CatalogConfig::Memory => Arc::new(MemoryCatalog::new(warehouse)),
        };
        Ok(Self {
            catalog,
            ledgers,
            dead_letters,
            clock,
            random,
            memory: memory_limit(),
        })
    }

    /// The commit engine alone, for work beside the data path.
    pub fn engine(self) -> Engine {
        Engine::new(self.catalog, Ledger::new(self.ledgers), self.clock, self.random)
    }
}
