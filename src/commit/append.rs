//! The append: which concurrent changes it tolerates.

use iceberg::spec::{PrimitiveType, Schema, Type};
use iceberg::table::Table;

use crate::error::{Error, ErrorKind, Result};

/// Checks that files written for `written` may be appended to `now`.
///
/// Tolerated: other appends, overwrites, deletes, compactions and expiry, since an append reads nothing; new optional
/// columns, which read as null from older files; wider types, which readers promote; dropped and renamed columns,
/// since files are read by field id. Refused: another table under the name, another partition spec, a column that
/// became required, a type that older files do not promote to.
///
/// # Errors
/// [`ErrorKind::TableMismatch`]: the rows must be decoded again for the table as it is now.
pub fn validate(written: &Table, now: &Table) -> Result<()> {
    let refused = |rule: &str| {
        Err(Error::new(
            ErrorKind::TableMismatch,
            format!("The table changed under the batch: {rule}."),
        )
        .with("table", now.identifier()))
    };
    let (before, after) = (written.metadata(), now.metadata());
    if before.uuid() != after.uuid() {
        return refused("another table has its name");
    }
    if before.default_partition_spec_id() != after.default_partition_spec_id() {
        return refused("its partition spec is another");
    }
    if before.current_schema_id() == after.current_schema_id() {
        return Ok(());
    }
    match schema_rule(before.current_schema(), after.current_schema()) {
        Some(rule) => refused(rule),
        None => Ok(()),
    }
}

fn schema_rule(before: &Schema, after: &Schema) -> Option<&'static str> {
    for id in after.field_id_to_name_map().keys() {
        let Some(field) = after.field_by_id(*id) else {
            continue;
        };
        match before.field_by_id(*id) {
            None if field.required => return Some("it has a new required column"),
            None => {}
            Some(old) if field.required && !old.required => return Some("a column became required"),
            Some(old) if !promotes(&old.field_type, &field.field_type) => {
                return Some("a column has another type");
            }
            Some(_) => {}
        }
    }
    None
}

/// Whether files of the older type are read as the newer (specification, *Schema Evolution*). Nested fields are
/// compared by their own ids.
pub(super) fn promotes(old: &Type, new: &Type) -> bool {
    match (old, new) {
        (Type::Primitive(old), Type::Primitive(new)) => match (old, new) {
            (PrimitiveType::Int, PrimitiveType::Long) | (PrimitiveType::Float, PrimitiveType::Double) => true,
            (
                PrimitiveType::Decimal {
                    precision: p,
                    scale: s,
                },
                PrimitiveType::Decimal {
                    precision: q,
                    scale: t,
                },
            ) => s == t && q >= p,
            _ => old == new,
        },
        (Type::Struct(_), Type::Struct(_))
        | (Type::List(_), Type::List(_))
        | (Type::Map(_), Type::Map(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use iceberg::spec::NestedField;

    use super::*;

    fn schema(fields: Vec<NestedField>) -> Schema {
        Schema::builder()
            .with_fields(fields.into_iter().map(Arc::new))
            .build()
            .unwrap()
    }

    fn column(id: i32, required: bool, kind: PrimitiveType) -> NestedField {
        NestedField::new(id, format!("c{id}"), Type::Primitive(kind), required)
    }

    #[test]
    fn only_changes_that_older_files_survive_are_tolerated() {
        let before = schema(vec![
            column(1, false, PrimitiveType::Int),
            column(2, true, PrimitiveType::String),
        ]);
        let with = |fields| schema_rule(&before, &schema(fields));
        assert_eq!(
            with(vec![
                column(1, false, PrimitiveType::Long),
                column(3, false, PrimitiveType::Date)
            ]),
            None
        );
        assert!(with(vec![column(1, true, PrimitiveType::Int)]).is_some());
        assert!(with(vec![column(1, false, PrimitiveType::String)]).is_some());
        assert!(with(vec![column(3, true, PrimitiveType::Int)]).is_some());
    }
}
