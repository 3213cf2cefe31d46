//! Configuration: one YAML file, read and checked before anything starts.
//!
//! Every key has a default or its absence is an error; every error says file, line, column, key, the rule broken and
//! what would be accepted. A key that another version of landfast reads is refused, never ignored. `${NAME}` in values
//! expands after the YAML is parsed, so a variable cannot add structure, and what it held never shows in an error.
//! The environment is read here only, through [`process_env`].

mod after;
mod biglake;
mod catalog;
mod column_type;
mod conditions;
mod database_uri;
mod dead_letters;
mod expand;
mod field;
mod files;
mod json_schema;
mod key;
mod ledger;
mod load;
mod location;
mod mapping;
mod memory;
mod partition;
mod print;
mod problem;
mod property;
mod publish;
mod push_auth;
mod quantity;
mod reader;
mod rest_catalog;
mod route;
mod schema;
mod server;
mod source;
mod status_page;
mod table;
mod table_name;
mod telemetry;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;

use iceberg::TableIdent;

pub use self::after::After;
pub(crate) use self::after::{generation_in, landed_name};
pub use self::biglake::BigLakeConfig;
pub(crate) use self::biglake::{check_ident, check_namespace};
pub use self::catalog::{CatalogConfig, SqlCatalogConfig};
pub use self::conditions::DeliveryMatch;
pub use self::database_uri::{DatabaseTarget, DatabaseUri};
pub use self::expand::{Env, process_env};
pub use self::field::FieldMatch;
pub(crate) use self::files::landed_beside;
pub use self::files::{FileMatch, ObjectGlob};
pub use self::ledger::LedgerConfig;
pub use self::location::{Location, Scheme};
pub use self::memory::memory_limit;
pub use self::partition::PartitionBy;
pub(crate) use self::partition::partition_spec;
pub use self::problem::{Position, Problem, Problems};
pub(crate) use self::publish::ADOPT;
pub use self::publish::{BigQueryConfig, BigQueryDefaults, Connection};
pub use self::push_auth::{PushAuth, SignedPushes};
pub(crate) use self::quantity::duration_text;
pub use self::quantity::parse_duration;
pub use self::rest_catalog::{OAuth2Config, RestAuth, RestCatalogConfig, Secret};
pub(crate) use self::rest_catalog::{address, check_prefix};
pub use self::route::{Glob, RouteConfig, TableTemplate, TemplatePart};
pub(crate) use self::schema::with_fresh_ids;
pub use self::schema::{Column, SchemaConfig, iceberg_schema, parse_type, type_text};
pub use self::server::{ApiAuth, ServerConfig};
pub use self::source::SourceConfig;
pub use self::status_page::StatusPage;
pub use self::table::{BatchConfig, Format, TableConfig, TableDefaults};
pub use self::table_name::table_ident;
pub use self::telemetry::{Platform, Sampling, TraceExport};

/// A checked configuration with its defaults filled in.
///
/// ```
/// use landfast::config::Config;
///
/// let text = "
/// warehouse: file:///lake/warehouse
/// catalog: { type: storage }
/// dead_letters: file:///lake/dead-letters
/// tables:
///   shop.orders: { from: [{ subscription: orders-push }] }
/// ";
/// let config = Config::parse("landfast.yaml", text, &|_name| None)?;
/// assert_eq!(config.server.listen.port(), 8080);
/// # Ok::<(), landfast::error::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Key `warehouse`, required: where tables are stored.
    pub warehouse: Location,
    /// Key `catalog`, required.
    pub catalog: CatalogConfig,
    /// Key `server`, every key of it with a default or optional.
    pub server: ServerConfig,
    /// Key `dead_letters`, required: where records are kept that could not become rows; apart from the warehouse. With a
    /// topic, where they wait in the warehouse until they are published.
    pub dead_letters: Location,
    /// Key `dead_letters.topic`, default none: the short or full name of the topic that letters are published to.
    pub dead_letter_topic: Option<String>,
    /// Key `dead_letters.before`, default none: the location that letters were kept in before they went to the topic.
    pub dead_letters_before: Option<Location>,
    /// Key `sources`, default none: a subscription without a source is its own, under its full name.
    pub sources: BTreeMap<String, SourceConfig>,
    /// Key `defaults`: what tables have when they do not say otherwise.
    pub defaults: TableDefaults,
    /// Key `tables`, default none; `tables` or `routes` has at least one entry.
    pub tables: BTreeMap<TableIdent, TableConfig>,
    /// Key `routes`, default none, in the order of the file.
    pub routes: Vec<RouteConfig>,
}
