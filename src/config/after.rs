//! What becomes of an object of a landing bucket once it has landed.

use super::key::{Key, Shape, Words};
use super::reader::Field;

/// Where objects go that landed, in their own bucket.
const LANDED: &str = "landed/";

pub(super) const AFTER: Key = Key::defaulted(
    "after",
    Shape::Word(&Words {
        words: &[
            (After::Keep.name(), "it stays as it is"),
            (
                After::Move.name(),
                "it goes to `landed/GENERATION/NAME` of its bucket, whose own event is passed over",
            ),
            (After::Delete.name(), "it is deleted"),
        ],
        later: &[],
    }),
    || After::default().name().to_owned(),
    "what becomes of an object of a bucket once its records are in the table or the dead letters; a newer object of its name \
     is left alone. Files of a folder are always moved, to `landed` beside it",
);

/// What becomes of an object that landed. Key `after`, default `keep`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum After {
    /// It stays.
    #[default]
    Keep,
    /// It is moved to `landed/GENERATION/NAME` of its bucket.
    Move,
    /// It is deleted.
    Delete,
}

impl After {
    /// The word of the key `after`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Move => "move",
            Self::Delete => "delete",
        }
    }
}

/// Where an object goes when it is moved, in its own bucket.
pub(crate) fn landed_name(name: &str, generation: i64) -> String {
    format!("{LANDED}{generation}/{name}")
}

/// The generation in a name to which objects are moved; none in other names. It makes no copy of it: people may write there.
pub(crate) fn generation_in(name: &str) -> Option<&str> {
    let (generation, before) = name.strip_prefix(LANDED)?.split_once('/')?;
    let is_number = !generation.is_empty() && generation.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && !before.is_empty()).then_some(generation)
}

pub(super) fn read(field: &Field<'_>) -> Option<After> {
    let word = field.word()?;
    [After::Keep, After::Move, After::Delete]
        .into_iter()
        .find(|after| after.name() == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_moved_objects_tell_the_generation() {
        let moved = landed_name("orders/a b.json", 1_767_323_045_987_654);
        assert_eq!(moved, "landed/1767323045987654/orders/a b.json");
        assert_eq!(generation_in(&moved), Some("1767323045987654"));
        for other in [
            "landed/orders/1.json",
            "landed/1",
            "landed/1/",
            "landed//x",
            "x/landed/1/y",
            "orders/1.json",
        ] {
            assert_eq!(generation_in(other), None, "{other}");
        }
    }
}
