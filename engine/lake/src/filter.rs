//! Filters over the values of partitions, as text: `day >= DATE '2026-01-01' AND region IN ('eu', 'us')`.
//!
//! All rows of a file have the same values of the columns that partition it. So a filter over these columns holds for
//! all of its rows or for none, and the table's metadata says which.

mod lexer;
mod parser;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use floe_wire::error::{QueryError, Result};

use crate::delta::values;
use crate::table::{Type, Unit, Value};

/// A filter as it was written: its columns have not been looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    text: String,
    condition: Condition<String, Literal>,
}

/// A filter bound to the columns that partition a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    text: String,
    /// The columns that partition the table.
    keys: Vec<(String, Type)>,
    condition: Condition<usize, Value>,
}

/// A key of a table's partitioning.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// The column; for messages, the transform with its column.
    pub name: &'a str,
    pub dtype: &'a Type,
    /// Whether the key is the column's own value, which a filter can be decided by.
    pub is_value: bool,
}

/// `C` names a column, `L` is a value that it is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition<C, L> {
    Compare(C, Comparison, L),
    IsNull(C),
    Not(Box<Condition<C, L>>),
    And(Vec<Condition<C, L>>),
    Or(Vec<Condition<C, L>>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Literal {
    Number(String),
    Text(String),
    Boolean(bool),
}

impl Filter {
    pub fn parse(text: &str) -> Result<Self> {
        let condition = parser::parse(text).map_err(|what| refused(text, &what))?;
        Ok(Self { text: text.to_owned(), condition })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Looks up the filter's columns among the keys. `others` are the table's columns: they tell a misspelt name from a
    /// column that does not partition the table.
    pub fn bind(&self, keys: &[Key<'_>], others: &[&str]) -> Result<Bound> {
        let condition = bind(&self.condition, keys, others).map_err(|what| refused(&self.text, &what))?;
        let keys = keys.iter().map(|key| (key.name.to_owned(), key.dtype.clone())).collect();
        Ok(Bound { text: self.text.clone(), keys, condition })
    }
}

impl Bound {
    /// Whether the filter holds for rows with these values. As in SQL, null does not count as true.
    pub fn holds(&self, values: &[Option<Value>]) -> bool {
        holds(&self.condition, values) == Some(true)
    }

    /// The indices of the keys that the filter uses.
    pub fn keys(&self) -> Vec<usize> {
        let mut found = Vec::new();
        collect(&self.condition, &mut found);
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Refuses rows for which the filter does not hold.
    pub fn check(&self, values: &[Option<Value>]) -> Result<()> {
        if self.holds(values) {
            return Ok(());
        }
        let shown = |at: usize| {
            let (name, dtype) = self.keys.get(at)?;
            Some(format!("{name} = {}", shown(values.get(at)?.as_ref(), dtype)))
        };
        let shown: Vec<String> = self.keys().into_iter().filter_map(shown).collect();
        let what = format!("the result has rows that it does not hold for ({}): leave them out", shown.join(", "));
        Err(refused(&self.text, &what))
    }
}

/// A value as it is written in a filter.
fn shown(value: Option<&Value>, dtype: &Type) -> String {
    match value {
        None => "null".to_owned(),
        Some(value) if matches!(dtype, Type::String | Type::Date | Type::Timestamp { .. }) => {
            format!("'{}'", value.text(dtype))
        }
        Some(value) => value.text(dtype),
    }
}

fn refused(text: &str, what: &str) -> QueryError {
    QueryError::user("BadSpec", format!("sink.overwriteWhere: \"{text}\": {what}"))
}

fn bind(
    condition: &Condition<String, Literal>,
    keys: &[Key<'_>],
    others: &[&str],
) -> Result<Condition<usize, Value>, String> {
    let all = |conditions: &[Condition<String, Literal>]| {
        conditions.iter().map(|condition| bind(condition, keys, others)).collect::<Result<Vec<_>, String>>()
    };
    Ok(match condition {
        Condition::Compare(column, comparison, literal) => {
            let at = find(column, keys, others)?;
            let dtype = keys[at].dtype;
            let value = literal.of(dtype).ok_or_else(|| {
                let kind = kind(dtype);
                match kind {
                    Some(kind) => format!("{} is no value of column {column}: write {kind}", literal.shown()),
                    None => format!(
                        "values of the type of column {column} cannot be written in it: use IS NULL, or \
                         another column"
                    ),
                }
            })?;
            Condition::Compare(at, *comparison, value)
        }
        Condition::IsNull(column) => Condition::IsNull(find(column, keys, others)?),
        Condition::Not(inner) => Condition::Not(Box::new(bind(inner, keys, others)?)),
        Condition::And(inner) => Condition::And(all(inner)?),
        Condition::Or(inner) => Condition::Or(all(inner)?),
    })
}

fn find(column: &str, keys: &[Key<'_>], others: &[&str]) -> Result<usize, String> {
    if let Some(at) = keys.iter().position(|key| key.is_value && key.name == column) {
        return Ok(at);
    }
    let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
    let by = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    Err(match others.contains(&column) {
        true => format!(
            "files cannot be told apart by column {column}, since the table is partitioned by {by}: use columns whose \
             values partition it"
        ),
        false => format!("the table has no column {column}; it is partitioned by {by}"),
    })
}

/// How a value of a type is written, for messages; `None` if it cannot be written in a filter.
fn kind(dtype: &Type) -> Option<&'static str> {
    Some(match dtype {
        Type::Boolean => "true or false",
        Type::Int8 | Type::Int16 | Type::Int32 | Type::Int64 => "a whole number that the type has",
        Type::Float32 | Type::Float64 | Type::Decimal { .. } => "a number that the type has",
        Type::String => "a text such as 'eu'",
        Type::Date => "a date such as '2026-01-31'",
        Type::Timestamp { utc: true, .. } => "a time such as '2026-01-31T12:00:00Z'",
        Type::Timestamp { utc: false, .. } => "a time without a zone, such as '2026-01-31T12:00:00'",
        _ => return None,
    })
}

impl Literal {
    fn shown(&self) -> String {
        match self {
            Literal::Number(text) => text.clone(),
            Literal::Text(text) => format!("'{text}'"),
            Literal::Boolean(value) => value.to_string(),
        }
    }

    /// Converts the literal to a type; `None` if it does not fit.
    fn of(&self, dtype: &Type) -> Option<Value> {
        match (self, dtype) {
            (Literal::Boolean(value), Type::Boolean) => Some(Value::Boolean(*value)),
            (
                Literal::Number(text),
                Type::Int8
                | Type::Int16
                | Type::Int32
                | Type::Int64
                | Type::Float32
                | Type::Float64
                | Type::Decimal { .. },
            )
            | (Literal::Text(text), Type::String | Type::Date) => values::partition(text, dtype),
            (Literal::Text(text), Type::Timestamp { unit, utc }) => {
                // The column has no zone, so one in the text would be ignored.
                if !utc && text.parse::<jiff::Timestamp>().is_ok() {
                    return None;
                }
                let Value::Int(micros) = values::partition(text, dtype)? else { return None };
                let nanos = *unit == Unit::Nanos;
                Some(Value::Int(if nanos { micros.checked_mul(1_000)? } else { micros }))
            }
            _ => None,
        }
    }
}

fn holds(condition: &Condition<usize, Value>, values: &[Option<Value>]) -> Option<bool> {
    let value = |at: &usize| values.get(*at).and_then(Option::as_ref);
    match condition {
        Condition::Compare(at, comparison, with) => {
            let order = compare(value(at)?, with)?;
            Some(match comparison {
                Comparison::Equal => order.is_eq(),
                Comparison::NotEqual => order.is_ne(),
                Comparison::Less => order.is_lt(),
                Comparison::LessOrEqual => order.is_le(),
                Comparison::Greater => order.is_gt(),
                Comparison::GreaterOrEqual => order.is_ge(),
            })
        }
        Condition::IsNull(at) => Some(value(at).is_none()),
        Condition::Not(inner) => holds(inner, values).map(|holds| !holds),
        Condition::And(inner) => decide(inner, values, false),
        Condition::Or(inner) => decide(inner, values, true),
    }
}

/// Combines conditions of which a single one that is `decisive` settles the result; null otherwise wins over the rest.
fn decide(conditions: &[Condition<usize, Value>], values: &[Option<Value>], decisive: bool) -> Option<bool> {
    let mut all = Some(!decisive);
    for condition in conditions {
        match holds(condition, values) {
            Some(holds) if holds == decisive => return Some(decisive),
            Some(_) => {}
            None => all = None,
        }
    }
    all
}

/// NaN is greater than all numbers and equal to itself, as in Polars. `None` if the types differ.
fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    Some(match (a, b) {
        (Value::Boolean(a), Value::Boolean(b)) => a.cmp(b),
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan())),
        (Value::Decimal(a), Value::Decimal(b)) => a.cmp(b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Binary(a), Value::Binary(b)) => a.cmp(b),
        _ => return None,
    })
}

fn collect(condition: &Condition<usize, Value>, found: &mut Vec<usize>) {
    match condition {
        Condition::Compare(at, _, _) | Condition::IsNull(at) => found.push(*at),
        Condition::Not(inner) => collect(inner, found),
        Condition::And(inner) | Condition::Or(inner) => inner.iter().for_each(|inner| collect(inner, found)),
    }
}
