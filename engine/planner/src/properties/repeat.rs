//! Decides whether a stage gives the same rows when one of its tasks runs again on the same data. Polars leaves some
//! choices to chance: which of several rows a unique keeps, which rows a slice takes from unordered rows, what a sample
//! draws. When the output of such a task is lost, all that was made from it is made again with it (see the scheduler);
//! otherwise rows of two runs would be mixed in one result.

use polars_core::frame::UniqueKeepStrategy;
use polars_ops::frame::{JoinType, MaintainOrderJoin};
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::is_inherently_nondeterministic_top_level;
use polars_plan::plans::{AExpr, FunctionIR, IR, IRAggExpr, IRBooleanFunction, IRFunctionExpr};
use polars_utils::arena::Node;

use crate::context::Cx;
use crate::fragment::Tag;
use floe_plan::own;
use floe_wire::graph::{Exchange, Leaf, Nondeterminism, Read, StageGraph, StageId};

/// The differences between two runs of a fragment on the same data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Varies {
    /// Which rows come out.
    rows: Option<Nondeterminism>,
    /// The order in which they come out.
    order: bool,
}

impl Varies {
    fn and(self, other: Varies) -> Varies {
        Varies { rows: self.rows.or(other.rows), order: self.order || other.order }
    }

    fn because(self, why: Nondeterminism) -> Varies {
        Varies { rows: self.rows.or(Some(why)), ..self }
    }

    /// For a node that chooses rows or computes values by the position of rows: if the order varies, so do the rows.
    fn by_place(self, why: Nondeterminism) -> Varies {
        if self.order { self.because(why) } else { self }
    }

    fn in_order(self, kept: bool) -> Varies {
        Varies { order: self.order || !kept, ..self }
    }
}

impl Cx<'_> {
    /// Finds what may differ in a stage that is about to be closed.
    pub(crate) fn varies(&self, root: Node, tag: Option<&Tag>) -> Varies {
        let varies = self.varies_at(root);
        // Tags number rows in the order in which they come.
        if tag.is_some() { varies.by_place(Nondeterminism::UnorderedRows) } else { varies }
    }

    fn varies_at(&self, node: Node) -> Varies {
        let ir = self.ir.get(node);
        let inputs: Vec<Varies> = ir.inputs().map(|input| self.varies_at(input)).collect();
        let all = inputs.iter().fold(Varies::default(), |all, input| all.and(*input));
        match ir {
            IR::DataFrameScan { .. } | IR::Scan { .. } => {
                let scanned = Varies { order: self.reads_rows_in_varying_order(node), rows: None };
                self.of_exprs(scanned, ir)
            }
            IR::SimpleProjection { .. } | IR::Cache { .. } | IR::Sink { .. } | IR::SinkMultiple { .. } => all,
            IR::Filter { .. } | IR::Select { .. } | IR::HStack { .. } => self.of_exprs(all, ir),
            IR::Slice { .. } => all.by_place(Nondeterminism::UnorderedSlice),
            IR::Sort { slice, .. } => {
                let sorted = self.of_exprs(all, ir);
                // Rows with equal keys stay in the order in which they came.
                if slice.is_some() { sorted.by_place(Nondeterminism::UnorderedSlice) } else { sorted }
            }
            IR::GroupBy { maintain_order, options, apply, .. } => {
                let windows = options.dynamic.is_some() || options.rolling.is_some();
                let grouped = self.of_exprs(all, ir).in_order(*maintain_order || windows);
                let grouped = if apply.is_some() { grouped.because(Nondeterminism::UserFunction) } else { grouped };
                if options.slice.is_some() { grouped.by_place(Nondeterminism::UnorderedSlice) } else { grouped }
            }
            IR::Join { options, .. } => {
                let as_of = matches!(options.args.how, JoinType::AsOf(_));
                let joined = self.of_exprs(all, ir);
                // Of several equal keys, an as-of join finds the last.
                let joined = if as_of { joined.by_place(Nondeterminism::AnyOfEqualRows) } else { joined };
                let joined = joined.in_order(as_of || options.args.maintain_order != MaintainOrderJoin::None);
                if options.args.slice.is_some() { joined.by_place(Nondeterminism::UnorderedSlice) } else { joined }
            }
            IR::Distinct { input, options } => {
                let whole = options.subset.as_ref().is_none_or(|subset| subset.len() == self.schema(*input).len());
                let kept = match options.keep_strategy {
                    _ if whole => all,
                    UniqueKeepStrategy::None => all,
                    UniqueKeepStrategy::First | UniqueKeepStrategy::Last => {
                        all.by_place(Nondeterminism::AnyOfEqualRows)
                    }
                    UniqueKeepStrategy::Any => all.because(Nondeterminism::AnyOfEqualRows),
                };
                let kept = kept.in_order(options.maintain_order);
                if options.slice.is_some() { kept.by_place(Nondeterminism::UnorderedSlice) } else { kept }
            }
            IR::MapFunction { function, .. } => match function {
                FunctionIR::RowIndex { .. } => all.by_place(Nondeterminism::UnorderedRows),
                FunctionIR::Opaque { .. } => all.because(Nondeterminism::UserFunction),
                FunctionIR::FastCount { .. }
                | FunctionIR::Unnest { .. }
                | FunctionIR::Rechunk
                | FunctionIR::Explode { .. }
                | FunctionIR::Unpivot { .. }
                | FunctionIR::Hint(_) => all,
            },
            IR::Union { options, .. } => {
                let together = all.in_order(options.maintain_order);
                if options.slice.is_some() { together.by_place(Nondeterminism::UnorderedSlice) } else { together }
            }
            // Rows paired by position, and whatever else there is.
            _ => all.by_place(Nondeterminism::UnorderedRows),
        }
    }

    /// Whether a leaf reads rows whose order may differ from run to run.
    fn reads_rows_in_varying_order(&self, leaf: Node) -> bool {
        // Within a snapshot, a database returns the same rows, in an order of which it promises nothing.
        if self.databases.contains_key(&leaf) {
            return true;
        }
        match self.leaves.get(&leaf) {
            Some(Leaf::Exchange { stages, .. }) => stages.iter().any(|stage| self.varying_order.contains(stage)),
            Some(Leaf::Source { .. }) | None => false,
        }
    }

    fn of_exprs(&self, rows: Varies, ir: &IR) -> Varies {
        ir.exprs().fold(rows, |rows, e| self.of_expr(rows, e))
    }

    fn of_expr(&self, rows: Varies, e: &ExprIR) -> Varies {
        let (mut stack, mut rows) = (vec![e.node()], rows);
        while let Some(node) = stack.pop() {
            let ae = self.ex.get(node);
            rows = match ae {
                AExpr::Function { function: IRFunctionExpr::Random { seed: None, .. }, .. } => {
                    rows.because(Nondeterminism::NoSeed)
                }
                AExpr::Function { function: IRFunctionExpr::Random { .. }, .. } => {
                    rows.by_place(Nondeterminism::UnorderedValues)
                }
                // A dynamic predicate skips only rows that cannot be among the first ones; those are always the same.
                AExpr::Function { function: IRFunctionExpr::DynamicPred { .. }, .. } => rows,
                // Floe's own, which computes the same each time.
                AExpr::AnonymousFunction { fmt_str, .. } if own::is_shown(fmt_str) => rows,
                _ if is_inherently_nondeterministic_top_level(ae) => rows.because(Nondeterminism::UserFunction),
                _ if by_place(ae) => rows.by_place(Nondeterminism::UnorderedValues),
                _ => rows,
            };
            ae.inputs_rev(&mut stack);
        }
        rows
    }
}

/// Whether an expression, its inputs aside, depends on the positions of rows.
fn by_place(ae: &AExpr) -> bool {
    match ae {
        AExpr::Column(_)
        | AExpr::Literal(_)
        | AExpr::Len
        | AExpr::Element
        | AExpr::StructField(_)
        | AExpr::BinaryExpr { .. }
        | AExpr::Cast { .. }
        | AExpr::Ternary { .. }
        | AExpr::Filter { .. }
        | AExpr::Over { .. }
        // These look at values within one row.
        | AExpr::Eval { .. }
        | AExpr::StructEval { .. } => false,
        AExpr::Agg(agg) => match agg {
            IRAggExpr::Min { .. }
            | IRAggExpr::Max { .. }
            | IRAggExpr::Median(_)
            | IRAggExpr::NUnique(_)
            | IRAggExpr::Item { .. }
            | IRAggExpr::Mean(_)
            | IRAggExpr::Sum(_)
            | IRAggExpr::Count { .. }
            | IRAggExpr::Std(..)
            | IRAggExpr::Var(..) => false,
            IRAggExpr::First(_)
            | IRAggExpr::FirstNonNull(_)
            | IRAggExpr::Last(_)
            | IRAggExpr::LastNonNull(_)
            | IRAggExpr::Implode { .. }
            | IRAggExpr::AggGroups(_) => true,
        },
        AExpr::Function { function, options, .. } => {
            let takes_all_alike = matches!(
                function,
                IRFunctionExpr::Boolean(IRBooleanFunction::Any { .. } | IRBooleanFunction::All { .. })
                    | IRFunctionExpr::Quantile { .. }
                    | IRFunctionExpr::NullCount
                    | IRFunctionExpr::Product
                    | IRFunctionExpr::ApproxNUnique
                    | IRFunctionExpr::Skew(_)
                    | IRFunctionExpr::Kurtosis(..)
                    | IRFunctionExpr::Correlation { .. }
            );
            !takes_all_alike && !options.is_elementwise()
        }
        AExpr::Explode { .. }
        | AExpr::Sort { .. }
        | AExpr::SortBy { .. }
        | AExpr::Gather { .. }
        | AExpr::Slice { .. }
        | AExpr::Rolling { .. }
        | AExpr::AnonymousAgg { .. }
        | AExpr::AnonymousFunction { .. } => true,
    }
}

/// An order that varies from run to run matters only to the task itself, unless others read its rows by position: its
/// neighbours read its ends, or two stages read the same rows whose outputs are then paired row by row.
pub(crate) fn mark_orders(graph: &mut StageGraph, varying: &std::collections::BTreeSet<StageId>) {
    for stage in varying {
        let readers = graph
            .stages
            .iter()
            .flat_map(|reader| reader.leaves.iter().chain(reader.adaptive.iter().flat_map(|form| &form.leaves)));
        let reads: Vec<Read> = readers
            .filter_map(|leaf| match leaf {
                Leaf::Exchange { stages, read } if stages.contains(stage) => Some(*read),
                Leaf::Exchange { .. } | Leaf::Source { .. } => None,
            })
            .collect();
        let ends = reads.iter().any(|read| matches!(read, Read::Before | Read::After));
        let twice = reads.iter().filter(|read| **read == Read::Forward).count() > 1;
        if let Some(stage) = graph.stages.get_mut(stage.0 as usize)
            && (ends || twice)
        {
            stage.nondeterminism.get_or_insert(Nondeterminism::UnorderedRows);
        }
    }
}

impl Varies {
    /// Why the stage may give other rows when it runs again.
    pub fn nondeterminism(&self, output: &Exchange) -> Option<Nondeterminism> {
        match output {
            // No stage of the query reads these.
            Exchange::Result | Exchange::Sink { .. } => None,
            Exchange::Hash { .. } | Exchange::Range { .. } | Exchange::Whole => self.rows,
        }
    }

    pub fn order(&self) -> bool {
        self.order
    }
}

#[cfg(test)]
#[path = "repeat_tests.rs"]
mod tests;
