//! How fast JSON becomes columns: messages of about 300 B, one call each, as a ratio to what serde_json needs to only
//! skip them, and to `serde_json::Value`. Medians of five rounds, on one thread.
//!
//! `cargo bench --bench decode`

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a measurement stops at the first surprise"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use landfast::config::parse_type;
use landfast::decode::{JsonDecoder, Strings};
use serde::de::IgnoredAny;

const MESSAGES: usize = 100_000;
const ROUNDS: usize = 5;
const COLUMNS: [(&str, &str); 9] = [
    ("id", "long"),
    ("at", "timestamptz"),
    ("customer", "string"),
    ("item", "string"),
    ("note", "string"),
    ("price", "double"),
    ("weight", "double"),
    ("gift", "boolean"),
    ("tags", "list<string>"),
];

fn main() {
    let messages: Vec<Bytes> = (0..MESSAGES).map(message).collect();
    let megabytes = messages.iter().map(Bytes::len).sum::<usize>() as f64 / 1e6;
    let mut decoder = JsonDecoder::try_new(Arc::new(schema()), Strings::Strict).expect("a decoder");
    let mut rejected = Vec::new();
    let decode = median(|| {
        for message in &messages {
            decoder.decode(message, &mut rejected);
        }
        black_box(decoder.finish().expect("a batch"));
    });
    assert!(rejected.is_empty(), "every message fits");
    let skip = median(|| {
        for message in &messages {
            black_box(serde_json::from_slice::<IgnoredAny>(message).expect("JSON"));
        }
    });
    let value = median(|| {
        for message in &messages {
            black_box(serde_json::from_slice::<serde_json::Value>(message).expect("JSON"));
        }
    });
    println!("{MESSAGES} messages, {megabytes:.0} MB");
    for (name, seconds) in [
        ("decode to columns", decode),
        ("serde_json, skipped", skip),
        ("serde_json::Value", value),
    ] {
        println!("{name:20} {:5.0} MB/s", megabytes / seconds);
    }
    println!(
        "decode takes {:.2} times the skip, {:.2} times the Value",
        decode / skip,
        decode / value
    );
}

fn message(number: usize) -> Bytes {
    Bytes::from(format!(
        r#"{{"id":{number},"at":"2026-11-21T12:{:02}:{:02}.123456Z","customer":"customer-{:05}","item":"climbing rope 9.8 mm, {} m","note":"leave it at the harbour office, ring twice, and mind the dog that sleeps behind the door","price":{}.95,"weight":{}.125,"gift":{},"tags":["outdoor","rope","sale-{}"]}}"#,
        number / 60 % 60,
        number % 60,
        number % 9973,
        number % 90,
        number % 500,
        number % 12,
        number.is_multiple_of(2),
        number % 7,
    ))
}

fn schema() -> iceberg::spec::Schema {
    let columns = COLUMNS.map(|(name, data_type)| landfast::config::Column {
        name: name.to_owned(),
        data_type: parse_type(data_type).expect("a type"),
        required: false,
        doc: None,
    });
    landfast::config::iceberg_schema(&columns).expect("a schema")
}

fn median(mut work: impl FnMut()) -> f64 {
    work();
    let mut seconds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds.get(ROUNDS / 2).copied().expect("five rounds")
}
