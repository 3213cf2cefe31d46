//! Tables that Spark and PyIceberg made: their delete files, format versions, partition specs, orders and schemas.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use iceberg::spec::Literal;
use iceberg::table::Table;
use landfast::catalog::{Catalog, SqlCatalog, StorageCatalog};
use landfast::clock::{Moment, SystemClock};
use landfast::commit::{ChangeSet, Engine, Group, Head, Part};
use landfast::error::ErrorKind;
use landfast::ledger::Ledger;
use landfast::random::Random;
use landfast::storage::Store;
use landfast::write::{arrow_schema, write_data_files};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::readers::{Reader, SqlEngine, sort_by};
use crate::support::tables::{append, files_of, orders, summary};
use crate::support::{Component, Stop, TestResult, needs, trials};

const TABLE: &str = "shop.orders";

pub fn tests() -> Vec<Trial> {
    trials![
        delete_files_of_spark_go_with_what_they_delete,
        table_of_version_1_is_refused_until_the_statement_it_names,
        table_of_version_3_is_refused_with_a_way_out,
        specs_orders_and_schemas_of_pyiceberg_are_written_as_they_are,
        void_field_with_a_columns_name_is_refused,
        partitions_of_spark_are_replaced_by_bucket_and_prefix,
    ]
}

/// A warehouse that Spark or PyIceberg shares with us, turn by turn.
struct Shared {
    _folder: TempDir,
    /// The catalog as the other engine is told of it.
    described: Value,
    random: Arc<Random>,
    engine: Engine,
}

impl Shared {
    /// A `storage` warehouse, Spark's Hadoop catalog.
    async fn with_spark() -> TestResult<Self> {
        let folder = tempfile::tempdir()?;
        let warehouse = format!("file://{}/warehouse", folder.path().display());
        let described = json!({ "type": "hadoop", "name": "landfast", "warehouse": warehouse });
        let store = Store::open(&warehouse)?;
        let catalog = StorageCatalog::new(store.clone(), Arc::new(SystemClock));
        let shared = Self::over(folder, described, Arc::new(catalog), store);
        shared.spark("CREATE NAMESPACE @.shop")?;
        Ok(shared)
    }

    /// A SQLite database.
    async fn with_pyiceberg() -> TestResult<Self> {
        let folder = tempfile::tempdir()?;
        let warehouse = format!("file://{}/warehouse", folder.path().display());
        let uri = format!("sqlite://{}/catalog.db", folder.path().display());
        let described = json!({ "uri": uri, "name": "landfast", "warehouse": warehouse });
        let (store, random) = (Store::open(&warehouse)?, Arc::new(Random::from_os()));
        let catalog = SqlCatalog::open(&uri.parse()?, "landfast", store.clone(), random).await?;
        Ok(Self::over(folder, described, Arc::new(catalog), store))
    }

    fn over(folder: TempDir, described: Value, catalog: Arc<dyn Catalog>, store: Store) -> Self {
        let random = Arc::new(Random::from_os());
        let ledger = Ledger::new(store);
        Self {
            _folder: folder,
            described,
            engine: Engine::new(catalog, ledger, Arc::new(SystemClock), random.clone()),
            random,
        }
    }

    fn spark(&self, statement: &str) -> TestResult<Vec<Vec<Option<String>>>> {
        SqlEngine::Spark.run(&self.described, statement)
    }

    async fn table(&self) -> TestResult<Table> {
        Ok(self.engine.catalog().load_table(&orders()).await?)
    }

    async fn head(&self) -> TestResult<Head> {
        Ok(self.engine.head(self.table().await?).await?)
    }

    async fn append(&self, ids: &[i64]) -> TestResult {
        append(&self.engine, &self.random, ids, Vec::new()).await
    }

    async fn overwrite(&self, part: Part, ids: &[i64]) -> TestResult<Table> {
        let mut head = self.head().await?;
        let begun = Moment::now(&SystemClock);
        let mut changes = self.engine.overwrite(&mut head, part, begun).await?;
        if !ids.is_empty() {
            let files = files_of(head.table(), ids, &self.random).await?;
            changes.add(Group::durable(files, Vec::new()));
        }
        self.engine.attempt(&mut head, &mut changes).await?;
        Ok(head.table().clone())
    }

    /// The `id` of every row, by PyIceberg and DuckDB, which must agree.
    async fn ids(&self) -> TestResult<Vec<i64>> {
        let table = self.table().await?;
        let metadata = table.metadata_location().ok_or("no location")?;
        let [first, second] = Reader::all()?.map(|reader| {
            let mut rows = reader.rows(metadata)?;
            sort_by(&mut rows, "id");
            Ok::<Vec<i64>, Stop>(rows.iter().filter_map(|row| row["id"].as_i64()).collect())
        });
        let first = first?;
        assert_eq!(first, second?);
        Ok(first)
    }

    /// The same, and Spark agrees.
    async fn ids_by_all(&self) -> TestResult<Vec<i64>> {
        let by_spark = SqlEngine::Spark.ids(&self.described, TABLE)?;
        assert_eq!(by_spark, self.ids().await?);
        Ok(by_spark)
    }
}

fn both_engines() -> TestResult {
    needs(Component::Spark)?;
    needs(Component::Python).map(drop)
}

async fn delete_files_of_spark_go_with_what_they_delete() -> TestResult {
    both_engines()?;
    let shared = Shared::with_spark().await?;
    shared.spark(
        "CREATE TABLE @.shop.orders (id BIGINT NOT NULL, name STRING) USING iceberg PARTITIONED BY (name) \
         TBLPROPERTIES ('format-version' = '2', 'write.delete.mode' = 'merge-on-read')",
    )?;
    shared.spark("INSERT INTO @.shop.orders VALUES (1, 'n1'), (11, 'n1'), (2, 'n2'), (12, 'n2')")?;
    shared.spark("DELETE FROM @.shop.orders WHERE id IN (11, 12)")?;
    shared.append(&[3]).await?;
    assert_eq!(shared.ids_by_all().await?, [1, 2, 3]);
    let before = shared.table().await?;
    assert_eq!(summary(&before, "total-delete-files").as_deref(), Some("2"));

    let part = Part::partitions(&before, &[vec![("name", Some(Literal::string("n1")))]])?;
    let table = shared.overwrite(part, &[1, 1]).await?;
    assert_eq!(shared.ids_by_all().await?, [1, 1, 2, 3]);
    for (field, expected) in [
        ("deleted-data-files", "1"),
        ("deleted-records", "2"),
        ("removed-delete-files", "1"),
        ("removed-position-deletes", "1"),
        ("total-delete-files", "1"),
        ("total-position-deletes", "1"),
        ("total-data-files", "3"),
        ("total-records", "5"),
    ] {
        assert_eq!(summary(&table, field).as_deref(), Some(expected), "{field}");
    }
    // Java takes our manifests of deletions further.
    shared.spark("DELETE FROM @.shop.orders WHERE id = 3")?;
    shared.spark("INSERT OVERWRITE @.shop.orders VALUES (4, 'n4')")?;
    assert_eq!(shared.ids_by_all().await?, [4]);
    shared.spark("INSERT INTO @.shop.orders VALUES (5, 'n5'), (6, 'n5')")?;
    shared.spark("DELETE FROM @.shop.orders WHERE id = 6")?;

    let table = shared.overwrite(Part::table(), &[7]).await?;
    assert_eq!(shared.ids_by_all().await?, [7]);
    for field in [
        "total-delete-files",
        "total-position-deletes",
        "total-equality-deletes",
    ] {
        assert_eq!(summary(&table, field).as_deref(), Some("0"), "{field}");
    }
    let metadata = table.metadata_location().ok_or("no location")?;
    assert_eq!(Reader::pyiceberg()?.files(metadata)?.len(), 1);
    Ok(())
}

async fn table_of_version_1_is_refused_until_the_statement_it_names() -> TestResult {
    both_engines()?;
    let shared = Shared::with_spark().await?;
    shared.spark(
        "CREATE TABLE @.shop.orders (id BIGINT NOT NULL, name STRING) USING iceberg PARTITIONED BY (name) \
         TBLPROPERTIES ('format-version' = '1')",
    )?;
    shared.spark("INSERT INTO @.shop.orders VALUES (1, 'n1'), (2, 'n2')")?;
    let error = shared
        .engine
        .head(shared.table().await?)
        .await
        .expect_err("version 1");
    assert_eq!(error.kind(), ErrorKind::TableMismatch);
    let (_, statement) = error.message().split_once("nothing: ").ok_or("no statement")?;
    let statement = statement
        .trim_end_matches('.')
        .replace("shop.orders", "@.shop.orders");
    shared.spark(&statement)?;
    shared.append(&[3]).await?;
    assert_eq!(shared.ids_by_all().await?, [1, 2, 3]);
    let table = shared.table().await?;
    let part = Part::partitions(&table, &[vec![("name", Some(Literal::string("n2")))]])?;
    shared.overwrite(part, &[2, 2]).await?;
    assert_eq!(shared.ids_by_all().await?, [1, 2, 2, 3]);
    shared.spark("DELETE FROM @.shop.orders WHERE id = 1")?;
    shared.overwrite(Part::table(), &[4]).await?;
    assert_eq!(shared.ids_by_all().await?, [4]);
    Ok(())
}

async fn table_of_version_3_is_refused_with_a_way_out() -> TestResult {
    both_engines()?;
    let shared = Shared::with_spark().await?;
    shared.spark(
        "CREATE TABLE @.shop.orders (id BIGINT NOT NULL, name STRING) USING iceberg \
         TBLPROPERTIES ('format-version' = '3')",
    )?;
    shared.spark("INSERT INTO @.shop.orders VALUES (1, 'n1')")?;
    let error = shared
        .engine
        .head(shared.table().await?)
        .await
        .expect_err("version 3");
    assert_eq!(error.kind(), ErrorKind::TableMismatch);
    let (_, statement) = error.message().split_once("its rows, ").ok_or("no statement")?;
    let (statement, _) = statement.split_once(", and write").ok_or("no end")?;
    let statement = statement.replace("shop.orders", "@.shop.orders");
    // Only the first `@` is the catalog for Spark.
    let (first, second) = statement.rsplit_once('@').ok_or("no catalog")?;
    shared.spark(&format!("{first}landfast{second}"))?;
    let copied = shared.spark("SELECT id, name FROM @.shop.orders_v2")?;
    assert_eq!(copied, [[Some("1".to_owned()), Some("n1".to_owned())]]);
    let copy = iceberg::TableIdent::from_strs(["shop", "orders_v2"])?;
    let copy = shared.engine.catalog().load_table(&copy).await?;
    shared.engine.head(copy).await?;
    Ok(())
}

async fn specs_orders_and_schemas_of_pyiceberg_are_written_as_they_are() -> TestResult {
    both_engines()?;
    let shared = Shared::with_pyiceberg().await?;
    SqlEngine::PyIceberg.create_evolved(&shared.described, TABLE, "name_part")?;
    let before = shared.table().await?;
    let mut head = shared.head().await?;
    let day = 86_400_000_000_i64;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![2, 3, 4])),
        Arc::new(StringArray::from(vec![Some("xa"), Some("xb"), None])),
        Arc::new(TimestampMicrosecondArray::from(vec![
            Some(20_454 * day),
            None,
            Some(20_454 * day + 1),
        ])),
        Arc::new(StringArray::from(vec![None, Some("note"), None])),
    ];
    let schema = arrow_schema(before.metadata().current_schema())?;
    let rows = RecordBatch::try_new(schema, columns)?;
    let files = write_data_files(&before, vec![rows], &shared.random)
        .await?
        .durable()
        .await?;
    let mut changes = ChangeSet::append(shared.random.uuid(), Moment::now(&SystemClock));
    changes.add(Group::durable(files, Vec::new()));
    shared.engine.attempt(&mut head, &mut changes).await?;
    assert_eq!(shared.ids().await?, [1, 2, 3, 4]);
    let table = shared.table().await?;
    let before = serde_json::to_value(before.metadata())?;
    let after = serde_json::to_value(table.metadata())?;
    for part in [
        "partition-specs",
        "sort-orders",
        "schemas",
        "default-spec-id",
        "current-schema-id",
    ] {
        assert_eq!(in_order(&before[part]), in_order(&after[part]), "{part}");
    }
    // The row of the first spec has another name, which tells its prefix.
    let part = Part::partitions(&table, &[vec![("name_trunc", Some(Literal::string("x")))]])?;
    shared.overwrite(part, &[]).await?;
    assert_eq!(shared.ids().await?, [1, 4]);
    // Spark's connection to SQLite keeps its lock, so it is asked last.
    assert_eq!(shared.ids_by_all().await?, [1, 4]);
    assert_eq!(
        shared
            .spark("SELECT id FROM @.shop.orders WHERE time >= '2026-01-01' AND note IS NULL")?
            .len(),
        2
    );
    assert_eq!(
        shared
            .spark("SELECT id FROM @.shop.orders WHERE name LIKE 'x%'")?
            .len(),
        0
    );
    assert_eq!(
        shared
            .spark("SELECT id FROM @.shop.orders WHERE id = 4 AND name IS NULL")?
            .len(),
        1
    );
    Ok(())
}

async fn void_field_with_a_columns_name_is_refused() -> TestResult {
    needs(Component::Python)?;
    let shared = Shared::with_pyiceberg().await?;
    SqlEngine::PyIceberg.create_evolved(&shared.described, TABLE, "name")?;
    let refused = shared.engine.head(shared.table().await?).await;
    let error = refused.expect_err("its manifests cannot be read");
    assert_eq!(error.kind(), ErrorKind::TableMismatch);
    assert!(
        error.message().contains("`name` was removed"),
        "{}",
        error.message()
    );
    Ok(())
}

/// The parts of a list in one order; the crate keeps specs, orders and schemas in none.
fn in_order(value: &Value) -> Vec<String> {
    let parts = value
        .as_array()
        .map_or(std::slice::from_ref(value), Vec::as_slice);
    let mut texts: Vec<String> = parts.iter().map(Value::to_string).collect();
    texts.sort_unstable();
    texts
}

async fn partitions_of_spark_are_replaced_by_bucket_and_prefix() -> TestResult {
    both_engines()?;
    let shared = Shared::with_spark().await?;
    shared.spark(
        "CREATE TABLE @.shop.orders (id BIGINT NOT NULL, name STRING) USING iceberg \
         PARTITIONED BY (bucket(4, id), truncate(2, name)) TBLPROPERTIES ('format-version' = '2')",
    )?;
    let ids: Vec<i64> = (0..40).collect();
    SqlEngine::Spark.append(&shared.described, TABLE, &ids)?;
    let ours: Vec<i64> = (100..140).collect();
    shared.append(&ours).await?;
    let all: Vec<i64> = ids.iter().chain(&ours).copied().collect();
    assert_eq!(shared.ids_by_all().await?, all);
    // Java's buckets and ours are the same: one of four goes, whoever wrote it.
    let table = shared.table().await?;
    let bucket = Part::partitions(&table, &[vec![("id_bucket", Some(Literal::int(1)))]])?;
    shared.overwrite(bucket, &[]).await?;
    let left = shared.ids_by_all().await?;
    let expected = shared.spark("SELECT id FROM @.shop.orders WHERE system.bucket(4, id) <> 1");
    assert!(left.len() < all.len(), "{expected:?}");
    // A query that prunes by bucket finds each row that stays.
    for id in &all {
        let found = shared.spark(&format!("SELECT id FROM @.shop.orders WHERE id = {id}"))?;
        assert_eq!(found.len(), usize::from(left.contains(id)), "{id}");
    }
    let table = shared.table().await?;
    let prefix = Part::partitions(&table, &[vec![("name_trunc", Some(Literal::string("n1")))]])?;
    shared.overwrite(prefix, &[]).await?;
    let left = shared.ids_by_all().await?;
    assert!(left.iter().all(|id| *id < 100), "{left:?}");
    assert!(!left.is_empty());
    Ok(())
}
