//! Landing folders: what is read, and what may not lie in each other.

use super::*;

#[test]
fn files_example_is_read() {
    let text = include_str!("../../../examples/files.yaml");
    let config = Config::check("files.yaml", text, &env).unwrap_or_else(|problems| panic!("{problems}"));
    let orders = &config.tables[&table_ident("shop.orders").unwrap()];
    let files = orders.from[0].files.as_ref().unwrap();
    assert_eq!(files.bucket.to_string(), "file:///srv/landing");
    assert_eq!(files.objects.as_ref().unwrap().as_str(), "orders/**");
    assert_eq!(orders.from[1].files, None);
    assert_eq!(config.routes[0].table.parts().last(), Some(&TemplatePart::Folder));
    assert_eq!(config.landing_folders().len(), 1);
}

#[test]
fn landing_folders_lie_apart_from_everything_else() {
    let from = |bucket: &str| format!("tables: {{a.b: {{from: [{{bucket: file://{bucket}}}]}}}}\n");
    for (bucket, expected) in [
        (
            "/w",
            "the landing folder `file:///w` and the warehouse `file:///w`",
        ),
        (
            "/w/in",
            "the landing folder `file:///w/in` and the warehouse `file:///w`",
        ),
        (
            "/d/in",
            "the landing folder `file:///d/in` and the dead letters `file:///d`",
        ),
    ] {
        refuses(
            &from(bucket),
            &format!("f.yaml:4:32: tables.a.b.from[0].bucket: {expected} lie in each other"),
        );
    }
    let places = |warehouse: &str, dead_letters: &str, rest: &str| {
        problems(&format!(
            "warehouse: file://{warehouse}\ncatalog: {{type: storage}}\ndead_letters: {dead_letters}\n{rest}"
        ))
    };
    for (warehouse, dead_letters, other) in [
        (
            "/in/w",
            "file:///d",
            "the landing folder `file:///in` and the warehouse",
        ),
        (
            "/w",
            "file:///in/d",
            "the landing folder `file:///in` and the dead letters",
        ),
        (
            "/landed",
            "file:///d",
            "the folder of landed files `file:///landed` and the warehouse",
        ),
        (
            "/w",
            "file:///landed/d",
            "the folder of landed files `file:///landed` and the dead letters",
        ),
    ] {
        let found = places(warehouse, dead_letters, &from("/in"));
        assert!(found.len() == 1 && found[0].contains(other), "{found:?}");
    }
    let found = places("/w", "{topic: letters}", &from("/in"));
    assert!(
        found.len() == 1 && found[0].contains("write `dead_letters: file:///…`"),
        "{found:?}"
    );
    let found = places("/w", "memory:///d", &from("/in"));
    assert!(
        found.len() == 1 && found[0].contains("write `dead_letters: file:///…`"),
        "{found:?}"
    );
    // One folder may feed many tables; one in another, or where another's files land, may not.
    let two = |first: &str, second: &str| {
        format!(
            "tables: {{a.b: {{from: [{{bucket: file://{first}, objects: x/*}}]}}}}\n\
             routes: [{{bucket: file://{second}, table: \"a.{{folder}}\"}}]\n"
        )
    };
    let config = parse(&format!("{HEAD}{}", two("/in", "/in")));
    assert_eq!(config.landing_folders().len(), 1);
    let config = parse(&format!("{HEAD}{}", two("/in", "/other")));
    assert_eq!(config.landing_folders().len(), 2);
    for (first, second) in [("/in", "/in/x"), ("/in/x", "/in"), ("/x/in", "/x/landed/in")] {
        let found = problems(&format!("{HEAD}{}", two(first, second)));
        assert!(
            found.len() == 1 && found[0].contains("lie in each other"),
            "{found:?}"
        );
    }
}

#[test]
fn objects_example_is_read() {
    let text = include_str!("../../../examples/objects.yaml");
    let config = Config::check("objects.yaml", text, &env).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(
        config.landing_buckets(),
        [&"gs://acme-landing".parse().unwrap()].into()
    );
    assert_eq!(config.routes[0].table.parts().last(), Some(&TemplatePart::Folder));
}

#[test]
fn landing_bucket_is_named_and_lies_apart_from_everything_else() {
    let from = |bucket: &str| format!("tables: {{a.b: {{from: [{{bucket: {bucket}, objects: x/*}}]}}}}\n");
    for bucket in ["acme-landing", "gs://acme-landing", "gs://acme-landing/"] {
        let config = parse(&format!("{HEAD}{}", from(bucket)));
        let buckets = config.landing_buckets();
        assert_eq!(buckets, [&"gs://acme-landing".parse().unwrap()].into());
        assert!(config.landing_folders().is_empty());
    }
    for (bucket, expected) in [
        ("Acme_Landing", "`gs://Acme_Landing` names no bucket"),
        (
            "gs://acme-landing/orders",
            "`gs://acme-landing/orders` is a folder in a bucket",
        ),
        (
            "s3://acme-landing",
            "`s3://acme-landing` is in a store whose events landfast does not take",
        ),
    ] {
        refuses(
            &from(bucket),
            &format!("f.yaml:4:32: tables.a.b.from[0].bucket: {expected}"),
        );
    }
    let found = problems(&format!(
        "{HEAD}defaults: {{schema: envelope}}\nroutes: [{{bucket: acme-landing, table: \"a.{{folder}}\"}}]\n"
    ));
    assert!(
        found.len() == 1 && found[0].contains("raw envelopes"),
        "{found:?}"
    );
    // A table's own files would be taken for what is to land in it.
    for (warehouse, dead_letters, other) in [
        ("gs://acme-landing/w", "gs://letters", "the warehouse"),
        ("gs://lake", "gs://acme-landing/d", "the dead letters"),
    ] {
        let found = problems(&format!(
            "warehouse: {warehouse}\ncatalog: {{type: storage}}\ndead_letters: {dead_letters}\n{}",
            from("acme-landing")
        ));
        let expected = format!("the landing bucket `gs://acme-landing` and {other}");
        assert!(found.len() == 1 && found[0].contains(&expected), "{found:?}");
    }
}

#[test]
fn places_of_variables_never_show() {
    for (warehouse, bucket) in [
        ("/${WAIT}", "/7s/in"),
        ("/7s", "/${WAIT}/in"),
        ("/${WAIT}", "/${WAIT}/in"),
    ] {
        let found = problems(&format!(
            "warehouse: \"file://{warehouse}\"\ncatalog: {{type: storage}}\ndead_letters: file:///d\n\
             tables: {{a.b: {{from: [{{bucket: \"file://{bucket}\"}}]}}}}\n"
        ));
        assert!(
            found.len() == 1 && found[0].contains("lie in each other"),
            "{found:?}"
        );
        for (name, place) in [("the warehouse", warehouse), ("the landing folder", bucket)] {
            let shown = !place.contains("${");
            assert_eq!(
                found[0].contains(&format!("{name} `file://{place}`")),
                shown,
                "{found:?}"
            );
        }
        assert!(!found[0].contains("WAIT"), "{found:?}");
    }
}

#[test]
fn objects_that_landed_are_kept_moved_or_deleted() {
    let tables =
        |keys: &str| format!("tables: {{a.b: {{from: [{{bucket: landing, objects: \"x/**\"}}]{keys}}}}}\n");
    let after = |rest: &str| {
        let config = Config::parse("f.yaml", &format!("{HEAD}{rest}"), &env).unwrap();
        config.tables[&table_ident("a.b").unwrap()].after
    };
    assert_eq!(after(&tables("")), After::Keep);
    assert_eq!(after(&tables(", after: move")), After::Move);
    assert_eq!(after(&tables(", after: delete")), After::Delete);
    let defaults = "defaults: {after: move}\n";
    assert_eq!(after(&format!("{defaults}{}", tables(""))), After::Move);
    assert_eq!(
        after(&format!("{defaults}{}", tables(", after: keep"))),
        After::Keep
    );
}
