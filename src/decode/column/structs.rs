//! Columns of structs, and the look-up of their fields by name.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, StructArray};
use arrow_buffer::NullBufferBuilder;
use arrow_schema::{ArrowError, DataType, Fields};
use iceberg::spec::StructType;

use super::leaf::finish_nulls;
use super::{Column, type_error};
use crate::decode::Strings;
use crate::error::Result;

/// A field of a struct with its column.
pub(in crate::decode) struct Field {
    /// The name.
    pub(in crate::decode) name: Box<str>,
    /// Whether it may not be null.
    pub(in crate::decode) required: bool,
    /// Its values.
    pub(in crate::decode) column: Column,
}

/// A column of structs. The root of a table is one, without nulls.
pub(in crate::decode) struct Struct {
    /// The fields in the order of the schema.
    pub(in crate::decode) fields: Vec<Field>,
    /// The dotted name of the struct and a dot; empty for the root.
    pub(in crate::decode) prefix: Box<str>,
    /// What all the fields of one struct take, without what is of varying length.
    width: usize,
    nulls: NullBufferBuilder,
    places: HashMap<Box<str>, usize>,
    /// The field that came after each field last time: place 0 is for the first, place n + 1 for the one after n.
    successors: Vec<usize>,
}

impl Struct {
    /// Makes an empty column of structs.
    pub(in crate::decode) fn try_new(kind: &StructType, name: &str, strings: Strings) -> Result<Self> {
        let prefix = if name.is_empty() {
            String::new()
        } else {
            format!("{name}.")
        };
        let mut fields = Vec::with_capacity(kind.fields().len());
        let mut places = HashMap::with_capacity(kind.fields().len());
        for (place, field) in kind.fields().iter().enumerate() {
            let dotted = format!("{prefix}{}", field.name);
            places.insert(field.name.clone().into_boxed_str(), place);
            fields.push(Field {
                name: field.name.clone().into_boxed_str(),
                required: field.required,
                column: Column::try_new(field, &dotted, strings)?,
            });
        }
        Ok(Self {
            successors: (0..=fields.len()).collect(),
            width: fields.iter().fold(0, |width: usize, field| {
                width.saturating_add(field.column.width())
            }),
            fields,
            prefix: prefix.into_boxed_str(),
            nulls: NullBufferBuilder::new(0),
            places,
        })
    }

    /// Finds a field by name; `cursor` is 0 at an object's start and remembers the field found last.
    ///
    /// Records of one source repeat the order of their keys: the field that came next last time is tried first.
    #[inline]
    pub(in crate::decode) fn place(&mut self, name: &str, cursor: &mut usize) -> Option<usize> {
        let guess = self.successors.get(*cursor).copied().unwrap_or(usize::MAX);
        let place = match self.fields.get(guess) {
            Some(field) if *field.name == *name => guess,
            _ => {
                let place = self.places.get(name).copied()?;
                if let Some(successor) = self.successors.get_mut(*cursor) {
                    *successor = place;
                }
                place
            }
        };
        *cursor = place + 1;
        Some(place)
    }

    /// How many structs are complete.
    pub(in crate::decode) fn len(&self) -> usize {
        self.nulls.len()
    }

    /// The bytes that each struct takes, null or not, without what is of varying length.
    pub(in crate::decode) fn width(&self) -> usize {
        self.width
    }

    /// Ends a struct: every field has its value.
    pub(in crate::decode) fn end_struct(&mut self) {
        self.nulls.append_non_null();
    }

    pub(super) fn append_null(&mut self) {
        for field in &mut self.fields {
            field.column.append_null();
        }
        self.nulls.append_null();
    }

    /// Cuts the column back to a length it had, whatever its fields have beyond.
    pub(in crate::decode) fn truncate(&mut self, len: usize) {
        self.nulls.truncate(len);
        for field in &mut self.fields {
            field.column.truncate(len);
        }
    }

    /// Roughly the bytes that the values take.
    pub(in crate::decode) fn held_bytes(&self) -> usize {
        let fields: usize = self.fields.iter().map(|field| field.column.held_bytes()).sum();
        fields + self.nulls.len() / 8
    }

    /// Takes the columns of the fields and leaves them empty.
    pub(in crate::decode) fn finish_fields(&mut self, fields: &Fields) -> Result<Vec<ArrayRef>, ArrowError> {
        self.fields
            .iter_mut()
            .zip(fields)
            .map(|(field, arrow)| field.column.finish(arrow.data_type()))
            .collect()
    }

    /// Forgets the number of structs, once the columns of the root are taken.
    pub(in crate::decode) fn reset(&mut self) {
        self.nulls = NullBufferBuilder::new(0);
    }

    pub(super) fn finish(&mut self, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
        let DataType::Struct(fields) = data_type else {
            return Err(type_error("structs", data_type));
        };
        let len = self.len();
        let arrays = self.finish_fields(fields)?;
        let nulls = finish_nulls(&mut self.nulls);
        let array = StructArray::try_new_with_length(fields.clone(), arrays, nulls, len)?;
        Ok(Arc::new(array))
    }
}
