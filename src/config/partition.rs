//! How a table is partitioned.

use iceberg::spec::{Schema, Transform, UnboundPartitionSpec};

use super::key::{Key, List, Shape, Text};
use super::quantity::any_case;
use super::reader::{Field, nearest, not_yet};
use super::schema::SchemaConfig;
use crate::write::partition_refusal;

pub(super) const PARTITION_BY: Key = Key::optional(
    "partition_by",
    Shape::List(&List {
        accepted: "a list of columns and transforms such as `[day(at), kind]`",
        item: Shape::Text(&Text {
            accepted: "a column's name, `identity(column)` or `day(column)`",
            pattern: Some(|| {
                format!(
                    r"^\s*(?:[^(]*[^(\s][^(]*|(?:{})\s*\(.*\S.*\))\s*$",
                    any_case(["identity", "day"])
                )
            }),
            any_scalar: true,
        }),
    }),
    "none",
    "a list of partition fields such as `day(at)`; set when the table is created, and checked when it exists",
);

const TRANSFORMS: [&str; 8] = [
    "identity", "day", "bucket", "truncate", "year", "month", "hour", "void",
];

/// One field of a partition spec. An item of the key `partition_by`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionBy {
    /// What is done to the column: identity or day.
    pub transform: Transform,
    /// The column's name; a field of a struct with dots.
    pub column: String,
}

impl PartitionBy {
    /// The partition field's name, as Java names it: `kind`, `at_day`.
    pub fn field_name(&self) -> String {
        match self.transform {
            Transform::Identity => self.column.clone(),
            transform => format!("{}_{transform}", self.column),
        }
    }

    /// Writes the item so that it reads back to an equal one.
    pub fn text(&self) -> String {
        match self.transform {
            Transform::Identity if !self.column.contains('(') => self.column.clone(),
            transform => format!("{transform}({})", self.column),
        }
    }

    /// Says why the item does not fit a schema; `None` when it does.
    pub fn misfit(&self, schema: &Schema) -> Option<String> {
        let column = &self.column;
        let Some(field) = schema.field_by_name(column) else {
            return Some(format!("there is no column `{column}`"));
        };
        if let Some(reason) = partition_refusal(self.transform, &field.field_type) {
            return Some(format!("`{column}`: {reason}"));
        }
        if !is_outside_lists(schema, column) {
            return Some(format!(
                "`{column}` is inside a list or map, so a row has no one value of it"
            ));
        }
        let name = self.field_name();
        if self.transform != Transform::Identity && schema.field_by_name(&name).is_some() {
            return Some(format!(
                "the partition field `{name}` would have the name of a column"
            ));
        }
        None
    }

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let Some((name, rest)) = text.split_once('(') else {
            return match text {
                "" => Err("the text is empty".to_owned()),
                column => Ok(Self {
                    transform: Transform::Identity,
                    column: column.to_owned(),
                }),
            };
        };
        let name = name.trim().to_lowercase();
        if !TRANSFORMS.contains(&name.as_str()) {
            return Err(match nearest(&name, TRANSFORMS.into_iter()) {
                Some(meant) => format!("`{name}` is no transform (did you mean `{meant}`?)"),
                None => format!("`{name}` is no transform"),
            });
        }
        let Some(column) = rest
            .strip_suffix(')')
            .map(str::trim)
            .filter(|column| !column.is_empty())
        else {
            return Err(match rest.contains(')') {
                true => format!("`{name}` has no column in parentheses"),
                false => {
                    format!("`{text}` has no `)`; inside `[…]` YAML ends a text at its comma, so quote it")
                }
            });
        };
        let transform = match name.as_str() {
            "identity" => Transform::Identity,
            "day" => Transform::Day,
            _ => return Err(not_yet(&name)),
        };
        Ok(Self {
            transform,
            column: column.to_owned(),
        })
    }
}

/// The partition spec that a table of the schema gets; the error is a clause.
pub(crate) fn partition_spec(
    partition_by: &[PartitionBy],
    schema: &Schema,
) -> Result<UnboundPartitionSpec, String> {
    let mut builder = UnboundPartitionSpec::builder();
    for by in partition_by {
        if let Some(misfit) = by.misfit(schema) {
            return Err(misfit);
        }
        let id = schema
            .field_id_by_name(&by.column)
            .ok_or_else(|| format!("there is no column `{}`", by.column))?;
        builder = builder
            .add_partition_field(id, by.field_name(), by.transform)
            .map_err(|error| error.message().to_owned())?;
    }
    Ok(builder.build())
}

/// Whether every field on the way to a column is a struct's.
fn is_outside_lists(schema: &Schema, column: &str) -> bool {
    let ancestors = column.match_indices('.').filter_map(|(at, _)| column.get(..at));
    ancestors
        .filter_map(|name| schema.field_by_name(name))
        .all(|field| field.field_type.is_struct())
}

/// Reads the key `partition_by`.
pub(super) fn read(field: &Field<'_>) -> Option<Vec<PartitionBy>> {
    let mut read: Vec<PartitionBy> = Vec::new();
    let mut all_read = true;
    for item in field.items()? {
        match item.parse(PartitionBy::parse) {
            Some(by) if read.contains(&by) => item.problem(format!("`{}` stands twice", by.text())),
            Some(by) => read.push(by),
            None => all_read = false,
        }
    }
    all_read.then_some(read)
}

/// Checks a table's partitions against its columns, where both are written down. `field` is where the partitions are,
/// `table` where they come to the table that inherits them.
pub(super) fn check(
    field: Option<&Field<'_>>,
    table: &Field<'_>,
    partition_by: &[PartitionBy],
    schema: &SchemaConfig,
) {
    let SchemaConfig::Declared(schema) = schema else {
        return;
    };
    let items = field
        .filter(|field| field.is_list())
        .and_then(|field| field.items());
    for (place, by) in partition_by.iter().enumerate() {
        if let Some(misfit) = by.misfit(schema) {
            let item = items.as_ref().and_then(|items| items.get(place));
            item.or(field).unwrap_or(table).problem(misfit);
        }
    }
}
