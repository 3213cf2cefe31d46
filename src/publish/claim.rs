//! Whose an external table is: this table's, or one that a person handed over.

use iceberg::spec::TableMetadata;
use iceberg::table::Table;

use super::client::External;
use crate::config::{ADOPT, BigQueryConfig};
use crate::error::{Error, ErrorKind, Result};

/// Checks that an external table reads metadata of the table, or was handed over to it.
///
/// # Errors
/// [`ErrorKind::TableMismatch`] when it reads another's: moving it would take it from whoever reads that one.
pub(super) fn check(to: &BigQueryConfig, found: &External, table: &Table) -> Result<()> {
    let handed_over = found.labels.get(ADOPT).is_some();
    let newest = table.metadata_location() == Some(&found.uri);
    if newest || handed_over || is_of(table.metadata(), &found.uri) {
        return Ok(());
    }
    let message = "The external table reads the metadata of another table, so it is left alone: write another `table` under \
                   `publish.bigquery`, or put the label `landfast_adopt` on it to have it follow this table from now on.";
    Err(Error::new(ErrorKind::TableMismatch, message)
        .with("external_table", to)
        .with("reads", &found.uri)
        .with("table", table.identifier())
        .with("location", table.metadata().location()))
}

/// Whether metadata was this table's, or that of one which lay where it lies: a table that is dropped and made anew mostly
/// does. Deeper folders may be those of other tables, whose namespace has this one's name.
fn is_of(metadata: &TableMetadata, uri: &str) -> bool {
    let location = metadata.location().trim_end_matches('/');
    let within = uri
        .strip_prefix(location)
        .and_then(|rest| rest.strip_prefix("/metadata/"));
    let logged = || {
        metadata
            .metadata_log()
            .iter()
            .any(|entry| entry.metadata_file == uri)
    };
    within.is_some_and(|name| !name.is_empty() && !name.contains('/')) || logged()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_the_tables_where_it_lies_in_its_folder_or_is_in_its_log() {
        let text = r#"{"format-version":2,"table-uuid":"9c12d441-03fe-4693-9a96-a0705ddf69c1","location":"gs://b/shop/orders/",
            "last-sequence-number":0,"last-updated-ms":0,"last-column-id":1,"current-schema-id":0,
            "schemas":[{"type":"struct","schema-id":0,"fields":[{"id":1,"name":"id","required":false,"type":"long"}]}],
            "default-spec-id":0,"partition-specs":[{"spec-id":0,"fields":[]}],"last-partition-id":999,
            "default-sort-order-id":0,"sort-orders":[{"order-id":0,"fields":[]}],
            "metadata-log":[{"metadata-file":"gs://old/v1.metadata.json","timestamp-ms":0}]}"#;
        let metadata: TableMetadata = serde_json::from_str(text).unwrap();
        for (uri, is_ours) in [
            ("gs://b/shop/orders/metadata/v7.metadata.json", true),
            ("gs://old/v1.metadata.json", true),
            ("gs://old/v2.metadata.json", false),
            ("gs://b/shop/orders/metadata/", false),
            ("gs://b/shop/orders/metadata/metadata/v1.metadata.json", false),
            ("gs://b/shop/orders/lines/metadata/v1.metadata.json", false),
            ("gs://b/shop/orders2/metadata/v1.metadata.json", false),
            ("", false),
        ] {
            assert_eq!(is_of(&metadata, uri), is_ours, "{uri}");
        }
    }
}
