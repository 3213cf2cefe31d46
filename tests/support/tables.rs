//! Tables of tests: one schema, files of rows, and what is in a table afterwards.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Int64Array, RecordBatch, StringArray};
use futures::TryStreamExt;
use iceberg::spec::{DataFile, NestedField, PrimitiveType, Schema, Type};
use iceberg::table::Table;
use iceberg::{NamespaceIdent, TableCreation, TableIdent};
use landfast::catalog::Catalog;
use landfast::clock::{Moment, SystemClock};
use landfast::commit::{ChangeSet, Engine, Group};
use landfast::error::ErrorKind;
use landfast::ledger::Entry;
use landfast::random::Random;
use landfast::write::{PendingFiles, arrow_schema, write_data_files};

use super::{TestResult, wait_for};

/// `shop.orders`.
pub fn orders() -> TableIdent {
    TableIdent::from_strs(["shop", "orders"]).expect("two levels make a name")
}

/// A primitive column.
pub fn column(id: i32, name: &str, kind: PrimitiveType, required: bool) -> Arc<NestedField> {
    Arc::new(NestedField::new(id, name, Type::Primitive(kind), required))
}

/// A schema of these columns.
pub fn schema(columns: impl IntoIterator<Item = Arc<NestedField>>) -> Schema {
    let built = Schema::builder().with_fields(columns).build();
    built.expect("the columns make a schema")
}

/// `id long required, name string`.
pub fn order_schema() -> Schema {
    schema([
        column(1, "id", PrimitiveType::Long, true),
        column(2, "name", PrimitiveType::String, false),
    ])
}

/// The creation of a table of [`order_schema`].
pub fn order_creation(name: &str) -> TableCreation {
    TableCreation::builder()
        .name(name.to_owned())
        .schema(order_schema())
        .build()
}

/// Makes a table of [`order_schema`], with its namespace.
pub async fn create(catalog: &dyn Catalog, ident: &TableIdent) -> TestResult<Table> {
    let namespace: &NamespaceIdent = ident.namespace();
    catalog.create_namespace(namespace).await?;
    Ok(catalog
        .create_table(namespace, order_creation(ident.name()))
        .await?)
}

/// Makes a table of [`order_schema`] in a namespace that is there, or finds the one that another made; says whether it did.
pub async fn create_or_find(catalog: &dyn Catalog, ident: TableIdent) -> TestResult<(bool, Table)> {
    let creation = order_creation(ident.name());
    let taken = match catalog.create_table(ident.namespace(), creation).await {
        Ok(table) => return Ok((true, table)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => error,
        Err(error) => return Err(error.into()),
    };
    // A server that keeps objects as files refuses the name a moment before it lists what has it.
    let what = format!("{taken}: the table to be there");
    let found = wait_for(&what, Duration::from_secs(60), async || {
        match catalog.load_table(&ident).await {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            loaded => Some(loaded),
        }
    });
    Ok((false, found.await??))
}

/// Writes a data file with these ids into a table of [`order_schema`].
pub async fn files_of(table: &Table, ids: &[i64], random: &Arc<Random>) -> TestResult<Vec<DataFile>> {
    Ok(pending_files_of(table, ids, random).await?.durable().await?)
}

/// The same, while the file is on its way.
pub async fn pending_files_of(table: &Table, ids: &[i64], random: &Arc<Random>) -> TestResult<PendingFiles> {
    let names: StringArray = ids.iter().map(|id| Some(format!("n{id}"))).collect();
    let columns: Vec<arrow_array::ArrayRef> = vec![Arc::new(Int64Array::from(ids.to_vec())), Arc::new(names)];
    let rows = RecordBatch::try_new(arrow_schema(table.metadata().current_schema())?, columns)?;
    Ok(write_data_files(table, vec![rows], random).await?)
}

/// Appends rows with these ids, in deliveries of these entries, to `shop.orders` as it is now.
pub async fn append(engine: &Engine, random: &Arc<Random>, ids: &[i64], entries: Vec<Entry>) -> TestResult {
    let table = engine.catalog().load_table(&orders()).await?;
    let mut head = engine.head(table).await?;
    let files = files_of(head.table(), ids, random).await?;
    let mut changes = ChangeSet::append(random.uuid(), Moment::now(&SystemClock));
    changes.add(Group::durable(files, entries));
    engine.attempt(&mut head, &mut changes).await?;
    Ok(())
}

/// The `id` of every row, in order, by the iceberg crate's scan.
pub async fn ids(table: &Table) -> TestResult<Vec<i64>> {
    let scan = table.scan().select(["id"]).build()?;
    let batches: Vec<RecordBatch> = scan.to_arrow().await?.try_collect().await?;
    let mut ids: Vec<i64> = batches
        .iter()
        .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
        .collect();
    ids.sort_unstable();
    Ok(ids)
}

/// The `id` of every row of the newest state.
pub async fn ids_now(catalog: &dyn Catalog, ident: &TableIdent) -> TestResult<Vec<i64>> {
    ids(&catalog.load_table(ident).await?).await
}

/// A field of the current snapshot's summary.
pub fn summary(table: &Table, field: &str) -> Option<String> {
    let snapshot = table.metadata().current_snapshot()?;
    snapshot.summary().additional_properties.get(field).cloned()
}

/// Every file that the current snapshot needs: manifest list, manifests, data files.
pub async fn referenced_files(table: &Table) -> TestResult<Vec<String>> {
    let Some(snapshot) = table.metadata().current_snapshot() else {
        return Ok(Vec::new());
    };
    let mut files = vec![snapshot.manifest_list().to_owned()];
    for manifest in table.manifest_list_reader(snapshot).load().await?.entries() {
        files.push(manifest.manifest_path.clone());
        let entries = manifest.load_manifest(table.file_io()).await?;
        files.extend(entries.entries().iter().map(|entry| entry.file_path().to_owned()));
    }
    Ok(files)
}
