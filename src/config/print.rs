//! The effective configuration, written out: what `config print` shows.

use std::collections::BTreeMap;

use serde_json::Value;

use super::expand::escape;
use super::key::{Absent, Key};
use super::quantity::{duration_text, size_text};
use super::schema::type_text;
use super::{
    BigQueryConfig, BigQueryDefaults, CatalogConfig, Config, FileMatch, ObjectGlob, PartitionBy, PushAuth,
    RestAuth, RestCatalogConfig, RouteConfig, SchemaConfig, ServerConfig, TableConfig,
};
use super::{
    after, biglake, catalog, conditions, dead_letters, field, files, ledger, load, partition, property,
    publish, push_auth, rest_catalog, route, schema, server, source, status_page, table,
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

    /// Writes the configuration with its defaults as JSON, with the keys of the YAML; counts are numbers, what is true or
    /// false is so, sizes and durations are text with their units. Secrets show as `***`.
    pub fn to_json(&self) -> Value {
        to_json(&self.printed())
    }

    fn printed(&self) -> Printed {
        let mut keys = Keys::default();
        keys.value(&load::WAREHOUSE, &self.warehouse.to_string());
        keys.map(&load::CATALOG, |keys| {
            keys.value(&catalog::TYPE, self.catalog.name());
            match &self.catalog {
                CatalogConfig::Sql(sql) => {
                    keys.value(&catalog::URI, &sql.uri.to_string());
                    keys.value(&catalog::NAME, &sql.name);
                }
                CatalogConfig::Rest(rest) => print_rest(rest, keys),
                CatalogConfig::BigLake(lake) => {
                    keys.value(&biglake::WAREHOUSE, &lake.warehouse);
                    keys.value(&biglake::USER_PROJECT, &lake.user_project);
                    keys.value(&biglake::URI, &lake.uri);
                }
                CatalogConfig::Storage | CatalogConfig::Memory => {}
            }
        });
        keys.map(&load::SERVER, |keys| print_server(&self.server, keys));
        match &self.dead_letter_topic {
            Some(topic) => keys.map(&dead_letters::DEAD_LETTERS, |keys| {
                keys.value(&dead_letters::TOPIC, topic);
                let before = self.dead_letters_before.as_ref().map(ToString::to_string);
                keys.value_if(&dead_letters::BEFORE, before.as_deref());
            }),
            None => keys.value(&dead_letters::DEAD_LETTERS, &self.dead_letters.to_string()),
        }
        keys.map(&load::SOURCES, |keys| {
            for (name, source) in &self.sources {
                keys.named(name, |keys| {
                    keys.list(&source::SUBSCRIPTIONS, &source.subscriptions);
                    keys.value_if(&source::DEDUPE_ATTRIBUTE, source.dedupe_attribute.as_deref());
                });
            }
        });
        let defaults = &self.defaults;
        keys.map(&load::DEFAULTS, |keys| {
            print_shared(&defaults.to_table(), keys);
            print_publish_defaults(&defaults.publish, keys);
        });
        keys.map(&load::TABLES, |keys| {
            for (ident, table) in &self.tables {
                keys.named(&ident.to_string(), |keys| print_table(table, keys));
            }
        });
        keys.items(&load::ROUTES, self.routes.iter().map(print_route));
        keys.done()
    }
}

fn print_rest(rest: &RestCatalogConfig, keys: &mut Keys) {
    keys.value(&rest_catalog::URI, &rest.uri);
    keys.value_if(&rest_catalog::WAREHOUSE, rest.warehouse.as_deref());
    keys.value_if(&rest_catalog::PREFIX, rest.prefix.as_deref());
    keys.map(&rest_catalog::AUTH, |keys| {
        keys.value(&rest_catalog::TYPE, rest.auth.name());
        match &rest.auth {
            RestAuth::None => {}
            RestAuth::Bearer { .. } => keys.value(&rest_catalog::TOKEN, SECRET),
            RestAuth::Google { user_project } => {
                keys.value_if(&rest_catalog::USER_PROJECT, user_project.as_deref());
            }
            RestAuth::OAuth2(oauth2) => {
                keys.value(&rest_catalog::CREDENTIAL, SECRET);
                keys.value(&rest_catalog::SCOPE, &oauth2.scope);
                let server = oauth2.oauth2_server_uri.as_deref();
                keys.value_if(&rest_catalog::OAUTH2_SERVER_URI, server);
            }
        }
    });
    let names = rest.headers.keys();
    let hidden = names.map(|name| (name.clone(), SECRET.to_owned())).collect();
    keys.texts(&rest_catalog::HEADERS, &hidden);
}

fn print_server(server: &ServerConfig, keys: &mut Keys) {
    keys.value(&server::LISTEN, &server.listen.to_string());
    match &server.push_auth {
        Some(PushAuth::Off) => keys.value(&push_auth::PUSH_AUTH, "off"),
        Some(PushAuth::Signed(signed)) => keys.map(&push_auth::PUSH_AUTH, |keys| {
            keys.value(&push_auth::AUDIENCE, &signed.audience);
            keys.list(&push_auth::SERVICE_ACCOUNTS, &signed.service_accounts);
        }),
        None => {}
    }
    if server.api_auth.is_some() {
        keys.map(&server::API_AUTH, |keys| keys.value(&server::BEARER, SECRET));
    }
    keys.value(&status_page::STATUS_PAGE, server.status_page.name());
    if let Some(bytes) = server.max_in_flight_bytes {
        keys.value(&server::MAX_IN_FLIGHT_BYTES, &size_text(bytes));
    }
    keys.value(
        &server::MAX_IN_FLIGHT_REQUESTS,
        &server.max_in_flight_requests.to_string(),
    );
    keys.value(&server::MAX_BODY_BYTES, &size_text(server.max_body_bytes));
    keys.value(&server::ACK_DEADLINE, &duration_text(server.ack_deadline));
    keys.value(&server::CPU_IDLE, &server.cpu_idle.to_string());
}

fn print_table(table: &TableConfig, keys: &mut Keys) {
    keys.items(
        &table::FROM,
        table.from.iter().map(|conditions| {
            let mut keys = Keys::default();
            print_conditions(
                conditions.subscription.as_deref(),
                &conditions.attributes,
                conditions.files.as_ref(),
                &mut keys,
            );
            if let Some(record) = &conditions.record {
                keys.value(&field::FIELD, &record.field);
                keys.value(&field::EQUALS, &record.equals);
            }
            keys.done()
        }),
    );
    print_shared(table, keys);
    if let Some(bigquery) = &table.publish {
        print_publish(bigquery, keys);
    }
}

fn print_publish_defaults(defaults: &BigQueryDefaults, keys: &mut Keys) {
    keys.map(&publish::PUBLISH, |keys| {
        keys.map(&publish::BIGQUERY, |keys| {
            keys.value_if(&publish::PROJECT, defaults.project.as_deref());
            keys.value_if(&publish::DATASET, defaults.dataset.as_deref());
            let connection = defaults.connection.as_ref().map(ToString::to_string);
            keys.value_if(&publish::CONNECTION, connection.as_deref());
            keys.value_if(&publish::LOCATION, defaults.location.as_deref());
            keys.value_if(&publish::DESCRIPTION, defaults.description.as_deref());
            keys.texts(&publish::LABELS, &defaults.labels);
        });
    });
}

fn print_publish(bigquery: &BigQueryConfig, keys: &mut Keys) {
    keys.map(&publish::PUBLISH, |keys| {
        keys.map(&publish::BIGQUERY, |keys| {
            keys.value(&publish::PROJECT, &bigquery.project);
            keys.value(&publish::DATASET, &bigquery.dataset);
            keys.value(&publish::TABLE, &bigquery.table);
            keys.value(&publish::CONNECTION, &bigquery.connection.to_string());
            keys.value(&publish::LOCATION, &bigquery.location);
            keys.value_if(&publish::DESCRIPTION, bigquery.description.as_deref());
            keys.texts(&publish::LABELS, &bigquery.labels);
        });
    });
}

fn print_shared(table: &TableConfig, keys: &mut Keys) {
    keys.value(&table::FORMAT, table.format.name());
    match &table.schema {
        SchemaConfig::Inferred => keys.value(&schema::SCHEMA, "inferred"),
        SchemaConfig::Envelope => keys.value(&schema::SCHEMA, "envelope"),
        SchemaConfig::Declared(schema) => {
            keys.items(
                &schema::SCHEMA,
                schema.as_struct().fields().iter().map(|field| {
                    let mut keys = Keys::default();
                    keys.value(&schema::NAME, &field.name);
                    keys.value(&schema::TYPE, &type_text(&field.field_type));
                    keys.value(&schema::REQUIRED, &field.required.to_string());
                    keys.value_if(&schema::DOC, field.doc.as_deref());
                    keys.done()
                }),
            );
        }
    }
    // They have no other value in this version than their default.
    for key in [&table::SCHEMA_EVOLUTION, &table::ON_BAD_RECORD, &table::MODE] {
        keys.only_value(key);
    }
    keys.map(&table::BATCH, |keys| {
        keys.value(
            &table::COMMIT_INTERVAL,
            &duration_text(table.batch.commit_interval),
        );
        keys.value(&table::MAX_BYTES, &size_text(table.batch.max_bytes));
        keys.value(&table::MAX_ROWS, &table.batch.max_rows.to_string());
    });
    keys.map(&ledger::LEDGER, |keys| {
        keys.value(&ledger::RETENTION, &duration_text(table.ledger.retention));
    });
    keys.value(&after::AFTER, table.after.name());
    let partition_by: Vec<String> = table.partition_by.iter().map(PartitionBy::text).collect();
    keys.list(&partition::PARTITION_BY, &partition_by);
    keys.texts(&property::PROPERTIES, &table.properties);
}

fn print_route(route: &RouteConfig) -> Printed {
    let mut keys = Keys::default();
    print_conditions(
        route.subscription.as_deref(),
        &route.attributes,
        route.files.as_ref(),
        &mut keys,
    );
    keys.value(&route::TABLE, &route.table.to_string());
    let allow: Vec<String> = route.allow.iter().map(|glob| glob.as_str().to_owned()).collect();
    keys.list(&route::ALLOW, &allow);
    keys.done()
}

fn print_conditions(
    subscription: Option<&str>,
    attributes: &BTreeMap<String, String>,
    files: Option<&FileMatch>,
    keys: &mut Keys,
) {
    keys.value_if(&conditions::SUBSCRIPTION_KEY, subscription);
    keys.texts(&conditions::ATTRIBUTES, attributes);
    if let Some(files) = files {
        keys.value(&files::BUCKET, &files.bucket.to_string());
        let objects = files.objects.as_ref();
        keys.value_if(&files::OBJECTS, objects.map(ObjectGlob::as_str));
    }
}

/// A value to be written; texts are escaped already.
enum Printed {
    Scalar(Value),
    List(Vec<Printed>),
    Map(Vec<(String, Printed)>),
}

/// A mapping being written. Empty lists and mappings are left out, as the reader takes their absence for them.
#[derive(Default)]
struct Keys(Vec<(String, Printed)>);

impl Keys {
    /// A scalar of the kind that the key's description says.
    fn value(&mut self, key: &Key, value: &str) {
        let value = key.shape.to_json(&escape(value));
        self.0.push((key.name.to_owned(), Printed::Scalar(value)));
    }

    fn value_if(&mut self, key: &Key, value: Option<&str>) {
        if let Some(value) = value {
            self.value(key, value);
        }
    }

    fn only_value(&mut self, key: &Key) {
        if let Absent::Default(default) = key.absent {
            self.value(key, &default());
        }
    }

    fn map(&mut self, key: &Key, fill: impl FnOnce(&mut Self)) {
        self.named(key.name, fill);
    }

    /// A mapping under a free name.
    fn named(&mut self, name: &str, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        fill(&mut inner);
        if !inner.0.is_empty() {
            self.0.push((name.to_owned(), inner.done()));
        }
    }

    fn texts(&mut self, key: &Key, texts: &BTreeMap<String, String>) {
        self.map(key, |keys| {
            for (name, text) in texts {
                keys.0.push((name.clone(), printed(text)));
            }
        });
    }

    fn items(&mut self, key: &Key, items: impl Iterator<Item = Printed>) {
        let items: Vec<Printed> = items.collect();
        if !items.is_empty() {
            self.0.push((key.name.to_owned(), Printed::List(items)));
        }
    }

    fn list(&mut self, key: &Key, texts: &[String]) {
        self.items(key, texts.iter().map(|text| printed(text)));
    }

    fn done(self) -> Printed {
        Printed::Map(self.0)
    }
}

fn printed(text: &str) -> Printed {
    Printed::Scalar(escape(text).into())
}

fn write_yaml(value: &Printed, indent: usize, yaml: &mut String) {
    match value {
        Printed::Scalar(Value::String(text)) => yaml.push_str(&scalar(text)),
        Printed::Scalar(value) => yaml.push_str(&value.to_string()),
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
                    Printed::Scalar(_) => yaml.push(' '),
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

fn to_json(value: &Printed) -> Value {
    match value {
        Printed::Scalar(value) => value.clone(),
        Printed::List(items) => items.iter().map(to_json).collect(),
        Printed::Map(keys) => keys
            .iter()
            .map(|(key, value)| (key.clone(), to_json(value)))
            .collect(),
    }
}
