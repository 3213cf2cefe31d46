//! Tables of deliveries as they came.

use std::collections::BTreeMap;

use chrono::DateTime;
use serde_json::json;

use super::*;
use crate::decode::{Decoder, EnvelopeDecoder};
use crate::error::ErrorKind;
use crate::trigger::{DeliveryId, Envelope};

fn envelope() -> Envelope {
    let at = DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap();
    Envelope {
        id: DeliveryId::message("orders", "m-1", at),
        source: "projects/p/subscriptions/orders".to_owned(),
        published_at: at,
        received_at: DateTime::UNIX_EPOCH,
        fingerprint: None,
        division: None,
        attributes: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
    }
}

#[test]
fn delivery_is_one_row_whatever_its_payload() {
    let schema = Arc::new(EnvelopeDecoder::schema().unwrap());
    let decoder = EnvelopeDecoder::try_new(schema.clone()).unwrap();
    let mut decoder = Decoder::Envelope(Box::new(decoder));
    let mut rejected = Vec::new();
    let payload = Bytes::from_static(b"\xff not JSON");
    assert_eq!(
        decoder.decode(&envelope(), &payload, usize::MAX, &mut rejected),
        1
    );
    assert_eq!((decoder.row_count(), rejected.len()), (1, 0));
    assert!(decoder.held_bytes() > payload.len());
    let batch = decoder.finish().unwrap();
    let row: Vec<String> = (0..6).map(|column| texts(&batch, column).remove(0)).collect();
    assert_eq!(
        row,
        [
            "m-1",
            "projects/p/subscriptions/orders",
            "2023-11-14T22:13:20.123456Z",
            "1970-01-01T00:00:00Z",
            "{k: v}",
            "ff206e6f74204a534f4e",
        ]
    );
}

#[test]
fn table_may_have_more_columns_but_not_fewer() {
    let ours = EnvelopeDecoder::schema().unwrap();
    let mut fields = ours.as_struct().fields().to_vec();
    fields.reverse();
    fields.push(Arc::new(NestedField::optional(
        50,
        "later",
        serde_json::from_value(json!("int")).unwrap(),
    )));
    let build = |fields: Vec<_>| Arc::new(Schema::builder().with_fields(fields).build().unwrap());
    let mut decoder = EnvelopeDecoder::try_new(build(fields.clone())).unwrap();
    decoder.decode(&envelope(), &Bytes::new(), &mut Vec::new());
    let batch = decoder.finish().unwrap();
    assert_eq!(
        (
            texts(&batch, 5).remove(0).as_str(),
            texts(&batch, 6).remove(0).as_str()
        ),
        ("m-1", "null")
    );
    fields.remove(0);
    let error = EnvelopeDecoder::try_new(build(fields)).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::TableMismatch);
}
