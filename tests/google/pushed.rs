//! Signed pushes as Pub/Sub sends them, window, backoff, ordering and copies, to a process that is killed and one that is
//! full.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;

use bytes::Bytes;
use chrono::Utc;
use http_body_util::Full;
use hyper::Request;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use libtest_mimic::Trial;
use serde_json::json;
use tokio::net::TcpStream;

use crate::support::lake::Lake;
use crate::support::push::{Push, Pusher};
use crate::support::seed::seeded;
use crate::support::server::{Server, landfast};
use crate::support::signing::{ACCOUNT, AUDIENCE, KeyServer, SigningKey, claims};
use crate::support::subscription::deliver;
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        messages_of_a_subscription_land_once_through_a_kill_and_a_crowd,
        unwrapped_push_with_all_attributes_that_there_may_be_lands,
    ]
}

const MESSAGES: i64 = 400;

/// Fewer than the window grows to.
const HELD: usize = 24;

async fn serve(config: &Path, keys: &KeyServer) -> TestResult<Server> {
    let mut command = landfast(["serve", "--config"]);
    command.arg(config).env("PUSH_KEYS_EMULATOR_HOST", keys.host());
    Server::start(command).await
}

async fn messages_of_a_subscription_land_once_through_a_kill_and_a_crowd() -> TestResult {
    let key = SigningKey::new("k1")?;
    let keys = KeyServer::start(&[&key]).await?;
    let lake = Lake::new()?;
    // Whoever pushes knows one address, also after a kill.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let config = lake.config(
        &format!("max_in_flight_requests: {HELD}"),
        "tables: { t.rows: { from: [{ subscription: rows }], schema: [{ name: id, type: long }], batch: { commit_interval: 50ms } } }",
    )?;
    let auth = format!("push_auth: {{ audience: \"{AUDIENCE}\", service_accounts: [{ACCOUNT}] }}");
    let text = std::fs::read_to_string(config)?
        .replace("push_auth: off", &auth)
        .replace("127.0.0.1:0", &address.to_string());
    let config = lake.write_config(&text)?;
    let mut server = serve(&config, &keys).await?;
    let pusher = Pusher::new(&format!("http://{address}")).bearing(&key.token(&claims(Utc::now())));
    let pushes = (0..MESSAGES)
        .map(|id| Push::json("rows", id, &json!({ "id": id })))
        .collect();
    let mut random = seeded();
    let delivered = deliver(&pusher, pushes, &mut random, async |acknowledged| {
        if acknowledged == 100 {
            server.kill()?;
            server = serve(&config, &keys).await?;
        }
        Ok(())
    })
    .await?;
    assert_eq!(delivered.acknowledged, usize::try_from(MESSAGES)?);
    assert!(
        delivered.widest_window > HELD && delivered.most_attempts > 1,
        "{delivered:?}"
    );
    // The kill is one, and the crowd another.
    assert!(delivered.nacks > 0 && delivered.setbacks > 1, "{delivered:?}");
    assert!(delivered.copies > 0, "{delivered:?}");
    let (ids, rows) = lake.ids("t.rows", "id")?;
    assert_eq!(
        (ids, rows),
        ((0..MESSAGES).collect::<BTreeSet<_>>(), usize::try_from(MESSAGES)?)
    );
    server.terminate()?;
    assert!(server.exited().await?.success());
    Ok(())
}

/// Without a wrapper each attribute is a header.
async fn unwrapped_push_with_all_attributes_that_there_may_be_lands() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::serve(&lake.config(
        "",
        "tables: { t.rows: { from: [{ subscription: rows }], schema: [{ name: id, type: long }], batch: { commit_interval: 0s } } }",
    )?)
    .await?;
    for id in [1, 2] {
        let mut push = Request::post(if id == 1 { "/" } else { server.url() })
            .header("host", "landfast")
            .header("content-type", "application/octet-stream")
            .header(
                "x-goog-pubsub-subscription-name",
                "projects/p-test/subscriptions/rows",
            )
            .header("x-goog-pubsub-message-id", id)
            .header("x-goog-pubsub-publish-time", Utc::now().to_rfc3339());
        for number in 0..100 {
            push = push.header(format!("{:a>256}", format!("-{number}")), "v".repeat(1024));
        }
        let push = push.body(Full::new(Bytes::from(json!({ "id": id }).to_string())))?;
        let address = server.url().trim_start_matches("http://").to_owned();
        let stream = TokioIo::new(TcpStream::connect(address).await?);
        let status = if id == 1 {
            let (mut sender, connection) = http1::handshake(stream).await?;
            tokio::spawn(connection);
            sender.send_request(push).await?.status()
        } else {
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
            tokio::spawn(connection);
            sender.send_request(push).await?.status()
        };
        assert_eq!(status, 204);
    }
    assert_eq!(lake.ids("t.rows", "id")?, ([1, 2].into(), 2));
    Ok(())
}
