//! Loads that are killed, and whether that cut them short.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::support::TestResult;
use crate::support::lake::{Lake, files};

const SIGKILL: i32 = 9;

/// A load on its way.
pub struct Doomed {
    child: Child,
    table: PathBuf,
    /// Files in the table's folder before it began.
    before: usize,
}

impl Doomed {
    pub fn start(lake: &Lake, mut command: Command) -> TestResult<Self> {
        let table = lake.table("t.rows");
        let before = files(&table)?.len();
        let child = command.spawn()?;
        Ok(Self { child, table, before })
    }

    /// Waits until it has a file in the table's folder: its commit is still to come then, or on its way.
    pub async fn writes(&self) -> TestResult {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.has_written() {
            if Instant::now() >= deadline {
                return Err("The load wrote nothing in a minute.".into());
            }
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Kills it, and says whether it was in the middle of its work.
    pub fn kill(mut self) -> TestResult<bool> {
        self.child.kill()?;
        let was_cut = self.child.wait()?.signal() == Some(SIGKILL);
        Ok(was_cut && self.has_written())
    }

    /// A file may be renamed while its folder is read: it is looked for again then.
    fn has_written(&self) -> bool {
        files(&self.table).is_ok_and(|files| files.len() > self.before)
    }
}
