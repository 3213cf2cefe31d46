//! Reading a mapping key by key, against its description: no key goes unread, none is read that is not described.

use super::key::{Absent, Key, Keys, Shape};
use super::problem::Position;
use super::reader::{Context, Field, nearest, not_yet};
use super::tree::{Entry, Value, join};

/// A mapping being read key by key. [`Mapping::finish`] refuses what is not described.
#[must_use = "finish refuses the keys that are not described"]
pub(super) struct Mapping<'a> {
    cx: &'a Context<'a>,
    at: Position,
    path: String,
    entries: &'a [Entry],
    keys: &'static Keys,
    variant: Option<&'static str>,
    read: Vec<&'static str>,
    /// Keys that are the rest of a text, see [`Mapping::cut_text`].
    cut: Vec<&'a str>,
}

impl<'a> Mapping<'a> {
    pub(super) fn new(
        cx: &'a Context<'a>,
        at: Position,
        path: String,
        entries: &'a [Entry],
        keys: &'static Keys,
    ) -> Self {
        Self {
            cx,
            at,
            path,
            entries,
            keys,
            variant: None,
            read: Vec::new(),
            cut: Vec::new(),
        }
    }

    /// The value of a described key. Its absence is a broken rule when the key is required.
    pub(super) fn key(&mut self, key: &'static Key) -> Option<Field<'a>> {
        let entry = self.find(key);
        if entry.is_none() && matches!(key.absent, Absent::Refused) {
            let accepted = match key.shape {
                Shape::Word(words) => {
                    let words = words
                        .words
                        .iter()
                        .map(|(word, _)| format!("`{}: {word}`", key.name));
                    words.collect::<Vec<_>>().join(" or ")
                }
                shape => shape.accepted(),
            };
            self.missing(key, &accepted);
        }
        entry
    }

    /// The same with a better idea of what to write than the description has.
    pub(super) fn key_or_else(
        &mut self,
        key: &'static Key,
        accepted: impl FnOnce() -> Option<String>,
    ) -> Option<Field<'a>> {
        let entry = self.find(key);
        if entry.is_none() {
            self.missing(key, &accepted().unwrap_or_else(|| key.shape.accepted()));
        }
        entry
    }

    fn find(&mut self, key: &'static Key) -> Option<Field<'a>> {
        debug_assert!(
            self.described().any(|described| described.name == key.name),
            "`{}` is not described in {}",
            key.name,
            self.keys.title
        );
        self.read.push(key.name);
        let entry = self.entries.iter().find(|entry| entry.key == key.name)?;
        Some(Field::of(self.cx, &self.path, entry, key.shape))
    }

    fn missing(&self, key: &Key, accepted: &str) {
        let path = join(&self.path, key.name);
        self.cx
            .problem(self.at, &path, format!("the key is missing; write {accepted}"));
    }

    /// Whether one of the keys is written.
    pub(super) fn has_any(&self, names: &[&str]) -> bool {
        self.entries
            .iter()
            .any(|entry| names.contains(&entry.key.as_str()))
    }

    /// Says which word of the key `type` was read, so that the keys of this variant can be read.
    pub(super) fn choose(&mut self, word: &'static str) {
        self.variant = Some(word);
    }

    fn described(&self) -> impl Iterator<Item = &'static Key> {
        let variant = self.variant.map_or(&[][..], |word| self.keys.of_variant(word));
        self.keys.iter().chain(variant)
    }

    /// The text of a key that YAML cut at its commas, as it does with `{type: decimal(12,2)}`: the rest stands after it
    /// as keys without values, which are taken for read.
    pub(super) fn cut_text(&mut self, key: &Key) -> Option<String> {
        let at = self.entries.iter().position(|entry| entry.key == key.name)?;
        let mut entries = self.entries.iter().skip(at);
        let Value::Scalar(start) = &entries.next()?.node.value else {
            return None;
        };
        let (mut text, mut rest) = (start.clone(), Vec::new());
        while opens(&text) {
            let entry = entries
                .next()
                .filter(|entry| matches!(entry.node.value, Value::Null))?;
            text.push(',');
            text.push_str(&entry.key);
            rest.push(entry.key.as_str());
        }
        self.cut.extend_from_slice(&rest);
        (!rest.is_empty()).then_some(text)
    }

    /// Refuses every key that is not described, with a suggestion.
    pub(super) fn finish(self) {
        debug_assert!(
            self.described().all(|key| self.read.contains(&key.name)),
            "a key of {} is described and not read, only {:?} are",
            self.keys.title,
            self.read
        );
        for entry in self.entries {
            let key = entry.key.as_str();
            if self.described().all(|known| known.name != key)
                && !self.cut.contains(&key)
                && let Some(refusal) = self.refusal(key)
            {
                self.cx.problem(entry.at, &join(&self.path, key), refusal);
            }
        }
    }

    /// Why a key is refused; nothing when the key `type` is broken and another word of it would bring the key.
    fn refusal(&self, key: &str) -> Option<String> {
        let keys = self.keys;
        if let Some((_, instead)) = keys.elsewhere.iter().find(|(name, _)| *name == key) {
            return Some((*instead).to_owned());
        }
        let brings = keys
            .variants
            .iter()
            .filter(|(_, keys)| keys.iter().any(|other| other.name == key));
        let words: Vec<String> = brings.map(|(word, _)| format!("`type: {word}`")).collect();
        if !words.is_empty() {
            return self
                .variant
                .map(|_| format!("`{key}` goes with {}; remove the key", words.join(" or ")));
        }
        if keys.later().any(|later| later == key) {
            return Some(not_yet(key));
        }
        let names: Vec<&str> = self.described().map(|key| key.name).collect();
        let elsewhere = keys.elsewhere.iter().map(|(name, _)| *name);
        let known = names.iter().copied().chain(elsewhere).chain(keys.later());
        Some(match nearest(key, known) {
            Some(name) => format!("unknown key; did you mean `{name}`?"),
            None if names.is_empty() => format!("unknown key; write {}", keys.accepted),
            None => format!("unknown key; the keys here are `{}`", names.join("`, `")),
        })
    }
}

/// Whether a text opens more brackets than it closes.
fn opens(text: &str) -> bool {
    text.matches(['(', '<']).count() > text.matches([')', '>']).count()
}

#[cfg(test)]
mod tests {
    use super::super::key::{List, Text, Words};
    use super::super::problem::Problems;
    use super::super::tree;
    use super::*;

    const COUNT: Key = Key::optional("count", Shape::Count, "none", "");
    const SIZE: Key = Key::optional("size", Shape::Size, "none", "");
    const WAIT: Key = Key::optional("wait", Shape::Duration, "none", "");
    const NAMES: Key = Key::optional("names", Shape::List(&NAME_LIST), "none", "");
    const SWITCH: Key = Key::optional("switch", Shape::Word(&SWITCHES), "none", "");
    const FLAG: Key = Key::optional("flag", Shape::Boolean, "none", "");
    const KEYS: [Key; 6] = [COUNT, SIZE, WAIT, NAMES, SWITCH, FLAG];
    const NAME_LIST: List = List {
        accepted: "a list of names",
        item: Shape::Text(&Text {
            accepted: "a name",
            pattern: None,
            any_scalar: true,
        }),
    };
    const SWITCHES: Words = Words {
        words: &[("on", "")],
        later: &[],
    };
    const ALL: Keys = Keys {
        title: "all",
        keys: &[&KEYS],
        later: &[&["sort_by"]],
        ..Keys::NONE
    };

    fn problems_of(text: &str) -> Vec<String> {
        let env = |name: &str| (name == "SECRET").then(|| "hunter2".to_owned());
        let cx = Context::new("f.yaml", &env);
        let root = tree::parse(text, &cx).unwrap();
        let mut keys = Field::root(&root, &cx, &ALL).mapping().unwrap();
        keys.key(&COUNT).and_then(|field| field.count());
        keys.key(&SIZE).and_then(|field| field.size());
        keys.key(&WAIT).and_then(|field| field.duration());
        keys.key(&NAMES).and_then(|field| field.items());
        keys.key(&SWITCH).and_then(|field| field.word());
        keys.key(&FLAG).and_then(|field| field.boolean());
        keys.finish();
        Problems::new(cx.into_problems())
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn unknown_keys_get_a_suggestion_and_later_keys_a_version() {
        assert_eq!(
            problems_of("cuont: 1\nzebra: 2\nsort_by: 3\nsort-by: 4\n"),
            [
                "f.yaml:1:1: cuont: unknown key; did you mean `count`?",
                "f.yaml:2:1: zebra: unknown key; the keys here are `count`, `size`, `wait`, `names`, `switch`, `flag`",
                "f.yaml:3:1: sort_by: `sort_by` is not in this version of landfast",
                "f.yaml:4:1: sort-by: unknown key; did you mean `sort_by`?",
            ]
        );
    }

    #[test]
    fn wrong_shapes_say_what_is_accepted() {
        let found = problems_of("count: [1]\nsize: {c: 1}\nwait:\nnames: x\n");
        assert_eq!(found.len(), 4);
        assert!(found[0].starts_with("f.yaml:1:8: count: a list is not accepted here; write a whole number"));
        assert!(found[1].starts_with("f.yaml:2:7: size: a mapping is not accepted here; write bytes"));
        assert!(
            found[2].starts_with("f.yaml:3:1: wait: the key has no value; write a whole number with a unit")
        );
        assert_eq!(
            found[3],
            "f.yaml:4:8: names: plain text is not accepted here; write a list of names"
        );
    }

    #[test]
    fn values_of_variables_never_appear() {
        let found = problems_of("count: ${SECRET}\nswitch: x${SECRET}\nflag: ${NONE}\n");
        assert_eq!(found.len(), 3);
        assert!(
            found.iter().all(|message| !message.contains("hunter2")),
            "{found:?}"
        );
        assert!(found[0].contains("with its variables expanded, is not accepted; write a whole number"));
        assert!(found[2].contains("`NONE` is not set"));
    }

    #[cfg(debug_assertions)]
    fn keys_of(read: fn(&mut Mapping<'_>)) {
        let env = |_: &str| None;
        let cx = Context::new("f.yaml", &env);
        let root = tree::parse("count: 1\n", &cx).unwrap();
        let mut keys = Field::root(&root, &cx, &ALL).mapping().unwrap();
        read(&mut keys);
        keys.finish();
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "is described and not read")]
    fn described_key_that_nobody_reads_is_a_failure() {
        keys_of(|keys| {
            keys.key(&COUNT);
        });
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "`other` is not described in all")]
    fn key_that_is_read_and_not_described_is_a_failure() {
        const OTHER: Key = Key::optional("other", Shape::Count, "none", "");
        keys_of(|keys| {
            keys.key(&OTHER);
        });
    }
}
