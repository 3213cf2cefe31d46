//! Cutting a stream of JSON into chunks of whole records, in bounded memory.
//!
//! What ends the records is decided once, from the stream's beginning; each chunk tells the decoder. NDJSON is cut at
//! newlines. All else is cut behind objects and arrays, by counting brackets outside strings: at the top level, and
//! between the elements of a top-level array. The count is right as far as the syntax is, and where it breaks, the
//! decoder of that chunk says so, and everything from there is one rejected record. No byte is looked at twice.

use bytes::{Bytes, BytesMut};

use super::source::Source;
use crate::decode::{BYTE_ORDER_MARK, Framing, Part, PartEnd, is_space};
use crate::error::{Error, ErrorKind, Result};

/// What bounds the memory of cutting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// A chunk, unless one record is larger.
    pub(super) chunk: usize,
    /// The beginning that tells what ends records; more where that is too short to tell.
    pub(super) sample: usize,
    /// The largest record. Beyond it the file is not what it was taken for, such as a binary file without newlines.
    pub(super) record: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            chunk: 4 << 20,
            sample: 1 << 20,
            record: 64 << 20,
        }
    }
}

/// Whole records, and where in the stream they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) bytes: Bytes,
    pub(super) part: Part,
}

impl Chunk {
    /// What was decoded of it, and what is left.
    pub(super) fn split(mut self, end: PartEnd) -> (Bytes, Option<Self>) {
        let PartEnd::Full { at, in_array } = end else {
            return (self.bytes, None);
        };
        let decoded = self.bytes.split_to(at.min(self.bytes.len()));
        self.part.in_array = in_array;
        (decoded, Some(self))
    }
}

/// The chunks of one source, in order. A source of nothing but whitespace has none.
pub(super) struct Chunks {
    source: Source,
    name: String,
    sizes: Sizes,
    framing: Option<Framing>,
    /// How much must be read before the framing is decided.
    sample: usize,
    /// Whether the byte order mark was looked for.
    begun: bool,
    /// Read, and not handed out yet.
    pending: BytesMut,
    /// Whether `pending` begins behind an element of an array.
    in_array: bool,
    scan: Scan,
    ended: bool,
}

/// How far `pending` was looked at, and where the bracket count stands there.
#[derive(Debug, Default)]
struct Scan {
    position: usize,
    in_array: bool,
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// Where the next chunk may begin, and whether that is in an array.
    whole: Option<(usize, bool)>,
}

impl Chunks {
    pub(super) fn new(source: Source, name: String, sizes: Sizes) -> Self {
        Self {
            source,
            name,
            sizes,
            framing: None,
            sample: sizes.sample,
            begun: false,
            pending: BytesMut::new(),
            in_array: false,
            scan: Scan::default(),
            ended: false,
        }
    }

    /// The source's name in messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The next chunk; `None` at the end of the source.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] when the source breaks off or a record is too large.
    pub(super) fn next(&mut self) -> Result<Option<Chunk>> {
        loop {
            if self.framing.is_none() {
                self.framing = self.sniff();
            }
            if let Some(chunk) = self.framing.and_then(|framing| self.cut(framing)) {
                return Ok(Some(chunk));
            }
            if self.ended {
                return Ok(None);
            }
            if self.pending.len() > self.sizes.record {
                return Err(Error::new(
                    ErrorKind::Rejected,
                    format!(
                        "A record is larger than {} MiB, or the file is not JSON; nothing of it was committed.",
                        self.sizes.record >> 20
                    ),
                )
                .with("file", &self.name));
            }
            self.read()?;
        }
    }

    /// Ends the reading; see [`Source::finish`].
    pub(super) fn finish(self) -> Result<[u8; 32]> {
        self.source.finish(&self.name)
    }

    fn read(&mut self) -> Result<()> {
        let start = self.pending.len();
        self.pending.resize(start + self.sizes.chunk, 0);
        let room = self.pending.get_mut(start..).unwrap_or_default();
        let count = self.source.fill(&self.name, room)?;
        self.pending.truncate(start + count);
        self.ended = count < self.sizes.chunk;
        Ok(())
    }

    /// Looks at the beginning, once there is enough of it.
    fn sniff(&mut self) -> Option<Framing> {
        if self.pending.len() < self.sample && !self.ended {
            return None;
        }
        if !self.begun && self.pending.starts_with(BYTE_ORDER_MARK) {
            let _mark = self.pending.split_to(BYTE_ORDER_MARK.len());
        }
        self.begun = true;
        let blank = self.pending.iter().take_while(|byte| is_space(byte)).count();
        let _blank = self.pending.split_to(blank);
        let end = if self.ended {
            let trail = self.pending.iter().rev().take_while(|byte| is_space(byte));
            self.pending.len() - trail.count()
        } else if self.pending.len() < self.sample {
            return None;
        } else {
            self.pending.len()
        };
        let framing = Framing::sniff(self.pending.get(..end).unwrap_or_default(), self.ended);
        // Twice as much each time keeps the work in proportion.
        self.sample = self.pending.len().saturating_mul(2).max(self.sizes.sample);
        framing
    }

    /// Takes the whole records of a full chunk, or what is left at the end.
    fn cut(&mut self, framing: Framing) -> Option<Chunk> {
        let room = self.sizes.chunk;
        while self.pending.len() >= room
            && self.scan.whole.is_none()
            && self.scan.position < self.pending.len()
        {
            // Not much more than a chunk at a time, however much was read to decide the framing.
            let end = (self.scan.position + room).min(self.pending.len());
            let bytes = self.pending.get(..end).unwrap_or_default();
            match framing {
                Framing::Lines => self.scan.find_line(bytes),
                Framing::Values => self.scan.count_brackets(bytes),
            }
        }
        let (end, in_array) = match self.scan.whole.take() {
            Some(whole) => whole,
            None if self.ended => return self.rest(framing),
            None => return None,
        };
        self.scan.position -= end;
        let part = Part {
            framing,
            in_array: std::mem::replace(&mut self.in_array, in_array),
            is_last: false,
        };
        let bytes = self.pending.split_to(end).freeze();
        Some(Chunk { bytes, part })
    }

    /// What is left at the end, unless it says nothing.
    fn rest(&mut self, framing: Framing) -> Option<Chunk> {
        let bytes = self.pending.split().freeze();
        let in_array = std::mem::take(&mut self.in_array);
        // An array that is still open must be closed, or be told of.
        let is_wanted = in_array || !bytes.iter().all(is_space);
        let part = Part {
            framing,
            in_array,
            is_last: true,
        };
        is_wanted.then_some(Chunk { bytes, part })
    }
}

impl Scan {
    /// Looks for the last newline in what is new.
    fn find_line(&mut self, bytes: &[u8]) {
        let new = bytes.get(self.position..).unwrap_or_default();
        if let Some(at) = memchr::memrchr(b'\n', new) {
            self.whole = Some((self.position + at + 1, false));
        }
        self.position = bytes.len();
    }

    /// Counts brackets over what is new, and notes where the last whole value ends.
    fn count_brackets(&mut self, bytes: &[u8]) {
        for (offset, byte) in bytes.iter().enumerate().skip(self.position) {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'[' if self.depth == 0 && !self.in_array => self.in_array = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        self.whole = Some((offset + 1, self.in_array));
                    }
                }
                b']' if self.in_array => {
                    self.in_array = false;
                    self.whole = Some((offset + 1, false));
                }
                _ => {}
            }
        }
        self.position = bytes.len();
    }
}
