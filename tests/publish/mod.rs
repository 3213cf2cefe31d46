//! Publishing: the real binary, a warehouse on `gs://`, and the server of BigQuery's API behind a front that goes wrong.

mod columns;
mod commands;
mod faults;
mod identity;
pub mod site;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use landfast::catalog::StorageCatalog;
use landfast::clock::{Clock, SystemClock};
use landfast::config::Config;
use landfast::publish::{Note, Publishers};
use landfast::random::Random;
use libtest_mimic::Trial;
use serde_json::json;
use tokio::time::{Instant, interval, sleep};

use self::site::{Site, message, version};
use crate::objects::bucket::Landing;
use crate::objects::site::large;
use crate::support::bigquery::{Mishap, PROJECT, Sent};
use crate::support::push::Push;
use crate::support::tables::orders;
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    let tests = trials![
        first_commit_makes_the_external_table,
        pointer_follows_and_its_metadata_is_read,
        pointer_moves_five_times_in_ten_seconds_at_the_most,
        fifty_commits_a_second_end_at_the_newest,
        pointer_never_goes_backwards,
        pointers_of_many_processes_end_at_the_newest,
        last_commit_is_visible_after_the_stop,
        last_answer_waits_for_the_pointer_where_no_cpu_comes_after_it,
    ];
    [
        tests,
        columns::tests(),
        commands::tests(),
        faults::tests(),
        identity::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The metadata that the accepted changes named, in their order.
fn moves(changes: &[Sent]) -> Vec<u64> {
    let accepted = changes.iter().filter(|sent| sent.status == 200);
    let named = accepted.filter(|sent| !sent.uri().is_empty());
    named.map(|sent| version(sent.uri())).collect()
}

/// The most changes in any ten seconds.
fn most_in_ten_seconds(changes: &[Sent]) -> usize {
    let within = |first: &Sent| {
        let ten = |sent: &&Sent| sent.at >= first.at && sent.at - first.at < Duration::from_secs(10);
        changes.iter().filter(ten).count()
    };
    changes.iter().map(within).max().unwrap_or_default()
}

async fn first_commit_makes_the_external_table() -> TestResult {
    let site = Site::new().await?;
    site.configure(
        "",
        "table: sold, location: EU, description: Landed, labels: { team: shop }",
    )?;
    let server = site.serve().await?;
    assert_eq!(
        site.front.requests().len(),
        0,
        "nothing is asked before the first commit"
    );
    assert_eq!(server.pusher().push(&message(1)).await, 204);
    let table = wait_for("the external table", site::SOON, async || {
        let table = site.front.table("sold").await.ok()?;
        (!table.is_null()).then_some(table)
    })
    .await?;
    assert_eq!(table["description"], "Landed");
    assert_eq!(table["labels"], json!({ "team": "shop" }));
    let expected = json!({ "sourceFormat": "ICEBERG", "connectionId": "projects/p-test/locations/us/connections/lake",
                           "sourceUris": [site.newest().await?] });
    assert_eq!(table["externalDataConfiguration"], expected);
    // What the server has done is told a moment later.
    let changes = wait_for("the answers", site::SOON, async || {
        let changes = site.front.changes();
        changes.iter().all(|sent| sent.status != 0).then_some(changes)
    })
    .await?;
    let paths: Vec<(&str, u16)> = changes
        .iter()
        .map(|sent| (sent.path.rsplit('/').next().unwrap_or_default(), sent.status))
        .collect();
    assert_eq!(paths, [("tables", 404), ("datasets", 200), ("tables", 200)]);
    assert_eq!(changes[1].body["location"], "EU");
    // Nobody is told who we are but Google.
    for sent in site.front.requests() {
        let said = sent.authorization.unwrap_or_default();
        assert!(said.is_empty() || said == "Bearer", "{said}");
    }
    server
        .logged(&["BIGQUERY_EMULATOR_HOST is set", "Made the external table."])
        .await?;
    site.front.documented()
}

async fn pointer_follows_and_its_metadata_is_read() -> TestResult {
    let site = Site::new().await?;
    let server = site.serve().await?;
    let mut sent = BTreeSet::new();
    for round in 0..3 {
        for id in round * 5..round * 5 + 5 {
            assert_eq!(server.pusher().push(&message(id)).await, 204);
            sent.insert(id);
        }
        site.caught_up().await?;
        assert_eq!(site.visible().await?, sent);
    }
    let metric = async |name: &str| server.metric(name).await;
    assert!(metric("landfast_publishes_total{table=\"shop.orders\",outcome=\"moved\"}").await? >= 2.0);
    assert!(metric("landfast_visible_seconds_count").await? >= 3.0);
    assert!(metric("landfast_publish_duration_seconds_count").await? >= 3.0);
    site.front.documented()
}

/// A commit for every message, as fast as the server takes them, for longer than BigQuery's window.
async fn pointer_moves_five_times_in_ten_seconds_at_the_most() -> TestResult {
    let site = Site::new().await?;
    let mut server = site.serve().await?;
    let begun = Instant::now();
    let mut id = 0;
    while begun.elapsed() < Duration::from_secs(16) {
        let pushes: Vec<_> = (id..id + 4).map(message).collect();
        assert_eq!(server.pusher().push_all(&pushes, 4).await, [204; 4]);
        id += 4;
    }
    let commits = server.metric("iceberg_batches_committed_total").await?;
    let newest = site.caught_up().await?;
    server.terminate()?;
    assert!(server.exited().await?.success());
    let changes = site.front.changes();
    let moves = moves(&changes);
    assert!(commits > moves.len() as f64, "{commits} commits, {moves:?}");
    // The first attempt to make the table, before its dataset, changes no table.
    let of_table: Vec<Sent> = changes
        .into_iter()
        .filter(|sent| sent.status == 200 && !sent.uri().is_empty())
        .collect();
    assert!((3..=5).contains(&most_in_ten_seconds(&of_table)), "{of_table:?}");
    assert!(moves.is_sorted(), "{moves:?}");
    assert_eq!(moves.last(), Some(&version(&newest)));
    assert_eq!(site.visible().await?, (0..id).collect());
    Ok(())
}

/// Told of fifty commits a second, while a process that publishes nothing makes as many as it can.
async fn fifty_commits_a_second_end_at_the_newest() -> TestResult {
    let site = Site::new().await?;
    let text = fs::read_to_string(site.config())?;
    let unpublished = text.lines().filter(|line| !line.contains("publish:"));
    fs::write(site.config(), unpublished.collect::<Vec<_>>().join("\n"))?;
    let server = site.serve().await?;
    let host = site.front.host();
    let env = |name: &str| match name {
        "BIGQUERY_EMULATOR_HOST" => Some(host.clone()),
        "GOOGLE_CLOUD_PROJECT" => Some(PROJECT.to_owned()),
        _ => None,
    };
    let config = Config::parse("f.yaml", &text, &env)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let catalog = StorageCatalog::new(site.bucket.store("warehouse")?, clock.clone());
    let random = Arc::new(Random::from_os());
    let publishers = Publishers::from_config(&config, Arc::new(catalog), clock, random);
    let (mut every, pusher) = (interval(Duration::from_millis(20)), server.pusher());
    let telling = async {
        for _ in 0..600 {
            every.tick().await;
            publishers.committed(&orders(), Note::default());
        }
    };
    let pushing = async {
        for id in 0.. {
            assert_eq!(pusher.push(&message(id)).await, 204);
        }
    };
    tokio::select! {
        () = telling => {}
        () = pushing => {}
    }
    assert_eq!(pusher.push(&message(-1)).await, 204);
    publishers.committed(&orders(), Note::default());
    let unpublished = publishers.close(Instant::now() + site::SOON).await;
    assert!(unpublished.is_empty(), "{unpublished:?}");
    assert_eq!(site.uri().await?, site.newest().await?);
    let mut changes = site.front.changes();
    changes.retain(|sent| !sent.uri().is_empty() && sent.status != 404);
    assert!((2..=5).contains(&most_in_ten_seconds(&changes)), "{changes:?}");
    assert!(moves(&changes).is_sorted());
    Ok(())
}

/// A process that sleeps between its look and its move, while another moves on.
async fn pointer_never_goes_backwards() -> TestResult {
    let site = Site::new().await?;
    let slow = site.serve().await?;
    assert_eq!(slow.pusher().push(&message(0)).await, 204);
    site.caught_up().await?;
    site.front.next(Method::PATCH, Mishap::Hold, 1);
    assert_eq!(slow.pusher().push(&message(1)).await, 204);
    wait_for("a move that is held", site::SOON, async || {
        let held = |sent: &Sent| sent.method == Method::PATCH && sent.status == 0;
        site.front.requests().iter().any(held).then_some(())
    })
    .await?;
    let fast = site.serve().await?;
    assert_eq!(fast.pusher().push(&message(2)).await, 204);
    let newest = site.caught_up().await?;
    site.front.release();
    wait_for("the held move to be refused", site::SOON, async || {
        let refused = |sent: &Sent| sent.status == 412;
        site.front.requests().iter().any(refused).then_some(())
    })
    .await?;
    assert_eq!(site.uri().await?, newest);
    assert_eq!(slow.pusher().push(&message(3)).await, 204);
    site.caught_up().await?;
    let moves = moves(&site.front.changes());
    assert!(moves.is_sorted(), "{moves:?}");
    assert_eq!(site.visible().await?, (0..4).collect());
    Ok(())
}

async fn pointers_of_many_processes_end_at_the_newest() -> TestResult {
    let site = Site::new().await?;
    let servers = [site.serve().await?, site.serve().await?, site.serve().await?];
    let begun = Instant::now();
    let mut id = 0;
    while begun.elapsed() < Duration::from_secs(14) {
        let pushers: Vec<_> = servers.iter().map(|server| server.pusher()).collect();
        let pushes = pushers
            .iter()
            .zip(id..)
            .map(async |(pusher, id)| pusher.push(&message(id)).await);
        let statuses = futures::future::join_all(pushes).await;
        assert_eq!(statuses, [204; 3]);
        id += 3;
        sleep(Duration::from_millis(50)).await;
    }
    site.caught_up().await?;
    let changes = site.front.changes();
    let moves = moves(&changes);
    assert!(moves.len() > 1 && moves.is_sorted(), "{moves:?}");
    let accepted: Vec<Sent> = changes
        .into_iter()
        .filter(|sent| sent.status == 200 && !sent.uri().is_empty())
        .collect();
    assert!(most_in_ten_seconds(&accepted) <= 5, "{accepted:?}");
    assert_eq!(site.visible().await?, (0..id).collect());
    Ok(())
}

async fn last_commit_is_visible_after_the_stop() -> TestResult {
    let site = Site::new().await?;
    let mut server = site.serve().await?;
    for id in 0..3 {
        assert_eq!(server.pusher().push(&message(id)).await, 204);
        if id == 0 {
            // The external table is made before the stop.
            site.caught_up().await?;
        }
    }
    server.terminate()?;
    assert!(server.exited().await?.success());
    assert_eq!(site.uri().await?, site.newest().await?);
    assert_eq!(site.visible().await?, (0..3).collect());

    // One that hangs makes the exit no later.
    let mut server = site.serve().await?;
    site.front.next(None, Mishap::Hang, 100);
    assert_eq!(server.pusher().push(&message(3)).await, 204);
    let stopped = Instant::now();
    server.terminate()?;
    assert!(server.exited().await?.success());
    assert!(
        stopped.elapsed() < Duration::from_millis(9_500),
        "{:?}",
        stopped.elapsed()
    );
    server
        .logged(&["BigQuery does not show the newest commits"])
        .await
}

async fn last_answer_waits_for_the_pointer_where_no_cpu_comes_after_it() -> TestResult {
    let site = Site::new().await?;
    site.configure("cpu_idle: true", "")?;
    let landing = Landing::new().await?;
    let from = format!("{{ subscription: orders }}, {{ bucket: {} }}", landing.name);
    let text = fs::read_to_string(site.config())?.replace("{ subscription: orders }", &from);
    fs::write(site.config(), text)?;
    let server = site.serve().await?;
    let quick = Cell::new(0);
    let lands = async |push: &Push| {
        let sent = Instant::now();
        assert_eq!(server.pusher().push(push).await, 204);
        // After 5 s an answer waits no longer, whatever came of the pointer.
        if sent.elapsed() >= Duration::from_secs(5) {
            return site.caught_up().await.map(drop);
        }
        quick.set(quick.get() + 1);
        assert_eq!(site.uri().await?, site.newest().await?);
        TestResult::Ok(())
    };
    for id in 0..3 {
        lands(&message(id)).await?;
    }
    // Also where all of it is a letter, or an object.
    let wrong = Push::new("orders", 7, "{\"id\":\"x\"}");
    lands(&wrong).await?;
    let object = landing.put("large.json", large(100).0).await?;
    lands(&object.notification("8")).await?;
    assert!(quick.get() >= 3, "{quick:?} of five");
    site.front.next(None, Mishap::Hang, 100);
    let begun = Instant::now();
    assert_eq!(server.pusher().push(&message(3)).await, 204);
    let waited = begun.elapsed().as_secs_f64();
    assert!((5.0..8.0).contains(&waited), "{waited}");
    Ok(())
}
