//! Columns of lists and maps: offsets into the columns of their elements.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_array::{ArrayRef, ListArray, MapArray, StructArray};
use arrow_buffer::NullBufferBuilder;
use arrow_schema::{ArrowError, DataType};

use super::leaf::{Leaf, finish_nulls};
use super::text::Offsets;
use super::{Column, type_error};
use crate::decode::reject::{Misfit, RejectKind};

/// The most elements that 32-bit offsets address.
const MAX_OFFSET: usize = i32::MAX as usize;

/// Up to so many keys of one map are compared pair by pair.
const FEW_KEYS: usize = 8;

/// A column of lists.
pub(in crate::decode) struct List {
    offsets: Offsets<i32>,
    nulls: NullBufferBuilder,
    /// Whether elements may not be null.
    pub(in crate::decode) element_required: bool,
    /// What an element takes, whatever its value.
    pub(in crate::decode) element_width: usize,
    /// The elements of all lists.
    pub(in crate::decode) elements: Column,
}

impl List {
    pub(super) fn new(elements: Column, element_required: bool) -> Self {
        Self {
            offsets: Offsets::new(MAX_OFFSET),
            nulls: NullBufferBuilder::new(0),
            element_required,
            element_width: elements.width(),
            elements,
        }
    }

    /// Ends a list: the elements appended since the last one are its elements.
    pub(in crate::decode) fn end_list(&mut self) -> Result<(), Misfit> {
        self.offsets.check(self.elements.len())?;
        self.offsets.push(self.elements.len());
        self.nulls.append_non_null();
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.offsets.len()
    }

    pub(super) fn append_null(&mut self) {
        self.offsets.push(self.offsets.end());
        self.nulls.append_null();
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.offsets.truncate(len);
        self.nulls.truncate(len);
        self.elements.truncate(self.offsets.end());
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.offsets.held_bytes() + self.nulls.len() / 8 + self.elements.held_bytes()
    }

    pub(super) fn finish(&mut self, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
        let DataType::List(field) = data_type else {
            return Err(type_error("lists", data_type));
        };
        let elements = self.elements.finish(field.data_type())?;
        let nulls = finish_nulls(&mut self.nulls);
        let array = ListArray::try_new(field.clone(), self.offsets.finish(), elements, nulls)?;
        Ok(Arc::new(array))
    }
}

/// A column of maps.
pub(in crate::decode) struct Map {
    offsets: Offsets<i32>,
    nulls: NullBufferBuilder,
    /// Whether values may not be null.
    pub(in crate::decode) value_required: bool,
    /// What an entry takes, whatever its key and value.
    pub(in crate::decode) entry_width: usize,
    /// The keys of all maps.
    pub(in crate::decode) keys: Leaf,
    /// The values of all maps.
    pub(in crate::decode) values: Column,
}

impl Map {
    pub(super) fn new(keys: Leaf, values: Column, value_required: bool) -> Self {
        Self {
            offsets: Offsets::new(MAX_OFFSET),
            nulls: NullBufferBuilder::new(0),
            value_required,
            entry_width: keys.width() + values.width(),
            keys,
            values,
        }
    }

    /// Ends a map: the entries appended since the last one are its entries, and its keys must differ.
    pub(in crate::decode) fn end_map(&mut self) -> Result<(), Misfit> {
        let end = self.keys.len();
        self.offsets.check(end)?;
        if self.has_duplicate_key(self.offsets.end(), end) {
            return Err(Misfit::new(
                RejectKind::DuplicateField,
                "found a map with the same key twice",
            ));
        }
        self.offsets.push(end);
        self.nulls.append_non_null();
        Ok(())
    }

    fn has_duplicate_key(&self, start: usize, end: usize) -> bool {
        if end - start <= FEW_KEYS {
            return (start..end)
                .any(|place| (start..place).any(|before| self.keys.key(before) == self.keys.key(place)));
        }
        let mut seen = HashSet::with_capacity(end - start);
        (start..end).any(|place| !seen.insert(self.keys.key(place)))
    }

    pub(super) fn len(&self) -> usize {
        self.offsets.len()
    }

    pub(super) fn append_null(&mut self) {
        self.offsets.push(self.offsets.end());
        self.nulls.append_null();
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.offsets.truncate(len);
        self.nulls.truncate(len);
        self.keys.truncate(self.offsets.end());
        self.values.truncate(self.offsets.end());
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.offsets.held_bytes() + self.nulls.len() / 8 + self.keys.held_bytes() + self.values.held_bytes()
    }

    pub(super) fn finish(&mut self, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
        let DataType::Map(entries_field, ordered) = data_type else {
            return Err(type_error("maps", data_type));
        };
        let DataType::Struct(fields) = entries_field.data_type() else {
            return Err(type_error("maps", data_type));
        };
        let [key_field, value_field] = fields.as_ref() else {
            return Err(type_error("maps", data_type));
        };
        let keys = self.keys.finish(key_field.data_type())?;
        let values = self.values.finish(value_field.data_type())?;
        let entries = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
        let nulls = finish_nulls(&mut self.nulls);
        let offsets = self.offsets.finish();
        let array = MapArray::try_new(entries_field.clone(), offsets, entries, nulls, *ordered)?;
        Ok(Arc::new(array))
    }
}
