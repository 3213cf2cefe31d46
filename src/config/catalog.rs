//! Which catalog holds the tables.

use super::reader::Field;

/// The catalog of the tables. Key `catalog`, required: `{type: storage}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatalogConfig {
    /// `type: storage`: metadata files in the warehouse, no server; landfast is the only writer.
    Storage,
    /// `type: memory`: forgotten when the process ends; for tests.
    Memory,
}

impl CatalogConfig {
    /// The word of the key `type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Storage => "storage",
            Self::Memory => "memory",
        }
    }

    pub(super) const ACCEPTED: &'static str = "a mapping such as `{type: storage}`";

    /// Reads the key `catalog`.
    pub(super) fn read(field: &Field<'_>) -> Option<Self> {
        let mut keys = field.mapping(Self::ACCEPTED)?;
        let catalog = keys
            .required("type", "`type: storage` or `type: memory`")
            .and_then(|field| {
                field.word(
                    &[("storage", Self::Storage), ("memory", Self::Memory)],
                    &["sql", "rest", "biglake", "glue", "hive"],
                )
            });
        keys.later(&["uri", "name", "warehouse", "auth", "user_project"]);
        keys.finish();
        catalog
    }
}
