//! Finds the views that a text uses, and orders them by their dependencies, used views first. Cyclic views are refused
//! by name.

use std::collections::{BTreeMap, BTreeSet};

use super::errors;
use super::text::{Fault, Sql};
use floe_wire::error::Result;

/// The views that a query uses, directly or through others.
pub fn used<'a>(query: &Sql<'_>, views: &'a BTreeMap<String, String>) -> Result<Vec<(&'a str, Sql<'a>)>> {
    let mut walk = Walk { views, open: vec![], done: BTreeSet::new(), found: vec![] };
    for (_, name) in named(query, views) {
        walk.visit(name)?;
    }
    Ok(walk.found)
}

struct Walk<'a> {
    views: &'a BTreeMap<String, String>,
    /// The path of views to the current one.
    open: Vec<&'a str>,
    done: BTreeSet<&'a str>,
    found: Vec<(&'a str, Sql<'a>)>,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, name: &'a str) -> Result<()> {
        if self.done.contains(name) {
            return Ok(());
        }
        let Some(text) = self.views.get(name) else { return Ok(()) };
        let refuse = |fault: Fault| errors::at(Some(name), text, "SQLSyntaxError", &fault);
        let sql = Sql::of_view(name, text).map_err(refuse)?;
        self.open.push(name);
        for (at, next) in named(&sql, self.views) {
            if let Some(begin) = self.open.iter().position(|open| *open == next) {
                // A common table named like the view hides it, so the name does not mean the view itself.
                if next == name && is_common_table(&sql, name) {
                    continue;
                }
                let round: Vec<&str> = self.open[begin..].iter().copied().chain([next]).collect();
                let message = match round.len() {
                    2 => format!("the view {next} uses itself"),
                    _ => format!("these views use each other, which has no end: {}", round.join(" -> ")),
                };
                return Err(refuse(Fault { at, message }));
            }
            self.visit(next)?;
        }
        self.open.pop();
        self.done.insert(name);
        self.found.push((name, sql));
        Ok(())
    }
}

/// The views that appear in place of a table, with their positions.
fn named<'a>(sql: &Sql<'_>, views: &'a BTreeMap<String, String>) -> Vec<(usize, &'a str)> {
    let mut found = vec![];
    for at in 0..sql.tokens.len() {
        let token = &sql.tokens[at];
        let Some(name) = sql.name(token) else { continue };
        if sql.is_symbol(at + 1, ".") {
            continue;
        }
        let last = |view: &str| view.rsplit('.').next().unwrap_or(view).eq_ignore_ascii_case(&name);
        let meant = views.keys().filter(|view| view.eq_ignore_ascii_case(&name) || last(view));
        if views.keys().any(|view| last(view)) && stands_for_table(sql, at) {
            found.extend(meant.map(|view| (token.start, view.as_str())));
        }
    }
    found
}

/// `name AS (` or `name (columns) AS (`, as in WITH.
fn is_common_table(sql: &Sql, name: &str) -> bool {
    (0..sql.tokens.len()).any(|at| {
        let after =
            if sql.is_symbol(at + 1, "(") { sql.closing(at + 1).map_or(at + 1, |close| close + 1) } else { at + 1 };
        sql.name(&sql.tokens[at]).is_some_and(|found| found.eq_ignore_ascii_case(name))
            && sql.is(after, "AS")
            && sql.is_symbol(after + 1, "(")
    })
}

/// Keywords whose lists do not contain tables.
const OTHER_LISTS: [&str; 12] =
    ["SELECT", "WHERE", "GROUP", "ORDER", "BY", "HAVING", "WITH", "VALUES", "WINDOW", "QUALIFY", "LIMIT", "RECURSIVE"];
/// Functions with a FROM in their arguments.
const WITH_FROM: [&str; 4] = ["EXTRACT", "SUBSTRING", "TRIM", "OVERLAY"];

/// Whether the name at a position is a table: after FROM or JOIN, or in the list after FROM.
fn stands_for_table(sql: &Sql, mut at: usize) -> bool {
    while at >= 2 && sql.is_symbol(at - 1, ".") {
        at -= 2;
    }
    while let Some(before) = at.checked_sub(1) {
        if sql.is(before, "FROM") {
            return !is_of_function(sql, before);
        }
        if ["JOIN", "TABLE", "DESCRIBE", "DESC", "SUMMARIZE", "LATERAL"].iter().any(|word| sql.is(before, word)) {
            return true;
        }
        if sql.is_symbol(before, "(") {
            at = before;
            continue;
        }
        if !sql.is_symbol(before, ",") {
            return false;
        }
        let depth = sql.tokens[before].depth;
        let decides = (0..before).rev().find(|at| {
            sql.tokens[*at].depth < depth
                || sql.tokens[*at].depth == depth
                    && (sql.is(*at, "FROM") || OTHER_LISTS.iter().any(|word| sql.is(*at, word)))
        });
        match decides {
            Some(open) if sql.tokens[open].depth < depth => at = open,
            Some(word) => return sql.is(word, "FROM") && !is_of_function(sql, word),
            None => return false,
        }
    }
    false
}

/// `EXTRACT(year FROM x)`, `a IS DISTINCT FROM b`.
fn is_of_function(sql: &Sql, from: usize) -> bool {
    if from > 0 && sql.is(from - 1, "DISTINCT") {
        return true;
    }
    let depth = sql.tokens[from].depth;
    let open = (0..from).rev().find(|at| sql.tokens[*at].depth < depth || sql.is(*at, "SELECT"));
    open.is_some_and(|open| sql.is_symbol(open, "(") && open > 0 && WITH_FROM.iter().any(|name| sql.is(open - 1, name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn views(texts: &[(&str, &str)]) -> BTreeMap<String, String> {
        texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    fn order(query: &str, texts: &[(&str, &str)]) -> Result<Vec<String>> {
        let views = views(texts);
        let query = Sql::read(query).unwrap();
        Ok(used(&query, &views)?.into_iter().map(|(name, _)| name.to_owned()).collect())
    }

    #[test]
    fn views_come_after_those_that_they_use() {
        let texts = [
            ("a", "select * from t join b on t.x = b.x"),
            ("b", "select * from (c)"),
            ("c", "select * from t"),
            ("s.d", "with a as (select 1) select * from a"),
            ("unused", "select nonsense from"),
        ];
        assert_eq!(order("select * from a", &texts).unwrap(), ["c", "b", "a"]);
        assert_eq!(order("select 1 from t, C c2, \"b\"", &texts).unwrap(), ["c", "b"]);
        assert_eq!(order("describe s.d", &texts).unwrap(), ["c", "b", "a", "s.d"]);
        // Columns with the same names are not views.
        let columns = "select a, b, extract(year from c), x is distinct from c from t where c = 1 order by x, a";
        assert_eq!(order(columns, &texts).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn views_that_use_each_other_are_named() {
        let texts = [
            ("a", "select *\nfrom b"),
            ("b", "select 1 from t, a"),
            ("self", "select * from self"),
            ("hides", "with hides as (select 1) select * from hides"),
        ];
        let message = order("select * from a", &texts).unwrap_err().message;
        assert_eq!(
            message,
            "view b, line 1, column 18: these views use each other, which has no end: a -> b -> a\n  select 1 from t, a\n  \
             \x20                ^"
        );
        assert!(order("select * from self", &texts).unwrap_err().message.contains("the view self uses itself"));
        assert_eq!(order("select * from hides", &texts).unwrap(), ["hides"]);
    }
}
