//! The status page: what it tells, to whom, and how it looks in a browser.

mod access;
mod browser;
mod publish;

use std::time::Duration;

use chrono::{DateTime, Utc};
use libtest_mimic::Trial;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::support::lake::Lake;
use crate::support::pubsub::PubSub;
use crate::support::push::Push;
use crate::support::server::{Server, landfast};
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    let tests = trials![
        page_and_json_tell_what_happened,
        rows_are_those_of_the_newest_snapshot_met,
        table_that_fails_says_why_until_something_lands,
        conflicts_of_two_processes_are_counted,
        letters_without_a_table_are_told,
        files_that_are_refused_are_told,
        attributes_of_senders_are_no_markup,
        thousands_of_tables_are_paged,
        dev_says_where_its_page_is,
        worker_that_pulls_has_a_page,
    ];
    [tests, access::tests(), browser::tests(), publish::tests()]
        .into_iter()
        .flatten()
        .collect()
}

const TABLES: &str = "tables:\n  t.rows: { from: [{ subscription: rows }], schema: [{ name: id, type: long }], batch: { \
                      commit_interval: 0s } }\n  t.other: { from: [{ subscription: other }] }\n";

/// What `GET /v1/tables` tells.
async fn told(server: &Server) -> TestResult<Value> {
    let (status, text) = server.pusher().get("/v1/tables").await?;
    assert_eq!(status, 200, "{text}");
    Ok(serde_json::from_str(&text)?)
}

/// A table of it.
fn table<'a>(told: &'a Value, name: &str) -> &'a Value {
    let tables = told["tables"].as_array().into_iter().flatten();
    tables
        .into_iter()
        .find(|table| table["name"] == name)
        .unwrap_or(&Value::Null)
}

/// Whether a time of the answer is within the last minute.
fn is_recent(time: &Value) -> TestResult<bool> {
    let at: DateTime<Utc> = time.as_str().ok_or("no time")?.parse()?;
    let age = (Utc::now() - at).num_milliseconds();
    Ok((-1_000..60_000).contains(&age))
}

async fn get(server: &Server, path: &str) -> TestResult<(u16, HeaderMap, String)> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answer = client.get(format!("{}{path}", server.url())).send().await?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    Ok((status, headers, answer.text().await?))
}

async fn page_and_json_tell_what_happened() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::serve(&lake.config("max_in_flight_bytes: 64MiB", TABLES)?).await?;
    let pusher = server.pusher();
    let before = told(&server).await?;
    assert_eq!(table(&before, "t.rows")["state"], "not_opened");
    assert_eq!(table(&before, "t.rows")["rows"], Value::Null);
    let old =
        Push::new("rows", 1, "{\"id\":1}\n{\"id\":2}").published_at(Utc::now() - Duration::from_secs(90));
    let pushes = [
        old.clone(),
        old,
        Push::new("rows", 2, "{\"id\":3}\n{\"id\":\"secret-value\"}"),
        Push::new("rows", 3, "{\"id\":\"secret-value\"}"),
    ];
    assert_eq!(pusher.push_all(&pushes, 1).await, [204; 4]);
    let after = told(&server).await?;
    assert_eq!(after["instance"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(after["instance"]["pid"], server.id());
    assert!(is_recent(&after["instance"]["started_at"])? && is_recent(&after["at"])?);
    assert_eq!(
        after["in_flight"],
        json!({ "bytes": 0, "max_bytes": 64 << 20, "requests": 0, "max_requests": 1000 })
    );
    let rows = table(&after, "t.rows");
    let counts = [
        "rows",
        "commits",
        "rows_landed",
        "duplicates",
        "conflicts",
        "abandoned_batches",
    ];
    let counts = counts.map(|name| rows[name].as_u64());
    assert_eq!(counts, [3, 3, 3, 1, 0, 0].map(Some), "{rows}");
    assert_eq!(
        (&rows["state"], &rows["publish"]["state"]),
        (&json!("open"), &json!("off"))
    );
    assert_eq!(rows["dead_letters"]["count"], 2);
    let reasons = &rows["dead_letters"]["latest"];
    assert_eq!(reasons.as_array().map(Vec::len), Some(1), "{reasons}");
    assert_eq!(
        (&reasons[0]["reason"], &reasons[0]["count"]),
        (&json!("wrong_type"), &json!(2))
    );
    assert!(is_recent(&reasons[0]["last_at"])?);
    let recent = rows["recent_commits"].as_array().ok_or("no commits")?;
    let landed: Vec<_> = recent.iter().map(|commit| commit["rows"].as_u64()).collect();
    assert_eq!(landed, [Some(2), Some(1), Some(0)]);
    let ages: Vec<_> = recent
        .iter()
        .map(|commit| commit["freshness_seconds"].as_f64())
        .collect();
    assert!(
        ages[0].is_some_and(|age| (90.0..150.0).contains(&age)),
        "{ages:?}"
    );
    assert!(
        ages[1].is_some_and(|age| age < 60.0) && ages[2].is_none(),
        "{ages:?}"
    );
    assert_eq!(
        rows["freshness_seconds"], recent[1]["freshness_seconds"],
        "of the newest that had rows"
    );
    assert_eq!(recent.last(), Some(&rows["last_commit"]));
    assert!(is_recent(&rows["last_commit"]["at"])?);
    let totals = [
        "tables",
        "opened",
        "failing",
        "behind",
        "commits",
        "rows_landed",
        "duplicates",
    ];
    let totals = totals.map(|name| after["totals"][name].as_u64());
    assert_eq!(totals, [2, 1, 0, 0, 3, 3, 1].map(Some), "{}", after["totals"]);
    assert_eq!(table(&after, "t.other")["state"], "not_opened");

    // One table alone says the same; one that nobody knows is none.
    let (status, _, one) = get(&server, "/v1/tables/t.rows").await?;
    let mut one: Value = serde_json::from_str(&one)?;
    one["table"]["dead_letters"]["latest"][0]["last_at"].take();
    let mut same = rows.clone();
    same["dead_letters"]["latest"][0]["last_at"].take();
    assert_eq!((status, &one["table"]), (200, &same));
    assert_eq!(one["instance"], after["instance"]);
    for unknown in ["/v1/tables/t.none", "/v1/tables/%ff", "/v1/tables/x"] {
        let (status, _, problem) = get(&server, unknown).await?;
        assert_eq!((status, problem.contains("not_found")), (404, true), "{problem}");
    }

    let (status, headers, html) = get(&server, "/").await?;
    assert_eq!(
        (status, &headers["content-type"]),
        (200, &"text/html; charset=utf-8".parse()?)
    );
    for shown in [
        "<bdi>t.rows</bdi>",
        "wrong_type",
        "not opened",
        "64 MiB",
        "<svg class=\"chart\"",
    ] {
        assert!(html.contains(shown), "{shown}: {html}");
    }
    let json = after.to_string();
    for secret in ["secret-value", "subscriptions/rows"] {
        assert!(!html.contains(secret) && !json.contains(secret), "{secret}");
    }
    // Nothing is asked of the warehouse for it.
    std::fs::remove_dir_all(lake.path().join("warehouse"))?;
    assert_eq!(table(&told(&server).await?, "t.rows")["rows"], 3);
    assert_eq!(get(&server, "/").await?.0, 200);
    Ok(())
}

async fn rows_are_those_of_the_newest_snapshot_met() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLES)?;
    let push = |id: i64| Push::json("rows", id, &json!({ "id": id }));
    let mut first = Server::serve(&config).await?;
    assert_eq!(first.pusher().push_all(&[push(1), push(2)], 1).await, [204; 2]);
    first.terminate()?;
    assert!(first.exited().await?.success());
    let second = Server::serve(&config).await?;
    assert_eq!(table(&told(&second).await?, "t.rows")["rows"], Value::Null);
    // A copy opens the table, and lands nothing.
    assert_eq!(second.pusher().push(&push(2)).await, 204);
    let known = told(&second).await?;
    let rows = table(&known, "t.rows");
    assert_eq!(
        (
            &rows["state"],
            &rows["rows"],
            &rows["rows_landed"],
            &rows["duplicates"]
        ),
        (&json!("open"), &json!(2), &json!(0), &json!(1))
    );
    // What another process lands is seen with the next commit.
    let third = Server::serve(&config).await?;
    assert_eq!(third.pusher().push(&push(3)).await, 204);
    assert_eq!(table(&told(&third).await?, "t.rows")["rows"], 3);
    assert_eq!(second.pusher().push(&push(4)).await, 204);
    assert_eq!(table(&told(&second).await?, "t.rows")["rows"], 4);
    assert_ne!(
        told(&second).await?["instance"]["id"],
        told(&third).await?["instance"]["id"]
    );
    Ok(())
}

async fn table_that_fails_says_why_until_something_lands() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::serve(&lake.config("", TABLES)?).await?;
    let pusher = server.pusher();
    assert_eq!(pusher.push(&Push::new("rows", 1, "{\"id\":1}")).await, 204);
    // A folder where no file can be written.
    let data = lake.table("t.rows").join("data");
    std::fs::remove_dir_all(&data)?;
    std::fs::write(&data, "")?;
    let refused = Push::new("rows", 2, "{\"id\":2}");
    assert_eq!(pusher.push(&refused).await, 503);
    let failing = told(&server).await?;
    let rows = table(&failing, "t.rows");
    assert_eq!(
        (&rows["state"], &rows["abandoned_batches"]),
        (&json!("failing"), &json!(1)),
        "{rows}"
    );
    assert_eq!(
        (&rows["failure"]["kind"], &rows["failure"]["lasts"]),
        (&json!("unavailable"), &json!(true))
    );
    assert_eq!(failing["totals"]["failing"], 1);
    let (_, _, html) = get(&server, "/").await?;
    assert!(
        html.contains("failing: unavailable") && html.contains("1 failing"),
        "{html}"
    );
    std::fs::remove_file(&data)?;
    wait_for(
        "the table to take rows again",
        Duration::from_secs(60),
        async || (pusher.push(&refused).await == 204).then_some(()),
    )
    .await?;
    let mended = told(&server).await?;
    let rows = table(&mended, "t.rows");
    assert_eq!(
        (&rows["state"], &rows["failure"]["lasts"]),
        (&json!("open"), &json!(false)),
        "{rows}"
    );
    Ok(())
}

async fn conflicts_of_two_processes_are_counted() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLES)?;
    let servers = [Server::serve(&config).await?, Server::serve(&config).await?];
    let push = |id: i64| Push::json("rows", id, &json!({ "id": id }));
    // Each knows the table before the other's commit.
    for (number, server) in servers.iter().enumerate() {
        assert_eq!(server.pusher().push(&push(number as i64)).await, 204);
    }
    assert_eq!(servers[0].pusher().push(&push(2)).await, 204);
    let stale = told(&servers[0]).await?;
    let rows = table(&stale, "t.rows");
    assert_eq!(
        (&rows["conflicts"], &rows["rows"]),
        (&json!(1), &json!(3)),
        "{rows}"
    );
    assert_eq!(stale["totals"]["conflicts"], 1);
    Ok(())
}

async fn letters_without_a_table_are_told() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::serve(&lake.config("", TABLES)?).await?;
    assert_eq!(server.pusher().push(&Push::new("nowhere", 1, "{}")).await, 204);
    let told = told(&server).await?;
    assert_eq!(told["unrouted"]["count"], 1);
    assert_eq!(told["unrouted"]["latest"][0]["reason"], "no_route");
    assert_eq!(told["totals"]["dead_letters"]["count"], 1);
    assert_eq!(told["totals"]["tables"], 2);
    let (_, _, html) = get(&server, "/").await?;
    assert!(html.contains("1 dead letters that no table wanted"), "{html}");
    Ok(())
}

async fn files_that_are_refused_are_told() -> TestResult {
    let lake = Lake::new()?;
    let landing = lake.path().join("landing");
    std::fs::create_dir_all(landing.join("rows"))?;
    let shown = landing.display();
    let routes = format!("routes: [{{ bucket: \"file://{shown}\", objects: \"rows/**\", table: t.rows }}]");
    let server = Server::serve(&lake.config("", &routes)?).await?;
    std::fs::write(landing.join("rows/cut.json.gz"), [0x1f, 0x8b, 8, 0])?;
    std::fs::write(landing.join("astray.json"), "{}")?;
    server.metric_is("landfast_refused_files_total", 2.0).await?;
    let told = told(&server).await?;
    for letters in [&table(&told, "t.rows")["dead_letters"], &told["unrouted"]] {
        assert_eq!(letters["count"], 1, "{told}");
        assert_eq!(letters["latest"][0]["reason"], "refused_file", "{told}");
    }
    assert_eq!(told["totals"]["dead_letters"]["count"], 2);
    Ok(())
}

/// Routes make of such names what tables may be called; the environment's are shown as they are.
async fn attributes_of_senders_are_no_markup() -> TestResult {
    const HOSTILE: &str = "\"><img src=x onerror=alert(1)>'&\u{202e}";
    let lake = Lake::new()?;
    let routes = "routes: [{ subscription: cdc, table: \"cdc.{attributes.table}\" }]";
    let mut command = landfast(["serve", "--config"]);
    command.arg(lake.config("", routes)?).env("K_REVISION", HOSTILE);
    let server = Server::start(command).await?;
    let push = Push::new("cdc", 1, "{\"id\":1}").attribute("table", HOSTILE);
    assert_eq!(server.pusher().push(&push).await, 204);
    let told = told(&server).await?;
    assert_eq!(told["instance"]["revision"], HOSTILE);
    let name = told["tables"][0]["name"].as_str().unwrap_or_default().to_owned();
    assert!(name.starts_with("cdc.___img_src_x_onerror_alert_1_"), "{told}");
    let (_, _, html) = get(&server, "/").await?;
    assert!(
        !html.contains("<img") && html.contains("&lt;img src=x onerror=alert(1)&gt;&#39;&amp;"),
        "{html}"
    );
    assert!(html.contains(&format!("<bdi>{name}</bdi>")), "{html}");
    Ok(())
}

async fn thousands_of_tables_are_paged() -> TestResult {
    let lake = Lake::new()?;
    let tables: String = (0..3_456)
        .map(|number| format!("  t.table_{number:04}: {{}}\n"))
        .collect();
    let server = Server::serve(&lake.config("", &format!("tables:\n{tables}"))?).await?;
    for (query, page, first, count) in [
        ("", 1, "t.table_0000", 100),
        ("?page=2", 2, "t.table_0100", 100),
        ("?page=35", 35, "t.table_3400", 56),
        ("?page=99", 35, "t.table_3400", 56),
        ("?page=0", 1, "t.table_0000", 100),
        ("?page=x&page=3", 1, "t.table_0000", 100),
        ("?page=18446744073709551615", 35, "t.table_3400", 56),
    ] {
        let (status, _, text) = get(&server, &format!("/v1/tables{query}")).await?;
        let told: Value = serde_json::from_str(&text)?;
        assert_eq!(
            (status, &told["page"], &told["pages"]),
            (200, &json!(page), &json!(35)),
            "{query}"
        );
        assert_eq!(told["tables"][0]["name"], first, "{query}");
        assert_eq!(told["tables"].as_array().map(Vec::len), Some(count), "{query}");
        assert_eq!(told["totals"]["tables"], 3_456);
        let (_, _, html) = get(&server, &format!("/{query}")).await?;
        assert_eq!(html.matches("<th scope=\"row\"").count(), count, "{query}");
        assert!(
            html.contains(&format!("page {page} of 35")) && html.contains("3,456 tables"),
            "{query}"
        );
        assert!(html.len() < 256 << 10, "{}", html.len());
    }
    Ok(())
}

async fn dev_says_where_its_page_is() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::dev(lake.path()).await?;
    server
        .logged(&[&format!("status page   {}/", server.url())])
        .await?;
    let (_, _, html) = get(&server, "/").await?;
    assert!(html.contains("each shows up with its first delivery"), "{html}");
    assert_eq!(
        server.pusher().push(&Push::new("rows", 1, "{\"id\":1}")).await,
        204
    );
    assert_eq!(table(&told(&server).await?, "landfast.rows")["rows"], 1);
    Ok(())
}

async fn worker_that_pulls_has_a_page() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    for subscription in ["rows", "other"] {
        pubsub.queue(subscription).await?;
    }
    let worker = pubsub.worker(&lake.config("ack_deadline: 10s", TABLES)?).await?;
    pubsub.publish("rows", ["{\"id\":1}".to_owned()]).await?;
    wait_for("the row", Duration::from_secs(60), async || {
        let told = told(&worker).await.ok()?;
        (table(&told, "t.rows")["rows"] == 1).then_some(())
    })
    .await?;
    let (status, _, html) = get(&worker, "/").await?;
    assert_eq!((status, html.contains("<bdi>t.rows</bdi>")), (200, true));
    let pusher = worker.pusher();
    assert_eq!(pusher.push(&Push::new("rows", 2, "{\"id\":2}")).await, 404);
    Ok(())
}
