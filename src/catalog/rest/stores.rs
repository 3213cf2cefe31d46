//! The stores that tables lie in: the warehouse, a bucket of the service's own, or one by vended credentials.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use iceberg::TableIdent;

use super::credentials::credential_for;
use super::vending::{OfTable, Vending};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{Properties, Store};

/// What says how a store is reached, beside who we are there: where it changes, another store is opened.
const WAY: [&str; 5] = [
    "s3.endpoint",
    "s3.region",
    "s3.path-style-access",
    "client.region",
    "gcs.service.host",
];

/// The stores of tables, opened once.
#[derive(Debug)]
pub(super) struct Stores {
    warehouse: Store,
    vending: Arc<Vending>,
    /// Buckets outside the warehouse that the service's own credentials open.
    own: Mutex<HashMap<String, Store>>,
    vended: Mutex<HashMap<TableIdent, Opened>>,
}

/// A store by vended credentials. They are not in it: it asks for them.
#[derive(Debug, Clone)]
struct Opened {
    location: String,
    way: Properties,
    store: Store,
}

impl Stores {
    pub(super) fn new(warehouse: Store, vending: Arc<Vending>) -> Self {
        Self {
            warehouse,
            vending,
            own: Mutex::default(),
            vended: Mutex::default(),
        }
    }

    /// The store of a table's files: by the credentials that were vended for its location, of those with the longest
    /// prefix; without any, by the service's own. Its root is the warehouse, or the table's bucket.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] for a location that is in no store of ours, [`ErrorKind::Config`] for settings that no store
    /// can be opened with.
    pub(super) fn of(&self, table: &TableIdent, location: &str) -> Result<Store> {
        // With the slash, the table's folder begins with its own prefix, and not with its neighbour's.
        let location = format!("{}/", location.trim_end_matches('/'));
        let bucket = bucket(&location);
        if let Some(bucket) = &bucket
            && let Some(store) = self.by_vended(table, &location, bucket)?
        {
            return Ok(store);
        }
        if self.warehouse.key(&location).is_ok() {
            return Ok(self.warehouse.clone());
        }
        match bucket {
            Some(bucket) => self.by_own(&bucket),
            None => Err(self.out_of_reach(&location)),
        }
        .map_err(|error| error.with("table", table))
    }

    /// The table is gone.
    pub(super) fn forget(&self, table: &TableIdent) {
        lock(&self.vended).remove(table);
    }

    fn by_vended(&self, table: &TableIdent, location: &str, bucket: &str) -> Result<Option<Store>> {
        let held = self.vending.held(table);
        let Some(credential) = credential_for(&held, location) else {
            return Ok(None);
        };
        let of_way = |(key, value): (&String, &String)| (key.clone(), value.clone());
        let way: Properties = (credential.config.iter())
            .filter(|(key, _)| WAY.contains(&key.as_str()))
            .map(of_way)
            .collect();
        let opened = lock(&self.vended).get(table).cloned();
        if let Some(opened) = opened.filter(|opened| opened.location == location && opened.way == way) {
            return Ok(Some(opened.store));
        }
        let vendor = OfTable {
            vending: self.vending.clone(),
            table: table.clone(),
            location: location.to_owned(),
        };
        let store = Store::open_vended(bucket, &credential.config, Arc::new(vendor))
            .map_err(|error| error.with("table", table))?;
        if let Some(store) = &store {
            let opened = Opened {
                location: location.to_owned(),
                way,
                store: store.clone(),
            };
            lock(&self.vended).insert(table.clone(), opened);
        }
        Ok(store)
    }

    fn by_own(&self, bucket: &str) -> Result<Store> {
        if let Some(store) = lock(&self.own).get(bucket) {
            return Ok(store.clone());
        }
        let store = Store::open(bucket)?;
        lock(&self.own).insert(bucket.to_owned(), store.clone());
        Ok(store)
    }

    fn out_of_reach(&self, location: &str) -> Error {
        let scheme = location.split_once(':').map_or("file", |(scheme, _)| scheme);
        let message = if ["file", "memory"].contains(&scheme) || location.starts_with('/') {
            "The catalog keeps the table outside `warehouse`: write the folder that it keeps its tables under as \
             `warehouse`, or make the table there."
        } else {
            "The catalog keeps the table in a store that this version does not reach: it stores on s3://, gs:// and \
             file:///."
        };
        Error::new(ErrorKind::Rejected, message)
            .with("location", location.trim_end_matches('/'))
            .with("warehouse", self.warehouse.root())
    }
}

/// The root of a location's bucket, as we spell it.
fn bucket(location: &str) -> Option<String> {
    let (scheme, rest) = location.split_once("://")?;
    let scheme = match scheme {
        "s3" | "s3a" | "s3n" => "s3",
        "gs" => "gs",
        _ => return None,
    };
    let name = rest.split('/').next().filter(|name| !name.is_empty())?;
    Some(format!("{scheme}://{name}"))
}

fn lock<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
