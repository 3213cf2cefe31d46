//! Requests as Google documents them, sent to a server.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::bucket::{Front, Trouble};
use super::send;
use super::site::{Site, outcome};
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![every_documented_event_is_answered_and_lands]
}

/// The object that the documents' events are of: nine bytes that are a row, and their sum.
const OBJECT: &str = "HTTP/1.1 200 OK\r\nx-goog-generation: 1587627537231057\r\nx-goog-hash: crc32c=r5D2+Q==\r\n\
                      x-goog-stored-content-length: 9\r\ncontent-length: 9\r\nconnection: close\r\n\r\n{\"id\":1}\n";

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Becomes {
    /// The object is read; the first time it lands.
    Object,
    /// Another event of an object, counted under this name.
    Other(&'static str),
    /// A row with this status.
    Row(&'static str),
    /// A letter: its data is no JSON.
    Letter,
    /// Nothing: its message is one before it, in another form.
    Copy,
}

const EVENTS: [(&str, Becomes); 17] = [
    ("eventarc-pubsub-binary", Becomes::Letter),
    ("eventarc-storage-archived", Becomes::Other("archived")),
    ("eventarc-storage-binary", Becomes::Object),
    ("eventarc-storage-deleted", Becomes::Other("deleted")),
    (
        "eventarc-storage-metadata-updated",
        Becomes::Other("metadata_updated"),
    ),
    ("eventarc-storage-structured", Becomes::Object),
    ("notification-archive", Becomes::Other("archived")),
    ("notification-delete", Becomes::Other("deleted")),
    ("notification-delete-overwritten", Becomes::Other("deleted")),
    ("notification-json-api-v1", Becomes::Object),
    ("notification-metadata-update", Becomes::Other("metadata_updated")),
    ("notification-none", Becomes::Object),
    ("notification-overwrite", Becomes::Object),
    ("push-forwarded", Becomes::Row("Hello again")),
    ("push-ordered-again", Becomes::Row("Hello in order")),
    ("push-unwrapped", Becomes::Row("Hello there")),
    ("push-wrapped", Becomes::Copy),
];

async fn every_documented_event_is_answered_and_lands() -> TestResult {
    let mut site = Site::new().await?;
    let front = Front::start(site.landing.server()).await?;
    site.endpoint = front.url();
    let tables = "tables:\n  t.objects: { from: [{ bucket: sample-bucket, objects: \"folder/**\" }], batch: { commit_interval: \
                  0s }, schema: [{ name: id, type: long }] }\n  t.messages: { from: [{ subscription: mysubscription }, { \
                  subscription: my-sub }, { subscription: mydeadletters }], batch: { commit_interval: 0s }, schema: [{ name: \
                  status, type: string }] }\n";
    site.lake.config("ack_deadline: 60s", tables)?;
    let server = site.serve().await?;
    assert_eq!(files()?, EVENTS.map(|(name, _)| name.to_owned()).into());
    // Each of them once more lands nothing more.
    for _ in 0..2 {
        for (name, becomes) in EVENTS {
            let file: Value = serde_json::from_slice(&fs::read(folder().join(format!("{name}.json")))?)?;
            let headers = file["headers"].as_object().ok_or("headers")?;
            let headers: Vec<(&str, &str)> = headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()))
                .collect();
            let counted = match becomes {
                Becomes::Object => Some("read"),
                Becomes::Other(other) => Some(other),
                _ => None,
            };
            let before = outcome(&server, counted.unwrap_or("read")).await?;
            if becomes == Becomes::Object {
                front.next(Trouble::Answer(OBJECT));
            }
            let (status, text) = send(&server, &headers, file["body"].to_string()).await?;
            assert_eq!((status, front.left()), (204, 0), "{name}: {text}");
            let after = outcome(&server, counted.unwrap_or("read")).await?;
            assert_eq!(after - before, u64::from(counted.is_some()), "{name}");
        }
    }
    assert_eq!(site.lake.ids("t.objects", "id")?, ([1].into(), 1));
    let rows = ["Hello again", "Hello in order", "Hello there"].map(|text| json!({ "status": text }));
    assert_eq!(site.lake.rows("t.messages", "status")?, rows);
    assert_eq!(site.lake.dead_letters()?.len(), 1);
    server.metric_is("landfast_forwarded_messages_total", 2.0).await?;
    Ok(())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/events")
}

fn files() -> TestResult<BTreeSet<String>> {
    let names =
        fs::read_dir(folder())?.map(|file| Ok(file?.path().file_stem().unwrap_or_default().to_os_string()));
    let names: Vec<std::ffi::OsString> = names.collect::<TestResult<_>>()?;
    Ok(names
        .iter()
        .map(|name| name.to_string_lossy().into_owned())
        .collect())
}
