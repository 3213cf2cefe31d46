//! The catalog: a table of the check's own, a row in it, read back; its external tables; then timed commits, and all of it
//! gone.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use bytes::Bytes;
use futures::TryStreamExt;
use iceberg::TableCreation;
use iceberg::spec::{NestedField, PrimitiveType, Schema, Type};
use iceberg::table::Table;
use tokio::time::{Duration, Instant, timeout, timeout_at};

use super::ceiling::{TIMING, WRITES};
use super::leftovers::{Removed, remove_table};
use super::own::{self, Own};
use super::remedy::Place;
use super::report::{Found, Gathered};
use super::{PROBE, REMOVAL, bounded, external, line};
use crate::clock::Moment;
use crate::commit::{ChangeSet, Engine, Group, Head};
use crate::config::{CatalogConfig, Config};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{Entry, Space};
use crate::write::{arrow_schema, write_data_files};

const WHAT: &str = "catalog";

/// Another check may drop the namespace between its making and the table's.
const TRIES: usize = 3;

/// Probes the catalog, and times commits where it works.
pub(super) async fn probe(config: &Config, engine: &Engine, own: &Own) -> Gathered {
    let mut gathered = Gathered::default();
    let (mut times, mut external) = (Vec::new(), Gathered::default());
    let place = Place::Catalog(&config.catalog, &config.warehouse);
    let probing = async {
        let probed = bounded(first_row(engine, own)).await;
        let found = match probed {
            Ok(mut head) => {
                let once_more = commit(engine, &mut head, own.name());
                external = external::probe(config, engine.catalog().as_ref(), own, once_more).await;
                times = time(engine, head).await;
                Found::passed(format!(
                    "made {}, committed a row, read it, dropped",
                    own::table(own.name())
                ))
            }
            Err(error) => Found::refused(&place, &error),
        };
        let removing = remove_table(engine, own.name());
        let removed = timeout(REMOVAL, removing)
            .await
            .unwrap_or_else(|_elapsed| Removed::not(format!("the table {}", own::table(own.name()))));
        gathered.left = removed.left;
        match removed.refused {
            Some(error) if found.has_passed() => Found::refused(&place, &error),
            _ => found,
        }
    };
    let line = line(WHAT, name(&config.catalog), probing).await;
    gathered.lines.push(line);
    gathered.extend(external);
    gathered.time("commit", times);
    gathered
}

/// The report where there is no catalog to probe.
pub(super) fn not_probed(catalog: &CatalogConfig, found: Found) -> Gathered {
    super::Line::new(WHAT, name(catalog), found, Duration::ZERO).into()
}

/// How people know the catalog, without its secrets.
fn name(catalog: &CatalogConfig) -> String {
    match catalog {
        CatalogConfig::Rest(rest) => format!("{} {}", catalog.name(), rest.uri),
        _ => catalog.name().to_owned(),
    }
}

/// Makes the table, commits a row as the service does, and reads it by the table as the catalog gives it then.
async fn first_row(engine: &Engine, own: &Own) -> Result<Head> {
    let mut head = engine.head(create(engine, own).await?).await?;
    commit(engine, &mut head, own.name()).await?;
    let table = engine.catalog().load_table(&own::table(own.name())).await?;
    match read(&table).await?.as_slice() {
        [row] if row == own.name() => Ok(head),
        rows => {
            let message = "The table does not hold the row that was committed to it.";
            Err(Error::new(ErrorKind::Unavailable, message)
                .with("table", table.identifier())
                .with("rows", rows.len()))
        }
    }
}

async fn create(engine: &Engine, own: &Own) -> Result<Table> {
    let (catalog, namespace) = (engine.catalog(), own::namespace());
    let column = NestedField::required(1, "probe", Type::Primitive(PrimitiveType::String));
    let schema = Schema::builder().with_fields([Arc::new(column)]).build();
    let schema = schema.map_err(|error| {
        Error::new(ErrorKind::Rejected, "The probe's schema cannot be made.").with_source(error)
    })?;
    let mut tries = 0;
    loop {
        catalog.create_namespace(&namespace).await?;
        let creation = TableCreation::builder()
            .name(own.name().to_owned())
            .schema(schema.clone())
            .build();
        tries += 1;
        match catalog.create_table(&namespace, creation).await {
            Err(error) if error.kind() == ErrorKind::NotFound && tries < TRIES => {}
            created => return created,
        }
    }
}

async fn commit(engine: &Engine, head: &mut Head, value: &str) -> Result<()> {
    let schema = arrow_schema(head.table().current_schema_ref().as_ref())?;
    let column: ArrayRef = Arc::new(StringArray::from(vec![value]));
    let rows = RecordBatch::try_new(schema, vec![column]).map_err(|error| {
        Error::new(ErrorKind::Rejected, "The probe's row cannot be made.").with_source(error)
    })?;
    let files = write_data_files(head.table(), vec![rows], engine.random()).await?;
    let begun = Moment::now(engine.clock());
    let delivery = Entry {
        space: Space::Message,
        index_time: engine.clock().now().timestamp(),
        id: engine.random().uuid().as_u128(),
        value: Bytes::new(),
    };
    let mut changes = ChangeSet::append(engine.random().uuid(), begun);
    changes.add(Group::pending(files, vec![delivery]));
    let until = Instant::now() + PROBE;
    engine.commit(head, &mut changes, until).await.map(drop)
}

async fn read(table: &Table) -> Result<Vec<String>> {
    let reading = async {
        let scan = table.scan().build()?;
        scan.to_arrow().await?.try_collect::<Vec<RecordBatch>>().await
    };
    let batches = reading.await.map_err(|error| {
        Error::new(ErrorKind::Unavailable, "The rows cannot be read.")
            .with("table", table.identifier())
            .with_source(error)
    })?;
    let columns = batches.iter().filter_map(|batch| batch.columns().first());
    let texts = columns.filter_map(|column| column.as_string_opt::<i32>());
    Ok(texts
        .flat_map(|texts| texts.iter().flatten().map(str::to_owned))
        .collect())
}

/// How long commits take that are made one after the other, each with a file of one row.
async fn time(engine: &Engine, mut head: Head) -> Vec<Duration> {
    let mut times = Vec::new();
    let until = Instant::now() + TIMING;
    while times.len() < WRITES {
        let begun = Instant::now();
        match timeout_at(until, commit(engine, &mut head, "timed")).await {
            Ok(Ok(())) => times.push(begun.elapsed()),
            Ok(Err(error)) => {
                let error = error.report();
                tracing::warn!(error, "A timed commit failed; those before it count.");
                break;
            }
            Err(_elapsed) => break,
        }
    }
    times
}
