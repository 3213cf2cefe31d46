//! A [`Store`] as the `iceberg` crate's `Storage`, so that both share one client.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use iceberg::io::{
    FileIO, FileIOBuilder, FileMetadata, FileRead, FileWrite, InputFile, OutputFile, Storage, StorageConfig,
    StorageFactory,
};
use object_store::ObjectStoreExt;
use serde::{Deserialize, Serialize};

use super::{Store, Upload};
use crate::error::ErrorKind;

pub(super) fn file_io(store: Store) -> FileIO {
    FileIOBuilder::new(Arc::new(StoreFactory { store: Some(store) })).build()
}

/// The crate asks for serialisable storage; ours is a live client, which does not travel: it comes back empty.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoreFactory {
    #[serde(skip)]
    store: Option<Store>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoreStorage {
    #[serde(skip)]
    store: Option<Store>,
}

#[typetag::serde(name = "LandfastStoreFactory")]
impl StorageFactory for StoreFactory {
    fn build(&self, _config: &StorageConfig) -> iceberg::Result<Arc<dyn Storage>> {
        Ok(Arc::new(StoreStorage {
            store: self.store.clone(),
        }))
    }
}

fn wrong(message: &str) -> iceberg::Error {
    iceberg::Error::new(iceberg::ErrorKind::Unexpected, message)
}

fn convert(error: crate::error::Error) -> iceberg::Error {
    let kind = match error.kind() {
        ErrorKind::NotFound => iceberg::ErrorKind::DataInvalid,
        _ => iceberg::ErrorKind::Unexpected,
    };
    iceberg::Error::new(kind, error.message().to_owned()).with_source(error)
}

impl StoreStorage {
    fn store(&self) -> iceberg::Result<&Store> {
        self.store
            .as_ref()
            .ok_or_else(|| wrong("A store does not survive serialisation; open the location again."))
    }

    /// The store, and the key of a location.
    fn object<'a>(&self, location: &'a str) -> iceberg::Result<(&Store, &'a str)> {
        let store = self.store()?;
        Ok((store, store.key(location).map_err(convert)?))
    }
}

fn missing(location: &str) -> iceberg::Error {
    iceberg::Error::new(iceberg::ErrorKind::DataInvalid, "The file is missing.")
        .with_context("location", location)
}

#[async_trait]
#[typetag::serde(name = "LandfastStore")]
impl Storage for StoreStorage {
    async fn exists(&self, path: &str) -> iceberg::Result<bool> {
        let (store, key) = self.object(path)?;
        Ok(store.stat(key).await.map_err(convert)?.is_some())
    }

    async fn metadata(&self, path: &str) -> iceberg::Result<FileMetadata> {
        let (store, key) = self.object(path)?;
        let found = store.stat(key).await.map_err(convert)?;
        let size = found.ok_or_else(|| missing(path))?.byte_count;
        Ok(FileMetadata { size })
    }

    async fn read(&self, path: &str) -> iceberg::Result<Bytes> {
        let (store, key) = self.object(path)?;
        store
            .get(key)
            .await
            .map_err(convert)?
            .ok_or_else(|| missing(path))
    }

    async fn reader(&self, path: &str) -> iceberg::Result<Box<dyn FileRead>> {
        let (store, key) = self.object(path)?;
        Ok(Box::new(Reader {
            path: store.path(key).map_err(convert)?,
            store: store.clone(),
        }))
    }

    async fn write(&self, path: &str, bs: Bytes) -> iceberg::Result<()> {
        let (store, key) = self.object(path)?;
        store.put(key, bs).await.map_err(convert)
    }

    async fn writer(&self, path: &str) -> iceberg::Result<Box<dyn FileWrite>> {
        let (store, key) = self.object(path)?;
        Ok(Box::new(Writer(Some(store.upload(key).map_err(convert)?))))
    }

    async fn delete(&self, path: &str) -> iceberg::Result<()> {
        let (store, key) = self.object(path)?;
        store.delete(key).await.map(drop).map_err(convert)
    }

    // Only the sweep deletes more than one file, and it names each one (protocol §5).
    async fn delete_prefix(&self, _path: &str) -> iceberg::Result<()> {
        Err(wrong("landfast never deletes by prefix."))
    }

    async fn delete_stream(&self, mut paths: BoxStream<'static, String>) -> iceberg::Result<()> {
        while let Some(path) = paths.next().await {
            self.delete(&path).await?;
        }
        Ok(())
    }

    fn new_input(&self, path: &str) -> iceberg::Result<InputFile> {
        Ok(InputFile::new(Arc::new(self.clone()), path.to_owned()))
    }

    fn new_output(&self, path: &str) -> iceberg::Result<OutputFile> {
        Ok(OutputFile::new(Arc::new(self.clone()), path.to_owned()))
    }
}

struct Reader {
    store: Store,
    path: object_store::path::Path,
}

#[async_trait]
impl FileRead for Reader {
    async fn read(&self, range: Range<u64>) -> iceberg::Result<Bytes> {
        self.store
            .objects
            .get_range(&self.path, range)
            .await
            .map_err(|error| wrong("The file cannot be read.").with_source(error))
    }
}

/// Writes through an [`Upload`]: small files by one put, large ones by parts.
struct Writer(Option<Upload>);

#[async_trait]
impl FileWrite for Writer {
    async fn write(&mut self, bs: Bytes) -> iceberg::Result<()> {
        let upload = self.0.as_mut().ok_or_else(|| wrong("The file was closed."))?;
        upload.write(bs).await.map_err(convert)
    }

    async fn close(&mut self) -> iceberg::Result<()> {
        let upload = self.0.take().ok_or_else(|| wrong("The file was closed."))?;
        upload.finish().await.map_err(convert)
    }
}
