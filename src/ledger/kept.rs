//! What the ledger keeps with a delivery's id, so that a repetition is dealt with as the first was.

use bytes::{Buf, Bytes};
use uuid::Uuid;

/// Which fields there are: one bit each, in the first byte of the value.
const ANSWER: u8 = 1;
const SNAPSHOT: u8 = 1 << 1;
const LETTERS: u8 = 1 << 2;
const DIVISION: u8 = 1 << 3;
const CONTENT: u8 = 1 << 4;

/// The value of an entry: nothing for most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// Of a request with an `Idempotency-Key`.
    pub answer: Option<KeptAnswer>,
    /// The id in the name of its dead letters.
    pub letters: Option<Uuid>,
    /// Of a part of a delivery: which record went to which table. None when the table has all of it.
    pub division: Option<u64>,
    /// Of an event that its publisher names: a digest of its payload. None for one that landed before any was kept.
    pub content: Option<u64>,
}

/// How a request was answered, and how another one with its key is told from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptAnswer {
    /// Of the payload.
    pub fingerprint: u128,
    /// Rows that landed.
    pub row_count: u64,
    /// Records that were dead-lettered.
    pub dead_letter_count: u64,
    /// The snapshot that holds the rows; known once the commit is computed.
    pub snapshot_id: Option<i64>,
}

impl Kept {
    /// As bytes: one that says which fields there are, then these in order, all big-endian: 16 of the payload's
    /// fingerprint, 8 each of rows and dead letters; 8 of the snapshot; 16 of the letters' id; 8 of the division; 8 of
    /// the content. Nothing for nothing.
    pub fn encode(&self) -> Bytes {
        let mut value = vec![0];
        let mut fields = 0;
        if let Some(answer) = &self.answer {
            fields |= ANSWER;
            value.extend_from_slice(&answer.fingerprint.to_be_bytes());
            value.extend_from_slice(&answer.row_count.to_be_bytes());
            value.extend_from_slice(&answer.dead_letter_count.to_be_bytes());
            if let Some(id) = answer.snapshot_id {
                fields |= SNAPSHOT;
                value.extend_from_slice(&id.to_be_bytes());
            }
        }
        if let Some(letters) = &self.letters {
            fields |= LETTERS;
            value.extend_from_slice(letters.as_bytes());
        }
        if let Some(division) = &self.division {
            fields |= DIVISION;
            value.extend_from_slice(&division.to_be_bytes());
        }
        if let Some(content) = &self.content {
            fields |= CONTENT;
            value.extend_from_slice(&content.to_be_bytes());
        }
        match value.first_mut() {
            Some(first) if fields != 0 => {
                *first = fields;
                value.into()
            }
            _ => Bytes::new(),
        }
    }

    /// Reads the value of an entry; nothing for one of another kind.
    pub fn decode(value: &[u8]) -> Self {
        read(value).unwrap_or_default()
    }
}

fn read(mut value: &[u8]) -> Option<Kept> {
    let fields = value.try_get_u8().ok()?;
    let has = |field: u8| fields & field != 0;
    let mut kept = Kept::default();
    if has(ANSWER) {
        kept.answer = Some(KeptAnswer {
            fingerprint: value.try_get_u128().ok()?,
            row_count: value.try_get_u64().ok()?,
            dead_letter_count: value.try_get_u64().ok()?,
            snapshot_id: match has(SNAPSHOT) {
                true => Some(value.try_get_i64().ok()?),
                false => None,
            },
        });
    }
    if has(LETTERS) {
        kept.letters = Some(Uuid::from_u128(value.try_get_u128().ok()?));
    }
    if has(DIVISION) {
        kept.division = Some(value.try_get_u64().ok()?);
    }
    if has(CONTENT) {
        kept.content = Some(value.try_get_u64().ok()?);
    }
    Some(kept).filter(|kept| value.is_empty() && kept.encode().first() == Some(&fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_is_kept() {
        let answers = [None, Some(None), Some(Some(-5))];
        for (letters, division, content) in [
            (None, None, None),
            (Some(9), None, None),
            (None, Some(1 << 63), None),
            (None, None, Some(u64::MAX)),
            (Some(9), Some(4), Some(0)),
        ] {
            for snapshot_id in answers {
                let answer = snapshot_id.map(|snapshot_id| KeptAnswer {
                    fingerprint: 7,
                    row_count: 3,
                    dead_letter_count: 2,
                    snapshot_id,
                });
                let kept = Kept {
                    answer,
                    letters: letters.map(Uuid::from_u128),
                    division,
                    content,
                };
                assert_eq!(Kept::decode(&kept.encode()), kept);
            }
        }
        assert_eq!(Kept::default().encode(), Bytes::new());
    }

    /// Tables remember these, as Python's `struct` packed them: `>BQQQQqQQQQ` is all of it.
    #[test]
    fn values_are_the_same_in_every_version() {
        const FINGERPRINT: &str = "037c9214eef74cc3887f3a4f085b4e17";
        const COUNTS: &str = "00000000000000030000000000000001";
        const SNAPSHOT_ID: &str = "69a47c1022634b87";
        const LETTERS_ID: &str = "019b7ca6292377078707070707070707";
        const DIGEST: &str = "1e2aab81710fcab9";
        const CONTENT: &str = "037c9214eef74cc3";
        let answer = |snapshot_id| {
            Some(KeptAnswer {
                fingerprint: 0x037c_9214_eef7_4cc3_887f_3a4f_085b_4e17,
                row_count: 3,
                dead_letter_count: 1,
                snapshot_id,
            })
        };
        let snapshot = Some(7_612_345_678_901_234_567);
        let letters = Some(Uuid::from_u128(0x019b_7ca6_2923_7707_8707_0707_0707_0707));
        let division = Some(2_173_738_342_595_676_857);
        let content = Some(0x037c_9214_eef7_4cc3);
        for (answer, letters, division, content, parts) in [
            (None, None, None, None, &[][..]),
            (answer(None), None, None, None, &["01", FINGERPRINT, COUNTS]),
            (
                answer(snapshot),
                None,
                None,
                None,
                &["03", FINGERPRINT, COUNTS, SNAPSHOT_ID],
            ),
            (None, letters, None, None, &["04", LETTERS_ID]),
            (None, None, division, None, &["08", DIGEST]),
            (None, None, None, content, &["10", CONTENT]),
            (
                answer(snapshot),
                letters,
                division,
                content,
                &[
                    "1f",
                    FINGERPRINT,
                    COUNTS,
                    SNAPSHOT_ID,
                    LETTERS_ID,
                    DIGEST,
                    CONTENT,
                ],
            ),
        ] {
            let kept = Kept {
                answer,
                letters,
                division,
                content,
            };
            let hex: String = kept.encode().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, parts.concat());
        }
    }

    #[test]
    fn a_value_of_another_kind_says_nothing() {
        let division = Kept {
            division: Some(4),
            ..Kept::default()
        };
        let value = division.encode();
        let longer = [value.as_ref(), &[0]].concat();
        let newer = [&[0x88], value.get(1..).unwrap()].concat();
        for other in [b"something else", value.get(..8).unwrap(), &longer, &newer, b""] {
            assert_eq!(Kept::decode(other), Kept::default(), "{other:?}");
        }
    }
}
