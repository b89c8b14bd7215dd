//! Distributes `unique`: deduplicates within each task, then by hash of the subset. `first`, `last` and `none` keep
//! their meaning because exchanges keep the relative order of rows.

use polars_core::frame::UniqueKeepStrategy;
use polars_plan::plans::IR;
use polars_plan::prelude::DistinctOptionsIR;
use polars_utils::arena::Node;

use crate::context::Cx;
use crate::properties::rel::{Effect, Names, Rel};
use floe_wire::error::Result;

impl Cx<'_> {
    pub fn distinct(&mut self, node: Node) -> Result<Rel> {
        let IR::Distinct { input, options } = self.ir.get(node).clone() else {
            return self.alone(node, "not a unique");
        };
        // The node's own slice observes the order, even if nothing after it does.
        let ordered_out = options.maintain_order && (self.order_out(node) || options.slice.is_some());
        let ordered_in = self.order_in(node, 0);
        let rel = self.walk(input)?;
        let schema = self.rel_schema(&rel);
        let tags = rel.tags().to_vec();
        let subset: Vec<_> = match &options.subset {
            Some(subset) => subset.to_vec(),
            None => schema.iter_names().filter(|n| !tags.contains(n)).cloned().collect(),
        };
        if subset.is_empty() {
            let rel = self.gather(rel)?;
            return Ok(self.on_one(node, vec![rel], "no columns to tell rows apart"));
        }
        let names: Vec<_> = schema.iter_names().filter(|n| !tags.contains(n)).cloned().collect();
        let local = DistinctOptionsIR {
            subset: Some(subset.iter().cloned().collect()),
            maintain_order: ordered_in || ordered_out,
            slice: None,
            ..options.clone()
        };
        let dedupe = |cx: &mut Self, rel: Rel| {
            let effect = match local.maintain_order {
                true => Effect::WithinTaskInOrder(Names::Same),
                false => Effect::WithinTask(Names::Same),
            };
            cx.put(rel, effect, |cx, root| cx.ir.add(IR::Distinct { input: root, options: local.clone() }))
        };
        let by: Vec<_> = subset.iter().map(|name| crate::properties::expr::col(name, &mut self.ex)).collect();
        if let Some(rel) = self.together(&rel, &by)? {
            let rel = dedupe(self, rel);
            let rel = if ordered_out { rel } else { self.unordered(rel) };
            return match options.slice {
                Some((offset, len)) => self.slice(rel, offset, len),
                None => Ok(rel),
            };
        }
        let pre = options.keep_strategy != UniqueKeepStrategy::None && rel.locally_ordered();
        let rel = if pre && !rel.is_hashed_by(&subset) {
            let rel = dedupe(self, rel);
            self.in_part(rel).scaled(0.6)
        } else {
            rel
        };
        let mend = ordered_in && rel.is_tagged();
        let rel = self.hash(rel, &subset, None, ordered_out || mend)?;
        let rel = if ordered_in || ordered_out { self.sort_locally(rel, false) } else { rel };
        let rel = dedupe(self, rel);
        let rel = if ordered_out { rel } else { self.unordered(rel) };
        let rel = self.project(rel, &names);
        match options.slice {
            Some((offset, len)) => self.slice(rel, offset, len),
            None => Ok(rel),
        }
    }
}
