//! The end of a load: dead letters, then the one commit that makes all of it visible.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use iceberg::TableIdent;
use iceberg::spec::DataFile;
use iceberg::table::Table;
use tokio::time::{Duration, Instant};

use super::Loaded;
use super::prepare::Prepared;
use crate::batch::Shared;
use crate::clock::Moment;
use crate::commit::{ChangeSet, Committed, Group, Head, state_of, validate_append};
use crate::dead_letter::LetterName;
use crate::error::Result;
use crate::ledger::{Entry, Kept, Known};
use crate::publish::Note;
use crate::telemetry::{self, COMMIT, Span, Trace};
use crate::trigger::Envelope;

/// How long a load tries to get its commit through; its files are written by then.
const COMMIT_PATIENCE: Duration = Duration::from_secs(600);

/// By when, and for how long, a commit is remembered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) begun: Moment,
    /// The table's: how long its ledger remembers.
    pub(super) retention: Duration,
    /// When the work stops; none where nobody waits for an answer.
    pub(super) deadline: Option<Instant>,
    /// When the sender had it; none for files, which have no such time.
    pub(super) published_at: Option<DateTime<Utc>>,
}

/// Commits files together, but for those that are in the table already. The dead letters of all of them are written
/// first, and count once the commit is made; the ledger says which.
///
/// # Errors
/// Those of writing dead letters and of committing: nothing is visible then, unless the commit's outcome stayed unknown
/// or the letters could not be confirmed. Loading again finds that out, and confirms them.
pub(super) async fn finish(
    shared: &Shared,
    ident: &TableIdent,
    table: Table,
    terms: Terms,
    prepared: Vec<Prepared>,
) -> Result<Vec<Loaded>> {
    let started = Instant::now();
    let mut head = shared.engine.head(table.clone()).await?;
    validate_append(&table, head.table())?;
    let entries: Vec<Entry> = prepared.iter().map(|file| Entry::from(&file.id)).collect();
    let mut changes = ChangeSet::append(shared.random.uuid(), terms.begun).with_retention(terms.retention);
    // The head is from before the files were read: segments of its ledger may have been merged, and swept, since.
    let known = shared.engine.known(&mut head, &changes, &entries, None).await?;
    validate_append(&table, head.table())?;
    let mut loaded = Vec::with_capacity(prepared.len());
    let table_name = ident.to_string();
    for ((file, mut entry), known) in prepared.into_iter().zip(entries.clone()).zip(known) {
        let mut result = result_of(&file);
        match known {
            Known::Landed(_) => result.was_there(),
            // A file without a record leaves no trace.
            Known::New | Known::TooOld if file.files.is_empty() && file.rejected.is_empty() => {}
            Known::New | Known::TooOld => {
                entry.value = write_letters(shared, &table_name, &file).await?.encode();
                changes.add(Group::durable(file.files, vec![entry]));
            }
        }
        loaded.push(result);
    }
    let (mut trace, mut oldest) = (Trace::current(), None);
    let mut is_there = loaded.iter().any(|file| file.duplicate);
    if !changes.groups().is_empty() {
        let deadline = terms.deadline.unwrap_or(started + COMMIT_PATIENCE);
        // An object's is part of its delivery; a file's is a trace of its own.
        let mut span = Span::start(COMMIT, Trace::current());
        let committed = shared.engine.commit(&mut head, &mut changes, deadline).await;
        let committed = committed.inspect_err(|error| span.failed(error.kind()))?;
        tell_results(&mut loaded, &changes, committed);
        if let Committed::Now(snapshot_id) = committed {
            oldest = terms.published_at;
            let now = shared.clock.now();
            let landed = telemetry::Landed {
                at: now,
                row_count: changes.row_count(),
                byte_count: changes.byte_count(),
                elapsed: started.elapsed(),
                age: oldest.and_then(|oldest| (now - oldest).to_std().ok()),
                snapshot_id,
                state: Some(state_of(head.table())),
            };
            telemetry::count_commit(&table_name, landed);
        }
        (trace, is_there) = (span.trace(), true);
    }
    if is_there {
        // Of one that was there before nobody may have told yet.
        let note = Note::of(Some(head.table()), oldest);
        trace.scope(|| shared.publishers.committed(ident, note));
    }
    confirm_letters(shared, &table_name, &head, &entries).await?;
    let duplicates = loaded.iter().filter(|file| file.duplicate).count() as u64;
    telemetry::count_duplicates(&table_name, "landed", duplicates);
    Ok(loaded)
}

fn result_of(file: &Prepared) -> Loaded {
    Loaded {
        row_count: file.files.iter().map(DataFile::record_count).sum(),
        dead_letter_count: file.rejected.len() as u64,
        file_count: file.files.len() as u64,
        byte_count: file.files.iter().map(DataFile::file_size_in_bytes).sum(),
        snapshot_id: None,
        same_as: None,
        duplicate: false,
        id: file.id.clone(),
    }
}

/// Files that another process landed meanwhile were left out of the commit.
fn tell_results(loaded: &mut [Loaded], changes: &ChangeSet, committed: Committed) {
    let landed: HashSet<u128> = changes.deliveries().iter().map(|entry| entry.id).collect();
    let is_nothing = |file: &Loaded| file.file_count == 0 && file.dead_letter_count == 0;
    for file in loaded
        .iter_mut()
        .filter(|file| !file.duplicate && !is_nothing(file))
    {
        match committed {
            Committed::Now(snapshot_id) if landed.contains(&file.id.hash()) => {
                file.snapshot_id = Some(snapshot_id).filter(|_| file.file_count > 0);
            }
            _ => file.was_there(),
        }
    }
}

/// Writes a file's dead letters, to wait for the commit, and says what its entry is to carry.
async fn write_letters(shared: &Shared, table: &str, file: &Prepared) -> Result<Kept> {
    if file.rejected.is_empty() {
        return Ok(Kept::default());
    }
    let now = shared.clock.now();
    let envelope = Envelope {
        id: file.id.clone(),
        source: file.name.clone(),
        // A letter is the same whenever the file is loaded.
        published_at: DateTime::UNIX_EPOCH,
        received_at: now,
        fingerprint: None,
        division: None,
        attributes: BTreeMap::new(),
    };
    let letters = &shared.dead_letters;
    let id = letters.waiting_id(shared.random.timed_uuid(now));
    letters
        .write_pending(&envelope, table, id, &file.rejected)
        .await?;
    Ok(Kept {
        letters: Some(id),
        ..Kept::default()
    })
}

/// Makes the letters count that the ledger names for these files, whoever committed them.
async fn confirm_letters(shared: &Shared, table: &str, head: &Head, entries: &[Entry]) -> Result<()> {
    let known = shared.engine.ledger().check(head.ledger(), entries).await?;
    for (entry, known) in entries.iter().zip(known) {
        if let Known::Landed(value) = known
            && let Some(id) = Kept::decode(&value).letters
        {
            let name = LetterName::new(table, id, entry.id);
            shared.dead_letters.confirm(&name).await?;
        }
    }
    Ok(())
}
