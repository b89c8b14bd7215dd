//! Nodes inside a plan of Polars 2.x that a newer Polars has to resolve: SQL, which it keeps as a text with the plans of
//! its tables, and nodes with functions that the engine's decoder does not know. They are set aside while the rest of
//! the plan is decoded, resolved (`over`, `newer`), and put back as plans.

use std::collections::HashMap;

use polars_core::prelude::DataFrame;
use polars_lazy::frame::{IntoLazy, LazyFrame};
use polars_plan::dsl::DslPlan;

use crate::added;
use crate::inputs::inputs_mut;
use crate::msgpack::{Node, parse};
use crate::refuse::{self, bad_plan};
use crate::versions::{self, Client};
use floe_wire::error::{QueryError, Result};

/// Mark for a node that was set aside: a slice of this length, whose offset is the number. No client writes such a
/// slice.
const MARK_LENGTH: u32 = u32::MAX - 4;
const MARK_OFFSET: i64 = i64::MIN / 2;
/// Limit of such nodes per plan.
const MAX_NODES: usize = 256;

/// What was set aside.
#[derive(Debug)]
pub enum What {
    Text(String),
    /// A plan node as it was encoded.
    Node(Vec<u8>),
}

/// A node that was set aside.
#[derive(Debug)]
pub struct Aside {
    pub what: What,
    /// Its tables by name, or its inputs in order, and the encoded keys of their plans in the document.
    pub relations: Vec<(String, Vec<u8>)>,
}

/// Replaces by marks the SQL nodes of a document and the nodes with one of these functions, and collects them.
pub fn set_aside(document: &mut Node<'_>, functions: &[String], found: &mut Vec<Aside>) -> Result<()> {
    let mut nothing = vec![];
    added::key(added::count(document)).write(&mut nothing);
    take(document, &nothing, functions, found)?;
    if found.iter().any(|aside| aside.relations.is_empty())
        && let Some(Node::Seq(plans)) = document.get_mut("dsl_plans")
    {
        plans.push(added::listed(added::nothing()));
    }
    Ok(())
}

/// `nothing` is the key of an empty plan: the input of marks for texts that name no table (over files, or without
/// FROM).
fn take(node: &mut Node<'_>, nothing: &[u8], functions: &[String], found: &mut Vec<Aside>) -> Result<()> {
    match node {
        Node::Raw(_) | Node::Owned(_) => Ok(()),
        Node::Seq(items) => items.iter_mut().try_for_each(|item| take(item, nothing, functions, found)),
        Node::Map(entries) => {
            let here = match entries.as_slice() {
                [(name, content)] if name.as_str() == Some("SQL") && content.get("query").is_some() => {
                    Some(read(content)?)
                }
                _ => newer(entries, functions),
            };
            let Some(here) = here else {
                return entries.iter_mut().try_for_each(|(_, value)| take(value, nothing, functions, found));
            };
            if found.len() >= MAX_NODES {
                return Err(QueryError::user(
                    "QueryTooLarge",
                    format!("the plan holds more than {MAX_NODES} SQL queries and functions of newer releases"),
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
    Ok(Aside { what: What::Text(query), relations })
}

/// A plan node with one of these functions, if it can be resolved by itself: it names no plans but its inputs, and
/// holds no Python.
fn newer(entries: &[(Node<'_>, Node<'_>)], functions: &[String]) -> Option<Aside> {
    let [(kind, content)] = entries else { return None };
    let inputs = inputs(content)?;
    if functions.is_empty() || !has_function(content, functions) || matches!(kind.as_str(), None | Some("Sink")) {
        return None;
    }
    let node = Node::Map(vec![(kind.clone(), content.clone())]);
    if keys(content) != inputs.len() || refuse::check(&node).is_err() {
        return None;
    }
    let encoded = |node: &Node<'_>| {
        let mut bytes = vec![];
        node.write(&mut bytes);
        bytes
    };
    let relations = inputs.into_iter().enumerate().map(|(at, key)| (at.to_string(), encoded(key))).collect();
    Some(Aside { what: What::Node(encoded(&node)), relations })
}

/// The fields of a plan node that name the plans it reads.
const INPUTS: [&str; 3] = ["input", "input_left", "input_right"];

/// The keys of the plans that a node reads. `None` for what is no plan node, or one that reads nothing.
fn inputs<'n, 'b>(content: &'n Node<'b>) -> Option<Vec<&'n Node<'b>>> {
    let found: Vec<_> = INPUTS.iter().filter_map(|field| content.get(field)).collect();
    (!found.is_empty() && found.iter().all(|key| is_key(key))).then_some(found)
}

fn is_key(node: &Node<'_>) -> bool {
    node.as_map().is_some_and(|entries| entries.len() == 2)
        && node.get("idx").is_some()
        && node.get("version").is_some()
}

/// Number of keys anywhere in a node.
fn keys(node: &Node<'_>) -> usize {
    match node {
        Node::Raw(_) | Node::Owned(_) => 0,
        Node::Seq(items) => items.iter().map(keys).sum(),
        Node::Map(_) if is_key(node) => 1,
        Node::Map(entries) => entries.iter().map(|(_, value)| keys(value)).sum(),
    }
}

/// Whether a function by one of these names stands anywhere in a node. A column of that name counts, too: resolving
/// more than is needed changes nothing.
fn has_function(node: &Node<'_>, functions: &[String]) -> bool {
    let named = |node: &Node<'_>| node.as_str().is_some_and(|name| functions.iter().any(|function| function == name));
    match node {
        Node::Raw(_) | Node::Owned(_) => named(node),
        Node::Seq(items) => items.iter().any(|item| has_function(item, functions)),
        Node::Map(entries) => entries.iter().any(|(key, value)| named(key) || has_function(value, functions)),
    }
}

/// A document whose root is this node, over these frames in the place of its inputs.
pub fn document(node: &[u8], frames: Vec<DataFrame>, client: Client) -> Result<Vec<u8>> {
    let damaged = || bad_plan("the plan is damaged: a node whose inputs cannot be read");
    // Polars writes the frames, as the inputs of a node that is then replaced.
    let inputs: Vec<DslPlan> = frames.into_iter().map(|frame| frame.lazy().logical_plan).collect();
    let union = floe_codec::encode_dsl(&DslPlan::Union { inputs, args: Default::default() });
    let union = union.map_err(|e| QueryError::internal(format!("frames cannot be encoded: {e}")))?;
    let (_, body) = versions::split(&union)?;
    let mut tree = parse(body).map_err(|_| damaged())?;
    let mut node = parse(node).map_err(|_| damaged())?;
    let root = tree.get("root").and_then(|root| root.get("idx")).and_then(Node::as_u64);
    let root = root.and_then(|at| usize::try_from(at).ok()).ok_or_else(damaged)?;
    let Some(Node::Seq(plans)) = tree.get_mut("dsl_plans") else { return Err(damaged()) };
    let plan = plans.get_mut(root).and_then(|listed| listed.get_mut("value")).ok_or_else(damaged)?;
    let mut frames = match plan.variant_mut().and_then(|union| union.remove("inputs")) {
        Some(Node::Seq(frames)) => frames.into_iter(),
        _ => return Err(damaged()),
    };
    *plan = Node::nil();
    let content = node.variant_mut().ok_or_else(damaged)?;
    for field in INPUTS {
        if content.get(field).is_some() {
            content.set(field, added::key(plans.len()));
            plans.push(added::listed(frames.next().ok_or_else(damaged)?));
        }
    }
    if let Some(listed) = plans.get_mut(root) {
        listed.set("value", node);
    }
    let mut out = vec![];
    versions::header(&mut out, client);
    tree.write(&mut out);
    Ok(out)
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
    /// Resolves a text over these tables, or a node over these inputs.
    pub resolve: &'a dyn Fn(&What, Vec<(String, LazyFrame)>) -> Result<DslPlan>,
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
        let plan = (self.resolve)(&aside.what, tables)?;
        self.open.pop();
        self.done.insert(at, plan.clone());
        Ok(plan)
    }
}
