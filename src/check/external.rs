//! Where published tables go in BigQuery: an external table of the check's own, made and moved as theirs are.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use tokio::time::{Instant, timeout};

use super::own::{self, Own};
use super::remedy::Place;
use super::report::{Found, Gathered, Line};
use super::{REMOVAL, bounded, report};
use crate::catalog::Catalog;
use crate::clock::SystemClock;
use crate::config::{BigQueryConfig, Config};
use crate::error::{Error, ErrorKind, Result};
use crate::publish::Probe;

/// An external table of a check in one dataset, by one connection.
struct External<'a> {
    place: String,
    to: &'a BigQueryConfig,
    probe: Result<Probe>,
}

/// Where the configured tables are published to, with an external table of this name in each.
fn all<'a>(config: &'a Config, name: &str) -> Vec<External<'a>> {
    let published = config
        .tables
        .values()
        .filter_map(|table| table.publish.as_deref());
    let places: BTreeMap<String, &BigQueryConfig> = published
        .map(|to| {
            let (project, dataset, connection) = (&to.project, &to.dataset, &to.connection);
            (format!("{project}.{dataset}, connection {connection}"), to)
        })
        .collect();
    let external = |(place, to)| External {
        place,
        to,
        probe: Probe::beside(to, name, Arc::new(SystemClock)),
    };
    places.into_iter().map(external).collect()
}

/// Makes external tables of the check's table, moves them to what `commit` adds to it, and removes them.
pub(super) async fn probe(
    config: &Config,
    catalog: &dyn Catalog,
    own: &Own,
    commit: impl Future<Output = Result<()>>,
) -> Gathered {
    let mut externals = all(config, own.name());
    if externals.is_empty() {
        return Gathered::default();
    }
    let begun = Instant::now();
    let made = join_all(
        externals
            .iter_mut()
            .map(|external| external.follow(catalog, own, "created")),
    )
    .await;
    let committed = bounded(commit).await;
    let follow = externals.iter_mut().zip(made).map(async |(external, made)| {
        made?;
        committed.clone()?;
        external.follow(catalog, own, "moved").await?;
        external.follow(catalog, own, "current").await
    });
    let followed = join_all(follow).await;
    let mut gathered = Gathered::default();
    for (external, followed) in externals.iter().zip(followed) {
        let mut found = match followed {
            Ok(()) => Found::passed(format!(
                "made {}, moved it to a newer snapshot, removed it",
                own.name()
            )),
            Err(error) => external.refused(&error),
        };
        if let Err(error) = external.remove().await {
            gathered.left.push(format!(
                "the external table {}.{}.{}",
                external.to.project,
                external.to.dataset,
                own.name()
            ));
            if found.has_passed() {
                found = external.refused(&error);
            }
        }
        let line = Line::new("external table", external.place.clone(), found, begun.elapsed());
        gathered.lines.push(line);
    }
    gathered
}

/// Removes the external tables of an earlier check, wherever tables are published to.
///
/// # Errors
/// Of the first that may still be there.
pub(super) async fn remove(config: &Config, name: &str) -> Result<()> {
    let externals = all(config, name);
    let removed = join_all(externals.iter().map(External::remove)).await;
    removed.into_iter().collect()
}

impl External<'_> {
    /// Makes or moves the external table; this is to come of it.
    async fn follow(&mut self, catalog: &dyn Catalog, own: &Own, wanted: &str) -> Result<()> {
        let probe = self.probe.as_mut().map_err(|error| error.clone())?;
        let table = own::table(own.name());
        let done = bounded(probe.follow(catalog, &table)).await?;
        if done == wanted {
            return Ok(());
        }
        let message = "BigQuery does not keep what it was told of the external table.";
        Err(Error::new(ErrorKind::Unavailable, message)
            .with("wanted", wanted)
            .with("found", done))
    }

    async fn remove(&self) -> Result<()> {
        let Ok(probe) = &self.probe else { return Ok(()) };
        timeout(REMOVAL, probe.remove())
            .await
            .unwrap_or_else(|_elapsed| Err(report::too_slow(REMOVAL)))
    }

    /// What is wrong, and what to do about it.
    fn refused(&self, error: &Error) -> Found {
        Found::refused(&Place::BigQuery(self.to), error)
    }
}
