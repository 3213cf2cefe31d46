//! Moving a file to where it stays: nothing that is there is replaced, and nothing is half there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::Serialize;

/// Names that are tried for one file.
const MAX_NAMES: u32 = 1000;

/// Why a file cannot become rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The stable name, for metrics.
    pub(super) kind: &'static str,
    pub(super) message: String,
    /// The table it was for, if one wants it.
    pub(super) table: Option<String>,
}

/// The file beside a refused one, `NAME.reason.json`.
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

/// Moves a file that landed. Gives where it is now.
///
/// # Errors
/// Those of the file system; the file is then where it was. [`io::ErrorKind::NotFound`] when it is gone.
pub(super) fn move_landed(from: &Path, to: &Path, now: DateTime<Utc>) -> io::Result<PathBuf> {
    let place = Place::reserve(to, now, false)?;
    place.take(from)
}

/// Moves a file that is refused, with the reason beside it. Gives where it is now.
///
/// # Errors
/// As [`move_landed`].
pub(super) fn move_refused(
    from: &Path,
    to: &Path,
    refusal: &Refusal,
    now: DateTime<Utc>,
) -> io::Result<PathBuf> {
    let mut place = Place::reserve(to, now, true)?;
    let explanation = Explanation {
        file: from.display().to_string(),
        table: refusal.table.as_deref(),
        reason: ExplainedReason {
            kind: refusal.kind,
            message: &refusal.message,
        },
        refused_at: now.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        landfast_version: env!("CARGO_PKG_VERSION"),
    };
    place.explain(&explanation)?;
    place.take(from)
}

/// A name that is taken by an empty file of ours until the real one stands there. Dropping it gives the name back.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    reason: Option<(PathBuf, File)>,
    taken: bool,
}

impl Place {
    /// Takes the name, or if something has it, one with the time in it.
    fn reserve(to: &Path, now: DateTime<Utc>, with_reason: bool) -> io::Result<Self> {
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut last = None;
        for attempt in 0..MAX_NAMES {
            match Self::create(renamed(to, now, attempt), with_reason) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = Some(error),
                created => return created,
            }
        }
        Err(last.unwrap_or_else(|| io::ErrorKind::AlreadyExists.into()))
    }

    fn create(path: PathBuf, with_reason: bool) -> io::Result<Self> {
        // A rename alone would replace what has the name; creating tells, on every file system.
        let _empty = create_new(&path)?;
        let mut place = Self {
            path,
            reason: None,
            taken: false,
        };
        if with_reason {
            let mut path = place.path.clone().into_os_string();
            path.push(".reason.json");
            let path = PathBuf::from(path);
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
    fn take(mut self, from: &Path) -> io::Result<PathBuf> {
        match fs::rename(from, &self.path) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => self.copy(from)?,
            renamed => renamed?,
        }
        self.taken = true;
        Ok(self.path.clone())
    }

    fn copy(&self, from: &Path) -> io::Result<()> {
        let mut name = std::ffi::OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        let whole = self.path.with_file_name(name);
        let copied = fs::copy(from, &whole)
            .and_then(|_| File::open(&whole)?.sync_all())
            .and_then(|()| fs::rename(&whole, &self.path));
        if copied.is_err() {
            // What is left of it is hidden, and the next attempt writes over it.
            let _left = fs::remove_file(&whole);
        }
        copied?;
        if let Some(folder) = self.path.parent() {
            // The copy must be there for good before the file is gone.
            File::open(folder)?.sync_all()?;
        }
        fs::remove_file(from)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        // What cannot be removed now is an empty file that says nothing.
        let _left = fs::remove_file(&self.path);
        if let Some((path, _)) = &self.reason {
            let _left = fs::remove_file(path);
        }
    }
}

fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// `orders.json.gz`, then `orders-20261121T120000.123Z.json.gz`, then the same with `-2` behind the time.
fn renamed(to: &Path, now: DateTime<Utc>, attempt: u32) -> PathBuf {
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let (stem, ends) = name.split_at(name.find('.').unwrap_or(name.len()));
    let time = now.format("%Y%m%dT%H%M%S%.3fZ");
    match attempt {
        0 => to.to_path_buf(),
        1 => to.with_file_name(format!("{stem}-{time}{ends}")),
        _ => to.with_file_name(format!("{stem}-{time}-{attempt}{ends}")),
    }
}
