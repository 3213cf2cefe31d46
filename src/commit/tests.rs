//! Which snapshots stay, and which go.

use chrono::{DateTime, Utc};
use iceberg::spec::TableMetadata;
use serde_json::json;
use uuid::Uuid;

use super::WRITER;
use super::head::Refs;
use super::retention::{AT_MOST, DAY_MS, all_expired, expired, oldest, pressed};

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
fn kept_with(count: i64, every_ms: i64, properties: serde_json::Value, more: serde_json::Value) -> Vec<i64> {
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
    let main = |key: &str, value: i64| json!({"main": {"snapshot-id": 600, "type": "branch", key: value}});
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

#[test]
fn metadata_that_nears_its_bound_keeps_fewer_snapshots() {
    let at_bound = |count: i64, properties: serde_json::Value, share: f64| {
        let (metadata, _) = table(count, 1000, NOW - 1000, properties);
        let refs = Refs::of(&metadata).unwrap();
        let most = (refs.metadata_bytes as f64 / share) as usize;
        let gone = pressed(&metadata, &refs, at(NOW), Uuid::nil(), most);
        (metadata, refs, gone)
    };
    let (_, _, gone) = at_bound(100, json!({}), 0.74);
    assert_eq!(gone, Vec::<i64>::new(), "there is room");
    // Down to half of the bound; the tag's is not the oldest of them that goes.
    let (metadata, refs, gone) = at_bound(100, json!({}), 0.8);
    assert_eq!(gone[0], 2);
    assert_eq!(gone, (2..2 + gone.len() as i64).collect::<Vec<_>>());
    let each = refs.metadata_bytes / metadata.snapshots().len();
    let half = refs.metadata_bytes * 5 / 8;
    assert!(
        (half - each * 12..=half + each * 12).contains(&(refs.metadata_bytes - gone.len() * each)),
        "{}",
        gone.len()
    );
    // The newest ten stay, and what others set to keep more does not count.
    let keep_all = json!({"history.expire.min-snapshots-to-keep": "1000", "x": "y".repeat(100_000)});
    let (_, _, gone) = at_bound(100, keep_all, 0.99);
    assert_eq!(gone, (2..=90).collect::<Vec<_>>());
    let (_, _, gone) = at_bound(300, json!({"x": "y".repeat(100_000)}), 0.99);
    assert_eq!(gone.len(), AT_MOST);
    let (_, _, gone) = at_bound(100, json!({"gc.enabled": "false"}), 0.99);
    assert_eq!(gone, Vec::<i64>::new());
}
