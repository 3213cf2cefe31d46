//! What commands write to standard error and output: log lines for machines, silence when asked, examples, a folder
//! instead of a configuration.

use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::support::lake::Lake;
use crate::support::push::{Push, Pusher};
use crate::support::server::{Server, landfast, run};
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        logs_for_machines_are_nothing_but_log_lines,
        failures_are_log_lines_for_machines,
        quiet_dev_says_nothing,
        every_commit_is_in_a_line_of_the_log,
        folder_of_dev_is_shown_and_loaded_without_a_configuration,
        help_shows_an_example_that_is_a_command,
    ]
}

const TABLE: &str =
    "tables: { t.rows: { from: [{ subscription: rows }], schema: [{ name: id, type: long }] } }";

/// Each line as the JSON object that it must be.
fn lines(log: &str) -> TestResult<Vec<Value>> {
    let parsed = log.lines().map(|line| match serde_json::from_str(line) {
        Ok(Value::Object(fields)) => Ok(Value::Object(fields)),
        _ => Err(format!("not a log line: {line:?}").into()),
    });
    parsed.collect()
}

async fn logs_for_machines_are_nothing_but_log_lines() -> TestResult {
    for format in ["json", "stackdriver"] {
        let (lake, folder) = (Lake::new()?, Lake::new()?);
        let mut serve = landfast(["serve", "--log", format, "--config"]);
        serve.arg(lake.config("", TABLE)?);
        let mut dev = landfast(["dev", "--listen", "127.0.0.1:0", "--log", format, "--dir"]);
        dev.arg(folder.path());
        for command in [serve, dev] {
            let mut server = Server::start(command).await?;
            let statuses = [
                Push::new("rows", 1, "{\"id\":1}"),
                Push::new("rows", 2, "{\"id\":\"x\"}"),
            ];
            assert_eq!(server.pusher().push_all(&statuses, 1).await, [204, 204]);
            server.terminate()?;
            assert!(server.exited().await?.success());
            server
                .logged(&["listening on http://", "Committed.", "Stopped"])
                .await?;
            assert!(lines(&server.log())?.len() >= 5);
        }
    }
    Ok(())
}

async fn failures_are_log_lines_for_machines() -> TestResult {
    let lake = Lake::new()?;
    let broken = lake
        .config("", "tables: { t.rows: { form: [] } }")?
        .display()
        .to_string();
    for (arguments, word) in [
        (&["serve", "--config", &broken][..], "`from`"),
        (&["config", "validate", "--config", &broken], "`from`"),
        (&["show", "--dir", "/nowhere", "a.b"], "/nowhere"),
        (
            &["load", "--config", "/nowhere.yaml", "--table", "a.b", "-"],
            "--dir",
        ),
    ] {
        let (code, out, err) = run([arguments, &["--log", "json"]].concat())?;
        assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
        let told = lines(&err)?;
        assert!(told.iter().all(|line| line["level"] == "ERROR"), "{err}");
        assert!(err.contains(word), "{err}");
        let (code, _, err) = run(arguments)?;
        assert!(
            code == Some(2) && err.contains(word) && !err.starts_with('{'),
            "{err}"
        );
    }
    // A wrong filter is what logging itself cannot start with.
    let mut command = landfast(["config", "validate", "--log", "json"]);
    let told = command.env("RUST_LOG", "landfast=loud").output()?;
    assert_eq!(
        (told.status.code(), lines(&String::from_utf8(told.stderr)?)?.len()),
        (Some(2), 1)
    );
    Ok(())
}

async fn quiet_dev_says_nothing() -> TestResult {
    let lake = Lake::new()?;
    // It does not say where it listens, so we do. Another process may take the port meanwhile, but hardly does.
    let address = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .to_string();
    let mut command = landfast(["dev", "--quiet", "--listen", &address, "--dir"]);
    let mut child = command
        .arg(lake.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let pusher = Pusher::new(&format!("http://{address}"));
    let ready = wait_for("the server to be ready", Duration::from_secs(20), async || {
        let (status, _) = pusher.get("/health/ready").await.ok()?;
        (status == 200).then_some(())
    });
    let ready = ready.await;
    let status = pusher.push(&Push::new("rows", 1, "{\"id\":1}")).await;
    let stopped = Command::new("sh")
        .args(["-c", "kill -TERM \"$0\"", &child.id().to_string()])
        .status()?;
    if !stopped.success() {
        child.kill()?;
    }
    let output = child.wait_with_output()?;
    ready?;
    assert_eq!((status, output.status.code()), (204, Some(0)));
    assert_eq!(
        (output.stdout.as_slice(), output.stderr.as_slice()),
        (&b""[..], &b""[..])
    );
    Ok(())
}

async fn every_commit_is_in_a_line_of_the_log() -> TestResult {
    let lake = Lake::new()?;
    let table = TABLE.replace("schema", "batch: { commit_interval: 0s }, schema");
    let mut command = landfast(["serve", "--log", "json", "--config"]);
    command.arg(lake.config("", &table)?);
    let mut server = Server::start(command).await?;
    let pushes: Vec<_> = (0..100)
        .map(|id| Push::json("rows", id, &json!({"id": id})))
        .collect();
    assert_eq!(server.pusher().push_all(&pushes, 1).await, [204; 100]);
    // Without a next commit or an end: what came close behind the last line is told a second later.
    let told = async |field: &str| {
        let lines = lines(&server.log()).ok()?;
        let commits = lines
            .iter()
            .filter(|line| line["fields"]["message"] == "Committed.");
        let values: Vec<Value> = commits.map(|line| line["fields"][field].clone()).collect();
        Some((
            values.len(),
            values.iter().filter_map(Value::as_f64).sum::<f64>(),
            values,
        ))
    };
    wait_for(
        "the last commits to be told",
        Duration::from_secs(20),
        async || (told("rows").await?.1 == 100.0).then_some(()),
    )
    .await?;
    for (metric, field) in [
        ("iceberg_batches_committed_total", "commits"),
        ("landfast_deliveries_total", "deliveries"),
        ("iceberg_records_written_total", "rows"),
        ("iceberg_batches_committed_total", "files"),
        ("iceberg_bytes_written_total", "bytes"),
    ] {
        let (count, sum, _) = told(field).await.ok_or("log lines")?;
        assert_eq!(sum, server.metric(metric).await?, "{field}");
        assert!(count > 1 && count < 100, "{count} lines");
    }
    let (_, _, snapshots) = told("snapshot.id").await.ok_or("log lines")?;
    let (_, _, tables) = told("table.ident").await.ok_or("log lines")?;
    assert!(tables.iter().all(|table| table == "t.rows"), "{tables:?}");
    let (code, out, err) = run([
        "show",
        "--output",
        "json",
        "--config",
        &lake.path().join("landfast.yaml").display().to_string(),
        "t.rows",
    ])?;
    assert_eq!(code, Some(0), "{err}");
    let shown: Value = serde_json::from_str(&out)?;
    let newest = &shown["snapshots"][0]["snapshot_id"];
    assert_eq!(snapshots.last().map(Value::to_string).as_deref(), newest.as_str());
    server.terminate()?;
    assert!(server.exited().await?.success());
    Ok(())
}

async fn folder_of_dev_is_shown_and_loaded_without_a_configuration() -> TestResult {
    let lake = Lake::new()?;
    let dir = lake.path().display().to_string();
    let server = Server::dev(lake.path()).await?;
    assert_eq!(
        server.pusher().push(&Push::new("orders", 1, "{\"id\":1}")).await,
        204
    );
    // Beside the running server, which writes the same table.
    let file = lake.path().join("more.ndjson");
    std::fs::write(&file, "{\"id\":2}\n{\"id\":3}\n")?;
    let file = file.display().to_string();
    let (code, out, err) = run(["load", "--dir", &dir, "--table", "landfast.orders", &file])?;
    assert!(code == Some(0) && out.contains(": 2 rows, "), "{out} {err}");
    assert_eq!(
        server.pusher().push(&Push::new("orders", 2, "{\"id\":4}")).await,
        204
    );
    let (code, out, err) = run(["show", "--dir", &dir, "landfast.orders", "--output", "json"])?;
    let shown: Value = serde_json::from_str(&out)?;
    assert_eq!((code, &shown["rows"]), (Some(0), &json!(4)), "{err}");
    assert_eq!(lake.ids("landfast.orders", "id")?, ([1, 2, 3, 4].into(), 4));

    let other = lake.path().join("other").display().to_string();
    let (code, _, err) = run(["show", "--dir", &other, "landfast.orders"])?;
    assert!(
        code == Some(2) && err.contains(&other) && err.contains("--dir"),
        "{err}"
    );
    assert!(!lake.path().join("other").exists());
    let both = run(["show", "--dir", &dir, "--config", "x.yaml", "landfast.orders"])?;
    assert_eq!(both.0, Some(2));
    Ok(())
}

async fn help_shows_an_example_that_is_a_command() -> TestResult {
    for command in [
        &["dev"][..],
        &["serve"],
        &["load"],
        &["show"],
        &["config", "validate"],
        &["config", "print"],
        &["maintain"],
        &["verify"],
        &["ledger", "show"],
        &["ledger", "forget"],
        &["ledger", "repair"],
    ] {
        let (code, out, _) = run([command, &["--help"]].concat())?;
        assert_eq!(code, Some(0));
        assert!(out.contains("Exit status: 0 "), "{out}");
        let (_, examples) = out.split_once("\nExample").ok_or("an example")?;
        let examples: Vec<_> = examples
            .lines()
            .filter_map(|line| line.strip_prefix("  landfast "))
            .collect();
        assert!(!examples.is_empty(), "{out}");
        for example in examples {
            assert!(example.starts_with(&command.join(" ")), "{example}");
            // Every option of it is one of the command.
            for option in example.split_whitespace().filter(|word| word.starts_with("--")) {
                assert!(out.matches(option).count() > 1, "{option}: {out}");
            }
        }
    }
    Ok(())
}
