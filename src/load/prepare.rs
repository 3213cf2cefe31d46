//! One file up to its commit: opened, read, decoded, written; nothing of it is visible yet.

use std::sync::Arc;

use iceberg::TableIdent;
use iceberg::spec::DataFile;
use iceberg::table::Table;

use super::Progress;
use super::object::Incoming;
use super::pipeline::{Landed, Pipeline};
use super::source::{Input, Source, Stamp};
use super::split::{Chunk, Chunks, Sizes};
use crate::batch::Shared;
use crate::batch::opening::{TableSettings, create_inferred, decoder, open};
use crate::config::SchemaConfig;
use crate::decode::{Decoder, Inference, JsonDecoder, RejectedRecord, SAMPLE_RECORDS};
use crate::error::{Error, ErrorKind, Result};
use crate::trigger::DeliveryId;

/// A file whose rows are in data files that no one sees.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) id: DeliveryId,
    /// The file's name, as it was given.
    pub(super) name: String,
    pub(super) files: Vec<DataFile>,
    pub(super) rejected: Vec<RejectedRecord>,
    /// The table that the files were written for.
    pub(super) table: Table,
}

/// What the files of one load are prepared with.
pub(super) struct Preparing<'a> {
    pub(super) shared: &'a Shared,
    pub(super) ident: &'a TableIdent,
    pub(super) settings: &'a TableSettings,
    /// Whether files land that are in the table already.
    pub(super) again: bool,
    /// What the file must be, if it was looked at before.
    pub(super) found: Option<Stamp>,
    /// The table as it was opened for the first file; all files of one commit are written for the same.
    pub(super) table: Option<Table>,
}

impl Preparing<'_> {
    /// Reads a file to its end and writes its rows.
    ///
    /// # Errors
    /// Those of [`super::load`] but the commit's.
    pub(super) async fn prepare(&mut self, input: &Input, progress: Arc<Progress>) -> Result<Prepared> {
        let name = input.name();
        let source = Source::open(input, progress.bytes.clone())?;
        if let Some(found) = &self.found {
            source.check(found, &name)?;
        }
        let (landed, table) = self.read(&name, source, progress).await?;
        Ok(Prepared {
            id: match self.again {
                false => DeliveryId::file(file_name(&name), &landed.content),
                true => DeliveryId::file_again(file_name(&name), &landed.content, self.shared.random.uuid()),
            },
            name,
            files: landed.files,
            rejected: landed.rejected,
            table,
        })
    }

    /// Reads an object to its end and writes its rows.
    ///
    /// # Errors
    /// As [`Preparing::prepare`], and those of the object's reader.
    pub(super) async fn prepare_object(&mut self, object: Incoming) -> Result<Prepared> {
        let Incoming { id, name, bytes, .. } = object;
        let (progress, opened) = (Arc::new(Progress::default()), name.clone());
        let read = progress.bytes.clone();
        let source = tokio::task::spawn_blocking(move || Source::of(bytes, &opened, read))
            .await
            .map_err(stopped)??;
        let (landed, table) = self.read(&name, source, progress).await?;
        Ok(Prepared {
            id,
            name,
            files: landed.files,
            rejected: landed.rejected,
            table,
        })
    }

    async fn read(&mut self, name: &str, source: Source, progress: Arc<Progress>) -> Result<(Landed, Table)> {
        let mut chunks = Chunks::new(source, name.to_owned(), Sizes::default());
        let (chunks, first) = tokio::task::spawn_blocking(move || chunks.next().map(|first| (chunks, first)))
            .await
            .map_err(stopped)??;
        let (table, decoder) = self.open_table(name, first.clone()).await?;
        let pipeline = Pipeline::new(self.shared, &table, self.settings, decoder, progress);
        let landed = pipeline.run(chunks, first).await?;
        self.table = Some(table.clone());
        Ok((landed, table))
    }

    /// Opens the table, or makes it: of its declared schema, or of what the first records tell.
    async fn open_table(&self, name: &str, first: Option<Chunk>) -> Result<(Table, Box<JsonDecoder>)> {
        if let Some(table) = &self.table {
            let decoder = decoder(self.settings, table.current_schema_ref())?;
            return Ok((table.clone(), json(decoder)?));
        }
        if matches!(self.settings.schema, SchemaConfig::Envelope) {
            return Err(Error::new(
                ErrorKind::Rejected,
                "A table of raw envelopes takes messages, not files; load into a table with columns.",
            )
            .with("file", name)
            .with("table", self.ident));
        }
        let catalog = self.shared.engine.catalog();
        if let Some((table, decoder)) = open(catalog, self.ident, self.settings).await? {
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
        match create_inferred(catalog, self.ident, self.settings, schema).await? {
            (Some(table), decoder) => Ok((table, json(decoder)?)),
            (None, _) => Err(Error::new(
                ErrorKind::Rejected,
                "The table does not exist, and no field of the file's first records has a value to infer a type from; \
                 declare its schema.",
            )
            .with("file", name)
            .with("table", self.ident)),
        }
    }
}

/// The decoder of a table with columns.
pub(super) fn json(decoder: Decoder) -> Result<Box<JsonDecoder>> {
    match decoder {
        Decoder::Json(decoder) => Ok(decoder),
        Decoder::Envelope(_) => Err(Error::new(
            ErrorKind::Rejected,
            "A table of raw envelopes takes messages, not files.",
        )),
    }
}

pub(super) fn stopped(error: tokio::task::JoinError) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "A worker of the load stopped; nothing of the file was committed.",
    )
    .with_source(error)
}

/// The name without folders.
fn file_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}
