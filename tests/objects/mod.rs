//! Objects of a bucket: every form in which Google tells of them, one landing; what is large, broken, gone or unwanted.

mod bucket;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use libtest_mimic::Trial;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use self::bucket::{FORBIDDEN, Front, Landing, Trouble};
use crate::support::lake::Lake;
use crate::support::push::Push;
use crate::support::server::{Server, landfast, run};
use crate::support::{TestResult, gzip, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        object_lands_once_however_it_is_told_of,
        large_object_is_one_commit_and_is_not_read_again,
        compressed_objects_land_whatever_their_size,
        generation_that_is_gone_is_acknowledged_and_the_next_lands,
        events_that_are_no_landing_are_acknowledged_and_counted,
        broken_connections_are_gone_on_with,
        damaged_bytes_never_land,
        answer_that_does_not_say_what_it_is_lands_nothing,
        storage_that_falls_silent_holds_nothing_up,
        one_large_object_at_a_time_leaves_room_for_messages,
        stopping_server_lets_a_load_end,
        object_that_may_not_be_read_comes_again,
        object_that_cannot_be_loaded_is_told_of_in_a_letter,
        killed_server_lands_objects_once,
        notification_of_another_bucket_is_a_message,
        unwrapped_push_lands_by_its_headers,
    ]
}

struct Site {
    lake: Lake,
    landing: Landing,
    endpoint: String,
}

impl Site {
    async fn new() -> TestResult<Self> {
        let (lake, landing) = (Lake::new()?, Landing::new().await?);
        let endpoint = landing.server().to_owned();
        let site = Self {
            lake,
            landing,
            endpoint,
        };
        site.configure("60s")?;
        Ok(site)
    }

    fn configure(&self, ack_deadline: &str) -> TestResult {
        let tables = format!(
            "tables:\n  shop.orders: {{ from: [{{ bucket: {}, objects: \"orders/**\" }}, {{ subscription: orders }}], \
             batch: {{ commit_interval: 0s }}, schema: [{{ name: id, type: long, required: true }}] }}\n  \
             shop.told: {{ from: [{{ subscription: landing-events }}], schema: [{{ name: bucket, type: string }}] }}\n",
            self.landing.name
        );
        let config = self
            .lake
            .config(&format!("ack_deadline: {ack_deadline}"), &tables)?;
        assert!(config.exists());
        Ok(())
    }

    async fn serve(&self) -> TestResult<Server> {
        let mut command = landfast(["serve", "--config"]);
        command
            .arg(self.config())
            .env("STORAGE_EMULATOR_HOST", &self.endpoint);
        Server::start(command).await
    }

    fn config(&self) -> std::path::PathBuf {
        Path::join(self.lake.path(), "landfast.yaml")
    }

    fn ids(&self) -> TestResult<(BTreeSet<i64>, usize)> {
        self.lake.ids("shop.orders", "id")
    }
}

fn rows(ids: std::ops::Range<i64>) -> String {
    ids.map(|id| format!("{{\"id\":{id}}}\n")).collect()
}

/// Rows that are larger than what shares a commit, and how many.
fn large(first: i64) -> (String, i64) {
    let filler = "x".repeat(1000);
    let row = |id| format!("{{\"id\":{id},\"filler\":\"{filler}\"}}\n");
    ((first..first + 3000).map(row).collect(), 3000)
}

async fn outcome(server: &Server, outcome: &str) -> TestResult<u64> {
    let (_, metrics) = server.pusher().get("/metrics").await?;
    let start = format!("landfast_object_events_total{{outcome=\"{outcome}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&start));
    Ok(value.unwrap_or("0").parse()?)
}

async fn send(server: &Server, headers: &[(&str, &str)], body: String) -> TestResult<(u16, String)> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let request = client.post(format!("{}/", server.url())).body(body);
    let request = headers
        .iter()
        .fold(request, |request, (name, value)| request.header(*name, *value));
    let answer = request.send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

const FINALIZED: &str = "google.cloud.storage.object.v1.finalized";

async fn binary(server: &Server, kind: &str, data: &Value) -> TestResult<u16> {
    let headers = [
        ("ce-id", "123"),
        ("ce-source", "//storage.googleapis.com/projects/_/buckets/landing"),
        ("ce-specversion", "1.0"),
        ("ce-type", kind),
        ("content-type", "application/json"),
    ];
    Ok(send(server, &headers, data.to_string()).await?.0)
}

async fn structured(server: &Server, kind: &str, data: &Value) -> TestResult<u16> {
    let event = json!({
        "specversion": "1.0", "id": "123", "source": "//storage.googleapis.com/projects/_/buckets/landing",
        "type": kind, "datacontenttype": "application/json", "data": data,
    });
    let headers = [("content-type", "application/cloudevents+json; charset=utf-8")];
    Ok(send(server, &headers, event.to_string()).await?.0)
}

async fn object_lands_once_however_it_is_told_of() -> TestResult {
    let site = Site::new().await?;
    let server = site.serve().await?;
    let put = site.landing.put("orders/a b/größe.json", rows(0..100)).await?;
    let told = put.notification("1");
    assert_eq!(server.pusher().push(&told).await, 204);
    assert_eq!(site.ids()?, ((0..100).collect(), 100));
    // Another message of the same, without the resource, and Eventarc in its forms.
    let none = put
        .notification("2")
        .attribute("payloadFormat", "NONE")
        .without_data();
    assert_eq!(server.pusher().push(&none).await, 204);
    assert_eq!(binary(&server, FINALIZED, &put.data()).await?, 204);
    assert_eq!(structured(&server, FINALIZED, &put.data()).await?, 204);
    let message = "google.cloud.pubsub.topic.v1.messagePublished";
    assert_eq!(
        binary(&server, message, &put.notification("3").body()).await?,
        204
    );
    assert_eq!(
        structured(&server, message, &put.notification("4").body()).await?,
        204
    );
    assert_eq!(site.ids()?, ((0..100).collect(), 100));
    assert_eq!(server.metric("landfast_duplicates_total").await?, 5.0);
    assert_eq!(outcome(&server, "read").await?, 6);
    // Written again with the same bytes it is another.
    let again = site.landing.put("orders/a b/größe.json", rows(0..100)).await?;
    assert_eq!(server.pusher().push(&again.notification("5")).await, 204);
    assert_eq!(site.ids()?.1, 200);
    Ok(())
}

async fn large_object_is_one_commit_and_is_not_read_again() -> TestResult {
    let mut site = Site::new().await?;
    let mut server = site.serve().await?;
    let (text, count) = large(0);
    let middle = text.len() / 2;
    let put = site.landing.put("orders/large.json", text).await?;
    let pushes = [put.notification("1"), put.notification("2")];
    assert_eq!(server.pusher().push_all(&pushes, 2).await, [204, 204]);
    assert_eq!(site.ids()?, ((0..count).collect(), count as usize));
    assert_eq!(server.metric("iceberg_batches_committed_total").await?, 1.0);
    server.kill()?;
    // Read again, it would be refused.
    let front = Front::start(site.landing.server()).await?;
    front.next(Trouble::Flip(middle));
    site.endpoint = front.url();
    let server = site.serve().await?;
    assert_eq!(server.pusher().push(&put.notification("3")).await, 204);
    assert_eq!((front.left(), outcome(&server, "loaded").await?), (0, 1));
    assert_eq!(server.metric("landfast_duplicates_total").await?, 1.0);
    assert_eq!(site.ids()?.1, count as usize);
    Ok(())
}

async fn compressed_objects_land_whatever_their_size() -> TestResult {
    let site = Site::new().await?;
    let server = site.serve().await?;
    let zstd = |text: String| zstd::encode_all(text.as_bytes(), 1);
    let mut pushes = Vec::new();
    for (name, bytes) in [
        ("small.gz", gzip(rows(0..1000))?),
        ("small.zst", zstd(rows(1000..2000))?),
        // Some 100 kB that unpack to 12 MB.
        ("wide.zst", zstd(rows(2000..802_000))?),
    ] {
        let put = site.landing.put(&format!("orders/{name}"), bytes).await?;
        pushes.push(put.notification(name));
    }
    for _ in 0..2 {
        assert_eq!(server.pusher().push_all(&pushes, 3).await, [204; 3]);
        let (ids, count) = site.ids()?;
        assert_eq!((ids.len(), count), (802_000, 802_000));
    }
    // Cut short: nothing of it lands.
    let whole = zstd(rows(900_000..1_000_000))?;
    let put = site
        .landing
        .put("orders/cut.zst", &whole[..whole.len() / 2])
        .await?;
    assert_eq!(server.pusher().push(&put.notification("cut")).await, 204);
    assert_eq!(site.ids()?.1, 802_000);
    let letters = site.lake.dead_letters()?;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0]["reason"]["kind"], "unloadable");
    Ok(())
}

async fn generation_that_is_gone_is_acknowledged_and_the_next_lands() -> TestResult {
    let site = Site::new().await?;
    let server = site.serve().await?;
    let old = site.landing.put("orders/1.json", rows(0..3)).await?;
    let new = site.landing.put("orders/1.json", rows(3..5)).await?;
    let pushes = [old.notification("1"), new.notification("2")];
    assert_eq!(server.pusher().push_all(&pushes, 1).await, [204, 204]);
    assert_eq!(site.ids()?, ([3, 4].into(), 2));
    assert_eq!(outcome(&server, "gone").await?, 1);
    Ok(())
}

async fn events_that_are_no_landing_are_acknowledged_and_counted() -> TestResult {
    let site = Site::new().await?;
    let server = site.serve().await?;
    let put = site.landing.put("orders/1.json", rows(0..3)).await?;
    for (event, kind, counted) in [
        ("OBJECT_DELETE", "deleted", "deleted"),
        ("OBJECT_ARCHIVE", "archived", "archived"),
        ("OBJECT_METADATA_UPDATE", "metadataUpdated", "metadata_updated"),
    ] {
        assert_eq!(server.pusher().push(&put.event(event, event)).await, 204);
        let kind = format!("google.cloud.storage.object.v1.{kind}");
        assert_eq!(binary(&server, &kind, &put.data()).await?, 204);
        assert_eq!(outcome(&server, counted).await?, 2, "{event}");
    }
    for (name, counted) in [("orders/folder/", "marker"), ("orders/empty.json", "empty")] {
        let put = site.landing.put(name, "").await?;
        assert_eq!(server.pusher().push(&put.notification(name)).await, 204);
        assert_eq!(outcome(&server, counted).await?, 1, "{name}");
    }
    // What is no event of ours is none.
    for kind in [
        "google.cloud.audit.log.v1.written",
        "google.cloud.storage.object.v1.renamed",
    ] {
        assert_eq!(binary(&server, kind, &put.data()).await?, 400);
        assert_eq!(structured(&server, kind, &put.data()).await?, 400);
    }
    assert!(!site.lake.table("shop.orders").exists());
    assert!(site.lake.dead_letters()?.is_empty());
    Ok(())
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

async fn object_that_cannot_be_loaded_is_told_of_in_a_letter() -> TestResult {
    let site = Site::new().await?;
    let mut server = site.serve().await?;
    let noise: Vec<u8> = (0..70 << 20)
        .map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8 | 0x80)
        .collect();
    let put = |name: &'static str, bytes: Vec<u8>| site.landing.put(name, bytes);
    let binary = put("orders/binary", noise).await?;
    let elsewhere = put("invoices/1.json", rows(0..3).into()).await?;
    let partly = put(
        "orders/partly.json",
        format!("{}no\n{{\"id\":\"x\"}}\n", rows(0..3)).into(),
    )
    .await?;
    for put in [&binary, &elsewhere, &partly] {
        let without = |id| {
            put.notification(id)
                .attribute("payloadFormat", "NONE")
                .without_data()
        };
        let pushes = [without("1"), without("2")];
        assert_eq!(server.pusher().push_all(&pushes, 1).await, [204, 204]);
    }
    let letters = site.lake.dead_letters()?;
    let kinds: BTreeSet<&str> = letters
        .iter()
        .filter_map(|letter| letter["reason"]["kind"].as_str())
        .collect();
    assert_eq!(kinds, ["no_route", "syntax", "unloadable", "wrong_type"].into());
    assert_eq!(letters.len(), 4, "{letters:?}");
    assert_eq!(site.ids()?, ([0, 1, 2].into(), 3));
    server.terminate()?;
    assert!(server.exited().await?.success());
    // What holds no bytes stays the letter that it is.
    let (code, out, err) = run(["replay", "--config", &site.config().display().to_string()])?;
    assert_eq!(code, Some(3), "{out}{err}");
    assert_eq!(site.lake.dead_letters()?.len(), 4);
    assert_eq!(site.ids()?.1, 3);
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

async fn notification_of_another_bucket_is_a_message() -> TestResult {
    let site = Site::new().await?;
    let server = site.serve().await?;
    let other = Landing::new().await?;
    let put = other.put("orders/1.json", rows(0..3)).await?;
    assert_eq!(server.pusher().push(&put.notification("1")).await, 204);
    let told = site.lake.rows("shop.told", "bucket")?;
    assert_eq!(told, [json!({ "bucket": other.name })]);
    // Its object, by an event that is no message, is nobody's.
    assert_eq!(binary(&server, FINALIZED, &put.data()).await?, 204);
    let letters = site.lake.dead_letters()?;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["reason"]["kind"], "no_route");
    assert_eq!(
        letters[0]["delivery_id"]
            .as_str()
            .map(|id| id.starts_with("gs://")),
        Some(true)
    );
    assert!(other.generation("orders/1.json").await?.is_some());
    Ok(())
}

async fn unwrapped_push_lands_by_its_headers() -> TestResult {
    let site = Site::new().await?;
    let server = site.serve().await?;
    let metadata = [
        (
            "x-goog-pubsub-subscription-name",
            "projects/p-test/subscriptions/orders",
        ),
        ("x-goog-pubsub-message-id", "77"),
        ("x-goog-pubsub-publish-time", "2026-01-02T03:04:05.678Z"),
        ("content-type", "application/octet-stream"),
    ];
    for _ in 0..2 {
        assert_eq!(send(&server, &metadata, rows(0..2)).await?.0, 204);
    }
    // The same message with its wrapper.
    let wrapped = Push::new("orders", 77, rows(0..2)).published_at("2026-01-02T03:04:05.678Z".parse()?);
    assert_eq!(server.pusher().push(&wrapped).await, 204);
    assert_eq!(site.ids()?, ([0, 1].into(), 2));
    // Without them there is nothing to tell a repetition by.
    for (kind, status) in [("application/json", 400), ("application/octet-stream", 415)] {
        let (answered, text) = send(&server, &[(CONTENT_TYPE.as_str(), kind)], rows(2..3)).await?;
        assert_eq!(answered, status, "{text}");
    }
    assert_eq!(send(&server, &metadata[..2], rows(2..3)).await?.0, 400);
    assert_eq!(site.ids()?.1, 2);
    Ok(())
}
