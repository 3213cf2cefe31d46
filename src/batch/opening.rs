//! Opening a table: made on first use, checked against its configuration, given its decoder.

use std::collections::BTreeMap;
use std::sync::Arc;

use iceberg::spec::{NestedFieldRef, Schema, Transform, Type};
use iceberg::table::Table;
use iceberg::{TableCreation, TableIdent};
use tokio::time::Duration;

use crate::catalog::Catalog;
use crate::commit::check_format;
use crate::config::{PartitionBy, SchemaConfig, TableConfig, partition_spec};
use crate::decode::{Decoder, EnvelopeDecoder, JsonDecoder, Strings};
use crate::error::{Error, ErrorKind, Result};
use crate::write::{check_properties, spec_refusal};

/// What the batch stage needs of a table's configuration.
#[derive(Debug)]
pub(crate) struct TableSettings {
    pub(crate) schema: SchemaConfig,
    pub(crate) partition_by: Vec<PartitionBy>,
    pub(crate) properties: BTreeMap<String, String>,
    pub(crate) commit_interval: Duration,
    pub(crate) max_bytes: usize,
    pub(crate) max_rows: usize,
    pub(crate) retention: Duration,
}

impl From<&TableConfig> for TableSettings {
    fn from(config: &TableConfig) -> Self {
        Self {
            schema: config.schema.clone(),
            partition_by: config.partition_by.clone(),
            properties: config.properties.clone(),
            commit_interval: config.batch.commit_interval,
            max_bytes: usize::try_from(config.batch.max_bytes).unwrap_or(usize::MAX),
            max_rows: usize::try_from(config.batch.max_rows).unwrap_or(usize::MAX),
            retention: config.ledger.retention,
        }
    }
}

/// Loads the table, or makes it if its schema is known; `None` when it does not exist and its schema is to be inferred.
///
/// # Errors
/// [`ErrorKind::TableMismatch`] when the table is not the one that the configuration describes.
pub(crate) async fn open(
    catalog: &Arc<dyn Catalog>,
    ident: &TableIdent,
    settings: &TableSettings,
) -> Result<Option<(Table, Decoder)>> {
    let table = match (catalog.find_table(ident).await?, declared(settings)?) {
        (Some(table), _) => table,
        (None, Some(schema)) => create(catalog, ident, settings, schema).await?,
        (None, None) => return Ok(None),
    };
    let decoder = fits(ident, settings, &table)?;
    Ok(Some((table, decoder)))
}

/// Checks that a table is the one that the configuration describes; gives what decodes for it.
///
/// # Errors
/// [`ErrorKind::TableMismatch`] when it is not.
pub(crate) fn fits(ident: &TableIdent, settings: &TableSettings, table: &Table) -> Result<Decoder> {
    if let Some(schema) = declared(settings)? {
        check_schema(ident, &schema, table)?;
    }
    check_table(ident, &settings.partition_by, table)?;
    decoder(settings, table.current_schema_ref())
}

/// The schema that the configuration says; none when it is to be inferred.
fn declared(settings: &TableSettings) -> Result<Option<Schema>> {
    Ok(match &settings.schema {
        SchemaConfig::Declared(schema) => Some(schema.as_ref().clone()),
        SchemaConfig::Envelope => Some(EnvelopeDecoder::schema()?),
        SchemaConfig::Inferred => None,
    })
}

/// Makes the table of an inferred schema. Without a schema there is no table, and a decoder that only rejects.
pub(crate) async fn create_inferred(
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
    check_table(ident, &settings.partition_by, &table)?;
    let decoder = decoder(settings, table.current_schema_ref())?;
    Ok((Some(table), decoder))
}

/// A fresh decoder for the table's current schema.
pub(crate) fn decoder(settings: &TableSettings, schema: iceberg::spec::SchemaRef) -> Result<Decoder> {
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
    let spec = partition_spec(&settings.partition_by, &schema).map_err(|reason| {
        Error::new(
            ErrorKind::TableMismatch,
            format!("The table cannot be partitioned as `partition_by` says: {reason}."),
        )
        .with("table", ident)
    })?;
    let creation = TableCreation::builder()
        .name(ident.name().to_owned())
        .partition_spec(spec)
        .schema(schema)
        .properties(settings.properties.clone())
        .build();
    match catalog.create_table(ident.namespace(), creation).await {
        Ok(table) => {
            tracing::info!(table.ident = %ident, "Created the table.");
            Ok(table)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => match catalog.load_table(ident).await {
            Err(none) if none.kind() == ErrorKind::NotFound => Err(no_table(ident, error)),
            loaded => loaded,
        },
        Err(error) => Err(error),
    }
}

/// The name is taken, and there is no table of it: another table would not change that.
fn no_table(ident: &TableIdent, taken: Error) -> Error {
    let message = "Something that is no table, a view perhaps, has the table's name: rename one of them.";
    Error::new(ErrorKind::TableMismatch, message)
        .with("table", ident)
        .with_source(taken)
}

/// Says how the table's partitions differ from the configured ones, which say nothing when there are none.
fn partition_difference(partition_by: &[PartitionBy], table: &Table) -> Option<String> {
    let (schema, spec) = (
        table.metadata().current_schema(),
        table.metadata().default_partition_spec(),
    );
    let found: Vec<PartitionBy> = spec
        .fields()
        .iter()
        // Left over from fields that were dropped in version 1.
        .filter(|field| field.transform != Transform::Void)
        .map(|field| PartitionBy {
            transform: field.transform,
            column: schema
                .name_by_field_id(field.source_id)
                .unwrap_or(&field.name)
                .to_owned(),
        })
        .collect();
    let list = |items: &[PartitionBy]| {
        let texts: Vec<String> = items.iter().map(PartitionBy::text).collect();
        format!("[{}]", texts.join(", "))
    };
    (!partition_by.is_empty() && partition_by != found).then(|| {
        format!(
            "it is partitioned by {}, and `partition_by` says {}",
            list(&found),
            list(partition_by)
        )
    })
}

/// Refuses tables that this version cannot append to, or that are partitioned in another way than configured.
fn check_table(ident: &TableIdent, partition_by: &[PartitionBy], table: &Table) -> Result<()> {
    let refuse = |rule: &str| {
        Err(Error::new(
            ErrorKind::TableMismatch,
            format!("This version cannot write the table: {rule}."),
        )
        .with("table", ident))
    };
    check_format(table)?;
    let metadata = table.metadata();
    if let Some(reason) = spec_refusal(metadata.default_partition_spec(), metadata.current_schema()) {
        return refuse(&reason);
    }
    if let Some(difference) = partition_difference(partition_by, table) {
        return Err(Error::new(
            ErrorKind::TableMismatch,
            format!(
                "The table is not the configured one: {difference}. Change `partition_by`, or the table."
            ),
        )
        .with("table", ident));
    }
    let properties = metadata.properties().iter();
    check_properties(properties.map(|(name, value)| (name.as_str(), value.as_str()))).map_err(|error| {
        let message = format!("{} Set them right in the table.", error.message());
        Error::new(ErrorKind::TableMismatch, message).with("table", ident)
    })
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

#[cfg(test)]
mod tests {
    use iceberg::spec::{Transform, UnboundPartitionSpec};

    use super::*;
    use crate::catalog::MemoryCatalog;
    use crate::config::{BatchConfig, Column, iceberg_schema, parse_type};
    use crate::storage::Store;

    fn settings(partition_by: &[(Transform, &str)]) -> TableSettings {
        let columns = [("id", "long"), ("at", "timestamptz")].map(|(name, kind)| Column {
            name: name.to_owned(),
            data_type: parse_type(kind).unwrap(),
            required: false,
            doc: None,
        });
        let batch = BatchConfig::default();
        TableSettings {
            schema: SchemaConfig::Declared(iceberg_schema(&columns).unwrap().into()),
            partition_by: partition_by
                .iter()
                .map(|(transform, column)| PartitionBy {
                    transform: *transform,
                    column: (*column).to_owned(),
                })
                .collect(),
            properties: BTreeMap::new(),
            commit_interval: batch.commit_interval,
            max_bytes: 1,
            max_rows: 1,
            retention: crate::ledger::DEFAULT_RETENTION,
        }
    }

    async fn refused(catalog: &Arc<dyn Catalog>, ident: &TableIdent, settings: &TableSettings) -> Error {
        open(catalog, ident, settings).await.map(drop).unwrap_err()
    }

    #[tokio::test]
    async fn a_table_is_partitioned_as_configured_or_refused() {
        let store = Store::open("memory:///w").unwrap();
        let catalog: Arc<dyn Catalog> = Arc::new(MemoryCatalog::new(store));
        let ident = TableIdent::from_strs(["a", "b"]).unwrap();
        let by_day = settings(&[(Transform::Day, "at"), (Transform::Identity, "id")]);
        let (table, _) = open(&catalog, &ident, &by_day).await.unwrap().unwrap();
        let fields = table.metadata().default_partition_spec().fields().to_vec();
        let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["at_day", "id"]);
        for same in [&by_day, &settings(&[])] {
            open(&catalog, &ident, same).await.unwrap();
        }
        let error = refused(&catalog, &ident, &settings(&[(Transform::Identity, "id")])).await;
        assert_eq!(error.kind(), ErrorKind::TableMismatch);
        assert!(
            error
                .message()
                .contains("it is partitioned by [day(at), id], and `partition_by` says [id]")
        );
        let other = TableIdent::from_strs(["a", "c"]).unwrap();
        let error = refused(&catalog, &other, &settings(&[(Transform::Identity, "gone")])).await;
        assert!(error.message().contains("there is no column `gone`"));
    }

    #[tokio::test]
    async fn tables_with_other_transforms_and_wrong_properties_are_refused() {
        let store = Store::open("memory:///w").unwrap();
        let catalog: Arc<dyn Catalog> = Arc::new(MemoryCatalog::new(store));
        let SchemaConfig::Declared(schema) = settings(&[]).schema else {
            panic!("declared")
        };
        let spec = UnboundPartitionSpec::builder()
            .add_partition_field(2, "at_hour", Transform::Hour)
            .unwrap();
        let ident = TableIdent::from_strs(["a", "hourly"]).unwrap();
        let creation = TableCreation::builder().schema(schema.as_ref().clone());
        let hourly = creation
            .clone()
            .name("hourly".to_owned())
            .partition_spec(spec.build())
            .build();
        catalog.create_table(ident.namespace(), hourly).await.unwrap();
        let error = refused(&catalog, &ident, &settings(&[])).await;
        assert_eq!(error.kind(), ErrorKind::TableMismatch);
        assert!(
            error
                .message()
                .contains("of the partition field `at_hour`, `hour` is not in this version")
        );
        let ident = TableIdent::from_strs(["a", "wrong"]).unwrap();
        let property = ("write.parquet.page-row-limit".to_owned(), "many".to_owned());
        let wrong = creation.name("wrong".to_owned()).properties([property]).build();
        catalog.create_table(ident.namespace(), wrong).await.unwrap();
        let error = refused(&catalog, &ident, &settings(&[])).await;
        assert!(
            error
                .message()
                .contains("`write.parquet.page-row-limit` takes a whole number")
        );
    }
}
