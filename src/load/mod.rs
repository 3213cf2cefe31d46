//! Load: a whole file becomes one commit, in bounded memory, all of it or none.
//!
//! The same stages as for a push, without the wait for company: a reader cuts the file into chunks of whole records,
//! decoders on every core turn them into record batches, an encoder writes data files while the next chunks are
//! decoded, and one commit makes them visible. Order in the table is the order of the file.

mod finish;
mod inputs;
mod object;
mod pipeline;
mod prepare;
mod rejects;
mod source;
mod split;
mod together;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use iceberg::TableIdent;

pub use inputs::{Named, named};
pub(crate) use object::{Incoming, landed_before, load_object};
pub use source::Input;
pub(crate) use source::Stamp;
pub use together::{NotLoaded, load_together};

use crate::batch::Shared;
use crate::batch::opening::TableSettings;
use crate::clock::Moment;
use crate::config::TableConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::trigger::{DeliveryId, Receipt};
use finish::{Terms, finish};
use prepare::Preparing;

/// How far a load is, for whoever watches.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: Arc<AtomicU64>,
    rows: AtomicU64,
}

impl Progress {
    /// Bytes of the file that were read, as they are stored.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Rows that were decoded.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Acquire)
    }
}

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The file's identity.
    pub id: DeliveryId,
    /// Rows in the table.
    pub row_count: u64,
    /// Records in the dead-letter sink.
    pub dead_letter_count: u64,
    /// Data files.
    pub file_count: u64,
    /// Bytes of the data files.
    pub byte_count: u64,
    /// The snapshot that holds the rows; none when there were none.
    pub snapshot_id: Option<i64>,
    /// The file before it in the same commit that has the same name and bytes; this one added nothing then.
    pub same_as: Option<String>,
    /// Whether it was in the table already: nothing was added.
    pub duplicate: bool,
}

impl Loaded {
    /// A file that another one of the same commit has landed already.
    fn same_as(id: DeliveryId, name: String) -> Self {
        Self {
            id,
            row_count: 0,
            dead_letter_count: 0,
            file_count: 0,
            byte_count: 0,
            snapshot_id: None,
            same_as: Some(name),
            duplicate: false,
        }
    }

    /// It turned out to be in the table: nothing was added.
    fn was_there(&mut self) {
        *self = Self {
            duplicate: true,
            same_as: None,
            ..Self::same_as(self.id.clone(), String::new())
        };
    }
}

impl From<&Loaded> for Receipt {
    fn from(loaded: &Loaded) -> Self {
        Self {
            row_count: loaded.row_count,
            dead_letter_count: loaded.dead_letter_count,
            snapshot_id: loaded.snapshot_id,
            duplicate: loaded.duplicate,
        }
    }
}

/// Loads one file into a table as one commit. Its rejected records are in the dead-letter sink before the commit.
///
/// `Ok` means committed and durable. A file of nothing but whitespace has no records and makes no commit. A file whose
/// name and bytes are in the table's ledger adds nothing, unless `again`; it is read to its end to know. A dropped future
/// leaves orphan data files and nothing visible.
///
/// # Errors
/// [`ErrorKind::Rejected`] and [`ErrorKind::NotFound`] that name a `file` say what is wrong with it; others are those of
/// opening, writing and committing. Nothing of the file is visible then, unless the commit's outcome stayed unknown.
pub async fn load(
    shared: &Shared,
    ident: &TableIdent,
    config: &TableConfig,
    input: &Input,
    again: bool,
    progress: Arc<Progress>,
) -> Result<Loaded> {
    load_found(shared, ident, config, (input, None), again, progress).await
}

/// As [`load`], of a file that is to be the one that was found: another one under its name may not be complete.
///
/// # Errors
/// As [`load`]; [`ErrorKind::Rejected`] when it is another.
pub(crate) async fn load_found(
    shared: &Shared,
    ident: &TableIdent,
    config: &TableConfig,
    (input, found): (&Input, Option<Stamp>),
    again: bool,
    progress: Arc<Progress>,
) -> Result<Loaded> {
    let begun = Moment::now(shared.clock.as_ref());
    let settings = TableSettings::from(config);
    let mut preparing = Preparing {
        shared,
        ident,
        settings: &settings,
        again,
        found,
        table: None,
    };
    let prepared = preparing.prepare(input, progress).await?;
    let table = prepared.table.clone();
    let terms = Terms {
        begun,
        retention: settings.retention,
        deadline: None,
        published_at: None,
    };
    the_only(finish(shared, ident, table, terms, vec![prepared]).await?)
}

fn the_only(mut loaded: Vec<Loaded>) -> Result<Loaded> {
    loaded
        .pop()
        .ok_or_else(|| Error::new(ErrorKind::Rejected, "The load came to nothing."))
}
