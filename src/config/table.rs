//! Tables: what feeds them, how records are read, and how rows gather before a commit.

use std::collections::BTreeMap;
use std::time::Duration;

use super::after::{self, AFTER, After};
use super::conditions::{DeliveryMatch, MATCH, read_match};
use super::key::{Key, Keys, List, Others, Shape, Words};
use super::ledger::{self, LEDGER, LedgerConfig};
use super::mapping::Mapping;
use super::partition::{self, PARTITION_BY, PartitionBy};
use super::property::{PROPERTIES, read_properties};
use super::publish::{self, BigQueryConfig, BigQueryDefaults, PUBLISH};
use super::quantity::{duration_text, size_text};
use super::reader::Field;
use super::schema::{self, SCHEMA, SchemaConfig};

pub(super) const FROM: Key = Key::optional(
    "from",
    Shape::List(&List {
        accepted: "a list such as `- {subscription: orders-push, attributes: {kind: order}}` or \
                   `- {bucket: \"file:///srv/landing\", objects: \"orders/**\"}`",
        item: Shape::Map(&MATCH),
    }),
    "none",
    "which messages and files go to the table: a list of conditions, one of which must match; not in `defaults`",
);
pub(super) const FORMAT: Key = Key::defaulted(
    "format",
    Shape::Word(&Words {
        words: &[
            (
                Format::Auto.name(),
                "the same in this version, which reads nothing else",
            ),
            (
                Format::Json.name(),
                "one object, an array of them, or one per line, compressed or not",
            ),
        ],
        later: &["csv", "avro", "protobuf", "parquet", "arrow", "raw"],
    }),
    || Format::default().name().to_owned(),
    "how payloads are read",
);
pub(super) const SCHEMA_EVOLUTION: Key = Key::defaulted(
    "schema_evolution",
    Shape::Word(&Words {
        words: &[("ignore", "fields that are no columns are left out")],
        later: &["strict", "capture", "add_columns", "full"],
    }),
    || "ignore".to_owned(),
    "what becomes of fields that the table does not have",
);
pub(super) const ON_BAD_RECORD: Key = Key::defaulted(
    "on_bad_record",
    Shape::Word(&Words {
        words: &[("dead_letter", "it is kept with its reason, its neighbours land")],
        later: &["fail", "columns"],
    }),
    || "dead_letter".to_owned(),
    "what becomes of a record that does not fit",
);
pub(super) const MODE: Key = Key::defaulted(
    "mode",
    Shape::Word(&Words {
        words: &[("append", "every record is a new row")],
        later: &["overwrite", "upsert"],
    }),
    || "append".to_owned(),
    "what a record does to the table",
);
pub(super) const BATCH: Key = Key::optional(
    "batch",
    Shape::Map(&BATCH_KEYS),
    "each key's own",
    "when waiting rows are committed; the first limit reached decides",
);
pub(super) const COMMIT_INTERVAL: Key = Key::defaulted(
    "commit_interval",
    Shape::Duration,
    || duration_text(BatchConfig::default().commit_interval),
    "the least time between two commits of the table; at most half of `server.ack_deadline`; `0s`: as fast as the table \
     takes them",
);
pub(super) const MAX_BYTES: Key = Key::defaulted(
    "max_bytes",
    Shape::Size,
    || size_text(BatchConfig::default().max_bytes),
    "commits earlier when this much waits",
);
pub(super) const MAX_ROWS: Key = Key::defaulted(
    "max_rows",
    Shape::Count,
    || BatchConfig::default().max_rows.to_string(),
    "commits earlier when this many rows wait",
);

/// What a table has and `defaults` may have.
const SHARED: &[Key] = &[
    FORMAT,
    SCHEMA,
    SCHEMA_EVOLUTION,
    ON_BAD_RECORD,
    MODE,
    BATCH,
    LEDGER,
    AFTER,
    PARTITION_BY,
    PROPERTIES,
];

/// Table keys of later versions.
const LATER: &[&str] = &[
    "sort_by",
    "key",
    "sample",
    "metadata_columns",
    "flatten",
    "record_path",
    "unwrap",
    "strict_casting",
    "max_bad_ratio",
    "sequence_by",
    "delete_when",
    "null_key",
    "history",
    "maintenance",
];

pub(super) const TABLES: Keys = Keys {
    title: "tables",
    accepted: "tables by their names, such as `shop.orders: {from: [{subscription: orders-push}]}`",
    others: Some(Others {
        pattern: Some(|| r"^[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+$".to_owned()),
        shape: Shape::Map(&TABLE),
    }),
    ..Keys::NONE
};

const TABLE: Keys = Keys {
    title: "table",
    accepted: "table keys such as `{from: [{subscription: orders-push}]}`",
    keys: &[&[FROM, PUBLISH], SHARED],
    later: &[LATER],
    ..Keys::NONE
};

pub(super) const DEFAULTS: Keys = Keys {
    title: "defaults",
    accepted: "table keys such as `{batch: {commit_interval: 2s}}`",
    keys: &[&[PUBLISH], SHARED],
    elsewhere: &[(
        FROM.name,
        "`from` belongs to one table; write it under `tables`, or a route under `routes`",
    )],
    later: &[LATER],
    ..Keys::NONE
};

const BATCH_KEYS: Keys = Keys {
    title: "batch",
    accepted: "a mapping such as `{commit_interval: 2s, max_bytes: 32MiB, max_rows: 100000}`",
    keys: &[&[COMMIT_INTERVAL, MAX_BYTES, MAX_ROWS]],
    ..Keys::NONE
};

/// How payloads are read. Key `format`, default `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// What the delivery is; in this version that is JSON.
    #[default]
    Auto,
    /// One JSON object, an array of them, or one per line.
    Json,
}

impl Format {
    /// The word of the key `format`.
    pub const fn name(self) -> &'static str {
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
    /// Key `ledger`.
    pub ledger: LedgerConfig,
    /// Key `after`, default `keep`.
    pub after: After,
    /// Key `partition_by`, default none: a table is made without partitions, and written as it is partitioned.
    pub partition_by: Vec<PartitionBy>,
    /// Key `properties`, default none: Iceberg table properties, set when the table is created.
    pub properties: BTreeMap<String, String>,
    /// Key `publish.bigquery`, default none: what the tables' own leave out.
    pub publish: BigQueryDefaults,
}

impl TableDefaults {
    /// The configuration of a table that is not written in `tables`.
    pub fn to_table(&self) -> TableConfig {
        TableConfig {
            from: Vec::new(),
            format: self.format,
            schema: self.schema.clone(),
            batch: self.batch,
            ledger: self.ledger,
            after: self.after,
            partition_by: self.partition_by.clone(),
            properties: self.properties.clone(),
            publish: None,
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
    /// Key `ledger`, each key of it by default from `defaults`.
    pub ledger: LedgerConfig,
    /// Key `after`, default from `defaults`.
    pub after: After,
    /// Key `partition_by`, default from `defaults`. An existing table must be partitioned so; when it is empty, any way
    /// that this version can write will do.
    pub partition_by: Vec<PartitionBy>,
    /// Key `properties`, added to those of `defaults`: Iceberg table properties, set when the table is created.
    pub properties: BTreeMap<String, String>,
    /// Key `publish.bigquery`, default none: the external table that follows this one.
    pub publish: Option<Box<BigQueryConfig>>,
}

/// Reads the key `defaults`.
pub(super) fn read_defaults(field: &Field<'_>, ack_deadline: Duration) -> TableDefaults {
    let mut defaults = TableDefaults::default();
    if let Some(mut keys) = field.mapping() {
        read_shared(&mut keys, field, &mut defaults, ack_deadline);
        let publish = keys.key(&PUBLISH);
        defaults.publish = publish
            .map(|field| publish::read_defaults(&field))
            .unwrap_or_default();
        keys.finish();
    }
    defaults
}

/// Reads the value of one table; what it leaves out comes from the defaults.
pub(super) fn read_table(
    name: &str,
    field: &Field<'_>,
    defaults: &TableDefaults,
    ack_deadline: Duration,
) -> TableConfig {
    let mut own = defaults.clone();
    let (mut from, mut publish) = (Vec::new(), None);
    if let Some(mut keys) = field.mapping() {
        if let Some(field) = keys.key(&FROM) {
            let items = field.items().unwrap_or_default();
            from = items.iter().filter_map(read_match).collect();
        }
        read_shared(&mut keys, field, &mut own, ack_deadline);
        let own_publish = keys.key(&PUBLISH);
        publish = own_publish
            .and_then(|field| publish::read(&field, name, &defaults.publish))
            .map(Box::new);
        keys.finish();
    }
    if own.schema == SchemaConfig::Envelope && from.iter().any(|conditions| conditions.files.is_some()) {
        field.problem(
            "a table of raw envelopes takes messages, not files; remove the item with `bucket`, or write another `schema`",
        );
    }
    TableConfig {
        from,
        publish,
        ..own.to_table()
    }
}

fn read_shared(keys: &mut Mapping<'_>, whole: &Field<'_>, table: &mut TableDefaults, ack_deadline: Duration) {
    match keys.key(&FORMAT).and_then(|field| field.word()) {
        Some(word) if word == Format::Json.name() => table.format = Format::Json,
        Some(_) => table.format = Format::Auto,
        None => {}
    }
    if let Some(schema) = keys.key(&SCHEMA).and_then(|field| schema::read(&field)) {
        table.schema = schema;
    }
    // These keys have one value in this version: there is nothing to keep of them.
    for key in [&SCHEMA_EVOLUTION, &ON_BAD_RECORD, &MODE] {
        keys.key(key).and_then(|field| field.word());
    }
    if let Some(field) = keys.key(&BATCH) {
        read_batch(&field, &mut table.batch, ack_deadline);
    }
    if let Some(field) = keys.key(&LEDGER) {
        ledger::read(&field, &mut table.ledger);
    }
    if let Some(after) = keys.key(&AFTER).and_then(|field| after::read(&field)) {
        table.after = after;
    }
    let partition_field = keys.key(&PARTITION_BY);
    if let Some(field) = &partition_field {
        table.partition_by = partition::read(field).unwrap_or_default();
    }
    partition::check(
        partition_field.as_ref(),
        whole,
        &table.partition_by,
        &table.schema,
    );
    if let Some(field) = keys.key(&PROPERTIES) {
        read_properties(&field, &mut table.properties);
    }
}

fn read_batch(field: &Field<'_>, batch: &mut BatchConfig, ack_deadline: Duration) {
    let Some(mut keys) = field.mapping() else {
        return;
    };
    if let Some(field) = keys.key(&COMMIT_INTERVAL)
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
    if let Some(bytes) = keys.key(&MAX_BYTES).and_then(|field| field.size()) {
        batch.max_bytes = bytes;
    }
    if let Some(rows) = keys.key(&MAX_ROWS).and_then(|field| field.count()) {
        batch.max_rows = rows;
    }
    keys.finish();
}
