//! Types within types: whether one is like another, and where an id is.

use iceberg::spec::{NestedFieldRef, Type};

use super::append::promotes;

/// Whether values of the wanted type fit a column of the found one, whatever the ids.
pub(super) fn is_like(wanted: &Type, found: &Type) -> bool {
    let field = |wanted: &NestedFieldRef, found: &NestedFieldRef| {
        wanted.name == found.name
            && (!found.required || wanted.required)
            && is_like(&wanted.field_type, &found.field_type)
    };
    match (wanted, found) {
        (Type::Struct(wanted), Type::Struct(found)) => {
            let (wanted, found) = (wanted.fields(), found.fields());
            wanted.len() == found.len() && wanted.iter().zip(found).all(|(left, right)| field(left, right))
        }
        (Type::List(wanted), Type::List(found)) => field(&wanted.element_field, &found.element_field),
        (Type::Map(wanted), Type::Map(found)) => {
            field(&wanted.key_field, &found.key_field) && field(&wanted.value_field, &found.value_field)
        }
        _ => promotes(wanted, found),
    }
}

/// Whether a field is a table's or a struct's, and no list's or map's own.
pub(super) fn is_in_struct(fields: &[NestedFieldRef], id: i32) -> bool {
    fields
        .iter()
        .any(|field| field.id == id || is_within(&field.field_type, id))
}

fn is_within(kind: &Type, id: i32) -> bool {
    match kind {
        Type::Primitive(_) => false,
        Type::Struct(inner) => is_in_struct(inner.fields(), id),
        Type::List(list) => is_within(&list.element_field.field_type, id),
        Type::Map(map) => {
            is_within(&map.key_field.field_type, id) || is_within(&map.value_field.field_type, id)
        }
    }
}

pub(super) fn ids_in(kind: &Type, ids: &mut Vec<i32>) {
    let mut take = |field: &NestedFieldRef| {
        ids.push(field.id);
        ids_in(&field.field_type, ids);
    };
    match kind {
        Type::Primitive(_) => {}
        Type::Struct(inner) => inner.fields().iter().for_each(take),
        Type::List(list) => take(&list.element_field),
        Type::Map(map) => {
            take(&map.key_field);
            take(&map.value_field);
        }
    }
}
