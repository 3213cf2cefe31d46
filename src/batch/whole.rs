//! A whole delivery as one letter: kept, then acknowledged.

use bytes::Bytes;

use super::shared::Shared;
use crate::dead_letter::still_rejected;
use crate::decode::Reason;
use crate::error::Result;
use crate::telemetry;
use crate::trigger::{Delivery, Envelope, Receipt};

/// Keeps a delivery as one letter of no table, which is replayed by the rules of then, and acknowledges it. One that came
/// back stays the letter that it is.
pub async fn keep_whole(shared: &Shared, delivery: Delivery, reason: &Reason) {
    let Delivery {
        envelope,
        payload,
        ack,
        is_replay,
        ..
    } = delivery;
    if is_replay {
        telemetry::count_deliveries("nacked", 1);
        return ack.nack(still_rejected(reason));
    }
    match write_whole(shared, &envelope, None, reason, &payload).await {
        Ok(receipt) => ack.ack(receipt),
        Err(error) => ack.nack(error),
    }
}

/// Writes a delivery as one letter, counts it, and gives what its sender is told.
///
/// # Errors
/// [`crate::error::ErrorKind::Unavailable`]: the delivery must not be acknowledged. It is counted and told.
pub(super) async fn write_whole(
    shared: &Shared,
    envelope: &Envelope,
    table: Option<&str>,
    reason: &Reason,
    payload: &Bytes,
) -> Result<Receipt> {
    let letters = &shared.dead_letters;
    if let Err(error) = letters.write_delivery(envelope, table, reason, payload).await {
        telemetry::count_deliveries("nacked", 1);
        letters.tell_refused(&error, table.unwrap_or("none"), &envelope.id);
        return Err(error);
    }
    telemetry::count_deliveries("dead_letter", 1);
    Ok(Receipt {
        dead_letter_count: 1,
        ..Receipt::default()
    })
}
