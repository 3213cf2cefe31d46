//! The columns of a table: declared, inferred from the first data, or the raw envelope.

use std::collections::BTreeSet;

use iceberg::spec::{ListType, MapType, NestedField, NestedFieldRef, Schema, SchemaRef, StructType, Type};

use super::column_type::{self, COLUMN_TYPE};
use super::key::{Forms, Key, Keys, List, Shape, Text, Words};
use super::reader::Field;
use crate::error::{Error, ErrorKind, Result};

pub(super) const SCHEMA: Key = Key::defaulted(
    "schema",
    Shape::Either(&Forms {
        accepted: COLUMNS,
        forms: &[
            Shape::Word(&Words {
                words: &[
                    (INFERRED, "from the first data"),
                    (ENVELOPE, "id, source, times, attributes and payload as they came"),
                ],
                later: &[],
            }),
            Shape::List(&List {
                accepted: COLUMNS,
                item: Shape::Map(&COLUMN),
            }),
        ],
    }),
    || INFERRED.to_owned(),
    "one of the words, or a list of columns",
);
pub(super) const NAME: Key = Key::required(
    "name",
    Shape::Text(&Text {
        accepted: "a column name without spaces around it, such as `name: id`",
        pattern: Some(|| format!(r"^(?!(?:{})$)\S(?:.*\S)?$", RESERVED_COLUMNS.join("|"))),
        any_scalar: true,
    }),
    "unique in the table, upper and lower case alike",
);
pub(super) const TYPE: Key = Key::required(
    "type",
    Shape::Text(&COLUMN_TYPE),
    "an Iceberg type, such as `long`, `timestamptz`, `decimal(12,2)` or `list<string>`",
);
pub(super) const REQUIRED: Key = Key::defaulted(
    "required",
    Shape::Boolean,
    || false.to_string(),
    "whether a record without a value is refused",
);
pub(super) const DOC: Key = Key::optional(
    "doc",
    Shape::Text(&Text {
        accepted: "a comment",
        pattern: None,
        any_scalar: true,
    }),
    "none",
    "a comment kept in the table",
);

const COLUMN: Keys = Keys {
    title: "column",
    accepted: "a column such as `{name: id, type: long}`",
    keys: &[&[NAME, TYPE, REQUIRED, DOC]],
    later: &[&["from"]],
    ..Keys::NONE
};

const INFERRED: &str = "inferred";
const ENVELOPE: &str = "envelope";
const COLUMNS: &str = "`inferred`, `envelope`, or a list of columns such as `- {name: id, type: long}`";

/// Columns that readers make up; a column of such a name could not be read back.
const RESERVED_COLUMNS: [&str; 10] = [
    "_file",
    "_pos",
    "_deleted",
    "_spec_id",
    "_partition",
    "_change_type",
    "_change_ordinal",
    "_commit_snapshot_id",
    "_row_id",
    "_last_updated_sequence_number",
];

/// What columns a table has. Key `schema`, default `inferred`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SchemaConfig {
    /// From the first data (`inferred`, or the key left out).
    #[default]
    Inferred,
    /// The raw envelope: id, source, published_at, ingested_at, attributes, payload.
    Envelope,
    /// As written. Field ids are unique; a catalog assigns its own when it creates the table.
    Declared(SchemaRef),
}

/// One declared column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Key `name`: the column's name. Unique in the table, upper and lower case alike.
    pub name: String,
    /// Key `type`: an Iceberg type string.
    pub data_type: Type,
    /// Key `required`, default `false`: whether a record without a value is refused.
    pub required: bool,
    /// Key `doc`, default none: a comment kept in the table.
    pub doc: Option<String>,
}

/// Reads an Iceberg type string such as `list<struct<sku: string, n: int>>`.
///
/// # Errors
/// [`ErrorKind::Config`], with what is wrong at which character.
pub fn parse_type(text: &str) -> Result<Type> {
    column_type::parse(text).map_err(|reason| {
        Error::new(
            ErrorKind::Config,
            format!("{reason}; write {}", COLUMN_TYPE.accepted),
        )
    })
}

/// Writes a type so that [`parse_type`] reads the same, but for field ids and docs.
pub fn type_text(data_type: &Type) -> String {
    column_type::text(data_type)
}

/// Builds the schema of the columns, with field ids from 1 on: the columns first, then what is nested in them.
///
/// # Errors
/// [`ErrorKind::Config`] when there is no column or two names are one (upper and lower case alike).
pub fn iceberg_schema(columns: &[Column]) -> Result<Schema> {
    build_schema(columns).map_err(|reason| Error::new(ErrorKind::Config, reason))
}

fn build_schema(columns: &[Column]) -> Result<Schema, String> {
    if columns.is_empty() {
        return Err("a schema needs at least one column".to_owned());
    }
    let mut names = BTreeSet::new();
    for column in columns {
        if !names.insert(column.name.to_lowercase()) {
            return Err(twice(&column.name));
        }
    }
    let fields: Vec<NestedFieldRef> = columns
        .iter()
        .map(|column| {
            let field = NestedField::new(0, &column.name, column.data_type.clone(), column.required);
            match &column.doc {
                Some(doc) => field.with_doc(doc).into(),
                None => field.into(),
            }
        })
        .collect();
    let fields = fresh_fields(&fields, &mut 0);
    let schema = Schema::builder().with_fields(fields).build();
    // Names joined with dots must be unique too: the column `a.b` beside a field `b` of the struct `a`.
    schema.map_err(|error| format!("the columns do not make a schema: {}", error.message()))
}

fn twice(name: &str) -> String {
    format!("the column `{name}` stands twice (upper and lower case are alike)")
}

/// The type with new ids after `last`. The fields of one level get theirs before those within, as Java numbers them.
pub(crate) fn with_fresh_ids(kind: &Type, last: &mut i32) -> Type {
    match kind {
        Type::Primitive(_) => kind.clone(),
        Type::Struct(inner) => Type::Struct(StructType::new(fresh_fields(inner.fields(), last))),
        Type::List(list) => {
            let element = fresh(&list.element_field, last);
            Type::List(ListType::new(deeper(element, last)))
        }
        Type::Map(map) => {
            let (key, value) = (fresh(&map.key_field, last), fresh(&map.value_field, last));
            let key = deeper(key, last);
            Type::Map(MapType::new(key, deeper(value, last)))
        }
    }
}

fn fresh_fields(fields: &[NestedFieldRef], last: &mut i32) -> Vec<NestedFieldRef> {
    let fields: Vec<NestedField> = fields.iter().map(|field| fresh(field, last)).collect();
    fields.into_iter().map(|field| deeper(field, last)).collect()
}

fn fresh(field: &NestedField, last: &mut i32) -> NestedField {
    *last = last.saturating_add(1);
    NestedField {
        id: *last,
        ..field.clone()
    }
}

fn deeper(mut field: NestedField, last: &mut i32) -> NestedFieldRef {
    *field.field_type = with_fresh_ids(&field.field_type, last);
    field.into()
}

/// Reads the key `schema`.
pub(super) fn read(field: &Field<'_>) -> Option<SchemaConfig> {
    if !field.is_list() {
        return field.word().map(|word| match word {
            ENVELOPE => SchemaConfig::Envelope,
            _ => SchemaConfig::Inferred,
        });
    }
    let mut columns = Vec::new();
    let mut names = BTreeSet::new();
    let mut all_read = true;
    for item in field.items()? {
        match read_column(&item) {
            Some(column) if !names.insert(column.name.to_lowercase()) => item.problem(twice(&column.name)),
            Some(column) => columns.push(column),
            None => all_read = false,
        }
    }
    if !all_read {
        return None;
    }
    match build_schema(&columns) {
        Ok(schema) => Some(SchemaConfig::Declared(schema.into())),
        Err(reason) => {
            field.problem(reason);
            None
        }
    }
}

fn read_column(item: &Field<'_>) -> Option<Column> {
    let mut keys = item.mapping()?;
    let name = keys.key(&NAME).and_then(|field| {
        field.parse(|text| {
            if text.is_empty() || text.trim() != text || text.chars().any(char::is_control) {
                return Err("this is not a column name".to_owned());
            }
            if RESERVED_COLUMNS.contains(&text.to_lowercase().as_str()) {
                return Err(format!("`{text}` is a column that Iceberg readers make up"));
            }
            Ok(text.to_owned())
        })
    });
    let cut = keys.cut_text(&TYPE);
    let data_type = keys.key(&TYPE).and_then(|field| match cut {
        Some(whole) => {
            field.problem(format!(
                "inside `{{…}}`, YAML ends the text at its comma; quote it: `type: \"{whole}\"`"
            ));
            None
        }
        None => field.parse(column_type::parse),
    });
    let required = keys.key(&REQUIRED).map(|field| field.boolean());
    let doc = keys.key(&DOC).map(|field| field.text());
    keys.finish();
    Some(Column {
        name: name?,
        data_type: data_type?,
        required: required.unwrap_or(Some(false))?,
        doc: doc.unwrap_or(Some(String::new())).filter(|doc| !doc.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, data_type: &str) -> Column {
        Column {
            name: name.to_owned(),
            data_type: parse_type(data_type).unwrap(),
            required: false,
            doc: None,
        }
    }

    #[test]
    fn field_ids_are_unique_and_columns_come_first() {
        let schema = iceberg_schema(&[
            column("id", "long"),
            column(
                "lines",
                "list<struct<sku: string, tags: map<string, struct<a: int, b: int>>>>",
            ),
            column("at", "timestamptz"),
        ])
        .unwrap();
        let top: Vec<i32> = schema.as_struct().fields().iter().map(|field| field.id).collect();
        assert_eq!(top, [1, 2, 3]);
        assert_eq!(schema.highest_field_id(), 10);
        assert_eq!(schema.field_id_to_fields().len(), 10);
        assert_eq!(schema.field_by_name("lines.element.tags.value.b").unwrap().id, 10);
    }

    #[test]
    fn names_that_are_one_are_refused() {
        for columns in [
            vec![],
            vec![column("id", "int"), column("ID", "int")],
            vec![column("a", "struct<b: int>"), column("a.b", "int")],
        ] {
            assert_eq!(iceberg_schema(&columns).unwrap_err().kind(), ErrorKind::Config);
        }
    }
}
