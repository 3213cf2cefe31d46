//! Many committers of one table, each with an engine and a catalog of its own: nothing is lost or doubled, and none starves.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use landfast::catalog::{Catalog, SqlCatalog, StorageCatalog};
use landfast::clock::{Moment, SystemClock};
use landfast::commit::{ChangeSet, Committed, Engine, Group};
use landfast::ledger::{Entry, Known, Ledger, Space};
use landfast::random::Random;
use landfast::storage::Store;
use libtest_mimic::Trial;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::rest::World;
use crate::support::faults::{FaultCatalog, Faults, Op};
use crate::support::postgres::fresh_database;
use crate::support::tables::{create, files_of, ids, orders};
use crate::support::{TestResult, test};

const COMMITTERS: i64 = 8;
const COMMITS: i64 = 25;
/// A commit takes at most so many attempts, for the median of any committer's.
const MEDIAN_ATTEMPTS: usize = 12;
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy)]
enum Kind {
    Storage,
    Sqlite,
    Postgres,
    Rest,
}

pub fn tests() -> Vec<Trial> {
    let kinds = [Kind::Storage, Kind::Sqlite, Kind::Postgres, Kind::Rest];
    let trial = |kind| {
        let name = concat!(
            module_path!(),
            "::committers_of_one_table_lose_nothing_and_none_starves"
        );
        test(&format!("{name}::{kind:?}"), move || {
            committers_of_one_table_lose_nothing_and_none_starves(kind)
        })
    };
    kinds.into_iter().map(trial).collect()
}

/// A warehouse and a catalog that committers share.
struct Shared {
    kind: Kind,
    uri: String,
    warehouse: String,
    rest: Option<World>,
    _folder: TempDir,
}

impl Shared {
    async fn new(kind: Kind) -> TestResult<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().display();
        let rest = match kind {
            Kind::Rest => Some(World::new().await?),
            _ => None,
        };
        let uri = match kind {
            Kind::Sqlite => format!("sqlite://{path}/catalog.db"),
            Kind::Postgres => fresh_database().await?,
            Kind::Storage | Kind::Rest => String::new(),
        };
        let warehouse = match &rest {
            Some(world) => world.warehouse.clone(),
            None => format!("file://{path}/warehouse"),
        };
        Ok(Self {
            kind,
            uri,
            warehouse,
            rest,
            _folder: folder,
        })
    }

    /// An engine that shares nothing with any other in this process, and what counts its attempts.
    async fn engine(&self) -> TestResult<(Engine, Faults)> {
        let store = Store::open(&self.warehouse)?;
        let (clock, random) = (Arc::new(SystemClock), Arc::new(Random::from_os()));
        let catalog: Arc<dyn Catalog> = match (&self.rest, self.kind) {
            (Some(world), _) => Arc::new(world.catalog().await?),
            (None, Kind::Storage) => Arc::new(StorageCatalog::new(store.clone(), clock.clone())),
            _ => {
                let uri = self.uri.parse()?;
                Arc::new(SqlCatalog::open(&uri, "landfast", store.clone(), random.clone()).await?)
            }
        };
        let faults = Faults::default();
        let counted = Arc::new(FaultCatalog::new(catalog, &faults));
        Ok((Engine::new(counted, Ledger::new(store), clock, random), faults))
    }
}

async fn committers_of_one_table_lose_nothing_and_none_starves(kind: Kind) -> TestResult {
    let shared = Shared::new(kind).await?;
    let (engine, _) = shared.engine().await?;
    create(engine.catalog().as_ref(), &orders()).await?;
    let mut committers = Vec::new();
    for number in 0..COMMITTERS {
        let (engine, faults) = shared.engine().await?;
        committers.push(tokio::spawn(commit_share(engine, faults, number * COMMITS)));
    }
    let mut medians = Vec::new();
    for committer in committers {
        medians.push(committer.await??);
    }
    let table = engine.catalog().load_table(&orders()).await?;
    let all: Vec<i64> = (0..COMMITTERS * COMMITS).collect();
    assert_eq!(ids(&table).await?, all);
    let head = engine.head(table).await?;
    let known = engine.ledger().check(head.ledger(), &deliveries(&all)).await?;
    assert!(known.iter().all(|known| matches!(known, Known::Landed(_))));
    assert_eq!(head.ledger().head().entry_count(), u64::try_from(all.len())?);
    writeln!(std::io::stderr(), "{kind:?}: medians of attempts {medians:?}")?;
    assert!(
        medians.iter().all(|median| *median <= MEDIAN_ATTEMPTS),
        "{medians:?}"
    );
    Ok(())
}

/// Commits one row after the other. Gives the median of the attempts that each took.
async fn commit_share(engine: Engine, faults: Faults, first: i64) -> TestResult<usize> {
    let random = Arc::new(Random::from_os());
    let mut head = engine.head(engine.catalog().load_table(&orders()).await?).await?;
    let (mut attempts, mut snapshots) = (Vec::new(), BTreeSet::new());
    for id in first..first + COMMITS {
        let before = faults.calls(Op::CommitTable, "");
        let mut changes = ChangeSet::append(random.uuid(), Moment::now(&SystemClock));
        let files = files_of(head.table(), &[id], &random).await?;
        changes.add(Group::durable(files, deliveries(&[id])));
        let deadline = Instant::now() + PATIENCE;
        match engine.commit(&mut head, &mut changes, deadline).await? {
            Committed::Now(snapshot) => assert!(snapshots.insert(snapshot)),
            Committed::Before => return Err(format!("row {id} was there before").into()),
        }
        attempts.push(faults.calls(Op::CommitTable, "") - before);
    }
    attempts.sort_unstable();
    Ok(attempts[attempts.len() / 2])
}

fn deliveries(ids: &[i64]) -> Vec<Entry> {
    let delivery = |id: &i64| Entry {
        space: Space::Kept,
        index_time: 0,
        id: u128::from(id.unsigned_abs()),
        value: Bytes::new(),
    };
    ids.iter().map(delivery).collect()
}
