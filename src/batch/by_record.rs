//! One delivery into several tables: each record to the first table that wants it, each table's part on its own.
//!
//! A part is a delivery of its table, under the same id: checked, committed and found again alone, since each table has a
//! ledger of its own. The delivery is acknowledged when every part is (protocol, step 9). If one is refused the delivery
//! comes again, and the parts that are there are dropped. That holds for one division of it alone: while a table has a part
//! of another, nothing more of it lands (`division.rs`).

use bytes::Bytes;
use futures::future::join_all;

use super::decoding::{plain_payload, unforeseen};
use super::division::{Had, digest};
use super::shared::Shared;
use super::whole::keep_whole;
use super::writers::Writers;
use crate::decode::{Condition, Reason, RejectedRecord, Room, Split, split};
use crate::error::Result;
use crate::route::ByRecord;
use crate::telemetry::{self, shown};
use crate::trigger::{Ack, Answer, Delivery, DeliveryId, Envelope, Limits, PartOf, Receipt};

/// Hands the parts of a delivery to their tables' writers, and answers it once all of them are answered.
///
/// With a name to trust, parts that are too old to prove new land under that one, on the caller's word that their tables do
/// not have them.
pub async fn accept_by_record(
    shared: &Shared,
    writers: &Writers,
    rules: &ByRecord<'_>,
    mut delivery: Delivery,
    on_trust: Option<DeliveryId>,
) {
    let (conditions, count, rest) = (conditions(rules), rules.table_count(), rules.rest());
    let limits = shared.limits.clone();
    let splitting = tokio::task::spawn_blocking(move || {
        let split = take_apart(&mut delivery, &limits, |payload, room| {
            split(payload, &conditions, count, rest, room)
        });
        (delivery, split)
    });
    // A thread that ended badly took the ack handle along: a nack.
    let Ok((delivery, split)) = splitting.await else {
        return;
    };
    match split {
        Err(error) => {
            telemetry::count_deliveries("nacked", 1);
            delivery.ack.nack(error);
        }
        Ok(Err(reason)) => keep_whole(shared, delivery, &reason).await,
        Ok(Ok(taken_apart)) => {
            let asked = Asked {
                shared,
                writers,
                rules,
                on_trust,
            };
            asked.land(delivery, taken_apart).await;
        }
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

/// Takes a delivery apart within the process's limits; what that takes is held.
///
/// The outer error refuses the delivery for now, the inner one dead-letters it.
fn take_apart(
    delivery: &mut Delivery,
    limits: &Limits,
    split: impl FnOnce(&Bytes, Room) -> Result<Split, Reason>,
) -> Result<Result<(Split, Vec<Bytes>), Reason>> {
    let payload = match plain_payload(delivery, limits)? {
        Ok(payload) => payload,
        Err(reason) => return Ok(Err(reason)),
    };
    // The parts are a copy.
    delivery.held.grow(payload.len())?;
    let room = Room {
        max_bytes: limits.max_column_bytes(),
        letter_bytes: delivery.envelope.letter_bytes(),
    };
    let mut split = match split(&payload, room) {
        Ok(split) => split,
        Err(reason) => return Ok(Err(reason)),
    };
    delivery.held.grow(unforeseen(split.cost, payload.len()))?;
    let payloads = split.pieces.iter_mut().map(|piece| piece.payload()).collect();
    Ok(Ok((split, payloads)))
}

/// What a delivery that was taken apart meets.
struct Asked<'a> {
    shared: &'a Shared,
    writers: &'a Writers,
    rules: &'a ByRecord<'a>,
    on_trust: Option<DeliveryId>,
}

impl Asked<'_> {
    /// Lands the parts, unless tables have the delivery by another division.
    async fn land(self, delivery: Delivery, (split, payloads): (Split, Vec<Bytes>)) {
        let division = digest(&split, self.rules);
        let known_as = (&delivery.envelope, division);
        let ledgers = self.writers.ledgers();
        let had = ledgers.had(
            self.rules,
            &split,
            known_as,
            self.on_trust.as_ref(),
            delivery.deadline,
        );
        let too_old = match had.await {
            Ok(Had::Fitting { too_old }) => too_old,
            // It is found there, and answered as a copy.
            Ok(Had::Whole(holder)) => {
                if let Some((ident, settings)) = self.rules.tables().find(|(ident, _)| **ident == holder) {
                    self.writers.accept(ident.clone(), settings, delivery);
                }
                return;
            }
            Ok(Had::Otherwise(reason)) => return keep_whole(self.shared, delivery, &reason).await,
            Err(error) => {
                telemetry::count_deliveries("nacked", 1);
                tracing::error!(
                    message.id = shown(&delivery.envelope.id.to_string()),
                    error = error.report(),
                    "Nobody can tell what tables have of a delivery; it comes again."
                );
                return delivery.ack.nack(error);
            }
        };
        let is_wanted = split.pieces.iter().any(|piece| !piece.positions.is_empty());
        match split.lost.first() {
            // Under its own name, so that the letter and a copy that still comes land once.
            Some(first) if !is_wanted => keep_whole(self.shared, delivery, &first.reason).await,
            _ => {
                self.hand_over(delivery, (split, payloads), division, &too_old)
                    .await
            }
        }
    }

    async fn hand_over(
        &self,
        mut delivery: Delivery,
        (split, payloads): (Split, Vec<Bytes>),
        division: Option<u64>,
        too_old: &[bool],
    ) {
        let mut answers: Vec<Answer> = Vec::new();
        let max_bytes = self.shared.limits.max_column_bytes();
        let sizes = split.pieces.iter().zip(&payloads);
        let sizes = sizes.filter(|(piece, _)| !piece.positions.is_empty());
        let shares = Shares::of(max_bytes, sizes.map(|(_, payload)| payload.len()));
        let parts = split.pieces.into_iter().zip(payloads);
        for (((piece, payload), (ident, settings)), too_old) in parts.zip(self.rules.tables()).zip(too_old) {
            if piece.positions.is_empty() {
                continue;
            }
            let (ack, answer) = Ack::new();
            answers.push(answer);
            let mut envelope = delivery.envelope.clone();
            envelope.division = division;
            if let Some(id) = self.on_trust.as_ref().filter(|_| *too_old) {
                envelope.id = id.clone();
            }
            let part = Delivery {
                envelope,
                held: delivery.held.split(payload.len()),
                part_of: Some(PartOf {
                    positions: piece.positions,
                    max_bytes: shares.of_part(payload.len()),
                }),
                payload,
                ack,
                deadline: delivery.deadline,
                trace: delivery.trace,
                is_replay: delivery.is_replay,
            };
            self.writers.accept(ident.clone(), settings, part);
        }
        let mut outcomes = join_all(answers.into_iter().map(Answer::outcome)).await;
        // Parts before letters: tables that have parts of this division keep a copy that comes by other rules from landing
        // what the letters hold.
        if !split.lost.is_empty() && outcomes.iter().all(Result::is_ok) {
            outcomes.push(unwanted(self.shared, &delivery.envelope, split.lost).await);
        }
        answer(delivery.ack, outcomes);
    }
}

/// How the bound on one payload's columns and rejected records is shared by its parts: half of it evenly, half by size. A
/// small part has room for letters, a large one for its columns, and all of them fit together wherever one of them does.
struct Shares {
    max_bytes: usize,
    part_count: usize,
    payload_bytes: usize,
}

impl Shares {
    fn of(max_bytes: usize, parts: impl Iterator<Item = usize>) -> Self {
        let nothing = Self {
            max_bytes,
            part_count: 0,
            payload_bytes: 0,
        };
        parts.fold(nothing, |sum, bytes| Self {
            part_count: sum.part_count + 1,
            payload_bytes: sum.payload_bytes + bytes,
            ..sum
        })
    }

    fn of_part(&self, bytes: usize) -> usize {
        let half = self.max_bytes / 2;
        // In the wider type: the product of two sizes may not fit.
        let by_size = (half as u128 * bytes as u128) / self.payload_bytes.max(1) as u128;
        half / self.part_count.max(1) + usize::try_from(by_size).unwrap_or(half)
    }
}

/// Keeps records that no table wants, while others of their delivery are in tables.
async fn unwanted(shared: &Shared, envelope: &Envelope, records: Vec<RejectedRecord>) -> Result<Receipt> {
    shared.dead_letters.write_unwanted(envelope, &records).await?;
    telemetry::count_deliveries("dead_letter", 1);
    Ok(Receipt {
        dead_letter_count: records.len() as u64,
        ..Receipt::default()
    })
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
