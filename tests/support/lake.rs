//! A folder with a warehouse and dead letters in it, as `dev --dir` lays it out, and what is in them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::TestResult;
use super::readers::{Reader, sort_by};

/// The folder; gone when dropped.
#[derive(Debug)]
pub struct Lake(TempDir);

impl Lake {
    /// Makes an empty one.
    pub fn new() -> TestResult<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    /// The folder itself, for `dev --dir`.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes the configuration of a server on this folder that listens on a free port of 127.0.0.1.
    ///
    /// `server` are more keys of `server`, `rest` the tables, routes and defaults.
    pub fn config(&self, server: &str, rest: &str) -> TestResult<PathBuf> {
        let dir = self.path().display();
        self.write_config(&format!(
            "warehouse: \"file://{dir}/warehouse\"\ncatalog: {{ type: storage }}\ndead_letters: \
             \"file://{dir}/dead-letters\"\nserver: {{ listen: \"127.0.0.1:0\", push_auth: off, {server} }}\n{rest}"
        ))
    }

    /// Writes `landfast.yaml` as it is given.
    pub fn write_config(&self, text: &str) -> TestResult<PathBuf> {
        let file = self.path().join("landfast.yaml");
        fs::write(&file, text)?;
        Ok(file)
    }

    /// The folder of a table.
    pub fn table(&self, name: &str) -> PathBuf {
        self.path().join("warehouse").join(name.replace('.', "/"))
    }

    /// The newest metadata file of a table.
    pub fn metadata(&self, table: &str) -> TestResult<PathBuf> {
        newest_metadata(&self.table(table))
    }

    /// The table's rows by one column, as both readers see them, who must agree on them, on their number and on what
    /// each column holds.
    pub fn rows(&self, table: &str, sorted_by: &str) -> TestResult<Vec<Value>> {
        let metadata = self.metadata(table)?;
        agreed_rows(&metadata, sorted_by)
    }

    /// The distinct whole numbers of a column, and how many rows there are: equal unless something is there twice.
    pub fn ids(&self, table: &str, column: &str) -> TestResult<(BTreeSet<i64>, usize)> {
        let rows = self.rows(table, column)?;
        let ids = rows.iter().filter_map(|row| row[column].as_i64()).collect();
        Ok((ids, rows.len()))
    }

    /// Every dead letter that counts, by its id.
    pub fn dead_letters(&self) -> TestResult<Vec<Value>> {
        self.letters_in("confirmed")
    }

    /// The letters in one of the folders of the dead letters, by their ids.
    pub fn letters_in(&self, place: &str) -> TestResult<Vec<Value>> {
        let mut letters = Vec::new();
        let files = files(&self.path().join("dead-letters").join(place))?;
        // A process that is killed leaves the file it was writing, `….ndjson#1`, which is not there for any store.
        for file in files
            .iter()
            .filter(|file| file.extension().is_some_and(|end| end == "ndjson"))
        {
            for line in fs::read_to_string(file)?.lines() {
                letters.push(serde_json::from_str(line)?);
            }
        }
        sort_by(&mut letters, "id");
        Ok(letters)
    }
}

/// The newest `vN.metadata.json` of a table's folder.
pub fn newest_metadata(table: &Path) -> TestResult<PathBuf> {
    let version = |path: &Path| -> Option<u64> {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix('v')?
            .strip_suffix(".metadata.json")?
            .parse()
            .ok()
    };
    let files = files(&table.join("metadata"))?;
    let newest = files
        .into_iter()
        .filter_map(|file| Some((version(&file)?, file)))
        .max();
    newest
        .map(|(_, file)| file)
        .ok_or_else(|| format!("{} holds no table.", table.display()).into())
}

/// The rows that both readers see, by one column.
pub fn agreed_rows(metadata: &Path, sorted_by: &str) -> TestResult<Vec<Value>> {
    let [pyiceberg, duckdb] = Reader::all()?;
    let mut rows = pyiceberg.rows(metadata)?;
    let mut others = duckdb.rows(metadata)?;
    sort_by(&mut rows, sorted_by);
    sort_by(&mut others, sorted_by);
    assert_eq!(rows, others, "PyIceberg and DuckDB read other rows");
    let count = rows.len() as u64;
    assert_eq!(
        (pyiceberg.count(metadata)?, duckdb.count(metadata)?),
        (count, count)
    );
    assert_eq!(pyiceberg.columns(metadata)?, duckdb.columns(metadata)?);
    Ok(rows)
}

/// Every file under a folder; none if there is no folder.
pub fn files(folder: &Path) -> TestResult<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        if !folder.exists() {
            continue;
        }
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}
