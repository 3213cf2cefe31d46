//! Moving a file to where it stays: nothing that is there is replaced, nothing is half there, and no other file that took
//! the name meanwhile goes along.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::load::Stamp;
use crate::trigger::DeliveryId;

/// Names that are tried for one file.
const MAX_NAMES: u32 = 1000;

/// The longest name that file systems take, in bytes.
const MAX_NAME: usize = 255;

const REASON: &str = ".reason.json";
const LEAVING: &str = ".leaving.tmp";

/// A file that is done with, and to be moved.
#[derive(Debug)]
pub(super) struct Leaving<'a> {
    pub(super) path: &'a Path,
    pub(super) stamp: Stamp,
    /// What landed, if it did.
    pub(super) landed_as: Option<&'a DeliveryId>,
    /// How the file system renames.
    pub(super) rename: Rename,
}

pub(super) type Rename = fn(&Path, &Path) -> io::Result<()>;

/// Why a file cannot become rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The stable name, for metrics.
    pub(super) kind: &'static str,
    pub(super) message: String,
    /// The table it was for, if one wants it.
    pub(super) table: Option<String>,
}

/// The file beside a refused one, `NAME.reason.json`; a name that would be too long is cut.
#[derive(Debug, Serialize)]
struct Explanation<'a> {
    /// Where the file was found.
    file: String,
    table: Option<&'a str>,
    reason: ExplainedReason<'a>,
    refused_at: String,
    landfast_version: &'static str,
}

#[derive(Debug, Serialize)]
struct ExplainedReason<'a> {
    kind: &'a str,
    message: &'a str,
}

/// Moves a file that landed. Gives where it is now; `None` when another file had taken its name, which is back then.
///
/// # Errors
/// Those of the file system; the file is then where it was, unless the error says where. [`io::ErrorKind::NotFound`] when
/// it is gone.
pub(super) fn move_landed(
    leaving: &Leaving<'_>,
    to: &Path,
    now: DateTime<Utc>,
) -> io::Result<Option<PathBuf>> {
    let place = Place::reserve(to, now, false)?;
    place.take(leaving, now)
}

/// Moves a file that is refused, with the reason beside it. Gives what [`move_landed`] does.
///
/// # Errors
/// As [`move_landed`].
pub(super) fn move_refused(
    leaving: &Leaving<'_>,
    to: &Path,
    refusal: &Refusal,
    now: DateTime<Utc>,
) -> io::Result<Option<PathBuf>> {
    let mut place = Place::reserve(to, now, true)?;
    let explanation = Explanation {
        file: leaving.path.display().to_string(),
        table: refusal.table.as_deref(),
        reason: ExplainedReason {
            kind: refusal.kind,
            message: &refusal.message,
        },
        refused_at: now.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        landfast_version: env!("CARGO_PKG_VERSION"),
    };
    place.explain(&explanation)?;
    place.take(leaving, now)
}

impl Leaving<'_> {
    /// Whether that is the file, where it is now. Its content tells as well, if it landed: on some mounts, such as those of
    /// buckets, a file is another one once it is renamed.
    fn is(&self, moved: &Path) -> bool {
        let has_stamp = stamp(moved).is_ok_and(|stamp| stamp == self.stamp);
        let has_content = || {
            let landed = self.landed_as?;
            Some(self.content(moved).is_ok_and(|content| content == *landed))
        };
        has_stamp || has_content().unwrap_or(false)
    }

    /// What a file would land as under this one's name.
    fn content(&self, of: &Path) -> io::Result<DeliveryId> {
        // Opening a pipe would wait for its other end.
        if !fs::symlink_metadata(of)?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut hash = Sha256::new();
        io::copy(&mut File::open(of)?, &mut hash)?;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        Ok(DeliveryId::file(name, &hash.finalize().into()))
    }

    /// Puts back what was moved and is another file: under the name that it had, or if that is taken again, one with the
    /// time in it, where it is found as well. Nothing is replaced. The moved name may stay, as a second one.
    pub(super) fn put_back(&self, moved: &Path, now: DateTime<Utc>) -> io::Result<()> {
        // A rename would replace what has taken the name since.
        let linked = free_name(self.path, now, 0, |name| fs::hard_link(moved, name));
        let is_known = self.landed_as.is_some();
        let back = match linked {
            // There are no links on the mount, or not to files of others. A name with our time in it is nobody else's.
            Err(_) if is_known => free_name(self.path, now, 1, |name| Place::create(name, false))
                .and_then(|place| place.rename(moved, self.rename)),
            linked => linked,
        };
        back.map_err(|error| {
            let moved = moved.display();
            let what = format!("another file took its name, did not land and is at {moved} now: {error}");
            io::Error::other(what)
        })
    }
}

/// A name that is taken by an empty file of ours until the real one stands there. Dropping it gives the name back, as long
/// as what stands there is ours.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// What we put there: the empty file, or the copy of the real one.
    ours: Stamp,
    reason: Option<(PathBuf, File)>,
    taken: bool,
}

impl Place {
    /// Takes the name, or if something has it, one with the time in it.
    fn reserve(to: &Path, now: DateTime<Utc>, with_reason: bool) -> io::Result<Self> {
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        free_name(to, now, 0, |name| Self::create(name, with_reason))
    }

    fn create(path: PathBuf, with_reason: bool) -> io::Result<Self> {
        // A rename alone would replace what has the name; creating tells, on every file system.
        let empty = create_new(&path)?.metadata()?;
        let mut place = Self {
            path,
            ours: Stamp::from(&empty),
            reason: None,
            taken: false,
        };
        if with_reason {
            let path = beside(&place.path, "", REASON);
            let file = create_new(&path)?;
            place.reason = Some((path, file));
        }
        Ok(place)
    }

    fn explain(&mut self, explanation: &Explanation<'_>) -> io::Result<()> {
        if let Some((_, file)) = &mut self.reason {
            let mut text = serde_json::to_vec_pretty(explanation)?;
            text.push(b'\n');
            file.write_all(&text)?;
            file.sync_all()?;
        }
        Ok(())
    }

    /// Puts the file there. A rename is all or nothing; between file systems, a copy is renamed once it is whole.
    fn take(mut self, leaving: &Leaving<'_>, now: DateTime<Utc>) -> io::Result<Option<PathBuf>> {
        match self.put(leaving.path, leaving.rename, |moved| leaving.is(moved)) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                return self.take_copy(leaving, now);
            }
            renamed => renamed?,
        }
        self.taken = true;
        // Between the last look at the name and the rename it may have become another file's.
        if leaving.is(&self.path) {
            return Ok(Some(self.path.clone()));
        }
        match leaving.put_back(&self.path, now) {
            Ok(()) => {
                // It has two names now, if it was linked.
                let _gone = fs::remove_file(&self.path);
                self.taken = false;
                Ok(None)
            }
            // It is refused with another's reason, if it is another: nothing tells. It is there to be seen.
            Err(_) if leaving.landed_as.is_none() => Ok(Some(self.path.clone())),
            Err(error) => Err(error),
        }
    }

    /// As [`Place::take`], where no rename leads: the file goes once its copy is there for good, and it is the one.
    fn take_copy(mut self, leaving: &Leaving<'_>, now: DateTime<Utc>) -> io::Result<Option<PathBuf>> {
        self.copy(leaving.path)?;
        if !leaving.is(leaving.path) {
            return Ok(None);
        }
        let copied = match leaving.landed_as {
            Some(landed) => landed.clone(),
            None => leaving.content(&self.path)?,
        };
        let leaving = Leaving {
            landed_as: Some(&copied),
            ..*leaving
        };
        // Removing by name would remove what has taken the name since.
        let mut aside = Self::reserve(&beside(leaving.path, "", LEAVING), now, false)?;
        aside.put(leaving.path, leaving.rename, |moved| leaving.is(moved))?;
        aside.taken = true;
        self.taken = leaving.is(&aside.path);
        if !self.taken {
            leaving.put_back(&aside.path, now)?;
        }
        let _gone = fs::remove_file(&aside.path);
        Ok(self.taken.then(|| self.path.clone()))
    }

    fn rename(mut self, from: &Path, rename: Rename) -> io::Result<()> {
        let before = stamp(from)?;
        let is_there = |moved: &Path| stamp(moved).is_ok_and(|now| now.is_same_file(&before));
        self.put(from, rename, is_there)?;
        self.taken = true;
        Ok(())
    }

    /// Renames a file over ours. On network mounts and those of buckets a rename may be done and its answer an error all
    /// the same: what stands there then tells.
    fn put(&self, from: &Path, rename: Rename, is_it: impl Fn(&Path) -> bool) -> io::Result<()> {
        match rename(from, &self.path) {
            Err(_answer) if !self.is_ours() && is_it(&self.path) => Ok(()),
            renamed => renamed,
        }
    }

    /// Whether what we put there is there still.
    fn is_ours(&self) -> bool {
        stamp(&self.path).is_ok_and(|now| now.is_same_file(&self.ours))
    }

    fn copy(&mut self, from: &Path) -> io::Result<()> {
        let whole = beside(&self.path, ".", "");
        let copied = fs::copy(from, &whole)
            .and_then(|_| File::open(&whole)?.sync_all())
            .and_then(|()| fs::rename(&whole, &self.path))
            .and_then(|()| stamp(&self.path));
        if copied.is_err() {
            // What is left of it is hidden, and the next attempt writes over it.
            let _left = fs::remove_file(&whole);
        }
        self.ours = copied?;
        if let Some(folder) = self.path.parent() {
            // The copy must be there for good before the file is gone.
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        match self.path.symlink_metadata() {
            // What cannot be removed now is an empty file that says nothing.
            Ok(_) if self.is_ours() => drop(fs::remove_file(&self.path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // A rename whose answer was an error may have put the real file there, which is the only one.
            _ => return,
        }
        if let Some((path, _)) = &self.reason {
            let _left = fs::remove_file(path);
        }
    }
}

fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// What tells a file that was moved from others. Opening it asks a network mount anew what it may have in its cache.
fn stamp(path: &Path) -> io::Result<Stamp> {
    let metadata = fs::symlink_metadata(path)?;
    // What we may not read can still be looked at.
    let opened = metadata.is_file().then(|| File::open(path));
    match opened {
        Some(Ok(file)) => Ok(Stamp::from(&file.metadata()?)),
        _ => Ok(Stamp::from(&metadata)),
    }
}

/// Takes the first name that is free.
fn free_name<T>(
    to: &Path,
    now: DateTime<Utc>,
    first: u32,
    mut take: impl FnMut(PathBuf) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = None;
    for attempt in first..MAX_NAMES {
        match take(renamed(to, now, attempt)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = Some(error),
            taken => return taken,
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AlreadyExists.into()))
}

/// `orders.json.gz`, then `orders-20261121T120000.123Z.json.gz`, then the same with `-2` behind the time.
fn renamed(to: &Path, now: DateTime<Utc>, attempt: u32) -> PathBuf {
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let (stem, ends) = name.split_at(name.find('.').unwrap_or(name.len()));
    let time = now.format("%Y%m%dT%H%M%S%.3fZ");
    let mark = match attempt {
        0 => return to.to_path_buf(),
        1 => format!("-{time}"),
        _ => format!("-{time}-{attempt}"),
    };
    // Room for the time, and for the reason that may stand beside it.
    let room = MAX_NAME - REASON.len();
    let ends = cut(ends, room.saturating_sub(mark.len()));
    let stem = cut(stem, room.saturating_sub(mark.len() + ends.len()));
    to.with_file_name(format!("{stem}{mark}{ends}"))
}

/// A name made of another one; of one that is too long, as much as fits.
fn beside(path: &Path, start: &str, end: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    let room = MAX_NAME - start.len() - end.len();
    let mut whole = std::ffi::OsString::from(start);
    match name.len() > room {
        true => whole.push(cut(&name.to_string_lossy(), room)),
        false => whole.push(name),
    }
    whole.push(end);
    path.with_file_name(whole)
}

/// As much of the beginning of a text as is no longer than this, in bytes.
fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn files_of_the_longest_names_are_moved() {
        let (here, there) = (TempDir::new().unwrap(), TempDir::new_in("/dev/shm").unwrap());
        let now = DateTime::from_timestamp_millis(1_795_231_323_004).unwrap();
        let refusal = Refusal {
            kind: "rejected",
            message: String::new(),
            table: None,
        };
        let longest = [
            "x".repeat(255),
            format!("{}.json", "x".repeat(250)),
            format!("a.{}", "x".repeat(253)),
            "ä".repeat(127),
        ];
        for name in longest {
            let from = here.path().join(&name);
            let mut places = std::collections::BTreeSet::new();
            for to in [here.path().join("refused"), there.path().to_path_buf()] {
                for content in ["1", "2", "3"] {
                    fs::write(&from, content).unwrap();
                    let leaving = Leaving {
                        path: &from,
                        stamp: stamp(&from).unwrap(),
                        landed_as: None,
                        rename: |from, to| fs::rename(from, to),
                    };
                    let moved = move_refused(&leaving, &to.join(&name), &refusal, now).unwrap();
                    let moved = moved.unwrap();
                    assert_eq!(fs::read_to_string(&moved).unwrap(), content);
                    assert!(beside(&moved, "", REASON).exists());
                    assert!(!from.exists());
                    places.insert(moved);
                }
            }
            assert_eq!(places.len(), 6, "{places:?}");
        }
    }
}
