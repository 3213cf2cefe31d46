//! One landing folder: where its files come from and go to, what a look finds in it, and the claim on one file.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::config::{Location, landed_beside};
use crate::error::{Error, ErrorKind, Result};
use crate::load::Stamp;

/// Names that writers give to what is not complete yet; capital letters alike.
const UNFINISHED: [&str; 7] = [
    ".tmp",
    ".temp",
    ".part",
    ".partial",
    ".crdownload",
    ".download",
    ".filepart",
];

/// Files that one look takes note of; more wait until these are gone or others have their turn. Bounds the memory of a
/// watched folder.
pub(super) const MAX_FILES: usize = 10_000;

/// The folder of refused files, in the dead letters. No table's folder is named so: a table's name has a dot.
const REFUSED: &str = "files";

/// A landing folder.
#[derive(Debug)]
pub(super) struct Folder {
    /// The folder as the configuration names it, for routing.
    pub(super) location: Location,
    root: PathBuf,
    landed: PathBuf,
    refused: PathBuf,
}

/// A file that a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The name relative to the folder.
    pub(super) name: PathBuf,
    pub(super) stamp: Stamp,
}

/// What a look found.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) files: Vec<Found>,
    /// The last of them, if there are more than a look takes note of.
    pub(super) end: Option<PathBuf>,
    /// Something that is neither a file nor a folder, such as a symbolic link; it is left alone.
    pub(super) other: Option<PathBuf>,
    /// A folder inside that cannot be read, and why.
    pub(super) unreadable: Option<(PathBuf, io::Error)>,
}

/// The right of this process to load a file, as long as it lives. Other processes on the folder see the lock.
#[derive(Debug)]
pub(super) struct Claim {
    _lock: File,
}

/// Whether a file can be loaded now.
#[derive(Debug)]
pub(super) enum Claiming {
    Claimed(Claim),
    /// Another process has locked it.
    Busy,
    /// It is not the one that the look found.
    Changed,
    /// It cannot be read, such as for want of permission.
    Unreadable(io::Error),
}

impl Folder {
    /// Makes the folder and `landed` beside it where they are missing, and reads it once.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] naming the folder that cannot be made or read.
    pub(super) fn open(location: &Location, dead_letters: &Location) -> Result<Self> {
        let folder = Self {
            location: location.clone(),
            root: PathBuf::from(location.path()),
            landed: PathBuf::from(landed_beside(location).path()),
            refused: Path::new(dead_letters.path()).join(REFUSED),
        };
        for made in [&folder.root, &folder.landed] {
            fs::create_dir_all(made)
                .map_err(|error| refused("The folder for landing files cannot be made.", made, error))?;
        }
        fs::read_dir(&folder.root)
            .map_err(|error| refused("The landing folder cannot be read.", &folder.root, error))?;
        Ok(folder)
    }

    /// The path of a file in it.
    pub(super) fn path(&self, name: &Path) -> PathBuf {
        self.root.join(name)
    }

    /// Where a file goes that landed.
    pub(super) fn landed(&self, name: &Path) -> PathBuf {
        self.landed.join(name)
    }

    /// Where a file goes that is refused.
    pub(super) fn refused(&self, name: &Path) -> PathBuf {
        self.refused.join(name)
    }

    /// Lists the files in it at any depth. Hidden and unfinished names are passed over; links are not followed. Of very
    /// many, the first by name after `begin` are taken note of, then the first of all.
    ///
    /// # Errors
    /// Those of reading the folder itself.
    pub(super) fn look(&self, begin: &Path) -> io::Result<Look> {
        let mut look = Look::default();
        let mut nearest: BTreeMap<(bool, PathBuf), Stamp> = BTreeMap::new();
        let mut more = false;
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(self.root.join(&folder)) {
                Ok(entries) => entries,
                Err(error) if folder.as_os_str().is_empty() => return Err(error),
                // Gone since its parent was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    look.unreadable = Some((self.root.join(folder), error));
                    continue;
                }
            };
            for entry in entries.flatten() {
                let name = folder.join(entry.file_name());
                if is_unfinished(&entry.file_name().to_string_lossy()) {
                    continue;
                }
                // Of a link, the link itself. What vanished meanwhile was not there.
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.is_dir() {
                    folders.push(name);
                } else if !metadata.is_file() {
                    look.other = Some(self.root.join(name));
                } else {
                    let is_behind = name.as_path() <= begin;
                    nearest.insert((is_behind, name), Stamp::from(&metadata));
                    if nearest.len() > MAX_FILES {
                        nearest.pop_last();
                        more = true;
                    }
                }
            }
        }
        let last = nearest.last_key_value().filter(|_| more);
        look.end = last.map(|((_, name), _)| name.clone());
        let found = nearest.into_iter();
        look.files = found.map(|((_, name), stamp)| Found { name, stamp }).collect();
        Ok(look)
    }

    /// Whether the file is still the one that was found.
    ///
    /// # Errors
    /// When it is not there, or cannot be looked at.
    pub(super) fn is_unchanged(&self, found: &Found) -> io::Result<bool> {
        let now = fs::symlink_metadata(self.path(&found.name))?;
        Ok(Stamp::from(&now) == found.stamp)
    }

    /// Locks a file for loading and moving it.
    pub(super) fn claim(&self, found: &Found) -> Claiming {
        if !matches!(self.is_unchanged(found), Ok(true)) {
            return Claiming::Changed;
        }
        let file = match File::open(self.path(&found.name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Claiming::Changed,
            Err(error) => return Claiming::Unreadable(error),
        };
        // Elsewhere a lock would keep the load itself from reading. Where a file system has no locks, one process a
        // folder is what the documentation asks for.
        if cfg!(unix) && matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            return Claiming::Busy;
        }
        // Behind the lock: whoever had it may have moved the file. Opening asks a network mount anew what the look may
        // have had from its cache.
        let opened = file
            .metadata()
            .is_ok_and(|metadata| Stamp::from(&metadata) == found.stamp);
        if opened && matches!(self.is_unchanged(found), Ok(true)) {
            return Claiming::Claimed(Claim { _lock: file });
        }
        Claiming::Changed
    }
}

/// Whether a name says that the file, or what is in the folder, is not for us yet.
fn is_unfinished(name: &str) -> bool {
    let name = name.to_lowercase();
    name.starts_with('.') || name.ends_with('~') || UNFINISHED.iter().any(|end| name.ends_with(end))
}

fn refused(message: &str, folder: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, message)
        .with("folder", folder.display())
        .with_source(error)
}
