//! Whole configurations.

mod cases;
mod catalog_cases;
mod catalogs;
mod files;
mod generated;
mod mistakes;
mod printing;
mod publishing;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use iceberg::spec::{PrimitiveType, Type};
use secrecy::ExposeSecret;

use self::cases::HEAD;
use super::*;
use crate::error::ErrorKind;

const EXAMPLE: &str = include_str!("../../../examples/landfast.yaml");
const TABLE: &str = "tables: {a.b: {from: [{subscription: s}]}}\n";

fn env(name: &str) -> Option<String> {
    match name {
        "API_TOKEN" => Some("s3cret".to_owned()),
        "ROWS" => Some("12".to_owned()),
        "WAIT" => Some("7s".to_owned()),
        "BAD" => Some("hunter2\nroutes: []".to_owned()),
        _ => None,
    }
}

fn parse(text: &str) -> Config {
    Config::check("f.yaml", text, &env).unwrap_or_else(|problems| panic!("{text}\n{problems}"))
}

fn problems(text: &str) -> Vec<String> {
    match Config::check("f.yaml", text, &env) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

/// Checks that the text, after the required keys (three lines), breaks exactly this rule.
fn refuses(rest: &str, expected: &str) {
    let found = problems(&format!("{HEAD}{rest}"));
    assert!(
        found.len() == 1 && found[0].starts_with(expected),
        "{rest}\nexpected {expected}\nfound    {found:#?}"
    );
}

#[test]
fn bucket_example_is_read() {
    let config = parse(include_str!("../../../examples/bucket.yaml"));
    assert_eq!(config.warehouse.scheme(), Scheme::Gcs);
    assert_eq!(config.warehouse.to_string(), "gs://acme-lake/warehouse");
    assert_eq!(config.dead_letters.to_string(), "gs://acme-lake/dead-letters");
}

#[test]
fn example_is_read_with_variables_and_defaults() {
    let config = parse(EXAMPLE);
    assert_eq!(config.warehouse.to_string(), "file:///var/lib/landfast/warehouse");
    assert_eq!(config.server.push_auth, Some(PushAuth::Off));
    assert_eq!(
        config.server.api_auth.as_ref().unwrap().bearer.expose_secret(),
        "s3cret"
    );
    assert_eq!(config.sources["orders"].subscriptions.len(), 2);
    let orders = &config.tables[&table_ident("shop.orders").unwrap()];
    assert_eq!(orders.format, Format::Json);
    assert_eq!(orders.batch.commit_interval, Duration::from_secs(10));
    assert_eq!(orders.batch.max_rows, 100_000);
    assert_eq!(orders.properties["write.parquet.compression-codec"], "zstd");
    assert_eq!(orders.from[1].attributes["kind"], "order");
    let SchemaConfig::Declared(schema) = &orders.schema else {
        panic!("declared")
    };
    let id = schema.field_by_name("id").unwrap();
    assert!(id.required && id.doc.as_deref() == Some("Order number"));
    assert_eq!(*id.field_type, Type::Primitive(PrimitiveType::Long));
    assert!(schema.field_by_name("lines.element.sku").unwrap().required);
    let clicks = &config.tables[&table_ident("shop.clicks").unwrap()];
    assert_eq!(clicks.schema, SchemaConfig::Inferred);
    assert_eq!(
        config.tables[&table_ident("audit.raw").unwrap()].schema,
        SchemaConfig::Envelope
    );
    assert_eq!(config.routes[0].allow[0].as_str(), "cdc.*");
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let config = parse(&format!("{HEAD}{TABLE}"));
    assert_eq!(config.server, ServerConfig::default());
    assert_eq!(
        config.server.listen,
        "0.0.0.0:8080".parse::<SocketAddr>().unwrap()
    );
    assert_eq!(config.server.held_bytes(None), 268_435_456);
    assert_eq!(config.server.max_in_flight_requests, 1000);
    assert_eq!(config.server.max_body_bytes, 33_554_432);
    assert_eq!(config.server.ack_deadline, Duration::from_secs(60));
    let table = config.tables.values().next().unwrap();
    assert_eq!(table.batch, BatchConfig::default());
    assert_eq!(table.batch.commit_interval, Duration::from_secs(2));
    assert_eq!(
        (table.batch.max_bytes, table.batch.max_rows),
        (33_554_432, 100_000)
    );
}

#[test]
fn memory_decides_what_may_be_held_unless_the_file_does() {
    const MIB: u64 = 1 << 20;
    let server = |keys: &str| parse(&format!("{HEAD}{TABLE}server: {{{keys}}}\n")).server;
    let own = server("");
    for (memory, held) in [
        (None, 256),
        (Some(512), 128),
        (Some(1024), 256),
        (Some(8192), 2048),
    ] {
        assert_eq!(own.held_bytes(memory.map(|memory| memory * MIB)), held * MIB);
        assert!(!own.outgrows(memory.map(|memory| memory * MIB)));
    }
    // So small a container cannot hold the largest body and what is made of it.
    assert_eq!(own.held_bytes(Some(64 * MIB)), 32 * MIB);
    assert!(own.outgrows(Some(64 * MIB)));
    let explicit = server("max_in_flight_bytes: 300MiB");
    assert_eq!(explicit.held_bytes(Some(1024 * MIB)), 300 * MIB);
    assert!(explicit.outgrows(Some(1024 * MIB)));
    assert!(!explicit.outgrows(Some(1200 * MIB)) && !explicit.outgrows(None));
}

#[test]
fn tables_overlay_the_defaults_key_by_key() {
    let config = parse(&format!(
        "{HEAD}defaults: {{schema: envelope, format: json, batch: {{max_rows: 5, max_bytes: 64KB}}, \
         properties: {{a: 1, b: true}}}}\n\
         tables:\n  a.b: {{schema: inferred, batch: {{max_rows: 6}}, properties: {{b: x, format-version: 2}}}}\n"
    ));
    let table = config.tables.values().next().unwrap();
    assert_eq!(table.schema, SchemaConfig::Inferred);
    assert_eq!(table.format, Format::Json);
    assert_eq!((table.batch.max_rows, table.batch.max_bytes), (6, 64_000));
    let properties: Vec<_> = table
        .properties
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    assert_eq!(properties, [("a", "1"), ("b", "x")]);
    assert_eq!(config.defaults.to_table().schema, SchemaConfig::Envelope);
}

#[test]
fn variables_fill_numbers_sizes_and_durations() {
    let config = parse(&format!(
        "{HEAD}defaults: {{batch: {{max_rows: \"${{ROWS:-10}}\", commit_interval: \"${{WAIT}}\"}}}}\n{TABLE}"
    ));
    assert_eq!(config.defaults.batch.max_rows, 12);
    assert_eq!(config.defaults.batch.commit_interval, Duration::from_secs(7));
}

#[test]
fn variables_cannot_add_structure_and_never_show() {
    let text = format!("{HEAD}defaults:\n  properties: {{p: \"${{BAD}}\"}}\n{TABLE}");
    assert_eq!(parse(&text).defaults.properties["p"], "hunter2\nroutes: []");
    let found = problems(&format!("{HEAD}server: {{listen: \"${{BAD}}\"}}\n{TABLE}"));
    assert!(found[0].starts_with("f.yaml:4:18: server.listen: the value, with its variables expanded,"));
    assert!(!found[0].contains("hunter2"));
    let found = problems(&format!("{HEAD}server: {{listen: \"${{NONE}}\"}}\n{TABLE}"));
    assert!(found[0].starts_with("f.yaml:4:18: server.listen: the environment variable `NONE` is not set"));
}

#[test]
fn push_auth_fails_closed() {
    let absent = parse(&format!("{HEAD}{TABLE}")).server;
    let error = absent.require_push_auth().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("write `push_auth: off` under `server:`"));
    for off in ["off", "false", "\"off\""] {
        let server = parse(&format!("{HEAD}{TABLE}server: {{push_auth: {off}}}\n")).server;
        assert_eq!(server.require_push_auth().unwrap(), &PushAuth::Off);
    }
    let signed = |auth: &str| format!("{TABLE}server:\n  push_auth: {auth}\n");
    for (auth, expected) in [
        ("{}", "f.yaml:6:14: server.push_auth.audience: the key is missing"),
        (
            "{service_accounts: [a@b]}",
            "f.yaml:6:14: server.push_auth.audience: the key is missing",
        ),
        (
            "{audience: a}",
            "f.yaml:6:14: server.push_auth.service_accounts: the key is missing",
        ),
        (
            "{audience: '', service_accounts: [a@b]}",
            "f.yaml:6:25: server.push_auth.audience: the text is empty",
        ),
        (
            "{audience: a, service_accounts: []}",
            "f.yaml:6:46: server.push_auth.service_accounts: the list is empty",
        ),
        (
            "{audience: a, service_accounts: [b]}",
            "f.yaml:6:47: server.push_auth.service_accounts[0]: `b` is not one",
        ),
        (
            "{audience: a, service_accounts: [a@b], off: true}",
            "f.yaml:6:53: server.push_auth.off: ",
        ),
    ] {
        let found = problems(&format!("{HEAD}{}", signed(auth)));
        assert!(found[0].starts_with(expected), "{auth}\n{found:#?}");
    }
}

#[test]
fn signed_pushes_are_checked_with_googles_keys_or_those_of_this_machine() {
    let text = format!("{HEAD}{TABLE}server: {{push_auth: {{audience: a, service_accounts: [b@c]}}}}\n");
    let with = |host: &'static str| {
        let env = move |name: &str| (name == "PUSH_KEYS_EMULATOR_HOST").then(|| host.to_owned());
        Config::parse("f", &text, &env).map(|config| config.server.push_auth)
    };
    let signed = |keys_url: &str| {
        Some(PushAuth::Signed(SignedPushes {
            audience: "a".to_owned(),
            service_accounts: vec!["b@c".to_owned()],
            keys_url: keys_url.to_owned(),
        }))
    };
    let google = signed("https://www.googleapis.com/oauth2/v3/certs");
    assert_eq!(with("").unwrap(), google);
    for here in [
        "127.0.0.1:8123",
        "http://127.0.0.1:8123",
        "http://127.0.0.1:8123/",
    ] {
        assert_eq!(
            with(here).unwrap(),
            signed("http://127.0.0.1:8123/oauth2/v3/certs"),
            "{here}"
        );
    }
    assert!(with("[::1]:1").is_ok() && with("localhost:1").is_ok());
    for elsewhere in [
        "10.0.0.1:1",
        "0.0.0.0:1",
        "keys.example:1",
        "localhost.example:1",
        "https://127.0.0.1:1",
        "http://127.0.0.1:1@keys.example",
        "127.0.0.1:1/keys",
        "127.0.0.1:1?a",
    ] {
        let error = with(elsewhere).unwrap_err();
        assert!(
            error
                .message()
                .contains("the environment variable `PUSH_KEYS_EMULATOR_HOST`"),
            "{elsewhere}: {error}"
        );
    }
}

#[test]
fn port_of_the_environment_wins() {
    let with = |port: &'static str| move |name: &str| (name == "PORT").then(|| port.to_owned());
    let text = format!("{HEAD}{TABLE}server: {{listen: 127.0.0.1:9000}}\n");
    let listen = |text: &str, port| Config::parse("f", text, &with(port)).map(|config| config.server.listen);
    assert_eq!(listen(&text, "8123").unwrap().to_string(), "127.0.0.1:8123");
    assert_eq!(listen(&text, "").unwrap().to_string(), "127.0.0.1:9000");
    assert_eq!(
        listen(&format!("{HEAD}{TABLE}"), "8123").unwrap().to_string(),
        "0.0.0.0:8123"
    );
    for port in ["0", "65536", "http"] {
        let error = listen(&text, port).unwrap_err();
        assert!(
            error.message().contains("the environment variable `PORT`"),
            "{error}"
        );
    }
}

#[test]
fn the_documentation_example_is_valid() {
    let page = include_str!("../../../docs/configuration.md");
    let (_, from_example) = page.split_once("```yaml\n").unwrap();
    let (example, _) = from_example.split_once("```").unwrap();
    parse(example);
}
