//! Computes columns that depend on rows of other tasks: on halo rows (shifts, differences, rolling windows), on what
//! the rows above or below reduce to (running sums, fills), or on the number of rows above. The rows are written once,
//! in order; each task then reads its own, and of the tasks before and after it their last or first rows, or one row
//! each.

use polars_core::prelude::*;
use polars_plan::dsl::{Operator, UnionOptions};
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::{AExpr, AExprBuilder, IR, IRAggExpr, IRFunctionExpr, ToFieldContext};
use polars_plan::prelude::ProjectionOptions;
use polars_time::prelude::Duration;
use polars_utils::arena::Node;
use polars_utils::pl_str::PlSmallStr;

use crate::context::Cx;
use crate::properties::rel::{Effect, Names, Rel};
use crate::properties::running::{Running, Taken, running};
use floe_wire::error::{QueryError, Result};
use floe_wire::graph::{Exchange, Read};

const DAY_NS: i128 = 86_400_000_000_000;

/// How far above and below its own rows a task reads.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reach {
    Rows {
        before: u32,
        after: u32,
    },
    /// Rows sorted by `column`: reads this far below the task's least and above its greatest value.
    Key {
        column: PlSmallStr,
        before: i128,
        after: i128,
    },
}

impl Reach {
    /// The reach that covers both, if a single one can.
    pub(crate) fn joined(&self, other: &Reach) -> Option<Reach> {
        match (self, other) {
            (Reach::Rows { before, after }, Reach::Rows { before: b, after: a }) => {
                Some(Reach::Rows { before: *before.max(b), after: *after.max(a) })
            }
            (Reach::Key { column, before, after }, Reach::Key { column: c, before: b, after: a }) if column == c => {
                Some(Reach::Key { column: column.clone(), before: *before.max(b), after: *after.max(a) })
            }
            _ => None,
        }
    }

    fn empty(&self, above: bool) -> bool {
        match self {
            Reach::Rows { before, after } => (if above { *before } else { *after }) == 0,
            Reach::Key { .. } => false,
        }
    }
}

/// An upper bound of how far windows of this offset and period reach, in units of the column. None: unknown for its
/// type.
pub(crate) fn span(dtype: &DataType, offset: &Duration, period: &Duration) -> Option<(i128, i128)> {
    let unit: i128 = match dtype {
        DataType::Int32 | DataType::Int64 | DataType::UInt32 | DataType::UInt64 => 1,
        DataType::Datetime(TimeUnit::Nanoseconds, _) => 1,
        DataType::Datetime(TimeUnit::Microseconds, _) => 1_000,
        DataType::Datetime(TimeUnit::Milliseconds, _) => 1_000_000,
        DataType::Date => DAY_NS,
        _ => return None,
    };
    let (back, on) = (longest(offset), longest(period));
    let (before, after) = if offset.negative() { (back, (on - shortest(offset)).max(0)) } else { (0, back + on) };
    Some((before / unit + 1, after / unit + 1))
}

/// An upper bound in nanoseconds: months count 31 days, and three days are added for the effects of calendar and time
/// zone.
fn longest(duration: &Duration) -> i128 {
    let days = 31 * i128::from(duration.months().abs())
        + 7 * i128::from(duration.weeks().abs())
        + i128::from(duration.days().abs());
    i128::from(duration.nanoseconds().abs()) + days * DAY_NS + if days > 0 { 3 * DAY_NS } else { 0 }
}

fn shortest(duration: &Duration) -> i128 {
    let days = 28 * i128::from(duration.months().abs())
        + 7 * i128::from(duration.weeks().abs())
        + i128::from(duration.days().abs());
    i128::from(duration.nanoseconds().abs()) + (days * DAY_NS - if days > 0 { 3 * DAY_NS } else { 0 }).max(0)
}

impl Cx<'_> {
    /// Puts rows in order, task by task, and keeps them so that they can be read more than once.
    pub(crate) fn lined_up(&mut self, rel: Rel) -> Result<Rel> {
        let rel = self.in_order(rel)?;
        // Where no order is promised, any will do: keep the present one from now on.
        Ok(self.keep(rel)?.scattered().settled())
    }

    pub(crate) fn near(&mut self, rel: Rel, parts: &[(Node, PlSmallStr)], reach: &Reach) -> Result<Rel> {
        let rows = self.lined_up(rel)?;
        let above = if reach.empty(true) { None } else { Some(self.ends(&rows, reach, true)?) };
        let below = if reach.empty(false) { None } else { Some(self.ends(&rows, reach, false)?) };
        let columns: Vec<ExprIR> =
            parts.iter().map(|(node, name)| AExprBuilder::new_from_node(*node).expr_ir(name.clone())).collect();
        let mut names: Vec<PlSmallStr> = self.rel_schema(&rows).iter_names().cloned().collect();
        names.extend(parts.iter().map(|(_, name)| name.clone()));
        self.among(rows, above, below, names, |cx, root| {
            cx.build(root, |b| b.with_columns(columns, ProjectionOptions::default()))
        })
    }

    /// Applies `make` to a task's own rows with halo rows above and below; keeps its own rows of the result, as
    /// `names`.
    pub(crate) fn among(
        &mut self,
        rows: Rel,
        above: Option<Node>,
        below: Option<Node>,
        names: Vec<PlSmallStr>,
        make: impl FnOnce(&mut Self, Node) -> Node,
    ) -> Result<Rel> {
        let (all, own) =
            self.marked(&rows, &above.into_iter().collect::<Vec<_>>(), &below.into_iter().collect::<Vec<_>>())?;
        let root = make(self, all);
        let predicate = AExprBuilder::col(own, &mut self.ex).expr_ir("own");
        let root = self.ir.add(IR::Filter { input: root, predicate });
        let rel = self.put(rows, Effect::WithinTaskInOrder(Names::Same), |_, _| root);
        Ok(self.project(rel, &names))
    }

    /// A task's own rows between halo rows, and the column that marks its own.
    fn marked(&mut self, rows: &Rel, above: &[Node], below: &[Node]) -> Result<(Node, PlSmallStr)> {
        let [branch] = rows.branches() else {
            return Err(QueryError::internal("a relation that was kept has several branches"));
        };
        let own = self.name("own");
        let others = |root: &Node| (*root, false);
        let roots = above.iter().map(others).chain([(branch.root(), true)]).chain(below.iter().map(others));
        let mut inputs = Vec::new();
        for (root, mine) in roots.collect::<Vec<_>>() {
            let flag = AExprBuilder::lit_scalar(Scalar::from(mine), &mut self.ex).expr_ir(own.clone());
            inputs.push(self.build(root, |b| b.with_columns(vec![flag], ProjectionOptions::default())));
        }
        let options = UnionOptions { maintain_order: true, ..UnionOptions::default() };
        let all = if let [one] = inputs[..] { one } else { self.ir.add(IR::Union { inputs, options }) };
        Ok((all, own))
    }

    /// Puts the first row of all and the last of every earlier task above a task's own, which a column marks: windows
    /// then begin where they do for all rows, and rows that do not rise are detected.
    pub(crate) fn after_first(&mut self, rel: Rel) -> Result<(Rel, PlSmallStr)> {
        let rows = self.lined_up(rel)?;
        let firsts = self.edges(&rows, false)?;
        let first = self.edge(firsts, 1, false);
        let lasts = self.edges(&rows, true)?;
        let (root, own) = self.marked(&rows, &[first, lasts], &[])?;
        Ok((self.put(rows, Effect::WithinTaskInOrder(Names::Same), |_, _| root), own))
    }

    /// The halo rows of one side: the last rows of the tasks before, or the first rows of those after.
    fn ends(&mut self, rows: &Rel, reach: &Reach, above: bool) -> Result<Node> {
        let again = self.reread(rows);
        let again = self.put(again, Effect::WithinTaskInOrder(Names::Same), |cx, root| match reach {
            Reach::Rows { before, after } => cx.edge(root, if above { *before } else { *after }, above),
            Reach::Key { column, before, after } => {
                cx.edge_by(root, column, if above { *before } else { *after }, above)
            }
        });
        let schema = self.rel_schema(&again);
        let stages = self.close(&again, Exchange::Whole, None)?;
        let leaf = self.exchange_leaf(schema, stages, if above { Read::Before } else { Read::After });
        Ok(match reach {
            // Of all tasks' last (or first) rows, keep those next to the task's own.
            Reach::Rows { before, after } => self.edge(leaf, if above { *before } else { *after }, above),
            Reach::Key { .. } => leaf,
        })
    }

    /// The last (or first) row of every earlier task.
    pub(crate) fn edges(&mut self, rows: &Rel, last: bool) -> Result<Node> {
        let again = self.reread(rows);
        let again = self.put(again, Effect::WithinTaskInOrder(Names::Same), |cx, root| cx.edge(root, 1, last));
        let schema = self.rel_schema(&again);
        let stages = self.close(&again, Exchange::Whole, None)?;
        Ok(self.exchange_leaf(schema, stages, Read::Before))
    }

    fn edge(&mut self, root: Node, rows: u32, last: bool) -> Node {
        let offset = if last { -i64::from(rows) } else { 0 };
        self.ir.add(IR::Slice { input: root, offset, len: rows })
    }

    /// Keeps the rows within `reach` of the last (or first) one, which windows in later (or earlier) tasks can hold.
    fn edge_by(&mut self, root: Node, column: &PlSmallStr, reach: i128, last: bool) -> Node {
        let arena = &mut self.ex;
        // 128 bits hold any sum.
        let value = AExprBuilder::col(column.clone(), arena).to_physical(arena).cast(DataType::Int128, arena);
        let reach = AExprBuilder::lit_scalar(Scalar::from(reach), arena);
        let near = if last {
            let bound = value.max(arena).minus(reach, arena);
            value.binary_op(bound, Operator::GtEq, arena)
        } else {
            let bound = value.min(arena).plus(reach, arena);
            value.binary_op(bound, Operator::LtEq, arena)
        };
        self.ir.add(IR::Filter { input: root, predicate: near.expr_ir("near") })
    }

    /// Running functions over all rows above (or below): each task reads one row from every other, the final state of
    /// its rows.
    pub(crate) fn carried(&mut self, rel: Rel, parts: &[(Node, PlSmallStr)], from_below: bool) -> Result<Rel> {
        let schema = self.rel_schema(&rel);
        let mut names: Vec<PlSmallStr> = {
            let tags = rel.tags();
            schema.iter_names().filter(|name| !tags.contains(name)).cloned().collect()
        };
        names.extend(parts.iter().map(|(_, name)| name.clone()));
        let (mut inputs, mut states, mut columns) = (Vec::new(), Vec::new(), Vec::new());
        for (node, name) in parts {
            let column = self.name("c");
            let (input, state, function) = self.carry(*node, &column, &schema)?;
            inputs.push(AExprBuilder::new_from_node(input).expr_ir(column.clone()));
            states.push(AExprBuilder::new_from_node(state).expr_ir(column));
            columns.push(AExprBuilder::new_from_node(function).expr_ir(name.clone()));
        }
        let rel = self.with_columns(rel, inputs);
        let rows = self.lined_up(rel)?;
        let again = self.reread(&rows);
        let again = self.put(again, Effect::WithinTaskInOrder(Names::Only(&[])), |cx, root| {
            let states = states.clone();
            cx.build(root, |b| b.project(states, ProjectionOptions::default()))
        });
        let state_schema = self.rel_schema(&again);
        let stages = self.close(&again, Exchange::Whole, None)?;
        let leaf =
            self.exchange_leaf(state_schema.clone(), stages, if from_below { Read::After } else { Read::Before });
        let mut like_rows = Vec::new();
        for (name, dtype) in self.rel_schema(&rows).iter() {
            let value = if state_schema.contains(name) {
                AExprBuilder::col(name.clone(), &mut self.ex)
            } else {
                AExprBuilder::lit_scalar(Scalar::null(dtype.clone()), &mut self.ex)
            };
            like_rows.push(value.expr_ir(name.clone()));
        }
        let others = self.build(leaf, |b| b.project(like_rows, ProjectionOptions::default()));
        let (above, below) = if from_below { (None, Some(others)) } else { (Some(others), None) };
        self.among(rows, above, below, names, |cx, root| {
            cx.build(root, |b| b.with_columns(columns, ProjectionOptions::default()))
        })
    }

    /// The values that the function reads, the state that a task's rows reduce to, and the function over `column`.
    fn carry(&mut self, node: Node, column: &PlSmallStr, schema: &Schema) -> Result<(Node, Node, Node)> {
        let AExpr::Function { input, function, .. } = self.ex.get(node).clone() else {
            return Err(QueryError::internal("only functions are carried on"));
        };
        let input = AExprBuilder::new_from_node(input[0].node());
        let (of, output) = (self.dtype_in(input.node(), schema)?, self.dtype_in(node, schema)?);
        let Some(Running { taken, from_below }) = running(&function, &of, &output) else {
            return Err(QueryError::internal("a function that cannot be carried on"));
        };
        let arena = &mut self.ex;
        let (value, function, wide) = match taken {
            Taken::Values => (input, function, false),
            Taken::As(dtype) => (input.cast(dtype, arena), function, false),
            Taken::Counted => {
                let sum = IRFunctionExpr::CumSum { reverse: from_below };
                (input.is_not_null(arena).cast(DataType::UInt64, arena), sum, true)
            }
        };
        let over = vec![AExprBuilder::col(column.clone(), arena).expr_ir(column.clone())];
        let function = AExprBuilder::function(over, function, arena);
        // The state is the function's own result at the far end of the task's rows: the same type, the same overflow.
        let end = if from_below { IRAggExpr::FirstNonNull } else { IRAggExpr::LastNonNull };
        let state = AExprBuilder::agg(end(function.node()), arena);
        let function = if wide { function.cast(output, arena) } else { function };
        Ok((value.node(), state.node(), function.node()))
    }

    fn dtype_in(&self, node: Node, schema: &Schema) -> Result<DataType> {
        self.ex.get(node).to_dtype(&ToFieldContext::new(&self.ex, schema)).map_err(floe_polars::polars_error)
    }

    /// Numbers the rows, continuing the count of the tasks before.
    pub(crate) fn numbered(&mut self, rel: Rel, parts: &[(Node, PlSmallStr)]) -> Result<Rel> {
        let rows = self.lined_up(rel)?;
        let schema = self.rel_schema(&rows);
        let index = self.name("row");
        let effect = Effect::WithinTaskInOrder(Names::Same);
        let rel = self.put(rows, effect, |cx, root| cx.build(root, |b| b.row_index(index.clone(), None)));
        let mut names: Vec<PlSmallStr> = schema.iter_names().cloned().collect();
        let mut columns = Vec::new();
        for (node, name) in parts {
            let dtype = self.dtype_in(*node, &schema)?;
            let number = AExprBuilder::col(index.clone(), &mut self.ex).cast(dtype, &mut self.ex);
            columns.push(number.expr_ir(name.clone()));
            names.push(name.clone());
        }
        let rel = self.with_columns(rel, columns);
        Ok(self.project(rel, &names))
    }
}
