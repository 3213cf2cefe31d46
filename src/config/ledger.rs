//! The ledger: how long a table remembers its deliveries.

use std::time::Duration;

use super::key::{Key, Keys, Shape};
use super::quantity::duration_text;
use super::reader::Field;
use crate::ledger::DEFAULT_RETENTION;

/// Shorter, and Pub/Sub's own redelivery outlives it.
const LEAST: Duration = Duration::from_secs(24 * 3600);

pub(super) const LEDGER: Key = Key::optional(
    "ledger",
    Shape::Map(&LEDGER_KEYS),
    "each key's own",
    "what the table remembers of its deliveries, so that each lands once",
);
pub(super) const RETENTION: Key = Key::defaulted(
    "retention",
    Shape::Duration,
    || duration_text(LedgerConfig::default().retention),
    "how long messages and `Idempotency-Key`s are remembered, at least `1d`: as long as the subscription and its topic keep \
     a message, and a day; an older one becomes a dead letter. Files are remembered for ever",
);

const LEDGER_KEYS: Keys = Keys {
    title: "ledger",
    accepted: "a mapping such as `{retention: 8d}`",
    keys: &[&[RETENTION]],
    ..Keys::NONE
};

/// What a table remembers. Key `ledger`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerConfig {
    /// Key `retention`, default `8d`, at least `1d`.
    pub retention: Duration,
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self {
            retention: DEFAULT_RETENTION,
        }
    }
}

pub(super) fn read(field: &Field<'_>, ledger: &mut LedgerConfig) {
    let Some(mut keys) = field.mapping() else {
        return;
    };
    if let Some(field) = keys.key(&RETENTION)
        && let Some(retention) = field.duration()
    {
        if retention < LEAST {
            field.problem("a message is delivered again for days; write at least `1d`");
        }
        ledger.retention = retention;
    }
    keys.finish();
}
