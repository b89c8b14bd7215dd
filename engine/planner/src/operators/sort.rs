//! Distributes sorts: every task sorts its rows and writes them in chunks; once all chunks are known, the key range is
//! cut into partitions, each of which is read from the chunks that overlap it and sorted. With a slice: a local top-k,
//! gathered.

use polars_core::prelude::*;
use polars_plan::plans::expr_ir::{ExprIR, OutputName};
use polars_plan::plans::{AExprBuilder, IR, RowEncodingVariant, ToFieldContext};
use polars_utils::arena::Node;
use polars_utils::pl_str::PlSmallStr;

use crate::context::Cx;
use crate::properties::expr;
use crate::properties::rel::{Effect, Names, Order, Rel, Width};
use floe_wire::error::Result;
use floe_wire::graph::{Exchange, Read};

/// A relation that is sorted by its tags is gathered when it has at most this many rows.
const GATHER_ROWS: f64 = 100_000.0;

/// Largest top-k; for more rows, all are sorted, then sliced.
const MOST_TOP_ROWS: usize = 1 << 24;

impl Cx<'_> {
    pub fn sort(&mut self, node: Node) -> Result<Rel> {
        let IR::Sort { input, by_column, slice, sort_options } = self.ir.get(node).clone() else {
            return self.alone(node, "not a sort");
        };
        let rel = self.walk(input)?;
        let names: Vec<_> = {
            let tags = rel.tags();
            self.rel_schema(&rel).iter_names().filter(|n| !tags.contains(n)).cloned().collect()
        };
        let (rel, by_column) = match self.key_columns(node, rel, by_column)? {
            Ok(rel_and_keys) => rel_and_keys,
            Err((rel, why)) => {
                let rel = self.gather(rel)?;
                return Ok(self.on_one(node, vec![rel], &why));
            }
        };
        let stable = sort_options.maintain_order;
        let rel = if stable { rel } else { self.unordered(rel) };
        // The engine allocates memory for all rows of a top-k.
        let few = |(offset, len): (i64, usize)| len.saturating_add(offset.unsigned_abs() as usize) <= MOST_TOP_ROWS;
        if let Some((offset, len, _)) = slice.clone().filter(|(offset, len, _)| few((*offset, *len))) {
            let rel = self.top(rel, &by_column, &sort_options, offset, len)?;
            return Ok(self.project(rel, &names));
        }
        // Break ties by the rows' former positions.
        let (mut by, mut options) = (by_column, sort_options);
        let n = by.len();
        options.descending = widen(&options.descending, n, false);
        options.nulls_last = widen(&options.nulls_last, n, false);
        for tag in rel.tags().to_vec() {
            by.push(expr::col(&tag, &mut self.ex));
            options.descending.push(false);
            options.nulls_last.push(true);
        }
        let rel = self.sort_by_ranges(rel, by, options, &names)?;
        match slice {
            Some((offset, len, _)) => self.slice(rel, offset, len),
            None => Ok(rel),
        }
    }

    pub(crate) fn sort_by_ranges(
        &mut self,
        rel: Rel,
        by: Vec<ExprIR>,
        options: SortMultipleOptions,
        names: &[PlSmallStr],
    ) -> Result<Rel> {
        let schema = self.rel_schema(&rel);
        let mut keys = Vec::new();
        let mut dtypes = Vec::new();
        for e in &by {
            let dtype = self.ex.get(e.node()).to_dtype(&ToFieldContext::new(&self.ex, &schema));
            let dtype = dtype.map_err(floe_polars::polars_error)?;
            let (node, dtype) = expr::portable_key(e.node(), &dtype, &mut self.ex);
            let name = format!("k{}", keys.len());
            keys.push(ExprIR::new(node, OutputName::Alias(name.into())));
            dtypes.push(dtype);
        }
        let variant = RowEncodingVariant::Ordered {
            descending: Some(options.descending.clone()),
            nulls_last: Some(options.nulls_last.clone()),
            broadcast_nulls: Some(false),
        };
        let encoded =
            AExprBuilder::row_encode(keys, dtypes, variant, &mut self.ex).cast(DataType::Binary, &mut self.ex);
        let key = self.name("key");
        let rel = self.with_columns(rel, vec![encoded.expr_ir(key.clone())]);
        let partitions = self.ranges(&rel);
        let schema = self.rel_schema(&rel);
        let stages = self.close(&rel, Exchange::Range { key: key.to_string(), partitions }, None)?;
        let leaf = self.exchange_leaf(schema, stages, Read::Partition);
        let rel = rel.exchanged(leaf, Width::Many(partitions), Order::Free);
        let options = options.with_maintain_order(true);
        let rel = self.put(rel, Effect::WithinTask(Names::Same), |cx, root| {
            let (by, options) = (by.clone(), options.clone());
            cx.build(root, |b| b.sort(by, None, options))
        });
        Ok(self.project(rel.in_promised_order(), names))
    }

    fn top(&mut self, rel: Rel, by: &[ExprIR], options: &SortMultipleOptions, offset: i64, len: usize) -> Result<Rel> {
        let sort = |cx: &mut Self, rel: Rel, slice: (i64, usize)| {
            let rel = cx.sort_locally(rel, false);
            // The tags, if any, no longer tell the order within a task.
            cx.put(rel, Effect::WithinTask(Names::Same), |cx, root| {
                let (by, options) = (by.to_vec(), options.clone());
                cx.build(root, |b| b.sort(by, Some(slice), options))
            })
        };
        let rel = if rel.is_one() {
            rel
        } else {
            let local = if offset >= 0 {
                (0, (offset as usize).saturating_add(len))
            } else {
                (offset, offset.unsigned_abs() as usize)
            };
            let rows = local.1 as f64 * 4.0;
            // Ties keep their order, which is all that the last sort needs.
            sort(self, rel, local).settled().sized(Some(rows), Some(rows * 64.0))
        };
        let rel = self.gather(rel)?;
        Ok(sort(self, rel, (offset, len)).in_promised_order())
    }

    /// Merges two inputs that are sorted by the key: a stable sort of the left above the right.
    pub(crate) fn merge_sorted(&mut self, node: Node, left: Node, right: Node, key: &[PlSmallStr]) -> Result<Rel> {
        let [key] = key else { return self.alone(node, "a merge by several keys") };
        if !self.rises(left, key) || !self.rises(right, key) {
            return self.alone(node, "a merge of inputs that are not known to be sorted");
        }
        let names: Vec<_> = self.schema(node).iter_names().cloned().collect();
        let (left, right) = (self.walk(left)?, self.walk(right)?);
        let (left, right) = (self.in_order(left)?, self.in_order(right)?);
        let Some(rel) = Rel::stacked(vec![left, right]) else { return self.alone(node, "a merge of nothing") };
        let by = vec![expr::col(key, &mut self.ex)];
        let options =
            SortMultipleOptions::default().with_order_descending_multi([false]).with_nulls_last_multi([false]);
        self.sort_by_ranges(rel, by, options, &names)
    }

    /// Puts rows in the promised order, task by task, without tags.
    pub fn in_order(&mut self, rel: Rel) -> Result<Rel> {
        let Order::Tags { columns, .. } = rel.order().clone() else { return Ok(rel) };
        if rel.is_one() || rel.rows().is_some_and(|r| r <= GATHER_ROWS) {
            return self.gather(rel);
        }
        let names: Vec<_> = self.rel_schema(&rel).iter_names().filter(|n| !columns.contains(n)).cloned().collect();
        let by: Vec<_> = columns.iter().map(|c| expr::col(c, &mut self.ex)).collect();
        let options = SortMultipleOptions::default()
            .with_order_descending_multi(vec![false; by.len()])
            .with_nulls_last_multi(vec![true; by.len()]);
        self.sort_by_ranges(rel.in_any_order(), by, options, &names)
    }
}

fn widen(flags: &[bool], n: usize, default: bool) -> Vec<bool> {
    match flags {
        [] => vec![default; n],
        [one] => vec![*one; n],
        all => all.to_vec(),
    }
}
