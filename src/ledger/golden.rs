//! The ledger's files outlive the version that wrote them: these in `tests/golden/ledger` are read by every later one.
//!
//! The heads and `segment-of-two-row-groups.parquet` are of Python (`json`, `struct`, `base64`, `hashlib`, PyArrow), made
//! from docs/exactly-once.md §2, decision 0006 and the docstrings of [`super::head`] and [`super::segment`]. The other
//! segments are of this code, and were read back by PyArrow. None is ever made anew: a change of the format adds one.

use bytes::Bytes;
use chrono::DateTime;
use parquet::file::metadata::ParquetMetaDataReader;
use uuid::Uuid;

use super::segment::{SegmentIndex, SegmentWriter};
use super::*;
use crate::random::Random;
use crate::storage::Store;

const HEAD: &[u8] = include_bytes!("../../tests/golden/ledger/head.json");
const OLD_HEAD: &[u8] = include_bytes!("../../tests/golden/ledger/head-without-time-and-checksum.json");
const SEGMENT: &[u8] = include_bytes!("../../tests/golden/ledger/segment.parquet");
const OLD_SEGMENT: &[u8] = include_bytes!("../../tests/golden/ledger/segment-without-sums.parquet");
const TWO_ROW_GROUPS: &[u8] = include_bytes!("../../tests/golden/ledger/segment-of-two-row-groups.parquet");

/// What the footer of [`SEGMENT`] says, as Python computed it: ends, and SHA-256 of the fields, big-endian, and lengths.
const SUMS: &str = "0 2147483647 e952dc0c80f74d237401baeb323d851a95dd78d9a306fa3bb6de5d81ba5f2e0f";

/// 2026-01-02T03:04:05Z.
const TIME: i64 = 1_767_323_045;
const COMMIT: Uuid = Uuid::from_u128(0x019b_7ca6_2923_7707_8707_0707_0707_0707);
const TABLE: Uuid = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
const MESSAGE: u128 = 0xf897_4180_7a46_3a22_b159_73c4_9047_b3e2;
const FILE: u128 = 0x4719_2086_8fac_991c_1ab6_9681_13b1_42b7;
const REQUEST: u128 = 0xf7c5_3ea9_cdb2_9502_26b3_49a9_38f0_f79d;

fn entry(space: Space, index_time: i64, id: u128, kept: Kept) -> Entry {
    Entry {
        space,
        index_time,
        id,
        value: kept.encode(),
    }
}

fn nothing() -> Kept {
    Kept::default()
}

fn letters() -> Kept {
    Kept {
        letters: Some(COMMIT),
        ..nothing()
    }
}

fn division() -> Kept {
    Kept {
        division: Some(2_173_738_342_595_676_857),
        ..nothing()
    }
}

fn answer() -> Kept {
    Kept {
        answer: Some(KeptAnswer {
            fingerprint: 0x037c_9214_eef7_4cc3_887f_3a4f_085b_4e17,
            row_count: 3,
            dead_letter_count: 1,
            snapshot_id: Some(7_612_345_678_901_234_567),
        }),
        ..nothing()
    }
}

fn head() -> LedgerHead {
    let segment =
        |space, name: &str, entry_count, byte_count, (min_time, max_time), committed_at| SegmentRef {
            space,
            name: format!("segment-{name}-9dad-41d1-80b4-00c04fd430c8.parquet"),
            entry_count,
            byte_count,
            min_time,
            max_time,
            committed_at,
        };
    let parent = "head-000000000011-0f0e0d0c-0b0a-4908-8706-050403020100.json";
    let mut head = LedgerHead::empty(TABLE);
    head.sequence = 12;
    head.parent = Some(format!(
        "gs://acme-lake/warehouse/_landfast/ledger/{TABLE}/{parent}"
    ));
    head.commit_id = COMMIT;
    head.newest = TIME + 1;
    head.floor = TIME + 1 - 8 * 24 * 3600;
    head.time = Some(1_767_323_046_789);
    head.entries = vec![
        entry(Space::Message, TIME, MESSAGE, nothing()),
        entry(Space::Message, TIME + 1, 0xabc, division()),
        entry(Space::Kept, 596_414_531, FILE, letters()),
        entry(Space::Request, 2_078_449_492, REQUEST, answer()),
    ];
    let times = (0, i64::from(i32::MAX));
    head.segments = vec![
        segment(Space::Kept, "6ba7b810", 5, 1234, times, TIME - 60),
        segment(
            Space::Message,
            "6ba7b811",
            1001,
            20_480,
            (TIME - 300, TIME - 1),
            TIME,
        ),
    ];
    head
}

fn in_segment() -> Vec<Entry> {
    let of = |index_time, id, kept| entry(Space::Request, index_time, id, kept);
    vec![
        of(0, 1, nothing()),
        of(TIME, 2, answer()),
        of(TIME, u128::MAX, nothing()),
        of(TIME + 1, MESSAGE, letters()),
        of(i32::MAX.into(), 3, division()),
    ]
}

/// The entries of a segment's row groups.
fn read(file: &'static [u8]) -> Vec<Vec<Entry>> {
    let bytes = Bytes::from_static(file);
    let index = SegmentIndex::parse(bytes.clone(), bytes.len() as u64).unwrap();
    let group = |group| {
        let place = index.bytes_of(group).unwrap();
        let place = usize::try_from(place.start).unwrap()..usize::try_from(place.end).unwrap();
        index.decode(Space::Request, group, bytes.slice(place)).unwrap()
    };
    (0..index.group_count()).map(group).collect()
}

/// The columns and the sums of a segment.
fn footer(file: &Bytes) -> (String, Option<String>) {
    let footer = ParquetMetaDataReader::new().parse_and_finish(file).unwrap();
    let footer = footer.file_metadata();
    let columns = footer.schema_descr().columns().iter();
    let columns = columns.map(|column| {
        let length = column.type_length();
        format!("{} {} {length}", column.name(), column.physical_type())
    });
    let said = footer.key_value_metadata().into_iter().flatten();
    let sums = said.filter(|said| said.key == "landfast.sums");
    let sums = sums.filter_map(|said| said.value.clone()).next();
    (columns.collect::<Vec<_>>().join(", "), sums)
}

fn written() -> Bytes {
    let mut writer = SegmentWriter::try_new().unwrap();
    in_segment()
        .into_iter()
        .for_each(|entry| writer.push(entry).unwrap());
    writer.finish().unwrap()
}

#[test]
fn heads_are_read_and_written_as_ever() {
    assert_eq!(LedgerHead::parse(HEAD, "head.json").unwrap(), head());
    let bytes = head().to_bytes().unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(HEAD));
}

#[test]
fn heads_of_before_times_and_checksums_are_read() {
    let mut old = LedgerHead::empty(TABLE);
    old.sequence = 1;
    old.commit_id = COMMIT;
    old.entries = vec![entry(Space::Kept, 596_414_531, FILE, letters())];
    assert_eq!(LedgerHead::parse(OLD_HEAD, "head.json").unwrap(), old);
    assert_eq!((old.newest, old.floor, old.time), (i64::MIN, i64::MIN, None));
}

#[test]
fn segments_are_read_as_ever() {
    assert_eq!(read(SEGMENT), [in_segment()]);
    assert_eq!(read(OLD_SEGMENT), [in_segment()]);
    let entries = in_segment();
    let (first, second) = entries.split_at(3);
    assert_eq!(read(TWO_ROW_GROUPS), [first, second]);
}

/// An older version reads them while the versions are changed over.
#[test]
fn segments_are_written_as_ever() {
    let columns = "index_time INT64 -1, id FIXED_LEN_BYTE_ARRAY 16, value BYTE_ARRAY -1";
    let expected = (columns.to_owned(), Some(SUMS.to_owned()));
    assert_eq!(footer(&written()), expected);
    assert_eq!(footer(&Bytes::from_static(SEGMENT)), expected);
    let old = (columns.to_owned(), None);
    assert_eq!(footer(&Bytes::from_static(OLD_SEGMENT)), old);
}

/// A version that looks for the ledger elsewhere takes it for empty.
#[tokio::test]
async fn names_are_the_same_in_every_version() {
    assert_eq!(POINTER, "landfast.ledger.main");
    assert_eq!(
        [SUMMARY_HEAD, SUMMARY_SEQUENCE],
        ["landfast.ledger", "landfast.ledger-seq"]
    );
    let ledger = Ledger::new(Store::open("memory:///w").unwrap());
    let addition = Addition {
        commit_id: COMMIT,
        instead: None,
        entries: &[],
        now: DateTime::UNIX_EPOCH,
        retention: DEFAULT_RETENTION,
        merge: None,
    };
    let state = LedgerState::new(TABLE, None, LedgerHead::empty(TABLE));
    let next = ledger.next(&state, &addition, &Random::seeded(1)).unwrap();
    ledger.put(&next).await.unwrap();
    ledger.adopt(next).await.unwrap();
    let folder = "_landfast/ledger/00112233-4455-6677-8899-aabbccddeeff";
    let names = ledger.store().names_after(folder, "").await.unwrap();
    let [head, mark] = &names[..] else {
        panic!("{names:?}")
    };
    let id = head.strip_prefix("head-000000000001-").unwrap();
    Uuid::try_parse(id.strip_suffix(".json").unwrap()).unwrap();
    assert_eq!(*mark, format!("landed-{head}"));
    assert!(is_mark(mark) && !is_mark(head));
}
