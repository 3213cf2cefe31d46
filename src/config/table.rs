//! Tables: what feeds them, how records are read, and how rows gather before a commit.

use std::collections::BTreeMap;
use std::time::Duration;

use iceberg::TableIdent;

use super::files::{FileMatch, read_files};
use super::partition::{self, PartitionBy};
use super::reader::{Field, Mapping};
use super::schema::{self, SchemaConfig};
use super::source::{SUBSCRIPTION, read_subscription};
use crate::error::{Error, ErrorKind, Result};
use crate::write::property_problems;

const ATTRIBUTES: &str = "attributes with their values, such as `{kind: order}`";
const BATCH: &str = "a mapping such as `{commit_interval: 2s, max_bytes: 32MiB, max_rows: 100000}`";
const FROM: &str = "a list such as `- {subscription: orders-push, attributes: {kind: order}}` or \
                    `- {bucket: \"file:///srv/landing\", objects: \"orders/**\"}`";
const PROPERTIES: &str = "properties with their values, such as `{write.parquet.compression-codec: zstd}`";
/// What a table's name may look like, for error messages.
pub(super) const TABLE_NAME: &str =
    "`namespace.table`: at least two levels of letters, digits, `_` and `-`, separated by dots";

/// Table keys of later versions.
const LATER: [&str; 16] = [
    "sort_by",
    "key",
    "publish",
    "sample",
    "metadata_columns",
    "flatten",
    "record_path",
    "unwrap",
    "strict_casting",
    "max_bad_ratio",
    "after",
    "sequence_by",
    "delete_when",
    "null_key",
    "history",
    "maintenance",
];

/// Properties that the metadata itself holds, so a table cannot be given them.
const RESERVED_PROPERTIES: [&str; 8] = [
    "uuid",
    "snapshot-count",
    "current-snapshot-id",
    "current-snapshot-summary",
    "current-snapshot-timestamp-ms",
    "current-schema",
    "default-partition-spec",
    "default-sort-order",
];

/// How payloads are read. Key `format`, default `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// By what the delivery says of itself, else by its bytes.
    #[default]
    Auto,
    /// One JSON object, an array of them, or one per line.
    Json,
}

impl Format {
    /// The word of the key `format`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Json => "json",
        }
    }
}

/// When waiting rows are committed; the first limit reached decides. Key `batch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchConfig {
    /// Key `commit_interval`, default `2s`: the least time between two commits of the table; at most half the
    /// server's `ack_deadline`. `0s`: as fast as the table takes them.
    pub commit_interval: Duration,
    /// Key `max_bytes`, default `32MiB`, in bytes of decoded rows.
    pub max_bytes: u64,
    /// Key `max_rows`, default `100000`.
    pub max_rows: u64,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            commit_interval: Duration::from_secs(2),
            max_bytes: 32 << 20,
            max_rows: 100_000,
        }
    }
}

/// What tables have when they do not say otherwise, and all that a routed table has. Key `defaults`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableDefaults {
    /// Key `format`, default `auto`.
    pub format: Format,
    /// Key `schema`, default `inferred`.
    pub schema: SchemaConfig,
    /// Key `batch`.
    pub batch: BatchConfig,
    /// Key `partition_by`, default none: a table is made without partitions, and written as it is partitioned.
    pub partition_by: Vec<PartitionBy>,
    /// Key `properties`, default none: Iceberg table properties, set when the table is created.
    pub properties: BTreeMap<String, String>,
}

impl TableDefaults {
    /// The configuration of a table that is not written in `tables`.
    pub fn to_table(&self) -> TableConfig {
        TableConfig {
            from: Vec::new(),
            format: self.format,
            schema: self.schema.clone(),
            batch: self.batch,
            partition_by: self.partition_by.clone(),
            properties: self.properties.clone(),
        }
    }
}

/// One table, with the defaults filled in. Key `tables.NAMESPACE.TABLE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableConfig {
    /// Key `from`, default none: which deliveries go to the table; any one of them suffices.
    pub from: Vec<DeliveryMatch>,
    /// Key `format`, default from `defaults`.
    pub format: Format,
    /// Key `schema`, default from `defaults`.
    pub schema: SchemaConfig,
    /// Key `batch`, each key of it by default from `defaults`.
    pub batch: BatchConfig,
    /// Key `partition_by`, default from `defaults`. An existing table must be partitioned so; when it is empty, any way
    /// that this version can write will do.
    pub partition_by: Vec<PartitionBy>,
    /// Key `properties`, added to those of `defaults`: Iceberg table properties, set when the table is created.
    pub properties: BTreeMap<String, String>,
}

/// Conditions on a delivery, at least one; all must hold. An item of the key `from`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeliveryMatch {
    /// Key `subscription`, default any: a short or full name.
    pub subscription: Option<String>,
    /// Key `attributes`, default any: attributes that the message must have, with exactly these values.
    pub attributes: BTreeMap<String, String>,
    /// Keys `bucket` and `objects`, default none: conditions on a file. With them it takes files only, without them
    /// messages only.
    pub files: Option<FileMatch>,
}

/// Reads a table's name, `namespace.table`.
///
/// # Errors
/// [`ErrorKind::Config`] when it has fewer than two levels, or a level is empty or holds more than letters, digits,
/// `_` and `-`.
pub fn table_ident(name: &str) -> Result<TableIdent> {
    parse_table_ident(name)
        .map_err(|reason| Error::new(ErrorKind::Config, format!("{reason}; write {TABLE_NAME}")))
}

/// Reads a table's name; the error is a clause.
pub(super) fn parse_table_ident(name: &str) -> Result<TableIdent, String> {
    let levels: Vec<&str> = name.split('.').collect();
    let is_level = |level: &&str| {
        !level.is_empty()
            && level
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
    };
    if levels.len() < 2 {
        return Err(format!("`{name}` names no namespace"));
    }
    if !levels.iter().all(is_level) {
        return Err(format!(
            "`{name}` has a level that is empty or holds other characters"
        ));
    }
    TableIdent::from_strs(levels).map_err(|error| error.message().to_owned())
}

/// Reads the key `defaults`.
pub(super) fn read_defaults(field: &Field<'_>, ack_deadline: Duration) -> TableDefaults {
    let mut defaults = TableDefaults::default();
    if let Some(mut keys) = field.mapping("table keys such as `{batch: {commit_interval: 2s}}`") {
        if let Some(from) = keys.key("from") {
            from.key_problem(
                "`from` belongs to one table; write it under `tables`, or a route under `routes`",
            );
        }
        read_shared(&mut keys, field, &mut defaults, ack_deadline);
        keys.finish();
    }
    defaults
}

/// Reads the value of one table; what it leaves out comes from the defaults.
pub(super) fn read_table(field: &Field<'_>, defaults: &TableDefaults, ack_deadline: Duration) -> TableConfig {
    let mut own = defaults.clone();
    let mut from = Vec::new();
    if let Some(mut keys) = field.mapping("table keys such as `{from: [{subscription: orders-push}]}`") {
        if let Some(field) = keys.key("from") {
            let items = field.items(FROM).unwrap_or_default();
            from = items.iter().filter_map(read_match).collect();
        }
        read_shared(&mut keys, field, &mut own, ack_deadline);
        keys.finish();
    }
    if own.schema == SchemaConfig::Envelope && from.iter().any(|conditions| conditions.files.is_some()) {
        field.problem(
            "a table of raw envelopes takes messages, not files; remove the item with `bucket`, or write another `schema`",
        );
    }
    TableConfig {
        from,
        ..own.to_table()
    }
}

fn read_shared(keys: &mut Mapping<'_>, whole: &Field<'_>, table: &mut TableDefaults, ack_deadline: Duration) {
    let format = keys.key("format").and_then(|field| {
        field.word(
            &[("auto", Format::Auto), ("json", Format::Json)],
            &["csv", "avro", "protobuf", "parquet", "arrow", "raw"],
        )
    });
    table.format = format.unwrap_or(table.format);
    if let Some(schema) = keys.key("schema").and_then(|field| schema::read(&field)) {
        table.schema = schema;
    }
    // These keys have one value in this version: there is nothing to keep of them.
    if let Some(field) = keys.key("schema_evolution") {
        field.word(&[("ignore", ())], &["strict", "capture", "add_columns", "full"]);
    }
    if let Some(field) = keys.key("on_bad_record") {
        field.word(&[("dead_letter", ())], &["fail", "columns"]);
    }
    if let Some(field) = keys.key("mode") {
        field.word(&[("append", ())], &["overwrite", "upsert"]);
    }
    if let Some(field) = keys.key("batch") {
        read_batch(&field, &mut table.batch, ack_deadline);
    }
    let partition_field = keys.key("partition_by");
    if let Some(field) = &partition_field {
        table.partition_by = partition::read(field).unwrap_or_default();
    }
    partition::check(
        partition_field.as_ref(),
        whole,
        &table.partition_by,
        &table.schema,
    );
    if let Some(field) = keys.key("properties") {
        read_properties(&field, &mut table.properties);
    }
    keys.later(&LATER);
    keys.later(&["ledger"]);
}

fn read_batch(field: &Field<'_>, batch: &mut BatchConfig, ack_deadline: Duration) {
    let Some(mut keys) = field.mapping(BATCH) else {
        return;
    };
    if let Some(field) = keys.key("commit_interval")
        && let Some(interval) = field.duration()
    {
        if interval > ack_deadline / 2 {
            field.problem(
                "`commit_interval` is more than half of `server.ack_deadline`, so messages would be delivered again \
                 while they wait; write a shorter one, or raise `server.ack_deadline` with the subscription's",
            );
        }
        batch.commit_interval = interval;
    }
    if let Some(bytes) = keys.key("max_bytes").and_then(|field| field.size()) {
        batch.max_bytes = bytes;
    }
    if let Some(rows) = keys.key("max_rows").and_then(|field| field.count()) {
        batch.max_rows = rows;
    }
    keys.finish();
}

fn read_properties(field: &Field<'_>, properties: &mut BTreeMap<String, String>) {
    let whole = field;
    let inherited = property_problems(pairs(properties));
    let entries = field.entries(PROPERTIES).unwrap_or_default();
    for (name, field) in &entries {
        let name = *name;
        let Some(value) = field.text("the property's value as plain text") else {
            continue;
        };
        if name.starts_with("landfast.") {
            field
                .key_problem("properties that begin with `landfast.` are kept by landfast itself; remove it");
        } else if RESERVED_PROPERTIES.contains(&name) {
            field.key_problem("this property is part of every table's metadata and cannot be set; remove it");
        } else if name == "format-version" {
            // Said, not set: the metadata holds it, and `2` is what landfast writes.
            if value != "2" {
                field.problem("landfast writes table format version 2; write `2`, or remove the property");
            }
        } else {
            properties.insert(name.to_owned(), value);
        }
    }
    for problem in property_problems(pairs(properties)) {
        let written = entries.iter().find(|(name, _)| *name == problem.property);
        match written {
            Some((_, field)) => field.problem(problem.reason),
            // One of `defaults` that does not go with one of the table's own.
            None if !inherited.contains(&problem) => {
                whole.problem(format!("`{}` {}", problem.property, problem.reason));
            }
            None => {}
        }
    }
}

fn pairs(properties: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    properties
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
}

fn read_match(field: &Field<'_>) -> Option<DeliveryMatch> {
    let mut keys = field.mapping(FROM)?;
    let conditions = read_conditions(&mut keys);
    keys.finish();
    if conditions
        .as_ref()
        .is_some_and(|conditions| *conditions == DeliveryMatch::default())
    {
        field.problem(format!(
            "no condition is given; write {SUBSCRIPTION}, or attributes, or both, or a `bucket`"
        ));
        return None;
    }
    conditions
}

/// Reads the conditions on a delivery; nothing when one of them is wrong, or given by a key of a later version.
pub(super) fn read_conditions(keys: &mut Mapping<'_>) -> Option<DeliveryMatch> {
    let subscription = keys.key("subscription").map(|field| read_subscription(&field));
    let attributes = keys.key("attributes").map(|field| read_attributes(&field));
    let files = read_files(keys);
    let later = ["field", "equals"];
    let has_later = keys.has_any(&later);
    keys.later(&later);
    let conditions = DeliveryMatch {
        subscription: match subscription {
            Some(read) => Some(read?),
            None => None,
        },
        attributes: attributes.unwrap_or(Some(BTreeMap::new()))?,
        files: files.ok()?,
    };
    (!has_later).then_some(conditions)
}

fn read_attributes(field: &Field<'_>) -> Option<BTreeMap<String, String>> {
    let entries = field.entries(ATTRIBUTES)?;
    if entries.is_empty() {
        field.problem(format!(
            "no attribute is given; write {ATTRIBUTES}, or remove the key"
        ));
        return None;
    }
    entries
        .into_iter()
        .map(|(name, field)| {
            Some((
                name.to_owned(),
                field.text("the attribute's value as plain text")?,
            ))
        })
        .collect()
}
