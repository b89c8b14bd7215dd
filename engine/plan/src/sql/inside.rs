//! SQL inside a plan of Polars 2.x, which keeps the text and the plans of its tables. The SQL node is set aside while
//! the rest of the plan is decoded, resolved like any SQL text, and put back as a plan.

use std::collections::HashMap;

use polars_lazy::frame::LazyFrame;
use polars_plan::dsl::DslPlan;

use crate::added;
use crate::inputs::inputs_mut;
use crate::msgpack::{Node, parse};
use crate::refuse::bad_plan;
use floe_wire::error::{QueryError, Result};

/// Mark for a node that was set aside: a slice of this length, whose offset is the number. No client writes such a
/// slice.
const MARK_LENGTH: u32 = u32::MAX - 4;
const MARK_OFFSET: i64 = i64::MIN / 2;
/// Limit of SQL nodes per plan.
const MAX_SQL_NODES: usize = 256;

/// A node that was set aside.
#[derive(Debug)]
pub struct Aside {
    pub query: String,
    /// The tables it names, and the encoded keys of their plans in the document.
    pub relations: Vec<(String, Vec<u8>)>,
}

/// Replaces the SQL nodes of a document by marks, and collects them.
pub fn set_aside(document: &mut Node<'_>, found: &mut Vec<Aside>) -> Result<()> {
    let mut nothing = vec![];
    added::key(added::count(document)).write(&mut nothing);
    take(document, &nothing, found)?;
    if found.iter().any(|aside| aside.relations.is_empty())
        && let Some(Node::Seq(plans)) = document.get_mut("dsl_plans")
    {
        plans.push(added::listed(added::nothing()));
    }
    Ok(())
}

/// `nothing` is the key of an empty plan: the input of marks for texts that name no table (over files, or without
/// FROM).
fn take(node: &mut Node<'_>, nothing: &[u8], found: &mut Vec<Aside>) -> Result<()> {
    match node {
        Node::Raw(_) | Node::Owned(_) => Ok(()),
        Node::Seq(items) => items.iter_mut().try_for_each(|item| take(item, nothing, found)),
        Node::Map(entries) => {
            let here = match entries.as_slice() {
                [(name, content)] if name.as_str() == Some("SQL") && content.get("query").is_some() => read(content)?,
                _ => return entries.iter_mut().try_for_each(|(_, value)| take(value, nothing, found)),
            };
            if found.len() >= MAX_SQL_NODES {
                return Err(QueryError::user(
                    "QueryTooLarge",
                    format!("the plan holds more than {MAX_SQL_NODES} SQL queries"),
                ));
            }
            let key = here.relations.first().map_or(nothing, |(_, key)| key.as_slice());
            let offset = MARK_OFFSET + found.len() as i64;
            let entries = [
                ("input", Node::Owned(key.to_vec())),
                ("offset", Node::Owned([&[0xd3][..], &offset.to_be_bytes()].concat())),
                ("len", Node::Owned([&[0xce][..], &MARK_LENGTH.to_be_bytes()].concat())),
            ];
            *node = Node::map([("Slice", Node::map(entries))]);
            found.push(here);
            Ok(())
        }
    }
}

fn read(content: &Node<'_>) -> Result<Aside> {
    let query = content.get("query").and_then(Node::as_str).unwrap_or_default().to_owned();
    let damaged = || bad_plan("the plan is damaged: a SQL node whose tables cannot be read");
    let mut relations = vec![];
    for pair in content.get("relations").and_then(Node::as_seq).ok_or_else(damaged)? {
        let [name, key] = pair.as_seq().ok_or_else(damaged)? else { return Err(damaged()) };
        let mut bytes = vec![];
        key.write(&mut bytes);
        relations.push((name.as_str().ok_or_else(damaged)?.to_owned(), bytes));
    }
    Ok(Aside { query, relations })
}

/// The document with another root.
pub fn with_root(document: &[u8], key: &[u8]) -> Result<Vec<u8>> {
    let mut tree = parse(document).map_err(|e| bad_plan(format!("the plan is damaged: {e}")))?;
    tree.set("root", Node::Owned(key.to_vec()));
    let mut out = Vec::with_capacity(document.len());
    tree.write(&mut out);
    Ok(out)
}

/// Replaces marks by plans.
pub struct PutBack<'a> {
    pub aside: &'a [Aside],
    /// Decodes the plan with this key.
    pub decode: &'a dyn Fn(&[u8]) -> Result<DslPlan>,
    /// Resolves a text over these tables.
    pub resolve: &'a dyn Fn(&str, Vec<(String, LazyFrame)>) -> Result<DslPlan>,
    pub done: HashMap<usize, DslPlan>,
    /// Nodes that are being resolved, to detect texts that contain themselves.
    pub open: Vec<usize>,
}

impl PutBack<'_> {
    pub fn whole(&mut self, plan: DslPlan) -> Result<DslPlan> {
        if let DslPlan::Slice { offset, len: MARK_LENGTH, .. } = &plan
            && let Ok(at) = usize::try_from(offset.wrapping_sub(MARK_OFFSET))
            && at < self.aside.len()
        {
            return self.one(at);
        }
        let mut plan = plan;
        for input in inputs_mut(&mut plan) {
            *input = self.whole(std::mem::take(input))?;
        }
        Ok(plan)
    }

    fn one(&mut self, at: usize) -> Result<DslPlan> {
        if let Some(plan) = self.done.get(&at) {
            return Ok(plan.clone());
        }
        if self.open.contains(&at) {
            return Err(bad_plan("the plan is damaged: a SQL query is a table of its own"));
        }
        self.open.push(at);
        let aside = &self.aside[at];
        let mut tables = vec![];
        for (name, key) in &aside.relations {
            let plan = (self.decode)(key)?;
            tables.push((name.clone(), LazyFrame::from(self.whole(plan)?)));
        }
        let plan = (self.resolve)(&aside.query, tables)?;
        self.open.pop();
        self.done.insert(at, plan.clone());
        Ok(plan)
    }
}
