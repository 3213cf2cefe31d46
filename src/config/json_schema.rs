//! The JSON Schema of a configuration, from the descriptions that the reader goes by.
//!
//! It refuses nothing that the reader takes. What one value alone does not show (two keys that do not go together, names
//! that stand twice, a variable's value) only the reader knows.

use serde_json::{Map, Value, json};

use super::Config;
use super::key::{Absent, Key, Keys, Shape, Text};
use super::load::{CONFIG, ROUTES, TABLES};
use super::quantity::{COUNT_PATTERN, duration_pattern, size_pattern};

type Object = Map<String, Value>;

/// What stands at the end of a key for the name of any column.
const ANY_COLUMN: &str = ".COLUMN";

impl Config {
    /// The JSON Schema (draft 2020-12) of configurations, by which editors complete and check them.
    pub fn json_schema() -> Value {
        let mut schema = object("config", &CONFIG);
        schema.insert(
            "$schema".to_owned(),
            json!("https://json-schema.org/draft/2020-12/schema"),
        );
        schema.insert("title".to_owned(), json!("landfast configuration"));
        schema.insert(
            "description".to_owned(),
            json!("Which events and files land in which Apache Iceberg tables. Values may hold `${NAME}`."),
        );
        // Something must land.
        schema.insert(
            "anyOf".to_owned(),
            json!([
                { "required": [TABLES.name], "properties": { TABLES.name: { "minProperties": 1 } } },
                { "required": [ROUTES.name] },
            ]),
        );
        let nested = CONFIG.with_nested().into_iter().skip(1);
        let mut definitions: Object = nested
            .map(|keys| (keys.title.to_owned(), mapping(keys)))
            .collect();
        definitions.insert(
            "variable".to_owned(),
            json!({ "type": "string", "pattern": VARIABLE, "description": "A value with variables of the environment." }),
        );
        schema.insert("$defs".to_owned(), definitions.into());
        schema.into()
    }
}

/// A variable somewhere in a text.
const VARIABLE: &str = r"\$\{";

/// A mapping; one of several where a word decides which keys there are.
fn mapping(keys: &'static Keys) -> Value {
    let mut variants = keys.iter().filter_map(|key| match key.shape {
        Shape::Word(words) if !keys.variants.is_empty() => Some((key, words)),
        _ => None,
    });
    let Some((key, words)) = variants.next() else {
        return object(keys.title, keys).into();
    };
    let variants = words.words.iter().map(|(word, _)| {
        let mut variant = object(word, keys);
        let decides = json!({ "anyOf": [{ "const": word }, variable()] });
        add_keys(&mut variant, keys.of_variant(word).iter());
        if let Some(properties) = variant.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert(key.name.to_owned(), decides);
        }
        Value::from(variant)
    });
    // Once more outside, so that editors offer every word.
    let decides = described(key, value(key.shape));
    json!({
        "title": keys.title,
        "properties": { key.name: decides },
        "anyOf": variants.collect::<Vec<_>>(),
    })
}

fn object(title: &str, keys: &'static Keys) -> Object {
    let mut object = Object::new();
    object.insert("title".to_owned(), title.into());
    object.insert("type".to_owned(), "object".into());
    object.insert("additionalProperties".to_owned(), false.into());
    if let Some(others) = &keys.others {
        object.insert("additionalProperties".to_owned(), value(others.shape));
        if let Some(pattern) = others.pattern {
            object.insert("propertyNames".to_owned(), json!({ "pattern": pattern() }));
        }
    }
    if keys.never_empty {
        object.insert("minProperties".to_owned(), 1.into());
    }
    add_keys(&mut object, keys.iter());
    object
}

fn add_keys(object: &mut Object, keys: impl Iterator<Item = &'static Key>) {
    for key in keys {
        let (group, name) = match key.name.strip_suffix(ANY_COLUMN) {
            Some(start) => ("patternProperties", format!(r"^{}\..", start.replace('.', r"\."))),
            None => ("properties", key.name.to_owned()),
        };
        let members = object.entry(group).or_insert_with(|| json!({}));
        if let Some(members) = members.as_object_mut() {
            members.insert(name, described(key, value(key.shape)).into());
        }
        if matches!(key.absent, Absent::Refused) {
            let required = object.entry("required").or_insert_with(|| json!([]));
            if let Some(required) = required.as_array_mut() {
                required.push(key.name.into());
            }
        }
    }
}

/// A key's value with the meaning and the default of the key.
fn described(key: &Key, value: Value) -> Object {
    let mut described = Object::new();
    let mut description = format!("{}.", key.meaning());
    match key.absent {
        Absent::Refused => {}
        Absent::Default(default) => {
            described.insert("default".to_owned(), key.shape.to_json(&default()));
        }
        Absent::Means(without) => description.push_str(&format!(" Default: {without}.")),
    }
    described.insert("description".to_owned(), description.into());
    if let Value::Object(value) = value {
        described.extend(value);
    }
    described
}

fn value(shape: Shape) -> Value {
    match shape {
        Shape::Size => json!({
            "type": ["integer", "string"], "minimum": 1, "pattern": or_variable(&size_pattern()),
        }),
        Shape::Duration => json!({ "type": "string", "pattern": or_variable(&duration_pattern()) }),
        Shape::Count => json!({
            "type": ["integer", "string"], "minimum": 1, "pattern": or_variable(COUNT_PATTERN),
        }),
        Shape::Boolean => {
            json!({ "type": ["boolean", "string"], "pattern": or_variable("^(?:true|false)$") })
        }
        Shape::Word(words) => {
            let mut words: Vec<Value> = words.words.iter().map(|(word, _)| json!(word)).collect();
            // What YAML 1.1 makes of `off`.
            if words.contains(&json!("off")) {
                words.extend([json!(false), json!("false")]);
            }
            json!({ "anyOf": [{ "enum": words }, variable()] })
        }
        Shape::Text(text) => text_value(text),
        Shape::List(list) => json!({ "type": "array", "minItems": 1, "items": value(list.item) }),
        Shape::Map(keys) => json!({ "$ref": format!("#/$defs/{}", keys.title) }),
        Shape::Either(forms) => match forms.forms {
            [form] => value(*form),
            forms => json!({ "anyOf": forms.iter().map(|form| value(*form)).collect::<Vec<_>>() }),
        },
    }
}

fn text_value(text: &Text) -> Value {
    let mut value = Object::new();
    let kinds = if text.any_scalar {
        json!(["string", "number", "boolean"])
    } else {
        json!("string")
    };
    value.insert("type".to_owned(), kinds);
    if let Some(pattern) = text.pattern {
        value.insert("pattern".to_owned(), or_variable(&pattern()).into());
    }
    value.into()
}

fn or_variable(pattern: &str) -> String {
    format!("{pattern}|{VARIABLE}")
}

fn variable() -> Value {
    json!({ "$ref": "#/$defs/variable" })
}
