//! What the log says of the values in a file. Only what holds for sure is taken: a bound that might be wrong would lose
//! rows.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::values;
use crate::table::{Bounds, Field, Type, Value};

/// Statistics of a file as they are written. Columns have the names that they have in files.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Stats {
    pub num_records: Option<u64>,
    tight_bounds: Option<bool>,
    min_values: Option<Entries>,
    max_values: Option<Entries>,
    null_count: Option<Entries>,
}

/// What is known of a file besides.
#[derive(Clone, Copy)]
pub struct Context {
    /// Whether the statistics were values of Parquet, where times without a zone are of UTC.
    pub parsed: bool,
    /// How many rows its deletion vector deletes, if it has one.
    pub deleted: Option<u64>,
}

/// The columns whose bounds are wanted, by their names in files.
pub struct Columns<'a> {
    columns: HashMap<&'a str, Column<'a>>,
}

struct Column<'a> {
    field: &'a Field,
    was_float: bool,
}

impl<'a> Columns<'a> {
    /// Columns of partitions are left out: each file has one value.
    pub fn new(fields: &'a [Field], was_float: &[bool], partition: &[String]) -> Self {
        let wanted = fields.iter().zip(was_float).filter(|(field, _)| {
            let nested = matches!(field.dtype, Type::List(_) | Type::Map { .. } | Type::Struct(_));
            !nested && !partition.contains(&field.name)
        });
        let columns = wanted
            .map(|(field, &was_float)| (field.physical.as_deref().unwrap_or(&field.name), Column { field, was_float }));
        Self { columns: columns.collect() }
    }

    /// The bounds by the names of the columns.
    pub fn bounds(&self, stats: &Stats, context: Context) -> std::collections::BTreeMap<String, Bounds> {
        let mut found: HashMap<&str, Bounds> = HashMap::new();
        for (name, count) in entries(&stats.null_count) {
            if let (Some(column), Scalar::Int(count)) = (self.columns.get(name.as_str()), count) {
                let nulls = u64::try_from(*count).ok().filter(|count| stats.exact_nulls(*count, context));
                found.entry(&column.field.name).or_default().nulls = nulls;
            }
        }
        for (name, value) in entries(&stats.min_values) {
            if let Some(column) = self.columns.get(name.as_str()) {
                found.entry(&column.field.name).or_default().min = column.bound(value, Side::Min, context);
            }
        }
        for (name, value) in entries(&stats.max_values) {
            if let Some(column) = self.columns.get(name.as_str()) {
                found.entry(&column.field.name).or_default().max = column.bound(value, Side::Max, context);
            }
        }
        let valid = stats.num_records.map(|rows| rows.saturating_sub(context.deleted.unwrap_or(0)));
        let known = found.into_iter().filter_map(|(name, mut bounds)| {
            // A column of nulls only has no bounds, whatever the log says.
            if bounds.nulls.zip(valid).is_some_and(|(nulls, valid)| nulls >= valid) {
                (bounds.min, bounds.max) = (None, None);
            }
            (bounds != Bounds::default()).then(|| (name.to_owned(), bounds))
        });
        known.collect()
    }
}

fn entries(entries: &Option<Entries>) -> &[(String, Scalar)] {
    entries.as_ref().map_or(&[], |entries| &entries.0)
}

impl Stats {
    /// Whether a count of nulls is that of the file. With deleted rows it may count those or not, but "none" and "all"
    /// hold either way.
    fn exact_nulls(&self, count: u64, context: Context) -> bool {
        let exact = self.tight_bounds != Some(false) && context.deleted.is_none();
        exact || count == 0 || Some(count) == self.num_records
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Min,
    Max,
}

/// Before this day, some writers count days by the Julian calendar in one place and by ours in another.
const GREGORIAN_DAYS: i64 = -141_427;
const DAY_MICROS: i64 = 86_400_000_000;
/// Until 1973 there were zones whose offsets had seconds, which a text such as "-00:44" leaves out.
const WHOLE_OFFSETS_MICROS: i64 = 3 * 365 * DAY_MICROS;

impl Column<'_> {
    fn bound(&self, value: &Scalar, side: Side, context: Context) -> Option<Value> {
        Some(match (&self.field.dtype, value) {
            (Type::Boolean, Scalar::Boolean(value)) => Value::Boolean(*value),
            (Type::Int8 | Type::Int16 | Type::Int32 | Type::Int64, Scalar::Int(value)) => Value::Int(*value),
            (Type::Float32 | Type::Float64, value) => {
                // Not a number is greater than all numbers, and many writers pass over it.
                if side == Side::Max {
                    return None;
                }
                Value::Float(self.least(value.number()?))
            }
            (Type::Decimal { precision, scale }, value) => decimal(value, *precision, *scale, side)?,
            // Writers cut off long texts, and make the greatest one greater then.
            (Type::String, Scalar::Text(text)) => Value::String(text.clone()),
            (Type::Date, Scalar::Text(text)) => Value::Int(values::date(text).filter(|days| *days >= GREGORIAN_DAYS)?),
            (Type::Timestamp { utc, .. }, Scalar::Text(text)) => Value::Int(time(text, *utc, side, context)?),
            _ => return None,
        })
    }

    /// A number that is no greater than the one that was written.
    fn least(&self, number: f64) -> f64 {
        if self.field.dtype == Type::Float32 {
            // Texts of the type's own precision. Rounding keeps the order, so that no smaller one can come out.
            return f64::from((below(number) as f32).next_down());
        }
        if self.was_float {
            // The text stands for the nearest float, which may be less than it.
            return below(number).min(f64::from((number as f32).next_down()));
        }
        below(number)
    }
}

/// The JSON library may be off by some units in the last place, unless the number is a whole one.
fn below(number: f64) -> f64 {
    if number == number.trunc() && number.abs() < 9e15 {
        return number;
    }
    number.next_down().next_down().next_down().next_down()
}

/// Microseconds. Writers cut times off to milliseconds.
fn time(text: &str, utc: bool, side: Side, context: Context) -> Option<i64> {
    let instant = values::instant(text);
    let micros = match instant {
        Some(micros) => micros,
        // The zone of the time is unknown.
        None if utc && !context.parsed => return None,
        None => values::clock(text)?,
    };
    if micros < GREGORIAN_DAYS * DAY_MICROS {
        return None;
    }
    let vague = utc && instant.is_some() && !text.ends_with(['Z', 'z']) && micros < WHOLE_OFFSETS_MICROS;
    let slack = if vague { 60_000_000 } else { 0 };
    Some(match side {
        Side::Min => micros - slack,
        Side::Max => micros + slack + 1_000,
    })
}

fn decimal(value: &Scalar, precision: u8, scale: u8, side: Side) -> Option<Value> {
    let unscaled = match value {
        Scalar::Text(text) => values::decimal(text, precision, scale)?,
        Scalar::Int(whole) => i128::from(*whole).checked_mul(10_i128.checked_pow(scale.into())?)?,
        Scalar::Float(number) => {
            // Written in full, but read as a float of 53 bits.
            let near = number * 10_f64.powi(scale.into());
            if !near.is_finite() || near.abs() > 1e38 {
                return None;
            }
            let slack = if near.abs() < 2_f64.powi(46) { 0.0 } else { near.abs() * 2_f64.powi(-47) + 1.0 };
            match side {
                Side::Min => (near - slack).round() as i128,
                Side::Max => (near + slack).round() as i128,
            }
        }
        _ => return None,
    };
    Some(Value::Decimal(unscaled))
}

/// The values of columns, in no order.
#[derive(Debug, Default)]
struct Entries(Vec<(String, Scalar)>);

#[derive(Debug, PartialEq)]
enum Scalar {
    /// Null, or values of nested columns.
    Other,
    Boolean(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

impl Scalar {
    fn number(&self) -> Option<f64> {
        match self {
            Scalar::Int(number) => {
                let float = *number as f64;
                Some(if float as i128 > i128::from(*number) { float.next_down() } else { float })
            }
            Scalar::Float(number) => Some(*number).filter(|number| number.is_finite()),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entry;
        impl<'de> Visitor<'de> for Entry {
            type Value = Entries;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("values by columns")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Entry)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One;
        impl<'de> Visitor<'de> for One {
            type Value = Scalar;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar::Boolean(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar::Int(value))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
                Ok(i64::try_from(value).map_or(Scalar::Float(value as f64), Scalar::Int))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar::Float(value))
            }
            fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(value.to_owned()))
            }
            fn visit_string<E>(self, value: String) -> Result<Scalar, E> {
                Ok(Scalar::Text(value))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Scalar, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }
        deserializer.deserialize_any(One)
    }
}
