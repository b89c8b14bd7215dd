//! Determines what a statement asks for, and edits the text to SQL that Polars reads: inserts parameters, replaces
//! table functions, marks the orders of windows.

use std::collections::BTreeMap;

use serde_json::Value;

use super::text::{Edits, Fault, Kind, Sql, Token};
use crate::crossing::{ORDER_MARK, Order};
use floe_api::Format;
use floe_api::suggest::nearest;

/// Limit of nested parentheses, checked before any parser recurses over them.
const MAX_DEPTH: usize = 200;

#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    Query,
    Explain,
    /// The columns of a query or table.
    Describe,
    /// Statistics of each column of a query or table.
    Summarize,
    ShowTables,
}

/// A statement in the form for Polars.
#[derive(Debug)]
pub struct Statement {
    pub ask: Ask,
    /// The query for Polars. Empty for SHOW TABLES.
    pub query: String,
    pub edits: Edits,
    /// Orders of windows with several keys, by the number in their marks.
    pub orders: Vec<Order>,
    /// Files that the text reads with table functions.
    pub files: Vec<File>,
    /// Counts of the orders and files that earlier texts of the query numbered.
    before: Numbered,
}

/// A file that a text reads with a table function.
#[derive(Debug, PartialEq)]
pub struct File {
    /// Table name that replaces the function call.
    pub name: String,
    pub format: Format,
    pub uri: String,
    /// Position of the URI in the text.
    pub at: usize,
}

/// Counts of numbered orders and files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numbered {
    pub orders: usize,
    pub files: usize,
}

const READERS: [(&str, Format); 15] = [
    ("read_parquet", Format::Parquet),
    ("read_delta", Format::Delta),
    ("delta_scan", Format::Delta),
    ("read_iceberg", Format::Iceberg),
    ("iceberg_scan", Format::Iceberg),
    ("scan_parquet", Format::Parquet),
    ("scan_delta", Format::Delta),
    ("scan_iceberg", Format::Iceberg),
    ("read_csv", Format::Csv),
    ("scan_csv", Format::Csv),
    ("read_json", Format::Ndjson),
    ("read_ndjson", Format::Ndjson),
    ("scan_ndjson", Format::Ndjson),
    ("read_ipc", Format::Ipc),
    ("scan_ipc", Format::Ipc),
];

/// The table function that a token names, quoted or not.
fn reader(sql: &Sql, at: usize) -> Option<&'static (&'static str, Format)> {
    let name = sql.name(sql.tokens.get(at)?)?;
    READERS.iter().find(|(reader, _)| name.eq_ignore_ascii_case(reader))
}

pub fn read(sql: &Sql, params: &BTreeMap<String, Value>, before: Numbered) -> Result<Statement, Fault> {
    let mut edits = Edits::default();
    let end = end_of_statement(sql, &mut edits)?;
    if let Some(token) = sql.tokens.iter().find(|token| token.depth > MAX_DEPTH) {
        return Err(Fault { at: token.start, message: format!("parentheses nest more than {MAX_DEPTH} deep here") });
    }
    let (ask, begin) = asked(sql, end)?;
    let query_begin = sql.tokens.get(begin).map_or(sql.text.len(), |token| token.start);
    // Overwrite with blanks, so that positions stay the same.
    edits.replace(0, query_begin, blank(&sql.text[..query_begin]));
    if matches!(ask, Ask::Describe | Ask::Summarize) && is_name(sql, begin, end) {
        edits.replace(query_begin, query_begin, "SELECT * FROM ");
    } else if ask != Ask::ShowTables {
        only_a_query(sql, begin, end)?;
    }
    let mut statement = Statement { ask, query: String::new(), edits, orders: vec![], files: vec![], before };
    for at in begin..end {
        let token = sql.tokens[at];
        match token.kind {
            Kind::Param => statement.edits.replace(token.start, token.end, literal(sql, &token, params)?),
            Kind::Word => {
                statement.file(sql, at)?;
                statement.window(sql, at);
            }
            // Polars finds its readers by quoted names, too.
            Kind::Quoted => statement.file(sql, at)?,
            _ => {}
        }
    }
    statement.query = statement.edits.apply(sql.text);
    if statement.ask == Ask::ShowTables {
        statement.query.clear();
    }
    if sql.view.is_some() && statement.ask != Ask::Query {
        let message = format!("a view is a query, and {} is none: write SELECT …", sql.slice(&sql.tokens[0]));
        return Err(Fault { at: sql.tokens[0].start, message });
    }
    Ok(statement)
}

fn blank(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect()
}

/// Number of tokens before a closing semicolon. A second statement is refused.
fn end_of_statement(sql: &Sql, edits: &mut Edits) -> Result<usize, Fault> {
    let semicolon = |at: &usize| sql.is_symbol(*at, ";");
    let end = (0..sql.tokens.len()).find(semicolon).unwrap_or(sql.tokens.len());
    if let Some(next) = (end..sql.tokens.len()).find(|at| !semicolon(at)) {
        let message = "a second statement begins here: a query is one statement".into();
        return Err(Fault { at: sql.tokens[next].start, message });
    }
    if end == 0 {
        return Err(Fault { at: 0, message: "there is no query: write SELECT …".into() });
    }
    if let Some(first) = sql.tokens.get(end) {
        edits.replace(first.start, sql.text.len(), "");
    }
    Ok(end)
}

fn asked(sql: &Sql, end: usize) -> Result<(Ask, usize), Fault> {
    let first = &sql.tokens[0];
    let word = sql.slice(first).to_ascii_uppercase();
    let (ask, begin) = match word.as_str() {
        "EXPLAIN" => {
            if sql.is(1, "ANALYZE") || sql.is_symbol(1, "(") {
                let message = "EXPLAIN takes no options: it shows the stages without running them".into();
                return Err(Fault { at: sql.tokens[1].start, message });
            }
            (Ask::Explain, 1)
        }
        "DESCRIBE" | "DESC" => (Ask::Describe, 1),
        "SUMMARIZE" => (Ask::Summarize, 1),
        "SHOW" if sql.is(1, "TABLES") && end == 2 => return Ok((Ask::ShowTables, 2)),
        "SHOW" => {
            let message = "SHOW shows TABLES and nothing else: write SHOW TABLES".into();
            return Err(Fault { at: first.start, message });
        }
        _ => (Ask::Query, 0),
    };
    if begin >= end {
        let message = format!("{word} is not followed by a query or a table");
        return Err(Fault { at: first.start, message });
    }
    Ok((ask, begin))
}

/// Whether the tokens are one name, possibly with several parts.
fn is_name(sql: &Sql, begin: usize, end: usize) -> bool {
    let part = |at: usize| matches!(sql.tokens[at].kind, Kind::Word | Kind::Quoted);
    let single = !QUERIES.iter().any(|word| sql.is(begin, word)) && (begin..end).len() % 2 == 1;
    let call = end - begin == 4 && reader(sql, begin).is_some();
    call || single && (begin..end).all(|at| if (at - begin) % 2 == 0 { part(at) } else { sql.is_symbol(at, ".") })
}

const QUERIES: [&str; 4] = ["SELECT", "WITH", "FROM", "VALUES"];

/// Refuses statements other than queries. After WITH, looks at the statement behind the common tables.
fn only_a_query(sql: &Sql, begin: usize, end: usize) -> Result<(), Fault> {
    let is_query =
        |at: usize| sql.is_symbol(at, "(") || ["SELECT", "FROM", "VALUES", "TABLE"].iter().any(|word| sql.is(at, word));
    let mut at = begin;
    if sql.is(begin, "WITH") {
        // The first token at the outermost level that follows a closing parenthesis and does not continue the list.
        at = (begin + 1..end)
            .find(|at| {
                sql.tokens[*at].depth == 0
                    && sql.is_symbol(at - 1, ")")
                    && !sql.is_symbol(*at, ")")
                    && !sql.is_symbol(*at, ",")
                    && !sql.is(*at, "AS")
            })
            .unwrap_or(begin + 1);
        if at == begin + 1 {
            // A syntax error: leave it to Polars, which gives the position.
            return Ok(());
        }
    }
    if is_query(at) {
        return Ok(());
    }
    let token = &sql.tokens[at];
    let word = sql.slice(token).to_ascii_uppercase();
    let message = match word.as_str() {
        "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "TRUNCATE" | "CREATE" | "DROP" | "ALTER" | "COPY" | "SET"
        | "USE" | "BEGIN" | "COMMIT" | "ROLLBACK" | "GRANT" | "REVOKE" | "CALL" | "ATTACH" | "INSTALL" | "LOAD"
        | "PRAGMA" | "EXPORT" | "IMPORT" | "VACUUM" | "REPLACE" | "ANALYZE" => {
            format!("{word} is no query: write SELECT …; where the result goes is spec.sink's to say")
        }
        _ => {
            let known = ["SELECT", "WITH", "FROM", "VALUES", "EXPLAIN", "DESCRIBE", "SUMMARIZE", "SHOW"];
            let meant = nearest(&word, known).map(|near| format!("did you mean {near}?"));
            let meant = meant.unwrap_or_else(|| {
                "write SELECT, WITH, FROM, VALUES, EXPLAIN, DESCRIBE, SUMMARIZE or SHOW TABLES".into()
            });
            format!("a query does not begin with {}: {meant}", sql.slice(token))
        }
    };
    Err(Fault { at: token.start, message })
}

/// A parameter as a literal of its type. It replaces a single token, so a value cannot inject SQL.
fn literal(sql: &Sql, token: &Token, params: &BTreeMap<String, Value>) -> Result<String, Fault> {
    let name = &sql.slice(token)[1..];
    let value = params.get(name).ok_or_else(|| {
        let known: Vec<&str> = params.keys().map(String::as_str).collect();
        let meant = nearest(name, known.iter().copied()).map(|near| format!("; did you mean ${near}?"));
        let list =
            if known.is_empty() { "there are none".to_owned() } else { format!("there are: {}", known.join(", ")) };
        let message = format!("no parameter {name} in spec.params{} ({list})", meant.unwrap_or_default());
        Fault { at: token.start, message }
    })?;
    let text = value_as_literal(value).map_err(|what| Fault {
        at: token.start,
        message: format!("the parameter {name} is {what}, which has no place in SQL"),
    })?;
    if value.is_array() && !(sql.text[..token.start].trim_end().ends_with('(')) {
        return Ok(format!("({text})"));
    }
    Ok(text)
}

fn value_as_literal(value: &Value) -> Result<String, &'static str> {
    Ok(match value {
        Value::Null => "NULL".into(),
        Value::Bool(true) => "TRUE".into(),
        Value::Bool(false) => "FALSE".into(),
        // Parentheses separate the sign from an operator before it.
        Value::Number(number) if number.is_f64() => format!("CAST('{number}' AS DOUBLE)"),
        Value::Number(number) if number.to_string().starts_with('-') => format!("({number})"),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.contains('\0') => return Err("a text with a zero byte"),
        Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        Value::Array(items) if items.is_empty() => return Err("an empty list"),
        Value::Array(items) => {
            if items.iter().any(|item| item.is_array() || item.is_object()) {
                return Err("a list of lists or objects");
            }
            items.iter().map(value_as_literal).collect::<Result<Vec<_>, _>>()?.join(", ")
        }
        Value::Object(_) => return Err("an object"),
    })
}

impl Statement {
    /// Replaces a table function over a file by a table name.
    fn file(&mut self, sql: &Sql, at: usize) -> Result<(), Fault> {
        let Some((name, format)) = reader(sql, at) else { return Ok(()) };
        if !sql.is_symbol(at + 1, "(") {
            return Ok(());
        }
        let token = &sql.tokens[at];
        let (Some(argument), Some(close)) = (sql.tokens.get(at + 2), sql.closing(at + 1)) else { return Ok(()) };
        if argument.kind != Kind::Text || close != at + 3 {
            let message = format!("{name} takes one text, the file's URI: for options, name the table in spec.tables");
            return Err(Fault { at: argument.start, message });
        }
        let uri = sql.text_of(argument);
        let table = format!("__floe_file_{}", self.before.files + self.files.len());
        let end = sql.tokens[close].end;
        self.edits.replace(token.start, end, format!("\"{table}\""));
        self.files.push(File { name: table, format: *format, uri, at: argument.start });
        Ok(())
    }

    /// Marks the first key of a window's ORDER BY with several keys, because Polars' resolved plan does not show their
    /// directions.
    fn window(&mut self, sql: &Sql, at: usize) {
        let named = at >= 1 && sql.is(at, "AS") && in_window_clause(sql, at);
        if !(sql.is(at, "OVER") || named) || !sql.is_symbol(at + 1, "(") {
            return;
        }
        let Some(close) = sql.closing(at + 1) else { return };
        let depth = sql.tokens[at + 1].depth + 1;
        let Some(order) =
            (at + 2..close).find(|at| sql.tokens[*at].depth == depth && sql.is(*at, "ORDER") && sql.is(at + 1, "BY"))
        else {
            return;
        };
        let begin = order + 2;
        let end = (begin..close)
            .find(|at| {
                sql.tokens[*at].depth == depth && ["ROWS", "RANGE", "GROUPS"].iter().any(|word| sql.is(*at, word))
            })
            .unwrap_or(close);
        let mut keys = vec![];
        let mut from = begin;
        for at in begin..=end {
            if at == end || (sql.tokens[at].depth == depth && sql.is_symbol(at, ",")) {
                keys.push(key(sql, from, at));
                from = at + 1;
            }
        }
        if keys.len() < 2 || keys.iter().any(|(from, to, ..)| from >= to) {
            return;
        }
        let (from, to, ..) = keys[0];
        let (start, end) = (sql.tokens[from].start, sql.tokens[to - 1].end);
        let mark = format!("CASE WHEN '{ORDER_MARK}{}' IS NULL THEN ", self.before.orders + self.orders.len());
        // Do not replace the key itself, so that other edits inside it still apply.
        self.edits.replace(start, start, format!("{mark}NULL ELSE "));
        self.edits.replace(end, end, " END");
        self.orders.push(Order {
            descending: keys.iter().map(|key| key.2).collect(),
            nulls_last: keys.iter().map(|key| key.3).collect(),
        });
    }
}

/// Whether `AS` belongs to `WINDOW name AS (…), name AS (…)`.
pub fn in_window_clause(sql: &Sql, at: usize) -> bool {
    let depth = sql.tokens[at].depth;
    let mut before = at;
    // Go back over earlier windows of the clause.
    while before >= 2 {
        if sql.is(before - 2, "WINDOW") {
            return true;
        }
        if !sql.is_symbol(before - 2, ",") {
            return false;
        }
        let found = (0..before - 2).rev().find(|at| sql.tokens[*at].depth == depth && sql.is(*at, "AS"));
        let Some(found) = found else { return false };
        before = found;
    }
    false
}

/// End of a key's expression, and its options: descending, nulls last. Defaults as in Polars.
fn key(sql: &Sql, from: usize, to: usize) -> (usize, usize, bool, bool) {
    let mut end = to;
    let mut nulls = None;
    if end >= from + 2 && sql.is(end - 2, "NULLS") && (sql.is(end - 1, "FIRST") || sql.is(end - 1, "LAST")) {
        nulls = Some(sql.is(end - 1, "LAST"));
        end -= 2;
    }
    let mut descending = false;
    if end > from && (sql.is(end - 1, "DESC") || sql.is(end - 1, "ASC")) {
        descending = sql.is(end - 1, "DESC");
        end -= 1;
    }
    (from, end, descending, nulls.unwrap_or(!descending))
}

#[cfg(test)]
#[path = "statement_tests.rs"]
mod tests;
