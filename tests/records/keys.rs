//! Requests with an `Idempotency-Key`: sent again they land once, and are answered as the first was.

use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::{JSON, TABLE, landed, send};
use crate::refusals::problem;
use crate::support::lake::Lake;
use crate::support::readers::Reader;
use crate::support::server::{Server, run};
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        request_with_a_key_lands_once_over_restart_and_kill,
        copies_that_come_at_once_share_one_landing,
        key_with_another_body_is_409,
        key_with_another_body_is_409_after_a_replay,
        two_bodies_of_one_key_are_not_both_replayed,
    ]
}

async fn sent_with(server: &Server, key: &str, body: &str) -> TestResult<Value> {
    landed(send(server, "t.rows", JSON, ("idempotency-key", key), body.to_owned()).await?).await
}

async fn request_with_a_key_lands_once_over_restart_and_kill() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLE)?;
    let body = "[{\"id\":1},{\"id\":2},{\"name\":\"no id\"}]";
    let mut server = Server::serve(&config).await?;
    let first = sent_with(&server, "order-7", body).await?;
    assert_eq!((&first["rows"], &first["dead_letters"]), (&json!(2), &json!(1)));
    assert_eq!(first.get("duplicate"), None);
    let mut repeated = first.clone();
    repeated["duplicate"] = json!(true);
    // The draft of the header quotes the key.
    assert_eq!(sent_with(&server, "\"order-7\"", body).await?, repeated);
    server.kill()?;
    let mut server = Server::serve(&config).await?;
    assert_eq!(sent_with(&server, "order-7", body).await?, repeated);
    let second = sent_with(&server, "order-8", body).await?;
    assert_eq!((&second["rows"], second.get("duplicate")), (&json!(2), None));
    assert_ne!(second["snapshot_id"], first["snapshot_id"]);
    server.terminate()?;
    assert!(server.exited().await?.success());
    let metadata = lake.metadata("t.rows")?;
    assert_eq!(Reader::pyiceberg()?.count(&metadata)?, 4);
    // A letter of each key, since each brought a record that does not fit.
    assert_eq!(lake.dead_letters()?.len(), 2);
    Ok(())
}

async fn copies_that_come_at_once_share_one_landing() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::serve(&lake.config("", TABLE)?).await?;
    let copies = (0..32).map(|_| sent_with(&server, "k", "[{\"id\":1},{\"id\":2}]"));
    let answers = futures::future::try_join_all(copies).await?;
    let firsts = answers
        .iter()
        .filter(|answer| answer.get("duplicate").is_none())
        .count();
    assert_eq!(firsts, 1);
    for answer in &answers {
        assert_eq!(answer["rows"], 2);
        assert_eq!(answer["snapshot_id"], answers[0]["snapshot_id"]);
    }
    assert_eq!(Reader::pyiceberg()?.count(lake.metadata("t.rows")?)?, 2);
    Ok(())
}

async fn key_with_another_body_is_409() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::serve(&lake.config("", TABLE)?).await?;
    sent_with(&server, "k", "{\"id\":1}").await?;
    let other = send(&server, "t.rows", JSON, ("idempotency-key", "k"), "{\"id\":2}").await?;
    let document = problem(other, 409, "already_exists").await?;
    let detail = document["detail"].as_str().ok_or("a detail")?;
    assert!(detail.contains("Idempotency-Key"), "{document}");
    assert_eq!(Reader::pyiceberg()?.count(lake.metadata("t.rows")?)?, 1);
    Ok(())
}

async fn key_with_another_body_is_409_after_a_replay() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", "tables: { t.rows: { from: [{ subscription: rows }] } }")?;
    let mut server = Server::serve(&config).await?;
    // Nothing tells the columns yet, so the whole request is a letter.
    let body = "[{\"id\":null},{\"id\":null}]";
    let answer = sent_with(&server, "k", body).await?;
    assert_eq!((&answer["rows"], &answer["dead_letters"]), (&json!(0), &json!(1)));
    landed(send(&server, "t.rows", JSON, ("", ""), "{\"id\":1}").await?).await?;
    let (code, out, err) = run(["replay", "--config", &config.display().to_string()])?;
    assert_eq!(code, Some(0), "{out}{err}");
    server.kill()?;
    let server = Server::serve(&config).await?;
    let again = sent_with(&server, "k", body).await?;
    assert_eq!((&again["rows"], &again["dead_letters"]), (&json!(2), &json!(0)));
    assert_eq!(again["duplicate"], json!(true));
    assert!(again["snapshot_id"].is_string(), "{again}");
    let other = send(&server, "t.rows", JSON, ("idempotency-key", "k"), "{\"id\":2}").await?;
    problem(other, 409, "already_exists").await?;
    assert_eq!(Reader::pyiceberg()?.count(lake.metadata("t.rows")?)?, 3);
    Ok(())
}

async fn two_bodies_of_one_key_are_not_both_replayed() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", "tables: { t.rows: { from: [{ subscription: rows }] } }")?;
    let mut server = Server::serve(&config).await?;
    for body in ["{\"id\":null}", "{\"id\":null,\"more\":null}"] {
        // There is no table yet that could know the key.
        assert_eq!(sent_with(&server, "k", body).await?["dead_letters"], json!(1));
    }
    landed(send(&server, "t.rows", JSON, ("", ""), "{\"id\":1}").await?).await?;
    server.kill()?;
    for _ in 0..2 {
        let (code, out, err) = run(["replay", "--config", &config.display().to_string()])?;
        assert_eq!(code, Some(1), "{out}{err}");
        assert!(
            err.contains("Idempotency-Key was used with another body"),
            "{err}"
        );
        let places = [lake.letters_in("confirmed")?, lake.letters_in("replayed")?];
        assert_eq!(places.map(|letters| letters.len()), [1, 1]);
        assert_eq!(Reader::pyiceberg()?.count(lake.metadata("t.rows")?)?, 2);
    }
    Ok(())
}
