//! PostgreSQL: databases of a test's own on the server of the test run, and servers of its own that can be killed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor};
use tempfile::TempDir;
use uuid::Uuid;

use super::{Component, TestResult, needs};

/// Makes an empty database on the server of the test run. Gives its URI. Ends the test as ignored where there is none.
pub async fn fresh_database() -> TestResult<String> {
    let uri = needs(Component::Postgres)?;
    let name = format!("t{}", Uuid::new_v4().simple());
    let mut connection = connect(&uri).await?;
    connection
        .execute(format!("CREATE DATABASE {name}").as_str())
        .await?;
    connection.close().await?;
    let server = uri.rsplit_once('/').map_or(uri.as_str(), |(server, _)| server);
    Ok(format!("{server}/{name}"))
}

/// A connection that landfast knows nothing of.
pub async fn connect(uri: &str) -> TestResult<PgConnection> {
    Ok(PgConnection::connect_with(&PgConnectOptions::from_str(uri)?).await?)
}

/// A server of the test's own. Dropping it ends it.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    _parent: TempDir,
}

impl Postgres {
    /// Makes a server and starts it. Gives the URI, too; it stays the same. Ends the test as ignored where there is none.
    pub fn start() -> TestResult<(Self, String)> {
        needs(Component::Postgres)?;
        let parent = tempfile::tempdir()?;
        // The server's own user must be able to reach its folder.
        let reachable = Command::new("chmod").arg("711").arg(parent.path()).status()?;
        assert!(reachable.success());
        let server = Self {
            folder: parent.path().join("postgres"),
            _parent: parent,
        };
        let uri = server.control("start")?;
        Ok((server, uri))
    }

    /// SIGKILL to every process of it.
    pub fn kill(&self) -> TestResult {
        self.control("kill").map(drop)
    }

    /// Starts it again, on the same port.
    pub fn restart(&self) -> TestResult {
        self.control("start").map(drop)
    }

    fn control(&self, what: &str) -> TestResult<String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/postgres");
        let output = Command::new(script).arg(what).arg(&self.folder).output()?;
        if output.status.success() {
            Ok(String::from_utf8(output.stdout)?.trim().to_owned())
        } else {
            Err(format!(
                "tests/postgres {what}: {}",
                String::from_utf8_lossy(&output.stderr)
            )
            .into())
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A failure only says that it is gone already.
        let _stopped = self.control("stop");
    }
}
