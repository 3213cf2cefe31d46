//! Which snapshots a commit lets go, so that the metadata stays small however many commits there were.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};

use chrono::{DateTime, Utc};
use iceberg::TableUpdate;
use iceberg::spec::{SnapshotRef, SnapshotRetention, TableMetadata};
use iceberg::table::Table;
use uuid::Uuid;

use super::head::Refs;
use super::witness::{self, Witness};
use crate::telemetry;

/// Newest snapshots that stay whatever their age.
const NEWEST: usize = 100;
/// Snapshots that go with a commit at one time: fewer are not worth a look at every commit.
const AT_ONCE: usize = 20;
/// Snapshots that go with one commit at most, since to a server each is a pass over all; and at upkeep, where none waits.
pub(super) const AT_MOST: usize = 100;
pub(crate) const AT_MOST_AT_UPKEEP: usize = 1000;
/// Newest snapshots that stay where the metadata nears what the catalog takes.
const NEWEST_PRESSED: usize = 10;
/// Upkeep makes a snapshot itself, so one alone would go and come at every run.
const AT_UPKEEP: usize = 2;
/// The same where room is needed.
const AT_ONCE_PRESSED: usize = 5;
/// Nearer to the largest than this, one at a time goes.
const LAST_BYTES: usize = 60_000;
const HOUR_MS: i64 = 3600 * 1000;
pub(super) const DAY_MS: i64 = 24 * HOUR_MS;
/// Younger than this, one an hour stays; older, one a day.
const HOURLY_MS: i64 = 5 * DAY_MS;
const DAILY_MS: i64 = 30 * DAY_MS;
/// A snapshot that is on no branch stays for this long. Java's default.
const UNREFERENCED_MS: i64 = 5 * DAY_MS;

/// The main branch's snapshots to let go: kept are the newest 100, one an hour for five days, one a day for 30 days.
///
/// Java's settings decide where they are set, on the branch or else as the table's properties: `min-snapshots-to-keep`
/// instead of 100; all that are younger than `max-snapshot-age-ms` instead of one an hour or day. `gc.enabled=false` keeps
/// all. What a branch or tag of others points to stays, and so do the main branch's snapshots that a branch of others
/// keeps by such settings. What no one but them reaches is not looked at.
///
/// With a commit they go twenty or more at a time ([`oldest`]: not more than [`AT_MOST`]). A commit's clock may be wrong, and nobody looks at what it lets go: so it
/// counts for no more than an hour after the table's newest snapshot, and what is on no branch, where others may have
/// staged it, goes by the newest time that another than `writer` wrote; only the writer's own by its clock. What that
/// leaves on a table that was quiet goes with a later commit, or with upkeep.
pub(super) fn expired(metadata: &TableMetadata, refs: &Refs, now: DateTime<Utc>, writer: Uuid) -> Vec<i64> {
    let rules = Rules::of(metadata, now);
    rules.map_or_else(Vec::new, |rules| {
        of_main(metadata, refs, &rules.witnessed(metadata, writer), AT_ONCE)
    })
}

/// The main branch's snapshots to let go where a table's metadata nears `most` bytes, the largest that its catalog takes: past
/// three quarters of that the oldest, down to half of it, but for the newest ten; none below that. What somebody has set for
/// the table or the branch to keep more does not count then; `gc.enabled=false` does, others' branches and tags keep what
/// they kept, and snapshots on no branch stay as long as ever.
pub(super) fn pressed(
    metadata: &TableMetadata,
    refs: &Refs,
    now: DateTime<Utc>,
    writer: Uuid,
    most: usize,
) -> Vec<i64> {
    let over = refs.metadata_bytes.saturating_sub(most / 2);
    let Some(rules) = Rules::of(metadata, now).filter(|_| over > most / 4) else {
        return Vec::new();
    };
    let each = metadata.current_snapshot().and_then(|newest| {
        let snapshot = newest.as_ref().clone();
        serde_json::to_vec(&TableUpdate::AddSnapshot { snapshot }).ok()
    });
    let each = each.map_or(1, |json| json.len().max(1));
    let rules = Rules {
        is_pressed: true,
        ..rules.witnessed(metadata, writer)
    };
    // The next commit may be the last that fits: then one is worth it.
    let is_last = refs.metadata_bytes.saturating_add(LAST_BYTES) > most;
    let at_once = if is_last { 1 } else { AT_ONCE_PRESSED };
    let pressed = of_main(metadata, refs, &rules, at_once);
    oldest(pressed, metadata, over.div_ceil(each).clamp(at_once, AT_MOST))
}

/// Says that snapshots went before their time, as far as they are gone.
pub(super) fn tell_pressed(table: &Table, pressed: &[i64]) {
    let metadata = table.metadata();
    let gone = |id: &&i64| metadata.snapshot_by_id(**id).is_none();
    let gone = pressed.iter().filter(gone).count();
    if gone == 0 {
        return;
    }
    let labels = [("table", table.identifier().to_string())];
    metrics::counter!(telemetry::SNAPSHOTS_PRESSED, &labels)
        .increment(u64::try_from(gone).unwrap_or(u64::MAX));
    tracing::warn!(
        table.ident = %table.identifier(),
        snapshots = gone,
        kept = metadata.snapshots().len(),
        schemas = metadata.schemas_iter().count(),
        "The table's metadata nears the largest that the catalog takes, so old snapshots were let go before their time. Past \
         it nothing would land: see what else is large in it (schemas, properties, branches and tags)."
    );
}

/// None if they are fewer than `at_once`.
fn of_main(metadata: &TableMetadata, refs: &Refs, rules: &Rules, at_once: usize) -> Vec<i64> {
    let main = rules.of_ref(&refs.main_retention());
    let main = if rules.is_pressed { main.pressed() } else { main };
    if metadata.snapshots().len() < main.newest.unwrap_or(NEWEST).saturating_add(at_once) {
        return Vec::new();
    }
    let unreached = unreached(metadata, refs);
    let line = line(metadata, metadata.current_snapshot_id(), &unreached);
    let mut kept = main.kept_of_main(&line);
    for other in refs.others() {
        let rules = rules.of_ref(&other.retention);
        kept.extend(rules.kept_of_other(&self::line(metadata, Some(other.snapshot_id), &unreached)));
    }
    // What the main branch let go of and what was never on it look alike below the cut, so neither goes young.
    let young = unreached
        .iter()
        .filter(|snapshot| !rules.is_unreferenced_long(snapshot));
    kept.extend(young.map(|snapshot| snapshot.snapshot_id()));
    let line = line.iter().map(|snapshot| snapshot.snapshot_id());
    let expired: Vec<i64> = line.filter(|id| !kept.contains(id)).collect();
    if expired.len() < at_once {
        Vec::new()
    } else {
        expired
    }
}

/// The same from two on, and what no branch or tag reaches once it is older than `history.expire.max-snapshot-age-ms`, or
/// five days.
///
/// By `now` alone: on a table that was quiet for weeks nothing tells a clock that is weeks ahead from one that is right.
pub(super) fn all_expired(metadata: &TableMetadata, refs: &Refs, now: DateTime<Utc>) -> Vec<i64> {
    let Some(rules) = Rules::of(metadata, now) else {
        return Vec::new();
    };
    let unreached = unreached(metadata, refs);
    let mains = line(metadata, metadata.current_snapshot_id(), &unreached);
    let mains: HashSet<i64> = mains.iter().map(|snapshot| snapshot.snapshot_id()).collect();
    let nobodys = unreached
        .iter()
        .filter(|snapshot| !mains.contains(&snapshot.snapshot_id()) && rules.is_unreferenced_long(snapshot));
    of_main(metadata, refs, &rules, AT_UPKEEP)
        .into_iter()
        .chain(nobodys.map(|snapshot| snapshot.snapshot_id()))
        .collect()
}

/// The oldest of these snapshots, so many at most: what is left goes with later commits.
pub(super) fn oldest(mut ids: Vec<i64>, metadata: &TableMetadata, at_most: usize) -> Vec<i64> {
    let number = |id: &i64| {
        metadata
            .snapshot_by_id(*id)
            .map(|snapshot| snapshot.sequence_number())
    };
    ids.sort_by_key(number);
    ids.truncate(at_most);
    ids
}

/// Whether `gc.enabled` forbids to let go of anything: as for Java, whatever is not `true` does.
pub(crate) fn is_gc_off(metadata: &TableMetadata) -> bool {
    let enabled = metadata.properties().get("gc.enabled");
    enabled.is_some_and(|enabled| !enabled.eq_ignore_ascii_case("true"))
}

/// What somebody has set, for the table or for a branch.
struct Rules {
    newest: Option<usize>,
    max_age_ms: Option<i64>,
    /// The age up to which snapshots on no branch stay. No branch has a say in it.
    unreferenced_ms: i64,
    now: i64,
    /// Of a commit: what tells the age of snapshots on no branch.
    witness: Option<Witness>,
    /// Whether the main branch's snapshots stay by number alone.
    is_pressed: bool,
}

impl Rules {
    /// The table's properties; none when all snapshots stay.
    fn of(metadata: &TableMetadata, now: DateTime<Utc>) -> Option<Self> {
        let property = |key: &str| metadata.properties().get(key);
        let number = |key: &str| property(key).and_then(|value| value.parse::<i64>().ok());
        if is_gc_off(metadata) {
            return None;
        }
        let newest = number("history.expire.min-snapshots-to-keep");
        let max_age_ms = number("history.expire.max-snapshot-age-ms");
        Some(Self {
            newest: newest.and_then(|count| usize::try_from(count).ok()),
            max_age_ms,
            unreferenced_ms: max_age_ms.unwrap_or(UNREFERENCED_MS),
            now: now.timestamp_millis(),
            witness: None,
            is_pressed: false,
        })
    }

    /// The same by a clock that is believed only as far as the table bears it out.
    fn witnessed(mut self, metadata: &TableMetadata, writer: Uuid) -> Self {
        self.now = witness::bounded(metadata, self.now);
        self.witness = Some(Witness::of(metadata, writer));
        self
    }

    /// The settings of a branch, over the table's. A tag keeps what it points to.
    fn of_ref(&self, retention: &SnapshotRetention) -> Self {
        let (newest, max_age_ms) = match retention {
            SnapshotRetention::Branch {
                min_snapshots_to_keep,
                max_snapshot_age_ms,
                ..
            } => (
                min_snapshots_to_keep
                    .and_then(|count| usize::try_from(count).ok())
                    .or(self.newest),
                max_snapshot_age_ms.or(self.max_age_ms),
            ),
            SnapshotRetention::Tag { .. } => (None, None),
        };
        Self {
            newest,
            max_age_ms,
            witness: None,
            ..*self
        }
    }

    /// The settings of the main branch where room is needed.
    fn pressed(self) -> Self {
        Self {
            newest: Some(self.newest.unwrap_or(NEWEST).min(NEWEST_PRESSED)),
            // None is young, whatever the clocks say.
            max_age_ms: Some(i64::MIN),
            ..self
        }
    }

    /// Of a branch's snapshots, newest first, those that are kept: without settings, one of each period.
    fn kept_of_main(&self, line: &[&SnapshotRef]) -> HashSet<i64> {
        let mut periods = BTreeSet::new();
        let stays = |(place, snapshot): &(usize, &&SnapshotRef)| {
            let at = snapshot.timestamp_ms();
            // The newest of a period stands for it. Periods are the clock's, so that every commit chooses alike.
            let is_first = periods.insert(period(at, self.now));
            let by_period = self.max_age_ms.is_none() && is_first && !self.is_older(at, DAILY_MS);
            *place < self.newest.unwrap_or(NEWEST).max(1) || self.is_young(at) || by_period
        };
        let kept = line.iter().enumerate().filter(stays);
        kept.map(|(_, snapshot)| snapshot.snapshot_id()).collect()
    }

    /// The same for a branch of others: without settings, what it points to.
    fn kept_of_other(&self, line: &[&SnapshotRef]) -> HashSet<i64> {
        let newest = self.newest.unwrap_or_default().max(1);
        let kept = line
            .iter()
            .enumerate()
            .filter(|(place, snapshot)| *place < newest || self.is_young(snapshot.timestamp_ms()));
        kept.map(|(_, snapshot)| snapshot.snapshot_id()).collect()
    }

    fn is_young(&self, at: i64) -> bool {
        self.max_age_ms.is_some_and(|age| !self.is_older(at, age))
    }

    fn is_unreferenced_long(&self, snapshot: &SnapshotRef) -> bool {
        let now = match &self.witness {
            Some(witness) => witness.now_for(snapshot, self.now),
            None => self.now,
        };
        snapshot.timestamp_ms() < now.saturating_sub(self.unreferenced_ms)
    }

    fn is_older(&self, at: i64, age_ms: i64) -> bool {
        at < self.now.saturating_sub(age_ms)
    }
}

/// The snapshots that no branch or tag reaches: rolled back, staged and never taken, or older than what was let go.
fn unreached<'t>(metadata: &'t TableMetadata, refs: &Refs) -> Vec<&'t SnapshotRef> {
    let heads = refs.others().map(|reference| Some(reference.snapshot_id));
    let reached: HashSet<i64> = std::iter::once(metadata.current_snapshot_id())
        .chain(heads)
        .flat_map(|head| ancestors(metadata, head))
        .map(|snapshot| snapshot.snapshot_id())
        .collect();
    let unreached = |snapshot: &&SnapshotRef| !reached.contains(&snapshot.snapshot_id());
    metadata.snapshots().filter(unreached).collect()
}

/// The snapshots of a branch, newest first.
///
/// Letting a snapshot go cuts the chain of parents there. What is older than the cut is the branch's, as far as anybody
/// can tell; what is newer is not in the chain because it is on no branch.
fn line<'t>(
    metadata: &'t TableMetadata,
    head: Option<i64>,
    unreached: &[&'t SnapshotRef],
) -> Vec<&'t SnapshotRef> {
    let mut line: Vec<&SnapshotRef> = ancestors(metadata, head).collect();
    let cut = line
        .last()
        .map_or(i64::MAX, |snapshot| snapshot.sequence_number());
    let older = unreached
        .iter()
        .filter(|snapshot| snapshot.sequence_number() < cut);
    line.extend(older.copied());
    line.sort_by_key(|snapshot| Reverse(snapshot.sequence_number()));
    line
}

/// A snapshot and its parents, as far as they are known. No more than there are: a broken writer's may go in a circle.
fn ancestors(metadata: &TableMetadata, from: Option<i64>) -> impl Iterator<Item = &SnapshotRef> {
    let find = |id: i64| metadata.snapshot_by_id(id);
    std::iter::successors(from.and_then(find), move |snapshot| {
        snapshot.parent_snapshot_id().and_then(find)
    })
    .take(metadata.snapshots().len())
}

fn period(at: i64, now: i64) -> (bool, i64) {
    let hourly = now - at < HOURLY_MS;
    (hourly, at.div_euclid(if hourly { HOUR_MS } else { DAY_MS }))
}
