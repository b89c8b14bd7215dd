//! Rolling and dynamic group-bys. With keys: each key's rows in one task. Without: rolling windows read halo rows;
//! dynamic windows, whose bounds do not depend on the rows, are computed in parts and combined by their bounds.

use std::sync::Arc;

use polars_core::prelude::*;
use polars_plan::dsl::GroupbyOptions;
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::{
    AExpr, AExprBuilder, ArenaExprIter, FunctionIR, IR, IRAggExpr, RowEncodingVariant, is_scalar_ae,
};
use polars_plan::prelude::ProjectionOptions;
use polars_time::prelude::{ClosedWindow, StartBy};
use polars_time::{DynamicGroupOptions, LB_NAME, RollingGroupOptions, UB_NAME};
use polars_utils::arena::{Arena, Node};
use polars_utils::pl_str::PlSmallStr;

use crate::context::Cx;
use crate::operators::aggregate::{Setting, decompose};
use crate::operators::halo::{Reach, span};
use crate::properties::expr;
use crate::properties::rel::{Effect, Names, Rel};
use crate::properties::rounding::{aggregates_exactly, needs_windows};
use floe_wire::error::Result;

impl Cx<'_> {
    /// Windows within keys. Polars orders keys by their row encoding, and the windows within each key.
    pub(crate) fn windows_by_key(
        &mut self,
        rel: Rel,
        keys: Vec<ExprIR>,
        aggs: Vec<ExprIR>,
        options: Arc<GroupbyOptions>,
        ordered: bool,
    ) -> Result<Rel> {
        let (rel, names) = self.as_columns(rel, &keys);
        let schema = self.rel_schema(&rel);
        let dtypes: Vec<DataType> =
            names.iter().map(|name| schema.get(name).cloned().unwrap_or(DataType::Null)).collect();
        if ordered && dtypes.iter().any(|dtype| expr::portable_dtype(dtype) != *dtype) {
            let rel = self.gather(rel)?;
            let rel = self.put_group_by(rel, keys, aggs, options, true)?;
            self.single(rel.root(), "every process numbers categories for itself, and keys go by these numbers");
            return Ok(rel.scattered());
        }
        let mend = rel.is_tagged();
        let rel = self.hash(rel, &names, None, mend)?;
        let rel = self.sort_locally(rel, false);
        let rel = self.put_group_by(rel, keys.clone(), aggs, options, ordered)?;
        let rel = rel.scattered().in_any_order();
        if !ordered || rel.is_one() {
            return Ok(if ordered { rel.in_promised_order() } else { rel });
        }
        let columns: Vec<PlSmallStr> = self.rel_schema(&rel).iter_names().cloned().collect();
        let keys = keys.iter().map(|key| expr::col(key.output_name(), &mut self.ex)).collect();
        let encoded = AExprBuilder::row_encode(keys, dtypes, RowEncodingVariant::Unordered, &mut self.ex);
        let by = vec![encoded.cast(DataType::Binary, &mut self.ex).expr_ir("keys")];
        self.sort_by_ranges(rel, by, rising(), &columns)
    }

    /// Windows over all rows.
    pub(crate) fn windows_of_all(
        &mut self,
        input: Node,
        rel: Rel,
        aggs: Vec<ExprIR>,
        options: Arc<GroupbyOptions>,
        ordered: bool,
    ) -> Result<Rel> {
        let schema = self.rel_schema(&rel);
        let exact = aggs.iter().all(|agg| aggregates_exactly(agg.node(), &schema, &self.ex));
        let why = match (&options.rolling, &options.dynamic) {
            _ if rel.is_one() => "its input is in one task already",
            // The engine reads the index even then, and refuses nulls in it.
            _ if aggs.is_empty() => "windows without aggregates",
            (Some(rolling), _) => {
                let reach = schema.get(&rolling.index_column).and_then(|d| span(d, &rolling.offset, &rolling.period));
                match reach {
                    _ if !exact => ROUNDED,
                    Some((before, after)) if aggs.iter().all(|agg| is_scalar_ae(agg.node(), &self.ex)) => {
                        let reach = Reach::Key { column: rolling.index_column.clone(), before, after };
                        return self.rolling(rel, aggs, rolling, reach);
                    }
                    _ => "rolling windows over an index of this type",
                }
            }
            (_, Some(dynamic)) if !exact && !apart(dynamic) => ROUNDED,
            (_, Some(_)) if aggs.iter().any(|agg| needs_windows(agg.node(), &schema, &self.ex)) => {
                "groups by key compute such an aggregate differently"
            }
            (_, Some(dynamic)) if even_bounds(dynamic, schema.get(&dynamic.index_column)) => {
                return self.dynamic(input, rel, aggs, dynamic, ordered);
            }
            _ => "windows of uneven length",
        };
        let rel = self.gather(rel)?;
        let rel = self.put_group_by(rel, Vec::new(), aggs, options, true)?;
        self.single(rel.root(), why);
        Ok(rel.scattered())
    }

    /// Rolling windows: each row's window may hold rows of other tasks.
    fn rolling(&mut self, rel: Rel, aggs: Vec<ExprIR>, options: &RollingGroupOptions, reach: Reach) -> Result<Rel> {
        let mut parts = Vec::new();
        let mut out = vec![expr::col(&options.index_column, &mut self.ex)];
        for agg in aggs {
            let index_column = AExprBuilder::col(options.index_column.clone(), &mut self.ex).node();
            let rolling = AExpr::Rolling {
                function: agg.node(),
                index_column,
                period: options.period,
                offset: options.offset,
                closed_window: options.closed_window,
            };
            let column = self.name("w");
            parts.push((self.ex.add(rolling), column.clone()));
            out.push(AExprBuilder::col(column, &mut self.ex).expr_ir(agg.output_name().clone()));
        }
        let rel = self.near(rel, &parts, &reach)?;
        let effect = Effect::RowByRow(Names::Only(std::slice::from_ref(&options.index_column)));
        Ok(self.put(rel, effect, |cx, root| {
            let out = out.clone();
            cx.build(root, |b| b.project(out, ProjectionOptions::default()))
        }))
    }

    /// Each task groups its own rows; windows that span tasks are combined by their lower bound.
    fn dynamic(
        &mut self,
        input: Node,
        rel: Rel,
        aggs: Vec<ExprIR>,
        options: &DynamicGroupOptions,
        ordered: bool,
    ) -> Result<Rel> {
        let index = options.index_column.clone();
        let dtype = self.rel_schema(&rel).get(&index).cloned();
        let in_order = self.rises(input, &index);
        let (rel, own) = if in_order && bounds_by_row(options, dtype.as_ref()) {
            (self.in_order(rel)?, None)
        } else {
            let (rel, own) = self.after_first(rel)?;
            (if in_order { rel } else { self.checked_to_rise(rel, &index) }, Some(own))
        };
        let schema = self.rel_schema(&rel);
        let bounded = GroupbyOptions {
            dynamic: Some(DynamicGroupOptions { include_boundaries: true, ..options.clone() }),
            ..GroupbyOptions::default()
        };
        let mut counter = 0;
        let prefix = self.name("a");
        let mut name = || {
            counter += 1;
            PlSmallStr::from_string(format!("{prefix}_{counter}"))
        };
        let setting = Setting::Groups { ordered: true };
        let (rel, mut combine, finish) = match decompose(&aggs, &schema, setting, &mut self.ex, &mut name) {
            Ok(parts) => {
                let partial = self.of_own(parts.partial, own.as_ref());
                let rel = self.put_group_by(rel, Vec::new(), partial, Arc::new(bounded), true)?;
                let rel = self.in_part(rel);
                (self.with_own(rel, own.as_ref()).scaled(0.3), parts.combine, parts.finish)
            }
            Err(_) => {
                let (rel, aggs) = self.rows_by_window(rel, aggs, &index, bounded, own.as_ref())?;
                let finish = aggs.iter().map(|agg| expr::col(agg.output_name(), &mut self.ex)).collect();
                (rel, aggs, finish)
            }
        };
        let (lower, upper) = (PlSmallStr::from_static(LB_NAME), PlSmallStr::from_static(UB_NAME));
        let rel = self.hash(rel.scattered(), std::slice::from_ref(&lower), None, false)?;
        // A window's index is the least of its parts': where it is the index of the first row, later parts have later
        // ones.
        for column in [&upper, &index] {
            let least = AExprBuilder::col(column.clone(), &mut self.ex).min(&mut self.ex);
            combine.push(least.expr_ir(column.clone()));
        }
        let by = vec![expr::col(&lower, &mut self.ex)];
        let rel = self.put_group_by(rel, by.clone(), combine, Arc::default(), false)?;
        let mut out: Vec<ExprIR> = [&lower, &upper, &index].map(|name| expr::col(name, &mut self.ex)).into();
        let names: Vec<PlSmallStr> = out.iter().chain(&finish).map(|e| e.output_name().clone()).collect();
        out.extend(finish);
        let effect = Effect::RowByRow(Names::Only(std::slice::from_ref(&lower)));
        let rel = self.put(rel, effect, |cx, root| {
            let out = out.clone();
            cx.build(root, |b| b.project(out, ProjectionOptions::default()))
        });
        let rel = rel.scattered().in_any_order();
        if !ordered {
            return Ok(rel);
        }
        // Window bounds of dates are datetimes, whatever the schema says.
        let by = match dtype {
            Some(DataType::Date) => {
                let moment = DataType::Datetime(TimeUnit::Microseconds, None);
                vec![AExprBuilder::col(lower.clone(), &mut self.ex).cast(moment, &mut self.ex).expr_ir(lower)]
            }
            _ => by,
        };
        self.sort_by_ranges(rel, by, rising(), &names)
    }

    /// Restricts aggregates to a task's own rows, and adds whether a window has any.
    fn of_own(&mut self, aggs: Vec<ExprIR>, own: Option<&PlSmallStr>) -> Vec<ExprIR> {
        let Some(own) = own else { return aggs };
        let arena = &mut self.ex;
        let by = AExprBuilder::col(own.clone(), arena);
        let mut out = Vec::with_capacity(aggs.len() + 1);
        for agg in aggs {
            let new = expr::rewrite(agg.node(), arena, &mut |at, arena: &mut Arena<AExpr>| match arena.get(at) {
                AExpr::Column(_) => Some(AExprBuilder::new_from_node(at).filter(by, arena).node()),
                AExpr::Len => Some(by.filter(by, arena).count_opt_nulls(true, arena).node()),
                _ => None,
            });
            out.push(AExprBuilder::new_from_node(new).expr_ir(agg.output_name().clone()));
        }
        out.push(by.any(true, arena).expr_ir(own.clone()));
        out
    }

    /// Keeps the windows that have rows of the task's own.
    fn with_own(&mut self, rel: Rel, own: Option<&PlSmallStr>) -> Rel {
        let Some(own) = own else { return rel };
        let predicate = expr::col(own, &mut self.ex);
        let rel = self.filter(rel, predicate);
        let names: Vec<PlSmallStr> = self.rel_schema(&rel).iter_names().filter(|name| *name != own).cloned().collect();
        self.project(rel, &names)
    }

    /// The rows that the aggregates read, repeated for every window that they are in.
    fn rows_by_window(
        &mut self,
        rel: Rel,
        aggs: Vec<ExprIR>,
        index: &PlSmallStr,
        bounded: GroupbyOptions,
        own: Option<&PlSmallStr>,
    ) -> Result<(Rel, Vec<ExprIR>)> {
        let mut columns: Vec<(PlSmallStr, PlSmallStr)> = Vec::new();
        for agg in &aggs {
            let used: Vec<PlSmallStr> = self
                .ex
                .iter(agg.node())
                .filter_map(|(_, ae)| match ae {
                    AExpr::Column(name) => Some(name.clone()),
                    _ => None,
                })
                .collect();
            for name in used {
                if !columns.iter().any(|(other, _)| *other == name) {
                    let hidden = self.name("v");
                    columns.push((name, hidden));
                }
            }
        }
        if columns.is_empty() {
            // Aggregates without columns still count the rows.
            columns.push((index.clone(), self.name("v")));
        }
        let mut lists = Vec::new();
        for (name, hidden) in &columns {
            let input = AExprBuilder::col(name.clone(), &mut self.ex).node();
            let list = AExprBuilder::agg(IRAggExpr::Implode { input, maintain_order: true }, &mut self.ex);
            lists.push(list.expr_ir(hidden.clone()));
        }
        let lists = self.of_own(lists, own);
        let rel = self.put_group_by(rel, Vec::new(), lists, Arc::new(bounded), true)?;
        let rel = self.in_part(rel);
        let rel = self.with_own(rel, own);
        let exploded: Arc<[PlSmallStr]> = columns.iter().map(|(_, hidden)| hidden.clone()).collect();
        let exploded_from = Names::Except(&exploded);
        let rel = self.put(rel, Effect::RowByRow(exploded_from), |cx, root| {
            let options = ExplodeOptions { empty_as_null: false, keep_nulls: true };
            let function = FunctionIR::Explode { columns: exploded.clone(), options, schema: Default::default() };
            cx.ir.add(IR::MapFunction { input: root, function })
        });
        let mut renamed = Vec::with_capacity(aggs.len());
        for agg in aggs {
            let new = expr::rewrite(agg.node(), &mut self.ex, &mut |at, arena: &mut _| {
                let AExpr::Column(name) = arena.get(at) else { return None };
                let (_, hidden) = columns.iter().find(|(other, _)| other == name)?.clone();
                Some(AExprBuilder::col(hidden, arena).node())
            });
            renamed.push(AExprBuilder::new_from_node(new).expr_ir(agg.output_name().clone()));
        }
        Ok((rel, renamed))
    }
}

/// Why overlapping windows are not split over tasks.
const ROUNDED: &str = "sums of floats over windows that overlap carry their rounding from window to window";

fn rising() -> SortMultipleOptions {
    SortMultipleOptions::default().with_order_descending_multi([false]).with_nulls_last_multi([false])
}

/// Whether windows that begin at the same row have the same bounds, however many rows follow: advancing by several
/// windows at once must give the same as advancing one by one.
fn even_bounds(options: &DynamicGroupOptions, dtype: Option<&DataType>) -> bool {
    let zoned = match dtype {
        Some(DataType::Datetime(_, zone)) => by_the_clock(zone.as_ref()),
        Some(DataType::Date | DataType::Int32 | DataType::Int64) => false,
        _ => return false,
    };
    let (every, offset) = (&options.every, &options.offset);
    // Days keep the time of day when the clock changes, hours do not.
    let mixed = (every.days() != 0 || every.weeks() != 0) && every.nanoseconds() != 0;
    // If one window begins with a month, all later ones do.
    let months =
        every.months_only() && (offset.is_zero() || offset.months_only()) && options.start_by == StartBy::WindowBound;
    (every.is_constant_duration(None) && !(zoned && mixed) || months) && !every.is_zero()
}

/// Whether days of this zone can have other than 24 hours.
fn by_the_clock(zone: Option<&TimeZone>) -> bool {
    zone.is_some_and(|zone| *zone != TimeZone::UTC)
}

/// Whether each row alone determines the bounds of its window, wherever the first window begins.
fn bounds_by_row(options: &DynamicGroupOptions, dtype: Option<&DataType>) -> bool {
    if let Some(DataType::Datetime(_, zone)) = dtype
        && by_the_clock(zone.as_ref())
    {
        return false;
    }
    apart(options) && options.start_by == StartBy::WindowBound && options.closed_window != ClosedWindow::Both
}

/// Whether windows overlap at most in the rows at their bounds.
fn apart(options: &DynamicGroupOptions) -> bool {
    let (every, period) = (&options.every, &options.period);
    every == period
        || every.is_constant_duration(None)
            && period.is_constant_duration(None)
            && period.duration_ns() <= every.duration_ns()
}
