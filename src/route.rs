//! Route: which table a delivery belongs to. Pure: the same delivery and configuration give the same table.

use std::borrow::Cow;

use iceberg::TableIdent;

use crate::config::{Config, DeliveryMatch, Glob, RouteConfig, TableConfig, TemplatePart, table_ident};
use crate::trigger::Envelope;

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
                    let table = match self.config.tables.get(&ident) {
                        Some(table) => Cow::Borrowed(table),
                        None => Cow::Owned(self.config.defaults.to_table()),
                    };
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

#[cfg(test)]
mod tests {
    use chrono::DateTime;

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
