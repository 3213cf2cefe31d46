//! Objects of a bucket: every form in which Google tells of them, one landing; what is large, broken, gone or unwanted.

mod after;
pub mod bucket;
mod golden;
mod keeper;
mod pulled;
pub mod site;
mod troubles;
mod visible;

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use libtest_mimic::Trial;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use self::bucket::{Front, Landing, Trouble};
use self::site::{Site, large, outcome, rows};
use crate::support::push::Push;
use crate::support::server::{Server, landfast, run};
use crate::support::{TestResult, gzip, trials};
use crate::traces;
use crate::traces::collector::{Collector, Manner};

pub fn tests() -> Vec<Trial> {
    let forms = trials![
        object_lands_once_however_it_is_told_of,
        large_object_is_one_commit_and_is_not_read_again,
        freshness_of_an_object_is_from_its_creation,
        large_object_is_a_commit_in_the_trace_of_its_event,
        compressed_objects_land_whatever_their_size,
        generation_that_is_gone_is_acknowledged_and_the_next_lands,
        events_that_are_no_landing_are_acknowledged_and_counted,
        object_that_cannot_be_loaded_is_told_of_in_a_letter,
        notification_of_another_bucket_is_a_message,
        unwrapped_push_lands_by_its_headers,
        unwrapped_notification_is_of_the_object_that_its_resource_names,
    ];
    [
        forms,
        golden::tests(),
        after::tests(),
        troubles::tests(),
        pulled::tests(),
        visible::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
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
    server.metric_is("landfast_duplicates_total", 5.0).await?;
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
    assert_eq!(server.pusher().push_all(&pushes, 1).await, [204, 204]);
    assert_eq!(site.ids()?, ((0..count).collect(), count as usize));
    server.metric_is("iceberg_batches_committed_total", 1.0).await?;
    server.kill()?;
    // Read again, it would be refused.
    let front = Front::start(site.landing.server()).await?;
    front.next(Trouble::Flip(middle));
    site.endpoint = front.url();
    let server = site.serve().await?;
    assert_eq!(server.pusher().push(&put.notification("3")).await, 204);
    assert_eq!((front.left(), outcome(&server, "loaded").await?), (0, 1));
    server.metric_is("landfast_duplicates_total", 1.0).await?;
    assert_eq!(site.ids()?.1, count as usize);
    Ok(())
}

async fn large_object_is_a_commit_in_the_trace_of_its_event() -> TestResult {
    let (site, collector) = (Site::new().await?, Collector::start(Manner::Takes).await?);
    let mut command = landfast(["serve", "--config"]);
    command
        .arg(site.config())
        .env("STORAGE_EMULATOR_HOST", &site.endpoint)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url());
    let server = Server::start(command).await?;
    let put = site.landing.put("orders/large.json", large(0).0).await?;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let status = traces::push(&server, parent, &put.notification("1")).await?;
    assert_eq!(status, 204);
    let trigger = traces::only(collector.named("trigger", 1).await?);
    let commit = traces::only(collector.named("commit", 1).await?);
    assert_eq!(trigger.trace, "0af7651916cd43dd8448eb211c80319c");
    assert_eq!((&commit.trace, &commit.parent), (&trigger.trace, &trigger.id));
    assert_eq!(trigger.attributes["rows"], "3000");
    assert!(trigger.attributes["delivery.source"].ends_with("/orders/large.json"));
    Ok(())
}

/// Small or large, and once.
async fn freshness_of_an_object_is_from_its_creation() -> TestResult {
    let site = Site::new().await?;
    let server = site.serve().await?;
    let hour_ago = (chrono::Utc::now() - chrono::TimeDelta::hours(1)).to_rfc3339();
    let texts = [
        ("orders/small.json", rows(0..3)),
        ("orders/large.json", large(3).0),
    ];
    for (landed, (name, text)) in (1..).zip(texts) {
        let mut data = site.landing.put(name, text).await?.data();
        data["timeCreated"] = hour_ago.as_str().into();
        for _ in 0..2 {
            assert_eq!(binary(&server, FINALIZED, &data).await?, 204);
            let count = server.metric("landfast_freshness_seconds_count").await?;
            assert_eq!(count, f64::from(landed), "{name}");
            let sum = server.metric("landfast_freshness_seconds_sum").await?;
            let age = sum / f64::from(landed);
            assert!((3600.0..3700.0).contains(&age), "{name}: {age}");
        }
    }
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

/// A header keeps no space at its end, and no common way to write what is not ASCII.
async fn unwrapped_notification_is_of_the_object_that_its_resource_names() -> TestResult {
    let site = Site::new().await?;
    let server = site.serve().await?;
    for (name, header) in [
        ("orders/1.json ", "orders/1.json "),
        ("orders/größe.json", "orders/gr%C3%B6%C3%9Fe.json"),
    ] {
        let put = site.landing.put(name, rows(0..2)).await?;
        let body = put.notification("1").body();
        let mut headers = vec![
            (
                "x-goog-pubsub-subscription-name",
                "projects/p-test/subscriptions/landing-events",
            ),
            ("x-goog-pubsub-message-id", "77"),
            ("x-goog-pubsub-publish-time", "2026-01-02T03:04:05.678Z"),
            ("content-type", "application/octet-stream"),
        ];
        let attributes = body["message"]["attributes"].as_object().ok_or("attributes")?;
        headers.extend(attributes.iter().map(|(key, value)| match key.as_str() {
            "objectId" => (key.as_str(), header),
            _ => (key.as_str(), value.as_str().unwrap_or_default()),
        }));
        let resource = BASE64.decode(body["message"]["data"].as_str().unwrap_or_default())?;
        let (status, text) = send(&server, &headers, String::from_utf8(resource)?).await?;
        assert_eq!(status, 204, "{text}");
    }
    assert_eq!((site.ids()?.1, outcome(&server, "gone").await?), (4, 0));
    // Without a resource nothing says what it was.
    let bucket = site.landing.name.as_str();
    let mut headers = vec![
        (
            "x-goog-pubsub-subscription-name",
            "projects/p-test/subscriptions/landing-events",
        ),
        ("x-goog-pubsub-message-id", "78"),
        ("x-goog-pubsub-publish-time", "2026-01-02T03:04:05.678Z"),
        ("bucketid", bucket),
        ("objectgeneration", "17"),
        ("eventtype", "OBJECT_FINALIZE"),
        ("payloadformat", "NONE"),
    ];
    headers.push(("objectid", "orders/a\tb.json"));
    let (status, text) = send(&server, &headers, String::new()).await?;
    assert_eq!(status, 400, "{text}");
    assert!(text.contains("JSON_API_V1"), "{text}");
    Ok(())
}
