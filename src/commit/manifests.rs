//! Manifests and manifest lists: encoded in memory, so that all files of an attempt can be put at the same time.

use bytes::Bytes;
use iceberg::io::FileIO;
use iceberg::spec::{
    DataFile, Manifest, ManifestContentType, ManifestEntryRef, ManifestFile, ManifestListWriter,
    ManifestMetadata, ManifestWriterBuilder, SnapshotRef, UNASSIGNED_SEQUENCE_NUMBER,
};
use iceberg::table::Table;

use crate::error::{Error, ErrorKind, Result};
use crate::random::Random;

/// An Avro file that nobody has yet.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) location: String,
    bytes: Bytes,
}

impl Encoded {
    /// Makes the file durable.
    pub(super) async fn put(&self, table: &Table) -> Result<()> {
        let put = async {
            table
                .file_io()
                .new_output(&self.location)?
                .write(self.bytes.clone())
                .await
        };
        put.await
            .map_err(|error| unavailable("The file cannot be written.", &self.location, error))
    }
}

/// Encodes the manifest of new files.
pub(super) async fn encode_manifest(
    table: &Table,
    files: &[DataFile],
    random: &Random,
) -> Result<(ManifestFile, Encoded)> {
    let location = fresh_location(table, random);
    let memory = FileIO::new_with_memory();
    let encoding = async {
        let metadata = table.metadata();
        let spec = metadata.default_partition_spec().as_ref().clone();
        let output = memory.new_output(&location)?;
        let schema = metadata.current_schema().clone();
        let mut writer = ManifestWriterBuilder::new(output, None, schema, spec).build_v2_data();
        for file in files {
            writer.add_file(file.clone(), UNASSIGNED_SEQUENCE_NUMBER)?;
        }
        let manifest = writer.write_manifest_file().await?;
        Ok((manifest, memory.new_input(&location)?.read().await?))
    };
    let (manifest, bytes) = encoding.await.map_err(|error| invalid("The manifest", error))?;
    Ok((manifest, Encoded { location, bytes }))
}

fn fresh_location(table: &Table, random: &Random) -> String {
    let name = format!("{}-m0.avro", random.uuid());
    format!("{}/metadata/{name}", table.metadata().location())
}

/// Encodes the manifest that follows another: some of its live files stay, the others are gone. The snapshot that
/// deletes them is the one that lists the manifest first, whichever attempt that is.
///
/// Schema and partition spec are the manifest's own, since a column of an old spec may be dropped by now.
pub(super) async fn encode_successor(
    table: &Table,
    manifest: &ManifestFile,
    of: &ManifestMetadata,
    kept: &[ManifestEntryRef],
    gone: &[ManifestEntryRef],
    random: &Random,
) -> Result<(ManifestFile, Encoded)> {
    let location = fresh_location(table, random);
    let memory = FileIO::new_with_memory();
    let numbers = |entry: &ManifestEntryRef| {
        let sequence = entry.sequence_number().unwrap_or(manifest.sequence_number);
        (
            sequence,
            entry.file_sequence_number.or(Some(manifest.sequence_number)),
        )
    };
    let encoding = async {
        let output = memory.new_output(&location)?;
        let spec = of.partition_spec().clone();
        let builder = ManifestWriterBuilder::new(output, None, of.schema().clone(), spec);
        let mut writer = match manifest.content {
            ManifestContentType::Data => builder.build_v2_data(),
            ManifestContentType::Deletes => builder.build_v2_deletes(),
        };
        for entry in gone {
            let (sequence, file_sequence) = numbers(entry);
            writer.add_delete_file(entry.data_file().clone(), sequence, file_sequence)?;
        }
        for entry in kept {
            let (sequence, file_sequence) = numbers(entry);
            let snapshot_id = entry.snapshot_id().unwrap_or(manifest.added_snapshot_id);
            writer.add_existing_file(entry.data_file().clone(), snapshot_id, sequence, file_sequence)?;
        }
        let successor = writer.write_manifest_file().await?;
        Ok((successor, memory.new_input(&location)?.read().await?))
    };
    let (successor, bytes) = encoding.await.map_err(|error| invalid("A manifest", error))?;
    Ok((successor, Encoded { location, bytes }))
}

/// Encodes the manifest list of a snapshot under a name that no attempt had.
pub(super) async fn encode_list(
    table: &Table,
    snapshot_id: i64,
    sequence_number: i64,
    manifests: &[ManifestFile],
    random: &Random,
) -> Result<Encoded> {
    let metadata = table.metadata();
    let name = format!("snap-{snapshot_id}-1-{}.avro", random.uuid());
    let location = format!("{}/metadata/{name}", metadata.location());
    let memory = FileIO::new_with_memory();
    let encoding = async {
        let output = memory.new_output(&location)?.writer().await?;
        let parent = metadata.current_snapshot_id();
        let mut list = ManifestListWriter::v2(output, snapshot_id, parent, sequence_number);
        list.add_manifests(manifests.iter().cloned())?;
        list.close().await?;
        memory.new_input(&location)?.read().await
    };
    let bytes = encoding
        .await
        .map_err(|error| invalid("The manifest list", error))?;
    Ok(Encoded { location, bytes })
}

/// Reads the manifests of a snapshot.
pub(super) async fn read_list(table: &Table, snapshot: &SnapshotRef) -> Result<Vec<ManifestFile>> {
    let list = table.manifest_list_reader(snapshot).load().await;
    let list = list.map_err(|error| {
        unavailable(
            "The manifest list cannot be read.",
            snapshot.manifest_list(),
            error,
        )
    })?;
    Ok(list.entries().to_vec())
}

/// Reads a manifest.
pub(super) async fn read(table: &Table, manifest: &ManifestFile) -> Result<Manifest> {
    let read = manifest.load_manifest(table.file_io()).await;
    read.map_err(|error| unavailable("A manifest cannot be read.", &manifest.manifest_path, error))
}

/// Whether a manifest names a file that is in the table. One that only tells what its own snapshot deleted is left out
/// of later ones, as Java does.
pub(super) fn is_live(manifest: &ManifestFile) -> bool {
    manifest.has_added_files() || manifest.has_existing_files()
}

/// A new or merged manifest as this attempt's snapshot lists it: the file itself does not name the snapshot.
pub(super) fn inherit(mut manifest: ManifestFile, snapshot_id: i64, sequence_number: i64) -> ManifestFile {
    if manifest.sequence_number == UNASSIGNED_SEQUENCE_NUMBER {
        manifest.added_snapshot_id = snapshot_id;
        manifest.sequence_number = sequence_number;
    }
    if manifest.min_sequence_number == UNASSIGNED_SEQUENCE_NUMBER {
        manifest.min_sequence_number = sequence_number;
    }
    manifest
}

fn invalid(what: &str, error: iceberg::Error) -> Error {
    Error::new(
        ErrorKind::Rejected,
        format!("{what} of the commit cannot be encoded."),
    )
    .with_source(error)
}

pub(super) fn unavailable(message: &str, location: &str, error: iceberg::Error) -> Error {
    Error::new(ErrorKind::Unavailable, message)
        .with("location", location)
        .with_source(error)
}
