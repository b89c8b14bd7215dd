//! Moves rows between tasks and keeps their order on the way: by key, all to one task, or kept to be read again.

use std::sync::Arc;

use polars_core::prelude::*;
use polars_plan::plans::AExprBuilder;
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::prelude::ProjectionOptions;

use crate::context::Cx;
use crate::exchanges::runtime_filters::KeyFilters;
use crate::properties::expr;
use crate::properties::rel::{Effect, Names, Order, Rel, Width};
use floe_wire::error::Result;
use floe_wire::graph::{Exchange, Read};

impl Cx<'_> {
    /// Partitions rows by hash of `keys`. `ordered`: their order is still needed afterwards.
    pub fn hash(&mut self, rel: Rel, keys: &[PlSmallStr], partitions: Option<u32>, ordered: bool) -> Result<Rel> {
        self.hash_with(rel, keys, partitions, ordered, &KeyFilters::default())
    }

    pub(crate) fn hash_with(
        &mut self,
        rel: Rel,
        keys: &[PlSmallStr],
        partitions: Option<u32>,
        ordered: bool,
        key_filters: &KeyFilters,
    ) -> Result<Rel> {
        let rel = if ordered { rel } else { self.unordered(rel) };
        if partitions.is_none() && !ordered {
            let by: Vec<ExprIR> = keys.iter().map(|key| expr::col(key, &mut self.ex)).collect();
            if let Some(rel) = self.together(&rel, &by)? {
                return Ok(rel);
            }
        }
        if partitions.is_none() && rel.branches().len() == 1 && rel.is_hashed_by(keys) && rel.locally_ordered() {
            return Ok(rel);
        }
        let (rel, names) = self.portable_columns(rel, keys);
        let (order, tag) = self.order_behind_exchange(&rel, ordered);
        let partitions = partitions.unwrap_or_else(|| self.partitions(&rel));
        let keys_out = names.iter().map(|k| k.to_string()).collect();
        let schema = self.tagged_schema(&rel, tag.as_ref());
        let tagged = tag.is_some();
        let stages = self.close_with(&rel, Exchange::Hash { keys: keys_out, partitions }, tag, key_filters)?;
        let leaf = self.exchange_leaf(schema, stages, Read::Partition);
        if let ([branch], false) = (rel.branches(), tagged) {
            self.closed.insert(leaf, branch.root());
        }
        Ok(rel.exchanged(leaf, Width::Many(partitions), order).hashed_by(keys))
    }

    /// Adds the text of categories among the keys, and uses it in their place.
    fn portable_columns(&mut self, rel: Rel, keys: &[PlSmallStr]) -> (Rel, Vec<PlSmallStr>) {
        let schema = self.rel_schema(&rel);
        let mut added = Vec::new();
        let mut names = Vec::new();
        for key in keys {
            let dtype = schema.get(key).cloned().unwrap_or(DataType::Null);
            if expr::portable_dtype(&dtype) == dtype {
                names.push(key.clone());
                continue;
            }
            let column = AExprBuilder::col(key.clone(), &mut self.ex).node();
            let (node, _) = expr::portable_key(column, &dtype, &mut self.ex);
            let name = self.name("h");
            added.push(AExprBuilder::new_from_node(node).expr_ir(name.clone()));
            names.push(name);
        }
        (self.with_columns(rel, added), names)
    }

    fn order_behind_exchange(&mut self, rel: &Rel, ordered: bool) -> (Order, Option<PlSmallStr>) {
        match (rel.order(), ordered) {
            (_, false) | (Order::Free, _) => (Order::Free, None),
            (Order::Tasks, true) => {
                let tag = self.name("ord");
                // Coalesced partitions interleave: only the rows of one key stay in order.
                (Order::Tags { columns: vec![tag.clone()], local: !self.options.adaptive }, Some(tag))
            }
            (Order::Tags { columns, .. }, true) => (Order::Tags { columns: columns.clone(), local: false }, None),
        }
    }

    pub fn tagged_schema(&self, rel: &Rel, tag: Option<&PlSmallStr>) -> SchemaRef {
        let mut schema = self.rel_schema(rel).as_ref().clone();
        if let Some(tag) = tag {
            schema.with_column(tag.clone(), DataType::UInt64);
        }
        Arc::new(schema)
    }

    /// Gathers all rows in one task, in the promised order.
    pub fn gather(&mut self, rel: Rel) -> Result<Rel> {
        let rel = if rel.is_one() {
            rel
        } else {
            let schema = self.rel_schema(&rel);
            let stages = self.close(&rel, Exchange::Whole, None)?;
            let leaf = self.exchange_leaf(schema, stages, Read::All);
            rel.gathered(leaf)
        };
        Ok(self.sort_locally(rel, true))
    }

    /// Sorts the rows of each task into the promised order. `drop`: also drops the tags, which is right in a single
    /// task only.
    pub fn sort_locally(&mut self, rel: Rel, drop: bool) -> Rel {
        let Order::Tags { columns, local } = rel.order().clone() else { return rel };
        let mut rel = rel;
        if !local {
            rel = self.put(rel, Effect::WithinTaskInOrder(Names::Same), |cx, root| {
                let by = columns.iter().map(|c| expr::col(c, &mut cx.ex)).collect::<Vec<_>>();
                let options = SortMultipleOptions::default()
                    .with_maintain_order(true)
                    .with_order_descending_multi(vec![false; by.len()])
                    .with_nulls_last_multi(vec![true; by.len()]);
                cx.build(root, |b| b.sort(by, None, options))
            });
        }
        if drop { self.unordered(rel).in_promised_order() } else { rel.in_order(Order::Tags { columns, local: true }) }
    }

    /// Writes a relation and reads it back task by task, so that it can be read more than once or its rows counted.
    pub fn keep(&mut self, rel: Rel) -> Result<Rel> {
        let schema = self.rel_schema(&rel);
        let stages = self.close(&rel, Exchange::Whole, None)?;
        let root = self.exchange_leaf(schema, stages, Read::Forward);
        Ok(rel.kept(root))
    }

    /// Reads the same stages again for another user.
    pub fn reread(&mut self, rel: &Rel) -> Rel {
        self.put(rel.clone(), Effect::RowByRow(Names::Same), |cx, root| {
            let again = cx.ir.add(cx.ir.get(root).clone());
            if let Some(leaf) = cx.leaves.get(&root).cloned() {
                cx.leaves.insert(again, leaf);
            }
            if let Some(ranges) = cx.ranges.get(&root).cloned() {
                cx.ranges.insert(again, ranges);
            }
            again
        })
    }

    /// Renames the order tags, since two users of the same rows may be joined.
    pub fn retagged(&mut self, rel: Rel) -> Rel {
        let old = rel.tags().to_vec();
        if old.is_empty() {
            return rel;
        }
        let columns: Vec<PlSmallStr> = old.iter().map(|_| self.name("ord")).collect();
        let names: Vec<PlSmallStr> = self.rel_schema(&rel).iter_names().cloned().collect();
        let own = |name: &PlSmallStr| old.iter().position(|tag| tag == name).map_or(name, |at| &columns[at]).clone();
        let new_name = |name: &PlSmallStr| Some(own(name));
        self.put(rel, Effect::RowByRow(Names::Renamed(&new_name)), |cx, root| {
            let exprs = names.iter().map(|name| expr::col(name, &mut cx.ex).with_alias(own(name))).collect();
            cx.build(root, |b| b.project(exprs, ProjectionOptions::default()))
        })
    }
}
