//! Builds expressions. Children come first, so each is built from finished ones.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use polars::prelude::*;
use polars_core::chunked_array::cast::CastOptions;
use polars_plan::dsl::{AggExpr, Expr, FunctionExpr, Operator};
use polars_plan::prelude::{DynLiteralValue, LiteralValue};
use serde_json::Value;

use super::data::{ExprData, Span};
use super::{MAX_DEPTH, ORDER_MARK, Order, damaged, functions, lacking, values};
use floe_wire::error::{QueryError, Result};

/// An expression, or why it cannot be built: expressions that the plan does not use cause no error.
pub type Built = std::result::Result<Expr, QueryError>;

/// Checks that every reference points backwards, and limits the nesting.
pub fn check(exprs: &[ExprData]) -> Result<()> {
    let mut depths: Vec<usize> = Vec::with_capacity(exprs.len());
    for (at, expr) in exprs.iter().enumerate() {
        let mut depth = 0;
        for child in children(expr) {
            if child >= at {
                return Err(damaged("an expression names one that comes after it"));
            }
            depth = depth.max(depths[child] + 1);
        }
        if depth > MAX_DEPTH {
            return Err(QueryError::user(
                "QueryTooLarge",
                format!("the query nests expressions more than {MAX_DEPTH} deep"),
            ));
        }
        depths.push(depth);
    }
    Ok(())
}

pub fn children(expr: &ExprData) -> Vec<usize> {
    use ExprData as E;
    match expr {
        E::Column { .. } | E::Literal { .. } | E::Dyn { .. } | E::Series { .. } | E::Len | E::Unknown { .. } => vec![],
        E::Binary { left, right, .. } => vec![*left, *right],
        E::Cast { input, .. }
        | E::Explode { input, .. }
        | E::Alias { input, .. }
        | E::Sort { input, .. }
        | E::ListEval { input, .. } => {
            vec![*input]
        }
        E::Ternary { predicate, truthy, falsy } => vec![*predicate, *truthy, *falsy],
        E::Agg { input, .. } | E::Function { input, .. } | E::RowEncode { input } => input.clone(),
        E::Filter { input, by } => vec![*input, *by],
        E::Gather { input, index, .. } | E::Rolling { input, index, .. } => vec![*input, *index],
        E::Slice { input, offset, length } => vec![*input, *offset, *length],
        E::SortBy { input, by, .. } => [*input].into_iter().chain(by.iter().copied()).collect(),
        E::Over { input, partition_by, order_by, .. } => {
            [*input].into_iter().chain(partition_by.iter().copied()).chain(*order_by).collect()
        }
    }
}

/// Builds all expressions. A column in `broadcast` has equal values in all rows; read it as its first value.
pub fn build_all(data: &[ExprData], orders: &[Order], broadcast: &HashSet<String>) -> Result<Vec<Built>> {
    let mut all = Builder { data, orders, broadcast, built: Vec::with_capacity(data.len()), marks: HashMap::new() };
    for at in 0..data.len() {
        let built = all.build(at);
        all.built.push(built);
    }
    Ok(all.built)
}

struct Builder<'a> {
    data: &'a [ExprData],
    orders: &'a [Order],
    broadcast: &'a HashSet<String>,
    built: Vec<Built>,
    /// Number of the window order that an expression is the first key of.
    marks: HashMap<usize, usize>,
}

impl Builder<'_> {
    fn get(&self, at: usize) -> Result<Expr> {
        self.built[at].clone()
    }

    fn arc(&self, at: usize) -> Result<Arc<Expr>> {
        self.get(at).map(Arc::new)
    }

    fn all(&self, at: &[usize]) -> Result<Vec<Expr>> {
        at.iter().map(|at| self.get(*at)).collect()
    }

    /// Reads the order's number from a mark: `CASE WHEN '__floe_order_3' IS NULL …`.
    fn mark(&self, predicate: usize) -> Option<usize> {
        let ExprData::Function { name, input, .. } = &self.data[predicate] else { return None };
        let ("BooleanFunction.IsNull", [literal]) = (name.as_str(), input.as_slice()) else { return None };
        let ExprData::Literal { value: Value::String(text), .. } = &self.data[*literal] else { return None };
        text.strip_prefix(ORDER_MARK)?.parse().ok()
    }

    fn build(&mut self, at: usize) -> Built {
        use ExprData as E;
        let data = self.data;
        Ok(match &data[at] {
            E::Column { name } => Expr::Column(name.as_str().into()),
            E::Literal { dtype, value } => Expr::Literal(values::literal(&values::dtype(dtype)?, value)?),
            E::Dyn { value } => Expr::Literal(dynamic(value)?),
            E::Series { name, dtype, values } => Expr::Literal(LiteralValue::Series(SpecialEq::new(values::series(
                name,
                &values::dtype(dtype)?,
                values,
            )?))),
            E::Binary { op, left, right } => {
                Expr::BinaryExpr { left: self.arc(*left)?, op: operator(op)?, right: self.arc(*right)? }
            }
            E::Cast { input, dtype, options, from } => Expr::Cast {
                // The newer Polars cuts off what the engine would round.
                expr: match from.as_ref().map(values::dtype).transpose()? {
                    Some(DataType::Decimal(_, scale)) if scale > 0 => Arc::new(self.get(*input)?.truncate(0)),
                    _ => self.arc(*input)?,
                },
                dtype: values::dtype(dtype)?.into(),
                options: match options {
                    0 => CastOptions::Strict,
                    1 => CastOptions::NonStrict,
                    _ => CastOptions::Overflowing,
                },
            },
            E::Ternary { predicate, truthy, falsy } => match self.mark(*predicate) {
                // The condition is never true: take the other branch, the key.
                Some(order) => {
                    self.marks.insert(at, order);
                    self.get(*falsy)?
                }
                None => Expr::Ternary {
                    predicate: self.arc(*predicate)?,
                    truthy: self.arc(*truthy)?,
                    falsy: self.arc(*falsy)?,
                },
            },
            E::Len => Expr::Len,
            E::Agg { name, input, options } => self.aggregate(name, input, options)?,
            E::Filter { input, by } => Expr::Filter { input: self.arc(*input)?, by: self.arc(*by)? },
            E::Gather { input, index, scalar } => Expr::Gather {
                expr: self.arc(*input)?,
                idx: self.arc(*index)?,
                returns_scalar: *scalar,
                null_on_oob: true,
            },
            E::Explode { input, options: (empty_as_null, keep_nulls) } => Expr::Explode {
                input: self.arc(*input)?,
                options: ExplodeOptions { empty_as_null: *empty_as_null, keep_nulls: *keep_nulls },
            },
            E::Slice { input, offset, length } => {
                Expr::Slice { input: self.arc(*input)?, offset: self.arc(*offset)?, length: self.arc(*length)? }
            }
            E::Alias { input, name } => self.get(*input)?.alias(name.as_str()),
            E::Sort { input, maintain_order, nulls_last, descending } => {
                Expr::Sort { expr: self.arc(*input)?, options: sort_options(*descending, *nulls_last, *maintain_order) }
            }
            E::SortBy { input, by, maintain_order, nulls_last, descending } => {
                let options = SortMultipleOptions::default()
                    .with_order_descending_multi(descending.iter().copied())
                    .with_nulls_last_multi(nulls_last.iter().copied())
                    .with_maintain_order(*maintain_order);
                sorted_by(self.get(*input)?, self.all(by)?, options)
            }
            E::Over { input, partition_by, order_by, descending, nulls_last, mapping } => Expr::Over {
                function: self.arc(*input)?,
                partition_by: self.all(partition_by)?,
                order_by: match order_by {
                    Some(order) => Some((self.arc(*order)?, sort_options(*descending, *nulls_last, false))),
                    None => None,
                },
                mapping: match mapping.as_str() {
                    "groups_to_rows" => WindowMapping::GroupsToRows,
                    "explode" => WindowMapping::Explode,
                    "join" => WindowMapping::Join,
                    other => return Err(lacking(format!("a window with the mapping {other}"))),
                },
            },
            E::Rolling { input, index, period, offset, closed } => Expr::Rolling {
                function: self.arc(*input)?,
                index_column: self.arc(*index)?,
                period: duration(period)?,
                offset: duration(offset)?,
                closed_window: closed_window(closed)?,
            },
            E::Function { name, args, input, dtype } => {
                let dtype = dtype.as_ref().map(values::dtype).transpose()?;
                functions::build(name, args, self.all(input)?, dtype.as_ref())?
            }
            E::ListEval { name, args, input } => {
                let inside = functions::build(name, args, vec![Expr::Element], None)?;
                self.get(*input)?.list().eval(inside)
            }
            E::RowEncode { input } => {
                let order = input
                    .first()
                    .and_then(|first| self.marks.get(first))
                    .and_then(|order| self.orders.get(*order))
                    .filter(|order| order.descending.len() == input.len())
                    .ok_or_else(|| lacking("a window whose ORDER BY has several keys in this place"))?;
                let keys = with_directions(order);
                let variant = polars_plan::plans::RowEncodingVariant::Ordered {
                    descending: Some(keys.iter().map(|key| order.descending[*key]).collect()),
                    nulls_last: Some(keys.iter().map(|key| order.nulls_last[*key]).collect()),
                    broadcast_nulls: None,
                };
                let keys: Vec<usize> = keys.into_iter().map(|key| input[key]).collect();
                Expr::Function { input: self.all(&keys)?, function: FunctionExpr::RowEncode(variant) }
            }
            E::Unknown { name } => return Err(lacking(format!("the expression {name}"))),
        })
    }

    fn aggregate(&self, name: &str, input: &[usize], options: &Value) -> Built {
        let [first] = input else { return Err(lacking(format!("the aggregate {name} of {} columns", input.len()))) };
        let flag = options.as_bool().unwrap_or(false);
        if let (ExprData::Column { name: column }, "first" | "item") = (&self.data[*first], name)
            && self.broadcast.contains(column)
        {
            return self.get(*first);
        }
        let input = self.arc(*first)?;
        let ddof = || options.as_u64().and_then(|n| u8::try_from(n).ok()).ok_or_else(|| damaged("no ddof"));
        Ok(Expr::Agg(match name {
            "min" => AggExpr::Min { input, propagate_nans: flag },
            "max" => AggExpr::Max { input, propagate_nans: flag },
            "median" => AggExpr::Median(input),
            "n_unique" => AggExpr::NUnique(input),
            "first" => AggExpr::First(input),
            "first_non_null" => AggExpr::FirstNonNull(input),
            "last" => AggExpr::Last(input),
            "last_non_null" => AggExpr::LastNonNull(input),
            "item" => AggExpr::Item { input, allow_empty: flag },
            "mean" => AggExpr::Mean(input),
            "implode" => AggExpr::Implode { input, maintain_order: flag },
            "count" => AggExpr::Count { input, include_nulls: flag },
            "sum" if flag => return Err(lacking("a sum that is null when there is nothing to sum")),
            "sum" => AggExpr::Sum(input),
            "std" => AggExpr::Std(input, ddof()?),
            "var" => AggExpr::Var(input, ddof()?),
            "agg_groups" => AggExpr::AggGroups(input),
            _ => return Err(lacking(format!("the aggregate {name}"))),
        }))
    }
}

/// The keys of a window's ORDER BY, by position. The engine distinguishes the window orders of a query by their text,
/// which has the keys but not their directions. So repeat each key that is not ascending with nulls last, one to three
/// times; a repeated key does not change the order.
fn with_directions(order: &Order) -> Vec<usize> {
    let keys = 0..order.descending.len();
    let again = keys.clone().flat_map(|key| {
        let times = match (order.descending[key], order.nulls_last[key]) {
            (false, true) => 0,
            (true, false) => 1,
            (false, false) => 2,
            (true, true) => 3,
        };
        std::iter::repeat_n(key, times)
    });
    keys.clone().chain(again).collect()
}

/// `input` in the order of `by`. Where all are filtered alike, as by FILTER, sorts first and filters then: the engine
/// fails for groups of which the filter leaves nothing.
fn sorted_by(input: Expr, by: Vec<Expr>, sort_options: SortMultipleOptions) -> Expr {
    let filtered = |expr: &Expr| match expr {
        Expr::Filter { input, by } => Some((input.as_ref().clone(), by.as_ref().clone())),
        _ => None,
    };
    let keys: Option<Vec<(Expr, Expr)>> = by.iter().map(filtered).collect();
    match (filtered(&input), keys) {
        (Some((rows, condition)), Some(keys)) if keys.iter().all(|(_, other)| *other == condition) => {
            // Stable, so that both come in the same order.
            let options = sort_options.with_maintain_order(true);
            let keys: Vec<Expr> = keys.into_iter().map(|(key, _)| key).collect();
            rows.sort_by(keys.clone(), options.clone()).filter(condition.sort_by(keys, options))
        }
        _ => Expr::SortBy { expr: Arc::new(input), by, sort_options },
    }
}

fn sort_options(descending: bool, nulls_last: bool, maintain_order: bool) -> SortOptions {
    SortOptions { descending, nulls_last, maintain_order, ..SortOptions::default() }
}

fn dynamic(value: &Value) -> Result<LiteralValue> {
    Ok(match value {
        Value::Number(number) => match number.as_i64() {
            Some(int) => LiteralValue::Dyn(DynLiteralValue::Int(int.into())),
            None => LiteralValue::Dyn(DynLiteralValue::Float(number.as_f64().unwrap_or(f64::NAN))),
        },
        Value::String(text) => LiteralValue::Dyn(DynLiteralValue::Str(text.as_str().into())),
        _ => return Err(lacking("a list whose type is not settled")),
    })
}

fn operator(name: &str) -> Result<Operator> {
    Ok(match name {
        "Eq" => Operator::Eq,
        "EqValidity" => Operator::EqValidity,
        "NotEq" => Operator::NotEq,
        "NotEqValidity" => Operator::NotEqValidity,
        "Lt" => Operator::Lt,
        "LtEq" => Operator::LtEq,
        "Gt" => Operator::Gt,
        "GtEq" => Operator::GtEq,
        "Plus" => Operator::Plus,
        "Minus" => Operator::Minus,
        "Multiply" => Operator::Multiply,
        "Divide" => Operator::RustDivide,
        "TrueDivide" => Operator::TrueDivide,
        "FloorDivide" => Operator::FloorDivide,
        "Modulus" => Operator::Modulus,
        "And" => Operator::And,
        "Or" => Operator::Or,
        "Xor" => Operator::Xor,
        "LogicalAnd" => Operator::LogicalAnd,
        "LogicalOr" => Operator::LogicalOr,
        _ => return Err(lacking(format!("the operator {name}"))),
    })
}

/// Formats a duration as text that Polars parses.
pub fn duration(&(months, weeks, days, nanoseconds, rows, negative): &Span) -> Result<Duration> {
    let sign = if negative { "-" } else { "" };
    let text = if rows {
        format!("{sign}{nanoseconds}i")
    } else {
        let parts = [(months, "mo"), (weeks, "w"), (days, "d"), (nanoseconds, "ns")];
        let parts: String = parts.iter().filter(|(n, _)| *n != 0).map(|(n, unit)| format!("{n}{unit}")).collect();
        if parts.is_empty() { "0ns".into() } else { format!("{sign}{parts}") }
    };
    Duration::try_parse(&text).map_err(floe_polars::polars_error)
}

pub fn closed_window(name: &str) -> Result<ClosedWindow> {
    Ok(match name {
        "left" => ClosedWindow::Left,
        "right" => ClosedWindow::Right,
        "both" => ClosedWindow::Both,
        "none" => ClosedWindow::None,
        other => return Err(damaged(format!("a window that is closed {other}"))),
    })
}
