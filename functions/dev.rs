//! `landfast dev`: the whole pipeline on a folder of this machine.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use iceberg::TableIdent;
use landfast::app::{self, App, Parts, Work};
use landfast::commit::total_records;
use landfast::config::Config;
use landfast::error::{Error, ErrorKind, Result};
use landfast::telemetry;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::output::{
    OutputFormat, block_on, complain, failed, listening, platform, say, shutdown_signal, start_traces, tell,
};

const DEMO_SUBSCRIPTION: &str = "projects/local/subscriptions/orders";
const DEMO_ORDERS: i64 = 1000;
const DEMO_CONNECTIONS: usize = 64;
const DEMO_ROWS_SHOWN: usize = 10;
const DEMO_FOLDER: &str = "customers";
const DEMO_CUSTOMERS: i64 = 97;
const DEMO_CUSTOMERS_SHOWN: usize = 3;
const DEMO_FILE_PATIENCE: Duration = Duration::from_secs(60);

/// Arguments of `dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Where everything is kept.
    #[arg(long, default_value = "./landfast-data")]
    dir: PathBuf,
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Send sample orders as real pushes, drop a sample file, and print the rows read back.
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
    let metrics = telemetry::start_metrics(&platform())?;
    start_traces()?;
    let app = App::new(config.clone(), Parts::from_config(&config).await?);
    let files = app.landing()?;
    let listener = app::bind(args.listen).await?;
    let address = listener.local_addr().map_err(|error| {
        Error::new(ErrorKind::Unavailable, "The listener has no address.").with_source(error)
    })?;
    greet(&config, address);
    let serving = app::run(
        app.clone(),
        listener,
        Work::Serve(files),
        metrics,
        shutdown_signal(),
    );
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
        // Another one each time: the table remembers the ids of messages.
        &Uuid::new_v4().to_string(),
        Utc::now(),
        &json!({"id": 1, "item": "ice axe", "total": 89.9}),
    );
    let warehouse = Path::new(config.warehouse.path());
    listening(address);
    say(&format!("  status page   http://{address}/"));
    say(&format!("  tables        {}", warehouse.display()));
    for landing in config.landing_folders() {
        say(&format!("  landing       {}", landing.path()));
    }
    say(&format!("  dead letters  {}", config.dead_letters.path()));
    say("");
    say("Send an event:");
    say(&format!(
        "  curl -i http://{address}/ -H 'content-type: application/json' -d '{body}'"
    ));
    say("Or rows as they are:");
    say(&format!(
        "  curl http://{address}/v1/tables/landfast.orders/records -H 'content-type: application/json' -d '[{{\"id\": 2}}]'"
    ));
    for landing in config.landing_folders() {
        say("Or put a file into the landing folder, in a folder named as its table:");
        say(&format!(
            "  mkdir -p '{0}/orders' && mv orders.ndjson '{0}/orders/'",
            landing.path()
        ));
    }
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

/// Sends the sample orders, one event that is broken, and a file, and shows what became of them.
async fn demo(app: &App, config: &Config, address: SocketAddr, output: OutputFormat) -> Result<()> {
    let (answered, orders) = demo_orders(app, config, address, output).await?;
    let file = demo_file(app, config, output).await?;
    if output == OutputFormat::Json {
        let told = json!({
            "answered": answered, "table": orders.table, "rows": orders.total, "metadata": orders.location,
            "file": {"table": file.table, "rows": file.total, "metadata": file.location},
        });
        tell(&told.to_string())?;
    }
    say("Serving on; Ctrl-C stops.");
    Ok(())
}

async fn demo_orders(
    app: &App,
    config: &Config,
    address: SocketAddr,
    output: OutputFormat,
) -> Result<(u64, Shown)> {
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
    let shown = Shown::read(app, "orders", DEMO_ROWS_SHOWN).await?;
    if output == OutputFormat::Text {
        let Shown {
            table,
            rows,
            total,
            location,
        } = &shown;
        tell(&format!(
            "{rows}\n{answered} orders answered 204; {table} now holds {total} rows, read from\n  {location}\n\
             1 event with a text where a number belongs answered {broken}; it is kept, with its reason, in\n  \
             {dead_letters}/{table}"
        ))?;
    }
    Ok((answered, shown))
}

/// Puts a file of the orders' customers into the landing folder, and waits until it is gone from there.
async fn demo_file(app: &App, config: &Config, output: OutputFormat) -> Result<Shown> {
    let landing = config.landing_folders().into_iter().next();
    let landing = landing.map_or_else(PathBuf::new, |landing| PathBuf::from(landing.path()));
    let folder = landing.join(DEMO_FOLDER);
    let file = folder.join(format!("sample-{}.ndjson", Uuid::new_v4()));
    let unwritable = |error: std::io::Error| {
        Error::new(ErrorKind::Unavailable, "The sample file cannot be written.")
            .with("file", file.display())
            .with_source(error)
    };
    write_sample(&folder, &file).map_err(unwritable)?;
    say(&format!(
        "Demo: a file of {DEMO_CUSTOMERS} customers in {} ...",
        folder.display()
    ));
    let deadline = tokio::time::Instant::now() + DEMO_FILE_PATIENCE;
    while file.exists() {
        if tokio::time::Instant::now() > deadline {
            return Err(
                Error::new(ErrorKind::Unavailable, "The sample file does not land.")
                    .with("file", file.display()),
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let shown = Shown::read(app, DEMO_FOLDER, DEMO_CUSTOMERS_SHOWN).await?;
    if output == OutputFormat::Text {
        let Shown {
            table,
            rows,
            total,
            location,
        } = &shown;
        tell(&format!(
            "{rows}\nThe file landed; {table} now holds {total} rows, read from\n  {location}"
        ))?;
    }
    Ok(shown)
}

/// Writes the sample under a name that is left alone, and renames it: so no half of it is ever taken.
fn write_sample(folder: &Path, file: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let unfinished = file.with_extension("part");
    let mut writer = std::io::BufWriter::new(std::fs::File::create(&unfinished)?);
    for id in 0..DEMO_CUSTOMERS {
        let city = if id % 2 == 0 { "Nuuk" } else { "Tromsø" };
        writeln!(
            writer,
            "{}",
            json!({"id": id, "name": format!("Customer {id}"), "city": city})
        )?;
    }
    writer.into_inner()?.sync_all()?;
    std::fs::rename(unfinished, file)
}

/// A table as a reader sees it.
struct Shown {
    table: String,
    rows: String,
    total: u64,
    location: String,
}

impl Shown {
    async fn read(app: &App, name: &str, limit: usize) -> Result<Self> {
        let namespace = iceberg::NamespaceIdent::new("landfast".to_owned());
        let ident = TableIdent::new(namespace, name.to_owned());
        let table = app.catalog().load_table(&ident).await?;
        let rows = read_rows(&table, limit).await?;
        Ok(Self {
            table: ident.to_string(),
            rows,
            total: total_records(&table).unwrap_or_default(),
            location: table.metadata_location().unwrap_or_default().to_owned(),
        })
    }
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
