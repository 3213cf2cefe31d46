//! The warehouse and the dead letters: an object that is made, refused a second time, read, listed and deleted.

use bytes::Bytes;
use tokio::time::{Duration, Instant, timeout, timeout_at};

use super::ceiling::{TIMING, WRITES};
use super::own::{FOLDER, Own};
use super::remedy::{Place, Step};
use super::report::{Found, Gathered};
use super::{PROBE, REMOVAL, line, report};
use crate::config::Location;
use crate::error::Error;
use crate::storage::{Creation, Store};

/// What a small file of metadata has.
const PUT_BYTES: usize = 16 << 10;

/// Why a store is not one: an error at a step, or an answer that breaks a rule.
enum Trouble {
    Refused(Step, Error),
    Wrong(&'static str),
}

/// Probes the warehouse.
pub(super) async fn warehouse(location: &Location, own: &Own) -> Gathered {
    probe("warehouse", location, own).await
}

/// Probes where dead letters are kept, or wait to be published.
pub(super) async fn dead_letters(location: &Location, own: &Own) -> Gathered {
    probe("dead letters", location, own).await
}

async fn probe(what: &'static str, location: &Location, own: &Own) -> Gathered {
    let mut left = Vec::new();
    let probing = async {
        let store = match Store::open(&location.to_string()) {
            Ok(store) => store,
            Err(error) => return Found::refused(&Place::Store(location, Step::Open), &error),
        };
        // Apart, so that one store for both has two objects.
        let folder = format!("{}/{}", own.folder(), what.replace(' ', "-"));
        let key = format!("{folder}/object");
        let probed = timeout(PROBE, round(&store, &key)).await;
        left = removed(&store, &folder, &[key]).await;
        match probed {
            Ok(Ok(())) => Found::passed("made, refused a second time, read, listed, deleted"),
            Ok(Err(Trouble::Refused(step, error))) => Found::refused(&Place::Store(location, step), &error),
            Ok(Err(Trouble::Wrong(rule))) => Found::failed(
                rule,
                "Use another store: docs/object-stores.md says what one has to honour.",
            ),
            Err(_elapsed) => Found::refused(&Place::Store(location, Step::Open), &report::too_slow(PROBE)),
        }
    };
    let line = line(what, location, probing).await;
    Gathered { left, ..line.into() }
}

/// Makes an object and so on; in the end it is gone.
async fn round(store: &Store, key: &str) -> Result<(), Trouble> {
    let at = |step| move |error| Trouble::Refused(step, error);
    let content = Bytes::from(key.to_owned());
    let first = store.create(key, content.clone()).await;
    if first.map_err(at(Step::Create))? == Creation::Exists {
        return Err(Trouble::Wrong(
            "The store says that a name is taken which nobody ever had.",
        ));
    }
    let second = store.create(key, Bytes::from_static(b"another")).await;
    if second.map_err(at(Step::Create))? == Creation::Created {
        return Err(Trouble::Wrong(
            "The store makes an object of a name that is taken: of two commits one would be lost.",
        ));
    }
    if store.get(key).await.map_err(at(Step::Read))? != Some(content) {
        return Err(Trouble::Wrong(
            "The store gives other bytes than it was given first.",
        ));
    }
    let listed = store.keys(FOLDER).await.map_err(at(Step::List))?;
    if !listed.iter().any(|listed| listed == key) {
        return Err(Trouble::Wrong(
            "The store does not list an object that it was given.",
        ));
    }
    store.delete(key).await.map_err(at(Step::Delete))?;
    match store.get(key).await.map_err(at(Step::Read))? {
        None => Ok(()),
        Some(_) => Err(Trouble::Wrong("The store still has an object that was deleted.")),
    }
}

/// How long puts take that are made one after the other; none where they fail.
pub(super) async fn time(location: &Location, own: &Own) -> (Vec<Duration>, Vec<String>) {
    let Ok(store) = Store::open(&location.to_string()) else {
        return Default::default();
    };
    let folder = format!("{}/puts", own.folder());
    let keys: Vec<String> = (0..WRITES).map(|number| format!("{folder}/{number}")).collect();
    let content = Bytes::from(vec![b' '; PUT_BYTES]);
    let mut times = Vec::new();
    let until = Instant::now() + TIMING;
    for key in &keys {
        let begun = Instant::now();
        match timeout_at(until, store.create(key, content.clone())).await {
            Ok(Ok(Creation::Created)) => times.push(begun.elapsed()),
            // The probe of the store tells why.
            _ => break,
        }
    }
    (times, removed(&store, &folder, &keys).await)
}

/// Deletes objects by their names, since listing may be refused. Gives those that may still be there.
async fn removed(store: &Store, folder: &str, keys: &[String]) -> Vec<String> {
    let removing = async {
        store.delete_all(keys).await?;
        store.remove_empty_folders(folder).await
    };
    match timeout(REMOVAL, removing).await {
        Ok(Ok(())) => return Vec::new(),
        Ok(Err(error)) => tracing::debug!(error = error.report(), "Objects of the check cannot be removed."),
        Err(_elapsed) => {}
    }
    let mut left = Vec::new();
    for key in keys {
        // What cannot be looked at may be there.
        let looked = timeout(REMOVAL, store.stat(key)).await;
        if !matches!(looked, Ok(Ok(None))) {
            left.push(store.url(key));
        }
    }
    left
}
