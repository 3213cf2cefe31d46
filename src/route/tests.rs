use chrono::DateTime;
use proptest::prelude::*;

use super::glob::{glob_matches, object_matches};
use super::named::MAX_NAME_BYTES;
use super::*;
use crate::error::ErrorKind;
use crate::trigger::DeliveryId;

fn delivery(subscription: &str, attributes: &[(&str, &str)]) -> Envelope {
    Envelope {
        id: DeliveryId::message(subscription, "1", DateTime::UNIX_EPOCH),
        source: subscription.to_owned(),
        published_at: DateTime::UNIX_EPOCH,
        received_at: DateTime::UNIX_EPOCH,
        fingerprint: None,
        division: None,
        attributes: attributes
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
    }
}

fn config(rules: &str) -> Config {
    let text =
        format!("warehouse: memory:///w\ncatalog: {{ type: memory }}\ndead_letters: file:///d\n{rules}");
    Config::parse("t.yaml", &text, &|_| None).unwrap()
}

fn routed(config: &Config, delivery: &Envelope) -> Result<String, String> {
    match Router::new(config).route(delivery) {
        Route::Table(ident, _) => Ok(ident.to_string()),
        Route::ByRecord(rules) => Err(described(&rules)),
        Route::Nowhere(why) => Err(why),
    }
}

/// The rules in their order, such as `kind=order a.b, else a.c`.
fn described(rules: &ByRecord<'_>) -> String {
    let tables: Vec<String> = rules.tables().map(|(ident, _)| ident.to_string()).collect();
    let conditions = rules
        .conditions()
        .map(|(condition, place)| format!("{}={} {}", condition.field, condition.equals, tables[place]));
    let rest = match rules.rest() {
        Ok(place) => format!("else {}", tables[place]),
        Err(_) => "else none".to_owned(),
    };
    conditions.chain([rest]).collect::<Vec<_>>().join(", ")
}

#[test]
fn records_are_asked_in_the_order_of_the_tables() {
    let tables = "tables:\n  b.one: { from: [{ subscription: s, field: kind, equals: order }, { subscription: s, field: n, equals: 5 }] }\n\
                  \x20 b.two: { from: [{ field: kind, equals: user, attributes: { x: y } }] }\n";
    let told = |rules: &str, attributes: &[(&str, &str)]| {
        routed(&config(&format!("{tables}{rules}")), &delivery("s", attributes)).unwrap_err()
    };
    assert_eq!(told("", &[]), "kind=order b.one, n=5 b.one, else none");
    let rest = "  b.three: { from: [{ subscription: s }] }\n  b.zero: { from: [{ subscription: s, field: a, equals: b }] }\n";
    // `b.three` takes all before the others are asked.
    assert_eq!(
        told(rest, &[("x", "y")]),
        "kind=order b.one, n=5 b.one, else b.three"
    );
    assert_eq!(
        told("routes: [{ table: \"r.{subscription}\" }]", &[("x", "y")]),
        "kind=order b.one, n=5 b.one, kind=user b.two, else r.s"
    );
    let first = config(
        "tables:\n  a.a: { from: [{ subscription: s }] }\n  a.b: { from: [{ field: k, equals: v }] }\n",
    );
    assert_eq!(routed(&first, &delivery("s", &[])).unwrap(), "a.a");
}

#[test]
fn every_condition_of_a_match_must_hold() {
    let config = config(
        "tables:\n  shop.orders:\n    from:\n      - { subscription: all, attributes: { kind: order } }\n      - { subscription: orders }",
    );
    let full = "projects/p/subscriptions/all";
    assert_eq!(
        routed(&config, &delivery(full, &[("kind", "order")])).unwrap(),
        "shop.orders"
    );
    assert!(routed(&config, &delivery(full, &[("kind", "refund")])).is_err());
    assert!(routed(&config, &delivery("projects/p/subscriptions/orders", &[])).is_ok());
}

#[test]
fn a_name_from_outside_cannot_leave_its_namespace() {
    let config = config("routes:\n  - { table: \"cdc.{attributes.table}\", allow: [\"cdc.t*\"] }");
    let to = |table: &str| {
        routed(
            &config,
            &delivery("projects/p/subscriptions/s", &[("table", table)]),
        )
    };
    assert_eq!(to("t1").unwrap(), "cdc.t1");
    assert_eq!(to("t/../../x.y").unwrap(), "cdc.t_______x_y");
    assert!(to("x").unwrap_err().contains("allow"));
    assert!(to("").is_err());
}

/// What no catalog would take is a dead letter, not refused each time that it comes.
#[test]
fn a_name_that_cannot_be_a_table_is_nowhere() {
    let to = |config: &Config, value: &str| {
        routed(config, &delivery("projects/p/subscriptions/s", &[("x", value)]))
    };
    let any = config("routes: [{ table: \"cdc.{attributes.x}\" }]");
    assert!(to(&any, &"t".repeat(MAX_NAME_BYTES - 4)).is_ok());
    assert!(
        to(&any, &"t".repeat(MAX_NAME_BYTES - 3))
            .unwrap_err()
            .contains("longer than 255 bytes")
    );
    let namespace = config("routes: [{ table: \"{attributes.x}.t\" }]");
    assert!(
        to(&namespace, "_landfast")
            .unwrap_err()
            .contains("landfast's own")
    );
    assert_eq!(named(&namespace, "_landfast.t"), Err(ErrorKind::Config));
    let text = "warehouse: gs://lake/w\ncatalog: { type: biglake, warehouse: \"bl://projects/p/catalogs/c\" }\n\
                dead_letters: gs://lake/d\nroutes: [{ table: \"{attributes.x}.t\" }]\n";
    let lake = Config::parse("t.yaml", text, &|_| None).unwrap();
    assert_eq!(to(&lake, "cdc").unwrap(), "cdc.t");
    assert!(
        to(&lake, "information_schema")
            .unwrap_err()
            .contains("INFORMATION_SCHEMA")
    );
    assert_eq!(named(&lake, "INFORMATION_SCHEMA.t"), Err(ErrorKind::Config));
}

/// A push without its wrapper brings attributes as headers, whose names HTTP makes lower-case.
#[test]
fn attributes_are_found_by_their_lower_case_names() {
    let config = config(
        "tables: { a.b: { from: [{ attributes: { Kind: order } }] } }\nroutes: [{ table: \"cdc.{attributes.Table}\" }]",
    );
    let to =
        |attributes: &[(&str, &str)]| routed(&config, &delivery("projects/p/subscriptions/s", attributes));
    assert_eq!(to(&[("kind", "order")]).unwrap(), "a.b");
    assert_eq!(to(&[("table", "x")]).unwrap(), "cdc.x");
    // As it is spelt it goes first.
    assert_eq!(
        to(&[
            ("Kind", "refund"),
            ("kind", "order"),
            ("Table", "y"),
            ("table", "x")
        ])
        .unwrap(),
        "cdc.y"
    );
    assert!(to(&[("KIND", "order")]).is_err());
}

fn named(config: &Config, name: &str) -> Result<String, ErrorKind> {
    let found = Router::new(config).named(name);
    found.map(|ident| ident.to_string()).map_err(|error| error.kind())
}

#[test]
fn callers_name_tables_that_are_configured_or_that_a_route_makes() {
    let config = config(
        "tables:\n  shop.orders: { from: [{ subscription: s }] }\n  t.alone: {}\nroutes:\n  - { table: \
         \"cdc.{attributes.table}\", allow: [\"cdc.t*\"] }\n  - { subscription: a-b, table: \"x.{subscription}_v2\" }\n  - { \
         attributes: { kind: red.1 }, table: \"{attributes.kind}.y.{attributes.n}-{subscription}\" }",
    );
    for name in [
        "shop.orders",
        "t.alone",
        "cdc.t1",
        "cdc.t",
        "x.a_b_v2",
        "red_1.y.n-s",
    ] {
        assert_eq!(named(&config, name).as_deref(), Ok(name));
    }
    for name in [
        "shop.order",
        "Shop.orders",
        "cdc.u1",
        "cdc.t.a",
        "cdc.t-a",
        "x.other_v2",
        "x.a_b",
        "x.a-b_v2",
        "blue.y.n-s",
        "red_1.y.n-",
        "red_1.y.-s",
        "red_1.y.n",
        "cdc",
    ] {
        let expected = if name == "cdc" {
            ErrorKind::Config
        } else {
            ErrorKind::NotFound
        };
        assert_eq!(named(&config, name), Err(expected), "{name}");
    }
    let long = format!("cdc.t{}", "t".repeat(MAX_NAME_BYTES));
    for name in [
        "",
        ".",
        "cdc.",
        ".t",
        "cdc..t",
        "cdc.t/..",
        "cdc.t\u{e9}",
        "cdc.t\0",
        " cdc.t",
        &long,
    ] {
        assert_eq!(named(&config, name), Err(ErrorKind::Config), "{name}");
    }
}

#[test]
fn unknown_table_is_told_the_way_out() {
    let config = config("routes: [{ table: \"landfast.{subscription}\" }]");
    let told = Router::new(&config).named("shop.orders").unwrap_err().to_string();
    for word in ["shop.orders", "`tables`", "landfast.{subscription}"] {
        assert!(told.contains(word), "{told}");
    }
}

proptest! {
    /// Of a template of one placeholder: the names that callers may use are those that some delivery gets.
    #[test]
    fn callers_reach_what_deliveries_reach(value in "[a-c._/-]{0,6}", before in "[a-c_-]{0,2}", after in "[a-c_-]{0,2}") {
        let config = config(&format!(
            "routes: [{{ table: \"n.{before}{{attributes.t}}{after}\", allow: [\"n.*a*\"] }}]"
        ));
        let to = |value: &str| routed(&config, &delivery("projects/p/subscriptions/s", &[("t", value)]));
        if let Ok(table) = to(&value) {
            prop_assert_eq!(named(&config, &table), Ok(table));
        }
        let name = format!("n.{value}");
        if named(&config, &name).is_ok() {
            let inner = value.strip_prefix(&before).and_then(|rest| rest.strip_suffix(&after));
            prop_assert_eq!(to(inner.unwrap_or_default()), Ok(name));
        }
    }
}

#[test]
fn globs_match_whole_names() {
    for (glob, name, expected) in [
        ("cdc.*", "cdc.a", true),
        ("cdc.*", "xcdc.a", false),
        ("*.a", "cdc.b.a", true),
        ("*a*", "bab", true),
        ("a", "ab", false),
        ("*é", "né", true),
    ] {
        assert_eq!(glob_matches(glob, name), expected, "{glob} {name}");
    }
}

#[test]
fn object_patterns_keep_to_their_levels() {
    for (glob, name, expected) in [
        ("orders/**", "orders/a.json", true),
        ("orders/**", "orders/2026/11/a.json", true),
        ("orders/**", "orders", false),
        ("orders/**", "reorders/a", false),
        ("orders/*", "orders/a.json", true),
        ("orders/*", "orders/2026/a.json", false),
        ("*.json", "a.json", true),
        ("*.json", "x/a.json", false),
        ("**/*.json", "a.json", true),
        ("**/*.json", "x/y/a.json", true),
        ("**/b/*", "a/b/c", true),
        ("**/b/*", "ab/c", false),
        ("a/**/z", "a/z", true),
        ("a/**/z", "a/b/c/z", true),
        ("a/**/z", "az", false),
        ("a**z", "a/b/cz", true),
        ("*/é*/z", "x/été/z", true),
        ("**", "x/y", true),
        ("a", "ab", false),
    ] {
        assert_eq!(object_matches(glob, name, true), expected, "{glob} {name}");
    }
}

#[test]
fn files_and_messages_are_routed_apart() {
    let config = config(
        "tables:\n  shop.orders: { from: [{ bucket: \"file:///in\", objects: \"orders/*.json\" }, { subscription: s }] }\n\
         routes:\n  - { table: \"r.{subscription}\" }\n  - { bucket: \"file:///in\", objects: \"**/x*\", table: \"x.{folder}\", allow: [\"x.a*\"] }\n\
         \x20 - { bucket: \"file:///other/in\", table: \"other.all\" }",
    );
    let file =
        |folder: &str, name: &str| match Router::new(&config).route_file(&folder.parse().unwrap(), name) {
            Route::Table(ident, _) => Ok(ident.to_string()),
            Route::ByRecord(_) => Err("a file goes to one table".to_owned()),
            Route::Nowhere(why) => Err(why),
        };
    assert_eq!(file("file:///in", "orders/1.json").unwrap(), "shop.orders");
    assert_eq!(file("file:///in", "a b/c/x1").unwrap(), "x.a_b");
    assert!(file("file:///in", "b/x1").unwrap_err().contains("allow"));
    assert!(
        file("file:///in", "x1")
            .unwrap_err()
            .contains("the file is in none")
    );
    assert_eq!(file("file:///other/in", "orders/1.json").unwrap(), "other.all");
    assert!(
        file("file:///in", "orders/1.csv")
            .unwrap_err()
            .contains("this file's name")
    );
    let message = |subscription: &str| routed(&config, &delivery(subscription, &[])).unwrap();
    assert_eq!(
        (message("s"), message("in")),
        ("shop.orders".to_owned(), "r.in".to_owned())
    );
}
