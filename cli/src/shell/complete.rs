//! What Tab proposes: names of tables after FROM and JOIN, columns of the statement's tables, keywords, functions and
//! commands of the shell. Pure: the caller supplies the columns.

use std::collections::BTreeMap;

use super::command::COMMANDS;

// The function names that the engine's tests write, included without the engine.
#[path = "../../../engine/plan/src/sql/functions.rs"]
mod functions;

/// Columns of tables, as far as they are known.
pub type Columns = BTreeMap<String, Vec<String>>;

/// Proposals for the word that ends at the cursor.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Proposals {
    /// Where the word begins.
    pub from: usize,
    pub words: Vec<String>,
}

const KEYWORDS: [&str; 84] = [
    "ALL",
    "AND",
    "ANTI",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "CREATE",
    "CROSS",
    "CUBE",
    "CURRENT",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "DROP",
    "ELSE",
    "END",
    "EXCEPT",
    "EXCLUDE",
    "EXISTS",
    "EXPLAIN",
    "FALSE",
    "FILTER",
    "FIRST",
    "FOLLOWING",
    "FROM",
    "FULL",
    "GROUP",
    "GROUPING",
    "HAVING",
    "ILIKE",
    "IN",
    "INNER",
    "INTERSECT",
    "INTERVAL",
    "IS",
    "JOIN",
    "LAST",
    "LATERAL",
    "LEFT",
    "LIKE",
    "LIMIT",
    "NATURAL",
    "NOT",
    "NULL",
    "NULLS",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "PRECEDING",
    "QUALIFY",
    "RANGE",
    "RECURSIVE",
    "RENAME",
    "REPLACE",
    "RIGHT",
    "ROLLUP",
    "ROW",
    "ROWS",
    "SELECT",
    "SEMI",
    "SETS",
    "SHOW",
    "SUMMARIZE",
    "TABLE",
    "TABLES",
    "THEN",
    "TRUE",
    "UNBOUNDED",
    "UNION",
    "USING",
    "VALUES",
    "VIEW",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
    "WITHIN",
];

/// The tables that a text names, so that the caller can look up their columns.
pub fn tables_in<'a>(text: &str, tables: &'a [String]) -> Vec<&'a String> {
    let words: Vec<&str> = words(text).collect();
    tables.iter().filter(|table| words.iter().any(|word| word.eq_ignore_ascii_case(table))).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// `before`: the text up to the cursor; `text`: the whole text.
pub fn propose(before: &str, text: &str, tables: &[String], columns: &Columns) -> Proposals {
    if let Some(command) = before.trim_start().strip_prefix('\\') {
        return of_command(before, command, tables);
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let typed = &before[before.trim_end_matches(is_word).len()..];
    let from = before.len() - typed.len();
    let rest = &before[..from];
    let fits = |name: &str| name.len() > typed.len() && starts(name, typed);
    let mut found: Vec<String> = vec![];
    if let Some(rest) = rest.strip_suffix('.') {
        let qualifier = &rest[rest.trim_end_matches(is_word).len()..];
        let table = tables.iter().find(|table| table.eq_ignore_ascii_case(qualifier)).cloned();
        let table = table.or_else(|| named(text, qualifier, tables));
        found.extend(table.and_then(|table| columns.get(&table)).into_iter().flatten().cloned());
        found.retain(|name| fits(name));
        return Proposals { from, words: tidy(found) };
    }
    let last = words(rest).last().unwrap_or_default().to_ascii_uppercase();
    if ["FROM", "JOIN", "DESCRIBE", "SUMMARIZE", "TABLE", "VIEW"].contains(&last.as_str()) && !rest.ends_with('(') {
        found.extend(tables.iter().filter(|name| fits(name)).cloned());
        return Proposals { from, words: tidy(found) };
    }
    let here = tables_in(text, tables);
    let here = if here.is_empty() && !typed.is_empty() { tables.iter().collect() } else { here };
    found.extend(here.iter().filter_map(|table| columns.get(*table)).flatten().filter(|name| fits(name)).cloned());
    found.extend(tables.iter().filter(|name| fits(name)).cloned());
    if !typed.is_empty() {
        let lower = typed.chars().all(|c| c.is_lowercase() || c == '_');
        let cased = |word: &&str| if lower { word.to_lowercase() } else { (*word).to_owned() };
        found.extend(KEYWORDS.iter().filter(|word| fits(word)).map(cased));
        found.extend(functions::FUNCTIONS.iter().filter(|name| fits(name)).map(|name| format!("{name}(")));
    }
    Proposals { from, words: tidy(found) }
}

fn starts(name: &str, typed: &str) -> bool {
    name.get(..typed.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(typed))
}

fn tidy(mut words: Vec<String>) -> Vec<String> {
    words.sort();
    words.dedup();
    words
}

fn of_command(before: &str, command: &str, tables: &[String]) -> Proposals {
    match command.split_once(char::is_whitespace) {
        None => {
            let typed = format!("\\{command}");
            let words = COMMANDS.iter().map(|(name, ..)| (*name).to_owned()).filter(|name| starts(name, &typed));
            Proposals { from: before.len() - typed.len(), words: words.collect() }
        }
        Some(("d", argument)) => {
            let typed = argument.trim_start();
            let words = tables.iter().filter(|name| starts(name, typed)).cloned().collect();
            Proposals { from: before.len() - typed.len(), words: tidy(words) }
        }
        Some(_) => Proposals { from: before.len(), words: vec![] },
    }
}

/// The table that an alias stands for: `orders o`, `orders as o`.
fn named(text: &str, alias: &str, tables: &[String]) -> Option<String> {
    let all: Vec<&str> = words(text).collect();
    let at = all.windows(2).find_map(|pair| {
        let table = tables.iter().find(|table| table.eq_ignore_ascii_case(pair[0]))?;
        pair[1].eq_ignore_ascii_case(alias).then_some(table)
    });
    let with_as = || {
        all.windows(3).find_map(|three| {
            let table = tables.iter().find(|table| table.eq_ignore_ascii_case(three[0]))?;
            (three[1].eq_ignore_ascii_case("as") && three[2].eq_ignore_ascii_case(alias)).then_some(table)
        })
    };
    at.or_else(with_as).cloned()
}

/// The longest common prefix of the words.
pub fn common(words: &[String]) -> String {
    let Some(first) = words.first() else { return String::new() };
    let mut end = first.len();
    for word in &words[1..] {
        let same = first.chars().zip(word.chars()).take_while(|(a, b)| a.eq_ignore_ascii_case(b));
        end = end.min(same.map(|(a, _)| a.len_utf8()).sum());
    }
    first[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposed(before: &str, after: &str) -> Vec<String> {
        let tables = ["orders".to_owned(), "lineitem".to_owned()];
        let columns = Columns::from([
            ("orders".to_owned(), vec!["o_orderkey".to_owned(), "o_orderdate".to_owned()]),
            ("lineitem".to_owned(), vec!["l_orderkey".to_owned()]),
        ]);
        let found = propose(before, &format!("{before}{after}"), &tables, &columns);
        assert!(before.is_char_boundary(found.from));
        found.words
    }

    #[test]
    fn tables_after_from_columns_elsewhere() {
        assert_eq!(proposed("select * from ", ""), ["lineitem", "orders"]);
        assert_eq!(proposed("select 1 from orders join li", ""), ["lineitem"]);
        assert_eq!(proposed("select o_", " from orders"), ["o_orderdate", "o_orderkey"]);
        assert_eq!(proposed("select l_", ""), ["l_orderkey"]);
        assert_eq!(proposed("select l_", " from orders"), Vec::<String>::new());
        assert_eq!(proposed("select x.o_orderk", " from orders as x"), ["o_orderkey"]);
        assert_eq!(proposed("select l.", " from lineitem l, orders"), ["l_orderkey"]);
        assert_eq!(proposed("sel", ""), ["select"]);
        assert_eq!(proposed("SEL", ""), ["SELECT"]);
        assert!(proposed("select date_tr", "").contains(&"date_trunc(".to_owned()));
        assert_eq!(proposed("\\ti", ""), ["\\timing"]);
        assert_eq!(proposed("\\d or", ""), ["orders"]);
    }

    #[test]
    fn the_beginning_that_all_share_is_put_in() {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(common(&words(&["o_orderdate", "o_orderkey"])), "o_order");
        assert_eq!(common(&words(&["select"])), "select");
        assert_eq!(common(&[]), "");
    }
}
