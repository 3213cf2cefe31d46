//! The write stage, judged by independent readers: codecs, sizes, metrics, partitions.

mod files;
mod partitions;
mod random;

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use iceberg::spec::{DataFile, Schema, Transform, UnboundPartitionSpec};
use iceberg::table::Table;
use iceberg::{NamespaceIdent, TableCreation};
use landfast::catalog::{Catalog, StorageCatalog};
use landfast::clock::Moment;
use landfast::clock::SystemClock;
use landfast::commit::{ChangeSet, Engine, Group};
use landfast::config::{Column, iceberg_schema, parse_type};
use landfast::ledger::Ledger;
use landfast::random::Random;
use landfast::storage::Store;
use landfast::write::arrow_schema;
use libtest_mimic::Trial;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;

use crate::support::TestResult;

pub fn tests() -> Vec<Trial> {
    [files::tests(), partitions::tests(), random::tests()]
        .into_iter()
        .flatten()
        .collect()
}

/// A warehouse in a folder of its own.
pub struct Lab {
    folder: TempDir,
    store: Store,
    catalog: Arc<dyn Catalog>,
    engine: Engine,
    pub random: Arc<Random>,
}

impl Lab {
    pub fn new() -> TestResult<Self> {
        let folder = tempfile::tempdir()?;
        let location = format!("file://{}", folder.path().display());
        Self::at(&location, folder)
    }

    /// One whose files are in memory alone, for many small ones that no reader has to open.
    pub fn in_memory() -> TestResult<Self> {
        Self::at("memory:///lab", tempfile::tempdir()?)
    }

    fn at(location: &str, folder: TempDir) -> TestResult<Self> {
        let store = Store::open(location)?;
        let clock = Arc::new(SystemClock);
        let catalog: Arc<dyn Catalog> = Arc::new(StorageCatalog::new(store.clone(), clock.clone()));
        let random = Arc::new(Random::from_os());
        Ok(Self {
            engine: Engine::new(catalog.clone(), Ledger::new(store.clone()), clock, random.clone()),
            folder,
            store,
            catalog,
            random,
        })
    }

    /// Makes the table `t.NAME` of optional columns, each a name and a type.
    pub async fn table(
        &self,
        name: &str,
        columns: &[(&str, &str)],
        partitions: &[(&str, Transform)],
        properties: &[(&str, &str)],
    ) -> TestResult<Table> {
        let schema = schema(columns)?;
        let mut spec = UnboundPartitionSpec::builder();
        for (column, transform) in partitions {
            let id = schema.field_id_by_name(column).ok_or("no such column")?;
            let name = match transform {
                Transform::Identity => (*column).to_owned(),
                other => format!("{column}_{other}"),
            };
            spec = spec.add_partition_field(id, name, *transform)?;
        }
        let creation = TableCreation::builder()
            .name(name.to_owned())
            .schema(schema)
            .partition_spec(spec.build())
            .properties(
                properties
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
            )
            .build();
        Ok(self
            .catalog
            .create_table(&NamespaceIdent::new("t".to_owned()), creation)
            .await?)
    }

    /// Commits files, and gives the place of the new metadata and the snapshot's summary.
    pub async fn commit(&self, table: &Table, files: Vec<DataFile>) -> TestResult<PathBuf> {
        let begun = Moment::now(&SystemClock);
        let mut changes = ChangeSet::append(self.random.uuid(), begun);
        changes.add(Group::durable(files, Vec::new()));
        let mut head = self.engine.head(table.clone()).await?;
        self.engine.attempt(&mut head, &mut changes).await?;
        let location = head.table().metadata_location().ok_or("no metadata")?;
        Ok(location.trim_start_matches("file://").into())
    }

    /// The rows of a data file, read by the Parquet crate alone.
    pub async fn read(&self, file: &DataFile) -> TestResult<Vec<RecordBatch>> {
        let bytes = self.store.get(self.store.key(file.file_path())?).await?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.ok_or("no such file")?)?;
        Ok(reader.build()?.collect::<Result<_, _>>()?)
    }

    pub fn path(&self) -> &std::path::Path {
        self.folder.path()
    }
}

pub fn schema(columns: &[(&str, &str)]) -> TestResult<Schema> {
    let columns: Result<Vec<Column>, landfast::error::Error> = columns
        .iter()
        .map(|(name, kind)| {
            Ok(Column {
                name: (*name).to_owned(),
                data_type: parse_type(kind)?,
                required: false,
                doc: None,
            })
        })
        .collect();
    Ok(iceberg_schema(&columns?)?)
}

/// Rows of the table's schema.
pub fn rows(table: &Table, columns: Vec<ArrayRef>) -> TestResult<RecordBatch> {
    Ok(RecordBatch::try_new(
        arrow_schema(table.metadata().current_schema())?,
        columns,
    )?)
}
