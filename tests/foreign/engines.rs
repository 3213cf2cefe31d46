//! PyIceberg, Spark and DuckDB do to a table what they do to their own, between the commits of a running server.
//!
//! After each deed everything that was ever sent is sent again and adds nothing, new deliveries land, all readers agree
//! on the rows, `verify` proves the table and `maintain` leaves it as it is.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use chrono::{TimeDelta, Utc};
use libtest_mimic::Trial;
use serde_json::Value;

use super::world::{Kind, Shop, TABLE, World};
use crate::support::faults::Gate;
use crate::support::proxy::{Call, Trouble};
use crate::support::readers::SqlEngine::{DuckDb, PyIceberg, Spark};
use crate::support::{Component, TestResult, needs, test, trials};

/// How Spark says a moment.
const TIME: &str = "%Y-%m-%d %H:%M:%S";

pub fn tests() -> Vec<Trial> {
    let mut trials = trials![
        duckdb_writes_in_turn_on_a_server,
        files_under_way_survive_an_orphan_cleaner
    ];
    for kind in [Kind::Sqlite, Kind::Postgres, Kind::Rest] {
        trials.push(test(
            &format!(
                "{}::pyiceberg_writes_between_our_commits::{kind:?}",
                module_path!()
            ),
            move || pyiceberg_writes_between_our_commits(kind),
        ));
    }
    // Both databases are the same catalog to Java: half of the deeds on each.
    for kind in [Kind::Postgres, Kind::Rest] {
        trials.push(test(
            &format!(
                "{}::spark_rows_change_between_our_commits::{kind:?}",
                module_path!()
            ),
            move || spark_rows_change_between_our_commits(kind),
        ));
    }
    for kind in [Kind::Sqlite, Kind::Rest] {
        trials.push(test(
            &format!(
                "{}::spark_upkeep_runs_between_our_commits::{kind:?}",
                module_path!()
            ),
            move || spark_upkeep_runs_between_our_commits(kind),
        ));
    }
    trials
}

/// Everything that holds after a deed of another engine.
async fn still_holds(shop: &mut Shop<'_>, after: &str) -> TestResult {
    let world = shop.world;
    assert_eq!(readers(world)?, shop.expected(), "after: {after}");
    shop.send_again().await?;
    assert_eq!(readers(world)?, shop.expected(), "sent again after: {after}");
    shop.land(2).await?;
    let (code, out, err) = world.command("verify", &["--output", "json"])?;
    assert_eq!(code, Some(0), "verify after {after}: {out}{err}");
    let verdict: Value = serde_json::from_str(&out)?;
    assert_eq!(verdict[0]["findings"], serde_json::json!([]), "{after}");
    let (code, out, err) = world.command("maintain", &[])?;
    assert_eq!(code, Some(0), "maintain after {after}: {out}{err}");
    assert_eq!(readers(world)?, shop.expected(), "maintained after: {after}");
    Ok(())
}

/// The ids on which all readers agree.
fn readers(world: &World) -> TestResult<Vec<i64>> {
    let ids = world.ids(TABLE)?;
    if world.has_spark {
        assert_eq!(
            ids,
            Spark.ids(&world.described, TABLE)?,
            "PyIceberg and Spark read other rows"
        );
    }
    Ok(ids)
}

async fn pyiceberg_writes_between_our_commits(kind: Kind) -> TestResult {
    needs(Component::Python)?;
    let world = World::of_readers(kind).await?;
    let mut shop = Shop::open(&world).await?;
    shop.land(5).await?;

    PyIceberg.append(&world.described, TABLE, &[1001, 1002])?;
    shop.ids.extend([1001, 1002]);
    still_holds(&mut shop, "append").await?;

    // A file of ours goes as a whole, and one of its own is rewritten.
    PyIceberg.delete(&world.described, TABLE, "id == 2 or id == 1001")?;
    shop.ids.retain(|id| ![2, 1001].contains(id));
    still_holds(&mut shop, "delete").await?;

    PyIceberg.overwrite(&world.described, TABLE, "id < 4", &[1003])?;
    shop.ids.retain(|id| *id >= 4);
    shop.ids.insert(1003);
    still_holds(&mut shop, "overwrite").await?;

    PyIceberg.delete(&world.described, TABLE, "id > 0")?;
    shop.ids.clear();
    still_holds(&mut shop, "delete of every row").await
}

/// Spark does one statement; what it answers is given.
fn spark(world: &World, statement: &str) -> TestResult<Vec<Vec<String>>> {
    let rows = Spark.run(&world.described, statement)?.into_iter();
    Ok(rows
        .map(|row| row.into_iter().map(Option::unwrap_or_default).collect())
        .collect())
}

async fn spark_rows_change_between_our_commits(kind: Kind) -> TestResult {
    let world = World::of_spark(kind).await?;
    let mut shop = Shop::open(&world).await?;
    shop.land(8).await?;

    spark(
        &world,
        "INSERT INTO @.shop.orders VALUES (2001, 'j'), (2002, 'j'), (2003, 'j')",
    )?;
    shop.ids.extend([2001, 2002, 2003]);
    still_holds(&mut shop, "INSERT").await?;

    spark(&world, "DELETE FROM @.shop.orders WHERE id IN (1, 2001)")?;
    shop.ids.retain(|id| ![1, 2001].contains(id));
    still_holds(&mut shop, "DELETE, copy on write").await?;

    spark(
        &world,
        "ALTER TABLE @.shop.orders SET TBLPROPERTIES ('write.delete.mode' = 'merge-on-read', \
         'write.update.mode' = 'merge-on-read', 'write.merge.mode' = 'merge-on-read')",
    )?;
    still_holds(&mut shop, "SET TBLPROPERTIES").await?;

    // Of a file with more rows: of a file of one row, Spark drops the file.
    spark(&world, "DELETE FROM @.shop.orders WHERE id = 2002")?;
    let positions = spark(
        &world,
        "SELECT count(*) FROM @.shop.orders.delete_files WHERE content = 1",
    )?;
    assert_eq!(positions, [["1"]]);
    shop.ids.remove(&2002);
    still_holds(&mut shop, "DELETE, merge on read").await?;

    spark(
        &world,
        "UPDATE @.shop.orders SET id = id + 3000 WHERE id IN (2003, 5)",
    )?;
    shop.ids.retain(|id| ![2003, 5].contains(id));
    shop.ids.extend([5003, 3005]);
    still_holds(&mut shop, "UPDATE").await?;

    spark(
        &world,
        "MERGE INTO @.shop.orders t USING (SELECT explode(array(6L, 4001L)) AS id) s ON t.id = s.id \
         WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, 'm')",
    )?;
    shop.ids.remove(&6);
    shop.ids.insert(4001);
    still_holds(&mut shop, "MERGE").await?;

    spark(&world, "ALTER TABLE @.shop.orders ADD COLUMN note STRING")?;
    still_holds(&mut shop, "ADD COLUMN").await?;
    spark(&world, "INSERT INTO @.shop.orders VALUES (2004, 'j', 'a note')")?;
    shop.ids.insert(2004);
    still_holds(&mut shop, "INSERT of a column more").await
}

async fn spark_upkeep_runs_between_our_commits(kind: Kind) -> TestResult {
    let world = World::of_spark(kind).await?;
    let mut shop = Shop::open(&world).await?;
    shop.land(8).await?;

    let before = PyIceberg
        .state(&world.described, TABLE)?
        .snapshot_id
        .ok_or("a snapshot")?;
    let rolled_back = shop.ids.clone();
    shop.land(2).await?;
    spark(
        &world,
        &format!("CALL @.system.rollback_to_snapshot('{TABLE}', {before})"),
    )?;
    // What a rollback takes away stays away: its deliveries were landed.
    shop.ids = rolled_back;
    still_holds(&mut shop, "rollback_to_snapshot").await?;

    spark(
        &world,
        &format!(
            "CALL @.system.rewrite_data_files(table => '{TABLE}', options => map('rewrite-all', 'true'))"
        ),
    )?;
    still_holds(&mut shop, "rewrite_data_files").await?;

    spark(&world, &format!("CALL @.system.rewrite_manifests('{TABLE}')"))?;
    still_holds(&mut shop, "rewrite_manifests").await?;

    // Everything of ours goes but the newest.
    let expire = format!(
        "CALL @.system.expire_snapshots(table => '{TABLE}', older_than => TIMESTAMP '2999-01-01 00:00:00', \
         retain_last => 1)"
    );
    spark(&world, &expire)?;
    assert_eq!(
        spark(&world, "SELECT count(*) FROM @.shop.orders.snapshots")?,
        [["1"]]
    );
    still_holds(&mut shop, "expire_snapshots").await?;

    // Then everything of ours.
    spark(&world, "INSERT INTO @.shop.orders VALUES (2001, 'j')")?;
    shop.ids.insert(2001);
    spark(&world, &expire)?;
    let ours = "SELECT count(*) FROM @.shop.orders.snapshots WHERE summary['landfast.ledger'] IS NOT NULL";
    assert_eq!(spark(&world, ours)?, [["0"]]);
    still_holds(&mut shop, "expire_snapshots of all of ours").await?;

    let orphan = orphan(&world)?;
    spark(&world, &remove_orphan_files())?;
    assert!(!Path::new(&orphan).exists(), "it did nothing");
    still_holds(&mut shop, "remove_orphan_files").await
}

/// As far as Spark goes: a day ago.
fn remove_orphan_files() -> String {
    let then = Utc::now() - TimeDelta::days(1) - TimeDelta::minutes(1);
    format!(
        "CALL @.system.remove_orphan_files(table => '{TABLE}', older_than => TIMESTAMP '{}')",
        then.format(TIME)
    )
}

/// Puts a file that nothing names, two days old, beside the table's data.
fn orphan(world: &World) -> TestResult<String> {
    let location = PyIceberg.state(&world.described, TABLE)?.location;
    let path = location.trim_start_matches("file:").trim_start_matches('/');
    let (table, _) = path.split_once("/metadata/").ok_or("a metadata file")?;
    let orphan = format!("/{table}/data/orphan.parquet");
    fs::write(&orphan, "nothing")?;
    let then = SystemTime::now() - Duration::from_secs(2 * 24 * 3600);
    File::options().append(true).open(&orphan)?.set_modified(then)?;
    Ok(orphan)
}

async fn duckdb_writes_in_turn_on_a_server() -> TestResult {
    needs(Component::Python)?;
    let world = World::of_readers(Kind::Rest).await?;
    let proxy = world.proxy.as_ref().ok_or("a proxy")?;
    // So that it commits table by table: the proxy knows no commits of several.
    proxy.always(
        Call::Config,
        Trouble::alter(|config| {
            config["endpoints"]
                .as_array_mut()
                .into_iter()
                .for_each(|endpoints| {
                    endpoints.retain(|endpoint| !endpoint.to_string().contains("transactions"));
                });
        }),
    );
    let mut shop = Shop::open(&world).await?;
    shop.land(5).await?;
    let duckdb = |statement: &str| DuckDb.run(&world.described, statement);

    duckdb("INSERT INTO @.shop.orders VALUES (3001, 'd'), (3002, 'd')")?;
    shop.ids.extend([3001, 3002]);
    still_holds(&mut shop, "INSERT").await?;

    duckdb("DELETE FROM @.shop.orders WHERE id IN (2, 3001)")?;
    shop.ids.retain(|id| ![2, 3001].contains(id));
    still_holds(&mut shop, "DELETE").await?;

    duckdb("UPDATE @.shop.orders SET id = 3003 WHERE id = 3002")?;
    shop.ids.remove(&3002);
    shop.ids.insert(3003);
    still_holds(&mut shop, "UPDATE").await
}

async fn files_under_way_survive_an_orphan_cleaner() -> TestResult {
    let world = World::of_spark(Kind::Rest).await?;
    let proxy = world.proxy.as_ref().ok_or("a proxy")?;
    let mut shop = Shop::open(&world).await?;
    shop.land(3).await?;
    let gate = Gate::new();
    proxy.once(Call::Commit, Trouble::Hold(gate.clone()));
    let (id, push) = shop.next();
    let pusher = shop.server.pusher();
    let pushed = tokio::spawn(async move { pusher.push(&push).await });
    gate.reached().await;
    // Its files are durable, and no state of the table names them.
    let orphan = orphan(&world)?;
    spark(&world, &remove_orphan_files())?;
    assert!(!Path::new(&orphan).exists(), "it did nothing");
    gate.release();
    assert_eq!(pushed.await?, 204);
    shop.ids.insert(id);
    still_holds(&mut shop, "remove_orphan_files under a commit").await
}
