//! Many committers on one table: 1,600 commits by 1, 4 and 32 processes, on `storage`, SQLite, PostgreSQL and REST.
//!
//! `cargo bench --bench committers -- [--on CATALOG] [--commits N] [--by COUNT,…]`. Each committer is a process of its own
//! with an engine, a catalog and connections of its own; it lands its share as fast as the table takes it, ten rows of as
//! many new deliveries a commit. A run prints the time from the common start to the last commit, when the first and the
//! last committer had landed their share, attempts per commit (each writes a head of the ledger), and checks that every
//! row and every delivery is in the table once. PostgreSQL and REST are where `LANDFAST_TEST_POSTGRES` and
//! `LANDFAST_TEST_REST` say (`tests/postgres`, `tests/rest-server`), and left out without them.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement stops at the first surprise"
)]

mod table;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use futures::TryStreamExt;
use iceberg::{NamespaceIdent, TableIdent};
use landfast::catalog::{Catalog, Patience, RestCatalog, SqlCatalog, StorageCatalog};
use landfast::clock::{Moment, SystemClock};
use landfast::commit::{ChangeSet, Committed, Engine, Group};
use landfast::config::{RestAuth, RestCatalogConfig};
use landfast::ledger::{Known, Ledger};
use landfast::random::Random;
use landfast::storage::Store;

const ROWS: i64 = 10;
const CATALOGS: [&str; 4] = ["storage", "sqlite", "postgres", "rest"];
/// Nothing is given up in a measurement.
const PATIENCE: Duration = Duration::from_secs(600);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    if let [first, place @ ..] = arguments.as_slice()
        && first == "committer"
    {
        return runtime.block_on(committer(place));
    }
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let commits: i64 = option("--commits").map_or(1600, |count| count.parse().expect("a number"));
    let counts = option("--by").unwrap_or_else(|| "1,4,32".to_owned());
    println!(
        "{:9} {:>10} {:>8} {:>8} {:>9} {:>9} {:>15} {:>9}",
        "catalog", "committers", "total s", "ratio", "first s", "last s", "last : first", "attempts"
    );
    let chosen = option("--on");
    for name in CATALOGS {
        if chosen.as_ref().is_some_and(|chosen| chosen != name) {
            continue;
        }
        let mut alone = None;
        for count in counts.split(',') {
            let count: i64 = count.parse().expect("a number");
            let Some(run) = runtime.block_on(run(name, count, commits)) else {
                println!("{name:9} is left out: it is not there");
                break;
            };
            let total = run.last;
            let ratio = total / *alone.get_or_insert(total);
            println!(
                "{name:9} {count:>10} {total:>8.2} {ratio:>8.2} {:>9.2} {:>9.2} {:>15.2} {:>9.2}",
                run.first,
                run.last,
                run.last / run.first,
                run.attempts,
            );
        }
    }
}

/// A hundred messages a second, since some day.
fn published_at(id: i64) -> i64 {
    1_760_000_000 + id / 100
}

/// Where a table is: the catalog's kind and address, the warehouse, the namespace.
struct Place {
    kind: String,
    uri: String,
    warehouse: String,
    namespace: String,
}

impl Place {
    /// A fresh one; `None` where a server is missing.
    async fn fresh(kind: &str, folder: &str, random: &Random) -> Option<Self> {
        let mut warehouse = format!("file://{folder}/warehouse");
        let name = format!("b{}", random.uuid().simple());
        let uri = match kind {
            "sqlite" => format!("sqlite://{folder}/catalog.db"),
            "postgres" => fresh_database(&server("LANDFAST_TEST_POSTGRES")?, &name).await,
            "rest" => {
                let place = server("LANDFAST_TEST_REST")?;
                let (uri, shared) = place.split_once(' ').expect("an address and a warehouse");
                shared.clone_into(&mut warehouse);
                uri.to_owned()
            }
            _ => String::new(),
        };
        Some(Self {
            kind: kind.to_owned(),
            uri,
            warehouse,
            namespace: name,
        })
    }

    fn ident(&self) -> TableIdent {
        TableIdent::from_strs([self.namespace.as_str(), "rows"]).expect("a name")
    }

    /// An engine that shares nothing with any other.
    async fn engine(&self) -> Engine {
        let store = Store::open(&self.warehouse).expect("a store");
        let (clock, random) = (Arc::new(SystemClock), Arc::new(Random::from_os()));
        let catalog: Arc<dyn Catalog> = match self.kind.as_str() {
            "storage" => Arc::new(StorageCatalog::new(store.clone(), clock.clone())),
            "rest" => {
                let config = RestCatalogConfig {
                    uri: self.uri.clone(),
                    warehouse: None,
                    prefix: None,
                    auth: RestAuth::None,
                    headers: std::collections::BTreeMap::new(),
                };
                let patience = Patience::default();
                let opened =
                    RestCatalog::open(&config, store.clone(), clock.clone(), random.clone(), patience).await;
                Arc::new(opened.expect("a catalog"))
            }
            _ => {
                let uri = self.uri.parse().expect("a uri");
                let opened = SqlCatalog::open(&uri, "landfast", store.clone(), random.clone()).await;
                Arc::new(opened.expect("a catalog"))
            }
        };
        Engine::new(catalog, Ledger::new(store), clock, random)
    }
}

fn server(variable: &str) -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the servers are named as they are for the tests"
    )]
    std::env::var(variable).ok().filter(|place| !place.is_empty())
}

async fn fresh_database(uri: &str, name: &str) -> String {
    use sqlx::{Connection, Executor};
    let mut connection = sqlx::PgConnection::connect(uri).await.expect("a connection");
    connection
        .execute(format!("CREATE DATABASE {name}").as_str())
        .await
        .expect("a database");
    let server = uri.rsplit_once('/').map_or(uri, |(server, _)| server);
    format!("{server}/{name}")
}

/// What came out of a run: seconds until the first and the last committer had landed their share, attempts per commit.
struct Run {
    first: f64,
    last: f64,
    attempts: f64,
}

async fn run(kind: &str, committers: i64, commits: i64) -> Option<Run> {
    let folder = tempfile::tempdir().expect("a folder");
    let random = Random::from_os();
    let place = Place::fresh(kind, &folder.path().display().to_string(), &random).await?;
    let engine = place.engine().await;
    let namespace = NamespaceIdent::new(place.namespace.clone());
    table::create(engine.catalog().as_ref(), &namespace, "rows").await;
    let share = commits / committers;
    let mut children: Vec<Child> = (0..committers)
        .map(|number| start(&place, number * share, share))
        .collect();
    // Every committer has opened the table before the first commit.
    let mut outputs: Vec<_> = children
        .iter_mut()
        .map(|child| BufReader::new(child.stdout.take().expect("piped")).lines())
        .collect();
    for output in &mut outputs {
        output.next().expect("ready").expect("a line");
    }
    let begun = Instant::now();
    for child in &mut children {
        let input = child.stdin.as_mut().expect("piped");
        input.write_all(b"go\n").expect("a committer that listens");
    }
    // Each says for itself when it was done, since they are read one after the other.
    let mut seconds: Vec<f64> = outputs
        .iter_mut()
        .map(|output| {
            output
                .next()
                .expect("an answer")
                .expect("a line")
                .parse()
                .expect("seconds")
        })
        .collect();
    let total = begun.elapsed().as_secs_f64();
    for mut child in children {
        assert!(child.wait().expect("an end").success());
    }
    seconds.sort_by(f64::total_cmp);
    let attempts = verify(&place, share * committers).await;
    Some(Run {
        first: seconds[0],
        last: total,
        attempts,
    })
}

fn start(place: &Place, first: i64, share: i64) -> Child {
    let numbers = [first.to_string(), share.to_string()];
    Command::new(std::env::current_exe().expect("a path"))
        .arg("committer")
        .args([&place.kind, &place.uri, &place.warehouse, &place.namespace])
        .args(numbers)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process")
}

/// A child's whole life: opens the table, waits for the word, lands its share, says how long it took.
async fn committer(arguments: &[String]) {
    let [kind, uri, warehouse, namespace, first, share] = arguments else {
        unreachable!("started with other arguments");
    };
    let place = Place {
        kind: kind.clone(),
        uri: uri.clone(),
        warehouse: warehouse.clone(),
        namespace: namespace.clone(),
    };
    let (first, share): (i64, i64) = (first.parse().expect("first"), share.parse().expect("share"));
    let engine = place.engine().await;
    let random = Arc::new(Random::from_os());
    let loaded = engine.catalog().load_table(&place.ident()).await;
    let mut head = engine.head(loaded.expect("the table")).await.expect("a head");
    println!("ready");
    let mut word = String::new();
    std::io::stdin().read_line(&mut word).expect("the word");
    let begun = Instant::now();
    for commit in first..first + share {
        let ids: Vec<i64> = (commit * ROWS..(commit + 1) * ROWS).collect();
        let files = table::files(&head, &ids, &random).await;
        let mut changes = ChangeSet::append(random.uuid(), Moment::now(&SystemClock));
        // A group is landed whole or not at all by `Engine::commit`.
        changes.add(Group::pending(files, table::deliveries(&ids, published_at)));
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let committed = engine.commit(&mut head, &mut changes, deadline).await;
        assert!(matches!(committed, Ok(Committed::Now(_))), "{committed:?}");
    }
    println!("{}", begun.elapsed().as_secs_f64());
}

/// Every row and every delivery is there once. Gives the attempts per commit.
async fn verify(place: &Place, commits: i64) -> f64 {
    let engine = place.engine().await;
    let loaded = engine.catalog().load_table(&place.ident()).await;
    let table = loaded.expect("the table");
    let scan = table.scan().select(["id"]).build().expect("a scan");
    let batches: Vec<_> = scan
        .to_arrow()
        .await
        .expect("rows")
        .try_collect()
        .await
        .expect("rows");
    let ids: Vec<i64> = batches
        .iter()
        .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
        .collect();
    let expected: Vec<i64> = (0..commits * ROWS).collect();
    let distinct: BTreeSet<i64> = ids.iter().copied().collect();
    assert_eq!(ids.len(), expected.len(), "rows");
    assert!(distinct.iter().eq(&expected), "other rows than were sent");
    let head = engine.head(table).await.expect("a head");
    let known = engine
        .ledger()
        .check(head.ledger(), &table::deliveries(&expected, published_at))
        .await;
    let known = known.expect("answers");
    assert!(
        known.iter().all(|known| matches!(known, Known::Landed(_))),
        "a delivery is missing"
    );
    assert_eq!(
        head.ledger().head().entry_count(),
        u64::try_from(expected.len()).expect("a count")
    );
    let folder = landfast::ledger::folder(head.table().metadata().uuid());
    let names = engine
        .ledger()
        .store()
        .names_after(&folder, "head-")
        .await
        .expect("names");
    let heads = names.iter().filter(|name| name.starts_with("head-")).count();
    f64::from(u32::try_from(heads).expect("a count")) / f64::from(u32::try_from(commits).expect("a count"))
}
