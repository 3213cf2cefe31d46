//! Letters that wait are made to count: where they are looked for, also after `dead_letters` was changed, or their table
//! renamed.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::{DeadLetters, LetterName, Place};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Store;

/// Under what the log keeps count of pending copies that stay.
const NOT_DELETED: &str = "not deleted";

/// Folders that are looked into at the same time.
const AT_ONCE: usize = 16;

impl DeadLetters {
    /// Every place where letters may wait: the configured one first, then those from before it was configured.
    pub fn stores(&self) -> impl Iterator<Item = &Store> {
        [Some(&self.store), self.published.as_ref(), self.before.as_ref()]
            .into_iter()
            .flatten()
    }

    /// Moves the letters of a committed delivery to where they count. Repeating it changes nothing, but that a topic may
    /// get a letter twice, under one name.
    ///
    /// `Ok` means that they are durable under `confirmed/`, or under `replayed/`, or that the topic has taken them.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`], also when they are nowhere: the delivery must not be acknowledged.
    pub async fn confirm(&self, name: &LetterName) -> Result<()> {
        let Some((store, name, bytes)) = self.waiting(name).await? else {
            return self.find(name).await;
        };
        self.let_count(&name, &bytes).await?;
        if self.topic.is_some() && !name.is_to_be_published() {
            // Its name does not tell that it was published; an empty object does to the copies to come.
            store.create(&name.key(Place::Replayed), Bytes::new()).await?;
        }
        // What stays is confirmed once more by upkeep.
        if let Err(error) = store.delete(&name.key(Place::Pending)).await
            && let Some(count) = self.told.tell(NOT_DELETED)
        {
            tracing::warn!(
                error = error.report(),
                count,
                "The pending copies of confirmed letters are not deleted; they stay until somebody may."
            );
        }
        Ok(())
    }

    /// Finds letters that wait: in which place, and under which name.
    async fn waiting(&self, name: &LetterName) -> Result<Option<(&Store, LetterName, Bytes)>> {
        let key = name.key(Place::Pending);
        for store in self.stores() {
            if let Some(bytes) = store.get(&key).await? {
                return Ok(Some((store, name.clone(), bytes)));
            }
        }
        match self.published().filter(|_| name.is_to_be_published()) {
            Some(store) => stray(store, name).await,
            None => Ok(None),
        }
    }

    /// Where letters wait that are to be published, whether they still are or were before a location was configured.
    fn published(&self) -> Option<&Store> {
        match self.topic {
            Some(_) => Some(&self.store),
            None => self.published.as_ref(),
        }
    }

    /// Looks where letters go that wait no longer. They are made where they go before they are deleted where they were, so
    /// those that are on their way are met in this order.
    async fn find(&self, name: &LetterName) -> Result<()> {
        if name.is_to_be_published() && self.published().is_some() {
            return Ok(());
        }
        for store in self.stores() {
            for place in [Place::Confirmed, Place::Replayed] {
                if store.get(&name.key(place)).await?.is_some() {
                    return Ok(());
                }
            }
        }
        let message = "The dead letters of a delivery that the table has are nowhere, so it is not acknowledged: bring \
                       them back from where they are, under the same name, or put an empty file in their place if they \
                       were deleted on purpose. If `dead_letters` was a location before it was a topic, write that one at \
                       `dead_letters.before`.";
        let location = self.store.url(&name.key(Place::Replayed));
        Err(Error::new(ErrorKind::Unavailable, message).with("location", location))
    }
}

/// Finds letters that are to be published under another table's name: a table that is renamed leaves there what waits. What
/// waits nowhere counts as published, so nowhere has to be sure.
///
/// Lists the tables with letters that wait, and asks for an object of each.
async fn stray<'a>(store: &'a Store, name: &LetterName) -> Result<Option<(&'a Store, LetterName, Bytes)>> {
    let folders = store.folders(Place::Pending.folder()).await?;
    let others = folders.iter().filter(|folder| *folder != name.table());
    let others: Vec<LetterName> = others.map(|folder| name.of_table(folder)).collect();
    let found = stream::iter(others)
        .map(|other| async move {
            let bytes = store.get(&other.key(Place::Pending)).await?;
            Ok::<_, Error>(bytes.map(|bytes| (store, other, bytes)))
        })
        .buffer_unordered(AT_ONCE);
    let found = found.try_filter_map(|one| async move { Ok(one) });
    std::pin::pin!(found).try_next().await
}
