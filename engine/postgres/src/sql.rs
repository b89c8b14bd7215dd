//! What is pushed down, as PostgreSQL's SQL. `None` wherever the database might not mean what Polars means; then the caller
//! does it itself.
//!
//! What holds in both, and is relied on (`tests/meaning.rs` asks a server): comparisons with null are null, and `AND`,
//! `OR`, `NOT` have three values; NaN equals NaN and is the greatest; both zeros are equal. What differs: text has
//! collations, so order is asked for by bytes; `char(n)` is compared without its blanks, so it is not compared; `IN ()`.

use crate::describe::{Described, Server};
use crate::literal::{constant, name, text};
use crate::pushed::{Aggregate, Clause, Comparison, Group, Literal, Order, Pushed};
use crate::split::Part;
use crate::types::{Column, Compares, Type};
use floe_wire::error::{QueryError, Result};
use serde::{Deserialize, Serialize};

/// What stands after `FROM`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum From {
    Table { schema: String, name: String },
    Query(String),
}

impl From {
    pub fn sql(&self) -> String {
        match self {
            From::Table { schema, name: table } => format!("{}.{}", name(schema), name(table)),
            // A comment at its end must not swallow the bracket.
            From::Query(query) => format!("({query}\n) AS floe_source"),
        }
    }
}

/// A statement and what it gives back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Select {
    pub sql: String,
    pub names: Vec<String>,
    pub types: Vec<Type>,
}

/// Whether all of `clause` can be said in SQL.
pub fn can_filter(described: &Described, clause: &Clause) -> bool {
    condition(described, clause).is_some()
}

pub fn can_order(described: &Described, order: &[Order]) -> bool {
    order.iter().all(|order| order_by(described, order).is_some())
}

pub fn can_group(described: &Described, group: &Group) -> bool {
    items_of_group(described, group).is_some()
}

/// The statement that reads one part. What cannot be pushed must not be in `pushed`: that is an error, since nobody would
/// do it.
pub fn select(described: &Described, pushed: &Pushed, part: &Part) -> Result<Select> {
    let refused = |what: &str| QueryError::internal(format!("PostgreSQL cannot be asked for {what}"));
    if pushed.group.is_some() && pushed.limit.is_some() {
        return Err(refused("the first of its groups"));
    }
    let items = match &pushed.group {
        Some(group) => items_of_group(described, group).ok_or_else(|| refused("this group-by"))?,
        None => items_of(described, &pushed.columns)?,
    };
    let mut conditions = part.condition().into_iter().collect::<Vec<_>>();
    for clause in &pushed.filter {
        conditions.push(condition(described, clause).ok_or_else(|| refused("a filter"))?);
    }
    let list: Vec<String> = items.iter().map(|item| format!("{} AS {}", item.sql, name(&item.name))).collect();
    // A list of no columns is good SQL: as many empty rows as there are.
    let mut sql = format!("SELECT {} FROM {}", list.join(", "), described.from.sql());
    if !conditions.is_empty() {
        sql.push_str(&format!(" WHERE {}", conditions.join(" AND ")));
    }
    if let Some(group) = &pushed.group
        && !group.keys.is_empty()
    {
        // By place in the list, where the keys come first.
        let places: Vec<String> = (1..=group.keys.len()).map(|place| place.to_string()).collect();
        sql.push_str(&format!(" GROUP BY {}", places.join(", ")));
    }
    if let Some(limit) = pushed.limit {
        let order: Option<Vec<String>> = pushed.order.iter().map(|order| order_by(described, order)).collect();
        let order = order.ok_or_else(|| refused("this order"))?;
        if !order.is_empty() {
            sql.push_str(&format!(" ORDER BY {}", order.join(", ")));
        }
        sql.push_str(&format!(" LIMIT {limit}"));
    }
    let (names, types) = items.into_iter().map(|item| (item.name, item.r#type)).unzip();
    Ok(Select { sql, names, types })
}

struct Item {
    sql: String,
    name: String,
    r#type: Type,
}

fn items_of(described: &Described, columns: &[String]) -> Result<Vec<Item>> {
    let item = |wanted: &String| {
        let column = described.column(wanted).ok_or_else(|| {
            QueryError::user("ColumnNotFoundError", format!("{wanted}: no such column in {}", described.from.sql()))
        })?;
        Ok(Item { sql: value(column), name: column.name.clone(), r#type: column.r#type.clone() })
    };
    columns.iter().map(item).collect()
}

/// A column in the form in which it is read.
fn value(column: &Column) -> String {
    match (column.as_text, &column.r#type) {
        (false, _) => name(&column.name),
        (true, Type::List(_)) => format!("{}::text[]", name(&column.name)),
        (true, _) => format!("{}::text", name(&column.name)),
    }
}

/// A column as it is compared for equality, and grouped.
fn equal_form(column: &Column, server: &Server) -> Option<String> {
    match column.compares {
        Compares::Never => None,
        Compares::Alike => Some(name(&column.name)),
        Compares::Text => server.utf8.then(|| name(&column.name)),
        Compares::TextByBytes | Compares::Uuid => bytes_form(column, server),
    }
}

/// A column as it is put in order.
fn order_form(column: &Column, server: &Server) -> Option<String> {
    match column.compares {
        Compares::Never => None,
        Compares::Alike => Some(name(&column.name)),
        Compares::Text | Compares::TextByBytes | Compares::Uuid => bytes_form(column, server),
    }
}

/// In another encoding, the order of bytes is another one, and a literal may have characters that it lacks.
fn bytes_form(column: &Column, server: &Server) -> Option<String> {
    server.utf8.then(|| format!("{}::text COLLATE \"C\"", name(&column.name)))
}

fn condition(described: &Described, clause: &Clause) -> Option<String> {
    let all = |clauses: &[Clause], word: &str| {
        let parts: Option<Vec<String>> = clauses.iter().map(|clause| condition(described, clause)).collect();
        let parts = parts.filter(|parts| !parts.is_empty())?;
        Some(format!("({})", parts.join(word)))
    };
    match clause {
        Clause::Compare { column, by, to } => compare(described.column(column)?, *by, to, &described.server),
        Clause::In { column, of } => is_in(described.column(column)?, of, &described.server),
        Clause::True(column) => {
            let column = described.column(column)?;
            (column.r#type == Type::Bool).then(|| name(&column.name))
        }
        Clause::Null(column) => Some(format!("({} IS NULL)", scalar(described.column(column)?))),
        Clause::NotNull(column) => Some(format!("({} IS NOT NULL)", scalar(described.column(column)?))),
        Clause::StartsWith { column, prefix } => {
            let column = described.column(column).filter(|column| column.compares != Compares::Never)?;
            if column.r#type != Type::String || prefix.contains('\0') {
                return None;
            }
            Some(format!("starts_with({}, {})", bytes_form(column, &described.server)?, text(prefix)))
        }
        Clause::Not(inner) => Some(format!("(NOT {})", condition(described, inner)?)),
        Clause::All(clauses) => all(clauses, " AND "),
        Clause::Any(clauses) => all(clauses, " OR "),
    }
}

/// `ROW(NULL, NULL) IS NULL` is true in SQL, though its text is not null; so composites, which are among what is written as
/// text, are tested in that form.
fn scalar(column: &Column) -> String {
    if column.compares == Compares::Uuid { name(&column.name) } else { value(column) }
}

fn compare(column: &Column, by: Comparison, to: &Literal, server: &Server) -> Option<String> {
    let equality = match by {
        Comparison::Equal => Some("="),
        Comparison::NotEqual => Some("<>"),
        Comparison::EqualMissing => Some("IS NOT DISTINCT FROM"),
        Comparison::NotEqualMissing => Some("IS DISTINCT FROM"),
        Comparison::Less | Comparison::LessOrEqual | Comparison::Greater | Comparison::GreaterOrEqual => None,
    };
    if let Some(operator) = equality {
        if let (Compares::Uuid, Literal::String(value)) = (column.compares, to)
            && is_uuid(value)
        {
            return Some(format!("({} {operator} '{value}'::uuid)", name(&column.name)));
        }
        return Some(format!("({} {operator} {})", equal_form(column, server)?, constant(to, &column.r#type)?));
    }
    let operator = match by {
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        _ => ">=",
    };
    Some(format!("({} {operator} {})", order_form(column, server)?, constant(to, &column.r#type)?))
}

fn is_in(column: &Column, of: &[Literal], server: &Server) -> Option<String> {
    let uuids = column.compares == Compares::Uuid
        && of.iter().all(|value| matches!(value, Literal::String(value) if is_uuid(value)));
    let values: Option<Vec<String>> = of
        .iter()
        .map(|value| match value {
            Literal::String(value) if uuids => Some(format!("'{value}'::uuid")),
            value => constant(value, &column.r#type),
        })
        .collect();
    let values = values.filter(|values| !values.is_empty())?;
    let column = if uuids { name(&column.name) } else { equal_form(column, server)? };
    Some(format!("({column} IN ({}))", values.join(", ")))
}

/// In the one form that the database writes: another one is another text.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

fn order_by(described: &Described, order: &Order) -> Option<String> {
    let column = order_form(described.column(&order.column)?, &described.server)?;
    let direction = if order.descending { "DESC" } else { "ASC" };
    let nulls = if order.nulls_last { "LAST" } else { "FIRST" };
    Some(format!("{column} {direction} NULLS {nulls}"))
}

fn items_of_group(described: &Described, group: &Group) -> Option<Vec<Item>> {
    let key = |wanted: &String| {
        let column = described.column(wanted)?;
        // Which of two equal floats stands for a group is left to chance (`-0.0`), and a text form of a group's key has to be
        // one of its own.
        if matches!(column.r#type, Type::Float32 | Type::Float64) {
            return None;
        }
        let sql = match column.compares {
            Compares::Uuid => value(column),
            _ => equal_form(column, &described.server)?,
        };
        Some(Item { sql, name: column.name.clone(), r#type: column.r#type.clone() })
    };
    let keys = group.keys.iter().map(key);
    let values = group.values.iter().map(|(name, aggregate)| {
        let (sql, r#type) = aggregate_of(described, aggregate)?;
        Some(Item { sql, name: name.clone(), r#type })
    });
    keys.chain(values).collect()
}

fn aggregate_of(described: &Described, aggregate: &Aggregate) -> Option<(String, Type)> {
    Some(match aggregate {
        Aggregate::Len => ("count(*)".to_owned(), Type::Int64),
        Aggregate::Count(column) => (format!("count({})", scalar(described.column(column)?)), Type::Int64),
        Aggregate::Sum(column) => {
            let column = described.column(column)?;
            let column_name = name(&column.name);
            match column.r#type {
                Type::Int16 | Type::Int32 => (format!("coalesce(sum({column_name}), 0)"), Type::Int64),
                Type::Int64 => (wrapped(&format!("coalesce(sum({column_name}), 0)")), Type::Int64),
                // Sums of floats depend on their order, and those of decimals end in errors of their own kind.
                _ => return None,
            }
        }
        Aggregate::Min(column) => least(described, column, "min")?,
        Aggregate::Max(column) => least(described, column, "max")?,
    })
}

/// A sum of any size as one of 64 bits that goes around at its ends.
fn wrapped(sum: &str) -> String {
    const HALF: &str = "9223372036854775808";
    const ALL: &str = "18446744073709551616";
    format!("(mod(mod({sum} + {HALF}, {ALL}) + {ALL}, {ALL}) - {HALF})::int8")
}

fn least(described: &Described, column: &str, function: &str) -> Option<(String, Type)> {
    let column = described.column(column)?;
    let sortable = match column.r#type {
        // Polars leaves NaN out, which the database takes for the greatest.
        Type::Float32 | Type::Float64 => false,
        // The database has no such function of these.
        Type::Bool | Type::Binary | Type::List(_) => false,
        _ => true,
    };
    let form = order_form(column, &described.server).filter(|_| sortable)?;
    Some((format!("{function}({form})"), column.r#type.clone()))
}
