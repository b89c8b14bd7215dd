//! What a log says of the values in a file that is added.

use serde_json::Value as Json;

use super::text::{self, Time};
use crate::table::{Bounds, Field, Type, Value};
use crate::write::Written;

/// How many characters of a text are kept.
const PREFIX_CHARS: usize = 32;
/// How many columns have statistics where the table does not say.
const INDEXED_COLUMNS: i64 = 32;

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Min,
    Max,
}

/// Which columns a table wants statistics of, as its properties say.
pub fn indexed(columns: &[Field], property: impl Fn(&str) -> Option<String>) -> Vec<&Field> {
    if let Some(names) = property("delta.dataSkippingStatsColumns") {
        let names: Vec<_> = names.split(',').map(|name| name.trim().trim_matches('`').to_owned()).collect();
        return columns.iter().filter(|column| names.contains(&column.name)).collect();
    }
    let limit = property("delta.dataSkippingNumIndexedCols").and_then(|text| text.trim().parse::<i64>().ok());
    let limit = limit.unwrap_or(INDEXED_COLUMNS);
    let mut leaves = 0;
    let wanted = columns.iter().filter(|column| {
        let is_wanted = limit < 0 || leaves < limit;
        leaves += count_leaves(&column.dtype);
        is_wanted
    });
    wanted.collect()
}

fn count_leaves(dtype: &Type) -> i64 {
    match dtype {
        Type::Struct(fields) => fields.iter().map(|field| count_leaves(&field.dtype)).sum(),
        _ => 1,
    }
}

/// The statistics of a file as JSON. Written as text here, because decimals have more digits than JSON's numbers
/// elsewhere.
pub fn json(file: &Written, columns: &[&Field]) -> String {
    let (mut least, mut greatest, mut nulls) = (Vec::new(), Vec::new(), Vec::new());
    for column in columns {
        let Some(Bounds { min, max, nulls: count }) = file.bounds.get(&column.name) else { continue };
        let name = Json::from(column.physical.as_deref().unwrap_or(&column.name));
        if let Some(count) = count {
            nulls.push(format!("{name}:{count}"));
        }
        // Of nulls alone there is no least and no greatest.
        if count.is_some_and(|count| count >= file.rows) {
            continue;
        }
        for (bound, side, entries) in [(min, Side::Min, &mut least), (max, Side::Max, &mut greatest)] {
            if let Some(text) = bound.as_ref().and_then(|bound| value(bound, &column.dtype, side)) {
                entries.push(format!("{name}:{text}"));
            }
        }
    }
    let (least, greatest, nulls) = (least.join(","), greatest.join(","), nulls.join(","));
    let rows = file.rows;
    format!(
        "{{\"numRecords\":{rows},\"minValues\":{{{least}}},\"maxValues\":{{{greatest}}},\"nullCount\":{{{nulls}}}}}"
    )
}

/// A bound as JSON. `None` for types that have none, and for what JSON cannot say.
fn value(value: &Value, dtype: &Type, side: Side) -> Option<String> {
    Some(match (dtype, value) {
        (Type::Int8 | Type::Int16 | Type::Int32 | Type::Int64, Value::Int(value)) => value.to_string(),
        (Type::Float32, Value::Float(value)) => finite(*value as f32, (*value as f32).is_finite())?,
        (Type::Float64, Value::Float(value)) => finite(*value, value.is_finite())?,
        (Type::Decimal { scale, .. }, Value::Decimal(value)) => text::decimal(*value, *scale),
        (Type::String, Value::String(value)) => Json::from(cut(value, side)?).to_string(),
        (Type::Date, Value::Int(days)) => quoted(&text::date(*days)?),
        (Type::Timestamp { utc, .. }, Value::Int(micros)) => {
            let micros = match side {
                Side::Min => micros.div_euclid(1_000).checked_mul(1_000)?,
                Side::Max => micros.checked_add(999)?.div_euclid(1_000).checked_mul(1_000)?,
            };
            quoted(&Time::new(micros)?.text('T', 3, if *utc { "Z" } else { "" }))
        }
        _ => return None,
    })
}

fn finite<T: std::fmt::Debug>(value: T, is_finite: bool) -> Option<String> {
    is_finite.then(|| format!("{value:?}"))
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

/// The beginning of a text. The greatest one is made greater than all that begin like it.
fn cut(text: &str, side: Side) -> Option<String> {
    let Some((end, _)) = text.char_indices().nth(PREFIX_CHARS) else { return Some(text.to_owned()) };
    let mut prefix = text[..end].to_owned();
    if side == Side::Min {
        return Some(prefix);
    }
    while let Some(last) = prefix.pop() {
        // Between them are the codes of surrogates, which are no characters.
        let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            prefix.push(next);
            return Some(prefix);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Unit;

    fn bound(dtype: &Type, of: Value) -> (Option<String>, Option<String>) {
        (value(&of, dtype, Side::Min), value(&of, dtype, Side::Max))
    }

    #[test]
    fn bounds_are_written_by_type() {
        let time = |utc| Type::Timestamp { unit: Unit::Micros, utc };
        let decimal = Type::Decimal { precision: 38, scale: 2 };
        for (dtype, of, min, max) in [
            (Type::Int64, Value::Int(-7), "-7", "-7"),
            (Type::Float32, Value::Float(f64::from(0.1_f32)), "0.1", "0.1"),
            (Type::Float64, Value::Float(1e300), "1e300", "1e300"),
            (
                decimal,
                Value::Decimal(12_345_678_901_234_567_890_123_456_789),
                "123456789012345678901234567.89",
                "123456789012345678901234567.89",
            ),
            (Type::String, Value::String("\"\n".into()), r#""\"\n""#, r#""\"\n""#),
            (Type::Date, Value::Int(19_000), "\"2022-01-08\"", "\"2022-01-08\""),
            (time(true), Value::Int(1), "\"1970-01-01T00:00:00.000Z\"", "\"1970-01-01T00:00:00.001Z\""),
            (time(true), Value::Int(-1), "\"1969-12-31T23:59:59.999Z\"", "\"1970-01-01T00:00:00.000Z\""),
            (time(false), Value::Int(2_000), "\"1970-01-01T00:00:00.002\"", "\"1970-01-01T00:00:00.002\""),
        ] {
            assert_eq!(bound(&dtype, of), (Some(min.to_owned()), Some(max.to_owned())), "{dtype:?}");
        }
        for (dtype, of) in [
            (Type::Float64, Value::Float(f64::NAN)),
            (Type::Float32, Value::Float(f64::INFINITY)),
            (Type::Boolean, Value::Boolean(true)),
            (Type::Binary, Value::Binary(vec![1])),
            (Type::Date, Value::Int(i64::MAX)),
            (time(true), Value::Int(i64::MAX)),
            (time(true), Value::Int(i64::MIN)),
        ] {
            assert_eq!(bound(&dtype, of), (None, None), "{dtype:?}");
        }
    }

    #[test]
    fn long_texts_are_cut() {
        let exact = "x".repeat(32);
        assert_eq!(cut(&exact, Side::Max), Some(exact.clone()));
        for (text, max) in [
            (format!("{exact}y"), Some(format!("{}y", "x".repeat(31)))),
            (format!("{}\u{d7ff}z", "ü".repeat(31)), Some(format!("{}\u{e000}", "ü".repeat(31)))),
            (format!("a{}", "\u{10ffff}".repeat(40)), Some("b".to_owned())),
            ("\u{10ffff}".repeat(33), None),
        ] {
            let min = cut(&text, Side::Min).unwrap();
            assert!(min.chars().count() == 32 && min < text);
            assert!(max.as_ref().is_none_or(|max| *max > text));
            assert_eq!(cut(&text, Side::Max), max);
        }
    }

    #[test]
    fn tables_say_which_columns_have_statistics() {
        let field = |name: &str, dtype| Field {
            name: name.to_owned(),
            dtype,
            nullable: true,
            physical: None,
            id: None,
            initial: None,
        };
        let two = Type::Struct(vec![field("x", Type::Int8), field("y", Type::Int8)]);
        let columns = [field("a", two), field("b", Type::Int8), field("c", Type::Int8)];
        let names = |key: &str, value: &str| {
            let property = |name: &str| (name == key).then(|| value.to_owned());
            indexed(&columns, property).iter().map(|column| column.name.as_str()).collect::<String>()
        };
        assert_eq!(names("", ""), "abc");
        assert_eq!(names("delta.dataSkippingNumIndexedCols", "3"), "ab");
        assert_eq!(names("delta.dataSkippingNumIndexedCols", "0"), "");
        assert_eq!(names("delta.dataSkippingNumIndexedCols", "-1"), "abc");
        assert_eq!(names("delta.dataSkippingStatsColumns", "`c`, a"), "ac");
    }
}
