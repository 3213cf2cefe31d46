//! A probe: an external table of somebody's own, made, moved and removed as a published table's is made and moved.

use std::sync::Arc;

use iceberg::TableIdent;
use tokio::time::sleep;

use super::client::BigQuery;
use super::pointer::{Memory, PACE, Step, step};
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::config::BigQueryConfig;
use crate::error::{ErrorKind, Result};

/// An external table beside those that are configured: in the dataset and by the connection of one of these.
#[derive(Debug)]
pub struct Probe {
    to: BigQueryConfig,
    bigquery: BigQuery,
    memory: Memory,
}

impl Probe {
    /// One of this name. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the client cannot be made.
    pub fn beside(published: &BigQueryConfig, name: &str, clock: Arc<dyn Clock>) -> Result<Self> {
        let to = BigQueryConfig {
            table: name.to_owned(),
            description: None,
            labels: Default::default(),
            ..published.clone()
        };
        Ok(Self {
            to,
            bigquery: BigQuery::new(clock)?,
            memory: Memory::default(),
        })
    }

    /// The external table's name, `project.dataset.table`.
    pub fn name(&self) -> String {
        self.to.to_string()
    }

    /// Makes the external table of a table, its dataset too where that is missing, or moves it to the newest metadata. Gives
    /// what was done: `created`, `moved`, or `current`. What BigQuery wants to be asked again is; bound it in time.
    ///
    /// # Errors
    /// Those of BigQuery and of the catalog; with the `status` of BigQuery's answer, and what the account `needs`.
    pub async fn follow(&mut self, catalog: &dyn Catalog, ident: &TableIdent) -> Result<&'static str> {
        loop {
            match step(&self.bigquery, &self.to, catalog, ident, &mut self.memory).await {
                Ok(Step::Young(wait)) => sleep(wait).await,
                Ok(Step::ColumnsRefused) => sleep(PACE).await,
                Err(error) if error.kind() == ErrorKind::Conflict => sleep(PACE).await,
                done => return done.map(|step| step.name()),
            }
        }
    }

    /// Removes the external table, if there is one. The dataset stays.
    ///
    /// # Errors
    /// As [`Probe::follow`]; the external table may still be there.
    pub async fn remove(&self) -> Result<()> {
        self.bigquery.remove(&self.to).await
    }
}
