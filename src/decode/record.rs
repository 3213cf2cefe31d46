//! One record into the columns: the seeds and visitors that serde_json drives.
//!
//! serde_json lexes; a value of a primitive column comes as its raw text, so numbers keep all their digits. A value that
//! does not fit is never an error of serde: it is noted, the rest of the record is skipped, and reading goes on behind it.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::column::{Column, Field, Leaf, List, Map, Struct};
use super::notes::{Fit, Notes};
use super::reject::{Misfit, RejectKind};

/// Reads the object at the start of `text` into the columns; says whether it fits, and where it ends.
///
/// # Errors
/// What serde_json says of text that is not JSON. The columns may then have parts of the record, as they have after
/// [`Fit::Not`]: the caller cuts them back.
pub(super) fn read_record(
    root: &mut Struct,
    notes: &mut Notes,
    text: &str,
) -> Result<(Fit, usize), serde_json::Error> {
    notes.begin(root.width());
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let fit = deserializer.deserialize_map(StructVisitor { root, notes })?;
    // A stream starts where the deserializer stands: serde_json tells its offset in no other way.
    let end = deserializer.into_iter::<IgnoredAny>().byte_offset();
    Ok((fit, end))
}

/// Reads one value into a column.
struct ValueSeed<'a> {
    column: &'a mut Column,
    required: bool,
    notes: &'a mut Notes,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Fit;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Fit, D::Error> {
        let Self {
            column,
            required,
            notes,
        } = self;
        let Column::Leaf(leaf) = column else {
            return deserializer.deserialize_any(NestedVisitor {
                column,
                required,
                notes,
            });
        };
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        if raw == "null" {
            return Ok(append_null(column, required, notes));
        }
        Ok(match leaf.append_json(raw) {
            Ok(()) => Fit::Fits,
            Err(misfit) => notes.note(misfit),
        })
    }
}

/// Appends a null, if the column may have one.
fn append_null(column: &mut Column, required: bool, notes: &mut Notes) -> Fit {
    if required {
        let message = format!("found null where {} is required", column.expected());
        notes.note(Misfit::new(RejectKind::MissingRequired, message))
    } else {
        column.append_null();
        Fit::Fits
    }
}

/// Reads an array or object into the column of a list, map or struct.
struct NestedVisitor<'a> {
    column: &'a mut Column,
    required: bool,
    notes: &'a mut Notes,
}

impl NestedVisitor<'_> {
    fn wrong_type<E>(self, found: &str) -> Result<Fit, E> {
        let expected = self.column.expected();
        Ok(self.notes.note(Misfit::wrong_type(found, expected)))
    }
}

impl<'de> Visitor<'de> for NestedVisitor<'_> {
    type Value = Fit;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Fit, E> {
        Ok(append_null(self.column, self.required, self.notes))
    }

    fn visit_bool<E>(self, _value: bool) -> Result<Fit, E> {
        self.wrong_type("a boolean")
    }

    fn visit_i64<E>(self, _value: i64) -> Result<Fit, E> {
        self.wrong_type("a number")
    }

    fn visit_u64<E>(self, _value: u64) -> Result<Fit, E> {
        self.wrong_type("a number")
    }

    fn visit_f64<E>(self, _value: f64) -> Result<Fit, E> {
        self.wrong_type("a number")
    }

    fn visit_str<E>(self, _value: &str) -> Result<Fit, E> {
        self.wrong_type("a string")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Fit, A::Error> {
        match self.column {
            Column::List(list) => read_list(list, self.notes, elements),
            _ => {
                while elements.next_element::<IgnoredAny>()?.is_some() {}
                self.wrong_type("an array")
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Fit, A::Error> {
        match self.column {
            Column::Struct(column) => read_struct(column, self.notes, entries),
            Column::Map(map) => read_map(map, self.notes, entries),
            _ => {
                skip_entries(&mut entries)?;
                self.wrong_type("an object")
            }
        }
    }
}

fn read_list<'de, A: SeqAccess<'de>>(
    list: &mut List,
    notes: &mut Notes,
    mut elements: A,
) -> Result<Fit, A::Error> {
    let mut place = 0;
    loop {
        let seed = ValueSeed {
            column: &mut list.elements,
            required: list.element_required,
            notes,
        };
        let fit = elements.next_element_seed(seed);
        match fit.map(|fit| fit.map(|fit| fit.and_then(|| notes.count_element(list.element_width)))) {
            Ok(Some(Fit::Fits)) => place += 1,
            Ok(Some(Fit::Not)) => {
                notes.step_element(place);
                while elements.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Fit::Not);
            }
            Ok(None) => break,
            Err(error) => {
                notes.step_element(place);
                return Err(error);
            }
        }
    }
    Ok(match list.end_list() {
        Ok(()) => Fit::Fits,
        Err(misfit) => notes.note(misfit),
    })
}

fn read_map<'de, A: MapAccess<'de>>(
    map: &mut Map,
    notes: &mut Notes,
    mut entries: A,
) -> Result<Fit, A::Error> {
    while let Some(key) = entries.next_key_seed(KeySeed { keys: &mut map.keys })? {
        let seed = ValueSeed {
            column: &mut map.values,
            required: map.value_required,
            notes,
        };
        let fit = match key {
            Ok(()) => entries
                .next_value_seed(seed)
                .map(|fit| fit.and_then(|| notes.count_element(map.entry_width))),
            Err(misfit) => {
                entries.next_value::<IgnoredAny>()?;
                Ok(notes.note(misfit))
            }
        };
        if fit.as_ref().ok() != Some(&Fit::Fits) {
            // The key is data of the payload: it is not named.
            notes.step_field("*");
            if fit.is_ok() {
                skip_entries(&mut entries)?;
            }
            return fit;
        }
    }
    Ok(match map.end_map() {
        Ok(()) => Fit::Fits,
        Err(misfit) => notes.note(misfit),
    })
}

fn read_struct<'de, A: MapAccess<'de>>(
    column: &mut Struct,
    notes: &mut Notes,
    mut entries: A,
) -> Result<Fit, A::Error> {
    let len = column.len();
    let mut cursor = 0;
    let mut found_count = 0;
    while let Some(place) = entries.next_key_seed(FieldSeed {
        column,
        notes,
        cursor: &mut cursor,
    })? {
        let Some(field) = place.and_then(|place| column.fields.get_mut(place)) else {
            entries.next_value::<IgnoredAny>()?;
            continue;
        };
        let fit = if field.column.len() > len {
            entries.next_value::<IgnoredAny>()?;
            Ok(notes.note(Misfit::new(
                RejectKind::DuplicateField,
                "found the same field twice",
            )))
        } else {
            entries.next_value_seed(ValueSeed {
                column: &mut field.column,
                required: field.required,
                notes,
            })
        };
        if fit.as_ref().ok() != Some(&Fit::Fits) {
            notes.step_field(&field.name);
            if fit.is_ok() {
                skip_entries(&mut entries)?;
            }
            return fit;
        }
        found_count += 1;
    }
    if found_count < column.fields.len() {
        for field in &mut column.fields {
            if field.column.len() == len && fill_missing(field, notes) == Fit::Not {
                return Ok(Fit::Not);
            }
        }
    }
    column.end_struct();
    Ok(Fit::Fits)
}

/// Appends the null of a field that the object does not have.
fn fill_missing(field: &mut Field, notes: &mut Notes) -> Fit {
    if !field.required {
        field.column.append_null();
        return Fit::Fits;
    }
    let expected = field.column.expected();
    notes.step_field(&field.name);
    notes.note(Misfit::new(
        RejectKind::MissingRequired,
        format!("found no value where {expected} is required"),
    ))
}

fn skip_entries<'de, A: MapAccess<'de>>(entries: &mut A) -> Result<(), A::Error> {
    while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

/// Reads a record.
struct StructVisitor<'a> {
    root: &'a mut Struct,
    notes: &'a mut Notes,
}

impl<'de> Visitor<'de> for StructVisitor<'_> {
    type Value = Fit;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Fit, A::Error> {
        read_struct(self.root, self.notes, entries)
    }
}

/// Finds the field of a key, or counts the key as unknown.
struct FieldSeed<'a> {
    column: &'a mut Struct,
    notes: &'a mut Notes,
    cursor: &'a mut usize,
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = Option<usize>;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for FieldSeed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    #[inline]
    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        let place = self.column.place(name, self.cursor);
        if place.is_none() {
            self.notes.count_unknown(&self.column.prefix, name);
        }
        Ok(place)
    }
}

/// Reads the key of a map into the column of its keys.
struct KeySeed<'a> {
    keys: &'a mut Leaf,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Result<(), Misfit>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Result<(), Misfit>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.keys.append_key(key))
    }
}
