//! What the ledger keeps of a request with an `Idempotency-Key`, so that a repetition is answered as the first was.

use bytes::Bytes;

use crate::trigger::Receipt;

const HEAD_BYTES: usize = 32;
const WHOLE_BYTES: usize = 40;

/// Encodes what is known before the commit: 16 bytes of the payload's fingerprint, 8 each of rows and dead letters,
/// big-endian. The commit adds 8 of the snapshot's id.
pub(super) fn encode(fingerprint: u128, row_count: u64, dead_letter_count: u64) -> Bytes {
    let mut value = Vec::with_capacity(WHOLE_BYTES);
    value.extend_from_slice(&fingerprint.to_be_bytes());
    value.extend_from_slice(&row_count.to_be_bytes());
    value.extend_from_slice(&dead_letter_count.to_be_bytes());
    debug_assert_eq!(value.len(), HEAD_BYTES, "the commit tells it by its length");
    value.into()
}

/// The fingerprint and the first answer; `None` for a value of another kind.
pub(super) fn decode(value: &[u8]) -> Option<(u128, Receipt)> {
    let (fingerprint, rest) = value.split_first_chunk::<16>()?;
    let (rows, rest) = rest.split_first_chunk::<8>()?;
    let (letters, rest) = rest.split_first_chunk::<8>()?;
    let receipt = Receipt {
        row_count: u64::from_be_bytes(*rows),
        dead_letter_count: u64::from_be_bytes(*letters),
        snapshot_id: rest.first_chunk::<8>().map(|id| i64::from_be_bytes(*id)),
        duplicate: true,
    };
    Some((u128::from_be_bytes(*fingerprint), receipt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_is_answered() {
        let mut value = encode(7, 3, 2).to_vec();
        value.extend_from_slice(&(-5i64).to_be_bytes());
        let (fingerprint, receipt) = decode(&value).unwrap();
        assert_eq!(
            (fingerprint, receipt.row_count, receipt.dead_letter_count),
            (7, 3, 2)
        );
        assert_eq!((receipt.snapshot_id, receipt.duplicate), (Some(-5), true));
        assert_eq!(decode(b""), None);
    }
}
