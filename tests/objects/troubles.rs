//! Connections that break or fall silent, answers that cannot be trusted, kills, stops, and a load that takes the room.

use std::fs;
use std::time::Duration;

use libtest_mimic::Trial;
use rand::Rng;
use serde_json::json;

use super::bucket::{AWAY, BUSY, FORBIDDEN, Front, NOT_FOUND, Trouble};
use super::site::{Site, large, outcome, rows};
use crate::support::push::Push;
use crate::support::seed::seeded;
use crate::support::server::run;
use crate::support::{TestResult, gzip, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        broken_connections_are_gone_on_with,
        damaged_bytes_never_land,
        answer_that_does_not_say_what_it_is_lands_nothing,
        storage_that_falls_silent_holds_nothing_up,
        one_large_object_at_a_time_leaves_room_for_messages,
        stopping_server_lets_a_load_end,
        object_that_may_not_be_read_comes_again,
        not_found_by_another_than_cloud_storage_is_not_gone,
        busy_bucket_is_asked_again_for_a_while,
        packed_object_lands_only_as_it_is_stored,
        letters_of_an_object_that_is_gone_count,
        killed_server_lands_objects_once,
    ]
}

/// The server's connections break in the middle of answers.
async fn broken_connections_are_gone_on_with() -> TestResult {
    let mut site = Site::new().await?;
    let front = Front::start(site.landing.server()).await?;
    site.endpoint = front.url();
    let server = site.serve().await?;
    for at in [400_000, 1_500_000, 2_000_000] {
        front.next(Trouble::Cut(at));
    }
    let (text, count) = large(0);
    let put = site.landing.put("orders/large.json", text).await?;
    assert_eq!(server.pusher().push(&put.notification("1")).await, 204);
    assert_eq!(front.left(), 0);
    assert_eq!(site.ids()?, ((0..count).collect(), count as usize));
    Ok(())
}

async fn damaged_bytes_never_land() -> TestResult {
    let mut site = Site::new().await?;
    let front = Front::start(site.landing.server()).await?;
    site.endpoint = front.url();
    let server = site.serve().await?;
    let (text, count) = large(0);
    // In the middle of the filler: the JSON is as good as before.
    front.next(Trouble::Flip(text.len() / 2));
    let put = site.landing.put("orders/large.json", text).await?;
    assert_eq!(server.pusher().push(&put.notification("1")).await, 503);
    assert_eq!(front.left(), 0);
    assert_eq!(server.pusher().push(&put.notification("1")).await, 204);
    assert_eq!(site.ids()?, ((0..count).collect(), count as usize));
    Ok(())
}

/// A proxy that takes headers away must not make a full object an empty one, or one without a sum to check.
async fn answer_that_does_not_say_what_it_is_lands_nothing() -> TestResult {
    let mut site = Site::new().await?;
    let front = Front::start(site.landing.server()).await?;
    site.endpoint = front.url();
    let put = site.landing.put("orders/1.json", rows(0..3)).await?;
    for (header, other) in [
        ("x-goog-stored-content-length", "x-some-stored-content-length"),
        ("x-goog-hash", "x-some-hash"),
    ] {
        let mut server = site.serve().await?;
        front.next(Trouble::Rename(header, other));
        assert_eq!(
            server.pusher().push(&put.notification("1")).await,
            503,
            "{header}"
        );
        assert_eq!(outcome(&server, "refused").await?, 1);
        server.kill()?;
    }
    let server = site.serve().await?;
    assert_eq!(server.pusher().push(&put.notification("1")).await, 204);
    assert_eq!(site.ids()?, ([0, 1, 2].into(), 3));
    Ok(())
}

/// Whatever waits for it ends with the delivery's time.
async fn storage_that_falls_silent_holds_nothing_up() -> TestResult {
    let mut site = Site::new().await?;
    site.configure("10s")?;
    let front = Front::start(site.landing.server()).await?;
    site.endpoint = front.url();
    let mut server = site.serve().await?;
    let (text, count) = large(0);
    let put = site.landing.put("orders/large.json", text).await?;
    let small = site.landing.put("orders/small.json", rows(5000..5003)).await?;
    for (put, at) in [(&put, 1_000_000), (&small, 100), (&put, 300)] {
        front.next(Trouble::Hang(at));
        assert_eq!(server.pusher().push(&put.notification("1")).await, 503, "{at}");
        let push = Push::new("orders", at, format!("{{\"id\":{at}}}"));
        assert_eq!(server.pusher().push(&push).await, 204);
    }
    assert_eq!(front.left(), 0);
    server.metric_is("landfast_held_bytes", 0.0).await?;
    let pushes = [put.notification("1"), small.notification("1")];
    assert_eq!(server.pusher().push_all(&pushes, 1).await, [204, 204]);
    assert_eq!(site.ids()?.1, count as usize + 6);
    // No thread is left that waits: a process that has one ends late.
    server.terminate()?;
    assert!(server.exited().await?.success());
    Ok(())
}

async fn one_large_object_at_a_time_leaves_room_for_messages() -> TestResult {
    let mut site = Site::new().await?;
    let front = Front::start(site.landing.server()).await?;
    site.endpoint = front.url();
    let server = site.serve().await?;
    let (text, count) = large(0);
    let first = site.landing.put("orders/1.json", text.clone()).await?;
    let (text, more) = large(count);
    let second = site.landing.put("orders/2.json", text).await?;
    front.next(Trouble::Hang(1_000_000));
    let (pusher, push) = (server.pusher(), first.notification("1"));
    let loading = tokio::spawn(async move { pusher.push(&push).await });
    wait_for("the load to begin", Duration::from_secs(20), async || {
        (front.left() == 0).then_some(())
    })
    .await?;
    // It has room of its own, as have messages.
    assert_eq!(server.pusher().push(&second.notification("2")).await, 429);
    let state = site.told(&server).await?["state"].take();
    assert_ne!(state, "failing", "no room is no failure of the table");
    let push = Push::new("orders", 3, "{\"id\":100000}");
    assert_eq!(server.pusher().push(&push).await, 204);
    loading.abort();
    drop(front);
    site.endpoint = site.landing.server().to_owned();
    drop(server);
    let server = site.serve().await?;
    let pushes = [first.notification("1"), second.notification("2")];
    assert_eq!(server.pusher().push_all(&pushes, 1).await, [204, 204]);
    assert_eq!(site.ids()?.1, (count + more) as usize + 1);
    Ok(())
}

async fn stopping_server_lets_a_load_end() -> TestResult {
    let site = Site::new().await?;
    let mut server = site.serve().await?;
    let (text, count) = large(0);
    let put = site.landing.put("orders/large.json", text).await?;
    let (pusher, push) = (server.pusher(), put.notification("1"));
    let loading = tokio::spawn(async move { pusher.push(&push).await });
    wait_for("the load to begin", Duration::from_secs(20), async || {
        let held = server.metric("landfast_held_bytes").await.ok()?;
        (held > 0.0).then_some(())
    })
    .await?;
    server.terminate()?;
    assert_eq!(loading.await?, 204);
    assert!(server.exited().await?.success());
    assert_eq!(site.ids()?, ((0..count).collect(), count as usize));
    Ok(())
}

async fn object_that_may_not_be_read_comes_again() -> TestResult {
    let mut site = Site::new().await?;
    let front = Front::start(site.landing.server()).await?;
    site.endpoint = front.url();
    let server = site.serve().await?;
    let put = site.landing.put("orders/1.json", rows(0..3)).await?;
    front.next(Trouble::Answer(FORBIDDEN));
    assert_eq!(server.pusher().push(&put.notification("1")).await, 503);
    server
        .logged(&["roles/storage.objectViewer", "orders/1.json"])
        .await?;
    assert_eq!(site.told(&server).await?["state"], "failing");
    assert_eq!(server.pusher().push(&put.notification("1")).await, 204);
    assert_eq!(site.told(&server).await?["state"], "open");
    assert_eq!(site.ids()?, ([0, 1, 2].into(), 3));
    assert!(site.lake.dead_letters()?.is_empty());
    Ok(())
}

/// A 404 may be anybody's: of a proxy, or of a server that knows no such path.
async fn not_found_by_another_than_cloud_storage_is_not_gone() -> TestResult {
    let mut site = Site::new().await?;
    let front = Front::start(site.landing.server()).await?;
    site.endpoint = front.url();
    let server = site.serve().await?;
    let put = site.landing.put("orders/1.json", rows(0..3)).await?;
    let own = site.landing.put("landed/7/1.json", rows(0..3)).await?;
    // Whatever is asked, and then the object alone.
    for (count, advice) in [(2, "speaks the JSON API"), (1, "lists the object")] {
        for put in [&put, &own] {
            for _ in 0..count {
                front.next(Trouble::Answer(NOT_FOUND));
            }
            assert_eq!(
                server.pusher().push(&put.notification("1")).await,
                503,
                "{advice}"
            );
            assert_eq!(front.left(), 0);
        }
    }
    server.logged(&["speaks the JSON API", "orders/1.json"]).await?;
    assert_eq!(outcome(&server, "gone").await?, 0);
    assert_eq!(outcome(&server, "refused").await?, 4);
    assert_eq!(server.pusher().push(&put.notification("1")).await, 204);
    assert_eq!(site.ids()?, ([0, 1, 2].into(), 3));
    Ok(())
}

async fn busy_bucket_is_asked_again_for_a_while() -> TestResult {
    let mut site = Site::new().await?;
    site.configure("20s")?;
    let front = Front::start(site.landing.server()).await?;
    site.endpoint = front.url();
    let server = site.serve().await?;
    let (text, count) = large(0);
    let puts = [
        site.landing.put("orders/large.json", text).await?,
        site.landing.put("orders/small.json", rows(5000..5003)).await?,
    ];
    for put in &puts {
        for answer in [BUSY, AWAY] {
            front.next(Trouble::Answer(answer));
        }
        assert_eq!(server.pusher().push(&put.notification("1")).await, 204);
        assert_eq!(front.left(), 0);
    }
    // One that goes on being busy is told of before the time is over.
    let last = site.landing.put("orders/last.json", rows(6000..6002)).await?;
    for _ in 0..1000 {
        front.next(Trouble::Answer(BUSY));
    }
    assert_eq!(server.pusher().push(&last.notification("1")).await, 503);
    server.logged(&["cannot be read now", "429"]).await?;
    assert!((900..1000).contains(&front.left()), "{}", front.left());
    front.clear();
    assert_eq!(server.pusher().push(&last.notification("1")).await, 204);
    assert_eq!(site.ids()?.1, count as usize + 5);
    Ok(())
}

/// Cloud Storage unpacks what is stored with the encoding gzip for whoever does not ask for it so, and no sum is of that.
async fn packed_object_lands_only_as_it_is_stored() -> TestResult {
    let mut site = Site::new().await?;
    let front = Front::start(site.landing.server()).await?;
    site.endpoint = front.url();
    let server = site.serve().await?;
    let resource = json!({ "contentEncoding": "gzip", "contentType": "application/json" });
    let small = gzip(rows(0..3))?;
    let small = site.landing.put_as("orders/small.json", &resource, small).await?;
    // Larger as it is stored than what shares a commit.
    let mut random = seeded();
    let noise = |_| {
        format!(
            "{{\"id\":{},\"x\":\"{:x}\"}}\n",
            random.random_range(10..1_i64 << 40),
            random.random::<u128>()
        )
    };
    let large: String = (0..60_000).map(noise).collect();
    let large = site
        .landing
        .put_as("orders/large.json", &resource, gzip(large)?)
        .await?;
    let size: usize = large.member("size").as_str().unwrap_or_default().parse()?;
    assert!(size > 1 << 20, "{size}");
    for put in [&small, &large] {
        front.next(Trouble::Unpacked);
        assert_eq!(
            server.pusher().push(&put.notification("1")).await,
            503,
            "{}",
            put.name()
        );
        assert_eq!(front.left(), 0);
        // That they are packed is not said, and they are what is stored.
        front.next(Trouble::Rename("\r\ncontent-encoding", "\r\nx-other-encoding"));
        assert_eq!(
            server.pusher().push(&put.notification("1")).await,
            204,
            "{}",
            put.name()
        );
        assert_eq!(front.left(), 0);
        assert_eq!(
            server.pusher().push(&put.notification("1")).await,
            204,
            "{}",
            put.name()
        );
    }
    assert_eq!(site.ids()?.1, 60_003);
    server.logged(&["not those that the answer tells of"]).await?;
    Ok(())
}

/// Committed, and stopped before the letters of its rejected records count; then it is written anew.
async fn letters_of_an_object_that_is_gone_count() -> TestResult {
    let site = Site::new().await?;
    let text = |id| format!("{}no\n", rows(id..id + 2));
    let old = site.landing.put("orders/1.json", text(0)).await?;
    let confirmed = site.lake.path().join("dead-letters/confirmed");
    fs::create_dir_all(site.lake.path().join("dead-letters"))?;
    fs::write(&confirmed, "in the way")?;
    let mut server = site.serve().await?;
    assert_eq!(server.pusher().push(&old.notification("1")).await, 503);
    assert_eq!(site.ids()?, ([0, 1].into(), 2));
    server.kill()?;
    let new = site.landing.put("orders/1.json", rows(2..3)).await?;
    let server = site.serve().await?;
    assert_eq!(server.pusher().push(&old.notification("2")).await, 503);
    fs::remove_file(&confirmed)?;
    for _ in 0..2 {
        assert_eq!(server.pusher().push(&old.notification("2")).await, 204);
        assert_eq!(site.lake.letters_in("confirmed")?.len(), 1);
    }
    assert_eq!(outcome(&server, "landed_before").await?, 2);
    assert_eq!(outcome(&server, "gone").await?, 0);
    assert_eq!(server.pusher().push(&new.notification("3")).await, 204);
    assert_eq!(site.ids()?, ([0, 1, 2].into(), 3));
    Ok(())
}

async fn killed_server_lands_objects_once() -> TestResult {
    let site = Site::new().await?;
    let (text, count) = large(0);
    let put = site.landing.put("orders/large.json", text).await?;
    let push = put.notification("1");
    let mut server = site.serve().await?;
    let mut killed = 0;
    for delay in (0..12).map(|n| Duration::from_millis(n * 15)) {
        let (pusher, sent) = (server.pusher(), push.clone());
        let sending = tokio::spawn(async move { pusher.push(&sent).await });
        // The moment of the kill is what differs from one time to the next.
        tokio::time::sleep(delay).await;
        server.kill()?;
        killed += usize::from(sending.await? != 204);
        server = site.serve().await?;
    }
    assert!(killed > 0, "no kill hit");
    let (pusher, push) = (server.pusher(), &push);
    wait_for("the object to land", Duration::from_secs(60), async || {
        (pusher.push(push).await == 204).then_some(())
    })
    .await?;
    assert_eq!(site.ids()?, ((0..count).collect(), count as usize));
    let (code, out, err) = run(["verify", "--config", &site.config().display().to_string()])?;
    assert_eq!(code, Some(0), "{out}{err}");
    Ok(())
}
