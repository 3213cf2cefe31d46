//! Which record of a delivery goes to which table, and whether a table has a part of it by another division.
//!
//! Each table's ledger knows its part by the delivery's id alone, so the parts of one delivery must all be of one division:
//! if the rules change while one part is there and another is not, a record would land twice or never. So every entry
//! keeps the division, and no part is handed over while a table has one of another.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use iceberg::TableIdent;
use moka::future::Cache;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout_at};

use super::shared::Shared;
use crate::decode::{Reason, RejectKind, Split};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{Entry, Kept, Known, LedgerState};
use crate::route::ByRecord;
use crate::trigger::{DeliveryId, Envelope};

/// How long a load of a table is believed. What another process lands in between is met by the table's writer.
const FRESH: Duration = Duration::from_secs(5);

/// Tables whose ledgers are kept at hand.
const MAX_TABLES: u64 = 1000;

/// A digest of which record goes to which table, the same in every process and version. None when one table gets all.
pub(super) fn digest(split: &Split, rules: &ByRecord<'_>) -> Option<u64> {
    let mut parts: Vec<(String, &[u64])> = split
        .pieces
        .iter()
        .zip(rules.tables())
        .filter(|(piece, _)| !piece.positions.is_empty())
        .map(|(piece, (ident, _))| (ident.to_string(), piece.positions.as_slice()))
        .collect();
    if parts.len() <= 1 && split.lost.is_empty() {
        return None;
    }
    parts.sort_unstable();
    hash(&parts)
}

/// Changing it makes letters of all that is under way.
fn hash(parts: &[(String, &[u64])]) -> Option<u64> {
    let mut hasher = Sha256::new();
    for (table, positions) in parts {
        hasher.update((table.len() as u64).to_be_bytes());
        hasher.update(table);
        hasher.update((positions.len() as u64).to_be_bytes());
        positions
            .iter()
            .for_each(|position| hasher.update(position.to_be_bytes()));
    }
    let digest: [u8; 32] = hasher.finalize().into();
    digest.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// The reason of a delivery that would be divided otherwise than tables have it already.
pub(super) fn redivided(tables: &[String]) -> Reason {
    Reason {
        kind: RejectKind::Redivided,
        message: format!(
            "{} has a part of the delivery already, by other rules; put these rules back as they were and run \
             `landfast replay`",
            tables.join(", ")
        ),
        path: None,
    }
}

/// The reason of an event whose publisher gave its name to another payload, which tables have.
pub(crate) fn other_content(tables: &[String]) -> Reason {
    Reason {
        kind: RejectKind::OtherContent,
        message: format!(
            "{} has another payload under the delivery's `dedupe_attribute`",
            tables.join(", ")
        ),
        path: None,
    }
}

/// Whether what was kept of an event is of another payload than this.
pub(crate) fn has_other_content(kept: &Kept, content: Option<u64>) -> bool {
    kept.content
        .zip(content)
        .is_some_and(|(first, this)| first != this)
}

/// What the tables have of a delivery that is to be divided.
pub(super) enum Had {
    /// Nothing, or parts of the same division. By table, whether it would not remember the delivery any more.
    Fitting { too_old: Vec<bool> },
    /// One table has all of it, by other rules.
    Whole(TableIdent),
    /// Some have parts of another division, or of another payload under the same name.
    Otherwise(Reason),
}

/// The ledgers of the tables that deliveries are divided into, as they were a moment ago.
pub(super) struct Ledgers {
    shared: Arc<Shared>,
    states: Cache<TableIdent, Option<LedgerState>>,
}

impl Ledgers {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let states = Cache::builder().max_capacity(MAX_TABLES).time_to_live(FRESH);
        Self {
            shared,
            states: states.build(),
        }
    }

    /// Asks all tables of the rules for a delivery, also those that are to get nothing of it now. Fresh ids are found in
    /// memory; a table is loaded if that is [`FRESH`] ago.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] and those of [`crate::commit::Engine::head`]: nothing may land, since a table that cannot
    /// be asked now may have a part, also one that is to get none. Only if that one is broken for good does it count as
    /// one that has none.
    pub(super) async fn had(
        &self,
        rules: &ByRecord<'_>,
        split: &Split,
        (delivery, division): (&Envelope, Option<u64>),
        on_trust: Option<&DeliveryId>,
        deadline: Instant,
    ) -> Result<Had> {
        let (entry, on_trust) = (Entry::from(&delivery.id), on_trust.map(Entry::from));
        let content = delivery.content();
        let looks = rules
            .tables()
            .map(|(ident, _)| self.look_up_both(ident, &entry, on_trust.as_ref()));
        let found = timeout_at(deadline, join_all(looks))
            .await
            .map_err(|_| silent())?;
        let (mut others, mut whole, mut strangers) = (Vec::new(), None, Vec::new());
        let too_old = found.iter().map(|found| matches!(found, Ok((_, true)))).collect();
        for ((piece, (ident, _)), found) in split.pieces.iter().zip(rules.tables()).zip(found) {
            let gets_part = !piece.positions.is_empty();
            let kept = match found {
                Ok((Known::Landed(value), _)) => Kept::decode(&value),
                Ok((Known::New | Known::TooOld, _)) => continue,
                // A broken table must not stop for ever those that have nothing to do with it. A wait is no such harm: what
                // is in both tables stays so.
                Err(error) if !gets_part && is_broken(&error) => continue,
                Err(error) => return Err(error),
            };
            if has_other_content(&kept, content) {
                strangers.push(ident.to_string());
            }
            if gets_part && kept.division == division {
                continue;
            }
            whole = kept.division.is_none().then(|| ident.clone());
            others.push(ident.to_string());
        }
        if !strangers.is_empty() {
            return Ok(Had::Otherwise(other_content(&strangers)));
        }
        Ok(match (whole, others.as_slice()) {
            (_, []) => Had::Fitting { too_old },
            (Some(ident), [_]) => Had::Whole(ident),
            (_, tables) => Had::Otherwise(redivided(tables)),
        })
    }

    /// What a table's ledger says of a delivery, and whether that is too old for it: then it is asked for the other name,
    /// under which it may have landed on trust.
    async fn look_up_both(
        &self,
        ident: &TableIdent,
        entry: &Entry,
        on_trust: Option<&Entry>,
    ) -> Result<(Known, bool)> {
        let known = self.look_up(ident, entry).await?;
        match (&known, on_trust) {
            (Known::TooOld, Some(other)) => Ok((self.look_up(ident, other).await?, true)),
            (Known::TooOld, None) => Ok((known, true)),
            _ => Ok((known, false)),
        }
    }

    /// What a table's ledger says of a delivery.
    async fn look_up(&self, ident: &TableIdent, entry: &Entry) -> Result<Known> {
        let Some(state) = self.state(ident).await? else {
            return Ok(Known::New);
        };
        let ledger = self.shared.engine.ledger();
        let known = ledger.check(&state, std::slice::from_ref(entry)).await?;
        Ok(known.into_iter().next().unwrap_or(Known::New))
    }

    /// A table's ledger; none for a table that does not exist.
    async fn state(&self, ident: &TableIdent) -> Result<Option<LedgerState>> {
        let engine = &self.shared.engine;
        let loading = async {
            match engine.catalog().find_table(ident).await? {
                Some(table) => Ok(Some(engine.head(table).await?.ledger().clone())),
                None => Ok(None),
            }
        };
        let state = self.states.try_get_with_by_ref(ident, loading).await;
        state.map_err(|error: Arc<Error>| error.as_ref().clone())
    }
}

/// Whether a table would be found no better if the delivery came again: it, its ledger or the way to it has to be mended.
fn is_broken(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Rejected | ErrorKind::TableMismatch)
}

fn silent() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "The tables of the delivery's records did not say in time whether they have a part of it; deliver it again.",
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::DateTime;

    use super::*;
    use crate::config::Config;
    use crate::decode::{Condition, Room, split};
    use crate::route::{Route, Router};

    /// How records are divided by rules that do not have the tables in the order of their names.
    fn divided(records: &[&str]) -> Option<u64> {
        let text = "warehouse: memory:///w\ncatalog: { type: memory }\ndead_letters: memory:///d\n\
                    tables: { shop.users: { from: [{ field: kind, equals: user }] } }\n\
                    routes: [{ subscription: s, table: eu.shop.orders }]\n";
        let config = Config::parse("t.yaml", text, &|_| None).unwrap();
        let at = DateTime::UNIX_EPOCH;
        let envelope = Envelope {
            id: DeliveryId::message("s", "1", at),
            source: "s".to_owned(),
            published_at: at,
            received_at: at,
            fingerprint: None,
            division: None,
            attributes: BTreeMap::new(),
        };
        let Route::ByRecord(rules) = Router::new(&config).route(&envelope) else {
            panic!("no rules for single records")
        };
        let conditions: Vec<Condition> = rules
            .conditions()
            .map(|(condition, piece)| Condition {
                field: condition.field.clone(),
                equals: condition.equals.clone(),
                piece,
            })
            .collect();
        let payload = records.join("\n").into();
        let (count, rest) = (rules.table_count(), rules.rest());
        let split = split(&payload, &conditions, count, rest, Room::UNBOUNDED).unwrap();
        digest(&split, &rules)
    }

    /// Tables remember these numbers. They were computed in Python, not by this code: for the tables that get records,
    /// sorted by name, `sha256(b"".join(u64(len(name)) + name + u64(len(positions)) + each position as u64))`, its first
    /// eight bytes, all big-endian.
    #[test]
    fn digest_is_the_same_in_every_version() {
        let (left, right) = ("shop.orders".to_owned(), "shop.users".to_owned());
        let of =
            |first: &[u64], second: &[u64]| hash(&[(left.clone(), first), (right.clone(), second)]).unwrap();
        assert_eq!(of(&[0, 2], &[1]), 2_173_738_342_595_676_857);
        assert_ne!(of(&[0, 2], &[1]), of(&[0], &[1, 2]));
        assert_ne!(of(&[0, 2], &[1]), of(&[1], &[0, 2]));
        let (user, order) = (r#"{"kind":"user"}"#, r#"{"kind":"order"}"#);
        let parts = divided(&[user, order, user]);
        assert_eq!(parts, Some(4_636_762_563_977_075_962));
        let part_and_lost = divided(&[order, "7"]);
        assert_eq!(part_and_lost, Some(7_890_101_183_581_864_242));
        assert_eq!(divided(&[order, order]), None);
    }
}
