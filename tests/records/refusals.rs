//! Rows that are not taken: the answer says why, and nothing of them is kept.

use std::fs;
use std::time::Duration;

use libtest_mimic::Trial;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{JSON, TABLE, gzip, landed, send, sent};
use crate::refusals::{connect, problem, status};
use crate::support::lake::{Lake, files};
use crate::support::push::Push;
use crate::support::server::Server;
use crate::support::{TestResult, note, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        requests_that_are_no_rows_say_why,
        names_from_outside_make_no_other_table,
        rows_need_the_configured_token_before_anything_is_read,
        rows_are_refused_beyond_loopback_without_a_token,
        rows_over_the_limits_get_413_or_429,
        bodies_that_do_not_unpack_get_400_or_413,
        rows_while_stopping_get_503,
        rows_for_a_table_that_does_not_fit_get_500,
        rows_whose_letters_cannot_be_kept_get_503,
    ]
}

async fn requests_that_are_no_rows_say_why() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::serve(&lake.config("", TABLE)?).await?;
    let post = async |table: &str, kind: &str, header: (&str, &str), body: &str| {
        send(&server, table, kind, header, body.to_owned()).await
    };
    let none = ("", "");
    for (table, word) in [
        ("t", "no namespace"),
        ("", "no namespace"),
        ("t.", "level"),
        ("t.a%2Fb", "level"),
        ("t.%ff", "UTF-8"),
    ] {
        let document = problem(post(table, JSON, none, "{\"id\":1}").await?, 400, "table_name").await?;
        let detail = document["detail"].as_str().ok_or("a detail")?;
        assert!(detail.contains(word), "{document}");
    }
    let document = problem(post("t.other", JSON, none, "{\"id\":1}").await?, 404, "not_found").await?;
    let detail = document["detail"].as_str().ok_or("a detail")?;
    assert!(
        detail.contains("t.other") && detail.contains("`tables`"),
        "{document}"
    );
    for kind in [
        "text/csv",
        "application/vnd.apache.parquet",
        "application/x-www-form-urlencoded",
    ] {
        let answer = post("t.rows", kind, none, "id\n1\n").await?;
        let document = problem(answer, 415, "unsupported_format").await?;
        assert!(
            document.to_string().contains("application/x-ndjson"),
            "{document}"
        );
    }
    for coding in ["br", "gzip, gzip", "deflate"] {
        let answer = post("t.rows", JSON, ("content-encoding", coding), "{\"id\":1}").await?;
        assert_eq!(answer.headers()["accept-encoding"], "gzip, zstd");
        problem(answer, 415, "unsupported_format").await?;
    }
    for key in ["".to_owned(), "two words".to_owned(), "k".repeat(256)] {
        let answer = post("t.rows", JSON, ("idempotency-key", &key), "{\"id\":1}").await?;
        problem(answer, 400, "idempotency_key").await?;
    }
    problem(post("t.rows", JSON, none, "").await?, 400, "empty_payload").await?;

    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{}/v1/tables/t.rows/records", server.url());
    for request in [client.get(&url), client.put(&url).body("{}"), client.delete(&url)] {
        let answer = request.send().await?;
        assert_eq!(answer.headers()["allow"], "POST");
        problem(answer, 405, "not_found").await?;
    }
    let head = client.head(&url).send().await?;
    assert_eq!(
        (head.status().as_u16(), &head.headers()["allow"]),
        (405, &"POST".parse()?)
    );
    // The table itself can be asked about, and takes nothing.
    for (path, status) in [
        ("/v1/tables/t.rows/records/", 404),
        ("/v1/tables/t.rows", 405),
        ("/nowhere", 404),
    ] {
        let answer = server.pusher().post(path, JSON, "{\"id\":1}").await?;
        let document = problem(answer, status, "not_found").await?;
        let detail = document["detail"].as_str().ok_or("a detail")?;
        assert!(
            detail.contains("POST /,") && detail.contains("/records"),
            "{document}"
        );
    }
    assert!(!lake.table("t.rows").exists());
    assert_eq!(lake.dead_letters()?, Vec::<Value>::new());
    server.metric_is("landfast_held_requests", 0.0).await?;
    server.metric_is("landfast_refused_requests_total", 16.0).await?;
    assert_eq!(sent(&server, "t.rows", "{\"id\":1}").await?["rows"], 1);
    Ok(())
}

async fn names_from_outside_make_no_other_table() -> TestResult {
    let seed: u64 = rand::random();
    note(&format!("Seed: {seed}"));
    let mut random = StdRng::seed_from_u64(seed);
    let lake = Lake::new()?;
    let server = Server::dev(lake.path()).await?;
    sent(&server, "landfast.seen", "{\"id\":0}").await?;
    let pieces = [
        "landfast", ".", "..", "/", "\\", "%", "%2e", "\u{0}", "\n", "\u{e9}", "\u{202e}", "_", "-", " ",
        "a", "?", "#", ";", "{", "*", "metadata", "v1", "~", ":",
    ];
    for _ in 0..300 {
        let length = random.random_range(1..6);
        let name: String = (0..length)
            .map(|_| pieces[random.random_range(0..pieces.len())])
            .collect();
        let escaped: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        // No type that is taken, so that a name that is right makes no table either.
        let answer = send(&server, &escaped, "text/csv", ("", ""), "id\n1\n").await?;
        let status = answer.status().as_u16();
        // `.` leads to the path of a table itself, which takes nothing.
        assert!([400, 404, 405, 415].contains(&status), "{name:?}: {status}");
        let is_name = name.strip_prefix("landfast.").is_some_and(|rest| {
            !rest.is_empty()
                && rest
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        });
        assert_eq!(status == 415, is_name, "{name:?}: {status}");
    }
    let seen = lake.table("landfast.seen");
    let others: Vec<_> = files(&lake.path().join("warehouse"))?
        .into_iter()
        .filter(|file| !file.starts_with(&seen) && !file.starts_with(lake.path().join("warehouse/_landfast")))
        .collect();
    assert!(others.is_empty(), "{others:?}");
    Ok(())
}

async fn rows_need_the_configured_token_before_anything_is_read() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::serve(&lake.config("api_auth: { bearer: hush-hush }", TABLE)?).await?;
    for (header, value) in [
        ("", ""),
        ("authorization", "Bearer hush"),
        ("authorization", "Basic hush-hush"),
    ] {
        // A table that is not there, too: nobody without the token is told of tables.
        for table in ["t.rows", "t.other"] {
            let answer = send(&server, table, JSON, (header, value), "{\"id\":1}").await?;
            assert_eq!(answer.headers()["www-authenticate"], "Bearer");
            problem(answer, 401, "unauthenticated").await?;
        }
    }
    // The answer comes while the body is still to come, and the connection ends with it.
    let mut stream = connect(&server).await?;
    let head = "POST /v1/tables/t.rows/records HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: \
                1000000\r\n\r\n{";
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(60), reading).await??;
    let answer = String::from_utf8(answer)?;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    let token = ("authorization", "Bearer hush-hush");
    let taken = send(&server, "t.rows", JSON, token, "{\"id\":1}").await?;
    assert_eq!(landed(taken).await?["rows"], 1);
    assert_eq!(lake.rows("t.rows", "id")?.len(), 1);
    server.logged(&["A request was refused.", "records"]).await?;
    assert!(!server.log().contains("hush-hush"));
    Ok(())
}

async fn rows_are_refused_beyond_loopback_without_a_token() -> TestResult {
    let lake = Lake::new()?;
    let text = fs::read_to_string(lake.config("", TABLE)?)?.replace("127.0.0.1:0", "0.0.0.0:0");
    let server = Server::serve(&lake.write_config(&text)?).await?;
    for header in [("", ""), ("authorization", "Bearer x")] {
        let answer = send(&server, "t.rows", JSON, header, "{\"id\":1}").await?;
        let document = problem(answer, 403, "forbidden").await?;
        assert!(document.to_string().contains("server.api_auth"), "{document}");
    }
    assert!(!lake.table("t.rows").exists());
    Ok(())
}

async fn rows_over_the_limits_get_413_or_429() -> TestResult {
    let lake = Lake::new()?;
    let limits = "max_in_flight_requests: 4, max_in_flight_bytes: 1MiB, max_body_bytes: 100KB";
    let server = Server::serve(&lake.config(limits, TABLE)?).await?;
    let head = |length: usize| {
        format!(
            "POST /v1/tables/t.rows/records HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: \
             {length}\r\n\r\n"
        )
    };
    let mut stream = connect(&server).await?;
    stream.write_all(head(100_001).as_bytes()).await?;
    assert_eq!(status(&mut stream).await?, 413);
    let large = format!("{{\"id\":1,\"name\":\"{}\"}}", "x".repeat(99_000));
    assert_eq!(sent(&server, "t.rows", large).await?["rows"], 1);

    let mut held = Vec::new();
    for id in 2..6 {
        let mut stream = connect(&server).await?;
        stream
            .write_all(format!("{}{{\"id\":{id}", head(8)).as_bytes())
            .await?;
        held.push(stream);
    }
    server.metric_is("landfast_held_requests", 4.0).await?;
    let answer = send(&server, "t.rows", JSON, ("", ""), "{\"id\":9}").await?;
    problem(answer, 429, "full").await?;
    // What cannot be taken at all is told so at once, whatever is held.
    let answer = send(&server, "t.other", JSON, ("", ""), "{\"id\":9}").await?;
    problem(answer, 404, "not_found").await?;
    // Pushes share the slots.
    assert_eq!(
        server.pusher().push(&Push::new("rows", 1, "{\"id\":9}")).await,
        429
    );
    for stream in &mut held {
        stream.write_all(b"}").await?;
    }
    for stream in &mut held {
        assert_eq!(status(stream).await?, 200);
    }
    server.metric_is("landfast_held_requests", 0.0).await?;
    server.metric_is("landfast_held_bytes", 0.0).await?;
    assert_eq!(lake.ids("t.rows", "id")?, ((1..=5).collect(), 5));
    Ok(())
}

async fn bodies_that_do_not_unpack_get_400_or_413() -> TestResult {
    let lake = Lake::new()?;
    let limits = "max_in_flight_bytes: 32MiB, max_body_bytes: 1MiB";
    let server = Server::serve(&lake.config(limits, TABLE)?).await?;
    let before = server.peak_memory();
    let row = gzip(b"{\"id\":1}")?;
    let gzip = ("content-encoding", "gzip");
    for body in [
        b"{\"id\":1}".to_vec(),
        row[..row.len() - 3].to_vec(),
        zstd::encode_all(&b"{\"id\":1}"[..], 1)?,
    ] {
        let answer = send(&server, "t.rows", JSON, gzip, body).await?;
        problem(answer, 400, "compression").await?;
    }
    // 1 GiB of spaces in some 100 KiB, many at a time: a quarter of the held bytes is the most that one unpacks to, and
    // all of them together to what may be held. Unbounded they would come to 800 MiB.
    let bomb = zstd::encode_all(std::io::Read::take(std::io::repeat(b' '), 1 << 30), 1)?;
    let bombs = (0..100).map(|_| {
        send(
            &server,
            "t.rows",
            JSON,
            ("content-encoding", "zstd"),
            bomb.clone(),
        )
    });
    for answer in futures::future::join_all(bombs).await {
        let answer = answer?;
        match answer.status().as_u16() {
            429 => drop(problem(answer, 429, "full").await?),
            _ => drop(problem(answer, 413, "too_large").await?),
        }
    }
    let answer = send(&server, "t.rows", JSON, ("content-encoding", "zstd"), bomb).await?;
    problem(answer, 413, "too_large").await?;
    server.metric_is("landfast_held_bytes", 0.0).await?;
    assert_eq!(lake.dead_letters()?, Vec::<Value>::new());
    assert_eq!(
        landed(send(&server, "t.rows", JSON, gzip, row).await?).await?["rows"],
        1
    );
    if let (Some(before), Some(after)) = (before, server.peak_memory()) {
        let grown = after.saturating_sub(before) >> 20;
        assert!(grown < 200, "{grown} MiB more at the peak");
    }
    Ok(())
}

async fn rows_while_stopping_get_503() -> TestResult {
    let lake = Lake::new()?;
    let config = TABLE.replace("schema", "batch: { commit_interval: 20s }, schema");
    let mut server = Server::serve(&lake.config("", &config)?).await?;
    sent(&server, "t.rows", "{\"id\":0}").await?;
    // One waits for company, one is still on its way when the process is told to stop.
    let head = "POST /v1/tables/t.rows/records HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 8\r\n\r\n";
    let stop = async {
        server.metric_is("landfast_held_requests", 1.0).await?;
        let mut half = connect(&server).await?;
        half.write_all(head.as_bytes()).await?;
        server.metric_is("landfast_held_requests", 2.0).await?;
        server.terminate()?;
        TestResult::Ok(half)
    };
    let (waited, stop) = tokio::join!(sent(&server, "t.rows", "{\"id\":1}"), stop);
    let mut half = stop?;
    assert_eq!(waited?["rows"], 1);
    // What waited was answered once nothing more was taken.
    half.write_all(b"{\"id\":2}").await?;
    assert_eq!(status(&mut half).await?, 503);
    assert!(server.exited().await?.success());
    assert_eq!(lake.ids("t.rows", "id")?, ([0, 1].into(), 2));
    Ok(())
}

async fn rows_for_a_table_that_does_not_fit_get_500() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::serve(&lake.config("", TABLE)?).await?;
    sent(&server, "t.rows", "{\"id\":0}").await?;
    drop(server);
    let other = TABLE.replace("type: long", "type: int");
    let server = Server::serve(&lake.config("", &other)?).await?;
    // Coming again does not help a caller, so it is not told to; a push comes again by itself.
    let answer = send(&server, "t.rows", JSON, ("", ""), "{\"id\":1}").await?;
    let document = problem(answer, 500, "table_mismatch").await?;
    assert!(document.to_string().contains("`id`"), "{document}");
    assert_eq!(
        server.pusher().push(&Push::new("rows", 1, "{\"id\":1}")).await,
        503
    );
    assert_eq!(lake.rows("t.rows", "id")?, [json!({"id": 0, "name": null})]);
    assert_eq!(lake.dead_letters()?, Vec::<Value>::new());
    Ok(())
}

async fn rows_whose_letters_cannot_be_kept_get_503() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::serve(&lake.config("", TABLE)?).await?;
    let letters = lake.path().join("dead-letters");
    fs::remove_dir_all(&letters)?;
    fs::write(&letters, "")?;
    let answer = send(&server, "t.rows", JSON, ("", ""), "[{\"id\":1},{\"id\":\"x\"}]").await?;
    problem(answer, 503, "unavailable").await?;
    assert_eq!(sent(&server, "t.rows", "[{\"id\":2}]").await?["rows"], 1);
    assert_eq!(lake.ids("t.rows", "id")?, ([2].into(), 1));
    Ok(())
}
