//! Maps Polars' errors to positions in the SQL text that the user wrote.

use floe_api::suggest::nearest;

use super::functions::FUNCTIONS;
use super::names;
use super::statement::Statement;
use super::text::{Fault, Kind, Sql, Token, line_and_column, offset, pointed};
use floe_wire::error::{Category, QueryError};

/// An error at a position in the query's text, or in a view's.
pub fn at(view: Option<&str>, sql: &str, class: &str, fault: &Fault) -> QueryError {
    let (line, column) = line_and_column(sql, fault.at);
    let view = view.map(|name| format!("view {name}, ")).unwrap_or_default();
    let message = format!("{view}line {line}, column {column}: {}\n{}", fault.message, pointed(sql, fault.at));
    QueryError::user(class, message)
}

/// A table and its columns.
pub type Columns = (String, Vec<String>);

/// Names that a text may use.
pub struct Known<'a> {
    pub tables: &'a [&'a str],
    pub columns: &'a [Columns],
}

/// Converts an error of Polars: adds the position, if the error has one or names something in the text, and the most
/// similar known name.
pub fn located(sql: &Sql, statement: &Statement, known: &Known, class: &str, message: &str) -> QueryError {
    let message = message.split("\n\nResolved plan until failure").next().unwrap_or(message).trim();
    let message = message.split("\n\nDid you mean").next().unwrap_or(message).trim();
    let class = if message.contains("regex parse error:") { "SQLSyntaxError" } else { class };
    let found = match class {
        "StructFieldNotFoundError" => no_field(sql, message),
        _ => fault(sql, statement, known, message),
    };
    match found {
        Some(fault) => at(sql.view, sql.text, class, &fault),
        None => match sql.view {
            Some(view) => QueryError::user(class, format!("view {view}: {message}")),
            None => QueryError::user(class, message),
        },
    }
}

fn fault(sql: &Sql, statement: &Statement, known: &Known, message: &str) -> Option<Fault> {
    let of_changed = |line: usize, column: usize| {
        let changed = offset(&statement.query, line, column);
        statement.edits.original(changed).min(sql.text.len())
    };
    if let Some(rest) = message.strip_prefix("sql parser error: ") {
        let Some((what, place)) = rest.rsplit_once(" at Line: ") else {
            if rest.contains("recursion limit") {
                return Some(Fault { at: deepest(sql), message: "the query nests too deeply here".into() });
            }
            return Some(Fault { at: sql.text.trim_end().len(), message: syntax(rest) });
        };
        let mut numbers = place.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok());
        let at = of_changed(numbers.next()?, numbers.next()?);
        // `from emp were id = 1`: a mistyped clause is parsed as an alias.
        let before = sql.tokens.iter().rfind(|token| token.end <= at).filter(|token| token.kind == Kind::Word);
        if let Some((token, clause)) = before.and_then(|token| Some((token, clause_like(sql.slice(token))?)))
            && what.starts_with("Expected: end of statement")
        {
            return Some(Fault {
                at: token.start,
                message: format!("{} is no clause: did you mean {clause}?", sql.slice(token)),
            });
        }
        return Some(Fault { at, message: syntax(what) });
    }
    if let Some((_, what)) = message.split_once("regex parse error:") {
        let what = what.lines().find_map(|line| line.trim().strip_prefix("error: ")).unwrap_or("it cannot be read");
        let place = sql.find_name("columns", |at| sql.is_symbol(at + 1, "("))?;
        return Some(Fault { at: place, message: format!("this is no regular expression: {what}") });
    }
    if message.starts_with("Expected array expression, found") {
        let message = "UNNEST in FROM takes lists that are written out, such as unnest([1, 2]): for those of a column write \
                       SELECT UNNEST(column)";
        return Some(Fault { at: sql.find_name("unnest", |_| true)?, message: message.to_owned() });
    }
    if message.starts_with("array slice syntax") {
        let place = sql.tokens.iter().position(|token| token.depth > 0 && sql.slice(token) == ":")?;
        return Some(Fault { at: sql.tokens[place].start, message: message.to_owned() });
    }
    let quoted = |after: &str, quote: char| -> Option<String> {
        let rest = &message[message.find(after)? + after.len()..];
        Some(rest.strip_prefix(quote)?.split(quote).next()?.to_owned())
    };
    if let Some(name) = quoted("relation ", '\'') {
        let last = name.rsplit('.').next().unwrap_or(&name).to_owned();
        let place = sql.find_name(&last, |at| !sql.is_symbol(at + 1, "(") && !sql.is_symbol(at + 1, "."));
        let common = names::common_tables(sql);
        let all: Vec<&str> = common.iter().map(String::as_str).chain(known.tables.iter().copied()).collect();
        return Some(Fault { at: place?, message: unknown("table", &name, &all) });
    }
    if let Some(name) = quoted("no table or struct column named ", '\'') {
        let place = sql.find_name(&name, |at| sql.is_symbol(at + 1, "."))?;
        if let Some(alias) = quoted(" is hidden by alias ", '"') {
            let message = format!("the table {name} is called {alias} here: write {alias} instead of {name}");
            return Some(Fault { at: place, message });
        }
        let sources = names::sources(sql, known.tables);
        let sources: Vec<&str> = sources.iter().map(|(alias, _)| alias.as_str()).collect();
        return Some(Fault { at: place, message: unknown("table", &name, &sources) });
    }
    if let Some(name) = quoted("no column named ", '\'') {
        let alias = quoted(" found in table ", '\'').unwrap_or_default();
        let place = sql.find_name(&name, |at| at > 0 && sql.is_symbol(at - 1, "."))?;
        let sources = names::sources(sql, known.tables);
        let table = sources.into_iter().find(|(known, _)| *known == alias).and_then(|(_, table)| table);
        return Some(Fault { at: place, message: known.no_column(&name, &alias, table.as_deref().unwrap_or(&alias)) });
    }
    if let Some(name) = quoted("named window ", '\'') {
        let is_use = |at: usize| at > 0 && (sql.is(at - 1, "OVER") || sql.is_symbol(at - 1, "("));
        let windows = names::windows(sql);
        let windows: Vec<&str> = windows.iter().map(String::as_str).collect();
        return Some(Fault { at: sql.find_name(&name, is_use)?, message: unknown("window", &name, &windows) });
    }
    if let Some(name) = quoted("unable to find column ", '"') {
        if let Some(variable) = name.strip_prefix('@') {
            let place = (0..sql.tokens.len()).find(|at| sql.is_symbol(*at, "@"))?;
            let message = format!("{name} stands for no value: write ${variable}, with a value in spec.params");
            return Some(Fault { at: sql.tokens[place].start, message });
        }
        let known = list_after(message, "valid columns: ");
        let known: Vec<&str> = known.iter().map(String::as_str).filter(|name| !name.starts_with("__")).collect();
        let word = name.trim_start_matches(|c: char| !(c.is_alphanumeric() || c == '_'));
        let place = sql.find_name(word, |at| !sql.is_symbol(at + 1, "(") && !sql.is_symbol(at + 1, "."))?;
        return Some(Fault { at: place, message: unknown("column", &name, &known) });
    }
    if let Some(name) = quoted("unsupported function ", '\'') {
        let place = sql.find_name(&name, |at| sql.is_symbol(at + 1, "("))?;
        let near = nearest(&name, FUNCTIONS.iter().copied());
        let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        return Some(Fault { at: place, message: format!("there is no function {name}{near}") });
    }
    if message.contains("Location(") {
        // Names that Polars made up are at line 0.
        let places = message.split("Location(").skip(1).filter_map(|rest| {
            let mut numbers = rest.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok());
            Some((numbers.next()?, numbers.next()?))
        });
        let place = places.into_iter().find(|(line, _): &(usize, usize)| *line > 0);
        let at = place.map(|(line, column)| of_changed(line, column)).or_else(|| find_words(sql, message))?;
        return Some(Fault { at, message: without_debug(message) });
    }
    if let Some(name) = quoted("duplicate output name ", '\'') {
        let named: Vec<&Token> = sql.tokens.iter().filter(|token| sql.name(token).is_some_and(|n| n == name)).collect();
        let place = named.get(1).or(named.first()).map(|token| token.start);
        let place = place.or_else(|| sql.find_name("select", |_| true))?;
        let message = format!("two columns of the result are named {name}: give one another name with AS");
        return Some(Fault { at: place, message });
    }
    if let Some((name, _)) = message.strip_prefix("datatype ").and_then(|rest| rest.split_once(" is not")) {
        let place = sql.find_name(name.trim_matches('"'), |_| true)?;
        // In quotes is what Polars does not know as a type at all.
        let message = match name.strip_prefix('"') {
            Some(name) => {
                let name = name.trim_end_matches('"');
                let near = nearest(name, names::TYPES).map(|near| format!("; did you mean {near}?"));
                format!("there is no type {name}{}", near.unwrap_or_default())
            }
            None => message.to_owned(),
        };
        return Some(Fault { at: place, message });
    }
    let called = [" requires an OVER clause", " expects "].iter().find_map(|part| message.split_once(part));
    let called = called.filter(|(name, _)| !name.contains(' '));
    if let Some(place) = called.and_then(|(name, _)| sql.find_name(name, |at| sql.is_symbol(at + 1, "("))) {
        return Some(Fault { at: place, message: message.to_owned() });
    }
    if message.contains("aggregate function calls cannot be nested") {
        return Some(Fault { at: nested_aggregate(sql)?, message: message.to_owned() });
    }
    if message.contains("interval string") || message.contains("fixed-duration interval") {
        let place = sql.find_name("interval", |_| true)?;
        return Some(Fault { at: place, message: message.to_owned() });
    }
    if message.contains("Placeholder(\"?\")") {
        let place = (0..sql.tokens.len()).find(|at| sql.is_symbol(*at, "?"))?;
        let message = "? stands for no value: write $name, with a value in spec.params".to_owned();
        return Some(Fault { at: sql.tokens[place].start, message });
    }
    if message.contains("cs.") && message.contains("not allowed in this context") {
        let message = "COLUMNS stands for several columns, and there is place for one: write it for each of them";
        return Some(Fault { at: sql.find_name("columns", |_| true)?, message: message.to_owned() });
    }
    let no_list = [" for array operation", " for list operation", "expected List or Array type"];
    if no_list.iter().any(|part| message.contains(part)) {
        let is_call = |at: &usize| sql.is_symbol(at + 1, "(") && has_prefix(sql, *at, "array_");
        let index = |at: &usize| *at > 0 && sql.is_symbol(*at, "[") && sql.tokens[at - 1].kind != Kind::Symbol;
        let place = (0..sql.tokens.len()).find(is_call).or_else(|| (0..sql.tokens.len()).find(index))?;
        return Some(Fault { at: sql.tokens[place].start, message: message.to_owned() });
    }
    if message.contains("subquery returns more than one column") {
        return Some(Fault { at: wide_subquery(sql)?, message: message.to_owned() });
    }
    find_words(sql, message).map(|at| Fault { at, message: without_debug(message) })
}

/// For a missing struct field, the whole message is the field's name.
fn no_field(sql: &Sql, name: &str) -> Option<Fault> {
    let place = sql.find_name(name, |at| at > 0 && sql.is_symbol(at - 1, "."))?;
    Some(Fault { at: place, message: format!("the struct has no field {name}") })
}

fn has_prefix(sql: &Sql, at: usize, prefix: &str) -> bool {
    sql.slice(&sql.tokens[at]).get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
}

impl Known<'_> {
    /// A column that a table lacks. Where the table of an alias is not known, suggests from the columns of all tables.
    fn no_column(&self, name: &str, alias: &str, table: &str) -> String {
        let last = |known: &str| known.rsplit('.').next().is_some_and(|last| last == table);
        let of: Vec<&Columns> = self.columns.iter().filter(|(known, _)| known == table || last(known)).collect();
        let all = |of: Vec<&Columns>| -> Vec<String> { of.into_iter().flat_map(|(_, names)| names.clone()).collect() };
        if of.is_empty() {
            let columns = all(self.columns.iter().collect());
            let near = nearest(name, columns.iter().map(String::as_str));
            let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            return format!("there is no column {name} in {alias}{near}");
        }
        let columns = all(of);
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        format!("there is no column {name} in {alias}{}", meant(name, &columns))
    }
}

/// Finds an aggregate inside another aggregate.
fn nested_aggregate(sql: &Sql) -> Option<usize> {
    const AGGREGATES: [&str; 10] =
        ["AVG", "COUNT", "FIRST", "LAST", "MAX", "MEDIAN", "MIN", "STDDEV", "SUM", "VARIANCE"];
    let is_call = |at: usize| AGGREGATES.iter().any(|name| sql.is(at, name)) && sql.is_symbol(at + 1, "(");
    let mut outer = (0..sql.tokens.len()).filter(|at| is_call(*at));
    let within = |at: usize| (at + 2..sql.closing(at + 1).unwrap_or(sql.tokens.len())).find(|at| is_call(*at));
    outer.find_map(within).map(|at| sql.tokens[at].start)
}

/// Finds a scalar subquery that selects several columns.
fn wide_subquery(sql: &Sql) -> Option<usize> {
    let holds_rows = |before: usize| {
        ["FROM", "JOIN", "EXISTS", "AS", "UNION", "EXCEPT", "INTERSECT", "ALL", "LATERAL"]
            .iter()
            .any(|w| sql.is(before, w))
    };
    let wide = |open: usize| {
        let close = sql.closing(open).unwrap_or(sql.tokens.len());
        let depth = sql.tokens[open].depth + 1;
        let list = (open + 2..close).take_while(|at| !(sql.tokens[*at].depth == depth && sql.is(*at, "FROM")));
        let mut list = list.filter(|at| sql.tokens[*at].depth == depth);
        list.any(|at| sql.is_symbol(at, ","))
    };
    let open = (0..sql.tokens.len()).find(|at| {
        sql.is_symbol(*at, "(") && sql.is(at + 1, "SELECT") && !at.checked_sub(1).is_some_and(holds_rows) && wide(*at)
    })?;
    Some(sql.tokens[open].start)
}

/// Keywords that may follow where Polars expects the end of a query.
const CLAUSES: [&str; 8] = ["FROM", "GROUP", "HAVING", "JOIN", "LIMIT", "ORDER", "UNION", "WHERE"];

/// The clause that a word is a typo of.
fn clause_like(word: &str) -> Option<&'static str> {
    nearest(word, CLAUSES).filter(|clause| !clause.eq_ignore_ascii_case(word))
}

fn syntax(what: &str) -> String {
    let what = what.trim().trim_end_matches(',');
    match what.strip_prefix("Expected: ").and_then(|rest| rest.split_once(", found: ")) {
        Some((expected, "EOF")) => format!("expected {expected}, found the end of the text"),
        Some((expected, found)) => {
            let meant = clause_like(found).map(|clause| format!("; did you mean {clause}?")).unwrap_or_default();
            format!("expected {expected}, found {found}{meant}")
        }
        None => what.to_owned(),
    }
}

fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    format!("there is no {what} {name}{}", meant(name, known))
}

/// The most similar name, and the list of all names.
fn meant(name: &str, known: &[&str]) -> String {
    let last = |name: &str| name.rsplit('.').next().map(str::to_lowercase);
    // The same name with or without a schema.
    let same = || known.iter().copied().find(|known| last(known) == last(name));
    let near = nearest(name, known.iter().copied()).or_else(same);
    let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    const SHOWN: usize = 20;
    let more = if known.len() > SHOWN { format!(", and {} more", known.len() - SHOWN) } else { String::new() };
    let list = match known {
        [] => "there are none".to_owned(),
        known => format!("there are: {}{more}", known[..known.len().min(SHOWN)].join(", ")),
    };
    format!("{near} ({list})")
}

/// Parses the names of a list like `… ["a", "b"]` in a message.
fn list_after(message: &str, mark: &str) -> Vec<String> {
    let Some(begin) = message.find(mark) else { return vec![] };
    let list = message[begin + mark.len()..].trim_start_matches('[');
    let list = list.split(']').next().unwrap_or(list);
    list.split(", ").map(|name| name.trim_matches('"').to_owned()).filter(|name| !name.is_empty()).collect()
}

/// Removes debug output such as `Tuple([Identifier(…)])` from a message.
fn without_debug(message: &str) -> String {
    let line = message.lines().next().unwrap_or(message);
    let Some(debug) = line.find(|c| matches!(c, '(' | '{')).filter(|_| line.contains("Location(")) else {
        return line.to_owned();
    };
    // `dot-notation field access is currently unsupported: Dot(…`.
    if let Some((said, _)) = line[..debug].rsplit_once(": ").filter(|(said, _)| said.contains("support")) {
        return said.to_owned();
    }
    let tail = ["is not currently supported", "is not supported", "not supported"]
        .iter()
        .find(|tail| message.ends_with(**tail));
    let tail = tail.copied().unwrap_or("is not supported here");
    format!("{} {tail}", line[..debug].trim_end())
}

/// Position of the first word of the text that the message has in capitals or quotes; else of the first word that
/// contains one of these.
fn find_words(sql: &Sql, message: &str) -> Option<usize> {
    let quoted = message.split(['\'', '`', '"']).skip(1).step_by(2);
    let capital = message.split(|c: char| !(c.is_ascii_uppercase() || c == '_')).filter(|word| word.len() > 2);
    let words: Vec<&str> = quoted
        .flat_map(|text| text.split(|c: char| !(c.is_alphanumeric() || c == '_')))
        .chain(capital)
        .filter(|word| !word.is_empty())
        .collect();
    let within = |word: &&str| {
        let word = word.to_ascii_lowercase();
        let has = |token: &Token| token.kind == Kind::Word && sql.slice(token).to_ascii_lowercase().contains(&word);
        sql.tokens.iter().find(|token| word.len() > 3 && has(token)).map(|token| token.start)
    };
    words.iter().find_map(|word| sql.find_name(word, |_| true)).or_else(|| words.iter().find_map(within))
}

fn deepest(sql: &Sql) -> usize {
    sql.tokens.iter().max_by_key(|token| (token.depth, std::cmp::Reverse(token.start))).map_or(0, |token| token.start)
}

/// SQL keywords to point at, per unsupported feature.
const WORDS: [(&str, &[&str]); 4] = [
    ("approx_quantile", &["APPROX_QUANTILE"]),
    ("recursive table", &["RECURSIVE"]),
    ("ORDER BY has several keys", &["OVER"]),
    ("merge_sorted", &["MERGE"]),
];

/// Adds the position in the text to a refusal, where it can be found.
pub fn refused<'a>(texts: impl Iterator<Item = &'a Sql<'a>>, error: QueryError) -> QueryError {
    if error.class != "UnsupportedPlan" {
        // Errors from building and running the plan, which the child could not find.
        if error.category != Category::User {
            return error;
        }
        let message = error.message.lines().next().unwrap_or_default();
        let texts: Vec<&Sql> = texts.collect();
        let find = |message: &str| texts.iter().find_map(|sql| Some((sql, find_words(sql, message)?)));
        // The expression that an error occurred in follows below.
        return match find(message).or_else(|| find(&error.message)) {
            Some((sql, place)) => {
                at(sql.view, sql.text, &error.class, &Fault { at: place, message: message.to_owned() })
            }
            None => error,
        };
    }
    let by_table = WORDS.iter().find(|(part, _)| error.message.contains(part)).map(|(_, words)| words.to_vec());
    // `the function TemporalFunction.Century is not supported`: the last part of the name, which SQL may use.
    let by_name = || {
        let mut words = error.message.split_whitespace();
        let named = error.message.strip_prefix("the function ").and_then(|rest| rest.split_whitespace().next());
        let word = named.or_else(|| words.find(|word| word.contains('.') || word.contains('_')))?;
        word.rsplit('.').next()
    };
    let words = by_table.unwrap_or_else(|| by_name().into_iter().collect());
    for sql in texts {
        let is_word = |at: &usize, word: &str| sql.tokens[*at].kind == Kind::Word && sql.is(*at, word);
        let place = words.iter().find_map(|word| (0..sql.tokens.len()).find(|at| is_word(at, word)));
        if let Some(place) = place {
            let fault = Fault { at: sql.tokens[place].start, message: error.message };
            return at(sql.view, sql.text, &error.class, &fault);
        }
    }
    error
}
