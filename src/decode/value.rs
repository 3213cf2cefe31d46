//! What text a column of a primitive type takes. The rules are the table of the module [`super`].

use std::borrow::Cow;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use iceberg::spec::PrimitiveType;
use serde::de::IgnoredAny;
use uuid::Uuid;

use super::column::{Blobs, Leaf, Values};
use super::datetime::{Instant, TimeError, parse_date, parse_time, parse_timestamp, parse_timestamptz};
use super::number::{NumberError, parse_decimal, parse_integer};
use super::reject::{Misfit, RejectKind, json_type};
use super::text_check::check_text;

const BASE64_CONFIG: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, BASE64_CONFIG);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, BASE64_CONFIG);

impl Leaf {
    /// Appends a value given as its JSON text, which is not `null`.
    #[inline]
    pub(super) fn append_json(&mut self, raw: &str) -> Result<(), Misfit> {
        self.append_with(|values, kind| match string_content(raw) {
            Some(inner) => push_string(values, kind, &unescape(raw, inner)?),
            None => push_bare(values, kind, raw),
        })
    }

    /// Appends a value given as the key of an object.
    pub(super) fn append_key(&mut self, key: &str) -> Result<(), Misfit> {
        self.append_with(|values, kind| {
            let bare = matches!(
                values,
                Values::Boolean(_) | Values::Int(_) | Values::Float(_) | Values::Double(_)
            );
            if bare && is_plain(key) {
                push_bare(values, kind, key)
            } else {
                push_string(values, kind, key)
            }
        })
    }
}

/// The text between the quotes, if the value is a string.
#[inline]
fn string_content(raw: &str) -> Option<&str> {
    raw.strip_prefix('"')?.strip_suffix('"')
}

/// Resolves the escapes of a string.
#[inline]
fn unescape<'a>(raw: &'a str, inner: &'a str) -> Result<Cow<'a, str>, Misfit> {
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Ok(Cow::Borrowed(inner));
    }
    match serde_json::from_str::<String>(raw) {
        Ok(text) => Ok(Cow::Owned(text)),
        Err(_) => Err(Misfit::new(
            RejectKind::Syntax,
            "found a string with an escape that is not a Unicode character",
        )),
    }
}

/// Whether a key is the text of a JSON number or boolean.
fn is_plain(key: &str) -> bool {
    let edges = [key.as_bytes().first(), key.as_bytes().last()];
    edges
        .iter()
        .all(|edge| edge.is_some_and(u8::is_ascii_alphanumeric) || edge == &Some(&b'-'))
        && serde_json::from_str::<IgnoredAny>(key).is_ok()
        && key != "null"
}

/// Appends a value that is a JSON string, given without quotes and escapes.
#[inline]
fn push_string(values: &mut Values, kind: &PrimitiveType, text: &str) -> Result<(), Misfit> {
    match values {
        Values::Text { texts, .. } => return texts.push(text),
        Values::Long(longs) => longs.push(decimal_string(text, kind)?),
        Values::Float(floats) => floats.push(special_float(text, kind)? as f32),
        Values::Double(doubles) => doubles.push(special_float(text, kind)?),
        Values::Decimal {
            units,
            precision,
            scale,
        } => {
            units.push(parse_decimal(text, *precision, *scale).map_err(|error| decimal_misfit(error, kind))?);
        }
        Values::Date(days) => {
            days.push(parse_date(text.as_bytes()).map_err(|error| time_misfit(error, kind))?);
        }
        Values::Time(times) => {
            times.push(parse_time(text.as_bytes()).map_err(|error| time_misfit(error, kind))?);
        }
        Values::Timestamp { instants, utc, nanos } => {
            let instant = if *utc {
                parse_timestamptz(text.as_bytes())
            } else {
                parse_timestamp(text.as_bytes())
            };
            let unit = |instant: Instant| {
                if *nanos {
                    instant.nanos()
                } else {
                    Ok(instant.micros())
                }
            };
            instants.push(instant.and_then(unit).map_err(|error| time_misfit(error, kind))?);
        }
        Values::Uuid(bytes) => bytes.extend_from_slice(&parse_uuid(text, kind)?),
        Values::Fixed { bytes, size } => bytes.extend_from_slice(&parse_fixed(text, *size, kind)?),
        Values::Binary(blobs) => return push_binary(blobs, text, kind),
        Values::Boolean(_) | Values::Int(_) => return Err(Misfit::wrong_type("a string", kind)),
    }
    Ok(())
}

/// Appends a value that is not a JSON string, given as its text.
#[inline]
fn push_bare(values: &mut Values, kind: &PrimitiveType, raw: &str) -> Result<(), Misfit> {
    if let Values::Text {
        texts,
        any_value: true,
    } = values
    {
        check_text(raw)?;
        return texts.push(raw);
    }
    match (raw.as_bytes().first(), values) {
        (Some(b't'), Values::Boolean(bits)) => bits.append(true),
        (Some(b'f'), Values::Boolean(bits)) => bits.append(false),
        (Some(b'-' | b'0'..=b'9'), values) => return push_number(values, kind, raw),
        _ => return Err(Misfit::wrong_type(json_type(raw), kind)),
    }
    Ok(())
}

/// Appends a JSON number.
#[inline]
fn push_number(values: &mut Values, kind: &PrimitiveType, raw: &str) -> Result<(), Misfit> {
    match values {
        Values::Int(ints) => {
            let value = parse_integer(raw).map_err(|error| integer_misfit(error, kind))?;
            let value = i32::try_from(value).map_err(|_| integer_misfit(NumberError::Range, kind))?;
            ints.push(value);
        }
        Values::Long(longs) => {
            longs.push(parse_integer(raw).map_err(|error| integer_misfit(error, kind))?);
        }
        Values::Float(floats) => floats.push(finite(raw.parse::<f32>().ok(), f32::is_finite, kind)?),
        Values::Double(doubles) => doubles.push(finite(raw.parse::<f64>().ok(), f64::is_finite, kind)?),
        Values::Decimal {
            units,
            precision,
            scale,
        } => {
            units.push(parse_decimal(raw, *precision, *scale).map_err(|error| decimal_misfit(error, kind))?);
        }
        _ => return Err(Misfit::wrong_type("a number", kind)),
    }
    Ok(())
}

fn finite<T: Copy>(
    value: Option<T>,
    is_finite: impl FnOnce(T) -> bool,
    kind: &PrimitiveType,
) -> Result<T, Misfit> {
    let value = value.ok_or_else(|| Misfit::wrong_type("a number of another form", kind))?;
    if is_finite(value) {
        Ok(value)
    } else {
        Err(out_of_range(format!("found a number too large for {kind}")))
    }
}

fn special_float(text: &str, kind: &PrimitiveType) -> Result<f64, Misfit> {
    match text {
        "NaN" => Ok(f64::NAN),
        "Infinity" => Ok(f64::INFINITY),
        "-Infinity" => Ok(f64::NEG_INFINITY),
        _ => Err(Misfit::wrong_type("a string", kind)),
    }
}

/// Reads an integer written as a string, as the JSON form of protobuf writes 64-bit integers.
fn decimal_string(text: &str, kind: &PrimitiveType) -> Result<i64, Misfit> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Misfit::wrong_type("a string that is not an integer", kind));
    }
    parse_integer(text).map_err(|error| integer_misfit(error, kind))
}

fn parse_uuid(text: &str, kind: &PrimitiveType) -> Result<[u8; 16], Misfit> {
    match Uuid::try_parse(text) {
        Ok(uuid) if matches!(text.len(), 32 | 36) => Ok(uuid.into_bytes()),
        _ => Err(Misfit::wrong_type("a string of another format", kind)),
    }
}

fn parse_fixed(text: &str, size: usize, kind: &PrimitiveType) -> Result<Vec<u8>, Misfit> {
    let bytes = parse_base64(text, kind)?;
    if bytes.len() == size {
        Ok(bytes)
    } else {
        let found = bytes.len();
        Err(out_of_range(format!(
            "found {found} bytes where {kind} is expected"
        )))
    }
}

fn push_binary(blobs: &mut Blobs, text: &str, kind: &PrimitiveType) -> Result<(), Misfit> {
    blobs.push(&parse_base64(text, kind)?)
}

fn parse_base64(text: &str, kind: &PrimitiveType) -> Result<Vec<u8>, Misfit> {
    let engine = if memchr::memchr2(b'-', b'_', text.as_bytes()).is_some() {
        &BASE64_URL
    } else {
        &BASE64
    };
    engine
        .decode(text)
        .map_err(|_| Misfit::wrong_type("a string that is not base64", kind))
}

#[cold]
fn out_of_range(message: String) -> Misfit {
    Misfit::new(RejectKind::OutOfRange, message)
}

#[cold]
fn integer_misfit(error: NumberError, kind: &PrimitiveType) -> Misfit {
    match error {
        NumberError::Range => out_of_range(format!("found an integer outside the range of {kind}")),
        NumberError::Fraction => Misfit::wrong_type("a number with a fraction", kind),
        NumberError::NotANumber => Misfit::wrong_type("a number of another form", kind),
    }
}

#[cold]
fn decimal_misfit(error: NumberError, kind: &PrimitiveType) -> Misfit {
    match error {
        NumberError::Range => out_of_range(format!("found a number with more digits than {kind} holds")),
        NumberError::Fraction => out_of_range(format!(
            "found a number with more fraction digits than {kind} holds"
        )),
        NumberError::NotANumber => Misfit::wrong_type("a string that is not a number", kind),
    }
}

#[cold]
fn time_misfit(error: TimeError, kind: &PrimitiveType) -> Misfit {
    match error {
        TimeError::Format => Misfit::wrong_type("a string of another format", kind),
        TimeError::Range => out_of_range(format!("found a date or time that does not exist as {kind}")),
        TimeError::OffsetMissing => Misfit::new(
            RejectKind::WrongType,
            format!(
                "found a time without offset where {kind} is expected: an offset such as Z or +01:00 is needed"
            ),
        ),
        TimeError::OffsetPresent => Misfit::new(
            RejectKind::WrongType,
            format!("found a time with an offset where {kind} is expected: it may not have one"),
        ),
    }
}
