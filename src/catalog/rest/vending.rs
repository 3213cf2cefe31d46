//! Tables' storage credentials: kept from one load to the next, and had anew before they end, by one request at a time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use iceberg::TableIdent;
use reqwest::Method;

use super::client::{Client, Request, parse};
use super::credentials::{self, Held, StorageCredential, credential_for, vended};
use super::terms::Terms;
use super::wire::CredentialsResponse;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{Properties, Vendor};

/// A server that failed to renew credentials that still last is not asked again for so long.
const PAUSE: TimeDelta = TimeDelta::seconds(20);

/// The credentials of the tables that were loaded, and where there are newer ones.
#[derive(Debug)]
pub(super) struct Vending {
    client: Arc<Client>,
    terms: Arc<Terms>,
    clock: Arc<dyn Clock>,
    tables: Mutex<HashMap<TableIdent, Arc<Shelf>>>,
}

/// One table's.
#[derive(Debug, Default)]
struct Shelf {
    held: Mutex<Option<Held>>,
    /// Held while they are had anew, so that whoever needs them waits for the one request.
    renewal: tokio::sync::Mutex<Renewal>,
    /// How many renewals have ended.
    ended: AtomicU64,
}

#[derive(Debug, Default)]
struct Renewal {
    /// How the last one failed, if it did.
    failed: Option<Error>,
    not_before: Option<DateTime<Utc>>,
}

impl Shelf {
    fn slot(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> Option<Held> {
        self.slot().clone()
    }

    /// Takes in what an answer vends, over what was known before of the way there. Gives it.
    fn put(
        &self,
        response: CredentialsResponse,
        mut config: HashMap<String, String>,
        now: DateTime<Utc>,
    ) -> Vec<StorageCredential> {
        config.extend(response.config.unwrap_or_default());
        let way = credentials::way(&config);
        let vended = vended(response.storage_credentials.unwrap_or_default(), config);
        if !vended.is_empty() {
            *self.slot() = Some(Held::new(vended.clone(), way, now));
        }
        vended
    }
}

impl Vending {
    pub(super) fn new(client: Arc<Client>, terms: Arc<Terms>, clock: Arc<dyn Clock>) -> Self {
        Self {
            client,
            terms,
            clock,
            tables: Mutex::default(),
        }
    }

    /// Takes in what a table was loaded with. Nothing takes nothing away: what was vended before lasts to its end, and a
    /// table that is reached by vended credentials is not reached by others from one load to the next.
    pub(super) fn keep(&self, table: &TableIdent, loaded: CredentialsResponse) {
        self.shelf(table).put(loaded, HashMap::new(), self.clock.now());
    }

    /// The table is gone.
    pub(super) fn forget(&self, table: &TableIdent) {
        self.tables().remove(table);
    }

    /// What is held for a table, whether it still lasts or not.
    pub(super) fn held(&self, table: &TableIdent) -> Vec<StorageCredential> {
        let shelf = self.tables().get(table).cloned();
        let held = shelf.and_then(|shelf| shelf.held());
        held.map(|held| held.credentials).unwrap_or_default()
    }

    /// The table's credentials for as long as they last: those held, or newer ones where these are nearly over. Empty when
    /// the server never vended any.
    ///
    /// # Errors
    /// When there are none that still last: what the server said, or that it vends none any more.
    pub(super) async fn credentials(&self, table: &TableIdent) -> Result<Vec<StorageCredential>> {
        let shelf = self.shelf(table);
        let now = self.clock.now();
        match shelf.held() {
            Some(held) if held.is_fresh(now) => Ok(held.credentials),
            Some(held) if held.is_valid(now) => Ok(self.ahead(table, &shelf, held).await),
            _ => self.anew(table, &shelf).await,
        }
    }

    /// Newer ones than those held, which will do if there are none this time.
    async fn ahead(&self, table: &TableIdent, shelf: &Shelf, held: Held) -> Vec<StorageCredential> {
        let now = self.clock.now();
        let Ok(mut renewal) = shelf.renewal.try_lock() else {
            return held.credentials;
        };
        if renewal.not_before.is_some_and(|moment| now < moment) {
            return held.credentials;
        }
        match self.renew(table, shelf, true).await {
            Ok(renewed) if !renewed.is_empty() => {
                *renewal = Renewal::default();
                return renewed;
            }
            Ok(_none) => tracing::warn!(
                table.ident = %table,
                "The catalog's server vends no storage credentials for the table any more; the last ones are used to their end."
            ),
            Err(error) => tracing::warn!(
                table.ident = %table,
                error = error.report(),
                "The table's storage credentials could not be renewed; they still last."
            ),
        }
        renewal.not_before = Some(now + PAUSE);
        held.credentials
    }

    async fn anew(&self, table: &TableIdent, shelf: &Shelf) -> Result<Vec<StorageCredential>> {
        let seen = shelf.ended.load(Ordering::Acquire);
        let mut renewal = shelf.renewal.lock().await;
        let held = shelf.held();
        if let Some(held) = held.as_ref().filter(|held| held.is_valid(self.clock.now())) {
            return Ok(held.credentials.clone());
        }
        // What failed for the one that was waited for is not asked again by each that waited.
        if let Some(error) = &renewal.failed
            && shelf.ended.load(Ordering::Acquire) != seen
        {
            return Err(error.clone());
        }
        let renewed = match self.renew(table, shelf, false).await {
            Ok(none) if none.is_empty() && held.is_some() => Err(Error::new(
                ErrorKind::Rejected,
                "The catalog's server vends no storage credentials for the table any more, and the last ones are over.",
            )
            .with("table", table)),
            renewed => renewed,
        };
        *renewal = Renewal {
            failed: renewed.as_ref().err().cloned(),
            not_before: None,
        };
        shelf.ended.fetch_add(1, Ordering::AcqRel);
        renewed
    }

    /// Asks the server, once or as patiently as for any load.
    async fn renew(&self, table: &TableIdent, shelf: &Shelf, once: bool) -> Result<Vec<StorageCredential>> {
        let message = "The table's storage credentials cannot be had.";
        let mut url = self.terms.table(table)?;
        let mut way = HashMap::new();
        if let Some(held) = shelf.held().filter(|_| self.terms.has_credentials_endpoint) {
            url.push_str("/credentials");
            // It answers with credentials, and not with where the store is.
            way = held.way;
        }
        let answer = match once {
            true => self.client.send(&Request::new(Method::GET, url)).await,
            false => self.client.get(url).await,
        };
        let answer = answer.map_err(|failure| failure.into_error(message).with("table", table))?;
        let response: CredentialsResponse =
            parse(&answer, message).map_err(|error| error.with("table", table))?;
        Ok(shelf.put(response, way, self.clock.now()))
    }

    fn shelf(&self, table: &TableIdent) -> Arc<Shelf> {
        self.tables().entry(table.clone()).or_default().clone()
    }

    fn tables(&self) -> MutexGuard<'_, HashMap<TableIdent, Arc<Shelf>>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a table's store asks: the credential for the table's location, as it is now.
#[derive(Debug)]
pub(super) struct OfTable {
    pub(super) vending: Arc<Vending>,
    pub(super) table: TableIdent,
    pub(super) location: String,
}

#[async_trait]
impl Vendor for OfTable {
    async fn properties(&self) -> Result<Properties> {
        let credentials = self.vending.credentials(&self.table).await?;
        let credential = credential_for(&credentials, &self.location).ok_or_else(|| {
            let message = "The catalog's server vends no credentials for the table's location any more.";
            Error::new(ErrorKind::Rejected, message)
                .with("table", &self.table)
                .with("location", &self.location)
        })?;
        Ok(credential.config.clone())
    }
}
