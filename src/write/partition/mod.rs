//! Partitioning: which partition each row is of, by the transforms of the table's partition spec.
//!
//! Values are the specification's (*Partition Transforms*). This version computes identity and day; bucket, truncate and
//! void for tables that others made.

mod folder;
mod key;

use std::collections::HashMap;

use arrow_array::RecordBatch;
use iceberg::spec::{Literal, NestedFieldRef, PartitionSpec, PrimitiveType, Schema, Struct, Transform, Type};

use self::key::KeyColumn;
use crate::error::{Error, ErrorKind, Result};

/// One partition that rows came for.
#[derive(Debug)]
pub(super) struct Partition {
    /// Its tuple, as manifests have it.
    pub(super) values: Struct,
    /// Its folder under `data/`.
    pub(super) folder: String,
}

/// Says why a partition field cannot be written; `None` when it can.
///
/// A source inside a list or map has no one value in a row.
pub fn refusal(transform: Transform, source: &Type) -> Option<String> {
    let Type::Primitive(kind) = source else {
        return Some(format!("`{transform}` does not take a {}", type_word(source)));
    };
    match transform {
        Transform::Identity => match kind {
            // Engines disagree on whether -0 is 0 and NaN is itself, so one would prune what another wrote.
            PrimitiveType::Float | PrimitiveType::Double => {
                Some("a partition by float or double is not read alike by all engines".to_owned())
            }
            // The manifest writer of iceberg 0.10.1 fails on such a value (Avro union of null and uuid).
            PrimitiveType::Uuid => Some("a partition by uuid is not in this version of landfast".to_owned()),
            _ => None,
        },
        Transform::Day => match kind {
            PrimitiveType::Date
            | PrimitiveType::Timestamp
            | PrimitiveType::Timestamptz
            | PrimitiveType::TimestampNs
            | PrimitiveType::TimestamptzNs => None,
            _ => Some(format!(
                "`day` takes a date, timestamp or timestamptz, not a {kind}"
            )),
        },
        Transform::Void => None,
        Transform::Bucket(_) => match kind {
            PrimitiveType::Int
            | PrimitiveType::Long
            | PrimitiveType::Date
            | PrimitiveType::Timestamp
            | PrimitiveType::Timestamptz
            | PrimitiveType::String => None,
            _ => Some(format!(
                "`{transform}` of a {kind} is not in this version of landfast"
            )),
        },
        Transform::Truncate(_) => match kind {
            PrimitiveType::Int | PrimitiveType::Long | PrimitiveType::String => None,
            _ => Some(format!(
                "`{transform}` of a {kind} is not in this version of landfast"
            )),
        },
        _ => Some(format!("`{transform}` is not in this version of landfast")),
    }
}

fn type_word(kind: &Type) -> &'static str {
    match kind {
        Type::Primitive(_) => "value",
        Type::Struct(_) => "struct",
        Type::List(_) => "list",
        Type::Map(_) => "map",
    }
}

/// Says why files of a partition spec cannot be written; `None` when they can.
pub fn spec_refusal(spec: &PartitionSpec, schema: &Schema) -> Option<String> {
    spec.fields().iter().find_map(|field| {
        let Some(path) = path_to(schema.as_struct().fields(), field.source_id) else {
            return Some(format!(
                "the partition field `{}` has no column outside lists and maps",
                field.name
            ));
        };
        refusal(field.transform, &path.1)
            .map(|reason| format!("of the partition field `{}`, {reason}", field.name))
    })
}

/// Where a field is, as child numbers from the top, and its type; only through structs.
fn path_to(fields: &[NestedFieldRef], id: i32) -> Option<(Vec<usize>, Type)> {
    fields.iter().enumerate().find_map(|(at, field)| {
        if field.id == id {
            return Some((vec![at], field.field_type.as_ref().clone()));
        }
        let Type::Struct(inner) = field.field_type.as_ref() else {
            return None;
        };
        let (mut path, kind) = path_to(inner.fields(), id)?;
        path.insert(0, at);
        Some((path, kind))
    })
}

/// A source column and what is done to it.
#[derive(Debug)]
struct Source {
    name: String,
    path: Vec<usize>,
    transform: Transform,
    /// The type of the partition value.
    kind: PrimitiveType,
}

/// Numbers the partitions of the rows that pass, in the order in which they first come.
#[derive(Debug)]
pub(super) struct Partitioner {
    sources: Vec<Source>,
    numbers: HashMap<Box<[u8]>, u32>,
    partitions: Vec<Partition>,
}

impl Partitioner {
    pub(super) fn try_new(spec: &PartitionSpec, schema: &Schema) -> Result<Self> {
        if let Some(reason) = spec_refusal(spec, schema) {
            return Err(Error::new(
                ErrorKind::TableMismatch,
                format!("This version cannot write the table: {reason}."),
            ));
        }
        let sources = spec.fields().iter().filter_map(|field| {
            let (path, kind) = path_to(schema.as_struct().fields(), field.source_id)?;
            let kind = match field.transform {
                Transform::Day => PrimitiveType::Date,
                Transform::Bucket(_) => PrimitiveType::Int,
                _ => kind.as_primitive_type()?.clone(),
            };
            Some(Source {
                name: field.name.clone(),
                path,
                transform: field.transform,
                kind,
            })
        });
        Ok(Self {
            sources: sources.collect(),
            numbers: HashMap::new(),
            partitions: Vec::new(),
        })
    }

    /// How many partitions rows came for.
    pub(super) fn len(&self) -> usize {
        self.partitions.len()
    }

    pub(super) fn partition(&self, number: u32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(number).ok()?)
    }

    /// Forgets the partitions; numbers begin anew.
    pub(super) fn clear(&mut self) {
        self.numbers.clear();
        self.partitions.clear();
    }

    /// The partition number of every row.
    pub(super) fn number_rows(&mut self, rows: &RecordBatch) -> Result<Vec<u32>> {
        let columns: Option<Vec<KeyColumn>> = self
            .sources
            .iter()
            .map(|source| KeyColumn::of(rows, &source.path, source.transform, &source.kind))
            .collect();
        let columns = columns.ok_or_else(|| {
            Error::new(
                ErrorKind::Rejected,
                "The rows have no column to be partitioned by as the table says.",
            )
        })?;
        let mut numbers = Vec::with_capacity(rows.num_rows());
        let (mut last, mut key) = ((Vec::new(), None), Vec::new());
        for row in 0..rows.num_rows() {
            key.clear();
            for column in &columns {
                column.append_key(row, &mut key);
            }
            // Neighbours are often of one partition.
            let number = match &last {
                (last_key, Some(number)) if *last_key == key => *number,
                _ => {
                    let number = match self.numbers.get(key.as_slice()) {
                        Some(number) => *number,
                        None => self.add(row, &columns, &key)?,
                    };
                    std::mem::swap(&mut last.0, &mut key);
                    last.1 = Some(number);
                    number
                }
            };
            numbers.push(number);
        }
        Ok(numbers)
    }

    fn add(&mut self, row: usize, columns: &[KeyColumn], key: &[u8]) -> Result<u32> {
        let number = u32::try_from(self.partitions.len())
            .map_err(|_| Error::new(ErrorKind::Rejected, "The rows are of too many partitions."))?;
        let values: Vec<_> = columns.iter().map(|column| column.value(row)).collect();
        let levels = self.sources.iter().zip(&values);
        let folder: Vec<String> = levels
            .map(|(source, value)| folder::level(&source.name, &source.kind, value.as_ref()))
            .collect();
        self.partitions.push(Partition {
            values: Struct::from_iter(values.into_iter().map(|value| value.map(Literal::Primitive))),
            folder: folder.join("/"),
        });
        self.numbers.insert(key.into(), number);
        Ok(number)
    }
}

#[cfg(test)]
mod tests;
