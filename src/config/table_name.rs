//! What tables are called.

use iceberg::TableIdent;

use crate::error::{Error, ErrorKind, Result};

/// What a table's name may look like, for error messages.
pub(super) const TABLE_NAME: &str =
    "`namespace.table`: at least two levels of letters, digits, `_` and `-`, separated by dots";

/// Reads a table's name, `namespace.table`.
///
/// # Errors
/// [`ErrorKind::Config`] when it has fewer than two levels, or a level is empty or holds more than letters, digits,
/// `_` and `-`.
pub fn table_ident(name: &str) -> Result<TableIdent> {
    parse_table_ident(name)
        .map_err(|reason| Error::new(ErrorKind::Config, format!("{reason}; write {TABLE_NAME}")))
}

/// Reads a table's name; the error is a clause.
pub(super) fn parse_table_ident(name: &str) -> Result<TableIdent, String> {
    let levels: Vec<&str> = name.split('.').collect();
    let is_level = |level: &&str| {
        !level.is_empty()
            && level
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
    };
    if levels.len() < 2 {
        return Err(format!("`{name}` names no namespace"));
    }
    if !levels.iter().all(is_level) {
        return Err(format!(
            "`{name}` has a level that is empty or holds other characters"
        ));
    }
    TableIdent::from_strs(levels).map_err(|error| error.message().to_owned())
}
