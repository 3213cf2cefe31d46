//! What is refused, and how: every answer says what is wrong, nothing that was not acknowledged is lost, and what is
//! acknowledged is in the table or in a letter.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libtest_mimic::Trial;
use reqwest::Response;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::lake::Lake;
use crate::support::push::Push;
use crate::support::server::{Server, run};
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        requests_that_are_no_push_get_400_405_404_or_415,
        bodies_over_the_limit_get_413_and_cost_no_memory,
        requests_that_break_off_hold_nothing,
        undecodable_data_is_a_letter,
        delivery_without_route_is_a_letter,
        unknown_configuration_key_exits_2_and_points_at_it,
        missing_push_auth_exits_2,
        port_in_use_exits_1_and_names_the_address,
        table_of_another_schema_is_left_alone_until_the_configuration_fits,
        requests_over_the_limit_get_429_while_held_ones_land,
        bytes_over_the_limit_get_429_while_held_ones_land,
        payload_that_unpacks_beyond_the_limit_is_a_letter,
    ]
}

/// The problem document of an answer, which must be a complete one.
pub async fn problem(answer: Response, status: u16, kind: &str) -> TestResult<Value> {
    assert_eq!(answer.status().as_u16(), status);
    let retry_after = answer.headers().get("retry-after").cloned();
    assert_eq!(retry_after.is_some(), matches!(status, 429 | 503));
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let document: Value = serde_json::from_str(&answer.text().await?)?;
    assert_eq!(
        (&document["status"], &document["kind"]),
        (&json!(status), &json!(kind))
    );
    assert!(
        document["detail"].as_str().is_some_and(|text| text.len() > 10),
        "{document}"
    );
    assert!(document["title"].is_string());
    assert!(!document.to_string().contains("hush-hush"), "{document}");
    Ok(document)
}

async fn requests_that_are_no_push_get_400_405_404_or_415() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::dev(lake.path()).await?;
    let pusher = server.pusher();
    let time = "\"publishTime\":\"2026-01-01T00:00:00Z\"";
    let post = async |kind: &str, body: &str| pusher.post("/", kind, body.to_owned()).await;
    for body in [
        "".to_owned(),
        "hush-hush".to_owned(),
        "[\"hush-hush\"]".to_owned(),
        "{\"hush-hush\":1}".to_owned(),
        format!("{{\"subscription\":\"s\",\"message\":{{{time},\"data\":\"hush-hush\"}}}}"),
        format!(
            "{{\"subscription\":\"s\",\"message\":{{{time},\"messageId\":\"\",\"data\":\"hush-hush\"}}}}"
        ),
        "{\"subscription\":\"s\",\"message\":{\"messageId\":\"1\",\"publishTime\":\"hush-hush\"}}".to_owned(),
        format!("{{\"message\":{{{time},\"messageId\":\"1\",\"data\":\"hush-hush\"}}}}"),
        format!(
            "{{\"subscription\":\"s\",\"message\":{{{time},\"messageId\":\"1\",\"attributes\":{{\"hush-hush\":7}}}}}}"
        ),
        format!(
            "{{\"subscription\":\"s\",\"message\":{{{time},\"messageId\":\"1\",\"data\":\"hush-hush\"}}}} hush-hush"
        ),
        format!("{{\"x\":{}", "[".repeat(100_000)),
    ] {
        problem(post("application/json", &body).await?, 400, "not_an_event").await?;
    }
    for kind in [
        "text/plain",
        "application/octet-stream",
        "application/jsonp",
        "",
        "multipart/form-data",
    ] {
        problem(post(kind, "{}").await?, 415, "unsupported_format").await?;
    }
    for kind in [
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "application/cloudevents+json",
    ] {
        problem(post(kind, "{}").await?, 400, "not_an_event").await?;
    }
    problem(
        pusher.post("/nowhere", "application/json", "{}").await?,
        404,
        "not_found",
    )
    .await?;
    problem(
        pusher
            .post("/v1/tables/a.b/records", "application/json", "{}")
            .await?,
        404,
        "not_found",
    )
    .await?;
    assert_eq!(pusher.get("/nowhere").await?.0, 404);
    let put = reqwest::Client::builder().no_proxy().build()?;
    assert_eq!(put.put(server.url()).send().await?.status(), 405);
    assert_eq!(pusher.get("/health/live").await?.0, 200);
    server.metric_is("landfast_held_requests", 0.0).await?;
    server.metric_is("landfast_held_bytes", 0.0).await?;
    assert_eq!(lake.dead_letters()?, Vec::<Value>::new());
    assert!(!server.log().contains("hush-hush"));
    // The server is none the worse for it.
    assert_eq!(pusher.push(&Push::new("s", 1, "{\"id\":1}")).await, 204);
    Ok(())
}

/// A connection of our own, for requests that no client sends.
pub async fn connect(server: &Server) -> TestResult<TcpStream> {
    Ok(TcpStream::connect(server.url().trim_start_matches("http://")).await?)
}

/// The status line that comes back, whatever comes after it.
pub async fn status(stream: &mut TcpStream) -> TestResult<u16> {
    let mut head = [0; 12];
    tokio::time::timeout(Duration::from_secs(60), stream.read_exact(&mut head)).await??;
    Ok(std::str::from_utf8(&head[9..])?.parse()?)
}

async fn bodies_over_the_limit_get_413_and_cost_no_memory() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::serve(&lake.config(
        "max_body_bytes: 1MiB, max_in_flight_bytes: 4MiB",
        "routes: [{ table: \"t.{subscription}\" }]",
    )?)
    .await?;
    let before = server.peak_memory();
    // Declared: refused before a byte of it is read, whatever it claims.
    for length in ["1048577", "100000000000", "9223372036854775807"] {
        let mut stream = connect(&server).await?;
        let head = format!(
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{{"
        );
        stream.write_all(head.as_bytes()).await?;
        assert_eq!(status(&mut stream).await?, 413, "{length}");
    }
    // Chunked: read to the limit and no further. The server may close while we still write.
    let mut stream = connect(&server).await?;
    let head =
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let (mut answers, mut requests) = stream.into_split();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let writing = tokio::spawn(async move {
        let mut written = 0;
        while written < 400 && requests.write_all(chunk.as_bytes()).await.is_ok() {
            written += 1;
        }
        written
    });
    let mut line = [0; 12];
    tokio::time::timeout(Duration::from_secs(60), answers.read_exact(&mut line)).await??;
    assert_eq!(&line[9..], b"413");
    drop(answers);
    let written = writing.await?;
    assert!(written < 400, "25 MiB were taken in for a limit of 1 MiB");
    // What reqwest makes of it, many times at once.
    let pusher = server.pusher();
    let big = "x".repeat(2 << 20);
    for _ in 0..20 {
        match pusher.post("/", "application/json", big.clone()).await {
            Ok(answer) => drop(problem(answer, 413, "too_large").await?),
            // The answer may be lost when the server closes while the body is still on its way.
            Err(error) => assert!(error.is_request() || error.is_body(), "{error:?}"),
        }
    }
    let exactly = "{\"x\":\"".len() + "\"}".len();
    let fits = Push::new("s", 1, format!("{{\"x\":\"{}\"}}", "y".repeat(700_000 - exactly)));
    assert_eq!(pusher.push(&fits).await, 204);
    wait_for("nothing to be held", Duration::from_secs(60), async || {
        let held = server.metric("landfast_held_bytes").await.ok()?;
        (held == 0.0).then_some(())
    })
    .await?;
    if let (Some(before), Some(after)) = (before, server.peak_memory()) {
        let grown = after.saturating_sub(before) >> 20;
        assert!(grown < 64, "{grown} MiB more at the peak");
    }
    Ok(())
}

async fn requests_that_break_off_hold_nothing() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::dev(lake.path()).await?;
    let mut open = Vec::new();
    for sent in [
        "",
        "POST / HTT",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{\"mess",
    ] {
        for _ in 0..20 {
            let mut stream = connect(&server).await?;
            stream.write_all(sent.as_bytes()).await?;
            open.push(stream);
        }
    }
    wait_for(
        "the bodies to be waited for",
        Duration::from_secs(60),
        async || (server.metric("landfast_held_requests").await.ok()? == 20.0).then_some(()),
    )
    .await?;
    // Others are served beside them.
    assert_eq!(server.pusher().push(&Push::new("s", 1, "{\"id\":1}")).await, 204);
    drop(open);
    wait_for(
        "what they held to be given back",
        Duration::from_secs(20),
        async || {
            let held = server.metric("landfast_held_requests").await.ok()?
                + server.metric("landfast_held_bytes").await.ok()?;
            (held == 0.0).then_some(())
        },
    )
    .await
}

async fn undecodable_data_is_a_letter() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::dev(lake.path()).await?;
    for (id, data) in [(1, "not base64!"), (2, "e30"), (3, "e30=\n"), (4, "\u{00e9}")] {
        let mut body = Push::new("s", id, "").attribute("k", "v").body();
        body["message"]["data"] = data.into();
        let answer = server
            .pusher()
            .post("/", "application/json", body.to_string())
            .await?;
        assert_eq!(answer.status().as_u16(), 204, "{data}");
        let again = server
            .pusher()
            .post("/", "application/json", body.to_string())
            .await?;
        assert_eq!(again.status().as_u16(), 204);
        let letters = lake.dead_letters()?;
        let letter = &letters[letters.len() - 1];
        assert_eq!(letters.len(), id);
        assert_eq!(letter["raw"], STANDARD.encode(data));
        assert_eq!(letter["reason"]["kind"], "bad_base64");
        assert_eq!(letter["id"], format!("projects/p-test/subscriptions/s/{id}"));
        assert_eq!(
            (&letter["attributes"], &letter["position"]),
            (&json!({"k": "v"}), &Value::Null)
        );
    }
    server.metric_is("landfast_dead_letters_total", 4.0).await?;
    Ok(())
}

async fn delivery_without_route_is_a_letter() -> TestResult {
    let lake = Lake::new()?;
    let rest = "tables: { t.rows: { from: [{ subscription: rows }] } }";
    let server = Server::serve(&lake.config("", rest)?).await?;
    let push = Push::new("other", 1, "{\"id\":1}\n{\"id\":2}");
    assert_eq!(
        server.pusher().push_all(&[push.clone(), push], 1).await,
        [204, 204]
    );
    let letters = lake.dead_letters()?;
    assert_eq!(
        (letters.len(), &letters[0]["reason"]["kind"]),
        (1, &json!("no_route"))
    );
    assert_eq!(letters[0]["raw"], STANDARD.encode("{\"id\":1}\n{\"id\":2}"));
    Ok(())
}

async fn unknown_configuration_key_exits_2_and_points_at_it() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", "tables:\n  t.rows:\n    form: [{ subscription: rows }]\n")?;
    let file = config.display().to_string();
    let (code, out, err) = run(["serve", "--config", &file])?;
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains(&format!("{file}:7:5: ")), "{err}");
    assert!(err.contains("did you mean `from`?"), "{err}");
    let (code, _, err) = run([
        "serve",
        "--config",
        &lake.path().join("none.yaml").display().to_string(),
    ])?;
    assert_eq!(code, Some(2));
    assert!(err.contains("none.yaml"), "{err}");
    assert_eq!(run(["serve", "--confg", &file])?.0, Some(2));
    Ok(())
}

async fn missing_push_auth_exits_2() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", "tables: { t.rows: { from: [{ subscription: rows }] } }")?;
    let text = std::fs::read_to_string(&config)?.replace("push_auth: off, ", "");
    let config = lake.write_config(&text)?;
    let (code, _, err) = run(["serve", "--config", &config.display().to_string()])?;
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("push_auth") && err.contains("off"), "{err}");
    assert!(!lake.path().join("warehouse").exists());
    Ok(())
}

async fn port_in_use_exits_1_and_names_the_address() -> TestResult {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let lake = Lake::new()?;
    let (code, _, err) = run([
        "dev",
        "--listen",
        &address,
        "--dir",
        &lake.path().display().to_string(),
    ])?;
    assert_eq!(code, Some(1));
    assert!(err.contains(&address) && err.contains("in use"), "{err}");
    Ok(())
}

async fn table_of_another_schema_is_left_alone_until_the_configuration_fits() -> TestResult {
    let lake = Lake::new()?;
    let table = |columns: &str| {
        format!("tables: {{ t.rows: {{ from: [{{ subscription: rows }}], schema: [{columns}] }} }}")
    };
    let right = "{ name: id, type: long, required: true }, { name: buyer, type: \"struct<n: int, tags: list<string>>\" }";
    let server = Server::serve(&lake.config("", &table(right))?).await?;
    assert_eq!(
        server.pusher().push(&Push::new("rows", 1, "{\"id\":1}")).await,
        204
    );
    drop(server);
    let before = lake.metadata("t.rows")?;

    let id = "{ name: id, type: long, required: true }";
    let row = Push::new("rows", 2, "{\"id\":2}");
    for (columns, column) in [
        ("{ name: id, type: int, required: true }".to_owned(), "`id`"),
        ("{ name: id, type: long }".to_owned(), "`id`"),
        (format!("{id}, {{ name: more, type: string }}"), "`more`"),
        (
            format!("{id}, {{ name: buyer, type: \"struct<n: long>\" }}"),
            "`buyer.n`",
        ),
        (
            format!("{id}, {{ name: buyer, type: \"struct<tags: list<int>>\" }}"),
            "`buyer.tags.element`",
        ),
        ("{ name: other, type: string }".to_owned(), "`other`"),
    ] {
        let server = Server::serve(&lake.config("", &table(&columns))?).await?;
        let body = row.body().to_string();
        let answer = server.pusher().post("/", "application/json", body).await?;
        let document = problem(answer, 503, "table_mismatch").await?;
        assert!(
            document["detail"]
                .as_str()
                .is_some_and(|text| text.contains(column)),
            "{document}"
        );
        server.logged(&["ERROR", column, "t.rows"]).await?;
        assert_eq!(lake.metadata("t.rows")?, before);
        assert_eq!(lake.rows("t.rows", "id")?.len(), 1);
        assert_eq!(lake.dead_letters()?, Vec::<Value>::new());
    }
    let server = Server::serve(&lake.config("", &table(right))?).await?;
    assert_eq!(server.pusher().push(&row).await, 204);
    assert_eq!(lake.rows("t.rows", "id")?.len(), 2);
    Ok(())
}

const SLOW: &str = "tables: { t.rows: { from: [{ subscription: rows }], schema: [{ name: id, type: long }, { name: pad, type: \
                    string }], batch: { commit_interval: 3s } } }";

async fn requests_over_the_limit_get_429_while_held_ones_land() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::serve(&lake.config("max_in_flight_requests: 8", SLOW)?).await?;
    let pusher = server.pusher();
    // Bodies that are still on their way hold their slots for as long as we like.
    let mut held = Vec::new();
    for id in 1..=8 {
        let body = Push::json("rows", id, &json!({"id": id})).body().to_string();
        let length = body.len();
        let head = format!(
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        let mut stream = connect(&server).await?;
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body.as_bytes()[..20]).await?;
        held.push((stream, body));
    }
    server.metric_is("landfast_held_requests", 8.0).await?;
    let push = Push::json("rows", 9, &json!({"id": 9}));
    for _ in 0..3 {
        let answer = pusher
            .post("/", "application/json", push.body().to_string())
            .await?;
        problem(answer, 429, "full").await?;
    }
    assert_eq!(pusher.get("/health/live").await?.0, 200);
    for (stream, body) in &mut held {
        stream.write_all(&body.as_bytes()[20..]).await?;
    }
    for (stream, _) in &mut held {
        assert_eq!(status(stream).await?, 204);
    }
    assert_eq!(pusher.push(&push).await, 204);
    assert_eq!(lake.ids("t.rows", "id")?, ((1..=9).collect(), 9));
    server.metric_is("landfast_held_requests", 0.0).await
}

async fn bytes_over_the_limit_get_429_while_held_ones_land() -> TestResult {
    let lake = Lake::new()?;
    let limits = "max_in_flight_bytes: 1MiB, max_body_bytes: 1MiB";
    let slow = SLOW.replace("3s", "15s");
    let server = Server::serve(&lake.config(limits, &slow)?).await?;
    let pusher = server.pusher();
    assert_eq!(pusher.push(&Push::new("rows", 0, "{\"id\":0}")).await, 204);
    let push = |id: i64| Push::json("rows", id, &json!({"id": id, "pad": "x".repeat(330_000)}));
    let refused = async {
        wait_for("the bytes to be held", Duration::from_secs(60), async || {
            let bytes = server.metric("landfast_held_bytes").await.ok()?;
            (660_000.0..700_000.0).contains(&bytes).then_some(())
        })
        .await?;
        let answer = pusher
            .post("/", "application/json", push(3).body().to_string())
            .await?;
        // Its body was not read, so the connection ends, and says it does.
        assert_eq!(answer.headers()["connection"], "close");
        problem(answer, 429, "full").await?;
        assert_eq!(pusher.push(&Push::new("rows", 4, "{\"id\":4}")).await, 204);
        TestResult::Ok(())
    };
    let large = [push(1), push(2)];
    let (held, refused) = tokio::join!(pusher.push_all(&large, 2), refused);
    refused?;
    assert_eq!(held, [204, 204]);
    assert_eq!(pusher.push(&push(3)).await, 204);
    assert_eq!(lake.ids("t.rows", "id")?, ((0..=4).collect(), 5));
    server.metric_is("landfast_held_bytes", 0.0).await
}

async fn payload_that_unpacks_beyond_the_limit_is_a_letter() -> TestResult {
    let lake = Lake::new()?;
    let limits = "max_in_flight_bytes: 8MiB, max_body_bytes: 1MiB";
    let server = Server::serve(&lake.config(limits, SLOW)?).await?;
    let before = server.peak_memory();
    // 1 GiB of spaces in some 100 KiB.
    let bomb = zstd::encode_all(std::io::Read::take(std::io::repeat(b' '), 1 << 30), 1)?;
    assert_eq!(server.pusher().push(&Push::new("rows", 1, &bomb)).await, 204);
    let letters = lake.dead_letters()?;
    assert_eq!(
        (letters.len(), &letters[0]["reason"]["kind"]),
        (1, &json!("too_large"))
    );
    assert_eq!(letters[0]["raw"], STANDARD.encode(&bomb));
    if let (Some(before), Some(after)) = (before, server.peak_memory()) {
        let grown = after.saturating_sub(before) >> 20;
        assert!(grown < 64, "{grown} MiB more at the peak");
    }
    Ok(())
}
