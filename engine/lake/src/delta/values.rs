//! Values that are written as text: of partitions, and of statistics.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};

use super::paths::hex;
use crate::table::{Type, Value};

/// The value of a partition. `None` if the text does not fit the type. Callers take an empty text, which is null.
pub fn partition(text: &str, dtype: &Type) -> Option<Value> {
    Some(match dtype {
        Type::Boolean if text.eq_ignore_ascii_case("true") => Value::Boolean(true),
        Type::Boolean if text.eq_ignore_ascii_case("false") => Value::Boolean(false),
        Type::Int8 => Value::Int(text.parse::<i8>().ok()?.into()),
        Type::Int16 => Value::Int(text.parse::<i16>().ok()?.into()),
        Type::Int32 => Value::Int(text.parse::<i32>().ok()?.into()),
        Type::Int64 => Value::Int(text.parse().ok()?),
        Type::Float32 => Value::Float(text.parse::<f32>().ok()?.into()),
        Type::Float64 => Value::Float(text.parse().ok()?),
        Type::Decimal { precision, scale } => Value::Decimal(decimal(text, *precision, *scale)?),
        Type::String => Value::String(text.to_owned()),
        Type::Binary => Value::Binary(binary(text)),
        Type::Date => Value::Int(date(text)?),
        // A text without a zone is in that of its writer, which is unknown. Taken as UTC, as elsewhere.
        Type::Timestamp { .. } => Value::Int(instant(text).or_else(|| clock(text))?),
        _ => return None,
    })
}

/// Days since 1970.
pub fn date(text: &str) -> Option<i64> {
    days(text.parse().ok()?)
}

fn days(date: Date) -> Option<i64> {
    Some(i64::from(Date::constant(1970, 1, 1).until(date).ok()?.get_days()))
}

/// Microseconds since 1970 of a time with a zone.
pub fn instant(text: &str) -> Option<i64> {
    // The common case, and the only one in which the last days of the year 9999 are read.
    if let Some(text) = text.strip_suffix('Z') {
        return clock(text);
    }
    Some(text.parse::<Timestamp>().ok()?.as_microsecond())
}

/// The same of a time without a zone, or of a date, taken as of UTC. Not for texts with a zone: it would be ignored.
pub fn clock(text: &str) -> Option<i64> {
    let time = text.parse::<DateTime>().ok()?;
    let seconds = (i64::from(time.hour()) * 60 + i64::from(time.minute())) * 60 + i64::from(time.second());
    Some((days(time.date())? * 86_400 + seconds) * 1_000_000 + i64::from(time.subsec_nanosecond()) / 1_000)
}

/// The unscaled number of a decimal with this scale. `None` if it has more digits.
pub fn decimal(text: &str, precision: u8, scale: u8) -> Option<i128> {
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, number) = match number.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut unscaled: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if !digit.is_ascii_digit() {
            return None;
        }
        unscaled = unscaled.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    let fraction = i32::try_from(fraction.len()).ok()?;
    let mut shift = i32::from(scale).checked_sub(fraction)?.checked_add(exponent)?;
    while shift != 0 && unscaled != 0 {
        if shift > 0 {
            unscaled = unscaled.checked_mul(10)?;
            shift -= 1;
        } else {
            if unscaled % 10 != 0 {
                return None;
            }
            unscaled /= 10;
            shift += 1;
        }
    }
    let fits = unscaled < 10_i128.checked_pow(precision.into()).unwrap_or(i128::MAX);
    fits.then_some(if negative { -unscaled } else { unscaled })
}

/// Bytes are written as their text, or each as `\u00AB`.
fn binary(text: &str) -> Vec<u8> {
    escaped(text).unwrap_or_else(|| text.as_bytes().to_vec())
}

fn escaped(text: &str) -> Option<Vec<u8>> {
    let codes = text.as_bytes().chunks(6).map(|code| match code {
        [b'\\', b'u', b'0', b'0', high, low] => Some(hex(*high)? << 4 | hex(*low)?),
        _ => None,
    });
    codes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Unit;

    const UTC: Type = Type::Timestamp { unit: Unit::Micros, utc: true };
    const LOCAL: Type = Type::Timestamp { unit: Unit::Micros, utc: false };

    #[test]
    fn partitions_are_read_by_type() {
        let decimal = Type::Decimal { precision: 12, scale: 5 };
        for (text, dtype, value) in [
            ("true", Type::Boolean, Some(Value::Boolean(true))),
            ("False", Type::Boolean, Some(Value::Boolean(false))),
            ("yes", Type::Boolean, None),
            ("-128", Type::Int8, Some(Value::Int(-128))),
            ("128", Type::Int8, None),
            ("1.5E3", Type::Float64, Some(Value::Float(1500.0))),
            ("0.1", Type::Float32, Some(Value::Float(f64::from(0.1_f32)))),
            ("-Infinity", Type::Float32, Some(Value::Float(f64::NEG_INFINITY))),
            ("-2342342.23423", decimal.clone(), Some(Value::Decimal(-234_234_223_423))),
            ("7", decimal.clone(), Some(Value::Decimal(700_000))),
            ("4E-5", decimal.clone(), Some(Value::Decimal(4))),
            ("0.000001", decimal.clone(), None),
            ("12345678.0", decimal.clone(), None),
            ("1e999999999", decimal.clone(), None),
            ("0e-2147483648", decimal, Some(Value::Decimal(0))),
            ("x=y/z", Type::String, Some(Value::String("x=y/z".into()))),
            ("ab", Type::Binary, Some(Value::Binary(b"ab".to_vec()))),
            ("\u{1}\u{2}", Type::Binary, Some(Value::Binary(vec![1, 2]))),
            ("\\u0001\\u00FF", Type::Binary, Some(Value::Binary(vec![1, 255]))),
            ("1970-01-02", Type::Date, Some(Value::Int(1))),
            ("1969-12-31", Type::Date, Some(Value::Int(-1))),
            ("1970-01-01 00:00:01", UTC, Some(Value::Int(1_000_000))),
            ("1970-01-01 00:00:00.123456", UTC, Some(Value::Int(123_456))),
            ("1970-01-01T00:00:00.123456Z", UTC, Some(Value::Int(123_456))),
            ("9999-12-31T23:59:59.999999Z", UTC, Some(Value::Int(253_402_300_799_999_999))),
            ("9999-12-31", Type::Date, Some(Value::Int(2_932_896))),
            ("0001-01-01", Type::Date, Some(Value::Int(-719_162))),
            ("1969-12-31 23:59:59.5", LOCAL, Some(Value::Int(-500_000))),
            ("1970-01-01T01:00:00+01:00", UTC, Some(Value::Int(0))),
            ("1970-01-01 00:00:00.5", LOCAL, Some(Value::Int(500_000))),
            ("1970-01-01T00:00:00.5", LOCAL, Some(Value::Int(500_000))),
            ("noon", UTC, None),
            ("a", Type::List(Box::new(field())), None),
        ] {
            assert_eq!(partition(text, &dtype), value, "{text} as {dtype:?}");
        }
    }

    fn field() -> crate::table::Field {
        let name = "element".to_owned();
        crate::table::Field { name, dtype: Type::Int8, nullable: true, physical: None, id: None, initial: None }
    }
}
