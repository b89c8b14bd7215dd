//! Builds recursive tables: the plan of the anchor, the plan of the step over the rows of the previous round, and a
//! frame that stands for all rows where the table is used.

use std::sync::Arc;

use polars::prelude::*;

use super::data::{Node, NodeKind};
use super::nodes::as_resolved;
use super::{Context, damaged, lacking, values};
use crate::recursion::{Placeholder, Recursion};
use floe_wire::error::Result;

const WITHIN_ROUNDS: &str = "a recursive table in the step of another that may read the rows of its rounds";

fn schema(node: &Node) -> Result<SchemaRef> {
    let fields = node.schema.iter().map(|(name, data)| Ok((name.as_str().into(), values::dtype(data)?)));
    Ok(Arc::new(fields.collect::<Result<Schema>>()?))
}

impl Context<'_> {
    pub fn working_table(&mut self, at: usize, node: &Node) -> Result<LazyFrame> {
        let placeholder = Placeholder::new(schema(node)?);
        let plan = placeholder.plan();
        self.working.insert(at, placeholder);
        Ok(plan.into())
    }

    pub fn recursive(&mut self, node: &Node, inputs: Vec<LazyFrame>) -> Result<LazyFrame> {
        let [anchor, step] = <[LazyFrame; 2]>::try_from(inputs).map_err(|_| damaged("a recursion without a step"))?;
        // An anchor cannot read its own table: these rows are those of an enclosing recursion.
        if self.below(node.inputs[0]).iter().any(|below| self.working.contains_key(below)) {
            return Err(lacking(WITHIN_ROUNDS));
        }
        let mut working = vec![];
        for below in self.below(node.inputs[1]) {
            match &self.crossing.nodes[below].kind {
                // Its rows are the same in every round, so they are computed once, before this recursion.
                NodeKind::Recursive => self.reads_one_table(below)?,
                NodeKind::WorkingTable => working.extend(self.working.remove(&below)),
                _ => {}
            }
        }
        let whole = Placeholder::new(schema(node)?);
        let plan = whole.plan();
        let anchor = as_resolved(anchor, &node.schema)?.logical_plan;
        self.recursions.push(Recursion::new(anchor, step.logical_plan, working, whole));
        Ok(plan.into())
    }

    /// Allows a recursion inside another's step only one use of a round's rows: its own. With a second use, the plan
    /// does not say to which recursion the rows belong.
    fn reads_one_table(&self, recursion: usize) -> Result<()> {
        let [_, step] = self.crossing.nodes[recursion].inputs[..] else {
            return Err(damaged("a recursion without a step"));
        };
        let below = self.below(step);
        let count =
            |what: fn(&NodeKind) -> bool| below.iter().filter(|at| what(&self.crossing.nodes[**at].kind)).count();
        let working = count(|kind| matches!(kind, NodeKind::WorkingTable));
        if working > 1 || count(|kind| matches!(kind, NodeKind::Recursive)) > 0 {
            return Err(lacking(WITHIN_ROUNDS));
        }
        Ok(())
    }

    /// A node and all nodes below it.
    fn below(&self, root: usize) -> Vec<usize> {
        let mut found = vec![];
        let mut seen = vec![false; self.crossing.nodes.len()];
        let mut open = vec![root];
        while let Some(at) = open.pop() {
            if !std::mem::replace(&mut seen[at], true) {
                found.push(at);
                open.extend(&self.crossing.nodes[at].inputs);
            }
        }
        found
    }
}
