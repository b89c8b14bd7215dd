//! Recursive tables: the plan of the anchor, that of the step over the rows of the round before, and a frame that stands for
//! all rows where the table is used.

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
        // An anchor does not read its own table: these are rows of a round of the recursion around this one.
        if self.below(node.inputs[0]).iter().any(|below| self.working.contains_key(below)) {
            return Err(lacking(WITHIN_ROUNDS));
        }
        let mut working = vec![];
        for below in self.below(node.inputs[1]) {
            match &self.crossing.nodes[below].kind {
                // Its rows are the same in all rounds, so they are made once, before this one.
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

    /// Holds a recursion within another's step to one use of a round's rows. That is of its own rows; of a second one, nothing
    /// tells whose it is.
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

    /// A node and all that it is made of.
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
