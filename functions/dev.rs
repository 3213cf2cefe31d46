//! `landfast dev`: the whole pipeline on a folder of this machine.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use iceberg::TableIdent;
use landfast::app::{self, App, Parts};
use landfast::config::Config;
use landfast::error::{Error, ErrorKind, Result};
use landfast::telemetry;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::output::{OutputFormat, block_on, complain, failed, listening, say, shutdown_signal, tell};

const DEMO_SUBSCRIPTION: &str = "projects/local/subscriptions/orders";
const DEMO_ORDERS: i64 = 1000;
const DEMO_CONNECTIONS: usize = 64;
const DEMO_ROWS_SHOWN: usize = 10;

/// Arguments of `dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Where everything is kept.
    #[arg(long, default_value = "./landfast-data")]
    dir: PathBuf,
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Send sample orders as real pushes, and print the rows read back.
    #[arg(long)]
    demo: bool,
}

/// Serves until SIGTERM or Ctrl-C.
pub fn run(args: &DevArgs, output: OutputFormat) -> ExitCode {
    match Config::dev(&args.dir, args.listen) {
        Ok(config) => block_on(dev(Arc::new(config), args, output)),
        Err(error) => failed(&error),
    }
}

async fn dev(config: Arc<Config>, args: &DevArgs, output: OutputFormat) -> Result<()> {
    let metrics = telemetry::start_metrics()?;
    let app = App::new(config.clone(), Parts::from_config(&config).await?);
    let listener = app::bind(args.listen).await?;
    let address = listener.local_addr().map_err(|error| {
        Error::new(ErrorKind::Unavailable, "The listener has no address.").with_source(error)
    })?;
    greet(&config, address);
    let serving = app::run(app.clone(), listener, metrics, shutdown_signal());
    if !args.demo {
        return serving.await;
    }
    let demo = async {
        if let Err(error) = demo(&app, &config, address, output).await {
            complain(&format!("landfast: the demo failed: {}", error.report()));
        }
    };
    let (served, ()) = tokio::join!(serving, demo);
    served
}

fn greet(config: &Config, address: SocketAddr) {
    let body = push_body(
        DEMO_SUBSCRIPTION,
        "1",
        Utc::now(),
        &json!({"id": 1, "item": "ice axe", "total": 89.9}),
    );
    let warehouse = Path::new(config.warehouse.path());
    listening(address);
    say(&format!("  tables        {}", warehouse.display()));
    say(&format!("  dead letters  {}", config.dead_letters.path()));
    say("");
    say("Send an event:");
    say(&format!(
        "  curl -i http://{address}/ -H 'content-type: application/json' -d '{body}'"
    ));
    say("Or rows as they are:");
    say(&format!(
        "  curl http://{address}/v1/tables/{}/records -H 'content-type: application/json' -d '[{{\"id\": 2}}]'",
        demo_table()
    ));
    say("Query it:");
    say(&format!(
        "  duckdb -c \"install iceberg; load iceberg; from iceberg_scan('{}')\"",
        warehouse.join("landfast").join("orders").display()
    ));
    say("");
}

fn push_body(subscription: &str, message_id: &str, published_at: DateTime<Utc>, event: &Value) -> Value {
    json!({
        "subscription": subscription,
        "message": {
            "messageId": message_id,
            "publishTime": published_at.to_rfc3339_opts(SecondsFormat::Millis, true),
            "data": BASE64.encode(event.to_string()),
        },
    })
}

/// Sends the sample orders and one event that is broken, and shows what became of them.
async fn demo(app: &App, config: &Config, address: SocketAddr, output: OutputFormat) -> Result<()> {
    let dead_letters = config.dead_letters.path();
    let url = format!("http://{address}/");
    let client = reqwest::Client::new();
    let run = Uuid::new_v4();
    say(&format!(
        "Demo: {DEMO_ORDERS} orders as Pub/Sub pushes over {DEMO_CONNECTIONS} connections ..."
    ));
    let answered = stream::iter(0..DEMO_ORDERS)
        .map(|number| {
            let published_at = Utc::now();
            let order = sample_order(number, published_at);
            let body = push_body(
                DEMO_SUBSCRIPTION,
                &format!("demo-{run}-{number}"),
                published_at,
                &order,
            );
            let request = client.post(&url).json(&body);
            async move { request.send().await.map(|response| response.status().as_u16()) }
        })
        .buffer_unordered(DEMO_CONNECTIONS)
        .try_fold(0u64, |landed, status| async move {
            Ok(landed + u64::from(status == 204))
        })
        .await
        .map_err(|error| Error::new(ErrorKind::Unavailable, "A push got no answer.").with_source(error))?;
    let broken = push_body(
        DEMO_SUBSCRIPTION,
        &format!("demo-{run}-broken"),
        Utc::now(),
        &json!({"total": "a lot"}),
    );
    let sent = client.post(&url).json(&broken).send().await;
    let broken = sent.map_or(0, |response| response.status().as_u16());
    let table = app.catalog().load_table(&demo_table()).await?;
    let rows = read_rows(&table, DEMO_ROWS_SHOWN).await?;
    let location = table.metadata_location().unwrap_or_default();
    let summary = table
        .metadata()
        .current_snapshot()
        .map(|snapshot| snapshot.summary());
    let total = summary.and_then(|summary| summary.additional_properties.get("total-records"));
    let total: u64 = total.and_then(|total| total.parse().ok()).unwrap_or_default();
    match output {
        OutputFormat::Json => tell(
            &json!({"answered": answered, "table": demo_table().to_string(), "rows": total, "metadata": location})
                .to_string(),
        ),
        OutputFormat::Text => tell(&format!(
            "{rows}\n{answered} orders answered 204; {} now holds {total} rows, read from\n  {location}\n\
             1 event with a text where a number belongs answered {broken}; it is kept, with its reason, in\n  \
             {dead_letters}/{}",
            demo_table(),
            demo_table()
        )),
    }?;
    say("Serving on; Ctrl-C stops.");
    Ok(())
}

fn demo_table() -> TableIdent {
    TableIdent::new(
        iceberg::NamespaceIdent::new("landfast".to_owned()),
        "orders".to_owned(),
    )
}

fn sample_order(number: i64, at: DateTime<Utc>) -> Value {
    const ITEMS: [(&str, f64); 4] = [
        ("ice axe", 89.9),
        ("crampons", 149.0),
        ("rope 60 m", 179.5),
        ("tent", 420.0),
    ];
    let place = usize::try_from(number).unwrap_or_default() % ITEMS.len();
    let (item, price) = ITEMS.get(place).copied().unwrap_or(("ice axe", 89.9));
    let quantity = number % 3 + 1;
    json!({
        "id": number,
        "at": (at - TimeDelta::seconds(number % 60)).to_rfc3339_opts(SecondsFormat::Micros, true),
        "customer": {"id": number % 97, "country": if number % 2 == 0 { "NO" } else { "GL" }},
        "item": item,
        "quantity": quantity,
        "total": (price * quantity as f64 * 100.0).round() / 100.0,
        "tags": if number % 5 == 0 { json!(["gift"]) } else { json!([]) },
    })
}

/// The first rows of the table as a reader sees them.
async fn read_rows(table: &iceberg::table::Table, limit: usize) -> Result<String> {
    let failed = |error: iceberg::Error| {
        Error::new(ErrorKind::Unavailable, "The table cannot be read back.").with_source(error)
    };
    let mut batches = table
        .scan()
        .build()
        .map_err(failed)?
        .to_arrow()
        .await
        .map_err(failed)?;
    let mut shown = Vec::new();
    let mut missing = limit;
    while let Some(batch) = batches.try_next().await.map_err(failed)? {
        let batch = batch.slice(0, missing.min(batch.num_rows()));
        missing -= batch.num_rows();
        shown.push(batch);
        if missing == 0 {
            break;
        }
    }
    arrow_cast::pretty::pretty_format_batches(&shown)
        .map(|text| text.to_string())
        .map_err(|error| Error::new(ErrorKind::Unavailable, "The rows cannot be shown.").with_source(error))
}
