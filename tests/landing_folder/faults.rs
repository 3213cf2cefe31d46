//! Stores that fail, files that grow, and a stop in the middle: in one process, with paused time.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use iceberg::TableIdent;
use landfast::batch::Shared;
use landfast::catalog::{Catalog, StorageCatalog};
use landfast::clock::Clock;
use landfast::commit::Engine;
use landfast::config::Config;
use landfast::dead_letter::DeadLetters;
use landfast::error::ErrorKind;
use landfast::ledger::Ledger;
use landfast::random::Random;
use landfast::storage::Store;
use landfast::telemetry::{UnknownFields, read_tables};
use landfast::trigger::{Landing, Limits};
use libtest_mimic::Trial;
use object_store::memory::InMemory;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::{lines, names, put};
use crate::support::clock::TestClock;
use crate::support::faults::{Fault, Faults, Op};
use crate::support::tables::ids_now;
use crate::support::{TestResult, paused_trials, wait_for};

pub fn tests() -> Vec<Trial> {
    paused_trials![
        growing_file_waits_until_it_is_whole,
        empty_file_waits_a_minute_for_its_content,
        store_that_fails_delays_its_files_until_it_heals,
        table_that_fails_stops_no_other_table,
        every_answer_of_the_commit_is_survived,
        file_that_changes_while_it_is_read_is_taken_again,
        file_that_changes_after_its_commit_is_taken_as_another,
        letters_that_cannot_be_kept_keep_the_file,
        refused_file_stays_while_the_dead_letters_cannot_take_it,
        table_that_does_not_fit_keeps_the_file,
        stop_lets_a_load_end_within_its_grace,
        stop_lets_go_of_a_load_that_takes_longer,
    ]
}

const GRACE: Duration = Duration::from_secs(6);
const TABLES: &str = "schema: [{ name: id, type: long, required: true }, { name: name, type: string }]";

/// A process that watches `landing`, over a store that may fail.
struct House {
    dir: PathBuf,
    faults: Faults,
    letter_faults: Faults,
    catalog: Arc<dyn Catalog>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl House {
    fn new(dir: &TempDir) -> TestResult<Self> {
        let faults = Faults::default();
        let warehouse = faults.store("memory:///w", InMemory::new());
        Self::over(dir, faults, warehouse)
    }

    fn over(dir: &TempDir, faults: Faults, warehouse: Store) -> TestResult<Self> {
        let dir = dir.path().to_path_buf();
        let shown = dir.display();
        let text = format!(
            "warehouse: memory:///w\ncatalog: {{ type: memory }}\ndead_letters: \"file://{shown}/dead-letters\"\n\
             defaults: {{ {TABLES} }}\nroutes: [{{ bucket: \"file://{shown}/landing\", table: \"shop.{{folder}}\" }}]\n"
        );
        let config = Arc::new(Config::parse("t.yaml", &text, &|_| None)?);
        let letter_faults = Faults::default();
        let letters = letter_faults.store("memory:///d", InMemory::new());
        let clock: Arc<dyn Clock> = TestClock::at(Utc::now());
        let random = Arc::new(Random::seeded(7));
        let ledger = Ledger::new(warehouse.clone());
        let catalog: Arc<dyn Catalog> = Arc::new(StorageCatalog::new(warehouse, clock.clone()));
        let shared = Arc::new(Shared {
            engine: Engine::new(catalog.clone(), ledger, clock.clone(), random.clone()),
            dead_letters: DeadLetters::new(letters),
            limits: Limits::new(1 << 20, 10),
            clock,
            random,
            unknown_fields: UnknownFields::default(),
            publishers: landfast::publish::Publishers::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let landing = Landing::open(config, shared, GRACE, stopped)?;
        Ok(Self {
            dir,
            faults,
            letter_faults,
            catalog,
            stop,
            task: tokio::spawn(landing.run()),
        })
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) -> TestResult<PathBuf> {
        put(&self.dir.join("landing"), name, content)
    }

    fn waiting(&self) -> TestResult<Vec<String>> {
        names(&self.dir.join("landing"))
    }

    async fn emptied(&self) -> TestResult {
        wait_for(
            "the landing folder to be empty",
            Duration::from_secs(300),
            async || self.waiting().ok()?.is_empty().then_some(()),
        )
        .await
    }

    /// The `id` of every row of a table, in order; none if there is no table.
    async fn ids(&self, table: &str) -> TestResult<Vec<i64>> {
        let ident = TableIdent::from_strs(["shop", table])?;
        match self.catalog.load_table(&ident).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            _ => ids_now(self.catalog.as_ref(), &ident).await,
        }
    }

    async fn end(self) -> TestResult {
        self.stop.send(true)?;
        Ok(self.task.await?)
    }
}

fn append(path: &Path, content: &str) -> TestResult {
    let mut file = OpenOptions::new().append(true).open(path)?;
    Ok(file.write_all(content.as_bytes())?)
}

async fn growing_file_waits_until_it_is_whole() -> TestResult {
    let dir = TempDir::new()?;
    let house = House::new(&dir)?;
    let file = house.put("rows/a.json", lines(0..1))?;
    for id in 1..20 {
        sleep(Duration::from_millis(900)).await;
        append(&file, &lines(id..id + 1))?;
        assert_eq!(house.ids("rows").await?, Vec::<i64>::new());
    }
    house.emptied().await?;
    assert_eq!(house.ids("rows").await?, (0..20).collect::<Vec<_>>());
    house.end().await
}

async fn empty_file_waits_a_minute_for_its_content() -> TestResult {
    let dir = TempDir::new()?;
    let house = House::new(&dir)?;
    let (filled, empty) = (house.put("rows/a.json", "")?, house.put("rows/b.json", "")?);
    sleep(Duration::from_secs(50)).await;
    assert_eq!(house.waiting()?.len(), 2);
    append(&filled, &lines(0..5))?;
    sleep(Duration::from_secs(5)).await;
    assert_eq!((house.ids("rows").await?.len(), empty.exists()), (5, true));
    house.emptied().await?;
    assert_eq!(names(&dir.path().join("landed"))?, ["rows/a.json", "rows/b.json"]);
    house.end().await
}

async fn store_that_fails_delays_its_files_until_it_heals() -> TestResult {
    for path in [".parquet", "v1.metadata.json", "-m0.avro", "/snap-"] {
        let dir = TempDir::new()?;
        let house = House::new(&dir)?;
        house.faults.always(Op::Put, path, Fault::Refuse);
        for file in 0..3 {
            house.put(&format!("rows/{file}.json"), lines(file * 10..file * 10 + 10))?;
        }
        sleep(Duration::from_secs(600)).await;
        let calls = house.faults.calls(Op::Put, path);
        // Three files, each tried again after 1, 2, 4 ... and then every 30 to 60 s.
        assert!((3..=120).contains(&calls), "{path}: {calls} calls");
        assert_eq!(
            (house.waiting()?.len(), house.ids("rows").await?.len()),
            (3, 0),
            "{path}"
        );
        house.faults.clear();
        let healed = Instant::now();
        house.emptied().await?;
        assert!(
            healed.elapsed() < Duration::from_secs(65),
            "{:?}",
            healed.elapsed()
        );
        assert_eq!(house.ids("rows").await?, (0..30).collect::<Vec<_>>(), "{path}");
        house.end().await?;
    }
    Ok(())
}

async fn table_that_fails_stops_no_other_table() -> TestResult {
    let dir = TempDir::new()?;
    let house = House::new(&dir)?;
    // Whatever is told of them is the process's, so their names are no other test's.
    house.faults.always(Op::Put, "shop/unwell/", Fault::Refuse);
    for file in 0..5 {
        house.put(&format!("unwell/{file}.json"), lines(file..file + 1))?;
        house.put(&format!("well/{file}.json"), lines(file..file + 1))?;
    }
    sleep(Duration::from_secs(10)).await;
    assert_eq!(house.ids("well").await?, [0, 1, 2, 3, 4]);
    assert_eq!((house.waiting()?.len(), house.ids("unwell").await?.len()), (5, 0));
    let failing =
        |table| read_tables(|tables| Some(tables.of(table)?.failure?.lasts(std::time::Instant::now())));
    assert_eq!((failing("shop.unwell"), failing("shop.well")), (Some(true), None));
    house.faults.clear();
    house.emptied().await?;
    assert_eq!(failing("shop.unwell"), Some(false));
    house.end().await
}

async fn every_answer_of_the_commit_is_survived() -> TestResult {
    let lost = || read_tables(|tables| Some(tables.of("shop.answers")?.sums.unknown_outcome_count));
    for (fault, lost_so_far) in [
        (Fault::Refuse, 1),
        (Fault::FailAfter, 2),
        (Fault::Repeat, 2),
        (Fault::Delay(Duration::from_secs(20)), 2),
    ] {
        let dir = TempDir::new()?;
        let house = House::new(&dir)?;
        house.faults.once(Op::Put, "v2.metadata.json", fault.clone());
        house.put("answers/a.json", lines(0..10))?;
        house.emptied().await?;
        assert_eq!(
            house.ids("answers").await?,
            (0..10).collect::<Vec<_>>(),
            "{fault:?}"
        );
        assert_eq!(lost(), Some(lost_so_far), "{fault:?}");
        house.end().await?;
    }
    Ok(())
}

async fn file_that_changes_while_it_is_read_is_taken_again() -> TestResult {
    let dir = TempDir::new()?;
    let house = House::new(&dir)?;
    // The first chunk is read, then the table is made, then the rest is read.
    let gate = house.faults.hold(Op::Put, "v1.metadata.json");
    let rows = 200_000;
    let file = house.put("rows/a.json", lines(0..rows))?;
    gate.reached().await;
    append(&file, &lines(rows..rows + 1))?;
    gate.release();
    house.emptied().await?;
    assert_eq!(house.ids("rows").await?, (0..=rows).collect::<Vec<_>>());
    assert_eq!(names(&dir.path().join("dead-letters"))?, Vec::<String>::new());
    house.end().await
}

/// The rows that were committed are there twice, as nothing remembers them; what was appended is never lost.
async fn file_that_changes_after_its_commit_is_taken_as_another() -> TestResult {
    let dir = TempDir::new()?;
    let house = House::new(&dir)?;
    let gate = house.faults.hold(Op::Put, "v2.metadata.json");
    let file = house.put("rows/a.json", lines(0..2))?;
    gate.reached().await;
    append(&file, &lines(2..3))?;
    gate.release();
    house.emptied().await?;
    assert_eq!(house.ids("rows").await?, [0, 0, 1, 1, 2]);
    assert_eq!(
        fs::read_to_string(dir.path().join("landed/rows/a.json"))?,
        lines(0..3)
    );
    house.end().await
}

async fn letters_that_cannot_be_kept_keep_the_file() -> TestResult {
    let dir = TempDir::new()?;
    let house = House::new(&dir)?;
    house.letter_faults.always(Op::Put, "", Fault::Refuse);
    house.put("rows/a.json", format!("{}{{\"id\":\"x\"}}\n", lines(0..10)))?;
    sleep(Duration::from_secs(60)).await;
    assert_eq!((house.waiting()?.len(), house.ids("rows").await?.len()), (1, 0));
    house.letter_faults.clear();
    house.emptied().await?;
    assert_eq!(house.ids("rows").await?.len(), 10);
    house.end().await
}

async fn refused_file_stays_while_the_dead_letters_cannot_take_it() -> TestResult {
    let dir = TempDir::new()?;
    let house = House::new(&dir)?;
    let letters = dir.path().join("dead-letters");
    fs::write(&letters, "a file where a folder should be")?;
    house.put("rows/cut.gz", [0x1f, 0x8b, 8, 0])?;
    house.put("rows/a.json", lines(0..10))?;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(house.waiting()?, ["rows/cut.gz"]);
    assert_eq!(house.ids("rows").await?.len(), 10);
    fs::remove_file(&letters)?;
    house.emptied().await?;
    assert_eq!(
        names(&letters)?,
        ["files/rows/cut.gz", "files/rows/cut.gz.reason.json"]
    );
    house.end().await
}

async fn table_that_does_not_fit_keeps_the_file() -> TestResult {
    let dir = TempDir::new()?;
    let house = House::new(&dir)?;
    let ident = TableIdent::from_strs(["shop", "rows"])?;
    house.put("rows/a.json", lines(0..10))?;
    house.emptied().await?;
    // Another table of that name, by another hand.
    house.catalog.drop_table(&ident).await?;
    let schema = crate::support::tables::schema([crate::support::tables::column(
        1,
        "id",
        iceberg::spec::PrimitiveType::String,
        false,
    )]);
    let creation = iceberg::TableCreation::builder()
        .name("rows".to_owned())
        .schema(schema)
        .build();
    house.catalog.create_table(ident.namespace(), creation).await?;
    house.put("rows/b.json", lines(10..20))?;
    sleep(Duration::from_secs(120)).await;
    assert_eq!(house.waiting()?, ["rows/b.json"]);
    house.catalog.drop_table(&ident).await?;
    house.emptied().await?;
    assert_eq!(house.ids("rows").await?, (10..20).collect::<Vec<_>>());
    house.end().await
}

async fn stop_lets_a_load_end_within_its_grace() -> TestResult {
    let dir = TempDir::new()?;
    let house = House::new(&dir)?;
    let gate = house.faults.hold(Op::Put, ".parquet");
    house.put("rows/a.json", lines(0..10))?;
    house.put("rows/b.json", lines(10..20))?;
    gate.reached().await;
    house.stop.send(true)?;
    sleep(GRACE - Duration::from_millis(100)).await;
    gate.release();
    wait_for("the end", GRACE, async || house.task.is_finished().then_some(())).await?;
    // The one in work landed and was moved; the next was not begun.
    assert_eq!(house.ids("rows").await?, (0..10).collect::<Vec<_>>());
    assert_eq!(house.waiting()?, ["rows/b.json"]);
    assert_eq!(names(&dir.path().join("landed"))?, ["rows/a.json"]);
    Ok(())
}

async fn stop_lets_go_of_a_load_that_takes_longer() -> TestResult {
    let dir = TempDir::new()?;
    let faults = Faults::default();
    let warehouse = faults.store("memory:///w", InMemory::new());
    let house = House::over(&dir, faults.clone(), warehouse.clone())?;
    let gate = house.faults.hold(Op::Put, ".parquet");
    house.put("rows/a.json", lines(0..10))?;
    gate.reached().await;
    let stopped = Instant::now();
    house.stop.send(true)?;
    wait_for("the end", GRACE * 2, async || {
        house.task.is_finished().then_some(())
    })
    .await?;
    assert!(stopped.elapsed() >= GRACE && stopped.elapsed() < GRACE + Duration::from_secs(1));
    // Also when what was on its way arrives late.
    gate.release_and_settle().await;
    assert_eq!((house.ids("rows").await?, house.waiting()?.len()), (vec![], 1));
    let house = House::over(&dir, faults, warehouse)?;
    house.emptied().await?;
    assert_eq!(house.ids("rows").await?, (0..10).collect::<Vec<_>>());
    house.end().await
}
