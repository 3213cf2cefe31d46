//! A push subscription's own part, as Google documents it: what is sent when, and what is made of each answer.
//!
//! An answer of 102, 200, 201, 202 or 204 acknowledges; every other, and none in time, is a nack, after which it [backs off][backoff]
//! from 100 ms on, doubled up to a minute. How many pushes are open at a time is the [push window][window]: small at
//! first, it grows with acknowledgements that come within a second, and shrinks with nacks. Messages of one [ordering
//! key][ordering] are sent one after the other, the next when the one before is acknowledged. Any message may come twice.
//!
//! [backoff]: https://cloud.google.com/pubsub/docs/handling-failures#push_backoff
//! [window]: https://cloud.google.com/pubsub/docs/push#delivery_rate
//! [ordering]: https://cloud.google.com/pubsub/docs/ordering#receive_messages_in_order

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use tokio::time::{Instant, sleep_until};

use super::TestResult;
use super::push::{Push, Pusher};

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
const FIRST_WINDOW: usize = 4;
/// An acknowledgement that takes longer does not widen the window.
const QUICK: Duration = Duration::from_secs(1);
/// The chance that a message is sent once more though it was acknowledged.
const DOUBLED: f64 = 0.05;
const ACKNOWLEDGED: [u16; 5] = [102, 200, 201, 202, 204];

/// A message, and how often it was sent.
#[derive(Debug, Clone)]
struct Waiting {
    push: Push,
    key: Option<String>,
    attempt: u32,
    /// It was acknowledged before.
    is_copy: bool,
}

/// What came of a delivery.
#[derive(Debug, Default)]
pub struct Delivered {
    pub acknowledged: usize,
    pub nacks: usize,
    pub copies: usize,
    pub most_attempts: u32,
    pub widest_window: usize,
    /// How often the window was made smaller, and the next pushes wait.
    pub setbacks: usize,
}

/// Sends messages until each is acknowledged, those without a key in any order; `each` is told of the acknowledgements so
/// far. A third part of `pushes` gets one of a few ordering keys. Fails when there is none for a minute.
pub async fn deliver(
    pusher: &Pusher,
    pushes: Vec<Push>,
    random: &mut StdRng,
    mut each: impl AsyncFnMut(usize) -> TestResult,
) -> TestResult<Delivered> {
    let mut pushes = pushes;
    pushes.shuffle(random);
    let keyed = |(number, push): (usize, Push)| {
        let key = (number % 3 == 0).then(|| format!("key-{}", number % 7));
        Waiting {
            push: match &key {
                Some(key) => push.ordering_key(key),
                None => push,
            },
            key,
            attempt: 0,
            is_copy: false,
        }
    };
    let mut waiting: VecDeque<Waiting> = pushes.into_iter().enumerate().map(keyed).collect();
    let mut delivered = Delivered::default();
    let (mut window, mut backoff, mut resume) = (FIRST_WINDOW, FIRST_BACKOFF, Instant::now());
    let (mut open, mut keys) = (FuturesUnordered::new(), BTreeSet::new());
    let mut last_ack = Instant::now();
    while !waiting.is_empty() || !open.is_empty() {
        while open.len() < window && Instant::now() >= resume {
            let is_free = |message: &Waiting| message.key.as_ref().is_none_or(|key| !keys.contains(key));
            let Some(place) = waiting.iter().position(is_free) else {
                break;
            };
            let Some(mut message) = waiting.remove(place) else {
                break;
            };
            message.attempt += 1;
            keys.extend(message.key.clone());
            let (push, pusher) = (
                message.push.clone().delivery_attempt(message.attempt),
                pusher.clone(),
            );
            open.push(async move {
                let sent = Instant::now();
                (pusher.push(&push).await, sent.elapsed(), message)
            });
        }
        if open.is_empty() {
            sleep_until(resume).await;
        }
        let Some((status, took, message)) = open.next().await else {
            continue;
        };
        if let Some(key) = &message.key {
            keys.remove(key);
        }
        delivered.most_attempts = delivered.most_attempts.max(message.attempt);
        if ACKNOWLEDGED.contains(&status) {
            backoff = FIRST_BACKOFF;
            last_ack = Instant::now();
            window += usize::from(took < QUICK);
            delivered.widest_window = delivered.widest_window.max(window);
            if message.is_copy {
                delivered.copies += 1;
                continue;
            }
            delivered.acknowledged += 1;
            each(delivered.acknowledged).await?;
            if random.random_bool(DOUBLED) {
                let copy = Waiting {
                    is_copy: true,
                    ..message
                };
                waiting.push_back(copy);
            }
            continue;
        }
        delivered.nacks += 1;
        // Those that were open together are one setback.
        if Instant::now() >= resume {
            window = (window / 2).max(1);
            delivered.setbacks += 1;
            resume = Instant::now() + backoff;
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
        }
        // In its place again: what has its key comes after it.
        waiting.push_front(message);
        if last_ack.elapsed() > LONGEST_BACKOFF {
            return Err(format!("nothing is acknowledged any more, last {status}: {delivered:?}").into());
        }
    }
    Ok(delivered)
}
