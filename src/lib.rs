//! landfast: the event and file ingester for Apache Iceberg. Acknowledged means committed.
//!
//! The modules are declared in the order of the data path.

pub mod error;

pub mod config;

pub mod trigger;

pub mod decode;

pub mod route;

pub mod batch;

pub mod load;

pub mod replay;

pub mod write;

pub mod commit;

pub mod ledger;

pub mod maintenance;

pub mod catalog;

pub mod storage;

pub mod publish;

pub mod dead_letter;

pub mod google;

pub mod telemetry;

pub mod app;

pub mod check;

pub mod clock;

pub mod random;

pub mod version;
