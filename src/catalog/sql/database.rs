//! One connection pool to PostgreSQL or SQLite, on which every statement is a transaction of its own.
//!
//! There is no `BEGIN` and no `COMMIT` here, so none can fail unseen: a statement that returned has been committed by
//! the database, durably, since both are told to sync.

use std::time::Duration;

use secrecy::ExposeSecret;
use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row};
use tokio::time::timeout;

use super::failure::Failure;
use crate::config::{DatabaseTarget, DatabaseUri};
use crate::error::{Error, ErrorKind, Result};

/// Each table has one writer per process, so this is enough to keep several tables committing at once.
const MAX_CONNECTIONS: u32 = 4;

/// How long a statement waits for a connection of the pool, which includes making one.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// When PostgreSQL gives a statement up; before we do, so that its answer is still heard.
const STATEMENT_TIMEOUT: &str = "8s";

/// When we give up waiting for an answer: the network, or the machine behind it, may be gone.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long SQLite waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A pool of connections. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) enum Database {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

/// A row of text columns.
pub(super) type TextRow = Vec<Option<String>>;

/// Sends a statement on a connection of the pool and waits for what `run` makes of it.
///
/// The connection is had first, and apart, so that what was not sent is known. A connection that has not answered in
/// time is closed, not used again: the late answer would be taken for the next statement's.
macro_rules! send {
    ($pool:expr, $sql:expr, $values:expr, |$query:ident, $connection:ident| $run:expr) => {{
        let mut connection = $pool.acquire().await.map_err(Failure::NotSent)?;
        let mut $query = sqlx::query($sql);
        for value in $values {
            $query = $query.bind((*value).to_owned());
        }
        let $connection = &mut *connection;
        match timeout(ANSWER_TIMEOUT, $run).await {
            Ok(answer) => answer.map_err(Failure::Sent),
            Err(_elapsed) => {
                connection.close_on_drop();
                Err(Failure::TimedOut)
            }
        }
    }};
}

impl Database {
    /// Makes the pool; the first statement connects.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an address that the driver does not read.
    pub(super) fn new(uri: &DatabaseUri) -> Result<Self> {
        Ok(match uri.target() {
            DatabaseTarget::Postgres(uri) => {
                // The driver's error could show a part of the address.
                let options = uri.expose_secret().parse::<PgConnectOptions>().map_err(|_| {
                    Error::new(ErrorKind::Config, "The database's address is not PostgreSQL's.")
                })?;
                let options = options.application_name("landfast").options([
                    ("synchronous_commit", "on"),
                    ("statement_timeout", STATEMENT_TIMEOUT),
                ]);
                Self::Postgres(pool().connect_lazy_with(options.disable_statement_logging()))
            }
            DatabaseTarget::Sqlite(path) => {
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    // A file that was moved away is missed, not replaced by an empty one.
                    .create_if_missing(false)
                    .busy_timeout(BUSY_TIMEOUT)
                    // The journal mode stays what the file has: other engines open it too. With a rollback journal,
                    // FULL may lose the newest commit with the power, as it does not sync the journal's folder.
                    .synchronous(SqliteSynchronous::Extra);
                Self::Sqlite(pool().connect_lazy_with(options.disable_statement_logging()))
            }
        })
    }

    /// Makes SQLite's file where there is none: at the start, and never again.
    pub(super) async fn make_file(&self) -> Result<(), Failure> {
        let Self::Sqlite(pool) = self else {
            return Ok(());
        };
        let options = (*pool.connect_options()).clone().create_if_missing(true);
        match timeout(ACQUIRE_TIMEOUT, options.connect()).await {
            Ok(Ok(connection)) => connection.close().await.map_err(Failure::NotSent),
            Ok(Err(error)) => Err(Failure::NotSent(error)),
            Err(_elapsed) => Err(Failure::NotSent(sqlx::Error::PoolTimedOut)),
        }
    }

    /// Runs a statement; it is committed when this returns, and its row count says what it did.
    pub(super) async fn execute(&self, sql: &str, values: &[&str]) -> Result<u64, Failure> {
        match self {
            Self::Postgres(pool) => send!(pool, sql, values, |query, connection| query.execute(connection))
                .map(|done| done.rows_affected()),
            Self::Sqlite(pool) => send!(pool, sql, values, |query, connection| query.execute(connection))
                .map(|done| done.rows_affected()),
        }
    }

    /// Reads rows of text columns.
    pub(super) async fn fetch(&self, sql: &str, values: &[&str]) -> Result<Vec<TextRow>, Failure> {
        match self {
            Self::Postgres(pool) => send!(pool, sql, values, |query, connection| query
                .fetch_all(connection))?
            .iter()
            .map(|row| (0..row.len()).map(|column| row.try_get(column)).collect())
            .collect::<Result<_, _>>(),
            Self::Sqlite(pool) => send!(pool, sql, values, |query, connection| query.fetch_all(connection))?
                .iter()
                .map(|row| (0..row.len()).map(|column| row.try_get(column)).collect())
                .collect::<Result<_, _>>(),
        }
        .map_err(Failure::Sent)
    }
}

fn pool<DB: sqlx::Database>() -> PoolOptions<DB> {
    PoolOptions::new()
        .max_connections(MAX_CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
}
