//! Inferred schemas.

use super::*;
use crate::decode::Inference;

fn infer(payloads: &[&str]) -> Inference {
    let mut inference = Inference::new(1_000);
    for payload in payloads {
        inference.observe(&Bytes::copy_from_slice(payload.as_bytes()));
    }
    inference
}

/// The inferred types, as `name: type` in order.
fn show(payloads: &[&str]) -> String {
    let Some(schema) = infer(payloads).schema() else {
        return "none".to_owned();
    };
    show_fields(schema.as_struct().fields())
}

fn show_fields(fields: &[Arc<NestedField>]) -> String {
    let shown: Vec<String> = fields
        .iter()
        .map(|field| {
            assert!(!field.required);
            format!("{}: {}", field.name, show_type(&field.field_type))
        })
        .collect();
    shown.join(", ")
}

fn show_type(kind: &Type) -> String {
    match kind {
        Type::Struct(fields) => format!("{{{}}}", show_fields(fields.fields())),
        Type::List(list) => format!("[{}]", show_type(&list.element_field.field_type)),
        other => other.to_string(),
    }
}

#[test]
fn kinds_become_types() {
    let payload =
        r#"{"a":1,"b":1.5,"c":true,"d":"2024-01-02","e":"2024-01-02T03:04:05Z","f":"x","g":{"h":1},"i":[1]}"#;
    let types = "a: long, b: double, c: boolean, d: date, e: timestamptz, f: string, g: {h: long}, i: [long]";
    assert_eq!(show(&[payload]), types);
}

#[test]
fn mixed_kinds_widen() {
    for (first, second, kind) in [
        ("1", "1.5", "double"),
        ("1.5", "1", "double"),
        ("1", "9223372036854775808", "string"),
        ("1", "99999999999999999999999", "string"),
        ("1.5", "1e999", "string"),
        ("1", "\"x\"", "string"),
        ("true", "1", "string"),
        ("\"2024-01-02\"", "\"2024-01-02T03:04:05Z\"", "string"),
        ("\"2024-01-02\"", "\"2024-01-03\"", "date"),
        ("\"2024-01-02T03:04:05\"", "\"2024-01-02T03:04:05Z\"", "string"),
        ("{\"x\":1}", "[1]", "string"),
        ("{\"x\":1}", "{\"y\":true,\"x\":0.5}", "{x: double, y: boolean}"),
        ("[1]", "[0.5, null]", "[double]"),
        ("[]", "[[\"x\"]]", "[[string]]"),
        ("null", "1", "long"),
        ("{}", "{\"x\":1}", "{x: long}"),
    ] {
        let payload = format!("{{\"v\":{first}}}\n{{\"v\":{second}}}");
        assert_eq!(show(&[&payload]), format!("v: {kind}"), "{payload}");
    }
}

#[test]
fn fields_without_a_known_type_wait() {
    assert_eq!(
        show(&[r#"{"a":null,"b":[],"c":{},"d":[{}],"e":[[null]]}"#]),
        "none"
    );
    assert_eq!(
        show(&[r#"{"a":null,"z":1}"#, r#"{"b":2,"a":true}"#]),
        "a: boolean, z: long, b: long"
    );
}

#[test]
fn ambiguous_names_are_left_out() {
    assert_eq!(show(&[r#"{"Id":1,"id":"x","":3}"#, r#"{"ID":1.5}"#]), "Id: long");
    assert_eq!(
        show(&[r#"{"a.b":1,"a":{"b":2,"c":3}}"#]),
        "a.b: long, a: {c: long}"
    );
    assert_eq!(show(&[r#"{"a.element":1,"a":[1]}"#]), "a.element: long");
}

#[test]
fn bad_records_teach_nothing() {
    let inference = infer(&[
        "{\"a\":1,\"a\":2}\nnonsense\n{\"b\":\"\\ud800\"}\n{\"c\":1}\n[3]",
        "",
    ]);
    assert_eq!(inference.record_count(), 1);
    assert_eq!(
        show_fields(inference.schema().unwrap().as_struct().fields()),
        "c: long"
    );
}

#[test]
fn enough_records_are_enough() {
    let mut inference = Inference::new(2);
    inference.observe(&Bytes::from_static(b"[{\"a\":1},{\"a\":2},{\"a\":\"x\"}]"));
    assert!(inference.is_full());
    inference.observe(&Bytes::from_static(b"{\"b\":1}"));
    assert_eq!(
        show_fields(inference.schema().unwrap().as_struct().fields()),
        "a: long"
    );
}

#[test]
fn columns_and_nesting_are_limited() {
    let fields: Vec<String> = (0..1_500).map(|n| format!("\"f{n}\":{n}")).collect();
    let inference = infer(&[
        &format!("{{{}}}", fields.join(",")),
        "{\"late\":1}",
        "{\"f0\":\"x\"}",
    ]);
    let schema = inference.schema().unwrap();
    assert_eq!(schema.as_struct().fields().len(), 1_000);
    assert_eq!(
        schema
            .as_struct()
            .field_by_name("f0")
            .unwrap()
            .field_type
            .to_string(),
        "string"
    );
    let nested = format!("{{\"s\":{{{}}}}}", fields.join(","));
    assert_eq!(infer(&[&nested]).schema().unwrap().highest_field_id(), 1_001);
    let deep = format!("{}1{}", "{\"d\":".repeat(100), "}".repeat(100));
    assert_eq!(infer(&[&deep]).schema().unwrap().highest_field_id(), 32);
    let deep = format!("{{\"d\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(infer(&[&deep]).schema().is_some());
}

#[test]
fn inferred_table_takes_the_records_it_was_learned_from() {
    let payload =
        b"{\"a\":1,\"m\":[1,\"x\",{}],\"n\":null}\n{\"a\":99999999999999999999,\"s\":{\"t\":\"2024-01-02\"}}";
    let schema = infer(&[std::str::from_utf8(payload).unwrap()]).schema().unwrap();
    let (batch, rejected) = decode(&Arc::new(schema), Strings::AnyValueAsText, payload);
    assert_eq!(rejected, []);
    assert_eq!(texts(&batch, 0), ["1", "99999999999999999999"]);
    assert_eq!(texts(&batch, 1), ["[1, x, {}]", "null"]);
}
