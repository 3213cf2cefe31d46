//! What lies in a folder, how large and how old by the store's clock; and deleting it.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use futures::{Stream, TryStreamExt};
use object_store::{ObjectMeta, ObjectStoreExt};

use super::{Store, unavailable};
use crate::error::{Error, ErrorKind, Result};

/// An object as a listing tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its key, relative to the store's root.
    pub key: String,
    /// Its size.
    pub byte_count: u64,
    /// When it was last written, by the store's clock.
    pub modified: DateTime<Utc>,
}

impl From<ObjectMeta> for Object {
    fn from(meta: ObjectMeta) -> Self {
        Self {
            key: meta.location.to_string(),
            byte_count: meta.size,
            modified: meta.last_modified,
        }
    }
}

impl Object {
    /// The name without its folders.
    pub fn name(&self) -> &str {
        self.key.rsplit('/').next().unwrap_or_default()
    }
}

impl Store {
    /// Lists every object under a folder, in no order; none when there is no folder. Holds a page of it at a time.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`], as an item.
    pub fn objects(&self, folder: &str) -> Result<impl Stream<Item = Result<Object>> + Send + use<>> {
        let prefix = self.path(folder)?;
        let url = self.url(folder);
        let listing = self.objects.list(Some(&prefix));
        Ok(listing
            .map_ok(Object::from)
            .map_err(move |error| unavailable("The folder cannot be listed.", &url, error)))
    }

    /// Asks for an object's size and age; `None` when there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub async fn stat(&self, key: &str) -> Result<Option<Object>> {
        let path = self.path(key)?;
        match self.objects.head(&path).await {
            Ok(meta) => Ok(Some(meta.into())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(unavailable(
                "The object cannot be asked for.",
                &self.url(key),
                error,
            )),
        }
    }

    /// Deletes an object. Says whether it was there, as far as the store knows.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`]; the object may or may not be gone.
    pub async fn delete(&self, key: &str) -> Result<bool> {
        let path = self.path(key)?;
        match self.objects.delete(&path).await {
            Ok(()) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(unavailable(
                "The object cannot be deleted.",
                &self.url(key),
                error,
            )),
        }
    }

    /// Lists what killed processes left half written under a local folder: `name#1`, which is an object to nobody. On
    /// other stores there is no such thing.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub async fn staging_files(&self, folder: &str) -> Result<Vec<Object>> {
        let Some(root) = self.local_root() else {
            return Ok(Vec::new());
        };
        let (start, url) = (root.join(folder), self.url(folder));
        let walk = move || walk(&root, start);
        let walked = tokio::task::spawn_blocking(walk)
            .await
            .map_err(std::io::Error::other);
        walked.and_then(|found| found).map_err(|error| {
            Error::new(ErrorKind::Unavailable, "The folder cannot be listed.")
                .with("location", url)
                .with_source(error)
        })
    }

    /// Deletes a file of [`Store::staging_files`]. Says whether it was there.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] for any other name, [`ErrorKind::Unavailable`].
    pub async fn delete_staging_file(&self, key: &str) -> Result<bool> {
        let file = self
            .local_root()
            .filter(|_| staged_name(key).is_some())
            .map(|root| root.join(key));
        let Some(file) = file else {
            let message = "The file is none that a local write leaves.";
            return Err(Error::new(ErrorKind::Rejected, message).with("location", self.url(key)));
        };
        match tokio::fs::remove_file(file).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::new(ErrorKind::Unavailable, "The file cannot be deleted.")
                .with("location", self.url(key))
                .with_source(error)),
        }
    }

    pub(super) fn local_root(&self) -> Option<PathBuf> {
        self.real_root.strip_prefix("file://").map(PathBuf::from)
    }
}

/// The name that a staging file was to become: `v3.metadata.json` of `v3.metadata.json#1`.
pub fn staged_name(key: &str) -> Option<&str> {
    let (name, number) = key.rsplit_once('#')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let name = name.rsplit('/').next()?;
    (is_number && !name.is_empty()).then_some(name)
}

fn walk(root: &std::path::Path, start: PathBuf) -> std::io::Result<Vec<Object>> {
    let mut found = Vec::new();
    let mut folders = vec![start];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            // Never made, or removed meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                folders.push(path);
                continue;
            }
            let key = path.strip_prefix(root).ok().and_then(|key| key.to_str());
            let Some(key) = key.filter(|key| staged_name(key).is_some()) else {
                continue;
            };
            // Its writer may have just finished with it.
            let Ok(metadata) = entry.metadata() else { continue };
            found.push(Object {
                key: key.to_owned(),
                byte_count: metadata.len(),
                modified: metadata.modified()?.into(),
            });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[tokio::test]
    async fn objects_are_listed_asked_for_and_deleted() {
        let folder = tempfile::tempdir().unwrap();
        for location in [
            format!("file://{}", folder.path().display()),
            "memory:///w".to_owned(),
        ] {
            let store = Store::open(&location).unwrap();
            store.put("a/b/x y%2F", Bytes::from_static(b"123")).await.unwrap();
            let listed: Vec<Object> = store.objects("a").unwrap().try_collect().await.unwrap();
            assert_eq!(listed.len(), 1);
            assert_eq!((listed[0].key.as_str(), listed[0].byte_count), ("a/b/x y%2F", 3));
            assert_eq!(store.stat("a/b/x y%2F").await.unwrap(), Some(listed[0].clone()));
            assert!(store.delete("a/b/x y%2F").await.unwrap());
            assert_eq!(store.stat("a/b/x y%2F").await.unwrap(), None);
            let gone: Vec<Object> = store.objects("none").unwrap().try_collect().await.unwrap();
            assert_eq!(gone, []);
        }
    }

    #[tokio::test]
    async fn only_what_a_local_write_leaves_is_a_staging_file() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("file://{}", folder.path().display())).unwrap();
        for name in ["t/a.parquet#1", "t/k=v/b.parquet#12", "t/c.parquet", "t/d#x"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        let mut found = store.staging_files("t").await.unwrap();
        found.sort_by(|left, right| left.key.cmp(&right.key));
        let keys: Vec<&str> = found.iter().map(|object| object.key.as_str()).collect();
        assert_eq!(keys, ["t/a.parquet#1", "t/k=v/b.parquet#12"]);
        assert_eq!(staged_name(keys[1]), Some("b.parquet"));
        assert!(store.delete_staging_file(keys[0]).await.unwrap());
        assert!(store.delete_staging_file("t/c.parquet").await.is_err());
        assert_eq!(store.staging_files("t").await.unwrap().len(), 1);
    }
}
