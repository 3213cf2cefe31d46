//! One remembered delivery.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::kept::Kept;

/// How long ids of a kind are remembered, and by which time they are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Space {
    /// Messages: by their publish time; forgotten when older than the retention.
    #[serde(rename = "M")]
    Message,
    /// Objects, files, replays of dead letters: few, kept for ever.
    #[serde(rename = "K")]
    Kept,
    /// Requests with an `Idempotency-Key`: kept for the retention after their commit, at least.
    #[serde(rename = "H")]
    Request,
}

impl Space {
    /// All of them, in the order of the files.
    pub const ALL: [Self; 3] = [Self::Message, Self::Kept, Self::Request];

    /// The letter in files and in the hash of an id.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Message => "M",
            Self::Kept => "K",
            Self::Request => "H",
        }
    }

    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|space| space.letter().as_bytes() == [byte])
    }
}

/// A delivery as the ledger knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// What is remembered for how long.
    pub space: Space,
    /// Seconds since the Unix epoch, a pure function of the id.
    pub index_time: i64,
    /// 128 bits of the delivery id's hash.
    pub id: u128,
    /// What a repetition needs to be answered alike; mostly nothing. At most 64 KiB.
    pub value: Bytes,
}

impl Entry {
    /// Adds the snapshot that lands a request to what its repetitions are answered. Others need none.
    pub fn complete(&mut self, snapshot_id: i64) {
        let mut kept = Kept::decode(&self.value);
        let Some(answer) = kept.answer.as_mut().filter(|_| self.space == Space::Request) else {
            return;
        };
        answer.snapshot_id = Some(snapshot_id);
        self.value = kept.encode();
    }
}
