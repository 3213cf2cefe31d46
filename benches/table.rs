//! What the measurements of commits share: a table of two columns, its rows, and their deliveries.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use iceberg::spec::{NestedField, PrimitiveType, Schema, Type};
use iceberg::table::Table;
use iceberg::{NamespaceIdent, TableCreation};
use landfast::catalog::Catalog;
use landfast::commit::Head;
use landfast::ledger::{Entry, Space};
use landfast::random::Random;
use landfast::write::{PendingFiles, arrow_schema, write_data_files};

/// Makes a table of `id` and `name`, with its namespace.
pub async fn create(catalog: &dyn Catalog, namespace: &NamespaceIdent, name: &str) -> Table {
    catalog.create_namespace(namespace).await.expect("a namespace");
    let fields = [
        NestedField::optional(1, "id", Type::Primitive(PrimitiveType::Long)),
        NestedField::optional(2, "name", Type::Primitive(PrimitiveType::String)),
    ];
    let schema = Schema::builder()
        .with_fields(fields.map(Arc::new))
        .build()
        .expect("a schema");
    let creation = TableCreation::builder()
        .name(name.to_owned())
        .schema(schema)
        .build();
    catalog.create_table(namespace, creation).await.expect("a table")
}

/// A data file of these ids, on its way.
pub async fn files(head: &Head, ids: &[i64], random: &Arc<Random>) -> PendingFiles {
    let names: StringArray = ids.iter().map(|id| Some(format!("name {id}"))).collect();
    let schema = arrow_schema(head.table().metadata().current_schema()).expect("a schema");
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(ids.to_vec())), Arc::new(names)];
    let rows = RecordBatch::try_new(schema, columns).expect("rows");
    write_data_files(head.table(), vec![rows], random)
        .await
        .expect("files")
}

/// A message for each id, published when `published_at` says, in seconds. Its hash is a function of the id alone.
pub fn deliveries(ids: &[i64], published_at: impl Fn(i64) -> i64) -> Vec<Entry> {
    let delivery = |id: &i64| Entry {
        space: Space::Message,
        index_time: published_at(*id),
        id: hash(id.unsigned_abs()),
        value: Bytes::new(),
    };
    ids.iter().map(delivery).collect()
}

/// Spreads a number over 128 bits as a hash would; two rounds of the finaliser of MurmurHash3.
fn hash(number: u64) -> u128 {
    let mix = |mut bits: u64| {
        bits = (bits ^ (bits >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        bits = (bits ^ (bits >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        bits ^ (bits >> 33)
    };
    let high = mix(number.wrapping_add(0x9e37_79b9_7f4a_7c15));
    (u128::from(high) << 64) | u128::from(mix(high ^ number))
}
