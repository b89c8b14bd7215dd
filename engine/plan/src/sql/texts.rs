//! The texts of a query: its own, and those of the views it uses, with common numbering.

use std::collections::BTreeMap;

use floe_api::TableSpec;
use floe_api::job::Job;
use serde_json::Value;

use super::statement::{self, Numbered, Statement};
use super::text::{Fault, Sql};
use super::{errors, views};
use crate::crossing::Order;
use floe_wire::error::{QueryError, Result};

pub struct Texts<'a> {
    /// Views in the order in which they are resolved, then the query.
    pub all: Vec<(Sql<'a>, Statement)>,
}

impl<'a> Texts<'a> {
    pub fn read(query: Sql<'a>, named: &'a BTreeMap<String, String>, params: &BTreeMap<String, Value>) -> Result<Self> {
        let mut before = Numbered::default();
        let mut all = vec![];
        let views = views::used(&query, named)?.into_iter().map(|(_, sql)| sql);
        for sql in views.chain([query]) {
            let refuse = |fault: Fault| errors::at(sql.view, sql.text, "SQLSyntaxError", &fault);
            let statement = statement::read(&sql, params, before).map_err(refuse)?;
            before.orders += statement.orders.len();
            before.files += statement.files.len();
            all.push((sql, statement));
        }
        Ok(Texts { all })
    }

    /// The query's own statement.
    pub fn query(&self) -> &Statement {
        let (_, statement) = &self.all[self.all.len() - 1];
        statement
    }

    pub fn of_view(&self, name: Option<&str>) -> &(Sql<'a>, Statement) {
        let found = self.all.iter().find(|(sql, _)| sql.view == name);
        found.unwrap_or(&self.all[self.all.len() - 1])
    }

    /// Names and texts of the views, for Polars.
    pub fn views(&self) -> Vec<(&str, &str)> {
        self.all.iter().filter_map(|(sql, statement)| Some((sql.view?, statement.query.as_str()))).collect()
    }

    /// The orders of all windows, by their number.
    pub fn orders(&self) -> Vec<Order> {
        self.all.iter().flat_map(|(_, statement)| statement.orders.iter().cloned()).collect()
    }

    /// The tables that the texts name, and those that they read from files.
    pub fn tables(&self, job: &Job) -> BTreeMap<String, TableSpec> {
        let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
        let in_text = |sql: &Sql, name: &str| {
            [name.to_owned(), last(name)].iter().any(|name| sql.find_name(name, |_| true).is_some())
        };
        let named = job.spec.tables.iter().filter(|(name, _)| self.all.iter().any(|(sql, _)| in_text(sql, name)));
        named.map(|(name, table)| (name.clone(), table.clone())).chain(self.files()).collect()
    }

    /// The tables that the texts read from files.
    pub fn files(&self) -> BTreeMap<String, TableSpec> {
        let files = self.all.iter().flat_map(|(_, statement)| &statement.files).map(|file| {
            let table = TableSpec { format: Some(file.format), uri: file.uri.clone(), ..TableSpec::default() };
            (file.name.clone(), table)
        });
        files.collect()
    }

    /// Places an error at the first occurrence of a word in the texts.
    pub fn at_word(&self, word: &str, error: QueryError) -> QueryError {
        let found = self.all.iter().rev().find_map(|(sql, _)| {
            let at = (0..sql.tokens.len()).find(|at| sql.is(*at, word))?;
            Some((sql, sql.tokens[at].start))
        });
        let Some((sql, at)) = found else { return error };
        errors::at(sql.view, sql.text, &error.class, &Fault { at, message: error.message.clone() })
    }

    /// Places an error about a table at the first use of the table in the texts.
    pub fn at_table(&self, table: &str, error: QueryError) -> QueryError {
        let last = table.rsplit('.').next().unwrap_or(table);
        let place = self.all.iter().find_map(|(sql, statement)| {
            let file = statement.files.iter().find(|file| file.name == table).map(|file| file.at);
            Some((sql, file.or_else(|| sql.find_name(last, |_| true))?))
        });
        let Some((sql, at)) = place else { return error };
        let placed = errors::at(sql.view, sql.text, &error.class, &Fault { at, message: error.message.clone() });
        QueryError { message: placed.message, ..error }
    }
}
