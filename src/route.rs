//! Route: which table a delivery belongs to. Pure: the same delivery and configuration give the same table.

use std::borrow::Cow;

use iceberg::TableIdent;

use crate::config::{Config, DeliveryMatch, Glob, RouteConfig, TableConfig, TemplatePart, table_ident};
use crate::error::{Error, ErrorKind, Result};
use crate::trigger::Envelope;

/// The longest table name that a caller may choose, in bytes: as long as an object's name may be.
const MAX_NAME_BYTES: usize = 1024;

/// Where a delivery goes.
#[derive(Debug)]
pub enum Route<'a> {
    /// To this table, made and fed by this configuration.
    Table(TableIdent, Cow<'a, TableConfig>),
    /// Nowhere: no table wants it. The sentence says what was looked for.
    Nowhere(String),
}

/// The routing rules of a configuration.
#[derive(Debug, Clone, Copy)]
pub struct Router<'a> {
    config: &'a Config,
}

impl<'a> Router<'a> {
    /// Routes by a configuration's `tables` and `routes`.
    pub fn new(config: &'a Config) -> Self {
        Self { config }
    }

    /// Finds a delivery's table: the first table, in order of their names, with a matching `from`; else the first
    /// matching route, in the order of the file, whose expanded table is allowed.
    pub fn route(&self, delivery: &Envelope) -> Route<'a> {
        for (ident, table) in &self.config.tables {
            if table.from.iter().any(|from| matches(from, delivery)) {
                return Route::Table(ident.clone(), Cow::Borrowed(table));
            }
        }
        let mut refused = None;
        for route in &self.config.routes {
            match expand(route, delivery) {
                Expansion::Table(ident) => {
                    let table = self.settings(&ident);
                    return Route::Table(ident, table);
                }
                Expansion::Refused(why) => refused = refused.or(Some(why)),
                Expansion::NoMatch => {}
            }
        }
        Route::Nowhere(refused.unwrap_or_else(|| {
            "no table's `from` and no route matches this subscription and these attributes".to_owned()
        }))
    }
}

enum Expansion {
    Table(TableIdent),
    Refused(String),
    NoMatch,
}

fn matches(from: &DeliveryMatch, delivery: &Envelope) -> bool {
    let subscription = from.subscription.as_deref();
    let named = subscription.is_none_or(|name| is_subscription(name, &delivery.source));
    named
        && from
            .attributes
            .iter()
            .all(|(name, value)| delivery.attributes.get(name) == Some(value))
}

/// Whether a short or full name names the subscription.
fn is_subscription(name: &str, full: &str) -> bool {
    name == full || name == short_name(full)
}

/// The last part of `projects/p/subscriptions/s`.
pub fn short_name(full: &str) -> &str {
    full.rsplit('/').next().unwrap_or(full)
}

fn expand(route: &RouteConfig, delivery: &Envelope) -> Expansion {
    let named = route
        .subscription
        .as_deref()
        .is_none_or(|name| is_subscription(name, &delivery.source));
    let attributes = route.attributes.iter();
    if !named
        || !attributes
            .clone()
            .all(|(name, value)| delivery.attributes.get(name) == Some(value))
    {
        return Expansion::NoMatch;
    }
    let mut name = String::new();
    for part in route.table.parts() {
        let value = match part {
            TemplatePart::Text(text) => {
                name.push_str(text);
                continue;
            }
            TemplatePart::Subscription => short_name(&delivery.source),
            TemplatePart::Attribute(attribute) => match delivery.attributes.get(attribute) {
                Some(value) if !value.is_empty() => value.as_str(),
                _ => return Expansion::Refused(format!("the route needs the attribute `{attribute}`")),
            },
        };
        name.extend(value.chars().map(plain));
    }
    if !route.allow.is_empty() && !route.allow.iter().any(|glob| allows(glob, &name)) {
        return Expansion::Refused("the route's `allow` does not name the table".to_owned());
    }
    match table_ident(&name) {
        Ok(ident) => Expansion::Table(ident),
        Err(error) => Expansion::Refused(error.message().to_owned()),
    }
}

/// Anything but letters, digits and `_` becomes `_`, so that a name from outside cannot leave its namespace.
fn plain(letter: char) -> char {
    if letter.is_ascii_alphanumeric() || letter == '_' {
        letter
    } else {
        '_'
    }
}

fn allows(glob: &Glob, name: &str) -> bool {
    glob_matches(glob.as_str(), name)
}

/// Whether `*` (any run of characters) and plain text match the whole name.
fn glob_matches(glob: &str, name: &str) -> bool {
    match glob.split_once('*') {
        None => glob == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices()
                .map(|(place, _)| place)
                .chain([rest.len()])
                .filter_map(|place| rest.get(place..))
                .any(|tail| glob_matches(after, tail))
        }),
    }
}

impl<'a> Router<'a> {
    /// How a table is made and fed: as `tables` says, else as `defaults` does.
    pub fn settings(&self, ident: &TableIdent) -> Cow<'a, TableConfig> {
        match self.config.tables.get(ident) {
            Some(table) => Cow::Borrowed(table),
            None => Cow::Owned(self.config.defaults.to_table()),
        }
    }

    /// The table of a name that a caller chose: one of `tables`, or one that a route could name for some delivery.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it is not a table's name, [`ErrorKind::NotFound`] when no delivery could get there.
    pub fn named(&self, name: &str) -> Result<TableIdent> {
        if name.len() > MAX_NAME_BYTES {
            let message = format!("A table's name has at most {MAX_NAME_BYTES} bytes.");
            return Err(Error::new(ErrorKind::Config, message));
        }
        let ident = table_ident(name)?;
        let reachable = |route: &RouteConfig| {
            let allowed = route.allow.is_empty() || route.allow.iter().any(|glob| allows(glob, name));
            allowed && could_name(route, name)
        };
        if self.config.tables.contains_key(&ident) || self.config.routes.iter().any(reachable) {
            return Ok(ident);
        }
        let routes = self.config.routes.iter().map(|route| route.table.to_string());
        let message = "The configuration has no table of this name, and no route makes one: name it under `tables`, or \
                       write a route whose `table` and `allow` admit it.";
        let error = Error::new(ErrorKind::NotFound, message).with("table", &ident);
        Err(match routes.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => error,
            routes => error.with("routes", routes),
        })
    }
}

/// Whether a route's template gives the name for some delivery that the route takes.
fn could_name(route: &RouteConfig, name: &str) -> bool {
    // Which beginnings of the name the parts so far can give, by their lengths.
    let mut ends = vec![false; name.len() + 1];
    ends.first_mut().into_iter().for_each(|start| *start = true);
    for part in route.table.parts() {
        let fixed = match part {
            TemplatePart::Text(text) => Some(text.clone()),
            // What the route's own conditions say is no longer open.
            TemplatePart::Subscription => route
                .subscription
                .as_deref()
                .map(|name| plain_text(short_name(name))),
            TemplatePart::Attribute(name) => route.attributes.get(name).map(|value| plain_text(value)),
        };
        ends = match fixed {
            Some(text) => after_text(&ends, name, &text),
            None => after_value(&ends, name),
        };
    }
    ends.last() == Some(&true)
}

fn plain_text(value: &str) -> String {
    value.chars().map(plain).collect()
}

fn after_text(ends: &[bool], name: &str, text: &str) -> Vec<bool> {
    let mut after = vec![false; ends.len()];
    for (at, _) in ends.iter().enumerate().filter(|(_, reached)| **reached) {
        if name.get(at..).is_some_and(|rest| rest.starts_with(text))
            && let Some(end) = after.get_mut(at + text.len())
        {
            *end = true;
        }
    }
    after
}

/// A value is one character or more of those that [`plain`] leaves.
fn after_value(ends: &[bool], name: &str) -> Vec<bool> {
    let mut reached = false;
    let steps = ends.iter().zip(name.chars()).map(|(end, letter)| {
        reached = (reached || *end) && plain(letter) == letter;
        reached
    });
    std::iter::once(false).chain(steps).collect()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;
    use crate::trigger::DeliveryId;

    fn delivery(subscription: &str, attributes: &[(&str, &str)]) -> Envelope {
        Envelope {
            id: DeliveryId::message(subscription, "1", DateTime::UNIX_EPOCH),
            source: subscription.to_owned(),
            published_at: DateTime::UNIX_EPOCH,
            received_at: DateTime::UNIX_EPOCH,
            attributes: attributes
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        }
    }

    fn config(rules: &str) -> Config {
        let text = format!(
            "warehouse: memory:///w\ncatalog: {{ type: memory }}\ndead_letters: memory:///d\n{rules}"
        );
        Config::parse("t.yaml", &text, &|_| None).unwrap()
    }

    fn routed(config: &Config, delivery: &Envelope) -> Result<String, String> {
        match Router::new(config).route(delivery) {
            Route::Table(ident, _) => Ok(ident.to_string()),
            Route::Nowhere(why) => Err(why),
        }
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
}
