//! From a bucket or a topic to the table that others read, with kills in the middle: Google's emulator of Pub/Sub sends
//! what Cloud Storage's server tells it, or what is published; landfast lands it in a `gs://` table of that server, and moves
//! the pointer of an external table in BigQuery's stand-in, whose metadata others read.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::support::bigquery::{BigQueryFront, PROJECT};
use crate::support::gcs::GcsFront;
use crate::support::pubsub::PubSub;
use crate::support::readers::Reader;
use crate::support::seed::seeded;
use crate::support::server::{Server, landfast};
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        objects_of_a_bucket_land_once_whatever_is_killed,
        pushed_messages_land_once_whatever_is_killed,
        pulled_messages_land_once_whatever_is_killed,
    ]
}

/// How often something is sent, and so how often the process may be killed.
const STEPS: i64 = 12;

/// Rows of a step's object, and messages of a step: after nacks the emulator pushes a few a second, for minutes, and it goes
/// on giving messages to the streams of the dead.
const ROWS: i64 = 40;
const MESSAGES: i64 = 10;

/// Until everything landed, redeliveries by the emulator included.
const UNTIL: Duration = Duration::from_secs(300);

/// The emulator gives what waits to one stream at a time, until the lease ends; those of the dead have turns, too.
const ROUND: Duration = Duration::from_secs(10);

/// When nothing came for as long, nothing comes again: the emulator sends what is not acknowledged every second or so.
const QUIET: Duration = Duration::from_secs(4);

/// By which way rows come.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Objects,
    Pushes,
    Pulls,
}

/// A pipeline of its own: its prefix of the buckets, its subscription, its table.
struct Pipeline {
    way: Way,
    name: String,
    address: String,
    folder: TempDir,
    front: Arc<GcsFront>,
    bigquery: BigQueryFront,
    pubsub: PubSub,
    http: reqwest::Client,
}

async fn objects_of_a_bucket_land_once_whatever_is_killed() -> TestResult {
    land_under_fire(Way::Objects).await
}

async fn pushed_messages_land_once_whatever_is_killed() -> TestResult {
    land_under_fire(Way::Pushes).await
}

async fn pulled_messages_land_once_whatever_is_killed() -> TestResult {
    land_under_fire(Way::Pulls).await
}

async fn land_under_fire(way: Way) -> TestResult {
    let pipeline = Pipeline::new(way).await?;
    let outcome = fire(&pipeline).await;
    // Else the emulator goes on pushing, to whoever has the port next.
    outcome.and(pipeline.pubsub.delete(&pipeline.name).await)
}

async fn fire(pipeline: &Pipeline) -> TestResult {
    let way = pipeline.way;
    let (mut random, mut kills) = (seeded(), 0);
    let mut server = pipeline.start().await?;
    for step in 0..STEPS {
        let is_killed = random.random_bool(0.3) || step == STEPS / 2;
        // In the middle of a commit, which nobody will know the outcome of: done, or not.
        let in_commit = (is_killed && random.random_bool(0.7) || step == STEPS / 2)
            .then(|| pipeline.front.hold("/metadata/v", random.random_bool(0.5)));
        pipeline.send(step).await?;
        match in_commit {
            // Whoever joined meanwhile is killed as well.
            Some(commit) => drop(timeout(UNTIL, pipeline.reach(&commit)).await??),
            None => sleep(Duration::from_millis(random.random_range(0..400))).await,
        }
        if is_killed {
            server.kill()?;
            kills += 1;
            server = pipeline.start_again(&mut random).await?;
        }
    }
    let mut fleet = vec![server];
    if way == Way::Pulls {
        // The emulator sends what is left at random, and to the streams of the dead too: several that live are through
        // sooner.
        for _ in 0..7 {
            fleet.push(pipeline.start().await?);
        }
    }
    // A process that was killed after an answer leaves the pointer to the next commit.
    pipeline.send(STEPS).await?;
    let all: BTreeSet<i64> = (0..=STEPS).flat_map(|step| pipeline.rows(step)).collect();
    wait_for("all rows", UNTIL, async || {
        let (ids, _) = pipeline.ids(Reader::pyiceberg().ok()?).await.ok()?;
        (ids == all).then_some(())
    })
    .await?;
    wait_until_quiet(&fleet).await?;
    // What BigQuery reads is what others do, in the end.
    let published = wait_for("the pointer to be at the newest metadata", UNTIL, async || {
        let uri = pipeline.bigquery.uri("orders").await.ok()?;
        let newest = pipeline.pointer().await.ok()?;
        newest.starts_with(&format!("{uri}?")).then_some(newest)
    })
    .await?;
    for reader in Reader::all()? {
        let rows = reader.rows(&published)?;
        let ids: BTreeSet<i64> = rows.iter().filter_map(|row| row["id"].as_i64()).collect();
        assert_eq!(
            (ids.len(), rows.len()),
            (all.len(), all.len()),
            "{way:?}, {kills} kills"
        );
    }
    pipeline.bigquery.documented()?;
    for mut server in fleet {
        server.terminate()?;
        assert!(server.exited().await?.success());
    }
    Ok(())
}

/// Waits until no delivery has come to any of them for a while.
async fn wait_until_quiet(fleet: &[Server]) -> TestResult {
    let mut last = (f64::NAN, Instant::now());
    wait_for("the last redelivery", UNTIL, async || {
        let mut count = 0.0;
        for server in fleet {
            // None yet where nothing came to it.
            count += server.metric("landfast_deliveries_total").await.unwrap_or(0.0);
        }
        if count != last.0 {
            last = (count, Instant::now());
        }
        (last.1.elapsed() > QUIET).then_some(())
    })
    .await
}

impl Pipeline {
    async fn new(way: Way) -> TestResult<Self> {
        let (front, pubsub) = (Arc::new(GcsFront::start().await?), PubSub::of_landing()?);
        let name = format!("path-{}", &Uuid::new_v4().simple().to_string()[..8]);
        // Whoever pushes knows one address, also after a kill.
        let address = match way {
            Way::Pulls => "127.0.0.1:0".to_owned(),
            _ => TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string(),
        };
        let pipeline = Self {
            way,
            name,
            address,
            folder: TempDir::new()?,
            front,
            bigquery: BigQueryFront::start().await?,
            pubsub,
            http: reqwest::Client::builder().no_proxy().build()?,
        };
        pipeline.prepare().await?;
        Ok(pipeline)
    }

    async fn prepare(&self) -> TestResult {
        let topic = if self.way == Way::Objects {
            // There already, as may be the bucket.
            let bucket = self
                .http
                .post(format!("{}/storage/v1/b?project=p-test", self.front.server()));
            bucket.json(&json!({ "name": "landing" })).send().await?;
            "landing"
        } else {
            self.pubsub.topic(&self.name).await?;
            &self.name
        };
        let push = match self.way {
            Way::Pulls => json!({}),
            _ => json!({ "pushConfig": { "pushEndpoint": format!("http://{}/", self.address) } }),
        };
        self.pubsub.subscribe(&self.name, topic, push).await?;
        let name = &self.name;
        let from = match self.way {
            Way::Objects => format!("bucket: landing, objects: \"{name}/**\""),
            _ => format!("subscription: {name}"),
        };
        // The copies' own events come, too.
        let after = if self.way == Way::Objects { "move" } else { "keep" };
        let config = format!(
            "warehouse: gs://lake/{name}/warehouse\ncatalog: {{ type: storage }}\ndead_letters: gs://lake/{name}/letters\n\
             server: {{ listen: \"{}\", push_auth: off, ack_deadline: 10s }}\ntables:\n  shop.orders: {{ from: [{{ {from} \
             }}], after: {after}, batch: {{ commit_interval: 200ms }}, schema: [{{ name: id, type: long, required: true }}], publish: {{ bigquery: {{ dataset: {}, \
             connection: us.lake }} }} }}\n",
            self.address,
            self.bigquery.dataset()
        );
        std::fs::write(self.config(), config)?;
        Ok(())
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("landfast.yaml")
    }

    fn command(&self) -> Command {
        let mut command = match self.way {
            Way::Pulls => self.pubsub.command(&self.config()),
            _ => {
                let mut command = landfast(["serve", "--config"]);
                command.arg(self.config());
                command
            }
        };
        command
            .env("STORAGE_EMULATOR_HOST", self.front.url())
            .env("BIGQUERY_EMULATOR_HOST", self.bigquery.host())
            .env("GOOGLE_CLOUD_PROJECT", PROJECT);
        command
    }

    async fn start(&self) -> TestResult<Server> {
        Server::start(self.command()).await
    }

    /// Waits until a commit is held. Of pulls, one more process joins each round, so that the living have most of the turns.
    async fn reach(&self, commit: &Notify) -> TestResult<Vec<Server>> {
        let mut joined = Vec::new();
        while timeout(ROUND, commit.notified()).await.is_err() {
            if self.way == Way::Pulls {
                joined.push(self.start().await?);
            }
        }
        Ok(joined)
    }

    /// After a while in which nobody is there.
    async fn start_again(&self, random: &mut StdRng) -> TestResult<Server> {
        sleep(Duration::from_millis(random.random_range(0..300))).await;
        self.start().await
    }

    /// The ids of a step's rows.
    fn rows(&self, step: i64) -> Range<i64> {
        let rows = match self.way {
            Way::Objects => ROWS,
            Way::Pushes | Way::Pulls => MESSAGES,
        };
        step * rows..(step + 1) * rows
    }

    /// Puts an object, every fourth one too large to share a commit, or publishes messages.
    async fn send(&self, step: i64) -> TestResult {
        let ids = self.rows(step);
        if self.way != Way::Objects {
            let rows = ids.map(|id| json!({ "id": id }).to_string());
            self.pubsub.publish(&self.name, rows).await?;
            return Ok(());
        }
        let filler = if step % 4 == 3 {
            "x".repeat(40_000)
        } else {
            String::new()
        };
        let rows: String = ids
            .map(|id| format!("{{\"id\":{id},\"filler\":\"{filler}\"}}\n"))
            .collect();
        let url = format!(
            "{}/upload/storage/v1/b/landing/o?uploadType=media&name={}/{step}.json",
            self.front.server(),
            self.name
        );
        self.http.post(url).body(rows).send().await?.error_for_status()?;
        Ok(())
    }

    /// The ids in the table, and its number of rows.
    async fn ids(&self, reader: &Reader) -> TestResult<(BTreeSet<i64>, usize)> {
        let rows = reader.rows(self.pointer().await?)?;
        let ids = rows.iter().filter_map(|row| row["id"].as_i64()).collect();
        Ok((ids, rows.len()))
    }

    /// The newest metadata file, as readers find it.
    async fn pointer(&self) -> TestResult<String> {
        let folder = format!("{}/warehouse/shop/orders/metadata/v", self.name);
        let listed = self
            .http
            .get(format!("{}/storage/v1/b/lake/o", self.front.server()));
        let listed: Value = listed.query(&[("prefix", &folder)]).send().await?.json().await?;
        let version = |item: &Value| -> Option<(u64, String)> {
            let name = item["name"].as_str()?;
            let number = name.strip_prefix(&folder)?.strip_suffix(".metadata.json")?;
            Some((number.parse().ok()?, name.to_owned()))
        };
        let items = listed["items"].as_array().into_iter().flatten();
        let (_, newest) = items.filter_map(version).max().ok_or("no metadata")?;
        Ok(format!("gs://lake/{newest}?endpoint={}", self.front.server()))
    }
}
