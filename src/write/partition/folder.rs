//! The folder of a partition, named as Java names it. Readers go by the manifests; people and path globs go by this.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Duration, NaiveDate, NaiveDateTime, NaiveTime};
use iceberg::spec::{Literal, PrimitiveLiteral, PrimitiveType, Transform, Type};
use url::form_urlencoded::byte_serialize;

/// File systems take names of 255 bytes. A longer value is cut: file names are unique without it.
const MAX_BYTES: usize = 200;

/// One level, such as `at_day=2026-11-21`.
pub(super) fn level(name: &str, kind: &PrimitiveType, value: Option<&PrimitiveLiteral>) -> String {
    let text = value.map_or_else(|| "null".to_owned(), |value| text(kind, value));
    let mut level = format!("{}={}", encode(name), encode(&text));
    if level.len() > MAX_BYTES {
        // All ASCII by now; an escape stays whole.
        let escape = level.get(MAX_BYTES - 2..MAX_BYTES).and_then(|end| end.find('%'));
        level.truncate(escape.map_or(MAX_BYTES, |at| MAX_BYTES - 2 + at));
    }
    level
}

/// A value as Java's `Transform.toHumanString` writes it.
fn text(kind: &PrimitiveType, value: &PrimitiveLiteral) -> String {
    use PrimitiveLiteral::{Binary, Int, Long, String};
    let known = match (kind, value) {
        (PrimitiveType::Date, Int(days)) => date(*days),
        (PrimitiveType::Time, Long(micros)) => time(*micros),
        (PrimitiveType::Timestamp, Long(micros)) => timestamp(*micros),
        (PrimitiveType::Timestamptz, Long(micros)) => timestamp(*micros).map(|text| text + "+00:00"),
        (_, String(text)) => Some(text.clone()),
        (_, Binary(bytes)) => Some(STANDARD.encode(bytes)),
        (_, Int(value)) => Some(value.to_string()),
        _ => None,
    };
    known.unwrap_or_else(|| {
        let value = Literal::Primitive(value.clone());
        Transform::Identity.to_human_string(&Type::Primitive(kind.clone()), Some(&value))
    })
}

fn date(days: i32) -> Option<String> {
    let date = NaiveDate::default().checked_add_signed(Duration::try_days(days.into())?)?;
    Some(date.format("%Y-%m-%d").to_string())
}

fn time(micros: i64) -> Option<String> {
    let seconds = u32::try_from(micros.div_euclid(1_000_000)).ok()?;
    let nanos = u32::try_from(micros.rem_euclid(1_000_000))
        .ok()?
        .checked_mul(1000)?;
    let time = NaiveTime::from_num_seconds_from_midnight_opt(seconds, nanos)?;
    Some(time.format("%H:%M:%S%.f").to_string())
}

fn timestamp(micros: i64) -> Option<String> {
    let at: NaiveDateTime = DateTime::from_timestamp_micros(micros)?.naive_utc();
    Some(at.format("%Y-%m-%dT%H:%M:%S%.f").to_string())
}

/// Encodes as Java's `URLEncoder`.
fn encode(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_written_as_java_writes_them() {
        let written = |kind, value: PrimitiveLiteral| level("c", &kind, Some(&value));
        let cases = [
            (PrimitiveType::Date, PrimitiveLiteral::Int(-1), "c=1969-12-31"),
            (PrimitiveType::Int, PrimitiveLiteral::Int(-7), "c=-7"),
            (PrimitiveType::Long, PrimitiveLiteral::Long(7), "c=7"),
            (PrimitiveType::Boolean, PrimitiveLiteral::Boolean(true), "c=true"),
            (
                PrimitiveType::String,
                PrimitiveLiteral::String("a/b c=d.é*~".to_owned()),
                "c=a%2Fb+c%3Dd.%C3%A9*%7E",
            ),
            (
                PrimitiveType::String,
                PrimitiveLiteral::String(String::new()),
                "c=",
            ),
            (
                PrimitiveType::Binary,
                PrimitiveLiteral::Binary(vec![0xff, 0xfe]),
                "c=%2F%2F4%3D",
            ),
            (
                PrimitiveType::Timestamp,
                PrimitiveLiteral::Long(-1),
                "c=1969-12-31T23%3A59%3A59.999999",
            ),
            (
                PrimitiveType::Timestamptz,
                PrimitiveLiteral::Long(0),
                "c=1970-01-01T00%3A00%3A00%2B00%3A00",
            ),
            (
                PrimitiveType::Time,
                PrimitiveLiteral::Long(1_000),
                "c=00%3A00%3A00.001",
            ),
            (
                PrimitiveType::Decimal {
                    precision: 9,
                    scale: 2,
                },
                PrimitiveLiteral::Int128(-1250),
                "c=-12.50",
            ),
            (
                PrimitiveType::Uuid,
                PrimitiveLiteral::UInt128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
                "c=00112233-4455-6677-8899-aabbccddeeff",
            ),
        ];
        for (kind, value, expected) in cases {
            assert_eq!(written(kind, value), expected);
        }
        assert_eq!(level("a b", &PrimitiveType::Int, None), "a+b=null");
        let long = PrimitiveLiteral::String("é".repeat(100) + "x");
        let long = level("c", &PrimitiveType::String, Some(&long));
        assert!(long.len() <= MAX_BYTES && long.ends_with("%C3%A9"));
    }
}
