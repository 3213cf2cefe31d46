//! The answer to a delivery: the handle that acknowledges it, and the end that its trigger waits at.

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, ErrorKind};
use crate::telemetry::{Span, Trace};

/// What became of an acknowledged delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Receipt {
    /// Rows of it that are in a committed snapshot.
    pub row_count: u64,
    /// Records of it that are in the dead-letter sink.
    pub dead_letter_count: u64,
    /// The snapshot that holds the rows, if there are any.
    pub snapshot_id: Option<i64>,
    /// Whether an earlier copy of the delivery brought them.
    pub duplicate: bool,
}

impl Receipt {
    fn tell(&self, span: &mut Span) {
        if !span.is_recorded() {
            return;
        }
        span.set("rows", count(self.row_count));
        span.set("dead_letters", count(self.dead_letter_count));
        span.set("duplicate", self.duplicate);
        if let Some(snapshot_id) = self.snapshot_id {
            // Text: beyond what readers of numbers hold exactly.
            span.set("snapshot.id", snapshot_id.to_string());
        }
    }
}

/// The one-time right to acknowledge a delivery. Dropping it is a nack: nothing is acknowledged by accident.
#[derive(Debug)]
pub struct Ack(oneshot::Sender<Result<Receipt, Error>>);

/// The other end of an [`Ack`], held by the trigger that answers the sender.
#[derive(Debug)]
pub struct Answer {
    outcome: oneshot::Receiver<Result<Receipt, Error>>,
    /// Ends with the answer.
    span: Span,
}

impl Ack {
    /// Makes an ack handle and the answer that the trigger waits for.
    pub fn new() -> (Self, Answer) {
        let (sender, receiver) = oneshot::channel();
        let answer = Answer {
            outcome: receiver,
            span: Span::default(),
        };
        (Self(sender), answer)
    }

    /// Acknowledges. Call only when every record is in a committed snapshot or in the dead-letter sink (invariant 1).
    ///
    /// A sender that has gone away redelivers; the handle does not care.
    pub fn ack(self, receipt: Receipt) {
        let _gone = self.0.send(Ok(receipt));
    }

    /// Refuses with the reason, so that the sender delivers again.
    pub fn nack(self, error: Error) {
        let _gone = self.0.send(Err(error));
    }
}

impl Answer {
    /// Waits for the outcome. A dropped handle is [`ErrorKind::Unavailable`].
    ///
    /// # Errors
    /// The reason of the nack.
    pub async fn outcome(self) -> Result<Receipt, Error> {
        self.outcome.await.unwrap_or_else(|_dropped| Err(let_go()))
    }

    /// The same, but no longer than until then: `None`. Its span tells what became of the delivery.
    pub(super) async fn outcome_until(mut self, until: Instant) -> Option<Result<Receipt, Error>> {
        let outcome = timeout_at(until, &mut self.outcome).await.ok();
        let outcome = outcome.map(|outcome| outcome.unwrap_or_else(|_dropped| Err(let_go())));
        match &outcome {
            Some(Ok(receipt)) => receipt.tell(&mut self.span),
            Some(Err(error)) => self.span.failed(error.kind()),
            None => self.span.failed(ErrorKind::Unavailable),
        }
        outcome
    }

    /// The delivery's trace, if there is one.
    pub(super) fn trace(&self) -> Trace {
        self.span.trace()
    }

    /// The span that ends with the answer.
    pub(super) fn with_span(self, span: Span) -> Self {
        Self { span, ..self }
    }
}

fn let_go() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "The delivery was let go before its commit; deliver it again.",
    )
}

/// A number as spans hold it.
fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn dropped_ack_is_a_nack() {
        let (ack, answer) = Ack::new();
        drop(ack);
        assert!(answer.outcome().await.is_err());
    }
}
