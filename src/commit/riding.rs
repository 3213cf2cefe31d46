//! Alterations in the commit of the rows that need them.

use iceberg::table::Table;

use super::alter::{Alteration, Altered, altered, refused};
use crate::error::Result;

/// Alterations that ride on a change set, and what its rows were written for.
#[derive(Debug)]
pub(super) struct Riding {
    alterations: Vec<Alteration>,
    columns: Vec<(String, Option<i32>)>,
    spec_id: i32,
}

impl Riding {
    pub(super) fn new(alterations: Vec<Alteration>, written: &Table) -> Self {
        let added = alterations.iter().filter_map(|alteration| match alteration {
            Alteration::AddColumn { parent: None, column } => Some(column.name.clone()),
            Alteration::AddColumn {
                parent: Some(parent),
                column,
            } => Some(format!("{parent}.{}", column.name)),
            _ => None,
        });
        let schema = written.metadata().current_schema();
        Self {
            columns: added
                .map(|name| (name.clone(), schema.field_id_by_name(&name)))
                .collect(),
            spec_id: written.metadata().default_partition_spec_id(),
            alterations,
        }
    }

    /// The alterations on a load of the table.
    ///
    /// # Errors
    /// Those of [`altered`]; [`ErrorKind::TableMismatch`] when columns or partitions would get other ids than those that
    /// the rows were written with.
    pub(super) fn on(&self, table: &Table) -> Result<Altered> {
        let altered = altered(table, &self.alterations)?;
        let metadata = altered.table.metadata();
        let schema = metadata.current_schema();
        let same = |(name, id): &(String, Option<i32>)| schema.field_id_by_name(name) == *id;
        if self.columns.iter().all(same) && metadata.default_partition_spec_id() == self.spec_id {
            return Ok(altered);
        }
        let rule = "another took the ids of its new columns or partitions, so its rows must be written again";
        Err(refused(table, rule))
    }
}
