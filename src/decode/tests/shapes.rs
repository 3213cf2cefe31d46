//! The shapes of payloads: where records begin and end, and what a bad one costs.

use serde_json::json;

use super::*;
use crate::decode::RejectKind::{self, *};
use crate::decode::Room;

/// Position, kind and bytes of a reject.
type Lost = (u64, RejectKind, Vec<u8>);

/// Decodes into a table of a required long: the rows, and (position, kind, raw) of the rejects.
fn read(payload: &[u8]) -> (Vec<String>, Vec<Lost>) {
    let schema = table(&[("id!", json!("long")), ("s", json!("string"))]);
    let (batch, rejected) = decode(&schema, Strings::Strict, payload);
    let rejected = rejected
        .into_iter()
        .map(|lost| (lost.position, lost.reason.kind, lost.raw.to_vec()));
    (texts(&batch, 0), rejected.collect())
}

fn check(payload: impl AsRef<[u8]>, ids: &[&str], lost: &[(u64, RejectKind, &[u8])]) {
    let payload = payload.as_ref();
    let (rows, rejected) = read(payload);
    let shown = String::from_utf8_lossy(payload);
    assert_eq!(rows, ids, "rows of {shown}");
    let lost: Vec<_> = lost
        .iter()
        .map(|(at, kind, raw)| (*at, *kind, raw.to_vec()))
        .collect();
    assert_eq!(rejected, lost, "rejects of {shown}");
}

#[test]
fn every_shape_lands() {
    for payload in [
        r#"{"id":1}{"id":2}{"id":3}"#,
        "{\"id\":1}\n{\"id\":2}\r\n\n  {\"id\":3}\n",
        r#" [ {"id":1} , {"id":2} , {"id":3} ] "#,
        "[\n  {\"id\":1},\n  {\"id\":2},\n  {\"id\":3}\n]\n",
        "[\n{\"id\":1},\n{\"id\":2},\n{\"id\":3}\n]\n",
        "{\n  \"id\": 1\n}\n{\n  \"id\": 2\n}\n{\n  \"id\": 3\n}",
        "[{\"id\":1},{\"id\":2}]\n{\"id\":3}",
        "{\"id\":1} {\"id\":2}\n[{\"id\":3}]",
        "\u{feff}[{\"id\":1}][{\"id\":2}]{\"id\":3}",
        "{\"id\":1,\"s\":\"}\\n{\"}\n{\"id\":2}\n{\"id\":3}",
    ] {
        check(payload, &["1", "2", "3"], &[]);
    }
    check(r#"{"id":7}"#, &["7"], &[]);
    check("{\"id\":7}\n", &["7"], &[]);
}

#[test]
fn payload_without_records_is_one_reject_but_an_empty_array_is_none() {
    check("", &[], &[(0, EmptyPayload, b"")]);
    check(" \r\n\t", &[], &[(0, EmptyPayload, b" \r\n\t")]);
    check("\u{feff}", &[], &[(0, EmptyPayload, "\u{feff}".as_bytes())]);
    check(" [ ] ", &[], &[]);
}

#[test]
fn bad_line_costs_itself_only() {
    check(
        "{\"id\":1}\n{\"id\":2,\n{\"id\":3}\nnonsense\n{\"id\":5",
        &["1", "3"],
        &[
            (1, Truncated, b"{\"id\":2,"),
            (3, Syntax, b"nonsense"),
            (4, Truncated, b"{\"id\":5"),
        ],
    );
    check(
        "{\"id\":1,\"s\":\"x\n{\"id\":2}\r\n{\"id\":3}",
        &["2", "3"],
        &[(0, Truncated, b"{\"id\":1,\"s\":\"x")],
    );
    check(
        "{\"id\":1}{\"id\":\n{\"id\":3}",
        &["1", "3"],
        &[(1, Truncated, b"{\"id\":")],
    );
}

#[test]
fn mismatch_costs_itself_only_in_every_shape() {
    let bad: &[u8] = br#"{"s":"a","id":"x"}"#;
    let bad_text = std::str::from_utf8(bad).unwrap();
    for payload in [
        format!("{{\"id\":1}}{bad_text}{{\"id\":3}}"),
        format!("{{\"id\":1}}\n{bad_text}\n{{\"id\":3}}"),
        format!("[{{\"id\":1}},{bad_text},{{\"id\":3}}]"),
    ] {
        check(payload, &["1", "3"], &[(1, WrongType, bad)]);
    }
}

#[test]
fn scalar_where_a_record_is_expected_is_one_reject() {
    check("42", &[], &[(0, NotAnObject, b"42")]);
    check(
        "\"a\" null",
        &[],
        &[(0, NotAnObject, b"\"a\""), (1, NotAnObject, b"null")],
    );
    check(
        "[1,{\"id\":2},[3],\"x\"]",
        &["2"],
        &[
            (0, NotAnObject, b"1"),
            (2, NotAnObject, b"[3]"),
            (3, NotAnObject, b"\"x\""),
        ],
    );
}

#[test]
fn broken_syntax_costs_the_rest_where_no_line_ends_it() {
    check(
        r#"[{"id":1},{"id":oops},{"id":3}]"#,
        &["1"],
        &[(1, Syntax, br#"{"id":oops},{"id":3}]"#)],
    );
    check(r#"{"id":1}{"id":2"#, &["1"], &[(1, Truncated, br#"{"id":2"#)]);
    check(r#"[{"id":1}"#, &["1"], &[(1, Truncated, b"")]);
    check(r#"[{"id":1},"#, &["1"], &[(1, Truncated, b",")]);
    check(r#"[{"id":1},]"#, &["1"], &[(1, Syntax, b"]")]);
    check(r#"[{"id":1}{"id":2}]"#, &["1"], &[(1, Syntax, br#"{"id":2}]"#)]);
    check(r#"{"id":1}]"#, &["1"], &[(1, Syntax, b"]")]);
    check("[", &[], &[(0, Truncated, b"")]);
}

#[test]
fn broken_document_over_many_lines_lends_no_rows() {
    let payload = "{\"items\": [\n  {\"id\": 1},\n  {\"id\": 2}\n], \"oops";
    check(payload, &[], &[(0, Truncated, payload.as_bytes())]);
}

#[test]
fn bytes_that_are_not_utf8_cost_their_record_only() {
    let bad: &[u8] = b"{\"id\":2,\"s\":\"\xff\"}";
    let unknown: &[u8] = b"{\"id\":2,\"?\":\"\xff\"}";
    for bad in [bad, unknown] {
        for (before, between, after) in [("", "\n", ""), ("", "", ""), ("[", ",", "]")] {
            let payload = [
                before.as_bytes(),
                b"{\"id\":1}",
                between.as_bytes(),
                bad,
                between.as_bytes(),
                b"{\"id\":3}",
                after.as_bytes(),
            ]
            .concat();
            check(payload, &["1", "3"], &[(1, NotUtf8, bad)]);
        }
    }
    check(b"\xff\xfe{\x00}\x00", &[], &[(0, NotUtf8, b"\xff\xfe{\x00}\x00")]);
}

#[test]
fn half_surrogates_cost_their_record_only() {
    let value: &[u8] = br#"{"id":2,"s":"\ud800"}"#;
    let name: &[u8] = br#"{"id":2,"\ud800":1}"#;
    for bad in [value, name] {
        let payload = [&b"[{\"id\":1},"[..], bad, b",{\"id\":3}]"].concat();
        check(payload, &["1", "3"], &[(1, Syntax, bad)]);
    }
}

#[test]
fn decoder_takes_many_payloads_into_one_batch() {
    let schema = table(&[("id!", json!("long"))]);
    let mut decoder = JsonDecoder::try_new(schema, Strings::Strict).unwrap();
    let mut rejected = Vec::new();
    assert_eq!(decoder.held_bytes(), 0);
    assert_eq!(
        decoder.decode(&Bytes::from_static(b"{\"id\":1}"), &mut rejected),
        1
    );
    assert_eq!(decoder.decode(&Bytes::from_static(b"{}"), &mut rejected), 0);
    assert_eq!(
        decoder.decode(&Bytes::from_static(b"[{\"id\":2},{\"id\":3}]"), &mut rejected),
        2
    );
    assert_eq!(decoder.row_count(), 3);
    assert!(decoder.held_bytes() >= 24);
    assert_eq!(texts(&decoder.finish().unwrap(), 0), ["1", "2", "3"]);
    assert_eq!((decoder.row_count(), rejected.len()), (0, 1));
    assert_eq!(
        decoder.decode(&Bytes::from_static(b"{\"id\":4}"), &mut rejected),
        1
    );
    assert_eq!(texts(&decoder.finish().unwrap(), 0), ["4"]);
}

#[test]
fn payload_of_few_bytes_and_many_columns_is_bounded() {
    let names: Vec<String> = (0..1000).map(|place| format!("c{place}")).collect();
    let fields: Vec<_> = names.iter().map(|name| (name.as_str(), json!("long"))).collect();
    let mut decoder = JsonDecoder::try_new(table(&fields), Strings::Strict).unwrap();
    let (mut rejected, limit) = (Vec::new(), 1 << 20);
    assert_eq!(
        decoder.decode(&Bytes::from_static(b"{\"c1\":7}"), &mut rejected),
        1
    );
    let room = |max_bytes| Room {
        max_bytes,
        letter_bytes: 0,
    };
    // Over the limit by one record, and far over it: as much memory.
    for count in [limit / 8000 + 1, 1_000_000] {
        let payload = Bytes::from("{}\n".repeat(count));
        assert_eq!(decoder.decode_within(&payload, room(limit), &mut rejected), 0);
        let reject = rejected.pop().unwrap();
        assert_eq!((reject.reason.kind, reject.raw), (TooLarge, payload));
        assert_eq!((decoder.row_count(), rejected.len()), (1, 0));
        assert!(decoder.held_bytes() < 20_000);
    }
    let payload = Bytes::from("{}\n".repeat(limit / 8100));
    assert_eq!(
        decoder.decode_within(&payload, room(limit), &mut rejected),
        limit / 8100
    );
    assert!(rejected.is_empty());
}

#[test]
fn payload_of_few_bytes_and_many_rejects_is_bounded() {
    let schema = table(&[("id", json!("long"))]);
    let mut decoder = JsonDecoder::try_new(schema, Strings::Strict).unwrap();
    let room = Room {
        max_bytes: 1 << 20,
        letter_bytes: 1000,
    };
    let fit = 500;
    // One after the other, elements, lines, and records of an array that do not fit.
    for (start, record, end) in [
        ("", "0 ", ""),
        ("[0", ",1", "]"),
        ("", "7\n", ""),
        ("[{}", ",{\"id\":\"\"}", "]"),
    ] {
        let payload = |count| Bytes::from(format!("{start}{}{end}", record.repeat(count)));
        let mut rejected = Vec::new();
        decoder.decode_within(&payload(fit), room, &mut rejected);
        assert!(rejected.len() >= fit);
        decoder.finish().unwrap();
        let (large, mut rejected) = (payload(2_000_000), Vec::new());
        assert_eq!(decoder.decode_within(&large, room, &mut rejected), 0);
        assert!(rejected.capacity() < 1000, "{}", rejected.capacity());
        let [reject] = &rejected[..] else {
            panic!("{} rejects", rejected.len())
        };
        assert_eq!((reject.reason.kind, &reject.raw), (TooLarge, &large));
        assert_eq!(decoder.row_count(), 0);
    }
}

/// The elements of one record: structs with many fields, nulls of a fixed size, in lists and maps.
#[test]
fn record_of_few_bytes_and_wide_elements_is_too_large() {
    let fields: Vec<_> = (0..100)
        .map(|id| json!({"id": 100 + id, "name": format!("f{id}"), "required": false, "type": "long"}))
        .collect();
    let wide = json!({"type": "struct", "fields": fields});
    let schema = table(&[
        ("id", json!("long")),
        (
            "wide",
            json!({"type": "list", "element-id": 10, "element": wide, "element-required": false}),
        ),
        (
            "fixed",
            json!({"type": "list", "element-id": 11, "element": "fixed[4096]", "element-required": false}),
        ),
        (
            "map",
            json!({"type": "map", "key-id": 12, "key": "string", "value-id": 13, "value": "fixed[65536]",
                   "value-required": false}),
        ),
    ]);
    let list = |name: &str, element: &str, count: usize| {
        let elements = vec![element; count].join(",");
        format!("{{\"{name}\":[{elements}]}}")
    };
    let entries: Vec<_> = (0..2000).map(|key| format!("\"{key}\":null")).collect();
    for (bad, path) in [
        (list("wide", "{}", 200_000), "$.wide[83886]"),
        (list("wide", "null", 200_000), "$.wide[83886]"),
        (list("fixed", "null", 200_000), "$.fixed[16383]"),
        (format!("{{\"map\":{{{}}}}}", entries.join(",")), "$.map.*"),
    ] {
        let payload = format!("[{{\"id\":1}},{bad},{{\"id\":3}}]");
        let (batch, rejected) = decode(&schema, Strings::Strict, payload.as_bytes());
        assert_eq!(texts(&batch, 0), ["1", "3"]);
        let [reject] = &rejected[..] else {
            panic!("{} rejects", rejected.len())
        };
        assert_eq!((reject.reason.kind, reject.position), (TooLarge, 1));
        assert_eq!(reject.reason.path.as_deref(), Some(path));
        assert_eq!(reject.raw, bad);
    }
    let (batch, rejected) = decode(&schema, Strings::Strict, list("wide", "{}", 80_000).as_bytes());
    assert_eq!((batch.num_rows(), rejected.len()), (1, 0));
}
