//! The key `catalog`: its types, their mistakes, and what is printed of them.

use super::catalog_cases::{DEEPER_WRONG_CATALOGS, WRONG_CATALOGS};
use super::*;

#[test]
fn sql_example_is_read() {
    let text = include_str!("../../../examples/sql.yaml");
    let env = |name: &str| (name == "PGPASSWORD").then(|| "s3cret".to_owned());
    let config = Config::check("sql.yaml", text, &env).unwrap_or_else(|problems| panic!("{problems}"));
    let CatalogConfig::Sql(sql) = &config.catalog else {
        panic!("sql")
    };
    assert_eq!(sql.name, "lake");
    assert_eq!(
        sql.uri.to_string(),
        "postgresql://landfast:***@db.internal:5432/catalog?sslmode=verify-full"
    );
}

#[test]
fn rest_example_is_read() {
    let text = include_str!("../../../examples/rest.yaml");
    let env = |name: &str| matches!(name, "CLIENT_ID" | "CLIENT_SECRET").then(|| "s3cret".to_owned());
    let config = Config::check("rest.yaml", text, &env).unwrap_or_else(|problems| panic!("{problems}"));
    let CatalogConfig::Rest(rest) = &config.catalog else {
        panic!("rest")
    };
    assert_eq!(rest.uri, "https://catalog.internal/api/catalog");
    let RestAuth::OAuth2(oauth2) = &rest.auth else {
        panic!("oauth2")
    };
    assert_eq!(oauth2.credential.expose(), "s3cret:s3cret");
    assert_eq!(rest.headers["X-Team"].expose(), "ingest");
}

#[test]
fn biglake_example_is_read() {
    let text = include_str!("../../../examples/biglake.yaml");
    let config =
        Config::check("biglake.yaml", text, &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    let CatalogConfig::BigLake(lake) = &config.catalog else {
        panic!("biglake")
    };
    assert_eq!(lake.warehouse, "bl://projects/acme/catalogs/lake");
    assert_eq!(lake.user_project, "acme");
    let rest = lake.as_rest();
    assert_eq!(rest.uri, "https://biglake.googleapis.com/iceberg/v1/restcatalog");
    assert_eq!(
        rest.headers["X-Iceberg-Access-Delegation"].expose(),
        "vended-credentials"
    );
}

#[test]
fn names_that_biglake_does_not_take_are_told_where_they_stand() {
    let lake = "type: biglake, warehouse: 'bl://projects/p/catalogs/c'";
    for (tables, key, told) in [
        (
            "tables: { a.b.orders: { from: [{ subscription: s }] } }",
            "tables.a.b.orders",
            "write `a_b.orders`",
        ),
        (
            "tables: { my-shop.orders: { from: [{ subscription: s }] } }",
            "tables.my-shop.orders",
            "no name of a dataset",
        ),
        (
            "routes: [{ subscription: s, table: 'cdc.{attributes.db}.{attributes.table}' }]",
            "routes[0].table",
            "single levels only",
        ),
    ] {
        let found = problems(&format!("{HEAD}{tables}\n").replace("type: storage", lake));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(key) && found[0].contains(told), "{found:?}");
        assert_eq!(problems(&format!("{HEAD}{tables}\n")), Vec::<String>::new());
    }
}

#[test]
fn wrong_catalogs_are_told_and_no_secret_shows() {
    for (catalog, key, word) in WRONG_CATALOGS.iter().chain(DEEPER_WRONG_CATALOGS) {
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
fn printed_catalog_hides_its_secrets() {
    for (auth, shown) in [
        (
            "type: google, user_project: p",
            "    type: google\n    user_project: p\n",
        ),
        (
            "type: bearer, token: '${API_TOKEN}'",
            "    type: bearer\n    token: \"***\"\n",
        ),
        (
            "type: oauth2, credential: 'id:${API_TOKEN}', oauth2_server_uri: 'https://login/token/'",
            "    type: oauth2\n    credential: \"***\"\n    scope: catalog\n    oauth2_server_uri: \"https://login/token\"\n",
        ),
    ] {
        let catalog =
            format!("type: rest, uri: 'https://h', auth: {{{auth}}}, headers: {{X-Key: '${{API_TOKEN}}'}}");
        let config = parse(&format!("{HEAD}{TABLE}").replace("type: storage", &catalog));
        let yaml = config.to_yaml();
        assert!(
            yaml.contains(shown) && yaml.contains("    X-Key: \"***\"\n"),
            "{yaml}"
        );
        let everything = format!("{yaml}{}{config:?}", config.to_json());
        assert!(!everything.contains("s3cret"), "{everything}");
    }
}
