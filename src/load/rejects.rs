//! The rejected records of a file, kept until its end.

use bytes::{Bytes, BytesMut};
use iceberg::TableIdent;

use crate::decode::{RejectedRecord, is_space};
use crate::error::{Error, ErrorKind, Result};

/// Rejected records that a load keeps until its commit; beyond it the file is not this table's.
const MAX_REJECTED: usize = 100_000;
const MAX_REJECTED_BYTES: usize = 32 << 20;

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

    /// # Errors
    /// [`ErrorKind::Rejected`] when they are too many to keep.
    pub(super) fn check(&self, table: &TableIdent) -> Result<()> {
        check_rejected(self.records.len(), self.bytes, table)
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

/// Bounds what one commit keeps.
///
/// # Errors
/// [`ErrorKind::Rejected`] when there are too many.
pub(super) fn check_rejected(count: usize, bytes: usize, table: &TableIdent) -> Result<()> {
    if count <= MAX_REJECTED && bytes <= MAX_REJECTED_BYTES {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Rejected,
        "Too many of the file's records do not fit the table; nothing of it was committed. Check the table, or load the \
         file in parts.",
    )
    .with("table", table)
    .with("rejected", count)
    .with("bytes", bytes))
}
