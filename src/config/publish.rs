//! Publishing: which external table of BigQuery follows a table.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use iceberg::TableIdent;

use super::key::{Key, Keys, Others, Shape, Text};
use super::reader::Field;
use super::{CatalogConfig, Location, Scheme, TableConfig};

/// Where BigQuery is.
const ENDPOINT: &str = "https://bigquery.googleapis.com";

/// Stands in for BigQuery, for tests. No credentials are sent there.
const EMULATOR: &str = "BIGQUERY_EMULATOR_HOST";

/// Where BigQuery is reached instead, as Google's command line takes it: an endpoint of a private network.
const OVERRIDE: &str = "CLOUDSDK_API_ENDPOINT_OVERRIDES_BIGQUERY";
/// What ends an override there, and follows the address in every request here.
const OVERRIDE_END: &str = "/bigquery/v2";

/// The label by which a person hands an external table over that reads another table's metadata.
pub(crate) const ADOPT: &str = "landfast_adopt";

const PROJECT_VARIABLE: &str = "GOOGLE_CLOUD_PROJECT";

pub(super) const PUBLISH: Key = Key::optional(
    "publish",
    Shape::Map(&PUBLISH_KEYS),
    "nobody",
    "who is told of each commit. In `defaults` it says what the tables' own `publish` leaves out; a table without the key, \
     and one that a route names, is not published",
);
pub(super) const BIGQUERY: Key = Key::required(
    "bigquery",
    Shape::Map(&BIGQUERY_KEYS),
    "the external table of BigQuery that follows the table: `{dataset: …, table: …, connection: …}`",
);
pub(super) const PROJECT: Key = Key::optional(
    "project",
    Shape::Text(&PROJECT_NAME),
    "`GOOGLE_CLOUD_PROJECT`",
    "the project of the dataset",
);
pub(super) const DATASET: Key = Key::optional(
    "dataset",
    Shape::Text(&Text {
        accepted: "a dataset's name of letters, digits and `_`, such as `shop`",
        pattern: Some(|| "^[A-Za-z0-9_]{1,1024}$".to_owned()),
        any_scalar: true,
    }),
    "required, here or in `defaults`",
    "the dataset; it is made where it is missing",
);
pub(super) const TABLE: Key = Key::optional(
    "table",
    Shape::Text(&Text {
        accepted: "a table's name of letters, digits, `_` and `-`, such as `orders`",
        pattern: Some(|| "^[A-Za-z0-9_-]{1,1024}$".to_owned()),
        any_scalar: true,
    }),
    "the table's own name, without its namespace",
    "the external table; not in `defaults`",
);
pub(super) const CONNECTION: Key = Key::optional(
    "connection",
    Shape::Text(&Text {
        accepted: "`LOCATION.NAME` such as `us.lake`, or `projects/PROJECT/locations/LOCATION/connections/NAME`",
        pattern: Some(|| {
            r"^(?:[A-Za-z0-9-]+\.[A-Za-z0-9_-]+|projects/[a-z0-9.:-]+/locations/[A-Za-z0-9-]+/connections/[A-Za-z0-9_-]+)$"
                .to_owned()
        }),
        any_scalar: false,
    }),
    "required, here or in `defaults`",
    "the connection whose account reads the bucket",
);
pub(super) const LOCATION: Key = Key::optional(
    "location",
    Shape::Text(&Text {
        accepted: "a location such as `us` or `europe-west4`",
        pattern: Some(|| "^[A-Za-z0-9-]+$".to_owned()),
        any_scalar: false,
    }),
    "the connection's",
    "where a dataset is made",
);
pub(super) const DESCRIPTION: Key = Key::optional(
    "description",
    Shape::Text(&Text {
        accepted: "the external table's description as plain text",
        pattern: None,
        any_scalar: true,
    }),
    "left as it is",
    "the external table's description",
);
pub(super) const LABELS: Key = Key::optional(
    "labels",
    Shape::Map(&LABEL_VALUES),
    "none",
    "labels of the external table, added to those of `defaults`; further ones that people set stay",
);

const PUBLISH_KEYS: Keys = Keys {
    title: "publish",
    accepted: "a mapping such as `{bigquery: {dataset: shop, table: orders, connection: us.lake}}`",
    keys: &[&[BIGQUERY]],
    ..Keys::NONE
};

const BIGQUERY_KEYS: Keys = Keys {
    title: "bigquery",
    accepted: "a mapping such as `{dataset: shop, table: orders, connection: us.lake}`",
    keys: &[&[PROJECT, DATASET, TABLE, CONNECTION, LOCATION, DESCRIPTION, LABELS]],
    ..Keys::NONE
};

const LABEL_VALUES: Keys = Keys {
    title: "labels",
    accepted: "labels with their values, such as `{team: shop}`",
    others: Some(Others {
        pattern: Some(|| "^[a-z][a-z0-9_-]{0,62}$".to_owned()),
        shape: Shape::Text(&Text {
            accepted: "a label's value: at most 63 small letters, digits, `_` and `-`",
            pattern: Some(|| "^[a-z0-9_-]{0,63}$".to_owned()),
            any_scalar: true,
        }),
    }),
    ..Keys::NONE
};

const PROJECT_NAME: Text = Text {
    accepted: "a project's id, such as `acme-prod`",
    pattern: Some(|| "^[a-z0-9.:-]+$".to_owned()),
    any_scalar: false,
};

/// What `defaults` says of external tables. Key `defaults.publish.bigquery`, every key optional.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BigQueryDefaults {
    /// Key `project`.
    pub project: Option<String>,
    /// Key `dataset`.
    pub dataset: Option<String>,
    /// Key `connection`.
    pub connection: Option<Connection>,
    /// Key `location`.
    pub location: Option<String>,
    /// Key `description`.
    pub description: Option<String>,
    /// Key `labels`.
    pub labels: BTreeMap<String, String>,
    table: Option<String>,
}

/// The external table of BigQuery that follows a table. Key `publish.bigquery`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BigQueryConfig {
    /// Key `project`, default the environment's `$GOOGLE_CLOUD_PROJECT`: the project of the dataset.
    pub project: String,
    /// Key `dataset`, required here or in `defaults`.
    pub dataset: String,
    /// Key `table`, default the table's own name without its namespace.
    pub table: String,
    /// Key `connection`, required here or in `defaults`.
    pub connection: Connection,
    /// Key `location`, default the connection's: where a dataset is made.
    pub location: String,
    /// Key `description`, default none: what people wrote stays.
    pub description: Option<String>,
    /// Key `labels`, default none, added to those of `defaults`.
    pub labels: BTreeMap<String, String>,
    /// BigQuery's address: Google's, or what the environment's `$CLOUDSDK_API_ENDPOINT_OVERRIDES_BIGQUERY` says instead.
    /// `$BIGQUERY_EMULATOR_HOST` stands in for both.
    pub endpoint: String,
    /// Whether something stands in for BigQuery, which is told nothing of who we are.
    pub is_emulated: bool,
}

/// The name of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Connection {
    project: Option<String>,
    location: String,
    name: String,
}

impl BigQueryConfig {
    /// The connection's full name, as BigQuery takes it.
    pub fn connection_id(&self) -> String {
        let Connection {
            project,
            location,
            name,
        } = &self.connection;
        let project = project.as_ref().unwrap_or(&self.project);
        format!("projects/{project}/locations/{location}/connections/{name}")
    }
}

/// The external table's name, `project.dataset.table`.
impl fmt::Display for BigQueryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.project, self.dataset, self.table)
    }
}

/// As it is written.
impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            project,
            location,
            name,
        } = self;
        match project {
            Some(project) => write!(f, "projects/{project}/locations/{location}/connections/{name}"),
            None => write!(f, "{location}.{name}"),
        }
    }
}

/// Reads the key `publish` of `defaults`.
pub(super) fn read_defaults(field: &Field<'_>) -> BigQueryDefaults {
    let mut defaults = BigQueryDefaults::default();
    read_keys(field, &mut defaults, true);
    defaults
}

/// Reads the key `publish` of a table, which stands in the mapping `name`. Nothing when something is missing or wrong.
pub(super) fn read(field: &Field<'_>, name: &str, defaults: &BigQueryDefaults) -> Option<BigQueryConfig> {
    let mut keys = defaults.clone();
    read_keys(field, &mut keys, false)?;
    let missing = |key: &str, accepted: &str| {
        field.key_problem(format!(
            "`{key}` is missing; write it under `bigquery`, or in `defaults`: {accepted}"
        ));
    };
    if keys.dataset.is_none() {
        missing(DATASET.name, &DATASET.shape.accepted());
    }
    if keys.connection.is_none() {
        missing(CONNECTION.name, &CONNECTION.shape.accepted());
    }
    let project = keys.project.or_else(|| {
        field
            .variable(PROJECT_VARIABLE)
            .filter(|project| is_project(project))
    });
    if project.is_none() {
        field.key_problem(format!(
            "the project is missing; write `project` under `bigquery`, or set the environment variable `{PROJECT_VARIABLE}` \
             to its id"
        ));
    }
    let is_emulated = field.variable(EMULATOR).is_some();
    let endpoint = read_endpoint(field);
    let connection = keys.connection?;
    Some(BigQueryConfig {
        project: project?,
        dataset: keys.dataset?,
        table: keys
            .table
            .or_else(|| name.rsplit('.').next().map(str::to_owned))?,
        location: keys.location.unwrap_or_else(|| connection.location.clone()),
        connection,
        description: keys.description,
        labels: keys.labels,
        endpoint: endpoint?,
        is_emulated,
    })
}

fn read_keys(field: &Field<'_>, into: &mut BigQueryDefaults, are_defaults: bool) -> Option<()> {
    let mut publish = field.mapping()?;
    let bigquery = publish.key(&BIGQUERY);
    publish.finish();
    let mut keys = bigquery?.mapping()?;
    // What is wrong is told, and is not missing besides: the configuration is refused, so anything may stand for it.
    let text = |field: &Field<'_>, is_accepted| Some(read_text(field, is_accepted).unwrap_or_default());
    if let Some(field) = keys.key(&PROJECT) {
        into.project = text(&field, is_project);
    }
    if let Some(field) = keys.key(&DATASET) {
        into.dataset = text(&field, is_dataset);
    }
    if let Some(field) = keys.key(&TABLE) {
        if are_defaults {
            field.key_problem("one external table follows one table; write `table` under the table");
        }
        into.table = text(&field, is_table);
    }
    if let Some(field) = keys.key(&CONNECTION) {
        into.connection = Some(field.parse(read_connection).unwrap_or_default());
    }
    if let Some(field) = keys.key(&LOCATION) {
        into.location = text(&field, is_location);
    }
    if let Some(field) = keys.key(&DESCRIPTION) {
        into.description = field.text();
    }
    let labels = keys.key(&LABELS).and_then(|field| field.entries());
    for (name, field) in labels.unwrap_or_default() {
        if name == ADOPT {
            field.key_problem(
                "a person puts this label on an external table, and landfast takes it off; remove it here",
            );
        }
        if !is_label(name) {
            field.key_problem(
                "a label's name begins with a small letter, and has at most 63 of them, digits, `_` and `-`",
            );
        }
        let value = read_text(&field, is_label_value);
        into.labels.extend(value.map(|value| (name.to_owned(), value)));
    }
    keys.finish();
    Some(())
}

/// Reads a text of this form.
fn read_text(field: &Field<'_>, is_accepted: fn(&str) -> bool) -> Option<String> {
    field.parse(|text| match is_accepted(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("`{text}` has another form")),
    })
}

fn read_connection(text: &str) -> Result<Connection, String> {
    let named = |project: Option<&str>, location: &str, name: &str| {
        (is_table(name) && is_location(location) && project.is_none_or(is_project)).then(|| Connection {
            project: project.map(str::to_owned),
            location: location.to_owned(),
            name: name.to_owned(),
        })
    };
    let parts: Vec<&str> = text.split('/').collect();
    let connection = match parts.as_slice() {
        ["projects", project, "locations", location, "connections", name] => {
            named(Some(project), location, name)
        }
        [short] => short
            .split_once('.')
            .and_then(|(location, name)| named(None, location, name)),
        _ => None,
    };
    connection.ok_or_else(|| format!("`{text}` names no connection"))
}

/// BigQuery's address. An empty variable counts as not set.
fn read_endpoint(field: &Field<'_>) -> Option<String> {
    let emulator = field.variable(EMULATOR).map(|host| (EMULATOR, host));
    let overridden = || field.variable(OVERRIDE).map(|address| (OVERRIDE, address));
    let Some((name, text)) = emulator.or_else(overridden) else {
        return Some(ENDPOINT.to_owned());
    };
    // Google's tools take a host with and without a scheme.
    let address = match text.split_once("://") {
        Some(_) => text,
        None => format!("http://{text}"),
    };
    match super::address(&address) {
        Ok(address) => Some(address.strip_suffix(OVERRIDE_END).unwrap_or(&address).to_owned()),
        Err(_wrong) => {
            field.key_problem(format!(
                "the environment variable `{name}`, which says where BigQuery is, is no address; set it to `https://HOST`, or unset \
                 it"
            ));
            None
        }
    }
}

fn is_project(text: &str) -> bool {
    is_made_of(text, 1..=100, |c| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || ".:-".contains(c)
    })
}

fn is_dataset(text: &str) -> bool {
    is_made_of(text, 1..=1024, |c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_table(text: &str) -> bool {
    is_made_of(text, 1..=1024, |c| c.is_ascii_alphanumeric() || "_-".contains(c))
}

fn is_location(text: &str) -> bool {
    is_made_of(text, 1..=100, |c| c.is_ascii_alphanumeric() || c == '-')
}

fn is_label(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase()) && is_made_of(name, 1..=63, is_label_character)
}

fn is_label_value(text: &str) -> bool {
    is_made_of(text, 0..=63, is_label_character)
}

fn is_label_character(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c)
}

fn is_made_of(
    text: &str,
    length: std::ops::RangeInclusive<usize>,
    is_allowed: impl Fn(char) -> bool,
) -> bool {
    length.contains(&text.len()) && text.chars().all(is_allowed)
}

/// Which external tables are taken so far, by which tables.
pub(super) type Taken = HashMap<String, TableIdent>;

/// Checks what a published table needs of the whole.
pub(super) fn check(
    field: &Field<'_>,
    (ident, table): (&TableIdent, &TableConfig),
    (warehouse, catalog): (Option<&Location>, Option<&CatalogConfig>),
    taken: &mut Taken,
) {
    let Some(bigquery) = &table.publish else {
        return;
    };
    if warehouse.is_some_and(|warehouse| warehouse.scheme() != Scheme::Gcs) {
        field.key_problem(
            "BigQuery reads tables of `gs://` only; write a `warehouse` there, or remove `publish` from the table",
        );
    }
    if let Some(reader) = catalog.and_then(reader_of) {
        field.key_problem(format!("{reader}; remove `publish` from the table"));
    }
    if let Some(other) = taken.insert(bigquery.to_string(), ident.clone()) {
        field.key_problem(format!(
            "`{bigquery}` follows the table `{other}` already; write another `table` or `dataset` under `publish.bigquery`"
        ));
    }
}

/// Why BigQuery needs no external table for the tables of a catalog, where that is so.
fn reader_of(catalog: &CatalogConfig) -> Option<&'static str> {
    match catalog {
        CatalogConfig::BigLake(_) => Some("BigQuery reads the tables of this catalog by itself"),
        CatalogConfig::Storage | CatalogConfig::Sql(_) | CatalogConfig::Rest(_) | CatalogConfig::Memory => {
            None
        }
    }
}
