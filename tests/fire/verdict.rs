//! What must be true afterwards: of each message as many copies as its answers allow, counted by independent readers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::ground::{Place, TABLES};
use super::sender::{Book, is_poison};
use crate::support::TestResult;
use crate::support::lake::agreed_rows;
use crate::support::server::run;

/// What was acknowledged is there once; what was not, once at most.
pub async fn judge(place: &Place, book: &Book) -> TestResult {
    let open = book.open();
    let rows = copies(place).await?;
    let letters = lettered(place)?;
    let (poison, good): (BTreeSet<i64>, BTreeSet<i64>) =
        book.acknowledged.iter().partition(|id| is_poison(**id));
    for (what, there, acknowledged) in [("row", &rows, &good), ("dead letter", &letters, &poison)] {
        let lost: Vec<_> = acknowledged.iter().filter(|id| !there.contains_key(id)).collect();
        assert!(lost.is_empty(), "acknowledged and lost, by {what}: {lost:?}");
        let doubled: Vec<_> = there.iter().filter(|(_, count)| **count > 1).collect();
        assert!(doubled.is_empty(), "there more than once, by {what}: {doubled:?}");
        let unsent: Vec<_> = there
            .keys()
            .filter(|id| !acknowledged.contains(id) && !open.contains(id))
            .collect();
        assert!(unsent.is_empty(), "there and not sent, by {what}: {unsent:?}");
    }
    Ok(())
}

/// How often each id is in the tables, as both readers agree.
async fn copies(place: &Place) -> TestResult<BTreeMap<i64, usize>> {
    let mut copies = BTreeMap::new();
    for table in TABLES {
        for row in agreed_rows(&place.metadata(table).await?, "id")? {
            let id = row["id"].as_i64().ok_or("an id")?;
            assert_eq!(row["name"], json!(format!("row {id}")));
            *copies.entry(id).or_default() += 1;
        }
    }
    Ok(copies)
}

/// How many dead letters each message has.
fn lettered(place: &Place) -> TestResult<BTreeMap<i64, usize>> {
    let mut letters = BTreeMap::new();
    for letter in place.lake.dead_letters()? {
        let id = letter["id"]
            .as_str()
            .and_then(|id| id.rsplit('/').nth(1)?.parse().ok());
        *letters.entry(id.ok_or("a letter of no message")?).or_default() += 1;
    }
    Ok(letters)
}

/// `landfast verify` has nothing to say against the tables.
pub fn verify(place: &Place) -> TestResult {
    let config = place.config.display().to_string();
    let (code, stdout, stderr) = tokio::task::block_in_place(|| run(["verify", "--config", &config]))?;
    assert_eq!(code, Some(0), "{stdout}\n{stderr}");
    Ok(())
}
