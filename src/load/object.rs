//! One object of a bucket as one commit, for a sender that waits.

use std::fmt;
use std::io::Read;

use iceberg::TableIdent;
use iceberg::table::Table;
use tokio::time::Instant;

use super::finish::{Terms, finish};
use super::prepare::{Prepared, Preparing};
use super::{Loaded, the_only};
use crate::batch::Shared;
use crate::batch::opening::TableSettings;
use crate::clock::Moment;
use crate::config::TableConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{Entry, Known};
use crate::publish::Note;
use crate::trigger::DeliveryId;

/// An object on its way.
pub(crate) struct Incoming {
    /// Its identity, which is known before it is read.
    pub(crate) id: DeliveryId,
    /// Its name in messages.
    pub(crate) name: String,
    /// Its bytes, as they are stored. An error of theirs that holds one of ours is told as that.
    pub(crate) bytes: Box<dyn Read + Send>,
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// As [`super::load`], of an object; one that the table has is not read.
///
/// No commit is begun after `deadline`, and none is waited for.
///
/// # Errors
/// As [`super::load`], and those of the object's bytes.
pub(crate) async fn load_object(
    shared: &Shared,
    ident: &TableIdent,
    config: &TableConfig,
    object: Incoming,
    deadline: Instant,
) -> Result<Loaded> {
    let settings = TableSettings::from(config);
    let terms = Terms {
        begun: Moment::now(shared.clock.as_ref()),
        retention: settings.retention,
        deadline: Some(deadline),
    };
    if let Some(prepared) = landed_before(shared, ident, (&object.id, &object.name)).await? {
        let table = prepared.table.clone();
        let loaded = the_only(finish(shared, ident, table, terms, vec![prepared]).await?)?;
        return match loaded.duplicate {
            true => Ok(loaded),
            false => Err(Error::new(
                ErrorKind::Unavailable,
                "The table was told to forget the object just now; deliver it again.",
            )),
        };
    }
    let mut preparing = Preparing {
        shared,
        ident,
        settings: &settings,
        again: false,
        found: None,
        table: None,
    };
    let prepared = preparing.prepare_object(object).await?;
    let table = prepared.table.clone();
    the_only(finish(shared, ident, table, terms, vec![prepared]).await?)
}

/// Whether the table has the object, as it is now. BigQuery is told of it, since nobody may have done so yet.
///
/// # Errors
/// Those of the catalog and the ledger.
pub(crate) async fn has_landed(shared: &Shared, ident: &TableIdent, id: &DeliveryId) -> Result<bool> {
    let table = table_with(shared, ident, id).await?;
    if table.is_some() {
        shared.publishers.committed(ident, Note::of(table.as_ref(), None));
    }
    Ok(table.is_some())
}

/// The table, where it has the object.
async fn table_with(shared: &Shared, ident: &TableIdent, id: &DeliveryId) -> Result<Option<Table>> {
    let Some(table) = shared.engine.catalog().find_table(ident).await? else {
        return Ok(None);
    };
    let head = shared.engine.head(table.clone()).await?;
    let known = shared
        .engine
        .ledger()
        .check(head.ledger(), &[Entry::from(id)])
        .await?;
    Ok(matches!(known.first(), Some(Known::Landed(_))).then_some(table))
}

/// The object with nothing to add, where the table has it.
async fn landed_before(
    shared: &Shared,
    ident: &TableIdent,
    (id, name): (&DeliveryId, &str),
) -> Result<Option<Prepared>> {
    let table = table_with(shared, ident, id).await?;
    Ok(table.map(|table| Prepared {
        id: id.clone(),
        name: name.to_owned(),
        files: Vec::new(),
        rejected: Vec::new(),
        table,
    }))
}
