//! The part of a table that an overwrite replaces, and whether a file lies in it, whatever partition spec the file has.

use iceberg::spec::{
    Datum, Literal, PartitionField, PartitionSpec, PrimitiveLiteral, PrimitiveType, Struct, Transform, Type,
};
use iceberg::table::Table;
use iceberg::transform::create_transform_function;

use crate::error::{Error, ErrorKind, Result};

/// The part of a table that an overwrite replaces: all of it, or partitions.
#[derive(Debug, Clone)]
pub struct Part {
    /// A row is in the part when all conditions of one of these hold; none is the whole table.
    partitions: Option<Vec<Vec<Condition>>>,
}

/// `transform(column) = value`.
#[derive(Debug, Clone)]
struct Condition {
    source_id: i32,
    /// The column's type.
    kind: PrimitiveType,
    transform: Transform,
    value: Option<Literal>,
}

/// How many of a file's rows are in a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    All,
    /// Its partition values do not say.
    Unknown,
    None,
}

impl Part {
    /// All of the table, whatever its partitions.
    pub fn table() -> Self {
        Self { partitions: None }
    }

    /// The partitions with these values of fields of the table's partition spec; a field that is not named may have any
    /// value.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] for a name that the spec does not have, and where nothing is named.
    pub fn partitions(table: &Table, partitions: &[Vec<(&str, Option<Literal>)>]) -> Result<Self> {
        let condition = |(name, value): &(&str, Option<Literal>)| {
            condition(table, name, value.clone()).ok_or_else(|| {
                let message = "The table has no partition field of the name and type that the filter says.";
                Error::new(ErrorKind::Rejected, message)
                    .with("table", table.identifier())
                    .with("field", name)
            })
        };
        let all = |values: &Vec<_>| values.iter().map(condition).collect::<Result<Vec<_>>>();
        if partitions.is_empty() || partitions.iter().any(Vec::is_empty) {
            let message = "A partition filter names no field; to replace the whole table say so.";
            return Err(Error::new(ErrorKind::Rejected, message).with("table", table.identifier()));
        }
        Ok(Self {
            partitions: Some(partitions.iter().map(all).collect::<Result<_>>()?),
        })
    }

    /// How much of a file with these partition values is in the part.
    pub(super) fn share(&self, spec: &PartitionSpec, values: &Struct) -> Share {
        let Some(partitions) = &self.partitions else {
            return Share::All;
        };
        let shares = partitions.iter().map(|conditions| {
            let holds = conditions.iter().map(|condition| condition.holds(spec, values));
            holds.fold(Share::All, |all, one| match (all, one) {
                (Share::None, _) | (_, Some(false)) => Share::None,
                (share, Some(true)) => share,
                (_, None) => Share::Unknown,
            })
        });
        shares.fold(Share::None, |any, one| match (any, one) {
            (Share::All, _) | (_, Share::All) => Share::All,
            (Share::None, Share::None) => Share::None,
            _ => Share::Unknown,
        })
    }
}

fn condition(table: &Table, name: &str, value: Option<Literal>) -> Option<Condition> {
    let metadata = table.metadata();
    let fields = metadata.default_partition_spec().fields();
    let field = fields.iter().find(|field| field.name == name)?;
    let source = metadata.current_schema().field_by_id(field.source_id)?;
    let kind = source.field_type.as_primitive_type()?.clone();
    let result = field.transform.result_type(&source.field_type).ok()?;
    if let (Some(value), Type::Primitive(result)) = (&value, result)
        && !result.compatible(&value.as_primitive_literal()?)
    {
        return None;
    }
    let is_known = !matches!(field.transform, Transform::Void | Transform::Unknown);
    is_known.then(|| Condition {
        source_id: field.source_id,
        kind,
        transform: field.transform,
        value: value.map(widened),
    })
}

impl Condition {
    /// Whether it holds for a file's rows; none when their partition values do not say.
    fn holds(&self, spec: &PartitionSpec, values: &Struct) -> Option<bool> {
        let answers = spec.fields().iter().zip(values.iter());
        let mut answers = answers.filter_map(|(field, value)| self.said_by(field, value));
        let first = answers.next()?;
        Some(first && answers.all(|answer| answer))
    }

    /// What one partition value says. Every transform but void makes null of null alone.
    fn said_by(&self, field: &PartitionField, found: Option<&Literal>) -> Option<bool> {
        if field.source_id != self.source_id
            || matches!(field.transform, Transform::Void | Transform::Unknown)
        {
            return None;
        }
        let (found, wanted) = match (found, &self.value) {
            (Some(found), Some(wanted)) => (widened(found.clone()), wanted),
            (found, wanted) => return Some(found.is_none() == wanted.is_none()),
        };
        if let Some(same) = self.derived(field.transform, self.transform, &found) {
            return Some(same == *wanted);
        }
        // A coarser value tells only what the file does not hold.
        let coarser = self.derived(self.transform, field.transform, wanted)?;
        (coarser != found).then_some(false)
    }

    /// The value of the second transform where the first one's is known, if it follows.
    fn derived(&self, from: Transform, to: Transform, value: &Literal) -> Option<Literal> {
        match (from, to) {
            _ if from == to => Some(value.clone()),
            (Transform::Identity, _) => {
                let datum = datum(&self.kind, value)?;
                let made = create_transform_function(&to).ok()?.transform_literal(&datum);
                Some(widened(Literal::Primitive(made.ok()??.literal().clone())))
            }
            (Transform::Bucket(of), Transform::Bucket(to)) if to > 0 && of % to == 0 => {
                Some(Literal::long(whole(value)?.rem_euclid(i64::from(to))))
            }
            _ => time(from, to, whole(value)?).map(Literal::long),
        }
    }
}

/// A year, month or day since 1970 from a finer one.
fn time(from: Transform, to: Transform, value: i64) -> Option<i64> {
    match (from, to) {
        _ if from == to => Some(value),
        (Transform::Hour, _) => time(Transform::Day, to, value.div_euclid(24)),
        (Transform::Day, Transform::Month | Transform::Year) => {
            let day = Datum::date(i32::try_from(value).ok()?);
            let made = create_transform_function(&to).ok()?.transform_literal(&day);
            whole(&Literal::Primitive(made.ok()??.literal().clone()))
        }
        (Transform::Month, Transform::Year) => Some(value.div_euclid(12)),
        _ => None,
    }
}

fn whole(value: &Literal) -> Option<i64> {
    match value {
        Literal::Primitive(PrimitiveLiteral::Int(value)) => Some(i64::from(*value)),
        Literal::Primitive(PrimitiveLiteral::Long(value)) => Some(*value),
        _ => None,
    }
}

/// Older files hold a column that became wider in its narrow type.
fn widened(value: Literal) -> Literal {
    match value {
        Literal::Primitive(PrimitiveLiteral::Int(value)) => Literal::long(i64::from(value)),
        Literal::Primitive(PrimitiveLiteral::Float(value)) => Literal::double(f64::from(value.0)),
        value => value,
    }
}

fn datum(kind: &PrimitiveType, value: &Literal) -> Option<Datum> {
    match (kind, value) {
        (PrimitiveType::String, Literal::Primitive(PrimitiveLiteral::String(text))) => {
            Some(Datum::string(text))
        }
        (PrimitiveType::Int | PrimitiveType::Long, _) => Some(Datum::long(whole(value)?)),
        (PrimitiveType::Date, _) => Some(Datum::date(i32::try_from(whole(value)?).ok()?)),
        (PrimitiveType::Timestamp, _) => Some(Datum::timestamp_micros(whole(value)?)),
        (PrimitiveType::Timestamptz, _) => Some(Datum::timestamptz_micros(whole(value)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use iceberg::spec::{NestedField, Schema, UnboundPartitionSpec};

    use super::*;

    const DAY: i64 = 20_000;

    fn part(transform: Transform, kind: PrimitiveType, value: Option<Literal>) -> Part {
        let condition = Condition {
            source_id: 1,
            kind,
            transform,
            value: value.map(widened),
        };
        Part {
            partitions: Some(vec![vec![condition]]),
        }
    }

    fn share(part: &Part, kind: PrimitiveType, transform: Transform, value: Option<Literal>) -> Share {
        let column = NestedField::optional(1, "c", Type::Primitive(kind));
        let schema = Schema::builder().with_fields([Arc::new(column)]).build().unwrap();
        let spec = UnboundPartitionSpec::builder().add_partition_field(1, "p", transform);
        let spec = spec.unwrap().build().bind(schema).unwrap();
        part.share(&spec, &Struct::from_iter([value]))
    }

    #[test]
    fn files_of_other_specs_are_in_a_part_out_of_it_or_unknown() {
        use PrimitiveType::{Long, String as Text, Timestamp};
        let day = part(Transform::Day, Timestamp, Some(Literal::date(20_000)));
        let of = |transform, value| share(&day, Timestamp, transform, value);
        assert_eq!(of(Transform::Day, Some(Literal::date(20_000))), Share::All);
        assert_eq!(of(Transform::Day, Some(Literal::date(20_001))), Share::None);
        assert_eq!(of(Transform::Day, None), Share::None);
        assert_eq!(of(Transform::Hour, Some(Literal::int(480_023))), Share::All);
        assert_eq!(of(Transform::Hour, Some(Literal::int(480_024))), Share::None);
        // 2024-10-04 is in month 657.
        assert_eq!(of(Transform::Month, Some(Literal::int(657))), Share::Unknown);
        assert_eq!(of(Transform::Month, Some(Literal::int(658))), Share::None);
        assert_eq!(of(Transform::Year, Some(Literal::int(54))), Share::Unknown);
        assert_eq!(of(Transform::Void, None), Share::Unknown);
        let micros = DAY * 86_400_000_000;
        assert_eq!(
            of(Transform::Identity, Some(Literal::timestamp(micros))),
            Share::All
        );
        assert_eq!(
            of(Transform::Identity, Some(Literal::timestamp(micros - 1))),
            Share::None
        );

        let bucket = part(Transform::Bucket(4), Long, Some(Literal::int(3)));
        let of = |transform, value| share(&bucket, Long, transform, value);
        assert_eq!(of(Transform::Bucket(16), Some(Literal::int(7))), Share::All);
        assert_eq!(of(Transform::Bucket(16), Some(Literal::int(8))), Share::None);
        assert_eq!(of(Transform::Bucket(2), Some(Literal::int(1))), Share::Unknown);
        assert_eq!(of(Transform::Bucket(2), Some(Literal::int(0))), Share::None);

        let null = part(Transform::Identity, Text, None);
        assert_eq!(share(&null, Text, Transform::Truncate(2), None), Share::All);
        let some = Some(Literal::string("ab"));
        assert_eq!(share(&null, Text, Transform::Truncate(2), some), Share::None);
        // A column that was an int when the file was written.
        let wide = part(Transform::Identity, Long, Some(Literal::long(5)));
        let narrow = share(
            &wide,
            PrimitiveType::Int,
            Transform::Identity,
            Some(Literal::int(5)),
        );
        assert_eq!(narrow, Share::All);
    }
}
