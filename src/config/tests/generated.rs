//! What is generated from the descriptions: the JSON Schema and the tables of `docs/configuration.md`.

use std::path::Path;

use serde_json::{Value, json};

use super::super::key::{Absent, Key, Keys};
use super::super::load::CONFIG;
use super::*;

/// When this variable is set, the files are written anew instead of compared.
const RENEW: &str = "LANDFAST_RENEW_DOCS";

#[test]
fn schema_file_is_current() {
    is_current("docs/config.schema.json", |_| {
        format!("{:#}\n", Config::json_schema())
    });
}

#[test]
fn tables_of_the_documentation_are_current() {
    is_current("docs/configuration.md", with_tables);
}

fn is_current(file: &str, generate: impl FnOnce(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let wanted = generate(&found);
    if process_env(RENEW).is_some() {
        std::fs::write(&path, wanted).unwrap();
    } else {
        assert!(
            found == wanted,
            "{file} is stale; `just docs` renews it ({RENEW}=1 cargo test --lib current)"
        );
    }
}

/// The page with the text between `<!-- keys: TITLE -->` and `<!-- end -->` made anew, and the prose as it was.
/// `TITLE WORD` are the keys that come with the word of the key `type`.
fn with_tables(page: &str) -> String {
    let mut pieces = page.split("<!-- keys: ");
    let mut made = pieces.next().unwrap().to_owned();
    for piece in pieces {
        let (name, rest) = piece.split_once(" -->").unwrap();
        let (_, after) = rest.split_once("<!-- end -->").unwrap();
        let title = name.split(' ').next().unwrap();
        let mappings = CONFIG.with_nested();
        let keys = mappings.iter().find(|keys| keys.title == title);
        let keys = keys.unwrap_or_else(|| panic!("no mapping is called {title}"));
        let mut rows = String::new();
        match name.split_once(' ') {
            Some((_, word)) => add_rows(page, "", keys.of_variant(word).iter(), &mut rows),
            None => add_rows(page, "", keys.iter(), &mut rows),
        }
        made.push_str(&format!(
            "<!-- keys: {name} -->\n\n| key | default | meaning |\n|---|---|---|\n{rows}\n<!-- end -->{after}"
        ));
    }
    made
}

/// A row for each key; the keys of a mapping without a table of its own follow it.
fn add_rows(page: &str, prefix: &str, keys: impl Iterator<Item = &'static Key>, rows: &mut String) {
    for key in keys {
        let name = format!("{prefix}{}", key.name);
        let default = match key.absent {
            Absent::Refused => "required".to_owned(),
            Absent::Default(default) => format!("`{}`", default()),
            Absent::Means(without) => without.to_owned(),
        };
        let meaning = key.meaning().replace('|', "\\|");
        rows.push_str(&format!("| `{name}` | {default} | {meaning} |\n"));
        if let Some(inner) = key.shape.map().filter(|keys| !has_table(page, keys)) {
            add_rows(page, &format!("{name}."), inner.iter(), rows);
        }
    }
}

fn has_table(page: &str, keys: &Keys) -> bool {
    // The keys of `defaults` are those of a table.
    keys.title == "defaults" || page.contains(&format!("<!-- keys: {} -->", keys.title))
}

#[test]
fn documentation_names_every_key() {
    let page = include_str!("../../../docs/configuration.md");
    for keys in CONFIG.with_nested() {
        for key in keys.all() {
            let name = key.name;
            assert!(
                page.contains(&format!("| `{name}` |")) || page.contains(&format!(".{name}` |")),
                "{}: {name}",
                keys.title
            );
        }
    }
}

#[test]
fn described_defaults_are_those_that_hold() {
    let sql = format!("{HEAD}defaults: {{schema: [{{name: x, type: int}}]}}\n{TABLE}")
        .replace("type: storage", "type: sql, uri: 'sqlite:///d/c.db'");
    let rest = format!("{HEAD}{TABLE}").replace(
        "type: storage",
        "type: rest, uri: 'https://h', auth: {type: oauth2, credential: '***'}",
    );
    for text in [format!("{HEAD}{TABLE}"), sql, rest] {
        let printed = parse(&text).to_json();
        // A property that is not set is not printed, and the schema is told by the second text.
        let left_out: Vec<&str> = check_defaults(&CONFIG, &printed, text.contains("name: x"));
        assert!(
            left_out.iter().all(|name| name.starts_with("write.")),
            "{left_out:?}"
        );
    }
}

/// Compares what is printed with the described defaults; returns the keys with a default that are not printed.
fn check_defaults(keys: &'static Keys, printed: &Value, has_schema: bool) -> Vec<&'static str> {
    let mut left_out = Vec::new();
    let variant = printed["type"].as_str().unwrap_or_default();
    for key in keys.iter().chain(keys.of_variant(variant)) {
        match (key.absent, &printed[key.name]) {
            (Absent::Default(_), Value::Null) => left_out.push(key.name),
            (Absent::Default(_), Value::Array(_)) if has_schema => {}
            (Absent::Default(default), value) => {
                assert_eq!(*value, key.shape.to_json(&default()), "{}", key.name);
            }
            _ => {}
        }
        let list = key.shape.list().and_then(|list| list.item.map());
        for (inner, value) in [
            (key.shape.map(), &printed[key.name]),
            (list, &printed[key.name][0]),
        ] {
            if let Some(inner) = inner
                && !value.is_null()
            {
                left_out.extend(check_defaults(inner, value, has_schema));
            }
        }
    }
    if let Some((inner, values)) = keys
        .others
        .as_ref()
        .and_then(|others| others.shape.map())
        .zip(printed.as_object())
    {
        for value in values.values() {
            left_out.extend(check_defaults(inner, value, has_schema));
        }
    }
    left_out
}

#[test]
fn every_described_word_is_read() {
    for keys in CONFIG.with_nested() {
        for key in keys.all() {
            for (word, _) in key.shape.words().map_or(&[][..], |words| words.words) {
                let with = |catalog: &str| format!("{HEAD}{TABLE}").replace("type: storage", catalog);
                let text = match keys.title {
                    "catalog" => with(match *word {
                        "sql" => "type: sql, uri: 'sqlite:///d/c.db'",
                        "rest" => "type: rest, uri: 'https://h'",
                        "storage" => "type: storage",
                        "biglake" => "type: biglake, warehouse: 'bq://projects/p'",
                        "memory" => "type: memory",
                        other => panic!("what else does `type: {other}` need?"),
                    }),
                    "auth" => {
                        let needed = match *word {
                            "bearer" => ", token: t",
                            "oauth2" => ", credential: c",
                            _ => "",
                        };
                        with(&format!(
                            "type: rest, uri: 'https://h', auth: {{type: {word}{needed}}}"
                        ))
                    }
                    "server" => format!("{HEAD}{TABLE}server: {{{}: {word}}}\n", key.name),
                    "table" | "defaults" => format!("{HEAD}tables: {{a.b: {{{}: {word}}}}}\n", key.name),
                    "properties" => {
                        format!(
                            "{HEAD}{TABLE}defaults: {{properties: {{{}: {word}}}}}\n",
                            key.name
                        )
                    }
                    title => panic!("how is `{word}` of `{}` written in `{title}`?", key.name),
                };
                parse(&text);
            }
        }
    }
}

#[test]
fn printed_json_is_typed() {
    let printed = parse(&format!(
        "{HEAD}{TABLE}defaults: {{schema: [{{name: x, type: int, required: true}}], properties: {{n: 1, t: true}}}}\n"
    ))
    .to_json();
    assert_eq!(printed["server"]["max_in_flight_requests"], 1000);
    assert_eq!(printed["server"]["max_body_bytes"], "32MiB");
    let defaults = &printed["defaults"];
    assert_eq!(
        defaults["batch"],
        json!({"commit_interval": "2s", "max_bytes": "32MiB", "max_rows": 100_000})
    );
    assert_eq!(
        defaults["schema"],
        json!([{"name": "x", "type": "int", "required": true}])
    );
    // A property is text, whatever it looks like.
    assert_eq!(defaults["properties"], json!({"n": "1", "t": "true"}));
}
