//! Proof: no delivery twice, no file twice, none missing. Reads; changes nothing.

mod deliveries;
mod files;

use iceberg::TableIdent;
use iceberg::table::Table;
use serde::Serialize;

use super::names::Names;
use super::sweep::{Folders, orphans};
use super::{Totals, reach};
use crate::commit::Engine;
use crate::error::Result;

/// What is known of a table after everything was read.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// The table.
    pub table: String,
    /// What is wrong, each with its name. None: the table is whole.
    pub findings: Vec<String>,
    /// What could not be seen, and why.
    pub unseen: Vec<String>,
    /// Snapshots that were read.
    pub snapshots: u64,
    /// Manifests that were read.
    pub manifests: u64,
    /// Data and delete files that were found in the store.
    pub data_files: u64,
    /// Deliveries in the ledger.
    pub deliveries: u64,
    /// What the next commit costs.
    pub cost: Cost,
    /// Files that nothing names, by kind. They harm nobody; `maintain` deletes those of ours, three days later.
    pub orphans: Totals,
}

/// What a commit writes anew however little it adds: the same over a table's life, or upkeep does not come to its end.
#[derive(Debug, Default, Serialize)]
pub struct Cost {
    /// Bytes of the metadata file; none where it cannot be asked for.
    pub metadata_bytes: Option<u64>,
    /// Older states in its log.
    pub metadata_log: u64,
    /// Manifests that the current snapshot's list names.
    pub listed_manifests: u64,
    /// Segments that the ledger's head names.
    pub ledger_segments: u64,
}

impl Verdict {
    fn wrong(&mut self, what: String) {
        self.findings.push(what);
    }

    fn unseen(&mut self, what: impl Into<String>) {
        self.unseen.push(what.into());
    }
}

/// Reads everything that a table and its ledger name, and says what is wrong with it.
///
/// Reads every manifest and the whole ledger, asks for every data file, and lists the folders. Run while deliveries land, it
/// judges the state that it loaded; files that are on their way are among the orphans. Where something is wrong with a
/// state that has a successor by then, that is judged instead: upkeep may have deleted what only the old one needs.
///
/// # Errors
/// [`ErrorKind::NotFound`](crate::error::ErrorKind::NotFound) when there is no such table, and
/// [`ErrorKind::Unavailable`](crate::error::ErrorKind::Unavailable) when the store cannot be asked. What is missing or
/// damaged is a finding, not an error.
pub async fn verify(engine: &Engine, ident: &TableIdent) -> Result<Verdict> {
    let table = engine.catalog().load_table(ident).await?;
    let verdict = judge(engine, &table).await?;
    if verdict.findings.is_empty() {
        return Ok(verdict);
    }
    let fresh = engine.catalog().load_table(ident).await?;
    match fresh.metadata_location() == table.metadata_location() {
        true => Ok(verdict),
        false => judge(engine, &fresh).await,
    }
}

async fn judge(engine: &Engine, table: &Table) -> Result<Verdict> {
    let folders = Folders::of(engine, table)?;
    let mut verdict = Verdict {
        table: table.identifier().to_string(),
        findings: Vec::new(),
        unseen: Vec::new(),
        snapshots: table.metadata().snapshots().len() as u64,
        manifests: 0,
        data_files: 0,
        deliveries: 0,
        cost: Cost {
            metadata_log: table.metadata().metadata_log().len() as u64,
            ..Cost::default()
        },
        orphans: Totals::new(),
    };
    let mut names = Names::default();
    reach::metadata(table, &mut names);
    files::check(table, folders.files(), &mut names, &mut verdict).await?;
    deliveries::check(table, engine.ledger(), &mut names, &mut verdict).await?;
    say_unseen(table, &mut verdict);
    verdict.orphans = orphans(&folders, &names).await?;
    Ok(verdict)
}

fn say_unseen(table: &Table, verdict: &mut Verdict) {
    let metadata = table.metadata();
    let oldest = metadata
        .snapshots()
        .map(|snapshot| snapshot.sequence_number())
        .min();
    if oldest > Some(1) {
        verdict.unseen(format!(
            "Snapshots before number {} are let go: what they held is judged by what is left of it.",
            oldest.unwrap_or_default()
        ));
    }
    let foreign = metadata.snapshots().filter(|snapshot| {
        let summary = &snapshot.summary().additional_properties;
        !summary.contains_key(crate::commit::COMMIT_ID)
    });
    let foreign = foreign.count();
    if foreign > 0 {
        verdict.unseen(format!(
            "{foreign} snapshots are of other engines: whether their rows are there twice only their writers know."
        ));
    }
}
