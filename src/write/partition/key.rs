//! The columns that make up a row's partition: their values as bytes to compare by, and as partition values.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Int32Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
    TimestampNanosecondType,
};
use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_buffer::{NullBuffer, ScalarBuffer};
use arrow_schema::{DataType, TimeUnit};
use iceberg::spec::{PrimitiveLiteral, PrimitiveType, Transform};
use iceberg::transform::create_transform_function;

const MICROS_PER_DAY: i64 = 86_400_000_000;
const NANOS_PER_DAY: i64 = 86_400_000_000_000;

/// One partition field over the rows of a batch, transformed.
pub(super) struct KeyColumn {
    values: Values,
    nulls: Option<NullBuffer>,
}

enum Values {
    Boolean(BooleanArray),
    /// Of every row.
    Null,
    Int(ScalarBuffer<i32>),
    Long(ScalarBuffer<i64>),
    Decimal(ScalarBuffer<i128>),
    Text(Box<dyn Texts>),
    Bytes(Box<dyn Blobs>),
    Uuid(Box<dyn Blobs>),
}

/// Arrays of text, whatever their offsets.
trait Texts {
    fn text(&self, row: usize) -> &str;
}

/// Arrays of bytes, whatever their lengths.
trait Blobs {
    fn blob(&self, row: usize) -> &[u8];
}

impl<O: arrow_array::OffsetSizeTrait> Texts for arrow_array::GenericStringArray<O> {
    fn text(&self, row: usize) -> &str {
        self.value(row)
    }
}

impl<O: arrow_array::OffsetSizeTrait> Blobs for arrow_array::GenericBinaryArray<O> {
    fn blob(&self, row: usize) -> &[u8] {
        self.value(row)
    }
}

impl Blobs for arrow_array::FixedSizeBinaryArray {
    fn blob(&self, row: usize) -> &[u8] {
        self.value(row)
    }
}

impl KeyColumn {
    /// The column at a path of child numbers; `None` when it is not there or not of the type.
    pub(super) fn of(
        rows: &RecordBatch,
        path: &[usize],
        transform: Transform,
        kind: &PrimitiveType,
    ) -> Option<Self> {
        let (first, rest) = path.split_first()?;
        let mut array = rows.columns().get(*first)?;
        let mut nulls = array.nulls().cloned();
        for child in rest {
            array = array.as_struct_opt()?.columns().get(*child)?;
            // A field of a null struct is null.
            nulls = NullBuffer::union(nulls.as_ref(), array.nulls());
        }
        let values = match transform {
            Transform::Day => Values::Int(days(array.as_ref())?),
            Transform::Void => Values::Null,
            Transform::Bucket(_) | Transform::Truncate(_) => {
                let function = create_transform_function(&transform).ok()?;
                identity(function.transform(array.clone()).ok()?.as_ref(), kind)?
            }
            _ => identity(array.as_ref(), kind)?,
        };
        Some(Self { values, nulls })
    }

    fn is_null(&self, row: usize) -> bool {
        matches!(self.values, Values::Null) || self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Appends bytes that are equal for equal values, and never the beginning of another value's.
    pub(super) fn append_key(&self, row: usize, key: &mut Vec<u8>) {
        if self.is_null(row) {
            key.push(0);
            return;
        }
        key.push(1);
        let mut variable = |bytes: &[u8]| {
            key.extend_from_slice(&bytes.len().to_le_bytes());
            key.extend_from_slice(bytes);
        };
        match &self.values {
            Values::Null => {}
            Values::Text(texts) => variable(texts.text(row).as_bytes()),
            Values::Bytes(blobs) | Values::Uuid(blobs) => variable(blobs.blob(row)),
            Values::Boolean(values) => key.push(u8::from(values.value(row))),
            Values::Int(values) => key.extend(values.get(row).map_or([0; 4], |value| value.to_le_bytes())),
            Values::Long(values) => key.extend(values.get(row).map_or([0; 8], |value| value.to_le_bytes())),
            Values::Decimal(values) => {
                key.extend(values.get(row).map_or([0; 16], |value| value.to_le_bytes()));
            }
        }
    }

    /// The partition value of a row.
    pub(super) fn value(&self, row: usize) -> Option<PrimitiveLiteral> {
        if self.is_null(row) {
            return None;
        }
        Some(match &self.values {
            Values::Null => return None,
            Values::Boolean(values) => PrimitiveLiteral::Boolean(values.value(row)),
            Values::Int(values) => PrimitiveLiteral::Int(*values.get(row)?),
            Values::Long(values) => PrimitiveLiteral::Long(*values.get(row)?),
            Values::Decimal(values) => PrimitiveLiteral::Int128(*values.get(row)?),
            Values::Text(texts) => PrimitiveLiteral::String(texts.text(row).to_owned()),
            Values::Bytes(blobs) => PrimitiveLiteral::Binary(blobs.blob(row).to_vec()),
            Values::Uuid(blobs) => {
                PrimitiveLiteral::UInt128(u128::from_be_bytes(blobs.blob(row).try_into().ok()?))
            }
        })
    }
}

/// Days since 1970-01-01, rounded down also before it.
fn days(array: &dyn Array) -> Option<ScalarBuffer<i32>> {
    // A day of 64-bit microseconds is far inside 32 bits.
    let whole = |value: i64, per_day: i64| i32::try_from(value.div_euclid(per_day)).unwrap_or_default();
    Some(match array.data_type() {
        DataType::Date32 => array.as_primitive_opt::<Date32Type>()?.values().clone(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let values = array.as_primitive_opt::<TimestampMicrosecondType>()?.values();
            values.iter().map(|value| whole(*value, MICROS_PER_DAY)).collect()
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let values = array.as_primitive_opt::<TimestampNanosecondType>()?.values();
            values.iter().map(|value| whole(*value, NANOS_PER_DAY)).collect()
        }
        _ => return None,
    })
}

fn identity(array: &dyn Array, kind: &PrimitiveType) -> Option<Values> {
    Some(match array.data_type() {
        DataType::Boolean => Values::Boolean(array.as_boolean_opt()?.clone()),
        DataType::Int32 => Values::Int(array.as_primitive_opt::<Int32Type>()?.values().clone()),
        DataType::Date32 => Values::Int(array.as_primitive_opt::<Date32Type>()?.values().clone()),
        DataType::Int64 => Values::Long(array.as_primitive_opt::<Int64Type>()?.values().clone()),
        DataType::Time64(TimeUnit::Microsecond) => Values::Long(
            array
                .as_primitive_opt::<Time64MicrosecondType>()?
                .values()
                .clone(),
        ),
        DataType::Timestamp(TimeUnit::Microsecond, _) => Values::Long(
            array
                .as_primitive_opt::<TimestampMicrosecondType>()?
                .values()
                .clone(),
        ),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => Values::Long(
            array
                .as_primitive_opt::<TimestampNanosecondType>()?
                .values()
                .clone(),
        ),
        DataType::Decimal128(_, _) => {
            Values::Decimal(array.as_primitive_opt::<Decimal128Type>()?.values().clone())
        }
        DataType::Utf8 => Values::Text(Box::new(array.as_string_opt::<i32>()?.clone())),
        DataType::LargeUtf8 => Values::Text(Box::new(array.as_string_opt::<i64>()?.clone())),
        DataType::Binary => Values::Bytes(Box::new(array.as_binary_opt::<i32>()?.clone())),
        DataType::LargeBinary => Values::Bytes(Box::new(array.as_binary_opt::<i64>()?.clone())),
        DataType::FixedSizeBinary(16) if *kind == PrimitiveType::Uuid => {
            Values::Uuid(Box::new(array.as_fixed_size_binary_opt()?.clone()))
        }
        DataType::FixedSizeBinary(_) => Values::Bytes(Box::new(array.as_fixed_size_binary_opt()?.clone())),
        _ => return None,
    })
}
