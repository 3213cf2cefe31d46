//! Requests about external tables, and who asks.
//!
//! `gcp-bigquery-client` cannot send them: its patch has neither query parameters nor headers, and an answer without a
//! schema fails to parse.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use reqwest::header::{AUTHORIZATION, DATE, HeaderMap, IF_MATCH};
use reqwest::{Method, StatusCode, redirect, retry};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::columns::Columns;
use super::dataset;
use super::failure::{Doing, refusal, unanswered};
use crate::clock::Clock;
use crate::config::{ADOPT, BigQueryConfig, process_env};
use crate::error::{Error, ErrorKind, Result};
use crate::google::Google;

/// For a connection, and for a request with its whole answer.
const CONNECT: Duration = Duration::from_secs(5);
const REQUEST: Duration = Duration::from_secs(15);

/// For a token.
const TOKEN: Duration = Duration::from_secs(10);

/// Load balancers close what was idle for a minute.
const IDLE: Duration = Duration::from_secs(45);

/// An external table as BigQuery has it.
#[derive(Debug)]
pub(super) struct External {
    pub(super) etag: String,
    /// The metadata that it reads.
    pub(super) uri: String,
    /// How long ago it was changed, by BigQuery's clock, to the second.
    pub(super) age: Duration,
    pub(super) columns: Vec<Value>,
    pub(super) description: Option<String>,
    pub(super) labels: Value,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Table {
    #[serde(default)]
    etag: String,
    #[serde(default)]
    last_modified_time: Value,
    external_data_configuration: Option<Source>,
    schema: Option<Schema>,
    description: Option<String>,
    #[serde(default)]
    labels: Value,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Source {
    #[serde(default)]
    source_format: String,
    #[serde(default)]
    source_uris: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Schema {
    #[serde(default)]
    fields: Vec<Value>,
}

/// A client of BigQuery's. It sends nothing before it is asked to.
pub(super) struct BigQuery {
    http: reqwest::Client,
    clock: Arc<dyn Clock>,
    /// Made at the first request, and anew when its token is refused.
    google: Mutex<Option<Arc<Google>>>,
}

impl BigQuery {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Result<Self> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("landfast/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .timeout(REQUEST)
            .pool_idle_timeout(IDLE)
            // A token goes nowhere else.
            .redirect(redirect::Policy::none())
            // What is sent again is decided by who follows.
            .retry(retry::never())
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::Unavailable, "The client of BigQuery cannot be made.")
                    .with_source(error)
            })?;
        Ok(Self {
            http,
            clock,
            google: Mutex::default(),
        })
    }

    /// The external table; nothing when there is none.
    ///
    /// # Errors
    /// [`ErrorKind::TableMismatch`] when a table of another kind has its name; else as [`refusal`] says.
    pub(super) async fn find(&self, to: &BigQueryConfig) -> Result<Option<External>> {
        let answer = self
            .send(to, Doing::Read, Method::GET, &table_url(to), None, None)
            .await;
        let (date, body) = match answer {
            Ok(answer) => answer,
            Err(error) if error.context("status") == Some("404") => return Ok(None),
            Err(error) => return Err(error),
        };
        let table: Table = serde_json::from_slice(&body).map_err(|error| {
            Error::new(ErrorKind::Unavailable, "BigQuery's answer cannot be read.")
                .with("external_table", to)
                .with_source(error)
        })?;
        if table.etag.is_empty() {
            // Without it a move could take the pointer back.
            return Err(
                Error::new(ErrorKind::Unavailable, "BigQuery's answer has no etag.")
                    .with("external_table", to),
            );
        }
        let source = table.external_data_configuration;
        let Some(source) = source.filter(|source| source.source_format == "ICEBERG") else {
            let message = "A table that is no external table of Iceberg has the name in BigQuery: rename it, or write another \
                           `table` under `publish.bigquery`.";
            return Err(Error::new(ErrorKind::TableMismatch, message).with("external_table", to));
        };
        Ok(Some(External {
            age: age(
                &table.last_modified_time,
                date.unwrap_or_else(|| self.clock.now()),
            ),
            etag: table.etag,
            uri: source.source_uris.into_iter().next().unwrap_or_default(),
            columns: table.schema.map(|schema| schema.fields).unwrap_or_default(),
            description: table.description,
            labels: table.labels,
        }))
    }

    /// Makes the external table, and its dataset where that is missing. Gives its etag.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when there is one by now; else as [`refusal`] says.
    pub(super) async fn create(&self, to: &BigQueryConfig, uri: &str) -> Result<String> {
        let name = json!({ "projectId": to.project, "datasetId": to.dataset, "tableId": to.table });
        let mut body = Map::new();
        body.insert("tableReference".to_owned(), name);
        body.insert("externalDataConfiguration".to_owned(), source(to, uri));
        if let Some(description) = &to.description {
            body.insert("description".to_owned(), description.as_str().into());
        }
        if !to.labels.is_empty() {
            body.insert("labels".to_owned(), json!(to.labels));
        }
        let (url, body) = (tables_url(to), Value::from(body));
        let create = || self.send(to, Doing::Create, Method::POST, &url, None, Some(&body));
        let (_, created) = match create().await {
            Err(error) if error.context("status") == Some("404") => {
                dataset::ensure(to, &self.http, self.token(to).await?).await?;
                create().await?
            }
            created => created?,
        };
        Ok(etag(&created))
    }

    /// Moves the external table to a metadata file, if it is still as it was found. Gives the etag that it has then.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when it is not; else as [`refusal`] says.
    pub(super) async fn patch(
        &self,
        to: &BigQueryConfig,
        found: &External,
        uri: &str,
        columns: &Columns,
    ) -> Result<String> {
        let mut body = Map::new();
        body.insert("externalDataConfiguration".to_owned(), source(to, uri));
        let mut url = table_url(to);
        match columns {
            Columns::Keep => {}
            Columns::Detect => {
                // So the discovery document spells it; Google's pages say `autodetectSchema`.
                url.push_str("?autodetect_schema=true");
                body.insert("schema".to_owned(), Value::Null);
            }
            Columns::Are(fields) => {
                body.insert("schema".to_owned(), json!({ "fields": fields }));
            }
        }
        if to.description.is_some() && to.description != found.description {
            body.insert("description".to_owned(), json!(to.description));
        }
        let there = |name: &str| found.labels.get(name).and_then(Value::as_str);
        let labels = to.labels.iter();
        let mut labels: Map<String, Value> = labels
            .filter(|(name, value)| there(name) != Some(value.as_str()))
            .map(|(name, value)| (name.clone(), value.as_str().into()))
            .collect();
        if found.labels.get(ADOPT).is_some() && !to.labels.contains_key(ADOPT) {
            labels.insert(ADOPT.to_owned(), Value::Null);
        }
        if !labels.is_empty() {
            body.insert("labels".to_owned(), labels.into());
        }
        let (fence, body) = (Some(found.etag.as_str()), Value::from(body));
        let moving = self.send(to, Doing::Move, Method::PATCH, &url, fence, Some(&body));
        let (_, moved) = moving.await?;
        Ok(etag(&moved))
    }

    /// Removes the external table, if there is one.
    ///
    /// # Errors
    /// As [`refusal`] says.
    pub(super) async fn remove(&self, to: &BigQueryConfig) -> Result<()> {
        let url = table_url(to);
        let removing = self.send(to, Doing::Remove, Method::DELETE, &url, None, None);
        match removing.await {
            Err(error) if error.context("status") == Some("404") => Ok(()),
            removed => removed.map(drop),
        }
    }

    /// Sends a request, and once more with a fresh token where the first was refused. Gives the answer's date and body.
    async fn send(
        &self,
        to: &BigQueryConfig,
        doing: Doing,
        method: Method,
        url: &str,
        fence: Option<&str>,
        body: Option<&Value>,
    ) -> Result<(Option<DateTime<Utc>>, Bytes)> {
        let mut is_fresh = false;
        loop {
            let mut request = self
                .http
                .request(method.clone(), url)
                .headers(self.identity(to).await?);
            if let Some(etag) = fence {
                request = request.header(IF_MATCH, etag);
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            let answer = request.send().await.map_err(|error| unanswered(to, error))?;
            let (status, date) = (answer.status(), date(answer.headers()));
            if status == StatusCode::UNAUTHORIZED && !is_fresh {
                is_fresh = true;
                *self.google.lock().unwrap_or_else(PoisonError::into_inner) = None;
                continue;
            }
            let body = answer.bytes().await.map_err(|error| unanswered(to, error))?;
            return match status.is_success() {
                true => Ok((date, body)),
                false => Err(refusal(to, doing, status, &body)),
            };
        }
    }

    /// What says who we are; nothing to what stands in for BigQuery.
    async fn identity(&self, to: &BigQueryConfig) -> Result<HeaderMap> {
        if to.is_emulated {
            return Ok(HeaderMap::new());
        }
        let google = {
            let mut google = self.google.lock().unwrap_or_else(PoisonError::into_inner);
            match &*google {
                Some(google) => google.clone(),
                None => google
                    .insert(Arc::new(Google::from_env(&process_env, None, TOKEN)?))
                    .clone(),
            }
        };
        google.headers().await
    }

    async fn token(&self, to: &BigQueryConfig) -> Result<String> {
        let headers = self.identity(to).await?;
        let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = value.and_then(|value| value.strip_prefix("Bearer "));
        Ok(token.unwrap_or_default().to_owned())
    }
}

impl std::fmt::Debug for BigQuery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BigQuery").finish_non_exhaustive()
    }
}

fn tables_url(to: &BigQueryConfig) -> String {
    let (endpoint, project, dataset) = (&to.endpoint, &to.project, &to.dataset);
    format!("{endpoint}/bigquery/v2/projects/{project}/datasets/{dataset}/tables")
}

fn table_url(to: &BigQueryConfig) -> String {
    format!("{}/{}", tables_url(to), to.table)
}

/// An answer that cannot be read only makes the next step wait a little longer.
fn etag(table: &[u8]) -> String {
    let table: Option<Table> = serde_json::from_slice(table).ok();
    table.map(|table| table.etag).unwrap_or_default()
}

fn source(to: &BigQueryConfig, uri: &str) -> Value {
    json!({ "sourceFormat": "ICEBERG", "connectionId": to.connection_id(), "sourceUris": [uri] })
}

fn date(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    let text = headers.get(DATE)?.to_str().ok()?;
    Some(DateTime::parse_from_rfc2822(text).ok()?.to_utc())
}

/// How long before `now` a time in milliseconds was, which BigQuery writes as text.
fn age(modified: &Value, now: DateTime<Utc>) -> Duration {
    let text = modified.as_str().and_then(|text| text.parse().ok());
    let modified = text.or_else(|| modified.as_i64()).unwrap_or_default();
    let age = now.timestamp_millis().saturating_sub(modified);
    Duration::from_millis(age.try_into().unwrap_or_default())
}
