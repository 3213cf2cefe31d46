//! Sniffing: what ends the records of a payload, told from its beginning.

use serde::de::{DeserializeSeed, IgnoredAny};
use serde_json::error::Category;

use super::framing::is_space;

/// Lines that are looked at to tell NDJSON from one document over many lines.
const SAMPLE_LINES: usize = 3;

/// What ends the records of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Newlines: where a record's syntax breaks, its line is lost.
    Lines,
    /// Their own syntax: where it breaks, the rest of the payload is lost.
    Values,
}

impl Framing {
    /// Decides for the trimmed content of a whole payload.
    pub(super) fn of(content: &[u8]) -> Self {
        Self::sniff(content, true).unwrap_or(Self::Values)
    }

    /// Decides whether newlines end records, given the content of a payload without leading space, or its beginning.
    /// `None`: the beginning is too short to tell.
    ///
    /// They do if the first line is complete on its own. If it is not, it may begin a document over many lines, which a
    /// value that begins in it and ends in a later one proves, or be a broken record: then another complete line among
    /// the first proves NDJSON. That line must not be indented, as lines within a document are.
    ///
    /// Of a beginning, an array that it does not end in is taken for a document, be it broken later on.
    pub(crate) fn sniff(content: &[u8], is_whole: bool) -> Option<Self> {
        let is_array = content.first() == Some(&b'[');
        let undecided = || (is_whole || is_array).then_some(Self::Values);
        let Some(first_end) = memchr::memchr(b'\n', content) else {
            let is_followed = |end: usize| !content.get(end..).unwrap_or_default().iter().all(is_space);
            let holds_more = opens_container(content) && value_end(content).is_some_and(is_followed);
            return undecided().or(holds_more.then_some(Self::Values));
        };
        if content.get(..first_end).is_some_and(is_complete_line) {
            return Some(Self::Lines);
        }
        if opens_container(content) {
            match end_of_value(content) {
                Ok(end) if end > first_end => return Some(Self::Values),
                Err(Category::Eof) if !is_whole => return undecided(),
                _ => {}
            }
        }
        let line_end = if is_whole {
            content.len()
        } else {
            memchr::memrchr(b'\n', content).unwrap_or_default()
        };
        let mut line_count = 0;
        let is_proof = content
            .get(..line_end)
            .unwrap_or_default()
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.iter().all(is_space))
            .take(SAMPLE_LINES)
            .inspect(|_| line_count += 1)
            .any(is_complete_line);
        match is_proof {
            true => Some(Self::Lines),
            false if is_whole || line_count == SAMPLE_LINES => Some(Self::Values),
            false => None,
        }
    }
}

/// Whether a line is one or more objects or arrays, complete and not indented.
fn is_complete_line(line: &[u8]) -> bool {
    let mut rest = line;
    loop {
        if !opens_container(rest) {
            return false;
        }
        let Some(end) = value_end(rest) else {
            return false;
        };
        rest = rest.get(end..).unwrap_or_default().trim_ascii_start();
        if rest.is_empty() {
            return true;
        }
    }
}

fn opens_container(text: &[u8]) -> bool {
    matches!(text.first(), Some(b'{' | b'['))
}

/// Where the value at the start of the bytes ends, if it is one. Checks neither UTF-8 nor the meaning of escapes.
pub(super) fn value_end(bytes: &[u8]) -> Option<usize> {
    end_of_value(bytes).ok()
}

fn end_of_value(bytes: &[u8]) -> Result<usize, Category> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    std::marker::PhantomData::<IgnoredAny>
        .deserialize(&mut deserializer)
        .map_err(|error| error.classify())?;
    Ok(deserializer.into_iter::<IgnoredAny>().byte_offset())
}
