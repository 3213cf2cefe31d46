//! The sender: holds every message until some process acknowledged it, as a subscription does, and is in no hurry to be
//! orderly.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::support::TestResult;
use crate::support::push::{NO_ANSWER, Push, Pusher};

/// Pushes that are open at the same time.
pub const AT_ONCE: u64 = 16;
/// Chances that a message is sent twice at once, that its sender hangs up early, that one goes out again although it was
/// acknowledged, and that what goes out is an old one rather than a new one.
const DOUBLED: f64 = 0.2;
const DEAF: f64 = 0.08;
const NEEDLESS: f64 = 0.05;
const AGAIN: f64 = 0.5;
/// New messages stop while so many wait to be sent again.
const MOST_WAITING: usize = 100;

/// Message `id`, for one of two tables; every eleventh is poison. The same each time it is sent.
fn message(id: i64, since: DateTime<Utc>) -> Push {
    let subscription = if id % 3 == 0 { "left" } else { "right" };
    let push = if is_poison(id) {
        Push::new(subscription, id, format!("{{\"id\":{id}"))
    } else {
        Push::json(subscription, id, &json!({"id": id, "name": format!("row {id}")}))
    };
    push.published_at(since + TimeDelta::milliseconds(id))
}

pub fn is_poison(id: i64) -> bool {
    id % 11 == 10
}

/// What the sender knows.
#[derive(Debug, Default, Clone)]
pub struct Book {
    next: i64,
    /// Not acknowledged, and not on its way just now.
    waiting: BTreeSet<i64>,
    pub acknowledged: BTreeSet<i64>,
    pub answers: BTreeMap<u16, u64>,
    pub doubled: u64,
    pub deaf: u64,
    /// Answers that no retry explains.
    pub strange: Vec<String>,
}

impl Book {
    /// How many pushes were sent.
    pub fn sent(&self) -> u64 {
        self.answers.values().sum()
    }

    /// Sent, and never acknowledged.
    pub fn open(&self) -> BTreeSet<i64> {
        let acknowledged = &self.acknowledged;
        (0..self.next).filter(|id| !acknowledged.contains(id)).collect()
    }

    fn take(&mut self, random: &mut StdRng) -> i64 {
        if self.next > 0 && random.random_bool(NEEDLESS) {
            return random.random_range(0..self.next);
        }
        let again = self.waiting.len() >= MOST_WAITING || random.random_bool(AGAIN);
        if again && !self.waiting.is_empty() {
            // Any of them: a subscription keeps no order.
            let at = random.random_range(0..self.waiting.len());
            if let Some(id) = self.waiting.iter().nth(at).copied() {
                self.waiting.remove(&id);
                return id;
            }
        }
        self.next += 1;
        self.next - 1
    }

    fn note(&mut self, id: i64, statuses: &[u16]) {
        for status in statuses {
            *self.answers.entry(*status).or_default() += 1;
            if !matches!(*status, 204 | 429 | 503 | NO_ANSWER) {
                self.strange.push(format!("push {id} was answered {status}"));
            }
        }
        if statuses.contains(&204) {
            self.acknowledged.insert(id);
        }
        if self.acknowledged.contains(&id) {
            self.waiting.remove(&id);
        } else {
            self.waiting.insert(id);
        }
    }
}

/// Sends to whichever processes there are. Clones are one sender.
#[derive(Debug, Clone)]
pub struct Sender {
    book: Arc<Mutex<Book>>,
    targets: Arc<Mutex<Vec<Pusher>>>,
    since: DateTime<Utc>,
}

impl Sender {
    pub fn new() -> Self {
        Self {
            book: Arc::default(),
            targets: Arc::default(),
            since: Utc::now(),
        }
    }

    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on these processes are sent to.
    pub fn aim(&self, pushers: Vec<Pusher>) {
        *self.targets.lock().unwrap_or_else(PoisonError::into_inner) = pushers;
    }

    /// Sends one message after the other, for ever; a caller runs [`AT_ONCE`] of them and aborts none in the middle.
    pub async fn send_until(self, seed: u64, stopped: impl Fn() -> bool) {
        let mut random = StdRng::seed_from_u64(seed);
        while !stopped() {
            let id = self.book().take(&mut random);
            let copies = 1 + usize::from(random.random_bool(DOUBLED));
            let patience = random
                .random_bool(DEAF)
                .then(|| Duration::from_millis(random.random_range(0..40)));
            self.send(id, copies, patience, &mut random).await;
        }
    }

    /// Sends everything that was not acknowledged until it is.
    pub async fn settle(&self, random: &mut StdRng) -> TestResult {
        for _round in 0..60 {
            let mut open: Vec<i64> = self.book().open().into_iter().collect();
            if open.is_empty() {
                return Ok(());
            }
            open.shuffle(random);
            self.send_all(&open, random).await;
        }
        Err(format!("Never acknowledged: {:?}", self.book().open()).into())
    }

    /// Sends what was acknowledged once more, shuffled and doubled.
    pub async fn repeat(&self, most: usize, random: &mut StdRng) -> TestResult {
        let mut all: Vec<i64> = self.book().acknowledged.iter().copied().collect();
        all.shuffle(random);
        all.truncate(most);
        let twice: Vec<i64> = all.iter().chain(all.iter().rev()).copied().collect();
        self.send_all(&twice, random).await;
        Ok(())
    }

    async fn send_all(&self, ids: &[i64], random: &mut StdRng) {
        let pieces = ids.chunks(ids.len().div_ceil(16).max(1)).map(|piece| {
            let mut random = StdRng::seed_from_u64(random.random());
            async move {
                for id in piece {
                    self.send(*id, 1, None, &mut random).await;
                }
            }
        });
        join_all(pieces).await;
    }

    async fn send(&self, id: i64, copies: usize, patience: Option<Duration>, random: &mut StdRng) {
        let push = message(id, self.since);
        let targets: Vec<Pusher> = {
            let targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
            (0..copies)
                .filter_map(|_| targets.choose(random).cloned())
                .collect()
        };
        let sending = join_all(targets.iter().map(|pusher| pusher.push(&push)));
        let statuses = match patience {
            None => sending.await,
            Some(patience) => timeout(patience, sending)
                .await
                .unwrap_or_else(|_hung_up| vec![NO_ANSWER; copies]),
        };
        {
            let mut book = self.book();
            book.doubled += u64::from(copies > 1);
            book.deaf += u64::from(patience.is_some());
            book.note(id, &statuses);
        }
        if !statuses.contains(&204) {
            // Nobody is there, or the table takes nothing now.
            sleep(Duration::from_millis(10)).await;
        }
    }
}
