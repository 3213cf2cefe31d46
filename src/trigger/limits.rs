//! What one process may hold: bytes and requests, counted from the request's first byte to its answer (invariant 4).

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::error::{Error, ErrorKind, Result};

/// The process's counters of held bytes and requests.
#[derive(Debug)]
pub struct Limits {
    max_bytes: usize,
    max_requests: usize,
    bytes: AtomicUsize,
    requests: AtomicUsize,
    pressure: Notify,
    /// Told whenever something was given back.
    freed: Notify,
}

/// One request's share of the limits; dropping it gives the share back.
#[derive(Debug)]
pub struct Held {
    limits: Arc<Limits>,
    bytes: usize,
    /// One; none of what was split off.
    slots: usize,
}

impl Limits {
    /// Sets the limits.
    pub fn new(max_bytes: usize, max_requests: usize) -> Arc<Self> {
        Arc::new(Self {
            max_bytes,
            max_requests,
            bytes: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            pressure: Notify::new(),
            freed: Notify::new(),
        })
    }

    /// Takes a request slot, holding no bytes yet.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] when every slot is taken.
    pub fn admit(self: &Arc<Self>) -> Result<Held> {
        if !self.take_slot() {
            return Err(Error::new(
                ErrorKind::Full,
                "Every request slot is taken; send it again later.",
            ));
        }
        Ok(Held {
            limits: self.clone(),
            bytes: 0,
            slots: 1,
        })
    }

    /// Takes a request slot with so many bytes as soon as both are free. More bytes than may be held at all are taken as
    /// all of them, so that what brings them waits until it is alone.
    ///
    /// Dropped, it has taken nothing.
    pub async fn room(self: &Arc<Self>, bytes: usize) -> Held {
        let bytes = bytes.min(self.max_bytes);
        loop {
            // Listens before it looks: what is freed in between is heard.
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            if let Some(held) = self.take(bytes) {
                return held;
            }
            freed.await;
        }
    }

    /// What fails gives back silently: told, it would wake itself, and nothing was freed.
    fn take(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        if !self.take_slot() {
            return None;
        }
        if !self.take_bytes(bytes) {
            self.requests.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(Held {
            limits: self.clone(),
            bytes,
            slots: 1,
        })
    }

    fn take_slot(&self) -> bool {
        let more = |held: usize| (held < self.max_requests).then(|| held.saturating_add(1));
        let taken = self
            .requests
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        // Once, on the way up: a flag for every request above the mark would flush half batches.
        if taken.is_ok_and(|before| before.saturating_add(1) == self.pressure_mark()) {
            self.pressure.notify_one();
        }
        taken.is_ok()
    }

    fn take_bytes(&self, bytes: usize) -> bool {
        let more = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= self.max_bytes);
        let taken = self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        taken.is_ok()
    }

    /// 80 % of the slots: beyond it, waiting any longer only turns requests away.
    pub(crate) fn pressure_mark(&self) -> usize {
        self.max_requests.saturating_mul(4).div_ceil(5).max(1)
    }

    /// Waits until held requests cross 80 % of the slots.
    pub async fn pressure(&self) {
        self.pressure.notified().await;
    }

    /// Bytes held now.
    pub fn held_bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// Requests held now.
    pub fn held_requests(&self) -> usize {
        self.requests.load(Ordering::Acquire)
    }

    /// The most requests that may be held.
    pub fn max_requests(&self) -> usize {
        self.max_requests
    }

    /// The most bytes that may be held.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// What a compressed payload may unpack to: a quarter of the bytes that may be held, no further.
    pub fn max_unpacked_bytes(&self) -> usize {
        self.max_bytes / 4
    }

    /// What the columns of one payload may take: half of the bytes that may be held, no more.
    pub fn max_column_bytes(&self) -> usize {
        self.max_bytes / 2
    }
}

impl Held {
    /// Takes more bytes, before they are read or made.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] when they do not fit beside what others hold; nothing is taken then.
    pub fn grow(&mut self, bytes: usize) -> Result<()> {
        if !self.limits.take_bytes(bytes) {
            return Err(Error::new(
                ErrorKind::Full,
                "The bytes held for commits are at max_in_flight_bytes; send it again later.",
            ));
        }
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(())
    }

    /// Gives back all but this many bytes.
    pub fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.bytes.saturating_sub(bytes);
        self.limits.bytes.fetch_sub(surplus, Ordering::AcqRel);
        self.limits.freed.notify_waiters();
        self.bytes = self.bytes.saturating_sub(surplus);
    }

    /// Splits off a share of the bytes, which is given back on its own. The request's slot stays here.
    pub fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes = self.bytes.saturating_sub(bytes);
        Self {
            limits: self.limits.clone(),
            bytes,
            slots: 0,
        }
    }

    /// Bytes held by this request.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.limits.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.limits.requests.fetch_sub(self.slots, Ordering::AcqRel);
        self.limits.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_given_back() {
        let limits = Limits::new(10, 2);
        let mut first = limits.admit().unwrap();
        first.grow(8).unwrap();
        assert_eq!(first.grow(3).unwrap_err().kind(), ErrorKind::Full);
        assert_eq!(limits.held_bytes(), 8);
        let second = limits.admit().unwrap();
        assert_eq!(limits.admit().unwrap_err().kind(), ErrorKind::Full);
        let part = first.split(5);
        drop((first, second));
        assert_eq!((limits.held_bytes(), limits.held_requests()), (5, 0));
        drop(part);
        assert_eq!((limits.held_bytes(), limits.held_requests()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn room_is_waited_for() {
        let limits = Limits::new(10, 2);
        let moment = std::time::Duration::from_millis(1);
        let mut first = limits.room(8).await;
        // Neither slots nor bytes are taken by who waits.
        assert!(tokio::time::timeout(moment, limits.room(3)).await.is_err());
        assert_eq!((limits.held_bytes(), limits.held_requests()), (8, 1));
        let (second, ()) = tokio::join!(limits.room(3), async { first.shrink_to(7) });
        assert!(tokio::time::timeout(moment, limits.room(0)).await.is_err());
        let (third, ()) = tokio::join!(limits.room(0), async { drop(first) });
        drop((second, third));
        // What never fits is held as all there is.
        let whole = limits.room(11).await;
        assert_eq!((whole.bytes(), limits.held_bytes()), (10, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn everyone_who_waits_gets_room() {
        let limits = Limits::new(100, 3);
        let waiting = (0..50).map(|_| async {
            let held = limits.room(40).await;
            assert!(limits.held_bytes() <= 100 && limits.held_requests() <= 3);
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            drop(held);
        });
        futures::future::join_all(waiting).await;
        assert_eq!((limits.held_bytes(), limits.held_requests()), (0, 0));
    }

    #[tokio::test]
    async fn pressure_is_told_once_on_the_way_up() {
        let limits = Limits::new(10, 5);
        let held: Vec<_> = (0..5).map(|_| limits.admit().unwrap()).collect();
        limits.pressure().await;
        let again = tokio::time::timeout(std::time::Duration::from_millis(1), limits.pressure()).await;
        assert!(again.is_err());
        drop(held);
    }
}
