//! The mark of the first head: that it was committed.
//!
//! A head is durable before its commit is sent, so its presence proves nothing; only a second one proves the first. Where
//! pointer and snapshots are lost before there is a second, the mark tells a ledger of one commit from none. It is an
//! object beside the head whose name says all, so that it comes with the listing that looks for later heads.

use std::sync::Arc;

use bytes::Bytes;
use iceberg::table::Table;

use super::cache::Ledger;
use super::state::{LedgerState, sequence_of};
use super::{damaged, folder};
use crate::error::{Error, Result};

/// What stands before the head's name in the mark's.
const PREFIX: &str = "landed-";
const CONTENT: &[u8] = b"The head of this name was committed.\n";

/// Whether a name in a ledger's folder is that of a mark. A mark is no orphan, and is never swept: once the head has a
/// successor it is not needed, and costs nothing.
pub fn is_mark(name: &str) -> bool {
    let head = name.strip_prefix(PREFIX);
    head.is_some_and(|head| sequence_of(head) == Some(1))
}

impl Ledger {
    /// Makes it known for good that the first head is committed, where the state stands on that. Nobody may be told that a
    /// delivery is in the table before: told is then remembered, whatever becomes of pointer and snapshots.
    ///
    /// Once per process and table; nothing once there is a second head. Only for a state that is known to be committed.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::error::ErrorKind::Unavailable).
    pub(super) async fn mark(&self, state: &LedgerState) -> Result<()> {
        let head = state.location().and_then(|location| location.rsplit('/').next());
        let Some(head) = head.filter(|head| sequence_of(head) == Some(1)) else {
            return Ok(());
        };
        let key = state.key(&format!("{PREFIX}{head}"));
        // Created or there already: it says the same.
        let creating = async {
            let created = self.store().create(&key, Bytes::from_static(CONTENT));
            created.await.map(drop)
        };
        let marked = self.marked().try_get_with(state.head().table_uuid, creating);
        marked.await.map_err(|error: Arc<Error>| error.as_ref().clone())
    }

    /// The ledger's head by its files alone, where pointer and snapshots say nothing: the first one if it is marked and
    /// the only one; none if no commit ever reached the table, whatever heads were written for one.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`](crate::error::ErrorKind::Rejected) when there are later heads, or two marks: which head is the
    /// ledger's is not known.
    pub(super) async fn marked_head(&self, table: &Table) -> Result<Option<String>> {
        let folder = folder(table.metadata().uuid());
        let url = |name: &str| self.store().url(&format!("{folder}/{name}"));
        let names = self.store().names_after(&folder, "head-").await?;
        if let Some(later) = names.iter().find(|name| sequence_of(name) > Some(1)) {
            return Err(damaged("The pointer to a head", &url(later)));
        }
        let mut marked = names
            .iter()
            .filter(|name| is_mark(name))
            .filter_map(|name| name.strip_prefix(PREFIX));
        let Some(head) = marked.next().map(url) else {
            return Ok(None);
        };
        if marked.next().is_some() {
            return Err(damaged("The pointer to a head", &head));
        }
        tracing::warn!(
            table.ident = %table.identifier(),
            location = head,
            "Nothing in the table as it was loaded names its ledger; the only head that was ever committed is used, and the \
             next commit puts the pointer right."
        );
        Ok(Some(head))
    }
}
