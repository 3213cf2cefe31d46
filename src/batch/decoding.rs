//! The CPU work of a batch: payloads into columns, and the sample that a schema is inferred from.

use std::collections::BTreeMap;

use bytes::Bytes;
use iceberg::spec::Schema;
use tokio::time::Instant;

use super::part::Part;
use crate::decode::{
    Compression, Decoder, Inference, NotUnpacked, Reason, RejectKind, RejectedRecord, SAMPLE_RECORDS, unpack,
};
use crate::error::Error;
use crate::telemetry::{DECODE, Span};
use crate::trigger::{Delivery, Envelope, Limits};

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
        let _span = Span::part(DECODE, delivery.trace);
        let (start, mark) = (decoder.row_count(), decoder.mark());
        let mut rejected = Vec::new();
        let payload = match decoder {
            Decoder::Json(_) => plain_payload(&mut delivery, limits),
            // Kept as it came, whatever its first bytes look like.
            Decoder::Envelope(_) => Ok(Ok(delivery.payload.clone())),
        };
        match payload {
            Ok(Ok(payload)) => {
                let part_of = delivery.part_of.as_ref();
                let most = part_of.map_or_else(|| limits.max_column_bytes(), |whole| whole.max_bytes);
                decoder.decode(&delivery.envelope, &payload, most, &mut rejected);
                if let Some(whole) = part_of {
                    tell_positions(&mut rejected, &whole.positions);
                }
                let columns = decoder.mark().column_bytes - mark.column_bytes;
                let made = columns.saturating_add(cost(&rejected, &delivery.envelope));
                if let Err(error) = delivery.held.grow(unforeseen(made, payload.len())) {
                    decoder.cut_back(mark);
                    delivery.ack.nack(error);
                    continue;
                }
            }
            Ok(Err(reason)) => rejected.push(whole(&delivery.payload, reason)),
            Err(error) => {
                delivery.ack.nack(error);
                continue;
            }
        }
        let mut rows = start..decoder.row_count();
        let is_none = rejected.is_empty() && rows.is_empty();
        if without_table && !is_none {
            // No table, no ledger: the delivery is rejected as a whole, for the first reason.
            let reason = rejected.drain(..).next().map(|first| first.reason);
            rejected.push(whole(&delivery.payload, reason.unwrap_or_else(no_schema)));
            rows = start..start;
        }
        let Delivery {
            envelope,
            payload,
            ack,
            held,
            deadline,
            trace,
            is_replay,
            part_of: _,
        } = delivery;
        parts.push(Part {
            envelope,
            rows,
            rejected,
            payload,
            ack,
            letters: None,
            copies: Vec::new(),
            deadline,
            since: Instant::now(),
            trace,
            held,
            is_replay,
        });
    }
    let unknown_fields = decoder.take_unknown_fields();
    Decoded {
        decoder,
        parts,
        unknown_fields,
    }
}

/// The payload without its compression. Room for all of it is taken from the process's limits before it is made; what
/// it grew by is kept.
///
/// The outer error refuses the delivery for now, the inner one dead-letters it.
pub(super) fn plain_payload(
    delivery: &mut Delivery,
    limits: &Limits,
) -> Result<Result<Bytes, Reason>, Error> {
    let Delivery { payload, held, .. } = delivery;
    let Some(compression) = Compression::of(payload) else {
        return Ok(Ok(payload.clone()));
    };
    let before = held.bytes();
    let room = &mut |bytes| held.grow(bytes);
    let plain = match unpack(compression, payload, limits.max_unpacked_bytes(), room) {
        Ok(plain) => Ok(plain),
        Err(NotUnpacked::Rejected(reason)) => Err(reason),
        Err(NotUnpacked::NoRoom(error)) => return Err(error),
    };
    let grown = plain
        .as_ref()
        .map_or(0, |plain| plain.len().saturating_sub(payload.len()));
    held.shrink_to(before.saturating_add(grown));
    Ok(plain)
}

/// Numbers the rejected records of a part of a payload as they are numbered in the whole.
fn tell_positions(rejected: &mut [RejectedRecord], positions: &[u64]) {
    for record in rejected {
        let place = usize::try_from(record.position).ok();
        if let Some(position) = place.and_then(|place| positions.get(place)) {
            record.position = *position;
        }
    }
}

/// What columns and rejected records take beyond twice the payload, which is reckoned with: a wide table makes much of few
/// bytes, and so do letters.
pub(super) fn unforeseen(made: usize, payload: usize) -> usize {
    made.saturating_sub(payload.saturating_mul(2))
}

/// What rejected records of a delivery take with their letters.
fn cost(rejected: &[RejectedRecord], envelope: &Envelope) -> usize {
    let repeated = match rejected {
        [] => 0,
        _ => envelope.letter_bytes(),
    };
    rejected.iter().fold(0, |sum: usize, record| {
        sum.saturating_add(record.cost()).saturating_add(repeated)
    })
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

    /// Looks at deliveries and gives them back; those that cannot be decompressed say nothing here and are rejected when
    /// decoded. One that there is no room to unpack now is refused: without it, the others might seem to have no schema.
    pub(super) fn observe(&mut self, chunk: Vec<Delivery>, limits: &Limits) -> Vec<Delivery> {
        let mut kept = Vec::with_capacity(chunk.len());
        for mut delivery in chunk {
            if !self.inference.is_full() {
                let before = delivery.held.bytes();
                match plain_payload(&mut delivery, limits) {
                    Ok(Ok(payload)) => self.inference.observe(&payload),
                    Ok(Err(_not_yet)) => {}
                    Err(error) => {
                        delivery.ack.nack(error);
                        continue;
                    }
                }
                delivery.held.shrink_to(before);
            }
            kept.push(delivery);
        }
        kept
    }

    pub(super) fn is_full(&self) -> bool {
        self.inference.is_full()
    }

    pub(super) fn schema(&self) -> Option<Schema> {
        self.inference.schema()
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::error::ErrorKind;
    use crate::telemetry::Trace;
    use crate::trigger::{Ack, DeliveryId};

    const KIB: usize = 1 << 10;

    fn packed(spaces: usize) -> Vec<u8> {
        zstd::encode_all(&vec![b' '; spaces][..], 1).unwrap()
    }

    fn delivery(payload: Vec<u8>, limits: &std::sync::Arc<Limits>) -> Delivery {
        let mut held = limits.admit().unwrap();
        held.grow(payload.len()).unwrap();
        Delivery {
            envelope: Envelope {
                id: DeliveryId::message("s", "1", DateTime::UNIX_EPOCH),
                source: "s".to_owned(),
                published_at: DateTime::UNIX_EPOCH,
                received_at: DateTime::UNIX_EPOCH,
                fingerprint: None,
                division: None,
                attributes: BTreeMap::new(),
            },
            payload: payload.into(),
            ack: Ack::new().0,
            held,
            deadline: Instant::now(),
            trace: Trace::default(),
            is_replay: false,
            part_of: None,
        }
    }

    #[test]
    fn room_is_taken_before_a_payload_is_unpacked() {
        let limits = Limits::new(1024 * KIB, 10);
        let mut other = limits.admit().unwrap();
        other.grow(900 * KIB).unwrap();
        // Unpacked to its end, or to the limit of 256 KiB, it would be too large.
        let mut push = delivery(packed(512 * KIB), &limits);
        let refused = plain_payload(&mut push, &limits).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Full);
        drop(other);
        let rejected = plain_payload(&mut push, &limits).unwrap().unwrap_err();
        assert_eq!(rejected.kind, RejectKind::TooLarge);
        drop(push);
        assert_eq!(limits.held_bytes(), 0);
    }

    #[tokio::test]
    async fn sample_is_unpacked_within_the_limits() {
        let limits = Limits::new(1024 * KIB, 10);
        let mut other = limits.admit().unwrap();
        other.grow(900 * KIB).unwrap();
        let mut text = vec![b' '; 200 * KIB];
        text.extend_from_slice(br#"{"id":1}"#);
        let payload = zstd::encode_all(&text[..], 1).unwrap();
        let (ack, answer) = Ack::new();
        let push = Delivery {
            ack,
            ..delivery(payload.clone(), &limits)
        };
        let mut sample = Sample::new();
        assert!(sample.observe(vec![push], &limits).is_empty());
        assert_eq!(answer.outcome().await.unwrap_err().kind(), ErrorKind::Full);
        assert!(sample.schema().is_none());
        drop(other);
        let kept = sample.observe(vec![delivery(payload.clone(), &limits)], &limits);
        assert!(sample.schema().is_some());
        assert_eq!((kept.len(), limits.held_bytes()), (1, payload.len()));
    }

    #[test]
    fn payload_holds_what_it_unpacked_to() {
        let limits = Limits::new(1024 * KIB, 10);
        let mut push = delivery(packed(200 * KIB), &limits);
        let plain = plain_payload(&mut push, &limits).unwrap().unwrap();
        assert_eq!((plain.len(), limits.held_bytes()), (200 * KIB, 200 * KIB));
        let broken = packed(200 * KIB).into_iter().take(12).collect();
        let mut push = delivery(broken, &limits);
        let rejected = plain_payload(&mut push, &limits).unwrap().unwrap_err();
        assert_eq!((rejected.kind, push.held.bytes()), (RejectKind::Compression, 12));
        let mut push = delivery(b"{}".to_vec(), &limits);
        let plain = plain_payload(&mut push, &limits).unwrap().unwrap();
        assert_eq!((plain.len(), push.held.bytes()), (2, 2));
    }
}
