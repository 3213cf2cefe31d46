//! Who may see the page.

use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use libtest_mimic::Trial;
use reqwest::header::{AUTHORIZATION, CACHE_CONTROL, HOST, ORIGIN, WWW_AUTHENTICATE};
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::TABLES;
use crate::refusals::{connect, problem, status};
use crate::support::lake::Lake;
use crate::support::push::Push;
use crate::support::server::Server;
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        page_is_for_whom_the_configuration_says,
        password_opens_nothing_that_writes,
        page_that_is_off_leaves_the_server_as_it_was,
        loopback_answers_by_its_own_names_alone,
        token_and_open_page_are_for_any_name,
        page_from_elsewhere_lands_nothing,
    ]
}

const PAGES: [&str; 3] = ["/", "/v1/tables", "/v1/tables/t.rows"];

/// What callers send as their `Authorization`.
type Senders = &'static [Option<&'static str>];

/// `viewer:hush-hush`.
const PASSWORD: &str = "Basic dmlld2VyOmh1c2gtaHVzaA==";

/// Serves on this address with these keys of `server`.
async fn serve(lake: &Lake, address: &str, keys: &str) -> TestResult<Server> {
    let text = std::fs::read_to_string(lake.config(keys, TABLES)?)?;
    let config = lake.write_config(&text.replace("127.0.0.1:0", &format!("{address}:0")))?;
    Server::serve(&config).await
}

async fn page_is_for_whom_the_configuration_says() -> TestResult {
    const TOKEN: &str = "api_auth: { bearer: hush-hush }";
    const ANYONE: Senders = &[None, Some("Bearer x")];
    const HOLDERS: Senders = &[Some("Bearer hush-hush"), Some(PASSWORD)];
    const OTHERS: Senders = &[
        None,
        Some("Bearer hush"),
        Some("Basic dmlld2VyOmh1c2g="),
        Some("Basic aHVzaC1odXNo"),
        Some("Basic %"),
        Some("hush-hush"),
    ];
    // Address and keys; who is let in, who is not, and with which status.
    let matrix: [(&str, String, Senders, Senders, u16); 6] = [
        ("127.0.0.1", String::new(), ANYONE, &[], 0),
        ("0.0.0.0", String::new(), &[], ANYONE, 403),
        ("127.0.0.1", TOKEN.to_owned(), HOLDERS, OTHERS, 401),
        (
            "0.0.0.0",
            format!("{TOKEN}, status_page: protected"),
            HOLDERS,
            OTHERS,
            401,
        ),
        ("0.0.0.0", format!("{TOKEN}, status_page: open"), ANYONE, &[], 0),
        ("0.0.0.0", "status_page: open".to_owned(), ANYONE, &[], 0),
    ];
    let client = reqwest::Client::builder().no_proxy().build()?;
    for (address, keys, let_in, refused, status) in matrix {
        let lake = Lake::new()?;
        let server = serve(&lake, address, &keys).await?;
        let url = server.url().replace("0.0.0.0", "127.0.0.1");
        let all = let_in.iter().map(|sent| (sent, 200));
        for (sent, expected) in all.chain(refused.iter().map(|sent| (sent, status))) {
            for path in PAGES {
                let mut request = client.get(format!("{url}{path}"));
                if let Some(sent) = sent {
                    request = request.header(AUTHORIZATION, *sent);
                }
                let answer = request.send().await?;
                let case = format!("{address} {keys} {sent:?} {path}");
                assert_eq!(answer.status().as_u16(), expected, "{case}");
                assert_eq!(answer.headers()[CACHE_CONTROL], "no-store", "{case}");
                let schemes: Vec<_> = answer.headers().get_all(WWW_AUTHENTICATE).iter().collect();
                match expected {
                    // So that a browser asks for the password.
                    401 => assert_eq!(
                        schemes,
                        ["Bearer", "Basic realm=\"landfast\", charset=\"UTF-8\""],
                        "{case}"
                    ),
                    _ => assert_eq!(schemes, [""; 0], "{case}"),
                }
                let text = answer.text().await?;
                assert_eq!(text.contains("t.rows"), expected == 200, "{case}: {text}");
                assert!(!text.contains("hush"), "{case}");
            }
        }
        // The other calls are no more open than before.
        let metrics = client
            .get(format!("{url}/metrics"))
            .send()
            .await?
            .status()
            .as_u16();
        let expected = match (keys.contains("api_auth"), address) {
            (true, _) => 401,
            (false, "127.0.0.1") => 200,
            (false, _) => 403,
        };
        assert_eq!(metrics, expected, "{address} {keys}");
    }
    Ok(())
}

/// A browser sends a password with whatever any page has it ask for.
async fn password_opens_nothing_that_writes() -> TestResult {
    let lake = Lake::new()?;
    let server = serve(&lake, "127.0.0.1", "api_auth: { bearer: hush-hush }").await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let post = async |sent: &str| {
        let request = client.post(format!("{}/v1/tables/t.rows/records", server.url()));
        request
            .header(AUTHORIZATION, sent)
            .body("{\"id\":1}")
            .send()
            .await
    };
    assert_eq!(post(PASSWORD).await?.status(), 401);
    let metrics = client
        .get(format!("{}/metrics", server.url()))
        .header(AUTHORIZATION, PASSWORD);
    assert_eq!(metrics.send().await?.status(), 401);
    server.metric_is("iceberg_records_written_total", 0.0).await?;
    assert_eq!(post("Bearer hush-hush").await?.status(), 200);
    // A push is another matter, whatever the page's rules are.
    assert_eq!(
        server.pusher().push(&Push::new("rows", 1, "{\"id\":1}")).await,
        204
    );
    Ok(())
}

/// What a browser sends for a page from elsewhere, without asking: no type of content that a page may not set.
async fn page_from_elsewhere_lands_nothing() -> TestResult {
    let lake = Lake::new()?;
    let server = serve(&lake, "127.0.0.1", "").await?;
    let guarded = Lake::new()?;
    let guarded = serve(&guarded, "127.0.0.1", "api_auth: { bearer: hush-hush }").await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let push = r#"{"subscription":"rows","message":{"messageId":"1","publishTime":"2026-11-22T12:00:00Z","data":"eyJpZCI6MX0="}}"#;
    for (origin, expected) in [
        ("https://evil.example", [403, 403]),
        ("http://localhost:3000", [200, 204]),
    ] {
        let calls = [("/v1/tables/t.rows/records", "{\"id\":1}"), ("/", push)];
        for ((path, body), expected) in calls.into_iter().zip(expected) {
            let request = client.post(format!("{}{path}", server.url()));
            let request = request.header(ORIGIN, origin);
            let answered = request.body(body).send().await?.status().as_u16();
            assert_eq!(answered, expected, "{origin} {path}");
        }
    }
    server.metric_is("iceberg_records_written_total", 2.0).await?;
    // The token is for other calls: who may push does not hang on it.
    let request = client.post(format!("{}/", guarded.url())).body(push);
    let answered = request.header(ORIGIN, "https://evil.example").send().await?;
    assert_eq!(answered.status().as_u16(), 403);
    Ok(())
}

async fn page_that_is_off_leaves_the_server_as_it_was() -> TestResult {
    let lake = Lake::new()?;
    let server = serve(&lake, "127.0.0.1", "status_page: off").await?;
    let pusher = server.pusher();
    for (path, expected) in PAGES.into_iter().zip([405, 404, 404]) {
        let (status, text) = pusher.get(path).await?;
        let problem: Value = serde_json::from_str(&text)?;
        assert_eq!(
            (status, &problem["kind"]),
            (expected, &"not_found".into()),
            "{path}"
        );
    }
    assert_eq!(pusher.push(&Push::new("rows", 1, "{\"id\":1}")).await, 204);
    for path in ["/metrics", "/health/live", "/health/ready"] {
        assert_eq!(pusher.get(path).await?.0, 200, "{path}");
    }
    Ok(())
}

/// The names of a server on this port that only this machine has, and those that anybody may give it.
fn names(server: &Server) -> ([String; 4], [String; 5]) {
    let port = server.url().rsplit(':').next().unwrap_or_default();
    let own = ["localhost", "lake.localhost", "127.0.0.1", "[::1]"];
    let others = [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "host.docker.internal",
        "0.0.0.0",
    ];
    let at_port = |host: &str| format!("{host}:{port}");
    (own.map(at_port), others.map(at_port))
}

/// A page of a name that its owner lets resolve to 127.0.0.1 has a browser ask here, and is told nothing.
async fn loopback_answers_by_its_own_names_alone() -> TestResult {
    let lake = Lake::new()?;
    let server = serve(&lake, "127.0.0.1", "").await?;
    let (own, others) = names(&server);
    let client = reqwest::Client::builder().no_proxy().build()?;
    let at = |path: &str| format!("{}{path}", server.url());
    let post = |host: &str, path: &str, body: String| {
        let request = client.post(at(path)).header(HOST, host);
        request.header("content-type", "application/json").body(body)
    };
    let push = |id: i64| {
        Push::new("rows", id, format!("{{\"id\":{id}}}"))
            .body()
            .to_string()
    };
    let records = "/v1/tables/t.rows/records";
    for (id, host) in (0..).zip(&others) {
        for path in PAGES.into_iter().chain(["/metrics"]) {
            let answer = client.get(at(path)).header(HOST, host).send().await?;
            let document = problem(answer, 403, "forbidden").await?;
            let detail = document["detail"].as_str().unwrap_or_default();
            assert!(
                detail.contains(host.as_str()) && detail.contains("server.api_auth"),
                "{document}"
            );
        }
        problem(
            post(host, records, "{\"id\":1}".to_owned()).send().await?,
            403,
            "forbidden",
        )
        .await?;
        // A sender has its own rule: an emulator in a container may push by whatever name.
        assert_eq!(post(host, "/", push(id)).send().await?.status(), 204, "{host}");
        for path in ["/health/live", "/health/ready"] {
            assert_eq!(
                client.get(at(path)).header(HOST, host).send().await?.status(),
                200,
                "{host}"
            );
        }
        assert_eq!(
            over_http2(&server, &format!("http://{host}/metrics")).await?,
            403,
            "{host}"
        );
    }
    server
        .metric_is("iceberg_records_written_total", others.len() as f64)
        .await?;
    server
        .metric_is("landfast_refused_requests_total", others.len() as f64)
        .await?;
    for host in &own {
        for path in PAGES.into_iter().chain(["/metrics"]) {
            assert_eq!(
                client.get(at(path)).header(HOST, host).send().await?.status(),
                200,
                "{host}"
            );
        }
        let landed = post(host, records, "{\"id\":1}".to_owned()).send().await?;
        assert_eq!(landed.status(), 200, "{host}");
        assert_eq!(
            over_http2(&server, &format!("http://{host}/metrics")).await?,
            200,
            "{host}"
        );
    }
    // No `Host` at all, and two of them.
    for (head, expected) in [
        ("GET /metrics HTTP/1.0\r\n\r\n", 403),
        ("GET /health/live HTTP/1.0\r\n\r\n", 200),
        ("GET /metrics HTTP/1.0\r\nhost: localhost\r\n\r\n", 200),
        (
            "GET /metrics HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n",
            403,
        ),
        (
            "GET http://localhost/metrics HTTP/1.1\r\nhost: evil.example\r\n\r\n",
            403,
        ),
    ] {
        let mut stream = connect(&server).await?;
        stream.write_all(head.as_bytes()).await?;
        assert_eq!(status(&mut stream).await?, expected, "{head}");
    }
    Ok(())
}

/// The status of a GET over HTTP/2, where the name is in the address.
async fn over_http2(server: &Server, address: &str) -> TestResult<u16> {
    let stream = TokioIo::new(connect(server).await?);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await?;
    let driven = tokio::spawn(connection);
    let answer = sender
        .send_request(Request::get(address).body(Empty::<Bytes>::new())?)
        .await?;
    driven.abort();
    Ok(answer.status().as_u16())
}

async fn token_and_open_page_are_for_any_name() -> TestResult {
    let client = reqwest::Client::builder().no_proxy().build()?;
    for (keys, page, metrics, token) in [
        ("status_page: open", 200, 403, "Bearer x"),
        ("api_auth: { bearer: hush-hush }", 200, 200, "Bearer hush-hush"),
        ("api_auth: { bearer: hush-hush }", 401, 401, "Bearer x"),
    ] {
        let lake = Lake::new()?;
        let server = serve(&lake, "127.0.0.1", keys).await?;
        let (own, others) = names(&server);
        let get = async |host: &str, path: &str| {
            let request = client.get(format!("{}{path}", server.url())).header(HOST, host);
            request.header(AUTHORIZATION, token).send().await
        };
        for host in &others {
            for path in PAGES {
                assert_eq!(
                    get(host, path).await?.status().as_u16(),
                    page,
                    "{keys} {host} {path}"
                );
            }
            assert_eq!(
                get(host, "/metrics").await?.status().as_u16(),
                metrics,
                "{keys} {host}"
            );
        }
        let by_own = get(&own[0], "/metrics").await?.status().as_u16();
        assert_eq!(by_own, if metrics == 401 { 401 } else { 200 }, "{keys}");
    }
    Ok(())
}
