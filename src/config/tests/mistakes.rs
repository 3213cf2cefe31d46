//! What is refused, and where the error points.

use super::cases::{DEEPER_MISTAKES, LATER_VALUES, MISTAKES};
use super::*;

#[test]
fn mistakes_are_told_with_their_place() {
    for (rest, expected) in MISTAKES.iter().chain(DEEPER_MISTAKES) {
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
    ] {
        let expected = format!("f.yaml:4:16: tables.a.b.{key}: `{key}` is not in this version of landfast");
        refuses(&format!("tables: {{a.b: {{{key}: x}}}}\n"), &expected);
    }
    for (value, word) in LATER_VALUES {
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
        "{HEAD}routes: [{{field: kind, equals: order, table: a.b}}]\n"
    ));
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn conditions_on_records_are_whole_and_of_messages() {
    for (conditions, key, word) in [
        ("field: kind", "from[0].field", "write both"),
        ("subscription: s, equals: order", "from[0].equals", "write both"),
        (
            "bucket: \"file:///in\", field: kind, equals: order",
            "from[0].field",
            "for messages only",
        ),
    ] {
        let found = problems(&format!("{HEAD}tables: {{a.b: {{from: [{{{conditions}}}]}}}}\n"));
        assert!(
            found.len() == 1 && found[0].contains(key) && found[0].contains(word),
            "{found:?}"
        );
    }
}

#[test]
fn stores_and_catalogs_of_later_versions_are_refused_as_such() {
    let found = problems(&format!(
        "warehouse: az://lake/w\ncatalog: {{type: glue, uri: x}}\ndead_letters: {{table: t}}\n{TABLE}"
    ));
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(
        found[0].starts_with("f.yaml:1:12: warehouse: `az://` is not in this version of landfast; write")
    );
    assert!(found[1].starts_with("f.yaml:2:17: catalog.type: `glue` is not in this version of landfast"));
    assert!(
        found[3].starts_with("f.yaml:3:16: dead_letters.table: `table` is not in this version of landfast")
    );
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
fn missing_dead_letters_are_told_a_place_beside_the_warehouse() {
    for (warehouse, place) in [
        ("file:///lake/warehouse", "`file:///lake/dead-letters`"),
        ("file:///w", "`file:///dead-letters`"),
        // What a variable holds is not shown, and nothing lies beside everything.
        (
            "file:///lake/${WAIT}/w",
            "`file:///var/lib/landfast/dead-letters`, or `{topic: NAME}`",
        ),
        (
            "memory:///",
            "`file:///var/lib/landfast/dead-letters`, or `{topic: NAME}`",
        ),
        (
            "lake",
            "`file:///var/lib/landfast/dead-letters`, or `{topic: NAME}`",
        ),
    ] {
        let found = problems(&format!(
            "warehouse: {warehouse}\ncatalog: {{type: storage}}\n{TABLE}"
        ));
        assert_eq!(
            found[0],
            format!(
                "f.yaml:1:1: dead_letters: the key is missing; write a location beside the warehouse, such as {place}"
            )
        );
    }
}

#[test]
fn missing_type_of_the_catalog_is_told_its_words() {
    let found = problems(&format!("{HEAD}{TABLE}").replace("type: storage", ""));
    assert_eq!(
        found,
        [
            "f.yaml:2:10: catalog.type: the key is missing; write `type: storage` or `type: sql` or `type: rest` or `type: biglake` or `type: memory`"
        ]
    );
}

#[test]
fn dead_letters_in_another_form_are_refused() {
    for (value, word) in [
        (
            "{}",
            "a mapping is not accepted here; write a location beside the warehouse",
        ),
        ("{toppic: t}", "did you mean `topic`?"),
        ("{x: t}", "dead_letters.x: unknown key"),
        (
            "{topic: projects/p/subscriptions/s}",
            "is not the name of a topic; write a topic as `dead-letters`",
        ),
        ("{topic: \"\"}", "is not the name of a topic"),
        ("{topic: []}", "a list is not accepted here"),
    ] {
        let found = problems(&format!("{HEAD}{TABLE}").replace("file:///d", value));
        assert!(found.iter().any(|line| line.contains(word)), "{found:?}");
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
