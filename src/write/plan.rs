//! What all files of one write have in common.

use std::sync::Arc;

use arrow_schema::SchemaRef as ArrowSchemaRef;
use iceberg::spec::{PartitionSpecRef, SchemaRef, TableMetadata};
use parquet::file::properties::WriterProperties;

use super::arrow_schema;
use super::metrics_mode::MetricsModes;
use super::properties::WriteSettings;
use crate::error::Result;
use crate::random::Random;

/// A table, as its files need to know it.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) schema: SchemaRef,
    pub(super) arrow_schema: ArrowSchemaRef,
    pub(super) spec: PartitionSpecRef,
    pub(super) spec_id: i32,
    pub(super) settings: WriteSettings,
    pub(super) parquet: WriterProperties,
    pub(super) metrics: MetricsModes,
    /// Of the leaves, or a few more.
    pub(super) column_count: usize,
    data_location: String,
    random: Arc<Random>,
}

impl Plan {
    pub(super) fn try_new(table: &TableMetadata, random: &Arc<Random>) -> Result<Self> {
        let schema = table.current_schema().clone();
        let arrow_schema = arrow_schema(&schema)?;
        let properties = table.properties();
        let settings = WriteSettings::try_new(
            properties
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        )?;
        Ok(Self {
            parquet: settings.parquet(&schema, &arrow_schema)?,
            metrics: settings.metrics(&schema),
            column_count: schema.field_id_to_name_map().len(),
            spec: table.default_partition_spec().clone(),
            spec_id: table.default_partition_spec_id(),
            data_location: format!("{}/data", table.location().trim_end_matches('/')),
            random: random.clone(),
            schema,
            arrow_schema,
            settings,
        })
    }

    /// A name that no file has, in the folder of a partition.
    pub(super) fn location(&self, folder: &str) -> String {
        let slash = if folder.is_empty() { "" } else { "/" };
        format!(
            "{}/{folder}{slash}{}.parquet",
            self.data_location,
            self.random.uuid()
        )
    }
}
