//! Typed reading of the tree: every value knows its key path and place, and no key goes unread.

use std::cell::RefCell;

use super::expand::{Env, expand};
use super::location::Location;
use super::problem::{Position, Problem};
use super::quantity::{DURATION, SIZE, parse_count, parse_duration, parse_size};
use super::tree::{Entry, Node, Value, join};

/// What one pass over a file shares: its name, the environment and the problems found so far.
pub(super) struct Context<'a> {
    file: &'a str,
    env: Env<'a>,
    problems: RefCell<Vec<Problem>>,
    /// What lies where so far, by what it is called in messages.
    places: RefCell<Vec<(&'static str, Location)>>,
}

impl<'a> Context<'a> {
    pub(super) fn new(file: &'a str, env: Env<'a>) -> Self {
        Self {
            file,
            env,
            problems: RefCell::new(Vec::new()),
            places: RefCell::default(),
        }
    }

    /// Looks a variable up.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.env)(name)
    }

    /// Notes a broken rule.
    pub(super) fn problem(&self, at: Position, key: &str, message: impl Into<String>) {
        self.problems.borrow_mut().push(Problem {
            file: self.file.to_owned(),
            position: Some(at),
            key: one_line(key),
            message: one_line(&message.into()),
        });
    }

    /// Whether a rule was broken so far.
    pub(super) fn has_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    /// Ends the pass.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }
}

/// A value with its key path.
pub(super) struct Field<'a> {
    cx: &'a Context<'a>,
    node: &'a Node,
    key_at: Position,
    path: String,
}

impl<'a> Field<'a> {
    /// The whole file.
    pub(super) fn root(node: &'a Node, cx: &'a Context<'a>) -> Self {
        Self {
            cx,
            node,
            key_at: node.at,
            path: String::new(),
        }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Notes a broken rule at the value.
    pub(super) fn problem(&self, message: impl Into<String>) {
        self.cx.problem(self.node.at, &self.path, message);
    }

    /// Notes a broken rule at the key.
    pub(super) fn key_problem(&self, message: impl Into<String>) {
        self.cx.problem(self.key_at, &self.path, message);
    }

    /// Notes what lies at a location. Whether it lies apart from everything else that was noted; if not, that is a
    /// broken rule. One place may be noted again under the same name.
    pub(super) fn apart(&self, name: &'static str, location: &Location) -> bool {
        let mut places = self.cx.places.borrow_mut();
        let other = places.iter().find(|(other, place)| {
            (*other, place) != (name, location) && (place.contains(location) || location.contains(place))
        });
        if let Some((other, place)) = other {
            self.problem(format!(
                "{name} `{location}` and {other} `{place}` lie in each other, where one would be taken for the other; \
                 write another folder"
            ));
            return false;
        }
        places.push((name, location.clone()));
        true
    }

    /// Whether the value is a mapping, so that a key with several forms can choose.
    pub(super) fn is_mapping(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    /// Whether the value is a mapping without a key.
    pub(super) fn is_empty_mapping(&self) -> bool {
        matches!(&self.node.value, Value::Map(entries) if entries.is_empty())
    }

    /// Whether the value is a list.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.node.value, Value::Seq(_))
    }

    /// Reads a scalar, expanded, through a function that answers what is wrong with it.
    ///
    /// `accepted` completes "write …". When a variable stood in the value, the reason is left out, as it could hold
    /// what the variable holds.
    pub(super) fn parse<T>(&self, accepted: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let Value::Scalar(written) = &self.node.value else {
            self.wrong_shape(accepted);
            return None;
        };
        let (text, has_variable) = match expand(written, self.cx.env) {
            Ok(expanded) => expanded,
            Err(reason) => {
                self.problem(reason);
                return None;
            }
        };
        match read(&text) {
            Ok(value) => Some(value),
            Err(_) if has_variable => {
                self.problem(format!(
                    "the value, with its variables expanded, is not accepted; write {accepted}"
                ));
                None
            }
            Err(reason) => {
                self.problem(format!("{reason}; write {accepted}"));
                None
            }
        }
    }

    /// Reads any scalar as text, perhaps empty.
    pub(super) fn text(&self, accepted: &str) -> Option<String> {
        self.parse(accepted, |text| Ok(text.to_owned()))
    }

    /// Reads a scalar as text that is not empty.
    pub(super) fn name(&self, accepted: &str) -> Option<String> {
        self.parse(accepted, |text| match text {
            "" => Err("the text is empty".to_owned()),
            _ => Ok(text.to_owned()),
        })
    }

    /// Reads a size in bytes, at least 1.
    pub(super) fn size(&self) -> Option<u64> {
        self.parse(SIZE, |text| match parse_size(text)? {
            0 => Err("`0` holds nothing".to_owned()),
            bytes => Ok(bytes),
        })
    }

    /// Reads a duration.
    pub(super) fn duration(&self) -> Option<std::time::Duration> {
        self.parse(DURATION, parse_duration)
    }

    /// Reads a whole number, at least 1.
    pub(super) fn count(&self) -> Option<u64> {
        self.parse("a whole number of at least 1, such as `1000`", |text| {
            parse_count(text, 1)
        })
    }

    /// Reads `true` or `false`.
    pub(super) fn boolean(&self) -> Option<bool> {
        self.parse("`true` or `false`", |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(format!("`{text}` is neither `true` nor `false`")),
        })
    }

    /// Reads one of the words; a word of `later` is refused as not in this version.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)], later: &[&str]) -> Option<T> {
        let accepted: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        self.parse(&accepted.join(" or "), |text| {
            if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
                return Ok(*value);
            }
            if later.contains(&text) {
                return Err(not_yet(text));
            }
            let known = words.iter().map(|(word, _)| *word).chain(later.iter().copied());
            Err(match nearest(text, known) {
                Some(word) => format!("`{text}` is not known (did you mean `{word}`?)"),
                None => format!("`{text}` is not known"),
            })
        })
    }

    /// Reads a mapping with known keys.
    pub(super) fn mapping(&self, accepted: &str) -> Option<Mapping<'a>> {
        let Value::Map(entries) = &self.node.value else {
            self.wrong_shape(accepted);
            return None;
        };
        Some(Mapping {
            cx: self.cx,
            at: self.node.at,
            path: self.path.clone(),
            entries,
            known: Vec::new(),
            later: Vec::new(),
        })
    }

    /// Reads a mapping whose keys are free, in the order of the file.
    pub(super) fn entries(&self, accepted: &str) -> Option<Vec<(&'a str, Self)>> {
        let mapping = self.mapping(accepted)?;
        let fields = mapping
            .entries
            .iter()
            .map(|entry| (entry.key.as_str(), mapping.field(entry)));
        Some(fields.collect())
    }

    /// Reads a list of at least one item.
    pub(super) fn items(&self, accepted: &str) -> Option<Vec<Self>> {
        let Value::Seq(items) = &self.node.value else {
            self.wrong_shape(accepted);
            return None;
        };
        if items.is_empty() {
            self.problem(format!("the list is empty; write {accepted}, or remove the key"));
            return None;
        }
        let fields = items.iter().enumerate().map(|(place, node)| Self {
            cx: self.cx,
            node,
            key_at: node.at,
            path: format!("{}[{place}]", self.path),
        });
        Some(fields.collect())
    }

    fn wrong_shape(&self, accepted: &str) {
        let found = match &self.node.value {
            Value::Null => {
                self.key_problem(format!(
                    "the key has no value; write {accepted}, or remove the key"
                ));
                return;
            }
            Value::Scalar(_) => "plain text",
            Value::Seq(_) => "a list",
            Value::Map(_) => "a mapping",
        };
        self.problem(format!("{found} is not accepted here; write {accepted}"));
    }
}

/// A mapping being read key by key. [`Mapping::finish`] refuses what nobody asked for.
#[must_use = "finish refuses the keys that were not read"]
pub(super) struct Mapping<'a> {
    cx: &'a Context<'a>,
    at: Position,
    path: String,
    entries: &'a [Entry],
    known: Vec<&'static str>,
    later: Vec<&'static str>,
}

impl<'a> Mapping<'a> {
    fn field(&self, entry: &'a Entry) -> Field<'a> {
        Field {
            cx: self.cx,
            node: &entry.node,
            key_at: entry.at,
            path: join(&self.path, &entry.key),
        }
    }

    /// The value of an optional key.
    pub(super) fn key(&mut self, name: &'static str) -> Option<Field<'a>> {
        self.known.push(name);
        let entry = self.entries.iter().find(|entry| entry.key == name)?;
        Some(self.field(entry))
    }

    /// The value of a key that must be there.
    pub(super) fn required(&mut self, name: &'static str, accepted: &str) -> Option<Field<'a>> {
        let field = self.key(name);
        if field.is_none() {
            let path = join(&self.path, name);
            self.cx
                .problem(self.at, &path, format!("the key is missing; write {accepted}"));
        }
        field
    }

    /// Whether one of the keys is written.
    pub(super) fn has_any(&self, names: &[&str]) -> bool {
        self.entries
            .iter()
            .any(|entry| names.contains(&entry.key.as_str()))
    }

    /// Names keys that other versions of landfast read.
    pub(super) fn later(&mut self, names: &[&'static str]) {
        self.later.extend_from_slice(names);
    }

    /// Refuses every key that was not read, with a suggestion.
    pub(super) fn finish(self) {
        for entry in self.entries {
            let key = entry.key.as_str();
            if self.known.contains(&key) {
                continue;
            }
            let message = if self.later.contains(&key) {
                not_yet(key)
            } else {
                let known = self.known.iter().chain(&self.later).copied();
                match nearest(key, known) {
                    Some(name) => format!("unknown key; did you mean `{name}`?"),
                    None => format!("unknown key; the keys here are `{}`", self.known.join("`, `")),
                }
            };
            self.cx.problem(entry.at, &join(&self.path, key), message);
        }
    }
}

/// Shows control characters as escapes: a problem is one line, and moves no terminal's cursor.
fn one_line(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut line, c| {
            if c.is_control() {
                line.extend(c.escape_default());
            } else {
                line.push(c);
            }
            line
        })
}

/// Says that a name is landfast's, and comes with another version.
pub(super) fn not_yet(name: &str) -> String {
    format!("`{name}` is not in this version of landfast")
}

/// The name that was probably meant: at most one slip in three letters away.
pub(super) fn nearest<'n>(text: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    // Distances are quadratic in the length; nobody mistypes a key into a page.
    if text.chars().count() > 64 {
        return None;
    }
    let folded = text.to_lowercase().replace('-', "_");
    names
        .map(|name| (strsim::osa_distance(&folded, name), name))
        .filter(|(distance, name)| *distance <= (name.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::super::problem::Problems;
    use super::super::tree;
    use super::*;

    fn problems_of(text: &str, read: impl FnOnce(&mut Mapping<'_>)) -> Vec<String> {
        let env = |name: &str| (name == "SECRET").then(|| "hunter2".to_owned());
        let cx = Context::new("f.yaml", &env);
        let root = tree::parse(text, &cx).unwrap();
        let mut mapping = Field::root(&root, &cx).mapping("keys").unwrap();
        read(&mut mapping);
        mapping.finish();
        Problems::new(cx.into_problems())
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn unknown_keys_get_a_suggestion_and_later_keys_a_version() {
        let found = problems_of("bacth: 1\nzebra: 2\nsort_by: 3\nsort-by: 4\n", |mapping| {
            assert!(mapping.key("batch").is_none());
            mapping.later(&["sort_by"]);
        });
        assert_eq!(
            found,
            [
                "f.yaml:1:1: bacth: unknown key; did you mean `batch`?",
                "f.yaml:2:1: zebra: unknown key; the keys here are `batch`",
                "f.yaml:3:1: sort_by: `sort_by` is not in this version of landfast",
                "f.yaml:4:1: sort-by: unknown key; did you mean `sort_by`?",
            ]
        );
    }

    #[test]
    fn wrong_shapes_say_what_is_accepted() {
        let found = problems_of("a: [1]\nb: {c: 1}\nc:\nd: x\n", |mapping| {
            mapping.key("a").unwrap().count();
            mapping.key("b").unwrap().size();
            mapping.key("c").unwrap().duration();
            mapping.key("d").unwrap().items("a list of names");
        });
        assert_eq!(found.len(), 4);
        assert!(found[0].starts_with("f.yaml:1:4: a: a list is not accepted here; write a whole number"));
        assert!(found[1].starts_with("f.yaml:2:4: b: a mapping is not accepted here; write bytes"));
        assert!(
            found[2].starts_with("f.yaml:3:1: c: the key has no value; write a whole number with a unit")
        );
        assert_eq!(
            found[3],
            "f.yaml:4:4: d: plain text is not accepted here; write a list of names"
        );
    }

    #[test]
    fn values_of_variables_never_appear() {
        let found = problems_of("a: ${SECRET}\nb: x${SECRET}\nc: ${NONE}\n", |mapping| {
            mapping.key("a").unwrap().count();
            mapping.key("b").unwrap().word(&[("on", ())], &[]);
            mapping.key("c").unwrap().boolean();
        });
        assert_eq!(found.len(), 3);
        assert!(
            found.iter().all(|message| !message.contains("hunter2")),
            "{found:?}"
        );
        assert!(found[0].contains("with its variables expanded, is not accepted; write a whole number"));
        assert!(found[2].contains("`NONE` is not set"));
    }
}
