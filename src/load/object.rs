//! One object of a bucket as one commit, for a sender that waits.

use std::fmt;
use std::io::Read;

use chrono::{DateTime, Utc};
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
use crate::trigger::DeliveryId;

/// An object on its way.
pub(crate) struct Incoming {
    /// Its identity, which is known before it is read.
    pub(crate) id: DeliveryId,
    /// Its name in messages.
    pub(crate) name: String,
    /// When it was made.
    pub(crate) created: DateTime<Utc>,
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
    let landed = landed_before(shared, ident, config, (&object.id, &object.name), deadline).await?;
    if let Some(loaded) = landed {
        return Ok(loaded);
    }
    let terms = Terms {
        begun: Moment::now(shared.clock.as_ref()),
        retention: settings.retention,
        deadline: Some(deadline),
        published_at: Some(object.created),
    };
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

/// What came of an object that the table has, without its bytes: the letters of its rejected records count from then on.
/// None where the table does not have it.
///
/// # Errors
/// Those of the catalog, the ledger, and of confirming the letters.
pub(crate) async fn landed_before(
    shared: &Shared,
    ident: &TableIdent,
    config: &TableConfig,
    (id, name): (&DeliveryId, &str),
    deadline: Instant,
) -> Result<Option<Loaded>> {
    let Some(table) = table_with(shared, ident, id).await? else {
        return Ok(None);
    };
    let terms = Terms {
        begun: Moment::now(shared.clock.as_ref()),
        retention: TableSettings::from(config).retention,
        deadline: Some(deadline),
        published_at: None,
    };
    let nothing = Prepared {
        id: id.clone(),
        name: name.to_owned(),
        files: Vec::new(),
        rejected: Vec::new(),
        table: table.clone(),
    };
    let loaded = the_only(finish(shared, ident, table, terms, vec![nothing]).await?)?;
    match loaded.duplicate {
        true => Ok(Some(loaded)),
        false => Err(Error::new(
            ErrorKind::Unavailable,
            "The table was told to forget the object just now; deliver it again.",
        )),
    }
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
