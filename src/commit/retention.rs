//! Which snapshots a commit lets go, so that the metadata stays small however many commits there were.

use std::collections::{BTreeSet, HashSet};

use chrono::{DateTime, Utc};
use iceberg::spec::TableMetadata;

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

/// The main branch's snapshots to let go: kept are the newest 100, one an hour for two days, one a day for 30 days.
///
/// Java's properties decide where they are set: `history.expire.min-snapshots-to-keep` instead of 100,
/// `history.expire.max-snapshot-age-ms` instead of 30 days, and `gc.enabled=false` keeps all. What a branch or tag of
/// others points to stays, and what no one but them reaches is not looked at.
pub(super) fn expired(metadata: &TableMetadata, refs: &Refs, now: DateTime<Utc>) -> Vec<i64> {
    let property = |key: &str| metadata.properties().get(key);
    let number = |key: &str| property(key).and_then(|value| value.parse::<i64>().ok());
    if property("gc.enabled").is_some_and(|enabled| enabled == "false") {
        return Vec::new();
    }
    let newest = number("history.expire.min-snapshots-to-keep").and_then(|count| usize::try_from(count).ok());
    let newest = newest.unwrap_or(NEWEST).max(1);
    if metadata.snapshots().len() < newest + AT_ONCE {
        return Vec::new();
    }
    let oldest = now.timestamp_millis() - number("history.expire.max-snapshot-age-ms").unwrap_or(DAILY_MS);
    let pointed_to: HashSet<i64> = refs.others().map(|reference| reference.snapshot_id).collect();
    let mut periods = BTreeSet::new();
    let mut expired = Vec::new();
    let mut snapshot = metadata.current_snapshot();
    let mut place = 0;
    while let Some(found) = snapshot {
        let at = found.timestamp_ms();
        // The newest of a period stands for it. Periods are the clock's, so that every commit chooses alike.
        let is_first = periods.insert(period(at, now.timestamp_millis()));
        let stays = place < newest || (at >= oldest && is_first);
        if !stays && !pointed_to.contains(&found.snapshot_id()) {
            expired.push(found.snapshot_id());
        }
        place += 1;
        snapshot = found
            .parent_snapshot_id()
            .and_then(|id| metadata.snapshot_by_id(id));
    }
    if expired.len() < AT_ONCE {
        Vec::new()
    } else {
        expired
    }
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
}
