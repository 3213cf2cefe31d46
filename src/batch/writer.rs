//! The writer: takes one table's deliveries in, decodes them as they come, and says when the batch is due.

use std::sync::Arc;

use iceberg::TableIdent;
use iceberg::table::Table;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};

use super::decoding::{Decoded, Sample, decode};
use super::gauge::Gauge;
use super::opening::{TableSettings, create_inferred, open};
use super::part::{Batch, Part, Want, nack_all};
use super::shared::Shared;
use crate::commit::state_of;
use crate::decode::Decoder;
use crate::error::{Error, ErrorKind, Result};
use crate::telemetry::{self, within};
use crate::trigger::Delivery;

/// Most deliveries and payload bytes that are decoded in one go: long enough to be worth a thread, short enough that
/// the writer answers the committer in between.
const DECODE_AT_ONCE: usize = 1024;
const DECODE_BYTES_AT_ONCE: usize = 4 << 20;

/// How long the first traffic of a table is watched before its schema is decided, unless the sample is full before.
const SAMPLE_AGE: Duration = Duration::from_secs(1);

/// A table that cannot be opened is not tried again before this; deliveries meanwhile get the same answer.
const OPEN_INTERVAL: Duration = Duration::from_secs(1);

/// How long opening or making a table may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);

/// What a delivery must have left of its time when it is taken and when its batch is handed over: what the last commit took,
/// within these bounds, and less with each refusal. A batch has no more time than the one in it that has least.
const LEAST_TIME: Duration = Duration::from_secs(1);
const MOST_TIME: Duration = Duration::from_secs(5);

/// What the writer knows of its table.
enum State {
    Closed,
    Failed {
        error: Error,
        retry_at: Instant,
    },
    /// Inferring the schema: the deliveries wait undecoded.
    Sampling {
        sample: Sample,
        waiting: Vec<Delivery>,
        decide_at: Instant,
    },
    Open(Box<Open>),
}

struct Open {
    table: Table,
    decoder: Decoder,
}

/// One table's intake. At most one per table and process.
pub(super) struct Writer {
    ident: TableIdent,
    settings: Arc<TableSettings>,
    shared: Arc<Shared>,
    gauge: Arc<Gauge>,
    deliveries: mpsc::UnboundedReceiver<Delivery>,
    wants: mpsc::UnboundedReceiver<Want>,
    state: State,
    parts: Vec<Part>,
    want: Option<Want>,
    last_hand_over: Option<Instant>,
    /// The batch that was handed over last, while nobody says that it is done with; and how long the one before took.
    handed_over: Option<Instant>,
    commit_took: Duration,
    flush_now: bool,
    reopen: bool,
    closing: bool,
}

impl Writer {
    pub(super) fn new(
        ident: TableIdent,
        settings: Arc<TableSettings>,
        shared: Arc<Shared>,
        gauge: Arc<Gauge>,
        deliveries: mpsc::UnboundedReceiver<Delivery>,
        wants: mpsc::UnboundedReceiver<Want>,
    ) -> Self {
        Self {
            ident,
            settings,
            shared,
            gauge,
            deliveries,
            wants,
            state: State::Closed,
            parts: Vec::new(),
            want: None,
            last_hand_over: None,
            handed_over: None,
            commit_took: Duration::ZERO,
            flush_now: false,
            reopen: false,
            closing: false,
        }
    }

    /// Works until every sender of deliveries is gone and what came has been handed over.
    pub(super) async fn run(mut self) {
        loop {
            let wake_at = self.wake_at();
            tokio::select! {
                // The committer first: it asks once per batch. Deliveries last: they alone may never end. And always in
                // this order, so that a simulated schedule does the same each time.
                biased;
                want = self.wants.recv() => match want {
                    Some(want) => self.wanted(want),
                    None => return self.abandon(),
                },
                () = self.gauge.flush.notified() => self.flush().await,
                () = sleep_until(wake_at), if wake_at.is_some() => self.decide_schema_if_due().await,
                delivery = self.deliveries.recv(), if !self.closing && !self.is_full() => match delivery {
                    // What happens to the table meanwhile is told in the trace of who asked for it.
                    Some(delivery) => within(delivery.trace, self.take(delivery)).await,
                    None => self.close().await,
                },
            }
            self.hand_over_if_due();
            if self.closing && self.parts.is_empty() {
                return;
            }
        }
    }

    /// Stops intake: what waits for a schema gets it now, what waits for the pace does not wait any longer.
    async fn close(&mut self) {
        self.closing = true;
        self.flush().await;
    }

    /// Decides a schema that is being waited for, and hands over what is there as soon as the committer is free.
    async fn flush(&mut self) {
        if let State::Sampling { decide_at, .. } = &mut self.state {
            *decide_at = Instant::now();
        }
        self.decide_schema_if_due().await;
        self.flush_now = !self.parts.is_empty() || !self.deliveries.is_empty();
    }

    /// Ends because the committer has: nothing that waits can land. The next delivery starts another pair.
    fn abandon(&mut self) {
        tracing::error!(table.ident = %self.ident, "The committer has ended; what waits for it comes again.");
        let error = Error::new(
            ErrorKind::Unavailable,
            "The table's committer has ended; deliver it again.",
        );
        nack_all(self.parts.drain(..), &error);
    }

    fn wanted(&mut self, want: Want) {
        if let Some(handed_over) = self.handed_over.take_if(|_| !want.now) {
            self.commit_took = handed_over.elapsed();
        }
        self.reopen |= want.reopen;
        if self.parts.is_empty() {
            self.reopen_if_asked();
        }
        if want.reply.is_closed() {
            // The committer has given that flight up: a batch would be lost with the answer.
            return;
        }
        if want.now {
            let batch = self.take_batch();
            let _committer_gone = want.reply.send(batch);
        } else {
            self.want = Some(want);
        }
    }

    // --- when ---------------------------------------------------------------------------------------------------

    /// Whether the open batch must not grow: the channel then holds deliveries as they came, still counted.
    fn is_full(&self) -> bool {
        match &self.state {
            // An empty decoder holds bytes too; without parts there is nothing to hand over that would free them.
            State::Open(open) if !self.parts.is_empty() => {
                open.decoder.row_count() >= self.settings.max_rows
                    || open.decoder.held_bytes() >= self.settings.max_bytes
            }
            _ => false,
        }
    }

    /// When the open batch may be handed over: the first at once, then a `commit_interval` after the last; earlier
    /// when it is full, held request slots run out, or the process stops.
    fn due_at(&self) -> Option<Instant> {
        if self.parts.is_empty() {
            return None;
        }
        let now = Instant::now();
        if self.flush_now || self.closing || self.is_full() {
            return Some(now);
        }
        Some(
            self.last_hand_over
                .map_or(now, |last| last + self.settings.commit_interval),
        )
    }

    fn wake_at(&self) -> Option<Instant> {
        let decide_at = match &self.state {
            State::Sampling { decide_at, .. } => Some(*decide_at),
            _ => None,
        };
        // Without a waiting committer there is no batch to wake up for.
        let due_at = self.want.as_ref().and_then(|_| self.due_at());
        decide_at.into_iter().chain(due_at).min()
    }

    fn hand_over_if_due(&mut self) {
        if self.want.is_none() || self.due_at().is_none_or(|due| due > Instant::now()) {
            return;
        }
        // A batch that could not be closed was answered; the committer goes on waiting for the next.
        let Some(batch) = self.take_batch() else { return };
        if let Some(want) = self.want.take() {
            // A committer that is gone drops the batch, and with it every ack handle: a nack.
            let _committer_gone = want.reply.send(Some(batch));
        }
    }

    /// Closes the open batch; `None` when it is empty.
    fn take_batch(&mut self) -> Option<Batch> {
        if self.parts.is_empty() {
            return None;
        }
        let parts = std::mem::take(&mut self.parts);
        let (parts, late): (Vec<_>, Vec<_>) =
            parts.into_iter().partition(|part| self.has_time(part.deadline));
        if !late.is_empty() {
            let error = self.late(late.len());
            nack_all(late, &error);
        }
        let batch = match &mut self.state {
            State::Open(open) => match open.decoder.finish() {
                Ok(records) => Some(Batch {
                    table: Some(open.table.clone()),
                    records: Some(records),
                    parts,
                }),
                Err(error) => {
                    tracing::error!(table.ident = %self.ident, error = error.report(), "A batch could not be closed.");
                    nack_all(parts, &error);
                    None
                }
            },
            // Rejected records only, from before there was a table.
            _ => Some(Batch {
                table: None,
                records: None,
                parts,
            }),
        };
        self.gauge.set_waiting(match &self.state {
            State::Sampling { waiting, .. } => waiting.len(),
            _ => 0,
        });
        self.flush_now = false;
        // Without a part left there are rows that nobody waits for, and who comes next need not wait either.
        let batch = batch.filter(|batch| !batch.parts.is_empty());
        if batch.is_some() {
            self.last_hand_over = Some(Instant::now());
            self.handed_over = self.last_hand_over;
        }
        self.reopen_if_asked();
        batch
    }

    fn has_time(&self, deadline: Instant) -> bool {
        deadline > Instant::now() + self.commit_took.clamp(LEAST_TIME, MOST_TIME)
    }

    /// Why deliveries are refused alone: with them their neighbours' time would be over, too.
    fn late(&mut self, deliveries: usize) -> Error {
        // One slow commit keeps nobody out for good: whoever comes next needs less.
        self.commit_took /= 2;
        telemetry::count_deliveries("nacked", deliveries as u64);
        tracing::warn!(
            table.ident = %self.ident,
            deliveries,
            "Deliveries waited until too little of their time was left for a commit; they come again."
        );
        Error::new(
            ErrorKind::Unavailable,
            "The delivery has too little of its time left for a commit; deliver it again.",
        )
        .with("table", &self.ident)
    }

    /// Forgets the table, so that the next delivery opens it again. Call it without parts: their rows are the decoder's.
    fn reopen_if_asked(&mut self) {
        if std::mem::take(&mut self.reopen) && matches!(self.state, State::Open(_)) {
            self.state = State::Closed;
        }
    }

    // --- in -----------------------------------------------------------------------------------------------------

    /// Takes a delivery, and the others that are already waiting behind it.
    async fn take(&mut self, first: Delivery) {
        let mut bytes = first.payload.len();
        let mut chunk = vec![first];
        while chunk.len() < DECODE_AT_ONCE && bytes < DECODE_BYTES_AT_ONCE {
            let Ok(delivery) = self.deliveries.try_recv() else {
                break;
            };
            bytes = bytes.saturating_add(delivery.payload.len());
            chunk.push(delivery);
        }
        if let Err(error) = self.ensure_open().await {
            return nack_deliveries(chunk, &error);
        }
        let (chunk, late): (Vec<_>, Vec<_>) = chunk
            .into_iter()
            .partition(|delivery| self.has_time(delivery.deadline));
        if !late.is_empty() {
            let error = self.late(late.len());
            late.into_iter()
                .for_each(|delivery| delivery.ack.nack(error.clone()));
        }
        if matches!(self.state, State::Sampling { .. }) {
            return self.sample(chunk).await;
        }
        self.decode(chunk).await;
    }

    /// Looks at the first traffic of a table that has no schema, off the async threads, and lets it wait.
    async fn sample(&mut self, chunk: Vec<Delivery>) {
        let State::Sampling {
            mut sample,
            mut waiting,
            mut decide_at,
        } = std::mem::replace(&mut self.state, State::Closed)
        else {
            return;
        };
        let limits = self.shared.limits.clone();
        let observing = tokio::task::spawn_blocking(move || {
            let chunk = sample.observe(chunk, &limits);
            (sample, chunk)
        });
        // A thread that ended badly took the chunk's ack handles along: a nack for each, as for those that waited.
        let Ok((sample, chunk)) = observing.await else {
            return;
        };
        waiting.extend(chunk);
        if sample.is_full() {
            decide_at = Instant::now();
        }
        self.gauge.set_waiting(waiting.len());
        self.state = State::Sampling {
            sample,
            waiting,
            decide_at,
        };
        self.decide_schema_if_due().await;
    }

    /// Opens the table if it is not open; decides between sampling and decoding.
    async fn ensure_open(&mut self) -> Result<()> {
        match &self.state {
            State::Open(_) | State::Sampling { .. } => return Ok(()),
            State::Failed { error, retry_at } if *retry_at > Instant::now() => return Err(error.clone()),
            State::Failed { .. } | State::Closed => {}
        }
        let opening = open(self.shared.engine.catalog(), &self.ident, &self.settings);
        match in_time(opening).await {
            Ok(Some((table, decoder))) => {
                telemetry::table_opened(&self.ident.to_string(), state_of(&table));
                self.state = State::Open(Box::new(Open { table, decoder }));
                Ok(())
            }
            Ok(None) => {
                self.state = State::Sampling {
                    sample: Sample::new(),
                    waiting: Vec::new(),
                    decide_at: Instant::now() + SAMPLE_AGE,
                };
                Ok(())
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Remembers, and tells once, why the table cannot be written to.
    fn failed(&mut self, error: Error) -> Error {
        telemetry::table_not_opened(&self.ident.to_string(), error.kind());
        tracing::error!(
            table.ident = %self.ident,
            error = error.report(),
            "The table cannot be opened; its deliveries come again."
        );
        self.state = State::Failed {
            error: error.clone(),
            retry_at: Instant::now() + OPEN_INTERVAL,
        };
        error
    }

    /// Makes the table of the sample's schema once the sample is full or old enough, and decodes what waited.
    async fn decide_schema_if_due(&mut self) {
        let due = matches!(
            &self.state,
            State::Sampling { decide_at, .. } if *decide_at <= Instant::now()
        );
        if !due {
            return;
        }
        let State::Sampling { sample, waiting, .. } = std::mem::replace(&mut self.state, State::Closed)
        else {
            return;
        };
        let catalog = self.shared.engine.catalog();
        let creating = create_inferred(catalog, &self.ident, &self.settings, sample.schema());
        match in_time(creating).await {
            Ok((table, decoder)) => self.decode_with(table, decoder, waiting).await,
            Err(error) => {
                let error = self.failed(error);
                nack_deliveries(waiting, &error);
            }
        }
    }

    /// Decodes deliveries into the open batch, off the async threads.
    async fn decode(&mut self, chunk: Vec<Delivery>) {
        let State::Open(open) = std::mem::replace(&mut self.state, State::Closed) else {
            return;
        };
        let Open { table, decoder } = *open;
        self.decode_with(Some(table), decoder, chunk).await;
    }

    /// Decodes; without a table everything is rejected, and the next delivery looks for a schema anew.
    async fn decode_with(&mut self, table: Option<Table>, decoder: Decoder, chunk: Vec<Delivery>) {
        let limits = self.shared.limits.clone();
        let without_table = table.is_none();
        let decoding = tokio::task::spawn_blocking(move || decode(decoder, chunk, &limits, without_table));
        let Ok(Decoded {
            decoder,
            parts,
            unknown_fields,
        }) = decoding.await
        else {
            // The chunk's ack handles went with the thread, which is a nack for each; so must the batch's, whose
            // rows were in its decoder.
            let error = Error::new(ErrorKind::Unavailable, "The decoder stopped; deliver it again.");
            tracing::error!(table.ident = %self.ident, "The decoder stopped; the open batch comes again.");
            return nack_all(self.parts.drain(..), &error);
        };
        self.shared
            .unknown_fields
            .count(&self.ident.to_string(), unknown_fields);
        self.state = match table {
            Some(table) => State::Open(Box::new(Open { table, decoder })),
            None => State::Closed,
        };
        self.parts.extend(parts);
        self.gauge.set_waiting(self.parts.len());
    }
}

fn nack_deliveries(deliveries: Vec<Delivery>, error: &Error) {
    telemetry::count_deliveries("nacked", deliveries.len() as u64);
    deliveries
        .into_iter()
        .for_each(|delivery| delivery.ack.nack(error.clone()));
}

/// Bounds the catalog's part, so that a request that hangs does not hold deliveries past their deadline.
async fn in_time<T>(opening: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(OPEN_TIMEOUT, opening)
        .await
        .unwrap_or_else(|_elapsed| {
            Err(Error::new(
                ErrorKind::Unavailable,
                "The catalog did not answer; deliver it again.",
            ))
        })
}

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}
