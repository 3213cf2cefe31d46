//! Google Cloud itself, where somebody gives a project: `LANDFAST_TEST_LIVE=my-project cargo test --test integration -- live`.
//!
//! The tests make what they use in it, buckets, a topic, a dataset, a connection, a catalog, all named `landfast-live-…`, and
//! take it away again. They need Application Default Credentials of an owner, and cost some cents. Nobody has reported a run
//! yet: until then only the shapes of their requests are proven.

mod project;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use axum::Router;
use axum::http::Uri;
use libtest_mimic::Trial;
use serde_json::json;
use tokio::net::TcpListener;

use self::project::Project;
use crate::support::lake::Lake;
use crate::support::readers::{Sent, undocumented};
use crate::support::server::{Server, landfast};
use crate::support::{TestResult, trials, wait_for};

const REGION: &str = "us-central1";

/// Rows of the messages, and of each object.
const MESSAGES: i64 = 300;
const OBJECTS: i64 = 3;
const ROWS: i64 = 50;

const SCHEMA: &str = "schema: [{ name: id, type: long, required: true }]";

/// Until BigQuery sees what landed, a new subscription, notification and grant included.
const VISIBLE: Duration = Duration::from_secs(300);

pub fn tests() -> Vec<Trial> {
    trials![
        bigquery_reads_what_messages_and_objects_brought,
        bigquery_reads_what_was_committed_to_biglake,
        requests_of_the_live_tests_are_documented,
    ]
}

async fn bigquery_reads_what_messages_and_objects_brought() -> TestResult {
    let project = Project::given().await?;
    let outcome = messages_and_objects(&project).await;
    outcome.and(project.clear().await)
}

async fn messages_and_objects(project: &Project) -> TestResult {
    let (lake, landing) = (
        project.bucket("lake", REGION).await?,
        project.bucket("in", REGION).await?,
    );
    let queue = project.queue("q").await?;
    project.notify(&landing, &queue).await?;
    let (dataset, connection) = project.dataset(REGION, &lake).await?;
    let folder = Lake::new()?;
    let config = folder.write_config(&format!(
        "warehouse: gs://{lake}/warehouse\ncatalog: {{ type: storage }}\ndead_letters: gs://{lake}/letters\nserver: {{ listen: \
         \"127.0.0.1:0\", push_auth: off, ack_deadline: 60s }}\ntables:\n  shop.orders: {{ from: [{{ subscription: {queue} }}, {{ \
         bucket: {landing} }}], {SCHEMA}, after: move, publish: {{ bigquery: {{ dataset: {dataset}, table: orders, connection: \
         {connection}, project: {} }} }} }}\n",
        project.id
    ))?;
    done(landfast(["check", "--project", &project.id]), &config)?;
    let mut worker = pull(project, &config).await?;
    project
        .publish(&queue, (0..MESSAGES).map(|id| json!({ "id": id }).to_string()))
        .await?;
    for object in 0..OBJECTS {
        let first = MESSAGES + object * ROWS;
        let rows: String = (first..first + ROWS)
            .map(|id| format!("{{\"id\":{id}}}\n"))
            .collect();
        project.put(&landing, &format!("{object}.json"), rows).await?;
        worker.kill()?;
        worker = pull(project, &config).await?;
    }
    let all = (MESSAGES + OBJECTS * ROWS).to_string();
    let statement = format!(
        "SELECT COUNT(*), COUNT(DISTINCT id) FROM `{}.{dataset}.orders`",
        project.id
    );
    wait_for("BigQuery to see all rows", VISIBLE, async || {
        let row = project.query(&statement, REGION).await.ok()?;
        (row == [all.clone(), all.clone()]).then_some(())
    })
    .await?;
    worker.terminate()?;
    let _status = worker.exited().await?;
    done(landfast(["verify"]), &config)
}

async fn bigquery_reads_what_was_committed_to_biglake() -> TestResult {
    let project = Project::given().await?;
    let outcome = biglake(&project).await;
    outcome.and(project.clear().await)
}

async fn biglake(project: &Project) -> TestResult {
    let bucket = project.bucket("lake", REGION).await?;
    project.catalog(&bucket).await?;
    let folder = Lake::new()?;
    let config = folder.write_config(&format!(
        "warehouse: gs://{bucket}\ncatalog: {{ type: biglake, warehouse: \"gs://{bucket}\", user_project: {} }}\ndead_letters: \
         gs://{bucket}/letters\nserver: {{ push_auth: off }}\ntables:\n  shop.orders: {{ {SCHEMA} }}\n",
        project.id
    ))?;
    let file = folder.path().join("rows.json");
    let rows: String = (0..ROWS).map(|id| format!("{{\"id\":{id}}}\n")).collect();
    std::fs::write(&file, rows)?;
    let load = || {
        let mut load = landfast(["load", "--table", "shop.orders"]);
        load.arg(&file);
        load
    };
    done(load(), &config)?;
    done(load(), &config)?;
    let table = format!("`{}.{bucket}.shop.orders`", project.id);
    let row = project
        .query(
            &format!("SELECT COUNT(*), COUNT(DISTINCT id) FROM {table}"),
            REGION,
        )
        .await?;
    match row == [ROWS.to_string(), ROWS.to_string()] {
        true => Ok(()),
        false => Err(format!("BigQuery sees {row:?}").into()),
    }
}

async fn pull(project: &Project, config: &Path) -> TestResult<Server> {
    let mut command = landfast(["pull", "--project", &project.id, "--config"]);
    command.arg(config);
    Server::start(command).await
}

/// Runs a command to its end, which is to succeed.
fn done(mut command: Command, config: &Path) -> TestResult {
    let output = tokio::task::block_in_place(|| command.arg("--config").arg(config).output())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(()),
        // No panic: what was made is still to be taken away.
        false => Err(format!("{command:?}: {}{}", text(&output.stdout), text(&output.stderr)).into()),
    }
}

/// What can be proven without a project: that Google's documents have every request that makes and clears one up.
async fn requests_of_the_live_tests_are_documented() -> TestResult {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    // What is read of an answer; a policy goes back as it came.
    let answer = async |uri: Uri| {
        let answer = match uri.path().rsplit('/').next() {
            Some("iam") => json!({ "bindings": [] }),
            Some("serviceAccount") => json!({ "email_address": "agent@p.iam" }),
            Some("connections") => json!({ "cloudResource": { "serviceAccountId": "connection@p.iam" } }),
            Some("queries") => json!({ "rows": [{ "f": [{ "v": "7" }] }] }),
            _ => json!({}),
        };
        answer.to_string()
    };
    let everywhere = Router::new().fallback(answer);
    tokio::spawn(axum::serve(listener, everywhere).into_future());
    let project = Project::at(&base)?;
    let (lake, landing) = (
        project.bucket("lake", REGION).await?,
        project.bucket("in", REGION).await?,
    );
    let queue = project.queue("q").await?;
    project.notify(&landing, &queue).await?;
    project.dataset(REGION, &lake).await?;
    project.catalog(&lake).await?;
    project.publish(&queue, ["{}".to_owned()]).await?;
    assert_eq!(project.query("SELECT 7", REGION).await?, ["7"]);
    project.clear().await?;
    let sent = project.sent();
    let deleted = sent.iter().filter(|(_, sent)| sent.method == "DELETE").count();
    assert_eq!(deleted, 7, "{sent:?}");
    for document in ["storage.v1", "pubsub.v1", "bigquery.v2", "bigqueryconnection.v1"] {
        let of: Vec<Sent> = sent
            .iter()
            .filter(|(api, _)| api.document == Some(document))
            .map(|(_, sent)| sent.clone())
            .collect();
        assert!(of.len() > 1, "{document}: {of:?}");
        let problems = undocumented(document, &of)?;
        assert!(problems.is_empty(), "{problems:?}");
    }
    Ok(())
}
