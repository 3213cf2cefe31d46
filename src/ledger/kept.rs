//! What the ledger keeps with a delivery's id, so that a repetition is dealt with as the first was.

use bytes::Bytes;
use uuid::Uuid;

/// An answer without its snapshot, and with it. Then come the letters' 16 bytes, if there are any, so that every form has
/// a length of its own.
const ANSWER_BYTES: usize = 32;
const SNAPSHOT_BYTES: usize = 8;

/// The value of an entry: nothing for most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// Of a request with an `Idempotency-Key`.
    pub answer: Option<KeptAnswer>,
    /// The id in the name of its dead letters.
    pub letters: Option<Uuid>,
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
    /// As bytes: 16 of the payload's fingerprint, 8 each of rows, dead letters and snapshot; 16 of the letters' id; all
    /// big-endian.
    pub fn encode(&self) -> Bytes {
        let mut value = Vec::new();
        if let Some(answer) = &self.answer {
            value.extend_from_slice(&answer.fingerprint.to_be_bytes());
            value.extend_from_slice(&answer.row_count.to_be_bytes());
            value.extend_from_slice(&answer.dead_letter_count.to_be_bytes());
            if let Some(id) = answer.snapshot_id {
                value.extend_from_slice(&id.to_be_bytes());
            }
        }
        if let Some(letters) = &self.letters {
            value.extend_from_slice(letters.as_bytes());
        }
        value.into()
    }

    /// Reads the value of an entry; nothing for one of another kind.
    pub fn decode(value: &[u8]) -> Self {
        const LETTERS: usize = size_of::<Uuid>();
        let (has_answer, has_letters) = match value.len() {
            LETTERS => (false, true),
            ANSWER_BYTES => (true, false),
            length if length == ANSWER_BYTES + SNAPSHOT_BYTES => (true, false),
            length if length == ANSWER_BYTES + LETTERS => (true, true),
            length if length == ANSWER_BYTES + SNAPSHOT_BYTES + LETTERS => (true, true),
            _ => return Self::default(),
        };
        let letters = value.last_chunk().filter(|_| has_letters);
        let answer = match has_letters {
            true => value.get(..value.len() - LETTERS),
            false => Some(value),
        };
        Self {
            answer: answer.filter(|_| has_answer).and_then(decode_answer),
            letters: letters.map(|bytes| Uuid::from_bytes(*bytes)),
        }
    }
}

fn decode_answer(value: &[u8]) -> Option<KeptAnswer> {
    let (fingerprint, rest) = value.split_first_chunk()?;
    let (rows, rest) = rest.split_first_chunk()?;
    let (letters, rest) = rest.split_first_chunk()?;
    Some(KeptAnswer {
        fingerprint: u128::from_be_bytes(*fingerprint),
        row_count: u64::from_be_bytes(*rows),
        dead_letter_count: u64::from_be_bytes(*letters),
        snapshot_id: rest.first_chunk().map(|id| i64::from_be_bytes(*id)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_is_kept() {
        let answers = [None, Some(None), Some(Some(-5))];
        for letters in [None, Some(Uuid::from_u128(9))] {
            for snapshot_id in answers {
                let answer = snapshot_id.map(|snapshot_id| KeptAnswer {
                    fingerprint: 7,
                    row_count: 3,
                    dead_letter_count: 2,
                    snapshot_id,
                });
                let kept = Kept { answer, letters };
                assert_eq!(Kept::decode(&kept.encode()), kept);
            }
        }
        assert_eq!(Kept::decode(b"something else"), Kept::default());
    }
}
