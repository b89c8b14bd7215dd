//! Decomposes aggregates: what each part of the rows computes (`partial`), how parts combine (`combine`), and the
//! expression over the combined values that gives the result (`finish`). An aggregate not known to decompose is refused
//! as a whole; the caller then exchanges rows instead.

use polars_core::prelude::*;
use polars_plan::plans::expr_ir::{ExprIR, OutputName};
use polars_plan::plans::{
    AExpr, AExprBuilder, IRAggExpr, IRBooleanFunction, IRFunctionExpr, ToFieldContext, is_elementwise_rec,
};
use polars_utils::arena::{Arena, Node};
use polars_utils::pl_str::PlSmallStr;

use crate::properties::expr;

/// Where aggregates are decomposed, which decides the result of an empty part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Groups: a part has rows only for the groups that occur in it. `ordered`: rows come in the promised order.
    Groups { ordered: bool },
    /// Whole columns: a part without rows still gives one row.
    Columns,
}

#[derive(Default)]
pub struct Decomposed {
    pub partial: Vec<ExprIR>,
    pub combine: Vec<ExprIR>,
    pub finish: Vec<ExprIR>,
}

impl Decomposed {
    pub fn add(&mut self, other: Decomposed) {
        self.partial.extend(other.partial);
        self.combine.extend(other.combine);
        self.finish.extend(other.finish);
    }
}

/// Decomposes all `aggs`, or says which one cannot be decomposed and why.
pub fn decompose(
    aggs: &[ExprIR],
    schema: &Schema,
    setting: Setting,
    arena: &mut Arena<AExpr>,
    name: &mut dyn FnMut() -> PlSmallStr,
) -> Result<Decomposed, String> {
    let mut out = Decomposed::default();
    for agg in aggs {
        let mut parts = Parts { out: &mut out, schema, setting, name };
        let finished = parts.node(agg.node(), arena).map_err(|why| {
            let shown = crate::walk::show(agg, arena);
            format!("{shown}: {why}")
        })?;
        out.finish.push(ExprIR::new(finished, OutputName::Alias(agg.output_name().clone())));
    }
    Ok(out)
}

struct Parts<'a> {
    out: &'a mut Decomposed,
    schema: &'a Schema,
    setting: Setting,
    name: &'a mut dyn FnMut() -> PlSmallStr,
}

impl Parts<'_> {
    /// The expression over combined values that replaces `node`.
    fn node(&mut self, node: Node, arena: &mut Arena<AExpr>) -> Result<Node, String> {
        match arena.get(node).clone() {
            AExpr::Agg(agg) => self.agg(node, agg, arena),
            AExpr::Len => {
                let counts = self.part(arena.add(AExpr::Len), Combine::SumWide, arena);
                Ok(AExprBuilder::new_from_node(counts).cast(DataType::IDX_DTYPE, arena).node())
            }
            AExpr::Function { ref input, function: IRFunctionExpr::Boolean(ref f), .. }
                if matches!(f, IRBooleanFunction::Any { .. } | IRBooleanFunction::All { .. }) && input.len() == 1 =>
            {
                self.input(input[0].node(), arena)?;
                Ok(self.part(node, Combine::Function(f.clone()), arena))
            }
            AExpr::Function { ref input, function: IRFunctionExpr::Boolean(ref f), .. }
                if matches!(f, IRBooleanFunction::HasNulls | IRBooleanFunction::IsEmpty { .. }) =>
            {
                self.input(input[0].node(), arena)?;
                let combine = match f {
                    IRBooleanFunction::HasNulls => IRBooleanFunction::Any { ignore_nulls: true },
                    _ => IRBooleanFunction::All { ignore_nulls: true },
                };
                Ok(self.part(node, Combine::Function(combine), arena))
            }
            AExpr::Function { ref input, function: IRFunctionExpr::NullCount, .. } if input.len() == 1 => {
                self.input(input[0].node(), arena)?;
                let counts = self.part(node, Combine::SumWide, arena);
                Ok(AExprBuilder::new_from_node(counts).cast(DataType::IDX_DTYPE, arena).node())
            }
            AExpr::Function { ref input, function: IRFunctionExpr::IndexOf, .. }
                if self.setting == Setting::Columns && !expr::has_column(input[1].node(), arena) =>
            {
                self.input(input[0].node(), arena)?;
                Ok(self.index_of(node, input[0].node(), arena))
            }
            AExpr::Literal(ref v) if v.is_scalar() => Ok(node),
            ae if expr::top_elementwise(node, arena) => {
                let mut inputs = Vec::new();
                ae.inputs_rev(&mut inputs);
                inputs.reverse();
                if inputs.is_empty() {
                    return Err("a column outside of an aggregate".into());
                }
                let new = inputs.iter().map(|n| self.node(*n, arena)).collect::<Result<Vec<_>, _>>()?;
                Ok(arena.add(ae.replace_inputs(&new)))
            }
            _ => Err("not known to combine from parts".into()),
        }
    }

    fn agg(&mut self, node: Node, agg: IRAggExpr, arena: &mut Arena<AExpr>) -> Result<Node, String> {
        let dtype = |node: Node, arena: &Arena<AExpr>, schema: &Schema| {
            arena.get(node).to_dtype(&ToFieldContext::new(arena, schema)).map_err(|e| e.to_string())
        };
        match agg {
            IRAggExpr::Min { input, propagate_nans } => {
                self.input(input, arena)?;
                Ok(self.part(node, Combine::Min(propagate_nans), arena))
            }
            IRAggExpr::Max { input, propagate_nans } => {
                self.input(input, arena)?;
                Ok(self.part(node, Combine::Max(propagate_nans), arena))
            }
            IRAggExpr::Sum(input) => {
                self.input(input, arena)?;
                let out = dtype(node, arena, self.schema)?;
                let inner = dtype(input, arena, self.schema)?;
                if !(inner.is_primitive_numeric() || inner.is_decimal() || inner.is_duration() || inner.is_bool()) {
                    return Err("only numbers are summed in parts".into());
                }
                // Sums of booleans are counts.
                let how = if inner.is_bool() { Combine::SumWide } else { Combine::Sum };
                let sum = self.part(node, how, arena);
                Ok(AExprBuilder::new_from_node(sum).cast(out, arena).node())
            }
            IRAggExpr::Count { input, .. } => {
                self.input(input, arena)?;
                let counts = self.part(node, Combine::SumWide, arena);
                Ok(AExprBuilder::new_from_node(counts).cast(DataType::IDX_DTYPE, arena).node())
            }
            IRAggExpr::Mean(input) => {
                self.input(input, arena)?;
                let inner = dtype(input, arena, self.schema)?;
                let out = dtype(node, arena, self.schema)?;
                let number = AExprBuilder::new_from_node(input);
                let (number, scale) = match &inner {
                    // Polars adds up the underlying integers as floats, which do not overflow.
                    DataType::Decimal(_, scale) if out == DataType::Float64 => {
                        (number.to_physical(arena), 1.0 / 10f64.powi(i32::try_from(*scale).unwrap_or(0)))
                    }
                    DataType::Float64 | DataType::Float32 => (number, 1.0),
                    inner if inner.is_integer() => (number, 1.0),
                    _ => return Err(format!("a mean of {inner} is not combined from parts")),
                };
                let sum = number.cast(DataType::Float64, arena).sum(arena).node();
                let sum = AExprBuilder::new_from_node(self.part(sum, Combine::Sum, arena));
                let count = AExprBuilder::new_from_node(input).count(arena).node();
                let count = self.part(count, Combine::SumWide, arena);
                let mean = sum.true_divide(AExprBuilder::new_from_node(count), arena);
                let scale = AExprBuilder::lit_scalar(Scalar::from(scale), arena);
                let mean = if inner.is_decimal() { mean.multiply(scale, arena) } else { mean };
                let mean = self.null_below(mean.node(), count, 1, arena);
                Ok(AExprBuilder::new_from_node(mean).cast(out, arena).node())
            }
            IRAggExpr::Var(input, ddof) => self.var(node, input, ddof, false, arena),
            IRAggExpr::Std(input, ddof) => self.var(node, input, ddof, true, arena),
            IRAggExpr::First(input) | IRAggExpr::Last(input) if self.setting == (Setting::Groups { ordered: true }) => {
                // A part may filter out all rows of a group: its null would hide the first value of other parts.
                if !is_elementwise_rec(input, arena) {
                    return Err("the first of filtered rows".into());
                }
                self.input(input, arena)?;
                let first = matches!(agg, IRAggExpr::First(_));
                Ok(self.part(node, if first { Combine::First } else { Combine::Last }, arena))
            }
            IRAggExpr::First(input) | IRAggExpr::Last(input) if self.setting == Setting::Columns => {
                self.input(input, arena)?;
                // Parts come in order; those without rows are skipped.
                let value = self.raw(node, arena);
                let rows = AExprBuilder::new_from_node(input).count_opt_nulls(true, arena).node();
                let rows = AExprBuilder::new_from_node(self.raw(rows, arena));
                let none = AExprBuilder::lit_scalar(Scalar::from(0u32), arena);
                let any = rows.gt(none, arena);
                let values = AExprBuilder::new_from_node(value).filter(any, arena);
                let first = matches!(agg, IRAggExpr::First(_));
                let value = if first { values.first(arena) } else { values.last(arena) };
                Ok(self.combined(value.node(), arena))
            }
            IRAggExpr::FirstNonNull(input) | IRAggExpr::LastNonNull(input)
                if matches!(self.setting, Setting::Columns | Setting::Groups { ordered: true }) =>
            {
                self.input(input, arena)?;
                let first = matches!(agg, IRAggExpr::FirstNonNull(_));
                Ok(self.part(node, if first { Combine::FirstNonNull } else { Combine::LastNonNull }, arena))
            }
            IRAggExpr::Median(_) => Err("a median needs all values of its group".into()),
            IRAggExpr::NUnique(input) if self.setting == Setting::Columns => {
                self.input(input, arena)?;
                let inner = dtype(input, arena, self.schema)?;
                if inner.is_nested() || inner.is_object() {
                    return Err(format!("unique values of {inner} are not counted from parts"));
                }
                Ok(self.count_unique(input, arena))
            }
            IRAggExpr::NUnique(_) => Err("a count of unique values needs all values of its group".into()),
            IRAggExpr::Implode { .. } => Err("lists are made from whole groups".into()),
            IRAggExpr::First(_)
            | IRAggExpr::Last(_)
            | IRAggExpr::FirstNonNull(_)
            | IRAggExpr::LastNonNull(_)
            | IRAggExpr::Item { .. }
            | IRAggExpr::AggGroups(_) => Err("depends on the order of rows".into()),
        }
    }

    /// Combines n, mean and the sum of squared differences of the parts, as Chan et al. do.
    fn var(&mut self, node: Node, input: Node, ddof: u8, root: bool, arena: &mut Arena<AExpr>) -> Result<Node, String> {
        self.input(input, arena)?;
        let to_dtype = |n: Node, arena: &Arena<AExpr>, schema: &Schema| {
            arena.get(n).to_dtype(&ToFieldContext::new(arena, schema)).map_err(|e| e.to_string())
        };
        let inner = to_dtype(input, arena, self.schema)?;
        if !inner.is_primitive_numeric() {
            return Err("this variance is not combined from parts".into());
        }
        let out = to_dtype(node, arena, self.schema)?;
        let b = AExprBuilder::new_from_node;
        let wide = b(input).cast(DataType::Float64, arena);
        let n_part = b(input).count(arena).cast(DataType::Float64, arena).node();
        let mean_part = AExprBuilder::agg(IRAggExpr::Mean(wide.node()), arena).node();
        let var_part = AExprBuilder::agg(IRAggExpr::Var(wide.node(), 0), arena).node();
        let (n, mean, var) = (self.raw(n_part, arena), self.raw(mean_part, arena), self.raw(var_part, arena));
        // In the final aggregate's context these are sums over the parts of one group.
        let total = b(n).sum(arena);
        let grand = b(n).multiply(b(mean), arena).sum(arena).true_divide(total, arena);
        let off = b(mean).minus(grand, arena);
        let spread =
            b(n).multiply(b(var), arena).plus(b(n).multiply(off.multiply(off, arena), arena), arena).sum(arena);
        let ddof_node = AExprBuilder::lit_scalar(Scalar::from(f64::from(ddof)), arena);
        let result = spread.true_divide(total.minus(ddof_node, arena), arena);
        let result = if root {
            let half = AExprBuilder::lit_scalar(Scalar::from(0.5f64), arena).node();
            let input = vec![
                ExprIR::new(result.node(), OutputName::Alias("v".into())),
                ExprIR::new(half, OutputName::Alias("h".into())),
            ];
            AExprBuilder::function(input, IRFunctionExpr::Pow(polars_plan::plans::IRPowFunction::Generic), arena)
        } else {
            result
        };
        let (combined, total) = (self.combined(result.node(), arena), self.combined(total.node(), arena));
        let kept = self.null_below(combined, total, i64::from(ddof) + 1, arena);
        Ok(b(kept).cast(out, arena).node())
    }

    /// Each part lists its distinct values; the result counts the distinct values of all lists.
    fn count_unique(&mut self, input: Node, arena: &mut Arena<AExpr>) -> Node {
        let of = vec![AExprBuilder::new_from_node(input).expr_ir("v")];
        let unique = AExprBuilder::function(of, IRFunctionExpr::Unique(false), arena).node();
        let list = AExprBuilder::agg(IRAggExpr::Implode { input: unique, maintain_order: false }, arena).node();
        let lists = AExprBuilder::new_from_node(self.raw(list, arena));
        // The empty list of a part without rows adds no value.
        let values = lists.explode(arena, ExplodeOptions { empty_as_null: false, keep_nulls: false }).node();
        let count = AExprBuilder::agg(IRAggExpr::NUnique(values), arena).node();
        self.combined(count, arena)
    }

    /// Takes the least of each part's index plus the row count of the parts before it; parts come in order.
    fn index_of(&mut self, node: Node, input: Node, arena: &mut Arena<AExpr>) -> Node {
        let b = AExprBuilder::new_from_node;
        let rows = b(input).count_opt_nulls(true, arena).node();
        let place = b(self.raw(node, arena)).cast(DataType::UInt64, arena);
        let rows = b(self.raw(rows, arena)).cast(DataType::UInt64, arena);
        let until = AExprBuilder::function(vec![rows.expr_ir("n")], IRFunctionExpr::CumSum { reverse: false }, arena);
        let least = until.minus(rows, arena).plus(place, arena).min(arena);
        let place = self.combined(least.node(), arena);
        b(place).cast(DataType::IDX_DTYPE, arena).node()
    }

    /// Gives null where fewer than `least` values were counted.
    fn null_below(&mut self, value: Node, count: Node, least: i64, arena: &mut Arena<AExpr>) -> Node {
        let least = AExprBuilder::lit_scalar(Scalar::from(least), arena);
        let enough = AExprBuilder::new_from_node(count).cast(DataType::Int64, arena).gt_eq(least, arena).node();
        let null = AExprBuilder::lit_scalar(Scalar::null(DataType::Float64), arena).node();
        arena.add(AExpr::Ternary { predicate: enough, truthy: value, falsy: null })
    }

    /// Checks that an aggregate's input is computed row by row; it may be filtered.
    fn input(&self, node: Node, arena: &Arena<AExpr>) -> Result<(), String> {
        match arena.get(node) {
            AExpr::Filter { input, by } => {
                self.input(*input, arena)?;
                self.input(*by, arena)
            }
            _ if is_elementwise_rec(node, arena) && expr::has_column(node, arena) => Ok(()),
            _ => Err("its input is not computed row by row".into()),
        }
    }

    /// Adds a partial value; returns the column that holds it.
    fn raw(&mut self, partial: Node, arena: &mut Arena<AExpr>) -> Node {
        let name = (self.name)();
        self.out.partial.push(AExprBuilder::new_from_node(partial).expr_ir(name.clone()));
        AExprBuilder::col(name, arena).node()
    }

    /// Adds a combined value; returns the column that holds it.
    fn combined(&mut self, combine: Node, arena: &mut Arena<AExpr>) -> Node {
        let name = (self.name)();
        self.out.combine.push(AExprBuilder::new_from_node(combine).expr_ir(name.clone()));
        AExprBuilder::col(name, arena).node()
    }

    fn part(&mut self, partial: Node, how: Combine, arena: &mut Arena<AExpr>) -> Node {
        let column = AExprBuilder::new_from_node(self.raw(partial, arena));
        let combine = match how {
            Combine::Sum => column.sum(arena),
            Combine::SumWide => column.cast(DataType::UInt64, arena).sum(arena),
            Combine::Min(nans) => {
                if nans {
                    column.nan_min(arena)
                } else {
                    column.min(arena)
                }
            }
            Combine::Max(nans) => {
                if nans {
                    column.nan_max(arena)
                } else {
                    column.max(arena)
                }
            }
            Combine::First => column.first(arena),
            Combine::Last => column.last(arena),
            Combine::FirstNonNull => column.first_non_null(arena),
            Combine::LastNonNull => column.last_non_null(arena),
            Combine::Function(IRBooleanFunction::Any { ignore_nulls }) => column.any(ignore_nulls, arena),
            Combine::Function(IRBooleanFunction::All { ignore_nulls }) => column.all(ignore_nulls, arena),
            Combine::Function(_) => column,
        };
        self.combined(combine.node(), arena)
    }
}

enum Combine {
    Sum,
    /// Sums counts in 64 bits, so that too many fail by name when cast back and never wrap.
    SumWide,
    Min(bool),
    Max(bool),
    First,
    Last,
    FirstNonNull,
    LastNonNull,
    Function(IRBooleanFunction),
}
