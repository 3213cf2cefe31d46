//! One delivery into several tables: each record lands in the table that wants it, once, and the answer covers them all.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use libtest_mimic::Trial;
use rand::Rng;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::lake::{Lake, files};
use crate::support::push::Push;
use crate::support::readers::sort_by;
use crate::support::seed::seeded;
use crate::support::server::{Server, run};
use crate::support::{TestResult, note, trials};

const TABLES: &str = "tables:\n  \
    shop.orders: { from: [{ subscription: all, field: kind, equals: order }], batch: { commit_interval: 0s }, \
    schema: [{ name: id, type: long, required: true }] }\n  \
    shop.users: { from: [{ subscription: all, field: kind, equals: user }], batch: { commit_interval: 0s }, \
    schema: [{ name: id, type: long, required: true }] }\n";

pub fn tests() -> Vec<Trial> {
    trials![
        each_record_lands_where_it_is_wanted_once,
        refused_part_comes_again_and_the_others_are_dropped,
        nothing_lands_while_a_table_of_the_rules_cannot_be_asked,
        damaged_table_stops_only_what_has_a_part_for_it,
        killed_servers_land_every_part_once,
        parts_of_two_divisions_never_land_together,
        delivery_that_one_table_has_whole_is_found_there_by_other_rules,
        part_is_not_taken_for_the_whole_where_rules_end,
        delivery_that_no_rule_took_lands_once_by_later_rules,
        record_that_no_rule_took_is_no_letter_before_its_neighbours_landed,
        record_that_no_rule_took_lands_once_beside_its_neighbours,
        old_delivery_that_no_rule_took_lands_on_request_once,
        replayed_part_is_known_as_the_part_that_it_is,
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
            json!([null, null, "truncated"]),
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
    let payload = format!(
        "{}{}{}",
        record("order", 1),
        record("user", 2),
        record("other", 3)
    );
    let push = Push::new("all", 1, payload);
    refuse_one_part(&lake, TABLES, "shop.users", &push).await?;
    assert_eq!(lake.ids("shop.orders", "id")?, ([1, 100].into(), 2));
    let server = Server::serve(&lake.config("", TABLES)?).await?;
    for _ in 0..2 {
        assert_eq!(server.pusher().push(&push).await, 204);
    }
    assert_eq!(lake.ids("shop.orders", "id")?, ([1, 100].into(), 2));
    assert_eq!(lake.ids("shop.users", "id")?, ([2, 200].into(), 2));
    assert_eq!(lake.dead_letters()?.len(), 1);
    Ok(())
}

async fn nothing_lands_while_a_table_of_the_rules_cannot_be_asked() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLES)?;
    let mut server = Server::serve(&config).await?;
    fs::create_dir_all(lake.table("shop"))?;
    fs::write(lake.table("shop.users"), "a file where a folder should be")?;
    let both = Push::new("all", 1, format!("{}{}", record("order", 1), record("user", 2)));
    // It may be there whole, by rules of before.
    let order = Push::new("all", 2, record("order", 3));
    for _ in 0..2 {
        assert_eq!(server.pusher().push(&both).await, 503);
        assert_eq!(server.pusher().push(&order).await, 503);
    }
    assert!(!lake.table("shop.orders").exists());
    server.kill()?;
    fs::remove_file(lake.table("shop.users"))?;
    let server = Server::serve(&config).await?;
    assert_eq!(server.pusher().push(&both).await, 204);
    assert_eq!(server.pusher().push(&order).await, 204);
    assert_eq!(lake.ids("shop.orders", "id")?, ([1, 3].into(), 2));
    assert_eq!(lake.ids("shop.users", "id")?, ([2].into(), 1));
    Ok(())
}

async fn damaged_table_stops_only_what_has_a_part_for_it() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLES)?;
    let server = Server::serve(&config).await?;
    let metadata = lake.table("shop.users").join("metadata");
    fs::create_dir_all(&metadata)?;
    fs::write(metadata.join("v1.metadata.json"), "{")?;
    let both = Push::new("all", 1, format!("{}{}", record("order", 1), record("user", 2)));
    let order = Push::new("all", 2, record("order", 3));
    for _ in 0..2 {
        assert_eq!(server.pusher().push(&both).await, 503);
        assert_eq!(server.pusher().push(&order).await, 204);
        assert_eq!(lake.ids("shop.orders", "id")?, ([3].into(), 1));
    }
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
    let mut random = seeded();
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
            sleep(Duration::from_millis(random.random_range(100..700))).await;
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

/// The tables, the first of which takes these kinds, and the second those.
fn tables(orders: &[&str], users: &[&str]) -> String {
    let table = |name: &str, kinds: &[&str]| {
        let from = kinds
            .iter()
            .map(|kind| format!("{{ subscription: all, field: kind, equals: {kind} }}"));
        let from: Vec<String> = from.collect();
        format!(
            "  shop.{name}: {{ from: [{}], batch: {{ commit_interval: 0s }}, \
             schema: [{{ name: id, type: long, required: true }}] }}\n",
            from.join(", ")
        )
    };
    format!("tables:\n{}{}", table("orders", orders), table("users", users))
}

/// Refuses a delivery's part for one table by some rules, while the other lands, and ends the server.
async fn refuse_one_part(lake: &Lake, rules: &str, table: &str, push: &Push) -> TestResult {
    let config = lake.config("", rules)?;
    let mut server = Server::serve(&config).await?;
    let both = format!("{}{}", record("order", 100), record("user", 200));
    assert_eq!(server.pusher().push(&Push::new("all", 100, both)).await, 204);
    let (data, aside) = (lake.table(table).join("data"), lake.path().join("aside"));
    fs::rename(&data, &aside)?;
    fs::write(&data, "a file where a folder should be")?;
    assert_eq!(server.pusher().push(push).await, 503);
    server.kill()?;
    fs::remove_file(&data)?;
    Ok(fs::rename(&aside, &data)?)
}

fn kinds_of(letters: &[Value]) -> Vec<&str> {
    letters
        .iter()
        .filter_map(|letter| letter["reason"]["kind"].as_str())
        .collect()
}

async fn parts_of_two_divisions_never_land_together() -> TestResult {
    let gift_is_order = tables(&["order", "gift"], &["user"]);
    let gift_is_user = tables(&["order"], &["user", "gift"]);
    for (before, after, orders) in [
        (&gift_is_order, &gift_is_user, [1, 3, 100].as_slice()),
        (&gift_is_user, &gift_is_order, &[1, 100]),
    ] {
        let lake = Lake::new()?;
        let payload = format!("{}{}{}", record("order", 1), record("user", 2), record("gift", 3));
        let push = Push::new("all", 1, payload);
        refuse_one_part(&lake, before, "shop.users", &push).await?;
        let orders: BTreeSet<i64> = orders.iter().copied().collect();
        let count = orders.len();
        assert_eq!(lake.ids("shop.orders", "id")?, (orders.clone(), count));

        let config = lake.config("", after)?;
        let arguments = ["replay", "--config", &config.display().to_string()];
        let mut server = Server::serve(&config).await?;
        for _ in 0..2 {
            assert_eq!(server.pusher().push(&push).await, 204);
            let letters = lake.dead_letters()?;
            assert_eq!(kinds_of(&letters), ["redivided"]);
            assert_eq!(
                (&letters[0]["table"], &letters[0]["position"]),
                (&Value::Null, &Value::Null)
            );
            let message = letters[0]["reason"]["message"].as_str().unwrap_or_default();
            assert!(message.starts_with("shop.orders has a part"), "{message}");
        }
        server.terminate()?;
        assert!(server.exited().await?.success());
        let (code, out, err) = run(arguments)?;
        assert_eq!(code, Some(3), "{out}{err}");
        assert!(out.contains("redivided 1"), "{out}");
        assert_eq!(lake.ids("shop.orders", "id")?, (orders.clone(), count));
        assert_eq!(lake.ids("shop.users", "id")?, ([200].into(), 1));

        lake.config("", before)?;
        let (code, out, err) = run(arguments)?;
        assert_eq!(code, Some(0), "{out}{err}");
        let server = Server::serve(&config).await?;
        assert_eq!(server.pusher().push(&push).await, 204);
        drop(server);
        let users: BTreeSet<i64> = [1, 2, 3, 100, 200]
            .into_iter()
            .filter(|id| !orders.contains(id))
            .collect();
        let user_count = users.len();
        assert_eq!(lake.ids("shop.orders", "id")?, (orders, count));
        assert_eq!(lake.ids("shop.users", "id")?, (users, user_count));
        assert_eq!(
            (lake.dead_letters()?.len(), lake.letters_in("replayed")?.len()),
            (0, 1)
        );
    }
    Ok(())
}

async fn delivery_that_one_table_has_whole_is_found_there_by_other_rules() -> TestResult {
    let lake = Lake::new()?;
    let pushes = [
        Push::new("all", 1, record("gift", 1)),
        Push::new("all", 2, format!("{}{}", record("order", 2), record("gift", 3))),
        Push::new("all", 3, record("user", 4)),
    ];
    for rules in [
        tables(&["order", "gift"], &["user"]),
        tables(&["order"], &["user", "gift"]),
    ] {
        let config = lake.config("", &rules)?;
        let mut server = Server::serve(&config).await?;
        assert_eq!(server.pusher().push_all(&pushes, 3).await, [204; 3]);
        server.terminate()?;
        assert!(server.exited().await?.success());
        assert_eq!(lake.ids("shop.orders", "id")?, ([1, 2, 3].into(), 3));
        assert_eq!(lake.ids("shop.users", "id")?, ([4].into(), 1));
        assert_eq!(lake.dead_letters()?.len(), 0);
    }
    Ok(())
}

async fn part_is_not_taken_for_the_whole_where_rules_end() -> TestResult {
    let lake = Lake::new()?;
    let rules = tables(&["order"], &["user"]);
    let push = Push::new("all", 1, format!("{}{}", record("order", 1), record("user", 2)));
    refuse_one_part(&lake, &rules, "shop.users", &push).await?;
    let all = "tables:\n  shop.orders: { from: [{ subscription: all }], batch: { commit_interval: 0s } }\n";
    let config = lake.config("", all)?;
    let mut server = Server::serve(&config).await?;
    for _ in 0..2 {
        assert_eq!(server.pusher().push(&push).await, 204);
        assert_eq!(kinds_of(&lake.dead_letters()?), ["redivided"]);
        assert_eq!(lake.ids("shop.orders", "id")?, ([1, 100].into(), 2));
    }
    server.terminate()?;
    assert!(server.exited().await?.success());
    lake.config("", &rules)?;
    let (code, out, err) = run(["replay", "--config", &config.display().to_string()])?;
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(lake.ids("shop.orders", "id")?, ([1, 100].into(), 2));
    assert_eq!(lake.ids("shop.users", "id")?, ([2, 200].into(), 2));
    Ok(())
}

async fn pushed(config: &Path, push: &Push) -> TestResult {
    let mut server = Server::serve(config).await?;
    assert_eq!(server.pusher().push(push).await, 204);
    server.terminate()?;
    assert!(server.exited().await?.success());
    Ok(())
}

fn replayed(config: &Path, more: &[&str]) -> TestResult<Option<i32>> {
    let config = config.display().to_string();
    let (code, out, err) = run(["replay", "--config", &config].iter().chain(more))?;
    note(&format!("{out}{err}"));
    Ok(code)
}

async fn delivery_that_no_rule_took_lands_once_by_later_rules() -> TestResult {
    for replay_first in [true, false] {
        let lake = Lake::new()?;
        let config = lake.config("", &tables(&["order"], &["user"]))?;
        let push = Push::new("all", 1, format!("{}{}", record("gift", 1), record("gift", 2)));
        pushed(&config, &push).await?;
        let letters = lake.dead_letters()?;
        assert_eq!(kinds_of(&letters), ["no_route"]);
        assert_eq!(letters[0]["position"], Value::Null);
        assert_eq!(replayed(&config, &[])?, Some(3));
        lake.config("", &tables(&["order"], &["user", "gift"]))?;
        if replay_first {
            assert_eq!(replayed(&config, &[])?, Some(0));
        }
        pushed(&config, &push).await?;
        assert_eq!(replayed(&config, &[])?, Some(0));
        assert_eq!(lake.ids("shop.users", "id")?, ([1, 2].into(), 2));
        assert_eq!(
            (lake.dead_letters()?.len(), lake.letters_in("replayed")?.len()),
            (0, 1)
        );
    }
    Ok(())
}

async fn record_that_no_rule_took_is_no_letter_before_its_neighbours_landed() -> TestResult {
    let lake = Lake::new()?;
    let push = Push::new("all", 1, format!("{}{}", record("order", 1), record("gift", 2)));
    refuse_one_part(&lake, &tables(&["order"], &["user"]), "shop.orders", &push).await?;
    assert_eq!(lake.dead_letters()?.len(), 0);
    let config = lake.config("", &tables(&["order"], &["user", "gift"]))?;
    pushed(&config, &push).await?;
    assert_eq!(replayed(&config, &[])?, Some(0));
    assert_eq!(lake.ids("shop.orders", "id")?, ([1, 100].into(), 2));
    assert_eq!(lake.ids("shop.users", "id")?, ([2, 200].into(), 2));
    Ok(())
}

async fn record_that_no_rule_took_lands_once_beside_its_neighbours() -> TestResult {
    let lake = Lake::new()?;
    let (before, after) = (
        tables(&["order"], &["user"]),
        tables(&["order"], &["user", "gift"]),
    );
    let config = lake.config("", &before)?;
    let push = Push::new("all", 1, format!("{}{}", record("order", 1), record("gift", 2)));
    pushed(&config, &push).await?;
    assert_eq!(kinds_of(&lake.dead_letters()?), ["no_route"]);
    lake.config("", &after)?;
    // The copy is known to be divided otherwise; the letter alone lands.
    pushed(&config, &push).await?;
    let mut kinds = lake.dead_letters()?;
    sort_by(&mut kinds, "reason");
    assert_eq!(kinds_of(&kinds), ["no_route", "redivided"]);
    for _ in 0..2 {
        assert_eq!(replayed(&config, &[])?, Some(3));
        assert_eq!(lake.ids("shop.users", "id")?, ([2].into(), 1));
        assert_eq!(kinds_of(&lake.dead_letters()?), ["redivided"]);
    }
    // By its own rules it is there but for the record, which is the letter that it was.
    lake.config("", &before)?;
    assert_eq!(replayed(&config, &[])?, Some(3));
    assert_eq!(kinds_of(&lake.dead_letters()?), ["no_route"]);
    lake.config("", &after)?;
    assert_eq!(replayed(&config, &[])?, Some(0));
    assert_eq!(lake.ids("shop.orders", "id")?, ([1].into(), 1));
    assert_eq!(lake.ids("shop.users", "id")?, ([2].into(), 1));
    Ok(())
}

async fn old_delivery_that_no_rule_took_lands_on_request_once() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", &tables(&["order"], &["user"]))?;
    let old = |id: i64, payload: String| {
        Push::new("all", id, payload).published_at(Utc::now() - TimeDelta::days(9))
    };
    pushed(
        &config,
        &old(1, format!("{}{}", record("gift", 1), record("card", 2))),
    )
    .await?;
    // A table that had a newer message has forgotten what was nine days ago; the other has not.
    pushed(&config, &Push::new("all", 2, record("order", 100))).await?;
    lake.config("", &tables(&["order", "gift"], &["user", "card"]))?;
    for options in [&[][..], &["--too-old"], &["--too-old"]] {
        let lands = !options.is_empty();
        assert_eq!(replayed(&config, options)?, Some(if lands { 0 } else { 3 }));
        let orders: BTreeSet<i64> = if lands { [1, 100].into() } else { [100].into() };
        let count = orders.len();
        assert_eq!(lake.ids("shop.orders", "id")?, (orders, count));
        assert_eq!(lake.ids("shop.users", "id")?, ([2].into(), 1));
    }
    Ok(())
}

async fn replayed_part_is_known_as_the_part_that_it_is() -> TestResult {
    let lake = Lake::new()?;
    let rules = format!(
        "{}  shop.zrest: {{ from: [{{ subscription: all }}] }}\n",
        tables(&["order"], &["user"])
    );
    // Before there is a table for it, nothing tells the columns of the rest.
    let push = Push::new("all", 1, format!("{}{{\"x\":null}}", record("order", 1)));
    refuse_one_part(&lake, &rules, "shop.orders", &push).await?;
    assert_eq!(kinds_of(&lake.dead_letters()?), ["no_schema"]);
    let config = lake.config("", &rules)?;
    pushed(&config, &Push::new("all", 2, "{\"x\":5}")).await?;
    assert_eq!(replayed(&config, &[])?, Some(0));
    pushed(&config, &push).await?;
    assert_eq!(lake.ids("shop.orders", "id")?, ([1, 100].into(), 2));
    assert_eq!(lake.ids("shop.zrest", "x")?, ([5].into(), 2));
    assert_eq!(lake.dead_letters()?.len(), 0);
    Ok(())
}
