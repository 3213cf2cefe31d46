//! Compression: gzip and zstd by their magic bytes, within a limit.

use std::convert::Infallible;
use std::io::{ErrorKind, Read};

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;

use super::reject::{Reason, RejectKind};

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// The first step of the output's growth, in bytes.
const FIRST_BYTES: usize = 32 * 1024;

/// The smallest and the largest zstd window that is unpacked, as powers of two.
const MIN_WINDOW_LOG: u32 = 23;
const MAX_WINDOW_LOG: u32 = 27;

/// A compression that payloads come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// gzip, all members.
    Gzip,
    /// Zstandard, all frames.
    Zstd,
}

impl Compression {
    /// What a payload is compressed with, told by its magic bytes.
    pub fn of(payload: &[u8]) -> Option<Self> {
        if payload.starts_with(GZIP_MAGIC) {
            Some(Self::Gzip)
        } else if payload.starts_with(ZSTD_MAGIC) {
            Some(Self::Zstd)
        } else {
            None
        }
    }
}

/// Why a payload was not unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotUnpacked<E> {
    /// It never can be: [`RejectKind::TooLarge`] or [`RejectKind::Compression`].
    Rejected(Reason),
    /// There was no room for it.
    NoRoom(E),
}

/// Unpacks gzip (all members) and zstd (all frames), told by their magic bytes. Anything else comes back unchanged.
///
/// Memory is bounded by `max_bytes` and the zstd window, which `max_bytes` bounds too, whatever the payload claims.
///
/// # Errors
/// [`RejectKind::TooLarge`] if more than `max_bytes` come out; [`RejectKind::Compression`] if the payload is cut
/// short or damaged.
pub fn decompress(payload: Bytes, max_bytes: usize) -> Result<Bytes, Reason> {
    let Some(compression) = Compression::of(&payload) else {
        return Ok(payload);
    };
    let always = &mut |_bytes| Ok::<(), Infallible>(());
    unpack(compression, &payload, max_bytes, always).map_err(|failure| match failure {
        NotUnpacked::Rejected(reason) => reason,
        NotUnpacked::NoRoom(never) => match never {},
    })
}

/// Unpacks what is said to be compressed so. `room` is asked for every byte of the output before it is made.
///
/// # Errors
/// As [`decompress`], also when the payload is not compressed so at all; and what `room` answers.
pub fn unpack<E>(
    compression: Compression,
    payload: &[u8],
    max_bytes: usize,
    room: &mut impl FnMut(usize) -> Result<(), E>,
) -> Result<Bytes, NotUnpacked<E>> {
    match compression {
        Compression::Gzip => read_bounded(MultiGzDecoder::new(payload), max_bytes, "gzip", room),
        Compression::Zstd => {
            let unread = |error: std::io::Error| damaged("zstd", error.kind());
            let mut reader = zstd::stream::read::Decoder::with_buffer(payload).map_err(unread)?;
            let window_log = max_bytes
                .max(1)
                .ilog2()
                .saturating_add(1)
                .clamp(MIN_WINDOW_LOG, MAX_WINDOW_LOG);
            reader.window_log_max(window_log).map_err(unread)?;
            read_bounded(reader, max_bytes, "zstd", room)
        }
    }
}

/// Reads to the end, growing by doubling but never past the limit and one byte.
fn read_bounded<E>(
    mut reader: impl Read,
    max_bytes: usize,
    format: &str,
    room: &mut impl FnMut(usize) -> Result<(), E>,
) -> Result<Bytes, NotUnpacked<E>> {
    let limit = max_bytes.saturating_add(1);
    let mut output: Vec<u8> = Vec::new();
    let mut filled = 0;
    loop {
        if filled == output.len() {
            if filled >= limit {
                return Err(NotUnpacked::Rejected(Reason::new(
                    RejectKind::TooLarge,
                    format!("The payload unpacks to more than {max_bytes} bytes."),
                )));
            }
            let step = filled.max(FIRST_BYTES).min(limit - filled);
            room(step).map_err(NotUnpacked::NoRoom)?;
            output.reserve_exact(step);
            output.resize(filled + step, 0);
        }
        match reader.read(output.get_mut(filled..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(damaged(format, error.kind())),
        }
    }
    output.truncate(filled);
    Ok(Bytes::from(output))
}

fn damaged<E>(format: &str, kind: ErrorKind) -> NotUnpacked<E> {
    let what = if kind == ErrorKind::UnexpectedEof {
        "is cut short"
    } else {
        "is damaged, or needs too large a window"
    };
    NotUnpacked::Rejected(Reason::new(
        RejectKind::Compression,
        format!("The {format} data of the payload {what}."),
    ))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(text).unwrap();
        writer.finish().unwrap()
    }

    fn kind(payload: Vec<u8>, max_bytes: usize) -> Option<RejectKind> {
        decompress(Bytes::from(payload), max_bytes)
            .err()
            .map(|reason| reason.kind)
    }

    #[test]
    fn all_members_and_frames_are_unpacked() {
        let members = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(decompress(members.into(), 7).unwrap(), "one two");
        let frames = [
            zstd::encode_all(&b"one "[..], 1).unwrap(),
            zstd::encode_all(&b"two"[..], 1).unwrap(),
        ]
        .concat();
        assert_eq!(decompress(frames.into(), 7).unwrap(), "one two");
    }

    #[test]
    fn plain_payload_is_unchanged() {
        let payload = Bytes::from_static(b"{\"id\":1}");
        assert_eq!(decompress(payload.clone(), 1).unwrap(), payload);
    }

    #[test]
    fn one_byte_over_the_limit_is_too_large() {
        let text = vec![b'x'; 100_000];
        assert_eq!(kind(gzip(&text), 100_000), None);
        assert_eq!(kind(gzip(&text), 99_999), Some(RejectKind::TooLarge));
        let zstd = zstd::encode_all(&text[..], 1).unwrap();
        assert_eq!(kind(zstd.clone(), 100_000), None);
        assert_eq!(kind(zstd, 99_999), Some(RejectKind::TooLarge));
    }

    #[test]
    fn cut_or_damaged_data_is_a_compression_reject() {
        let text: Vec<u8> = (0..50_000_u32)
            .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
            .collect();
        for packed in [gzip(&text), zstd::encode_all(&text[..], 1).unwrap()] {
            for end in [5, packed.len() / 2, packed.len() - 1] {
                let cut = kind(packed[..end].to_vec(), 1 << 20);
                assert_eq!(cut, Some(RejectKind::Compression), "cut at {end}");
            }
        }
        let tail = [gzip(b"one"), b"tail".to_vec()].concat();
        assert_eq!(kind(tail, 100), Some(RejectKind::Compression));
    }

    #[test]
    fn room_is_asked_for_before_it_is_filled() {
        let packed = gzip(&vec![b'x'; 100_000]);
        let mut left = 100_001;
        let mut room = |bytes: usize| {
            left = usize::checked_sub(left, bytes).ok_or("full")?;
            Ok::<(), &str>(())
        };
        let unpacked = unpack(Compression::Gzip, &packed, 100_000, &mut room).unwrap();
        assert_eq!((unpacked.len(), left), (100_000, 0));
        let mut room = |bytes: usize| if bytes > FIRST_BYTES { Err("full") } else { Ok(()) };
        let larger = gzip(&vec![b'x'; 1_000_000]);
        let failed = unpack(Compression::Gzip, &larger, usize::MAX, &mut room);
        assert_eq!(failed, Err(NotUnpacked::NoRoom("full")));
    }

    #[test]
    fn what_is_not_compressed_as_said_is_a_compression_reject() {
        let zstd = zstd::encode_all(&b"one"[..], 1).unwrap();
        for (said, payload) in [
            (Compression::Gzip, zstd.clone()),
            (Compression::Gzip, b"{}".to_vec()),
            (Compression::Gzip, Vec::new()),
            (Compression::Zstd, gzip(b"one")),
            (Compression::Zstd, b"{}".to_vec()),
        ] {
            let always = &mut |_bytes| Ok::<(), Infallible>(());
            match unpack(said, &payload, 100, always) {
                Err(NotUnpacked::Rejected(reason)) => assert_eq!(reason.kind, RejectKind::Compression),
                other => panic!("{said:?} {payload:?}: {other:?}"),
            }
        }
    }
}
