//! Routes: deliveries that name their own table.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::catalog::CatalogConfig;
use super::conditions::{CONDITIONS, read_conditions};
use super::files::FileMatch;
use super::key::{Key, Keys, List, Shape, Text};
use super::reader::{Field, nearest};
use super::table_name::parse_table_ident;
use crate::error::{Error, ErrorKind};

pub(super) const TABLE: Key = Key::required(
    "table",
    Shape::Text(&TEMPLATE),
    "the table's name; `{subscription}` stands for the short name, `{attributes.NAME}` for an attribute's value, `{folder}` \
     for the first folder of a file's name. In what stands for them, anything but letters, digits and `_` becomes `_`",
);
pub(super) const ALLOW: Key = Key::optional(
    "allow",
    Shape::List(&List {
        accepted: TABLE_GLOBS,
        item: Shape::Text(&Text {
            accepted: TABLE_GLOBS,
            pattern: Some(|| "^[A-Za-z0-9_.*-]+$".to_owned()),
            any_scalar: true,
        }),
    }),
    "any table",
    "the expanded name must match one of these; `*` stands for any text, dots included",
);

pub(super) const ROUTES: List = List {
    accepted: "a list such as `- {subscription: cdc, table: \"cdc.{attributes.table}\", allow: [\"cdc.*\"]}`",
    item: Shape::Map(&ROUTE),
};

/// Conditions of later versions.
const LATER_CONDITIONS: &[&str] = &["field", "equals"];

const ROUTE: Keys = Keys {
    title: "route",
    accepted: "a mapping such as `{subscription: cdc, table: \"cdc.{attributes.table}\", allow: [\"cdc.*\"]}`",
    keys: &[CONDITIONS, &[TABLE, ALLOW]],
    later: &[LATER_CONDITIONS],
    ..Keys::NONE
};

const TEMPLATE: Text = Text {
    accepted: "a table name in which `{subscription}` and `{attributes.NAME}` stand for a message's values and `{folder}` \
               for a file's, such as `cdc.{attributes.table}`",
    pattern: Some(|| {
        let level = r"(?:[A-Za-z0-9_-]|\{subscription\}|\{attributes\.[^{}]+\}|\{folder\})+";
        format!(r"^{level}(?:\.{level})+$")
    }),
    any_scalar: false,
};

const TABLE_GLOBS: &str = "a list of table names in which `*` stands for any text, such as `[\"cdc.*\"]`";

/// A table per value: deliveries that no table's `from` takes. An item of the key `routes`; the first match wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteConfig {
    /// Key `subscription`, default any: a short or full name.
    pub subscription: Option<String>,
    /// Key `attributes`, default any: attributes that the message must have, with exactly these values.
    pub attributes: BTreeMap<String, String>,
    /// Keys `bucket` and `objects`, default none: conditions on a file. With them the route takes files only, without
    /// them messages only.
    pub files: Option<FileMatch>,
    /// Key `table`, required: the table's name with placeholders. A table that is not in `tables` is created from
    /// `defaults`.
    pub table: TableTemplate,
    /// Key `allow`, default any table: what the expanded name must match, at least one of them.
    pub allow: Vec<Glob>,
}

/// A table's name with placeholders, such as `cdc.{attributes.table}`.
///
/// Its fixed text makes a table name of at least two levels when placeholders are one letter each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableTemplate(Vec<TemplatePart>);

/// A piece of a [`TableTemplate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplatePart {
    /// Text as it is.
    Text(String),
    /// `{subscription}`: the subscription's short name.
    Subscription,
    /// `{attributes.NAME}`: the value of the message's attribute.
    Attribute(String),
    /// `{folder}`: the first level of the file's name, relative to the folder that is watched.
    Folder,
}

impl TableTemplate {
    /// The pieces, in order; two texts never stand side by side.
    pub fn parts(&self) -> &[TemplatePart] {
        &self.0
    }

    /// Reads a template.
    ///
    /// # Errors
    /// A clause that says what is wrong with it; [`TEMPLATE`] says what is right.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from_brace) = rest.split_at(at);
            if !before.is_empty() {
                parts.push(TemplatePart::Text(before.to_owned()));
            }
            let inside = from_brace
                .strip_prefix('{')
                .and_then(|after| after.split_once('}'));
            let (placeholder, after) =
                inside.ok_or_else(|| format!("`{text}` has a brace without its pair"))?;
            parts.push(parse_placeholder(placeholder)?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(TemplatePart::Text(rest.to_owned()));
        }
        let template = Self(parts);
        parse_table_ident(&template.shape()).map_err(|_shape| {
            format!("`{text}` does not make a `namespace.table` of letters, digits, `_` and `-`")
        })?;
        Ok(template)
    }

    /// The name with one letter for each placeholder.
    pub(super) fn shape(&self) -> String {
        let parts = self.0.iter().map(|part| match part {
            TemplatePart::Text(text) => text.as_str(),
            TemplatePart::Subscription | TemplatePart::Attribute(_) | TemplatePart::Folder => "x",
        });
        parts.collect()
    }

    /// What is wrong with it for a route that takes files, or messages; a clause.
    fn misfit(&self, takes_files: bool) -> Option<&'static str> {
        let of_file = |part: &TemplatePart| matches!(part, TemplatePart::Folder);
        let of_message =
            |part: &TemplatePart| matches!(part, TemplatePart::Subscription | TemplatePart::Attribute(_));
        match takes_files {
            true if self.0.iter().any(of_message) => Some(
                "a file has no subscription and no attributes; write `{folder}`, or a name without placeholders",
            ),
            false if self.0.iter().any(of_file) => {
                Some("`{folder}` stands for the folder of a file; write a `bucket` that the files are in")
            }
            _ => None,
        }
    }
}

fn parse_placeholder(placeholder: &str) -> Result<TemplatePart, String> {
    match placeholder {
        "subscription" => return Ok(TemplatePart::Subscription),
        "folder" => return Ok(TemplatePart::Folder),
        _ => {}
    }
    match placeholder.strip_prefix("attributes.") {
        Some(name) if !name.is_empty() && !name.contains('{') => Ok(TemplatePart::Attribute(name.to_owned())),
        _ => Err(
            match nearest(
                placeholder,
                ["subscription", "attributes.NAME", "folder"].into_iter(),
            ) {
                Some(name) => {
                    format!("`{{{placeholder}}}` is not a placeholder (did you mean `{{{name}}}`?)")
                }
                None => format!("`{{{placeholder}}}` is not a placeholder"),
            },
        ),
    }
}

/// Reads a template such as `cdc.{attributes.table}`; the error is of kind [`ErrorKind::Config`].
impl FromStr for TableTemplate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text).map_err(|reason| {
            Error::new(
                ErrorKind::Config,
                format!("{reason}; write {}", TEMPLATE.accepted),
            )
        })
    }
}

impl fmt::Display for TableTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.0 {
            match part {
                TemplatePart::Text(text) => f.write_str(text)?,
                TemplatePart::Subscription => f.write_str("{subscription}")?,
                TemplatePart::Attribute(name) => write!(f, "{{attributes.{name}}}")?,
                TemplatePart::Folder => f.write_str("{folder}")?,
            }
        }
        Ok(())
    }
}

/// A pattern over whole table names, in which `*` stands for any text, dots included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads a pattern; the error is a clause.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let known = |c: char| c.is_ascii_alphanumeric() || "_-.*".contains(c);
        if text.is_empty() || !text.chars().all(known) {
            return Err(format!("`{text}` could match no table name"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Reads a pattern such as `cdc.*`; the error is of kind [`ErrorKind::Config`].
impl FromStr for Glob {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
            .map_err(|reason| Error::new(ErrorKind::Config, format!("{reason}; write {TABLE_GLOBS}")))
    }
}

/// Reads the key `routes`.
pub(super) fn read(field: &Field<'_>, catalog: Option<&CatalogConfig>) -> Vec<RouteConfig> {
    let items = field.items().unwrap_or_default();
    let routes = items.iter().filter_map(|item| read_route(item, catalog));
    routes.collect()
}

fn read_route(field: &Field<'_>, catalog: Option<&CatalogConfig>) -> Option<RouteConfig> {
    let mut keys = field.mapping()?;
    let has_later = keys.has_any(LATER_CONDITIONS);
    let conditions = read_conditions(&mut keys).filter(|_| !has_later);
    let table = keys.key(&TABLE);
    let template = table.as_ref().and_then(|field| {
        field.parse(|text| {
            let template = TableTemplate::parse(text)?;
            catalog.map_or(Ok(()), |catalog| catalog.takes_template(&template))?;
            Ok(template)
        })
    });
    let allow = match keys.key(&ALLOW) {
        None => Some(Vec::new()),
        Some(field) => field.items().and_then(|items| {
            let globs = items.iter().map(|item| item.parse(Glob::parse));
            globs.collect::<Option<Vec<_>>>()
        }),
    };
    keys.finish();
    let (conditions, template) = (conditions?, template?);
    if let Some(field) = &table
        && let Some(misfit) = template.misfit(conditions.files.is_some())
    {
        field.problem(misfit);
        return None;
    }
    Some(RouteConfig {
        subscription: conditions.subscription,
        attributes: conditions.attributes,
        files: conditions.files,
        table: template,
        allow: allow?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_read_in_parts() {
        let template = TableTemplate::parse("cdc.{attributes.db.name}_{subscription}.t").unwrap();
        assert_eq!(
            template.parts(),
            [
                TemplatePart::Text("cdc.".to_owned()),
                TemplatePart::Attribute("db.name".to_owned()),
                TemplatePart::Text("_".to_owned()),
                TemplatePart::Subscription,
                TemplatePart::Text(".t".to_owned()),
            ]
        );
        assert_eq!(template.to_string(), "cdc.{attributes.db.name}_{subscription}.t");
    }

    #[test]
    fn wrong_templates_are_refused_with_the_reason() {
        for (text, word) in [
            ("cdc", "does not make"),
            ("{attributes.table}", "does not make"),
            ("cdc..{subscription}", "does not make"),
            (".{subscription}", "does not make"),
            ("cdc.{subscription}.", "does not make"),
            ("c d.{subscription}", "does not make"),
            ("cdc.{subscription", "without its pair"),
            ("cdc.subscription}", "without its pair"),
            ("cdc.{}", "`{}` is not a placeholder"),
            ("cdc.{attributes.}", "not a placeholder"),
            ("cdc.{subscritpion}", "did you mean `{subscription}`?"),
            ("cdc.{attribute.table}", "not a placeholder"),
            ("cdc.{foldre}", "did you mean `{folder}`?"),
        ] {
            let error = TableTemplate::parse(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
