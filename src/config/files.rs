//! Files: the folders that are watched for them, and which of them a table or route takes.

use std::collections::BTreeSet;
use std::fmt;

use super::Config;
use super::conditions::{ATTRIBUTES, SUBSCRIPTION_KEY};
use super::key::{Key, Shape, Text};
use super::location::{LANDING, Location, Scheme};
use super::mapping::Mapping;
use super::reader::Field;
use super::schema::SchemaConfig;

pub(super) const BUCKET: Key = Key::optional(
    "bucket",
    Shape::Text(&LANDING),
    "none",
    "takes files instead of messages: the name of a Cloud Storage bucket whose notifications or Eventarc events are pushed to \
     `/`, or a folder that is watched, `file:///…`, which is made if it is missing",
);
pub(super) const OBJECTS: Key = Key::optional(
    "objects",
    Shape::Text(&NAMES),
    "any",
    "what the file's name, relative to the folder, must match: `*` stands for any text within one level, `**` for any \
     text over levels, `**/` for any levels or none",
);

const NAMES: Text = Text {
    accepted: "the files' names in the folder, such as `orders/**`: `*` stands for any text within one level, `**` for any \
               text over levels",
    pattern: Some(|| {
        let others: String = NO_WILDCARDS.chars().map(|c| format!(r"\{c}")).collect();
        let level = format!(r"(?!\.{{1,2}}(?:/|$))[^/{others}]+");
        format!(r"^(?!.*\*{{3}}){level}(?:/{level})*$")
    }),
    any_scalar: true,
};

/// What other patterns have for wildcards and escapes.
const NO_WILDCARDS: &str = r"?[]{}\";

/// Conditions on a file. Keys `bucket` and `objects` of an item of `from`, and of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMatch {
    /// Key `bucket`: the bucket, as `gs://NAME`, or the folder that is watched. It lies apart from the warehouse, the dead
    /// letters and other folders.
    pub bucket: Location,
    /// Key `objects`, default any: what the file's name relative to the folder must match.
    pub objects: Option<ObjectGlob>,
}

/// A pattern over whole names of files: `*` stands for any text within one level, `**` for any text over levels, and
/// `**/` for any levels or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectGlob(String);

impl ObjectGlob {
    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads a pattern; the error is a clause.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let levels = || text.split('/');
        if text.is_empty() || levels().any(|level| matches!(level, "" | "." | "..")) {
            return Err(format!("`{text}` could match no file's name"));
        }
        if let Some(other) = text.chars().find(|c| NO_WILDCARDS.contains(*c) || c.is_control()) {
            return Err(format!("`{text}` holds {other:?}, which is no wildcard here"));
        }
        if text.contains("***") {
            return Err(format!("`{text}` has more than two stars in a row"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ObjectGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Config {
    /// The folders that `tables` and `routes` take files from.
    pub fn landing_folders(&self) -> BTreeSet<&Location> {
        self.landing(Scheme::File)
    }

    /// The buckets that `tables` and `routes` take objects from.
    pub fn landing_buckets(&self) -> BTreeSet<&Location> {
        self.landing(Scheme::Gcs)
    }

    fn landing(&self, scheme: Scheme) -> BTreeSet<&Location> {
        let tables = self.tables.values().flat_map(|table| &table.from);
        let routes = self.routes.iter().map(|route| &route.files);
        tables
            .map(|from| &from.files)
            .chain(routes)
            .flatten()
            .map(|files| &files.bucket)
            .filter(|bucket| bucket.scheme() == scheme)
            .collect()
    }
}

/// Where files go that landed: `landed` beside the folder they were put into.
pub(crate) fn landed_beside(landing: &Location) -> Location {
    landing.sibling("landed")
}

/// Reads the conditions on a file. `Err` when one of them is wrong.
pub(super) fn read_files(keys: &mut Mapping<'_>) -> Result<Option<FileMatch>, ()> {
    let (bucket, objects) = (keys.key(&BUCKET), keys.key(&OBJECTS));
    let Some(bucket) = bucket else {
        return match objects {
            None => Ok(None),
            Some(objects) => {
                objects.key_problem(format!(
                    "`objects` goes with `bucket`; write {} as the `bucket`",
                    LANDING.accepted
                ));
                Err(())
            }
        };
    };
    let has_message = keys.has_any(&[SUBSCRIPTION_KEY.name, ATTRIBUTES.name]);
    if has_message {
        bucket.key_problem(
            "a file has no subscription and no attributes, so nothing would match; write two items, one with `bucket`",
        );
    }
    let objects = objects.map(|field| field.parse(ObjectGlob::parse).ok_or(()));
    let bucket = read_bucket(&bucket).ok_or(())?;
    if has_message {
        return Err(());
    }
    Ok(Some(FileMatch {
        bucket,
        objects: objects.transpose()?,
    }))
}

/// Checks what concerns the whole configuration.
pub(super) fn check(config: &Config, root: &Field<'_>) {
    if config.defaults.schema == SchemaConfig::Envelope
        && config.routes.iter().any(|route| route.files.is_some())
    {
        root.problem(
            "a route with `bucket` makes tables of `defaults`, which are raw envelopes, and those take messages, not files; \
             write another `schema` there",
        );
    }
    let is_folder = config.dead_letters.scheme() == Scheme::File && config.dead_letter_topic.is_none();
    if !is_folder && !config.landing_folders().is_empty() {
        root.problem(
            "files that are refused are moved into the dead letters, so with a `bucket` those are a folder; write \
             `dead_letters: file:///…`",
        );
    }
}

fn read_bucket(field: &Field<'_>) -> Option<Location> {
    let bucket = field.parse(|text| {
        if !text.contains([':', '/']) && !text.is_empty() {
            return Location::parse(&format!("gs://{text}"));
        }
        let bucket = Location::parse(text)?;
        match bucket.scheme() {
            Scheme::File => Ok(bucket),
            Scheme::Gcs if bucket.path().is_empty() => Ok(bucket),
            Scheme::Gcs => Err(format!(
                "`{text}` is a folder in a bucket, whose events tell of all of it; write the bucket's name, and the folder \
                 in `objects`"
            )),
            Scheme::Memory => Err(format!("`{text}` is no folder that files could be put into")),
            Scheme::S3 => Err(format!(
                "`{text}` is in a store whose events landfast does not take"
            )),
        }
    })?;
    if bucket.scheme() == Scheme::Gcs {
        return field.apart("the landing bucket", &bucket).then_some(bucket);
    }
    if landed_beside(&bucket) == bucket {
        field.problem(
            "files that landed are moved into the folder `landed` beside theirs; write another folder",
        );
        return None;
    }
    field.apart("the landing folder", &bucket).then_some(())?;
    field
        .apart("the folder of landed files", &landed_beside(&bucket))
        .then_some(bucket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_match_no_name_are_refused_with_the_reason() {
        for good in ["orders/**", "*.json", "**/2026-*/*.gz", "a b/é.json", "**"] {
            assert_eq!(ObjectGlob::parse(good).unwrap().as_str(), good);
        }
        for (text, word) in [
            ("", "no file's name"),
            ("/orders/*", "no file's name"),
            ("orders/", "no file's name"),
            ("../*", "no file's name"),
            ("a//b", "no file's name"),
            ("a?", "'?'"),
            ("[ab]*", "'['"),
            ("{a,b}", "'{'"),
            ("a***", "two stars"),
        ] {
            let error = ObjectGlob::parse(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
