//! Single values as Iceberg writes them: bounds as bytes, partition values in Avro, defaults in JSON.

use std::cmp::Ordering;

use serde_json::Value as Json;

use super::avro::decode::{Datum, integer};
use crate::table::{Type, Unit, Value};

const DAY_SECONDS: i64 = 86_400;

/// A bound of a column of this type; `None` if it cannot be relied on. The bound may have been written when the column
/// had the type that it was promoted from, which its length tells.
pub fn from_bound(bytes: &[u8], dtype: &Type) -> Option<Value> {
    let int = || bytes.try_into().ok().map(i32::from_le_bytes).map(i64::from);
    let long = || bytes.try_into().ok().map(i64::from_le_bytes);
    let float = || bytes.try_into().ok().map(f32::from_le_bytes).map(f64::from);
    let double = || bytes.try_into().ok().map(f64::from_le_bytes);
    Some(match dtype {
        Type::Boolean => Value::Boolean(<[u8; 1]>::try_from(bytes).ok()? != [0]),
        Type::Int32 | Type::Date => Value::Int(int()?),
        Type::Int64 => Value::Int(long().or_else(int)?),
        Type::Time => Value::Int(long()?),
        Type::Timestamp { unit, utc } => {
            let units = match unit {
                Unit::Micros => 1_000_000,
                Unit::Nanos => 1_000_000_000,
            };
            let days = || int().filter(|_| !utc)?.checked_mul(DAY_SECONDS * units);
            Value::Int(long().or_else(days)?)
        }
        Type::Float32 => Value::Float(float().filter(|value| !value.is_nan())?),
        Type::Float64 => Value::Float(double().or_else(float).filter(|value| !value.is_nan())?),
        Type::Decimal { .. } => Value::Decimal(integer(bytes)?),
        Type::String => Value::String(std::str::from_utf8(bytes).ok()?.to_string()),
        Type::Binary => Value::Binary(bytes.to_vec()),
        // Fixed bytes and UUIDs have been compared as signed numbers by some writers.
        _ => return None,
    })
}

/// A partition value of a column of this type. `Err`: it does not fit.
pub(crate) fn from_partition(datum: &Datum<'_>, dtype: &Type) -> Result<Option<Value>, ()> {
    let value = match (datum, dtype) {
        (Datum::Null, _) => return Ok(None),
        (Datum::Boolean(value), Type::Boolean) => Value::Boolean(*value),
        (Datum::Int(value), Type::Int32 | Type::Int64 | Type::Date | Type::Time | Type::Timestamp { .. }) => {
            Value::Int(*value)
        }
        (Datum::Float(value), Type::Float32 | Type::Float64) => Value::Float(f64::from(*value)),
        (Datum::Double(value), Type::Float32 | Type::Float64) => Value::Float(*value),
        (Datum::Decimal(value), Type::Decimal { .. }) => Value::Decimal(*value),
        (Datum::Bytes(value), Type::Decimal { .. }) => Value::Decimal(integer(value).ok_or(())?),
        (Datum::String(value), Type::String) => Value::String((*value).to_string()),
        (Datum::String(value), Type::Uuid) => Value::Binary(uuid(value).ok_or(())?),
        (Datum::Bytes(value), Type::Binary | Type::Fixed(_) | Type::Uuid) => Value::Binary(value.to_vec()),
        _ => return Err(()),
    };
    Ok(Some(value))
}

/// A default of a column of this type. `None`: it does not fit, or the type is not a primitive one.
pub fn from_json(json: &Json, dtype: &Type) -> Option<Value> {
    Some(match dtype {
        Type::Boolean => Value::Boolean(json.as_bool()?),
        Type::Int32 => Value::Int(i32::try_from(json.as_i64()?).ok()?.into()),
        Type::Int64 => Value::Int(json.as_i64()?),
        Type::Float32 | Type::Float64 => Value::Float(json.as_f64()?),
        Type::Decimal { scale, .. } => Value::Decimal(decimal(json.as_str()?, *scale)?),
        Type::String => Value::String(json.as_str()?.to_string()),
        Type::Binary => Value::Binary(hex(json.as_str()?)?),
        Type::Fixed(size) => Value::Binary(hex(json.as_str()?).filter(|bytes| bytes.len() == *size as usize)?),
        Type::Uuid => Value::Binary(uuid(json.as_str()?)?),
        Type::Date => {
            let date: jiff::civil::Date = json.as_str()?.parse().ok()?;
            let epoch = jiff::civil::date(1970, 1, 1);
            Value::Int(epoch.until((jiff::Unit::Day, date)).ok()?.get_days().into())
        }
        Type::Time => {
            let time: jiff::civil::Time = json.as_str()?.parse().ok()?;
            let since = time.duration_since(jiff::civil::Time::midnight());
            Value::Int(since.as_micros().try_into().ok()?)
        }
        Type::Timestamp { unit, utc } => {
            let text = json.as_str()?;
            let time: jiff::Timestamp = if *utc {
                text.parse().ok()?
            } else {
                let time: jiff::civil::DateTime = text.parse().ok()?;
                time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp()
            };
            Value::Int(match unit {
                Unit::Micros => time.as_microsecond(),
                Unit::Nanos => time.as_nanosecond().try_into().ok()?,
            })
        }
        _ => return None,
    })
}

/// Bounds of texts and binary values are truncated to this many characters or bytes, as other writers do.
const BOUND_LENGTH: usize = 16;

/// A value of this type as its bytes; `None` if it is not of the type.
pub fn to_bytes(value: &Value, dtype: &Type) -> Option<Vec<u8>> {
    Some(match (value, dtype) {
        (Value::Boolean(value), Type::Boolean) => vec![u8::from(*value)],
        (Value::Int(value), Type::Int32 | Type::Date) => i32::try_from(*value).ok()?.to_le_bytes().to_vec(),
        (Value::Int(value), Type::Int64 | Type::Time | Type::Timestamp { .. }) => value.to_le_bytes().to_vec(),
        (Value::Float(value), Type::Float32) => {
            let single = *value as f32;
            (f64::from(single) == *value || value.is_nan()).then(|| single.to_le_bytes().to_vec())?
        }
        (Value::Float(value), Type::Float64) => value.to_le_bytes().to_vec(),
        (Value::Decimal(value), Type::Decimal { .. }) => {
            let all = value.to_be_bytes();
            // The fewest bytes that keep the sign.
            let spare = (0..all.len() - 1).find(|spare| integer(&all[spare + 1..]) != Some(*value));
            all[spare.unwrap_or(all.len() - 1)..].to_vec()
        }
        (Value::String(value), Type::String) => value.as_bytes().to_vec(),
        (Value::Binary(value), Type::Binary) => value.clone(),
        (Value::Binary(value), Type::Fixed(size)) => (value.len() == *size as usize).then(|| value.clone())?,
        (Value::Binary(value), Type::Uuid) => (value.len() == 16).then(|| value.clone())?,
        _ => return None,
    })
}

/// The bytes of a bound that no value is less than; `None` if there is none to rely on.
pub fn lower_bound(value: &Value, dtype: &Type) -> Option<Vec<u8>> {
    match (value, dtype) {
        (_, Type::Fixed(_) | Type::Uuid) => None,
        (Value::Float(value), _) if value.is_nan() => None,
        (Value::Float(0.0), _) => to_bytes(&Value::Float(-0.0), dtype),
        (Value::String(text), Type::String) => Some(text.chars().take(BOUND_LENGTH).collect::<String>().into_bytes()),
        (Value::Binary(bytes), Type::Binary) => Some(bytes[..bytes.len().min(BOUND_LENGTH)].to_vec()),
        _ => to_bytes(value, dtype),
    }
}

/// The bytes of a bound that no value is greater than. A truncated one is increased; `None` where that is impossible.
pub fn upper_bound(value: &Value, dtype: &Type) -> Option<Vec<u8>> {
    match (value, dtype) {
        (_, Type::Fixed(_) | Type::Uuid) => None,
        (Value::Float(value), _) if value.is_nan() => None,
        (Value::Float(0.0), _) => to_bytes(&Value::Float(0.0), dtype),
        (Value::String(text), Type::String) => {
            let mut start: Vec<char> = text.chars().take(BOUND_LENGTH).collect();
            if text.chars().nth(BOUND_LENGTH).is_some() {
                loop {
                    // The code points after U+D7FF are surrogates, which are not characters.
                    let next = match start.pop()? {
                        '\u{d7ff}' => Some('\u{e000}'),
                        last => char::from_u32(u32::from(last) + 1),
                    };
                    if let Some(next) = next {
                        start.push(next);
                        break;
                    }
                }
            }
            Some(start.into_iter().collect::<String>().into_bytes())
        }
        (Value::Binary(bytes), Type::Binary) => {
            let mut start = bytes[..bytes.len().min(BOUND_LENGTH)].to_vec();
            if bytes.len() > BOUND_LENGTH {
                while start.last() == Some(&0xff) {
                    start.pop();
                }
                *start.last_mut()? += 1;
            }
            Some(start)
        }
        _ => to_bytes(value, dtype),
    }
}

/// How two bounds of one column compare, if they do.
pub fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Boolean(left), Value::Boolean(right)) => Some(left.cmp(right)),
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
        (Value::Float(left), Value::Float(right)) => left.partial_cmp(right),
        (Value::Decimal(left), Value::Decimal(right)) => Some(left.cmp(right)),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Binary(left), Value::Binary(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

fn uuid(text: &str) -> Option<Vec<u8>> {
    hex(&text.replace('-', "")).filter(|bytes| bytes.len() == 16)
}

/// The unscaled number of a text like `14.20` or `2E+20`.
fn decimal(text: &str, scale: u8) -> Option<i128> {
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let unscaled: i128 = format!("{whole}{fraction}").parse().ok()?;
    let shift = i32::from(scale).checked_add(exponent)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let power = 10i128.checked_pow(shift.unsigned_abs())?;
    if shift >= 0 { unscaled.checked_mul(power) } else { (unscaled % power == 0).then_some(unscaled / power) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_promoted_columns() {
        assert_eq!(from_bound(&5i32.to_le_bytes(), &Type::Int64), Some(Value::Int(5)));
        assert_eq!(from_bound(&(-5i64).to_le_bytes(), &Type::Int64), Some(Value::Int(-5)));
        assert_eq!(from_bound(&1.5f32.to_le_bytes(), &Type::Float64), Some(Value::Float(1.5)));
        assert_eq!(from_bound(&f64::NAN.to_le_bytes(), &Type::Float64), None);
        let timestamp = |unit, utc| Type::Timestamp { unit, utc };
        let day = 2i32.to_le_bytes();
        assert_eq!(from_bound(&day, &timestamp(Unit::Micros, false)), Some(Value::Int(172_800_000_000)));
        assert_eq!(from_bound(&i32::MAX.to_le_bytes(), &timestamp(Unit::Nanos, false)), None);
        assert_eq!(from_bound(&day, &timestamp(Unit::Micros, true)), None);
        let decimal = Type::Decimal { precision: 38, scale: 2 };
        assert_eq!(from_bound(&[0xff, 0x38], &decimal), Some(Value::Decimal(-200)));
        assert_eq!(from_bound(&[], &decimal), None);
        assert_eq!(from_bound(&[0; 16], &Type::Uuid), None);
        assert_eq!(from_bound(&[0xff], &Type::String), None);
    }

    #[test]
    fn bounds_are_written_as_they_are_read() {
        let decimal = Type::Decimal { precision: 38, scale: 2 };
        let timestamp = Type::Timestamp { unit: Unit::Micros, utc: true };
        let mut values = vec![
            (Value::Boolean(true), Type::Boolean),
            (Value::Int(-5), Type::Int32),
            (Value::Int(i64::MIN), Type::Int64),
            (Value::Int(-1), Type::Date),
            (Value::Int(1), Type::Time),
            (Value::Int(1 << 50), timestamp),
            (Value::Float(1.5), Type::Float32),
            (Value::Float(f64::NEG_INFINITY), Type::Float64),
            (Value::String("äöü".into()), Type::String),
            (Value::Binary(vec![0, 255]), Type::Binary),
        ];
        for shift in 0..126 {
            for near in [-1i128, 0, 1] {
                values.push((Value::Decimal((1 << shift) + near), decimal.clone()));
                values.push((Value::Decimal(-(1 << shift) + near), decimal.clone()));
            }
        }
        for (value, dtype) in values {
            for bytes in [to_bytes(&value, &dtype), lower_bound(&value, &dtype), upper_bound(&value, &dtype)] {
                assert_eq!(from_bound(&bytes.unwrap(), &dtype).as_ref(), Some(&value));
            }
        }
        let decimal = |value| to_bytes(&Value::Decimal(value), &decimal).unwrap();
        assert_eq!(decimal(1420), [0x05, 0x8c]);
        assert_eq!(decimal(-128), [0x80]);
        assert_eq!(decimal(128), [0x00, 0x80]);
        assert_eq!(decimal(0), [0]);
    }

    #[test]
    fn bounds_that_are_cut_off() {
        let text = |text: &str| Value::String(text.into());
        let upper = |value| upper_bound(&text(value), &Type::String).map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(upper("0123456789abcdef").as_deref(), Some("0123456789abcdef"));
        assert_eq!(upper("0123456789abcdefg").as_deref(), Some("0123456789abcdeg"));
        assert_eq!(upper("0123456789abcde\u{10ffff}g").as_deref(), Some("0123456789abcdf"));
        assert_eq!(upper("0123456789abcde\u{d7ff}g").as_deref(), Some("0123456789abcde\u{e000}"));
        assert_eq!(upper(&"\u{10ffff}".repeat(17)), None);
        assert_eq!(lower_bound(&text("0123456789abcdefg"), &Type::String).unwrap(), b"0123456789abcdef");
        let long = Value::Binary([vec![7], vec![255; 16]].concat());
        assert_eq!(upper_bound(&long, &Type::Binary), Some(vec![8]));
        assert_eq!(upper_bound(&Value::Binary(vec![255; 17]), &Type::Binary), None);
        assert_eq!(upper_bound(&Value::Float(f64::NAN), &Type::Float64), None);
        assert_eq!(lower_bound(&Value::Float(0.0), &Type::Float64), Some((-0f64).to_le_bytes().to_vec()));
        assert_eq!(upper_bound(&Value::Float(-0.0), &Type::Float64), Some(0f64.to_le_bytes().to_vec()));
        // A bound must not be rounded.
        assert_eq!(lower_bound(&Value::Float(0.1), &Type::Float32), None);
        assert_eq!(to_bytes(&Value::Int(1 << 40), &Type::Int32), None);
    }

    #[test]
    fn defaults() {
        let json = |text: &str| Json::String(text.into());
        let decimal = Type::Decimal { precision: 30, scale: 2 };
        assert_eq!(from_json(&json("14.20"), &decimal), Some(Value::Decimal(1420)));
        assert_eq!(from_json(&json("-2E+3"), &decimal), Some(Value::Decimal(-200_000)));
        assert_eq!(from_json(&json("1.001"), &decimal), None);
        assert_eq!(from_json(&json("1969-12-31"), &Type::Date), Some(Value::Int(-1)));
        assert_eq!(from_json(&json("00:00:01.000002"), &Type::Time), Some(Value::Int(1_000_002)));
        let timestamp = |unit, utc| Type::Timestamp { unit, utc };
        let text = json("1970-01-01T00:00:00.000001+00:00");
        assert_eq!(from_json(&text, &timestamp(Unit::Micros, true)), Some(Value::Int(1)));
        let text = json("1970-01-01T00:00:00.000000001");
        assert_eq!(from_json(&text, &timestamp(Unit::Nanos, false)), Some(Value::Int(1)));
        assert_eq!(from_json(&json("0aff"), &Type::Fixed(2)), Some(Value::Binary(vec![10, 255])));
        assert_eq!(from_json(&Json::from(1u64 << 40), &Type::Int32), None);
    }
}
