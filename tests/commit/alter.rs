//! Alterations: once, against everybody else's, and in the commit of the rows that need them.

use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch, StringArray};
use iceberg::spec::{NestedField, PrimitiveType, Transform, Type};
use iceberg::table::Table;
use landfast::commit::{Alteration, ChangeSet, Committed, Group, Head};
use landfast::config::PartitionBy;
use landfast::error::ErrorKind;
use landfast::ledger::POINTER;
use landfast::storage::Store;
use landfast::write::{arrow_schema, write_data_files};
use libtest_mimic::Trial;
use serde_json::json;

use super::world::{World, entries, patience};
use crate::support::faults::{Fault, Faults, Gate, Op};
use crate::support::readers::{Reader, sort_by};
use crate::support::tables::{column, order_schema, orders, schema};
use crate::support::{TestResult, paused_trials, trials};

pub fn tests() -> Vec<Trial> {
    let mut tests = paused_trials![
        every_alteration_is_made_once,
        pointer_and_reserved_properties_are_refused,
        lost_answer_is_found_done,
        late_alteration_and_its_retry_exclude_each_other,
        two_who_add_columns_both_land,
        two_who_want_the_same_agree,
        column_of_another_type_is_refused,
        append_goes_on_over_an_alteration,
        column_and_its_rows_land_in_one_commit,
        rows_are_written_again_when_another_took_the_id,
        rows_land_when_another_added_the_same_column,
        lost_answer_of_column_and_rows_is_found_landed,
    ];
    tests.extend(trials![independent_readers_see_altered_tables]);
    tests
}

fn add(name: &str, kind: PrimitiveType) -> Alteration {
    Alteration::AddColumn {
        parent: None,
        column: Box::new(NestedField::optional(0, name, Type::Primitive(kind))),
    }
}

fn set(key: &str, value: &str) -> Alteration {
    Alteration::SetProperty(key.to_owned(), value.to_owned())
}

fn names(table: &Table) -> Vec<(i32, String)> {
    let fields = table.metadata().current_schema().as_struct().fields();
    fields
        .iter()
        .map(|field| (field.id, field.name.clone()))
        .collect()
}

async fn now(world: &World) -> TestResult<Table> {
    Ok(world.catalog.load_table(&orders()).await?)
}

/// Rows `(id, name, note)`, written for a table that has the column.
async fn noted(world: &World, table: &Table, ids: &[i64]) -> TestResult<Group> {
    let text = |letter: &str| -> Arc<StringArray> {
        Arc::new(ids.iter().map(|id| Some(format!("{letter}{id}"))).collect())
    };
    let columns: Vec<arrow_array::ArrayRef> =
        vec![Arc::new(Int64Array::from(ids.to_vec())), text("n"), text("note")];
    let rows = RecordBatch::try_new(arrow_schema(table.metadata().current_schema())?, columns)?;
    let files = write_data_files(table, vec![rows], &world.random).await?;
    Ok(Group::durable(files.durable().await?, entries(ids)))
}

/// An append of these ids that adds the column `note`.
async fn with_note(world: &World, head: &Head, ids: &[i64]) -> TestResult<ChangeSet> {
    let alterations = vec![add("note", PrimitiveType::String)];
    let written = world.engine.altered(head, &alterations)?;
    let mut changes = world.no_changes().altering(alterations, &written);
    changes.add(noted(world, &written, ids).await?);
    Ok(changes)
}

async fn every_alteration_is_made_once() -> TestResult {
    let (world, mut head) = World::new().await?;
    world.commit_elsewhere(&[1]).await?;
    let by_name = Alteration::PartitionBy(vec![PartitionBy {
        transform: Transform::Identity,
        column: "label".to_owned(),
    }]);
    for (alteration, expected) in [
        (add("n", PrimitiveType::Int), json!({ "last-column-id": 3 })),
        (
            Alteration::Widen {
                column: "n".to_owned(),
                to: PrimitiveType::Long,
            },
            json!({ "current-schema-id": 2 }),
        ),
        (
            Alteration::MakeOptional("id".to_owned()),
            json!({ "current-schema-id": 3 }),
        ),
        (
            Alteration::Rename {
                column: "name".to_owned(),
                to: "label".to_owned(),
            },
            json!({ "current-schema-id": 4 }),
        ),
        (
            Alteration::Drop("n".to_owned()),
            json!({ "current-schema-id": 5 }),
        ),
        (
            by_name,
            json!({ "default-spec-id": 1, "last-partition-id": 1000 }),
        ),
        (
            Alteration::SortBy(vec!["id".to_owned()]),
            json!({ "default-sort-order-id": 1 }),
        ),
        (
            Alteration::PartitionBy(Vec::new()),
            json!({ "default-spec-id": 0 }),
        ),
        (
            Alteration::SortBy(Vec::new()),
            json!({ "default-sort-order-id": 0 }),
        ),
        (set("owner", "shop"), json!({})),
        (Alteration::RemoveProperty("owner".to_owned()), json!({})),
    ] {
        let alterations = [alteration];
        let before = world.faults.calls(Op::CommitTable, "");
        assert!(
            world.engine.alter(&mut head, &alterations, patience()).await?,
            "{alterations:?}"
        );
        let committed = world.faults.calls(Op::CommitTable, "");
        // The first one meets the commit that came between.
        assert!(committed - before <= 2);
        let mut fresh = world.fresh_head().await?;
        assert!(!world.engine.alter(&mut fresh, &alterations, patience()).await?);
        assert!(!world.engine.alter(&mut head, &alterations, patience()).await?);
        assert_eq!(
            world.faults.calls(Op::CommitTable, ""),
            committed,
            "{alterations:?}"
        );
        let json = serde_json::to_value(now(&world).await?.metadata())?;
        for (key, value) in expected.as_object().ok_or("an object")? {
            assert_eq!(&json[key], value, "{alterations:?}");
        }
    }
    let table = now(&world).await?;
    assert_eq!(names(&table), [(1, "id".to_owned()), (2, "label".to_owned())]);
    assert!(!table.metadata().properties().contains_key("owner"));
    // No alteration has a snapshot of its own, and the ledger stays.
    assert_eq!(table.metadata().snapshots().count(), 1);
    assert!(world.have_landed(&[1]).await?);
    world.is_whole().await
}

async fn pointer_and_reserved_properties_are_refused() -> TestResult {
    let (world, mut head) = World::new().await?;
    world.commit_elsewhere(&[1]).await?;
    let pointer = now(&world).await?.metadata().properties().get(POINTER).cloned();
    for (alteration, expected) in [
        (set(POINTER, "nowhere"), Err(ErrorKind::Rejected)),
        (
            Alteration::RemoveProperty(POINTER.to_owned()),
            Err(ErrorKind::Rejected),
        ),
        (set("landfast.ledger.other", "x"), Err(ErrorKind::Rejected)),
        (set("format-version", "3"), Err(ErrorKind::TableMismatch)),
        // Dropping what is not there is done.
        (Alteration::Drop("gone".to_owned()), Ok(false)),
    ] {
        let alterations = [alteration];
        let changed = world.engine.alter(&mut head, &alterations, patience()).await;
        assert_eq!(changed.map_err(|error| error.kind()), expected, "{alterations:?}");
    }
    assert_eq!(
        now(&world).await?.metadata().properties().get(POINTER).cloned(),
        pointer
    );
    Ok(())
}

async fn lost_answer_is_found_done() -> TestResult {
    for (fault, by_us) in [(Fault::FailAfter, false), (Fault::Refuse, true)] {
        let (world, mut head) = World::new().await?;
        world.faults.once(Op::CommitTable, "", fault);
        let alterations = [add("note", PrimitiveType::String), set("owner", "shop")];
        assert_eq!(
            world.engine.alter(&mut head, &alterations, patience()).await?,
            by_us
        );
        let table = now(&world).await?;
        assert_eq!(names(&table)[2..], [(3, "note".to_owned())]);
        assert_eq!(table.metadata().schemas_iter().count(), 2);
        // The head is good for the next commit.
        let mut changes = world.no_changes();
        changes.add(noted(&world, head.table(), &[1]).await?);
        world.engine.attempt(&mut head, &mut changes).await?;
        assert_eq!(world.ids().await?, [1]);
    }
    Ok(())
}

async fn late_alteration_and_its_retry_exclude_each_other() -> TestResult {
    let (world, mut head) = World::new().await?;
    let gate = Gate::new();
    world
        .faults
        .once(Op::Put, "v2.metadata.json", Fault::Late(gate.clone()));
    let alterations = [add("note", PrimitiveType::String)];
    assert!(world.engine.alter(&mut head, &alterations, patience()).await?);
    gate.release_and_settle().await;
    let table = now(&world).await?;
    assert_eq!(names(&table)[2..], [(3, "note".to_owned())]);
    assert_eq!(table.metadata().last_column_id(), 3);
    Ok(())
}

async fn two_who_add_columns_both_land() -> TestResult {
    let (world, mut head) = World::new().await?;
    let mut other = world.fresh_head().await?;
    world
        .engine
        .alter(&mut other, &[add("a", PrimitiveType::Long)], patience())
        .await?;
    assert!(
        world
            .engine
            .alter(&mut head, &[add("b", PrimitiveType::Long)], patience())
            .await?
    );
    let expected = [(3, "a".to_owned()), (4, "b".to_owned())];
    assert_eq!(names(&now(&world).await?)[2..], expected);
    Ok(())
}

async fn two_who_want_the_same_agree() -> TestResult {
    let (world, mut head) = World::new().await?;
    let mut other = world.fresh_head().await?;
    world
        .engine
        .alter(&mut other, &[add("a", PrimitiveType::Long)], patience())
        .await?;
    // A wider one will do.
    assert!(
        !world
            .engine
            .alter(&mut head, &[add("a", PrimitiveType::Int)], patience())
            .await?
    );
    assert_eq!(names(&now(&world).await?).len(), 3);
    Ok(())
}

async fn column_of_another_type_is_refused() -> TestResult {
    let (world, mut head) = World::new().await?;
    let mut other = world.fresh_head().await?;
    world
        .engine
        .alter(&mut other, &[add("a", PrimitiveType::Long)], patience())
        .await?;
    let alterations = [add("a", PrimitiveType::Date)];
    let refused = world.engine.alter(&mut head, &alterations, patience()).await;
    let error = refused.expect_err("another type");
    assert_eq!(error.kind(), ErrorKind::TableMismatch);
    assert!(
        error.message().contains("`a` of type long instead of date"),
        "{}",
        error.message()
    );
    Ok(())
}

async fn append_goes_on_over_an_alteration() -> TestResult {
    let (world, mut head) = World::new().await?;
    let mut changes = world.changes(&head, &[1]).await?;
    let mut other = world.fresh_head().await?;
    let alterations = [
        add("a", PrimitiveType::Long),
        Alteration::Rename {
            column: "name".to_owned(),
            to: "label".to_owned(),
        },
        set("owner", "shop"),
    ];
    world.engine.alter(&mut other, &alterations, patience()).await?;
    let done = world.engine.commit(&mut head, &mut changes, patience()).await?;
    assert!(matches!(done, Committed::Now(_)));
    assert_eq!(world.ids().await?, [1]);
    assert_eq!(
        now(&world)
            .await?
            .metadata()
            .properties()
            .get("owner")
            .map(String::as_str),
        Some("shop")
    );
    Ok(())
}

async fn column_and_its_rows_land_in_one_commit() -> TestResult {
    let (world, _) = World::new().await?;
    world.commit_elsewhere(&[1]).await?;
    let mut head = world.fresh_head().await?;
    let before = world.faults.calls(Op::CommitTable, "");
    let mut changes = with_note(&world, &head, &[2]).await?;
    // Somebody else's commit comes between.
    world.commit_elsewhere(&[3]).await?;
    world.engine.commit(&mut head, &mut changes, patience()).await?;
    assert_eq!(world.faults.calls(Op::CommitTable, "") - before, 3);
    let table = now(&world).await?;
    assert_eq!(names(&table)[2..], [(3, "note".to_owned())]);
    let snapshot = table.metadata().current_snapshot().ok_or("no snapshot")?;
    assert_eq!(snapshot.schema_id(), Some(table.metadata().current_schema_id()));
    assert_eq!(world.ids().await?, [1, 2, 3]);
    world.is_whole().await
}

async fn rows_are_written_again_when_another_took_the_id() -> TestResult {
    let (world, mut head) = World::new().await?;
    let mut changes = with_note(&world, &head, &[1]).await?;
    let mut other = world.fresh_head().await?;
    world
        .engine
        .alter(&mut other, &[add("memo", PrimitiveType::String)], patience())
        .await?;
    let refused = world.engine.commit(&mut head, &mut changes, patience()).await;
    let error = refused.expect_err("the column would be another");
    assert_eq!(error.kind(), ErrorKind::TableMismatch, "{}", error.report());
    assert!(error.message().contains("took the ids"), "{}", error.message());
    assert!(world.ids().await?.is_empty());
    // Written for the table as it is now, they land.
    let mut head = world.fresh_head().await?;
    let drop_memo = [Alteration::Drop("memo".to_owned())];
    world.engine.alter(&mut head, &drop_memo, patience()).await?;
    let mut changes = with_note(&world, &head, &[1]).await?;
    world.engine.commit(&mut head, &mut changes, patience()).await?;
    assert_eq!(names(&now(&world).await?)[2..], [(4, "note".to_owned())]);
    assert_eq!(world.ids().await?, [1]);
    Ok(())
}

async fn rows_land_when_another_added_the_same_column() -> TestResult {
    let (world, mut head) = World::new().await?;
    let mut changes = with_note(&world, &head, &[1]).await?;
    let mut other = world.fresh_head().await?;
    let mut others = with_note(&world, &other, &[2]).await?;
    world.engine.commit(&mut other, &mut others, patience()).await?;
    world.engine.commit(&mut head, &mut changes, patience()).await?;
    let table = now(&world).await?;
    assert_eq!(names(&table)[2..], [(3, "note".to_owned())]);
    assert_eq!(table.metadata().schemas_iter().count(), 2);
    assert_eq!(world.ids().await?, [1, 2]);
    Ok(())
}

async fn lost_answer_of_column_and_rows_is_found_landed() -> TestResult {
    for fault in [Fault::FailAfter, Fault::Refuse] {
        let (world, mut head) = World::new().await?;
        let mut changes = with_note(&world, &head, &[1]).await?;
        world.faults.once(Op::CommitTable, "", fault);
        world.engine.commit(&mut head, &mut changes, patience()).await?;
        let table = now(&world).await?;
        assert_eq!(names(&table)[2..], [(3, "note".to_owned())]);
        assert_eq!(table.metadata().schemas_iter().count(), 2);
        assert_eq!(world.ids().await?, [1]);
    }
    Ok(())
}

async fn independent_readers_see_altered_tables() -> TestResult {
    let folder = tempfile::tempdir()?;
    let store = Store::open(&format!("file://{}", folder.path().display()))?;
    let (world, _) = World::over(Faults::default(), store).await?;
    let columns = order_schema().as_struct().fields().to_vec();
    let n = column(3, "n", PrimitiveType::Int, false);
    world
        .change_schema_elsewhere(schema(columns.into_iter().chain([n])))
        .await?;
    let mut head = world.fresh_head().await?;
    let alterations = [
        Alteration::Widen {
            column: "n".to_owned(),
            to: PrimitiveType::Long,
        },
        Alteration::Drop("name".to_owned()),
        Alteration::SortBy(vec!["id".to_owned()]),
        set("owner", "shop"),
    ];
    world.engine.alter(&mut head, &alterations, patience()).await?;
    let alterations = [Alteration::Rename {
        column: "n".to_owned(),
        to: "count".to_owned(),
    }];
    world.engine.alter(&mut head, &alterations, patience()).await?;
    let rows = RecordBatch::try_new(
        arrow_schema(head.table().metadata().current_schema())?,
        vec![
            Arc::new(Int64Array::from(vec![1])),
            Arc::new(Int64Array::from(vec![1 << 40])),
        ],
    )?;
    let files = write_data_files(head.table(), vec![rows], &world.random).await?;
    let mut changes = world.no_changes();
    changes.add(Group::durable(files.durable().await?, entries(&[1])));
    world.engine.attempt(&mut head, &mut changes).await?;
    world.catalog.settle().await;
    let metadata = now(&world)
        .await?
        .metadata_location()
        .ok_or("not loaded")?
        .to_owned();
    for reader in Reader::all()? {
        let mut rows = reader.rows(&metadata)?;
        sort_by(&mut rows, "id");
        assert_eq!(rows, [json!({ "id": 1, "count": 1_i64 << 40 })]);
    }
    if let Ok(spark) = Reader::spark() {
        assert_eq!(spark.count_where(&metadata, "count", ">", 5)?.rows, 1);
    }
    Ok(())
}
