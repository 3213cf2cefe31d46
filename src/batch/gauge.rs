//! How full a writer is, seen from outside.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// What others see of a writer: how many deliveries wait in its open batch, and a bell that makes it flush.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    waiting: AtomicUsize,
    pub(super) flush: Notify,
}

impl Gauge {
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    pub(super) fn set_waiting(&self, deliveries: usize) {
        self.waiting.store(deliveries, Ordering::Release);
    }
}
