//! Taking away what checks made: this one, and earlier ones that were killed.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use iceberg::table::Table;
use tokio::time::{Instant, timeout};

use super::own::{self, FOLDER, NAMESPACE, Own};
use super::report::{Found, Gathered, Line};
use super::{PROBE, external, landing, report};
use crate::commit::Engine;
use crate::config::{CatalogConfig, Config};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger;
use crate::storage::Store;

/// What a check made may be in use so long.
const IN_USE: TimeDelta = TimeDelta::hours(1);

/// A drop is tried so often: the outcome of one may be unknown.
const DROPS: usize = 3;

/// What became of a table that was to go.
#[derive(Debug, Default)]
pub(super) struct Removed {
    /// What may still be there.
    pub(super) left: Vec<String>,
    /// Why.
    pub(super) refused: Option<Error>,
}

impl Removed {
    pub(super) fn not(what: String) -> Self {
        Self {
            left: vec![what],
            refused: None,
        }
    }

    /// Notes what a step could not remove.
    fn note(&mut self, what: impl FnOnce() -> String, step: Result<()>) {
        if let Err(error) = step {
            self.left.push(what());
            self.refused.get_or_insert(error);
        }
    }
}

/// Drops a check's table and deletes its files, in an order that a kill between any two steps leaves to be found: while
/// the table is there by it, then by its folder.
pub(super) async fn remove_table(engine: &Engine, name: &str) -> Removed {
    let (catalog, ident) = (engine.catalog(), own::table(name));
    let warehouse = engine.ledger().store();
    let mut removed = Removed::default();
    match catalog.find_table(&ident).await {
        Ok(None) => {}
        Ok(Some(table)) => {
            // A hint that is written late would come back.
            catalog.settle().await;
            let ledger = ledger::folder(table.metadata().uuid());
            let cleared = warehouse.clear(&ledger).await;
            removed.note(|| warehouse.url(&ledger), cleared);
            remove_files_and_drop(engine, &table, name, &mut removed).await;
        }
        Err(error) => removed.note(|| format!("the table {ident}"), Err(error)),
    }
    let folder = format!("{NAMESPACE}/{name}");
    if removed.left.is_empty() {
        let cleared = warehouse.clear(&folder).await;
        removed.note(|| warehouse.url(&folder), cleared);
        if let Err(error) = catalog.drop_namespace(&own::namespace()).await {
            let error = error.report();
            tracing::warn!(error, "The namespace landfast_check stays, empty.");
        }
    }
    removed
}

async fn remove_files_and_drop(engine: &Engine, table: &Table, name: &str, removed: &mut Removed) {
    let location = table.metadata().location();
    let (url, ident) = (|| location.to_owned(), table.identifier());
    let named_by_catalog = engine
        .catalog()
        .store_of(table)
        .is_ok_and(|store| store.is_some());
    if named_by_catalog {
        // Credentials that the catalog gives go with the table.
        removed.note(url, clear_table(engine, table, name).await);
    }
    let dropped = drop_table(engine, table).await;
    let is_dropped = dropped.is_ok();
    removed.note(|| format!("the table {ident}"), dropped);
    if is_dropped && !named_by_catalog {
        removed.note(url, clear_table(engine, table, name).await);
    }
}

/// Deletes the files of a table, if its folder is nobody else's.
async fn clear_table(engine: &Engine, table: &Table, name: &str) -> Result<()> {
    let location = table.metadata().location();
    let folder = location
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let uuid = table.metadata().uuid();
    let ours = [name.to_owned(), uuid.to_string(), uuid.simple().to_string()];
    if !ours.iter().any(|ours| folder.contains(ours.as_str())) {
        let message =
            "The catalog keeps the probe's table in a folder that may be another's, too; its files stay.";
        return Err(Error::new(ErrorKind::Rejected, message).with("location", location));
    }
    let files = engine.files(table)?;
    files.clear(files.key(location.trim_end_matches('/'))?).await
}

async fn drop_table(engine: &Engine, table: &Table) -> Result<()> {
    let mut tries = 0;
    loop {
        tries += 1;
        match engine.catalog().drop_table(table.identifier()).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() != ErrorKind::Rejected && tries < DROPS => {}
            dropped => return dropped,
        }
    }
}

/// Removes what checks left that began more than an hour ago; says what younger ones have, which may be under way.
pub(super) async fn remove(config: &Config, engine: Option<&Engine>, own: &Own) -> Gathered {
    let begun = Instant::now();
    let mut tally = Tally::default();
    let removing = async {
        for location in [&config.warehouse, &config.dead_letters] {
            if let Ok(store) = Store::open(&location.to_string()) {
                remove_objects(&store, FOLDER, own, &mut tally).await;
            }
        }
        remove_files(config, own, &mut tally).await;
        if let Some(engine) = engine {
            remove_tables(config, engine, own, &mut tally).await;
            if !matches!(config.catalog, CatalogConfig::Memory) {
                remove_objects(engine.ledger().store(), NAMESPACE, own, &mut tally).await;
            }
        }
    };
    let ended = timeout(PROBE, removing).await;
    if ended.is_err() {
        tally.count("the rest", Err(report::too_slow(PROBE)));
    }
    let Some(found) = tally.found() else {
        return Gathered::default();
    };
    Line::new("earlier checks", FOLDER.to_owned(), found, begun.elapsed()).into()
}

/// Names of earlier checks' things, and what became of them.
#[derive(Debug, Default)]
struct Tally {
    removed: BTreeSet<String>,
    young: BTreeSet<String>,
    failed: BTreeMap<String, String>,
}

impl Tally {
    /// Whether something of this name is an earlier check's, old enough to go, and did not fail to before.
    fn takes(&mut self, name: &str, own: &Own) -> bool {
        let age = own.age_of(name).filter(|_| name != own.name());
        if age.is_some_and(|age| age <= IN_USE) {
            self.young.insert(name.to_owned());
        }
        age.is_some_and(|age| age > IN_USE) && !self.failed.contains_key(name)
    }

    fn count(&mut self, name: &str, removal: Result<()>) {
        match removal {
            Ok(()) => {
                self.removed.insert(name.to_owned());
            }
            Err(error) => {
                self.failed.insert(name.to_owned(), error.report());
            }
        }
    }

    fn found(self) -> Option<Found> {
        let told = format!(
            "removed what {} checks left that did not end; {} are younger than an hour, and theirs stays",
            self.removed.len(),
            self.young.len()
        );
        match self.failed.first_key_value() {
            Some((name, failure)) => Some(Found::warned(
                format!("{told}; {name} was not removed: {failure}"),
                "Remove it by hand: the table or the folder is named so.",
            )),
            None if self.removed.is_empty() && self.young.is_empty() => None,
            None => Some(Found::passed(told)),
        }
    }
}

async fn remove_objects(store: &Store, folder: &str, own: &Own, tally: &mut Tally) {
    // Where listing is refused, the probe of the store says so.
    for name in store.folders(folder).await.unwrap_or_default() {
        if tally.takes(&name, own) {
            tally.count(&name, store.clear(&format!("{folder}/{name}")).await);
        }
    }
}

async fn remove_files(config: &Config, own: &Own, tally: &mut Tally) {
    let listing = config.clone();
    let files = tokio::task::spawn_blocking(move || landing::files(&listing)).await;
    for (name, file) in files.unwrap_or_default() {
        if tally.takes(&name, own) {
            let removed = tokio::fs::remove_file(&file).await.map_err(|error| {
                Error::new(ErrorKind::Unavailable, "The file of a check cannot be removed.")
                    .with("file", file.display())
                    .with_source(error)
            });
            tally.count(&name, removed);
        }
    }
}

async fn remove_tables(config: &Config, engine: &Engine, own: &Own, tally: &mut Tally) {
    let listed = engine.catalog().list_tables(&own::namespace()).await;
    for table in listed.unwrap_or_default() {
        if tally.takes(table.name(), own) {
            // Their table is what they are found by.
            if let Err(error) = external::remove(config, table.name()).await {
                tally.count(table.name(), Err(error));
                continue;
            }
            let Removed { left, refused } = remove_table(engine, table.name()).await;
            let refused = refused.map_or(Ok(()), Err);
            let refused = refused.map_err(|error| error.with("left", left.join(" ")));
            tally.count(table.name(), refused);
        }
    }
}
