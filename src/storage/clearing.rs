//! Taking away a folder with all that is in it: for what is a process's own, and nobody else's.

use std::path::{Path, PathBuf};

use futures::{StreamExt, TryStreamExt, stream};

use super::{Object, Store};
use crate::error::{Error, ErrorKind, Result};

/// Objects that are deleted at the same time.
const AT_ONCE: usize = 8;

impl Store {
    /// Deletes every object under a folder, each by its name; on a disk the folders, too. One that is not there is no error.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`]: some are left, and the first of them is named. All were tried.
    pub async fn clear(&self, folder: &str) -> Result<()> {
        let objects: Vec<Object> = self.objects(folder)?.try_collect().await?;
        let keys: Vec<String> = objects.into_iter().map(|object| object.key).collect();
        let deleted = self.delete_all(&keys).await;
        for staged in self.staging_files(folder).await? {
            self.delete_staging_file(&staged.key).await?;
        }
        deleted?;
        self.remove_empty_folders(folder).await
    }

    /// Deletes these objects. One that is not there is no error.
    ///
    /// # Errors
    /// As [`Store::clear`].
    pub async fn delete_all(&self, keys: &[String]) -> Result<()> {
        let deletions: Vec<Result<bool>> = stream::iter(keys)
            .map(|key| self.delete(key))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        deletions.into_iter().try_for_each(|deleted| deleted.map(drop))
    }

    /// Removes a folder of a disk, those in it and those above it up to the root, as far as they are empty. Elsewhere there
    /// are no folders.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when that cannot be waited for.
    pub async fn remove_empty_folders(&self, folder: &str) -> Result<()> {
        let Some(root) = self.local_root() else {
            return Ok(());
        };
        let start = root.join(folder);
        let removing = move || {
            remove_within(&start);
            let above = start.ancestors().skip(1);
            let above = above.take_while(|folder| folder.starts_with(&root) && **folder != *root);
            // Stops at the first that holds something.
            above
                .map(std::fs::remove_dir)
                .take_while(std::io::Result::is_ok)
                .for_each(drop);
        };
        tokio::task::spawn_blocking(removing).await.map_err(|error| {
            Error::new(ErrorKind::Unavailable, "The empty folders cannot be removed.")
                .with("location", self.url(folder))
                .with_source(error)
        })
    }
}

fn remove_within(folder: &Path) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let folders: Vec<PathBuf> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    for folder in folders {
        remove_within(&folder);
    }
    // What holds something stays, and so it is meant.
    let _stays = std::fs::remove_dir(folder);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[tokio::test]
    async fn folder_is_cleared_with_what_is_empty_above_it() {
        let folder = tempfile::tempdir().unwrap();
        for location in [
            format!("file://{}", folder.path().display()),
            "memory:///w".to_owned(),
        ] {
            let store = Store::open(&location).unwrap();
            for key in ["a/b/c/1", "a/b/c/d/2", "a/bb/3"] {
                store.put(key, Bytes::new()).await.unwrap();
            }
            store.clear("a/b/c").await.unwrap();
            assert_eq!(store.keys("").await.unwrap(), ["a/bb/3"], "{location}");
            store.clear("none/at/all").await.unwrap();
        }
        assert!(!folder.path().join("a/b").exists());
        assert!(folder.path().join("a/bb/3").is_file());
    }
}
