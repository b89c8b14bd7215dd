//! How a log spells values and paths.

use jiff::Span;
use jiff::civil::Date;

use crate::table::{Type, Value};

const DAY_MICROS: i64 = 86_400_000_000;

/// The value of a partition. An empty text is null, as the protocol has it. `Err` if it cannot be written.
pub fn partition(value: Option<&Value>, dtype: &Type) -> Result<Option<String>, String> {
    let Some(value) = value else { return Ok(None) };
    let text = match (dtype, value) {
        (Type::Boolean, Value::Boolean(value)) => value.to_string(),
        (Type::Int8 | Type::Int16 | Type::Int32 | Type::Int64, Value::Int(value)) => value.to_string(),
        (Type::Float32, Value::Float(value)) => float(f64::from(*value as f32), format!("{:?}", *value as f32)),
        (Type::Float64, Value::Float(value)) => float(*value, format!("{value:?}")),
        (Type::Decimal { scale, .. }, Value::Decimal(value)) => decimal(*value, *scale),
        (Type::String, Value::String(value)) => value.clone(),
        (Type::Date, Value::Int(days)) => date(*days).ok_or("a date that is not in the years 0 to 9999")?,
        (Type::Timestamp { utc, .. }, Value::Int(micros)) => {
            let time = Time::new(*micros).ok_or("a time that is not in the years 0 to 9999")?;
            if *utc { time.text('T', 6, "Z") } else { time.text(' ', if time.micros == 0 { 0 } else { 6 }, "") }
        }
        _ => return Err(format!("{value:?}, which is none of its type")),
    };
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// Infinity and NaN as Java spells them. Both zeros are written as one value.
fn float(value: f64, text: String) -> String {
    match value {
        _ if value.is_nan() => "NaN".to_owned(),
        0.0 => "0.0".to_owned(),
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        _ => text,
    }
}

pub fn decimal(unscaled: i128, scale: u8) -> String {
    let (sign, digits) = (if unscaled < 0 { "-" } else { "" }, unscaled.unsigned_abs().to_string());
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let digits = format!("{digits:0>width$}", width = usize::from(scale) + 1);
    let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale));
    format!("{sign}{whole}.{fraction}")
}

/// `None` if the year does not have four digits.
pub fn date(days: i64) -> Option<String> {
    let date = Date::constant(1970, 1, 1).checked_add(Span::new().try_days(days).ok()?).ok()?;
    (date.year() >= 0).then(|| date.to_string())
}

/// A time of the calendar.
pub struct Time {
    date: String,
    seconds: i64,
    micros: i64,
}

impl Time {
    /// Of microseconds since 1970. `None` if the year does not have four digits.
    pub fn new(micros: i64) -> Option<Self> {
        let of_day = micros.rem_euclid(DAY_MICROS);
        let date = date(micros.div_euclid(DAY_MICROS))?;
        Some(Self { date, seconds: of_day / 1_000_000, micros: of_day % 1_000_000 })
    }

    /// With so many digits (at most six) of the second's fraction.
    pub fn text(&self, separator: char, digits: usize, zone: &str) -> String {
        let (hour, minute, second) = (self.seconds / 3600, self.seconds / 60 % 60, self.seconds % 60);
        let fraction = format!(".{:06}", self.micros);
        let fraction = if digits == 0 { "" } else { &fraction[..=digits] };
        format!("{}{separator}{hour:02}:{minute:02}:{second:02}{fraction}{zone}", self.date)
    }
}

/// A path in a URI. All that might mean something there is encoded.
pub fn path(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'_' | b'.' | b'~' | b'/' | b'=' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::{paths, values};
    use crate::table::Unit;

    #[test]
    fn partitions_are_written_as_they_are_read() {
        let time = |utc| Type::Timestamp { unit: Unit::Micros, utc };
        let decimal = Type::Decimal { precision: 10, scale: 3 };
        for (dtype, value, text) in [
            (Type::Boolean, Value::Boolean(true), "true"),
            (Type::Int8, Value::Int(-128), "-128"),
            (Type::Int64, Value::Int(i64::MIN), "-9223372036854775808"),
            (Type::Float32, Value::Float(f64::from(0.1_f32)), "0.1"),
            (Type::Float64, Value::Float(1e300), "1e300"),
            (Type::Float64, Value::Float(f64::NEG_INFINITY), "-Infinity"),
            (decimal.clone(), Value::Decimal(-5), "-0.005"),
            (decimal, Value::Decimal(1_234_000), "1234.000"),
            (Type::Decimal { precision: 3, scale: 0 }, Value::Decimal(12), "12"),
            (Type::String, Value::String("a/ü=%".into()), "a/ü=%"),
            (Type::Date, Value::Int(-1), "1969-12-31"),
            (Type::Date, Value::Int(2_932_896), "9999-12-31"),
            (time(true), Value::Int(-1), "1969-12-31T23:59:59.999999Z"),
            (time(true), Value::Int(0), "1970-01-01T00:00:00.000000Z"),
            (time(false), Value::Int(3_661_000_000), "1970-01-01 01:01:01"),
            (time(false), Value::Int(1), "1970-01-01 00:00:00.000001"),
        ] {
            assert_eq!(partition(Some(&value), &dtype).unwrap().as_deref(), Some(text));
            assert_eq!(values::partition(text, &dtype), Some(value), "{text}");
        }
        assert_eq!(partition(Some(&Value::Float(-0.0)), &Type::Float64).unwrap().as_deref(), Some("0.0"));
        assert_eq!(partition(Some(&Value::Float(f64::NAN)), &Type::Float32).unwrap().as_deref(), Some("NaN"));
        assert_eq!(partition(None, &Type::Date), Ok(None));
        assert_eq!(partition(Some(&Value::String(String::new())), &Type::String), Ok(None));
        assert!(partition(Some(&Value::Int(1)), &Type::String).is_err());
        for days in [i64::MAX, 2_932_897, -719_529] {
            assert!(partition(Some(&Value::Int(days)), &Type::Date).is_err(), "{days}");
        }
        assert!(partition(Some(&Value::Int(i64::MAX)), &time(true)).is_err());
    }

    #[test]
    fn paths_are_encoded() {
        for (plain, encoded) in [
            ("a=1/part-0.parquet", "a=1/part-0.parquet"),
            ("a=x y%2F/ü:+?#.parquet", "a=x%20y%252F/%C3%BC%3A%2B%3F%23.parquet"),
        ] {
            assert_eq!(path(plain), encoded);
            assert_eq!(paths::decode(encoded), plain);
        }
    }
}
