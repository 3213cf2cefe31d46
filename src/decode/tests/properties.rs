//! Properties: whatever bytes come, whatever schema, the good rows land as they are and the bad ones leave no trace.
//!
//! The oracle is by construction: a generated value has its JSON text and what the column must hold.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use chrono::{DateTime, SecondsFormat};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::decode::Inference;

/// A type of the generated schemas.
#[derive(Debug, Clone)]
enum Kind {
    Boolean,
    Int,
    Long,
    Double,
    Decimal,
    Date,
    Timestamptz,
    Text,
    Binary,
    List(Box<Kind>, bool),
    Map(Box<Kind>, bool),
    Struct(Vec<(Kind, bool)>),
}

impl Kind {
    /// The JSON form of the Iceberg type, with ids of its own.
    fn to_json(&self, next_id: &mut i32) -> Value {
        let mut id = || {
            *next_id += 1;
            *next_id
        };
        match self {
            Self::Boolean => json!("boolean"),
            Self::Int => json!("int"),
            Self::Long => json!("long"),
            Self::Double => json!("double"),
            Self::Decimal => json!("decimal(20, 3)"),
            Self::Date => json!("date"),
            Self::Timestamptz => json!("timestamptz"),
            Self::Text => json!("string"),
            Self::Binary => json!("binary"),
            Self::List(element, required) => {
                let id = id();
                json!({"type": "list", "element-id": id, "element": element.to_json(next_id),
                    "element-required": required})
            }
            Self::Map(value, required) => {
                let (key, id) = (id(), id());
                json!({"type": "map", "key-id": key, "key": "string", "value-id": id,
                    "value": value.to_json(next_id), "value-required": required})
            }
            Self::Struct(fields) => {
                let fields: Vec<Value> = fields
                    .iter()
                    .enumerate()
                    .map(|(place, (kind, required))| {
                        *next_id += 1;
                        let id = *next_id;
                        json!({"id": id, "name": format!("n{place}"), "required": required,
                            "type": kind.to_json(next_id)})
                    })
                    .collect();
                json!({"type": "struct", "fields": fields})
            }
        }
    }
}

fn any_kind() -> impl Strategy<Value = Kind> {
    let leaf = prop_oneof![
        Just(Kind::Boolean),
        Just(Kind::Int),
        Just(Kind::Long),
        Just(Kind::Double),
        Just(Kind::Decimal),
        Just(Kind::Date),
        Just(Kind::Timestamptz),
        Just(Kind::Text),
        Just(Kind::Binary),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            (inner.clone(), any::<bool>()).prop_map(|(kind, required)| Kind::List(Box::new(kind), required)),
            (inner.clone(), any::<bool>()).prop_map(|(kind, required)| Kind::Map(Box::new(kind), required)),
            vec((inner, any::<bool>()), 1..4).prop_map(Kind::Struct),
        ]
    })
}

/// The text of a value, and what its column must hold.
type Pair = (String, Value);

fn value_of(kind: &Kind, required: bool) -> BoxedStrategy<Pair> {
    let value = match kind {
        Kind::Boolean => any::<bool>().prop_map(|v| (v.to_string(), json!(v))).boxed(),
        Kind::Int => any::<i32>().prop_map(|v| (v.to_string(), json!(v))).boxed(),
        Kind::Long => (any::<i64>(), any::<bool>())
            .prop_map(|(v, quoted)| (if quoted { format!("\"{v}\"") } else { v.to_string() }, json!(v)))
            .boxed(),
        Kind::Double => any::<f64>()
            .prop_filter("JSON has finite numbers only", |v| v.is_finite())
            .prop_map(|v| (serde_json::to_string(&v).unwrap(), json!(v.to_bits())))
            .boxed(),
        Kind::Decimal => (-10_i64.pow(15)..10_i64.pow(15))
            .prop_map(|v| (format!("{v}e-3"), json!(v.to_string())))
            .boxed(),
        Kind::Date => (-700_000_i32..2_900_000)
            .prop_map(|days| {
                let at = DateTime::from_timestamp(i64::from(days) * 86_400, 0).unwrap();
                (format!("\"{}\"", at.format("%Y-%m-%d")), json!(days))
            })
            .boxed(),
        Kind::Timestamptz => (-62_135_596_800_000_000_i64..253_402_300_799_999_999)
            .prop_map(|micros| {
                let at = DateTime::from_timestamp_micros(micros).unwrap();
                (
                    format!("\"{}\"", at.to_rfc3339_opts(SecondsFormat::Micros, true)),
                    json!(micros),
                )
            })
            .boxed(),
        Kind::Text => any::<String>()
            .prop_map(|v| (serde_json::to_string(&v).unwrap(), json!(v)))
            .boxed(),
        Kind::Binary => vec(any::<u8>(), 0..8)
            .prop_map(|v| {
                use base64::Engine;
                let text = base64::engine::general_purpose::STANDARD.encode(&v);
                (format!("\"{text}\""), json!(v))
            })
            .boxed(),
        Kind::List(element, required) => vec(value_of(element, *required), 0..4)
            .prop_map(|elements| {
                let (texts, values): (Vec<_>, Vec<_>) = elements.into_iter().unzip();
                (format!("[{}]", texts.join(", ")), Value::Array(values))
            })
            .boxed(),
        Kind::Map(element, required) => {
            proptest::collection::btree_map("[a-c\"\\\\]{1,2}", value_of(element, *required), 0..12)
                .prop_map(|entries| {
                    let entries: Vec<_> = entries.into_iter().map(|(key, pair)| (key, Some(pair))).collect();
                    object(entries)
                })
                .boxed()
        }
        Kind::Struct(fields) => struct_of(fields, "n").boxed(),
    };
    if required {
        return value;
    }
    prop_oneof![4 => value, 1 => Just(("null".to_owned(), Value::Null))].boxed()
}

/// Objects of a struct: fields in any order, optional ones perhaps missing.
fn struct_of(fields: &[(Kind, bool)], prefix: &'static str) -> impl Strategy<Value = Pair> + use<> {
    let values: Vec<BoxedStrategy<Option<Pair>>> = fields
        .iter()
        .map(|(kind, required)| {
            let value = value_of(kind, *required);
            if *required {
                value.prop_map(Some).boxed()
            } else {
                prop_oneof![6 => value.prop_map(Some), 1 => Just(None)].boxed()
            }
        })
        .collect();
    let named = values.prop_map(move |values| {
        values
            .into_iter()
            .enumerate()
            .map(|(place, pair)| (format!("{prefix}{place}"), pair))
            .collect::<Vec<_>>()
    });
    prop_oneof![2 => named.clone(), 1 => named.prop_shuffle()].prop_map(object)
}

fn object(entries: Vec<(String, Option<Pair>)>) -> Pair {
    let mut texts = Vec::new();
    let mut values = serde_json::Map::new();
    for (name, pair) in entries {
        let value = match pair {
            Some((text, value)) => {
                texts.push(format!("{}:{text}", serde_json::to_string(&name).unwrap()));
                value
            }
            None => Value::Null,
        };
        values.insert(name, value);
    }
    (format!("{{{}}}", texts.join(",")), Value::Object(values))
}

/// Reads a value back from an array.
fn read(array: &ArrayRef, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => json!(array.as_boolean().value(row)),
        DataType::Int32 => json!(array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => json!(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => json!(array.as_primitive::<Float64Type>().value(row).to_bits()),
        DataType::Decimal128(..) => json!(array.as_primitive::<Decimal128Type>().value(row).to_string()),
        DataType::Date32 => json!(array.as_primitive::<Date32Type>().value(row)),
        DataType::Timestamp(..) => json!(array.as_primitive::<TimestampMicrosecondType>().value(row)),
        DataType::Utf8 => json!(array.as_string::<i32>().value(row)),
        DataType::LargeBinary => json!(array.as_binary::<i64>().value(row)),
        DataType::List(_) => {
            let elements = array.as_list::<i32>().value(row);
            (0..elements.len()).map(|place| read(&elements, place)).collect()
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            (0..entries.len())
                .map(|place| {
                    (
                        keys.as_string::<i32>().value(place).to_owned(),
                        read(values, place),
                    )
                })
                .collect()
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            fields
                .iter()
                .zip(columns)
                .map(|(field, column)| (field.name().clone(), read(column, row)))
                .collect()
        }
        other => panic!("no reader for {other}"),
    }
}

fn read_rows(batch: &RecordBatch) -> Vec<Value> {
    let schema = batch.schema();
    let read_row = |row: usize| -> Value {
        let columns = schema.fields().iter().zip(batch.columns());
        columns
            .map(|(field, column)| (field.name().clone(), read(column, row)))
            .collect()
    };
    (0..batch.num_rows()).map(read_row).collect()
}

/// A record: good with its row, or spoilt.
#[derive(Debug, Clone)]
struct Line {
    text: String,
    row: Option<Value>,
}

/// A schema whose first field `f0` is a required long, and records of it, some spoilt.
#[derive(Debug, Clone)]
struct Case {
    schema: SchemaRef,
    lines: Vec<Line>,
}

/// Spoils a record. Its text stays JSON; the misfit is at its end, so all its columns were written to.
fn spoil(text: &str, how: u8) -> String {
    let open = text.strip_suffix('}').unwrap();
    match how {
        0 => format!("{open},\"f0\":1}}"),
        1 => format!("{open},\"f0\":{{\"deep\":[1,2]}}}}"),
        2 => text.replacen("\"f0\":", "\"g0\":", 1),
        3 => text.replacen("\"f0\":", "\"f0\":null,\"g0\":", 1),
        4 => format!("{open},\"f0\":1e400}}"),
        5 => "true".to_owned(),
        _ => "\"}{\"".to_owned(),
    }
}

fn any_case() -> impl Strategy<Value = Case> {
    vec((any_kind(), any::<bool>()), 0..5).prop_flat_map(|mut fields| {
        fields.insert(0, (Kind::Long, true));
        let mut next_id = 1_000;
        let named: Vec<(String, Value)> = fields
            .iter()
            .enumerate()
            .map(|(place, (kind, required))| {
                let mark = if *required { "!" } else { "" };
                (format!("f{place}{mark}"), kind.to_json(&mut next_id))
            })
            .collect();
        let named: Vec<(&str, Value)> = named
            .iter()
            .map(|(name, kind)| (name.as_str(), kind.clone()))
            .collect();
        let schema = table(&named);
        let line = (struct_of(&fields, "f"), proptest::option::weighted(0.3, 0_u8..7));
        vec(line, 1..12).prop_map(move |lines| Case {
            schema: schema.clone(),
            lines: lines
                .into_iter()
                .map(|((text, row), how)| match how {
                    Some(how) => Line {
                        text: spoil(&text, how),
                        row: None,
                    },
                    None => Line { text, row: Some(row) },
                })
                .collect(),
        })
    })
}

fn check_case(case: &Case, payload: &str) -> Result<(), TestCaseError> {
    let (batch, rejected) = decode(&case.schema, Strings::Strict, payload.as_bytes());
    let good: Vec<Value> = case.lines.iter().filter_map(|line| line.row.clone()).collect();
    prop_assert_eq!(read_rows(&batch), good);
    let lost: Vec<(u64, &[u8])> = rejected
        .iter()
        .map(|lost| (lost.position, lost.raw.as_ref()))
        .collect();
    let spoilt: Vec<(u64, &[u8])> = (0..)
        .zip(&case.lines)
        .filter(|(_, line)| line.row.is_none())
        .map(|(position, line)| (position, line.text.as_bytes()))
        .collect();
    prop_assert_eq!(lost, spoilt);
    Ok(())
}

/// Bytes that look like JSON often enough to get somewhere.
fn jsonish() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        4 => prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\n", "\"", "\\", "\\ud800", "\"f0\"", "\"f0\":1", "{\"f0\":1}",
            "{\"f0\":\"x\"}", "1", "-", "1e999", "true", "nul", "null", " ", "\r\n", "\u{feff}", "é",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 1..3),
    ];
    vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

fn check_bytes(payload: Vec<u8>) -> Result<(), TestCaseError> {
    let payload = Bytes::from(payload);
    let schema = table(&[("f0!", json!("long")), ("f1", json!("string"))]);
    for strings in [Strings::Strict, Strings::AnyValueAsText] {
        let mut decoder = JsonDecoder::try_new(schema.clone(), strings).unwrap();
        let mut rejected = Vec::new();
        let row_count = decoder.decode(&payload, &mut rejected);
        let record_count = (row_count + rejected.len()) as u64;
        for pair in rejected.windows(2) {
            prop_assert!(pair[0].position < pair[1].position);
        }
        prop_assert!(rejected.last().is_none_or(|lost| lost.position < record_count));
        prop_assert_eq!(decoder.finish().unwrap().num_rows(), row_count);
    }
    let mut inference = Inference::new(10);
    inference.observe(&payload);
    let _schema = inference.schema();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn good_rows_land_and_spoilt_ones_are_rejected_in_every_shape(case in any_case(), tight in any::<bool>()) {
        let texts: Vec<&str> = case.lines.iter().map(|line| line.text.as_str()).collect();
        check_case(&case, &texts.join(if tight { "" } else { " " }))?;
        check_case(&case, &format!("[{}]", texts.join(if tight { "," } else { ",\n" })))?;
        check_case(&case, &texts.join(if tight { "\n" } else { "\r\n\n" }))?;
    }

    #[test]
    fn broken_lines_cost_themselves_only(case in any_case(), cut in 1_usize..40) {
        let mut case = case;
        case.lines.retain(|line| line.row.is_some() || line.text.starts_with('{'));
        // A first line that is whole tells that newlines end records.
        let Some(good) = case.lines.iter().position(|line| line.row.is_some()) else {
            return Ok(());
        };
        case.lines.rotate_left(good);
        for line in case.lines.iter_mut().filter(|line| line.row.is_none()) {
            let end = line.text.len().saturating_sub(cut).max(1);
            line.text = String::from_utf8_lossy(&line.text.as_bytes()[..end]).trim_end().to_owned();
        }
        let texts: Vec<&str> = case.lines.iter().map(|line| line.text.as_str()).collect();
        check_case(&case, &texts.join("\n"))?;
    }

    #[test]
    fn rejected_records_leave_no_trace_in_the_columns(case in any_case()) {
        let mut with = JsonDecoder::try_new(case.schema.clone(), Strings::Strict).unwrap();
        let mut without = JsonDecoder::try_new(case.schema.clone(), Strings::Strict).unwrap();
        let mut rejected = Vec::new();
        for line in &case.lines {
            let payload = Bytes::from(line.text.clone());
            with.decode(&payload, &mut rejected);
            if line.row.is_some() {
                without.decode(&payload, &mut Vec::new());
            }
            prop_assert_eq!(with.held_bytes(), without.held_bytes());
        }
        prop_assert_eq!(with.finish().unwrap(), without.finish().unwrap());
    }

    #[test]
    fn inferred_schema_takes_all_it_was_learned_from(case in any_case()) {
        let texts: Vec<&str> = case.lines.iter().filter(|line| line.row.is_some()).map(|line| line.text.as_str()).collect();
        if texts.is_empty() {
            return Ok(());
        }
        let payload = Bytes::from(format!("[{}]", texts.join(",")));
        let mut inference = Inference::new(1_000);
        inference.observe(&payload);
        let schema = Arc::new(inference.schema().unwrap());
        let (batch, rejected) = decode(&schema, Strings::AnyValueAsText, &payload);
        prop_assert_eq!(&rejected, &[]);
        prop_assert_eq!(batch.num_rows(), texts.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(768))]

    #[test]
    fn every_record_of_any_bytes_is_a_row_or_a_reject(payload in jsonish()) {
        check_bytes(payload)?;
    }

    #[test]
    fn any_bytes_are_safe(payload in vec(any::<u8>(), 0..200)) {
        check_bytes(payload.clone())?;
        let _outcome = crate::decode::decompress(Bytes::from(payload), 1 << 16);
    }
}
