//! Steps and followers against a server of one external table that answers as a test says. What the server of BigQuery's API
//! does with the same requests is in `tests/publish`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use iceberg::spec::{ListType, NestedField, PrimitiveType, Schema, Type};
use iceberg::table::Table;
use iceberg::{TableCreation, TableIdent, TableUpdate};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio::time::{Instant, advance, pause, resume, timeout, timeout_at};

use super::client::BigQuery;
use super::pointer::{Memory, Step, step};
use super::{NO_TABLE, Note, Publication, Publishers};
use crate::catalog::{Catalog, MemoryCatalog, TableCommit};
use crate::clock::SystemClock;
use crate::config::{BigQueryConfig, Connection};
use crate::error::{ErrorKind, Result};
use crate::random::Random;
use crate::storage::Store;

/// What cannot take longer unless it is wrong.
const SOON: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Told {
    /// `null` where there is none.
    table: Value,
    changes: usize,
    /// Of the next changes, as a status and a reason.
    refusals: VecDeque<(u16, &'static str)>,
    requests: Vec<(Method, Value)>,
}

/// The server, with the table's catalog.
struct Site {
    to: BigQueryConfig,
    told: Arc<Mutex<Told>>,
    catalog: Arc<dyn Catalog>,
    ident: TableIdent,
    serving: AbortHandle,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn held(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Site {
    /// With a table at its first state, and no external table.
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let told: Arc<Mutex<Told>> = Arc::default();
        let routes = Router::new().fallback(answer).with_state(told.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        let site = Self {
            to: BigQueryConfig {
                project: "p".to_owned(),
                dataset: "d".to_owned(),
                table: "orders".to_owned(),
                connection: Connection::default(),
                location: "us".to_owned(),
                description: None,
                labels: BTreeMap::new(),
                endpoint,
                is_emulated: true,
            },
            told,
            catalog: Arc::new(MemoryCatalog::new(Store::open("memory:///w").unwrap())),
            ident: TableIdent::from_strs(["shop", "orders"]).unwrap(),
            serving: serving.abort_handle(),
        };
        site.create("gs://lake/shop/orders").await;
        site
    }

    async fn create(&self, location: &str) -> Table {
        self.create_with(location, Type::Primitive(PrimitiveType::Long))
            .await
    }

    async fn create_with(&self, location: &str, kind: Type) -> Table {
        let field = NestedField::optional(1, "id", kind);
        let schema = Schema::builder().with_fields([field.into()]).build().unwrap();
        let creation = TableCreation::builder()
            .name("orders".to_owned())
            .location(location.to_owned())
            .schema(schema)
            .build();
        let created = self.catalog.create_table(self.ident.namespace(), creation);
        created.await.unwrap()
    }

    /// Moves the table; gives its state.
    async fn commit(&self) -> Table {
        let base = self.catalog.load_table(&self.ident).await.unwrap();
        let updates = [("n".to_owned(), base.metadata().metadata_log().len().to_string())].into();
        let commit = TableCommit {
            requirements: Vec::new(),
            updates: vec![TableUpdate::SetProperties { updates }],
        };
        self.catalog
            .commit_table(&base, commit)
            .await
            .into_result()
            .unwrap()
    }

    /// Puts an external table there, which was changed just now or long ago.
    fn put(&self, uri: &str, is_young: bool, more: Value) {
        let modified = if is_young {
            Utc::now().timestamp_millis()
        } else {
            0
        };
        let mut table = json!({ "lastModifiedTime": modified.to_string(), "etag": "0",
            "externalDataConfiguration": { "sourceFormat": "ICEBERG", "sourceUris": [uri] } });
        merge(&mut table, more);
        held(&self.told).table = table;
    }

    fn refuse(&self, refusals: impl IntoIterator<Item = (u16, &'static str)>) {
        held(&self.told).refusals = refusals.into_iter().collect();
    }

    fn uri(&self) -> String {
        let uri = held(&self.told).table["externalDataConfiguration"]["sourceUris"][0].clone();
        uri.as_str().unwrap_or_default().to_owned()
    }

    /// The bodies of the changes that came since this was last asked.
    fn changes(&self) -> Vec<Value> {
        let sent = std::mem::take(&mut held(&self.told).requests).into_iter();
        sent.filter(|(method, _)| *method != Method::GET)
            .map(|(_, body)| body)
            .collect()
    }

    async fn step(&self, memory: &mut Memory) -> Result<Step> {
        let bigquery = BigQuery::new(Arc::new(SystemClock))?;
        step(&bigquery, &self.to, self.catalog.as_ref(), &self.ident, memory).await
    }

    fn publishers(&self) -> Publishers {
        let published = [(self.ident.clone(), self.to.clone())];
        let (catalog, random) = (self.catalog.clone(), Arc::new(Random::seeded(7)));
        let mut publishers = Publishers::new(published, catalog, Arc::new(SystemClock), random);
        publishers.holds_requests = true;
        publishers
    }
}

fn merge(into: &mut Value, change: Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (name, value) in change {
                match value {
                    Value::Null => drop(into.remove(&name)),
                    value => merge(into.entry(name).or_insert(Value::Null), value),
                }
            }
        }
        (into, change) => *into = change,
    }
}

async fn answer(State(told): State<Arc<Mutex<Told>>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(Body::new(body), usize::MAX).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let fence = head
        .headers
        .get("if-match")
        .map(|etag| etag.to_str().unwrap().to_owned());
    let mut told = held(&told);
    told.requests.push((head.method.clone(), body.clone()));
    let refuse = |status: u16, reason: &str| {
        let error = json!({ "error": { "message": reason, "errors": [{ "reason": reason }] } });
        (StatusCode::from_u16(status).unwrap(), error.to_string()).into_response()
    };
    if head.method != Method::GET {
        if let Some((status, reason)) = told.refusals.pop_front() {
            return refuse(status, reason);
        }
        if fence != told.table["etag"].as_str().map(str::to_owned) {
            return refuse(412, "conditionNotMet");
        }
        told.changes += 1;
        let mut table = std::mem::take(&mut told.table);
        if table.is_null() {
            table = Map::new().into();
        }
        merge(&mut table, body);
        table["etag"] = told.changes.to_string().into();
        table["lastModifiedTime"] = Utc::now().timestamp_millis().to_string().into();
        told.table = table;
    }
    match &told.table {
        Value::Null => refuse(404, "notFound"),
        table => table.to_string().into_response(),
    }
}

fn metadata(table: &Table) -> &str {
    table.metadata_location().unwrap()
}

fn note(table: &Table) -> Note {
    Note::of(Some(table), None)
}

/// Waits for what is to be visible at once.
async fn visible(publication: Publication) {
    let waiting = publication.visible_soon(Instant::now() + SOON * 3);
    timeout(SOON, waiting).await.unwrap();
}

/// A column that the table has not, with what somebody set on it.
fn tagged() -> Value {
    json!({ "schema": { "fields": [{ "name": "gone", "type": "STRING", "description": "Theirs" }] } })
}

#[tokio::test]
async fn columns_are_blamed_for_a_refusal_only_where_a_move_without_them_is_taken() {
    let site = Site::new().await;
    let mut memory = Memory::default();
    let first = site.commit().await;
    site.commit().await;
    site.put(metadata(&first), false, tagged());
    site.refuse([(400, "invalid"), (400, "invalid")]);
    assert_eq!(site.step(&mut memory).await.unwrap(), Step::ColumnsRefused);
    let error = site.step(&mut memory).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
    let bodies = site.changes();
    assert_eq!(
        bodies
            .iter()
            .map(|body| body["schema"].is_null())
            .collect::<Vec<_>>(),
        [false, true]
    );
    // It was the connection, say, which is mended by now.
    assert_eq!(site.step(&mut memory).await.unwrap(), Step::Moved);
    assert!(!site.changes()[0]["schema"].is_null());

    // It is the columns.
    site.put(metadata(&first), false, tagged());
    site.refuse([(400, "invalid")]);
    assert_eq!(site.step(&mut memory).await.unwrap(), Step::ColumnsRefused);
    for _ in 0..2 {
        site.put(metadata(&first), false, tagged());
        assert_eq!(site.step(&mut memory).await.unwrap(), Step::Moved);
        assert!(site.changes().pop().unwrap()["schema"].is_null());
    }
    // Not for ever: somebody may have made them fit.
    pause();
    advance(Duration::from_secs(3601)).await;
    resume();
    site.put(metadata(&first), false, tagged());
    assert_eq!(site.step(&mut memory).await.unwrap(), Step::Moved);
    assert!(!site.changes()[0]["schema"].is_null());
}

/// What is logged on this thread.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn columns_without_a_word_in_bigquery_are_told_of_once() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let site = Site::new().await;
    site.catalog.drop_table(&site.ident).await.unwrap();
    let lists = |id, inner| Type::List(ListType::new(NestedField::list_element(id, inner, false).into()));
    let of_lists = lists(2, lists(3, Type::Primitive(PrimitiveType::Long)));
    let first = site.create_with("gs://lake/shop/orders", of_lists).await;
    let mut memory = Memory::default();
    for _ in 0..3 {
        site.commit().await;
        let shown = json!({ "schema": { "fields": [{ "name": "other", "type": "STRING" }] } });
        site.put(metadata(&first), false, shown);
        assert_eq!(site.step(&mut memory).await.unwrap(), Step::Moved);
    }
    let told = log.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let told = String::from_utf8(told).unwrap();
    assert_eq!(
        told.matches("The columns of the external table change").count(),
        1,
        "{told}"
    );
}

#[tokio::test]
async fn nothing_is_moved_without_an_etag() {
    let site = Site::new().await;
    let first = site.commit().await;
    site.commit().await;
    for etag in [Value::Null, json!("")] {
        site.put(metadata(&first), false, json!({}));
        merge(&mut held(&site.told).table, json!({ "etag": etag }));
        let error = site.step(&mut Memory::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(site.changes().is_empty());
    }
}

#[tokio::test]
async fn external_table_of_another_table_is_left_alone_until_it_is_handed_over() {
    let site = Site::new().await;
    let mut memory = Memory::default();
    site.put(
        "gs://lake/shop/clicks/metadata/v7.metadata.json",
        false,
        json!({}),
    );
    let error = site.step(&mut memory).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TableMismatch);
    assert!(error.report().contains("landfast_adopt"), "{}", error.report());
    assert!(site.changes().is_empty());
    let label = json!({ "labels": { "landfast_adopt": "", "team": "shop" }, "description": "Theirs" });
    merge(&mut held(&site.told).table, label);
    assert_eq!(site.step(&mut memory).await.unwrap(), Step::Moved);
    assert_eq!(site.changes()[0]["labels"], json!({ "landfast_adopt": null }));
    let table = held(&site.told).table.clone();
    assert_eq!(
        (&table["labels"], &table["description"]),
        (&json!({ "team": "shop" }), &json!("Theirs"))
    );
    // What it moved last it follows wherever the table is made anew.
    site.catalog.drop_table(&site.ident).await.unwrap();
    let anew = site.create("gs://lake/shop/orders_2").await;
    assert_eq!(site.step(&mut memory).await.unwrap(), Step::Moved);
    assert_eq!(site.uri(), metadata(&anew));
    // Another process knows where a table lies, and no more.
    site.catalog.drop_table(&site.ident).await.unwrap();
    site.create("gs://lake/shop/orders_2").await;
    merge(&mut held(&site.told).table, json!({ "lastModifiedTime": "0" }));
    assert_eq!(site.step(&mut Memory::default()).await.unwrap(), Step::Moved);
    site.catalog.drop_table(&site.ident).await.unwrap();
    site.create("gs://lake/shop/orders_3").await;
    let error = site.step(&mut Memory::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TableMismatch);
}

#[tokio::test]
async fn commit_is_let_go_of_when_another_process_made_it_visible() {
    // Where it is not young, another is first at each move.
    tokio::join!(let_go_of(true), let_go_of(false));
}

async fn let_go_of(is_young: bool) {
    let site = Site::new().await;
    let publishers = site.publishers();
    let second = site.commit().await;
    let third = site.commit().await;
    site.put(metadata(&second), is_young, json!({}));
    site.refuse([(412, "conditionNotMet"); 100]);
    visible(publishers.committed(&site.ident, note(&second)).unwrap()).await;
    assert_eq!(site.uri(), metadata(&second));
    let newer = publishers.committed(&site.ident, note(&third)).unwrap();
    let waiting = newer.visible_soon(Instant::now() + SOON * 2);
    assert!(
        timeout(SOON / 2, waiting).await.is_err(),
        "nobody shows the third"
    );
    site.put(metadata(&third), true, json!({}));
    let waiting = newer.visible_soon(Instant::now() + SOON * 5);
    timeout(SOON * 4, waiting).await.unwrap();
    // What is found again is known to be visible, and nobody is asked.
    held(&site.told).requests.clear();
    for table in [&third, &second, &third] {
        assert!(publishers.committed(&site.ident, note(table)).is_none());
    }
    tokio::task::yield_now().await;
    assert!(held(&site.told).requests.is_empty());
    let unpublished = publishers.close(Instant::now() + SOON).await;
    assert!(unpublished.is_empty() && held(&site.told).requests.is_empty());
}

#[tokio::test]
async fn table_that_is_shown_is_no_longer_told_to_be_gone() {
    let site = Site::new().await;
    let publishers = site.publishers();
    let last = || publishers.status(&site.ident).unwrap().last;
    let first = site.commit().await;
    site.catalog.drop_table(&site.ident).await.unwrap();
    visible(publishers.committed(&site.ident, note(&first)).unwrap()).await;
    assert_eq!(last(), Some(NO_TABLE));
    // Made anew, and shown by another process, which is at it still.
    let anew = site.create("gs://lake/shop/orders").await;
    site.commit().await;
    site.put(metadata(&anew), true, json!({}));
    let publication = publishers.committed(&site.ident, note(&anew)).unwrap();
    let waiting = publication.visible_soon(Instant::now() + SOON * 5);
    timeout(SOON * 4, waiting).await.unwrap();
    assert_eq!(last(), None);
}

#[tokio::test]
async fn whoever_waits_is_let_go_of_by_a_follower_that_ends() {
    let site = Site::new().await;
    let publishers = site.publishers();
    site.refuse([(403, "accessDenied"); 100]);
    let publication = publishers.committed(&site.ident, Note::default()).unwrap();
    let short = Instant::now() + Duration::from_millis(100);
    timeout_at(short + SOON, publication.visible_soon(short))
        .await
        .unwrap();
    let waiting = publication.visible_soon(Instant::now() + SOON * 5);
    let closing = publishers.close(Instant::now() + SOON * 5);
    let (waited, unpublished) = tokio::join!(timeout(SOON * 4, waiting), closing);
    waited.unwrap();
    assert_eq!(unpublished[&site.ident].kind(), ErrorKind::Forbidden);
}

#[tokio::test(start_paused = true)]
async fn stop_is_not_waited_away_after_failures() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let told = recorder.handle();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let attempts = || -> usize {
        let text = told.render();
        let line = text
            .lines()
            .find(|line| line.starts_with("landfast_publishes_total{"));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or_default()
    };
    let mut site = Site::new().await;
    // Nobody is there.
    site.to.endpoint = "http://127.0.0.1:1".to_owned();
    let publishers = site.publishers();
    publishers.committed(&site.ident, Note::default());
    tokio::time::sleep(Duration::from_secs(300)).await;
    let before = attempts();
    let unpublished = publishers.close(Instant::now() + Duration::from_secs(8)).await;
    assert_eq!(unpublished[&site.ident].kind(), ErrorKind::Unavailable);
    let meanwhile = attempts() - before;
    assert!(meanwhile >= 3, "{meanwhile} attempts, {before} before");
}
