//! Schema inference: the types that take every value of some records.

mod shape;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use iceberg::spec::{ListType, NestedField, NestedFieldRef, PrimitiveType, Schema, StructType, Type};
use serde::de::{Deserialize, IgnoredAny};
use serde_json::value::RawValue;

use self::shape::{Fields, Shape, observe_object};
use super::framing::{Broken, Parsed, Part, Records, walk, walk_part};
use super::reject::{Reason, RejectKind};

/// Records that a table's schema is inferred from, at most.
pub const SAMPLE_RECORDS: usize = 1000;

/// The most columns, nested ones included, of an inferred schema.
const MAX_COLUMNS: usize = 1_000;

/// Learns a schema from the first records of a table. Records that cannot be rows of any table are skipped.
///
/// - Integers are `long` (`string` if one does not fit 64 bits), other numbers `double`, and so is a mix of both.
/// - Strings are `timestamptz` if all are RFC 3339 with an offset, `date` if all are ISO dates, else `string`.
/// - Objects are structs of all the fields seen, arrays are lists of the type that takes all their elements.
/// - A mix of kinds is `string`, and holds JSON text: decode with [`super::Strings::AnyValueAsText`]. So are objects and
///   arrays nested deeper than 32 levels.
/// - A field that was only null, `[]` or `{}` is left out until its type is known.
/// - Fields are optional, in the order they were first seen. Left out are empty names, names that differ from an earlier
///   one by case only, and fields beyond 1,000 columns.
pub struct Inference {
    fields: Fields,
    record_count: usize,
    max_records: usize,
}

impl Inference {
    /// Makes an inference that learns from at most so many records.
    pub fn new(max_records: usize) -> Self {
        Self {
            fields: Fields::default(),
            record_count: 0,
            max_records,
        }
    }

    /// Learns from the records of a payload, until enough were seen.
    pub fn observe(&mut self, payload: &Bytes) {
        if !self.is_full() {
            walk(payload, self);
        }
    }

    /// Learns from the records of a part of a payload.
    pub(crate) fn observe_part(&mut self, bytes: &Bytes, part: Part) {
        if !self.is_full() {
            let _end = walk_part(bytes, part, self);
        }
    }

    /// Whether enough records were seen.
    pub fn is_full(&self) -> bool {
        self.record_count >= self.max_records
    }

    /// How many good records were seen.
    pub fn record_count(&self) -> usize {
        self.record_count
    }

    /// The schema so far, with unique field ids; none until the type of a field is known.
    pub fn schema(&self) -> Option<Schema> {
        let mut naming = Naming::default();
        let fields = naming.fields(&self.fields, "");
        if fields.is_empty() {
            return None;
        }
        Schema::builder().with_fields(fields).build().ok()
    }
}

impl Records for Inference {
    fn record(&mut self, text: &str) -> Result<Parsed, Broken> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let raw = <&RawValue>::deserialize(&mut deserializer)
            .map_err(|error| Broken { error, path: None })?
            .get();
        let end = deserializer.into_iter::<IgnoredAny>().byte_offset();
        let misfit = match observe_object(raw) {
            Ok(fields) => {
                let mut room = MAX_COLUMNS.saturating_sub(self.fields.column_count());
                self.fields.merge(fields, &mut room);
                self.record_count += 1;
                None
            }
            Err(_) => Some(Reason::new(RejectKind::Syntax, "cannot be a row")),
        };
        Ok(Parsed { end, misfit })
    }

    fn lost(&mut self, _position: u64, _span: Range<usize>, _reason: Reason) {}

    fn is_full(&self) -> bool {
        Self::is_full(self)
    }
}

/// Numbers the fields of a schema and keeps their dotted names apart.
#[derive(Default)]
struct Naming {
    last_id: i32,
    taken: HashSet<String>,
}

impl Naming {
    fn fields(&mut self, fields: &Fields, prefix: &str) -> Vec<NestedFieldRef> {
        let mut named = Vec::new();
        for (name, shape) in fields.iter() {
            let dotted = format!("{prefix}{name}");
            if let Some((id, kind)) = self.field(shape, &dotted) {
                named.push(Arc::new(NestedField::optional(id, name, kind)));
            }
        }
        named
    }

    /// The id and type of a field. None if its type is not known, or if its dotted name is that of another field: a name
    /// may have dots of its own.
    fn field(&mut self, shape: &Shape, dotted: &str) -> Option<(i32, Type)> {
        if !shape.is_known() || !self.taken.insert(dotted.to_lowercase()) {
            return None;
        }
        self.last_id += 1;
        let id = self.last_id;
        let kind = match shape {
            Shape::Waits => return None,
            Shape::Boolean => Type::Primitive(PrimitiveType::Boolean),
            Shape::Long => Type::Primitive(PrimitiveType::Long),
            Shape::Double => Type::Primitive(PrimitiveType::Double),
            Shape::Date => Type::Primitive(PrimitiveType::Date),
            Shape::Timestamptz => Type::Primitive(PrimitiveType::Timestamptz),
            Shape::Text => Type::Primitive(PrimitiveType::String),
            Shape::Struct(fields) => {
                let fields = self.fields(fields, &format!("{dotted}."));
                if fields.is_empty() {
                    return None;
                }
                Type::Struct(StructType::new(fields))
            }
            Shape::List(element) => {
                let (id, kind) = self.field(element, &format!("{dotted}.element"))?;
                let element = NestedField::list_element(id, kind, false);
                Type::List(ListType::new(Arc::new(element)))
            }
        };
        Some((id, kind))
    }
}
