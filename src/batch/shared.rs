//! What the writers and committers of a process share.

use std::sync::Arc;

use crate::clock::Clock;
use crate::commit::Engine;
use crate::dead_letter::DeadLetters;
use crate::publish::Publishers;
use crate::random::Random;
use crate::telemetry::UnknownFields;
use crate::trigger::Limits;

/// What the writers and committers of a process share.
#[derive(Debug)]
pub struct Shared {
    /// Commits change sets.
    pub engine: Engine,
    /// Keeps what cannot become a row.
    pub dead_letters: DeadLetters,
    /// The process's counters of held bytes and requests.
    pub limits: Arc<Limits>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Names and jitter.
    pub random: Arc<Random>,
    /// Counts the fields that tables have no column for.
    pub unknown_fields: UnknownFields,
    /// Whoever is told of commits.
    pub publishers: Publishers,
}
