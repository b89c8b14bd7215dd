//! The database's types as Polars' types: without loss, or by the rule that stands here.
//!
//! | PostgreSQL | here |
//! |---|---|
//! | `bool`, `int2`, `int4`, `int8`, `float4`, `float8`, `oid` | Boolean, Int16, Int32, Int64, Float32, Float64, UInt32 |
//! | `numeric(p, s)` up to 38 digits | Decimal(p, s); a NaN in it is an error |
//! | `numeric` without precision, or with more digits | String: every value has a scale of its own |
//! | `text`, `varchar`, `name`, `json`, `xml`, enums | String |
//! | `char(n)` | String with its blanks, as the database sends it |
//! | `jsonb`, `uuid`, `interval` (ISO 8601), `timetz`, `money`, addresses, ranges, composites, everything else | String, as `::text` writes it |
//! | `bytea` | Binary |
//! | `date`, `time`, `timestamp` | Date, Time, Datetime(us); `infinity` and `24:00` are errors |
//! | `timestamptz` | Datetime(us, UTC) |
//! | arrays | List of the same; more than one dimension is an error |
//! | domains | the type they are made from |

use serde::{Deserialize, Serialize};
use tokio_postgres::types::{Kind, Type as Sql};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Type {
    Bool,
    Int16,
    Int32,
    Int64,
    UInt32,
    Float32,
    Float64,
    Decimal { precision: u8, scale: u8 },
    String,
    Binary,
    Date,
    Time,
    Datetime,
    DatetimeUtc,
    List(Box<Type>),
}

/// A column of a table or query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub r#type: Type,
    /// Whether the server writes it as text, since its own form is not read here.
    pub as_text: bool,
    pub compares: Compares,
}

/// What a comparison in the database is worth, held against one of the values that Polars sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compares {
    /// Not at all: lists, and `char(n)`, which the database compares without trailing blanks.
    Never,
    /// Alike: numbers (NaN is the greatest in both), booleans, bytes, dates and times.
    Alike,
    /// Text under a collation in which only the same bytes are equal: equality as it is, order by `COLLATE "C"`.
    Text,
    /// Text under any collation: everything by `COLLATE "C"`.
    TextByBytes,
    /// A `uuid`, which is text here.
    Uuid,
}

/// The type of a value, and whether it has to be written as text.
pub(crate) fn of(sql: &Sql, modifier: i32) -> (Type, bool) {
    match sql.kind() {
        Kind::Array(inner) => {
            let (inner, as_text) = of(inner, modifier);
            match inner {
                // An array type is never made of arrays; a domain over one may be.
                Type::List(_) => (Type::String, true),
                inner => (Type::List(Box::new(inner)), as_text),
            }
        }
        // The modifier of a domain is not that of its columns.
        Kind::Domain(inner) => of(inner, -1),
        Kind::Enum(_) => (Type::String, false),
        Kind::Simple => simple(sql, modifier),
        _ => (Type::String, true),
    }
}

fn simple(sql: &Sql, modifier: i32) -> (Type, bool) {
    let plain = match *sql {
        Sql::BOOL => Type::Bool,
        Sql::INT2 => Type::Int16,
        Sql::INT4 => Type::Int32,
        Sql::INT8 => Type::Int64,
        Sql::OID => Type::UInt32,
        Sql::FLOAT4 => Type::Float32,
        Sql::FLOAT8 => Type::Float64,
        Sql::TEXT | Sql::VARCHAR | Sql::BPCHAR | Sql::NAME | Sql::JSON | Sql::XML => Type::String,
        Sql::BYTEA => Type::Binary,
        Sql::DATE => Type::Date,
        Sql::TIME => Type::Time,
        Sql::TIMESTAMP => Type::Datetime,
        Sql::TIMESTAMPTZ => Type::DatetimeUtc,
        Sql::NUMERIC => match decimal(modifier) {
            Some((precision, scale)) => Type::Decimal { precision, scale },
            None => return (Type::String, true),
        },
        _ => return (Type::String, true),
    };
    (plain, false)
}

/// Precision and scale as Decimal has them. PostgreSQL's scale may be negative, or larger than the precision.
fn decimal(modifier: i32) -> Option<(u8, u8)> {
    let packed = modifier.checked_sub(4).filter(|packed| *packed >= 0)?;
    let precision = (packed >> 16) & 0xffff;
    // Eleven bits with a sign.
    let scale = ((packed & 0x7ff) ^ 1024) - 1024;
    let digits = if scale < 0 { precision - scale } else { precision.max(scale) };
    let scale = scale.max(0);
    (digits <= 38).then_some((u8::try_from(digits).ok()?, u8::try_from(scale).ok()?))
}

pub(crate) fn compares(sql: &Sql, r#type: &Type, as_text: bool, deterministic: bool) -> Compares {
    let mut base = sql;
    while let Kind::Domain(inner) = base.kind() {
        base = inner;
    }
    match r#type {
        Type::List(_) => Compares::Never,
        Type::String if *base == Sql::BPCHAR => Compares::Never,
        Type::String if *base == Sql::UUID => Compares::Uuid,
        Type::String if !as_text && deterministic && matches!(*base, Sql::TEXT | Sql::VARCHAR) => Compares::Text,
        Type::String => Compares::TextByBytes,
        _ => Compares::Alike,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modifier(precision: i32, scale: i32) -> i32 {
        ((precision << 16) | (scale & 0x7ff)) + 4
    }

    #[test]
    fn numbers_with_a_precision_are_decimals_of_38_digits_at_most() {
        assert_eq!(decimal(modifier(10, 2)), Some((10, 2)));
        assert_eq!(decimal(modifier(38, 0)), Some((38, 0)));
        assert_eq!(decimal(modifier(39, 0)), None);
        assert_eq!(decimal(modifier(2, 5)), Some((5, 5)));
        assert_eq!(decimal(modifier(3, -2)), Some((5, 0)));
        assert_eq!(decimal(modifier(37, -2)), None);
        assert_eq!(decimal(-1), None);
    }

    #[test]
    fn arrays_are_lists_of_what_they_hold() {
        let list = |inner| Type::List(Box::new(inner));
        assert_eq!(of(&Sql::INT4_ARRAY, -1), (list(Type::Int32), false));
        assert_eq!(of(&Sql::UUID_ARRAY, -1), (list(Type::String), true));
        let numbers = list(Type::Decimal { precision: 10, scale: 2 });
        assert_eq!(of(&Sql::NUMERIC_ARRAY, modifier(10, 2)), (numbers, false));
        assert_eq!(of(&Sql::INT4_RANGE, -1), (Type::String, true));
    }
}
