//! What may be asked of the database instead of being computed here. Nothing in this vocabulary is said in SQL's words: a
//! clause means what Polars means by it, and `sql` renders it only where the database means the same.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pushed {
    /// The columns that are read, in this order. Without rows of its own (`group`), what comes back has just these.
    pub columns: Vec<String>,
    /// All of these hold.
    pub filter: Vec<Clause>,
    /// Rows are grouped, and `columns` is not looked at.
    pub group: Option<Group>,
    /// The first rows in this order are meant if there is a limit; without one no order is promised.
    pub order: Vec<Order>,
    pub limit: Option<u64>,
}

/// True, false or null for each row, as Polars' expressions are; a row is kept where it is true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Clause {
    Compare {
        column: String,
        by: Comparison,
        to: Literal,
    },
    /// One of these, none of which is null; null where the column is.
    In {
        column: String,
        of: Vec<Literal>,
    },
    /// A column of booleans.
    True(String),
    Null(String),
    NotNull(String),
    StartsWith {
        column: String,
        prefix: String,
    },
    Not(Box<Clause>),
    All(Vec<Clause>),
    Any(Vec<Clause>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// `eq_missing`, `ne_missing`: null is a value, and only equal to itself.
    EqualMissing,
    NotEqualMissing,
}

/// A value of the type of the column that it is compared with, which is the caller's to see to: Polars compares a Float32
/// with a Float32, and the database would widen both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Literal {
    Bool(bool),
    Int(i64),
    Float32(f32),
    Float64(f64),
    Decimal {
        value: i128,
        scale: u8,
    },
    String(String),
    Binary(Vec<u8>),
    /// Days since 1970.
    Date(i32),
    /// Nanoseconds since midnight.
    Time(i64),
    /// Microseconds since 1970, of a clock on the wall.
    Datetime(i64),
    /// Microseconds since 1970 in UTC.
    DatetimeUtc(i64),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub column: String,
    pub descending: bool,
    pub nulls_last: bool,
}

/// One row for each combination of keys; without keys, one row for all. With several parts, these are partial aggregates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub keys: Vec<String>,
    /// Names of the result with what they are.
    pub values: Vec<(String, Aggregate)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Aggregate {
    /// Rows: Int64.
    Len,
    /// Rows in which the column is not null: Int64.
    Count(String),
    /// As Polars sums integers: zero of no rows, and around the end of 64 bits. Int64; sums of Int32 wrap when they are cast.
    Sum(String),
    /// Null of no rows; the column's type.
    Min(String),
    Max(String),
}
