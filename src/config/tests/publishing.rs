//! The key `publish`.

use super::*;

const HEAD: &str = "warehouse: gs://lake/w\ncatalog: {type: storage}\ndead_letters: gs://lake/d\n";

fn project(name: &str) -> Option<String> {
    (name == "GOOGLE_CLOUD_PROJECT").then(|| "p-env".to_owned())
}

fn check(rest: &str, env: Env<'_>) -> Result<Config, Problems> {
    Config::check("f.yaml", &format!("{HEAD}{rest}"), env)
}

fn published(rest: &str, env: Env<'_>) -> Box<BigQueryConfig> {
    let config = check(rest, env).unwrap_or_else(|problems| panic!("{problems}"));
    config.tables.into_values().next().unwrap().publish.unwrap()
}

#[test]
fn what_a_table_leaves_out_comes_from_the_defaults_and_the_environment() {
    let shop = published(
        "defaults: {publish: {bigquery: {dataset: shop, connection: EU.lake, labels: {a: x, b: y}}}}\n\
         tables: {s.orders: {publish: {bigquery: {labels: {b: z}}}}}\n",
        &project,
    );
    assert_eq!(shop.to_string(), "p-env.shop.orders");
    assert_eq!(
        shop.connection_id(),
        "projects/p-env/locations/EU/connections/lake"
    );
    assert_eq!(shop.location, "EU");
    assert_eq!(
        shop.labels,
        [("a", "x"), ("b", "z")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into()
    );
    assert!(!shop.is_emulated && shop.endpoint == "https://bigquery.googleapis.com");

    let own = published(
        "tables: {s.orders: {publish: {bigquery: {project: p, dataset: d, table: t-1, location: us, \
         connection: projects/q/locations/us-east1/connections/c}}}}\n",
        &project,
    );
    assert_eq!(own.to_string(), "p.d.t-1");
    assert_eq!(own.connection_id(), "projects/q/locations/us-east1/connections/c");
    assert_eq!(own.location, "us");
}

#[test]
fn tables_without_the_key_and_routed_ones_are_not_published() {
    let rest = "defaults: {publish: {bigquery: {dataset: shop, connection: eu.lake}}}\n\
                tables: {s.orders: {from: [{subscription: s}]}}\n";
    let config = check(rest, &project).unwrap();
    assert_eq!(config.tables.into_values().next().unwrap().publish, None);
    assert_eq!(config.defaults.to_table().publish, None);
}

#[test]
fn emulator_stands_in_for_bigquery() {
    let table = "tables: {s.orders: {publish: {bigquery: {project: p, dataset: d, connection: us.c}}}}\n";
    for (host, endpoint) in [
        ("localhost:9050", "http://localhost:9050"),
        ("https://b.example/", "https://b.example"),
    ] {
        let env = |name: &str| (name == "BIGQUERY_EMULATOR_HOST").then(|| host.to_owned());
        let bigquery = published(table, &env);
        assert!(bigquery.is_emulated);
        assert_eq!(bigquery.endpoint, endpoint);
    }
    let env = |name: &str| (name == "BIGQUERY_EMULATOR_HOST").then(|| "not an address".to_owned());
    let problems = check(table, &env).unwrap_err().to_string();
    assert!(problems.contains("`BIGQUERY_EMULATOR_HOST`"), "{problems}");
}

/// As `gcloud` has it, with the API's path.
#[test]
fn private_endpoint_is_bigquery_all_the_same() {
    let table = "tables: {s.orders: {publish: {bigquery: {project: p, dataset: d, connection: us.c}}}}\n";
    for text in [
        "https://bigquery-acme.p.googleapis.com/bigquery/v2/",
        "https://bigquery-acme.p.googleapis.com",
    ] {
        let name = "CLOUDSDK_API_ENDPOINT_OVERRIDES_BIGQUERY";
        let bigquery = published(table, &|asked: &str| (asked == name).then(|| text.to_owned()));
        assert!(!bigquery.is_emulated);
        assert_eq!(bigquery.endpoint, "https://bigquery-acme.p.googleapis.com");
        let wrong = check(table, &|asked: &str| {
            (asked == name).then(|| "not one".to_owned())
        });
        assert!(wrong.unwrap_err().to_string().contains(name));
    }
}

#[test]
fn mistakes_say_the_way_out() {
    let one = |keys: &str| format!("tables: {{s.orders: {{publish: {{bigquery: {{{keys}}}}}}}}}\n");
    let good = "project: p, dataset: d, connection: us.c";
    for (rest, word) in [
        (one("project: p, connection: us.c"), "`dataset` is missing"),
        (one("project: p, dataset: d"), "`connection` is missing"),
        (one("dataset: d, connection: us.c"), "`GOOGLE_CLOUD_PROJECT`"),
        (
            one("project: P, dataset: d, connection: us.c"),
            "`P` has another form",
        ),
        (
            one("project: p, dataset: a-b, connection: us.c"),
            "`a-b` has another form",
        ),
        (
            one("project: p, dataset: d, connection: lake"),
            "names no connection",
        ),
        (
            one("project: p, dataset: d, connection: projects/p/lake"),
            "names no connection",
        ),
        (one(&format!("{good}, table: 'a b'")), "`a b` has another form"),
        (one(&format!("{good}, labels: {{A: b}}")), "a label's name begins"),
        (one(&format!("{good}, labels: {{a: B}}")), "`B` has another form"),
        (one(&format!("{good}, tabel: t")), "did you mean `table`?"),
        (
            format!("defaults: {{publish: {{bigquery: {{table: t}}}}}}\n{TABLE}"),
            "one external table follows one table",
        ),
        (
            format!(
                "tables: {{a.t: {{publish: {{bigquery: {{{good}}}}}}}, b.t: {{publish: {{bigquery: {{{good}}}}}}}}}\n"
            ),
            "`p.d.t` follows the table `a.t` already",
        ),
    ] {
        let problems = check(&rest, &|_| None).unwrap_err();
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(told.len() == 1 && told[0].contains(word), "{rest}\n{told:?}");
    }
    let disk = HEAD.replace("gs://lake", "file:///lake") + &one(good);
    let problems = Config::check("f.yaml", &disk, &|_| None).unwrap_err().to_string();
    assert!(
        problems.contains("BigQuery reads tables of `gs://` only"),
        "{problems}"
    );
}

#[test]
fn printed_publishing_reads_back_as_it_was() {
    let config = parse(include_str!("../../../examples/bigquery.yaml"));
    assert_eq!(parse(&config.to_yaml()), config);
    let names: Vec<String> = config
        .tables
        .values()
        .map(|table| table.publish.as_ref().unwrap().to_string())
        .collect();
    assert_eq!(names, ["acme-prod.shop.clicks", "acme-prod.shop.orders"]);
}
