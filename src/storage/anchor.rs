//! Whether a folder is still the one that was opened.
//!
//! A volume that is unmounted leaves an empty folder of the same name. All that is written there looks durable, and is
//! out of sight once the volume is back.

use std::fs::Metadata;
use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Result};

/// A folder as it was when it was opened.
#[derive(Debug)]
pub(super) struct Anchor {
    folder: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Anchor {
    /// # Errors
    /// [`ErrorKind::Unavailable`] when there is no such folder.
    pub(super) fn of(folder: PathBuf) -> Result<Self> {
        let found = std::fs::metadata(&folder).map_err(|error| {
            Error::new(ErrorKind::Unavailable, "The folder cannot be opened.")
                .with("folder", folder.display())
                .with_source(error)
        })?;
        let identity = identity(&found);
        Ok(Self { folder, identity })
    }

    /// # Errors
    /// [`ErrorKind::Unavailable`] when the folder is gone, or is another by now.
    pub(super) async fn holds(&self) -> Result<()> {
        let lost = || {
            let message = "The folder is gone, or is not the one that was opened at the start: a volume that is not \
                           mounted any more looks so. Bring it back, or start again on what is there now.";
            Error::new(ErrorKind::Unavailable, message).with("folder", self.folder.display())
        };
        match tokio::fs::metadata(&self.folder).await {
            Ok(found) if identity(&found) == self.identity => Ok(()),
            Ok(_) => Err(lost()),
            Err(error) => Err(lost().with_source(error)),
        }
    }
}

#[cfg(unix)]
fn identity(folder: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    Some((folder.dev(), folder.ino()))
}

#[cfg(not(unix))]
fn identity(_folder: &Metadata) -> Option<(u64, u64)> {
    None
}
