//! Opening a table: made on first use, checked against its configuration, given its decoder.

use std::collections::BTreeMap;
use std::sync::Arc;

use iceberg::spec::{NestedFieldRef, Schema, Type};
use iceberg::table::Table;
use iceberg::{TableCreation, TableIdent};
use tokio::time::Duration;

use crate::catalog::Catalog;
use crate::config::{SchemaConfig, TableConfig};
use crate::decode::{Decoder, EnvelopeDecoder, JsonDecoder, Strings};
use crate::error::{Error, ErrorKind, Result};
use crate::write::check_properties;

/// What the batch stage needs of a table's configuration.
#[derive(Debug)]
pub(super) struct TableSettings {
    pub(super) schema: SchemaConfig,
    pub(super) properties: BTreeMap<String, String>,
    pub(super) commit_interval: Duration,
    pub(super) max_bytes: usize,
    pub(super) max_rows: usize,
}

impl From<&TableConfig> for TableSettings {
    fn from(config: &TableConfig) -> Self {
        Self {
            schema: config.schema.clone(),
            properties: config.properties.clone(),
            commit_interval: config.batch.commit_interval,
            max_bytes: usize::try_from(config.batch.max_bytes).unwrap_or(usize::MAX),
            max_rows: usize::try_from(config.batch.max_rows).unwrap_or(usize::MAX),
        }
    }
}

/// Loads the table, or makes it if its schema is known; `None` when it does not exist and its schema is to be inferred.
///
/// # Errors
/// [`ErrorKind::TableMismatch`] when the table is not the one that the configuration describes.
pub(super) async fn open(
    catalog: &Arc<dyn Catalog>,
    ident: &TableIdent,
    settings: &TableSettings,
) -> Result<Option<(Table, Decoder)>> {
    let schema = match &settings.schema {
        SchemaConfig::Declared(schema) => Some(schema.as_ref().clone()),
        SchemaConfig::Envelope => Some(EnvelopeDecoder::schema()?),
        SchemaConfig::Inferred => None,
    };
    let table = match (catalog.load_table(ident).await, &schema) {
        (Ok(table), _) => table,
        (Err(error), Some(schema)) if error.kind() == ErrorKind::NotFound => {
            create(catalog, ident, settings, schema.clone()).await?
        }
        (Err(error), None) if error.kind() == ErrorKind::NotFound => return Ok(None),
        (Err(error), _) => return Err(error),
    };
    if let Some(schema) = &schema {
        check_schema(ident, schema, &table)?;
    }
    check_table(ident, &table)?;
    let decoder = decoder(settings, table.current_schema_ref())?;
    Ok(Some((table, decoder)))
}

/// Makes the table of an inferred schema. Without a schema there is no table, and a decoder that only rejects.
pub(super) async fn create_inferred(
    catalog: &Arc<dyn Catalog>,
    ident: &TableIdent,
    settings: &TableSettings,
    schema: Option<Schema>,
) -> Result<(Option<Table>, Decoder)> {
    let Some(schema) = schema else {
        let empty = Schema::builder().build().map_err(|error| {
            Error::new(ErrorKind::Rejected, "An empty schema cannot be made.").with_source(error)
        })?;
        return Ok((None, decoder(settings, Arc::new(empty))?));
    };
    // Another process may have made it meanwhile, of what it saw; then its schema counts.
    let table = create(catalog, ident, settings, schema).await?;
    check_table(ident, &table)?;
    let decoder = decoder(settings, table.current_schema_ref())?;
    Ok((Some(table), decoder))
}

fn decoder(settings: &TableSettings, schema: iceberg::spec::SchemaRef) -> Result<Decoder> {
    Ok(match settings.schema {
        SchemaConfig::Envelope => Decoder::Envelope(Box::new(EnvelopeDecoder::try_new(schema)?)),
        SchemaConfig::Declared(_) => Decoder::Json(Box::new(JsonDecoder::try_new(schema, Strings::Strict)?)),
        SchemaConfig::Inferred => {
            Decoder::Json(Box::new(JsonDecoder::try_new(schema, Strings::AnyValueAsText)?))
        }
    })
}

/// Makes the table; when another process was first, loads its table.
async fn create(
    catalog: &Arc<dyn Catalog>,
    ident: &TableIdent,
    settings: &TableSettings,
    schema: Schema,
) -> Result<Table> {
    catalog.create_namespace(ident.namespace()).await?;
    let creation = TableCreation::builder()
        .name(ident.name().to_owned())
        .schema(schema)
        .properties(settings.properties.clone())
        .build();
    match catalog.create_table(ident.namespace(), creation).await {
        Ok(table) => {
            tracing::info!(table.ident = %ident, "Created the table.");
            Ok(table)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => catalog.load_table(ident).await,
        Err(error) => Err(error),
    }
}

/// Refuses tables that this version cannot append to.
fn check_table(ident: &TableIdent, table: &Table) -> Result<()> {
    let refuse = |rule: &str| {
        Err(Error::new(
            ErrorKind::TableMismatch,
            format!("This version cannot write the table: {rule}."),
        )
        .with("table", ident))
    };
    let metadata = table.metadata();
    if metadata.format_version() != iceberg::spec::FormatVersion::V2 {
        return refuse("its format version is not 2");
    }
    if !metadata.default_partition_spec().is_unpartitioned() {
        return refuse("it is partitioned");
    }
    check_properties(|key| metadata.properties().get(key).map(String::as_str))
}

/// Checks that the table is the declared one. Further optional columns of the table are filled with null.
fn check_schema(ident: &TableIdent, declared: &Schema, table: &Table) -> Result<()> {
    let found = table.metadata().current_schema();
    match difference("", declared.as_struct().fields(), found.as_struct().fields()) {
        None => Ok(()),
        Some(difference) => Err(Error::new(
            ErrorKind::TableMismatch,
            format!(
                "The table's schema is not the configured one: {difference}. Change `schema` in the configuration, or \
                 the table."
            ),
        )
        .with("table", ident)),
    }
}

fn difference(prefix: &str, declared: &[NestedFieldRef], found: &[NestedFieldRef]) -> Option<String> {
    for field in declared {
        let name = format!("{prefix}{}", field.name);
        let Some(other) = found.iter().find(|other| other.name == field.name) else {
            return Some(format!("column `{name}` is missing in the table"));
        };
        let presence = |required: bool| if required { "required" } else { "optional" };
        if other.required != field.required {
            return Some(format!(
                "column `{name}` is {} in the configuration and {} in the table",
                presence(field.required),
                presence(other.required)
            ));
        }
        if let Some(difference) = type_difference(&name, &field.field_type, &other.field_type) {
            return Some(difference);
        }
    }
    let extra = found
        .iter()
        .find(|other| other.required && !declared.iter().any(|field| field.name == other.name));
    extra.map(|field| format!("the table has a required column `{prefix}{}` more", field.name))
}

fn type_difference(name: &str, declared: &Type, found: &Type) -> Option<String> {
    match (declared, found) {
        (Type::Primitive(left), Type::Primitive(right)) if left == right => None,
        (Type::Struct(left), Type::Struct(right)) => {
            difference(&format!("{name}."), left.fields(), right.fields())
        }
        (Type::List(left), Type::List(right)) => {
            let (left, right) = (&left.element_field, &right.element_field);
            difference(
                &format!("{name}."),
                std::slice::from_ref(left),
                std::slice::from_ref(right),
            )
        }
        (Type::Map(left), Type::Map(right)) => type_difference(
            &format!("{name}.key"),
            &left.key_field.field_type,
            &right.key_field.field_type,
        )
        .or_else(|| {
            let (left, right) = (&left.value_field, &right.value_field);
            difference(
                &format!("{name}."),
                std::slice::from_ref(left),
                std::slice::from_ref(right),
            )
        }),
        _ => Some(format!(
            "column `{name}` is {declared} in the configuration and {found} in the table"
        )),
    }
}
