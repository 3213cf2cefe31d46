//! What people and scripts see: configuration commands, the demo, metrics and who may read them, logs without payloads.

use std::time::Duration;

use landfast::telemetry::METRICS;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::support::lake::{Lake, files};
use crate::support::push::Push;
use crate::support::readers::Reader;
use crate::support::server::{Server, landfast, run};
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        valid_configuration_is_told_and_printed,
        invalid_configuration_exits_2_with_every_mistake,
        secrets_are_not_printed,
        demo_prints_rows_that_are_in_the_table,
        metrics_tell_what_happened,
        copies_are_counted_by_what_became_of_the_first,
        metrics_are_refused_beyond_loopback_without_a_token,
        metrics_need_the_configured_token,
        logs_hold_no_payload,
    ]
}

const TABLE: &str =
    "tables: { t.rows: { from: [{ subscription: rows }], schema: [{ name: id, type: long }] } }";

async fn valid_configuration_is_told_and_printed() -> TestResult {
    let lake = Lake::new()?;
    let file = lake.config("", TABLE)?.display().to_string();
    let (code, out, err) = run(["config", "validate", "--config", &file])?;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("is valid; tables: 1, routes: 0"), "{out}");
    let (code, out, _) = run(["config", "validate", "--config", &file, "--output", "json"])?;
    assert_eq!(code, Some(0));
    assert_eq!(
        serde_json::from_str::<Value>(&out)?,
        json!({"valid": true, "tables": 1, "routes": 0})
    );

    let (code, yaml, _) = run(["config", "print", "--config", &file])?;
    assert_eq!(code, Some(0));
    let (code, printed, _) = run(["config", "print", "--config", &file, "--output", "json"])?;
    assert_eq!(code, Some(0));
    let printed: Value = serde_json::from_str(&printed)?;
    assert_eq!(printed["tables"]["t.rows"]["batch"]["max_rows"], 100_000);
    assert_eq!(printed["server"]["push_auth"], "off");
    // What is printed is a configuration, and the same one.
    let copy = lake.write_config(&yaml)?.display().to_string();
    let (code, again, err) = run(["config", "print", "--config", &copy, "--output", "json"])?;
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(serde_json::from_str::<Value>(&again)?, printed);
    Ok(())
}

async fn invalid_configuration_exits_2_with_every_mistake() -> TestResult {
    let lake = Lake::new()?;
    let rest = "tables:\n  t.rows:\n    form: []\n    schema: [{ name: id, type: lnog }]\n    batch: { max_rows: many }\n";
    let file = lake.config("", rest)?.display().to_string();
    for command in ["validate", "print"] {
        let (code, out, err) = run(["config", command, "--config", &file])?;
        assert_eq!((code, out.as_str()), (Some(2), ""), "{command}");
        for place in [":7:5: ", ":8:", ":9:"] {
            assert!(err.contains(&format!("{file}{place}")), "{place} {err}");
        }
        let (code, out, _) = run(["config", command, "--config", &file, "--output", "json"])?;
        let answer: Value = serde_json::from_str(&out)?;
        assert_eq!((code, &answer["valid"]), (Some(2), &json!(false)));
        let errors = answer["errors"].as_array().ok_or("errors")?;
        assert!(errors.len() >= 3, "{answer}");
        let first = errors.iter().find(|error| error["line"] == 7).ok_or("line 7")?;
        assert_eq!((&first["file"], &first["column"]), (&json!(file), &json!(5)));
        assert!(
            first["message"]
                .as_str()
                .is_some_and(|text| text.contains("did you mean `from`?")),
            "{first}"
        );
    }
    Ok(())
}

async fn secrets_are_not_printed() -> TestResult {
    let lake = Lake::new()?;
    let file = lake.config("api_auth: { bearer: \"${LANDFAST_T}\" }", TABLE)?;
    for output in ["text", "json"] {
        let mut command = landfast(["config", "print", "--output", output, "--config"]);
        let printed = command.arg(&file).env("LANDFAST_T", "hush-hush").output()?;
        let text = String::from_utf8_lossy(&printed.stdout).into_owned();
        assert!(printed.status.success() && text.contains("***"), "{text}");
        assert!(
            !text.contains("hush-hush") && !String::from_utf8_lossy(&printed.stderr).contains("hush-hush")
        );
    }
    let (code, _, err) = run(["config", "print", "--config", &file.display().to_string()])?;
    assert_eq!(code, Some(2));
    assert!(err.contains("LANDFAST_T"), "{err}");
    Ok(())
}

async fn demo_prints_rows_that_are_in_the_table() -> TestResult {
    for output in ["text", "json"] {
        let lake = Lake::new()?;
        let mut command = landfast([
            "dev",
            "--demo",
            "--listen",
            "127.0.0.1:0",
            "--output",
            output,
            "--dir",
        ]);
        command.arg(lake.path());
        let mut server = Server::start(command).await?;
        wait_for("the demo to end", Duration::from_secs(30), async || {
            server.log().contains("Serving on").then_some(())
        })
        .await?;
        if output == "json" {
            server.logged(&["\"answered\":"]).await?;
            let log = server.log();
            let line = log
                .lines()
                .find(|line| line.starts_with('{'))
                .ok_or("a JSON document")?;
            let told: Value = serde_json::from_str(line)?;
            assert_eq!((&told["answered"], &told["rows"]), (&json!(1000), &json!(1000)));
            assert_eq!(told["table"], "landfast.orders");
            assert_eq!(
                (&told["file"]["table"], &told["file"]["rows"]),
                (&json!("landfast.customers"), &json!(97))
            );
        } else {
            server
                .logged(&[
                    "| ice axe",
                    "1000 orders answered 204",
                    "belongs answered 204",
                    "| Customer 2",
                    "landfast.customers now holds 97 rows",
                ])
                .await?;
        }
        let rows = Reader::duckdb()?.rows(lake.metadata("landfast.orders")?)?;
        assert_eq!(rows.len(), 1000);
        let total: f64 = rows.iter().filter_map(|row| row["total"].as_f64()).sum();
        let expected: f64 = (0..1000)
            .map(|n: i32| [89.9, 149.0, 179.5, 420.0][n as usize % 4] * f64::from(n % 3 + 1))
            .sum();
        assert!((total - expected).abs() < 0.01, "{total} {expected}");
        assert_eq!(
            Reader::pyiceberg()?.count(lake.metadata("landfast.orders")?)?,
            1000
        );
        assert_eq!(lake.ids("landfast.customers", "id")?, ((0..97).collect(), 97));
        assert_eq!(files(&lake.path().join("landed/customers"))?.len(), 1);
        let letters = lake.dead_letters()?;
        assert_eq!(
            (letters.len(), &letters[0]["reason"]["path"]),
            (1, &json!("$.total"))
        );
        // It serves on.
        assert_eq!(
            server
                .pusher()
                .push(&Push::new("orders", "after", "{\"id\":5000}"))
                .await,
            204
        );
        server.interrupt()?;
        assert!(server.exited().await?.success());
    }
    Ok(())
}

async fn metrics_tell_what_happened() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::serve(&lake.config("", TABLE)?).await?;
    let pusher = server.pusher();
    let published = chrono::Utc::now() - chrono::TimeDelta::seconds(40);
    let pushes = [
        Push::new("rows", 1, "{\"id\":1,\"more\":1}\n{\"id\":2}\n{\"id\":\"x\"}").published_at(published),
        Push::new("nowhere", 2, "{}"),
        Push::new("rows", 3, "{\"id\":\"y\"}"),
    ];
    assert_eq!(pusher.push_all(&pushes, 1).await, [204; 3]);
    assert_eq!(pusher.post("/", "text/plain", "x").await?.status().as_u16(), 415);
    let (status, text) = pusher.get("/metrics").await?;
    assert_eq!(status, 200);
    let value = |name: &str, labels: &[&str]| {
        let line = text.lines().find(|line| {
            line.split(['{', ' ']).next() == Some(name) && labels.iter().all(|label| line.contains(label))
        });
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
    };
    let table = "table=\"t.rows\"";
    let file = &Reader::pyiceberg()?.files(lake.metadata("t.rows")?)?[0];
    let bytes = file["file_size_in_bytes"].as_f64();
    for (name, labels, expected) in [
        ("iceberg_records_written_total", &[table][..], Some(2.0)),
        // The second commit is of a letter alone.
        ("iceberg_batches_committed_total", &[table], Some(2.0)),
        ("iceberg_bytes_written_total", &[table], bytes),
        ("iceberg_commit_duration_seconds_count", &[table], Some(2.0)),
        ("iceberg_records_per_batch_sum", &[table], Some(2.0)),
        (
            "iceberg_records_per_batch_bucket",
            &[table, "le=\"1\""],
            Some(1.0),
        ),
        (
            "iceberg_records_per_batch_bucket",
            &[table, "le=\"3\""],
            Some(2.0),
        ),
        ("landfast_deliveries_total", &["outcome=\"landed\""], Some(1.0)),
        (
            "landfast_deliveries_total",
            &["outcome=\"dead_letter\""],
            Some(2.0),
        ),
        (
            "landfast_refused_requests_total",
            &["reason=\"unsupported_format\""],
            Some(1.0),
        ),
        (
            "landfast_dead_letters_total",
            &[table, "reason=\"wrong_type\""],
            Some(2.0),
        ),
        ("landfast_dead_letters_total", &["reason=\"no_route\""], Some(1.0)),
        (
            "landfast_unknown_fields_total",
            &[table, "field=\"more\""],
            Some(1.0),
        ),
        (
            "landfast_freshness_seconds_bucket",
            &[table, "le=\"30\""],
            Some(0.0),
        ),
        (
            "landfast_freshness_seconds_bucket",
            &[table, "le=\"60\""],
            Some(1.0),
        ),
        ("landfast_held_bytes", &[], Some(0.0)),
        ("landfast_held_requests", &[], Some(0.0)),
    ] {
        assert_eq!(value(name, labels), expected, "{name} {labels:?}\n{text}");
    }
    let last = value("landfast_last_commit_timestamp_seconds", &[table]).ok_or("a last commit")?;
    assert!((chrono::Utc::now().timestamp() as f64 - last).abs() < 60.0);
    is_as_described(&text)
}

/// Every metric of the page has its help, its kind, and no label but those that are documented.
fn is_as_described(page: &str) -> TestResult {
    let described = |name: &str| {
        let plain = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end));
        let of = |name: &str| METRICS.iter().find(|metric| metric.name == name);
        of(name)
            .or_else(|| plain.and_then(of))
            .ok_or_else(|| format!("{name} is not described"))
    };
    for line in page.lines().filter(|line| !line.is_empty()) {
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').ok_or("a kind")?;
            assert_eq!(
                kind,
                format!("{:?}", described(name)?.kind).to_lowercase(),
                "{name}"
            );
            assert!(page.contains(&format!("# HELP {name} ")), "{name} has no help");
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let labels = &described(name)?.labels;
            let written = line
                .split("=\"")
                .map(|before| before.rsplit([',', '{']).next().unwrap_or_default());
            let written: Vec<&str> = written.take(line.matches("=\"").count()).collect();
            assert!(
                written
                    .iter()
                    .all(|label| *label == "le" || labels.contains(label)),
                "{line}"
            );
        }
    }
    Ok(())
}

async fn copies_are_counted_by_what_became_of_the_first() -> TestResult {
    let lake = Lake::new()?;
    let rest = "tables: { t.rows: { from: [{ subscription: rows }], schema: [{ name: id, type: long }], \
        batch: { commit_interval: 1s } } }";
    let server = Server::serve(&lake.config("", rest)?).await?;
    let pusher = server.pusher();
    let message = |id: i64| Push::json("rows", id, &json!({ "id": id }));
    // The first commit goes at once; the copies behind it wait for each other.
    assert_eq!(pusher.push(&message(1)).await, 204);
    let copies = [message(2), message(2), message(2)];
    assert_eq!(pusher.push_all(&copies, 3).await, [204; 3]);
    assert_eq!(pusher.push(&message(1)).await, 204);
    let (_, text) = pusher.get("/metrics").await?;
    for line in [
        "landfast_duplicates_total{table=\"t.rows\",reason=\"in_flight\"} 2",
        "landfast_duplicates_total{table=\"t.rows\",reason=\"landed\"} 1",
        "landfast_deliveries_total{outcome=\"duplicate\"} 3",
        "landfast_deliveries_total{outcome=\"landed\"} 2",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
    assert_eq!(lake.ids("t.rows", "id")?, ([1, 2].into(), 2));
    Ok(())
}

async fn metrics_are_refused_beyond_loopback_without_a_token() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLE)?;
    let text = std::fs::read_to_string(&config)?.replace("127.0.0.1:0", "0.0.0.0:0");
    let server = Server::serve(&lake.write_config(&text)?).await?;
    let (status, body) = server.pusher().get("/metrics").await?;
    let problem: Value = serde_json::from_str(&body)?;
    assert_eq!((status, &problem["kind"]), (403, &json!("forbidden")));
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|text| text.contains("api_auth")),
        "{problem}"
    );
    assert_eq!(server.pusher().get("/health/ready").await?.0, 200);
    assert_eq!(
        server.pusher().push(&Push::new("rows", 1, "{\"id\":1}")).await,
        204
    );
    Ok(())
}

async fn metrics_need_the_configured_token() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::serve(&lake.config("api_auth: { bearer: hush-hush }", TABLE)?).await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let ask = async |token: Option<&str>| {
        let request = client.get(format!("{}/metrics", server.url()));
        let request = token
            .into_iter()
            .fold(request, |request, token| request.header("authorization", token));
        request.send().await
    };
    for wrong in [
        None,
        Some("Bearer "),
        Some("Bearer hush"),
        Some("Basic hush-hush"),
        Some("hush-hush"),
        Some("Bearer hush-hush "),
    ] {
        let answer = ask(wrong).await?;
        // A trailing space is not part of a header's value.
        let expected = if wrong == Some("Bearer hush-hush ") {
            200
        } else {
            401
        };
        assert_eq!(answer.status().as_u16(), expected, "{wrong:?}");
        assert!(!answer.text().await?.contains("hush"));
    }
    assert_eq!(ask(Some("Bearer hush-hush")).await?.status().as_u16(), 200);
    assert_eq!(
        server.pusher().push(&Push::new("rows", 1, "{\"id\":1}")).await,
        204
    );
    assert!(!server.log().contains("hush"));
    Ok(())
}

async fn logs_hold_no_payload() -> TestResult {
    let secret = "hush-4f1d";
    let lake = Lake::new()?;
    let mut command = landfast(["dev", "--listen", "127.0.0.1:0", "--log", "json", "--dir"]);
    command.arg(lake.path()).env("RUST_LOG", "landfast=trace,debug");
    let server = Server::start(command).await?;
    let pusher = server.pusher();
    let pushes = [
        Push::json("rows", 1, &json!({"id": 1, "text": secret, "at": "2026-01-01"})).attribute("a", secret),
        Push::new("rows", 2, format!("{{\"id\":\"{secret}\"}}")),
        Push::new("rows", 3, format!("{secret} is no JSON")),
        Push::new("rows", 4, format!("{{\"id\":1,\"at\":\"{secret}\"}}")),
        Push::new("rows", 5, [b"\x1f\x8b".as_slice(), secret.as_bytes()].concat()),
        Push::new("rows", 6, [secret.as_bytes(), b"\xff"].concat()),
    ];
    assert_eq!(pusher.push_all(&pushes, 1).await, [204; 6]);
    let mut body = pushes[0].body();
    body["message"]["data"] = format!("{secret}!").into();
    assert_eq!(
        pusher
            .post("/", "application/json", body.to_string())
            .await?
            .status()
            .as_u16(),
        204
    );
    body["message"]["publishTime"] = secret.into();
    for undecodable in [
        body.to_string(),
        secret.to_owned(),
        format!("{{\"message\":\"{secret}\"}}"),
        format!("{{\"{secret}\":"),
    ] {
        let answer = pusher.post("/", "application/json", undecodable).await?;
        assert_eq!(answer.status().as_u16(), 400);
        assert!(!answer.text().await?.contains(secret));
    }
    assert_eq!(
        pusher
            .post(&format!("/{secret}"), secret, secret)
            .await?
            .status()
            .as_u16(),
        404
    );
    let records = "/v1/tables/landfast.rows/records";
    for (kind, body, status) in [
        ("application/json", format!("{{\"id\":\"{secret}\"}}"), 200),
        ("application/x-ndjson", format!("{secret}\n{{\"{secret}\":"), 200),
        (secret, secret.to_owned(), 415),
    ] {
        let answer = pusher.post(records, kind, body).await?;
        assert_eq!(answer.status().as_u16(), status);
        assert!(!answer.text().await?.contains(secret));
    }
    // Letters cannot be written: an error is logged for each.
    let letters = lake.path().join("dead-letters");
    std::fs::remove_dir_all(&letters)?;
    std::fs::write(&letters, "")?;
    assert_eq!(
        pusher
            .push(&Push::new("rows", 7, format!("{{\"id\":\"{secret}\"}}")))
            .await,
        503
    );
    assert_eq!(
        pusher
            .push(&Push::new("", 8, secret).attribute("x", secret))
            .await,
        503
    );
    // The table does not fit: so is this.
    std::fs::remove_dir_all(lake.table("landfast.rows"))?;
    std::fs::write(lake.table("landfast.rows"), "")?;
    assert_eq!(
        pusher
            .push(&Push::json("rows", 9, &json!({"id": 2, "text": secret})))
            .await,
        503
    );
    server.terminate()?;
    server
        .logged(&["ERROR", "A request was refused.", "Stopping"])
        .await?;
    let log = server.log();
    let leak = log.lines().find(|line| line.contains(secret));
    assert_eq!(leak, None);
    for encoded in [
        base64_of(secret),
        base64_of(&format!(" {secret}")),
        base64_of(&format!("  {secret}")),
    ] {
        let middle = &encoded[4..encoded.len() - 4];
        assert!(!log.contains(middle), "logged in base64");
    }
    Ok(())
}

fn base64_of(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}
