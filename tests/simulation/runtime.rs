//! A runtime that does the same thing twice: one thread, a paused clock, and blocking work only while nothing else runs.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// Blocking threads that were made and that have ended, and whether one may work.
#[derive(Debug, Default)]
struct Turns {
    made: u64,
    ended: u64,
    open: bool,
}

#[derive(Debug, Default)]
struct Turnstile {
    turns: Mutex<Turns>,
    bell: Condvar,
}

impl Turnstile {
    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn made(&self) {
        self.turns().made += 1;
    }

    fn wait_until_open(&self) {
        let mut turns = self.turns();
        while !turns.open {
            turns = self.bell.wait(turns).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn ended(&self) {
        self.turns().ended += 1;
        self.bell.notify_all();
    }

    /// Lets the blocking work be done that was asked for, all of it, in order, before the asynchronous work goes on.
    fn let_work(&self) {
        let mut turns = self.turns();
        turns.open = true;
        self.bell.notify_all();
        while turns.ended < turns.made {
            turns = self.bell.wait(turns).unwrap_or_else(PoisonError::into_inner);
        }
        turns.open = false;
    }

    fn open_for_good(&self) {
        self.turns().open = true;
        self.bell.notify_all();
    }
}

/// Runs a future on a runtime of its own.
///
/// Encoding and decoding run on blocking threads, whose ends would come at any moment between two polls. Here the one
/// blocking thread works only when the asynchronous thread has nothing left to do, and that thread waits for it. A
/// thread lives for the work that is there (`thread_keep_alive` is zero), and its name is asked for when it is made:
/// that is how its being made is known.
///
/// The ledger's caches tidy up by real time, and whoever asks one at that moment is polled once for nothing. No count of
/// polls says what is next, so this changes nothing.
pub fn run<T>(work: impl Future<Output = T>) -> io::Result<T> {
    let turnstile = Arc::new(Turnstile::default());
    let runtime = build(&turnstile)?;
    let outcome = runtime.block_on(work);
    turnstile.open_for_good();
    drop(runtime);
    Ok(outcome)
}

fn build(turnstile: &Arc<Turnstile>) -> io::Result<Runtime> {
    let [made, started, ended, parked] = std::array::from_fn(|_| turnstile.clone());
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .max_blocking_threads(1)
        .thread_keep_alive(Duration::ZERO)
        .global_queue_interval(u32::MAX)
        .event_interval(u32::MAX)
        .thread_name_fn(move || {
            made.made();
            "blocking".to_owned()
        })
        .on_thread_start(move || started.wait_until_open())
        .on_thread_stop(move || ended.ended())
        .on_thread_park(move || parked.let_work())
        .build()
}
