//! From a file, a text or a folder to a checked configuration.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::dead_letters::{DEAD_LETTERS, Place};
use super::expand::Env;
use super::key::{Key, Keys, Shape};
use super::location::{LOCATION, Location};
use super::problem::{Problem, Problems};
use super::reader::{Context, Field};
use super::route::ROUTES as ROUTE_LIST;
use super::source::SOURCES as SOURCE_KEYS;
use super::table::{self, BatchConfig, TableDefaults};
use super::table_name::{TABLE_NAME, parse_table_ident};
use super::tree;
use super::{
    CatalogConfig, Config, FileMatch, PushAuth, RouteConfig, ServerConfig, catalog, files, publish, route,
    server, source,
};
use crate::error::{Error, ErrorKind, Result};

/// A configuration is written by people; a larger file is something else.
const MAX_FILE_BYTES: u64 = 4 << 20;

pub(super) const WAREHOUSE: Key = Key::required(
    "warehouse",
    Shape::Text(&LOCATION),
    "where tables are stored: `s3://bucket/…`, `gs://bucket/…` or `file:///…` (or `memory:///` in tests)",
);
pub(super) const CATALOG: Key =
    Key::required("catalog", Shape::Map(&catalog::CATALOG), "what names the tables");
pub(super) const SERVER: Key = Key::optional(
    "server",
    Shape::Map(&server::SERVER),
    "each key's own",
    "the HTTP server",
);
pub(super) const SOURCES: Key = Key::optional(
    "sources",
    Shape::Map(&SOURCE_KEYS),
    "none",
    "which subscriptions share the ids of one topic",
);
pub(super) const DEFAULTS: Key = Key::optional(
    "defaults",
    Shape::Map(&table::DEFAULTS),
    "each key's own",
    "table keys for every table",
);
pub(super) const TABLES: Key = Key::optional(
    "tables",
    Shape::Map(&table::TABLES),
    "none",
    "the tables, by `namespace.table`; `tables` or `routes` has at least one entry",
);
pub(super) const ROUTES: Key = Key::optional(
    "routes",
    Shape::List(&ROUTE_LIST),
    "none",
    "tables named by the message or the file's folder, for those that no table's `from` takes; the first match wins",
);

/// The whole configuration.
pub(super) const CONFIG: Keys = Keys {
    title: "config",
    accepted: "a mapping with the keys `warehouse`, `catalog`, `dead_letters` and `tables`",
    keys: &[&[
        WAREHOUSE,
        CATALOG,
        SERVER,
        DEAD_LETTERS,
        SOURCES,
        DEFAULTS,
        TABLES,
        ROUTES,
    ]],
    ..Keys::NONE
};

impl Config {
    /// Reads and checks a file. `env` answers for `${NAME}` and `$PORT`; give [`process_env`](super::process_env).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] whose message lists every broken rule, one per line; [`Config::check_file`] has them apart.
    pub fn load(path: &Path, env: Env<'_>) -> Result<Self> {
        Ok(Self::check_file(path, env)?)
    }

    /// Checks a text; `file_name` is what its errors call it.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(file_name: &str, text: &str, env: Env<'_>) -> Result<Self> {
        Ok(Self::check(file_name, text, env)?)
    }

    /// Reads and checks a file, with its broken rules one by one.
    ///
    /// # Errors
    /// Every broken rule that one pass finds; a file that cannot be read is one without a position.
    pub fn check_file(path: &Path, env: Env<'_>) -> Result<Self, Problems> {
        let file_name = path.display().to_string();
        match read_file(path) {
            Ok(text) => Self::check(&file_name, &text, env),
            Err(message) => Err(Problems::from(Problem {
                file: file_name,
                position: None,
                key: String::new(),
                message,
            })),
        }
    }

    /// Checks a text, with its broken rules one by one.
    ///
    /// # Errors
    /// Every broken rule that one pass finds; at least the first.
    pub fn check(file_name: &str, text: &str, env: Env<'_>) -> Result<Self, Problems> {
        let cx = Context::new(file_name, env);
        let config =
            tree::parse(text, &cx).and_then(|root| read_config(&Field::root(&root, &cx, &CONFIG), &cx));
        match config {
            Some(config) if !cx.has_problems() => Ok(config),
            _ => Err(Problems::new(cx.into_problems())),
        }
    }

    /// The configuration of `landfast dev`: everything in one folder, made absolute; no file, no push auth, a table
    /// per subscription and per folder of files, commits every 100 ms.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the folder's path cannot be a location.
    pub fn dev(dir: &Path, listen: SocketAddr) -> Result<Self> {
        let refused = |reason: String| {
            Error::new(
                ErrorKind::Config,
                format!("The folder cannot hold a warehouse: {reason}; choose another with --dir."),
            )
        };
        Ok(Self {
            warehouse: Location::folder(&dir.join("warehouse")).map_err(refused)?,
            catalog: CatalogConfig::Storage,
            server: ServerConfig {
                listen,
                push_auth: Some(PushAuth::Off),
                ..ServerConfig::default()
            },
            dead_letters: Location::folder(&dir.join("dead-letters")).map_err(refused)?,
            dead_letter_topic: None,
            dead_letters_before: None,
            sources: BTreeMap::new(),
            defaults: TableDefaults {
                batch: BatchConfig {
                    commit_interval: Duration::from_millis(100),
                    ..BatchConfig::default()
                },
                ..TableDefaults::default()
            },
            tables: BTreeMap::new(),
            routes: vec![
                RouteConfig {
                    subscription: None,
                    attributes: BTreeMap::new(),
                    files: None,
                    table: "landfast.{subscription}".parse()?,
                    allow: Vec::new(),
                },
                RouteConfig {
                    subscription: None,
                    attributes: BTreeMap::new(),
                    files: Some(FileMatch {
                        bucket: Location::folder(&dir.join("landing")).map_err(refused)?,
                        objects: None,
                    }),
                    table: "landfast.{folder}".parse()?,
                    allow: Vec::new(),
                },
            ],
        })
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("the configuration file cannot be read: {error}; name one with --config"))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_FILE_BYTES) {
        return Err(format!(
            "the file is larger than {} MiB, so it is no configuration",
            MAX_FILE_BYTES >> 20
        ));
    }
    String::from_utf8(bytes).map_err(|_not_utf8| "the file is not UTF-8 text".to_owned())
}

fn read_config(root: &Field<'_>, cx: &Context<'_>) -> Option<Config> {
    let mut keys = root.mapping()?;
    let warehouse_field = keys.key(&WAREHOUSE);
    let warehouse = warehouse_field
        .as_ref()
        .and_then(|field| field.location_apart("the warehouse"));
    let beside = warehouse_field
        .filter(|field| !field.has_variable())
        .and(warehouse.as_ref())
        .map(|warehouse| (warehouse, warehouse.sibling("dead-letters")))
        .filter(|(warehouse, beside)| !warehouse.contains(beside));
    let catalog = keys.key(&CATALOG).and_then(|field| CatalogConfig::read(&field));
    let mut server = keys
        .key(&SERVER)
        .map(|field| ServerConfig::read(&field))
        .unwrap_or_default();
    server.apply_environment(cx, root);
    let dead_letters = keys
        .key_or_else(&DEAD_LETTERS, || {
            let (_, beside) = beside?;
            Some(format!("a location beside the warehouse, such as `{beside}`"))
        })
        .and_then(|field| Place::read(&field));
    let sources = keys
        .key(&SOURCES)
        .map(|field| source::read(&field))
        .unwrap_or_default();
    let defaults = keys
        .key(&DEFAULTS)
        .map(|field| table::read_defaults(&field, server.ack_deadline))
        .unwrap_or_default();
    let (tables_field, routes_field) = (keys.key(&TABLES), keys.key(&ROUTES));
    keys.finish();
    let (mut tables, mut taken) = (BTreeMap::new(), publish::Taken::new());
    let named = tables_field
        .as_ref()
        .is_some_and(|field| !field.is_empty_mapping());
    if !named && routes_field.is_none() {
        root.problem("nothing would land: there are no tables and no routes; write a table under `tables`");
    }
    for (name, field) in tables_field.and_then(|field| field.entries()).unwrap_or_default() {
        let table = table::read_table(name, &field, &defaults, server.ack_deadline);
        match parse_table_ident(name) {
            Ok(ident) => {
                if let Some(Err(reason)) = catalog.as_ref().map(|catalog| catalog.takes(&ident)) {
                    field.key_problem(reason);
                }
                let place = (warehouse.as_ref(), catalog.as_ref());
                publish::check(&field, (&ident, &table), place, &mut taken);
                tables.insert(ident, table);
            }
            Err(reason) => field.key_problem(format!("{reason}; write {TABLE_NAME}")),
        }
    }
    let routes = routes_field.map(|field| route::read(&field, catalog.as_ref()));
    let (warehouse, dead_letters) = (warehouse?, dead_letters?);
    let letters = dead_letters.beside(&warehouse);
    let config = Config {
        warehouse,
        catalog: catalog?,
        server,
        dead_letters: letters.written,
        dead_letter_topic: letters.topic,
        dead_letters_before: letters.before,
        sources,
        defaults,
        tables,
        routes: routes.unwrap_or_default(),
    };
    files::check(&config, root);
    Some(config)
}
