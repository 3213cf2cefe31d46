//! The effective configuration, written out: what `config print` shows.

use std::collections::BTreeMap;

use super::expand::escape;
use super::quantity::{duration_text, size_text};
use super::schema::type_text;
use super::{
    BatchConfig, CatalogConfig, Config, FileMatch, Format, PartitionBy, PushAuth, RouteConfig, SchemaConfig,
    ServerConfig, TableConfig,
};

/// What stands for a secret.
const SECRET: &str = "***";

impl Config {
    /// Writes the configuration with its defaults as YAML that reads back to an equal one. Secrets show as `***`.
    pub fn to_yaml(&self) -> String {
        let mut yaml = String::new();
        write_yaml(&self.printed(), 0, &mut yaml);
        yaml
    }

    /// Writes the configuration with its defaults as JSON, with the keys of the YAML. Secrets show as `***`.
    pub fn to_json(&self) -> serde_json::Value {
        to_json(&self.printed())
    }

    fn printed(&self) -> Printed {
        let mut keys = Keys::default();
        keys.text("warehouse", &self.warehouse.to_string());
        keys.map("catalog", |keys| {
            keys.text("type", self.catalog.name());
            if let CatalogConfig::Sql(sql) = &self.catalog {
                keys.text("uri", &sql.uri.to_string());
                keys.text("name", &sql.name);
            }
        });
        keys.map("server", |keys| print_server(&self.server, keys));
        keys.text("dead_letters", &self.dead_letters.to_string());
        keys.map("sources", |keys| {
            for (name, source) in &self.sources {
                keys.map(name, |keys| keys.list("subscriptions", &source.subscriptions));
            }
        });
        let defaults = &self.defaults;
        keys.map("defaults", |keys| {
            print_shared(
                defaults.format,
                &defaults.schema,
                &defaults.batch,
                &defaults.partition_by,
                &defaults.properties,
                keys,
            );
        });
        keys.map("tables", |keys| {
            for (ident, table) in &self.tables {
                keys.map(&ident.to_string(), |keys| print_table(table, keys));
            }
        });
        keys.items("routes", self.routes.iter().map(print_route));
        keys.done()
    }
}

fn print_server(server: &ServerConfig, keys: &mut Keys) {
    keys.text("listen", &server.listen.to_string());
    match server.push_auth {
        Some(PushAuth::Off) => keys.text("push_auth", "off"),
        None => {}
    }
    if server.api_auth.is_some() {
        keys.map("api_auth", |keys| keys.text("bearer", SECRET));
    }
    keys.text("max_in_flight_bytes", &size_text(server.max_in_flight_bytes));
    keys.text(
        "max_in_flight_requests",
        &server.max_in_flight_requests.to_string(),
    );
    keys.text("max_body_bytes", &size_text(server.max_body_bytes));
    keys.text("ack_deadline", &duration_text(server.ack_deadline));
}

fn print_table(table: &TableConfig, keys: &mut Keys) {
    keys.items(
        "from",
        table.from.iter().map(|conditions| {
            let mut keys = Keys::default();
            print_conditions(
                conditions.subscription.as_deref(),
                &conditions.attributes,
                conditions.files.as_ref(),
                &mut keys,
            );
            keys.done()
        }),
    );
    print_shared(
        table.format,
        &table.schema,
        &table.batch,
        &table.partition_by,
        &table.properties,
        keys,
    );
}

fn print_shared(
    format: Format,
    schema: &SchemaConfig,
    batch: &BatchConfig,
    partition_by: &[PartitionBy],
    properties: &BTreeMap<String, String>,
    keys: &mut Keys,
) {
    keys.text("format", format.name());
    match schema {
        SchemaConfig::Inferred => keys.text("schema", "inferred"),
        SchemaConfig::Envelope => keys.text("schema", "envelope"),
        SchemaConfig::Declared(schema) => {
            keys.items(
                "schema",
                schema.as_struct().fields().iter().map(|field| {
                    let mut keys = Keys::default();
                    keys.text("name", &field.name);
                    keys.text("type", &type_text(&field.field_type));
                    keys.text("required", if field.required { "true" } else { "false" });
                    if let Some(doc) = &field.doc {
                        keys.text("doc", doc);
                    }
                    keys.done()
                }),
            );
        }
    }
    keys.text("schema_evolution", "ignore");
    keys.text("on_bad_record", "dead_letter");
    keys.text("mode", "append");
    keys.map("batch", |keys| {
        keys.text("commit_interval", &duration_text(batch.commit_interval));
        keys.text("max_bytes", &size_text(batch.max_bytes));
        keys.text("max_rows", &batch.max_rows.to_string());
    });
    let partition_by: Vec<String> = partition_by.iter().map(PartitionBy::text).collect();
    keys.list("partition_by", &partition_by);
    keys.texts("properties", properties);
}

fn print_route(route: &RouteConfig) -> Printed {
    let mut keys = Keys::default();
    print_conditions(
        route.subscription.as_deref(),
        &route.attributes,
        route.files.as_ref(),
        &mut keys,
    );
    keys.text("table", &route.table.to_string());
    let allow: Vec<String> = route.allow.iter().map(|glob| glob.as_str().to_owned()).collect();
    keys.list("allow", &allow);
    keys.done()
}

fn print_conditions(
    subscription: Option<&str>,
    attributes: &BTreeMap<String, String>,
    files: Option<&FileMatch>,
    keys: &mut Keys,
) {
    if let Some(subscription) = subscription {
        keys.text("subscription", subscription);
    }
    keys.texts("attributes", attributes);
    if let Some(files) = files {
        keys.text("bucket", &files.bucket.to_string());
        if let Some(objects) = &files.objects {
            keys.text("objects", objects.as_str());
        }
    }
}

/// A value to be written; texts are escaped already.
enum Printed {
    Text(String),
    List(Vec<Printed>),
    Map(Vec<(String, Printed)>),
}

/// A mapping being written. Empty lists and mappings are left out, as the reader takes their absence for them.
#[derive(Default)]
struct Keys(Vec<(String, Printed)>);

impl Keys {
    fn text(&mut self, key: &str, value: &str) {
        self.0.push((key.to_owned(), Printed::Text(escape(value))));
    }

    fn map(&mut self, key: &str, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        fill(&mut inner);
        if !inner.0.is_empty() {
            self.0.push((key.to_owned(), inner.done()));
        }
    }

    fn texts(&mut self, key: &str, texts: &BTreeMap<String, String>) {
        self.map(key, |keys| {
            texts.iter().for_each(|(name, value)| keys.text(name, value))
        });
    }

    fn items(&mut self, key: &str, items: impl Iterator<Item = Printed>) {
        let items: Vec<Printed> = items.collect();
        if !items.is_empty() {
            self.0.push((key.to_owned(), Printed::List(items)));
        }
    }

    fn list(&mut self, key: &str, texts: &[String]) {
        self.items(key, texts.iter().map(|text| Printed::Text(escape(text))));
    }

    fn done(self) -> Printed {
        Printed::Map(self.0)
    }
}

fn write_yaml(value: &Printed, indent: usize, yaml: &mut String) {
    match value {
        Printed::Text(text) => yaml.push_str(&scalar(text)),
        Printed::List(items) => {
            for item in items {
                margin(indent, yaml);
                yaml.push_str("- ");
                write_yaml(item, indent + 1, yaml);
                end_line(yaml);
            }
        }
        Printed::Map(keys) => {
            for (key, value) in keys {
                margin(indent, yaml);
                yaml.push_str(&scalar(key));
                yaml.push(':');
                match value {
                    Printed::Text(_) => yaml.push(' '),
                    Printed::List(_) | Printed::Map(_) => yaml.push('\n'),
                }
                write_yaml(value, indent + 1, yaml);
                end_line(yaml);
            }
        }
    }
}

/// Begins a line; the first key of a list's item stands on the line of its dash.
fn margin(indent: usize, yaml: &mut String) {
    if yaml.is_empty() || yaml.ends_with('\n') {
        yaml.push_str(&"  ".repeat(indent));
    }
}

fn end_line(yaml: &mut String) {
    if !yaml.ends_with('\n') {
        yaml.push('\n');
    }
}

/// Text as a YAML scalar: plain where no YAML reader could take it for anything else than text or a number.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 7] = ["null", "yes", "no", "on", "off", "y", "n"];
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if is_plain {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            c if c.is_alphanumeric() => quoted.push(c),
            c => quoted.push_str(&format!("\\U{:08X}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

fn to_json(value: &Printed) -> serde_json::Value {
    match value {
        Printed::Text(text) => serde_json::Value::String(text.clone()),
        Printed::List(items) => items.iter().map(to_json).collect(),
        Printed::Map(keys) => keys
            .iter()
            .map(|(key, value)| (key.clone(), to_json(value)))
            .collect(),
    }
}
