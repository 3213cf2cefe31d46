//! The columns that BigQuery shows, and what people wrote on them.
//!
//! BigQuery's documentation says of a patch without `autodetect_schema` that it keeps the schema, and nothing of what one
//! with it does to descriptions and policy tags. So they are never left to it: a patch that need not touch the schema does
//! not, and where the table's columns changed under something that people set, the patch brings the whole schema, with it.

use iceberg::spec::{NestedField, PrimitiveType, Schema, Type};
use serde_json::{Map, Value, json};

/// What makes a column, beside which everything else is what somebody set.
const STRUCTURE: [&str; 6] = ["name", "type", "mode", "fields", "precision", "scale"];

/// What a patch says of the columns.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Columns {
    /// Nothing: they are the table's.
    Keep,
    /// That BigQuery reads them anew from the metadata.
    Detect,
    /// These.
    Are(Vec<Value>),
}

/// Says what to do about the columns that BigQuery shows, for a table of this schema.
pub(super) fn columns(found: &[Value], schema: &Schema) -> Columns {
    let ours = fields(schema.as_struct().fields());
    match ours {
        Some(ours) if are_same(found, &ours) => Columns::Keep,
        Some(ours) if has_annotations(found) => Columns::Are(annotated(found, ours)),
        // What cannot be said in BigQuery's words is left as it is, with what people set.
        None if has_annotations(found) => Columns::Keep,
        _ => Columns::Detect,
    }
}

/// The columns in BigQuery's words; nothing where one of them has no such word.
fn fields<'f>(fields: impl IntoIterator<Item = &'f std::sync::Arc<NestedField>>) -> Option<Vec<Value>> {
    fields.into_iter().map(|field| column(field)).collect()
}

fn column(field: &NestedField) -> Option<Value> {
    let mode = if field.required { "REQUIRED" } else { "NULLABLE" };
    let (mode, of) = match field.field_type.as_ref() {
        Type::List(list) => match list.element_field.field_type.as_ref() {
            // An array of arrays is none of BigQuery's types.
            Type::List(_) | Type::Map(_) => return None,
            element => ("REPEATED", type_of(element)?),
        },
        Type::Map(map) => {
            let entry = vec![named(&map.key_field, "key")?, named(&map.value_field, "value")?];
            ("REPEATED", json!({ "type": "RECORD", "fields": entry }))
        }
        other => (mode, type_of(other)?),
    };
    let mut column = json!({ "name": field.name, "mode": mode });
    let (Some(column_keys), Value::Object(of)) = (column.as_object_mut(), of) else {
        return None;
    };
    column_keys.extend(of);
    Some(column)
}

fn named(field: &NestedField, name: &str) -> Option<Value> {
    let mut column = column(field)?;
    column.as_object_mut()?.insert("name".to_owned(), name.into());
    Some(column)
}

fn type_of(kind: &Type) -> Option<Value> {
    let primitive = match kind {
        Type::Primitive(primitive) => primitive,
        Type::Struct(inner) => {
            return Some(json!({ "type": "RECORD", "fields": fields(inner.fields())? }));
        }
        Type::List(_) | Type::Map(_) => return None,
    };
    let word = match primitive {
        PrimitiveType::Boolean => "BOOLEAN",
        PrimitiveType::Int | PrimitiveType::Long => "INTEGER",
        PrimitiveType::Float | PrimitiveType::Double => "FLOAT",
        PrimitiveType::Decimal { precision, scale } => {
            let is_small = *scale <= 9 && precision.saturating_sub(*scale) <= 29;
            let word = if is_small { "NUMERIC" } else { "BIGNUMERIC" };
            return Some(
                json!({ "type": word, "precision": precision.to_string(), "scale": scale.to_string() }),
            );
        }
        PrimitiveType::Date => "DATE",
        PrimitiveType::Time => "TIME",
        PrimitiveType::Timestamp => "DATETIME",
        PrimitiveType::Timestamptz => "TIMESTAMP",
        PrimitiveType::String => "STRING",
        PrimitiveType::Uuid | PrimitiveType::Fixed(_) | PrimitiveType::Binary => "BYTES",
        // BigQuery does not read them.
        PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs => return None,
    };
    Some(json!({ "type": word }))
}

/// Whether the columns have the same names and types. Their order and whether they may be null are not looked at.
fn are_same(found: &[Value], ours: &[Value]) -> bool {
    found.len() == ours.len()
        && ours
            .iter()
            .all(|ours| named_as(found, ours).is_some_and(|found| is_same(found, ours)))
}

fn is_same(found: &Value, ours: &Value) -> bool {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    // Where BigQuery shows a number's digits they count.
    let digits = |key: &str| found.get(key).is_none() || text(found, key) == text(ours, key);
    let is_repeated = |value: &Value| text(value, "mode") == "REPEATED";
    type_word(&text(found, "type")) == type_word(&text(ours, "type"))
        && is_repeated(found) == is_repeated(ours)
        && (found.get("precision").is_none() || (digits("precision") && digits("scale")))
        && are_same(inner(found), inner(ours))
}

/// The older of the two words that BigQuery has for a type.
fn type_word(word: &str) -> &str {
    match word {
        "BOOL" => "BOOLEAN",
        "INT64" => "INTEGER",
        "FLOAT64" => "FLOAT",
        "STRUCT" => "RECORD",
        other => other,
    }
}

fn inner(column: &Value) -> &[Value] {
    column["fields"].as_array().map_or(&[], Vec::as_slice)
}

/// BigQuery's names do not differ by their case alone.
fn named_as<'f>(found: &'f [Value], column: &Value) -> Option<&'f Value> {
    let name = column["name"].as_str()?;
    let is_it = |found: &&Value| {
        found["name"]
            .as_str()
            .is_some_and(|other| other.eq_ignore_ascii_case(name))
    };
    found.iter().find(is_it)
}

/// What somebody set on a column.
fn annotations(column: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let keys = column.as_object().into_iter().flatten();
    keys.filter(|(key, value)| !STRUCTURE.contains(&key.as_str()) && !is_empty(value))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_empty),
        Value::Object(keys) => keys.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn has_annotations(found: &[Value]) -> bool {
    found
        .iter()
        .any(|column| annotations(column).next().is_some() || has_annotations(inner(column)))
}

/// Our columns with what people set on those of the same names.
fn annotated(found: &[Value], ours: Vec<Value>) -> Vec<Value> {
    let annotate = |mut column: Value| {
        let was = named_as(found, &column);
        let within = was.map_or(&[][..], inner);
        let was_required = was.is_some_and(|was| was["mode"] == "REQUIRED");
        let Some(keys) = column.as_object_mut() else {
            return column;
        };
        if let Some(Value::Array(fields)) = keys.remove("fields") {
            keys.insert("fields".to_owned(), annotated(within, fields).into());
        }
        // A column that is new, or was not required, may have no value in older rows' eyes.
        if keys.get("mode").is_some_and(|mode| mode == "REQUIRED") && !was_required {
            keys.insert("mode".to_owned(), "NULLABLE".into());
        }
        // The digits say nothing that the type does not.
        keys.remove("precision");
        keys.remove("scale");
        let set: Map<String, Value> = was
            .into_iter()
            .flat_map(annotations)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        keys.extend(set);
        column
    };
    ours.into_iter().map(annotate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Column, iceberg_schema, parse_type};

    fn schema(columns: &[(&str, &str)]) -> Schema {
        let columns: Vec<Column> = columns
            .iter()
            .map(|(name, kind)| Column {
                name: (*name).to_owned(),
                data_type: parse_type(kind).unwrap(),
                required: false,
                doc: None,
            })
            .collect();
        iceberg_schema(&columns).unwrap()
    }

    #[test]
    fn every_type_has_its_word() {
        let kinds = [
            ("boolean", "BOOL"),
            ("int", "INT64"),
            ("long", "INTEGER"),
            ("float", "FLOAT64"),
            ("double", "FLOAT"),
            ("decimal(38,9)", "NUMERIC"),
            ("decimal(38,10)", "BIGNUMERIC"),
            ("decimal(38,0)", "BIGNUMERIC"),
            ("date", "DATE"),
            ("time", "TIME"),
            ("timestamp", "DATETIME"),
            ("timestamptz", "TIMESTAMP"),
            ("string", "STRING"),
            ("uuid", "BYTES"),
            ("fixed(3)", "BYTES"),
            ("binary", "BYTES"),
        ];
        for (kind, word) in kinds {
            let found = [json!({ "name": "C", "type": word })];
            assert_eq!(columns(&found, &schema(&[("c", kind)])), Columns::Keep, "{kind}");
            let other = [json!({ "name": "c", "type": "GEOGRAPHY" })];
            assert_eq!(
                columns(&other, &schema(&[("c", kind)])),
                Columns::Detect,
                "{kind}"
            );
        }
    }

    #[test]
    fn nested_columns_are_compared_within() {
        let ours = schema(&[
            ("lines", "list<struct<sku: string, n: int>>"),
            ("tags", "map<string, long>"),
        ]);
        let found = |n: &str| {
            [
                json!({ "name": "tags", "type": "RECORD", "mode": "REPEATED", "fields": [
                    { "name": "key", "type": "STRING", "mode": "REQUIRED" }, { "name": "value", "type": "INTEGER" }] }),
                json!({ "name": "lines", "type": "STRUCT", "mode": "REPEATED", "fields": [
                    { "name": "sku", "type": "STRING" }, { "name": n, "type": "INT64" }] }),
            ]
        };
        assert_eq!(columns(&found("n"), &ours), Columns::Keep);
        assert_eq!(columns(&found("m"), &ours), Columns::Detect);
    }

    #[test]
    fn what_people_set_goes_along_with_the_columns() {
        let ours = schema(&[
            ("ID", "long"),
            ("new", "decimal(12,2)"),
            ("a", "struct<b: string, c: int>"),
        ]);
        let tags = json!({ "names": ["projects/p/locations/us/taxonomies/1/policyTags/2"] });
        let found = [
            json!({ "name": "id", "type": "INTEGER", "mode": "REQUIRED", "description": "Order", "policyTags": tags }),
            json!({ "name": "gone", "type": "STRING" }),
            json!({ "name": "a", "type": "RECORD", "fields": [{ "name": "b", "type": "STRING", "policyTags": tags }] }),
        ];
        let Columns::Are(columns) = columns(&found, &ours) else {
            panic!("the columns changed")
        };
        let expected = json!([
            { "name": "ID", "type": "INTEGER", "mode": "NULLABLE", "description": "Order", "policyTags": tags },
            { "name": "new", "type": "NUMERIC", "mode": "NULLABLE" },
            { "name": "a", "type": "RECORD", "mode": "NULLABLE", "fields": [
                { "name": "b", "type": "STRING", "mode": "NULLABLE", "policyTags": tags },
                { "name": "c", "type": "INTEGER", "mode": "NULLABLE" }] },
        ]);
        assert_eq!(Value::from(columns), expected);
    }

    #[test]
    fn nothing_is_lost_where_a_type_has_no_word() {
        let ours = schema(&[("id", "long"), ("grid", "list<list<int>>")]);
        let empty =
            json!({ "name": "id", "type": "INTEGER", "description": "", "policyTags": { "names": [] } });
        let set = json!({ "name": "id", "type": "INTEGER", "description": "Order" });
        assert_eq!(columns(&[empty], &ours), Columns::Detect);
        assert_eq!(columns(&[set], &ours), Columns::Keep);
    }

    #[test]
    fn digits_count_where_they_are_shown() {
        let ours = schema(&[("n", "decimal(12,2)")]);
        let shown = |precision: &str| {
            [json!({ "name": "n", "type": "NUMERIC", "precision": precision, "scale": "2" })]
        };
        assert_eq!(columns(&shown("12"), &ours), Columns::Keep);
        assert_eq!(columns(&shown("10"), &ours), Columns::Detect);
    }
}
