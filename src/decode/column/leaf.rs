//! Columns of primitive types: storage. What text they take is in [`super::super::value`].

use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType, TimestampNanosecondType,
};
use arrow_array::{
    ArrayRef, BooleanArray, FixedSizeBinaryArray, LargeBinaryArray, PrimitiveArray, StringArray,
};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBuffer, NullBufferBuilder};
use arrow_schema::{ArrowError, DataType, TimeUnit};
use iceberg::spec::PrimitiveType;

use super::text::VarBytes;
use super::type_error;
use crate::decode::Strings;
use crate::decode::reject::Misfit;
use crate::error::{Error, ErrorKind, Result};

/// The most bytes or elements that 32-bit offsets address.
const MAX_OFFSET: usize = i32::MAX as usize;

/// The values of a leaf, by how they are read and stored.
pub(in crate::decode) enum Values {
    Boolean(BooleanBufferBuilder),
    Int(Vec<i32>),
    Long(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Decimal {
        units: Vec<i128>,
        precision: u32,
        scale: u32,
    },
    Date(Vec<i32>),
    Time(Vec<i64>),
    Timestamp {
        instants: Vec<i64>,
        utc: bool,
        nanos: bool,
    },
    Text {
        texts: Texts,
        any_value: bool,
    },
    Uuid(Vec<u8>),
    Fixed {
        bytes: Vec<u8>,
        size: usize,
    },
    Binary(Blobs),
}

/// The values of a string column.
pub(in crate::decode) struct Texts(VarBytes<i32>);

/// The values of a binary column.
pub(in crate::decode) struct Blobs(VarBytes<i64>);

impl Texts {
    /// Appends a text.
    #[inline]
    pub(in crate::decode) fn push(&mut self, text: &str) -> Result<(), Misfit> {
        self.0.push(text.as_bytes())
    }
}

impl Blobs {
    /// Appends a value.
    pub(in crate::decode) fn push(&mut self, value: &[u8]) -> Result<(), Misfit> {
        self.0.push(value)
    }
}

/// A map key, comparable within its column.
#[derive(PartialEq, Eq, Hash)]
pub(super) enum Key<'a> {
    Number(i128),
    Bytes(&'a [u8]),
}

/// A column of a primitive type.
pub(in crate::decode) struct Leaf {
    kind: PrimitiveType,
    values: Values,
    nulls: NullBufferBuilder,
}

impl Leaf {
    /// Makes an empty column.
    pub(super) fn try_new(kind: PrimitiveType, name: &str, strings: Strings) -> Result<Self> {
        let timestamp = |utc, nanos| Values::Timestamp {
            instants: Vec::new(),
            utc,
            nanos,
        };
        let values = match kind {
            PrimitiveType::Boolean => Values::Boolean(BooleanBufferBuilder::new(0)),
            PrimitiveType::Int => Values::Int(Vec::new()),
            PrimitiveType::Long => Values::Long(Vec::new()),
            PrimitiveType::Float => Values::Float(Vec::new()),
            PrimitiveType::Double => Values::Double(Vec::new()),
            PrimitiveType::Decimal { precision, scale } => Values::Decimal {
                units: Vec::new(),
                precision,
                scale,
            },
            PrimitiveType::Date => Values::Date(Vec::new()),
            PrimitiveType::Time => Values::Time(Vec::new()),
            PrimitiveType::Timestamp => timestamp(false, false),
            PrimitiveType::Timestamptz => timestamp(true, false),
            PrimitiveType::TimestampNs => timestamp(false, true),
            PrimitiveType::TimestamptzNs => timestamp(true, true),
            PrimitiveType::String => Values::Text {
                texts: Texts(VarBytes::new(MAX_OFFSET)),
                any_value: strings == Strings::AnyValueAsText,
            },
            PrimitiveType::Uuid => Values::Uuid(Vec::new()),
            PrimitiveType::Fixed(size) => Values::Fixed {
                bytes: Vec::new(),
                size: fixed_size(size, name)?,
            },
            PrimitiveType::Binary => Values::Binary(Blobs(VarBytes::new(usize::MAX >> 1))),
        };
        Ok(Self {
            kind,
            values,
            nulls: NullBufferBuilder::new(0),
        })
    }

    /// The type, for messages.
    pub(in crate::decode) fn expected(&self) -> String {
        self.kind.to_string()
    }

    /// Appends a value through `push`, which appends exactly one to the values, or none and says why.
    #[inline]
    pub(in crate::decode) fn append_with(
        &mut self,
        push: impl FnOnce(&mut Values, &PrimitiveType) -> Result<(), Misfit>,
    ) -> Result<(), Misfit> {
        push(&mut self.values, &self.kind)?;
        self.nulls.append_non_null();
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.nulls.len()
    }

    /// The bytes that each value takes, null or not, without those of a text.
    pub(super) fn width(&self) -> usize {
        match &self.values {
            // A bit, and that of the validity.
            Values::Boolean(_) => 1,
            Values::Int(_) | Values::Float(_) | Values::Date(_) | Values::Text { .. } => 4,
            Values::Long(_) | Values::Double(_) | Values::Time(_) | Values::Timestamp { .. } => 8,
            Values::Binary(_) => 8,
            Values::Decimal { .. } | Values::Uuid(_) => 16,
            Values::Fixed { size, .. } => *size,
        }
    }

    pub(super) fn append_null(&mut self) {
        self.nulls.append_null();
        match &mut self.values {
            Values::Boolean(bits) => bits.append(false),
            Values::Int(values) | Values::Date(values) => values.push(0),
            Values::Long(values) | Values::Time(values) => values.push(0),
            Values::Timestamp { instants, .. } => instants.push(0),
            Values::Float(values) => values.push(0.0),
            Values::Double(values) => values.push(0.0),
            Values::Decimal { units, .. } => units.push(0),
            Values::Text { texts, .. } => texts.0.push_empty(),
            Values::Uuid(bytes) => bytes.resize(bytes.len() + 16, 0),
            Values::Fixed { bytes, size } => bytes.resize(bytes.len() + *size, 0),
            Values::Binary(blobs) => blobs.0.push_empty(),
        }
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.nulls.truncate(len);
        match &mut self.values {
            Values::Boolean(bits) => bits.truncate(len),
            Values::Int(values) | Values::Date(values) => values.truncate(len),
            Values::Long(values) | Values::Time(values) => values.truncate(len),
            Values::Timestamp { instants, .. } => instants.truncate(len),
            Values::Float(values) => values.truncate(len),
            Values::Double(values) => values.truncate(len),
            Values::Decimal { units, .. } => units.truncate(len),
            Values::Text { texts, .. } => texts.0.truncate(len),
            Values::Uuid(bytes) => bytes.truncate(len * 16),
            Values::Fixed { bytes, size } => bytes.truncate(len * *size),
            Values::Binary(blobs) => blobs.0.truncate(len),
        }
    }

    pub(super) fn held_bytes(&self) -> usize {
        let values = match &self.values {
            Values::Boolean(bits) => bits.len() / 8,
            Values::Int(values) | Values::Date(values) => values.len() * 4,
            Values::Float(values) => values.len() * 4,
            Values::Long(values) | Values::Time(values) => values.len() * 8,
            Values::Timestamp { instants, .. } => instants.len() * 8,
            Values::Double(values) => values.len() * 8,
            Values::Decimal { units, .. } => units.len() * 16,
            Values::Text { texts, .. } => texts.0.held_bytes(),
            Values::Uuid(bytes) | Values::Fixed { bytes, .. } => bytes.len(),
            Values::Binary(blobs) => blobs.0.held_bytes(),
        };
        values + self.nulls.len() / 8
    }

    /// The key at a place, if keys of this type can be told apart.
    pub(super) fn key(&self, place: usize) -> Option<Key<'_>> {
        let sized = |bytes: &'_ Vec<u8>, size: usize| -> Option<(usize, usize)> {
            let start = place.checked_mul(size)?;
            (start + size <= bytes.len()).then_some((start, start + size))
        };
        Some(match &self.values {
            Values::Boolean(bits) => Key::Number((place < bits.len() && bits.get_bit(place)).into()),
            Values::Int(values) | Values::Date(values) => Key::Number((*values.get(place)?).into()),
            Values::Long(values) | Values::Time(values) => Key::Number((*values.get(place)?).into()),
            Values::Timestamp { instants, .. } => Key::Number((*instants.get(place)?).into()),
            Values::Float(values) => Key::Number(values.get(place)?.to_bits().into()),
            Values::Double(values) => Key::Number(values.get(place)?.to_bits().into()),
            Values::Decimal { units, .. } => Key::Number(*units.get(place)?),
            Values::Text { texts, .. } => Key::Bytes(texts.0.value(place)),
            Values::Binary(blobs) => Key::Bytes(blobs.0.value(place)),
            Values::Uuid(bytes) => {
                let (start, end) = sized(bytes, 16)?;
                Key::Bytes(bytes.get(start..end)?)
            }
            Values::Fixed { bytes, size } => {
                let (start, end) = sized(bytes, *size)?;
                Key::Bytes(bytes.get(start..end)?)
            }
        })
    }

    pub(super) fn finish(&mut self, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
        let nulls = finish_nulls(&mut self.nulls);
        match (&mut self.values, data_type) {
            (Values::Boolean(bits), DataType::Boolean) => {
                let bits = std::mem::replace(bits, BooleanBufferBuilder::new(0)).build();
                Ok(Arc::new(BooleanArray::new(bits, nulls)))
            }
            (Values::Int(values), DataType::Int32) => primitive::<Int32Type>(values, nulls, data_type),
            (Values::Date(values), DataType::Date32) => primitive::<Date32Type>(values, nulls, data_type),
            (Values::Long(values), DataType::Int64) => primitive::<Int64Type>(values, nulls, data_type),
            (Values::Float(values), DataType::Float32) => primitive::<Float32Type>(values, nulls, data_type),
            (Values::Double(values), DataType::Float64) => primitive::<Float64Type>(values, nulls, data_type),
            (Values::Decimal { units, .. }, DataType::Decimal128(..)) => {
                primitive::<Decimal128Type>(units, nulls, data_type)
            }
            (Values::Time(values), DataType::Time64(TimeUnit::Microsecond)) => {
                primitive::<Time64MicrosecondType>(values, nulls, data_type)
            }
            (Values::Timestamp { instants, .. }, DataType::Timestamp(TimeUnit::Microsecond, _)) => {
                primitive::<TimestampMicrosecondType>(instants, nulls, data_type)
            }
            (Values::Timestamp { instants, .. }, DataType::Timestamp(TimeUnit::Nanosecond, _)) => {
                primitive::<TimestampNanosecondType>(instants, nulls, data_type)
            }
            (Values::Text { texts, .. }, DataType::Utf8) => {
                let (offsets, bytes) = texts.0.finish();
                Ok(Arc::new(StringArray::try_new(offsets, bytes, nulls)?))
            }
            (Values::Binary(blobs), DataType::LargeBinary) => {
                let (offsets, bytes) = blobs.0.finish();
                Ok(Arc::new(LargeBinaryArray::try_new(offsets, bytes, nulls)?))
            }
            (Values::Uuid(bytes) | Values::Fixed { bytes, .. }, DataType::FixedSizeBinary(size)) => {
                let bytes = Buffer::from_vec(std::mem::take(bytes));
                Ok(Arc::new(FixedSizeBinaryArray::try_new(*size, bytes, nulls)?))
            }
            _ => Err(type_error(&self.kind.to_string(), data_type)),
        }
    }
}

/// Takes the validity of a column: none if nothing is null.
pub(super) fn finish_nulls(nulls: &mut NullBufferBuilder) -> Option<NullBuffer> {
    std::mem::replace(nulls, NullBufferBuilder::new(0))
        .build()
        .filter(|nulls| nulls.null_count() > 0)
}

fn primitive<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> Result<ArrayRef, ArrowError> {
    let values = std::mem::take(values).into();
    let array = PrimitiveArray::<T>::try_new(values, nulls)?;
    Ok(Arc::new(array.with_data_type(data_type.clone())))
}

fn fixed_size(size: u64, name: &str) -> Result<usize> {
    match i32::try_from(size) {
        Ok(size) if size > 0 => Ok(size as usize),
        _ => Err(Error::new(
            ErrorKind::TableMismatch,
            "The size of a fixed type must be between 1 and 2147483647.",
        )
        .with("field", name)),
    }
}
