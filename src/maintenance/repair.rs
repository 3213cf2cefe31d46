//! `landfast ledger repair`: a table whose ledger is damaged gets the best one that is left (protocol §7).

use std::collections::HashSet;

use iceberg::TableIdent;
use iceberg::table::Table;
use serde::Serialize;

use super::time_of;
use crate::clock::Moment;
use crate::commit::{ChangeSet, Engine};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{Found, Ledger, LedgerHead, POINTER, SUMMARY_HEAD, folder, sequence_of};

/// The summary's word for it.
const WHY: &str = "repair";
/// Heads that no snapshot names and that are looked at for their version.
const NEWEST_LOOKED_AT: usize = 20;

/// What became of a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Repair {
    /// The ledger is whole; nothing was done.
    NotNeeded,
    /// It was repaired.
    Done,
    /// It can be, but something is lost with it: say that you know.
    NeedsConsent,
}

/// What was found and what it means.
#[derive(Debug, Serialize)]
pub struct Repaired {
    /// The table.
    pub table: String,
    /// What became of it.
    pub result: Repair,
    /// Where the pointer leads that is not whole.
    pub pointer: Option<String>,
    /// The head that takes its place; none when nothing was to be done.
    pub head: Option<String>,
    /// Its number.
    pub sequence: u64,
    /// Deliveries that it knows.
    pub entries: u64,
    /// What is lost with it, in sentences.
    pub lost: Vec<String>,
    /// The snapshot that made it the table's ledger.
    pub snapshot_id: Option<String>,
}

/// Gives a table whose ledger is gone or damaged the newest head that a kept snapshot or the pointer names, less the segments
/// that cannot be read; without one, the newest head that can be read at all. What is lost by that wants consent: heads that
/// were committed after it, and the doubt whether it was committed itself.
///
/// Whoever commits meanwhile has seen a whole ledger, which a second look finds; a table without a snapshot gets an empty
/// one first, and is looked at once more too. Reads the whole ledger.
///
/// # Errors
/// [`ErrorKind::Rejected`] when a newer version of landfast wrote a head, or no head can be read;
/// [`ErrorKind::Conflict`] when the table moved twice: call again.
pub async fn repair(engine: &Engine, ident: &TableIdent, consent: bool) -> Result<Repaired> {
    match look_and_repair(engine, ident, consent).await {
        Err(error) if error.kind() == ErrorKind::Conflict => look_and_repair(engine, ident, consent).await,
        result => result,
    }
}

async fn look_and_repair(engine: &Engine, ident: &TableIdent, consent: bool) -> Result<Repaired> {
    let begun = Moment::now(engine.clock());
    let table = engine.catalog().load_table(ident).await?;
    let pointer = table.metadata().properties().get(POINTER).cloned();
    if let Some(whole) = whole(engine.ledger(), &table).await? {
        return Ok(Repaired {
            table: ident.to_string(),
            result: Repair::NotNeeded,
            pointer,
            head: None,
            sequence: whole.sequence,
            entries: whole.entry_count(),
            lost: Vec::new(),
            snapshot_id: None,
        });
    }
    let mut best = find(engine.ledger(), &table).await?;
    let mut repaired = Repaired {
        table: ident.to_string(),
        result: Repair::NeedsConsent,
        pointer,
        head: Some(best.location),
        sequence: best.head.sequence,
        entries: best.head.entry_count(),
        lost: best.lost,
        snapshot_id: None,
    };
    if !repaired.lost.is_empty() && !consent {
        return Ok(repaired);
    }
    // Above every number that was ever given, so that no file of before is taken for newer.
    best.head.sequence = best.highest;
    let mut head = engine.head_without_ledger(table)?;
    let mut changes = ChangeSet::rewriting_ledger(engine.random().uuid(), begun, WHY, best.head);
    let snapshot_id = engine.attempt(&mut head, &mut changes).await?;
    repaired.result = Repair::Done;
    repaired.snapshot_id = Some(snapshot_id.to_string());
    Ok(repaired)
}

/// The ledger's head if all of it can be read.
async fn whole(ledger: &Ledger, table: &Table) -> Result<Option<LedgerHead>> {
    match ledger.open(table).await {
        Ok(state) => {
            let damaged = !ledger.audit(&state).await?.damaged.is_empty();
            Ok((!damaged).then(|| state.head().clone()))
        }
        Err(error) if error.kind() == ErrorKind::Rejected => Ok(None),
        Err(error) => Err(error),
    }
}

struct Best {
    location: String,
    head: LedgerHead,
    highest: u64,
    lost: Vec<String>,
}

/// The newest head that a kept snapshot names and that can be read; else the newest that can be read at all.
async fn find(ledger: &Ledger, table: &Table) -> Result<Best> {
    let uuid = table.metadata().uuid();
    let heads = ledger.heads(uuid).await?;
    let highest = heads.first().map_or(0, |(sequence, _)| *sequence);
    let named: HashSet<&str> = kept_heads(table).collect();
    let (committed, others): (Vec<_>, Vec<_>) = heads
        .into_iter()
        .partition(|(_, location)| named.contains(location.as_str()));
    // The newest heads of all, whoever wrote them: a newer version's must be seen before anything is decided.
    for (_, location) in others.iter().take(NEWEST_LOOKED_AT) {
        if let Found::Newer(error) = ledger.find_head(uuid, location).await? {
            return Err(error);
        }
    }
    // Anybody may have set the pointer, also back. Where no head is known to be later it is the best guess; another table's
    // is none.
    let own = format!("/{}/", folder(uuid));
    let pointer = table.metadata().properties().get(POINTER);
    let pointer = pointer.filter(|location| location.contains(&own));
    let pointed = others.iter().filter(|(_, location)| Some(location) == pointer);
    let last = last_committed(pointer, highest);
    let newest = committed.first().map_or(0, |(newest, _)| *newest);
    let pointed = pointed.filter(|(sequence, _)| *sequence >= last && *sequence > newest);
    let pointed: Vec<_> = pointed.cloned().collect();
    for (known, some) in [(false, pointed), (true, committed), (false, others)] {
        for (_, location) in some {
            match ledger.find_head(uuid, &location).await? {
                Found::Newer(error) => return Err(error),
                Found::Missing | Found::Damaged(_) => {}
                Found::Whole(head) => {
                    let mut best = Best {
                        lost: unknown_since(table, &head, known, last),
                        location,
                        head: *head,
                        highest,
                    };
                    drop_damaged(ledger, &mut best).await?;
                    return Ok(best);
                }
            }
        }
    }
    Err(Error::new(
        ErrorKind::Rejected,
        "No head of the table's ledger can be read. Bring the ledger's files back from a backup of the warehouse.",
    )
    .with("table", table.identifier()))
}

/// The heads that kept snapshots name. The pointer alone may have been set by anybody.
fn kept_heads(table: &Table) -> impl Iterator<Item = &str> {
    let snapshots = table.metadata().snapshots();
    let heads = snapshots.filter_map(|snapshot| snapshot.summary().additional_properties.get(SUMMARY_HEAD));
    heads.map(String::as_str)
}

/// The number of the last head that was committed, as pointer and files tell: the highest file may be of an attempt that
/// never was, the one before it was not. Other engines may have let go of the snapshots that named it.
fn last_committed(pointer: Option<&String>, highest: u64) -> u64 {
    let pointed = pointer
        .and_then(|location| sequence_of(location))
        .unwrap_or_default();
    pointed.max(highest.saturating_sub(1))
}

/// What landed after the head, as far as snapshots tell, and the number of the last head.
fn unknown_since(table: &Table, head: &LedgerHead, committed: bool, last: u64) -> Vec<String> {
    let mut lost = Vec::new();
    if !committed {
        lost.push(
            "No kept snapshot names this head, so it may never have been committed: deliveries that it knows may have no \
             rows, and would be taken for landed when they come again."
                .to_owned(),
        );
    }
    let number = |snapshot: &iceberg::spec::SnapshotRef| -> Option<u64> {
        let summary = &snapshot.summary().additional_properties;
        summary.get(crate::ledger::SUMMARY_SEQUENCE)?.parse().ok()
    };
    let later: Vec<_> = table
        .metadata()
        .snapshots()
        .filter(|snapshot| number(snapshot) > Some(head.sequence))
        .collect();
    if !later.is_empty() {
        let deliveries: u64 = later
            .iter()
            .filter_map(|snapshot| {
                let summary = &snapshot.summary().additional_properties;
                summary.get(crate::commit::DELIVERY_COUNT)?.parse::<u64>().ok()
            })
            .sum();
        lost.push(format!(
            "{} kept snapshots with {deliveries} deliveries are newer than this head; if those deliveries come again, they \
             land again.",
            later.len()
        ));
    }
    if last > head.sequence {
        lost.push(format!(
            "This is head {}, and the last that was committed seems to be {last}; if deliveries that landed in between come \
             again, they land again.",
            head.sequence
        ));
    }
    lost
}

/// Leaves out the segments that cannot be read.
async fn drop_damaged(ledger: &Ledger, best: &mut Best) -> Result<()> {
    let state = ledger.state(best.location.clone(), best.head.clone());
    for (segment, _) in ledger.audit(&state).await?.damaged {
        best.head.segments.retain(|kept| kept.name != segment.name);
        let time = |seconds| time_of(seconds).unwrap_or_default();
        best.lost.push(format!(
            "{} with {} deliveries of {} to {} cannot be read; if those deliveries come again, they land again.",
            segment.name,
            segment.entry_count,
            time(segment.min_time),
            time(segment.max_time)
        ));
    }
    Ok(())
}
