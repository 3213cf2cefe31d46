//! Reads tables as any engine does: manifest lists, manifests, Parquet files. Files never change, so each is read once.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use bytes::Bytes;
use iceberg::spec::{FormatVersion, Manifest, ManifestList, Snapshot};
use landfast::storage::Store;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::support::TestResult;

/// What a snapshot is made of.
#[derive(Debug, Default)]
pub struct Contents {
    /// The manifest list, manifests and data files.
    pub files: BTreeSet<String>,
    /// The `id` of every row.
    pub rows: Vec<i64>,
}

/// Reads snapshots of one store.
#[derive(Debug, Default)]
pub struct Walk {
    snapshots: HashMap<String, Arc<Contents>>,
    manifests: HashMap<String, Arc<Vec<String>>>,
    data: HashMap<String, Arc<Vec<i64>>>,
}

impl Walk {
    /// Everything that a snapshot holds. A file that is gone is an error.
    pub async fn contents(&mut self, store: &Store, snapshot: &Snapshot) -> TestResult<Arc<Contents>> {
        let list = snapshot.manifest_list().to_owned();
        if let Some(known) = self.snapshots.get(&list) {
            return Ok(known.clone());
        }
        let mut contents = Contents::default();
        let bytes = read(store, &list).await?;
        for manifest in ManifestList::parse_with_version(&bytes, FormatVersion::V2)?.entries() {
            contents.files.insert(manifest.manifest_path.clone());
            for file in self.data_files(store, &manifest.manifest_path).await?.iter() {
                contents.rows.extend(self.rows(store, file).await?.iter());
                contents.files.insert(file.clone());
            }
        }
        contents.files.insert(list.clone());
        let contents = Arc::new(contents);
        self.snapshots.insert(list, contents.clone());
        Ok(contents)
    }

    async fn data_files(&mut self, store: &Store, manifest: &str) -> TestResult<Arc<Vec<String>>> {
        if let Some(known) = self.manifests.get(manifest) {
            return Ok(known.clone());
        }
        let parsed = Manifest::parse_avro(&read(store, manifest).await?)?;
        let alive = parsed.entries().iter().filter(|entry| entry.is_alive());
        let files: Arc<Vec<String>> = Arc::new(alive.map(|entry| entry.file_path().to_owned()).collect());
        self.manifests.insert(manifest.to_owned(), files.clone());
        Ok(files)
    }

    async fn rows(&mut self, store: &Store, file: &str) -> TestResult<Arc<Vec<i64>>> {
        if let Some(known) = self.data.get(file) {
            return Ok(known.clone());
        }
        let builder = ParquetRecordBatchReaderBuilder::try_new(read(store, file).await?)?;
        let ids = ProjectionMask::columns(builder.parquet_schema(), ["id"]);
        let mut rows = Vec::new();
        for batch in builder.with_projection(ids).build()? {
            rows.extend(batch?.column(0).as_primitive::<Int64Type>().values().iter());
        }
        let rows = Arc::new(rows);
        self.data.insert(file.to_owned(), rows.clone());
        Ok(rows)
    }
}

async fn read(store: &Store, location: &str) -> TestResult<Bytes> {
    let bytes = store.get(store.key(location)?).await?;
    Ok(bytes.ok_or_else(|| format!("I3: {location} is needed and gone."))?)
}
