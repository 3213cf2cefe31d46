//! Processes on one catalog, of which any may be killed at any moment; another takes its place.

use std::path::PathBuf;

use crate::support::TestResult;
use crate::support::push::Pusher;
use crate::support::server::Server;

pub struct Fleet {
    config: PathBuf,
    servers: Vec<Server>,
}

impl Fleet {
    pub async fn start(config: PathBuf, size: usize) -> TestResult<Self> {
        let mut servers = Vec::new();
        for _ in 0..size {
            servers.push(Server::serve(&config).await?);
        }
        Ok(Self { config, servers })
    }

    pub fn size(&self) -> usize {
        self.servers.len()
    }

    /// Clients of all of them, also of one that was just killed.
    pub fn pushers(&self) -> Vec<Pusher> {
        self.servers.iter().map(Server::pusher).collect()
    }

    /// Kills one.
    pub fn kill(&mut self, at: usize) -> TestResult {
        self.servers[at].kill()
    }

    /// Starts another in its place.
    pub async fn replace(&mut self, at: usize) -> TestResult {
        self.servers[at] = Server::serve(&self.config).await?;
        Ok(())
    }

    /// Stops all of them as the platform does.
    pub async fn stop(&mut self) -> TestResult {
        for server in &self.servers {
            server.terminate()?;
        }
        for server in &mut self.servers {
            assert!(server.exited().await?.success());
        }
        Ok(())
    }
}
