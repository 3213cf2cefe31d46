//! A place in a store: where the warehouse and the dead letters live.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::key::Text;
use crate::error::{Error, ErrorKind};

/// A location.
pub(super) const LOCATION: Text = Text {
    accepted: "a location such as `s3://bucket/warehouse`, `gs://bucket/warehouse` or \
               `file:///var/lib/landfast/warehouse` (or `memory:///` in tests)",
    pattern: Some(|| {
        let folders = folder_pattern(&[Scheme::File, Scheme::Memory]);
        format!("^(?:{folders}|{})$", bucket_pattern(&[Scheme::S3, Scheme::Gcs]))
    }),
    any_scalar: false,
};

/// Where files are put: a bucket, or a folder of this machine.
pub(super) const LANDING: Text = Text {
    accepted: "the name of a Cloud Storage bucket such as `acme-landing`, or a folder of this machine such as \
               `file:///srv/landing`",
    pattern: Some(|| {
        let folder = folder_pattern(&[Scheme::File]);
        format!("^(?:{folder}|(?:gs://)?{BUCKET_PATTERN}/?)$")
    }),
    any_scalar: false,
};

const BUCKET_PATTERN: &str = "[a-z0-9][a-z0-9._-]+[a-z0-9]";

fn folder_pattern(schemes: &[Scheme]) -> String {
    format!(r"(?:{}):/(?!/[^/])[^%?#*\\]*", names(schemes))
}

fn bucket_pattern(schemes: &[Scheme]) -> String {
    let schemes = names(schemes);
    format!(r"(?:{schemes})://{BUCKET_PATTERN}(?:/[^%?#*\\]*)?")
}

fn names(schemes: &[Scheme]) -> String {
    let names: Vec<&str> = schemes.iter().map(|scheme| scheme.name()).collect();
    names.join("|")
}

/// Schemes of stores that later versions bring.
const LATER_SCHEMES: [&str; 5] = ["az", "abfs", "abfss", "wasb", "wasbs"];

/// Hadoop's names of S3.
const HADOOP_SCHEMES: [&str; 2] = ["s3a", "s3n"];

/// The kind of store that a [`Location`] is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// A folder of this machine.
    File,
    /// The memory of this process: gone when it ends.
    Memory,
    /// A bucket of Amazon S3, or of a server that speaks its protocol.
    S3,
    /// A bucket of Google Cloud Storage.
    Gcs,
}

impl Scheme {
    /// The name before `://`.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Memory => "memory",
            Self::S3 => "s3",
            Self::Gcs => "gs",
        }
    }

    fn has_buckets(self) -> bool {
        matches!(self, Self::S3 | Self::Gcs)
    }
}

/// A folder in a store, written as a URL: `file:///lake/warehouse`, `s3://bucket/warehouse`.
///
/// The path is absolute, starts with `/`, does not end with one (the root of a store or bucket is the empty path), has no
/// empty, `.` or `..` segments, and is literal: engines disagree on `%`, `?` and `#`, so those are refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    scheme: Scheme,
    /// Empty where the store has no buckets.
    bucket: String,
    path: String,
}

impl Location {
    /// Reads a URL.
    ///
    /// # Errors
    /// A clause that says what is wrong with the URL; [`LOCATION`] says what is right.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = url.split_once(':') else {
            return Err(format!("`{url}` is not a URL"));
        };
        let scheme = match scheme {
            "file" => Scheme::File,
            "memory" => Scheme::Memory,
            "s3" => Scheme::S3,
            "gs" => Scheme::Gcs,
            hadoop if HADOOP_SCHEMES.contains(&hadoop) => {
                return Err(format!("`{hadoop}://` is Hadoop's name of `s3://`"));
            }
            later if LATER_SCHEMES.contains(&later) => {
                return Err(format!("`{later}://` is not in this version of landfast"));
            }
            _ => return Err(format!("`{scheme}:` is not a store that landfast knows")),
        };
        if scheme.has_buckets() {
            // Whatever stands there is not repeated.
            if rest.contains('@') {
                return Err("an `@` in the location looks like a key before a bucket".to_owned());
            }
            return Self::in_bucket(scheme, rest).map_err(|reason| format!("`{url}` {reason}"));
        }
        let path = match rest.strip_prefix("//") {
            // An authority would be a host: a folder on another machine, or a forgotten slash.
            Some(path) if !path.starts_with('/') => {
                return Err(format!("`{url}` names a host; three slashes begin a path"));
            }
            Some(path) => path,
            None => rest,
        };
        Self::new(scheme, "", path).map_err(|reason| format!("`{url}` {reason}"))
    }

    fn in_bucket(scheme: Scheme, rest: &str) -> Result<Self, String> {
        let rest = rest.strip_prefix("//").ok_or("names no bucket")?;
        let (bucket, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        let at_the_ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let is_name = bucket.len() >= 3
            && bucket.chars().all(inside)
            && bucket.starts_with(at_the_ends)
            && bucket.ends_with(at_the_ends);
        if !is_name {
            return Err("names no bucket: three or more of `a-z`, `0-9`, `.`, `_` and `-`".to_owned());
        }
        Self::new(scheme, bucket, if path.is_empty() { "/" } else { path })
    }

    /// The location of a folder of this machine, made absolute against the working directory.
    ///
    /// # Errors
    /// A clause that says what is wrong with the path.
    pub(super) fn folder(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let absolute = std::path::absolute(path)
            .map_err(|error| format!("`{shown}` cannot be made absolute: {error}"))?;
        let text = absolute
            .to_str()
            .ok_or_else(|| format!("`{shown}` is not Unicode"))?;
        Self::new(Scheme::File, "", text).map_err(|reason| format!("`{shown}` {reason}"))
    }

    fn new(scheme: Scheme, bucket: &str, path: &str) -> Result<Self, String> {
        if !path.starts_with('/') {
            return Err("is not an absolute path".to_owned());
        }
        if let Some(bad) = path.chars().find(|c| c.is_control() || "%?#*\\".contains(*c)) {
            return Err(format!("holds {bad:?}, which engines read differently"));
        }
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        if segments.iter().any(|segment| matches!(*segment, "." | "..")) {
            return Err("holds `.` or `..`".to_owned());
        }
        if segments.is_empty() && scheme == Scheme::File {
            return Err("is the root of the disk; name a folder".to_owned());
        }
        let path = segments
            .iter()
            .fold(String::new(), |path, segment| path + "/" + segment);
        Ok(Self {
            scheme,
            bucket: bucket.to_owned(),
            path,
        })
    }

    /// The kind of store.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The bucket's name; empty where the store has none.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The path in the store: absolute, without a trailing slash; empty for the root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The location of this name in the same folder; in the root of a store for the root itself.
    pub(super) fn sibling(&self, name: &str) -> Self {
        let folder = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        Self {
            scheme: self.scheme,
            bucket: self.bucket.clone(),
            path: format!("{folder}/{name}"),
        }
    }

    /// The location of this name in it.
    pub(super) fn child(&self, name: &str) -> Self {
        Self {
            path: format!("{}/{name}", self.path),
            ..self.clone()
        }
    }

    /// Whether the other location is this one or lies in it.
    pub fn contains(&self, other: &Self) -> bool {
        (self.scheme, &self.bucket) == (other.scheme, &other.bucket)
            && other
                .path
                .strip_prefix(&self.path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Reads a URL such as `file:///lake/warehouse`; the error is of kind [`ErrorKind::Config`].
impl FromStr for Location {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        Self::parse(url).map_err(|reason| {
            Error::new(
                ErrorKind::Config,
                format!("{reason}; write {}", LOCATION.accepted),
            )
        })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match self.path.as_str() {
            // A bucket is a root by itself.
            "" if self.bucket.is_empty() => "/",
            path => path,
        };
        write!(f, "{}://{}{path}", self.scheme.name(), self.bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_made_canonical() {
        for (url, canonical) in [
            ("file:///lake/warehouse", "file:///lake/warehouse"),
            ("file:/lake//warehouse/", "file:///lake/warehouse"),
            ("file:///my lake/été", "file:///my lake/été"),
            ("memory:///", "memory:///"),
            ("memory:/w", "memory:///w"),
            ("s3://acme.lake", "s3://acme.lake"),
            ("s3://acme-lake//w/", "s3://acme-lake/w"),
            ("gs://acme_lake/my lake/w", "gs://acme_lake/my lake/w"),
        ] {
            assert_eq!(Location::parse(url).unwrap().to_string(), canonical);
        }
    }

    #[test]
    fn other_urls_are_refused_with_the_reason() {
        for (url, word) in [
            ("/lake", "not a URL"),
            ("", "not a URL"),
            ("lake:x", "not a store"),
            ("s3a://lake/w", "Hadoop's name of `s3://`"),
            ("s3:/lake/w", "names no bucket"),
            ("s3:///w", "names no bucket"),
            ("s3://Lake/w", "names no bucket"),
            ("s3://key:s3cret@lake/w", "looks like a key"),
            ("gs://l-/w", "names no bucket"),
            ("gs://lake/a/../b", "`..`"),
            ("gs://lake/a%20b", "'%'"),
            ("az://lake/w", "`az://` is not in this version"),
            ("file://lake/w", "names a host"),
            ("file:lake", "absolute"),
            ("file:///", "root"),
            ("file:///a/../b", "`..`"),
            ("file:///a%20b", "'%'"),
            ("file:///a?b", "'?'"),
            ("file:///a\nb", "'\\n'"),
        ] {
            let error = Location::parse(url).unwrap_err();
            assert!(
                error.contains(word) && !error.contains("s3cret"),
                "{url}: {error}"
            );
        }
    }

    #[test]
    fn siblings_share_their_folder() {
        for (at, sibling) in [
            ("file:///lake/landing", "file:///lake/landed"),
            ("file:///in", "file:///landed"),
            ("memory:///", "memory:///landed"),
            ("s3://lake", "s3://lake/landed"),
            ("s3://lake/w", "s3://lake/landed"),
        ] {
            assert_eq!(
                Location::parse(at).unwrap().sibling("landed").to_string(),
                sibling
            );
        }
    }

    #[test]
    fn containment_respects_segments() {
        let at = |url| Location::parse(url).unwrap();
        assert!(at("file:///a").contains(&at("file:///a/b")));
        assert!(at("file:///a").contains(&at("file:///a")));
        assert!(at("memory:///").contains(&at("memory:///a")));
        assert!(!at("file:///a").contains(&at("file:///ab")));
        assert!(!at("file:///a").contains(&at("memory:///a/b")));
        assert!(at("s3://lake").contains(&at("s3://lake/b")));
        assert!(!at("s3://lake").contains(&at("s3://lake2/b")));
        assert!(!at("s3://lake/a").contains(&at("gs://lake/a")));
    }
}
