//! Which snapshots a commit lets go, so that the metadata stays small however many commits there were.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};

use chrono::{DateTime, Utc};
use iceberg::spec::{SnapshotRef, SnapshotRetention, TableMetadata};
use uuid::Uuid;

use super::head::Refs;
use super::witness::{self, Witness};

/// Newest snapshots that stay whatever their age.
const NEWEST: usize = 100;
/// Snapshots that go with a commit at one time: fewer are not worth a look at every commit.
const AT_ONCE: usize = 20;
/// Snapshots that go with one commit at most, since to a server each is a pass over all; and at upkeep, where none waits.
pub(super) const AT_MOST: usize = 100;
pub(crate) const AT_MOST_AT_UPKEEP: usize = 1000;
/// Upkeep makes a snapshot itself, so one alone would go and come at every run.
const AT_UPKEEP: usize = 2;
const HOUR_MS: i64 = 3600 * 1000;
const DAY_MS: i64 = 24 * HOUR_MS;
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

/// None if they are fewer than `at_once`.
fn of_main(metadata: &TableMetadata, refs: &Refs, rules: &Rules, at_once: usize) -> Vec<i64> {
    let main = rules.of_ref(&refs.main_retention());
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::commit::WRITER;

    /// A table with a snapshot every `every_ms` up to `now`, and a tag on the oldest.
    fn table(count: i64, every_ms: i64, now: i64, properties: serde_json::Value) -> (TableMetadata, Refs) {
        let snapshots: Vec<_> = (1..=count)
            .map(|id| {
                let mut snapshot = json!({
                    "snapshot-id": id, "sequence-number": id, "timestamp-ms": now - (count - id) * every_ms,
                    "manifest-list": format!("m{id}"), "summary": {"operation": "append"}, "schema-id": 0,
                });
                if id > 1 {
                    snapshot["parent-snapshot-id"] = json!(id - 1);
                }
                snapshot
            })
            .collect();
        let metadata = json!({
            "format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "location": "file:///t",
            "last-sequence-number": count, "last-updated-ms": now, "last-column-id": 1,
            "current-schema-id": 0, "schemas": [{"type": "struct", "schema-id": 0, "fields": [
                {"id": 1, "name": "a", "required": false, "type": "long"}]}],
            "default-spec-id": 0, "partition-specs": [{"spec-id": 0, "fields": []}], "last-partition-id": 999,
            "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}],
            "properties": properties, "current-snapshot-id": count, "snapshots": snapshots,
            "refs": {"main": {"snapshot-id": count, "type": "branch"}, "first": {"snapshot-id": 1, "type": "tag"}},
        });
        read(metadata)
    }

    fn read(metadata: serde_json::Value) -> (TableMetadata, Refs) {
        let refs = serde_json::from_value(metadata.clone()).unwrap();
        (serde_json::from_value(metadata).unwrap(), refs)
    }

    const NOW: i64 = 1_800_000_000_000;

    fn at(ms: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(ms).unwrap()
    }

    fn kept(count: i64, every_ms: i64, properties: serde_json::Value) -> Vec<i64> {
        kept_with(count, every_ms, properties, json!({}))
    }

    /// The same, with these references over the table's.
    fn kept_with(
        count: i64,
        every_ms: i64,
        properties: serde_json::Value,
        more: serde_json::Value,
    ) -> Vec<i64> {
        let (metadata, _) = table(count, every_ms, NOW, properties);
        let mut json = serde_json::to_value(&metadata).unwrap();
        for (name, reference) in more.as_object().unwrap() {
            json["refs"][name] = reference.clone();
        }
        let (metadata, refs) = read(json);
        let expired = expired(&metadata, &refs, at(NOW), Uuid::nil());
        (1..=count).filter(|id| !expired.contains(id)).collect()
    }

    #[test]
    fn newest_hourly_and_daily_snapshots_stay() {
        // Every ten minutes for 40 days.
        let kept = kept(5760, 600_000, json!({}));
        let (newest, older): (Vec<i64>, Vec<i64>) = kept.iter().partition(|id| **id > 5660);
        assert_eq!(newest.len(), 100);
        // The tag's, some 25 daily ones and some 103 hourly ones.
        assert_eq!(older[0], 1);
        assert!((125..=135).contains(&older.len()), "{}", older.len());
    }

    #[test]
    fn properties_of_java_decide() {
        assert_eq!(kept(200, 1000, json!({"gc.enabled": "false"})).len(), 200);
        assert_eq!(
            kept(200, 1000, json!({"history.expire.min-snapshots-to-keep": "150"})).len(),
            151
        );
        let aged = json!({"history.expire.max-snapshot-age-ms": "3600000"});
        // Newest 100 of one a minute, and the tag's: the hour is over by then.
        assert_eq!(kept(600, 60_000, aged).len(), 101);
        // All of two hours, and not one an hour of them.
        let aged = json!({"history.expire.max-snapshot-age-ms": "7200000"});
        assert_eq!(kept(600, 60_000, aged).len(), 122);
        // A few more than the bound are let be.
        assert_eq!(kept(119, 1000, json!({})).len(), 119);
    }

    #[test]
    fn settings_of_the_main_branch_go_before_the_tables() {
        let main =
            |key: &str, value: i64| json!({"main": {"snapshot-id": 600, "type": "branch", key: value}});
        let table = json!({"history.expire.min-snapshots-to-keep": "300"});
        let most = main("min-snapshots-to-keep", 400);
        assert_eq!(kept_with(600, 100, table.clone(), most).len(), 401);
        let few = main("min-snapshots-to-keep", 5);
        assert_eq!(kept_with(600, 100, table, few).len(), 6);
        let aged = json!({"history.expire.max-snapshot-age-ms": "60000"});
        let older = main("max-snapshot-age-ms", 7_200_000);
        assert_eq!(kept_with(600, 60_000, aged, older).len(), 122);
    }

    #[test]
    fn the_oldest_go_first_and_not_all_at_once() {
        let (metadata, refs) = table(1300, 1000, NOW, json!({}));
        // The newest hundred stay, and what the tag points to.
        let gone = expired(&metadata, &refs, at(NOW), Uuid::nil());
        let of_commit: Vec<i64> = (2..=101).collect();
        assert_eq!(oldest(gone, &metadata, AT_MOST), of_commit);
    }

    #[test]
    fn snapshots_that_another_branch_keeps_by_its_own_settings_stay() {
        let audit = |settings: serde_json::Value| {
            let mut branch = json!({"snapshot-id": 300, "type": "branch"});
            branch
                .as_object_mut()
                .unwrap()
                .extend(settings.as_object().unwrap().clone());
            let kept = kept_with(600, 1000, json!({}), json!({ "audit": branch }));
            kept.into_iter().filter(|id| *id <= 500).collect::<Vec<_>>()
        };
        assert_eq!(audit(json!({})), [1, 300]);
        let fifty: Vec<i64> = std::iter::once(1).chain(251..=300).collect();
        assert_eq!(audit(json!({"min-snapshots-to-keep": 50})), fifty);
        // The 300th is five minutes old.
        let minute: Vec<i64> = std::iter::once(1).chain(240..=300).collect();
        assert_eq!(audit(json!({"max-snapshot-age-ms": 360_000})), minute);
    }

    #[test]
    fn what_is_on_no_branch_stays_for_five_days_below_the_cut_too() {
        // The chain of parents ends 139 commits ago; below it are 26 that were rolled back or staged, eight hours old.
        let last = 1000;
        let strays: Vec<i64> = (last - 500..last - 474).collect();
        let ids: Vec<i64> = strays.iter().copied().chain(last - 139..=last).collect();
        let (metadata, refs) = sparse(&ids, last, NOW);
        let strays_of = |expired: Vec<i64>| {
            let strays = expired.into_iter().filter(|id| strays.contains(id));
            strays.count()
        };
        let gone = expired(&metadata, &refs, at(NOW), Uuid::nil());
        assert!(gone.len() >= 35, "{gone:?}");
        assert_eq!(strays_of(gone), 0);
        assert_eq!(strays_of(all_expired(&metadata, &refs, at(NOW))), 0);
        // A clock that is five days ahead does not make them older, before its commit and after it.
        let later = at(NOW + 5 * DAY_MS);
        let writer = Uuid::from_u128(9);
        assert_eq!(strays_of(expired(&metadata, &refs, later, writer)), 0);
        let with_later = |by: Uuid| {
            let mut json = serde_json::to_value(&metadata).unwrap();
            json["last-updated-ms"] = json!(NOW + 5 * DAY_MS);
            let snapshots = json["snapshots"].as_array_mut().unwrap();
            let newest = snapshots
                .iter_mut()
                .max_by_key(|snapshot| snapshot["sequence-number"].as_i64());
            let newest = newest.unwrap();
            newest["timestamp-ms"] = json!(NOW + 5 * DAY_MS);
            newest["summary"][WRITER] = json!(by.to_string());
            read(json)
        };
        let (after, refs) = with_later(writer);
        assert_eq!(strays_of(expired(&after, &refs, later, writer)), 0);
        // Nor do others then follow it.
        assert_eq!(strays_of(expired(&after, &refs, at(NOW), Uuid::nil())), 0);
        // Once another's time says so, they go.
        let (after, refs) = with_later(Uuid::from_u128(10));
        assert!(strays_of(expired(&after, &refs, later, writer)) >= 24);
        assert!(strays_of(all_expired(&metadata, &refs, later)) >= 24);
    }

    #[test]
    fn a_clock_ahead_thins_by_an_hour_more_at_most() {
        let aged = json!({"history.expire.max-snapshot-age-ms": (DAY_MS).to_string()});
        // One a minute for a day and a half.
        let (metadata, refs) = table(36 * 60, 60_000, NOW, aged);
        let kept = |now: i64| 36 * 60 - expired(&metadata, &refs, at(now), Uuid::nil()).len();
        assert_eq!(kept(NOW), 24 * 60 + 2);
        assert_eq!(kept(NOW + 9 * DAY_MS), 23 * 60 + 2);
        // Upkeep goes by its clock: the newest 100, and the tag's.
        let upkeep = all_expired(&metadata, &refs, at(NOW + 9 * DAY_MS));
        assert_eq!(36 * 60 - upkeep.len(), 101);
    }

    #[test]
    fn what_expiry_cut_off_is_still_thinned_and_let_go() {
        // An hour's commits every minute, expiry after each: the chain of parents is cut long before.
        let day = 24 * 60;
        let mut ids: Vec<i64> = (1..=40 * day).filter(|id| id % 60 == 0).collect();
        let last = 40 * day;
        ids.retain(|id| *id < last - 100);
        ids.extend(last - 100..=last);
        let (metadata, refs) = sparse(&ids, last, NOW);
        let gone = all_expired(&metadata, &refs, at(NOW));
        let kept = ids.iter().filter(|id| !gone.contains(id)).count();
        // 100, some 118 hourly and some 25 daily ones.
        assert!((235..=255).contains(&kept), "{kept}");
        assert_eq!(expired(&metadata, &refs, at(NOW), Uuid::nil()), gone);
    }

    #[test]
    fn parents_in_a_circle_are_walked_once() {
        let (metadata, _) = table(200, 1000, NOW, json!({}));
        let mut json = serde_json::to_value(&metadata).unwrap();
        for snapshot in json["snapshots"].as_array_mut().unwrap() {
            if snapshot["snapshot-id"] == 1 {
                snapshot["parent-snapshot-id"] = json!(200);
            }
        }
        let (metadata, refs) = read(json);
        let gone = expired(&metadata, &refs, at(NOW), Uuid::nil());
        assert!(gone.len() > 90 && !gone.contains(&200), "{gone:?}");
    }

    #[test]
    fn what_is_on_no_branch_goes_after_five_days() {
        let (metadata, refs) = table(
            30,
            DAY_MS,
            NOW,
            json!({"history.expire.min-snapshots-to-keep": "100"}),
        );
        // Rolled back to the 20th: ten are nobody's.
        let mut json = serde_json::to_value(&metadata).unwrap();
        json["current-snapshot-id"] = json!(20);
        json["refs"]["main"]["snapshot-id"] = json!(20);
        let metadata: TableMetadata = serde_json::from_value(json).unwrap();
        let mut gone = all_expired(&metadata, &refs, at(NOW));
        gone.sort_unstable();
        // Ids 21 to 24 are more than five days old; 25 is five days old to the millisecond.
        assert_eq!(gone, [21, 22, 23, 24]);
        assert_eq!(expired(&metadata, &refs, at(NOW), Uuid::nil()), Vec::<i64>::new());
    }

    /// A table of these snapshots of one a minute, whose parents are mostly gone.
    fn sparse(ids: &[i64], last: i64, now: i64) -> (TableMetadata, Refs) {
        let (metadata, _) = table(last, 60_000, now, json!({}));
        let mut json = serde_json::to_value(&metadata).unwrap();
        let snapshots = json["snapshots"].as_array_mut().unwrap();
        snapshots.retain(|snapshot| ids.contains(&snapshot["snapshot-id"].as_i64().unwrap()));
        json["snapshot-log"] = json!([]);
        json["refs"].as_object_mut().unwrap().remove("first");
        read(json)
    }
}
