//! One delivery into several tables: each record lands in the table that wants it, once, and the answer covers them all.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use libtest_mimic::Trial;
use rand::Rng;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::lake::{Lake, files};
use crate::support::push::Push;
use crate::support::server::{Server, run};
use crate::support::{TestResult, note, trials, wait_for};

const TABLES: &str = "tables:\n  \
    shop.orders: { from: [{ subscription: all, field: kind, equals: order }], batch: { commit_interval: 0s }, \
    schema: [{ name: id, type: long, required: true }] }\n  \
    shop.users: { from: [{ subscription: all, field: kind, equals: user }], batch: { commit_interval: 0s }, \
    schema: [{ name: id, type: long, required: true }] }\n";

pub fn tests() -> Vec<Trial> {
    trials![
        each_record_lands_where_it_is_wanted_once,
        refused_part_comes_again_and_the_others_are_dropped,
        killed_servers_land_every_part_once,
    ]
}

fn record(kind: &str, id: i64) -> String {
    format!("{{\"kind\":\"{kind}\",\"id\":{id}}}\n")
}

async fn each_record_lands_where_it_is_wanted_once() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLES)?;
    let payload = [
        record("order", 1),
        record("user", 2),
        record("other", 3),
        "{\"id\":\"x\",\"kind\":\"order\"}\n".to_owned(),
        record("order", 5),
        "{\"kind\":\"user\"\n".to_owned(),
    ];
    let push = Push::new("all", 1, payload.concat());
    let only = [
        Push::new("all", 2, record("user", 6)),
        Push::new("all", 3, "["),
        Push::new("all", 4, "[]"),
    ];
    let mut server = Server::serve(&config).await?;
    for _ in 0..2 {
        assert_eq!(server.pusher().push(&push).await, 204);
        assert_eq!(server.pusher().push_all(&only, 3).await, [204; 3]);
        assert_eq!(lake.ids("shop.orders", "id")?, ([1, 5].into(), 2));
        assert_eq!(lake.ids("shop.users", "id")?, ([2, 6].into(), 2));
        let letters = lake.dead_letters()?;
        let told = |letter: &Value| json!([letter["table"], letter["position"], letter["reason"]["kind"]]);
        let found: BTreeSet<String> = letters.iter().map(|letter| told(letter).to_string()).collect();
        let expected = [
            json!([null, 2, "no_route"]),
            json!(["shop.orders", 3, "wrong_type"]),
            json!([null, 5, "truncated"]),
            json!([null, 0, "truncated"]),
        ];
        assert_eq!(letters.len(), expected.len(), "{letters:?}");
        assert_eq!(found, expected.iter().map(Value::to_string).collect());
    }
    // Found again once in each table.
    let (_, metrics) = server.pusher().get("/metrics").await?;
    for (table, copies) in [("shop.orders", "1"), ("shop.users", "2")] {
        let line = format!("landfast_duplicates_total{{table=\"{table}\",reason=\"landed\"}} {copies}");
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
    server.terminate()?;
    assert!(server.exited().await?.success());

    // A table for the rest: what nobody wanted goes there, once.
    let rest = "  shop.rest: { from: [{ subscription: all }], schema: [{ name: id, type: long, required: true }] }\n";
    let config = lake.config("", &format!("{TABLES}{rest}"))?;
    for _ in 0..2 {
        let (code, out, err) = run(["replay", "--config", &config.display().to_string()])?;
        assert_eq!(code, Some(3), "{out}{err}");
        assert_eq!(lake.ids("shop.rest", "id")?, ([3].into(), 1));
    }
    assert_eq!(lake.letters_in("replayed")?.len(), 0, "its neighbour is broken");
    Ok(())
}

async fn refused_part_comes_again_and_the_others_are_dropped() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLES)?;
    let mut server = Server::serve(&config).await?;
    fs::create_dir_all(lake.table("shop"))?;
    fs::write(lake.table("shop.users"), "a file where a folder should be")?;
    let payload = format!(
        "{}{}{}",
        record("order", 1),
        record("user", 2),
        record("other", 3)
    );
    let push = Push::new("all", 1, payload);
    for _ in 0..2 {
        assert_eq!(server.pusher().push(&push).await, 503);
        assert_eq!(lake.ids("shop.orders", "id")?, ([1].into(), 1));
    }
    server.kill()?;
    fs::remove_file(lake.table("shop.users"))?;
    let server = Server::serve(&config).await?;
    let landed = wait_for("the delivery to land", Duration::from_secs(10), async || {
        (server.pusher().push(&push).await == 204).then_some(())
    });
    landed.await?;
    assert_eq!(server.pusher().push(&push).await, 204);
    assert_eq!(lake.ids("shop.orders", "id")?, ([1].into(), 1));
    assert_eq!(lake.ids("shop.users", "id")?, ([2].into(), 1));
    assert_eq!(lake.dead_letters()?.len(), 1);
    Ok(())
}

async fn killed_servers_land_every_part_once() -> TestResult {
    const PUSHES: i64 = 400;
    let lake = Lake::new()?;
    let config = lake.config("", TABLES)?;
    let push = |id: i64| {
        let bad = "{\"kind\":\"user\",\"id\":\"x\"}\n";
        Push::new(
            "all",
            id,
            format!("{}{bad}{}", record("order", id), record("user", id)),
        )
    };
    let mut missing: BTreeSet<i64> = (0..PUSHES).collect();
    for round in 0.. {
        let mut server = Server::serve(&config).await?;
        let ids: Vec<i64> = missing.iter().copied().collect();
        let pushes: Vec<Push> = ids.iter().map(|id| push(*id)).collect();
        let pusher = server.pusher();
        let is_last = round == 8;
        let (statuses, killed) = tokio::join!(pusher.push_all(&pushes, 16), async {
            if is_last {
                return Ok(());
            }
            sleep(Duration::from_millis(rand::rng().random_range(100..700))).await;
            server.kill()
        });
        killed?;
        let answered = ids.iter().zip(statuses).filter(|(_, status)| *status == 204);
        for (id, _) in answered {
            missing.remove(id);
        }
        note(&format!("round {round}: {} of {PUSHES} missing", missing.len()));
        if is_last {
            break;
        }
    }
    assert_eq!(missing, BTreeSet::new());
    let all: BTreeSet<i64> = (0..PUSHES).collect();
    for table in ["shop.orders", "shop.users"] {
        assert_eq!(
            lake.ids(table, "id")?,
            (all.clone(), usize::try_from(PUSHES)?),
            "{table}"
        );
    }
    let lettered: BTreeSet<String> = lake
        .dead_letters()?
        .iter()
        .map(|letter| letter["delivery_id"].to_string())
        .collect();
    assert_eq!((lettered.len(), lake.dead_letters()?.len()), (400, 400));
    let waiting = files(&lake.path().join("dead-letters/pending"))?;
    note(&format!(
        "{} letters of attempts that never landed",
        waiting.len()
    ));
    Ok(())
}
