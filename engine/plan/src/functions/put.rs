//! Puts callable functions into a decoded plan, where `carry` took them out.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use polars_core::prelude::*;
use polars_lazy::frame::LazyFrame;
use polars_plan::dsl::{DslPlan, Expr, LazySerde, OpaqueColumnUdf, RenameAliasFn, SpecialEq};
use polars_plan::prelude::{FunctionFlags, FunctionOptions, PlanCallback, all, as_struct, by_name, col};
use polars_utils::pl_str::PlSmallStr;

use super::call::{PythonFunction, SHOWN, Task, unbound_task};
use super::carry::Carried;
use super::groups::{self, OfGroups};
use super::payload::{Kind, Packed, Payload};
use super::{pool, sources};
use crate::inputs::inputs_mut;
use crate::own;
use floe_polars::polars_error;
use floe_wire::error::{QueryError, Result};

/// Column that holds a frame as a struct, as input of a function.
pub(super) const FRAME: &str = "__floe_frame";

/// Puts the functions back into a plan, and records the numbers of those that it placed.
pub fn put_in(plan: DslPlan, carried: &Carried, placed: &mut HashSet<usize>) -> Result<DslPlan> {
    let put = Put { carried, task: inspection_task(), placed: RefCell::default() };
    let plan = put.whole(plan)?;
    placed.extend(put.placed.into_inner());
    Ok(plan)
}

/// Refuses a document if some of its functions were placed in none of its plans.
pub fn check_placed(carried: &Carried, placed: &HashSet<usize>) -> Result<()> {
    if placed.len() >= carried.expressions {
        return Ok(());
    }
    Err(QueryError::user(
        "PythonInPlan",
        "the plan calls a Python function in a place where this engine calls none: in the keys of a partitioned sink, or in \
         a query inside an expression",
    ))
}

/// Calls a source's function for its schema.
pub fn schema_of(function: &Payload) -> Result<SchemaRef> {
    let task = inspection_task();
    let dtype = pool::call(function, function.key(), &[], None, &task);
    pool::release(&task.query);
    match dtype?.dtype() {
        DataType::Struct(fields) => Ok(Arc::new(fields.iter().cloned().collect())),
        _ => Err(QueryError::internal("a source's schema is no struct")),
    }
}

/// A task for calls while a plan is inspected, with its own children.
fn inspection_task() -> Task {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    Task { query: format!("plan-{}", NEXT.fetch_add(1, Ordering::Relaxed)).into(), ..unbound_task() }
}

struct Put<'c> {
    carried: &'c Carried,
    task: Task,
    /// Numbers of the functions placed so far.
    placed: RefCell<HashSet<usize>>,
}

impl Put<'_> {
    fn whole(&self, plan: DslPlan) -> Result<DslPlan> {
        let mut plan = match plan {
            DslPlan::Slice { input, offset, len } => match self.carried.of_slice(offset, len) {
                Some(payload) => return self.marked(Arc::unwrap_or_clone(input), payload),
                None => DslPlan::Slice { input, offset, len },
            },
            other => other,
        };
        for input in inputs_mut(&mut plan) {
            *input = self.whole(std::mem::take(input))?;
        }
        let calls = self.take_calls(&mut plan);
        for expr in expressions_of(&mut plan) {
            *expr = self.expression(std::mem::replace(expr, Expr::Len))?;
        }
        if calls.is_empty() { Ok(plan) } else { Ok(LazyFrame::from(plan).with_columns(calls).logical_plan) }
    }

    /// Replaces a group-by's function aggregations by lists, and returns the calls to make with the lists.
    fn take_calls(&self, plan: &mut DslPlan) -> Vec<Expr> {
        let mut calls = Vec::new();
        if groups::are_apart(plan)
            && let DslPlan::GroupBy { aggs, .. } = plan
        {
            for agg in aggs {
                let Some(OfGroups { name, lists, payload, number }) = groups::of_groups(agg) else { continue };
                self.placed.borrow_mut().extend(number);
                calls.push(self.call(col(name), &payload));
                *agg = lists;
            }
        }
        calls
    }

    /// Builds the plan behind a mark.
    fn marked(&self, input: DslPlan, payload: &Payload) -> Result<DslPlan> {
        let (input, frames) = match (payload.kind, input) {
            (Kind::Group, DslPlan::GroupBy { input, keys, predicates, maintain_order, options, .. }) => {
                let input = LazyFrame::from(self.whole(Arc::unwrap_or_clone(input))?);
                let keys = keys.into_iter().map(|key| self.expression(key)).collect::<Result<Vec<_>>>()?;
                let rows = input.with_columns([as_struct(vec![all().as_expr()]).alias(FRAME)]);
                let (input, aggs) = (Arc::new(rows.logical_plan), vec![col(FRAME)]);
                // Keep the options, which hold dynamic and rolling windows.
                let lists = DslPlan::GroupBy { input, keys, predicates, aggs, maintain_order, options, apply: None };
                let explode = ExplodeOptions { empty_as_null: false, keep_nulls: true };
                let payload = Payload { groups: Some(1), ..payload.clone() };
                (LazyFrame::from(lists), self.call(col(FRAME), &payload).explode(explode))
            }
            (Kind::Frame, input) => {
                let input = LazyFrame::from(self.whole(input)?);
                (input.select([as_struct(vec![all().as_expr()]).alias(FRAME)]), self.call(col(FRAME), payload))
            }
            (Kind::Source, _) => return sources::scan(payload, &self.task),
            _ => return Err(QueryError::internal("a mark of a function stands where it cannot")),
        };
        let unnested = input.select([frames]).unnest(by_name([FRAME], true, false), None);
        Ok(unnested.logical_plan)
    }

    fn call(&self, input: Expr, payload: &Payload) -> Expr {
        call(input, payload, &self.task)
    }

    fn expression(&self, expr: Expr) -> Result<Expr> {
        expr.try_map_expr(|expr| self.one(expr)).map_err(polars_error)
    }

    fn one(&self, expr: Expr) -> PolarsResult<Expr> {
        match expr {
            Expr::AnonymousFunction { input, function: LazySerde::Bytes(bytes), options, fmt_str } => {
                if let Some(function) = own::read(&bytes) {
                    return Ok(Expr::AnonymousFunction { input, function, options, fmt_str });
                }
                let Some(packed) = Packed::read(&bytes) else {
                    return Ok(Expr::AnonymousFunction { input, function: LazySerde::Bytes(bytes), options, fmt_str });
                };
                let Packed { mut payload, field, number } = packed?;
                self.placed.borrow_mut().extend(number);
                if payload.kind == Kind::Columns && !payload.scalar && options.is_elementwise() {
                    payload = Arc::new(Payload { by_rows: true, ..(*payload).clone() });
                }
                let fmt_str = Box::new(PlSmallStr::from_static(SHOWN));
                Ok(Expr::AnonymousFunction { input, function: function(payload, field, &self.task), options, fmt_str })
            }
            Expr::RenameAlias { function: RenameAliasFn::Prefix(prefix), expr } => {
                let function = match self.carried.of_prefix(&prefix) {
                    Some(payload) => self.renaming(payload.clone()),
                    None => RenameAliasFn::Prefix(prefix),
                };
                Ok(Expr::RenameAlias { function, expr })
            }
            other => Ok(other),
        }
    }

    fn renaming(&self, payload: Payload) -> RenameAliasFn {
        let (task, key) = (self.task.clone(), payload.key());
        let rename = move |name: PlSmallStr| {
            let names = Series::new("name".into(), [name.as_str()]);
            let renamed = pool::call(&payload, key, &[names], None, &task).map_err(|error| (task.keep)(error))?;
            let renamed = renamed.str()?.get(0).map(PlSmallStr::from_str);
            renamed.ok_or_else(|| polars_err!(ComputeError: "a function over column names gave no name"))
        };
        RenameAliasFn::Map(PlanCallback::Rust(SpecialEq::new(Arc::new(rename))))
    }
}

/// Builds a call of a function that gets one column, or a frame as a struct.
pub(super) fn call(input: Expr, payload: &Payload, task: &Task) -> Expr {
    let options = match payload.groups {
        Some(_) => FunctionOptions::elementwise(),
        None if payload.by_batches => FunctionOptions::row_separable(),
        None => FunctionOptions::default(),
    };
    Expr::AnonymousFunction {
        input: vec![input],
        function: function(payload.clone().into(), None, task),
        options: options.with_flags(|flags| flags | FunctionFlags::OPTIONAL_RE_ENTRANT),
        fmt_str: Box::new(PlSmallStr::from_static(SHOWN)),
    }
}

fn function(payload: Arc<Payload>, field: Option<Field>, task: &Task) -> OpaqueColumnUdf {
    LazySerde::Deserialized(SpecialEq::new(Arc::new(PythonFunction::new(payload, field, task.clone()))))
}

fn expressions_of(plan: &mut DslPlan) -> Vec<&mut Expr> {
    match plan {
        DslPlan::Filter { predicate, .. } => vec![predicate],
        DslPlan::Select { expr, .. } => expr.iter_mut().collect(),
        DslPlan::HStack { exprs, .. } => exprs.iter_mut().collect(),
        DslPlan::Sort { by_column, .. } => by_column.iter_mut().collect(),
        DslPlan::GroupBy { keys, predicates, aggs, .. } => keys.iter_mut().chain(predicates).chain(aggs).collect(),
        DslPlan::Join { left_on, right_on, predicates, .. } => {
            left_on.iter_mut().chain(right_on).chain(predicates).collect()
        }
        DslPlan::Pivot { agg, .. } => vec![agg],
        _ => Vec::new(),
    }
}
