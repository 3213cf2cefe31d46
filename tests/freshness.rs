//! How old rows are when they are committed, as the metric tells: of what landed alone, and once.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use futures::StreamExt;
use http_body_util::StreamBody;
use hyper::body::Frame;
use libtest_mimic::Trial;

use crate::support::lake::Lake;
use crate::support::push::Push;
use crate::support::server::Server;
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        freshness_of_a_push_is_from_its_publish_time,
        freshness_of_rows_sent_directly_is_from_their_arrival,
    ]
}

const TABLES: &str = "tables: { t.rows: { from: [{ subscription: rows }], schema: [{ name: id, type: long }], batch: { \
                      commit_interval: 0s } } }";

/// How many deliveries were counted, and how old they were together, in seconds.
async fn counted(server: &Server) -> TestResult<(f64, f64)> {
    let count = server.metric("landfast_freshness_seconds_count").await?;
    Ok((count, server.metric("landfast_freshness_seconds_sum").await?))
}

async fn freshness_of_a_push_is_from_its_publish_time() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::serve(&lake.config("", TABLES)?).await?;
    let pusher = server.pusher();
    let old = Utc::now() - TimeDelta::seconds(1_000);
    let push = |id: &str, data: &str| Push::new("rows", id, data).published_at(old);
    assert_eq!(pusher.push(&push("1", "{\"id\":1}")).await, 204);
    let (count, sum) = counted(&server).await?;
    assert_eq!(count, 1.0);
    assert!((1_000.0..1_060.0).contains(&sum), "{sum}");
    // A copy has landed before, a letter has no row, and what goes nowhere is a letter.
    let others = [
        push("1", "{\"id\":1}"),
        push("2", "{\"id\":\"x\"}"),
        Push::new("nowhere", 3, "{}").published_at(old),
        push("4", "[]"),
    ];
    assert_eq!(pusher.push_all(&others, 1).await, [204; 4]);
    assert_eq!(counted(&server).await?, (1.0, sum));
    // What lands beside a letter counts, once; a publisher's clock ahead of ours is no negative age.
    let mixed = push("5", "{\"id\":5}\n{\"id\":\"x\"}");
    assert_eq!(pusher.push(&mixed).await, 204);
    let (count, both) = counted(&server).await?;
    assert_eq!(count, 2.0);
    assert!((1_000.0..1_060.0).contains(&(both - sum)), "{both}");
    let ahead = Utc::now() + TimeDelta::seconds(1_000);
    let ahead = Push::new("rows", 6, "{\"id\":6}").published_at(ahead);
    assert_eq!(pusher.push(&ahead).await, 204);
    assert_eq!(counted(&server).await?, (3.0, both));
    Ok(())
}

async fn freshness_of_rows_sent_directly_is_from_their_arrival() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::serve(&lake.config("", TABLES)?).await?;
    // Half of the body comes a while after the first.
    let (let_go, go) = tokio::sync::oneshot::channel::<()>();
    let second = futures::stream::once(go).map(|_gone| "{\"id\":2}\n");
    let halves = futures::stream::iter(["{\"id\":1}\n"]).chain(second);
    let frames = halves.map(|text| Ok::<_, Infallible>(Frame::data(Bytes::from_static(text.as_bytes()))));
    let body = reqwest::Body::wrap(StreamBody::new(frames));
    let path = "/v1/tables/t.rows/records";
    let later = async {
        // Its arrival is noted.
        server.metric_is("landfast_held_requests", 1.0).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let _sent = let_go.send(());
        TestResult::Ok(())
    };
    let pusher = server.pusher();
    let (answer, later) = tokio::join!(pusher.post(path, "application/x-ndjson", body), later);
    later?;
    assert_eq!(answer?.status(), 200);
    let (count, sum) = counted(&server).await?;
    assert_eq!(count, 1.0);
    assert!((2.0..60.0).contains(&sum), "{sum}");
    Ok(())
}
