use std::sync::Arc;

use arrow_array::{ArrayRef, Date32Array, Int64Array, StringArray, StructArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Fields};
use iceberg::spec::{NestedField, StructType};

use super::*;

fn primitive(id: i32, name: &str, kind: PrimitiveType) -> NestedFieldRef {
    NestedField::optional(id, name, Type::Primitive(kind)).into()
}

fn partitioner(schema: &Schema, fields: &[(i32, &str, Transform)]) -> Result<Partitioner> {
    let mut builder = PartitionSpec::builder(schema.clone());
    for (id, name, transform) in fields {
        let source = schema.name_by_field_id(*id).unwrap();
        builder = builder.add_partition_field(source, *name, *transform).unwrap();
    }
    Partitioner::try_new(&builder.build().unwrap(), schema)
}

#[test]
fn rows_are_numbered_by_the_tuple_of_their_values() {
    let schema = Schema::builder()
        .with_fields([
            primitive(1, "kind", PrimitiveType::String),
            primitive(2, "at", PrimitiveType::Timestamp),
        ])
        .build()
        .unwrap();
    let mut partitioner = partitioner(
        &schema,
        &[(1, "kind", Transform::Identity), (2, "at_day", Transform::Day)],
    )
    .unwrap();
    let kinds = StringArray::from(vec![Some("a"), Some("a"), None, Some(""), Some("a"), Some("a")]);
    let at = TimestampMicrosecondArray::from(vec![
        Some(0),
        Some(86_399_999_999),
        Some(-1),
        None,
        Some(-1),
        Some(1),
    ]);
    let rows = RecordBatch::try_from_iter([
        ("kind", Arc::new(kinds) as ArrayRef),
        ("at", Arc::new(at) as ArrayRef),
    ])
    .unwrap();
    assert_eq!(partitioner.number_rows(&rows).unwrap(), [0, 0, 1, 2, 3, 0]);
    let folders: Vec<&str> = (0..4)
        .map(|number| partitioner.partition(number).unwrap().folder.as_str())
        .collect();
    assert_eq!(
        folders,
        [
            "kind=a/at_day=1970-01-01",
            "kind=null/at_day=1969-12-31",
            "kind=/at_day=null",
            "kind=a/at_day=1969-12-31",
        ]
    );
    let values = &partitioner.partition(1).unwrap().values;
    assert_eq!(values.fields(), [None, Some(Literal::int(-1))]);
}

#[test]
fn buckets_prefixes_and_nothing_are_the_specifications() {
    let schema = Schema::builder()
        .with_fields([
            primitive(1, "id", PrimitiveType::Long),
            primitive(2, "name", PrimitiveType::String),
        ])
        .build()
        .unwrap();
    let fields = [
        (1, "id_bucket", Transform::Bucket(16)),
        (2, "name_trunc", Transform::Truncate(2)),
        (2, "gone", Transform::Void),
        (1, "id_trunc", Transform::Truncate(10)),
    ];
    let mut partitioner = partitioner(&schema, &fields).unwrap();
    let ids = Int64Array::from(vec![Some(34), None, Some(-1)]);
    let names = StringArray::from(vec![Some("äöü"), Some("x"), None]);
    let rows = RecordBatch::try_from_iter([
        ("id", Arc::new(ids) as ArrayRef),
        ("name", Arc::new(names) as ArrayRef),
    ])
    .unwrap();
    assert_eq!(partitioner.number_rows(&rows).unwrap(), [0, 1, 2]);
    let first = partitioner.partition(0).unwrap();
    // The specification's hash of 34 is 2017239379.
    let bucket = Some(Literal::int(2_017_239_379 % 16));
    let expected = [bucket, Some(Literal::string("äö")), None, Some(Literal::long(30))];
    assert_eq!(first.values.fields(), expected);
    assert_eq!(
        first.folder,
        "id_bucket=3/name_trunc=%C3%A4%C3%B6/gone=null/id_trunc=30"
    );
    let second = &partitioner.partition(1).unwrap().values;
    assert_eq!(second.fields(), [None, Some(Literal::string("x")), None, None]);
    let third = &partitioner.partition(2).unwrap().values;
    assert_eq!(third.fields()[3], Some(Literal::long(-10)));
}

#[test]
fn a_field_of_a_null_struct_is_null() {
    let inner = StructType::new(vec![primitive(2, "day", PrimitiveType::Date)]);
    let schema = Schema::builder()
        .with_fields([NestedField::optional(1, "s", Type::Struct(inner)).into()])
        .build()
        .unwrap();
    let mut partitioner = partitioner(&schema, &[(2, "s.day", Transform::Identity)]).unwrap();
    let fields = Fields::from(vec![Field::new("day", DataType::Date32, true)]);
    let days: ArrayRef = Arc::new(Date32Array::from(vec![1, 1]));
    let array = StructArray::new(fields, vec![days], Some(vec![true, false].into()));
    let rows = RecordBatch::try_from_iter([("s", Arc::new(array) as ArrayRef)]).unwrap();
    assert_eq!(partitioner.number_rows(&rows).unwrap(), [0, 1]);
    assert_eq!(partitioner.partition(1).unwrap().folder, "s.day=null");
}

#[test]
fn what_cannot_be_computed_is_refused() {
    let schema = Schema::builder()
        .with_fields([
            primitive(1, "id", PrimitiveType::Long),
            primitive(2, "ratio", PrimitiveType::Double),
            primitive(3, "at", PrimitiveType::Timestamp),
            primitive(4, "clock", PrimitiveType::Time),
        ])
        .build()
        .unwrap();
    let refused = |id, transform| {
        let error = partitioner(&schema, &[(id, "p", transform)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TableMismatch);
        error.message().to_owned()
    };
    assert!(refused(3, Transform::Hour).contains("`hour` is not in this version"));
    assert!(refused(4, Transform::Bucket(16)).contains("`bucket[16]` of a time is not in this version"));
    assert!(refused(2, Transform::Identity).contains("float or double"));
    assert!(refusal(Transform::Day, &Type::Primitive(PrimitiveType::Long)).is_some());
    let mut ids = partitioner(&schema, &[(1, "id", Transform::Identity)]).unwrap();
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let wrong =
        RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
    assert_eq!(ids.number_rows(&wrong).unwrap(), [0]);
    let none = RecordBatch::try_from_iter([(
        "list",
        Arc::new(StructArray::from(vec![(
            Arc::new(Field::new("x", DataType::Utf8, true)),
            text,
        )])) as ArrayRef,
    )])
    .unwrap();
    assert!(ids.number_rows(&none).is_err());
}
