//! Configurations, right and wrong, for the reader here and for the judges of the JSON Schema in `tests/schema.rs`.

/// The required keys, in three lines.
pub const HEAD: &str = "warehouse: file:///w\ncatalog: {type: storage}\ndead_letters: file:///d\n";

/// What is valid: the catalog, and what follows the required keys.
pub const VALID: &[(&str, &str)] = &[
    ("type: storage", "tables: {a.b: {from: [{subscription: s}]}}\n"),
    ("type: memory", "tables: {a.b: {from: [{subscription: s}]}}\n"),
    (
        "type: sql, uri: 'sqlite:////d/c d.db', name: 'a: b'",
        "tables: {a.b: {from: [{subscription: s}]}}\n",
    ),
    (
        "type: sql, uri: 'postgresql://u@h/db?sslmode=require'",
        "tables: {a.b: {from: [{subscription: s}]}}\n",
    ),
    (
        "type: \"${KIND:-sql}\", uri: \"${DATABASE:-sqlite:///d/c.db}\", name: 7",
        "tables: {a.b: {from: [{subscription: s}]}}\n",
    ),
    (
        "type: rest, uri: 'https://h/api/', warehouse: 'bl://p', prefix: projects/1/c, auth: {type: none}",
        "tables: {a.b: {from: [{subscription: s}]}}\n",
    ),
    (
        "type: rest, uri: 'HTTP://127.0.0.1:8181', warehouse: 7, prefix: /main%7Clake/, headers: {}",
        "tables: {a.b: {from: [{subscription: s}]}}\n",
    ),
    (
        "type: biglake, warehouse: 'bl://projects/${PROJECT:-p}/catalogs/c'",
        "tables: {a.b: {from: [{subscription: s}]}}\n",
    ),
    (
        "type: biglake, warehouse: 'gs://lake', user_project: example.com:p, uri: 'http://127.0.0.1:1/x/'",
        "routes: [{subscription: s, table: 'cdc_{subscription}.{attributes.t}-x'}]\n",
    ),
    (
        "type: rest, uri: '${CATALOG:-https://h}', auth: {type: '${AUTH:-google}', user_project: '${PROJECT:-p}'}",
        "tables: {a.b: {from: [{subscription: s}]}}\n",
    ),
    (
        "type: \"${KIND:-storage}\"",
        "tables: {a.b: {from: [{subscription: s}]}}\n",
    ),
    (
        "type: storage",
        "server: {ack_deadline: 10s, listen: \"[::1]:1\"}\nroutes: [{table: \"a.{subscription}\"}]\n",
    ),
    (
        "type: storage",
        "server: {push_auth: \"off\", api_auth: {bearer: '***'}, max_body_bytes: 1000, max_in_flight_bytes: 64 MB}\n\
         routes: [{table: \"a_{attributes.x y}.b\", allow: [\"a*\"]}]\n",
    ),
    (
        "type: storage",
        "server: {push_auth: {audience: 'https://i.example', service_accounts: [a@p.iam.gserviceaccount.com, 'b@$${X}']}}\n\
         routes: [{table: a.b}]\n",
    ),
    (
        "type: storage",
        "server: {cpu_idle: 'true'}\ndefaults: {publish: {bigquery: {project: p-1, dataset: 7, connection: us.lake, labels: {a: 'b', c: ''}}}}\n\
         tables: {a.b: {from: [{subscription: s}]}}\n",
    ),
    (
        "type: storage",
        "server: {status_page: open}\nroutes: [{table: a.b}]\n",
    ),
    (
        "type: storage",
        "server: {push_auth: false, status_page: false}\ntables: {}\nroutes: [{table: a.b}]\n",
    ),
    (
        "type: storage",
        "sources: {a: {subscriptions: [s, projects/p/subscriptions/t.u], dedupe_attribute: event id}, 7: {subscriptions: [8]}}\ntables: {a.b: {from: [{subscription: s}]}}\n",
    ),
    (
        "type: storage",
        "defaults: {schema: [{name: 'a ''b\"', type: 'struct<x y: map<string, list<long required>>>', doc: \"l\\n2 é \u{1F600}\"}]}\n\
         tables: {a.b: {schema: inferred, partition_by: ['identity(x)', y, DAY(at)], properties: {n: 'null', t: '~', v: '$${X}', c: '#: -', é: '\u{85}'}}}\n",
    ),
    (
        "type: storage",
        "tables:\n  a.b:\n    schema:\n      - {name: 1, type: \"decimal(12,2)\", required: \"true\", doc: 2}\n      \
         - name: d\n        type: decimal( 3 , 1 )\n      - {name: f, type: fixed(16), required: \"${MUST:-false}\"}\n      \
         - {name: l, type: \"${TYPE:-list<long>}\"}\n",
    ),
    (
        "type: storage",
        "tables: {a.b: {mode: append, on_bad_record: dead_letter, schema_evolution: ignore, format: \"${FORMAT:-json}\", \
         batch: {commit_interval: \"${WAIT:-7s}\", max_rows: \"${ROWS:-12}\", max_bytes: \"${BYTES:-1}MiB\"}}}\n",
    ),
    (
        "type: storage",
        "tables:\n  a.b:\n    from: [{attributes: {kind: 1, new: true}}]\n    properties: {a: 1, b: true, format-version: 2, \
         write.parquet.compression-codec: GZIP, write.parquet.compression-level: 9, write.parquet.page-row-limit: 5, \
         write.parquet.bloom-filter-enabled.column.id: true, write.metadata.metrics.default: truncate(4), \
         write.metadata.metrics.column.a.b: None, write.metadata.metrics.max-inferred-column-defaults: 0}\n",
    ),
    (
        "type: storage",
        "tables: {a.b: {from: [{bucket: 'file:///in', objects: '**/a b-*/.é.json'}, {bucket: file:/in/, objects: 7}]}}\n\
         routes: [{bucket: \"file:///${IN:-in}\", objects: \"${NAMES:-x/**}\", table: \"f.x_{folder}\", allow: [f.*]}, \
         {bucket: 'file:///in', table: f.rest}]\n",
    ),
];

/// What breaks one rule after the required keys, with the place and the beginning of the error. The schema refuses it too.
pub const MISTAKES: &[(&str, &str)] = &[
    (
        "tables: {a.b: {schema: [{name: x, type: decimal(12,2)}]}}\n",
        ":4:41: tables.a.b.schema[0].type: inside `{…}`, YAML ends the text at its comma; quote it: `type: \"decimal(12,2)\"`",
    ),
    (
        "tables:\n  a.b:\n    schema:\n      - { name: x, type: map<string, decimal(9, 0)>, required: true }\n",
        ":7:26: tables.a.b.schema[0].type: inside `{…}`, YAML ends the text at its comma; quote it: `type: \"map<string,decimal(9,0)>\"`",
    ),
    (
        "tables: {a.b: {schema: [{name: x, type: decimal(12, required: true}]}}\n",
        ":4:41: tables.a.b.schema[0].type: `,` is expected at character 11 of `decimal(12`",
    ),
    (
        "tables: {a.b: {partition_by: [at, day(a, b)]}}\n",
        ":4:35: tables.a.b.partition_by[1]: `day(a` has no `)`; inside `[…]` YAML ends a text at its comma, so quote it",
    ),
    (
        "dead_letter: x\ntables: {a.b: {}}\n",
        ":4:1: dead_letter: unknown key; did you mean `dead_letters`?",
    ),
    (
        "server: {api_auth: {}}\ntables: {a.b: {}}\n",
        ":4:20: server.api_auth.bearer: the key is missing; write `bearer:",
    ),
    (
        "tables: {a.b: {}}\ntabels: {}\n",
        ":5:1: tabels: unknown key; did you mean `tables`?",
    ),
    (
        "tables:\n  shop.orders:\n    bacth: {}\n",
        ":6:5: tables.shop.orders.bacth: unknown key; did you mean `batch`?",
    ),
    ("", ":1:1: nothing would land"),
    ("tables: {}\n", ":1:1: nothing would land"),
    ("routes: []\n", ":4:9: routes: the list is empty"),
    (
        "tables: {orders: {}}\n",
        ":4:10: tables.orders: `orders` names no namespace",
    ),
    (
        "tables: {a..b: {}}\n",
        ":4:10: tables.a..b: `a..b` has a level that is empty",
    ),
    (
        "tables: {\"a.b c\": {}}\n",
        ":4:10: tables.a.b c: `a.b c` has a level",
    ),
    (
        "tables: {a.b: {format: yaml}}\n",
        ":4:24: tables.a.b.format: `yaml` is not known",
    ),
    (
        "tables: {a.b: {format: csv}}\n",
        ":4:24: tables.a.b.format: `csv` is not in this version of landfast; write `auto` or `json`",
    ),
    (
        "tables: {a.b: {from: [{}]}}\n",
        ":4:23: tables.a.b.from[0]: no condition is given",
    ),
    (
        "tables: {a.b: {from: [{attributes: {}}]}}\n",
        ":4:36: tables.a.b.from[0].attributes: no attribute",
    ),
    (
        "tables: {a.b: {from: [{subscription: a b}]}}\n",
        ":4:38: tables.a.b.from[0].subscription: `a b` is not",
    ),
    (
        "tables: {a.b: {ledger: {retention: week}}}\n",
        ":4:36: tables.a.b.ledger.retention: `week` is not a duration",
    ),
    (
        "tables: {a.b: {batch: {max_rows: 0}}}\n",
        ":4:34: tables.a.b.batch.max_rows: `0` is less than 1",
    ),
    (
        "tables: {a.b: {batch: {max_bytes: 1mb}}}\n",
        ":4:35: tables.a.b.batch.max_bytes: `1mb` is not a size; write bytes",
    ),
    (
        "tables: {a.b: {batch: {commit_interval: 2}}}\n",
        ":4:41: tables.a.b.batch.commit_interval: `2` has no unit; write",
    ),
    (
        "tables: {a.b: {properties: {landfast.ledger.main: x}}}\n",
        ":4:29: tables.a.b.properties.landfast.ledger.main: properties that begin",
    ),
    (
        "tables: {a.b: {properties: {uuid: x}}}\n",
        ":4:29: tables.a.b.properties.uuid: this property",
    ),
    (
        "tables: {a.b: {schema: infered}}\n",
        ":4:24: tables.a.b.schema: `infered` is not known (did you mean `inferred`?); write `inferred`, `envelope`, or",
    ),
    (
        "tables: {a.b: {schema: []}}\n",
        ":4:24: tables.a.b.schema: the list is empty",
    ),
    (
        "tables:\n  a.b:\n    schema:\n      - {name: x, type: bigint}\n",
        ":7:25: tables.a.b.schema[0].type: `bigint` is not an Iceberg type (did you mean `long`?)",
    ),
    (
        "tables: {a.b: {schema: [{name: x, type: timestamp_ns}]}}\n",
        ":4:41: tables.a.b.schema[0].type: `timestamp_ns` needs table format version 3",
    ),
    (
        "tables: {a.b: {schema: [{type: int}]}}\n",
        ":4:25: tables.a.b.schema[0].name: the key is missing",
    ),
    (
        "tables: {a.b: {schema: [{name: _file, type: int}]}}\n",
        ":4:32: tables.a.b.schema[0].name: `_file` is a column",
    ),
    (
        "tables: {a.b: {schema: [{name: x, type: int, required: yes}]}}\n",
        ":4:56: tables.a.b.schema[0].required: `yes` is neither",
    ),
    (
        "defaults: {from: []}\ntables: {a.b: {}}\n",
        ":4:12: defaults.from: `from` belongs to one table",
    ),
    ("routes: [{}]\n", ":4:10: routes[0].table: the key is missing"),
    (
        "routes: [{table: x}]\n",
        ":4:18: routes[0].table: `x` does not make",
    ),
    (
        "routes: [{table: a.b, allow: []}]\n",
        ":4:30: routes[0].allow: the list is empty",
    ),
    (
        "routes: [{table: a.b, allow: [\"a b\"]}]\n",
        ":4:31: routes[0].allow[0]: `a b` could match no table name",
    ),
    (
        "sources: {\"a b\": {subscriptions: [s]}}\ntables: {a.b: {}}\n",
        ":4:11: sources.a b: a source's name",
    ),
    (
        "sources: {a: {}}\ntables: {a.b: {}}\n",
        ":4:14: sources.a.subscriptions: the key is missing",
    ),
    (
        "sources: {a: {subscriptions: [s], dedupe_attribute: ''}}\ntables: {a.b: {}}\n",
        ":4:53: sources.a.dedupe_attribute: the name is empty",
    ),
    (
        "server:\ntables: {a.b: {}}\n",
        ":4:1: server: the key has no value",
    ),
    (
        "server: {listen: localhost:80}\ntables: {a.b: {}}\n",
        ":4:18: server.listen: `localhost:80` is a host name (did you mean `127.0.0.1`?)",
    ),
    (
        "server: {max_in_flight_requests: 0}\ntables: {a.b: {}}\n",
        ":4:34: server.max_in_flight_requests: `0` is less than 1",
    ),
    (
        "server: {push_auth: on}\ntables: {a.b: {}}\n",
        ":4:21: server.push_auth: `on` does not say who may push",
    ),
    (
        "server: {api_auth: {bearer: a b}}\ntables: {a.b: {}}\n",
        ":4:29: server.api_auth.bearer: the token is empty or holds other",
    ),
    (
        "server: {status_page: on}\ntables: {a.b: {}}\n",
        ":4:23: server.status_page: `on` does not say who may see the page; write `protected` or `open` or `off`",
    ),
    (
        "server: {drain: 5s}\ntables: {a.b: {}}\n",
        ":4:10: server.drain: `drain` is not in this version of landfast",
    ),
    (
        "tables: {a.b: {from: [{bucket: landing/orders}]}}\n",
        ":4:32: tables.a.b.from[0].bucket: `landing/orders` is not a URL",
    ),
    (
        "tables: {a.b: {from: [{bucket: file:landing}]}}\n",
        ":4:32: tables.a.b.from[0].bucket: `file:landing` is not an absolute path",
    ),
    (
        "tables: {a.b: {from: [{bucket: memory:///in}]}}\n",
        ":4:32: tables.a.b.from[0].bucket: `memory:///in` is no folder",
    ),
    (
        "tables: {a.b: {from: [{bucket: file:///in, objects: /orders/*}]}}\n",
        ":4:53: tables.a.b.from[0].objects: `/orders/*` could match no file's name; write",
    ),
    (
        "tables: {a.b: {from: [{bucket: file:///in, objects: a/../b}]}}\n",
        ":4:53: tables.a.b.from[0].objects: `a/../b` could match no file's name; write",
    ),
    (
        "tables: {a.b: {from: [{bucket: file:///in, objects: a?}]}}\n",
        ":4:53: tables.a.b.from[0].objects: `a?` holds '?', which is no wildcard here; write",
    ),
    (
        "tables: {a.b: {from: [{bucket: file:///in, objects: a***}]}}\n",
        ":4:53: tables.a.b.from[0].objects: `a***` has more than two stars in a row; write",
    ),
];

/// The same, of rules that no schema can tell: values that do not go together, names that are one.
pub const DEEPER_MISTAKES: &[(&str, &str)] = &[
    (
        "tables: {a.b: {ledger: {retention: 1h}}}\n",
        ":4:36: tables.a.b.ledger.retention: a message is delivered again for days",
    ),
    (
        "tables: {a.b: {batch: {commit_interval: 31s}}}\n",
        ":4:41: tables.a.b.batch.commit_interval: `commit_interval` is more than half",
    ),
    (
        "tables: {a.b: {properties: {format-version: 3}}}\n",
        ":4:45: tables.a.b.properties.format-version: landfast writes table format version 2",
    ),
    (
        "tables: {a.b: {schema: [{name: x, type: int}, {name: X, type: int}]}}\n",
        ":4:47: tables.a.b.schema[1]: the column `X` stands twice",
    ),
    (
        "sources: {a: {subscriptions: [s, t]}, b: {subscriptions: [projects/p/subscriptions/s]}}\ntables: {a.b: {}}\n",
        ":4:59: sources.b.subscriptions[0]: the subscription stands already in `sources.a.subscriptions[0]`",
    ),
    (
        "server: {max_body_bytes: 1GiB}\ntables: {a.b: {}}\n",
        ":4:26: server.max_body_bytes: `max_body_bytes` is larger",
    ),
    (
        "server: {max_in_flight_bytes: 1MiB}\ntables: {a.b: {}}\n",
        ":4:31: server.max_in_flight_bytes: `max_body_bytes` is larger",
    ),
    (
        "server: {ack_deadline: 9s}\ntables: {a.b: {}}\n",
        ":4:24: server.ack_deadline: the acknowledgement deadline",
    ),
    (
        "server: {ack_deadline: 601s}\ntables: {a.b: {}}\n",
        ":4:24: server.ack_deadline: the acknowledgement deadline",
    ),
    (
        "tables: {a.b: {from: [{bucket: file:///in/landed}]}}\n",
        ":4:32: tables.a.b.from[0].bucket: files that landed are moved into the folder `landed`",
    ),
    (
        "tables: {a.b: {from: [{objects: orders/**}]}}\n",
        ":4:24: tables.a.b.from[0].objects: `objects` goes with `bucket`; write",
    ),
    (
        "tables: {a.b: {from: [{bucket: file:///in, subscription: s}]}}\n",
        ":4:24: tables.a.b.from[0].bucket: a file has no subscription and no attributes",
    ),
    (
        "tables: {a.b: {from: [{bucket: file:///in}], schema: envelope}}\n",
        ":4:15: tables.a.b: a table of raw envelopes takes messages, not files",
    ),
    (
        "routes: [{bucket: file:///in, table: \"a.{subscription}\"}]\n",
        ":4:38: routes[0].table: a file has no subscription and no attributes; write `{folder}`",
    ),
    (
        "routes: [{subscription: s, table: \"a.{folder}\"}]\n",
        ":4:35: routes[0].table: `{folder}` stands for the folder of a file; write a `bucket`",
    ),
];

/// What a table may say in later versions, with the word that is not in this one.
pub const LATER_VALUES: &[(&str, &str)] = &[
    ("mode: upsert", "upsert"),
    ("mode: overwrite", "overwrite"),
    ("on_bad_record: fail", "fail"),
    ("on_bad_record: columns", "columns"),
    ("schema_evolution: add_columns", "add_columns"),
    ("schema_evolution: strict", "strict"),
    ("schema: [{name: x, type: int, from: /x}]", "from"),
];
