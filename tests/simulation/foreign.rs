//! What other engines and operators do to a table, by commits that are not ours.

use std::collections::BTreeSet;
use std::sync::Arc;

use iceberg::TableIdent;
use iceberg::spec::{DataFile, ManifestListWriter, ManifestWriterBuilder};
use iceberg::table::Table;
use landfast::ledger::POINTER;
use landfast::random::Random;
use serde_json::{Value, json};

use super::lake::Lake;
use crate::support::TestResult;
use crate::support::tables::files_of;

/// Ids of rows that others append start here.
pub const FOREIGN_ROWS: i64 = 1_000_000_000;

/// Someone else with access to the lake.
pub struct Foreign {
    pub lake: Arc<Lake>,
    pub random: Arc<Random>,
    appended: i64,
}

impl Foreign {
    pub fn new(lake: Arc<Lake>, seed: u64) -> Self {
        Self {
            lake,
            random: Arc::new(Random::seeded(seed ^ 0xf0e1)),
            appended: 0,
        }
    }

    /// Adds a row of its own.
    pub async fn append(&mut self, table: &Table, now_ms: i64) -> TestResult {
        self.appended += 1;
        let files = files_of(table, &[FOREIGN_ROWS + self.appended], &self.random).await?;
        self.snapshot(table, files, "append", now_ms).await
    }

    /// Replaces all data files by one with the same rows.
    pub async fn compact(&self, table: &Table, rows: &[i64], now_ms: i64) -> TestResult {
        let files = files_of(table, rows, &self.random).await?;
        self.snapshot(table, files, "replace", now_ms).await
    }

    async fn snapshot(
        &self,
        table: &Table,
        files: Vec<DataFile>,
        operation: &str,
        now_ms: i64,
    ) -> TestResult {
        let metadata = table.metadata();
        let id = self
            .random
            .snapshot_id(|id| metadata.snapshot_by_id(id).is_some());
        let sequence = metadata.next_sequence_number();
        let folder = format!("{}/metadata", metadata.location());
        let list = format!("{folder}/snap-{id}-foreign.avro");
        let spec = metadata.default_partition_spec().as_ref().clone();
        let output = table
            .file_io()
            .new_output(format!("{folder}/{}-foreign.avro", self.random.uuid()))?;
        let builder = ManifestWriterBuilder::new(output, Some(id), metadata.current_schema().clone(), spec);
        let mut writer = builder.build_v2_data();
        for file in files {
            writer.add_file(file, sequence)?;
        }
        let mut manifests = vec![writer.write_manifest_file().await?];
        let parent = metadata.current_snapshot();
        if let Some(parent) = parent.filter(|_| operation == "append") {
            let listed = table.manifest_list_reader(parent).load().await?;
            manifests.extend(listed.entries().iter().cloned());
        }
        let parent = parent.map(|parent| parent.snapshot_id());
        let output = table.file_io().new_output(&list)?.writer().await?;
        let mut writer = ManifestListWriter::v2(output, id, parent, sequence);
        writer.add_manifests(manifests.into_iter())?;
        writer.close().await?;
        let editing = |json: &mut Value| {
            let at = now_ms.max(json["last-updated-ms"].as_i64().unwrap_or_default());
            let mut snapshot = json!({
                "snapshot-id": id, "sequence-number": sequence, "timestamp-ms": at, "manifest-list": list,
                "summary": {"operation": operation}, "schema-id": metadata.current_schema_id(),
            });
            if let Some(parent) = parent {
                snapshot["parent-snapshot-id"] = json!(parent);
            }
            if !json["snapshots"].is_array() {
                json["snapshots"] = json!([]);
            }
            if let Some(snapshots) = json["snapshots"].as_array_mut() {
                snapshots.push(snapshot);
            }
            json["last-sequence-number"] = json!(sequence);
            make_current(json, id, at);
        };
        // Who loses the race leaves files behind, and that is all.
        let base = Some(metadata);
        self.lake.edit(table.identifier(), base, editing).await.map(drop)
    }

    /// Lets go of every snapshot but the current one.
    pub async fn expire(&self, table: &Table) -> TestResult {
        let current = table.metadata().current_snapshot_id();
        let editing = |json: &mut Value| {
            if let Some(snapshots) = json["snapshots"].as_array_mut() {
                snapshots.retain(|snapshot| snapshot["snapshot-id"].as_i64() == current);
            }
            json["snapshot-log"] = json!([]);
        };
        let base = Some(table.metadata());
        self.lake.edit(table.identifier(), base, editing).await.map(drop)
    }

    /// Makes the parent of the current snapshot the current one. Says whether there was one.
    pub async fn roll_back(&self, table: &Table, now_ms: i64) -> TestResult<bool> {
        let metadata = table.metadata();
        let current = metadata.current_snapshot();
        let parent = current.and_then(|current| current.parent_snapshot_id());
        let Some(parent) = parent.filter(|id| metadata.snapshot_by_id(*id).is_some()) else {
            return Ok(false);
        };
        let editing = |json: &mut Value| {
            let at = now_ms.max(json["last-updated-ms"].as_i64().unwrap_or_default());
            make_current(json, parent, at);
        };
        self.lake.edit(table.identifier(), Some(metadata), editing).await
    }

    /// Takes the current snapshot away, as a table is replaced. Says whether there was one.
    pub async fn replace(&self, table: &Table, now_ms: i64) -> TestResult<bool> {
        let metadata = table.metadata();
        if metadata.current_snapshot().is_none() {
            return Ok(false);
        }
        let editing = |json: &mut Value| {
            json["last-updated-ms"] = json!(now_ms.max(json["last-updated-ms"].as_i64().unwrap_or_default()));
            json["current-snapshot-id"] = json!(-1);
            json["refs"] = json!({});
            json["snapshot-log"] = json!([]);
        };
        self.lake.edit(table.identifier(), Some(metadata), editing).await
    }

    /// Sets properties; none of value removes them.
    pub async fn set(&self, ident: &TableIdent, key: &str, value: Option<String>) -> TestResult {
        let editing = |json: &mut Value| {
            if !json["properties"].is_object() {
                json["properties"] = json!({});
            }
            if let Some(properties) = json["properties"].as_object_mut() {
                match value {
                    Some(value) => drop(properties.insert(key.to_owned(), json!(value))),
                    None => drop(properties.remove(key)),
                }
            }
        };
        self.lake.edit(ident, None, editing).await.map(drop)
    }

    /// Removes the pointer.
    pub async fn unset(&self, ident: &TableIdent) -> TestResult {
        self.set(ident, POINTER, None).await
    }

    /// How many commits of ours the table has had.
    pub async fn own_commits(&self, ident: &TableIdent) -> TestResult<usize> {
        let states = self.lake.states(ident).await?;
        let own = states.iter().filter(|state| !state.is_foreign);
        let pointers: BTreeSet<&String> = own
            .filter_map(|state| state.metadata.properties().get(POINTER))
            .collect();
        Ok(pointers.len())
    }

    /// Puts the pointer where the newest commit of ours had it, as `landfast ledger repair` will.
    pub async fn repair(&self, ident: &TableIdent) -> TestResult {
        let states = self.lake.states(ident).await?;
        let own = states.iter().rev().filter(|state| !state.is_foreign);
        let pointers = own.filter_map(|state| state.metadata.properties().get(POINTER));
        let pointer = pointers.into_iter().next().cloned();
        self.set(ident, POINTER, pointer).await
    }

    /// Deletes the table's files that nothing needs and that are old enough.
    pub async fn clean(
        &self,
        ident: &TableIdent,
        needed: &BTreeSet<String>,
        old: &BTreeSet<String>,
    ) -> TestResult {
        let folder = format!("{}/{}/", ident.namespace().join("/"), ident.name());
        for key in old.iter().filter(|key| key.starts_with(&folder)) {
            let is_metadata = key.ends_with(".metadata.json") || key.ends_with("version-hint.text");
            if !is_metadata && !needed.contains(&self.lake.store.url(key)) {
                self.lake.store.file_io().delete(self.lake.store.url(key)).await?;
            }
        }
        Ok(())
    }
}

fn make_current(json: &mut Value, id: i64, at: i64) {
    json["current-snapshot-id"] = json!(id);
    json["refs"] = json!({"main": {"snapshot-id": id, "type": "branch"}});
    json["last-updated-ms"] = json!(at);
    json["snapshot-log"] = json!([]);
}
