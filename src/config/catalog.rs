//! Which catalog holds the tables.

use super::database_uri::{DATABASE_URI, DatabaseUri};
use super::reader::{Field, Mapping};

/// The catalog's name in the rows of a shared database, when the configuration gives none.
const DEFAULT_NAME: &str = "landfast";

/// As long as the column that holds it.
const MAX_NAME_LENGTH: usize = 255;

/// The catalog of the tables. Key `catalog`, required: `{type: storage}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogConfig {
    /// `type: storage`: metadata files in the warehouse, no server; landfast is the only writer.
    Storage,
    /// `type: sql`: a PostgreSQL or SQLite database, shared with other engines.
    Sql(SqlCatalogConfig),
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

#[derive(Debug, Clone, Copy)]
enum Kind {
    Storage,
    Sql,
    Memory,
}

impl CatalogConfig {
    /// The word of the key `type`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Storage => "storage",
            Self::Sql(_) => "sql",
            Self::Memory => "memory",
        }
    }

    pub(super) const ACCEPTED: &'static str = "a mapping such as `{type: storage}`";

    /// Reads the key `catalog`.
    pub(super) fn read(field: &Field<'_>) -> Option<Self> {
        let mut keys = field.mapping(Self::ACCEPTED)?;
        let kind = keys
            .required("type", "`type: storage`, `type: sql` or `type: memory`")
            .and_then(|field| {
                let words = [
                    ("storage", Kind::Storage),
                    ("sql", Kind::Sql),
                    ("memory", Kind::Memory),
                ];
                field.word(&words, &["rest", "biglake", "glue", "hive"])
            });
        let catalog = match kind {
            Some(Kind::Sql) => read_sql(&mut keys).map(Self::Sql),
            Some(kind) => {
                for key in ["uri", "name"] {
                    if let Some(field) = keys.key(key) {
                        field.key_problem(format!("`{key}` goes with `type: sql`; remove the key"));
                    }
                }
                Some(match kind {
                    Kind::Memory => Self::Memory,
                    _ => Self::Storage,
                })
            }
            None => {
                keys.later(&["uri", "name"]);
                None
            }
        };
        keys.later(&["warehouse", "auth", "user_project"]);
        keys.finish();
        catalog
    }
}

fn read_sql(keys: &mut Mapping<'_>) -> Option<SqlCatalogConfig> {
    const NAME: &str = "the name that every engine of the catalog uses, such as `landfast`";
    let uri = keys
        .required("uri", DATABASE_URI)
        .and_then(|field| field.parse(DATABASE_URI, DatabaseUri::parse));
    let name = match keys.key("name") {
        None => Some(DEFAULT_NAME.to_owned()),
        Some(field) => field.parse(NAME, |text| match text.chars().count() {
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
