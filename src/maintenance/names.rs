//! Which files are ours by their name, and the names that something still holds.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use serde::Serialize;
use uuid::Uuid;

use crate::catalog::{VERSION_HINT, version_of};
use crate::ledger::is_mark;
use crate::storage::staged_name;

/// What a file is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Rows.
    DataFile,
    /// A manifest.
    Manifest,
    /// A snapshot's manifest list.
    ManifestList,
    /// A state of the table.
    Metadata,
    /// A head of the ledger.
    LedgerHead,
    /// A segment of the ledger.
    LedgerSegment,
    /// Half a file, left by a process that was killed.
    Staging,
    /// None of ours.
    Other,
}

impl Kind {
    /// As a person reads it, in the plural.
    pub fn name(self) -> &'static str {
        match self {
            Self::DataFile => "data files",
            Self::Manifest => "manifests",
            Self::ManifestList => "manifest lists",
            Self::Metadata => "metadata files",
            Self::LedgerHead => "ledger heads",
            Self::LedgerSegment => "ledger segments",
            Self::Staging => "half-written files",
            Self::Other => "other files",
        }
    }

    /// The kind of a file by its path below the table's folder.
    ///
    /// Below `data` only partition folders (`name=value`) are looked into: another table's folder may lie there.
    pub(super) fn in_table(path: &str) -> Self {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        if let Some(staged) = staged_name(name) {
            let ours = Self::in_table(&format!("{folder}/{staged}")) != Self::Other
                || (folder, staged) == ("metadata", VERSION_HINT);
            return if ours { Self::Staging } else { Self::Other };
        }
        let mut folders = folder.split('/');
        match folders.next() {
            Some("data") if folders.all(|level| level.contains('=')) => match name.strip_suffix(".parquet") {
                Some(id) if is_uuid(id) => Self::DataFile,
                _ => Self::Other,
            },
            Some("metadata") if folders.next().is_none() => Self::in_metadata(name),
            _ => Self::Other,
        }
    }

    fn in_metadata(name: &str) -> Self {
        if let Some(stem) = name.strip_suffix(".avro") {
            return match stem.strip_prefix("snap-").map(|rest| rest.split_once("-1-")) {
                Some(Some((id, uuid))) if is_number(id) && is_uuid(uuid) => Self::ManifestList,
                Some(_) => Self::Other,
                None => match stem.strip_suffix("-m0").or_else(|| stem.strip_suffix("-m1")) {
                    Some(uuid) if is_uuid(uuid) => Self::Manifest,
                    _ => Self::Other,
                },
            };
        }
        match version_of(name).is_some() || is_sql_metadata(name) {
            true => Self::Metadata,
            false => Self::Other,
        }
    }

    /// The kind of a file by its path below the table's ledger folder. The mark of the first head is of no kind: it stays.
    pub(super) fn in_ledger(name: &str) -> Self {
        if let Some(staged) = staged_name(name) {
            return match Self::in_ledger(staged) {
                Self::Other if !is_mark(staged) => Self::Other,
                _ => Self::Staging,
            };
        }
        let head = name
            .strip_prefix("head-")
            .and_then(|rest| rest.strip_suffix(".json"));
        if let Some((number, uuid)) = head.and_then(|head| head.split_once('-')) {
            let ours = is_number(number) && is_uuid(uuid);
            return if ours { Self::LedgerHead } else { Self::Other };
        }
        let segment = name
            .strip_prefix("segment-")
            .and_then(|rest| rest.strip_suffix(".parquet"));
        match segment {
            Some(uuid) if is_uuid(uuid) => Self::LedgerSegment,
            _ => Self::Other,
        }
    }
}

/// `NNNNN-uuid.metadata.json`, as the `sql` catalog and Java name them.
fn is_sql_metadata(name: &str) -> bool {
    let stem = name.strip_suffix(".metadata.json");
    let parts = stem.and_then(|stem| stem.split_once('-'));
    parts.is_some_and(|(number, uuid)| number.len() >= 5 && is_number(number) && is_uuid(uuid))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_uuid(text: &str) -> bool {
    Uuid::try_parse(text).is_ok_and(|uuid| uuid.to_string() == text)
}

/// File names that something names, by their hash: eight bytes a file. Ours hold a UUID, so the folder does not matter, and
/// another engine's way to write a location does not either. A collision keeps a file.
#[derive(Debug, Default)]
pub(super) struct Names {
    hasher: RandomState,
    hashes: HashSet<u64>,
}

impl Names {
    /// Takes in a location, or a name.
    pub(super) fn insert(&mut self, location: &str) {
        let hash = self.hash(location);
        self.hashes.insert(hash);
    }

    /// Whether the name of this location was taken in.
    pub(super) fn contain(&self, location: &str) -> bool {
        self.hashes.contains(&self.hash(location))
    }

    fn hash(&self, location: &str) -> u64 {
        self.hasher
            .hash_one(location.rsplit('/').next().unwrap_or(location))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "5f0c54a4-8a9f-4e1c-9d3a-0f2f6f0c1a77";

    #[test]
    fn ours_are_known_by_their_names() {
        for (path, kind) in [
            (format!("data/{ID}.parquet"), Kind::DataFile),
            (
                format!("data/day=2026-11-21/k=a%2Fb/{ID}.parquet"),
                Kind::DataFile,
            ),
            (format!("data/day=2026-11-21/{ID}.parquet#3"), Kind::Staging),
            (format!("metadata/{ID}-m0.avro"), Kind::Manifest),
            (format!("metadata/{ID}-m1.avro"), Kind::Manifest),
            (format!("metadata/snap-12-1-{ID}.avro"), Kind::ManifestList),
            ("metadata/v12.metadata.json".to_owned(), Kind::Metadata),
            ("metadata/v12.metadata.json#1".to_owned(), Kind::Staging),
            ("metadata/version-hint.text#1".to_owned(), Kind::Staging),
            (format!("metadata/00012-{ID}.metadata.json"), Kind::Metadata),
        ] {
            assert_eq!(Kind::in_table(&path), kind, "{path}");
        }
        assert_eq!(
            Kind::in_ledger(&format!("head-000000000012-{ID}.json")),
            Kind::LedgerHead
        );
        assert_eq!(
            Kind::in_ledger(&format!("segment-{ID}.parquet")),
            Kind::LedgerSegment
        );
        for name in [
            format!("segment-{ID}.parquet#1"),
            format!("landed-head-000000000001-{ID}.json#2"),
        ] {
            assert_eq!(Kind::in_ledger(&name), Kind::Staging, "{name}");
        }
    }

    #[test]
    fn anything_else_is_none_of_ours() {
        let upper = ID.to_uppercase();
        for path in [
            format!("data/00000-0-{ID}.parquet"),
            format!("data/{ID}-00001.parquet"),
            format!("data/{upper}.parquet"),
            format!("data/{ID}.orc"),
            format!("{ID}.parquet"),
            // A table `data`, or any other, in a namespace that has this table's name.
            format!("data/data/{ID}.parquet"),
            format!("data/metadata/{ID}-m0.avro"),
            format!("metadata/metadata/{ID}-m0.avro"),
            format!("other/data/{ID}.parquet"),
            format!("metadata/{ID}-m2.avro"),
            format!("metadata/snap-1-2-{ID}.avro"),
            format!("metadata/snap-x-1-{ID}.avro"),
            format!("metadata/{ID}.metadata.json"),
            format!("metadata/1-{ID}.metadata.json"),
            format!("metadata/00001-{ID}.gz.metadata.json"),
            format!("metadata/{ID}.stats"),
            "metadata/version-hint.text".to_owned(),
            "metadata/v07.metadata.json".to_owned(),
            "notes.txt#1".to_owned(),
        ] {
            assert_eq!(Kind::in_table(&path), Kind::Other, "{path}");
        }
        for name in ["head-1.json", "head-x-y.json", "segment-1.parquet", "notes.txt"] {
            assert_eq!(Kind::in_ledger(name), Kind::Other, "{name}");
        }
        assert_eq!(
            Kind::in_ledger(&format!("landed-head-000000000001-{ID}.json")),
            Kind::Other
        );
    }

    #[test]
    fn names_are_held_whatever_the_folder() {
        let mut names = Names::default();
        names.insert("file:/w/t/data/a.parquet");
        assert!(names.contain("t/data/a.parquet"));
        assert!(!names.contain("t/data/b.parquet"));
    }
}
