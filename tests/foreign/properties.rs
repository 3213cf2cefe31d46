//! Properties that somebody set, removed or copied: the ledger's pointer, and those that say how to write and delete.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use landfast::ledger::POINTER;
use libtest_mimic::Trial;

use super::world::{Kind, Shop, TABLE, World};
use crate::support::lake::files;
use crate::support::readers::SqlEngine::{PyIceberg, Spark};
use crate::support::{Component, TestResult, needs, test};

pub fn tests() -> Vec<Trial> {
    let mut trials = Vec::new();
    for kind in [Kind::Sqlite, Kind::Rest] {
        trials.extend([
            test(
                &format!("{}::pointer_is_put_right::{kind:?}", module_path!()),
                move || pointer_is_put_right(kind),
            ),
            test(
                &format!(
                    "{}::pointer_that_nothing_proves_stops_the_table::{kind:?}",
                    module_path!()
                ),
                move || pointer_that_nothing_proves_stops_the_table(kind),
            ),
            test(
                &format!("{}::only_commit_is_known_by_its_mark::{kind:?}", module_path!()),
                move || only_commit_is_known_by_its_mark(kind),
            ),
            test(
                &format!("{}::properties_of_writing::{kind:?}", module_path!()),
                move || properties_of_writing(kind),
            ),
            test(
                &format!("{}::gc_that_is_off_keeps_everything::{kind:?}", module_path!()),
                move || gc_that_is_off_keeps_everything(kind),
            ),
        ]);
    }
    trials
}

fn pointer(world: &World, table: &str) -> TestResult<String> {
    let properties = PyIceberg.properties(&world.described, table)?;
    Ok(properties.get(POINTER).cloned().ok_or("no pointer")?)
}

fn set(world: &World, properties: &[(&str, &str)]) -> TestResult {
    PyIceberg.alter(&world.described, TABLE, properties, &[])
}

async fn pointer_is_put_right(kind: Kind) -> TestResult {
    needs(Component::Python)?;
    let world = World::new(kind).await?;
    let mut shop = Shop::open(&world).await?;
    shop.land(2).await?;
    let old = pointer(&world, TABLE)?;
    shop.land(2).await?;
    shop.others_land().await?;
    let others = pointer(&world, "shop.others")?;
    let tampered = [
        ("garbage", Some("garbage".to_owned())),
        (
            "outside the warehouse",
            Some("file:///etc/head-000000000009-x.json".to_owned()),
        ),
        ("an older head", Some(old)),
        ("the head of another table", Some(others)),
        ("nothing", None),
    ];
    for (what, value) in tampered {
        // Under the running process, and before one that starts.
        for restart in [false, true] {
            let tamper = || match &value {
                Some(value) => set(&world, &[(POINTER, value)]),
                None => PyIceberg.alter(&world.described, TABLE, &[], &[POINTER]),
            };
            if restart {
                shop.restarted(tamper).await?;
                shop.send_again().await?;
                shop.server.logged(&["The ledger's pointer", TABLE]).await?;
            } else {
                tamper()?;
            }
            shop.land(1).await?;
            shop.send_again().await?;
            assert_eq!(world.ids(TABLE)?, shop.expected(), "{what}");
            let (code, out, err) = world.command("verify", &[])?;
            assert_eq!(code, Some(0), "{what}: {out}{err}");
        }
    }
    // A head of the newest number that nobody committed.
    let newest = pointer(&world, TABLE)?;
    let stray = newest
        .replace(".json", "0.json")
        .replace("file:/", "/")
        .replace("///", "/");
    fs::copy(newest.trim_start_matches("file:").replace("///", "/"), &stray)?;
    shop.restarted(|| set(&world, &[(POINTER, &format!("file://{stray}"))]))
        .await?;
    shop.send_again().await?;
    shop.server.logged(&["is not its snapshot's"]).await?;
    shop.land(1).await?;
    assert_eq!(world.ids(TABLE)?, shop.expected());
    Ok(())
}

/// Another engine appends, and lets every snapshot of ours go.
fn let_ours_go(world: &World, shop: &mut Shop<'_>) -> TestResult {
    PyIceberg.append(&world.described, TABLE, &[1001])?;
    shop.ids.insert(1001);
    let expire = format!(
        "CALL @.system.expire_snapshots(table => '{TABLE}', older_than => TIMESTAMP '2999-01-01 00:00:00', retain_last => 1)"
    );
    Spark.run(&world.described, &expire).map(drop)
}

/// Nothing in the table tells of its one commit of ours any more.
async fn only_commit_is_known_by_its_mark(kind: Kind) -> TestResult {
    let world = World::of_spark(kind).await?;
    let mut shop = Shop::open(&world).await?;
    shop.land(1).await?;
    assert!(pointer(&world, TABLE)?.contains("/head-000000000001-"));
    let_ours_go(&world, &mut shop)?;
    let unset = || PyIceberg.alter(&world.described, TABLE, &[], &[POINTER]);
    shop.restarted(unset).await?;
    shop.send_again().await?;
    let said = "Nothing in the table as it was loaded names its ledger";
    shop.server.logged(&[said, TABLE]).await?;
    assert_eq!(world.ids(TABLE)?, shop.expected());
    let (code, out, _) = world.command("verify", &[])?;
    assert!(
        code == Some(3) && out.contains("the mark of the only commit"),
        "{out}"
    );
    shop.land(1).await?;
    shop.send_again().await?;
    assert_eq!(world.ids(TABLE)?, shop.expected());
    let (code, out, err) = world.command("verify", &[])?;
    assert_eq!(code, Some(0), "{out}{err}");
    Ok(())
}

/// Every snapshot of ours was let go by another engine, and then the pointer is moved.
async fn pointer_that_nothing_proves_stops_the_table(kind: Kind) -> TestResult {
    let world = World::of_spark(kind).await?;
    let mut shop = Shop::open(&world).await?;
    shop.land(2).await?;
    let old = pointer(&world, TABLE)?;
    shop.land(3).await?;
    let newest = pointer(&world, TABLE)?;
    let_ours_go(&world, &mut shop)?;
    for moved in [Some(&old), None] {
        let damage = || match moved {
            Some(old) => set(&world, &[(POINTER, old)]),
            None => PyIceberg.alter(&world.described, TABLE, &[], &[POINTER]),
        };
        shop.restarted(damage).await?;
        shop.is_refused(&["The pointer to", "landfast ledger repair", TABLE])
            .await?;
        let (code, out, _) = world.command("ledger repair", &[])?;
        assert_eq!(code, Some(1), "{out}");
        assert!(
            out.contains("No kept snapshot names this head") && out.contains(&newest),
            "{out}"
        );
    }
    // The pointer is what it was: nothing is lost.
    set(&world, &[(POINTER, &newest)])?;
    shop.recovers().await
}

async fn properties_of_writing(kind: Kind) -> TestResult {
    needs(Component::Python)?;
    let world = World::new(kind).await?;
    let mut shop = Shop::open(&world).await?;
    shop.land(2).await?;
    let codec = "write.parquet.compression-codec";
    shop.restarted(|| set(&world, &[(codec, "nonsense")])).await?;
    shop.is_refused(&[codec, "Set them right in the table", TABLE])
        .await?;
    let (status, text) = shop.row(1).await?;
    assert!(status == 500 && text.contains(codec), "{status} {text}");
    set(&world, &[(codec, "zstd")])?;
    shop.recovers().await?;

    // Those that other writers follow stop nothing. What we write is Parquet, and every file says what it is.
    for property in [
        ("write.format.default", "orc"),
        ("write.metadata.previous-versions-max", "0"),
        ("write.metadata.delete-after-commit.enabled", "true"),
        ("commit.retry.num-retries", "many"),
    ] {
        shop.restarted(|| set(&world, &[property])).await?;
        shop.land(3).await?;
        shop.send_again().await?;
        assert_eq!(world.ids(TABLE)?, shop.expected(), "{property:?}");
    }
    let (code, out, err) = world.command("verify", &[])?;
    assert_eq!(code, Some(0), "{out}{err}");
    Ok(())
}

async fn gc_that_is_off_keeps_everything(kind: Kind) -> TestResult {
    needs(Component::Python)?;
    let world = World::new(kind).await?;
    let mut shop = Shop::open(&world).await?;
    shop.land(3).await?;
    let location = PyIceberg.state(&world.described, TABLE)?.location;
    let path = location.trim_start_matches("file:").trim_start_matches('/');
    let (table, _) = path.split_once("/metadata/").ok_or("a metadata file")?;
    let table = format!("/{table}");
    // The same name as a data file of ours, that nothing names.
    let orphan = format!("{table}/data/5f0c54a4-8a9f-4e1c-9d3a-0f2f6f0c1a77.parquet");
    fs::write(&orphan, "orphan")?;
    let then = SystemTime::now() - Duration::from_secs(10 * 24 * 3600);
    for file in files(table.as_ref())? {
        File::options().append(true).open(file)?.set_modified(then)?;
    }
    // As for Java, whatever is not `true`.
    set(&world, &[("gc.enabled", "No")])?;
    let (code, out, err) = world.command("maintain", &[])?;
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("gc.enabled is false: nothing is deleted"), "{out}");
    assert!(fs::exists(&orphan)?);
    set(&world, &[("gc.enabled", "true")])?;
    let (code, out, err) = world.command("maintain", &[])?;
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(!fs::exists(&orphan)?, "{out}");
    shop.land(1).await?;
    assert_eq!(world.ids(TABLE)?, shop.expected());
    Ok(())
}
