//! How a table is found, made and checked.

use std::time::Duration;

use iceberg::spec::{PrimitiveType, Transform, UnboundPartitionSpec};
use iceberg::{TableCreation, TableIdent};
use landfast::config::{PartitionBy, TableConfig};
use landfast::error::ErrorKind;
use libtest_mimic::Trial;

use super::{ACK_DEADLINE, House, INTERVAL, declared, idle, inferred, row};
use crate::support::faults::{Fault, Op};
use crate::support::tables::{column, order_creation, orders, schema};
use crate::support::{TestResult, paused_trials};

pub fn tests() -> Vec<Trial> {
    paused_trials![
        other_schema_is_a_mismatch_that_names_the_column,
        mismatch_is_over_when_the_table_is_right,
        inferred_table_waits_a_second_and_is_made_once,
        inferred_tables_of_two_processes_are_one,
        table_made_while_sampling_is_checked,
        lost_answer_of_the_creation_is_made_good,
        poison_only_traffic_makes_no_table_and_spoils_none,
        good_traffic_behind_waiting_poison_lands,
        void_fields_are_no_partitions,
        no_records_for_no_table_are_no_letter,
        tables_of_a_process_are_bounded,
    ]
}

async fn make(house: &House, columns: [std::sync::Arc<iceberg::spec::NestedField>; 2]) -> TestResult {
    let creation = TableCreation::builder()
        .name("orders".to_owned())
        .schema(schema(columns))
        .build();
    house.catalog.create_table(orders().namespace(), creation).await?;
    Ok(())
}

async fn other_schema_is_a_mismatch_that_names_the_column() -> TestResult {
    let id = column(1, "id", PrimitiveType::Long, true);
    for other in [
        column(2, "name", PrimitiveType::Int, false),
        column(2, "name", PrimitiveType::String, true),
        column(2, "title", PrimitiveType::String, false),
    ] {
        let house = House::new(declared());
        make(&house, [id.clone(), other]).await?;
        let error = house.send(1)?.nacked().await?;
        assert_eq!(error.kind(), ErrorKind::TableMismatch);
        assert!(error.report().contains("`name`"), "{}", error.report());
        assert!(error.report().contains("shop.orders"), "{}", error.report());
        house.close().await?;
    }
    Ok(())
}

async fn no_records_for_no_table_are_no_letter() -> TestResult {
    let house = House::new(inferred());
    let (none, _) = house.send_payload("none", "[]")?.acked().await?;
    assert_eq!((none.row_count, none.dead_letter_count), (0, 0));
    let (empty, _) = house.send_payload("empty", "[{}]")?.acked().await?;
    assert_eq!((empty.row_count, empty.dead_letter_count), (0, 1));
    assert_eq!(house.letter_kinds().await?, ["no_schema"]);
    assert!(house.catalog.load_table(&orders()).await.is_err());
    house.close().await
}

/// A table of version 1 keeps the fields that it was once partitioned by.
async fn void_fields_are_no_partitions() -> TestResult {
    let by_id = PartitionBy {
        transform: Transform::Identity,
        column: "id".to_owned(),
    };
    let house = House::new(TableConfig {
        partition_by: vec![by_id],
        ..declared()
    });
    let spec = UnboundPartitionSpec::builder()
        .add_partition_field(2, "name_void", Transform::Void)?
        .add_partition_field(1, "id", Transform::Identity)?
        .build();
    let creation = TableCreation {
        partition_spec: Some(spec),
        ..order_creation("orders")
    };
    house.catalog.create_table(orders().namespace(), creation).await?;
    house.send(1)?.acked().await?;
    assert_eq!(house.ids().await?, [1]);
    house.close().await
}

async fn mismatch_is_over_when_the_table_is_right() -> TestResult {
    let house = House::new(declared());
    let columns =
        ["id", "other"].map(|name| column(1 + i32::from(name == "other"), name, PrimitiveType::Long, true));
    make(&house, columns).await?;
    house.send(1)?.nacked().await?;
    house.catalog.drop_table(&orders()).await?;
    // Not tried again before a second has passed.
    assert_eq!(house.send(1)?.nacked().await?.kind(), ErrorKind::TableMismatch);
    tokio::time::sleep(Duration::from_secs(1)).await;
    house.send(1)?.acked().await?;
    house.close().await
}

async fn inferred_table_waits_a_second_and_is_made_once() -> TestResult {
    let house = House::new(inferred());
    let first = house.send(1)?;
    tokio::time::sleep(Duration::from_millis(900)).await;
    let second = house.send_payload("2", "{\"id\":2,\"name\":\"n2\",\"extra\":1.5}")?;
    for sent in [first, second] {
        let (_, at) = sent.acked().await?;
        assert_eq!((at - house.started).as_millis(), 1000);
    }
    let table = house.catalog.load_table(&orders()).await?;
    let fields = table.metadata().current_schema().as_struct().fields().to_vec();
    let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["id", "name", "extra"]);
    assert_eq!(house.faults.calls(Op::Put, "v1.metadata.json"), 1);
    house.close().await
}

async fn inferred_tables_of_two_processes_are_one() -> TestResult {
    let house = House::new(inferred());
    let other = House::over(
        inferred(),
        2,
        crate::support::clock::TestClock::at(chrono::Utc::now()),
        (house.faults.clone(), house.warehouse.clone()),
        (house.letter_faults.clone(), house.letters.clone()),
    );
    let one = house.send(1)?;
    let two = other.send_payload("2", "{\"id\":2,\"more\":true}")?;
    one.acked().await?;
    two.acked().await?;
    assert_eq!(house.ids().await?, [1, 2]);
    house.close().await?;
    other.close().await
}

async fn table_made_while_sampling_is_checked() -> TestResult {
    let house = House::new(inferred());
    let sent = house.send(1)?;
    idle().await;
    let spec = UnboundPartitionSpec::builder()
        .add_partition_field(3, "at_hour", Transform::Hour)?
        .build();
    let creation = TableCreation::builder()
        .name("orders".to_owned())
        .schema(schema([
            column(1, "id", PrimitiveType::Long, true),
            column(2, "name", PrimitiveType::String, false),
            column(3, "at", PrimitiveType::Timestamptz, false),
        ]))
        .partition_spec(spec)
        .build();
    house.catalog.create_table(orders().namespace(), creation).await?;
    let error = sent.nacked().await?;
    assert_eq!(error.kind(), ErrorKind::TableMismatch);
    assert!(error.report().contains("hour"), "{}", error.report());
    house.close().await
}

async fn lost_answer_of_the_creation_is_made_good() -> TestResult {
    for config in [declared(), inferred()] {
        let house = House::new(config);
        house.faults.once(Op::Put, "v1.metadata.json", Fault::FailAfter);
        house.send(1)?.nacked().await?;
        tokio::time::sleep(INTERVAL).await;
        house.send(1)?.acked().await?;
        assert_eq!(house.ids().await?, [1]);
        house.close().await?;
    }
    Ok(())
}

async fn poison_only_traffic_makes_no_table_and_spoils_none() -> TestResult {
    let house = House::new(inferred());
    for (message, payload) in [("a", "]"), ("b", "{\"id\":null}"), ("c", "7")] {
        let (receipt, _) = house.send_payload(message, payload)?.acked().await?;
        assert_eq!((receipt.row_count, receipt.dead_letter_count), (0, 1));
        assert!(house.catalog.load_table(&orders()).await.is_err());
    }
    assert_eq!(house.letter_kinds().await?.len(), 3);
    house.send(1)?.acked().await?;
    assert_eq!(house.ids().await?, [1]);
    assert_eq!(house.letter_kinds().await?.len(), 3);
    house.close().await
}

async fn good_traffic_behind_waiting_poison_lands() -> TestResult {
    let house = House::new(inferred());
    house.send_payload("a", "]")?.acked().await?;
    // This one is known to be poison after its second, but handed over only when the interval is over.
    let poison = house.send_payload("b", "]")?;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let good = house.send_payload("good", &row(1))?;
    let (receipt, _) = good.acked().await?;
    assert_eq!((receipt.row_count, receipt.dead_letter_count), (1, 0));
    poison.acked().await?;
    assert_eq!(house.ids().await?, [1]);
    assert_eq!(house.letter_kinds().await?.len(), 2);
    house.close().await
}

/// So that labels, tasks and cached metadata are bounded whatever senders make routes name.
async fn tables_of_a_process_are_bounded() -> TestResult {
    let house = House::new(declared());
    let send = |table: usize, patience| -> TestResult<_> {
        let (delivery, sent) = house.delivery(&table.to_string(), &row(1), patience)?;
        let ident = TableIdent::from_strs(["shop".to_owned(), format!("t{table}")])?;
        house.writers.accept(ident, &house.config, delivery);
        Ok(sent)
    };
    for table in 0..1000 {
        // It has no time left, and so needs no table; its writer is there all the same.
        let refused = send(table, Duration::ZERO)?.nacked().await?.report();
        assert!(refused.contains("time left"), "{refused}");
    }
    let refused = send(1000, ACK_DEADLINE)?.nacked().await?;
    super::unavailable(&refused);
    assert!(
        refused.report().contains("as many tables as it can"),
        "{}",
        refused.report()
    );
    send(7, ACK_DEADLINE)?.acked().await?;
    house.close().await
}
