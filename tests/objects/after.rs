//! What becomes of objects that landed: kept, moved, deleted; a newer one of the name is never touched.

use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::json;

use super::bucket::Put;
use super::keeper::{Instead, Keeper};
use super::site::{Site, large, outcome, rows};
use crate::support::readers::undocumented;
use crate::support::server::Server;
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        landed_objects_are_moved_and_their_copies_passed_over,
        landed_objects_are_deleted_and_nothing_else,
        object_that_is_written_anew_meanwhile_stays,
        object_that_could_not_be_put_away_comes_again_until_it_is,
        object_that_may_not_be_put_away_is_acknowledged_and_stays,
        large_object_is_copied_piece_by_piece,
        only_copies_of_what_is_moved_are_passed_over,
        object_of_ones_own_under_landed_lands_and_its_copy_does_not,
        killed_before_it_puts_away_it_does_so_the_next_time,
    ]
}

const NOTHING: [&str; 0] = [];

/// A server whose objects are put away so, behind a front that has Google's preconditions.
async fn site(after: &str, ack_deadline: &str) -> TestResult<(Site, Keeper)> {
    let mut site = Site::new().await?;
    let keeper = Keeper::before(site.landing.server()).await?;
    site.endpoint = keeper.url();
    site.configure_tables(ack_deadline, &format!("after: {after}, "))?;
    Ok((site, keeper))
}

async fn push(server: &Server, put: &Put, message_id: &str) -> u16 {
    server.pusher().push(&put.notification(message_id)).await
}

async fn landed_objects_are_moved_and_their_copies_passed_over() -> TestResult {
    let (site, keeper) = site("move", "60s").await?;
    let server = site.serve().await?;
    let (text, count) = large(0);
    let name = "orders/größe 1/a+b.json";
    let puts = [
        site.landing.put("orders/large.json", text.clone()).await?,
        site.landing.put(name, rows(5000..5003)).await?,
        site.landing.put("orders/empty.json", "").await?,
    ];
    for put in &puts {
        assert_eq!(push(&server, put, "1").await, 204);
        assert_eq!(site.landing.generation(put.name()).await?, None, "{}", put.name());
        let moved = format!("landed/{}/{}", put.generation(), put.name());
        let copy = site.landing.copy_of(&moved).await?;
        // The copy's own event, and the first one again.
        assert_eq!(push(&server, &copy, "2").await, 204);
        assert_eq!(push(&server, put, "3").await, 204);
        assert!(site.landing.generation(&moved).await?.is_some());
    }
    let moved = format!("landed/{}/orders/large.json", puts[0].generation());
    assert_eq!(site.landing.bytes(&moved).await?, text.as_bytes());
    assert_eq!(
        (
            outcome(&server, "put_away").await?,
            outcome(&server, "copy").await?
        ),
        (3, 3)
    );
    // The empty one left nothing to know it by.
    assert_eq!(outcome(&server, "landed_before").await?, 2);
    assert_eq!(outcome(&server, "gone").await?, 1);
    let (ids, row_count) = site.ids()?;
    assert_eq!((ids.len(), row_count), (count as usize + 3, count as usize + 3));
    assert!(site.lake.dead_letters()?.is_empty());
    // One copy and one deletion each, both for that generation alone.
    let seen = keeper.changes();
    assert_eq!(seen.len(), 6, "{seen:?}");
    for (put, pair) in puts.iter().zip(seen.chunks(2)) {
        let generation = put.generation();
        assert_eq!(pair[0].method, "POST");
        assert!(
            pair[0]
                .path
                .contains(&format!("sourceGeneration={generation}&ifGenerationMatch=0&"))
        );
        assert_eq!(pair[1].method, "DELETE");
        assert!(
            pair[1]
                .path
                .ends_with(&format!("?ifGenerationMatch={generation}"))
        );
    }
    // As Google documents them, those that read included.
    assert_eq!(undocumented("storage.v1", &keeper.seen())?, NOTHING);
    Ok(())
}

async fn landed_objects_are_deleted_and_nothing_else() -> TestResult {
    let (site, keeper) = site("delete", "60s").await?;
    let server = site.serve().await?;
    let landed = site
        .landing
        .put("orders/1.json", format!("{}no\n", rows(0..3)))
        .await?;
    let (elsewhere, marker) = (
        site.landing.put("invoices/1.json", rows(0..3)).await?,
        site.landing.put("orders/", "").await?,
    );
    let broken: Vec<u8> = vec![0x80; 70 << 20];
    let unloadable = site.landing.put("orders/broken.json", broken).await?;
    for put in [&landed, &elsewhere, &marker, &unloadable] {
        assert_eq!(push(&server, put, "1").await, 204, "{}", put.name());
    }
    let told_less = marker
        .notification("2")
        .attribute("payloadFormat", "NONE")
        .without_data();
    assert_eq!(server.pusher().push(&told_less).await, 204);
    assert_eq!(site.landing.generation("orders/1.json").await?, None);
    // What is in the bucket alone stays there.
    for put in [&elsewhere, &marker, &unloadable] {
        assert!(
            site.landing.generation(put.name()).await?.is_some(),
            "{}",
            put.name()
        );
    }
    assert_eq!(keeper.changes().len(), 1);
    assert_eq!(site.ids()?, ((0..3).collect(), 3));
    assert_eq!(site.lake.dead_letters()?.len(), 3);
    Ok(())
}

async fn object_that_is_written_anew_meanwhile_stays() -> TestResult {
    for after in ["move", "delete"] {
        let (site, keeper) = site(after, "60s").await?;
        let server = site.serve().await?;
        let old = site.landing.put("orders/1.json", rows(0..3)).await?;
        let name = "orders/1.json";
        keeper.next(Instead::After {
            name,
            bytes: rows(3..6),
        });
        assert_eq!(push(&server, &old, "1").await, 204, "{after}");
        let newer = site.landing.copy_of(name).await?;
        assert_ne!(newer.generation(), old.generation(), "{after}");
        assert_eq!(push(&server, &newer, "2").await, 204, "{after}");
        assert_eq!(site.landing.generation(name).await?, None, "{after}");
        assert_eq!(site.ids()?, ((0..6).collect(), 6), "{after}");
    }
    Ok(())
}

async fn object_that_could_not_be_put_away_comes_again_until_it_is() -> TestResult {
    for (after, requests) in [("delete", 1), ("move", 2)] {
        let (site, keeper) = site(after, "16s").await?;
        let server = site.serve().await?;
        let first = site.landing.put("orders/1.json", rows(0..3)).await?;
        // Tried again by us, for a while.
        for status in [503, 429, 401] {
            keeper.next(Instead::Answer(status));
        }
        keeper.next(Instead::DoneUnsaid);
        assert_eq!(push(&server, &first, "1").await, 204, "{after}");
        assert_eq!(site.landing.generation("orders/1.json").await?, None, "{after}");
        assert_eq!(
            keeper.changes().len(),
            4 + requests,
            "{after}: {:?}",
            keeper.changes()
        );
        // And by who sent it.
        let second = site.landing.put("orders/2.json", rows(3..6)).await?;
        keeper.next(Instead::Silence);
        assert_eq!(push(&server, &second, "2").await, 503, "{after}");
        assert!(
            site.landing.generation("orders/2.json").await?.is_some(),
            "{after}"
        );
        assert_eq!(push(&server, &second, "2").await, 204, "{after}");
        assert_eq!(site.landing.generation("orders/2.json").await?, None, "{after}");
        assert_eq!(outcome(&server, "refused").await?, 1, "{after}");
        assert_eq!(site.ids()?, ((0..6).collect(), 6), "{after}");
    }
    Ok(())
}

async fn object_that_may_not_be_put_away_is_acknowledged_and_stays() -> TestResult {
    // A rule of the organisation forbids copies with the status that a copy has which is there.
    for (after, status, advice) in [
        ("delete", 403, "roles/storage.objectUser"),
        ("move", 403, "roles/storage.objectUser"),
        ("move", 412, "cannot be put away"),
    ] {
        let (site, keeper) = site(after, "60s").await?;
        let server = site.serve().await?;
        let put = site.landing.put("orders/1.json", rows(0..3)).await?;
        keeper.next(Instead::Answer(status));
        assert_eq!(push(&server, &put, "1").await, 204, "{after} {status}");
        assert!(
            site.landing.generation("orders/1.json").await?.is_some(),
            "{after} {status}"
        );
        assert_eq!(outcome(&server, "stays").await?, 1);
        assert_eq!(keeper.changes().len(), 1, "nothing is deleted");
        server.logged(&["stays where it is", advice]).await?;
        assert_eq!(site.ids()?, ((0..3).collect(), 3));
    }
    Ok(())
}

/// Between storage classes the bytes themselves have to move.
async fn large_object_is_copied_piece_by_piece() -> TestResult {
    let (site, keeper) = site("move", "60s").await?;
    let server = site.serve().await?;
    let put = site.landing.put("orders/1.json", rows(0..3)).await?;
    keeper.next(Instead::Begun("one"));
    keeper.next(Instead::Begun("two"));
    assert_eq!(push(&server, &put, "1").await, 204);
    let tokens: Vec<Option<String>> = keeper
        .changes()
        .iter()
        .map(|sent| Some(sent.path.split_once("rewriteToken=")?.1.to_owned()))
        .collect();
    assert_eq!(
        tokens,
        [None, Some("one".to_owned()), Some("two".to_owned()), None]
    );
    let moved = format!("landed/{}/orders/1.json", put.generation());
    assert_eq!(site.landing.bytes(&moved).await?, rows(0..3).as_bytes());
    assert_eq!(site.landing.generation("orders/1.json").await?, None);
    Ok(())
}

/// The copy's mark decides, not the name, nor what takes objects.
async fn only_copies_of_what_is_moved_are_passed_over() -> TestResult {
    let (site, _keeper) = site("move", "60s").await?;
    let bucket = &site.landing.name;
    let tables = format!(
        "tables:\n  shop.all: {{ schema: [{{ name: id, type: long }}], after: move }}\n  shop.orders: {{ from: [{{ bucket: \
         {bucket}, objects: \"landed/own/**\" }}], schema: [{{ name: id, type: long }}] }}\nroutes:\n  - {{ bucket: {bucket}, \
         objects: \"in/**\", table: shop.all }}\n"
    );
    site.lake.config("ack_deadline: 60s", &tables)?;
    let server = site.serve().await?;
    // A route's table has its own keys.
    let routed = site.landing.put("in/1.json", rows(0..3)).await?;
    assert_eq!(push(&server, &routed, "1").await, 204);
    let copy = site
        .landing
        .copy_of(&format!("landed/{}/in/1.json", routed.generation()))
        .await?;
    assert_eq!(push(&server, &copy, "2").await, 204);
    assert_eq!(site.lake.ids("shop.all", "id")?, ((0..3).collect(), 3));
    // What somebody else put there is an object as any other.
    let own = site.landing.put("landed/own/1.json", rows(0..3)).await?;
    assert_eq!(push(&server, &own, "3").await, 204);
    assert_eq!(site.ids()?, ((0..3).collect(), 3));
    let unwanted = site.landing.put("landed/17/other/1.json", rows(0..3)).await?;
    assert_eq!(push(&server, &unwanted, "4").await, 204);
    assert_eq!(site.lake.dead_letters()?.len(), 1);
    assert_eq!(outcome(&server, "copy").await?, 1);
    Ok(())
}

/// A producer may have folders of days there, and its objects go where moved ones do.
async fn object_of_ones_own_under_landed_lands_and_its_copy_does_not() -> TestResult {
    let (site, keeper) = site("move", "60s").await?;
    let bucket = &site.landing.name;
    let tables = format!(
        "tables:\n  shop.orders: {{ from: [{{ bucket: {bucket}, objects: \"**\" }}], after: move, batch: {{ \
         commit_interval: 0s }}, schema: [{{ name: id, type: long }}] }}\n"
    );
    site.lake.config("ack_deadline: 60s", &tables)?;
    let server = site.serve().await?;
    let resource = json!({ "contentType": "text/x-orders", "metadata": { "till": "7" } });
    let own = site
        .landing
        .put_as("landed/20261122/x.json", &resource, rows(0..3));
    let empty = site.landing.put("landed/20261122/empty.json", "");
    // A copy that somebody takes back, its mark and all, is an object again.
    let again = json!({ "metadata": { "landfast-moved-generation": "1" } });
    let again = site
        .landing
        .put_as("landed/20261122/again.json", &again, rows(3..5));
    for put in [own.await?, empty.await?, again.await?] {
        assert_eq!(push(&server, &put, "1").await, 204, "{}", put.name());
        assert_eq!(site.landing.generation(put.name()).await?, None, "{}", put.name());
        let moved = format!("landed/{}/{}", put.generation(), put.name());
        let copy = site.landing.copy_of(&moved).await?;
        let told_less = copy
            .notification("2")
            .attribute("payloadFormat", "NONE")
            .without_data();
        assert_eq!(server.pusher().push(&told_less).await, 204, "{moved}");
        assert!(site.landing.generation(&moved).await?.is_some(), "{moved}");
        let mark = &copy.member("metadata")["landfast-moved-generation"];
        assert_eq!(mark, put.generation(), "{moved}");
    }
    assert_eq!(site.ids()?, ((0..5).collect(), 5));
    assert_eq!(outcome(&server, "copy").await?, 3);
    assert!(site.lake.dead_letters()?.is_empty());
    // Nothing that people set is lost.
    let sent = keeper.changes()[0].body.clone().unwrap_or_default();
    assert_eq!(sent["contentType"], "text/x-orders");
    assert_eq!(sent["metadata"]["till"], "7");
    assert_eq!(undocumented("storage.v1", &keeper.seen())?, NOTHING);
    Ok(())
}

async fn killed_before_it_puts_away_it_does_so_the_next_time() -> TestResult {
    for after in ["delete", "move"] {
        let (site, keeper) = site(after, "60s").await?;
        let mut server = site.serve().await?;
        let put = site.landing.put("orders/1.json", rows(0..3)).await?;
        if after == "move" {
            // The copy is made, nobody is told, and the deletion is never sent.
            keeper.next(Instead::DoneUnsaid);
        }
        keeper.next(Instead::Silence);
        let pusher = server.pusher();
        let notification = put.notification("1");
        let pushing = tokio::spawn(async move { pusher.push(&notification).await });
        let requests = if after == "move" { 2 } else { 1 };
        let until = Duration::from_secs(60);
        wait_for("the request", until, async || {
            (keeper.changes().len() >= requests).then_some(())
        })
        .await?;
        server.kill()?;
        assert_eq!(pushing.await?, 0);
        assert_eq!(site.ids()?, ((0..3).collect(), 3), "committed before");
        let server = site.serve().await?;
        assert_eq!(push(&server, &put, "1").await, 204, "{after}");
        assert_eq!(site.landing.generation("orders/1.json").await?, None, "{after}");
        assert_eq!(site.ids()?, ((0..3).collect(), 3), "{after}");
    }
    Ok(())
}
