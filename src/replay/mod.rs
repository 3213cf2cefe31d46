//! Replay: dead letters back through the pipeline, each record once.
//!
//! A record's identity is its letter's object and its position there, kept in its table's ledger for ever: however often
//! a letter is replayed, and by however many processes at once, its record lands once. A delivery that was dead-lettered
//! whole keeps its own identity, so that it lands once with every copy of itself that may still come.
//!
//! What is no row yet stays the letter that it is: a replay makes no letter of a letter, and takes no note of it. Letters
//! whose records are all in the table are moved aside, which is for people: the ledger decides.

mod letters;
mod tally;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use iceberg::TableIdent;
use tokio::sync::{Mutex, Semaphore};

pub use self::tally::{Replayed, Tally};

use self::letters::{Fate, Sender};
use crate::batch::{Shared, Writers};
use crate::config::Config;
use crate::dead_letter::{LetterName, Place, parse};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Object;

/// Objects that are open at the same time, and mebibytes of them.
const AT_ONCE: u32 = 256;

/// Which letters go back, and how.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Those of one table, or that would go there now.
    pub table: Option<TableIdent>,
    /// Those that count since then, by the store's clock.
    pub since: Option<DateTime<Utc>>,
    /// Try whether they are rows now, and change nothing.
    pub dry_run: bool,
    /// Land deliveries that are too old to prove new, on the caller's word that the table does not have them.
    pub too_old: bool,
}

/// How far a replay is, for whoever watches.
#[derive(Debug, Default)]
pub struct Progress {
    total: AtomicU64,
    done: AtomicU64,
    landed: AtomicU64,
}

impl Progress {
    /// Objects to be replayed; zero while they are looked for.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Acquire)
    }

    /// Objects that were dealt with.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }

    /// Records that landed.
    pub fn landed(&self) -> u64 {
        self.landed.load(Ordering::Acquire)
    }
}

/// Sends dead letters back through decoding, batching and commit. Killed at any point, it is run again.
///
/// `Ok` says what became of each: landed means committed and durable. Failures of single letters are in there, and do
/// not stop the others.
///
/// # Errors
/// [`ErrorKind::Unavailable`] when the letters cannot be listed: nothing was sent.
pub async fn replay(
    config: Arc<Config>,
    shared: Arc<Shared>,
    selection: &Selection,
    progress: &Progress,
) -> Result<Replayed> {
    let objects = list(&shared, selection).await?;
    progress.total.store(objects.len() as u64, Ordering::Release);
    let writers = Writers::new(shared.clone());
    let work = Work {
        sender: Sender::new(&config, &shared, &writers, selection),
        shared: &shared,
        selection,
        progress,
        replayed: Mutex::default(),
        room: Semaphore::new(AT_ONCE as usize),
    };
    stream::iter(objects)
        .for_each_concurrent(AT_ONCE as usize, |(name, object)| work.object(name, object))
        .await;
    writers.close().await;
    Ok(work.replayed.into_inner())
}

/// The letters that count, oldest first.
async fn list(shared: &Shared, selection: &Selection) -> Result<Vec<(LetterName, Object)>> {
    let objects = shared.dead_letters.store().objects(Place::Confirmed.folder())?;
    let table = selection.table.as_ref().map(ToString::to_string);
    let mut chosen: Vec<_> = objects
        .try_filter_map(|object| {
            let name = LetterName::parse(Place::Confirmed, &object.key);
            let chosen = name.filter(|name| {
                let is_of_table = table.as_deref().is_none_or(|table| name.table() == table);
                (is_of_table || name.is_unrouted())
                    && selection.since.is_none_or(|since| object.modified >= since)
            });
            async move { Ok(chosen.map(|name| (name, object))) }
        })
        .try_collect()
        .await?;
    chosen.sort_by_key(|(name, _)| name.id());
    Ok(chosen)
}

/// A replay under way.
struct Work<'a> {
    sender: Sender<'a>,
    shared: &'a Shared,
    selection: &'a Selection,
    progress: &'a Progress,
    replayed: Mutex<Replayed>,
    room: Semaphore,
}

impl Work<'_> {
    async fn object(&self, name: LetterName, object: Object) {
        let size = u32::try_from(object.byte_count >> 20).unwrap_or(AT_ONCE);
        let room = self.room.acquire_many(size.clamp(1, AT_ONCE)).await;
        if let Err(error) = self.replay_object(&name).await {
            let error = error.with("location", self.shared.dead_letters.store().url(&object.key));
            let mut replayed = self.replayed.lock().await;
            replayed.fail(name.table(), &error);
        }
        drop(room);
        self.progress.done.fetch_add(1, Ordering::AcqRel);
    }

    async fn replay_object(&self, name: &LetterName) -> Result<()> {
        let letters = &self.shared.dead_letters;
        let Some(bytes) = letters.store().get(&name.key(Place::Confirmed)).await? else {
            // Another replay has moved it.
            return Ok(());
        };
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let line_count = lines.count();
        let read: Vec<_> = parse(&bytes).collect();
        let unreadable = line_count == 0 || read.len() != line_count;
        let fates: Vec<_> = stream::iter(&read)
            .map(|letter| async move { (letter, self.sender.send(name, letter).await) })
            .buffer_unordered(AT_ONCE as usize)
            .collect()
            .await;
        let mut is_done = !unreadable && !self.selection.dry_run;
        let mut replayed = self.replayed.lock().await;
        for (letter, (table, fate)) in fates {
            let Some(fate) = fate else {
                // Of another table than the chosen one.
                is_done = false;
                continue;
            };
            is_done &= matches!(fate, Fate::Landed { .. } | Fate::There);
            if let Fate::Landed { .. } = fate {
                self.progress.landed.fetch_add(1, Ordering::AcqRel);
            }
            replayed.take(&table, letter, fate);
        }
        drop(replayed);
        if unreadable {
            let message = "A line of the dead letters cannot be read; the object stays as it is.";
            return Err(Error::new(ErrorKind::Rejected, message));
        }
        match is_done {
            // Commit before move: a crash here replays what is in the ledger.
            true => letters.set_aside(name, bytes).await,
            false => Ok(()),
        }
    }
}
