//! landfast: the event and file ingester for Apache Iceberg. Acknowledged means committed.
//!
//! The modules are declared in the order of the data path.

pub mod error;

pub mod config;

pub mod trigger;

pub mod decode;
