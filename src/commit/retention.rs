//! Which snapshots a commit lets go, so that the metadata stays small however many commits there were.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};

use chrono::{DateTime, Utc};
use iceberg::spec::{SnapshotRef, TableMetadata};

use super::head::Refs;

/// Newest snapshots that stay whatever their age.
const NEWEST: usize = 100;
/// Snapshots that go at one time: fewer are not worth a look at every commit.
const AT_ONCE: usize = 20;
const HOUR_MS: i64 = 3600 * 1000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Younger than this, one an hour stays; older, one a day.
const HOURLY_MS: i64 = 2 * DAY_MS;
const DAILY_MS: i64 = 30 * DAY_MS;
/// A snapshot that is on no branch stays for this long. Java's default.
const UNREFERENCED_MS: i64 = 5 * DAY_MS;

/// The main branch's snapshots to let go: kept are the newest 100, one an hour for two days, one a day for 30 days.
///
/// Java's properties decide where they are set: `history.expire.min-snapshots-to-keep` instead of 100,
/// `history.expire.max-snapshot-age-ms` instead of 30 days, and `gc.enabled=false` keeps all. What a branch or tag of
/// others points to stays, and what no one but them reaches is not looked at.
pub(super) fn expired(metadata: &TableMetadata, refs: &Refs, now: DateTime<Utc>) -> Vec<i64> {
    let Some(rules) = Rules::of(metadata, now) else {
        return Vec::new();
    };
    if metadata.snapshots().len() < rules.newest + AT_ONCE {
        return Vec::new();
    }
    let expired = rules.superseded(&Lineage::of(metadata, refs).main, refs);
    if expired.len() < AT_ONCE {
        Vec::new()
    } else {
        expired
    }
}

/// The same, and what no branch or tag reaches once it is older than `history.expire.max-snapshot-age-ms`, or five days.
pub(super) fn all_expired(metadata: &TableMetadata, refs: &Refs, now: DateTime<Utc>) -> Vec<i64> {
    let Some(rules) = Rules::of(metadata, now) else {
        return Vec::new();
    };
    let oldest = rules.now - rules.max_age_ms.unwrap_or(UNREFERENCED_MS);
    let lineage = Lineage::of(metadata, refs);
    let unreferenced = lineage
        .nobodys
        .iter()
        .filter(|snapshot| snapshot.timestamp_ms() < oldest)
        .map(|snapshot| snapshot.snapshot_id());
    expired(metadata, refs, now)
        .into_iter()
        .chain(unreferenced)
        .collect()
}

/// Whether `gc.enabled` forbids to let go of anything: as for Java, whatever is not `true` does.
pub(crate) fn is_gc_off(metadata: &TableMetadata) -> bool {
    let enabled = metadata.properties().get("gc.enabled");
    enabled.is_some_and(|enabled| !enabled.eq_ignore_ascii_case("true"))
}

/// What the table's properties say.
struct Rules {
    newest: usize,
    max_age_ms: Option<i64>,
    now: i64,
}

impl Rules {
    /// None when all snapshots stay.
    fn of(metadata: &TableMetadata, now: DateTime<Utc>) -> Option<Self> {
        let property = |key: &str| metadata.properties().get(key);
        let number = |key: &str| property(key).and_then(|value| value.parse::<i64>().ok());
        if is_gc_off(metadata) {
            return None;
        }
        let newest =
            number("history.expire.min-snapshots-to-keep").and_then(|count| usize::try_from(count).ok());
        Some(Self {
            newest: newest.unwrap_or(NEWEST).max(1),
            max_age_ms: number("history.expire.max-snapshot-age-ms"),
            now: now.timestamp_millis(),
        })
    }

    /// Snapshots of the main branch, newest first, that neither their place nor their period keeps.
    fn superseded(&self, main: &[&SnapshotRef], refs: &Refs) -> Vec<i64> {
        let oldest = self.now - self.max_age_ms.unwrap_or(DAILY_MS);
        let pointed_to: HashSet<i64> = refs.others().map(|reference| reference.snapshot_id).collect();
        let mut periods = BTreeSet::new();
        let mut expired = Vec::new();
        for (place, snapshot) in main.iter().enumerate() {
            let at = snapshot.timestamp_ms();
            // The newest of a period stands for it. Periods are the clock's, so that every commit chooses alike.
            let is_first = periods.insert(period(at, self.now));
            let stays = place < self.newest || (at >= oldest && is_first);
            if !stays && !pointed_to.contains(&snapshot.snapshot_id()) {
                expired.push(snapshot.snapshot_id());
            }
        }
        expired
    }
}

/// Whose each snapshot is.
struct Lineage<'t> {
    /// The main branch's, newest first.
    main: Vec<&'t SnapshotRef>,
    /// Nobody's: rolled back, or staged and never taken.
    nobodys: Vec<&'t SnapshotRef>,
}

impl<'t> Lineage<'t> {
    fn of(metadata: &'t TableMetadata, refs: &Refs) -> Self {
        let mut main: Vec<&SnapshotRef> = ancestors(metadata, metadata.current_snapshot_id()).collect();
        let chain: HashSet<i64> = main.iter().map(|snapshot| snapshot.snapshot_id()).collect();
        let others: HashSet<i64> = refs
            .others()
            .flat_map(|reference| ancestors(metadata, Some(reference.snapshot_id)))
            .map(|snapshot| snapshot.snapshot_id())
            .collect();
        let rest = metadata.snapshots().filter(|snapshot| {
            !chain.contains(&snapshot.snapshot_id()) && !others.contains(&snapshot.snapshot_id())
        });
        // Letting a snapshot go cuts the chain of parents there. What is older than the cut is the main branch's, as
        // far as anybody can tell; what is newer is not in the chain because it is on no branch.
        let cut = main
            .last()
            .map_or(i64::MAX, |snapshot| snapshot.sequence_number());
        let (older, nobodys): (Vec<_>, Vec<_>) = rest.partition(|snapshot| snapshot.sequence_number() < cut);
        main.extend(older);
        main.sort_by_key(|snapshot| Reverse(snapshot.sequence_number()));
        Self { main, nobodys }
    }
}

/// A snapshot and its parents, as far as they are known.
fn ancestors(metadata: &TableMetadata, from: Option<i64>) -> impl Iterator<Item = &SnapshotRef> {
    let find = |id: i64| metadata.snapshot_by_id(id);
    std::iter::successors(from.and_then(find), move |snapshot| {
        snapshot.parent_snapshot_id().and_then(find)
    })
}

fn period(at: i64, now: i64) -> (bool, i64) {
    let hourly = now - at < HOURLY_MS;
    (hourly, at.div_euclid(if hourly { HOUR_MS } else { DAY_MS }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
        let refs = serde_json::from_value(metadata.clone()).unwrap();
        (serde_json::from_value(metadata).unwrap(), refs)
    }

    fn kept(count: i64, every_ms: i64, properties: serde_json::Value) -> Vec<i64> {
        let now = 1_800_000_000_000;
        let (metadata, refs) = table(count, every_ms, now, properties);
        let expired = expired(&metadata, &refs, DateTime::from_timestamp_millis(now).unwrap());
        (1..=count).filter(|id| !expired.contains(id)).collect()
    }

    #[test]
    fn newest_hourly_and_daily_snapshots_stay() {
        // Every ten minutes for 40 days.
        let kept = kept(5760, 600_000, json!({}));
        let (newest, older): (Vec<i64>, Vec<i64>) = kept.iter().partition(|id| **id > 5660);
        assert_eq!(newest.len(), 100);
        // The tag's, some 28 daily ones and some 31 hourly ones.
        assert_eq!(older[0], 1);
        assert!((55..=65).contains(&older.len()), "{}", older.len());
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
        // A few more than the bound are let be.
        assert_eq!(kept(119, 1000, json!({})).len(), 119);
    }

    #[test]
    fn what_expiry_cut_off_is_still_thinned_and_let_go() {
        // An hour's commits every minute, expiry after each: the chain of parents is cut long before.
        let day = 24 * 60;
        let mut ids: Vec<i64> = (1..=40 * day).filter(|id| id % 60 == 0).collect();
        let now = 1_800_000_000_000;
        let last = 40 * day;
        ids.retain(|id| *id < last - 100);
        ids.extend(last - 100..=last);
        let (metadata, refs) = sparse(&ids, last, now);
        let at = DateTime::from_timestamp_millis(now).unwrap();
        let expired = all_expired(&metadata, &refs, at);
        let kept = ids.iter().filter(|id| !expired.contains(id)).count();
        // 100, some 46 hourly and some 28 daily ones.
        assert!((165..=185).contains(&kept), "{kept}");
        assert_eq!(super::expired(&metadata, &refs, at), expired);
    }

    #[test]
    fn what_is_on_no_branch_goes_after_five_days() {
        let now = 1_800_000_000_000;
        let (metadata, refs) = table(
            30,
            DAY_MS,
            now,
            json!({"history.expire.min-snapshots-to-keep": "100"}),
        );
        // Rolled back to the 20th: ten are nobody's.
        let mut json = serde_json::to_value(&metadata).unwrap();
        json["current-snapshot-id"] = json!(20);
        json["refs"]["main"]["snapshot-id"] = json!(20);
        let metadata: TableMetadata = serde_json::from_value(json).unwrap();
        let at = DateTime::from_timestamp_millis(now).unwrap();
        let mut expired = all_expired(&metadata, &refs, at);
        expired.sort_unstable();
        // Ids 21 to 24 are more than five days old; 25 is five days old to the millisecond.
        assert_eq!(expired, [21, 22, 23, 24]);
        assert_eq!(super::expired(&metadata, &refs, at), Vec::<i64>::new());
    }

    /// A table of these snapshots of one a minute, whose parents are mostly gone.
    fn sparse(ids: &[i64], last: i64, now: i64) -> (TableMetadata, Refs) {
        let (metadata, _) = table(last, 60_000, now, json!({}));
        let mut json = serde_json::to_value(&metadata).unwrap();
        let snapshots = json["snapshots"].as_array_mut().unwrap();
        snapshots.retain(|snapshot| ids.contains(&snapshot["snapshot-id"].as_i64().unwrap()));
        json["snapshot-log"] = json!([]);
        json["refs"].as_object_mut().unwrap().remove("first");
        let refs = serde_json::from_value(json.clone()).unwrap();
        (serde_json::from_value(json).unwrap(), refs)
    }
}
