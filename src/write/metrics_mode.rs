//! How much a manifest says of each column: `none`, `counts`, `truncate(n)` or `full`.

use std::collections::HashMap;

use iceberg::spec::{NestedFieldRef, Schema, Type};

/// Without a default of its own, a table has metrics for this many columns: wide tables would bloat their manifests.
pub(crate) const DEFAULT_COLUMNS: usize = 100;
const DEFAULT: MetricsMode = MetricsMode::Truncate(16);

/// What is kept of one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricsMode {
    /// Nothing, not even its size.
    None,
    /// Sizes and counts of values, nulls and NaNs.
    Counts,
    /// Counts and bounds; of texts and bytes the first so many characters or bytes.
    Truncate(usize),
    /// Counts and whole bounds.
    Full,
}

impl MetricsMode {
    /// Reads Java's words, in any case; the error is a clause.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let word = text.trim().to_ascii_lowercase();
        let length = word
            .strip_prefix("truncate(")
            .and_then(|rest| rest.strip_suffix(')'))
            .and_then(|length| length.trim().parse().ok())
            .filter(|length| *length > 0);
        match (word.as_str(), length) {
            ("none", _) => Ok(Self::None),
            ("counts", _) => Ok(Self::Counts),
            ("full", _) => Ok(Self::Full),
            (_, Some(length)) => Ok(Self::Truncate(length)),
            _ => Err("takes `none`, `counts`, `truncate(16)` with any length, or `full`".to_owned()),
        }
    }

    pub(super) fn has_bounds(self) -> bool {
        matches!(self, Self::Truncate(_) | Self::Full)
    }
}

/// The mode of every column of a schema.
#[derive(Debug, Clone)]
pub(super) struct MetricsModes {
    by_id: HashMap<i32, MetricsMode>,
    default: MetricsMode,
}

impl MetricsModes {
    /// `default` is for all columns; without one the first columns that hold values, those of a level before those
    /// nested in it, have `truncate(16)` and the rest nothing. Columns named one by one win; names that the schema
    /// lacks are for others.
    pub(super) fn new(
        schema: &Schema,
        default: Option<MetricsMode>,
        column_count: usize,
        columns: &[(String, MetricsMode)],
    ) -> Self {
        let mut by_id = HashMap::new();
        if default.is_none() {
            let mut leaves = Vec::new();
            collect_leaves(schema.as_struct().fields(), &mut leaves);
            if leaves.len() > column_count {
                by_id.extend(
                    leaves
                        .into_iter()
                        .skip(column_count)
                        .map(|id| (id, MetricsMode::None)),
                );
            }
        }
        for (name, mode) in columns {
            by_id.extend(schema.field_id_by_name(name).map(|id| (id, *mode)));
        }
        Self {
            by_id,
            default: default.unwrap_or(DEFAULT),
        }
    }

    pub(super) fn of(&self, id: i32) -> MetricsMode {
        self.by_id.get(&id).copied().unwrap_or(self.default)
    }

    /// The longest bound that is wanted of any column; `None` when one is wanted whole.
    pub(super) fn longest_bound(&self) -> Option<usize> {
        let modes = self.by_id.values().chain([&self.default]);
        modes
            .map(|mode| match mode {
                MetricsMode::None | MetricsMode::Counts => Some(0),
                MetricsMode::Truncate(length) => Some(*length),
                MetricsMode::Full => None,
            })
            .try_fold(0, |longest, length| Some(longest.max(length?)))
    }
}

/// In Java's order: the columns of a level that hold values, then what its nested columns hold, one after the other.
fn collect_leaves(fields: &[NestedFieldRef], leaves: &mut Vec<i32>) {
    let (plain, nested): (Vec<_>, Vec<_>) = fields.iter().partition(|field| field.field_type.is_primitive());
    leaves.extend(plain.iter().map(|field| field.id));
    for field in nested {
        match field.field_type.as_ref() {
            Type::Primitive(_) => {}
            Type::Struct(inner) => collect_leaves(inner.fields(), leaves),
            Type::List(list) => collect_leaves(std::slice::from_ref(&list.element_field), leaves),
            Type::Map(map) => {
                collect_leaves(&[map.key_field.clone(), map.value_field.clone()], leaves);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use iceberg::spec::{NestedField, PrimitiveType};

    use super::*;

    #[test]
    fn words_are_javas() {
        assert_eq!(MetricsMode::parse("FULL"), Ok(MetricsMode::Full));
        assert_eq!(MetricsMode::parse("truncate(7)"), Ok(MetricsMode::Truncate(7)));
        for wrong in [
            "",
            "truncate",
            "truncate()",
            "truncate(-1)",
            "truncate(0)",
            "counts()",
        ] {
            assert!(MetricsMode::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn columns_of_a_level_come_before_those_nested_in_it() {
        let leaf =
            |id: i32| NestedField::optional(id, format!("c{id}"), Type::Primitive(PrimitiveType::Int)).into();
        let inner = |id: i32, fields| {
            let kind = Type::Struct(iceberg::spec::StructType::new(fields));
            NestedField::optional(id, format!("c{id}"), kind).into()
        };
        let fields = [
            inner(1, vec![inner(2, vec![leaf(3)]), leaf(4)]),
            leaf(5),
            inner(6, vec![leaf(7)]),
        ];
        let mut leaves = Vec::new();
        collect_leaves(&fields, &mut leaves);
        assert_eq!(leaves, [5, 4, 3, 7]);
    }

    #[test]
    fn only_the_first_columns_have_the_default_that_nobody_wrote() {
        let fields = (1..=120).map(|id| {
            NestedField::optional(id, format!("c{id}"), Type::Primitive(PrimitiveType::Int)).into()
        });
        let schema = Schema::builder().with_fields(fields).build().unwrap();
        let named = [("c120".to_owned(), MetricsMode::Counts)];
        let modes = MetricsModes::new(&schema, None, DEFAULT_COLUMNS, &named);
        assert_eq!(modes.of(100), DEFAULT);
        assert_eq!(modes.of(101), MetricsMode::None);
        assert_eq!(modes.of(120), MetricsMode::Counts);
        assert_eq!(modes.longest_bound(), Some(16));
        let modes = MetricsModes::new(&schema, Some(MetricsMode::Full), DEFAULT_COLUMNS, &named);
        assert_eq!(modes.of(101), MetricsMode::Full);
        assert_eq!(modes.longest_bound(), None);
    }
}
