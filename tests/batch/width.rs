//! Payloads of few bytes for a table of many columns: memory is bounded by what they become.

use landfast::config::{Column, SchemaConfig, TableConfig, iceberg_schema, parse_type};
use landfast::error::ErrorKind;
use libtest_mimic::Trial;

use super::{House, INTERVAL, declared, idle};
use crate::support::{TestResult, paused_trials, wait_for};

pub fn tests() -> Vec<Trial> {
    paused_trials![
        columns_that_outgrow_their_payload_count_as_held,
        letters_that_outgrow_their_payload_count_as_held
    ]
}

/// Rows of 4,000 bytes.
fn wide() -> TestResult<TableConfig> {
    let kind = parse_type("long")?;
    let columns: Vec<_> = (0..500)
        .map(|place| Column {
            name: format!("c{place}"),
            data_type: kind.clone(),
            required: false,
            doc: None,
        })
        .collect();
    Ok(TableConfig {
        schema: SchemaConfig::Declared(iceberg_schema(&columns)?.into()),
        ..declared()
    })
}

async fn columns_that_outgrow_their_payload_count_as_held() -> TestResult {
    let house = House::new(wide()?);
    let payload = |rows: usize| "{}\n".repeat(rows);
    house.send_payload("first", &payload(1))?.acked().await?;
    // Of a limit of 1 MiB.
    let waiting = [
        house.send_payload("a", &payload(120))?,
        house.send_payload("b", &payload(120))?,
    ];
    idle().await;
    let held = house.limits.held_bytes();
    assert!((950_000..1_000_000).contains(&held), "{held}");
    let error = house.send_payload("c", &payload(120))?.nacked().await?;
    assert_eq!(error.kind(), ErrorKind::Full);
    wait_for("what the refused one held", INTERVAL / 2, async || {
        (house.limits.held_bytes() == held).then_some(())
    })
    .await?;
    for sent in waiting {
        assert_eq!(sent.acked().await?.0.row_count, 120);
    }
    let (again, _) = house.send_payload("c", &payload(120))?.acked().await?;
    assert_eq!((again.row_count, again.dead_letter_count), (120, 0));
    // More than half of the limit never fits beside others: it is kept as it came.
    for rows in [140, 100_000] {
        let (large, _) = house
            .send_payload(&format!("large {rows}"), &payload(rows))?
            .acked()
            .await?;
        assert_eq!((large.row_count, large.dead_letter_count), (0, 1));
    }
    // What has letters only is a commit of the ledger.
    assert_eq!(house.commits().await?, [1, 240, 120, 0, 0]);
    assert_eq!(house.letter_kinds().await?, ["too_large", "too_large"]);
    house.close().await
}

/// Two bytes of payload, `0 `, are a letter of some hundred.
async fn letters_that_outgrow_their_payload_count_as_held() -> TestResult {
    let house = House::new(declared());
    house.send(1)?.acked().await?;
    // Of a limit of 1 MiB.
    let few = house.send_payload("few", &"0 ".repeat(400))?;
    let neighbour = house.send(2)?;
    idle().await;
    let held = house.limits.held_bytes();
    assert!((250_000..500_000).contains(&held), "{held}");
    // As letters they would take some 80 MB.
    for (name, payload) in [
        ("values", "0 ".repeat(100_000)),
        ("array", format!("[0{}]", ",0".repeat(100_000))),
        ("lines", "{}\n".repeat(60_000)),
    ] {
        let (large, _) = house.send_payload(name, &payload)?.acked().await?;
        assert_eq!((large.row_count, large.dead_letter_count), (0, 1));
    }
    assert_eq!(few.acked().await?.0.dead_letter_count, 400);
    assert_eq!(neighbour.acked().await?.0.row_count, 1);
    let mut kinds = house.letter_kinds().await?;
    kinds.retain(|kind| kind != "not_an_object");
    assert_eq!(kinds, ["too_large"; 3]);
    house.close().await
}
