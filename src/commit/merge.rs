//! Merging manifests: small ones become one beside the commits, so that there are few whatever the table's age.

use iceberg::spec::{ManifestContentType, ManifestFile, ManifestWriterBuilder};
use iceberg::table::Table;

use super::manifests;
use crate::error::Result;
use crate::random::Random;

/// Small manifests that are merged into one. Java's default.
const MIN_COUNT_TO_MERGE: usize = 100;
/// Merged manifests of a size that are merged once more.
const FAN_IN: usize = 10;
/// A manifest of this size is not merged any more. Java's default.
const TARGET_BYTES: i64 = 8 << 20;

/// Manifests that were merged beside the commits, and their successor.
#[derive(Debug)]
pub(super) struct ManifestMerge {
    inputs: Vec<String>,
    output: ManifestFile,
}

impl ManifestMerge {
    /// Swaps the inputs for the output; leaves all as it is unless every input is there.
    pub(super) fn apply(&self, manifests: &mut Vec<ManifestFile>) -> bool {
        let is_input = |manifest: &ManifestFile| self.inputs.contains(&manifest.manifest_path);
        if manifests.iter().filter(|manifest| is_input(manifest)).count() != self.inputs.len() {
            return false;
        }
        manifests.retain(|manifest| !is_input(manifest));
        manifests.push(self.output.clone());
        true
    }
}

/// The manifests that should become one, if any: Java's `commit.manifest*` properties, by size, so that the cost of a
/// commit does not grow with the table.
pub(super) fn plan_merge(table: &Table, manifests: &[ManifestFile]) -> Option<Vec<ManifestFile>> {
    let properties = table.metadata().properties();
    let property = |key: &str| properties.get(key).map(String::as_str);
    if property("commit.manifest-merge.enabled") == Some("false") {
        return None;
    }
    let number = |key: &str| property(key).and_then(|value| value.parse::<i64>().ok());
    let target = number("commit.manifest.target-size-bytes").unwrap_or(TARGET_BYTES);
    let least = min_count(table);
    let spec = table.metadata().default_partition_spec_id();
    let mergeable = |manifest: &&ManifestFile| {
        manifest.content == ManifestContentType::Data
            && manifest.partition_spec_id == spec
            && manifest.manifest_length < target
    };
    // The fewest files first: that is where they gather.
    (0..12).find_map(|size| {
        let wanted = if size == 0 { least } else { FAN_IN };
        let of_size = manifests
            .iter()
            .filter(mergeable)
            .filter(|manifest| size_of(manifest, least) == size);
        // Newest first in the list: the oldest are at its end.
        let chosen: Vec<ManifestFile> = of_size.rev().take(wanted).cloned().collect();
        (chosen.len() == wanted).then_some(chosen)
    })
}

/// Whether there are so many manifests that a merge beside the commits never came to its end: processes that live for one
/// commit leave it to the next.
pub(super) fn merge_is_overdue(table: &Table, manifests: &[ManifestFile]) -> bool {
    manifests.len() >= min_count(table).saturating_mul(3)
}

fn min_count(table: &Table) -> usize {
    let count = table
        .metadata()
        .properties()
        .get("commit.manifest.min-count-to-merge");
    let count = count.and_then(|count| count.parse().ok());
    count.unwrap_or(MIN_COUNT_TO_MERGE).max(2)
}

/// 0 below `least` files, then one more for each ten times as many.
fn size_of(manifest: &ManifestFile, least: usize) -> u32 {
    let counts = [
        manifest.added_files_count,
        manifest.existing_files_count,
        manifest.deleted_files_count,
    ];
    let files: u64 = counts.into_iter().flatten().map(u64::from).sum();
    let least = least as u64;
    let mut size = 0;
    let mut bound = least;
    while files >= bound {
        bound = bound.saturating_mul(FAN_IN as u64);
        size += 1;
    }
    size
}

/// Writes the manifest that stands for several: the same live files, each with its own sequence number and snapshot.
pub(super) async fn merge(table: &Table, inputs: &[ManifestFile], random: &Random) -> Result<ManifestMerge> {
    let location = format!(
        "{}/metadata/{}-m1.avro",
        table.metadata().location(),
        random.uuid()
    );
    let failed = |error| manifests::unavailable("The manifests cannot be merged.", &location, error);
    let merging = async {
        let metadata = table.metadata();
        let spec = metadata.default_partition_spec().as_ref().clone();
        let output = table.file_io().new_output(&location)?;
        let schema = metadata.current_schema().clone();
        let mut writer = ManifestWriterBuilder::new(output, None, schema, spec).build_v2_data();
        for input in inputs {
            let (entries, _metadata) = input.load_manifest(table.file_io()).await?.into_parts();
            for entry in entries.iter().filter(|entry| entry.is_alive()) {
                writer.add_existing_file(
                    entry.data_file().clone(),
                    entry.snapshot_id().unwrap_or(input.added_snapshot_id),
                    entry.sequence_number().unwrap_or(input.sequence_number),
                    entry.file_sequence_number.or(Some(input.sequence_number)),
                )?;
            }
        }
        writer.write_manifest_file().await
    };
    let output = merging.await.map_err(failed)?;
    Ok(ManifestMerge {
        inputs: inputs.iter().map(|input| input.manifest_path.clone()).collect(),
        output,
    })
}
