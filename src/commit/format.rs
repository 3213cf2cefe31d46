//! Which tables are written: those of format version 2 whose manifests can be read.

use iceberg::spec::{FormatVersion, TableMetadata, Transform};
use iceberg::table::Table;

use crate::error::{Error, ErrorKind, Result};

/// Checks that a table is one that commits are written for; asked of every load that a commit stands on, and when a table
/// is opened.
///
/// Version 1 has no sequence numbers, which stop a late commit after a rollback (protocol §4). Version 3 numbers its rows
/// and keeps deletes in other files.
///
/// # Errors
/// [`ErrorKind::TableMismatch`], with what makes a table that is written. Other tables go on.
pub fn check(table: &Table) -> Result<()> {
    let name = table.identifier();
    let metadata = table.metadata();
    let copied = format!(
        "copy its rows, CREATE TABLE {name}_v2 USING iceberg TBLPROPERTIES ('format-version' = '2') AS SELECT * FROM \
         {name}, and write to that"
    );
    let rule = match metadata.format_version() {
        FormatVersion::V1 => format!(
            "Only tables of format version 2 are written. Upgrade it, which rewrites nothing: ALTER TABLE {name} SET \
             TBLPROPERTIES ('format-version' = '2')"
        ),
        FormatVersion::V2 => match void_with_a_columns_name(metadata) {
            Some(field) => format!(
                "The partition field `{field}` was removed while the table was of version 1, and its name is a column's, \
                 so manifests cannot be read: {copied}"
            ),
            None => return Ok(()),
        },
        version => format!(
            "Only tables of format version 2 are written. No table goes back from {version}: {copied}"
        ),
    };
    Err(Error::new(ErrorKind::TableMismatch, format!("{rule}."))
        .with("table", name)
        .with("format-version", metadata.format_version()))
}

/// The reader of iceberg 0.10.1 takes such a name for a clash, in the metadata of manifests too; Java does not.
fn void_with_a_columns_name(metadata: &TableMetadata) -> Option<&str> {
    let mut fields = metadata.partition_specs_iter().flat_map(|spec| spec.fields());
    let is_column = |name: &str| {
        let mut schemas = metadata.schemas_iter();
        schemas.any(|schema| schema.field_by_name(name).is_some())
    };
    let found = fields.find(|field| field.transform == Transform::Void && is_column(&field.name));
    found.map(|field| field.name.as_str())
}
