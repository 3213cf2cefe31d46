//! Framing: where the records of a JSON payload begin and end.
//!
//! One object, an array of objects, objects one after the other, one or more of these per line. A record that is lost
//! costs its neighbours nothing as long as its end can be found; where the syntax breaks, the line is lost in NDJSON, and
//! the rest of the payload otherwise.

use std::ops::Range;

use serde::de::IgnoredAny;
use serde_json::error::Category;

use super::reject::{Reason, RejectKind};
use super::sniff::{Framing, value_end};

/// What some writers begin UTF-8 with.
pub(crate) const BYTE_ORDER_MARK: &[u8] = &[0xef, 0xbb, 0xbf];

/// Which part of a payload is walked, where it is too large for one piece.
///
/// A part ends behind a whole line, or behind a whole object or array of the top level or of a top-level array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// What ends the records of the payload.
    pub(crate) framing: Framing,
    /// Whether it goes on behind an element of an array that an earlier part opened.
    pub(crate) in_array: bool,
    /// Whether the payload ends with it.
    pub(crate) is_last: bool,
}

/// How the walk of a part ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PartEnd {
    /// At its end.
    Whole,
    /// The syntax broke: the rest of the payload, beyond the part, belongs to the last lost record.
    Lost,
    /// No more records were wanted. The part goes on at this byte, perhaps behind an element of an array.
    Full { at: usize, in_array: bool },
}

/// What became of a record whose text is JSON.
pub(super) struct Parsed {
    /// Where its text ends.
    pub(super) end: usize,
    /// Why it is lost, if it is.
    pub(super) misfit: Option<Reason>,
}

/// A record whose text is not JSON, or not text that serde_json reads.
pub(super) struct Broken {
    /// What serde_json says.
    pub(super) error: serde_json::Error,
    /// Where in the record, as far as known.
    pub(super) path: Option<String>,
}

/// Takes the records of a payload.
pub(super) trait Records {
    /// Takes the object at the start of the text, which begins with its brace.
    fn record(&mut self, text: &str) -> Result<Parsed, Broken>;

    /// Takes note of a lost record: which one it is, and its bytes in the payload.
    fn lost(&mut self, position: u64, span: Range<usize>, reason: Reason);

    /// Whether no more records are wanted for now.
    fn is_full(&self) -> bool {
        false
    }
}

/// Walks a payload's records in order. Every record is either taken or lost, once, until no more are wanted.
pub(super) fn walk(payload: &[u8], records: &mut impl Records) {
    let content = trim(payload, without_mark(payload));
    if content.is_empty() {
        records.lost(
            0,
            0..payload.len(),
            Reason::new(RejectKind::EmptyPayload, "the payload has no record"),
        );
        return;
    }
    let part = Part {
        framing: Framing::of(payload.get(content.clone()).unwrap_or_default()),
        in_array: false,
        is_last: true,
    };
    walk_range(payload, content, part, records);
}

/// Walks the records of a part of a payload, which may have none. Positions count from the part's start.
pub(super) fn walk_part(bytes: &[u8], part: Part, records: &mut impl Records) -> PartEnd {
    walk_range(bytes, trim(bytes, 0..bytes.len()), part, records)
}

fn walk_range(payload: &[u8], content: Range<usize>, part: Part, records: &mut impl Records) -> PartEnd {
    let mut walker = Walker {
        payload,
        text: std::str::from_utf8(payload.get(content.clone()).unwrap_or_default()).ok(),
        text_start: content.start,
        // Nothing of a line is in another part.
        is_last: part.is_last || part.framing == Framing::Lines,
        position: 0,
        records,
    };
    if part.framing == Framing::Values {
        return match walker.segment(content, part.in_array) {
            Next::At(_) => PartEnd::Whole,
            Next::Lost => PartEnd::Lost,
            Next::Full { at, in_array } => PartEnd::Full { at, in_array },
        };
    }
    // Only where an earlier walk stopped in a line does a line begin in an array.
    let mut in_array = part.in_array;
    for line in Lines::new(payload, content) {
        if let Next::Full { at, in_array } = walker.segment(line, std::mem::take(&mut in_array)) {
            return PartEnd::Full { at, in_array };
        }
    }
    PartEnd::Whole
}

/// The payload's range after its byte order mark.
fn without_mark(payload: &[u8]) -> Range<usize> {
    let start = if payload.starts_with(BYTE_ORDER_MARK) {
        BYTE_ORDER_MARK.len()
    } else {
        0
    };
    start..payload.len()
}

/// Takes whitespace off both ends of a range.
fn trim(payload: &[u8], range: Range<usize>) -> Range<usize> {
    let Range { mut start, mut end } = range;
    while start < end && payload.get(start).is_some_and(is_space) {
        start += 1;
    }
    while start < end && payload.get(end - 1).is_some_and(is_space) {
        end -= 1;
    }
    start..end
}

/// Whether a byte is what JSON calls whitespace.
pub(crate) fn is_space(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// The lines of a range that are not empty, trimmed.
struct Lines<'a> {
    payload: &'a [u8],
    rest: Range<usize>,
}

impl<'a> Lines<'a> {
    fn new(payload: &'a [u8], rest: Range<usize>) -> Self {
        Self { payload, rest }
    }
}

impl Iterator for Lines<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        while self.rest.start < self.rest.end {
            let bytes = self.payload.get(self.rest.clone())?;
            let len = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
            let line = trim(self.payload, self.rest.start..self.rest.start + len);
            self.rest.start = (self.rest.start + len + 1).min(self.rest.end);
            if !line.is_empty() {
                return Some(line);
            }
        }
        None
    }
}

/// Whether a segment goes on behind a record.
enum Next {
    At(usize),
    Lost,
    /// No more records are wanted.
    Full {
        at: usize,
        in_array: bool,
    },
}

struct Walker<'a, R> {
    payload: &'a [u8],
    /// The content as text, if all of it is UTF-8.
    text: Option<&'a str>,
    text_start: usize,
    is_last: bool,
    position: u64,
    records: &'a mut R,
}

impl<R: Records> Walker<'_, R> {
    /// Walks values one after the other: a line, or a whole payload, or what follows an element of an array in it.
    fn segment(&mut self, segment: Range<usize>, in_array: bool) -> Next {
        let mut next = if in_array {
            self.elements(segment.start, segment.end)
        } else {
            Next::At(segment.start)
        };
        while let Next::At(at) = next {
            let at = self.skip_space(at, segment.end);
            if at >= segment.end {
                break;
            }
            if self.records.is_full() {
                return Next::Full { at, in_array: false };
            }
            next = if self.payload.get(at) == Some(&b'[') {
                self.array(at, segment.end)
            } else {
                self.value(at, segment.end)
            };
        }
        next
    }

    /// Walks the elements of the array that begins at `start`.
    fn array(&mut self, start: usize, end: usize) -> Next {
        let at = self.skip_space(start + 1, end);
        if self.byte(at, end) == Some(b']') {
            return Next::At(at + 1);
        }
        match self.value(at, end) {
            Next::At(next) => self.elements(next, end),
            stopped => stopped,
        }
    }

    /// Walks on behind an element of an array, to the array's end.
    fn elements(&mut self, mut at: usize, end: usize) -> Next {
        loop {
            at = self.skip_space(at, end);
            if self.records.is_full() && at < end {
                return Next::Full { at, in_array: true };
            }
            match self.byte(at, end) {
                Some(b']') => return Next::At(at + 1),
                Some(b',') => {
                    let comma = at;
                    at = self.skip_space(at + 1, end);
                    if at >= end {
                        let reason = Reason::new(RejectKind::Truncated, "the array is not closed");
                        return self.lose_rest(comma, end, reason);
                    }
                    match self.value(at, end) {
                        Next::At(next) => at = next,
                        stopped => return stopped,
                    }
                }
                Some(_) => {
                    let message = "is not JSON: expected a comma or the end of the array";
                    return self.lose_rest(at, end, Reason::new(RejectKind::Syntax, message));
                }
                None if !self.is_last => return Next::At(at),
                None => {
                    let reason = Reason::new(RejectKind::Truncated, "the array is not closed");
                    return self.lose_rest(at, end, reason);
                }
            }
        }
    }

    /// Takes or loses the one value that begins at `at`.
    fn value(&mut self, at: usize, end: usize) -> Next {
        let bytes = self.payload.get(at..end).unwrap_or_default();
        let text = match self.text {
            Some(text) => text
                .get(at - self.text_start..end - self.text_start)
                .unwrap_or_default(),
            // Somewhere in the payload is a byte that is not UTF-8: here or not?
            None => match value_end(bytes).map(|len| bytes.get(..len).unwrap_or_default()) {
                Some(value) => match std::str::from_utf8(value) {
                    Ok(text) => text,
                    Err(_) => return self.lose(at..at + value.len(), not_utf8()),
                },
                None => match std::str::from_utf8(bytes) {
                    Ok(text) => text,
                    Err(_) => return self.lose_rest(at, end, not_utf8()),
                },
            },
        };
        if !text.starts_with('{') {
            return match value_end(bytes) {
                Some(len) => {
                    let message = "found a value that is not an object where a record is expected";
                    self.lose(at..at + len, Reason::new(RejectKind::NotAnObject, message))
                }
                None => self.lose_rest(at, end, scalar_error(text)),
            };
        }
        match self.records.record(text) {
            Ok(Parsed { end, misfit: None }) => {
                self.position += 1;
                Next::At(at + end)
            }
            Ok(Parsed {
                end,
                misfit: Some(reason),
            }) => self.lose(at..at + end, reason),
            // The text may be JSON all the same: too deep, or with half a surrogate pair. Then it ends somewhere.
            Err(broken) => match value_end(bytes) {
                Some(len) => self.lose(at..at + len, reason_of(broken)),
                None => self.lose_rest(at, end, reason_of(broken)),
            },
        }
    }

    fn lose(&mut self, span: Range<usize>, reason: Reason) -> Next {
        let next = span.end;
        self.records.lost(self.position, span, reason);
        self.position += 1;
        Next::At(next)
    }

    fn lose_rest(&mut self, at: usize, end: usize, reason: Reason) -> Next {
        self.lose(at..end, reason);
        Next::Lost
    }

    fn skip_space(&self, mut at: usize, end: usize) -> usize {
        while at < end && self.payload.get(at).is_some_and(is_space) {
            at += 1;
        }
        at
    }

    fn byte(&self, at: usize, end: usize) -> Option<u8> {
        if at < end {
            self.payload.get(at).copied()
        } else {
            None
        }
    }
}

fn not_utf8() -> Reason {
    Reason::new(RejectKind::NotUtf8, "the record is not UTF-8")
}

/// The reason of a text that begins no object and is no value.
fn scalar_error(text: &str) -> Reason {
    match serde_json::from_str::<IgnoredAny>(text) {
        Err(error) => reason_of(Broken { error, path: None }),
        Ok(_) => Reason::new(RejectKind::Syntax, "is not JSON"),
    }
}

/// Says what is wrong with a text that serde_json does not read, without the text.
fn reason_of(broken: Broken) -> Reason {
    let said = broken.error.to_string();
    let (kind, message) = match broken.error.classify() {
        Category::Eof => (RejectKind::Truncated, format!("is cut short: {said}")),
        // The messages of syntax errors are fixed texts; serde_json has no other way to tell them apart.
        Category::Syntax if said.starts_with("recursion limit exceeded") => (
            RejectKind::TooDeep,
            "found a value nested deeper than 128 levels".to_owned(),
        ),
        Category::Syntax if said.starts_with("number out of range") => (
            RejectKind::OutOfRange,
            "found a number too large for double".to_owned(),
        ),
        Category::Syntax if said.starts_with("invalid unicode code point") => {
            (RejectKind::NotUtf8, "the record is not UTF-8".to_owned())
        }
        Category::Syntax => (RejectKind::Syntax, format!("is not JSON: {said}")),
        // Errors of these categories may quote values. No visitor of ours makes one.
        Category::Data | Category::Io => (RejectKind::Syntax, "is not JSON".to_owned()),
    };
    Reason {
        kind,
        message,
        path: broken.path,
    }
}
