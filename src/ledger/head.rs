//! The head: one immutable file per commit that says all that the ledger holds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::entry::{Entry, Space};
use super::{FORMAT_VERSION, damaged};
use crate::error::{Error, ErrorKind, Result};

/// What stands before the checksum in a head's file.
const CHECKSUM: &str = ",\"checksum\":\"";

/// What a head says. As a file it is JSON of at most some 64 KiB for tables of up to 2,000 messages a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LedgerHead {
    format_version: u32,
    /// The table whose ledger it is. A head of another table came with copied properties and says nothing.
    pub table_uuid: Uuid,
    /// One more than the parent's; never falls.
    pub sequence: u64,
    /// The head before, for whoever looks into it by hand.
    pub parent: Option<String>,
    /// The commit that it came with.
    pub commit_id: Uuid,
    /// The newest index time of any message, in seconds since the Unix epoch.
    pub newest: i64,
    /// Messages with an older index time cannot be proven new any more. Never falls.
    pub floor: i64,
    /// The ledger's own time, in milliseconds: the clock of whoever began it, and since then only what its committers
    /// measured from taking up a head to making the next one. It never runs faster than time does, whatever their clocks
    /// say, and stands still while nobody holds its newest head. Absent in heads of before there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<i64>,
    /// Entries that are not in a segment yet, sorted.
    #[serde(serialize_with = "write_entries", deserialize_with = "read_entries")]
    pub entries: Vec<Entry>,
    /// The segments, oldest first.
    pub segments: Vec<SegmentRef>,
}

/// A segment as a head names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SegmentRef {
    /// The kind of all its entries.
    pub space: Space,
    /// The file, in the ledger's folder.
    pub name: String,
    /// Entries in it.
    pub entry_count: u64,
    /// The file's size.
    pub byte_count: u64,
    /// The oldest index time in it.
    pub min_time: i64,
    /// The newest index time in it.
    pub max_time: i64,
    /// When the newest of its entries was committed, in seconds of the ledger's own time.
    pub committed_at: i64,
}

impl LedgerHead {
    /// The head before the first commit.
    pub(super) fn empty(table_uuid: Uuid) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            table_uuid,
            sequence: 0,
            parent: None,
            commit_id: Uuid::nil(),
            newest: i64::MIN,
            floor: i64::MIN,
            time: None,
            entries: Vec::new(),
            segments: Vec::new(),
        }
    }

    /// The version of the files' format that wrote it.
    pub fn format_version(&self) -> u32 {
        self.format_version
    }

    /// Entries in all, inline and in segments.
    pub fn entry_count(&self) -> u64 {
        let inline = self.entries.len() as u64;
        self.segments
            .iter()
            .fold(inline, |sum, segment| sum.saturating_add(segment.entry_count))
    }

    /// The file: the head as JSON, with a checksum of all before it as the last field.
    pub(super) fn to_bytes(&self) -> Result<Bytes> {
        let mut bytes = serde_json::to_vec(self).map_err(|error| {
            Error::new(
                ErrorKind::Rejected,
                "The ledger's head cannot be written as JSON.",
            )
            .with_source(error)
        })?;
        bytes.truncate(bytes.len().saturating_sub(1));
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(format!("{CHECKSUM}{checksum}\"}}").as_bytes());
        Ok(bytes.into())
    }

    /// # Errors
    /// [`ErrorKind::Rejected`] when the bytes are no head, or one of a newer version of landfast.
    pub(super) fn parse(bytes: &[u8], location: &str) -> Result<Self> {
        let unreadable = |error: serde_json::Error| damaged("The head", location).with_source(error);
        let found: Versioned = serde_json::from_slice(bytes).map_err(unreadable)?;
        if found.format_version > FORMAT_VERSION {
            return Err(Error::new(
                ErrorKind::Rejected,
                "A newer version of landfast writes the table's ledger; use that version.",
            )
            .with("location", location)
            .with("format-version", found.format_version)
            .with("newest known here", FORMAT_VERSION));
        }
        if !is_as_written(bytes) {
            return Err(damaged("The head", location).with("cause", "its checksum is another"));
        }
        serde_json::from_slice(bytes).map_err(unreadable)
    }
}

/// Ids are random bytes, so nothing else would show that one of them was changed on disk. A head of before there were
/// checksums has none, and is taken as it is.
fn is_as_written(bytes: &[u8]) -> bool {
    let Some(place) = bytes
        .windows(CHECKSUM.len())
        .rposition(|window| window == CHECKSUM.as_bytes())
    else {
        return true;
    };
    let (body, said) = bytes.split_at(place);
    said == format!("{CHECKSUM}{}\"}}", checksum(body)).as_bytes()
}

fn checksum(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// All that is read of a head before it is known to be one that this version understands.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Versioned {
    format_version: u32,
}

/// The version of the format that a head says it is of.
pub(super) fn version_of(bytes: &[u8]) -> Option<u32> {
    let found: Versioned = serde_json::from_slice(bytes).ok()?;
    Some(found.format_version)
}

/// Entries as base64 of fixed fields: a byte for the space, 8 for the time, 16 for the id, 2 for the value's length, all
/// big-endian, and the value.
fn write_entries<S: Serializer>(entries: &[Entry], serializer: S) -> Result<S::Ok, S::Error> {
    let mut bytes = Vec::with_capacity(entries.len() * 27);
    for entry in entries {
        let length = u16::try_from(entry.value.len()).map_err(serde::ser::Error::custom)?;
        bytes.extend_from_slice(entry.space.letter().as_bytes());
        bytes.extend_from_slice(&entry.index_time.to_be_bytes());
        bytes.extend_from_slice(&entry.id.to_be_bytes());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&entry.value);
    }
    serializer.serialize_str(&BASE64.encode(bytes))
}

fn read_entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Entry>, D::Error> {
    use serde::de::Error as _;
    let text = String::deserialize(deserializer)?;
    let mut bytes = Bytes::from(BASE64.decode(text).map_err(D::Error::custom)?);
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        entries.push(read_entry(&mut bytes).ok_or_else(|| D::Error::custom("an entry is cut short"))?);
    }
    Ok(entries)
}

fn read_entry(bytes: &mut Bytes) -> Option<Entry> {
    fn take<const N: usize>(bytes: &mut Bytes) -> Option<[u8; N]> {
        let field = bytes.get(..N)?.try_into().ok()?;
        bytes::Buf::advance(bytes, N);
        Some(field)
    }
    let [space] = take::<1>(bytes)?;
    let index_time = i64::from_be_bytes(take(bytes)?);
    let id = u128::from_be_bytes(take(bytes)?);
    let length = usize::from(u16::from_be_bytes(take(bytes)?));
    if bytes.len() < length {
        return None;
    }
    let value = bytes.split_to(length);
    Some(Entry {
        space: Space::from_byte(space)?,
        index_time,
        id,
        value: Bytes::copy_from_slice(&value),
    })
}
