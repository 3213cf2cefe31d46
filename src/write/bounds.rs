//! Bounds of a column: what a row group's statistics say, cut to the length that the metrics mode asks for.

use iceberg::spec::{Datum, PrimitiveType};
use parquet::data_type::AsBytes;
use parquet::file::statistics::Statistics;

#[derive(Debug, Clone, PartialEq, PartialOrd)]
pub(super) enum Value {
    Boolean(bool),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    Decimal(i128),
    Bytes(Vec<u8>),
}

/// Least and greatest value of a row group. Truncated (inexact) ends are kept: the writer cuts the lower end down and
/// rounds the upper end up, so they still bound every value.
pub(super) fn range(statistics: &Statistics, kind: &PrimitiveType) -> Option<(Value, Value)> {
    let bytes = |value: &[u8]| match kind {
        PrimitiveType::Decimal { .. } => decimal(value),
        _ => Some(Value::Bytes(value.to_vec())),
    };
    let is_decimal = matches!(kind, PrimitiveType::Decimal { .. });
    Some(match statistics {
        Statistics::Boolean(s) => (Value::Boolean(*s.min_opt()?), Value::Boolean(*s.max_opt()?)),
        Statistics::Int32(s) if is_decimal => (
            Value::Decimal((*s.min_opt()?).into()),
            Value::Decimal((*s.max_opt()?).into()),
        ),
        Statistics::Int64(s) if is_decimal => (
            Value::Decimal((*s.min_opt()?).into()),
            Value::Decimal((*s.max_opt()?).into()),
        ),
        Statistics::Int32(s) => (Value::Int(*s.min_opt()?), Value::Int(*s.max_opt()?)),
        Statistics::Int64(s) => (Value::Long(*s.min_opt()?), Value::Long(*s.max_opt()?)),
        Statistics::Float(s) => (Value::Float(*s.min_opt()?), Value::Float(*s.max_opt()?)),
        Statistics::Double(s) => (Value::Double(*s.min_opt()?), Value::Double(*s.max_opt()?)),
        Statistics::ByteArray(s) => (bytes(s.min_opt()?.as_bytes())?, bytes(s.max_opt()?.as_bytes())?),
        Statistics::FixedLenByteArray(s) => {
            (bytes(s.min_opt()?.as_bytes())?, bytes(s.max_opt()?.as_bytes())?)
        }
        Statistics::Int96(_) => return None,
    })
}

/// A two's-complement big-endian integer of at most 16 bytes.
fn decimal(bytes: &[u8]) -> Option<Value> {
    let first = *bytes.first()?;
    if bytes.len() > 16 {
        return None;
    }
    let sign = if first & 0x80 == 0 { 0i128 } else { -1 };
    Some(Value::Decimal(
        bytes
            .iter()
            .fold(sign, |value, byte| (value << 8) | i128::from(*byte)),
    ))
}

/// The lower end of a column, at most `length` characters or bytes of it.
pub(super) fn lower_bound(value: Value, kind: &PrimitiveType, length: usize) -> Option<Datum> {
    let cut = match value {
        Value::Bytes(bytes) => match kind {
            PrimitiveType::String => {
                let text = String::from_utf8(bytes).ok()?;
                Value::Bytes(text.chars().take(length).collect::<String>().into_bytes())
            }
            PrimitiveType::Binary => Value::Bytes(bytes.into_iter().take(length).collect()),
            _ => Value::Bytes(bytes),
        },
        other => other,
    };
    datum(cut, kind)
}

/// Rounds a truncated upper end up, so that it is not below any value; `None` when nothing is above it.
pub(super) fn upper_bound(value: Value, kind: &PrimitiveType, length: usize) -> Option<Datum> {
    let cut = match value {
        Value::Bytes(bytes) => match kind {
            PrimitiveType::String => {
                let text = String::from_utf8(bytes).ok()?;
                if text.chars().nth(length).is_none() {
                    Value::Bytes(text.into_bytes())
                } else {
                    Value::Bytes(next_text(text.chars().take(length).collect())?.into_bytes())
                }
            }
            PrimitiveType::Binary if bytes.len() > length => {
                Value::Bytes(next_bytes(bytes.into_iter().take(length).collect())?)
            }
            _ => Value::Bytes(bytes),
        },
        other => other,
    };
    datum(cut, kind)
}

/// The least text of at most this length that is above every text with this prefix.
fn next_text(mut prefix: Vec<char>) -> Option<String> {
    while let Some(last) = prefix.pop() {
        let above = match last {
            '\u{D7FF}' => Some('\u{E000}'),
            _ => char::from_u32(u32::from(last).saturating_add(1)),
        };
        if let Some(above) = above {
            prefix.push(above);
            return Some(prefix.into_iter().collect());
        }
    }
    None
}

fn next_bytes(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = prefix.pop() {
        if let Some(above) = last.checked_add(1) {
            prefix.push(above);
            return Some(prefix);
        }
    }
    None
}

/// Builds a bound through its single-value serialisation (specification, appendix D).
fn datum(value: Value, kind: &PrimitiveType) -> Option<Datum> {
    let bytes = match value {
        Value::Boolean(value) => vec![u8::from(value)],
        Value::Int(value) => value.to_le_bytes().to_vec(),
        Value::Long(value) => value.to_le_bytes().to_vec(),
        Value::Float(value) => value.to_le_bytes().to_vec(),
        Value::Double(value) => value.to_le_bytes().to_vec(),
        Value::Decimal(value) => value.to_be_bytes().to_vec(),
        Value::Bytes(bytes) => bytes,
    };
    Datum::try_from_bytes(&bytes, kind.clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upper(text: &str) -> Option<Datum> {
        upper_bound(Value::Bytes(text.as_bytes().to_vec()), &PrimitiveType::String, 16)
    }

    #[test]
    fn long_upper_bounds_are_rounded_up() {
        assert_eq!(upper("short"), Some(Datum::string("short")));
        assert_eq!(
            upper(&"a".repeat(17)),
            Some(Datum::string(format!("{}b", "a".repeat(15))))
        );
        let hard = format!("a{}", "\u{10FFFF}".repeat(20));
        assert_eq!(upper(&hard), Some(Datum::string("b")));
        assert_eq!(upper(&"\u{10FFFF}".repeat(20)), None);
        let below_surrogates = "\u{D7FF}".repeat(17);
        assert_eq!(
            upper(&below_surrogates),
            Some(Datum::string(format!("{}\u{E000}", "\u{D7FF}".repeat(15))))
        );
    }

    #[test]
    fn long_lower_bounds_are_cut() {
        let cut = lower_bound(
            Value::Bytes("é".repeat(20).into_bytes()),
            &PrimitiveType::String,
            16,
        );
        assert_eq!(cut, Some(Datum::string("é".repeat(16))));
    }

    #[test]
    fn decimals_keep_their_sign() {
        assert_eq!(decimal(&[0xff, 0x00]), Some(Value::Decimal(-256)));
        assert_eq!(decimal(&[0x00, 0xff]), Some(Value::Decimal(255)));
        assert_eq!(decimal(&[]), None);
    }
}
