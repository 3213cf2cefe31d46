//! Landing folders: what is read, and what is refused.

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
fn landing_folders_say_what_they_take() {
    let from = |item: &str| format!("tables: {{a.b: {{from: [{item}]}}}}\n");
    for (item, expected) in [
        (
            "{bucket: acme-landing, objects: orders/*}",
            "32: tables.a.b.from[0].bucket: `acme-landing` names a Cloud Storage bucket, and a `bucket` of Cloud Storage is \
             not in this version of landfast; write a folder of this machine such as `file:///srv/landing`",
        ),
        (
            "{bucket: gs://acme-landing}",
            "32: tables.a.b.from[0].bucket: `gs://` is not in this version of landfast",
        ),
        (
            "{bucket: landing/orders}",
            "32: tables.a.b.from[0].bucket: `landing/orders` is not a URL",
        ),
        (
            "{bucket: file:landing}",
            "32: tables.a.b.from[0].bucket: `file:landing` is not an absolute path",
        ),
        (
            "{bucket: memory:///in}",
            "32: tables.a.b.from[0].bucket: `memory:///in` is no folder",
        ),
        (
            "{bucket: file:///in/landed}",
            "32: tables.a.b.from[0].bucket: files that landed are moved into the folder `landed`",
        ),
        (
            "{bucket: file:///in, objects: /orders/*}",
            "53: tables.a.b.from[0].objects: `/orders/*` could match no file's name; write",
        ),
        (
            "{bucket: file:///in, objects: a?}",
            "53: tables.a.b.from[0].objects: `a?` holds '?', which is no wildcard here; write",
        ),
        (
            "{objects: orders/**}",
            "24: tables.a.b.from[0].objects: `objects` goes with `bucket`; write",
        ),
        (
            "{bucket: file:///in, subscription: s}",
            "24: tables.a.b.from[0].bucket: a file has no subscription and no attributes",
        ),
    ] {
        refuses(&from(item), &format!("f.yaml:4:{expected}"));
    }
    refuses(
        "tables: {a.b: {from: [{bucket: file:///in}], schema: envelope}}\n",
        "f.yaml:4:15: tables.a.b: a table of raw envelopes takes messages, not files",
    );
    refuses(
        "routes: [{bucket: file:///in, table: \"a.{subscription}\"}]\n",
        "f.yaml:4:38: routes[0].table: a file has no subscription and no attributes; write `{folder}`",
    );
    refuses(
        "routes: [{subscription: s, table: \"a.{folder}\"}]\n",
        "f.yaml:4:35: routes[0].table: `{folder}` stands for the folder of a file; write a `bucket`",
    );
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
