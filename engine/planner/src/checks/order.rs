//! Checks that the nodes of a fragment give the order that its stage claims.

use polars_core::prelude::SortMultipleOptions;
use polars_ops::frame::{JoinType, MaintainOrderJoin};
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::{AExpr, IR, IRFunctionExpr, RowEncodingVariant, is_scalar_ae};
use polars_utils::arena::Node;

use super::Form;
use super::keys::{definition, shown};
use floe_wire::check::Finding;
use floe_wire::facts::RowOrder;
use floe_wire::graph::{Exchange, Leaf, Read, StageId};

/// The order of a node's rows across all tasks of its stage.
enum Given {
    Promised,
    /// Not in the promised order, but sorting by the order tags restores it.
    Tagged,
    /// Each task holds one range of the keys that these stages write, in any order.
    Ranges(Vec<StageId>),
    Not(String),
}

pub(super) fn check(form: &Form<'_>, claimed: &RowOrder) -> Option<Finding> {
    if *claimed != RowOrder::Promised {
        return None;
    }
    let why = match (Walk { form, leaf: 0 }).order(form.plan.lp_top) {
        Given::Promised => return None,
        Given::Tagged => "rows with tags are not sorted by them".to_owned(),
        Given::Ranges(_) => "ranges of keys are not sorted".to_owned(),
        Given::Not(why) => why,
    };
    Some(Finding::OrderNotGiven { stage: form.stage, why })
}

struct Walk<'a> {
    form: &'a Form<'a>,
    leaf: usize,
}

impl Walk<'_> {
    /// Visits every leaf, left to right.
    fn order(&mut self, node: Node) -> Given {
        let ir = self.form.plan.lp_arena.get(node);
        let mut inputs: Vec<Given> = ir.inputs().map(|input| self.order(input)).collect();
        if inputs.is_empty() {
            self.leaf += 1;
            return self.read(self.leaf - 1);
        }
        let all = |inputs: Vec<Given>| {
            let other = inputs.into_iter().find(|given| !matches!(given, Given::Promised));
            other.unwrap_or(Given::Promised)
        };
        let not = |why: &str| Given::Not(why.to_owned());
        match ir {
            IR::Sort { by_column, sort_options, .. } => match inputs.remove(0) {
                Given::Ranges(stages) => match stages.iter().find(|id| !self.cut_by(**id, by_column, sort_options)) {
                    None => Given::Promised,
                    Some(stage) => Given::Not(format!("the ranges of stage {stage} are not of what is sorted by")),
                },
                _ if self.form.facts.tasks == 1 => Given::Promised,
                Given::Promised => not("rows are sorted within each task only"),
                other => other,
            },
            // One row.
            IR::Select { expr, .. }
                if self.form.facts.tasks == 1
                    && expr.iter().all(|e| is_scalar_ae(e.node(), &self.form.plan.expr_arena)) =>
            {
                Given::Promised
            }
            IR::GroupBy { options, .. }
                if (options.is_dynamic() || options.is_rolling()) && self.form.facts.tasks == 1 =>
            {
                Given::Promised
            }
            IR::GroupBy { maintain_order, .. } if *maintain_order => inputs.remove(0),
            IR::GroupBy { .. } => not("a group by keeps no order"),
            IR::Distinct { options, .. } if options.maintain_order => inputs.remove(0),
            IR::Distinct { .. } => not("a unique keeps no order"),
            IR::Join { options, .. } => {
                let right = inputs.pop();
                let left = inputs.pop();
                let kept = match (&options.args.how, options.args.maintain_order) {
                    (JoinType::AsOf(_), _) => left,
                    (_, MaintainOrderJoin::Left | MaintainOrderJoin::LeftRight) => left,
                    (_, MaintainOrderJoin::Right | MaintainOrderJoin::RightLeft) => right,
                    (_, MaintainOrderJoin::None) => None,
                };
                kept.unwrap_or_else(|| not("a join keeps no order"))
            }
            IR::Union { options, .. } if !options.maintain_order => not("a union keeps no order"),
            _ => all(inputs),
        }
    }

    /// Whether the key that a stage cuts ranges by compares rows as this sort does.
    fn cut_by(&self, stage: StageId, by: &[ExprIR], options: &SortMultipleOptions) -> bool {
        let at = stage.0 as usize;
        let output = self.form.graph.stages.get(at).map(|stage| &stage.output);
        let plan = self.form.written.plans.get(at).and_then(Option::as_ref);
        let (Some(Exchange::Range { key, .. }), Some(plan)) = (output, plan) else { return false };
        let Some(mut node) = definition(plan, key) else { return false };
        let (of, own) = (&plan.expr_arena, &self.form.plan.expr_arena);
        while let AExpr::Cast { expr, .. } = of.get(node) {
            node = *expr;
        }
        let AExpr::Function { input, function: IRFunctionExpr::RowEncode(_, variant), .. } = of.get(node) else {
            return false;
        };
        let RowEncodingVariant::Ordered { descending, nulls_last, .. } = variant else { return false };
        // Categories are encoded as their text.
        let same = |(key, by): (&ExprIR, &ExprIR)| {
            let by = shown(by.node(), own);
            let text = |key| match of.get(key) {
                AExpr::Cast { expr, .. } => shown(*expr, of) == by,
                _ => false,
            };
            shown(key.node(), of) == by || text(key.node())
        };
        let flags = |flags: &Option<Vec<bool>>, of: &[bool]| {
            (0..by.len()).all(|i| {
                let wanted = of.get(i).or(of.first()).copied().unwrap_or_default();
                flags.as_ref().is_some_and(|flags| flags.get(i) == Some(&wanted))
            })
        };
        input.len() == by.len()
            && input.iter().zip(by).all(same)
            && flags(descending, &options.descending)
            && flags(nulls_last, &options.nulls_last)
    }

    fn read(&self, leaf: usize) -> Given {
        let (stages, read) = match self.form.leaves.get(leaf) {
            Some(Leaf::Exchange { stages, read }) => (stages, read),
            Some(Leaf::Source { .. }) | None => return Given::Promised,
        };
        let mut given = Given::Promised;
        for stage in stages.iter().filter_map(|id| self.form.graph.stages.get(id.0 as usize)) {
            match (read, &stage.output, &stage.facts.order) {
                (Read::Partition, Exchange::Range { .. }, _) => return Given::Ranges(stages.clone()),
                (_, _, RowOrder::Tags(_)) => given = Given::Tagged,
                (Read::Partition, ..) => {
                    return Given::Not(format!("rows of stage {} come by the hashes of their keys", stage.id));
                }
                (_, _, RowOrder::None) => return Given::Not(format!("stage {} promises no order", stage.id)),
                (_, _, RowOrder::Any | RowOrder::Promised) => {}
            }
        }
        given
    }
}
