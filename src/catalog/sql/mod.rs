//! The `sql` catalog: a PostgreSQL or SQLite database names the newest metadata of each table.
//!
//! The layout is the one that Java's JDBC catalog made and PyIceberg shares, so that they may write the same tables. A
//! table's row holds the location of its metadata file, which has a random UUID in its name and therefore names a state
//! once: it is the fence. Committing is one autocommit `UPDATE` that finds the row only while it holds that location
//! (protocol §4, column `sql`).

mod catalog;
mod database;
mod failure;
mod layout;

pub use catalog::SqlCatalog;
