//! Random rows over random partitions under tiny limits: what goes in comes out, each row in its own partition.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, Date32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use iceberg::spec::{DataFile, Literal, Transform};
use landfast::write::{TableWriter, WriteOptions};
use libtest_mimic::Trial;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{Lab, rows};
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![rows_in_are_rows_out_in_their_partitions]
}

const COLUMNS: [(&str, &str); 4] = [
    ("id", "long"),
    ("kind", "string"),
    ("day", "date"),
    ("at", "timestamp"),
];

type Row = (Option<i64>, Option<String>, Option<i32>, Option<i64>);

async fn rows_in_are_rows_out_in_their_partitions() -> TestResult {
    let lab = Lab::in_memory()?;
    let seed: u64 = rand::random();
    for round in 0..24 {
        let seed = seed.wrapping_add(round);
        one_load(&lab, seed, round)
            .await
            .map_err(|stop| format!("seed {seed}: {stop:?}"))?;
    }
    Ok(())
}

async fn one_load(lab: &Lab, seed: u64, round: u64) -> TestResult {
    let mut rng = StdRng::seed_from_u64(seed);
    let specs: [&[(&str, Transform)]; 5] = [
        &[],
        &[("kind", Transform::Identity)],
        &[("at", Transform::Day)],
        &[("day", Transform::Identity), ("kind", Transform::Identity)],
        &[("at", Transform::Day), ("id", Transform::Identity)],
    ];
    let spec = specs[rng.random_range(0..specs.len())];
    let group = rng.random_range(500..50_000).to_string();
    let target = rng.random_range(2_000..200_000).to_string();
    let properties = [
        ("write.parquet.row-group-size-bytes", group.as_str()),
        ("write.target-file-size-bytes", target.as_str()),
    ];
    let table = lab
        .table(&format!("r{round}"), &COLUMNS, spec, &properties)
        .await?;
    let options = WriteOptions {
        memory_bytes: rng.random_range(1..400_000),
        max_open_files: rng.random_range(0..6),
    };
    let spread = rng.random_range(1..200);
    let mut sent = Vec::new();
    let mut writer = TableWriter::try_new(&table, &lab.random, options)?;
    for _ in 0..rng.random_range(1..12) {
        let batch: Vec<Row> = (0..rng.random_range(0..600))
            .map(|_| row(&mut rng, spread))
            .collect();
        writer.write(encode(&table, &batch)?).await?;
        sent.extend(batch);
    }
    let files = writer.finish().await?;
    let mut found = Vec::new();
    for file in &files {
        let read: Vec<Row> = lab.read(file).await?.iter().flat_map(decode).collect();
        assert_eq!(read.len() as u64, file.record_count());
        for row in &read {
            assert_eq!(partition(row, spec), file.partition().fields(), "{row:?}");
        }
        check_bounds(file, &read);
        found.extend(read);
    }
    sent.sort();
    found.sort();
    assert!(sent == found, "{} rows in, {} rows out", sent.len(), found.len());
    Ok(())
}

fn row(rng: &mut StdRng, spread: i64) -> Row {
    let mut some = || rng.random_ratio(9, 10);
    let present = [some(), some(), some(), some()];
    let day = rng.random_range(-spread..spread);
    (
        present[0].then(|| rng.random_range(0..spread)),
        present[1].then(|| format!("{}{}", day % 7, "k".repeat(rng.random_range(0..100)))),
        present[2].then_some(day as i32),
        present[3].then(|| day * 86_400_000_000 + rng.random_range(0..86_400_000_000)),
    )
}

fn encode(table: &iceberg::table::Table, batch: &[Row]) -> TestResult<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(batch.iter().map(|row| row.0).collect::<Int64Array>()),
        Arc::new(batch.iter().map(|row| row.1.clone()).collect::<StringArray>()),
        Arc::new(batch.iter().map(|row| row.2).collect::<Date32Array>()),
        Arc::new(
            batch
                .iter()
                .map(|row| row.3)
                .collect::<TimestampMicrosecondArray>(),
        ),
    ];
    rows(table, columns)
}

fn decode(batch: &RecordBatch) -> Vec<Row> {
    let ids = batch.column(0).as_primitive::<Int64Type>();
    let kinds = batch.column(1).as_string::<i32>();
    let days = batch.column(2).as_primitive::<Date32Type>();
    let at = batch.column(3).as_primitive::<TimestampMicrosecondType>();
    let at_row = |row: usize| {
        (
            ids.is_valid(row).then(|| ids.value(row)),
            kinds.is_valid(row).then(|| kinds.value(row).to_owned()),
            days.is_valid(row).then(|| days.value(row)),
            at.is_valid(row).then(|| at.value(row)),
        )
    };
    (0..batch.num_rows()).map(at_row).collect()
}

/// The partition that a row belongs to, worked out apart from the writer.
fn partition(row: &Row, spec: &[(&str, Transform)]) -> Vec<Option<Literal>> {
    let value = |(column, _): &(&str, Transform)| match *column {
        "id" => row.0.map(Literal::long),
        "kind" => row.1.as_ref().map(Literal::string),
        "day" => row.2.map(Literal::date),
        _ => row
            .3
            .map(|at| Literal::date((at as f64 / 86_400_000_000.0).floor() as i32)),
    };
    spec.iter().map(value).collect()
}

fn check_bounds(file: &DataFile, read: &[Row]) {
    let ids: Vec<i64> = read.iter().filter_map(|row| row.0).collect();
    let bound = |bounds: &std::collections::HashMap<i32, iceberg::spec::Datum>| {
        bounds
            .get(&1)
            .map(|datum| datum.to_string().parse::<i64>().expect("a long"))
    };
    assert_eq!(bound(file.lower_bounds()), ids.iter().min().copied());
    assert_eq!(bound(file.upper_bounds()), ids.iter().max().copied());
    assert_eq!(file.null_value_counts()[&1], (read.len() - ids.len()) as u64);
}
