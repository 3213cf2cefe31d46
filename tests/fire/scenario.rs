//! The scenarios: how many processes, on which catalog, and how long they are under fire.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::sleep;

use super::fleet::Fleet;
use super::ground::{Ground, Place};
use super::kills;
use super::sender::{AT_ONCE, Sender};
use super::verdict::{judge, verify};
use crate::rest::World;
use crate::support::postgres::Postgres;
use crate::support::seed::seed;
use crate::support::{TestResult, trials, wait_for};

/// Repeated at the end, of what was acknowledged.
const REPEATED: usize = 1000;

pub fn tests() -> Vec<Trial> {
    trials![
        one_killed_process_loses_and_doubles_nothing,
        two_killed_processes_lose_and_double_nothing,
        four_killed_processes_lose_and_double_nothing,
        killed_processes_on_one_file_lose_and_double_nothing,
        killed_processes_on_a_killed_database_lose_and_double_nothing,
        killed_processes_behind_a_bad_proxy_lose_and_double_nothing,
    ]
}

async fn one_killed_process_loses_and_doubles_nothing() -> TestResult {
    fire("storage", Ground::Storage, 1, kills(6)).await
}

async fn two_killed_processes_lose_and_double_nothing() -> TestResult {
    fire("storage", Ground::Storage, 2, kills(6)).await
}

async fn four_killed_processes_lose_and_double_nothing() -> TestResult {
    fire("storage", Ground::Storage, 4, kills(8)).await
}

async fn killed_processes_on_one_file_lose_and_double_nothing() -> TestResult {
    fire("SQLite", Ground::Sqlite, 2, kills(5)).await
}

async fn killed_processes_on_a_killed_database_lose_and_double_nothing() -> TestResult {
    let (server, uri) = Postgres::start()?;
    fire("PostgreSQL", Ground::Postgres(server, uri), 2, kills(6)).await
}

async fn killed_processes_behind_a_bad_proxy_lose_and_double_nothing() -> TestResult {
    fire("REST", Ground::Rest(World::new().await?), 2, kills(6)).await
}

/// Kills until `kills` processes have died, then lets everything land, and counts.
async fn fire(name: &str, ground: Ground, processes: usize, kills: u64) -> TestResult {
    let started = Instant::now();
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let place = Place::new(ground)?;
    let mut fleet = Fleet::start(place.config.clone(), processes).await?;
    let sender = Sender::new();
    sender.aim(fleet.pushers());
    let over = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..AT_ONCE)
        .map(|number| {
            let over = over.clone();
            let stopped = move || over.load(Ordering::SeqCst);
            tokio::spawn(sender.clone().send_until(seed ^ (number + 1), stopped))
        })
        .collect();
    let troubles = kill_some(&place, &mut fleet, &sender, kills, &mut random).await?;
    // A busy machine has little to show between kills.
    wait_for("acknowledgements to judge", Duration::from_secs(60), async || {
        (sender.book().acknowledged.len() > 100).then_some(())
    })
    .await?;
    over.store(true, Ordering::SeqCst);
    for sender in senders {
        sender.await?;
    }
    place.calm();
    let book = sender.book().clone();
    let under_fire = book.acknowledged.len();
    judge(&place, &book).await?;
    sender.settle(&mut random).await?;
    sender.repeat(REPEATED, &mut random).await?;
    fleet.stop().await?;
    let book = sender.book().clone();
    assert!(book.strange.is_empty(), "{:?}", book.strange);
    judge(&place, &book).await?;
    verify(&place)?;
    writeln!(
        std::io::stderr(),
        "fire: {name}, {processes} processes, seed {seed}: {kills} kills, {troubles:?}; {} messages in {} pushes ({} doubled, \
         {} deaf), {under_fire} acknowledged under fire, answers {:?}; 0 lost, 0 doubled; {:.0} s",
        book.acknowledged.len(),
        book.sent(),
        book.doubled,
        book.deaf,
        book.answers,
        started.elapsed().as_secs_f64()
    )?;
    Ok(())
}

/// Kills a random process at a random moment, and starts another a moment later, again and again.
async fn kill_some(
    place: &Place,
    fleet: &mut Fleet,
    sender: &Sender,
    kills: u64,
    random: &mut StdRng,
) -> TestResult<BTreeMap<&'static str, u64>> {
    let mut troubles = BTreeMap::new();
    for _ in 0..kills {
        sleep(Duration::from_millis(random.random_range(0..900))).await;
        if let Some(what) = place.trouble(random).await? {
            *troubles.entry(what).or_default() += 1;
            // What it leads to is worth some time of its own.
            sleep(Duration::from_millis(random.random_range(0..400))).await;
        }
        let at = random.random_range(0..fleet.size());
        fleet.kill(at)?;
        sleep(Duration::from_millis(random.random_range(0..200))).await;
        fleet.replace(at).await?;
        sender.aim(fleet.pushers());
    }
    Ok(troubles)
}
