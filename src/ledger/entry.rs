//! One remembered delivery.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// How long ids of a kind are remembered, and by which time they are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Space {
    /// Messages: by their publish time; forgotten when older than the retention.
    #[serde(rename = "M")]
    Message,
    /// Objects, files, replays of dead letters: few, kept for ever.
    #[serde(rename = "K")]
    Kept,
    /// Requests with an `Idempotency-Key`: kept for the retention after their commit.
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

/// The value of a request's entry before the snapshot's id is added to it.
const WITHOUT_SNAPSHOT_BYTES: usize = 32;

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
        if self.space == Space::Request && self.value.len() == WITHOUT_SNAPSHOT_BYTES {
            self.value = [self.value.as_ref(), &snapshot_id.to_be_bytes()].concat().into();
        }
    }
}
