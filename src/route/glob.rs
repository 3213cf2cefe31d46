//! Patterns of tables' and files' names.

use crate::config::{Glob, ObjectGlob};

/// Whether the pattern matches a table's whole name.
pub(super) fn allows(glob: &Glob, name: &str) -> bool {
    glob_matches(glob.as_str(), name)
}

/// Whether `*` (any run of characters) and plain text match the whole name.
pub(super) fn glob_matches(glob: &str, name: &str) -> bool {
    match glob.split_once('*') {
        None => glob == name,
        Some((before, after)) => name
            .strip_prefix(before)
            .is_some_and(|rest| tails(rest).any(|tail| glob_matches(after, tail))),
    }
}

/// Whether the pattern matches a file's whole name.
pub(super) fn takes(glob: &ObjectGlob, name: &str) -> bool {
    object_matches(glob.as_str(), name, true)
}

/// `*` is any text without `/`, `**` any text, and `**/` at the start of a level any levels or none.
pub(super) fn object_matches(glob: &str, name: &str, level_start: bool) -> bool {
    if level_start && let Some(rest) = glob.strip_prefix("**/") {
        let mut levels = name
            .match_indices('/')
            .filter_map(|(place, _)| name.get(place + 1..));
        return object_matches(rest, name, true) || levels.any(|tail| object_matches(rest, tail, true));
    }
    if let Some(rest) = glob.strip_prefix("**") {
        return tails(name).any(|tail| object_matches(rest, tail, false));
    }
    if let Some(rest) = glob.strip_prefix('*') {
        let beyond = name.find('/').map_or(0, |level| name.len() - level);
        return tails(name)
            .take_while(|tail| tail.len() >= beyond)
            .any(|tail| object_matches(rest, tail, false));
    }
    let (text, rest) = glob.split_at(glob.find('*').unwrap_or(glob.len()));
    match name.strip_prefix(text) {
        Some(tail) if rest.is_empty() => tail.is_empty(),
        Some(tail) => object_matches(rest, tail, text.ends_with('/')),
        None => false,
    }
}

/// What is left of a text behind each of its places, the longest first.
fn tails(text: &str) -> impl Iterator<Item = &str> {
    let places = text.char_indices().map(|(place, _)| place).chain([text.len()]);
    places.filter_map(|place| text.get(place..))
}
