//! Storage that fails under the real binary: a full disk, a warehouse and dead letters that cannot be written.
//! What was not made durable is not acknowledged, and lands once the fault is gone.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::support::lake::{Lake, files};
use crate::support::mount::{Mount, fill};
use crate::support::push::Push;
use crate::support::server::{Server, run};
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        full_disk_refuses_until_there_is_room,
        full_disk_of_dead_letters_keeps_poison_unacknowledged,
        read_only_warehouse_refuses_until_it_is_writable,
        unwritable_warehouse_stops_the_start,
        table_folder_that_is_a_file_refuses_its_table_only,
        unwritable_dead_letters_keep_poison_unacknowledged,
    ]
}

const ROWS: &str = "defaults: { batch: { commit_interval: 100ms } }\ntables: { t.rows: { from: [{ subscription: rows }], \
                    schema: [{ name: id, type: long, required: true }, { name: pad, type: string }] } }";

/// Noise, so that no codec makes it small.
fn row(id: i64) -> Push {
    let pad: String = (0..64).map(|_| uuid::Uuid::new_v4().to_string()).collect();
    Push::json("rows", id, &json!({"id": id, "pad": pad}))
}

async fn full_disk_refuses_until_there_is_room() -> TestResult {
    let lake = Lake::new()?;
    let mount = Mount::new(lake.path().join("warehouse"), "2m")?;
    let server = Server::serve(&lake.config("", ROWS)?).await?;
    let pusher = server.pusher();
    assert_eq!(pusher.push(&row(0)).await, 204);
    let filler = fill(mount.path())?;
    let pushes: Vec<_> = (1..=60).map(row).collect();
    let statuses = pusher.push_all(&pushes, 20).await;
    assert!(
        statuses.iter().all(|status| [204, 503].contains(status)),
        "{statuses:?}"
    );
    assert!(statuses.contains(&503), "the disk was not full: {statuses:?}");
    let landed = statuses.iter().filter(|status| **status == 204).count();
    assert_eq!(lake.ids("t.rows", "id")?.1, 1 + landed);
    assert!(server.metric("landfast_batches_abandoned_total").await? > 0.0);
    server.logged(&["No space left"]).await?;
    assert_eq!(pusher.get("/health/ready").await?.0, 200);

    fs::remove_file(filler)?;
    let refused: Vec<_> = pushes
        .iter()
        .zip(&statuses)
        .filter(|(_, status)| **status == 503)
        .map(|(push, _)| push.clone())
        .collect();
    let again = pusher.push_all(&refused, 20).await;
    assert_eq!(again, vec![204; refused.len()]);
    let (ids, rows) = lake.ids("t.rows", "id")?;
    assert_eq!((ids, rows), ((0..=60).collect(), 61));
    // A write that failed leaves no part of itself behind.
    let parts: Vec<_> = files(mount.path())?
        .into_iter()
        .filter(|file| file.to_string_lossy().contains('#'))
        .collect();
    assert_eq!(parts, Vec::<PathBuf>::new());
    Ok(())
}

async fn full_disk_of_dead_letters_keeps_poison_unacknowledged() -> TestResult {
    let lake = Lake::new()?;
    let mount = Mount::new(lake.path().join("dead-letters"), "1m")?;
    let server = Server::serve(&lake.config("", ROWS)?).await?;
    let filler = fill(mount.path())?;
    let pushes = [
        Push::new("rows", 1, "{\"id\":\"poison\"}"),
        row(2),
        Push::new("nowhere", 3, "{}"),
    ];
    let pusher = server.pusher();
    assert_eq!(pusher.push_all(&pushes, 3).await, [503, 204, 503]);
    fs::remove_file(filler)?;
    assert_eq!(pusher.push_all(&pushes[..1], 1).await, [204]);
    assert_eq!(pusher.push_all(&pushes[2..], 1).await, [204]);
    assert_eq!(lake.dead_letters()?.len(), 2);
    assert_eq!(lake.ids("t.rows", "id")?.1, 1);
    Ok(())
}

async fn read_only_warehouse_refuses_until_it_is_writable() -> TestResult {
    let lake = Lake::new()?;
    let mount = Mount::new(lake.path().join("warehouse"), "8m")?;
    let server = Server::serve(&lake.config("", ROWS)?).await?;
    mount.remount("ro")?;
    let pusher = server.pusher();
    // The table cannot be made.
    let first = [row(1), row(2), Push::new("rows", 3, "{\"id\":\"poison\"}")];
    assert_eq!(pusher.push_all(&first, 3).await, [503; 3]);
    server.logged(&["ERROR", "t.rows"]).await?;
    mount.remount("rw")?;
    let all = wait_for("the table to be made", Duration::from_secs(60), async || {
        let statuses = pusher.push_all(&first, 3).await;
        (statuses == [204; 3]).then_some(())
    });
    all.await?;
    // The table is there, and cannot be committed to.
    mount.remount("ro")?;
    assert_eq!(pusher.push_all(&[row(4), row(5)], 2).await, [503; 2]);
    mount.remount("rw")?;
    assert_eq!(pusher.push_all(&[row(4), row(5)], 2).await, [204; 2]);
    assert_eq!(lake.ids("t.rows", "id")?, ([1, 2, 4, 5].into(), 4));
    assert_eq!(lake.dead_letters()?.len(), 1);
    Ok(())
}

async fn unwritable_warehouse_stops_the_start() -> TestResult {
    for name in ["warehouse", "dead-letters"] {
        let lake = Lake::new()?;
        fs::write(lake.path().join(name), "a file where a folder should be")?;
        let (code, _, err) = run(["serve", "--config", &lake.config("", ROWS)?.display().to_string()])?;
        assert_eq!(code, Some(1), "{err}");
        assert!(
            err.contains(&lake.path().join(name).display().to_string()),
            "{err}"
        );
    }
    Ok(())
}

async fn table_folder_that_is_a_file_refuses_its_table_only() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::serve(&lake.config("", "routes: [{ table: \"t.{subscription}\" }]")?).await?;
    let pusher = server.pusher();
    fs::create_dir_all(lake.table("t"))?;
    fs::write(lake.table("t.broken"), "a file where a folder should be")?;
    let pushes = [
        Push::new("broken", 1, "{\"id\":1}"),
        Push::new("good", 2, "{\"id\":2}"),
    ];
    assert_eq!(pusher.push_all(&pushes, 2).await, [503, 204]);
    server.logged(&["t.broken"]).await?;
    assert_eq!(lake.rows("t.good", "id")?, [json!({"id": 2})]);
    fs::remove_file(lake.table("t.broken"))?;
    wait_for("the table to be made", Duration::from_secs(60), async || {
        (pusher.push(&pushes[0]).await == 204).then_some(())
    })
    .await?;
    assert_eq!(lake.rows("t.broken", "id")?, [json!({"id": 1})]);
    Ok(())
}

async fn unwritable_dead_letters_keep_poison_unacknowledged() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::serve(&lake.config("", ROWS)?).await?;
    let letters = lake.path().join("dead-letters");
    fs::remove_dir(&letters)?;
    fs::write(&letters, "a file where a folder should be")?;
    let pusher = server.pusher();
    let mut undecodable = Push::new("rows", 5, "").body();
    undecodable["message"]["data"] = "?".into();
    let pushes: Vec<_> = (1..=3)
        .map(row)
        .chain([
            Push::new("rows", 4, "{\"id\":\"poison\"}"),
            // Good and bad in one delivery: neither is acknowledged, and the good row lands with the redelivery only.
            Push::new("rows", 6, "{\"id\":6}\n{\"id\":\"poison\"}"),
        ])
        .collect();
    assert_eq!(pusher.push_all(&pushes, 5).await, [204, 204, 204, 503, 503]);
    let answer = pusher
        .post("/", "application/json", undecodable.to_string())
        .await?;
    assert_eq!(answer.status().as_u16(), 503);
    assert_eq!(lake.ids("t.rows", "id")?, ([1, 2, 3].into(), 3));
    server.logged(&["ERROR"]).await?;
    assert!(!server.log().contains("poison"), "{}", server.log());

    fs::remove_file(&letters)?;
    assert_eq!(pusher.push_all(&pushes[3..], 5).await, [204, 204]);
    let answer = pusher
        .post("/", "application/json", undecodable.to_string())
        .await?;
    assert_eq!(answer.status().as_u16(), 204);
    assert_eq!(lake.ids("t.rows", "id")?, ([1, 2, 3, 6].into(), 4));
    let ids: Vec<Value> = lake
        .dead_letters()?
        .iter()
        .map(|letter| letter["position"].clone())
        .collect();
    assert_eq!(ids, [json!(0), Value::Null, json!(1)]);
    Ok(())
}
