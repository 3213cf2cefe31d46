//! SQLite databases, and the threads that wait for them in real time.

use std::sync::Arc;
use std::sync::mpsc;

use iceberg::TableIdent;
use landfast::catalog::SqlCatalog;
use landfast::random::Random;
use landfast::storage::Store;
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::support::TestResult;

/// In memory where the machine has such a folder: the disk is not what is tested here.
const MEMORY: &str = "/dev/shm";

/// A database and the runtime that talks to it.
#[derive(Debug, Clone)]
pub struct Sqlite {
    runtime: Arc<Runtime>,
    folder: Arc<TempDir>,
}

impl Sqlite {
    pub fn new() -> TestResult<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        Ok(Self {
            runtime: Arc::new(runtime),
            folder: folder()?,
        })
    }

    /// Another database, on the same runtime.
    pub fn fresh(&self) -> TestResult<Self> {
        Ok(Self {
            runtime: self.runtime.clone(),
            folder: folder()?,
        })
    }

    /// Waits for work that needs real time. The caller's thread does nothing else until then.
    pub fn wait<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let (sender, receiver) = mpsc::channel();
        self.runtime.spawn(async move {
            let _nobody_waits = sender.send(work.await);
        });
        receiver.recv().expect("the work ends")
    }

    pub fn open(&self, warehouse: Store, random: Random) -> TestResult<SqlCatalog> {
        let uri = format!("sqlite://{}/catalog.db", self.folder.path().display()).parse()?;
        let opening = async move { SqlCatalog::open(&uri, "lake", warehouse, Arc::new(random)).await };
        Ok(self.wait(opening)?)
    }

    /// Points a table's row at another metadata file, as another engine does.
    pub fn point(&self, ident: &TableIdent, location: String) -> TestResult {
        let options = SqliteConnectOptions::new().filename(self.folder.path().join("catalog.db"));
        let name = ident.name().to_owned();
        let pointing = async move {
            let mut connection = SqliteConnection::connect_with(&options).await?;
            let update = "UPDATE iceberg_tables SET previous_metadata_location = metadata_location, \
                          metadata_location = $1 WHERE table_name = $2";
            let done = sqlx::query(update)
                .bind(location)
                .bind(name)
                .execute(&mut connection)
                .await?;
            connection.close().await?;
            Ok::<_, sqlx::Error>(done.rows_affected())
        };
        assert_eq!(self.wait(pointing)?, 1);
        Ok(())
    }
}

fn folder() -> TestResult<Arc<TempDir>> {
    let in_memory = tempfile::tempdir_in(MEMORY);
    Ok(Arc::new(in_memory.or_else(|_| tempfile::tempdir())?))
}
