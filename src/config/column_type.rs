//! Iceberg type strings: `long`, `decimal(12,2)`, `list<struct<sku: string, n: int>>`.

use std::collections::BTreeSet;

use iceberg::spec::{ListType, MapType, NestedField, PrimitiveType, StructType, Type};

use super::key::Text;
use super::reader::nearest;

/// An Iceberg type. The pattern does not look into nested types.
pub(super) const COLUMN_TYPE: Text = Text {
    accepted: "boolean, int, long, float, double, decimal(p,s), date, time, timestamp, timestamptz, string, uuid, fixed[n], \
               binary, list<T>, map<K,V> or struct<name: T, …>",
    pattern: Some(|| {
        let primitives = PRIMITIVES.map(|(name, _)| name).join("|");
        let decimal = r"decimal\s*\(\s*[0-9]+\s*,\s*[0-9]+\s*\)";
        let fixed = r"fixed\s*(?:\(\s*[0-9]+\s*\)|\[\s*[0-9]+\s*\])";
        format!(r"^\s*(?:{primitives}|{decimal}|{fixed}|(?:list|map|struct)\s*<.+>)\s*$")
    }),
    any_scalar: false,
};

/// Types within types.
const MAX_DEPTH: usize = 64;
const MAX_DECIMAL_PRECISION: u32 = 38;

const PRIMITIVES: [(&str, PrimitiveType); 12] = [
    ("boolean", PrimitiveType::Boolean),
    ("int", PrimitiveType::Int),
    ("long", PrimitiveType::Long),
    ("float", PrimitiveType::Float),
    ("double", PrimitiveType::Double),
    ("date", PrimitiveType::Date),
    ("time", PrimitiveType::Time),
    ("timestamp", PrimitiveType::Timestamp),
    ("timestamptz", PrimitiveType::Timestamptz),
    ("string", PrimitiveType::String),
    ("uuid", PrimitiveType::Uuid),
    ("binary", PrimitiveType::Binary),
];

/// Names of other systems, and ours for the same thing.
const ALIASES: [(&str, &[&str]); 12] = [
    ("boolean", &["bool"]),
    (
        "int",
        &[
            "integer", "int32", "int16", "int8", "int4", "smallint", "tinyint", "short", "byte",
        ],
    ),
    ("long", &["bigint", "int64", "uint32"]),
    ("float", &["float32", "real", "float4"]),
    ("double", &["float64", "float8"]),
    ("timestamp", &["datetime", "timestamp_ntz", "timestampntz"]),
    ("timestamptz", &["timestamp_tz", "timestamp_ltz", "timestampltz"]),
    ("string", &["varchar", "text", "char", "str", "utf8", "json"]),
    ("binary", &["bytes", "bytea", "blob", "varbinary"]),
    ("decimal(p,s)", &["numeric", "number", "bignumeric"]),
    ("list<T>", &["array", "repeated"]),
    ("struct<name: T>", &["record", "row", "object", "message"]),
];

/// Types of table format version 3, and what version 2 has instead.
const VERSION_3: [(&str, &str); 6] = [
    ("timestamp_ns", "timestamp"),
    ("timestamptz_ns", "timestamptz"),
    ("variant", "string"),
    ("geometry", "binary"),
    ("geography", "binary"),
    ("unknown", "string"),
];

/// Reads a type. Nested fields get ids from 1 on, unique within the type.
///
/// # Errors
/// A clause that says what is wrong and at which character; [`COLUMN_TYPE`] says what is right.
pub(super) fn parse(text: &str) -> Result<Type, String> {
    let mut parser = Parser {
        text,
        rest: text,
        last_id: 0,
    };
    let parsed = parser.any_type(1)?;
    parser.skip_space();
    if parser.rest.is_empty() {
        Ok(parsed)
    } else {
        parser.fail("the type has ended")
    }
}

/// Writes a type so that [`parse`] reads the same.
pub(super) fn text(data_type: &Type) -> String {
    let required = |required: bool| if required { " required" } else { "" };
    match data_type {
        Type::Primitive(PrimitiveType::Decimal { precision, scale }) => {
            format!("decimal({precision},{scale})")
        }
        Type::Primitive(PrimitiveType::Fixed(length)) => format!("fixed[{length}]"),
        Type::Primitive(PrimitiveType::TimestampNs) => "timestamp_ns".to_owned(),
        Type::Primitive(PrimitiveType::TimestamptzNs) => "timestamptz_ns".to_owned(),
        Type::Primitive(primitive) => {
            let name = PRIMITIVES.iter().find(|(_, known)| known == primitive);
            name.map_or_else(|| primitive.to_string(), |(name, _)| (*name).to_owned())
        }
        Type::List(list) => {
            let element = &list.element_field;
            format!(
                "list<{}{}>",
                text(&element.field_type),
                required(element.required)
            )
        }
        Type::Map(map) => {
            let (key, value) = (&map.key_field, &map.value_field);
            format!(
                "map<{}, {}{}>",
                text(&key.field_type),
                text(&value.field_type),
                required(value.required)
            )
        }
        Type::Struct(fields) => {
            let fields = fields.fields().iter().map(|field| {
                format!(
                    "{}: {}{}",
                    field.name,
                    text(&field.field_type),
                    required(field.required)
                )
            });
            format!("struct<{}>", fields.collect::<Vec<_>>().join(", "))
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
    last_id: i32,
}

impl<'a> Parser<'a> {
    fn any_type(&mut self, depth: usize) -> Result<Type, String> {
        if depth > MAX_DEPTH {
            return Err(format!("types nest deeper than {MAX_DEPTH}"));
        }
        self.skip_space();
        let before = self.rest;
        let word = self.take_while(|c| c.is_alphanumeric() || c == '_');
        if let Some((_, primitive)) = PRIMITIVES.iter().find(|(name, _)| *name == word) {
            return Ok(Type::Primitive(primitive.clone()));
        }
        match word {
            "decimal" => self.decimal(),
            "fixed" => self.fixed(),
            "list" => {
                self.expect('<')?;
                let (element, required) = self.nested_type(depth)?;
                self.expect('>')?;
                let id = self.next_id();
                Ok(Type::List(ListType::new(
                    NestedField::list_element(id, element, required).into(),
                )))
            }
            "map" => {
                self.expect('<')?;
                let key = self.any_type(depth + 1)?;
                self.expect(',')?;
                let (value, required) = self.nested_type(depth)?;
                self.expect('>')?;
                let key = NestedField::map_key_element(self.next_id(), key);
                let value = NestedField::map_value_element(self.next_id(), value, required);
                Ok(Type::Map(MapType::new(key.into(), value.into())))
            }
            "struct" => self.fields(depth),
            "" => {
                self.rest = before;
                self.fail("a type is missing")
            }
            _ => Err(unknown_type(word)),
        }
    }

    fn nested_type(&mut self, depth: usize) -> Result<(Type, bool), String> {
        let parsed = self.any_type(depth + 1)?;
        self.skip_space();
        let before = self.rest;
        let required = match self.take_while(char::is_alphanumeric) {
            "required" => true,
            _ => {
                self.rest = before;
                false
            }
        };
        Ok((parsed, required))
    }

    fn fields(&mut self, depth: usize) -> Result<Type, String> {
        self.expect('<')?;
        let mut fields = Vec::new();
        let mut names = BTreeSet::new();
        loop {
            let name = self.take_while(|c| !":<>,".contains(c)).trim();
            if name.is_empty() {
                return self.fail("a field name is missing; a struct is `struct<name: type, …>`");
            }
            if !names.insert(name.to_lowercase()) {
                return self.fail(&format!(
                    "the field `{name}` stands twice (upper and lower case are alike)"
                ));
            }
            self.expect(':')?;
            let (field_type, required) = self.nested_type(depth)?;
            fields.push(NestedField::new(self.next_id(), name, field_type, required).into());
            self.skip_space();
            match self.rest.strip_prefix(',') {
                Some(rest) => self.rest = rest,
                None => break,
            }
        }
        self.expect('>')?;
        Ok(Type::Struct(StructType::new(fields)))
    }

    fn decimal(&mut self) -> Result<Type, String> {
        self.expect('(')?;
        let precision = self.number()?;
        self.expect(',')?;
        let scale = self.number()?;
        self.expect(')')?;
        if precision == 0 || precision > MAX_DECIMAL_PRECISION {
            return Err(format!(
                "the precision of a decimal is 1 to {MAX_DECIMAL_PRECISION}, not {precision}"
            ));
        }
        if scale > precision {
            return Err(format!(
                "the scale {scale} of the decimal is larger than its precision {precision}"
            ));
        }
        Ok(Type::Primitive(PrimitiveType::Decimal { precision, scale }))
    }

    fn fixed(&mut self) -> Result<Type, String> {
        self.skip_space();
        let (open, close) = if self.rest.starts_with('(') {
            ('(', ')')
        } else {
            ('[', ']')
        };
        self.expect(open)?;
        let length = self.number()?;
        self.expect(close)?;
        // Arrow counts the bytes of a fixed-size value in an `i32`.
        if length == 0 || i32::try_from(length).is_err() {
            return Err(format!(
                "the length of a fixed type is 1 to {} bytes, not {length}",
                i32::MAX
            ));
        }
        Ok(Type::Primitive(PrimitiveType::Fixed(u64::from(length))))
    }

    fn number(&mut self) -> Result<u32, String> {
        self.skip_space();
        let before = self.rest;
        let digits = self.take_while(|c| c.is_ascii_digit());
        match digits.parse() {
            Ok(number) => Ok(number),
            Err(_) => {
                self.rest = before;
                self.fail("a whole number is expected")
            }
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        self.skip_space();
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => self.fail(&format!("`{wanted}` is expected")),
        }
    }

    fn fail<T>(&self, what: &str) -> Result<T, String> {
        let place = self.text.chars().count() - self.rest.chars().count() + 1;
        Err(format!("{what} at character {place} of `{}`", self.text))
    }

    fn next_id(&mut self) -> i32 {
        self.last_id = self.last_id.saturating_add(1);
        self.last_id
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }
}

fn unknown_type(word: &str) -> String {
    if let Some((_, instead)) = VERSION_3.iter().find(|(name, _)| *name == word) {
        return format!(
            "`{word}` needs table format version 3, and landfast writes version 2 (use `{instead}`)"
        );
    }
    let lower = word.to_lowercase();
    let alias = ALIASES
        .iter()
        .find(|(_, aliases)| aliases.contains(&lower.as_str()))
        .map(|(name, _)| *name);
    let names = PRIMITIVES.iter().map(|(name, _)| *name);
    match alias.or_else(|| nearest(word, names.chain(["decimal", "fixed", "list", "map", "struct"]))) {
        Some(name) => format!("`{word}` is not an Iceberg type (did you mean `{name}`?)"),
        None => format!("`{word}` is not an Iceberg type"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_type_is_read_and_written_back() {
        for name in PRIMITIVES.iter().map(|(name, _)| *name) {
            assert_eq!(text(&parse(name).unwrap()), name);
        }
        for (written, canonical) in [
            ("decimal(12,2)", "decimal(12,2)"),
            (" decimal ( 38 , 38 ) ", "decimal(38,38)"),
            ("fixed[16]", "fixed[16]"),
            ("fixed(16)", "fixed[16]"),
            ("list<string>", "list<string>"),
            ("list<long required>", "list<long required>"),
            ("map<string,list<int>>", "map<string, list<int>>"),
            (
                "map<struct<a: int>,date required>",
                "map<struct<a: int>, date required>",
            ),
            (
                "struct<sku:string required,unit price : decimal(9,4),at: map<string,struct<x: list<uuid>>>>",
                "struct<sku: string required, unit price: decimal(9,4), at: map<string, struct<x: list<uuid>>>>",
            ),
        ] {
            let parsed = parse(written).unwrap();
            assert_eq!(text(&parsed), canonical);
            assert_eq!(parse(canonical).unwrap(), parsed);
        }
    }

    #[test]
    fn wrong_types_say_where_and_what_was_meant() {
        for (written, word) in [
            ("bigint", "did you mean `long`"),
            ("Integer", "did you mean `int`"),
            ("list<varchar>", "did you mean `string`"),
            ("bool", "did you mean `boolean`"),
            ("datetime", "did you mean `timestamp`"),
            ("LONG", "did you mean `long`"),
            ("strnig", "did you mean `string`"),
            ("numeric(3,2)", "did you mean `decimal(p,s)`"),
            ("array<int>", "did you mean `list<T>`"),
            ("wibble", "`wibble` is not an Iceberg type"),
            ("timestamp_ns", "format version 3"),
            ("list<timestamptz_ns>", "use `timestamptz`"),
            ("", "a type is missing at character 1"),
            ("list<>", "a type is missing at character 6"),
            ("list<int", "`>` is expected at character 9"),
            ("list", "`<` is expected at character 5"),
            ("long long", "the type has ended at character 6"),
            ("map<int>", "`,` is expected at character 8"),
            ("struct<>", "a field name is missing"),
            ("struct<a int>", "`:` is expected"),
            ("struct<a: int, A: int>", "`A` stands twice"),
            ("decimal(39,2)", "1 to 38, not 39"),
            ("decimal(0,0)", "1 to 38, not 0"),
            ("decimal(4,5)", "larger than its precision"),
            ("decimal(4)", "`,` is expected"),
            ("decimal(-4,1)", "a whole number is expected at character 9"),
            ("fixed[0]", "not 0"),
            ("fixed[99999999999]", "a whole number is expected"),
            ("fixed[9)", "`]` is expected"),
        ] {
            let error = parse(written).unwrap_err();
            assert!(error.contains(word), "{written}: {error}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| format!("{}int{}", "list<".repeat(depth), ">".repeat(depth));
        assert!(parse(&nested(MAX_DEPTH - 1)).is_ok());
        assert!(parse(&nested(MAX_DEPTH)).unwrap_err().contains("deeper than 64"));
        assert!(
            parse(&"struct<a:".repeat(100_000))
                .unwrap_err()
                .contains("deeper than 64")
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_type_or_an_error(written in "(list|map|struct|decimal|fixed|int|[<>(),:\\[\\] a0é]){0,12}") {
            if let Ok(parsed) = parse(&written) {
                prop_assert_eq!(parse(&text(&parsed)), Ok(parsed));
            }
        }
    }
}
