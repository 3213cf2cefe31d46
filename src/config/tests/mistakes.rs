//! What is refused, and where the error points.

use super::*;

#[test]
fn mistakes_are_told_with_their_place() {
    for (rest, expected) in [
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
            "tables: {a.b: {batch: {commit_interval: 31s}}}\n",
            ":4:41: tables.a.b.batch.commit_interval: `commit_interval` is more than half",
        ),
        (
            "tables: {a.b: {properties: {format-version: 3}}}\n",
            ":4:45: tables.a.b.properties.format-version: landfast writes table format version 2",
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
            ":4:24: tables.a.b.schema: `infered` is not a schema",
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
            "tables: {a.b: {schema: [{name: x, type: int}, {name: X, type: int}]}}\n",
            ":4:47: tables.a.b.schema[1]: the column `X` stands twice",
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
            "sources: {a: {subscriptions: [s, t]}, b: {subscriptions: [projects/p/subscriptions/s]}}\ntables: {a.b: {}}\n",
            ":4:59: sources.b.subscriptions[0]: the subscription stands already in `sources.a.subscriptions[0]`",
        ),
        (
            "sources: {a: {}}\ntables: {a.b: {}}\n",
            ":4:14: sources.a.subscriptions: the key is missing",
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
            "server: {max_body_bytes: 1GiB}\ntables: {a.b: {}}\n",
            ":4:26: server.max_body_bytes: `max_body_bytes` is larger",
        ),
        (
            "server: {max_in_flight_bytes: 1MiB}\ntables: {a.b: {}}\n",
            ":4:31: server.max_in_flight_bytes: `max_body_bytes` is larger",
        ),
        (
            "server: {max_in_flight_requests: 0}\ntables: {a.b: {}}\n",
            ":4:34: server.max_in_flight_requests: `0` is less than 1",
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
            "server: {push_auth: on}\ntables: {a.b: {}}\n",
            ":4:21: server.push_auth: `on` does not say who may push",
        ),
        (
            "server: {api_auth: {bearer: a b}}\ntables: {a.b: {}}\n",
            ":4:29: server.api_auth.bearer: the token is empty or holds other",
        ),
        (
            "server: {drain: 5s}\ntables: {a.b: {}}\n",
            ":4:10: server.drain: `drain` is not in this version of landfast",
        ),
    ] {
        refuses(rest, &format!("f.yaml{expected}"));
    }
}

#[test]
fn partitions_that_cannot_be_are_refused_where_they_stand() {
    let table = |keys: &str| format!("tables: {{a.b: {{{keys}}}}}\n");
    let columns = "schema: [{name: id, type: long}, {name: r, type: double}, {name: l, type: list<int>}]";
    for (items, expected) in [
        (
            "[day(id)]",
            "`id`: `day` takes a date, timestamp or timestamptz, not a long",
        ),
        (
            "[identity(r)]",
            "`r`: a partition by float or double is not read alike",
        ),
        ("[nope]", "there is no column `nope`"),
        ("[l.element]", "`l.element` is inside a list or map"),
        ("[l]", "`l`: `identity` does not take a list"),
    ] {
        let rest = table(&format!("partition_by: {items}, {columns}"));
        refuses(
            &rest,
            &format!("f.yaml:4:31: tables.a.b.partition_by[0]: {expected}"),
        );
    }
    for (item, expected) in [
        (
            "\"bucket(16, id)\"",
            "`bucket` is not in this version of landfast",
        ),
        ("hour(at)", "`hour` is not in this version of landfast"),
        ("dya(at)", "`dya` is no transform (did you mean `day`?)"),
        ("day()", "`day` has no column in parentheses"),
    ] {
        let rest = table(&format!("partition_by: [id, {item}]"));
        refuses(
            &rest,
            &format!("f.yaml:4:35: tables.a.b.partition_by[1]: {expected}"),
        );
    }
    refuses(
        &table("partition_by: [id, identity(id)]"),
        "f.yaml:4:35: tables.a.b.partition_by[1]: `id` stands twice",
    );
    let inherited = format!("defaults: {{partition_by: [nope]}}\ntables: {{a.b: {{{columns}}}}}\n");
    refuses(&inherited, "f.yaml:5:15: tables.a.b: there is no column `nope`");
}

#[test]
fn write_properties_say_what_they_take() {
    for (properties, expected) in [
        (
            "write.parquet.compression-codec: zip",
            "62: tables.a.b.properties.write.parquet.compression-codec: takes zstd, snappy, gzip, lz4, brotli or none",
        ),
        (
            "write.target-file-size-bytes: 512MiB",
            "59: tables.a.b.properties.write.target-file-size-bytes: takes a whole number of at least 1, without a unit",
        ),
        (
            "write.metadata.metrics.column.id: all",
            "63: tables.a.b.properties.write.metadata.metrics.column.id: takes `none`, `counts`, `truncate(16)`",
        ),
        (
            "write.parquet.compression-codec: gzip, write.parquet.compression-level: 10",
            "101: tables.a.b.properties.write.parquet.compression-level: takes 0 to 9 for the codec `gzip`",
        ),
    ] {
        let rest = format!("tables: {{a.b: {{properties: {{{properties}}}}}}}\n");
        refuses(&rest, &format!("f.yaml:4:{expected}"));
    }
    refuses(
        "defaults: {properties: {write.parquet.compression-level: 19}}\n\
         tables: {a.b: {properties: {write.parquet.compression-codec: gzip}}}\n",
        "f.yaml:5:28: tables.a.b.properties: `write.parquet.compression-level` takes 0 to 9 for the codec `gzip`",
    );
}

#[test]
fn keys_of_later_versions_are_refused_as_such() {
    for key in [
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
        "ledger",
    ] {
        let expected = format!("f.yaml:4:16: tables.a.b.{key}: `{key}` is not in this version of landfast");
        refuses(&format!("tables: {{a.b: {{{key}: x}}}}\n"), &expected);
    }
    for (value, word) in [
        ("mode: upsert", "upsert"),
        ("mode: overwrite", "overwrite"),
        ("on_bad_record: fail", "fail"),
        ("on_bad_record: columns", "columns"),
        ("schema_evolution: add_columns", "add_columns"),
        ("schema_evolution: strict", "strict"),
        ("from: [{field: b, subscription: s}]", "field"),
        ("schema: [{name: x, type: int, from: /x}]", "from"),
    ] {
        let found = problems(&format!("{HEAD}tables: {{a.b: {{{value}}}}}\n"));
        let expected = format!("`{word}` is not in this version of landfast");
        assert!(
            found.len() == 1 && found[0].contains(&expected),
            "{value}: {found:?}"
        );
    }
    parse(&format!(
        "{HEAD}tables: {{a.b: {{mode: append, on_bad_record: dead_letter, schema_evolution: ignore}}}}\n"
    ));
}

#[test]
fn only_a_condition_of_a_later_version_is_one_mistake_per_key() {
    let found = problems(&format!(
        "{HEAD}tables: {{a.b: {{from: [{{field: kind, equals: order}}]}}}}\n"
    ));
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn stores_and_catalogs_of_later_versions_are_refused_as_such() {
    let found = problems(&format!(
        "warehouse: gs://lake/w\ncatalog: {{type: rest, uri: x}}\ndead_letters: {{topic: t}}\n{TABLE}"
    ));
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(
        found[0].starts_with("f.yaml:1:12: warehouse: `gs://` is not in this version of landfast; write")
    );
    assert!(found[1].starts_with("f.yaml:2:17: catalog.type: `rest` is not in this version of landfast"));
    assert!(found[2].starts_with("f.yaml:2:23: catalog.uri: `uri` is not in this version of landfast"));
    assert!(
        found[3].starts_with("f.yaml:3:16: dead_letters.topic: `topic` is not in this version of landfast")
    );
}

#[test]
fn sql_catalog_needs_a_database() {
    for (catalog, key, word) in [
        ("type: sql", "catalog.uri", "the key is missing"),
        ("type: sql, uri: s3cret", "catalog.uri", "not the address"),
        (
            "type: sql, uri: 'postgresql://u:${BAD}@h'",
            "catalog.uri",
            "not accepted",
        ),
        (
            "type: sql, uri: 'sqlite:///d/c.db', name: ''",
            "catalog.name",
            "empty",
        ),
        (
            "type: sql, uri: 'sqlite:///d/c.db', nam: x",
            "catalog.nam",
            "did you mean `name`?",
        ),
        (
            "type: storage, uri: 'sqlite:///d/c.db'",
            "catalog.uri",
            "goes with `type: sql`",
        ),
    ] {
        let found = problems(&format!("{HEAD}{TABLE}").replace("type: storage", catalog));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains(&format!(": {key}: ")) && found[0].contains(word),
            "{found:?}"
        );
        assert!(
            !found[0].contains("s3cret") && !found[0].contains("hunter2"),
            "{found:?}"
        );
    }
}

#[test]
fn every_mistake_of_a_file_is_told_in_one_pass() {
    let found = problems("warehous: x\ncatalog: {type: storge}\nserver: {listen: x, listne: y}\n");
    let keys: Vec<&str> = found
        .iter()
        .map(|line| line.split(": ").nth(1).unwrap())
        .collect();
    assert_eq!(
        keys,
        [
            "warehouse",
            "dead_letters",
            "warehous",
            "nothing would land",
            "catalog.type",
            "server.listen",
            "server.listne"
        ]
    );
    assert!(found[4].contains("did you mean `storage`?"));
}

#[test]
fn warehouse_and_dead_letters_lie_apart() {
    for (warehouse, dead_letters) in [("/w", "/w"), ("/w", "/w/dead"), ("/w/x", "/w")] {
        let found = problems(&format!(
            "warehouse: file://{warehouse}\ncatalog: {{type: storage}}\ndead_letters: file://{dead_letters}\n{TABLE}"
        ));
        assert!(
            found[0].starts_with("f.yaml:3:15: dead_letters: the dead letters `file:///w")
                && found[0].contains("lie in each other"),
            "{found:?}"
        );
    }
}

#[test]
fn yaml_abuse_is_a_clean_error() {
    for (text, word) in [
        ("a: &x [1]\n".to_owned(), "anchors"),
        (format!("{HEAD}server: *x\n"), "aliases"),
        (format!("{HEAD}server: !!map {{}}\n{TABLE}"), "tags"),
        (format!("{HEAD}{TABLE}---\n{HEAD}"), "second YAML document"),
        (
            format!("{HEAD}{TABLE}{TABLE}"),
            "f.yaml:5:1: tables: this key stands twice: first at 4:1",
        ),
        (
            format!("{HEAD}<<: {{a: 1}}\n{TABLE}"),
            "f.yaml:4:1: <<: unknown key",
        ),
        ("- a\n".to_owned(), "a list is not accepted here"),
        ("just text\n".to_owned(), "plain text is not accepted here"),
        ("[".repeat(100_000), "not YAML"),
        (format!("{HEAD}server: {}", "{a: ".repeat(100_000)), "not YAML"),
        ("\0".to_owned(), "f.yaml:"),
    ] {
        let found = problems(&text);
        assert!(found.iter().any(|line| line.contains(word)), "{word}: {found:?}");
    }
    assert_eq!(
        problems("").len(),
        4,
        "an empty file lacks the three keys and tables"
    );
    assert_eq!(problems("# nothing\n").len(), 4);
}

#[test]
fn files_that_cannot_be_read_are_problems_without_a_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("landfast.yaml");
    let read = || {
        Config::check_file(&path, &env)
            .unwrap_err()
            .iter()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert!(read()[0].position.is_none() && read()[0].message.contains("cannot be read"));
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(read()[0].message.contains("not UTF-8"));
    std::fs::write(&path, "# large\n".repeat(1 << 20)).unwrap();
    assert!(read()[0].message.contains("larger than 4 MiB"));
    std::fs::write(&path, format!("\u{feff}{HEAD}{TABLE}")).unwrap();
    assert!(
        Config::load(&path, &env).is_ok(),
        "a byte order mark is no mistake"
    );
}
