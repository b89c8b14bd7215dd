//! The names that a text gives itself: common tables, aliases of tables, windows. And the names of types. Without a grammar:
//! good enough to suggest what was meant, not to resolve anything.

use super::statement::in_window_clause;
use super::text::{Kind, Sql};

/// Types that casts take.
pub const TYPES: [&str; 43] = [
    "BIGINT",
    "BLOB",
    "BOOL",
    "BOOLEAN",
    "BYTEA",
    "CHAR",
    "DATE",
    "DATETIME",
    "DEC",
    "DECIMAL",
    "DOUBLE",
    "FLOAT",
    "FLOAT4",
    "FLOAT8",
    "INT",
    "INT1",
    "INT2",
    "INT4",
    "INT8",
    "INTEGER",
    "INTERVAL",
    "MEDIUMINT",
    "NUMERIC",
    "REAL",
    "SMALLINT",
    "STRING",
    "TEXT",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMPTZ",
    "TINYINT",
    "UBIGINT",
    "UHUGEINT",
    "UINT1",
    "UINT2",
    "UINT4",
    "UINT8",
    "UINTEGER",
    "USMALLINT",
    "UTINYINT",
    "VARBINARY",
    "VARCHAR",
    "HUGEINT",
];

/// Words that follow a table and are no alias.
const AFTER_TABLE: [&str; 29] = [
    "ANTI",
    "AS",
    "ASOF",
    "CROSS",
    "EXCEPT",
    "FETCH",
    "FOR",
    "FULL",
    "GROUP",
    "HAVING",
    "INNER",
    "INTERSECT",
    "JOIN",
    "LEFT",
    "LIMIT",
    "MATCH_CONDITION",
    "NATURAL",
    "OFFSET",
    "ON",
    "ORDER",
    "QUALIFY",
    "RIGHT",
    "SELECT",
    "SEMI",
    "TABLESAMPLE",
    "UNION",
    "USING",
    "WHERE",
    "WINDOW",
];

/// The names that `WITH` gives.
pub fn common_tables(sql: &Sql) -> Vec<String> {
    named_queries(sql, |at, as_at| {
        let begins = at > 0 && (sql.is(at - 1, "WITH") || sql.is(at - 1, "RECURSIVE") || sql.is_symbol(at - 1, ","));
        begins && !in_window_clause(sql, as_at)
    })
}

/// The names that a `WINDOW` clause gives.
pub fn windows(sql: &Sql) -> Vec<String> {
    named_queries(sql, |_, as_at| in_window_clause(sql, as_at))
}

/// `name AS (` and `name (columns) AS (`, where `fits` accepts the positions of name and AS.
fn named_queries(sql: &Sql, fits: impl Fn(usize, usize) -> bool) -> Vec<String> {
    let mut found = vec![];
    for at in 0..sql.tokens.len() {
        let Some(name) = sql.name(&sql.tokens[at]) else { continue };
        let columns = sql.is_symbol(at + 1, "(").then(|| sql.closing(at + 1)).flatten();
        let as_at = columns.map_or(at + 1, |close| close + 1);
        let not = usize::from(sql.is(as_at + 1, "NOT"));
        let kept = usize::from(sql.is(as_at + 1 + not, "MATERIALIZED"));
        let open = as_at + 1 + not + kept;
        if sql.is(as_at, "AS") && sql.is_symbol(open, "(") && fits(at, as_at) && !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// What columns can be qualified by: the alias of a table or subquery, else the table's name, each with the table.
pub fn sources(sql: &Sql, tables: &[&str]) -> Vec<(String, Option<String>)> {
    let common = common_tables(sql);
    let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_lowercase();
    let is_table = |name: &str| {
        let all = tables.iter().copied().chain(common.iter().map(String::as_str));
        all.into_iter().any(|table| last(table) == name.to_lowercase())
    };
    let mut found: Vec<(String, Option<String>)> = vec![];
    for at in 1..sql.tokens.len() {
        let table = match sql.name(&sql.tokens[at]) {
            Some(name) if is_table(&name) && in_from(sql, at) && !goes_on(sql, at) => Some(name),
            None if is_subquery_end(sql, at) => None,
            _ => continue,
        };
        let alias = alias(sql, at + 1).or_else(|| table.clone());
        if let Some(alias) = alias.filter(|alias| found.iter().all(|(known, _)| known != alias)) {
            found.push((alias, table));
        }
    }
    found
}

/// Whether a name is not all of a table: a schema, a call, or what WITH defines.
fn goes_on(sql: &Sql, at: usize) -> bool {
    let defined =
        sql.is(at + 1, "AS") && (sql.is_symbol(at + 2, "(") || sql.is(at + 2, "MATERIALIZED") || sql.is(at + 2, "NOT"));
    sql.is_symbol(at + 1, ".") || sql.is_symbol(at + 1, "(") || defined
}

fn alias(sql: &Sql, at: usize) -> Option<String> {
    let at = at + usize::from(sql.is(at, "AS"));
    let token = sql.tokens.get(at)?;
    let keyword = token.kind == Kind::Word && AFTER_TABLE.iter().any(|word| sql.is(at, word));
    if keyword { None } else { sql.name(token) }
}

/// Whether a name stands after FROM, JOIN or a comma, maybe with a schema before it.
fn in_from(sql: &Sql, mut at: usize) -> bool {
    while at >= 2 && sql.is_symbol(at - 1, ".") {
        at -= 2;
    }
    at > 0 && (sql.is(at - 1, "FROM") || sql.is(at - 1, "JOIN") || sql.is_symbol(at - 1, ","))
}

/// Whether a parenthesis closes here that holds a subquery in FROM.
fn is_subquery_end(sql: &Sql, at: usize) -> bool {
    if !sql.is_symbol(at, ")") {
        return false;
    }
    let depth = sql.tokens[at].depth;
    let open = (0..at).rev().find(|open| sql.tokens[*open].depth == depth && sql.is_symbol(*open, "("));
    open.is_some_and(|open| open > 0 && in_from(sql, open) && (sql.is(open + 1, "SELECT") || sql.is(open + 1, "WITH")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_text() {
        let text = "with a as (select 1), b(x, y) as not materialized (select 2) \
                    select sum(n) over v, count(n) total from a join lake.emp as e on true, (select 1) q, dept \
                    where e.id in (select id from b) window v as (order by n), w as (partition by n)";
        let sql = Sql::read(text).unwrap();
        assert_eq!(common_tables(&sql), ["a", "b"]);
        assert_eq!(windows(&sql), ["v", "w"]);
        let names: Vec<String> = sources(&sql, &["lake.emp", "dept"])
            .into_iter()
            .map(|(alias, table)| format!("{alias}={}", table.unwrap_or_default()))
            .collect();
        assert_eq!(names, ["a=a", "e=emp", "q=", "dept=dept", "b=b"]);
    }
}
