//! Alterations: schema, partition spec, sort order and properties, alone or in the commit of the rows that need them.
//!
//! An alteration says how the table should be, and is computed anew from every load: one that is so already changes
//! nothing, so a retry after an unknown outcome ends there, and two who want the same agree. Tolerated: everything that
//! leaves room for it, such as another's columns; the new ids come after theirs. Refused: another column of the name
//! with another type, a column that is gone or needed elsewhere.
//!
//! Every commit of one requires that schema, partition spec and sort order, and the last ids that were given, are still
//! those of the load. So two alterations from one load exclude each other in every catalog, also on `rest`, where a
//! commit that moves no snapshot does not fence ([`Catalog::fences_by_snapshot`]): the loser is computed again. Ids are
//! never given twice, so a late attempt that adds a column fails for ever. What is left to `rest`: one that adds no
//! column, and that somebody undid before its late copy came, may happen once more; and of two who set one property
//! without touching anything else the later stays, as there is no requirement on properties. No rows are at stake in
//! either.
//!
//! [`Catalog::fences_by_snapshot`]: crate::catalog::Catalog::fences_by_snapshot

use std::collections::{HashMap, HashSet};

use iceberg::spec::{
    NestedField, NullOrder, PrimitiveType, Schema, SortDirection, SortField, SortOrder, TableMetadata,
    TableMetadataBuilder, Transform, UnboundPartitionSpec,
};
use iceberg::table::Table;
use iceberg::{Runtime, TableRequirement, TableUpdate};

use super::columns;
use crate::config::{PartitionBy, partition_spec};
use crate::error::{Error, ErrorKind, Result};

/// Properties that are the ledger's, and nobody else's to set.
const OURS: &str = "landfast.ledger.";

/// How a table should be in one respect. Columns go by their full names, `buyer.name`, `lines.element.sku`; one that is
/// renamed or dropped stands in no other alteration beside it, since a retry would look for it in vain.
#[derive(Debug, Clone, PartialEq)]
pub enum Alteration {
    /// It has this column, in the struct `parent` or at the top. New ones are optional; ids are given anew.
    AddColumn {
        /// The struct's full name.
        parent: Option<String>,
        /// Name, type and doc.
        column: Box<NestedField>,
    },
    /// A column is at least of this type: int to long, float to double, decimal to more digits.
    Widen {
        /// The column's full name.
        column: String,
        /// Its type.
        to: PrimitiveType,
    },
    /// A column may be null.
    MakeOptional(String),
    /// A column has another name.
    Rename {
        /// The column's full name.
        column: String,
        /// The last part of its new one.
        to: String,
    },
    /// There is no such column.
    Drop(String),
    /// New files are partitioned by these.
    PartitionBy(Vec<PartitionBy>),
    /// The sort order is by these columns, ascending, nulls first.
    SortBy(Vec<String>),
    /// A property has this value.
    SetProperty(String, String),
    /// There is no such property.
    RemoveProperty(String),
}

/// A table as it will be, and what takes it there.
#[derive(Debug)]
pub(super) struct Altered {
    pub(super) table: Table,
    pub(super) updates: Vec<TableUpdate>,
    pub(super) requirements: Vec<TableRequirement>,
}

/// The table with the alterations, and what makes them; no updates when it is so already.
///
/// # Errors
/// [`ErrorKind::TableMismatch`] when the table leaves no room for one, [`ErrorKind::Rejected`] for the ledger's property.
pub(super) fn altered(table: &Table, alterations: &[Alteration]) -> Result<Altered> {
    let metadata = table.metadata();
    let invalid = |error: iceberg::Error| refused(table, error.message()).with_source(error);
    let schema = edited(metadata, alterations).map_err(|rule| refused(table, &rule))?;
    let location = table.metadata_location().map(str::to_owned);
    let mut builder = metadata.clone().into_builder(location);
    if !is_same(&schema, metadata.current_schema()) {
        builder = builder.add_current_schema(schema.clone()).map_err(invalid)?;
    }
    for alteration in alterations {
        builder = match alteration {
            Alteration::PartitionBy(fields) => {
                let spec = partition_spec(fields, &schema).map_err(|rule| refused(table, &rule))?;
                match is_partitioned_by(metadata, &spec) {
                    true => builder,
                    false => builder.add_default_partition_spec(spec).map_err(invalid)?,
                }
            }
            Alteration::SortBy(columns) => {
                let order = sort_order(columns, &schema).map_err(|rule| refused(table, &rule))?;
                match metadata.default_sort_order().fields == order.fields {
                    true => builder,
                    false => sorted(builder, order).map_err(invalid)?,
                }
            }
            Alteration::SetProperty(key, _) | Alteration::RemoveProperty(key) if key.starts_with(OURS) => {
                let message = "This property is the ledger's: `landfast ledger` mends and forgets.";
                return Err(Error::new(ErrorKind::Rejected, message)
                    .with("table", table.identifier())
                    .with("property", key));
            }
            Alteration::SetProperty(key, value) if metadata.properties().get(key) != Some(value) => {
                let updates = HashMap::from([(key.clone(), value.clone())]);
                builder.set_properties(updates).map_err(invalid)?
            }
            Alteration::RemoveProperty(key) if metadata.properties().contains_key(key) => builder
                .remove_properties(std::slice::from_ref(key))
                .map_err(invalid)?,
            _ => builder,
        };
    }
    let built = builder.build().map_err(invalid)?;
    if built.changes.is_empty() {
        return Ok(unaltered(table));
    }
    Ok(Altered {
        requirements: requirements(metadata),
        updates: built.changes,
        table: table_of(table, built.metadata)?,
    })
}

/// The table as it is.
pub(super) fn unaltered(table: &Table) -> Altered {
    Altered {
        table: table.clone(),
        updates: Vec::new(),
        requirements: Vec::new(),
    }
}

/// The schema after the alterations; the error is a clause.
fn edited(metadata: &TableMetadata, alterations: &[Alteration]) -> columns::Edited {
    let mut last_column_id = metadata.last_column_id();
    let mut schema = metadata.current_schema().as_ref().clone();
    let identifiers: Vec<i32> = schema.identifier_field_ids().collect();
    let needed = |id: i32| {
        let of_spec = metadata.default_partition_spec().fields();
        let of_order = &metadata.default_sort_order().fields;
        if of_spec.iter().any(|field| field.source_id == id) {
            Some("the table is partitioned by it")
        } else if of_order.iter().any(|field| field.source_id == id) {
            Some("the table's sort order has it")
        } else {
            identifiers
                .contains(&id)
                .then_some("it identifies the table's rows")
        }
    };
    for alteration in alterations {
        schema = match alteration {
            Alteration::AddColumn { parent, column } => {
                columns::add(schema, parent.as_deref(), column, &mut last_column_id)?
            }
            Alteration::Widen { column, to } => columns::widen(schema, column, to)?,
            Alteration::MakeOptional(column) => columns::make_optional(schema, column)?,
            Alteration::Rename { column, to } => columns::rename(schema, column, to)?,
            Alteration::Drop(column) => columns::drop(schema, column, needed)?,
            _ => schema,
        };
    }
    Ok(schema)
}

fn is_same(left: &Schema, right: &Schema) -> bool {
    let ids = |schema: &Schema| schema.identifier_field_ids().collect::<HashSet<i32>>();
    left.as_struct() == right.as_struct() && ids(left) == ids(right)
}

/// Fields of `void` are what is left of those that a table of version 1 once had.
fn is_partitioned_by(metadata: &TableMetadata, spec: &UnboundPartitionSpec) -> bool {
    let fields = metadata.default_partition_spec().fields().iter();
    let found = fields.filter(|field| field.transform != Transform::Void);
    found.map(|field| (field.source_id, field.transform)).eq(spec
        .fields()
        .iter()
        .map(|field| (field.source_id, field.transform)))
}

fn sort_order(columns: &[String], schema: &Schema) -> Result<SortOrder, String> {
    let field = |column: &String| {
        let id = schema.field_id_by_name(column);
        let source_id = id.ok_or_else(|| format!("there is no column `{column}`"))?;
        Ok(SortField {
            source_id,
            transform: Transform::Identity,
            direction: SortDirection::Ascending,
            null_order: NullOrder::First,
        })
    };
    Ok(SortOrder {
        order_id: i64::from(!columns.is_empty()),
        fields: columns.iter().map(field).collect::<Result<_, String>>()?,
    })
}

fn sorted(builder: TableMetadataBuilder, order: SortOrder) -> iceberg::Result<TableMetadataBuilder> {
    builder.add_sort_order(order)?.set_default_sort_order(-1)
}

fn requirements(metadata: &TableMetadata) -> Vec<TableRequirement> {
    vec![
        TableRequirement::UuidMatch {
            uuid: metadata.uuid(),
        },
        TableRequirement::CurrentSchemaIdMatch {
            current_schema_id: metadata.current_schema_id(),
        },
        TableRequirement::LastAssignedFieldIdMatch {
            last_assigned_field_id: metadata.last_column_id(),
        },
        TableRequirement::DefaultSpecIdMatch {
            default_spec_id: metadata.default_partition_spec_id(),
        },
        TableRequirement::LastAssignedPartitionIdMatch {
            last_assigned_partition_id: metadata.last_partition_id(),
        },
        TableRequirement::DefaultSortOrderIdMatch {
            default_sort_order_id: metadata.default_sort_order_id(),
        },
    ]
}

/// The same table of other metadata, which no catalog has.
fn table_of(table: &Table, metadata: TableMetadata) -> Result<Table> {
    let built = Runtime::try_current().and_then(|runtime| {
        Table::builder()
            .identifier(table.identifier().clone())
            .metadata(metadata)
            .metadata_location(table.metadata_location().unwrap_or_default())
            .file_io(table.file_io().clone())
            .disable_cache()
            .runtime(runtime)
            .build()
    });
    built.map_err(|error| refused(table, "it cannot be opened").with_source(error))
}

pub(super) fn refused(table: &Table, rule: &str) -> Error {
    Error::new(
        ErrorKind::TableMismatch,
        format!("The table cannot be altered: {rule}."),
    )
    .with("table", table.identifier())
}
