//! A part of a delivery is never taken for another part of it that the table has, even if nobody looked before; and a
//! table that cannot say what it has is not taken for one that has nothing.

use std::sync::Arc;

use chrono::Utc;
use iceberg::TableIdent;
use landfast::batch::accept_by_record;
use landfast::config::Config;
use landfast::error::{Error, ErrorKind};
use landfast::route::{Route, Router};
use landfast::trigger::DeliveryId;
use libtest_mimic::Trial;
use object_store::memory::InMemory;

use super::{ACK_DEADLINE, House, Sent, declared, row, unavailable};
use crate::support::clock::TestClock;
use crate::support::faults::{Fault, Faults, Op};
use crate::support::tables::{ids_now, orders};
use crate::support::{TestResult, paused_trials};

pub fn tests() -> Vec<Trial> {
    paused_trials![
        part_of_another_division_is_refused_and_a_whole_delivery_is_a_letter,
        other_content_under_a_name_is_refused_on_its_way_and_then_a_letter,
        table_that_cannot_be_asked_now_is_not_taken_for_one_that_has_nothing,
        broken_table_that_gets_no_part_stops_no_other,
        parts_share_the_bound_on_what_a_payload_may_take,
    ]
}

/// A process over these objects.
fn process(objects: &Arc<InMemory>) -> House {
    let (faults, letters) = (Faults::default(), Faults::default());
    let warehouse = faults.store("memory:///w", objects.clone());
    let kept = letters.store("memory:///d", InMemory::new());
    House::over(
        declared(),
        1,
        TestClock::at(Utc::now()),
        (faults, warehouse),
        (letters, kept),
    )
}

/// Sends the record 1, which is an order, as one message, by rules that give orders to this table and users to that.
async fn send_order(house: &House, tables: [&str; 2]) -> TestResult<Sent> {
    send_by_record(house, tables, "moved", "{\"kind\":\"order\",\"id\":1}").await
}

/// Sends a message by rules that give orders to the first table and users to the second.
async fn send_by_record(
    house: &House,
    [to_orders, to_users]: [&str; 2],
    id: &str,
    payload: &str,
) -> TestResult<Sent> {
    let table = |kind: &str, table: &str| {
        format!(
            "  shop.{table}: {{ from: [{{ field: kind, equals: {kind} }}], \
             schema: [{{ name: id, type: long, required: true }}] }}\n"
        )
    };
    let text = format!(
        "warehouse: memory:///w\ncatalog: {{ type: memory }}\ndead_letters: memory:///d\ntables:\n{}{}",
        table("order", to_orders),
        table("user", to_users)
    );
    let config = Config::parse("t.yaml", &text, &|_| None)?;
    let (delivery, sent) = house.delivery(id, payload, ACK_DEADLINE)?;
    let envelope = delivery.envelope.clone();
    match Router::new(&config).route(&envelope) {
        Route::ByRecord(rules) => {
            accept_by_record(&house.shared, &house.writers, &rules, delivery, None).await;
            Ok(sent)
        }
        other => Err(format!("No rules for single records: {other:?}").into()),
    }
}

async fn ids_of(house: &House, table: &str) -> TestResult<Vec<i64>> {
    let ident = TableIdent::from_strs(["shop", table])?;
    match house.catalog.load_table(&ident).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        _ => ids_now(house.catalog.as_ref(), &ident).await,
    }
}

fn send(house: &House, division: Option<u64>) -> TestResult<Sent> {
    let (mut delivery, sent) = house.delivery("divided", &row(1), ACK_DEADLINE)?;
    delivery.envelope.division = division;
    house.writers.accept(orders(), &house.config, delivery);
    Ok(sent)
}

async fn part_of_another_division_is_refused_and_a_whole_delivery_is_a_letter() -> TestResult {
    let house = House::new(declared());
    // Two at once: the second is no copy of the first.
    let (first, second) = (send(&house, Some(1))?, send(&house, Some(2))?);
    first.acked().await?;
    let by_other_rules = |error: Error| {
        unavailable(&error);
        assert!(error.message().contains("by other rules"), "{}", error.report());
    };
    by_other_rules(second.nacked().await?);
    by_other_rules(send(&house, Some(2))?.nacked().await?);
    assert!(send(&house, Some(1))?.acked().await?.0.duplicate);
    assert_eq!(house.letter_kinds().await?, Vec::<String>::new());
    let (receipt, _) = send(&house, None)?.acked().await?;
    assert_eq!((receipt.dead_letter_count, receipt.duplicate), (1, false));
    assert_eq!(house.letter_kinds().await?, ["redivided"]);
    assert_eq!(house.ids().await?, [1]);
    house.close().await
}

/// Sends row 1 as the event 7 of a publisher, with this digest of its payload.
fn send_event(house: &House, digest: u128) -> TestResult<Sent> {
    let (mut delivery, sent) = house.delivery("event", &row(1), ACK_DEADLINE)?;
    delivery.envelope.id = DeliveryId::by_attribute("orders", "event_id", "7");
    delivery.envelope.fingerprint = Some(digest << 64);
    house.writers.accept(orders(), &house.config, delivery);
    Ok(sent)
}

async fn other_content_under_a_name_is_refused_on_its_way_and_then_a_letter() -> TestResult {
    let house = House::new(declared());
    let (first, copy, other) = (
        send_event(&house, 1)?,
        send_event(&house, 1)?,
        send_event(&house, 2)?,
    );
    first.acked().await?;
    assert!(copy.acked().await?.0.duplicate);
    unavailable(&other.nacked().await?);
    let (receipt, _) = send_event(&house, 2)?.acked().await?;
    assert_eq!((receipt.dead_letter_count, receipt.duplicate), (1, false));
    assert!(send_event(&house, 1)?.acked().await?.0.duplicate);
    assert_eq!(house.letter_kinds().await?, ["other_content"]);
    assert_eq!(house.ids().await?, [1]);
    house.close().await
}

/// The acknowledgement was lost, the service was started again with other rules, and the message comes again.
async fn table_that_cannot_be_asked_now_is_not_taken_for_one_that_has_nothing() -> TestResult {
    for (op, path) in [(Op::List, "shop/b/metadata"), (Op::Get, "_landfast/ledger*head")] {
        let objects = Arc::new(InMemory::new());
        let before = process(&objects);
        send_order(&before, ["b", "a"]).await?.acked().await?;
        before.close().await?;

        let after = process(&objects);
        after.faults.once(op, path, Fault::Refuse);
        unavailable(&send_order(&after, ["a", "b"]).await?.nacked().await?);
        let (receipt, _) = send_order(&after, ["a", "b"]).await?.acked().await?;
        assert!(receipt.duplicate, "{op:?}");
        let found = (ids_of(&after, "a").await?, ids_of(&after, "b").await?);
        assert_eq!(found, (vec![], vec![1]), "{op:?}");
        after.close().await?;
    }
    Ok(())
}

async fn broken_table_that_gets_no_part_stops_no_other() -> TestResult {
    let house = process(&Arc::new(InMemory::new()));
    let damaged = "shop/b/metadata/v1.metadata.json";
    house.warehouse.put(damaged, "{".into()).await?;
    send_order(&house, ["a", "b"]).await?.acked().await?;
    assert_eq!(ids_of(&house, "a").await?, [1]);
    house.close().await
}

/// Each would fit alone, and not beside the other: refused for that, they would come again for ever.
async fn parts_share_the_bound_on_what_a_payload_may_take() -> TestResult {
    let house = House::new(declared());
    // Of a limit of 1 MiB: without their `id`, each a letter of some 800 bytes.
    let records = |orders: usize, users: usize| {
        let (order, user) = ("{\"kind\":\"order\"}\n", "{\"kind\":\"user\"}\n");
        order.repeat(orders) + &user.repeat(users)
    };
    for (orders, users, letters) in [
        (250, 250, 500),
        (400, 1, 401),
        (1, 400, 401),
        (600, 600, 2),
        (600, 1, 2),
    ] {
        let payload = records(orders, users);
        let id = format!("{orders} {users}");
        let sent = send_by_record(&house, ["a", "b"], &id, &payload).await?;
        let (receipt, _) = sent.acked().await?;
        assert_eq!(
            (receipt.row_count, receipt.dead_letter_count),
            (0, letters),
            "{id}"
        );
    }
    let mut kinds = house.letter_kinds().await?;
    kinds.retain(|kind| kind == "too_large");
    assert_eq!(kinds.len(), 3);
    house.close().await
}
