//! The shape of values: what is known of a field's type, and how two observations meet.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::decode::datetime::{parse_date, parse_timestamptz};

/// Objects and arrays deeper than this are text.
const MAX_DEPTH: usize = 32;

/// What is known of a type.
#[derive(Debug)]
pub(super) enum Shape {
    /// Only nulls were seen, or elements of empty arrays.
    Waits,
    Boolean,
    Long,
    Double,
    Date,
    Timestamptz,
    Text,
    Struct(Fields),
    List(Box<Shape>),
}

impl Shape {
    /// Whether a column can be made of it.
    pub(super) fn is_known(&self) -> bool {
        match self {
            Self::Waits => false,
            Self::Struct(fields) => fields.iter().any(|(_, shape)| shape.is_known()),
            Self::List(element) => element.is_known(),
            _ => true,
        }
    }

    /// The columns it takes; at least one.
    fn column_count(&self) -> usize {
        match self {
            Self::Struct(fields) => fields.column_count().max(1),
            Self::List(element) => element.column_count(),
            _ => 1,
        }
    }

    /// Widens to what takes the other's values too, making at most `room` new columns.
    fn merge(&mut self, other: Self, room: &mut usize) {
        match (&mut *self, other) {
            (_, Self::Waits) => {}
            (Self::Struct(fields), Self::Struct(others)) => fields.merge_nested(others, room),
            (Self::List(element), Self::List(other)) => element.merge(*other, room),
            // Built anew, so that the limits hold within the first observation too.
            (Self::Waits, Self::Struct(others)) => {
                let mut fields = Fields::default();
                fields.merge_nested(others, room);
                *self = Self::Struct(fields);
            }
            (Self::Waits, Self::List(other)) => {
                let mut element = Self::Waits;
                element.merge(*other, room);
                *self = Self::List(Box::new(element));
            }
            (Self::Waits, other) => *self = other,
            (Self::Boolean, Self::Boolean)
            | (Self::Long, Self::Long)
            | (Self::Double, Self::Double | Self::Long)
            | (Self::Date, Self::Date)
            | (Self::Timestamptz, Self::Timestamptz) => {}
            (Self::Long, Self::Double) => *self = Self::Double,
            _ => *self = Self::Text,
        }
    }
}

/// The fields of a struct in the order they were first seen, at most one per name whatever its case.
#[derive(Debug, Default)]
pub(super) struct Fields {
    list: Vec<(String, Shape)>,
    places: HashMap<String, usize>,
}

impl Fields {
    /// The fields with their shapes.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(String, Shape)> {
        self.list.iter()
    }

    /// The columns they take.
    pub(super) fn column_count(&self) -> usize {
        self.list.iter().map(|(_, shape)| shape.column_count()).sum()
    }

    /// Adds the fields of one more record.
    pub(super) fn merge(&mut self, others: Self, room: &mut usize) {
        for (name, shape) in others.list {
            if let Some(field) = self.slot(name, room) {
                field.merge(shape, room);
            }
        }
    }

    /// As `merge`, for a struct, which counts as one column before its first field.
    fn merge_nested(&mut self, others: Self, room: &mut usize) {
        if self.list.is_empty() && !others.list.is_empty() {
            *room = room.saturating_add(1);
        }
        self.merge(others, room);
    }

    /// The shape of a field, new if there is room; none for a name that is another's but for its case.
    fn slot(&mut self, name: String, room: &mut usize) -> Option<&mut Shape> {
        let place = match self.places.entry(name.to_lowercase()) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                *room = room.checked_sub(1)?;
                entry.insert(self.list.len());
                self.list.push((name, Shape::Waits));
                return self.list.last_mut().map(|(_, shape)| shape);
            }
        };
        let (known, shape) = self.list.get_mut(place)?;
        (*known == name).then_some(shape)
    }

    /// Adds a field of one object. A name that is there already makes the object ambiguous.
    fn insert(&mut self, name: String, shape: Shape) -> Result<(), ()> {
        match self.places.entry(name.to_lowercase()) {
            Entry::Occupied(entry) => match self.list.get(*entry.get()) {
                Some((known, _)) if *known == name => Err(()),
                _ => Ok(()),
            },
            Entry::Vacant(entry) => {
                entry.insert(self.list.len());
                self.list.push((name, shape));
                Ok(())
            }
        }
    }
}

/// Observes a record.
pub(super) fn observe_object(raw: &str) -> serde_json::Result<Fields> {
    observe_fields(raw, 1)
}

fn observe_fields(raw: &str, depth: usize) -> serde_json::Result<Fields> {
    serde_json::Deserializer::from_str(raw).deserialize_map(FieldsVisitor { depth })
}

/// Observes the text of a value at a depth.
fn observe(raw: &str, depth: usize) -> serde_json::Result<Shape> {
    Ok(match raw.as_bytes().first() {
        Some(b'n') => Shape::Waits,
        Some(b't' | b'f') => Shape::Boolean,
        Some(b'"') => observe_string(raw)?,
        Some(b'{' | b'[') if depth > MAX_DEPTH => Shape::Text,
        Some(b'{') => Shape::Struct(observe_fields(raw, depth)?),
        Some(b'[') => {
            let mut element = Shape::Waits;
            // The limit of columns is kept where the record meets the others.
            let mut room = usize::MAX;
            for raw in serde_json::from_str::<Vec<&RawValue>>(raw)? {
                element.merge(observe(raw.get(), depth + 1)?, &mut room);
            }
            Shape::List(Box::new(element))
        }
        _ => observe_number(raw),
    })
}

fn observe_string(raw: &str) -> serde_json::Result<Shape> {
    if raw.contains('\\') {
        // No date needs an escape, but an escape may be wrong.
        serde_json::from_str::<String>(raw)?;
        return Ok(Shape::Text);
    }
    let text = raw.trim_matches('"').as_bytes();
    Ok(if parse_timestamptz(text).is_ok() {
        Shape::Timestamptz
    } else if parse_date(text).is_ok() {
        Shape::Date
    } else {
        Shape::Text
    })
}

fn observe_number(raw: &str) -> Shape {
    if raw.contains(['.', 'e', 'E']) {
        match raw.parse::<f64>() {
            Ok(value) if value.is_finite() => Shape::Double,
            _ => Shape::Text,
        }
    } else if raw.parse::<i64>().is_ok() {
        Shape::Long
    } else {
        Shape::Text
    }
}

struct FieldsVisitor {
    depth: usize,
}

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        while let Some((name, raw)) = entries.next_entry::<String, &RawValue>()? {
            if name.is_empty() {
                continue;
            }
            let shape = observe(raw.get(), self.depth + 1).map_err(A::Error::custom)?;
            fields
                .insert(name, shape)
                .map_err(|()| A::Error::custom("a field is there twice"))?;
        }
        Ok(fields)
    }
}
