//! Tables whose newest metadata a server names.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use iceberg::spec::TableMetadata;
use iceberg::table::Table;
use iceberg::{NamespaceIdent, TableCreation, TableIdent};
use iceberg_catalog_rest::{CreateNamespaceRequest, CreateTableRequest, ListTablesResponse};
use reqwest::Method;

use super::super::{Catalog, Outcome, TableCommit, already_exists, not_found, open_table};
use super::client::{Client, Patience, Request, parse};
use super::credentials::StorageCredential;
use super::failure::Failure;
use super::stores::Stores;
use super::terms::{Terms, plain_text};
use super::vending::Vending;
use super::wire::{ConfigResponse, CredentialsResponse, TableResponse};
use crate::clock::Clock;
use crate::config::{RestAuth, RestCatalogConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::random::Random;
use crate::storage::Store;

/// No namespace has so many; a server that goes on giving pages is broken.
const MAX_PAGES: usize = 10_000;

/// Tables named by a server that speaks Iceberg's REST protocol, which other engines may write too.
///
/// ```no_run
/// # use std::sync::Arc;
/// use landfast::catalog::{Catalog, Patience, RestCatalog};
/// use landfast::clock::SystemClock;
/// use landfast::config::{RestAuth, RestCatalogConfig};
/// use landfast::random::Random;
/// use landfast::storage::Store;
///
/// # async fn example() -> landfast::error::Result<()> {
/// let config = RestCatalogConfig {
///     uri: "http://127.0.0.1:8181".to_owned(),
///     warehouse: None,
///     prefix: None,
///     auth: RestAuth::None,
///     headers: Default::default(),
/// };
/// let warehouse = Store::open("file:///lake/warehouse")?;
/// let (clock, random) = (Arc::new(SystemClock), Arc::new(Random::from_os()));
/// let catalog = RestCatalog::open(&config, warehouse, clock, random, Patience::default()).await?;
/// let tables = catalog.list_tables(&iceberg::NamespaceIdent::new("shop".to_owned())).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RestCatalog {
    pub(super) client: Arc<Client>,
    pub(super) terms: Arc<Terms>,
    vending: Arc<Vending>,
    stores: Stores,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<Random>,
}

impl RestCatalog {
    /// Asks the server for its configuration. Tables lie under `warehouse`, or in a bucket that the credentials which the
    /// server vends with them open, or the service's own.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the server does not answer, [`ErrorKind::Rejected`] when it does not let us, or
    /// is no catalog.
    pub async fn open(
        config: &RestCatalogConfig,
        warehouse: Store,
        clock: Arc<dyn Clock>,
        random: Arc<Random>,
        patience: Patience,
    ) -> Result<Self> {
        warn_of_plain_text(config, &config.uri);
        let client = Client::new(config, patience, clock.clone(), random.clone())?;
        let message = "The catalog's server gives no configuration.";
        let answer = client.get(Terms::config_url(config)).await;
        let answer = answer.map_err(|failure| {
            let error = failure.into_error(message).with("uri", &config.uri);
            match &config.warehouse {
                Some(warehouse) => error.with("catalog.warehouse", warehouse),
                None => error,
            }
        })?;
        let response: ConfigResponse = parse(
            &answer,
            "The catalog's configuration is not what a catalog sends; see `catalog.uri`.",
        )
        .map_err(|error| error.with("uri", &config.uri))?;
        let (client, terms) = (Arc::new(client), Arc::new(Terms::agree(config, response)?));
        if terms.uri() != config.uri {
            warn_of_plain_text(config, terms.uri());
        }
        let vending = Arc::new(Vending::new(client.clone(), terms.clone(), clock.clone()));
        Ok(Self {
            client,
            terms,
            stores: Stores::new(warehouse, vending.clone()),
            vending,
            clock,
            random,
        })
    }

    /// The storage credentials that the server vends with a table, for as long as they last: those of the last load, or
    /// newer ones where these are nearly over. Empty when it vends none. [`super::credential_for`] chooses among them.
    ///
    /// # Errors
    /// Those of [`Catalog::load_table`], and that the server vends none any more, when there are none that still last.
    pub async fn storage_credentials(&self, table: &TableIdent) -> Result<Vec<StorageCredential>> {
        self.vending.credentials(table).await
    }

    /// Takes in a table as the server tells of it.
    fn loaded(&self, ident: &TableIdent, answer: &[u8]) -> Result<Table> {
        let result: TableResponse = parse(answer, "The table that the server sends cannot be understood.")
            .map_err(|error| error.with("table", ident))?;
        let location = result.metadata_location.ok_or_else(|| {
            // It is what tells two loads apart.
            Error::new(
                ErrorKind::Rejected,
                "The server names no metadata file for the table.",
            )
            .with("table", ident)
        })?;
        let vended = CredentialsResponse {
            storage_credentials: result.storage_credentials,
            config: result.config,
        };
        self.vending.keep(ident, vended);
        self.table(ident, result.metadata, location)
    }

    pub(super) fn table(
        &self,
        ident: &TableIdent,
        metadata: TableMetadata,
        location: String,
    ) -> Result<Table> {
        let store = self.stores.of(ident, metadata.location())?;
        open_table(&store, ident, metadata, location)
    }

    fn forget(&self, ident: &TableIdent) {
        self.vending.forget(ident);
        self.stores.forget(ident);
    }

    async fn namespace_exists(&self, namespace: &NamespaceIdent) -> Result<bool> {
        match self.client.get(self.terms.namespace(namespace)?).await {
            Ok(_) => Ok(true),
            Err(failure) if failure.is_not_found() => Ok(false),
            Err(failure) => Err(failure
                .into_error("The namespace cannot be looked up.")
                .with("namespace", namespace)),
        }
    }

    async fn post_namespace(&self, namespace: &NamespaceIdent) -> Result<(), Failure> {
        let body = CreateNamespaceRequest {
            namespace: namespace.clone(),
            properties: HashMap::new(),
        };
        let request = Request::post(self.terms.namespaces(), &body).map_err(Failure::NotReady)?;
        match self.client.send(&request).await {
            Err(failure) if failure.is_conflict() => Ok(()),
            ended => ended.map(drop),
        }
    }
}

#[async_trait]
impl Catalog for RestCatalog {
    /// A namespace that is there is left alone, so that a user who may not make one may still use it.
    async fn create_namespace(&self, namespace: &NamespaceIdent) -> Result<()> {
        if self.namespace_exists(namespace).await? {
            return Ok(());
        }
        let failed = |failure: Failure| {
            let message = "The namespace cannot be made.";
            failure.into_error(message).with("namespace", namespace)
        };
        match self.post_namespace(namespace).await {
            Err(failure) if failure.is_not_found() => {}
            ended => return ended.map_err(failed),
        }
        // Some servers want the parents first.
        let levels: &[String] = namespace.as_ref();
        for depth in 1..=levels.len() {
            let parent = NamespaceIdent::from_strs(levels.iter().take(depth)).map_err(|error| {
                Error::new(ErrorKind::Rejected, "The namespace has no levels.").with_source(error)
            })?;
            self.post_namespace(&parent).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn drop_namespace(&self, namespace: &NamespaceIdent) -> Result<()> {
        let request = Request::new(Method::DELETE, self.terms.namespace(namespace)?);
        match self.client.send(&request).await {
            Ok(_) => Ok(()),
            // It is gone, or has tables.
            Err(failure) if failure.is_not_found() || failure.is_conflict() => Ok(()),
            Err(failure) => Err(failure
                .into_error("The namespace cannot be dropped.")
                .with("namespace", namespace)),
        }
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        let message = "The tables cannot be listed.";
        let mut tables = BTreeSet::new();
        let mut token = String::new();
        for _ in 0..MAX_PAGES {
            let answer = match self.client.get(self.terms.tables_page(namespace, &token)?).await {
                Ok(answer) => answer,
                Err(failure) if failure.is_not_found() => return Ok(Vec::new()),
                Err(failure) => return Err(failure.into_error(message).with("namespace", namespace)),
            };
            let page: ListTablesResponse =
                parse(&answer, message).map_err(|error| error.with("namespace", namespace))?;
            tables.extend(page.identifiers.into_iter().map(|table| table.name));
            match page.next_page_token.filter(|next| !next.is_empty()) {
                Some(next) => token = next,
                None => {
                    let ident = |name| TableIdent::new(namespace.clone(), name);
                    return Ok(tables.into_iter().map(ident).collect());
                }
            }
        }
        Err(
            Error::new(ErrorKind::Rejected, "The server's list of tables does not end.")
                .with("namespace", namespace),
        )
    }

    /// The server chooses the table's place unless the creation names one.
    async fn create_table(&self, namespace: &NamespaceIdent, creation: TableCreation) -> Result<Table> {
        let ident = TableIdent::new(namespace.clone(), creation.name);
        let mut properties = creation.properties;
        properties.insert(
            "format-version".to_owned(),
            (creation.format_version as u8).to_string(),
        );
        let body = CreateTableRequest {
            name: ident.name().to_owned(),
            location: creation.location,
            schema: creation.schema,
            // Java does not read a spec without an id; the first has none before it.
            partition_spec: creation.partition_spec.map(|spec| spec.with_spec_id(0)),
            write_order: creation.sort_order,
            stage_create: Some(false),
            properties,
        };
        let request = Request::post(self.terms.tables(namespace)?, &body)?;
        match self.client.send(&request).await {
            Ok(answer) => self.loaded(&ident, &answer),
            // What has the name may be a view: only the server's words tell.
            Err(failure) if failure.is_conflict() => {
                Err(already_exists(&ident).with_source(failure.into_error("The server has one.")))
            }
            Err(failure) => Err(failure
                .into_error("The table cannot be made.")
                .with("table", ident)),
        }
    }

    async fn load_table(&self, ident: &TableIdent) -> Result<Table> {
        match self.client.get(self.terms.table(ident)?).await {
            Ok(answer) => self.loaded(ident, &answer),
            Err(failure) if failure.is_not_found() => {
                self.forget(ident);
                Err(not_found(ident).with_source(failure.into_error("The server has none.")))
            }
            Err(failure) => Err(failure
                .into_error("The table cannot be loaded.")
                .with("table", ident)),
        }
    }

    /// Forgets the table as it is then: the protocol has no condition on it.
    async fn drop_table(&self, ident: &TableIdent) -> Result<()> {
        let url = format!("{}?purgeRequested=false", self.terms.table(ident)?);
        let dropped = self.client.send(&Request::new(Method::DELETE, url)).await;
        self.forget(ident);
        match dropped {
            Ok(_) => Ok(()),
            Err(failure) if failure.is_not_found() => Err(not_found(ident)),
            Err(failure) => Err(failure
                .into_error("The table cannot be dropped.")
                .with("table", ident)),
        }
    }

    async fn commit_table(&self, base: &Table, commit: TableCommit) -> Outcome {
        self.commit(base, commit).await
    }

    fn fences_by_snapshot(&self) -> bool {
        !self.terms.is_nessie
    }

    fn store_of(&self, table: &Table) -> Result<Option<Store>> {
        let location = table.metadata().location();
        self.stores.of(table.identifier(), location).map(Some)
    }
}

/// Tokens belong on encrypted connections; inside a cluster, though, something else may see to that.
fn warn_of_plain_text(config: &RestCatalogConfig, catalog: &str) {
    let endpoint = match &config.auth {
        RestAuth::OAuth2(oauth2) => oauth2.oauth2_server_uri.as_deref(),
        _ => None,
    };
    if let Some(uri) = plain_text(endpoint.into_iter().chain([catalog]))
        && (config.auth != RestAuth::None || !config.headers.is_empty())
    {
        tracing::warn!(
            uri,
            "The catalog's tokens and headers travel unencrypted; https:// hides them."
        );
    }
}
