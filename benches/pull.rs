//! How fast `landfast pull` lands messages, against what the emulator delivers to an empty handler in the same run.
//!
//! `PUBSUB_EMULATOR_HOST=HOST:PORT cargo bench --bench pull -- [MESSAGES]` publishes 100,000 messages of 300 B three times,
//! each time to two subscriptions. One is drained by Google's client with a handler that only acknowledges, one by the
//! binary into a table on the local disk; who comes first changes. It prints messages/s of both and their ratio, and
//! fails where a row is missing or there twice.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement stops at the first surprise, and is told where the emulator is"
)]

use std::collections::HashSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use google_cloud_auth::credentials::anonymous;
use google_cloud_pubsub::client::Subscriber;
use serde_json::{Value, json};
use uuid::Uuid;

const ROUNDS: usize = 3;
/// Both may hold as many.
const HELD: usize = 20_000;

struct Emulator {
    host: String,
    http: reqwest::Client,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let count: usize = std::env::args()
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(100_000);
    let Ok(host) = std::env::var("PUBSUB_EMULATOR_HOST") else {
        println!("PUBSUB_EMULATOR_HOST is not set: start tests/pubsub-emulator first");
        return;
    };
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let emulator = Emulator { host, http };
    let mut ratios = Vec::new();
    println!(
        "{:>5} {:>12} {:>12} {:>6}",
        "round", "empty/s", "landed/s", "ratio"
    );
    for round in 0..ROUNDS {
        let project = format!("p-{}", &Uuid::new_v4().simple().to_string()[..12]);
        emulator.publish(&project, count).await;
        let (empty, landed) = if round % 2 == 0 {
            let empty = emulator.drain(&project, count).await;
            (empty, emulator.land(&project, count).await)
        } else {
            let landed = emulator.land(&project, count).await;
            (emulator.drain(&project, count).await, landed)
        };
        let rate = |seconds: f64| count as f64 / seconds;
        println!(
            "{:>5} {:>12.0} {:>12.0} {:>6.2}",
            round,
            rate(empty),
            rate(landed),
            empty / landed
        );
        ratios.push(empty / landed);
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio {:.2}, lowest {:.2}", ratios[ROUNDS / 2], ratios[0]);
}

impl Emulator {
    async fn put(&self, path: &str, body: Value) {
        let url = format!("http://{}/v1/{path}", self.host);
        let made = self.http.put(url).json(&body).send().await.expect("an answer");
        assert!(made.status().is_success(), "{path}: {}", made.status());
    }

    /// Makes the topic and its two subscriptions, and fills them.
    async fn publish(&self, project: &str, count: usize) {
        let topic = format!("projects/{project}/topics/rows");
        self.put(&topic, json!({})).await;
        for name in ["empty", "landed"] {
            let path = format!("projects/{project}/subscriptions/{name}");
            self.put(&path, json!({ "topic": topic, "ackDeadlineSeconds": 60 }))
                .await;
        }
        let url = format!("http://{}/v1/{topic}:publish", self.host);
        let ids: Vec<usize> = (0..count).collect();
        for ids in ids.chunks(1000) {
            let messages = ids.iter().map(|id| {
                let row = json!({ "id": id, "text": "x".repeat(270) }).to_string();
                json!({ "data": STANDARD.encode(row) })
            });
            let messages: Vec<Value> = messages.collect();
            let sent = self.http.post(&url).json(&json!({ "messages": messages }));
            assert!(sent.send().await.expect("an answer").status().is_success());
        }
    }

    /// Seconds in which an empty handler gets every message.
    async fn drain(&self, project: &str, count: usize) -> f64 {
        let client = Subscriber::builder()
            .with_endpoint(format!("http://{}", self.host))
            .with_credentials(anonymous::Builder::new().build());
        let client = client.build().await.expect("a client");
        let begun = Instant::now();
        let mut stream = client
            .subscribe(format!("projects/{project}/subscriptions/empty"))
            .set_max_outstanding_messages(HELD as i64)
            .build();
        let mut seen = HashSet::with_capacity(count);
        while seen.len() < count {
            let (message, handler) = stream.next().await.expect("a message").expect("a stream");
            seen.insert(message.message_id);
            handler.ack();
        }
        let seconds = begun.elapsed().as_secs_f64();
        stream.shutdown_token().shutdown().await;
        seconds
    }

    /// Seconds from the start of the binary until every message is in a committed snapshot.
    async fn land(&self, project: &str, count: usize) -> f64 {
        let folder = tempfile::tempdir().expect("a folder");
        let config = write_config(folder.path());
        let port = free_port();
        let begun = Instant::now();
        let mut worker = Command::new(env!("CARGO_BIN_EXE_landfast"));
        worker.args([
            "pull",
            "--quiet",
            "--subscription",
            "landed",
            "--project",
            project,
        ]);
        worker.arg("--config").arg(&config);
        worker
            .env("PUBSUB_EMULATOR_HOST", &self.host)
            .env("PORT", port.to_string())
            .stdin(Stdio::null());
        let mut worker = Running(worker.spawn().expect("a worker"));
        let url = format!("http://127.0.0.1:{port}/metrics");
        while self.landed(&url).await < count as f64 {
            assert!(begun.elapsed() < Duration::from_secs(600), "too slow");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let seconds = begun.elapsed().as_secs_f64();
        worker.stop();
        prove(&config, count);
        seconds
    }

    async fn landed(&self, url: &str) -> f64 {
        let Ok(answer) = self.http.get(url).send().await else {
            return 0.0;
        };
        let text = answer.text().await.unwrap_or_default();
        let line = "landfast_deliveries_total{outcome=\"landed\"} ";
        let value = text.lines().find_map(|text| text.strip_prefix(line));
        value.and_then(|value| value.parse().ok()).unwrap_or(0.0)
    }
}

fn write_config(folder: &Path) -> std::path::PathBuf {
    let (file, place) = (folder.join("landfast.yaml"), folder.display());
    let text = format!(
        "warehouse: file://{place}/warehouse\ncatalog: {{ type: storage }}\ndead_letters: file://{place}/dead-letters\nserver: \
         {{ listen: '127.0.0.1:8080', max_in_flight_requests: {HELD} }}\ntables: {{ t.rows: {{ from: [{{ subscription: landed \
         }}], schema: [{{ name: id, type: long }}, {{ name: text, type: string }}] }} }}\n"
    );
    std::fs::write(&file, text).expect("a configuration");
    file
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Every row is there, and no delivery twice.
fn prove(config: &Path, count: usize) {
    let landfast = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_landfast"));
        let output = command.args(arguments).arg("--config").arg(config).output();
        let output = output.expect("a command");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    landfast(&["verify"]);
    let shown = landfast(&["show", "--output", "json", "t.rows"]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["rows"], json!(count), "{shown}");
}

/// The worker; killed when dropped.
struct Running(Child);

impl Running {
    fn stop(&mut self) {
        let told = Command::new("kill").arg(self.0.id().to_string()).status();
        assert!(told.expect("kill").success());
        assert!(self.0.wait().expect("its end").success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}
