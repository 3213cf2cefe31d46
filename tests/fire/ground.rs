//! Where the tables are: the catalogs that processes share, and what goes wrong in them meanwhile.

use std::path::PathBuf;
use std::time::Duration;

use iceberg::TableIdent;
use landfast::catalog::{Catalog, SqlCatalog, StorageCatalog};
use landfast::clock::SystemClock;
use landfast::random::Random;
use landfast::storage::Store;
use rand::Rng;
use rand::rngs::StdRng;
use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::rest::World;
use crate::support::TestResult;
use crate::support::faults::Gate;
use crate::support::lake::Lake;
use crate::support::postgres::Postgres;
use crate::support::proxy::{Call, Trouble};

pub const TABLES: [&str; 2] = ["t.left", "t.right"];

/// A catalog under fire.
pub enum Ground {
    Storage,
    /// A file beside the warehouse.
    Sqlite,
    /// A server of the scenario's own, and its URI.
    Postgres(Postgres, String),
    /// Behind a proxy that goes wrong, on the runtime that made it.
    Rest(World),
}

/// A folder, a configuration, and what stands behind it.
pub struct Place {
    pub ground: Ground,
    pub lake: Lake,
    pub config: PathBuf,
    warehouse: String,
}

impl Place {
    pub fn new(ground: Ground) -> TestResult<Self> {
        let lake = Lake::new()?;
        let folder = lake.path().display().to_string();
        let warehouse = match &ground {
            Ground::Rest(world) => world.warehouse.clone(),
            _ => format!("file://{folder}/warehouse"),
        };
        let catalog = match &ground {
            Ground::Storage => "type: storage".to_owned(),
            Ground::Sqlite => format!("type: sql, uri: \"{}\"", sqlite(&lake)),
            Ground::Postgres(_, uri) => format!("type: sql, uri: \"{uri}\""),
            Ground::Rest(world) => format!("type: rest, uri: \"{}\"", world.proxy.url()),
        };
        let mut text = format!(
            "warehouse: \"{warehouse}\"\ncatalog: {{ {catalog} }}\ndead_letters: \"file://{folder}/dead-letters\"\n\
             server: {{ listen: \"127.0.0.1:0\", push_auth: off, ack_deadline: 10s }}\n\
             defaults: {{ batch: {{ commit_interval: 20ms }} }}\ntables:\n"
        );
        for table in TABLES {
            let subscription = table.trim_start_matches("t.");
            text.push_str(&format!(
                "  {table}:\n    from: [{{ subscription: {subscription} }}]\n    schema:\n      \
                 - {{ name: id, type: long, required: true }}\n      - {{ name: name, type: string }}\n"
            ));
        }
        Ok(Self {
            config: lake.write_config(&text)?,
            ground,
            lake,
            warehouse,
        })
    }

    /// The newest metadata file of a table, by a catalog of its own.
    pub async fn metadata(&self, table: &str) -> TestResult<PathBuf> {
        let ident = TableIdent::from_strs(table.split('.'))?;
        let store = Store::open(&self.warehouse)?;
        let random = std::sync::Arc::new(Random::from_os());
        let loaded = match &self.ground {
            Ground::Storage => {
                let catalog = StorageCatalog::new(store, std::sync::Arc::new(SystemClock));
                catalog.load_table(&ident).await?
            }
            Ground::Sqlite | Ground::Postgres(..) => {
                let uri = match &self.ground {
                    Ground::Postgres(_, uri) => uri.clone(),
                    _ => sqlite(&self.lake),
                };
                let catalog = SqlCatalog::open(&uri.parse()?, "landfast", store, random).await?;
                catalog.load_table(&ident).await?
            }
            Ground::Rest(world) => world.catalog().await?.load_table(&ident).await?,
        };
        let location = loaded.metadata_location().ok_or("a metadata file")?;
        Ok(location.trim_start_matches("file://").into())
    }

    /// Goes wrong once, in a way that belongs to the catalog, and says which.
    pub async fn trouble(&self, random: &mut StdRng) -> TestResult<Option<&'static str>> {
        match &self.ground {
            Ground::Storage | Ground::Sqlite => Ok(None),
            Ground::Postgres(server, _) => {
                if random.random_bool(0.8) {
                    return Ok(None);
                }
                block_in_place(|| server.kill())?;
                sleep(Duration::from_millis(random.random_range(0..300))).await;
                block_in_place(|| server.restart())?;
                Ok(Some("PostgreSQL killed"))
            }
            Ground::Rest(world) => Ok(Some(disturb(world, random))),
        }
    }

    /// Ends what is still going wrong.
    pub fn calm(&self) {
        if let Ground::Rest(world) = &self.ground {
            world.proxy.clear();
        }
    }
}

/// The database in a folder.
fn sqlite(lake: &Lake) -> String {
    format!("sqlite://{}/catalog.db", lake.path().display())
}

/// The next request of some kind meets some trouble.
fn disturb(world: &World, random: &mut StdRng) -> &'static str {
    let proxy = &world.proxy;
    match random.random_range(0..12) {
        0 => {
            proxy.once(Call::Commit, Trouble::Answer(503));
            "commit refused with 503"
        }
        1 => {
            proxy.once(Call::Commit, Trouble::Reset);
            "commit reset before"
        }
        2 | 3 => {
            proxy.once(Call::Commit, Trouble::ResetAfter);
            "committed, then reset"
        }
        4 | 5 => {
            proxy.once(Call::Commit, Trouble::AnswerAfter(504));
            "committed, then 504"
        }
        6 => {
            proxy.once(Call::Commit, Trouble::StallAfter);
            "committed, then stalled"
        }
        7..=9 => {
            let gate = Gate::new();
            proxy.once(Call::Commit, Trouble::Late(gate.clone()));
            // After the retry, or after its sender has long given up.
            let wait = Duration::from_millis(random.random_range(0..12_000));
            tokio::spawn(async move {
                sleep(wait).await;
                gate.release();
            });
            "commit delivered late"
        }
        10 => {
            proxy.once(Call::Commit, Trouble::Repeat);
            "commit repeated"
        }
        _ => {
            proxy.once(Call::Load, Trouble::Reset);
            "load reset"
        }
    }
}
