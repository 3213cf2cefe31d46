//! What a table's ledger holds, from its head alone.

use std::collections::BTreeMap;

use iceberg::TableIdent;
use serde::Serialize;

use super::time_of;
use crate::commit::Engine;
use crate::error::Result;
use crate::ledger::{LedgerHead, Space};

/// A ledger at a glance.
#[derive(Debug, Serialize)]
pub struct LedgerPage {
    /// The table.
    pub table: String,
    /// The head in use; none before the first commit.
    pub pointer: Option<String>,
    /// Its number.
    pub sequence: u64,
    /// The version of the files' format.
    pub format_version: u32,
    /// Deliveries that are remembered.
    pub entries: u64,
    /// Of them, those in the head itself.
    pub inline_entries: u64,
    /// By kind: messages, kept, requests.
    pub spaces: BTreeMap<&'static str, SpacePage>,
    /// Messages published before this cannot be proven new any more.
    pub floor: Option<String>,
    /// The newest publish time of any message.
    pub newest: Option<String>,
    /// Segments, and their bytes.
    pub segments: u64,
    /// Bytes of the segments.
    pub segment_bytes: u64,
}

/// The entries of one kind.
#[derive(Debug, Default, Serialize)]
pub struct SpacePage {
    /// Entries.
    pub entries: u64,
    /// Segments that hold them.
    pub segments: u64,
    /// Bytes of the segments.
    pub bytes: u64,
}

/// Shows a table's ledger. Reads its head, no segment.
///
/// # Errors
/// [`ErrorKind::NotFound`](crate::error::ErrorKind::NotFound) when there is no such table, and those of
/// [`Ledger::open`](crate::ledger::Ledger::open): a ledger that cannot be used is not shown.
pub async fn show(engine: &Engine, ident: &TableIdent) -> Result<LedgerPage> {
    let table = engine.catalog().load_table(ident).await?;
    let state = engine.ledger().open(&table).await?;
    let head = state.head();
    Ok(LedgerPage {
        table: ident.to_string(),
        pointer: state.location().map(str::to_owned),
        sequence: head.sequence,
        format_version: head.format_version(),
        entries: head.entry_count(),
        inline_entries: head.entries.len() as u64,
        spaces: spaces(head),
        floor: time_of(head.floor),
        newest: time_of(head.newest),
        segments: head.segments.len() as u64,
        segment_bytes: head.segments.iter().map(|segment| segment.byte_count).sum(),
    })
}

fn spaces(head: &LedgerHead) -> BTreeMap<&'static str, SpacePage> {
    let name = |space| match space {
        Space::Message => "messages",
        Space::Kept => "kept",
        Space::Request => "requests",
    };
    let mut spaces: BTreeMap<&'static str, SpacePage> = Space::ALL
        .into_iter()
        .map(|space| (name(space), SpacePage::default()))
        .collect();
    for entry in &head.entries {
        spaces.entry(name(entry.space)).or_default().entries += 1;
    }
    for segment in &head.segments {
        let space = spaces.entry(name(segment.space)).or_default();
        space.entries += segment.entry_count;
        space.segments += 1;
        space.bytes += segment.byte_count;
    }
    spaces
}
