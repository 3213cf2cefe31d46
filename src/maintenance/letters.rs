//! Dead letters that wait for a commit which nobody spoke of again: those that the ledger names are confirmed, those that
//! no commit can name any more go.

use std::cmp::Reverse;
use std::collections::HashSet;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use iceberg::TableIdent;
use serde::Serialize;
use tokio::time::Duration;

use super::maintain::{load, move_fence};
use super::reach::{kept, named_heads};
use super::sweep::{self, GRACE};
use crate::commit::{Engine, Head};
use crate::dead_letter::{DeadLetters, LetterName, Place, parse};
use crate::error::{ErrorKind, Result};
use crate::ledger::{Entry, Found, Kept, Known, Space, sequence_of};
use crate::storage::{Object, Store};

/// Letters that are dealt with at the same time.
const AT_ONCE: usize = 16;
/// What is read of a larger object to learn whose it is.
const GLANCE_BYTES: u64 = 64 << 10;
/// How far the store's clock and this machine's may be apart.
const SKEW: TimeDelta = TimeDelta::hours(1);

/// What became of a table's waiting letters, as objects.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Settled {
    /// The ledger names them: their records count now.
    pub confirmed: u64,
    /// No commit names them, or can any more.
    pub deleted: u64,
    /// Their commit may yet come.
    pub waiting: u64,
    /// The ledger has forgotten their delivery, so nothing tells whether a commit named them. They stay, for a person.
    pub forgotten: u64,
}

/// What is known of letters that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The ledger names them.
    Named,
    /// It does not, and would if they had been committed.
    Unnamed,
    /// It would have forgotten their delivery by now.
    Forgotten,
}

/// A letter that waits: where, since when by the store's clock, and its delivery as the ledger knows it.
struct Waiting<'a> {
    store: &'a Store,
    name: LetterName,
    since: DateTime<Utc>,
    entry: Entry,
    verdict: Verdict,
}

/// Settles the letters of a table that wait: the work of deliveries that never came again.
///
/// A letter that the ledger names is confirmed, whatever its age. One that it does not name is deleted once it is older
/// than the sweep's grace before the newest snapshot, as the data files of its attempt are: whoever could still commit it
/// began later. For that a table that stood still gets an empty snapshot.
///
/// That a delivery is not in the ledger says nothing once it would have been forgotten: a message that is older than the
/// floor, a request after `retention`, which is how long the table's writers remember. Its letters are looked for in the
/// heads of the snapshots that are kept. If none of them names them they stay, and are told: a place that takes no letters
/// for so long leaves some that count, and nothing tells them from the others.
///
/// # Errors
/// Those of [`maintain`](super::maintain). What was settled by then stays so.
pub async fn settle_letters(
    engine: &Engine,
    letters: &DeadLetters,
    ident: &TableIdent,
    retention: Duration,
    dry_run: bool,
) -> Result<Settled> {
    let mut waiting = list(letters, ident).await?;
    if waiting.is_empty() {
        return Ok(Settled::default());
    }
    let mut head = load(engine, ident).await?;
    let now = engine.clock().now();
    judge(engine, &head, &mut waiting, retention, now).await?;
    // The newest snapshot may be of a clock that was ahead.
    let old = |one: &Waiting<'_>, moment: DateTime<Utc>| one.since < moment.min(now) - GRACE;
    let mut moment = now;
    if !dry_run {
        let proven = sweep::moment(&head, &engine.files(head.table())?).await?;
        let is_proven = |one: &Waiting<'_>| proven.is_some_and(|proven| old(one, proven));
        moment = proven.unwrap_or(DateTime::<Utc>::MIN_UTC + GRACE);
        let wants_proof =
            |one: &Waiting<'_>| one.verdict == Verdict::Unnamed && old(one, now) && !is_proven(one);
        if waiting.iter().any(wants_proof) {
            move_fence(engine, &mut head).await?;
            head = load(engine, ident).await?;
            judge(engine, &head, &mut waiting, retention, now).await?;
            moment = sweep::moment(&head, &engine.files(head.table())?)
                .await?
                .unwrap_or(moment);
        }
    }
    let mut settled = Settled::default();
    let (mut due, mut forgotten) = (Vec::new(), Vec::new());
    for one in waiting {
        match (one.verdict, old(&one, moment)) {
            (Verdict::Named, _) => {
                settled.confirmed += 1;
                due.push(one);
            }
            (Verdict::Unnamed, true) => {
                settled.deleted += 1;
                due.push(one);
            }
            (Verdict::Forgotten, _) if old(&one, now) => forgotten.push(one),
            _ => settled.waiting += 1,
        }
    }
    settled.forgotten = forgotten.len() as u64;
    tell_forgotten(ident, &forgotten);
    if !dry_run {
        stream::iter(due)
            .map(Ok)
            .try_for_each_concurrent(AT_ONCE, |one| settle(letters, one))
            .await?;
    }
    Ok(settled)
}

/// Tells of letters that wait under the names of other tables than these, which nobody settles: those of a table that was
/// renamed stay where they were.
///
/// # Errors
/// [`ErrorKind::Unavailable`] when the folders cannot be listed.
pub async fn tell_unsettled(letters: &DeadLetters, settled: &[TableIdent]) -> Result<()> {
    let settled: HashSet<String> = settled.iter().map(ToString::to_string).collect();
    for store in letters.stores() {
        let folders = store.folders(Place::Pending.folder()).await?;
        for table in folders.iter().filter(|table| !settled.contains(*table)) {
            let folder = format!("{}/{table}", Place::Pending.folder());
            let mut objects = std::pin::pin!(store.objects(&folder)?);
            if objects.try_next().await?.is_some() {
                tracing::warn!(
                    table.ident = table,
                    location = store.url(&folder),
                    "Dead letters wait under the name of a table that the configuration does not have: run `landfast maintain \
                     --table` for it. If it was renamed, move the folder to the new name first."
                );
            }
        }
    }
    Ok(())
}

fn tell_forgotten(ident: &TableIdent, forgotten: &[Waiting<'_>]) {
    let Some(first) = forgotten.first() else {
        return;
    };
    tracing::warn!(
        table.ident = %ident,
        count = forgotten.len(),
        location = first.store.url(&first.name.key(Place::Pending)),
        "Dead letters wait whose deliveries the ledger has forgotten, so nothing tells whether they count: they stay. Where \
         the table has their records, delete the object; else move it to `confirmed/`, and replay it."
    );
}

async fn settle(letters: &DeadLetters, one: Waiting<'_>) -> Result<()> {
    if one.verdict == Verdict::Named {
        return letters.confirm(&one.name).await;
    }
    let key = one.name.key(Place::Pending);
    one.store.delete(&key).await?;
    tracing::debug!(
        location = one.store.url(&key),
        since = %one.since,
        "Deleted: no commit names the letter, or can any more."
    );
    Ok(())
}

/// The letters of a table that wait. What is not one of ours is told, and left alone.
async fn list<'a>(letters: &'a DeadLetters, ident: &TableIdent) -> Result<Vec<Waiting<'a>>> {
    let folder = format!("{}/{ident}", Place::Pending.folder());
    let mut listed = Vec::new();
    for store in letters.stores() {
        let objects = store.objects(&folder)?;
        let read = |object: Object| async move {
            let Some(name) = LetterName::parse(Place::Pending, &object.key) else {
                return Ok(None);
            };
            let entry = identity(store, &object).await?;
            Ok(entry.map(|entry| Waiting {
                store,
                name,
                since: object.modified,
                entry,
                verdict: Verdict::Forgotten,
            }))
        };
        let read = objects.map_ok(read).try_buffer_unordered(AT_ONCE);
        let found = read.try_filter_map(|one| async move { Ok(one) });
        listed.extend(found.try_collect::<Vec<_>>().await?);
    }
    Ok(listed)
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

/// Asks the head's ledger which of them it names, and older heads of what it has forgotten.
async fn judge(
    engine: &Engine,
    head: &Head,
    waiting: &mut [Waiting<'_>],
    retention: Duration,
    now: DateTime<Utc>,
) -> Result<()> {
    let entries: Vec<Entry> = waiting.iter().map(|one| one.entry.clone()).collect();
    let known = engine.ledger().look_up(head.ledger(), &entries).await?;
    // It was committed after it was written, and the ledger's own time runs no faster than the store's.
    let retention = TimeDelta::from_std(retention).unwrap_or(TimeDelta::MAX);
    let remembered = now.checked_sub_signed(retention).map(|since| since + SKEW);
    for (one, known) in waiting.iter_mut().zip(&known) {
        let may_be_forgotten =
            one.entry.space == Space::Request && remembered.is_some_and(|remembered| one.since < remembered);
        one.verdict = match known {
            Known::Landed(value) if is_named(one, value) => Verdict::Named,
            // Of another version, which may have named it.
            Known::Landed(value) if !value.is_empty() && Kept::decode(value) == Kept::default() => {
                Verdict::Forgotten
            }
            Known::Landed(_) => Verdict::Unnamed,
            Known::TooOld => Verdict::Forgotten,
            Known::New if may_be_forgotten => Verdict::Forgotten,
            Known::New => Verdict::Unnamed,
        };
    }
    look_back(engine, head, waiting).await
}

fn is_named(one: &Waiting<'_>, value: &[u8]) -> bool {
    Kept::decode(value).letters == Some(one.name.id())
}

/// Looks for what the ledger has forgotten in the heads of kept snapshots, the newest first: they hold it as long as they
/// are there. What none of them has may have been forgotten before the oldest of them was made.
async fn look_back(engine: &Engine, head: &Head, waiting: &mut [Waiting<'_>]) -> Result<()> {
    let (table, ledger) = (head.table(), engine.ledger());
    let kept = kept(table, &[]);
    let mut locations: Vec<&str> = named_heads(table, &kept).into_iter().collect();
    locations.sort_unstable_by_key(|location| Reverse(sequence_of(location)));
    for location in locations {
        let mut forgotten: Vec<_> = waiting
            .iter_mut()
            .filter(|one| one.verdict == Verdict::Forgotten)
            .collect();
        if forgotten.is_empty() {
            break;
        }
        let Found::Whole(older) = ledger.find_head(table.metadata().uuid(), location).await? else {
            continue;
        };
        let state = ledger.state(location.to_owned(), *older);
        let entries: Vec<Entry> = forgotten.iter().map(|one| one.entry.clone()).collect();
        let known = match ledger.look_up(&state, &entries).await {
            Err(error) if error.kind() == ErrorKind::Rejected => continue,
            known => known?,
        };
        for (one, known) in forgotten.iter_mut().zip(known) {
            if let Known::Landed(value) = known {
                one.verdict = match is_named(one, &value) {
                    true => Verdict::Named,
                    false => Verdict::Unnamed,
                };
            }
        }
    }
    Ok(())
}
