//! The real binary on a table in a bucket: pushed to, killed, told everything again, and what is found then.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use crate::support::TestResult;
use crate::support::push::Push;
use crate::support::readers::Reader;
use crate::support::server::{Server, landfast};

/// The binary with an environment and a configuration.
pub struct Site {
    environment: Vec<(&'static str, String)>,
    config: String,
    _folder: TempDir,
}

impl Site {
    pub fn new(
        environment: Vec<(&'static str, String)>,
        configure: impl FnOnce(&TempDir) -> TestResult<String>,
    ) -> TestResult<Self> {
        let folder = tempfile::tempdir()?;
        Ok(Self {
            environment,
            config: configure(&folder)?,
            _folder: folder,
        })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = landfast(words);
        command.args(["--config", &self.config]);
        command.envs(self.environment.iter().cloned());
        command
    }

    pub async fn serve(&self) -> TestResult<Server> {
        Server::start(self.command(&["serve"])).await
    }

    /// Runs a command to its end, which is to succeed. Gives what it printed.
    pub fn done(&self, words: &[&str]) -> TestResult<String> {
        let output = tokio::task::block_in_place(|| self.command(words).output())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{words:?}: {out}{err}");
        Ok(out)
    }

    /// Pushes the rows 0 to 9 to a server that is killed, then 0 to 19 to another, and has the table proven and kept up.
    /// Gives all that was printed.
    pub async fn lands_once(&self) -> TestResult<String> {
        let pushes: Vec<Push> = (0..20)
            .map(|id| Push::json("orders", id, &json!({ "id": id, "name": format!("n{id}") })))
            .collect();
        let mut first = self.serve().await?;
        let (some, _) = pushes.split_at(10);
        assert_eq!(first.pusher().push_all(some, 4).await, vec![204; 10]);
        first.kill()?;
        let mut second = self.serve().await?;
        assert_eq!(second.pusher().push_all(&pushes, 4).await, vec![204; 20]);
        second.terminate()?;
        assert!(second.exited().await?.success());
        let proof = self.done(&["verify"])?;
        assert!(proof.contains("shop.orders: whole"), "{proof}");
        let kept_up = self.done(&["maintain"])?;
        Ok(format!("{}{}{proof}{kept_up}", first.log(), second.log()))
    }

    /// The ids by PyIceberg, which asks nobody but the bucket.
    pub fn ids(&self, told: impl AsRef<Path>) -> TestResult<Vec<i64>> {
        let rows = Reader::pyiceberg()?.rows(told)?;
        let mut ids: Vec<i64> = rows.iter().filter_map(|row| row["id"].as_i64()).collect();
        ids.sort_unstable();
        Ok(ids)
    }
}
