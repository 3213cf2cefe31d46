//! The shapes of payloads: where records begin and end, and what a bad one costs.

use serde_json::json;

use super::*;
use crate::decode::RejectKind::{self, *};

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
