//! What writing costs: CPU-seconds and peak memory of a load of 1,000,000 rows, and of many small batches, each in a
//! process of its own. Partitions are drawn at random for every row, the worst order there is.
//!
//! `cargo bench --bench write`

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a measurement stops at the first surprise"
)]

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use iceberg::spec::{Transform, UnboundPartitionSpec};
use iceberg::table::Table;
use iceberg::{NamespaceIdent, TableCreation};
use landfast::catalog::{Catalog, MemoryCatalog};
use landfast::config::{Column, iceberg_schema, parse_type};
use landfast::random::Random;
use landfast::storage::Store;
use landfast::write::{TableWriter, WriteOptions, arrow_schema, write_data_files};
use object_store::local::LocalFileSystem;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const ROWS: i64 = 1_000_000;
const BATCH: i64 = 8_192;
const SMALL_BATCHES: i64 = 1_000;
const SMALL_BATCH: i64 = 780;
const DAY: i64 = 86_400_000_000;
const LOADS: [&str; 5] = [
    "unpartitioned",
    "20 days",
    "10,000 keys",
    "780 rows",
    "780 rows, 20 days",
];

fn main() {
    let name = std::env::args()
        .skip(1)
        .find(|name| LOADS.contains(&name.as_str()));
    match name {
        Some(load) => run(&load),
        None => {
            println!(
                "{:20} {:>8} {:>8} {:>9} {:>7} {:>8}",
                "load", "wall s", "CPU s", "peak MiB", "files", "MB"
            );
            for load in LOADS {
                let this = std::env::current_exe().expect("this program");
                Command::new(this).arg(load).status().expect("it runs");
            }
        }
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn run(load: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let objects = LocalFileSystem::new_with_prefix(folder.path()).expect("a store");
    let store = Store::new(format!("file://{}", folder.path().display()), Arc::new(objects));
    let table = table(store, load).await;
    let random = Arc::new(Random::from_os());
    let mut rng = StdRng::seed_from_u64(7);
    let ready: Vec<Vec<ArrayRef>> = (0..16).map(|batch| columns(batch * BATCH)).collect();
    let (start, before) = (Instant::now(), cpu_seconds());
    let mut files = Vec::new();
    if load.starts_with("780") {
        let whole = batch(&table, &ready, 0, BATCH, &mut rng);
        for _ in 0..SMALL_BATCHES {
            let from = rng.random_range(0..BATCH - SMALL_BATCH) as usize;
            let rows = whole.slice(from, SMALL_BATCH as usize);
            files.extend(
                write_data_files(&table, vec![rows], &random)
                    .await
                    .expect("a file")
                    .durable()
                    .await
                    .expect("a durable file"),
            );
        }
    } else {
        let mut writer = TableWriter::try_new(&table, &random, WriteOptions::default()).expect("a writer");
        for from in (0..ROWS).step_by(BATCH as usize) {
            let rows = batch(&table, &ready, from, BATCH.min(ROWS - from), &mut rng);
            writer.write(rows).await.expect("rows are taken");
        }
        files = writer.finish().await.expect("files");
    }
    let bytes: u64 = files.iter().map(|file| file.file_size_in_bytes()).sum();
    println!(
        "{load:20} {:8.2} {:8.2} {:9.0} {:7} {:8.1}",
        start.elapsed().as_secs_f64(),
        cpu_seconds() - before,
        peak_mib(),
        files.len(),
        bytes as f64 / 1e6
    );
}

async fn table(store: Store, load: &str) -> Table {
    let columns = [
        ("id", "long"),
        ("at", "timestamptz"),
        ("key", "long"),
        ("customer", "string"),
        ("item", "string"),
        ("note", "string"),
        ("price", "double"),
        ("weight", "double"),
    ];
    let columns = columns.map(|(name, kind)| Column {
        name: name.to_owned(),
        data_type: parse_type(kind).expect("a type"),
        required: false,
        doc: None,
    });
    let spec = UnboundPartitionSpec::builder();
    let spec = match load {
        "20 days" | "780 rows, 20 days" => spec
            .add_partition_field(2, "at_day", Transform::Day)
            .expect("a field"),
        "10,000 keys" => spec
            .add_partition_field(3, "key", Transform::Identity)
            .expect("a field"),
        _ => spec,
    };
    let creation = TableCreation::builder()
        .name("load".to_owned())
        .schema(iceberg_schema(&columns).expect("a schema"))
        .partition_spec(spec.build())
        .build();
    let catalog = MemoryCatalog::new(store);
    let namespace = NamespaceIdent::new("bench".to_owned());
    catalog.create_table(&namespace, creation).await.expect("a table")
}

/// The columns that no partition is made of.
fn columns(from: i64) -> Vec<ArrayRef> {
    let ids = from..from + BATCH;
    vec![
        Arc::new(StringArray::from_iter_values(
            ids.clone().map(|id| format!("customer-{:05}", id * 31 % 9973)),
        )),
        Arc::new(StringArray::from_iter_values(
            ids.clone()
                .map(|id| format!("climbing rope 9.8 mm, {} m", id % 90)),
        )),
        Arc::new(StringArray::from_iter_values(ids.clone().map(|id| {
            format!(
                "leave it at the harbour office {:08x}, ring twice, and mind the dog behind the door",
                id * 0x9e37_79b9 % 0xffff_fff1
            )
        }))),
        Arc::new(Float64Array::from_iter_values(
            ids.clone().map(|id| (id * 7919 % 500) as f64 + 0.95),
        )),
        Arc::new(Float64Array::from_iter_values(
            ids.map(|id| (id % 12) as f64 + 0.125),
        )),
    ]
}

fn batch(table: &Table, ready: &[Vec<ArrayRef>], from: i64, rows: i64, rng: &mut StdRng) -> RecordBatch {
    let schema = arrow_schema(table.metadata().current_schema()).expect("a schema");
    let at: TimestampMicrosecondArray = (0..rows).map(|_| Some(rng.random_range(0..20 * DAY))).collect();
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(from..from + rows)),
        Arc::new(at.with_timezone("+00:00")),
        Arc::new(
            (0..rows)
                .map(|_| Some(rng.random_range(0..10_000)))
                .collect::<Int64Array>(),
        ),
    ];
    let place = usize::try_from(from / BATCH).expect("small") % ready.len();
    let rest = ready.get(place).expect("there").iter();
    columns.extend(rest.map(|column| column.slice(0, rows as usize)));
    RecordBatch::try_new(schema, columns).expect("a batch")
}

/// CPU time of this process; Linux counts it in hundredths.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields = stat.rsplit_once(')').expect("a name").1.split_whitespace();
    let ticks: f64 = fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    ticks / 100.0
}

fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .expect("a peak");
    let kib = line
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse::<f64>().ok());
    kib.expect("a number") / 1024.0
}
