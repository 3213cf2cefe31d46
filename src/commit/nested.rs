//! Types within types: ids for new ones, and where an id is.

use std::sync::Arc;

use iceberg::spec::{ListType, MapType, NestedField, NestedFieldRef, StructType, Type};

use super::append::promotes;

/// The fields of one level get their ids before those within, as Java numbers them.
pub(super) fn with_fresh_ids(kind: &Type, last: &mut i32) -> Type {
    let mut fresh = |field: &NestedFieldRef| {
        *last += 1;
        let mut field = field.as_ref().clone();
        field.id = *last;
        field
    };
    match kind {
        Type::Primitive(_) => kind.clone(),
        Type::Struct(inner) => {
            let fields: Vec<NestedField> = inner.fields().iter().map(&mut fresh).collect();
            let fields = fields.into_iter().map(|field| deeper(field, last));
            Type::Struct(StructType::new(fields.collect()))
        }
        Type::List(list) => {
            let element = fresh(&list.element_field);
            Type::List(ListType::new(deeper(element, last)))
        }
        Type::Map(map) => {
            let (key, value) = (fresh(&map.key_field), fresh(&map.value_field));
            let key = deeper(key, last);
            Type::Map(MapType::new(key, deeper(value, last)))
        }
    }
}

fn deeper(mut field: NestedField, last: &mut i32) -> NestedFieldRef {
    *field.field_type = with_fresh_ids(&field.field_type, last);
    Arc::new(field)
}

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
