//! A store in memory that stamps its objects by a test's clock, so that files grow as old as a test says.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use landfast::clock::Clock;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

use super::clock::TestClock;

/// The store.
#[derive(Debug, Clone)]
pub struct AgedStore {
    inner: Arc<InMemory>,
    clock: Arc<TestClock>,
    stamps: Arc<Mutex<HashMap<Path, DateTime<Utc>>>>,
    bytes_read: Arc<AtomicU64>,
}

impl AgedStore {
    /// An empty one.
    pub fn new(clock: Arc<TestClock>) -> Self {
        Self {
            inner: Arc::default(),
            clock,
            stamps: Arc::default(),
            bytes_read: Arc::default(),
        }
    }

    /// Bytes of objects that were read from it so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    fn stamps(&self) -> MutexGuard<'_, HashMap<Path, DateTime<Utc>>> {
        self.stamps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stamp(&self, location: &Path) {
        self.stamps().insert(location.clone(), self.clock.now());
    }

    fn stamped(&self, mut meta: ObjectMeta) -> ObjectMeta {
        if let Some(stamp) = self.stamps().get(&meta.location) {
            meta.last_modified = *stamp;
        }
        meta
    }
}

impl fmt::Display for AgedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgedStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for AgedStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        let put = self.inner.put_opts(location, payload, options).await?;
        self.stamp(location);
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.stamp(location);
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        let is_read = !options.head;
        let mut got = self.inner.get_opts(location, options).await?;
        if is_read {
            let bytes = got.range.end - got.range.start;
            self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
        }
        got.meta = self.stamped(got.meta);
        Ok(got)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let this = self.clone();
        self.inner
            .list(prefix)
            .map_ok(move |meta| this.stamped(meta))
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        self.stamp(to);
        Ok(())
    }
}
