//! Where a letter is: its name says which delivery it is of, and which attempt's.

use chrono::DateTime;
use uuid::{Uuid, Version};

/// The folder of deliveries that no table wants. No table's folder is named so: a table's name has a dot.
pub(super) const UNROUTED: &str = "unrouted";

/// What a letter's folder says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It waits for the commit that is to name it, and does not count.
    Pending,
    /// It counts: its record was acknowledged.
    Confirmed,
    /// Its records have been sent back through the pipeline, and are in the table.
    Replayed,
}

impl Place {
    /// The folder, in the dead letters' location.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Replayed => "replayed",
        }
    }
}

/// The name of an object of dead letters: `<table>/<date>/<id>.<delivery>.ndjson`, in the folder of a [`Place`].
///
/// The date is that of the id, a UUID of version 7, or of version 8 where they go to a topic; the delivery is the hash of its id. The delivery's index time is not
/// in it: copies of one message may tell times that are a second apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterName {
    table: String,
    id: Uuid,
    delivery: u128,
}

impl LetterName {
    /// The name of a table's letters of a delivery, by the delivery's hash.
    pub fn new(table: &str, id: Uuid, delivery: u128) -> Self {
        Self {
            table: table.to_owned(),
            id,
            delivery,
        }
    }

    /// The same letters under another table's name.
    pub(super) fn of_table(&self, table: &str) -> Self {
        Self {
            table: table.to_owned(),
            ..self.clone()
        }
    }

    /// The table, or `unrouted`.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Whether no table wanted the delivery.
    pub fn is_unrouted(&self) -> bool {
        self.table == UNROUTED
    }

    /// What the ledger's entry of the delivery carries, if these are its letters.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Whether they wait to be published, and are kept nowhere after that.
    pub(super) fn is_to_be_published(&self) -> bool {
        self.id.get_version() == Some(Version::Custom)
    }

    /// The key without the folder of a place: the same wherever the letter is.
    pub fn path(&self) -> String {
        let (table, date) = (&self.table, date_of(self.id));
        format!("{table}/{date}/{}.{:032x}.ndjson", self.id, self.delivery)
    }

    /// The object's key.
    pub fn key(&self, place: Place) -> String {
        format!("{}/{}", place.folder(), self.path())
    }

    /// Reads a key in the folder of a place; none for what is not ours.
    pub fn parse(place: Place, key: &str) -> Option<Self> {
        let path = key.strip_prefix(place.folder())?.strip_prefix('/')?;
        let mut levels = path.split('/');
        let (table, _date, file) = (levels.next()?, levels.next()?, levels.next()?);
        let (id, delivery) = file.strip_suffix(".ndjson")?.split_once('.')?;
        let name = Self {
            table: table.to_owned(),
            id: Uuid::try_parse(id).ok()?,
            delivery: u128::from_str_radix(delivery, 16).ok()?,
        };
        (name.path() == path).then_some(name)
    }
}

/// The same id as of letters that are published: in version 8, which is anybody's, and else as one of version 7.
pub(super) fn to_be_published(id: Uuid) -> Uuid {
    uuid::Builder::from_bytes(id.into_bytes())
        .with_version(Version::Custom)
        .into_uuid()
}

/// The day in an id of version 7 or 8: the first 48 bits are milliseconds.
fn date_of(id: Uuid) -> String {
    let millis = i64::try_from(id.as_u128() >> 80).unwrap_or_default();
    let time = DateTime::from_timestamp_millis(millis).unwrap_or_default();
    time.format("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back_and_nothing_else_is() {
        let id = uuid::Builder::from_unix_timestamp_millis(1_767_323_045_123, &[7; 10]).into_uuid();
        let published = LetterName::new("shop.orders", to_be_published(id), 0xabc);
        let key = published.key(Place::Pending);
        assert!(key.starts_with("pending/shop.orders/2026-01-02/"), "{key}");
        assert_eq!(LetterName::parse(Place::Pending, &key), Some(published.clone()));
        let name = LetterName::new("shop.orders", id, 0xabc);
        assert!(published.is_to_be_published() && !name.is_to_be_published());
        let key = name.key(Place::Pending);
        assert!(key.starts_with("pending/shop.orders/2026-01-02/"), "{key}");
        assert_eq!(LetterName::parse(Place::Pending, &key), Some(name));
        assert_eq!(LetterName::parse(Place::Confirmed, &key), None);
        for other in [
            format!("{key}#1"),
            key.replace("2026-01-02", "2026-01-03"),
            key.replace("0abc", "abc"),
            key.replace(".ndjson", ".json"),
            format!("{key}/deeper"),
        ] {
            assert_eq!(LetterName::parse(Place::Pending, &other), None, "{other}");
        }
    }
}
