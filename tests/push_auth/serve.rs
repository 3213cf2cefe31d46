//! The real process: what it answers, counts and says, and that nothing of a refused push lands.

use std::path::Path;
use std::time::Duration;

use chrono::Utc;
use libtest_mimic::Trial;
use serde_json::json;

use super::tokens;
use crate::refusals::problem;
use crate::support::lake::Lake;
use crate::support::push::Push;
use crate::support::server::{Server, landfast};
use crate::support::signing::{ACCOUNT, AUDIENCE, KeyServer, SigningKey, claims};
use crate::support::{TestResult, trials, wait_for};

const ROWS: &str = "tables: { t.rows: { from: [{ subscription: rows }], schema: [{ name: id, type: long }], \
                    batch: { commit_interval: 0s } } }";

pub fn tests() -> Vec<Trial> {
    trials![
        only_what_is_signed_as_configured_lands,
        first_pushes_at_once_and_those_of_a_new_key_land,
        nobody_is_let_in_before_there_are_keys,
        keys_of_another_machine_are_refused_at_the_start,
        system_that_trusts_nobody_is_refused_at_the_start,
    ]
}

/// A configuration that wants signed pushes.
fn signed(lake: &Lake) -> TestResult<std::path::PathBuf> {
    let auth = format!("push_auth: {{ audience: \"{AUDIENCE}\", service_accounts: [{ACCOUNT}] }}");
    let text = std::fs::read_to_string(lake.config("", ROWS)?)?;
    lake.write_config(&text.replace("push_auth: off", &auth))
}

async fn serve(config: &Path, keys: &KeyServer) -> TestResult<Server> {
    let mut command = landfast(["serve", "--config"]);
    command.arg(config).env("PUSH_KEYS_EMULATOR_HOST", keys.host());
    Server::start(command).await
}

fn row(id: i64) -> Push {
    Push::json("rows", id, &json!({ "id": id }))
}

async fn only_what_is_signed_as_configured_lands() -> TestResult {
    let key = SigningKey::new("k1")?;
    let keys = KeyServer::start(&[&key]).await?;
    let lake = Lake::new()?;
    let server = serve(&signed(&lake)?, &keys).await?;
    let pusher = server.pusher();
    server
        .logged(&["push_auth is on", AUDIENCE, ACCOUNT, "an emulator signs pushes"])
        .await?;
    let (unproven, others) = (
        tokens::unproven(&key, Utc::now())?,
        tokens::others(&key, Utc::now()),
    );
    for (wrong, token) in &unproven {
        assert_eq!(pusher.bearing(token).push(&row(1)).await, 401, "{wrong}");
    }
    for (wrong, token) in &others {
        assert_eq!(pusher.bearing(token).push(&row(1)).await, 403, "{wrong}");
    }
    let unsigned = pusher
        .post("/", "application/json", row(1).body().to_string())
        .await?;
    assert_eq!(unsigned.headers()["www-authenticate"], "Bearer");
    assert!(!unsigned.headers().contains_key("connection"));
    problem(unsigned, 401, "unauthenticated").await?;
    // A body that is not read ends its connection.
    let long = pusher.post("/", "application/json", vec![b' '; 1 << 20]).await?;
    assert_eq!(long.headers()["connection"], "close");
    problem(long, 401, "unauthenticated").await?;
    let (_, metrics) = pusher.get("/metrics").await?;
    let counted = |reason: &str, count: usize| {
        let line = format!("landfast_refused_requests_total{{reason=\"{reason}\"}} {count}\n");
        assert!(metrics.contains(&line), "{reason} {count}: {metrics}");
    };
    counted("unauthenticated", unproven.len() + 2);
    counted("forbidden", others.len());
    assert!(!lake.table("t.rows").exists());

    let token = key.token(&claims(Utc::now()));
    assert_eq!(pusher.bearing(&token).push(&row(2)).await, 204);
    // The other calls have their own rule.
    let path = "/v1/tables/t.rows/records";
    let sent = pusher
        .post(path, "application/json", json!({ "id": 3 }).to_string())
        .await?;
    assert_eq!(sent.status().as_u16(), 200);
    assert_eq!(lake.ids("t.rows", "id")?, ([2, 3].into(), 2));
    assert_eq!(lake.dead_letters()?, Vec::<serde_json::Value>::new());
    let log = server.log();
    for (_, token) in unproven.iter().chain(&others).chain([&("", token)]) {
        let parts = token.split('.').filter(|part| part.len() > 8);
        for part in parts.filter(|part| !part.starts_with("SIGNATURE")) {
            assert!(!log.contains(part), "{part}");
        }
    }
    assert!(log.contains("A request was refused."), "{log}");
    assert!(keys.asked() <= 3, "{}", keys.asked());
    Ok(())
}

async fn first_pushes_at_once_and_those_of_a_new_key_land() -> TestResult {
    let (old, new) = (SigningKey::new("old")?, SigningKey::new("new")?);
    let keys = KeyServer::start(&[&old]).await?;
    let lake = Lake::new()?;
    let server = serve(&signed(&lake)?, &keys).await?;
    let rows: Vec<Push> = (1..=50).map(row).collect();
    let pusher = server.pusher().bearing(&old.token(&claims(Utc::now())));
    assert_eq!(pusher.push_all(&rows, 50).await, [204; 50]);
    assert_eq!(keys.asked(), 1);
    keys.publish(&[&new], "max-age=3600");
    let pusher = server.pusher().bearing(&new.token(&claims(Utc::now())));
    wait_for("the new key to be known", Duration::from_secs(20), async || {
        (pusher.push(&row(51)).await == 204).then_some(())
    })
    .await?;
    let rows: Vec<Push> = (52..=60).map(row).collect();
    assert_eq!(pusher.push_all(&rows, 9).await, [204; 9]);
    assert_eq!(keys.asked(), 2);
    assert_eq!(lake.ids("t.rows", "id")?, ((1..=60).collect(), 60));
    Ok(())
}

async fn nobody_is_let_in_before_there_are_keys() -> TestResult {
    let key = SigningKey::new("k1")?;
    let keys = KeyServer::start(&[&key]).await?;
    keys.fail();
    let lake = Lake::new()?;
    let server = serve(&signed(&lake)?, &keys).await?;
    assert_eq!(keys.asked(), 0, "nothing is asked before the first push");
    let token = key.token(&claims(Utc::now()));
    let pusher = server.pusher().bearing(&token);
    let refused = pusher
        .post("/", "application/json", row(1).body().to_string())
        .await?;
    let document = problem(refused, 503, "unavailable").await?;
    assert!(
        document["detail"]
            .as_str()
            .is_some_and(|text| text.contains("Google's keys"))
    );
    let long = pusher.post("/", "application/json", vec![b' '; 1 << 20]).await?;
    assert_eq!(long.headers()["connection"], "close");
    problem(long, 503, "unavailable").await?;
    assert_eq!(server.pusher().push(&row(1)).await, 401);
    server
        .logged(&["Google gives no keys for signed pushes."])
        .await?;
    assert!(!lake.table("t.rows").exists());
    keys.publish(&[&key], "max-age=3600");
    wait_for(
        "keys to be asked for again",
        Duration::from_secs(60),
        async || (pusher.push(&row(1)).await == 204).then_some(()),
    )
    .await?;
    assert_eq!(keys.asked(), 2);
    drop(keys);
    let rows: Vec<Push> = (2..=20).map(row).collect();
    assert_eq!(pusher.push_all(&rows, 5).await, [204; 19]);
    assert_eq!(lake.ids("t.rows", "id")?, ((1..=20).collect(), 20));
    Ok(())
}

async fn keys_of_another_machine_are_refused_at_the_start() -> TestResult {
    let lake = Lake::new()?;
    let said = ends(&lake, 2, &[("PUSH_KEYS_EMULATOR_HOST", "192.0.2.1:80")]).await?;
    assert!(
        said.contains("PUSH_KEYS_EMULATOR_HOST") && said.contains("Google's"),
        "{said}"
    );
    Ok(())
}

async fn system_that_trusts_nobody_is_refused_at_the_start() -> TestResult {
    let lake = Lake::new()?;
    let none = lake.path().join("none").display().to_string();
    let said = ends(
        &lake,
        1,
        &[("SSL_CERT_FILE", "/dev/null"), ("SSL_CERT_DIR", &none)],
    )
    .await?;
    assert!(said.contains("no certificate authorities"), "{said}");
    Ok(())
}

/// Starts it with these variables; it must end with the status. Gives what it says.
async fn ends(lake: &Lake, status: i32, variables: &[(&str, &str)]) -> TestResult<String> {
    let mut command = landfast(["serve", "--config"]);
    command.arg(signed(lake)?).envs(variables.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{said}");
    Ok(said)
}
