//! Distributes each IR node: a table with one arm per node; what takes more than a few lines has its own file.

use std::sync::Arc;

use polars_core::prelude::*;
use polars_ops::frame::JoinType;
use polars_plan::dsl::FileScanIR;
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::{AExpr, AExprBuilder, ExprIRDisplay, FunctionIR, IR};
use polars_plan::prelude::ProjectionOptions;
use polars_utils::arena::Node;

use crate::context::Cx;
use crate::inputs::estimate;
use crate::properties::expr;
use crate::properties::rel::{Effect, Names, Order, Rel, Width};
use floe_wire::error::Result;
use floe_wire::graph::{Leaf, Read};

/// More columns than this are not worth a stage each.
const MAX_BRANCHES: usize = 32;

impl Cx<'_> {
    pub fn walk(&mut self, node: Node) -> Result<Rel> {
        match self.ir.get(node).clone() {
            IR::Scan { .. } => self.scan(node),
            IR::DataFrameScan { .. } => self.frame(node),
            IR::SimpleProjection { input, columns } => {
                let rel = self.walk(input)?;
                let names: Vec<_> = columns.iter_names().cloned().collect();
                Ok(self.project(rel, &names))
            }
            IR::Filter { input, predicate } => {
                let rel = self.walk(input)?;
                if expr::elementwise(&predicate, &self.ex) {
                    let part = estimate::passing(predicate.node(), &self.ex, estimate::Known::NOTHING);
                    let rel = self.filter(rel, predicate);
                    return Ok(rel.filtered(part));
                }
                self.windowed(node, rel, vec![predicate])
            }
            IR::Select { input, expr, .. } => self.select(node, input, expr),
            IR::HStack { input, exprs, .. } => {
                let rel = self.walk(input)?;
                if exprs.iter().all(|e| expr::elementwise(e, &self.ex)) {
                    return Ok(self.stack(node, rel, &exprs));
                }
                self.windowed(node, rel, exprs)
            }
            IR::MapFunction { input, function } => self.map_function(node, input, function),
            IR::GroupBy { .. } => self.group_by(node),
            IR::Join { .. } => self.join(node),
            IR::Distinct { .. } => self.distinct(node),
            IR::Sort { .. } => self.sort(node),
            // Polars does not even begin to run what a slice of no rows is cut from.
            IR::Slice { len: 0, .. } => {
                let schema = self.schema(node);
                let df = Arc::new(DataFrame::empty_with_schema(&schema));
                let none = self.ir.add(IR::DataFrameScan { df, schema, output_schema: None });
                self.frame(none)
            }
            IR::Slice { input, offset, len } => {
                let rel = self.walk(input)?;
                self.slice(rel, offset, len as usize)
            }
            IR::Union { inputs, options } => {
                let ordered = options.maintain_order && self.order_out(node) || options.slice.is_some();
                let mut rels = Vec::with_capacity(inputs.len());
                for input in inputs {
                    let rel = self.walk(input)?;
                    // If a part has no promised order, any order of it will do; the parts follow each other.
                    rels.push(if ordered { self.in_order(rel)?.settled() } else { self.unordered(rel) });
                }
                match (Rel::stacked(rels), options.slice) {
                    (Some(rel), Some((offset, len))) => self.slice(rel, offset, len),
                    (Some(rel), None) => Ok(rel),
                    (None, _) => self.alone(node, "a union of nothing"),
                }
            }
            IR::Cache { input, id } => {
                if let Some(rel) = self.caches.get(&id).cloned() {
                    let rel = self.reread(&rel);
                    return Ok(self.retagged(rel));
                }
                let rel = self.walk(input)?;
                if self.cheap(input) {
                    // Computing it for each reader is cheaper than writing it and reading it twice.
                    return Ok(rel);
                }
                let rel = self.keep(rel)?;
                self.caches.insert(id, rel.clone());
                Ok(self.reread(&rel))
            }
            IR::Sink { input, .. } => self.walk(input),
            IR::HConcat { .. } => self.alone(node, "hconcat combines its inputs by row position"),
            IR::Gather { .. } => self.alone(node, "a gather by row numbers needs all rows in one place"),
            IR::MergeSorted { input_left, input_right, key, .. } => {
                self.merge_sorted(node, input_left, input_right, &key)
            }
            IR::ExtContext { .. } => self.alone(node, "expressions over columns of another frame"),
            IR::UnoptimizedDispatch { .. } => self.alone(node, "a function of whole columns"),
            IR::SinkMultiple { .. } | IR::Invalid => self.alone(node, "not a node of a query"),
        }
    }

    /// Whether a node only reads files row by row: reading those twice costs less than keeping their rows.
    fn cheap(&self, node: Node) -> bool {
        let row_wise = |exprs: &[ExprIR]| exprs.iter().all(|e| expr::elementwise(e, &self.ex));
        match self.ir.get(node) {
            IR::Scan { scan_type, .. } => matches!(**scan_type, FileScanIR::Parquet { .. } | FileScanIR::Ipc { .. }),
            IR::SimpleProjection { input, .. } => self.cheap(*input),
            IR::Filter { input, predicate } => row_wise(std::slice::from_ref(predicate)) && self.cheap(*input),
            IR::Select { input, expr, .. } => row_wise(expr) && self.cheap(*input),
            IR::HStack { input, exprs, .. } => row_wise(exprs) && self.cheap(*input),
            _ => false,
        }
    }

    /// The last resort: gathers all inputs in one task and puts the node on top.
    pub fn alone(&mut self, node: Node, reason: &str) -> Result<Rel> {
        let inputs: Vec<Node> = self.ir.get(node).inputs().collect();
        let mut rels = Vec::new();
        for input in inputs {
            let rel = self.walk(input)?;
            rels.push(self.gather(rel)?);
        }
        Ok(self.on_one(node, rels, reason))
    }

    /// Puts the node over inputs that are in one task each.
    pub fn on_one(&mut self, node: Node, inputs: Vec<Rel>, reason: &str) -> Rel {
        let ir = self.ir.get(node).clone().with_inputs(inputs.iter().map(Rel::root));
        let top = self.ir.add(ir);
        self.single(top, reason);
        let rows = inputs.iter().map(Rel::rows).sum::<Option<f64>>();
        let bytes = inputs.iter().map(Rel::bytes).sum::<Option<f64>>();
        let rel = Rel::new(top, Width::One, Order::Free).sized(rows, bytes);
        if !self.order_out(node) {
            rel
        } else if inputs.iter().any(Rel::is_in_any_order) {
            // Any order will do for rows that have no promised one; keep this one.
            rel.settled()
        } else {
            rel.in_promised_order()
        }
    }

    /// Row-wise `with_columns`.
    fn stack(&mut self, node: Node, rel: Rel, exprs: &[ExprIR]) -> Rel {
        let IR::HStack { options, .. } = self.ir.get(node).clone() else { return rel };
        let made: Vec<PlSmallStr> = exprs.iter().map(|e| e.output_name().clone()).collect();
        self.put(rel, Effect::RowByRow(Names::Except(&made)), |cx, root| {
            let exprs = exprs.to_vec();
            cx.build(root, |b| b.with_columns(exprs, options))
        })
    }

    fn select(&mut self, node: Node, input: Node, exprs: Vec<ExprIR>) -> Result<Rel> {
        let row_wise =
            exprs.iter().all(|e| expr::elementwise(e, &self.ex)) && exprs.iter().any(|e| !expr::scalar(e, &self.ex));
        let separable = exprs.len() == 1
            && expr::row_separable(&exprs[0], &self.ex)
            && expr::has_column(exprs[0].node(), &self.ex)
            && !expr::scalar(&exprs[0], &self.ex);
        let rel = self.walk(input)?;
        if row_wise {
            return Ok(self.select_rows(node, rel, exprs));
        }
        if separable {
            // The number of rows changes, so tags would not fit.
            let rel = if self.order_out(node) { self.in_order(rel)? } else { self.unordered(rel) };
            return Ok(self.select_rows(node, rel, exprs));
        }
        if exprs.iter().all(|e| expr::scalar(e, &self.ex)) {
            return self.reduce(node, rel, exprs);
        }
        self.windowed(node, rel, exprs)
    }

    pub fn select_rows(&mut self, node: Node, rel: Rel, mut exprs: Vec<ExprIR>) -> Rel {
        let IR::Select { options, .. } = self.ir.get(node).clone() else { return rel };
        let before = self.rel_schema(&rel).len() as f64;
        let kept = exprs.len() as f64;
        for tag in rel.tags().to_vec() {
            exprs.push(expr::col(&tag, &mut self.ex));
        }
        let names: Vec<(Option<PlSmallStr>, PlSmallStr)> =
            exprs.iter().map(|e| (expr::column_name(e, &self.ex), e.output_name().clone())).collect();
        let new_name =
            |name: &PlSmallStr| names.iter().find(|(from, _)| from.as_ref() == Some(name)).map(|(_, to)| to.clone());
        let rel = self.put(rel, Effect::RowByRow(Names::Renamed(&new_name)), |cx, root| {
            let exprs = exprs.clone();
            cx.build(root, |b| b.project(exprs, options))
        });
        let (rows, bytes) = (rel.rows(), rel.bytes().map(|b| b * (kept / before.max(1.0)).min(1.0)));
        rel.sized(rows, bytes)
    }

    fn map_function(&mut self, node: Node, input: Node, function: FunctionIR) -> Result<Rel> {
        match function {
            FunctionIR::RowIndex { .. } => {
                let rel = self.walk(input)?;
                self.row_index(node, rel)
            }
            FunctionIR::Explode { .. } => {
                // All rows exploded from one list would share its row's tag.
                let rel = self.walk(input)?;
                let rel = if self.order_out(node) { self.in_order(rel)? } else { self.unordered(rel) };
                Ok(self.put_same(node, rel))
            }
            FunctionIR::Unnest { .. } | FunctionIR::Rechunk | FunctionIR::Hint(_) => {
                let rel = self.walk(input)?;
                Ok(self.put_same(node, rel))
            }
            FunctionIR::Unpivot { .. } if !self.order_out(node) => {
                let rel = self.walk(input)?;
                let rel = self.unordered(rel);
                Ok(self.put_same(node, rel))
            }
            FunctionIR::Unpivot { args, .. } => self.unpivot(node, input, &args),
            FunctionIR::FastCount { .. } => self.alone(node, "a count that file metadata answers"),
            FunctionIR::Opaque { .. } => self.alone(node, "a function that is not known to work on parts"),
        }
    }

    /// Puts columns one below the other: a branch for each of them, over the same rows.
    fn unpivot(&mut self, node: Node, input: Node, args: &UnpivotArgsIR) -> Result<Rel> {
        let (from, to) = (self.schema(input), self.schema(node));
        let value = to.get(&args.value_name).cloned().unwrap_or(DataType::Null);
        let alike = |name: &PlSmallStr| {
            from.get(name).is_some_and(|d| *d == value || d.is_primitive_numeric() && value.is_primitive_numeric())
        };
        if args.on.is_empty() || args.on.len() > MAX_BRANCHES || !args.on.iter().all(alike) {
            return self.alone(node, "unpivot stacks whole columns");
        }
        let rel = self.walk(input)?;
        let rel = self.in_order(rel)?;
        let rows = self.keep(rel)?;
        let mut all = Vec::with_capacity(args.on.len());
        for name in &args.on {
            let mut exprs: Vec<ExprIR> = args.index.iter().map(|index| expr::col(index, &mut self.ex)).collect();
            let variable = Scalar::new(DataType::String, AnyValue::StringOwned(name.clone()));
            exprs.push(AExprBuilder::lit_scalar(variable, &mut self.ex).expr_ir(args.variable_name.clone()));
            let values = AExprBuilder::col(name.clone(), &mut self.ex).cast(value.clone(), &mut self.ex);
            exprs.push(values.expr_ir(args.value_name.clone()));
            let rel = self.reread(&rows);
            all.push(self.put(rel, Effect::RowByRow(Names::Only(&args.index)), |cx, root| {
                let exprs = exprs.clone();
                cx.build(root, |b| b.project(exprs, ProjectionOptions::default()))
            }));
        }
        Ok(Rel::stacked(all).unwrap_or(rows))
    }

    /// Puts the node itself on top of every branch; no column of its input is known to pass through, only the order is
    /// kept.
    pub fn put_same(&mut self, node: Node, rel: Rel) -> Rel {
        let tags = rel.tags().to_vec();
        self.put(rel, Effect::RowByRow(Names::Only(&tags)), |cx, root| {
            let ir = cx.ir.get(node).clone().with_inputs([root]);
            // Schemas were computed for an input without tags: compute them again.
            let ir = match ir {
                IR::MapFunction { input, function } => IR::MapFunction { input, function: fresh_schema(function) },
                other => other,
            };
            cx.ir.add(ir)
        })
    }

    /// Registers a leaf; its rows are in the promised order.
    pub fn leaf(&mut self, node: Node, leaf: Leaf, width: Width) -> Rel {
        self.leaves.insert(node, leaf);
        Rel::new(node, width, Order::Tasks)
    }
}

fn fresh_schema(function: FunctionIR) -> FunctionIR {
    match function {
        FunctionIR::RowIndex { name, offset, .. } => FunctionIR::RowIndex { name, offset, schema: Default::default() },
        FunctionIR::Explode { columns, options, .. } => {
            FunctionIR::Explode { columns, options, schema: Default::default() }
        }
        FunctionIR::Unpivot { args, .. } => FunctionIR::Unpivot { args, schema: Default::default() },
        other => other,
    }
}

/// A short name of a node, for reasons and labels.
pub fn node_name(ir: &IR) -> String {
    match ir {
        IR::Join { options, .. } => match &options.args.how {
            JoinType::Inner => "inner join".into(),
            how => format!("{how} join").to_lowercase(),
        },
        IR::GroupBy { options, .. } if options.is_dynamic() => "group by dynamic".into(),
        IR::GroupBy { options, .. } if options.is_rolling() => "rolling group by".into(),
        IR::GroupBy { .. } => "group by".into(),
        IR::Select { .. } => "select".into(),
        IR::HStack { .. } => "with columns".into(),
        IR::Distinct { .. } => "unique".into(),
        IR::MapFunction { function, .. } => format!("{function}").to_lowercase(),
        IR::DataFrameScan { .. } => "frame".into(),
        IR::Scan { .. } => "scan".into(),
        other => other.name().replace('_', " "),
    }
}

/// Labels a stage by its nodes, sources first.
pub fn label(nodes: &[&IR], leaves: &[Leaf]) -> String {
    let mut words: Vec<String> = Vec::new();
    for leaf in leaves {
        words.push(match leaf {
            Leaf::Source { what, .. } => what.clone(),
            Leaf::Exchange { stages, read } => {
                let from = stages.iter().map(|s| s.0.to_string()).collect::<Vec<_>>().join("+");
                match read {
                    Read::Partition => format!("read {from} by key"),
                    Read::All => format!("read all of {from}"),
                    Read::Forward => format!("read {from}"),
                    Read::Neighbours { .. } => format!("read neighbours of {from}"),
                    Read::Before => format!("read ends of {from}"),
                    Read::After => format!("read beginnings of {from}"),
                    Read::KeySummaries => format!("keys of {from}"),
                }
            }
        });
    }
    for ir in nodes.iter().rev() {
        let name = node_name(ir);
        let quiet = matches!(ir, IR::DataFrameScan { .. } | IR::Scan { .. } | IR::SimpleProjection { .. });
        if !quiet && words.last() != Some(&name) {
            words.push(name);
        }
    }
    words.join(", ")
}

/// Prints an expression as Polars does.
pub fn show(e: &ExprIR, arena: &polars_utils::arena::Arena<AExpr>) -> String {
    let shown: ExprIRDisplay<'_> = e.display(arena);
    shown.to_string()
}
