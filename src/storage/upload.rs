//! A file written as it comes into being: one put when it is small, parts when it is not.

use bytes::{Bytes, BytesMut};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt};

use super::{Store, unavailable};
use crate::error::Result;

/// Every part but the last has this size: some stores want at least 5 MiB, some want them alike.
pub const PART_BYTES: usize = 8 << 20;

/// One object being written. It appears whole, when [`Upload::finish`] returns, or never.
///
/// Holds less than one part beside the one on its way. Dropped unfinished, it gives up the parts that the
/// store took, in the background; what a killed process leaves of them no listing shows.
pub struct Upload {
    store: Store,
    path: Path,
    url: String,
    rest: BytesMut,
    parts: Option<Box<dyn MultipartUpload>>,
}

impl Upload {
    pub(super) fn new(store: Store, path: Path, url: String) -> Self {
        Self {
            store,
            path,
            url,
            rest: BytesMut::new(),
            parts: None,
        }
    }

    /// Takes the next bytes of the file; returns when the store has the parts that they make whole.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::error::ErrorKind::Unavailable): the file will not come to be.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<()> {
        // Whole parts pass through without a copy.
        while self.rest.is_empty() && bytes.len() >= PART_BYTES {
            let part = bytes.split_to(PART_BYTES);
            self.send(part).await?;
        }
        while !bytes.is_empty() {
            let room = PART_BYTES.saturating_sub(self.rest.len()).min(bytes.len());
            self.rest.extend_from_slice(&bytes.split_to(room));
            if self.rest.len() == PART_BYTES {
                let part = std::mem::take(&mut self.rest).freeze();
                self.send(part).await?;
            }
        }
        Ok(())
    }

    /// Makes the object of what was written: durable on `Ok`, replaced if it exists.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::error::ErrorKind::Unavailable); the object may or may not be there, and parts that
    /// are none of it are given up.
    pub async fn finish(mut self) -> Result<()> {
        self.store.is_there().await?;
        let rest = std::mem::take(&mut self.rest).freeze();
        if self.parts.is_none() {
            let put = self.store.objects.put(&self.path, rest.into()).await;
            return put.map(drop).map_err(|error| self.failed(error));
        }
        if !rest.is_empty() {
            self.send(rest).await?;
        }
        // Kept until the store says that they are the object: who gives up before, gives them up.
        if let Some(parts) = &mut self.parts
            && let Err(error) = parts.complete().await
        {
            return Err(self.failed(error));
        }
        self.parts = None;
        Ok(())
    }

    async fn send(&mut self, part: Bytes) -> Result<()> {
        let sent = async {
            let parts = match &mut self.parts {
                Some(parts) => parts,
                none => none.insert(self.store.objects.put_multipart(&self.path).await?),
            };
            parts.put_part(part.into()).await
        };
        sent.await.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: object_store::Error) -> crate::error::Error {
        unavailable("The object cannot be written.", &self.url, error)
    }
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let (Some(mut parts), Ok(runtime)) = (self.parts.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let url = std::mem::take(&mut self.url);
        runtime.spawn(async move {
            // The store's own expiry of unfinished uploads is the second way out.
            if let Err(error) = parts.abort().await {
                tracing::debug!(location = url, %error, "Parts of an abandoned file remain in the store.");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn parts_make_up_the_file_that_was_written() {
        let folder = tempfile::tempdir().unwrap();
        for location in [
            format!("file://{}", folder.path().display()),
            "memory:///w".to_owned(),
        ] {
            let store = Store::open(&location).unwrap();
            for (name, bytes) in [
                ("small", 100),
                ("exact", 2 * PART_BYTES),
                ("large", 3 * PART_BYTES + 7),
            ] {
                let content: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
                let mut upload = store.upload(name).unwrap();
                for piece in content.chunks(PART_BYTES + 3) {
                    upload.write(Bytes::copy_from_slice(piece)).await.unwrap();
                }
                assert_eq!(store.get(name).await.unwrap(), None);
                upload.finish().await.unwrap();
                assert!(store.get(name).await.unwrap().unwrap() == content, "{name}");
            }
        }
    }

    #[tokio::test]
    async fn a_dropped_upload_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("file://{}", folder.path().display())).unwrap();
        let mut upload = store.upload("a/b").unwrap();
        upload.write(vec![0; 2 * PART_BYTES].into()).await.unwrap();
        drop(upload);
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        while std::fs::read_dir(folder.path().join("a")).unwrap().count() > 0 {
            assert!(tokio::time::Instant::now() < deadline);
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}
