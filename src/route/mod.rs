//! Route: which table a delivery or a file belongs to. Pure: the same of it and of the configuration give the same table.

mod by_record;
mod glob;
mod named;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use iceberg::TableIdent;

pub use self::by_record::ByRecord;
use self::glob::{allows, takes};
use self::named::MAX_NAME_BYTES;
use crate::config::{
    Config, DeliveryMatch, FileMatch, Location, RouteConfig, TableConfig, TemplatePart, table_ident,
};
use crate::trigger::Envelope;

/// Where a delivery or a file goes.
#[derive(Debug)]
pub enum Route<'a> {
    /// To this table, made and fed by this configuration.
    Table(TableIdent, Cow<'a, TableConfig>),
    /// Each of its records to the first table that wants it.
    ByRecord(ByRecord<'a>),
    /// Nowhere: no table wants it. The sentence says what was looked for.
    Nowhere(String),
}

/// What is routed.
#[derive(Debug, Clone, Copy)]
enum Arrival<'a> {
    Message(&'a Envelope),
    /// A file, by the folder that is watched and its name in there.
    File(&'a Location, &'a str),
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
    /// matching route, in the order of the file, whose expanded table is allowed. Where a `from` that matches has a
    /// condition on records, that is found for each record.
    pub fn route(&self, delivery: &Envelope) -> Route<'a> {
        self.find(Arrival::Message(delivery))
    }

    /// Finds a file's table by the same rules. `name` is relative to the folder that is watched, with `/` between levels.
    pub fn route_file(&self, folder: &Location, name: &str) -> Route<'a> {
        self.find(Arrival::File(folder, name))
    }

    /// Whether some rule may take messages of a subscription, given by its full name. Their attributes and records decide
    /// then. Where objects of buckets are taken, any subscription may tell of some.
    pub fn may_take(&self, subscription: &str) -> bool {
        self.takers(subscription).next().is_some() || !self.config.landing_buckets().is_empty()
    }

    /// The tables and the routes' templates that messages of a subscription, given by its full name, may go to, each with
    /// how long its ledger remembers them.
    pub fn takers<'s>(&'s self, subscription: &'s str) -> impl Iterator<Item = (String, Duration)> + 's {
        let takes = move |name: Option<&String>, files: Option<&FileMatch>| {
            files.is_none() && name.is_none_or(|name| is_subscription(name, subscription))
        };
        let tables = self.config.tables.iter().filter(move |(_, table)| {
            let mut from = table.from.iter();
            from.any(|from| takes(from.subscription.as_ref(), from.files.as_ref()))
        });
        let routes = self.config.routes.iter();
        let routes = routes.filter(move |route| takes(route.subscription.as_ref(), route.files.as_ref()));
        let routed = self.config.defaults.ledger.retention;
        tables
            .map(|(ident, table)| (ident.to_string(), table.ledger.retention))
            .chain(routes.map(move |route| (route.table.to_string(), routed)))
    }

    fn find(&self, arrival: Arrival<'_>) -> Route<'a> {
        let mut by_record = ByRecord::new();
        for (ident, table) in &self.config.tables {
            for from in table.from.iter().filter(|from| arrival.meets_all(from)) {
                match &from.record {
                    Some(condition) => by_record.add(condition, ident, table),
                    None => return to_table(by_record, ident.clone(), Cow::Borrowed(table)),
                }
            }
        }
        let mut refused = None;
        for route in &self.config.routes {
            match self.expand(route, arrival) {
                Expansion::Table(ident) => {
                    let table = self.settings(&ident);
                    return to_table(by_record, ident, table);
                }
                Expansion::Refused(why) => refused = refused.or(Some(why)),
                Expansion::NoMatch => {}
            }
        }
        if !by_record.is_empty() {
            let why = "no table's `from` takes a record with these fields".to_owned();
            return Route::ByRecord(by_record.or_nowhere(refused.unwrap_or(why)));
        }
        Route::Nowhere(refused.unwrap_or_else(|| {
            let what = match arrival {
                Arrival::Message(_) => "this subscription and these attributes",
                Arrival::File(..) => "this file's name",
            };
            format!("no table's `from` and no route matches {what}")
        }))
    }

    fn expand(self, route: &RouteConfig, arrival: Arrival<'_>) -> Expansion {
        if !arrival.meets(
            route.subscription.as_deref(),
            &route.attributes,
            route.files.as_ref(),
        ) {
            return Expansion::NoMatch;
        }
        let mut name = String::new();
        for part in route.table.parts() {
            match (part, arrival.value(part)) {
                (TemplatePart::Text(text), _) => name.push_str(text),
                (_, Ok(value)) => name.extend(value.chars().map(plain)),
                (_, Err(why)) => return Expansion::Refused(why),
            }
        }
        if !route.allow.is_empty() && !route.allow.iter().any(|glob| allows(glob, &name)) {
            return Expansion::Refused("the route's `allow` does not name the table".to_owned());
        }
        match self.ident(&name) {
            Ok(ident) => Expansion::Table(ident),
            Err(why) => Expansion::Refused(why),
        }
    }

    /// The table of a name that comes from outside, if such a table can be.
    fn ident(self, name: &str) -> Result<TableIdent, String> {
        if name.len() > MAX_NAME_BYTES {
            return Err(format!(
                "the table's name would be longer than {MAX_NAME_BYTES} bytes"
            ));
        }
        let ident = table_ident(name).map_err(|error| error.message().to_owned())?;
        self.config.catalog.takes(&ident)?;
        Ok(ident)
    }
}

/// Every record to this table, but for those that another one wants first.
fn to_table<'a>(before: ByRecord<'a>, ident: TableIdent, table: Cow<'a, TableConfig>) -> Route<'a> {
    match before.is_empty() {
        true => Route::Table(ident, table),
        false => Route::ByRecord(before.or(&ident, table)),
    }
}

impl<'a> Arrival<'a> {
    /// Whether it meets the conditions of a `from` but for that on its records.
    fn meets_all(&self, from: &DeliveryMatch) -> bool {
        self.meets(
            from.subscription.as_deref(),
            &from.attributes,
            from.files.as_ref(),
        )
    }

    /// Whether it meets the conditions of a `from` or a route; those with conditions on files are of files only.
    fn meets(
        &self,
        subscription: Option<&str>,
        attributes: &BTreeMap<String, String>,
        files: Option<&FileMatch>,
    ) -> bool {
        match (self, files) {
            (Self::Message(delivery), None) => {
                subscription.is_none_or(|name| is_subscription(name, &delivery.source))
                    && attributes
                        .iter()
                        .all(|(name, value)| delivery.attribute(name) == Some(value))
            }
            (Self::File(folder, name), Some(files)) => {
                **folder == files.bucket && files.objects.as_ref().is_none_or(|glob| takes(glob, name))
            }
            _ => false,
        }
    }

    /// What a placeholder stands for; the error says what the route needs.
    fn value(&self, part: &'a TemplatePart) -> Result<&'a str, String> {
        match (self, part) {
            (_, TemplatePart::Text(text)) => Ok(text),
            (Self::Message(delivery), TemplatePart::Subscription) => Ok(short_name(&delivery.source)),
            (Self::Message(delivery), TemplatePart::Attribute(attribute)) => {
                match delivery.attribute(attribute) {
                    Some(value) if !value.is_empty() => Ok(value),
                    _ => Err(format!("the route needs the attribute `{attribute}`")),
                }
            }
            (Self::File(_, name), TemplatePart::Folder) => match name.split_once('/') {
                Some((folder, _)) => Ok(folder),
                None => {
                    Err("the route names the table by the file's folder, and the file is in none; put it into a folder that is named \
                         as the table".to_owned())
                }
            },
            // A configuration that is checked has no such route.
            _ => Err("the route's placeholders do not go with its conditions".to_owned()),
        }
    }
}

enum Expansion {
    Table(TableIdent),
    Refused(String),
    NoMatch,
}

/// Whether a short or full name names the subscription.
fn is_subscription(name: &str, full: &str) -> bool {
    name == full || name == short_name(full)
}

/// The last part of `projects/p/subscriptions/s`.
pub fn short_name(full: &str) -> &str {
    full.rsplit('/').next().unwrap_or(full)
}

/// Anything but letters, digits and `_` becomes `_`, so that a name from outside cannot leave its namespace.
fn plain(letter: char) -> char {
    if letter.is_ascii_alphanumeric() || letter == '_' {
        letter
    } else {
        '_'
    }
}
