//! `kill -9` under pushes, again and again on one folder: what was answered 204 is in the table.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tokio::time::sleep;

use crate::support::lake::{Lake, agreed_rows};
use crate::support::push::{NO_ANSWER, Push};
use crate::support::readers::Reader;
use crate::support::seed::seed;
use crate::support::server::Server;
use crate::support::{TestResult, trials, wait_for};

const KILLS: u64 = 20;
const AT_ONCE: usize = 24;
const TABLES: [&str; 2] = ["landfast.left", "landfast.right"];

pub fn tests() -> Vec<Trial> {
    trials![answered_pushes_survive_twenty_kills]
}

/// Row `id`, in one of two tables; every eleventh is poison.
fn message(id: i64) -> Push {
    let subscription = if id % 3 == 0 { "left" } else { "right" };
    if is_poison(id) {
        Push::new(subscription, id, format!("{{\"id\":{id}"))
    } else {
        Push::json(
            subscription,
            id,
            &json!({"id": id, "name": format!("row {id}"), "at": "2026-01-02T03:04:05Z"}),
        )
    }
}

fn is_poison(id: i64) -> bool {
    id % 11 == 10
}

/// Where a killed server still has to deliver from: as Pub/Sub does, first what was not acknowledged.
#[derive(Default)]
struct Subscription {
    next: i64,
    unanswered: BTreeSet<i64>,
    answered: BTreeSet<i64>,
}

impl Subscription {
    fn take(&mut self, count: usize) -> Vec<i64> {
        let mut ids: Vec<i64> = self.unanswered.iter().copied().take(count).collect();
        while ids.len() < count {
            ids.push(self.next);
            self.unanswered.insert(self.next);
            self.next += 1;
        }
        ids
    }

    fn note(&mut self, ids: &[i64], statuses: &[u16]) -> TestResult {
        for (id, status) in ids.iter().zip(statuses) {
            match *status {
                204 => {
                    self.unanswered.remove(id);
                    self.answered.insert(*id);
                }
                503 | NO_ANSWER => {}
                status => return Err(format!("push {id} was answered {status}").into()),
            }
        }
        Ok(())
    }
}

async fn answered_pushes_survive_twenty_kills() -> TestResult {
    let start = Instant::now();
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let lake = Lake::new()?;
    let mut subscription = Subscription::default();
    for round in 0..KILLS {
        let mut server = Server::dev(lake.path()).await?;
        let pusher = server.pusher();
        // The first rounds kill about when the tables are made, a second after their first row; the others while the
        // tables grow.
        let young = round < 4;
        let life = Duration::from_millis(random.random_range(if young { 900..1_300 } else { 0..700 }));
        let ids = subscription.take(600);
        let pushes: Vec<_> = ids.iter().map(|id| message(*id)).collect();
        let (statuses, killed) = tokio::join!(pusher.push_all(&pushes, AT_ONCE), async {
            if !young {
                wait_for("the tables to be made", Duration::from_secs(60), async || {
                    TABLES
                        .iter()
                        .all(|table| lake.metadata(table).is_ok())
                        .then_some(())
                })
                .await?;
            }
            sleep(life).await;
            server.kill()
        });
        killed?;
        subscription.note(&ids, &statuses)?;
        // Whatever instruction was the last: a reader that comes now finds whole tables.
        for table in TABLES {
            if let Ok(metadata) = lake.metadata(table) {
                Reader::pyiceberg()?.count(metadata)?;
            }
        }
    }
    let mut server = Server::dev(lake.path()).await?;
    let answered_before_the_end = subscription.answered.len();
    let missing: Vec<i64> = subscription.unanswered.iter().copied().collect();
    let pushes: Vec<_> = missing.iter().map(|id| message(*id)).collect();
    let statuses = server.pusher().push_all(&pushes, AT_ONCE).await;
    subscription.note(&missing, &statuses)?;
    assert_eq!(subscription.unanswered, BTreeSet::new());
    server.terminate()?;
    assert!(server.exited().await?.success());

    let mut copies: BTreeMap<i64, usize> = BTreeMap::new();
    for table in TABLES {
        for row in agreed_rows(&lake.metadata(table)?, "id")? {
            let id = row["id"].as_i64().ok_or("an id")?;
            assert_eq!(
                (&row["name"], &row["at"]),
                (&json!(format!("row {id}")), &json!("2026-01-02T03:04:05.000000Z"))
            );
            *copies.entry(id).or_default() += 1;
        }
        let count = Reader::pyiceberg()?.count(lake.metadata(table)?)?;
        // Through the hint, as an engine finds the table.
        assert_eq!(Reader::duckdb()?.count(lake.table(table))?, count);
    }
    let (poison, good): (BTreeSet<i64>, BTreeSet<i64>) =
        subscription.answered.iter().partition(|id| is_poison(**id));
    assert_eq!(
        copies.keys().copied().collect::<BTreeSet<_>>(),
        good,
        "answered, and not in the table"
    );
    let letters = lake.dead_letters()?;
    let lettered: BTreeSet<i64> = letters
        .iter()
        .filter_map(|letter| letter["id"].as_str()?.rsplit('/').nth(1)?.parse().ok())
        .collect();
    assert_eq!(
        (lettered, letters.len()),
        (poison.clone(), poison.len()),
        "dead letters"
    );
    let doubled: Vec<i64> = copies
        .iter()
        .filter(|(_, count)| **count > 1)
        .map(|(id, _)| *id)
        .collect();
    assert!(doubled.is_empty(), "in the table more than once: {doubled:?}");
    writeln!(
        std::io::stderr(),
        "kill: seed {seed}, {KILLS} kills, {answered_before_the_end} answered under them of {}, {:.1} s",
        subscription.answered.len(),
        start.elapsed().as_secs_f64()
    )?;
    assert!(answered_before_the_end > 100, "the kills left nothing to prove");
    Ok(())
}
