//! A table's ledger is deleted, cut short or changed on disk: the table takes no rows until it is mended as the message
//! says, and no other table is stopped.

use std::fs;
use std::path::{Path, PathBuf};

use landfast::ledger::POINTER;
use libtest_mimic::Trial;

use super::world::{Kind, Shop, TABLE, World};
use crate::support::lake::files;
use crate::support::readers::SqlEngine::PyIceberg;
use crate::support::{Component, TestResult, needs, trials};

/// What is done to a file, and how it is called.
type Damage = (&'static str, fn(&Path) -> TestResult);

const REPAIR: &str = "landfast ledger repair";

pub fn tests() -> Vec<Trial> {
    trials![
        damaged_head_stops_the_table_until_it_is_repaired,
        head_of_a_newer_version_is_left_alone,
        damaged_segment_stops_the_table_until_it_is_repaired,
    ]
}

/// The file of the head that the pointer leads to.
fn head(world: &World) -> TestResult<PathBuf> {
    let properties = PyIceberg.properties(&world.described, TABLE)?;
    let pointer = properties.get(POINTER).ok_or("no pointer")?;
    Ok(format!("/{}", pointer.trim_start_matches("file:").trim_start_matches('/')).into())
}

/// Changes one byte in the middle of what lies between two places of a file.
fn flip(file: &Path, after: &[u8]) -> TestResult {
    let mut bytes = fs::read(file)?;
    let place = bytes.windows(after.len()).position(|window| window == after);
    let place = place.ok_or("nothing to flip")? + after.len() + 40;
    bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
    Ok(fs::write(file, bytes)?)
}

async fn damaged_head_stops_the_table_until_it_is_repaired() -> TestResult {
    needs(Component::Python)?;
    let world = World::new(Kind::Sqlite).await?;
    let mut shop = Shop::open(&world).await?;
    shop.land(4).await?;
    let damages: [Damage; 3] = [
        ("cut short", |file| Ok(fs::write(file, &fs::read(file)?[..60])?)),
        ("one bit of an id", |file| flip(file, b"\"entries\":\"")),
        ("deleted", |file| Ok(fs::remove_file(file)?)),
    ];
    for (what, damage) in damages {
        let file = head(&world)?;
        let whole = fs::read(&file)?;
        let name = file.display().to_string();
        shop.restarted(|| damage(&file)).await?;
        shop.is_refused(&[
            "The head of the table's ledger is missing or damaged",
            REPAIR,
            TABLE,
            &name,
        ])
        .await?;
        let (status, text) = shop.row(1).await?;
        assert!(status == 500 && text.contains(REPAIR), "{what}: {status} {text}");
        let (code, out, _) = world.command("verify", &[])?;
        assert!(code == Some(3) && out.contains(&name), "{what}: {out}");
        let (code, _, err) = world.command("maintain", &[])?;
        assert!(code == Some(1) && err.contains(REPAIR), "{what}: {err}");
        // Asked first: the deliveries of the newest commit would be forgotten. A backup brings them back.
        let (code, out, _) = world.command("ledger repair", &[])?;
        assert!(
            code == Some(1) && out.contains("1 kept snapshots with 1 deliveries"),
            "{what}: {out}"
        );
        fs::write(&file, whole)?;
        shop.recovers().await?;
    }
    // Without a backup: all that the message says is lost, and nothing else.
    let file = head(&world)?;
    shop.restarted(|| Ok(fs::remove_file(&file)?)).await?;
    shop.is_refused(&[REPAIR]).await?;
    let (code, out, err) = world.command("ledger repair", &["--yes"])?;
    assert_eq!(code, Some(0), "{out}{err}");
    shop.newest_is_forgotten();
    shop.recovers().await?;
    let (code, out, err) = world.command("verify", &[])?;
    assert_eq!(code, Some(3), "{out}{err}");
    assert!(
        out.lines()
            .filter(|line| line.contains("WRONG"))
            .all(|line| line.contains("head")),
        "{out}"
    );
    Ok(())
}

async fn head_of_a_newer_version_is_left_alone() -> TestResult {
    needs(Component::Python)?;
    let world = World::new(Kind::Sqlite).await?;
    let mut shop = Shop::open(&world).await?;
    shop.land(4).await?;
    let file = head(&world)?;
    let whole = fs::read_to_string(&file)?;
    let newer = whole.replace("\"format-version\":1", "\"format-version\":2");
    shop.restarted(|| Ok(fs::write(&file, &newer)?)).await?;
    let words = [
        "A newer version of landfast writes the table's ledger; use that version",
        TABLE,
        "format-version: 2",
    ];
    shop.is_refused(&words).await?;
    for command in ["ledger repair", "ledger show", "maintain"] {
        let rest: &[&str] = if command == "ledger repair" {
            &["--yes"]
        } else {
            &[]
        };
        let (code, out, err) = world.command(command, rest)?;
        assert_eq!(code, Some(1), "{command}: {out}{err}");
        assert!(err.contains("newer version of landfast"), "{command}: {err}");
    }
    assert_eq!(fs::read_to_string(&file)?, newer, "it was touched");
    fs::write(&file, whole)?;
    shop.recovers().await
}

async fn damaged_segment_stops_the_table_until_it_is_repaired() -> TestResult {
    needs(Component::Python)?;
    let world = World::new(Kind::Sqlite).await?;
    let mut shop = Shop::open(&world).await?;
    shop.land_together(1200).await?;
    let ledger = files(&world.folder.path().join("warehouse/_landfast"))?;
    let segment = ledger
        .iter()
        .find(|file| file.extension().is_some_and(|end| end == "parquet"))
        .ok_or("no segment")?;
    let whole = fs::read(segment)?;
    let name = segment.display().to_string();
    let damages: [Damage; 3] = [
        ("one bit of an id", |file| {
            let mut bytes = fs::read(file)?;
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            Ok(fs::write(file, bytes)?)
        }),
        ("cut short", |file| Ok(fs::write(file, &fs::read(file)?[..500])?)),
        ("deleted", |file| Ok(fs::remove_file(file)?)),
    ];
    for (what, damage) in damages {
        shop.restarted(|| damage(segment)).await?;
        // An old delivery again: only the segment knows it.
        assert_eq!(shop.send_first_again().await, 503, "{what}");
        shop.server
            .logged(&[
                "A segment of the table's ledger is missing or damaged",
                REPAIR,
                &name,
            ])
            .await?;
        shop.others_land().await?;
        let (code, out, _) = world.command("verify", &[])?;
        assert!(code == Some(3) && out.contains(&name), "{what}: {out}");
        fs::write(segment, &whole)?;
        assert_eq!(shop.send_first_again().await, 204, "{what}");
    }
    fs::remove_file(segment)?;
    let (code, out, _) = world.command("ledger repair", &[])?;
    assert!(
        code == Some(1) && out.contains("cannot be read; if those deliveries come again"),
        "{out}"
    );
    assert_eq!(world.ids(TABLE)?, shop.expected());
    let (code, out, err) = world.command("ledger repair", &["--yes"])?;
    assert_eq!(code, Some(0), "{out}{err}");
    shop.restarted(|| Ok(())).await?;
    shop.all_is_forgotten();
    shop.land(2).await?;
    assert_eq!(world.ids(TABLE)?, shop.expected());
    Ok(())
}
