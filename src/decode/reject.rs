//! Why a record is not a row: the kind, a sentence without values, and the place in the record.

use bytes::Bytes;

/// The longest field name that a path or a count of unknown fields keeps, in characters.
const MAX_NAME_CHARS: usize = 64;

/// The longest path, in characters.
const MAX_PATH_CHARS: usize = 256;

/// What the line of a letter takes besides the record, what is said of it and what every line repeats of the delivery.
const LETTER_BYTES: usize = 640;

/// What is wrong with a rejected record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RejectKind {
    /// The text is not JSON.
    Syntax,
    /// The text ends in the middle of a record.
    Truncated,
    /// The bytes are not UTF-8.
    NotUtf8,
    /// Objects and arrays are nested deeper than 128 levels.
    TooDeep,
    /// A value has another type than its column.
    WrongType,
    /// A required field is missing or null.
    MissingRequired,
    /// A value has the right type, but its column cannot hold it exactly.
    OutOfRange,
    /// One object has the same field twice.
    DuplicateField,
    /// A record is not a JSON object.
    NotAnObject,
    /// The payload has no record.
    EmptyPayload,
    /// The payload is compressed and cannot be unpacked.
    Compression,
    /// The payload, or a column with this record in it, is larger than the limit.
    TooLarge,
    /// The table does not exist yet, and nothing tells its columns.
    NoSchema,
    /// No table wants the delivery.
    NoRoute,
    /// The delivery's data is not base64.
    BadBase64,
    /// The delivery is older than the table's ledger remembers, so it may be in the table already.
    TooOldToProve,
    /// An object that cannot be loaded as a whole. It is where it was; the letter has none of its bytes.
    Unloadable,
    /// Tables have parts of the delivery, and the rules would divide it otherwise now.
    Redivided,
    /// The table has another payload under the delivery's `dedupe_attribute`.
    OtherContent,
}

impl RejectKind {
    /// The stable name used in dead letters, metrics labels and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Truncated => "truncated",
            Self::NotUtf8 => "not_utf8",
            Self::TooDeep => "too_deep",
            Self::WrongType => "wrong_type",
            Self::MissingRequired => "missing_required",
            Self::OutOfRange => "out_of_range",
            Self::DuplicateField => "duplicate_field",
            Self::NotAnObject => "not_an_object",
            Self::EmptyPayload => "empty_payload",
            Self::Compression => "compression",
            Self::TooLarge => "too_large",
            Self::NoSchema => "no_schema",
            Self::NoRoute => "no_route",
            Self::BadBase64 => "bad_base64",
            Self::TooOldToProve => "too_old_to_prove",
            Self::Unloadable => "unloadable",
            Self::Redivided => "redivided",
            Self::OtherContent => "other_content",
        }
    }
}

/// Why a record, or a whole payload, was rejected. Safe to log: it holds names and types, never values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The kind.
    pub kind: RejectKind,
    /// What was found and what was expected.
    pub message: String,
    /// Where in the record, such as `$.lines[3].n`. Keys of maps are data, so `*` stands for them.
    pub path: Option<String>,
}

impl Reason {
    /// Makes a reason that concerns the whole record.
    pub(super) fn new(kind: RejectKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            path: None,
        }
    }
}

/// A record that is not a row, with its reason and its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRecord {
    /// Which record of the payload it is: from 0, counting good and bad.
    pub position: u64,
    /// Why.
    pub reason: Reason,
    /// The record's bytes: a slice of the payload, not a copy.
    pub raw: Bytes,
}

impl RejectedRecord {
    /// What it takes of memory until its letter is written: itself, and the letter's line, in which it is base64. What
    /// every line repeats of the delivery is [`crate::trigger::Envelope::letter_bytes`].
    pub(crate) fn cost(&self) -> usize {
        let said = self.reason.message.len() + self.reason.path.as_ref().map_or(0, String::len);
        let line = LETTER_BYTES + said + self.raw.len().div_ceil(3).saturating_mul(4);
        size_of::<Self>() + said + line
    }
}

/// What a column says of a value that it cannot take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Misfit {
    pub(super) kind: RejectKind,
    pub(super) message: String,
}

impl Misfit {
    /// Makes a misfit of a kind with its sentence.
    #[cold]
    pub(super) fn new(kind: RejectKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// The misfit of a value of another type.
    #[cold]
    pub(super) fn wrong_type(found: &str, expected: impl std::fmt::Display) -> Self {
        Self::new(
            RejectKind::WrongType,
            format!("found {found} where {expected} is expected"),
        )
    }
}

/// Names the JSON type of a value by the first byte of its text.
pub(super) fn json_type(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// Shortens a name of the payload to what is kept of it.
pub(super) fn cap_name(name: &str) -> &str {
    match name.char_indices().nth(MAX_NAME_CHARS) {
        Some((end, _)) => name.get(..end).unwrap_or_default(),
        None => name,
    }
}

/// Joins the steps of a path, given from the leaf to the root.
pub(super) fn join_path(steps: &[String]) -> String {
    let mut path = String::from("$");
    for step in steps.iter().rev() {
        path.push_str(step);
    }
    match path.char_indices().nth(MAX_PATH_CHARS) {
        Some((end, _)) => path.get(..end).unwrap_or_default().to_owned(),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_are_capped() {
        let name = "ä".repeat(100);
        assert_eq!(cap_name(&name).chars().count(), 64);
        let steps: Vec<String> = (0..10).map(|_| format!(".{}", cap_name(&name))).collect();
        assert_eq!(join_path(&steps).chars().count(), 256);
        assert_eq!(join_path(&["[3]".into(), ".lines".into()]), "$.lines[3]");
    }
}
