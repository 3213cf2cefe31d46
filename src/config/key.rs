//! What a configuration may hold: every key described once, for the reader, the JSON Schema and the documentation.
//!
//! Each concern's file declares its keys as constants and names them in one [`Keys`]. The reader takes a key by its
//! constant, so what is not described cannot be read; a described key that nobody reads fails a debug assertion.

use serde_json::Value;

use super::quantity::{COUNT, DURATION, SIZE};

/// A regular expression (ECMA 262) for a whole text, made of the constants that the reader uses.
pub(super) type Pattern = fn() -> String;

/// One key of a mapping.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) absent: Absent,
    /// What it is for, in Markdown, without a full stop.
    meaning: &'static str,
}

/// What holds when a key is left out.
#[derive(Debug, Clone, Copy)]
pub(super) enum Absent {
    /// An error.
    Refused,
    /// This value, as it would be written.
    Default(fn() -> String),
    /// What the words say.
    Means(&'static str),
}

/// What may stand as a value. Every scalar may hold variables.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// Bytes, at least one.
    Size,
    /// A duration with its unit.
    Duration,
    /// A whole number of at least 1.
    Count,
    /// `true` or `false`.
    Boolean,
    /// One of a few words.
    Word(&'static Words),
    /// Text of a form.
    Text(&'static Text),
    /// A list of at least one item.
    List(&'static List),
    /// A mapping.
    Map(&'static Keys),
    /// One of several forms.
    Either(&'static Forms),
}

/// The words that a key takes.
#[derive(Debug)]
pub(super) struct Words {
    /// Each with its meaning, which may be empty.
    pub(super) words: &'static [(&'static str, &'static str)],
    /// Words of later versions.
    pub(super) later: &'static [&'static str],
}

/// A text of a form.
#[derive(Debug)]
pub(super) struct Text {
    /// Completes "write …".
    pub(super) accepted: &'static str,
    pub(super) pattern: Option<Pattern>,
    /// Whether a number or a boolean will do as its text.
    pub(super) any_scalar: bool,
}

/// A list.
#[derive(Debug)]
pub(super) struct List {
    /// Completes "write …".
    pub(super) accepted: &'static str,
    pub(super) item: Shape,
}

/// Several forms of a value.
#[derive(Debug)]
pub(super) struct Forms {
    /// Completes "write …".
    pub(super) accepted: &'static str,
    pub(super) forms: &'static [Shape],
}

/// The keys of one mapping. Fields that a mapping does not need come from [`Keys::NONE`].
#[derive(Debug)]
pub(super) struct Keys {
    /// Names the mapping in the schema and in the documentation.
    pub(super) title: &'static str,
    /// Completes "write …".
    pub(super) accepted: &'static str,
    /// The keys, in groups that mappings may share.
    pub(super) keys: &'static [&'static [Key]],
    /// Keys that come with a word of the key `type`.
    pub(super) variants: &'static [(&'static str, &'static [Key])],
    /// Keys that belong elsewhere, with what to do instead.
    pub(super) elsewhere: &'static [(&'static str, &'static str)],
    /// Keys of later versions.
    pub(super) later: &'static [&'static [&'static str]],
    /// Keys of free names.
    pub(super) others: Option<Others>,
    /// Whether a mapping without a key is refused.
    pub(super) never_empty: bool,
}

/// Keys of free names.
#[derive(Debug)]
pub(super) struct Others {
    pub(super) pattern: Option<Pattern>,
    pub(super) shape: Shape,
}

impl Key {
    /// A key that must be there.
    pub(super) const fn required(name: &'static str, shape: Shape, meaning: &'static str) -> Self {
        Self {
            name,
            shape,
            absent: Absent::Refused,
            meaning,
        }
    }

    /// A key with a default value.
    pub(super) const fn defaulted(
        name: &'static str,
        shape: Shape,
        default: fn() -> String,
        meaning: &'static str,
    ) -> Self {
        Self {
            name,
            shape,
            absent: Absent::Default(default),
            meaning,
        }
    }

    /// A key that may be left out; `without` says what holds then.
    pub(super) const fn optional(
        name: &'static str,
        shape: Shape,
        without: &'static str,
        meaning: &'static str,
    ) -> Self {
        Self {
            name,
            shape,
            absent: Absent::Means(without),
            meaning,
        }
    }

    /// The meaning of the key and of its words.
    pub(super) fn meaning(&self) -> String {
        let words = self.shape.words().map_or(&[][..], |words| words.words);
        let explained = words.iter().filter(|(_, meaning)| !meaning.is_empty());
        let explained: Vec<String> = explained
            .map(|(word, meaning)| format!("`{word}`: {meaning}"))
            .collect();
        if explained.is_empty() {
            return self.meaning.to_owned();
        }
        format!("{}. {}", self.meaning, explained.join("; "))
    }
}

impl Shape {
    /// Completes "write …".
    pub(super) fn accepted(self) -> String {
        match self {
            Self::Size => SIZE.to_owned(),
            Self::Duration => DURATION.to_owned(),
            Self::Count => COUNT.to_owned(),
            Self::Boolean => "`true` or `false`".to_owned(),
            Self::Word(words) => {
                let words = words.words.iter().map(|(word, _)| format!("`{word}`"));
                words.collect::<Vec<_>>().join(" or ")
            }
            Self::Text(text) => text.accepted.to_owned(),
            Self::List(list) => list.accepted.to_owned(),
            Self::Map(keys) => keys.accepted.to_owned(),
            Self::Either(forms) => forms.accepted.to_owned(),
        }
    }

    /// The words, where words are a form.
    pub(super) fn words(self) -> Option<&'static Words> {
        self.forms().find_map(|form| match form {
            Self::Word(words) => Some(words),
            _ => None,
        })
    }

    /// The list, where a list is a form.
    pub(super) fn list(self) -> Option<&'static List> {
        self.forms().find_map(|form| match form {
            Self::List(list) => Some(list),
            _ => None,
        })
    }

    /// The mapping, where a mapping is a form.
    pub(super) fn map(self) -> Option<&'static Keys> {
        self.forms().find_map(|form| match form {
            Self::Map(keys) => Some(keys),
            _ => None,
        })
    }

    /// A text of this shape as a JSON value of its kind.
    pub(super) fn to_json(self, text: &str) -> Value {
        let typed = match self {
            Self::Count => text.parse::<u64>().ok().map(Value::from),
            Self::Boolean => text.parse::<bool>().ok().map(Value::from),
            _ => None,
        };
        typed.unwrap_or_else(|| Value::from(text))
    }

    fn forms(self) -> impl Iterator<Item = Self> {
        let (one, several) = match self {
            Self::Either(forms) => (None, forms.forms),
            shape => (Some(shape), &[][..]),
        };
        one.into_iter().chain(several.iter().copied())
    }
}

impl Keys {
    /// A mapping without a key.
    pub(super) const NONE: Self = Self {
        title: "",
        accepted: "",
        keys: &[],
        variants: &[],
        elsewhere: &[],
        later: &[],
        others: None,
        never_empty: false,
    };

    /// The keys that every variant has.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'static Key> {
        self.keys.iter().copied().flatten()
    }

    /// The keys that come with a word of the key `type`.
    pub(super) fn of_variant(&self, word: &str) -> &'static [Key] {
        let variant = self.variants.iter().find(|(name, _)| *name == word);
        variant.map_or(&[], |(_, keys)| keys)
    }

    /// Every key, of all variants.
    pub(super) fn all(&self) -> impl Iterator<Item = &'static Key> {
        let variants = self.variants.iter().flat_map(|(_, keys)| keys.iter());
        self.iter().chain(variants)
    }

    /// The names of later versions.
    pub(super) fn later(&self) -> impl Iterator<Item = &'static str> {
        self.later.iter().copied().flatten().copied()
    }

    /// This mapping and all that stand in it, each once.
    pub(super) fn with_nested(&'static self) -> Vec<&'static Self> {
        let mut found: Vec<&'static Self> = vec![self];
        let mut next = 0;
        while let Some(keys) = found.get(next).copied() {
            next += 1;
            let others = keys.others.as_ref().map(|others| others.shape);
            for shape in keys.all().map(|key| key.shape).chain(others) {
                let item = shape.list().and_then(|list| list.item.map());
                for inner in shape.map().into_iter().chain(item) {
                    if !found.iter().any(|keys| keys.title == inner.title) {
                        found.push(inner);
                    }
                }
            }
        }
        found
    }
}
