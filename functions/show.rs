//! `landfast show`: what a table is and holds, from its metadata alone.

use std::process::ExitCode;

use clap::Args;
use iceberg::spec::{SnapshotRef, Summary, TableMetadata};
use landfast::app::Parts;
use landfast::config::{table_ident, type_text};
use landfast::error::Result;
use serde_json::{Value, json};

use crate::output::{ConfigArgs, OutputFormat, block_on, tell};

/// Snapshots that are listed, newest first.
const SNAPSHOTS_SHOWN: usize = 10;

/// Arguments of `show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The table, as `namespace.table`.
    table: String,
}

/// Prints the table's schema, partitions, snapshots, files, rows, sizes and last commit.
pub fn run(args: &ShowArgs, output: OutputFormat) -> ExitCode {
    block_on(show(args, output))
}

async fn show(args: &ShowArgs, output: OutputFormat) -> Result<()> {
    let config = args.config.load_existing()?;
    let ident = table_ident(&args.table)?;
    let table = Parts::from_config(&config)
        .await?
        .catalog
        .load_table(&ident)
        .await?;
    let location = table.metadata_location().unwrap_or_default();
    let page = describe(&ident.to_string(), location, table.metadata());
    match output {
        OutputFormat::Json => tell(&page.to_string()),
        OutputFormat::Text => tell(&text(&page)),
    }
}

/// The page as JSON; counts are those of the newest snapshot's summary, `null` where a writer left them out.
fn describe(name: &str, location: &str, metadata: &TableMetadata) -> Value {
    let mut snapshots: Vec<&SnapshotRef> = metadata.snapshots().collect();
    snapshots.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.sequence_number()));
    let current = metadata.current_snapshot().map(|snapshot| snapshot.summary());
    let columns: Vec<Value> = metadata.current_schema().as_struct().fields().iter().map(|field| {
        json!({"id": field.id, "name": field.name, "type": type_text(&field.field_type), "required": field.required, "doc": field.doc})
    }).collect();
    let partitions: Vec<Value> = metadata
        .default_partition_spec()
        .fields()
        .iter()
        .map(|field| json!({"name": field.name, "transform": field.transform.to_string(), "source_id": field.source_id}))
        .collect();
    let shown: Vec<Value> = snapshots
        .iter()
        .take(SNAPSHOTS_SHOWN)
        .map(|snapshot| describe_snapshot(snapshot))
        .collect();
    json!({
        "table": name,
        "uuid": metadata.uuid(),
        "format_version": metadata.format_version() as u8,
        "location": metadata.location(),
        "metadata": location,
        "rows": count(current, "total-records"),
        "data_files": count(current, "total-data-files"),
        "delete_files": count(current, "total-delete-files"),
        "bytes": count(current, "total-files-size"),
        "last_commit": metadata.current_snapshot().and_then(time),
        "snapshot_count": snapshots.len(),
        "columns": columns,
        "partitions": partitions,
        "properties": metadata.properties(),
        "snapshots": shown,
    })
}

fn describe_snapshot(snapshot: &SnapshotRef) -> Value {
    let summary = Some(snapshot.summary());
    json!({
        "snapshot_id": snapshot.snapshot_id().to_string(),
        "committed_at": time(snapshot),
        "operation": snapshot.summary().operation.as_str(),
        "added_rows": count(summary, "added-records"),
        "added_files": count(summary, "added-data-files"),
        "total_rows": count(summary, "total-records"),
        "commit_id": summary.and_then(|summary| summary.additional_properties.get(landfast::commit::COMMIT_ID)),
    })
}

fn count(summary: Option<&Summary>, key: &str) -> Option<u64> {
    match summary {
        None => Some(0),
        Some(summary) => summary.additional_properties.get(key)?.parse().ok(),
    }
}

fn time(snapshot: &SnapshotRef) -> Option<String> {
    Some(
        snapshot
            .timestamp()
            .ok()?
            .to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
    )
}

/// The same page for a person.
fn text(page: &Value) -> String {
    let mut lines = Vec::new();
    let field = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "unknown".to_owned(),
        other => other.to_string(),
    };
    for (label, key) in [
        ("table", "table"),
        ("location", "location"),
        ("metadata", "metadata"),
        ("rows", "rows"),
        ("data files", "data_files"),
        ("bytes", "bytes"),
        ("last commit", "last_commit"),
        ("snapshots", "snapshot_count"),
    ] {
        lines.push(format!(
            "{label:12}  {}",
            page.get(key).map_or_else(String::new, field)
        ));
    }
    let part = |row: &Value, key: &str| row.get(key).map_or_else(String::new, field);
    let rows = |key: &str| {
        page.get(key)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    lines.push("\ncolumns".to_owned());
    for column in rows("columns") {
        let required = if column.get("required") == Some(&Value::Bool(true)) {
            " required"
        } else {
            ""
        };
        lines.push(format!(
            "  {:24}  {}{required}",
            part(&column, "name"),
            part(&column, "type")
        ));
    }
    let partitions = rows("partitions");
    if !partitions.is_empty() {
        lines.push("\npartitions".to_owned());
    }
    for partition in partitions {
        lines.push(format!(
            "  {:24}  {}",
            part(&partition, "name"),
            part(&partition, "transform")
        ));
    }
    lines.push("\nnewest snapshots".to_owned());
    for snapshot in rows("snapshots") {
        lines.push(format!(
            "  {:24}  {}  {} rows added, {} in all",
            part(&snapshot, "committed_at"),
            part(&snapshot, "operation"),
            part(&snapshot, "added_rows"),
            part(&snapshot, "total_rows")
        ));
    }
    lines.join("\n")
}
