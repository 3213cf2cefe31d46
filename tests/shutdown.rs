//! SIGTERM and SIGINT: what was accepted is answered, what was answered is in the table, and the exit is in time.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use libtest_mimic::Trial;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::support::lake::Lake;
use crate::support::push::Push;
use crate::support::readers::Reader;
use crate::support::server::Server;
use crate::support::{TestResult, note, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        held_pushes_land_at_once_on_sigterm,
        sample_of_a_new_table_lands_on_sigint,
        load_is_answered_or_refused_while_stopping,
        requests_that_arrive_while_stopping_are_refused,
        client_that_never_finishes_a_head_is_no_failure,
    ]
}

const SLOW: &str = "tables: { t.rows: { from: [{ subscription: rows }], schema: [{ name: id, type: long }], batch: { \
                    commit_interval: 20s } } }";

async fn held_pushes_land_at_once_on_sigterm() -> TestResult {
    let lake = Lake::new()?;
    let mut server = Server::serve(&lake.config("", SLOW)?).await?;
    let pusher = server.pusher();
    assert_eq!(pusher.push(&Push::json("rows", 0, &json!({"id": 0}))).await, 204);
    let pushes: Vec<_> = (1..=50)
        .map(|id| Push::json("rows", id, &json!({"id": id})))
        .collect();
    let stop = async {
        server.metric_is("landfast_held_requests", 50.0).await?;
        // What is held of a push is its payload alone once it is read and handed over: nine of 8 bytes, the rest of 9.
        server.metric_is("landfast_held_bytes", 441.0).await?;
        server.terminate()?;
        TestResult::Ok(Instant::now())
    };
    let (statuses, stopped) = tokio::join!(pusher.push_all(&pushes, 50), stop);
    let stopped = stopped?;
    assert_eq!(statuses, [204; 50]);
    assert!(server.exited().await?.success());
    assert!(
        stopped.elapsed() < Duration::from_secs(5),
        "{:?}",
        stopped.elapsed()
    );
    assert_eq!(lake.ids("t.rows", "id")?, ((0..=50).collect(), 51));
    // The hint is owed to other engines before the exit.
    assert_eq!(Reader::duckdb()?.count(lake.table("t.rows"))?, 51);
    Ok(())
}

async fn sample_of_a_new_table_lands_on_sigint() -> TestResult {
    let lake = Lake::new()?;
    let mut server = Server::dev(lake.path()).await?;
    let pusher = server.pusher();
    for attempt in 0..10 {
        let name = format!("new{attempt}");
        let pushes: Vec<_> = (0..5)
            .map(|id| Push::json(&name, id, &json!({"id": id})))
            .collect();
        let stop = async {
            let held = wait_for("the pushes to be held", Duration::from_secs(2), async || {
                // Eight bytes each, once they are read and handed over.
                let requests = server.metric("landfast_held_requests").await.ok()?;
                let bytes = server.metric("landfast_held_bytes").await.ok()?;
                ((requests, bytes) == (5.0, 40.0)).then_some(())
            });
            held.await.is_ok() && server.interrupt().is_ok()
        };
        let (statuses, is_told) = tokio::join!(pusher.push_all(&pushes, 5), stop);
        assert_eq!(statuses, [204; 5]);
        if is_told {
            assert!(server.exited().await?.success());
            assert_eq!(lake.ids(&format!("landfast.{name}"), "id")?.1, 5);
            return Ok(());
        }
        // Their second was over before they were seen together.
    }
    Err("they were never held together".into())
}

/// A client that takes up a connection as it is closed may wait for an answer without one.
async fn unanswered(gone: &mut watch::Receiver<bool>) {
    let _gone = gone.wait_for(|gone| *gone).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
}

async fn load_is_answered_or_refused_while_stopping() -> TestResult {
    for signal in ["TERM", "INT"] {
        let lake = Lake::new()?;
        let mut server = Server::dev(lake.path()).await?;
        let (next, stopping) = (AtomicI64::new(0), AtomicBool::new(false));
        let (pusher, gone) = (server.pusher(), watch::Sender::new(false));
        let client = || async {
            let mut gone = gone.subscribe();
            let mut landed = BTreeSet::new();
            let mut refused = 0;
            loop {
                let id = next.fetch_add(1, Ordering::Relaxed);
                let push = Push::json("load", id, &json!({"id": id, "name": "x"}));
                let answer = tokio::select! {
                    answer = pusher.post("/", "application/json", push.body().to_string()) => answer,
                    () = unanswered(&mut gone) => return Ok((landed, refused, false)),
                };
                match answer.map(|answer| answer.status().as_u16()) {
                    Ok(204) => drop(landed.insert(id)),
                    Ok(503) if stopping.load(Ordering::Acquire) => refused += 1,
                    Ok(status) => return Err(format!("an answer of {status}")),
                    // The listener is gone, or an idle connection was closed while the request was on its way.
                    Err(error) if stopping.load(Ordering::Acquire) => {
                        return Ok((landed, refused, error.is_connect()));
                    }
                    Err(error) => return Err(format!("no answer before the signal: {error:?}")),
                }
            }
        };
        let stop = async {
            wait_for("the load to land", Duration::from_secs(60), async || {
                (server.metric("iceberg_records_written_total").await.ok()? > 100.0).then_some(())
            })
            .await?;
            stopping.store(true, Ordering::Release);
            if signal == "TERM" {
                server.terminate()?
            } else {
                server.interrupt()?
            }
            let stopped = Instant::now();
            assert!(server.exited().await?.success());
            let took = stopped.elapsed();
            gone.send_replace(true);
            TestResult::Ok(took)
        };
        let (clients, took) = tokio::join!(join_all((0..32).map(|_| client())), stop);
        let took = took?;
        assert!(took < Duration::from_secs(10));
        let (mut landed, mut refused, mut cut) = (BTreeSet::new(), 0, 0);
        for client in clients {
            let (ids, no, connect) = client?;
            landed.extend(ids);
            refused += no;
            cut += usize::from(!connect);
        }
        let (ids, rows) = lake.ids("landfast.load", "id")?;
        note(&format!(
            "SIG{signal}: {took:?}, {} answered, {refused} refused, {cut} cut",
            landed.len()
        ));
        assert!(landed.is_subset(&ids), "{:?}", landed.difference(&ids));
        // What was accepted got its answer: a row without one is of a push that was never answered.
        assert_eq!(
            (ids.len(), rows),
            (landed.len(), landed.len()),
            "rows of pushes without an answer"
        );
    }
    Ok(())
}

async fn requests_that_arrive_while_stopping_are_refused() -> TestResult {
    let lake = Lake::new()?;
    let mut server = Server::serve(&lake.config("", SLOW)?).await?;
    let body = Push::json("rows", 1, &json!({"id": 1})).body().to_string();
    let push = format!(
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let half_body = push.len() - 10;
    let mut open = Vec::new();
    // The head arrives late, the body arrives late, readiness is asked late.
    let late = [
        (push.clone(), 20),
        (push, half_body),
        ("GET /health/ready HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 20),
    ];
    for (text, cut) in late {
        let mut stream = TcpStream::connect(server.url().trim_start_matches("http://")).await?;
        stream.write_all(&text.as_bytes()[..cut]).await?;
        open.push((stream, text.as_bytes()[cut..].to_vec()));
    }
    server.metric_is("landfast_held_requests", 1.0).await?;
    assert_eq!(server.pusher().get("/health/ready").await?.0, 200);
    server.terminate()?;
    server.logged(&["Stopping"]).await?;
    let mut statuses = Vec::new();
    for (mut stream, rest) in open {
        stream.write_all(&rest).await?;
        let mut answer = String::new();
        tokio::time::timeout(Duration::from_secs(60), stream.read_to_string(&mut answer)).await??;
        statuses.push(answer.get(9..12).unwrap_or_default().to_owned());
    }
    assert!(server.exited().await?.success());
    // A body that was being read when the signal came may be just in time; whichever answer it gets is true.
    let landed = statuses[1] == "204";
    assert_eq!(statuses, ["503", if landed { "204" } else { "503" }, "503"]);
    assert_eq!(lake.metadata("t.rows").is_ok(), landed);
    Ok(())
}

async fn client_that_never_finishes_a_head_is_no_failure() -> TestResult {
    let lake = Lake::new()?;
    let mut server = Server::dev(lake.path()).await?;
    let mut stream = TcpStream::connect(server.url().trim_start_matches("http://")).await?;
    stream.write_all(b"POST / HTTP/1.1\r\nhost: x\r\n").await?;
    for id in 0..5 {
        assert_eq!(
            server
                .pusher()
                .push(&Push::json("rows", id, &json!({"id": id})))
                .await,
            204
        );
    }
    server.terminate()?;
    assert!(server.exited().await?.success());
    assert_eq!(Reader::duckdb()?.count(lake.table("landfast.rows"))?, 5);
    Ok(())
}
