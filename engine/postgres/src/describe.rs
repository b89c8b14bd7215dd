//! What a table or query has: its columns with their types, how large it is, and what the server is like.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::Statement;

use crate::connection::Connection;
use crate::error::{of, spec};
use crate::literal::text;
use crate::options::What;
use crate::sql::From;
use crate::types::{self, Column, Type};
use floe_wire::error::{QueryError, Result};

/// Older servers have no collations that take different bytes for equal, and no names for them in their catalogue.
const OLDEST: i32 = 120_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    pub from: From,
    pub columns: Vec<Column>,
    pub server: Server,
    /// The planner's guesses.
    pub rows: u64,
    pub bytes: u64,
    /// Only tables whose rows lie in blocks.
    pub blocks: Option<Blocks>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// As `server_version_num` writes it.
    pub version: i32,
    pub utf8: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocks {
    /// Of the largest of the tables that make up this one (partitions, children).
    pub most: u64,
    pub block_bytes: u64,
}

impl Described {
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// Within a transaction, which afterwards has a lock on what was described.
pub async fn describe(connection: &mut Connection, what: &What) -> Result<Described> {
    let server = server(connection).await?;
    let (from, oid) = match what {
        What::Query(query) => (From::Query(query.trim_end().trim_end_matches(';').to_owned()), None),
        What::Table(name) => table(connection, name).await?,
    };
    let doing = connection.doing(&format!("describing {}", shown(what)));
    let prepared = connection.client.prepare(&format!("SELECT * FROM {}", from.sql())).await;
    let prepared = prepared.map_err(|error| of(&error, &doing))?;
    let columns = columns(connection, &prepared).await?;
    let (rows, width) = estimate(connection, &from, &columns).await?;
    let blocks = match oid {
        Some(oid) => blocks(connection, oid).await?,
        None => None,
    };
    Ok(Described { from, columns, server, rows, bytes: rows.saturating_mul(width), blocks })
}

fn shown(what: &What) -> String {
    match what {
        What::Table(name) => format!("table {name}"),
        What::Query(_) => "the query".to_owned(),
    }
}

async fn server(connection: &mut Connection) -> Result<Server> {
    let sql = "SELECT current_setting('server_version_num')::int4, (current_setting('server_encoding') = 'UTF8')::int4";
    let row = connection.rows::<i32>(sql, &[], "asking for the server's version").await?;
    let Some([version, utf8]) = row.first().map(Vec::as_slice) else {
        return Err(QueryError::internal("the server does not say its version"));
    };
    if *version < OLDEST {
        return Err(spec("uri", format_args!("the server is PostgreSQL {}; 12 or newer is needed", version / 10_000)));
    }
    Ok(Server { version: *version, utf8: *utf8 == 1 })
}

/// Schema and name as the catalogue has them, and its number there.
async fn table(connection: &mut Connection, name: &str) -> Result<(From, Option<u32>)> {
    let doing = "looking up the table";
    let sql = format!(
        "SELECT json_build_array(n.nspname, c.relname, c.oid::int8)::text FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass({})",
        text(name)
    );
    if name.contains('\0') {
        return Err(spec("table", "has a NUL character"));
    }
    let found = connection.texts(&sql, doing).await?.into_iter().next().flatten();
    let Some(found) = found else {
        return Err(spec(
            "table",
            format_args!(
                "{name} is not there, or not for this user; write schema.table, and \"Quotes\" where SQL has them"
            ),
        ));
    };
    let (schema, name, oid): (String, String, u32) =
        serde_json::from_str(&found).map_err(|error| QueryError::internal(format!("{doing}: {error}")))?;
    Ok((From::Table { schema, name }, Some(oid)))
}

async fn columns(connection: &mut Connection, prepared: &Statement) -> Result<Vec<Column>> {
    let sql = prepared.columns();
    for (at, column) in sql.iter().enumerate() {
        if sql.iter().take(at).any(|before| before.name() == column.name()) {
            let text = format!("gives two columns named \"{}\": name one of them otherwise (AS)", column.name());
            return Err(spec("query", text));
        }
    }
    let deterministic = deterministic(connection, prepared).await?;
    let columns = sql.iter().zip(deterministic).map(|(column, deterministic)| {
        let (r#type, as_text) = types::of(column.type_(), column.type_modifier());
        let compares = types::compares(column.type_(), &r#type, as_text, deterministic);
        Column { name: column.name().to_owned(), r#type, as_text, compares }
    });
    Ok(columns.collect())
}

/// For each column, whether it is known that only the same bytes are equal in it: so for what comes straight from a table
/// whose collation says so.
async fn deterministic(connection: &mut Connection, prepared: &Statement) -> Result<Vec<bool>> {
    let tables: Vec<Option<u32>> = prepared.columns().iter().map(|column| column.table_oid()).collect();
    let numbers: Vec<Option<i16>> = prepared.columns().iter().map(|column| column.column_id()).collect();
    let sql = "SELECT coalesce(c.collisdeterministic, false) \
        FROM unnest($1::oid[], $2::int2[]) WITH ORDINALITY AS asked (relation, number, place) \
        LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = asked.relation AND a.attnum = asked.number \
        LEFT JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation ORDER BY asked.place";
    let rows = connection.rows::<bool>(sql, &[&tables, &numbers], "asking for collations").await?;
    Ok(rows.into_iter().map(|row| row.first().copied().unwrap_or(false)).collect())
}

/// Rows, and bytes of each.
async fn estimate(connection: &mut Connection, from: &From, columns: &[Column]) -> Result<(u64, u64)> {
    let (rows, guessed) = expected(connection, &format!("SELECT * FROM {}", from.sql())).await?;
    // What is fixed in size here may be smaller there.
    let least = columns.iter().map(|column| width(&column.r#type)).sum::<u64>();
    Ok((rows, guessed.max(least)))
}

/// Rows of a statement, and bytes of each.
pub(crate) async fn expected(connection: &mut Connection, sql: &str) -> Result<(u64, u64)> {
    let doing = "estimating how many rows there are";
    let lines = connection.texts(&format!("EXPLAIN (FORMAT JSON) {sql}"), doing).await?;
    let text: String = lines.into_iter().flatten().collect();
    let plan: Value = serde_json::from_str(&text).map_err(|error| QueryError::internal(format!("{doing}: {error}")))?;
    let number = |field: &str| plan.pointer(&format!("/0/Plan/{field}")).and_then(Value::as_f64).unwrap_or(0.0);
    Ok((number("Plan Rows") as u64, number("Plan Width") as u64))
}

fn width(r#type: &Type) -> u64 {
    match r#type {
        Type::Bool => 1,
        Type::Int16 => 2,
        Type::Int32 | Type::UInt32 | Type::Float32 | Type::Date => 4,
        Type::Decimal { .. } => 16,
        _ => 8,
    }
}

/// `None` for views and foreign tables, and where a part of the table is one.
async fn blocks(connection: &mut Connection, oid: u32) -> Result<Option<Blocks>> {
    let sql = format!(
        "WITH RECURSIVE parts (oid) AS (SELECT {oid}::oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i \
         JOIN parts p ON i.inhparent = p.oid) \
         SELECT json_build_array(coalesce(max(pg_relation_size(c.oid)) / current_setting('block_size')::int8, 0), \
         current_setting('block_size')::int8, \
         bool_and(c.relkind = 'p' OR (c.relkind IN ('r', 'm') AND coalesce(a.amname = 'heap', false))))::text \
         FROM parts JOIN pg_catalog.pg_class c ON c.oid = parts.oid LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam"
    );
    let doing = "asking for the table's size";
    let found = connection.texts(&sql, doing).await?.into_iter().next().flatten().unwrap_or_default();
    let (most, block_bytes, heap): (u64, u64, bool) =
        serde_json::from_str(&found).map_err(|error| QueryError::internal(format!("{doing}: {error}")))?;
    Ok(heap.then_some(Blocks { most, block_bytes }))
}
