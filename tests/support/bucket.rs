//! Buckets in the cloud: a test's own corner of one, and a server of its own that can be killed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use landfast::storage::{Properties, Store};
use tempfile::TempDir;
use uuid::Uuid;

use super::gcs::GcsFront;
use super::{Component, TestResult, needs};

/// Whose protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    S3,
    Gcs,
}

/// A prefix of a bucket that nobody else writes under, and how it is reached.
#[derive(Debug, Clone)]
pub struct Bucket {
    cloud: Cloud,
    location: String,
    endpoint: String,
    /// Where independent readers find it.
    server: String,
    /// What stands before it for as long as anybody asks.
    _front: Option<Arc<GcsFront>>,
}

impl Bucket {
    /// One on the server of the test run. Ends the test as ignored where there is none.
    pub async fn of(cloud: Cloud) -> TestResult<Self> {
        match cloud {
            Cloud::S3 => Self::s3(),
            Cloud::Gcs => Ok(Self::gcs(GcsFront::start().await?)),
        }
    }

    /// One on the S3 server of the test run. Ends the test as ignored where there is none.
    pub fn s3() -> TestResult<Self> {
        let place = needs(Component::S3)?;
        let (endpoint, _) = place.split_once(' ').ok_or("an address and a folder")?;
        Ok(Self::s3_at(endpoint))
    }

    /// One on an S3 server, or on what stands before it.
    pub fn s3_at(endpoint: &str) -> Self {
        Self {
            cloud: Cloud::S3,
            location: format!("s3://lake/t{}", Uuid::new_v4().simple()),
            endpoint: endpoint.to_owned(),
            server: endpoint.to_owned(),
            _front: None,
        }
    }

    /// One behind a front of Cloud Storage's.
    pub fn gcs(front: impl Into<Arc<GcsFront>>) -> Self {
        let front = front.into();
        Self {
            cloud: Cloud::Gcs,
            location: format!("gs://lake/t{}", Uuid::new_v4().simple()),
            endpoint: front.url(),
            server: front.server().to_owned(),
            _front: Some(front),
        }
    }

    /// The same prefix, reached another way.
    pub fn through(&self, endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            ..self.clone()
        }
    }

    /// Whose it is.
    pub fn cloud(&self) -> Cloud {
        self.cloud
    }

    /// Its server's address.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The location of a folder in it.
    pub fn location(&self, folder: &str) -> String {
        format!("{}/{folder}", self.location)
    }

    /// What a [`Store`] is told of it.
    pub fn properties(&self) -> Properties {
        let properties: &[(&str, &str)] = match self.cloud {
            Cloud::S3 => &[
                ("s3.endpoint", &self.endpoint),
                ("s3.access-key-id", "test"),
                ("s3.secret-access-key", "testtest"),
            ],
            Cloud::Gcs => &[
                ("gcs.service.host", &self.endpoint),
                ("gcs.oauth2.token", "testtest"),
            ],
        };
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        properties.iter().map(owned).collect()
    }

    /// What the environment tells a process of it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        if self.cloud == Cloud::Gcs {
            return vec![("STORAGE_EMULATOR_HOST", self.endpoint.clone())];
        }
        vec![
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "testtest".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }

    /// Opens a folder in it.
    pub fn store(&self, folder: &str) -> TestResult<Store> {
        Ok(Store::open_with(&self.location(folder), &self.properties())?)
    }

    /// A location as independent readers are told it.
    pub fn told(&self, location: &str) -> PathBuf {
        format!("{location}?endpoint={}", self.server).into()
    }

    /// The newest metadata of a table in the folder `warehouse`, as independent readers are told it.
    pub async fn metadata(&self, table: &str) -> TestResult<PathBuf> {
        let folder = format!("{}/metadata", table.replace('.', "/"));
        let store = self.store("warehouse")?;
        let version = |name: &String| -> Option<u64> {
            name.strip_prefix('v')?
                .strip_suffix(".metadata.json")?
                .parse()
                .ok()
        };
        let names = store.names_after(&folder, "v").await?;
        let newest = names.iter().filter_map(version).max();
        let newest = newest.ok_or_else(|| format!("{table} is not there."))?;
        Ok(self.told(&store.url(&format!("{folder}/v{newest}.metadata.json"))))
    }
}

/// An S3 server of the test's own. Dropping it ends it.
#[derive(Debug)]
pub struct S3Server {
    programs: String,
    folder: PathBuf,
    endpoint: String,
    _parent: TempDir,
}

impl S3Server {
    /// Starts one. Ends the test as ignored where there is none.
    pub fn start() -> TestResult<Self> {
        let place = needs(Component::S3)?;
        let (_, programs) = place.split_once(' ').ok_or("an address and a folder")?;
        let parent = tempfile::tempdir()?;
        let mut server = Self {
            programs: programs.to_owned(),
            folder: parent.path().join("s3"),
            endpoint: String::new(),
            _parent: parent,
        };
        server.endpoint = server.restart()?;
        Ok(server)
    }

    /// Its address; it stays the same.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The folder of its bucket, as it lies on the disk.
    pub fn bucket_folder(&self) -> PathBuf {
        self.folder.join("buckets/lake")
    }

    /// SIGKILL.
    pub fn kill(&self) -> TestResult {
        self.control(&["kill"]).map(drop)
    }

    /// Starts it again, on the same port, with what it had.
    pub fn restart(&self) -> TestResult<String> {
        self.control(&["start", &self.programs])
    }

    fn control(&self, arguments: &[&str]) -> TestResult<String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/s3-server");
        let output = Command::new(script).args(arguments).arg(&self.folder).output()?;
        if output.status.success() {
            Ok(String::from_utf8(output.stdout)?.trim().to_owned())
        } else {
            let stderr = String::from_utf8_lossy(&output.stderr);
            Err(format!("tests/s3-server {arguments:?}: {stderr}").into())
        }
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        // A failure only says that it is gone already.
        let _stopped = self.control(&["stop"]);
    }
}
