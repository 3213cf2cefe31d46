//! Tables that a caller names: which of them the configuration knows.

use std::borrow::Cow;

use iceberg::TableIdent;

use super::glob::allows;
use super::{Router, plain, short_name};
use crate::config::{RouteConfig, TableConfig, TemplatePart};
use crate::error::{Error, ErrorKind, Result};

/// The longest table name that a caller or a sender may choose, in bytes: as long as the name of a file or folder may be, and
/// what databases of other engines' catalogs keep.
pub(super) const MAX_NAME_BYTES: usize = 255;

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
        let ident = self
            .ident(name)
            .map_err(|why| Error::new(ErrorKind::Config, format!("No table can have this name: {why}.")))?;
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
            TemplatePart::Folder => None,
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
