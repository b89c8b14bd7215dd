//! What an exchange's keys were computed from: hidden key columns (computed keys, categories as text) are looked up in the
//! fragment that writes them, so that a reader's own expressions can be compared with them.

use std::collections::BTreeSet;

use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::{AExpr, ArenaExprIter, ExprIRDisplay, IR, IRPlan};
use polars_utils::arena::{Arena, Node};
use polars_utils::pl_str::PlSmallStr;

use crate::properties::expr;
use floe_wire::facts::HIDDEN_PREFIX;
use floe_wire::graph::StageId;

/// A key that rows are partitioned by, as expressions over the present columns which all give it.
#[derive(Clone)]
pub(super) struct Key {
    pub forms: Vec<Node>,
    /// A hidden column of which nothing is found: a user's function, for instance, looks different in each fragment.
    pub unknown: bool,
}

impl Key {
    /// The key `name` of an exchange, as the stages that write it compute it.
    pub fn read(name: &str, stages: &[StageId], plans: &[Option<IRPlan>], arena: &mut Arena<AExpr>) -> Key {
        let mut forms = vec![arena.add(AExpr::Column(PlSmallStr::from_str(name)))];
        let mut written: Option<Node> = None;
        let mut known = name.starts_with(HIDDEN_PREFIX);
        for stage in stages {
            let plan = plans.get(stage.0 as usize).and_then(Option::as_ref);
            let found = plan.and_then(|plan| Some((plan, definition(plan, name)?)));
            match found.map(|(plan, node)| copy(node, &plan.expr_arena, arena)) {
                Some(node) if written.is_none_or(|other| shown(other, arena) == shown(node, arena)) => {
                    written = Some(node);
                }
                Some(_) | None => known = false,
            }
        }
        let first = stages.first().and_then(|stage| plans.get(stage.0 as usize)).and_then(Option::as_ref);
        if let (Some(node), Some(plan), true) = (written, first, known) {
            forms.extend([node, expanded(node, plan, arena)]);
        }
        let unknown = name.starts_with(HIDDEN_PREFIX) && !known;
        Key { forms, unknown }
    }

    /// A plain column.
    pub fn column(name: &str, arena: &mut Arena<AExpr>) -> Key {
        Key { forms: vec![arena.add(AExpr::Column(PlSmallStr::from_str(name)))], unknown: false }
    }

    /// The key after a node that renames columns, or drops them. None: no column shows it any more.
    fn renamed(&self, new_name: &dyn Fn(&str) -> Option<String>, arena: &mut Arena<AExpr>) -> Option<Key> {
        let mut forms = Vec::new();
        for form in &self.forms {
            if columns(*form, arena).iter().all(|name| new_name(name).is_some()) {
                forms.push(expr::rewrite(*form, arena, &mut |at, arena: &mut Arena<AExpr>| match arena.get(at) {
                    AExpr::Column(name) => {
                        let name = new_name(name)?;
                        Some(arena.add(AExpr::Column(PlSmallStr::from_string(name))))
                    }
                    _ => None,
                }));
            }
        }
        (self.unknown || !forms.is_empty()).then_some(Key { forms, unknown: self.unknown })
    }

    /// Whether rows that are equal in all of `wanted` (expressions as they are shown) are equal in this key.
    pub fn follows_from(&self, wanted: &[String], arena: &Arena<AExpr>) -> bool {
        self.unknown || self.forms.iter().any(|form| follows(*form, wanted, arena))
    }

    /// How messages name it.
    pub fn shown(&self, arena: &Arena<AExpr>) -> String {
        self.forms.last().map_or_else(|| "a hidden column".to_owned(), |form| shown(*form, arena))
    }
}

/// All keys after a node that renames or drops columns; none if one is not shown any more.
pub(super) fn renamed(
    keys: &[Key],
    new_name: &dyn Fn(&str) -> Option<String>,
    arena: &mut Arena<AExpr>,
) -> Option<Vec<Key>> {
    keys.iter().map(|key| key.renamed(new_name, arena)).collect()
}

/// Whether the two sides of a join compute their keys alike from what the join compares: `left_on` and `right_on`, pair
/// by pair.
pub(super) fn alike(left: &Key, right: &Key, on: &[(Node, Node)], arena: &mut Arena<AExpr>) -> bool {
    if left.unknown && right.unknown {
        return true;
    }
    let compared = |key: &Key, arena: &Arena<AExpr>, left: bool| {
        let side = |(l, r): &(Node, Node)| shown(if left { *l } else { *r }, arena);
        key.forms.iter().any(|form| on.iter().any(|pair| side(pair) == shown(*form, arena)))
    };
    match (left.unknown, right.unknown) {
        (true, _) => compared(right, arena, false),
        (_, true) => compared(left, arena, true),
        _ => {
            let pairs: Vec<(Node, Node)> =
                left.forms.iter().flat_map(|l| right.forms.iter().map(move |r| (*l, *r))).collect();
            pairs.into_iter().any(|(l, r)| same_over_pairs(l, r, on, arena))
        }
    }
}

fn same_over_pairs(l: Node, r: Node, on: &[(Node, Node)], arena: &mut Arena<AExpr>) -> bool {
    let (left, right) = (shown(l, arena), shown(r, arena));
    if on.iter().any(|(a, b)| shown(*a, arena) == left && shown(*b, arena) == right) {
        return true;
    }
    let (of_left, of_right) = (inputs(l, arena), inputs(r, arena));
    if of_left.is_empty() || of_left.len() != of_right.len() {
        return of_left.is_empty() && of_right.is_empty() && left == right && !expr::has_column(l, arena);
    }
    // The same function, whatever it is applied to.
    let other = arena.get(l).clone().replace_inputs(&of_right);
    let other = arena.add(other);
    shown(other, arena) == right && of_left.iter().zip(&of_right).all(|(a, b)| same_over_pairs(*a, *b, on, arena))
}

fn follows(node: Node, wanted: &[String], arena: &Arena<AExpr>) -> bool {
    if wanted.contains(&shown(node, arena)) {
        return true;
    }
    match arena.get(node) {
        AExpr::Column(_) => false,
        _ => expr::row_wise(node, arena) && inputs(node, arena).iter().all(|input| follows(*input, wanted, arena)),
    }
}

/// The expression of a column that one of the last nodes of a plan adds, over columns that its output still has.
pub(super) fn definition(plan: &IRPlan, name: &str) -> Option<Node> {
    let output = plan.lp_arena.get(plan.lp_top).schema(&plan.lp_arena).into_owned();
    let mut replaced: BTreeSet<PlSmallStr> = BTreeSet::new();
    let mut at = plan.lp_top;
    loop {
        at = match plan.lp_arena.get(at) {
            IR::SimpleProjection { input, .. }
            | IR::Filter { input, .. }
            | IR::Slice { input, .. }
            | IR::Sort { input, .. } => *input,
            IR::HStack { input, exprs, .. } => {
                let found = exprs.iter().find(|e| e.output_name() == name).map(ExprIR::node);
                replaced.extend(exprs.iter().map(|e| e.output_name().clone()));
                if let Some(node) = found {
                    let of = columns(node, &plan.expr_arena);
                    let kept = of.iter().all(|column| output.contains(column) && !replaced.contains(column));
                    return (kept && comparable(node, &plan.expr_arena)).then_some(node);
                }
                *input
            }
            _ => return None,
        };
    }
}

/// Puts the definitions of hidden columns in their place: categories among computed keys are made of another hidden column.
fn expanded(node: Node, plan: &IRPlan, arena: &mut Arena<AExpr>) -> Node {
    expr::rewrite(node, arena, &mut |at, arena: &mut Arena<AExpr>| {
        let AExpr::Column(name) = arena.get(at) else { return None };
        let found = name.starts_with(HIDDEN_PREFIX).then(|| definition(plan, name))??;
        let copied = copy(found, &plan.expr_arena, arena);
        Some(expanded(copied, plan, arena))
    })
}

/// Whether an expression that is decoded twice is shown alike, and differently from others.
fn comparable(node: Node, arena: &Arena<AExpr>) -> bool {
    !arena.iter(node).any(|(_, ae)| {
        unprintable(ae)
            || matches!(
                ae,
                AExpr::AnonymousFunction { .. }
                    | AExpr::AnonymousAgg { .. }
                    | AExpr::Eval { .. }
                    | AExpr::StructEval { .. }
                    | AExpr::StructField(_)
            )
    })
}

/// Copies an expression into another arena.
pub(super) fn copy(node: Node, from: &Arena<AExpr>, to: &mut Arena<AExpr>) -> Node {
    let copied: Vec<Node> = inputs(node, from).iter().map(|input| copy(*input, from, to)).collect();
    to.add(from.get(node).clone().replace_inputs(&copied))
}

pub(super) fn inputs(node: Node, arena: &Arena<AExpr>) -> Vec<Node> {
    let mut inputs = Vec::new();
    arena.get(node).inputs_rev(&mut inputs);
    inputs.reverse();
    inputs
}

/// Polars prints functions by their first input.
fn unprintable(ae: &AExpr) -> bool {
    matches!(ae, AExpr::Function { input, .. } | AExpr::AnonymousFunction { input, .. } if input.is_empty())
}

/// An expression as Polars prints it, by which expressions of different fragments are compared.
pub(super) fn shown(node: Node, arena: &Arena<AExpr>) -> String {
    if arena.iter(node).any(|(_, ae)| unprintable(ae)) {
        return format!("expression {}", node.0);
    }
    ExprIRDisplay::display_node(node, arena).to_string()
}

fn columns(node: Node, arena: &Arena<AExpr>) -> BTreeSet<PlSmallStr> {
    let column = |ae: &AExpr| match ae {
        AExpr::Column(name) => Some(name.clone()),
        _ => None,
    };
    arena.iter(node).filter_map(|(_, ae)| column(ae)).collect()
}
