//! Builds plan nodes. Inputs come first, so each node is built on finished ones.

use std::collections::HashSet;

use polars::prelude::*;
use polars_plan::dsl::{Expr, Selector};
use polars_plan::prelude::col;
use serde_json::Value;

use super::data::{Named, Node, NodeKind};
use super::exprs::Built;
use super::implied::implied;
use super::{Context, FIRST_TABLE_ROWS, damaged, joins, lacking, scalars, values};
use crate::recursion::Recursion;
use floe_polars::polars_error;
use floe_wire::error::Result;

pub fn build(mut ctx: Context) -> Result<(LazyFrame, Vec<Recursion>)> {
    let broadcast = scalars::broadcast_columns(ctx.crossing);
    let mut frames: Vec<LazyFrame> = Vec::with_capacity(ctx.crossing.nodes.len());
    for (at, node) in ctx.crossing.nodes.iter().enumerate() {
        if node.inputs.iter().any(|input| *input >= at) {
            return Err(damaged("a node names one that comes after it"));
        }
        let inputs: Vec<LazyFrame> = node.inputs.iter().map(|input| frames[*input].clone()).collect();
        let frame = ctx.node(at, node, inputs, &broadcast)?;
        frames.push(frame);
    }
    let root = ctx.crossing.root;
    let frame = frames.into_iter().nth(root).ok_or_else(|| damaged("its root is missing"))?;
    Ok((as_resolved(frame, &ctx.crossing.nodes[root].schema)?, ctx.recursions))
}

/// Selects the names and types that Polars resolved, if building changed any.
pub fn as_resolved(mut frame: LazyFrame, schema: &[(String, Value)]) -> Result<LazyFrame> {
    let have = frame.collect_schema().map_err(polars_error)?;
    let mut changed = have.len() != schema.len();
    let mut columns = Vec::with_capacity(schema.len());
    for (at, (name, data)) in schema.iter().enumerate() {
        let dtype = values::dtype(data)?;
        changed |= have.get_at_index(at).is_none_or(|(have, _)| have.as_str() != name);
        let found = have.get(name).ok_or_else(|| damaged(format!("its column {name} is missing")))?;
        // Categories are numbered per process, so their types never compare equal.
        if *found == dtype || found.is_categorical() {
            columns.push(col(name.as_str()));
        } else {
            changed = true;
            columns.push(col(name.as_str()).strict_cast(dtype));
        }
    }
    Ok(if changed { frame.select(columns) } else { frame })
}

impl Context<'_> {
    pub fn expr(&self, at: usize) -> Built {
        self.exprs.get(at).ok_or_else(|| damaged("an expression is missing"))?.clone()
    }

    /// Like `expr`, for a context in which each input row gives one output row.
    fn row_wise(&self, at: usize) -> Built {
        self.in_rows.as_ref().unwrap_or(&self.exprs).get(at).ok_or_else(|| damaged("an expression is missing"))?.clone()
    }

    pub fn all(&self, at: &[usize]) -> Result<Vec<Expr>> {
        at.iter().map(|at| self.expr(*at)).collect()
    }

    fn named(&self, exprs: &[Named], get: impl Fn(usize) -> Built) -> Result<Vec<Expr>> {
        exprs.iter().map(|(name, at)| Ok(get(*at)?.alias(name.as_str()))).collect()
    }

    fn node(
        &mut self,
        at: usize,
        node: &Node,
        mut inputs: Vec<LazyFrame>,
        broadcast: &HashSet<String>,
    ) -> Result<LazyFrame> {
        let mut one = || match inputs.len() {
            1 => Ok(inputs.remove(0)),
            n => Err(damaged(format!("a node of one input has {n}"))),
        };
        Ok(match &node.kind {
            NodeKind::Frame { columns, dtypes, height, nulls, values } => {
                match self.table(columns, dtypes, *height).filter(|_| *nulls || columns.is_empty()) {
                    Some(table) => table,
                    None => frame(columns, dtypes, *height, *nulls, values)?.lazy(),
                }
            }
            NodeKind::Filter { predicate } => {
                let predicate = self.row_wise(*predicate)?;
                match implied(&predicate) {
                    Some(more) => one()?.filter(predicate.and(more)),
                    None => one()?.filter(predicate),
                }
            }
            NodeKind::Select { exprs } if scalars::keeps_rows(self.crossing, exprs, broadcast) => {
                one()?.select(self.named(exprs, |at| self.row_wise(at))?)
            }
            NodeKind::Select { exprs }
                if node.inputs.iter().all(|input| scalars::is_one_row(self.crossing, *input))
                    && exprs.iter().all(|(_, at)| scalars::value_of(self.crossing, *at).is_some()) =>
            {
                // Only one row: its value equals the column.
                let column = |at| self.expr(scalars::value_of(self.crossing, at).unwrap_or(at));
                one()?.select(self.named(exprs, column)?)
            }
            NodeKind::Select { exprs } => one()?.select(self.named(exprs, |at| self.expr(at))?),
            NodeKind::WithColumns { exprs } => one()?.with_columns(self.named(exprs, |at| self.row_wise(at))?),
            NodeKind::Project => one()?.select(names(node)),
            NodeKind::GroupBy { keys, aggs, maintain_order, slice } => {
                let keys = self.named(keys, |at| self.row_wise(at))?;
                let aggs = self.named(aggs, |at| self.expr(at))?;
                let input = one()?;
                let grouped = if *maintain_order { input.group_by_stable(keys) } else { input.group_by(keys) };
                sliced(grouped.agg(aggs), *slice)?
            }
            NodeKind::Join { .. } => {
                let [left, right] = <[LazyFrame; 2]>::try_from(inputs).map_err(|_| damaged("a join of one input"))?;
                joins::build(self, node, left, right)?
            }
            NodeKind::Sort { by, maintain_order, nulls_last, descending, slice } => {
                let by = by.iter().map(|at| self.row_wise(*at)).collect::<Result<Vec<_>>>()?;
                let options = SortMultipleOptions::default()
                    .with_order_descending_multi(descending.iter().copied())
                    .with_nulls_last_multi(nulls_last.iter().copied())
                    .with_maintain_order(*maintain_order);
                sliced(one()?.sort_by_exprs(by, options), *slice)?
            }
            NodeKind::Slice { offset, len } => sliced(one()?, Some((*offset, *len)))?,
            NodeKind::Union { slice, maintain_order } => {
                let args = UnionArgs {
                    to_supertypes: true,
                    rechunk: false,
                    maintain_order: *maintain_order,
                    ..UnionArgs::default()
                };
                sliced(concat(inputs, args).map_err(polars_error)?, *slice)?
            }
            NodeKind::Hconcat { options: (parallel, strict, broadcast_unit_length) } => {
                if scalars::beside(self.crossing, at).is_some() {
                    // Skip a single row without columns: there is nothing to join.
                    let columns = |at: &usize| !self.crossing.nodes[*at].schema.is_empty();
                    let mut inputs =
                        node.inputs.iter().zip(inputs).filter(|(at, _)| columns(at)).map(|(_, input)| input);
                    let first = inputs.next().ok_or_else(|| damaged("an HConcat of nothing"))?;
                    inputs.fold(first, |rows, scalar| rows.cross_join(scalar, None))
                } else {
                    let options = HConcatOptions {
                        parallel: *parallel,
                        strict: *strict,
                        broadcast_unit_length: *broadcast_unit_length,
                    };
                    concat_lf_horizontal(inputs, options).map_err(polars_error)?
                }
            }
            NodeKind::Distinct { keep, subset, maintain_order, slice } => {
                let keep = match keep.as_str() {
                    "any" => UniqueKeepStrategy::Any,
                    "first" => UniqueKeepStrategy::First,
                    "last" => UniqueKeepStrategy::Last,
                    "none" => UniqueKeepStrategy::None,
                    other => return Err(damaged(format!("unique rows that keep {other}"))),
                };
                let subset = subset.as_ref().map(|names| names.iter().map(|name| col(name.as_str())).collect());
                let input = one()?;
                let unique = if *maintain_order {
                    input.unique_stable_generic(subset, keep)
                } else {
                    input.unique_generic(subset, keep)
                };
                sliced(unique, *slice)?
            }
            NodeKind::Cache { id } => {
                let input = one()?;
                self.caches.entry(id.clone()).or_insert_with(|| input.cache()).clone()
            }
            NodeKind::Map { name, args } => map(one()?, name, args)?,
            NodeKind::Recursive => self.recursive(node, inputs)?,
            NodeKind::WorkingTable => self.working_table(at, node)?,
            NodeKind::MergeSorted { .. } => return Err(lacking("merge_sorted in a plan of this kind")),
            NodeKind::Unknown { name } => return Err(lacking(format!("the plan node {name}"))),
        })
    }

    /// The table that a frame stands for.
    fn table(&self, columns: &[String], dtypes: &[Value], height: usize) -> Option<LazyFrame> {
        let table = self.tables.get(height.checked_sub(FIRST_TABLE_ROWS)?)?;
        let same = table.columns.iter().map(|(name, dtype)| (name, dtype)).eq(columns.iter().zip(dtypes));
        same.then(|| table.frame.clone())
    }
}

pub fn names(node: &Node) -> Vec<Expr> {
    node.schema.iter().map(|(name, _)| col(name.as_str())).collect()
}

pub fn sliced(frame: LazyFrame, slice: Option<(i64, usize)>) -> Result<LazyFrame> {
    Ok(match slice {
        Some((offset, len)) => frame.slice(offset, IdxSize::try_from(len).unwrap_or(IdxSize::MAX)),
        None => frame,
    })
}

fn frame(columns: &[String], dtypes: &[Value], height: usize, nulls: bool, values: &[Vec<Value>]) -> Result<DataFrame> {
    if columns.len() != dtypes.len() || (height > 0 && !nulls && values.len() != columns.len()) {
        return Err(damaged("a frame whose columns do not fit"));
    }
    let mut made = Vec::with_capacity(columns.len());
    for (at, (name, data)) in columns.iter().zip(dtypes).enumerate() {
        let dtype = values::dtype(data)?;
        if nulls {
            made.push(Column::full_null(name.as_str().into(), height, &dtype));
            continue;
        }
        let rows = values.get(at).map_or(&[][..], Vec::as_slice);
        if rows.len() != height {
            return Err(damaged("a frame whose columns are not of one height"));
        }
        made.push(values::series(name, &dtype, rows)?.into_column());
    }
    DataFrame::new(height, made).map_err(polars_error)
}

fn map(input: LazyFrame, name: &str, args: &[Value]) -> Result<LazyFrame> {
    let texts = |at: usize| -> Result<Vec<PlSmallStr>> {
        let list = args.get(at).and_then(Value::as_array).ok_or_else(|| damaged(format!("{name} without columns")))?;
        list.iter()
            .map(|text| text.as_str().map(Into::into).ok_or_else(|| damaged("a column without a name")))
            .collect()
    };
    let selector = |at: usize| -> Result<Selector> { Ok(Selector::ByName { names: texts(at)?.into(), strict: true }) };
    let text = |at: usize| args.get(at).and_then(Value::as_str);
    let flag = |at: usize| args.get(at).and_then(Value::as_bool).unwrap_or(true);
    Ok(match name {
        "row_index" => {
            let offset = args.get(1).and_then(Value::as_u64).unwrap_or(0);
            input.with_row_index(text(0).ok_or_else(|| damaged("a row index without a name"))?, Some(offset as IdxSize))
        }
        "explode" => input.explode(selector(0)?, ExplodeOptions { empty_as_null: flag(1), keep_nulls: flag(2) }),
        "unnest" => input.unnest(selector(0)?, text(1).map(Into::into)),
        "unpivot" => input.unpivot(UnpivotArgsDSL {
            index: selector(0)?,
            on: Some(selector(1)?),
            variable_name: text(2).map(Into::into),
            value_name: text(3).map(Into::into),
        }),
        // Hints only: they do not change results.
        "rechunk" | "hint_sorted" => input,
        _ => return Err(lacking(format!("the plan node {name}"))),
    })
}
