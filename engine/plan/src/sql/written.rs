//! The SQL texts of a query as they were written, kept for errors that are seen after planning: types that do not fit, and
//! values that a task cannot compute with.

use std::sync::Arc;

use super::errors;
use super::text::Sql;
use super::texts::Texts;
use floe_wire::error::{Category, QueryError};

/// The query's text, then those of its views from the last one on; empty for other plans.
#[derive(Clone, Debug, Default)]
pub struct Written(Arc<[(Option<String>, String)]>);

impl Written {
    pub(super) fn of(texts: &Texts) -> Self {
        let texts = texts.all.iter().rev().map(|(sql, _)| (sql.view.map(str::to_owned), sql.text.to_owned()));
        Written(texts.collect())
    }

    fn read(&self) -> Vec<Sql<'_>> {
        let texts = self.0.iter().map(|(view, text)| match view {
            Some(view) => Sql::of_view(view, text),
            None => Sql::read(text),
        });
        texts.filter_map(Result::ok).collect()
    }
}

/// An error of the user's with its place in the texts, if they have it.
pub fn placed(written: &Written, error: QueryError) -> QueryError {
    match error.category {
        Category::User => errors::refused(written.read().iter(), error),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[(Option<&str>, &str)]) -> Written {
        Written(texts.iter().map(|(view, text)| (view.map(str::to_owned), (*text).to_owned())).collect())
    }

    #[test]
    fn errors_of_tasks_get_a_place() {
        let texts = of(&[(None, "select id,\n  x from v"), (Some("v"), "select id, cast(name as int) as x from emp")]);
        let said = |message: &str| placed(&texts, QueryError::user("InvalidOperationError", message)).message;
        let cast =
            "conversion from `str` to `i32` failed in column 'name' for 1 out of 1 values: [\"Ada\"]\n\nYou might";
        assert_eq!(
            said(cast),
            "view v, line 1, column 17: conversion from `str` to `i32` failed in column 'name' for 1 out of 1 values: \
             [\"Ada\"]\n  select id, cast(name as int) as x from emp\n                  ^"
        );
        // The column is named further down.
        let deep = "rolling_sum is not supported for `decimal[10,2]`\n\nin the following expression:\n\tcol(\"x\").rolling_sum()";
        assert!(said(deep).starts_with("line 2, column 3: rolling_sum is not supported for `decimal[10,2]`\n"));
        assert_eq!(said("nothing that is known"), "nothing that is known");
        let lost = QueryError::io("the file 'name' is gone");
        assert_eq!(placed(&texts, lost).message, "the file 'name' is gone");
        assert_eq!(placed(&Written::default(), QueryError::user("X", cast)).message, cast);
    }
}
