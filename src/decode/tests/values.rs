//! The rules of values: one test per type.

use serde_json::json;

use super::*;
use crate::decode::RejectKind::{self, *};
use crate::error::ErrorKind;

/// Decodes one value of a type: its text, or the kind of its rejection.
fn read(kind: &Value, strings: Strings, value: &str) -> Result<String, RejectKind> {
    let schema = table(&[("v", kind.clone())]);
    let (batch, rejected) = decode(&schema, strings, format!("{{\"v\":{value}}}").as_bytes());
    match rejected.as_slice() {
        [] => Ok(texts(&batch, 0).remove(0)),
        [lost] => {
            assert_eq!(batch.num_rows(), 0);
            assert!(
                lost.reason
                    .path
                    .as_deref()
                    .is_some_and(|path| path.starts_with("$.v")),
                "{lost:?}"
            );
            Err(lost.reason.kind)
        }
        more => panic!("one record, many rejects: {more:?}"),
    }
}

fn check(kind: Value, cases: &[(&str, Result<&str, RejectKind>)]) {
    for (value, expected) in cases {
        let expected = expected.map(str::to_owned);
        assert_eq!(read(&kind, Strings::Strict, value), expected, "{value} as {kind}");
    }
}

#[test]
fn boolean_takes_true_and_false() {
    check(
        json!("boolean"),
        &[
            ("true", Ok("true")),
            ("false", Ok("false")),
            ("null", Ok("null")),
            ("1", Err(WrongType)),
            ("\"true\"", Err(WrongType)),
            ("{}", Err(WrongType)),
        ],
    );
}

#[test]
fn int_takes_whole_numbers_in_range() {
    check(
        json!("int"),
        &[
            ("2147483647", Ok("2147483647")),
            ("-2147483648", Ok("-2147483648")),
            ("1.0", Ok("1")),
            ("-0", Ok("0")),
            ("1e3", Ok("1000")),
            ("2147483648", Err(OutOfRange)),
            ("1e999", Err(OutOfRange)),
            ("1.5", Err(WrongType)),
            ("\"1\"", Err(WrongType)),
            ("true", Err(WrongType)),
        ],
    );
}

#[test]
fn long_takes_integers_as_strings_too() {
    check(
        json!("long"),
        &[
            ("9223372036854775807", Ok("9223372036854775807")),
            ("\"-9223372036854775808\"", Ok("-9223372036854775808")),
            ("9007199254740993.0", Ok("9007199254740993")),
            ("9223372036854775808", Err(OutOfRange)),
            ("18446744073709551616", Err(OutOfRange)),
            ("\"9223372036854775808\"", Err(OutOfRange)),
            ("\"1.0\"", Err(WrongType)),
            ("\"\"", Err(WrongType)),
            ("\"-\"", Err(WrongType)),
            ("[1]", Err(WrongType)),
        ],
    );
}

#[test]
fn floats_take_numbers_in_range_and_the_special_names() {
    for kind in ["float", "double"] {
        check(
            json!(kind),
            &[
                ("1", Ok("1.0")),
                ("-2.5e1", Ok("-25.0")),
                ("\"NaN\"", Ok("NaN")),
                ("\"-Infinity\"", Ok("-inf")),
                ("1e999", Err(OutOfRange)),
                ("1e-999", Ok("0.0")),
                ("\"inf\"", Err(WrongType)),
                ("\"1\"", Err(WrongType)),
                ("false", Err(WrongType)),
            ],
        );
    }
    check(json!("float"), &[("1e39", Err(OutOfRange)), ("0.1", Ok("0.1"))]);
    check(
        json!("double"),
        &[
            ("1e39", Ok("1e39")),
            ("123456789.123456789", Ok("123456789.12345679")),
        ],
    );
}

#[test]
fn decimal_is_exact_or_refused() {
    check(
        json!("decimal(10, 2)"),
        &[
            ("12.34", Ok("12.34")),
            ("\"-12.3\"", Ok("-12.30")),
            ("1e7", Ok("10000000.00")),
            ("1e8", Err(OutOfRange)),
            ("0.125", Err(OutOfRange)),
            ("0.120", Ok("0.12")),
            ("\"twelve\"", Err(WrongType)),
            ("\"\"", Err(WrongType)),
            ("true", Err(WrongType)),
        ],
    );
    let widest = "12345678901234567890.123456789012345678";
    check(json!("decimal(38, 18)"), &[(widest, Ok(widest))]);
}

#[test]
fn dates_and_times_take_iso_texts() {
    check(
        json!("date"),
        &[
            ("\"2024-02-29\"", Ok("2024-02-29")),
            ("\"2023-02-29\"", Err(OutOfRange)),
            ("\"2024-02-29T00:00:00\"", Err(WrongType)),
            ("19782", Err(WrongType)),
        ],
    );
    check(
        json!("time"),
        &[
            ("\"23:59:59.1234567\"", Ok("23:59:59.123456")),
            ("\"24:00:00\"", Err(OutOfRange)),
            ("\"12:00\"", Err(WrongType)),
        ],
    );
    check(
        json!("timestamp"),
        &[
            ("\"2024-02-29 12:00:00\"", Ok("2024-02-29T12:00:00")),
            ("\"2024-02-29T12:00:00.5\"", Ok("2024-02-29T12:00:00.500")),
            ("\"2024-02-29T12:00:00Z\"", Err(WrongType)),
        ],
    );
    check(
        json!("timestamptz"),
        &[
            ("\"2024-02-29T12:00:00+01:00\"", Ok("2024-02-29T11:00:00Z")),
            (
                "\"2024-02-29T12:00:00.000001z\"",
                Ok("2024-02-29T12:00:00.000001Z"),
            ),
            ("\"2024\\u002d02-29T12:00:00Z\"", Ok("2024-02-29T12:00:00Z")),
            ("\"2024-02-29T12:00:00\"", Err(WrongType)),
            ("\"2024-02-30T12:00:00Z\"", Err(OutOfRange)),
            ("1700000000", Err(WrongType)),
        ],
    );
    check(
        json!("timestamptz_ns"),
        &[
            (
                "\"2024-02-29T12:00:00.000000001Z\"",
                Ok("2024-02-29T12:00:00.000000001Z"),
            ),
            ("\"2300-01-01T00:00:00Z\"", Err(OutOfRange)),
        ],
    );
}

#[test]
fn string_takes_strings_only_unless_any_value_is_text() {
    let cases = [
        ("\"\"", Ok(""), Ok("")),
        ("\"a\\n\\u00e9\\ud83d\\ude00\"", Ok("a\né😀"), Ok("a\né😀")),
        ("null", Ok("null"), Ok("null")),
        ("1.10", Err(WrongType), Ok("1.10")),
        ("1e999", Err(WrongType), Ok("1e999")),
        ("true", Err(WrongType), Ok("true")),
        ("{\"b\": [1, null]}", Err(WrongType), Ok("{\"b\": [1, null]}")),
        ("\"\\ud83d\"", Err(Syntax), Err(Syntax)),
        ("[\"\\ud83d\"]", Err(WrongType), Err(Syntax)),
    ];
    for (value, strict, any) in cases {
        let kind = json!("string");
        assert_eq!(
            read(&kind, Strings::Strict, value),
            strict.map(str::to_owned),
            "{value}"
        );
        let found = read(&kind, Strings::AnyValueAsText, value);
        assert_eq!(found, any.map(str::to_owned), "{value}");
    }
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    assert_eq!(
        read(&json!("string"), Strings::AnyValueAsText, &deep),
        Err(TooDeep)
    );
    assert_eq!(read(&json!("long"), Strings::Strict, &deep), Err(WrongType));
}

#[test]
fn uuid_and_bytes_take_their_texts() {
    let uuid = "f79c3e09677c4bbda4793f349cb785e7";
    check(
        json!("uuid"),
        &[
            ("\"f79c3e09-677c-4bbd-a479-3f349cb785e7\"", Ok(uuid)),
            ("\"F79C3E09677C4BBDA4793F349CB785E7\"", Ok(uuid)),
            ("\"{f79c3e09-677c-4bbd-a479-3f349cb785e7}\"", Err(WrongType)),
            ("\"\"", Err(WrongType)),
        ],
    );
    check(
        json!("binary"),
        &[
            ("\"+/8=\"", Ok("fbff")),
            ("\"+\\/8\"", Ok("fbff")),
            ("\"-_8\"", Ok("fbff")),
            ("\"\"", Ok("")),
            ("\"?\"", Err(WrongType)),
            ("[1]", Err(WrongType)),
        ],
    );
    check(
        json!("fixed[2]"),
        &[
            ("\"+/8=\"", Ok("fbff")),
            ("\"+/8A\"", Err(OutOfRange)),
            ("null", Ok("null")),
        ],
    );
}

fn list(element: Value, required: bool) -> Value {
    json!({"type": "list", "element-id": 100, "element": element, "element-required": required})
}

fn map(key: &str, value: &str, required: bool) -> Value {
    json!({"type": "map", "key-id": 101, "key": key, "value-id": 102, "value": value, "value-required": required})
}

#[test]
fn lists_take_arrays() {
    check(
        list(json!("int"), false),
        &[
            ("[1, null, 3]", Ok("[1, null, 3]")),
            ("[]", Ok("[]")),
            ("null", Ok("null")),
            ("[1, \"2\"]", Err(WrongType)),
            ("{}", Err(WrongType)),
            ("1", Err(WrongType)),
            ("\"x\"", Err(WrongType)),
        ],
    );
    check(list(json!("int"), true), &[("[1, null]", Err(MissingRequired))]);
}

#[test]
fn maps_take_objects_with_distinct_keys() {
    check(
        map("string", "long", false),
        &[
            ("{\"a\": 1, \"b\": null}", Ok("{a: 1, b: null}")),
            ("{}", Ok("{}")),
            ("{\"a\": 1, \"\\u0061\": 2}", Err(DuplicateField)),
            ("{\"a\": \"x\", \"b\": 1}", Err(WrongType)),
            ("[]", Err(WrongType)),
        ],
    );
    check(
        map("string", "long", true),
        &[("{\"a\": null}", Err(MissingRequired))],
    );
    check(
        map("int", "boolean", true),
        &[
            ("{\"1\": true, \"-2\": false}", Ok("{1: true, -2: false}")),
            ("{\"1\": true, \"1.0\": false}", Err(DuplicateField)),
            ("{\" 1\": true}", Err(WrongType)),
            ("{\"x\": true}", Err(WrongType)),
            ("{\"null\": true}", Err(WrongType)),
        ],
    );
    check(
        map("date", "int", true),
        &[("{\"2024-01-02\": 1}", Ok("{2024-01-02: 1}"))],
    );
    check(map("boolean", "int", true), &[("{\"true\": 1}", Ok("{true: 1}"))]);
    check(
        map("double", "int", true),
        &[("{\"1.5\": 1}", Ok("{1.5: 1}")), ("{\"inf\": 1}", Err(WrongType))],
    );
    let entries: Vec<String> = (0..100).map(|n| format!("\"{}\":{n}", n % 99)).collect();
    let many = format!("{{{}}}", entries.join(","));
    check(map("string", "long", true), &[(&many, Err(DuplicateField))]);
}

#[test]
fn map_with_nested_keys_has_no_decoder() {
    let nested = json!({"type": "map", "key-id": 101, "key": list(json!("int"), true),
        "value-id": 102, "value": "int", "value-required": true});
    let error = JsonDecoder::try_new(table(&[("v", nested)]), Strings::Strict)
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::TableMismatch);
}

#[test]
fn reason_names_types_and_the_path_but_no_value() {
    let line = json!({"type": "struct", "fields": [
        {"id": 110, "name": "n", "required": true, "type": "long"},
        {"id": 111, "name": "m", "required": false, "type": map("string", "int", false)},
    ]});
    let schema = table(&[("id!", json!("long")), ("lines", list(line, false))]);
    let cases = [
        (
            r#"{"id":1,"lines":[{"n":1},{"n":"secret"}]}"#,
            WrongType,
            "$.lines[1].n",
        ),
        (
            r#"{"id":1,"lines":[{"n":1},{}]}"#,
            MissingRequired,
            "$.lines[1].n",
        ),
        (
            r#"{"id":1,"lines":[{"n":1,"m":{"secret":"secret"}}]}"#,
            WrongType,
            "$.lines[0].m.*",
        ),
        (
            r#"{"id":1,"lines":[{"n":1,"n":2}]}"#,
            DuplicateField,
            "$.lines[0].n",
        ),
        (r#"{"id":null,"lines":"secret"}"#, MissingRequired, "$.id"),
        (r#"{"lines":[]}"#, MissingRequired, "$.id"),
        (r#"{"id":1,"lines":"secret"}"#, WrongType, "$.lines"),
        (r#"{"id":1,"lines":[{"n":secret}]}"#, Syntax, "$.lines[0].n"),
    ];
    for (payload, kind, path) in cases {
        let (_, rejected) = decode(&schema, Strings::Strict, payload.as_bytes());
        let [lost] = rejected.as_slice() else {
            panic!("{payload}: {rejected:?}")
        };
        assert_eq!(lost.reason.kind, kind, "{payload}");
        assert_eq!(lost.reason.path.as_deref(), Some(path), "{payload}");
        assert!(!lost.reason.message.contains("secret"), "{}", lost.reason.message);
        assert_eq!(lost.raw, payload);
    }
}

#[test]
fn batch_has_the_field_ids_of_the_table() {
    let schema = table(&[("id!", json!("long")), ("tags", list(json!("string"), true))]);
    let (batch, _) = decode(&schema, Strings::Strict, b"{\"id\":1,\"tags\":[\"a\"]}");
    let expected = iceberg::arrow::schema_to_arrow_schema(&schema).unwrap();
    assert_eq!(batch.schema().as_ref(), &expected);
    assert_eq!(batch.schema().field(1).metadata()["PARQUET:field_id"], "2");
}

#[test]
fn null_struct_masks_its_required_fields() {
    let inner =
        json!({"type": "struct", "fields": [{"id": 110, "name": "n", "required": true, "type": "uuid"}]});
    let schema = table(&[("s", inner)]);
    let (batch, rejected) = decode(&schema, Strings::Strict, b"{\"s\":null}{}{\"s\":{}}");
    assert_eq!(batch.num_rows(), 2);
    assert_eq!(rejected[0].reason.path.as_deref(), Some("$.s.n"));
}

#[test]
fn unknown_fields_are_counted_by_dotted_name_within_a_limit() {
    let inner =
        json!({"type": "struct", "fields": [{"id": 110, "name": "n", "required": false, "type": "int"}]});
    let schema = table(&[("id", json!("long")), ("s", inner)]);
    let mut decoder = JsonDecoder::try_new(schema, Strings::Strict).unwrap();
    let mut rejected = Vec::new();
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    let payload = format!("{{\"x\":{deep},\"id\":1,\"s\":{{\"y\":1e999}}}}{{\"x\":\"\\ud800\"}}");
    assert_eq!(decoder.decode(&Bytes::from(payload), &mut rejected), 2);
    assert!(rejected.is_empty());
    let unknown = decoder.take_unknown_fields();
    assert_eq!(
        unknown.into_iter().collect::<Vec<_>>(),
        [("s.y".into(), 1), ("x".into(), 2)]
    );
    for place in 0..150 {
        decoder.decode(&Bytes::from(format!("{{\"k{place}\":1}}")), &mut rejected);
    }
    let unknown = decoder.take_unknown_fields();
    assert_eq!(unknown.len(), 101);
    assert_eq!(unknown["*"], 50);
}
