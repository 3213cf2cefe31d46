//! Which catalog holds the tables.

use iceberg::TableIdent;

use super::biglake::{self, BigLakeConfig};
use super::database_uri::{DATABASE_URI, DatabaseUri};
use super::key::{Key, Keys, Shape, Text, Words};
use super::mapping::Mapping;
use super::reader::Field;
use super::rest_catalog::{self, RestCatalogConfig};
use super::route::TableTemplate;

/// The catalog's name in the rows of a shared database, when the configuration gives none.
const DEFAULT_NAME: &str = "landfast";

/// The folder of a warehouse that holds ledgers, and letters that wait. A namespace of its name would lie in it.
const OWN: &str = "_landfast";

/// As long as the column that holds it.
const MAX_NAME_LENGTH: usize = 255;

pub(super) const TYPE: Key = Key::required(
    "type",
    Shape::Word(&Words {
        words: &[
            (
                STORAGE,
                "metadata files in the warehouse, no server, landfast is the only writer",
            ),
            (
                SQL,
                "a PostgreSQL or SQLite database in the layout of Java's JDBC catalog, which Spark, Trino, Flink and \
                 PyIceberg may write at the same time",
            ),
            (
                REST,
                "a server that speaks Iceberg's REST protocol, which Spark, Trino, Flink and PyIceberg may write at the \
                 same time",
            ),
            (
                BIGLAKE,
                "BigLake's Iceberg REST catalog, whose tables BigQuery reads by themselves, and Spark, Trino and others may \
                 write at the same time",
            ),
            (MEMORY, "forgotten when the process ends, for tests"),
        ],
        later: &["glue", "hive"],
    }),
    "what holds the names of the tables and their newest states",
);
pub(super) const URI: Key = Key::required(
    "uri",
    Shape::Text(&DATABASE_URI),
    "`postgresql://user:${PGPASSWORD}@host/database` or `sqlite:///folder/catalog.db` (an absolute path). The password is \
     never printed",
);
pub(super) const NAME: Key = Key::defaulted(
    "name",
    Shape::Text(&Text {
        accepted: "the name that every engine of the catalog uses, such as `landfast`",
        pattern: Some(|| format!(r"^[\s\S]{{1,{MAX_NAME_LENGTH}}}$")),
        any_scalar: true,
    }),
    || DEFAULT_NAME.to_owned(),
    "the catalog's name in the database. Rows are keyed by it: other engines must give the same (Spark: the name after \
     `spark.sql.catalog.`)",
);

pub(super) const CATALOG: Keys = Keys {
    title: "catalog",
    accepted: "a mapping such as `{type: storage}`",
    keys: &[&[TYPE]],
    variants: &[
        (SQL, &[URI, NAME]),
        (REST, &rest_catalog::KEYS),
        (BIGLAKE, &biglake::KEYS),
    ],
    ..Keys::NONE
};

const STORAGE: &str = "storage";
const SQL: &str = "sql";
const REST: &str = "rest";
const BIGLAKE: &str = "biglake";
const MEMORY: &str = "memory";

/// The catalog of the tables. Key `catalog`, required: `{type: storage}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogConfig {
    /// `type: storage`: metadata files in the warehouse, no server; landfast is the only writer.
    Storage,
    /// `type: sql`: a PostgreSQL or SQLite database, shared with other engines.
    Sql(SqlCatalogConfig),
    /// `type: rest`: a server that speaks Iceberg's REST protocol, shared with other engines.
    Rest(RestCatalogConfig),
    /// `type: biglake`: Google's, which BigQuery reads.
    BigLake(BigLakeConfig),
    /// `type: memory`: forgotten when the process ends; for tests.
    Memory,
}

/// A catalog in a database. Key `catalog` with `type: sql`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlCatalogConfig {
    /// Key `uri`, required: the database; a password in it is never printed.
    pub uri: DatabaseUri,
    /// Key `name`, default `landfast`: the catalog's name in the database. Rows are keyed by it, so every engine that
    /// shares the tables gives the same.
    pub name: String,
}

impl CatalogConfig {
    /// The word of the key `type`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Storage => STORAGE,
            Self::Sql(_) => SQL,
            Self::Rest(_) => REST,
            Self::BigLake(_) => BIGLAKE,
            Self::Memory => MEMORY,
        }
    }

    /// Whether the catalog takes a table of this name; else the rule and the way out.
    pub(crate) fn takes(&self, table: &TableIdent) -> Result<(), String> {
        if table.namespace().first().is_some_and(|name| name == OWN) {
            return Err(format!(
                "the warehouse's folder `{OWN}` is landfast's own; choose another namespace"
            ));
        }
        match self {
            Self::BigLake(_) => biglake::check_ident(table),
            _ => Ok(()),
        }
    }

    /// The same of the names that a route makes.
    pub(super) fn takes_template(&self, template: &TableTemplate) -> Result<(), String> {
        match self {
            Self::BigLake(_) => biglake::check_template(template),
            _ => Ok(()),
        }
    }

    /// Reads the key `catalog`.
    pub(super) fn read(field: &Field<'_>) -> Option<Self> {
        let mut keys = field.mapping()?;
        let word = keys.key(&TYPE).and_then(|field| field.word());
        if let Some(word) = word {
            keys.choose(word);
        }
        let catalog = match word {
            Some(SQL) => read_sql(&mut keys).map(Self::Sql),
            Some(REST) => RestCatalogConfig::read(&mut keys).map(Self::Rest),
            Some(BIGLAKE) => BigLakeConfig::read(&mut keys).map(Self::BigLake),
            Some(MEMORY) => Some(Self::Memory),
            Some(STORAGE) => Some(Self::Storage),
            _ => None,
        };
        keys.finish();
        catalog
    }
}

fn read_sql(keys: &mut Mapping<'_>) -> Option<SqlCatalogConfig> {
    let uri = keys.key(&URI).and_then(|field| field.parse(DatabaseUri::parse));
    let name = match keys.key(&NAME) {
        None => Some(DEFAULT_NAME.to_owned()),
        Some(field) => field.parse(|text| match text.chars().count() {
            0 => Err("the name is empty".to_owned()),
            1..=MAX_NAME_LENGTH => Ok(text.to_owned()),
            _ => Err(format!("the name has more than {MAX_NAME_LENGTH} characters")),
        }),
    };
    Some(SqlCatalogConfig {
        uri: uri?,
        name: name?,
    })
}
