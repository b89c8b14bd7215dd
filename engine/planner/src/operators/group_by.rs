//! Group-bys: partial aggregation where every aggregate decomposes, else whole groups of rows partitioned by key.
//! Reductions without keys are group-bys of one group.

use std::sync::Arc;

use polars_plan::dsl::GroupbyOptions;
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::{AExprBuilder, ArenaExprIter, IR, IRBuilder};
use polars_plan::prelude::ProjectionOptions;
use polars_utils::arena::Node;
use polars_utils::pl_str::PlSmallStr;

use crate::context::Cx;
use crate::operators::aggregate::{Setting, decompose};
use crate::operators::subexpressions::Extraction;
use crate::properties::expr;
use crate::properties::rel::{Effect, Names, Order, Rel};
use floe_wire::error::Result;

/// The relation and its row-wise keys; or the relation and why they cannot be made row-wise.
type Keys = std::result::Result<(Rel, Vec<ExprIR>), (Rel, String)>;

impl Cx<'_> {
    pub fn group_by(&mut self, node: Node) -> Result<Rel> {
        let IR::GroupBy { input, keys, aggs, schema, maintain_order, options, apply } = self.ir.get(node).clone()
        else {
            return self.alone(node, "not a group by");
        };
        if apply.is_some() {
            return self.alone(node, "a function is applied to each group");
        }
        let windows = options.is_dynamic() || options.is_rolling();
        // The node's own slice observes the order, even if nothing after it does. Windows are always ordered.
        let sliced = options.slice.is_some() && (maintain_order || windows);
        let ordered_out = sliced || maintain_order && self.order_out(node);
        let ordered_in = self.order_in(node, 0);
        let rel = self.walk(input)?;
        let (rel, keys) = match self.key_columns(node, rel, keys)? {
            Ok(rel_and_keys) => rel_and_keys,
            Err((rel, why)) => {
                let rel = self.gather(rel)?;
                return Ok(self.on_one(node, vec![rel], &why));
            }
        };
        let slice = options.slice;
        let options = Arc::new(GroupbyOptions { slice: None, ..(*options).clone() });
        let names: Vec<PlSmallStr> = schema.iter_names().cloned().collect();
        let rel = if windows && keys.is_empty() {
            self.windows_of_all(input, rel, aggs, options, ordered_out)?
        } else if windows {
            self.windows_by_key(rel, keys, aggs, options, ordered_out)?
        } else {
            if let Some(rel) = self.together(&rel, &keys)? {
                let kept = ordered_in || ordered_out;
                let rel = self.put_group_by(rel, keys.clone(), aggs.clone(), options.clone(), kept)?;
                let rel = if ordered_out { rel } else { rel.in_any_order() };
                rel.scaled(0.3)
            } else {
                match self.group_in_parts(&rel, &keys, &aggs, ordered_in, ordered_out)? {
                    Some(rel) => rel,
                    None => self.group_whole(rel, keys, aggs, options, ordered_in, ordered_out)?,
                }
            }
        };
        let rel = self.project(rel, &names);
        match slice {
            Some((offset, len)) => self.slice(rel, offset, len),
            None => Ok(rel),
        }
    }

    /// Puts keys that look at more than their own row, or at no column, in columns of their own.
    pub(crate) fn key_columns(&mut self, node: Node, rel: Rel, keys: Vec<ExprIR>) -> Result<Keys> {
        let plain = |cx: &Self, key: &ExprIR| expr::elementwise(key, &cx.ex) && expr::has_column(key.node(), &cx.ex);
        if keys.iter().all(|key| plain(self, key)) {
            return Ok(Ok((rel, keys)));
        }
        let (mut rel, mut columns) = match self.extract_subexpressions(node, rel, &keys)? {
            Extraction::Done(rel, keys) => (rel, keys),
            Extraction::NeedsAllRows(rel, why) => return Ok(Err((rel, why))),
        };
        for key in &mut columns {
            if !expr::has_column(key.node(), &self.ex) {
                let column = self.name("k");
                rel = self.with_columns(rel, vec![key.with_alias(column.clone())]);
                *key = AExprBuilder::col(column, &mut self.ex).expr_ir(key.output_name().clone());
            }
        }
        Ok(Ok((rel, columns)))
    }

    /// Partial aggregation: groups within each task, combined by key.
    fn group_in_parts(
        &mut self,
        rel: &Rel,
        keys: &[ExprIR],
        aggs: &[ExprIR],
        ordered_in: bool,
        ordered_out: bool,
    ) -> Result<Option<Rel>> {
        let setting = Setting::Groups { ordered: !ordered_in || *rel.order() == Order::Tasks };
        if ordered_out && *rel.order() != Order::Tasks {
            return Ok(None);
        }
        let schema = self.rel_schema(rel);
        let mut counter = 0;
        let prefix = self.name("a");
        let mut name = || {
            counter += 1;
            PlSmallStr::from_string(format!("{prefix}_{counter}"))
        };
        let Ok(parts) = decompose(aggs, &schema, setting, &mut self.ex, &mut name) else { return Ok(None) };
        // Keys keep their names; partials get names that no user's column has.
        let key_names: Vec<PlSmallStr> = keys.iter().map(|k| k.output_name().clone()).collect();
        let rel =
            self.put_group_by(rel.clone(), keys.to_vec(), parts.partial, Arc::default(), ordered_in || ordered_out)?;
        // A group may now have a row in each of several tasks: forget which rows are together.
        let rel = self.in_part(rel).scaled(0.3).scattered();
        let rel = self.hash(rel, &key_names, None, ordered_out)?;
        let final_keys = key_names.iter().map(|k| expr::col(k, &mut self.ex)).collect::<Vec<_>>();
        let mut combine = parts.combine;
        let order = self.first_tags(&rel, &mut combine, ordered_out);
        let rel = self.put_group_by(rel, final_keys, combine, Arc::default(), false)?.in_order(order);
        let mut finish: Vec<ExprIR> = key_names.iter().map(|k| expr::col(k, &mut self.ex)).collect();
        finish.extend(parts.finish);
        finish.extend(rel.tags().to_vec().iter().map(|t| expr::col(t, &mut self.ex)));
        let kept: Vec<PlSmallStr> = key_names.iter().chain(rel.tags()).cloned().collect();
        let rel = self.put(rel, Effect::RowByRow(Names::Only(&kept)), |cx, root| {
            let finish = finish.clone();
            cx.build(root, |b| b.project(finish, ProjectionOptions::default()))
        });
        Ok(Some(rel.scattered().hashed_by(&key_names)))
    }

    /// Puts all rows of a group into one task.
    fn group_whole(
        &mut self,
        rel: Rel,
        keys: Vec<ExprIR>,
        aggs: Vec<ExprIR>,
        options: Arc<GroupbyOptions>,
        ordered_in: bool,
        ordered_out: bool,
    ) -> Result<Rel> {
        let (rel, names) = self.as_columns(rel, &keys);
        // Exchanges keep the relative order of rows that come task by task; any other order must be restored from tags.
        let mend = ordered_in && rel.is_tagged();
        let rel = self.hash(rel, &names, None, ordered_out || mend)?;
        let rel = if ordered_in { self.sort_locally(rel, false) } else { rel };
        let mut aggs = aggs;
        let order = self.first_tags(&rel, &mut aggs, ordered_out);
        let key_names: Vec<PlSmallStr> = keys.iter().map(|k| k.output_name().clone()).collect();
        let rel = self.put_group_by(rel, keys, aggs, options, false)?.in_order(order);
        Ok(rel.scattered().hashed_by(&key_names).scaled(0.3))
    }

    /// Orders groups by their first row, whose tags they take over.
    fn first_tags(&mut self, rel: &Rel, aggs: &mut Vec<ExprIR>, ordered: bool) -> Order {
        let tags = rel.tags().to_vec();
        if !ordered || tags.is_empty() {
            return if ordered { rel.order().clone() } else { Order::Free };
        }
        let mut columns = Vec::new();
        for tag in &tags {
            let name = self.name("ord");
            // Take the tags of the first row, not the least of each column: tags compare as one key.
            let first = AExprBuilder::col(tag.clone(), &mut self.ex);
            let value = if tags.len() == 1 { first.min(&mut self.ex) } else { first.first(&mut self.ex) };
            aggs.push(value.expr_ir(name.clone()));
            columns.push(name);
        }
        Order::Tags { columns, local: false }
    }

    /// Groups the rows of each task. `maintain_order`: groups come in the order of their first rows.
    pub(crate) fn put_group_by(
        &mut self,
        rel: Rel,
        keys: Vec<ExprIR>,
        aggs: Vec<ExprIR>,
        options: Arc<GroupbyOptions>,
        maintain_order: bool,
    ) -> Result<Rel> {
        let named: Vec<(Option<PlSmallStr>, PlSmallStr)> =
            keys.iter().map(|key| (expr::column_name(key, &self.ex), key.output_name().clone())).collect();
        let key =
            |name: &PlSmallStr| named.iter().find(|(from, _)| from.as_ref() == Some(name)).map(|(_, to)| to.clone());
        let names = Names::Renamed(&key);
        let effect = if maintain_order { Effect::WithinTaskInOrder(names) } else { Effect::WithinTask(names) };
        let mut failed = None;
        let rel = self.put(rel, effect, |cx, root| {
            let b = IRBuilder::new(root, &mut cx.ex, &mut cx.ir);
            match b.group_by(keys.clone(), aggs.clone(), None, maintain_order, options.clone()) {
                Ok(b) => b.node(),
                Err(error) => {
                    failed = Some(floe_polars::polars_error(error));
                    root
                }
            }
        });
        failed.map_or(Ok(rel), Err)
    }

    /// Distributes a `select` of aggregates only.
    pub fn reduce(&mut self, node: Node, rel: Rel, exprs: Vec<ExprIR>) -> Result<Rel> {
        let schema = self.rel_schema(&rel);
        let mut counter = 0;
        let prefix = self.name("r");
        let mut name = || {
            counter += 1;
            PlSmallStr::from_string(format!("{prefix}_{counter}"))
        };
        if !exprs.iter().any(|e| expr::has_column(e.node(), &self.ex)) && !self.ex_has_len(&exprs) {
            let rel = self.gather(rel)?;
            return Ok(self.on_one(node, vec![rel], "literals only"));
        }
        match decompose(&exprs, &schema, Setting::Columns, &mut self.ex, &mut name) {
            Ok(parts) if !rel.is_one() => {
                let ordered = exprs.iter().any(|e| expr::asks_order(e.node(), &self.ex));
                let rel = if ordered { self.in_order(rel)? } else { rel };
                self.in_parts(rel, &parts)
            }
            Ok(_) => {
                let rel = self.gather(rel)?;
                Ok(self.on_one(node, vec![rel], "its input is in one task already"))
            }
            Err(why) if rel.is_one() => {
                let rel = self.gather(rel)?;
                Ok(self.on_one(node, vec![rel], &why))
            }
            Err(why) => match self.extract_inputs(node, rel, &exprs)? {
                Extraction::Done(rel, exprs) => self.reduce(node, rel, exprs),
                Extraction::NeedsAllRows(rel, _) => {
                    let rel = self.gather(rel)?;
                    Ok(self.on_one(node, vec![rel], &why))
                }
            },
        }
    }

    fn ex_has_len(&self, exprs: &[ExprIR]) -> bool {
        use polars_plan::plans::AExpr;
        exprs.iter().any(|e| self.ex.iter(e.node()).any(|(_, ae)| matches!(ae, AExpr::Len)))
    }
}
