//! The CPU work of a batch: payloads into columns, and the sample that a schema is inferred from.

use std::collections::BTreeMap;

use bytes::Bytes;
use iceberg::spec::Schema;

use super::part::Part;
use crate::decode::{Decoder, Inference, Reason, RejectKind, RejectedRecord, decompress};
use crate::error::Error;
use crate::trigger::{Delivery, Limits};

/// Records that a schema is inferred from, at most.
const SAMPLE_RECORDS: usize = 1000;

/// What came out of decoding a chunk of deliveries.
pub(super) struct Decoded {
    pub(super) decoder: Decoder,
    pub(super) parts: Vec<Part>,
    pub(super) unknown_fields: BTreeMap<String, u64>,
}

/// Appends the chunk's rows to the decoder's columns. Runs for as long as it takes; call it off the async threads.
pub(super) fn decode(
    mut decoder: Decoder,
    chunk: Vec<Delivery>,
    limits: &Limits,
    without_table: bool,
) -> Decoded {
    let mut parts = Vec::with_capacity(chunk.len());
    for mut delivery in chunk {
        let start = decoder.row_count();
        let mut rejected = Vec::new();
        let payload = match decoder {
            Decoder::Json(_) => plain_payload(&mut delivery, limits),
            // Kept as it came, whatever its first bytes look like.
            Decoder::Envelope(_) => Ok(Ok(delivery.payload.clone())),
        };
        match payload {
            Ok(Ok(payload)) => {
                decoder.decode(&delivery.envelope, &payload, &mut rejected);
                if without_table && rejected.is_empty() {
                    rejected.push(whole(&delivery.payload, no_schema()));
                }
            }
            Ok(Err(reason)) => rejected.push(whole(&delivery.payload, reason)),
            Err(error) => {
                delivery.ack.nack(error);
                continue;
            }
        }
        let rows = if without_table {
            start..start
        } else {
            start..decoder.row_count()
        };
        // The rejected records keep the slices of the payload that they need.
        let Delivery {
            envelope,
            ack,
            held,
            deadline,
            ..
        } = delivery;
        parts.push(Part {
            envelope,
            rows,
            rejected,
            ack,
            deadline,
            _held: held,
        });
    }
    let unknown_fields = decoder.take_unknown_fields();
    Decoded {
        decoder,
        parts,
        unknown_fields,
    }
}

/// The payload without its compression. What it grows by is taken from the process's limits first.
///
/// The outer error refuses the delivery for now, the inner one dead-letters it.
fn plain_payload(delivery: &mut Delivery, limits: &Limits) -> Result<Result<Bytes, Reason>, Error> {
    let compressed = delivery.payload.len();
    let plain = match decompress(delivery.payload.clone(), limits.max_unpacked_bytes()) {
        Ok(plain) => plain,
        Err(reason) => return Ok(Err(reason)),
    };
    delivery.held.grow(plain.len().saturating_sub(compressed))?;
    Ok(Ok(plain))
}

fn whole(payload: &Bytes, reason: Reason) -> RejectedRecord {
    RejectedRecord {
        position: 0,
        reason,
        raw: payload.clone(),
    }
}

fn no_schema() -> Reason {
    Reason {
        kind: RejectKind::NoSchema,
        message:
            "the table does not exist yet, and no field of its first records has a value to infer a type from"
                .to_owned(),
        path: None,
    }
}

/// The first traffic of a table that has no schema yet.
pub(super) struct Sample {
    inference: Inference,
}

impl Sample {
    pub(super) fn new() -> Self {
        Self {
            inference: Inference::new(SAMPLE_RECORDS),
        }
    }

    /// Looks at deliveries; those that cannot be decompressed say nothing here and are rejected when decoded.
    pub(super) fn observe(&mut self, chunk: &[Delivery], max_unpacked_bytes: usize) {
        for delivery in chunk {
            if self.inference.is_full() {
                return;
            }
            if let Ok(payload) = decompress(delivery.payload.clone(), max_unpacked_bytes) {
                self.inference.observe(&payload);
            }
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.inference.is_full()
    }

    pub(super) fn schema(&self) -> Option<Schema> {
        self.inference.schema()
    }
}
