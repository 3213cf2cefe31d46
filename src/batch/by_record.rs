//! One delivery into several tables: each record to the first table that wants it, each table's part on its own.
//!
//! A part is a delivery of its table, under the same id: checked, committed and found again alone, since each table has a
//! ledger of its own. The delivery is acknowledged when every part is (protocol, step 9). If one is refused the delivery
//! comes again, and the parts that are there are dropped. That holds for one division of it alone: while a table has a part
//! of another, nothing more of it lands (`division.rs`).

use bytes::Bytes;
use futures::future::join_all;

use super::answers::outcome;
use super::decoding::plain_payload;
use super::division::{Had, digest};
use super::writers::{Shared, Writers};
use crate::dead_letter::still_rejected;
use crate::decode::{Condition, Reason, RejectedRecord, Split, split};
use crate::error::{Error, ErrorKind, Result};
use crate::route::ByRecord;
use crate::trigger::{Ack, Answer, Delivery, Envelope, Receipt};

/// Hands the parts of a delivery to their tables' writers, and answers it once all of them are answered.
pub async fn accept_by_record(
    shared: &Shared,
    writers: &Writers,
    rules: &ByRecord<'_>,
    mut delivery: Delivery,
) {
    let (conditions, count, rest) = (conditions(rules), rules.table_count(), rules.rest());
    let limits = shared.limits.clone();
    let splitting = tokio::task::spawn_blocking(move || {
        let split = match plain_payload(&mut delivery, &limits) {
            // The parts are a copy.
            Ok(Ok(payload)) => delivery
                .held
                .grow(payload.len())
                .map(|()| Ok(split_up(&payload, &conditions, count, rest))),
            Ok(Err(reason)) => Ok(Err(reason)),
            Err(error) => Err(error),
        };
        (delivery, split)
    });
    // A thread that ended badly took the ack handle along: a nack.
    let Ok((delivery, split)) = splitting.await else {
        return;
    };
    match split {
        Err(error) => {
            outcome("nacked", 1);
            delivery.ack.nack(error);
        }
        Ok(Err(reason)) => {
            let whole = RejectedRecord {
                position: 0,
                reason,
                raw: delivery.payload.clone(),
            };
            let answered = unwanted(shared, &delivery.envelope, vec![whole], delivery.is_replay).await;
            answer(delivery.ack, vec![answered]);
        }
        Ok(Ok((split, payloads))) => land(shared, writers, rules, delivery, split, payloads).await,
    }
}

fn conditions(rules: &ByRecord<'_>) -> Vec<Condition> {
    let rules = rules.conditions();
    rules
        .map(|(condition, piece)| Condition {
            field: condition.field.clone(),
            equals: condition.equals.clone(),
            piece,
        })
        .collect()
}

fn split_up(
    payload: &Bytes,
    conditions: &[Condition],
    count: usize,
    rest: Result<usize, String>,
) -> (Split, Vec<Bytes>) {
    let mut split = split(payload, conditions, count, rest);
    let payloads = split.pieces.iter_mut().map(|piece| piece.payload()).collect();
    (split, payloads)
}

/// Lands the parts, unless tables have the delivery by another division.
async fn land(
    shared: &Shared,
    writers: &Writers,
    rules: &ByRecord<'_>,
    delivery: Delivery,
    split: Split,
    payloads: Vec<Bytes>,
) {
    let division = digest(&split, rules);
    let known_as = (&delivery.envelope.id, division);
    let had = writers.ledgers().had(rules, &split, known_as, delivery.deadline);
    match had.await {
        Ok(Had::Fitting) => {}
        // It is found there, and answered as a copy.
        Ok(Had::Whole(holder)) => {
            if let Some((ident, settings)) = rules.tables().find(|(ident, _)| **ident == holder) {
                writers.accept(ident.clone(), settings, delivery);
            }
            return;
        }
        Ok(Had::Otherwise(reason)) => return keep_whole(shared, delivery, &reason).await,
        Err(error) => {
            outcome("nacked", 1);
            tracing::error!(
                message.id = %delivery.envelope.id,
                error = error.report(),
                "Nobody can tell what tables have of a delivery; it comes again."
            );
            return delivery.ack.nack(error);
        }
    }
    hand_over(shared, writers, rules, (delivery, division), split, payloads).await;
}

async fn hand_over(
    shared: &Shared,
    writers: &Writers,
    rules: &ByRecord<'_>,
    (mut delivery, division): (Delivery, Option<u64>),
    split: Split,
    payloads: Vec<Bytes>,
) {
    let mut answers: Vec<Answer> = Vec::new();
    let parts = split.pieces.into_iter().zip(payloads).zip(rules.tables());
    for ((piece, payload), (ident, settings)) in parts {
        if piece.positions.is_empty() {
            continue;
        }
        let (ack, answer) = Ack::new();
        answers.push(answer);
        let part = Delivery {
            envelope: Envelope {
                division,
                ..delivery.envelope.clone()
            },
            held: delivery.held.split(payload.len()),
            payload,
            ack,
            deadline: delivery.deadline,
            is_replay: delivery.is_replay,
            positions: piece.positions,
        };
        writers.accept(ident.clone(), settings, part);
    }
    let mut outcomes = Vec::new();
    if !split.lost.is_empty() {
        outcomes.push(unwanted(shared, &delivery.envelope, split.lost, delivery.is_replay).await);
    }
    outcomes.extend(join_all(answers.into_iter().map(Answer::outcome)).await);
    answer(delivery.ack, outcomes);
}

/// Keeps a delivery as one letter, which is replayed by the rules of then. One that came back stays the letter that it is.
async fn keep_whole(shared: &Shared, delivery: Delivery, reason: &Reason) {
    let Delivery {
        envelope,
        payload,
        ack,
        is_replay,
        ..
    } = delivery;
    if is_replay {
        outcome("nacked", 1);
        return ack.nack(still_rejected(reason));
    }
    let letters = &shared.dead_letters;
    match letters.write_delivery(&envelope, None, reason, &payload).await {
        Ok(()) => {
            outcome("dead_letter", 1);
            ack.ack(Receipt {
                dead_letter_count: 1,
                ..Receipt::default()
            });
        }
        Err(error) => {
            outcome("nacked", 1);
            ack.nack(error);
        }
    }
}

/// Keeps records that no table wants. No ledger could know them, so no commit does.
async fn unwanted(
    shared: &Shared,
    envelope: &Envelope,
    records: Vec<RejectedRecord>,
    is_replay: bool,
) -> Result<Receipt> {
    if is_replay {
        let reason: Option<&Reason> = records.first().map(|first| &first.reason);
        return Err(reason.map_or_else(nothing, still_rejected));
    }
    shared.dead_letters.write_unwanted(envelope, &records).await?;
    outcome("dead_letter", 1);
    Ok(Receipt {
        dead_letter_count: records.len() as u64,
        ..Receipt::default()
    })
}

fn nothing() -> Error {
    Error::new(ErrorKind::Rejected, "The payload came to nothing.")
}

/// Acknowledges when every part is, and says what they come to; else refuses with the first reason.
fn answer(ack: Ack, outcomes: Vec<Result<Receipt>>) {
    let mut sum = Receipt {
        duplicate: !outcomes.is_empty(),
        ..Receipt::default()
    };
    for outcome in outcomes {
        match outcome {
            Ok(receipt) => {
                sum.row_count += receipt.row_count;
                sum.dead_letter_count += receipt.dead_letter_count;
                sum.duplicate &= receipt.duplicate;
            }
            Err(error) => return ack.nack(error),
        }
    }
    ack.ack(sum);
}
