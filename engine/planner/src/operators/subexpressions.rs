//! Subexpression extraction makes expressions row-wise: finds, innermost first, subexpressions that look at other rows
//! than their own, and computes each in a column of its own; what is left is row-wise over those columns.

use polars_core::prelude::*;
use polars_core::series::ops::NullBehavior;
use polars_plan::dsl::WindowMapping;
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::{
    AExpr, AExprBuilder, IRBooleanFunction, IRFunctionExpr, IRRangeFunction, ToFieldContext, is_length_preserving_ae,
    is_scalar_ae,
};
use polars_utils::arena::{Arena, Node};
use polars_utils::pl_str::PlSmallStr;

use crate::context::Cx;
use crate::operators::halo::{Reach, span};
use crate::properties::expr;
use crate::properties::rel::Rel;
use crate::properties::rounding;
use crate::properties::running::running;
use floe_wire::error::{QueryError, Result};

/// The most halo rows that a task may read on either side.
const MAX_HALO_ROWS: u64 = 1 << 20;

/// How a subexpression's column is computed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PartKind {
    /// `over` with keys, and functions that look for equal values: rows with equal keys are in one task.
    Window,
    /// One value of all rows.
    Scalar,
    /// From halo rows.
    Near(Reach),
    /// From what the rows above (or below) reduce to.
    Carried { from_below: bool },
    /// The number of the row.
    Number,
}

/// The relation that expressions are evaluated over.
struct Place {
    schema: SchemaRef,
    /// The node of the plan below them.
    input: Option<Node>,
}

struct Part {
    node: Node,
    /// The expression that the column is computed from, if not the node itself.
    value: Node,
    column: PlSmallStr,
    way: PartKind,
}

pub(crate) enum Extraction {
    /// The relation with more columns, and the expressions over them.
    Done(Rel, Vec<ExprIR>),
    /// The relation as it was, and why an expression needs all rows in one task.
    NeedsAllRows(Rel, String),
}

impl Cx<'_> {
    /// Makes the expressions of `node` row-wise.
    pub(crate) fn extract_subexpressions(&mut self, node: Node, mut rel: Rel, exprs: &[ExprIR]) -> Result<Extraction> {
        let schema = self.rel_schema(&rel);
        let mut exprs: Vec<ExprIR> = exprs.iter().map(|e| self.without_idle_windows(e)).collect();
        exprs.iter_mut().for_each(|e| *e = self.runs_as_sums(e, &schema));
        let (before, checkpoint) = (rel.clone(), self.checkpoint());
        while !exprs.iter().all(|e| expr::elementwise(e, &self.ex)) {
            let place = self.place(node, &rel);
            let mut parts = Vec::new();
            let mut unfit = None;
            for e in &exprs {
                if !self.find(e.node(), &place, &mut parts) {
                    unfit.get_or_insert_with(|| format!("{} needs all rows", crate::walk::show(e, &self.ex)));
                }
            }
            if rel.is_one() && parts.iter().any(|part| part.way != PartKind::Window) {
                unfit.get_or_insert_with(|| "its input is in one task already".into());
            }
            if let Some(why) = unfit {
                // The one task computes again the columns that were computed so far.
                self.undo_to(checkpoint);
                return Ok(Extraction::NeedsAllRows(before, why));
            }
            if parts.is_empty() {
                return Err(QueryError::internal("an expression is no longer what it was found to be"));
            }
            rel = self.compute(node, rel, &parts)?;
            exprs = self.over_columns(&exprs, &parts);
        }
        Ok(Extraction::Done(rel, exprs))
    }

    /// For aggregates of all rows: puts subexpressions of their inputs that look at several rows in columns of their
    /// own.
    pub(crate) fn extract_inputs(&mut self, node: Node, rel: Rel, exprs: &[ExprIR]) -> Result<Extraction> {
        let place = self.place(node, &rel);
        let mut parts = Vec::new();
        for e in exprs {
            if !self.find_below(e.node(), &place, &mut parts) {
                let why = format!("{} needs all rows", crate::walk::show(e, &self.ex));
                return Ok(Extraction::NeedsAllRows(rel, why));
            }
        }
        let rel = self.compute(node, rel, &parts)?;
        let exprs = self.over_columns(exprs, &parts);
        Ok(Extraction::Done(rel, exprs))
    }

    fn find_below(&mut self, node: Node, place: &Place, parts: &mut Vec<Part>) -> bool {
        if self.decomposes(node, &place.schema) {
            return true;
        }
        let mut inputs = Vec::new();
        self.ex.get(node).inputs_rev(&mut inputs);
        if expr::top_elementwise(node, &self.ex) {
            return inputs.iter().all(|input| self.find_below(*input, place, parts));
        }
        let found = parts.len();
        self.takes_rows(&inputs) && inputs.iter().all(|input| self.find(*input, place, parts)) && parts.len() > found
    }

    /// False if an input must be a single value: a column would repeat it for every row.
    fn takes_rows(&self, inputs: &[Node]) -> bool {
        inputs.iter().all(|input| expr::row_wise(*input, &self.ex) || !is_scalar_ae(*input, &self.ex))
    }

    fn place(&self, node: Node, rel: &Rel) -> Place {
        Place { schema: self.rel_schema(rel), input: self.ir.get(node).inputs().next() }
    }

    /// Finds the innermost subexpressions; false if one of them cannot be computed in parts.
    fn find(&mut self, node: Node, place: &Place, parts: &mut Vec<Part>) -> bool {
        if expr::row_wise(node, &self.ex) {
            return true;
        }
        let ae = self.ex.get(node).clone();
        if let AExpr::Over { function, partition_by, order_by, mapping } = &ae {
            let one_group =
                partition_by.iter().all(|key| !expr::has_column(*key, &self.ex) && expr::row_wise(*key, &self.ex));
            let plain = order_by.is_none() && matches!(mapping, WindowMapping::GroupsToRows);
            if one_group && plain && is_scalar_ae(*function, &self.ex) && expr::has_column(*function, &self.ex) {
                self.add_part(node, *function, PartKind::Scalar, parts);
                return true;
            }
            if !matches!(mapping, WindowMapping::GroupsToRows | WindowMapping::Join) {
                return false;
            }
            return if partition_by.iter().all(|key| expr::row_wise(*key, &self.ex)) {
                let parted = partition_by.iter().any(|key| expr::has_column(*key, &self.ex));
                if parted {
                    self.add_part(node, node, PartKind::Window, parts);
                }
                parted
            } else {
                partition_by.iter().all(|key| self.find(*key, place, parts))
            };
        }
        let mut inputs = Vec::new();
        ae.inputs_rev(&mut inputs);
        if is_scalar_ae(node, &self.ex) {
            let mut inner = Vec::new();
            let within = !self.decomposes(node, &place.schema)
                && self.takes_rows(&inputs)
                && inputs.iter().all(|input| self.find(*input, place, &mut inner))
                && !inner.is_empty();
            if within {
                inner.into_iter().for_each(|part| self.keep_part(part, parts));
            } else {
                self.add_part(node, node, PartKind::Scalar, parts);
            }
            return true;
        }
        let Some(way) = self.way(&ae, node, place) else {
            return expr::top_elementwise(node, &self.ex)
                && (self.takes_rows(&inputs) || !wants_values(&ae))
                && inputs.iter().all(|input| self.find(*input, place, parts));
        };
        let lone = matches!(ae, AExpr::Rolling { .. }) || way == PartKind::Number;
        if lone || inputs.iter().all(|input| expr::row_wise(*input, &self.ex)) {
            self.add_part(node, node, way, parts);
            return true;
        }
        self.takes_rows(&inputs) && inputs.iter().all(|input| self.find(*input, place, parts))
    }

    fn add_part(&mut self, node: Node, value: Node, way: PartKind, parts: &mut Vec<Part>) {
        let column = self.name("w");
        self.keep_part(Part { node, value, column, way }, parts);
    }

    fn keep_part(&self, part: Part, parts: &mut Vec<Part>) {
        if !parts.iter().any(|other| expr::same(other.node, part.node, &self.ex)) {
            parts.push(part);
        }
    }

    /// How to compute a function that looks at rows above and below in parts, if that is possible.
    fn way(&self, ae: &AExpr, node: Node, Place { schema, input: below }: &Place) -> Option<PartKind> {
        let near = |before: u64, after: u64| {
            (before.max(after) <= MAX_HALO_ROWS)
                .then_some(PartKind::Near(Reach::Rows { before: before as u32, after: after as u32 }))
        };
        let moved = |by: i64| near(by.max(0) as u64, by.min(0).unsigned_abs());
        let dtype = |of: Node| self.ex.get(of).to_dtype(&ToFieldContext::new(&self.ex, schema)).ok();
        let (input, function) = match ae {
            AExpr::Rolling { function, index_column, period, offset, .. } => {
                let AExpr::Column(column) = self.ex.get(*index_column) else { return None };
                let (before, after) = span(schema.get(column)?, offset, period)?;
                let reach = Reach::Key { column: column.clone(), before, after };
                // The function itself detects unsorted rows, since halo rows of earlier tasks are above its own.
                let exact = rounding::aggregates_exactly(*function, schema, &self.ex);
                return (exact && is_scalar_ae(*function, &self.ex)).then_some(PartKind::Near(reach));
            }
            AExpr::Function { input, function, .. } => (input, function),
            _ => return None,
        };
        let number = |i: usize| self.number(input.get(i)?.node());
        match function {
            IRFunctionExpr::Shift | IRFunctionExpr::ShiftAndFill => {
                let fill = input.get(2).is_none_or(|fill| !expr::has_column(fill.node(), &self.ex));
                moved(number(1)?).filter(|_| fill)
            }
            IRFunctionExpr::Diff(NullBehavior::Ignore) => moved(number(1)?),
            IRFunctionExpr::RollingExpr { function, options } => {
                let size = options.window_size as u64;
                let exact = rounding::rolls_exactly(function, options, &dtype(input.first()?.node())?);
                if options.center { near(size, size) } else { near(size, 0) }.filter(|_| exact)
            }
            // Rows in any other order would all have to be sorted first.
            IRFunctionExpr::RollingExprBy { function_by, options } => {
                if !rounding::rolls_exactly_by(function_by, options, &dtype(input.first()?.node())?) {
                    return None;
                }
                let column = self.same_column(input.get(1)?.node())?;
                let (before, after) = span(schema.get(&column)?, &-options.window_size, &options.window_size)?;
                self.rises((*below)?, &column).then_some(PartKind::Near(Reach::Key { column, before, after }))
            }
            IRFunctionExpr::Boolean(
                IRBooleanFunction::IsUnique
                | IRBooleanFunction::IsDuplicated
                | IRBooleanFunction::IsFirstDistinct
                | IRBooleanFunction::IsLastDistinct,
            ) => {
                let value = input.first()?.node();
                let by_hash = expr::has_column(value, &self.ex) && !expr::encodes_alike(&dtype(value)?);
                (by_hash && !self.pairs_rows()).then_some(PartKind::Window)
            }
            IRFunctionExpr::PeakMin | IRFunctionExpr::PeakMax => near(1, 1),
            IRFunctionExpr::FillNullWithStrategy(FillNullStrategy::Forward(Some(n))) => near(u64::from(*n), 0),
            IRFunctionExpr::FillNullWithStrategy(FillNullStrategy::Backward(Some(n))) => near(0, u64::from(*n)),
            IRFunctionExpr::Range(IRRangeFunction::IntRange { step: 1, dtype }) if dtype.is_integer() => {
                let mut end = input.get(1)?.node();
                while let AExpr::Cast { expr, .. } = self.ex.get(end) {
                    end = *expr;
                }
                (number(0)? == 0 && matches!(self.ex.get(end), AExpr::Len)).then_some(PartKind::Number)
            }
            function => {
                let running = running(function, &dtype(input.first()?.node())?, &dtype(node)?)?;
                Some(PartKind::Carried { from_below: running.from_below })
            }
        }
    }

    /// An integer literal of the plan.
    fn number(&self, node: Node) -> Option<i64> {
        match self.ex.get(node) {
            AExpr::Literal(value) => value.extract_i64().ok(),
            AExpr::Cast { expr, dtype, .. } if dtype.is_integer() => self.number(*expr),
            _ => None,
        }
    }

    fn compute(&mut self, node: Node, mut rel: Rel, parts: &[Part]) -> Result<Rel> {
        let of = |way: &PartKind| -> Vec<(Node, PlSmallStr)> {
            parts.iter().filter(|part| part.way == *way).map(|part| (part.value, part.column.clone())).collect()
        };
        let numbers = of(&PartKind::Number);
        if !numbers.is_empty() {
            rel = self.numbered(rel, &numbers)?;
        }
        for from_below in [false, true] {
            let carried = of(&PartKind::Carried { from_below });
            if !carried.is_empty() {
                rel = self.carried(rel, &carried, from_below)?;
            }
        }
        let mut reaches: Vec<Reach> = Vec::new();
        for part in parts {
            if let PartKind::Near(reach) = &part.way {
                match reaches.iter_mut().find_map(|other| other.joined(reach).map(|both| (other, both))) {
                    Some((other, both)) => *other = both,
                    None => reaches.push(reach.clone()),
                }
            }
        }
        for reach in reaches {
            let near = |part: &&Part| matches!(&part.way, PartKind::Near(other) if reach.joined(other).is_some());
            let near: Vec<_> = parts.iter().filter(near).map(|part| (part.node, part.column.clone())).collect();
            rel = self.near(rel, &near, &reach)?;
        }
        let scalars = of(&PartKind::Scalar);
        if !scalars.is_empty() {
            rel = self.with_scalars(rel, &scalars)?;
        }
        let windows = of(&PartKind::Window);
        if !windows.is_empty() {
            let ordered = self.order_out(node) || self.order_in(node, 0);
            rel = self.with_windows(rel, windows, ordered)?;
        }
        Ok(rel)
    }

    /// Puts the columns in place of the subexpressions.
    fn over_columns(&mut self, exprs: &[ExprIR], parts: &[Part]) -> Vec<ExprIR> {
        let over = |e: &ExprIR, arena: &mut _| {
            AExprBuilder::new_from_node(over_columns(e.node(), parts, arena)).expr_ir(e.output_name().clone())
        };
        exprs.iter().map(|e| over(e, &mut self.ex)).collect()
    }

    /// Replaces a window whose groups make no difference by its function: a row-wise one, or any over one group of all
    /// rows.
    fn without_idle_windows(&mut self, e: &ExprIR) -> ExprIR {
        let new = expr::rewrite(e.node(), &mut self.ex, &mut |at, arena: &mut _| {
            let AExpr::Over { function, partition_by, order_by: None, mapping: WindowMapping::GroupsToRows } =
                arena.get(at)
            else {
                return None;
            };
            if !partition_by.iter().all(|key| expr::row_wise(*key, arena)) || !expr::has_column(*function, arena) {
                return None;
            }
            let one_group = !partition_by.iter().any(|key| expr::has_column(*key, arena));
            let row_wise = expr::row_wise(*function, arena);
            (row_wise || one_group && is_length_preserving_ae(*function, arena)).then_some(*function)
        });
        AExprBuilder::new_from_node(new).expr_ir(e.output_name().clone())
    }

    /// Rewrites `rle_id` as a running sum, which tasks can continue.
    fn runs_as_sums(&mut self, e: &ExprIR, schema: &Schema) -> ExprIR {
        let new = expr::rewrite(e.node(), &mut self.ex, &mut |at, arena: &mut Arena<AExpr>| match arena.get(at) {
            AExpr::Over { .. } | AExpr::Rolling { .. } | AExpr::Eval { .. } => Some(at),
            AExpr::Function { input, function: IRFunctionExpr::RLEID, .. } => {
                let input = input.first()?.node();
                let dtype = arena.get(input).to_dtype(&ToFieldContext::new(arena, schema)).ok()?;
                let plain = dtype.is_primitive_numeric()
                    || dtype.is_temporal()
                    || matches!(dtype, DataType::String | DataType::Boolean | DataType::Binary);
                (plain && expr::row_wise(input, arena) && expr::has_column(input, arena)).then(|| run_of(input, arena))
            }
            _ => None,
        });
        AExprBuilder::new_from_node(new).expr_ir(e.output_name().clone())
    }
}

/// The number of the run that a row is in: the count of rows up to it that differ from the one above.
fn run_of(input: Node, arena: &mut Arena<AExpr>) -> Node {
    let value = AExprBuilder::new_from_node(input);
    let one = AExprBuilder::lit_scalar(Scalar::from(1i64), arena);
    let begins = value.not_eq_validity(value.shift(one, arena), arena);
    let zero = AExprBuilder::lit_scalar(Scalar::from(0i64), arena);
    let range = IRFunctionExpr::Range(IRRangeFunction::IntRange { step: 1, dtype: DataType::Int64 });
    let len = AExprBuilder::dataframe_length(arena).cast(DataType::Int64, arena);
    let ends = vec![zero.expr_ir("from"), len.expr_ir("to")];
    let first = AExprBuilder::function(ends, range, arena).eq(zero, arena);
    let no = AExprBuilder::lit_scalar(Scalar::from(false), arena);
    // Summed in 64 bits and cast back, so that too many runs fail by name.
    let begins = AExprBuilder::ternary(first, no, begins, arena).cast(DataType::UInt64, arena);
    let sum = IRFunctionExpr::CumSum { reverse: false };
    AExprBuilder::function(vec![begins.expr_ir("run")], sum, arena).cast(DataType::IDX_DTYPE, arena).node()
}

/// A row-wise function that takes, beside its input, single values for all rows.
fn wants_values(ae: &AExpr) -> bool {
    matches!(ae, AExpr::Function { function: IRFunctionExpr::Replace | IRFunctionExpr::ReplaceStrict { .. }, .. })
}

/// Puts columns in place of subexpressions, except within groups, where the same expression has another meaning.
fn over_columns(node: Node, parts: &[Part], arena: &mut Arena<AExpr>) -> Node {
    expr::rewrite(node, arena, &mut |at, arena: &mut Arena<AExpr>| {
        if let Some(part) = parts.iter().find(|part| expr::same(part.node, at, arena)) {
            return Some(AExprBuilder::col(part.column.clone(), arena).node());
        }
        match arena.get(at).clone() {
            AExpr::Over { function, partition_by, order_by, mapping } => {
                let keys: Vec<Node> = partition_by.iter().map(|key| over_columns(*key, parts, arena)).collect();
                let same = keys == partition_by;
                Some(if same { at } else { arena.add(AExpr::Over { function, partition_by: keys, order_by, mapping }) })
            }
            AExpr::Rolling { .. } => Some(at),
            _ => None,
        }
    })
}
