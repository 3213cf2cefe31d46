//! `dead_letters: {topic: …}`: the real binary before Google's emulator, and what a subscription of the topic has.

mod faults;
mod returned;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::lake::{Lake, files};
use crate::support::pubsub::{Message, PubSub};
use crate::support::push::Push;
use crate::support::server::{Server, landfast, run};
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    let tests = trials![
        letters_are_messages_with_their_bytes_and_reasons,
        letters_of_pulled_messages_and_of_loads_are_published,
        letter_too_large_for_a_message_is_kept_and_replayed,
        short_name_of_a_topic_needs_a_project,
    ];
    [tests, faults::tests(), returned::tests()]
        .into_iter()
        .flatten()
        .collect()
}

const LONG: Duration = Duration::from_secs(180);

const ROWS: &str = "tables: { t.rows: { from: [{ subscription: rows }], schema: [{ name: id, type: long, required: true }] } }";

/// Writes a configuration whose dead letters go to the topic `letters`; `server` are more of its keys.
fn config(lake: &Lake, pubsub: &PubSub, server: &str, rest: &str) -> TestResult<PathBuf> {
    let (dir, topic) = (lake.path().display(), pubsub.full_topic("letters"));
    lake.write_config(&format!(
        "warehouse: \"file://{dir}/warehouse\"\ncatalog: {{ type: storage }}\ndead_letters: {{ topic: {topic} }}\nserver: {{ \
         listen: \"127.0.0.1:0\", push_auth: off, {server} }}\n{rest}"
    ))
}

/// Starts `serve` with its Pub/Sub at an address.
async fn serve(host: &str, config: &std::path::Path) -> TestResult<Server> {
    let mut command = landfast(["serve", "--config"]);
    command.arg(config).env("PUBSUB_EMULATOR_HOST", host);
    Server::start(command).await
}

/// Waits until the subscription `letters` has so many messages.
async fn letters(pubsub: &PubSub, count: usize) -> TestResult<Vec<Message>> {
    wait_for(&format!("{count} letters"), LONG, async || {
        sleep(Duration::from_millis(100)).await;
        let messages = pubsub.waiting("letters").await.ok()?;
        (messages.len() >= count).then_some(messages)
    })
    .await
}

/// What waits under the warehouse, by its folder.
fn waiting(lake: &Lake, place: &str) -> TestResult<Vec<PathBuf>> {
    files(&lake.path().join("warehouse/_landfast/dead-letters").join(place))
}

fn names(letters: &[Message]) -> BTreeSet<&str> {
    let names = letters
        .iter()
        .map(|letter| letter.attributes["landfast.letter"].as_str());
    names.collect()
}

async fn letters_are_messages_with_their_bytes_and_reasons() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    pubsub.queue("letters").await?;
    let server = serve(pubsub.host(), &config(&lake, &pubsub, "", ROWS)?).await?;
    let hard = b"{\"id\":\"\xff\x00\"}".to_vec();
    let mixed = [b"{\"id\":1}\n".to_vec(), hard.clone(), b"\n{\"id\":2}".to_vec()].concat();
    let push = Push::new("rows", "m-1", mixed)
        .published_at("2026-11-01T02:03:04.567Z".parse()?)
        .attribute("kind", "order");
    let nobodys = Push::new("nobody", "m-2", b"\x01\x02as it is");
    assert_eq!(
        server
            .pusher()
            .push_all(&[push.clone(), nobodys.clone()], 2)
            .await,
        [204; 2]
    );
    // Copies of what is known leave no second letter; of what no table knows one under the same name.
    assert_eq!(server.pusher().push_all(&[push, nobodys], 2).await, [204; 2]);
    let letters = letters(&pubsub, 3).await?;
    assert_eq!((letters.len(), names(&letters).len()), (3, 2));
    let of = |kind: &str| {
        letters
            .iter()
            .find(|letter| letter.attributes["landfast.reason.kind"] == kind)
    };
    let record = of("not_utf8")
        .or(of("syntax"))
        .or(of("wrong_type"))
        .ok_or("the record's letter")?;
    assert_eq!(record.data, hard);
    let mut said = record.attributes.clone();
    let name = said.remove("landfast.letter").ok_or("a name")?;
    assert!(
        name.starts_with("t.rows/2") && name.ends_with(".ndjson/1"),
        "{name}"
    );
    let words = said.remove("landfast.reason.message").ok_or("words")?;
    assert!(!words.is_empty());
    said.remove("landfast.reason.path");
    said.remove("landfast.reason.kind");
    let expected = [
        ("landfast.id", "projects/p-test/subscriptions/rows/m-1/1"),
        ("landfast.table", "t.rows"),
        ("landfast.source", "projects/p-test/subscriptions/rows"),
        ("landfast.delivery_id", "projects/p-test/subscriptions/rows/m-1"),
        ("landfast.position", "1"),
        ("landfast.published_at", "2026-11-01T02:03:04.567Z"),
        ("landfast.version", env!("CARGO_PKG_VERSION")),
        ("CloudPubSubDeadLetterSourceDeliveryCount", "1"),
        ("CloudPubSubDeadLetterSourceSubscription", "rows"),
        ("CloudPubSubDeadLetterSourceSubscriptionProject", "p-test"),
        (
            "CloudPubSubDeadLetterSourceTopicPublishTime",
            "2026-11-01T02:03:04.567Z",
        ),
        ("kind", "order"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(said, BTreeMap::from(expected));
    let whole = of("no_route").ok_or("the whole letter")?;
    assert_eq!(whole.data, b"\x01\x02as it is");
    assert!(whole.attributes["landfast.letter"].ends_with("/whole"));
    assert!(!whole.attributes.contains_key("landfast.table"));
    // Nothing is kept of what was published.
    for place in ["pending", "confirmed", "replayed"] {
        assert_eq!(waiting(&lake, place)?, Vec::<PathBuf>::new(), "{place}");
    }
    assert!(!lake.path().join("dead-letters").exists());
    server
        .logged(&["Records are dead-lettered.", &pubsub.full_topic("letters")])
        .await?;
    assert_eq!(lake.ids("t.rows", "id")?, ([1, 2].into(), 2));
    Ok(())
}

async fn letters_of_pulled_messages_and_of_loads_are_published() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    for queue in ["letters", "rows"] {
        pubsub.queue(queue).await?;
    }
    let file = config(&lake, &pubsub, "", ROWS)?;
    pubsub
        .publish(
            "rows",
            (0..40).map(|id| match id % 2 {
                0 => json!({ "id": id }).to_string(),
                _ => format!("bad {id}"),
            }),
        )
        .await?;
    let worker = pubsub.worker(&file).await?;
    let letters_pulled = letters(&pubsub, 20).await?;
    let data: BTreeSet<Vec<u8>> = letters_pulled.iter().map(|letter| letter.data.clone()).collect();
    let expected = (1..40).step_by(2).map(|id| format!("bad {id}").into_bytes());
    assert_eq!((letters_pulled.len(), data), (20, expected.collect()));
    let full = pubsub.full("rows");
    assert!(
        letters_pulled
            .iter()
            .all(|letter| letter.attributes["landfast.source"] == full)
    );
    drop(worker);
    // A file: its letters have no names of Google's, for they came in no message.
    let rows = lake.path().join("more.ndjson");
    fs::write(&rows, "{\"id\":100}\nworse\n")?;
    let mut load = landfast(["load", "--table", "t.rows", "--config"]);
    load.arg(&file)
        .arg(&rows)
        .env("PUBSUB_EMULATOR_HOST", pubsub.host());
    assert_eq!(ended(load)?.0, Some(3));
    let all = letters(&pubsub, 21).await?;
    let of_file = all
        .iter()
        .find(|letter| letter.data == b"worse")
        .ok_or("the file's letter")?;
    assert!(
        of_file
            .attributes
            .keys()
            .all(|name| name.starts_with("landfast."))
    );
    assert_eq!(of_file.attributes["landfast.position"], "1");
    assert_eq!(waiting(&lake, "pending")?, Vec::<PathBuf>::new());
    Ok(())
}

/// Runs a command to its end; gives its exit code and what it said.
fn ended(mut command: Command) -> TestResult<(Option<i32>, String)> {
    let output = command.output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&text).into_owned()))
}

async fn letter_too_large_for_a_message_is_kept_and_replayed() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    pubsub.queue("letters").await?;
    let file = config(&lake, &pubsub, "", ROWS)?;
    let server = serve(pubsub.host(), &file).await?;
    let large = format!("{{\"id\":7,\"s\":\"{}\"}}", "x".repeat(9_800_000));
    let bad = large.replacen('7', "\"seven\"", 1);
    let body = format!("{{\"id\":1}}\n{bad}\n{{\"id\":\"small\"}}\n");
    let answer = server
        .pusher()
        .post("/v1/tables/t.rows/records", "application/x-ndjson", body)
        .await?;
    assert_eq!(answer.status(), 200);
    let letters = letters(&pubsub, 2).await?;
    let of = |position: &str| {
        letters
            .iter()
            .find(|letter| letter.attributes["landfast.position"] == position)
    };
    let (told, small) = (of("1").ok_or("the large one")?, of("2").ok_or("the small one")?);
    assert_eq!(small.data, b"{\"id\":\"small\"}");
    assert!(told.data.is_empty());
    let kept = waiting(&lake, "confirmed")?;
    let [kept] = kept.as_slice() else {
        return Err(format!("one object: {kept:?}").into());
    };
    assert_eq!(
        told.attributes["landfast.location"],
        format!("file://{}", kept.display())
    );
    let lines = fs::read_to_string(kept)?;
    assert_eq!(lines.lines().count(), 1);
    let line: Value = serde_json::from_str(&lines)?;
    assert_eq!(line["position"], json!(1));
    server.metric_is("landfast_dead_letters_cut_total", 1.0).await?;
    server.logged(&["do not fit into messages"]).await?;
    drop(server);
    // Mended, it is replayed, with a word about the others.
    let mended =
        fs::read_to_string(kept)?.replace(&line["raw"].to_string(), &format!("\"{}\"", base64(&large)));
    fs::write(kept, mended)?;
    let mut replay = landfast(["replay", "--config"]);
    replay.arg(&file).env("PUBSUB_EMULATOR_HOST", pubsub.host());
    let (code, said) = ended(replay)?;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("make a subscription of the topic"), "{said}");
    assert_eq!(lake.ids("t.rows", "id")?, ([1, 7].into(), 2));
    assert_eq!(waiting(&lake, "confirmed")?, Vec::<PathBuf>::new());
    Ok(())
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

async fn short_name_of_a_topic_needs_a_project() -> TestResult {
    let lake = Lake::new()?;
    let dir = lake.path().display();
    let file = lake.write_config(&format!(
        "warehouse: \"file://{dir}/warehouse\"\ncatalog: {{ type: storage }}\ndead_letters: {{ topic: letters }}\nserver: {{ \
         listen: \"127.0.0.1:0\", push_auth: off }}\n{ROWS}"
    ))?;
    let mut command = landfast(["serve", "--config"]);
    command
        .arg(&file)
        .env_remove("GOOGLE_CLOUD_PROJECT")
        .env("PUBSUB_EMULATOR_HOST", "127.0.0.1:9");
    let (code, said) = ended(command)?;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("GOOGLE_CLOUD_PROJECT"), "{said}");
    // Whether a file is right does not depend on where it is looked at.
    let path = file.display().to_string();
    assert_eq!(run(["config", "validate", "--config", &path])?.0, Some(0));
    Ok(())
}
