//! Merging manifests: small ones become one beside the commits, so that there are few whatever the table's age.

use futures::stream::{self, StreamExt};
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
/// Manifests that are read at the same time: they are small, and a request takes longer than its bytes.
const AT_ONCE: usize = 16;

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
    let enabled = properties.get("commit.manifest-merge.enabled");
    if enabled.is_some_and(|enabled| enabled == "false") {
        return None;
    }
    let (least, mergeable) = (min_count(table), mergeable(table));
    // The fewest files first: that is where they gather.
    (0..12).find_map(|size| {
        let wanted = if size == 0 { least } else { FAN_IN };
        let of_size = manifests
            .iter()
            .filter(|manifest| mergeable(manifest) && size_of(manifest, least) == size);
        // Newest first in the list: the oldest are at its end.
        let chosen: Vec<ManifestFile> = of_size.rev().take(wanted).cloned().collect();
        (chosen.len() == wanted).then_some(chosen)
    })
}

/// Whether there are so many manifests to merge that those beside the commits never come to their end.
pub(super) fn merge_is_overdue(table: &Table, manifests: &[ManifestFile]) -> bool {
    let mergeable = mergeable(table);
    let waiting = manifests.iter().filter(|manifest| mergeable(manifest));
    waiting.count() >= min_count(table).saturating_mul(3)
}

/// Tells the manifests that a merge may take: data of the default spec, below the target size.
fn mergeable(table: &Table) -> impl Fn(&ManifestFile) -> bool + use<> {
    let target = number(table, "commit.manifest.target-size-bytes").unwrap_or(TARGET_BYTES);
    let spec = table.metadata().default_partition_spec_id();
    move |manifest| {
        manifest.content == ManifestContentType::Data
            && manifest.partition_spec_id == spec
            && manifest.manifest_length < target
    }
}

fn number(table: &Table, property: &str) -> Option<i64> {
    let value = table.metadata().properties().get(property);
    value.and_then(|value| value.parse().ok())
}

fn min_count(table: &Table) -> usize {
    let count = number(table, "commit.manifest.min-count-to-merge");
    let count = count.and_then(|count| usize::try_from(count).ok());
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
        let loading: Vec<_> = inputs
            .iter()
            .map(|input| input.load_manifest(table.file_io()))
            .collect();
        let mut loading = stream::iter(inputs).zip(stream::iter(loading).buffered(AT_ONCE));
        while let Some((input, loaded)) = loading.next().await {
            let (entries, _metadata) = loaded?.into_parts();
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
