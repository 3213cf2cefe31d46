//! Storage: the objects under one location, whatever keeps them.
//!
//! Everything durable goes through a [`Store`]: data files, manifests, table metadata, dead letters. One client per
//! location, shared. On `file://` a file and its folder are synced to disk before success is reported, so that a
//! write that returned survives a crash (assumption E1 of the protocol); on `s3://` and `gs://` success is durable.

mod anchor;
mod clearing;
mod cloud;
mod disposal;
mod file_io;
mod generation;
mod grants;
mod http;
mod listing;
mod lookup;
mod own;
mod upload;
mod vended;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use iceberg::io::FileIO;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::config::process_env;
use crate::error::{Error, ErrorKind, Result};

use self::anchor::Anchor;
pub use self::cloud::Properties;
pub use self::disposal::{Disposal, Disposed};
pub use self::generation::{Generation, Generations};
pub use self::grants::Grants;
pub use self::listing::{Object, staged_name};
pub use self::upload::{PART_BYTES, Upload};
pub use self::vended::Vendor;

/// Whether a create-only write made the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// The object is new and durable.
    Created,
    /// The name was taken; nothing was written by this call, though perhaps by an earlier copy of it.
    Exists,
}

/// The objects under one root location.
#[derive(Clone)]
pub struct Store {
    /// The root without a trailing slash, such as `file:///data/warehouse` or `s3://bucket/warehouse`.
    root: String,
    /// The root of a folder behind symbolic links without them; else as `root`.
    real_root: String,
    objects: Arc<dyn ObjectStore>,
    /// Of a local folder that must stay where it is.
    anchor: Option<Arc<Anchor>>,
}

impl Store {
    /// Wraps an object store whose keys are relative to `root`. Fault layers come in here.
    pub fn new(root: impl Into<String>, objects: Arc<dyn ObjectStore>) -> Self {
        let root = root.into().trim_end_matches('/').to_owned();
        Self {
            real_root: root.clone(),
            root,
            objects,
            anchor: None,
        }
    }

    /// Opens a location: `s3://bucket/prefix`, `gs://bucket/prefix`, `file:///folder` (made when absent) or
    /// `memory:///name`. The process environment says who we are to a cloud; nothing is asked of it yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for another scheme, or settings that cannot be used; [`ErrorKind::Unavailable`] when the
    /// folder cannot be made.
    pub fn open(location: &str) -> Result<Self> {
        Self::open_with(location, &Properties::new())
    }

    /// Opens a location with properties in Iceberg's words, such as those that a catalog vends; what they leave out comes
    /// from the process environment. Taken are, of `s3.`: `access-key-id`, `secret-access-key`, `session-token`,
    /// `endpoint`, `region` and `path-style-access`; `client.region`; of `gcs.`: `oauth2.token`, `service.host` and
    /// `no-auth`. Others are none of a store's.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(location: &str, properties: &Properties) -> Result<Self> {
        if let Some(store) = cloud::open(location.trim_end_matches('/'), properties, None, &process_env)? {
            return Ok(store);
        }
        let url = url::Url::parse(location).map_err(|error| {
            Error::new(
                ErrorKind::Config,
                "The location is not a URL such as file:///folder.",
            )
            .with("location", location)
            .with_source(error)
        })?;
        match url.scheme() {
            "file" => Self::open_folder(&url),
            "memory" => Ok(Self::new(location, Arc::new(InMemory::new()))),
            _ => Err(Error::new(
                ErrorKind::Config,
                "This version stores on s3://, gs:// and file:/// (and memory:/// in tests) only.",
            )
            .with("location", location)),
        }
    }

    /// Opens a location in a cloud with credentials that a vendor gives at each request: these properties say who we are
    /// now, and how the store is reached. `None` where they do not say who, or the location is in no cloud.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for settings that cannot be used.
    pub fn open_vended(
        location: &str,
        properties: &Properties,
        vendor: Arc<dyn Vendor>,
    ) -> Result<Option<Self>> {
        cloud::open(
            location.trim_end_matches('/'),
            properties,
            Some(vendor),
            &process_env,
        )
    }

    fn open_folder(url: &url::Url) -> Result<Self> {
        let folder = url.to_file_path().map_err(|()| {
            Error::new(ErrorKind::Config, "The location is not a folder of this machine.")
                .with("location", url)
        })?;
        // Without doubled slashes.
        let folder: PathBuf = folder.components().collect();
        let refused = |error: std::io::Error| {
            Error::new(ErrorKind::Unavailable, "The folder cannot be made or opened.")
                .with("folder", folder.display())
                .with_source(error)
        };
        std::fs::create_dir_all(&folder).map_err(refused)?;
        let real = folder.canonicalize().map_err(refused)?;
        let objects = LocalFileSystem::new_with_prefix(&real)
            .map_err(|error| unavailable("The folder cannot be opened.", &real.display().to_string(), error))?
            .with_fsync(true);
        // A catalog, and other engines, know the folder by the name that it is configured under.
        let root = |folder: &PathBuf| format!("file://{}", folder.display());
        Ok(Self {
            real_root: root(&real),
            ..Self::new(root(&folder), Arc::new(objects))
        })
    }

    /// The same, which from now on refuses its work when its folder is gone or another takes its name, as a volume leaves
    /// one that is not mounted any more. What is no folder stays as it is.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the folder cannot be looked at.
    pub fn anchored(mut self) -> Result<Self> {
        if let Some(folder) = self.real_root.strip_prefix("file://") {
            self.anchor = Some(Arc::new(Anchor::of(folder.into())?));
        }
        Ok(self)
    }

    /// A folder of it as a store of its own, which need not be there.
    #[must_use]
    pub fn below(&self, folder: &str) -> Self {
        Self {
            root: self.url(folder),
            real_root: format!("{}/{folder}", self.real_root),
            objects: Arc::new(PrefixStore::new(self.objects.clone(), folder)),
            anchor: self.anchor.clone(),
        }
    }

    /// # Errors
    /// [`ErrorKind::Unavailable`] when the root is anchored, and not what it was any more.
    async fn is_there(&self) -> Result<()> {
        match &self.anchor {
            Some(anchor) => anchor.holds().await,
            None => Ok(()),
        }
    }

    /// The root location, without a trailing slash.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The full location of a key.
    pub fn url(&self, key: &str) -> String {
        format!("{}/{key}", self.root)
    }

    /// The key of a full location under the root; also takes what other engines write: `file:/x` and plain absolute
    /// paths for `file://` roots, with and without symbolic links, `s3a://` and `s3n://` for `s3://`.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] for a location outside the root.
    pub fn key<'a>(&self, location: &'a str) -> Result<&'a str> {
        let under = |root: &String| {
            let rest = (location.strip_prefix(root)).or_else(|| in_other_words(location, root));
            rest?.strip_prefix('/')
        };
        [&self.root, &self.real_root]
            .into_iter()
            .find_map(under)
            .ok_or_else(|| {
                Error::new(ErrorKind::Rejected, "The file lies outside the warehouse.")
                    .with("location", location)
                    .with("warehouse", &self.root)
            })
    }

    fn path(&self, key: &str) -> Result<Path> {
        Path::parse(key).map_err(|error| {
            Error::new(ErrorKind::Rejected, "The name cannot be an object's.")
                .with("key", key)
                .with_source(error)
        })
    }

    /// Writes an object that no name was promised to: durable on `Ok`, replaced if it exists.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`]; the object may or may not be there.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        let path = self.path(key)?;
        self.is_there().await?;
        match self.objects.put(&path, bytes.into()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(unavailable(
                "The object cannot be written.",
                &self.url(key),
                error,
            )),
        }
    }

    /// Begins an object that is written piece by piece, in bounded memory.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] when the name cannot be an object's. Nothing is sent yet.
    pub fn upload(&self, key: &str) -> Result<Upload> {
        Ok(Upload::new(self.clone(), self.path(key)?, self.url(key)))
    }

    /// Writes an object only if its name is free; atomic per name, durable on `Ok(Created)`.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`]; the object may or may not have been created.
    pub async fn create(&self, key: &str, bytes: Bytes) -> Result<Creation> {
        let path = self.path(key)?;
        let options = PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        };
        self.is_there().await?;
        match self.objects.put_opts(&path, bytes.into(), options).await {
            // Asked once more, since it may have gone meanwhile, and the name of a commit been free there.
            Ok(_) => self.is_there().await.map(|()| Creation::Created),
            Err(error @ object_store::Error::AlreadyExists { .. }) if proves_nothing(&error) => {
                match self.stat(key).await? {
                    Some(_) => Ok(Creation::Exists),
                    None => Err(self.not_created(key, error)),
                }
            }
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(Creation::Exists)
            }
            Err(error) => Err(self.not_created(key, error)),
        }
    }

    fn not_created(&self, key: &str, error: object_store::Error) -> Error {
        unavailable("The object cannot be created.", &self.url(key), error)
    }

    /// Reads a whole object; `None` when there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let path = self.path(key)?;
        self.is_there().await?;
        let read = async { self.objects.get(&path).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(unavailable("The object cannot be read.", &self.url(key), error)),
        }
    }

    /// Reads a part of an object; `None` when there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`], also when the object ends before the range begins.
    pub async fn get_range(&self, key: &str, range: std::ops::Range<u64>) -> Result<Option<Bytes>> {
        let path = self.path(key)?;
        self.is_there().await?;
        match self.objects.get_range(&path, range).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(unavailable("The object cannot be read.", &self.url(key), error)),
        }
    }

    /// Lists the names directly in a folder that sort after `after`, in no order.
    ///
    /// Object stores skip to `after` on their side; a local folder is read whole.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub async fn names_after(&self, folder: &str, after: &str) -> Result<Vec<String>> {
        let prefix = self.path(folder)?;
        let offset = self.path(&format!("{folder}/{after}"))?;
        self.is_there().await?;
        self.objects
            .list_with_offset(Some(&prefix), &offset)
            // A store lists folders within the folder too; their names are not the folder's.
            .try_filter_map(|object| {
                let mut below = object.location.prefix_match(&prefix).into_iter().flatten();
                let name = match (below.next(), below.next()) {
                    (Some(name), None) => Some(name.as_ref().to_owned()),
                    _ => None,
                };
                async move { Ok(name) }
            })
            .try_collect()
            .await
            .map_err(|error| unavailable("The folder cannot be listed.", &self.url(folder), error))
    }

    /// Lists the folders directly in a folder, by name.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>> {
        let prefix = self.path(folder)?;
        let listing = self
            .objects
            .list_with_delimiter(Some(&prefix))
            .await
            .map_err(|error| unavailable("The folder cannot be listed.", &self.url(folder), error))?;
        let mut names: Vec<String> = listing
            .common_prefixes
            .iter()
            .filter_map(|path| path.filename().map(str::to_owned))
            .collect();
        names.sort();
        Ok(names)
    }

    /// Lists every key under a folder.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub async fn keys(&self, folder: &str) -> Result<Vec<String>> {
        let prefix = self.path(folder)?;
        let mut listing = self.objects.list(Some(&prefix));
        let mut keys = Vec::new();
        while let Some(object) = listing.next().await {
            let object = object
                .map_err(|error| unavailable("The folder cannot be listed.", &self.url(folder), error))?;
            keys.push(object.location.to_string());
        }
        keys.sort();
        Ok(keys)
    }

    /// The same objects as the `iceberg` crate's file access, for its manifest writers, readers and scans.
    pub fn file_io(&self) -> FileIO {
        file_io::file_io(self.clone())
    }
}

impl std::fmt::Debug for Store {
    // The clients' own would go on for pages.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// What a location has after the root, if it is the root's in another spelling.
fn in_other_words<'a>(location: &'a str, root: &str) -> Option<&'a str> {
    if let Some(root) = root.strip_prefix("file://") {
        let path = location.strip_prefix("file:").unwrap_or(location);
        return path.strip_prefix("//").unwrap_or(path).strip_prefix(root);
    }
    let root = root.strip_prefix("s3://")?;
    let path = ["s3a://", "s3n://"]
        .iter()
        .find_map(|scheme| location.strip_prefix(scheme));
    path?.strip_prefix(root)
}

/// A 409 tells of another write or deletion at the same moment, and not that the name is taken: S3 means "try again". The
/// client counts it as a name that exists, and tells its status in words only.
fn proves_nothing(error: &object_store::Error) -> bool {
    error.to_string().contains("409 Conflict")
}

fn unavailable(message: &str, location: &str, error: object_store::Error) -> Error {
    let kind = match error {
        object_store::Error::NotFound { .. } => ErrorKind::NotFound,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, message)
        .with("location", location)
        .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_created_once() {
        let folder = tempfile::tempdir().unwrap();
        for location in [
            format!("file://{}", folder.path().display()),
            "memory:///w".to_owned(),
        ] {
            let store = Store::open(&location).unwrap();
            let first = store.create("a/b/v1", Bytes::from_static(b"1")).await.unwrap();
            let second = store.create("a/b/v1", Bytes::from_static(b"2")).await.unwrap();
            assert_eq!((first, second), (Creation::Created, Creation::Exists));
            assert_eq!(
                store.get("a/b/v1").await.unwrap().unwrap(),
                Bytes::from_static(b"1")
            );
            assert_eq!(store.get("a/b/v2").await.unwrap(), None);
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn folder_behind_a_link_is_known_by_both_names() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().canonicalize().unwrap();
        let (real, link) = (here.join("real"), here.join("link"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let configured = format!("file://{}/w", link.display());
        let store = Store::open(&format!("{configured}//"))
            .unwrap()
            .anchored()
            .unwrap();
        assert_eq!(store.url("a"), format!("{configured}/a"));
        store.put("a", Bytes::from_static(b"1")).await.unwrap();
        assert_eq!(std::fs::read(real.join("w/a")).unwrap(), b"1");
        for root in [&link, &real] {
            for location in ["file://", "file:", ""].map(|scheme| format!("{scheme}{}/w/a", root.display())) {
                assert_eq!(store.key(&location).unwrap(), "a", "{location}");
            }
        }
        let other = format!("file://{}/ww/a", link.display());
        assert!(store.key(&other).is_err());
        // The link may lead elsewhere by now; the files go where they went, and only that folder is missed.
        std::fs::rename(real.join("w"), real.join("away")).unwrap();
        assert!(store.put("b", Bytes::new()).await.is_err());
    }

    #[test]
    fn locations_of_other_engines_are_understood() {
        let store = Store::new("file:///w", Arc::new(InMemory::new()));
        for location in ["file:///w/a/b", "file:/w/a/b", "/w/a/b"] {
            assert_eq!(store.key(location).unwrap(), "a/b");
        }
        assert!(store.key("file:///other/a").is_err());
        assert!(store.key("file:///ww/a").is_err());
        let store = Store::new("s3://lake/w", Arc::new(InMemory::new()));
        for location in ["s3://lake/w/a/b", "s3a://lake/w/a/b", "s3n://lake/w/a/b"] {
            assert_eq!(store.key(location).unwrap(), "a/b");
        }
        for location in ["s3://lake/ww/a", "gs://lake/w/a", "/lake/w/a", "s3a://lake2/w/a"] {
            assert!(store.key(location).is_err(), "{location}");
        }
    }
}
