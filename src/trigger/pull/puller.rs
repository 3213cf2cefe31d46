//! One subscription: its stream, each message's way through the pipeline, and its acknowledgement.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use google_cloud_pubsub::client::Subscriber;
use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::subscriber::MessageStream;
use google_cloud_pubsub::subscriber::handler::Handler;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::error::{Error, ErrorKind};
use crate::telemetry::{self, Trace, within};
use crate::trigger::{Answer, Push, Server};

/// How long a refused message is kept before it is given back, since Pub/Sub sends it again at once.
const KEPT_AFTER_REFUSAL: Duration = Duration::from_secs(5);

/// Between a broken stream and the next one: at first, and at most.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(30);

/// Pulls one subscription.
pub(super) struct Puller {
    client: Subscriber,
    subscription: String,
    server: Arc<Server>,
    failure: watch::Sender<Option<Error>>,
    stopped: watch::Receiver<bool>,
    /// Messages that are not acknowledged or given back yet, and closed streams that have such.
    open: JoinSet<()>,
    wait: Duration,
}

/// Why a stream is not read any more.
enum Ended {
    Stopped,
    Broken(Option<google_cloud_pubsub::Error>),
}

impl Puller {
    pub(super) fn new(
        client: Subscriber,
        subscription: String,
        server: Arc<Server>,
        failure: watch::Sender<Option<Error>>,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        Self {
            client,
            subscription,
            server,
            failure,
            stopped,
            open: JoinSet::new(),
            wait: FIRST_WAIT,
        }
    }

    /// Pulls until it is stopped, or the subscription cannot be pulled; returns when nothing of it is open.
    pub(super) async fn run(mut self) {
        loop {
            let mut stream = self.stream();
            let ended = self.read(&mut stream).await;
            // Closed, it takes no more; what it gave is leased on, and can be acknowledged until that is settled.
            let closed = stream.shutdown_token();
            drop(stream);
            self.open.spawn(async move { closed.shutdown().await });
            let error = match ended {
                Ended::Stopped => break,
                Ended::Broken(error) => error,
            };
            if let Some(error) = error.as_ref().and_then(refusal) {
                let error = error.with("subscription", &self.subscription);
                self.failure.send_replace(Some(error));
                break;
            }
            self.pause(error).await;
        }
        while self.open.join_next().await.is_some() {}
    }

    /// A stream that holds no more than the process may. It is opened when it is read.
    fn stream(&self) -> MessageStream {
        let limits = &self.server.limits;
        let bound = |limit: usize| i64::try_from(limit).unwrap_or(i64::MAX);
        self.client
            .subscribe(self.subscription.as_str())
            .set_max_lease_extension(self.server.ack_deadline)
            .set_max_outstanding_messages(bound(limits.max_requests()))
            .set_max_outstanding_bytes(bound(limits.max_bytes()))
            .build()
    }

    async fn read(&mut self, stream: &mut MessageStream) -> Ended {
        loop {
            let next = tokio::select! {
                biased;
                _stopped_or_gone = self.stopped.wait_for(|stopped| *stopped) => return Ended::Stopped,
                next = stream.next() => next,
            };
            match next {
                Some(Ok((message, handler))) => self.take(message, handler).await,
                Some(Err(error)) => return Ended::Broken(Some(error)),
                None => return Ended::Broken(None),
            }
        }
    }

    /// Waits for room, then hands the message to the pipeline. Meanwhile it is leased, and nothing more is read.
    async fn take(&mut self, message: Message, handler: Handler) {
        self.wait = FIRST_WAIT;
        while self.open.try_join_next().is_some() {}
        let Some(published_at) = publish_time(&message) else {
            let report = "A message without its id or publish time cannot be told from its repetitions.";
            let reason = ErrorKind::NotAnEvent.name();
            self.server.refused("pull", reason, report);
            self.open.spawn(give_back(handler, self.stopped.clone()));
            return;
        };
        let attributes = message.attributes.iter();
        let attributes: usize = attributes.map(|(name, value)| name.len() + value.len()).sum();
        let bytes = message.data.len().saturating_add(attributes);
        let held = tokio::select! {
            biased;
            // The handler is dropped: the message is given back.
            _stopped_or_gone = self.stopped.wait_for(|stopped| *stopped) => return,
            held = self.server.limits.room(bytes) => held,
        };
        let arrived = Instant::now();
        let push = Push {
            subscription: self.subscription.clone(),
            message_id: message.message_id,
            publish_time: published_at,
            attributes: message.attributes.into_iter().collect(),
            // A part of the client's buffer would keep all of it, which is counted nowhere.
            data: Ok(Bytes::copy_from_slice(&message.data)),
        };
        let trace = Trace::of_message(&push.attributes);
        let answer = match self.server.take_message(push, held, arrived) {
            Ok(Some(answer)) => answer,
            Ok(None) => {
                // It tells of nothing that could land.
                let (server, subscription) = (self.server.clone(), self.subscription.clone());
                self.open
                    .spawn(async move { acknowledge(&server, &subscription, handler).await });
                return;
            }
            Err(error) => {
                trace.scope(|| self.server.refused("pull", error.kind().name(), &error.report()));
                self.open.spawn(give_back(handler, self.stopped.clone()));
                return;
            }
        };
        let settled = settle(
            self.server.clone(),
            self.subscription.clone(),
            answer,
            arrived,
            handler,
            self.stopped.clone(),
        );
        self.open.spawn(settled);
    }

    /// Tells of a stream that broke, and waits a while, longer each time in a row.
    async fn pause(&mut self, error: Option<google_cloud_pubsub::Error>) {
        let error = error.map_or_else(|| "it ended".to_owned(), |error| error.to_string());
        let (subscription, wait) = (&self.subscription, self.wait);
        tracing::warn!(
            subscription,
            error,
            ?wait,
            "The stream of a subscription broke; it is opened again."
        );
        tokio::select! {
            _stopped_or_gone = self.stopped.wait_for(|stopped| *stopped) => {}
            () = sleep(wait) => {}
        }
        self.wait = wait.saturating_mul(2).min(LAST_WAIT);
    }
}

/// When a message was published; none where it cannot be told from its repetitions.
fn publish_time(message: &Message) -> Option<DateTime<Utc>> {
    let at = message.publish_time.as_ref()?;
    let at = DateTime::from_timestamp(at.seconds(), at.nanos().try_into().ok()?)?;
    (!message.message_id.is_empty()).then_some(at)
}

/// Waits for what becomes of a message, then acknowledges it or gives it back.
async fn settle(
    server: Arc<Server>,
    subscription: String,
    answer: Answer,
    arrived: Instant,
    handler: Handler,
    stopped: watch::Receiver<bool>,
) {
    let trace = answer.trace();
    match server.outcome(answer, arrived).await {
        // Commit before ack: a crash here redelivers, and the ledger knows the message.
        Some(Ok(_receipt)) => within(trace, acknowledge(&server, &subscription, handler)).await,
        // The batch counted and told why.
        Some(Err(_)) | None => give_back(handler, stopped).await,
    }
}

/// Acknowledges. One that is lost or not confirmed costs a redelivery, which the ledger drops.
async fn acknowledge(server: &Server, subscription: &str, handler: Handler) {
    let Handler::ExactlyOnce(handler) = handler else {
        return handler.ack();
    };
    let Err(error) = handler.confirmed_ack().await else {
        return;
    };
    metrics::counter!(telemetry::UNCONFIRMED_ACKS, "subscription" => subscription.to_owned()).increment(1);
    if let Some(count) = server.refusals.tell(&format!("unconfirmed {subscription}")) {
        tracing::warn!(
            subscription,
            %error,
            count,
            "An acknowledgement was not confirmed; the message may come again, and lands no second time."
        );
    }
}

/// Gives a message back after a while, or when the process stops. It holds no room meanwhile, so that it blocks no other.
async fn give_back(handler: Handler, mut stopped: watch::Receiver<bool>) {
    tokio::select! {
        _stopped_or_gone = stopped.wait_for(|stopped| *stopped) => {}
        () = sleep(KEPT_AFTER_REFUSAL) => {}
    }
    handler.nack();
}

/// Why a subscription cannot be pulled; none for what may pass.
fn refusal(error: &google_cloud_pubsub::Error) -> Option<Error> {
    let code = error.status().map(|status| status.code.name());
    let (kind, message) = match code {
        Some("NOT_FOUND") => (
            ErrorKind::NotFound,
            "There is no such subscription; create it, or name another one in the configuration or with --subscription.",
        ),
        Some("PERMISSION_DENIED") => (
            ErrorKind::Forbidden,
            "The process may not pull this subscription: grant its service account roles/pubsub.subscriber on it \
             (permission pubsub.subscriptions.consume).",
        ),
        Some("UNAUTHENTICATED") => (
            ErrorKind::Unauthenticated,
            "Pub/Sub does not take the process's credentials; give it a service account that exists.",
        ),
        Some("FAILED_PRECONDITION" | "INVALID_ARGUMENT" | "OUT_OF_RANGE" | "UNIMPLEMENTED") => (
            ErrorKind::Rejected,
            "Pub/Sub refuses to stream this subscription. One with a push endpoint or an export cannot be pulled: choose \
             those to pull with --subscription.",
        ),
        _ if error.is_authentication() => (
            ErrorKind::Unauthenticated,
            "There is no token for Pub/Sub; give the process a service account, or GOOGLE_APPLICATION_CREDENTIALS.",
        ),
        _ => return None,
    };
    Some(
        Error::new(kind, message)
            .with("status", code.unwrap_or("none"))
            .with_source(error.to_string()),
    )
}
