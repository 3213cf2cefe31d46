//! What a check calls its own things, so that nobody takes them for anything else, and a later check knows how old they are.

use chrono::{DateTime, TimeDelta, Utc};
use iceberg::{NamespaceIdent, TableIdent};
use uuid::Uuid;

use crate::clock::{Clock, SystemClock};
use crate::random::Random;

/// The namespace of probe tables, and the folder of probe objects.
pub(super) const NAMESPACE: &str = "landfast_check";
pub(super) const FOLDER: &str = "landfast-check";

const PROBE: &str = "probe_";

/// The name of one check's things: random, and with the time in it.
#[derive(Debug)]
pub(super) struct Own {
    name: String,
    now: DateTime<Utc>,
}

impl Own {
    pub(super) fn now() -> Self {
        let now = SystemClock.now();
        let id = Random::from_os().timed_uuid(now);
        Self {
            name: format!("{PROBE}{}", id.simple()),
            now,
        }
    }

    /// `probe_` and 32 hexadecimal digits.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The folder of its objects.
    pub(super) fn folder(&self) -> String {
        format!("{FOLDER}/{}", self.name)
    }

    /// How long ago the check began that has this name; none for a name that no check gives.
    pub(super) fn age_of(&self, name: &str) -> Option<TimeDelta> {
        let id = Uuid::try_parse(name.strip_prefix(PROBE)?).ok()?;
        let (seconds, _) = id.get_timestamp()?.to_unix();
        let begun = DateTime::from_timestamp(seconds.try_into().ok()?, 0)?;
        (name.len() == self.name.len()).then(|| self.now - begun)
    }
}

/// A table of the checks' namespace.
pub(super) fn table(name: &str) -> TableIdent {
    TableIdent::new(namespace(), name.to_owned())
}

pub(super) fn namespace() -> NamespaceIdent {
    NamespaceIdent::new(NAMESPACE.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_told_of_names_of_checks_alone() {
        let own = Own::now();
        assert!(own.age_of(own.name()).unwrap().num_seconds() <= 1);
        let old = Random::seeded(1).timed_uuid(own.now - TimeDelta::hours(5));
        let age = own.age_of(&format!("probe_{}", old.simple())).unwrap();
        assert_eq!(age.num_hours(), 5);
        let random = format!("probe_{}", Random::seeded(1).uuid().simple());
        for other in [
            "orders",
            "probe_",
            "probe_1",
            "probe_x",
            &random,
            &format!("probe_{old}"),
        ] {
            assert_eq!(own.age_of(other), None, "{other}");
        }
    }
}
