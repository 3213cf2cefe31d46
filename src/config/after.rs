//! What becomes of an object of a landing bucket once it has landed.

use super::Config;
use super::conditions::DeliveryMatch;
use super::key::{Key, Shape, Words};
use super::location::Scheme;
use super::reader::Field;

/// Where objects go that landed, in their own bucket.
pub(crate) const LANDED: &str = "landed/";

pub(super) const AFTER: Key = Key::defaulted(
    "after",
    Shape::Word(&Words {
        words: &[
            (After::Keep.name(), "it stays as it is"),
            (
                After::Move.name(),
                "it goes to `landed/GENERATION/NAME` of its bucket; events of names under `landed/` are then passed over there",
            ),
            (After::Delete.name(), "it is deleted"),
        ],
        later: &[],
    }),
    || After::default().name().to_owned(),
    "what becomes of an object of a bucket once all of it is in the table or the dead letters; a newer object of its name is \
     left alone. Files of a folder are always moved, to `landed` beside it",
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

impl Config {
    /// Whether objects of a bucket are moved once they landed, so that names under `landed/` in it are those of moved ones.
    pub(crate) fn moves_objects_of(&self, bucket: &str) -> bool {
        let is_it = |files: &Option<super::FileMatch>| {
            files
                .as_ref()
                .is_some_and(|files| files.bucket.scheme() == Scheme::Gcs && files.bucket.bucket() == bucket)
        };
        let tables = self.tables.values().filter(|table| table.after == After::Move);
        let routed = self.routes.iter().filter(|_| self.defaults.after == After::Move);
        tables
            .flat_map(|table| &table.from)
            .any(|from| is_it(&from.files))
            || routed.map(|route| &route.files).any(is_it)
    }
}

pub(super) fn read(field: &Field<'_>) -> Option<After> {
    let word = field.word()?;
    [After::Keep, After::Move, After::Delete]
        .into_iter()
        .find(|after| after.name() == word)
}

/// Checks a table's `after` against what it takes.
pub(super) fn check(field: &Field<'_>, after: After, from: &[DeliveryMatch]) {
    let mut files = from.iter().filter_map(|conditions| conditions.files.as_ref());
    let is_moved = |name: &str| name.starts_with(LANDED);
    if after == After::Move
        && files.any(|files| files.objects.as_ref().is_some_and(|glob| is_moved(glob.as_str())))
    {
        field.problem(
            "objects that landed are moved to `landed/`, and events of names there are passed over; choose names elsewhere, \
             or another `after`",
        );
    }
}
