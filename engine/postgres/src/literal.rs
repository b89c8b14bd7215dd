//! Names and values as SQL writes them, so that no setting of a session and no character in them means something else.

use crate::pushed::Literal;
use crate::types::Type;

pub(crate) fn name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text, which must be free of NUL: the server has no such character.
pub(crate) fn text(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    // With the E form a backslash means the same whatever `standard_conforming_strings` says.
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// `value` as a constant to compare a column of `type` with. Nothing if it is of another type, or cannot be said.
pub(crate) fn constant(value: &Literal, r#type: &Type) -> Option<String> {
    Some(match (value, r#type) {
        (Literal::Bool(value), Type::Bool) => format!("{value}"),
        (Literal::Int(value), Type::Int16 | Type::Int32 | Type::Int64) => format!("'{value}'::int8"),
        (Literal::Int(value), Type::UInt32) => format!("'{}'::oid", u32::try_from(*value).ok()?),
        (Literal::Float32(value), Type::Float32) => {
            format!("'{}'::float4", float(f64::from(*value), format!("{value:e}")))
        }
        (Literal::Float64(value), Type::Float64) => format!("'{}'::float8", float(*value, format!("{value:e}"))),
        (Literal::Decimal { value, scale }, Type::Decimal { .. }) => format!("'{value}e-{scale}'::numeric"),
        (Literal::String(value), Type::String) if !value.contains('\0') => text(value),
        (Literal::Binary(value), Type::Binary) => {
            let digits: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("decode('{digits}', 'hex')")
        }
        (Literal::Date(days), Type::Date) => format!("'{}'::date", date(i64::from(*days))?),
        (Literal::Time(ns), Type::Time) => format!("'{}'::time", time(whole_us(*ns)?)?),
        (Literal::Datetime(us), Type::Datetime) => format!("'{}'::timestamp", timestamp(*us)?),
        (Literal::DatetimeUtc(us), Type::DatetimeUtc) => format!("'{}+00'::timestamptz", timestamp(*us)?),
        _ => return None,
    })
}

fn float(value: f64, finite: String) -> String {
    match value {
        _ if value.is_nan() => "NaN".to_owned(),
        _ if value.is_infinite() => if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        _ => finite,
    }
}

const DAY_US: i64 = 86_400_000_000;

fn whole_us(ns: i64) -> Option<i64> {
    (ns % 1000 == 0).then_some(ns / 1000)
}

fn time(us: i64) -> Option<String> {
    if !(0..DAY_US).contains(&us) {
        return None;
    }
    let seconds = us / 1_000_000;
    Some(format!("{:02}:{:02}:{:02}.{:06}", seconds / 3600, seconds / 60 % 60, seconds % 60, us % 1_000_000))
}

fn timestamp(us: i64) -> Option<String> {
    Some(format!("{} {}", date(us.div_euclid(DAY_US))?, time(us.rem_euclid(DAY_US))?))
}

/// Years of four digits only: others have forms of their own.
fn date(days: i64) -> Option<String> {
    // Days since 0000-03-01, in eras of 400 years.
    let days = days.checked_add(719_468)?;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (1..=9999).contains(&year).then(|| format!("{year:04}-{month:02}-{day:02}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_stay_inside() {
        assert_eq!(name(r#"a"b"#), r#""a""b""#);
        assert_eq!(text("it's"), "'it''s'");
        assert_eq!(text(r"\'; DROP"), r"E'\\''; DROP'");
    }

    #[test]
    fn days_are_dates() {
        for (days, expected) in [
            (0, Some("1970-01-01")),
            (-1, Some("1969-12-31")),
            (11_016, Some("2000-02-29")),
            (47_541, Some("2100-03-01")),
            (47_540, Some("2100-02-28")),
            (-719_162, Some("0001-01-01")),
            (-719_163, None),
            (2_932_896, Some("9999-12-31")),
            (2_932_897, None),
        ] {
            assert_eq!(date(days).as_deref(), expected, "{days}");
        }
        assert_eq!(timestamp(-1).as_deref(), Some("1969-12-31 23:59:59.999999"));
    }

    #[test]
    fn a_constant_has_the_type_of_its_column_or_is_none() {
        let decimal = Type::Decimal { precision: 10, scale: 2 };
        for (value, r#type, expected) in [
            (Literal::Int(-5), Type::Int16, Some("'-5'::int8")),
            (Literal::Int(-5), Type::UInt32, None),
            (Literal::Int(5), Type::Float64, None),
            (Literal::Float64(0.1), Type::Float64, Some("'1e-1'::float8")),
            (Literal::Float64(f64::NAN), Type::Float64, Some("'NaN'::float8")),
            (Literal::Float64(0.1), Type::Float32, None),
            (Literal::Float32(0.1), Type::Float32, Some("'1e-1'::float4")),
            (Literal::Decimal { value: -150, scale: 2 }, decimal, Some("'-150e-2'::numeric")),
            (Literal::String("a\0".into()), Type::String, None),
            (Literal::Time(1), Type::Time, None),
            (Literal::Time(1000), Type::Time, Some("'00:00:00.000001'::time")),
            (Literal::Datetime(0), Type::DatetimeUtc, None),
            (Literal::DatetimeUtc(0), Type::DatetimeUtc, Some("'1970-01-01 00:00:00.000000+00'::timestamptz")),
            (Literal::Binary(vec![0, 255]), Type::Binary, Some("decode('00ff', 'hex')")),
        ] {
            assert_eq!(constant(&value, &r#type).as_deref(), expected, "{value:?}");
        }
    }
}
