//! The YAML text as a tree whose every node knows its line and column.
//!
//! The configuration uses the plain part of YAML: mappings, lists and scalars of one document. Anchors, aliases,
//! tags, directives and further documents are refused, so that what is written is what is read. Nesting is bounded,
//! so no input can exhaust the stack.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{self, Event, Marker, Parser, ScalarStyle, ScanError};

use super::problem::Position;
use super::reader::Context;

/// Nested collections of one kind (block or flow); far more than any configuration needs.
const MAX_NESTING: usize = 64;
/// Characters of one key.
const MAX_KEY_CHARS: usize = 1024;

/// A value and where it starts.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) value: Value,
}

/// What a node holds. Scalars stay text: the reader of a key knows what it wants.
#[derive(Debug)]
pub(super) enum Value {
    /// Nothing, `~` or `null`, unquoted.
    Null,
    /// The text as written, before `${NAME}` expands.
    Scalar(String),
    /// A list.
    Seq(Vec<Node>),
    /// A mapping, in the order of the file, without duplicate keys.
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: Position,
    pub(super) node: Node,
}

/// Reads the one document of a file. Whatever is wrong is told to the context; an empty file is an empty mapping.
///
/// Returns nothing when the text is no tree at all; duplicate keys are told, and their first value is kept.
pub(super) fn parse(text: &str, cx: &Context<'_>) -> Option<Node> {
    let options = granit_parser::options! {
        disallow_directives: true,
        emit_unresolved_aliases: true,
        emit_comments: false,
        simple_key_max_lookahead: 16 * MAX_KEY_CHARS,
        flow_nesting_limit: MAX_NESTING,
        block_nesting_limit: MAX_NESTING,
    };
    let mut builder = Builder {
        cx,
        open: Vec::new(),
        root: None,
        document_count: 0,
    };
    for next in Parser::new_from_str_with_options(text, options) {
        match next {
            Ok((event, span)) => {
                if let Err(refusal) = builder.take(event, position(&span.start)) {
                    cx.problem(refusal.at, &builder.path(), refusal.message);
                    return None;
                }
            }
            Err(error) => {
                cx.problem(position(error.marker()), &builder.path(), syntax_message(&error));
                return None;
            }
        }
    }
    Some(
        builder
            .root
            .filter(|root| !matches!(root.value, Value::Null))
            .unwrap_or(Node {
                at: Position { line: 1, column: 1 },
                value: Value::Map(Vec::new()),
            }),
    )
}

fn position(marker: &Marker) -> Position {
    Position {
        line: marker.line().max(1),
        column: marker.col().saturating_add(1),
    }
}

fn syntax_message(error: &ScanError) -> String {
    match error.kind() {
        granit_parser::ErrorKind::DirectiveDisallowed => {
            "YAML directives (`%…`) are not used here; remove the line".to_owned()
        }
        _ => format!(
            "this is not YAML: {}; quote text that holds `: `, ` #` or starts with a special character",
            error.info()
        ),
    }
}

struct Refusal {
    at: Position,
    message: String,
}

fn refuse<T>(at: Position, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal {
        at,
        message: message.into(),
    })
}

enum Open {
    Seq(Position, Vec<Node>),
    Map(OpenMap),
}

struct OpenMap {
    at: Position,
    entries: Vec<Entry>,
    first_places: HashMap<String, Position>,
    pending: Option<(String, Position)>,
}

struct Builder<'a, 'c> {
    cx: &'a Context<'c>,
    open: Vec<Open>,
    root: Option<Node>,
    document_count: usize,
}

impl Builder<'_, '_> {
    fn take(&mut self, event: Event<'_>, at: Position) -> Result<(), Refusal> {
        match event {
            Event::DocumentStart(..) => {
                self.document_count += 1;
                if self.document_count > 1 {
                    return refuse(
                        at,
                        "a second YAML document (`---`); a configuration is one document",
                    );
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                refuse_extras(anchor, tag.is_some(), at)?;
                let plain = style == ScalarStyle::Plain;
                let value = match text.as_ref() {
                    "" | "~" | "null" | "Null" | "NULL" if plain => Value::Null,
                    _ => Value::Scalar(text.into_owned()),
                };
                self.add(Node { at, value })?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                refuse_extras(anchor, tag.is_some(), at)?;
                self.refuse_as_key(at)?;
                self.open.push(Open::Seq(at, Vec::new()));
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse_extras(anchor, tag.is_some(), at)?;
                self.refuse_as_key(at)?;
                self.open.push(Open::Map(OpenMap {
                    at,
                    entries: Vec::new(),
                    first_places: HashMap::new(),
                    pending: None,
                }));
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let node = match self.open.pop() {
                    Some(Open::Seq(at, items)) => Node {
                        at,
                        value: Value::Seq(items),
                    },
                    Some(Open::Map(map)) => Node {
                        at: map.at,
                        value: Value::Map(map.entries),
                    },
                    None => return refuse(at, "a list or mapping ends that never began"),
                };
                self.add(node)?;
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                return refuse(at, "YAML aliases (`*name`) are not used here; repeat the value");
            }
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            // Comments and anchor metadata are switched off above; what a later parser adds is not read blindly.
            _ => {
                return refuse(
                    at,
                    "this part of YAML is not used here; write mappings, lists and text",
                );
            }
        }
        Ok(())
    }

    fn refuse_as_key(&self, at: Position) -> Result<(), Refusal> {
        match self.open.last() {
            Some(Open::Map(map)) if map.pending.is_none() => {
                refuse(at, "a key must be plain text, not a list or a mapping")
            }
            _ => Ok(()),
        }
    }

    fn add(&mut self, node: Node) -> Result<(), Refusal> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::Seq(_, items)) => items.push(node),
            Some(Open::Map(map)) => match map.pending.take() {
                None => {
                    let key = match node.value {
                        Value::Scalar(text) if !text.is_empty() => text,
                        _ => return refuse(node.at, "a key must be plain text and not empty"),
                    };
                    if key.chars().count() > MAX_KEY_CHARS {
                        return refuse(node.at, format!("a key has at most {MAX_KEY_CHARS} characters"));
                    }
                    map.pending = Some((key, node.at));
                }
                Some((key, at)) => match map.first_places.get(&key).copied() {
                    None => {
                        map.first_places.insert(key.clone(), at);
                        map.entries.push(Entry { key, at, node });
                    }
                    Some(first) => {
                        let path = join(&self.path(), &key);
                        self.cx.problem(
                            at,
                            &path,
                            format!(
                                "this key stands twice: first at {}:{}; keep one of the two",
                                first.line, first.column
                            ),
                        );
                    }
                },
            },
        }
        Ok(())
    }

    /// The dotted path of what is being read.
    fn path(&self) -> String {
        self.open.iter().fold(String::new(), |path, open| match open {
            Open::Seq(_, items) => format!("{path}[{}]", items.len()),
            Open::Map(map) => match &map.pending {
                Some((key, _)) => join(&path, key),
                None => path,
            },
        })
    }
}

/// A dotted path with one more key.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn refuse_extras(anchor: usize, has_tag: bool, at: Position) -> Result<(), Refusal> {
    if anchor != 0 {
        return refuse(at, "YAML anchors (`&name`) are not used here; remove the anchor");
    }
    if has_tag {
        return refuse(at, "YAML tags (`!name`) are not used here; remove the tag");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let env = |_: &str| None;
        let cx = Context::new("f.yaml", &env);
        parse(text, &cx);
        cx.into_problems().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nodes_know_their_place() {
        let env = |_: &str| None;
        let cx = Context::new("f.yaml", &env);
        let root = parse("a:\n  b: [1, 2]\n", &cx).unwrap();
        let Value::Map(entries) = root.value else {
            panic!("a mapping")
        };
        let Value::Map(inner) = &entries[0].node.value else {
            panic!("a mapping")
        };
        assert_eq!(inner[0].at, Position { line: 2, column: 3 });
        let Value::Seq(items) = &inner[0].node.value else {
            panic!("a list")
        };
        assert_eq!(items[1].at, Position { line: 2, column: 10 });
        assert!(cx.into_problems().is_empty());
    }

    #[test]
    fn duplicate_keys_are_told_with_both_places() {
        assert_eq!(
            problems("a:\n  b: 1\n  c: 2\n  b: 3\n"),
            ["f.yaml:4:3: a.b: this key stands twice: first at 2:3; keep one of the two"]
        );
    }

    #[test]
    fn anchors_aliases_tags_directives_and_documents_are_refused() {
        for (text, place, word) in [
            ("a: &x 1\nb: 2\n", ":1:", "anchors"),
            ("a: *x\n", ":1:4: a", "aliases"),
            ("a: !!str 1\n", ":1:", "tags"),
            ("a: !x [1]\n", ":1:", "tags"),
            ("%YAML 1.1\n---\na: 1\n", ":1:1", "directives"),
            ("a: 1\n---\nb: 2\n", ":2:1", "second YAML document"),
            ("? [a]\n: 1\n", ":1:", "plain text"),
            ("~: 1\n", ":1:1", "plain text"),
            ("a: [1\n", ":", "not YAML"),
            ("a: b: c\n", ":1:", "not YAML"),
        ] {
            let found = problems(text);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(
                found[0].contains(place) && found[0].contains(word),
                "{text}: {found:?}"
            );
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_stack_overflow() {
        for text in ["[".repeat(200_000), "{a: ".repeat(200_000), "- ".repeat(200_000)] {
            assert_eq!(problems(&text).len(), 1);
        }
    }
}
