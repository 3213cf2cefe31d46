//! The threads of a load: reader, decoders, encoder; bounded channels between them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow_array::RecordBatch;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use iceberg::spec::DataFile;
use iceberg::table::Table;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Progress;
use super::prepare::{json, stopped};
use super::rejects::Rejects;
use super::split::{Chunk, Chunks};
use crate::batch::Shared;
use crate::batch::opening::{TableSettings, decoder};
use crate::decode::{JsonDecoder, PartEnd, RejectedRecord};
use crate::error::Result;
use crate::write::{TableWriter, WriteOptions};

/// Decoders at the most: one encoder takes what they give, and each holds a chunk and its columns.
const MAX_DECODERS: usize = 8;

/// A batch of rows ends when its columns take this much, be it of few bytes of the file: the rows of a wide table.
const BATCH_BYTES: usize = 16 << 20;

/// What a file came to, before its commit.
pub(super) struct Landed {
    pub(super) files: Vec<DataFile>,
    pub(super) rejected: Vec<RejectedRecord>,
    pub(super) content: [u8; 32],
}

/// The beginning of a chunk, or all of it, decoded.
struct Decoded {
    /// The bytes that were decoded.
    bytes: Bytes,
    rows: RecordBatch,
    rejected: Vec<RejectedRecord>,
    rest_is_lost: bool,
    /// What of the chunk waits, since the batch is full.
    rest: Option<Chunk>,
    unknown_fields: BTreeMap<String, u64>,
}

type Job = JoinHandle<Result<(Box<JsonDecoder>, Decoded)>>;

/// The work of one load.
pub(super) struct Pipeline<'a> {
    shared: &'a Shared,
    table: &'a Table,
    settings: &'a TableSettings,
    decoders: VecDeque<Box<JsonDecoder>>,
    progress: Arc<Progress>,
    rejects: Rejects,
    unknown_fields: BTreeMap<String, u64>,
}

impl<'a> Pipeline<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        table: &'a Table,
        settings: &'a TableSettings,
        decoder: Box<JsonDecoder>,
        progress: Arc<Progress>,
    ) -> Self {
        Self {
            shared,
            table,
            settings,
            decoders: VecDeque::from([decoder]),
            progress,
            rejects: Rejects::default(),
            unknown_fields: BTreeMap::new(),
        }
    }

    /// Reads, decodes and writes to the end. Nothing is visible yet.
    pub(super) async fn run(mut self, mut chunks: Chunks, first: Option<Chunk>) -> Result<Landed> {
        let name = chunks.name().to_owned();
        let workers = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(MAX_DECODERS);
        let (sender, mut receiver) = mpsc::channel(2);
        let reader = tokio::task::spawn_blocking(move || {
            let mut chunk = first;
            while let Some(whole) = chunk {
                // A receiver that is gone has failed already, and says why.
                if sender.blocking_send(whole).is_err() {
                    break;
                }
                chunk = chunks.next()?;
            }
            drop(sender);
            chunks.finish()
        });
        let mut jobs: FuturesOrdered<Job> = FuturesOrdered::new();
        let mut writer = TableWriter::try_new(self.table, &self.shared.random, WriteOptions::default())?;
        let mut more = true;
        while more || !jobs.is_empty() {
            if more && jobs.len() < workers {
                match receiver.recv().await {
                    Some(chunk) => jobs.push_back(self.start(chunk)?),
                    None => more = false,
                }
            } else if let Some(job) = jobs.next().await {
                let (decoder, mut decoded) = job.map_err(stopped)??;
                self.decoders.push_back(decoder);
                if let Some(rest) = decoded.rest.take() {
                    // Before later chunks, whose first batches wait.
                    jobs.push_front(self.start(rest)?);
                }
                if let Some(rows) = self.take(decoded).map_err(|error| error.with("file", &name))? {
                    writer.write(rows).await?;
                }
            }
        }
        let content = reader.await.map_err(stopped)??;
        let files = writer.finish().await?;
        self.tell_unknown_fields();
        Ok(Landed {
            files,
            rejected: self.rejects.finish(),
            content,
        })
    }

    /// Decodes a chunk on a thread of its own.
    fn start(&mut self, chunk: Chunk) -> Result<Job> {
        let mut decoder = match self.decoders.pop_front() {
            Some(decoder) => decoder,
            None => json(decoder(self.settings, self.table.current_schema_ref())?)?,
        };
        Ok(tokio::task::spawn_blocking(move || {
            let mut rejected = Vec::new();
            let end = decoder.decode_part(&chunk.bytes, chunk.part, BATCH_BYTES, &mut rejected);
            let (bytes, rest) = chunk.split(end);
            let rows = decoder.finish()?;
            let unknown_fields = decoder.take_unknown_fields();
            Ok((
                decoder,
                Decoded {
                    bytes,
                    rows,
                    rejected,
                    rest_is_lost: end == PartEnd::Lost,
                    rest,
                    unknown_fields,
                },
            ))
        }))
    }

    /// Takes note of what was rejected, and gives the rows.
    fn take(&mut self, decoded: Decoded) -> Result<Option<RecordBatch>> {
        let Decoded {
            bytes,
            rows,
            rejected,
            rest_is_lost,
            rest: _,
            unknown_fields,
        } = decoded;
        let is_rest = self.rejects.take_rest(&bytes);
        if !is_rest {
            self.rejects.take(rows.num_rows(), rejected, rest_is_lost);
        }
        self.rejects.check(self.table.identifier())?;
        if is_rest {
            return Ok(None);
        }
        for (field, count) in unknown_fields {
            *self.unknown_fields.entry(field).or_default() += count;
        }
        self.progress
            .rows
            .fetch_add(rows.num_rows() as u64, Ordering::AcqRel);
        Ok((rows.num_rows() > 0).then_some(rows))
    }

    fn tell_unknown_fields(&mut self) {
        let table = self.table.identifier().to_string();
        for (field, count) in &self.unknown_fields {
            tracing::warn!(
                table.ident = table,
                field,
                count,
                "A field of the file has no column; it was left out."
            );
        }
        let unknown_fields = std::mem::take(&mut self.unknown_fields);
        self.shared.unknown_fields.count(&table, unknown_fields);
    }
}
