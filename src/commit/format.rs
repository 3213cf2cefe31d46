//! Which format versions of tables are written: version 2.

use iceberg::spec::FormatVersion;
use iceberg::table::Table;

use crate::error::{Error, ErrorKind, Result};

/// Checks that a table is of the format version that commits are written for; asked of every load that a commit stands
/// on, and when a table is opened.
///
/// Version 1 has no sequence numbers, which stop a late commit after a rollback (protocol §4). Version 3 numbers its rows
/// and keeps deletes in other files.
///
/// # Errors
/// [`ErrorKind::TableMismatch`], with what makes a table of version 2. Other tables go on.
pub fn check(table: &Table) -> Result<()> {
    let name = table.identifier();
    let way_out = match table.metadata().format_version() {
        FormatVersion::V2 => return Ok(()),
        FormatVersion::V1 => format!(
            "Upgrade it, which rewrites nothing: ALTER TABLE {name} SET TBLPROPERTIES ('format-version' = '2')"
        ),
        version => format!(
            "No table goes back from {version}: copy its rows, CREATE TABLE {name}_v2 USING iceberg TBLPROPERTIES \
             ('format-version' = '2') AS SELECT * FROM {name}, and write to that"
        ),
    };
    Err(Error::new(
        ErrorKind::TableMismatch,
        format!("Only tables of format version 2 are written. {way_out}."),
    )
    .with("table", name)
    .with("format-version", table.metadata().format_version()))
}
