//! Who may see the page.

use libtest_mimic::Trial;
use reqwest::header::{AUTHORIZATION, CACHE_CONTROL, WWW_AUTHENTICATE};
use serde_json::Value;

use super::TABLES;
use crate::support::lake::Lake;
use crate::support::push::Push;
use crate::support::server::Server;
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        page_is_for_whom_the_configuration_says,
        password_opens_nothing_that_writes,
        page_that_is_off_leaves_the_server_as_it_was,
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
    assert_eq!(server.metric("iceberg_records_written_total").await?, 0.0);
    assert_eq!(post("Bearer hush-hush").await?.status(), 200);
    // A push is another matter, whatever the page's rules are.
    assert_eq!(
        server.pusher().push(&Push::new("rows", 1, "{\"id\":1}")).await,
        204
    );
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
