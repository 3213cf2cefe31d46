//! Codecs, row groups, rolling, metrics: what one file says of itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, StringArray};
use landfast::write::{TableWriter, WriteOptions, write_data_files};
use libtest_mimic::Trial;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::json;

use super::{Lab, rows};
use crate::support::readers::{Matches, Reader};
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        every_codec_is_read,
        bounds_hold_over_several_row_groups,
        metrics_modes_decide_what_manifests_say,
        files_roll_at_the_target_size,
        a_large_file_goes_in_parts,
        bloom_filters_are_written_where_asked,
        an_abandoned_write_leaves_no_file,
    ]
}

const COLUMNS: [(&str, &str); 3] = [("id", "long"), ("name", "string"), ("ratio", "double")];

fn columns(ids: std::ops::Range<i64>, name: impl Fn(i64) -> String) -> Vec<ArrayRef> {
    vec![
        Arc::new(Int64Array::from_iter_values(ids.clone())),
        Arc::new(StringArray::from_iter_values(ids.clone().map(name))),
        Arc::new(Float64Array::from_iter_values(ids.map(|id| id as f64 / 8.0))),
    ]
}

/// Text that no codec makes small.
fn noise(id: i64) -> String {
    let mut state = id as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..8).map(|_| format!("{:016x}", next())).collect()
}

async fn every_codec_is_read() -> TestResult {
    let lab = Lab::new()?;
    let codecs = [
        ("none", None),
        ("snappy", None),
        ("gzip", Some("9")),
        ("lz4", None),
        ("zstd", None),
        ("zstd", Some("19")),
        ("brotli", Some("5")),
    ];
    for (place, (codec, level)) in codecs.into_iter().enumerate() {
        let mut properties = vec![("write.parquet.compression-codec", codec)];
        properties.extend(level.map(|level| ("write.parquet.compression-level", level)));
        let table = lab
            .table(&format!("c{place}"), &COLUMNS, &[], &properties)
            .await?;
        let batch = rows(&table, columns(0..500, noise))?;
        let files = write_data_files(&table, vec![batch], &lab.random)
            .await?
            .durable()
            .await?;
        let place = lab.commit(&table, files).await?;
        for reader in Reader::all()? {
            let found = reader.columns(&place)?;
            assert_eq!(
                (found["id"].values, &found["id"].max),
                (500, &json!(499)),
                "{codec}"
            );
            assert_eq!(
                reader.count_where(&place, "name", "=", noise(77))?.rows,
                1,
                "{codec}"
            );
        }
    }
    Ok(())
}

async fn bounds_hold_over_several_row_groups() -> TestResult {
    let lab = Lab::new()?;
    let properties = [("write.parquet.row-group-size-bytes", "30000")];
    let table = lab.table("groups", &COLUMNS, &[], &properties).await?;
    // Longer than what a footer's statistics hold, the greatest neither first nor last.
    let name = |id: i64| {
        format!(
            "{}{}{id:05}",
            char::from(b'a' + (id % 1000 / 40) as u8),
            "-".repeat(80)
        )
    };
    let mut writer = TableWriter::try_new(&table, &lab.random, WriteOptions::default())?;
    for from in (0..4000).step_by(500) {
        writer
            .write(rows(&table, columns(from..from + 500, name))?)
            .await?;
    }
    let files = writer.finish().await?;
    let [file] = files.as_slice() else {
        return Err(format!("one file was wanted, not {}", files.len()).into());
    };
    let path = file.file_path().trim_start_matches("file://");
    let footer = SerializedFileReader::new(std::fs::File::open(path)?)?;
    let groups = footer.metadata().row_groups();
    let starts: Vec<i64> = groups
        .iter()
        .map(|group| group.column(0).byte_range().0 as i64)
        .collect();
    assert!(starts.len() > 3, "{starts:?}");
    assert_eq!(file.split_offsets(), Some(starts.as_slice()));
    let sizes: i64 = groups.iter().map(|group| group.column(1).compressed_size()).sum();
    assert_eq!(file.column_sizes()[&2], sizes as u64);
    let place = lab.commit(&table, files).await?;
    for reader in Reader::all()? {
        for id in [0, 999, 1500, 2039, 3999] {
            assert_eq!(reader.count_where(&place, "name", "=", name(id))?.rows, 1, "{id}");
        }
        assert_eq!(reader.count_where(&place, "name", ">=", "y")?.rows, 4000 / 25);
    }
    let none = Reader::pyiceberg()?.count_where(&place, "name", ">", "z")?;
    assert_eq!(
        none,
        Matches {
            rows: 0,
            planned_files: Some(0)
        }
    );
    Ok(())
}

async fn metrics_modes_decide_what_manifests_say() -> TestResult {
    let lab = Lab::new()?;
    let properties = [
        ("write.metadata.metrics.default", "counts"),
        ("write.metadata.metrics.column.a", "none"),
        ("write.metadata.metrics.column.b", "truncate(4)"),
        ("write.metadata.metrics.column.c", "full"),
        ("write.metadata.metrics.column.gone", "full"),
    ];
    let names = [("a", "string"), ("b", "string"), ("c", "string"), ("d", "double")];
    let table = lab.table("modes", &names, &[], &properties).await?;
    let texts: ArrayRef = Arc::new(StringArray::from(vec![
        Some("x".repeat(100)),
        Some("y".repeat(100)),
        None,
    ]));
    let numbers: ArrayRef = Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(1.0), None]));
    let batch = rows(&table, vec![texts.clone(), texts.clone(), texts, numbers])?;
    let files = write_data_files(&table, vec![batch], &lab.random)
        .await?
        .durable()
        .await?;
    let place = lab.commit(&table, files).await?;
    let found = &Reader::pyiceberg()?.files(&place)?[0];
    assert_eq!(found["value_counts"], json!({ "b": 3, "c": 3, "d": 3 }));
    assert_eq!(found["null_value_counts"], json!({ "b": 1, "c": 1, "d": 1 }));
    assert_eq!(found["nan_value_counts"], json!({ "d": 1 }));
    assert_eq!(
        found["lower_bounds"],
        json!({ "b": "xxxx", "c": "x".repeat(100) })
    );
    assert_eq!(
        found["upper_bounds"],
        json!({ "b": "yyyz", "c": "y".repeat(100) })
    );
    let sizes: BTreeMap<String, u64> = serde_json::from_value(found["column_sizes"].clone())?;
    assert_eq!(sizes.into_keys().collect::<Vec<_>>(), ["b", "c", "d"]);
    Ok(())
}

async fn files_roll_at_the_target_size() -> TestResult {
    let lab = Lab::new()?;
    let properties = [("write.target-file-size-bytes", "100000")];
    let table = lab.table("rolled", &COLUMNS, &[], &properties).await?;
    let mut writer = TableWriter::try_new(&table, &lab.random, WriteOptions::default())?;
    for from in (0..10_000).step_by(1000) {
        writer
            .write(rows(&table, columns(from..from + 1000, noise))?)
            .await?;
    }
    let files = writer.finish().await?;
    assert!((5..40).contains(&files.len()), "{}", files.len());
    let sizes: Vec<u64> = files.iter().map(|file| file.file_size_in_bytes()).collect();
    assert!(sizes.iter().all(|size| *size < 200_000), "{sizes:?}");
    for file in &files {
        let path = file.file_path().trim_start_matches("file://");
        assert_eq!(std::fs::metadata(path)?.len(), file.file_size_in_bytes());
    }
    assert_eq!(files.iter().map(|file| file.record_count()).sum::<u64>(), 10_000);
    let place = lab.commit(&table, files).await?;
    for reader in Reader::all()? {
        let found = reader.columns(&place)?;
        assert_eq!((found["id"].values, &found["id"].max), (10_000, &json!(9_999)));
    }
    Ok(())
}

async fn a_large_file_goes_in_parts() -> TestResult {
    let lab = Lab::new()?;
    let properties = [
        ("write.parquet.compression-codec", "none"),
        ("write.parquet.row-group-size-bytes", "6000000"),
    ];
    let table = lab.table("large", &COLUMNS, &[], &properties).await?;
    let mut writer = TableWriter::try_new(&table, &lab.random, WriteOptions::default())?;
    for from in (0..160_000).step_by(20_000) {
        writer
            .write(rows(&table, columns(from..from + 20_000, noise))?)
            .await?;
    }
    let files = writer.finish().await?;
    assert_eq!(files.len(), 1);
    assert!(files[0].file_size_in_bytes() > 20 << 20);
    let place = lab.commit(&table, files).await?;
    for reader in Reader::all()? {
        assert_eq!(reader.columns(&place)?["id"].values, 160_000);
    }
    Ok(())
}

async fn bloom_filters_are_written_where_asked() -> TestResult {
    let lab = Lab::new()?;
    let properties = [("write.parquet.bloom-filter-enabled.column.name", "true")];
    let table = lab.table("bloom", &COLUMNS, &[], &properties).await?;
    let batch = rows(&table, columns(0..1000, noise))?;
    let files = write_data_files(&table, vec![batch], &lab.random)
        .await?
        .durable()
        .await?;
    let path = files[0].file_path().trim_start_matches("file://");
    let footer = SerializedFileReader::new(std::fs::File::open(path)?)?;
    let group = footer.metadata().row_group(0);
    assert!(group.column(0).bloom_filter_offset().is_none());
    let length = group.column(1).bloom_filter_length().ok_or("no filter")?;
    assert!(length < 8192, "{length}");
    let place = lab.commit(&table, files).await?;
    for reader in Reader::all()? {
        assert_eq!(reader.count_where(&place, "name", "=", noise(5))?.rows, 1);
    }
    Ok(())
}

async fn an_abandoned_write_leaves_no_file() -> TestResult {
    let lab = Lab::new()?;
    let table = lab.table("abandoned", &COLUMNS, &[], &[]).await?;
    let mut writer = TableWriter::try_new(&table, &lab.random, WriteOptions::default())?;
    writer.write(rows(&table, columns(0..1000, noise))?).await?;
    writer.abandon().await;
    assert!(!lab.path().join("t/abandoned/data").exists());
    Ok(())
}
