//! Columns of an altered table: each edit gives the schema as it should be, or the one it was given when that is so already.

use std::sync::Arc;

use iceberg::spec::{
    ListType, MapType, NestedField, NestedFieldRef, PrimitiveType, Schema, StructType, Type,
};

use super::append::promotes;
use super::nested::{ids_in, is_in_struct, is_like};
use crate::config::with_fresh_ids;

/// What an edit makes of a schema; the error is a clause.
pub(super) type Edited = Result<Schema, String>;

/// Adds an optional column behind the others, with fresh ids. A column of its name and type, or a wider one, will do.
pub(super) fn add(
    schema: Schema,
    parent: Option<&str>,
    column: &NestedField,
    last_column_id: &mut i32,
) -> Edited {
    let full_name = match parent {
        Some(parent) => format!("{parent}.{}", column.name),
        None => column.name.clone(),
    };
    if let Some(found) = schema.field_by_name(&full_name) {
        return match is_like(&column.field_type, &found.field_type) {
            true => Ok(schema),
            false => Err(format!(
                "there is a column `{full_name}` of type {} instead of {}",
                found.field_type, column.field_type
            )),
        };
    }
    *last_column_id += 1;
    let mut added = column.clone();
    added.id = *last_column_id;
    added.required = false;
    *added.field_type = with_fresh_ids(&column.field_type, last_column_id);
    let added = Arc::new(added);
    let Some(parent) = parent else {
        let fields = schema.as_struct().fields().iter().cloned().chain([added]);
        return rebuilt(&schema, fields.collect());
    };
    edit(&schema, parent, |field| match field.field_type.as_ref() {
        Type::Struct(inner) => {
            let fields = inner.fields().iter().cloned().chain([added.clone()]);
            let mut field = field.clone();
            *field.field_type = Type::Struct(StructType::new(fields.collect()));
            Ok(Some(field))
        }
        other => Err(format!(
            "`{parent}` is a {other}, and a column goes into a struct"
        )),
    })
}

/// Gives a column a type that its older files are read as. A wider one will do.
pub(super) fn widen(schema: Schema, column: &str, to: &PrimitiveType) -> Edited {
    let to = Type::Primitive(to.clone());
    edit(&schema, column, |field| {
        if promotes(&to, &field.field_type) {
            return Ok(Some(field.clone()));
        }
        if !promotes(&field.field_type, &to) {
            return Err(format!(
                "`{column}` is {}, which no reader takes for {to}",
                field.field_type
            ));
        }
        let mut field = field.clone();
        *field.field_type = to.clone();
        Ok(Some(field))
    })
}

/// Lets a column be null.
pub(super) fn make_optional(schema: Schema, column: &str) -> Edited {
    edit(&schema, column, |field| {
        let mut field = field.clone();
        field.required = false;
        Ok(Some(field))
    })
}

/// Gives a column another name, the last part of its full one. Nothing to do where only the new name is there.
pub(super) fn rename(schema: Schema, column: &str, to: &str) -> Edited {
    let renamed = match column.rsplit_once('.') {
        Some((parent, _)) => format!("{parent}.{to}"),
        None => to.to_owned(),
    };
    match (schema.field_by_name(column), schema.field_by_name(&renamed)) {
        (None, Some(_)) => Ok(schema),
        (Some(_), Some(_)) => Err(format!("there is a column `{renamed}` already")),
        (found, None) => {
            if found.is_some_and(|field| !is_in_struct(schema.as_struct().fields(), field.id)) {
                return Err(format!("`{column}` has the name that the specification gives it"));
            }
            edit(&schema, column, |field| {
                let mut field = field.clone();
                to.clone_into(&mut field.name);
                Ok(Some(field))
            })
        }
    }
}

/// Drops a column, and what is nested in it. Nothing to do where there is none.
pub(super) fn drop(schema: Schema, column: &str, needed: impl Fn(i32) -> Option<&'static str>) -> Edited {
    let Some(field) = schema.field_by_name(column) else {
        return Ok(schema);
    };
    if !is_in_struct(schema.as_struct().fields(), field.id) {
        return Err(format!("`{column}` is part of a list or map"));
    }
    let mut ids = vec![field.id];
    ids_in(&field.field_type, &mut ids);
    if let Some(what) = ids.into_iter().find_map(needed) {
        return Err(format!("`{column}` is needed: {what}; change that first"));
    }
    edit(&schema, column, |_| Ok(None))
}

/// Edits one field; none drops it.
fn edit(
    schema: &Schema,
    column: &str,
    change: impl Fn(&NestedField) -> Result<Option<NestedField>, String>,
) -> Edited {
    let Some(field) = schema.field_by_name(column) else {
        return Err(format!("there is no column `{column}`"));
    };
    let changed = change(field)?.map(Arc::new);
    rebuilt(
        schema,
        edit_fields(schema.as_struct().fields(), field.id, changed.as_ref()),
    )
}

fn edit_fields(fields: &[NestedFieldRef], id: i32, changed: Option<&NestedFieldRef>) -> Vec<NestedFieldRef> {
    let edited = fields.iter().filter_map(|field| match field.id == id {
        true => changed.cloned(),
        false => Some(edit_inside(field, id, changed)),
    });
    edited.collect()
}

fn edit_inside(field: &NestedFieldRef, id: i32, changed: Option<&NestedFieldRef>) -> NestedFieldRef {
    // What is no field of a struct is never dropped.
    let edit_one = |part: &NestedFieldRef| match (part.id == id, changed) {
        (true, Some(changed)) => changed.clone(),
        _ => edit_inside(part, id, changed),
    };
    let kind = match field.field_type.as_ref() {
        Type::Primitive(_) => return field.clone(),
        Type::Struct(inner) => Type::Struct(StructType::new(edit_fields(inner.fields(), id, changed))),
        Type::List(list) => Type::List(ListType::new(edit_one(&list.element_field))),
        Type::Map(map) => Type::Map(MapType::new(edit_one(&map.key_field), edit_one(&map.value_field))),
    };
    let mut field = field.as_ref().clone();
    *field.field_type = kind;
    Arc::new(field)
}

fn rebuilt(schema: &Schema, fields: Vec<NestedFieldRef>) -> Edited {
    Schema::builder()
        .with_schema_id(schema.schema_id())
        .with_identifier_field_ids(schema.identifier_field_ids())
        .with_fields(fields)
        .build()
        .map_err(|error| error.message().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: Vec<NestedField>) -> Schema {
        let fields = fields.into_iter().map(Arc::new);
        Schema::builder().with_fields(fields).build().unwrap()
    }

    fn long(id: i32, name: &str) -> NestedField {
        NestedField::required(id, name, Type::Primitive(PrimitiveType::Long))
    }

    /// `a long, lines list<struct<n: int>>`.
    fn nested() -> Schema {
        let n = NestedField::optional(4, "n", Type::Primitive(PrimitiveType::Int));
        let line = Type::Struct(StructType::new(vec![Arc::new(n)]));
        let lines = ListType::new(Arc::new(NestedField::list_element(3, line, true)));
        schema(vec![
            long(1, "a"),
            NestedField::optional(2, "lines", Type::List(lines)),
        ])
    }

    #[test]
    fn nested_columns_are_edited_in_their_place_and_edits_that_are_done_change_nothing() {
        let mut last = 4;
        let point = StructType::new(vec![Arc::new(long(1, "x")), Arc::new(long(2, "y"))]);
        let point = NestedField::required(1, "at", Type::Struct(point));
        let mut edited = nested();
        for _ in 0..2 {
            edited = add(edited, Some("lines.element"), &point, &mut last).unwrap();
            edited = add(edited, None, &long(1, "b"), &mut last).unwrap();
            edited = widen(edited, "lines.element.n", &PrimitiveType::Long).unwrap();
            edited = make_optional(edited, "a").unwrap();
        }
        for _ in 0..2 {
            edited = rename(edited, "a", "first").unwrap();
        }
        assert_eq!(last, 8);
        for (name, id) in [
            ("first", 1),
            ("lines.element.n", 4),
            ("lines.element.at", 5),
            ("lines.element.at.x", 6),
            ("lines.element.at.y", 7),
            ("b", 8),
        ] {
            assert_eq!(edited.field_id_by_name(name), Some(id), "{name}");
        }
        assert!(!edited.field_by_id(1).unwrap().required);
        assert!(!edited.field_by_id(8).unwrap().required);
        assert_eq!(
            edited.field_by_id(4).unwrap().field_type.as_ref(),
            &Type::Primitive(PrimitiveType::Long)
        );
        let dropped = drop(edited, "lines.element.at", |_| None).unwrap();
        let dropped = drop(dropped, "lines.element.at", |_| None).unwrap();
        assert_eq!(dropped.field_by_id(6), None);
        assert_eq!(dropped.highest_field_id(), 8);
    }

    #[test]
    fn edits_that_readers_or_the_table_do_not_survive_are_refused() {
        for (edited, reason) in [
            (
                widen(nested(), "a", &PrimitiveType::Date),
                "which no reader takes for date",
            ),
            (make_optional(nested(), "z"), "there is no column `z`"),
            (rename(nested(), "lines", "a"), "there is a column `a` already"),
            (
                rename(nested(), "lines.element", "b"),
                "the specification gives it",
            ),
            (
                drop(nested(), "lines.element", |_| None),
                "is part of a list or map",
            ),
            (
                drop(nested(), "lines", |id| {
                    (id == 4).then_some("the sort order has it")
                }),
                "is needed: the sort order has it",
            ),
            (
                add(
                    nested(),
                    None,
                    &NestedField::optional(1, "a", Type::Primitive(PrimitiveType::Date)),
                    &mut 4,
                ),
                "there is a column `a` of type long instead of date",
            ),
            (
                add(nested(), Some("a"), &long(1, "b"), &mut 4),
                "a column goes into a struct",
            ),
        ] {
            let error = edited.expect_err(reason);
            assert!(error.contains(reason), "{error}");
        }
    }
}
