//! A topic that is missing or away, a process that is killed before it could publish, a store that keeps what was published.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::Utc;
use landfast::dead_letter::{DeadLetters, LetterName, Topic};
use landfast::decode::{Reason, RejectKind, RejectedRecord};
use landfast::random::Random;
use landfast::storage::Store;
use landfast::trigger::{DeliveryId, Envelope};
use libtest_mimic::Trial;
use object_store::memory::InMemory;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{LONG, ROWS, config, ended, letters, names, serve, waiting};
use crate::support::faults::{Fault, Faults, Op};
use crate::support::lake::Lake;
use crate::support::pubsub::PubSub;
use crate::support::push::{NO_ANSWER, Push};
use crate::support::server::landfast;
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        missing_topic_refuses_and_loses_nothing,
        topic_that_is_away_refuses_in_time_and_takes_them_later,
        killed_between_commit_and_publish_leaves_the_letters_of_that_commit,
        maintain_publishes_the_letters_that_still_wait,
        letter_that_was_published_and_still_waits_is_published_under_its_name,
        letters_of_a_location_are_found_where_they_are_published_now,
        letters_that_waited_for_a_topic_go_to_the_location_of_now,
        letters_of_a_renamed_table_are_published_from_where_they_wait,
        letters_of_one_object_are_published_in_turns,
    ]
}

const MIXED: &str = "{\"id\":1}\n{\"id\":\"two\"}\n{\"id\":3}";

async fn missing_topic_refuses_and_loses_nothing() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    let server = serve(pubsub.host(), &config(&lake, &pubsub, "", ROWS)?).await?;
    let pushes = [Push::new("rows", 1, MIXED), Push::new("nobody", 2, "x")];
    for _ in 0..3 {
        assert_eq!(server.pusher().push_all(&pushes, 2).await, [503; 2]);
    }
    let text = "There is no such topic for the dead letters";
    server.logged(&[text, &pubsub.full_topic("letters")]).await?;
    // Once for the table, once for what has none.
    assert_eq!(
        server.log().matches("could not be kept").count(),
        2,
        "{}",
        server.log()
    );
    pubsub.queue("letters").await?;
    assert_eq!(server.pusher().push_all(&pushes, 2).await, [204; 2]);
    let letters = letters(&pubsub, 2).await?;
    assert_eq!((letters.len(), names(&letters).len()), (2, 2));
    assert_eq!(lake.ids("t.rows", "id")?, ([1, 3].into(), 2));
    Ok(())
}

/// A way to the emulator that is shut at first.
struct Gate {
    address: String,
    open: watch::Sender<bool>,
}

impl Gate {
    async fn to(host: &str) -> TestResult<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (open, host) = (watch::Sender::new(false), Arc::<str>::from(host));
        let opened = open.clone();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (mut open, host) = (opened.subscribe(), host.clone());
                tokio::spawn(async move {
                    // Nothing answers until it is opened: worse than a refused connection.
                    open.wait_for(|open| *open).await.ok()?;
                    let mut far = TcpStream::connect(&*host).await.ok()?;
                    tokio::io::copy_bidirectional(&mut near, &mut far).await.ok()
                });
            }
        });
        Ok(Self { address, open })
    }
}

async fn topic_that_is_away_refuses_in_time_and_takes_them_later() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    pubsub.queue("letters").await?;
    let gate = Gate::to(pubsub.host()).await?;
    let server = serve(&gate.address, &config(&lake, &pubsub, "ack_deadline: 30s", ROWS)?).await?;
    let pushes = [Push::new("rows", 1, MIXED), Push::new("nobody", 2, "x")];
    for _ in 0..2 {
        let sent = Instant::now();
        assert_eq!(server.pusher().push_all(&pushes, 2).await, [503; 2]);
        assert!(sent.elapsed() < Duration::from_secs(30), "{:?}", sent.elapsed());
    }
    // What fits lands meanwhile.
    let fits = Push::json("rows", 9, &json!({ "id": 9 }));
    assert_eq!(server.pusher().push(&fits).await, 204);
    gate.open.send_replace(true);
    wait_for("both to be taken", LONG, async || {
        (server.pusher().push_all(&pushes, 2).await == [204; 2]).then_some(())
    })
    .await?;
    let letters = letters(&pubsub, 2).await?;
    // More than once at the most, never under another name.
    assert_eq!(names(&letters).len(), 2, "{letters:?}");
    assert_eq!(lake.ids("t.rows", "id")?, ([1, 3, 9].into(), 3));
    assert_eq!(waiting(&lake, "pending")?, Vec::<PathBuf>::new());
    Ok(())
}

/// Kills a server after the commit of a push, while the topic does not answer.
async fn killed_before_it_published(lake: &Lake, pubsub: &PubSub, push: &Push) -> TestResult {
    let gate = Gate::to(pubsub.host()).await?;
    let mut server = serve(&gate.address, &config(lake, pubsub, "", ROWS)?).await?;
    let (pusher, first) = (server.pusher(), push.clone());
    let answer = tokio::spawn(async move { pusher.push(&first).await });
    wait_for("the commit", LONG, async || {
        (server.metric("iceberg_batches_committed_total").await.ok()? == 1.0).then_some(())
    })
    .await?;
    server.kill()?;
    assert_eq!(answer.await?, NO_ANSWER);
    assert_eq!(pubsub.waiting("letters").await?.len(), 0);
    assert_eq!(waiting(lake, "pending")?.len(), 1);
    Ok(())
}

/// Of a delivery that nobody sends again.
async fn maintain_publishes_the_letters_that_still_wait() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    pubsub.queue("letters").await?;
    killed_before_it_published(&lake, &pubsub, &Push::new("rows", 1, MIXED)).await?;
    let stray = lake
        .path()
        .join("warehouse/_landfast/dead-letters/pending/t.before/2026-11-22");
    std::fs::create_dir_all(&stray)?;
    std::fs::write(stray.join("x"), "a letter of a table that was renamed")?;
    for (dry_run, letters) in [(true, 0), (false, 1), (false, 1)] {
        let mut maintain = landfast(["maintain", "--output", "json", "--config"]);
        maintain
            .arg(lake.path().join("landfast.yaml"))
            .env("PUBSUB_EMULATOR_HOST", pubsub.host());
        if dry_run {
            maintain.arg("--dry-run");
        }
        let (code, said) = ended(maintain)?;
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(pubsub.waiting("letters").await?.len(), letters, "{said}");
        assert!(said.contains("pending/t.before"), "{said}");
    }
    assert_eq!(waiting(&lake, "pending")?, [stray.join("x")]);
    assert_eq!(pubsub.waiting("letters").await?[0].data, b"{\"id\":\"two\"}");
    Ok(())
}

async fn killed_between_commit_and_publish_leaves_the_letters_of_that_commit() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    pubsub.queue("letters").await?;
    let push = Push::new("rows", 1, MIXED);
    killed_before_it_published(&lake, &pubsub, &push).await?;
    let waits = waiting(&lake, "pending")?;
    // The next process finds the delivery in the table, and publishes what its commit named.
    let server = serve(pubsub.host(), &lake.path().join("landfast.yaml")).await?;
    assert_eq!(server.pusher().push_all(&[push.clone(), push], 2).await, [204; 2]);
    let letters = letters(&pubsub, 1).await?;
    let names = names(&letters);
    let name = names.first().ok_or("a name")?;
    // Two copies at once may both find it waiting.
    assert!(names.len() == 1 && letters.len() <= 2, "{letters:?}");
    let object = name.strip_suffix("/1").ok_or("a position")?;
    assert!(waits[0].ends_with(object), "{waits:?} {name}");
    assert_eq!(letters[0].data, b"{\"id\":\"two\"}");
    assert_eq!(waiting(&lake, "pending")?, Vec::<PathBuf>::new());
    assert_eq!(lake.ids("t.rows", "id")?, ([1, 3].into(), 2));
    Ok(())
}

/// Letters of a message, of so many records, that wait in a store, and their name.
async fn wait_of(letters: &DeadLetters, message: u64, count: usize) -> TestResult<LetterName> {
    let published_at = Utc::now();
    let envelope = Envelope {
        id: DeliveryId::message("s", message.to_string(), published_at),
        source: "s".to_owned(),
        published_at,
        received_at: published_at,
        fingerprint: None,
        division: None,
        attributes: BTreeMap::new(),
    };
    let record = |position| RejectedRecord {
        position,
        reason: Reason {
            kind: RejectKind::Syntax,
            message: "no JSON".to_owned(),
            path: None,
        },
        raw: Bytes::from_static(b"{"),
    };
    let records: Vec<_> = (0..count as u64).map(record).collect();
    let id = letters.waiting_id(Random::seeded(message).timed_uuid(published_at));
    letters.write_pending(&envelope, "t.rows", id, &records).await?;
    Ok(LetterName::new("t.rows", id, envelope.id.hash()))
}

async fn wait_as(letters: &DeadLetters, message: u64) -> TestResult<LetterName> {
    wait_of(letters, message, 1).await
}

async fn topic(pubsub: &PubSub) -> TestResult<Topic> {
    let host = pubsub.host().to_owned();
    let env = move |name: &str| (name == "PUBSUB_EMULATOR_HOST").then(|| host.clone());
    Ok(Topic::connect(&pubsub.full_topic("letters"), &env).await?)
}

async fn letter_that_was_published_and_still_waits_is_published_under_its_name() -> TestResult {
    let pubsub = PubSub::new()?;
    pubsub.queue("letters").await?;
    let faults = Faults::default();
    let store = faults.store("memory:///d", Arc::new(InMemory::new()));
    let published = DeadLetters::new(store).published_to(topic(&pubsub).await?);
    let name = wait_as(&published, 1).await?;
    // As a kill would: the topic has it, and it waits as before.
    faults.once(Op::Delete, "pending", Fault::Refuse);
    published.confirm(&name).await?;
    published.confirm(&name).await?;
    published.confirm(&name).await?;
    let letters = letters(&pubsub, 2).await?;
    assert_eq!((letters.len(), names(&letters).len()), (2, 1));
    assert_eq!(published.store().keys("").await?, Vec::<String>::new());
    // A store that does not say whether it waits decides nothing.
    faults.once(Op::Get, "pending", Fault::Refuse);
    assert!(published.confirm(&name).await.is_err());
    Ok(())
}

/// Only what was written to be published is taken for published when it is not there.
async fn letters_of_a_location_are_found_where_they_are_published_now() -> TestResult {
    let pubsub = PubSub::new()?;
    pubsub.queue("letters").await?;
    let before = Store::open("memory:///before")?;
    let located = DeadLetters::new(before.clone());
    let (waits, counts) = (wait_as(&located, 1).await?, wait_as(&located, 2).await?);
    located.confirm(&counts).await?;
    // Nobody says where they were.
    let published = DeadLetters::new(Store::open("memory:///now")?).published_to(topic(&pubsub).await?);
    for name in [&waits, &counts] {
        let missed = published.confirm(name).await.expect_err("missed");
        assert!(missed.message().contains("`dead_letters.before`"), "{missed}");
    }
    // What waits there is published, once; what counts there does.
    let published = published.after_location(before.clone());
    for name in [&waits, &waits, &counts, &counts] {
        published.confirm(name).await?;
    }
    let sent = letters(&pubsub, 1).await?;
    assert_eq!(names(&sent), [format!("{}/0", waits.path()).as_str()].into());
    assert_eq!(before.keys("pending").await?, Vec::<String>::new());
    assert_eq!(before.keys("confirmed").await?.len(), 1);
    // A location that knows of no warehouse misses what was to be published.
    let after = wait_as(&published, 3).await?;
    assert!(located.confirm(&after).await.is_err());
    Ok(())
}

async fn letters_that_waited_for_a_topic_go_to_the_location_of_now() -> TestResult {
    let pubsub = PubSub::new()?;
    pubsub.queue("letters").await?;
    let warehouse = Store::open("memory:///w")?;
    let waiting = warehouse.below("_landfast/dead-letters");
    let published = DeadLetters::new(waiting.clone()).published_to(topic(&pubsub).await?);
    let (waits, was_published) = (wait_as(&published, 1).await?, wait_as(&published, 2).await?);
    published.confirm(&was_published).await?;
    let located = DeadLetters::new(Store::open("memory:///now")?).in_warehouse(&warehouse);
    for name in [&waits, &was_published, &waits] {
        located.confirm(name).await?;
    }
    assert_eq!(
        located.store().keys("").await?,
        [format!("confirmed/{}", waits.path())]
    );
    assert_eq!(warehouse.keys("").await?, Vec::<String>::new());
    assert_eq!(letters(&pubsub, 1).await?.len(), 1);
    // What was never to be published is missed as ever.
    let of_location = LetterName::new("t.rows", Random::seeded(9).timed_uuid(Utc::now()), 7);
    assert!(located.confirm(&of_location).await.is_err());
    Ok(())
}

async fn letters_of_a_renamed_table_are_published_from_where_they_wait() -> TestResult {
    let pubsub = PubSub::new()?;
    pubsub.queue("letters").await?;
    let faults = Faults::default();
    let store = faults.store("memory:///d", Arc::new(InMemory::new()));
    let published = DeadLetters::new(store).published_to(topic(&pubsub).await?);
    let (before, other) = (wait_as(&published, 1).await?, wait_as(&published, 2).await?);
    let delivery = DeliveryId::message("s", "1", Utc::now()).hash();
    let renamed = LetterName::new("t.renamed", before.id(), delivery);
    // A store that cannot say where letters wait decides nothing.
    faults.once(Op::List, "pending", Fault::Refuse);
    assert!(published.confirm(&renamed).await.is_err());
    for _ in 0..2 {
        published.confirm(&renamed).await?;
    }
    let sent = letters(&pubsub, 1).await?;
    assert_eq!(names(&sent), [format!("{}/0", before.path()).as_str()].into());
    assert_eq!(sent.len(), 1);
    assert_eq!(
        published.store().keys("").await?,
        [format!("pending/{}", other.path())]
    );
    Ok(())
}

/// More than the client has at one time.
async fn letters_of_one_object_are_published_in_turns() -> TestResult {
    const COUNT: usize = 1100;
    let pubsub = PubSub::new()?;
    pubsub.queue("letters").await?;
    let published = DeadLetters::new(Store::open("memory:///d")?).published_to(topic(&pubsub).await?);
    let name = wait_of(&published, 1, COUNT).await?;
    published.confirm(&name).await?;
    let sent = letters(&pubsub, COUNT).await?;
    assert_eq!((sent.len(), names(&sent).len()), (COUNT, COUNT));
    Ok(())
}
