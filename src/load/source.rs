//! One local file or standard input: its bytes once, decompressed, hashed and watched for change.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

use crate::decode::Compression;
use crate::error::{Error, ErrorKind, Result};

const BUFFER_BYTES: usize = 1 << 20;

/// Where a load reads from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A file of this machine.
    File(PathBuf),
    /// Standard input, until its end.
    Stdin,
}

impl Input {
    /// The name in messages and in the file's identity.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Stdin => "-".to_owned(),
        }
    }

    /// The size before reading; none of what is no regular file, such as a pipe.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] or [`ErrorKind::Unavailable`] when the file cannot be looked at.
    pub fn len(&self) -> Result<Option<u64>> {
        match self {
            Self::File(path) => {
                let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, error))?;
                if metadata.is_dir() {
                    return Err(not_a_file(path));
                }
                Ok(metadata.is_file().then_some(metadata.len()))
            }
            Self::Stdin => Ok(None),
        }
    }
}

impl Input {
    /// Says whether the input can be opened, without reading of it.
    ///
    /// # Errors
    /// As [`Input::len`].
    pub(super) fn check(&self) -> Result<()> {
        // Opening a pipe would wait for its other end.
        match (self, self.len()?) {
            (Self::File(path), Some(_)) => File::open(path)
                .map(drop)
                .map_err(|error| unreadable(path, error)),
            _ => Ok(()),
        }
    }
}

/// The bytes of one input on their way, as [`Read`]: plain whatever the compression.
pub(super) struct Source {
    reader: Box<dyn Read + Send>,
    state: Arc<State>,
    watched: Option<(PathBuf, Stamp)>,
}

#[derive(Default)]
struct State {
    /// Bytes taken from the file, for progress.
    read: Arc<AtomicU64>,
    hash: std::sync::Mutex<Sha256>,
}

/// What tells that a file changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    len: u64,
    modified: Option<SystemTime>,
    /// Device and number, where files have them.
    identity: Option<(u64, u64)>,
}

impl Stamp {
    /// The file's size in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Whether that is the same file with as many bytes, whatever its time: a network mount may tell another one later.
    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        self.len == other.len && self.identity == other.identity
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            len: metadata.len(),
            modified: metadata.modified().ok(),
            identity: identity(metadata),
        }
    }
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_metadata: &Metadata) -> Option<(u64, u64)> {
    None
}

impl Source {
    /// Opens an input. `read` counts the bytes taken from it as they are.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] or [`ErrorKind::Unavailable`] naming the file.
    pub(super) fn open(input: &Input, read: Arc<AtomicU64>) -> Result<Self> {
        let state = Arc::new(State {
            read,
            hash: std::sync::Mutex::default(),
        });
        let (raw, watched): (Box<dyn Read + Send>, _) = match input {
            Input::Stdin => (Box::new(io::stdin()), None),
            Input::File(path) => {
                let file = File::open(path).map_err(|error| unreadable(path, error))?;
                let metadata = file.metadata().map_err(|error| unreadable(path, error))?;
                if metadata.is_dir() {
                    return Err(not_a_file(path));
                }
                // A pipe has neither length nor times to watch.
                let watched = metadata.is_file().then(|| (path.clone(), Stamp::from(&metadata)));
                (Box::new(file), watched)
            }
        };
        Self::read(raw, state, watched, &input.name())
    }

    /// Takes bytes that come from elsewhere, and reads their beginning. An [`Error`] of ours inside an error of theirs is
    /// told as it is.
    ///
    /// # Errors
    /// As [`Source::fill`].
    pub(super) fn of(raw: Box<dyn Read + Send>, name: &str, read: Arc<AtomicU64>) -> Result<Self> {
        let state = Arc::new(State {
            read,
            hash: std::sync::Mutex::default(),
        });
        Self::read(raw, state, None, name)
    }

    fn read(
        raw: Box<dyn Read + Send>,
        state: Arc<State>,
        watched: Option<(PathBuf, Stamp)>,
        name: &str,
    ) -> Result<Self> {
        let hashed = Hashed {
            raw,
            state: state.clone(),
        };
        let hashed = BufReader::with_capacity(BUFFER_BYTES, hashed);
        let reader = decompressed(hashed).map_err(|error| broken(name, error))?;
        Ok(Self {
            reader,
            state,
            watched,
        })
    }

    /// Says whether it is the file that was found.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] when it is another.
    pub(super) fn check(&self, found: &Stamp, name: &str) -> Result<()> {
        match &self.watched {
            Some((_, opened)) if opened == found => Ok(()),
            _ => Err(changed(name)),
        }
    }

    /// Fills the buffer as far as the input goes; fewer bytes only at its end.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] when the file cannot be read to its end or its compression is cut short or damaged.
    pub(super) fn fill(&mut self, name: &str, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.reader.read(rest) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(name, error)),
            }
        }
        Ok(filled)
    }

    /// Ends the reading: the SHA-256 of the input's bytes, as they are stored.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] when the file is not the one that was opened: it grew, shrank, changed or vanished.
    pub(super) fn finish(self, name: &str) -> Result<[u8; 32]> {
        if let Some((path, opened)) = &self.watched {
            let now = std::fs::metadata(path).map_err(|error| changed(name).with_source(error))?;
            let taken = self.state.read.load(Ordering::Acquire);
            if Stamp::from(&now) != *opened || taken != opened.len {
                return Err(changed(name));
            }
        }
        let hash = self
            .state
            .hash
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(hash.clone().finalize().into())
    }
}

/// Counts and hashes what passes through.
struct Hashed {
    raw: Box<dyn Read + Send>,
    state: Arc<State>,
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.raw.read(buffer)?;
        let bytes = buffer.get(..count).unwrap_or_default();
        self.state
            .hash
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .update(bytes);
        self.state.read.fetch_add(count as u64, Ordering::AcqRel);
        Ok(count)
    }
}

fn decompressed(mut raw: BufReader<Hashed>) -> io::Result<Box<dyn Read + Send>> {
    let start = io::BufRead::fill_buf(&mut raw)?;
    Ok(match Compression::of(start) {
        Some(Compression::Gzip) => Box::new(MultiGzDecoder::new(raw)),
        Some(Compression::Zstd) => Box::new(zstd::stream::read::Decoder::with_buffer(raw)?),
        None => Box::new(raw),
    })
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, "The file cannot be opened.")
        .with("file", path.display())
        .with_source(error)
}

fn not_a_file(path: &Path) -> Error {
    Error::new(ErrorKind::Rejected, "This is a folder where a file was expected.")
        .with("file", path.display())
}

fn broken(name: &str, error: io::Error) -> Error {
    let error = match error.downcast::<Error>() {
        Ok(ours) => return ours,
        Err(error) => error,
    };
    Error::new(
        ErrorKind::Rejected,
        "The file cannot be read to its end; nothing of it was committed.",
    )
    .with("file", name)
    .with_source(error)
}

fn changed(name: &str) -> Error {
    Error::new(
        ErrorKind::Rejected,
        "The file changed while it was read; nothing of it was committed. Load it again when it is complete.",
    )
    .with("file", name)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tempfile::TempDir;

    use super::*;

    /// Something that happens to a file.
    type Change = (&'static str, fn(&Path));

    fn noise(len: usize) -> Vec<u8> {
        let random = crate::random::Random::seeded(1);
        let mut bytes = Vec::new();
        while bytes.len() < len {
            bytes.extend(random.uuid().to_string().bytes());
        }
        bytes
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn read(path: &Path) -> Result<Vec<u8>> {
        let mut source = Source::open(&Input::File(path.to_path_buf()), Arc::default())?;
        let mut plain = vec![0; 1 << 20];
        let count = source.fill("f", &mut plain)?;
        plain.truncate(count);
        source.finish("f").map(|_| plain)
    }

    fn read_bytes(bytes: &[u8]) -> Result<Vec<u8>> {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, bytes).unwrap();
        read(&path)
    }

    #[test]
    fn plain_and_compressed_bytes_are_read_to_their_end() {
        let plain = noise(300_000);
        let (left, right) = plain.split_at(100_000);
        let zstd = |bytes| zstd::encode_all(bytes, 1).unwrap();
        let forms = [
            plain.clone(),
            gzip(&plain),
            [gzip(left), gzip(b""), gzip(right)].concat(),
            zstd(&plain[..]),
            [zstd(left), zstd(right)].concat(),
        ];
        for bytes in forms {
            assert_eq!(read_bytes(&bytes).unwrap(), plain);
        }
        assert_eq!(read_bytes(b"").unwrap(), b"");
        assert_eq!(read_bytes(&gzip(b"")).unwrap(), b"");
    }

    #[test]
    fn compression_that_is_cut_short_or_damaged_is_refused() {
        let plain = noise(300_000);
        for whole in [gzip(&plain), zstd::encode_all(&plain[..], 1).unwrap()] {
            for cut in [3, 5, 20, whole.len() / 2, whole.len() - 9, whole.len() - 1] {
                // Too short to be told from plain bytes.
                if crate::decode::Compression::of(&whole[..cut]).is_none() {
                    continue;
                }
                let error = read_bytes(&whole[..cut]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Rejected, "{cut}: {error}");
                assert!(error.to_string().contains("cannot be read to its end"), "{error}");
            }
        }
        let mut damaged = gzip(&plain);
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        assert_eq!(read_bytes(&damaged).unwrap_err().kind(), ErrorKind::Rejected);
        let junk = [gzip(&plain), b"junk".to_vec()].concat();
        assert_eq!(read_bytes(&junk).unwrap_err().kind(), ErrorKind::Rejected);
    }

    #[test]
    fn file_that_changes_while_it_is_read_is_refused() {
        let changes: [Change; 5] = [
            ("grows", |path| {
                let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
                file.write_all(b"more").unwrap();
            }),
            ("shrinks", |path| {
                let file = fs::OpenOptions::new().write(true).open(path).unwrap();
                file.set_len(10).unwrap();
            }),
            ("vanishes", |path| fs::remove_file(path).unwrap()),
            ("is replaced by a file alike", |path| {
                let modified = fs::metadata(path).unwrap().modified().unwrap();
                let other = path.with_extension("other");
                fs::write(&other, fs::read(path).unwrap()).unwrap();
                let file = fs::OpenOptions::new().write(true).open(&other).unwrap();
                file.set_modified(modified).unwrap();
                fs::rename(other, path).unwrap();
            }),
            ("is replaced by a folder", |path| {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
            }),
        ];
        let content = noise(3 << 19);
        for (what, change) in changes {
            for before_reading in [true, false] {
                let folder = TempDir::new().unwrap();
                let path = folder.path().join("f");
                fs::write(&path, &content).unwrap();
                let mut source = Source::open(&Input::File(path.clone()), Arc::default()).unwrap();
                let mut plain = vec![0; if before_reading { 1 } else { 4 << 20 }];
                source.fill("f", &mut plain).unwrap();
                change(&path);
                source.fill("f", &mut vec![0; 4 << 20]).unwrap();
                let error = source.finish("f").unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Rejected, "{what}");
                assert!(
                    error.to_string().contains("changed while it was read"),
                    "{what}: {error}"
                );
            }
        }
    }

    #[test]
    fn file_that_is_not_the_one_that_was_found_is_refused() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, "1").unwrap();
        let found = Stamp::from(&fs::metadata(&path).unwrap());
        let open = || Source::open(&Input::File(path.clone()), Arc::default()).unwrap();
        open().check(&found, "f").unwrap();
        let other = folder.path().join("other");
        fs::write(&other, "2").unwrap();
        fs::rename(other, &path).unwrap();
        let error = open().check(&found, "f").unwrap_err();
        assert!(error.to_string().contains("changed"), "{error}");
    }

    #[test]
    fn what_is_no_file_is_refused_by_name() {
        let folder = TempDir::new().unwrap();
        let missing = folder.path().join("missing");
        let refused = [
            (missing.as_path(), ErrorKind::NotFound),
            (folder.path(), ErrorKind::Rejected),
        ];
        for (path, kind) in refused {
            let input = Input::File(path.to_path_buf());
            for error in [read(path).unwrap_err(), input.len().unwrap_err()] {
                assert_eq!(error.kind(), kind);
                assert!(error.to_string().contains(&path.display().to_string()), "{error}");
            }
        }
    }
}
