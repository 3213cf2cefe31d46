//! Columns: growable builders that can be cut back to an earlier length.
//!
//! A record is appended value by value while its text is read; if it turns out not to fit, every column is cut back to
//! where the record began. The invariant: between records all columns of a struct have the struct's length.

mod leaf;
mod list;
mod structs;
mod text;

use arrow_array::ArrayRef;
use arrow_schema::{ArrowError, DataType};
use iceberg::spec::{NestedField, Type};

pub(super) use leaf::{Blobs, Leaf, Values};
pub(super) use list::{List, Map};
pub(super) use structs::{Field, Struct};

use super::Strings;
use crate::error::{Error, ErrorKind, Result};

/// The column of one field, or of the elements, keys or values of one.
pub(super) enum Column {
    Leaf(Leaf),
    List(Box<List>),
    Map(Box<Map>),
    Struct(Box<Struct>),
}

impl Column {
    /// Makes the empty column of a field. The name is the field's dotted name.
    ///
    /// # Errors
    /// [`ErrorKind::TableMismatch`] if the type has no JSON form.
    pub(super) fn try_new(field: &NestedField, name: &str, strings: Strings) -> Result<Self> {
        Ok(match field.field_type.as_ref() {
            Type::Primitive(kind) => Self::Leaf(Leaf::try_new(kind.clone(), name, strings)?),
            Type::Struct(kind) => Self::Struct(Box::new(Struct::try_new(kind, name, strings)?)),
            Type::List(list) => {
                let element = Self::try_new(&list.element_field, name, strings)?;
                Self::List(Box::new(List::new(element, list.element_field.required)))
            }
            Type::Map(map) => {
                let Self::Leaf(keys) = Self::try_new(&map.key_field, name, Strings::Strict)? else {
                    return Err(Error::new(
                        ErrorKind::TableMismatch,
                        "A map with keys that are structs, lists or maps has no JSON form.",
                    )
                    .with("field", name));
                };
                let values = Self::try_new(&map.value_field, name, strings)?;
                Self::Map(Box::new(Map::new(keys, values, map.value_field.required)))
            }
        })
    }

    /// How many values the column has.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.len(),
            Self::List(list) => list.len(),
            Self::Map(map) => map.len(),
            Self::Struct(column) => column.len(),
        }
    }

    /// The bytes that each value takes, null or not, without what it has of varying length.
    pub(super) fn width(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.width(),
            Self::List(_) | Self::Map(_) => size_of::<i32>(),
            Self::Struct(column) => column.width(),
        }
    }

    /// Appends a null. Below a null struct even required columns have one; the struct masks it.
    pub(super) fn append_null(&mut self) {
        match self {
            Self::Leaf(leaf) => leaf.append_null(),
            Self::List(list) => list.append_null(),
            Self::Map(map) => map.append_null(),
            Self::Struct(column) => column.append_null(),
        }
    }

    /// Cuts the column back to a length it had.
    pub(super) fn truncate(&mut self, len: usize) {
        match self {
            Self::Leaf(leaf) => leaf.truncate(len),
            Self::List(list) => list.truncate(len),
            Self::Map(map) => map.truncate(len),
            Self::Struct(column) => column.truncate(len),
        }
    }

    /// Roughly the bytes that the values take.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.held_bytes(),
            Self::List(list) => list.held_bytes(),
            Self::Map(map) => map.held_bytes(),
            Self::Struct(column) => column.held_bytes(),
        }
    }

    /// Takes the values as an array of the type and leaves the column empty.
    pub(super) fn finish(&mut self, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
        match self {
            Self::Leaf(leaf) => leaf.finish(data_type),
            Self::List(list) => list.finish(data_type),
            Self::Map(map) => map.finish(data_type),
            Self::Struct(column) => column.finish(data_type),
        }
    }

    /// What the column takes, for messages: `long`, `a list`.
    pub(super) fn expected(&self) -> String {
        match self {
            Self::Leaf(leaf) => leaf.expected(),
            Self::List(_) => "an array".to_owned(),
            Self::Map(_) | Self::Struct(_) => "an object".to_owned(),
        }
    }
}

/// The error of a column that was given another array type than its own: the schema conversion changed.
fn type_error(expected: &str, data_type: &DataType) -> ArrowError {
    ArrowError::SchemaError(format!("a column of {expected} cannot become {data_type}"))
}
