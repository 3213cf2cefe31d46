//! The connections of callers: how many there are, and for how long one may keep us waiting.

use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::telemetry::Seldom;

/// How long who has not asked for anything yet has for it when there are too many: the request may be on its way.
const LAST_WORD: Duration = Duration::from_secs(1);

/// How often an HTTP/2 peer is asked for a sign of life, and how long it has for it.
const PING: Duration = Duration::from_secs(20);

/// An unwrapped push has a header for each attribute: [100 of them][limits], with names of 256 and values of 1,024 bytes, beside
/// those of the message and the request. What has more is refused by the connection, unseen by anybody.
///
/// [limits]: https://cloud.google.com/pubsub/quotas#resource_limits
const MAX_HEADERS: usize = 192;
const MAX_HEADER_BYTES: u32 = 256 << 10;

/// What the connections of a server may take.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// How many there are at most. Where that is too few, idle ones are closed.
    pub most: usize,
    /// How long the head of a connection's first request may take.
    pub first_head: Duration,
    /// How long each later one may take, which is how long a connection may be idle.
    pub idle: Duration,
}

impl Connections {
    /// For a server that holds so many requests: twice as many and a thousand connections, so that who comes in vain is
    /// told so, but no more than half of the files that the process may open.
    pub fn of(max_requests: usize) -> Self {
        let wanted = max_requests.saturating_mul(2).saturating_add(1_000);
        Self {
            most: open_files().map_or(wanted, |files| wanted.min(files / 2)).max(1),
            first_head: Duration::from_secs(30),
            // Google's load balancers keep theirs for 600 s, and take one that is closed before for a failure.
            idle: Duration::from_secs(620),
        }
    }

    /// Serves until told to stop; then no connection is taken any more, and each ends with the request it has.
    pub async fn serve(self, listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
        let slots = Arc::new(Semaphore::new(self.most));
        let (crowded, told) = (watch::Sender::new(()), Seldom::default());
        let mut open = JoinSet::new();
        loop {
            let next = async {
                let slot = room(&slots, &crowded, &told).await;
                (slot, accept(&listener).await)
            };
            let (slot, stream) = tokio::select! {
                next = next => next,
                _stopped_or_gone = stop.wait_for(|stop| *stop) => break,
            };
            let (router, stop, crowded) = (router.clone(), stop.clone(), crowded.subscribe());
            open.spawn(async move {
                self.converse(stream, router, stop, crowded).await;
                drop(slot);
            });
            while open.try_join_next().is_some() {}
        }
        drop(listener);
        while open.join_next().await.is_some() {}
    }

    async fn converse(
        self,
        stream: TcpStream,
        router: Router,
        mut stop: watch::Receiver<bool>,
        mut crowded: watch::Receiver<()>,
    ) {
        let asked = Arc::new(AtomicBool::new(false));
        let (marked, router) = (asked.clone(), TowerToHyperService::new(router));
        let service = service_fn(move |request| {
            marked.store(true, Ordering::Relaxed);
            router.call(request)
        });
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .max_headers(MAX_HEADERS)
            .timer(TokioTimer::new())
            .header_read_timeout(self.idle);
        // A peer that is gone, or does not answer a ping, would keep its slot for ever, also when it is told to leave.
        builder
            .http2()
            .max_header_list_size(MAX_HEADER_BYTES)
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut first_head = pin!(sleep(self.first_head));
        let (mut waits, mut leaves) = (true, false);
        loop {
            tokio::select! {
                _ended = connection.as_mut() => return,
                // Told by us, since the builder waits without end to see which protocol is spoken.
                () = &mut first_head, if waits => {
                    if !asked.load(Ordering::Relaxed) {
                        return;
                    }
                    waits = false;
                    if leaves {
                        connection.as_mut().graceful_shutdown();
                    }
                }
                stops = told_to_leave(&mut stop, &mut crowded), if !leaves => {
                    leaves = true;
                    if stops || asked.load(Ordering::Relaxed) {
                        connection.as_mut().graceful_shutdown();
                    } else {
                        let soon = Instant::now() + LAST_WORD;
                        let until = first_head.deadline().min(soon);
                        first_head.as_mut().reset(until);
                    }
                }
            }
        }
    }
}

/// Waits for room for one more connection, and asks the idle ones to leave where there is none.
async fn room(
    slots: &Arc<Semaphore>,
    crowded: &watch::Sender<()>,
    told: &Seldom,
) -> Option<OwnedSemaphorePermit> {
    if let Ok(slot) = slots.clone().try_acquire_owned() {
        return Some(slot);
    }
    if let Some(count) = told.tell("crowded") {
        tracing::warn!(count, "There are too many connections; idle ones are closed.");
    }
    crowded.send_replace(());
    slots.clone().acquire_owned().await.ok()
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if is_the_callers(error.kind()) => {}
            // Such as no descriptors left: some come free.
            Err(error) => {
                tracing::error!(%error, "A connection cannot be taken; it is tried again in a second.");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

fn is_the_callers(kind: ErrorKind) -> bool {
    let gone = [
        ErrorKind::ConnectionAborted,
        ErrorKind::ConnectionRefused,
        ErrorKind::ConnectionReset,
    ];
    gone.contains(&kind)
}

/// Whether it is because the server stops, which has a time of its own.
async fn told_to_leave(stop: &mut watch::Receiver<bool>, crowded: &mut watch::Receiver<()>) -> bool {
    tokio::select! {
        _stopped_or_gone = stop.wait_for(|stop| *stop) => true,
        Ok(()) = crowded.changed() => false,
    }
}

/// How many files the process may have open, where the system tells.
fn open_files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}
