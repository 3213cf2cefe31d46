//! Load: a whole file becomes one commit, in bounded memory, all of it or none.
//!
//! The same stages as for a push, without the wait for company: a reader cuts the file into chunks of whole records,
//! decoders on every core turn them into record batches, an encoder writes data files while the next chunks are
//! decoded, and one commit makes them visible. Order in the table is the order of the file.

mod pipeline;
mod source;
mod split;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::DateTime;
use iceberg::TableIdent;
use iceberg::table::Table;
use tokio::time::{Duration, Instant};

pub use source::Input;
pub(crate) use source::Stamp;

use crate::batch::Shared;
use crate::batch::opening::{TableSettings, create_inferred, open};
use crate::commit::{ChangeSet, DeliveryEntry, Head};
use crate::config::{SchemaConfig, TableConfig};
use crate::decode::{Decoder, Inference, JsonDecoder};
use crate::error::{Error, ErrorKind, Result};
use crate::telemetry;
use crate::trigger::{DeliveryId, Envelope};
use pipeline::{Landed, Pipeline};
use source::Source;
use split::{Chunk, Chunks, Sizes};

/// Records that a schema is inferred from, at most.
const SAMPLE_RECORDS: usize = 1000;

/// How long a load tries to get its commit through; its files are written by then.
const COMMIT_PATIENCE: Duration = Duration::from_secs(600);

/// Dead letters that one object holds at the most.
const LETTERS_PER_OBJECT: usize = 10_000;

/// How far a load is, for whoever watches.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: Arc<AtomicU64>,
    rows: AtomicU64,
}

impl Progress {
    /// Bytes of the file that were read, as they are stored.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Rows that were decoded.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Acquire)
    }
}

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The file's identity.
    pub id: DeliveryId,
    /// Rows in the table.
    pub row_count: u64,
    /// Records in the dead-letter sink.
    pub dead_letter_count: u64,
    /// Data files.
    pub file_count: u64,
    /// Bytes of the data files.
    pub byte_count: u64,
    /// The snapshot that holds the rows; none when there were none.
    pub snapshot_id: Option<i64>,
}

/// Loads one file into a table as one commit. Its rejected records are in the dead-letter sink before the commit.
///
/// `Ok` means committed and durable. A file of nothing but whitespace has no records and makes no commit. Until the
/// ledger of deliveries exists, a file that is loaded again lands again. A dropped future leaves orphan data files and
/// nothing visible.
///
/// # Errors
/// [`ErrorKind::Rejected`] and [`ErrorKind::NotFound`] that name a `file` say what is wrong with it; others are those of
/// opening, writing and committing. Nothing of the file is visible then, unless the commit's outcome stayed unknown.
pub async fn load(
    shared: &Shared,
    ident: &TableIdent,
    config: &TableConfig,
    input: &Input,
    progress: Arc<Progress>,
) -> Result<Loaded> {
    let settings = TableSettings::from(config);
    let name = input.name();
    let source = Source::open(input, progress.bytes.clone())?;
    let mut chunks = Chunks::new(source, name.clone(), Sizes::default());
    let (chunks, first) = tokio::task::spawn_blocking(move || chunks.next().map(|first| (chunks, first)))
        .await
        .map_err(stopped)??;
    let (table, decoder) = open_table(shared, ident, &settings, &name, first.clone()).await?;
    let pipeline = Pipeline::new(shared, &table, &settings, decoder, progress);
    let landed = pipeline.run(chunks, first).await?;
    let id = DeliveryId::file(file_name(&name), &landed.content);
    finish(shared, ident, table, id, name, landed).await
}

/// Opens the table, or makes it: of its declared schema, or of what the first records tell.
async fn open_table(
    shared: &Shared,
    ident: &TableIdent,
    settings: &TableSettings,
    name: &str,
    first: Option<Chunk>,
) -> Result<(Table, Box<JsonDecoder>)> {
    if matches!(settings.schema, SchemaConfig::Envelope) {
        return Err(Error::new(
            ErrorKind::Rejected,
            "A table of raw envelopes takes messages, not files; load into a table with columns.",
        )
        .with("file", name)
        .with("table", ident));
    }
    let catalog = shared.engine.catalog();
    if let Some((table, decoder)) = open(catalog, ident, settings).await? {
        return Ok((table, json(decoder)?));
    }
    let schema = tokio::task::spawn_blocking(move || {
        let mut inference = Inference::new(SAMPLE_RECORDS);
        first
            .iter()
            .for_each(|chunk| inference.observe_part(&chunk.bytes, chunk.part));
        inference.schema()
    })
    .await
    .map_err(stopped)?;
    match create_inferred(catalog, ident, settings, schema).await? {
        (Some(table), decoder) => Ok((table, json(decoder)?)),
        (None, _) => Err(Error::new(
            ErrorKind::Rejected,
            "The table does not exist, and no field of the file's first records has a value to infer a type from; \
             declare its schema.",
        )
        .with("file", name)
        .with("table", ident)),
    }
}

/// The decoder of a table with columns.
fn json(decoder: Decoder) -> Result<Box<JsonDecoder>> {
    match decoder {
        Decoder::Json(decoder) => Ok(decoder),
        Decoder::Envelope(_) => Err(Error::new(
            ErrorKind::Rejected,
            "A table of raw envelopes takes messages, not files.",
        )),
    }
}

/// Dead letters, then the commit.
async fn finish(
    shared: &Shared,
    ident: &TableIdent,
    table: Table,
    id: DeliveryId,
    name: String,
    landed: Landed,
) -> Result<Loaded> {
    let started = Instant::now();
    let envelope = Envelope {
        id: id.clone(),
        source: name,
        // The letters' names must be the same whenever the file is loaded.
        published_at: DateTime::UNIX_EPOCH,
        received_at: shared.clock.now(),
        attributes: std::collections::BTreeMap::new(),
    };
    let table_name = ident.to_string();
    for letters in landed.rejected.chunks(LETTERS_PER_OBJECT) {
        shared
            .dead_letters
            .write_records(&envelope, &table_name, letters)
            .await?;
    }
    let mut changes = ChangeSet::append(shared.random.uuid());
    let entry = DeliveryEntry::from(&id);
    let file_count = landed.files.len() as u64;
    changes.add(landed.files, [entry]);
    let mut head = Head::new(table);
    let snapshot_id = match file_count {
        0 => None,
        _ => Some(
            shared
                .engine
                .commit(&mut head, &mut changes, started + COMMIT_PATIENCE)
                .await?,
        ),
    };
    let loaded = Loaded {
        id,
        row_count: changes.row_count(),
        dead_letter_count: landed.rejected.len() as u64,
        file_count,
        byte_count: changes.byte_count(),
        snapshot_id,
    };
    metrics::counter!(telemetry::RECORDS_WRITTEN, "table" => table_name.clone()).increment(loaded.row_count);
    metrics::counter!(telemetry::BYTES_WRITTEN, "table" => table_name.clone()).increment(loaded.byte_count);
    metrics::counter!(telemetry::BATCHES_COMMITTED, "table" => table_name)
        .increment(u64::from(file_count > 0));
    Ok(loaded)
}

/// The name without folders.
fn file_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn stopped(error: tokio::task::JoinError) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "A worker of the load stopped; nothing of the file was committed.",
    )
    .with_source(error)
}
