//! The threads of a load: reader, decoders, encoder; bounded channels between them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow_array::RecordBatch;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use iceberg::spec::DataFile;
use iceberg::table::Table;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::split::{Chunk, Chunks};
use super::{Progress, json, stopped};
use crate::batch::Shared;
use crate::batch::opening::{TableSettings, decoder};
use crate::decode::{JsonDecoder, RejectedRecord, is_space};
use crate::error::{Error, ErrorKind, Result};
use crate::write::{TableWriter, WriteOptions};

/// Rejected records that a load keeps until its end; beyond it the file is not this table's.
const MAX_REJECTED: usize = 100_000;
const MAX_REJECTED_BYTES: usize = 32 << 20;

/// What a file came to, before its commit.
pub(super) struct Landed {
    pub(super) files: Vec<DataFile>,
    pub(super) rejected: Vec<RejectedRecord>,
    pub(super) content: [u8; 32],
}

/// One chunk, decoded.
struct Decoded {
    chunk: Bytes,
    rows: RecordBatch,
    rejected: Vec<RejectedRecord>,
    rest_is_lost: bool,
    unknown_fields: BTreeMap<String, u64>,
}

type Job = JoinHandle<Result<(Box<JsonDecoder>, Decoded)>>;

/// The rejected records of a file, in order, and where the next chunk's records begin.
#[derive(Default)]
pub(super) struct Rejects {
    position: u64,
    records: Vec<RejectedRecord>,
    bytes: usize,
    /// The bytes of the last record, once its syntax broke so that the rest of the file is lost with it.
    rest: Option<BytesMut>,
}

impl Rejects {
    /// Takes those of the next chunk.
    pub(super) fn take(&mut self, row_count: usize, rejected: Vec<RejectedRecord>, rest_is_lost: bool) {
        let record_count = row_count as u64 + rejected.len() as u64;
        self.bytes += rejected.iter().map(|record| record.raw.len()).sum::<usize>();
        let base = self.position;
        self.records
            .extend(rejected.into_iter().map(|record| RejectedRecord {
                position: record.position.saturating_add(base),
                // A slice would keep its whole chunk in memory.
                raw: Bytes::copy_from_slice(&record.raw),
                ..record
            }));
        self.position += record_count;
        if rest_is_lost && let Some(last) = self.records.last() {
            self.rest = Some(BytesMut::from(last.raw.as_ref()));
        }
    }

    /// Whether the rest of the file belongs to the last rejected record; takes the chunk if it does.
    pub(super) fn take_rest(&mut self, chunk: &[u8]) -> bool {
        let Some(rest) = &mut self.rest else {
            return false;
        };
        rest.extend_from_slice(chunk);
        self.bytes += chunk.len();
        true
    }

    fn are_too_many(&self) -> bool {
        self.records.len() > MAX_REJECTED || self.bytes > MAX_REJECTED_BYTES
    }

    /// All of them.
    pub(super) fn finish(mut self) -> Vec<RejectedRecord> {
        if let Some(mut rest) = self.rest
            && let Some(last) = self.records.last_mut()
        {
            let trail = rest.iter().rev().take_while(|byte| is_space(byte)).count();
            rest.truncate(rest.len() - trail);
            last.raw = rest.freeze();
        }
        self.records
    }
}

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
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
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
                let (decoder, decoded) = job.map_err(stopped)??;
                self.decoders.push_back(decoder);
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
            let rest_is_lost = decoder.decode_part(&chunk.bytes, chunk.part, &mut rejected);
            let rows = decoder.finish()?;
            let unknown_fields = decoder.take_unknown_fields();
            Ok((
                decoder,
                Decoded {
                    chunk: chunk.bytes,
                    rows,
                    rejected,
                    rest_is_lost,
                    unknown_fields,
                },
            ))
        }))
    }

    /// Takes note of what was rejected, and gives the rows.
    fn take(&mut self, decoded: Decoded) -> Result<Option<RecordBatch>> {
        let Decoded {
            chunk,
            rows,
            rejected,
            rest_is_lost,
            unknown_fields,
        } = decoded;
        let is_rest = self.rejects.take_rest(&chunk);
        if !is_rest {
            self.rejects.take(rows.num_rows(), rejected, rest_is_lost);
        }
        if self.rejects.are_too_many() {
            return Err(Error::new(
                ErrorKind::Rejected,
                "Too many of the file's records do not fit the table; nothing of it was committed. Check the table, or \
                 load the file in parts.",
            )
            .with("table", self.table.identifier())
            .with("rejected", self.rejects.records.len())
            .with("bytes", self.rejects.bytes));
        }
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

    fn tell_unknown_fields(&self) {
        for (field, count) in &self.unknown_fields {
            tracing::warn!(
                table.ident = %self.table.identifier(),
                field,
                count,
                "A field of the file has no column; it was left out."
            );
        }
    }
}
