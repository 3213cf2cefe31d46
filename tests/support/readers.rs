//! Independent readers as judges of what is in a table: PyIceberg, DuckDB, polars, ClickHouse (chdb) and Spark.
//!
//! Each is one Python process, started at first use, and asked one thing at a time over its stdin. A location is a
//! metadata file or, where `version-hint.text` is kept, the table's folder; a path or a `file:` URL.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Component, TestResult, needs};

/// One independent reader.
///
/// Values come back exact: booleans and integers as themselves; decimal, date, time, timestamp (`Z` where it has a
/// zone) and uuid as text; bytes as base64; a map as a list of pairs; NaN and infinities by name.
#[derive(Debug)]
pub struct Reader {
    script: &'static str,
    component: Component,
    process: Mutex<Option<Process>>,
}

/// What a filter found.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub struct Matches {
    /// Rows that match.
    pub rows: u64,
    /// Data files that the reader opens for them.
    pub planned_files: Option<u64>,
}

/// What one top-level column holds. Nested columns have no ends; a NaN is larger than any number.
#[derive(Debug, Deserialize, PartialEq)]
pub struct Column {
    pub values: u64,
    pub nulls: u64,
    pub min: Value,
    pub max: Value,
}

/// Rows per partition tuple, as text.
#[derive(Debug, Deserialize)]
pub struct PartitionCounts {
    /// What the rows' own values make.
    pub rows: BTreeMap<String, u64>,
    /// What the manifests say.
    pub files: BTreeMap<String, u64>,
}

static PYICEBERG: Reader = Reader::new("pyiceberg_reader.py");
static DUCKDB: Reader = Reader::new("duckdb_reader.py");
static POLARS: Reader = Reader::new("polars_reader.py");
static CHDB: Reader = Reader::new("chdb_reader.py");
static SAMPLE_WRITER: Reader = Reader::new("sample_writer.py");
static SQL_WRITER: Reader = Reader::new("sql_writer.py");
static DISCOVERY: Reader = Reader::new("discovery.py");
static BILL: Reader = Reader::new("bill.py");
static METRICS_PAGE: Reader = Reader::new("metrics_page.py");
// One process, and so one JVM, for all that Spark does.
static SPARK: Reader = Reader::of(Component::Spark, "spark_engine.py");

impl Reader {
    const fn new(script: &'static str) -> Self {
        Self::of(Component::Python, script)
    }

    const fn of(component: Component, script: &'static str) -> Self {
        Self {
            script,
            component,
            process: Mutex::new(None),
        }
    }

    /// PyIceberg. Ends the test as ignored where there is no Python.
    ///
    /// Its blind spots: it reads a null list or map of structs as an empty one, filters no uuid column, and refuses
    /// equality deletes. Ask DuckDB for those.
    pub fn pyiceberg() -> TestResult<&'static Self> {
        needs(Component::Python).map(|_| &PYICEBERG)
    }

    /// DuckDB. Ends the test as ignored where there is no Python.
    pub fn duckdb() -> TestResult<&'static Self> {
        needs(Component::Python).map(|_| &DUCKDB)
    }

    /// polars: its own Parquet reader on the files that PyIceberg plans. It tells no rows, and takes uuids for bytes.
    pub fn polars() -> TestResult<&'static Self> {
        needs(Component::Python).map(|_| &POLARS)
    }

    /// ClickHouse. It tells no rows and nothing of nested columns, always reads the newest metadata of a table's folder,
    /// and has the blind spots that `chdb_reader.py` lists.
    pub fn chdb() -> TestResult<&'static Self> {
        needs(Component::Python).map(|_| &CHDB)
    }

    /// Spark, on a `storage` warehouse as a Hadoop catalog: `WAREHOUSE/NAMESPACE/TABLE`. Ends the test as ignored where
    /// there is no Spark. It tells no rows and nothing of nested columns, and reads no table with a `time` column.
    pub fn spark() -> TestResult<&'static Self> {
        needs(Component::Spark).map(|_| &SPARK)
    }

    /// PyIceberg and DuckDB, for what each must say alike.
    pub fn all() -> TestResult<[&'static Self; 2]> {
        Ok([Self::pyiceberg()?, Self::duckdb()?])
    }

    /// Number of rows.
    pub fn count(&self, location: impl AsRef<Path>) -> TestResult<u64> {
        self.ask("count", location, json!({}))
    }

    /// All rows, in no order; see [`sort_by`].
    pub fn rows(&self, location: impl AsRef<Path>) -> TestResult<Vec<Value>> {
        self.ask("rows", location, json!({}))
    }

    /// All rows of one snapshot, in no order.
    pub fn rows_at(&self, location: impl AsRef<Path>, snapshot_id: i64) -> TestResult<Vec<Value>> {
        self.ask("rows", location, json!({ "snapshot_id": snapshot_id }))
    }

    /// What `column op literal` finds; `op` is one of `= != < <= > >=`, `a.b` a field of a struct. A wrong bound in
    /// a manifest or a footer shows as a wrong number here.
    pub fn count_where(
        &self,
        location: impl AsRef<Path>,
        column: &str,
        op: &str,
        literal: impl Into<Value>,
    ) -> TestResult<Matches> {
        self.ask(
            "count_where",
            location,
            json!({ "column": column, "op": op, "literal": literal.into() }),
        )
    }

    /// The sums of columns of whole numbers or decimals, as plain text.
    pub fn sums(&self, location: impl AsRef<Path>, columns: &[&str]) -> TestResult<Vec<String>> {
        self.ask("sums", location, json!({ "columns": columns }))
    }

    /// What each top-level column holds, from the rows.
    pub fn columns(&self, location: impl AsRef<Path>) -> TestResult<BTreeMap<String, Column>> {
        self.ask("columns", location, json!({}))
    }

    /// The metadata as PyIceberg parsed it, in the specification's JSON: `snapshots`, `schemas`, `properties` ...
    /// PyIceberg only.
    pub fn describe(&self, location: impl AsRef<Path>) -> TestResult<Value> {
        self.ask("describe", location, json!({}))
    }

    /// The live data and delete files with all that manifests say of them, metrics and bounds by column name
    /// (`lower_bounds`, `null_value_counts` ...), bounds written as rows are, and as they lie there (`lower_bytes`, in
    /// hexadecimal). PyIceberg and Spark only.
    pub fn files(&self, location: impl AsRef<Path>) -> TestResult<Vec<Value>> {
        self.ask("files", location, json!({}))
    }

    /// Has Java write the table's rows into one of its own, of the same schema, partitions and properties, and gives
    /// the [`files`](Self::files) of that. Spark only.
    pub fn written_by_java(&self, location: impl AsRef<Path>) -> TestResult<Vec<Value>> {
        self.ask("written_by_java", location, json!({}))
    }

    /// One of the metadata tables: `manifests`, `snapshots`, `partitions`, `refs`, `history` ... PyIceberg and Spark only.
    pub fn inspect(&self, location: impl AsRef<Path>, what: &str) -> TestResult<Vec<Value>> {
        self.ask("inspect", location, json!({ "what": what }))
    }

    /// Rows per partition, by PyIceberg's own transforms of the rows and by the manifests. PyIceberg only.
    pub fn partition_counts(&self, location: impl AsRef<Path>) -> TestResult<PartitionCounts> {
        self.ask("partition_counts", location, json!({}))
    }

    fn ask<T: DeserializeOwned>(
        &self,
        call: &str,
        location: impl AsRef<Path>,
        arguments: Value,
    ) -> TestResult<T> {
        let mut request = arguments;
        request["call"] = call.into();
        request["location"] = location.as_ref().to_string_lossy().into();
        self.request(&request)
    }

    fn request<T: DeserializeOwned>(&self, request: &Value) -> TestResult<T> {
        let mut process = self.lock();
        if process.is_none() {
            *process = Some(Process::start(&needs(self.component)?, self.script)?);
        }
        let answer = process.as_mut().expect("it was just started").exchange(request);
        if answer.is_err() {
            // A broken pipe is not mended: the next question starts another process.
            process.take().into_iter().for_each(Process::stop);
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Answer<T> {
            Ok(T),
            Error(String),
        }
        match serde_json::from_str(&answer?)? {
            Answer::Ok(result) => Ok(result),
            Answer::Error(text) => Err(format!("{} on {request}: {text}", self.script).into()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sorts rows by one column: numbers by value, everything else by its JSON text.
pub fn sort_by(rows: &mut [Value], column: &str) {
    rows.sort_by_cached_key(|row| (row[column].as_i64(), row[column].to_string()));
}

/// A table that PyIceberg wrote: one commit a row, every primitive type of format version 2, nested types.
#[derive(Debug, Deserialize)]
pub struct Sample {
    pub metadata: PathBuf,
    pub folder: PathBuf,
}

impl Sample {
    /// Writes it into a folder.
    pub fn write(folder: &Path) -> TestResult<Self> {
        SAMPLE_WRITER.request(&json!({ "call": "write", "folder": folder }))
    }

    /// Writes one of a single row whose lists and maps are null: `ints`, `lines` and `by_name` (of structs).
    pub fn write_null_lists(folder: &Path) -> TestResult<Self> {
        SAMPLE_WRITER.request(&json!({ "call": "write_null_lists", "folder": folder }))
    }
}

/// An engine that writes through a SQL catalog, beside us and through the same rows.
#[derive(Debug, Clone, Copy)]
pub enum SqlEngine {
    /// PyIceberg's `SqlCatalog`.
    PyIceberg,
    /// Spark over Java's `JdbcCatalog`.
    Spark,
    /// DuckDB, which writes through servers only.
    DuckDb,
}

/// Where the newest state of a table is.
#[derive(Debug, Deserialize)]
pub struct State {
    pub location: String,
    pub snapshot_id: Option<i64>,
}

impl SqlEngine {
    /// Appends rows `(id, name)` to a table of `id long required, name string`.
    pub fn append(self, catalog: &Value, table: &str, ids: &[i64]) -> TestResult {
        self.ask(json!({ "call": "append", "catalog": catalog, "table": table, "ids": ids }))
    }

    /// Makes a table of `id long required, name string`, with its namespace.
    pub fn create(self, catalog: &Value, table: &str) -> TestResult {
        self.ask(json!({ "call": "create", "catalog": catalog, "table": table }))
    }

    /// Makes a table of version 1 with rows, changes its spec and schema, and upgrades it: see `sql_writer.py`.
    /// `by_name` is what the partition field of `name` is called. PyIceberg only.
    pub fn create_evolved(self, catalog: &Value, table: &str, by_name: &str) -> TestResult {
        let call =
            json!({ "call": "create_evolved", "catalog": catalog, "table": table, "by_name": by_name });
        self.ask(call)
    }

    /// Runs a statement of SQL in which `@` is the catalog; gives its rows as texts. Spark and DuckDB only.
    pub fn run(self, catalog: &Value, statement: &str) -> TestResult<Vec<Vec<Option<String>>>> {
        self.ask(json!({ "call": "run", "catalog": catalog, "statement": statement }))
    }

    /// The ids of all rows, in order.
    pub fn ids(self, catalog: &Value, table: &str) -> TestResult<Vec<i64>> {
        self.ask(json!({ "call": "ids", "catalog": catalog, "table": table }))
    }

    /// The tables of a namespace, in order.
    pub fn tables(self, catalog: &Value, namespace: &str) -> TestResult<Vec<String>> {
        self.ask(json!({ "call": "tables", "catalog": catalog, "namespace": namespace }))
    }

    /// Deletes the rows of a filter. PyIceberg only.
    pub fn delete(self, catalog: &Value, table: &str, filter: &str) -> TestResult {
        self.ask(json!({ "call": "delete", "catalog": catalog, "table": table, "where": filter }))
    }

    /// Replaces the rows of a filter. PyIceberg only.
    pub fn overwrite(self, catalog: &Value, table: &str, filter: &str, ids: &[i64]) -> TestResult {
        self.ask(
            json!({ "call": "overwrite", "catalog": catalog, "table": table, "where": filter, "ids": ids }),
        )
    }

    /// Forgets a table. PyIceberg only.
    pub fn drop(self, catalog: &Value, table: &str) -> TestResult {
        self.ask(json!({ "call": "drop", "catalog": catalog, "table": table }))
    }

    /// Makes a table whose `id` is text, and that has nothing else. PyIceberg only.
    pub fn create_other(self, catalog: &Value, table: &str) -> TestResult {
        self.ask(json!({ "call": "create_other", "catalog": catalog, "table": table }))
    }

    /// Sets properties, and removes some. PyIceberg only.
    pub fn alter(
        self,
        catalog: &Value,
        table: &str,
        properties: &[(&str, &str)],
        removed: &[&str],
    ) -> TestResult {
        let properties: BTreeMap<&str, &str> = properties.iter().copied().collect();
        self.ask(json!({
            "call": "alter", "catalog": catalog, "table": table, "properties": properties, "removed": removed,
        }))
    }

    /// Makes a column required or optional. PyIceberg only.
    pub fn change_column(self, catalog: &Value, table: &str, column: &str, required: bool) -> TestResult {
        self.ask(json!({
            "call": "change_column", "catalog": catalog, "table": table, "column": column, "required": required,
        }))
    }

    /// The table's properties. PyIceberg only.
    pub fn properties(self, catalog: &Value, table: &str) -> TestResult<BTreeMap<String, String>> {
        self.ask(json!({ "call": "properties", "catalog": catalog, "table": table }))
    }

    /// The newest state. PyIceberg only.
    pub fn state(self, catalog: &Value, table: &str) -> TestResult<State> {
        self.ask(json!({ "call": "state", "catalog": catalog, "table": table }))
    }

    fn ask<T: DeserializeOwned>(self, request: Value) -> TestResult<T> {
        match self {
            Self::DuckDb => DUCKDB.request(&request),
            Self::PyIceberg => SQL_WRITER.request(&request),
            Self::Spark => SPARK.request(&request),
        }
    }
}

/// A request to one of Google's APIs, as it was sent.
#[derive(Debug, Clone, Serialize)]
pub struct Sent {
    pub method: String,
    /// With its query, as it is escaped.
    pub path: String,
    pub body: Option<Value>,
}

/// What the discovery document of an API, such as `storage.v1`, finds wrong with these: unknown paths, parameters and
/// members, missing ones, values of other types. Ends the test as ignored where there is no Python.
pub fn undocumented(api: &str, requests: &[Sent]) -> TestResult<Vec<String>> {
    needs(Component::Python)?;
    DISCOVERY.request(&json!({ "call": "check", "api": api, "requests": requests }))
}

/// What `/metrics` tells under one name.
#[derive(Debug, Deserialize)]
pub struct Family {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    pub help: String,
    /// Name, labels and value, in the order of the page.
    pub samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

/// A page of metrics as Prometheus's own client reads it, by the names of its families; a page that is not by the format's
/// rules is an error. Ends the test as ignored where there is no Python.
pub fn metric_families(page: &str) -> TestResult<BTreeMap<String, Family>> {
    needs(Component::Python)?;
    METRICS_PAGE.request(&json!({ "call": "families", "page": page }))
}

/// What CycloneDX's own schema finds wrong with a bill of materials. Ends the test as ignored where there is no Python.
pub fn bill_problems(bill: &str) -> TestResult<Vec<String>> {
    needs(Component::Python)?;
    BILL.request(&json!({ "call": "problems", "bill": bill }))
}

/// Stops every reader. Call when the tests are over: statics are not dropped.
pub fn stop_all() {
    for reader in [
        &PYICEBERG,
        &DUCKDB,
        &POLARS,
        &CHDB,
        &SAMPLE_WRITER,
        &SQL_WRITER,
        &DISCOVERY,
        &BILL,
        &METRICS_PAGE,
        &SPARK,
    ] {
        reader.lock().take().into_iter().for_each(Process::stop);
    }
}

#[derive(Debug)]
struct Process {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Process {
    fn start(python: &str, script: &str) -> TestResult<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/readers")
            .join(script);
        let mut command = Command::new(python);
        // -B: no compiled files in the source tree.
        command
            .arg("-B")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let requests = child.stdin.take().expect("stdin is piped");
        let answers = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Ok(Self {
            child,
            requests,
            answers,
        })
    }

    fn exchange(&mut self, request: &Value) -> std::io::Result<String> {
        writeln!(self.requests, "{request}")?;
        let mut answer = String::new();
        match self.answers.read_line(&mut answer)? {
            0 => Err(std::io::Error::other(
                "The reader ended; what it printed above says why.",
            )),
            _ => Ok(answer),
        }
    }

    fn stop(mut self) {
        // A failure only says that it is gone already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
