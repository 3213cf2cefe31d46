//! Letters wait for years, and the ledger names them: where they are and what is in them is the same in every version.
//!
//! The names were computed in Python (`hashlib`, RFC 9562) from the docstrings, not by this code. An older version's
//! letters are never taken out of here: a change of the format adds some.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::*;
use crate::decode::RejectKind;
use crate::trigger::DeliveryId;

const RECORD: &str = r#"{"id":"orders/1234567890/3","reason":{"kind":"wrong_type","message":"A long is expected.","path":"$.n"},"table":"shop.orders","source":"projects/p/subscriptions/orders","delivery_id":"orders/1234567890","identity":{"space":"M","scope":"orders","name":"1234567890","index_time":1767323045},"position":3,"published_at":"2026-01-02T03:04:05.678Z","attributes":{"kind":"order"},"raw":"eyJuIjoieCJ9","landfast_version":"0.1.0"}
"#;

const UNWANTED: &str = r#"{"id":"orders/1234567890/3","reason":{"kind":"no_route","message":"No table wants it.","path":null},"table":null,"source":"projects/p/subscriptions/orders","delivery_id":"orders/1234567890","identity":{"space":"M","scope":"orders","name":"1234567890","index_time":1767323045},"position":3,"published_at":"2026-01-02T03:04:05.678Z","attributes":{"kind":"order"},"raw":"eyJuIjoieCJ9","landfast_version":"0.1.0"}
"#;

const WHOLE: &str = r#"{"id":"idempotency-key/order-77","reason":{"kind":"redivided","message":"Other rules.","path":null},"table":null,"source":"http","delivery_id":"idempotency-key/order-77","identity":{"space":"H","scope":"idempotency-key","name":"order-77","index_time":2078449492},"position":null,"fingerprint":"037c9214eef74cc3887f3a4f085b4e17","division":"1e2aab81710fcab9","published_at":"2026-01-02T03:04:05.678Z","attributes":{},"raw":"eyJpZCI6MX0=","landfast_version":"0.1.0"}
"#;

fn published_at() -> DateTime<Utc> {
    "2026-01-02T03:04:05.678Z".parse().unwrap()
}

fn message() -> Envelope {
    Envelope {
        id: DeliveryId::message("orders", "1234567890", published_at()),
        source: "projects/p/subscriptions/orders".to_owned(),
        published_at: published_at(),
        received_at: DateTime::UNIX_EPOCH,
        fingerprint: None,
        division: None,
        attributes: BTreeMap::from([("kind".to_owned(), "order".to_owned())]),
    }
}

fn request() -> Envelope {
    Envelope {
        id: DeliveryId::keyed("idempotency-key", "order-77"),
        source: "http".to_owned(),
        fingerprint: Some(0x037c_9214_eef7_4cc3_887f_3a4f_085b_4e17),
        division: Some(0x1e2a_ab81_710f_cab9),
        attributes: BTreeMap::new(),
        ..message()
    }
}

fn reason(kind: RejectKind, message: &str, path: Option<&str>) -> Reason {
    Reason {
        kind,
        message: message.to_owned(),
        path: path.map(str::to_owned),
    }
}

fn record(reason: Reason) -> [RejectedRecord; 1] {
    [RejectedRecord {
        position: 3,
        reason,
        raw: Bytes::from_static(br#"{"n":"x"}"#),
    }]
}

fn letters() -> DeadLetters {
    DeadLetters::new(Store::open("memory:///d").unwrap())
}

/// Asserts that an object is there and holds this line, but for the version that wrote it.
async fn assert_written(letters: &DeadLetters, key: &str, line: &str) {
    let bytes = letters.store().get(key).await.unwrap();
    let text = String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap();
    let version = |version: &str| format!("\"landfast_version\":\"{version}\"");
    let line = line.replace(&version("0.1.0"), &version(env!("CARGO_PKG_VERSION")));
    assert_eq!(text, line, "{key}");
}

#[tokio::test]
async fn records_are_written_as_ever() {
    let letters = letters();
    let id = Uuid::from_u128(0x019b_7ca6_2923_7707_8707_0707_0707_0707);
    let record = record(reason(RejectKind::WrongType, "A long is expected.", Some("$.n")));
    letters
        .write_pending(&message(), "shop.orders", id, &record)
        .await
        .unwrap();
    let path =
        "shop.orders/2026-01-02/019b7ca6-2923-7707-8707-070707070707.12c13df018db52c054c8639ba15f38f3.ndjson";
    assert_written(&letters, &format!("pending/{path}"), RECORD).await;
    let name = LetterName::parse(Place::Pending, &format!("pending/{path}")).unwrap();
    assert_eq!((name.table(), name.id()), ("shop.orders", id));
    letters.confirm(&name).await.unwrap();
    assert_written(&letters, &format!("confirmed/{path}"), RECORD).await;
    letters.set_aside(&name, RECORD.into()).await.unwrap();
    assert_written(&letters, &format!("replayed/{path}"), RECORD).await;
}

/// Their ids are made of their content, so that a copy that comes after an upgrade writes no second letter.
#[tokio::test]
async fn what_no_table_wanted_is_written_as_ever() {
    let letters = letters();
    let redivided = reason(RejectKind::Redivided, "Other rules.", None);
    let payload = Bytes::from_static(br#"{"id":1}"#);
    letters
        .write_delivery(&request(), None, &redivided, &payload)
        .await
        .unwrap();
    let key = "confirmed/unrouted/2026-01-02/019b7ca9-8f2e-737c-9214-eef74cc3887f.f7c53ea9cdb2950226b349a938f0f79d.ndjson";
    assert_written(&letters, key, WHOLE).await;
    let record = record(reason(RejectKind::NoRoute, "No table wants it.", None));
    letters.write_unwanted(&message(), &record).await.unwrap();
    let key = "confirmed/unrouted/2026-01-02/019b7ca9-8f2e-79ee-9d3f-2875ed0ec29a.12c13df018db52c054c8639ba15f38f3.ndjson";
    assert_written(&letters, key, UNWANTED).await;
}

#[test]
fn letters_are_read_as_ever() {
    let lines = [RECORD, UNWANTED, WHOLE].concat();
    let letters: Vec<DeadLetter<'_>> = parse(lines.as_bytes()).collect();
    let [record, unwanted, whole] = &letters[..] else {
        panic!("{letters:?}")
    };
    assert_eq!(*record.identity, message().id);
    assert_eq!(
        (record.position, record.table.as_deref()),
        (Some(3), Some("shop.orders"))
    );
    assert_eq!((record.fingerprint(), record.division()), (None, None));
    assert_eq!(record.raw().unwrap(), br#"{"n":"x"}"#[..]);
    assert_eq!(
        (&*record.reason.kind, record.reason.path.as_deref()),
        ("wrong_type", Some("$.n"))
    );
    assert_eq!(
        (record.published_at, &*record.attributes),
        (published_at(), &message().attributes)
    );
    assert_eq!((unwanted.position, unwanted.table.as_deref()), (Some(3), None));
    assert_eq!(*whole.identity, request().id);
    assert_eq!((whole.position, &*whole.source), (None, "http"));
    assert_eq!(
        (whole.fingerprint(), whole.division()),
        (request().fingerprint, request().division)
    );
    assert_eq!(whole.raw().unwrap(), br#"{"id":1}"#[..]);
}
