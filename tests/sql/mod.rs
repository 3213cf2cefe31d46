//! What the SQL catalog adds: rows that other engines share, and the databases' ways to fail.

mod crash;
mod engines;
mod faults;
mod layout;
mod locks;
mod serve;

use std::sync::Arc;

use iceberg::TableUpdate;
use iceberg::table::Table;
use landfast::catalog::{Catalog, Outcome, SqlCatalog, TableCommit};
use landfast::clock::SystemClock;
use landfast::commit::Engine;
use landfast::ledger::Ledger;
use landfast::random::Random;
use landfast::storage::Store;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, Row};
use tempfile::TempDir;

use crate::support::TestResult;
use crate::support::postgres::{connect, fresh_database};
use crate::support::tables;

pub fn tests() -> Vec<Trial> {
    [
        layout::tests(),
        locks::tests(),
        faults::tests(),
        crash::tests(),
        engines::tests(),
        serve::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[derive(Debug, Clone, Copy)]
enum Backend {
    Sqlite,
    Postgres,
}

/// A database and a warehouse of a test's own.
struct World {
    uri: String,
    folder: TempDir,
}

impl World {
    async fn new(backend: Backend) -> TestResult<Self> {
        let folder = tempfile::tempdir()?;
        let uri = match backend {
            Backend::Sqlite => format!("sqlite://{}/catalog.db", folder.path().display()),
            Backend::Postgres => fresh_database().await?,
        };
        Ok(Self { uri, folder })
    }

    fn warehouse(&self) -> String {
        format!("file://{}/warehouse", self.folder.path().display())
    }

    fn store(&self) -> TestResult<Store> {
        Ok(Store::open(&self.warehouse())?)
    }

    /// A catalog with a pool of its own.
    async fn catalog(&self) -> TestResult<SqlCatalog> {
        open(&self.uri, &self.warehouse()).await
    }

    /// The catalog as other engines are told of it.
    fn described(&self) -> Value {
        json!({ "uri": self.uri, "name": "landfast", "warehouse": self.warehouse() })
    }

    /// A connection that the catalog knows nothing of.
    async fn side(&self) -> TestResult<Side> {
        Ok(match self.uri.strip_prefix("sqlite://") {
            Some(path) => {
                let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
                Side::Sqlite(SqliteConnection::connect_with(&options).await?)
            }
            None => Side::Postgres(connect(&self.uri).await?),
        })
    }
}

async fn open(uri: &str, warehouse: &str) -> TestResult<SqlCatalog> {
    let random = Arc::new(Random::from_os());
    Ok(SqlCatalog::open(&uri.parse()?, "landfast", Store::open(warehouse)?, random).await?)
}

enum Side {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Side {
    async fn execute(&mut self, sql: &str) -> TestResult<u64> {
        Ok(match self {
            Self::Sqlite(connection) => sqlx::raw_sql(sql).execute(connection).await?.rows_affected(),
            Self::Postgres(connection) => sqlx::raw_sql(sql).execute(connection).await?.rows_affected(),
        })
    }

    /// Rows of text columns.
    async fn rows(&mut self, sql: &str) -> TestResult<Vec<Vec<Option<String>>>> {
        Ok(match self {
            Self::Sqlite(connection) => sqlx::query(sql)
                .fetch_all(connection)
                .await?
                .iter()
                .map(|row| (0..row.len()).map(|at| row.get(at)).collect())
                .collect(),
            Self::Postgres(connection) => sqlx::query(sql)
                .fetch_all(connection)
                .await?
                .iter()
                .map(|row| (0..row.len()).map(|at| row.get(at)).collect())
                .collect(),
        })
    }
}

/// Every case on both databases.
macro_rules! on_both {
    ($($case:ident),* $(,)?) => {{
        let mut trials = Vec::new();
        for backend in [crate::sql::Backend::Sqlite, crate::sql::Backend::Postgres] {
            $(trials.push(crate::support::test(
                &format!("{}::{}::{backend:?}", module_path!(), stringify!($case)),
                move || async move { $case(&crate::sql::World::new(backend).await?).await },
            ));)*
        }
        trials
    }};
}
use on_both;

fn set_property(key: &str, value: &str) -> TableCommit {
    TableCommit {
        requirements: Vec::new(),
        updates: vec![TableUpdate::SetProperties {
            updates: [(key.to_owned(), value.to_owned())].into(),
        }],
    }
}

fn committed(outcome: Outcome) -> TestResult<Table> {
    match outcome {
        Outcome::Committed(table) => Ok(*table),
        other => Err(format!("{other:?}").into()),
    }
}

/// Appends rows with these ids to `shop.orders` as the writer does.
async fn append(catalog: &Arc<SqlCatalog>, ids: &[i64]) -> TestResult {
    let random = Arc::new(Random::from_os());
    let shared: Arc<dyn Catalog> = catalog.clone();
    let ledger = Ledger::new(Store::open("memory:///ledgers")?);
    let engine = Engine::new(shared, ledger, Arc::new(SystemClock), random.clone());
    tables::append(&engine, &random, ids, Vec::new()).await
}
