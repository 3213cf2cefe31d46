//! From a file, a text or a folder to a checked configuration.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::expand::Env;
use super::location::{LOCATION, Location};
use super::problem::{Problem, Problems};
use super::reader::{Context, Field, not_yet};
use super::table::{self, BatchConfig, TABLE_NAME, TableDefaults, parse_table_ident};
use super::tree;
use super::{CatalogConfig, Config, FileMatch, PushAuth, RouteConfig, ServerConfig, files, route, source};
use crate::error::{Error, ErrorKind, Result};

/// A configuration is written by people; a larger file is something else.
const MAX_FILE_BYTES: u64 = 4 << 20;

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
        let config = tree::parse(text, &cx).and_then(|root| read_config(&Field::root(&root, &cx), &cx));
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
    let mut keys =
        root.mapping("a mapping with the keys `warehouse`, `catalog`, `dead_letters` and `tables`")?;
    let warehouse = keys
        .required("warehouse", LOCATION)
        .and_then(|field| read_apart("the warehouse", &field));
    let catalog = keys
        .required("catalog", CatalogConfig::ACCEPTED)
        .and_then(|field| CatalogConfig::read(&field));
    let mut server = keys
        .key("server")
        .map(|field| ServerConfig::read(&field))
        .unwrap_or_default();
    server.apply_port(cx, root);
    let dead_letters = keys
        .required("dead_letters", LOCATION)
        .and_then(|field| read_dead_letters(&field));
    let sources = keys
        .key("sources")
        .map(|field| source::read(&field))
        .unwrap_or_default();
    let defaults = keys
        .key("defaults")
        .map(|field| table::read_defaults(&field, server.ack_deadline))
        .unwrap_or_default();
    let (tables_field, routes_field) = (keys.key("tables"), keys.key("routes"));
    keys.finish();
    let mut tables = BTreeMap::new();
    let named = tables_field
        .as_ref()
        .is_some_and(|field| !field.is_empty_mapping());
    if !named && routes_field.is_none() {
        root.problem("nothing would land: there are no tables and no routes; write a table under `tables`");
    }
    for (name, field) in tables_field
        .and_then(|field| field.entries(TABLES))
        .unwrap_or_default()
    {
        let table = table::read_table(&field, &defaults, server.ack_deadline);
        match parse_table_ident(name) {
            Ok(ident) => {
                tables.insert(ident, table);
            }
            Err(reason) => field.key_problem(format!("{reason}; write {TABLE_NAME}")),
        }
    }
    let routes = routes_field.map(|field| route::read(&field)).unwrap_or_default();
    let config = Config {
        warehouse: warehouse?,
        catalog: catalog?,
        server,
        dead_letters: dead_letters?,
        sources,
        defaults,
        tables,
        routes,
    };
    files::check(&config, root);
    Some(config)
}

const TABLES: &str = "tables by their names, such as `shop.orders: {from: [{subscription: orders-push}]}`";

fn read_dead_letters(field: &Field<'_>) -> Option<Location> {
    if field.is_mapping() {
        for (key, inner) in field.entries(LOCATION).unwrap_or_default() {
            match key {
                "topic" | "table" => inner.key_problem(format!("{}; write {LOCATION}", not_yet(key))),
                _ => inner.key_problem(format!(
                    "unknown key; write {LOCATION} as the value of `dead_letters`"
                )),
            }
        }
        return None;
    }
    read_apart("the dead letters", field)
}

/// Reads a location that nothing else may lie in.
fn read_apart(name: &'static str, field: &Field<'_>) -> Option<Location> {
    let location = field.parse(LOCATION, Location::parse)?;
    field.apart(name, &location);
    Some(location)
}
