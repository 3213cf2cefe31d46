//! Reads what snapshots name: manifest lists, manifests, the files in them. A few at a time, so memory is bounded.

use futures::{Stream, StreamExt, stream};
use iceberg::spec::{Manifest, ManifestFile, SnapshotRef};
use iceberg::table::Table;

use crate::error::{Error, ErrorKind, Result};

/// Manifest lists that are read at the same time.
const LISTS_AT_ONCE: usize = 8;
/// Manifests that are read at the same time: one of 8 MB is a hundred times that in memory.
const MANIFESTS_AT_ONCE: usize = 2;

/// The manifests of snapshots, each with its snapshot.
pub(super) fn lists<'t>(
    table: &'t Table,
    snapshots: impl IntoIterator<Item = SnapshotRef> + 't,
) -> impl Stream<Item = (SnapshotRef, Result<Vec<ManifestFile>>)> + 't {
    stream::iter(snapshots)
        .map(|snapshot| async {
            let read = table.manifest_list_reader(&snapshot).load().await;
            let read = read.map(|list| list.entries().to_vec());
            let read =
                read.map_err(|error| unread("A manifest list", table, snapshot.manifest_list(), error));
            (snapshot, read)
        })
        .buffer_unordered(LISTS_AT_ONCE)
}

/// What manifests hold.
pub(super) fn contents<'t>(
    table: &'t Table,
    manifests: impl IntoIterator<Item = ManifestFile> + 't,
) -> impl Stream<Item = (ManifestFile, Result<Manifest>)> + 't {
    stream::iter(manifests)
        .map(|manifest| async {
            let read = manifest.load_manifest(table.file_io()).await;
            let read = read.map_err(|error| unread("A manifest", table, &manifest.manifest_path, error));
            (manifest, read)
        })
        .buffer_unordered(MANIFESTS_AT_ONCE)
}

fn unread(what: &str, table: &Table, location: &str, error: iceberg::Error) -> Error {
    let message = format!("{what} of the table cannot be read; `landfast verify` says what else is missing.");
    Error::new(ErrorKind::Unavailable, message)
        .with("table", table.identifier())
        .with("location", location)
        .with_source(error)
}
