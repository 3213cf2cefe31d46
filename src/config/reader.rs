//! Typed reading of the tree: every value knows its key path and place, and no key goes unread.

use std::cell::RefCell;

use super::expand::{Env, expand};
use super::key::{Keys, Shape};
use super::location::Location;
use super::mapping::Mapping;
use super::problem::{Position, Problem};
use super::quantity::{parse_count, parse_duration, parse_size};
use super::tree::{Entry, Node, Value, join};

/// What one pass over a file shares: its name, the environment and the problems found so far.
pub(super) struct Context<'a> {
    file: &'a str,
    env: Env<'a>,
    problems: RefCell<Vec<Problem>>,
    /// What lies where so far.
    places: RefCell<Vec<Place>>,
}

/// What lies at a location.
struct Place {
    /// What it is called in messages.
    name: &'static str,
    location: Location,
    /// The name and, unless a variable stands in it, the location.
    shown: String,
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

/// A value with its key path and what it may be.
pub(super) struct Field<'a> {
    cx: &'a Context<'a>,
    node: &'a Node,
    key_at: Position,
    path: String,
    shape: Shape,
}

impl<'a> Field<'a> {
    /// The whole file.
    pub(super) fn root(node: &'a Node, cx: &'a Context<'a>, keys: &'static Keys) -> Self {
        Self {
            cx,
            node,
            key_at: node.at,
            path: String::new(),
            shape: Shape::Map(keys),
        }
    }

    /// The value of a key in the mapping at `path`.
    pub(super) fn of(cx: &'a Context<'a>, path: &str, entry: &'a Entry, shape: Shape) -> Self {
        Self {
            cx,
            node: &entry.node,
            key_at: entry.at,
            path: join(path, &entry.key),
            shape,
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

    /// A location that nothing else may lie in.
    pub(super) fn location_apart(&self, name: &'static str) -> Option<Location> {
        let location = self.parse(Location::parse)?;
        self.apart(name, &location);
        Some(location)
    }

    /// Notes what lies at a location. Whether it lies apart from everything else that was noted; if not, that is a
    /// broken rule. One place may be noted again under the same name.
    pub(super) fn apart(&self, name: &'static str, location: &Location) -> bool {
        let shown = if self.has_variable() {
            name.to_owned()
        } else {
            format!("{name} `{location}`")
        };
        let mut places = self.cx.places.borrow_mut();
        let other = places.iter().find(|other| {
            (other.name, &other.location) != (name, location)
                && (other.location.contains(location) || location.contains(&other.location))
        });
        if let Some(other) = other {
            self.problem(format!(
                "{shown} and {} lie in each other, where one would be taken for the other; write another folder",
                other.shown
            ));
            return false;
        }
        places.push(Place {
            name,
            location: location.clone(),
            shown,
        });
        true
    }

    /// Looks a variable up that has something to say about the value; an empty one counts as not set.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        self.cx.variable(name).filter(|text| !text.is_empty())
    }

    /// Whether a variable stands in the value, so that what it comes to is not shown.
    pub(super) fn has_variable(&self) -> bool {
        matches!(&self.node.value, Value::Scalar(text) if text.contains("${"))
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
    /// When a variable stood in the value, the reason is left out, as it could hold what the variable holds.
    pub(super) fn parse<T>(&self, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let Value::Scalar(written) = &self.node.value else {
            self.wrong_shape();
            return None;
        };
        let (text, has_variable) = match expand(written, self.cx.env) {
            Ok(expanded) => expanded,
            Err(reason) => {
                self.problem(reason);
                return None;
            }
        };
        let accepted = self.shape.accepted();
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
    pub(super) fn text(&self) -> Option<String> {
        self.parse(|text| Ok(text.to_owned()))
    }

    /// Reads a scalar as text that is not empty.
    pub(super) fn name(&self) -> Option<String> {
        self.parse(|text| match text {
            "" => Err("the text is empty".to_owned()),
            _ => Ok(text.to_owned()),
        })
    }

    /// Reads a [`Shape::Size`] in bytes.
    pub(super) fn size(&self) -> Option<u64> {
        debug_assert!(matches!(self.shape, Shape::Size), "{}", self.path);
        self.parse(|text| match parse_size(text)? {
            0 => Err("`0` holds nothing".to_owned()),
            bytes => Ok(bytes),
        })
    }

    /// Reads a [`Shape::Duration`].
    pub(super) fn duration(&self) -> Option<std::time::Duration> {
        debug_assert!(matches!(self.shape, Shape::Duration), "{}", self.path);
        self.parse(parse_duration)
    }

    /// Reads a [`Shape::Count`].
    pub(super) fn count(&self) -> Option<u64> {
        debug_assert!(matches!(self.shape, Shape::Count), "{}", self.path);
        self.parse(|text| parse_count(text, 1))
    }

    /// Reads a [`Shape::Boolean`].
    pub(super) fn boolean(&self) -> Option<bool> {
        debug_assert!(matches!(self.shape, Shape::Boolean), "{}", self.path);
        self.parse(|text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(format!("`{text}` is neither `true` nor `false`")),
        })
    }

    /// Reads one of the described words; one of later versions is refused as such.
    pub(super) fn word(&self) -> Option<&'static str> {
        let words = self.shape.words();
        debug_assert!(words.is_some(), "{}", self.path);
        let (words, later) = words.map_or((&[][..], &[][..]), |words| (words.words, words.later));
        self.parse(|text| {
            if let Some((word, _)) = words.iter().find(|(word, _)| *word == text) {
                return Ok(*word);
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

    /// Reads the mapping that is described.
    pub(super) fn mapping(&self) -> Option<Mapping<'a>> {
        let keys = self.shape.map();
        debug_assert!(keys.is_some(), "{}", self.path);
        self.mapping_of(keys?)
    }

    /// Reads a mapping of these keys.
    pub(super) fn mapping_of(&self, keys: &'static Keys) -> Option<Mapping<'a>> {
        let Value::Map(entries) = &self.node.value else {
            self.wrong_shape();
            return None;
        };
        Some(Mapping::new(
            self.cx,
            self.node.at,
            self.path.clone(),
            entries,
            keys,
        ))
    }

    /// Reads a mapping whose keys are free, in the order of the file.
    pub(super) fn entries(&self) -> Option<Vec<(&'a str, Self)>> {
        let others = self.shape.map().and_then(|keys| keys.others.as_ref());
        debug_assert!(others.is_some(), "{}", self.path);
        let shape = others?.shape;
        let Value::Map(entries) = &self.node.value else {
            self.wrong_shape();
            return None;
        };
        let fields = entries
            .iter()
            .map(|entry| (entry.key.as_str(), Self::of(self.cx, &self.path, entry, shape)));
        Some(fields.collect())
    }

    /// Reads a list of at least one item.
    pub(super) fn items(&self) -> Option<Vec<Self>> {
        let list = self.shape.list();
        debug_assert!(list.is_some(), "{}", self.path);
        let item = list?.item;
        let Value::Seq(items) = &self.node.value else {
            self.wrong_shape();
            return None;
        };
        if items.is_empty() {
            self.problem(format!(
                "the list is empty; write {}, or remove the key",
                self.shape.accepted()
            ));
            return None;
        }
        let fields = items.iter().enumerate().map(|(place, node)| Self {
            cx: self.cx,
            node,
            key_at: node.at,
            path: format!("{}[{place}]", self.path),
            shape: item,
        });
        Some(fields.collect())
    }

    fn wrong_shape(&self) {
        let accepted = self.shape.accepted();
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
