//! Chunks, decoded one after the other, are the whole payload decoded at once.

use std::io::Write;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use bytes::Bytes;
use iceberg::spec::{NestedField, PrimitiveType, Schema, SchemaRef, Type};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tempfile::NamedTempFile;

use super::rejects::Rejects;
use super::source::{Input, Source};
use super::split::{Chunks, Sizes};
use crate::decode::{JsonDecoder, PartEnd, RejectKind, RejectedRecord, Strings};
use crate::error::Result;

/// As in production, and smaller by far.
const TINY: Sizes = Sizes {
    chunk: 16,
    sample: 64,
    record: 4096,
};

/// Ids of the rows, rejected records, and how many chunks there were.
type Read = (Vec<i64>, Vec<RejectedRecord>, usize);

fn schema() -> SchemaRef {
    let field =
        |id, name, kind, required| Arc::new(NestedField::new(id, name, Type::Primitive(kind), required));
    let fields = [
        field(1, "id", PrimitiveType::Long, true),
        field(2, "s", PrimitiveType::String, false),
    ];
    Arc::new(Schema::builder().with_fields(fields).build().unwrap())
}

fn decoder() -> JsonDecoder {
    JsonDecoder::try_new(schema(), Strings::Strict).unwrap()
}

fn ids(decoder: &mut JsonDecoder) -> Vec<i64> {
    let batch = decoder.finish().unwrap();
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

fn at_once(payload: &[u8]) -> Read {
    let (mut decoder, mut rejected) = (decoder(), Vec::new());
    decoder.decode(&Bytes::copy_from_slice(payload), &mut rejected);
    (ids(&mut decoder), rejected, 1)
}

fn in_chunks(payload: &[u8], sizes: Sizes) -> Result<Read> {
    in_batches(payload, sizes, usize::MAX)
}

/// As a pipeline does it: no more rows at once than take `batch_bytes`, but one at least.
fn in_batches(payload: &[u8], sizes: Sizes, batch_bytes: usize) -> Result<Read> {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(payload).unwrap();
    let source = Source::open(&Input::File(file.path().to_path_buf()), Arc::default())?;
    let mut chunks = Chunks::new(source, "test".to_owned(), sizes);
    let (mut rows, mut rejects, mut count) = (Vec::new(), Rejects::default(), 0);
    let mut rest = None;
    while let Some(chunk) = match rest.take() {
        Some(rest) => Some(rest),
        None => chunks.next()?,
    } {
        count += 1;
        // A decoder of its own, as on another thread.
        let (mut decoder, mut rejected) = (decoder(), Vec::new());
        let end = decoder.decode_part(&chunk.bytes, chunk.part, batch_bytes, &mut rejected);
        let (bytes, left) = chunk.split(end);
        rest = left;
        let ids = ids(&mut decoder);
        if rejects.take_rest(&bytes) {
            continue;
        }
        rejects.take(ids.len(), rejected, end == PartEnd::Lost);
        rows.extend(ids);
    }
    chunks.finish()?;
    Ok((rows, rejects.finish(), count))
}

/// Checks that the chunks give what the payload gives at once; how many there were.
///
/// Two differences are allowed, those of [`JsonDecoder::decode_part`]: whitespace alone is no reject, and of a break
/// before bytes that are not UTF-8 the kind is that of the break.
fn check(payload: &[u8], sizes: Sizes) -> usize {
    check_batches(payload, sizes, usize::MAX)
}

fn check_batches(payload: &[u8], sizes: Sizes, batch_bytes: usize) -> usize {
    let shown = || format!("{sizes:?}, {batch_bytes}: {:?}", String::from_utf8_lossy(payload));
    let (rows, mut rejected, _) = at_once(payload);
    let (chunk_rows, chunk_rejected, count) = in_batches(payload, sizes, batch_bytes).unwrap();
    rejected.retain(|record| record.reason.kind != RejectKind::EmptyPayload);
    assert_eq!(chunk_rows, rows, "rows of {}", shown());
    if std::str::from_utf8(payload).is_err()
        && let (Some(last), Some(chunk_last)) = (rejected.last_mut(), chunk_rejected.last())
        && last.reason.kind == RejectKind::NotUtf8
        && [RejectKind::Syntax, RejectKind::Truncated].contains(&chunk_last.reason.kind)
    {
        last.reason = chunk_last.reason.clone();
    }
    assert_eq!(chunk_rejected, rejected, "rejects of {}", shown());
    count
}

/// A document of some shape, with its faults.
struct Documents {
    random: StdRng,
    next_id: i64,
}

impl Documents {
    fn chance(&mut self, of_100: u32) -> bool {
        self.random.random_range(0..100) < of_100
    }

    fn one_of(&mut self, texts: &[&'static str]) -> &'static str {
        texts.choose(&mut self.random).unwrap()
    }

    /// A good object, with strings that look like structure.
    fn good(&mut self, space: &str) -> String {
        self.next_id += 1;
        let id = self.next_id;
        let text = self.one_of(&[
            "",
            "]",
            "}",
            "{[",
            "\\\"",
            "\\\\",
            "\\n",
            "\\\\\\\"]},",
            "é",
            "x,y",
            "\\u005d",
        ]);
        let other = self.one_of(&["[]", "{}", "[[1],{\"a\":[\"]\"]}]", "1.5e3", "null", "\"{\""]);
        match self.random.random_range(0..3) {
            0 => format!("{{{space}\"id\":{id}}}"),
            1 => format!("{{\"id\":{space}{id},\"s\":\"{text}\"{space}}}"),
            _ => format!("{{\"x\":{other},{space}\"id\":{id},\"s\":\"{text}\"}}"),
        }
    }

    /// A record whose end can be found.
    fn record(&mut self, bad: u32, space: &str) -> String {
        if !self.chance(bad) {
            return self.good(space);
        }
        self.one_of(&[
            "{\"id\":\"x\"}",
            "{}",
            "{\"s\":\"]\"}",
            "7",
            "null",
            "\"}{\"",
            "[1,[2]]",
            "{\"id\":1,\"id\":2}",
            "{\"id\":1,\"s\":\"\\ud800\"}",
        ])
        .to_owned()
    }

    fn broken(&mut self) -> &'static str {
        self.one_of(&[
            "{\"id\":",
            "{\"id\":oops}",
            "{\"id\":1,\"s\":\"x",
            "nul",
            "}",
            "]",
            ",",
            "{\"id\":1]",
            "[{\"id\":1}",
            "[",
            "{",
            "\"",
            "{\"id\":1}}",
            "\\",
            "-",
        ])
    }

    fn space(&mut self) -> &'static str {
        self.one_of(&["", "", " ", "\n", "\r\n", "\n\n  ", "\t"])
    }

    fn lines(&mut self, bad: u32, broken: u32) -> String {
        let end = self.one_of(&["\n", "\r\n"]);
        let mut text = String::new();
        for _ in 0..self.random.random_range(1..14) {
            let line = match self.random.random_range(0..12) {
                0 => String::new(),
                1 => " \t".to_owned(),
                2 => format!("{} {}", self.record(bad, ""), self.record(bad, "")),
                3 => format!("[{},{}]", self.record(bad, ""), self.record(bad, "")),
                _ => self.record(bad, ""),
            };
            text.push_str(if self.chance(broken) { self.broken() } else { &line });
            text.push_str(end);
        }
        if self.chance(50) {
            text.truncate(text.len() - end.len());
        }
        text
    }

    fn array(&mut self, bad: u32, broken: u32) -> String {
        let mut text = format!("[{}", self.space());
        let count = self.random.random_range(0..12);
        for place in 0..count {
            let space = self.space();
            text.push_str(&self.record(bad, space));
            if self.chance(broken) {
                text.push_str(self.broken());
            }
            text.push_str(self.space());
            if place + 1 < count || self.chance(broken) {
                text.push(',');
            }
            text.push_str(self.space());
        }
        if !self.chance(broken * 2) {
            text.push(']');
        }
        text
    }

    fn values(&mut self, bad: u32, broken: u32) -> String {
        let mut text = String::new();
        for _ in 0..self.random.random_range(1..12) {
            let space = self.space();
            let value = match self.chance(10) {
                true => self.array(bad, broken),
                false => self.record(bad, space),
            };
            text.push_str(if self.chance(broken) {
                self.broken()
            } else {
                &value
            });
            // Numbers and words must not run into each other.
            text.push_str(self.one_of(&[" ", "\n", "\n\n", "\r\n"]));
        }
        text
    }

    fn document(&mut self) -> Vec<u8> {
        let bad = self.one_of(&["", "x"]).len() as u32 * 20;
        let broken = self.one_of(&["", "", "x"]).len() as u32 * 8;
        let mut text = match self.random.random_range(0..5) {
            0 => self.array(bad, broken),
            1 => self.values(bad, broken),
            2 => self.good("\n  "),
            3 => self
                .one_of(&["", " ", "\n\r\n \t", "[]", " [ ] \n", "[", "{}", "\"", "\u{c}"])
                .to_owned(),
            _ => self.lines(bad, broken),
        };
        if self.chance(10) {
            text.push_str(self.one_of(&["oops", "]", "}", " {", "\n[", ",", "\n{\"id\":1"]));
        }
        if self.chance(20) {
            text.insert_str(0, self.one_of(&["\u{feff}", "\n \r\n", " ", "\u{feff}\n"]));
        }
        if self.chance(20) {
            text.push_str(self.space());
        }
        let mut bytes = text.into_bytes();
        if self.chance(8) && !bytes.is_empty() {
            let at = self.random.random_range(0..bytes.len());
            bytes[at] = self.random.random();
        }
        bytes
    }
}

#[test]
fn chunks_decode_as_the_whole_payload() {
    #[expect(
        clippy::disallowed_methods,
        reason = "a person replays a run through the environment"
    )]
    let given = std::env::var("LANDFAST_TEST_SEED").ok();
    let seed: u64 = given
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random);
    let started = std::time::Instant::now();
    let mut documents = Documents {
        random: StdRng::seed_from_u64(seed),
        next_id: 0,
    };
    let (mut cases, mut cut) = (0, 0);
    while started.elapsed().as_secs() < 2 && cases < 20_000 {
        let document = documents.document();
        let sizes = Sizes {
            chunk: documents.random.random_range(1..80),
            // Of all of it: what a beginning alone tells has a test of its own.
            sample: 4096,
            record: 65_536,
        };
        let batch_bytes = match documents.chance(50) {
            true => documents.random.random_range(0..100),
            false => usize::MAX,
        };
        let checked = std::panic::catch_unwind(|| check_batches(&document, sizes, batch_bytes));
        match checked {
            Ok(count) => cut += usize::from(count > 1),
            Err(panic) => {
                eprintln!("LANDFAST_TEST_SEED={seed}, case {cases}");
                std::panic::resume_unwind(panic);
            }
        }
        cases += 1;
    }
    assert!(cases > 100 && cut * 4 > cases, "{cut} of {cases} cases were cut");
}

/// A beginning of 64 bytes must tell what ends the records of what is much longer.
#[test]
fn beginning_tells_the_framing_of_a_long_document() {
    let records: Vec<String> = (0..200)
        .map(|id| format!("{{\"id\":{id},\"s\":\"]}}\\\"\"}}"))
        .collect();
    for (open, between, close) in [
        ("", "\n", "\n"),
        ("", "\r\n\r\n", ""),
        ("", "", ""),
        ("", " ", "\n"),
        ("[", ",", "]"),
        ("[\n", "\n,", "\n]\n"),
        ("\u{feff}\n\n[\n  ", ",\n  ", "\n]"),
        ("oops\n", "\n", ""),
        ("{\"id\":\n", "\n", ""),
        ("[\n", "\n", ""),
        ("[1,[2],\n{}][]", " \n\n", ""),
    ] {
        let document = format!("{open}{}{close}", records.join(between));
        let count = check(document.as_bytes(), TINY);
        assert!(count > 100, "{count} chunks of {document}");
    }
    let pretty = records
        .join("\n")
        .replace("{\"id", "{\n  \"id")
        .replace(",\"s\"", ",\n\"s\"");
    assert!(check(pretty.as_bytes(), TINY) > 100);
    // Longer than the beginning: an array, an object, a line.
    let long = format!("{{\"x\":[{}],\n\"id\":7}}", vec!["\"]\""; 500].join(",\n"));
    assert!(check(format!("{long}\n{long}").as_bytes(), TINY) > 1);
    assert!(check(format!("[{long},{long}]{}", records.join("")).as_bytes(), TINY) > 100);
    let line = long.replace('\n', "");
    assert!(
        check(
            format!("{line}\n{{\"id\":\n{}", records.join("\n")).as_bytes(),
            TINY
        ) > 100
    );
    let blank = " \n".repeat(10_000);
    assert!(check(format!("{blank}{}{blank}", records.join("\n")).as_bytes(), TINY) > 100);
}

#[test]
fn break_costs_the_rest_of_the_document_and_keeps_its_bytes() {
    let good = vec!["{\"id\":1}"; 50];
    let document = format!("[{},{{\"id\":oops}},{}]\n", good.join(","), good.join(","));
    let (rows, rejected, count) = in_chunks(document.as_bytes(), TINY).unwrap();
    assert_eq!((rows.len(), rejected.len(), count > 20), (50, 1, true));
    assert_eq!(rejected[0].position, 50);
    let from = document.find("{\"id\":oops").unwrap();
    assert_eq!(rejected[0].raw, document[from..].trim_end());
}

#[test]
fn whitespace_alone_has_no_record() {
    for blank in ["", "\n", "\u{feff}", " \r\n\t", "\u{feff}\n\n"] {
        assert_eq!(in_chunks(blank.as_bytes(), TINY).unwrap(), (vec![], vec![], 0));
    }
    assert_eq!(in_chunks(b"[]", TINY).unwrap().1, vec![]);
    assert_eq!(in_chunks(b"{\"id\":1}\n\n\n", TINY).unwrap().0, [1]);
}

#[test]
fn record_without_end_is_refused_early() {
    let endless = [
        vec![0; 100_000],
        vec![b' '; 100_000],
        b"{\"id\":[".repeat(20_000),
        vec![b'"'; 99_999],
    ];
    for mut bytes in endless {
        bytes.insert(0, b'x');
        let mut document = b"{\"id\":1}\n".to_vec();
        document.extend(&bytes);
        for document in [bytes, document] {
            let error = in_chunks(&document, TINY).unwrap_err();
            assert!(error.to_string().contains("A record is larger than"), "{error}");
        }
    }
}
