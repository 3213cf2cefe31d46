//! Conditions on a record: which of a payload's records a table takes.

use super::files::BUCKET;
use super::key::{Key, Shape, Text};
use super::mapping::Mapping;
use super::reader::Field;

pub(super) const FIELD: Key = Key::optional(
    "field",
    Shape::Text(&NAME),
    "any",
    "a field at the top of each record; with it the records of one payload may go to several tables",
);
pub(super) const EQUALS: Key = Key::optional(
    "equals",
    Shape::Text(&VALUE),
    "required with `field`",
    "the field's value: a text, a number or a boolean, as it is written",
);

const NAME: Text = Text {
    accepted: "the name of a field, such as `kind`",
    pattern: None,
    any_scalar: false,
};
const VALUE: Text = Text {
    accepted: "the field's value as plain text, such as `order`",
    pattern: None,
    any_scalar: true,
};

/// A condition on a record: a field at its top with this value. Keys `field` and `equals`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldMatch {
    /// Key `field`, required: the field's name.
    pub field: String,
    /// Key `equals`, required: a string with this content, or a number or boolean written like this.
    pub equals: String,
}

/// Reads the condition on a record. `Err` when it is wrong.
pub(super) fn read_field_match(keys: &mut Mapping<'_>) -> Result<Option<FieldMatch>, ()> {
    let of_files = keys.has_any(&[BUCKET.name]);
    let alone = |field: &Field<'_>, name: &str, other: &str| {
        field.key_problem(format!("`{name}` goes with `{other}`; write both"));
        Err(())
    };
    match (keys.key(&FIELD), keys.key(&EQUALS)) {
        (None, None) => Ok(None),
        (Some(field), None) => alone(&field, FIELD.name, EQUALS.name),
        (None, Some(equals)) => alone(&equals, EQUALS.name, FIELD.name),
        (Some(field), Some(_)) if of_files => {
            field.key_problem("a file goes to one table; write conditions on its records for messages only");
            Err(())
        }
        (Some(field), Some(equals)) => Ok(Some(FieldMatch {
            field: field.text().ok_or(())?,
            equals: equals.text().ok_or(())?,
        })),
    }
}
