//! Connections that break or fall silent, answers that cannot be trusted, kills, stops, and a load that takes the room.

use std::time::Duration;

use libtest_mimic::Trial;

use super::bucket::{FORBIDDEN, Front, Trouble};
use super::site::{Site, large, outcome, rows};
use crate::support::push::Push;
use crate::support::server::run;
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        broken_connections_are_gone_on_with,
        damaged_bytes_never_land,
        answer_that_does_not_say_what_it_is_lands_nothing,
        storage_that_falls_silent_holds_nothing_up,
        one_large_object_at_a_time_leaves_room_for_messages,
        stopping_server_lets_a_load_end,
        object_that_may_not_be_read_comes_again,
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
    assert_eq!(
        (front.left(), server.metric("landfast_held_bytes").await?),
        (0, 0.0)
    );
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
    assert_eq!(server.pusher().push(&put.notification("1")).await, 204);
    assert_eq!(site.ids()?, ([0, 1, 2].into(), 3));
    assert!(site.lake.dead_letters()?.is_empty());
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
