//! The page in a real browser.

use std::fs;
use std::path::Path;
use std::time::Duration;

use chrono::Utc;
use libtest_mimic::Trial;
use serde_json::json;

use super::TABLES;
use crate::support::browser::Browser;
use crate::support::lake::Lake;
use crate::support::push::Push;
use crate::support::server::{Server, landfast};
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        commits_appear_without_a_reload,
        tables_are_there_without_javascript,
        phone_shows_all_of_it_without_scrolling_sideways,
        password_is_kept_for_the_refresh,
        page_says_when_nobody_answers,
        pictures_for_the_documentation,
    ]
}

/// The picture's files are renewed where this is set.
const RENEW: &str = "LANDFAST_RENEW_IMAGES";

fn push(id: i64) -> Push {
    Push::json("rows", id, &json!({ "id": id }))
}

/// It has said nothing, and asked nobody but its own server, for nothing but itself.
fn is_quiet(browser: &mut Browser, server: &Server) -> TestResult<usize> {
    let (said, asked) = browser.told()?;
    assert_eq!(said, [""; 0]);
    let page = format!("{}/", server.url());
    let others: Vec<_> = asked
        .iter()
        .filter(|url| **url != page && !url.starts_with("data:"))
        .collect();
    assert_eq!(others, [""; 0]);
    Ok(asked.len())
}

async fn commits_appear_without_a_reload() -> TestResult {
    let mut browser = Browser::start()?;
    let lake = Lake::new()?;
    let server = Server::serve(&lake.config("", TABLES)?).await?;
    assert_eq!(browser.open(server.url(), json!({}))?, 200);
    assert!(browser.text("tbody")?.concat().contains("not opened"));
    browser.evaluate("window.mark = document.querySelector('tbody tr')")?;
    assert_eq!(server.pusher().push(&push(1)).await, 204);
    let row = "tr:has-text(\"t.rows\") td[data-label=\"Rows\"]";
    browser.wait(row, "1 landed here")?;
    assert_eq!(
        server.pusher().push_all(&[push(2), push(3), push(3)], 1).await,
        [204; 3]
    );
    browser.wait(row, "3 landed here")?;
    browser.wait("tr:has-text(\"t.rows\") td[data-label=\"Duplicates\"]", "1")?;
    assert_eq!(browser.count("svg.chart")?, 1);
    // What was there is what is there: no reload, and the row is the same element.
    assert_eq!(browser.evaluate("window.mark.isConnected")?, true);
    assert!(!browser.is_visible("#stale")?);
    assert!(is_quiet(&mut browser, &server)? >= 3);
    Ok(())
}

async fn tables_are_there_without_javascript() -> TestResult {
    let mut browser = Browser::start()?;
    let lake = Lake::new()?;
    let server = Server::serve(&lake.config("", TABLES)?).await?;
    assert_eq!(server.pusher().push_all(&[push(1), push(2)], 1).await, [204; 2]);
    assert_eq!(browser.open(server.url(), json!({ "javascript": false }))?, 200);
    assert_eq!(browser.count("tbody tr")?, 2);
    let rows = browser.text("tr:has-text(\"t.rows\") td[data-label=\"Rows\"]")?;
    assert_eq!(rows, ["2\n2 landed here"]);
    assert!(!browser.is_visible("#stale")?);
    // It comes again by itself.
    assert_eq!(server.pusher().push(&push(3)).await, 204);
    browser.wait("tr:has-text(\"t.rows\")", "3 landed here")?;
    is_quiet(&mut browser, &server)?;
    Ok(())
}

/// How far the page and what is in it reaches beyond the window.
const BEYOND: &str = "[document.documentElement, ...document.querySelectorAll('body *:not(thead, thead *)')]\
    .map((element) => element === document.documentElement ? element.scrollWidth - element.clientWidth \
    : element.getBoundingClientRect().right - innerWidth).reduce((most, beyond) => Math.max(most, beyond))";

async fn phone_shows_all_of_it_without_scrolling_sideways() -> TestResult {
    let mut browser = Browser::start()?;
    let lake = Lake::new()?;
    let long = "a_table_whose_name_goes_on_and_on_and_does_not_end_where_a_telephone_does";
    let tables = format!(
        "{TABLES}  {long}.{long}: {{ from: [{{ subscription: long }}], schema: [{{ name: id, type: long }}], \
         batch: {{ commit_interval: 0s }} }}\n"
    );
    let server = Server::serve(&lake.config("", &tables)?).await?;
    let bad = Push::new("long", "bad", "{\"id\":\"x\"}");
    let others = (0..9).map(|id| Push::json("long", id, &json!({ "id": id })));
    let pushes: Vec<Push> = others.chain([bad, push(1)]).collect();
    assert_eq!(server.pusher().push_all(&pushes, 1).await, [204; 11]);
    for (width, dark) in [
        (320, false),
        (360, true),
        (768, false),
        (1024, false),
        (1920, true),
    ] {
        let options = json!({ "width": width, "height": 740, "dark": dark });
        assert_eq!(browser.open(server.url(), options)?, 200);
        let beyond = browser.evaluate(BEYOND)?;
        assert!(
            beyond.as_f64().is_some_and(|beyond| beyond <= 0.5),
            "{width}: {beyond}"
        );
        let text = browser.text("main")?.concat();
        for shown in ["t.rows", long, "wrong_type"] {
            assert!(text.contains(shown), "{width}: {shown}: {text}");
        }
        is_quiet(&mut browser, &server)?;
    }
    Ok(())
}

async fn password_is_kept_for_the_refresh() -> TestResult {
    let mut browser = Browser::start()?;
    let lake = Lake::new()?;
    let server = Server::serve(&lake.config("api_auth: { bearer: hush-hush }", TABLES)?).await?;
    assert_eq!(browser.open(server.url(), json!({ "password": "hush" }))?, 401);
    assert_eq!(
        browser.open(server.url(), json!({ "password": "hush-hush" }))?,
        200
    );
    assert_eq!(server.pusher().push(&push(1)).await, 204);
    browser.wait("tr:has-text(\"t.rows\")", "1 landed here")?;
    assert!(!browser.is_visible("#stale")?);
    Ok(())
}

async fn page_says_when_nobody_answers() -> TestResult {
    let mut browser = Browser::start()?;
    let lake = Lake::new()?;
    let mut server = Server::serve(&lake.config("", TABLES)?).await?;
    assert_eq!(browser.open(server.url(), json!({}))?, 200);
    assert!(!browser.is_visible("#stale")?);
    server.kill()?;
    browser.wait("#stale", "No answer since")?;
    assert_eq!(browser.count("tbody tr")?, 2);
    Ok(())
}

/// Shows a day at a shop; writes what it looks like to docs/images where it is asked to.
async fn pictures_for_the_documentation() -> TestResult {
    let mut browser = Browser::start()?;
    let lake = Lake::new()?;
    let typed = |name: &str, from: &str| {
        format!(
            "  {name}: {{ from: [{{ subscription: {from} }}], schema: [{{ name: id, type: long }}, {{ name: total, type: double }}], \
             batch: {{ commit_interval: 0s }} }}\n"
        )
    };
    let tables = [
        typed("shop.orders", "orders"),
        typed("shop.payments", "payments"),
        typed("shop.customers", "customers"),
        typed("web.clicks", "clicks"),
        "  web.sessions: { from: [{ subscription: sessions }] }\n".to_owned(),
    ];
    let mut command = landfast(["serve", "--config"]);
    let config = lake.config("", &format!("tables:\n{}", tables.concat()))?;
    command.arg(&config).env("K_REVISION", "ingest-00042-kez");
    let server = Server::start(command).await?;
    let pusher = server.pusher();
    let message = |subscription: &str, number: i64, rows: i64| {
        let row = |id: i64| format!("{}\n", json!({ "id": id, "total": 12.5 }));
        let rows: String = (0..rows).map(|id| row(number * 10_000 + id)).collect();
        Push::new(subscription, number, rows).published_at(Utc::now() - Duration::from_millis(700))
    };
    for number in 0..70 {
        // Waves of three lengths.
        let wave = |height: f64, length: f64| (height * (1.2 + (number as f64 / length).sin())) as i64;
        let mut pushes = vec![
            message("orders", number, wave(90.0, 6.0)),
            message("clicks", number, wave(700.0, 9.0) + number % 7 * 40),
        ];
        if number % 4 == 0 {
            pushes.push(message("payments", number, wave(30.0, 15.0)));
        }
        if number == 3 {
            pushes.push(message("customers", number, 1));
        }
        let count = pushes.len();
        assert_eq!(pusher.push_all(&pushes, 8).await, vec![204; count]);
    }
    let again = [
        message("orders", 4, 1),
        message("clicks", 9, 1),
        message("clicks", 10, 1),
    ];
    assert_eq!(pusher.push_all(&again, 1).await, [204; 3]);
    let bad = [
        "{\"id\":\"A-17\"}",
        "{\"id\":1,\"totl\":2}",
        "{\"id\":",
        "{\"id\":\"A-18\"}",
    ];
    for (number, bad) in bad.into_iter().enumerate() {
        assert_eq!(
            pusher
                .push(&Push::new("payments", format!("bad {number}"), bad))
                .await,
            204
        );
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images");
    let renewed = renew();
    for (name, width, height, dark) in [
        ("status-page", 1280, 600, false),
        ("status-page-dark", 1280, 600, true),
        ("status-page-phone", 390, 844, false),
    ] {
        let options = json!({ "width": width, "height": height, "dark": dark });
        assert_eq!(browser.open(server.url(), options)?, 200);
        let commits = browser.text("tr:has-text(\"web.clicks\") td[data-label=\"Recent commits\"]")?;
        assert!(commits.concat().contains("70 commits"), "{commits:?}");
        let file = match renewed {
            true => folder.join(format!("{name}.png")),
            false => lake.path().join(format!("{name}.png")),
        };
        fs::create_dir_all(file.parent().ok_or("a folder")?)?;
        browser.shot(&file.display().to_string())?;
        let size = fs::metadata(&file)?.len();
        assert!((1 << 10..150 << 10).contains(&size), "{name}: {size} bytes");
        // What the documentation shows is there.
        assert!(
            folder.join(format!("{name}.png")).exists(),
            "{name} is to be renewed with {RENEW}=1"
        );
    }
    let letters = browser.text("tr:has-text(\"shop.payments\") td.letters")?;
    assert_ne!(letters, [""; 0]);
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "who runs the tests says so in the environment"
)]
fn renew() -> bool {
    std::env::var(RENEW).is_ok_and(|value| !value.is_empty())
}
