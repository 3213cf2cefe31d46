//! Dead letters that wait for a commit which nobody spoke of again: those that the ledger names are confirmed, those that
//! no commit can name any more go.

use std::collections::HashSet;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use iceberg::TableIdent;
use serde::Serialize;

use super::maintain::{load, move_fence};
use super::sweep::{self, GRACE};
use crate::commit::{Engine, Head};
use crate::dead_letter::{DeadLetters, LetterName, Place, parse};
use crate::error::Result;
use crate::ledger::{Entry, Kept, Known};
use crate::storage::{Object, Store};

/// Letters that are dealt with at the same time.
const AT_ONCE: usize = 16;
/// What is read of a larger object to learn whose it is.
const GLANCE_BYTES: u64 = 64 << 10;

/// What became of a table's waiting letters, as objects.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Settled {
    /// The ledger names them: their records count now.
    pub confirmed: u64,
    /// No commit names them, or can any more.
    pub deleted: u64,
    /// Their commit may yet come.
    pub waiting: u64,
}

/// A letter that waits, since when by the store's clock, and whether the ledger names it.
struct Waiting {
    name: LetterName,
    since: DateTime<Utc>,
    is_named: bool,
}

/// Settles the letters of a table that wait: the work of deliveries that never came again.
///
/// A letter that the ledger names is confirmed, whatever its age. One that it does not name is deleted once it is older
/// than the sweep's grace before the newest snapshot, as the data files of its attempt are: whoever could still commit it
/// began later. For that a table that stood still gets an empty snapshot. An entry that the ledger has forgotten for age
/// counts as none: of a delivery that was committed and never acknowledged, Pub/Sub sent copies all that time, and each of
/// them would have confirmed it.
///
/// # Errors
/// Those of [`maintain`](super::maintain). What was settled by then stays so.
pub async fn settle_letters(
    engine: &Engine,
    letters: &DeadLetters,
    ident: &TableIdent,
    dry_run: bool,
) -> Result<Settled> {
    let listed = list(letters, ident).await?;
    if listed.is_empty() {
        return Ok(Settled::default());
    }
    let mut head = load(engine, ident).await?;
    let mut waiting = look_up(engine, &head, &listed).await?;
    let now = engine.clock().now();
    // The newest snapshot may be of a clock that was ahead.
    let old = |one: &Waiting, moment: DateTime<Utc>| !one.is_named && one.since < moment.min(now) - GRACE;
    let mut moment = now;
    if !dry_run {
        let proven = sweep::moment(&head, &engine.files(head.table())?).await?;
        let is_proven = |one: &Waiting| proven.is_some_and(|proven| old(one, proven));
        moment = proven.unwrap_or(DateTime::<Utc>::MIN_UTC + GRACE);
        if waiting.iter().any(|one| old(one, now) && !is_proven(one)) {
            move_fence(engine, &mut head).await?;
            head = load(engine, ident).await?;
            waiting = look_up(engine, &head, &listed).await?;
            moment = sweep::moment(&head, &engine.files(head.table())?)
                .await?
                .unwrap_or(moment);
        }
    }
    let mut settled = Settled::default();
    let mut due = Vec::new();
    for one in waiting {
        match (one.is_named, old(&one, moment)) {
            (true, _) => settled.confirmed += 1,
            (false, true) => settled.deleted += 1,
            (false, false) => {
                settled.waiting += 1;
                continue;
            }
        }
        due.push(one);
    }
    if !dry_run {
        stream::iter(due)
            .map(Ok)
            .try_for_each_concurrent(AT_ONCE, |one| settle(letters, one))
            .await?;
    }
    Ok(settled)
}

async fn settle(letters: &DeadLetters, one: Waiting) -> Result<()> {
    if one.is_named {
        return letters.confirm(&one.name).await;
    }
    let store = letters.store();
    let key = one.name.key(Place::Pending);
    store.delete(&key).await?;
    tracing::debug!(
        location = store.url(&key),
        since = %one.since,
        "Deleted: no commit names the letter, or can any more."
    );
    Ok(())
}

/// A letter as it was found: since when it waits, and the delivery as the ledger knows it.
type Listed = (LetterName, DateTime<Utc>, Entry);

/// The letters of a table that wait. What is not one of ours is told, and left alone.
async fn list(letters: &DeadLetters, ident: &TableIdent) -> Result<Vec<Listed>> {
    let folder = format!("{}/{ident}", Place::Pending.folder());
    let objects = letters.store().objects(&folder)?;
    let read = |object: Object| async move {
        let Some(name) = LetterName::parse(Place::Pending, &object.key) else {
            return Ok(None);
        };
        let entry = identity(letters.store(), &object).await?;
        Ok(entry.map(|entry| (name, object.modified, entry)))
    };
    let listed = objects.map_ok(read).try_buffer_unordered(AT_ONCE);
    listed
        .try_filter_map(|one| async move { Ok(one) })
        .try_collect()
        .await
}

/// Whose a waiting object is: each of its lines says it. Reads the whole only when the first line is longer than a glance.
async fn identity(store: &Store, object: &Object) -> Result<Option<Entry>> {
    let glance = match object.byte_count > GLANCE_BYTES {
        true => store.get_range(&object.key, 0..GLANCE_BYTES).await?,
        false => None,
    };
    let ended = |bytes: Bytes| Some(bytes.slice(..bytes.iter().position(|byte| *byte == b'\n')?));
    let entry_of = |bytes: &[u8]| Some(Entry::from(parse(bytes).next()?.identity.as_ref()));
    if let Some(entry) = glance.and_then(ended).and_then(|line| entry_of(&line)) {
        return Ok(Some(entry));
    }
    // Confirmed since it was listed.
    let Some(bytes) = store.get(&object.key).await? else {
        return Ok(None);
    };
    let entry = entry_of(&bytes);
    if entry.is_none() {
        let location = store.url(&object.key);
        tracing::warn!(
            location,
            "A waiting dead letter cannot be read; it is left alone."
        );
    }
    Ok(entry)
}

/// Asks the head's ledger which of them it names.
async fn look_up(engine: &Engine, head: &Head, listed: &[Listed]) -> Result<Vec<Waiting>> {
    let entries: Vec<Entry> = listed.iter().map(|(_, _, entry)| entry.clone()).collect();
    let known = engine.ledger().look_up(head.ledger(), &entries).await?;
    let named: HashSet<_> = known
        .iter()
        .filter_map(|known| match known {
            Known::Landed(value) => Kept::decode(value).letters,
            Known::New | Known::TooOld => None,
        })
        .collect();
    let waiting = listed.iter().map(|(name, since, _)| Waiting {
        is_named: named.contains(&name.id()),
        name: name.clone(),
        since: *since,
    });
    Ok(waiting.collect())
}
